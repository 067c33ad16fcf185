/* Exact search: over the planes where the content has them, else over the rows.
 *
 * Over planes, a worker takes a group of queries through all parts, so that each part is read from
 * memory once for the group; over rows it takes one query at a time. One query alone is shared:
 * each worker takes parts, or stripes of rows, and what they found is merged. Which worker did what
 * does not show in the answer, for its order is total.
 *
 * The variants of a query are queries of the planes that share a taker. */
#include "base/error.h"
#include "index/index_search_many.h"
#include "scan/costs.h"
#include "scan/planes.h"

#include <string.h>

/* Rows between two looks at the progress callback, and the smallest share of a worker: some 50
 * microseconds of work, so that neither shows in the time. The same in parts. */
#define SCAN_STRIPE 32768
#define PART_STRIPE 4

/* Parts below which another worker costs more than it saves: a thread takes some 50 microseconds to
 * begin, by bench_scan the time of half of these. */
#define PARTS_FOR_WORKER 64

/* A walk along the graph for a bound must cost this much less than the scan that it may save. */
#define BOUND_WORTH 3

/* What tables that must be used may cost. */
#define FORCED 1e18

/* Queries that go over a part together. More would save little of the reading, and their heaps
 * would push the part out of the cache. */
#define MOST_GROUPED 32
#define MOST_GROUPED_MATCHES 65536

/* A worker's own. */
typedef struct exact_worker {
    nphdi_search_job *job;
    uint32_t number;
    size_t most;                     /* queries at a time */
    size_t count;                    /* queries now */
    size_t scanned;                  /* of them by scanning */
    nphdi_scan_match *matches;       /* `keep` for each of them */
    nphdi_planes_query *prepared;    /* for each variant of each that is scanned for */
    nphdi_tables_scratch *tables;    /* NULL: there are no tables */
    nphdi_search_together *together; /* NULL: queries are asked one by one */
    nphdi_scan_best best[MOST_GROUPED];
    uint64_t looked[MOST_GROUPED];
    double predicted[MOST_GROUPED];        /* nanoseconds */
    uint64_t taken[MOST_GROUPED];          /* the same, measured */
    bool answered[MOST_GROUPED];           /* by the tables */
    bool bounded[MOST_GROUPED];            /* by what the graph told */
    bool settled[MOST_GROUPED];            /* not to be scanned for, or not again */
    nphdi_search_view views[MOST_GROUPED]; /* for each variant of each */
} exact_worker;

static float distance_of(const nphdi_search_job *job, nphdi_bits bits)
{
    return job->content->shape.metric == NPHD_METRIC_HAMMING ? (float)bits.differing
                                                             : nphdi_bits_distance(bits);
}

nphd_match nphdi_search_match(const nphdi_search_job *job, const nphdi_scan_match *from)
{
    const nphd_match match = {from->key, distance_of(job, from->bits), from->variant};

    return match;
}

/* To the sink of the call, from one worker at a time. `context`: the view of the query. */
static bool hand_over(void *context, const nphdi_scan_match *found)
{
    nphdi_search_view *view = context;
    nphdi_search_job *job = view->job;
    const nphdi_search_request *ask = &job->ask;
    const nphd_match match = nphdi_search_match(job, found);

    (void)pthread_mutex_lock(&job->lock);
    /* another worker may have ended the call, or found the one match that this query wants */
    bool go_on = !atomic_load(&job->stop);
    view->cut = !go_on;
    if (go_on) {
        if (ask->reports != NULL) {
            ask->reports[view->number].count++;
        }
        job->cut = ask->sink(ask->sink_context, view->number, &match) != 0;
        view->cut = job->cut && !ask->options.any;
        go_on = !job->cut && !(job->shared && ask->options.any);
    }
    if (!go_on) {
        atomic_store(&job->stop, true);
    }
    (void)pthread_mutex_unlock(&job->lock);
    return go_on;
}

static void scan_begin(const nphdi_search_job *job, nphdi_scan_match *matches,
                       nphdi_search_view *view, nphdi_scan_best *best)
{
    if (job->ask.sink != NULL) {
        nphdi_scan_begin_sink(best, hand_over, view);
    } else {
        nphdi_scan_begin(best, matches, job->keep);
    }
    best->any = job->ask.options.any;
    if (job->ask.options.use_radius) {
        nphdi_search_limit_radius(job, best);
    }
}

