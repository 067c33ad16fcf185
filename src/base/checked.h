/* Arithmetic on sizes from outside: each returns false instead of wrapping around. */
#ifndef NPHDI_CHECKED_H
#define NPHDI_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

static inline bool nphdi_checked_add(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline bool nphdi_checked_mul(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

/* *out += a * b */
static inline bool nphdi_checked_add_product(uint64_t a, uint64_t b, uint64_t *out)
{
    uint64_t product;

    return nphdi_checked_mul(a, b, &product) && nphdi_checked_add(*out, product, out);
}

#endif
