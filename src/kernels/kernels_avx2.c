/* AVX2, which has no bit count of its own: the counts of half bytes are looked up with a byte
 * shuffle, and the bytes of a word are added up by the sum of absolute differences to zero.
 * Mula, Kurz and Lemire 2018, "Faster population counts using AVX2 instructions".
 *
 * There are no masked byte loads either. A payload of 32 bytes or more is read as whole blocks of
 * 32 with the last one moved back to end with the payload; a shorter one with a load that masks
 * four bytes each, or, where it is no multiple of four, as 64-bit words. Bytes that are not shared,
 * or were in the block before, are cleared after the difference. */
#include "kernels/kernels.h"

#if defined(__x86_64__) && defined(__AVX2__) && defined(__POPCNT__) && defined(__BMI2__)

#include "kernels/checksum.h"
#include "kernels/kernels_x86.h"

#define BLOCK_BYTES 32
#define MAX_BLOCKS 8 /* cover NPHD_MAX_BYTES */
#define MAX_WORDS 4  /* cover the payloads below one block */

#define FF_8 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff
#define FF_32 FF_8, FF_8, FF_8, FF_8

/* 32 bytes from offset MASK_END - n are a mask of the first n bytes, also for n beyond 32. Those
 * for up to 32 lie in one cache line. */
#define MASK_END 288
static const _Alignas(64) uint8_t first_bytes[MASK_END + BLOCK_BYTES] = {
    FF_32, FF_32, FF_32, FF_32, FF_32, FF_32, FF_32, FF_32, FF_32};

NPHDI_INLINE __m256i load_block(const uint8_t *p)
{
    return _mm256_loadu_si256((const void *)p);
}

NPHDI_INLINE __m256i first_bytes_mask(uint32_t bytes)
{
    return load_block(first_bytes + MASK_END - bytes);
}

/* The set bits of each byte. */
NPHDI_INLINE __m256i count_bytes(__m256i x)
{
    const __m256i half_counts =
        _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, /* low lane */
                         0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i half = _mm256_set1_epi8(0x0f);
    __m256i low = _mm256_and_si256(x, half);
    __m256i high = _mm256_and_si256(_mm256_srli_epi16(x, 4), half);

    return _mm256_add_epi8(_mm256_shuffle_epi8(half_counts, low),
                           _mm256_shuffle_epi8(half_counts, high));
}

/* The bytes of each word added up, at most 8 * 255. */
NPHDI_INLINE __m256i add_bytes(__m256i counts)
{
    return _mm256_sad_epu8(counts, _mm256_setzero_si256());
}

/* The first `limit` bytes of a query, at most 32, and zeros. */
NPHDI_INLINE __m256i load_query(const nphdi_query *query, uint32_t limit)
{
    uint8_t padded[NPHDI_PADDED_QUERY_BYTES];

    if (limit % 4 == 0) {
        return _mm256_maskload_epi32((const void *)query->payload, first_bytes_mask(limit));
    }
    nphdi_query_pad(query, limit, BLOCK_BYTES, padded);
    return load_block(padded);
}

typedef struct block_query {
    __m256i wanted;
    __m256i limit_mask; /* the bytes that a row can share */
    __m256i load_mask;  /* the groups of four bytes that a short payload has */
    uint32_t payload_bytes;
    uint32_t limit;
    uint32_t prefix_bytes;
} block_query;

/* Rows of 32 bytes of payload, or of less by a multiple of 4. */
NPHDI_INLINE void compare_block(const void *context, const uint8_t *row[NPHDI_GROUP_ROWS],
                                nphdi_bits out[NPHDI_GROUP_ROWS])
{
    const block_query *q = context;
    uint64_t lengths = 0;
    __m256i counts[NPHDI_GROUP_ROWS];
    __m128i differing;

    NPHDI_UNROLL_8
    for (size_t i = 0; i < NPHDI_GROUP_ROWS; i++) {
        const uint8_t *payload = row[i] + q->prefix_bytes;
        uint32_t length = nphdi_row_length(row[i], q->prefix_bytes);
        __m256i mask = first_bytes_mask(length);
        __m256i stored = q->payload_bytes == BLOCK_BYTES
                             ? load_block(payload)
                             : _mm256_maskload_epi32((const void *)payload, q->load_mask);
        __m256i differs = _mm256_xor_si256(stored, q->wanted);

        differs = _mm256_and_si256(differs, _mm256_and_si256(mask, q->limit_mask));
        lengths |= (uint64_t)length << (8 * i);
        counts[i] = add_bytes(count_bytes(differs));
    }
    differing = nphdi_add_across(nphdi_interleave_rows(counts), nphdi_interleave_rows(counts + 4));
    nphdi_store_group(differing, lengths, q->limit, out);
}