static void scan_report(nphdi_search_job *job, size_t number, nphdi_scan_best *best,
                        uint64_t looked)
{
    const nphd_search_options *options = &job->ask.options;
    const uint64_t all = job->slots * job->variants;
    nphd_search_report *report = job->ask.reports == NULL ? NULL : &job->ask.reports[number];

    if (report == NULL) {
        return;
    }
    if (job->ask.sink == NULL) {
        nphd_match *out = job->ask.out + number * job->ask.capacity;
        nphdi_scan_finish(best);
        report->count = (size_t)(best->count < job->wanted ? best->count : job->wanted);
        report->more = options->use_radius && !options->any && best->count > job->wanted;
        for (size_t i = 0; i < report->count; i++) {
            out[i] = nphdi_search_match(job, &best->matches[i]);
        }
    }
    report->exact = true;
    report->computed = looked < all ? looked : all;
    report->visited = 0;
}

/* How query `number` was answered, by the tables or a scan; times in nanoseconds. */
static void plan_report(const nphdi_search_job *job, size_t number, bool answered, double predicted,
                        uint64_t taken)
{
    nphd_search_report *report = job->ask.reports == NULL ? NULL : &job->ask.reports[number];

    if (report != NULL) {
        report->plan = answered          ? NPHD_PLAN_TABLES
                       : job->slots == 0 ? NPHD_PLAN_AUTO
                                         : NPHD_PLAN_SCAN;
        report->predicted = (float)(predicted / 1000);
        report->measured = (float)taken / 1000;
    }
}

/* Of all variants of a query, in nanoseconds. */
static double scan_cost(const nphdi_search_job *job, size_t number, const uint16_t *limit)
{
    double cost = 0;

    for (uint32_t variant = 0; variant < job->variants; variant++) {
        const nphdi_query query = nphdi_search_query(job, number, variant);
        cost += nphdi_search_scan_cost(job, &query, limit, NULL);
    }
    return cost;
}

/* ---- queries of one worker over a piece of the index ---- */

/* Taker and views for query first+i. */
static void begin_query(exact_worker *self, size_t first, size_t i)
{
    nphdi_search_job *job = self->job;
    nphdi_search_view *views = &self->views[i * job->variants];

    self->looked[i] = 0;
    self->taken[i] = 0;
    self->answered[i] = false;
    self->bounded[i] = false;
    self->settled[i] = false;
    scan_begin(job, self->matches + i * job->keep, views, &self->best[i]);
    for (uint32_t variant = 0; variant < job->variants; variant++) {
        const nphdi_search_view untouched = {job, first + i, variant, false, false, 0};
        views[variant] = untouched;
    }
}

/* What bounded a query may have been removed meanwhile, and then others, farther away, are the
 * answer: it is begun anew without a bound. false: no query is to be scanned for again. */
static bool forget_bounds(exact_worker *self, size_t first, size_t count)
{
    bool again = false;

    for (size_t i = 0; i < count; i++) {
        const bool lost = self->bounded[i] && self->best[i].count < self->job->keep;
        self->settled[i] = true;
        if (lost) {
            begin_query(self, first, i);
            again = true;
        }
    }
    return again && !atomic_load(&self->job->stop);
}

/* What is known of a query before a vector is looked at: its radius, and where tables may profit
 * from that, what the graph tells about the nearest. */
static nphd_status limit_query(nphdi_search_job *job, size_t number, nphdi_scan_best *best,
                               bool *out_bounded, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_bits bound = job->bound;
    bool found = job->bounded;

    *out_bounded = false;
    if (job->tables.mih == NULL || job->ask.options.use_radius || job->variants > 1) {
        return NPHD_OK;
    }
    if (!found &&
        (job->ask.options.plan == NPHD_PLAN_TABLES ||
         scan_cost(job, number, best->limit) > BOUND_WORTH * job->breadth * NPHDI_COST_BREADTH)) {
        TRY(nphdi_search_graph_bound(job, number, &bound, &found, err));
    }
    if (found) {
        nphdi_scan_limit_bits(best, bound);
    }
    if (found && job->ask.query_count == 1) {
        job->bound = bound;
        job->bounded = true;
    }
    *out_bounded = found;
done:
    return status;
}

