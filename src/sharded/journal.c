/* The records that wait, which file they belong to, and when they are written. */
#include "base/error.h"
#include "base/seeded_bug.h"
#include "sharded/sharded_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_ROOM 32

/* Journals of up to so many bytes are applied in no time. */
#define FOLD_LEAST ((uint64_t)1 << 20)

/* ---- life ---- */

nphd_status nphdi_journal_init(nphdi_journal *journal, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(nphdi_signal_init(&journal->lock, err));
    journal->lock_made = true;
    journal->next_sequence = 1;
done:
    return status;
}

static void file_free(const nphd_sharded *sharded, nphdi_journal_file *file)
{
    if (file == NULL) {
        return;
    }
    if (file->open) {
        (void)sharded->io->close(sharded->io->context, file->file);
    }
    nphdi_free(sharded->allocator, file->records, file->record_room, 1);
    nphdi_free(sharded->allocator, file->flushing, file->flushing_room, 1);
    nphdi_free(sharded->allocator, file->path, file->path_room, 1);
    nphdi_free(sharded->allocator, file, 1, sizeof(*file));
}

void nphdi_journal_close_files(nphd_sharded *sharded)
{
    nphdi_journal *journal = &sharded->journal;

    while (journal->files != NULL) {
        nphdi_journal_file *file = journal->files;
        journal->files = file->next;
        file_free(sharded, file);
    }
}

void nphdi_journal_release(nphdi_journal *journal)
{
    if (journal->lock_made) {
        nphdi_signal_destroy(&journal->lock);
        journal->lock_made = false;
    }
}

bool nphdi_journal_is_name(const char *name, uint64_t *out_sequence)
{
    char expected[NAME_ROOM];

    if (strncmp(name, "journal_", 8) != 0 || name[8] < '0' || name[8] > '9') {
        return false;
    }
    *out_sequence = strtoull(name + 8, NULL, 10);
    (void)snprintf(expected, sizeof(expected), "journal_%08" PRIu64, *out_sequence);
    return *out_sequence < UINT64_MAX && strcmp(expected, name) == 0; /* there is one behind it */
}

/* ---- adding records ---- */

/* The file that new records belong to. Called with the journal locked. */
static nphd_status current_file(nphd_sharded *sharded, nphdi_journal_file **out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_journal *journal = &sharded->journal;
    nphdi_journal_file **end = &journal->files;
    nphdi_journal_file *file = NULL;

    while (*end != NULL &&
           ((*end)->next != NULL || (*end)->closed || (*end)->base != journal->base)) {
        end = &(*end)->next;
    }
    *out = *end;
    if (*out != NULL) {
        return NPHD_OK;
    }
    TRY(nphdi_alloc(sharded->allocator, 1, sizeof(*file), &file, err));
    file->path_room = strlen(sharded->path) + NAME_ROOM;
    TRY(nphdi_alloc(sharded->allocator, file->path_room, 1, &file->path, err));
    file->sequence = journal->next_sequence++;
    file->base = journal->base;
    (void)snprintf(file->path, file->path_room, "%s/journal_%08" PRIu64, sharded->path,
                   file->sequence);
    *end = file;
    *out = file;
    file = NULL;
done:
    file_free(sharded, file);
    return status;
}

/* With room for the frame that they become in place. */
static nphd_status grow_records(const nphd_sharded *sharded, nphdi_journal_file *file,
                                uint64_t bytes, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t wanted = nphdi_journal_frame_bytes(file->record_bytes + bytes);
    uint64_t room = file->record_room == 0 ? 4096 : file->record_room;
    uint8_t *grown = NULL;

    if (wanted <= file->record_room) {
        return NPHD_OK;
    }
    while (room < wanted) {
        room *= 2;
    }
    TRY(nphdi_alloc(sharded->allocator, room, 1, &grown, err));
    if (file->record_bytes > 0) {
        memcpy(grown + NPHDI_JOURNAL_START_BYTES, file->records + NPHDI_JOURNAL_START_BYTES,
               file->record_bytes);
    }
    nphdi_free(sharded->allocator, file->records, file->record_room, 1);
    file->records = grown;
    file->record_room = room;
done:
    return status;
}

