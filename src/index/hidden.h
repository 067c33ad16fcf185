/* Slots of a sealed index whose entries no longer count, because a newer shard deleted or replaced
 * them. The index itself is not changed: its file keeps them.
 *
 * Threads  any number set and get at once. create and release: nobody else. */
#ifndef NPHDI_HIDDEN_H
#define NPHDI_HIDDEN_H

#include <nphd/allocator.h>
#include <nphd/status.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct nphdi_hidden {
    const nphd_allocator *allocator;
    _Atomic uint64_t *words; /* a bit for each slot */
    uint64_t slots;
    _Atomic uint64_t count; /* bits that are set */
    void *memory;           /* of `words` */
} nphdi_hidden;

nphd_status nphdi_hidden_create(nphdi_hidden *hidden, const nphd_allocator *allocator,
                                uint64_t slots, nphd_error *err);
/* Takes a zero-initialised one. */
void nphdi_hidden_release(nphdi_hidden *hidden);

/* true: it was not hidden yet. `slot` lies below the number given at creation. */
bool nphdi_hidden_set(nphdi_hidden *hidden, uint32_t slot);

/* Slots beyond those of the creation are not hidden. */
static inline bool nphdi_hidden_get(const nphdi_hidden *hidden, uint32_t slot)
{
    return slot < hidden->slots &&
           (atomic_load_explicit(&hidden->words[slot / 64], memory_order_acquire) >> (slot % 64) &
            1) != 0;
}

#endif
