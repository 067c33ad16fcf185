/* All vectors within a radius of one index, against comparing with every vector: lengths, metrics,
 * changes, files, planes, equal vectors and distances; what is refused, cancelled or finds no
 * memory. */
#include "support/allocator_fault.h"
#include "support/radius_check.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

typedef struct lab {
    nphd_index_options options;
    index_model model;
    test_random random;
    radius_target target;
} lab;

static void lab_begin(lab *here, uint32_t max_bits, nphd_metric metric, bool multi,
                      const nphd_allocator *allocator)
{
    const nphd_index_options none = NPHD_INDEX_OPTIONS_INIT;

    memset(here, 0, sizeof(*here));
    here->options = none;
    here->options.max_bits = max_bits;
    here->options.metric = metric;
    here->options.multi = multi;
    here->options.connectivity = 4;
    here->options.build_breadth = 8;
    here->options.allocator = allocator;
    here->random.state = test_seed();
    index_model_init(&here->model, &here->options);
    OK(nphd_index_create(&here->options, &here->target.index, NULL));
}

static void lab_end(lab *here)
{
    nphd_index_close(here->target.index);
    index_model_free(&here->model);
}

static void put(lab *here, nphd_key key, nphd_vector vector)
{
    OK(nphd_index_add_many(here->target.index, &key, &vector, 1, NULL, NULL, NULL, NULL));
    (void)index_model_add_many(&here->model, &key, &vector, 1, NULL);
}

static void add(lab *here, size_t count)
{
    uint8_t room[NPHD_MAX_BYTES];

    for (size_t i = 0; i < count; i++) {
        const nphd_vector vector = index_model_vector(&here->model, &here->random, room);
        put(here, index_model_key(&here->model, &here->random, 4 * count), vector);
    }
}

static void change(lab *here, size_t count)
{
    uint8_t room[NPHD_MAX_BYTES];

    for (size_t i = 0; i < count && here->model.count > 0; i++) {
        const nphd_key key =
            here->model.items[test_random_below(&here->random, here->model.count)].key;
        if (!here->options.multi && test_random_below(&here->random, 2) == 0) {
            const nphd_vector vector = index_model_vector(&here->model, &here->random, room);
            OK(nphd_index_upsert(here->target.index, &key, &vector, 1, NULL, NULL, NULL));
            (void)index_model_upsert(&here->model, &key, &vector, 1);
        } else {
            OK(nphd_index_remove(here->target.index, &key, 1, NULL, NULL));
            (void)index_model_remove(&here->model, &key, 1);
        }
    }
}

static void check(lab *here, int times)
{
    for (int i = 0; i < times; i++) {
        radius_check(&here->model, &here->target, &here->random);
    }
}

/* The same content in another index: loaded, or a view of the bytes. */
static void check_file(lab *here, bool view)
{
    nphd_index *const index = here->target.index;
    size_t bytes = 0;

    OK(nphd_index_save_buffer(index, NULL, 0, &bytes, NULL));
    uint8_t *file = malloc(bytes);
    assert_non_null(file);
    OK(nphd_index_save_buffer(index, file, bytes, &bytes, NULL));
    OK(nphd_index_create(&here->options, &here->target.index, NULL));
    OK(view ? nphd_index_view_buffer(here->target.index, file, bytes, NULL, NULL)
            : nphd_index_load_buffer(here->target.index, file, bytes, NULL, NULL));
    check(here, 6);
    nphd_index_close(here->target.index);
    free(file);
    here->target.index = index;
}

static void test_changes_and_files(void **state)
{
    static const uint32_t widths[] = {8, 64, 256, NPHD_MAX_BITS};
    lab here;

    (void)state;
    for (int kind = 0; kind < 16; kind++) {
        const nphd_metric metric = kind % 2 == 0 ? NPHD_METRIC_NPHD : NPHD_METRIC_HAMMING;
        lab_begin(&here, widths[kind / 4], metric, kind / 2 % 2 == 1, NULL);
        check(&here, 3); /* empty */
        for (int round = 0; round < 3; round++) {
            add(&here, 1 + test_random_below(&here.random, 120));
            check(&here, 4);
            change(&here, 20);
            check(&here, 4);
        }
        check_file(&here, false);
        check_file(&here, true);
        lab_end(&here);
    }
}

