/* What is deleted, found out at opening.
 *
 * Normally the tombstone file of the newest generation says everything: the keys, and in its
 * trailer the dead entries. After a crash it may be of the generation before; the newest shard then
 * has the keys, and what it replaced is looked up. In a directory that the reference wrote last,
 * nothing says which entries are dead, so that all keys are gone over, newest shard first. */
#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "sharded/sharded_internal.h"

#include <errno.h>
#include <string.h>

/* Keys that are gone over at once: their set takes about 256 MiB. */
#define PASS_KEYS (1ULL << 22)

static nphd_status hide(nphdi_shard *shard, uint32_t slot, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(nphdi_shard_prepare_hiding(shard, err));
    (void)nphdi_hidden_set(&shard->hidden, slot);
done:
    return status;
}

/* ---- the tombstone file's own list ---- */

static nphd_status apply_shard(nphdi_shard *shard, const nphdi_hidden_head *head,
                               const uint8_t *words, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    if (head->slots != nphdi_index_slots(shard->index)) {
        return nphdi_fail(err, NPHD_CORRUPT,
                          NPHDI_TOMBSTONES_NAME ": dead entries of %llu slots, %s has %llu",
                          (unsigned long long)head->slots, nphdi_shard_name(shard),
                          (unsigned long long)nphdi_index_slots(shard->index));
    }
    for (uint64_t i = 0; i < (head->slots + 63) / 64; i++) {
        uint64_t word = nphdi_get64(words + 8 * i);
        for (; word != 0; word &= word - 1) {
            const uint64_t slot = 64 * i + (uint64_t)__builtin_ctzll(word);
            /* a bit without an entry would count as one that is dead */
            if (slot < head->slots &&
                nphdi_content_is_stored(shard->index->content, (uint32_t)slot)) {
                TRY(hide(shard, (uint32_t)slot, err));
            }
        }
    }
done:
    return status;
}

/* Applies what the file says of shards that are still as they were then. */
static nphd_status apply_hidden(nphd_sharded *sharded, const nphdi_tombstone_file *file,
                                nphd_error *err)
{
    nphd_status status = NPHD_OK;

    for (uint64_t offset = 0; offset < file->hidden_bytes;) {
        nphdi_hidden_head head;
        TRY(nphdi_hidden_decode_head(NPHDI_TOMBSTONES_NAME, file->hidden, file->hidden_bytes,
                                     offset, &head, err));
        nphdi_shard *shard = nphdi_sealed_numbered(sharded, head.number);
        if (shard != NULL && shard->generation == head.generation) {
            TRY(apply_shard(shard, &head, file->hidden + offset + NPHDI_HIDDEN_HEAD_BYTES, err));
        }
        offset += nphdi_hidden_bytes(head.slots);
    }
done:
    return status;
}

static nphd_status take_tombstones(nphd_sharded *sharded, const nphd_key *keys, uint64_t count,
                                   nphd_error *err)
{
    nphd_status status = NPHD_OK;

    nphdi_key_set_clear(&sharded->tombstones);
    TRY(nphdi_key_set_reserve(&sharded->tombstones, count, err));
    for (uint64_t i = 0; i < count; i++) {
        (void)nphdi_key_set_add(&sharded->tombstones, keys[i]);
    }
done:
    return status;
}

/* The tombstones that the newest shard carries in its trailer. */
static nphd_status take_carried(nphd_sharded *sharded, const nphdi_shard *newest, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    void *data = NULL;
    uint64_t bytes = 0;
    bool found = false;

    nphdi_key_set_clear(&sharded->tombstones);
    TRY(nphdi_index_read_section(sharded->io, sharded->allocator, newest->path,
                                 NPHDI_SECTION_TOMBSTONES, &found, &data, &bytes, err));
    if (bytes % sharded->key_bytes != 0) {
        status = nphdi_fail(err, NPHD_CORRUPT, "%s: trailer: %llu bytes of tombstones",
                            newest->path, (unsigned long long)bytes);
        goto done;
    }
    TRY(nphdi_key_set_reserve(&sharded->tombstones, bytes / sharded->key_bytes, err));
    for (uint64_t at = 0; at < bytes; at += sharded->key_bytes) {
        (void)nphdi_key_set_add(
            &sharded->tombstones,
            nphdi_key_from_file((const uint8_t *)data + at, sharded->key_bytes));
    }
done:
    nphdi_free(sharded->allocator, data, bytes, 1);
    return status;
}

/* ---- after a crash between shard and tombstones ---- */

