/* Asking the caller of a long call whether to go on.
 *
 * A watch is a stretch of a call: what it is told of its own work is scaled to that stretch, so
 * that the parts of a call need not know of each other and `done` never falls. It is a plain value;
 * one with `progress` NULL asks nobody. The call it belongs to outlives all that is made of it. */
#ifndef NPHDI_WATCH_H
#define NPHDI_WATCH_H

#include <nphd/index.h>

/* What a call consists of has no common unit: such calls tell of millionths. */
#define NPHDI_WATCH_WHOLE ((uint64_t)1000000)

/* Entries of a loop between two questions: some tenths of a millisecond of work each. */
#define NPHDI_WATCH_EVERY ((uint64_t)4096)

typedef struct nphdi_watch {
    nphd_progress progress;
    void *context;
    const char *what; /* the call, for the text of the error */
    uint64_t total;   /* what the caller is told is all */
    uint64_t begin;   /* of that, the stretch of this watch */
    uint64_t end;
} nphdi_watch;

/* A whole call, in millionths. */
nphdi_watch nphdi_watch_whole(nphd_progress progress, void *context, const char *what);
/* A moment of a call that tells of its own work itself: `done` of `total` throughout. */
nphdi_watch nphdi_watch_moment(nphd_progress progress, void *context, const char *what,
                               uint64_t done, uint64_t total);
/* The stretch from `begin` to `end` of `count` equal parts of `of`; of NULL: a watch that asks
 * nobody. */
nphdi_watch nphdi_watch_stretch(const nphdi_watch *of, uint64_t begin, uint64_t end,
                                uint64_t count);
/* The part `number` of `count`. */
static inline nphdi_watch nphdi_watch_part(const nphdi_watch *of, uint64_t number, uint64_t count)
{
    return nphdi_watch_stretch(of, number, number + 1, count);
}

/* `done` of `total` of this stretch are finished. NPHD_CANCELLED when the caller wants no more. A
 * watch of NULL asks nobody. */
nphd_status nphdi_watch_ask(const nphdi_watch *watch, uint64_t done, uint64_t total,
                            nphd_error *err);
/* In a loop over `total` entries: asks now and then. */
static inline nphd_status nphdi_watch_loop(const nphdi_watch *watch, uint64_t done, uint64_t total,
                                           nphd_error *err)
{
    return done % NPHDI_WATCH_EVERY == 0 ? nphdi_watch_ask(watch, done, total, err) : NPHD_OK;
}

/* The same as an nphd_progress, for a call within the call: its context is a watch, which is not
 * changed. */
int nphdi_watch_progress(void *watch, uint64_t done, uint64_t total);

#endif
