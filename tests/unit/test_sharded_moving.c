/* Readers and snapshots beside files that change at every look: they go on until the files were the
 * same before and after, and give up with an error, not with a mixture. And what opening does where
 * the system or the table refuses a lock or a thread. */
#include "support/directory_content.h"
#include "support/directory_lab.h"
#include "support/io_watched.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define OK(call) assert_int_equal((call), NPHD_OK)
#define COPY "copy"
#define FILTER "bloom.isbf"

/* ---- a table whose files change ---- */

/* The functions get the context of the table below, so that this stands beside it. */
static struct moving {
    const nphd_io *below;
    memory_io *disk;
    int changes;      /* that are still to come, one at each listing of the index */
    int copy_changes; /* one at each copy of a file */
    bool keep_copies; /* removing files fails */
    int hidden;       /* looks at the filter that find it gone */
} moving;

static void change_filter(void)
{
    size_t bytes = 0;
    uint8_t *data = memory_io_get(moving.disk, DIRLAB_FOLDER "/" FILTER, &bytes);

    data = realloc(data, bytes + 1);
    assert_non_null(data);
    data[bytes] = 0;
    memory_io_put(moving.disk, DIRLAB_FOLDER "/" FILTER, data, bytes + 1);
    free(data);
}

static int moving_list(void *context, const char *path,
                       int (*visit)(void *visit_context, const char *name), void *visit_context)
{
    if (moving.changes > 0 && strcmp(path, DIRLAB_FOLDER) == 0) {
        moving.changes--;
        change_filter();
    }
    return moving.below->list(context, path, visit, visit_context);
}

static int moving_copy(void *context, const char *from, const char *to)
{
    if (moving.copy_changes > 0) {
        moving.copy_changes--;
        change_filter();
    }
    return moving.below->copy(context, from, to);
}

static int moving_remove(void *context, const char *path)
{
    return moving.keep_copies ? EIO : moving.below->remove(context, path);
}

static int moving_open(void *context, const char *path, int how, nphd_file *out)
{
    if (moving.hidden > 0 && strcmp(path, DIRLAB_FOLDER "/" FILTER) == 0) {
        moving.hidden--;
        out->handle = -1;
        return ENOENT;
    }
    return moving.below->open(context, path, how, out);
}

static nphd_io make_moving(dirlab *lab)
{
    memset(&moving, 0, sizeof(moving));
    moving.disk = lab->disk;
    moving.below = memory_io_table(lab->disk);
    nphd_io table = *moving.below;
    table.list = moving_list;
    table.copy = moving_copy;
    table.remove = moving_remove;
    table.open = moving_open;
    return table;
}

static void build(dirlab *lab)
{
    const nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 10, 20);
    dirlab_close(sharded);
}

static nphd_sharded_options reader_of(dirlab *lab, const nphd_io *table)
{
    nphd_sharded_options options = dirlab_options(lab);

    options.read_only = true;
    options.io = table;
    return options;
}

/* ---- readers ---- */

