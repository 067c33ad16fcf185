/* Many queries by tables together, against comparing each with every row: each match once, for
 * vectors of whole words and of any length, rows that changed, tables that are not looked into, and
 * queries that are given up half way. And blocks that lie. */
#include "platform/platform.h"
#include "scan/costs.h"
#include "scan/mih_many.h"
#include "support/test_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SLOTS = 1200, QUERIES = 200, PAYLOAD = 32 };

static const nphdi_mih_form form = {4, true};
static uint64_t seed;

typedef struct world {
    nphdi_rows rows;
    uint8_t memory[SLOTS * (PAYLOAD + 1)];
    uint8_t queries[QUERIES][PAYLOAD];
    nphdi_query asked[QUERIES];
    uint8_t *block;
    uint64_t bytes;
    nphdi_mih mih;
    uint16_t limit[256];
    uint8_t *depths;
    float budgets[QUERIES];
    uint8_t until[QUERIES];
    uint32_t compared[QUERIES];
    uint64_t stale[SLOTS / 64 + 1];
    uint8_t times[QUERIES][SLOTS];
    uint64_t taken;
    uint64_t most; /* that are wanted */
} world;

/* A vector near the same one as all others, or near one of a few. */
static uint32_t fill(test_random *random, uint8_t *out, uint32_t kind)
{
    static const uint32_t whole[] = {8, 16, 24, 32};
    const uint32_t bytes = kind == 0   ? PAYLOAD
                           : kind == 1 ? whole[test_random_below(random, 4)]
                                       : 2 + (uint32_t)test_random_below(random, PAYLOAD - 1);
    const uint64_t base = test_random_below(random, 20);

    memset(out, 0, PAYLOAD);
    for (uint32_t i = 0; i < bytes; i++) {
        out[i] = (uint8_t)(i * 37 + (i < 8 ? 0 : base));
    }
    const uint64_t most = test_random_below(random, 4) == 0 ? 1 : 2ULL * bytes;
    for (uint64_t flips = test_random_below(random, most); flips > 0; flips--) {
        const uint64_t bit = test_random_below(random, 8ULL * bytes);
        out[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
    return bytes;
}

static world *world_make(test_random *random, uint32_t kind, float radius)
{
    world *of = calloc(1, sizeof(*of));
    uint32_t counts[NPHDI_MIH_LENGTHS];
    double scan_ns[NPHDI_MIH_LENGTHS];
    nphdi_scan_best limits;

    assert_non_null(of);
    of->rows.base = of->memory;
    of->rows.stride = PAYLOAD + 1;
    of->rows.payload_bytes = PAYLOAD;
    of->rows.prefix_bytes = 1;
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        uint8_t *row = of->memory + (size_t)slot * (PAYLOAD + 1);
        row[0] = (uint8_t)fill(random, row + 1, kind);
    }
    nphdi_mih_count(&of->rows, SLOTS, counts);
    of->bytes = nphdi_mih_bytes(counts, PAYLOAD, form);
    of->block = calloc(of->bytes, 1);
    assert_non_null(of->block);
    assert_int_equal(nphdi_mih_build(&of->rows, SLOTS, counts, form, 1, NULL, of->block, NULL),
                     NPHD_OK);
    assert_true(nphdi_mih_open(&of->mih, of->block, of->bytes, PAYLOAD, SLOTS));
    nphdi_scan_begin_sink(&limits, NULL, NULL);
    nphdi_scan_limit_radius(&limits, radius, false);
    memcpy(of->limit, limits.limit, sizeof(of->limit));
    of->depths = calloc(QUERIES, of->mih.table_count);
    assert_non_null(of->depths);
    for (uint32_t length = 0; length < NPHDI_MIH_LENGTHS; length++) {
        scan_ns[length] = 1e15;
    }
    for (uint32_t i = 0; i < QUERIES; i++) {
        nphdi_mih_plan plan;
        of->asked[i].payload = of->queries[i];
        of->asked[i].bytes = fill(random, of->queries[i], kind);
        nphdi_mih_plan_make(&of->mih, &of->asked[i], of->limit, scan_ns, &nphdi_costs_mih, &plan);
        assert_false(plan.scans);
        if (i % 10 != 0) { /* the others are not asked */
            memcpy(of->depths + (size_t)i * of->mih.table_count, plan.depth, of->mih.table_count);
        }
        of->budgets[i] = i % 5 == 1 ? 0.01F : 1e15F;
    }
    of->most = UINT64_MAX;
    return of;
}

static void world_free(world *of)
{
    free(of->depths);
    free(of->block);
    free(of);
}

static bool is_asked(const world *of, uint32_t query)
{
    uint32_t sum = 0;

    for (uint32_t i = 0; i < of->mih.table_count; i++) {
        sum += of->depths[query * of->mih.table_count + i];
    }
    return sum > 0;
}

static bool take(void *context, uint32_t query, nphdi_scan_match *match)
{
    world *of = context;

    of->times[query][match->slot]++;
    of->taken++;
    return of->taken < of->most;
}

static nphd_status run(world *of, const nphdi_kernels *kernels, bool stale)
{
    nphdi_mih_many_scratch *scratch = NULL;

    memset(of->times, 0, sizeof(of->times));
    memset(of->compared, 0, sizeof(of->compared));
    of->taken = 0;
    assert_int_equal(nphdi_mih_many_begin(nphdi_allocator_system(), &scratch, NULL), NPHD_OK);
    const nphdi_mih_many many = {
        .mih = &of->mih,
        .rows = of->rows,
        .kernels = kernels,
        .stale = stale ? of->stale : NULL,
        .limit = of->limit,
        .queries = of->asked,
        .depths = of->depths,
        .budgets = of->budgets,
        .costs = &nphdi_costs_mih,
        .until = of->until,
        .compared = of->compared,
        .count = QUERIES,
        .take = take,
        .context = of,
        .scratch = scratch,
    };
    const nphd_status status = nphdi_mih_many_run(&many);
    nphdi_mih_many_end(scratch, nphdi_allocator_system());
    return status;
}

/* What one query must have taken. */
static void check_query(const world *of, uint32_t query, bool stale)
{
    const uint32_t tables = of->mih.table_count;
    const uint8_t *depth = of->depths + (size_t)query * tables;

    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        const nphdi_query row = nphdi_rows_query(&of->rows, slot);
        nphdi_bits bits;
        nphdi_kernels_portable()->gather(&of->asked[query], &of->rows, &slot, 1, &bits);
        const bool gone = stale && (of->stale[slot / 64] >> (slot % 64) & 1) != 0;
        const bool found = nphdi_mih_finds_before(&of->mih, depth, &of->asked[query], &row,
                                                  bits.shared, of->until[query]);
        const bool near = bits.differing <= of->limit[bits.shared];
        /* one that is not given up finds all */
        assert_true(found || !near || of->until[query] < tables || !is_asked(of, query));
        assert_int_equal(of->times[query][slot],
                         is_asked(of, query) && near && found && !gone ? 1 : 0);
    }
}

