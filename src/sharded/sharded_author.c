/* Who saved a directory last, the reference or we?
 *
 * The reference rewrites in each of its saves the filter, the shard with the highest number (or
 * deletes it, when it became empty) and the tombstones, all without our trailers. A file of ours
 * that lost its end can look like one of its own. What one file says is therefore believed only
 * where no other file contradicts it: a wrong guess would pass over the journal, or bring back what
 * was deleted. */
#include "base/error.h"
#include "formats/isbf_format.h"
#include "index/source.h"
#include "sharded/sharded_opening.h"

#include <string.h>

#define ADVICE                                                                                     \
    "; if the reference saved last, open with reference_wrote_last, else salvage opens what is "   \
    "whole"

/* ---- one file ---- */

/* The end of a chain of filters without our trailer. */
static nphd_status filter_end(const nphdi_source *source, uint64_t *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint8_t bytes[NPHDI_ISBF_HEAD_BYTES];
    nphdi_isbf_head head;
    nphdi_isbf_filter filter;
    uint64_t at = NPHDI_ISBF_HEAD_BYTES;

    TRY(nphdi_source_read(source, 0, bytes, NPHDI_ISBF_HEAD_BYTES, err));
    TRY(nphdi_isbf_decode_head(source->name, bytes, &head, err));
    for (uint32_t i = 0; i < head.filter_count; i++) {
        TRY(nphdi_source_read(source, at, bytes, NPHDI_ISBF_FILTER_BYTES, err));
        TRY(nphdi_isbf_decode_filter(source->name, &head, i, bytes, &filter, err));
        at += NPHDI_ISBF_FILTER_BYTES + (uint64_t)filter.bit_bytes;
    }
    *out = at;
done:
    return status;
}

static bool is_damage(nphd_status status)
{
    return status == NPHD_CORRUPT || status == NPHD_UNSUPPORTED;
}

static nphd_status look_at_filter(const nphdi_source *source, nphdi_filter_facts *out,
                                  nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_error why = NPHD_ERROR_INIT;
    uint8_t mark[NPHDI_TRAILER_MARK_BYTES];
    uint64_t end = 0;
    bool found = false;

    out->author = NPHDI_AUTHOR_OURS;
    status = nphdi_source_trailer(source, &out->trailer, &found, &why);
    if (status == NPHD_OK && found) {
        out->whole = true;
        return NPHD_OK;
    }
    if (status == NPHD_OK) {
        status = filter_end(source, &end, &why);
        out->author = status != NPHD_OK || end > source->bytes ? NPHDI_AUTHOR_DAMAGED
                      : end == source->bytes                   ? NPHDI_AUTHOR_REFERENCE
                                                               : NPHDI_AUTHOR_DAMAGED;
        if (status == NPHD_OK && end < source->bytes) {
            const uint64_t rest = source->bytes - end;
            const size_t room = rest < sizeof(mark) ? (size_t)rest : sizeof(mark);
            TRY(nphdi_source_read(source, end, mark, room, err));
            out->author = nphdi_trailer_begins(mark, room) ? NPHDI_AUTHOR_OURS : out->author;
        }
    }
    if (status != NPHD_OK && !is_damage(status)) {
        nphdi_error_copy(err, &why);
        goto done;
    }
    status = NPHD_OK;
done:
    return status;
}

nphd_status nphdi_filter_look(const nphd_io *io, const nphd_allocator *allocator,
                              const char *directory, nphdi_filter_facts *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_source source;
    char *path = NULL;
    size_t room = 0;
    void *section = NULL;
    uint64_t bytes = 0;
    bool found = false;
    nphd_error why = NPHD_ERROR_INIT;

    memset(out, 0, sizeof(*out));
    memset(&source, 0, sizeof(source));
    TRY(nphdi_path_join(allocator, directory, NPHDI_BLOOM_NAME, &path, &room, err));
    TRY(nphdi_source_open_if_any(&source, io, path, &found, err));
    if (!found) {
        goto done;
    }
    TRY(look_at_filter(&source, out, err));
    if (out->whole) {
        status = nphdi_index_read_section(io, allocator, path, NPHDI_SECTION_FILTER, &found,
                                          &section, &bytes, &why);
        if (status == NPHD_OK && found && bytes == NPHDI_FILTER_SECTION_BYTES) {
            out->over_reference = nphdi_filter_section_over_reference(section);
        } else if (status != NPHD_OK && !is_damage(status)) {
            nphdi_error_copy(err, &why);
            goto done;
        }
        status = NPHD_OK;
    }
done:
    nphdi_source_close(&source);
    nphdi_free(allocator, section, bytes, 1);
    nphdi_free(allocator, path, room, 1);
    return status;
}