/* Enough vectors for planes, and, of 255 lengths, enough parts of them for workers that share one
 * query. */
static void test_planes(void **state)
{
    static const struct {
        uint32_t max_bits;
        nphd_metric metric;
        int times;
    } kinds[] = {
        {128, NPHD_METRIC_NPHD, 8}, {128, NPHD_METRIC_HAMMING, 8}, {2040, NPHD_METRIC_NPHD, 20}};
    lab here;

    (void)state;
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        lab_begin(&here, kinds[i].max_bits, kinds[i].metric, false, NULL);
        add(&here, 2600);
        check(&here, kinds[i].times);
        change(&here, 300);
        check(&here, kinds[i].times);
        check_file(&here, true);
        lab_end(&here);
    }
}

static void test_all_equal(void **state)
{
    uint8_t data[NPHD_MAX_BYTES];
    nphd_vector vector = {data, 0};
    lab here;

    (void)state;
    memset(data, 0x5a, sizeof(data));
    for (int kind = 0; kind < 2; kind++) {
        lab_begin(&here, 64, kind == 0 ? NPHD_METRIC_NPHD : NPHD_METRIC_HAMMING, kind == 0, NULL);
        for (uint64_t key = 0; key < 150; key++) {
            vector.bytes = kind == 0 ? 1 + key % 8 : 8;
            put(&here, nphd_key_u64(key * 7 % (kind == 0 ? 100 : 150)), vector);
        }
        check(&here, 20);
        lab_end(&here);
    }
}

/* Each vector has one bit set; so all are equally far from zeros, and at another distance from
 * ones. */
static void test_all_distances_equal(void **state)
{
    uint8_t data[8];
    const nphd_vector vector = {data, 8};
    const uint8_t zeros[8] = {0};
    const nphd_vector query = {zeros, 8};
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_match out[64];
    nphd_search_report report;
    lab here;

    (void)state;
    lab_begin(&here, 64, NPHD_METRIC_NPHD, false, NULL);
    for (uint64_t key = 0; key < 64; key++) {
        memset(data, 0, sizeof(data));
        data[key / 8] = (uint8_t)(1U << (key % 8));
        put(&here, nphd_key_u64(63 - key), vector);
    }
    check(&here, 20);
    for (options.threads = 1; options.threads <= 4; options.threads++) {
        OK(nphd_index_radius(here.target.index, &query, 1, 1.0F / 64, 5, &options, out, &report,
                             NULL));
        assert_int_equal(report.count, 5);
        assert_true(report.more && report.exact);
        assert_int_equal(out[0].key.low, 0);
        assert_int_equal(out[4].key.low, 4);
        OK(nphd_index_radius(here.target.index, &query, 1, 1.0F / 64, 64, &options, out, &report,
                             NULL));
        assert_true(report.count == 64 && !report.more);
        OK(nphd_index_radius(here.target.index, &query, 1, 0.99F / 64, 64, &options, out, &report,
                             NULL));
        assert_true(report.count == 0 && !report.more && report.exact);
    }
    lab_end(&here);
}

static void test_refused(void **state)
{
    lab here;

    (void)state;
    lab_begin(&here, 64, NPHD_METRIC_HAMMING, false, NULL);
    radius_check_arguments(&here.target, 8);
    add(&here, 3);
    radius_check_arguments(&here.target, 8);
    lab_end(&here);
}

