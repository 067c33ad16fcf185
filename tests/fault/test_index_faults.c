/* One index under failing storage, failing memory and power cuts.
 *
 * A workload of every call is run again and again, with the N-th storage call or the N-th request
 * for memory failing, N = 1, 2, ... until nothing fails. Where a call fails: its status is one that
 * the header names, the index is as it was before, nothing leaks, no file is synced twice, and the
 * file on disk is the old or the new one. Then the fault is gone and the rest of the workload must
 * succeed. For power cuts the model disk gives the states that a cut may leave.
 * NPHD_TEST_SCALE=small takes every seventh N. */
#include "support/allocator_fault.h"
#include "support/allocator_plain.h"
#include "support/index_model.h"
#include "support/io_fault.h"
#include "support/io_memory.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define PATH "dir/faults.usearch"
#define BATCH 30

static bool is_small(void)
{
    const char *scale = getenv("NPHD_TEST_SCALE");

    return scale != NULL && strcmp(scale, "small") == 0;
}

typedef struct world {
    test_random random;
    memory_io *disk;
    io_fault io;
    allocator_fault allocator;
    nphd_index *index;
    nphd_index *second;
    index_model model;
    index_model saved; /* what the file holds; count 0 and no file before the first save */
    bool has_saved;
    bool memory_fault; /* else a storage fault */
    const char *step;
} world;

/* A step that answers an error has changed nothing. */
typedef nphd_status (*step_call)(world *here);

typedef struct step {
    const char *name;
    step_call call;
} step;

/* ---- the workload ---- */

static nphd_key key_of(uint64_t number)
{
    return nphd_key_u64(number * 3);
}

static void fill_batch(world *here, uint64_t first, nphd_key keys[BATCH],
                       nphd_vector vectors[BATCH], uint8_t rooms[BATCH][NPHD_MAX_BYTES])
{
    for (uint64_t i = 0; i < BATCH; i++) {
        keys[i] = key_of(first + i);
        vectors[i] = index_model_vector(&here->model, &here->random, rooms[i]);
    }
}

static nphd_status step_create(world *here)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;

    options.max_bits = 64;
    options.connectivity = 2;
    options.build_breadth = 8;
    options.search_breadth = 8;
    options.allocator = &here->allocator.table;
    options.io = &here->io.table;
    if (here->index != NULL) { /* the second time */
        return NPHD_OK;
    }
    const nphd_status status = nphd_index_create(&options, &here->index, &err);
    assert_true((status == NPHD_OK) == (here->index != NULL));
    return status;
}

static nphd_status step_add_many(world *here)
{
    nphd_key keys[BATCH];
    nphd_vector vectors[BATCH];
    uint8_t rooms[BATCH][NPHD_MAX_BYTES];
    size_t added = 99;

    fill_batch(here, here->model.count, keys, vectors, rooms);
    const nphd_status status =
        nphd_index_add_many(here->index, keys, vectors, BATCH, NULL, NULL, &added, NULL);
    if (status == NPHD_OK) {
        assert_int_equal(added, index_model_add_many(&here->model, keys, vectors, BATCH, NULL));
    } else {
        assert_int_equal(added, 0);
    }
    return status;
}

static nphd_status step_add_automatic(world *here)
{
    nphd_key keys[BATCH];
    nphd_key given[BATCH];
    nphd_vector vectors[BATCH];
    uint8_t rooms[BATCH][NPHD_MAX_BYTES];
    size_t added = 99;

    fill_batch(here, 0, keys, vectors, rooms);
    const nphd_status status =
        nphd_index_add_many(here->index, NULL, vectors, 5, NULL, given, &added, NULL);
    if (status == NPHD_OK) {
        /* a call that failed may have used numbers up */
        assert_int_equal(added, index_model_add_many(&here->model, given, vectors, 5, NULL));
        assert_int_equal(added, 5);
    } else {
        assert_int_equal(added, 0);
    }
    return status;
}

static nphd_status step_add_one(world *here)
{
    uint8_t room[NPHD_MAX_BYTES];
    const nphd_key key = key_of(7000);
    const nphd_vector vector = index_model_vector(&here->model, &here->random, room);
    bool added = true;
    const nphd_status status = nphd_index_add(here->index, key, vector, &added, NULL);

    if (status == NPHD_OK) {
        assert_int_equal(added, index_model_add_many(&here->model, &key, &vector, 1, NULL));
    } else {
        assert_false(added);
    }
    return status;
}

