/* The key table of a file: open addressing over slots, each with a fingerprint of its key in the
 * bits that the slot leaves free (docs/format.md section 2.4). A lookup of an absent key thus ends
 * without a look at any node. */
#ifndef NPHDI_SLOT_TABLE_H
#define NPHDI_SLOT_TABLE_H

#include "base/bytes.h"
#include "base/hash.h"

#include <stdbool.h>
#include <stdint.h>

#define NPHDI_SLOT_TABLE_FREE UINT32_MAX /* cannot be an entry: no slot has all bits set */

typedef struct nphdi_slot_table {
    const uint8_t *places; /* u32, little-endian; NULL: there is no table */
    uint64_t room;
    uint32_t slot_bits;
} nphdi_slot_table;

/* Places of a table for `keys` keys: a load of two thirds, and one place that stays free. */
static inline uint64_t nphdi_slot_table_room(uint64_t keys)
{
    return keys == 0 ? 0 : keys + keys / 2 + 1;
}

/* The least b with slots <= 2^b - 1. */
static inline uint32_t nphdi_slot_table_bits(uint64_t slots)
{
    return slots == 0 ? 0 : 64 - (uint32_t)__builtin_clzll(slots);
}

/* The place comes from the highest bits of the hash, the fingerprint from the lowest. */
static inline uint32_t nphdi_slot_table_entry(uint32_t slot_bits, uint64_t hash, uint32_t slot)
{
    return (uint32_t)(hash << slot_bits) | slot;
}

/* Does the entry have the fingerprint of this hash? */
static inline bool nphdi_slot_table_may_be(uint32_t slot_bits, uint64_t hash, uint32_t entry)
{
    return (uint64_t)(entry ^ (uint32_t)(hash << slot_bits)) >> slot_bits == 0;
}

static inline uint32_t nphdi_slot_table_slot(uint32_t slot_bits, uint32_t entry)
{
    return (uint32_t)(entry & ((1ULL << slot_bits) - 1));
}

/* Fills a table that is being made; every place is free at first. Entries wait in a queue while
 * their places are fetched, which makes a large table three times as fast to fill (bench_index,
 * save). */
#define NPHDI_SLOT_TABLE_QUEUE 32

typedef struct nphdi_slot_table_filler {
    uint8_t *places;
    uint64_t room;
    uint32_t slot_bits;
    uint32_t waiting;
    uint64_t hashes[NPHDI_SLOT_TABLE_QUEUE];
    uint32_t slots[NPHDI_SLOT_TABLE_QUEUE];
} nphdi_slot_table_filler;

/* Takes `room` places and frees them all. */
void nphdi_slot_table_fill_begin(nphdi_slot_table_filler *filler, uint8_t *places, uint64_t room,
                                 uint32_t slot_bits);
/* Enters a slot; there must be room for all. */
void nphdi_slot_table_put(nphdi_slot_table_filler *filler, uint64_t hash, uint32_t slot);
void nphdi_slot_table_fill_end(nphdi_slot_table_filler *filler);

#endif
