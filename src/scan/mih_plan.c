/* Choosing how deep each table is looked into. */
#include "scan/mih_internal.h"

#include <string.h>

/* More than anything costs: a table whose values are all looked up can give no more. */
#define NEVER 1e300

/* What it costs to look one bit deeper into a table. The query's own value tells its slots; further
 * ones are taken for average. */
typedef struct step {
    double cost;
    double probes;
} step;

typedef struct planner {
    const nphdi_mih *mih;
    const nphdi_query *query;
    const nphdi_mih_costs *costs;
    nphdi_mih_plan *plan;
    step steps[NPHDI_MIH_MOST_TABLES]; /* the next one of each table */
    uint32_t own[NPHDI_MIH_MOST_TABLES];
} planner;

/* Of all values of 16 bits those that differ from one of them in at most so many. */
#define SIFT_BITS 16
static const uint16_t values_within[SIFT_BITS] = {1,     17,    137,   697,   2517,  6885,
                                                  14893, 26333, 39203, 50643, 58651, 63019,
                                                  64839, 65399, 65519, 65535};

/* The share of what is found at this depth that passes the sieve, if the next table is looked into
 * as deep as this one. */
static double passing(uint32_t depth)
{
    return depth + 1 < SIFT_BITS ? values_within[depth + 1] / 65536.0 : 1;
}

static step next_step(const planner *of, uint32_t number, uint32_t depth, double values)
{
    const nphdi_mih_table *table = &of->mih->tables[number];
    const nphdi_mih_costs *costs = of->costs;
    const step never = {NEVER, 0};
    const double average = table->average;
    const double own = of->own[number];
    const bool sifts = nphdi_mih_sifts(table, of->query);
    const double found =
        sifts ? costs->beside + passing(depth) * costs->candidate : costs->candidate;
    step of_depth = {values * (costs->probe + average * found), values};

    if (depth > table->bits) {
        return never;
    }
    if (depth == 0) {
        /* what there is more than by chance is like the query, and passes */
        of_depth.cost = costs->probe + (own < average ? own : average) * found +
                        (own > average ? own - average : 0) * costs->candidate;
    }
    return of_depth;
}

/* Deepens the cheapest of the first `tables` tables until their depths add up to `wanted`, unless
 * that costs more than `most`. */
static bool deepen(planner *of, uint32_t tables, uint32_t wanted, double most)
{
    nphdi_mih_plan *plan = of->plan;
    const double begin = plan->cost;
    const uint64_t probes = plan->probes;
    step steps[NPHDI_MIH_MOST_TABLES];
    uint8_t depth[NPHDI_MIH_MOST_TABLES];
    uint32_t have = 0;

    memcpy(steps, of->steps, tables * sizeof(*steps));
    memcpy(depth, plan->depth, tables);
    for (uint32_t i = 0; i < tables; i++) {
        have += plan->depth[i];
    }
    for (; have < wanted; have++) {
        uint32_t cheapest = 0;
        for (uint32_t i = 1; i < tables; i++) {
            if (of->steps[i].cost < of->steps[cheapest].cost) {
                cheapest = i;
            }
        }
        plan->cost += of->steps[cheapest].cost;
        plan->probes += (uint64_t)of->steps[cheapest].probes;
        if (plan->cost - begin > most) {
            memcpy(of->steps, steps, tables * sizeof(*steps));
            memcpy(plan->depth, depth, tables);
            plan->cost = begin;
            plan->probes = probes;
            return false;
        }
        /* values that differ in one bit more */
        const uint32_t now = ++plan->depth[cheapest];
        const double values =
            of->steps[cheapest].probes * (of->mih->tables[cheapest].bits + 1 - now) / now;
        of->steps[cheapest] = next_step(of, cheapest, now, values);
    }
    return true;
}

/* The tables that vectors of this length and the query both have: the first of them. */
static uint32_t shared_tables(const planner *of, const nphdi_query *query, uint32_t length)
{
    return of->mih->tables_of[query->bytes < length ? query->bytes : length];
}

static void first_steps(planner *of, const nphdi_query *query)
{
    const nphdi_mih *mih = of->mih;
    const uint32_t tables = mih->tables_of[query->bytes];

    for (uint32_t i = 0; i < tables; i++) {
        __builtin_prefetch(mih->tables[i].starts +
                           4 * (uint64_t)nphdi_mih_value(query, &mih->tables[i]));
    }
    for (uint32_t i = 0; i < tables; i++) {
        const nphdi_mih_table *table = &mih->tables[i];
        const uint8_t *start = table->starts + 4 * (uint64_t)nphdi_mih_value(query, table);
        of->own[i] = nphdi_get32(start + 4) - nphdi_get32(start);
        of->steps[i] = next_step(of, i, 0, 1);
    }
}

/* Decides for the lengths in the order of the tables that they share with the query. `all`: all
 * that can be are looked up; else each is scanned where that is cheaper than what it adds to the
 * looking up. false: the plan costs more than `most` altogether, and may be cut short. */
static bool plan_lengths(planner *of, const nphdi_query *query, const uint16_t *limit,
                         const double *scan_ns, double most, bool all)
{
    const nphdi_mih *mih = of->mih;
    nphdi_mih_plan *plan = of->plan;
    uint32_t length = 0;

    memset(plan, 0, sizeof(*plan));
    plan->cost = of->costs->begin;
    first_steps(of, query);
    while (length < mih->lengths) {
        const uint32_t tables = shared_tables(of, query, length);
        const uint32_t first = length;
        double scan_cost = 0; /* of the vectors that share as many tables */
        uint32_t wanted = 0;  /* what the depths of these must add up to */
        for (; length < mih->lengths && shared_tables(of, query, length) == tables; length++) {
            const uint32_t shared = query->bytes < length ? query->bytes : length;
            if (mih->counts[length] > 0) {
                scan_cost += scan_ns[length];
                wanted = limit[shared] + 1U > wanted ? limit[shared] + 1U : wanted;
            }
        }
        if (wanted == 0 ||
            (tables > 0 && deepen(of, tables, wanted, all ? most - plan->cost : scan_cost))) {
            continue;
        }
        if (all && tables > 0) {
            return false;
        }
        for (uint32_t i = first; i < length; i++) {
            plan->scanned[i] = mih->counts[i] > 0;
        }
        plan->scans = true;
        plan->cost += scan_cost;
    }
    return plan->cost < most;
}

/* What is looked up for one length serves the longer ones as well, so that it may pay for all
 * together though it does not for any of them. */
void nphdi_mih_plan_make(const nphdi_mih *mih, const nphdi_query *query, const uint16_t *limit,
                         const double *scan_ns, const nphdi_mih_costs *costs, nphdi_mih_plan *plan)
{
    planner of = {mih, query, costs, plan, {{0, 0}}, {0}};
    nphdi_mih_plan together;

    (void)plan_lengths(&of, query, limit, scan_ns, NEVER, false);
    if (plan->scans) {
        of.plan = &together;
        if (plan_lengths(&of, query, limit, scan_ns, plan->cost, true)) {
            *plan = together;
        }
    }
}
