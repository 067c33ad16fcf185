/* Which of 16 shards may have a key, answered from one cache line: a bloom filter for each shard,
 * cut into lines that the hash of the key chooses, with the filters lying side by side as the bits
 * of each number (docs/format.md section 2.4).
 *
 * A line is 32 rows of 16 bits, little-endian. A key stands in four rows of one line; bit j of a
 * row belongs to shard j. Blocked bloom filters: Putze, Sanders and Singler, "Cache-, Hash- and
 * Space-Efficient Bloom Filters" (2007); the bits of many filters as one word: Faloutsos and
 * Christodoulakis, "Signature Files" (1984).
 *
 * Threads  any number ask. add: nobody else. */
#ifndef NPHDI_GROUP_FILTER_H
#define NPHDI_GROUP_FILTER_H

#include "base/bytes.h"
#include "base/hash.h"

#include <stdint.h>

#define NPHDI_GROUP_FILTER_SHARDS 16
#define NPHDI_GROUP_FILTER_LINE_BYTES 64
#define NPHDI_GROUP_FILTER_ROWS 4 /* of a key */

/* Bits for each key of the largest shard. About one shard in 70 is named in vain, and then its key
 * table says so; 16 bits would make it one in 150 (test_group_filter). */
#define NPHDI_GROUP_FILTER_KEY_BITS 12

/* Lines for shards of at most `keys` keys each. */
static inline uint64_t nphdi_group_filter_lines(uint64_t keys)
{
    return keys / 32 * NPHDI_GROUP_FILTER_KEY_BITS + keys % 32 * NPHDI_GROUP_FILTER_KEY_BITS / 32 +
           1;
}

/* The place of row i of a key in its line, in bytes. The line comes from the highest bits of the
 * hash, the fingerprint of the key tables from the lowest, so that the rows take those between. */
static inline uint32_t nphdi_group_filter_row(uint64_t hash, uint32_t i)
{
    return 2 * (uint32_t)(hash >> (16 + 5 * i) & 31);
}

/* Enters a key of a shard, 0 to 15, into `lines` lines (not 0) of zeros to begin with. */
void nphdi_group_filter_add(uint8_t *filter, uint64_t lines, uint32_t shard, uint64_t hash);

/* Bit j: shard j may have the key. */
static inline uint32_t nphdi_group_filter_ask(const uint8_t *filter, uint64_t lines, uint64_t hash)
{
    const uint8_t *line = filter + nphdi_hash_to_range(hash, lines) * NPHDI_GROUP_FILTER_LINE_BYTES;

    return (uint32_t)nphdi_get16(line + nphdi_group_filter_row(hash, 0)) &
           nphdi_get16(line + nphdi_group_filter_row(hash, 1)) &
           nphdi_get16(line + nphdi_group_filter_row(hash, 2)) &
           nphdi_get16(line + nphdi_group_filter_row(hash, 3));
}

#endif
