/* Where a snapshot goes: a directory that is made beside, under the name `<path>.snapshot.tmp`, and
 * gets its own name once it is whole. */
#ifndef NPHDI_SNAPSHOT_TARGET_H
#define NPHDI_SNAPSHOT_TARGET_H

#include "platform/platform.h"

#include <nphd/status.h>
#include <stdbool.h>

/* Zero-initialise. */
typedef struct nphdi_snapshot_target {
    const nphd_io *io;
    const nphd_allocator *allocator;
    char *path; /* its own name, links followed, from the root where the table can tell */
    size_t room;
    char *place; /* where it is made; NULL: under its own name */
    size_t place_room;
    nphd_file held;
    bool holds;
    bool made; /* what is in it is ours */
} nphdi_snapshot_target;

/* Makes the place, and removes from it what a snapshot that was killed left there.
 *
 * Errors: NPHD_EXISTS: there is something of that name which is no empty directory, or in the place
 * something that is not ours; NPHD_BUSY: another snapshot is being made there. */
nphd_status nphdi_snapshot_target_begin(nphdi_snapshot_target *of, const nphd_io *io,
                                        const nphd_allocator *allocator, const char *path,
                                        nphd_error *err);

/* The directory to copy to. */
static inline const char *nphdi_snapshot_target_place(const nphdi_snapshot_target *of)
{
    return of->place != NULL ? of->place : of->path;
}

/* All that was copied is durable: gives it its name. NPHD_DURABILITY_UNKNOWN: it has it, but
 * perhaps not after a power cut. */
nphd_status nphdi_snapshot_target_commit(nphdi_snapshot_target *of, nphd_error *err);

/* Removes what was not committed, and frees. */
void nphdi_snapshot_target_end(nphdi_snapshot_target *of);

#endif
