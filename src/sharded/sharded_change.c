/* Adding, replacing and removing.
 *
 * A batch is checked whole first and then taken in parts. A part ends where the active shard is
 * full, so that no shard exceeds its size by more than one vector, and after PART_MOST vectors, so
 * that the progress callback is asked now and then. */
#include "base/error.h"
#include "sharded/sharded_internal.h"

#include <string.h>

/* Vectors of one part: some tenths of a second of work. */
#define PART_MOST 4096

/* One call. */
typedef struct change {
    nphd_sharded *sharded;
    const nphd_key *keys;
    const nphd_vector *vectors;
    size_t count;
    nphd_batch_options options;
    nphdi_watch watch; /* where the call is, for what it does beside its vectors */
    nphdi_change_mode mode;
    bool replaying;    /* a journal: it is not journaled again, and nothing rotates */
    bool once;         /* leave out keys that are present, in a multi index too */
    nphd_key *picked;  /* of the part under way */
    nphd_vector *rows; /* with them */
    size_t *numbers;   /* and where each stands in the batch */
    size_t picked_count;
    size_t room;
    nphdi_key_set seen; /* keys of this call, to find equal ones */
    bool *out_stored;
    nphd_upsert_counts counts;
    uint64_t sealed_replaced; /* of the part: keys whose old vector was in a sealed shard */
} change;

/* ---- choosing ---- */

/* Is the key visible in any shard? */
static nphd_status is_present(nphd_sharded *sharded, nphd_key key, bool *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_shard *shard;
    uint32_t slot;

    *out = false;
    if (!nphdi_sharded_maybe(sharded, key)) {
        return NPHD_OK;
    }
    TRY(nphd_index_contains(sharded->active, key, out, err));
    if (!*out) {
        /* the rotation thread may put a view in a shard's place meanwhile */
        nphdi_rwlock_read(&sharded->state_lock);
        status = nphdi_sealed_find(sharded, key, &shard, &slot, err);
        nphdi_rwlock_read_end(&sharded->state_lock);
        *out = shard != NULL;
    }
done:
    return status;
}

/* Shall vector `number` of an add be stored? */
static nphd_status wants(change *work, size_t number, bool *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_key key = work->keys[number];
    bool present = false;

    *out = true;
    if (work->sharded->parameters.multi && !work->once) {
        return NPHD_OK;
    }
    TRY(is_present(work->sharded, key, &present, err));
    *out = !present && nphdi_key_set_add(&work->seen, key);
done:
    return status;
}

/* For an upsert the last of equal keys counts: marks, from the back, which that are. */
static nphd_status find_last(change *work, bool *last, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(nphdi_key_set_reserve(&work->seen, work->count, err));
    for (size_t i = work->count; i > 0; i--) {
        last[i - 1] = nphdi_key_set_add(&work->seen, work->keys[i - 1]);
    }
done:
    return status;
}

/* How many more vectors the active shard takes until it is full, at most `most`. */
static size_t room_in_active(const change *work, size_t most)
{
    const nphd_sharded *sharded = work->sharded;
    size_t low = 1;
    size_t high = most;

    if (work->replaying) {
        return most;
    }
    /* the first count whose file would exceed the size still goes in; sizes grow with the count */
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (nphdi_index_foreign_bytes_after(sharded->active, middle) > sharded->shard_bytes) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

/* ---- one part ---- */

static nphd_status hide_entry(void *context, nphdi_shard *shard, uint32_t slot, bool hidden,
                              nphd_error *err)
{
    change *work = context;

    (void)err;
    if (!hidden && nphdi_hidden_set(&shard->hidden, slot)) {
        work->sealed_replaced++;
    }
    return NPHD_OK;
}

/* Readers are kept out from here until the new vectors are visible: they see the old ones or the
 * new ones. Finding entries was tried before and cannot fail now; the filter learns the keys after
 * that, as with them it would lead to entries for which no room was made. */
static void enter_replace(void *context)
{
    change *work = context;

    nphdi_rwlock_write(&work->sharded->state_lock);
    for (size_t i = 0; i < work->picked_count; i++) {
        (void)nphdi_sealed_replaceable(work->sharded, work->picked[i], hide_entry, work, NULL);
    }
    nphdi_bloom_take(work->sharded, work->picked, work->picked_count);
}

static void leave_replace(void *context)
{
    const change *work = context;

    nphdi_rwlock_write_end(&work->sharded->state_lock);
}

static nphdi_journal_record record_of(const change *work, size_t number)
{
    const bool replace = work->mode == NPHDI_CHANGE_REPLACE;

    return (nphdi_journal_record){.kind = replace ? NPHDI_JOURNAL_REPLACE : NPHDI_JOURNAL_ADD,
                                  .key = work->picked[number],
                                  .vector = work->rows[number]};
}

/* Room for the records of a part, so that noting them cannot fail once they are stored. */
static nphd_status reserve_records(const change *work, nphd_error *err)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < work->picked_count; i++) {
        const nphdi_journal_record record = record_of(work, i);
        bytes += nphdi_journal_record_bytes(&record, work->sharded->key_bytes);
    }
    return work->replaying ? NPHD_OK : nphdi_journal_reserve(work->sharded, bytes, err);
}

