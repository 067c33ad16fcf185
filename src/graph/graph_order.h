/* Sorting a list of links that has one more than there is room for.
 *
 * Most of it has been sorted: selecting writes links by ascending distance, and later ones are
 * added at the end. Of that part only the order among equal distances, which is by falling place,
 * is not yet that of the result; it is turned around without branches, as ties are beyond
 * prediction. */
#ifndef NPHDI_GRAPH_ORDER_H
#define NPHDI_GRAPH_ORDER_H

#include "graph/graph_best.h"

#include <stdbool.h>
#include <stdint.h>

/* Places 1..count into out[0..count), if their distances ascend; returns whether they do. `starts`
 * has room for them. */
static inline bool nphdi_order_sorted(const float *distances, uint32_t count, uint32_t *starts,
                                      nphdi_ranked *out)
{
    uint32_t start = 1; /* the first place of this distance */
    uint32_t end = count;
    bool falls = false;

    for (uint32_t i = 1; i <= count; i++) {
        const uint32_t order = nphdi_distance_order(distances[i]);
        const uint32_t before = i > 1 ? nphdi_distance_order(distances[i - 1]) : order;
        start = order != before ? i : start;
        falls |= order < before;
        starts[i - 1] = start;
    }
    if (falls) {
        return false;
    }
    for (uint32_t i = count; i > 0; i--) {
        const uint32_t first = starts[i - 1];
        out[first + end - i - 1] = nphdi_ranked_of(distances[i], i);
        end = first == i ? i - 1 : end;
    }
    return true;
}

/* Sorts the places 0..count-1 by distance, a later one before those of equal distance; a place is
 * the arrival in nphdi_ranked. Places 1..sorted (below count) are likely to be in order. */
static inline void nphdi_order_list(const float *distances, uint32_t count, uint32_t sorted,
                                    uint32_t *starts, nphdi_ranked *out)
{
    const uint32_t done = nphdi_order_sorted(distances, sorted, starts, out) ? sorted : 0;

    nphdi_ranked_insert(out, done, nphdi_ranked_of(distances[0], 0));
    for (uint32_t i = done + 1; i < count; i++) {
        nphdi_ranked_insert(out, i, nphdi_ranked_of(distances[i], i));
    }
}

#endif