static void test_like_comparing_all(void **state)
{
    static const float radii[] = {0, 0.02F, 0.1F, 0.16F};
    const nphdi_kernels *levels[4];
    const size_t level_count = nphdi_kernels_available(levels);
    test_random random = {seed};

    (void)state;
    for (uint32_t kind = 0; kind < 3; kind++) {
        for (size_t i = 0; i < sizeof(radii) / sizeof(radii[0]); i++) {
            world *of = world_make(&random, kind, radii[i]);
            uint32_t given_up = 0;
            for (uint32_t slot = 0; slot < SLOTS; slot += 3) {
                of->stale[slot / 64] |= 1ULL << (slot % 64);
            }
            const bool stale = i % 2 == 0;
            assert_int_equal(run(of, levels[(kind + i) % level_count], stale), NPHD_OK);
            for (uint32_t query = 0; query < QUERIES; query++) {
                given_up += of->until[query] < of->mih.table_count ? 1 : 0;
                check_query(of, query, stale);
            }
            assert_true(of->taken > 0);
            assert_true(given_up > 0 && given_up < QUERIES / 2);
            world_free(of);
        }
    }
}

/* Who takes the matches has had enough. */
static void test_ends(void **state)
{
    test_random random = {seed};
    world *of = world_make(&random, 1, 0.1F);

    (void)state;
    for (of->most = 1; of->most < 100; of->most += 7) {
        assert_int_equal(run(of, nphdi_kernels_get(), false), NPHD_OK);
        assert_int_equal(of->taken, of->most);
    }
    world_free(of);
}

/* Nothing outside of the block and the rows is read, and nothing goes on for long. */
static void test_lying_blocks(void **state)
{
    test_random random = {seed};
    world *of = world_make(&random, 1, 0.05F);
    uint64_t corrupt = 0;

    (void)state;
    for (int round = 0; round < 30; round++) {
        for (uint32_t i = 0; i < of->mih.table_count; i++) {
            const nphdi_mih_table *table = &of->mih.tables[i];
            uint8_t *at = (uint8_t *)(uintptr_t)(round % 3 == 0   ? table->slots
                                                 : round % 3 == 1 ? table->starts
                                                                  : table->beside);
            const uint64_t bytes = round % 3 == 0   ? 4ULL * table->entries
                                   : round % 3 == 1 ? 4 * (table->values + 1)
                                                    : 2ULL * table->entries;
            for (int some = 0; some < 200; some++) {
                at[test_random_below(&random, bytes)] = (uint8_t)test_random_next(&random);
            }
        }
        corrupt += run(of, nphdi_kernels_get(), false) == NPHD_CORRUPT ? 1 : 0;
    }
    assert_true(corrupt > 0);
    world_free(of);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_like_comparing_all),
                                       cmocka_unit_test(test_ends),
                                       cmocka_unit_test(test_lying_blocks)};

    seed = test_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