static nphd_status step_upsert(world *here)
{
    nphd_key keys[BATCH];
    nphd_vector vectors[BATCH];
    uint8_t rooms[BATCH][NPHD_MAX_BYTES];
    nphd_upsert_counts counts = {9, 9, 9};

    fill_batch(here, 10, keys, vectors, rooms);
    keys[1] = here->model.items[0].key; /* one that stays as it is */
    vectors[1].bytes = here->model.items[0].bytes;
    memcpy(rooms[1], here->model.items[0].data, vectors[1].bytes);
    const nphd_status status =
        nphd_index_upsert(here->index, keys, vectors, BATCH, NULL, &counts, NULL);
    if (status == NPHD_OK) {
        const nphd_upsert_counts right = index_model_upsert(&here->model, keys, vectors, BATCH);
        assert_memory_equal(&counts, &right, sizeof(counts));
    } else {
        assert_int_equal(counts.added + counts.replaced + counts.unchanged, 0);
    }
    return status;
}

static nphd_status step_remove(world *here)
{
    nphd_key keys[5];
    size_t removed = 99;

    for (uint64_t i = 0; i < 5; i++) {
        keys[i] = key_of(3 * i);
    }
    const nphd_status status = nphd_index_remove(here->index, keys, 5, &removed, NULL);
    if (status == NPHD_OK) {
        assert_int_equal(removed, index_model_remove(&here->model, keys, 5));
    }
    return status;
}

static nphd_status step_rename(world *here)
{
    const nphd_key from = here->model.items[here->model.count - 1].key;
    const nphd_key to = nphd_key_u64(from.low ^ 1ULL << 40);
    const nphd_status status = nphd_index_rename(here->index, from, to, NULL);

    if (status == NPHD_OK) {
        assert_int_equal(index_model_rename(&here->model, from, to), NPHD_OK);
    }
    return status;
}

static nphd_status step_isolate(world *here)
{
    return nphd_index_isolate(here->index, NULL);
}

static nphd_status step_reserve(world *here)
{
    return nphd_index_reserve(here->index, 3000, NULL);
}

static nphd_status step_search(world *here)
{
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_search_report reports[2];
    nphd_match found[20];
    uint8_t rooms[2][NPHD_MAX_BYTES];
    const nphd_vector queries[2] = {index_model_vector(&here->model, &here->random, rooms[0]),
                                    index_model_vector(&here->model, &here->random, rooms[1])};
    nphd_status status = NPHD_OK;

    for (int mode = NPHD_SEARCH_EXACT; mode <= NPHD_SEARCH_APPROXIMATE && status == NPHD_OK;
         mode++) {
        options.mode = (nphd_search_mode)mode;
        status =
            nphd_index_search_many(here->index, queries, 2, 10, &options, found, reports, NULL);
        assert_true(status == NPHD_OK ? reports[0].count > 0
                                      : reports[0].count == 0 && reports[1].count == 0);
    }
    return status;
}

static nphd_status step_stats(world *here)
{
    nphd_index_stats stats = NPHD_INDEX_STATS_INIT;
    uint64_t edges = 0;
    const nphd_status status = nphd_index_get_stats(here->index, &stats, NULL);

    return status == NPHD_OK ? nphd_index_count_edges(here->index, &edges, NULL) : status;
}

static nphd_status step_copy(world *here)
{
    nphd_index *copy = NULL;
    const nphd_status status = nphd_index_copy(here->index, &copy, NULL);

    assert_true((status == NPHD_OK) == (copy != NULL));
    nphd_index_close(copy);
    return status;
}

