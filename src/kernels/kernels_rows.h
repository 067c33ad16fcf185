/* What the kernels of all instruction sets share: finding a row, and the bytes that count in it. */
#ifndef NPHDI_KERNELS_ROWS_H
#define NPHDI_KERNELS_ROWS_H

#include "kernels/kernels.h"

#include <string.h>

/* The row loops are written once and then specialised: inlined with constant arguments. */
#define NPHDI_INLINE static inline __attribute__((always_inline))

/* Before a loop over the eight rows of a group, which must be laid out flat so that what the loop
 * keeps for each row stays in registers. */
#if defined(__clang__)
#define NPHDI_UNROLL_8 _Pragma("clang loop unroll(full)")
#else
#define NPHDI_UNROLL_8 _Pragma("GCC unroll 8")
#endif

/* Rows are counted in groups of eight, one 16-bit lane for each row. */
#define NPHDI_GROUP_ROWS 8

/* Which rows to visit: slots[0..count), or first.. in order when slots is NULL. */
typedef struct nphdi_visit {
    const uint32_t *slots;
    uint64_t first;
    size_t count;
} nphdi_visit;

NPHDI_INLINE uint32_t nphdi_min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* The most bytes that a row can share with the query. */
NPHDI_INLINE uint32_t nphdi_shared_limit(const nphdi_query *query, const nphdi_rows *rows)
{
    return nphdi_min_u32(query->bytes, rows->payload_bytes);
}

/* The bytes that the query shares with the row. */
NPHDI_INLINE uint32_t nphdi_shared_bytes(const uint8_t *row, uint32_t prefix_bytes, uint32_t limit)
{
    return prefix_bytes == 0 ? limit : nphdi_min_u32(row[0], limit);
}

NPHDI_INLINE const uint8_t *nphdi_visit_row(const nphdi_visit *visit, const uint8_t *base,
                                            uint64_t stride, size_t i)
{
    return base + (visit->slots != NULL ? visit->slots[i] : visit->first + i) * stride;
}

/* Compares the query, prepared in `context`, with the eight rows of a group. */
typedef void (*nphdi_group_compare)(const void *context, const uint8_t *row[NPHDI_GROUP_ROWS],
                                    nphdi_bits out[NPHDI_GROUP_ROWS]);

/* Calls `compare` for all rows, by groups. The last group overlaps the one before, and a lone
 * short one repeats its last row, so that groups have one form and nothing else is read. */
NPHDI_INLINE void nphdi_visit_groups(const nphdi_visit *visit, const uint8_t *base, uint64_t stride,
                                     nphdi_group_compare compare, const void *context,
                                     nphdi_bits *out)
{
    const uint8_t *row[NPHDI_GROUP_ROWS];

    if (visit->count >= NPHDI_GROUP_ROWS) {
        size_t last = visit->count - NPHDI_GROUP_ROWS;

        for (size_t start = 0; start < visit->count; start += NPHDI_GROUP_ROWS) {
            size_t at = start < last ? start : last;

            NPHDI_UNROLL_8
            for (size_t i = 0; i < NPHDI_GROUP_ROWS; i++) {
                row[i] = nphdi_visit_row(visit, base, stride, at + i);
            }
            compare(context, row, out + at);
        }
    } else if (visit->count > 0) {
        nphdi_bits group[NPHDI_GROUP_ROWS];

        for (size_t i = 0; i < NPHDI_GROUP_ROWS; i++) {
            size_t at = i < visit->count ? i : visit->count - 1;

            row[i] = nphdi_visit_row(visit, base, stride, at);
        }
        compare(context, row, group);
        memcpy(out, group, visit->count * sizeof(*out));
    }
}

/* The payload as little-endian words, on hosts that are so: bytes at..at+7, zero where the payload
 * has ended. Reads within the payload only, overlapping instead of going byte by byte. */
NPHDI_INLINE uint64_t nphdi_payload_word(const uint8_t *payload, uint32_t payload_bytes,
                                         uint32_t at)
{
    uint64_t word = 0;
    uint32_t low = 0;
    uint32_t high = 0;

    if (at + 8 <= payload_bytes) {
        memcpy(&word, payload + at, 8);
        return word;
    }
    if (payload_bytes >= 8) {
        memcpy(&word, payload + payload_bytes - 8, 8);
        return word >> (8 * (at + 8 - payload_bytes));
    }
    if (payload_bytes >= 4) {
        memcpy(&low, payload, 4);
        memcpy(&high, payload + payload_bytes - 4, 4);
        return low | (uint64_t)high << (8 * (payload_bytes - 4));
    }
    return payload[0] | (uint64_t)payload[payload_bytes / 2] << (8 * (payload_bytes / 2)) |
           (uint64_t)payload[payload_bytes - 1] << (8 * (payload_bytes - 1));
}

/* All ones in the bytes of word `at` that lie below `shared`. */
NPHDI_INLINE uint64_t nphdi_word_mask(uint32_t shared, uint32_t at)
{
    if (shared >= at + 8) {
        return ~(uint64_t)0;
    }
    return shared <= at ? 0 : ((uint64_t)1 << (8 * (shared - at))) - 1;
}

/* Word `plane` of vector `at`, differing from the query where it counts. */
NPHDI_INLINE uint64_t nphdi_plane_difference(const nphdi_planes_run *run, uint32_t plane, size_t at)
{
    uint64_t word;

    memcpy(&word, run->base + 8 * (plane * run->stride + at), sizeof(word));
    word ^= run->query[plane];
    return plane + 1 == run->planes ? word & run->last_mask : word;
}

/* Room for a query that is padded with zeros, so that it can be read at any payload offset. */
#define NPHDI_PADDED_QUERY_BYTES 288

NPHDI_INLINE void nphdi_query_pad(const nphdi_query *query, uint32_t limit, size_t padded_bytes,
                                  uint8_t *out)
{
    memset(out, 0, padded_bytes);
    memcpy(out, query->payload, limit);
}

#endif
