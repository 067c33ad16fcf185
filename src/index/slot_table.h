/* The key table of a file: open addressing over slots, each with a fingerprint of its key in the
 * bits that the slot leaves free (docs/format.md section 2.4). A lookup of an absent key thus ends
 * without a look at any node. */
#ifndef NPHDI_SLOT_TABLE_H
#define NPHDI_SLOT_TABLE_H

#include "base/bytes.h"
#include "base/hash.h"

#include <nphd/allocator.h>
#include <nphd/status.h>
#include <stdbool.h>
#include <stdint.h>

#define NPHDI_SLOT_TABLE_FREE UINT32_MAX /* cannot be an entry: no slot has all bits set */

/* Where there is an overflow no entry is farther from its first place than this many places: what
 * would be stands in the overflow. Keys that nobody chose come to some 300 in a table of 2^32 of
 * them (docs/format.md), so that only equal and chosen keys ever do. */
#define NPHDI_SLOT_TABLE_REACH 512

#define NPHDI_SLOT_OVERFLOW_BYTES 12 /* of an entry: u64 hash, u32 slot; by hash, then slot */

typedef struct nphdi_slot_table {
    const uint8_t *places; /* u32, little-endian; NULL: there is no table */
    uint64_t room;
    const uint8_t *overflow;
    uint32_t overflow_count;
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

/* ---- looking ---- */

static inline uint64_t nphdi_slot_table_bytes(const nphdi_slot_table *table)
{
    return table->room * 4 + (uint64_t)table->overflow_count * NPHDI_SLOT_OVERFLOW_BYTES;
}

/* How many places a search goes on for. */
static inline uint64_t nphdi_slot_table_reach(const nphdi_slot_table *table)
{
    return table->overflow_count > 0 && table->room > NPHDI_SLOT_TABLE_REACH
               ? NPHDI_SLOT_TABLE_REACH
               : table->room;
}

static inline uint64_t nphdi_slot_overflow_hash(const nphdi_slot_table *table, uint32_t number)
{
    return nphdi_get64(table->overflow + (uint64_t)number * NPHDI_SLOT_OVERFLOW_BYTES);
}

static inline uint32_t nphdi_slot_overflow_slot(const nphdi_slot_table *table, uint32_t number)
{
    return nphdi_get32(table->overflow + (uint64_t)number * NPHDI_SLOT_OVERFLOW_BYTES + 8);
}

/* The first entry of the overflow that is not before this hash and slot. */
uint32_t nphdi_slot_overflow_find(const nphdi_slot_table *table, uint64_t hash, uint32_t slot);

/* Can the overflow lead to a key with this hash? */
static inline bool nphdi_slot_overflow_has(const nphdi_slot_table *table, uint64_t hash)
{
    const uint32_t number =
        table->overflow_count == 0 ? 0 : nphdi_slot_overflow_find(table, hash, 0);

    return number < table->overflow_count && nphdi_slot_overflow_hash(table, number) == hash;
}

/* ---- making ---- */

/* Entries wait in a queue while their places are fetched, which makes a large table three times as
 * fast to fill (bench_index, save). */
#define NPHDI_SLOT_TABLE_QUEUE 32

typedef struct nphdi_slot_table_filler {
    const nphd_allocator *allocator;
    uint8_t *places;
    uint64_t room;
    uint32_t slot_bits;
    uint32_t waiting;
    uint64_t hashes[NPHDI_SLOT_TABLE_QUEUE];
    uint32_t slots[NPHDI_SLOT_TABLE_QUEUE];
    uint8_t *overflow;
    uint64_t overflow_count;
    uint64_t overflow_room;
    bool out_of_memory;
} nphdi_slot_table_filler;

/* Takes a table of `room` places, all free. */
nphd_status nphdi_slot_table_fill_begin(nphdi_slot_table_filler *filler,
                                        const nphd_allocator *allocator, uint64_t room,
                                        uint32_t slot_bits, nphd_error *err);
/* Enters a slot; there must be room for all. */
void nphdi_slot_table_put(nphdi_slot_table_filler *filler, uint64_t hash, uint32_t slot);
/* *out is to be released, the filler no more. */
nphd_status nphdi_slot_table_fill_end(nphdi_slot_table_filler *filler, nphdi_slot_table *out,
                                      nphd_error *err);
/* Instead of an end; takes a zero-initialised one, and one that has ended. */
void nphdi_slot_table_fill_release(nphdi_slot_table_filler *filler);
/* A table that was made; takes a zero-initialised one. */
void nphdi_slot_table_release(const nphd_allocator *allocator, nphdi_slot_table *table);

#endif
