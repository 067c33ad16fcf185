/* Saves behind a flush of the directory that failed, of a shard that never got its file, and the
 * breadths that a reader keeps. */
#include "support/directory_lab.h"

#include <errno.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

/* As long as it is not known whether the last shard is durable no other is written. */
static void test_unsure_directory(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    nphd_error err = NPHD_ERROR_INIT;

    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    for (int with_error = 0; with_error < 2; with_error++) {
        /* the filter's folder is flushed first, then that of the shard */
        dirlab_upsert(lab, sharded, 1, (uint8_t)(with_error + 1));
        io_fault_arm(&lab->fault, IO_FAULT_SYNC_DIRECTORY, 2, EIO, false);
        assert_int_equal(nphd_sharded_save(sharded, NULL, &err), NPHD_DURABILITY_UNKNOWN);
        io_fault_arm(&lab->fault, IO_FAULT_SYNC_DIRECTORY, 2, EIO, false);
        assert_int_equal(nphd_sharded_save(sharded, NULL, with_error != 0 ? &err : NULL),
                         NPHD_DURABILITY_UNKNOWN);
        assert_int_equal(err.status, NPHD_DURABILITY_UNKNOWN);
        io_fault_disarm(&lab->fault);
        OK(nphd_sharded_save(sharded, NULL, NULL));
        dirlab_expect(lab, sharded);
    }
    /* where directories cannot be flushed it is as sure as it can be */
    dirlab_upsert(lab, sharded, 1, 9);
    io_fault_arm(&lab->fault, IO_FAULT_SYNC_DIRECTORY, 2, EIO, false);
    assert_int_equal(nphd_sharded_save(sharded, NULL, &err), NPHD_DURABILITY_UNKNOWN);
    io_fault_arm(&lab->fault, IO_FAULT_SYNC_DIRECTORY, 1, EINVAL, true);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    assert_true(lab->fault.failed >= 2);
    io_fault_disarm(&lab->fault);
    dirlab_close(sharded);
    sharded = dirlab_open(lab, NULL);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* It has a number and no file, and its vectors are gone again: there is nothing to remove. */
static void test_shard_without_a_file(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 10, 11);
    io_fault_arm(&lab->fault, IO_FAULT_RENAME, 2, EIO, false); /* behind that of the filter */
    assert_int_equal(nphd_sharded_save(sharded, NULL, NULL), NPHD_IO);
    io_fault_disarm(&lab->fault);
    assert_false(dirlab_exists(lab, "shard_001.usearch"));
    dirlab_remove(lab, sharded, 10);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    assert_int_equal(nphd_sharded_dirty(sharded), 0);
    assert_false(dirlab_exists(lab, "shard_001.usearch"));
    dirlab_expect(lab, sharded);
    dirlab_add(lab, sharded, 10, 12);
    dirlab_close(sharded);
    assert_true(dirlab_exists(lab, "shard_001.usearch"));
    sharded = dirlab_open(lab, NULL);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* Each breadth alone, and both through a refresh; one out of range changes none. */
static void test_breadths_of_a_reader(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    bool changed = false;

    nphd_sharded *writer = dirlab_open(lab, &options);
    dirlab_add(lab, writer, 0, 10);
    OK(nphd_sharded_save(writer, NULL, NULL));
    options.read_only = true;
    nphd_sharded *reader = dirlab_open(lab, &options);
    OK(nphd_sharded_set_breadth(reader, 0, 31, NULL));
    OK(nphd_sharded_set_breadth(reader, 17, 0, NULL));
    assert_int_equal(nphd_sharded_set_breadth(reader, 1U << 30, 5, NULL), NPHD_INVALID_ARGUMENT);
    for (int turn = 0; turn < 2; turn++) {
        assert_int_equal(dirlab_stats(reader).build_breadth, 17);
        assert_int_equal(dirlab_stats(reader).search_breadth, 31);
        dirlab_add(lab, writer, 10 + (uint64_t)turn, 11 + (uint64_t)turn);
        OK(nphd_sharded_save(writer, NULL, NULL));
        OK(nphd_sharded_refresh(reader, &changed, NULL));
        assert_true(changed);
        dirlab_expect(lab, reader);
    }
    dirlab_close(reader);
    dirlab_close(writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_unsure_directory),
        DIRLAB_TEST(test_shard_without_a_file),
        DIRLAB_TEST(test_breadths_of_a_reader),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
