/* Changing an index: add, upsert, remove, rename, clear, isolate.
 *
 * A batch goes through three steps. Plan: everything is checked, memory is set aside, and each
 * vector that is really new gets a slot and its row (slot lock). Link: the slots are inserted into
 * the graph, by several threads if asked (no lock). Publish: keys and live bits make them visible
 * (slot lock), which cannot fail. An error before the last step gives the slots back, so that a
 * batch is stored whole or not at all; the graph may then hold links to slots that are free, as it
 * does after a removal. */
#include "base/error.h"
#include "base/hash.h"
#include "index/index_internal.h"

#include <string.h>

#define NO_SLOT UINT32_MAX

/* One vector of a batch. */
typedef struct batch_item {
    size_t number;    /* in the caller's arrays */
    uint32_t slot;    /* given to it */
    uint32_t replace; /* live slot that it takes the place of, or NO_SLOT */
    bool reused;      /* the slot had been linked before */
    bool linked;      /* it is in the graph now */
    nphd_key key;
} batch_item;

typedef struct batch {
    nphd_index *index;
    nphdi_content *content;
    const nphd_key *keys; /* NULL: automatic */
    const nphd_vector *vectors;
    size_t count;
    nphd_batch_options options;
    batch_item *items; /* what is really new */
    size_t item_count;
    uint32_t breadth;
    bool update;
    uint64_t reused_count;
    _Atomic uint64_t next;
    _Atomic uint64_t linked;
    _Atomic bool stop;
    pthread_mutex_t lock; /* of the next two */
    nphd_status status;
    nphd_error *err;
    nphd_upsert_counts counts;
} batch;

/* ---- equal keys inside one batch ---- */

/* Marks in `chosen` one item per key: the first of equal ones, or the last. */
static nphd_status choose_items(const batch *work, bool last_wins, uint8_t *chosen, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint32_t key_bytes = work->content->shape.key_bytes;
    const uint64_t room = nphdi_key_table_room(work->count) + 1;
    uint64_t *table = NULL; /* number + 1 of the item chosen so far; 0: free */

    TRY(nphdi_alloc(work->index->allocator, room, sizeof(*table), &table, err));
    for (size_t i = 0; i < work->count; i++) {
        uint64_t place = nphdi_hash_to_range(nphdi_hash_key(work->keys[i], key_bytes), room);
        while (table[place] != 0 &&
               nphd_key_compare(work->keys[table[place] - 1], work->keys[i]) != 0) {
            place = place + 1 == room ? 0 : place + 1;
        }
        if (table[place] == 0 || last_wins) {
            if (table[place] != 0) {
                chosen[table[place] - 1] = 0;
            }
            table[place] = i + 1;
            chosen[i] = 1;
        }
    }
done:
    nphdi_free(work->index->allocator, table, room, sizeof(*table));
    return status;
}

/* ---- plan ---- */

static nphd_status check_batch(const batch *work, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_shape *shape = &work->content->shape;

    if (work->content->view) {
        return nphdi_fail(err, NPHD_READ_ONLY, "%s: the index is a view and cannot be changed",
                          nphdi_content_name(work->content));
    }
    if (work->count > 0 && work->vectors == NULL) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "add: vectors is NULL");
    }
    if (work->keys == NULL && !work->update && shape->key_bytes != 8) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                          "add: automatic keys are for indexes with keys of 64 bits");
    }
    for (size_t i = 0; i < work->count; i++) {
        if (work->keys != NULL) {
            TRY(nphdi_check_key(shape, work->keys[i], i, err));
        }
        TRY(nphdi_check_vector(shape, work->vectors[i], i, err));
    }
done:
    return status;
}

static bool same_vector(const nphdi_content *content, uint32_t slot, nphd_vector vector)
{
    const nphd_vector stored = nphdi_content_vector(content, slot);

    return stored.bytes == vector.bytes && memcmp(stored.data, vector.data, vector.bytes) == 0;
}

/* Decides what each vector of the batch will do. */
static nphd_status plan_items(batch *work, const uint8_t *chosen, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_content *content = work->content;

    for (size_t i = 0; i < work->count; i++) {
        batch_item *item = &work->items[work->item_count];
        uint32_t found = NO_SLOT;
        if (chosen != NULL && chosen[i] == 0) {
            continue;
        }
        memset(item, 0, sizeof(*item));
        item->number = i;
        item->replace = NO_SLOT;
        if (work->keys != NULL) {
            item->key = work->keys[i];
            if (!content->shape.multi) {
                TRY(nphdi_content_find(content, item->key, &found, err));
            }
        }
        if (found != NO_SLOT) {
            if (!work->update) {
                continue;
            }
            if (same_vector(content, found, work->vectors[i])) {
                work->counts.unchanged++;
                continue;
            }
            item->replace = found;
        }
        work->item_count++;
    }
done:
    return status;
}

