/* Going through the frames of a journal file, and telling those that were interrupted from those
 * that are damaged. */
#include "base/error.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/seeded_bug.h"
#include "formats/journal_v1.h"
#include "sharded/journal.h"

#include <string.h>

/* How much of a frame that is not whole is looked at in one go. */
#define LOOK_BYTES ((size_t)64 * NPHDI_JOURNAL_SECTOR_BYTES)

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

nphd_status nphdi_journal_reader_head(nphdi_journal_reader *reader, bool *out_valid,
                                      nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_source *source = &reader->source;
    uint8_t bytes[NPHDI_JOURNAL_HEAD_BYTES];

    *out_valid = false;
    memset(&reader->head, 0, sizeof(reader->head));
    if (source->bytes < sizeof(bytes)) {
        return NPHD_OK;
    }
    TRY(nphdi_source_read(source, 0, bytes, sizeof(bytes), err));
    status = nphdi_journal_decode_head(source->name, bytes, &reader->head, err);
    if (status == NPHD_CORRUPT && source->bytes == sizeof(bytes)) {
        nphdi_error_clear(err);
        return NPHD_OK;
    }
    *out_valid = status == NPHD_OK;
done:
    return status;
}

static nphd_status make_room(nphdi_journal_reader *reader, uint64_t bytes, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    if (bytes > reader->room) {
        nphdi_free(reader->allocator, reader->bytes, reader->room, 1);
        reader->bytes = NULL;
        reader->room = 0;
        TRY(nphdi_alloc(reader->allocator, bytes, 1, &reader->bytes, err));
        reader->room = bytes;
    }
done:
    return status;
}

static void accept(nphdi_journal_reader *reader, uint64_t skip, uint64_t count, uint64_t taken)
{
    reader->records = reader->bytes + skip;
    reader->count = count;
    reader->number++;
    reader->before = reader->offset;
    reader->offset += taken;
}

/* ---- frames of version 2 ---- */

/* What a stretch of sectors that should belong to the next frame is. */
typedef struct stretch {
    bool zeros;   /* one is zeros: it was never written */
    bool damaged; /* one is neither that nor the one that belongs there */
} stretch;

static void look_at(const nphdi_journal_reader *reader, uint64_t offset, const uint8_t *bytes,
                    size_t count, stretch *found)
{
    for (size_t at = 0; at < count && !found->damaged; at += NPHDI_JOURNAL_SECTOR_BYTES) {
        const uint64_t place = (offset + at - reader->offset) / NPHDI_JOURNAL_SECTOR_BYTES;
        uint32_t its_frame;
        uint32_t its_place;
        switch (nphdi_journal_look_at_sector(&reader->head, offset + at, bytes + at, &its_frame,
                                             &its_place)) {
        case NPHDI_JOURNAL_ZEROS:
            found->zeros = true;
            break;
        case NPHDI_JOURNAL_RIGHT:
            found->damaged = its_frame != reader->number || its_place != place;
            break;
        case NPHDI_JOURNAL_DAMAGED:
            found->damaged = true;
            break;
        }
    }
}

/* The rest of the file, which is no longer than a frame that nobody finished could be. */
static nphd_status look_at_rest(const nphdi_journal_reader *reader, uint64_t from, stretch *found,
                                nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t end = reader->source.bytes - reader->source.bytes % NPHDI_JOURNAL_SECTOR_BYTES;
    uint8_t bytes[LOOK_BYTES];

    for (uint64_t at = from; at < end && !found->damaged;) {
        const size_t part = end - at < sizeof(bytes) ? (size_t)(end - at) : sizeof(bytes);
        TRY(nphdi_source_read(&reader->source, at, bytes, part, err));
        look_at(reader, at, bytes, part, found);
        at += part;
    }
done:
    return status;
}

