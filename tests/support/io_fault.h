/* An I/O table that makes chosen calls of another one fail, and watches how it is used.
 *
 *     io_fault fault;
 *     io_fault_init(&fault, memory_io_table(disk));
 *     for (uint64_t n = 1; ; n++) {
 *         io_fault_arm(&fault, IO_FAULT_ALL, n, ENOSPC, false);
 *         run_workload(&fault.table);
 *         io_fault_disarm(&fault);
 *         check(...);
 *         if (fault.failed == 0) {
 *             break;   // the workload makes fewer than n calls
 *         }
 *     }
 *     io_fault_destroy(&fault);
 *
 * A call that fails does nothing, but a failing close does close, and a failing list tells one name
 * before it fails. Threads: any, between arm and
 * disarm; the fields are read when nothing runs. */
#ifndef IO_FAULT_H
#define IO_FAULT_H

#include <nphd/io.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define IO_FAULT_OPEN 0x001u
#define IO_FAULT_SIZE 0x002u
#define IO_FAULT_READ 0x004u
#define IO_FAULT_WRITE 0x008u
#define IO_FAULT_ALLOCATE 0x010u
#define IO_FAULT_SYNC 0x020u
#define IO_FAULT_CLOSE 0x040u
#define IO_FAULT_MAP 0x080u
#define IO_FAULT_RENAME 0x100u
#define IO_FAULT_REMOVE 0x200u
#define IO_FAULT_SYNC_DIRECTORY 0x400u
#define IO_FAULT_RANDOM 0x800u
#define IO_FAULT_MAKE_DIRECTORY 0x1000u
#define IO_FAULT_LIST 0x2000u
#define IO_FAULT_LOCK 0x4000u
#define IO_FAULT_COPY 0x8000u
#define IO_FAULT_ROOT 0x10000u
#define IO_FAULT_LOOK 0x20000u /* look and resolve */
#define IO_FAULT_ALL 0x3ffffu

/* In place of an errno: the call succeeds, but a read or write moves only half of what was asked
 * (one byte at least). Counts reads and writes alone. */
#define IO_FAULT_SHORT (-1)

/* The context of the table: which injector, and which context of the table below. */
typedef struct io_fault_view {
    struct io_fault *fault;
    void *context;
    size_t open_files; /* that were opened through it and not closed through it */
} io_fault_view;

typedef struct io_fault {
    io_fault_view
        view;      /* the first: a function planted in the table may take it for the injector */
    nphd_io table; /* hand out &fault.table */

    /* What to do; set by io_fault_arm. */
    uint32_t kinds;
    uint64_t fail_at;
    int os_error;
    bool for_ever;

    /* Kinds that answer success and do nothing: a seeded bug, to see that a test notices. Of sync,
     * sync_directory, allocate and remove. */
    uint32_t swallow;

    /* What happened since io_fault_arm. */
    uint64_t calls;  /* of the armed kinds */
    uint64_t failed; /* those made to fail */
    uint32_t failed_kinds;

    /* What happened since io_fault_init. */
    uint64_t total_calls;
    uint64_t repeated_syncs; /* sync of a file whose sync had failed: must stay 0 */
    size_t open_files;
    size_t left_open; /* files that were open when the directory was let go of through which they
                       * were opened */
    size_t maps;

    /* Private. */
    const nphd_io *below; /* with all functions but those that a table may lack */
    pthread_mutex_t mutex;
    intptr_t *spoiled; /* open files whose sync has failed */
    size_t spoiled_count;
    size_t spoiled_room;
} io_fault;

/* `below` must outlive the injector. Nothing fails until io_fault_arm. */
void io_fault_init(io_fault *fault, const nphd_io *below);
void io_fault_destroy(io_fault *fault);

/* Call number fail_at (from 1) of these kinds fails with os_error; for ever: all later ones too. */
void io_fault_arm(io_fault *fault, uint32_t kinds, uint64_t fail_at, int os_error, bool for_ever);

/* No more failures; the counts stay readable. */
void io_fault_disarm(io_fault *fault);

#endif
