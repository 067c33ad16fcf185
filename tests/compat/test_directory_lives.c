/* Random lives of a directory: after every save and rotation the reference finds what we find. */
#include "directory_lab.h"

#include <stdlib.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

static void step(dirlab *lab, nphd_sharded *sharded)
{
    const uint64_t key = test_random_below(&lab->random, 120);

    switch (test_random_below(&lab->random, 12)) {
    case 0:
    case 1:
    case 2:
    case 3:
        dirlab_add(lab, sharded, key, key + 4);
        break;
    case 4:
    case 5:
        dirlab_upsert(lab, sharded, key, (uint8_t)test_random_below(&lab->random, 200));
        break;
    case 6:
    case 7:
    case 8:
        dirlab_remove(lab, sharded, key);
        break;
    case 9:
        OK(nphd_sharded_rotate(sharded, NULL));
        break;
    case 10:
        OK(nphd_sharded_save(sharded, NULL, NULL));
        break;
    default:
        if (test_random_below(&lab->random, 8) == 0) {
            OK(nphd_sharded_compact(sharded, NULL, NULL, NULL));
        } else if (test_random_below(&lab->random, 12) == 0) {
            OK(nphd_sharded_reset(sharded, NULL));
            lab->items.count = 0;
        }
    }
}

static void live(dirlab *lab, const nphd_sharded_options *options, size_t steps)
{
    nphd_sharded *sharded = dirlab_open(lab, options);

    for (size_t i = 0; i < steps; i++) {
        step(lab, sharded);
        if (test_random_below(&lab->random, 4) == 0) {
            OK(nphd_sharded_save(sharded, NULL, NULL));
            dirlab_expect_reference(lab);
        }
        if (test_random_below(&lab->random, 10) == 0) {
            dirlab_expect(lab, sharded);
            dirlab_close(sharded);
            dirlab_expect_reference(lab);
            sharded = dirlab_open(lab, options);
            dirlab_expect(lab, sharded);
            assert_string_equal(lab->log, "");
        }
    }
    dirlab_close(sharded);
    dirlab_expect_reference(lab);
}

static void test_random_lives(void **state)
{
    const char *scale = getenv("NPHD_TEST_SCALE");
    const size_t steps = scale != NULL && strcmp(scale, "small") == 0 ? 100 : 1500;
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);

    options.shard_bytes = 4000;
    live(lab, &options, steps);
    options.no_bloom = true;
    live(lab, &options, steps);
    options.no_bloom = false;
    options.shard_bytes = 1500;
    dirlab_forget_log(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_close(sharded);
    dirlab_forget_log(lab);
    options.background_rotation = true;
    live(lab, &options, steps);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_random_lives),
    };

    return cmocka_run_group_tests_name("random lives of a directory", tests, NULL, NULL);
}