nphd_status nphdi_journal_reserve(nphd_sharded *sharded, uint64_t bytes, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_journal *journal = &sharded->journal;
    nphdi_journal_file *file;

    if (!journal->on) {
        return NPHD_OK;
    }
    nphdi_signal_lock(&journal->lock);
    TRY(current_file(sharded, &file, err));
    TRY(grow_records(sharded, file, bytes, err));
done:
    nphdi_signal_unlock(&journal->lock);
    return status;
}

void nphdi_journal_append(nphd_sharded *sharded, const nphdi_journal_record *record)
{
    nphdi_journal *journal = &sharded->journal;
    nphdi_journal_file *file;

    if (!journal->on) {
        return;
    }
    nphdi_signal_lock(&journal->lock);
    /* a commit may have taken the reserved buffer meanwhile, but it left one of the same room */
    if (current_file(sharded, &file, NULL) == NPHD_OK) {
        file->record_bytes += nphdi_journal_encode_record(
            record, sharded->key_bytes,
            file->records + NPHDI_JOURNAL_START_BYTES + file->record_bytes);
        journal->appended++;
    }
    nphdi_signal_unlock(&journal->lock);
}

uint64_t nphdi_journal_disk_bytes(nphd_sharded *sharded)
{
    uint64_t bytes = 0;

    nphdi_signal_lock(&sharded->journal.lock);
    for (nphdi_journal_file *file = sharded->journal.files; file != NULL; file = file->next) {
        bytes += atomic_load(&file->file_bytes);
    }
    nphdi_signal_unlock(&sharded->journal.lock);
    return bytes;
}

void nphdi_journal_continue(nphd_sharded *sharded, uint64_t generation)
{
    nphdi_signal_lock(&sharded->journal.lock);
    sharded->journal.base = generation;
    nphdi_signal_unlock(&sharded->journal.lock);
}

void nphdi_journal_doubt(nphd_sharded *sharded)
{
    nphdi_signal_lock(&sharded->journal.lock);
    sharded->journal.doubtful = true;
    nphdi_signal_unlock(&sharded->journal.lock);
}

nphd_status nphdi_journal_put_aside(nphd_sharded *sharded, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_journal *journal = &sharded->journal;

    nphdi_signal_lock(&journal->lock);
    for (nphdi_journal_file *file = journal->files; file != NULL; file = file->next) {
        if (file->unapplied && file->created) {
            TRY(nphdi_sharded_set_aside(sharded, file->path, NPHDI_UNAPPLIED, err));
            file->created = false; /* under that name */
            atomic_store(&sharded->directory_unsure, true);
        }
    }
done:
    nphdi_signal_unlock(&journal->lock);
    return status;
}

static nphd_status clear_away(const nphd_sharded *sharded, const nphdi_journal_file *file,
                              nphd_error *err)
{
    return file->damaged ? nphdi_sharded_set_aside(sharded, file->path, "damaged", err)
                         : nphdi_file_remove(sharded->io, file->path, false, err);
}

void nphdi_journal_drop(nphd_sharded *sharded, uint64_t generation)
{
    nphdi_journal *journal = &sharded->journal;
    nphd_error why = NPHD_ERROR_INIT;

    nphdi_signal_lock(&journal->lock);
    while (journal->committing) {
        (void)nphdi_signal_wait(&journal->lock, UINT64_MAX);
    }
    journal->doubtful = false;
    while (journal->files != NULL && journal->files->base < generation && !NPHDI_BUG(15)) {
        nphdi_journal_file *file = journal->files;
        journal->files = file->next;
        /* one that cannot be removed is of an older generation and ignored by every opening */
        if ((file->open || file->created) && clear_away(sharded, file, &why) != NPHD_OK) {
            nphdi_log_write(&sharded->log, NPHD_LOG_WARNING, "%s", why.text);
        }
        file_free(sharded, file);
    }
    if (journal->files == NULL) {
        journal->durable = journal->appended;
    }
    nphdi_signal_unlock(&journal->lock);
}

/* ---- committing ---- */

/* Takes the records of all files for writing; each keeps a buffer of the same room, for records
 * that are reserved and come in meanwhile. Called with the journal locked. */
