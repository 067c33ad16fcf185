/* AVX-512 with VPOPCNTDQ: one instruction counts the bits of each 64-bit word of a register.
 *
 * A masked load takes the shared bytes from the row and all others from the query itself, so that
 * these cancel; bytes that are masked off are not touched in memory either, which is what lets a
 * row end at an unreadable page. */
#include "kernels/kernels.h"

#if defined(__x86_64__) && defined(__AVX512F__) && defined(__AVX512BW__) &&                        \
    defined(__AVX512VL__) && defined(__AVX512VPOPCNTDQ__) && defined(__BMI2__)

#include "kernels/checksum.h"
#include "kernels/kernels_x86.h"

#include <stdbool.h>

#define YMM_BYTES 32
#define ZMM_BYTES 64
#define ZMM_BLOCKS 4 /* cover NPHD_MAX_BYTES */

#define POSITIONS_8(n) (n), (n) + 1, (n) + 2, (n) + 3, (n) + 4, (n) + 5, (n) + 6, (n) + 7
#define POSITIONS_64(n)                                                                            \
    POSITIONS_8(n), POSITIONS_8((n) + 8), POSITIONS_8((n) + 16), POSITIONS_8((n) + 24),            \
        POSITIONS_8((n) + 32), POSITIONS_8((n) + 40), POSITIONS_8((n) + 48), POSITIONS_8((n) + 56)

/* The place in the payload of each byte of the blocks. */
static const _Alignas(64) uint8_t positions[ZMM_BLOCKS * ZMM_BYTES] = {
    POSITIONS_64(0), POSITIONS_64(64), POSITIONS_64(128), POSITIONS_64(192)};

typedef struct ymm_query {
    __m256i wanted;
    __m256i limit_bytes; /* all ones in the bytes that a row can share */
    uint32_t limit_mask; /* one bit for each of them */
    uint32_t limit;
    uint32_t prefix_bytes;
} ymm_query;

/* Rows of at most 32 bytes of payload. */
NPHDI_INLINE void compare_ymm(const void *context, const uint8_t *row[NPHDI_GROUP_ROWS],
                              nphdi_bits out[NPHDI_GROUP_ROWS])
{
    const ymm_query *q = context;
    uint64_t lengths = 0;
    __m256i counts[NPHDI_GROUP_ROWS];
    __m128i differing;

    NPHDI_UNROLL_8
    for (size_t i = 0; i < NPHDI_GROUP_ROWS; i++) {
        uint32_t length = nphdi_row_length(row[i], q->prefix_bytes);
        __mmask32 mask = _bzhi_u32(q->limit_mask, length);
        __m256i stored = _mm256_mask_loadu_epi8(q->wanted, mask, row[i] + q->prefix_bytes);

        lengths |= (uint64_t)length << (8 * i);
        counts[i] = _mm256_popcnt_epi64(_mm256_xor_si256(stored, q->wanted));
    }
    differing = nphdi_add_across(nphdi_interleave_rows(counts), nphdi_interleave_rows(counts + 4));
    nphdi_store_group(differing, lengths, q->limit, out);
}

/* Rows of 32 bytes of payload after their length. Most often all are at least as long as the query,
 * and one branch for eight rows saves eight masks: a quarter of the time by bench_kernels, for as
 * much more where lengths are mixed. */
NPHDI_INLINE void compare_long_ymm(const void *context, const uint8_t *row[NPHDI_GROUP_ROWS],
                                   nphdi_bits out[NPHDI_GROUP_ROWS])
{
    const ymm_query *q = context;
    __m128i least = _mm_set1_epi8((char)q->limit);
    __m256i counts[NPHDI_GROUP_ROWS];
    __m128i differing;

    /* of the bytes compared here the first is the length */
    NPHDI_UNROLL_8
    for (size_t i = 0; i < NPHDI_GROUP_ROWS; i++) {
        least = _mm_min_epu8(least, _mm_loadu_si128((const void *)row[i]));
    }
    if ((_mm_cvtsi128_si32(least) & 0xff) < (int)q->limit) {
        compare_ymm(context, row, out);
        return;
    }
    NPHDI_UNROLL_8
    for (size_t i = 0; i < NPHDI_GROUP_ROWS; i++) {
        __m256i stored = _mm256_loadu_si256((const void *)(row[i] + q->prefix_bytes));
        __m256i differs = _mm256_xor_si256(stored, q->wanted);

        counts[i] = _mm256_popcnt_epi64(_mm256_and_si256(differs, q->limit_bytes));
    }
    differing = nphdi_add_across(nphdi_interleave_rows(counts), nphdi_interleave_rows(counts + 4));
    nphdi_store_group(differing, ~(uint64_t)0, q->limit, out);
}

