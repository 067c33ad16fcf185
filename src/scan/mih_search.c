/* Looking values up, sifting what was found, and comparing what is left. */
#include "base/error.h"
#include "scan/mih_internal.h"

#include <string.h>

/* Values looked up, and vectors compared, at a time: all are on their way to the cache before the
 * first is looked at. */
#define VALUES_AT_ONCE 512
#define SLOTS_AT_ONCE 128

/* Slots sifted at a time. */
#define SIFTED_AT_ONCE 2048

/* Of what a value leads to, so many lines of the cache are asked for when it is looked up; the
 * processor sees by itself that the next ones are wanted, too. */
#define LINE_BYTES 64
#define LINES_AHEAD 4

/* ---- looking ---- */

void nphdi_mih_scratch_free(nphdi_mih_scratch *scratch, const nphd_allocator *allocator)
{
    nphdi_free(allocator, scratch->runs, scratch->room, sizeof(*scratch->runs));
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
    TRY(nphdi_alloc(allocator, wanted, sizeof(*scratch->runs), &scratch->runs, err));
    scratch->room = wanted;
done:
    return status;
}

/* A value that is to be looked up. */
typedef struct probe {
    uint32_t value;
    uint8_t table;
    uint8_t differing; /* bits, from the query's own value */
} probe;

/* Values of one table after the other. */
typedef struct looker {
    nphdi_mih_search *search;
    uint64_t runs;
    uint64_t found[NPHDI_MIH_MOST_TABLES];
    bool sifts[NPHDI_MIH_MOST_TABLES];
    size_t count;
    probe probes[VALUES_AT_ONCE];
} looker;

static void prefetch_found(const nphdi_mih_table *table, bool sifts, uint32_t from, uint32_t count)
{
    const uint8_t *at =
        sifts ? table->beside + 2 * (uint64_t)from : table->slots + 4 * (uint64_t)from;
    const uint64_t bytes = (sifts ? 2 : 4) * (uint64_t)count;

    for (uint64_t i = 0; i < bytes && i < LINES_AHEAD * LINE_BYTES; i += LINE_BYTES) {
        __builtin_prefetch(at + i);
    }
}

/* The runs of the values collected that are not empty. */
static nphd_status look_at(looker *of)
{
    nphdi_mih_search *search = of->search;
    nphdi_sift_run *runs = search->scratch->runs;

    for (size_t i = 0; i < of->count; i++) {
        const probe *at = &of->probes[i];
        const nphdi_mih_table *table = &search->mih->tables[at->table];
        const uint8_t *start = table->starts + 4 * (uint64_t)at->value;
        const uint32_t from = nphdi_get32(start);
        const uint32_t to = nphdi_get32(start + 4);
        if (from == to) {
            continue;
        }
        of->found[at->table] += to - from;
        /* a table has each slot once, however many values are looked up */
        if (from > to || to > table->entries || of->found[at->table] > table->entries) {
            return NPHD_CORRUPT;
        }
        runs[of->runs].first = from;
        runs[of->runs].count = to - from;
        runs[of->runs].most =
            nphdi_mih_too_many(search->plan->depth, table, at->table) - 1U - at->differing;
        of->runs++;
        search->ends[at->table] = of->runs;
        prefetch_found(table, of->sifts[at->table], from, to - from);
    }
    of->count = 0;
    return NPHD_OK;
}

static nphd_status look_into(looker *of, uint32_t number)
{
    nphd_status status = NPHD_OK;
    const nphdi_mih_table *table = &of->search->mih->tables[number];
    const nphdi_query *query = &of->search->target->query;
    const uint32_t own = nphdi_mih_value(query, table);
    const uint32_t depth = of->search->plan->depth[number];
    const uint64_t beyond = table->values;

    of->sifts[number] = nphdi_mih_sifts(table, query);
    for (uint32_t differing = 0; differing < depth && differing <= table->bits; differing++) {
        for (uint64_t mask = ((uint64_t)1 << differing) - 1; mask < beyond;
             mask = nphdi_mih_next_mask(mask, beyond)) {
            const probe next = {own ^ (uint32_t)mask, (uint8_t)number, (uint8_t)differing};
            __builtin_prefetch(table->starts + 4 * (uint64_t)next.value);
            of->probes[of->count++] = next;
            if (of->count == VALUES_AT_ONCE) {
                TRY(look_at(of));
            }
        }
    }
done:
    return status;
}

