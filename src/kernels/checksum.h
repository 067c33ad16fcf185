/* The checksum of a block of a file, XXH3 with 64 bits and seed 0.
 *
 * Each file of kernels compiles it from xxHash's header, whose XXH_INLINE_ALL takes the vector
 * instructions that the flags of that file allow. XXH3_64bits() of the compiled library has those
 * of the architecture's baseline alone, on x86-64 SSE2. */
#ifndef NPHDI_CHECKSUM_H
#define NPHDI_CHECKSUM_H

#define XXH_INLINE_ALL
#include <stddef.h>
#include <stdint.h>
#include <xxhash.h>

static uint64_t nphdi_checksum(const void *data, size_t bytes)
{
    return XXH3_64bits(data, bytes);
}

#endif
