/* Saving: what is written, and in which order.
 *
 *     bloom filter | shard with its record | tombstones
 *
 * The rename of the shard is the moment from which the new state counts: its trailer has the list
 * of shards and the tombstones too, so that a crash before the third file costs nothing. The first
 * file may run ahead, as it only ever says "perhaps". */
#include "base/bytes.h"
#include "base/error.h"
#include "base/seeded_bug.h"
#include "formats/usearch_format.h"
#include "sharded/sharded_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A save that takes longer is told to the log. */
#define TELL_AFTER_MS 1000

/* ---- capture ---- */

static nphd_status capture_keys(const nphd_sharded *sharded, nphdi_capture *capture,
                                nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t count = sharded->tombstones.count;
    nphd_key *keys = NULL;

    TRY(nphdi_alloc(sharded->allocator, count, sizeof(*keys), &keys, err));
    TRY(nphdi_alloc(sharded->allocator, count, sharded->key_bytes, &capture->tombstones, err));
    capture->tombstone_count = count;
    capture->tombstone_bytes = count * sharded->key_bytes;
    if (count > 0) {
        nphdi_key_set_sorted(&sharded->tombstones, keys);
    }
    for (uint64_t i = 0; i < count; i++) {
        nphdi_usearch_put_key(capture->tombstones + i * sharded->key_bytes, sharded->key_bytes,
                              keys[i]);
    }
done:
    nphdi_free(sharded->allocator, keys, count, sizeof(*keys));
    return status;
}

static void encode_hidden(const nphdi_shard *shard, uint8_t *out)
{
    const nphdi_hidden_head head = {shard->number, shard->generation, shard->hidden.slots};

    nphdi_hidden_encode_head(&head, out);
    out += NPHDI_HIDDEN_HEAD_BYTES;
    for (uint64_t i = 0; i < (head.slots + 63) / 64; i++) {
        nphdi_put64(out + 8 * i,
                    atomic_load_explicit(&shard->hidden.words[i], memory_order_relaxed));
    }
}

static nphd_status capture_hidden(const nphd_sharded *sharded, nphdi_capture *capture,
                                  nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t bytes = 0;
    uint8_t *out;

    for (uint64_t i = 0; i < sharded->sealed_count; i++) {
        if (nphdi_shard_dead(sharded->sealed[i]) > 0 && !NPHDI_BUG(17)) {
            bytes += nphdi_hidden_bytes(sharded->sealed[i]->hidden.slots);
        }
    }
    TRY(nphdi_alloc(sharded->allocator, bytes, 1, &capture->hidden, err));
    capture->hidden_bytes = bytes;
    out = capture->hidden;
    for (uint64_t i = 0; i < sharded->sealed_count; i++) {
        if (nphdi_shard_dead(sharded->sealed[i]) > 0 && !NPHDI_BUG(17)) {
            encode_hidden(sharded->sealed[i], out);
            out += nphdi_hidden_bytes(sharded->sealed[i]->hidden.slots);
        }
    }
done:
    return status;
}

nphd_status nphdi_capture_take(nphd_sharded *sharded, nphdi_capture *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    memset(out, 0, sizeof(*out));
    TRY(capture_keys(sharded, out, err));
    TRY(capture_hidden(sharded, out, err));
    /* one more than there are, for the shard that is written */
    TRY(nphdi_alloc(sharded->allocator, sharded->sealed_count + 1, sizeof(*out->shards),
                    &out->shards, err));
    out->shard_room = sharded->sealed_count + 1;
    for (uint64_t i = 0; i < sharded->sealed_count; i++) {
        out->shards[i].number = sharded->sealed[i]->number;
        out->shards[i].generation = sharded->sealed[i]->generation;
    }
    out->shard_count = (uint32_t)sharded->sealed_count;
    out->keep_tombstones = out->tombstone_count > 0 || out->hidden_bytes > 0;
done:
    if (status != NPHD_OK) {
        nphdi_capture_release(sharded, out);
    }
    return status;
}

