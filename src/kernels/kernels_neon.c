/* NEON, in the baseline of 64-bit ARM: counts the bits of each byte of 16, and adds neighbours.
 *
 * As there are no masked loads, a payload of 16 bytes or more is read as whole blocks of 16 with
 * the last one moved back to end with the payload; a shorter one as 64-bit words. Bytes that are
 * not shared, or were in the block before, are cleared after the difference. */
#include "kernels/kernels.h"
#include "kernels/kernels_rows.h"

#if defined(__aarch64__) && defined(__ARM_NEON) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__

#include "kernels/checksum.h"
#include <arm_neon.h>

#define BLOCK_BYTES 16

#define FF_8 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff

/* 32 bytes from offset 32 - n are a mask of the first n bytes, for n to 32. */
static const _Alignas(64) uint8_t first_bytes[64] = {FF_8, FF_8, FF_8, FF_8};

NPHDI_INLINE uint8x16_t first_bytes_mask(uint32_t bytes)
{
    return vld1q_u8(first_bytes + 32 - bytes);
}

/* The differing bits of each byte, of those that the mask keeps. */
NPHDI_INLINE uint8x16_t count_bytes(uint8x16_t a, uint8x16_t b, uint8x16_t mask)
{
    return vcntq_u8(vandq_u8(veorq_u8(a, b), mask));
}

NPHDI_INLINE uint32_t count_word(uint64_t x)
{
    return vaddv_u8(vcnt_u8(vcreate_u8(x)));
}

typedef struct pair_query {
    uint8x16_t low;
    uint8x16_t high;
    uint32_t limit;
    uint32_t prefix_bytes;
} pair_query;

/* Rows of 32 bytes of payload. */
NPHDI_INLINE void compare_32(const void *context, const uint8_t *row[NPHDI_GROUP_ROWS],
                             nphdi_bits out[NPHDI_GROUP_ROWS])
{
    const pair_query *q = context;
    uint16_t shared[NPHDI_GROUP_ROWS];
    uint8x16_t counts[NPHDI_GROUP_ROWS];
    uint8x16_t low;
    uint8x16_t high;
    uint16x8x2_t lanes;

    NPHDI_UNROLL_8
    for (size_t i = 0; i < NPHDI_GROUP_ROWS; i++) {
        const uint8_t *payload = row[i] + q->prefix_bytes;
        uint32_t bytes = nphdi_shared_bytes(row[i], q->prefix_bytes, q->limit);
        const uint8_t *mask = first_bytes + 32 - bytes;

        shared[i] = (uint16_t)bytes;
        counts[i] = vaddq_u8(
            count_bytes(vld1q_u8(payload), q->low, vld1q_u8(mask)),
            count_bytes(vld1q_u8(payload + BLOCK_BYTES), q->high, vld1q_u8(mask + BLOCK_BYTES)));
    }
    /* neighbours added: at most 32, then 64, then 128 in a byte; the last step widens */
    low = vpaddq_u8(vpaddq_u8(counts[0], counts[1]), vpaddq_u8(counts[2], counts[3]));
    high = vpaddq_u8(vpaddq_u8(counts[4], counts[5]), vpaddq_u8(counts[6], counts[7]));
    lanes.val[0] = vpaddlq_u8(vpaddq_u8(low, high));
    lanes.val[1] = vld1q_u16(shared);
    vst2q_u16((void *)out, lanes);
}

NPHDI_INLINE void visit_32(const nphdi_query *query, const nphdi_rows *rows, uint64_t stride,
                           uint32_t prefix_bytes, const nphdi_visit *visit, nphdi_bits *out)
{
    uint8_t padded[NPHDI_PADDED_QUERY_BYTES];
    pair_query q;

    q.limit = nphdi_shared_limit(query, rows);
    q.prefix_bytes = prefix_bytes;
    nphdi_query_pad(query, q.limit, 2 * BLOCK_BYTES, padded);
    q.low = vld1q_u8(padded);
    q.high = vld1q_u8(padded + BLOCK_BYTES);
    nphdi_visit_groups(visit, rows->base, stride, compare_32, &q, out);
}

