/* Removing keys, removing everything, and making the last shard writable again. */
#include "base/error.h"
#include "base/seeded_bug.h"
#include "sharded/sharded_internal.h"

#include <string.h>

/* ---- remove ---- */

/* What one key has in the sealed shards. */
typedef struct entries {
    uint64_t found;
    uint64_t visible;
} entries;

static nphd_status visit_entry(void *context, nphdi_shard *shard, uint32_t slot, bool hidden,
                               nphd_error *err)
{
    entries *of = context;

    (void)err;
    of->found++;
    if (!hidden) {
        of->visible++;
        (void)nphdi_hidden_set(&shard->hidden, slot);
    }
    return NPHD_OK;
}

/* Everything that may fail is done before the first key is touched. */
static nphd_status prepare_removal(nphd_sharded *sharded, const nphd_key *keys, size_t count,
                                   nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t found = 0;

    for (size_t i = 0; i < count; i++) {
        if (sharded->key_bytes == 8 && keys[i].high != 0) {
            return nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                              "item %zu: a key of 128 bits in an index with keys of 64 bits", i);
        }
    }
    TRY(nphdi_promote_head(sharded, err));
    TRY(nphdi_sealed_prepare(sharded, keys, count, &found, err));
    TRY(nphdi_key_set_reserve(&sharded->tombstones, found, err));
done:
    return status;
}

/* The caller holds state_lock for writing. */
static bool remove_key(nphd_sharded *sharded, nphd_key key)
{
    entries of = {0, 0};
    size_t active = 0;

    if (!nphdi_sharded_maybe(sharded, key)) {
        return false;
    }
    /* neither can fail: the one is memory, and the entries of the other were all visited before */
    (void)nphd_index_remove(sharded->active, &key, 1, &active, NULL);
    (void)nphdi_sealed_replaceable(sharded, key, visit_entry, &of, NULL);
    if (of.found > 0 && active + of.visible > 0) {
        (void)nphdi_key_set_add(&sharded->tombstones, key);
    }
    return active + of.visible > 0;
}

/* Removes keys for which everything was prepared; returns how many were there. */
static size_t remove_keys(nphd_sharded *sharded, const nphd_key *keys, size_t count, bool note)
{
    nphdi_journal_record record = {.kind = NPHDI_JOURNAL_REMOVE};
    size_t removed = 0;

    nphdi_rwlock_write(&sharded->state_lock);
    for (size_t i = 0; i < count; i++) {
        if (remove_key(sharded, keys[i])) {
            record.key = keys[i];
            removed++;
            if (note && !NPHDI_BUG(26)) {
                nphdi_journal_append(sharded, &record);
            }
        }
    }
    nphdi_rwlock_write_end(&sharded->state_lock);
    (void)atomic_fetch_add(&sharded->dirty, removed);
    sharded->unsaved = sharded->unsaved || removed > 0;
    return removed;
}

nphd_status nphdi_replay_removal(nphd_sharded *sharded, const nphd_key *keys, size_t count,
                                 nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(prepare_removal(sharded, keys, count, err));
    (void)remove_keys(sharded, keys, count, false);
    if (sharded->salvage) {
        /* what salvage still finds in a shard that was left out is deleted too */
        TRY(nphdi_key_set_reserve(&sharded->tombstones, count, err));
        for (size_t i = 0; i < count; i++) {
            (void)nphdi_key_set_add(&sharded->tombstones, keys[i]);
        }
    }
done:
    return status;
}

nphd_status nphd_sharded_remove(nphd_sharded *sharded, const nphd_key *keys, size_t count,
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
    TRY(nphdi_change_begin(sharded, "remove", err));
    if (sharded->parameters.multi) {
        status = nphdi_fail(err, NPHD_UNSUPPORTED,
                            "remove: the index is multi, and tombstones hide a key for good; it "
                            "needs multi=False");
    }
    if (status == NPHD_OK) {
        status = prepare_removal(sharded, keys, count, err);
    }
    if (status == NPHD_OK) {
        const nphdi_journal_record record = {.kind = NPHDI_JOURNAL_REMOVE};
        const uint64_t one = nphdi_journal_record_bytes(&record, sharded->key_bytes);
        status = nphdi_journal_reserve(sharded, count * one, err);
    }
    if (status == NPHD_OK) {
        removed = remove_keys(sharded, keys, count, true);
    }
    nphdi_change_end(sharded);
    if (out_removed != NULL) {
        *out_removed = removed;
    }
    TRY(status);
    TRY(nphdi_change_commit(sharded, err));
done:
    return status;
}

