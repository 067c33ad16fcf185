/* The heads of bloom filter files: sizes as the reference computes them, and nothing else read. */
#include "base/bytes.h"
#include "formats/isbf_format.h"
#include "support/test_random.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define BOTH_BYTES (NPHDI_ISBF_HEAD_BYTES + NPHDI_ISBF_FILTER_BYTES)

static const nphdi_isbf_head defaults = {350, 10000000, 0.01, 2.0, 3};

/* The chain of the reference's defaults, and then ours. */
static void test_sizes(void **state)
{
    static const nphdi_isbf_filter chain[] = {
        {10000000, 7, 11981328},     {20000000, 8, 27569384},      {40000000, 9, 62352248},
        {80000000, 10, 139131440},   {160000000, 11, 307116776},   {320000000, 12, 671941344},
        {640000000, 13, 1459298296}, {1280000000, 14, 3149427792},
    };
    static const nphdi_isbf_filter small[] = {{100, 7, 120}, {200, 8, 280}, {400, 9, 624}};
    nphdi_isbf_filter filter;

    (void)state;
    assert_true(nphdi_isbf_plan(10000000, 0.01, &filter));
    assert_memory_equal(&filter, &chain[0], sizeof(filter));
    for (uint32_t i = 1; i < sizeof(chain) / sizeof(chain[0]); i++) {
        nphdi_isbf_plan_next(&defaults, i, chain[i - 1].capacity, &filter);
        assert_memory_equal(&filter, &chain[i], sizeof(filter));
    }
    for (uint32_t i = 0; i < sizeof(small) / sizeof(small[0]); i++) {
        assert_true(nphdi_isbf_plan(small[i].capacity, 0.01 / (1 << i), &filter));
        assert_memory_equal(&filter, &small[i], sizeof(filter));
    }
    assert_true(nphdi_isbf_plan(1000, 0.01, &filter));
    assert_int_equal(filter.bit_bytes, 1200);
    assert_true(nphdi_isbf_plan(0xd0000000U, 0.01, &filter));
}

static void test_no_such_filter(void **state)
{
    static const double rates[] = {0.0, -0.01, 1.0, 2.0, (double)INFINITY, (double)NAN};
    static const nphdi_isbf_filter none = {0, 0, 0};
    nphdi_isbf_filter filter;

    (void)state;
    for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
        assert_false(nphdi_isbf_plan(100, rates[i], &filter));
    }
    assert_false(nphdi_isbf_plan(0, 0.01, &filter));
    /* the ninth of the reference, and the first that is one word too large */
    assert_false(nphdi_isbf_plan(2560000000U, 0.01 / 256, &filter));
    assert_memory_equal(&filter, &none, sizeof(filter));
    assert_true(nphdi_isbf_plan(3584718731U, 0.01, &filter));
    assert_int_equal(filter.bit_bytes, 0xfffffff8U);
    assert_false(nphdi_isbf_plan(3584718731U + 1, 0.01, &filter));
}

/* Behind the largest filter come some of the same capacity, then of half of it, without end. */
static void test_chain_never_ends(void **state)
{
    nphdi_isbf_head head = defaults;
    nphdi_isbf_filter filter;
    uint32_t last = 1280000000;

    (void)state;
    nphdi_isbf_plan_next(&head, 8, last, &filter);
    assert_int_equal(filter.capacity, last);
    for (uint32_t i = 8; i < 5000; i++) {
        nphdi_isbf_plan_next(&head, i, last, &filter);
        assert_true(filter.capacity > 0 && filter.hash_count > 0 && filter.bit_bytes >= 8);
        assert_int_equal(filter.bit_bytes % 8, 0);
        assert_true(filter.capacity == last || filter.capacity == last / 2);
        last = filter.capacity;
    }
    head.growth = 1.0;
    nphdi_isbf_plan_next(&head, UINT32_MAX, 1, &filter);
    assert_int_equal(filter.capacity, 1);
    head.growth = 2.9;
    nphdi_isbf_plan_next(&head, 1, 3, &filter);
    assert_int_equal(filter.capacity, 8);
}

