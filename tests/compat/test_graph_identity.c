/* Given the same vectors in the same order and the same levels, our insertion builds the graph of
 * the reference link for link: files whose graphs were built by one thread are built again. */
#include "fixture_text.h"
#include "graph/graph.h"
#include "index/index_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char *const files[] = {"nphd256_n2",       "nphd256_n100",     "nphd256_n1000",
                                    "hamming256_n1000", "hamming256_multi", "nphd256_m32",
                                    "nphd256_edgekeys", "uuid_nphd256_n200"};

static void build_again(const nphdi_content *from, nphdi_graph *graph, uint64_t slots)
{
    const nphdi_rows rows = nphdi_content_rows(from);
    nphdi_graph_scratch scratch;

    memset(&scratch, 0, sizeof(scratch));
    assert_int_equal(nphdi_graph_init(graph, from->allocator, from->shape.connectivity,
                                      from->shape.connectivity_base, NULL),
                     NPHD_OK);
    assert_int_equal(nphdi_graph_reserve(graph, slots, from->graph.upper_count, NULL), NPHD_OK);
    for (uint32_t slot = 0; slot < slots; slot++) {
        nphdi_graph_place(graph, slot, nphdi_graph_level(&from->graph, slot));
        assert_int_equal(nphdi_graph_insert(graph, &rows, from->kernels, slots, slot, false, 128,
                                            &scratch, NULL),
                         NPHD_OK);
    }
    nphdi_graph_scratch_free(&scratch, from->allocator);
}

static void compare_lists(const char *file, const nphdi_graph *expected, const nphdi_graph *built,
                          uint32_t slot, uint32_t level)
{
    _Atomic uint32_t *a = nphdi_graph_list(expected, slot, level);
    _Atomic uint32_t *b = nphdi_graph_list(built, slot, level);

    assert_int_equal(nphdi_list_count(a[0]), nphdi_list_count(b[0]));
    for (uint32_t i = 1; i <= nphdi_graph_room(expected, level); i++) {
        if (a[i] != b[i]) {
            fail_msg("%s: slot %u level %u: word %u is %u, the reference has %u", file, slot, level,
                     i, b[i], a[i]);
        }
    }
}

static void test_same_graph(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        nphd_index *index = NULL;
        nphdi_graph built;
        assert_int_equal(nphd_index_restore(fixture_path(files[i]), false, NULL, &index, NULL),
                         NPHD_OK);
        const nphdi_graph *expected = &index->content->graph;
        const uint64_t slots = nphdi_content_slots(index->content);
        build_again(index->content, &built, slots);
        assert_true(atomic_load(&built.top) == atomic_load(&expected->top));
        for (uint32_t slot = 0; slot < slots; slot++) {
            for (uint32_t level = 0; level <= nphdi_graph_level(expected, slot); level++) {
                compare_lists(files[i], expected, &built, slot, level);
            }
        }
        nphdi_graph_release(&built);
        nphd_index_close(index);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_same_graph)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
