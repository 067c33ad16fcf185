/* Opening a directory: which files are its shards, and whether they belong together.
 *
 * The shard with the highest generation has the record of the last save: the list of all shards
 * with their generations. A listed shard that is missing or of another generation is an error; one
 * that is not listed and older is what an interrupted compaction left. The reference keeps no such
 * list; a directory that it wrote last is taken as it is. */
#include "base/error.h"
#include "base/seeded_bug.h"
#include "platform/interrupt.h"
#include "sharded/sharded_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What opening finds out on its way. */
typedef struct opening {
    nphd_sharded *sharded;
    const nphd_sharded_options *options;
    nphdi_names names;
    uint32_t last_number; /* the highest that any file has; NPHDI_NO_NUMBER: none */
    uint64_t damaged;
    nphdi_shard *newest; /* with the record in force; NULL: none */
    uint8_t *record;
    uint64_t record_bytes;
    uint32_t flags;
    uint32_t listed;
    bool reference; /* the reference wrote here last */
} opening;

/* ---- names ---- */

static bool has_part(const char *name, const char *part)
{
    return strstr(name, part) != NULL;
}

/* Temporary files of ours and of the reference. */
static bool is_temporary(const char *name)
{
    return has_part(name, ".usearch.tmp") || has_part(name, ".isbf.tmp") ||
           has_part(name, ".npy.tmp") || has_part(name, ".usearch.compact");
}

static nphd_status remove_temporary(const nphd_sharded *sharded, const char *name, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    char *path = NULL;
    size_t room = 0;

    TRY(nphdi_path_join(sharded->allocator, sharded->path, name, &path, &room, err));
    nphdi_log_write(&sharded->log, NPHD_LOG_WARNING, "%s: removed, left by an interrupted write",
                    path);
    TRY(nphdi_file_remove(sharded->io, path, false, err));
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
static nphd_status map_shard(opening *of, nphdi_shard *shard, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded *sharded = of->sharded;
    nphd_open_options first = NPHD_OPEN_OPTIONS_INIT;

    if (sharded->sealed_count > 0) {
        TRY(nphdi_shard_map(sharded, shard, &shard->index, err));
    } else {
        first.max_bits = of->options->max_bits;
        first.key_bits = of->options->key_bits;
        first.metric = of->options->metric;
        first.multi = of->options->multi;
        first.allocator = sharded->allocator;
        first.io = sharded->io;
        TRY(nphd_index_restore(shard->path, true, &first, &shard->index, err));
    }
    note_parameters(sharded, shard->index);
    shard->file_bytes = shard->index->content->mapped.bytes;
    if (shard->index->content->mapped.has_trailer &&
        nphdi_trailer_find(&shard->index->content->mapped.trailer, NPHDI_SECTION_SHARDS) != NULL) {
        shard->generation = shard->index->generation;
    }
done:
    return status;
}

nphd_status nphdi_sharded_set_aside(const nphd_sharded *sharded, const char *path, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const size_t room = strlen(path) + sizeof(".damaged");
    char *aside = NULL;
    int failed;

    if (sharded->read_only) {
        return NPHD_OK;
    }
    TRY(nphdi_alloc(sharded->allocator, room, 1, &aside, err));
    (void)snprintf(aside, room, "%s.damaged", path);
    failed = sharded->io->rename(sharded->io->context, path, aside);
    if (failed != 0) {
        status = nphdi_fail_os(err, failed, "%s: rename to %s", path, aside);
    }
done:
    nphdi_free(sharded->allocator, aside, room, 1);
    return status;
}

static nphd_status open_shard(opening *of, uint32_t number, nphd_error *err)
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
    } else if (sharded->salvage && (status == NPHD_CORRUPT || status == NPHD_UNSUPPORTED)) {
        nphdi_sharded_damage(sharded, "%s: left out", why.text);
        of->damaged++;
        status = nphdi_sharded_set_aside(sharded, shard->path, err);
    } else {
        nphdi_error_copy(err, &why);
    }
done:
    nphdi_shard_close(shard);
    return status;
}

