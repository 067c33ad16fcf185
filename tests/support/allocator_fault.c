/* The fault injector for memory: the system's allocator, with a list of what is out. */
#include "allocator_fault.h"

#include "platform/platform.h"

#include <inttypes.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FRESH_BYTE 0xa5

/* A block or a range that is out. */
typedef struct fault_piece {
    uintptr_t address; /* first: pieces are compared by it */
    size_t bytes;
    size_t committed_bytes;
    bool range;
} fault_piece;

static int piece_compare(const void *a, const void *b)
{
    const uintptr_t left = *(const uintptr_t *)a;
    const uintptr_t right = *(const uintptr_t *)b;

    return (left > right) - (left < right);
}

static void fault_lock(allocator_fault *fault)
{
    if (pthread_mutex_lock(&fault->mutex) != 0) {
        abort();
    }
}

static void fault_unlock(allocator_fault *fault)
{
    (void)pthread_mutex_unlock(&fault->mutex);
}

static bool fault_decide(allocator_fault *fault, uint32_t kind)
{
    bool fails = false;

    fault_lock(fault);
    if ((fault->kinds & kind) != 0) {
        fault->calls++;
        fails = fault->fail_at != 0 &&
                (fault->for_ever ? fault->calls >= fault->fail_at : fault->calls == fault->fail_at);
        fault->failed += fails;
    }
    fault_unlock(fault);
    return fails;
}

static void fault_mistake(allocator_fault *fault, const char *what, const void *memory,
                          size_t bytes)
{
    fault->mistakes++;
    (void)fprintf(stderr, "allocator: %s: %p, %zu bytes\n", what, memory, bytes);
}

static void fault_update_peak(allocator_fault *fault)
{
    const uint64_t bytes = fault->allocated_bytes + fault->committed_bytes;

    if (bytes > fault->peak_bytes) {
        fault->peak_bytes = bytes;
    }
}

static void fault_add(allocator_fault *fault, void *memory, size_t bytes, bool range)
{
    fault_piece *piece = calloc(1, sizeof(*piece));

    if (piece == NULL) {
        abort();
    }
    piece->address = (uintptr_t)memory;
    piece->bytes = bytes;
    piece->range = range;
    fault_lock(fault);
    if (tsearch(piece, &fault->tree, piece_compare) == NULL) {
        abort();
    }
    if (range) {
        fault->ranges++;
        fault->reserved_bytes += bytes;
    } else {
        fault->blocks++;
        fault->allocated_bytes += bytes;
    }
    fault_update_peak(fault);
    fault_unlock(fault);
}

/* The piece at an address, NULL (and a mistake) if there is none of that sort. Under the lock. */
static fault_piece *fault_find(allocator_fault *fault, const void *memory, size_t bytes, bool range)
{
    const uintptr_t key = (uintptr_t)memory;
    void *node = tfind(&key, &fault->tree, piece_compare);
    fault_piece *piece = node == NULL ? NULL : *(fault_piece **)node;

    if (piece == NULL || piece->range != range) {
        fault_mistake(fault, range ? "not a reserved range" : "not an allocated block", memory,
                      bytes);
        return NULL;
    }
    return piece;
}

/* Takes a piece off the list and tells its true size; false when it is not there. A wrong size is
 * only noted, so that the test goes on to its own check. */
static bool fault_take(allocator_fault *fault, const void *memory, size_t bytes, bool range,
                       size_t *out_bytes)
{
    fault_piece *piece;
    bool found = false;

    fault_lock(fault);
    piece = fault_find(fault, memory, bytes, range);
    if (piece != NULL) {
        found = true;
        *out_bytes = piece->bytes;
        if (piece->bytes != bytes) {
            fault_mistake(fault, "given back with another size than taken", memory, bytes);
        }
        if (range) {
            fault->ranges--;
            fault->reserved_bytes -= piece->bytes;
            fault->committed_bytes -= piece->committed_bytes;
        } else {
            fault->blocks--;
            fault->allocated_bytes -= piece->bytes;
        }
        (void)tdelete(piece, &fault->tree, piece_compare);
        free(piece);
    }
    fault_unlock(fault);
    return found;
}

