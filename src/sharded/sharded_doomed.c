/* Shards that are no part of the index any more, but whose files are still there: they go once the
 * files that leave them out are durable. */
#include "base/error.h"
#include "sharded/sharded_internal.h"

#include <string.h>

nphd_status nphdi_doomed_reserve(nphd_sharded *sharded, uint64_t more, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t room = sharded->doomed_count + more;
    nphdi_shard **grown = NULL;

    if (room <= sharded->doomed_room) {
        return NPHD_OK;
    }
    TRY(nphdi_alloc(sharded->allocator, room, sizeof(nphdi_shard *), &grown, err));
    if (sharded->doomed_count > 0) {
        memcpy(grown, sharded->doomed, sharded->doomed_count * sizeof(nphdi_shard *));
    }
    nphdi_free(sharded->allocator, sharded->doomed, sharded->doomed_room, sizeof(nphdi_shard *));
    sharded->doomed = grown;
    sharded->doomed_room = room;
done:
    return status;
}

void nphdi_doomed_add(nphd_sharded *sharded, nphdi_shard *shard)
{
    nphd_index_close(shard->index);
    shard->index = NULL;
    sharded->doomed[sharded->doomed_count++] = shard;
}

nphd_status nphdi_doomed_remove(nphd_sharded *sharded, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t removed = 0;

    while (removed < sharded->doomed_count) {
        TRY(nphdi_file_remove(sharded->io, sharded->doomed[removed]->path, true, err));
        nphdi_shard_close(sharded->doomed[removed++]);
    }
done:
    /* what is left is tried again by the next call */
    sharded->doomed_count -= removed;
    if (sharded->doomed_count > 0) {
        memmove(sharded->doomed, sharded->doomed + removed,
                sharded->doomed_count * sizeof(nphdi_shard *));
    }
    return status;
}

void nphdi_doomed_release(nphd_sharded *sharded)
{
    for (uint64_t i = 0; i < sharded->doomed_count; i++) {
        nphdi_shard_close(sharded->doomed[i]);
    }
    nphdi_free(sharded->allocator, sharded->doomed, sharded->doomed_room, sizeof(nphdi_shard *));
    sharded->doomed = NULL;
    sharded->doomed_count = 0;
    sharded->doomed_room = 0;
}
