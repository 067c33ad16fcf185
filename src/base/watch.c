#include "base/watch.h"

#include "base/error.h"

nphdi_watch nphdi_watch_whole(nphd_progress progress, void *context, const char *what)
{
    return (nphdi_watch){progress, context, what, NPHDI_WATCH_WHOLE, 0, NPHDI_WATCH_WHOLE};
}

nphdi_watch nphdi_watch_moment(nphd_progress progress, void *context, const char *what,
                               uint64_t done, uint64_t total)
{
    return (nphdi_watch){progress, context, what, total, done, done};
}

/* In floating point, as `done` may be as large as a file: the last place is of no account. */
static uint64_t place_in(const nphdi_watch *watch, uint64_t done, uint64_t total)
{
    const double share = done >= total ? 1 : (double)done / (double)total;

    return watch->begin + (uint64_t)(share * (double)(watch->end - watch->begin));
}

nphdi_watch nphdi_watch_stretch(const nphdi_watch *of, uint64_t begin, uint64_t end, uint64_t count)
{
    nphdi_watch part = {NULL, NULL, "", 1, 0, 0};

    if (of != NULL) {
        part = *of;
        part.begin = place_in(of, begin, count);
        part.end = place_in(of, end, count);
    }
    return part;
}

nphd_status nphdi_watch_ask(const nphdi_watch *watch, uint64_t done, uint64_t total,
                            nphd_error *err)
{
    if (watch == NULL || watch->progress == NULL ||
        watch->progress(watch->context, place_in(watch, done, total), watch->total) == 0) {
        return NPHD_OK;
    }
    return nphdi_fail(err, NPHD_CANCELLED, "%s: cancelled by the progress callback", watch->what);
}

int nphdi_watch_progress(void *watch, uint64_t done, uint64_t total)
{
    const nphdi_watch *of = watch;

    return of->progress == NULL ? 0
                                : of->progress(of->context, place_in(of, done, total), of->total);
}
