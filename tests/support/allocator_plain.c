#include "allocator_plain.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MOST_RANGES 64
#define PAGE_BYTES 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *free_ranges[MOST_RANGES];
static size_t free_range_count;

static void *plain_allocate(void *context, size_t bytes)
{
    (void)context;
    return malloc(bytes);
}

static void plain_release(void *context, void *memory, size_t bytes)
{
    (void)context;
    (void)bytes;
    free(memory);
}

static void *plain_reserve(void *context, size_t bytes)
{
    void *range = NULL;

    (void)context;
    if (bytes > ALLOCATOR_PLAIN_RANGE_BYTES) {
        return NULL;
    }
    (void)pthread_mutex_lock(&lock);
    if (free_range_count > 0) {
        range = free_ranges[--free_range_count];
    }
    (void)pthread_mutex_unlock(&lock);
    return range != NULL ? range : aligned_alloc(PAGE_BYTES, ALLOCATOR_PLAIN_RANGE_BYTES);
}

static int plain_commit(void *context, void *range, size_t old_bytes, size_t new_bytes)
{
    (void)context;
    memset((uint8_t *)range + old_bytes, 0, new_bytes - old_bytes);
    return 0;
}

static void plain_unreserve(void *context, void *range, size_t bytes)
{
    (void)context;
    (void)bytes;
    (void)pthread_mutex_lock(&lock);
    if (free_range_count < MOST_RANGES) {
        free_ranges[free_range_count++] = range;
        range = NULL;
    }
    (void)pthread_mutex_unlock(&lock);
    free(range);
}

const nphd_allocator *allocator_plain(void)
{
    static const nphd_allocator table = {sizeof(nphd_allocator), NULL,          plain_allocate,
                                         plain_release,          plain_reserve, plain_commit,
                                         plain_unreserve};

    return &table;
}

void allocator_plain_release(void)
{
    (void)pthread_mutex_lock(&lock);
    while (free_range_count > 0) {
        free(free_ranges[--free_range_count]);
    }
    (void)pthread_mutex_unlock(&lock);
}