typedef struct hiding {
    uint32_t below; /* entries of shards with smaller numbers are hidden */
    uint64_t found;
} hiding;

static nphd_status hide_older(void *context, nphdi_shard *shard, uint32_t slot, bool hidden,
                              nphd_error *err)
{
    nphd_status status = NPHD_OK;
    hiding *of = context;

    of->found++;
    if (!hidden && shard->number < of->below) {
        TRY(hide(shard, slot, err));
    }
done:
    return status;
}

/* A writer with salvage goes on where a lookup meets what cannot be read: it is to leave a
 * directory that opens, with deletions as far as they can be read. */
static bool is_passed_over(const nphd_sharded *sharded, nphd_status status)
{
    return status == NPHD_CORRUPT && sharded->salvage && !sharded->read_only;
}

static nphd_status hide_entries(nphd_sharded *sharded, nphd_key key, hiding *of, nphd_error *err)
{
    const nphd_status status = nphdi_sealed_entries(sharded, key, hide_older, of, err);

    if (is_passed_over(sharded, status)) {
        nphdi_error_clear(err);
        of->found++; /* it may have some */
        return NPHD_OK;
    }
    return status;
}

/* What a shard that is newer than the tombstone file replaced in older shards. */
static nphd_status hide_replaced(nphd_sharded *sharded, const nphdi_shard *shard,
                                 const nphdi_watch *watch, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t slots = nphdi_index_slots(shard->index);
    uint64_t passed_over = 0;

    for (uint64_t slot = 0; slot < slots; slot++) {
        hiding of = {shard->number, 0};
        nphd_key key;
        bool visible;
        bool stored;
        TRY(nphdi_watch_loop(watch, slot, slots, err));
        TRY(nphdi_salvage_key_at(sharded, shard->index, slot, &key, &visible, &stored, &passed_over,
                                 err));
        if (visible) {
            TRY(hide_entries(sharded, key, &of, err));
        }
    }
done:
    return status;
}

static nphd_status hide_deleted(nphd_sharded *sharded, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t place = 0;
    nphd_key key;

    while (nphdi_key_set_next(&sharded->tombstones, &place, &key)) {
        hiding of = {UINT32_MAX, 0};
        TRY(nphdi_watch_ask(sharded->watch, 0, 1, err));
        TRY(hide_entries(sharded, key, &of, err));
    }
done:
    return status;
}

static nphd_status catch_up(nphd_sharded *sharded, const nphdi_tombstone_file *file,
                            nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(apply_hidden(sharded, file, err));
    TRY(hide_deleted(sharded, err));
    for (uint64_t i = 0; !sharded->parameters.multi && i < sharded->sealed_count; i++) {
        const nphdi_watch part = nphdi_watch_part(sharded->watch, i, sharded->sealed_count);
        if (sharded->sealed[i]->generation > file->generation) {
            TRY(hide_replaced(sharded, sharded->sealed[i], &part, err));
        }
    }
done:
    return status;
}

/* ---- without anything to go by ---- */

/* One share of the keys of one shard: those that a newer shard has, or that are deleted, are dead.
 */
static nphd_status derive_shard(nphd_sharded *sharded, nphdi_shard *shard, bool deletions,
                                uint64_t pass, uint64_t passes, nphdi_key_set *seen,
                                const nphdi_watch *watch, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t slots = nphdi_index_slots(shard->index);
    uint64_t passed_over = 0;

    for (uint64_t slot = 0; slot < slots; slot++) {
        nphd_key key;
        bool visible;
        bool stored;
        TRY(nphdi_watch_loop(watch, slot, slots, err));
        TRY(nphdi_salvage_key_at(sharded, shard->index, slot, &key, &visible, &stored, &passed_over,
                                 err));
        if (!stored || (passes > 1 && nphdi_hash_key(key, sharded->key_bytes) % passes != pass)) {
            continue;
        }
        if (deletions && nphdi_key_set_has(&sharded->tombstones, key)) {
            TRY(hide(shard, (uint32_t)slot, err));
            continue;
        }
        TRY(nphdi_key_set_reserve(seen, 1, err));
        if (!nphdi_key_set_add(seen, key)) {
            TRY(hide(shard, (uint32_t)slot, err));
        }
    }
done:
    return status;
}

