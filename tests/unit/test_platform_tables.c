/* I/O tables that break their contract, are interrupted without end or change what is there between
 * two calls; and paths at their ends. What is written through them is whole or an error, and no
 * call goes on for ever. */
#include "platform/platform.h"
#include "support/io_fault.h"
#include "support/io_memory.h"

#include <nphd/nphd.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

/* ---- tables with bugs ---- */

/* The functions get the context of the table below, so that this stands beside it. */
static struct broken {
    const nphd_io *below;
    size_t claimed; /* by reads and writes beyond what was asked */
    bool nothing;   /* they claim to have moved nothing */
    int removals;   /* of directories that are still to come: made, they vanish */
    int made;
} broken;

static int broken_read(void *context, nphd_file file, uint64_t offset, void *buffer, size_t bytes,
                       size_t *out_done)
{
    const int answer = broken.below->read(context, file, offset, buffer, bytes, out_done);

    *out_done = broken.nothing ? 0 : bytes + broken.claimed;
    return answer;
}

static int broken_write(void *context, nphd_file file, uint64_t offset, const void *buffer,
                        size_t bytes, size_t *out_done)
{
    const int answer = broken.below->write(context, file, offset, buffer, bytes, out_done);

    *out_done = broken.nothing ? 0 : bytes + broken.claimed;
    return answer;
}

static nphd_io make_broken(memory_io *disk)
{
    memset(&broken, 0, sizeof(broken));
    broken.below = memory_io_table(disk);
    nphd_io table = *broken.below;
    table.read = broken_read;
    table.write = broken_write;
    return table;
}

static void test_claims(void **state)
{
    memory_io *disk = memory_io_create(1);
    const nphd_io table = make_broken(disk);
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_sharded_options directory = NPHD_SHARDED_OPTIONS_INIT;
    nphd_sharded *sharded = NULL;
    nphd_index *index = NULL;
    nphd_error err = NPHD_ERROR_INIT;
    const uint8_t bits[8] = {1};
    const nphd_vector vector = {bits, 8};
    nphd_batch_options over = NPHD_BATCH_OPTIONS_INIT;

    (void)state;
    over.overwrite = true; /* the file is not read first */
    options.io = &table;
    OK(nphd_index_create(&options, &index, NULL));
    OK(nphd_index_add(index, nphd_key_u64(1), vector, NULL, NULL));
    OK(nphd_index_save(index, "file", NULL, NULL));
    directory.io = &table;
    directory.journal = true;
    OK(nphd_sharded_open("d", &directory, &sharded, NULL));
    OK(nphd_sharded_add(sharded, nphd_key_u64(1), vector, NULL, NULL));
    OK(nphd_sharded_save(sharded, NULL, NULL));
    for (int nothing = 0; nothing < 2; nothing++) {
        broken.nothing = nothing != 0;
        broken.claimed = nothing != 0 ? 0 : 7;
        assert_int_equal(nphd_index_save(index, "file", &over, &err), NPHD_IO);
        assert_non_null(strstr(err.text, "file.tmp-"));
        assert_int_equal(memory_io_count(disk, "file"), 1);
        /* a file that ends inside what it should have is damaged, one that has more a bad table */
        assert_int_equal(nphd_index_load(index, "file", NULL, &err),
                         nothing != 0 ? NPHD_CORRUPT : NPHD_IO);
        assert_non_null(strstr(err.text, "file"));
        OK(nphd_sharded_upsert(sharded, &(nphd_key){0, 2 + (uint64_t)nothing}, &vector, 1, NULL,
                               NULL, NULL));
        assert_int_equal(nphd_sharded_commit(sharded, &err), NPHD_IO);
        assert_non_null(strstr(err.text, "d/journal_"));
        broken.nothing = false;
        broken.claimed = 0;
        OK(nphd_sharded_commit(sharded, NULL)); /* a save */
    }
    assert_int_equal(nphd_index_size(index), 1);
    nphd_index_close(index);
    nphd_sharded_free(sharded);
    OK(nphd_sharded_open("d", &directory, &sharded, NULL));
    assert_int_equal(nphd_sharded_size(sharded), 3);
    nphd_sharded_free(sharded);
    assert_int_equal(memory_io_open_files(disk), 0);
    memory_io_destroy(disk);
}

