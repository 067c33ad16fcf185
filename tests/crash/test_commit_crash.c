/* Commits and power cuts, after every operation of a workload and while recovering; see
 * commit_scene.h.
 *
 * NPHD_TEST_SEED replays a run, NPHD_TEST_STATES is how many distinct disks are wanted,
 * NPHD_TEST_SCALE=small asks for few. */
#include "commit_scene.h"
#include "support/allocator_plain.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define DRAWN_STEPS 16

static const char *const workload[] = {
    "open",     "add some", "commit",  "add one",        "commit",        "upsert",  "commit",
    "remove",   "commit",   "abandon", "add one",        "commit",        "abandon", "remove",
    "upsert",   "commit",   "rotate",  "add one",        "commit",        "drain",   "commit",
    "add many", "commit",   "remove",  "commit",         "save",          "rotate",  "add one",
    "commit",   "abandon",  "remove",  "commit",         "add automatic", "commit",  "compact",
    "add one",  "commit",   "abandon", "remove a range", "commit",        "save",    "remove",
    "commit",   "abandon",  "reset",   "commit",         "add some",      "commit",  "abandon",
    "add one",  "close",
};
#define WORKLOAD_STEPS (sizeof(workload) / sizeof(workload[0]))

static const char *draw_step(test_random *random)
{
    for (;;) {
        const world_step *step = &world_workload[test_random_below(random, world_workload_count)];
        const uint64_t choice = test_random_below(random, 8);
        if (choice < 3) {
            return "commit";
        }
        if (choice == 3) {
            return "abandon";
        }
        if (choice == 4) {
            return "add many";
        }
        if (step->call != world_open && step->call != world_close &&
            (step->drawn || test_random_below(random, 4) == 0)) {
            return step->name;
        }
    }
}

static void must_step(commit_scene *of, const char *name)
{
    const nphd_status status = commit_take_step(of, name);

    if (status != NPHD_OK) {
        fail_msg("step %s answers %s: %s", name, nphd_status_name(status), of->world->err.text);
    }
    commit_look(of);
}

static void run_round(uint64_t seed, uint64_t number, uint32_t swallow, commit_totals *sum)
{
    memory_io *disk = memory_io_create(seed);
    sharded_world world;
    commit_scene of = {.world = &world, .sum = sum, .step = ""};

    memory_io_keep_sectors_whole(disk);
    sharded_world_init(&world, seed, NULL, allocator_plain());
    commit_watch_begin(&of.watch, disk, commit_look, &of);
    of.watch.fault.swallow = swallow;
    world.options.io = &of.watch.table;
    world.options.journal = true;
    world.options.commit_each_call = number % 3 == 1;
    world.options.background_rotation = number % 5 == 4;
    world.options.no_bloom = number % 7 == 6;
    if (number % 2 == 1) {
        world.options.shard_bytes *= 8; /* commits of several sectors, which can be torn */
    }
    world.oracle.quiet = sum->quiet;
    for (size_t i = 0; number == 0 && i < WORKLOAD_STEPS; i++) {
        must_step(&of, workload[i]);
    }
    if (number > 0) {
        must_step(&of, "open");
        for (int i = 0; i < DRAWN_STEPS; i++) {
            must_step(&of, draw_step(&sum->random));
        }
        must_step(&of, "close");
    }
    sharded_world_free(&world);
    commit_watch_end(&of.watch);
    memory_io_destroy(disk);
}

static void test_power_cuts(void **state)
{
    const uint64_t seed = *(uint64_t *)*state;
    const uint64_t wanted = commit_wanted_states();
    uint64_t rounds = 0;
    size_t room = 1024;
    commit_totals sum;

    while (room < 4 * wanted) {
        room *= 2;
    }
    commit_totals_begin(&sum, seed, room);
    while (sum.seen_count < wanted && sum.bad == 0) {
        run_round(seed + rounds, rounds, 0, &sum);
        rounds++;
    }
    print_message("seed %llu: %zu disks after a power cut (%llu of them after a second one), %llu "
                  "writers went on, %llu rounds\n",
                  (unsigned long long)seed, sum.seen_count, (unsigned long long)sum.again,
                  (unsigned long long)sum.resumed, (unsigned long long)rounds);
    assert_int_equal(sum.bad, 0);
    assert_true(sum.resumed > 0 && sum.again > 0);
    commit_totals_end(&sum);
}

/* Does the test look? With flushes left out it must find disks that are wrong. */
static void test_missing_flushes_are_noticed(void **state)
{
    static const uint32_t flushes[] = {IO_FAULT_SYNC, IO_FAULT_SYNC_DIRECTORY};
    const uint64_t seed = *(uint64_t *)*state;

    for (size_t i = 0; i < 2; i++) {
        commit_totals sum;
        commit_totals_begin(&sum, seed, 1U << 16);
        sum.quiet = true;
        run_round(seed, 0, flushes[i], &sum);
        assert_true(sum.bad > 0);
        commit_totals_end(&sum);
    }
}

int main(void)
{
    uint64_t seed = test_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_power_cuts, &seed),
        cmocka_unit_test_prestate(test_missing_flushes_are_noticed, &seed),
    };

    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    allocator_plain_release();
    return failures;
}
