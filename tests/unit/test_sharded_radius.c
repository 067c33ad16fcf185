/* All vectors within a radius of a sharded index, against comparing with every vector: over shards
 * in memory and mapped ones, with replaced and removed vectors in them; the same however they are
 * spread. What is refused, cancelled or finds no memory. */
#include "support/directory_lab.h"
#include "support/radius_check.h"
#include "support/sharded_model.h"

#include <time.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

typedef struct scene {
    dirlab *lab;
    char folder[32];
    nphd_sharded_options options;
    index_model model;
    radius_target target;
} scene;

static void scene_open(scene *here)
{
    nphd_error err = NPHD_ERROR_INIT;

    if (nphd_sharded_open(here->folder, &here->options, &here->target.sharded, &err) != NPHD_OK) {
        fail_msg("open: %s", err.text);
    }
}

/* In a folder of its own. */
static void scene_begin(scene *here, dirlab *lab, uint32_t max_bits, nphd_metric metric, bool multi)
{
    static int number;
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;

    memset(here, 0, sizeof(*here));
    (void)snprintf(here->folder, sizeof(here->folder), "folder-%d", number++);
    here->lab = lab;
    here->options = dirlab_small(lab);
    here->options.max_bits = options.max_bits = max_bits;
    here->options.metric = options.metric = metric;
    here->options.multi = multi ? 2 : 1;
    options.multi = multi;
    index_model_init(&here->model, &options);
    scene_open(here);
}

static void scene_end(scene *here)
{
    dirlab_close(here->target.sharded);
    index_model_free(&here->model);
}

/* Adds, and (single) replaces and removes, mostly in older shards. */
static void change(scene *here, size_t count)
{
    test_random *random = &here->lab->random;
    uint8_t room[NPHD_MAX_BYTES];

    for (size_t i = 0; i < count; i++) {
        const nphd_vector vector = index_model_vector(&here->model, random, room);
        const uint64_t kind = here->model.multi ? 0 : test_random_below(random, 4);
        nphd_key key = index_model_key(&here->model, random, 300);
        if (kind < 2) {
            OK(nphd_sharded_add_many(here->target.sharded, &key, &vector, 1, NULL, NULL, NULL,
                                     NULL));
            (void)index_model_add_many(&here->model, &key, &vector, 1, NULL);
        } else if (kind == 2) {
            OK(nphd_sharded_upsert(here->target.sharded, &key, &vector, 1, NULL, NULL, NULL));
            (void)sharded_model_upsert(&here->model, key, vector);
        } else if (here->model.count > 0) {
            key = here->model.items[test_random_below(random, here->model.count)].key;
            OK(nphd_sharded_remove(here->target.sharded, &key, 1, NULL, NULL));
            (void)index_model_remove(&here->model, &key, 1);
        }
    }
}

static void check(scene *here, int times)
{
    for (int i = 0; i < times; i++) {
        radius_check(&here->model, &here->target, &here->lab->random);
    }
}

static void test_shards(void **state)
{
    static const uint32_t widths[] = {8, 64, 256, NPHD_MAX_BITS};
    dirlab *lab = *state;
    scene here;

    for (int kind = 0; kind < 16; kind++) {
        scene_begin(&here, lab, widths[kind / 4],
                    kind % 2 == 0 ? NPHD_METRIC_NPHD : NPHD_METRIC_HAMMING, kind / 2 % 2 == 1);
        check(&here, 2); /* empty */
        for (int round = 0; round < 5; round++) {
            change(&here, 1 + test_random_below(&lab->random, 80));
            check(&here, 4);
            OK(nphd_sharded_rotate(here.target.sharded, NULL));
            check(&here, 4);
        }
        change(&here, 40);
        check(&here, 6);
        dirlab_close(here.target.sharded);
        scene_open(&here);
        check(&here, 6);
        if (!here.model.multi) {
            OK(nphd_sharded_compact(here.target.sharded, NULL, NULL, NULL));
            check(&here, 4);
        }
        scene_end(&here);
    }
}

/* What a radius narrowed to the worst so far would not find: one vector more, in a later shard,
 * farther than all before but within the radius. */
