/* Opening a directory: which files are its shards, what they say of the parameters, and the order
 * in which all else is read. */
#include "base/error.h"
#include "base/seeded_bug.h"
#include "platform/interrupt.h"
#include "sharded/sharded_opening.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* A dot, ten digits and the closing zero. */
#define ASIDE_ROOM 12

/* ---- names ---- */

static bool has_part(const char *name, const char *part)
{
    return strstr(name, part) != NULL;
}

static nphd_status remove_temporary(const nphd_sharded *sharded, const char *name, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_error why = NPHD_ERROR_INIT;
    char *path = NULL;
    size_t room = 0;

    TRY(nphdi_path_join(sharded->allocator, sharded->path, name, &path, &room, err));
    status = nphdi_file_remove(sharded->io, path, false, &why);
    if (why.os_error == EISDIR || why.os_error == EPERM) {
        nphdi_log_write(&sharded->log, NPHD_LOG_WARNING, "%s: left alone, a folder of such a name",
                        path);
        status = NPHD_OK;
    } else if (status == NPHD_OK) {
        nphdi_log_write(&sharded->log, NPHD_LOG_WARNING,
                        "%s: removed, left by an interrupted write", path);
    } else {
        nphdi_error_copy(err, &why);
    }
done:
    nphdi_free(sharded->allocator, path, room, 1);
    return status;
}

/* ---- shards ---- */

static void note_parameters(nphd_sharded *sharded, const nphd_index *index)
{
    const nphdi_shape *shape = &index->content->shape;

    sharded->parameters.max_bits = shape->payload_bytes * 8;
    sharded->parameters.key_bits = shape->key_bytes * 8;
    sharded->parameters.metric = shape->metric;
    sharded->parameters.multi = shape->multi;
    sharded->key_bytes = shape->key_bytes;
    if (index->content->mapped.head.slots > 0) {
        sharded->parameters.connectivity = shape->connectivity;
    }
}

/* The first shard must be what the caller asked for, the others must be like the first. */
static nphd_status map_shard(nphdi_opening *of, nphdi_shard *shard, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded *sharded = of->sharded;
    nphd_open_options first = NPHD_OPEN_OPTIONS_INIT;

    if (sharded->sealed_count > 0 || of->parameters_known) {
        TRY(nphdi_shard_map(sharded, shard, &shard->index, err));
    } else {
        first.max_bits = of->options->max_bits;
        first.key_bits = of->options->key_bits;
        first.metric = of->options->metric;
        first.multi = of->options->multi;
        first.allocator = sharded->allocator;
        first.io = sharded->io;
        TRY(nphdi_index_view_shard(shard->path, &first, &shard->index, err));
    }
    note_parameters(sharded, shard->index);
    of->parameters_known = true;
    shard->file_bytes = shard->index->content->mapped.bytes;
    if (shard->index->content->mapped.has_trailer &&
        nphdi_trailer_find(&shard->index->content->mapped.trailer, NPHDI_SECTION_SHARDS) != NULL) {
        shard->generation = shard->index->generation;
    }
done:
    return status;
}

static nphd_status is_there(const nphd_sharded *sharded, const char *path, bool *out,
                            nphd_error *err)
{
    nphd_file file;
    uint64_t bytes;
    nphd_status status = nphdi_file_open(sharded->io, path, &file, &bytes, err);

    *out = status == NPHD_OK;
    if (*out) {
        (void)sharded->io->close(sharded->io->context, file); /* not even read from */
    } else if (status == NPHD_NOT_FOUND) {
        nphdi_error_clear(err);
        status = NPHD_OK;
    }
    return status;
}

nphd_status nphdi_sharded_set_aside(const nphd_sharded *sharded, const char *path, const char *why,
                                    nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const size_t room = strlen(path) + 1 + strlen(why) + ASIDE_ROOM;
    char *aside = NULL;
    bool taken = true;
    int failed;

    if (sharded->read_only) {
        return NPHD_OK;
    }
    TRY(nphdi_alloc(sharded->allocator, room, 1, &aside, err));
    (void)snprintf(aside, room, "%s.%s", path, why);
    TRY(is_there(sharded, aside, &taken, err));
    for (uint32_t number = 2; taken; number++) {
        (void)snprintf(aside, room, "%s.%s.%u", path, why, number);
        TRY(is_there(sharded, aside, &taken, err));
    }
    failed = sharded->io->rename(sharded->io->context, path, aside);
    if (failed != 0) {
        status = nphdi_fail_os(err, failed, "%s: rename to %s", path, aside);
        goto done;
    }
    nphdi_log_write(&sharded->log, NPHD_LOG_WARNING, "%s: kept as %s", path, aside);
done:
    nphdi_free(sharded->allocator, aside, room, 1);
    return status;
}

