/* Making the handle of a sharded index: its options, its locks, the lock of the directory. What is
 * in the files is read by sharded_open.c. */
#include "base/error.h"
#include "sharded/sharded_internal.h"

#include <string.h>

#define DEFAULT_PENDING 2

/* All of them, before anything is made on the disk. */
static nphd_status check_options(const nphd_sharded_options *options, nphd_error *err)
{
    nphd_index_options parameters = NPHD_INDEX_OPTIONS_INIT;

    if (options->multi > 2) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "multi is %u; it must be 0, 1 or 2",
                          options->multi);
    }
    parameters.max_bits = options->max_bits;
    parameters.key_bits = options->key_bits;
    parameters.metric = options->metric;
    parameters.connectivity = options->connectivity;
    parameters.build_breadth = options->build_breadth;
    parameters.search_breadth = options->search_breadth;
    return nphdi_index_check_options(&parameters, err);
}

/* The caller's path without slashes at its end. */
static nphd_status copy_path(const nphd_allocator *allocator, const char *path, char **out,
                             size_t *room, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    size_t bytes = strlen(path);

    while (bytes > 1 && path[bytes - 1] == '/') {
        bytes--;
    }
    *room = bytes + 1;
    TRY(nphdi_alloc(allocator, *room, 1, out, err));
    memcpy(*out, path, bytes);
done:
    return status;
}

static void take_options(nphd_sharded *sharded, const nphd_sharded_options *options)
{
    sharded->io = options->io;
    sharded->log.logger = options->logger;
    sharded->log.context = options->logger_context;
    sharded->parameters.struct_size = sizeof(sharded->parameters);
    sharded->parameters.max_bits = options->max_bits;
    sharded->parameters.key_bits = options->key_bits;
    sharded->parameters.metric = options->metric;
    sharded->parameters.connectivity = options->connectivity;
    sharded->parameters.build_breadth = options->build_breadth;
    sharded->parameters.search_breadth = options->search_breadth;
    sharded->parameters.multi = options->multi == 2;
    sharded->parameters.allocator = sharded->allocator;
    sharded->parameters.io = sharded->io;
    sharded->shard_bytes =
        options->shard_bytes == 0 ? NPHD_DEFAULT_SHARD_BYTES : options->shard_bytes;
    sharded->max_pending =
        options->max_pending_rotations == 0 ? DEFAULT_PENDING : options->max_pending_rotations;
    sharded->read_only = options->read_only;
    sharded->background = options->background_rotation;
    sharded->hash_tables = options->tables;
    sharded->want_bloom = !options->no_bloom;
    sharded->journal.each_call = options->commit_each_call;
    sharded->journal.every_ms = options->commit_interval_ms;
    sharded->journal.on = !options->read_only && (options->journal || options->commit_each_call ||
                                                  options->commit_interval_ms > 0);
    sharded->salvage = options->salvage;
    sharded->damage = options->damage;
    sharded->damage_context = options->damage_context;
    sharded->active_number = NPHDI_NO_NUMBER;
    sharded->tombstones.allocator = sharded->allocator;
}

static nphd_status make_locks(nphd_sharded *sharded, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    if (pthread_mutex_init(&sharded->change_lock, NULL) != 0) {
        return nphdi_fail(err, NPHD_OUT_OF_MEMORY, "cannot create a lock");
    }
    sharded->change_lock_made = true;
    TRY(nphdi_rwlock_init(&sharded->state_lock, err));
    sharded->state_lock_made = true;
    TRY(nphdi_signal_init(&sharded->queue, err));
    sharded->queue_made = true;
    TRY(nphdi_journal_init(&sharded->journal, err));
done:
    return status;
}

static void fill_tables(nphd_sharded_options *options)
{
    if (options->allocator == NULL) {
        options->allocator = nphdi_allocator_system();
    }
    if (options->io == NULL) {
        options->io = nphdi_io_posix();
    }
}

/* One attempt, with all options known and filled in. */
nphd_status nphdi_sharded_open_once(const char *path, const char *place,
                                    const nphd_sharded_options *known, nphd_sharded **out,
                                    nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded *sharded = NULL;
    const nphdi_watch watch = nphdi_watch_whole(known->progress, known->progress_context, path);

    *out = NULL;
    TRY(nphdi_alloc(known->allocator, 1, sizeof(*sharded), &sharded, err));
    sharded->allocator = known->allocator;
    TRY(nphdi_process_note(&sharded->process, err));
    sharded->home = atomic_load(&sharded->process.born);
    sharded->options = *known;
    sharded->options.progress = NULL; /* it is not asked later on */
    sharded->options.progress_context = NULL;
    sharded->watch = &watch;
    take_options(sharded, known);
    TRY(make_locks(sharded, err));
    TRY(copy_path(sharded->allocator, path, &sharded->path, &sharded->path_room, err));
    TRY(copy_path(sharded->allocator, place, &sharded->place, &sharded->place_room, err));
    TRY(nphdi_lock_file_init(&sharded->lock, sharded->path, err));
    TRY(known->read_only
            ? NPHD_OK
            : nphdi_directory_make(sharded->io, sharded->path, sharded->allocator, err));
    TRY(nphdi_place_root(sharded, err));
    TRY(known->read_only
            ? NPHD_OK
            : nphdi_lock_file_take(&sharded->lock, sharded->io, sharded->allocator, err));
    TRY(nphdi_sharded_load(sharded, known, err));
    sharded->watch = NULL;
    TRY(nphdi_journal_start(sharded, err));
    *out = sharded;
    sharded = NULL;
done:
    nphd_sharded_free(sharded);
    if (status == NPHD_CANCELLED) { /* in the words of this call, not of a part of it */
        (void)nphdi_fail(err, status, "%s: opening was cancelled by the progress callback", path);
    }
    return status;
}

nphd_status nphd_sharded_open(const char *path, const nphd_sharded_options *options,
                              nphd_sharded **out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded_options known = NPHD_SHARDED_OPTIONS_INIT;
    char *place = NULL;
    size_t room = 0;

    nphdi_error_clear(err);
    if (out == NULL) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "out is NULL");
    }
    *out = NULL;
    if (path == NULL || path[0] == '\0') {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "the path is empty");
    }
    TRY(nphdi_options_read(options, sizeof(known), &known, "sharded options", err));
    TRY(check_options(&known, err));
    fill_tables(&known);
    TRY(nphdi_io_check_directories(known.io, err));
    TRY(nphdi_path_from_root(known.io, known.allocator, path, &place, &room, err));
    TRY(known.read_only ? nphdi_sharded_open_reader(path, place, &known, out, err)
                        : nphdi_sharded_open_once(path, place, &known, out, err));
done:
    nphdi_free(known.allocator, place, room, 1);
    return status;
}
