/* Making all shards ready for exact searches. */
#include "base/error.h"
#include "sharded/sharded_search.h"

/* The caller of a writer holds change_lock, so that nobody who is adding waits for state_lock. */
static nphd_status prepare_shards(nphd_sharded *sharded, uint32_t threads, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(nphdi_look_begin(sharded, err));
    for (uint64_t i = 0; status == NPHD_OK && i < nphdi_shards_count(sharded); i++) {
        status = nphd_index_prepare(nphdi_shards_at(sharded, i), threads, err);
    }
    nphdi_look_end(sharded);
done:
    return status;
}

nphd_status nphd_sharded_prepare(nphd_sharded *sharded, uint32_t threads, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    nphdi_error_clear(err);
    if (sharded->read_only) {
        return prepare_shards(sharded, threads, err);
    }
    TRY(nphdi_change_begin(sharded, "prepare", err));
    status = prepare_shards(sharded, threads, err);
    nphdi_change_end(sharded);
done:
    return status;
}
