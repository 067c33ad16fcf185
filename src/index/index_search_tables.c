#include "index/index_search_tables.h"

#include "base/error.h"
#include "scan/costs.h"
#include "scan/planes.h"

#include <string.h>

/* Slots compared at a time. */
#define SLOTS_AT_ONCE 256

/* Where the tables turn out to lead to this many times what was predicted, scanning is preferred
 * after all if it costs less. */
#define SURPRISE 1.2

void nphdi_tables_scratch_free(nphdi_tables_scratch *scratch, const nphd_allocator *allocator)
{
    for (uint32_t i = 0; i < NPHD_MAX_VARIANTS; i++) {
        nphdi_mih_scratch_free(&scratch->found[i], allocator);
    }
}

/* Tables that must be used are looked into even where that costs this many times the scan. */
#define FORCED_TIMES 100

/* ---- costs ---- */

double nphdi_search_scan_cost(const nphdi_search_job *job, const nphdi_query *query,
                              const uint16_t *limit, double *out_lengths)
{
    const uint32_t *counts = job->tables.mih == NULL ? NULL : job->tables.mih->counts;
    const uint32_t lengths = job->tables.mih == NULL ? 0 : job->tables.mih->lengths;
    const nphdi_kernels *kernels = job->content->kernels;
    const double word = nphdi_cost_word(kernels, job->slots * job->content->shape.payload_bytes,
                                        job->ask.query_count * job->variants);
    uint64_t counted = 0;
    double sum = 0;

    for (uint32_t length = 0; length < lengths; length++) {
        const uint32_t shared = query->bytes < length ? query->bytes : length;
        const double cost = counts[length] == 0 ? 0
                            : job->parts > 0
                                ? nphdi_cost_planes(counts[length], shared, limit[shared], word)
                                : counts[length] * kernels->row_ns;
        if (out_lengths != NULL) {
            out_lengths[length] = cost;
        }
        counted += counts[length];
        sum += cost;
    }
    /* what is not counted is taken for vectors as long as the query */
    return sum + (job->parts > 0 ? nphdi_cost_planes(job->slots - counted, query->bytes,
                                                     limit[query->bytes], word)
                                 : (double)(job->slots - counted) * kernels->row_ns);
}

const nphdi_mih_costs *nphdi_search_tables_costs(const nphdi_search_job *job)
{
    const nphdi_mih *mih = job->tables.mih;

    return mih->bytes + mih->covered * job->content->row_bytes <= NPHDI_COST_MIH_NEAR_BYTES
               ? &nphdi_costs_mih_near
               : &nphdi_costs_mih;
}

/* ---- what the tables do not tell ---- */

/* Compares some slots with a query and offers those within the limits, but for vectors of the
 * lengths that are scanned anyway. */
static void take_slots(const nphdi_scan_target *target, const nphdi_mih_plan *plan,
                       const uint32_t *slots, size_t count, nphdi_scan_best *best)
{
    nphdi_bits bits[SLOTS_AT_ONCE];
    nphdi_scan_match match = {{0, 0}, {0, 0}, 0, 0};

    target->kernels->gather(&target->query, &target->rows, slots, count, bits);
    for (size_t i = 0; i < count && !best->ended; i++) {
        match.slot = slots[i];
        match.bits = bits[i];
        if (bits[i].differing <= best->limit[bits[i].shared] &&
            !plan->scanned[nphdi_rows_query(&target->rows, slots[i]).bytes] &&
            target->accept(target->context, &match)) {
            (void)nphdi_scan_add(best, &match);
        }
    }
}

uint64_t nphdi_search_take_loose(const nphdi_search_job *job, const nphdi_scan_target *target,
                                 const nphdi_mih_plan *plan, nphdi_scan_best *best)
{
    const nphdi_mih_view *tables = &job->tables;
    uint64_t looked = 0;

    for (uint64_t i = 0; i < tables->loose_count && !best->ended; i += SLOTS_AT_ONCE) {
        const uint64_t rest = tables->loose_count - i;
        const size_t some = rest < SLOTS_AT_ONCE ? (size_t)rest : SLOTS_AT_ONCE;
        take_slots(target, plan, tables->loose + i, some, best);
        looked += some;
    }
    for (uint64_t at = tables->mih->covered; at < job->slots && !best->ended;) {
        uint32_t slots[SLOTS_AT_ONCE];
        size_t some = 0;
        for (; some < SLOTS_AT_ONCE && at < job->slots; at++) {
            slots[some++] = (uint32_t)at;
        }
        take_slots(target, plan, slots, some, best);
        looked += some;
    }
    return looked;
}

static uint64_t scan_lengths(const nphdi_search_job *job, const nphdi_scan_target *target,
                             const nphdi_mih_plan *plan, nphdi_scan_best *best)
{
    nphdi_planes_query prepared;
    const nphdi_planes_scan scan = {target->kernels, target->accept, &prepared, 1, NULL};
    uint64_t looked = 0;

    nphdi_planes_query_set(&prepared, &target->query, best, target->context);
    for (uint64_t i = 0; i < job->parts && !best->ended; i++) {
        const nphdi_planes_part part = nphdi_content_part(job->content, i);
        if (plan->scanned[part.length]) {
            nphdi_planes_scan_part(&scan, &part);
            looked += part.vectors;
        }
    }
    return looked;
}

