/* Closing a sharded index, the frame of its calls, and its state. */
#include "base/error.h"
#include "sharded/sharded_internal.h"

#include <string.h>

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
    sharded->watch = NULL;
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