/* The next automatic key that is not in use. */
static nphd_status automatic_key(nphdi_content *content, nphd_key *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint32_t found;

    do {
        if (content->next_automatic == UINT64_MAX) {
            return nphdi_fail(err, NPHD_FULL, "add: no automatic keys are left");
        }
        *out = nphd_key_u64(content->next_automatic++);
        TRY(nphdi_content_find(content, *out, &found, err));
    } while (found != NO_SLOT);
done:
    return status;
}

/* Memory for everything that the batch will need, so that publishing cannot fail. */
static nphd_status reserve_batch(batch *work, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_content *content = work->content;
    const uint64_t slots = atomic_load_explicit(&content->slots, memory_order_relaxed);
    const uint64_t free_slots = nphdi_content_free_slots(content);
    const uint64_t fresh = work->item_count > free_slots ? work->item_count - free_slots : 0;
    uint64_t wanted = slots + fresh;
    uint64_t upper_lists = 0;

    for (uint64_t slot = slots; slot < slots + fresh; slot++) {
        upper_lists += nphdi_graph_random_level((uint32_t)slot, content->shape.connectivity);
    }
    if (fresh > 0 && wanted > nphdi_content_capacity(content)) {
        /* grow by an eighth, so that single adds rarely get here; settle for less if refused */
        if (nphdi_content_reserve(content, wanted + wanted / 8, upper_lists, NULL) == NPHD_OK) {
            wanted = 0;
        }
    }
    if (fresh > 0 && wanted > 0) {
        TRY(nphdi_content_reserve(content, wanted, upper_lists, err));
    }
    /* other batches may be between plan and publish: their places in the map are promised, too */
    const uint64_t promised =
        content->used_count - atomic_load_explicit(&content->live_count, memory_order_relaxed);
    TRY(nphdi_content_reserve_map(content, work->item_count + promised, err));
done:
    return status;
}

static nphd_status give_slots(batch *work, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_content *content = work->content;

    TRY(reserve_batch(work, err));
    for (size_t i = 0; i < work->item_count; i++) {
        batch_item *item = &work->items[i];
        if (work->keys == NULL) {
            status = automatic_key(content, &item->key, err);
            if (status != NPHD_OK) {
                for (size_t j = 0; j < i; j++) {
                    nphdi_content_give_back(content, work->items[j].slot);
                }
                goto done;
            }
        }
        item->slot = nphdi_content_take_slot(content, &item->reused);
        if (item->reused) {
            work->reused_count++;
        } else {
            nphdi_content_put(content, item->slot, item->key, work->vectors[item->number]);
        }
    }
done:
    return status;
}

/* ---- link ---- */

static void link_worker(void *context, uint32_t worker)
{
    batch *work = context;
    nphdi_content *content = work->content;
    const nphdi_rows rows = nphdi_content_rows(content);
    nphd_status status = NPHD_OK;
    nphd_error err = NPHD_ERROR_INIT;
    nphdi_pooled_scratch *scratch = NULL;

    TRY(nphdi_index_borrow(work->index, &scratch, &err));
    while (!atomic_load(&work->stop)) {
        const uint64_t number = atomic_fetch_add(&work->next, 1);
        if (number >= work->item_count) {
            break;
        }
        batch_item *item = &work->items[number];
        /* more candidates than slots are never kept: no memory is taken for them */
        const uint64_t slots = nphdi_content_slots(content);
        const uint32_t breadth = work->breadth < slots ? work->breadth : (uint32_t)slots;
        TRY(nphdi_graph_insert(&content->graph, &rows, content->kernels, slots, item->slot,
                               item->reused, breadth, &scratch->scratch, &err));
        item->linked = true;
        const uint64_t linked = atomic_fetch_add(&work->linked, 1) + 1;
        if (worker == 0 && work->options.progress != NULL &&
            work->options.progress(work->options.progress_context, linked, work->item_count) != 0) {
            status = nphdi_fail(&err, NPHD_CANCELLED, "add: cancelled by the progress callback");
            goto done;
        }
    }
done:
    if (status != NPHD_OK) {
        atomic_store(&work->stop, true);
        (void)pthread_mutex_lock(&work->lock);
        if (work->status == NPHD_OK) {
            work->status = status;
            nphdi_error_copy(work->err, &err);
        }
        (void)pthread_mutex_unlock(&work->lock);
    }
    nphdi_index_give_back(work->index, scratch);
}

