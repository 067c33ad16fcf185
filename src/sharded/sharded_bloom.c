/* The bloom filter of a sharded index and its file.
 *
 * The file is written first in every save, so that it knows at least the keys of all shards. One
 * that was made anew knows less than the files of older saves hold; its section says since which
 * generation it is right. */
#include "base/error.h"
#include "base/seeded_bug.h"
#include "index/source.h"
#include "sharded/sharded_internal.h"

#include <string.h>

/* A filter that grew a longer chain is made anew in one piece: a lookup asks each filter of it, and
 * each costs a cache miss (bench_sharded, contains). */
#define FILTERS_MOST 2

/* ---- reading ---- */

static nphd_status take_bytes(void *context, void *out, uint64_t bytes, nphd_error *err)
{
    return nphdi_block_reader_take(context, out, bytes, err);
}

static nphd_status read_filter(const nphd_sharded *sharded, const nphdi_source *source,
                               const nphdi_trailer *trailer, nphdi_bloom **out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_block_reader reader;

    memset(&reader, 0, sizeof(reader));
    TRY(nphdi_block_reader_begin(&reader, source, trailer, sharded->allocator, err));
    reader.watch = sharded->watch;
    TRY(nphdi_bloom_read(sharded->allocator, sharded->key_bytes, source->name,
                         trailer->foreign_bytes, take_bytes, &reader, out, err));
done:
    nphdi_block_reader_end(&reader);
    return status;
}

/* The generation from which on a filter of ours is right; the file's own if it does not say. */
static nphd_status read_valid_from(const nphd_sharded *sharded, const char *path,
                                   const nphdi_trailer *trailer, uint64_t *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    void *section = NULL;
    uint64_t bytes = 0;
    bool found = false;

    *out = trailer->generation;
    TRY(nphdi_index_read_section(sharded->io, sharded->allocator, path, NPHDI_SECTION_FILTER,
                                 &found, &section, &bytes, err));
    if (found && bytes == NPHDI_FILTER_SECTION_BYTES) {
        *out = nphdi_filter_section_decode(section);
    }
done:
    nphdi_free(sharded->allocator, section, bytes, 1);
    return status;
}

/* Is a filter of ours one that was written alone, or ahead, beside shards that are all the
 * reference's? With each of its saves the reference replaces it by one without trailer, so that
 * nothing changed since; and no shard says which identity it should have. */
static bool beside_reference(const nphd_sharded *sharded, uint64_t newest_generation)
{
    return atomic_load(&sharded->over_reference) && newest_generation == 0;
}

static nphd_status load_file(nphd_sharded *sharded, const char *path, uint64_t newest_generation,
                             bool *out_current, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_source source;
    nphdi_trailer trailer;
    nphdi_bloom *bloom = NULL;
    bool found = false;

    memset(&source, 0, sizeof(source));
    TRY(nphdi_source_open(&source, sharded->io, path, err));
    sharded->bloom_file_bytes = source.bytes;
    TRY(nphdi_source_trailer(&source, &trailer, &found, err));
    if (!found) {
        /* without checksum and generation nothing says that it knows every key */
        status = nphdi_fail(err, NPHD_CORRUPT, "%s: without a trailer of ours", path);
        goto done;
    }
    TRY(read_valid_from(sharded, path, &trailer, &sharded->bloom_valid_from, err));
    if ((memcmp(trailer.identity, sharded->identity, sizeof(trailer.identity)) != 0 &&
         !beside_reference(sharded, newest_generation)) ||
        (trailer.generation < newest_generation && !NPHDI_BUG(10)) ||
        sharded->bloom_valid_from > newest_generation) {
        status = nphdi_fail(
            err, NPHD_MISMATCH, "%s: of generation %llu (right since %llu), the shards are of %llu",
            path, (unsigned long long)trailer.generation,
            (unsigned long long)sharded->bloom_valid_from, (unsigned long long)newest_generation);
        goto done;
    }
    TRY(read_filter(sharded, &source, &trailer, &bloom, err));
    if (beside_reference(sharded, newest_generation) &&
        nphdi_bloom_count(bloom) < nphdi_sharded_count_visible(sharded)) {
        nphdi_bloom_close(bloom);
        status =
            nphdi_fail(err, NPHD_CORRUPT, "%s: it knows fewer keys than the shards have", path);
        goto done;
    }
    sharded->bloom = bloom;
    /* generations only grow, also behind a save that wrote no more than this file */
    if (trailer.generation > atomic_load(&sharded->generation)) {
        atomic_store(&sharded->generation, trailer.generation);
    }
    *out_current = true;
done:
    nphdi_source_close(&source);
    return status;
}

