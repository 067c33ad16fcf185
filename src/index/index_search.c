/* Searching one index: what both ways share, and the search along the graph. The exact one is in
 * index_search_exact.c. */
#include "base/error.h"
#include "index/index_search_job.h"
#include "index/index_shard.h"

#include <stdlib.h>
#include <string.h>

bool nphdi_search_accept(void *context, uint32_t slot, nphd_key *out_key)
{
    nphdi_search_view *view = context;
    const nphdi_content *content = view->job->content;

    /* planes may hold slots that came after the call began */
    if (slot >= view->job->slots || !nphdi_content_is_live(content, slot)) {
        return false;
    }
    if (!nphdi_content_key(content, slot, out_key) ||
        nphdi_is_free_key(*out_key, content->shape.key_bytes)) {
        view->broken = true;
        view->broken_slot = slot;
        return false;
    }
    return view->job->options.filter == NULL ||
           view->job->options.filter(view->job->options.filter_context, *out_key);
}

static bool allow_slot(void *context, uint32_t slot)
{
    nphd_key key;
    const nphdi_search_view *view = context;

    if (view->job->options.filter == NULL) {
        return nphdi_content_is_live(view->job->content, slot);
    }
    return nphdi_search_accept(context, slot, &key);
}

nphdi_query nphdi_search_query(const nphdi_search_job *job, size_t number)
{
    const uint32_t most = job->content->shape.payload_bytes;
    const nphd_vector vector = job->queries[number];
    const nphdi_query query = {vector.data, vector.bytes < most ? (uint32_t)vector.bytes : most};

    return query;
}

bool nphdi_search_go_on(const nphdi_search_job *job, uint64_t done, uint64_t total)
{
    return job->options.progress == NULL ||
           job->options.progress(job->options.progress_context, done, total) == 0;
}

nphd_status nphdi_search_cancelled(nphd_error *err)
{
    return nphdi_fail(err, NPHD_CANCELLED, "search: cancelled by the progress callback");
}

/* ---- graph ---- */

static int compare_matches(const void *left, const void *right)
{
    const nphd_match *a = left;
    const nphd_match *b = right;

    if (a->distance < b->distance || a->distance > b->distance) {
        return a->distance < b->distance ? -1 : 1;
    }
    return nphd_key_compare(a->key, b->key);
}

/* The kept candidates as matches, in our order. Ties at the cut go to the smaller keys. */
static nphd_status graph_report(nphdi_search_job *job, size_t number, nphdi_graph_scratch *scratch,
                                nphd_match *sorted, nphd_error *err)
{
    const nphdi_content *content = job->content;
    nphd_search_report *report = &job->reports[number];
    size_t count = 0;

    for (uint64_t i = 0; i < scratch->best_count; i++) {
        const float distance = scratch->best_distances[i];
        const uint32_t slot = scratch->best_slots[i];
        if (job->options.use_radius && distance > job->options.radius) {
            break;
        }
        /* beyond the cut only those that tie with it can still matter */
        if (i >= job->capacity && distance > scratch->best_distances[job->capacity - 1]) {
            break;
        }
        if (!nphdi_content_key(content, slot, &sorted[count].key) ||
            nphdi_is_free_key(sorted[count].key, content->shape.key_bytes)) {
            return nphdi_mapped_broken(&content->mapped, slot, err);
        }
        sorted[count++].distance = distance;
    }
    qsort(sorted, count, sizeof(*sorted), compare_matches);
    report->count = count < job->capacity ? count : job->capacity;
    memcpy(job->out + number * job->capacity, sorted, report->count * sizeof(*sorted));
    report->exact = job->slots == 0;
    report->computed = scratch->computed;
    report->visited = scratch->expanded;
    return NPHD_OK;
}

