/* A sharded index under failing storage and failing memory.
 *
 * A workload of every call that writes is run again and again, with the N-th storage call or the
 * N-th request for memory failing, once or from then on, until nothing fails. Where a call fails:
 * its status is one that the header names, the text names the place, everything is still there in
 * memory, and a power cut would leave what was acknowledged last or what was being written. Then
 * the fault is gone: the call and all others succeed, and a new opening finds everything, sound and
 * without temporary files. Nothing leaks, and no file is flushed twice.
 *
 * NPHD_TEST_SCALE=small leaves out most N; NPHD_TEST_SCALE=large leaves out none. */
#include "support/allocator_fault.h"
#include "support/allocator_plain.h"
#include "support/io_fault.h"
#include "support/io_memory.h"
#include "support/sharded_oracle.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* Calls that may fail while a fault lasts, before it is taken away. */
#define FAILURES_MOST 3

/* Changing calls that may tell of rotations which failed in the background. */
#define REPORTS_MOST 4

/* Steps after which every request of the reading calls is refused. */
#define EXAMINE_EVERY 6

/* Runs without a fault after which a sweep ends. */
#define UNHARMED_RUNS 10

/* From N to N: `usual`, unless the scale says something else. */
static uint64_t stride(uint64_t usual)
{
    const char *scale = getenv("NPHD_TEST_SCALE");

    if (scale != NULL && strcmp(scale, "large") == 0) {
        return 1;
    }
    return scale != NULL && strcmp(scale, "small") == 0 ? 23 * usual : usual;
}

typedef struct lab {
    sharded_world world;
    memory_io *disk;
    io_fault io;
    allocator_fault allocator;
    const char *step;
    bool memory_fault; /* else a storage fault */
    bool for_ever;
    int failures;
    uint64_t refused;  /* requests for memory */
    uint64_t way;      /* how to go on after the fault */
    uint64_t seed;     /* of this run */
    uint64_t fault_at; /* likewise */
} lab;

/* ---- the lab ---- */

static void lab_begin(lab *here, uint64_t seed)
{
    memset(here, 0, sizeof(*here));
    here->seed = seed;
    here->disk = memory_io_create(seed);
    io_fault_init(&here->io, memory_io_table(here->disk));
    allocator_fault_init(&here->allocator);
    here->allocator.below = allocator_plain();
    sharded_world_init(&here->world, seed, &here->io.table, &here->allocator.table);
}

static void lab_end(lab *here)
{
    sharded_world_free(&here->world);
    assert_int_equal(here->io.open_files, 0);
    assert_int_equal(here->io.maps, 0);
    assert_int_equal(here->io.repeated_syncs, 0);
    assert_int_equal(memory_io_mistakes(here->disk), 0);
    assert_true(allocator_fault_is_clean(&here->allocator));
    allocator_fault_destroy(&here->allocator);
    io_fault_destroy(&here->io);
    memory_io_destroy(here->disk);
}

static void heal(lab *here)
{
    io_fault_disarm(&here->io);
    allocator_fault_arm(&here->allocator, ALLOCATOR_FAULT_ALL, 0, false);
}

#define REQUIRE(here, condition)                                                                   \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fail_msg("step %s: %s (call %llu failed, way %llu, seed %llu, kind %x; %s: %s)",       \
                     (here)->step, #condition, (unsigned long long)(here)->fault_at,               \
                     (unsigned long long)(here)->way, (unsigned long long)(here)->seed,            \
                     (unsigned)(here)->io.failed_kinds,                                            \
                     nphd_status_name((here)->world.err.status), (here)->world.err.text);          \
        }                                                                                          \
    } while (0)

/* ---- what must hold after a failure ---- */