/* Answers by the tables those of the queries for which they are cheaper than scanning. */
static nphd_status ask_tables(exact_worker *self, size_t first, size_t count, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_search_job *job = self->job;

    for (size_t i = 0; i < count && !atomic_load(&job->stop); i++) {
        if (self->settled[i]) {
            continue;
        }
        const uint64_t start = nphdi_clock_ns();
        nphdi_search_view *views = &self->views[i * job->variants];
        double by_tables = 0;
        TRY(limit_query(job, first + i, &self->best[i], &self->bounded[i], err));
        self->predicted[i] = scan_cost(job, first + i, self->best[i].limit);
        if (self->tables != NULL) {
            const bool forced = job->ask.options.plan == NPHD_PLAN_TABLES;
            TRY(nphdi_search_by_tables(job, first + i, views, &self->best[i],
                                       forced ? FORCED : self->predicted[i], self->tables,
                                       &self->answered[i], &by_tables, &self->looked[i], err));
        }
        if (self->answered[i]) {
            self->predicted[i] = by_tables;
            self->settled[i] = true;
        }
        for (uint32_t variant = 0; variant < job->variants; variant++) {
            if (views[variant].broken) {
                return nphdi_mapped_broken(&job->content->mapped, views[variant].broken_slot, err);
            }
        }
        self->taken[i] = nphdi_clock_ns() - start;
    }
done:
    return status;
}

/* Sets the others up for scanning; returns how many they are. */
static size_t prepare_scan(exact_worker *self, size_t first, size_t count)
{
    nphdi_search_job *job = self->job;
    size_t scanned = 0;

    for (size_t i = 0; i < count; i++) {
        if (self->settled[i]) {
            continue;
        }
        for (uint32_t variant = 0; job->parts > 0 && variant < job->variants; variant++) {
            const nphdi_query query = nphdi_search_query(job, first + i, variant);
            nphdi_planes_query_set(&self->prepared[scanned * job->variants + variant], &query,
                                   &self->best[i], &self->views[i * job->variants + variant]);
        }
        scanned++;
    }
    return scanned;
}

/* A query that has ended takes no time, and looks at nothing. */
static void count_looks(exact_worker *self, size_t queries, uint64_t vectors)
{
    for (size_t i = 0; i < queries; i++) {
        self->looked[i] +=
            self->best[i].ended || self->settled[i] ? 0 : vectors * self->job->variants;
    }
}

static void scan_rows(exact_worker *self, size_t number, uint64_t first, uint64_t count)
{
    const nphdi_content *content = self->job->content;
    nphdi_scan_target target;

    count_looks(self, 1, count);
    target.rows = nphdi_content_rows(content);
    target.kernels = content->kernels;
    target.accept = nphdi_search_accept;
    for (uint32_t variant = 0; variant < self->job->variants; variant++) {
        target.query = nphdi_search_query(self->job, number, variant);
        target.context = &self->views[variant];
        nphdi_scan_rows(&target, first, count, &self->best[0]);
    }
}

/* nphdi_search_accept() is to be asked about a slot. Where its key stands in a file takes a lookup.
 */
static void foresee(void *context, uint32_t slot)
{
    const nphdi_search_view *view = context;
    const nphdi_content *content = view->job->content;

    if (!content->view) {
        __builtin_prefetch(content->keys.base + content->shape.key_bytes * (uint64_t)slot);
    }
}

static void scan_parts(exact_worker *self, uint64_t first, uint64_t count)
{
    const nphdi_content *content = self->job->content;
    const nphdi_planes_scan scan = {content->kernels, nphdi_search_accept, self->prepared,
                                    self->scanned * self->job->variants, foresee};

    for (uint64_t i = first; i < first + count; i++) {
        const nphdi_planes_part part = nphdi_content_part(content, i);
        count_looks(self, self->count, part.vectors);
        nphdi_planes_scan_part(&scan, &part);
    }
}

static bool have_ended(const exact_worker *self, size_t queries)
{
    size_t ended = 0;

    while (ended < queries && (self->best[ended].ended || self->settled[ended])) {
        ended++;
    }
    return ended == queries;
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
        scan_parts(self, first, some);
    } else {
        scan_rows(self, number, first, some);
    }
    for (size_t i = 0; i < count * job->variants; i++) {
        if (self->views[i].broken) {
            return nphdi_mapped_broken(&job->content->mapped, self->views[i].broken_slot, err);
        }
    }
    /* several queries are told one by one as they end */
    if (self->number == 0 && job->ask.query_count == 1 &&
        !nphdi_search_go_on(job, first, job_total(job))) {
        return nphdi_search_cancelled(err);
    }
    return NPHD_OK;
}

/* ---- workers ---- */

/* All of the index for those of the queries that are not settled. *out_at: how far it came. */
static nphd_status scan_group(exact_worker *self, size_t first, size_t count, uint64_t *out_at,
                              nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_search_job *job = self->job;
    const uint64_t start = nphdi_clock_ns();
    uint64_t at = 0;

    self->scanned = prepare_scan(self, first, count);
    while (at < job_total(job) && !atomic_load(&job->stop) && !have_ended(self, count)) {
        TRY(scan_stripe(self, first, count, at, err));
        at += job_stripe(job);
    }
    const uint64_t taken = nphdi_clock_ns() - start;
    for (size_t i = 0; i < count; i++) {
        self->taken[i] += self->settled[i] ? 0 : taken / self->scanned;
    }
    *out_at = at;
done:
    return status;
}

