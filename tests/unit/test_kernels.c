/* The kernels, level against level, and the public functions on top of them.
 *
 * The portable level is checked against counting bit by bit, every other level of this machine
 * against the portable one. Rows and queries lie between unreadable pages, so that a read outside
 * them ends the test. The sweeps return how often a level was wrong; deliberately wrong levels show
 * that they look. NPHD_TEST_SEED repeats a run. */
#include "base/error.h"
#include "base/hash.h"
#include "kernels/kernels.h"

#include <nphd/vector.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define ARENA_BYTES 65536 /* whole pages of up to 64 KiB */
#define MOST_ROWS 40
#define OFFSETS 64

static const char *const level_names[] = {"portable", "neon", "avx2", "avx512vpopcntdq"};

static uint64_t seed;
static bool quiet; /* while a planted fault is being found */

/* Readable memory with an unreadable page on both sides. */
typedef struct arena {
    uint8_t *mapping;
    size_t page_bytes;
    uint8_t *begin;
    uint8_t *end;
} arena;

static arena arena_open(void)
{
    arena a;

    a.page_bytes = (size_t)sysconf(_SC_PAGESIZE);
    a.mapping =
        mmap(NULL, ARENA_BYTES + 2 * a.page_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(a.mapping, MAP_FAILED);
    a.begin = a.mapping + a.page_bytes;
    a.end = a.begin + ARENA_BYTES;
    assert_int_equal(mprotect(a.begin, ARENA_BYTES, PROT_READ | PROT_WRITE), 0);
    return a;
}

static void arena_close(arena *a)
{
    assert_int_equal(munmap(a->mapping, ARENA_BYTES + 2 * a->page_bytes), 0);
}

/* splitmix64 */
static uint64_t random_next(uint64_t *state)
{
    uint64_t x = *state += 0x9e3779b97f4a7c15U;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
}

static uint32_t random_below(uint64_t *state, uint32_t bound)
{
    return (uint32_t)(random_next(state) % bound);
}

static void random_fill(uint64_t *state, uint8_t *out, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        out[i] = (uint8_t)random_next(state);
    }
}

static size_t wrong(const char *level, const char *what, size_t bytes, size_t place, uint32_t found,
                    uint32_t expected)
{
    if (!quiet) {
        print_error("%s: %s of %zu bytes at %zu: found %u, expected %u; NPHD_TEST_SEED=%llu\n",
                    level, what, bytes, place, found, expected, (unsigned long long)seed);
    }
    return 1;
}

static uint32_t naive_hamming(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    uint32_t differing = 0;

    for (size_t bit = 0; bit < 8 * bytes; bit++) {
        differing += (uint32_t)((a[bit / 8] ^ b[bit / 8]) >> (bit % 8)) & 1U;
    }
    return differing;
}

static nphdi_bits naive_row(const nphdi_query *query, const nphdi_rows *rows, uint64_t slot)
{
    const uint8_t *row = rows->base + slot * rows->stride;
    uint32_t shared = rows->prefix_bytes == 1 ? row[0] : rows->payload_bytes;
    nphdi_bits bits;

    shared = shared < rows->payload_bytes ? shared : rows->payload_bytes;
    shared = shared < query->bytes ? shared : query->bytes;
    bits.shared = (uint16_t)shared;
    bits.differing = (uint16_t)naive_hamming(query->payload, row + rows->prefix_bytes, shared);
    return bits;
}

static void naive_gather(const nphdi_query *query, const nphdi_rows *rows, const uint32_t *slots,
                         size_t count, nphdi_bits *out)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = naive_row(query, rows, slots[i]);
    }
}

static void naive_range(const nphdi_query *query, const nphdi_rows *rows, uint64_t first,
                        size_t count, nphdi_bits *out)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = naive_row(query, rows, first + i);
    }
}

static const nphdi_kernels naive = {"naive", naive_hamming, naive_gather, naive_range, NULL,
                                    NULL,    NULL,          NULL,         1,           1};

/* Every length at every offset, both strings once just after and once just before an unreadable
 * page. */
