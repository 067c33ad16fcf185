#include "scan/mih_many.h"

#include "base/error.h"
#include "scan/mih_internal.h"

#include <assert.h>
#include <string.h>

#define VALUE_BITS 16
#define QUERY_BITS 16

/* Runs that are sifted together, with all that they lead to on its way to the cache. */
#define RUNS_AT_ONCE 512
#define SIFTED_AT_ONCE 2048

/* What passed, before it is compared: some for each query. */
#define FOUND_ROOM 32768

/* Rows that are fetched ahead of comparing, and most that are compared together. */
#define ROWS_AHEAD 64
#define ROWS_AT_ONCE 128

typedef struct finding {
    uint32_t slot; /* or the place in the table at which it stands */
    uint16_t query;
    uint8_t table;
} finding;

struct nphdi_mih_many_scratch {
    uint32_t order[2][NPHDI_MIH_MANY_MOST]; /* value and number of a query */
    uint32_t ends[NPHDI_MIH_MANY_MOST];     /* of what was found for each query, in order */
    float spent[NPHDI_MIH_MANY_MOST];       /* nanoseconds on each query, as predicted */
    nphdi_sift_run runs[RUNS_AT_ONCE];
    uint16_t run_queries[RUNS_AT_ONCE];
    uint32_t places[SIFTED_AT_ONCE];
    finding found[FOUND_ROOM];
    finding sorted[FOUND_ROOM];
};

/* A call, in one of its tables. */
typedef struct many_run {
    const nphdi_mih_many *of;
    nphdi_mih_many_scratch *scratch;
    uint32_t number; /* of the table */
    const nphdi_mih_table *table;
    uint32_t runs;
    uint32_t found;
    uint32_t resolved; /* of these, those with slots */
    uint64_t claimed;  /* slots to which the values of a query led */
    bool ended;
} many_run;

nphd_status nphdi_mih_many_begin(const nphd_allocator *allocator, nphdi_mih_many_scratch **out,
                                 nphd_error *err)
{
    return nphdi_alloc(allocator, 1, sizeof(**out), out, err);
}

void nphdi_mih_many_end(nphdi_mih_many_scratch *scratch, const nphd_allocator *allocator)
{
    nphdi_free(allocator, scratch, 1, sizeof(*scratch));
}

static const uint8_t *depth_of(const nphdi_mih_many *of, uint32_t query)
{
    return of->depths + (size_t)query * of->mih->table_count;
}

/* ---- comparing ---- */

/* Those of one query behind each other, in the order in which they were found. */
static void sort_found(many_run *run)
{
    nphdi_mih_many_scratch *scratch = run->scratch;
    uint32_t before = 0;

    memset(scratch->ends, 0, run->of->count * sizeof(*scratch->ends));
    for (uint32_t i = 0; i < run->found; i++) {
        scratch->ends[scratch->found[i].query]++;
    }
    for (uint32_t i = 0; i < run->of->count; i++) {
        const uint32_t some = scratch->ends[i];
        scratch->ends[i] = before;
        before += some;
    }
    for (uint32_t i = 0; i < run->found; i++) {
        scratch->sorted[scratch->ends[scratch->found[i].query]++] = scratch->found[i];
    }
}

static void compare(many_run *run, const finding *found, uint32_t count)
{
    const nphdi_mih_many *of = run->of;
    const uint32_t number = found->query;
    const nphdi_query *query = &of->queries[number];
    uint32_t slots[ROWS_AT_ONCE];
    nphdi_bits bits[ROWS_AT_ONCE];
    nphdi_scan_match match = {{0, 0}, {0, 0}, 0, 0};

    for (uint32_t i = 0; i < count; i++) {
        slots[i] = found[i].slot;
    }
    of->kernels->gather(query, &of->rows, slots, count, bits);
    of->compared[number] += count;
    for (uint32_t i = 0; i < count && !run->ended; i++) {
        if (bits[i].differing > of->limit[bits[i].shared]) {
            continue;
        }
        const nphdi_query row = nphdi_rows_query(&of->rows, slots[i]);
        if (!nphdi_mih_finds_before(of->mih, depth_of(of, number), query, &row, bits[i].shared,
                                    found[i].table)) {
            match.slot = slots[i];
            match.bits = bits[i];
            run->ended = !of->take(of->context, number, &match);
        }
    }
}

