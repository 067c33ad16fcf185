/* Joins against the comparison of each vector with each: sides of every kind, content of every
 * shape, batches that must be cut, and every number of threads giving the same pairs in the same
 * order. NPHD_TEST_SEED replays a run, NPHD_TEST_SCALE=small shortens it. */
#include "support/join_lab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

static uint32_t rounds(uint32_t full)
{
    const char *scale = getenv("NPHD_TEST_SCALE");

    return scale != NULL && strcmp(scale, "small") == 0 ? full / 10 + 1 : full;
}

static joinlab_plan random_plan(test_random *random)
{
    static const uint32_t widths[] = {1, 2, 8, 32, 33, 255};
    joinlab_plan plan;

    memset(&plan, 0, sizeof(plan));
    plan.kind = (joinlab_kind)test_random_below(random, JOINLAB_KINDS);
    plan.metric = test_random_below(random, 3) == 0 ? NPHD_METRIC_HAMMING : NPHD_METRIC_NPHD;
    plan.max_bytes = widths[test_random_below(random, sizeof(widths) / sizeof(widths[0]))];
    plan.key_bits = test_random_below(random, 2) == 0 ? 64 : 128;
    plan.multi = test_random_below(random, 2) == 0;
    plan.vectors = (size_t)test_random_below(random, 160);
    plan.keys = 1 + test_random_below(random, 200);
    plan.equal = (uint32_t)test_random_below(random, 50);
    plan.near = (uint32_t)test_random_below(random, 50);
    return plan;
}

static float random_radius(test_random *random, const joinlab_plan *plan)
{
    static const float shares[] = {0, 0.03F, 0.1F, 0.25F, 0.5F, 1};
    const float share = shares[test_random_below(random, sizeof(shares) / sizeof(shares[0]))];

    return plan->metric == NPHD_METRIC_HAMMING ? share * 8 * (float)plan->max_bytes : share;
}

/* One join for each number of threads. */
static void check_join(const nphd_join_side *left, const nphd_join_side *right, float radius,
                       uint32_t batch)
{
    joinlab_pairs expected = {NULL, 0, 0, 0, 0};
    const uint64_t size =
        left->sharded != NULL ? nphd_sharded_size(left->sharded) : nphd_index_size(left->index);

    joinlab_expect(left, right, radius, &expected);
    for (uint32_t threads = 0; threads <= 4; threads++) {
        nphd_join_options options = NPHD_JOIN_OPTIONS_INIT;
        nphd_join_report report;
        joinlab_pairs got = {NULL, 0, 0, 0, 0};

        options.threads = threads;
        options.batch = batch;
        OK(nphd_join(left, right, radius, &options, joinlab_take, &got, &report, NULL));
        joinlab_compare(&got, &expected, true);
        assert_int_equal(report.pairs, expected.count);
        assert_int_equal(report.vectors, size);
        assert_false(report.more);
        joinlab_pairs_free(&got);
    }
    joinlab_pairs_free(&expected);
}

static void test_random_joins(void **state)
{
    static const uint32_t batches[] = {0, 1, 2, 7, 64};
    test_random random = {test_seed()};

    (void)state;
    for (uint32_t round = 0; round < rounds(120); round++) {
        joinlab_plan plan = random_plan(&random);
        joinlab_side left;
        joinlab_side right;
        const float radius = random_radius(&random, &plan);
        const uint32_t batch =
            batches[test_random_below(&random, sizeof(batches) / sizeof(batches[0]))];

        joinlab_make(&plan, NULL, &random, &left);
        plan.kind = (joinlab_kind)test_random_below(&random, JOINLAB_KINDS);
        plan.multi = test_random_below(&random, 2) == 0;
        joinlab_make(&plan, NULL, &random, &right);
        check_join(&left.side, NULL, radius, batch);
        check_join(&left.side, &right.side, radius, batch);
        check_join(&right.side, &left.side, radius, batch);
        check_join(&left.side, &left.side, radius, batch);
        joinlab_close(&left);
        joinlab_close(&right);
    }
}