static void *fault_allocate(void *context, size_t bytes)
{
    allocator_fault *fault = context;
    void *memory;

    if (fault_decide(fault, ALLOCATOR_FAULT_ALLOCATE)) {
        return NULL;
    }
    memory = fault->below->allocate(fault->below->context, bytes);
    if (memory != NULL) {
        memset(memory, FRESH_BYTE, bytes);
        fault_add(fault, memory, bytes, false);
    }
    return memory;
}

static void fault_release(void *context, void *memory, size_t bytes)
{
    allocator_fault *fault = context;

    if (fault_take(fault, memory, bytes, false, &bytes)) {
        fault->below->release(fault->below->context, memory, bytes);
    }
}

static void *fault_reserve(void *context, size_t bytes)
{
    allocator_fault *fault = context;
    void *range;

    if (fault_decide(fault, ALLOCATOR_FAULT_RESERVE) ||
        (fault->reserve_limit_bytes != 0 && bytes > fault->reserve_limit_bytes)) {
        return NULL;
    }
    range = fault->below->reserve(fault->below->context, bytes);
    if (range != NULL) {
        fault_add(fault, range, bytes, true);
    }
    return range;
}

static int fault_commit(void *context, void *range, size_t old_bytes, size_t new_bytes)
{
    allocator_fault *fault = context;
    fault_piece *piece;
    int failed = -1;

    if (fault_decide(fault, ALLOCATOR_FAULT_COMMIT)) {
        return -1;
    }
    fault_lock(fault);
    piece = fault_find(fault, range, new_bytes, true);
    if (piece != NULL) {
        if (piece->committed_bytes != old_bytes || new_bytes < old_bytes ||
            new_bytes > piece->bytes) {
            fault_mistake(fault, "committed with wrong sizes", range, new_bytes);
        } else {
            failed = fault->below->commit(fault->below->context, range, old_bytes, new_bytes);
            if (failed == 0) {
                piece->committed_bytes = new_bytes;
                fault->committed_bytes += new_bytes - old_bytes;
                fault_update_peak(fault);
            }
        }
    }
    fault_unlock(fault);
    return failed;
}

static void fault_unreserve(void *context, void *range, size_t bytes)
{
    allocator_fault *fault = context;

    if (fault_take(fault, range, bytes, true, &bytes)) {
        fault->below->unreserve(fault->below->context, range, bytes);
    }
}

void allocator_fault_init(allocator_fault *fault)
{
    memset(fault, 0, sizeof(*fault));
    fault->below = nphdi_allocator_system();
    fault->table = (nphd_allocator){
        .struct_size = sizeof(nphd_allocator),
        .context = fault,
        .allocate = fault_allocate,
        .release = fault_release,
        .reserve = fault_reserve,
        .commit = fault_commit,
        .unreserve = fault_unreserve,
    };
    if (pthread_mutex_init(&fault->mutex, NULL) != 0) {
        abort();
    }
}

/* What is still out stays out, for the leak sanitizer to report. */
void allocator_fault_destroy(allocator_fault *fault)
{
    while (fault->tree != NULL) {
        fault_piece *piece = *(fault_piece **)fault->tree;
        (void)tdelete(piece, &fault->tree, piece_compare);
        free(piece);
    }
    (void)pthread_mutex_destroy(&fault->mutex);
    memset(fault, 0, sizeof(*fault));
}

void allocator_fault_arm(allocator_fault *fault, uint32_t kinds, uint64_t fail_at, bool for_ever)
{
    fault_lock(fault);
    fault->kinds = kinds;
    fault->fail_at = fail_at;
    fault->for_ever = for_ever;
    fault->calls = 0;
    fault->failed = 0;
    fault_unlock(fault);
}

bool allocator_fault_is_clean(const allocator_fault *fault)
{
    if (fault->blocks == 0 && fault->ranges == 0 && fault->mistakes == 0) {
        return true;
    }
    (void)fprintf(stderr,
                  "allocator: %" PRIu64 " blocks of %" PRIu64 " bytes and %" PRIu64
                  " ranges are out, %" PRIu64 " mistakes\n",
                  fault->blocks, fault->allocated_bytes, fault->ranges, fault->mistakes);
    return false;
}
