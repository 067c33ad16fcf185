/* The allocator over malloc and mmap. A reserved range is a private mapping without access and
 * without a claim on swap; committing gives access to its first pages, which the kernel fills with
 * zeros on first touch. The last addresses and mappings are never taken. */
#include "platform/platform.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif
#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif

#define SPARE_BYTES ((size_t)32 << 20)
#define SPARE_MAPPINGS 32
#define LARGE_BYTES ((size_t)1 << 20) /* beyond what looking costs */

/* Is there room for the program itself behind what was just taken: a thread with its stack, what
 * malloc takes next, and the mappings of these? Otherwise the limit of addresses, or of mappings,
 * would be met by whoever asks next, who may not be able to cope. */
static bool system_leaves_room(void)
{
    const long page = sysconf(_SC_PAGESIZE);
    bool fits = true;
    char *range =
        mmap(NULL, SPARE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (page <= 0 || range == MAP_FAILED) {
        return false;
    }
    for (int i = 0; fits && i < SPARE_MAPPINGS / 2; i++) {
        /* every other page of another kind: two mappings each */
        fits = mprotect(range + (2 * i + 1) * page, (size_t)page, PROT_READ) == 0;
    }
    (void)munmap(range, SPARE_BYTES);
    return fits;
}

static void *system_allocate(void *context, size_t bytes)
{
    void *memory = malloc(bytes);

    (void)context;
    if (memory != NULL && bytes >= LARGE_BYTES && !system_leaves_room()) {
        free(memory);
        memory = NULL;
    }
    return memory;
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
    if (!system_leaves_room()) {
        (void)munmap(range, bytes);
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