nphd_status nphdi_mih_look(nphdi_mih_search *search, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_mih *mih = search->mih;
    looker of;

    of.search = search;
    of.runs = 0;
    of.count = 0;
    memset(of.found, 0, mih->table_count * sizeof(*of.found));
    memset(of.sifts, 0, mih->table_count * sizeof(*of.sifts));
    memset(search->ends, 0, sizeof(search->ends));
    search->candidates = 0;
    search->sifted = 0;
    search->compared = 0;
    TRY(scratch_fit(search->scratch, search->plan->probes, search->allocator, err));
    for (uint32_t i = 0; i < mih->table_count; i++) {
        if (search->plan->depth[i] > 0) {
            TRY(look_into(&of, i));
        }
    }
    TRY(look_at(&of));
    for (uint32_t i = 0; i < mih->table_count; i++) {
        if (of.found[i] == 0) { /* nothing was looked up, or all was empty */
            search->ends[i] = i == 0 ? 0 : search->ends[i - 1];
        } else if (of.sifts[i]) {
            search->sifted += of.found[i];
        } else {
            search->candidates += of.found[i];
        }
    }
done:
    return status;
}

/* ---- comparing ---- */

/* Vectors found in one table. */
typedef struct taker {
    nphdi_mih_search *search;
    nphdi_scan_best *best;
    uint32_t table;
    uint32_t slots[2][SLOTS_AT_ONCE]; /* one half is compared while the other is fetched */
    uint32_t half;
    size_t before; /* in the half that is fetched */
    size_t count;  /* in the one that is filled */
} taker;

/* Does this table lead to the row? It has the chunk. */
static bool finds(const nphdi_mih *mih, const uint8_t *depth, const nphdi_query *query,
                  const nphdi_query *row, uint32_t number)
{
    const nphdi_mih_table *table = &mih->tables[number];
    uint32_t differing =
        (uint32_t)__builtin_popcount(nphdi_mih_value(query, table) ^ nphdi_mih_value(row, table));

    if (differing >= depth[number]) {
        return false;
    }
    if (nphdi_mih_sifts(table, query)) {
        const nphdi_mih_table *next = &mih->tables[table->next];
        differing +=
            (uint32_t)__builtin_popcount(nphdi_mih_value(query, next) ^ nphdi_mih_value(row, next));
        return differing < nphdi_mih_too_many(depth, table, number);
    }
    return true;
}

bool nphdi_mih_finds_before(const nphdi_mih *mih, const uint8_t *depth, const nphdi_query *query,
                            const nphdi_query *row, uint32_t shared, uint32_t table)
{
    for (uint32_t i = 0; i < table && mih->tables[i].end <= 8 * shared; i++) {
        if (depth[i] > 0 && finds(mih, depth, query, row, i)) {
            return true;
        }
    }
    return false;
}

/* Was the vector found in an earlier table, or is it none of those that the tables are for? */
static bool is_known(const taker *of, uint32_t slot, uint32_t shared)
{
    const nphdi_mih_search *search = of->search;
    const nphdi_query row = nphdi_rows_query(&search->target->rows, slot);

    return search->plan->scanned[row.bytes] ||
           nphdi_mih_finds_before(search->mih, search->plan->depth, &search->target->query, &row,
                                  shared, of->table);
}