static size_t sweep_hamming(const nphdi_kernels *level, const nphdi_kernels *reference)
{
    arena left = arena_open();
    arena right = arena_open();
    uint64_t state = seed;
    size_t wrongs = 0;

    random_fill(&state, left.begin, ARENA_BYTES);
    random_fill(&state, right.begin, ARENA_BYTES);
    for (size_t bytes = 0; bytes <= NPHD_MAX_BYTES; bytes++) {
        for (size_t offset = 0; offset < OFFSETS; offset++) {
            size_t other = random_below(&state, OFFSETS);
            const uint8_t *a[2] = {left.begin + offset, left.end - offset - bytes};
            const uint8_t *b[2] = {right.begin + other, right.end - other - bytes};

            for (size_t i = 0; i < 4; i++) {
                uint32_t found = level->hamming(a[i / 2], b[i % 2], bytes);
                uint32_t expected = reference->hamming(a[i / 2], b[i % 2], bytes);

                if (found != expected) {
                    wrongs += wrong(level->name, "hamming", bytes, offset, found, expected);
                }
            }
        }
        /* the extremes: nothing and everything differs */
        memset(left.end - bytes, 0xff, bytes);
        memset(right.end - bytes, 0, bytes);
        if (level->hamming(left.end - bytes, right.end - bytes, bytes) != 8 * bytes) {
            wrongs += wrong(level->name, "hamming", bytes, 0, 0, (uint32_t)(8 * bytes));
        }
        if (level->hamming(left.end - bytes, left.end - bytes, bytes) != 0) {
            wrongs += wrong(level->name, "hamming", bytes, 0, 1, 0);
        }
    }
    arena_close(&left);
    arena_close(&right);
    return wrongs;
}

static size_t compare_bits(const nphdi_kernels *level, const char *what, const nphdi_rows *rows,
                           const nphdi_bits *found, const nphdi_bits *expected, size_t count)
{
    size_t wrongs = 0;

    for (size_t i = 0; i < count; i++) {
        if (found[i].shared != expected[i].shared) {
            wrongs += wrong(level->name, what, rows->payload_bytes, i, found[i].shared,
                            expected[i].shared);
        } else if (found[i].differing != expected[i].differing) {
            wrongs += wrong(level->name, what, rows->payload_bytes, i, found[i].differing,
                            expected[i].differing);
        }
    }
    if (found[count].shared != 0xabab || found[count].differing != 0xabab) {
        wrongs += wrong(level->name, what, rows->payload_bytes, count, found[count].shared, 0xabab);
    }
    return wrongs;
}

/* One query against a few rows, by number and in order. */
static size_t check_rows(const nphdi_kernels *level, const nphdi_kernels *reference,
                         const nphdi_query *query, const nphdi_rows *rows, uint32_t row_count,
                         uint64_t *state)
{
    uint32_t slots[MOST_ROWS];
    nphdi_bits found[MOST_ROWS + 1];
    nphdi_bits expected[MOST_ROWS + 1];
    uint32_t first = random_below(state, row_count + 1);
    size_t count = random_below(state, MOST_ROWS + 1);
    size_t wrongs = 0;

    for (size_t i = 0; i < count; i++) {
        slots[i] = random_below(state, row_count);
    }
    memset(found, 0xab, sizeof(found));
    level->gather(query, rows, slots, count, found);
    reference->gather(query, rows, slots, count, expected);
    wrongs += compare_bits(level, "gather", rows, found, expected, count);

    for (size_t i = 0; i < 2; i++, first = 0) {
        count = row_count - first;
        memset(found, 0xab, sizeof(found));
        level->range(query, rows, first, count, found);
        reference->range(query, rows, first, count, expected);
        wrongs += compare_bits(level, "range", rows, found, expected, count);
    }
    return wrongs;
}

/* Lengths as they should be, and any byte: lengths in a foreign file may be too large. */
static void fill_rows(uint64_t *state, uint8_t *base, const nphdi_rows *rows, uint32_t row_count,
                      size_t area_bytes)
{
    bool hostile = random_below(state, 2) == 0;
    bool full = random_below(state, 3) == 0;

    random_fill(state, base, area_bytes);
    for (uint32_t i = 0; rows->prefix_bytes == 1 && !hostile && i < row_count; i++) {
        uint32_t length = full ? rows->payload_bytes : random_below(state, rows->payload_bytes + 1);
        uint8_t *row = base + i * rows->stride;

        row[0] = (uint8_t)length;
        memset(row + 1 + length, 0, rows->payload_bytes - length);
    }
}

