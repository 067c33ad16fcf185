/* Compaction: shards with dead entries are built anew without them, and neighbours that have become
 * small are merged.
 *
 * One group of neighbours at a time becomes one shard, which takes the number of the newest of
 * them: its place in the order of shards stays. The file that replaces it lists the shards that
 * remain; the others of the group are deleted after that. A crash before leaves the old files in
 * force, one after the new ones. The save at the beginning has made the newest vector of every key
 * durable before an older one is dropped. */
#include "base/error.h"
#include "base/seeded_bug.h"
#include "sharded/sharded_internal.h"

#include <string.h>

/* Vectors added at once while a shard is built. */
#define BUILD_AT_ONCE 1024

/* Neighbours that become one shard. */
typedef struct group {
    uint64_t begin; /* in the list of sealed shards */
    uint64_t end;
    uint64_t visible;
    uint64_t dead;
} group;

/* About the size of the shard's file without its dead and removed entries. */
static uint64_t lean_bytes(const nphdi_shard *shard)
{
    const uint64_t slots = nphdi_index_slots(shard->index);

    return slots == 0 ? 0
                      : (uint64_t)((double)nphdi_index_foreign_bytes(shard->index) / (double)slots *
                                   (double)nphdi_shard_visible(shard));
}

/* The next group from `begin` on: as many neighbours as fit the shard size together. */
static group next_group(const nphd_sharded *sharded, uint64_t begin)
{
    group of = {begin, begin, 0, 0};
    uint64_t bytes = 0;

    while (of.end < sharded->sealed_count) {
        const nphdi_shard *shard = sharded->sealed[of.end];
        bytes += lean_bytes(shard);
        if (of.end > begin && bytes > sharded->shard_bytes) {
            break;
        }
        of.visible += nphdi_shard_visible(shard);
        of.dead += nphdi_shard_dead(shard);
        of.end++;
    }
    return of;
}

/* ---- building ---- */

typedef struct builder {
    nphd_index *index;
    const nphd_batch_options *options;
    nphdi_watch watch;
    size_t width;
    size_t count;
    nphd_key keys[BUILD_AT_ONCE];
    nphd_vector vectors[BUILD_AT_ONCE];
    uint8_t bits[BUILD_AT_ONCE][NPHD_MAX_BYTES];
} builder;

static nphd_status builder_flush(builder *to, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_batch_options batch = NPHD_BATCH_OPTIONS_INIT;

    batch.threads = to->options->threads;
    batch.progress = nphdi_watch_progress;
    batch.progress_context = &to->watch;
    TRY(nphdi_index_change(to->index, to->keys, to->vectors, to->count, &batch, NPHDI_CHANGE_CARRY,
                           NULL, NULL, NULL, err));
    to->count = 0;
done:
    return status;
}

static nphd_status build_from(builder *to, const nphdi_shard *shard, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t slots = nphdi_index_slots(shard->index);

    for (uint64_t slot = 0; slot < slots; slot++) {
        bool visible;
        bool stored;
        size_t bytes;
        TRY(nphdi_index_key_at(shard->index, (uint32_t)slot, &to->keys[to->count], &visible,
                               &stored, err));
        if (!visible) {
            continue;
        }
        TRY(nphdi_index_vector_at(shard->index, (uint32_t)slot, to->bits[to->count], &bytes, err));
        to->vectors[to->count].data = to->bits[to->count];
        to->vectors[to->count].bytes = bytes;
        if (++to->count == BUILD_AT_ONCE) {
            TRY(builder_flush(to, err));
        }
    }
done:
    return status;
}

/* The visible entries of a group, in a new index in memory. */
static nphd_status build_group(nphd_sharded *sharded, const group *of,
                               const nphd_batch_options *options, nphd_index **out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    builder *to = NULL;
    nphd_index *index = NULL;

    *out = NULL;
    TRY(nphd_index_create(&sharded->parameters, &index, err));
    TRY(nphdi_alloc(sharded->allocator, 1, sizeof(*to), &to, err));
    to->index = index;
    to->options = options;
    to->watch = nphdi_watch_stretch(sharded->watch, 0, 0, 1);
    for (uint64_t i = of->begin; i < of->end; i++) {
        TRY(build_from(to, sharded->sealed[i], err));
    }
    TRY(builder_flush(to, err));
    nphdi_sharded_hand_down(sharded, index);
    *out = index;
    index = NULL;
done:
    nphdi_free(sharded->allocator, to, 1, sizeof(*to));
    nphd_index_close(index);
    return status;
}

/* ---- replacing ---- */

/* What the files say once the group is one shard, or gone: the list without the group, and without
 * its dead entries. */
static nphd_status capture_without(nphd_sharded *sharded, const group *of, nphdi_capture *out,
                                   nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint32_t kept = 0;

    TRY(nphdi_capture_take(sharded, out, err));
    for (uint64_t i = 0; i < sharded->sealed_count; i++) {
        if (i < of->begin || i >= of->end) {
            out->shards[kept++] = out->shards[i];
        }
    }
    out->shard_count = kept;
done:
    return status;
}

