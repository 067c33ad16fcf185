/* An allocator without system calls, for tests that open thousands of indexes: ranges are small,
 * and kept for the next index. Put it below a fault injector:
 *
 *     allocator_fault_init(&fault);
 *     fault.below = allocator_plain();
 *     ...
 *     allocator_plain_release();   // at the end, for the leak checkers
 *
 * Threads: any. */
#ifndef ALLOCATOR_PLAIN_H
#define ALLOCATOR_PLAIN_H

#include <nphd/allocator.h>

/* Larger ranges are refused. */
#define ALLOCATOR_PLAIN_RANGE_BYTES (256U << 10)

const nphd_allocator *allocator_plain(void);

/* Frees the ranges that are kept. */
void allocator_plain_release(void);

#endif
