/* A progress bar on standard error, for long calls on a terminal. Silent where standard error is
 * not a terminal, and within the first half second. */
#ifndef NPHD_CLI_PROGRESS_H
#define NPHD_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

typedef struct cli_progress {
    const char *what;      /* "adding", "saving"; static text */
    bool rate;             /* items are vectors: show how many a second */
    uint64_t items;        /* finished before the current batch */
    uint64_t batch;        /* items of the current batch */
    double begin_fraction; /* share of the whole work before the current batch ... */
    double end_fraction;   /* ... and with it; below 0 when the whole is not known */
    double start_seconds;
    double shown_seconds;
} cli_progress;

/* Seconds of a clock that never goes back. */
double cli_seconds(void);

/* Starts a bar for work whose extent is the `total` of the callback. */
void cli_progress_start(cli_progress *progress, const char *what);

/* Says where the next batch lies in the whole work; fractions below 0: unknown. */
void cli_progress_batch(cli_progress *progress, uint64_t batch, double begin_fraction,
                        double end_fraction);

/* An nphd_progress, which cancels once a signal has come; the context is a cli_progress. */
int cli_progress_step(void *context, uint64_t done, uint64_t total);

/* Takes the bar off the screen, so that a line of text can follow. The next step draws it anew. */
void cli_progress_hide(void);

#endif
