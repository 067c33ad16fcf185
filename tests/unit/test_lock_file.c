/* The head of a directory: its bytes, what is left of it after any damage, and what an opening
 * misses by it. */
#include "sharded/lock_file.h"
#include "support/directory_lab.h"

#include <errno.h>
#include <stdlib.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

static const nphdi_lock_head SAMPLE = {{1, 2, 3}, 7, 40, 9, 40};

static void test_bytes(void **state)
{
    uint8_t bytes[NPHDI_LOCK_HEAD_BYTES] = {0};
    nphdi_lock_head newer = SAMPLE;
    nphdi_lock_head found;

    (void)state;
    assert_int_equal(nphdi_lock_head_decode(bytes, 0, &found), NPHDI_LOCK_HEAD_NONE);
    assert_int_equal(nphdi_lock_head_decode(bytes, sizeof(bytes), &found), NPHDI_LOCK_HEAD_NONE);
    nphdi_lock_head_encode(&SAMPLE, bytes + NPHDI_LOCK_HEAD_SLOT_STEP);
    newer.sequence++;
    newer.generation = 41;
    nphdi_lock_head_encode(&newer, bytes);
    assert_int_equal(nphdi_lock_head_decode(bytes, sizeof(bytes), &found), NPHDI_LOCK_HEAD_WHOLE);
    assert_memory_equal(&found, &newer, sizeof(found));
    /* whatever becomes of the newer slot, the other one is there */
    for (size_t bit = 0; bit < 8 * NPHDI_LOCK_HEAD_SLOT_BYTES; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
        assert_int_equal(nphdi_lock_head_decode(bytes, sizeof(bytes), &found),
                         NPHDI_LOCK_HEAD_WHOLE);
        assert_memory_equal(&found, &SAMPLE, sizeof(found));
        bytes[bit / 8] ^= (uint8_t)(1U << bit % 8);
    }
    bytes[20] ^= 1;
    bytes[NPHDI_LOCK_HEAD_SLOT_STEP + 20] ^= 1;
    assert_int_equal(nphdi_lock_head_decode(bytes, sizeof(bytes), &found), NPHDI_LOCK_HEAD_DAMAGED);
    assert_int_equal(found.sequence, 0);
    memset(bytes, 0, NPHDI_LOCK_HEAD_SLOT_BYTES); /* the first one ever was torn */
    assert_int_equal(nphdi_lock_head_decode(bytes, sizeof(bytes), &found), NPHDI_LOCK_HEAD_NONE);
}

/* The same bytes on every machine (docs/format.md). */
static void test_layout(void **state)
{
    uint8_t slot[NPHDI_LOCK_HEAD_SLOT_BYTES];
    static const uint8_t begin[] = {'N', 'P', 'H', 'D', 'H', 'E', 'A', 'D', 1, 0,
                                    0,   0,   0,   0,   0,   0,   1,   2,   3};

    (void)state;
    nphdi_lock_head_encode(&SAMPLE, slot);
    assert_memory_equal(slot, begin, sizeof(begin));
    assert_int_equal(slot[32], 7);
    assert_int_equal(slot[40], 40);
    assert_int_equal(slot[48], 9);
    assert_int_equal(slot[56], 40);
}

/* Two shards, and a journal if there is to be one. */
static void make(dirlab *lab, bool journal)
{
    const nphd_sharded_options options = dirlab_with_journal(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    dirlab_add(lab, sharded, 0, 20);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 20, 40);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    if (journal) {
        dirlab_add(lab, sharded, 40, 50);
        OK(nphd_sharded_commit(sharded, NULL));
    }
    nphd_sharded_free(sharded);
}

static void expect_found(dirlab *lab, nphd_status status, const char *what)
{
    nphd_error err = NPHD_ERROR_INIT;

    assert_int_equal(
        nphd_directory_verify(DIRLAB_FOLDER, &lab->fault.table, NULL, NULL, NULL, &err), status);
    assert_true(what == NULL || strstr(err.text, what) != NULL);
}

/* Refused by reader and writer, found by verify, and what is left is opened by salvage for good. */
static void expect_missed(dirlab *lab, const char *what, uint64_t left)
{
    nphd_sharded_options options = dirlab_with_journal(lab);

    dirlab_refused(lab, &options, NPHD_CORRUPT, what, "salvage");
    options.read_only = true;
    dirlab_refused(lab, &options, NPHD_CORRUPT, what, "salvage");
    expect_found(lab, NPHD_CORRUPT, what);
    options.read_only = false;
    options.salvage = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    assert_int_equal(nphd_sharded_size(sharded), left);
    assert_non_null(strstr(lab->damage, what));
    dirlab_close(sharded);
    options.salvage = false;
    sharded = dirlab_open(lab, &options);
    assert_int_equal(nphd_sharded_size(sharded), left);
    nphd_sharded_free(sharded);
    expect_found(lab, NPHD_OK, NULL);
}

static void test_missing_newest_shard(void **state)
{
    dirlab *lab = *state;

    make(lab, false);
    dirlab_delete(lab, "shard_001.usearch");
    expect_missed(lab, "the newest shard is missing", 20);
}