/* All pairs are within the radius: more than a batch has room for. */
static void test_all_equal(void **state)
{
    test_random random = {test_seed()};
    joinlab_plan plan = {JOINLAB_INDEX, NPHD_METRIC_NPHD, 8, 64, false, 300, 0, 100, 0, true};
    joinlab_side side;

    (void)state;
    for (unsigned kind = 0; kind < JOINLAB_KINDS; kind++) {
        plan.kind = (joinlab_kind)kind;
        plan.only_additions = true;
        joinlab_make(&plan, NULL, &random, &side);
        check_join(&side.side, NULL, 0, 100);
        check_join(&side.side, &side.side, 0, 100);
        joinlab_close(&side);
    }
    plan.multi = true;
    plan.only_additions = false;
    for (plan.keys = 1; plan.keys < 4; plan.keys++) {
        plan.kind = JOINLAB_SHARDED;
        joinlab_make(&plan, NULL, &random, &side);
        check_join(&side.side, NULL, 0, 100);
        joinlab_close(&side);
    }
}

/* One vector has more matches than there is room for: they come in pieces, also where the end of a
 * piece lies among matches that are equal in distance and key. */
static void test_pieces(void **state)
{
    test_random random = {test_seed()};
    joinlab_plan few = {JOINLAB_INDEX, NPHD_METRIC_NPHD, 2, 64, false, 3, 0, 0, 0, true};
    joinlab_plan many = {JOINLAB_INDEX, NPHD_METRIC_NPHD, 2, 64, true, 9000, 5, 20, 30, false};
    joinlab_side left;
    joinlab_side right;

    (void)state;
    joinlab_make(&few, NULL, &random, &left);
    many.kind = JOINLAB_SHARDED; /* in which the keys of a multi index stay */
    for (uint32_t round = 0; round < 3; round++) {
        many.only_additions = round == 0;
        many.multi = round > 0;
        if (round == 2) { /* whole pieces of one distance and key */
            many.keys = 1;
            many.equal = 100;
        }
        joinlab_make(&many, NULL, &random, &right);
        check_join(&left.side, &right.side, 1, 1);
        check_join(&left.side, &right.side, 0.3F, 2);
        joinlab_close(&right);
    }
    joinlab_close(&left);
}

/* The same in a self-join of a multi index whose pairs have one key. */
static void test_pieces_of_one_key(void **state)
{
    test_random random = {test_seed()};
    joinlab_plan plan = {JOINLAB_SHARDED, NPHD_METRIC_NPHD, 1, 64, true, 4200, 1, 50, 0, false};
    nphd_join_options options = NPHD_JOIN_OPTIONS_INIT;
    nphd_join_report report;
    joinlab_pairs expected = {NULL, 0, 0, 0, 0};
    joinlab_pairs got = {NULL, 0, 0, 0, 5};
    joinlab_side side;

    (void)state;
    joinlab_make(&plan, NULL, &random, &side);
    joinlab_expect(&side.side, NULL, 1, &expected);
    options.batch = 1;
    OK(nphd_join(&side.side, NULL, 1, &options, joinlab_take, &got, &report, NULL));
    assert_true(report.more);
    assert_true(got.count > 4096);
    joinlab_compare(&got, &expected, false);
    joinlab_pairs_free(&got);
    joinlab_pairs_free(&expected);
    joinlab_close(&side);
}

static void test_nothing(void **state)
{
    test_random random = {test_seed()};
    joinlab_plan plan = {JOINLAB_INDEX, NPHD_METRIC_HAMMING, 32, 64, false, 200, 0, 0, 0, true};
    joinlab_plan none = plan;
    joinlab_side side;
    joinlab_side empty;

    (void)state;
    none.vectors = 0;
    joinlab_make(&plan, NULL, &random, &side);
    for (unsigned kind = 0; kind < JOINLAB_KINDS; kind++) {
        none.kind = (joinlab_kind)kind;
        joinlab_make(&none, NULL, &random, &empty);
        check_join(&empty.side, NULL, 256, 0);
        check_join(&side.side, &empty.side, 256, 0);
        check_join(&empty.side, &side.side, 256, 0);
        joinlab_close(&empty);
    }
    check_join(&side.side, NULL, 20, 0);
    joinlab_close(&side);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_joins),
        cmocka_unit_test(test_all_equal),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_nothing),
        cmocka_unit_test(test_pieces_of_one_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