/* `spare_last`: the reference's tombstones do not touch the shard that was active. */
static nphd_status derive_all(nphd_sharded *sharded, bool spare_last, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_allocator *allocator = sharded->allocator;
    nphdi_key_set seen = {.allocator = allocator};
    uint64_t total = 0;
    uint64_t passes;

    if (sharded->parameters.multi || sharded->sealed_count == 0) {
        return NPHD_OK;
    }
    for (uint64_t i = 0; i < sharded->sealed_count; i++) {
        total += nphdi_index_stored(sharded->sealed[i]->index);
    }
    passes = total / PASS_KEYS + 1;
    for (uint64_t pass = 0; pass < passes; pass++) {
        nphdi_key_set_clear(&seen);
        for (uint64_t i = sharded->sealed_count; i > 0; i--) {
            const bool last = i == sharded->sealed_count;
            const nphdi_watch part =
                nphdi_watch_part(sharded->watch, (pass + 1) * sharded->sealed_count - i,
                                 passes * sharded->sealed_count);
            TRY(derive_shard(sharded, sharded->sealed[i - 1], !(last && spare_last), pass, passes,
                             &seen, &part, err));
        }
    }
done:
    nphdi_key_set_release(&seen);
    return status;
}

/* Invariant (2): drops tombstones of keys that are visible, or have no entry any more. */
static nphd_status settle_tombstones(nphd_sharded *sharded, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t place = 0;
    nphd_key key;

    while (nphdi_key_set_next(&sharded->tombstones, &place, &key)) {
        hiding of = {0, 0};
        nphdi_shard *visible;
        uint32_t slot;
        TRY(nphdi_watch_ask(sharded->watch, 1, 1, err));
        TRY(hide_entries(sharded, key, &of, err));
        status = nphdi_sealed_find(sharded, key, &visible, &slot, err);
        TRY(is_passed_over(sharded, status) ? NPHD_OK : status);
        if (visible != NULL || of.found == 0) {
            (void)nphdi_key_set_remove(&sharded->tombstones, key);
        }
    }
done:
    return status;
}

/* ---- the cases ---- */

static nphd_status recover_reference(nphd_sharded *sharded, const nphdi_tombstone_file *file,
                                     nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(take_tombstones(sharded, file->keys, file->count, err));
    if (sharded->sealed_count > 1 || file->count > 0) {
        TRY(derive_all(sharded, true, err));
    }
    TRY(settle_tombstones(sharded, err));
done:
    return status;
}

/* Our first save over files of the reference came to its shard and no further: the tombstones are
 * still the reference's, and what was deleted since stands in the shard alone. */
static nphd_status recover_first_save(nphd_sharded *sharded, const nphdi_shard *newest,
                                      nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(take_carried(sharded, newest, err));
    TRY(hide_deleted(sharded, err));
    TRY(derive_all(sharded, true, err));
    TRY(settle_tombstones(sharded, err));
    sharded->unsaved = true;
done:
    return status;
}

static nphd_status recover_missing(nphd_sharded *sharded, const nphdi_shard *newest, uint32_t flags,
                                   bool damaged, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    if (!damaged && (flags & NPHDI_RECORD_TOMBSTONES_BEFORE) != 0) {
        if (!sharded->salvage) {
            return nphdi_fail(err, NPHD_CORRUPT,
                              "%s/%s: missing, although %s says that it belongs here; with salvage "
                              "the deletions are taken from there",
                              sharded->path, NPHDI_TOMBSTONES_NAME, nphdi_shard_name(newest));
        }
        nphdi_sharded_damage(sharded, "%s: missing; deletions are taken from %s",
                             NPHDI_TOMBSTONES_NAME, nphdi_shard_name(newest));
    }
    TRY(take_carried(sharded, newest, err));
    TRY(derive_all(sharded, false, err));
    TRY(settle_tombstones(sharded, err));
    sharded->unsaved = true;
done:
    return status;
}

/* Shards were left out. What was deleted stays so; of what a lost shard replaced, the newest vector
 * that is left counts. */
static nphd_status recover_incomplete(nphd_sharded *sharded, const nphdi_shard *newest,
                                      const nphdi_tombstone_file *file, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    if (file->generation >= newest->generation) {
        TRY(take_tombstones(sharded, file->keys, file->count, err));
        /* generations only grow */
        atomic_store(&sharded->generation, file->generation);
    } else {
        TRY(take_carried(sharded, newest, err));
    }
    TRY(derive_all(sharded, false, err));
    TRY(settle_tombstones(sharded, err));
    sharded->unsaved = true;
done:
    return status;
}

