/* The type of the codes in a sharded index. It stands in every shard that is written since it is
 * known; the newest that says something is right. Before the first save of it the journal has it,
 * as a fact in the form of the section of shards. */
#include "base/error.h"
#include "formats/unit_format.h"
#include "sharded/sharded_internal.h"

nphd_unit nphdi_sharded_unit_of_shards(const nphd_sharded *sharded)
{
    nphd_unit unit = NPHD_UNIT_NONE;
    uint64_t generation = 0;

    for (uint64_t i = 0; i < sharded->sealed_count; i++) {
        const nphdi_shard *shard = sharded->sealed[i];
        const nphd_unit said = atomic_load(&shard->index->content->unit);

        if (said != NPHD_UNIT_NONE && shard->generation >= generation) {
            unit = said;
            generation = shard->generation;
        }
    }
    return unit;
}

void nphdi_sharded_hand_down(nphd_sharded *sharded, nphd_index *index)
{
    index->content->next_automatic = sharded->next_automatic;
    atomic_store(&index->content->unit, atomic_load(&sharded->unit));
}

void nphdi_sharded_replay_unit(nphd_sharded *sharded, uint32_t fact, const uint8_t *data,
                               uint32_t bytes)
{
    const nphd_unit unit =
        fact == NPHDI_SECTION_UNIT ? nphdi_unit_decode(data, bytes) : NPHD_UNIT_NONE;

    if (unit != NPHD_UNIT_NONE) {
        atomic_store(&sharded->unit, unit);
    }
}

/* The caller holds change_lock. */
static nphd_status set_unit(nphd_sharded *sharded, nphd_unit unit, bool mix, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint8_t bytes[NPHDI_UNIT_BYTES];
    const nphdi_journal_record record = {.kind = NPHDI_JOURNAL_FACT,
                                         .fact = NPHDI_SECTION_UNIT,
                                         .data = bytes,
                                         .data_bytes = sizeof(bytes)};
    const nphd_unit now = atomic_load(&sharded->unit);
    nphd_unit then = now;

    TRY(nphdi_unit_follow(sharded->path, now, unit, mix, &then, err));
    if (then != now) {
        TRY(nphdi_journal_reserve(sharded, nphdi_journal_record_bytes(&record, sharded->key_bytes),
                                  err));
        nphdi_unit_encode(then, bytes);
        nphdi_journal_append(sharded, &record);
        atomic_store(&sharded->unit, then);
        sharded->unsaved = true;
    }
done:
    return status;
}

/* Of a handle that cannot change it. */
static nphd_status check_unit(nphd_sharded *sharded, nphd_unit unit, bool mix, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_unit now = nphd_sharded_unit(sharded);
    nphd_unit then = now;

    TRY(nphdi_unit_follow(sharded->path, now, unit, mix, &then, err));
    if (then != now) {
        status = nphdi_fail(err, NPHD_READ_ONLY, "%s: set_unit: opened read-only", sharded->path);
    }
done:
    return status;
}

nphd_status nphd_sharded_set_unit(nphd_sharded *sharded, nphd_unit unit, bool mix, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    nphdi_error_clear(err);
    if (sharded->read_only) {
        return check_unit(sharded, unit, mix, err);
    }
    TRY(nphdi_change_begin(sharded, "set_unit", err));
    status = set_unit(sharded, unit, mix, err);
    nphdi_change_end(sharded);
    TRY(status);
    TRY(nphdi_change_commit(sharded, err));
done:
    return status;
}

nphd_unit nphd_sharded_unit(nphd_sharded *sharded)
{
    return atomic_load(&sharded->unit);
}
