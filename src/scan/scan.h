/* Exact search: taking matches, and comparing the query with every row.
 *
 * Whoever enumerates vectors (rows here, planes in planes.h) asks the taker how near one has to be,
 * fills in a match for each that is near enough, and adds it. What becomes of it is the taker's: it
 * keeps the nearest, or hands each on.
 *
 * Order is total: distance as an exact fraction, then key, then variant. Vectors are decided by
 * integer comparison: for each number of shared bytes there is a largest number of differing bits
 * that can still be an answer, and that table shrinks as better answers are found. */
#ifndef NPHDI_SCAN_H
#define NPHDI_SCAN_H

#include "kernels/kernels.h"

#include <nphd/vector.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct nphdi_scan_match {
    nphd_key key;
    nphdi_bits bits;
    uint32_t slot;
    uint32_t variant; /* of the query: the nearest one */
} nphdi_scan_match;

/* May this slot be an answer? Slot and bits are given; sets key and variant. Asked only of vectors
 * near enough. */
typedef bool (*nphdi_scan_accept)(void *context, nphdi_scan_match *match);

/* Takes matches: a heap of the nearest so far, the worst on top, in memory of the caller; or, with
 * a sink, none are kept. Several enumerations, one after the other, may share one. */
typedef struct nphdi_scan_best {
    nphdi_scan_match *matches;
    uint64_t capacity;
    uint64_t count;
    bool (*sink)(void *context, const nphdi_scan_match *match); /* NULL: the heap. false: enough */
    void *sink_context;
    bool any;            /* the first match is enough */
    bool ended;          /* it was enough: whoever enumerates stops soon */
    uint32_t changes;    /* counts what nphdi_scan_bound() and `ended` may depend on */
    uint16_t limit[256]; /* by shared bytes: most differing bits that may enter */
} nphdi_scan_best;

typedef struct nphdi_scan_target {
    nphdi_query query;
    nphdi_rows rows;
    const nphdi_kernels *kernels;
    nphdi_scan_accept accept;
    void *context;
} nphdi_scan_target;

/* Empty, accepting every distance; a heap of 1 or more matches. */
void nphdi_scan_begin(nphdi_scan_best *best, nphdi_scan_match *matches, uint64_t capacity);

/* The same for a sink. Its limits stay as they are, and it needs no memory. */
void nphdi_scan_begin_sink(nphdi_scan_best *best,
                           bool (*sink)(void *context, const nphdi_scan_match *match),
                           void *context);

/* Accept only distances whose f32 value is at most `radius`; in bits where `hamming`. */
void nphdi_scan_limit_radius(nphdi_scan_best *best, float radius, bool hamming);

/* Takes an accepted match, unless the heap is full of nearer ones; whether it did. Does not look at
 * the limits, and leaves them as they are. */
bool nphdi_scan_add(nphdi_scan_best *best, const nphdi_scan_match *match);

/* The most differing bits of `shared` bytes that may enter now; equal distances go on to the keys.
 */
static inline uint32_t nphdi_scan_bound(const nphdi_scan_best *best, uint32_t shared)
{
    const uint32_t limit = best->limit[shared];

    if (best->count < best->capacity) {
        return limit;
    }
    const nphdi_bits worst = best->matches[0].bits;
    const uint32_t most = worst.shared == 0 ? 0 : (uint32_t)worst.differing * shared / worst.shared;
    return most < limit ? most : limit;
}

/* Rows first .. first+count-1. */
void nphdi_scan_rows(const nphdi_scan_target *target, uint64_t first, uint64_t count,
                     nphdi_scan_best *best);

/* Adds what another heap found. */
void nphdi_scan_merge(nphdi_scan_best *best, const nphdi_scan_best *other);

/* Sorts the matches nearest first; the heap is then a plain array. */
void nphdi_scan_finish(nphdi_scan_best *best);

/* Below 0, 0, above 0: order by distance. Nothing shared counts as distance 0. */
static inline int nphdi_scan_compare_bits(nphdi_bits a, nphdi_bits b)
{
    /* a/sa < b/sb as a*sb < b*sa */
    const uint32_t left = (uint32_t)a.differing * (b.shared == 0 ? 1U : b.shared);
    const uint32_t right = (uint32_t)b.differing * (a.shared == 0 ? 1U : a.shared);

    return left == right ? 0 : left < right ? -1 : 1;
}

/* The same by distance, then key, then variant. */
int nphdi_scan_compare(const nphdi_scan_match *a, const nphdi_scan_match *b);

#endif