void nphdi_capture_release(const nphd_sharded *sharded, nphdi_capture *capture)
{
    nphdi_free(sharded->allocator, capture->tombstones, capture->tombstone_count,
               sharded->key_bytes);
    nphdi_free(sharded->allocator, capture->hidden, capture->hidden_bytes, 1);
    nphdi_free(sharded->allocator, capture->shards, capture->shard_room, sizeof(*capture->shards));
    memset(capture, 0, sizeof(*capture));
}

/* Names the shard that is written in the list, which has room for one more. */
static void list_shard(nphdi_capture *capture, uint32_t number, uint64_t generation)
{
    uint32_t place = capture->shard_count;

    while (place > 0 && capture->shards[place - 1].number >= number) {
        place--;
    }
    if (place == capture->shard_count || capture->shards[place].number != number) {
        memmove(&capture->shards[place + 1], &capture->shards[place],
                (capture->shard_count - place) * sizeof(*capture->shards));
        capture->shard_count++;
    }
    capture->shards[place].number = number;
    capture->shards[place].generation = generation;
}

/* ---- telling of long saves ---- */

typedef struct long_save {
    const nphd_sharded *sharded;
    const char *name;
    uint64_t vectors;
    uint64_t begin_ms;
    bool told;
    const nphd_batch_options *below;
} long_save;

static int watch_save(void *context, uint64_t done, uint64_t total)
{
    long_save *save = context;

    if (!save->told && nphdi_clock_ms() - save->begin_ms > TELL_AFTER_MS) {
        save->told = true;
        nphdi_log_write(&save->sharded->log, NPHD_LOG_INFO, "saving %s: %llu vectors, %llu bytes",
                        save->name, (unsigned long long)save->vectors, (unsigned long long)total);
    }
    return save->below != NULL && save->below->progress != NULL
               ? save->below->progress(save->below->progress_context, done, total)
               : 0;
}

/* Where the last of the sections ends that a shard has behind those of its index, of which there
 * are *out_sections. */
static uint64_t extra_end(nphd_index *index, const nphdi_extra_section *extra, uint32_t count,
                          uint32_t *out_sections)
{
    uint64_t end = nphdi_index_extra_offset(index, out_sections);

    for (uint32_t i = 0; i < count; i++) {
        end += extra[i].bytes;
    }
    return end;
}

/* The size of a file of so many sections, the last of which ends there but for the block checksums
 * behind all others. */
static uint64_t shard_file_bytes(uint64_t end, uint64_t sections)
{
    return end + 8 * nphdi_trailer_blocks(end) + NPHDI_TRAILER_DIRECTORY_HEAD_BYTES +
           sections * NPHDI_TRAILER_SECTION_BYTES + NPHDI_TRAILER_FOOTER_BYTES;
}

uint64_t nphdi_active_bytes_now(const nphd_sharded *sharded)
{
    const uint64_t tombstones = sharded->tombstones.count * sharded->key_bytes;
    nphdi_extra_section extra[2] = {{.bytes = nphdi_record_bytes(sharded->sealed_count + 1)},
                                    {.bytes = tombstones}};
    uint32_t count = tombstones > 0 ? 2 : 1;
    uint32_t sections = 0;
    uint64_t end;

    for (uint64_t i = 0; i < sharded->sealed_count && count == 1; i++) {
        count = nphdi_shard_dead(sharded->sealed[i]) > 0 ? 2 : 1;
    }
    end = extra_end(sharded->active, extra, count, &sections);
    return shard_file_bytes(end, sections + count);
}

/* A shard lists the others as they are in place. Where the flush of the directory failed behind one
 * of them, a cut could take that one back and leave the new list. */
static nphd_status settle_directory(nphd_sharded *sharded, nphd_error *err)
{
    if (atomic_load(&sharded->directory_unsure)) {
        const int failed = sharded->io->sync_directory(sharded->io->context, sharded->path);
        if (failed != 0 && failed != EINVAL) {
            (void)nphdi_fail_os(err, failed, "%s: flush of the directory", sharded->path);
            if (err != NULL) {
                err->status = NPHD_DURABILITY_UNKNOWN;
            }
            return NPHD_DURABILITY_UNKNOWN;
        }
        atomic_store(&sharded->directory_unsure, false);
    }
    return NPHD_OK;
}

