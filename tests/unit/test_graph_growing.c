/* What a walk sees of a graph that other threads are changing, posed by hand: a count of slots that
 * is older than the entry and the links, and a list that is being shortened; and walks that look
 * ahead. */
#include "graph/graph.h"
#include "index/index_internal.h"
#include "support/test_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { SLOTS = 1000, KNOWN = 10, BREADTH = 16 };

static nphd_index *built_index(test_random *random)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;

    options.connectivity = 2; /* half of the slots are on level 1, a quarter on level 2 */
    assert_int_equal(nphd_index_create(&options, &index, NULL), NPHD_OK);
    for (uint64_t key = 0; key < SLOTS; key++) {
        uint8_t bytes[32];
        const nphd_vector vector = {bytes, sizeof(bytes)};
        for (size_t i = 0; i < sizeof(bytes); i++) {
            bytes[i] = (uint8_t)test_random_next(random);
        }
        assert_int_equal(nphd_index_add(index, nphd_key_u64(key), vector, NULL, NULL), NPHD_OK);
    }
    return index;
}

/* The entry and most links are newer than the slots that the walk knows of. */
static void test_older_count(void **state)
{
    test_random random = {test_seed()};
    nphd_index *index = built_index(&random);
    nphdi_content *content = index->content;
    const nphdi_graph_reader reader = nphdi_graph_reader_of(&content->graph, KNOWN);
    const nphdi_rows rows = nphdi_content_rows(content);
    nphdi_graph_scratch scratch;

    (void)state;
    assert_true(reader.entry >= KNOWN);
    assert_true(reader.slots > reader.entry);
    memset(&scratch, 0, sizeof(scratch));
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        const nphdi_graph_target target = {nphdi_rows_query(&rows, slot), rows, content->kernels,
                                           NULL, NULL};
        assert_int_equal(
            nphdi_graph_search(&reader, &target, BREADTH, &scratch, content->allocator, NULL),
            NPHD_OK);
        assert_true(scratch.best_count > 0);
        for (uint64_t i = 0; i < scratch.best_count; i++) {
            assert_true(scratch.best_slots[i] < scratch.seen.slots);
            assert_true(scratch.best_distances[i] ==
                        nphdi_graph_measure(&target, scratch.best_slots[i]));
        }
        uint32_t start = reader.entry;
        assert_int_equal(
            nphdi_graph_descend(&reader, &target, reader.max_level, 0, &scratch, &start), NPHD_OK);
        assert_true(start < reader.slots);
    }
    nphdi_graph_scratch_free(&scratch, content->allocator);
    nphd_index_close(index);
}

/* The count is still the old one, the links given up are zero already. */
static void test_shortened_list(void **state)
{
    test_random random = {test_seed()};
    nphd_index *index = built_index(&random);
    nphdi_content *content = index->content;
    nphdi_graph *graph = &content->graph;
    const nphdi_graph_reader reader = nphdi_graph_reader_of(graph, SLOTS);
    _Atomic uint32_t buffer[16];
    uint32_t lists = 0;

    (void)state;
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        for (uint32_t level = nphdi_graph_level(graph, 0) + 1;
             level <= nphdi_graph_level(graph, slot); level++) {
            _Atomic uint32_t *list = nphdi_graph_list(graph, slot, level);
            const uint32_t count = nphdi_list_count(atomic_load(&list[0]));
            const _Atomic uint32_t *links = NULL;
            if (count == 0) {
                continue;
            }
            atomic_store(&list[count], 0);
            assert_int_equal(reader.links(reader.store, slot, level, buffer, &links), count - 1);
            for (uint32_t i = 0; i + 1 < count; i++) {
                assert_true(nphdi_graph_level(graph, atomic_load(&links[i])) >= level);
            }
            lists++;
        }
    }
    assert_true(lists > SLOTS / 8);
    nphd_index_close(index);
}

