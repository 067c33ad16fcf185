#include "commit_scene.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

uint64_t commit_wanted_states(void)
{
    const char *states = getenv("NPHD_TEST_STATES");
    const char *scale = getenv("NPHD_TEST_SCALE");

    if (states != NULL) {
        return strtoull(states, NULL, 0);
    }
    return scale != NULL && strcmp(scale, "small") == 0 ? COMMIT_SMALL_STATES
                                                        : COMMIT_DEFAULT_STATES;
}

/* ---- cases seen ---- */

void commit_totals_begin(commit_totals *sum, uint64_t seed, size_t room)
{
    memset(sum, 0, sizeof(*sum));
    sum->random.state = seed;
    sum->seen_room = room;
    sum->seen = calloc(room, sizeof(*sum->seen));
    assert_non_null(sum->seen);
}

void commit_totals_end(commit_totals *sum)
{
    free(sum->seen);
}

/* Is it new? A full table counts nothing more, and the run ends. */
static bool note_case(commit_totals *sum, uint64_t number)
{
    size_t at;

    number = number == 0 ? 1 : number;
    for (at = number & (sum->seen_room - 1); sum->seen[at] != 0;
         at = (at + 1) & (sum->seen_room - 1)) {
        if (sum->seen[at] == number) {
            return false;
        }
    }
    if (2 * sum->seen_count >= sum->seen_room) {
        return false;
    }
    sum->seen[at] = number;
    sum->seen_count++;
    return true;
}

/* ---- steps beside those of every world ---- */

static nphd_status step_commit(sharded_world *here)
{
    const oracle_range range = {here->oracle.now, here->oracle.now, false};

    here->oracle.flight = range;
    const nphd_status status = nphd_sharded_commit(here->sharded, &here->err);
    sharded_oracle_settle(&here->oracle, 0);
    sharded_oracle_allow(&here->oracle, range, status == NPHD_OK);
    return status;
}

/* The process ends without a word, and another one opens what it left. */
static nphd_status step_abandon(sharded_world *here)
{
    sharded_oracle found;
    nphd_status status;
    size_t moment;

    nphd_sharded_free(here->sharded);
    here->sharded = NULL;
    status = world_open(here);
    if (status != NPHD_OK) {
        return status;
    }
    moment = sharded_oracle_find(&here->oracle, here->sharded);
    assert_true(moment != ORACLE_NONE);
    sharded_oracle_branch(&here->oracle, moment, &found);
    sharded_oracle_free(&here->oracle);
    here->oracle = found;
    return NPHD_OK;
}

static world_call call_named(const char *name)
{
    for (size_t i = 0; i < world_workload_count; i++) {
        if (strcmp(world_workload[i].name, name) == 0) {
            return world_workload[i].call;
        }
    }
    fail_msg("no step %s", name);
    return NULL;
}

/* ---- a disk after a power cut ---- */

static bool complain(const commit_totals *sum, const char *what, const nphd_error *err)
{
    if (!sum->quiet) {
        print_error("%s: %s: %s\n", what, nphd_status_name(err->status), err->text);
    }
    return false;
}

static nphd_sharded_options plain_options(const sharded_world *world, const nphd_io *io)
{
    nphd_sharded_options options = world->options;

    options.io = io;
    options.background_rotation = false;
    return options;
}