nphd_status nphdi_commit_shard(nphd_sharded *sharded, nphd_index *index, const nphdi_shard *shard,
                               nphdi_capture *capture, uint64_t generation,
                               const nphd_batch_options *options, uint64_t *out_file_bytes,
                               nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_batch_options batch = NPHD_BATCH_OPTIONS_INIT;
    long_save watch = {
        sharded, nphdi_shard_name(shard), nphdi_index_stored(index), nphdi_clock_ms(), false,
        options};
    uint8_t *record = NULL;
    uint64_t record_bytes = 0;
    uint32_t sections = 0;
    nphdi_extra_section extra[3];
    nphdi_extra_section *group = NULL;
    nphdi_save_as as = {sharded->identity, generation, extra, capture->keep_tombstones ? 2 : 1};
    const bool before = atomic_load(&sharded->tombstone_file_bytes) > 0 &&
                        !atomic_load(&sharded->tombstones_unsure);
    const uint32_t flags = (capture->keep_tombstones ? NPHDI_RECORD_TOMBSTONES : 0) |
                           (before ? NPHDI_RECORD_TOMBSTONES_BEFORE : 0);

    TRY(nphdi_journal_put_aside(sharded, err));
    TRY(settle_directory(sharded, err));
    list_shard(capture, shard->number, generation);
    record_bytes = nphdi_record_bytes(capture->shard_count);
    TRY(nphdi_alloc(sharded->allocator, record_bytes, 1, &record, err));
    nphdi_record_encode(NPHDI_BUG(12) ? 0 : flags, capture->shards, capture->shard_count, record);
    memset(extra, 0, sizeof(extra));
    extra[0].id = NPHDI_SECTION_SHARDS;
    extra[0].data = record;
    extra[0].bytes = record_bytes;
    extra[1].id = NPHDI_SECTION_TOMBSTONES;
    extra[1].data = capture->tombstones;
    extra[1].bytes = NPHDI_BUG(8) ? 0 : capture->tombstone_bytes;
    group = &extra[as.extra_count];
    nphdi_group_make(sharded, index, capture, shard->number,
                     extra_end(index, extra, as.extra_count, &sections), group);
    as.extra_count += group->data != NULL ? 1 : 0;
    batch.progress = watch_save;
    batch.progress_context = &watch;
    /* with *out_file_bytes the file is in place, and goes when the shard goes */
    status = nphdi_index_save_as(index, shard->path, &as, &batch, out_file_bytes, err);
    atomic_store(&sharded->directory_unsure, status == NPHD_DURABILITY_UNKNOWN);
    TRY(status);
    atomic_store(&sharded->over_reference, false);
    if (watch.told) {
        nphdi_log_write(&sharded->log, NPHD_LOG_INFO, "saved %s: %llu vectors in %.1f s",
                        watch.name, (unsigned long long)watch.vectors,
                        (double)(nphdi_clock_ms() - watch.begin_ms) / 1000);
    }
done:
    if (group != NULL) {
        nphdi_group_release(sharded, group);
    }
    nphdi_free(sharded->allocator, record, record_bytes, 1);
    return status;
}

/* ---- the whole ---- */

/* The record of the newest sealed shard is in force from then on. */
static nphd_status remove_active_file(nphd_sharded *sharded, const char *path, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t newest = 0;

    for (uint64_t i = 0; i < sharded->sealed_count; i++) {
        newest = sharded->sealed[i]->generation > newest ? sharded->sealed[i]->generation : newest;
    }
    TRY(nphdi_lock_file_step_back(&sharded->lock, newest, err));
    sharded->active_file_goes = true;
    TRY(nphdi_file_remove(sharded->io, path, true, err));
    sharded->active_file_goes = false;
    sharded->active_file_bytes = 0;
    nphdi_rwlock_write(&sharded->state_lock);
    sharded->active_number = NPHDI_NO_NUMBER;
    nphdi_rwlock_write_end(&sharded->state_lock);
    atomic_store(&sharded->newest_generation, newest);
done:
    return status;
}

/* Have the files of sealed shards the number at which automatic keys go on, and the type of the
 * codes? */
