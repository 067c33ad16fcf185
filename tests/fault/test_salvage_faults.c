/* Looking at damaged directories and salvaging them, on storage that fails and without memory: one
 * of a multi index, with more vectors than are entered at once, damaged blocks and a journal; one
 * whose journals are torn in the middle of their chain; one that cannot be opened at all. Each call
 * answers as without the fault or with an error of its kind, and changes no file. */
#include "formats/journal_format.h"
#include "platform/platform.h"
#include "support/allocator_plain.h"
#include "support/directory_damage.h"

#include <errno.h>

#define OK(call) assert_int_equal((call), NPHD_OK)
#define NEW "new"

/* Calls without an allocator of their own get this one, in place of the library's. */
static allocator_fault memory;

const nphd_allocator *nphdi_allocator_system(void)
{
    return &memory.table;
}

/* ---- the directories ---- */

/* Some keys twice, in shards of their own, and a journal. */
static void build_multi(dirlab *lab)
{
    enum { KEYS = 1100, AGAIN = 50 };
    nphd_sharded_options options = dirlab_small(lab);
    static uint8_t bits[KEYS][8];
    static nphd_vector vectors[KEYS];
    static nphd_key keys[KEYS];

    options.multi = 2;
    options.build_breadth = 8;
    options.journal = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    for (int turn = 0; turn < 2; turn++) {
        for (size_t i = 0; i < KEYS; i++) {
            keys[i] = nphd_key_u64(i);
            vectors[i] = dirlab_vector(i, (uint8_t)turn, bits[i]);
        }
        OK(nphd_sharded_add_many(sharded, keys, vectors, turn == 0 ? KEYS : AGAIN, NULL, NULL, NULL,
                                 NULL));
        OK(nphd_sharded_rotate(sharded, NULL));
    }
    OK(nphd_sharded_save(sharded, NULL, NULL));
    OK(nphd_sharded_add_many(sharded, keys, vectors, 3, NULL, NULL, NULL, NULL));
    OK(nphd_sharded_commit(sharded, NULL));
    nphd_sharded_free(sharded);
    dirlab_damage(lab, "shard_000.usearch", 65600); /* in the second block */
}

/* Three journals; of the middle one the first frame and the head of the second are damaged. */
static void build_torn_chain(dirlab *lab)
{
    nphd_sharded_options options = dirlab_small(lab);

    options.journal = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    for (uint64_t turn = 0; turn < 3; turn++) {
        for (uint64_t commit = 0; commit < 4; commit++) {
            dirlab_add(lab, sharded, 100 * turn + 10 * commit + 100,
                       100 * turn + 10 * commit + 105);
            OK(nphd_sharded_commit(sharded, NULL));
        }
        nphd_sharded_free(sharded);
        sharded = dirlab_open(lab, &options);
    }
    nphd_sharded_free(sharded);
    dirlab_damage(lab, "journal_00000003", NPHDI_JOURNAL_BLOCK_BYTES + 100);
    dirlab_damage(lab, "journal_00000003", 2 * NPHDI_JOURNAL_BLOCK_BYTES + 1);
}

/* The deletions are nowhere to be had. */
static void build_unopenable(dirlab *lab)
{
    damage_make_saves(lab, true);
    damage_resize(lab, "shard_003.usearch", NPHDI_SECTION_TOMBSTONES, -3);
    dirlab_delete(lab, "tombstones.npy");
}

/* ---- the calls ---- */

typedef struct answers {
    nphd_status verified;
    nphd_status looked;
    nphd_status salvaged;
    nphd_directory_report directory;
    nphd_salvage_report salvage;
    uint64_t size;
} answers;

static void count(void *context, const char *text)
{
    assert_true(strlen(text) > 0);
    (*(uint64_t *)context)++;
}

static void silent(void *context, nphd_log_level level, const char *text)
{
    (void)context;
    (void)level;
    (void)text;
}

static void call_all(const nphd_io *io, answers *out)
{
    nphd_metadata metadata = NPHD_METADATA_INIT;
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    nphd_sharded *sharded = NULL;
    nphd_error err = NPHD_ERROR_INIT;
    uint64_t told = 0;

    memset(out, 0, sizeof(*out));
    out->verified = nphd_directory_verify(DIRLAB_FOLDER, io, count, &told, &out->directory, &err);
    assert_true(out->verified == NPHD_OK || strlen(err.text) > 0);
    out->looked = nphd_directory_metadata(DIRLAB_FOLDER, io, &metadata, &err);
    assert_true(out->looked == NPHD_OK || strlen(err.text) > 0);
    out->salvaged =
        nphd_directory_salvage(DIRLAB_FOLDER, NEW, io, count, &told, &out->salvage, &err);
    assert_true(out->salvaged == NPHD_OK || strlen(err.text) > 0);
    if (out->salvaged == NPHD_OK) {
        options.io = io;
        options.read_only = true;
        options.logger = silent;
        if (nphd_sharded_open(NEW, &options, &sharded, NULL) == NPHD_OK) {
            out->size = nphd_sharded_size(sharded);
        }
        nphd_sharded_free(sharded);
    }
}