/* All that was found so far. */
static void compare_all(many_run *run)
{
    const nphdi_rows *rows = &run->of->rows;
    const finding *sorted = run->scratch->sorted;
    uint32_t fetched = 0;

    sort_found(run);
    for (uint32_t at = 0; at < run->found && !run->ended;) {
        uint32_t count = 1;
        while (at + count < run->found && count < ROWS_AT_ONCE &&
               sorted[at + count].query == sorted[at].query) {
            count++;
        }
        for (; fetched < run->found && fetched < at + count + ROWS_AHEAD; fetched++) {
            const uint8_t *row = rows->base + sorted[fetched].slot * rows->stride;
            __builtin_prefetch(row);
            __builtin_prefetch(row + rows->stride - 1);
        }
        compare(run, sorted + at, count);
        at += count;
    }
    run->found = 0;
    run->resolved = 0;
}

/* ---- sifting ---- */

static bool is_stale(const nphdi_mih_many *of, uint32_t slot)
{
    return of->stale != NULL && (of->stale[slot / 64] >> (slot % 64) & 1) != 0;
}

/* Places into slots. */
static nphd_status resolve(many_run *run)
{
    finding *all = run->scratch->found;
    uint32_t kept = run->resolved;

    for (uint32_t i = run->resolved; i < run->found; i++) {
        finding one = all[i];
        one.slot = nphdi_get32(run->table->slots + 4 * (size_t)one.slot);
        if (one.slot >= run->of->mih->covered) {
            return NPHD_CORRUPT;
        }
        if (!is_stale(run->of, one.slot)) {
            all[kept++] = one;
        }
    }
    run->found = kept;
    run->resolved = kept;
    return NPHD_OK;
}

/* Some runs of one query with at most SIFTED_AT_ONCE slots. */
static nphd_status sift_some(many_run *run, uint32_t query, const nphdi_sift_run *runs,
                             size_t count)
{
    nphd_status status = NPHD_OK;
    const nphdi_mih_many *of = run->of;
    const nphdi_query *asked = &of->queries[query];
    const bool sifts = nphdi_mih_sifts(run->table, asked);
    uint32_t *places = run->scratch->places;

    if (run->found + SIFTED_AT_ONCE > FOUND_ROOM) {
        TRY(resolve(run));
        compare_all(run);
    }
    const uint32_t wanted = sifts ? nphdi_mih_value(asked, &of->mih->tables[run->table->next]) : 0;
    const size_t passed = of->kernels->sift(run->table->beside, runs, count, wanted, places);
    run->scratch->spent[query] += (float)passed * (float)of->costs->candidate;
    for (size_t i = 0; i < passed; i++) {
        const finding one = {places[i], (uint16_t)query, (uint8_t)run->number};
        run->scratch->found[run->found++] = one;
    }
done:
    return status;
}

static nphd_status sift_runs(many_run *run)
{
    nphd_status status = NPHD_OK;
    const nphdi_sift_run *runs = run->scratch->runs;
    const uint16_t *queries = run->scratch->run_queries;

    for (uint32_t i = 0; i < run->runs && !run->ended;) {
        uint32_t some = 0;
        uint32_t slots = 0;
        for (; i + some < run->runs && queries[i + some] == queries[i] &&
               slots + runs[i + some].count <= SIFTED_AT_ONCE;
             some++) {
            slots += runs[i + some].count;
        }
        TRY(sift_some(run, queries[i], runs + i, some));
        i += some;
    }
    TRY(resolve(run));
    run->runs = 0;
done:
    return status;
}

/* ---- looking ---- */

