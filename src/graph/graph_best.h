/* The nearest `limit` of a stream of elements, told one by one, and the farthest of them at any
 * time.
 *
 * An element is one word that orders like the result does (nphdi_ranked). Those that are not close
 * to leaving need no order among themselves: they hang in chains, one for each stripe of distances,
 * and only the farthest chain that is not empty lies sorted in `tail`. Taking one in costs the same
 * few steps for any limit, and the sorted outcome falls out of the chains at the end.
 *
 * Once there are `limit` elements: `tail` is not empty and holds all elements of `stripe`; chains
 * from `stripe` on are empty; spare[0 .. tail_count) are the links that no chain uses. */
#ifndef NPHDI_GRAPH_BEST_H
#define NPHDI_GRAPH_BEST_H

#include "base/memory.h"

#include <nphd/status.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Stripes of 1/512 of NPHD, or of four bits: some elements each on real fingerprints. */
#define NPHDI_BEST_STRIPES 513
#define NPHDI_BEST_STRIPES_PER_UNIT 512.0F
#define NPHDI_BEST_STRIPES_PER_BIT 0.25F

/* An element: the bits of its distance, which order like distances do, as none is negative, above
 * the inverted number of its arrival, as later ones go before those of equal distance. */
typedef uint64_t nphdi_ranked;

typedef struct nphdi_best_link {
    nphdi_ranked item;
    uint32_t next;
} nphdi_best_link;

typedef struct nphdi_graph_best {
    nphdi_best_link *links;
    nphdi_ranked *tail; /* ascending */
    uint32_t *spare;
    uint64_t room; /* of each of these */
    uint32_t count;
    uint32_t limit; /* 1 or more */
    uint32_t tail_count;
    uint32_t stripe; /* the farthest in use */
    uint32_t heads[NPHDI_BEST_STRIPES];
} nphdi_graph_best;

nphd_status nphdi_best_prepare(nphdi_graph_best *best, const nphd_allocator *allocator,
                               uint32_t limit, nphd_error *err);
void nphdi_best_free(nphdi_graph_best *best, const nphd_allocator *allocator);

/* Begins anew, with nothing. */
void nphdi_best_start(nphdi_graph_best *best, uint32_t limit);

/* Makes the farthest chain at or below `stripe` the tail. */
void nphdi_best_fill_tail(nphdi_graph_best *best);

/* Puts the elements in ascending order into `out`; nothing can be taken in afterwards. */
void nphdi_best_finish(nphdi_graph_best *best, nphdi_ranked *out);

static inline uint32_t nphdi_distance_order(float distance)
{
    uint32_t order;

    memcpy(&order, &distance, sizeof(order));
    return order;
}

static inline nphdi_ranked nphdi_ranked_of(float distance, uint64_t arrival)
{
    return (uint64_t)nphdi_distance_order(distance) << 32 | (uint32_t)~arrival;
}

static inline uint32_t nphdi_ranked_order(nphdi_ranked item)
{
    return (uint32_t)(item >> 32);
}

static inline float nphdi_ranked_distance(nphdi_ranked item)
{
    const uint32_t order = nphdi_ranked_order(item);
    float distance;

    memcpy(&distance, &order, sizeof(distance));
    return distance;
}

static inline uint32_t nphdi_ranked_arrival(nphdi_ranked item)
{
    return ~(uint32_t)item;
}

static inline bool nphdi_best_is_full(const nphdi_graph_best *best)
{
    return best->count == best->limit;
}

/* Of a full one. */
static inline nphdi_ranked nphdi_best_farthest(const nphdi_graph_best *best)
{
    return best->tail[best->tail_count - 1];
}

/* Inserts into `count` ascending ones; few move. */
static inline void nphdi_ranked_insert(nphdi_ranked *sorted, uint32_t count, nphdi_ranked item)
{
    uint32_t at = count;

    for (; at > 0 && sorted[at - 1] > item; at--) {
        sorted[at] = sorted[at - 1];
    }
    sorted[at] = item;
}

static inline void nphdi_best_chain(nphdi_graph_best *best, uint32_t link, nphdi_ranked item,
                                    uint32_t stripe)
{
    best->links[link].item = item;
    best->links[link].next = best->heads[stripe];
    best->heads[stripe] = link;
}

/* Takes in an element, which is nearer than the farthest if it is full: that one leaves. `stripe`
 * does not fall where the distance rises. */
static inline void nphdi_best_take(nphdi_graph_best *best, nphdi_ranked item, uint32_t stripe)
{
    if (!nphdi_best_is_full(best)) {
        nphdi_best_chain(best, best->count++, item, stripe);
        best->stripe = stripe > best->stripe ? stripe : best->stripe;
        if (nphdi_best_is_full(best)) {
            nphdi_best_fill_tail(best);
        }
        return;
    }
    best->tail_count--;
    if (stripe == best->stripe) {
        nphdi_ranked_insert(best->tail, best->tail_count++, item);
        return;
    }
    nphdi_best_chain(best, best->spare[best->tail_count], item, stripe);
    if (best->tail_count == 0) {
        nphdi_best_fill_tail(best);
    }
}

#endif
