/* Compaction, saves, rotations, filters made anew and snapshots of one directory, each on storage
 * that fails and without memory: request number N for memory, or storage call number N, fails once.
 * The call answers with an error of that kind or does without; all vectors are there before and
 * after, in memory and in what the next opening finds; and the same call succeeds afterwards. */
#include "support/allocator_plain.h"
#include "support/directory_lab.h"

#include <errno.h>
#include <stdlib.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

/* More than a compaction adds at once. */
enum { MANY = 1100 };

static uint64_t step(void)
{
    return getenv("NPHD_TEST_SCALE") != NULL ? 11 : 1;
}

/* A shard all of whose vectors are deleted, a large one with some dead, a small one, one of which
 * nothing is dead, and the active one. */
static void build(dirlab *lab)
{
    nphd_sharded_options options = dirlab_small(lab);

    options.build_breadth = 8;
    lab->allocator.below = allocator_plain();
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 0, 5);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 1000, 1000 + MANY);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 5000, 5010);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 6000, 6010);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 7000, 7010);
    for (uint64_t key = 0; key < 5; key++) {
        dirlab_remove(lab, sharded, key);
    }
    dirlab_remove(lab, sharded, 1500);
    dirlab_upsert(lab, sharded, 1501, 1);
    dirlab_upsert(lab, sharded, 5003, 1);
    dirlab_close(sharded);
}

typedef struct task {
    const char *name;
    nphd_status (*call)(nphd_sharded *sharded, nphd_error *err);
    void (*prepare)(dirlab *lab, nphd_sharded *sharded); /* what it then has to do */
    bool no_bloom;
    bool read_only;
    bool journal;
    bool tables;
    bool whole_shards; /* neighbours are not merged */
    bool no_sharing;   /* files are copied by their bytes */
} task;

/* ---- what is done ---- */

static nphd_status compact(nphd_sharded *sharded, nphd_error *err)
{
    return nphd_sharded_compact(sharded, NULL, NULL, err);
}

static nphd_status save(nphd_sharded *sharded, nphd_error *err)
{
    return nphd_sharded_save(sharded, NULL, err);
}

static nphd_status rebuild(nphd_sharded *sharded, nphd_error *err)
{
    return nphd_sharded_rebuild_bloom(sharded, NULL, err);
}

/* A rotation that failed is tried again by whoever waits for it. */
static nphd_status rotate(nphd_sharded *sharded, nphd_error *err)
{
    const nphd_status status = nphd_sharded_rotate(sharded, err);

    return status != NPHD_OK ? status : nphd_sharded_drain(sharded, UINT64_MAX, err);
}

static nphd_status snapshot(nphd_sharded *sharded, nphd_error *err)
{
    static unsigned number;
    char path[32];

    (void)snprintf(path, sizeof(path), "copy%u", number++);
    return nphd_sharded_snapshot(sharded, path, err);
}

static void prepare_nothing(dirlab *lab, nphd_sharded *sharded)
{
    (void)lab;
    (void)sharded;
}

/* The newest file says which breadths count, although no vector changed. */
static void prepare_breadth(dirlab *lab, nphd_sharded *sharded)
{
    (void)lab;
    OK(nphd_sharded_set_breadth(sharded, 9, 9, NULL));
}

static void prepare_vector(dirlab *lab, nphd_sharded *sharded)
{
    dirlab_add(lab, sharded, 8000, 8001);
}

/* The active shard has vectors no more, and nothing else needs its file. */
static void prepare_empty_head(dirlab *lab, nphd_sharded *sharded)
{
    OK(nphd_sharded_compact(sharded, NULL, NULL, NULL));
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 8000, 8001);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    dirlab_remove(lab, sharded, 8000);
}

/* An empty shard that is there for its record goes with the tombstones of the shards before it. */
static void prepare_empty_record(dirlab *lab, nphd_sharded *sharded)
{
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_remove(lab, sharded, 6003);
    OK(nphd_sharded_save(sharded, NULL, NULL));
}