NPHDI_INLINE void visit_block(const nphdi_query *query, const nphdi_rows *rows,
                              uint32_t payload_bytes, uint64_t stride, uint32_t prefix_bytes,
                              const nphdi_visit *visit, nphdi_bits *out)
{
    block_query q;

    q.payload_bytes = payload_bytes;
    q.limit = nphdi_shared_limit(query, rows);
    q.limit_mask = first_bytes_mask(q.limit);
    q.load_mask = first_bytes_mask(payload_bytes);
    q.prefix_bytes = prefix_bytes;
    q.wanted = load_query(query, q.limit);
    nphdi_visit_groups(visit, rows->base, stride, compare_block, &q, out);
}

typedef struct blocks_query {
    uint8_t padded[NPHDI_PADDED_QUERY_BYTES];
    __m256i limit_mask[MAX_BLOCKS]; /* the bytes of a block that a row can share */
    uint32_t at[MAX_BLOCKS];        /* where in the payload a block begins */
    uint32_t blocks;
    uint32_t limit;
    uint32_t prefix_bytes;
} blocks_query;

/* Rows of more than 32 bytes of payload, read as `blocks` blocks. */
NPHDI_INLINE void compare_blocks(const void *context, const uint8_t *row[NPHDI_GROUP_ROWS],
                                 nphdi_bits out[NPHDI_GROUP_ROWS])
{
    const blocks_query *q = context;
    uint64_t lengths = 0;
    __m256i counts[NPHDI_GROUP_ROWS];
    __m128i differing;

    NPHDI_UNROLL_8
    for (size_t i = 0; i < NPHDI_GROUP_ROWS; i++) {
        const uint8_t *payload = row[i] + q->prefix_bytes;
        uint32_t length = nphdi_row_length(row[i], q->prefix_bytes);
        __m256i sum = _mm256_setzero_si256(); /* at most 8 * 8 in a byte */

        for (uint32_t b = 0; b < q->blocks; b++) {
            uint32_t at = q->at[b];
            __m256i mask = first_bytes_mask(length > at ? length - at : 0);
            __m256i differs =
                _mm256_xor_si256(load_block(payload + at), load_block(q->padded + at));

            differs = _mm256_and_si256(differs, _mm256_and_si256(mask, q->limit_mask[b]));
            sum = _mm256_add_epi8(sum, count_bytes(differs));
        }
        lengths |= (uint64_t)length << (8 * i);
        counts[i] = add_bytes(sum);
    }
    differing = nphdi_add_across(nphdi_interleave_rows(counts), nphdi_interleave_rows(counts + 4));
    nphdi_store_group(differing, lengths, q->limit, out);
}

NPHDI_INLINE void visit_blocks(const nphdi_query *query, const nphdi_rows *rows, uint32_t blocks,
                               const nphdi_visit *visit, nphdi_bits *out)
{
    uint32_t overlap = blocks * BLOCK_BYTES - rows->payload_bytes;
    blocks_query q;

    q.blocks = blocks;
    q.limit = nphdi_shared_limit(query, rows);
    q.prefix_bytes = rows->prefix_bytes;
    nphdi_query_pad(query, q.limit, sizeof(q.padded), q.padded);
    for (uint32_t b = 0; b < blocks; b++) {
        q.at[b] = b * BLOCK_BYTES - (b + 1 == blocks ? overlap : 0);
        q.limit_mask[b] = first_bytes_mask(q.limit > q.at[b] ? q.limit - q.at[b] : 0);
    }
    q.limit_mask[blocks - 1] =
        _mm256_andnot_si256(first_bytes_mask(overlap), q.limit_mask[blocks - 1]);
    nphdi_visit_groups(visit, rows->base, rows->stride, compare_blocks, &q, out);
}