/* ---- reset ---- */

/* Moves the sealed shards, and the active one if it has a file, to those whose files go. Room must
 * be there; the caller holds state_lock for writing. */
static void doom_all(nphd_sharded *sharded, nphdi_shard *active)
{
    for (uint64_t i = 0; i < sharded->sealed_count; i++) {
        nphdi_doomed_add(sharded, sharded->sealed[i]);
    }
    sharded->sealed_count = 0;
    nphdi_sealed_refresh(sharded);
    if (active != NULL) {
        nphdi_doomed_add(sharded, active);
    }
}

/* Shards that wait for their rotation are dropped with the others, so that a disk to which none can
 * be written does not stand in the way. */
static nphd_status reset_state(nphd_sharded *sharded, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_shard *active_file = NULL;
    nphd_index *fresh = NULL;
    nphdi_bloom *bloom = NULL;

    TRY(nphd_index_create(&sharded->parameters, &fresh, err));
    if (sharded->want_bloom) {
        TRY(nphdi_bloom_create(sharded->allocator, sharded->key_bytes, 0, &bloom, err));
    }
    TRY(nphdi_doomed_reserve(sharded, sharded->sealed_count + 1, err));
    if (sharded->active_file_bytes > 0) {
        TRY(nphdi_shard_create(sharded, sharded->active_number, &active_file, err));
    }
    nphdi_rotations_forget(sharded);
    sharded->emptied = nphdi_place_newest(sharded);
    doom_all(sharded, active_file);
    nphd_index *old = sharded->active;
    sharded->active = fresh;
    sharded->active_number = NPHDI_NO_NUMBER;
    sharded->active_file_bytes = 0;
    sharded->active_file_goes = false;
    sharded->head_waits = false;
    fresh = old;
    nphdi_bloom *old_bloom = sharded->bloom;
    sharded->bloom = bloom;
    bloom = old_bloom;
    sharded->bloom_renewed = true;
    nphdi_key_set_clear(&sharded->tombstones);
    sharded->next_automatic = 0;
    atomic_store(&sharded->unit, NPHD_UNIT_NONE);
    sharded->unsaved = true;
    atomic_store(&sharded->dirty, 0);
    nphdi_rwlock_write_end(&sharded->state_lock);
done:
    nphd_index_close(fresh);
    nphdi_bloom_close(bloom);
    return status;
}

nphd_status nphd_sharded_reset(nphd_sharded *sharded, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_journal_record record = {.kind = NPHDI_JOURNAL_RESET};

    nphdi_error_clear(err);
    TRY(nphdi_drain_begin(sharded, "reset", err));
    status = nphdi_journal_reserve(sharded, NPHDI_JOURNAL_RECORD_MOST, err);
    if (status == NPHD_OK) {
        status = reset_state(sharded, err);
    }
    if (status == NPHD_OK) {
        sharded->reset_alone = sharded->options.reset_keeps_files;
        nphdi_journal_append(sharded, &record);
        if (sharded->reset_alone && !sharded->journal.on) {
            nphdi_place_lend(sharded);
        }
    }
    nphdi_change_end(sharded);
    TRY(status);
    TRY(nphdi_change_commit(sharded, err));
done:
    return status;
}

nphd_status nphdi_replay_reset(nphd_sharded *sharded, nphd_error *err)
{
    return reset_state(sharded, err);
}

/* ---- the last shard takes writes again ---- */

/* The key of the next hidden entry at or after *slot; *slot is then behind it. false: no more. */
static nphd_status next_hidden(const nphdi_shard *head, uint64_t *slot, bool *out_found,
                               nphd_key *out_key, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    *out_found = false;
    while (nphdi_shard_dead(head) > 0 && *slot < head->hidden.slots && !*out_found) {
        const uint32_t at = (uint32_t)(*slot)++;
        bool visible;
        if (nphdi_hidden_get(&head->hidden, at)) {
            TRY(nphdi_index_key_at(head->index, at, out_key, &visible, out_found, err));
        }
    }
done:
    return status;
}