static void check_status(const lab *here, nphd_status status)
{
    REQUIRE(here, here->world.err.status == status);
    if (here->memory_fault) {
        REQUIRE(here, status == NPHD_OUT_OF_MEMORY);
        return;
    }
    REQUIRE(here,
            status == NPHD_IO || status == NPHD_NO_SPACE || status == NPHD_DURABILITY_UNKNOWN);
    REQUIRE(here, status != NPHD_DURABILITY_UNKNOWN ||
                      (here->io.failed_kinds & IO_FAULT_SYNC_DIRECTORY) != 0);
    REQUIRE(here, strstr(here->world.err.text, WORLD_PATH) != NULL);
}

/* Everything is there in memory, also while the disk fails. */
static void check_memory(const lab *here)
{
    const sharded_world *world = &here->world;

    REQUIRE(here, world->sharded == NULL ||
                      sharded_oracle_is_at(&world->oracle, world->sharded, world->oracle.now));
}

/* After a power cut now a reader would find a legal moment. */
static void check_disk(lab *here)
{
    nphd_sharded_options options = here->world.options;
    const uint64_t drawn = test_random_next(&here->world.random) % 8;
    memory_io *disk = memory_io_crash(here->disk, MEMORY_IO_WEAK, drawn);
    nphd_sharded *reader = NULL;
    nphd_status status;

    options.io = memory_io_table(disk);
    options.allocator = allocator_plain();
    options.read_only = true;
    status = nphd_sharded_open(WORLD_PATH, &options, &reader, &here->world.err);
    if (status == NPHD_NOT_FOUND) {
        REQUIRE(here, sharded_oracle_may_be_absent(&here->world.oracle));
    } else {
        REQUIRE(here, status == NPHD_OK);
        REQUIRE(here, sharded_oracle_find(&here->world.oracle, reader) != ORACLE_NONE);
    }
    nphd_sharded_free(reader);
    memory_io_destroy(disk);
}

/* A new writer finds everything, and nothing that should not be there. */
static void check_reopened(lab *here)
{
    sharded_world *world = &here->world;
    nphd_directory_report report;
    nphd_status status;

    here->step = "open at the end";
    REQUIRE(here, world_open(world) == NPHD_OK);
    check_memory(here);
    REQUIRE(here, memory_io_count(here->disk, ".tmp") == 0);
    REQUIRE(here, world_close(world) == NPHD_OK);
    status = nphd_directory_verify(WORLD_PATH, memory_io_table(here->disk), NULL, NULL, &report,
                                   &world->err);
    REQUIRE(here, status == NPHD_OK ||
                      (status == NPHD_NOT_FOUND && sharded_oracle_may_be_absent(&world->oracle)));
    REQUIRE(here, report.damaged_files == 0 && report.unverified_files == 0);
}

/* ---- one run ---- */

/* Without the fault a call succeeds; in the background failures of before may be told first. */
static void call_again(lab *here, const world_step *step)
{
    nphd_status status = step->call(&here->world);

    for (int i = 0; i < REPORTS_MOST && here->world.options.background_rotation; i++) {
        if (status != NPHD_OK) {
            status = step->call(&here->world);
        }
    }
    REQUIRE(here, status == NPHD_OK);
    check_memory(here);
}

/* What somebody does whose call has failed: tries it again, or goes on with something else first,
 * whose files must not suffer from what the failed call left. */
static void go_on(lab *here, const world_step *step)
{
    static const world_step save = {"save after the fault", world_save, true};
    static const world_step add = {"add after the fault", world_add_some, true};
    static const world_step reset = {"reset after the fault", world_reset, true};
    const uint64_t way = here->way % 4;

    if (here->world.sharded != NULL && way >= 1) {
        if (way == 2) {
            call_again(here, &add);
        } else if (way == 3) {
            call_again(here, &reset);
        }
        call_again(here, &save);
        check_disk(here);
    }
    call_again(here, step);
}

