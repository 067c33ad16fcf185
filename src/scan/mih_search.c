/* Choosing how deep each table is looked into, looking, and comparing what was found. */
#include "scan/mih.h"

#include "base/bytes.h"
#include "base/error.h"

#include <string.h>

/* Values looked up, and vectors compared, at a time: all are on their way to the cache before the
 * first is looked at. */
#define VALUES_AT_ONCE 512
#define SLOTS_AT_ONCE 128

/* More than anything costs: a table whose values are all looked up can give no more. */
#define NEVER 1e300

/* ---- planning ---- */

/* Values that differ in exactly `differing` of `bits` bits. */
static double values_at(uint32_t bits, uint32_t differing)
{
    double values = 1;

    for (uint32_t i = 0; i < differing; i++) {
        values = values * (bits - i) / (i + 1);
    }
    return values;
}

static uint64_t query_word(const nphdi_query *query, uint32_t word)
{
    const uint32_t at = 8 * word;
    const uint32_t rest = query->bytes - at;
    uint8_t bytes[8] = {0};

    memcpy(bytes, query->payload + at, rest < 8 ? rest : 8);
    return nphdi_get64(bytes);
}

static uint32_t query_value(const nphdi_query *query, const nphdi_mih_table *table)
{
    return (uint32_t)(query_word(query, table->word) >> table->shift) &
           (uint32_t)(table->values - 1);
}

/* What it costs to look one bit deeper into a table. The query's own value tells its slots; further
 * ones are taken for average. */
typedef struct step {
    double cost;
    double probes;
} step;

static step next_step(const nphdi_mih_table *table, uint32_t depth, uint32_t own,
                      const nphdi_mih_costs *costs)
{
    const step never = {NEVER, 0};
    const double values = values_at(table->bits, depth);
    const double average = (double)table->entries / (double)table->values;
    const step of = {values * costs->probe +
                         (depth == 0 ? (double)own : values * average) * costs->candidate,
                     values};

    return depth > table->bits ? never : of;
}

typedef struct planner {
    const nphdi_mih *mih;
    const nphdi_mih_costs *costs;
    nphdi_mih_plan *plan;
    step steps[NPHDI_MIH_MOST_TABLES]; /* the next one of each table */
    uint32_t own[NPHDI_MIH_MOST_TABLES];
} planner;

/* Deepens the cheapest of the first `tables` tables until their depths add up to `wanted`, unless
 * that costs more than `most`. */
static bool deepen(planner *of, uint32_t tables, uint32_t wanted, double most)
{
    const planner before = *of;
    const nphdi_mih_plan plan_before = *of->plan;
    const double begin = of->plan->cost;
    uint32_t have = 0;

    for (uint32_t i = 0; i < tables; i++) {
        have += of->plan->depth[i];
    }
    for (; have < wanted; have++) {
        uint32_t cheapest = 0;
        for (uint32_t i = 1; i < tables; i++) {
            if (of->steps[i].cost < of->steps[cheapest].cost) {
                cheapest = i;
            }
        }
        of->plan->cost += of->steps[cheapest].cost;
        of->plan->probes += (uint64_t)of->steps[cheapest].probes;
        if (of->plan->cost - begin > most) {
            *of = before;
            *of->plan = plan_before;
            return false;
        }
        of->plan->depth[cheapest]++;
        of->steps[cheapest] = next_step(&of->mih->tables[cheapest], of->plan->depth[cheapest],
                                        of->own[cheapest], of->costs);
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
                           4 * (uint64_t)query_value(query, &mih->tables[i]));
    }
    for (uint32_t i = 0; i < tables; i++) {
        const nphdi_mih_table *table = &mih->tables[i];
        const uint8_t *start = table->starts + 4 * (uint64_t)query_value(query, table);
        of->own[i] = nphdi_get32(start + 4) - nphdi_get32(start);
        of->steps[i] = next_step(table, 0, of->own[i], of->costs);
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
    planner of = {mih, costs, plan, {{0, 0}}, {0}};
    nphdi_mih_plan together;

    (void)plan_lengths(&of, query, limit, scan_ns, NEVER, false);
    if (plan->scans) {
        of.plan = &together;
        if (plan_lengths(&of, query, limit, scan_ns, plan->cost, true)) {
            *plan = together;
        }
    }
}

