/* A progress bar on standard error, for long calls on a terminal. */
#include "progress.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BAR_CELLS 24
#define FIRST_AFTER_SECONDS 0.5 /* short work ends before a bar could be read */
#define EVERY_SECONDS 0.1       /* more often than this only costs time */

/* A message of the thread that writes shards may come between two steps of the bar. */
static atomic_bool progress_on_screen = false;

double cli_seconds(void)
{
    struct timespec now = {0, 0};

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

void cli_progress_start(cli_progress *progress, const char *what)
{
    memset(progress, 0, sizeof(*progress));
    progress->what = what;
    progress->end_fraction = 1;
    progress->start_seconds = cli_seconds();
    progress->shown_seconds = progress->start_seconds + FIRST_AFTER_SECONDS - EVERY_SECONDS;
}

void cli_progress_batch(cli_progress *progress, uint64_t batch, double begin_fraction,
                        double end_fraction)
{
    progress->rate = true;
    progress->items += progress->batch;
    progress->batch = batch;
    progress->begin_fraction = begin_fraction;
    progress->end_fraction = end_fraction;
}

static void progress_format_seconds(char *out, size_t capacity, double seconds)
{
    const unsigned long whole = seconds < 1e6 ? (unsigned long)(seconds + 0.5) : 999999;

    if (whole < 60) {
        snprintf(out, capacity, "%lu s", whole);
    } else if (whole < 3600) {
        snprintf(out, capacity, "%lu min %02lu s", whole / 60, whole % 60);
    } else {
        snprintf(out, capacity, "%lu h %02lu min", whole / 3600, whole / 60 % 60);
    }
}

static void progress_draw_bar(double fraction)
{
    const int full = (int)(fraction * BAR_CELLS);
    char bar[BAR_CELLS + 1];

    for (int cell = 0; cell < BAR_CELLS; cell++) {
        bar[cell] = cell < full ? '#' : '.';
    }
    bar[BAR_CELLS] = '\0';
    fprintf(stderr, " [%s] %3d%%", bar, (int)(fraction * 100));
}

static void progress_draw(const cli_progress *progress, double share, double now)
{
    const double elapsed = now - progress->start_seconds;
    const double items = (double)progress->items + share * (double)progress->batch;
    double fraction =
        progress->begin_fraction + share * (progress->end_fraction - progress->begin_fraction);
    char left[32];

    fraction = fraction > 1 ? 1 : fraction;
    fprintf(stderr, "\r\033[K%s", progress->what);
    if (progress->end_fraction >= 0) {
        progress_draw_bar(fraction);
    }
    if (progress->rate) {
        fprintf(stderr, "  %.0f vectors, %.0f/s", items, items / elapsed);
    }
    if (progress->end_fraction >= 0 && fraction > 0) {
        progress_format_seconds(left, sizeof(left), elapsed / fraction - elapsed);
        fprintf(stderr, ", %s left", left);
    }
    fflush(stderr);
}

int cli_progress_step(void *context, uint64_t done, uint64_t total)
{
    cli_progress *progress = context;
    const double now = cli_seconds();

    if (now - progress->shown_seconds < EVERY_SECONDS || !isatty(STDERR_FILENO)) {
        return 0;
    }
    atomic_store(&progress_on_screen, true);
    progress_draw(progress, total > 0 ? (double)done / (double)total : 0, now);
    progress->shown_seconds = now;
    return 0;
}

void cli_progress_hide(void)
{
    if (atomic_exchange(&progress_on_screen, false)) {
        fputs("\r\033[K", stderr);
    }
}