static void take_step(lab *here, const world_step *step, bool last, bool *armed)
{
    nphd_status status;

    here->step = step->name;
    status = step->call(&here->world);
    if (status == NPHD_OK) {
        return;
    }
    REQUIRE(here, *armed);
    check_status(here, status);
    if (here->for_ever && !here->memory_fault && !last && here->world.sharded != NULL &&
        ++here->failures < FAILURES_MOST) {
        check_memory(here); /* the disk stays as bad as it is */
        return;
    }
    *armed = false;
    heal(here);
    check_memory(here);
    check_disk(here);
    go_on(here, step);
}

/* How many calls were made to fail. `may_fail` false: the library must hide the fault. */
static uint64_t run_steps(lab *here, const world_step *steps, size_t count, bool may_fail)
{
    bool armed = may_fail;

    for (size_t i = 0; i < count; i++) {
        take_step(here, &steps[i], i + 1 == count, &armed);
    }
    heal(here);
    if (here->io.os_error != EINVAL) { /* without flushes nothing is promised */
        check_disk(here);
    }
    check_reopened(here);
    return here->io.failed;
}

/* ---- storage ---- */

typedef struct sweep {
    uint32_t kinds;
    int os_error;
    bool for_ever;
    bool may_fail;
    bool background;
    uint64_t stride;
    uint64_t ways; /* to go on after each N; 1: one after the other */
} sweep;

/* Returns how many calls were made to fail. */
static uint64_t run_with_fault(uint64_t seed, const sweep *of, uint64_t n, uint64_t way)
{
    lab here;
    uint64_t failed;

    /* workloads of different seeds make different calls */
    lab_begin(&here, seed + n / 4);
    here.way = way;
    here.fault_at = n;
    here.for_ever = of->for_ever;
    here.world.options.no_bloom = here.seed % 3 == 2;
    here.world.options.background_rotation = of->background;
    io_fault_arm(&here.io, of->kinds, n, of->os_error, of->for_ever);
    failed = run_steps(&here, world_workload, world_workload_count, of->may_fail);
    lab_end(&here);
    return failed;
}

/* Workloads differ in how many calls they make: the end is where several have met no fault. */
static uint64_t sweep_storage(uint64_t seed, const sweep *of)
{
    const uint64_t step = stride(of->stride);
    uint64_t unharmed = 0;
    uint64_t runs = 0;

    for (uint64_t n = 1 + seed % step; unharmed < UNHARMED_RUNS; n += step) {
        for (uint64_t way = 0; way < of->ways; way++, runs++) {
            const uint64_t failed = run_with_fault(seed, of, n, of->ways > 1 ? way : runs);
            unharmed = failed > 0 ? 0 : unharmed + 1;
        }
    }
    return runs;
}

#define FINAL (IO_FAULT_SYNC | IO_FAULT_CLOSE | IO_FAULT_SYNC_DIRECTORY)
#define MOVES (IO_FAULT_READ | IO_FAULT_WRITE)

/* Signals are invisible, but for the calls whose first answer counts; short reads and writes are.
 * A directory that cannot be flushed leaves two states possible, so it is gone into most. */
static const sweep sweeps[] = {
    {IO_FAULT_SYNC_DIRECTORY, EIO, false, true, false, 1, 4},
    {IO_FAULT_SYNC_DIRECTORY, EIO, true, true, false, 1, 4},
    {IO_FAULT_RENAME | IO_FAULT_REMOVE, EIO, false, true, false, 1, 4},
    {IO_FAULT_ALL, EIO, false, true, false, 1, 1},
    {IO_FAULT_ALL, EIO, true, true, false, 1, 1},
    {IO_FAULT_ALL, ENOSPC, false, true, false, 2, 1},
    {IO_FAULT_ALL, ENOSPC, true, true, false, 2, 1},
    {IO_FAULT_ALL, EDQUOT, false, true, false, 2, 1},
    {IO_FAULT_ALL, EDQUOT, true, true, false, 2, 1},
    {IO_FAULT_ALL & ~FINAL, EINTR, false, false, false, 1, 1},
    {FINAL, EINTR, false, true, false, 1, 1},
    {IO_FAULT_ALL, EINTR, true, true, false, 3, 1},
    {MOVES, IO_FAULT_SHORT, false, false, false, 1, 1},
    {MOVES, IO_FAULT_SHORT, true, false, false, 10, 1},
    {IO_FAULT_ALL, EIO, false, true, true, 5, 1},
    {IO_FAULT_ALL, ENOSPC, true, true, true, 5, 1},
    /* where a file system cannot */
    {IO_FAULT_ALLOCATE, EOPNOTSUPP, true, false, false, 30, 1},
    {IO_FAULT_SYNC_DIRECTORY, EINVAL, true, false, false, 30, 1},
};

