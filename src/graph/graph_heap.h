/* The slots that a beam search has yet to expand: a binary heap, nearest first.
 *
 * Its order among equal distances is part of the result (docs/format.md section 3): an item rises
 * only over parents that are strictly farther away, and the last item, when the top leaves, sinks
 * along the left children but for right ones that are strictly nearer. How far an item rises, a
 * processor cannot predict, and in that a search spends much of its time: the first levels are done
 * without a branch. By callgrind that takes 600 of 2,080 wrong predictions from an insert. */
#ifndef NPHDI_GRAPH_HEAP_H
#define NPHDI_GRAPH_HEAP_H

#include "graph/graph_best.h"

#include <stdint.h>

/* A slot to expand, in one word: the bits of its distance (which order like the floats do, as none
 * is negative) above the slot. Two halves written apart and read together would stall the load. */
typedef uint64_t nphdi_candidate;

/* Of what is put in, 87 % rises by fewer than 4 levels; of what is moved to a leaf, most by none.
 */
#define NPHDI_HEAP_PUSH_LEVELS 4
#define NPHDI_HEAP_POP_LEVELS 2

static inline nphdi_candidate nphdi_candidate_of(float distance, uint32_t slot)
{
    return (uint64_t)nphdi_distance_order(distance) << 32 | slot;
}

static inline uint32_t nphdi_candidate_order(nphdi_candidate candidate)
{
    return (uint32_t)(candidate >> 32);
}

static inline uint32_t nphdi_candidate_slot(nphdi_candidate candidate)
{
    return (uint32_t)candidate;
}

/* Puts an item into the hole at `at`, or higher: over all parents that are not below `least`. */
static inline void nphdi_heap_rise(nphdi_candidate *heap, uint64_t at, nphdi_candidate item,
                                   nphdi_candidate least, uint32_t levels)
{
    if (at >= ((uint64_t)1 << levels) - 1) {
        /* what does not go into the hole is carried on: the item, or, once it has found its place,
         * the parents, each into its own place again */
        for (uint32_t i = 0; i < levels; i++) {
            const uint64_t up = (at - 1) / 2;
            const nphdi_candidate parent = heap[up];
            const nphdi_candidate swap = (parent ^ item) & -(uint64_t)(parent >= least);
            heap[at] = item ^ swap;
            item = parent ^ swap;
            at = up;
        }
    }
    while (at > 0 && heap[(at - 1) / 2] >= least) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = item;
}

/* `heap` has room for one more than `count`. */
static inline void nphdi_heap_push(nphdi_candidate *heap, uint64_t count, nphdi_candidate item)
{
    const nphdi_candidate farther = (item | UINT32_MAX) + 1;

    nphdi_heap_rise(heap, count, item, farther, NPHDI_HEAP_PUSH_LEVELS);
}

/* Takes the top from `count`, 1 or more. The hole left by it sinks to a leaf along the nearer
 * children, then the last item rises into its place: the same heap as sinking the item from the
 * top, with one comparison a level less. */
static inline nphdi_candidate nphdi_heap_pop(nphdi_candidate *heap, uint64_t count)
{
    const nphdi_candidate top = heap[0];
    const uint64_t last = count - 1;
    const nphdi_candidate item = heap[last];
    const nphdi_candidate as_far = item & ~(uint64_t)UINT32_MAX;
    uint64_t at = 0;
    uint64_t child = 1;

    while (child + 1 < last) {
        child +=
            nphdi_candidate_order(heap[child + 1]) < nphdi_candidate_order(heap[child]) ? 1 : 0;
        heap[at] = heap[child];
        at = child;
        child = 2 * at + 1;
    }
    if (child < last) {
        heap[at] = heap[child];
        at = child;
    }
    nphdi_heap_rise(heap, at, item, as_far, NPHDI_HEAP_POP_LEVELS);
    return top;
}

#endif
