/* Saves behind a flush of the directory that failed, of a shard that never got its file, by the
 * thread that commits, and of a filter that grew a long chain; compactions that are stopped; the
 * breadths that a reader keeps. */
#include "formats/shard_record.h"
#include "index/index_shard.h"
#include "sharded/sharded_internal.h"
#include "support/bloom_bytes.h"
#include "support/directory_lab.h"
#include "support/io_watched.h"

#include <errno.h>
#include <time.h>

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

/* The first answer of a flush is the one that counts: it is never asked for again in the same call,
 * by a commit, a save behind a flush that failed, a snapshot or an opening. What could not be
 * flushed is told, and the next call does it. */
static void test_interrupted_flushes(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_error err = NPHD_ERROR_INIT;

    options.journal = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_commit(sharded, NULL));
    dirlab_add(lab, sharded, 10, 20);
    io_fault_arm(&lab->fault, IO_FAULT_SYNC_DIRECTORY, 1, EINTR, false); /* of a new journal */
    assert_int_equal(nphd_sharded_commit(sharded, &err), NPHD_IO);
    assert_int_equal(lab->fault.calls, 1);
    assert_int_equal(err.os_error, EINTR);
    OK(nphd_sharded_commit(sharded, NULL));
    dirlab_upsert(lab, sharded, 1, 1);
    for (uint64_t n = 2; n > 0; n--) {
        /* behind that of the filter that of the shard; then the one that makes up for it */
        io_fault_arm(&lab->fault, IO_FAULT_SYNC_DIRECTORY, 2, EINTR, false);
        assert_int_equal(nphd_sharded_save(sharded, NULL, &err), NPHD_DURABILITY_UNKNOWN);
        assert_int_equal(lab->fault.calls, 2);
        assert_int_equal(err.os_error, EINTR);
    }
    io_fault_disarm(&lab->fault);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    options.read_only = true;
    sharded = dirlab_open(lab, &options);
    bool interrupted = false;
    for (uint64_t n = 1; !interrupted; n++) {
        /* the last of a snapshot is that of the new directory, behind those that make it */
        io_fault_arm(&lab->fault, IO_FAULT_SYNC_DIRECTORY, n, EINTR, false);
        const char copy[] = {'c', (char)('0' + n), '\0'};
        const nphd_status status = nphd_sharded_snapshot(sharded, copy, &err);
        assert_int_equal(lab->fault.failed, 1);
        assert_int_equal(status, NPHD_IO);
        assert_int_equal(err.os_error, EINTR);
        interrupted = strstr(err.text, ": flush of the directory") != NULL;
    }
    io_fault_disarm(&lab->fault);
    dirlab_close(sharded);
    options.read_only = false;
    io_fault_arm(&lab->fault, IO_FAULT_SYNC_DIRECTORY, 1, EINTR, false);
    dirlab_refused(lab, &options, NPHD_IO, "cannot flush the directory", NULL);
    assert_int_equal(lab->fault.calls, 1);
    io_fault_disarm(&lab->fault);
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* Some file systems cannot flush a directory and say so: all works, as sure as it can be. */
static void test_directories_that_cannot_be_flushed(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);

    options.journal = true;
    io_fault_arm(&lab->fault, IO_FAULT_SYNC_DIRECTORY, 1, EINVAL, true);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    dirlab_add(lab, sharded, 10, 20);
    OK(nphd_sharded_commit(sharded, NULL)); /* a new journal */
    OK(nphd_sharded_snapshot(sharded, "copy", NULL));
    dirlab_expect(lab, sharded);
    nphd_sharded_free(sharded);
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    assert_true(lab->fault.failed > 4);
    io_fault_disarm(&lab->fault);
    options = dirlab_options(lab);
    options.read_only = true;
    OK(nphd_sharded_open("copy", &options, &sharded, NULL));
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

typedef struct vanishing {
    watched_io io;
    uint64_t gone; /* so many times the first shard is not there any more when it is opened */
} vanishing;

static int open_vanishing(void *context, const char *path, int how, nphd_file *out)
{
    vanishing *of = context;

    if (strstr(path, "shard_000.usearch") != NULL && of->gone > 0) {
        of->gone--;
        return ENOENT;
    }
    return of->io.below->open(of->io.below->context, path, how, out);
}

/* A fast writer takes the first file away between each listing and each look: while stamping,
 * while opening, and while stamping again. That is no answer, however often it is the same. */
