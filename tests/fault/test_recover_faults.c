/* Opening directories that need more than being read, on storage that fails and without memory:
 * those of the reference, what a crash left between two files of a save, leftovers of a compaction,
 * chains of journals, and damage with `salvage`. Each is opened by a writer and by a reader while
 * request number N for memory, or storage call number N, fails, once; the error is of that kind and
 * names the directory, nothing leaks, and without the fault the next opening finds everything. */
#include "formats/journal_format.h"
#include "support/allocator_plain.h"
#include "support/directory_damage.h"

#include <errno.h>
#include <stdio.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

typedef struct scene {
    const char *name;
    void (*build)(dirlab *lab); /* leaves in lab->items what must be found */
    bool salvage;
    bool journal;
} scene;

/* ---- directories of the reference ---- */

static void build_single(dirlab *lab)
{
    dirlab_put_shard(lab, "shard_000.usearch", NULL, 0, 20, 0);
    dirlab_put_bloom(lab, 8);
}

static void build_reference(dirlab *lab)
{
    static const nphd_key dead[] = {{0, 5}, {0, 44}};

    dirlab_put_shard(lab, "shard_000.usearch", NULL, 0, 20, 0);
    dirlab_put_shard(lab, "shard_001.usearch", NULL, 15, 30, 1);
    dirlab_put_shard(lab, "shard_002.usearch", NULL, 40, 50, 0);
    dirlab_put_bloom(lab, 8);
    dirlab_put_tombstones(lab, 8, dead, 2);
    dirlab_drop(&lab->items, dead[0]); /* the other is in the shard that was active */
}

/* More deleted keys, and a longer head, than a block holds. */
static void build_long_array(dirlab *lab)
{
    enum { KEYS = 9000, HEAD = 65530 };
    static uint8_t data[10 + HEAD + 8 * KEYS];
    static const uint8_t magic[] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0};

    build_reference(lab);
    memset(data, ' ', sizeof(data));
    memcpy(data, magic, sizeof(magic));
    data[8] = HEAD & 0xff;
    data[9] = HEAD >> 8;
    (void)snprintf((char *)data + 10, HEAD,
                   "{'descr': '<u8', 'fortran_order': False, 'shape': (%d,), ", KEYS);
    data[10 + strlen((char *)data + 10)] = ' ';
    data[10 + HEAD - 1] = '}';
    for (size_t i = 0; i < KEYS; i++) {
        nphdi_put64(data + 10 + HEAD + 8 * i, i < 2 ? 5 + i : 100 + i);
    }
    dirlab_put(lab, "tombstones.npy", data, sizeof(data));
    dirlab_drop(&lab->items, nphd_key_u64(6));
}

static void build_without_shards(dirlab *lab)
{
    const nphd_key dead = {0, 5};

    dirlab_put_tombstones(lab, 8, &dead, 1);
}

/* ---- directories of ours ---- */

/* Two saves; the tombstones of the first are kept. */
static void build_ours(dirlab *lab)
{
    damage_make_saves(lab, false);
    nphd_sharded *sharded = dirlab_open(lab, NULL);
    dirlab_copy(lab, "tombstones.npy", "tombstones.kept");
    dirlab_remove(lab, sharded, 14);
    dirlab_upsert(lab, sharded, 22, 1);
    dirlab_close(sharded);
}

/* The crash came between the shard and the tombstones. */
static void build_older_tombstones(dirlab *lab)
{
    build_ours(lab);
    dirlab_copy(lab, "tombstones.kept", "tombstones.npy");
}

/* The same, and the file knows of no dead entry in a shard that has one since. */
static void build_first_dead_entry(dirlab *lab)
{
    const nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 10, 20);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 20, 30);
    dirlab_remove(lab, sharded, 2);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    dirlab_copy(lab, "tombstones.npy", "tombstones.kept");
    dirlab_remove(lab, sharded, 13);
    dirlab_close(sharded);
    dirlab_copy(lab, "tombstones.kept", "tombstones.npy");
}

