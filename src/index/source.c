#include "index/source.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"
#include "kernels/kernels.h"

#include <string.h>

nphd_status nphdi_source_open(nphdi_source *source, const nphd_io *io, const char *path,
                              nphd_error *err)
{
    nphd_status status;

    memset(source, 0, sizeof(*source));
    source->name = path;
    source->io = io;
    status = nphdi_file_open(io, path, &source->file, &source->bytes, err);
    source->open = status == NPHD_OK;
    return status;
}

nphd_status nphdi_source_open_if_any(nphdi_source *source, const nphd_io *io, const char *path,
                                     bool *out_found, nphd_error *err)
{
    nphd_error why = NPHD_ERROR_INIT;
    nphd_status status = nphdi_source_open(source, io, path, &why);

    *out_found = status == NPHD_OK;
    if (status == NPHD_NOT_FOUND) {
        status = NPHD_OK;
    } else if (status != NPHD_OK) {
        nphdi_error_copy(err, &why);
    }
    return status;
}

void nphdi_source_of_memory(nphdi_source *source, const void *memory, uint64_t bytes)
{
    memset(source, 0, sizeof(*source));
    source->name = "buffer";
    source->memory = memory;
    source->bytes = bytes;
}

void nphdi_source_close(nphdi_source *source)
{
    if (source->open) {
        /* read-only: a failing close loses nothing */
        (void)source->io->close(source->io->context, source->file);
    }
    source->open = false;
}

nphd_status nphdi_source_read(const nphdi_source *source, uint64_t offset, void *out, size_t bytes,
                              nphd_error *err)
{
    if (offset > source->bytes || bytes > source->bytes - offset) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: the file ends at %llu, inside %zu bytes at %llu",
                          source->name, (unsigned long long)source->bytes, bytes,
                          (unsigned long long)offset);
    }
    if (source->memory == NULL) {
        return nphdi_file_read(source->io, source->file, source->name, offset, out, bytes, err);
    }
    memcpy(out, source->memory + offset, bytes);
    return NPHD_OK;
}

nphd_status nphdi_source_trailer(const nphdi_source *source, nphdi_trailer *out, bool *out_found,
                                 nphd_error *err)
{
    nphd_status status = NPHD_OK;
    /* the longest directory there is, and the footer: one read instead of two */
    uint8_t tail[NPHDI_TRAILER_MAX_DIRECTORY_BYTES + NPHDI_TRAILER_FOOTER_BYTES];
    const uint64_t bytes = source->bytes < sizeof(tail) ? source->bytes : sizeof(tail);
    const uint64_t start = source->bytes - bytes;

    memset(out, 0, sizeof(*out));
    *out_found = false;
    if (bytes < NPHDI_TRAILER_FOOTER_BYTES) {
        return NPHD_OK;
    }
    TRY(nphdi_source_read(source, start, tail, (size_t)bytes, err));
    TRY(nphdi_trailer_decode_footer(source->name, tail + (bytes - NPHDI_TRAILER_FOOTER_BYTES),
                                    source->bytes, out, out_found, err));
    if (*out_found) {
        TRY(nphdi_trailer_decode_directory(source->name, tail + (out->directory_offset - start),
                                           out, err));
    }
done:
    return status;
}

nphd_status nphdi_source_check_mark(const nphdi_source *source, const nphdi_trailer *trailer,
                                    nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint8_t mark[NPHDI_TRAILER_MARK_BYTES];

    TRY(nphdi_source_read(source, trailer->foreign_bytes, mark, sizeof(mark), err));
    if (!nphdi_trailer_is_mark(mark, sizeof(mark))) {
        status = nphdi_fail(err, NPHD_CORRUPT, "%s: trailer: no mark at %llu", source->name,
                            (unsigned long long)trailer->foreign_bytes);
    }
done:
    return status;
}

