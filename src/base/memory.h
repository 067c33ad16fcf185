/* Memory of a handle: allocation through its allocator, with the error text filled in, and growing
 * arrays that move only when they are told to. */
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

/* An array that grows in place up to what was reserved for it, and moves beyond that. Small ones
 * are blocks of the allocator, for a process may have a hundred thousand of them and no more than
 * 65,530 mappings; large ones are ranges of addresses with room for a multiple of what they hold.
 * Zero-initialise; the memory in it starts as zeros. */
typedef struct nphdi_region {
    uint8_t *base;
    uint64_t reserved_bytes;
    uint64_t committed_bytes;
    bool block; /* of the allocator: all of it is committed */
} nphdi_region;

/* Reserves up to `wanted_bytes` of addresses, less (down to least_bytes) where the system refuses.
 */
nphd_status nphdi_region_reserve(nphdi_region *region, const nphd_allocator *allocator,
                                 uint64_t wanted_bytes, uint64_t least_bytes, nphd_error *err);

/* Makes the first `bytes` bytes usable, in place. NPHD_FULL when the reserved range is too small;
 * the region is unchanged on failure. */
nphd_status nphdi_region_commit(nphdi_region *region, const nphd_allocator *allocator,
                                uint64_t bytes, nphd_error *err);

/* The same, moving the region where it has to; nobody may be looking at it then. Unchanged on
 * failure. */
nphd_status nphdi_region_grow(nphdi_region *region, const nphd_allocator *allocator, uint64_t bytes,
                              nphd_error *err);

/* Gives the memory back and leaves the region zero. */
void nphdi_region_release(nphdi_region *region, const nphd_allocator *allocator);

#endif
