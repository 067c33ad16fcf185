/* Making tables, searching by them and joining, with each request for memory failing in turn: an
 * error or the right answer, and nothing is leaked. */
#include "support/allocator_fault.h"
#include "support/test_random.h"

#include <nphd/nphd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

enum { VECTORS = 17000, LEFT = 1000, BYTES = 16, CLUSTER = 10, MOST = 100 };

typedef struct lab {
    allocator_fault allocator;
    nphd_index *left;
    uint8_t *file; /* of the right side, whose view forgets its tables */
    size_t file_bytes;
} lab;

static bool is_small(void)
{
    const char *scale = getenv("NPHD_TEST_SCALE");

    return scale != NULL && strcmp(scale, "small") == 0;
}

static nphd_vector vector_of(uint64_t number, uint8_t out[BYTES])
{
    const nphd_vector vector = {out, BYTES};
    test_random centre = {number / CLUSTER * 7919 + 1};

    test_random_fill(&centre, out, BYTES);
    out[number % CLUSTER] ^= 1;
    return vector;
}

static nphd_index *create(lab *here, uint64_t vectors)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;
    uint8_t room[BYTES];

    options.max_bits = 8 * BYTES;
    options.connectivity = 4;
    options.build_breadth = 8;
    options.allocator = &here->allocator.table;
    OK(nphd_index_create(&options, &index, NULL));
    for (uint64_t i = 0; i < vectors; i++) {
        OK(nphd_index_add(index, nphd_key_u64(i), vector_of(i, room), NULL, NULL));
    }
    return index;
}

/* Whether it answered. */
static bool search(nphd_index *index, nphd_search_plan plan, nphd_search_mode mode, bool within)
{
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_search_report report;
    nphd_match found[MOST];
    uint8_t room[BYTES];

    options.plan = plan;
    options.mode = mode;
    options.budget = 3; /* less than a scan costs */
    options.use_radius = within;
    options.radius = 2.0F / (8 * BYTES);
    const nphd_status status = nphd_index_search(
        index, vector_of(77, room), within ? MOST : CLUSTER, &options, found, &report, NULL);
    assert_true(status == NPHD_OK || status == NPHD_OUT_OF_MEMORY);
    assert_int_equal(report.count, status == NPHD_OK && report.exact ? CLUSTER : report.count);
    return status == NPHD_OK;
}

static int count_pairs(void *context, const nphd_pair *pairs, size_t count)
{
    (void)pairs;
    *(uint64_t *)context += count;
    return 0;
}

static void work(lab *here, nphd_index *view)
{
    const nphd_join_side left = {here->left, NULL};
    const nphd_join_side right = {view, NULL};
    nphd_join_options options = NPHD_JOIN_OPTIONS_INIT;
    nphd_join_report report;
    uint64_t pairs = 0;

    options.batch = 128;
    nphd_status status = nphd_index_prepare(view, 2, NULL);
    assert_true(status == NPHD_OK || status == NPHD_OUT_OF_MEMORY);
    (void)search(view, NPHD_PLAN_TABLES, NPHD_SEARCH_EXACT, true);
    (void)search(view, NPHD_PLAN_TABLES, NPHD_SEARCH_EXACT, false);
    (void)search(view, NPHD_PLAN_AUTO, NPHD_SEARCH_AUTO, true);
    (void)search(view, NPHD_PLAN_AUTO, NPHD_SEARCH_AUTO, false);
    status =
        nphd_join(&left, &right, 2.0F / (8 * BYTES), &options, count_pairs, &pairs, &report, NULL);
    assert_true(status == NPHD_OK || status == NPHD_OUT_OF_MEMORY);
    assert_true(pairs <= (uint64_t)LEFT * CLUSTER);
    assert_true(status != NPHD_OK || pairs == (uint64_t)LEFT * CLUSTER);
}

static void run(lab *here, bool for_ever)
{
    uint64_t failed = 1;

    for (uint64_t at = 1; failed > 0; at += is_small() ? 5 : 1) {
        nphd_index *view = create(here, 0);
        OK(nphd_index_view_buffer(view, here->file, here->file_bytes, NULL, NULL));
        allocator_fault_arm(&here->allocator, ALLOCATOR_FAULT_ALL, at, for_ever);
        work(here, view);
        failed = here->allocator.failed;
        allocator_fault_arm(&here->allocator, ALLOCATOR_FAULT_ALL, 0, false);
        /* nothing that failed is left behind */
        OK(nphd_index_prepare(view, 1, NULL));
        assert_true(search(view, NPHD_PLAN_TABLES, NPHD_SEARCH_EXACT, true));
        nphd_index_close(view);
    }
}

static void test_each_request(void **state)
{
    lab here;

    (void)state;
    memset(&here, 0, sizeof(here));
    allocator_fault_init(&here.allocator);
    nphd_index *right = create(&here, VECTORS);
    OK(nphd_index_save_buffer(right, NULL, 0, &here.file_bytes, NULL));
    here.file = malloc(here.file_bytes);
    assert_non_null(here.file);
    OK(nphd_index_save_buffer(right, here.file, here.file_bytes, &here.file_bytes, NULL));
    nphd_index_close(right);
    here.left = create(&here, LEFT);
    run(&here, false);
    run(&here, true);
    nphd_index_close(here.left);
    free(here.file);
    assert_true(allocator_fault_is_clean(&here.allocator));
    allocator_fault_destroy(&here.allocator);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each_request)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