static void test_first_shard_goes_away(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded_options looking = dirlab_options(lab);
    nphd_error err = NPHD_ERROR_INIT;
    nphd_sharded *reader = NULL;
    bool changed = false;
    vanishing of;

    watched_init(&of.io, &lab->fault.table);
    of.io.table.open = open_vanishing;
    looking.io = &of.io.table;
    looking.read_only = true;
    nphd_sharded *writer = dirlab_open(lab, &options);
    dirlab_add(lab, writer, 0, 10);
    OK(nphd_sharded_rotate(writer, NULL));
    for (uint64_t times = 0; times < 20; times++) {
        of.gone = times;
        reader = dirlab_open(lab, &looking);
        dirlab_expect(lab, reader);
        dirlab_add(lab, writer, 10 + times, 11 + times);
        OK(nphd_sharded_save(writer, NULL, NULL));
        of.gone = times;
        OK(nphd_sharded_refresh(reader, &changed, NULL));
        assert_true(changed);
        dirlab_expect(lab, reader);
        dirlab_close(reader);
    }
    /* a name that leads nowhere stays so */
    of.gone = UINT64_MAX;
    assert_int_equal(nphd_sharded_open(DIRLAB_FOLDER, &looking, &reader, &err), NPHD_NOT_FOUND);
    assert_non_null(strstr(err.text, "shard_000.usearch"));
    dirlab_close(writer);
}

/* ---- compaction ---- */

typedef struct stopping {
    uint64_t calls;
    uint64_t stop_at;
} stopping;

static int count_calls(void *context, uint64_t done, uint64_t total)
{
    stopping *of = context;

    assert_true(done <= total);
    return ++of->calls == of->stop_at ? 1 : 0;
}

/* Behind each of its steps; what was done stays done, and the next one does the rest. */
static void test_stopped_compaction(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_batch_options batch = NPHD_BATCH_OPTIONS_INIT;
    stopping of = {0, 0};
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status = NPHD_CANCELLED;

    batch.progress = count_calls;
    batch.progress_context = &of;
    options.tables = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    for (uint64_t shard = 0; shard < 3; shard++) {
        dirlab_add(lab, sharded, 10 * shard, 10 * shard + 10);
        OK(nphd_sharded_rotate(sharded, NULL));
    }
    for (uint64_t shard = 0; shard < 3; shard++) {
        dirlab_remove(lab, sharded, 10 * shard);
    }
    dirlab_close(sharded);
    options.shard_bytes = 1; /* each shard for itself */
    for (uint64_t stop_at = 1; status != NPHD_OK; stop_at++) {
        memory_io *disk = memory_io_crash(lab->disk, MEMORY_IO_ORDERED, 1);
        options.io = memory_io_table(disk);
        sharded = dirlab_open(lab, &options);
        of = (stopping){0, stop_at};
        status = nphd_sharded_compact(sharded, &batch, NULL, &err);
        if (status != NPHD_OK) {
            assert_int_equal(status, NPHD_CANCELLED);
            assert_non_null(strstr(err.text, "cancelled by the progress callback"));
            assert_int_equal(of.calls, stop_at);
        }
        dirlab_expect(lab, sharded);
        OK(nphd_sharded_compact(sharded, NULL, NULL, NULL));
        assert_int_equal(dirlab_stats(sharded).dead, 0);
        assert_int_equal(dirlab_stats(sharded).tombstones, 0);
        dirlab_close(sharded);
        sharded = dirlab_open(lab, &options);
        dirlab_expect(lab, sharded);
        dirlab_close(sharded);
        memory_io_destroy(disk);
    }
    assert_true(of.calls >= 3);
}

/* ---- the thread that commits ---- */

/* Until something is told, or (NULL) all is saved; a minute is enough for any machine. */
static void wait_until(dirlab *lab, nphd_sharded *sharded, const char *told)
{
    const struct timespec moment = {0, 1000000};
    bool done = false;

    for (int i = 0; i < 60000 && !done; i++) {
        (void)nanosleep(&moment, NULL);
        (void)pthread_mutex_lock(&lab->log_lock);
        done = told != NULL ? strstr(lab->log, told) != NULL : nphd_sharded_dirty(sharded) == 0;
        (void)pthread_mutex_unlock(&lab->log_lock);
    }
    assert_true(done);
}

/* The first commit of a new index is a save, by the thread too; one that fails is told, and tried
 * again. */
