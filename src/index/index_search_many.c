#include "index/index_search_many.h"

#include "base/error.h"
#include "base/memory.h"
#include "scan/planes.h"

#include <string.h>

/* Fewer queries find little in the cache that others before them have fetched. */
#define LEAST_TOGETHER 128

/* What tables lead to may cost this many times what was predicted, or as much as a scan. */
#define SURPRISE 1.2

size_t nphdi_search_together_most(const nphdi_search_job *job)
{
    const nphdi_mih *mih = job->tables.mih;
    const nphdi_search_request *ask = &job->ask;
    const uint64_t threads = ask->options.threads;
    const uint64_t shares = threads > 1 ? 2 * threads : 1;
    const uint64_t share = (ask->query_count + shares - 1) / shares;

    if (mih == NULL || mih->table_count == 0 || mih->tables[0].beside == NULL ||
        ask->sink == NULL || !ask->options.use_radius || ask->options.any || job->variants > 1 ||
        share < LEAST_TOGETHER) {
        return 0;
    }
    return share < NPHDI_MIH_MANY_MOST ? (size_t)share : NPHDI_MIH_MANY_MOST;
}

nphd_status nphdi_search_together_begin(nphdi_search_job *job, size_t most,
                                        nphdi_search_together **out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_allocator *allocator = job->index->allocator;
    nphdi_search_together *together = NULL;

    TRY(nphdi_alloc(allocator, 1, sizeof(*together), &together, err));
    *out = together;
    together->job = job;
    together->most = most;
    together->table_count = job->tables.mih->table_count;
    TRY(nphdi_mih_many_begin(allocator, &together->scratch, err));
    TRY(nphdi_alloc(allocator, most, sizeof(*together->queries), &together->queries, err));
    TRY(nphdi_alloc(allocator, most, sizeof(*together->views), &together->views, err));
    TRY(nphdi_alloc(allocator, most, together->table_count, &together->depths, err));
    TRY(nphdi_alloc(allocator, most, sizeof(*together->until), &together->until, err));
    TRY(nphdi_alloc(allocator, most, sizeof(*together->budgets), &together->budgets, err));
    TRY(nphdi_alloc(allocator, most, sizeof(*together->compared), &together->compared, err));
    TRY(nphdi_alloc(allocator, most, sizeof(*together->predicted), &together->predicted, err));
    TRY(nphdi_alloc(allocator, most, sizeof(*together->answered), &together->answered, err));
done:
    return status;
}

void nphdi_search_together_end(nphdi_search_together *together, const nphd_allocator *allocator)
{
    if (together == NULL) {
        return;
    }
    nphdi_mih_many_end(together->scratch, allocator);
    nphdi_free(allocator, together->queries, together->most, sizeof(*together->queries));
    nphdi_free(allocator, together->views, together->most, sizeof(*together->views));
    nphdi_free(allocator, together->depths, together->most, together->table_count);
    nphdi_free(allocator, together->until, together->most, sizeof(*together->until));
    nphdi_free(allocator, together->budgets, together->most, sizeof(*together->budgets));
    nphdi_free(allocator, together->compared, together->most, sizeof(*together->compared));
    nphdi_free(allocator, together->predicted, together->most, sizeof(*together->predicted));
    nphdi_free(allocator, together->answered, together->most, sizeof(*together->answered));
    nphdi_free(allocator, together, 1, sizeof(*together));
}

/* Which of the queries the tables shall answer, and how. A query for which some lengths are to be
 * scanned is not among them. */
static void plan_queries(nphdi_search_together *of)
{
    nphdi_search_job *job = of->job;
    const nphdi_mih *mih = job->tables.mih;
    const double apart = (double)(job->tables.loose_count + job->slots - mih->covered);
    double scan_ns[NPHDI_MIH_LENGTHS];
    double scan_cost = 0;
    uint32_t bytes = 0; /* of the query that these are for */

    for (size_t i = 0; i < of->count; i++) {
        const nphdi_search_view untouched = {job, of->first + i, 0, false, false, 0};
        uint8_t *depths = of->depths + i * of->table_count;
        of->queries[i] = nphdi_search_query(job, of->first + i, 0);
        of->views[i] = untouched;
        of->compared[i] = 0;
        if (of->queries[i].bytes != bytes) {
            bytes = of->queries[i].bytes;
            scan_cost = nphdi_search_scan_cost(job, &of->queries[i], job->limit, scan_ns);
        }
        nphdi_mih_plan_make(mih, &of->queries[i], job->limit, scan_ns,
                            nphdi_search_tables_costs(job), &of->plan);
        const double cost = of->plan.cost + apart * job->content->kernels->row_ns;
        of->predicted[i] = (float)cost;
        of->budgets[i] = (float)(scan_cost > SURPRISE * cost ? scan_cost : SURPRISE * cost);
        of->answered[i] = !of->plan.scans && cost < scan_cost;
        if (of->answered[i]) {
            memcpy(depths, of->plan.depth, of->table_count);
        } else {
            memset(depths, 0, of->table_count);
        }
    }
    memset(&of->plan, 0, sizeof(of->plan)); /* no length is scanned */
}

