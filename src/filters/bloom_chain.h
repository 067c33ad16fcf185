/* What a chain of bloom filters is made of; for bloom.c and bloom_file.c alone.
 *
 * Filters hang on each other and never move. Behind the published ones, which every reader asks and
 * every file holds, may hang reserved ones, which no key needs yet. */
#ifndef NPHDI_BLOOM_CHAIN_H
#define NPHDI_BLOOM_CHAIN_H

#include "base/memory.h"
#include "filters/bloom.h"
#include "formats/isbf_format.h"

#include <stdatomic.h>

typedef struct bloom_filter {
    _Atomic(struct bloom_filter *) next; /* NULL, then set once */
    _Atomic uint64_t *words;             /* bit b is bit b & 63 of word b >> 6 */
    nphdi_region range;                  /* of the words of a large one; else zero */
    uint64_t bits;                       /* a multiple of 64, below 2^35 */
    uint64_t reciprocal;                 /* floor((2^64 - 1) / bits) */
    uint64_t end;                        /* capacity of this filter and all before it */
    nphdi_isbf_filter size;
    uint32_t number; /* from 0 */
} bloom_filter;

struct nphdi_bloom {
    const nphd_allocator *allocator;
    uint32_t key_bytes;
    nphdi_isbf_head head; /* the parameters; count and filter_count are not kept in it */
    bloom_filter *first;
    _Atomic uint32_t published; /* filters; 1 or more */
    _Atomic uint64_t count;     /* adds begun; each takes a number, which picks its filter */
};

/* A chain without filters. */
nphd_status nphdi_bloom_chain_create(const nphd_allocator *allocator, uint32_t key_bytes,
                                     const nphdi_isbf_head *head, nphdi_bloom **out,
                                     nphd_error *err);

/* An empty filter to stand behind `last` (NULL: the first). */
nphd_status nphdi_bloom_filter_create(const nphd_allocator *allocator,
                                      const nphdi_isbf_filter *size, const bloom_filter *last,
                                      bloom_filter **out, nphd_error *err);
void nphdi_bloom_filter_free(const nphd_allocator *allocator, bloom_filter *filter);

static inline bloom_filter *nphdi_bloom_filter_next(const bloom_filter *filter)
{
    return atomic_load_explicit(&filter->next, memory_order_acquire);
}

/* number % filter->bits: the estimate of the quotient is right or one too small, because the
 * reciprocal is less than 1 below 2^64 / bits. */
static inline uint64_t nphdi_bloom_filter_remainder(const bloom_filter *filter, uint64_t number)
{
    __extension__ typedef unsigned __int128 uint128;
    const uint64_t quotient = (uint64_t)(((uint128)number * filter->reciprocal) >> 64);
    const uint64_t rest = number - quotient * filter->bits;

    return rest >= filter->bits ? rest - filter->bits : rest;
}

#endif
