/* The parts of a beam search that have a naive form: which comparisons are
 * nearer than a bound, the nearest of a stream, the heap of candidates, the order
 * of a list, and the marks of slots seen, as bytes and as bits. */
#include "graph/graph.h"
#include "graph/graph_order.h"
#include "support/allocator_fault.h"
#include "support/test_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { ROUNDS = 2000, MOST = 400 };

static uint64_t seed;

static nphdi_bits random_bits(test_random *random)
{
    const uint64_t shared = test_random_below(random, 4) == 0 ? test_random_below(random, 3)
                                                              : test_random_below(random, 256);
    const nphdi_bits bits = {(uint16_t)test_random_below(random, 8 * shared + 1), (uint16_t)shared};

    return bits;
}

static void test_nearer(void **state)
{
    test_random random = {seed};

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        nphdi_bits bits[NPHDI_NEARER_MOST];
        const uint32_t count = 1 + (uint32_t)test_random_below(&random, NPHDI_NEARER_MOST);
        uint64_t expected = 0;
        for (uint32_t i = 0; i < NPHDI_NEARER_MOST; i++) {
            bits[i] = random_bits(&random);
        }
        /* at times a bound that ties with one of them */
        const nphdi_bits bound = round % 2 == 0 ? bits[0] : random_bits(&random);
        for (uint32_t i = 0; i < count; i++) {
            expected |= (uint64_t)(nphdi_bits_distance(bits[i]) < nphdi_bits_distance(bound)) << i;
        }
        assert_true(nphdi_bits_nearer(bits, count, bound) == expected);
    }
}

static int compare_ranked(const void *left, const void *right)
{
    const nphdi_ranked a = *(const nphdi_ranked *)left;
    const nphdi_ranked b = *(const nphdi_ranked *)right;

    return (a > b) - (a < b);
}

/* Of a stream those are told that are nearer than the farthest, as a search
 * does. */
static void check_best(test_random *random, nphdi_graph_best *best, uint32_t limit, uint32_t spread)
{
    nphdi_ranked all[MOST];
    nphdi_ranked found[MOST];
    uint32_t told = 0;

    nphdi_best_start(best, limit);
    for (uint32_t i = 0; i < MOST; i++) {
        const uint64_t differing = test_random_below(random, spread);
        const float distance = (float)differing / 4096.0F;
        const nphdi_ranked item = nphdi_ranked_of(distance, i);
        if (nphdi_best_is_full(best)) {
            qsort(all, told, sizeof(*all), compare_ranked);
            assert_true(nphdi_best_farthest(best) == all[limit - 1]);
            if (nphdi_ranked_order(item) >= nphdi_ranked_order(all[limit - 1])) {
                continue;
            }
        }
        all[told++] = item;
        nphdi_best_take(best, item, (uint32_t)(distance * NPHDI_BEST_STRIPES_PER_UNIT));
    }
    qsort(all, told, sizeof(*all), compare_ranked);
    assert_int_equal(best->count, told < limit ? told : limit);
    nphdi_best_finish(best, found);
    for (uint32_t i = 0; i < best->count; i++) {
        assert_true(found[i] == all[i]);
    }
}

static void test_best(void **state)
{
    test_random random = {seed};
    allocator_fault allocator;
    nphdi_graph_best best;

    (void)state;
    allocator_fault_init(&allocator);
    memset(&best, 0, sizeof(best));
    for (int round = 0; round < ROUNDS / 50; round++) {
        const uint32_t limit = 1 + (uint32_t)test_random_below(&random, MOST);
        assert_int_equal(nphdi_best_prepare(&best, &allocator.table, limit, NULL), NPHD_OK);
        check_best(&random, &best, limit, 4097);
        check_best(&random, &best, limit, 3);
        check_best(&random, &best, limit < 5 ? limit : 5, 40);
    }
    nphdi_best_free(&best, &allocator.table);
    assert_true(allocator_fault_is_clean(&allocator));
    allocator_fault_destroy(&allocator);
}

/* The heap of the textbook, whose order among equals is the one wanted. */
static void naive_push(nphdi_candidate *heap, uint64_t count, nphdi_candidate item)
{
    uint64_t at = count;

    for (heap[at] = item; at > 0 && heap[(at - 1) / 2] >> 32 > item >> 32; at = (at - 1) / 2) {
        heap[at] = heap[(at - 1) / 2];
        heap[(at - 1) / 2] = item;
    }
}