NPHDI_INLINE void visit_ymm(const nphdi_query *query, const nphdi_rows *rows, uint64_t stride,
                            uint32_t prefix_bytes, nphdi_group_compare compare,
                            const nphdi_visit *visit, nphdi_bits *out)
{
    ymm_query q;

    q.limit = nphdi_shared_limit(query, rows);
    q.limit_mask = _bzhi_u32(~(uint32_t)0, q.limit);
    q.limit_bytes = _mm256_movm_epi8(q.limit_mask);
    q.wanted = _mm256_maskz_loadu_epi8(q.limit_mask, query->payload);
    q.prefix_bytes = prefix_bytes;
    nphdi_visit_groups(visit, rows->base, stride, compare, &q, out);
}

typedef struct zmm_query {
    __m512i wanted[ZMM_BLOCKS];
    __m512i positions[ZMM_BLOCKS];
    __mmask64 limit_mask[ZMM_BLOCKS]; /* the bytes that a row can share */
    uint32_t blocks;
    uint32_t limit;
    uint32_t prefix_bytes;
} zmm_query;

/* Rows of at most `blocks` * 64 bytes of payload. */
NPHDI_INLINE void compare_zmm(const void *context, const uint8_t *row[NPHDI_GROUP_ROWS],
                              nphdi_bits out[NPHDI_GROUP_ROWS])
{
    const zmm_query *q = context;
    uint64_t lengths = 0;
    __m256i counts[NPHDI_GROUP_ROWS];
    __m128i differing;

    NPHDI_UNROLL_8
    for (size_t i = 0; i < NPHDI_GROUP_ROWS; i++) {
        const uint8_t *payload = row[i] + q->prefix_bytes;
        uint32_t length = nphdi_row_length(row[i], q->prefix_bytes);
        __m512i spread = _mm512_set1_epi8((char)length);
        __m512i sum = _mm512_setzero_si512();

        for (uint32_t b = 0; b < q->blocks; b++) {
            __mmask64 mask = _mm512_mask_cmpgt_epu8_mask(q->limit_mask[b], spread, q->positions[b]);
            __m512i stored =
                _mm512_mask_loadu_epi8(q->wanted[b], mask, payload + (size_t)b * ZMM_BYTES);
            __m512i differs = _mm512_xor_si512(stored, q->wanted[b]);

            sum = _mm512_add_epi64(sum, _mm512_popcnt_epi64(differs));
        }
        lengths |= (uint64_t)length << (8 * i);
        counts[i] =
            _mm256_add_epi64(_mm512_castsi512_si256(sum), _mm512_extracti64x4_epi64(sum, 1));
    }
    differing = nphdi_add_across(nphdi_interleave_rows(counts), nphdi_interleave_rows(counts + 4));
    nphdi_store_group(differing, lengths, q->limit, out);
}

NPHDI_INLINE void visit_zmm(const nphdi_query *query, const nphdi_rows *rows, uint32_t blocks,
                            const nphdi_visit *visit, nphdi_bits *out)
{
    zmm_query q;

    q.blocks = blocks;
    q.limit = nphdi_shared_limit(query, rows);
    q.prefix_bytes = rows->prefix_bytes;
    for (uint32_t b = 0; b < blocks; b++) {
        size_t at = (size_t)b * ZMM_BYTES;

        q.positions[b] = _mm512_load_si512(positions + at);
        q.limit_mask[b] = _mm512_cmpgt_epu8_mask(_mm512_set1_epi8((char)q.limit), q.positions[b]);
        q.wanted[b] = _mm512_maskz_loadu_epi8(q.limit_mask[b], query->payload + at);
    }
    nphdi_visit_groups(visit, rows->base, rows->stride, compare_zmm, &q, out);
}

