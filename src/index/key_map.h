/* Key -> slots, in memory: open addressing over slot numbers, the keys themselves staying with the
 * slots. Files hold a like table with fingerprints (slot_table.h), which a changing one could not
 * keep: the bits that they take change with the number of slots. Here hashes depend on a secret.
 *
 * Threads: one thread changes the map at a time (the content's slot lock); any number read it
 * meanwhile without a lock. A table that was outgrown is kept until nphdi_key_map_sweep(). */
#ifndef NPHDI_KEY_MAP_H
#define NPHDI_KEY_MAP_H

#include "base/hash.h"

#include <nphd/allocator.h>
#include <nphd/status.h>
#include <stdatomic.h>
#include <stdint.h>

#define NPHDI_TABLE_FREE UINT32_MAX          /* nothing was ever here: a probe ends */
#define NPHDI_TABLE_DELETED (UINT32_MAX - 1) /* something was: a probe goes on */

typedef struct nphdi_key_table {
    struct nphdi_key_table *older; /* outgrown, perhaps still being read */
    uint64_t room;
    void *memory; /* of `slots` */
    _Atomic uint32_t *slots;
} nphdi_key_table;

typedef struct nphdi_key_map {
    const nphd_allocator *allocator;
    _Atomic(nphdi_key_table *) table; /* NULL: empty */
    uint64_t used;                    /* places that are not free, deleted ones included */
    uint64_t live;
    nphdi_hash_secret secret; /* drawn by the owner before the first insert */
} nphdi_key_map;

/* How the map sees the key of a slot. */
typedef nphd_key (*nphdi_slot_key)(const void *context, uint32_t slot);

static inline uint64_t nphdi_key_map_hash(const nphdi_key_map *map, nphd_key key,
                                          uint32_t key_bytes)
{
    return nphdi_hash_key_secret(key, key_bytes, &map->secret);
}

/* Places of a table for `keys` keys: a load of three quarters. */
static inline uint64_t nphdi_key_table_room(uint64_t keys)
{
    return keys == 0 ? 0 : keys + keys / 3 + 1;
}

/* Makes sure that `more` inserts will not fail. */
nphd_status nphdi_key_map_reserve(nphdi_key_map *map, uint64_t more, uint32_t key_bytes,
                                  nphdi_slot_key slot_key, const void *context, nphd_error *err);

/* Needs room from nphdi_key_map_reserve(). */
void nphdi_key_map_insert(nphdi_key_map *map, uint64_t hash, uint32_t slot);

/* Turns the entry that holds `slot` into one for `to`, or deletes it (to = NPHDI_TABLE_DELETED). */
void nphdi_key_map_replace(nphdi_key_map *map, uint64_t hash, uint32_t slot, uint32_t to);

/* Frees outgrown tables; nobody may be reading. */
void nphdi_key_map_sweep(nphdi_key_map *map);

uint64_t nphdi_key_map_bytes(const nphdi_key_map *map);

void nphdi_key_map_release(nphdi_key_map *map);

#endif
