/* Joins with a limit, and joins whose pairs are asked for: the same pairs in the same order. */
#include "support/join_lab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

enum { EQUAL = 200, PAIRS = EQUAL * (EQUAL - 1) / 2 };

static const joinlab_plan equal = {.kind = JOINLAB_INDEX,
                                   .metric = NPHD_METRIC_NPHD,
                                   .max_bytes = 4,
                                   .key_bits = 64,
                                   .vectors = EQUAL,
                                   .equal = 100,
                                   .only_additions = true};

static void test_limit(void **state)
{
    static const uint64_t limits[] = {1, 2, 1023, 1024, 1025, 4096, PAIRS - 1, PAIRS, PAIRS + 1, 0};
    test_random random = {1};
    joinlab_pairs expected = {NULL, 0, 0, 0, 0};
    joinlab_side side;

    (void)state;
    joinlab_make(&equal, NULL, &random, &side);
    joinlab_expect(&side.side, NULL, 0, &expected);
    assert_int_equal(expected.count, PAIRS);
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        nphd_join_options options = NPHD_JOIN_OPTIONS_INIT;
        joinlab_pairs got = {NULL, 0, 0, 0, 0};
        nphd_join_report report;
        const bool more = limits[i] != 0 && limits[i] < PAIRS;
        options.limit = limits[i];
        options.batch = 1 + (uint32_t)test_random_below(&random, 300);
        OK(nphd_join(&side.side, NULL, 0, &options, joinlab_take, &got, &report, NULL));
        assert_int_equal(got.count, more ? limits[i] : PAIRS);
        assert_int_equal(report.pairs, got.count);
        assert_int_equal(report.more, more);
        assert_true(more ? report.vectors < EQUAL : report.vectors == EQUAL);
        joinlab_compare(&got, &expected, !more);
        joinlab_pairs_free(&got);
    }
    joinlab_pairs_free(&expected);
    joinlab_close(&side);
}

/* All pairs, asked for `capacity` at a time. */
static void ask_all(nphd_pairs *pairs, size_t capacity, joinlab_pairs *out,
                    nphd_join_report *report)
{
    static nphd_pair room[5000];
    size_t count = capacity;

    assert_true(capacity <= sizeof(room) / sizeof(room[0]));
    while (count == capacity) {
        OK(nphd_pairs_next(pairs, room, capacity, &count, report, NULL));
        assert_true(count <= capacity);
        if (count > 0) {
            (void)joinlab_take(out, room, count);
        }
        assert_int_equal(report->pairs, out->count);
    }
    OK(nphd_pairs_next(pairs, room, capacity, &count, report, NULL));
    assert_int_equal(count, 0);
}

static void test_pairs_are_those_of_a_join(void **state)
{
    static const size_t capacities[] = {1, 7, 1000, 5000};
    test_random random = {7};

    (void)state;
    for (int i = 0; i < 60; i++) {
        nphd_join_options options = NPHD_JOIN_OPTIONS_INIT;
        joinlab_plan plan = equal;
        joinlab_pairs expected = {NULL, 0, 0, 0, 0};
        joinlab_pairs got = {NULL, 0, 0, 0, 0};
        joinlab_side left;
        joinlab_side right;
        nphd_pairs *pairs = NULL;
        nphd_join_report report;

        plan.kind = (joinlab_kind)(i % JOINLAB_KINDS);
        plan.multi = i % 3 == 0;
        plan.only_additions = !plan.multi;
        plan.keys = 40;
        plan.vectors = 10 + (size_t)test_random_below(&random, 90);
        plan.equal = (uint32_t)test_random_below(&random, 100);
        plan.near = 100 - plan.equal;
        joinlab_make(&plan, NULL, &random, &left);
        joinlab_make(&plan, NULL, &random, &right);
        options.batch = 1 + (uint32_t)test_random_below(&random, 60);
        options.limit = i % 5 == 4 ? 1 + test_random_below(&random, 50) : 0;
        const nphd_join_side *other = i % 2 == 0 ? NULL : &right.side;
        joinlab_expect(&left.side, other, 0.1F, &expected);
        OK(nphd_pairs_open(&left.side, other, 0.1F, &options, &pairs, NULL));
        ask_all(pairs, capacities[i % 4], &got, &report);
        assert_int_equal(report.more, options.limit != 0 && options.limit < expected.count);
        joinlab_compare(&got, &expected, !report.more);
        nphd_pairs_close(pairs);
        joinlab_pairs_free(&got);
        joinlab_pairs_free(&expected);
        joinlab_close(&left);
        joinlab_close(&right);
    }
}