/* Picks the loop for the shape of the rows; `visit` tells its callers apart. */
NPHDI_INLINE void visit_rows(const nphdi_query *query, const nphdi_rows *rows,
                             const nphdi_visit *visit, nphdi_bits *out)
{
    uint32_t payload_bytes = rows->payload_bytes;

    if (payload_bytes == YMM_BYTES && rows->prefix_bytes == 1 && rows->stride == YMM_BYTES + 1) {
        visit_ymm(query, rows, YMM_BYTES + 1, 1, compare_long_ymm, visit, out);
    } else if (payload_bytes == YMM_BYTES && rows->prefix_bytes == 0 && rows->stride == YMM_BYTES) {
        visit_ymm(query, rows, YMM_BYTES, 0, compare_ymm, visit, out);
    } else if (payload_bytes <= YMM_BYTES) {
        visit_ymm(query, rows, rows->stride, rows->prefix_bytes, compare_ymm, visit, out);
    } else if (payload_bytes <= ZMM_BYTES) {
        visit_zmm(query, rows, 1, visit, out);
    } else if (payload_bytes <= 2 * ZMM_BYTES) {
        visit_zmm(query, rows, 2, visit, out);
    } else {
        visit_zmm(query, rows, (payload_bytes + ZMM_BYTES - 1) / ZMM_BYTES, visit, out);
    }
}

/* One bit for each of the first `bytes` bytes, at most 64. */
NPHDI_INLINE __mmask64 first_bytes_mask(size_t bytes)
{
    return bytes >= ZMM_BYTES ? ~(uint64_t)0 : _bzhi_u64(~(uint64_t)0, (uint32_t)bytes);
}

static uint32_t hamming_avx512vpopcntdq(const uint8_t *a, const uint8_t *b, size_t bytes)
{
    __m512i sum = _mm512_setzero_si512();

    for (size_t at = 0; at < bytes; at += ZMM_BYTES) {
        __mmask64 mask = first_bytes_mask(bytes - at);
        __m512i x = _mm512_maskz_loadu_epi8(mask, a + at);
        __m512i y = _mm512_maskz_loadu_epi8(mask, b + at);

        sum = _mm512_add_epi64(sum, _mm512_popcnt_epi64(_mm512_xor_si512(x, y)));
    }
    return (uint32_t)_mm512_reduce_add_epi64(sum);
}

static void gather_avx512vpopcntdq(const nphdi_query *query, const nphdi_rows *rows,
                                   const uint32_t *slots, size_t count, nphdi_bits *out)
{
    nphdi_visit visit = {slots, 0, count};

    visit_rows(query, rows, &visit, out);
}

static void range_avx512vpopcntdq(const nphdi_query *query, const nphdi_rows *rows, uint64_t first,
                                  size_t count, nphdi_bits *out)
{
    nphdi_visit visit = {NULL, first, count};

    visit_rows(query, rows, &visit, out);
}

/* ---- planes ---- */

/* With the calls that the thread sanitizer adds between them, gcc 12 builds these functions so that
 * some counts are wrong (tests/unit/test_kernels_planes.c shows it). They write nothing shared. */
#define NO_THREAD_SANITIZER __attribute__((no_sanitize("thread")))

/* Which of the vectors at..at+7 that `present` names are near enough. `planes` is a constant where
 * this is inlined, or run->planes; so is whether all bits of the last of them count, which saves a
 * fourteenth of the time. */
NO_THREAD_SANITIZER NPHDI_INLINE uint64_t near_of_8(const nphdi_planes_run *run, uint32_t planes,
                                                    bool whole, size_t at, __mmask8 present,
                                                    __m512i limit)
{
    const uint8_t *word = run->base + 8 * at;
    const uint32_t last = planes - 1;
    __m512i sum = _mm512_setzero_si512();

    for (uint32_t plane = 0; plane < last; plane++) {
        __m512i stored = _mm512_maskz_loadu_epi64(present, word);
        __m512i wanted = _mm512_set1_epi64((int64_t)run->query[plane]);

        sum = _mm512_add_epi64(sum, _mm512_popcnt_epi64(_mm512_xor_si512(stored, wanted)));
        word += 8 * run->stride;
    }
    __m512i differs = _mm512_xor_si512(_mm512_maskz_loadu_epi64(present, word),
                                       _mm512_set1_epi64((int64_t)run->query[last]));
    if (!whole) {
        differs = _mm512_and_si512(differs, _mm512_set1_epi64((int64_t)run->last_mask));
    }
    sum = _mm512_add_epi64(sum, _mm512_popcnt_epi64(differs));
    return _mm512_mask_cmple_epu64_mask(present, sum, limit);
}