/* `context`: all of them. */
static bool take_found(void *context, uint32_t query, nphdi_scan_match *match)
{
    nphdi_search_together *of = context;

    if (nphdi_search_accept(&of->views[query], match)) {
        of->best.sink_context = &of->views[query];
        (void)nphdi_scan_add(&of->best, match);
    }
    return !of->best.ended;
}

static void take_loose(nphdi_search_together *of)
{
    const nphdi_search_job *job = of->job;
    nphdi_scan_target target;

    target.rows = nphdi_content_rows(job->content);
    target.kernels = job->content->kernels;
    target.accept = nphdi_search_accept;
    for (size_t i = 0; i < of->count && !of->best.ended; i++) {
        if (of->answered[i]) {
            target.query = of->queries[i];
            target.context = &of->views[i];
            of->best.sink_context = &of->views[i];
            of->compared[i] +=
                (uint32_t)nphdi_search_take_loose(job, &target, &of->plan, &of->best);
        }
    }
}

/* A query that was given up is scanned for, but for what its tables have led to. */
typedef struct given_up {
    nphdi_search_together *of;
    size_t number;
} given_up;

static bool accept_rest(void *context, nphdi_scan_match *match)
{
    const given_up *rest = context;
    const nphdi_search_together *of = rest->of;
    const nphdi_mih_view *tables = &of->job->tables;
    const nphdi_rows rows = nphdi_content_rows(of->job->content);
    const uint32_t slot = match->slot;

    if (slot >= tables->mih->covered ||
        (tables->stale != NULL && (tables->stale[slot / 64] >> (slot % 64) & 1) != 0)) {
        return false; /* one that the tables do not tell, and compared already */
    }
    const nphdi_query row = nphdi_rows_query(&rows, slot);
    return !nphdi_mih_finds_before(tables->mih, of->depths + rest->number * of->table_count,
                                   &of->queries[rest->number], &row, match->bits.shared,
                                   of->until[rest->number]) &&
           nphdi_search_accept(&of->views[rest->number], match);
}

static void scan_rest(nphdi_search_together *of, size_t number)
{
    const nphdi_search_job *job = of->job;
    given_up context = {of, number};
    nphdi_planes_query prepared;
    const nphdi_planes_scan scan = {job->content->kernels, accept_rest, &prepared, 1, NULL};
    const nphdi_scan_target target = {of->queries[number], nphdi_content_rows(job->content),
                                      job->content->kernels, accept_rest, &context};

    of->best.sink_context = &of->views[number];
    of->compared[number] += (uint32_t)job->slots;
    nphdi_planes_query_set(&prepared, &of->queries[number], &of->best, &context);
    for (uint64_t i = 0; i < job->parts && !of->best.ended; i++) {
        const nphdi_planes_part part = nphdi_content_part(job->content, i);
        nphdi_planes_scan_part(&scan, &part);
    }
    if (job->parts == 0) {
        nphdi_scan_rows(&target, 0, job->slots, &of->best);
    }
}

nphd_status nphdi_search_together_run(nphdi_search_together *together, size_t first, size_t count,
                                      const nphdi_scan_best *taker, uint64_t *out_taken_ns,
                                      nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_search_job *job = together->job;
    const uint64_t start = nphdi_clock_ns();
    uint64_t answered = 0;

    together->first = first;
    together->count = count;
    together->best = *taker;
    plan_queries(together);
    const nphdi_mih_many many = {job->tables.mih,
                                 nphdi_content_rows(job->content),
                                 job->content->kernels,
                                 job->tables.stale,
                                 job->limit,
                                 together->queries,
                                 together->depths,
                                 together->budgets,
                                 nphdi_search_tables_costs(job),
                                 together->until,
                                 together->compared,
                                 (uint32_t)count,
                                 take_found,
                                 together,
                                 together->scratch};
    status = nphdi_mih_many_run(&many);
    if (status == NPHD_CORRUPT) {
        return nphdi_search_broken_tables(job, err);
    }
    take_loose(together);
    for (size_t i = 0; i < count && !together->best.ended; i++) {
        if (together->until[i] < together->table_count) {
            scan_rest(together, i);
        }
    }
    for (size_t i = 0; i < count; i++) {
        answered += together->answered[i] ? 1 : 0;
        if (together->views[i].broken) {
            return nphdi_mapped_broken(&job->content->mapped, together->views[i].broken_slot, err);
        }
    }
    *out_taken_ns = answered == 0 ? 0 : (nphdi_clock_ns() - start) / answered;
    return status;
}