/* Every payload size with both kinds of rows, packed and spread out, at both ends of the memory;
 * queries of every kind of length, just before and just after an unreadable page. */
static size_t sweep_rows(const nphdi_kernels *level, const nphdi_kernels *reference)
{
    arena area = arena_open();
    arena queries = arena_open();
    uint64_t state = seed;
    size_t wrongs = 0;

    random_fill(&state, queries.begin, ARENA_BYTES);
    for (uint32_t payload_bytes = 1; payload_bytes <= NPHD_MAX_BYTES; payload_bytes++) {
        for (uint32_t i = 0; i < 16; i++) {
            uint32_t row_count = 1 + random_below(&state, MOST_ROWS);
            nphdi_rows rows = {NULL, 0, payload_bytes, i % 2};
            nphdi_query query = {NULL,
                                 i < 4 ? payload_bytes : 1 + random_below(&state, payload_bytes)};
            size_t area_bytes = 0;
            uint8_t *base = NULL;

            rows.stride = rows.prefix_bytes + payload_bytes;
            rows.stride += i % 4 < 2 ? 0 : random_below(&state, 64);
            area_bytes = (row_count - 1) * rows.stride + rows.prefix_bytes + payload_bytes;
            base = i % 8 < 4 ? area.end - area_bytes : area.begin;
            rows.base = base;
            fill_rows(&state, base, &rows, row_count, area_bytes);
            query.payload = i < 8 ? queries.end - query.bytes : queries.begin;
            wrongs += check_rows(level, reference, &query, &rows, row_count, &state);
        }
    }
    arena_close(&area);
    arena_close(&queries);
    return wrongs;
}

/* All pairs of a query length and a length byte, for the row shapes with code of their own. */
static size_t sweep_lengths(const nphdi_kernels *level, const nphdi_kernels *reference)
{
    static const uint32_t payloads[] = {1,  3,  4,  7,  8,  12, 15,  16,  20,  24,  31,  32,
                                        33, 48, 63, 64, 65, 96, 127, 128, 129, 192, 193, 255};
    arena area = arena_open();
    arena queries = arena_open();
    uint64_t state = seed;
    size_t wrongs = 0;

    random_fill(&state, queries.begin, ARENA_BYTES);
    random_fill(&state, area.begin, ARENA_BYTES);
    for (size_t p = 0; p < sizeof(payloads) / sizeof(payloads[0]); p++) {
        nphdi_rows rows = {NULL, 1 + payloads[p], payloads[p], 1};
        uint8_t *base = area.end - 9 * rows.stride;

        rows.base = base;
        for (uint32_t length = 0; length < 256; length++) {
            for (size_t i = 0; i < 9; i++) {
                base[i * rows.stride] = (uint8_t)(i % 2 == 0 ? length : random_next(&state));
            }
            for (uint32_t bytes = 1; bytes <= payloads[p]; bytes++) {
                nphdi_query query = {queries.end - bytes, bytes};
                nphdi_bits found[10];
                nphdi_bits expected[10];

                memset(found, 0xab, sizeof(found));
                level->range(&query, &rows, 0, 9, found);
                reference->range(&query, &rows, 0, 9, expected);
                wrongs += compare_bits(level, "range", &rows, found, expected, 9);
            }
        }
    }
    arena_close(&area);
    arena_close(&queries);
    return wrongs;
}

/* Slots whose rows lie beyond 4 GiB from the base: a kernel must not multiply in 32 bits. Only the
 * pages of the rows are ever touched. */
