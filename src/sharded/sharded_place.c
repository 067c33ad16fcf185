/* The directory of an index: kept open, so that its files are found whatever becomes of its name or
 * of the working directory, and looked at before a save, in case that somebody put other files into
 * it. */
#include "base/error.h"
#include "base/memory.h"
#include "platform/interrupt.h"
#include "sharded/sharded_internal.h"

#include <string.h>

nphd_status nphdi_place_root(nphd_sharded *sharded, nphd_error *err)
{
    const nphd_io *base = sharded->io;
    nphd_status status = NPHD_OK;
    nphdi_rooted *rooted = NULL;
    int failed;

    if (!nphdi_io_has(base, NPHDI_IO_END(unroot)) || base->root == NULL || base->unroot == NULL) {
        return NPHD_OK;
    }
    TRY(nphdi_alloc(sharded->allocator, 1, sizeof(*rooted), &rooted, err));
    rooted->base = base;
    /* a table of an older or newer caller has another size */
    memcpy(&rooted->table, base,
           base->struct_size < sizeof(rooted->table) ? base->struct_size : sizeof(rooted->table));
    rooted->table.struct_size = sizeof(rooted->table);
    NPHDI_REPEAT_INTERRUPTED(
        failed, base->root(base->context, sharded->place, sharded->path, &rooted->table.context));
    if (failed != 0) {
        nphdi_free(sharded->allocator, rooted, 1, sizeof(*rooted));
        return nphdi_fail_os(err, failed, "%s: cannot open the directory", sharded->path);
    }
    sharded->rooted = rooted;
    sharded->io = &rooted->table;
    sharded->parameters.io = sharded->io;
done:
    return status;
}

void nphdi_place_unroot(nphd_sharded *sharded)
{
    nphdi_rooted *rooted = sharded->rooted;

    if (rooted != NULL) {
        sharded->rooted = NULL;
        sharded->io = rooted->base;
        sharded->parameters.io = sharded->io;
        rooted->table.unroot(rooted->table.context);
        nphdi_free(sharded->allocator, rooted, 1, sizeof(*rooted));
    }
}

static void place_consider(nphdi_newest *newest, uint32_t number, const nphd_index *index)
{
    const uint64_t generation = atomic_load(&index->generation);

    if (generation > newest->generation) {
        newest->number = number;
        newest->generation = generation;
        memcpy(newest->identity, index->identity, sizeof(newest->identity));
    }
}

nphdi_newest nphdi_place_newest(nphd_sharded *sharded)
{
    nphdi_newest newest;

    memset(&newest, 0, sizeof(newest));
    for (uint64_t i = 0; i < sharded->sealed_count; i++) {
        const nphdi_shard *shard = sharded->sealed[i];
        if (shard->file_bytes > 0) {
            place_consider(&newest, shard->number, shard->index);
        }
    }
    if (sharded->active_file_bytes > 0 && !sharded->active_file_goes) {
        place_consider(&newest, sharded->active_number, sharded->active);
    }
    return newest.generation == 0 ? sharded->emptied : newest;
}

nphd_status nphdi_place_check(nphd_sharded *sharded, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_newest newest;
    nphdi_trailer trailer;
    bool found = false;
    bool same = true;
    char *path = NULL;
    size_t room = 0;

    nphdi_rwlock_read(&sharded->state_lock);
    newest = nphdi_place_newest(sharded);
    nphdi_rwlock_read_end(&sharded->state_lock);
    if (newest.generation == 0) {
        return NPHD_OK;
    }
    TRY(nphdi_shard_path(sharded->allocator, sharded->path, newest.number, &path, &room, err));
    status = nphdi_file_trailer(sharded->io, path, &trailer, &found, err);
    if (status == NPHD_CORRUPT) {
        /* what was damaged is in memory, or is told by the next opening */
        nphdi_error_clear(err);
        status = NPHD_OK;
        goto done;
    }
    TRY(status == NPHD_NOT_FOUND ? NPHD_OK : status);
    if (!found || trailer.generation != newest.generation ||
        memcmp(trailer.identity, newest.identity, sizeof(newest.identity)) != 0) {
        status =
            nphdi_fail(err, NPHD_CHANGED,
                       "%s: %s; somebody changed the directory, nothing is saved into it", path,
                       status == NPHD_NOT_FOUND ? "is gone"
                                                : "is not the file that this handle wrote or read");
        goto done;
    }
    /* the newest shard of another history may have the same generation; its head has another number
     */
    TRY(nphdi_lock_file_is_same(&sharded->lock, sharded->allocator, &same, err));
    if (!same) {
        status = nphdi_fail(err, NPHD_CHANGED,
                            "%s/" NPHDI_LOCK_NAME ": is not as this handle wrote or read it; "
                            "somebody changed the directory, nothing is saved into it",
                            sharded->path);
    }
done:
    nphdi_free(sharded->allocator, path, room, 1);
    return status;
}

void nphdi_place_lend(nphd_sharded *sharded)
{
    nphdi_lock_file_let_go(&sharded->lock);
    sharded->lock_lent = true;
}

nphd_status nphdi_place_take_back(nphd_sharded *sharded, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_lock_head head;
    nphdi_lock_head_state state = NPHDI_LOCK_HEAD_NONE;

    TRY(nphdi_lock_file_take(&sharded->lock, sharded->io, sharded->allocator, err));
    status =
        nphdi_lock_head_read(sharded->io, sharded->allocator, sharded->path, &head, &state, err);
    if (status == NPHD_OK && head.sequence != sharded->lock.head.sequence) {
        status = nphdi_fail(err, NPHD_CHANGED,
                            "%s: somebody changed the directory after this handle was reset, "
                            "nothing is saved into it; open it anew",
                            sharded->path);
    }
    TRY(status);
    TRY(nphdi_place_check(sharded, err));
    sharded->lock_lent = false;
done:
    if (status != NPHD_OK) {
        nphdi_lock_file_let_go(&sharded->lock);
    }
    return status;
}