/* Some queries, at most self->most. Those that were answered together are settled. */
static nphd_status answer_group(exact_worker *self, size_t first, size_t count, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_search_job *job = self->job;
    uint64_t at = 0;

    self->count = count;
    TRY(ask_tables(self, first, count, err));
    do {
        TRY(scan_group(self, first, count, &at, err));
    } while (forget_bounds(self, first, count));
    for (size_t i = 0; i < count; i++) {
        /* not those of which a match was kept back, or that did not get to the end */
        if (!self->views[i * job->variants].cut &&
            (at >= job_total(job) || self->best[i].ended || self->answered[i])) {
            scan_report(job, first + i, &self->best[i], self->looked[i]);
        }
        plan_report(job, first + i, self->answered[i], self->predicted[i], self->taken[i]);
    }
done:
    return status;
}

/* What was found out together of queries first..first+count-1; *out_left: some are left. */
static void take_over(exact_worker *self, size_t first, size_t count, uint64_t taken_ns,
                      bool *out_left)
{
    const nphdi_search_together *together = self->together;

    *out_left = false;
    for (size_t i = 0; i < count; i++) {
        begin_query(self, first, i);
        if (together == NULL || !together->answered[first + i - together->first]) {
            *out_left = true;
            continue;
        }
        const size_t place = first + i - together->first;
        self->settled[i] = true;
        self->answered[i] = true;
        self->looked[i] = together->compared[place];
        self->predicted[i] = (double)together->predicted[place];
        self->taken[i] = taken_ns;
    }
}

/* A share of a worker, group by group. */
static nphd_status answer_share(exact_worker *self, size_t first, size_t count, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_search_job *job = self->job;
    uint64_t taken_ns = 0;

    if (self->together != NULL) {
        nphdi_scan_best taker;
        scan_begin(job, NULL, NULL, &taker);
        TRY(nphdi_search_together_run(self->together, first, count, &taker, &taken_ns, err));
    }
    for (size_t i = 0; i < count && !atomic_load(&job->stop); i += self->most) {
        const size_t rest = count - i;
        const size_t some = rest < self->most ? rest : self->most;
        bool left = false;
        take_over(self, first + i, some, taken_ns, &left);
        if (left || job->ask.reports != NULL) {
            TRY(answer_group(self, first + i, some, err));
        }
    }
done:
    return status;
}

