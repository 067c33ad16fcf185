/* Exact search over rows against comparing everything and sorting. */
#include "scan/scan.h"
#include "support/test_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define MOST_ROWS 2500
#define WIDTH 12

typedef struct table {
    uint8_t rows[MOST_ROWS][1 + WIDTH];
    nphd_key keys[MOST_ROWS];
    bool hidden[MOST_ROWS];
    size_t count;
    uint32_t prefix_bytes;
    size_t asked; /* rows that accept was asked about */
} table;

static bool accept(void *context, nphdi_scan_match *match)
{
    table *from = context;

    from->asked++;
    match->key = from->keys[match->slot];
    match->variant = 0;
    return !from->hidden[match->slot];
}

static void table_fill(table *to, test_random *random, bool hamming)
{
    memset(to, 0, sizeof(*to));
    to->count = test_random_below(random, MOST_ROWS + 1);
    to->prefix_bytes = hamming ? 0 : 1;
    for (size_t i = 0; i < to->count; i++) {
        uint8_t *row = to->rows[i];
        size_t bytes = WIDTH;
        if (!hamming) {
            bytes = test_random_below(random, WIDTH + 1); /* 0: a row without payload */
            *row++ = (uint8_t)bytes;
        }
        memset(row, 0x0f, bytes); /* few differing bits, many ties */
        for (uint64_t flips = test_random_below(random, 5); bytes > 0 && flips > 0; flips--) {
            const uint64_t bit = test_random_below(random, 8 * bytes);
            row[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        }
        to->keys[i].high = test_random_below(random, 3);
        to->keys[i].low = test_random_below(random, 500);
        to->hidden[i] = test_random_below(random, 5) == 0;
    }
}

static nphdi_scan_target target_of(table *from, const uint8_t *query, uint32_t query_bytes,
                                   const nphdi_kernels *kernels)
{
    const nphdi_scan_target target = {{query, query_bytes},
                                      {from->rows[0], 1 + WIDTH, WIDTH, from->prefix_bytes},
                                      kernels,
                                      accept,
                                      from};

    return target;
}

/* ---- the same, slowly ---- */

static nphdi_bits bits_of(const table *from, size_t slot, const uint8_t *query,
                          uint32_t query_bytes)
{
    const uint8_t *row = from->rows[slot];
    nphdi_bits bits = {0, (uint16_t)query_bytes};

    if (from->prefix_bytes != 0) {
        bits.shared = row[0] < query_bytes ? row[0] : (uint16_t)query_bytes;
        row++;
    }
    for (size_t i = 0; i < 8U * bits.shared; i++) {
        bits.differing =
            (uint16_t)(bits.differing + ((unsigned)(row[i / 8] ^ query[i / 8]) >> (i % 8) & 1U));
    }
    return bits;
}

static int compare(const void *left, const void *right)
{
    const nphdi_scan_match *a = left;
    const nphdi_scan_match *b = right;
    /* fractions with these denominators are further apart than doubles are fine */
    const double x = a->bits.shared == 0 ? 0 : a->bits.differing / (8.0 * a->bits.shared);
    const double y = b->bits.shared == 0 ? 0 : b->bits.differing / (8.0 * b->bits.shared);

    if (x < y || x > y) {
        return x < y ? -1 : 1;
    }
    return nphd_key_compare(a->key, b->key);
}

static size_t find_all(const table *from, const uint8_t *query, uint32_t query_bytes,
                       const float *radius, nphdi_scan_match *out)
{
    size_t count = 0;

    for (size_t i = 0; i < from->count; i++) {
        const nphdi_bits bits = bits_of(from, i, query, query_bytes);
        const float distance =
            from->prefix_bytes == 0 ? (float)bits.differing : nphdi_bits_distance(bits);
        if (!from->hidden[i] && (radius == NULL || distance <= *radius)) {
            out[count].key = from->keys[i];
            out[count].bits = bits;
            out[count].slot = (uint32_t)i;
            count++;
        }
    }
    qsort(out, count, sizeof(*out), compare);
    return count;
}

/* Keys repeat, so what must agree is distance and key, not the slot. */
static void check_same(const nphdi_scan_best *best, const nphdi_scan_match *right, size_t count)
{
    assert_int_equal(best->count, count < best->capacity ? count : best->capacity);
    for (size_t i = 0; i < best->count; i++) {
        if (compare(&best->matches[i], &right[i]) != 0) {
            fail_msg("match %zu: %u/%u, key %llu:%llu; right is %u/%u, key %llu:%llu", i,
                     best->matches[i].bits.differing, best->matches[i].bits.shared,
                     (unsigned long long)best->matches[i].key.high,
                     (unsigned long long)best->matches[i].key.low, right[i].bits.differing,
                     right[i].bits.shared, (unsigned long long)right[i].key.high,
                     (unsigned long long)right[i].key.low);
        }
    }
}

static void run(test_random *random, bool hamming, const nphdi_kernels *kernels)
{
    static table from;
    static nphdi_scan_match matches[2][MOST_ROWS];
    static nphdi_scan_match right[MOST_ROWS];
    uint8_t query[WIDTH];
    nphdi_scan_best best;
    nphdi_scan_best other;
    const uint64_t capacities[] = {1, 2, 10, 100, MOST_ROWS};
    float radius;

    table_fill(&from, random, hamming);
    const uint32_t query_bytes = hamming ? WIDTH : 1 + (uint32_t)test_random_below(random, WIDTH);
    const uint64_t capacity = capacities[test_random_below(random, 5)];
    const bool use_radius = test_random_below(random, 2) == 0;
    const nphdi_scan_target target = target_of(&from, query, query_bytes, kernels);

    memset(query, 0x0f, sizeof(query));
    query[0] ^= (uint8_t)test_random_below(random, 256);
    radius = hamming ? (float)test_random_below(random, 30)
                     : (float)test_random_below(random, 20) /
                           (float)(8 * (1 + test_random_below(random, WIDTH)));
    const size_t count = find_all(&from, query, query_bytes, use_radius ? &radius : NULL, right);

    nphdi_scan_begin(&best, matches[0], capacity);
    nphdi_scan_begin(&other, matches[1], capacity);
    if (use_radius) {
        nphdi_scan_limit_radius(&best, radius, hamming);
        nphdi_scan_limit_radius(&other, radius, hamming);
    }
    /* in two parts, by two heaps, as two threads do */
    const uint64_t half = test_random_below(random, from.count + 1);
    nphdi_scan_rows(&target, 0, half, &best);
    nphdi_scan_rows(&target, half, from.count - half, &other);
    nphdi_scan_merge(&best, &other);
    nphdi_scan_finish(&best);
    check_same(&best, right, count);
}

/* ---- a sink ---- */

typedef struct bin {
    const nphdi_scan_match *right;
    size_t right_count;
    size_t taken;
    size_t enough;
} bin;

static bool take(void *context, const nphdi_scan_match *match)
{
    bin *to = context;
    size_t place = 0;

    assert_true(to->taken < to->enough);
    while (place < to->right_count && to->right[place].slot != match->slot) {
        place++;
    }
    assert_true(place < to->right_count);
    assert_int_equal(compare(&to->right[place], match), 0);
    return ++to->taken < to->enough;
}

/* All within the radius, each once; or so many and no more. */
static void test_sink(void **state)
{
    static nphdi_scan_match right[MOST_ROWS];
    static table from;
    test_random random = {*(uint64_t *)*state};
    uint8_t query[WIDTH];
    const float radius = 0.1F;
    nphdi_scan_best best;

    table_fill(&from, &random, false);
    memset(query, 0x0f, sizeof(query));
    const nphdi_scan_target target = target_of(&from, query, WIDTH, nphdi_kernels_portable());
    const size_t count = find_all(&from, query, WIDTH, &radius, right);

    for (size_t enough = 1; enough <= count + 1; enough += 1 + count / 7) {
        for (int any = 0; any < 2; any++) {
            bin to = {right, count, 0, enough};
            const size_t expected = any != 0 && count > 0 ? 1 : enough < count ? enough : count;
            nphdi_scan_begin_sink(&best, take, &to);
            nphdi_scan_limit_radius(&best, radius, false);
            best.any = any != 0;
            nphdi_scan_rows(&target, 0, from.count, &best);
            assert_int_equal(to.taken, expected);
            assert_int_equal(best.ended, expected == enough || (any != 0 && expected > 0));
        }
    }
}

static void test_against_sorting(void **state)
{
    test_random random = {*(uint64_t *)*state};
    const nphdi_kernels *levels[4];
    const size_t level_count = nphdi_kernels_available(levels);

    for (size_t level = 0; level < level_count; level++) {
        for (int i = 0; i < 60; i++) {
            run(&random, i % 3 == 0, levels[level]);
        }
    }
}

static nphdi_scan_match match_of(uint16_t differing, uint16_t shared, uint64_t key)
{
    const nphdi_scan_match match = {{0, key}, {differing, shared}, 0, 0};

    return match;
}

static void test_order(void **state)
{
    const nphdi_scan_match half = match_of(8, 2, 5);
    const nphdi_scan_match same_half = match_of(4, 1, 5);
    const nphdi_scan_match later = match_of(4, 1, 6);
    const nphdi_scan_match nothing = match_of(0, 0, 7);
    const nphdi_scan_match zero = match_of(0, 255, 7);
    const nphdi_scan_match most = match_of(2040, 255, 0);
    const nphdi_scan_match near_most = match_of(2039, 255, 0);

    (void)state;
    assert_int_equal(nphdi_scan_compare(&half, &same_half), 0);
    assert_true(nphdi_scan_compare(&half, &later) < 0);
    assert_true(nphdi_scan_compare(&later, &half) > 0);
    assert_int_equal(nphdi_scan_compare(&nothing, &zero), 0);
    assert_true(nphdi_scan_compare(&nothing, &half) < 0);
    assert_true(nphdi_scan_compare(&near_most, &most) < 0);
    assert_true(nphdi_scan_compare(&half, &near_most) < 0);
}

/* For every number of shared bytes and every fraction of bits as the radius: the largest number of
 * differing bits whose distance is not above it, and no other. */
static void test_radius_limits(void **state)
{
    static nphdi_scan_match matches[1];
    nphdi_scan_best best;

    (void)state;
    for (uint32_t bytes = 1; bytes < 256; bytes += bytes < 40 ? 1 : 36) {
        for (uint32_t bits = 0; bits <= 8 * bytes; bits += bytes < 40 ? 1 : 7) {
            const float radius = (float)bits / (float)(8 * bytes);
            nphdi_scan_begin(&best, matches, 1);
            nphdi_scan_limit_radius(&best, radius, false);
            assert_int_equal(best.limit[bytes], bits);
            for (uint16_t shared = 1; shared < 256; shared++) {
                nphdi_bits at = {best.limit[shared], shared};
                assert_true(nphdi_bits_distance(at) <= radius);
                at.differing++;
                assert_true(at.differing > 8 * shared || nphdi_bits_distance(at) > radius);
            }
        }
    }
    for (uint32_t bits = 0; bits <= 2040; bits += 5) {
        nphdi_scan_begin(&best, matches, 1);
        nphdi_scan_limit_radius(&best, (float)bits + 0.5F, true);
        assert_int_equal(best.limit[255], bits);
        assert_int_equal(best.limit[1], bits < 8 ? bits : 8);
    }
    nphdi_scan_begin(&best, matches, 1);
    nphdi_scan_limit_radius(&best, 3e38F, false);
    assert_int_equal(best.limit[255], 2040);
}

/* Rows that cannot be answers are decided by their bits alone. */
static void test_few_rows_are_asked_about(void **state)
{
    static table from;
    static nphdi_scan_match matches[1];
    uint8_t query[WIDTH];
    nphdi_scan_best best;

    (void)state;
    memset(&from, 0, sizeof(from));
    memset(query, 0, sizeof(query));
    from.count = MOST_ROWS;
    for (size_t i = 0; i < from.count; i++) {
        memset(from.rows[i], i == 3 ? 0 : 0xff, WIDTH);
        from.keys[i] = nphd_key_u64(i);
    }
    const nphdi_scan_target target = target_of(&from, query, WIDTH, nphdi_kernels_portable());
    nphdi_scan_begin(&best, matches, 1);
    nphdi_scan_rows(&target, 0, from.count, &best);
    nphdi_scan_finish(&best);
    assert_int_equal(best.count, 1);
    assert_int_equal(best.matches[0].slot, 3);
    assert_int_equal(from.asked, 4);
}

int main(void)
{
    uint64_t seed = test_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_against_sorting, &seed),
        cmocka_unit_test_prestate(test_sink, &seed),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_radius_limits),
        cmocka_unit_test(test_few_rows_are_asked_about),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