static nphdi_candidate naive_pop(nphdi_candidate *heap, uint64_t count)
{
    const nphdi_candidate top = heap[0];
    const nphdi_candidate item = heap[count - 1];
    uint64_t at = 0;

    for (;;) {
        uint64_t child = 2 * at + 1;
        if (child + 1 < count - 1 && heap[child + 1] >> 32 < heap[child] >> 32) {
            child++;
        }
        if (child >= count - 1 || heap[child] >> 32 >= item >> 32) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = item;
    return top;
}

static void test_heap(void **state)
{
    test_random random = {seed};
    nphdi_candidate heap[MOST];
    nphdi_candidate naive[MOST];

    (void)state;
    for (int round = 0; round < ROUNDS / 10; round++) {
        /* few distances tie all the time, and 0 is the least order that there is */
        const uint64_t spread = round % 2 == 0 ? 5 : 1000;
        uint64_t count = 0;
        for (uint32_t i = 0; i < 4 * MOST; i++) {
            const bool push = count == 0 || (count < MOST && test_random_below(&random, 5) < 3);
            if (push) {
                const float distance = (float)test_random_below(&random, spread) / 1000.0F;
                const nphdi_candidate item = nphdi_candidate_of(distance, i);
                nphdi_heap_push(heap, count, item);
                naive_push(naive, count++, item);
            } else {
                const nphdi_candidate expected = naive_pop(naive, count);
                assert_true(nphdi_heap_pop(heap, count--) == expected);
            }
            assert_memory_equal(heap, naive, count * sizeof(*heap));
        }
    }
}

static void test_order(void **state)
{
    enum { LONGEST = 70 };
    test_random random = {seed};

    (void)state;
    for (int round = 0; round < ROUNDS; round++) {
        float distances[LONGEST];
        uint32_t starts[LONGEST];
        nphdi_ranked expected[LONGEST];
        nphdi_ranked found[LONGEST];
        const uint32_t count = 1 + (uint32_t)test_random_below(&random, LONGEST);
        const uint32_t sorted = (uint32_t)test_random_below(&random, count);
        const uint64_t spread = round % 2 == 0 ? 6 : 500;
        for (uint32_t i = 0; i < count; i++) {
            distances[i] = (float)test_random_below(&random, spread) / 500.0F;
        }
        /* it is only said to be sorted: at times it is not */
        for (uint32_t i = 2; i <= sorted && round % 5 != 0; i++) {
            for (uint32_t j = i; j > 1 && distances[j] < distances[j - 1]; j--) {
                const float moved = distances[j];
                distances[j] = distances[j - 1];
                distances[j - 1] = moved;
            }
        }
        for (uint32_t i = 0; i < count; i++) {
            expected[i] = nphdi_ranked_of(distances[i], i);
        }
        qsort(expected, count, sizeof(*expected), compare_ranked);
        nphdi_order_list(distances, count, sorted, starts, found);
        assert_memory_equal(found, expected, count * sizeof(*found));
    }
}

static void check_seen(test_random *random, nphdi_graph_seen *seen, uint64_t slots)
{
    /* asked for ahead and not read: any address will do */
    const nphdi_rows rows = {(const uint8_t *)seen, 33, 32, 1};
    uint32_t marked[MOST];
    uint32_t count = 0;

    for (int search = 0; search < 600; search++) {
        /* a number comes back after 255 searches, to slots that nobody met in between */
        const uint64_t apart = search % 255 == 0 ? 200 : 0;
        nphdi_seen_start(seen, marked, count);
        count = 0;
        for (int list = 0; list < 10; list++) {
            _Atomic uint32_t links[32];
            uint32_t naive = count;
            uint32_t expected[MOST];
            memcpy(expected, marked, sizeof(marked));
            for (uint32_t i = 0; i < 32; i++) {
                const uint32_t slot = (uint32_t)test_random_below(random, 100);
                /* near each other at the end, and one beyond it */
                links[i] = slot == 0 ? UINT32_MAX : (uint32_t)(slots - apart - slot);
                bool known = slot == 0;
                for (uint32_t j = 0; j < naive && !known; j++) {
                    known = expected[j] == links[i];
                }
                expected[naive] = links[i];
                naive += known ? 0 : 1;
            }
            count += nphdi_seen_add(seen, &rows, links, 32, marked + count);
            assert_int_equal(count, naive);
            assert_memory_equal(marked, expected, count * sizeof(*marked));
        }
    }
}

static void test_seen(void **state)
{
    static const uint64_t slots[] = {1000, NPHDI_SEEN_BYTES_SLOTS, NPHDI_SEEN_BYTES_SLOTS + 1};
    test_random random = {seed};
    allocator_fault allocator;

    (void)state;
    allocator_fault_init(&allocator);
    for (size_t i = 0; i < sizeof(slots) / sizeof(slots[0]); i++) {
        nphdi_graph_seen seen;
        memset(&seen, 0, sizeof(seen));
        assert_int_equal(nphdi_seen_prepare(&seen, &allocator.table, slots[i], NULL), NPHD_OK);
        check_seen(&random, &seen, slots[i]);
        nphdi_seen_free(&seen, &allocator.table);
    }
    assert_true(allocator_fault_is_clean(&allocator));
    allocator_fault_destroy(&allocator);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_nearer), cmocka_unit_test(test_best),
                                       cmocka_unit_test(test_heap), cmocka_unit_test(test_order),
                                       cmocka_unit_test(test_seen)};

    seed = test_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
