/* Rotations: a full shard is sealed at once, stays in memory and searchable while its file is
 * written, and is then swapped for a view of that file.
 *
 * What belongs to a rotation is captured when the shard is sealed, so that the files say how things
 * stood then, whenever they are written. Rotations are written oldest first, one at a time; one
 * that fails keeps its shard in memory and holds up those behind it until it is tried again. */
#include "base/error.h"
#include "base/seeded_bug.h"
#include "sharded/sharded_internal.h"

#include <assert.h>
#include <string.h>

/* While somebody waits who may want no more. */
#define ASK_EVERY_MS 20

/* ---- writing one ---- */

/* The view takes the place of the shard in memory; dead entries stay so, by their slots. */
static nphd_status swap_for_view(nphd_sharded *sharded, nphdi_shard *shard, uint64_t file_bytes,
                                 nphd_error *err)
{
    nphd_index *view = NULL;
    const nphd_status status = nphdi_shard_map(sharded, shard, &view, err);

    nphdi_rwlock_write(&sharded->state_lock);
    shard->file_bytes = file_bytes;
    nphd_index *memory = NULL;
    if (status == NPHD_OK) {
        memory = shard->index;
        shard->index = view;
        /* the breadths may have been set after the file was written; these are in range */
        (void)nphd_index_set_breadth(view, sharded->parameters.build_breadth,
                                     sharded->parameters.search_breadth, NULL);
        nphdi_sealed_refresh(sharded);
        if (shard->hidden.words != NULL) {
            nphdi_index_set_hidden(view, &shard->hidden);
        }
    }
    nphdi_rwlock_write_end(&sharded->state_lock);
    nphd_index_close(memory);
    return status;
}

static nphd_status write_rotation(nphd_sharded *sharded, nphdi_rotation *rotation,
                                  const nphdi_watch *watch, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_shard *shard = rotation->shard;
    nphd_error why = NPHD_ERROR_INIT;
    nphd_batch_options batch = NPHD_BATCH_OPTIONS_INIT;
    nphdi_watch moment = nphdi_watch_stretch(watch, 0, 0, 1);
    uint64_t file_bytes = 0;

    batch.progress = nphdi_watch_progress;
    batch.progress_context = &moment;
    TRY(nphdi_place_check(sharded, err));
    TRY(nphdi_bloom_save(sharded, rotation->generation, watch, err));
    TRY(sharded->hash_tables ? nphdi_index_try_tables(shard->index, 1, &moment, err) : NPHD_OK);
    TRY(nphdi_commit_shard(sharded, shard->index, shard, &rotation->capture, rotation->generation,
                           &batch, &file_bytes, err));
    atomic_store(&sharded->newest_generation, rotation->generation);
    TRY(nphdi_lock_file_advance(&sharded->lock, rotation->generation, rotation->generation, err));
    TRY(nphdi_tombstones_save(sharded, &rotation->capture, rotation->generation, err));
    nphdi_journal_drop(sharded, rotation->generation);
    if (swap_for_view(sharded, shard, file_bytes, &why) != NPHD_OK) {
        /* durable it is; the next opening maps it */
        nphdi_log_write(&sharded->log, NPHD_LOG_WARNING, "%s: written, but it stays in memory: %s",
                        nphdi_shard_name(shard), why.text);
    }
done:
    return status;
}

static void rotation_free(nphd_sharded *sharded, nphdi_rotation *rotation)
{
    if (rotation != NULL) {
        nphdi_capture_release(sharded, &rotation->capture);
        nphdi_free(sharded->allocator, rotation, 1, sizeof(*rotation));
    }
}

/* Writes the oldest rotation, which is queued. Called with the queue locked; unlocks it meanwhile.
 * NPHD_CANCELLED: it waits as before; any other failure is the rotation's. */