static nphd_status step_buffers(world *here)
{
    size_t bytes = 0;
    nphd_index *copy = NULL;
    nphd_status status = nphd_index_save_buffer(here->index, NULL, 0, &bytes, NULL);
    uint8_t *buffer;

    if (status != NPHD_OK) {
        return status;
    }
    buffer = malloc(bytes);
    assert_non_null(buffer);
    status = nphd_index_save_buffer(here->index, buffer, bytes, &bytes, NULL);
    if (status == NPHD_OK) {
        status = nphd_index_copy(here->index, &copy, NULL);
    }
    if (status == NPHD_OK) {
        status = nphd_index_view_buffer(copy, buffer, bytes, NULL, NULL);
    }
    if (status == NPHD_OK) {
        status = nphd_index_load_buffer(copy, buffer, bytes, NULL, NULL);
    }
    nphd_index_close(copy);
    free(buffer);
    return status;
}

/* ---- files ---- */

static nphd_status step_save(world *here)
{
    size_t old_bytes = 0;
    size_t new_bytes = 0;
    uint8_t *old_file = memory_io_get(here->disk, PATH, &old_bytes);
    nphd_error err = NPHD_ERROR_INIT;
    const nphd_status status = nphd_index_save(here->index, PATH, NULL, &err);
    uint8_t *new_file = memory_io_get(here->disk, PATH, &new_bytes);

    assert_true((status == NPHD_OK) == (err.text[0] == '\0'));
    if (status == NPHD_OK || status == NPHD_DURABILITY_UNKNOWN) {
        if (here->has_saved) {
            index_model_free(&here->saved);
        }
        index_model_copy(&here->saved, &here->model);
        here->saved.dirty = 0;
        here->has_saved = true;
        assert_non_null(new_file);
        if (status == NPHD_OK) {
            here->model.dirty = 0;
        }
    } else {
        assert_true((old_file == NULL) == (new_file == NULL));
        assert_int_equal(old_bytes, new_bytes);
        if (old_file != NULL) {
            assert_memory_equal(old_file, new_file, old_bytes);
        }
        /* the temporary file is gone, unless removing it fails as well */
        if (here->memory_fault || (!here->io.for_ever && (here->io.kinds & IO_FAULT_REMOVE) == 0)) {
            assert_int_equal(memory_io_count(here->disk, ".tmp-"), 0);
        }
    }
    free(old_file);
    free(new_file);
    return status;
}

static nphd_open_options open_options(world *here)
{
    nphd_open_options options = NPHD_OPEN_OPTIONS_INIT;

    options.io = &here->io.table;
    options.allocator = &here->allocator.table;
    return options;
}

static nphd_status step_view(world *here)
{
    nphd_open_options options = open_options(here);
    nphd_index *view = NULL;
    nphd_index *copy = NULL;
    nphd_status status = nphd_index_restore(PATH, true, &options, &view, NULL);

    assert_true((status == NPHD_OK) == (view != NULL));
    if (status == NPHD_OK) {
        nphd_index *own = here->index;
        here->index = view;
        status = step_search(here);
        here->index = own;
    }
    if (status == NPHD_OK) {
        status = nphd_index_copy(view, &copy, NULL);
        nphd_index_close(copy);
    }
    nphd_index_close(view);
    return status;
}

/* Loads and views into an index that has other content, which it keeps when that fails. */
static nphd_status step_load(world *here)
{
    nphd_open_options options = open_options(here);
    uint8_t data[1] = {1};
    const nphd_vector vector = {data, 1};
    const nphd_key key = nphd_key_u64(424242);
    nphd_status status;
    bool there = false;

    if (here->second == NULL) {
        nphd_index_options create = NPHD_INDEX_OPTIONS_INIT;
        create.allocator = &here->allocator.table;
        create.io = &here->io.table;
        status = nphd_index_create(&create, &here->second, NULL);
        if (status == NPHD_OK) {
            status = nphd_index_add(here->second, key, vector, NULL, NULL);
        }
        if (status != NPHD_OK) {
            nphd_index_close(here->second);
            here->second = NULL;
            return status;
        }
    }
    options.verify = true;
    status = nphd_index_view(here->second, PATH, &options, NULL);
    if (status == NPHD_OK) {
        status = nphd_index_reset(here->second, NULL);
        if (status == NPHD_OK) {
            status = nphd_index_add(here->second, key, vector, NULL, NULL);
        }
        if (status != NPHD_OK) { /* what it holds now depends on where it failed */
            nphd_index_close(here->second);
            here->second = NULL;
            return status;
        }
    }
    if (status == NPHD_OK) {
        status = nphd_index_load(here->second, PATH, &options, NULL);
    }
    if (status != NPHD_OK) {
        assert_int_equal(nphd_index_size(here->second), 1);
        assert_int_equal(nphd_index_contains(here->second, key, &there, NULL), NPHD_OK);
        assert_true(there);
        return status;
    }
    assert_int_equal(nphd_index_size(here->second), here->saved.count);
    nphd_index_close(here->second);
    here->second = NULL;
    return NPHD_OK;
}

