/* Going through the frames of a journal file, whole ones and damage between them. */
#include "base/error.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/seeded_bug.h"
#include "sharded/journal.h"

#include <string.h>

nphd_status nphdi_journal_reader_open(nphdi_journal_reader *reader, const nphd_io *io,
                                      const nphd_allocator *allocator, const char *path,
                                      nphd_error *err)
{
    memset(reader, 0, sizeof(*reader));
    reader->allocator = allocator;
    reader->offset = NPHDI_JOURNAL_HEAD_BYTES;
    return nphdi_source_open(&reader->source, io, path, err);
}

void nphdi_journal_reader_close(nphdi_journal_reader *reader)
{
    nphdi_free(reader->allocator, reader->bytes, reader->room, 1);
    nphdi_source_close(&reader->source);
    memset(reader, 0, sizeof(*reader));
}

nphd_status nphdi_journal_reader_head(const nphdi_journal_reader *reader, nphdi_journal_head *out,
                                      bool *out_valid, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_source *source = &reader->source;
    uint8_t bytes[NPHDI_JOURNAL_HEAD_BYTES];

    *out_valid = false;
    memset(out, 0, sizeof(*out));
    if (source->bytes < sizeof(bytes)) {
        return NPHD_OK;
    }
    TRY(nphdi_source_read(source, 0, bytes, sizeof(bytes), err));
    status = nphdi_journal_decode_head(source->name, bytes, out, err);
    if (status == NPHD_CORRUPT && source->bytes == sizeof(bytes)) {
        nphdi_error_clear(err);
        return NPHD_OK;
    }
    *out_valid = status == NPHD_OK;
done:
    return status;
}

nphd_status nphdi_journal_reader_next(nphdi_journal_reader *reader, bool *out_whole,
                                      nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_source *source = &reader->source;
    const uint64_t left = source->bytes - reader->offset;
    uint8_t head[NPHDI_JOURNAL_FRAME_BYTES];
    nphdi_journal_frame frame;
    uint64_t padded;

    *out_whole = false;
    if (left < sizeof(head)) {
        return NPHD_OK;
    }
    TRY(nphdi_source_read(source, reader->offset, head, sizeof(head), err));
    if (!nphdi_journal_decode_frame(head, &frame) || frame.number != reader->number ||
        frame.bytes > left - sizeof(head) ||
        nphdi_journal_padded(frame.bytes) > left - sizeof(head)) {
        return NPHD_OK;
    }
    padded = nphdi_journal_padded(frame.bytes);
    if (padded > reader->room) {
        nphdi_free(reader->allocator, reader->bytes, reader->room, 1);
        reader->bytes = NULL;
        reader->room = 0;
        TRY(nphdi_alloc(reader->allocator, padded, 1, &reader->bytes, err));
        reader->room = padded;
    }
    TRY(nphdi_source_read(source, reader->offset + sizeof(head), reader->bytes, (size_t)padded,
                          err));
    if (nphdi_hash_bytes(reader->bytes, (size_t)padded) == frame.checksum || NPHDI_BUG(13)) {
        *out_whole = true;
        reader->count = frame.bytes;
        reader->number++;
        reader->offset += sizeof(head) + padded;
    }
done:
    return status;
}

nphd_status nphdi_journal_reader_skip(nphdi_journal_reader *reader, bool *out_more, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_source *source = &reader->source;
    uint8_t head[NPHDI_JOURNAL_FRAME_BYTES];
    nphdi_journal_frame frame;

    *out_more = false;
    for (uint64_t at = reader->offset + NPHDI_JOURNAL_BLOCK_BYTES;
         !*out_more && at + sizeof(head) <= source->bytes; at += NPHDI_JOURNAL_BLOCK_BYTES) {
        TRY(nphdi_source_read(source, at, head, sizeof(head), err));
        if (nphdi_journal_decode_frame(head, &frame) && frame.number > reader->number) {
            *out_more = true;
            reader->offset = at;
            reader->number = frame.number;
        }
    }
done:
    return status;
}