/* Entries that are hidden in the mapped head are removed for good in its copy in memory. */
static nphd_status remove_hidden(const nphdi_shard *head, nphd_index *index,
                                 const nphdi_watch *watch, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t slot = 0;
    nphd_key key;
    bool found;

    for (;;) {
        TRY(nphdi_watch_ask(watch, 0, 1, err));
        TRY(next_hidden(head, &slot, &found, &key, err));
        if (!found) {
            break;
        }
        TRY(nphd_index_remove(index, &key, 1, NULL, err));
    }
done:
    return status;
}

/* A tombstone stays for keys that older shards still have; the head is sealed no more. */
static void drop_tombstones(nphd_sharded *sharded, const nphdi_shard *head)
{
    uint64_t slot = 0;
    nphd_key key;
    bool found;

    while (next_hidden(head, &slot, &found, &key, NULL) == NPHD_OK && found) {
        entries of = {0, 0};
        /* all entries of a tombstone are hidden, so that this only counts */
        if (nphdi_key_set_has(&sharded->tombstones, key) &&
            nphdi_sealed_entries(sharded, key, visit_entry, &of, NULL) == NPHD_OK &&
            of.found == 0) {
            (void)nphdi_key_set_remove(&sharded->tombstones, key);
        }
    }
}

/* It cannot be read as a whole. As a view it still answers from the rest, and what is added gets a
 * shard of its own. */
static void leave_head(nphd_sharded *sharded, const nphd_error *why)
{
    nphdi_sharded_damage(sharded, "%s", why->text);
    nphdi_rwlock_write(&sharded->state_lock);
    sharded->head_waits = false;
    nphdi_rwlock_write_end(&sharded->state_lock);
}

nphd_status nphdi_promote_head(nphd_sharded *sharded, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_open_options options = NPHD_OPEN_OPTIONS_INIT;
    nphd_error why = NPHD_ERROR_INIT;
    nphdi_watch watch = nphdi_watch_stretch(sharded->watch, 0, 0, 1);
    nphd_index *index = NULL;
    nphdi_shard *head;

    if (!sharded->head_waits) {
        return NPHD_OK;
    }
    head = sharded->sealed[sharded->sealed_count - 1];
    options.build_breadth = sharded->parameters.build_breadth;
    options.search_breadth = sharded->parameters.search_breadth;
    options.progress = nphdi_watch_progress;
    options.progress_context = &watch;
    TRY(nphd_index_create(&sharded->parameters, &index, err));
    index->is_shard = true;
    status = nphd_index_load(index, head->path, &options, &why);
    if (status == NPHD_CORRUPT && sharded->salvage) {
        leave_head(sharded, &why);
        status = NPHD_OK;
        goto done;
    }
    if (status != NPHD_OK) {
        nphdi_error_copy(err, &why);
        goto done;
    }
    if (atomic_load(&index->generation) != atomic_load(&head->index->generation) ||
        memcmp(index->identity, head->index->identity, sizeof(index->identity)) != 0) {
        status = nphdi_fail(err, NPHD_CHANGED,
                            "%s: is not the file that this handle read; somebody changed the "
                            "directory, nothing is saved into it",
                            head->path);
        goto done;
    }
    TRY(remove_hidden(head, index, &watch, err));
    nphdi_rwlock_write(&sharded->state_lock);
    nphd_index *empty = sharded->active;
    sharded->sealed_count--;
    nphdi_sealed_refresh(sharded);
    sharded->active = index;
    sharded->active_number = head->number;
    sharded->active_file_bytes = head->file_bytes;
    sharded->head_waits = false;
    sharded->record_is_right = false;
    nphdi_rwlock_write_end(&sharded->state_lock);
    index = empty;
    drop_tombstones(sharded, head);
    nphdi_shard_close(head);
done:
    nphd_index_close(index);
    return status;
}