static size_t sweep_far_rows(const nphdi_kernels *level, const nphdi_kernels *reference)
{
    static const nphdi_rows shapes[] = {{NULL, 33, 32, 1}, {NULL, 32, 32, 0}, {NULL, 65, 64, 1}};
    size_t wrongs = 0;

    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
        nphdi_rows rows = shapes[s];
        uint64_t row_count = UINT64_C(5000000000) / rows.stride;
        uint32_t slots[10];
        uint8_t payload[64];
        nphdi_query query = {payload, rows.payload_bytes};
        nphdi_bits found[11];
        nphdi_bits expected[11];
        uint64_t state = seed;
        uint8_t *base = NULL;

        if (sizeof(size_t) < 8) {
            return 0;
        }
        base = mmap(NULL, (size_t)(row_count * rows.stride), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (base == MAP_FAILED) {
            print_message("skipped rows beyond 4 GiB: no address space\n");
            return wrongs;
        }
        rows.base = base;
        random_fill(&state, payload, sizeof(payload));
        for (uint32_t i = 0; i < 10; i++) {
            slots[i] = (uint32_t)row_count - 1 - i;
            random_fill(&state, base + slots[i] * rows.stride, (size_t)rows.stride);
            if (rows.prefix_bytes == 1) {
                base[slots[i] * rows.stride] = (uint8_t)(1 + random_below(&state, 64));
            }
        }
        memset(found, 0xab, sizeof(found));
        level->gather(&query, &rows, slots, 10, found);
        reference->gather(&query, &rows, slots, 10, expected);
        wrongs += compare_bits(level, "gather", &rows, found, expected, 10);
        memset(found, 0xab, sizeof(found));
        level->range(&query, &rows, row_count - 10, 10, found);
        reference->range(&query, &rows, row_count - 10, 10, expected);
        wrongs += compare_bits(level, "range", &rows, found, expected, 10);
        assert_int_equal(munmap(base, (size_t)(row_count * rows.stride)), 0);
    }
    return wrongs;
}

typedef size_t sweep(const nphdi_kernels *level, const nphdi_kernels *reference);

static void check_levels(sweep *run)
{
    const nphdi_kernels *levels[4];
    size_t count = nphdi_kernels_available(levels);

    for (size_t i = 1; i < count; i++) {
        assert_int_equal(run(levels[i], levels[0]), 0);
    }
}

static void test_portable_is_naive(void **unused)
{
    (void)unused;
    assert_int_equal(sweep_hamming(nphdi_kernels_portable(), &naive), 0);
    assert_int_equal(sweep_rows(nphdi_kernels_portable(), &naive), 0);
    assert_int_equal(sweep_far_rows(nphdi_kernels_portable(), &naive), 0);
}

static void test_hamming(void **unused)
{
    (void)unused;
    check_levels(sweep_hamming);
}

static void test_rows(void **unused)
{
    (void)unused;
    check_levels(sweep_rows);
}

static void test_lengths(void **unused)
{
    (void)unused;
    check_levels(sweep_lengths);
}

static void test_far_rows(void **unused)
{
    (void)unused;
    check_levels(sweep_far_rows);
}

/* Wrong in the last bit of a string of 255 bytes. */
static uint32_t faulty_hamming(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    return naive_hamming(a, b, bytes) -
           (bytes == NPHD_MAX_BYTES ? (uint32_t)((a[254] ^ b[254]) & 1) : 0);
}

/* Wrong only where a row is shorter than the query. */
static nphdi_bits faulty_row(const nphdi_query *query, const nphdi_rows *rows, uint64_t slot)
{
    nphdi_bits bits = naive_row(query, rows, slot);

    if (bits.shared > 0 && bits.shared < query->bytes) {
        bits.differing ^= 1;
    }
    return bits;
}

static void faulty_gather(const nphdi_query *query, const nphdi_rows *rows, const uint32_t *slots,
                          size_t count, nphdi_bits *out)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = faulty_row(query, rows, slots[i]);
    }
}

static void faulty_range(const nphdi_query *query, const nphdi_rows *rows, uint64_t first,
                         size_t count, nphdi_bits *out)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = faulty_row(query, rows, first + i);
    }
}

/* Finds rows with numbers of 32 bits. */
static void faulty_range_far(const nphdi_query *query, const nphdi_rows *rows, uint64_t first,
                             size_t count, nphdi_bits *out)
{
    for (size_t i = 0; i < count; i++) {
        nphdi_rows row = *rows;

        row.base += (uint32_t)((first + i) * rows->stride);
        out[i] = naive_row(query, &row, 0);
    }
}

/* Writes one result too many. */
static void faulty_range_end(const nphdi_query *query, const nphdi_rows *rows, uint64_t first,
                             size_t count, nphdi_bits *out)
{
    naive_range(query, rows, first, count, out);
    out[count].shared = 0;
}