/* Vectors with so many matches that they are taken in pieces, and the join stands still in one. */
static void test_pairs_in_pieces(void **state)
{
    test_random random = {3};
    joinlab_plan plan = equal;
    nphd_join_options options = NPHD_JOIN_OPTIONS_INIT;
    joinlab_pairs got = {NULL, 0, 0, 0, 0};
    joinlab_side side;
    nphd_pairs *pairs = NULL;
    nphd_join_report report;
    uint64_t place = 0;

    (void)state;
    plan.vectors = 6000;
    joinlab_make(&plan, NULL, &random, &side);
    options.batch = 1; /* room for 4096 matches */
    options.limit = 12000;
    OK(nphd_pairs_open(&side.side, NULL, 0, &options, &pairs, NULL));
    ask_all(pairs, 999, &got, &report);
    assert_int_equal(got.count, 12000);
    assert_true(report.more);
    for (uint64_t left = 0; place < got.count; left++) {
        for (uint64_t right = left + 1; right < 6000 && place < got.count; right++, place++) {
            assert_int_equal(got.pairs[place].left.low - got.pairs[0].left.low, left);
            assert_int_equal(got.pairs[place].right.low - got.pairs[0].left.low, right);
        }
    }
    nphd_pairs_close(pairs);
    joinlab_pairs_free(&got);
    joinlab_close(&side);
}

static int cancel(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    (void)done;
    (void)total;
    return 1;
}

static void test_refused(void **state)
{
    test_random random = {1};
    nphd_join_options options = NPHD_JOIN_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_index_options wide = NPHD_INDEX_OPTIONS_INIT;
    const nphd_join_side none = {NULL, NULL};
    joinlab_side side;
    nphd_pairs *pairs = NULL;
    nphd_index *other = NULL;
    nphd_pair room[10];
    size_t count = 0;

    (void)state;
    joinlab_make(&equal, NULL, &random, &side);
    assert_int_equal(nphd_pairs_open(NULL, NULL, 0, NULL, &pairs, &err), NPHD_INVALID_ARGUMENT);
    assert_int_equal(nphd_pairs_open(&side.side, NULL, 0, NULL, NULL, &err), NPHD_INVALID_ARGUMENT);
    assert_int_equal(nphd_pairs_open(&none, NULL, 0, NULL, &pairs, &err), NPHD_INVALID_ARGUMENT);
    assert_int_equal(nphd_pairs_open(&side.side, NULL, -1, NULL, &pairs, &err),
                     NPHD_INVALID_ARGUMENT);
    assert_null(pairs);
    nphd_pairs_close(NULL);

    OK(nphd_pairs_open(&side.side, NULL, 0, NULL, &pairs, NULL));
    assert_int_equal(nphd_pairs_next(pairs, room, 0, &count, NULL, &err), NPHD_INVALID_ARGUMENT);
    OK(nphd_pairs_next(pairs, room, 10, &count, NULL, NULL));
    assert_int_equal(count, 10);
    nphd_pairs_close(pairs);

    /* cancelled between two lookups: what follows is not given as if nothing had been left out */
    options.batch = 10;
    options.progress = cancel;
    OK(nphd_pairs_open(&side.side, NULL, 0, &options, &pairs, NULL));
    do {
        count = 0;
    } while (nphd_pairs_next(pairs, room, 10, &count, NULL, &err) == NPHD_OK && count > 0);
    assert_non_null(strstr(err.text, "cancelled"));
    assert_int_equal(nphd_pairs_next(pairs, room, 10, &count, NULL, &err), NPHD_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "ended with an error"));
    nphd_pairs_close(pairs);

    /* loaded anew with wider vectors, for which there is no room */
    wide.max_bits = 8 * 200;
    OK(nphd_index_create(&wide, &other, NULL));
    static uint8_t file[100000];
    size_t bytes = 0;
    OK(nphd_index_save_buffer(other, file, sizeof(file), &bytes, NULL));
    OK(nphd_pairs_open(&side.side, NULL, 0, NULL, &pairs, NULL));
    OK(nphd_index_load_buffer(side.side.index, file, bytes, NULL, NULL));
    assert_int_equal(nphd_pairs_next(pairs, room, 10, &count, NULL, &err), NPHD_INVALID_ARGUMENT);
    nphd_pairs_close(pairs);
    nphd_index_close(other);
    joinlab_close(&side);
}

static void test_memory_faults(void **state)
{
    test_random random = {1};
    joinlab_plan plan = equal;
    allocator_fault fault;
    joinlab_side side;

    (void)state;
    allocator_fault_init(&fault);
    plan.kind = JOINLAB_SHARDED;
    joinlab_make(&plan, &fault.table, &random, &side);
    for (uint64_t n = 1; n == 1 || fault.failed > 0; n++) {
        nphd_pairs *pairs = NULL;
        nphd_pair room[10];
        size_t count = 0;
        allocator_fault_arm(&fault, ALLOCATOR_FAULT_ALL, n, false);
        nphd_status status = nphd_pairs_open(&side.side, NULL, 0, NULL, &pairs, NULL);
        assert_int_equal(pairs == NULL, status != NPHD_OK);
        if (status == NPHD_OK) {
            status = nphd_pairs_next(pairs, room, 10, &count, NULL, NULL);
        }
        assert_true(status == NPHD_OK || (status == NPHD_OUT_OF_MEMORY && fault.failed > 0));
        nphd_pairs_close(pairs);
    }
    allocator_fault_arm(&fault, 0, 0, false);
    joinlab_close(&side);
    assert_true(allocator_fault_is_clean(&fault));
    allocator_fault_destroy(&fault);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limit),           cmocka_unit_test(test_pairs_are_those_of_a_join),
        cmocka_unit_test(test_pairs_in_pieces), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_memory_faults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
