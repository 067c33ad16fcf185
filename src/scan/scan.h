/* Exact search: compare the query with every row and keep the nearest.
 *
 * Order is total: distance as an exact fraction, then key. Rows are decided by integer comparison:
 * for each number of shared bytes there is a largest number of differing bits that can still be an
 * answer, and that table shrinks as better answers are found. */
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
} nphdi_scan_match;

/* The nearest so far: a heap with the worst on top. Memory is the caller's. */
typedef struct nphdi_scan_best {
    nphdi_scan_match *matches;
    uint64_t capacity;
    uint64_t count;
    uint16_t limit[256]; /* by shared bytes: most differing bits that may enter */
} nphdi_scan_best;

typedef struct nphdi_scan_target {
    nphdi_query query;
    nphdi_rows rows;
    const nphdi_kernels *kernels;
    /* May this slot be an answer, and under which key? Asked only of rows near enough. */
    bool (*accept)(void *context, uint32_t slot, nphd_key *out_key);
    void *context;
} nphdi_scan_target;

/* Empty, accepting every distance. */
void nphdi_scan_begin(nphdi_scan_best *best, nphdi_scan_match *matches, uint64_t capacity);

/* Accept only distances whose f32 value is at most `radius`; in bits where `hamming`. */
void nphdi_scan_limit_radius(nphdi_scan_best *best, float radius, bool hamming);

/* Puts a match in, unless it is full of nearer ones; whether it did. Does not look at the limits,
 * and leaves them as they are. */
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

/* Below 0, 0, above 0: order by distance, then key. */
int nphdi_scan_compare(const nphdi_scan_match *a, const nphdi_scan_match *b);

#endif
