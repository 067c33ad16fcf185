/* Exact search over planes against comparing everything and sorting: mixed lengths, rows that come
 * and change, and inputs on which early planes decide nothing. */
#include "base/error.h"
#include "platform/platform.h"
#include "scan/planes.h"
#include "support/allocator_fault.h"
#include "support/test_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MOST_ROWS 9000
#define MOST_QUERIES 20

typedef struct table {
    uint8_t *rows;
    nphd_key *keys;
    bool *hidden;
    size_t count;
    uint32_t width; /* of the payload */
    uint32_t prefix_bytes;
    nphdi_scan_match *sorted;
    nphdi_scan_match *found;
} table;

static bool accept(void *context, nphdi_scan_match *match)
{
    table *from = context;

    assert_true(match->slot < from->count);
    match->key = from->keys[match->slot];
    match->variant = 0;
    return !from->hidden[match->slot];
}

static void table_begin(table *to, size_t count, uint32_t width, uint32_t prefix_bytes)
{
    to->count = count;
    to->width = width;
    to->prefix_bytes = prefix_bytes;
    to->rows = calloc(MOST_ROWS, width + prefix_bytes);
    to->keys = calloc(MOST_ROWS, sizeof(*to->keys));
    to->hidden = calloc(MOST_ROWS, sizeof(*to->hidden));
    to->sorted = calloc(MOST_ROWS, sizeof(*to->sorted));
    to->found = calloc(MOST_ROWS, sizeof(*to->found));
    assert_true(to->rows != NULL && to->keys != NULL && to->hidden != NULL);
    assert_true(to->sorted != NULL && to->found != NULL);
}

static void table_end(table *from)
{
    free(from->rows);
    free(from->keys);
    free(from->hidden);
    free(from->sorted);
    free(from->found);
}

static nphdi_rows rows_of(const table *from)
{
    const nphdi_rows rows = {from->rows, from->width + from->prefix_bytes, from->width,
                             from->prefix_bytes};

    return rows;
}