static nphd_status recover_ours(nphd_sharded *sharded, const nphdi_shard *newest, uint32_t flags,
                                bool incomplete, const nphdi_tombstone_file *file, bool damaged,
                                nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_error why = NPHD_ERROR_INIT;

    if (file->generation > newest->generation) {
        (void)nphdi_fail(&why, NPHD_CORRUPT,
                         "%s/%s: of generation %llu, but the newest shard %s is of %llu: a shard "
                         "is missing or old",
                         sharded->path, NPHDI_TOMBSTONES_NAME, (unsigned long long)file->generation,
                         nphdi_shard_name(newest), (unsigned long long)newest->generation);
        if (!sharded->salvage) {
            nphdi_error_copy(err, &why);
            return NPHD_CORRUPT;
        }
        nphdi_sharded_damage(sharded, "%s", why.text);
        return recover_incomplete(sharded, newest, file, err);
    }
    if ((flags & NPHDI_RECORD_TOMBSTONES) == 0 && !incomplete) {
        /* nothing was deleted then; a file of an older generation goes with the next save */
        sharded->unsaved = file->found;
        return NPHD_OK;
    }
    if (!file->found || damaged) {
        return recover_missing(sharded, newest, flags, damaged, err);
    }
    if (incomplete) {
        return recover_incomplete(sharded, newest, file, err);
    }
    if (file->generation == newest->generation) {
        TRY(take_tombstones(sharded, file->keys, file->count, err));
        status = apply_hidden(sharded, file, &why);
        if (is_passed_over(sharded, status)) {
            nphdi_sharded_damage(sharded, "%s", why.text);
            return recover_missing(sharded, newest, flags, true, err);
        }
        if (status != NPHD_OK) {
            nphdi_error_copy(err, &why);
        }
        return status;
    }
    /* beside a writer that is saving that is so for a moment, and nothing to be told of */
    nphdi_log_write(&sharded->log, sharded->read_only ? NPHD_LOG_INFO : NPHD_LOG_WARNING,
                    "%s: %s is of an older save; deletions are taken from %s", sharded->path,
                    NPHDI_TOMBSTONES_NAME, nphdi_shard_name(newest));
    TRY(take_carried(sharded, newest, err));
    TRY(catch_up(sharded, file, err));
    TRY(settle_tombstones(sharded, err));
    sharded->unsaved = true;
done:
    return status;
}

nphd_status nphdi_sharded_recover(nphd_sharded *sharded, const nphdi_shard *newest, uint32_t flags,
                                  bool incomplete, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_tombstone_file file;
    nphd_error why = NPHD_ERROR_INIT;
    bool damaged = false;

    status = nphdi_tombstones_load(sharded, &file, &why);
    sharded->tombstone_file_bytes = file.file_bytes;
    if (status != NPHD_OK) {
        damaged = sharded->salvage &&
                  (status == NPHD_CORRUPT || status == NPHD_UNSUPPORTED || status == NPHD_MISMATCH);
        if (!damaged) {
            nphdi_error_copy(err, &why);
            goto done;
        }
        nphdi_sharded_damage(sharded, "%s", why.text);
    }
    if (newest == NULL) {
        status = recover_reference(sharded, &file, err);
    } else if (file.found && !damaged && !file.trailer) {
        status = recover_first_save(sharded, newest, err);
    } else {
        status = recover_ours(sharded, newest, flags, incomplete, &file, damaged, err);
    }
done:
    nphdi_tombstones_release(sharded, &file);
    return status;
}

/* ---- what a process that died left unflushed ---- */

static nphd_status flush_journal(const nphd_sharded *sharded, const char *path, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_file file;
    uint64_t bytes;
    int failed;

    TRY(nphdi_file_open(sharded->io, path, &file, &bytes, err));
    failed = sharded->io->sync(sharded->io->context, file);
    if (failed != 0) {
        status = nphdi_fail_os(err, failed, "%s: cannot flush the file", path);
    }
    (void)sharded->io->close(sharded->io->context, file); /* only read from */
done:
    return status;
}

nphd_status nphdi_sharded_settle(const nphd_sharded *sharded, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    int failed;

    if (atomic_load(&sharded->newest_generation) == 0) {
        return NPHD_OK;
    }
    for (const nphdi_journal_file *file = sharded->journal.files; file != NULL; file = file->next) {
        TRY(flush_journal(sharded, file->path, err));
    }
    failed = sharded->io->sync_directory(sharded->io->context, sharded->path);
    if (failed != 0 && failed != EINVAL) {
        status = nphdi_fail_os(err, failed, "%s: cannot flush the directory", sharded->path);
    }
done:
    return status;
}
