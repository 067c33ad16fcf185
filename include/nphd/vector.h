/* Keys, vectors and distances: the plain values that go into an index and come out of it. */
#ifndef NPHD_VECTOR_H
#define NPHD_VECTOR_H

#include <nphd/export.h>
#include <nphd/status.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Most bytes in a vector, most bits, and most bits of an index created without a size. */
#define NPHD_MAX_BYTES 255
#define NPHD_MAX_BITS 2040
#define NPHD_DEFAULT_BITS 256

/**
 * The identifier of a stored vector.
 *
 * An index has keys of 64 bits (`high` is 0) or of 128 bits (`high` holds octets 0 to 7 and `low`
 * octets 8 to 15, each read as a big-endian number, so that numeric order is octet order). The key
 * with all bits one marks removed entries in the file format and is refused everywhere.
 */
typedef struct nphd_key {
    uint64_t high;
    uint64_t low;
} nphd_key;

/** A key of 64 bits. */
static inline nphd_key nphd_key_u64(uint64_t value)
{
    nphd_key key;
    key.high = 0;
    key.low = value;
    return key;
}

/** A key of 128 bits from its 16 octets. Threads: any. */
NPHD_API nphd_key nphd_key_from_octets(const uint8_t octets[16]);

/** The 16 octets of a key of 128 bits. Threads: any. */
NPHD_API void nphd_key_to_octets(nphd_key key, uint8_t out_octets[16]);

/** -1, 0 or 1 as `a` is below, equal to or above `b`. Threads: any. */
NPHD_API int nphd_key_compare(nphd_key a, nphd_key b);

/** A borrowed vector: `bytes` bytes at `data`, the first bit first. Owned by the caller. */
typedef struct nphd_vector {
    const uint8_t *data;
    size_t bytes;
} nphd_vector;

typedef enum nphd_metric {
    NPHD_METRIC_DEFAULT = 0, /* NPHD for a new index; whatever a file holds when opening */
    NPHD_METRIC_NPHD = 1,    /* differing bits / bits of the common prefix, in [0, 1] */
    NPHD_METRIC_HAMMING = 2  /* differing bits; every vector has the full width */
} nphd_metric;

/** "nphd", "hamming", or "unknown". Static text. Threads: any. */
NPHD_API const char *nphd_metric_name(nphd_metric metric);

/**
 * The normalised prefix Hamming distance of two vectors: the share of differing bits among the
 * min(a.bytes, b.bytes) * 8 bits that both have.
 *
 * Shapes   each vector 1..NPHD_MAX_BYTES bytes; lengths may differ.
 * Units    *out: a fraction in [0, 1], the correctly rounded quotient.
 * Errors   NPHD_INVALID_ARGUMENT: a NULL pointer or a length out of range; *out is 0.
 * Threads  any.
 */
NPHD_API nphd_status nphd_distance(nphd_vector a, nphd_vector b, float *out, nphd_error *err);

/**
 * The number of differing bits of two vectors of equal length.
 *
 * Errors   NPHD_INVALID_ARGUMENT: a NULL pointer, or lengths that differ or are out of range.
 * Threads  any.
 */
NPHD_API nphd_status nphd_hamming(nphd_vector a, nphd_vector b, uint32_t *out, nphd_error *err);

/**
 * The name of the kernels in use: "portable", "neon", "avx2" or "avx512vpopcntdq".
 *
 * Chosen once, at the first use, as the best this processor has. The environment variable
 * NPHD_KERNEL names a lower one to use instead. Static text. Threads: any.
 */
NPHD_API const char *nphd_kernel_name(void);

#ifdef __cplusplus
}
#endif

#endif