static void test_reader_beside_changes(void **state)
{
    dirlab *lab = *state;
    const nphd_io table = make_moving(lab);
    const nphd_sharded_options options = reader_of(lab, &table);

    build(lab);
    moving.changes = 7;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    assert_int_equal(moving.changes, 0);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    moving.changes = 1 << 20;
    dirlab_refused(lab, &options, NPHD_BUSY, DIRLAB_FOLDER, "kept changing");
    assert_true(moving.changes > 0);
    moving.changes = 0;
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* A file that is listed and gone when it is looked at: what was opened meanwhile is not trusted. */
static void test_reader_and_a_file_that_is_gone(void **state)
{
    dirlab *lab = *state;
    const nphd_io table = make_moving(lab);
    const nphd_sharded_options options = reader_of(lab, &table);

    build(lab);
    moving.hidden = 9;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    assert_int_equal(moving.hidden, 0);
    assert_true(dirlab_stats(sharded).bloom);
    dirlab_expect(lab, sharded);
    moving.hidden = 1 << 20;
    bool changed = false;
    nphd_error err = NPHD_ERROR_INIT;
    assert_int_equal(nphd_sharded_refresh(sharded, &changed, &err), NPHD_BUSY);
    assert_false(changed);
    dirlab_expect(lab, sharded); /* as it was */
    dirlab_close(sharded);
    dirlab_refused(lab, &options, NPHD_BUSY, DIRLAB_FOLDER, "kept changing");
}

static void test_refresh_of_many(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    size_t count = 0;
    bool changed = false;
    uint8_t bits[8];

    options.multi = 2;
    nphd_sharded *writer = dirlab_open(lab, &options);
    OK(nphd_sharded_add(writer, nphd_key_u64(1), dirlab_vector(1, 0, bits), NULL, NULL));
    OK(nphd_sharded_save(writer, NULL, NULL));
    options.multi = 0;
    options.read_only = true;
    nphd_sharded *reader = dirlab_open(lab, &options);
    OK(nphd_sharded_add(writer, nphd_key_u64(1), dirlab_vector(1, 1, bits), NULL, NULL));
    OK(nphd_sharded_save(writer, NULL, NULL));
    OK(nphd_sharded_refresh(reader, &changed, NULL));
    assert_true(changed);
    assert_true(dirlab_stats(reader).multi);
    OK(nphd_sharded_count(reader, nphd_key_u64(1), &count, NULL));
    assert_int_equal(count, 2);
    dirlab_close(reader);
    dirlab_close(writer);
}

/* ---- snapshots ---- */

static void test_snapshot_beside_changes(void **state)
{
    dirlab *lab = *state;
    const nphd_io table = make_moving(lab);
    const nphd_sharded_options options = reader_of(lab, &table);
    nphd_error err = NPHD_ERROR_INIT;
    size_t bytes = 0;
    size_t copied = 0;

    build(lab);
    nphd_sharded *reader = dirlab_open(lab, &options);
    moving.copy_changes = 8;
    OK(nphd_sharded_snapshot(reader, COPY, NULL));
    assert_int_equal(moving.copy_changes, 0);
    /* the last copy is that of one moment */
    free(memory_io_get(lab->disk, DIRLAB_FOLDER "/" FILTER, &bytes));
    free(memory_io_get(lab->disk, COPY "/" FILTER, &copied));
    assert_int_equal(bytes, copied);
    assert_int_equal(memory_io_count(lab->disk, COPY "/"), 4);

    moving.copy_changes = 1 << 20;
    assert_int_equal(nphd_sharded_snapshot(reader, "second", &err), NPHD_BUSY);
    assert_non_null(strstr(err.text, "kept changing"));
    assert_int_equal(memory_io_count(lab->disk, "second/"), 0);

    /* nor is a mixture left where what was copied cannot be removed again */
    moving.keep_copies = true;
    assert_int_equal(nphd_sharded_snapshot(reader, "third", &err), NPHD_IO);
    assert_non_null(strstr(err.text, "third.snapshot.tmp/"));
    moving.keep_copies = false;
    moving.copy_changes = 0;
    assert_int_equal(memory_io_count(lab->disk, "third/"), 0);
    OK(nphd_sharded_snapshot(reader, "third", &err));
    assert_int_equal(memory_io_count(lab->disk, "third/"), 4);
    assert_int_equal(memory_io_count(lab->disk, "third.snapshot.tmp"), 0);
    dirlab_close(reader);
}

/* The same while requests for memory are refused. */
static void test_snapshot_beside_changes_without_memory(void **state)
{
    dirlab *lab = *state;
    const nphd_io table = make_moving(lab);
    const nphd_sharded_options options = reader_of(lab, &table);
    bool failed = true;

    build(lab);
    nphd_sharded *reader = dirlab_open(lab, &options);
    for (uint64_t n = 1; failed; n++) {
        char path[32];
        nphd_error err = NPHD_ERROR_INIT;
        (void)snprintf(path, sizeof(path), "copy%llu", (unsigned long long)n);
        moving.copy_changes = 2;
        allocator_fault_arm(&lab->allocator, ALLOCATOR_FAULT_ALL, n, false);
        const nphd_status status = nphd_sharded_snapshot(reader, path, &err);
        failed = lab->allocator.failed > 0;
        allocator_fault_arm(&lab->allocator, ALLOCATOR_FAULT_ALL, 0, false);
        if (status == NPHD_OK) {
            (void)snprintf(path, sizeof(path), "copy%llu/", (unsigned long long)n);
            assert_int_equal(memory_io_count(lab->disk, path), 4);
        } else {
            assert_true(failed);
            assert_int_equal(status, NPHD_OUT_OF_MEMORY);
            assert_int_equal(err.status, status);
        }
    }
    dirlab_close(reader);
}

/* A rotation that still fails holds a snapshot up. */
static void test_snapshot_behind_a_failed_rotation(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    nphd_error err = NPHD_ERROR_INIT;

    dirlab_add(lab, sharded, 0, 10);
    io_fault_arm(&lab->fault, IO_FAULT_WRITE, 1, EIO, true);
    assert_int_equal(nphd_sharded_rotate(sharded, NULL), NPHD_IO);
    assert_int_equal(nphd_sharded_snapshot(sharded, COPY, &err), NPHD_IO);
    assert_non_null(strstr(err.text, DIRLAB_FOLDER "/"));
    assert_int_equal(nphd_sharded_compact(sharded, NULL, NULL, &err), NPHD_IO);
    assert_int_equal(nphd_sharded_rebuild_bloom(sharded, NULL, &err), NPHD_IO);
    io_fault_disarm(&lab->fault);
    OK(nphd_sharded_snapshot(sharded, COPY, NULL));
    nphd_sharded_options looking = dirlab_options(lab);
    looking.read_only = true;
    nphd_sharded *copy = NULL;
    OK(nphd_sharded_open(COPY, &looking, &copy, NULL));
    dirlab_expect(lab, copy);
    dirlab_close(copy);
    dirlab_close(sharded);
}

/* ---- refusals ---- */

static int lock_error;

static int refuse_lock(void *context, const char *path, nphd_file *out)
{
    (void)context;
    (void)path;
    out->handle = -1;
    return lock_error;
}

static void test_refused_lock(void **state)
{
    static const struct {
        int error;
        nphd_status status;
        const char *text;
    } cases[] = {{EWOULDBLOCK, NPHD_BUSY, "open for writing"},
                 {EAGAIN, NPHD_BUSY, "open for writing"},
                 {EACCES, NPHD_IO, "open it read_only"},
                 {EMFILE, NPHD_IO, "lock"}};
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_io table = *memory_io_table(lab->disk);

    build(lab);
    table.lock = refuse_lock;
    options.io = &table;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        lock_error = cases[i].error;
        dirlab_refused(lab, &options, cases[i].status, DIRLAB_FOLDER "/lock", cases[i].text);
    }
    options.read_only = true; /* takes none */
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

#ifdef __GLIBC__

/* Threads get stacks of so many bytes from now on; returns what it was. */
static size_t set_stack_bytes(size_t bytes)
{
    pthread_attr_t attributes;
    size_t old = 0;

    assert_int_equal(pthread_getattr_default_np(&attributes), 0);
    assert_int_equal(pthread_attr_getstacksize(&attributes, &old), 0);
    assert_int_equal(pthread_attr_setstacksize(&attributes, bytes), 0);
    assert_int_equal(pthread_setattr_default_np(&attributes), 0);
    (void)pthread_attr_destroy(&attributes);
    return old;
}

/* Without a thread rotations are written at once; commits by time are not to be had. */
static void test_refused_threads(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *none = NULL;
    nphd_error err = NPHD_ERROR_INIT;

    options.background_rotation = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 0, 10);
    const size_t old = set_stack_bytes((size_t)1 << 62);
    const nphd_status status = nphd_sharded_rotate(sharded, NULL);
    options.commit_interval_ms = 5;
    options.background_rotation = false;
    const nphd_status other = nphd_sharded_open("other", &options, &none, &err);
    (void)set_stack_bytes(old);
    OK(status);
    assert_non_null(strstr(lab->log, "no thread for rotations"));
    assert_int_equal(dirlab_stats(sharded).pending_rotations, 0);
    assert_true(dirlab_exists(lab, "shard_000.usearch"));
    assert_true(other == NPHD_IO || other == NPHD_OUT_OF_MEMORY);
    assert_int_equal(err.status, other);
    assert_non_null(strstr(err.text, "thread"));
    assert_null(none);
    dirlab_add(lab, sharded, 10, 20);
    OK(nphd_sharded_rotate(sharded, NULL)); /* now there is one */
    OK(nphd_sharded_drain(sharded, UINT64_MAX, NULL));
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    OK(nphd_sharded_open("other", &options, &none, &err));
    dirlab_close(none);
}