/* Rows of 16 bytes of payload or more. */
NPHDI_INLINE void visit_blocks(const nphdi_query *query, const nphdi_rows *rows,
                               const nphdi_visit *visit, nphdi_bits *out)
{
    uint32_t limit = nphdi_shared_limit(query, rows);
    uint32_t blocks = (rows->payload_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
    uint32_t last_at = rows->payload_bytes - BLOCK_BYTES;
    uint8x16_t repeated = first_bytes_mask(blocks * BLOCK_BYTES - rows->payload_bytes);
    uint8_t padded[NPHDI_PADDED_QUERY_BYTES];

    nphdi_query_pad(query, limit, sizeof(padded), padded);
    for (size_t i = 0; i < visit->count; i++) {
        const uint8_t *row = nphdi_visit_row(visit, rows->base, rows->stride, i);
        const uint8_t *payload = row + rows->prefix_bytes;
        uint32_t shared = nphdi_shared_bytes(row, rows->prefix_bytes, limit);
        uint8x16_t sum = vdupq_n_u8(0); /* at most 8 * 16 in a byte */

        for (uint32_t b = 0; b < blocks; b++) {
            uint32_t at = b + 1 < blocks ? b * BLOCK_BYTES : last_at;
            uint32_t left = shared > at ? shared - at : 0;
            uint8x16_t mask = first_bytes_mask(nphdi_min_u32(left, BLOCK_BYTES));

            if (b + 1 == blocks) {
                mask = vbicq_u8(mask, repeated);
            }
            sum = vaddq_u8(sum, count_bytes(vld1q_u8(payload + at), vld1q_u8(padded + at), mask));
        }
        out[i].differing = vaddlvq_u8(sum);
        out[i].shared = (uint16_t)shared;
    }
}

/* Rows of less than 16 bytes of payload. */
NPHDI_INLINE void visit_words(const nphdi_query *query, const nphdi_rows *rows,
                              const nphdi_visit *visit, nphdi_bits *out)
{
    uint32_t limit = nphdi_shared_limit(query, rows);
    uint32_t words = (limit + 7) / 8;
    uint8_t padded[NPHDI_PADDED_QUERY_BYTES];
    uint64_t wanted[BLOCK_BYTES / 8];

    nphdi_query_pad(query, limit, BLOCK_BYTES, padded);
    memcpy(wanted, padded, sizeof(wanted));
    for (size_t i = 0; i < visit->count; i++) {
        const uint8_t *row = nphdi_visit_row(visit, rows->base, rows->stride, i);
        uint32_t shared = nphdi_shared_bytes(row, rows->prefix_bytes, limit);
        uint32_t differing = 0;

        for (uint32_t w = 0; w < words; w++) {
            uint64_t stored =
                nphdi_payload_word(row + rows->prefix_bytes, rows->payload_bytes, w * 8);

            differing += count_word((stored ^ wanted[w]) & nphdi_word_mask(shared, w * 8));
        }
        out[i].differing = (uint16_t)differing;
        out[i].shared = (uint16_t)shared;
    }
}

/* Picks the loop for the shape of the rows; `visit` tells its callers apart. */
NPHDI_INLINE void visit_rows(const nphdi_query *query, const nphdi_rows *rows,
                             const nphdi_visit *visit, nphdi_bits *out)
{
    if (rows->payload_bytes < BLOCK_BYTES) {
        visit_words(query, rows, visit, out);
    } else if (rows->payload_bytes != 2 * BLOCK_BYTES) {
        visit_blocks(query, rows, visit, out);
    } else if (rows->prefix_bytes == 1 && rows->stride == 2 * BLOCK_BYTES + 1) {
        visit_32(query, rows, 2 * BLOCK_BYTES + 1, 1, visit, out);
    } else if (rows->prefix_bytes == 0 && rows->stride == 2 * BLOCK_BYTES) {
        visit_32(query, rows, 2 * BLOCK_BYTES, 0, visit, out);
    } else {
        visit_32(query, rows, rows->stride, rows->prefix_bytes, visit, out);
    }
}

static uint32_t hamming_neon(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    uint8x16_t sum = vdupq_n_u8(0);
    uint32_t differing = 0;
    size_t at = 0;

    for (; at + BLOCK_BYTES <= bytes; at += BLOCK_BYTES) {
        sum = vaddq_u8(sum, vcntq_u8(veorq_u8(vld1q_u8(a + at), vld1q_u8(b + at))));
    }
    for (; at < bytes; at += 8) {
        differing += count_word(nphdi_payload_word(a, (uint32_t)bytes, (uint32_t)at) ^
                                nphdi_payload_word(b, (uint32_t)bytes, (uint32_t)at));
    }
    return differing + vaddlvq_u8(sum);
}

static void gather_neon(const nphdi_query *query, const nphdi_rows *rows, const uint32_t *slots,
                        size_t count, nphdi_bits *out)
{
    nphdi_visit visit = {slots, 0, count};

    visit_rows(query, rows, &visit, out);
}

static void range_neon(const nphdi_query *query, const nphdi_rows *rows, uint64_t first,
                       size_t count, nphdi_bits *out)
{
    nphdi_visit visit = {NULL, first, count};

    visit_rows(query, rows, &visit, out);
}

/* ---- planes ---- */

/* Which of the vectors at and at + 1 are near enough, in bits 0 and 1. */
NPHDI_INLINE uint64_t near_of_2(const nphdi_planes_run *run, uint32_t planes, size_t at,
                                uint32_t limit)
{
    const uint8_t *word = run->base + 8 * at;
    uint64x2_t sum = vdupq_n_u64(0);

    for (uint32_t plane = 0; plane < planes; plane++) {
        const uint64_t counted = plane + 1 == planes ? run->last_mask : ~(uint64_t)0;
        uint8x16_t counts =
            count_bytes(vld1q_u8(word), vreinterpretq_u8_u64(vdupq_n_u64(run->query[plane])),
                        vreinterpretq_u8_u64(vdupq_n_u64(counted)));

        sum = vaddq_u64(sum, vpaddlq_u32(vpaddlq_u16(vpaddlq_u8(counts))));
        word += 8 * run->stride;
    }
    return (uint64_t)(vgetq_lane_u64(sum, 0) <= limit) | (uint64_t)(vgetq_lane_u64(sum, 1) <= limit)
                                                             << 1;
}

static uint32_t planes_count_neon(const nphdi_planes_run *run, size_t at)
{
    uint32_t differing = 0;

    for (uint32_t plane = 0; plane < run->planes; plane++) {
        differing += count_word(nphdi_plane_difference(run, plane, at));
    }
    return differing;
}

NPHDI_INLINE uint64_t within_planes(const nphdi_planes_run *run, uint32_t planes, size_t count,
                                    uint32_t limit, uint64_t *out)
{
    uint64_t any = 0;

    for (size_t first = 0; first < count; first += 64) {
        const size_t left = count - first < 64 ? count - first : 64;
        uint64_t word = 0;
        size_t i = 0;

        for (; i + 2 <= left; i += 2) {
            word |= near_of_2(run, planes, first + i, limit) << i;
        }
        if (i < left) {
            word |= (uint64_t)(planes_count_neon(run, first + i) <= limit) << i;
        }
        out[first / 64] = word;
        any |= word;
    }
    return any;
}

static uint64_t planes_within_neon(const nphdi_planes_run *run, size_t count, uint32_t limit,
                                   uint64_t *out)
{
    switch (run->planes) {
    case 1:
        return within_planes(run, 1, count, limit, out);
    case 2:
        return within_planes(run, 2, count, limit, out);
    case 4:
        return within_planes(run, 4, count, limit, out);
    default:
        return within_planes(run, run->planes, count, limit, out);
    }
}

/* ---- sifting ---- */

#define SIFT_VALUES 8

/* Which of 8 values are near enough: a byte of ones for each. */
NPHDI_INLINE uint64_t near_values(const uint8_t *values, uint8x16_t query, uint16x8_t most)
{
    const uint16x8_t counts = vpaddlq_u8(vcntq_u8(veorq_u8(vld1q_u8(values), query)));
    const uint8x8_t near = vmovn_u16(vcleq_u16(counts, most));

    return vget_lane_u64(vreinterpret_u64_u8(near), 0);
}

/* The last values of a run are read with those before them. */
static size_t sift_neon(const uint8_t *values, const nphdi_sift_run *runs, size_t count,
                        uint32_t wanted, uint32_t *out)
{
    const uint8x16_t query = vreinterpretq_u8_u16(vdupq_n_u16((uint16_t)wanted));
    size_t found = 0;

    for (size_t i = 0; i < count; i++) {
        const uint32_t end = runs[i].first + runs[i].count;
        const uint16x8_t most = vdupq_n_u16((uint16_t)(runs[i].most < 16 ? runs[i].most : 16));
        uint32_t at = runs[i].first;

        for (; at < end && end < SIFT_VALUES; at++) { /* there are not so many before them */
            const uint32_t value = values[2 * (size_t)at] | (uint32_t)values[2 * (size_t)at + 1]
                                                                << 8;

            if (count_word((value ^ wanted) & 0xffff) <= runs[i].most) {
                out[found++] = at;
            }
        }
        for (; at < end; at += SIFT_VALUES) {
            const uint32_t begin = end - at < SIFT_VALUES ? end - SIFT_VALUES : at;
            uint64_t near = near_values(values + 2 * (size_t)begin, query, most);

            for (near &= ~(uint64_t)0 << (8 * (at - begin)); near != 0;) {
                const uint32_t lane = (uint32_t)__builtin_ctzll(near) / 8;

                out[found++] = begin + lane;
                near &= ~((uint64_t)0xff << (8 * lane));
            }
        }
    }
    return found;
}

const nphdi_kernels *nphdi_kernels_neon(void)
{
    static const nphdi_kernels kernels = {
        "neon",    hamming_neon,   gather_neon, range_neon, planes_within_neon, planes_count_neon,
        sift_neon, nphdi_checksum, 0.35,        3};

    return &kernels;
}

#else

const nphdi_kernels *nphdi_kernels_neon(void)
{
    return NULL;
}

#endif