static nphd_status run_oldest(nphd_sharded *sharded, const nphdi_watch *watch,
                              nphd_error *cancelled)
{
    nphdi_rotation *rotation = sharded->rotations;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    rotation->state = NPHDI_ROTATION_RUNNING;
    nphdi_signal_unlock(&sharded->queue);
    status = write_rotation(sharded, rotation, watch, &err);
    nphdi_signal_lock(&sharded->queue);
    if (status == NPHD_OK) {
        sharded->rotations = rotation->next;
        sharded->rotation_count--;
        rotation_free(sharded, rotation);
    } else if (status == NPHD_CANCELLED) {
        rotation->state = NPHDI_ROTATION_QUEUED;
        nphdi_error_copy(cancelled, &err);
    } else {
        rotation->state = NPHDI_ROTATION_FAILED;
        rotation->reported = false;
        nphdi_error_copy(&rotation->failure, &err);
        nphdi_log_write(&sharded->log, NPHD_LOG_ERROR, "rotation of %s failed: %s",
                        nphdi_shard_name(rotation->shard), err.text);
    }
    nphdi_signal_broadcast(&sharded->queue);
    return status == NPHD_CANCELLED ? status : NPHD_OK;
}

/* None is being written. */
static void free_rotations(nphd_sharded *sharded)
{
    while (sharded->rotations != NULL) {
        nphdi_rotation *rotation = sharded->rotations;
        sharded->rotations = rotation->next;
        rotation_free(sharded, rotation);
    }
    sharded->rotation_count = 0;
}

/* ---- the thread ---- */

static void rotation_thread(void *context)
{
    nphd_sharded *sharded = context;

    nphdi_signal_lock(&sharded->queue);
    while (!sharded->thread_stop) {
        if (sharded->rotations != NULL && sharded->rotations->state == NPHDI_ROTATION_QUEUED) {
            (void)run_oldest(sharded, NULL, NULL);
        } else {
            (void)nphdi_signal_wait(&sharded->queue, UINT64_MAX);
        }
    }
    nphdi_signal_unlock(&sharded->queue);
}

void nphdi_rotation_stop(nphd_sharded *sharded)
{
    if (sharded->thread_runs) {
        nphdi_signal_lock(&sharded->queue);
        sharded->thread_stop = true;
        nphdi_signal_broadcast(&sharded->queue);
        nphdi_signal_unlock(&sharded->queue);
        nphdi_thread_join(&sharded->thread);
        sharded->thread_runs = false;
        sharded->thread_stop = false;
    }
    free_rotations(sharded);
}

void nphdi_rotations_forget(nphd_sharded *sharded)
{
    nphdi_rwlock_write(&sharded->state_lock);
    nphdi_signal_lock(&sharded->queue);
    while (sharded->rotations != NULL && sharded->rotations->state == NPHDI_ROTATION_RUNNING) {
        /* it needs the state_lock to end */
        nphdi_rwlock_write_end(&sharded->state_lock);
        (void)nphdi_signal_wait(&sharded->queue, UINT64_MAX);
        nphdi_signal_unlock(&sharded->queue);
        nphdi_rwlock_write(&sharded->state_lock);
        nphdi_signal_lock(&sharded->queue);
    }
    free_rotations(sharded);
    nphdi_signal_unlock(&sharded->queue);
}

/* ---- waiting ---- */

static nphd_status fail_rotation(const nphdi_rotation *rotation, nphd_error *err)
{
    nphdi_error_copy(err, &rotation->failure);
    return rotation->failure.status;
}

/* Waits for a change of the queue until `deadline_ms`, and now and then asks whether to go on.
 * Called with the queue locked; unlocks it to ask. */
static nphd_status wait_a_while(nphd_sharded *sharded, uint64_t deadline_ms, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t tick_ms = nphdi_clock_ms() + ASK_EVERY_MS;
    const bool ask =
        sharded->watch != NULL && sharded->watch->progress != NULL && tick_ms < deadline_ms;

    if (!nphdi_signal_wait(&sharded->queue, ask ? tick_ms : deadline_ms)) {
        return NPHD_OK;
    }
    if (ask) {
        nphdi_signal_unlock(&sharded->queue);
        status = nphdi_watch_ask(sharded->watch, 0, 1, err);
        nphdi_signal_lock(&sharded->queue);
        return status;
    }
    return nphdi_fail(err, NPHD_TIMEOUT, "%s: %llu rotations are still pending", sharded->path,
                      (unsigned long long)sharded->rotation_count);
}