/* Puts `shard` (NULL: nothing) in the place of the group. Its shards are doomed, but for the one
 * whose file was just replaced. Room for the doomed must be there. */
static void replace_group(nphd_sharded *sharded, const group *of, nphdi_shard *shard)
{
    const uint64_t kept = shard != NULL ? 1 : 0;

    nphdi_rwlock_write(&sharded->state_lock);
    if (shard != NULL) {
        shard->first_number = sharded->sealed[of->begin]->first_number;
        shard->moved =
            of->end - of->begin > 1 ? ++sharded->moves : sharded->sealed[of->begin]->moved;
    }
    for (uint64_t i = of->begin; i < of->end; i++) {
        nphdi_shard *old = sharded->sealed[i];
        if (shard != NULL && old->number == shard->number) {
            nphdi_shard_close(old);
        } else {
            nphdi_doomed_add(sharded, old);
        }
    }
    if (shard != NULL) {
        sharded->sealed[of->begin] = shard;
    }
    memmove(&sharded->sealed[of->begin + kept], &sharded->sealed[of->end],
            (sharded->sealed_count - of->end) * sizeof(nphdi_shard *));
    sharded->sealed_count -= of->end - of->begin - kept;
    nphdi_sealed_refresh(sharded);
    nphdi_rwlock_write_end(&sharded->state_lock);
    sharded->record_is_right = false;
    sharded->unsaved = true;
}

/* A shard has hash tables if those that it is made of had some, or all are to have them. */
static nphd_status keep_tables(nphd_sharded *sharded, const group *of, nphd_index *index,
                               const nphd_batch_options *options, nphd_error *err)
{
    const nphdi_watch moment = nphdi_watch_stretch(sharded->watch, 0, 0, 1);
    bool wanted = sharded->hash_tables;

    for (uint64_t i = of->begin; i < of->end; i++) {
        wanted = wanted || nphdi_index_has_tables(sharded->sealed[i]->index);
    }
    return wanted ? nphdi_index_try_tables(index, options->threads, &moment, err) : NPHD_OK;
}

static nphd_status rebuild_group(nphd_sharded *sharded, const group *of,
                                 const nphd_batch_options *options, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t generation = 0;
    nphdi_capture capture;
    nphdi_shard *shard = NULL;
    nphd_index *index = NULL;
    nphd_batch_options batch = NPHD_BATCH_OPTIONS_INIT;
    nphdi_watch moment = nphdi_watch_stretch(sharded->watch, 0, 0, 1);
    nphd_error why = NPHD_ERROR_INIT;

    batch.progress = nphdi_watch_progress;
    batch.progress_context = &moment;
    memset(&capture, 0, sizeof(capture));
    TRY(nphdi_generation_take(sharded, &generation, err));
    TRY(nphdi_doomed_reserve(sharded, of->end - of->begin, err));
    TRY(build_group(sharded, of, options, &index, err));
    TRY(keep_tables(sharded, of, index, options, err));
    TRY(nphdi_shard_create(sharded, sharded->sealed[of->end - 1]->number, &shard, err));
    TRY(capture_without(sharded, of, &capture, err));
    TRY(nphdi_place_check(sharded, err));
    TRY(NPHDI_BUG(9) ? nphdi_file_remove(sharded->io, sharded->sealed[of->begin]->path, true, err)
                     : NPHD_OK);
    status = nphdi_commit_shard(sharded, index, shard, &capture, generation, &batch,
                                &shard->file_bytes, err);
    if (status != NPHD_OK && status != NPHD_DURABILITY_UNKNOWN) {
        goto done;
    }
    shard->generation = generation;
    atomic_store(&sharded->newest_generation, generation);
    /* from here on the file is the new one, and nothing may fail before the list says so too; the
     * old files stay until that is durable */
    if (nphdi_shard_map(sharded, shard, &shard->index, &why) != NPHD_OK) {
        nphdi_log_write(&sharded->log, NPHD_LOG_WARNING, "%s: written, but it stays in memory: %s",
                        nphdi_shard_name(shard), why.text);
        shard->index = index;
        index = NULL;
    }
    replace_group(sharded, of, shard);
    nphdi_journal_continue(sharded, generation);
    shard = NULL;
    if (status == NPHD_DURABILITY_UNKNOWN) {
        nphdi_journal_doubt(sharded);
    }
    TRY(status);
    TRY(nphdi_lock_file_advance(&sharded->lock, generation, generation, err));
    nphdi_journal_drop(sharded, generation);
    TRY(nphdi_doomed_remove(sharded, err));
done:
    nphd_index_close(index);
    nphdi_shard_close(shard);
    nphdi_capture_release(sharded, &capture);
    return status;
}

/* ---- the whole ---- */

static nphd_status note_entry(void *context, nphdi_shard *shard, uint32_t slot, bool hidden,
                              nphd_error *err)
{
    (void)shard;
    (void)slot;
    (void)hidden;
    (void)err;
    *(bool *)context = true;
    return NPHD_OK;
}