/* Are the tombstones a file without our trailer? Whether it is whole shows when it is read. */
static nphd_status tombstones_are_foreign(const nphd_sharded *sharded, bool *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_source source;
    nphdi_trailer trailer;
    char *path = NULL;
    size_t room = 0;
    bool found = false;
    nphd_error why = NPHD_ERROR_INIT;

    *out = false;
    memset(&source, 0, sizeof(source));
    TRY(nphdi_path_join(sharded->allocator, sharded->path, NPHDI_TOMBSTONES_NAME, &path, &room,
                        err));
    status = nphdi_source_open(&source, sharded->io, path, &why);
    if (status == NPHD_OK) {
        status = nphdi_source_trailer(&source, &trailer, &found, &why);
        *out = status == NPHD_OK && !found;
    }
    if (status != NPHD_OK && status != NPHD_NOT_FOUND && !is_damage(status)) {
        nphdi_error_copy(err, &why);
        goto done;
    }
    status = NPHD_OK;
done:
    nphdi_source_close(&source);
    nphdi_free(sharded->allocator, path, room, 1);
    return status;
}

/* ---- all of them ---- */

/* Files that contradict each other: an error, or salvage goes on with ours. */
static nphd_status disagree(nphdi_opening *of, const nphd_error *why, nphd_error *err)
{
    if (!of->sharded->salvage) {
        nphdi_error_copy(err, why);
        return why->status;
    }
    nphdi_sharded_damage(of->sharded, "%s", why->text);
    of->damaged++;
    of->reference = false;
    return NPHD_OK;
}

static bool last_listed_is_missing(const nphdi_opening *of)
{
    const nphd_sharded *sharded = of->sharded;
    const uint32_t last = sharded->sealed[sharded->sealed_count - 1]->number;

    return of->listed > 0 && nphdi_record_shard_at(of->record, of->listed - 1).number > last;
}

/* The last shard has our trailer. */
static nphd_status decide_ours(nphdi_opening *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded *sharded = of->sharded;
    const nphdi_filter_facts *filter = &of->filter;
    const nphdi_shard *last = sharded->sealed[sharded->sealed_count - 1];
    nphd_error why = NPHD_ERROR_INIT;
    bool tombstones = false;

    of->reference = false;
    if (filter->author != NPHDI_AUTHOR_REFERENCE) {
        return NPHD_OK;
    }
    TRY(tombstones_are_foreign(sharded, &tombstones, err));
    of->reference = tombstones || last_listed_is_missing(of);
    if (!of->reference) {
        (void)nphdi_fail(&why, NPHD_MISMATCH,
                         "%s/%s: it is as the reference writes it, but %s was written by nphd: one "
                         "of them is not of the last save" ADVICE,
                         sharded->path, NPHDI_BLOOM_NAME, nphdi_shard_name(last));
        TRY(disagree(of, &why, err));
    }
done:
    return status;
}

/* A journal that was committed to, which the reference ignores, and which continues a generation
 * not below `least`. */