static void test_storage_fails(void **state)
{
    const uint64_t seed = *(uint64_t *)*state;
    uint64_t runs = 0;

    for (size_t i = 0; i < sizeof(sweeps) / sizeof(sweeps[0]); i++) {
        runs += sweep_storage(seed, &sweeps[i]);
    }
    print_message("seed %llu: %llu runs with failing storage\n", (unsigned long long)seed,
                  (unsigned long long)runs);
    assert_true(runs > (stride(1) > 1 ? 50 : 3000));
}

/* A file that is in place although its directory could not be flushed is known of: it goes when the
 * index is reset, and does not come back when the newer files are gone too. */
static bool reset_after_unknown(uint64_t seed, uint64_t n, bool no_bloom)
{
    static const world_call before[] = {world_open, world_add_some, world_rotate, world_remove_all,
                                        world_add_one};
    static const world_call after[] = {world_reset, world_save,  world_add_one, world_remove_all,
                                       world_save,  world_close, world_open};
    lab here;

    lab_begin(&here, seed);
    here.step = "save";
    here.fault_at = n;
    here.world.options.no_bloom = no_bloom;
    for (size_t i = 0; i < sizeof(before) / sizeof(before[0]); i++) {
        REQUIRE(&here, before[i](&here.world) == NPHD_OK);
    }
    io_fault_arm(&here.io, IO_FAULT_SYNC_DIRECTORY, n, EIO, false);
    const nphd_status status = world_save(&here.world);
    const bool failed = here.io.failed > 0;
    heal(&here);
    REQUIRE(&here, status == (failed ? NPHD_DURABILITY_UNKNOWN : NPHD_OK));
    for (size_t i = 0; i < sizeof(after) / sizeof(after[0]); i++) {
        REQUIRE(&here, after[i](&here.world) == NPHD_OK);
        check_memory(&here);
        check_disk(&here);
    }
    lab_end(&here);
    return failed;
}

static void test_reset_after_unknown_durability(void **state)
{
    const uint64_t seed = *(uint64_t *)*state;

    for (int no_bloom = 0; no_bloom < 2; no_bloom++) {
        uint64_t n = 1;
        while (reset_after_unknown(seed, n, no_bloom == 1)) {
            n++;
        }
        assert_true(n > 2);
    }
}

/* ---- memory ---- */

static nphd_status look_up(lab *here, nphd_sharded *sharded)
{
    const sharded_oracle *oracle = &here->world.oracle;
    nphd_key keys[20];
    uint8_t data[20 * 8];
    size_t bytes[20];
    size_t count = 0;
    nphd_error *err = &here->world.err;
    nphd_status status = NPHD_OK;
    bool there;

    for (uint32_t i = 0; i < 20 && status == NPHD_OK; i++) {
        keys[i] = sharded_oracle_key(oracle, i * 19);
        status = nphd_sharded_contains(sharded, keys[i], &there, err);
        if (status == NPHD_OK) {
            REQUIRE(here, there == sharded_oracle_has(oracle, i * 19));
            status = nphd_sharded_count(sharded, keys[i], &count, err);
        }
        if (status == NPHD_OK) {
            REQUIRE(here, count == (there ? 1 : 0));
            status = nphd_sharded_get_all(sharded, keys[i], data, bytes, 1, &count, err);
        }
        status = status == NPHD_NOT_FOUND && !there ? NPHD_OK : status;
    }
    return status != NPHD_OK ? status : nphd_sharded_get_many(sharded, keys, 20, data, bytes, err);
}

