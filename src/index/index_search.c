/* Searching one index: the call, and what both ways share. The exact one is in
 * index_search_exact.c, the one along the graph in index_search_graph.c. */
#include "base/error.h"
#include "index/index_search_job.h"

#include <math.h>
#include <string.h>

nphdi_query nphdi_search_query(const nphdi_search_job *job, size_t number, uint32_t variant)
{
    const uint32_t most = job->content->shape.payload_bytes;
    const nphd_vector vector = job->ask.queries[number * job->variants + variant];
    const nphdi_query query = {vector.data, vector.bytes < most ? (uint32_t)vector.bytes : most};

    return query;
}

nphdi_bits nphdi_search_nearest(const nphdi_search_job *job, size_t number, uint32_t slot,
                                uint32_t *out_variant)
{
    const nphdi_rows rows = nphdi_content_rows(job->content);
    nphdi_bits nearest = {0, 0};

    for (uint32_t variant = 0; variant < job->variants; variant++) {
        const nphdi_query query = nphdi_search_query(job, number, variant);
        nphdi_bits bits;
        job->content->kernels->gather(&query, &rows, &slot, 1, &bits);
        if (variant == 0 || nphdi_scan_compare_bits(bits, nearest) < 0) {
            nearest = bits;
            *out_variant = variant;
        }
    }
    return nearest;
}

bool nphdi_search_take_key(nphdi_search_view *view, uint32_t slot, nphd_key *out_key)
{
    const nphdi_content *content = view->job->content;
    const nphd_search_options *options = &view->job->ask.options;

    if (!nphdi_content_key(content, slot, out_key) ||
        nphdi_is_free_key(*out_key, content->shape.key_bytes)) {
        view->broken = true;
        view->broken_slot = slot;
        return false;
    }
    return options->filter == NULL || options->filter(options->filter_context, *out_key);
}

bool nphdi_search_accept(void *context, nphdi_scan_match *match)
{
    nphdi_search_view *view = context;
    const nphdi_search_job *job = view->job;

    /* planes may hold slots that came after the call began */
    if (match->slot >= job->slots || !nphdi_content_is_live(job->content, match->slot)) {
        return false;
    }
    match->variant = 0;
    if (job->variants > 1) {
        /* the scan for the nearest variant meets it, too: it is no farther from that one */
        (void)nphdi_search_nearest(job, view->number, match->slot, &match->variant);
        if (match->variant != view->variant) {
            return false;
        }
    }
    return nphdi_search_take_key(view, match->slot, &match->key);
}

bool nphdi_search_go_on(const nphdi_search_job *job, uint64_t done, uint64_t total)
{
    const nphd_search_options *options = &job->ask.options;

    return options->progress == NULL ||
           options->progress(options->progress_context, done, total) == 0;
}

nphd_status nphdi_search_cancelled(nphd_error *err)
{
    return nphdi_fail(err, NPHD_CANCELLED, "search: cancelled by the progress callback");
}

void nphdi_search_limit_radius(const nphdi_search_job *job, nphdi_scan_best *best)
{
    memcpy(best->limit, job->limit, sizeof(best->limit));
}

/* ---- workers ---- */

static void job_fail(nphdi_search_job *job, nphd_status status, const nphd_error *err)
{
    atomic_store(&job->stop, true);
    (void)pthread_mutex_lock(&job->lock);
    if (job->status == NPHD_OK) {
        job->status = status;
        nphdi_error_copy(job->err, err);
    }
    (void)pthread_mutex_unlock(&job->lock);
}

static void search_worker(void *context, uint32_t worker)
{
    nphdi_search_job *job = context;
    nphd_error err = NPHD_ERROR_INIT;
    const nphd_status status =
        job->exact ? nphdi_search_exact(job, worker, &err) : nphdi_search_graph(job, worker, &err);

    if (status != NPHD_OK) {
        job_fail(job, status, &err);
    }
}

/* ---- the call ---- */

static nphd_status check_options(const nphd_search_options *options, nphd_error *err)
{
    if (options->breadth > NPHDI_MAX_BREADTH) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "search: breadth is %u; it must be 1 to %u",
                          options->breadth, NPHDI_MAX_BREADTH);
    }
    if (options->mode > NPHD_SEARCH_APPROXIMATE) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "search: mode %d is not known",
                          (int)options->mode);
    }
    if (options->variants > NPHD_MAX_VARIANTS) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "search: %u variants; it must be 1 to %d",
                          options->variants, NPHD_MAX_VARIANTS);
    }
    if (options->plan > NPHD_PLAN_GRAPH) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "search: plan %d is not known",
                          (int)options->plan);
    }
    if (!(options->budget >= 0)) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "search: the budget is not 0 or more");
    }
    if (options->any && !options->use_radius) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "search: `any` needs a radius");
    }
    return NPHD_OK;
}

