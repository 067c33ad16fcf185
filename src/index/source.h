/* Where the bytes of an index file come from: an open file, or memory. */
#ifndef NPHDI_SOURCE_H
#define NPHDI_SOURCE_H

#include "base/watch.h"
#include "formats/trailer.h"
#include "formats/usearch_format.h"
#include "platform/platform.h"

#include <nphd/status.h>
#include <stdint.h>

typedef struct nphdi_source {
    const char *name; /* for error texts */
    const nphd_io *io;
    nphd_file file;
    const uint8_t *memory; /* NULL: read `file` */
    uint64_t bytes;
    bool open;
} nphdi_source;

nphd_status nphdi_source_open(nphdi_source *source, const nphd_io *io, const char *path,
                              nphd_error *err);
/* The same where there may be none: no error then. */
nphd_status nphdi_source_open_if_any(nphdi_source *source, const nphd_io *io, const char *path,
                                     bool *out_found, nphd_error *err);
void nphdi_source_of_memory(nphdi_source *source, const void *memory, uint64_t bytes);
void nphdi_source_close(nphdi_source *source);

nphd_status nphdi_source_read(const nphdi_source *source, uint64_t offset, void *out, size_t bytes,
                              nphd_error *err);

/* The headers at the start and, if the file has one, the trailer at the end. Everything that they
 * say is checked against each other and the file size. *out_trailer false: a reference file. */
nphd_status nphdi_source_headers(const nphdi_source *source, nphdi_usearch_head *out_head,
                                 nphdi_trailer *out_trailer, bool *out_has_trailer,
                                 nphd_error *err);

/* The trailer alone, also of a file whose headers are damaged. */
nphd_status nphdi_source_trailer(const nphdi_source *source, nphdi_trailer *out, bool *out_found,
                                 nphd_error *err);

/* The mark stands where the trailer says that it begins. */
nphd_status nphdi_source_check_mark(const nphdi_source *source, const nphdi_trailer *trailer,
                                    nphd_error *err);

/* The block checksums of a file, checked against their own; memory for the bytes of the section. */
nphd_status nphdi_source_checksums(const nphdi_source *source, const nphdi_trailer *trailer,
                                   const nphd_allocator *allocator, uint8_t **out, nphd_error *err);

/* Says that a block of the `covered` bytes is not as it was written: NPHD_CORRUPT. */
nphd_status nphdi_source_fail_block(const nphdi_source *source, uint64_t number, uint64_t covered,
                                    nphd_error *err);

/* Reading a file from front to back through a buffer, each block checked against its checksum
 * before its bytes are handed out. Zero-initialise. */
typedef struct nphdi_block_reader {
    const nphdi_source *source;
    const nphd_allocator *allocator;
    const nphdi_trailer *trailer; /* NULL: no checksums */
    uint8_t *checksums;
    uint64_t checksum_bytes;
    uint64_t covered; /* bytes that blocks cover */
    uint8_t *block;
    uint64_t block_start;
    uint64_t block_bytes;     /* in `block` */
    uint64_t offset;          /* of the next byte handed out */
    const nphdi_watch *watch; /* asked for each block, by its place in the file; NULL: nobody is */
} nphdi_block_reader;

nphd_status nphdi_block_reader_begin(nphdi_block_reader *reader, const nphdi_source *source,
                                     const nphdi_trailer *trailer, const nphd_allocator *allocator,
                                     nphd_error *err);

/* The next `bytes` bytes; out NULL passes over them. Whole blocks are read right into `out`, and
 * checked there: after an error it has what it may. */
nphd_status nphdi_block_reader_take(nphdi_block_reader *reader, void *out, uint64_t bytes,
                                    nphd_error *err);

/* Checks the block that starts at `offset` (a multiple of the block size) and loads it. */
nphd_status nphdi_block_reader_load(nphdi_block_reader *reader, uint64_t offset, nphd_error *err);

void nphdi_block_reader_end(nphdi_block_reader *reader);

/* Reads every block against its checksum. */
nphd_status nphdi_source_verify(const nphdi_source *source, const nphdi_trailer *trailer,
                                const nphd_allocator *allocator, const nphdi_watch *watch,
                                nphd_error *err);

#endif
