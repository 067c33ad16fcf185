/* Life of a sharded index, its parameters and its state. */
#include "base/error.h"
#include "sharded/sharded_internal.h"

#include <string.h>

#define DEFAULT_PENDING 2

/* ---- opening ---- */

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

    *out = NULL;
    TRY(nphdi_alloc(known->allocator, 1, sizeof(*sharded), &sharded, err));
    sharded->allocator = known->allocator;
    TRY(nphdi_process_note(&sharded->process, err));
    sharded->home = atomic_load(&sharded->process.born);
    sharded->options = *known;
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
    TRY(nphdi_journal_start(sharded, err));
    *out = sharded;
    sharded = NULL;
done:
    nphd_sharded_free(sharded);
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

/* ---- closing ---- */

void nphdi_sharded_release(nphd_sharded *sharded)
{
    for (uint64_t i = 0; i < sharded->sealed_count; i++) {
        nphdi_shard_close(sharded->sealed[i]);
    }
    nphdi_sealed_release(sharded);
    sharded->sealed_count = 0;
    nphdi_doomed_release(sharded);
    nphd_index_close(sharded->active);
    sharded->active = NULL;
    nphdi_bloom_close(sharded->bloom);
    sharded->bloom = NULL;
    nphdi_key_set_release(&sharded->tombstones);
    nphdi_journal_close_files(sharded);
    nphdi_lock_file_let_go(&sharded->lock);
    nphdi_place_unroot(sharded); /* everything that was opened through it is closed */
}

nphd_status nphd_sharded_close(nphd_sharded *sharded, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    nphdi_error_clear(err);
    nphdi_sharded_abandon(sharded);
    nphdi_journal_stop(sharded);
    (void)pthread_mutex_lock(&sharded->change_lock);
    if (sharded->closed) {
        goto done;
    }
    if (!sharded->read_only) {
        /* a filter alone is not worth a file in a directory that stays empty */
        const bool save =
            (sharded->unsaved || sharded->sealed_count > 0 || sharded->active_file_bytes > 0) &&
            !(sharded->reset_alone && atomic_load(&sharded->dirty) == 0);
        TRY(nphdi_drain(sharded, UINT64_MAX, err));
        TRY(save ? nphdi_sharded_save_now(sharded, NULL, err) : NPHD_OK);
    }
    nphdi_rotation_stop(sharded);
    nphdi_rwlock_write(&sharded->state_lock);
    sharded->closed = true;
    nphdi_sharded_release(sharded);
    nphdi_rwlock_write_end(&sharded->state_lock);
done:
    if (status != NPHD_OK) {
        (void)nphdi_journal_start(sharded, NULL);
    }
    (void)pthread_mutex_unlock(&sharded->change_lock);
    return status;
}

void nphd_sharded_free(nphd_sharded *sharded)
{
    if (sharded == NULL) {
        return;
    }
    nphdi_sharded_abandon(sharded);
    nphdi_journal_stop(sharded);
    if (sharded->queue_made) {
        nphdi_rotation_stop(sharded);
        nphdi_signal_destroy(&sharded->queue);
    }
    if (!sharded->closed) {
        nphdi_sharded_release(sharded);
    }
    nphdi_journal_release(&sharded->journal);
    nphdi_lock_file_release(&sharded->lock);
    if (sharded->state_lock_made) {
        nphdi_rwlock_destroy(&sharded->state_lock);
    }
    if (sharded->change_lock_made) {
        (void)pthread_mutex_destroy(&sharded->change_lock);
    }
    nphdi_free(sharded->allocator, sharded->path, sharded->path_room, 1);
    nphdi_free(sharded->allocator, sharded->place, sharded->place_room, 1);
    nphdi_free(sharded->allocator, sharded, 1, sizeof(*sharded));
}

/* ---- the frame of a call ---- */

nphd_status nphdi_drain_begin(nphd_sharded *sharded, const char *what, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(nphdi_sharded_enter_change(sharded, what, err));
    (void)pthread_mutex_lock(&sharded->change_lock);
    if (sharded->closed) {
        status = nphdi_fail(err, NPHD_CLOSED, "%s: the index is closed", what);
    } else if (sharded->read_only) {
        status =
            nphdi_fail(err, NPHD_READ_ONLY, "%s: %s: the index is read-only", sharded->path, what);
    } else if (sharded->lock_lent) {
        status = nphdi_place_take_back(sharded, err);
    }
    if (status != NPHD_OK) {
        (void)pthread_mutex_unlock(&sharded->change_lock);
    }
done:
    return status;
}

nphd_status nphdi_change_begin(nphd_sharded *sharded, const char *what, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(nphdi_drain_begin(sharded, what, err));
    status = nphdi_rotation_report(sharded, err);
    if (status != NPHD_OK) {
        nphdi_change_end(sharded);
    }
done:
    return status;
}

void nphdi_change_end(nphd_sharded *sharded)
{
    (void)pthread_mutex_unlock(&sharded->change_lock);
}

nphd_status nphdi_change_commit(nphd_sharded *sharded, nphd_error *err)
{
    return sharded->journal.each_call ? nphd_sharded_commit(sharded, err) : NPHD_OK;
}

nphd_status nphdi_look_begin(nphd_sharded *sharded, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(nphdi_sharded_enter(sharded, err));
    nphdi_rwlock_read(&sharded->state_lock);
    if (sharded->closed) {
        nphdi_rwlock_read_end(&sharded->state_lock);
        status = nphdi_fail(err, NPHD_CLOSED, "the index is closed");
    }
done:
    return status;
}