static nphd_status take_records(const nphd_sharded *sharded, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    for (nphdi_journal_file *file = sharded->journal.files; file != NULL; file = file->next) {
        if (file->record_bytes > 0 && file->flushing_room < file->record_room) {
            nphdi_free(sharded->allocator, file->flushing, file->flushing_room, 1);
            file->flushing_room = 0;
            TRY(nphdi_alloc(sharded->allocator, file->record_room, 1, &file->flushing, err));
            file->flushing_room = file->record_room;
        }
    }
    for (nphdi_journal_file *file = sharded->journal.files; file != NULL; file = file->next) {
        uint8_t *taken = file->records;
        const uint64_t room = file->record_room;
        if (file->record_bytes > 0) {
            file->records = file->flushing;
            file->record_room = file->flushing_room;
            file->flushing = taken;
            file->flushing_room = room;
            file->flushing_bytes = file->record_bytes;
            file->record_bytes = 0;
        }
    }
done:
    return status;
}

/* Oldest first: a newer file counts only with all before it, those without records included. What
 * was taken for files behind one that failed is as unknown as what that one holds. */
static nphd_status flush_files(nphd_sharded *sharded, nphdi_journal_file *files,
                               const nphdi_journal_file *last, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_journal_file *before = NULL;
    nphdi_journal_file *file = files;

    for (;;) {
        if (status == NPHD_OK) {
            status = nphdi_journal_file_flush(sharded, file, before, err);
        }
        file->flushing_bytes = 0;
        file->broken = status != NPHD_OK && !NPHDI_BUG(24);
        /* behind the last, other threads may be adding files */
        if (file == last) {
            break;
        }
        /* one that was set apart at opening is no part of the chain */
        before = file->base > 0 ? file : before;
        file = file->next;
    }
    return status;
}

/* The newest file that has something to write, if any; no file is added before it. */
static nphdi_journal_file *last_taken(const nphdi_journal *journal)
{
    nphdi_journal_file *last = NULL;

    for (nphdi_journal_file *file = journal->files; file != NULL; file = file->next) {
        last = file->flushing_bytes > 0 ? file : last;
    }
    return last;
}

/* What only a save can make durable: no journal continues files that are not there, or of which it
 * is not known whether they are, nor one whose flush failed or whose frames have used up their
 * numbers. */
static bool needs_save(const nphdi_journal *journal)
{
    bool needed = journal->base == 0 || journal->doubtful;

    for (const nphdi_journal_file *file = journal->files; file != NULL; file = file->next) {
        needed = needed || file->broken || file->base == 0 || file->frames == UINT32_MAX;
    }
    return needed;
}

nphd_status nphdi_journal_commit(nphd_sharded *sharded, bool *out_save, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_journal *journal = &sharded->journal;
    uint64_t target;

    nphdi_signal_lock(&journal->lock);
    target = journal->appended;
    while (journal->committing && journal->durable < target) {
        (void)nphdi_signal_wait(&journal->lock, UINT64_MAX);
    }
    *out_save = journal->durable < target && needs_save(journal);
    if (journal->durable < target && !*out_save) {
        journal->committing = true;
        target = journal->appended;
        status = take_records(sharded, err);
        if (status == NPHD_OK) {
            nphdi_journal_file *files = journal->files;
            const nphdi_journal_file *last = last_taken(journal);
            nphdi_signal_unlock(&journal->lock);
            status = last != NULL ? flush_files(sharded, files, last, err) : NPHD_OK;
            nphdi_signal_lock(&journal->lock);
        }
        if (status == NPHD_OK) {
            journal->durable = target;
        }
        journal->committing = false;
        nphdi_signal_broadcast(&journal->lock);
    }
    nphdi_signal_unlock(&journal->lock);
    return status;
}

/* Does it pay to save what the journals have? When they have become longer than what a save writes,
 * twice over, so that saves cost no more than the commits between them have. Not while shards are
 * on their way to disk, which make journals superfluous by themselves. */
static bool is_long(nphd_sharded *sharded, uint64_t bytes)
{
    uint64_t written;
    bool waits;

    if (bytes <= FOLD_LEAST || bytes <= atomic_load(&sharded->journal.fold_after)) {
        return false;
    }
    nphdi_signal_lock(&sharded->queue);
    waits = sharded->rotation_count > 0;
    nphdi_signal_unlock(&sharded->queue);
    if (waits || nphdi_drain_begin(sharded, "commit", NULL) != NPHD_OK) {
        return false;
    }
    written = nphdi_index_foreign_bytes(sharded->active) + atomic_load(&sharded->bloom_file_bytes);
    nphdi_change_end(sharded);
    return bytes / 2 > written;
}