static bool settings_are_kept(const nphd_sharded *sharded)
{
    bool kept = sharded->next_automatic == 0;

    if (nphdi_sharded_unit_of_shards(sharded) != atomic_load(&sharded->unit)) {
        return false;
    }

    for (uint64_t i = 0; i < sharded->sealed_count && !kept; i++) {
        kept = sharded->sealed[i]->index->content->next_automatic >= sharded->next_automatic;
    }
    return kept;
}

/* Writes the active shard, or deletes its file when it became empty and nothing needs the record
 * that only a shard file can hold. */
static nphd_status save_active(nphd_sharded *sharded, nphdi_capture *capture, uint64_t generation,
                               const nphd_batch_options *options, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    /* a journal continues the newest shard, so that each save needs one of its own */
    const bool needs_record = capture->keep_tombstones || sharded->journal.on ||
                              sharded->tombstone_file_bytes > 0 || sharded->doomed_count > 0 ||
                              sharded->bloom_renewed || !settings_are_kept(sharded) ||
                              nphdi_lock_file_is_stuck(&sharded->lock) ||
                              (sharded->sealed_count > 0 && !sharded->record_is_right);
    nphdi_shard *shard = NULL;
    uint32_t number;

    if (nphd_index_size(sharded->active) == 0 && !needs_record &&
        sharded->active_number == NPHDI_NO_NUMBER) {
        return NPHD_OK;
    }
    TRY(nphdi_active_number(sharded, &number, err));
    if (sharded->active_number == NPHDI_NO_NUMBER) {
        /* a cursor must not see one without the other */
        nphdi_rwlock_write(&sharded->state_lock);
        sharded->active_number = number;
        sharded->next_number++;
        nphdi_rwlock_write_end(&sharded->state_lock);
    }
    TRY(nphdi_shard_create(sharded, sharded->active_number, &shard, err));
    if (nphd_index_size(sharded->active) == 0 && nphdi_index_slots(sharded->active) > 0) {
        /* the reference cannot load a file all of whose slots were removed */
        nphdi_rwlock_write(&sharded->state_lock); /* readers look at its content under that one */
        status = nphd_index_reset(sharded->active, err);
        nphdi_rwlock_write_end(&sharded->state_lock);
        TRY(status);
    }
    if (nphd_index_size(sharded->active) > 0 || needs_record) {
        nphdi_sharded_hand_down(sharded, sharded->active);
        TRY(nphdi_commit_shard(sharded, sharded->active, shard, capture, generation, options,
                               &sharded->active_file_bytes, err));
        sharded->active_file_goes = false;
        atomic_store(&sharded->newest_generation, generation);
    } else if (sharded->active_file_bytes > 0) {
        TRY(remove_active_file(sharded, shard->path, err));
    }
done:
    nphdi_shard_close(shard);
    return status;
}

/* An empty shard that was there for its record alone goes once the files say the same without. */
static nphd_status remove_empty_head(nphd_sharded *sharded, const nphdi_capture *capture,
                                     nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_shard *shard = NULL;

    if (nphd_index_size(sharded->active) > 0 || sharded->active_file_bytes == 0 ||
        capture->keep_tombstones || sharded->journal.on || sharded->bloom_renewed ||
        nphdi_lock_file_is_stuck(&sharded->lock) || !settings_are_kept(sharded) ||
        (sharded->sealed_count > 0 && !sharded->record_is_right)) {
        return NPHD_OK;
    }
    TRY(nphdi_shard_create(sharded, sharded->active_number, &shard, err));
    TRY(remove_active_file(sharded, shard->path, err));
done:
    nphdi_shard_close(shard);
    return status;
}

nphd_status nphdi_generation_check(const nphd_sharded *sharded, nphd_error *err)
{
    const uint64_t generation = atomic_load(&sharded->generation);

    return generation < NPHDI_LAST_GENERATION
               ? NPHD_OK
               : nphdi_fail(err, NPHD_FULL,
                            "%s: generation %llu is the last one, nothing more can be written; "
                            "salvage into a new directory begins anew",
                            sharded->path, (unsigned long long)generation);
}