/* Rows of any other payload of less than 32 bytes. */
NPHDI_INLINE void visit_words(const nphdi_query *query, const nphdi_rows *rows,
                              const nphdi_visit *visit, nphdi_bits *out)
{
    uint32_t limit = nphdi_shared_limit(query, rows);
    uint32_t words = (limit + 7) / 8;
    uint8_t padded[NPHDI_PADDED_QUERY_BYTES];
    uint64_t wanted[MAX_WORDS];

    nphdi_query_pad(query, limit, BLOCK_BYTES, padded);
    memcpy(wanted, padded, sizeof(wanted));
    for (size_t i = 0; i < visit->count; i++) {
        const uint8_t *row = nphdi_visit_row(visit, rows->base, rows->stride, i);
        uint32_t shared = nphdi_shared_bytes(row, rows->prefix_bytes, limit);
        int64_t differing = 0;

        for (uint32_t w = 0; w < words; w++) {
            uint64_t stored =
                nphdi_payload_word(row + rows->prefix_bytes, rows->payload_bytes, w * 8);

            differing += _mm_popcnt_u64((stored ^ wanted[w]) & nphdi_word_mask(shared, w * 8));
        }
        out[i].differing = (uint16_t)differing;
        out[i].shared = (uint16_t)shared;
    }
}