static nphd_status check_trailer_against_head(const nphdi_source *source,
                                              const nphdi_usearch_head *head,
                                              const nphdi_trailer *trailer, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(nphdi_source_check_mark(source, trailer, err));
    if (trailer->foreign_bytes < head->nodes_offset ||
        trailer->foreign_bytes - head->nodes_offset <
            head->slots * nphdi_node_base_bytes(&head->node)) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: trailer begins inside the nodes", source->name);
    }
    if (trailer->live > head->slots) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: trailer: %llu vectors in %llu slots",
                          source->name, (unsigned long long)trailer->live,
                          (unsigned long long)head->slots);
    }
done:
    return status;
}

nphd_status nphdi_source_headers(const nphdi_source *source, nphdi_usearch_head *out_head,
                                 nphdi_trailer *out_trailer, bool *out_has_trailer, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint8_t first[NPHDI_USEARCH_HEAD_BYTES];
    uint8_t other[NPHDI_USEARCH_HEAD_BYTES];
    uint64_t places[3];
    const size_t available = source->bytes < sizeof(first) ? (size_t)source->bytes : sizeof(first);
    size_t place_count;
    bool found = false;

    memset(out_head, 0, sizeof(*out_head));
    TRY(nphdi_source_read(source, 0, first, available, err));
    place_count = nphdi_usearch_head_candidates(first, available, source->bytes, places);
    for (size_t i = 0; i < place_count && !found; i++) {
        /* at the very start it has been read already; the places lie inside the file */
        const uint8_t *head = places[i] == 0 ? first : other;
        if (places[i] != 0) {
            TRY(nphdi_source_read(source, places[i], other, sizeof(other), err));
        }
        if (nphdi_usearch_is_head(head)) {
            TRY(nphdi_usearch_decode(source->name, first, available, head, places[i], source->bytes,
                                     out_head, err));
            found = true;
        }
    }
    if (!found) {
        return nphdi_fail(err, NPHD_CORRUPT,
                          "%s: not an index file: no magic where the first bytes place it",
                          source->name);
    }
    TRY(nphdi_source_trailer(source, out_trailer, out_has_trailer, err));
    if (*out_has_trailer) {
        TRY(check_trailer_against_head(source, out_head, out_trailer, err));
    }
done:
    return status;
}

nphd_status nphdi_source_checksums(const nphdi_source *source, const nphdi_trailer *trailer,
                                   const nphd_allocator *allocator, uint8_t **out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_trailer_section *sums = nphdi_trailer_find(trailer, NPHDI_SECTION_CHECKSUMS);
    const size_t bytes = (size_t)sums->bytes;

    TRY(nphdi_alloc(allocator, bytes, 1, out, err));
    TRY(nphdi_source_read(source, sums->offset, *out, bytes, err));
    if (nphdi_kernels_get()->checksum(*out, bytes) != sums->checksum) {
        status = nphdi_fail(err, NPHD_CORRUPT,
                            "%s: trailer: the block checksums do not match their own checksum",
                            source->name);
    }
done:
    if (status != NPHD_OK) {
        nphdi_free(allocator, *out, bytes, 1);
        *out = NULL;
    }
    return status;
}

nphd_status nphdi_source_fail_block(const nphdi_source *source, uint64_t number, uint64_t covered,
                                    nphd_error *err)
{
    const uint64_t offset = number * NPHDI_TRAILER_BLOCK_BYTES;
    const uint64_t rest = covered - offset;
    const uint64_t bytes = rest < NPHDI_TRAILER_BLOCK_BYTES ? rest : NPHDI_TRAILER_BLOCK_BYTES;

    return nphdi_fail(err, NPHD_CORRUPT, "%s: block %llu (bytes %llu to %llu): checksum mismatch",
                      source->name, (unsigned long long)number, (unsigned long long)offset,
                      (unsigned long long)(offset + bytes - 1));
}

