/* Memory of a handle: allocation through its allocator, with the error text filled in, and growing
 * arrays in reserved address ranges that never move. */
#ifndef NPHDI_MEMORY_H
#define NPHDI_MEMORY_H

#include <nphd/allocator.h>
#include <nphd/status.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Zeroed memory for count * size bytes; *out is NULL on failure, and for 0 bytes. */
nphd_status nphdi_alloc(const nphd_allocator *allocator, uint64_t count, size_t size, void *out,
                        nphd_error *err);

/* Takes NULL. `count` and `size` as allocated. */
void nphdi_free(const nphd_allocator *allocator, void *memory, uint64_t count, size_t size);

/* An array that grows in place. Zero-initialise; the memory in it starts as zeros. */
typedef struct nphdi_region {
    uint8_t *base;
    uint64_t reserved_bytes;
    uint64_t committed_bytes;
} nphdi_region;

/* Reserves up to `wanted_bytes` of addresses, less (down to least_bytes) where the system refuses.
 */
nphd_status nphdi_region_reserve(nphdi_region *region, const nphd_allocator *allocator,
                                 uint64_t wanted_bytes, uint64_t least_bytes, nphd_error *err);

/* Makes the first `bytes` bytes usable. NPHD_FULL when the reserved range is too small; the region
 * is unchanged on failure. */
nphd_status nphdi_region_commit(nphdi_region *region, const nphd_allocator *allocator,
                                uint64_t bytes, nphd_error *err);

/* Gives the range back and leaves the region zero. */
void nphdi_region_release(nphdi_region *region, const nphd_allocator *allocator);

#endif
