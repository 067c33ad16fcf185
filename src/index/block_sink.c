#include "index/block_sink.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"
#include "kernels/kernels.h"

#include <assert.h>
#include <string.h>

/* 16 blocks a write: large enough that the calls do not show (bench_index, save). */
#define SINK_BYTES (16 * NPHDI_TRAILER_BLOCK_BYTES)

/* ---- any file ---- */

nphd_status nphdi_trailed_begin(nphdi_trailed_file *file, const nphd_io *io,
                                const nphd_allocator *allocator, const char *path,
                                uint64_t foreign_bytes, const nphdi_extra_section *extra,
                                uint32_t extra_count, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    memset(file, 0, sizeof(*file));
    file->extra = extra;
    file->trailer.foreign_bytes = foreign_bytes;
    TRY(nphdi_sink_add_sections(&file->trailer, extra, extra_count, err));
    (void)nphdi_sink_plan(&file->trailer);
    TRY(nphdi_sink_begin(&file->sink, allocator, &file->trailer, err));
    TRY(nphdi_replacement_begin(&file->file, io, allocator, path, file->sink.total, err));
    file->sink.file = &file->file;
done:
    if (status != NPHD_OK) {
        nphdi_trailed_end(file);
    }
    return status;
}

nphd_status nphdi_trailed_put(nphdi_trailed_file *file, const void *data, uint64_t bytes,
                              nphd_error *err)
{
    assert(bytes <= file->trailer.foreign_bytes - (file->sink.offset + file->sink.filled));
    return nphdi_sink_put(&file->sink, data, bytes, err);
}

nphd_status nphdi_trailed_commit(nphdi_trailed_file *file, const uint8_t identity[16],
                                 uint64_t generation, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    assert(file->sink.offset + file->sink.filled == file->trailer.foreign_bytes);
    memcpy(file->trailer.identity, identity, sizeof(file->trailer.identity));
    file->trailer.generation = generation;
    TRY(nphdi_sink_put_mark(&file->sink, err));
    /* all sections but the block checksums are the caller's */
    TRY(nphdi_sink_put_sections(&file->sink, file->extra, file->trailer.section_count - 1, err));
    TRY(nphdi_sink_finish(&file->sink, &file->trailer, err));
    TRY(nphdi_replacement_commit(&file->file, err));
done:
    return status;
}

void nphdi_trailed_end(nphdi_trailed_file *file)
{
    nphdi_replacement_end(&file->file);
    nphdi_sink_end(&file->sink);
    memset(file, 0, sizeof(*file));
}

/* ---- the sink ---- */

static uint64_t planned_bytes(const nphdi_trailer *trailer)
{
    const nphdi_trailer_section *sums = &trailer->sections[trailer->section_count - 1];

    return sums->offset + sums->bytes + NPHDI_TRAILER_DIRECTORY_HEAD_BYTES +
           (uint64_t)trailer->section_count * NPHDI_TRAILER_SECTION_BYTES +
           NPHDI_TRAILER_FOOTER_BYTES;
}

uint64_t nphdi_sink_plan(nphdi_trailer *trailer)
{
    uint64_t offset = trailer->foreign_bytes + NPHDI_TRAILER_MARK_BYTES;
    nphdi_trailer_section *sums = &trailer->sections[trailer->section_count];

    for (uint32_t i = 0; i < trailer->section_count; i++) {
        trailer->sections[i].offset = offset;
        offset += trailer->sections[i].bytes;
    }
    trailer->section_count++;
    sums->id = NPHDI_SECTION_CHECKSUMS;
    sums->offset = offset;
    sums->bytes = 8 * nphdi_trailer_blocks(offset);
    return planned_bytes(trailer);
}

nphd_status nphdi_sink_add_sections(nphdi_trailer *trailer, const nphdi_extra_section *extra,
                                    uint32_t extra_count, nphd_error *err)
{
    /* one place stays for the block checksums */
    if (extra_count > NPHDI_TRAILER_MAX_SECTIONS - 1 - trailer->section_count) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "save: %u sections, room for %u", extra_count,
                          NPHDI_TRAILER_MAX_SECTIONS - 1 - trailer->section_count);
    }
    for (uint32_t i = 0; i < extra_count; i++) {
        nphdi_trailer_section *section = &trailer->sections[trailer->section_count++];
        section->id = extra[i].id;
        section->flags = extra[i].flags;
        section->bytes = extra[i].bytes;
    }
    return NPHD_OK;
}

