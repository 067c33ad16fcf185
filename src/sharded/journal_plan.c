/* Looking ahead in the journals for the last change of each key.
 *
 * The frames are walked as they will be applied, up to a number of keys that bounds the memory;
 * behind it the replay looks ahead again. A reset ends what was before it: none of that counts.
 * What cannot be read ends the walk without an error, which is for the replay to tell when it comes
 * there. */
#include "base/error.h"
#include "sharded/journal_replay.h"

/* Keys that are looked ahead for at once: 32 MB of memory. */
#define KEYS_AT_ONCE ((uint64_t)1 << 19)

typedef struct plan {
    nphdi_replay *of;
    const nphdi_watch *watch;
    uint64_t records; /* that were looked at */
    uint64_t change;  /* number of the next one */
    bool ended;
} plan;

static nphd_status plan_frame(plan *work, const nphdi_journal_reader *reader, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_replay *of = work->of;
    nphdi_journal_record record;

    for (uint64_t offset = 0; !work->ended && offset < reader->count;) {
        TRY(nphdi_watch_ask(work->records++ % NPHDI_WATCH_EVERY == 0 ? work->watch : NULL, 0, 1,
                            err));
        if (nphdi_replay_take_record(of, "", reader, &offset, &record, NULL) != NPHD_OK ||
            of->last.count == KEYS_AT_ONCE) {
            work->ended = true;
            break;
        }
        if (record.kind == NPHDI_JOURNAL_RESET) {
            nphdi_last_clear(&of->last);
        }
        if (nphdi_replay_is_change(&record)) {
            if (work->change >= of->change) {
                TRY(nphdi_last_note(&of->last, record.kind, record.key, work->change, err));
            }
            work->change++;
        }
    }
done:
    return status;
}

/* From `offset` on, where frame `number` begins. `bytes`: what the replay sees of the file, which a
 * writer may have made longer since: frames that will not be applied supersede nothing. */
static nphd_status plan_journal(plan *work, const nphdi_found_journal *journal, uint64_t offset,
                                uint64_t number, uint64_t limit, uint64_t bytes, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_sharded *sharded = work->of->sharded;
    nphdi_journal_reader reader;
    nphdi_journal_step step = NPHDI_JOURNAL_WHOLE;
    bool valid;

    TRY(nphdi_journal_reader_open(&reader, sharded->io, sharded->allocator, journal->path, err));
    TRY(nphdi_journal_reader_head(&reader, &valid, err));
    reader.source.bytes = reader.source.bytes < bytes ? reader.source.bytes : bytes;
    reader.offset = offset;
    reader.number = number;
    while (!work->ended && step == NPHDI_JOURNAL_WHOLE) {
        TRY(nphdi_journal_reader_next(&reader, limit, &step, err));
        if (step == NPHDI_JOURNAL_WHOLE) {
            TRY(plan_frame(work, &reader, err));
        }
    }
    work->ended = work->ended || step != NPHDI_JOURNAL_END;
done:
    nphdi_journal_reader_close(&reader);
    return status;
}

nphd_status nphdi_replay_plan(nphdi_replay *of, nphdi_found_journal *journal,
                              const nphdi_journal_reader *reader, uint64_t first,
                              const nphdi_watch *watch, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    plan work = {of, watch, 0, first, false};
    uint64_t offset = reader->before;
    uint64_t number = reader->number - 1;
    uint64_t bytes = reader->source.bytes;

    nphdi_last_clear(&of->last);
    while (!work.ended && journal != NULL) {
        const nphdi_found_journal *next = nphdi_replay_successor(of, journal);
        TRY(plan_journal(&work, journal, offset, number,
                         next != NULL ? next->head.before_bytes : UINT64_MAX, bytes, err));
        journal = nphdi_replay_successor(of, journal);
        offset = NPHDI_JOURNAL_HEAD_BYTES;
        number = 0;
        bytes = UINT64_MAX; /* the replay opens it later than this */
    }
    of->planned = work.change;
done:
    return status;
}