static void note_records(const change *work)
{
    for (size_t i = 0; !work->replaying && i < work->picked_count; i++) {
        const nphdi_journal_record record = record_of(work, i);
        nphdi_journal_append(work->sharded, &record);
    }
}

static nphd_status store_part(change *work, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded *sharded = work->sharded;
    const nphdi_publish_hooks hooks = {work, enter_replace, leave_replace};
    const bool replace = work->mode == NPHDI_CHANGE_REPLACE && sharded->sealed_count > 0;
    nphd_batch_options batch = NPHD_BATCH_OPTIONS_INIT;
    nphd_upsert_counts counts = {0, 0, 0};
    uint64_t found = 0;

    batch.threads = work->options.threads;
    /* an opening is given up as a whole; a part of another call is finished once it is begun */
    batch.progress = work->replaying ? nphdi_watch_progress : NULL;
    batch.progress_context = &work->watch;
    if (replace) {
        TRY(nphdi_sealed_prepare(sharded, work->picked, work->picked_count, &found, err));
    }
    TRY(nphdi_bloom_expect(sharded, work->picked, work->picked_count, err));
    TRY(reserve_records(work, err));
    if (!replace) {
        nphdi_bloom_take(sharded, work->picked, work->picked_count);
    }
    work->sealed_replaced = 0;
    TRY(nphdi_index_change(sharded->active, work->picked, work->rows, work->picked_count, &batch,
                           work->mode, replace ? &hooks : NULL, NULL, &counts, err));
    for (size_t i = 0; sharded->tombstones.count > 0 && i < work->picked_count; i++) {
        (void)nphdi_key_set_remove(&sharded->tombstones, work->picked[i]);
    }
    counts.added -= work->sealed_replaced;
    counts.replaced += work->sealed_replaced;
    work->counts.added += counts.added;
    work->counts.replaced += counts.replaced;
    (void)atomic_fetch_add(&sharded->dirty, counts.added + 2 * counts.replaced);
    sharded->unsaved = true;
    note_records(work);
    for (size_t i = 0; work->out_stored != NULL && i < work->picked_count; i++) {
        work->out_stored[work->numbers[i]] = true;
    }
done:
    return status;
}

/* Picks the vectors of one part, from *next on. */
static nphd_status pick_part(change *work, const bool *last, size_t *next, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const size_t most = room_in_active(work, work->room);

    work->picked_count = 0;
    while (*next < work->count && work->picked_count < most) {
        const size_t number = (*next)++;
        bool wanted = last == NULL || last[number];
        if (last == NULL) {
            TRY(wants(work, number, &wanted, err));
        }
        if (wanted) {
            work->picked[work->picked_count] = work->keys[number];
            work->rows[work->picked_count] = work->vectors[number];
            work->numbers[work->picked_count++] = number;
        }
    }
done:
    return status;
}

static nphd_status run_parts(change *work, const bool *last, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded *sharded = work->sharded;

    for (size_t next = 0; next < work->count;) {
        TRY(pick_part(work, last, &next, err));
        if (work->picked_count > 0) {
            TRY(store_part(work, err));
        }
        if (!work->replaying && nphdi_index_foreign_bytes(sharded->active) > sharded->shard_bytes) {
            TRY(nphdi_rotate(sharded, err));
        }
        if (!work->replaying) {
            work->watch.begin = work->watch.end = next;
            TRY(nphdi_watch_ask(&work->watch, 0, 1, err));
        }
    }
done:
    return status;
}

