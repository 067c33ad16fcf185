/* The allocator over malloc and mmap. A reserved range is a private mapping without access and
 * without a claim on swap; committing gives access to its first pages, which the kernel fills with
 * zeros on first touch. */
#include "platform/platform.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif
#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif

static void *system_allocate(void *context, size_t bytes)
{
    (void)context;
    return malloc(bytes);
}

static void system_release(void *context, void *memory, size_t bytes)
{
    (void)context;
    (void)bytes;
    free(memory);
}

static void *system_reserve(void *context, size_t bytes)
{
    void *range;

    (void)context;
    range = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) {
        return NULL;
    }
#ifdef MADV_HUGEPAGE
    /* graph and rows are read at random: with pages of 4 KiB most of those reads miss the TLB too.
     * Only whole huge pages inside the committed part are taken; a refusal costs nothing. */
    (void)madvise(range, bytes, MADV_HUGEPAGE);
#endif
    return range;
}

static int system_commit(void *context, void *range, size_t old_bytes, size_t new_bytes)
{
    const long page = sysconf(_SC_PAGESIZE);
    size_t from;

    (void)context;
    if (page <= 0) {
        return -1;
    }
    from = old_bytes - old_bytes % (size_t)page;
    if (new_bytes <= from) {
        return 0;
    }
    return mprotect((char *)range + from, new_bytes - from, PROT_READ | PROT_WRITE);
}

static void system_unreserve(void *context, void *range, size_t bytes)
{
    (void)context;
    (void)munmap(range, bytes);
}

uint64_t nphdi_memory_bytes(void)
{
    uint64_t bytes = 1ULL << 34; /* a guess, where the system does not tell */
    struct rlimit limit;

#ifdef _SC_PHYS_PAGES
    const long pages = sysconf(_SC_PHYS_PAGES);
    const long page = sysconf(_SC_PAGESIZE);

    if (pages > 0 && page > 0) {
        bytes = (uint64_t)pages * (uint64_t)page;
    }
#endif
    /* under a limit of addresses one index takes but a part of them */
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
        limit.rlim_cur / 16 < bytes) {
        bytes = limit.rlim_cur / 16;
    }
    return bytes;
}

const nphd_allocator *nphdi_allocator_system(void)
{
    static const nphd_allocator table = {
        .struct_size = sizeof(nphd_allocator),
        .allocate = system_allocate,
        .release = system_release,
        .reserve = system_reserve,
        .commit = system_commit,
        .unreserve = system_unreserve,
    };

    return &table;
}
