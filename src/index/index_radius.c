/* All vectors within a radius: searches of one kind, and those that hand each match on. */
#include "base/error.h"
#include "index/index_search_job.h"

#include <string.h>

static void clear_reports(nphd_search_report *reports, size_t count)
{
    if (reports != NULL && count > 0) {
        memset(reports, 0, count * sizeof(*reports));
    }
}

nphd_status nphd_index_radius(nphd_index *index, const nphd_vector *queries, size_t query_count,
                              float radius, size_t capacity, const nphd_search_options *options,
                              nphd_match *out, nphd_search_report *reports, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_search_job job;

    nphdi_error_clear(err);
    clear_reports(reports, query_count);
    memset(&job, 0, sizeof(job));
    job.index = index;
    job.ask.queries = queries;
    job.ask.query_count = query_count;
    job.ask.capacity = capacity;
    job.ask.out = out;
    job.ask.reports = reports;
    TRY(nphdi_search_options_read(options, &radius, &job.ask, err));
    TRY(nphdi_search_run(&job, err));
done:
    return status;
}

nphd_status nphd_index_radius_stream(nphd_index *index, const nphd_vector *queries,
                                     size_t query_count, float radius,
                                     const nphd_search_options *options, nphd_match_sink sink,
                                     void *context, nphd_search_report *reports, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_search_job job;

    nphdi_error_clear(err);
    clear_reports(reports, query_count);
    memset(&job, 0, sizeof(job));
    job.index = index;
    job.ask.queries = queries;
    job.ask.query_count = query_count;
    job.ask.reports = reports;
    job.ask.sink = sink;
    job.ask.sink_context = context;
    TRY(nphdi_search_options_read(options, &radius, &job.ask, err));
    job.ask.options.mode = NPHD_SEARCH_EXACT;
    if (sink == NULL) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "search: sink is NULL");
    }
    TRY(nphdi_search_run(&job, err));
done:
    return status;
}