nphd_status nphdi_block_reader_begin(nphdi_block_reader *reader, const nphdi_source *source,
                                     const nphdi_trailer *trailer, const nphd_allocator *allocator,
                                     nphd_error *err)
{
    nphd_status status = NPHD_OK;

    memset(reader, 0, sizeof(*reader));
    reader->source = source;
    reader->allocator = allocator;
    reader->trailer = trailer;
    reader->block_start = UINT64_MAX;
    TRY(nphdi_alloc(allocator, NPHDI_TRAILER_BLOCK_BYTES, 1, &reader->block, err));
    if (trailer != NULL) {
        const nphdi_trailer_section *sums = nphdi_trailer_find(trailer, NPHDI_SECTION_CHECKSUMS);
        reader->checksum_bytes = sums->bytes;
        reader->covered = sums->offset;
        TRY(nphdi_source_checksums(source, trailer, allocator, &reader->checksums, err));
    } else {
        reader->covered = source->bytes;
    }
done:
    if (status != NPHD_OK) {
        nphdi_block_reader_end(reader);
    }
    return status;
}

void nphdi_block_reader_end(nphdi_block_reader *reader)
{
    if (reader->allocator != NULL) {
        nphdi_free(reader->allocator, reader->block, NPHDI_TRAILER_BLOCK_BYTES, 1);
        nphdi_free(reader->allocator, reader->checksums, reader->checksum_bytes, 1);
    }
    memset(reader, 0, sizeof(*reader));
}

/* The bytes of the block that starts at `offset`; the last one may be shorter. */
static uint64_t block_bytes_at(const nphdi_block_reader *reader, uint64_t offset)
{
    const uint64_t rest = reader->covered - offset;

    return rest < NPHDI_TRAILER_BLOCK_BYTES ? rest : NPHDI_TRAILER_BLOCK_BYTES;
}

/* Reads a whole block to `to` and checks it. */
static nphd_status read_block(const nphdi_block_reader *reader, uint64_t offset, uint8_t *to,
                              nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t bytes = block_bytes_at(reader, offset);
    const uint64_t number = offset / NPHDI_TRAILER_BLOCK_BYTES;

    TRY(nphdi_watch_ask(reader->watch, offset, reader->covered, err));
    TRY(nphdi_source_read(reader->source, offset, to, (size_t)bytes, err));
    if (reader->trailer != NULL && nphdi_kernels_get()->checksum(to, (size_t)bytes) !=
                                       nphdi_get64(reader->checksums + 8 * number)) {
        return nphdi_source_fail_block(reader->source, number, reader->covered, err);
    }
done:
    return status;
}

nphd_status nphdi_block_reader_load(nphdi_block_reader *reader, uint64_t offset, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    reader->block_start = UINT64_MAX;
    reader->block_bytes = block_bytes_at(reader, offset);
    TRY(read_block(reader, offset, reader->block, err));
    reader->block_start = offset;
done:
    return status;
}

nphd_status nphdi_block_reader_take(nphdi_block_reader *reader, void *out, uint64_t bytes,
                                    nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint8_t *to = out;

    if (bytes > reader->covered || reader->offset > reader->covered - bytes) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: the file ends at %llu, inside %llu bytes at %llu",
                          reader->source->name, (unsigned long long)reader->covered,
                          (unsigned long long)bytes, (unsigned long long)reader->offset);
    }
    while (bytes > 0) {
        const uint64_t inside = reader->offset % NPHDI_TRAILER_BLOCK_BYTES;
        const uint64_t ready = block_bytes_at(reader, reader->offset - inside) - inside;
        const uint64_t part = bytes < ready ? bytes : ready;
        const bool loaded = reader->block_start == reader->offset - inside;
        if (to != NULL && inside == 0 && part == ready && !loaded) {
            TRY(read_block(reader, reader->offset, to, err));
        } else {
            TRY(loaded ? NPHD_OK : nphdi_block_reader_load(reader, reader->offset - inside, err));
            if (to != NULL) {
                memcpy(to, reader->block + inside, (size_t)part);
            }
        }
        to = to != NULL ? to + part : NULL;
        reader->offset += part;
        bytes -= part;
    }
done:
    return status;
}

nphd_status nphdi_source_verify(const nphdi_source *source, const nphdi_trailer *trailer,
                                const nphd_allocator *allocator, const nphdi_watch *watch,
                                nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_block_reader reader;

    TRY(nphdi_block_reader_begin(&reader, source, trailer, allocator, err));
    reader.watch = watch;
    status = nphdi_block_reader_take(&reader, NULL, reader.covered, err);
    nphdi_block_reader_end(&reader);
done:
    return status;
}
