/* A set of keys in memory: open addressing that grows. One thread at a time. Zero-initialise with
 * the allocator set. */
#ifndef NPHDI_KEY_SET_H
#define NPHDI_KEY_SET_H

#include "base/hash.h"

#include <nphd/allocator.h>
#include <nphd/status.h>
#include <nphd/vector.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct nphdi_key_set {
    const nphd_allocator *allocator;
    nphd_key *places; /* which are taken: see `taken` */
    uint8_t *taken;   /* a byte each: 0 free, 1 a key, 2 was a key */
    uint64_t room;    /* a power of two, or 0 */
    uint64_t used;    /* places that are not free */
    uint64_t count;
    nphdi_hash_secret secret; /* drawn with the first room */
} nphdi_key_set;

nphd_status nphdi_key_set_reserve(nphdi_key_set *set, uint64_t more, nphd_error *err);
/* Needs room from a reserve. Returns whether the key is new. */
bool nphdi_key_set_add(nphdi_key_set *set, nphd_key key);
bool nphdi_key_set_remove(nphdi_key_set *set, nphd_key key);
bool nphdi_key_set_has(const nphdi_key_set *set, nphd_key key);
void nphdi_key_set_clear(nphdi_key_set *set); /* keeps the memory */
void nphdi_key_set_release(nphdi_key_set *set);

/* All keys ascending into `out`, which has room for set->count. */
void nphdi_key_set_sorted(const nphdi_key_set *set, nphd_key *out);

/* Goes through the set: *place from 0; false after the last. */
bool nphdi_key_set_next(const nphdi_key_set *set, uint64_t *place, nphd_key *out);

#endif