NO_THREAD_SANITIZER NPHDI_INLINE uint64_t within_planes(const nphdi_planes_run *run,
                                                        uint32_t planes, bool whole, size_t count,
                                                        uint32_t most, uint64_t *out)
{
    const __m512i limit = _mm512_set1_epi64((int64_t)most);
    uint64_t any = 0;
    size_t at = 0;

    for (; at + 64 <= count; at += 64) {
        uint64_t word = 0;

        NPHDI_UNROLL_8
        for (size_t i = 0; i < 64; i += 8) {
            word |= near_of_8(run, planes, whole, at + i, 0xff, limit) << i;
        }
        out[at / 64] = word;
        any |= word;
    }
    if (at < count) {
        uint64_t word = 0;

        for (size_t i = 0; at + i < count; i += 8) {
            const size_t left = count - at - i;
            const __mmask8 present = (__mmask8)(left < 8 ? (1U << left) - 1 : 0xff);

            word |= near_of_8(run, planes, whole, at + i, present, limit) << i;
        }
        out[at / 64] = word;
        any |= word;
    }
    return any;
}

NO_THREAD_SANITIZER static uint64_t planes_within_avx512(const nphdi_planes_run *run, size_t count,
                                                         uint32_t limit, uint64_t *out)
{
    const bool whole = run->last_mask == ~(uint64_t)0;

    switch (whole ? run->planes : 0) {
    case 1:
        return within_planes(run, 1, true, count, limit, out);
    case 2:
        return within_planes(run, 2, true, count, limit, out);
    case 3:
        return within_planes(run, 3, true, count, limit, out);
    case 4:
        return within_planes(run, 4, true, count, limit, out);
    default:
        return within_planes(run, run->planes, false, count, limit, out);
    }
}

static uint32_t planes_count_avx512(const nphdi_planes_run *run, size_t at)
{
    uint64_t differing = 0;

    for (uint32_t plane = 0; plane < run->planes; plane++) {
        differing += (uint64_t)_mm_popcnt_u64(nphdi_plane_difference(run, plane, at));
    }
    return (uint32_t)differing;
}

/* ---- sifting ---- */

#define SIFT_VALUES 32

/* The set bits of each 16-bit value: of half bytes by a shuffle, as VPOPCNTDQ has no words as short
 * as these. */
NPHDI_INLINE __m512i count_values(__m512i x)
{
    const __m512i half_counts =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m512i half = _mm512_set1_epi8(0x0f);
    const __m512i low = _mm512_shuffle_epi8(half_counts, _mm512_and_si512(x, half));
    const __m512i high =
        _mm512_shuffle_epi8(half_counts, _mm512_and_si512(_mm512_srli_epi16(x, 4), half));

    return _mm512_maddubs_epi16(_mm512_add_epi8(low, high), _mm512_set1_epi8(1));
}

NO_THREAD_SANITIZER static size_t sift_avx512(const uint8_t *values, const nphdi_sift_run *runs,
                                              size_t count, uint32_t wanted, uint32_t *out)
{
    const __m512i query = _mm512_set1_epi16((short)wanted);
    size_t found = 0;

    for (size_t i = 0; i < count; i++) {
        const __m512i most = _mm512_set1_epi16((short)runs[i].most);
        const uint32_t end = runs[i].first + runs[i].count;

        for (uint32_t at = runs[i].first; at < end; at += SIFT_VALUES) {
            const uint32_t left = end - at < SIFT_VALUES ? end - at : SIFT_VALUES;
            const __mmask32 present = _bzhi_u32(~(uint32_t)0, left);
            const __m512i stored = _mm512_maskz_loadu_epi16(present, values + 2 * (size_t)at);
            const __m512i counts = count_values(_mm512_xor_si512(stored, query));

            for (uint32_t near = _mm512_mask_cmple_epu16_mask(present, counts, most); near != 0;
                 near &= near - 1) {
                out[found++] = at + (uint32_t)__builtin_ctz(near);
            }
        }
    }
    return found;
}

const nphdi_kernels *nphdi_kernels_avx512(void)
{
    static const nphdi_kernels kernels = {"avx512vpopcntdq",
                                          hamming_avx512vpopcntdq,
                                          gather_avx512vpopcntdq,
                                          range_avx512vpopcntdq,
                                          planes_within_avx512,
                                          planes_count_avx512,
                                          sift_avx512,
                                          nphdi_checksum,
                                          0.04,
                                          2.5};

    return &kernels;
}

#else

const nphdi_kernels *nphdi_kernels_avx512(void)
{
    return NULL;
}

#endif