/* ---- publish ---- */

static nphd_status publish_item(batch *work, batch_item *item, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_content *content = work->content;
    uint32_t found = NO_SLOT;

    if (!content->shape.multi) {
        TRY(nphdi_content_find(content, item->key, &found, err));
    }
    if (found == NO_SLOT) {
        nphdi_content_publish(content, item->slot);
        work->counts.added++;
    } else if (work->update) {
        nphdi_content_supersede(content, found, item->slot);
        work->counts.replaced++;
    } else {
        /* another thread stored this key since the plan: it was first */
        nphdi_content_give_back(content, item->slot);
    }
done:
    return status;
}

/* Makes the linked items visible, or none (`keep` false), and gives the other slots back. */
static void publish(batch *work, bool keep)
{
    nphdi_content *content = work->content;

    for (size_t i = 0; i < work->item_count; i++) {
        batch_item *item = &work->items[i];
        /* the find inside cannot fail on content in memory */
        if (!keep || !item->linked || publish_item(work, item, NULL) != NPHD_OK) {
            nphdi_content_give_back(content, item->slot);
        }
    }
    (void)atomic_fetch_add(&work->index->dirty, work->counts.added + 2 * work->counts.replaced);
}

/* ---- the three steps ---- */

static nphd_status plan_batch(batch *work, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint8_t *chosen = NULL;

    if (work->keys != NULL && work->count > 1 && !work->content->shape.multi) {
        TRY(nphdi_alloc(work->index->allocator, work->count, 1, &chosen, err));
        TRY(choose_items(work, work->update, chosen, err));
    }
    (void)pthread_mutex_lock(&work->content->slot_lock);
    status = plan_items(work, chosen, err);
    if (status == NPHD_OK) {
        status = give_slots(work, err);
    }
    (void)pthread_mutex_unlock(&work->content->slot_lock);
done:
    nphdi_free(work->index->allocator, chosen, work->count, 1);
    return status;
}

/* Slots that were linked before may be under the eyes of a search: their rows change while nobody
 * looks. The caller's read lock is let go meanwhile; the change lock keeps the content in place. */
static void put_reused(batch *work)
{
    nphd_index *index = work->index;

    nphdi_rwlock_read_end(&index->content_lock);
    nphdi_rwlock_write(&index->content_lock);
    for (size_t i = 0; i < work->item_count; i++) {
        const batch_item *item = &work->items[i];
        if (item->reused) {
            nphdi_content_put(work->content, item->slot, item->key, work->vectors[item->number]);
        }
    }
    /* key tables that were outgrown go now, while nobody can be reading one */
    nphdi_key_map_sweep(&work->content->map);
    nphdi_rwlock_write_end(&index->content_lock);
    nphdi_rwlock_read(&index->content_lock);
}

static void publish_locked(batch *work, bool keep)
{
    nphd_index *index = work->index;
    const bool replaces = work->update;

    /* a reader that passed the new slot before and comes to the old one after would miss both */
    if (replaces) {
        nphdi_rwlock_read_end(&index->content_lock);
        nphdi_rwlock_write(&index->content_lock);
    }
    (void)pthread_mutex_lock(&work->content->slot_lock);
    publish(work, keep);
    (void)pthread_mutex_unlock(&work->content->slot_lock);
    if (replaces) {
        nphdi_rwlock_write_end(&index->content_lock);
        nphdi_rwlock_read(&index->content_lock);
    }
}

/* Everything between the locks of one call. */
static nphd_status run_batch(batch *work, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint32_t workers = work->options.threads == 0 ? 1 : work->options.threads;

    TRY(check_batch(work, err));
    TRY(plan_batch(work, err));
    if (work->item_count == 0) {
        return NPHD_OK;
    }
    if (work->reused_count > 0) {
        put_reused(work);
    }
    nphdi_threads_run(workers > work->item_count ? (uint32_t)work->item_count : workers,
                      link_worker, work);
    status = work->status;
    publish_locked(work, status == NPHD_OK || status == NPHD_CANCELLED);
done:
    return status;
}

