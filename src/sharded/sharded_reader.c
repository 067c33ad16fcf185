/* Readers beside a writer in another process.
 *
 * Files are only ever replaced whole, so that what a reader has mapped stays as it is. Opening,
 * though, takes several files, and the writer may replace some in between: a reader opens, and
 * opens again if the files are not the same after as before. */
#include "base/error.h"
#include "base/hash.h"
#include "index/source.h"
#include "sharded/sharded_internal.h"

#include <string.h>

/* A writer that rotates all the time is outrun in far fewer. */
#define ATTEMPTS 200

/* A journal that comes and goes within one attempt, again and again, is the work of many writers.
 */
#define ATTEMPTS_FOR_A_NAME 20

/* ---- the stamp ---- */

/* The end of a file of ours has a checksum that no other version of it has. A journal only grows,
 * and the checksum at the end of its head tells it from one of the same name that is gone: numbers
 * begin anew when a writer finds no journal. */
static nphd_status stamp_file(const nphd_io *io, const nphd_allocator *allocator,
                              const char *directory, const char *name, bool journal, uint64_t *out,
                              nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_source source;
    char *path = NULL;
    size_t room = 0;
    uint8_t end[NPHDI_TRAILER_FOOTER_BYTES + 8];

    memset(&source, 0, sizeof(source));
    memset(end, 0, sizeof(end));
    TRY(nphdi_path_join(allocator, directory, name, &path, &room, err));
    TRY(nphdi_source_open(&source, io, path, err));
    if (!journal && source.bytes >= NPHDI_TRAILER_FOOTER_BYTES) {
        TRY(nphdi_source_read(&source, source.bytes - NPHDI_TRAILER_FOOTER_BYTES, end,
                              NPHDI_TRAILER_FOOTER_BYTES, err));
    }
    if (journal && source.bytes >= NPHDI_JOURNAL_HEAD_BYTES) {
        TRY(nphdi_source_read(&source, NPHDI_JOURNAL_HEAD_BYTES - 8, end, 8, err));
    }
    memcpy(end + NPHDI_TRAILER_FOOTER_BYTES, &source.bytes, sizeof(source.bytes));
    *out = nphdi_hash_bytes(end, sizeof(end));
done:
    nphdi_source_close(&source);
    nphdi_free(allocator, path, room, 1);
    return status;
}

static void stamp_add(uint64_t *stamp, uint64_t number)
{
    const uint64_t both[2] = {*stamp, number};

    *stamp = nphdi_hash_bytes(both, sizeof(both));
}

nphd_status nphdi_directory_stamp(const nphd_io *io, const nphd_allocator *allocator,
                                  const char *path, nphdi_stamp *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_names names;
    nphdi_stamp stamp = {0, 0, false};

    memset(&names, 0, sizeof(names));
    TRY(nphdi_directory_list(io, path, allocator, &names, err));
    for (size_t i = 0; i < names.count; i++) {
        const char *name = names.names[i];
        uint64_t sequence;
        uint64_t file = 0;
        const bool journal = nphdi_journal_is_name(name, &sequence);
        if (!journal && !nphdi_directory_is_data(name)) {
            continue;
        }
        status = stamp_file(io, allocator, path, name, journal, &file, err);
        if (status == NPHD_NOT_FOUND) {
            status =
                nphdi_fail(err, NPHD_BUSY, "%s/%s: went away while it was looked at", path, name);
        }
        TRY(status);
        stamp.shards = stamp.shards || nphdi_shard_number(name) != NPHDI_NO_NUMBER;
        stamp_add(&stamp.commits, nphdi_hash_bytes(name, strlen(name)));
        stamp_add(&stamp.commits, file);
        stamp_add(&stamp.files, nphdi_hash_bytes(name, strlen(name)));
        stamp_add(&stamp.files, journal ? 0 : file);
    }
done:
    nphdi_names_free(&names);
    *out = stamp;
    return status;
}

/* ---- opening ---- */

nphd_status nphdi_sharded_open_reader(const char *path, const char *place,
                                      const nphd_sharded_options *options, nphd_sharded **out,
                                      nphd_error *err)
{
    nphd_status status = NPHD_OK;

    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        nphdi_stamp before;
        nphdi_stamp after;
        const nphd_status first =
            nphdi_directory_stamp(options->io, options->allocator, place, &before, err);
        if (first != NPHD_OK && first != NPHD_NOT_FOUND && first != NPHD_BUSY) {
            return first;
        }
        status = nphdi_sharded_open_once(path, place, options, out, err);
        if (status == NPHD_CANCELLED) {
            return status;
        }
        const nphd_status second =
            nphdi_directory_stamp(options->io, options->allocator, place, &after, NULL);
        /* a commit that is being written is no damage by the time it is written */
        const bool again =
            status == NPHD_CORRUPT && before.commits != after.commits && attempt + 1 < ATTEMPTS;
        /* a file that went away between being listed and looked at says nothing of the others; one
         * that came and went between the stamps was a journal that nobody committed to */
        if (first == second && first != NPHD_BUSY && before.files == after.files && !again &&
            !(status == NPHD_NOT_FOUND && before.shards && attempt + 1 < ATTEMPTS_FOR_A_NAME)) {
            if (status == NPHD_OK) {
                /* from before the journal was read: later commits are for a refresh */
                (*out)->stamp = before.commits;
            }
            return status;
        }
        nphd_sharded_free(*out);
        *out = NULL;
    }
    /* a name that leads nowhere is no file that changes */
    return status == NPHD_NOT_FOUND
               ? status
               : nphdi_fail(err, NPHD_BUSY, "%s: the files kept changing while they were opened",
                            path);
}