static nphd_status open_shard(nphdi_opening *of, uint32_t number, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded *sharded = of->sharded;
    nphdi_shard *shard = NULL;
    nphd_error why = NPHD_ERROR_INIT;

    TRY(nphdi_sealed_reserve(sharded, 1, err));
    TRY(nphdi_shard_create(sharded, number, &shard, err));
    status = map_shard(of, shard, &why);
    if (status == NPHD_OK) {
        sharded->sealed[sharded->sealed_count++] = shard;
        shard = NULL;
    } else if (sharded->salvage && (status == NPHD_CORRUPT || status == NPHD_UNSUPPORTED ||
                                    (status == NPHD_MISMATCH && of->parameters_known))) {
        nphdi_sharded_damage(sharded, "%s: left out", why.text);
        of->damaged++;
        status = nphdi_sharded_set_aside(sharded, shard->path, "damaged", err);
    } else {
        nphdi_error_copy(err, &why);
    }
done:
    nphdi_shard_close(shard);
    return status;
}

/* What is no shard and looks like one, and what interrupted writes left. */
static nphd_status tidy_names(const nphdi_opening *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_sharded *sharded = of->sharded;

    for (size_t i = 0; i < of->names.count; i++) {
        const char *name = of->names.names[i];
        if (nphdi_shard_number(name) != NPHDI_NO_NUMBER) {
            continue;
        }
        if (nphdi_directory_is_temporary(name)) {
            TRY(sharded->read_only && !NPHDI_BUG(22) ? NPHD_OK
                                                     : remove_temporary(sharded, name, err));
        } else if (strncmp(name, "shard_", 6) == 0 && !has_part(name, ".damaged")) {
            nphdi_log_write(&sharded->log, NPHD_LOG_WARNING,
                            "%s/%s: not the name of a shard, ignored", sharded->path, name);
        }
    }
done:
    return status;
}

/* Salvage takes the parameters from the shard that was saved last, as the first may be the one that
 * does not belong here. */
static nphd_status settle_parameters(nphdi_opening *of, const uint32_t *numbers, size_t count,
                                     nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded *sharded = of->sharded;
    const nphd_sharded_options *asked = of->options;
    nphd_metadata best = NPHD_METADATA_INIT;

    for (size_t i = 0; i < count; i++) {
        nphd_metadata found = NPHD_METADATA_INIT;
        char *path = NULL;
        size_t room = 0;
        TRY(nphdi_shard_path(sharded->allocator, sharded->path, numbers[i], &path, &room, err));
        /* one that cannot be read is told of when it is opened */
        if (nphd_file_metadata(path, sharded->io, &found, NULL) == NPHD_OK &&
            found.metric != NPHD_METRIC_DEFAULT && found.generation >= best.generation) {
            best = found;
        }
        nphdi_free(sharded->allocator, path, room, 1);
    }
    if (best.metric == NPHD_METRIC_DEFAULT ||
        (asked->max_bits != 0 && asked->max_bits != best.max_bits) ||
        (asked->key_bits != 0 && asked->key_bits != best.key_bits) ||
        (asked->metric != NPHD_METRIC_DEFAULT && asked->metric != best.metric) ||
        (asked->multi != 0 && (asked->multi == 2) != best.multi)) {
        return NPHD_OK; /* the caller wants another index: the first shard says so */
    }
    sharded->parameters.max_bits = best.max_bits;
    sharded->parameters.key_bits = best.key_bits;
    sharded->parameters.metric = best.metric;
    sharded->parameters.multi = best.multi;
    of->parameters_known = true;
done:
    return status;
}

static nphd_status open_shards(nphdi_opening *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_sharded *sharded = of->sharded;
    uint32_t *numbers = NULL;
    size_t count = 0;

    TRY(tidy_names(of, err));
    TRY(nphdi_shard_numbers(sharded->allocator, &of->names, &numbers, &count, err));
    TRY(sharded->salvage ? settle_parameters(of, numbers, count, err) : NPHD_OK);
    for (size_t i = 0; i < count; i++) {
        TRY(nphdi_watch_ask(sharded->watch, i, count, err));
        TRY(open_shard(of, numbers[i], err));
        of->last_number = numbers[i];
    }
done:
    nphdi_free(sharded->allocator, numbers, of->names.count, sizeof(*numbers));
    return status;
}

