/* The directory of an index whose name, or content, somebody changes, and a process that goes
 * elsewhere. On files of the system. */
#include "platform/platform.h"
#include "support/own_folder.h"

#include <nphd/nphd.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OK(call) assert_int_equal(call, NPHD_OK)

static nphd_sharded *opened(const char *path, bool journal, bool read_only)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    nphd_sharded *sharded = NULL;
    nphd_error err = NPHD_ERROR_INIT;

    options.journal = journal;
    options.read_only = read_only;
    if (nphd_sharded_open(path, &options, &sharded, &err) != NPHD_OK) {
        fail_msg("%s", err.text);
    }
    return sharded;
}

static void add(nphd_sharded *sharded, uint64_t key)
{
    const uint8_t bytes[8] = {(uint8_t)key, (uint8_t)(key >> 8)};

    OK(nphd_sharded_add(sharded, nphd_key_u64(key), (nphd_vector){bytes, 8}, NULL, NULL));
}

static uint64_t size_of(const char *path)
{
    nphd_sharded *sharded = opened(path, false, true);
    const uint64_t size = nphd_sharded_size(sharded);

    nphd_sharded_free(sharded);
    return size;
}

static void finish(nphd_sharded *sharded)
{
    OK(nphd_sharded_close(sharded, NULL));
    nphd_sharded_free(sharded);
}

/* One process, two customers, each with an index of the same relative name. */
static void test_the_working_directory_changes(void **state)
{
    nphd_sharded *anna;
    nphd_sharded *bert;

    (void)state;
    assert_int_equal(mkdir("anna", 0777) | mkdir("bert", 0777), 0);
    assert_int_equal(chdir("anna"), 0);
    anna = opened("index", true, false);
    add(anna, 1);
    OK(nphd_sharded_save(anna, NULL, NULL));
    assert_int_equal(chdir("../bert"), 0);
    bert = opened("index", false, false);
    for (uint64_t key = 10; key < 20; key++) {
        add(bert, key);
    }
    OK(nphd_sharded_save(bert, NULL, NULL));
    add(anna, 2);
    OK(nphd_sharded_commit(anna, NULL));
    add(anna, 3);
    OK(nphd_sharded_save(anna, NULL, NULL));
    OK(nphd_sharded_compact(anna, NULL, NULL, NULL));
    OK(nphd_sharded_snapshot(anna, "copy", NULL)); /* from here, as it is given now */
    OK(nphd_sharded_snapshot(anna, "index/copy", NULL));
    finish(anna);
    finish(bert);
    assert_int_equal(size_of("index"), 10);
    assert_int_equal(size_of("copy"), 3);
    assert_int_equal(size_of("index/copy"), 3);
    assert_int_equal(size_of("../anna/index"), 3);
}

static void test_the_directory_is_renamed_or_replaced(void **state)
{
    nphd_sharded *old = opened("d", true, false);
    nphd_sharded *new;

    (void)state;
    add(old, 1);
    OK(nphd_sharded_save(old, NULL, NULL));
    assert_int_equal(rename("d", "e"), 0);
    new = opened("d", false, false);
    add(new, 7);
    OK(nphd_sharded_save(new, NULL, NULL));
    add(old, 2);
    OK(nphd_sharded_commit(old, NULL));
    add(old, 3);
    finish(old);
    finish(new);
    assert_int_equal(size_of("e"), 3);
    assert_int_equal(size_of("d"), 1);
}

static void test_the_directory_is_deleted(void **state)
{
    nphd_sharded *sharded = opened("d", false, false);
    nphd_error err = NPHD_ERROR_INIT;

    (void)state;
    add(sharded, 1);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    add(sharded, 2);
    assert_int_equal(system("rm -r d"), 0);
    assert_int_not_equal(nphd_sharded_save(sharded, NULL, &err), NPHD_OK);
    assert_int_not_equal(access("d", F_OK), 0); /* nothing is made in its place */
    assert_int_equal(mkdir("d", 0777), 0);
    assert_int_not_equal(nphd_sharded_save(sharded, NULL, &err), NPHD_OK);
    assert_int_equal(rmdir("d"), 0);
    assert_int_equal(nphd_sharded_size(sharded), 2);
    nphd_sharded_free(sharded);
}