static const task tasks[] = {
    {.name = "compaction", .call = compact, .prepare = prepare_nothing},
    {.name = "compaction of single shards",
     .call = compact,
     .prepare = prepare_nothing,
     .tables = true,
     .whole_shards = true},
    {.name = "compaction beside an empty record",
     .call = compact,
     .prepare = prepare_empty_record,
     .whole_shards = true},
    {.name = "save", .call = save, .prepare = prepare_vector},
    {.name = "save of breadths", .call = save, .prepare = prepare_breadth},
    {.name = "save of an empty head", .call = save, .prepare = prepare_empty_head},
    {.name = "save without a filter", .call = save, .prepare = prepare_vector, .no_bloom = true},
    {.name = "rotation", .call = rotate, .prepare = prepare_vector, .journal = true},
    {.name = "rotation of the head", .call = rotate, .prepare = prepare_nothing, .journal = true},
    {.name = "commit", .call = nphd_sharded_commit, .prepare = prepare_vector, .journal = true},
    {.name = "filter made anew", .call = rebuild, .prepare = prepare_vector},
    {.name = "snapshot", .call = snapshot, .prepare = prepare_vector},
    {.name = "snapshot by bytes", .call = snapshot, .prepare = prepare_vector, .no_sharing = true},
    {.name = "snapshot of a reader",
     .call = snapshot,
     .prepare = prepare_nothing,
     .read_only = true},
};
enum { TASKS = sizeof(tasks) / sizeof(tasks[0]) };

static int refuse_copy(void *context, const char *from, const char *to)
{
    (void)context;
    (void)from;
    (void)to;
    return EOPNOTSUPP;
}

static nphd_sharded_options options_of(dirlab *lab, const task *what, const nphd_io *io)
{
    nphd_sharded_options options = dirlab_options(lab);

    options.io = io;
    options.no_bloom = what->no_bloom;
    options.read_only = what->read_only;
    options.journal = what->journal;
    options.tables = what->tables;
    options.shard_bytes = what->whole_shards ? 1 : 0;
    return options;
}

/* ---- the sweep ---- */

/* Without searching for each: what there is, by the cursor. */
static void expect_quickly(const dirlab *lab, nphd_sharded *sharded)
{
    nphd_sharded_cursor cursor = nphd_sharded_cursor_begin(sharded);
    uint8_t data[NPHD_MAX_BYTES];
    uint64_t sum = 0;
    size_t count = 0;
    size_t bytes = 0;
    nphd_key key;

    for (size_t i = 0; i < lab->items.count; i++) {
        sum -= lab->items.items[i].key.low * (1 + lab->items.items[i].data[7]);
    }
    while (nphd_sharded_cursor_next(&cursor, &key, data, &bytes, NULL) == NPHD_OK) {
        sum += key.low * (1 + data[7]);
        count++;
    }
    assert_int_equal(count, lab->items.count);
    assert_int_equal(sum, 0);
    assert_int_equal(nphd_sharded_size(sharded), count);
    for (size_t i = 0; i < lab->items.count; i += 97) {
        assert_true(dirlab_has(sharded, lab->items.items[i].key.low));
    }
    assert_false(dirlab_has(sharded, 3) || dirlab_has(sharded, 1500));
}

static bool run_once(dirlab *lab, const task *what, bool of_memory, uint64_t n)
{
    memory_io *disk = memory_io_crash(lab->disk, MEMORY_IO_ORDERED, 1);
    const task reading = {.read_only = true};
    nphd_error err = NPHD_ERROR_INIT;
    uint8_t bits[8];
    io_fault io;

    io_fault_init(&io, memory_io_table(disk));
    io.table.copy = what->no_sharing ? refuse_copy : io.table.copy;
    const nphd_sharded_options options = options_of(lab, what, &io.table);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    what->prepare(lab, sharded);
    if (of_memory) {
        allocator_fault_arm(&lab->allocator, ALLOCATOR_FAULT_ALL, n, false);
    } else {
        io_fault_arm(&io, IO_FAULT_ALL, n, EIO, false);
    }
    const nphd_status status = what->call(sharded, &err);
    const bool failed = of_memory ? lab->allocator.failed > 0 : io.failed > 0;
    allocator_fault_arm(&lab->allocator, ALLOCATOR_FAULT_ALL, 0, false);
    io_fault_disarm(&io);
    if (status != NPHD_OK &&
        (!failed || strlen(err.text) == 0 ||
         (of_memory ? status != NPHD_OUT_OF_MEMORY
                    : status != NPHD_IO && status != NPHD_DURABILITY_UNKNOWN))) {
        fail_msg("%s, fault %llu: %s: %s", what->name, (unsigned long long)n,
                 nphd_status_name(status), err.text);
    }
    expect_quickly(lab, sharded);
    if (what->call(sharded, &err) != NPHD_OK) {
        fail_msg("%s after fault %llu: %s", what->name, (unsigned long long)n, err.text);
    }
    expect_quickly(lab, sharded);
    if (what->call == compact) {
        assert_int_equal(dirlab_stats(sharded).dead, 0);
        assert_int_equal(dirlab_stats(sharded).tombstones, 0);
    }
    nphd_sharded_free(sharded);
    const nphd_sharded_options look = options_of(lab, &reading, &io.table);
    sharded = dirlab_open(lab, &look);
    expect_quickly(lab, sharded);
    nphd_sharded_free(sharded);
    assert_int_equal(io.open_files, 0);
    assert_int_equal(io.maps, 0);
    assert_int_equal(io.repeated_syncs, 0);
    io_fault_destroy(&io);
    memory_io_destroy(disk);
    /* for the next copy of the disk */
    dirlab_drop(&lab->items, nphd_key_u64(8000));
    dirlab_set(&lab->items, nphd_key_u64(6003), dirlab_vector(6003, 0, bits));
    dirlab_forget_log(lab);
    return failed;
}

