/* Which change of each key is the last one of a stretch of journals, so that only that one is
 * applied: the state is the same as after all of them, in order.
 *
 * Changes are numbered. An add counts only where its key is absent: one behind a removal takes the
 * place of what may have been there before that, one behind another add or replacement changes
 * nothing. One thread at a time. */
#ifndef NPHDI_JOURNAL_LAST_H
#define NPHDI_JOURNAL_LAST_H

#include "formats/journal_format.h"

#include <nphd/allocator.h>

typedef struct nphdi_last_change {
    nphd_key key;
    uint64_t number; /* of the change that counts */
    uint32_t kind;   /* and as what it is applied; NPHDI_JOURNAL_UNKNOWN: a free place */
} nphdi_last_change;

/* Zero-initialise with allocator and seed set. */
typedef struct nphdi_last {
    const nphd_allocator *allocator;
    uint64_t seed; /* of the hash: random, as the keys may be chosen */
    nphdi_last_change *places;
    uint64_t room; /* a power of two, or 0 */
    uint64_t count;
} nphdi_last;

/* `kind` is that of an add, a replacement or a removal; numbers ascend. */
nphd_status nphdi_last_note(nphdi_last *last, nphdi_journal_kind kind, nphd_key key,
                            uint64_t number, nphd_error *err);
/* Does this change count? As what it is applied then. */
bool nphdi_last_counts(const nphdi_last *last, nphd_key key, uint64_t number,
                       nphdi_journal_kind *out_kind);
void nphdi_last_clear(nphdi_last *last); /* keeps the memory, unless it is mostly unused */
void nphdi_last_release(nphdi_last *last);

#endif