/* The size of the file, for an index that does not use it. */
static nphd_status measure_file(nphd_sharded *sharded, const char *path, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_source source;

    memset(&source, 0, sizeof(source));
    TRY(nphdi_source_open(&source, sharded->io, path, err));
    sharded->bloom_file_bytes = source.bytes;
done:
    nphdi_source_close(&source);
    return status;
}

nphd_status nphdi_bloom_load(nphd_sharded *sharded, uint64_t newest_generation, bool foreign,
                             bool *out_usable, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    char *path = NULL;
    size_t room = 0;
    nphd_error why = NPHD_ERROR_INIT;

    *out_usable = false;
    TRY(nphdi_path_join(sharded->allocator, sharded->path, NPHDI_BLOOM_NAME, &path, &room, err));
    status = sharded->want_bloom ? load_file(sharded, path, newest_generation, out_usable, &why)
                                 : measure_file(sharded, path, &why);
    if (status == NPHD_CORRUPT || status == NPHD_UNSUPPORTED || status == NPHD_MISMATCH) {
        /* An index that was emptied has no shard left that the filter could belong to. A reader may
         * look while a writer compacts, which writes the filter last. */
        nphdi_log_write(&sharded->log,
                        sharded->sealed_count == 0 || foreign           ? NPHD_LOG_DEBUG
                        : sharded->read_only && status == NPHD_MISMATCH ? NPHD_LOG_INFO
                                                                        : NPHD_LOG_WARNING,
                        "%s", why.text);
        status = NPHD_OK;
    } else if (status == NPHD_NOT_FOUND) {
        status = NPHD_OK;
    } else if (status != NPHD_OK) {
        nphdi_error_copy(err, &why);
    }
done:
    nphdi_free(sharded->allocator, path, room, 1);
    return status;
}

/* ---- making ---- */

static nphd_status add_shard(const nphd_sharded *sharded, nphd_index *index, nphdi_bloom *bloom,
                             const nphdi_watch *watch, uint64_t *keys, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t slots = nphdi_index_slots(index);
    uint64_t passed_over = 0;

    for (uint64_t slot = 0; slot < slots; slot++) {
        nphd_key key;
        bool visible;
        bool stored;
        TRY(nphdi_watch_loop(watch, slot, slots, err));
        TRY(nphdi_salvage_key_at(sharded, index, slot, &key, &visible, &stored, &passed_over, err));
        if (visible) {
            TRY(nphdi_bloom_reserve(bloom, 1, err));
            nphdi_bloom_add(bloom, key);
            (*keys)++;
        }
    }
done:
    return status;
}

nphd_status nphdi_bloom_make(const nphd_sharded *sharded, nphdi_bloom **out, uint64_t *out_keys,
                             nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_bloom *bloom = NULL;
    const uint64_t entries = nphdi_sharded_count_visible(sharded);

    *out = NULL;
    *out_keys = 0;
    TRY(nphdi_bloom_create(sharded->allocator, sharded->key_bytes, entries + entries / 2, &bloom,
                           err));
    for (uint64_t i = 0; i <= sharded->sealed_count; i++) {
        const nphdi_watch part = nphdi_watch_part(sharded->watch, i, sharded->sealed_count + 1);
        TRY(add_shard(sharded,
                      i < sharded->sealed_count ? sharded->sealed[i]->index : sharded->active,
                      bloom, &part, out_keys, err));
    }
    *out = bloom;
    bloom = NULL;
done:
    nphdi_bloom_close(bloom);
    return status;
}

/* Invariant (3) holds for the new filter at once: nobody changes the index meanwhile. */
nphd_status nphdi_bloom_expect(nphd_sharded *sharded, const nphd_key *keys, size_t count,
                               nphd_error *err)
{
    uint64_t fresh = 0;

    if (sharded->bloom == NULL) {
        return NPHD_OK;
    }
    for (size_t i = 0; i < count; i++) {
        fresh += nphdi_bloom_maybe(sharded->bloom, keys[i]) ? 0 : 1;
    }
    return nphdi_bloom_reserve(sharded->bloom, fresh, err);
}

