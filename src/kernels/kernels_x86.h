/* What the AVX2 and AVX-512 kernels share: adding up the counts of eight rows at once.
 *
 * A row is counted into the four 64-bit words of a register. The counts are small, so four rows fit
 * into the 16-bit lanes of one register by shifting, and one addition across serves them all. */
#ifndef NPHDI_KERNELS_X86_H
#define NPHDI_KERNELS_X86_H

#include "kernels/kernels_rows.h"

#include <immintrin.h>

/* The length of a row, not clamped: a mask for more bytes than there are costs nothing, comparing
 * would. Full rows have any length. */
NPHDI_INLINE uint32_t nphdi_row_length(const uint8_t *row, uint32_t prefix_bytes)
{
    return prefix_bytes == 0 ? 255 : row[0];
}

/* Four rows' word counts, at most 16 bits, in the four lanes of each word. */
NPHDI_INLINE __m256i nphdi_interleave_rows(const __m256i counts[4])
{
    __m256i low = _mm256_or_si256(counts[0], _mm256_slli_epi64(counts[1], 16));
    __m256i high =
        _mm256_or_si256(_mm256_slli_epi64(counts[2], 32), _mm256_slli_epi64(counts[3], 48));

    return _mm256_or_si256(low, high);
}

/* The sums for eight rows, in order, from the lanes of rows 0..3 and of rows 4..7. */
NPHDI_INLINE __m128i nphdi_add_across(__m256i low, __m256i high)
{
    __m256i sum =
        _mm256_add_epi64(_mm256_unpacklo_epi64(low, high), _mm256_unpackhi_epi64(low, high));

    return _mm_add_epi64(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
}

/* `lengths` holds a byte for each row. */
NPHDI_INLINE void nphdi_store_group(__m128i differing, uint64_t lengths, uint32_t limit,
                                    nphdi_bits out[NPHDI_GROUP_ROWS])
{
    __m128i clamped = _mm_min_epu8(_mm_cvtsi64_si128((int64_t)lengths), _mm_set1_epi8((char)limit));
    __m128i shared = _mm_cvtepu8_epi16(clamped);

    _mm_storeu_si128((void *)out, _mm_unpacklo_epi16(differing, shared));
    _mm_storeu_si128((void *)(out + 4), _mm_unpackhi_epi16(differing, shared));
}

#endif