/* All of a frame is in the file: *out_step. */
static nphd_status take_frame(nphdi_journal_reader *reader, uint64_t record_bytes,
                              nphdi_journal_step *out_step, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t bytes = nphdi_journal_frame_bytes(record_bytes);
    stretch found = {false, false};

    TRY(make_room(reader, bytes, err));
    TRY(nphdi_source_read(&reader->source, reader->offset, reader->bytes, (size_t)bytes, err));
    if (!NPHDI_BUG(13)) {
        look_at(reader, reader->offset, reader->bytes, (size_t)bytes, &found);
    }
    if (!found.damaged && !found.zeros) {
        nphdi_journal_join_sectors(reader->bytes, bytes / NPHDI_JOURNAL_SECTOR_BYTES);
        accept(reader, NPHDI_JOURNAL_START_BYTES, record_bytes, bytes);
        *out_step = NPHDI_JOURNAL_WHOLE;
    } else if (!found.damaged && reader->source.bytes == reader->offset + bytes) {
        *out_step = NPHDI_JOURNAL_TORN; /* else a later commit has made the file longer */
    } else {
        *out_step = NPHDI_JOURNAL_DAMAGED_FRAME;
    }
done:
    return status;
}

static nphd_status next_frame(nphdi_journal_reader *reader, nphdi_journal_step *out_step,
                              nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_source *source = &reader->source;
    const uint64_t left = source->bytes - reader->offset;
    uint8_t first[NPHDI_JOURNAL_SECTOR_BYTES];
    stretch found = {false, false};
    uint64_t record_bytes = 0;

    *out_step = NPHDI_JOURNAL_TORN;
    if (left < sizeof(first)) {
        return NPHD_OK;
    }
    TRY(nphdi_source_read(source, reader->offset, first, sizeof(first), err));
    look_at(reader, reader->offset, first, sizeof(first), &found);
    if (!found.damaged && !found.zeros) {
        TRY(nphdi_journal_decode_start(source->name, first, &record_bytes, err));
        if (nphdi_journal_frame_bytes(record_bytes) <= left) {
            return take_frame(reader, record_bytes, out_step, err);
        }
    }
    TRY(look_at_rest(reader, reader->offset, &found, err));
    if (found.damaged) {
        *out_step = NPHDI_JOURNAL_DAMAGED_FRAME;
    }
done:
    return status;
}

/* Is that a sector of a later frame? Its beginning then. */
static bool is_later(const nphdi_journal_reader *reader, uint64_t at, const uint8_t *sector,
                     uint64_t *out_begin, uint32_t *out_frame)
{
    uint32_t place;

    if (nphdi_journal_look_at_sector(&reader->head, at, sector, out_frame, &place) !=
            NPHDI_JOURNAL_RIGHT ||
        *out_frame <= reader->number) {
        return false;
    }
    const uint64_t before = (uint64_t)place * NPHDI_JOURNAL_SECTOR_BYTES;
    *out_begin = at - before;
    return before < at - reader->offset && *out_begin % NPHDI_JOURNAL_BLOCK_BYTES == 0;
}

/* To the frame that the first right sector of any later frame belongs to: each one tells. */
static nphd_status skip_frames(nphdi_journal_reader *reader, bool *out_more, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t end = reader->source.bytes - reader->source.bytes % NPHDI_JOURNAL_SECTOR_BYTES;
    uint8_t bytes[LOOK_BYTES];

    for (uint64_t at = reader->offset; at < end && !*out_more;) {
        const size_t part = end - at < sizeof(bytes) ? (size_t)(end - at) : sizeof(bytes);
        TRY(nphdi_watch_ask(reader->watch, at, reader->source.bytes, err));
        TRY(nphdi_source_read(&reader->source, at, bytes, part, err));
        for (size_t in = 0; in < part && !*out_more; in += NPHDI_JOURNAL_SECTOR_BYTES) {
            uint64_t begin;
            uint32_t frame;
            if (is_later(reader, at + in, bytes + in, &begin, &frame)) {
                *out_more = true;
                reader->offset = begin;
                reader->number = frame;
            }
        }
        at += part;
    }
done:
    return status;
}