/* What a value leads to, in pieces that can be sifted at once. */
static nphd_status look_up(many_run *run, uint32_t query, uint32_t value, uint32_t most)
{
    nphd_status status = NPHD_OK;
    const uint8_t *start = run->table->starts + 4 * (size_t)value;
    const uint32_t to = nphdi_get32(start + 4);
    uint32_t from = nphdi_get32(start);

    /* a table has each slot once, however many values are looked up */
    run->claimed += to - from;
    if (from > to || to > run->table->entries || run->claimed > run->table->entries) {
        return NPHD_CORRUPT;
    }
    while (from < to && !run->ended) {
        const uint32_t count = to - from < SIFTED_AT_ONCE ? to - from : SIFTED_AT_ONCE;
        const nphdi_sift_run piece = {from, count, most};
        __builtin_prefetch(run->table->beside + 2 * (size_t)from);
        run->scratch->runs[run->runs] = piece;
        run->scratch->run_queries[run->runs++] = (uint16_t)query;
        if (run->runs == RUNS_AT_ONCE) {
            TRY(sift_runs(run));
        }
        from += count;
    }
done:
    return status;
}

/* The queries that look into the table, by their values: two passes by 8 bits each. Returns how
 * many; they are in the first half. */
static uint32_t order_queries(many_run *run)
{
    const nphdi_mih_many *of = run->of;
    uint32_t *from = run->scratch->order[0];
    uint32_t *to = run->scratch->order[1];
    uint32_t count = 0;

    for (uint32_t i = 0; i < of->count; i++) {
        if (of->until[i] > run->number && depth_of(of, i)[run->number] > 0) {
            from[count++] = nphdi_mih_value(&of->queries[i], run->table) << QUERY_BITS | i;
        }
    }
    for (uint32_t shift = QUERY_BITS; shift < QUERY_BITS + VALUE_BITS; shift += 8) {
        uint32_t next[257] = {0};
        for (uint32_t i = 0; i < count; i++) {
            next[(from[i] >> shift & 0xff) + 1]++;
        }
        for (uint32_t i = 0; i < 256; i++) {
            next[i + 1] += next[i];
        }
        for (uint32_t i = 0; i < count; i++) {
            to[next[from[i] >> shift & 0xff]++] = from[i];
        }
        uint32_t *was = from;
        from = to;
        to = was;
    }
    return count;
}

static nphd_status run_table(many_run *run)
{
    nphd_status status = NPHD_OK;
    const nphdi_mih_many *of = run->of;
    const uint64_t beyond = run->table->values;
    const uint32_t count = order_queries(run);

    for (uint32_t i = 0; i < count && !run->ended; i++) {
        const uint32_t query = run->scratch->order[0][i] & ((1U << QUERY_BITS) - 1);
        const uint32_t own = run->scratch->order[0][i] >> QUERY_BITS;
        const uint8_t *depth = depth_of(of, query);
        const bool sifts = nphdi_mih_sifts(run->table, &of->queries[query]);
        run->claimed = 0;
        for (uint32_t differing = 0; differing < depth[run->number] && differing <= VALUE_BITS;
             differing++) {
            const uint32_t most =
                sifts ? nphdi_mih_too_many(depth, run->table, run->number) - 1 - differing
                      : VALUE_BITS;
            for (uint64_t mask = ((uint64_t)1 << differing) - 1; mask < beyond;
                 mask = nphdi_mih_next_mask(mask, beyond)) {
                TRY(look_up(run, query, own ^ (uint32_t)mask, most));
            }
        }
        run->scratch->spent[query] += (float)run->claimed * (float)of->costs->beside;
        if (run->scratch->spent[query] > of->budgets[query]) {
            of->until[query] = (uint8_t)(run->number + 1);
        }
    }
    TRY(sift_runs(run));
done:
    return status;
}

nphd_status nphdi_mih_many_run(const nphdi_mih_many *many)
{
    nphd_status status = NPHD_OK;
    many_run run = {many, many->scratch, 0, NULL, 0, 0, 0, 0, false};

    assert(many->count <= NPHDI_MIH_MANY_MOST);
    memset(many->scratch->spent, 0, many->count * sizeof(*many->scratch->spent));
    memset(many->until, (int)many->mih->table_count, many->count);
    for (; run.number < many->mih->table_count && !run.ended; run.number++) {
        run.table = &many->mih->tables[run.number];
        assert(run.table->beside != NULL && run.table->bits == VALUE_BITS);
        TRY(run_table(&run));
    }
    if (!run.ended) {
        compare_all(&run);
    }
done:
    return status;
}