/* Waits until at most `most` rotations are left, trying failed ones again first. */
static nphd_status wait_for(nphd_sharded *sharded, uint64_t most, uint64_t deadline_ms,
                            nphd_error *err)
{
    nphd_status status = NPHD_OK;

    nphdi_signal_lock(&sharded->queue);
    if (sharded->rotations != NULL && sharded->rotations->state == NPHDI_ROTATION_FAILED) {
        nphdi_log_write(&sharded->log, NPHD_LOG_WARNING, "rotation of %s: trying again",
                        nphdi_shard_name(sharded->rotations->shard));
        sharded->rotations->state = NPHDI_ROTATION_QUEUED;
        nphdi_signal_broadcast(&sharded->queue);
    }
    while (status == NPHD_OK && sharded->rotation_count > most) {
        nphdi_rotation *oldest = sharded->rotations;
        assert(oldest != NULL);
        if (oldest->state == NPHDI_ROTATION_FAILED) {
            oldest->reported = true;
            status = fail_rotation(oldest, err);
        } else {
            status = sharded->thread_runs ? wait_a_while(sharded, deadline_ms, err)
                                          : run_oldest(sharded, sharded->watch, err);
        }
    }
    nphdi_signal_unlock(&sharded->queue);
    return status;
}

nphd_status nphdi_drain(nphd_sharded *sharded, uint64_t timeout_ms, nphd_error *err)
{
    const uint64_t now_ms = nphdi_clock_ms();

    return wait_for(sharded, 0,
                    timeout_ms >= UINT64_MAX - now_ms ? UINT64_MAX : now_ms + timeout_ms, err);
}

nphd_status nphdi_rotation_report(nphd_sharded *sharded, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    nphdi_signal_lock(&sharded->queue);
    for (nphdi_rotation *rotation = sharded->rotations; rotation != NULL;
         rotation = rotation->next) {
        if (rotation->state == NPHDI_ROTATION_FAILED && !rotation->reported) {
            rotation->reported = true;
            status = fail_rotation(rotation, err);
            break;
        }
    }
    nphdi_signal_unlock(&sharded->queue);
    return status;
}

/* ---- sealing ---- */

nphd_status nphdi_active_number(const nphd_sharded *sharded, uint32_t *out, nphd_error *err)
{
    *out =
        sharded->active_number != NPHDI_NO_NUMBER ? sharded->active_number : sharded->next_number;
    return *out != NPHDI_NO_NUMBER
               ? NPHD_OK
               : nphdi_fail(err, NPHD_FULL,
                            "%s: shard_%u.usearch has the last number; rename it to a lower one",
                            sharded->path, NPHDI_NO_NUMBER - 1);
}

/* The active shard becomes the newest sealed one and `fresh` the active one. */
static nphd_status seal(nphd_sharded *sharded, nphdi_shard *shard, nphd_index *fresh,
                        nphd_error *err)
{
    nphd_status status = NPHD_OK;

    nphdi_rwlock_write(&sharded->state_lock);
    status = nphdi_sealed_reserve(sharded, 1, err);
    if (status == NPHD_OK) {
        shard->index = sharded->active;
        shard->file_bytes = 0;
        sharded->sealed[sharded->sealed_count++] = shard;
        nphdi_sealed_refresh(sharded);
        sharded->active = fresh;
        sharded->active_number = NPHDI_NO_NUMBER;
        sharded->active_file_bytes = 0;
        sharded->active_file_goes = false;
        if (shard->number == sharded->next_number) {
            sharded->next_number++;
        }
    }
    nphdi_rwlock_write_end(&sharded->state_lock);
    return status;
}

static void enqueue(nphd_sharded *sharded, nphdi_rotation *rotation)
{
    nphdi_rotation **end = &sharded->rotations;

    nphdi_signal_lock(&sharded->queue);
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = rotation;
    sharded->rotation_count++;
    nphdi_signal_broadcast(&sharded->queue);
    nphdi_signal_unlock(&sharded->queue);
}

