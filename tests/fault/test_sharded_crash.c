/* A sharded index and power cuts.
 *
 * After every operation that changes the model disk, and after every call, the disks that a power
 * cut may leave are drawn: whatever was not flushed lost, kept or torn, in the weak and in the
 * ordered model. Each is opened by a reader and by a writer and must be, as a whole, the moment of
 * the last acknowledged save or completed rotation or of one that was under way. Some writers go
 * on with it, and of these some lose power again while they recover.
 *
 * The first round is the fixed workload, the others draw their steps. NPHD_TEST_SEED replays a
 * run, NPHD_TEST_STATES is how many distinct disks are wanted, NPHD_TEST_SCALE=small asks for few.
 */
#include "support/allocator_plain.h"
#include "support/io_fault.h"
#include "support/io_memory.h"
#include "support/sharded_oracle.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define DEFAULT_STATES 10000
#define SMALL_STATES 800
#define DRAWN_STEPS 14

static uint64_t wanted_states(void)
{
    const char *states = getenv("NPHD_TEST_STATES");
    const char *scale = getenv("NPHD_TEST_SCALE");

    if (states != NULL) {
        return strtoull(states, NULL, 0);
    }
    return scale != NULL && strcmp(scale, "small") == 0 ? SMALL_STATES : DEFAULT_STATES;
}

/* ---- a set of numbers ---- */

typedef struct number_set {
    uint64_t *items; /* 0: free */
    size_t count;
    size_t room; /* a power of two */
} number_set;

static bool set_add(number_set *set, uint64_t number);

static void set_grow(number_set *set)
{
    number_set grown = {NULL, 0, set->room == 0 ? 1024 : 2 * set->room};

    grown.items = calloc(grown.room, sizeof(*grown.items));
    assert_non_null(grown.items);
    for (size_t i = 0; i < set->room; i++) {
        if (set->items[i] != 0) {
            (void)set_add(&grown, set->items[i]);
        }
    }
    free(set->items);
    *set = grown;
}

static bool set_add(number_set *set, uint64_t number)
{
    size_t at;

    number = number == 0 ? 1 : number;
    if (2 * set->count >= set->room) {
        set_grow(set);
    }
    for (at = number & (set->room - 1); set->items[at] != 0; at = (at + 1) & (set->room - 1)) {
        if (set->items[at] == number) {
            return false;
        }
    }
    set->items[at] = number;
    set->count++;
    return true;
}

/* ---- watching a disk ---- */

typedef struct totals {
    number_set disks;  /* by content */
    number_set cases;  /* with what is legal there */
    uint64_t again;    /* cases met while recovering */
    uint64_t resumed;  /* writers that went on */
    uint64_t verified; /* by nphd_directory_verify */
    uint64_t bad;
    bool quiet;
    test_random random;
} totals;

typedef struct watch {
    sharded_world *world;
    memory_io *disk;
    io_fault fault;
    nphd_io table; /* hands calls on to `fault`, and looks after each that changes the disk */
    totals *sum;
    const char *step;
    bool recovering; /* from a power cut; a third one is not tried */
} watch;

/* The disk whose changes are looked at; NULL: none. Of this thread: a rotation under way in another
 * one is not looked at, it changes the disk whenever it likes. */
static _Thread_local watch *watched;

static void look_at_cuts(watch *of);

static int look_after(int os_error)
{
    if (watched != NULL && os_error == 0) {
        watch *of = watched;
        watched = NULL; /* recovering disks are watched only if they ask for it */
        look_at_cuts(of);
        watched = of;
    }
    return os_error;
}

static int watch_open(void *context, const char *path, int how, nphd_file *out_file)
{
    const io_fault *below = context;
    const int os_error = below->table.open(context, path, how, out_file);

    return how == NPHD_OPEN_CREATE ? look_after(os_error) : os_error;
}

