/* Heapsort, in place: qsort of the C library may take memory of its own, past the allocator of a
 * handle. Made for its caller by the compiler, which sees both functions. */
#ifndef NPHDI_HEAP_SORT_H
#define NPHDI_HEAP_SORT_H

#include <stdbool.h>
#include <stdint.h>

/* Of the items in places a and b. */
typedef bool (*nphdi_heap_less)(const void *items, uint64_t a, uint64_t b);
typedef void (*nphdi_heap_swap)(void *items, uint64_t a, uint64_t b);

/* Lets the item at `at` sink to where none below it is greater; the heap has `count` items. */
static inline void nphdi_heap_sink(void *items, uint64_t count, uint64_t at, nphdi_heap_less less,
                                   nphdi_heap_swap swap)
{
    uint64_t child;

    while ((child = 2 * at + 1) < count) {
        if (child + 1 < count && less(items, child, child + 1)) {
            child++;
        }
        if (!less(items, at, child)) {
            return;
        }
        swap(items, at, child);
        at = child;
    }
}

/* The greatest comes first. */
static inline void nphdi_heap_make(void *items, uint64_t count, nphdi_heap_less less,
                                   nphdi_heap_swap swap)
{
    for (uint64_t root = count / 2; root > 0; root--) {
        nphdi_heap_sink(items, count, root - 1, less, swap);
    }
}

/* Ascending. */
static inline void nphdi_heap_sort(void *items, uint64_t count, nphdi_heap_less less,
                                   nphdi_heap_swap swap)
{
    nphdi_heap_make(items, count, less, swap);
    for (uint64_t left = count; left > 1; left--) {
        swap(items, 0, left - 1);
        nphdi_heap_sink(items, left - 1, 0, less, swap);
    }
}

#endif
