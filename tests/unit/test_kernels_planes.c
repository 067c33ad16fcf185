/* Every kernel level on word planes against counting bit by bit: all tail lengths, numbers of
 * planes, alignments and limits, with memory that ends where the vectors do. */
#include "kernels/kernels.h"
#include "support/test_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include <cmocka.h>

#define MOST_VECTORS 140
#define ROUNDS 400

static const nphdi_kernels *levels[4];
static size_t level_count;

static uint32_t count_slowly(const nphdi_planes_run *run, size_t at)
{
    uint32_t differing = 0;

    for (uint32_t plane = 0; plane < run->planes; plane++) {
        uint64_t word;

        memcpy(&word, run->base + 8 * (plane * run->stride + at), sizeof(word));
        word ^= run->query[plane];
        word &= plane + 1 == run->planes ? run->last_mask : ~(uint64_t)0;
        for (; word != 0; word &= word - 1) {
            differing++;
        }
    }
    return differing;
}

/* The outcome for `count` vectors, and that no more than its words were written. */
static void check_within(const nphdi_kernels *level, const nphdi_planes_run *run, size_t count,
                         uint32_t limit)
{
    uint64_t out[MOST_VECTORS / 64 + 2];
    uint64_t any = 0;
    const size_t words = (count + 63) / 64;

    memset(out, 0xa5, sizeof(out));
    const uint64_t returned = level->planes_within(run, count, limit, out);
    for (size_t i = 0; i < 64 * words; i++) {
        const bool near = i < count && count_slowly(run, i) <= limit;
        if ((out[i / 64] >> (i % 64) & 1) != near) {
            fail_msg("%s: vector %zu of %zu, %u planes, limit %u: %d", level->name, i, count,
                     run->planes, limit, !near);
        }
    }
    for (size_t i = 0; i < words; i++) {
        any |= out[i];
    }
    assert_int_equal(returned, any);
    assert_int_equal(out[words], 0xa5a5a5a5a5a5a5a5U);
}

static void check_levels(const nphdi_planes_run *run, size_t count, uint32_t limit)
{
    for (size_t l = 0; l < level_count; l++) {
        check_within(levels[l], run, count, limit);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(levels[l]->planes_count(run, i), count_slowly(run, i));
        }
    }
}

/* The vectors lie at the end of an allocation, so that a sanitizer sees what is read beyond. */
static void test_random_planes(void **state)
{
    test_random random = {test_seed()};
    uint64_t query[NPHDI_PLANE_WORDS];

    (void)state;
    for (size_t round = 0; round < ROUNDS; round++) {
        const size_t count = 1 + round % MOST_VECTORS;
        const uint32_t planes =
            1 + (uint32_t)(round % 2 == 0 ? round / 2 % 5 : round / 2 % NPHDI_PLANE_WORDS);
        const size_t stride = count + test_random_below(&random, 3);
        const size_t bytes = 8 * ((planes - 1) * stride + count);
        const size_t shift = test_random_below(&random, 9);
        uint8_t *memory = malloc(shift + bytes);
        const nphdi_planes_run run = {
            memory + shift, stride, query, planes,
            test_random_below(&random, 2) == 0
                ? ~(uint64_t)0
                : ((uint64_t)1 << 8 * (1 + test_random_below(&random, 7))) - 1};

        assert_non_null(memory);
        test_random_fill(&random, memory, shift + bytes);
        test_random_fill(&random, query, sizeof(query));
        check_levels(&run, count, 32 * planes - 8 + (uint32_t)test_random_below(&random, 17));
        free(memory);
    }
}

/* Nothing differs, everything differs, and limits of all and of nothing. */
static void test_extremes(void **state)
{
    uint64_t query[NPHDI_PLANE_WORDS];
    static uint8_t same[8 * NPHDI_PLANE_WORDS * 65];
    static uint8_t other[sizeof(same)];

    (void)state;
    memset(query, 0x5a, sizeof(query));
    memset(same, 0x5a, sizeof(same));
    memset(other, 0xa5, sizeof(other));
    for (uint32_t planes = 1; planes <= NPHDI_PLANE_WORDS; planes++) {
        const nphdi_planes_run equal = {same, 65, query, planes, ~(uint64_t)0};
        const nphdi_planes_run far = {other, 65, query, planes, ~(uint64_t)0};
        check_levels(&equal, 65, 0);
        check_levels(&far, 65, 64 * planes);
        check_levels(&far, 65, 64 * planes - 1);
        check_levels(&far, 65, 0);
        for (size_t l = 0; l < level_count; l++) {
            assert_int_equal(levels[l]->planes_count(&far, 64), 64 * planes);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_planes),
        cmocka_unit_test(test_extremes),
    };

    level_count = nphdi_kernels_available(levels);
    for (size_t i = 0; i < level_count; i++) {
        (void)fprintf(stderr, "level %s\n", levels[i]->name);
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