static int watch_write(void *context, nphd_file file, uint64_t offset, const void *buffer,
                       size_t bytes, size_t *out_done)
{
    const io_fault *below = context;

    return look_after(below->table.write(context, file, offset, buffer, bytes, out_done));
}

static int watch_sync(void *context, nphd_file file)
{
    const io_fault *below = context;

    return look_after(below->table.sync(context, file));
}

static int watch_rename(void *context, const char *from, const char *to)
{
    const io_fault *below = context;

    return look_after(below->table.rename(context, from, to));
}

static int watch_remove(void *context, const char *path)
{
    const io_fault *below = context;

    return look_after(below->table.remove(context, path));
}

static int watch_sync_directory(void *context, const char *path)
{
    const io_fault *below = context;

    return look_after(below->table.sync_directory(context, path));
}

static int watch_make_directory(void *context, const char *path)
{
    const io_fault *below = context;

    return look_after(below->table.make_directory(context, path));
}

static void watch_begin(watch *of, sharded_world *world, memory_io *disk, totals *sum)
{
    memset(of, 0, sizeof(*of));
    of->world = world;
    of->disk = disk;
    of->sum = sum;
    of->step = "";
    io_fault_init(&of->fault, memory_io_table(disk));
    of->table = of->fault.table;
    of->table.open = watch_open;
    of->table.write = watch_write;
    of->table.sync = watch_sync;
    of->table.rename = watch_rename;
    of->table.remove = watch_remove;
    of->table.sync_directory = watch_sync_directory;
    of->table.make_directory = watch_make_directory;
}

/* Nothing may be left open. */
static void watch_end(watch *of)
{
    assert_int_equal(of->fault.open_files, 0);
    assert_int_equal(of->fault.maps, 0);
    assert_int_equal(of->fault.repeated_syncs, 0);
    assert_int_equal(memory_io_mistakes(of->disk), 0);
    io_fault_destroy(&of->fault);
}

/* ---- one disk after a power cut ---- */

static bool complain(const totals *sum, const char *what, const nphd_error *err)
{
    if (!sum->quiet) {
        print_error("%s: %s: %s\n", what, nphd_status_name(err->status), err->text);
    }
    return false;
}

static nphd_sharded_options plain_options(const sharded_world *world, memory_io *disk)
{
    nphd_sharded_options options = world->options;

    options.io = memory_io_table(disk);
    options.background_rotation = false;
    return options;
}

/* A reader sees a legal moment and changes nothing. *out ORACLE_NONE: there is no index. */
static bool reader_finds(const watch *of, memory_io *disk, size_t *out)
{
    nphd_sharded_options options = plain_options(of->world, disk);
    const uint64_t before = memory_io_fingerprint(disk);
    nphd_sharded *reader = NULL;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    *out = ORACLE_NONE;
    options.read_only = true;
    status = nphd_sharded_open(WORLD_PATH, &options, &reader, &err);
    if (status == NPHD_NOT_FOUND && sharded_oracle_may_be_absent(&of->world->oracle)) {
        return true;
    }
    if (status != NPHD_OK) {
        return complain(of->sum, "reader", &err);
    }
    *out = sharded_oracle_find(&of->world->oracle, reader);
    nphd_sharded_free(reader);
    if (memory_io_fingerprint(disk) != before) {
        return complain(of->sum, "the reader has changed a file", &err);
    }
    return *out != ORACLE_NONE;
}

/* All files are sound, seen from outside. */
static bool verifies(const watch *of, memory_io *disk, bool may_be_absent)
{
    nphd_directory_report report;
    nphd_error err = NPHD_ERROR_INIT;
    const nphd_status status =
        nphd_directory_verify(WORLD_PATH, memory_io_table(disk), NULL, NULL, &report, &err);

    of->sum->verified++;
    if (status == NPHD_NOT_FOUND && may_be_absent) {
        return true;
    }
    if (status != NPHD_OK || report.damaged_files > 0 || report.unverified_files > 0) {
        return complain(of->sum, "verify", &err);
    }
    return true;
}