static bool reader_finds(const commit_scene *of, memory_io *disk, size_t *out)
{
    nphd_sharded_options options = plain_options(of->world, memory_io_table(disk));
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

static bool verifies(const commit_scene *of, memory_io *disk, bool may_be_absent)
{
    nphd_directory_report report;
    nphd_error err = NPHD_ERROR_INIT;
    const nphd_status status =
        nphd_directory_verify(WORLD_PATH, memory_io_table(disk), NULL, NULL, &report, &err);

    return status == NPHD_OK || (status == NPHD_NOT_FOUND && may_be_absent) ||
           complain(of->sum, "verify", &err);
}

/* Commits, goes away without closing, and the files have just that. */
static bool resume(commit_scene *next)
{
    sharded_world *world = next->world;
    size_t moment = ORACLE_NONE;

    assert_int_equal(world_remove(world), NPHD_OK);
    assert_int_equal(world_add_one(world), NPHD_OK);
    assert_int_equal(step_commit(world), NPHD_OK);
    assert_int_equal(world_add_one(world), NPHD_OK);
    assert_int_equal(step_commit(world), NPHD_OK);
    nphd_sharded_free(world->sharded);
    world->sharded = NULL;
    next->sum->resumed++;
    return reader_finds(next, next->watch.disk, &moment);
}

/* Some writers have no journal themselves, and must read it all the same. */
static bool writer_finds(const commit_scene *of, memory_io *disk, size_t moment, bool again)
{
    sharded_world world = *of->world;
    commit_totals *sum = of->sum;
    commit_scene next = {.world = &world, .sum = sum, .step = "recovery", .recovering = true};
    bool fine;

    commit_watch_begin(&next.watch, disk, commit_look, &next);
    world.options = plain_options(of->world, &next.watch.table);
    world.options.journal = test_random_below(&sum->random, 4) > 0;
    world.options.commit_each_call = false;
    world.sharded = NULL;
    sharded_oracle_branch(&of->world->oracle, moment == ORACLE_NONE ? 0 : moment, &world.oracle);
    next.watch.awake = again;
    fine = world_open(&world) == NPHD_OK || complain(sum, "writer", &world.err);
    fine = fine && sharded_oracle_is_at(&world.oracle, world.sharded, world.oracle.now);
    fine = fine && memory_io_count(disk, ".tmp") == 0;
    if (fine && (again || test_random_below(&sum->random, 4) == 0)) {
        fine = resume(&next);
    }
    next.watch.awake = false;
    sharded_world_free(&world);
    commit_watch_end(&next.watch);
    return fine;
}

static void check_disk(commit_scene *of, memory_io *disk, memory_io_mode mode, uint64_t state)
{
    commit_totals *sum = of->sum;
    const bool again = !of->recovering && !sum->quiet && test_random_below(&sum->random, 64) == 0;
    size_t moment;
    bool fine = reader_finds(of, disk, &moment);

    fine = fine &&
           (test_random_below(&sum->random, 8) > 0 || verifies(of, disk, moment == ORACLE_NONE));
    fine = fine && writer_finds(of, disk, moment, again);
    if (!fine) {
        sum->bad++;
        if (!sum->quiet) {
            print_error("%s, after %llu operations, %s model, state %llu: wrong\n", of->step,
                        (unsigned long long)memory_io_operations(of->watch.disk),
                        mode == MEMORY_IO_WEAK ? "weak" : "ordered", (unsigned long long)state);
        }
    }
}

/* An index that commits in each call has acknowledged what is settled, and is about to acknowledge
 * what is announced. */
static void announce_flight(const commit_scene *of)
{
    sharded_oracle *oracle = &of->world->oracle;

    if (of->world->options.commit_each_call) {
        oracle->flight = (oracle_range){oracle->now, oracle->announced, false};
        sharded_oracle_allow(oracle, (oracle_range){oracle->now, oracle->now, false}, true);
    }
}

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
void commit_look(void *context)
{
    commit_scene *of = context;
    const uint64_t drawn = of->recovering ? 1 : 3;
    uint64_t legal;

    announce_flight(of);
    legal = legal_number(&of->world->oracle);
    for (uint64_t i = 0; i < 4 + 2 * drawn; i++) {
        const memory_io_mode mode = i < 4 + drawn ? MEMORY_IO_WEAK : MEMORY_IO_ORDERED;
        const uint64_t state = i < 4 ? i : 4 + (test_random_next(&of->sum->random) >> 8);
        memory_io *disk = memory_io_crash(of->watch.disk, mode, state);
        if (note_case(of->sum, memory_io_fingerprint(disk) ^ legal)) {
            of->sum->again += of->recovering ? 1 : 0;
            check_disk(of, disk, mode, state);
        }
        memory_io_destroy(disk);
    }
}

/* ---- steps ---- */

nphd_status commit_take_quietly(commit_scene *of, const char *name)
{
    sharded_world *world = of->world;
    nphd_status status;

    of->step = name;
    status = strcmp(name, "commit") == 0    ? step_commit(world)
             : strcmp(name, "abandon") == 0 ? step_abandon(world)
                                            : call_named(name)(world);
    if (status == NPHD_OK && world->options.commit_each_call) {
        const oracle_range range = {world->oracle.now, world->oracle.now, false};
        sharded_oracle_allow(&world->oracle, range, strcmp(name, "drain") != 0);
    }
    return status;
}

nphd_status commit_take_step(commit_scene *of, const char *name)
{
    nphd_status status;

    of->watch.awake = !of->world->options.background_rotation;
    status = commit_take_quietly(of, name);
    of->watch.awake = false;
    return status;
}
