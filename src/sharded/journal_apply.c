/* Applying the records of journals.
 *
 * Of several changes of a key only the last one is applied (journal_last.h), but for multi indexes.
 * Changes of one kind are gathered, so that threads share the work. What a record says is checked
 * like what a caller says, and what no caller could have said is damage of the file. */
#include "base/error.h"
#include "platform/interrupt.h"
#include "sharded/journal_replay.h"

#include <stdio.h>

/* Vectors that are inserted at once, by all threads together. */
#define REPLAY_AT_ONCE 4096

nphd_status nphdi_replay_begin(nphdi_replay *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_allocator *allocator = of->sharded->allocator;
    const nphd_io *io = of->sharded->io;
    int failed;

    TRY(nphdi_alloc(allocator, REPLAY_AT_ONCE, sizeof(*of->keys), &of->keys, err));
    TRY(nphdi_alloc(allocator, REPLAY_AT_ONCE, sizeof(*of->vectors), &of->vectors, err));
    /* salvage looks at what damage has left, and does best with all of it */
    of->last_only = !of->sharded->parameters.multi && !of->sharded->salvage;
    of->last.allocator = allocator;
    NPHDI_REPEAT_INTERRUPTED(failed,
                             io->random(io->context, &of->last.seed, sizeof(of->last.seed)));
    if (failed != 0) {
        status = nphdi_fail_os(err, failed, "%s: random number", of->sharded->path);
    }
done:
    return status;
}

void nphdi_replay_end(nphdi_replay *of)
{
    const nphd_allocator *allocator = of->sharded->allocator;

    nphdi_free(allocator, of->keys, REPLAY_AT_ONCE, sizeof(*of->keys));
    nphdi_free(allocator, of->vectors, REPLAY_AT_ONCE, sizeof(*of->vectors));
    nphdi_last_release(&of->last);
}

/* ---- records that are gathered ---- */

static nphd_status apply_some(nphdi_replay *of, size_t first, size_t count, nphd_error *err)
{
    return of->kind == NPHDI_JOURNAL_REMOVE
               ? nphdi_replay_removal(of->sharded, of->keys + first, count, err)
               : nphdi_replay_vectors(of->sharded, of->keys + first, of->vectors + first, count,
                                      of->threads, of->kind == NPHDI_JOURNAL_REPLACE, err);
}

/* One by one, but for those whose keys lead to what cannot be read. */
static nphd_status apply_readable(nphdi_replay *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t passed_over = 0;

    for (size_t i = 0; i < of->count; i++) {
        nphd_error why = NPHD_ERROR_INIT;
        status = apply_some(of, i, 1, &why);
        if (status == NPHD_CORRUPT && passed_over++ == 0) {
            nphdi_sharded_damage(of->sharded, "%s; a change of such a key is left out", why.text);
        } else if (status != NPHD_OK && status != NPHD_CORRUPT) {
            nphdi_error_copy(err, &why);
            return status;
        }
    }
    return NPHD_OK;
}

static nphd_status apply_gathered(nphdi_replay *of, const nphdi_watch *watch, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded *sharded = of->sharded;
    const nphdi_watch *whole = sharded->watch;

    sharded->watch = watch;
    status = of->count > 0 ? apply_some(of, 0, of->count, err) : NPHD_OK;
    if (status == NPHD_CORRUPT && sharded->salvage && !sharded->read_only) {
        nphdi_error_clear(err);
        status = apply_readable(of, err);
    }
    TRY(status);
    of->applied += of->count;
    of->count = 0;
done:
    sharded->watch = whole;
    return status;
}

/* With damage before it, a vector that was new may find an older one of its key. */
static nphdi_journal_kind kind_of(const nphdi_replay *of, const nphdi_journal_record *record)
{
    return record->kind == NPHDI_JOURNAL_ADD && of->sharded->salvage &&
                   !of->sharded->parameters.multi
               ? NPHDI_JOURNAL_REPLACE
               : record->kind;
}

static nphd_status apply_record(nphdi_replay *of, const nphdi_journal_record *record,
                                const nphdi_watch *watch, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded *sharded = of->sharded;

    if (kind_of(of, record) != of->kind || of->count == REPLAY_AT_ONCE) {
        TRY(apply_gathered(of, watch, err));
        of->kind = kind_of(of, record);
    }
    switch (record->kind) {
    case NPHDI_JOURNAL_RESET:
        TRY(nphdi_replay_reset(sharded, err));
        of->applied++;
        break;
    case NPHDI_JOURNAL_AUTOMATIC:
        sharded->next_automatic = record->key.low;
        break;
    case NPHDI_JOURNAL_ADD:
    case NPHDI_JOURNAL_REPLACE:
    case NPHDI_JOURNAL_REMOVE:
        of->keys[of->count] = record->key;
        of->vectors[of->count++] = record->vector;
        break;
    case NPHDI_JOURNAL_FACT:
        nphdi_sharded_replay_unit(sharded, record->fact, record->data, record->data_bytes);
        break;
    case NPHDI_JOURNAL_UNKNOWN:
        break;
    }
done:
    return status;
}