void nphdi_bloom_take(nphd_sharded *sharded, const nphd_key *keys, size_t count)
{
    for (size_t i = 0; sharded->bloom != NULL && i < count; i++) {
        if (!nphdi_bloom_maybe(sharded->bloom, keys[i])) {
            nphdi_bloom_add(sharded->bloom, keys[i]);
        }
    }
}

nphd_status nphdi_bloom_renew(nphd_sharded *sharded, uint64_t *out_keys, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_bloom *bloom = NULL;

    *out_keys = 0;
    if (!sharded->want_bloom) {
        return NPHD_OK;
    }
    TRY(nphdi_bloom_make(sharded, &bloom, out_keys, err));
    nphdi_rwlock_write(&sharded->state_lock);
    nphdi_bloom *old = sharded->bloom;
    sharded->bloom = bloom;
    /* what was removed since the last save is still in its files and not in this filter */
    sharded->bloom_renewed = sharded->unsaved;
    sharded->bloom_valid_from = atomic_load(&sharded->newest_generation);
    nphdi_rwlock_write_end(&sharded->state_lock);
    nphdi_bloom_close(old);
    sharded->bloom_unsaved = true;
done:
    return status;
}

nphd_status nphdi_bloom_shorten(nphd_sharded *sharded, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t keys;

    if (sharded->bloom != NULL && nphdi_bloom_filters(sharded->bloom) > FILTERS_MOST) {
        TRY(nphdi_bloom_renew(sharded, &keys, err));
    }
done:
    return status;
}

/* ---- writing ---- */

static nphd_status put_bytes(void *context, const void *data, uint64_t bytes, nphd_error *err)
{
    return nphdi_trailed_put(context, data, bytes, err);
}

static nphd_status write_file(nphd_sharded *sharded, const char *path, uint64_t generation,
                              const nphdi_watch *watch, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint8_t section[NPHDI_FILTER_SECTION_BYTES];
    const nphdi_extra_section extra = {NPHDI_SECTION_FILTER, 0, section, sizeof(section)};
    const uint64_t bytes = nphdi_bloom_file_bytes(sharded->bloom);
    nphd_batch_options batch = NPHD_BATCH_OPTIONS_INIT;
    nphdi_watch moment = nphdi_watch_stretch(watch, 0, 0, 1);
    nphdi_trailed_file file;

    batch.progress = nphdi_watch_progress;
    batch.progress_context = &moment;
    memset(&file, 0, sizeof(file));
    nphdi_filter_section_encode(sharded->bloom_valid_from, atomic_load(&sharded->over_reference),
                                section);
    TRY(nphdi_trailed_begin(&file, sharded->io, sharded->allocator, path, bytes, &extra, 1, err));
    file.sink.options = &batch;
    TRY(nphdi_bloom_write(sharded->bloom, bytes, put_bytes, &file, err));
    TRY(nphdi_trailed_commit(&file, sharded->identity, generation, err));
    sharded->bloom_file_bytes = file.sink.total;
done:
    nphdi_trailed_end(&file);
    return status;
}

nphd_status nphdi_bloom_save(nphd_sharded *sharded, uint64_t generation, const nphdi_watch *watch,
                             nphd_error *err)
{
    nphd_status status = NPHD_OK;
    char *path = NULL;
    size_t room = 0;

    if (sharded->bloom == NULL && sharded->bloom_file_bytes == 0) {
        return NPHD_OK;
    }
    TRY(nphdi_path_join(sharded->allocator, sharded->path, NPHDI_BLOOM_NAME, &path, &room, err));
    if (sharded->bloom != NULL) {
        TRY(write_file(sharded, path, generation, watch, err));
    } else {
        /* switched off: a filter that is not kept up would hide keys from the reference */
        TRY(nphdi_file_remove(sharded->io, path, true, err));
        sharded->bloom_file_bytes = 0;
    }
done:
    nphdi_free(sharded->allocator, path, room, 1);
    return status;
}