/* ---- parameters ---- */

/* That of the files counts, as with breadths. */
static void tell_connectivity(const nphdi_opening *of)
{
    const nphd_sharded *sharded = of->sharded;
    const uint32_t asked = of->options->connectivity;

    for (uint64_t i = 0; asked != 0 && i < sharded->sealed_count; i++) {
        const nphdi_shard *shard = sharded->sealed[i];
        const uint32_t stored = shard->index->content->shape.connectivity;
        if (nphdi_index_slots(shard->index) > 0 && stored != asked) {
            nphdi_log_write(&sharded->log, NPHD_LOG_WARNING,
                            "%s: connectivity is %u, and stays so, although %u was asked for",
                            shard->path, stored, asked);
            return;
        }
    }
}

/* The breadths of the newest file of ours, unless the caller names others; and where automatic keys
 * go on. */
static void take_settings(nphdi_opening *of)
{
    nphd_sharded *sharded = of->sharded;
    const nphd_index *newest = of->newest != NULL ? of->newest->index : NULL;
    nphd_index_options *parameters = &sharded->parameters;

    if (parameters->build_breadth == 0 && newest != NULL) {
        parameters->build_breadth = atomic_load(&newest->build_breadth);
    }
    if (parameters->search_breadth == 0 && newest != NULL) {
        parameters->search_breadth = atomic_load(&newest->search_breadth);
    }
    for (uint64_t i = 0; i < sharded->sealed_count; i++) {
        nphd_index *index = sharded->sealed[i]->index;
        const uint64_t next = index->content->next_automatic;
        sharded->next_automatic = next > sharded->next_automatic ? next : sharded->next_automatic;
        /* options and files are checked: these are in range */
        (void)nphd_index_set_breadth(index, parameters->build_breadth, parameters->search_breadth,
                                     NULL);
    }
    atomic_store(&sharded->unit, nphdi_sharded_unit_of_shards(sharded));
    tell_connectivity(of);
}

/* An index in memory for what comes; also tells which defaults the parameters took. */
static nphd_status make_active(nphd_sharded *sharded, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_shape *shape;

    TRY(nphd_index_create(&sharded->parameters, &sharded->active, err));
    shape = &sharded->active->content->shape;
    sharded->parameters.max_bits = shape->payload_bytes * 8;
    sharded->parameters.key_bits = shape->key_bytes * 8;
    sharded->parameters.metric = shape->metric;
    sharded->parameters.connectivity = shape->connectivity;
    sharded->parameters.build_breadth = atomic_load(&sharded->active->build_breadth);
    sharded->parameters.search_breadth = atomic_load(&sharded->active->search_breadth);
    sharded->key_bytes = shape->key_bytes;
done:
    return status;
}

/* ---- the bloom filter ---- */

static nphd_status open_bloom(nphdi_opening *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded *sharded = of->sharded;
    const uint64_t newest = of->newest != NULL ? of->newest->generation : 0;
    const bool foreign = of->reference && of->filter.author == NPHDI_AUTHOR_REFERENCE;
    bool usable = false;
    uint64_t keys = 0;

    TRY(nphdi_bloom_load(sharded, newest, foreign, &usable, err));
    /* a filter that is not kept up would hide keys from whoever uses it next */
    sharded->bloom_unsaved =
        !sharded->want_bloom && !sharded->read_only && sharded->bloom_file_bytes > 0;
    if (usable || sharded->read_only || !sharded->want_bloom) {
        return NPHD_OK;
    }
    TRY(nphdi_bloom_make(sharded, &sharded->bloom, &keys, err));
    sharded->bloom_valid_from = newest;
    /* that of the reference stays as it is until something changes */
    sharded->bloom_unsaved = !foreign;
    if (sharded->sealed_count > 0) {
        nphdi_log_write(&sharded->log, sharded->bloom_unsaved ? NPHD_LOG_WARNING : NPHD_LOG_INFO,
                        "%s/%s: made anew from %llu keys", sharded->path, NPHDI_BLOOM_NAME,
                        (unsigned long long)keys);
    }
done:
    return status;
}

/* ---- the whole ---- */