static void test_more(void **state)
{
    static const uint8_t zeros[8];
    const nphd_vector query = {zeros, 8};
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_match out[4];
    nphd_search_report report;
    uint8_t data[8] = {0};
    const nphd_vector vector = {data, 8};
    scene here;

    scene_begin(&here, *state, 64, NPHD_METRIC_HAMMING, false);
    /* the active shard, which is searched first, has the nearest */
    for (uint64_t key = 5; key-- > 1;) {
        data[0] = (uint8_t)((1U << key) - 1); /* key bits */
        OK(nphd_sharded_add(here.target.sharded, nphd_key_u64(key), vector, NULL, NULL));
        if (key > 1) {
            OK(nphd_sharded_rotate(here.target.sharded, NULL));
        }
    }
    for (options.threads = 1; options.threads <= 4; options.threads++) {
        for (size_t capacity = 1; capacity <= 4; capacity++) {
            for (uint32_t radius = 0; radius <= 5; radius++) {
                const size_t within = radius < 4 ? radius : 4;
                OK(nphd_sharded_radius(here.target.sharded, &query, 1, (float)radius, capacity,
                                       &options, out, &report, NULL));
                assert_int_equal(report.count, within < capacity ? within : capacity);
                assert_int_equal(report.more, within > capacity);
            }
        }
    }
    const nphd_key key = nphd_key_u64(4); /* hidden entries do not count */
    OK(nphd_sharded_remove(here.target.sharded, &key, 1, NULL, NULL));
    OK(nphd_sharded_radius(here.target.sharded, &query, 1, 9, 3, NULL, out, &report, NULL));
    assert_true(report.count == 3 && !report.more);
    OK(nphd_sharded_radius(here.target.sharded, &query, 1, 9, 2, NULL, out, &report, NULL));
    assert_true(report.count == 2 && report.more);
    scene_end(&here);
}

/* ---- ends and failures ---- */

static int count_one(void *context, size_t query, const nphd_match *match)
{
    (void)query;
    (void)match;
    ++*(size_t *)context;
    return 0;
}

/* Long enough for another worker to have found something too. */
static int take_one_slowly(void *context, size_t query, const nphd_match *match)
{
    const struct timespec pause = {0, 20000000};

    (void)nanosleep(&pause, NULL);
    (void)count_one(context, query, match);
    return 1;
}

/* What another worker found is kept back when the sink had enough, and told so. */
static void test_workers_that_wait(void **state)
{
    static const uint8_t zeros[8];
    const nphd_vector queries[] = {{zeros, 8}, {zeros, 8}};
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_search_report reports[2];
    scene here;

    scene_begin(&here, *state, 64, NPHD_METRIC_NPHD, false);
    change(&here, 30);
    options.threads = 2;
    for (int i = 0; i < 8; i++) {
        size_t taken = 0;
        if (i == 4) { /* until then in the first shard, which is also the last */
            OK(nphd_sharded_rotate(here.target.sharded, NULL));
            change(&here, 30);
        }
        options.any = i % 2 == 0;
        OK(nphd_sharded_radius_stream(here.target.sharded, queries, 2, 1, &options, take_one_slowly,
                                      &taken, reports, NULL));
        assert_int_equal(taken, 1);
        const size_t first = reports[0].count == 1 ? 0 : 1;
        assert_true(reports[first].count == 1 && reports[first].more == !options.any);
        assert_true(reports[1 - first].count == 0 && reports[1 - first].more);
        OK(nphd_sharded_radius_stream(here.target.sharded, queries, 1, 1, &options, take_one_slowly,
                                      &taken, reports, NULL));
        assert_int_equal(taken, 2);
        assert_true(reports[0].count == 1 && reports[0].more == !options.any);
    }
    scene_end(&here);
}

