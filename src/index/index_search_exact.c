/* Exact search: over the planes where the content has them, else over the rows.
 *
 * Over planes, a worker takes a group of queries through all parts, so that each part is read from
 * memory once for the group; over rows it takes one query at a time. One query alone is shared:
 * each worker takes parts, or stripes of rows, and what they found is merged. Which worker did what
 * does not show in the answer, for its order is total. */
#include "base/error.h"
#include "index/index_search_job.h"
#include "scan/planes.h"

#include <string.h>

/* Rows between two looks at the progress callback, and the smallest share of a worker: some 50
 * microseconds of work, so that neither shows in the time. The same in parts. */
#define SCAN_STRIPE 32768
#define PART_STRIPE 4

/* Parts below which another worker costs more than it saves: a thread takes some 50 microseconds to
 * begin, by bench_scan the time of half of these. */
#define PARTS_FOR_WORKER 64

/* Queries that go over a part together. More would save little of the reading, and their heaps
 * would push the part out of the cache. */
#define MOST_GROUPED 32
#define MOST_GROUPED_MATCHES 65536

/* A worker's own. */
typedef struct exact_worker {
    nphdi_search_job *job;
    uint32_t number;
    size_t most;               /* queries at a time */
    nphdi_scan_match *matches; /* `keep` for each of them */
    nphdi_planes_query *prepared;
    nphdi_scan_best best[MOST_GROUPED];
    nphdi_search_view views[MOST_GROUPED];
} exact_worker;

static void scan_begin(const nphdi_search_job *job, nphdi_scan_match *matches,
                       nphdi_scan_best *best)
{
    nphdi_scan_begin(best, matches, job->keep);
    if (job->options.use_radius) {
        nphdi_scan_limit_radius(best, job->options.radius,
                                job->content->shape.metric == NPHD_METRIC_HAMMING);
    }
}

static void scan_report(nphdi_search_job *job, size_t number, nphdi_scan_best *best)
{
    const bool hamming = job->content->shape.metric == NPHD_METRIC_HAMMING;
    nphd_match *out = job->out + number * job->capacity;
    nphd_search_report *report = &job->reports[number];

    nphdi_scan_finish(best);
    for (uint64_t i = 0; i < best->count; i++) {
        const nphdi_bits bits = best->matches[i].bits;
        out[i].key = best->matches[i].key;
        out[i].distance = hamming ? (float)bits.differing : nphdi_bits_distance(bits);
    }
    report->count = (size_t)best->count;
    report->exact = true;
    report->computed = job->slots;
    report->visited = 0;
}

/* ---- queries of one worker over a piece of the index ---- */

/* Heaps and views for queries first..first+count-1. */
static void begin_queries(exact_worker *self, size_t first, size_t count)
{
    const nphdi_search_view untouched = {self->job, false, 0};

    for (size_t i = 0; i < count; i++) {
        self->views[i] = untouched;
        scan_begin(self->job, self->matches + i * self->job->keep, &self->best[i]);
        if (self->job->parts > 0) {
            const nphdi_query query = nphdi_search_query(self->job, first + i);
            nphdi_planes_query_set(&self->prepared[i], &query, &self->best[i], &self->views[i]);
        }
    }
}

static void scan_rows(exact_worker *self, size_t number, uint64_t first, uint64_t count)
{
    const nphdi_content *content = self->job->content;
    nphdi_scan_target target;

    target.query = nphdi_search_query(self->job, number);
    target.rows = nphdi_content_rows(content);
    target.kernels = content->kernels;
    target.accept = nphdi_search_accept;
    target.context = &self->views[0];
    nphdi_scan_rows(&target, first, count, &self->best[0]);
}

static void scan_parts(exact_worker *self, size_t queries, uint64_t first, uint64_t count)
{
    const nphdi_content *content = self->job->content;
    const nphdi_planes_scan scan = {content->kernels, nphdi_search_accept, self->prepared, queries};

    for (uint64_t i = first; i < first + count; i++) {
        const nphdi_planes_part part = nphdi_content_part(content, i);
        nphdi_planes_scan_part(&scan, &part);
    }
}

/* Parts or rows in all, and how many of them make a stripe. */
static uint64_t job_total(const nphdi_search_job *job)
{
    return job->parts > 0 ? job->parts : job->slots;
}

static uint64_t job_stripe(const nphdi_search_job *job)
{
    return job->parts > 0 ? PART_STRIPE : SCAN_STRIPE;
}