/* ---- the frame ---- */

static nphd_status allocate(change *work, bool **last, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_allocator *allocator = work->sharded->allocator;

    work->room = work->count < PART_MOST ? work->count : PART_MOST;
    TRY(nphdi_alloc(allocator, work->room, sizeof(*work->picked), &work->picked, err));
    TRY(nphdi_alloc(allocator, work->room, sizeof(*work->rows), &work->rows, err));
    TRY(nphdi_alloc(allocator, work->room, sizeof(*work->numbers), &work->numbers, err));
    if (work->mode == NPHDI_CHANGE_REPLACE) {
        TRY(nphdi_alloc(allocator, work->count, sizeof(**last), last, err));
        TRY(find_last(work, *last, err));
    } else {
        TRY(nphdi_key_set_reserve(&work->seen, work->count, err));
    }
done:
    return status;
}

static void release(change *work, bool *last)
{
    const nphd_allocator *allocator = work->sharded->allocator;

    nphdi_free(allocator, work->picked, work->room, sizeof(*work->picked));
    nphdi_free(allocator, work->rows, work->room, sizeof(*work->rows));
    nphdi_free(allocator, work->numbers, work->room, sizeof(*work->numbers));
    nphdi_free(allocator, last, work->count, sizeof(*last));
    nphdi_key_set_release(&work->seen);
}

/* The caller holds change_lock. */
static nphd_status run_change(change *work, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    bool *last = NULL;

    TRY(nphdi_index_check(work->sharded->active, work->keys, work->vectors, work->count, err));
    if (work->count == 0) {
        return NPHD_OK;
    }
    TRY(nphdi_promote_head(work->sharded, err));
    TRY(allocate(work, &last, err));
    TRY(run_parts(work, last, err));
done:
    release(work, last);
    return status;
}

/* The next `count` automatic keys that are not in use. */
static nphd_status automatic_keys(nphd_sharded *sharded, size_t count, nphd_key *out,
                                  nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_journal_record record = {.kind = NPHDI_JOURNAL_AUTOMATIC};
    uint64_t next = sharded->next_automatic;

    if (sharded->key_bytes != 8) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                          "add: keys is NULL; automatic keys are for keys of 64 bits");
    }
    for (size_t i = 0; i < count; next++) {
        const nphd_key key = nphd_key_u64(next);
        bool present = false;
        if (next == UINT64_MAX) {
            return nphdi_fail(err, NPHD_FULL, "add: there are no automatic keys left");
        }
        TRY(is_present(sharded, key, &present, err));
        if (!present) {
            out[i++] = key;
        }
    }
    TRY(nphdi_journal_reserve(sharded, NPHDI_JOURNAL_RECORD_MOST, err));
    sharded->next_automatic = next;
    sharded->unsaved = true;
    record.key = nphd_key_u64(next);
    nphdi_journal_append(sharded, &record);
done:
    return status;
}

/* After an error nobody else knows which automatic keys were stored: those of the parts before, all
 * of them new. */
static void give_keys(const change *work, nphd_status status, const nphd_key *automatic,
                      nphd_key *out_keys)
{
    const size_t stored = automatic != NULL ? (size_t)work->counts.added : 0;
    const size_t count = status == NPHD_OK ? work->count : stored;

    if (count > 0) {
        memcpy(out_keys, work->keys, count * sizeof(*out_keys));
    }
}

static nphd_status change_vectors(change *work, const nphd_batch_options *options,
                                  nphd_key *out_keys, const char *what, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_key *automatic = NULL;

    TRY(nphdi_options_read(options, sizeof(work->options), &work->options, "batch options", err));
    TRY(nphdi_change_begin(work->sharded, what, err));
    work->watch = nphdi_watch_moment(work->options.progress, work->options.progress_context, "add",
                                     0, work->count);
    work->sharded->watch = &work->watch;
    if (work->keys == NULL && work->count > 0) {
        status = nphdi_index_check(work->sharded->active, NULL, work->vectors, work->count, err);
        if (status == NPHD_OK) {
            status = nphdi_promote_head(work->sharded, err);
        }
        if (status == NPHD_OK) {
            status = nphdi_alloc(work->sharded->allocator, work->count, sizeof(nphd_key),
                                 &automatic, err);
        }
        if (status == NPHD_OK) {
            status = automatic_keys(work->sharded, work->count, automatic, err);
        }
        work->keys = automatic;
    }
    status = status == NPHD_OK ? run_change(work, err) : status;
    nphdi_change_end(work->sharded);
    if (status == NPHD_OK) {
        status = nphdi_change_commit(work->sharded, err);
    } else if (work->counts.added + work->counts.replaced > 0) {
        /* the parts before count; why the call ended matters more than how this does */
        (void)nphdi_change_commit(work->sharded, NULL);
    }
    if (out_keys != NULL) {
        give_keys(work, status, automatic, out_keys);
    }
done:
    nphdi_free(work->sharded->allocator, automatic, work->count, sizeof(nphd_key));
    return status;
}

