/* Applying journals at opening.
 *
 * The journals that count form a chain: the first continues the generation of the newest shard,
 * each other one the journal before it, up to the length that it names. A torn frame at the end of
 * the last is cut. Anything else that does not fit is an error, and nothing of it is guessed.
 *
 * Salvage goes on behind a damaged frame, and with the oldest journal of a chain whose beginning is
 * missing: what a record says of its key is newer than what any shard has. */
#include "sharded/journal_replay.h"
#include "base/error.h"
#include "base/seeded_bug.h"
#include "formats/usearch_format.h"
#include "index/source.h"

#include <string.h>

void nphdi_replay_salvage(const nphdi_replay *of, nphdi_found_journal *journal, nphd_status *status,
                          const nphd_error *why, nphd_error *err)
{
    if (of->sharded->salvage &&
        (*status == NPHD_CORRUPT || *status == NPHD_MISMATCH || *status == NPHD_UNSUPPORTED)) {
        if (!journal->damaged) {
            nphdi_sharded_damage(of->sharded, "%s", why->text);
        }
        journal->damaged = true;
        *status = NPHD_OK;
    }
    if (*status != NPHD_OK) {
        nphdi_error_copy(err, why);
    }
}

/* ---- finding ---- */

static nphd_status look_at(const nphdi_replay *of, nphdi_found_journal *journal, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_journal_reader reader;

    TRY(nphdi_journal_reader_open(&reader, of->sharded->io, of->sharded->allocator, journal->path,
                                  err));
    status = nphdi_journal_reader_head(&reader, &journal->valid, err);
    journal->head = reader.head;
    journal->bytes = reader.source.bytes;
done:
    nphdi_journal_reader_close(&reader);
    return status;
}

static nphd_status check_head(const nphdi_replay *of, const nphdi_found_journal *journal,
                              uint64_t sequence, nphd_error *err)
{
    const nphd_sharded *sharded = of->sharded;

    if (memcmp(journal->head.identity, sharded->identity, sizeof(sharded->identity)) != 0) {
        return nphdi_fail(err, NPHD_MISMATCH, "%s: the journal of another index; move it away",
                          journal->path);
    }
    if (journal->head.sequence != sequence || journal->head.key_bytes != sharded->key_bytes ||
        journal->head.payload_bytes != sharded->parameters.max_bits / 8) {
        return nphdi_fail(err, NPHD_CORRUPT,
                          "%s: number %llu, keys of %u and vectors of %u bytes do not fit",
                          journal->path, (unsigned long long)journal->head.sequence,
                          journal->head.key_bytes, journal->head.payload_bytes);
    }
    if (journal->head.version > 1 &&
        (journal->head.metric_code != nphdi_journal_metric_code(sharded) ||
         journal->head.scalar_code != NPHDI_SCALAR_BITS)) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: metric %u and scalar %u do not fit",
                          journal->path, journal->head.metric_code, journal->head.scalar_code);
    }
    return NPHD_OK;
}

static nphd_status find_journals(nphdi_replay *of, const nphdi_names *names, uint64_t generation,
                                 nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded *sharded = of->sharded;

    of->found_room = names->count;
    TRY(nphdi_alloc(sharded->allocator, of->found_room, sizeof(*of->found), &of->found, err));
    /* names are sorted, and so are the sequences of names of equal width; longer ones come last */
    for (size_t i = 0; i < names->count; i++) {
        uint64_t sequence;
        if (!nphdi_journal_is_name(names->names[i], &sequence)) {
            continue;
        }
        if (sequence >= sharded->journal.next_sequence) {
            sharded->journal.next_sequence = sequence + 1;
        }
        nphdi_found_journal *journal = &of->found[of->found_count++];
        TRY(nphdi_path_join(sharded->allocator, sharded->path, names->names[i], &journal->path,
                            &journal->path_room, err));
        nphd_error why = NPHD_ERROR_INIT;
        status = look_at(of, journal, &why);
        if (status == NPHD_OK && journal->valid && journal->head.base >= generation) {
            status = check_head(of, journal, sequence, &why);
        }
        nphdi_replay_salvage(of, journal, &status, &why, err);
        journal->valid = journal->valid && !journal->damaged;
        of->bytes += journal->valid ? journal->bytes : 0;
        TRY(status);
    }
done:
    return status;
}

/* ---- applying ---- */

/* What becomes of a journal once a save has made it superfluous: it is deleted, or put aside. */
typedef enum journal_fate { JOURNAL_APPLIED, JOURNAL_DAMAGED, JOURNAL_UNAPPLIED } journal_fate;

