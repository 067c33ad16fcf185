/* Which slots are in use: a bit for each, and above them two levels of bits that tell which words
 * are full, so that the next free slot is found without a walk over all that are not free.
 *
 * Threads: one at a time (the content's slot lock). */
#ifndef NPHDI_USED_SLOTS_H
#define NPHDI_USED_SLOTS_H

#include <nphd/allocator.h>
#include <nphd/status.h>
#include <stdint.h>

#define NPHDI_USED_LEVELS 3

/* Zero-initialise: no slot is in use, and there is room for none. */
typedef struct nphdi_used_slots {
    uint64_t *levels[NPHDI_USED_LEVELS]; /* in one block of memory, the slots first */
    uint64_t room;                       /* slots */
} nphdi_used_slots;

/* Room for slots below `slots`; new ones are free. Unchanged on failure. */
nphd_status nphdi_used_slots_reserve(nphdi_used_slots *used, const nphd_allocator *allocator,
                                     uint64_t slots, nphd_error *err);
void nphdi_used_slots_release(nphdi_used_slots *used, const nphd_allocator *allocator);

void nphdi_used_slots_set(nphdi_used_slots *used, uint64_t slot);
void nphdi_used_slots_clear(nphdi_used_slots *used, uint64_t slot);
void nphdi_used_slots_clear_all(nphdi_used_slots *used);

/* The first free slot at or after `from`, or `room` if there is none. */
uint64_t nphdi_used_slots_next_free(const nphdi_used_slots *used, uint64_t from);

uint64_t nphdi_used_slots_bytes(const nphdi_used_slots *used);

#endif
