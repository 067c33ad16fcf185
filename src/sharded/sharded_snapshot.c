/* Copying a directory while it is in use. Files of ours never change in place, but for the journal,
 * so that all others are shared where the file system can. */
#include "base/error.h"
#include "base/memory.h"
#include "index/source.h"
#include "platform/interrupt.h"
#include "sharded/sharded_internal.h"
#include "sharded/snapshot_target.h"

#include <errno.h>
#include <string.h>

#define COPY_BYTES ((size_t)1 << 20)
#define ATTEMPTS 50

nphd_status nphdi_directory_make_empty(const nphd_io *io, const nphd_allocator *allocator,
                                       const char *path, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_names names;

    memset(&names, 0, sizeof(names));
    TRY(nphdi_directory_make(io, path, allocator, err));
    TRY(nphdi_directory_list(io, path, allocator, &names, err));
    if (names.count > 0) {
        status =
            nphdi_fail(err, NPHD_EXISTS, "%s: there is %s in it already", path, names.names[0]);
    }
done:
    nphdi_names_free(&names);
    return status;
}

/* A copy of which it is not known whether it stays is none. */
static nphd_status finish_copy(nphdi_replacement *file, nphd_error *err)
{
    nphd_status status = nphdi_replacement_commit(file, err);

    if (status == NPHD_DURABILITY_UNKNOWN) {
        status = NPHD_IO;
        if (err != NULL) {
            err->status = status;
        }
    }
    return status;
}

/* Durable and atomic, like every file that is written. */
static nphd_status copy_bytes(const nphd_sharded *sharded, const char *from, const char *to,
                              const nphdi_watch *watch, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_source source;
    nphdi_replacement file;
    uint8_t *buffer = NULL;

    memset(&source, 0, sizeof(source));
    memset(&file, 0, sizeof(file));
    TRY(nphdi_source_open(&source, sharded->io, from, err));
    TRY(nphdi_alloc(sharded->allocator, COPY_BYTES, 1, &buffer, err));
    TRY(nphdi_replacement_begin(&file, sharded->io, sharded->allocator, to, source.bytes, err));
    for (uint64_t at = 0; at < source.bytes;) {
        const uint64_t rest = source.bytes - at;
        const size_t part = rest < COPY_BYTES ? (size_t)rest : COPY_BYTES;
        TRY(nphdi_watch_ask(watch, at, source.bytes, err));
        TRY(nphdi_source_read(&source, at, buffer, part, err));
        TRY(nphdi_replacement_write(&file, buffer, part, err));
        at += part;
    }
    TRY(finish_copy(&file, err));
done:
    nphdi_replacement_end(&file);
    nphdi_free(sharded->allocator, buffer, COPY_BYTES, 1);
    nphdi_source_close(&source);
    return status;
}

static nphd_status copy_file(const nphd_sharded *sharded, const char *from, const char *to,
                             bool share, const nphdi_watch *watch, nphd_error *err)
{
    int failed = EOPNOTSUPP;

    if (share) {
        NPHDI_REPEAT_INTERRUPTED(failed, sharded->io->copy(sharded->io->context, from, to));
    }
    if (failed == 0) {
        return NPHD_OK;
    }
    if (failed != EOPNOTSUPP && failed != EXDEV) {
        return nphdi_fail_os(err, failed, "%s: copy to %s", from, to);
    }
    return copy_bytes(sharded, from, to, watch, err);
}

/* Copies what belongs to the index, journals by their bytes: the writer adds to them. */
static nphd_status copy_named(const nphd_sharded *sharded, const char *name, const char *path,
                              const nphdi_watch *watch, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    char *from = NULL;
    char *to = NULL;
    size_t from_room = 0;
    size_t to_room = 0;
    uint64_t sequence;
    const bool journal = nphdi_journal_is_name(name, &sequence);

    if (!journal && !nphdi_directory_is_data(name)) {
        return NPHD_OK;
    }
    TRY(nphdi_path_join(sharded->allocator, sharded->path, name, &from, &from_room, err));
    TRY(nphdi_path_join(sharded->allocator, path, name, &to, &to_room, err));
    TRY(copy_file(sharded, from, to, !journal, watch, err));
done:
    nphdi_free(sharded->allocator, from, from_room, 1);
    nphdi_free(sharded->allocator, to, to_room, 1);
    return status;
}

/* ---- the order, so that no part of a copy passes for an older state ---- */

/* Journals come first, as without a shard they are nothing; then the newest shard, which names all
 * others, so that opening misses those that are not there yet. */
typedef enum copy_step { COPY_JOURNALS, COPY_NEWEST, COPY_REST } copy_step;