static void build_missing_tombstones(dirlab *lab)
{
    build_ours(lab);
    dirlab_delete(lab, "tombstones.npy");
}

static void build_damaged_tombstones(dirlab *lab)
{
    build_ours(lab);
    dirlab_damage(lab, "tombstones.npy", 130);
}

/* The reference has written the tombstones, and nothing else. */
static void build_foreign_tombstones(dirlab *lab)
{
    static const nphd_key dead[] = {{0, 2}, {0, 13}, {0, 14}, {0, 35}};

    build_ours(lab);
    dirlab_put_tombstones(lab, 8, dead, 4);
}

/* The newest shard is gone, with the last vectors; what it had replaced is back. */
static void build_missing_newest(dirlab *lab)
{
    uint8_t bits[8];

    build_ours(lab);
    dirlab_delete(lab, "shard_003.usearch");
    for (uint64_t key = 30; key < 40; key++) {
        dirlab_drop(&lab->items, nphd_key_u64(key));
    }
    for (uint64_t key = 21; key <= 22; key++) {
        dirlab_set(&lab->items, nphd_key_u64(key), dirlab_vector(key, 0, bits));
    }
}

/* An older one is gone too, and the tombstones are those of the save before. */
static void build_incomplete(dirlab *lab)
{
    build_older_tombstones(lab);
    dirlab_damage(lab, "shard_000.usearch", 0);
    for (uint64_t key = 0; key < 10; key++) {
        dirlab_drop(&lab->items, nphd_key_u64(key));
    }
}

/* A later version wrote one, and two were put aside before. */
static void build_later_version(dirlab *lab)
{
    build_ours(lab);
    damage_version(lab, "shard_000.usearch");
    dirlab_put(lab, "shard_000.usearch.damaged", "old", 3);
    dirlab_put(lab, "shard_000.usearch.damaged.2", "old", 3);
    for (uint64_t key = 0; key < 10; key++) {
        dirlab_drop(&lab->items, nphd_key_u64(key));
    }
}

/* A copy of a shard under a number of its own: no record lists it. */
static void build_stray(dirlab *lab)
{
    build_ours(lab);
    dirlab_copy(lab, "shard_000.usearch", "shard_009.usearch");
}

/* What an interrupted compaction leaves; and a tombstone file that the newest shard does not need.
 */
static void build_leftovers(dirlab *lab)
{
    const nphd_sharded_options options = dirlab_small(lab);

    build_ours(lab);
    dirlab_copy(lab, "shard_000.usearch", "kept");
    nphd_sharded *sharded = dirlab_open(lab, &options);
    OK(nphd_sharded_compact(sharded, NULL, NULL, NULL));
    dirlab_close(sharded);
    assert_false(dirlab_exists(lab, "shard_000.usearch"));
    assert_false(dirlab_exists(lab, "tombstones.npy"));
    dirlab_copy(lab, "kept", "shard_000.usearch");
    dirlab_copy(lab, "tombstones.kept", "tombstones.npy");
    dirlab_put(lab, "shard_001.usearch.tmp-0123456789abcdef", "rest", 4);
}

/* ---- journals ---- */

/* Three times opened and crashed after commits of every kind: a journal each. */
static void build_chain(dirlab *lab)
{
    nphd_sharded_options options = dirlab_small(lab);
    uint8_t bits[8];

    options.journal = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 10, 20);
    dirlab_remove(lab, sharded, 3);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    OK(nphd_sharded_reset(sharded, NULL));
    dirlab_items_free(&lab->items);
    for (uint64_t turn = 0; turn < 3; turn++) {
        dirlab_add(lab, sharded, 100 * turn + 100, 100 * turn + 105);
        const nphd_vector vector = dirlab_vector(turn, 9, bits);
        nphd_key key;
        OK(nphd_sharded_add_many(sharded, NULL, &vector, 1, NULL, &key, NULL, NULL));
        dirlab_set(&lab->items, key, vector);
        OK(nphd_sharded_commit(sharded, NULL));
        dirlab_remove(lab, sharded, 100 * turn + 101);
        dirlab_upsert(lab, sharded, 100 * turn + 102, 1);
        OK(nphd_sharded_commit(sharded, NULL));
        nphd_sharded_free(sharded);
        sharded = dirlab_open(lab, &options);
        dirlab_expect(lab, sharded);
    }
    nphd_sharded_free(sharded);
    assert_int_equal(memory_io_count(lab->disk, DIRLAB_FOLDER "/journal_"), 3);
}