static nphd_status begin_rotation(nphd_sharded *sharded, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_rotation *rotation = NULL;
    nphdi_shard *shard = NULL;
    nphd_index *fresh = NULL;
    uint32_t number;

    TRY(nphdi_generation_check(sharded, err));
    TRY(nphdi_active_number(sharded, &number, err));
    TRY(nphd_index_create(&sharded->parameters, &fresh, err));
    TRY(nphdi_shard_create(sharded, number, &shard, err));
    TRY(nphdi_alloc(sharded->allocator, 1, sizeof(*rotation), &rotation, err));
    rotation->failure.struct_size = sizeof(rotation->failure);
    TRY(nphdi_capture_take(sharded, &rotation->capture, err));
    /* until the files are there, journals from now on need one that they continue */
    TRY(nphdi_journal_reserve(sharded, 0, err));
    nphdi_sharded_hand_down(sharded, sharded->active);
    TRY(seal(sharded, shard, fresh, err));
    fresh = NULL;
    rotation->shard = shard;
    shard = NULL;
    rotation->generation = atomic_fetch_add(&sharded->generation, 1) + 1;
    rotation->shard->generation = rotation->generation;
    nphdi_journal_continue(sharded, rotation->generation - (NPHDI_BUG(25) ? 1 : 0));
    sharded->record_is_right = !rotation->capture.keep_tombstones && sharded->doomed_count == 0;
    /* the files of the rotation hold all that there is; only leftovers wait for a save */
    sharded->unsaved = sharded->doomed_count > 0;
    if (sharded->bloom_renewed) {
        sharded->bloom_valid_from = rotation->generation;
        sharded->bloom_renewed = false;
    }
    enqueue(sharded, rotation);
    rotation = NULL;
done:
    rotation_free(sharded, rotation);
    nphdi_shard_close(shard);
    nphd_index_close(fresh);
    return status;
}

nphd_status nphdi_rotate(nphd_sharded *sharded, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_error why = NPHD_ERROR_INIT;

    if (nphd_index_size(sharded->active) == 0) {
        return NPHD_OK;
    }
    if (sharded->background && !sharded->thread_runs) {
        if (nphdi_thread_start(&sharded->thread, rotation_thread, sharded, &why) == NPHD_OK) {
            sharded->thread_runs = true;
        } else {
            nphdi_log_write(&sharded->log, NPHD_LOG_WARNING,
                            "no thread for rotations, they are written at once: %s", why.text);
        }
    }
    TRY(wait_for(sharded, sharded->max_pending - 1, UINT64_MAX, err));
    if (!sharded->thread_runs) {
        TRY(nphdi_bloom_shorten(sharded, err));
    }
    TRY(begin_rotation(sharded, err));
    if (!sharded->thread_runs) {
        TRY(wait_for(sharded, 0, UINT64_MAX, err));
    }
done:
    return status;
}

nphd_status nphd_sharded_rotate(nphd_sharded *sharded, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    nphdi_error_clear(err);
    TRY(nphdi_change_begin(sharded, "rotate", err));
    status = nphdi_promote_head(sharded, err);
    if (status == NPHD_OK) {
        status = nphdi_rotate(sharded, err);
    }
    nphdi_change_end(sharded);
done:
    return status;
}

nphd_status nphd_sharded_drain(nphd_sharded *sharded, uint64_t timeout_ms, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    nphdi_error_clear(err);
    status = nphdi_sharded_enter_change(sharded, "drain", err);
    if (status != NPHD_OK) {
        return status;
    }
    (void)pthread_mutex_lock(&sharded->change_lock);
    if (sharded->closed) {
        status = nphdi_fail(err, NPHD_CLOSED, "drain: the index is closed");
    } else {
        status = nphdi_drain(sharded, timeout_ms, err);
    }
    (void)pthread_mutex_unlock(&sharded->change_lock);
    return status;
}