/* The shard with the record in force; names->count: none is ours. */
static nphd_status find_newest(const nphd_io *io, const nphd_allocator *allocator,
                               const char *directory, const nphdi_names *names, size_t *out,
                               nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t generation = 0;

    *out = names->count;
    for (size_t i = 0; i < names->count; i++) {
        nphd_metadata found = NPHD_METADATA_INIT;
        char *path = NULL;
        size_t room = 0;
        if (nphdi_shard_number(names->names[i]) == NPHDI_NO_NUMBER) {
            continue;
        }
        TRY(nphdi_path_join(allocator, directory, names->names[i], &path, &room, err));
        status = nphd_file_metadata(path, io, &found, err);
        nphdi_free(allocator, path, room, 1);
        TRY(status);
        if (found.generation > generation) {
            generation = found.generation;
            *out = i;
        }
    }
done:
    return status;
}

static copy_step step_of(const nphdi_names *names, size_t i, size_t newest)
{
    uint64_t sequence;

    return nphdi_journal_is_name(names->names[i], &sequence) ? COPY_JOURNALS
           : i == newest                                     ? COPY_NEWEST
                                                             : COPY_REST;
}

/* What was copied is durable before the next step. */
static nphd_status flush_copy(const nphd_io *io, const char *path, nphd_error *err)
{
    const int failed = io->sync_directory(io->context, path);

    return failed == 0 || failed == EINVAL
               ? NPHD_OK
               : nphdi_fail_os(err, failed, "%s: flush of the directory", path);
}

/* The head of the copy, as that of the directory was before: behind what was copied, or level. */
static nphd_status put_head(const nphd_sharded *sharded, const nphdi_lock_head *head,
                            const char *path, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_lock_head own = *head;
    nphdi_replacement file;
    uint8_t slots[NPHDI_LOCK_HEAD_BYTES] = {0};
    char *to = NULL;
    size_t room = 0;

    memset(&file, 0, sizeof(file));
    own.sequence = 2; /* the first slot is that of even numbers */
    nphdi_lock_head_encode(&own, slots);
    TRY(nphdi_path_join(sharded->allocator, path, NPHDI_LOCK_NAME, &to, &room, err));
    TRY(nphdi_replacement_begin(&file, sharded->io, sharded->allocator, to, sizeof(slots), err));
    TRY(nphdi_replacement_write(&file, slots, sizeof(slots), err));
    TRY(finish_copy(&file, err));
done:
    nphdi_replacement_end(&file);
    nphdi_free(sharded->allocator, to, room, 1);
    return status;
}

static nphd_status copy_all(const nphd_sharded *sharded, const char *path, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_lock_head head;
    nphdi_lock_head_state state;
    nphdi_names names;
    size_t newest = 0;
    uint64_t copied = 0;

    memset(&names, 0, sizeof(names));
    TRY(nphdi_lock_head_read(sharded->io, sharded->allocator, sharded->path, &head, &state, err));
    if (state == NPHDI_LOCK_HEAD_WHOLE) {
        /* first, so that the copy is missed in part as long as it is one */
        TRY(put_head(sharded, &head, path, err));
    }
    TRY(nphdi_directory_list(sharded->io, sharded->path, sharded->allocator, &names, err));
    TRY(find_newest(sharded->io, sharded->allocator, sharded->path, &names, &newest, err));
    for (copy_step step = COPY_JOURNALS; step <= COPY_REST; step++) {
        for (size_t i = 0; i < names.count; i++) {
            if (step_of(&names, i, newest) == step) {
                const nphdi_watch part = nphdi_watch_part(sharded->watch, copied++, names.count);
                TRY(nphdi_watch_ask(&part, 0, 1, err));
                TRY(copy_named(sharded, names.names[i], path, &part, err));
            }
        }
        TRY(flush_copy(sharded->io, path, err));
    }
done:
    nphdi_names_free(&names);
    return status;
}

/* What a copy or a salvage made there, but for the head, which goes last. */
static bool is_made(const char *name)
{
    uint64_t sequence;

    return nphdi_directory_is_data(name) || nphdi_journal_is_name(name, &sequence);
}

