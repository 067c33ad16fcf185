/* Who saved a directory last? A file of ours that lost its end, or a byte of it, must not pass for
 * one of the reference: the journal would be passed over, and what was deleted would be back. */
#include "support/directory_damage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

#define FILTER "bloom.isbf"
#define FIRST "shard_000.usearch"
#define LAST "shard_001.usearch"

/* Saved, then changed and committed by the journal: `shards` of them. */
static void make(dirlab *lab, int shards)
{
    const nphd_sharded_options options = dirlab_with_journal(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    dirlab_add(lab, sharded, 0, 20);
    if (shards > 1) {
        OK(nphd_sharded_rotate(sharded, NULL));
        dirlab_add(lab, sharded, 20, 40);
        dirlab_upsert(lab, sharded, 3, 1);
    }
    OK(nphd_sharded_save(sharded, NULL, NULL));
    dirlab_add(lab, sharded, 100, 110);
    dirlab_remove(lab, sharded, 7);
    OK(nphd_sharded_commit(sharded, NULL));
    nphd_sharded_free(sharded);
}

static void expect_verify(dirlab *lab, nphd_status status, const char *what)
{
    nphd_error err = NPHD_ERROR_INIT;

    assert_int_equal(
        nphd_directory_verify(DIRLAB_FOLDER, &lab->fault.table, NULL, NULL, NULL, &err), status);
    assert_true(what == NULL || strstr(err.text, what) != NULL);
}

/* Reader and writer find what was committed, also after the next save. */
static void expect_opens(dirlab *lab)
{
    nphd_sharded_options options = dirlab_with_journal(lab);

    options.read_only = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    options.read_only = false;
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    nphd_sharded_free(sharded);
    expect_verify(lab, NPHD_OK, NULL);
}

static void expect_salvage(dirlab *lab)
{
    nphd_sharded_options options = dirlab_with_journal(lab);

    options.salvage = true;
    options.read_only = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    options.read_only = false;
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    expect_opens(lab);
}

static uint64_t foreign_bytes(const dirlab *lab, const char *name)
{
    size_t bytes = 0;

    free(dirlab_take_foreign(lab, name, &bytes));
    return bytes;
}

static size_t file_bytes(const dirlab *lab, const char *name)
{
    size_t bytes = 0;

    free(memory_io_get(lab->disk, dirlab_path(name), &bytes));
    return bytes;
}

/* Every byte of the footer, and of the directory before it. */
static void test_damaged_footer_of_the_filter(void **state)
{
    dirlab *lab = *state;

    make(lab, 2);
    dirlab_copy(lab, FILTER, "kept");
    for (long at = 1; at <= 200; at++) {
        nphd_sharded_options options = dirlab_with_journal(lab);
        dirlab_copy(lab, "kept", FILTER);
        dirlab_damage(lab, FILTER, -at);
        expect_verify(lab, NPHD_CORRUPT, FILTER);
        options.read_only = true;
        nphd_sharded *sharded = dirlab_open(lab, &options);
        dirlab_expect(lab, sharded);
        dirlab_close(sharded);
    }
    expect_opens(lab);
}

/* At every length; where it ends as one of the reference does, it says who wrote what. */
static void test_cut_filter(void **state)
{
    dirlab *lab = *state;

    make(lab, 2);
    dirlab_copy(lab, FILTER, "kept");
    const size_t whole = file_bytes(lab, FILTER);
    const uint64_t foreign = foreign_bytes(lab, FILTER);
    nphd_sharded_options options = dirlab_with_journal(lab);
    options.read_only = true;
    for (size_t cut = 1; cut < whole; cut += cut < 400 || whole - cut < 60 ? 1 : 97) {
        dirlab_copy(lab, "kept", FILTER);
        dirlab_cut(lab, FILTER, cut);
        if (whole - cut == foreign) {
            dirlab_refused(lab, &options, NPHD_MISMATCH, FILTER, LAST);
            expect_verify(lab, NPHD_CORRUPT, FILTER);
            continue;
        }
        expect_verify(lab, NPHD_CORRUPT, FILTER);
        nphd_sharded *sharded = dirlab_open(lab, &options);
        dirlab_expect(lab, sharded);
        dirlab_close(sharded);
    }
    dirlab_copy(lab, "kept", FILTER);
    dirlab_cut(lab, FILTER, whole - (size_t)foreign);
    expect_salvage(lab);
}

/* Just behind its last node, and inside the mark that begins the trailer. */
static void cut_last(dirlab *lab, int shards, const char *name)
{
    make(lab, shards);
    dirlab_copy(lab, name, "kept");
    const size_t whole = file_bytes(lab, name);
    const uint64_t foreign = foreign_bytes(lab, name);

    for (size_t more = 1; more <= 16; more++) {
        dirlab_copy(lab, "kept", name);
        dirlab_cut(lab, name, whole - (size_t)foreign - more);
        dirlab_refused(lab, NULL, NPHD_CORRUPT, name, "trailer");
    }
    dirlab_copy(lab, "kept", name);
    dirlab_cut(lab, name, whole - (size_t)foreign);
    dirlab_refused(lab, NULL, NPHD_MISMATCH, name, FILTER);
    expect_verify(lab, NPHD_CORRUPT, name);
    dirlab_copy(lab, FILTER, "filter");
    dirlab_delete(lab, FILTER); /* as without a filter: the journal says so */
    dirlab_refused(lab, NULL, NPHD_MISMATCH, name, "journal_");
    dirlab_copy(lab, "filter", FILTER);
    expect_salvage(lab);
}

static void test_cut_last_shard(void **state)
{
    cut_last(*state, 2, LAST);
}

static void test_cut_only_shard(void **state)
{
    cut_last(*state, 1, FIRST);
}

static char noted[512];

static void note(void *context, const char *text)
{
    (void)context;
    (void)snprintf(noted, sizeof(noted), "%s", text);
}

/* A journal that is not applied is never deleted, and verify has a word about it. */
static void test_journal_is_put_aside(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_with_journal(lab);
    size_t bytes = 0;

    make(lab, 2);
    uint8_t *foreign = dirlab_take_foreign(lab, LAST, &bytes);
    dirlab_put(lab, LAST, foreign, bytes);
    free(foreign);
    dirlab_put_bloom(lab, 8); /* the reference saved */
    for (uint64_t key = 100; key < 110; key++) {
        dirlab_drop(&lab->items, nphd_key_u64(key));
    }
    uint8_t bits[8];
    dirlab_set(&lab->items, nphd_key_u64(7), dirlab_vector(7, 0, bits));
    dirlab_forget_log(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    const char *told = strstr(lab->log, ": not applied");
    assert_non_null(told);
    char name[64];
    (void)snprintf(name, sizeof(name), "%.16s", told - 16);
    assert_true(dirlab_exists(lab, name));
    assert_int_equal(dirlab_stats(sharded).unapplied, 1);
    dirlab_copy(lab, name, "kept");
    dirlab_add(lab, sharded, 200, 201);
    dirlab_close(sharded);
    assert_false(dirlab_exists(lab, name));
    (void)strcat(name, ".unapplied");
    assert_true(dirlab_exists(lab, name));
    assert_non_null(strstr(lab->log, name));
    sharded = dirlab_open(lab, NULL);
    assert_int_equal(dirlab_stats(sharded).unapplied, 1); /* under its new name */
    dirlab_close(sharded);
    expect_opens(lab);
    assert_true(dirlab_exists(lab, name));
    OK(nphd_directory_verify(DIRLAB_FOLDER, &lab->fault.table, note, NULL, NULL, NULL));
    assert_non_null(strstr(noted, name));
}

/* Whatever a save that was interrupted came to, the journal is there under one of its names. */
static void test_journal_is_put_aside_first(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_with_journal(lab);
    uint64_t n = 0;

    for (bool failed = true; failed;) {
        size_t bytes = 0;
        dirlab_end(state);
        assert_int_equal(dirlab_begin(state), 0);
        lab = *state;
        options = dirlab_with_journal(lab);
        make(lab, 2);
        uint8_t *foreign = dirlab_take_foreign(lab, LAST, &bytes);
        dirlab_put(lab, LAST, foreign, bytes);
        free(foreign);
        dirlab_put_bloom(lab, 8);
        nphd_sharded *sharded = dirlab_open(lab, &options);
        uint8_t bits[8];
        OK(nphd_sharded_add(sharded, nphd_key_u64(200), dirlab_vector(200, 0, bits), NULL, NULL));
        io_fault_arm(&lab->fault, IO_FAULT_RENAME | IO_FAULT_REMOVE | IO_FAULT_SYNC_DIRECTORY, ++n,
                     EIO, true);
        (void)nphd_sharded_save(sharded, NULL, NULL);
        nphd_sharded_free(sharded);
        io_fault_disarm(&lab->fault);
        failed = lab->fault.failed > 0;
        sharded = dirlab_open(lab, &options);
        dirlab_close(sharded);
        sharded = dirlab_open(lab, &options);
        dirlab_close(sharded);
        assert_int_equal(memory_io_count(lab->disk, "journal_"), 1);
    }
    assert_true(n > 4);
}

/* The reference emptied the last shard, and deletes its file then. */
static void test_reference_deleted_the_last_shard(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    dirlab_add(lab, sharded, 0, 20);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 20, 30);
    dirlab_remove(lab, sharded, 3);
    dirlab_close(sharded);
    dirlab_delete(lab, LAST);
    for (uint64_t key = 20; key < 30; key++) {
        dirlab_drop(&lab->items, nphd_key_u64(key));
    }
    const nphd_key dead = nphd_key_u64(3);
    uint8_t bits[8];
    /* its tombstones do not touch the shard that is the last one then */
    dirlab_set(&lab->items, dead, dirlab_vector(3, 0, bits));
    dirlab_put_bloom(lab, 8);
    dirlab_put_tombstones(lab, 8, &dead, 1);
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    dirlab_expect_reference(lab);
}

/* Our first save over files of the reference ended behind the filter: nothing contradicts. */
static void test_first_save_over_the_reference(void **state)
{
    dirlab *lab = *state;
    uint8_t bits[8];

    dirlab_put_shard(lab, FIRST, NULL, 0, 20, 0);
    dirlab_put_bloom(lab, 8);
    nphd_sharded *sharded = dirlab_open(lab, NULL);
    OK(nphd_sharded_add(sharded, nphd_key_u64(50), dirlab_vector(50, 0, bits), NULL, NULL));
    io_fault_arm(&lab->fault, IO_FAULT_RENAME, 2, EIO, true);
    assert_int_not_equal(nphd_sharded_save(sharded, NULL, NULL), NPHD_OK);
    nphd_sharded_free(sharded);
    io_fault_disarm(&lab->fault);
    sharded = dirlab_open(lab, NULL);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

static void put_reference(dirlab *lab)
{
    const nphd_key dead = nphd_key_u64(3);

    dirlab_put_shard(lab, FIRST, NULL, 0, 20, 0);
    dirlab_put_shard(lab, LAST, NULL, 20, 40, 0);
    dirlab_put_bloom(lab, 8);
    dirlab_put_tombstones(lab, 8, &dead, 1);
    dirlab_drop(&lab->items, dead);
}

/* Without a warning either. */
static void expect_unwritten(dirlab *lab)
{
    dirlab_forget_log(lab);
    nphd_sharded *sharded = dirlab_open(lab, NULL);
    const uint64_t before = memory_io_operations(lab->disk);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    assert_int_equal(memory_io_operations(lab->disk), before);
    assert_string_equal(lab->log, "");
}

/* Opened for writing and closed without a change: no file is another one. */
static void test_nothing_is_written_without_a_change(void **state)
{
    dirlab *lab = *state;

    put_reference(lab);
    expect_unwritten(lab);
    expect_unwritten(lab);
}

/* One of ours that was written alone, as there was none or a damaged one, is believed after that:
 * it was distrusted and made anew by each opening. */
static void test_filter_of_ours_beside_the_reference(void **state)
{
    dirlab *lab = *state;
    size_t bytes = 0;

    put_reference(lab);
    dirlab_delete(lab, FILTER);
    nphd_sharded *sharded = dirlab_open(lab, NULL);
    dirlab_close(sharded);
    free(memory_io_get(lab->disk, dirlab_path(FILTER), &bytes));
    assert_int_not_equal(bytes, 0);
    expect_unwritten(lab);
    /* not one that knows fewer keys */
    dirlab_copy(lab, FILTER, "kept");
    dirlab_put_shard(lab, "shard_002.usearch", NULL, 40, 90, 0);
    dirlab_forget_log(lab);
    sharded = dirlab_open(lab, NULL);
    dirlab_expect(lab, sharded);
    assert_non_null(strstr(lab->log, "knows fewer keys"));
    dirlab_close(sharded);
    expect_unwritten(lab);
}

/* The same beside a journal that is not applied: the filter is of no save that it could continue.
 */
static void test_filter_alone_beside_a_journal(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_with_journal(lab);
    size_t bytes = 0;

    make(lab, 2);
    uint8_t *foreign = dirlab_take_foreign(lab, LAST, &bytes);
    dirlab_put(lab, LAST, foreign, bytes);
    free(foreign);
    dirlab_delete(lab, FILTER);
    dirlab_refused(lab, &options, NPHD_MISMATCH, LAST, "journal_");
    options.reference_wrote_last = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_close(sharded);
    options.reference_wrote_last = false;
    sharded = dirlab_open(lab, &options);
    nphd_sharded_free(sharded);
    assert_int_equal(memory_io_count(lab->disk, "journal_"), 1);
}

/* Our first save over files of the reference came to its shard and no further. */
static nphd_sharded *cut_after_the_shard(dirlab *lab, const nphd_sharded_options *options)
{
    put_reference(lab);
    nphd_sharded *sharded = dirlab_open(lab, options);
    dirlab_remove(lab, sharded, 5);
    dirlab_add(lab, sharded, 3, 4); /* which the reference's tombstones have */
    dirlab_add(lab, sharded, 50, 60);
    io_fault_arm(&lab->fault, IO_FAULT_RENAME, 3, EIO, true);
    assert_int_not_equal(nphd_sharded_save(sharded, NULL, NULL), NPHD_OK);
    nphd_sharded_free(sharded);
    io_fault_disarm(&lab->fault);
    return dirlab_open(lab, options);
}

/* What was deleted stands in the shard alone then. */
static void test_first_save_keeps_deletions(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = cut_after_the_shard(lab, NULL);

    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    sharded = dirlab_open(lab, NULL);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    dirlab_expect_reference(lab);
}

/* The filter of such a save still says "over files of the reference", but what was committed to
 * after it says that it came to its shard: one that lost its trailer since is damaged. */
static void test_first_save_then_a_commit_then_a_cut(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_options(lab);
    options.journal = true;
    nphd_sharded *sharded = cut_after_the_shard(lab, &options);

    dirlab_add(lab, sharded, 70, 80);
    OK(nphd_sharded_commit(sharded, NULL));
    nphd_sharded_free(sharded);
    const size_t whole = file_bytes(lab, LAST);
    dirlab_cut(lab, LAST, whole - (size_t)foreign_bytes(lab, LAST));
    dirlab_refused(lab, &options, NPHD_MISMATCH, LAST, "trailer");
    expect_verify(lab, NPHD_CORRUPT, LAST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_damaged_footer_of_the_filter),
        DIRLAB_TEST(test_cut_filter),
        DIRLAB_TEST(test_cut_last_shard),
        DIRLAB_TEST(test_cut_only_shard),
        DIRLAB_TEST(test_journal_is_put_aside),
        DIRLAB_TEST(test_journal_is_put_aside_first),
        DIRLAB_TEST(test_reference_deleted_the_last_shard),
        DIRLAB_TEST(test_first_save_over_the_reference),
        DIRLAB_TEST(test_nothing_is_written_without_a_change),
        DIRLAB_TEST(test_filter_of_ours_beside_the_reference),
        DIRLAB_TEST(test_filter_alone_beside_a_journal),
        DIRLAB_TEST(test_first_save_keeps_deletions),
        DIRLAB_TEST(test_first_save_then_a_commit_then_a_cut),
    };

    return cmocka_run_group_tests_name("who saved last", tests, NULL, NULL);
}
