/* Keys of 64 bits with a given hash: XXH3 of 8 bytes with the seed 0 can be undone step by step, so
 * that anyone can choose keys whose first places in a file's key table are all the same. */
#ifndef CHOSEN_KEYS_H
#define CHOSEN_KEYS_H

#include "base/hash.h"

#include <nphd/index.h>
#include <stdint.h>

static inline uint64_t chosen_rotated(uint64_t value, int bits)
{
    return value << bits | value >> (64 - bits);
}

static inline uint64_t chosen_quotient(uint64_t product, uint64_t factor)
{
    uint64_t inverse = factor; /* modulo 2^64, by Newton's steps */

    for (int i = 0; i < 6; i++) {
        inverse *= 2 - factor * inverse;
    }
    return product * inverse;
}

static inline uint64_t chosen_undo(uint64_t hash)
{
    const uint64_t factor = 0x9FB21C651E98DF25ULL;

    hash ^= hash >> 28 ^ hash >> 56;
    hash = chosen_quotient(hash, factor);
    hash ^= (hash >> 35) + 8;
    hash = chosen_quotient(hash, factor);
    for (int i = 0; i < 63; i++) { /* the 64th time gives what there was */
        hash ^= chosen_rotated(hash, 49) ^ chosen_rotated(hash, 24);
    }
    return hash;
}

/* The key with this hash. */
static inline nphd_key chosen_key(uint64_t hash)
{
    const uint64_t secret = chosen_undo(nphdi_hash_key(nphd_key_u64(0), 8));
    const uint64_t halves = chosen_undo(hash) ^ secret;

    return nphd_key_u64(halves << 32 | halves >> 32);
}

#endif
