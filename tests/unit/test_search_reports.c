/* What a report says of one query that several threads shared, in an index and in a directory: one
 * plan, the cost that was predicted for one thread, and the time that it took. */
#include "support/io_memory.h"
#include "support/test_random.h"

#include <nphd/nphd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

/* Rows for two workers at least; the shards are far more than the threads. */
enum { VECTORS = 70000, BYTES = 8, SHARDED = 12000, SHARDS = 12, THREADS = 4, MOST = 10 };

static nphd_vector vector_of(uint64_t number, uint8_t *room)
{
    test_random random = {number * 7919 + 3};
    const nphd_vector vector = {room, BYTES};

    test_random_fill(&random, room, BYTES);
    return vector;
}

static float microseconds(void)
{
    static struct timespec first;
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    if (first.tv_sec == 0) {
        first = now;
    }
    return (float)((double)(now.tv_sec - first.tv_sec) * 1e6 +
                   (double)(now.tv_nsec - first.tv_nsec) / 1e3);
}

static int take(void *context, size_t query, const nphd_match *match)
{
    (void)match;
    (void)query;
    ++*(uint64_t *)context;
    return 0;
}

/* As one thread plans it, and measured as it went by: no worker's time counts twice. */
static void check_report(const nphd_search_report *alone, const nphd_search_report *shared,
                         float elapsed)
{
    assert_int_equal(shared->plan, NPHD_PLAN_SCAN);
    assert_int_equal(alone->plan, NPHD_PLAN_SCAN);
    assert_true(shared->predicted > 0 && alone->predicted > 0);
    /* the same work; only planes that were made meanwhile, or a bound known earlier, tell */
    assert_true(shared->predicted > alone->predicted / 4);
    assert_true(shared->predicted < alone->predicted * 4);
    if (!(shared->measured > 0 && shared->measured <= elapsed)) {
        fail_msg("measured %.1f us of %.1f", (double)shared->measured, (double)elapsed);
    }
    assert_true(alone->measured > 0);
    assert_int_equal(alone->count, shared->count);
    assert_true(alone->exact && shared->exact);
}

static void test_index_shared(void **state)
{
    nphd_index_options shape = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;
    nphd_search_report reports[2];
    nphd_match matches[MOST];
    uint8_t room[BYTES];

    (void)state;
    shape.max_bits = 8 * BYTES;
    shape.connectivity = 2;
    shape.build_breadth = 1;
    OK(nphd_index_create(&shape, &index, NULL));
    for (uint64_t i = 0; i < VECTORS; i++) {
        OK(nphd_index_add(index, nphd_key_u64(i), vector_of(i, room), NULL, NULL));
    }
    for (int kind = 0; kind < 3; kind++) { /* nearest, within a radius, all within a radius */
        const nphd_vector query = vector_of(5, room);
        uint64_t taken = 0;
        float elapsed = 0;
        for (uint32_t i = 0; i < 2; i++) {
            nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
            options.mode = NPHD_SEARCH_EXACT;
            options.threads = i == 0 ? 1 : THREADS;
            options.use_radius = kind == 1;
            options.radius = 0.2F;
            const float start = microseconds();
            OK(kind < 2
                   ? nphd_index_search(index, query, MOST, &options, matches, &reports[i], NULL)
                   : nphd_index_radius_stream(index, &query, 1, 0.2F, &options, take, &taken,
                                              &reports[i], NULL));
            elapsed = microseconds() - start;
        }
        check_report(&reports[0], &reports[1], elapsed);
        assert_true(reports[1].count > 0);
    }
    nphd_index_close(index);
}

static void test_directory_shared(void **state)
{
    nphd_sharded_options shape = NPHD_SHARDED_OPTIONS_INIT;
    nphd_sharded *sharded = NULL;
    memory_io *disk = memory_io_create(0);
    nphd_search_report reports[2];
    nphd_match matches[MOST];
    uint8_t room[BYTES];

    (void)state;
    shape.io = memory_io_table(disk);
    shape.max_bits = 8 * BYTES;
    shape.connectivity = 2;
    shape.build_breadth = 1;
    OK(nphd_sharded_open("d", &shape, &sharded, NULL));
    for (uint64_t i = 0; i < SHARDED; i++) {
        OK(nphd_sharded_add(sharded, nphd_key_u64(i), vector_of(i, room), NULL, NULL));
        if (i % (SHARDED / SHARDS) == SHARDED / SHARDS - 1) {
            OK(nphd_sharded_rotate(sharded, NULL));
        }
    }
    for (int kind = 0; kind < 2; kind++) {
        const nphd_vector query = vector_of(5, room);
        uint64_t taken = 0;
        float elapsed = 0;
        for (uint32_t i = 0; i < 2; i++) {
            nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
            options.mode = NPHD_SEARCH_EXACT;
            options.threads = i == 0 ? 1 : THREADS;
            const float start = microseconds();
            OK(kind == 0
                   ? nphd_sharded_search(sharded, query, MOST, &options, matches, &reports[i], NULL)
                   : nphd_sharded_radius_stream(sharded, &query, 1, 0.2F, &options, take, &taken,
                                                &reports[i], NULL));
            elapsed = microseconds() - start;
        }
        check_report(&reports[0], &reports[1], elapsed);
    }
    OK(nphd_sharded_close(sharded, NULL));
    nphd_sharded_free(sharded);
    memory_io_destroy(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_index_shared),
                                       cmocka_unit_test(test_directory_shared)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