/* A radius that no fraction reaches is a mistake, a number of bits as a rule. */
static void test_radius_above_one(void **state)
{
    const float wrong[] = {1.5F, 31, -1, -INFINITY, NAN};
    uint8_t data[8] = {0};
    const nphd_vector query = {data, sizeof(data)};
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_search_report report;
    nphd_match match;
    nphd_error err = NPHD_ERROR_INIT;
    lab here;

    (void)state;
    lab_begin(&here, 64, NPHD_METRIC_NPHD, false, NULL);
    add(&here, 3);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(nphd_index_radius(here.target.index, &query, 1, wrong[i], 1, NULL, &match,
                                           &report, &err),
                         NPHD_INVALID_ARGUMENT);
        assert_non_null(strstr(err.text, "radius"));
        options.use_radius = true;
        options.radius = wrong[i];
        assert_int_equal(
            nphd_index_search(here.target.index, query, 1, &options, &match, &report, NULL),
            NPHD_INVALID_ARGUMENT);
    }
    OK(nphd_index_radius(here.target.index, &query, 1, INFINITY, 1, NULL, &match, &report, NULL));
    OK(nphd_index_radius(here.target.index, &query, 1, 1, 1, NULL, &match, &report, NULL));
    lab_end(&here);
}

/* ---- ends and failures ---- */

static int refuse(void *context, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    return --*(int *)context <= 0;
}

static int count_one(void *context, size_t query, const nphd_match *match)
{
    (void)query;
    (void)match;
    ++*(size_t *)context;
    return 0;
}

static void test_cancelled(void **state)
{
    uint8_t room[40][NPHD_MAX_BYTES];
    nphd_vector queries[40];
    nphd_match *out = calloc(40 * 9, sizeof(*out));
    nphd_search_report reports[40];
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    size_t taken = 0;
    int calls;
    lab here;

    (void)state;
    assert_non_null(out);
    lab_begin(&here, 64, NPHD_METRIC_NPHD, false, NULL);
    add(&here, 400);
    for (size_t i = 0; i < 40; i++) {
        queries[i] = index_model_vector(&here.model, &here.random, room[i]);
    }
    options.progress = refuse;
    options.progress_context = &calls;
    for (size_t count = 1; count <= 40; count += 39) {
        calls = 1;
        assert_int_equal(nphd_index_radius(here.target.index, queries, count, 1, 9, &options, out,
                                           reports, NULL),
                         NPHD_CANCELLED);
        assert_int_equal(reports[0].count, 0);
        calls = 1;
        assert_int_equal(nphd_index_radius_stream(here.target.index, queries, count, 1, &options,
                                                  count_one, &taken, reports, NULL),
                         NPHD_CANCELLED);
        assert_int_equal(reports[0].count, 0);
    }
    assert_true(taken > 0);
    lab_end(&here);
    free(out);
}

/* Long enough for other workers to have found something too. */
static int take_slowly(void *context, size_t query, const nphd_match *match)
{
    const struct timespec pause = {0, 20000000};

    (void)nanosleep(&pause, NULL);
    (void)count_one(context, query, match);
    return 0;
}

static int take_one_slowly(void *context, size_t query, const nphd_match *match)
{
    return take_slowly(context, query, match) + 1;
}

/* What others found meanwhile is kept back when the sink, or one match, was enough. */
static void test_workers_that_wait(void **state)
{
    uint8_t room[2][NPHD_MAX_BYTES];
    nphd_vector queries[2];
    nphd_search_report reports[2];
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    lab here;

    (void)state;
    lab_begin(&here, NPHD_MAX_BITS, NPHD_METRIC_NPHD, false, NULL);
    add(&here, 2600);
    for (size_t i = 0; i < 2; i++) {
        queries[i] = index_model_vector(&here.model, &here.random, room[i]);
    }
    options.threads = 4;
    options.any = true;
    for (int i = 0; i < 8; i++) { /* after the first ones over planes */
        size_t taken = 0;
        OK(nphd_index_radius_stream(here.target.index, queries, 1, 1, &options, take_slowly, &taken,
                                    reports, NULL));
        assert_int_equal(taken, 1);
        assert_true(reports[0].count == 1 && reports[0].exact && !reports[0].more);
        OK(nphd_index_radius_stream(here.target.index, queries, 2, 1, &options, take_one_slowly,
                                    &taken, reports, NULL));
        assert_int_equal(taken, 2);
        const size_t first = reports[0].count == 1 ? 0 : 1;
        assert_true(reports[first].count == 1 && !reports[first].more);
        assert_true(reports[1 - first].count == 0 && reports[1 - first].more);
    }
    lab_end(&here);
}

