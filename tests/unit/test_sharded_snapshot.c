/* Snapshots: a copy that opens with exactly the state of the moment, and stays so. */
#include "support/directory_content.h"
#include "support/directory_lab.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>

#define OK(call) assert_int_equal((call), NPHD_OK)
#define COPY "copy"

static nphd_sharded *open_copy(dirlab *lab, const char *path, bool read_only)
{
    nphd_sharded_options options = dirlab_options(lab);
    nphd_sharded *sharded = NULL;
    nphd_error err = NPHD_ERROR_INIT;

    options.read_only = read_only;
    options.journal = !read_only;
    if (nphd_sharded_open(path, &options, &sharded, &err) != NPHD_OK) {
        fail_msg("%s: %s", path, err.text);
    }
    return sharded;
}

static void expect_copy(dirlab *lab, const char *path, const directory_content *expected)
{
    nphd_directory_report report;
    nphd_sharded *sharded = open_copy(lab, path, true);

    content_expect(sharded, expected);
    dirlab_close(sharded);
    OK(nphd_directory_verify(path, &lab->fault.table, NULL, NULL, &report, NULL));
}

static void fill(dirlab *lab, nphd_sharded *sharded)
{
    dirlab_add(lab, sharded, 0, 50);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 50, 70);
    dirlab_remove(lab, sharded, 7);
    dirlab_upsert(lab, sharded, 8, 1);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    dirlab_add(lab, sharded, 70, 80);
    OK(nphd_sharded_commit(sharded, NULL));
    dirlab_remove(lab, sharded, 60);
}

/* ---- from a writer ---- */

