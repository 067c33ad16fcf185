/* Adding to an index: add, upsert.
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
#include "index/index_shard.h"

#include <string.h>

#define NO_SLOT UINT32_MAX

/* An index of fewer slots doubles when its arrays have to move, since they may do so each time. */
#define FEW_SLOTS 4096

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
    bool replace_equal; /* with update */
    bool carry;         /* rows as an index may hold them, not as a caller may add them */
    const nphdi_publish_hooks *hooks;
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
        uint64_t place = nphdi_hash_to_range(
            nphdi_key_map_hash(&work->content->map, work->keys[i], key_bytes), room);
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

static nphd_status check_items(const nphdi_shape *shape, const nphd_key *keys,
                               const nphd_vector *vectors, size_t count, bool carry,
                               nphd_error *err)
{
    nphd_status status = NPHD_OK;
    /* what a length byte can say, a row can be */
    const bool take_empty = carry && shape->prefix_bytes != 0;

    if (count > 0 && vectors == NULL) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "add: vectors is NULL");
    }
    if (keys == NULL && shape->key_bytes != 8) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                          "add: automatic keys are for indexes with keys of 64 bits");
    }
    for (size_t i = 0; i < count; i++) {
        if (keys != NULL) {
            TRY(nphdi_check_key(shape, keys[i], i, err));
        }
        if (!take_empty || vectors[i].bytes > 0) {
            TRY(nphdi_check_vector(shape, vectors[i], i, err));
        }
    }
done:
    return status;
}