/* What was read of a journal, kept so that its successor can name it. */
static nphd_status remember(nphd_sharded *sharded, const char *path, uint64_t base,
                            uint64_t sequence, uint64_t bytes, uint64_t file_bytes,
                            journal_fate fate, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_journal_file **end = &sharded->journal.files;
    nphdi_journal_file *file = NULL;

    while (*end != NULL) {
        end = &(*end)->next;
    }
    TRY(nphdi_alloc(sharded->allocator, 1, sizeof(*file), &file, err));
    *end = file;
    file->path_room = strlen(path) + 1;
    TRY(nphdi_alloc(sharded->allocator, file->path_room, 1, &file->path, err));
    memcpy(file->path, path, file->path_room);
    file->base = base;
    file->sequence = sequence;
    file->created = true;
    file->closed = true;
    file->damaged = fate == JOURNAL_DAMAGED;
    file->unapplied = fate == JOURNAL_UNAPPLIED;
    file->written_bytes = bytes;
    atomic_store(&file->file_bytes, file_bytes);
done:
    return status;
}

/* Salvage goes on behind a damaged frame. */
static nphd_status skip_damage(const nphdi_replay *of, nphdi_found_journal *journal,
                               nphdi_journal_reader *reader, bool *out_more, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_error why = NPHD_ERROR_INIT;

    status = nphdi_fail(&why, NPHD_CORRUPT, "%s: frame %llu at byte %llu is damaged", journal->path,
                        (unsigned long long)reader->number, (unsigned long long)reader->offset);
    nphdi_replay_salvage(of, journal, &status, &why, err);
    TRY(status);
    TRY(nphdi_journal_reader_skip(reader, out_more, err));
done:
    return status;
}

/* A commit that was interrupted leaves this, and a file that lost its end looks the same. Readers
 * meet it beside a writer that is at work. */
static void tell_torn(const nphdi_replay *of, const nphdi_journal_reader *reader)
{
    nphdi_log_write(&of->sharded->log, of->sharded->read_only ? NPHD_LOG_INFO : NPHD_LOG_WARNING,
                    "%s: the last %llu bytes, from byte %llu on, are no whole commit and left out",
                    reader->source.name,
                    (unsigned long long)(reader->source.bytes - reader->offset),
                    (unsigned long long)reader->offset);
}

static nphd_status check_end(const nphdi_replay *of, nphdi_found_journal *journal, uint64_t offset,
                             uint64_t limit, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_error why = NPHD_ERROR_INIT;

    if (limit != UINT64_MAX && offset != limit) {
        status = nphdi_fail(&why, NPHD_CORRUPT,
                            "%s: frames end at byte %llu, but the next journal says %llu",
                            journal->path, (unsigned long long)offset, (unsigned long long)limit);
        nphdi_replay_salvage(of, journal, &status, &why, err);
    }
    return status;
}

nphdi_watch nphdi_replay_watch(const nphdi_replay *of, const nphdi_journal_reader *reader)
{
    return nphdi_watch_stretch(of->sharded->watch, of->before + reader->before,
                               of->before + reader->offset, of->bytes);
}

static nphd_status apply_frames(nphdi_replay *of, nphdi_found_journal *journal,
                                nphdi_journal_reader *reader, uint64_t limit, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_journal_step step = NPHDI_JOURNAL_WHOLE;
    bool more = true;
    nphd_error why = NPHD_ERROR_INIT;

    while (more && step != NPHDI_JOURNAL_END) {
        status = nphdi_journal_reader_next(reader, limit, &step, &why);
        if (status != NPHD_OK) { /* a frame that only a later version can read */
            nphdi_replay_salvage(of, journal, &status, &why, err);
            TRY(status);
            step = NPHDI_JOURNAL_DAMAGED_FRAME;
        }
        switch (step) {
        case NPHDI_JOURNAL_WHOLE:
            TRY(nphdi_replay_frame(of, journal, reader, err));
            break;
        case NPHDI_JOURNAL_DAMAGED_FRAME:
            TRY(skip_damage(of, journal, reader, &more, err));
            break;
        case NPHDI_JOURNAL_TORN:
            tell_torn(of, reader);
            more = false;
            break;
        case NPHDI_JOURNAL_END:
            break;
        }
    }
done:
    return status;
}