/* Picks the loop for the shape of the rows; `visit` tells its callers apart. */
NPHDI_INLINE void visit_rows(const nphdi_query *query, const nphdi_rows *rows,
                             const nphdi_visit *visit, nphdi_bits *out)
{
    uint32_t payload_bytes = rows->payload_bytes;
    uint32_t prefix_bytes = rows->prefix_bytes;

    if (payload_bytes > 2 * BLOCK_BYTES) {
        visit_blocks(query, rows, (payload_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES, visit, out);
    } else if (payload_bytes > BLOCK_BYTES) {
        visit_blocks(query, rows, 2, visit, out);
    } else if (payload_bytes % 4 != 0) {
        visit_words(query, rows, visit, out);
    } else if (payload_bytes < BLOCK_BYTES) {
        visit_block(query, rows, payload_bytes, rows->stride, prefix_bytes, visit, out);
    } else if (prefix_bytes == 1 && rows->stride == BLOCK_BYTES + 1) {
        visit_block(query, rows, BLOCK_BYTES, BLOCK_BYTES + 1, 1, visit, out);
    } else if (prefix_bytes == 0 && rows->stride == BLOCK_BYTES) {
        visit_block(query, rows, BLOCK_BYTES, BLOCK_BYTES, 0, visit, out);
    } else {
        visit_block(query, rows, BLOCK_BYTES, rows->stride, prefix_bytes, visit, out);
    }
}

static uint32_t hamming_avx2(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    __m256i sum = _mm256_setzero_si256();
    int64_t differing = 0;
    size_t at = 0;

    for (; at + BLOCK_BYTES <= bytes; at += BLOCK_BYTES) {
        sum = _mm256_add_epi8(
            sum, count_bytes(_mm256_xor_si256(load_block(a + at), load_block(b + at))));
    }
    for (; at < bytes; at += 8) {
        differing += _mm_popcnt_u64(nphdi_payload_word(a, (uint32_t)bytes, (uint32_t)at) ^
                                    nphdi_payload_word(b, (uint32_t)bytes, (uint32_t)at));
    }
    sum = add_bytes(sum);
    differing += _mm256_extract_epi64(sum, 0) + _mm256_extract_epi64(sum, 1) +
                 _mm256_extract_epi64(sum, 2) + _mm256_extract_epi64(sum, 3);
    return (uint32_t)differing;
}

static void gather_avx2(const nphdi_query *query, const nphdi_rows *rows, const uint32_t *slots,
                        size_t count, nphdi_bits *out)
{
    nphdi_visit visit = {slots, 0, count};

    visit_rows(query, rows, &visit, out);
}

static void range_avx2(const nphdi_query *query, const nphdi_rows *rows, uint64_t first,
                       size_t count, nphdi_bits *out)
{
    nphdi_visit visit = {NULL, first, count};

    visit_rows(query, rows, &visit, out);
}

/* ---- planes ---- */

/* Which of the vectors at..at+3 that `present` names, all ones in their words, are near enough.
 * `planes` is a constant where this is inlined, or run->planes. */
NPHDI_INLINE uint64_t near_of_4(const nphdi_planes_run *run, uint32_t planes, size_t at,
                                const __m256i *present, __m256i limit)
{
    const uint8_t *word = run->base + 8 * at;
    __m256i sum = _mm256_setzero_si256();

    for (uint32_t plane = 0; plane < planes; plane++) {
        __m256i stored = present == NULL ? load_block(word)
                                         : _mm256_maskload_epi64((const void *)word, *present);
        __m256i differs = _mm256_xor_si256(stored, _mm256_set1_epi64x((int64_t)run->query[plane]));

        if (plane + 1 == planes) {
            differs = _mm256_and_si256(differs, _mm256_set1_epi64x((int64_t)run->last_mask));
        }
        sum = _mm256_add_epi64(sum, add_bytes(count_bytes(differs)));
        word += 8 * run->stride;
    }
    __m256i far = _mm256_cmpgt_epi64(sum, limit);
    return ~(uint32_t)_mm256_movemask_pd(_mm256_castsi256_pd(far)) & 0xfU;
}

NPHDI_INLINE uint64_t within_planes(const nphdi_planes_run *run, uint32_t planes, size_t count,
                                    uint32_t most, uint64_t *out)
{
    const __m256i limit = _mm256_set1_epi64x((int64_t)most);
    uint64_t any = 0;

    for (size_t first = 0; first < count; first += 64) {
        const size_t left = count - first < 64 ? count - first : 64;
        uint64_t word = 0;
        size_t i = 0;

        for (; i + 4 <= left; i += 4) {
            word |= near_of_4(run, planes, first + i, NULL, limit) << i;
        }
        if (i < left) {
            const __m256i present = first_bytes_mask(8 * (uint32_t)(left - i));
            const uint64_t near = near_of_4(run, planes, first + i, &present, limit);

            word |= (near & ((1U << (left - i)) - 1)) << i;
        }
        out[first / 64] = word;
        any |= word;
    }
    return any;
}

static uint64_t planes_within_avx2(const nphdi_planes_run *run, size_t count, uint32_t limit,
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

static uint32_t planes_count_avx2(const nphdi_planes_run *run, size_t at)
{
    uint64_t differing = 0;

    for (uint32_t plane = 0; plane < run->planes; plane++) {
        differing += (uint64_t)_mm_popcnt_u64(nphdi_plane_difference(run, plane, at));
    }
    return (uint32_t)differing;
}

/* ---- sifting ---- */

#define SIFT_VALUES 16

/* Which of 16 values are near enough: one bit for each. */
NPHDI_INLINE uint32_t near_values(const uint8_t *values, __m256i query, __m256i most)
{
    const __m256i bytes = count_bytes(_mm256_xor_si256(load_block(values), query));
    const __m256i counts = _mm256_maddubs_epi16(bytes, _mm256_set1_epi8(1));
    const __m256i far = _mm256_cmpgt_epi16(counts, most);

    /* two equal bits for each value: every other one is taken */
    return _pext_u32(~(uint32_t)_mm256_movemask_epi8(far), 0x55555555U);
}

/* There are no masked loads of values: the last ones of a run are read with those before them. */
static size_t sift_avx2(const uint8_t *values, const nphdi_sift_run *runs, size_t count,
                        uint32_t wanted, uint32_t *out)
{
    const __m256i query = _mm256_set1_epi16((short)wanted);
    size_t found = 0;

    for (size_t i = 0; i < count; i++) {
        const uint32_t end = runs[i].first + runs[i].count;
        const __m256i most = _mm256_set1_epi16((short)(runs[i].most < 16 ? runs[i].most : 16));
        uint32_t at = runs[i].first;

        for (; at < end && end < SIFT_VALUES; at++) { /* there are not so many before them */
            const uint32_t value = values[2 * (size_t)at] | (uint32_t)values[2 * (size_t)at + 1]
                                                                << 8;

            if ((uint32_t)_mm_popcnt_u32((value ^ wanted) & 0xffff) <= runs[i].most) {
                out[found++] = at;
            }
        }
        for (; at < end; at += SIFT_VALUES) {
            const uint32_t begin = end - at < SIFT_VALUES ? end - SIFT_VALUES : at;
            uint32_t near = near_values(values + 2 * (size_t)begin, query, most);

            for (near &= ~(uint32_t)0 << (at - begin); near != 0; near &= near - 1) {
                out[found++] = begin + (uint32_t)__builtin_ctz(near);
            }
        }
    }
    return found;
}

const nphdi_kernels *nphdi_kernels_avx2(void)
{
    static const nphdi_kernels kernels = {
        "avx2",    hamming_avx2,   gather_avx2, range_avx2, planes_within_avx2, planes_count_avx2,
        sift_avx2, nphdi_checksum, 0.35,        2.5};

    return &kernels;
}

#else

const nphdi_kernels *nphdi_kernels_avx2(void)
{
    return NULL;
}

#endif
