/* Invariants of a region: committed_bytes <= reserved_bytes, and equal for a block; base moves in
 * nphdi_region_grow() alone; bytes below committed_bytes are readable and writable, and zero until
 * first written. */
#include "base/memory.h"

#include "base/checked.h"
#include "base/error.h"

#include <string.h>

/* Ranges are reserved and committed in whole steps of this size, a multiple of every page size. */
#define REGION_STEP_BYTES 65536

/* A region of up to so many bytes is a block of the allocator, which gives blocks of this size out
 * of what it has mapped already. */
#define REGION_BLOCK_MOST 65536

/* What a range reserves: 16 MiB, then this many times what is needed, so that an array moves at
 * 64 KiB, at 16 MiB, and from there on at each 64-fold. Copying 16 MiB takes some milliseconds. */
#define REGION_RANGE_LEAST ((uint64_t)16 << 20)
#define REGION_AHEAD 64

nphd_status nphdi_alloc(const nphd_allocator *allocator, uint64_t count, size_t size, void *out,
                        nphd_error *err)
{
    void *memory = NULL;
    uint64_t bytes;

    memcpy(out, &memory, sizeof(memory));
    if (!nphdi_checked_mul(count, size, &bytes) || bytes > SIZE_MAX) {
        return nphdi_fail(err, NPHD_OUT_OF_MEMORY, "%llu items of %zu bytes exceed memory",
                          (unsigned long long)count, size);
    }
    if (bytes == 0) {
        return NPHD_OK;
    }
    memory = allocator->allocate(allocator->context, (size_t)bytes);
    if (memory == NULL) {
        return nphdi_fail(err, NPHD_OUT_OF_MEMORY, "cannot allocate %llu bytes",
                          (unsigned long long)bytes);
    }
    memset(memory, 0, (size_t)bytes);
    memcpy(out, &memory, sizeof(memory));
    return NPHD_OK;
}

void nphdi_free(const nphd_allocator *allocator, void *memory, uint64_t count, size_t size)
{
    if (memory != NULL) {
        allocator->release(allocator->context, memory, (size_t)count * size);
    }
}

static uint64_t region_round(uint64_t bytes)
{
    const uint64_t rest = bytes % REGION_STEP_BYTES;

    return rest == 0 ? bytes : bytes + (REGION_STEP_BYTES - rest);
}

nphd_status nphdi_region_reserve(nphdi_region *region, const nphd_allocator *allocator,
                                 uint64_t wanted_bytes, uint64_t least_bytes, nphd_error *err)
{
    const uint64_t least = region_round(least_bytes == 0 ? 1 : least_bytes);
    uint64_t bytes = region_round(wanted_bytes);

    while (bytes >= least) {
        void *base =
            bytes > SIZE_MAX ? NULL : allocator->reserve(allocator->context, (size_t)bytes);
        if (base != NULL) {
            region->base = base;
            region->reserved_bytes = bytes;
            region->committed_bytes = 0;
            return NPHD_OK;
        }
        if (bytes == least) {
            break;
        }
        bytes = bytes / 2 < least ? least : region_round(bytes / 2);
    }
    return nphdi_fail(err, NPHD_OUT_OF_MEMORY, "cannot reserve %llu bytes of addresses",
                      (unsigned long long)least);
}

nphd_status nphdi_region_commit(nphdi_region *region, const nphd_allocator *allocator,
                                uint64_t bytes, nphd_error *err)
{
    uint64_t target;

    if (bytes <= region->committed_bytes) {
        return NPHD_OK;
    }
    if (bytes > region->reserved_bytes) {
        return nphdi_fail(err, NPHD_FULL, "the reserved range of %llu bytes is used up",
                          (unsigned long long)region->reserved_bytes);
    }
    target = region_round(bytes); /* as the reserved range is */
    if (allocator->commit(allocator->context, region->base, (size_t)region->committed_bytes,
                          (size_t)target) != 0) {
        return nphdi_fail(err, NPHD_OUT_OF_MEMORY, "cannot commit %llu bytes",
                          (unsigned long long)(target - region->committed_bytes));
    }
    region->committed_bytes = target;
    return NPHD_OK;
}

/* A region for `bytes` that has nothing in it yet. */
static nphd_status region_begin(nphdi_region *region, const nphd_allocator *allocator,
                                uint64_t bytes, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t wanted = REGION_RANGE_LEAST;

    memset(region, 0, sizeof(*region));
    if (bytes <= REGION_BLOCK_MOST) {
        TRY(nphdi_alloc(allocator, bytes, 1, &region->base, err));
        region->reserved_bytes = bytes;
        region->committed_bytes = bytes;
        region->block = true;
        return NPHD_OK;
    }
    if (bytes >= REGION_RANGE_LEAST && !nphdi_checked_mul(bytes, REGION_AHEAD, &wanted)) {
        wanted = UINT64_MAX / 2;
    }
    TRY(nphdi_region_reserve(region, allocator, wanted, bytes, err));
    status = nphdi_region_commit(region, allocator, bytes, err);
    if (status != NPHD_OK) {
        nphdi_region_release(region, allocator);
    }
done:
    return status;
}

nphd_status nphdi_region_grow(nphdi_region *region, const nphd_allocator *allocator, uint64_t bytes,
                              nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_region next;

    if (bytes <= region->reserved_bytes) {
        return nphdi_region_commit(region, allocator, bytes, err);
    }
    TRY(region_begin(&next, allocator, bytes, err));
    if (region->committed_bytes > 0) {
        memcpy(next.base, region->base, (size_t)region->committed_bytes);
    }
    nphdi_region_release(region, allocator);
    *region = next;
done:
    return status;
}

void nphdi_region_release(nphdi_region *region, const nphd_allocator *allocator)
{
    if (region->block) {
        nphdi_free(allocator, region->base, region->reserved_bytes, 1);
    } else if (region->base != NULL) {
        allocator->unreserve(allocator->context, region->base, (size_t)region->reserved_bytes);
    }
    memset(region, 0, sizeof(*region));
}