/* ---- the query ---- */

/* How each variant would be looked up; false: that cannot be, for want of planes to scan. */
static bool plan_variants(const nphdi_search_job *job, size_t number, nphdi_search_view *views,
                          const nphdi_scan_best *best, nphdi_tables_scratch *scratch,
                          double *out_cost)
{
    const nphdi_mih_view *tables = &job->tables;
    const uint64_t apart = tables->loose_count + job->slots - tables->mih->covered;

    *out_cost = 0;
    for (uint32_t variant = 0; variant < job->variants; variant++) {
        nphdi_scan_target *target = &scratch->targets[variant];
        double scan_ns[NPHDI_MIH_LENGTHS];
        target->query = nphdi_search_query(job, number, variant);
        target->rows = nphdi_content_rows(job->content);
        target->kernels = job->content->kernels;
        target->accept = nphdi_search_accept;
        target->context = &views[variant];
        (void)nphdi_search_scan_cost(job, &target->query, best->limit, scan_ns);
        for (uint32_t i = 0; job->ask.options.plan == NPHD_PLAN_TABLES && i < tables->mih->lengths;
             i++) {
            scan_ns[i] *= FORCED_TIMES;
        }
        nphdi_mih_plan_make(tables->mih, &target->query, best->limit, scan_ns,
                            nphdi_search_tables_costs(job), &scratch->plans[variant]);
        *out_cost += scratch->plans[variant].cost + (double)apart * job->content->kernels->row_ns;
        if (scratch->plans[variant].scans && job->parts == 0) {
            return false;
        }
    }
    return true;
}

/* Looks everything up. Only then it is known how much there is to compare: more than `most` in
 * nanoseconds, and nothing has been done yet. */
static nphd_status look_variants(const nphdi_search_job *job, nphdi_tables_scratch *scratch,
                                 double cost, double most, bool *out_go_on, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_mih_costs *costs = nphdi_search_tables_costs(job);
    double comparing = 0;

    for (uint32_t variant = 0; variant < job->variants; variant++) {
        nphdi_mih_search *search = &scratch->searches[variant];
        search->mih = job->tables.mih;
        search->plan = &scratch->plans[variant];
        search->target = &scratch->targets[variant];
        search->stale = job->tables.stale;
        search->scratch = &scratch->found[variant];
        search->allocator = job->index->allocator;
        TRY(nphdi_mih_look(search, err));
        comparing +=
            (double)search->candidates * costs->candidate + (double)search->sifted * costs->beside;
    }
    *out_go_on = comparing <= SURPRISE * cost || comparing <= most;
done:
    return status;
}

nphd_status nphdi_search_tables_cost(const nphdi_search_job *job, size_t number,
                                     const nphdi_scan_best *best, double *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_tables_scratch *scratch = NULL;
    nphdi_search_view views[NPHD_MAX_VARIANTS];

    *out = 0;
    memset(views, 0, sizeof(views)); /* nothing is asked of them */
    TRY(nphdi_alloc(job->index->allocator, 1, sizeof(*scratch), &scratch, err));
    if (!plan_variants(job, number, views, best, scratch, out)) {
        *out = NPHDI_COST_NEVER;
    }
done:
    nphdi_free(job->index->allocator, scratch, 1, sizeof(*scratch));
    return status;
}

nphd_status nphdi_search_broken_tables(const nphdi_search_job *job, nphd_error *err)
{
    return nphdi_fail(err, NPHD_CORRUPT,
                      "%s: trailer: the hash tables contradict themselves; verify the file, and "
                      "save it anew from a copy that is whole",
                      nphdi_content_name(job->content));
}

nphd_status nphdi_search_by_tables(nphdi_search_job *job, size_t number, nphdi_search_view *views,
                                   nphdi_scan_best *best, double most,
                                   nphdi_tables_scratch *scratch, bool *out_done, double *out_cost,
                                   uint64_t *out_looked, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    bool go_on = false;

    *out_done = false;
    *out_looked = 0;
    if (!plan_variants(job, number, views, best, scratch, out_cost) || *out_cost >= most) {
        return NPHD_OK;
    }
    status = look_variants(job, scratch, *out_cost, most, &go_on, err);
    for (uint32_t i = 0; status == NPHD_OK && go_on && i < job->variants && !best->ended; i++) {
        const nphdi_scan_target *target = &scratch->targets[i];
        const nphdi_mih_plan *plan = &scratch->plans[i];
        status = nphdi_mih_take(&scratch->searches[i], best);
        *out_looked += scratch->searches[i].compared;
        if (status == NPHD_OK && plan->scans) {
            *out_looked += scan_lengths(job, target, plan, best);
        }
        if (status == NPHD_OK) {
            *out_looked += nphdi_search_take_loose(job, target, plan, best);
        }
    }
    if (status == NPHD_CORRUPT) {
        return nphdi_search_broken_tables(job, err);
    }
    *out_done = go_on;
    return status;
}