/* Everything is durable already: what fails here is tried again when the journals are twice as
 * long. */
static void fold(nphd_sharded *sharded)
{
    const uint64_t bytes = nphdi_journal_disk_bytes(sharded);
    nphd_error why = NPHD_ERROR_INIT;

    if (!is_long(sharded, bytes)) {
        return;
    }
    if (nphd_sharded_save(sharded, NULL, &why) != NPHD_OK) {
        atomic_store(&sharded->journal.fold_after, 2 * bytes);
        nphdi_log_write(&sharded->log, NPHD_LOG_WARNING,
                        "%s: the journal is durable, but saving it into a shard failed: %s",
                        sharded->path, why.text);
        return;
    }
    atomic_store(&sharded->journal.fold_after, 0);
}

static nphd_status commit_all(nphd_sharded *sharded, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    bool save = false;

    TRY(nphdi_journal_commit(sharded, &save, err));
    if (save) {
        TRY(nphd_sharded_save(sharded, NULL, err));
    } else {
        fold(sharded);
    }
done:
    return status;
}

nphd_status nphd_sharded_commit(nphd_sharded *sharded, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    nphdi_error_clear(err);
    TRY(nphdi_drain_begin(sharded, "commit", err));
    nphdi_change_end(sharded);
    TRY(sharded->journal.on ? commit_all(sharded, err) : nphd_sharded_save(sharded, NULL, err));
done:
    return status;
}

/* ---- the thread that commits every so often ---- */

static void commit_thread(void *context)
{
    nphd_sharded *sharded = context;
    nphdi_journal *journal = &sharded->journal;

    nphdi_signal_lock(&journal->lock);
    while (!journal->thread_stop) {
        const uint64_t deadline_ms = nphdi_clock_ms() + journal->every_ms;
        while (!journal->thread_stop && nphdi_clock_ms() < deadline_ms) {
            (void)nphdi_signal_wait(&journal->lock, deadline_ms);
        }
        if (journal->thread_stop || journal->durable == journal->appended) {
            continue;
        }
        nphdi_signal_unlock(&journal->lock);
        nphd_error err = NPHD_ERROR_INIT;
        /* not the call of the API, which would take the report of a failed rotation from it */
        if (commit_all(sharded, &err) != NPHD_OK) {
            nphdi_log_write(&sharded->log, NPHD_LOG_ERROR, "commit: %s", err.text);
        }
        nphdi_signal_lock(&journal->lock);
    }
    nphdi_signal_unlock(&journal->lock);
}

nphd_status nphdi_journal_start(nphd_sharded *sharded, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_journal *journal = &sharded->journal;

    nphdi_signal_lock(&journal->lock);
    if (journal->every_ms > 0 && !sharded->read_only && !journal->thread_runs) {
        journal->thread_stop = false;
        status = nphdi_thread_start(&journal->thread, commit_thread, sharded, err);
        journal->thread_runs = status == NPHD_OK;
    }
    nphdi_signal_unlock(&journal->lock);
    return status;
}

void nphdi_journal_stop(nphd_sharded *sharded)
{
    nphdi_journal *journal = &sharded->journal;

    if (!journal->lock_made) {
        return; /* opening failed before it */
    }
    nphdi_signal_lock(&journal->lock);
    while (journal->thread_runs) {
        if (journal->thread_stop) {
            /* another thread that closes at the same time has it in hand; where it fails, it has
             * started the thread anew by the time we look again */
            (void)nphdi_signal_wait(&journal->lock, UINT64_MAX);
            continue;
        }
        journal->thread_stop = true;
        nphdi_signal_broadcast(&journal->lock);
        nphdi_signal_unlock(&journal->lock);
        nphdi_thread_join(&journal->thread);
        nphdi_signal_lock(&journal->lock);
        journal->thread_runs = false;
        nphdi_signal_broadcast(&journal->lock);
    }
    nphdi_signal_unlock(&journal->lock);
}