static void expect_excused(nphd_status got, nphd_status calm, bool of_memory, const char *name,
                           uint64_t n)
{
    if (got != calm && got != NPHD_OUT_OF_MEMORY &&
        (of_memory || (got != NPHD_IO && got != NPHD_DURABILITY_UNKNOWN))) {
        fail_msg("%s, fault %llu: %s, without it %s", name, (unsigned long long)n,
                 nphd_status_name(got), nphd_status_name(calm));
    }
}

static bool run_once(dirlab *lab, const answers *calm, bool of_memory, uint64_t n)
{
    memory_io *disk = memory_io_crash(lab->disk, MEMORY_IO_ORDERED, 1);
    answers got;
    io_fault io;

    io_fault_init(&io, memory_io_table(disk));
    if (of_memory) {
        allocator_fault_arm(&memory, ALLOCATOR_FAULT_ALL, n, false);
    } else {
        io_fault_arm(&io, IO_FAULT_ALL, n, EIO, false);
    }
    call_all(&io.table, &got);
    const bool failed = of_memory ? memory.failed > 0 : io.failed > 0;
    allocator_fault_arm(&memory, ALLOCATOR_FAULT_ALL, 0, false);
    io_fault_disarm(&io);
    expect_excused(got.verified, calm->verified, of_memory, "verify", n);
    expect_excused(got.looked, calm->looked, of_memory, "metadata", n);
    expect_excused(got.salvaged, calm->salvaged, of_memory, "salvage", n);
    if (got.verified == calm->verified) {
        assert_memory_equal(&got.directory, &calm->directory, sizeof(got.directory));
    }
    if (got.salvaged == NPHD_OK) {
        assert_true(got.salvage.vectors <= calm->salvage.vectors);
    }
    assert_int_equal(io.open_files, 0);
    assert_int_equal(io.maps, 0);
    assert_true(allocator_fault_is_clean(&memory));
    /* what salvage reads is as it was */
    char name[128];
    for (size_t i = 0; memory_io_name(disk, i, name, sizeof(name));) {
        if (strncmp(name, NEW "/", strlen(NEW "/")) == 0) {
            OK((nphd_status)memory_io_table(disk)->remove(memory_io_table(disk)->context, name));
        } else {
            size_t before = 0;
            size_t after = 0;
            uint8_t *old = memory_io_get(lab->disk, name, &before);
            uint8_t *now = memory_io_get(disk, name, &after);
            assert_non_null(old);
            assert_int_equal(before, after);
            assert_memory_equal(old, now, before);
            free(old);
            free(now);
            i++;
        }
    }
    io_fault_destroy(&io);
    memory_io_destroy(disk);
    return failed;
}

static void sweep(dirlab *lab, nphd_status verified, uint64_t stride)
{
    const uint64_t step = getenv("NPHD_TEST_SCALE") != NULL ? 13 * stride : stride;
    memory_io *disk = memory_io_crash(lab->disk, MEMORY_IO_ORDERED, 1);
    answers calm;

    call_all(memory_io_table(disk), &calm);
    memory_io_destroy(disk);
    assert_int_equal(calm.verified, verified);
    OK(calm.looked);
    OK(calm.salvaged);
    assert_true(calm.salvage.vectors > 0);
    assert_int_equal(calm.size, calm.salvage.vectors);
    for (int of_memory = 0; of_memory < 2; of_memory++) {
        bool more = true;
        for (uint64_t n = 1; more; n += step) {
            more = run_once(lab, &calm, of_memory != 0, n);
        }
    }
}

static void test_multi(void **state)
{
    dirlab *lab = *state;

    build_multi(lab);
    sweep(lab, NPHD_CORRUPT, 3); /* each builds a large graph */
}

