/* Taking vectors away, and what else changes an index without a new vector: remove, isolate,
 * rename, clear. */
#include "base/error.h"
#include "index/index_internal.h"

#define NO_SLOT UINT32_MAX

static nphd_status refuse_view(const nphd_index *index, const char *what, nphd_error *err)
{
    if (index->content->view) {
        return nphdi_fail(err, NPHD_READ_ONLY, "%s: %s: the index is a view and cannot be changed",
                          nphdi_content_name(index->content), what);
    }
    return NPHD_OK;
}

nphd_status nphd_index_remove(nphd_index *index, const nphd_key *keys, size_t count,
                              size_t *out_removed, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    size_t removed = 0;

    nphdi_error_clear(err);
    if (out_removed != NULL) {
        *out_removed = 0;
    }
    if (keys == NULL && count > 0) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "remove: keys is NULL");
    }
    NPHDI_INDEX_ENTER(index, err);
    nphdi_rwlock_read(&index->change_lock);
    nphdi_rwlock_read(&index->content_lock);
    nphdi_content *content = index->content;
    TRY(refuse_view(index, "remove", err));
    for (size_t i = 0; i < count; i++) {
        if (content->shape.key_bytes == 8 && keys[i].high != 0) {
            status = nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                                "item %zu: a key of 128 bits in an index with keys of 64 bits", i);
            goto done;
        }
    }
    (void)pthread_mutex_lock(&content->slot_lock);
    for (size_t i = 0; i < count; i++) {
        uint32_t slot;
        /* the find cannot fail on content in memory; once a key is gone it ends */
        while (nphdi_content_find(content, keys[i], &slot, NULL) == NPHD_OK && slot != NO_SLOT) {
            nphdi_content_withdraw(content, slot);
            removed++;
        }
    }
    (void)pthread_mutex_unlock(&content->slot_lock);
    (void)atomic_fetch_add(&index->dirty, removed);
    if (out_removed != NULL) {
        *out_removed = removed;
    }
done:
    nphdi_rwlock_read_end(&index->content_lock);
    nphdi_rwlock_read_end(&index->change_lock);
    return status;
}

static bool keep_stored(const void *context, uint32_t slot)
{
    return nphdi_content_is_stored(context, slot);
}

nphd_status nphd_index_isolate(nphd_index *index, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    nphdi_error_clear(err);
    NPHDI_INDEX_ENTER(index, err);
    nphdi_rwlock_write(&index->change_lock);
    nphdi_rwlock_read(&index->content_lock);
    TRY(refuse_view(index, "isolate", err));
    nphdi_graph_isolate(&index->content->graph, nphdi_content_slots(index->content), keep_stored,
                        index->content);
done:
    nphdi_rwlock_read_end(&index->content_lock);
    nphdi_rwlock_write_end(&index->change_lock);
    return status;
}

static void rename_slots(nphdi_content *content, nphd_key from, nphd_key to)
{
    uint32_t slot;

    while (nphdi_content_find(content, from, &slot, NULL) == NPHD_OK && slot != NO_SLOT) {
        nphdi_content_rekey(content, slot, to);
    }
}

nphd_status nphd_index_rename(nphd_index *index, nphd_key from, nphd_key to, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_probe probe;
    uint32_t slot;
    size_t vectors = 0;

    nphdi_error_clear(err);
    NPHDI_INDEX_ENTER(index, err);
    nphdi_rwlock_write(&index->change_lock);
    nphdi_rwlock_write(&index->content_lock);
    nphdi_content *content = index->content;
    TRY(refuse_view(index, "rename", err));
    TRY(nphdi_check_key(&content->shape, to, 0, err));
    TRY(nphdi_content_find(content, from, &slot, err));
    if (slot == NO_SLOT) {
        status = nphdi_fail(err, NPHD_NOT_FOUND, "rename: there is no such key");
        goto done;
    }
    if (nphd_key_compare(from, to) == 0) {
        goto done;
    }
    TRY(nphdi_content_find(content, to, &slot, err));
    if (slot != NO_SLOT && !content->shape.multi) {
        status = nphdi_fail(err, NPHD_EXISTS, "rename: the new key is already present");
        goto done;
    }
    TRY(nphdi_probe_begin(content, from, nphdi_content_hash(content, from), &probe, err));
    do {
        TRY(nphdi_probe_next(&probe, &slot, err));
        vectors++;
    } while (slot != NO_SLOT);
    TRY(nphdi_content_reserve_map(content, vectors, err));
    rename_slots(content, from, to);
    /* each rename leaves a deleted place behind: many of them outgrow one table after another */
    nphdi_key_map_sweep(&content->map);
    /* a rename is a change that only a save makes durable, so it counts */
    (void)atomic_fetch_add(&index->dirty, 1);
done:
    nphdi_rwlock_write_end(&index->content_lock);
    nphdi_rwlock_write_end(&index->change_lock);
    return status;
}

nphd_status nphd_index_clear(nphd_index *index, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t removed = 0;

    nphdi_error_clear(err);
    NPHDI_INDEX_ENTER(index, err);
    nphdi_rwlock_write(&index->change_lock);
    nphdi_rwlock_write(&index->content_lock);
    TRY(refuse_view(index, "clear", err));
    removed = atomic_load(&index->content->live_count);
    nphdi_content_clear(index->content);
    (void)atomic_fetch_add(&index->dirty, removed);
done:
    nphdi_rwlock_write_end(&index->content_lock);
    nphdi_rwlock_write_end(&index->change_lock);
    return status;
}