static nphd_status search(lab *here, nphd_sharded *sharded)
{
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_search_report reports[2];
    nphd_match found[20];
    uint8_t data[2][8];
    const nphd_vector queries[2] = {sharded_oracle_vector(3, 1, data[0]),
                                    sharded_oracle_vector(30, 2, data[1])};
    nphd_error *err = &here->world.err;
    nphd_status status = NPHD_OK;

    for (int mode = NPHD_SEARCH_AUTO; mode <= NPHD_SEARCH_APPROXIMATE && status == NPHD_OK;
         mode++) {
        options.mode = (nphd_search_mode)mode;
        status = nphd_sharded_search(sharded, queries[0], 10, &options, found, reports, err);
        REQUIRE(here, status == NPHD_OK || reports[0].count == 0);
        if (status == NPHD_OK) {
            status =
                nphd_sharded_search_many(sharded, queries, 2, 10, &options, found, reports, err);
            REQUIRE(here, status == NPHD_OK || (reports[0].count == 0 && reports[1].count == 0));
        }
    }
    return status;
}

/* Every call that reads. */
static nphd_status examine(lab *here)
{
    nphd_sharded *sharded = here->world.sharded;
    nphd_sharded_stats stats = NPHD_SHARDED_STATS_INIT;
    nphd_shard_info shards[64];
    nphd_sharded_cursor cursor = nphd_sharded_cursor_begin(sharded);
    nphd_error *err = &here->world.err;
    nphd_key key;
    size_t count;
    uint8_t data[8];
    nphd_status status = look_up(here, sharded);

    status = status == NPHD_OK ? search(here, sharded) : status;
    status = status == NPHD_OK ? nphd_sharded_get_stats(sharded, &stats, err) : status;
    status = status == NPHD_OK ? nphd_sharded_shards(sharded, shards, 64, &count, err) : status;
    status = status == NPHD_OK ? nphd_sharded_set_breadth(sharded, 8, 9, err) : status;
    while (status == NPHD_OK) {
        status = nphd_sharded_cursor_next(&cursor, &key, data, &count, err);
    }
    if (status == NPHD_NOT_FOUND) {
        status = NPHD_OK;
        here->world.err.status = NPHD_OK;
    }
    return status;
}

/* A reader beside the writer. */
static nphd_status examine_reader(lab *here)
{
    nphd_sharded_options options = here->world.options;
    nphd_sharded *writer = here->world.sharded;
    nphd_status status;

    options.read_only = true;
    status = nphd_sharded_open(WORLD_PATH, &options, &here->world.sharded, &here->world.err);
    if (status == NPHD_OK) {
        status = search(here, here->world.sharded);
    } else if (status == NPHD_NOT_FOUND) {
        REQUIRE(here, sharded_oracle_may_be_absent(&here->world.oracle));
        status = NPHD_OK;
    }
    nphd_sharded_free(here->world.sharded);
    here->world.sharded = writer;
    return status;
}

static nphd_sharded_stats stats_of(const lab *here)
{
    nphd_sharded_stats stats = NPHD_SHARDED_STATS_INIT;

    if (here->world.sharded != NULL) {
        REQUIRE(here, nphd_sharded_get_stats(here->world.sharded, &stats, NULL) == NPHD_OK);
    }
    return stats;
}

/* One call with one request refused, or all from it on; nothing may have changed then. A call that
 * has not begun to write leaves the disk alone too, and none leaves temporary files. Returns
 * whether requests were refused at all. */