nphd_status nphdi_sink_begin(nphdi_block_sink *sink, const nphd_allocator *allocator,
                             const nphdi_trailer *trailer, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    memset(sink, 0, sizeof(*sink));
    sink->allocator = allocator;
    sink->checksum_bytes = trailer->sections[trailer->section_count - 1].bytes;
    sink->total = planned_bytes(trailer);
    TRY(nphdi_alloc(allocator, SINK_BYTES, 1, &sink->buffer, err));
    TRY(nphdi_alloc(allocator, sink->checksum_bytes, 1, &sink->checksums, err));
done:
    if (status != NPHD_OK) {
        nphdi_sink_end(sink);
    }
    return status;
}

void nphdi_sink_end(nphdi_block_sink *sink)
{
    if (sink->allocator != NULL) {
        nphdi_free(sink->allocator, sink->buffer, SINK_BYTES, 1);
        nphdi_free(sink->allocator, sink->checksums, sink->checksum_bytes, 1);
    }
    memset(sink, 0, sizeof(*sink));
}

nphdi_watch nphdi_sink_moment(const nphdi_block_sink *sink)
{
    const nphd_batch_options *options = sink->options;

    return nphdi_watch_moment(options != NULL ? options->progress : NULL,
                              options != NULL ? options->progress_context : NULL, "save",
                              sink->offset, sink->total);
}

static nphd_status sink_flush(nphdi_block_sink *sink, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_watch watch;

    for (uint64_t at = 0; at < sink->filled; at += NPHDI_TRAILER_BLOCK_BYTES) {
        const uint64_t rest = sink->filled - at;
        const uint64_t bytes = rest < NPHDI_TRAILER_BLOCK_BYTES ? rest : NPHDI_TRAILER_BLOCK_BYTES;
        /* what follows the checksums is covered otherwise */
        if (8 * (sink->block_count + 1) <= sink->checksum_bytes) {
            nphdi_put64(sink->checksums + 8 * sink->block_count,
                        nphdi_kernels_get()->checksum(sink->buffer + at, (size_t)bytes));
        }
        sink->block_count++;
    }
    if (sink->file != NULL) {
        TRY(nphdi_replacement_write(sink->file, sink->buffer, (size_t)sink->filled, err));
    } else {
        memcpy(sink->memory + sink->offset, sink->buffer, (size_t)sink->filled);
    }
    sink->offset += sink->filled;
    sink->filled = 0;
    watch = nphdi_sink_moment(sink);
    TRY(nphdi_watch_ask(&watch, 1, 1, err));
done:
    return status;
}

nphd_status nphdi_sink_put(nphdi_block_sink *sink, const void *data, uint64_t bytes,
                           nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint8_t *from = data;

    while (bytes > 0) {
        const uint64_t room = SINK_BYTES - sink->filled;
        const uint64_t part = bytes < room ? bytes : room;
        memcpy(sink->buffer + sink->filled, from, (size_t)part);
        sink->filled += part;
        from += part;
        bytes -= part;
        if (sink->filled == SINK_BYTES) {
            TRY(sink_flush(sink, err));
        }
    }
done:
    return status;
}

nphd_status nphdi_sink_put_mark(nphdi_block_sink *sink, nphd_error *err)
{
    uint8_t mark[NPHDI_TRAILER_MARK_BYTES];

    nphdi_trailer_encode_mark(mark);
    return nphdi_sink_put(sink, mark, sizeof(mark), err);
}

nphd_status nphdi_sink_put_sections(nphdi_block_sink *sink, const nphdi_extra_section *extra,
                                    uint32_t extra_count, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    for (uint32_t i = 0; i < extra_count; i++) {
        TRY(nphdi_sink_put(sink, extra[i].data, extra[i].bytes, err));
    }
done:
    return status;
}

nphd_status nphdi_sink_finish(nphdi_block_sink *sink, nphdi_trailer *trailer, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_trailer_section *sums = &trailer->sections[trailer->section_count - 1];
    uint8_t end[NPHDI_TRAILER_MAX_DIRECTORY_BYTES + NPHDI_TRAILER_FOOTER_BYTES];
    size_t end_bytes;

    assert(sink->offset + sink->filled == sums->offset);
    /* a short last block ends here; what follows is covered by the directory and the footer */
    TRY(sink_flush(sink, err));
    sums->checksum = nphdi_kernels_get()->checksum(sink->checksums, (size_t)sums->bytes);
    TRY(nphdi_sink_put(sink, sink->checksums, sums->bytes, err));
    end_bytes = nphdi_trailer_encode_end(trailer, end);
    TRY(nphdi_sink_put(sink, end, end_bytes, err));
    TRY(sink_flush(sink, err));
done:
    return status;
}