/* Every request for memory fails once; answers are whole or none. */
static void test_no_memory(void **state)
{
    allocator_fault fault;
    uint8_t room[4][NPHD_MAX_BYTES];
    nphd_vector queries[4];
    nphd_match out[4 * 6];
    nphd_search_report reports[4];
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    lab here;

    (void)state;
    allocator_fault_init(&fault);
    lab_begin(&here, 64, NPHD_METRIC_NPHD, false, &fault.table);
    add(&here, 100);
    for (size_t i = 0; i < 4; i++) {
        queries[i] = index_model_vector(&here.model, &here.random, room[i]);
    }
    for (int kind = 0; kind < 12; kind++) {
        options.variants = kind % 2 == 0 ? 1 : 2;
        options.threads = 1 + (uint32_t)(kind / 2 % 2);
        options.mode = kind >= 8 ? NPHD_SEARCH_APPROXIMATE : NPHD_SEARCH_AUTO;
        for (uint64_t n = 1;; n++) {
            size_t taken = 0;
            allocator_fault_arm(&fault, ALLOCATOR_FAULT_ALL, n, false);
            const nphd_status status =
                kind / 4 == 1 ? nphd_index_radius_stream(here.target.index, queries, 2, 1, &options,
                                                         count_one, &taken, reports, NULL)
                              : nphd_index_radius(here.target.index, queries, 2, 1, 6, &options,
                                                  out, reports, NULL);
            assert_int_equal(status, fault.failed > 0 ? NPHD_OUT_OF_MEMORY : NPHD_OK);
            assert_int_equal(reports[0].count > 0, status == NPHD_OK);
            if (fault.failed == 0) {
                break;
            }
        }
    }
    lab_end(&here);
    assert_true(allocator_fault_is_clean(&fault));
    allocator_fault_destroy(&fault);
}

typedef struct watch {
    const allocator_fault *fault;
    uint64_t blocks;
    uint64_t bytes;
    size_t count;
} watch;

static int watch_memory(void *context, size_t query, const nphd_match *match)
{
    watch *to = context;

    (void)query;
    (void)match;
    if (to->count++ == 0) {
        to->blocks = to->fault->blocks;
        to->bytes = to->fault->allocated_bytes;
    }
    assert_int_equal(to->blocks, to->fault->blocks);
    assert_int_equal(to->bytes, to->fault->allocated_bytes);
    return 0;
}

static void test_stream_memory(void **state)
{
    allocator_fault fault;
    uint8_t room[NPHD_MAX_BYTES];
    watch seen = {&fault, 0, 0, 0};
    lab here;

    (void)state;
    allocator_fault_init(&fault);
    lab_begin(&here, 64, NPHD_METRIC_NPHD, true, &fault.table);
    add(&here, 5000);
    const uint64_t before = fault.allocated_bytes;
    const nphd_vector query = index_model_vector(&here.model, &here.random, room);
    OK(nphd_index_radius_stream(here.target.index, &query, 1, 1, NULL, watch_memory, &seen, NULL,
                                NULL));
    assert_int_equal(seen.count, here.model.count);
    assert_true(seen.bytes - before < 65536);
    lab_end(&here);
    assert_true(allocator_fault_is_clean(&fault));
    allocator_fault_destroy(&fault);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changes_and_files), cmocka_unit_test(test_planes),
        cmocka_unit_test(test_all_equal),         cmocka_unit_test(test_all_distances_equal),
        cmocka_unit_test(test_radius_above_one),  cmocka_unit_test(test_refused),
        cmocka_unit_test(test_cancelled),         cmocka_unit_test(test_workers_that_wait),
        cmocka_unit_test(test_no_memory),         cmocka_unit_test(test_stream_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
