/* Do the shards of a directory belong together?
 *
 * The shard with the highest generation has the record of the last save: the list of all shards
 * with their generations. A listed shard that is missing or of another generation is an error; one
 * that is not listed and older is what an interrupted compaction left. The reference keeps no such
 * list; a directory that it wrote last is taken as it is. */
#include "base/error.h"
#include "sharded/sharded_opening.h"

#include <string.h>

/* ---- the record in force ---- */

static uint64_t listed_number_at(const void *record, uint64_t place)
{
    return nphdi_record_shard_at(record, (uint32_t)place).number;
}

/* What the record, whose list is in order, says of a shard. */
static bool find_listed(const nphdi_opening *of, uint32_t number, nphdi_record_shard *out)
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
static nphd_status leave_out(nphdi_opening *of, nphdi_shard *shard, nphd_status why_status,
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
    TRY(nphdi_sharded_set_aside(sharded, shard->path, "damaged", err));
    take_out(sharded, shard);
done:
    return status;
}

static nphd_status read_own_record(nphdi_opening *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_sharded *sharded = of->sharded;
    const nphdi_shard *newest = of->newest;
    void *record = NULL;
    bool found = false;

    nphdi_free(sharded->allocator, of->record, of->record_bytes, 1);
    of->record = NULL;
    TRY(nphdi_index_read_section(sharded->io, sharded->allocator, newest->path,
                                 NPHDI_SECTION_SHARDS, &found, &record, &of->record_bytes, err));
    of->record = record;
    TRY(nphdi_record_decode_head(newest->path, of->record, of->record_bytes, &of->flags,
                                 &of->listed, err));
done:
    return status;
}

/* The record of the newest shard must list that shard: a copy under another number does not. */
static nphd_status check_own_record(const nphdi_opening *of, nphd_error *err)
{
    const nphdi_shard *newest = of->newest;
    nphdi_record_shard entry;

    if (!of->reference &&
        (!find_listed(of, newest->number, &entry) || entry.generation != newest->generation)) {
        return nphdi_fail(err, NPHD_MISMATCH,
                          "%s: does not list itself, a copy of another shard; move it away",
                          newest->path);
    }
    return NPHD_OK;
}

nphd_status nphdi_opening_read_record(nphdi_opening *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded *sharded = of->sharded;

    for (bool settled = false; !settled;) {
        nphd_error why = NPHD_ERROR_INIT;
        of->newest = find_newest(sharded);
        if (of->newest == NULL) {
            of->listed = 0;
            TRY(nphdi_opening_decide(of, err));
            return NPHD_OK;
        }
        memcpy(sharded->identity, of->newest->index->identity, sizeof(sharded->identity));
        atomic_store(&sharded->generation, of->newest->generation);
        atomic_store(&sharded->newest_generation, of->newest->generation);
        of->base = of->newest->generation;
        status = read_own_record(of, &why);
        if (status == NPHD_OK) {
            TRY(nphdi_opening_decide(of, err));
            status = check_own_record(of, &why);
        }
        settled = status == NPHD_OK;
        if (!settled) {
            TRY(leave_out(of, of->newest, status, &why, err));
        }
    }
done:
    return status;
}

/* ---- the shards against it ---- */

/* A shard that the record does not list: what an interrupted compaction or reset left, if it is
 * one of ours. */
static nphd_status drop_unlisted(const nphdi_opening *of, nphdi_shard *shard, nphd_error *err)
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
static nphd_status check_behind(const nphdi_opening *of, const nphdi_shard *shard, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_sharded *sharded = of->sharded;
    nphdi_opening own;
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

static nphd_status check_listed(const nphdi_opening *of, const nphdi_shard *shard,
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
static nphd_status check_missing(nphdi_opening *of, nphd_error *err)
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
static nphd_status check_shard(const nphdi_opening *of, nphdi_shard *shard, uint32_t last_listed,
                               nphd_error *err)
{
    const nphd_sharded *sharded = of->sharded;
    nphdi_record_shard listed;

    if (of->cut && shard == sharded->sealed[sharded->sealed_count - 1]) {
        return NPHD_OK; /* it was told of */
    }
    if (find_listed(of, shard->number, &listed)) {
        return check_listed(of, shard, &listed, err);
    }
    return shard->number < last_listed ? drop_unlisted(of, shard, err)
                                       : check_behind(of, shard, err);
}

nphd_status nphdi_opening_check_record(nphdi_opening *of, nphd_error *err)
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
