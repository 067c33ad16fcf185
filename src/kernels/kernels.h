/* Counting differing bits: one pair, and one query against many stored rows.
 *
 * A row is `prefix_bytes` (0, or 1 with the length of the payload in bytes) and then
 * `payload_bytes` of payload, zero beyond its length. Kernels return exact integer counts; the
 * quotient is formed in one place (nphdi_bits_distance), so that every level gives the same
 * distances and the same ties. No kernel reads outside [row, row + prefix + payload_bytes) or
 * outside the query's bytes. Any alignment. */
#ifndef NPHDI_KERNELS_H
#define NPHDI_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

typedef struct nphdi_query {
    const uint8_t *payload;
    uint32_t bytes; /* 1..255, and at most the rows' payload_bytes */
} nphdi_query;

typedef struct nphdi_rows {
    const uint8_t *base;
    uint64_t stride;        /* bytes from row to row; prefix_bytes + payload_bytes or more */
    uint32_t payload_bytes; /* 1..255 */
    uint32_t prefix_bytes;  /* 1: the row begins with its length (NPHD); 0: all rows are full */
} nphdi_rows;

/* The stored row of a slot as a query. bytes is 0 for a row without payload. */
static inline nphdi_query nphdi_rows_query(const nphdi_rows *rows, uint32_t slot)
{
    const uint8_t *row = rows->base + slot * rows->stride;
    nphdi_query query = {row + rows->prefix_bytes, rows->payload_bytes};

    if (rows->prefix_bytes != 0 && row[0] < query.bytes) {
        query.bytes = row[0];
    }
    return query;
}

/* The outcome of one comparison. `shared` is min(query bytes, row length, payload_bytes); a length
 * byte above payload_bytes, which foreign files may hold, is clamped. */
typedef struct nphdi_bits {
    uint16_t differing; /* bits, 0..2040 */
    uint16_t shared;    /* bytes, 0..255 */
} nphdi_bits;

/* Starts a row on its way to the cache. */
static inline void nphdi_rows_prefetch(const nphdi_rows *rows, uint32_t slot)
{
    const uint8_t *row = rows->base + slot * rows->stride;

    __builtin_prefetch(row);
    __builtin_prefetch(row + rows->stride - 1);
}

/* Words of a query, or of a vector, in planes: NPHD_MAX_BYTES and what pads them. */
#define NPHDI_PLANE_WORDS 32

/* Vectors by planes: the first 8 bytes of all, then the second ones of all, and so on. Of word p of
 * vector i the bytes lie at base + 8 * (p * stride + i), in the order of the payload; any
 * alignment.
 */
typedef struct nphdi_planes_run {
    const uint8_t *base;
    size_t stride;
    const uint64_t *query; /* words in the same order of bytes */
    uint32_t planes;       /* compared: 1..NPHDI_PLANE_WORDS */
    uint64_t last_mask;    /* the bits of the last of them that count */
} nphdi_planes_run;

/* Some of a row of 16-bit values, little-endian, any alignment: those that lie side by side. */
typedef struct nphdi_sift_run {
    uint32_t first;
    uint32_t count;
    uint32_t most; /* bits that may differ: 0..16, or more for all */
} nphdi_sift_run;

