/* Every kernel level on rows of 16-bit values against counting bit by bit: runs of all lengths, at
 * all places and alignments, any limit, with memory that ends where the last run does. */
#include "base/bytes.h"
#include "kernels/kernels.h"
#include "support/test_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include <cmocka.h>

#define MOST_VALUES 150
#define MOST_RUNS 6
#define ROUNDS 2000

static const nphdi_kernels *levels[4];
static size_t level_count;

static uint32_t count_slowly(uint32_t x)
{
    uint32_t count = 0;

    for (; x != 0; x &= x - 1) {
        count++;
    }
    return count;
}

static void check_levels(const uint8_t *values, const nphdi_sift_run *runs, size_t count,
                         uint32_t wanted)
{
    uint32_t expected[MOST_RUNS * MOST_VALUES];
    size_t near = 0;

    for (size_t i = 0; i < count; i++) {
        for (uint32_t at = runs[i].first; at < runs[i].first + runs[i].count; at++) {
            const uint32_t value = nphdi_get16(values + 2 * (size_t)at);
            if (count_slowly(value ^ wanted) <= runs[i].most) {
                expected[near++] = at;
            }
        }
    }
    for (size_t l = 0; l < level_count; l++) {
        uint32_t out[MOST_RUNS * MOST_VALUES + 1];
        memset(out, 0xa5, sizeof(out));
        const size_t found = levels[l]->sift(values, runs, count, wanted, out);
        if (found != near) {
            fail_msg("%s: %zu values and not %zu", levels[l]->name, found, near);
        }
        assert_memory_equal(out, expected, near * sizeof(*out));
        assert_int_equal(out[near], 0xa5a5a5a5U);
    }
}

static void test_random_runs(void **state)
{
    test_random random = {test_seed()};

    (void)state;
    for (size_t round = 0; round < ROUNDS; round++) {
        const uint32_t total = 1 + (uint32_t)(round % MOST_VALUES);
        const size_t shift = test_random_below(&random, 3);
        uint8_t *memory = malloc(shift + 2 * (size_t)total);
        nphdi_sift_run runs[MOST_RUNS];

        assert_non_null(memory);
        test_random_fill(&random, memory, shift + 2 * (size_t)total);
        for (size_t i = 0; i < MOST_RUNS; i++) {
            runs[i].first = (uint32_t)test_random_below(&random, total);
            runs[i].count = 1 + (uint32_t)test_random_below(&random, total - runs[i].first);
            runs[i].most = (uint32_t)test_random_below(&random, 19);
        }
        runs[MOST_RUNS - 1].count = total - runs[MOST_RUNS - 1].first;
        check_levels(memory + shift, runs, test_random_below(&random, MOST_RUNS + 1),
                     (uint32_t)test_random_below(&random, 1U << 16));
        check_levels(memory + shift, runs + MOST_RUNS - 1, 1,
                     (uint32_t)test_random_below(&random, 1U << 16));
        free(memory);
    }
}

/* All values differ in every bit, or in none; limits beyond what can differ. */
static void test_extremes(void **state)
{
    static uint8_t values[2 * MOST_VALUES];
    static const uint32_t limits[] = {0, 1, 15, 16, 17, 255, 256, 4000};

    (void)state;
    memset(values, 0xff, sizeof(values));
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        const nphdi_sift_run run = {1, MOST_VALUES - 1, limits[i]};
        check_levels(values, &run, 1, 0xffff);
        check_levels(values, &run, 1, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_runs),
        cmocka_unit_test(test_extremes),
    };

    level_count = nphdi_kernels_available(levels);
    for (size_t i = 0; i < level_count; i++) {
        (void)fprintf(stderr, "level %s\n", levels[i]->name);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