/* ---- what records may say ---- */

static nphd_status check_record(const nphdi_replay *of, const char *where, uint64_t offset,
                                const nphdi_journal_record *record, nphd_error *err)
{
    const nphd_sharded *sharded = of->sharded;
    const nphd_index_options *index = &sharded->parameters;
    const bool stores = record->kind == NPHDI_JOURNAL_ADD || record->kind == NPHDI_JOURNAL_REPLACE;

    if (record->kind == NPHDI_JOURNAL_FACT && record->must) {
        return nphdi_fail(err, NPHD_UNSUPPORTED,
                          "%s: the record at %llu says fact %u of the index, which a later version "
                          "knows and which may not be passed over",
                          where, (unsigned long long)offset, record->fact);
    }
    if (index->multi &&
        (record->kind == NPHDI_JOURNAL_REPLACE || record->kind == NPHDI_JOURNAL_REMOVE)) {
        return nphdi_fail(
            err, NPHD_CORRUPT,
            "%s: the record at %llu replaces or removes a key, and the index is multi", where,
            (unsigned long long)offset);
    }
    if ((stores || record->kind == NPHDI_JOURNAL_REMOVE) &&
        nphdi_is_free_key(record->key, sharded->key_bytes)) {
        return nphdi_fail(err, NPHD_CORRUPT,
                          "%s: the record at %llu has the reserved key, all bits of which are one",
                          where, (unsigned long long)offset);
    }
    if (stores && index->metric == NPHD_METRIC_HAMMING &&
        record->vector.bytes != index->max_bits / 8) {
        return nphdi_fail(err, NPHD_CORRUPT,
                          "%s: the record at %llu has a vector of %zu bytes; this index takes %u",
                          where, (unsigned long long)offset, record->vector.bytes,
                          index->max_bits / 8);
    }
    return NPHD_OK;
}

nphd_status nphdi_replay_take_record(const nphdi_replay *of, const char *where,
                                     const nphdi_journal_reader *reader, uint64_t *offset,
                                     nphdi_journal_record *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t begin = *offset;

    TRY(nphdi_journal_decode_record(where, &reader->head, reader->records, reader->count, offset,
                                    out, err));
    TRY(check_record(of, where, begin, out, err));
done:
    return status;
}

/* ---- frames ---- */

/* Does a change count? *record gets the kind as which it is applied. `first`: number of the first
 * change of this frame. */
static nphd_status change_counts(nphdi_replay *of, nphdi_found_journal *journal,
                                 const nphdi_journal_reader *reader, uint64_t first,
                                 const nphdi_watch *watch, nphdi_journal_record *record, bool *out,
                                 nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t number;

    *out = true;
    if (!of->last_only) {
        return NPHD_OK;
    }
    if (of->change >= of->planned) {
        TRY(nphdi_replay_plan(of, journal, reader, first, watch, err));
    }
    number = of->change++;
    /* a file that others cut meanwhile may not have been read so far */
    *out =
        number >= of->planned || nphdi_last_counts(&of->last, record->key, number, &record->kind);
    of->left_out += *out ? 0 : 1;
done:
    return status;
}

nphd_status nphdi_replay_frame(nphdi_replay *of, nphdi_found_journal *journal,
                               const nphdi_journal_reader *reader, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t first = of->change;
    const nphdi_watch whole = nphdi_replay_watch(of, reader);
    uint64_t applied = 0; /* the records before this are */
    uint64_t records = 0;
    nphdi_journal_record record;
    char where[NPHD_ERROR_TEXT_BYTES];
    nphd_error why = NPHD_ERROR_INIT;
    nphdi_watch last;
    bool more = true;

    (void)snprintf(where, sizeof(where), "%s: frame %llu", journal->path,
                   (unsigned long long)(reader->number - 1));
    for (uint64_t offset = 0; more && offset < reader->count;) {
        const uint64_t begin = offset;
        bool counts = true;
        const nphdi_watch watch = nphdi_watch_stretch(&whole, applied, begin, reader->count);
        const size_t waiting = of->count;
        TRY(nphdi_watch_ask(records++ % NPHDI_WATCH_EVERY == 0 ? &watch : NULL, 0, 1, err));
        status = nphdi_replay_take_record(of, where, reader, &offset, &record, &why);
        if (status != NPHD_OK) {
            nphdi_replay_salvage(of, journal, &status, &why, err);
            TRY(status);
            more = offset > begin; /* else nobody knows where the next one begins */
            continue;
        }
        if (nphdi_replay_is_change(&record)) {
            TRY(change_counts(of, journal, reader, first, &watch, &record, &counts, err));
        }
        if (counts) {
            TRY(apply_record(of, &record, &watch, err));
            applied = of->count > waiting ? applied : begin;
        }
    }
    /* vectors point into the frame */
    last = nphdi_watch_stretch(&whole, applied, reader->count, reader->count);
    TRY(apply_gathered(of, &last, err));
done:
    return status;
}