/* ---- looking ---- */

void nphdi_mih_scratch_free(nphdi_mih_scratch *scratch, const nphd_allocator *allocator)
{
    nphdi_free(allocator, scratch->ranges, scratch->room, sizeof(*scratch->ranges));
    memset(scratch, 0, sizeof(*scratch));
}

static nphd_status scratch_fit(nphdi_mih_scratch *scratch, uint64_t wanted,
                               const nphd_allocator *allocator, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    if (wanted <= scratch->room) {
        return NPHD_OK;
    }
    nphdi_mih_scratch_free(scratch, allocator);
    TRY(nphdi_alloc(allocator, wanted, sizeof(*scratch->ranges), &scratch->ranges, err));
    scratch->room = wanted;
done:
    return status;
}

/* The ranges of these values that are not empty. *out_found: slots of the table so far. */
static nphd_status look_at(nphdi_mih_search *search, const nphdi_mih_table *table,
                           const uint32_t *values, size_t count, uint64_t *out_found,
                           uint64_t *out_ranges)
{
    nphdi_mih_range *ranges = search->scratch->ranges;
    uint64_t at = *out_ranges;

    for (size_t i = 0; i < count; i++) {
        const uint8_t *start = table->starts + 4 * (uint64_t)values[i];
        const uint32_t from = nphdi_get32(start);
        const uint32_t to = nphdi_get32(start + 4);
        if (from == to) {
            continue;
        }
        if (from > to || to > table->entries) {
            return NPHD_CORRUPT;
        }
        ranges[at].first = from;
        ranges[at].count = to - from;
        __builtin_prefetch(table->slots + 4 * (uint64_t)from);
        *out_found += to - from;
        at++;
    }
    *out_ranges = at;
    /* a table has each slot once, however many values are looked up */
    return *out_found > table->entries ? NPHD_CORRUPT : NPHD_OK;
}

static nphd_status look_into(nphdi_mih_search *search, const nphdi_mih_table *table, uint32_t depth,
                             uint64_t *ranges)
{
    nphd_status status = NPHD_OK;
    const uint32_t own = query_value(&search->target->query, table);
    const uint64_t beyond = table->values;
    uint32_t values[VALUES_AT_ONCE];
    size_t count = 0;
    uint64_t found = 0;

    for (uint32_t differing = 0; differing < depth && differing <= table->bits; differing++) {
        /* all words of so many set bits, each from the one before */
        for (uint64_t mask = ((uint64_t)1 << differing) - 1; mask < beyond;) {
            const uint64_t lowest = mask & (0 - mask);
            const uint64_t carried = mask + lowest;
            values[count] = own ^ (uint32_t)mask;
            __builtin_prefetch(table->starts + 4 * (uint64_t)values[count]);
            count++;
            if (count == VALUES_AT_ONCE) {
                TRY(look_at(search, table, values, count, &found, ranges));
                count = 0;
            }
            if (mask == 0) {
                break;
            }
            mask = carried | ((mask ^ carried) >> (2 + __builtin_ctzll(lowest)));
        }
    }
    TRY(look_at(search, table, values, count, &found, ranges));
    search->candidates += found;
done:
    return status;
}

nphd_status nphdi_mih_look(nphdi_mih_search *search, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_mih *mih = search->mih;
    uint64_t ranges = 0;

    search->candidates = 0;
    TRY(scratch_fit(search->scratch, search->plan->probes, search->allocator, err));
    for (uint32_t i = 0; i < mih->table_count; i++) {
        if (search->plan->depth[i] > 0) {
            TRY(look_into(search, &mih->tables[i], search->plan->depth[i], &ranges));
        }
        search->ends[i] = ranges;
    }
done:
    return status;
}