/* A frame of the middle one is damaged: its additions are lost, and what came behind counts. */
static void build_damaged_chain(dirlab *lab)
{
    build_chain(lab);
    dirlab_damage(lab, "journal_00000004", NPHDI_JOURNAL_BLOCK_BYTES + 100);
    dirlab_drop(&lab->items, nphd_key_u64(200));
    dirlab_drop(&lab->items, nphd_key_u64(203));
    dirlab_drop(&lab->items, nphd_key_u64(204));
    for (size_t i = 0; i < lab->items.count; i++) { /* and the automatic one */
        uint8_t bits[8];
        const nphd_vector lost = dirlab_vector(1, 9, bits);
        if (memcmp(lab->items.items[i].data, lost.data, lost.bytes) == 0) {
            dirlab_drop(&lab->items, lab->items.items[i].key);
        }
    }
}

/* The reference has saved the directory since: no journal of ours is applied. */
static void build_journal_apart(dirlab *lab)
{
    build_chain(lab);
    dirlab_items_free(&lab->items);
    dirlab_put_shard(lab, "shard_000.usearch", NULL, 0, 10, 0);
    dirlab_put_shard(lab, "shard_001.usearch", NULL, 10, 20, 0);
    dirlab_delete(lab, "tombstones.npy");
    dirlab_put_bloom(lab, 8);
}

/* ---- the sweep ---- */

static const scene scenes[] = {
    {"one shard of the reference", build_single, false, false},
    {"shards and tombstones of the reference", build_reference, false, false},
    {"an array of more than a block", build_long_array, false, false},
    {"tombstones without shards", build_without_shards, false, false},
    {"tombstones of the reference", build_foreign_tombstones, false, false},
    {"a save of ours", build_ours, false, false},
    {"tombstones of an older save", build_older_tombstones, false, false},
    {"a first dead entry since", build_first_dead_entry, false, false},
    {"missing tombstones", build_missing_tombstones, true, false},
    {"damaged tombstones", build_damaged_tombstones, true, false},
    {"the newest shard is missing", build_missing_newest, true, false},
    {"a damaged shard, older tombstones", build_incomplete, true, false},
    {"a shard of a later version", build_later_version, true, false},
    {"a copy of a shard", build_stray, true, false},
    {"leftovers of a compaction", build_leftovers, false, false},
    {"a chain of journals", build_chain, false, true},
    {"a chain with a damaged frame", build_damaged_chain, true, true},
    {"journals beside shards of the reference", build_journal_apart, false, true},
};
enum { SCENES = sizeof(scenes) / sizeof(scenes[0]) };

static nphd_sharded_options options_of(dirlab *lab, const scene *what, bool read_only,
                                       const nphd_io *io)
{
    nphd_sharded_options options = dirlab_options(lab);

    options.salvage = what->salvage;
    options.journal = what->journal;
    options.read_only = read_only;
    options.io = io;
    return options;
}

static void expect_all(dirlab *lab, const scene *what, bool read_only, const nphd_io *io)
{
    const nphd_sharded_options options = options_of(lab, what, read_only, io);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    dirlab_expect(lab, sharded);
    nphd_sharded_free(sharded);
}

typedef enum fault_kind { OF_MEMORY, OF_STORAGE } fault_kind;