static void test_missing_last_journal(void **state)
{
    dirlab *lab = *state;

    make(lab, true);
    dirlab_delete(lab, "journal_00000003");
    expect_missed(lab, "journal_00000003: missing", 40);
}

static void test_emptied_journal(void **state)
{
    dirlab *lab = *state;

    make(lab, true);
    dirlab_put(lab, "journal_00000003", "", 0); /* as if it had never been begun */
    expect_missed(lab, "journal_00000003: missing", 40);
}

/* A lock file that is empty, as release 0.1 leaves it, or damaged, hinders nobody. */
static void test_without_head(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_with_journal(lab);

    make(lab, true);
    dirlab_copy(lab, "lock", "kept");
    dirlab_forget_head(lab);
    expect_found(lab, NPHD_OK, NULL);
    dirlab_copy(lab, "kept", "lock");
    dirlab_delete(lab, "kept");
    dirlab_damage(lab, "lock", 70);
    expect_found(lab, NPHD_OK, NULL); /* the other slot is whole */
    dirlab_damage(lab, "lock", NPHDI_LOCK_HEAD_SLOT_STEP + 70);
    expect_found(lab, NPHD_CORRUPT, "lock: damaged");
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    nphd_sharded_free(sharded);
    expect_found(lab, NPHD_OK, NULL);
}

/* The newest shard goes for good where it became empty, and nothing is missed then. */
static void test_steps_back(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_small(lab);

    make(lab, true);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    for (uint64_t key = 20; key < 50; key++) {
        dirlab_remove(lab, sharded, key);
    }
    OK(nphd_sharded_save(sharded, NULL, NULL));
    OK(nphd_sharded_compact(sharded, NULL, NULL, NULL));
    dirlab_close(sharded);
    expect_found(lab, NPHD_OK, NULL);
    sharded = dirlab_open(lab, NULL);
    dirlab_expect(lab, sharded);
    for (uint64_t key = 0; key < 20; key++) {
        dirlab_remove(lab, sharded, key);
    }
    dirlab_close(sharded);
    sharded = dirlab_open(lab, NULL);
    assert_int_equal(nphd_sharded_size(sharded), 0);
    OK(nphd_sharded_reset(sharded, NULL));
    dirlab_close(sharded);
    sharded = dirlab_open(lab, NULL);
    dirlab_close(sharded);
}

static int (*open_below)(void *context, const char *path, int how, nphd_file *out_file);
static int refusal;

static int refuse_lock(void *context, const char *path, int how, nphd_file *out_file)
{
    out_file->handle = -1;
    return how == NPHD_OPEN_READ && strstr(path, "/lock") != NULL
               ? refusal
               : open_below(context, path, how, out_file);
}

/* Whoever may read the files needs no rights to the lock; a device that fails is another thing. */
static void test_may_not_be_read(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_with_journal(lab);
    nphd_io table = lab->fault.table;

    make(lab, true);
    open_below = table.open;
    table.open = refuse_lock;
    options.io = &table;
    options.read_only = true;
    static const int nothing[] = {EACCES, EPERM, EISDIR, EINVAL}; /* the last: no regular file */
    for (size_t i = 0; i < sizeof(nothing) / sizeof(nothing[0]); i++) {
        refusal = nothing[i];
        nphd_sharded *reader = dirlab_open(lab, &options);
        dirlab_expect(lab, reader);
        nphd_sharded_free(reader);
    }
    refusal = EIO;
    dirlab_refused(lab, &options, NPHD_IO, "lock", NULL);
}

static void test_snapshot_has_one(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_with_journal(lab);
    nphd_error err = NPHD_ERROR_INIT;
    nphd_sharded *copy = NULL;

    make(lab, true);
    options.read_only = true;
    nphd_sharded *reader = dirlab_open(lab, &options);
    OK(nphd_sharded_snapshot(reader, "copy", NULL));
    nphd_sharded_free(reader);
    OK(nphd_sharded_open("copy", &options, &copy, NULL));
    assert_int_equal(nphd_sharded_size(copy), 50);
    nphd_sharded_free(copy);
    const nphd_io *io = &lab->fault.table;
    assert_int_equal(io->remove(io->context, "copy/journal_00000003"), 0);
    assert_int_equal(nphd_sharded_open("copy", &options, &copy, &err), NPHD_CORRUPT);
    assert_non_null(strstr(err.text, "copy/journal_00000003: missing"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),           cmocka_unit_test(test_layout),
        DIRLAB_TEST(test_missing_newest_shard), DIRLAB_TEST(test_missing_last_journal),
        DIRLAB_TEST(test_emptied_journal),      DIRLAB_TEST(test_without_head),
        DIRLAB_TEST(test_steps_back),           DIRLAB_TEST(test_may_not_be_read),
        DIRLAB_TEST(test_snapshot_has_one),
    };

    return cmocka_run_group_tests_name("the head of a directory", tests, NULL, NULL);
}