static void test_commits_by_time(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);

    options.commit_interval_ms = 1;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 0, 10);
    dirlab_wait_for_commit(sharded); /* some of them with the save, others behind it */
    assert_true(dirlab_exists(lab, "shard_000.usearch"));
    io_fault_arm(&lab->fault, IO_FAULT_SYNC, 1, EIO, true);
    dirlab_add(lab, sharded, 10, 20);
    wait_until(lab, sharded, "commit: ");
    io_fault_disarm(&lab->fault);
    wait_until(lab, sharded, NULL); /* a save, behind a flush that failed */
    nphd_sharded_free(sharded);
    options.read_only = true;
    for (uint32_t ms = 0; ms < 2; ms++) {
        options.commit_interval_ms = ms;
        const uint64_t before = memory_io_fingerprint(lab->disk);
        sharded = dirlab_open(lab, &options);
        assert_false(sharded->journal.thread_runs); /* there is nothing that it could commit */
        dirlab_expect(lab, sharded);
        dirlab_close(sharded);
        assert_true(before == memory_io_fingerprint(lab->disk));
    }
}

/* The records of the shards that a compaction wrote are of a time with tombstones, or of other
 * shards: the empty head with the right one stays, also where no filter needs it. */
static void test_head_behind_a_compaction(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);

    options.no_bloom = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    for (uint64_t key = 0; key < 30; key += 10) {
        dirlab_add(lab, sharded, key, key + 10);
        OK(nphd_sharded_rotate(sharded, NULL));
    }
    dirlab_remove(lab, sharded, 2);
    dirlab_remove(lab, sharded, 13);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    assert_true(dirlab_exists(lab, "tombstones.npy"));
    assert_true(dirlab_exists(lab, "shard_003.usearch"));
    OK(nphd_sharded_compact(sharded, NULL, NULL, NULL));
    assert_false(dirlab_exists(lab, "tombstones.npy"));
    assert_true(dirlab_exists(lab, "shard_003.usearch"));
    dirlab_expect(lab, sharded);
    nphd_sharded_free(sharded); /* nothing waits for a save */
    options.read_only = true;
    sharded = dirlab_open(lab, &options);
    assert_int_equal(dirlab_stats(sharded).tombstones, 0);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    OK(nphd_directory_verify(DIRLAB_FOLDER, &lab->fault.table, NULL, NULL, NULL, NULL));
}

/* One that is written because a file of deletions has to go is not needed behind that. */
static void test_head_for_a_left_tombstone_file(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);

    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_remove(lab, sharded, 2);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    dirlab_copy(lab, "tombstones.npy", "kept");
    OK(nphd_sharded_compact(sharded, NULL, NULL, NULL));
    dirlab_add(lab, sharded, 10, 20);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_close(sharded);
    assert_false(dirlab_exists(lab, "tombstones.npy"));
    assert_false(dirlab_exists(lab, "shard_002.usearch"));
    dirlab_copy(lab, "kept", "tombstones.npy");
    options.shard_bytes = 1; /* the last shard is full */
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    assert_false(dirlab_exists(lab, "tombstones.npy"));
    assert_false(dirlab_exists(lab, "shard_002.usearch"));
    nphd_sharded_free(sharded);
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    OK(nphd_directory_verify(DIRLAB_FOLDER, &lab->fault.table, NULL, NULL, NULL, NULL));
}

static void test_names_of_journals(void **state)
{
    static const char *const others[] = {
        "journal_",  "journal_x0000001",  "journal_/0000001",  "journal_:0000001",
        "journal_1", "journal_000000001", "journal_00000001x", "journals_00000001"};
    uint64_t sequence = 9;

    (void)state;
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        assert_false(nphdi_journal_is_name(others[i], &sequence));
    }
    assert_true(nphdi_journal_is_name("journal_00000017", &sequence));
    assert_int_equal(sequence, 17);
    assert_true(nphdi_journal_is_name("journal_123456789", &sequence));
    assert_int_equal(sequence, 123456789);
}

/* ---- the filter ---- */

/* The filter of the index as a chain of small ones, as if it had grown for long. */
static void put_long_chain(dirlab *lab)
{
    const nphd_allocator *allocator = &lab->allocator.table;
    const nphd_io *io = memory_io_table(lab->disk);
    uint8_t section[NPHDI_FILTER_SECTION_BYTES];
    const nphdi_extra_section extra = {NPHDI_SECTION_FILTER, 0, section, sizeof(section)};
    nphdi_bloom *bloom = bloom_bytes_create(allocator, 8, 8, 0.01, 2.0);
    nphdi_trailed_file file;
    nphdi_trailer trailer;
    bloom_bytes bytes;
    bool found = false;

    assert_non_null(bloom);
    for (size_t i = 0; i < lab->items.count; i++) {
        OK(nphdi_bloom_reserve(bloom, 1, NULL));
        nphdi_bloom_add(bloom, lab->items.items[i].key);
    }
    assert_true(nphdi_bloom_filters(bloom) > 2);
    memset(&bytes, 0, sizeof(bytes));
    OK(bloom_bytes_write(bloom, &bytes, NULL));
    OK(nphdi_file_trailer(io, dirlab_path("bloom.isbf"), &trailer, &found, NULL));
    assert_true(found);
    nphdi_filter_section_encode(0, false, section);
    memset(&file, 0, sizeof(file));
    OK(nphdi_trailed_begin(&file, io, allocator, dirlab_path("bloom.isbf"), bytes.bytes, &extra, 1,
                           NULL));
    OK(nphdi_trailed_put(&file, bytes.data, bytes.bytes, NULL));
    OK(nphdi_trailed_commit(&file, trailer.identity, trailer.generation, NULL));
    nphdi_trailed_end(&file);
    bloom_bytes_free(&bytes);
    nphdi_bloom_close(bloom);
}