/* Looking ahead changes nothing in what is found. */
static void test_looking_ahead(void **state)
{
    test_random random = {test_seed()};
    nphd_index *index = built_index(&random);
    nphdi_content *content = index->content;
    nphdi_graph *graph = &content->graph;
    const nphdi_rows rows = nphdi_content_rows(content);
    nphdi_graph_reader readers[2];
    nphdi_graph_scratch scratches[2];

    (void)state;
    memset(scratches, 0, sizeof(scratches));
    for (uint32_t ahead = 0; ahead < 2; ahead++) {
        graph->ahead_bytes = ahead == 0 ? UINT64_MAX : 0;
        readers[ahead] = nphdi_graph_reader_of(graph, SLOTS);
        assert_true((readers[ahead].prefetch_linked != NULL) == (ahead == 1));
    }
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        const nphdi_graph_target target = {nphdi_rows_query(&rows, slot), rows, content->kernels,
                                           NULL, NULL};
        for (uint32_t ahead = 0; ahead < 2; ahead++) {
            assert_int_equal(nphdi_graph_search(&readers[ahead], &target, BREADTH,
                                                &scratches[ahead], content->allocator, NULL),
                             NPHD_OK);
        }
        assert_int_equal(scratches[0].best_count, BREADTH);
        assert_int_equal(scratches[1].best_count, BREADTH);
        assert_memory_equal(scratches[0].best_slots, scratches[1].best_slots,
                            BREADTH * sizeof(uint32_t));
        assert_int_equal(scratches[0].computed, scratches[1].computed);
    }
    nphdi_graph_scratch_free(&scratches[0], content->allocator);
    nphdi_graph_scratch_free(&scratches[1], content->allocator);
    nphd_index_close(index);
}

typedef struct beside {
    nphd_index *index;
    test_random random;
    atomic_bool done;
    nphd_status adding;
    nphd_status searching;
} beside;

/* Worker 0 adds, the others search what is there. */
static void add_and_search(void *context, uint32_t worker)
{
    beside *self = context;
    test_random random = {self->random.state + worker};
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_match matches[4];
    nphd_search_report report;
    uint8_t bytes[32];
    const nphd_vector vector = {bytes, sizeof(bytes)};

    options.mode = NPHD_SEARCH_APPROXIMATE;
    options.breadth = BREADTH;
    for (uint64_t key = 0; worker == 0 ? key < SLOTS : !atomic_load(&self->done); key++) {
        for (size_t i = 0; i < sizeof(bytes); i++) {
            bytes[i] = (uint8_t)test_random_next(&random);
        }
        nphd_status *status = worker == 0 ? &self->adding : &self->searching;
        const nphd_status now =
            worker == 0
                ? nphd_index_add(self->index, nphd_key_u64(key), vector, NULL, NULL)
                : nphd_index_search(self->index, vector, 4, &options, matches, &report, NULL);
        *status = now != NPHD_OK ? now : *status;
    }
    if (worker == 0) {
        atomic_store(&self->done, true);
    }
}

/* A walk reads ahead in lists that are being written: the thread sanitizer looks on. */
static void test_ahead_while_growing(void **state)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index_stats stats = NPHD_INDEX_STATS_INIT;
    beside both = {NULL, {test_seed()}, false, NPHD_OK, NPHD_OK};

    (void)state;
    assert_int_equal(nphd_index_create(&options, &both.index, NULL), NPHD_OK);
    both.index->content->graph.ahead_bytes = 0;
    nphdi_threads_run(2, add_and_search, &both);
    assert_int_equal(both.adding, NPHD_OK);
    assert_int_equal(both.searching, NPHD_OK);
    assert_int_equal(nphd_index_get_stats(both.index, &stats, NULL), NPHD_OK);
    assert_int_equal(stats.size, SLOTS);
    nphd_index_close(both.index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_older_count), cmocka_unit_test(test_shortened_list),
        cmocka_unit_test(test_looking_ahead), cmocka_unit_test(test_ahead_while_growing)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
