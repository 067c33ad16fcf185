/* Every byte of a file with a trailer, read once: blocks against their checksums, and while they
 * are in the processor's cache the nodes in them against the rest of the structure. Several workers
 * share a file by chunks, each with the file opened for itself, since a table of storage functions
 * may want that. */
#ifndef NPHDI_FILE_CHECK_H
#define NPHDI_FILE_CHECK_H

#include "index/mapped.h"
#include "index/source.h"

#include <nphd/index_file.h>

typedef struct nphdi_file_check {
    const nphdi_source *source;
    const nphdi_trailer *trailer;
    const nphdi_mapped *mapped; /* NULL: the blocks alone; else its levels have been checked */
    const nphd_allocator *allocator;
    uint32_t threads;   /* 0 and 1: the calling thread alone */
    nphd_damage damage; /* called for each damaged block, in their order, by the calling thread */
    void *damage_context;
    const nphdi_watch *watch; /* asked by the calling thread; NULL: nobody is */
    /* what was found */
    uint64_t blocks;
    uint64_t damaged;
    nphd_error structure; /* the first place where it does not hold; status NPHD_OK: none */
} nphdi_file_check;

/* Fills in what was found, also when it fails. Errors: as for reading; NPHD_CORRUPT: the checksums
 * do not match their own; NPHD_CANCELLED. */
nphd_status nphdi_file_check_run(nphdi_file_check *check, nphd_error *err);

/* Reads a range and forgets it, so that a device that cannot be read is an error here and not a
 * signal where the mapping is used. */
nphd_status nphdi_source_touch(const nphdi_source *source, uint64_t offset, uint64_t bytes,
                               const nphdi_watch *watch, nphd_error *err);

#endif