static void compare(taker *of, const uint32_t *slots, size_t count)
{
    const nphdi_scan_target *target = of->search->target;
    nphdi_bits bits[SLOTS_AT_ONCE];
    nphdi_scan_match match = {{0, 0}, {0, 0}, 0, 0};

    target->kernels->gather(&target->query, &target->rows, slots, count, bits);
    of->search->compared += count;
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

/* Compares the half that was fetched, and begins to fetch the one that was filled. */
static void turn(taker *of)
{
    if (of->before > 0) {
        compare(of, of->slots[1 - of->half], of->before);
    }
    of->half = 1 - of->half;
    of->before = of->count;
    of->count = 0;
}

static bool is_stale(const nphdi_mih_search *search, uint32_t slot)
{
    return search->stale != NULL && (search->stale[slot / 64] >> (slot % 64) & 1) != 0;
}

/* What stands at a place of the table is to be compared. */
static nphd_status take_place(taker *of, uint64_t place)
{
    const nphdi_mih_search *search = of->search;
    const nphdi_rows *rows = &search->target->rows;
    const uint32_t slot = nphdi_get32(search->mih->tables[of->table].slots + 4 * place);

    if (slot >= search->mih->covered) {
        return NPHD_CORRUPT;
    }
    if (is_stale(search, slot)) {
        return NPHD_OK;
    }
    const uint8_t *row = rows->base + slot * rows->stride;
    __builtin_prefetch(row);
    __builtin_prefetch(row + rows->stride - 1);
    of->slots[of->half][of->count++] = slot;
    if (of->count == SLOTS_AT_ONCE) {
        turn(of);
    }
    return NPHD_OK;
}

static nphd_status take_runs(taker *of, uint64_t first, uint64_t end)
{
    nphd_status status = NPHD_OK;

    for (uint64_t i = first; i < end; i++) {
        const nphdi_sift_run run = of->search->scratch->runs[i];
        for (uint32_t j = 0; j < run.count; j++) {
            TRY(take_place(of, (uint64_t)run.first + j));
        }
    }
done:
    return status;
}

/* What passes in these runs, which have at most SIFTED_AT_ONCE slots. */
static nphd_status sift_some(taker *of, const nphdi_sift_run *runs, size_t count)
{
    nphd_status status = NPHD_OK;
    const nphdi_scan_target *target = of->search->target;
    const nphdi_mih_table *table = &of->search->mih->tables[of->table];
    const nphdi_mih_table *next = &of->search->mih->tables[table->next];
    uint32_t places[SIFTED_AT_ONCE];
    const size_t passed = target->kernels->sift(table->beside, runs, count,
                                                nphdi_mih_value(&target->query, next), places);

    for (size_t i = 0; i < passed; i++) {
        __builtin_prefetch(table->slots + 4 * (uint64_t)places[i]);
    }
    for (size_t i = 0; i < passed; i++) {
        TRY(take_place(of, places[i]));
    }
done:
    return status;
}

static nphd_status sift_runs(taker *of, uint64_t first, uint64_t end)
{
    nphd_status status = NPHD_OK;
    const nphdi_sift_run *runs = of->search->scratch->runs;

    for (uint64_t i = first; i < end && !of->best->ended;) {
        uint64_t some = 0;
        uint64_t slots = 0;
        for (; i + some < end && slots + runs[i + some].count <= SIFTED_AT_ONCE; some++) {
            slots += runs[i + some].count;
        }
        TRY(sift_some(of, runs + i, some));
        i += some;
        if (some > 0) {
            continue;
        }
        nphdi_sift_run piece = runs[i++]; /* one that is too long */
        for (uint32_t left = piece.count; left > 0; left -= piece.count) {
            piece.count = left < SIFTED_AT_ONCE ? left : SIFTED_AT_ONCE;
            TRY(sift_some(of, &piece, 1));
            piece.first += piece.count;
        }
    }
done:
    return status;
}

nphd_status nphdi_mih_take(nphdi_mih_search *search, nphdi_scan_best *best)
{
    nphd_status status = NPHD_OK;
    taker of;
    uint64_t first = 0;

    of.search = search;
    of.best = best;
    of.half = 0;
    of.before = 0;
    of.count = 0;
    for (uint32_t i = 0; i < search->mih->table_count && !best->ended; i++) {
        const bool sifts = nphdi_mih_sifts(&search->mih->tables[i], &search->target->query);
        of.table = i;
        if (first < search->ends[i]) {
            TRY(sifts ? sift_runs(&of, first, search->ends[i])
                      : take_runs(&of, first, search->ends[i]));
            turn(&of);
            turn(&of);
        }
        first = search->ends[i];
    }
done:
    return status;
}