/* ---- directories ---- */

/* Answers so often as if the directory had been made, and it is gone before the next one in it. */
static int vanishing_make(void *context, const char *path)
{
    broken.made++;
    if (strcmp(path, "a/b/c") == 0 || (broken.made > 2 && strcmp(path, "a/b") == 0)) {
        return ENOENT;
    }
    return broken.below->make_directory(context, path);
}

static int ignore_sync(void *context, const char *path)
{
    (void)context;
    (void)path;
    return 0;
}

static void test_directory_that_vanishes(void **state)
{
    memory_io *disk = memory_io_create(1);
    nphd_error err = NPHD_ERROR_INIT;
    nphd_io table = make_broken(disk);

    (void)state;
    table.make_directory = vanishing_make;
    table.sync_directory = ignore_sync;
    assert_int_equal(nphdi_directory_make(&table, "a/b/c", nphdi_allocator_system(), &err),
                     NPHD_NOT_FOUND);
    assert_non_null(strstr(err.text, "a/b/c: a directory vanished"));
    memory_io_destroy(disk);
}

/* A file in the place of a directory is told as that, also where the look is interrupted at first;
 * one that is interrupted for ever counts as a directory, and what follows fails. */
static void test_probing_is_interrupted(void **state)
{
    static const char *const paths[] = {"a", "a/b"};
    memory_io *disk = memory_io_create(1);
    io_fault fault;

    (void)state;
    io_fault_init(&fault, memory_io_table(disk));
    OK((nphd_status)fault.table.make_directory(fault.table.context, "a"));
    for (size_t i = 0; i < 2; i++) {
        if (i == 1) {
            memory_io_put(disk, "a/b", "file", 4);
        }
        for (int for_ever = 0; for_ever < 2; for_ever++) {
            nphd_error err = NPHD_ERROR_INIT;
            io_fault_arm(&fault, IO_FAULT_LIST, 1, EINTR, for_ever != 0);
            const nphd_status status =
                nphdi_directory_make(&fault.table, paths[i], nphdi_allocator_system(), &err);
            io_fault_disarm(&fault);
            if (i == 0) {
                assert_int_equal(status, NPHD_OK);
            } else if (for_ever == 0) {
                assert_int_equal(status, NPHD_EXISTS);
                assert_non_null(strstr(err.text, "a/b: a file of that name"));
            }
            assert_true(fault.failed > 0);
        }
    }
    io_fault_destroy(&fault);
    memory_io_destroy(disk);
}

static void test_listing_is_interrupted(void **state)
{
    memory_io *disk = memory_io_create(1);
    nphd_error err = NPHD_ERROR_INIT;
    nphdi_names names;
    io_fault fault;

    (void)state;
    memory_io_put(disk, "d/one", "", 0);
    memory_io_put(disk, "d/two", "", 0);
    io_fault_init(&fault, memory_io_table(disk));
    io_fault_arm(&fault, IO_FAULT_LIST, 1, EINTR, false);
    OK(nphdi_directory_list(&fault.table, "d", nphdi_allocator_system(), &names, NULL));
    assert_int_equal(names.count, 2); /* none twice */
    nphdi_names_free(&names);
    io_fault_arm(&fault, IO_FAULT_LIST, 1, EINTR, true);
    assert_int_equal(
        nphdi_directory_list(&fault.table, "d", nphdi_allocator_system(), &names, &err), NPHD_IO);
    assert_int_equal(err.os_error, EINTR);
    assert_non_null(strstr(err.text, "d: cannot list"));
    assert_int_equal(names.count, 0);
    io_fault_destroy(&fault);
    memory_io_destroy(disk);
}

/* A table that goes on after our answer and says that all is well: memory was short all the same.
 */
static int deaf_list(void *context, const char *path,
                     int (*visit)(void *visit_context, const char *name), void *visit_context)
{
    (void)context;
    (void)path;
    (void)visit(visit_context, "one");
    return broken.made; /* an errno */
}

static void *no_memory(void *context, size_t bytes)
{
    (void)context;
    (void)bytes;
    return NULL;
}