/* A backup is put over the files of a live index. */
static void test_a_backup_is_put_over_a_live_directory(void **state)
{
    nphd_sharded *sharded = opened("d", false, false);
    nphd_error err = NPHD_ERROR_INIT;

    (void)state;
    add(sharded, 1);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    assert_int_equal(system("cp -r d backup"), 0);
    add(sharded, 2);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    add(sharded, 3);
    assert_int_equal(system("cp --remove-destination backup/* d/"), 0);
    assert_int_equal(nphd_sharded_save(sharded, NULL, &err), NPHD_CHANGED);
    assert_non_null(strstr(err.text, "d/shard_000.usearch"));
    assert_int_equal(nphd_sharded_close(sharded, NULL), NPHD_CHANGED);
    assert_int_equal(nphd_sharded_dirty(sharded), 1);
    nphd_sharded_free(sharded);
    assert_int_equal(size_of("d"), 1); /* the backup, whole */
}

/* The same before the first change of a handle, which reads the last shard to write to it. */
static void test_a_backup_is_put_over_before_the_first_change(void **state)
{
    nphd_sharded *sharded = opened("d", false, false);
    const uint8_t bits[8] = {3};
    nphd_error err = NPHD_ERROR_INIT;

    (void)state;
    add(sharded, 1);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    assert_int_equal(system("cp -r d backup"), 0);
    add(sharded, 2);
    finish(sharded);
    sharded = opened("d", false, false);
    assert_int_equal(system("cp --remove-destination backup/* d/"), 0);
    assert_int_equal(nphd_sharded_add(sharded, nphd_key_u64(3), (nphd_vector){bits, 8}, NULL, &err),
                     NPHD_CHANGED);
    assert_non_null(strstr(err.text, "d/shard_000.usearch"));
    nphd_sharded_free(sharded);
    assert_int_equal(size_of("d"), 1);
}

/* The same before a compaction, which would write over shards of the backup and delete others. */
static void test_a_backup_is_put_over_before_a_compaction(void **state)
{
    nphd_sharded *sharded = opened("d", false, false);
    const nphd_key first = nphd_key_u64(1);
    nphd_error err = NPHD_ERROR_INIT;

    (void)state;
    for (uint64_t key = 1; key < 5; key++) {
        add(sharded, key);
        OK(nphd_sharded_rotate(sharded, NULL));
    }
    OK(nphd_sharded_save(sharded, NULL, NULL));
    assert_int_equal(system("cp -r d backup"), 0);
    OK(nphd_sharded_remove(sharded, &first, 1, NULL, NULL));
    OK(nphd_sharded_save(sharded, NULL, NULL));
    assert_int_equal(system("rm d/* && cp backup/* d/"), 0);
    assert_int_equal(nphd_sharded_compact(sharded, NULL, NULL, &err), NPHD_CHANGED);
    nphd_sharded_free(sharded);
    assert_int_equal(size_of("d"), 4);
    OK(nphd_directory_verify("d", NULL, NULL, NULL, NULL, NULL));
}

/* A copy that went its own way since has the same identity and, by chance, the same generation. */
static void test_a_backup_of_the_same_generation_is_put_over(void **state)
{
    nphd_sharded *sharded = opened("d", false, false);
    nphd_error err = NPHD_ERROR_INIT;
    nphd_sharded *other;

    (void)state;
    add(sharded, 1);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    assert_int_equal(system("cp -r d other"), 0);
    other = opened("other", true, false);
    add(other, 50);
    OK(nphd_sharded_commit(other, NULL)); /* its journal is noted in its head */
    finish(other);
    add(sharded, 2);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    add(sharded, 3);
    assert_int_equal(system("cp --remove-destination other/* d/"), 0);
    assert_int_equal(nphd_sharded_save(sharded, NULL, &err), NPHD_CHANGED);
    assert_non_null(strstr(err.text, "d/lock"));
    nphd_sharded_free(sharded);
    assert_int_equal(size_of("d"), 2); /* the copy, whole */
    OK(nphd_directory_verify("d", NULL, NULL, NULL, NULL, NULL));
}