/* Drops the tombstones whose entries are all gone. */
static nphd_status forget_tombstones(nphd_sharded *sharded, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t place = 0;
    nphd_key key;

    while (nphdi_key_set_next(&sharded->tombstones, &place, &key)) {
        bool stored = false;
        TRY(nphdi_sealed_entries(sharded, key, note_entry, &stored, err));
        if (!stored) {
            (void)nphdi_key_set_remove(&sharded->tombstones, key);
        }
    }
done:
    return status;
}

static nphd_status compact_groups(nphd_sharded *sharded, const nphd_batch_options *options,
                                  nphdi_watch *watch, uint64_t *removed, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t all = sharded->sealed_count; /* that were there: there may be none in the end */

    for (uint64_t begin = 0; begin < sharded->sealed_count;) {
        const group of = next_group(sharded, begin);
        *watch = nphdi_watch_moment(options->progress, options->progress_context, "compact",
                                    all - (sharded->sealed_count - begin), all);
        if (of.visible == 0) {
            TRY(nphdi_doomed_reserve(sharded, of.end - of.begin, err));
            replace_group(sharded, &of, NULL);
        } else if (of.dead > 0 || of.end - of.begin > 1) {
            TRY(rebuild_group(sharded, &of, options, err));
            begin++;
        } else {
            begin++;
        }
        *removed += of.dead;
        *watch = nphdi_watch_moment(options->progress, options->progress_context, "compact",
                                    all - (sharded->sealed_count - begin), all);
        TRY(nphdi_watch_ask(watch, 0, 1, err));
    }
done:
    return status;
}

static nphd_status compact_now(nphd_sharded *sharded, const nphd_batch_options *options,
                               nphdi_watch *watch, uint64_t *removed, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_batch_options save = NPHD_BATCH_OPTIONS_INIT;
    uint64_t keys = 0;

    save.progress = nphdi_watch_progress;
    save.progress_context = watch;
    TRY(nphdi_drain(sharded, UINT64_MAX, err));
    TRY(nphdi_promote_head(sharded, err));
    TRY(nphdi_sharded_save_now(sharded, &save, err));
    TRY(compact_groups(sharded, options, watch, removed, err));
    /* tombstones also where one that was interrupted has dropped their entries */
    sharded->unsaved = sharded->unsaved || sharded->tombstones.count > 0;
    if (sharded->unsaved) {
        TRY(forget_tombstones(sharded, err));
        TRY(nphdi_bloom_renew(sharded, &keys, err));
        TRY(nphdi_sharded_save_now(sharded, &save, err));
    }
done:
    return status;
}

nphd_status nphd_sharded_compact(nphd_sharded *sharded, const nphd_batch_options *options,
                                 uint64_t *out_removed, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_batch_options known = NPHD_BATCH_OPTIONS_INIT;
    nphdi_watch watch;
    uint64_t removed = 0;

    nphdi_error_clear(err);
    TRY(nphdi_options_read(options, sizeof(known), &known, "batch options", err));
    TRY(nphdi_drain_begin(sharded, "compact", err));
    watch = nphdi_watch_moment(known.progress, known.progress_context, "compact", 0, 1);
    sharded->watch = &watch;
    status = compact_now(sharded, &known, &watch, &removed, err);
    nphdi_change_end(sharded);
done:
    if (out_removed != NULL) {
        *out_removed = removed;
    }
    return status;
}

static nphd_status rebuild_now(nphd_sharded *sharded, const nphd_batch_options *options,
                               uint64_t *out_keys, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_watch watch =
        nphdi_watch_whole(options->progress, options->progress_context, "rebuild_bloom");
    const nphdi_watch making = nphdi_watch_part(&watch, 0, 2);
    nphdi_watch saving = nphdi_watch_part(&watch, 1, 2);
    nphd_batch_options save = NPHD_BATCH_OPTIONS_INIT;

    save.progress = nphdi_watch_progress;
    save.progress_context = &saving;
    sharded->watch = &making;

    TRY(nphdi_drain(sharded, UINT64_MAX, err));
    TRY(nphdi_bloom_renew(sharded, out_keys, err));
    sharded->watch = &saving;
    TRY(nphdi_sharded_save_now(sharded, &save, err));
done:
    sharded->watch = NULL;
    return status;
}

nphd_status nphd_sharded_rebuild_bloom_with(nphd_sharded *sharded,
                                            const nphd_batch_options *options, uint64_t *out_keys,
                                            nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_batch_options known = NPHD_BATCH_OPTIONS_INIT;
    uint64_t keys = 0;

    nphdi_error_clear(err);
    TRY(nphdi_options_read(options, sizeof(known), &known, "batch options", err));
    TRY(nphdi_drain_begin(sharded, "rebuild the bloom filter", err));
    if (sharded->want_bloom) {
        status = rebuild_now(sharded, &known, &keys, err);
    }
    nphdi_change_end(sharded);
done:
    if (out_keys != NULL) {
        *out_keys = keys;
    }
    return status;
}

nphd_status nphd_sharded_rebuild_bloom(nphd_sharded *sharded, uint64_t *out_keys, nphd_error *err)
{
    return nphd_sharded_rebuild_bloom_with(sharded, NULL, out_keys, err);
}