#else

static void test_refused_threads(void **state)
{
    (void)state;
    skip();
}

#endif

/* ---- two that close ---- */

typedef struct closing {
    nphd_sharded *sharded;
    nphd_status status;
} closing;

static void *close_it(void *context)
{
    closing *of = context;

    of->status = nphd_sharded_close(of->sharded, NULL);
    return NULL;
}

/* Closing stops the thread that commits; where it fails the thread goes on, also where two failed
 * one behind the other. */
static void test_two_that_fail_to_close(void **state)
{
    const struct timespec moment = {0, 50000000};
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    static watched_io watched;
    pthread_t threads[2];
    closing of[2];

    watched_init(&watched, &lab->fault.table);
    options.io = &watched.table;
    options.commit_interval_ms = 1;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    watched_shut(&watched, true);
    dirlab_upsert(lab, sharded, 3, 1);
    for (size_t i = 0; i < 2; i++) {
        of[i] = (closing){sharded, NPHD_OK};
        assert_int_equal(pthread_create(&threads[i], NULL, close_it, &of[i]), 0);
        (void)nanosleep(&moment, NULL);
    }
    io_fault_arm(&lab->fault, IO_FAULT_SYNC, 1, EIO, true);
    watched_shut(&watched, false);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(of[i].status, NPHD_IO);
    }
    io_fault_disarm(&lab->fault);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    options.io = &lab->fault.table;
    options.commit_interval_ms = 0;
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_reader_beside_changes),
        DIRLAB_TEST(test_reader_and_a_file_that_is_gone),
        DIRLAB_TEST(test_refresh_of_many),
        DIRLAB_TEST(test_snapshot_beside_changes),
        DIRLAB_TEST(test_snapshot_beside_changes_without_memory),
        DIRLAB_TEST(test_snapshot_behind_a_failed_rotation),
        DIRLAB_TEST(test_refused_lock),
        DIRLAB_TEST(test_refused_threads),
        DIRLAB_TEST(test_two_that_fail_to_close),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