/* The writer of `next` adds, removes and saves; then its files have just that. */
static void resume(watch *next)
{
    sharded_world *world = next->world;
    size_t moment = ORACLE_NONE;

    assert_int_equal(world_remove(world), NPHD_OK);
    assert_int_equal(world_add_one(world), NPHD_OK);
    assert_int_equal(world_save(world), NPHD_OK);
    assert_int_equal(world_add_one(world), NPHD_OK);
    assert_int_equal(world_close(world), NPHD_OK);
    assert_true(reader_finds(next, next->disk, &moment));
    next->sum->resumed++;
}

/* A writer sees the same as the reader did, tidies up, and can go on. */
static bool writer_finds(const watch *of, memory_io *disk, size_t moment, bool again)
{
    sharded_world world = *of->world;
    totals *sum = of->sum;
    watch next;
    bool fine;

    watch_begin(&next, &world, disk, sum);
    next.recovering = true;
    next.step = "recovery";
    world.options = plain_options(of->world, disk);
    world.options.io = &next.table;
    world.sharded = NULL;
    sharded_oracle_branch(&of->world->oracle, moment == ORACLE_NONE ? 0 : moment, &world.oracle);
    watched = again ? &next : NULL;
    fine = world_open(&world) == NPHD_OK || complain(sum, "writer", &world.err);
    fine = fine && sharded_oracle_is_at(&world.oracle, world.sharded, world.oracle.now);
    fine = fine && memory_io_count(disk, ".tmp") == 0;
    if (fine && (again || test_random_below(&sum->random, 8) == 0)) {
        resume(&next);
    }
    watched = NULL;
    sharded_world_free(&world);
    fine = fine &&
           (test_random_below(&sum->random, 16) > 0 || verifies(of, disk, moment == ORACLE_NONE));
    watch_end(&next);
    return fine;
}

static void check_disk(watch *of, memory_io *disk, memory_io_mode mode, uint64_t state)
{
    totals *sum = of->sum;
    const bool again = !of->recovering && !sum->quiet && test_random_below(&sum->random, 64) == 0;
    const bool verify = test_random_below(&sum->random, 16) == 0;
    size_t moment;
    bool fine = reader_finds(of, disk, &moment);

    fine = fine && (!verify || verifies(of, disk, moment == ORACLE_NONE));
    fine = fine && writer_finds(of, disk, moment, again);
    if (!fine) {
        sum->bad++;
        if (!sum->quiet) {
            print_error("%s, after %llu operations, %s model, state %llu: wrong\n", of->step,
                        (unsigned long long)memory_io_operations(of->disk),
                        mode == MEMORY_IO_WEAK ? "weak" : "ordered", (unsigned long long)state);
        }
    }
}

/* What is legal now, as a number. */
static uint64_t legal_number(const sharded_oracle *oracle)
{
    test_random mix = {oracle->flight.from * 31 + oracle->flight.to};

    for (size_t i = 0; i < oracle->legal_count; i++) {
        mix.state += test_random_next(&mix) + oracle->legal[i].from;
        mix.state += test_random_next(&mix) + oracle->legal[i].to;
    }
    return test_random_next(&mix);
}

/* The four plain outcomes, and some drawn in each model. */
static void look_at_cuts(watch *of)
{
    const int drawn = of->recovering ? 1 : 3;
    const uint64_t legal = legal_number(&of->world->oracle);

    for (int i = 0; i < 4 + 2 * drawn; i++) {
        const memory_io_mode mode = i < 4 + drawn ? MEMORY_IO_WEAK : MEMORY_IO_ORDERED;
        const uint64_t state = i < 4 ? (uint64_t)i : 4 + (test_random_next(&of->sum->random) >> 8);
        memory_io *disk = memory_io_crash(of->disk, mode, state);
        const uint64_t content = memory_io_fingerprint(disk);
        (void)set_add(&of->sum->disks, content);
        if (set_add(&of->sum->cases, content ^ legal)) {
            of->sum->again += of->recovering ? 1 : 0;
            check_disk(of, disk, mode, state);
        }
        memory_io_destroy(disk);
    }
}