/* What the limits promise: the next filter is at most so much larger. */
static void test_next_is_near(void **state)
{
    test_random random = {*(uint64_t *)*state};
    nphdi_isbf_head head = {.growth = NPHDI_ISBF_MAX_GROWTH, .filter_count = 1};
    nphdi_isbf_filter first;
    nphdi_isbf_filter next;

    for (int round = 0; round < 20000; round++) {
        head.initial_capacity =
            (uint32_t)(1 + (test_random_next(&random) >> (32 + round % 32)) / 2);
        head.rate = NPHDI_ISBF_MAX_RATE / (double)(1 + test_random_below(&random, 1000));
        if (!nphdi_isbf_plan(head.initial_capacity, head.rate, &first)) {
            continue;
        }
        nphdi_isbf_plan_next(&head, 1, head.initial_capacity, &next);
        assert_true(next.bit_bytes <= 2 * NPHDI_ISBF_MAX_GROWTH * first.bit_bytes);
    }
}

static void test_bytes(void **state)
{
    static const uint8_t wanted[BOTH_BYTES] = {
        'I',  'S',  'B',  'F',  1,    0x5e, 1,    0,    0,    0,    0,    0, 0, /* count */
        0x80, 0x96, 0x98, 0,                            /* initial capacity */
        0x7b, 0x14, 0xae, 0x47, 0xe1, 0x7a, 0x84, 0x3f, /* rate */
        0,    0,    0,    0,    0,    0,    0,    0x40, /* growth */
        3,    0,    0,    0,                            /* filters */
        0x80, 0x96, 0x98, 0,    7,    0,    0,    0,    0x10, 0xd2, 0xb6, 0,
    };
    uint8_t bytes[BOTH_BYTES];
    nphdi_isbf_head head;
    nphdi_isbf_filter filter;

    (void)state;
    assert_true(nphdi_isbf_plan(10000000, 0.01, &filter));
    nphdi_isbf_encode_head(&defaults, bytes);
    nphdi_isbf_encode_filter(&filter, bytes + NPHDI_ISBF_HEAD_BYTES);
    assert_memory_equal(bytes, wanted, sizeof(wanted));
    assert_int_equal(nphdi_isbf_decode_head("t", bytes, &head, NULL), NPHD_OK);
    assert_int_equal(head.count, 350);
    assert_int_equal(head.initial_capacity, 10000000);
    assert_true(head.rate == 0.01 && head.growth == 2.0);
    assert_int_equal(head.filter_count, 3);
    memset(&filter, 0, sizeof(filter));
    assert_int_equal(
        nphdi_isbf_decode_filter("t", &head, 0, bytes + NPHDI_ISBF_HEAD_BYTES, &filter, NULL),
        NPHD_OK);
    assert_int_equal(filter.bit_bytes, 11981328);
}

static nphd_status decode_changed(nphdi_isbf_head head, size_t at, uint8_t value, nphd_error *err)
{
    uint8_t bytes[NPHDI_ISBF_HEAD_BYTES];
    nphdi_isbf_head read;
    static const nphdi_isbf_head zero;

    nphdi_isbf_encode_head(&head, bytes);
    bytes[at] = value;
    const nphd_status status = nphdi_isbf_decode_head("name", bytes, &read, err);
    if (status != NPHD_OK) {
        assert_true(read.count == zero.count && read.filter_count == 0 && read.rate == 0.0);
        assert_non_null(strstr(err->text, "name: filter"));
    }
    return status;
}

static void test_heads_refused(void **state)
{
    static const double rates[] = {0.0, -0.5, 1.0, (double)INFINITY, (double)NAN, 1e-310};
    static const double growths[] = {0.0, 0.99, -2.0, (double)NAN};
    nphd_error err = NPHD_ERROR_INIT;
    nphdi_isbf_head head = defaults;

    (void)state;
    assert_int_equal(decode_changed(head, 0, 'I', &err), NPHD_OK);
    assert_int_equal(decode_changed(head, 3, 'G', &err), NPHD_CORRUPT);
    assert_int_equal(decode_changed(head, 4, 2, &err), NPHD_UNSUPPORTED);
    assert_non_null(strstr(err.text, "version 2"));
    for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++, head = defaults) {
        head.rate = rates[i];
        assert_int_equal(decode_changed(head, 4, 1, &err), NPHD_CORRUPT);
    }
    for (size_t i = 0; i < sizeof(growths) / sizeof(growths[0]); i++, head = defaults) {
        head.growth = growths[i];
        assert_int_equal(decode_changed(head, 4, 1, &err), NPHD_CORRUPT);
    }
    head.growth = NPHDI_ISBF_MAX_GROWTH * 1.01;
    assert_int_equal(decode_changed(head, 4, 1, &err), NPHD_UNSUPPORTED);
    head = defaults;
    head.rate = NPHDI_ISBF_MAX_RATE;
    assert_int_equal(decode_changed(head, 4, 1, &err), NPHD_OK);
    head.rate = NPHDI_ISBF_MAX_RATE * 1.01;
    assert_int_equal(decode_changed(head, 4, 1, &err), NPHD_UNSUPPORTED);
    head = defaults;
    head.initial_capacity = 0;
    assert_int_equal(decode_changed(head, 4, 1, &err), NPHD_CORRUPT);
    head = defaults;
    head.filter_count = 0;
    assert_int_equal(decode_changed(head, 4, 1, &err), NPHD_CORRUPT);
}

