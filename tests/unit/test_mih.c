/* Multi-index hashing against comparing with every row: random vectors of mixed lengths, clusters,
 * equal ones, any radius; each match once. And blocks that lie. */
#include "base/bytes.h"
#include "platform/platform.h"
#include "scan/costs.h"
#include "scan/mih.h"
#include "support/test_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST_SLOTS = 3000, QUERIES = 40 };

static uint64_t seed;

static bool is_small(void)
{
    const char *scale = getenv("NPHD_TEST_SCALE");

    return scale != NULL && strcmp(scale, "small") == 0;
}

/* Rows and the tables of them. */
typedef struct world {
    nphdi_rows rows;
    uint8_t *memory;
    uint64_t slots;
    uint8_t *block;
    uint64_t bytes;
    nphdi_mih mih;
} world;

typedef struct seen {
    uint32_t times[MOST_SLOTS];
    uint64_t dead; /* every so many slots are none */
} seen;

static bool accept(void *context, nphdi_scan_match *match)
{
    seen *of = context;

    of->times[match->slot]++;
    match->key = nphd_key_u64(match->slot);
    return of->dead == 0 || match->slot % of->dead != 0;
}

static void fill_row(test_random *random, const world *of, uint8_t *row, uint32_t kind)
{
    const uint32_t payload = of->rows.payload_bytes;
    uint32_t bytes = payload;
    uint8_t *at = row;

    if (of->rows.prefix_bytes != 0) {
        bytes = kind % 2 == 0 ? 8 * (1 + (uint32_t)test_random_below(random, (payload + 7) / 8))
                              : 1 + (uint32_t)test_random_below(random, payload);
        bytes = bytes < payload ? bytes : payload;
        *at++ = (uint8_t)bytes;
    }
    /* near each other, so that there is something within a radius */
    for (uint32_t i = 0; i < bytes; i++) {
        at[i] = (uint8_t)(i * 37);
    }
    for (uint64_t flips = kind < 2 ? test_random_below(random, 2ULL * bytes + 1)
                                   : test_random_below(random, 4);
         flips > 0; flips--) {
        const uint64_t bit = test_random_below(random, 8ULL * bytes);
        at[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
}

/* Those of files from before values stood beside the slots, with wide chunks and narrow ones, and
 * those made now. */
static const nphdi_mih_form forms[] = {{4, true}, {3, false}, {4, false}};
enum { FORMS = sizeof(forms) / sizeof(forms[0]) };

static void world_init(world *of, test_random *random, uint32_t payload, bool lengths,
                       uint64_t slots, uint32_t kind, nphdi_mih_form form, uint32_t threads)
{
    uint32_t counts[NPHDI_MIH_LENGTHS];

    memset(of, 0, sizeof(*of));
    of->rows.payload_bytes = payload;
    of->rows.prefix_bytes = lengths ? 1 : 0;
    of->rows.stride = payload + of->rows.prefix_bytes;
    of->slots = slots;
    of->memory = calloc(slots + 1, of->rows.stride);
    assert_non_null(of->memory);
    of->rows.base = of->memory;
    for (uint64_t slot = 0; slot < slots; slot++) {
        fill_row(random, of, of->memory + slot * of->rows.stride, kind);
    }
    nphdi_mih_count(&of->rows, slots, counts);
    of->bytes = nphdi_mih_bytes(counts, payload, form);
    of->block = calloc(of->bytes, 1);
    assert_non_null(of->block);
    assert_int_equal(
        nphdi_mih_build(&of->rows, slots, counts, form, threads, NULL, of->block, NULL), NPHD_OK);
    assert_true(nphdi_mih_open(&of->mih, of->block, of->bytes, payload, slots));
    assert_int_equal(nphdi_mih_check(&of->mih, &of->rows, NULL, NULL), NPHD_OK);
}

static void world_free(world *of)
{
    free(of->memory);
    free(of->block);
}

static uint64_t matches_of(const nphdi_scan_target *target, const world *of,
                           const nphdi_mih_plan *plan, const uint16_t *limit, uint32_t *slots)
{
    uint64_t count = 0;

    for (uint32_t slot = 0; slot < of->slots; slot++) {
        nphdi_bits bits;
        target->kernels->gather(&target->query, &target->rows, &slot, 1, &bits);
        if (!plan->scanned[nphdi_rows_query(&of->rows, slot).bytes] &&
            bits.differing <= limit[bits.shared]) {
            slots[count++] = slot;
        }
    }
    return count;
}

static void check_query(const world *of, test_random *random, float radius, uint64_t dead)
{
    const bool hamming = of->rows.prefix_bytes == 0;
    static nphdi_scan_match matches[MOST_SLOTS];
    static uint32_t expected[MOST_SLOTS];
    static seen answered;
    uint8_t row[256] = {0};
    nphdi_mih_scratch scratch = {NULL, 0};
    double scan_ns[NPHDI_MIH_LENGTHS];
    nphdi_mih_plan plan;
    nphdi_scan_best best;

    fill_row(random, of, row, (uint32_t)test_random_below(random, 3));
    memset(&answered, 0, sizeof(answered));
    answered.dead = dead;
    const nphdi_query query = {row + of->rows.prefix_bytes,
                               hamming ? of->rows.payload_bytes : row[0]};
    const nphdi_scan_target target = {query, of->rows, nphdi_kernels_get(), accept, &answered};
    nphdi_mih_search search = {&of->mih, &plan, &target, NULL, &scratch, nphdi_allocator_system(),
                               0,        0,     0,       {0}};
    nphdi_scan_begin(&best, matches, MOST_SLOTS);
    nphdi_scan_limit_radius(&best, radius, hamming);
    for (uint32_t length = 0; length < NPHDI_MIH_LENGTHS; length++) {
        scan_ns[length] = 2e6; /* so that most is looked up, and the deepest is not */
    }
    nphdi_mih_plan_make(&of->mih, &query, best.limit, scan_ns, &nphdi_costs_mih, &plan);
    const uint64_t count = matches_of(&target, of, &plan, best.limit, expected);
    assert_int_equal(nphdi_mih_look(&search, NULL), NPHD_OK);
    assert_int_equal(nphdi_mih_take(&search, &best), NPHD_OK);
    uint64_t taken = 0;
    for (uint64_t i = 0; i < count; i++) {
        assert_int_equal(answered.times[expected[i]], 1);
        taken += dead == 0 || expected[i] % dead != 0 ? 1 : 0;
    }
    for (uint32_t slot = 0; slot < of->slots; slot++) {
        assert_true(answered.times[slot] <= 1);
    }
    assert_int_equal(best.count, taken);
    nphdi_mih_scratch_free(&scratch, nphdi_allocator_system());
}

static void test_like_comparing_all(void **state)
{
    static const uint32_t payloads[] = {1, 2, 3, 7, 8, 9, 12, 16, 31, 32, 33, 64, 255};
    test_random random = {seed};

    (void)state;
    /* tables of long vectors take long to make, whatever there is in them */
    for (size_t i = 0; i < sizeof(payloads) / sizeof(payloads[0]) - (is_small() ? 2 : 0); i++) {
        for (uint32_t kind = 0; kind < 6; kind++) {
            const bool lengths = kind < 3;
            const uint64_t slots = 1 + test_random_below(&random, MOST_SLOTS);
            world of;
            world_init(&of, &random, payloads[i], lengths, slots, kind % 3,
                       forms[(i + kind) % 5 < FORMS ? (i + kind) % 5 : 0], 1 + kind % 3);
            for (int j = 0; j < (is_small() ? QUERIES / 5 : QUERIES); j++) {
                const float share = (float)test_random_below(&random, 400) / 1000.0F;
                const float radius = j % 4 == 0 ? 0 : share * share;
                check_query(&of, &random, lengths ? radius : radius * 8 * (float)payloads[i],
                            j % 3 == 0 ? 3 : 0);
            }
            world_free(&of);
        }
    }
}

/* Looking up what no length would pay for by itself, but all of them together. */
static void test_lengths_pay_together(void **state)
{
    test_random random = {seed};
    double scan_ns[NPHDI_MIH_LENGTHS];
    nphdi_mih_plan plan;
    nphdi_scan_best best;
    world of;

    (void)state;
    world_init(&of, &random, 32, true, MOST_SLOTS, 0, forms[0], 1);
    uint8_t row[32] = {0};
    const nphdi_query query = {row, 32};
    nphdi_scan_begin_sink(&best, NULL, NULL);
    nphdi_scan_limit_radius(&best, 0.1F, false);
    for (uint32_t length = 0; length < NPHDI_MIH_LENGTHS; length++) {
        scan_ns[length] = 1e9;
    }
    nphdi_mih_plan_make(&of.mih, &query, best.limit, scan_ns, &nphdi_costs_mih, &plan);
    assert_false(plan.scans);
    const double looking = plan.cost;
    /* each is less than looking that length up alone */
    scan_ns[8] = 0.1 * looking;
    scan_ns[16] = 0.25 * looking;
    scan_ns[24] = 0.4 * looking;
    scan_ns[32] = 0.55 * looking;
    nphdi_mih_plan_make(&of.mih, &query, best.limit, scan_ns, &nphdi_costs_mih, &plan);
    assert_false(plan.scans);
    assert_true(plan.cost <= looking);
    world_free(&of);
}

/* Slots with a new row since then are passed over. */
static void test_stale_slots(void **state)
{
    test_random random = {seed};
    static nphdi_scan_match matches[MOST_SLOTS];
    static seen answered;
    uint64_t stale[MOST_SLOTS / 64 + 1] = {0};
    nphdi_mih_scratch scratch = {NULL, 0};
    double scan_ns[NPHDI_MIH_LENGTHS];
    nphdi_mih_plan plan;
    nphdi_scan_best best;
    world of;

    (void)state;
    world_init(&of, &random, 32, true, MOST_SLOTS, 2, forms[0], 1);
    for (uint32_t slot = 0; slot < MOST_SLOTS; slot += 2) {
        stale[slot / 64] |= 1ULL << (slot % 64);
    }
    const nphdi_query query = nphdi_rows_query(&of.rows, 1);
    const nphdi_scan_target target = {query, of.rows, nphdi_kernels_get(), accept, &answered};
    nphdi_mih_search search = {&of.mih, &plan, &target, stale, &scratch, nphdi_allocator_system(),
                               0,       0,     0,       {0}};
    nphdi_scan_begin(&best, matches, MOST_SLOTS);
    nphdi_scan_limit_radius(&best, 0.05F, false);
    for (uint32_t length = 0; length < NPHDI_MIH_LENGTHS; length++) {
        scan_ns[length] = 1e7;
    }
    nphdi_mih_plan_make(&of.mih, &query, best.limit, scan_ns, &nphdi_costs_mih, &plan);
    assert_int_equal(nphdi_mih_look(&search, NULL), NPHD_OK);
    assert_int_equal(nphdi_mih_take(&search, &best), NPHD_OK);
    assert_true(best.count > 0);
    for (uint32_t slot = 0; slot < MOST_SLOTS; slot++) {
        assert_true(slot % 2 == 1 || answered.times[slot] == 0);
    }
    nphdi_mih_scratch_free(&scratch, nphdi_allocator_system());
    world_free(&of);
}

/* What the sizes do not give away is noticed when it is used, or is a wrong answer that the check
 * finds; nothing outside of the block and the rows is read. */
static void test_lying_blocks(void **state)
{
    test_random random = {seed};
    static nphdi_scan_match matches[MOST_SLOTS];
    static seen answered;
    world of;

    (void)state;
    world_init(&of, &random, 32, true, 500, 1, forms[0], 1);
    for (int round = 0; round < (is_small() ? 100 : 3000); round++) {
        const uint64_t at = test_random_below(&random, of.bytes);
        const uint8_t before = of.block[at];
        nphdi_mih mih;
        of.block[at] = (uint8_t)test_random_next(&random);
        if (nphdi_mih_open(&mih, of.block, of.bytes, 32, 500)) {
            nphdi_mih_scratch scratch = {NULL, 0};
            double scan_ns[NPHDI_MIH_LENGTHS];
            nphdi_mih_plan plan;
            nphdi_scan_best best;
            const nphdi_query query = nphdi_rows_query(&of.rows, (uint32_t)(round % 500));
            const nphdi_scan_target target = {query, of.rows, nphdi_kernels_get(), accept,
                                              &answered};
            nphdi_mih_search search = {
                &mih, &plan, &target, NULL, &scratch, nphdi_allocator_system(), 0, 0, 0, {0}};
            nphdi_scan_begin(&best, matches, MOST_SLOTS);
            nphdi_scan_limit_radius(&best, 0.1F, false);
            for (uint32_t length = 0; length < NPHDI_MIH_LENGTHS; length++) {
                scan_ns[length] = 1e6;
            }
            nphdi_mih_plan_make(&mih, &query, best.limit, scan_ns, &nphdi_costs_mih, &plan);
            if (nphdi_mih_look(&search, NULL) == NPHD_OK) {
                (void)nphdi_mih_take(&search, &best);
            }
            (void)nphdi_mih_check(&mih, &of.rows, NULL, NULL);
            nphdi_mih_scratch_free(&scratch, nphdi_allocator_system());
        }
        of.block[at] = before;
    }
    assert_false(nphdi_mih_open(&of.mih, of.block, of.bytes - 1, 32, 500));
    assert_false(nphdi_mih_open(&of.mih, of.block, of.bytes, 32, 501));
    assert_false(nphdi_mih_open(&of.mih, of.block, of.bytes, 16, 500));
    assert_false(nphdi_mih_open(&of.mih, of.block, 16, 32, 500));
    world_free(&of);
}

/* Marks values that claim all slots of a table, one among each 512 that are looked up one after the
 * other, and in between them values of many set bits, which are not looked up, that take it back.
 * Returns how many; a search that believed them would compare each vector as often. */
static uint32_t make_greedy(const nphdi_mih_table *table, uint32_t depth, uint32_t slots)
{
    uint8_t *starts = (uint8_t *)(uintptr_t)table->starts;
    uint32_t looked_up = 0;
    uint32_t claimed = 0; /* in lookups up to this one */
    uint32_t claims = 0;

    memset(starts, 0, 4 * (((size_t)1 << table->bits) + 1));
    for (uint32_t differing = 0; differing < depth; differing++) {
        for (uint32_t value = 0; value < 1U << table->bits; value++) {
            if ((uint32_t)__builtin_popcount(value) != differing) {
                continue;
            }
            if (looked_up >= claimed && value % 256 == 0) {
                for (uint32_t i = 1; i < 256; i++) {
                    nphdi_put32(starts + 4 * (size_t)(value + i), slots);
                }
                claimed = (looked_up / 512 + 1) * 512;
                claims++;
            }
            looked_up++;
        }
    }
    return claims;
}

static void test_greedy_values(void **state)
{
    test_random random = {seed};
    static nphdi_scan_match matches[MOST_SLOTS];
    static seen answered;
    const uint8_t nothing[32] = {0};
    nphdi_mih_scratch scratch = {NULL, 0};
    nphdi_mih_plan plan;
    nphdi_scan_best best;
    world of;

    (void)state;
    world_init(&of, &random, 32, false, MOST_SLOTS, 1, forms[0], 1);
    const nphdi_query query = {nothing, 32};
    const nphdi_scan_target target = {query, of.rows, nphdi_kernels_get(), accept, &answered};
    nphdi_mih_search search = {&of.mih, &plan, &target, NULL, &scratch, nphdi_allocator_system(),
                               0,       0,     0,       {0}};
    nphdi_scan_begin(&best, matches, MOST_SLOTS);
    memset(&plan, 0, sizeof(plan));
    plan.depth[0] = 6;
    plan.probes = 1U << of.mih.tables[0].bits;
    assert_true(make_greedy(&of.mih.tables[0], plan.depth[0], MOST_SLOTS) > 3);
    assert_int_equal(nphdi_mih_look(&search, NULL), NPHD_CORRUPT);
    nphdi_mih_scratch_free(&scratch, nphdi_allocator_system());
    world_free(&of);
}

/* A slot in another place, twice, or under another value. */
static void test_check_finds(void **state)
{
    test_random random = {seed};
    world of;

    (void)state;
    world_init(&of, &random, 16, true, 200, 1, forms[0], 1);
    const nphdi_mih_table *table = &of.mih.tables[1];
    uint8_t *slots = (uint8_t *)(uintptr_t)table->slots;
    uint8_t *starts = (uint8_t *)(uintptr_t)table->starts;
    const uint32_t first = nphdi_get32(slots);
    nphdi_put32(slots, nphdi_get32(slots + 4));
    assert_int_equal(nphdi_mih_check(&of.mih, &of.rows, NULL, NULL), NPHD_CORRUPT);
    nphdi_put32(slots, 200);
    assert_int_equal(nphdi_mih_check(&of.mih, &of.rows, NULL, NULL), NPHD_CORRUPT);
    nphdi_put32(slots, first);
    assert_int_equal(nphdi_mih_check(&of.mih, &of.rows, NULL, NULL), NPHD_OK);
    nphdi_put32(starts, 1);
    assert_int_equal(nphdi_mih_check(&of.mih, &of.rows, NULL, NULL), NPHD_CORRUPT);
    nphdi_put32(starts, 0);
    uint8_t *beside = (uint8_t *)(uintptr_t)table->beside;
    beside[1] ^= 4;
    assert_int_equal(nphdi_mih_check(&of.mih, &of.rows, NULL, NULL), NPHD_CORRUPT);
    beside[1] ^= 4;
    assert_int_equal(nphdi_mih_check(&of.mih, &of.rows, NULL, NULL), NPHD_OK);
    uint32_t row = 0; /* that has the chunk at all */
    while (8 * nphdi_rows_query(&of.rows, row).bytes < table->end) {
        row++;
    }
    of.memory[row * of.rows.stride + of.rows.prefix_bytes + table->end / 8 - 1] ^= 1;
    assert_int_equal(nphdi_mih_check(&of.mih, &of.rows, NULL, NULL), NPHD_CORRUPT);
    world_free(&of);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_like_comparing_all), cmocka_unit_test(test_lengths_pay_together),
        cmocka_unit_test(test_stale_slots),        cmocka_unit_test(test_lying_blocks),
        cmocka_unit_test(test_greedy_values),      cmocka_unit_test(test_check_finds)};

    seed = test_seed();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