/* A refresh goes by the name, from the folder where it was given. */
static void test_a_reader_refreshes_by_name(void **state)
{
    nphd_sharded *writer = opened("d", false, false);
    nphd_sharded *reader;
    bool changed = false;

    (void)state;
    assert_int_equal(mkdir("elsewhere", 0777), 0);
    add(writer, 1);
    OK(nphd_sharded_save(writer, NULL, NULL));
    reader = opened("d", false, true);
    assert_int_equal(chdir("elsewhere"), 0);
    add(writer, 2);
    OK(nphd_sharded_save(writer, NULL, NULL));
    OK(nphd_sharded_refresh(reader, &changed, NULL));
    assert_true(changed);
    assert_int_equal(nphd_sharded_size(reader), 2);
    assert_int_equal(rename("../d", "../before"), 0);
    assert_int_equal(nphd_sharded_refresh(reader, &changed, NULL), NPHD_NOT_FOUND);
    assert_int_equal(nphd_sharded_size(reader), 2);
    assert_int_equal(chdir(".."), 0);
    nphd_sharded *other = opened("d", false, false);
    for (uint64_t key = 5; key < 10; key++) {
        add(other, key);
    }
    finish(other);
    assert_int_equal(chdir("elsewhere"), 0);
    OK(nphd_sharded_refresh(reader, &changed, NULL));
    assert_true(changed);
    assert_int_equal(nphd_sharded_size(reader), 5);
    OK(nphd_sharded_refresh(reader, &changed, NULL));
    assert_false(changed);
    nphd_sharded_free(reader);
    finish(writer);
    assert_int_equal(size_of("../before"), 2);
}

/* Only what an interrupted write left is deleted; a folder of such a name blocks nobody. */
static void test_temporary_names(void **state)
{
    nphd_sharded *sharded = opened("d", false, false);

    (void)state;
    add(sharded, 1);
    finish(sharded);
    assert_int_equal(
        system("cd d && touch shard_001.usearch.tmp shard_000.usearch.tmp-0123456789abcdef "
               "bloom.isbf.tmp tombstones.npy.tmp shard_000.usearch.compact && "
               "touch howto.usearch.tmpl.md my.isbf.tmp shard_1.usearch.tmp bloom.isbf.compact "
               "bloom.isbf.tmp-0123456789abcdeg bloom.isbf.tmp-0123456789abcdef0 "
               "bloom.isbf.tmp.gz .tmp && mkdir shard_002.usearch.tmp"),
        0);
    finish(opened("d", false, false));
    assert_int_equal(
        system("cd d && ls howto.usearch.tmpl.md my.isbf.tmp shard_1.usearch.tmp "
               "bloom.isbf.compact bloom.isbf.tmp-0123456789abcdeg "
               "bloom.isbf.tmp-0123456789abcdef0 bloom.isbf.tmp.gz .tmp shard_002.usearch.tmp "
               "> /dev/null"),
        0);
    assert_int_equal(system("cd d && ! ls -d shard_001.usearch.tmp bloom.isbf.tmp "
                            "tombstones.npy.tmp shard_000.usearch.compact "
                            "shard_000.usearch.tmp-0123456789abcdef 2> /dev/null | grep -q ."),
                     0);
}