static nphd_status decode_filter(uint32_t number, uint32_t capacity, uint32_t hashes,
                                 uint32_t bit_bytes, nphd_error *err)
{
    const nphdi_isbf_filter filter = {capacity, hashes, bit_bytes};
    nphdi_isbf_filter read;
    uint8_t bytes[NPHDI_ISBF_FILTER_BYTES];

    nphdi_isbf_encode_filter(&filter, bytes);
    const nphd_status status =
        nphdi_isbf_decode_filter("name", &defaults, number, bytes, &read, err);
    if (status != NPHD_OK) {
        assert_int_equal(read.bit_bytes, 0);
        assert_non_null(strstr(err->text, "name: filter"));
    }
    return status;
}

static void test_filters_refused(void **state)
{
    nphd_error err = NPHD_ERROR_INIT;

    (void)state;
    assert_int_equal(decode_filter(0, 10000000, 7, 11981328, &err), NPHD_OK);
    assert_int_equal(decode_filter(1, 20000000, 8, 27569384, &err), NPHD_OK);
    assert_int_equal(decode_filter(0, 20000000, 8, 27569384, &err), NPHD_CORRUPT);
    assert_int_equal(decode_filter(1, 20000000, 7, 27569384, &err), NPHD_CORRUPT);
    assert_int_equal(decode_filter(1, 20000000, 8, 27569376, &err), NPHD_CORRUPT);
    assert_int_equal(decode_filter(1, 20000000, 0, 27569384, &err), NPHD_CORRUPT);
    assert_int_equal(decode_filter(1, 20000001, 8, 27569384 + 64, &err), NPHD_CORRUPT);
    assert_int_equal(decode_filter(1, 20000000, 8, 0, &err), NPHD_CORRUPT);
    assert_int_equal(decode_filter(2, 0, 9, 8, &err), NPHD_CORRUPT);
    assert_int_equal(decode_filter(3, 80000000, 10, 139131440, &err), NPHD_CORRUPT);
    assert_non_null(strstr(err.text, "filter 3"));
}

/* Whatever is accepted says exactly what the bytes say. */
static void test_random_damage(void **state)
{
    test_random random = {*(uint64_t *)*state};
    const nphdi_isbf_head own = {7, 100, 0.01, 2.0, 1};
    uint8_t bytes[NPHDI_ISBF_HEAD_BYTES];
    uint8_t again[NPHDI_ISBF_HEAD_BYTES];
    nphdi_isbf_head head;
    int refused = 0;

    for (int round = 0; round < 20000; round++) {
        nphdi_isbf_encode_head(&own, bytes);
        for (uint64_t changes = 1 + test_random_below(&random, 2); changes > 0; changes--) {
            bytes[test_random_below(&random, sizeof(bytes))] = (uint8_t)test_random_next(&random);
        }
        if (nphdi_isbf_decode_head("t", bytes, &head, NULL) != NPHD_OK) {
            refused++;
            continue;
        }
        nphdi_isbf_encode_head(&head, again);
        assert_memory_equal(bytes, again, sizeof(bytes));
        assert_true(head.rate > 0 && head.rate <= NPHDI_ISBF_MAX_RATE && head.growth >= 1 &&
                    head.growth <= NPHDI_ISBF_MAX_GROWTH && head.initial_capacity > 0);
    }
    assert_in_range(refused, 1000, 19000);
}

int main(void)
{
    uint64_t seed = test_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_no_such_filter),
        cmocka_unit_test(test_chain_never_ends),
        cmocka_unit_test_prestate(test_next_is_near, &seed),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_heads_refused),
        cmocka_unit_test(test_filters_refused),
        cmocka_unit_test_prestate(test_random_damage, &seed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
