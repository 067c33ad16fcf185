/* Writing a file that ends in our trailer: bytes go out in order through a buffer of whole blocks,
 * whose checksums are collected on the way. Then follow the mark, sections, the block checksums,
 * directory and footer (docs/format.md section 2).
 *
 * The lower half is the sink itself, for an index file; the upper one writes any other file with
 * such a trailer. One thread at a time. */
#ifndef NPHDI_BLOCK_SINK_H
#define NPHDI_BLOCK_SINK_H

#include "base/watch.h"
#include "formats/trailer.h"
#include "platform/platform.h"

#include <nphd/index.h>
#include <nphd/status.h>
#include <stdint.h>

/* A section whose content this library does not look into. */
typedef struct nphdi_extra_section {
    uint32_t id;
    uint32_t flags;
    const void *data; /* borrowed until the file is written */
    uint64_t bytes;
} nphdi_extra_section;

typedef struct nphdi_block_sink {
    const nphd_allocator *allocator;
    nphdi_replacement *file; /* NULL: memory */
    uint8_t *memory;
    uint8_t *buffer;
    uint64_t filled;
    uint64_t offset; /* of the start of the buffer */
    uint8_t *checksums;
    uint64_t checksum_bytes;
    uint64_t block_count;
    uint64_t total;                    /* expected bytes */
    const nphd_batch_options *options; /* NULL: nobody asks for progress */
} nphdi_block_sink;

/* ---- any file ---- */

/* A file being written. Zero-initialise. */
typedef struct nphdi_trailed_file {
    nphdi_replacement file;
    nphdi_block_sink sink;
    nphdi_trailer trailer;
    const nphdi_extra_section *extra;
} nphdi_trailed_file;

/* Creates the file beside `path`. `extra` and its data are borrowed until the commit. */
nphd_status nphdi_trailed_begin(nphdi_trailed_file *file, const nphd_io *io,
                                const nphd_allocator *allocator, const char *path,
                                uint64_t foreign_bytes, const nphdi_extra_section *extra,
                                uint32_t extra_count, nphd_error *err);
/* The next bytes: exactly foreign_bytes in sum. */
nphd_status nphdi_trailed_put(nphdi_trailed_file *file, const void *data, uint64_t bytes,
                              nphd_error *err);
/* Writes the trailer and replaces the file durably; answers as nphdi_replacement_commit(). */
nphd_status nphdi_trailed_commit(nphdi_trailed_file *file, const uint8_t identity[16],
                                 uint64_t generation, nphd_error *err);
/* Frees, and removes what was not committed. Takes a zero-initialised one. */
void nphdi_trailed_end(nphdi_trailed_file *file);

/* ---- the sink ---- */

/* Lays the sections out behind the mark: the trailer has foreign_bytes and, for each section, id,
 * flags and bytes; offsets and the block checksums are added. Returns the size of the file. */
uint64_t nphdi_sink_plan(nphdi_trailer *trailer);

/* Adds sections to a trailer that is not planned yet. Errors: NPHD_INVALID_ARGUMENT, too many. */
nphd_status nphdi_sink_add_sections(nphdi_trailer *trailer, const nphdi_extra_section *extra,
                                    uint32_t extra_count, nphd_error *err);

/* Memory for a file with the planned trailer; `file` or `memory` are set by the caller after. */
nphd_status nphdi_sink_begin(nphdi_block_sink *sink, const nphd_allocator *allocator,
                             const nphdi_trailer *trailer, nphd_error *err);
nphd_status nphdi_sink_put(nphdi_block_sink *sink, const void *data, uint64_t bytes,
                           nphd_error *err);
nphd_status nphdi_sink_put_mark(nphdi_block_sink *sink, nphd_error *err);
nphd_status nphdi_sink_put_sections(nphdi_block_sink *sink, const nphdi_extra_section *extra,
                                    uint32_t extra_count, nphd_error *err);
/* Block checksums, directory and footer; everything before has been put. */
nphd_status nphdi_sink_finish(nphdi_block_sink *sink, nphdi_trailer *trailer, nphd_error *err);
void nphdi_sink_end(nphdi_block_sink *sink); /* takes a zero-initialised one */
/* For what a save does between two bytes. */
nphdi_watch nphdi_sink_moment(const nphdi_block_sink *sink);

#endif