static void test_listing_without_memory(void **state)
{
    memory_io *disk = memory_io_create(1);
    nphd_allocator allocator = *nphdi_allocator_system();
    nphd_io table = *memory_io_table(disk);
    nphd_error err = NPHD_ERROR_INIT;
    nphdi_names names;

    (void)state;
    table.list = deaf_list;
    allocator.allocate = no_memory;
    for (int interrupted = 0; interrupted < 2; interrupted++) {
        broken.made = interrupted != 0 ? EINTR : 0;
        err = (nphd_error)NPHD_ERROR_INIT;
        assert_int_equal(nphdi_directory_list(&table, "d", &allocator, &names, &err),
                         NPHD_OUT_OF_MEMORY);
        assert_int_equal(err.status, NPHD_OUT_OF_MEMORY);
    }
    memory_io_destroy(disk);
}

/* A place that may be passed through but not opened: EPERM as EACCES. */
static void test_foreign_parents(void **state)
{
    static const int errors[] = {EACCES, EPERM};
    memory_io *disk = memory_io_create(1);
    io_fault fault;

    (void)state;
    io_fault_init(&fault, memory_io_table(disk));
    OK((nphd_status)fault.table.make_directory(fault.table.context, "a"));
    for (size_t i = 0; i < 2; i++) {
        nphd_error err = NPHD_ERROR_INIT;
        io_fault_arm(&fault, IO_FAULT_SYNC_DIRECTORY, 1, errors[i], true);
        OK(nphdi_directory_make(&fault.table, "a", nphdi_allocator_system(), NULL));
        assert_int_equal(nphdi_directory_make(&fault.table, i == 0 ? "a/b" : "a/c",
                                              nphdi_allocator_system(), &err),
                         NPHD_IO);
        assert_int_equal(err.os_error, errors[i]);
    }
    io_fault_destroy(&fault);
    memory_io_destroy(disk);
}

/* ---- removing ---- */

static void test_removing(void **state)
{
    memory_io *disk = memory_io_create(1);
    nphd_error err = NPHD_ERROR_INIT;
    io_fault fault;
    char *path = malloc(5002);

    (void)state;
    assert_non_null(path);
    io_fault_init(&fault, memory_io_table(disk));
    memset(path, 'x', 5001);
    path[4990] = '/';
    path[5001] = '\0';
    assert_int_equal(nphdi_file_remove(&fault.table, path, true, &err), NPHD_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, "the path is too long: xxx"));
    /* without a folder: that of the program is flushed */
    memory_io_put(disk, "name", "", 0);
    OK(nphdi_file_remove(&fault.table, "name", true, NULL));
    assert_int_equal(memory_io_count(disk, NULL), 0);
    OK(nphdi_file_remove(&fault.table, "name", true, NULL)); /* it need not be there */
    /* nor its folder; but one that cannot be flushed is told */
    io_fault_arm(&fault, IO_FAULT_SYNC_DIRECTORY, 1, ENOENT, true);
    OK(nphdi_file_remove(&fault.table, "gone/name", true, NULL));
    memory_io_put(disk, "name", "", 0);
    assert_int_equal(nphdi_file_remove(&fault.table, "name", true, &err), NPHD_DURABILITY_UNKNOWN);
    assert_int_equal(err.status, NPHD_DURABILITY_UNKNOWN);
    io_fault_arm(&fault, IO_FAULT_SYNC_DIRECTORY, 1, EIO, true);
    assert_int_equal(nphdi_file_remove(&fault.table, "gone/name", true, NULL),
                     NPHD_DURABILITY_UNKNOWN);
    io_fault_arm(&fault, IO_FAULT_SYNC_DIRECTORY, 1, EINVAL, true);
    OK(nphdi_file_remove(&fault.table, "gone/name", true, NULL));
    io_fault_destroy(&fault);
    memory_io_destroy(disk);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_claims),
        cmocka_unit_test(test_directory_that_vanishes),
        cmocka_unit_test(test_probing_is_interrupted),
        cmocka_unit_test(test_listing_is_interrupted),
        cmocka_unit_test(test_listing_without_memory),
        cmocka_unit_test(test_foreign_parents),
        cmocka_unit_test(test_removing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
