/* Many queries within a radius in one call, which go through the tables together, against the same
 * by scanning: in memory, after changes, in a view; clusters, and vectors that are alike in parts,
 * so that queries are given up; any number of threads, a filter, sinks that end the call. */
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

enum { VECTORS = 24000, BYTES = 32, QUERIES = 520, MOST = 200000 };

#define OK(call) assert_int_equal((call), NPHD_OK)

static uint64_t seed;

typedef enum content { CLUSTERS, MIXED, ALIKE } content;

/* Clusters around 500 centres, of full length or mixed; or an eighth of them with one first word,
 * of which those of a later version have two bits turned over. */
static nphd_vector vector_of(content kind, uint64_t number, uint64_t version, uint8_t *room)
{
    test_random centre = {number % 500 * 7919 + 1};
    test_random noise = {number * 31 + version * 1000003 + seed % 1000};
    const uint32_t bytes = kind == MIXED ? 1 + (uint32_t)test_random_below(&noise, BYTES) : BYTES;
    const nphd_vector vector = {room,
                                kind == MIXED && bytes % 3 != 0 ? (bytes + 7) / 8 * 8 : bytes};

    for (uint32_t i = 0; i < BYTES; i++) {
        room[i] = (uint8_t)test_random_next(&centre);
    }
    for (uint64_t flips = test_random_below(&noise, 30); flips > 0; flips--) {
        const uint64_t bit = test_random_below(&noise, 8 * BYTES);
        room[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
    if (kind == ALIKE && number % 8 == 0) {
        memset(room, 0x5a, 8);
        room[0] ^= version == 0 ? 0 : 1;
        room[2] ^= version == 0 ? 0 : 1;
    }
    return vector;
}

typedef struct pair {
    uint32_t query;
    uint64_t key;
    float distance;
} pair;

typedef struct pairs {
    pair *all;
    size_t count;
    size_t most; /* that are wanted */
} pairs;

static int take(void *context, size_t query, const nphd_match *match)
{
    pairs *of = context;
    const pair found = {(uint32_t)query, match->key.low, match->distance};

    assert_true(of->count < MOST);
    of->all[of->count++] = found;
    return of->count == of->most;
}

static int compare_pairs(const void *a, const void *b)
{
    const pair *x = a;
    const pair *y = b;

    return x->query != y->query ? (x->query > y->query ? 1 : -1)
           : x->key == y->key   ? 0
           : x->key > y->key    ? 1
                                : -1;
}

static bool is_even(void *context, nphd_key key)
{
    (void)context;
    return key.low % 2 == 0;
}

static void ask(nphd_index *index, const nphd_vector *queries, float radius, nphd_search_plan plan,
                uint32_t threads, bool filter, nphd_search_report *reports, pairs *out)
{
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;

    options.plan = plan;
    options.threads = threads;
    options.filter = filter ? is_even : NULL;
    out->count = 0;
    if (nphd_index_radius_stream(index, queries, QUERIES, radius, &options, take, out, reports,
                                 &err) != NPHD_OK) {
        fail_msg("%s", err.text);
    }
    qsort(out->all, out->count, sizeof(*out->all), compare_pairs);
}

static void check_same(const pairs *a, const pairs *b)
{
    assert_int_equal(a->count, b->count);
    for (size_t i = 0; i < a->count; i++) {
        assert_int_equal(compare_pairs(&a->all[i], &b->all[i]), 0);
        assert_true(a->all[i].distance == b->all[i].distance);
    }
}

/* Returns how many queries the tables answered. */
static size_t check_all(nphd_index *index, content kind, float radius)
{
    static uint8_t rooms[QUERIES][BYTES];
    static nphd_search_report reports[QUERIES];
    nphd_vector queries[QUERIES];
    pairs scanned = {calloc(MOST, sizeof(pair)), 0, 0};
    pairs found = {calloc(MOST, sizeof(pair)), 0, 0};
    size_t by_tables = 0;

    assert_non_null(scanned.all);
    assert_non_null(found.all);
    for (uint64_t i = 0; i < QUERIES; i++) {
        queries[i] = vector_of(kind, i * 13, 77 + i, rooms[i]);
    }
    ask(index, queries, radius, NPHD_PLAN_SCAN, 1, false, NULL, &scanned);
    for (uint32_t threads = 0; threads < 4; threads++) {
        ask(index, queries, radius, NPHD_PLAN_AUTO, threads, false,
            threads % 2 == 0 ? reports : NULL, &found);
        check_same(&scanned, &found);
        for (size_t i = 0; i < QUERIES && threads % 2 == 0; i++) {
            assert_true(reports[i].exact);
            assert_false(reports[i].more);
            by_tables += reports[i].plan == NPHD_PLAN_TABLES ? 1 : 0;
        }
    }
    ask(index, queries, radius, NPHD_PLAN_TABLES, 1, false, NULL, &found);
    check_same(&scanned, &found);
    ask(index, queries, radius, NPHD_PLAN_SCAN, 1, true, NULL, &scanned);
    ask(index, queries, radius, NPHD_PLAN_AUTO, 2, true, NULL, &found);
    check_same(&scanned, &found);
    for (found.most = 1; found.most < scanned.count; found.most = 3 * found.most + 1) {
        ask(index, queries, radius, NPHD_PLAN_AUTO, 2, true, reports, &found);
        assert_int_equal(found.count, found.most);
        size_t counted = 0;
        for (size_t i = 0; i < QUERIES; i++) {
            counted += reports[i].count;
            assert_true(reports[i].more != reports[i].exact);
        }
        assert_int_equal(counted, found.count);
    }
    free(scanned.all);
    free(found.all);
    return by_tables;
}

static void run_kind(content kind, float radius)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;
    nphd_index *view = NULL;
    uint8_t room[BYTES];
    char path[64];

    options.max_bits = 8 * BYTES;
    options.connectivity = 2;
    options.build_breadth = 1;
    OK(nphd_index_create(&options, &index, NULL));
    for (uint64_t i = 0; i < VECTORS; i++) {
        OK(nphd_index_add(index, nphd_key_u64(i), vector_of(kind, i, 0, room), NULL, NULL));
    }
    assert_int_equal(check_all(index, kind, radius), 0);
    OK(nphd_index_prepare(index, 2, NULL));
    assert_true(check_all(index, kind, radius) > 0);
    (void)snprintf(path, sizeof(path), "search_together_%ld.usearch", (long)getpid());
    OK(nphd_index_save(index, path, NULL, NULL));
    OK(nphd_index_restore(path, true, NULL, &view, NULL));
    assert_true(check_all(view, kind, radius) > 0);
    nphd_index_close(view);
    (void)unlink(path);
    for (uint64_t i = 0; i < 150; i++) { /* new rows in slots that the tables know */
        const nphd_key gone = nphd_key_u64(i * 13);
        OK(nphd_index_remove(index, &gone, 1, NULL, NULL));
        OK(nphd_index_add(index, nphd_key_u64(VECTORS + i), vector_of(kind, i * 26, 5, room), NULL,
                          NULL));
    }
    (void)check_all(index, kind, radius);
    nphd_index_close(index);
}

static void test_clusters(void **state)
{
    (void)state;
    run_kind(CLUSTERS, 0.05F);
}

static void test_mixed_lengths(void **state)
{
    (void)state;
    run_kind(MIXED, 0.05F);
}

static void test_alike(void **state)
{
    (void)state;
    run_kind(ALIKE, 0.07F);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_clusters),
                                       cmocka_unit_test(test_mixed_lengths),
                                       cmocka_unit_test(test_alike)};

    seed = test_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