static void test_planted_faults_are_found(void **unused)
{
    const nphdi_kernels hamming = {"planted", faulty_hamming, naive_gather, naive_range, NULL,
                                   NULL,      NULL,           NULL,         1,           1};
    const nphdi_kernels gather = {"planted", naive_hamming, faulty_gather, naive_range, NULL,
                                  NULL,      NULL,          NULL,          1,           1};
    const nphdi_kernels range = {
        "planted", naive_hamming, naive_gather, faulty_range, NULL, NULL, NULL, NULL, 1, 1};
    const nphdi_kernels far = {
        "planted", naive_hamming, naive_gather, faulty_range_far, NULL, NULL, NULL, NULL, 1, 1};
    const nphdi_kernels end = {
        "planted", naive_hamming, naive_gather, faulty_range_end, NULL, NULL, NULL, NULL, 1, 1};

    (void)unused;
    quiet = true;
    assert_int_not_equal(sweep_hamming(&hamming, &naive), 0);
    assert_int_not_equal(sweep_rows(&gather, &naive), 0);
    assert_int_not_equal(sweep_rows(&range, &naive), 0);
    assert_int_not_equal(sweep_lengths(&range, &naive), 0);
    assert_int_not_equal(sweep_rows(&end, &naive), 0);
    assert_int_not_equal(sweep_far_rows(&far, &naive), 0);
    quiet = false;
}

/* Exact order of two fractions, by cross-multiplying. */
static int compare_fractions(const void *a, const void *b)
{
    const nphdi_bits *x = a;
    const nphdi_bits *y = b;
    uint32_t left = (uint32_t)x->differing * y->shared;
    uint32_t right = (uint32_t)y->differing * x->shared;

    return left < right ? -1 : left > right;
}

/* The order of the rounded quotients is that of the exact ones, ties included: fractions with
 * denominators up to 2040 lie further apart than floats in [0, 1]. All of them, sorted exactly;
 * neighbours in order put every pair in order. */
static void test_quotient_keeps_order(void **unused)
{
    static nphdi_bits all[NPHD_MAX_BYTES * (NPHD_MAX_BYTES + 1) * 4 + NPHD_MAX_BYTES];
    size_t count = 0;

    (void)unused;
    for (uint32_t shared = 1; shared <= NPHD_MAX_BYTES; shared++) {
        for (uint32_t differing = 0; differing <= 8 * shared; differing++) {
            all[count].differing = (uint16_t)differing;
            all[count++].shared = (uint16_t)shared;
        }
    }
    assert_int_equal(count, sizeof(all) / sizeof(all[0]));
    qsort(all, count, sizeof(all[0]), compare_fractions);
    for (size_t i = 1; i < count; i++) {
        float x = nphdi_bits_distance(all[i - 1]);
        float y = nphdi_bits_distance(all[i]);

        if ((x < y) != (compare_fractions(&all[i - 1], &all[i]) < 0) || x > y) {
            fail_msg("%u/%u and %u/%u: %.9g and %.9g", all[i - 1].differing, 8U * all[i - 1].shared,
                     all[i].differing, 8U * all[i].shared, (double)x, (double)y);
        }
    }
}

static void test_quotient_ends(void **unused)
{
    nphdi_bits nothing = {0, 0};
    nphdi_bits none = {0, 255};
    nphdi_bits all = {2040, 255};
    nphdi_bits third = {8, 3};
    float expected = 1.0F / 3.0F; /* assigned: some processors divide floats more precisely */

    (void)unused;
    assert_true(nphdi_bits_distance(nothing) == 0.0F);
    assert_true(nphdi_bits_distance(none) == 0.0F);
    assert_true(nphdi_bits_distance(all) == 1.0F);
    assert_true(nphdi_bits_distance(third) == expected);
}

