/* What the files that apply journals at opening share. */
#ifndef NPHDI_JOURNAL_REPLAY_H
#define NPHDI_JOURNAL_REPLAY_H

#include "sharded/journal.h"
#include "sharded/journal_last.h"
#include "sharded/sharded_internal.h"

typedef struct nphdi_found_journal {
    nphdi_journal_head head;
    char *path;
    size_t path_room;
    bool valid;     /* it has a head that was durable */
    uint64_t bytes; /* of the file */
    bool used;
    bool damaged; /* salvage goes on without some of it */
} nphdi_found_journal;

typedef struct nphdi_replay {
    nphd_sharded *sharded;
    uint32_t threads;
    nphdi_found_journal *found;
    size_t found_count;
    size_t found_room;
    nphdi_journal_kind kind; /* of the changes that are gathered */
    nphd_key *keys;
    nphd_vector *vectors;
    size_t count;
    uint64_t applied;
    uint64_t left_out; /* later changes of their keys made them superfluous */
    bool last_only;    /* of each key only the last change is applied */
    nphdi_last last;   /* which that are, of the changes up to `planned` */
    uint64_t planned;
    uint64_t change; /* number of the next one */
    uint64_t bytes;  /* of all journals that may count */
    uint64_t before; /* and of those that were applied */
} nphdi_replay;

/* Salvage tells of damage and goes on; *status is then NPHD_OK. Else `why` is copied to `err`. */
void nphdi_replay_salvage(const nphdi_replay *of, nphdi_found_journal *journal, nphd_status *status,
                          const nphd_error *why, nphd_error *err);
/* The one that continues it; NULL: there is none. */
nphdi_found_journal *nphdi_replay_successor(const nphdi_replay *of,
                                            const nphdi_found_journal *journal);

/* ---- applying records (journal_apply.c) ---- */

nphd_status nphdi_replay_begin(nphdi_replay *of, nphd_error *err); /* takes memory */
void nphdi_replay_end(nphdi_replay *of);
/* The record at *offset of the frame that the reader has just taken, checked, as in
 * nphdi_journal_decode_record(). `where`: file and frame, for errors. */
nphd_status nphdi_replay_take_record(const nphdi_replay *of, const char *where,
                                     const nphdi_journal_reader *reader, uint64_t *offset,
                                     nphdi_journal_record *out, nphd_error *err);
/* Is that an add, a replacement or a removal? */
static inline bool nphdi_replay_is_change(const nphdi_journal_record *record)
{
    return record->kind == NPHDI_JOURNAL_ADD || record->kind == NPHDI_JOURNAL_REPLACE ||
           record->kind == NPHDI_JOURNAL_REMOVE;
}
/* Applies the records of the frame that the reader has just taken. */
nphd_status nphdi_replay_frame(nphdi_replay *of, nphdi_found_journal *journal,
                               const nphdi_journal_reader *reader, nphd_error *err);
/* The stretch of opening that the frame is which the reader has just taken. */
nphdi_watch nphdi_replay_watch(const nphdi_replay *of, const nphdi_journal_reader *reader);

/* ---- which changes count (journal_plan.c) ---- */

/* Looks ahead, from change number of->change on, which is in the frame that the reader has just
 * taken and whose first change has the number `first`: sets of->last and of->planned. `watch` is
 * asked and told nothing new. */
nphd_status nphdi_replay_plan(nphdi_replay *of, nphdi_found_journal *journal,
                              const nphdi_journal_reader *reader, uint64_t first,
                              const nphdi_watch *watch, nphd_error *err);

#endif
