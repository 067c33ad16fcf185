/* XXH3 comes from the xxHash library; keys are hashed in the form that files hold, so that a table
 * in a file means the same on hosts of either byte order. */
#include "base/hash.h"

#include "base/bytes.h"

/* Keys are so short that a call, and finding out how short, would be most of the work. */
#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t nphdi_hash_bytes(const void *data, size_t bytes)
{
    return XXH3_64bits(data, bytes);
}

uint64_t nphdi_hash_bytes_seeded(const void *data, size_t bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(data, bytes, seed);
}

static inline void key_octets(nphd_key key, uint32_t key_bytes, uint8_t octets[16])
{
    if (key_bytes == 8) {
        nphdi_put64(octets, key.low);
    } else {
        nphdi_put64_big_endian(octets, key.high);
        nphdi_put64_big_endian(octets + 8, key.low);
    }
}

uint64_t nphdi_hash_key(nphd_key key, uint32_t key_bytes)
{
    uint8_t octets[16];

    key_octets(key, key_bytes, octets);
    return key_bytes == 8 ? XXH3_64bits(octets, 8) : XXH3_64bits(octets, 16);
}

uint64_t nphdi_hash_key_seeded(nphd_key key, uint32_t key_bytes, uint64_t seed)
{
    uint8_t octets[16];

    key_octets(key, key_bytes, octets);
    return key_bytes == 8 ? XXH3_64bits_withSeed(octets, 8, seed)
                          : XXH3_64bits_withSeed(octets, 16, seed);
}

/* With 8 bytes alone XXH3 only adds the seed to the key before a fixed permutation; behind a salt
 * the key is multiplied with what nobody knows. */
uint64_t nphdi_hash_key_secret(nphd_key key, uint32_t key_bytes, const nphdi_hash_secret *secret)
{
    const uint64_t halves[2] = {key.low, key_bytes == 8 ? secret->salt : key.high};

    return XXH3_64bits_withSeed(halves, sizeof(halves), secret->seed);
}