/* One opening with fault number `n`; false: there are fewer calls. */
static bool open_once(dirlab *lab, const scene *what, bool read_only, fault_kind kind, uint64_t n)
{
    memory_io *disk = memory_io_crash(lab->disk, MEMORY_IO_ORDERED, 1);
    nphd_error err = NPHD_ERROR_INIT;
    nphd_sharded *sharded = NULL;
    io_fault io;

    io_fault_init(&io, memory_io_table(disk));
    const nphd_sharded_options options = options_of(lab, what, read_only, &io.table);
    if (kind == OF_MEMORY) {
        allocator_fault_arm(&lab->allocator, ALLOCATOR_FAULT_ALL, n, false);
    } else {
        io_fault_arm(&io, IO_FAULT_ALL, n, EIO, false);
    }
    const nphd_status status = nphd_sharded_open(DIRLAB_FOLDER, &options, &sharded, &err);
    const bool failed = kind == OF_MEMORY ? lab->allocator.failed > 0 : io.failed > 0;
    allocator_fault_arm(&lab->allocator, ALLOCATOR_FAULT_ALL, 0, false);
    io_fault_disarm(&io);
    dirlab_forget_log(lab);
    if (status == NPHD_OK) {
        dirlab_expect(lab, sharded); /* what failed was not needed */
    } else if (!failed || sharded != NULL || strlen(err.text) == 0 ||
               (kind == OF_MEMORY ? status != NPHD_OUT_OF_MEMORY
                                  : (status != NPHD_IO && status != NPHD_DURABILITY_UNKNOWN) ||
                                        strstr(err.text, DIRLAB_FOLDER) == NULL)) {
        fail_msg("%s, %s, fault %llu: %s: %s", what->name, read_only ? "reader" : "writer",
                 (unsigned long long)n, nphd_status_name(status), err.text);
    }
    nphd_sharded_free(sharded);
    assert_int_equal(io.open_files, 0);
    assert_int_equal(io.maps, 0);
    assert_int_equal(io.repeated_syncs, 0);
    assert_int_equal(memory_io_mistakes(disk), 0);
    if (!read_only) {
        expect_all(lab, what, false, &io.table);
        dirlab_forget_log(lab);
    }
    io_fault_destroy(&io);
    memory_io_destroy(disk);
    return failed;
}

/* A file system that cannot flush directories: nobody is the worse for it. */
static void expect_without_flushes(dirlab *lab, const scene *what)
{
    memory_io *disk = memory_io_crash(lab->disk, MEMORY_IO_ORDERED, 1);
    io_fault io;

    io_fault_init(&io, memory_io_table(disk));
    io_fault_arm(&io, IO_FAULT_SYNC_DIRECTORY, 1, EINVAL, true);
    expect_all(lab, what, false, &io.table);
    assert_true(io.failed > 0);
    dirlab_forget_log(lab);
    io_fault_destroy(&io);
    memory_io_destroy(disk);
}

static void sweep(dirlab *lab, fault_kind kind)
{
    const uint64_t step = getenv("NPHD_TEST_SCALE") != NULL ? 7 : 1;

    lab->allocator.below = allocator_plain();
    for (size_t i = 0; i < SCENES; i++) {
        memory_io *empty = memory_io_crash(lab->disk, MEMORY_IO_ORDERED, 1);
        scenes[i].build(lab);
        expect_without_flushes(lab, &scenes[i]);
        for (int read_only = 0; read_only < (lab->items.count > 0 ? 2 : 1); read_only++) {
            bool more = true;
            for (uint64_t n = 1; more; n += step) {
                more = open_once(lab, &scenes[i], read_only != 0, kind, n);
            }
        }
        /* the next scene begins with an empty disk */
        dirlab_items_free(&lab->items);
        io_fault_destroy(&lab->fault);
        memory_io_destroy(lab->disk);
        lab->disk = empty;
        io_fault_init(&lab->fault, memory_io_table(lab->disk));
    }
    allocator_plain_release();
}

static void test_memory(void **state)
{
    sweep(*state, OF_MEMORY);
}

static void test_storage(void **state)
{
    sweep(*state, OF_STORAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_memory),
        DIRLAB_TEST(test_storage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
