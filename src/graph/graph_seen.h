/* Which slots a beam search has met: marks that are read and written for each link, without
 * branches on what is new, which nothing could predict.
 *
 * A mark is a byte that holds the number of the search: few instructions, and nothing to clear but
 * once in 255 searches. Where the bytes would not stay in the cache it is a bit, at an eighth of
 * the memory; those set are cleared before the next search. By bench_index bytes make adding 8 %
 * faster, and, spread out as if there were 6 million rows, searching a quarter slower. */
#ifndef NPHDI_GRAPH_SEEN_H
#define NPHDI_GRAPH_SEEN_H

#include "base/memory.h"
#include "kernels/kernels.h"

#include <nphd/status.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

/* Bytes up to here, which caches of the second level hold; bits beyond. */
#define NPHDI_SEEN_BYTES_SLOTS ((uint64_t)1 << 20)

/* Zero-initialise. */
typedef struct nphdi_graph_seen {
    uint8_t *numbers; /* one of the two, for `slots` slots */
    uint64_t *bits;
    uint64_t slots;
    uint8_t number; /* of this search; 1..255 */
} nphdi_graph_seen;

/* Makes room for `slots` slots and some more; clears all marks if there was not enough. */
nphd_status nphdi_seen_prepare(nphdi_graph_seen *seen, const nphd_allocator *allocator,
                               uint64_t slots, nphd_error *err);
void nphdi_seen_free(nphdi_graph_seen *seen, const nphd_allocator *allocator);

/* Begins a search: nothing is seen. `marked` are the slots of the one before. */
static inline void nphdi_seen_start(nphdi_graph_seen *seen, const uint32_t *marked, uint64_t count)
{
    if (seen->bits != NULL) {
        for (uint64_t i = 0; i < count; i++) {
            seen->bits[marked[i] / 64] = 0;
        }
    } else if (++seen->number == 0) {
        memset(seen->numbers, 0, seen->slots);
        seen->number = 1;
    }
}

/* Marks the links and copies those that are new to `out`; returns how many. Links to slots beyond
 * the last, which another thread added after this search began, are passed over. The rows of the
 * others are started on their way to the cache; of those known as well, as telling them apart would
 * cost more, in a second loop whose end is as unpredictable as that of the first. */
static inline uint32_t nphdi_seen_add(const nphdi_graph_seen *seen, const nphdi_rows *rows,
                                      const _Atomic uint32_t *links, uint32_t count, uint32_t *out)
{
    uint32_t *fresh = out;
    const uint64_t slots = seen->slots;
    const nphdi_rows local = *rows; /* which writing marks cannot change */

    if (seen->bits != NULL) {
        uint64_t *bits = seen->bits;
        for (uint32_t i = 0; i < count; i++) {
            const uint32_t slot = atomic_load_explicit(&links[i], memory_order_acquire);
            if (slot >= slots) {
                continue;
            }
            nphdi_rows_prefetch(&local, slot);
            const uint64_t word = bits[slot / 64];
            bits[slot / 64] = word | 1ULL << (slot % 64);
            *fresh = slot;
            fresh += ~(word >> (slot % 64)) & 1;
        }
    } else {
        uint8_t *numbers = seen->numbers;
        const uint8_t number = seen->number;
        for (uint32_t i = 0; i < count; i++) {
            const uint32_t slot = atomic_load_explicit(&links[i], memory_order_acquire);
            if (slot >= slots) {
                continue;
            }
            nphdi_rows_prefetch(&local, slot);
            const uint8_t before = numbers[slot];
            numbers[slot] = number;
            *fresh = slot;
            fresh += before != number ? 1 : 0;
        }
    }
    return (uint32_t)(fresh - out);
}

#endif