/* ---- rounds ---- */

/* With background rotation the disk changes while nobody stands still; power is then lost between
 * two calls, at whatever the thread is doing. */
static void take_step(watch *of, const world_step *step)
{
    nphd_status status;

    of->step = step->name;
    watched = of->world->options.background_rotation ? NULL : of;
    status = step->call(of->world);
    watched = NULL;
    if (status != NPHD_OK) {
        fail_msg("step %s answers %s: %s", step->name, nphd_status_name(status),
                 of->world->err.text);
    }
    look_at_cuts(of);
}

static const world_step *draw_step(test_random *random)
{
    for (;;) {
        const world_step *step = &world_workload[test_random_below(random, world_workload_count)];
        if (step->drawn || (step->call != world_open && step->call != world_close &&
                            test_random_below(random, 4) == 0)) {
            return step;
        }
    }
}

static void run_round(uint64_t seed, uint64_t number, uint32_t swallow, totals *sum)
{
    memory_io *disk = memory_io_create(seed);
    sharded_world world;
    watch of;

    sharded_world_init(&world, seed, NULL, allocator_plain());
    watch_begin(&of, &world, disk, sum);
    of.fault.swallow = swallow;
    world.options.io = &of.table;
    world.oracle.quiet = sum->quiet;
    world.options.background_rotation = number % 5 == 4;
    world.options.no_bloom = number % 7 == 6;
    if (number == 0) {
        for (size_t i = 0; i < world_workload_count; i++) {
            take_step(&of, &world_workload[i]);
        }
    } else {
        take_step(&of, &world_workload[0]);
        for (int i = 0; i < DRAWN_STEPS; i++) {
            take_step(&of, draw_step(&sum->random));
        }
        take_step(&of, &world_workload[world_workload_count - 1]);
    }
    watch_end(&of);
    sharded_world_free(&world);
    memory_io_destroy(disk);
}

static void totals_free(totals *sum)
{
    free(sum->disks.items);
    free(sum->cases.items);
}

static void test_power_cuts(void **state)
{
    const uint64_t seed = *(uint64_t *)*state;
    const uint64_t wanted = wanted_states();
    uint64_t rounds = 0;
    totals sum;

    memset(&sum, 0, sizeof(sum));
    sum.random.state = seed;
    while (sum.disks.count < wanted && sum.bad == 0) {
        run_round(seed + rounds, rounds, 0, &sum);
        rounds++;
    }
    print_message("seed %llu: %zu different disks after a power cut, %llu after a second one, %llu "
                  "writers went on, %llu directories verified, %llu rounds\n",
                  (unsigned long long)seed, sum.disks.count, (unsigned long long)sum.again,
                  (unsigned long long)sum.resumed, (unsigned long long)sum.verified,
                  (unsigned long long)rounds);
    assert_int_equal(sum.bad, 0);
    assert_true(sum.resumed > 0 && sum.again > 0 && sum.verified > 0);
    totals_free(&sum);
}

/* Does the test look? With flushes left out it must find disks that are wrong. */
static void test_missing_flushes_are_noticed(void **state)
{
    static const uint32_t flushes[] = {IO_FAULT_SYNC, IO_FAULT_SYNC_DIRECTORY};
    const uint64_t seed = *(uint64_t *)*state;

    for (size_t i = 0; i < 2; i++) {
        totals sum;
        memset(&sum, 0, sizeof(sum));
        sum.random.state = seed;
        sum.quiet = true;
        run_round(seed, 0, flushes[i], &sum);
        assert_true(sum.bad > 0);
        totals_free(&sum);
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
