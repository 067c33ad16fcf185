/* Little-endian numbers in byte arrays of any alignment, on hosts of either byte order. */
#ifndef NPHDI_BYTES_H
#define NPHDI_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define NPHDI_BIG_ENDIAN 1
#else
#define NPHDI_BIG_ENDIAN 0
#endif

static inline uint16_t nphdi_swap16(uint16_t x)
{
    return NPHDI_BIG_ENDIAN ? __builtin_bswap16(x) : x;
}

static inline uint32_t nphdi_swap32(uint32_t x)
{
    return NPHDI_BIG_ENDIAN ? __builtin_bswap32(x) : x;
}

static inline uint64_t nphdi_swap64(uint64_t x)
{
    return NPHDI_BIG_ENDIAN ? __builtin_bswap64(x) : x;
}

static inline uint16_t nphdi_get16(const uint8_t *p)
{
    uint16_t x;

    memcpy(&x, p, sizeof(x));
    return nphdi_swap16(x);
}

static inline uint32_t nphdi_get32(const uint8_t *p)
{
    uint32_t x;

    memcpy(&x, p, sizeof(x));
    return nphdi_swap32(x);
}

static inline uint64_t nphdi_get40(const uint8_t *p)
{
    return nphdi_get32(p) | (uint64_t)p[4] << 32;
}

static inline uint64_t nphdi_get64(const uint8_t *p)
{
    uint64_t x;

    memcpy(&x, p, sizeof(x));
    return nphdi_swap64(x);
}

static inline uint64_t nphdi_get64_big_endian(const uint8_t *p)
{
    uint64_t x;

    memcpy(&x, p, sizeof(x));
    return NPHDI_BIG_ENDIAN ? x : __builtin_bswap64(x);
}

static inline void nphdi_put16(uint8_t *p, uint16_t x)
{
    x = nphdi_swap16(x);
    memcpy(p, &x, sizeof(x));
}

static inline void nphdi_put32(uint8_t *p, uint32_t x)
{
    x = nphdi_swap32(x);
    memcpy(p, &x, sizeof(x));
}

static inline void nphdi_put40(uint8_t *p, uint64_t x)
{
    nphdi_put32(p, (uint32_t)x);
    p[4] = (uint8_t)(x >> 32);
}

static inline void nphdi_put64(uint8_t *p, uint64_t x)
{
    x = nphdi_swap64(x);
    memcpy(p, &x, sizeof(x));
}

static inline void nphdi_put64_big_endian(uint8_t *p, uint64_t x)
{
    x = NPHDI_BIG_ENDIAN ? x : __builtin_bswap64(x);
    memcpy(p, &x, sizeof(x));
}

#endif