static nphd_status scan_stripe(exact_worker *self, size_t number, size_t count, uint64_t first,
                               nphd_error *err)
{
    const nphdi_search_job *job = self->job;
    const uint64_t rest = job_total(job) - first;
    const uint64_t some = rest < job_stripe(job) ? rest : job_stripe(job);

    if (job->parts > 0) {
        scan_parts(self, count, first, some);
    } else {
        scan_rows(self, number, first, some);
    }
    for (size_t i = 0; i < count; i++) {
        if (self->views[i].broken) {
            return nphdi_mapped_broken(&job->content->mapped, self->views[i].broken_slot, err);
        }
    }
    /* several queries are told one by one as they end */
    if (self->number == 0 && job->query_count == 1 &&
        !nphdi_search_go_on(job, first, job_total(job))) {
        return nphdi_search_cancelled(err);
    }
    return NPHD_OK;
}

/* ---- workers ---- */

static nphd_status work_groups(exact_worker *self, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_search_job *job = self->job;

    while (!atomic_load(&job->stop)) {
        const uint64_t first = atomic_fetch_add(&job->next, self->most);
        if (first >= job->query_count) {
            break;
        }
        const size_t rest = job->query_count - (size_t)first;
        const size_t count = rest < self->most ? rest : self->most;
        begin_queries(self, (size_t)first, count);
        for (uint64_t at = 0; at < job_total(job) && !atomic_load(&job->stop);
             at += job_stripe(job)) {
            TRY(scan_stripe(self, (size_t)first, count, at, err));
        }
        for (size_t i = 0; i < count; i++) {
            scan_report(job, (size_t)first + i, &self->best[i]);
        }
        const uint64_t done = atomic_fetch_add(&job->done, count) + count;
        if (self->number == 0 && job->query_count > 1 &&
            !nphdi_search_go_on(job, done, job->query_count)) {
            status = nphdi_search_cancelled(err);
            goto done;
        }
    }
done:
    return status;
}

static nphd_status work_stripes(exact_worker *self, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_search_job *job = self->job;

    begin_queries(self, 0, 1);
    while (!atomic_load(&job->stop)) {
        const uint64_t first = atomic_fetch_add(&job->next, job_stripe(job));
        if (first >= job_total(job)) {
            break;
        }
        TRY(scan_stripe(self, 0, 1, first, err));
    }
    (void)pthread_mutex_lock(&job->lock);
    nphdi_scan_merge(&job->merged, &self->best[0]);
    (void)pthread_mutex_unlock(&job->lock);
done:
    return status;
}

/* Queries that go together: few enough that of several workers each gets some twice, for they do
 * not take the same time. */
static size_t queries_at_a_time(const nphdi_search_job *job)
{
    const uint64_t threads = job->options.threads;
    const uint64_t shares = threads > 1 ? 2 * threads : 1;
    const uint64_t share = (job->query_count + shares - 1) / shares;
    uint64_t most = MOST_GROUPED_MATCHES / job->keep;

    most = most < MOST_GROUPED ? most : MOST_GROUPED;
    most = most < share ? most : share;
    return job->parts == 0 || most == 0 ? 1 : (size_t)most;
}

nphd_status nphdi_search_exact(nphdi_search_job *job, uint32_t worker, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_allocator *allocator = job->index->allocator;
    const size_t most = queries_at_a_time(job);
    exact_worker *self = NULL;

    TRY(nphdi_alloc(allocator, 1, sizeof(*self), &self, err));
    self->job = job;
    self->number = worker;
    self->most = most;
    TRY(nphdi_alloc(allocator, most * job->keep, sizeof(*self->matches), &self->matches, err));
    if (job->parts > 0) {
        TRY(nphdi_alloc(allocator, most, sizeof(*self->prepared), &self->prepared, err));
    }
    TRY(job->shared ? work_stripes(self, err) : work_groups(self, err));
done:
    if (self != NULL) {
        nphdi_free(allocator, self->prepared, most, sizeof(*self->prepared));
        nphdi_free(allocator, self->matches, most * job->keep, sizeof(*self->matches));
    }
    nphdi_free(allocator, self, 1, sizeof(*self));
    return status;
}

nphd_status nphdi_search_exact_plan(nphdi_search_job *job, uint64_t wanted, uint64_t *out_workers,
                                    nphdi_scan_match **out_merged, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t most = job->query_count;

    job->parts = nphdi_content_parts(job->content, job->slots, job->query_count);
    if (job->query_count == 1) {
        most = job_total(job) / (job->parts > 0 ? PARTS_FOR_WORKER : SCAN_STRIPE) + 1;
    }
    *out_workers = wanted < most ? wanted : most;
    if (job->query_count == 1 && *out_workers > 1) {
        TRY(nphdi_alloc(job->index->allocator, job->keep, sizeof(**out_merged), out_merged, err));
        scan_begin(job, *out_merged, &job->merged);
        job->shared = true;
    }
done:
    return status;
}

void nphdi_search_exact_end(nphdi_search_job *job)
{
    if (job->shared) {
        scan_report(job, 0, &job->merged);
    }
}