nphd_status nphdi_generation_take(nphd_sharded *sharded, uint64_t *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(nphdi_generation_check(sharded, err));
    *out = atomic_fetch_add(&sharded->generation, 1) + 1;
done:
    return status;
}

static nphd_status save_all(nphd_sharded *sharded, const nphd_batch_options *options,
                            nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t generation = 0;
    nphdi_capture capture;

    memset(&capture, 0, sizeof(capture));
    /* the record of what follows goes into the last shard, which must be writable then */
    TRY(nphdi_promote_head(sharded, err));
    TRY(nphdi_capture_take(sharded, &capture, err));
    TRY(nphdi_generation_take(sharded, &generation, err));
    (void)atomic_fetch_sub(&sharded->generation, NPHDI_BUG(18) ? 1 : 0);
    if (sharded->bloom_renewed) {
        sharded->bloom_valid_from = generation;
    }
    TRY(NPHDI_BUG(10) ? NPHD_OK : nphdi_bloom_save(sharded, generation, sharded->watch, err));
    TRY(NPHDI_BUG(11) ? nphdi_tombstones_save(sharded, &capture, generation, err) : NPHD_OK);
    if (NPHDI_BUG(16)) {
        nphdi_journal_drop(sharded, generation);
    }
    status = save_active(sharded, &capture, generation, options, err);
    if (status == NPHD_DURABILITY_UNKNOWN) {
        nphdi_journal_doubt(sharded);
    }
    TRY(status);
    /* it counts, whatever becomes of the rest: records for an older one would be passed over */
    nphdi_journal_continue(sharded, atomic_load(&sharded->newest_generation));
    TRY(nphdi_lock_file_advance(&sharded->lock, atomic_load(&sharded->newest_generation),
                                generation, err));
    TRY(nphdi_tombstones_save(sharded, &capture, generation, err));
    TRY(NPHDI_BUG(10) ? nphdi_bloom_save(sharded, generation, sharded->watch, err) : NPHD_OK);
    TRY(nphdi_doomed_remove(sharded, err));
    TRY(remove_empty_head(sharded, &capture, err));
    nphdi_journal_continue(sharded, atomic_load(&sharded->newest_generation));
    nphdi_journal_drop(sharded, generation);
    atomic_store(&sharded->dirty, 0);
    sharded->unsaved = false;
    sharded->reset_alone = false;
    memset(&sharded->emptied, 0, sizeof(sharded->emptied));
    sharded->bloom_unsaved = false;
    sharded->bloom_renewed = false;
done:
    nphdi_capture_release(sharded, &capture);
    return status;
}

nphd_status nphdi_sharded_save_now(nphd_sharded *sharded, const nphd_batch_options *options,
                                   nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(nphdi_bloom_shorten(sharded, err));
    TRY(sharded->unsaved || sharded->bloom_unsaved ? nphdi_place_check(sharded, err) : NPHD_OK);
    if (sharded->unsaved) {
        return save_all(sharded, options, err);
    }
    if (sharded->bloom_unsaved) {
        uint64_t generation = atomic_load(&sharded->generation);
        if (atomic_load(&sharded->over_reference)) {
            /* that no journal continues: one that does says that the save came to its shard */
            TRY(nphdi_generation_take(sharded, &generation, err));
        }
        TRY(nphdi_bloom_save(sharded, generation, sharded->watch, err));
        sharded->bloom_unsaved = false;
    }
    atomic_store(&sharded->dirty, 0);
done:
    return status;
}

nphd_status nphd_sharded_save(nphd_sharded *sharded, const nphd_batch_options *options,
                              nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_batch_options known = NPHD_BATCH_OPTIONS_INIT;
    nphdi_watch watch;

    nphdi_error_clear(err);
    TRY(nphdi_options_read(options, sizeof(known), &known, "batch options", err));
    TRY(nphdi_drain_begin(sharded, "save", err));
    watch = nphdi_watch_moment(known.progress, known.progress_context, "save", 0, 1);
    sharded->watch = &watch;
    status = nphdi_drain(sharded, UINT64_MAX, err);
    if (status == NPHD_OK) {
        status = nphdi_sharded_save_now(sharded, &known, err);
    }
    nphdi_change_end(sharded);
done:
    return status;
}