/* `limit`: where the successor says that it ends; UINT64_MAX: there is none. */
static nphd_status apply_journal(nphdi_replay *of, nphdi_found_journal *journal, uint64_t limit,
                                 nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_journal_reader reader;
    nphdi_watch found;
    bool valid;

    TRY(nphdi_journal_reader_open(&reader, of->sharded->io, of->sharded->allocator, journal->path,
                                  err));
    TRY(nphdi_journal_reader_head(&reader, &valid, err));
    found =
        nphdi_watch_stretch(of->sharded->watch, of->before, of->before + journal->bytes, of->bytes);
    reader.watch = &found;
    TRY(apply_frames(of, journal, &reader, limit, err));
    TRY(check_end(of, journal, reader.offset, limit, err));
    journal->used = true;
    of->before += journal->bytes;
    if (!journal->damaged) {
        TRY(remember(of->sharded, journal->path, journal->head.base, journal->head.sequence,
                     reader.offset, reader.source.bytes, JOURNAL_APPLIED, err));
    }
done:
    nphdi_journal_reader_close(&reader);
    return status;
}

/* ---- the chain ---- */

/* What it continues may be gone only if that is in the shards. */
static nphdi_found_journal *first_of(const nphdi_replay *of, uint64_t generation)
{
    nphdi_found_journal *first = NULL;

    for (size_t i = 0; i < of->found_count; i++) {
        nphdi_found_journal *journal = &of->found[i];
        if (journal->valid && (journal->head.base == generation || NPHDI_BUG(15)) &&
            journal->head.before_base < generation &&
            (first == NULL || journal->head.sequence < first->head.sequence)) {
            first = journal;
        }
    }
    return first;
}

nphdi_found_journal *nphdi_replay_successor(const nphdi_replay *of,
                                            const nphdi_found_journal *journal)
{
    for (size_t i = 0; i < of->found_count; i++) {
        nphdi_found_journal *next = &of->found[i];
        if (next->valid && next->head.before == journal->head.sequence &&
            next->head.sequence > journal->head.sequence && next->head.base >= journal->head.base) {
            return next;
        }
    }
    return NULL;
}

/* The oldest of those that should count and do not. */
static nphdi_found_journal *oldest_left(const nphdi_replay *of, uint64_t generation)
{
    nphdi_found_journal *oldest = NULL;

    for (size_t i = 0; i < of->found_count; i++) {
        nphdi_found_journal *journal = &of->found[i];
        if (journal->valid && !journal->used && journal->head.base >= generation &&
            (oldest == NULL || journal->head.sequence < oldest->head.sequence)) {
            oldest = journal;
        }
    }
    return oldest;
}

static nphd_status apply_from(nphdi_replay *of, nphdi_found_journal *journal, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    while (journal != NULL) {
        nphdi_found_journal *next = nphdi_replay_successor(of, journal);
        TRY(apply_journal(of, journal, next != NULL ? next->head.before_bytes : UINT64_MAX, err));
        of->sharded->journal.base = journal->head.base;
        journal = next;
    }
done:
    return status;
}

static nphd_status apply_chain(nphdi_replay *of, uint64_t generation, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded *sharded = of->sharded;
    nphdi_found_journal *left;
    nphd_error why = NPHD_ERROR_INIT;

    sharded->journal.base = generation;
    TRY(apply_from(of, first_of(of, generation), err));
    while ((left = oldest_left(of, generation)) != NULL) {
        status = nphdi_fail(&why, NPHD_CORRUPT,
                            "%s: continues generation %llu after journal %llu, which is not what "
                            "is there",
                            left->path, (unsigned long long)left->head.base,
                            (unsigned long long)left->head.before);
        nphdi_replay_salvage(of, left, &status, &why, err);
        TRY(status);
        TRY(apply_from(of, left, err));
    }
    if (sharded->journal.base > atomic_load(&sharded->generation)) {
        atomic_store(&sharded->generation, sharded->journal.base);
    }
done:
    return status;
}

/* What a save gives its shard must be newer than what such a journal continues: else, after a
 * crash before the journal is put aside, it would seem to continue that shard. */
static nphd_status pass_base(nphd_sharded *sharded, const char *path, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_journal_reader reader;
    nphd_error why = NPHD_ERROR_INIT;
    bool valid = false;

    memset(&reader, 0, sizeof(reader));
    TRY(nphdi_journal_reader_open(&reader, sharded->io, sharded->allocator, path, err));
    status = nphdi_journal_reader_head(&reader, &valid, &why);
    if (status == NPHD_OK && valid && reader.head.base < NPHDI_LAST_GENERATION &&
        reader.head.base > atomic_load(&sharded->generation)) {
        atomic_store(&sharded->generation, reader.head.base);
    }
    if (status == NPHD_CORRUPT || status == NPHD_UNSUPPORTED) {
        status = NPHD_OK; /* it is put aside as it is */
    }
    if (status != NPHD_OK) {
        nphdi_error_copy(err, &why);
    }
done:
    nphdi_journal_reader_close(&reader);
    return status;
}

