/* The file of a chain of bloom filters (`bloom.isbf`): bytes <-> structs, no I/O
 * (docs/format.md). */
#ifndef NPHDI_ISBF_FORMAT_H
#define NPHDI_ISBF_FORMAT_H

#include <nphd/status.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NPHDI_ISBF_HEAD_BYTES 37
#define NPHDI_ISBF_FILTER_BYTES 12 /* before the bits of each filter */

/* Beyond these a file is refused: a small one could make the next add ask for gigabytes. Within
 * them a filter has at most 2 * NPHDI_ISBF_MAX_GROWTH times the bytes of the one before it. */
#define NPHDI_ISBF_MAX_GROWTH 16.0
#define NPHDI_ISBF_MAX_RATE 0.5

/* Ends every error about such a file: nothing is lost with it. */
#define NPHDI_ISBF_ADVICE "; it can be made anew from the keys"

typedef struct nphdi_isbf_head {
    uint64_t count; /* adds so far, repeated keys included */
    uint32_t initial_capacity;
    double rate;   /* false positives aimed at, up to NPHDI_ISBF_MAX_RATE; filter i: rate * 0.5^i */
    double growth; /* 1..NPHDI_ISBF_MAX_GROWTH */
    uint32_t filter_count;
} nphdi_isbf_head;

typedef struct nphdi_isbf_filter {
    uint32_t capacity;
    uint32_t hash_count;
    uint32_t bit_bytes; /* a multiple of 8 */
} nphdi_isbf_filter;

/* Size of a filter for `capacity` keys at `rate`; false: its bytes do not fit 32 bits, or there is
 * no such filter (no capacity, or a rate that is not between 0 and 1). */
bool nphdi_isbf_plan(uint32_t capacity, double rate, nphdi_isbf_filter *out);

/* The filter with this number (from 1) in the chain, behind one of `last` keys: grown, or where
 * that does not fit the format, as large as fits. There is always one more. */
void nphdi_isbf_plan_next(const nphdi_isbf_head *head, uint32_t number, uint32_t last,
                          nphdi_isbf_filter *out);

void nphdi_isbf_encode_head(const nphdi_isbf_head *head, uint8_t out[NPHDI_ISBF_HEAD_BYTES]);
void nphdi_isbf_encode_filter(const nphdi_isbf_filter *filter,
                              uint8_t out[NPHDI_ISBF_FILTER_BYTES]);

/* Errors: NPHD_CORRUPT, NPHD_UNSUPPORTED (another version, or a limit above passed). Every
 * field is checked: a filter's size and hash count must be those that its capacity and rate give.
 */
nphd_status nphdi_isbf_decode_head(const char *name, const uint8_t head[NPHDI_ISBF_HEAD_BYTES],
                                   nphdi_isbf_head *out, nphd_error *err);
/* The filter with this number (from 0) in the chain. That its capacity follows from that of the
 * filter before it (nphdi_isbf_plan_next) is for the caller to compare. */
nphd_status nphdi_isbf_decode_filter(const char *name, const nphdi_isbf_head *head, uint32_t number,
                                     const uint8_t bytes[NPHDI_ISBF_FILTER_BYTES],
                                     nphdi_isbf_filter *out, nphd_error *err);

#endif
