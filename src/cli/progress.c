/* A progress bar on standard error, for long calls on a terminal. */
#include "progress.h"

#include "signals.h"
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define BAR_CELLS ((size_t)24)
#define LEAST_CELLS 4           /* of a bar */
#define USUAL_COLUMNS 80        /* where the terminal does not tell */
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

/* Columns of the terminal, of which the last is not used: a line that fills it may wrap, and could
 * not be taken back. */
static size_t progress_columns(void)
{
    struct winsize size;
    const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1;

    return (known ? size.ws_col : USUAL_COLUMNS) - (size_t)1;
}

/* A bar of as many cells as there is room for besides `rest` columns; none where that are few. */
static void progress_format_bar(char *out, double fraction, size_t rest, size_t columns)
{
    const size_t around = strlen(" []");
    const size_t room = columns > rest + around ? columns - rest - around : 0;
    const size_t cells = room < BAR_CELLS ? room : BAR_CELLS;
    size_t used = 0;

    if (cells >= LEAST_CELLS) {
        memcpy(out, " [", 2);
        memset(out + 2, '.', cells);
        memset(out + 2, '#', (size_t)(fraction * (double)cells));
        out[2 + cells] = ']';
        used = cells + around;
    }
    out[used] = '\0';
}

/* What does not fit is left out: first the bar, then the rate, then the time. */
static void progress_draw(const cli_progress *progress, double share, double now)
{
    const double elapsed = now - progress->start_seconds;
    const double items = (double)progress->items + share * (double)progress->batch;
    const size_t columns = progress_columns();
    double fraction =
        progress->begin_fraction + share * (progress->end_fraction - progress->begin_fraction);
    char bar[BAR_CELLS + 8] = "";
    char part[16] = "";
    char rate[64] = "";
    char left[64] = "";
    char time[32];
    size_t rest = 0;

    fraction = fraction > 1 ? 1 : fraction;
    if (progress->end_fraction >= 0) {
        snprintf(part, sizeof(part), " %3d%%", (int)(fraction * 100));
    }
    if (progress->rate) {
        snprintf(rate, sizeof(rate), "  %.0f vectors, %.0f/s", items, items / elapsed);
    }
    if (progress->end_fraction >= 0 && fraction > 0) {
        progress_format_seconds(time, sizeof(time), elapsed / fraction - elapsed);
        snprintf(left, sizeof(left), ", %s left", time);
    }
    rest = strlen(progress->what) + strlen(part);
    if (rest + strlen(rate) + strlen(left) > columns) {
        rate[0] = '\0';
    }
    if (rest + strlen(left) > columns) {
        left[0] = '\0';
    }
    if (progress->end_fraction >= 0) {
        progress_format_bar(bar, fraction, rest + strlen(rate) + strlen(left), columns);
    }
    if (rest <= columns) {
        fprintf(stderr, "\r\033[K%s%s%s%s%s", progress->what, bar, part, rate, left);
    } else {
        fprintf(stderr, "\r\033[K%.*s", (int)columns, progress->what);
    }
    fflush(stderr);
}

int cli_progress_step(void *context, uint64_t done, uint64_t total)
{
    cli_progress *progress = context;
    const double now = cli_seconds();

    if (cli_interrupted()) {
        return 1;
    }
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