/* Through a link; and beside another snapshot to the same place. */
static void test_where_a_snapshot_goes(void **state)
{
    nphd_sharded *sharded = opened("d", false, false);
    nphd_error err = NPHD_ERROR_INIT;
    nphd_file held;

    (void)state;
    add(sharded, 1);
    assert_int_equal(mkdir("empty", 0700), 0);
    assert_int_equal(symlink("empty", "link"), 0);
    OK(nphd_sharded_snapshot(sharded, "link///", &err));
    nphd_sharded *copy = opened("empty", false, true);
    assert_int_equal(nphd_sharded_size(copy), 1);
    nphd_sharded_free(copy);
    assert_int_equal(access("empty.snapshot.tmp", F_OK), -1);

    const nphd_io *io = nphdi_io_posix();
    assert_int_equal(mkdir("there.snapshot.tmp", 0700), 0);
    assert_int_equal(io->hold(io->context, "there.snapshot.tmp", &held), 0);
    assert_int_equal(nphd_sharded_snapshot(sharded, "there", &err), NPHD_BUSY);
    assert_non_null(strstr(err.text, "another snapshot"));
    assert_int_equal(access("there.snapshot.tmp", F_OK), 0);
    assert_int_equal(io->close(io->context, held), 0);
    OK(nphd_sharded_snapshot(sharded, "there", &err));
    assert_int_equal(access("there.snapshot.tmp", F_OK), -1);
    /* permissions of an empty directory stay, also when something was left beside it */
    struct stat facts;
    for (int left = 0; left < 2; left++) {
        char name[] = "private0";
        char beside[32];
        name[7] = (char)('0' + left);
        (void)snprintf(beside, sizeof(beside), "%s.snapshot.tmp", name);
        assert_int_equal(mkdir(name, 0700), 0);
        assert_int_equal(left == 0 ? 0 : mkdir(beside, 0777), 0);
        OK(nphd_sharded_snapshot(sharded, name, &err));
        assert_int_equal(stat(name, &facts), 0);
        assert_int_equal(facts.st_mode & 0777, 0700);
    }
    /* in place: the current directory, and a name with no room for more behind it */
    char longest[256];
    memset(longest, 'n', 250);
    longest[250] = '\0';
    OK(nphd_sharded_snapshot(sharded, longest, &err));
    assert_int_equal(mkdir("here", 0755), 0);
    assert_int_equal(chdir("here"), 0);
    OK(nphd_sharded_snapshot(sharded, ".", &err));
    assert_int_equal(access("shard_000.usearch", F_OK), 0);
    assert_int_equal(chdir(".."), 0);
    OK(nphd_sharded_snapshot(sharded, "d/inside", &err)); /* as odd as that is */
    assert_int_equal(access("d/inside/shard_000.usearch", F_OK), 0);
    OK(nphd_sharded_close(sharded, &err));
    nphd_sharded_free(sharded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_working_directory_changes, own_folder_enter,
                                        own_folder_leave),
        cmocka_unit_test_setup_teardown(test_the_directory_is_renamed_or_replaced, own_folder_enter,
                                        own_folder_leave),
        cmocka_unit_test_setup_teardown(test_the_directory_is_deleted, own_folder_enter,
                                        own_folder_leave),
        cmocka_unit_test_setup_teardown(test_a_backup_is_put_over_a_live_directory,
                                        own_folder_enter, own_folder_leave),
        cmocka_unit_test_setup_teardown(test_a_backup_is_put_over_before_the_first_change,
                                        own_folder_enter, own_folder_leave),
        cmocka_unit_test_setup_teardown(test_a_backup_is_put_over_before_a_compaction,
                                        own_folder_enter, own_folder_leave),
        cmocka_unit_test_setup_teardown(test_a_backup_of_the_same_generation_is_put_over,
                                        own_folder_enter, own_folder_leave),
        cmocka_unit_test_setup_teardown(test_a_reader_refreshes_by_name, own_folder_enter,
                                        own_folder_leave),
        cmocka_unit_test_setup_teardown(test_temporary_names, own_folder_enter, own_folder_leave),
        cmocka_unit_test_setup_teardown(test_where_a_snapshot_goes, own_folder_enter,
                                        own_folder_leave),
    };

    return cmocka_run_group_tests_name("sharded_place", tests, NULL, NULL);
}
