/* Commits and failing calls: every storage call fails in turn, or the process dies there, and the
 * power goes after what follows; see commit_scene.h.
 *
 * NPHD_TEST_SEED replays a run, NPHD_TEST_SCALE=small asks for few. */
#include "commit_scene.h"
#include "support/allocator_plain.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const char *const failing_workload[] = {
    "open",    "add some", "commit", "add one", "commit",  "remove",  "commit", "rotate",
    "remove",  "commit",   "upsert", "commit",  "add one", "save",    "remove", "commit",
    "compact", "add one",  "commit", "reset",   "commit",  "add one", "commit", "close",
};
#define FAILING_STEPS (sizeof(failing_workload) / sizeof(failing_workload[0]))

/* Steps after the failure that are looked at one by one. */
#define STEPS_AFTER 4

/* Call number `fail_at` of the workload fails; false: there are fewer. */
static bool run_failure(uint64_t seed, uint64_t fail_at, int os_error, bool for_ever,
                        commit_totals *sum)
{
    memory_io *disk = memory_io_create(seed);
    sharded_world world;
    commit_scene of = {.world = &world, .sum = sum, .step = ""};
    bool failed = false;
    int left = STEPS_AFTER;

    memory_io_keep_sectors_whole(disk);
    sharded_world_init(&world, seed, NULL, allocator_plain());
    commit_watch_begin(&of.watch, disk, commit_look, &of);
    world.options.io = &of.watch.table;
    world.options.journal = true;
    io_fault_arm(&of.watch.fault, IO_FAULT_ALL & ~IO_FAULT_RANDOM, fail_at, os_error, for_ever);
    for (size_t i = 0; i < FAILING_STEPS; i++) {
        nphd_status status = failed && left > 0 ? commit_take_step(&of, failing_workload[i])
                                                : commit_take_quietly(&of, failing_workload[i]);
        failed = of.watch.fault.failed > 0;
        if (failed) {
            io_fault_disarm(&of.watch.fault);
        }
        if (failed && left-- > 0) {
            commit_look(&of);
        }
        if (status != NPHD_OK) { /* told once; now the disk is well again */
            status = commit_take_quietly(&of, failing_workload[i]);
        }
        if (status != NPHD_OK) {
            fail_msg("call %llu fails, then step %s again: %s", (unsigned long long)fail_at,
                     failing_workload[i], world.err.text);
        }
    }
    commit_look(&of);
    sharded_world_free(&world);
    commit_watch_end(&of.watch);
    memory_io_destroy(disk);
    return failed;
}

/* The process dies at call number `die_at`; what it has written and not flushed is still there for
 * the next one, which commits, and then the power goes. false: there are fewer calls. */
static bool run_death(uint64_t seed, uint64_t die_at, commit_totals *sum)
{
    memory_io *disk = memory_io_create(seed);
    sharded_world world;
    commit_scene of = {.world = &world, .sum = sum, .step = ""};
    nphd_status status = NPHD_OK;

    memory_io_keep_sectors_whole(disk);
    sharded_world_init(&world, seed, NULL, allocator_plain());
    commit_watch_begin(&of.watch, disk, commit_look, &of);
    world.options.io = &of.watch.table;
    world.options.journal = true;
    io_fault_arm(&of.watch.fault, IO_FAULT_ALL & ~IO_FAULT_RANDOM, die_at, EIO, true);
    for (size_t i = 0; i < FAILING_STEPS && status == NPHD_OK; i++) {
        status = commit_take_quietly(&of, failing_workload[i]);
    }
    io_fault_disarm(&of.watch.fault);
    if (status != NPHD_OK) {
        assert_int_equal(commit_take_quietly(&of, "abandon"), NPHD_OK);
        assert_int_equal(commit_take_quietly(&of, "add one"), NPHD_OK);
        assert_int_equal(commit_take_step(&of, "commit"), NPHD_OK);
        commit_look(&of);
    }
    sharded_world_free(&world);
    commit_watch_end(&of.watch);
    memory_io_destroy(disk);
    return status != NPHD_OK;
}

static void test_death_before_the_power_cut(void **state)
{
    const uint64_t seed = *(uint64_t *)*state;
    const bool small = commit_wanted_states() < COMMIT_DEFAULT_STATES;
    uint64_t die_at = 1;
    uint64_t runs = 0;
    commit_totals sum;

    commit_totals_begin(&sum, seed, 1U << 20);
    while (run_death(seed, die_at, &sum) && sum.bad == 0) {
        die_at += 1 + test_random_below(&sum.random, small ? 31 : 3);
        runs++;
    }
    print_message("seed %llu: %llu deaths, %zu disks after the power cut behind\n",
                  (unsigned long long)seed, (unsigned long long)runs, sum.seen_count);
    if (sum.bad > 0) {
        print_error("the process died at call %llu\n", (unsigned long long)die_at);
    }
    assert_int_equal(sum.bad, 0);
    commit_totals_end(&sum);
}

static void test_failing_calls(void **state)
{
    static const int errors[] = {EIO, ENOSPC};
    const uint64_t seed = *(uint64_t *)*state;
    const bool small = commit_wanted_states() < COMMIT_DEFAULT_STATES;
    uint64_t runs = 0;
    commit_totals sum;

    commit_totals_begin(&sum, seed, 1U << 20);
    for (int variant = 0; variant < 4 && sum.bad == 0; variant++) {
        uint64_t fail_at = 1;
        while (run_failure(seed, fail_at, errors[variant % 2], variant >= 2, &sum) &&
               sum.bad == 0) {
            fail_at += 1 + test_random_below(&sum.random, small ? 31 : 5);
            runs++;
        }
        if (sum.bad > 0) {
            print_error("call %llu failed, variant %d\n", (unsigned long long)fail_at, variant);
        }
    }
    print_message("seed %llu: %llu runs with a failing call, %zu disks after it\n",
                  (unsigned long long)seed, (unsigned long long)runs, sum.seen_count);
    assert_int_equal(sum.bad, 0);
    commit_totals_end(&sum);
}

int main(void)
{
    uint64_t seed = test_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_failing_calls, &seed),
        cmocka_unit_test_prestate(test_death_before_the_power_cut, &seed),
    };

    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    allocator_plain_release();
    return failures;
}