/* What is no shard and looks like one, and what interrupted writes left. */
static nphd_status tidy_names(const opening *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_sharded *sharded = of->sharded;

    for (size_t i = 0; i < of->names.count; i++) {
        const char *name = of->names.names[i];
        if (nphdi_shard_number(name) != NPHDI_NO_NUMBER) {
            continue;
        }
        if (is_temporary(name)) {
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

static nphd_status open_shards(opening *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_sharded *sharded = of->sharded;
    uint32_t *numbers = NULL;
    size_t count = 0;

    TRY(tidy_names(of, err));
    TRY(nphdi_shard_numbers(sharded->allocator, &of->names, &numbers, &count, err));
    for (size_t i = 0; i < count; i++) {
        TRY(open_shard(of, numbers[i], err));
        of->last_number = numbers[i];
    }
done:
    nphdi_free(sharded->allocator, numbers, of->names.count, sizeof(*numbers));
    return status;
}

/* ---- the record ---- */

/* Did the reference write the bloom filter, as it does in each of its saves? */
static nphd_status look_at_bloom(opening *of, bool *out_reference, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded *sharded = of->sharded;
    nphdi_trailer trailer;
    char *path = NULL;
    size_t room = 0;
    bool found = false;
    nphd_error why = NPHD_ERROR_INIT;

    *out_reference = false;
    TRY(nphdi_path_join(sharded->allocator, sharded->path, NPHDI_BLOOM_NAME, &path, &room, err));
    status = nphdi_file_trailer(sharded->io, path, &trailer, &found, &why);
    *out_reference = status == NPHD_OK && !found;
    /* a missing or damaged one is made anew later; what cannot be read at all is an error */
    if (status == NPHD_CORRUPT || status == NPHD_UNSUPPORTED || status == NPHD_NOT_FOUND) {
        status = NPHD_OK;
    } else if (status != NPHD_OK) {
        nphdi_error_copy(err, &why);
    }
done:
    nphdi_free(sharded->allocator, path, room, 1);
    return status;
}

static uint64_t listed_number_at(const void *record, uint64_t place)
{
    return nphdi_record_shard_at(record, (uint32_t)place).number;
}

/* What the record, whose list is in order, says of a shard. */
static bool find_listed(const opening *of, uint32_t number, nphdi_record_shard *out)
{
    const uint64_t place = nphdi_first_from(of->record, of->listed, number, listed_number_at);

    if (place < of->listed) {
        *out = nphdi_record_shard_at(of->record, (uint32_t)place);
    }
    return place < of->listed && out->number == number;
}

static nphdi_shard *find_newest(const nphd_sharded *sharded)
{
    nphdi_shard *newest = NULL;

    for (uint64_t i = 0; i < sharded->sealed_count; i++) {
        nphdi_shard *shard = sharded->sealed[i];
        if (shard->generation > 0 && (newest == NULL || shard->generation > newest->generation)) {
            newest = shard;
        }
    }
    return newest;
}

/* Takes a shard out of the list and closes it. */
static void take_out(nphd_sharded *sharded, nphdi_shard *shard)
{
    uint64_t place = 0;

    while (sharded->sealed[place] != shard) {
        place++;
    }
    memmove(&sharded->sealed[place], &sharded->sealed[place + 1],
            (sharded->sealed_count - place - 1) * sizeof(nphdi_shard *));
    sharded->sealed_count--;
    nphdi_sealed_refresh(sharded);
    nphdi_shard_close(shard);
}

/* Salvage goes on without a shard that is damaged or does not belong here; else this is an error.
 */
static nphd_status leave_out(opening *of, nphdi_shard *shard, nphd_status why_status,
                             const nphd_error *why, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded *sharded = of->sharded;

    if (!sharded->salvage || (why_status != NPHD_CORRUPT && why_status != NPHD_MISMATCH &&
                              why_status != NPHD_UNSUPPORTED)) {
        nphdi_error_copy(err, why);
        return why_status;
    }
    nphdi_sharded_damage(sharded, "%s: left out", why->text);
    of->damaged++;
    TRY(nphdi_sharded_set_aside(sharded, shard->path, err));
    take_out(sharded, shard);
done:
    return status;
}

/* The record of the newest shard must list that shard: a copy under another number does not. */
static nphd_status read_own_record(opening *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_sharded *sharded = of->sharded;
    const nphdi_shard *newest = of->newest;
    nphdi_record_shard entry;
    void *record = NULL;
    bool found = false;

    nphdi_free(sharded->allocator, of->record, of->record_bytes, 1);
    of->record = NULL;
    TRY(nphdi_index_read_section(sharded->io, sharded->allocator, newest->path,
                                 NPHDI_SECTION_SHARDS, &found, &record, &of->record_bytes, err));
    of->record = record;
    TRY(nphdi_record_decode_head(newest->path, of->record, of->record_bytes, &of->flags,
                                 &of->listed, err));
    if (!of->reference &&
        (!find_listed(of, newest->number, &entry) || entry.generation != newest->generation)) {
        status = nphdi_fail(err, NPHD_MISMATCH,
                            "%s: does not list itself, a copy of another shard; move it away",
                            newest->path);
    }
done:
    return status;
}

static nphd_status read_record(opening *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded *sharded = of->sharded;
    bool bloom_reference = false;

    for (bool settled = false; !settled;) {
        nphd_error why = NPHD_ERROR_INIT;
        of->newest = find_newest(sharded);
        if (of->newest == NULL) {
            of->reference = sharded->sealed_count > 0;
            return NPHD_OK;
        }
        memcpy(sharded->identity, of->newest->index->identity, sizeof(sharded->identity));
        atomic_store(&sharded->generation, of->newest->generation);
        atomic_store(&sharded->newest_generation, of->newest->generation);
        TRY(look_at_bloom(of, &bloom_reference, err));
        of->reference =
            sharded->sealed[sharded->sealed_count - 1]->generation == 0 || bloom_reference;
        status = read_own_record(of, &why);
        settled = status == NPHD_OK;
        if (!settled) {
            TRY(leave_out(of, of->newest, status, &why, err));
        }
    }
done:
    return status;
}

/* A shard that the record does not list: what an interrupted compaction or reset left, if it is
 * one of ours. */
static nphd_status drop_unlisted(const opening *of, nphdi_shard *shard, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded *sharded = of->sharded;

    if (shard->generation == 0 || shard->generation > of->newest->generation ||
        memcmp(shard->index->identity, sharded->identity, sizeof(sharded->identity)) != 0) {
        return nphdi_fail(err, NPHD_MISMATCH,
                          "%s: not one of the shards that %s lists; move it away", shard->path,
                          nphdi_shard_name(of->newest));
    }
    if (!sharded->read_only) {
        nphdi_log_write(&sharded->log, NPHD_LOG_WARNING,
                        "%s: removed, replaced by a newer shard before an interruption",
                        shard->path);
        TRY(nphdi_file_remove(sharded->io, shard->path, true, err));
    }
    take_out(sharded, shard);
done:
    return status;
}

/* A shard behind all that the record lists was the active one while older ones were built anew. Its
 * own record is older and lists it, which that of a copy or of another index does not. */
static nphd_status check_behind(const opening *of, const nphdi_shard *shard, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_sharded *sharded = of->sharded;
    opening own;
    nphdi_record_shard entry;
    void *record = NULL;
    bool found = false;

    memset(&own, 0, sizeof(own));
    TRY(nphdi_index_read_section(sharded->io, sharded->allocator, shard->path, NPHDI_SECTION_SHARDS,
                                 &found, &record, &own.record_bytes, err));
    own.record = record;
    TRY(nphdi_record_decode_head(shard->path, own.record, own.record_bytes, &own.flags, &own.listed,
                                 err));
    if (shard->generation >= of->newest->generation ||
        memcmp(shard->index->identity, sharded->identity, sizeof(sharded->identity)) != 0 ||
        !find_listed(&own, shard->number, &entry) || entry.generation != shard->generation) {
        status =
            nphdi_fail(err, NPHD_MISMATCH, "%s: not one of the shards that %s lists; move it away",
                       shard->path, nphdi_shard_name(of->newest));
    }
done:
    nphdi_free(sharded->allocator, own.record, own.record_bytes, 1);
    return status;
}

static nphd_status check_listed(const opening *of, const nphdi_shard *shard,
                                const nphdi_record_shard *listed, nphd_error *err)
{
    const nphd_sharded *sharded = of->sharded;

    if (shard->generation != listed->generation) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: of generation %llu, but %s lists generation %llu",
                          shard->path, (unsigned long long)shard->generation,
                          nphdi_shard_name(of->newest), (unsigned long long)listed->generation);
    }
    if (shard->generation > 0 &&
        memcmp(shard->index->identity, sharded->identity, sizeof(sharded->identity)) != 0) {
        return nphdi_fail(err, NPHD_MISMATCH, "%s: belongs to another index than %s", shard->path,
                          nphdi_shard_name(of->newest));
    }
    return NPHD_OK;
}

/* Every listed shard must be there. */
static nphd_status check_missing(opening *of, nphd_error *err)
{
    nphd_sharded *sharded = of->sharded;
    uint64_t at = 0;

    for (uint32_t i = 0; i < of->listed; i++) {
        const nphdi_record_shard listed = nphdi_record_shard_at(of->record, i);
        while (at < sharded->sealed_count && sharded->sealed[at]->number < listed.number) {
            at++;
        }
        if (at < sharded->sealed_count && sharded->sealed[at]->number == listed.number) {
            continue;
        }
        if (!sharded->salvage) {
            return nphdi_fail(err, NPHD_CORRUPT,
                              "%s: shard_%03u.usearch is missing, although %s lists it; salvage "
                              "opens the rest",
                              sharded->path, listed.number, nphdi_shard_name(of->newest));
        }
        nphdi_sharded_damage(sharded, "shard_%03u.usearch: missing", listed.number);
        of->damaged++;
    }
    return NPHD_OK;
}

/* One shard against the record; one that is not listed may go. */
static nphd_status check_shard(const opening *of, nphdi_shard *shard, uint32_t last_listed,
                               nphd_error *err)
{
    nphdi_record_shard listed;

    if (find_listed(of, shard->number, &listed)) {
        return check_listed(of, shard, &listed, err);
    }
    return shard->number < last_listed ? drop_unlisted(of, shard, err)
                                       : check_behind(of, shard, err);
}

static nphd_status check_record(opening *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded *sharded = of->sharded;
    uint32_t last_listed;

    if (of->reference || of->newest == NULL || of->listed == 0) {
        return NPHD_OK;
    }
    last_listed = nphdi_record_shard_at(of->record, of->listed - 1).number;
    for (uint64_t i = 0; i < sharded->sealed_count;) {
        nphdi_shard *shard = sharded->sealed[i];
        const uint64_t before = sharded->sealed_count;
        nphd_error why = NPHD_ERROR_INIT;
        status = check_shard(of, shard, last_listed, &why);
        if (status != NPHD_OK) {
            TRY(leave_out(of, shard, status, &why, err));
        }
        i += before - sharded->sealed_count == 0 ? 1 : 0;
    }
    TRY(check_missing(of, err));
done:
    return status;
}

/* ---- parameters ---- */

static nphd_status check_connectivity(const opening *of, nphd_error *err)
{
    const nphd_sharded *sharded = of->sharded;
    const uint32_t asked = of->options->connectivity;

    for (uint64_t i = 0; asked != 0 && i < sharded->sealed_count; i++) {
        const nphdi_shard *shard = sharded->sealed[i];
        const uint32_t stored = shard->index->content->shape.connectivity;
        if (nphdi_index_slots(shard->index) > 0 && stored != asked) {
            return nphdi_fail(err, NPHD_MISMATCH,
                              "%s: connectivity is %u, but connectivity %u was asked for",
                              shard->path, stored, asked);
        }
    }
    return NPHD_OK;
}

/* The breadths of the newest file of ours, unless the caller names others; and where automatic keys
 * go on. */
static nphd_status take_settings(opening *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;
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
        TRY(nphd_index_set_breadth(index, parameters->build_breadth, parameters->search_breadth,
                                   err));
    }
    TRY(check_connectivity(of, err));
done:
    return status;
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

static nphd_status open_bloom(opening *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded *sharded = of->sharded;
    const uint64_t newest = of->newest != NULL ? of->newest->generation : 0;
    bool usable = false;
    uint64_t keys = 0;

    TRY(nphdi_bloom_load(sharded, newest, &usable, err));
    /* a filter that is not kept up would hide keys from whoever uses it next */
    sharded->bloom_unsaved =
        !sharded->want_bloom && !sharded->read_only && sharded->bloom_file_bytes > 0;
    if (usable || sharded->read_only || !sharded->want_bloom) {
        return NPHD_OK;
    }
    TRY(nphdi_bloom_make(sharded, &sharded->bloom, &keys, err));
    sharded->bloom_valid_from = newest;
    sharded->bloom_unsaved = true;
    if (sharded->sealed_count > 0) {
        nphdi_log_write(&sharded->log, NPHD_LOG_WARNING, "%s/%s: made anew from %llu keys",
                        sharded->path, NPHDI_BLOOM_NAME, (unsigned long long)keys);
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

static nphd_status load_files(opening *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded *sharded = of->sharded;

    TRY(nphdi_directory_list(sharded->io, sharded->path, sharded->allocator, &of->names, err));
    TRY(open_shards(of, err));
    nphdi_sealed_refresh(sharded);
    if (sharded->read_only && sharded->sealed_count == 0) {
        status = nphdi_fail(err, NPHD_NOT_FOUND, "%s: read_only, but there are no shards",
                            sharded->path);
        goto done;
    }
    TRY(read_record(of, err));
    TRY(check_record(of, err));
    TRY(take_settings(of, err));
    TRY(make_active(sharded, err));
    TRY(nphdi_sharded_recover(sharded, of->reference ? NULL : of->newest, of->flags,
                              of->damaged > 0, err));
    TRY(open_bloom(of, err));
    TRY(new_identity(sharded, err));
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
    TRY(nphdi_journal_replay(sharded, &of->names, of->newest != NULL ? of->newest->generation : 0,
                             of->reference, of->options->threads, err));
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
    opening of;

    memset(&of, 0, sizeof(of));
    of.sharded = sharded;
    of.options = options;
    of.last_number = NPHDI_NO_NUMBER;
    status = load_files(&of, err);
    nphdi_free(sharded->allocator, of.record, of.record_bytes, 1);
    nphdi_names_free(&of.names);
    return status;
}
