/* The reference: plain C on 64-bit words, for every processor, written to be read. The other levels
 * are tested against it. Counting bits does not depend on the order of bytes in a word, so neither
 * does this file on the host's. */
#include "base/bytes.h"
#include "kernels/checksum.h"
#include "kernels/kernels.h"
#include "kernels/kernels_rows.h"

#define WORD_BYTES 8
#define BLOCK_VECTORS 64 /* a bit each in a word of what is near */

/* Set bits of a word, by adding neighbouring fields of 1, 2 and 4 bits; the product then adds the
 * eight bytes up into the highest. Warren, Hacker's Delight, section 5-1. The compiler's builtin
 * would be a call into its runtime where the architecture's baseline has no such instruction. */
static uint32_t count_bits(uint64_t x)
{
    x -= (x >> 1) & 0x5555555555555555U;
    x = (x & 0x3333333333333333U) + ((x >> 2) & 0x3333333333333333U);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fU;
    return (uint32_t)((x * 0x0101010101010101U) >> 56);
}

static uint32_t hamming_portable(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    uint32_t differing = 0;
    size_t at = 0;
    uint64_t x = 0;
    uint64_t y = 0;

    for (; at + WORD_BYTES <= bytes; at += WORD_BYTES) {
        memcpy(&x, a + at, WORD_BYTES);
        memcpy(&y, b + at, WORD_BYTES);
        differing += count_bits(x ^ y);
    }
    if (at < bytes) {
        x = 0;
        y = 0;
        memcpy(&x, a + at, bytes - at);
        memcpy(&y, b + at, bytes - at);
        differing += count_bits(x ^ y);
    }
    return differing;
}

static nphdi_bits row_bits(const nphdi_query *query, const nphdi_rows *rows, uint64_t slot)
{
    const uint8_t *row = rows->base + slot * rows->stride;
    uint32_t limit = nphdi_shared_limit(query, rows);
    uint32_t shared = nphdi_shared_bytes(row, rows->prefix_bytes, limit);
    nphdi_bits bits;

    bits.differing = (uint16_t)hamming_portable(query->payload, row + rows->prefix_bytes, shared);
    bits.shared = (uint16_t)shared;
    return bits;
}

static void gather_portable(const nphdi_query *query, const nphdi_rows *rows, const uint32_t *slots,
                            size_t count, nphdi_bits *out)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = row_bits(query, rows, slots[i]);
    }
}

static void range_portable(const nphdi_query *query, const nphdi_rows *rows, uint64_t first,
                           size_t count, nphdi_bits *out)
{
    for (size_t i = 0; i < count; i++) {
        out[i] = row_bits(query, rows, first + i);
    }
}

static uint32_t planes_count_portable(const nphdi_planes_run *run, size_t at)
{
    uint32_t differing = 0;

    for (uint32_t plane = 0; plane < run->planes; plane++) {
        differing += count_bits(nphdi_plane_difference(run, plane, at));
    }
    return differing;
}

/* Set bits of each byte of a word, the first steps of count_bits(). */
static uint64_t count_byte_bits(uint64_t x)
{
    x -= (x >> 1) & 0x5555555555555555U;
    x = (x & 0x3333333333333333U) + ((x >> 2) & 0x3333333333333333U);
    return (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fU;
}

/* The bytes of a word added up, at most 8 * 255. */
static uint64_t add_bytes(uint64_t x)
{
    x = (x & 0x00ff00ff00ff00ffU) + ((x >> 8) & 0x00ff00ff00ff00ffU);
    return (x * 0x0001000100010001U) >> 48;
}

/* Differing bits of vectors first..first+count-1, plane by plane as they lie in memory; the bytes
 * of a word are added up once for 16 planes, whose counts they can hold. */
static void count_planes(const nphdi_planes_run *run, size_t first, size_t count,
                         uint64_t differing[BLOCK_VECTORS])
{
    uint64_t bytes[BLOCK_VECTORS] = {0};

    memset(differing, 0, BLOCK_VECTORS * sizeof(*differing));
    for (uint32_t plane = 0; plane < run->planes; plane++) {
        const uint8_t *words = run->base + 8 * (plane * run->stride + first);
        const uint64_t mask = plane + 1 == run->planes ? run->last_mask : ~(uint64_t)0;
        const uint64_t query = run->query[plane];

        for (size_t i = 0; i < count; i++) {
            uint64_t word;

            memcpy(&word, words + 8 * i, sizeof(word));
            bytes[i] += count_byte_bits((word ^ query) & mask);
        }
        if (plane % 16 == 15 || plane + 1 == run->planes) {
            for (size_t i = 0; i < count; i++) {
                differing[i] += add_bytes(bytes[i]);
                bytes[i] = 0;
            }
        }
    }
}

static uint64_t planes_within_portable(const nphdi_planes_run *run, size_t count, uint32_t limit,
                                       uint64_t *out)
{
    uint64_t differing[BLOCK_VECTORS];
    uint64_t any = 0;

    for (size_t first = 0; first < count; first += BLOCK_VECTORS) {
        const size_t left = count - first < BLOCK_VECTORS ? count - first : BLOCK_VECTORS;
        uint64_t word = 0;

        count_planes(run, first, left, differing);
        for (size_t i = 0; i < left; i++) {
            word |= (uint64_t)(differing[i] <= limit) << i;
        }
        out[first / BLOCK_VECTORS] = word;
        any |= word;
    }
    return any;
}

#define SIFT_VALUES 4
#define EACH_VALUE 0x0001000100010001U

/* Which of four 16-bit values in a word differ from those of another one in at most `most` bits:
 * the highest bit of each that does. */
static uint64_t near_values(uint64_t stored, uint64_t wanted, uint32_t most)
{
    const uint64_t bytes = count_byte_bits(stored ^ wanted);
    const uint64_t counts = (bytes + (bytes >> 8)) & (0x1f * EACH_VALUE);

    /* no value borrows from the next one */
    return ((0x8000U + most) * EACH_VALUE - counts) & (0x8000U * EACH_VALUE);
}

static size_t sift_portable(const uint8_t *values, const nphdi_sift_run *runs, size_t count,
                            uint32_t wanted, uint32_t *out)
{
    size_t found = 0;

    for (size_t i = 0; i < count; i++) {
        const uint32_t most = runs[i].most < 16 ? runs[i].most : 16;
        const uint32_t end = runs[i].first + runs[i].count;

        for (uint32_t at = runs[i].first; at < end; at += SIFT_VALUES) {
            const uint32_t left = end - at;
            uint64_t present = ~(uint64_t)0;
            uint64_t stored = 0;

            if (left >= SIFT_VALUES) {
                stored = nphdi_get64(values + 2 * (size_t)at);
            } else {
                present = ((uint64_t)1 << (16 * left)) - 1;
                for (uint32_t j = 0; j < left; j++) {
                    stored |= (uint64_t)nphdi_get16(values + 2 * ((size_t)at + j)) << (16 * j);
                }
            }
            uint64_t near = present & near_values(stored, (wanted & 0xffff) * EACH_VALUE, most);
            for (; near != 0; near &= near - 1) {
                out[found++] = at + (uint32_t)__builtin_ctzll(near) / 16;
            }
        }
    }
    return found;
}

const nphdi_kernels *nphdi_kernels_portable(void)
{
    static const nphdi_kernels kernels = {"portable",
                                          hamming_portable,
                                          gather_portable,
                                          range_portable,
                                          planes_within_portable,
                                          planes_count_portable,
                                          sift_portable,
                                          nphdi_checksum,
                                          1.2,
                                          10};

    return &kernels;
}