/* No journal may continue damaged ones: the next commit is a save, which makes them superfluous.
 * Until then they stay where they are, since nothing else has what was read of them. */
static nphd_status keep_damaged(const nphdi_replay *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    for (size_t i = 0; i < of->found_count; i++) {
        const nphdi_found_journal *journal = &of->found[i];
        if (journal->damaged) {
            nphdi_journal_doubt(of->sharded);
            of->sharded->unsaved = true;
            TRY(pass_base(of->sharded, journal->path, err));
            TRY(remember(of->sharded, journal->path, journal->head.base, journal->head.sequence, 0,
                         0, JOURNAL_DAMAGED, err));
        }
    }
done:
    return status;
}

/* Journals of saves before the newest, and those that were never committed to. */
static void remove_stale(const nphdi_replay *of)
{
    nphd_error why = NPHD_ERROR_INIT;

    for (size_t i = 0; !of->sharded->read_only && i < of->found_count; i++) {
        if (!of->found[i].used && !of->found[i].damaged &&
            nphdi_file_remove(of->sharded->io, of->found[i].path, false, &why) != NPHD_OK) {
            nphdi_log_write(&of->sharded->log, NPHD_LOG_WARNING, "%s", why.text);
        }
    }
}

static void release(nphdi_replay *of)
{
    const nphd_allocator *allocator = of->sharded->allocator;

    for (size_t i = 0; i < of->found_count; i++) {
        nphdi_free(allocator, of->found[i].path, of->found[i].path_room, 1);
    }
    nphdi_free(allocator, of->found, of->found_room, sizeof(*of->found));
    nphdi_replay_end(of);
}

bool nphdi_journal_is_unapplied(const char *name)
{
    return strncmp(name, "journal_", 8) == 0 && strstr(name, "." NPHDI_UNAPPLIED) != NULL;
}

/* Journals that the shards do not continue: not applied, and put aside with the next save. */
static nphd_status set_apart(nphd_sharded *sharded, const nphdi_names *names, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    char *path = NULL;
    size_t room = 0;

    for (size_t i = 0; i < names->count; i++) {
        uint64_t sequence;
        if (!nphdi_journal_is_name(names->names[i], &sequence)) {
            continue;
        }
        if (sequence >= sharded->journal.next_sequence) {
            sharded->journal.next_sequence = sequence + 1;
        }
        TRY(nphdi_path_join(sharded->allocator, sharded->path, names->names[i], &path, &room, err));
        TRY(pass_base(sharded, path, err));
        sharded->journal.unapplied++;
        nphdi_log_write(
            &sharded->log, NPHD_LOG_WARNING,
            "%s: not applied, as the shards were not written by us since; the next save puts "
            "it aside as .unapplied",
            path);
        TRY(remember(sharded, path, 0, sequence, 0, 0, JOURNAL_UNAPPLIED, err));
        nphdi_free(sharded->allocator, path, room, 1);
        path = NULL;
        room = 0;
    }
done:
    nphdi_free(sharded->allocator, path, room, 1);
    return status;
}

nphd_status nphdi_journal_replay(nphd_sharded *sharded, const nphdi_names *names,
                                 uint64_t generation, bool reference, uint32_t threads,
                                 nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t begin_ms = nphdi_clock_ms();
    nphdi_replay of;

    memset(&of, 0, sizeof(of));
    of.sharded = sharded;
    of.threads = threads;
    if (generation > 0 && !reference) {
        TRY(find_journals(&of, names, generation, err));
    }
    if (generation == 0 || reference) {
        TRY(set_apart(sharded, names, err));
    }
    if (of.found_count == 0) {
        sharded->journal.base = reference ? 0 : generation;
        goto done;
    }
    TRY(nphdi_replay_begin(&of, err));
    TRY(apply_chain(&of, generation, err));
    remove_stale(&of);
    TRY(keep_damaged(&of, err));
    if (of.applied > 0) {
        nphdi_log_write(&sharded->log, NPHD_LOG_INFO,
                        "%s: %llu changes of the journal applied in %.3f s, %llu left out, as "
                        "later ones replace them",
                        sharded->path, (unsigned long long)of.applied,
                        (double)(nphdi_clock_ms() - begin_ms) / 1000,
                        (unsigned long long)of.left_out);
    }
done:
    release(&of);
    return status;
}