static nphd_status check_batch(const batch *work, nphd_error *err)
{
    if (work->update && work->content->shape.multi) {
        return nphdi_fail(err, NPHD_UNSUPPORTED,
                          "upsert: the index is multi, so that a key names no single vector");
    }
    if (work->content->view) {
        return nphdi_fail(err, NPHD_READ_ONLY, "%s: the index is a view and cannot be changed",
                          nphdi_content_name(work->content));
    }
    if (work->update && work->count == 0) {
        return NPHD_OK;
    }
    return check_items(&work->content->shape, work->keys, work->vectors, work->count, work->carry,
                       err);
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

    work->item_count = 0;
    memset(&work->counts, 0, sizeof(work->counts));
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
            if (!work->replace_equal && same_vector(content, found, work->vectors[i])) {
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

/* Slots of the content once the batch has got its own. */
static uint64_t slots_needed(const batch *work)
{
    const nphdi_content *content = work->content;
    const uint64_t slots = atomic_load_explicit(&content->slots, memory_order_relaxed);
    const uint64_t free_slots = nphdi_content_free_slots(content);

    return slots + (work->item_count > free_slots ? work->item_count - free_slots : 0);
}

/* Lists above level 0 of the next slots, up to `to`. */
static uint64_t upper_lists_of(const nphdi_content *content, uint64_t to)
{
    uint64_t lists = 0;

    for (uint64_t slot = atomic_load_explicit(&content->slots, memory_order_relaxed); slot < to;
         slot++) {
        lists += nphdi_graph_random_level((uint32_t)slot, content->shape.connectivity);
    }
    return lists;
}

static bool has_memory(const batch *work)
{
    const uint64_t wanted = slots_needed(work);

    return nphdi_content_has(work->content, wanted, upper_lists_of(work->content, wanted));
}

/* Moves the arrays to where there is room for the batch, as far as it is planned: twice as many
 * slots of few, an eighth more of many, and fewer where that is refused. Readers and batches under
 * way are waited for. The caller holds the content lock for reading and has it again afterwards;
 * the change lock keeps the content in place while it is let go. */
static nphd_status move_content(const batch *work, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_index *index = work->index;
    nphdi_content *content = work->content;

    nphdi_rwlock_read_end(&index->content_lock);
    nphdi_rwlock_write(&index->content_lock);
    (void)pthread_mutex_lock(&content->slot_lock);
    const uint64_t wanted = slots_needed(work);
    const uint64_t ahead = wanted + (wanted < FEW_SLOTS ? wanted : wanted / 8);
    if (wanted > NPHDI_MAX_SLOTS ||
        nphdi_content_reserve(content, ahead, upper_lists_of(content, ahead), NULL) != NPHD_OK) {
        status = nphdi_content_reserve(content, wanted, upper_lists_of(content, wanted), err);
    }
    (void)pthread_mutex_unlock(&content->slot_lock);
    nphdi_rwlock_write_end(&index->content_lock);
    nphdi_rwlock_read(&index->content_lock);
    return status;
}

/* Memory for everything that the batch will need, so that publishing cannot fail; it need not move
 * for that. */
static nphd_status reserve_batch(batch *work, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_content *content = work->content;
    const uint64_t slots = atomic_load_explicit(&content->slots, memory_order_relaxed);
    const uint64_t wanted = slots_needed(work);

    if (wanted > slots) {
        const uint64_t lists = upper_lists_of(content, wanted);
        /* grow by an eighth, so that single adds rarely get here; settle for less if refused */
        if (wanted <= nphdi_content_capacity(content) ||
            nphdi_content_commit(content, wanted + wanted / 8, lists, NULL) != NPHD_OK) {
            TRY(nphdi_content_commit(content, wanted, lists, err));
        }
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
    while (status == NPHD_OK && !has_memory(work)) {
        (void)pthread_mutex_unlock(&work->content->slot_lock);
        status = move_content(work, err);
        (void)pthread_mutex_lock(&work->content->slot_lock);
        if (status == NPHD_OK) { /* others may have changed what is there meanwhile */
            status = plan_items(work, chosen, err);
        }
    }
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

/* The caller holds the content lock for reading and has it again afterwards; the change lock keeps
 * the content in place while it is let go. */
static void publish_locked(batch *work, bool keep)
{
    nphd_index *index = work->index;
    const bool visible = keep && atomic_load(&work->linked) > 0;
    const nphdi_publish_hooks *hooks = visible ? work->hooks : NULL;
    /* a reader that passed the new slot before and comes to the old one after would miss both */
    const bool alone = visible && work->update;

    if (hooks != NULL || alone) {
        nphdi_rwlock_read_end(&index->content_lock);
        if (hooks != NULL) {
            hooks->enter(hooks->context);
        }
        alone ? nphdi_rwlock_write(&index->content_lock) : nphdi_rwlock_read(&index->content_lock);
    }
    (void)pthread_mutex_lock(&work->content->slot_lock);
    publish(work, keep);
    (void)pthread_mutex_unlock(&work->content->slot_lock);
    if (hooks != NULL || alone) {
        alone ? nphdi_rwlock_write_end(&index->content_lock)
              : nphdi_rwlock_read_end(&index->content_lock);
        if (hooks != NULL) {
            hooks->leave(hooks->context);
        }
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

/* What a call hands back once its locks are released. */
static void report_batch(const batch *work, nphd_status status, nphd_key *out_keys,
                         nphd_upsert_counts *out_counts)
{
    if (out_keys != NULL && work->keys != NULL && status == NPHD_OK && work->count > 0) {
        memcpy(out_keys, work->keys, work->count * sizeof(*out_keys));
    }
    for (size_t i = 0; work->keys == NULL && out_keys != NULL && i < work->item_count; i++) {
        out_keys[work->items[i].number] = work->items[i].key;
    }
    if (out_counts != NULL && (status == NPHD_OK || status == NPHD_CANCELLED)) {
        *out_counts = work->counts;
    }
}

nphd_status nphdi_index_change(nphd_index *index, const nphd_key *keys, const nphd_vector *vectors,
                               size_t count, const nphd_batch_options *options,
                               nphdi_change_mode mode, const nphdi_publish_hooks *hooks,
                               nphd_key *out_keys, nphd_upsert_counts *out_counts, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_batch_options known = NPHD_BATCH_OPTIONS_INIT;
    batch_item single;
    batch work;
    const bool update = mode == NPHDI_CHANGE_UPSERT || mode == NPHDI_CHANGE_REPLACE;

    nphdi_error_clear(err);
    memset(&work, 0, sizeof(work));
    if (out_counts != NULL) {
        *out_counts = work.counts;
    }
    if (update && keys == NULL && count > 0) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "upsert: keys is NULL; it needs keys");
    }
    TRY(nphdi_options_read(options, sizeof(known), &known, "batch options", err));
    NPHDI_INDEX_ENTER(index, err);
    work.index = index;
    work.keys = keys;
    work.vectors = vectors;
    work.count = count;
    work.options = known;
    work.update = update;
    work.carry = mode == NPHDI_CHANGE_CARRY;
    work.replace_equal = mode == NPHDI_CHANGE_REPLACE;
    work.hooks = hooks;
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
    report_batch(&work, status, out_keys, out_counts);
done:
    if (work.items != &single) {
        nphdi_free(index->allocator, work.items, count, sizeof(*work.items));
    }
    return status;
}

nphd_status nphdi_index_check(nphd_index *index, const nphd_key *keys, const nphd_vector *vectors,
                              size_t count, nphd_error *err)
{
    nphd_status status;

    nphdi_error_clear(err);
    NPHDI_INDEX_ENTER(index, err);
    nphdi_rwlock_read(&index->content_lock);
    status = check_items(&index->content->shape, keys, vectors, count, false, err);
    nphdi_rwlock_read_end(&index->content_lock);
    return status;
}

nphd_status nphd_index_add(nphd_index *index, nphd_key key, nphd_vector vector, bool *out_added,
                           nphd_error *err)
{
    nphd_upsert_counts counts;
    const nphd_status status = nphdi_index_change(index, &key, &vector, 1, NULL, NPHDI_CHANGE_ADD,
                                                  NULL, NULL, &counts, err);

    if (out_added != NULL) {
        *out_added = counts.added > 0;
    }
    return status;
}

nphd_status nphd_index_add_many(nphd_index *index, const nphd_key *keys, const nphd_vector *vectors,
                                size_t count, const nphd_batch_options *options, nphd_key *out_keys,
                                size_t *out_added, nphd_error *err)
{
    nphd_upsert_counts counts;
    const nphd_status status = nphdi_index_change(index, keys, vectors, count, options,
                                                  NPHDI_CHANGE_ADD, NULL, out_keys, &counts, err);

    if (out_added != NULL) {
        *out_added = counts.added;
    }
    return status;
}

nphd_status nphd_index_upsert(nphd_index *index, const nphd_key *keys, const nphd_vector *vectors,
                              size_t count, const nphd_batch_options *options,
                              nphd_upsert_counts *out_counts, nphd_error *err)
{
    return nphdi_index_change(index, keys, vectors, count, options, NPHDI_CHANGE_UPSERT, NULL, NULL,
                              out_counts, err);
}