/* ---- refresh ---- */

#define SWAP(type, field)                                                                          \
    do {                                                                                           \
        type kept = a->field;                                                                      \
        a->field = b->field;                                                                       \
        b->field = kept;                                                                           \
    } while (0)

/* Exchanges what two readers have open. */
static void swap_content(nphd_sharded *a, nphd_sharded *b)
{
    SWAP(nphdi_rooted *, rooted);
    SWAP(const nphd_io *, io);
    SWAP(const nphd_io *, parameters.io);
    SWAP(nphdi_shard **, sealed);
    SWAP(nphdi_slot_table *, tables);
    SWAP(uint64_t, sealed_count);
    SWAP(uint64_t, sealed_room);
    SWAP(nphdi_group *, groups);
    SWAP(uint64_t, group_count);
    SWAP(nphd_index *, active);
    SWAP(uint32_t, next_number);
    SWAP(nphdi_bloom *, bloom);
    SWAP(nphdi_key_set, tombstones);
    SWAP(uint64_t, next_automatic);
    SWAP(nphd_unit, unit);
    SWAP(uint64_t, generation);
    SWAP(uint64_t, tombstone_file_bytes);
    SWAP(uint64_t, bloom_file_bytes);
    SWAP(uint32_t, parameters.connectivity);
    SWAP(uint32_t, parameters.build_breadth);
    SWAP(uint32_t, parameters.search_breadth);
    SWAP(nphdi_journal_file *, journal.files);
    SWAP(uint64_t, stamp);
}

/* As it was opened; what calls rely on without a lock stays as it is. */
static nphd_sharded_options options_again(const nphd_sharded *sharded)
{
    nphd_sharded_options options = sharded->options;

    options.max_bits = sharded->parameters.max_bits;
    options.key_bits = sharded->parameters.key_bits;
    options.metric = sharded->parameters.metric;
    options.multi = sharded->parameters.multi ? 2 : 1;
    options.connectivity = 0; /* it was told of */
    return options;
}

nphd_status nphd_sharded_refresh_with(nphd_sharded *sharded, const nphd_batch_options *options,
                                      bool *out_changed, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_batch_options known = NPHD_BATCH_OPTIONS_INIT;
    nphd_sharded_options again;
    nphd_sharded *fresh = NULL;
    nphdi_stamp stamp;

    nphdi_error_clear(err);
    if (out_changed != NULL) {
        *out_changed = false;
    }
    status = nphdi_options_read(options, sizeof(known), &known, "batch options", err);
    if (status == NPHD_OK) {
        status = nphdi_sharded_enter_change(sharded, "refresh", err);
    }
    if (status != NPHD_OK) {
        return status;
    }
    (void)pthread_mutex_lock(&sharded->change_lock);
    if (sharded->closed) {
        status = nphdi_fail(err, NPHD_CLOSED, "refresh: the index is closed");
        goto done;
    }
    if (!sharded->read_only) {
        goto done;
    }
    status =
        nphdi_directory_stamp(sharded->options.io, sharded->allocator, sharded->place, &stamp, err);
    if (status == NPHD_OK && stamp.commits == sharded->stamp) {
        goto done;
    }
    /* a file that was listed is gone: the writer is at work */
    TRY(status == NPHD_BUSY ? NPHD_OK : status);
    again = options_again(sharded);
    again.threads = known.threads != 0 ? known.threads : again.threads;
    again.progress = known.progress;
    again.progress_context = known.progress_context;
    TRY(nphdi_sharded_open_reader(sharded->path, sharded->place, &again, &fresh, err));
    nphdi_rwlock_write(&sharded->state_lock);
    swap_content(sharded, fresh);
    nphdi_rwlock_write_end(&sharded->state_lock);
    if (out_changed != NULL) {
        *out_changed = true;
    }
done:
    (void)pthread_mutex_unlock(&sharded->change_lock);
    nphd_sharded_free(fresh);
    return status;
}

nphd_status nphd_sharded_refresh(nphd_sharded *sharded, bool *out_changed, nphd_error *err)
{
    return nphd_sharded_refresh_with(sharded, NULL, out_changed, err);
}