static void sweep(dirlab *lab, bool of_memory)
{
    build(lab);
    for (size_t i = 0; i < TASKS; i++) {
        bool more = true;
        for (uint64_t n = 1; more; n += step()) {
            more = run_once(lab, &tasks[i], of_memory, n);
        }
    }
    allocator_plain_release();
}

/* An index that becomes empty: its last shard is there for its record until the files say the same
 * without it, and then it goes too. */
static void empty_once(dirlab *lab, uint64_t n, bool of_memory, bool *out_more)
{
    const task what = {.no_bloom = true};
    memory_io *disk = memory_io_crash(lab->disk, MEMORY_IO_ORDERED, 1);
    nphd_error err = NPHD_ERROR_INIT;
    io_fault io;

    io_fault_init(&io, memory_io_table(disk));
    const nphd_sharded_options options = options_of(lab, &what, &io.table);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    for (size_t i = 0; i < lab->items.count; i++) {
        OK(nphd_sharded_remove(sharded, &lab->items.items[i].key, 1, NULL, NULL));
    }
    if (of_memory) {
        allocator_fault_arm(&lab->allocator, ALLOCATOR_FAULT_ALL, n, false);
    } else {
        io_fault_arm(&io, IO_FAULT_ALL, n, EIO, false);
    }
    const nphd_status status = nphd_sharded_compact(sharded, NULL, NULL, &err);
    *out_more = of_memory ? lab->allocator.failed > 0 : io.failed > 0;
    allocator_fault_arm(&lab->allocator, ALLOCATOR_FAULT_ALL, 0, false);
    io_fault_disarm(&io);
    assert_true(status == NPHD_OK || (*out_more && strlen(err.text) > 0));
    assert_int_equal(nphd_sharded_size(sharded), 0);
    OK(nphd_sharded_compact(sharded, NULL, NULL, NULL));
    assert_int_equal(dirlab_stats(sharded).tombstones, 0);
    OK(nphd_sharded_close(sharded, NULL));
    nphd_sharded_free(sharded);
    if (memory_io_count(disk, "shard_") > 0) {
        /* the flush of the head failed, which was told: the shard that it names stays, empty, until
         * the next handle saves */
        assert_true(status != NPHD_OK && strstr(err.text, "/lock: flush") != NULL);
        sharded = dirlab_open(lab, &options);
        assert_int_equal(nphd_sharded_size(sharded), 0);
        OK(nphd_sharded_add(sharded, nphd_key_u64(1), (nphd_vector){(const uint8_t *)"12345678", 8},
                            NULL, NULL));
        OK(nphd_sharded_remove(sharded, &(nphd_key){.low = 1}, 1, NULL, NULL));
        OK(nphd_sharded_close(sharded, NULL));
        nphd_sharded_free(sharded);
    }
    assert_int_equal(memory_io_count(disk, "shard_"), 0);
    assert_int_equal(memory_io_count(disk, "tombstones"), 0);
    assert_int_equal(io.open_files, 0);
    io_fault_destroy(&io);
    memory_io_destroy(disk);
    dirlab_forget_log(lab);
}

static void test_emptying(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_small(lab);

    lab->allocator.below = allocator_plain();
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 0, 5);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 5, 10);
    dirlab_close(sharded);
    for (int of_memory = 0; of_memory < 2; of_memory++) {
        bool more = true;
        for (uint64_t n = 1; more; n += step()) {
            empty_once(lab, n, of_memory != 0, &more);
        }
    }
    allocator_plain_release();
}

static void test_memory(void **state)
{
    sweep(*state, true);
}

static void test_storage(void **state)
{
    sweep(*state, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_emptying),
        DIRLAB_TEST(test_memory),
        DIRLAB_TEST(test_storage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