/* More vectors than are entered at once: memory that ends for good at any place, in between too. */
static void test_multi_entering(void **state)
{
    dirlab *lab = *state;
    nphd_salvage_report calm;
    bool more = true;

    build_multi(lab);
    dirlab_damage(lab, "shard_000.usearch", 65600); /* whole again: more are entered */
    OK(nphd_directory_salvage(DIRLAB_FOLDER, NEW, memory_io_table(lab->disk), NULL, NULL, &calm,
                              NULL));
    for (uint64_t n = 1; more; n++) {
        memory_io *disk = memory_io_crash(lab->disk, MEMORY_IO_ORDERED, 1);
        nphd_salvage_report got;
        nphd_error err = NPHD_ERROR_INIT;
        allocator_fault_arm(&memory, ALLOCATOR_FAULT_ALL, n, true);
        const nphd_status status = nphd_directory_salvage(
            DIRLAB_FOLDER, "again", memory_io_table(disk), NULL, NULL, &got, &err);
        more = memory.failed > 0;
        allocator_fault_arm(&memory, ALLOCATOR_FAULT_ALL, 0, false);
        assert_int_equal(status, more ? NPHD_OUT_OF_MEMORY : NPHD_OK);
        assert_true(more || got.vectors == calm.vectors);
        assert_true(more == (strlen(err.text) > 0));
        assert_int_equal(memory_io_open_files(disk), 0);
        assert_int_equal(memory_io_maps(disk), 0);
        assert_true(allocator_fault_is_clean(&memory));
        memory_io_destroy(disk);
    }
}

static void test_torn_chain(void **state)
{
    dirlab *lab = *state;

    build_torn_chain(lab);
    sweep(lab, NPHD_CORRUPT, 1);
}

static void test_unopenable(void **state)
{
    dirlab *lab = *state;

    build_unopenable(lab);
    sweep(lab, NPHD_CORRUPT, 1);
}

/* Each kind of status that one file has: of a later version, of another index. */
static void test_statuses(void **state)
{
    dirlab *lab = *state;
    nphd_directory_report report;
    nphd_error err = NPHD_ERROR_INIT;
    uint64_t told = 0;

    damage_make_saves(lab, true);
    dirlab_copy(lab, "shard_000.usearch", "shard_009.usearch"); /* whole, and not listed */
    assert_int_equal(
        nphd_directory_verify(DIRLAB_FOLDER, &lab->fault.table, count, &told, &report, &err),
        NPHD_CORRUPT);
    assert_non_null(strstr(err.text, "shard_009.usearch"));
    assert_int_equal(told, 1);
    assert_int_equal(report.damaged_files, 1);
    dirlab_delete(lab, "shard_009.usearch");
    damage_version(lab, "bloom.isbf");
    told = 0;
    assert_int_equal(
        nphd_directory_verify(DIRLAB_FOLDER, &lab->fault.table, count, &told, &report, &err),
        NPHD_CORRUPT);
    assert_non_null(strstr(err.text, "bloom.isbf: trailer version 2"));
    assert_int_equal(told, 1);
    assert_int_equal(report.unverified_files, 1);
}

/* ---- somebody else ---- */

static struct {
    const nphd_io *below;
    nphd_sharded *sharded;
} other;

/* Between the look at the new directory, which is empty, and its lock. */
static int other_is_first(void *context, const char *path, nphd_file *out)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    uint8_t bits[8];

    if (other.sharded == NULL) {
        options.io = other.below;
        OK(nphd_sharded_open(NEW, &options, &other.sharded, NULL));
        OK(nphd_sharded_add(other.sharded, nphd_key_u64(1), dirlab_vector(1, 0, bits), NULL, NULL));
        OK(nphd_sharded_save(other.sharded, NULL, NULL));
    }
    return other.below->lock(context, path, out);
}

/* What another has put there is not tidied away. */
static void test_new_directory_taken(void **state)
{
    dirlab *lab = *state;
    nphd_io table = *memory_io_table(lab->disk);
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    nphd_sharded *sharded = NULL;

    damage_make_saves(lab, true);
    other.below = memory_io_table(lab->disk);
    table.lock = other_is_first;
    assert_int_equal(nphd_directory_salvage(DIRLAB_FOLDER, NEW, &table, NULL, NULL, NULL, NULL),
                     NPHD_BUSY);
    assert_non_null(other.sharded);
    nphd_sharded_free(other.sharded);
    options.io = other.below;
    options.read_only = true;
    OK(nphd_sharded_open(NEW, &options, &sharded, NULL));
    assert_int_equal(nphd_sharded_size(sharded), 1);
    nphd_sharded_free(sharded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_multi),      DIRLAB_TEST(test_multi_entering),
        DIRLAB_TEST(test_torn_chain), DIRLAB_TEST(test_unopenable),
        DIRLAB_TEST(test_statuses),   DIRLAB_TEST(test_new_directory_taken),
    };
    int failed;

    allocator_fault_init(&memory);
    memory.below = allocator_plain();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    allocator_fault_destroy(&memory);
    allocator_plain_release();
    return failed;
}