static nphd_status step_examine(world *here)
{
    nphd_metadata metadata = NPHD_METADATA_INIT;
    nphd_status status = nphd_file_metadata(PATH, &here->io.table, &metadata, NULL);

    if (status == NPHD_OK) {
        assert_int_equal(metadata.present, here->saved.count);
        status = nphd_file_verify(PATH, &here->io.table, NULL, NULL, NULL, NULL);
    }
    return status;
}

static const step workload[] = {
    {"create", step_create},      {"add one", step_add_one},   {"add many", step_add_many},
    {"search", step_search},      {"save", step_save},         {"view", step_view},
    {"load", step_load},          {"examine", step_examine},   {"upsert", step_upsert},
    {"remove", step_remove},      {"rename", step_rename},     {"isolate", step_isolate},
    {"save again", step_save},    {"copy", step_copy},         {"buffers", step_buffers},
    {"add again", step_add_many}, {"reserve", step_reserve},   {"automatic", step_add_automatic},
    {"stats", step_stats},        {"save a third", step_save}, {"load again", step_load}};

/* ---- one run ---- */

static void world_init(world *here, uint64_t seed)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;

    memset(here, 0, sizeof(*here));
    here->random.state = seed;
    here->disk = memory_io_create(seed);
    io_fault_init(&here->io, memory_io_table(here->disk));
    allocator_fault_init(&here->allocator);
    here->allocator.below = allocator_plain();
    options.max_bits = 64;
    index_model_init(&here->model, &options);
    here->model.loose = true; /* a failed add leaves free slots */
}

static void world_free(world *here)
{
    nphd_index_close(here->index);
    nphd_index_close(here->second);
    index_model_free(&here->model);
    if (here->has_saved) {
        index_model_free(&here->saved);
    }
    assert_int_equal(here->io.open_files, 0);
    assert_int_equal(here->io.maps, 0);
    assert_int_equal(here->io.repeated_syncs, 0);
    assert_int_equal(memory_io_mistakes(here->disk), 0);
    assert_true(allocator_fault_is_clean(&here->allocator));
    allocator_fault_destroy(&here->allocator);
    io_fault_destroy(&here->io);
    memory_io_destroy(here->disk);
}

static void disarm(world *here)
{
    io_fault_disarm(&here->io);
    allocator_fault_arm(&here->allocator, ALLOCATOR_FAULT_ALL, 0, false);
}

static void check_status(const world *here, nphd_status status)
{
    bool known = status == NPHD_OUT_OF_MEMORY;

    if (!here->memory_fault) {
        known = status == NPHD_IO || status == NPHD_NO_SPACE || status == NPHD_DURABILITY_UNKNOWN;
    }
    if (!known) {
        fail_msg("step %s answers %s", here->step, nphd_status_name(status));
    }
}

/* The index is what the model says, and so is the file. */
static void check_state(world *here)
{
    nphd_open_options options = open_options(here);
    nphd_index *file = NULL;

    if (here->index != NULL) {
        assert_int_equal(nphd_index_dirty(here->index), here->model.dirty);
        assert_true(index_model_matches(&here->model, here->index, &here->random));
    }
    const nphd_status status = nphd_index_restore(PATH, false, &options, &file, NULL);
    assert_int_equal(status, here->has_saved ? NPHD_OK : NPHD_NOT_FOUND);
    if (here->has_saved) {
        assert_true(index_model_matches(&here->saved, file, &here->random));
        nphd_index_close(file);
    }
}

/* Runs the workload with an armed fault; the first step that fails ends the fault and is repeated.
 * Returns how many calls were made to fail. `may_fail` false: the library must hide the fault. */