static nphd_status work_groups(exact_worker *self, size_t share, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_search_job *job = self->job;

    while (!atomic_load(&job->stop)) {
        const uint64_t first = atomic_fetch_add(&job->next, share);
        if (first >= job->ask.query_count) {
            break;
        }
        const size_t rest = job->ask.query_count - (size_t)first;
        const size_t count = rest < share ? rest : share;
        TRY(answer_share(self, (size_t)first, count, err));
        if (atomic_load(&job->stop)) {
            break;
        }
        const uint64_t done = atomic_fetch_add(&job->done, count) + count;
        if (self->number == 0 && job->ask.query_count > 1 &&
            !nphdi_search_go_on(job, done, job->ask.query_count)) {
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

    begin_query(self, 0, 0);
    self->scanned = prepare_scan(self, 0, 1);
    while (!atomic_load(&job->stop)) {
        const uint64_t first = atomic_fetch_add(&job->next, job_stripe(job));
        if (first >= job_total(job)) {
            break;
        }
        TRY(scan_stripe(self, 0, 1, first, err));
        if (self->best[0].ended) {
            atomic_store(&job->stop, true);
        }
    }
    (void)pthread_mutex_lock(&job->lock);
    nphdi_scan_merge(&job->merged, &self->best[0]);
    job->looked += self->looked[0];
    (void)pthread_mutex_unlock(&job->lock);
done:
    return status;
}

/* Queries that go together: few enough that of several workers each gets some twice, for they do
 * not take the same time. */
static size_t queries_at_a_time(const nphdi_search_job *job)
{
    const uint64_t threads = job->ask.options.threads;
    const uint64_t shares = threads > 1 ? 2 * threads : 1;
    const uint64_t share = (job->ask.query_count + shares - 1) / shares;
    uint64_t most = MOST_GROUPED_MATCHES / job->keep;

    most = most < MOST_GROUPED / job->variants ? most : MOST_GROUPED / job->variants;
    most = most < share ? most : share;
    return job->parts == 0 || most == 0 ? 1 : (size_t)most;
}

nphd_status nphdi_search_exact(nphdi_search_job *job, uint32_t worker, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_allocator *allocator = job->index->allocator;
    const size_t most = queries_at_a_time(job);
    const size_t together = nphdi_search_together_most(job);
    exact_worker *self = NULL;

    TRY(nphdi_alloc(allocator, 1, sizeof(*self), &self, err));
    self->job = job;
    self->number = worker;
    self->most = most;
    self->count = 1;
    TRY(nphdi_alloc(allocator, most * job->keep, sizeof(*self->matches), &self->matches, err));
    if (job->parts > 0) {
        TRY(nphdi_alloc(allocator, most * job->variants, sizeof(*self->prepared), &self->prepared,
                        err));
    }
    if (job->tables.mih != NULL && !job->shared) {
        TRY(nphdi_alloc(allocator, 1, sizeof(*self->tables), &self->tables, err));
    }
    if (together > 0) {
        TRY(nphdi_search_together_begin(job, together, &self->together, err));
    }
    TRY(job->shared ? work_stripes(self, err)
                    : work_groups(self, together > 0 ? together : most, err));
done:
    if (self != NULL) {
        if (self->tables != NULL) {
            nphdi_tables_scratch_free(self->tables, allocator);
        }
        nphdi_search_together_end(self->together, allocator);
        nphdi_free(allocator, self->tables, 1, sizeof(*self->tables));
        nphdi_free(allocator, self->prepared, most * job->variants, sizeof(*self->prepared));
        nphdi_free(allocator, self->matches, most * job->keep, sizeof(*self->matches));
    }
    nphdi_free(allocator, self, 1, sizeof(*self));
    return status;
}

/* One worker with the tables against several that scan. */
static nphd_status tables_beat_workers(nphdi_search_job *job, uint64_t workers, bool *out,
                                       nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_scan_best limits;
    double cost = 0;
    bool bounded = false;

    nphdi_scan_begin_sink(&limits, NULL, NULL);
    if (job->ask.options.use_radius) {
        nphdi_search_limit_radius(job, &limits);
    }
    TRY(limit_query(job, 0, &limits, &bounded, err));
    TRY(nphdi_search_tables_cost(job, 0, &limits, &cost, err));
    *out = cost < scan_cost(job, 0, limits.limit) / (double)workers;
done:
    return status;
}

nphd_status nphdi_search_exact_plan(nphdi_search_job *job, uint64_t wanted, uint64_t *out_workers,
                                    nphdi_scan_match **out_merged, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t most = job->ask.query_count;

    job->parts =
        nphdi_content_parts(job->content, job->slots, job->ask.query_count * job->variants);
    if (job->ask.options.plan != NPHD_PLAN_SCAN) {
        (void)nphdi_content_mih_look(job->content, &job->tables);
    }
    if (job->ask.query_count == 1) {
        most = job_total(job) / (job->parts > 0 ? PARTS_FOR_WORKER : SCAN_STRIPE) + 1;
    }
    *out_workers = wanted < most ? wanted : most;
    if (job->ask.query_count == 1 && *out_workers > 1 && job->tables.mih != NULL) {
        bool alone = false;
        TRY(tables_beat_workers(job, *out_workers, &alone, err));
        *out_workers = alone ? 1 : *out_workers;
    }
    if (job->ask.query_count == 1 && *out_workers > 1) {
        TRY(nphdi_alloc(job->index->allocator, job->keep, sizeof(**out_merged), out_merged, err));
        nphdi_scan_begin(&job->merged, *out_merged, job->keep);
        job->shared = true;
    }
done:
    return status;
}

/* Of a query that workers shared: each scanned with no other bound than the radius. */
static void report_shared(nphdi_search_job *job)
{
    nphdi_scan_best limits;

    nphdi_scan_begin_sink(&limits, NULL, NULL);
    if (job->ask.options.use_radius) {
        nphdi_search_limit_radius(job, &limits);
    }
    if (!job->cut || job->ask.options.any) {
        scan_report(job, 0, &job->merged, job->looked);
    }
    plan_report(job, 0, false, scan_cost(job, 0, limits.limit), 0);
}

void nphdi_search_exact_end(nphdi_search_job *job)
{
    if (job->shared) {
        report_shared(job);
    }
    for (size_t i = 0; job->cut && job->ask.reports != NULL && i < job->ask.query_count; i++) {
        job->ask.reports[i].more = !job->ask.reports[i].exact;
    }
}