/* ---- comparing ---- */

/* Vectors found in one table. */
typedef struct taker {
    const nphdi_mih_search *search;
    nphdi_scan_best *best;
    uint32_t table;
    uint32_t slots[2][SLOTS_AT_ONCE]; /* one half is compared while the other is fetched */
    uint32_t half;
} taker;

/* Was the vector found in an earlier table, or is it none of those that the tables are for? */
static bool is_known(const taker *of, uint32_t slot, uint32_t shared)
{
    const nphdi_mih_search *search = of->search;
    const nphdi_rows *rows = &search->target->rows;
    const nphdi_query row = nphdi_rows_query(rows, slot);

    if (search->plan->scanned[row.bytes]) {
        return true;
    }
    for (uint32_t i = 0; i < of->table; i++) {
        const nphdi_mih_table *table = &search->mih->tables[i];
        if (search->plan->depth[i] == 0) {
            continue;
        }
        if (table->end > 8 * shared) {
            break;
        }
        const uint32_t differing =
            query_value(&search->target->query, table) ^ query_value(&row, table);
        if ((uint32_t)__builtin_popcount(differing) < search->plan->depth[i]) {
            return true;
        }
    }
    return false;
}

static void compare(taker *of, const uint32_t *slots, size_t count)
{
    const nphdi_scan_target *target = of->search->target;
    nphdi_bits bits[SLOTS_AT_ONCE];
    nphdi_scan_match match = {{0, 0}, {0, 0}, 0, 0};

    target->kernels->gather(&target->query, &target->rows, slots, count, bits);
    for (size_t i = 0; i < count && !of->best->ended; i++) {
        if (bits[i].differing > of->best->limit[bits[i].shared] ||
            is_known(of, slots[i], bits[i].shared)) {
            continue;
        }
        match.slot = slots[i];
        match.bits = bits[i];
        if (target->accept(target->context, &match)) {
            (void)nphdi_scan_add(of->best, &match);
        }
    }
}

static void turn(taker *of, size_t before)
{
    if (before > 0) {
        compare(of, of->slots[1 - of->half], before);
    }
    of->half = 1 - of->half;
}

static bool is_stale(const nphdi_mih_search *search, uint32_t slot)
{
    return search->stale != NULL && (search->stale[slot / 64] >> (slot % 64) & 1) != 0;
}

static nphd_status take_ranges(taker *of, uint64_t first, uint64_t end)
{
    const nphdi_mih_search *search = of->search;
    const nphdi_rows *rows = &search->target->rows;
    const uint8_t *slots = search->mih->tables[of->table].slots;
    size_t before = 0; /* in the other half */
    size_t count = 0;

    for (uint64_t i = first; i < end; i++) {
        const nphdi_mih_range range = search->scratch->ranges[i];
        for (uint32_t j = 0; j < range.count; j++) {
            const uint32_t slot = nphdi_get32(slots + 4 * ((uint64_t)range.first + j));
            if (slot >= search->mih->covered) {
                return NPHD_CORRUPT;
            }
            if (is_stale(search, slot)) {
                continue;
            }
            const uint8_t *row = rows->base + slot * rows->stride;
            __builtin_prefetch(row);
            __builtin_prefetch(row + rows->stride - 1);
            of->slots[of->half][count++] = slot;
            if (count == SLOTS_AT_ONCE) {
                turn(of, before);
                before = count;
                count = 0;
            }
        }
    }
    turn(of, before);
    turn(of, count);
    return NPHD_OK;
}

nphd_status nphdi_mih_take(nphdi_mih_search *search, nphdi_scan_best *best)
{
    nphd_status status = NPHD_OK;
    taker of;
    uint64_t first = 0;

    of.search = search;
    of.best = best;
    of.half = 0;
    for (uint32_t i = 0; i < search->mih->table_count && !best->ended; i++) {
        of.table = i;
        TRY(take_ranges(&of, first, search->ends[i]));
        first = search->ends[i];
    }
done:
    return status;
}
