/* An allocator that fails when told to, and knows every byte that is out.
 *
 *     allocator_fault fault;
 *     allocator_fault_init(&fault);
 *     for (uint64_t n = 1; ; n++) {
 *         allocator_fault_arm(&fault, ALLOCATOR_FAULT_ALL, n, false);
 *         run_workload(&fault.table);
 *         assert_true(allocator_fault_is_clean(&fault));
 *         if (fault.failed == 0) {
 *             break;   // the workload asks for memory fewer than n times
 *         }
 *     }
 *     allocator_fault_destroy(&fault);
 *
 * Fresh memory is filled with 0xa5. Threads: any; the fields are read when nothing runs. */
#ifndef ALLOCATOR_FAULT_H
#define ALLOCATOR_FAULT_H

#include <nphd/allocator.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ALLOCATOR_FAULT_ALLOCATE 1u
#define ALLOCATOR_FAULT_RESERVE 2u
#define ALLOCATOR_FAULT_COMMIT 4u
#define ALLOCATOR_FAULT_ALL 7u

typedef struct allocator_fault {
    nphd_allocator table; /* hand out &fault.table */

    /* What to do; set by allocator_fault_arm. */
    uint32_t kinds;
    uint64_t fail_at;
    bool for_ever;
    size_t reserve_limit_bytes; /* larger reservations are refused; 0: no limit */

    /* What happened since allocator_fault_arm. */
    uint64_t calls;
    uint64_t failed;

    /* What happened since allocator_fault_init. */
    uint64_t blocks;          /* allocated and not released */
    uint64_t ranges;          /* reserved and not given back */
    uint64_t allocated_bytes; /* in blocks */
    uint64_t reserved_bytes;
    uint64_t committed_bytes;
    uint64_t peak_bytes; /* most of allocated and committed bytes together */
    uint64_t mistakes;   /* wrong sizes, unknown memory; each is told on stderr */

    /* Private. */
    const nphd_allocator *below;
    pthread_mutex_t mutex;
    void *tree; /* what is out, by address: tsearch(3) */
} allocator_fault;

void allocator_fault_init(allocator_fault *fault);
void allocator_fault_destroy(allocator_fault *fault);

/* Request number fail_at (from 1; 0: none) of these kinds fails; for ever: all later ones too. */
void allocator_fault_arm(allocator_fault *fault, uint32_t kinds, uint64_t fail_at, bool for_ever);

/* True when nothing is out and no mistake was made; tells on stderr what is wrong otherwise. */
bool allocator_fault_is_clean(const allocator_fault *fault);

#endif