nphd_status nphdi_check_radius(nphd_metric metric, float radius, const char *what, nphd_error *err)
{
    if (!(radius >= 0)) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "%s: the radius is %g; it must be 0 or more",
                          what, (double)radius);
    }
    if (metric == NPHD_METRIC_NPHD && radius > 1 && !isinf(radius)) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                          "%s: the radius is %g; distances of this index are fractions from 0 to 1",
                          what, (double)radius);
    }
    return NPHD_OK;
}

static nphd_status check_search(const nphdi_shape *shape, const nphdi_search_request *ask,
                                nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint32_t variants = nphdi_search_variants(&ask->options);

    if (ask->sink == NULL && ask->capacity == 0) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                          "search: capacity is 0; it must be 1 or more");
    }
    if (ask->query_count > 0 && (ask->queries == NULL || (ask->sink == NULL && ask->out == NULL) ||
                                 (ask->sink == NULL && ask->reports == NULL))) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "search: queries, out or reports is NULL");
    }
    TRY(check_options(&ask->options, err));
    TRY(ask->options.use_radius
            ? nphdi_check_radius(shape->metric, ask->options.radius, "search", err)
            : NPHD_OK);
    for (size_t i = 0; i < ask->query_count * variants; i++) {
        const nphd_vector query = ask->queries[i];
        if (query.data == NULL || query.bytes == 0 || query.bytes > NPHD_MAX_BYTES ||
            (shape->metric == NPHD_METRIC_HAMMING && query.bytes != shape->payload_bytes)) {
            return nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                              "search: query %zu has %zu bytes; this index takes %s%u",
                              i / variants, query.data == NULL ? 0 : query.bytes,
                              shape->metric == NPHD_METRIC_HAMMING ? "" : "1 to ",
                              shape->metric == NPHD_METRIC_HAMMING ? shape->payload_bytes
                                                                   : NPHD_MAX_BYTES);
        }
    }
done:
    return status;
}

nphd_status nphdi_index_check_search(nphd_index *index, const nphdi_search_request *ask,
                                     nphd_error *err)
{
    nphdi_rwlock_read(&index->content_lock);
    const nphd_status status = check_search(&index->content->shape, ask, err);
    nphdi_rwlock_read_end(&index->content_lock);
    return status;
}

double nphdi_index_scan_cost(nphd_index *index, uint64_t queries)
{
    nphdi_rwlock_read(&index->content_lock);
    const double cost =
        nphdi_content_scan_cost(index->content, nphdi_content_slots(index->content), queries);
    nphdi_rwlock_read_end(&index->content_lock);
    return cost;
}

/* Exact by a scan if the budget is enough for one; else along the graph, and then exact all the
 * same where the tables need no more than that. */
static void choose_mode(nphdi_search_job *job)
{
    const nphd_search_options *options = &job->ask.options;
    const float budget_us = options->budget > 0 ? options->budget : NPHD_EXACT_BUDGET;
    const double budget = 1000.0 * (double)budget_us;
    const double scan =
        nphdi_content_scan_cost(job->content, job->slots, job->ask.query_count) * job->variants;

    job->exact =
        options->plan != NPHD_PLAN_GRAPH && (scan <= budget || options->plan != NPHD_PLAN_AUTO);
    if (!job->exact && options->plan == NPHD_PLAN_AUTO && job->variants == 1 &&
        nphdi_content_mih_look(job->content, &job->tables)) {
        job->prove_ns = budget;
    }
}

static void choose_plan(nphdi_search_job *job)
{
    const nphd_search_options *options = &job->ask.options;
    uint32_t breadth =
        options->breadth != 0 ? options->breadth : atomic_load(&job->index->search_breadth);
    const uint64_t slots = job->slots;

    job->exact = options->mode == NPHD_SEARCH_EXACT && options->plan != NPHD_PLAN_GRAPH;
    if (options->mode == NPHD_SEARCH_AUTO) {
        choose_mode(job);
    }
    /* no more can be found than there is, and no memory is taken for more */
    job->wanted = options->any || job->ask.sink != NULL ? 1 : job->ask.capacity;
    job->breadth = job->wanted < breadth ? breadth
                   : job->wanted < slots ? (uint32_t)job->wanted
                                         : (uint32_t)slots;
    job->breadth = job->breadth > slots ? (uint32_t)slots : job->breadth;
    job->breadth = job->breadth == 0 ? 1 : job->breadth;
    job->keep = job->wanted + (options->use_radius && !options->any ? 1 : 0);
    job->keep = job->wanted < slots ? job->keep : slots;
    job->keep = job->keep == 0 ? 1 : job->keep;
}