static void test_of_a_writer(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_with_journal(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    directory_content then = {NULL, 0, 0, 0};
    nphd_error err = NPHD_ERROR_INIT;

    fill(lab, sharded);
    OK(nphd_sharded_snapshot(sharded, COPY, NULL));
    content_take(sharded, &then);
    expect_copy(lab, COPY, &then);
    assert_int_equal(memory_io_count(lab->disk, COPY "/lock"), 1); /* with its head */
    assert_int_equal(nphd_sharded_snapshot(sharded, COPY, &err), NPHD_EXISTS);
    assert_non_null(strstr(err.text, COPY));
    /* what happens to the one does not happen to the other, though they share files */
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_upsert(lab, sharded, 9, 1);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    OK(nphd_sharded_compact(sharded, NULL, NULL, NULL));
    expect_copy(lab, COPY, &then);
    nphd_sharded *copy = open_copy(lab, COPY, false);
    const nphd_key key = nphd_key_u64(3);
    OK(nphd_sharded_remove(copy, &key, 1, NULL, NULL));
    OK(nphd_sharded_compact(copy, NULL, NULL, NULL));
    dirlab_close(copy);
    dirlab_expect(lab, sharded);
    OK(nphd_sharded_reset(sharded, NULL));
    lab->items.count = 0;
    dirlab_close(sharded);
    copy = open_copy(lab, COPY, true);
    assert_int_equal(nphd_sharded_size(copy), then.count - 1);
    dirlab_close(copy);
    content_free(&then);
}

static void test_arguments(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = dirlab_open(lab, NULL);
    directory_content then = {NULL, 0, 0, 0};

    assert_int_equal(nphd_sharded_snapshot(sharded, NULL, NULL), NPHD_INVALID_ARGUMENT);
    assert_int_equal(nphd_sharded_snapshot(sharded, "", NULL), NPHD_INVALID_ARGUMENT);
    dirlab_add(lab, sharded, 0, 5);
    memory_io_put(lab->disk, "full/anything", "x", 1);
    assert_int_equal(nphd_sharded_snapshot(sharded, "full", NULL), NPHD_EXISTS);
    assert_int_equal(memory_io_count(lab->disk, "full/"), 1);
    assert_int_equal(nphd_sharded_snapshot(sharded, DIRLAB_FOLDER, NULL), NPHD_EXISTS);
    OK(lab->fault.table.make_directory(lab->fault.table.context, "empty"));
    OK(nphd_sharded_snapshot(sharded, "empty", NULL));
    OK(nphd_sharded_snapshot(sharded, "new/below", NULL));
    content_take(sharded, &then);
    expect_copy(lab, "empty", &then);
    expect_copy(lab, "new/below", &then);
    OK(nphd_sharded_close(sharded, NULL));
    assert_int_equal(nphd_sharded_snapshot(sharded, "other", NULL), NPHD_CLOSED);
    nphd_sharded_free(sharded);
    content_free(&then);
}

/* ---- where storage cannot be shared ---- */

static int no_copy(void *context, const char *from, const char *to)
{
    (void)context;
    (void)from;
    (void)to;
    return EOPNOTSUPP;
}

static int other_disk(void *context, const char *from, const char *to)
{
    (void)context;
    (void)from;
    (void)to;
    return EXDEV;
}

static void test_without_sharing(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_with_journal(lab);
    int (*const copies[])(void *, const char *, const char *) = {no_copy, other_disk};
    int (*const shared)(void *, const char *, const char *) = lab->fault.table.copy;
    directory_content then = {NULL, 0, 0, 0};

    for (size_t i = 0; i < 2; i++) {
        char path[16];
        (void)snprintf(path, sizeof(path), "copy%zu", i);
        lab->fault.table.copy = copies[i];
        nphd_sharded *sharded = dirlab_open(lab, &options);
        dirlab_add(lab, sharded, 1000 * i, 1000 * i + 20);
        OK(nphd_sharded_rotate(sharded, NULL));
        dirlab_remove(lab, sharded, 1000 * i + 2);
        OK(nphd_sharded_snapshot(sharded, path, NULL));
        content_take(sharded, &then);
        dirlab_close(sharded);
        expect_copy(lab, path, &then);
    }
    lab->fault.table.copy = shared;
    content_free(&then);
}

/* Whichever call fails, nothing happens to the index, and what is in the copy does no harm. */
static void test_failing_calls(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_with_journal(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    uint64_t failed = 1;

    fill(lab, sharded);
    for (uint64_t number = 1; failed > 0; number++) {
        char path[32];
        (void)snprintf(path, sizeof(path), "copy%llu", (unsigned long long)number);
        dirlab_upsert(lab, sharded, 1, (uint8_t)number);
        io_fault_arm(&lab->fault, IO_FAULT_ALL & ~IO_FAULT_CLOSE, number, EIO, false);
        const nphd_status status = nphd_sharded_snapshot(sharded, path, NULL);
        io_fault_disarm(&lab->fault);
        failed = lab->fault.failed;
        assert_true(failed > 0 || status == NPHD_OK);
        dirlab_expect(lab, sharded);
    }
    dirlab_close(sharded);
    nphd_sharded *again = dirlab_open(lab, &options);
    dirlab_expect(lab, again);
    dirlab_close(again);
}

/* ---- from a reader, while a writer works ---- */

typedef struct writing {
    nphd_sharded *sharded;
    atomic_bool stop;
    atomic_int failed;
} writing;

/* Keys round..round+49 are there in every state that can be copied. */
static void *write_rounds(void *context)
{
    writing *of = context;
    uint8_t bits[8];

    for (uint64_t round = 0; !atomic_load(&of->stop); round++) {
        const nphd_key gone = nphd_key_u64(round);
        nphd_status status = nphd_sharded_add(of->sharded, nphd_key_u64(round + 50),
                                              dirlab_vector(round + 50, 0, bits), NULL, NULL);
        status =
            status == NPHD_OK ? nphd_sharded_remove(of->sharded, &gone, 1, NULL, NULL) : status;
        if (status == NPHD_OK) {
            status = round % 8 == 0   ? nphd_sharded_rotate(of->sharded, NULL)
                     : round % 8 == 4 ? nphd_sharded_compact(of->sharded, NULL, NULL, NULL)
                                      : nphd_sharded_commit(of->sharded, NULL);
        }
        const struct timespec moment = {0, 300000};
        (void)nanosleep(&moment, NULL);
        (void)atomic_fetch_add(&of->failed, status == NPHD_OK ? 0 : 1);
    }
    return NULL;
}

static void test_of_a_reader(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_with_journal(lab);
    writing of = {dirlab_open(lab, &options), false, 0};
    directory_content content = {NULL, 0, 0, 0};
    pthread_t thread;
    size_t copied = 0;

    dirlab_add(lab, of.sharded, 0, 50);
    OK(nphd_sharded_save(of.sharded, NULL, NULL));
    nphd_sharded *reader = open_copy(lab, DIRLAB_FOLDER, true);
    assert_int_equal(pthread_create(&thread, NULL, write_rounds, &of), 0);
    for (size_t i = 0; i < 20; i++) {
        char path[16];
        (void)snprintf(path, sizeof(path), "copy%zu", i);
        const nphd_status status = nphd_sharded_snapshot(reader, path, NULL);
        assert_true(status == NPHD_OK || status == NPHD_BUSY);
        if (status == NPHD_OK) {
            nphd_sharded *copy = open_copy(lab, path, true);
            content_take(copy, &content);
            dirlab_close(copy);
            assert_int_equal(content.count, 50);
            assert_int_equal(content.entries[49].key.low - content.entries[0].key.low, 49);
            copied++;
        }
    }
    atomic_store(&of.stop, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(atomic_load(&of.failed), 0);
    assert_true(copied > 0);
    /* at rest it is the newest state, whatever the reader itself has open */
    OK(nphd_sharded_snapshot(reader, "rest", NULL));
    content_take(of.sharded, &content);
    expect_copy(lab, "rest", &content);
    dirlab_close(reader);
    dirlab_close(of.sharded);
    content_free(&content);
}

/* The writer goes on writing to its journal, and the copy does not change with it: what is in it is
 * what was there, and it can be written to in turn. */
static void test_journal_of_a_copy_stays(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_with_journal(lab);
    nphd_sharded *writer = dirlab_open(lab, &options);
    directory_content then = {NULL, 0, 0, 0};

    dirlab_add(lab, writer, 0, 20);
    OK(nphd_sharded_save(writer, NULL, NULL));
    dirlab_add(lab, writer, 20, 30);
    OK(nphd_sharded_commit(writer, NULL));
    content_take(writer, &then);
    nphd_sharded *reader = open_copy(lab, DIRLAB_FOLDER, true);
    OK(nphd_sharded_snapshot(reader, "copy", NULL));
    dirlab_close(reader);
    dirlab_add(lab, writer, 30, 40);
    OK(nphd_sharded_commit(writer, NULL));
    expect_copy(lab, "copy", &then);

    nphd_sharded *copy = open_copy(lab, "copy", false);
    OK(nphd_sharded_remove(copy, &then.entries[0].key, 1, NULL, NULL));
    OK(nphd_sharded_commit(copy, NULL));
    dirlab_close(copy);
    reader = open_copy(lab, DIRLAB_FOLDER, true);
    dirlab_expect(lab, reader);
    dirlab_close(reader);
    dirlab_close(writer);
    content_free(&then);
}

/* ---- interrupted ---- */

#define BESIDE COPY ".snapshot.tmp"

static void drop_copy(dirlab *lab)
{
    const nphd_io *io = memory_io_table(lab->disk);
    char name[64];

    for (size_t i = 0; memory_io_name(lab->disk, i, name, sizeof(name));) {
        if (strncmp(name, COPY "/", sizeof(COPY)) == 0) {
            assert_int_equal(io->remove(io->context, name), 0);
            i = 0;
        } else {
            i++;
        }
    }
    if (memory_io_has_directory(lab->disk, COPY)) {
        assert_int_equal(io->sync_directory(io->context, COPY), 0);
        assert_int_equal(io->remove_directory(io->context, COPY), 0);
        assert_int_equal(io->sync_directory(io->context, "."), 0);
    }
}

/* A directory with everything that is copied, and a reader of it. */
static nphd_sharded *open_full(dirlab *lab, bool journal, directory_content *then)
{
    const nphd_sharded_options options = dirlab_with_journal(lab);
    nphd_sharded_options reading = dirlab_options(lab);
    nphd_sharded *writer = dirlab_open(lab, &options);
    nphd_sharded *reader;

    fill(lab, writer);
    OK(nphd_sharded_rotate(writer, NULL));
    dirlab_add(lab, writer, 100, 110);
    OK(nphd_sharded_save(writer, NULL, NULL));
    dirlab_add(lab, writer, 110, 120);
    OK(journal ? nphd_sharded_commit(writer, NULL) : nphd_sharded_save(writer, NULL, NULL));
    nphd_sharded_free(writer);
    reading.read_only = true;
    reader = dirlab_open(lab, &reading);
    content_take(reader, then);
    return reader;
}

/* Whatever call fails, there is no such copy, or a whole one where only the last flush failed; what
 * could not be removed beside it goes with the next. */
static void interrupt(dirlab *lab, bool journal)
{
    directory_content then = {NULL, 0, 0, 0};
    nphd_sharded *reader = open_full(lab, journal, &then);
    size_t whole = 0;

    for (int for_ever = 0; for_ever < 2; for_ever++) {
        nphd_status status = NPHD_IO;
        for (uint64_t n = 1; status != NPHD_OK; n++) {
            io_fault_arm(&lab->fault, IO_FAULT_ALL & ~IO_FAULT_CLOSE, n, EIO, for_ever != 0);
            status = nphd_sharded_snapshot(reader, COPY, NULL);
            io_fault_disarm(&lab->fault);
            if (status == NPHD_OK || status == NPHD_DURABILITY_UNKNOWN) {
                expect_copy(lab, COPY, &then);
                whole += status == NPHD_OK ? 0 : 1;
            } else {
                assert_int_equal(memory_io_count(lab->disk, COPY "/"), 0);
                /* where removing did not fail nothing is left */
                assert_true(for_ever != 0 || lab->fault.failed_kinds == IO_FAULT_REMOVE ||
                            memory_io_count(lab->disk, BESIDE) == 0);
                OK(nphd_sharded_snapshot(reader, COPY, NULL));
                expect_copy(lab, COPY, &then);
            }
            assert_int_equal(memory_io_count(lab->disk, BESIDE), 0);
            drop_copy(lab);
        }
    }
    assert_true(whole > 0);
    nphd_sharded_free(reader);
    content_free(&then);
}

static void test_interrupted(void **state)
{
    interrupt(*state, false);
}

static void test_interrupted_with_a_journal(void **state)
{
    interrupt(*state, true);
}

/* Wherever the power goes, and then again while the next one clears what is left: a copy that is
 * there is whole. */
static void test_power_cut(void **state)
{
    dirlab *lab = *state;
    directory_content then = {NULL, 0, 0, 0};
    nphd_sharded *reader = open_full(lab, true, &then);
    nphd_sharded_options reading = dirlab_options(lab);
    nphd_status status = NPHD_IO;
    size_t copies = 0;

    reading.read_only = true;
    for (uint64_t operations = 0; status != NPHD_OK; operations++) {
        memory_io_cut_after(lab->disk, operations);
        status = nphd_sharded_snapshot(reader, COPY, NULL);
        for (uint64_t cut = 0; cut < 24; cut++) {
            memory_io *after = memory_io_crash(
                lab->disk, cut % 2 == 0 ? MEMORY_IO_WEAK : MEMORY_IO_ORDERED, cut / 2);
            nphd_sharded *copy = NULL;
            nphd_error err = NPHD_ERROR_INIT;
            reading.io = memory_io_table(after);
            if (memory_io_count(after, COPY "/") > 0) {
                if (nphd_sharded_open(COPY, &reading, &copy, &err) != NPHD_OK) {
                    fail_msg("after %llu operations: %s", (unsigned long long)operations, err.text);
                }
                content_expect(copy, &then);
                nphd_sharded_free(copy);
                copies++;
            } else {
                assert_int_not_equal(status, NPHD_OK);
            }
            memory_io_destroy(after);
        }
        memory_io_cut_after(lab->disk, UINT64_MAX);
        if (status != NPHD_OK) {
            drop_copy(lab); /* renamed, but not acknowledged */
        }
    }
    assert_true(copies >= 24);
    expect_copy(lab, COPY, &then);
    nphd_sharded_free(reader);
    content_free(&then);
}

/* What a killed one left goes; what somebody keeps in a directory of that name stays. */
static void test_left_beside(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = dirlab_open(lab, NULL);
    directory_content then = {NULL, 0, 0, 0};
    nphd_error err = NPHD_ERROR_INIT;
    static const char *const left[] = {
        "shard_000.usearch",
        "shard_001.usearch.tmp-0123456789abcdef",
        "bloom.isbf",
        "tombstones.npy",
        "lock",
        "journal_00000001",
        "journal_00000002.tmp-0123456789abcdef",
    };

    fill(lab, sharded);
    OK(lab->fault.table.make_directory(lab->fault.table.context, BESIDE));
    for (size_t i = 0; i < sizeof(left) / sizeof(left[0]); i++) {
        char name[80];
        (void)snprintf(name, sizeof(name), BESIDE "/%s", left[i]);
        memory_io_put(lab->disk, name, "junk", 4);
    }
    memory_io_put(lab->disk, BESIDE "/letter.txt", "dear", 4);
    assert_int_equal(nphd_sharded_snapshot(sharded, COPY, &err), NPHD_EXISTS);
    assert_non_null(strstr(err.text, "letter.txt"));
    assert_int_equal(memory_io_count(lab->disk, BESIDE "/"), 8);
    OK(lab->fault.table.remove(lab->fault.table.context, BESIDE "/letter.txt"));
    OK(nphd_sharded_snapshot(sharded, COPY, &err));
    assert_int_equal(memory_io_count(lab->disk, BESIDE), 0);
    content_take(sharded, &then);
    expect_copy(lab, COPY, &then);
    memory_io_put(lab->disk, "other.snapshot.tmp", "a file", 6);
    assert_int_not_equal(nphd_sharded_snapshot(sharded, "other", &err), NPHD_OK);
    assert_non_null(strstr(err.text, "other.snapshot.tmp"));
    assert_int_equal(memory_io_count(lab->disk, "other.snapshot.tmp"), 1);
    dirlab_close(sharded);
    content_free(&then);
}

/* A table of an older program has no such call: the copy is made under its own name. */
static void test_without_remove_directory(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded;
    directory_content then = {NULL, 0, 0, 0};

    lab->fault.table.remove_directory = NULL;
    sharded = dirlab_open(lab, NULL);
    fill(lab, sharded);
    io_fault_arm(&lab->fault, IO_FAULT_COPY, 2, EIO, false);
    assert_int_equal(nphd_sharded_snapshot(sharded, COPY, NULL), NPHD_IO);
    io_fault_disarm(&lab->fault);
    assert_int_equal(memory_io_count(lab->disk, COPY "/"), 0);
    OK(nphd_sharded_snapshot(sharded, COPY, NULL));
    content_take(sharded, &then);
    expect_copy(lab, COPY, &then);
    dirlab_close(sharded);
    content_free(&then);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_of_a_writer),
        DIRLAB_TEST(test_interrupted),
        DIRLAB_TEST(test_interrupted_with_a_journal),
        DIRLAB_TEST(test_power_cut),
        DIRLAB_TEST(test_left_beside),
        DIRLAB_TEST(test_without_remove_directory),
        DIRLAB_TEST(test_arguments),
        DIRLAB_TEST(test_without_sharing),
        DIRLAB_TEST(test_failing_calls),
        DIRLAB_TEST(test_of_a_reader),
        DIRLAB_TEST(test_journal_of_a_copy_stays),
    };

    return cmocka_run_group_tests_name("snapshots", tests, NULL, NULL);
}
