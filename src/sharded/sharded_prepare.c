/* Making all shards ready for exact searches, which takes long: searches go on meanwhile.
 *
 * Whoever waits to change what state_lock protects keeps all searches out until those who read it
 * are done. So it is not held here; change_lock keeps out all who change the shards but the
 * rotation thread, which has nothing to do once the rotations are drained. */
#include "base/error.h"
#include "sharded/sharded_search.h"

nphd_status nphd_sharded_prepare(nphd_sharded *sharded, uint32_t threads, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    nphdi_error_clear(err);
    status = nphdi_sharded_enter_change(sharded, "prepare", err);
    if (status != NPHD_OK) {
        return status;
    }
    (void)pthread_mutex_lock(&sharded->change_lock);
    if (sharded->closed) {
        status = nphdi_fail(err, NPHD_CLOSED, "prepare: the index is closed");
        goto done;
    }
    TRY(nphdi_drain(sharded, UINT64_MAX, err));
    for (uint64_t i = 0; i < nphdi_shards_count(sharded); i++) {
        TRY(nphd_index_prepare(nphdi_shards_at(sharded, i), threads, err));
    }
done:
    (void)pthread_mutex_unlock(&sharded->change_lock);
    return status;
}