/* A query alone took as long as its call, whoever worked on it, planning included. */
static void measure_single(const nphdi_search_request *ask, uint64_t start)
{
    if (ask->query_count == 1 && ask->reports != NULL && ask->reports->plan != NPHD_PLAN_AUTO) {
        ask->reports->measured = (float)(nphdi_clock_ns() - start) / 1000;
    }
}

static nphd_status run_job(nphdi_search_job *job, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t start = nphdi_clock_ns();
    const uint32_t threads = job->ask.options.threads;
    nphdi_scan_match *merged = NULL;
    uint64_t workers = threads == 0 ? 1 : threads;

    TRY(check_search(&job->content->shape, &job->ask, err));
    if (job->ask.query_count == 0) {
        return NPHD_OK;
    }
    choose_plan(job);
    if (job->ask.options.use_radius) {
        nphdi_scan_best limits;
        nphdi_scan_begin_sink(&limits, NULL, NULL);
        nphdi_scan_limit_radius(&limits, job->ask.options.radius,
                                job->content->shape.metric == NPHD_METRIC_HAMMING);
        memcpy(job->limit, limits.limit, sizeof(job->limit));
    }
    if (job->exact) {
        TRY(nphdi_search_exact_plan(job, workers, &workers, &merged, err));
    } else {
        workers = workers < job->ask.query_count ? workers : job->ask.query_count;
    }
    nphdi_threads_run((uint32_t)workers, search_worker, job);
    status = job->status;
    if (status == NPHD_OK && job->exact) {
        nphdi_search_exact_end(job);
    }
    measure_single(&job->ask, start);
done:
    nphdi_free(job->index->allocator, merged, job->keep, sizeof(*merged));
    return status;
}

nphd_status nphdi_search_options_read(const nphd_search_options *options, const float *radius,
                                      nphdi_search_request *ask, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_search_options known = NPHD_SEARCH_OPTIONS_INIT;

    TRY(nphdi_options_read(options, sizeof(known), &known, "search options", err));
    if (radius != NULL) {
        known.use_radius = true;
        known.radius = *radius;
        known.mode = known.mode == NPHD_SEARCH_AUTO ? NPHD_SEARCH_EXACT : known.mode;
    }
    ask->options = known;
done:
    return status;
}

nphd_status nphdi_search_check_single(const nphd_search_options *options, nphd_error *err)
{
    return options->variants > 1
               ? nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                            "search: one vector has no variants; search for many takes them")
               : NPHD_OK;
}

nphd_status nphdi_search_run(nphdi_search_job *job, nphd_error *err)
{
    nphd_status status;
    nphd_index *index = job->index;
    nphdi_search_request *ask = &job->ask;

    NPHDI_INDEX_ENTER(index, err);
    if (pthread_mutex_init(&job->lock, NULL) != 0) {
        return nphdi_fail(err, NPHD_OUT_OF_MEMORY, "cannot create a lock");
    }
    job->variants = nphdi_search_variants(&ask->options);
    job->err = err;
    nphdi_rwlock_read(&index->content_lock);
    job->content = index->content;
    job->slots = nphdi_content_slots(index->content);
    status = run_job(job, err);
    nphdi_rwlock_read_end(&index->content_lock);
    (void)pthread_mutex_destroy(&job->lock);
    if (status != NPHD_OK && ask->reports != NULL && ask->query_count > 0) {
        memset(ask->reports, 0, ask->query_count * sizeof(*ask->reports));
    }
    return status;
}

nphd_status nphd_index_search_many(nphd_index *index, const nphd_vector *queries,
                                   size_t query_count, size_t capacity,
                                   const nphd_search_options *options, nphd_match *out,
                                   nphd_search_report *reports, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_search_job job;

    nphdi_error_clear(err);
    if (reports != NULL && query_count > 0) {
        memset(reports, 0, query_count * sizeof(*reports));
    }
    memset(&job, 0, sizeof(job));
    job.index = index;
    job.ask.queries = queries;
    job.ask.query_count = query_count;
    job.ask.capacity = capacity;
    job.ask.out = out;
    job.ask.reports = reports;
    TRY(nphdi_search_options_read(options, NULL, &job.ask, err));
    TRY(nphdi_search_run(&job, err));
done:
    return status;
}

nphd_status nphd_index_search(nphd_index *index, nphd_vector query, size_t capacity,
                              const nphd_search_options *options, nphd_match *out,
                              nphd_search_report *report, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_search_request ask;

    nphdi_error_clear(err);
    if (report != NULL) {
        memset(report, 0, sizeof(*report));
    }
    TRY(nphdi_search_options_read(options, NULL, &ask, err));
    TRY(nphdi_search_check_single(&ask.options, err));
    TRY(nphd_index_search_many(index, &query, 1, capacity, &ask.options, out, report, err));
done:
    return status;
}