static nphd_status find_journal(const nphdi_opening *of, uint64_t least, const char **out,
                                nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_sharded *sharded = of->sharded;
    char *path = NULL;
    size_t room = 0;

    *out = NULL;
    for (size_t i = 0; i < of->names.count && *out == NULL; i++) {
        nphdi_journal_reader reader;
        uint64_t sequence;
        bool valid = false;
        nphd_error why = NPHD_ERROR_INIT;
        if (!nphdi_journal_is_name(of->names.names[i], &sequence)) {
            continue;
        }
        TRY(nphdi_path_join(sharded->allocator, sharded->path, of->names.names[i], &path, &room,
                            err));
        status = nphdi_journal_reader_open(&reader, sharded->io, sharded->allocator, path, err);
        if (status == NPHD_OK) {
            /* what is wrong with it is told when it is replayed */
            const bool read = nphdi_journal_reader_head(&reader, &valid, &why) == NPHD_OK;
            *out = read && valid && reader.head.base >= least ? of->names.names[i] : NULL;
        }
        nphdi_journal_reader_close(&reader);
        nphdi_free(sharded->allocator, path, room, 1);
        path = NULL;
        TRY(status);
    }
done:
    nphdi_free(sharded->allocator, path, room, 1);
    return status;
}

/* Was our filter written in a save that did not come to its shard, over files of the reference? */
static bool filter_ran_ahead(const nphdi_opening *of)
{
    const nphdi_filter_facts *filter = &of->filter;
    const uint64_t newest = of->newest != NULL ? of->newest->generation : 0;

    return filter->whole &&
           (filter->over_reference ||
            /* older versions did not note it; without a newer save it is no newer than the shards
             */
            filter->trailer.generation <= newest);
}

/* The last shard has no trailer, or lost it. */
static nphd_status decide_reference(nphdi_opening *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded *sharded = of->sharded;
    const nphdi_filter_facts *filter = &of->filter;
    const nphdi_shard *last = sharded->sealed[sharded->sealed_count - 1];
    const char *journal = NULL;
    bool tombstones = false;
    nphd_error why = NPHD_ERROR_INIT;

    of->reference = true;
    if (filter->author == NPHDI_AUTHOR_REFERENCE) {
        return NPHD_OK;
    }
    if (filter->author == NPHDI_AUTHOR_OURS && filter_ran_ahead(of)) {
        /* unless somebody committed to that save: then it did come to its shard */
        TRY(find_journal(of, filter->trailer.generation, &journal, err));
        if (journal == NULL) {
            return NPHD_OK;
        }
    }
    TRY(tombstones_are_foreign(sharded, &tombstones, err));
    if (tombstones && journal == NULL) {
        return NPHD_OK;
    }
    if (filter->author == NPHDI_AUTHOR_OURS) {
        (void)nphdi_fail(&why, NPHD_MISMATCH,
                         "%s/%s: it has no trailer, as if the reference had written it or its end "
                         "were cut off, but %s was written by nphd" ADVICE,
                         sharded->path, nphdi_shard_name(last), NPHDI_BLOOM_NAME);
    } else {
        TRY(find_journal(of, 0, &journal, err));
        if (journal == NULL) {
            return NPHD_OK;
        }
        (void)nphdi_fail(&why, NPHD_MISMATCH,
                         "%s/%s: it has no trailer, as if the reference had written it or its end "
                         "were cut off, but %s continues files of nphd" ADVICE,
                         sharded->path, nphdi_shard_name(last), journal);
    }
    TRY(disagree(of, &why, err));
    of->cut = !of->reference;
    if (of->newest == NULL && filter->whole) {
        /* what the shard lost */
        memcpy(sharded->identity, filter->trailer.identity, sizeof(sharded->identity));
        of->base = filter->trailer.generation;
    }
done:
    return status;
}

nphd_status nphdi_opening_decide(nphdi_opening *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_sharded *sharded = of->sharded;

    of->cut = false;
    of->reference = of->options->reference_wrote_last;
    TRY(nphdi_filter_look(sharded->io, sharded->allocator, sharded->path, &of->filter, err));
    if (sharded->sealed_count > 0 && !of->reference) {
        TRY(sharded->sealed[sharded->sealed_count - 1]->generation == 0 ? decide_reference(of, err)
                                                                        : decide_ours(of, err));
    }
done:
    return status;
}