static nphd_status new_identity(nphd_sharded *sharded, nphd_error *err)
{
    static const uint8_t none[16] = {0};
    int failed = 0;

    if (memcmp(sharded->identity, none, sizeof(none)) == 0) {
        NPHDI_REPEAT_INTERRUPTED(failed,
                                 sharded->io->random(sharded->io->context, sharded->identity, 16));
    }
    return failed == 0 ? NPHD_OK : nphdi_fail_os(err, failed, "%s: random identity", sharded->path);
}

/* Where the parts of opening end, for whom is told how far it is: journals, where there are some,
 * take the longest by far. */
enum { PART_SHARDS = 1, PART_DELETIONS = 2, PART_FILTER = 3, PART_JOURNALS = 10, PARTS = 10 };

/* From now on the stretch from `begin` to `end` is under way. */
static nphd_status enter_part(nphdi_opening *of, const nphdi_watch *whole, uint64_t begin,
                              uint64_t end, nphd_error *err)
{
    of->part = nphdi_watch_stretch(whole, begin, end, PARTS);
    of->sharded->watch = &of->part;
    return nphdi_watch_ask(&of->part, 0, 1, err);
}

static nphd_status load_files(nphdi_opening *of, const nphdi_watch *whole, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded *sharded = of->sharded;

    TRY(enter_part(of, whole, 0, PART_SHARDS, err));
    TRY(nphdi_lock_head_read(sharded->io, sharded->allocator, sharded->path, &of->head,
                             &of->head_state, err));
    TRY(nphdi_directory_list(sharded->io, sharded->path, sharded->allocator, &of->names, err));
    TRY(open_shards(of, err));
    nphdi_sealed_refresh(sharded);
    if (sharded->read_only && sharded->sealed_count == 0) {
        status = nphdi_fail(err, NPHD_NOT_FOUND, "%s: read_only, but there are no shards",
                            sharded->path);
        goto done;
    }
    TRY(nphdi_opening_read_record(of, err));
    TRY(nphdi_opening_check_record(of, err));
    TRY(nphdi_opening_check_head(of, err));
    take_settings(of);
    TRY(make_active(sharded, err));
    TRY(enter_part(of, whole, PART_SHARDS, PART_DELETIONS, err));
    TRY(nphdi_sharded_recover(sharded, of->reference ? NULL : of->newest, of->flags,
                              of->damaged > 0, err));
    atomic_store(&sharded->over_reference, of->reference && sharded->sealed_count > 0);
    TRY(enter_part(of, whole, PART_DELETIONS, PART_FILTER, err));
    TRY(open_bloom(of, err));
    TRY(new_identity(sharded, err));
    memcpy(sharded->lock.head.identity, sharded->identity, sizeof(sharded->identity));
    sharded->next_number = of->last_number == NPHDI_NO_NUMBER ? 0 : of->last_number + 1;
    sharded->unsaved = sharded->unsaved || of->damaged > 0;
    if (sharded->sealed_count > 0) {
        const nphdi_shard *last = sharded->sealed[sharded->sealed_count - 1];
        /* a reader never writes it, and hides entries where they are */
        sharded->head_waits = !sharded->read_only && last->number + 1 == sharded->next_number &&
                              nphdi_index_foreign_bytes(last->index) <= sharded->shard_bytes;
        sharded->record_is_right = !of->reference && last == of->newest &&
                                   (of->flags & NPHDI_RECORD_TOMBSTONES) == 0 && of->damaged == 0;
    }
    TRY(enter_part(of, whole, PART_FILTER, PART_JOURNALS, err));
    for (size_t i = 0; i < of->names.count; i++) {
        sharded->journal.unapplied += nphdi_journal_is_unapplied(of->names.names[i]) ? 1 : 0;
    }
    TRY(nphdi_journal_replay(sharded, &of->names, of->base, of->reference, of->options->threads,
                             err));
    if (sharded->read_only) {
        atomic_store(&sharded->dirty, 0);
    } else {
        TRY(NPHDI_BUG(23) ? NPHD_OK : nphdi_sharded_settle(sharded, err));
    }
done:
    return status;
}

nphd_status nphdi_sharded_load(nphd_sharded *sharded, const nphd_sharded_options *options,
                               nphd_error *err)
{
    nphd_status status;
    nphdi_opening of;
    const nphdi_watch *whole = sharded->watch;

    memset(&of, 0, sizeof(of));
    of.sharded = sharded;
    of.options = options;
    of.last_number = NPHDI_NO_NUMBER;
    status = load_files(&of, whole, err);
    sharded->watch = whole;
    nphdi_free(sharded->allocator, of.record, of.record_bytes, 1);
    nphdi_names_free(&of.names);
    return status;
}