static uint64_t run_workload(world *here, bool may_fail)
{
    uint64_t failed = 0;
    bool armed = true;

    for (size_t i = 0; i < sizeof(workload) / sizeof(workload[0]); i++) {
        here->step = workload[i].name;
        nphd_status status = workload[i].call(here);
        if (status != NPHD_OK) {
            assert_true(armed);
            if (!may_fail) {
                fail_msg("step %s answers %s", here->step, nphd_status_name(status));
            }
            check_status(here, status);
            armed = false;
            failed = here->memory_fault ? here->allocator.failed : here->io.failed;
            assert_true(failed > 0);
            disarm(here);
            check_state(here);
            status = workload[i].call(here);
            assert_int_equal(status, NPHD_OK);
        }
    }
    if (armed) {
        failed = here->memory_fault ? here->allocator.failed : here->io.failed;
        disarm(here);
    }
    check_state(here);
    return failed;
}

/* ---- storage ---- */

static void sweep_storage(uint64_t seed, uint32_t kinds, int os_error, bool for_ever, bool may_fail)
{
    uint64_t failed = 1;

    for (uint64_t n = 1; failed > 0; n += is_small() ? 7 : 1) {
        world here;
        world_init(&here, seed);
        io_fault_arm(&here.io, kinds, n, os_error, for_ever);
        failed = run_workload(&here, may_fail);
        world_free(&here);
    }
}

static void test_storage_fails(void **state)
{
    static const int errors[] = {EIO, ENOSPC, EDQUOT};
    const uint64_t seed = *(uint64_t *)*state;

    for (size_t i = 0; i < 3; i++) {
        sweep_storage(seed, IO_FAULT_ALL, errors[i], false, true);
        sweep_storage(seed, IO_FAULT_ALL, errors[i], true, true);
    }
}

/* Signals are invisible, but for the calls whose first answer counts. */
static void test_storage_is_interrupted(void **state)
{
    const uint64_t seed = *(uint64_t *)*state;
    const uint32_t final = IO_FAULT_SYNC | IO_FAULT_CLOSE | IO_FAULT_SYNC_DIRECTORY;

    sweep_storage(seed, IO_FAULT_ALL & ~final, EINTR, false, false);
    sweep_storage(seed, final, EINTR, false, true);
    sweep_storage(seed, IO_FAULT_ALL, EINTR, true, true);
}

static void test_storage_moves_less(void **state)
{
    const uint64_t seed = *(uint64_t *)*state;

    sweep_storage(seed, IO_FAULT_READ | IO_FAULT_WRITE, IO_FAULT_SHORT, false, false);
    sweep_storage(seed, IO_FAULT_READ | IO_FAULT_WRITE, IO_FAULT_SHORT, true, false);
}

static void test_storage_cannot_tell(void **state)
{
    const uint64_t seed = *(uint64_t *)*state;

    sweep_storage(seed, IO_FAULT_ALLOCATE, EOPNOTSUPP, true, false);
    sweep_storage(seed, IO_FAULT_SYNC_DIRECTORY, EINVAL, true, false);
}

/* A full disk: the error comes early, and saving works again once there is room. */
static void test_disk_is_full(void **state)
{
    uint64_t capacity = 0;
    bool saved = false;

    for (; !saved; capacity += is_small() ? 900 : 200) {
        world here;
        world_init(&here, *(uint64_t *)*state);
        assert_int_equal(step_create(&here), NPHD_OK);
        assert_int_equal(step_add_many(&here), NPHD_OK);
        memory_io_set_capacity(here.disk, capacity);
        const nphd_status status = step_save(&here);
        assert_true(status == NPHD_OK || status == NPHD_NO_SPACE);
        saved = status == NPHD_OK;
        memory_io_set_capacity(here.disk, UINT64_MAX);
        check_state(&here);
        assert_int_equal(step_save(&here), NPHD_OK);
        check_state(&here);
        world_free(&here);
    }
    assert_true(capacity > 1000);
}

/* ---- memory ---- */

static void sweep_memory(uint64_t seed, bool for_ever)
{
    uint64_t failed = 1;

    for (uint64_t n = 1; failed > 0; n += is_small() ? 7 : 1) {
        world here;
        world_init(&here, seed);
        here.memory_fault = true;
        allocator_fault_arm(&here.allocator, ALLOCATOR_FAULT_ALL, n, for_ever);
        failed = run_workload(&here, true);
        world_free(&here);
    }
}