/* In a process of its own, as the choice is made once: asks for a level, expects another. */
static void check_choice(const char *wanted, const char *expected)
{
    int status = 0;
    pid_t child = fork();

    assert_true(child >= 0);
    if (child == 0) {
        (void)setenv("NPHD_KERNEL", wanted, 1);
        _exit(strcmp(nphd_kernel_name(), expected) == 0 ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fail_msg("NPHD_KERNEL=%s: expected the level %s", wanted, expected);
    }
}

/* Runs first, before this process has chosen. A level that this machine has not is ignored. */
static void test_dispatch(void **unused)
{
    const nphdi_kernels *levels[4];
    size_t count = nphdi_kernels_available(levels);
    const char *best = levels[count - 1]->name;

    (void)unused;
    assert_in_range(count, 1, 4);
    assert_string_equal(levels[0]->name, "portable");
    check_choice("", best);
    check_choice("AVX2", best);
    for (size_t n = 0; n < sizeof(level_names) / sizeof(level_names[0]); n++) {
        const char *expected = best;

        for (size_t i = 0; i < count; i++) {
            expected = strcmp(level_names[n], levels[i]->name) == 0 ? level_names[n] : expected;
        }
        check_choice(level_names[n], expected);
    }
    assert_ptr_equal(nphdi_kernels_get(), nphdi_kernels_get());
    assert_ptr_equal(nphd_kernel_name(), nphdi_kernels_get()->name);
}

/* Around the lengths at which XXH3 changes its way of going on, and a whole block of a file. */
static void test_checksum(void **unused)
{
    static uint8_t bytes[65536 + 1];
    const nphdi_kernels *levels[4];
    const size_t count = nphdi_kernels_available(levels);

    (void)unused;
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)(i * 131 + (i >> 8));
    }
    for (size_t level = 0; level < count; level++) {
        for (size_t length = 0; length <= 1100; length++) {
            const size_t offset = length % 3;
            if (levels[level]->checksum(bytes + offset, length) !=
                nphdi_hash_bytes(bytes + offset, length)) {
                fail_msg("%s: %zu bytes", levels[level]->name, length);
            }
        }
        for (size_t length = sizeof(bytes) - 70; length <= sizeof(bytes); length++) {
            if (levels[level]->checksum(bytes, length) != nphdi_hash_bytes(bytes, length)) {
                fail_msg("%s: %zu bytes", levels[level]->name, length);
            }
        }
    }
}

static nphd_vector vector(const uint8_t *data, size_t bytes)
{
    nphd_vector v = {data, bytes};

    return v;
}

static void test_distance(void **unused)
{
    static const uint8_t zeros[256] = {0};
    static const uint8_t mixed[2] = {0x00, 0xff};
    nphd_error err = NPHD_ERROR_INIT;
    float out = 7;

    (void)unused;
    assert_int_equal(nphd_distance(vector(zeros, 2), vector(mixed, 2), &out, &err), NPHD_OK);
    assert_true(out == 0.5F);
    /* not a metric: at distance 0 from both, which are 1/2 apart */
    assert_int_equal(nphd_distance(vector(zeros, 1), vector(mixed, 2), &out, NULL), NPHD_OK);
    assert_true(out == 0.0F);
    assert_int_equal(nphd_distance(vector(mixed, 2), vector(zeros, 255), &out, &err), NPHD_OK);
    assert_true(out == 0.5F);
    assert_int_equal(err.status, NPHD_OK);

    assert_int_equal(nphd_distance(vector(zeros, 0), vector(mixed, 2), &out, &err),
                     NPHD_INVALID_ARGUMENT);
    assert_true(out == 0.0F);
    assert_int_equal(err.status, NPHD_INVALID_ARGUMENT);
    assert_string_equal(err.text, "distance: a: 0 bytes, not 1..255");
    out = 7;
    assert_int_equal(nphd_distance(vector(mixed, 2), vector(zeros, 256), &out, &err),
                     NPHD_INVALID_ARGUMENT);
    assert_true(out == 0.0F);
    assert_string_equal(err.text, "distance: b: 256 bytes, not 1..255");
    assert_int_equal(nphd_distance(vector(mixed, 2), vector(NULL, 2), &out, &err),
                     NPHD_INVALID_ARGUMENT);
    assert_string_equal(err.text, "distance: b: data is NULL");
    assert_int_equal(nphd_distance(vector(mixed, 2), vector(mixed, 2), NULL, &err),
                     NPHD_INVALID_ARGUMENT);
    assert_string_equal(err.text, "distance: out is NULL");
    /* a success clears the record */
    assert_int_equal(nphd_distance(vector(mixed, 2), vector(mixed, 2), &out, &err), NPHD_OK);
    assert_int_equal(err.status, NPHD_OK);
    assert_string_equal(err.text, "");
}