/* One that was made anew is written by the next save, also where nothing else is new. */
static void test_filter_alone(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    nphd_error err = NPHD_ERROR_INIT;

    dirlab_add(lab, sharded, 0, 10);
    dirlab_close(sharded);
    dirlab_delete(lab, "bloom.isbf");
    sharded = dirlab_open(lab, &options);
    io_fault_arm(&lab->fault, IO_FAULT_WRITE, 1, ENOSPC, false);
    assert_int_equal(nphd_sharded_save(sharded, NULL, &err), NPHD_NO_SPACE);
    io_fault_arm(&lab->fault, IO_FAULT_WRITE, UINT64_MAX, EIO, false);
    assert_non_null(strstr(err.text, "bloom.isbf"));
    assert_false(dirlab_exists(lab, "bloom.isbf"));
    OK(nphd_sharded_save(sharded, NULL, NULL));
    const uint64_t writes = lab->fault.calls;
    assert_true(writes > 0);
    assert_true(dirlab_exists(lab, "bloom.isbf"));
    OK(nphd_sharded_save(sharded, NULL, NULL)); /* once */
    assert_int_equal(lab->fault.calls, writes);
    io_fault_disarm(&lab->fault);
    dirlab_close(sharded);
    dirlab_forget_log(lab);
    sharded = dirlab_open(lab, &options);
    assert_string_equal(lab->log, "");
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* A save and a rotation make it anew in one piece; without memory for that they fail and change
 * nothing. */
static void test_long_chain(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    dirlab_add(lab, sharded, 0, 60);
    dirlab_close(sharded);
    put_long_chain(lab);
    for (int rotation = 0; rotation < 2; rotation++) {
        bool failed = true;
        for (uint64_t n = 1; failed; n++) {
            memory_io *disk = memory_io_crash(lab->disk, MEMORY_IO_ORDERED, 1);
            nphd_sharded_options once = options;
            once.io = memory_io_table(disk);
            dirlab_forget_log(lab);
            sharded = dirlab_open(lab, &once);
            assert_string_equal(lab->log, "");
            dirlab_add(lab, sharded, 1000, 1001);
            const uint64_t long_bytes = dirlab_stats(sharded).bloom_bytes;
            allocator_fault_arm(&lab->allocator, ALLOCATOR_FAULT_ALL, n, false);
            const nphd_status status = rotation != 0 ? nphd_sharded_rotate(sharded, NULL)
                                                     : nphd_sharded_save(sharded, NULL, NULL);
            failed = lab->allocator.failed > 0;
            allocator_fault_arm(&lab->allocator, ALLOCATOR_FAULT_ALL, 0, false);
            assert_true(status == NPHD_OK || (failed && status == NPHD_OUT_OF_MEMORY));
            dirlab_expect(lab, sharded);
            if (status == NPHD_OK) { /* it is no chain of small ones any more */
                assert_true(dirlab_stats(sharded).bloom_bytes > long_bytes);
            }
            dirlab_close(sharded);
            dirlab_drop(&lab->items, nphd_key_u64(1000));
            memory_io_destroy(disk);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_unsure_directory),
        DIRLAB_TEST(test_shard_without_a_file),
        DIRLAB_TEST(test_breadths_of_a_reader),
        DIRLAB_TEST(test_first_shard_goes_away),
        DIRLAB_TEST(test_stopped_compaction),
        DIRLAB_TEST(test_commits_by_time),
        DIRLAB_TEST(test_names_of_journals),
        DIRLAB_TEST(test_long_chain),
        DIRLAB_TEST(test_directories_that_cannot_be_flushed),
        DIRLAB_TEST(test_interrupted_flushes),
        DIRLAB_TEST(test_head_behind_a_compaction),
        DIRLAB_TEST(test_head_for_a_left_tombstone_file),
        DIRLAB_TEST(test_filter_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