static void test_memory_fails(void **state)
{
    sweep_memory(*(uint64_t *)*state, false);
    sweep_memory(*(uint64_t *)*state, true);
}

/* After every add that failed, however early, the index can be saved, opened and used. Returns
 * whether memory was refused at all. */
static bool save_after_failed_add(uint64_t seed, uint64_t n, bool onto_another)
{
    world here;

    world_init(&here, seed);
    here.memory_fault = true;
    assert_int_equal(step_create(&here), NPHD_OK);
    if (onto_another) {
        assert_int_equal(step_add_many(&here), NPHD_OK);
    }
    allocator_fault_arm(&here.allocator, ALLOCATOR_FAULT_ALL, n, true);
    const nphd_status status = step_add_many(&here);
    const bool failed = here.allocator.failed > 0;
    disarm(&here);
    assert_int_equal(status, failed ? NPHD_OUT_OF_MEMORY : NPHD_OK);
    assert_int_equal(step_save(&here), NPHD_OK);
    check_state(&here);
    assert_int_equal(step_examine(&here), NPHD_OK);
    assert_int_equal(nphd_index_load(here.index, PATH, NULL, NULL), NPHD_OK);
    assert_int_equal(step_add_many(&here), NPHD_OK);
    check_state(&here);
    world_free(&here);
    return failed;
}

static void test_saving_after_a_failed_add(void **state)
{
    for (int onto_another = 0; onto_another < 2; onto_another++) {
        bool failed = true;
        for (uint64_t n = 1; failed; n++) {
            failed = save_after_failed_add(*(uint64_t *)*state + n, n, onto_another == 1);
        }
    }
}

/* Where few addresses are to be had, the index gets full, says so and stays as it is. */
static void test_addresses_run_out(void **state)
{
    world here;
    nphd_status status = NPHD_OK;
    size_t batches = 0;

    world_init(&here, *(uint64_t *)*state);
    here.allocator.reserve_limit_bytes = 65536;
    assert_int_equal(step_create(&here), NPHD_OK);
    while (status == NPHD_OK) {
        status = step_add_many(&here);
        batches++;
    }
    assert_int_equal(status, NPHD_OUT_OF_MEMORY);
    assert_true(batches > 10);
    check_state(&here);
    assert_int_equal(step_remove(&here), NPHD_OK); /* which makes room again */
    assert_int_equal(step_add_one(&here), NPHD_OK);
    assert_int_equal(step_save(&here), NPHD_OK);
    check_state(&here);
    world_free(&here);
}

/* ---- power cuts ---- */

typedef struct cut_count {
    uint64_t states;
    uint64_t bad;
    bool quiet;
} cut_count;

/* Is the file on this disk that of the model? `model` NULL: is it absent? */
static bool disk_holds(memory_io *disk, const index_model *model, test_random *random)
{
    nphd_open_options options = NPHD_OPEN_OPTIONS_INIT;
    nphd_index *file = NULL;
    bool same = false;

    options.io = memory_io_table(disk);
    const nphd_status status = nphd_index_restore(PATH, false, &options, &file, NULL);
    if (status == NPHD_OK && model != NULL) {
        index_model expected;
        index_model_copy(&expected, model);
        expected.dirty = 0;
        expected.quiet = true;
        same = index_model_glances(&expected, file, random);
        index_model_free(&expected);
    }
    nphd_index_close(file);
    return model == NULL ? status == NPHD_NOT_FOUND : same;
}

/* What may be there after a cut at this moment, in every state of both models. */
static void check_crash_states(world *here, const index_model *before, const index_model *after,
                               bool acknowledged, cut_count *counts)
{
    for (int mode = MEMORY_IO_WEAK; mode <= MEMORY_IO_ORDERED; mode++) {
        for (uint64_t state = 0; state < 12; state++) {
            memory_io *disk = memory_io_crash(here->disk, (memory_io_mode)mode, state);
            const bool is_new = disk_holds(disk, after, &here->random);
            const bool is_old = !is_new && disk_holds(disk, before, &here->random);
            counts->states++;
            if (!is_new && (acknowledged || !is_old)) {
                counts->bad++;
                if (!counts->quiet) {
                    print_error("cut after %llu operations, state %llu: neither old nor new, or an "
                                "acknowledged save is lost\n",
                                (unsigned long long)memory_io_operations(here->disk),
                                (unsigned long long)state);
                }
            }
            memory_io_destroy(disk);
        }
    }
}