void nphdi_look_end(nphd_sharded *sharded)
{
    nphdi_rwlock_read_end(&sharded->state_lock);
}

/* ---- state ---- */

uint64_t nphd_sharded_size(nphd_sharded *sharded)
{
    uint64_t size = 0;

    if (nphdi_look_begin(sharded, NULL) == NPHD_OK) {
        size = nphdi_sharded_count_visible(sharded);
        nphdi_look_end(sharded);
    }
    return size;
}

uint64_t nphd_sharded_dirty(nphd_sharded *sharded)
{
    return atomic_load(&sharded->dirty);
}

size_t nphd_sharded_max_bytes(const nphd_sharded *sharded)
{
    return sharded->parameters.max_bits / 8;
}

/* The newest file says which breadths count, so that one must be written even if nothing else
 * changed. */
static void note_breadth(nphd_sharded *sharded, uint32_t build_breadth, uint32_t search_breadth)
{
    nphd_index_options *parameters = &sharded->parameters;
    const uint32_t build = build_breadth != 0 ? build_breadth : parameters->build_breadth;
    const uint32_t search = search_breadth != 0 ? search_breadth : parameters->search_breadth;

    if (sharded->read_only) {
        /* for a refresh */
        sharded->options.build_breadth =
            build_breadth != 0 ? build_breadth : sharded->options.build_breadth;
        sharded->options.search_breadth =
            search_breadth != 0 ? search_breadth : sharded->options.search_breadth;
    } else if (build != parameters->build_breadth || search != parameters->search_breadth) {
        sharded->unsaved = true;
        sharded->record_is_right = false;
    }
    parameters->build_breadth = build;
    parameters->search_breadth = search;
}

nphd_status nphd_sharded_set_breadth(nphd_sharded *sharded, uint32_t build_breadth,
                                     uint32_t search_breadth, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    nphdi_error_clear(err);
    status = nphdi_sharded_enter_change(sharded, "set_breadth", err);
    if (status != NPHD_OK) {
        return status;
    }
    (void)pthread_mutex_lock(&sharded->change_lock);
    if (sharded->closed) {
        status = nphdi_fail(err, NPHD_CLOSED, "set_breadth: the index is closed");
        goto done;
    }
    /* a rotation that puts its view in place meanwhile takes the breadths from the parameters */
    nphdi_rwlock_write(&sharded->state_lock);
    status = nphd_index_set_breadth(sharded->active, build_breadth, search_breadth, err);
    for (uint64_t i = 0; status == NPHD_OK && i < sharded->sealed_count; i++) {
        status =
            nphd_index_set_breadth(sharded->sealed[i]->index, build_breadth, search_breadth, err);
    }
    if (status == NPHD_OK) {
        note_breadth(sharded, build_breadth, search_breadth);
    }
    nphdi_rwlock_write_end(&sharded->state_lock);
done:
    (void)pthread_mutex_unlock(&sharded->change_lock);
    return status;
}

static void fill_shard_info(const nphdi_shard *shard, nphd_shard_info *out)
{
    memset(out, 0, sizeof(*out));
    out->number = shard->number;
    out->dead = nphdi_shard_dead(shard);
    out->vectors = nphdi_shard_visible(shard);
    out->slots = nphdi_index_slots(shard->index);
    out->pending = shard->file_bytes == 0;
    out->file_bytes = shard->file_bytes;
    out->generation = out->pending ? 0 : shard->generation;
    out->verified =
        shard->index->content->view ? shard->index->content->mapped.has_trailer : !out->pending;
    out->tables = nphdi_index_has_tables(shard->index);
}

static void fill_active_info(const nphd_sharded *sharded, nphd_shard_info *out)
{
    memset(out, 0, sizeof(*out));
    out->number =
        sharded->active_number != NPHDI_NO_NUMBER ? sharded->active_number : sharded->next_number;
    out->vectors = nphd_index_size(sharded->active);
    out->slots = nphdi_index_slots(sharded->active);
    out->file_bytes = sharded->active_file_bytes;
    out->generation = out->file_bytes > 0 ? sharded->active->generation : 0;
    out->active = true;
    out->verified = true;
    out->tables = nphdi_index_has_tables(sharded->active);
}

/* The last shard of the list is the active one, or will be at the first change. A reader has none.
 */
nphd_status nphd_sharded_shards(nphd_sharded *sharded, nphd_shard_info *out, size_t capacity,
                                size_t *out_count, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    bool with_active;

    nphdi_error_clear(err);
    *out_count = 0;
    status = nphdi_sharded_enter(sharded, err);
    if (status != NPHD_OK) {
        return status;
    }
    (void)pthread_mutex_lock(&sharded->change_lock);
    TRY(nphdi_look_begin(sharded, err));
    /* a reader has one when there is a journal to apply */
    with_active =
        !sharded->head_waits && (!sharded->read_only || nphd_index_size(sharded->active) > 0);
    *out_count = (size_t)sharded->sealed_count + (with_active ? 1 : 0);
    if (*out_count > capacity) {
        status = nphdi_fail(err, NPHD_TOO_SMALL, "shards: %zu, room for %zu", *out_count, capacity);
    } else {
        for (uint64_t i = 0; i < sharded->sealed_count; i++) {
            fill_shard_info(sharded->sealed[i], &out[i]);
        }
        if (with_active) {
            fill_active_info(sharded, &out[sharded->sealed_count]);
        } else if (sharded->head_waits) {
            out[*out_count - 1].active = true;
        }
    }
    nphdi_look_end(sharded);
done:
    (void)pthread_mutex_unlock(&sharded->change_lock);
    return status;
}