/* A vector that differs from a centre in `flips` places at most. */
static void put_row(table *to, size_t slot, uint32_t length, uint8_t centre, uint32_t flips,
                    test_random *random)
{
    uint8_t *row = to->rows + slot * (to->width + to->prefix_bytes);

    if (to->prefix_bytes != 0) {
        *row++ = (uint8_t)length;
    }
    memset(row, 0, to->width);
    memset(row, centre, length);
    for (uint32_t flip = 0; flip < flips && length > 0; flip++) {
        const uint64_t bit = test_random_below(random, 8 * length);
        row[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
    to->keys[slot].high = test_random_below(random, 3);
    to->keys[slot].low = test_random_below(random, 1000);
    to->hidden[slot] = test_random_below(random, 5) == 0;
}

static void put_random(table *to, size_t slot, test_random *random)
{
    const uint32_t length =
        to->prefix_bytes == 0 ? to->width : (uint32_t)test_random_below(random, to->width + 1);
    const uint32_t flips = test_random_below(random, 10) == 0 ? 3 : 8 * length;

    put_row(to, slot, length, 0x3c, flips, random);
}

/* ---- the same, slowly ---- */

static nphdi_bits bits_of(const table *from, size_t slot, const nphdi_query *query)
{
    const uint8_t *row = from->rows + slot * (from->width + from->prefix_bytes);
    nphdi_bits bits = {0, (uint16_t)query->bytes};

    if (from->prefix_bytes != 0) {
        bits.shared = row[0] < query->bytes ? row[0] : (uint16_t)query->bytes;
        row++;
    }
    for (size_t i = 0; i < bits.shared; i++) {
        for (unsigned x = row[i] ^ query->payload[i]; x != 0; x &= x - 1) {
            bits.differing++;
        }
    }
    return bits;
}

static int compare(const void *left, const void *right)
{
    const nphdi_scan_match *a = left;
    const nphdi_scan_match *b = right;
    const double x = a->bits.shared == 0 ? 0 : a->bits.differing / (8.0 * a->bits.shared);
    const double y = b->bits.shared == 0 ? 0 : b->bits.differing / (8.0 * b->bits.shared);

    if (x < y || x > y) {
        return x < y ? -1 : 1;
    }
    return nphd_key_compare(a->key, b->key);
}

static size_t find_slowly(const table *from, const nphdi_query *query, const float *radius)
{
    size_t count = 0;

    for (size_t i = 0; i < from->count; i++) {
        const nphdi_bits bits = bits_of(from, i, query);
        const float distance =
            from->prefix_bytes == 0 ? (float)bits.differing : nphdi_bits_distance(bits);
        if (!from->hidden[i] && (radius == NULL || distance <= *radius)) {
            from->sorted[count].key = from->keys[i];
            from->sorted[count].bits = bits;
            count++;
        }
    }
    qsort(from->sorted, count, sizeof(*from->sorted), compare);
    return count;
}

/* Keys repeat, so what must agree is distance and key. */
static void check_found(const table *from, const nphdi_query *query, const float *radius,
                        nphdi_scan_best *best)
{
    const size_t all = find_slowly(from, query, radius);
    const size_t expected = all < best->capacity ? all : (size_t)best->capacity;

    nphdi_scan_finish(best);
    assert_int_equal(best->count, expected);
    for (size_t i = 0; i < expected; i++) {
        if (compare(&best->matches[i], &from->sorted[i]) != 0) {
            fail_msg("match %zu of %zu: %u of %u bytes, key %llu; expected %u of %u, key %llu", i,
                     expected, best->matches[i].bits.differing, best->matches[i].bits.shared,
                     (unsigned long long)best->matches[i].key.low, from->sorted[i].bits.differing,
                     from->sorted[i].bits.shared, (unsigned long long)from->sorted[i].key.low);
        }
    }
}

static void scan_all(const nphdi_planes *planes, const nphdi_planes_scan *scan)
{
    for (uint64_t i = 0; i < nphdi_planes_parts(planes); i++) {
        const nphdi_planes_part part = nphdi_planes_part_at(planes, i);
        nphdi_planes_scan_part(scan, &part);
    }
}

/* Several queries in one pass, at every level, for `nearest` matches each. */
static void check_queries(table *from, nphdi_planes *planes, const nphdi_query *queries,
                          size_t count, uint64_t nearest, const float *radius)
{
    const nphdi_kernels *levels[4];
    const size_t level_count = nphdi_kernels_available(levels);
    static nphdi_planes_query prepared[MOST_QUERIES];
    nphdi_scan_best best[MOST_QUERIES];

    assert_true(count * nearest <= MOST_ROWS);
    for (size_t l = 0; l < level_count; l++) {
        const nphdi_planes_scan scan = {levels[l], accept, prepared, count, NULL};

        for (size_t i = 0; i < count; i++) {
            nphdi_scan_begin(&best[i], from->found + i * nearest, nearest);
            if (radius != NULL) {
                nphdi_scan_limit_radius(&best[i], *radius, from->prefix_bytes == 0);
            }
            nphdi_planes_query_set(&prepared[i], &queries[i], &best[i], from);
        }
        scan_all(planes, &scan);
        for (size_t i = 0; i < count; i++) {
            check_found(from, &queries[i], radius, &best[i]);
        }
    }
}

static nphdi_planes *planes_of(const table *from, const nphd_allocator *allocator)
{
    nphd_error err = NPHD_ERROR_INIT;
    nphdi_planes *planes;

    assert_int_equal(nphdi_planes_create(from->width, MOST_ROWS, allocator, &planes, &err),
                     NPHD_OK);
    return planes;
}

static void cover(nphdi_planes *planes, const table *from)
{
    nphd_error err = NPHD_ERROR_INIT;
    const nphdi_rows rows = rows_of(from);

    assert_int_equal(nphdi_planes_cover(planes, &rows, from->count, &err), NPHD_OK);
    assert_int_equal(nphdi_planes_covered(planes), from->count);
}

/* Queries of random lengths, some near to the rows. */
static size_t make_queries(const table *from, test_random *random, nphdi_query *out,
                           uint8_t bytes[MOST_QUERIES][255])
{
    const size_t count = 1 + test_random_below(random, MOST_QUERIES);

    for (size_t i = 0; i < count; i++) {
        out[i].payload = bytes[i];
        out[i].bytes = from->prefix_bytes == 0
                           ? from->width
                           : 1 + (uint32_t)test_random_below(random, from->width);
        test_random_fill(random, bytes[i], 255);
        if (test_random_below(random, 2) == 0) {
            memset(bytes[i], 0x3c, 255);
            bytes[i][0] ^= (uint8_t)test_random_next(random);
        }
    }
    return count;
}

static void check_random_queries(table *from, nphdi_planes *planes, test_random *random)
{
    static uint8_t bytes[MOST_QUERIES][255];
    nphdi_query queries[MOST_QUERIES];
    const size_t count = make_queries(from, random, queries, bytes);
    const float radius =
        (float)test_random_below(random, 60) / 100.0F * (from->prefix_bytes == 0 ? 100.0F : 1.0F);

    check_queries(from, planes, queries, count, 1 + test_random_below(random, 20), NULL);
    check_queries(from, planes, queries, count, 1 + test_random_below(random, 200), &radius);
}

/* ---- tests ---- */

/* Rows come in several steps, some change their vector and length in between. */
static void test_mixed_lengths(void **state)
{
    test_random random = {test_seed()};

    (void)state;
    for (size_t round = 0; round < 10; round++) {
        const uint32_t width = round == 0 ? 255 : 1 + (uint32_t)test_random_below(&random, 255);
        table from;
        table_begin(&from, 0, width, round % 4 == 3 ? 0 : 1);
        const nphdi_rows rows = rows_of(&from);
        nphdi_planes *planes = planes_of(&from, nphdi_allocator_system());

        for (size_t step = 0; step < 3; step++) {
            const size_t changed = from.count == 0 ? 0 : from.count / 3;
            for (size_t i = 0; i < changed; i++) {
                const size_t slot = test_random_below(&random, from.count);
                put_random(&from, slot, &random);
                nphdi_planes_replace(planes, &rows, (uint32_t)slot);
            }
            const size_t more = test_random_below(&random, 1200);
            for (size_t i = 0; i < more; i++) {
                put_random(&from, from.count++, &random);
            }
            cover(planes, &from);
            check_random_queries(&from, planes, &random);
        }
        nphdi_planes_close(planes);
        table_end(&from);
    }
}

/* More than one full chunk, few lengths: those of whole words, of fingerprints. */
static void test_many_of_few_lengths(void **state)
{
    test_random random = {test_seed()};
    table from;

    (void)state;
    table_begin(&from, MOST_ROWS, 32, 1);
    for (size_t i = 0; i < from.count; i++) {
        const uint32_t length = i % 9 == 0 ? 8 * (1 + (uint32_t)(i % 4)) : 32;
        put_row(&from, i, length, 0x3c, i % 500 == 0 ? 20 : 2000, &random);
    }
    nphdi_planes *planes = planes_of(&from, nphdi_allocator_system());
    cover(planes, &from);
    for (size_t i = 0; i < 4; i++) {
        check_random_queries(&from, planes, &random);
    }
    nphdi_planes_close(planes);
    table_end(&from);
}

/* Equal vectors: all distances tie, and the keys decide. Vectors whose first words are the query's:
 * early planes turn nothing down. One far cluster: every block but the last is turned down whole.
 */
static void test_adversarial(void **state)
{
    test_random random = {test_seed()};
    uint8_t bytes[32];
    const nphdi_query query = {bytes, 32};

    (void)state;
    memset(bytes, 0x55, sizeof(bytes));
    for (uint32_t kind = 0; kind < 4; kind++) {
        const float radius = kind == 3 ? 0.05F : 0.9F;
        table from;
        table_begin(&from, 3000, 32, 1);
        for (size_t i = 0; i < from.count; i++) {
            uint8_t *row = from.rows + i * 33;
            put_row(&from, i, 32, kind == 3 ? 0xaa : 0x55, 0, &random);
            if (kind == 1) {
                row[1 + i % 32] ^= 0x80; /* one bit each */
            } else if (kind == 2) {
                test_random_fill(&random, row + 25, 8);
            } else if (kind == 3 && i > 2980) {
                memset(row + 1, 0x55, 32);
            }
        }
        nphdi_planes *planes = planes_of(&from, nphdi_allocator_system());
        cover(planes, &from);
        check_queries(&from, planes, &query, 1, 10, NULL);
        check_queries(&from, planes, &query, 1, 3000, &radius);
        nphdi_planes_close(planes);
        table_end(&from);
    }
}

/* Lengths beyond the payload and bytes behind the length, as a foreign file may hold. */
static void test_foreign_rows(void **state)
{
    test_random random = {test_seed()};
    table from;

    (void)state;
    table_begin(&from, 500, 20, 1);
    test_random_fill(&random, from.rows, from.count * 21);
    for (size_t i = 0; i < from.count; i++) {
        from.keys[i] = nphd_key_u64(i);
    }
    nphdi_planes *planes = planes_of(&from, nphdi_allocator_system());
    cover(planes, &from);
    /* the slow side takes no length beyond the query's, so queries are at most as long as rows */
    for (size_t i = 0; i < 10; i++) {
        check_random_queries(&from, planes, &random);
    }
    nphdi_planes_close(planes);
    table_end(&from);
}

/* What is entered before memory runs out stays, and the next call goes on from there. */
static void test_no_memory(void **state)
{
    test_random random = {test_seed()};
    const uint8_t bytes[40] = {0x3c};
    const nphdi_query query = {bytes, sizeof(bytes)};
    allocator_fault fault;
    uint64_t n = 0;
    table from;

    (void)state;
    table_begin(&from, 4000, 40, 1);
    for (size_t i = 0; i < from.count; i++) {
        put_random(&from, i, &random);
    }
    const nphdi_rows rows = rows_of(&from);
    allocator_fault_init(&fault);
    do {
        nphdi_planes *planes = NULL;

        allocator_fault_arm(&fault, ALLOCATOR_FAULT_ALL, ++n, false);
        if (nphdi_planes_create(40, MOST_ROWS, &fault.table, &planes, NULL) == NPHD_OK) {
            const nphd_status status = nphdi_planes_cover(planes, &rows, from.count, NULL);
            assert_int_equal(status != NPHD_OK, fault.failed != 0);
            assert_int_equal(status != NPHD_OK, nphdi_planes_covered(planes) < from.count);
            cover(planes, &from);
            check_queries(&from, planes, &query, 1, 50, NULL);
        }
        nphdi_planes_close(planes);
        assert_true(allocator_fault_is_clean(&fault));
    } while (fault.failed != 0);
    assert_true(n > 4);
    allocator_fault_destroy(&fault);
    table_end(&from);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mixed_lengths), cmocka_unit_test(test_many_of_few_lengths),
        cmocka_unit_test(test_adversarial),   cmocka_unit_test(test_foreign_rows),
        cmocka_unit_test(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