static void test_refused(void **state)
{
    static const uint8_t zeros[8];
    const nphd_vector query = {zeros, 8};
    nphd_search_report report;
    nphd_match out;
    size_t taken = 0;
    scene here;

    scene_begin(&here, *state, 64, NPHD_METRIC_HAMMING, false);
    radius_check_arguments(&here.target, 8);
    change(&here, 20);
    OK(nphd_sharded_rotate(here.target.sharded, NULL));
    radius_check_arguments(&here.target, 8);
    OK(nphd_sharded_close(here.target.sharded, NULL));
    assert_int_equal(
        nphd_sharded_radius(here.target.sharded, &query, 1, 9, 1, NULL, &out, &report, NULL),
        NPHD_CLOSED);
    assert_int_equal(nphd_sharded_radius_stream(here.target.sharded, &query, 1, 9, NULL, count_one,
                                                &taken, &report, NULL),
                     NPHD_CLOSED);
    assert_int_equal(taken, 0);
    scene_end(&here);
}

static int refuse(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    (void)done;
    (void)total;
    return 1;
}

static void random_queries(scene *here, uint8_t (*room)[NPHD_MAX_BYTES], nphd_vector *out,
                           size_t count)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = index_model_vector(&here->model, &here->lab->random, room[i]);
    }
}

static void test_cancelled(void **state)
{
    static uint8_t room[70][NPHD_MAX_BYTES];
    nphd_vector queries[70];
    nphd_match out[70];
    nphd_search_report reports[70];
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    size_t taken = 0;
    scene here;

    scene_begin(&here, *state, 64, NPHD_METRIC_NPHD, false);
    for (int i = 0; i < 3; i++) {
        change(&here, 50);
        OK(nphd_sharded_rotate(here.target.sharded, NULL));
    }
    random_queries(&here, room, queries, 70);
    options.progress = refuse;
    for (size_t count = 1; count <= 70; count += 69) {
        assert_int_equal(nphd_sharded_radius(here.target.sharded, queries, count, 1, 1, &options,
                                             out, reports, NULL),
                         NPHD_CANCELLED);
        assert_int_equal(reports[0].count, 0);
        assert_int_equal(nphd_sharded_radius_stream(here.target.sharded, queries, count, 1,
                                                    &options, count_one, &taken, reports, NULL),
                         NPHD_CANCELLED);
        assert_int_equal(reports[0].count, 0);
    }
    assert_true(taken > 0);
    scene_end(&here);
}

static void test_no_memory(void **state)
{
    dirlab *lab = *state;
    static uint8_t room[4][NPHD_MAX_BYTES];
    nphd_vector queries[4];
    nphd_match out[4 * 6];
    nphd_search_report reports[4];
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    scene here;

    scene_begin(&here, lab, 64, NPHD_METRIC_NPHD, false);
    for (int i = 0; i < 3; i++) {
        change(&here, 50);
        OK(nphd_sharded_rotate(here.target.sharded, NULL));
    }
    random_queries(&here, room, queries, 4);
    for (int kind = 0; kind < 8; kind++) {
        const size_t count = kind / 4 == 0 ? 1 : 2;
        options.variants = kind % 2 == 0 ? 1 : 2;
        for (uint64_t n = 1;; n++) {
            size_t taken = 0;
            allocator_fault_arm(&lab->allocator, ALLOCATOR_FAULT_ALL, n, false);
            const nphd_status status =
                kind / 2 % 2 == 0
                    ? nphd_sharded_radius_stream(here.target.sharded, queries, count, 1, &options,
                                                 count_one, &taken, reports, NULL)
                    : nphd_sharded_radius(here.target.sharded, queries, count, 1, 6, &options, out,
                                          reports, NULL);
            assert_int_equal(status, lab->allocator.failed > 0 ? NPHD_OUT_OF_MEMORY : NPHD_OK);
            assert_int_equal(reports[0].count > 0, status == NPHD_OK);
            if (lab->allocator.failed == 0) {
                break;
            }
        }
    }
    allocator_fault_arm(&lab->allocator, 0, 0, false);
    scene_end(&here);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_shards),    DIRLAB_TEST(test_more),
        DIRLAB_TEST(test_refused),   DIRLAB_TEST(test_workers_that_wait),
        DIRLAB_TEST(test_cancelled), DIRLAB_TEST(test_no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
