/* Making all shards ready for exact searches, which takes long: searches go on meanwhile.
 *
 * Whoever waits to change what state_lock protects keeps all searches out until those who read it
 * are done. So it is not held here; change_lock keeps out all who change the shards but the
 * rotation thread, which has nothing to do once the rotations are drained. */
#include "base/error.h"
#include "sharded/sharded_search.h"

nphd_status nphd_sharded_prepare_with(nphd_sharded *sharded, const nphd_batch_options *options,
                                      nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_batch_options known = NPHD_BATCH_OPTIONS_INIT;
    nphdi_watch watch;

    nphdi_error_clear(err);
    status = nphdi_options_read(options, sizeof(known), &known, "batch options", err);
    if (status == NPHD_OK) {
        status = nphdi_sharded_enter_change(sharded, "prepare", err);
    }
    if (status != NPHD_OK) {
        return status;
    }
    (void)pthread_mutex_lock(&sharded->change_lock);
    if (sharded->closed) {
        status = nphdi_fail(err, NPHD_CLOSED, "prepare: the index is closed");
        goto done;
    }
    watch = nphdi_watch_whole(known.progress, known.progress_context, "prepare");
    sharded->watch = &watch;
    TRY(nphdi_drain(sharded, UINT64_MAX, err));
    for (uint64_t i = 0; i < nphdi_shards_count(sharded); i++) {
        nphdi_watch part = nphdi_watch_part(&watch, i, nphdi_shards_count(sharded));
        nphd_batch_options batch = NPHD_BATCH_OPTIONS_INIT;
        batch.threads = known.threads;
        batch.progress = nphdi_watch_progress;
        batch.progress_context = &part;
        TRY(nphd_index_prepare_with(nphdi_shards_at(sharded, i), &batch, err));
    }
done:
    sharded->watch = NULL;
    (void)pthread_mutex_unlock(&sharded->change_lock);
    return status;
}

nphd_status nphd_sharded_prepare(nphd_sharded *sharded, uint32_t threads, nphd_error *err)
{
    nphd_batch_options options = NPHD_BATCH_OPTIONS_INIT;

    options.threads = threads;
    return nphd_sharded_prepare_with(sharded, &options, err);
}