static void test_public_hamming(void **unused)
{
    static const uint8_t zeros[256] = {0};
    static const uint8_t mixed[2] = {0x01, 0xff};
    nphd_error err = NPHD_ERROR_INIT;
    uint32_t out = 7;

    (void)unused;
    assert_int_equal(nphd_hamming(vector(zeros, 2), vector(mixed, 2), &out, &err), NPHD_OK);
    assert_int_equal(out, 9);
    assert_int_equal(nphd_hamming(vector(zeros, 1), vector(mixed, 2), &out, &err),
                     NPHD_INVALID_ARGUMENT);
    assert_int_equal(out, 0);
    assert_string_equal(err.text, "hamming: a has 1 bytes, b has 2");
    out = 7;
    assert_int_equal(nphd_hamming(vector(zeros, 256), vector(zeros, 256), &out, NULL),
                     NPHD_INVALID_ARGUMENT);
    assert_int_equal(out, 0);
    out = 7;
    assert_int_equal(nphd_hamming(vector(zeros, 0), vector(zeros, 0), &out, &err),
                     NPHD_INVALID_ARGUMENT);
    assert_int_equal(out, 0);
    assert_int_equal(nphd_hamming(vector(NULL, 2), vector(zeros, 2), &out, &err),
                     NPHD_INVALID_ARGUMENT);
    assert_int_equal(nphd_hamming(vector(zeros, 2), vector(zeros, 2), NULL, &err),
                     NPHD_INVALID_ARGUMENT);
    assert_string_equal(err.text, "hamming: out is NULL");
}

static void test_metric_names(void **unused)
{
    (void)unused;
    assert_string_equal(nphd_metric_name(NPHD_METRIC_NPHD), "nphd");
    assert_string_equal(nphd_metric_name(NPHD_METRIC_HAMMING), "hamming");
    assert_string_equal(nphd_metric_name(NPHD_METRIC_DEFAULT), "unknown");
    assert_string_equal(nphd_metric_name((nphd_metric)3), "unknown");
}

static void test_keys(void **unused)
{
    uint8_t octets[16];
    uint8_t back[16];
    uint64_t state = seed;
    nphd_key previous = {0, 0};
    uint8_t previous_octets[16] = {0};

    (void)unused;
    for (uint8_t i = 0; i < 16; i++) {
        octets[i] = i;
    }
    assert_true(nphd_key_from_octets(octets).high == UINT64_C(0x0001020304050607));
    assert_true(nphd_key_from_octets(octets).low == UINT64_C(0x08090a0b0c0d0e0f));
    for (size_t i = 0; i < 10000; i++) {
        nphd_key key;
        int order = 0;
        int octet_order = 0;

        random_fill(&state, octets, sizeof(octets));
        if (i % 2 == 0) {
            memcpy(octets, previous_octets, 8 + i % 9); /* the low half decides, or nothing */
        }
        key = nphd_key_from_octets(octets);
        nphd_key_to_octets(key, back);
        assert_memory_equal(back, octets, sizeof(octets));
        order = nphd_key_compare(key, previous);
        octet_order = memcmp(octets, previous_octets, sizeof(octets));
        assert_int_equal(order, (octet_order > 0) - (octet_order < 0));
        assert_int_equal(nphd_key_compare(previous, key), -order);
        assert_int_equal(nphd_key_compare(key, key), 0);
        previous = key;
        memcpy(previous_octets, octets, sizeof(octets));
    }
    assert_int_equal(nphd_key_compare(nphd_key_u64(1), nphd_key_u64(2)), -1);
}

static void print_levels(void)
{
    const nphdi_kernels *levels[4];
    size_t count = nphdi_kernels_available(levels);

    for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
        bool found = false;

        for (size_t l = 0; l < count; l++) {
            found = found || strcmp(levels[l]->name, level_names[i]) == 0;
        }
        print_message("kernel level %s: %s\n", level_names[i],
                      found ? "tested" : "skipped, not on this machine");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dispatch),
        cmocka_unit_test(test_checksum),
        cmocka_unit_test(test_portable_is_naive),
        cmocka_unit_test(test_hamming),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_far_rows),
        cmocka_unit_test(test_planted_faults_are_found),
        cmocka_unit_test(test_quotient_keeps_order),
        cmocka_unit_test(test_quotient_ends),
        cmocka_unit_test(test_distance),
        cmocka_unit_test(test_public_hamming),
        cmocka_unit_test(test_metric_names),
        cmocka_unit_test(test_keys),
    };
    const char *replay = getenv("NPHD_TEST_SEED");
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    seed = replay != NULL ? strtoull(replay, NULL, 10)
                          : (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
    print_message("NPHD_TEST_SEED=%llu\n", (unsigned long long)seed);
    print_levels();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