static change change_of(nphd_sharded *sharded, const nphd_key *keys, const nphd_vector *vectors,
                        size_t count, nphdi_change_mode mode)
{
    return (change){.sharded = sharded,
                    .keys = keys,
                    .vectors = vectors,
                    .count = count,
                    .mode = mode,
                    .seen = {.allocator = sharded->allocator}};
}

nphd_status nphd_sharded_add(nphd_sharded *sharded, nphd_key key, nphd_vector vector,
                             bool *out_added, nphd_error *err)
{
    size_t added = 0;
    const nphd_status status =
        nphd_sharded_add_many(sharded, &key, &vector, 1, NULL, NULL, &added, err);

    if (out_added != NULL) {
        *out_added = added > 0;
    }
    return status;
}

nphd_status nphd_sharded_add_many(nphd_sharded *sharded, const nphd_key *keys,
                                  const nphd_vector *vectors, size_t count,
                                  const nphd_batch_options *options, nphd_key *out_keys,
                                  size_t *out_added, nphd_error *err)
{
    change work = change_of(sharded, keys, vectors, count, NPHDI_CHANGE_ADD);
    nphd_status status;

    nphdi_error_clear(err);
    status = change_vectors(&work, options, out_keys, "add", err);
    if (out_added != NULL) {
        *out_added = work.counts.added;
    }
    return status;
}

nphd_status nphd_sharded_add_once(nphd_sharded *sharded, const nphd_key *keys,
                                  const nphd_vector *vectors, size_t count,
                                  const nphd_batch_options *options, bool *out_stored,
                                  size_t *out_added, nphd_error *err)
{
    change work = change_of(sharded, keys, vectors, count, NPHDI_CHANGE_ADD);
    nphd_status status;

    nphdi_error_clear(err);
    if (keys == NULL && count > 0) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "add_once: keys is NULL; it needs keys");
    }
    for (size_t i = 0; out_stored != NULL && i < count; i++) {
        out_stored[i] = false;
    }
    work.once = true;
    work.out_stored = out_stored;
    status = change_vectors(&work, options, NULL, "add_once", err);
    if (out_added != NULL) {
        *out_added = work.counts.added;
    }
    return status;
}

nphd_status nphd_sharded_upsert(nphd_sharded *sharded, const nphd_key *keys,
                                const nphd_vector *vectors, size_t count,
                                const nphd_batch_options *options, nphd_upsert_counts *out_counts,
                                nphd_error *err)
{
    change work = change_of(sharded, keys, vectors, count, NPHDI_CHANGE_REPLACE);
    nphd_status status = NPHD_OK;

    nphdi_error_clear(err);
    if (keys == NULL && count > 0) {
        status = nphdi_fail(err, NPHD_INVALID_ARGUMENT, "upsert: keys is NULL; it needs keys");
    } else if (sharded->parameters.multi) {
        status = nphdi_fail(err, NPHD_UNSUPPORTED,
                            "upsert: the index is multi, so that a key names no single vector; it "
                            "needs multi=False");
    } else {
        status = change_vectors(&work, options, NULL, "upsert", err);
    }
    if (out_counts != NULL) {
        *out_counts = work.counts;
    }
    return status;
}

nphd_status nphdi_replay_vectors(nphd_sharded *sharded, const nphd_key *keys,
                                 const nphd_vector *vectors, size_t count, uint32_t threads,
                                 bool replace, nphd_error *err)
{
    change work =
        change_of(sharded, keys, vectors, count, replace ? NPHDI_CHANGE_REPLACE : NPHDI_CHANGE_ADD);

    work.replaying = true;
    work.options.threads = threads;
    work.watch = *sharded->watch;
    return run_change(&work, err);
}