/* Saves twice, with the power cut after every number of operations of the second save (or of the
 * first, without a file before). */
static void sweep_cuts(uint64_t seed, bool has_file, uint32_t swallow, cut_count *counts)
{
    nphd_batch_options over = NPHD_BATCH_OPTIONS_INIT;
    bool cut = true;

    over.overwrite = true;
    for (uint64_t operations = 0; cut; operations++) {
        world here;
        index_model before;
        world_init(&here, seed);
        here.io.swallow = swallow;
        assert_int_equal(step_create(&here), NPHD_OK);
        assert_int_equal(step_add_many(&here), NPHD_OK);
        if (has_file) {
            /* wholly on disk, whatever is swallowed later */
            size_t bytes = 0;
            assert_int_equal(step_save(&here), NPHD_OK);
            uint8_t *file = memory_io_get(here.disk, PATH, &bytes);
            assert_non_null(file);
            memory_io_put(here.disk, PATH, file, bytes);
            free(file);
        }
        index_model_copy(&before, &here.model);
        assert_int_equal(step_upsert(&here), NPHD_OK);
        assert_int_equal(step_remove(&here), NPHD_OK);
        memory_io_cut_after(here.disk, operations);
        const nphd_status status = nphd_index_save(here.index, PATH, NULL, NULL);
        cut = memory_io_is_cut(here.disk);
        assert_true(cut || status == NPHD_OK);
        check_crash_states(&here, has_file ? &before : NULL, &here.model, status == NPHD_OK,
                           counts);
        /* the machine comes back, and the next save is as good as any; where flushes were left out
         * it may meet a file that it never wrote */
        memory_io_power_off(here.disk, MEMORY_IO_WEAK, operations);
        assert_int_equal(nphd_index_save(here.index, PATH, swallow != 0 ? &over : NULL, NULL),
                         NPHD_OK);
        assert_true(disk_holds(here.disk, &here.model, &here.random));
        index_model_free(&before);
        world_free(&here);
    }
}

static void test_power_cuts(void **state)
{
    cut_count counts = {0, 0, false};

    sweep_cuts(*(uint64_t *)*state, false, 0, &counts);
    sweep_cuts(*(uint64_t *)*state, true, 0, &counts);
    print_message("%llu crash states\n", (unsigned long long)counts.states);
    assert_true(counts.states > 200);
    assert_int_equal(counts.bad, 0);
}

/* Does the test look? With a flush left out it must find states that are wrong. */
static void test_missing_flushes_are_noticed(void **state)
{
    cut_count counts = {0, 0, true};

    sweep_cuts(*(uint64_t *)*state, true, IO_FAULT_SYNC, &counts);
    assert_true(counts.bad > 0);
    counts.bad = 0;
    sweep_cuts(*(uint64_t *)*state, true, IO_FAULT_SYNC_DIRECTORY, &counts);
    assert_true(counts.bad > 0);
}

int main(void)
{
    uint64_t seed = test_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_storage_fails, &seed),
        cmocka_unit_test_prestate(test_storage_is_interrupted, &seed),
        cmocka_unit_test_prestate(test_storage_moves_less, &seed),
        cmocka_unit_test_prestate(test_storage_cannot_tell, &seed),
        cmocka_unit_test_prestate(test_disk_is_full, &seed),
        cmocka_unit_test_prestate(test_memory_fails, &seed),
        cmocka_unit_test_prestate(test_saving_after_a_failed_add, &seed),
        cmocka_unit_test_prestate(test_addresses_run_out, &seed),
        cmocka_unit_test_prestate(test_power_cuts, &seed),
        cmocka_unit_test_prestate(test_missing_flushes_are_noticed, &seed),
    };

    const int failures = cmocka_run_group_tests(tests, NULL, NULL);
    allocator_plain_release();
    return failures;
}