static nphd_status change(nphd_index *index, const nphd_key *keys, const nphd_vector *vectors,
                          size_t count, const nphd_batch_options *options, bool update,
                          nphd_key *out_keys, nphd_upsert_counts *out_counts, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_batch_options known = NPHD_BATCH_OPTIONS_INIT;
    batch_item single;
    batch work;

    nphdi_error_clear(err);
    memset(&work, 0, sizeof(work));
    TRY(nphdi_options_read(options, sizeof(known), &known, "batch options", err));
    work.index = index;
    work.keys = keys;
    work.vectors = vectors;
    work.count = count;
    work.options = known;
    work.update = update;
    work.err = err;
    work.breadth = atomic_load(&index->build_breadth);
    work.items = &single;
    if (count > 1) {
        TRY(nphdi_alloc(index->allocator, count, sizeof(*work.items), &work.items, err));
    }
    if (pthread_mutex_init(&work.lock, NULL) != 0) {
        status = nphdi_fail(err, NPHD_OUT_OF_MEMORY, "cannot create a lock");
        goto done;
    }
    nphdi_rwlock_read(&index->change_lock);
    nphdi_rwlock_read(&index->content_lock);
    work.content = index->content;
    status = run_batch(&work, err);
    nphdi_rwlock_read_end(&index->content_lock);
    nphdi_rwlock_read_end(&index->change_lock);
    (void)pthread_mutex_destroy(&work.lock);
    if (out_keys != NULL && keys != NULL && status == NPHD_OK) {
        memcpy(out_keys, keys, count * sizeof(*keys));
    }
    for (size_t i = 0; keys == NULL && out_keys != NULL && i < work.item_count; i++) {
        out_keys[work.items[i].number] = work.items[i].key;
    }
    if (out_counts != NULL && (status == NPHD_OK || status == NPHD_CANCELLED)) {
        *out_counts = work.counts;
    }
done:
    if (work.items != &single) {
        nphdi_free(index->allocator, work.items, count, sizeof(*work.items));
    }
    return status;
}

nphd_status nphd_index_add(nphd_index *index, nphd_key key, nphd_vector vector, bool *out_added,
                           nphd_error *err)
{
    nphd_upsert_counts counts = {0, 0, 0};
    const nphd_status status = change(index, &key, &vector, 1, NULL, false, NULL, &counts, err);

    if (out_added != NULL) {
        *out_added = counts.added > 0;
    }
    return status;
}

nphd_status nphd_index_add_many(nphd_index *index, const nphd_key *keys, const nphd_vector *vectors,
                                size_t count, const nphd_batch_options *options, nphd_key *out_keys,
                                size_t *out_added, nphd_error *err)
{
    nphd_upsert_counts counts = {0, 0, 0};
    const nphd_status status =
        change(index, keys, vectors, count, options, false, out_keys, &counts, err);

    if (out_added != NULL) {
        *out_added = counts.added;
    }
    return status;
}

nphd_status nphd_index_upsert(nphd_index *index, const nphd_key *keys, const nphd_vector *vectors,
                              size_t count, const nphd_batch_options *options,
                              nphd_upsert_counts *out_counts, nphd_error *err)
{
    nphd_upsert_counts counts = {0, 0, 0};
    nphd_status status = NPHD_OK;

    nphdi_error_clear(err);
    if (out_counts != NULL) {
        *out_counts = counts;
    }
    if (keys == NULL && count > 0) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "upsert: keys is NULL; it needs keys");
    }
    nphdi_rwlock_read(&index->content_lock);
    if (index->content->shape.multi) {
        status = nphdi_fail(err, NPHD_UNSUPPORTED,
                            "upsert: the index is multi, so that a key names no single vector");
    }
    nphdi_rwlock_read_end(&index->content_lock);
    if (status == NPHD_OK) {
        status = change(index, keys, vectors, count, options, true, NULL, &counts, err);
    }
    if (out_counts != NULL) {
        *out_counts = counts;
    }
    return status;
}

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

static bool keep_live(const void *context, uint32_t slot)
{
    return nphdi_content_is_live(context, slot);
}

nphd_status nphd_index_isolate(nphd_index *index, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    nphdi_error_clear(err);
    nphdi_rwlock_write(&index->change_lock);
    nphdi_rwlock_read(&index->content_lock);
    TRY(refuse_view(index, "isolate", err));
    nphdi_graph_isolate(&index->content->graph, nphdi_content_slots(index->content), keep_live,
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
    TRY(nphdi_probe_begin(content, from, &probe, err));
    do {
        TRY(nphdi_probe_next(&probe, &slot, err));
        vectors++;
    } while (slot != NO_SLOT);
    TRY(nphdi_content_reserve_map(content, vectors, err));
    rename_slots(content, from, to);
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