static bool call_without_memory(lab *here, const world_step *step, uint64_t n, bool for_ever)
{
    const bool open = here->world.sharded != NULL;
    const nphd_sharded_stats before = stats_of(here);
    const uint64_t disk = memory_io_fingerprint(here->disk);
    nphd_status status;

    here->fault_at = n;
    allocator_fault_arm(&here->allocator, ALLOCATOR_FAULT_ALL, n, for_ever);
    status = step->call(&here->world);
    const bool refused = here->allocator.failed > 0;
    heal(here);
    REQUIRE(here, refused || status == NPHD_OK);
    if (status != NPHD_OK) {
        check_status(here, status);
        if (n % 4 == 1) {
            check_memory(here);
        }
        REQUIRE(here, !open || here->world.sharded == NULL ||
                          stats_of(here).size == sharded_oracle_live(&here->world.oracle));
        REQUIRE(here, memory_io_count(here->disk, ".tmp") == 0);
        if (open && here->world.sharded != NULL && before.pending_rotations == 0 &&
            stats_of(here).generation == before.generation) {
            REQUIRE(here, memory_io_fingerprint(here->disk) == disk);
        } else if (n % 8 == 0) {
            check_disk(here);
        }
    }
    return refused;
}

static bool read_without_memory(lab *here, nphd_status (*call)(lab *here), uint64_t n,
                                bool for_ever)
{
    nphd_status status;

    here->fault_at = n;
    allocator_fault_arm(&here->allocator, ALLOCATOR_FAULT_ALL, n, for_ever);
    status = call(here);
    const bool refused = here->allocator.failed > 0;
    heal(here);
    REQUIRE(here, refused || status == NPHD_OK);
    if (status != NPHD_OK) {
        check_status(here, status);
    }
    return refused;
}

/* Every request of every call is refused in its turn. Returns how many there were. */
static uint64_t run_without_memory(uint64_t seed, bool for_ever, bool no_bloom)
{
    static const world_step add_one = {"add one", world_add_one, true};
    const uint64_t step = stride(1);
    uint64_t calls = 0;
    lab here;

    lab_begin(&here, seed);
    here.memory_fault = true;
    here.world.options.no_bloom = no_bloom;
    for (size_t i = 0; i < world_workload_count; i++) {
        const bool many = world_workload[i].call == world_add_some;
        const world_step *taken = many ? &add_one : &world_workload[i];
        uint64_t n = 1;
        here.step = taken->name;
        for (; call_without_memory(&here, taken, n, for_ever); n += step, calls++) {
        }
        if (many) {
            REQUIRE(&here, world_add_some(&here.world) == NPHD_OK);
        }
        check_memory(&here);
        if (here.world.sharded == NULL || i % EXAMINE_EVERY != 0) {
            continue;
        }
        here.step = "examine";
        for (n = 1; read_without_memory(&here, examine, n, for_ever); n += step, calls++) {
        }
        here.step = "examine a reader";
        for (n = 1; read_without_memory(&here, examine_reader, n, for_ever); n += step, calls++) {
        }
        check_memory(&here);
    }
    check_disk(&here);
    check_reopened(&here);
    lab_end(&here);
    return calls;
}

static void test_memory_fails(void **state)
{
    const uint64_t seed = *(uint64_t *)*state;
    uint64_t calls = run_without_memory(seed, false, false);

    calls += run_without_memory(seed + 1, true, false);
    calls += run_without_memory(seed + 2, false, true);
    print_message("seed %llu: %llu calls with failing memory\n", (unsigned long long)seed,
                  (unsigned long long)calls);
    assert_true(calls > (stride(1) > 1 ? 100 : 2000));
}

int main(void)
{
    uint64_t seed = test_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_storage_fails, &seed),
        cmocka_unit_test_prestate(test_reset_after_unknown_durability, &seed),
        cmocka_unit_test_prestate(test_memory_fails, &seed),
    };

    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    allocator_plain_release();
    return failures;
}