static nphd_status graph_query(nphdi_search_job *job, size_t number, nphdi_graph_scratch *scratch,
                               nphd_match *sorted, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_search_view view = {job, false, 0};
    const nphdi_graph_reader reader = nphdi_content_reader(job->content);
    nphdi_graph_target target;

    target.query = nphdi_search_query(job, number);
    target.rows = nphdi_content_rows(job->content);
    target.kernels = job->content->kernels;
    target.allow = allow_slot;
    target.allow_context = &view;
    scratch->computed = 0;
    scratch->expanded = 0;
    scratch->best_count = 0;
    if (reader.max_level >= 0) {
        status = nphdi_graph_search(&reader, &target, job->breadth, scratch,
                                    job->content->allocator, err);
        if (status == NPHD_CORRUPT || view.broken) {
            return nphdi_mapped_broken(&job->content->mapped,
                                       view.broken ? view.broken_slot : reader.entry, err);
        }
    }
    if (status == NPHD_OK) {
        status = graph_report(job, number, scratch, sorted, err);
    }
    return status;
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

static nphd_status work_queries(nphdi_search_job *job, uint32_t worker, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_pooled_scratch *scratch = NULL;
    nphd_match *matches = NULL;

    TRY(nphdi_index_borrow(job->index, &scratch, err));
    TRY(nphdi_alloc(job->index->allocator, job->breadth, sizeof(*matches), &matches, err));
    while (!atomic_load(&job->stop)) {
        const uint64_t number = atomic_fetch_add(&job->next, 1);
        if (number >= job->query_count) {
            break;
        }
        TRY(graph_query(job, number, &scratch->scratch, matches, err));
        const uint64_t done = atomic_fetch_add(&job->done, 1) + 1;
        if (worker == 0 && job->query_count > 1 &&
            !nphdi_search_go_on(job, done, job->query_count)) {
            status = nphdi_search_cancelled(err);
            goto done;
        }
    }
done:
    nphdi_free(job->index->allocator, matches, job->breadth, sizeof(*matches));
    nphdi_index_give_back(job->index, scratch);
    return status;
}

static void search_worker(void *context, uint32_t worker)
{
    nphdi_search_job *job = context;
    nphd_error err = NPHD_ERROR_INIT;
    const nphd_status status =
        job->exact ? nphdi_search_exact(job, worker, &err) : work_queries(job, worker, &err);

    if (status != NPHD_OK) {
        job_fail(job, status, &err);
    }
}

static nphd_status check_search(const nphdi_search_job *job, nphd_error *err)
{
    const nphdi_shape *shape = &job->content->shape;

    if (job->capacity == 0) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                          "search: capacity is 0; it must be 1 or more");
    }
    if ((job->out == NULL || job->reports == NULL || job->queries == NULL) &&
        job->query_count > 0) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "search: queries, out or reports is NULL");
    }
    if (job->options.breadth > NPHDI_MAX_BREADTH) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "search: breadth is %u; it must be 1 to %u",
                          job->options.breadth, NPHDI_MAX_BREADTH);
    }
    if (job->options.use_radius && !(job->options.radius >= 0)) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "search: radius is not 0 or more");
    }
    if (job->options.mode > NPHD_SEARCH_APPROXIMATE) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "search: mode %d is not known",
                          (int)job->options.mode);
    }
    for (size_t i = 0; i < job->query_count; i++) {
        const nphd_vector query = job->queries[i];
        if (query.data == NULL || query.bytes == 0 || query.bytes > NPHD_MAX_BYTES ||
            (shape->metric == NPHD_METRIC_HAMMING && query.bytes != shape->payload_bytes)) {
            return nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                              "search: query %zu has %zu bytes; this index takes %s%u", i,
                              query.data == NULL ? 0 : query.bytes,
                              shape->metric == NPHD_METRIC_HAMMING ? "" : "1 to ",
                              shape->metric == NPHD_METRIC_HAMMING ? shape->payload_bytes
                                                                   : NPHD_MAX_BYTES);
        }
    }
    return NPHD_OK;
}