nphd_status nphdi_directory_clear(const nphd_io *io, const nphd_allocator *allocator,
                                  const char *path, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_names names;
    char *file = NULL;
    size_t room = 0;
    size_t newest = 0;

    memset(&names, 0, sizeof(names));
    TRY(nphdi_directory_list(io, path, allocator, &names, err));
    TRY(find_newest(io, allocator, path, &names, &newest, err));
    for (int step = COPY_REST; step >= COPY_JOURNALS; step--) {
        for (size_t i = 0; i < names.count; i++) {
            if ((int)step_of(&names, i, newest) != step || !is_made(names.names[i])) {
                continue;
            }
            TRY(nphdi_path_join(allocator, path, names.names[i], &file, &room, err));
            TRY(nphdi_file_remove(io, file, false, err));
            nphdi_free(allocator, file, room, 1);
            file = NULL;
            room = 0;
        }
        TRY(flush_copy(io, path, err));
    }
    TRY(nphdi_path_join(allocator, path, NPHDI_LOCK_NAME, &file, &room, err));
    TRY(nphdi_file_remove(io, file, false, err));
done:
    nphdi_free(allocator, file, room, 1);
    nphdi_names_free(&names);
    return status;
}

/* Another process writes: copies until the files were the same before and after. */
static nphd_status copy_beside_writer(const nphd_sharded *sharded, const char *path,
                                      nphd_error *err)
{
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        nphd_status status;
        nphdi_stamp before;
        nphdi_stamp after;
        if (nphdi_directory_stamp(sharded->io, sharded->allocator, sharded->path, &before, NULL) !=
            NPHD_OK) {
            continue;
        }
        status = copy_all(sharded, path, err);
        if (status == NPHD_CANCELLED) {
            return status;
        }
        if (nphdi_directory_stamp(sharded->io, sharded->allocator, sharded->path, &after, NULL) ==
                NPHD_OK &&
            before.files == after.files) {
            return status;
        }
        status = nphdi_directory_clear(sharded->io, sharded->allocator, path, err);
        if (status != NPHD_OK) {
            return status;
        }
    }
    return nphdi_fail(err, NPHD_BUSY, "%s: the files kept changing while they were copied",
                      sharded->path);
}

/* Whatever is not saved, as a part of a call that is asked for it. */
static nphd_status save_first(nphd_sharded *sharded, const nphdi_watch *watch, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_watch part = *watch;
    nphd_batch_options batch = NPHD_BATCH_OPTIONS_INIT;

    batch.progress = nphdi_watch_progress;
    batch.progress_context = &part;
    sharded->watch = watch;
    TRY(sharded->lock_lent ? nphdi_place_take_back(sharded, err) : NPHD_OK);
    TRY(nphdi_drain(sharded, UINT64_MAX, err));
    TRY(nphdi_sharded_save_now(sharded, &batch, err));
done:
    return status;
}

nphd_status nphd_sharded_snapshot_with(nphd_sharded *sharded, const char *path,
                                       const nphd_batch_options *options, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_batch_options known = NPHD_BATCH_OPTIONS_INIT;
    nphdi_watch whole;
    nphdi_watch saving;
    nphdi_watch copying;
    nphdi_snapshot_target target;

    nphdi_error_clear(err);
    if (path == NULL || path[0] == '\0') {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "snapshot: the path is empty");
    }
    status = nphdi_options_read(options, sizeof(known), &known, "batch options", err);
    if (status == NPHD_OK) {
        status = nphdi_sharded_enter_change(sharded, "snapshot", err);
    }
    if (status != NPHD_OK) {
        return status;
    }
    memset(&target, 0, sizeof(target));
    (void)pthread_mutex_lock(&sharded->change_lock);
    if (sharded->closed) {
        status = nphdi_fail(err, NPHD_CLOSED, "snapshot: the index is closed");
        goto done;
    }
    whole = nphdi_watch_whole(known.progress, known.progress_context, "snapshot");
    saving = nphdi_watch_part(&whole, 0, 2);
    copying = nphdi_watch_part(&whole, 1, 2);
    TRY(sharded->read_only ? NPHD_OK : save_first(sharded, &saving, err));
    sharded->watch = &copying;
    TRY(nphdi_snapshot_target_begin(&target,
                                    sharded->rooted != NULL ? sharded->rooted->base : sharded->io,
                                    sharded->allocator, path, err));
    TRY(sharded->read_only ? copy_beside_writer(sharded, nphdi_snapshot_target_place(&target), err)
                           : copy_all(sharded, nphdi_snapshot_target_place(&target), err));
    TRY(nphdi_snapshot_target_commit(&target, err));
done:
    nphdi_snapshot_target_end(&target);
    sharded->watch = NULL;
    (void)pthread_mutex_unlock(&sharded->change_lock);
    return status;
}

nphd_status nphd_sharded_snapshot(nphd_sharded *sharded, const char *path, nphd_error *err)
{
    return nphd_sharded_snapshot_with(sharded, path, NULL, err);
}
