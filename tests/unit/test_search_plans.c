/* The same question by scanning, by tables and as the planner likes it: one answer. After changes
 * of rows that the tables do not know, in memory, in a view, in a view without tables, and in
 * shards; on clusters, equal vectors and mixed lengths. And what the planner says of itself. */
#include <nphd/nphd.h>

#include "support/test_random.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { VECTORS = 20000, BYTES = 32, MOST = 300, QUERIES = 12 };

static uint64_t seed;

static bool is_small(void)
{
    const char *scale = getenv("NPHD_TEST_SCALE");

    return scale != NULL && strcmp(scale, "small") == 0;
}

typedef struct answer {
    nphd_match matches[MOST];
    nphd_search_report report;
} answer;

/* Clusters of near vectors around every number below 500, of mixed length. */
static nphd_vector vector_of(uint64_t number, uint64_t version, bool mixed, uint8_t *room)
{
    test_random centre = {number % 500 * 7919 + 1};
    test_random noise = {number * 31 + version * 1000003 + 5};
    const uint32_t bytes = mixed ? 1 + (uint32_t)test_random_below(&noise, BYTES) : BYTES;

    for (uint32_t i = 0; i < BYTES; i++) {
        room[i] = (uint8_t)test_random_next(&centre);
    }
    for (uint64_t flips = test_random_below(&noise, 30); flips > 0; flips--) {
        const uint64_t bit = test_random_below(&noise, 8 * BYTES);
        room[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
    const nphd_vector vector = {room, mixed && bytes % 3 != 0 ? (bytes + 7) / 8 * 8 : bytes};
    return vector;
}

typedef nphd_status (*search_call)(void *index, nphd_vector query, size_t capacity,
                                   const nphd_search_options *options, nphd_match *out,
                                   nphd_search_report *report, nphd_error *err);

static nphd_status search_index(void *index, nphd_vector query, size_t capacity,
                                const nphd_search_options *options, nphd_match *out,
                                nphd_search_report *report, nphd_error *err)
{
    return nphd_index_search(index, query, capacity, options, out, report, err);
}

static void ask(search_call call, void *index, nphd_vector query, size_t capacity,
                const nphd_search_options *options, nphd_search_plan plan, answer *out)
{
    nphd_search_options mine = *options;
    nphd_error err = NPHD_ERROR_INIT;

    mine.plan = plan;
    memset(out, 0, sizeof(*out));
    if (call(index, query, capacity, &mine, out->matches, &out->report, &err) != NPHD_OK) {
        fail_msg("%s", err.text);
    }
}

static void same_answer(const answer *a, const answer *b)
{
    assert_int_equal(a->report.count, b->report.count);
    assert_int_equal(a->report.more, b->report.more);
    for (size_t i = 0; i < a->report.count; i++) {
        assert_int_equal(a->matches[i].key.low, b->matches[i].key.low);
        assert_true(a->matches[i].distance == b->matches[i].distance);
    }
}

/* *out_tables: how often the tables were really used. */
static void check_plans(search_call call, void *index, bool mixed, float most, uint64_t *out_tables)
{
    static answer scanned;
    static answer looked_up;
    static answer planned;
    test_random random = {seed};

    for (int i = 0; i < QUERIES; i++) {
        uint8_t room[BYTES];
        nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
        const nphd_vector query =
            vector_of(test_random_below(&random, VECTORS), 77 + (uint64_t)i, mixed, room);
        options.mode = NPHD_SEARCH_EXACT;
        options.use_radius = i % 3 != 0;
        options.radius = most * (float)test_random_below(&random, 100) / 100;
        const size_t capacity = i % 2 == 0 ? 5 : MOST;
        ask(call, index, query, capacity, &options, NPHD_PLAN_SCAN, &scanned);
        ask(call, index, query, capacity, &options, NPHD_PLAN_TABLES, &looked_up);
        ask(call, index, query, capacity, &options, NPHD_PLAN_AUTO, &planned);
        same_answer(&scanned, &looked_up);
        same_answer(&scanned, &planned);
        assert_true(scanned.report.exact && looked_up.report.exact && planned.report.exact);
        assert_int_equal(scanned.report.plan, NPHD_PLAN_SCAN);
        *out_tables += looked_up.report.plan != NPHD_PLAN_SCAN ? 1 : 0;
        assert_true(planned.report.predicted > 0 && planned.report.measured > 0);
    }
}

static nphd_index *built(nphd_metric metric, bool mixed)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;

    options.max_bits = 8 * BYTES;
    options.metric = metric;
    options.connectivity = 4;
    options.build_breadth = 8;
    assert_int_equal(nphd_index_create(&options, &index, NULL), NPHD_OK);
    for (uint64_t i = 0; i < VECTORS; i++) {
        uint8_t room[BYTES];
        /* a hundred equal ones among them */
        const nphd_vector vector = vector_of(i % 200 == 0 ? 3 : i, 0, mixed, room);
        assert_int_equal(nphd_index_add(index, nphd_key_u64(i), vector, NULL, NULL), NPHD_OK);
    }
    return index;
}

/* Removes some, gives others new rows (in the slots of those removed), and adds some. */
static void change(nphd_index *index, bool mixed)
{
    for (uint64_t i = 0; i < 300; i++) {
        uint8_t room[BYTES];
        bool done = false;
        const nphd_key gone = nphd_key_u64(i * 3);
        assert_int_equal(nphd_index_remove(index, &gone, 1, NULL, NULL), NPHD_OK);
        const nphd_vector vector = vector_of(i, 9, mixed, room);
        if (i % 2 == 0) {
            assert_int_equal(nphd_index_add(index, nphd_key_u64(VECTORS + i), vector, &done, NULL),
                             NPHD_OK);
            assert_true(done);
        }
    }
    for (uint64_t i = 0; i < 500; i++) {
        uint8_t room[BYTES];
        const nphd_vector vector = vector_of(i, 11, mixed, room);
        assert_int_equal(nphd_index_add(index, nphd_key_u64(2 * VECTORS + i), vector, NULL, NULL),
                         NPHD_OK);
    }
}

static bool has_tables(nphd_index *index)
{
    nphd_index_stats stats = NPHD_INDEX_STATS_INIT;

    assert_int_equal(nphd_index_get_stats(index, &stats, NULL), NPHD_OK);
    return stats.tables;
}

static void run_kind(nphd_metric metric, bool mixed)
{
    const float most = metric == NPHD_METRIC_HAMMING ? 30.0F : 0.12F;
    nphd_index *index = built(metric, mixed);
    nphd_index *view = NULL;
    nphd_error err = NPHD_ERROR_INIT;
    uint64_t tables = 0;
    char path[64];

    check_plans(search_index, index, mixed, most, &tables);
    assert_int_equal(tables, 0);
    assert_false(has_tables(index));
    assert_int_equal(nphd_index_prepare(index, 2, &err), NPHD_OK);
    assert_true(has_tables(index));
    check_plans(search_index, index, mixed, most, &tables);
    assert_true(tables > QUERIES / 3);
    tables = 0;
    change(index, mixed);
    assert_false(has_tables(index));
    check_plans(search_index, index, mixed, most, &tables);
    assert_true(tables > QUERIES / 3);
    (void)snprintf(path, sizeof(path), "search_plans_%ld.usearch", (long)getpid());
    /* tables that do not know all rows are not saved, and can be made for the view */
    for (int round = 0; round < 2; round++) {
        assert_int_equal(nphd_index_save(index, path, NULL, &err), NPHD_OK);
        nphd_verify_report report;
        memset(&report, 0, sizeof(report));
        assert_int_equal(nphd_file_verify(path, NULL, NULL, NULL, &report, &err), NPHD_OK);
        nphd_metadata metadata = NPHD_METADATA_INIT;
        assert_int_equal(nphd_file_metadata(path, NULL, &metadata, &err), NPHD_OK);
        assert_int_equal(metadata.tables, round == 1);
        assert_int_equal(nphd_index_restore(path, true, NULL, &view, &err), NPHD_OK);
        assert_int_equal(has_tables(view), round == 1);
        tables = 0;
        check_plans(search_index, view, mixed, most, &tables);
        assert_true(round == 0 ? tables == 0 : tables > QUERIES / 3);
        assert_int_equal(nphd_index_prepare(view, 1, &err), NPHD_OK);
        tables = 0;
        check_plans(search_index, view, mixed, most, &tables);
        assert_true(tables > QUERIES / 3);
        nphd_index_close(view);
        assert_int_equal(nphd_index_prepare(index, 1, &err), NPHD_OK);
    }
    (void)unlink(path);
    nphd_index_close(index);
}

static void test_one_answer(void **state)
{
    (void)state;
    run_kind(NPHD_METRIC_NPHD, true);
    if (!is_small()) {
        run_kind(NPHD_METRIC_NPHD, false);
        run_kind(NPHD_METRIC_HAMMING, false);
    }
}

/* More changes than the tables take: they are given up, and made anew when that is asked for. */
static void test_outgrown(void **state)
{
    nphd_index *index = built(NPHD_METRIC_NPHD, false);
    uint64_t tables = 0;

    (void)state;
    assert_int_equal(nphd_index_prepare(index, 1, NULL), NPHD_OK);
    for (uint64_t i = 0; i < VECTORS / 10; i++) {
        uint8_t room[BYTES];
        const nphd_key gone = nphd_key_u64(i);
        assert_int_equal(nphd_index_remove(index, &gone, 1, NULL, NULL), NPHD_OK);
        assert_int_equal(nphd_index_add(index, nphd_key_u64(VECTORS + i),
                                        vector_of(i, 5, false, room), NULL, NULL),
                         NPHD_OK);
    }
    check_plans(search_index, index, false, 0.1F, &tables);
    assert_int_equal(tables, 0);
    assert_int_equal(nphd_index_prepare(index, 1, NULL), NPHD_OK);
    check_plans(search_index, index, false, 0.1F, &tables);
    assert_true(tables > 0);
    assert_int_equal(nphd_index_clear(index, NULL), NPHD_OK);
    nphd_match match;
    nphd_search_report report;
    uint8_t room[BYTES];
    assert_int_equal(
        nphd_index_search(index, vector_of(1, 0, false, room), 1, NULL, &match, &report, NULL),
        NPHD_OK);
    assert_int_equal(report.count, 0);
    nphd_index_close(index);
}

/* Beyond the budget it is the graph, or, with tables, an answer that is proved by them. */
static void test_budget(void **state)
{
    nphd_index *index = built(NPHD_METRIC_NPHD, false);
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    static answer exact;
    static answer found;
    uint8_t room[BYTES];
    const nphd_vector query = vector_of(42, 3, false, room);
    uint64_t proved = 0;

    (void)state;
    ask(search_index, index, query, 3, &options, NPHD_PLAN_AUTO, &found);
    assert_true(found.report.exact);
    assert_int_equal(found.report.plan, NPHD_PLAN_SCAN);
    ask(search_index, index, query, 3, &options, NPHD_PLAN_GRAPH, &found);
    assert_false(found.report.exact);
    assert_int_equal(found.report.plan, NPHD_PLAN_GRAPH);
    options.budget = 0.5F;
    ask(search_index, index, query, 3, &options, NPHD_PLAN_AUTO, &found);
    assert_false(found.report.exact);
    assert_int_equal(found.report.plan, NPHD_PLAN_GRAPH);
    assert_int_equal(nphd_index_prepare(index, 1, NULL), NPHD_OK);
    options.budget = 50;
    for (uint64_t i = 0; i < 50; i++) {
        const nphd_vector one = vector_of(i * 97, 0, false, room);
        nphd_search_options tight = options;
        tight.budget = 5; /* a scan of these is predicted to cost more */
        ask(search_index, index, one, 1, &tight, NPHD_PLAN_AUTO, &found);
        if (found.report.exact && found.report.plan == NPHD_PLAN_TABLES) {
            ask(search_index, index, one, 1, &options, NPHD_PLAN_SCAN, &exact);
            same_answer(&exact, &found);
            proved++;
        }
    }
    assert_true(proved > 0);
    nphd_index_close(index);
}

/* Removes the first key that it is asked about, as another thread may at that moment. */
typedef struct remover {
    nphd_index *index;
    nphd_key gone;
    bool removed;
} remover;

static void *remove_main(void *context)
{
    remover *of = context;

    assert_int_equal(nphd_index_remove(of->index, &of->gone, 1, NULL, NULL), NPHD_OK);
    return NULL;
}

static bool remove_once(void *context, nphd_key key)
{
    remover *of = context;
    pthread_t thread;

    if (!of->removed && nphd_key_compare(key, of->gone) == 0) {
        of->removed = true;
        assert_int_equal(pthread_create(&thread, NULL, remove_main, of), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
    return true;
}

/* What the graph found bounds the exact answer; if it is removed before that is looked for, there
 * are others that are the answer. */
static void test_bound_removed(void **state)
{
    static const nphd_search_plan plans[] = {NPHD_PLAN_TABLES, NPHD_PLAN_AUTO, NPHD_PLAN_AUTO,
                                             NPHD_PLAN_TABLES};
    nphd_index *index = built(NPHD_METRIC_NPHD, false);
    static answer found;

    (void)state;
    assert_int_equal(nphd_index_prepare(index, 1, NULL), NPHD_OK);
    for (uint64_t i = 0; i < 40; i++) {
        uint8_t room[BYTES];
        nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
        const uint64_t key = 1 + 3 * i;
        const nphd_vector query = vector_of(key, 0, false, room);
        remover of = {index, nphd_key_u64(key), false};
        options.filter = remove_once;
        options.filter_context = &of;
        options.mode = i % 4 == 1 ? NPHD_SEARCH_AUTO : NPHD_SEARCH_EXACT;
        options.budget = 5; /* less than a scan is predicted to cost */
        options.threads = i % 4 == 3 ? 2 : 1;
        ask(search_index, index, query, 1 + i % 3, &options, plans[i % 4], &found);
        assert_int_equal(found.report.count, 1 + i % 3);
    }
    nphd_index_close(index);
}

static void test_refused(void **state)
{
    nphd_index_options create = NPHD_INDEX_OPTIONS_INIT;
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_index *index = NULL;
    nphd_match match;
    nphd_search_report report;
    uint8_t room[BYTES];
    const nphd_vector query = vector_of(1, 0, false, room);

    (void)state;
    assert_int_equal(nphd_index_create(&create, &index, NULL), NPHD_OK);
    assert_int_equal(nphd_index_prepare(index, 0, NULL), NPHD_OK);
    assert_int_equal(nphd_index_search(index, query, 1, &options, &match, &report, NULL), NPHD_OK);
    assert_int_equal(report.plan, NPHD_PLAN_AUTO); /* nothing to search */
    assert_true(report.exact);
    options.plan = NPHD_PLAN_MIXED;
    assert_int_equal(nphd_index_search(index, query, 1, &options, &match, &report, NULL),
                     NPHD_INVALID_ARGUMENT);
    options.plan = NPHD_PLAN_AUTO;
    options.budget = -1;
    assert_int_equal(nphd_index_search(index, query, 1, &options, &match, &report, NULL),
                     NPHD_INVALID_ARGUMENT);
    nphd_index_close(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_answer), cmocka_unit_test(test_outgrown),
        cmocka_unit_test(test_budget), cmocka_unit_test(test_bound_removed),
        cmocka_unit_test(test_refused)};

    seed = test_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
