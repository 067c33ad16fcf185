/* Hashing: XXH3 with 64 bits, as checksums and for key tables. */
#ifndef NPHDI_HASH_H
#define NPHDI_HASH_H

#include <nphd/vector.h>
#include <stddef.h>
#include <stdint.h>

/* XXH3_64bits of a byte string with seed 0; the same number on every host. */
uint64_t nphdi_hash_bytes(const void *data, size_t bytes);
uint64_t nphdi_hash_bytes_seeded(const void *data, size_t bytes, uint64_t seed);

/* Hash of a key in its file form: 8 little-endian bytes, or 16 octets. */
uint64_t nphdi_hash_key(nphd_key key, uint32_t key_bytes);

/* The same with another seed than 0. */
uint64_t nphdi_hash_key_seeded(nphd_key key, uint32_t key_bytes, uint64_t seed);

/* The secret of one table in memory, so that nobody can choose keys that meet in it. */
typedef struct nphdi_hash_secret {
    uint64_t seed;
    uint64_t salt;
} nphdi_hash_secret;

/* Hash of a key for a table in memory: another one with each secret. */
uint64_t nphdi_hash_key_secret(nphd_key key, uint32_t key_bytes, const nphdi_hash_secret *secret);

/* Maps a hash evenly onto 0..range-1 without a division (multiply and keep the high half). */
static inline uint64_t nphdi_hash_to_range(uint64_t hash, uint64_t range)
{
    __extension__ typedef unsigned __int128 uint128;

    return (uint64_t)(((uint128)hash * range) >> 64);
}

#endif