typedef struct nphdi_kernels {
    const char *name;
    /* Differing bits of two byte strings of equal length 0..255. */
    uint32_t (*hamming)(const uint8_t *a, const uint8_t *b, size_t bytes);
    /* The query against rows slots[0..count). */
    void (*gather)(const nphdi_query *query, const nphdi_rows *rows, const uint32_t *slots,
                   size_t count, nphdi_bits *out);
    /* The query against rows first..first+count-1. */
    void (*range)(const nphdi_query *query, const nphdi_rows *rows, uint64_t first, size_t count,
                  nphdi_bits *out);
    /* Which of vectors 0..count-1 differ in at most `limit` bits: bit i % 64 of out[i / 64], all of
     * whose (count + 63) / 64 words are set. Reads no vector beyond. Returns all words or'ed. */
    uint64_t (*planes_within)(const nphdi_planes_run *run, size_t count, uint32_t limit,
                              uint64_t *out);
    /* The differing bits of vector `at`. */
    uint32_t (*planes_count)(const nphdi_planes_run *run, size_t at);
    /* The places of the values in these runs that differ from `wanted` in at most the run's bits,
     * in order; returns how many. Reads no value beyond a run's last one, but for some before its
     * first one. `out` has room for all. */
    size_t (*sift)(const uint8_t *values, const nphdi_sift_run *runs, size_t count, uint32_t wanted,
                   uint32_t *out);
    /* XXH3 with 64 bits and seed 0, as nphdi_hash_bytes(): for blocks of files, where the widest
     * registers pay. */
    uint64_t (*checksum)(const void *data, size_t bytes);
    /* What a word of a vector costs planes_within(), and a row range(), in nanoseconds, where they
     * come from a cache near enough: by bench_scan and bench_kernels. */
    double word_ns;
    double row_ns;
} nphdi_kernels;

/* The levels, best last; NULL where this build has none of the kind. */
const nphdi_kernels *nphdi_kernels_portable(void);
const nphdi_kernels *nphdi_kernels_neon(void);
const nphdi_kernels *nphdi_kernels_avx2(void);
const nphdi_kernels *nphdi_kernels_avx512(void);

/* The best level that this processor and operating system run, or the lower one that NPHD_KERNEL
 * names. Chosen at the first call; any thread. */
const nphdi_kernels *nphdi_kernels_get(void);

/* Every level that this machine can run, portable first; returns how many (at most 4). */
size_t nphdi_kernels_available(const nphdi_kernels *out[4]);

/* As many comparisons as nphdi_bits_nearer() takes, and how it reads them: to a multiple of STEP,
 * which may lie beyond the last. */
#define NPHDI_NEARER_MOST 64
#define NPHDI_NEARER_STEP 4

/* Bit i is set where bits[i] is strictly nearer than the bound; `count` is 1..NPHDI_NEARER_MOST.
 * No division: a / sa < b / sb as a * sb - b * sa < 0; where nothing is shared the distance is 0,
 * as of 0 / 1. Inlined, so it is built for the architecture's baseline and not chosen at run time.
 */
static inline uint64_t nphdi_bits_nearer(const nphdi_bits *bits, uint32_t count, nphdi_bits bound)
{
    const int32_t differing = bound.differing;
    const int32_t shared = bound.shared + (bound.shared == 0);
    uint64_t nearer = 0;

#if defined(__SSE2__)
    /* of a lane the low half is what differs and the high one what is shared; both have a sign to
     * spare. A row that shares nothing is all zeros, of which the product would say "equal". */
    const __m128i factors = _mm_set1_epi32((int32_t)((uint32_t)-differing << 16) | shared);
    const __m128i nothing_shared = _mm_set1_epi32(-differing);

    for (uint32_t i = 0; i < count; i += NPHDI_NEARER_STEP) {
        const __m128i rows = _mm_loadu_si128((const void *)(bits + i));
        const __m128i empty = _mm_cmpeq_epi32(rows, _mm_setzero_si128());
        const __m128i less =
            _mm_or_si128(_mm_madd_epi16(rows, factors), _mm_and_si128(empty, nothing_shared));
        nearer |= (uint64_t)(uint32_t)_mm_movemask_ps(_mm_castsi128_ps(less)) << i;
    }
    nearer &= ~(uint64_t)0 >> (NPHDI_NEARER_MOST - count);
#else
    for (uint32_t i = 0; i < count; i++) {
        const int32_t less =
            bits[i].differing * shared - differing * (bits[i].shared + (bits[i].shared == 0));
        nearer |= (uint64_t)((uint32_t)less >> 31) << i;
    }
#endif
    return nearer;
}

/* The correctly rounded quotient; 0 when nothing is shared. */
static inline float nphdi_bits_distance(nphdi_bits bits)
{
    return bits.shared == 0 ? 0.0F : (float)bits.differing / (float)(8 * bits.shared);
}

#endif