/* ---- frames of version 1 ---- */

static nphd_status skip_v1_frames(nphdi_journal_reader *reader, bool *out_more, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint8_t head[NPHDI_JOURNAL_V1_FRAME_BYTES];
    nphdi_journal_v1_frame frame;

    for (uint64_t at = reader->offset + NPHDI_JOURNAL_BLOCK_BYTES;
         !*out_more && at + sizeof(head) <= reader->source.bytes; at += NPHDI_JOURNAL_BLOCK_BYTES) {
        TRY(nphdi_watch_ask(reader->watch, at, reader->source.bytes, err));
        TRY(nphdi_source_read(&reader->source, at, head, sizeof(head), err));
        if (nphdi_journal_v1_decode_frame(head, &frame) && frame.number > reader->number) {
            *out_more = true;
            reader->offset = at;
            reader->number = frame.number;
        }
    }
done:
    return status;
}

/* One that is not whole may be torn or damaged, unless a later one follows: that was written after
 * everything before it had been flushed. */
static nphd_status next_v1_frame(nphdi_journal_reader *reader, nphdi_journal_step *out_step,
                                 nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_source *source = &reader->source;
    const uint64_t left = source->bytes - reader->offset;
    const uint64_t number = reader->number;
    const uint64_t offset = reader->offset;
    uint8_t head[NPHDI_JOURNAL_V1_FRAME_BYTES];
    nphdi_journal_v1_frame frame = {0, 0, 0};
    bool more = false;

    if (left >= sizeof(head)) {
        TRY(nphdi_source_read(source, offset, head, sizeof(head), err));
    }
    if (left >= sizeof(head) && nphdi_journal_v1_decode_frame(head, &frame) &&
        frame.number == number && frame.bytes <= left - sizeof(head) &&
        nphdi_journal_v1_padded(frame.bytes) <= left - sizeof(head)) {
        const uint64_t padded = nphdi_journal_v1_padded(frame.bytes);
        TRY(make_room(reader, padded, err));
        TRY(nphdi_source_read(source, offset + sizeof(head), reader->bytes, (size_t)padded, err));
        if (nphdi_hash_bytes(reader->bytes, (size_t)padded) == frame.checksum) {
            accept(reader, 0, frame.bytes, sizeof(head) + padded);
            *out_step = NPHDI_JOURNAL_WHOLE;
            return NPHD_OK;
        }
    }
    TRY(skip_v1_frames(reader, &more, err));
    reader->offset = offset;
    reader->number = number;
    *out_step = more ? NPHDI_JOURNAL_DAMAGED_FRAME : NPHDI_JOURNAL_TORN;
done:
    return status;
}

/* ---- either ---- */

nphd_status nphdi_journal_reader_next(nphdi_journal_reader *reader, uint64_t limit,
                                      nphdi_journal_step *out_step, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    reader->count = 0;
    *out_step = NPHDI_JOURNAL_END;
    if (reader->offset >= limit ||
        (limit == UINT64_MAX && reader->offset >= reader->source.bytes)) {
        return NPHD_OK;
    }
    TRY(reader->head.version < 2 ? next_v1_frame(reader, out_step, err)
                                 : next_frame(reader, out_step, err));
    /* what a later journal says was committed cannot have been interrupted */
    if (*out_step == NPHDI_JOURNAL_TORN && limit != UINT64_MAX) {
        *out_step = NPHDI_JOURNAL_DAMAGED_FRAME;
    }
done:
    return status;
}

nphd_status nphdi_journal_reader_skip(nphdi_journal_reader *reader, bool *out_more, nphd_error *err)
{
    *out_more = false;
    return reader->head.version < 2 ? skip_v1_frames(reader, out_more, err)
                                    : skip_frames(reader, out_more, err);
}