nphd_status nphdi_index_check_search(nphd_index *index, const nphd_vector *queries,
                                     size_t query_count, size_t capacity,
                                     const nphd_search_options *options, nphd_match *out,
                                     nphd_search_report *reports, nphd_error *err)
{
    nphd_status status;
    nphdi_search_job job;

    memset(&job, 0, sizeof(job));
    job.queries = queries;
    job.query_count = query_count;
    job.capacity = capacity;
    job.options = *options;
    job.out = out;
    job.reports = reports;
    nphdi_rwlock_read(&index->content_lock);
    job.content = index->content;
    status = check_search(&job, err);
    nphdi_rwlock_read_end(&index->content_lock);
    return status;
}

static nphd_status choose_plan(nphdi_search_job *job, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint32_t breadth =
        job->options.breadth != 0 ? job->options.breadth : atomic_load(&job->index->search_breadth);
    const uint64_t slots = job->slots;
    uint64_t live = 0;

    job->exact = job->options.mode == NPHD_SEARCH_EXACT;
    if (job->options.mode == NPHD_SEARCH_AUTO) {
        TRY(nphdi_content_size(job->content, &live, err));
        job->exact = live < NPHD_EXACT_BELOW;
    }
    /* no more can be found than there is, and no memory is taken for more */
    job->breadth = job->capacity < breadth ? breadth
                   : job->capacity < slots ? (uint32_t)job->capacity
                                           : (uint32_t)slots;
    job->breadth = job->breadth > slots ? (uint32_t)slots : job->breadth;
    job->breadth = job->breadth == 0 ? 1 : job->breadth;
done:
    return status;
}

static nphd_status run_job(nphdi_search_job *job, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t slots = job->slots;
    nphdi_scan_match *merged = NULL;
    uint64_t workers = job->options.threads == 0 ? 1 : job->options.threads;

    TRY(check_search(job, err));
    if (job->query_count == 0) {
        return NPHD_OK;
    }
    TRY(choose_plan(job, err));
    job->keep = job->capacity < slots ? job->capacity : slots;
    job->keep = job->keep == 0 ? 1 : job->keep;
    if (job->exact) {
        TRY(nphdi_search_exact_plan(job, workers, &workers, &merged, err));
    } else {
        workers = workers < job->query_count ? workers : job->query_count;
    }
    nphdi_threads_run((uint32_t)workers, search_worker, job);
    status = job->status;
    if (status == NPHD_OK && job->exact) {
        nphdi_search_exact_end(job);
    }
done:
    nphdi_free(job->index->allocator, merged, job->keep, sizeof(*merged));
    return status;
}

nphd_status nphd_index_search_many(nphd_index *index, const nphd_vector *queries,
                                   size_t query_count, size_t capacity,
                                   const nphd_search_options *options, nphd_match *out,
                                   nphd_search_report *reports, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_search_options known = NPHD_SEARCH_OPTIONS_INIT;
    nphdi_search_job job;

    nphdi_error_clear(err);
    if (reports != NULL && query_count > 0) {
        memset(reports, 0, query_count * sizeof(*reports));
    }
    memset(&job, 0, sizeof(job));
    TRY(nphdi_options_read(options, sizeof(known), &known, "search options", err));
    if (pthread_mutex_init(&job.lock, NULL) != 0) {
        return nphdi_fail(err, NPHD_OUT_OF_MEMORY, "cannot create a lock");
    }
    job.index = index;
    job.queries = queries;
    job.query_count = query_count;
    job.capacity = capacity;
    job.options = known;
    job.out = out;
    job.reports = reports;
    job.err = err;
    nphdi_rwlock_read(&index->content_lock);
    job.content = index->content;
    job.slots = nphdi_content_slots(index->content);
    status = run_job(&job, err);
    nphdi_rwlock_read_end(&index->content_lock);
    (void)pthread_mutex_destroy(&job.lock);
done:
    if (status != NPHD_OK && reports != NULL && query_count > 0) {
        memset(reports, 0, query_count * sizeof(*reports));
    }
    return status;
}

nphd_status nphd_index_search(nphd_index *index, nphd_vector query, size_t capacity,
                              const nphd_search_options *options, nphd_match *out,
                              nphd_search_report *report, nphd_error *err)
{
    return nphd_index_search_many(index, &query, 1, capacity, options, out, report, err);
}
