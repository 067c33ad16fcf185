/* Files, memory, locks and threads of the operating system; reading; durable replacement under
 * every failure and every power cut; and the test doubles that show it. */
#include "platform/platform.h"

#include "allocator_fault.h"
#include "base/error.h"
#include "io_fault.h"
#include "io_memory.h"
#include "test_random.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define PATH_ROOM 512

static const int fault_errors[] = {EIO, ENOSPC, EDQUOT, EINTR, IO_FAULT_SHORT};
#define FAULT_ERROR_COUNT (sizeof(fault_errors) / sizeof(fault_errors[0]))

/* ---- the files of the operating system ---- */

static char *posix_directory; /* a fresh one, in the place for temporary files */

static int make_directory(void **state)
{
    const char *parent = getenv("TMPDIR");
    char *name = malloc(PATH_ROOM);

    (void)state;
    if (name == NULL) {
        return -1;
    }
    (void)snprintf(name, PATH_ROOM, "%s/nphd-test-XXXXXX", parent != NULL ? parent : P_tmpdir);
    posix_directory = mkdtemp(name);
    if (posix_directory == NULL) {
        free(name);
        return -1;
    }
    return 0;
}

/* Fails when a test has left a file there. */
static int remove_directory(void **state)
{
    const int failed = rmdir(posix_directory);

    (void)state;
    free(posix_directory);
    return failed;
}

static const char *posix_path(char *out, const char *name)
{
    (void)snprintf(out, PATH_ROOM, "%s/%s", posix_directory, name);
    return out;
}

static void test_posix_round_trip(void **state)
{
    const nphd_io *io = nphdi_io_posix();
    char first[PATH_ROOM];
    char second[PATH_ROOM];
    char buffer[16] = {0};
    const void *base = NULL;
    uint64_t bytes = 0;
    size_t done = 0;
    nphd_file file;
    nphd_file other;

    (void)state;
    posix_path(first, "first");
    posix_path(second, "second");
    assert_int_equal(io->open(io->context, first, NPHD_OPEN_CREATE, &file), 0);
    assert_int_equal(io->open(io->context, first, NPHD_OPEN_CREATE, &other), EEXIST);
    assert_true((fcntl((int)file.handle, F_GETFD) & FD_CLOEXEC) != 0);
    const int os_error = io->allocate(io->context, file, 1 << 20);
    assert_true(os_error == 0 || os_error == EOPNOTSUPP);
    assert_int_equal(io->size(io->context, file, &bytes), 0);
    assert_int_equal(bytes, 0); /* space was set aside, the size stays */
    assert_int_equal(io->write(io->context, file, 0, "hello", 5, &done), 0);
    assert_int_equal(done, 5);
    assert_int_equal(io->write(io->context, file, 5, " world", 6, &done), 0);
    assert_int_equal(io->sync(io->context, file), 0);
    assert_int_equal(io->close(io->context, file), 0);
    assert_int_equal(io->rename(io->context, first, second), 0);
    assert_int_equal(io->sync_directory(io->context, posix_directory), 0);
    assert_int_equal(io->open(io->context, first, NPHD_OPEN_READ, &file), ENOENT);

    assert_int_equal(io->open(io->context, second, NPHD_OPEN_READ, &file), 0);
    assert_int_equal(io->size(io->context, file, &bytes), 0);
    assert_int_equal(bytes, 11);
    assert_int_equal(io->read(io->context, file, 6, buffer, sizeof(buffer), &done), 0);
    assert_int_equal(done, 5);
    assert_memory_equal(buffer, "world", 5);
    assert_int_equal(io->read(io->context, file, 11, buffer, sizeof(buffer), &done), 0);
    assert_int_equal(done, 0);
    assert_int_equal(io->map(io->context, file, 12, &base), EINVAL);
    assert_int_equal(io->map(io->context, file, 11, &base), 0);
    assert_int_equal(io->close(io->context, file), 0);
    assert_int_equal(io->remove(io->context, second), 0);
    assert_memory_equal(base, "hello world", 11); /* outlives close and remove */
    io->unmap(io->context, base, 11);
    assert_int_equal(io->remove(io->context, second), ENOENT);
}

static void test_posix_permissions_follow_umask(void **state)
{
    const nphd_io *io = nphdi_io_posix();
    const mode_t old = umask(002);
    char path[PATH_ROOM];
    struct stat info;
    nphd_file file;

    (void)state;
    assert_int_equal(io->open(io->context, posix_path(path, "mode"), NPHD_OPEN_CREATE, &file), 0);
    (void)umask(old);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0664);
    assert_int_equal(io->close(io->context, file), 0);
    assert_int_equal(io->close(io->context, file), EBADF);
    assert_int_equal(io->remove(io->context, path), 0);
}

static void test_posix_refuses_what_is_no_file(void **state)
{
    const nphd_io *io = nphdi_io_posix();
    char path[PATH_ROOM];
    char byte = 0;
    size_t done = 7;
    nphd_file file;

    (void)state;
    assert_int_equal(io->open(io->context, posix_directory, NPHD_OPEN_READ, &file), EISDIR);
    assert_int_equal(file.handle, -1);
    assert_int_equal(mkfifo(posix_path(path, "pipe"), 0600), 0);
    assert_int_equal(io->open(io->context, path, NPHD_OPEN_READ, &file), EINVAL); /* no waiting */
    assert_int_equal(io->sync_directory(io->context, path), ENOTDIR);
    assert_int_equal(io->remove(io->context, path), 0);
    assert_int_equal(io->open(io->context, posix_path(path, "far"), NPHD_OPEN_CREATE, &file), 0);
    assert_int_equal(io->write(io->context, file, UINT64_MAX - 1, "x", 1, &done), EFBIG);
    assert_int_equal(done, 0);
    assert_int_equal(io->write(io->context, file, INT64_MAX, "x", 1, &done), EFBIG);
    assert_int_equal(io->read(io->context, file, UINT64_MAX, &byte, 1, &done), EOVERFLOW);
    assert_int_equal(io->allocate(io->context, file, UINT64_MAX), EFBIG);
    assert_int_equal(io->allocate(io->context, file, 0), 0);
    assert_int_equal(io->close(io->context, file), 0);
    assert_int_equal(io->remove(io->context, path), 0);
}

static void test_posix_random(void **state)
{
    const nphd_io *io = nphdi_io_posix();
    uint8_t draws[2][1000] = {{0}};
    size_t same = 0;

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(io->random(io->context, draws[i], sizeof(draws[i])), 0);
    }
    for (size_t i = 0; i < sizeof(draws[0]); i++) {
        same += draws[0][i] == draws[1][i];
    }
    assert_true(same < 40); /* 4 expected; more than 40 once in 10^25 */
}

static void test_system_allocator_ranges(void **state)
{
    const nphd_allocator *allocator = nphdi_allocator_system();
    const size_t reserved = (size_t)1 << 30;
    const size_t half = 1 << 20;
    uint8_t *range = allocator->reserve(allocator->context, reserved);

    (void)state;
    assert_non_null(range);
    assert_int_equal((uintptr_t)range % (uintptr_t)sysconf(_SC_PAGESIZE), 0);
    assert_int_equal(allocator->commit(allocator->context, range, 0, 100), 0);
    range[99] = 1;
    assert_int_equal(allocator->commit(allocator->context, range, 100, half), 0);
    assert_int_equal(allocator->commit(allocator->context, range, half, 2 * half), 0);
    assert_int_equal(range[99], 1);
    for (size_t i = 100; i < 2 * half; i++) {
        assert_int_equal(range[i], 0);
    }
    allocator->unreserve(allocator->context, range, reserved);
}

/* ---- locks ---- */

typedef struct lock_work {
    nphdi_rwlock lock;
    nphdi_spinlock spin;
    uint64_t left; /* both counters are equal outside the write lock */
    uint64_t right;
    atomic_bool stop;
    atomic_uint torn;
    atomic_uint reads;
    uint32_t writers;
    uint32_t rounds;
} lock_work;

static void lock_worker(void *context, uint32_t worker)
{
    lock_work *work = context;

    for (uint32_t i = 0; i < work->rounds; i++) {
        if (worker < work->writers) {
            nphdi_rwlock_write(&work->lock);
            work->left++;
            work->right++;
            nphdi_rwlock_write_end(&work->lock);
        } else {
            nphdi_rwlock_read(&work->lock);
            if (work->left != work->right) {
                atomic_fetch_add(&work->torn, 1);
            }
            nphdi_rwlock_read_end(&work->lock);
        }
    }
}

static void test_rwlock_excludes(void **state)
{
    lock_work work = {.writers = 2, .rounds = 3000};

    (void)state;
    assert_int_equal(nphdi_rwlock_init(&work.lock, NULL), NPHD_OK);
    nphdi_threads_run(5, lock_worker, &work);
    assert_int_equal(work.left, 2 * 3000);
    assert_int_equal(work.right, 2 * 3000);
    assert_int_equal(atomic_load(&work.torn), 0);
    nphdi_rwlock_destroy(&work.lock);
}

/* Worker 0 writes; the others read for so long that some reader is always inside. */
static void starve_worker(void *context, uint32_t worker)
{
    const struct timespec inside = {0, 1000000};
    lock_work *work = context;

    if (worker == 0) {
        while (atomic_load(&work->reads) < 20) {
            (void)nanosleep(&inside, NULL);
        }
        for (uint32_t i = 0; i < work->rounds; i++) {
            nphdi_rwlock_write(&work->lock);
            work->left++;
            nphdi_rwlock_write_end(&work->lock);
        }
        atomic_store(&work->stop, true);
        return;
    }
    while (!atomic_load(&work->stop) && atomic_load(&work->reads) < 200000) {
        nphdi_rwlock_read(&work->lock);
        atomic_fetch_add(&work->reads, 1);
        (void)nanosleep(&inside, NULL);
        nphdi_rwlock_read_end(&work->lock);
    }
}

/* 20 writes among 6 readers take 20 times the millisecond of a reader, not the minute after which
 * the readers would end by themselves. */
static void test_rwlock_starves_no_writer(void **state)
{
    lock_work work = {.rounds = 20};

    (void)state;
    assert_int_equal(nphdi_rwlock_init(&work.lock, NULL), NPHD_OK);
    nphdi_threads_run(7, starve_worker, &work);
    assert_int_equal(work.left, 20);
    assert_true(atomic_load(&work.reads) < 20000);
    nphdi_rwlock_destroy(&work.lock);
}

static void spin_worker(void *context, uint32_t worker)
{
    lock_work *work = context;

    (void)worker;
    for (uint32_t i = 0; i < work->rounds; i++) {
        nphdi_spin_lock(&work->spin);
        const uint64_t before = work->left;
        if (i % 16 == 0) {
            (void)sched_yield(); /* the others come and find it held */
        }
        work->left = before + 1;
        nphdi_spin_unlock(&work->spin);
    }
}

static void test_spinlock_excludes(void **state)
{
    lock_work work = {.rounds = 20000};

    (void)state;
    nphdi_threads_run(4, spin_worker, &work);
    assert_int_equal(work.left, 4 * 20000);
    assert_int_equal(atomic_load(&work.spin.held), 0);
}

/* ---- threads ---- */

typedef struct thread_notes {
    atomic_uint runs[NPHDI_THREADS_MAX + 1];
    atomic_uint total;
    atomic_uint wrong_masks;
} thread_notes;

static void note_worker(void *context, uint32_t worker)
{
    thread_notes *notes = context;
    sigset_t mask;

    atomic_fetch_add(&notes->runs[worker < NPHDI_THREADS_MAX ? worker : NPHDI_THREADS_MAX], 1);
    atomic_fetch_add(&notes->total, 1);
    (void)pthread_sigmask(SIG_BLOCK, NULL, &mask);
    const bool blocked = sigismember(&mask, SIGINT) == 1 && sigismember(&mask, SIGALRM) == 1;
    if (blocked != (worker != 0) || sigismember(&mask, SIGBUS) == 1) {
        atomic_fetch_add(&notes->wrong_masks, 1);
    }
}

static void test_threads_run_each_once(void **state)
{
    static const uint32_t asked[] = {0, 1, 2, 7, 1000};
    static const uint32_t expected[] = {1, 1, 2, 7, NPHDI_THREADS_MAX};

    (void)state;
    for (size_t i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
        thread_notes notes;
        memset(&notes, 0, sizeof(notes));
        nphdi_threads_run(asked[i], note_worker, &notes);
        assert_int_equal(atomic_load(&notes.total), expected[i]);
        for (uint32_t k = 0; k <= NPHDI_THREADS_MAX; k++) {
            assert_int_equal(atomic_load(&notes.runs[k]), k < expected[i] ? 1 : 0);
        }
        assert_int_equal(atomic_load(&notes.wrong_masks), 0);
    }
}

static void test_threads_refused_by_the_system(void **state)
{
#ifdef __GLIBC__
    thread_notes notes;
    pthread_attr_t attributes;
    size_t old = 0;

    (void)state;
    memset(&notes, 0, sizeof(notes));
    assert_int_equal(pthread_getattr_default_np(&attributes), 0);
    assert_int_equal(pthread_attr_getstacksize(&attributes, &old), 0);
    /* a stack larger than the address space: no thread can be made */
    assert_int_equal(pthread_attr_setstacksize(&attributes, (size_t)1 << 62), 0);
    assert_int_equal(pthread_setattr_default_np(&attributes), 0);
    nphdi_threads_run(8, note_worker, &notes);
    assert_int_equal(pthread_attr_setstacksize(&attributes, old), 0);
    assert_int_equal(pthread_setattr_default_np(&attributes), 0);
    (void)pthread_attr_destroy(&attributes);
    assert_int_equal(atomic_load(&notes.total), 1);
    assert_int_equal(atomic_load(&notes.runs[0]), 1);
    assert_int_equal(atomic_load(&notes.wrong_masks), 0);
#else
    (void)state;
    skip();
#endif
}

/* ---- opening and reading ---- */

typedef struct file_bench {
    memory_io *disk;
    io_fault fault;
    uint8_t content[1000];
} file_bench;

static void bench_start(file_bench *bench, uint64_t seed)
{
    test_random random = {seed};

    bench->disk = memory_io_create(seed);
    test_random_fill(&random, bench->content, sizeof(bench->content));
    memory_io_put(bench->disk, "d/file", bench->content, sizeof(bench->content));
    io_fault_init(&bench->fault, memory_io_table(bench->disk));
}

static void bench_end(file_bench *bench)
{
    assert_int_equal(memory_io_open_files(bench->disk), 0);
    assert_int_equal(memory_io_maps(bench->disk), 0);
    assert_int_equal(memory_io_mistakes(bench->disk), 0);
    assert_int_equal(bench->fault.repeated_syncs, 0);
    io_fault_destroy(&bench->fault);
    memory_io_destroy(bench->disk);
}

/* Opens, reads bytes 10..909 and closes. */
static nphd_status bench_read(file_bench *bench, uint8_t *out, nphd_error *err)
{
    const nphd_io *io = &bench->fault.table;
    nphd_file file;
    uint64_t bytes;
    nphd_status status = nphdi_file_open(io, "d/file", &file, &bytes, err);

    if (status == NPHD_OK) {
        assert_int_equal(bytes, 1000);
        status = nphdi_file_read(io, file, "d/file", 10, out, 900, err);
        (void)io->close(io->context, file);
    } else {
        assert_int_equal(bytes, 0);
    }
    return status;
}

static void test_read_under_every_failure(void **state)
{
    file_bench bench;

    (void)state;
    bench_start(&bench, 1);
    for (size_t e = 0; e < 2 * FAULT_ERROR_COUNT; e++) {
        const int os_error = fault_errors[e / 2];
        const bool for_ever = e % 2 != 0;
        bool met = true;
        for (uint64_t n = 1; met; n++) {
            nphd_error err = NPHD_ERROR_INIT;
            uint8_t out[900] = {0};
            io_fault_arm(&bench.fault, IO_FAULT_ALL & ~IO_FAULT_CLOSE, n, os_error, for_ever);
            const nphd_status status = bench_read(&bench, out, &err);
            met = bench.fault.failed > 0;
            if (!met || os_error == IO_FAULT_SHORT || (os_error == EINTR && !for_ever)) {
                assert_int_equal(status, NPHD_OK);
                assert_memory_equal(out, bench.content + 10, 900);
            } else {
                assert_int_equal(status,
                                 os_error == EIO || os_error == EINTR ? NPHD_IO : NPHD_NO_SPACE);
                assert_int_equal(err.status, status);
                assert_int_equal(err.os_error, os_error);
                assert_int_equal(strncmp(err.text, "d/file: ", 8), 0);
            }
            assert_int_equal(memory_io_open_files(bench.disk), 0);
        }
    }
    bench_end(&bench);
}

static void test_read_behind_the_end(void **state)
{
    file_bench bench;
    nphd_error err = NPHD_ERROR_INIT;
    const nphd_io *io;
    uint8_t out[100];
    uint64_t bytes = 7;
    nphd_file file;

    (void)state;
    bench_start(&bench, 2);
    io = &bench.fault.table;
    assert_int_equal(nphdi_file_open(io, "d/none", &file, &bytes, &err), NPHD_NOT_FOUND);
    assert_int_equal(file.handle, -1);
    assert_int_equal(bytes, 0);
    assert_non_null(strstr(err.text, "d/none"));
    assert_int_equal(nphdi_file_open(io, "d/file", &file, &bytes, &err), NPHD_OK);
    assert_int_equal(nphdi_file_read(io, file, "d/file", 900, out, 100, &err), NPHD_OK);
    assert_int_equal(nphdi_file_read(io, file, "d/file", 1000, out, 0, &err), NPHD_OK);
    assert_int_equal(nphdi_file_read(io, file, "d/file", 950, out, 51, &err), NPHD_CORRUPT);
    assert_string_equal(err.text, "d/file: the file ends at offset 1000, inside the 51 bytes at "
                                  "offset 950");
    assert_int_equal(nphdi_file_read(io, file, "d/file", UINT64_MAX, out, 1, &err), NPHD_CORRUPT);
    assert_int_equal(io->close(io->context, file), 0);
    bench_end(&bench);
}

/* ---- durable replacement ---- */

#define PIECE_COUNT 3

/* Version v of the file: another length and other bytes than all others. */
static size_t version_bytes(uint64_t version)
{
    return 5000 + 3000 * (size_t)(version % 4);
}

static uint8_t *version_content(uint64_t version)
{
    test_random random = {version * 1000003};
    uint8_t *content = malloc(version_bytes(version));

    assert_non_null(content);
    test_random_fill(&random, content, version_bytes(version));
    return content;
}

static bool holds_version(memory_io *disk, const char *path, uint64_t version)
{
    uint8_t *expected = version_content(version);
    size_t bytes;
    void *found = memory_io_get(disk, path, &bytes);
    const bool same =
        found != NULL && bytes == version_bytes(version) && memcmp(found, expected, bytes) == 0;

    free(found);
    free(expected);
    return same;
}

static nphd_status write_version(const nphd_io *io, const nphd_allocator *allocator,
                                 const char *path, uint64_t version, nphd_error *err)
{
    const size_t bytes = version_bytes(version);
    const size_t piece = bytes / PIECE_COUNT + 1;
    uint8_t *content = version_content(version);
    nphdi_replacement replacement = {0};
    nphd_status status;

    TRY(nphdi_replacement_begin(&replacement, io, allocator, path, bytes, err));
    for (size_t from = 0; from < bytes; from += piece) {
        const size_t step = bytes - from < piece ? bytes - from : piece;
        TRY(nphdi_replacement_write(&replacement, content + from, step, err));
    }
    TRY(nphdi_replacement_commit(&replacement, err));
done:
    nphdi_replacement_end(&replacement);
    nphdi_replacement_end(&replacement);
    free(content);
    return status;
}

static void test_replacement_on_the_system(void **state)
{
    const nphd_io *io = nphdi_io_posix();
    nphd_error err = NPHD_ERROR_INIT;
    char path[PATH_ROOM];
    char *before = getcwd(NULL, 0);

    (void)state;
    posix_path(path, "file");
    for (uint64_t version = 0; version < 4; version++) {
        uint8_t *expected = version_content(version);
        uint8_t *found = malloc(version_bytes(version));
        uint64_t bytes;
        nphd_file file;
        assert_int_equal(write_version(io, nphdi_allocator_system(), path, version, &err), NPHD_OK);
        assert_int_equal(nphdi_file_open(io, path, &file, &bytes, &err), NPHD_OK);
        assert_int_equal(bytes, version_bytes(version));
        assert_int_equal(nphdi_file_read(io, file, path, 0, found, bytes, &err), NPHD_OK);
        assert_memory_equal(found, expected, bytes);
        assert_int_equal(io->close(io->context, file), 0);
        free(expected);
        free(found);
    }
    assert_int_equal(io->remove(io->context, path), 0);
    /* a name without a directory */
    assert_non_null(before);
    assert_int_equal(chdir(posix_directory), 0);
    assert_int_equal(write_version(io, nphdi_allocator_system(), "bare", 1, &err), NPHD_OK);
    assert_int_equal(io->remove(io->context, "bare"), 0);
    assert_int_equal(chdir(before), 0);
    free(before);
    posix_path(path, "missing/file");
    assert_int_equal(write_version(io, nphdi_allocator_system(), path, 1, &err), NPHD_NOT_FOUND);
    assert_non_null(strstr(err.text, path));
}

static void test_replacement_beyond_a_size_limit(void **state)
{
    const nphd_io *io = nphdi_io_posix();
    nphd_error err = NPHD_ERROR_INIT;
    char path[PATH_ROOM];
    struct rlimit old;
    struct rlimit tight;

    (void)state;
    posix_path(path, "limited");
    assert_int_equal(write_version(io, nphdi_allocator_system(), path, 0, &err), NPHD_OK);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    tight = old;
    tight.rlim_cur = 6000;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    const nphd_status status = write_version(io, nphdi_allocator_system(), path, 1, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    (void)signal(SIGXFSZ, handler);
    assert_int_equal(status, NPHD_NO_SPACE);
    assert_int_equal(err.os_error, EFBIG);
    assert_int_equal(io->remove(io->context, path), 0); /* and rmdir shows that it was alone */
}

static void test_replacement_directories(void **state)
{
    static const char *const cases[][2] = {
        {"name", "."}, {"./name", "."}, {"a/name", "a"}, {"/name", "/"}, {"/a/b/name", "/a/b"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        memory_io *disk = memory_io_create(1);
        const nphd_io *io = memory_io_table(disk);
        const size_t path_bytes = strlen(cases[i][0]);
        nphdi_replacement replacement;
        assert_int_equal(nphdi_replacement_begin(&replacement, io, nphdi_allocator_system(),
                                                 cases[i][0], 0, NULL),
                         NPHD_OK);
        assert_string_equal(replacement.directory, cases[i][1]);
        assert_int_equal(strlen(replacement.temporary), path_bytes + 21);
        assert_memory_equal(replacement.temporary, cases[i][0], path_bytes);
        assert_memory_equal(replacement.temporary + path_bytes, ".tmp-", 5);
        assert_int_equal(strspn(replacement.temporary + path_bytes + 5, "0123456789abcdef"), 16);
        assert_int_equal(nphdi_replacement_commit(&replacement, NULL), NPHD_OK);
        assert_int_equal(nphdi_replacement_write(&replacement, "x", 1, NULL), NPHD_STOPPED);
        assert_int_equal(nphdi_replacement_commit(&replacement, NULL), NPHD_STOPPED);
        nphdi_replacement_end(&replacement);
        /* the empty file has reached the disk, so the right directory was flushed */
        memory_io_power_off(disk, MEMORY_IO_WEAK, 0);
        assert_int_equal(memory_io_count(disk, NULL), 1);
        assert_int_equal(memory_io_count(disk, ".tmp-"), 0);
        memory_io_destroy(disk);
    }
}

static int constant_random(void *context, void *buffer, size_t bytes)
{
    (void)context;
    memset(buffer, 0x11, bytes);
    return 0;
}

static void test_replacement_name_is_taken(void **state)
{
    const nphd_allocator *allocator = nphdi_allocator_system();
    memory_io *first = memory_io_create(77);
    memory_io *second = memory_io_create(77); /* draws the same names */
    nphdi_replacement replacement = {0};
    nphd_error err = NPHD_ERROR_INIT;
    char taken[PATH_ROOM];
    size_t bytes;

    (void)state;
    assert_int_equal(
        nphdi_replacement_begin(&replacement, memory_io_table(first), allocator, "f", 0, &err),
        NPHD_OK);
    assert_true(memory_io_name(first, 0, taken, sizeof(taken)));
    nphdi_replacement_end(&replacement);
    assert_int_equal(memory_io_count(first, NULL), 0);
    memory_io_put(second, taken, "mine", 4);
    assert_int_equal(write_version(memory_io_table(second), allocator, "f", 1, &err), NPHD_OK);
    assert_true(holds_version(second, "f", 1));
    void *kept = memory_io_get(second, taken, &bytes);
    assert_int_equal(bytes, 4);
    assert_memory_equal(kept, "mine", 4);
    free(kept);
    /* a table without randomness is refused, not asked for ever */
    nphd_io constant = *memory_io_table(second);
    constant.random = constant_random;
    memory_io_put(second, "f.tmp-1111111111111111", "mine", 4);
    assert_int_equal(write_version(&constant, allocator, "f", 2, &err), NPHD_IO);
    assert_int_equal(err.os_error, EEXIST);
    assert_int_equal(memory_io_count(second, ".tmp-1111111111111111"), 1);
    memory_io_destroy(first);
    memory_io_destroy(second);
}

static void test_replacement_sets_space_aside(void **state)
{
    static const int ignored[] = {EOPNOTSUPP, ENOSYS, EINVAL, EINTR};
    static const int refused[] = {ENOSPC, EDQUOT, EFBIG, EIO};
    const nphd_allocator *allocator = nphdi_allocator_system();
    file_bench bench;

    (void)state;
    bench_start(&bench, 3);
    for (size_t i = 0; i < 4; i++) {
        nphd_error err = NPHD_ERROR_INIT;
        io_fault_arm(&bench.fault, IO_FAULT_ALLOCATE, 1, ignored[i], false);
        assert_int_equal(write_version(&bench.fault.table, allocator, "f", i, &err), NPHD_OK);
        assert_int_equal(bench.fault.failed, 1);
        assert_true(holds_version(bench.disk, "f", i));
        io_fault_arm(&bench.fault, IO_FAULT_ALLOCATE, 1, refused[i], false);
        assert_int_equal(write_version(&bench.fault.table, allocator, "f", i + 1, &err),
                         refused[i] == EIO ? NPHD_IO : NPHD_NO_SPACE);
        assert_true(holds_version(bench.disk, "f", i));
        assert_int_equal(memory_io_count(bench.disk, ".tmp-"), 0);
    }
    bench_end(&bench);
}

/* Room from none to plenty, byte by byte at the interesting places, with and without the early
 * answer of `allocate`. */
static void test_replacement_on_a_full_disk(void **state)
{
    const nphd_allocator *allocator = nphdi_allocator_system();
    const uint64_t old_bytes = version_bytes(1);
    const uint64_t both_bytes = old_bytes + version_bytes(2);

    (void)state;
    for (uint64_t capacity = 0; capacity <= both_bytes + 64; capacity += 64) {
        memory_io *disk = memory_io_create(capacity);
        nphd_error err = NPHD_ERROR_INIT;
        io_fault fault;
        assert_int_equal(write_version(memory_io_table(disk), allocator, "d/f", 1, &err), NPHD_OK);
        memory_io_set_capacity(disk, capacity);
        io_fault_init(&fault, memory_io_table(disk));
        fault.swallow = capacity % 128 == 0 ? IO_FAULT_ALLOCATE : 0;
        const nphd_status status = write_version(&fault.table, allocator, "d/f", 2, &err);
        assert_int_equal(status, capacity < both_bytes ? NPHD_NO_SPACE : NPHD_OK);
        assert_true(holds_version(disk, "d/f", status == NPHD_OK ? 2 : 1));
        assert_int_equal(memory_io_count(disk, ".tmp-"), 0);
        memory_io_set_capacity(disk, UINT64_MAX);
        assert_int_equal(write_version(&fault.table, allocator, "d/f", 3, &err), NPHD_OK);
        assert_true(holds_version(disk, "d/f", 3));
        io_fault_destroy(&fault);
        memory_io_destroy(disk);
    }
}

/* What must hold after version 2 was written over version 1 with one failing call. */
static void check_faulted(file_bench *bench, nphd_status status, const nphd_error *err,
                          int os_error, bool for_ever)
{
    const uint32_t failed = bench->fault.failed_kinds;
    const uint32_t final = IO_FAULT_SYNC | IO_FAULT_CLOSE | IO_FAULT_SYNC_DIRECTORY;
    const bool new_file = status == NPHD_OK || status == NPHD_DURABILITY_UNKNOWN;

    assert_int_equal(err->status, status);
    assert_true(holds_version(bench->disk, "d/f", new_file ? 2 : 1));
    if (failed == 0 || os_error == IO_FAULT_SHORT ||
        (os_error == EINTR && !for_ever && (failed & final) == 0)) {
        assert_int_equal(status, NPHD_OK);
    } else {
        assert_int_not_equal(status, NPHD_OK);
        assert_int_equal(err->os_error, os_error);
        assert_int_equal(strncmp(err->text, "d/f", 3), 0);
        assert_int_equal(status == NPHD_DURABILITY_UNKNOWN,
                         (failed & IO_FAULT_SYNC_DIRECTORY) != 0);
    }
    if ((failed & IO_FAULT_REMOVE) == 0) {
        assert_int_equal(memory_io_count(bench->disk, ".tmp-"), 0);
    }
    assert_int_equal(bench->fault.repeated_syncs, 0);
    assert_int_equal(bench->fault.open_files, 0);
    assert_int_equal(memory_io_open_files(bench->disk), 0);
    assert_int_equal(memory_io_mistakes(bench->disk), 0);
}

static void test_replacement_under_every_failure(void **state)
{
    const nphd_allocator *allocator = nphdi_allocator_system();
    uint64_t runs = 0;

    (void)state;
    for (size_t e = 0; e < 2 * FAULT_ERROR_COUNT; e++) {
        const int os_error = fault_errors[e / 2];
        const bool for_ever = e % 2 != 0;
        bool met = true;
        for (uint64_t n = 1; met; n++) {
            file_bench bench;
            nphd_error err = NPHD_ERROR_INIT;
            bench_start(&bench, n);
            assert_int_equal(write_version(&bench.fault.table, allocator, "d/f", 1, &err), NPHD_OK);
            io_fault_arm(&bench.fault, IO_FAULT_ALL, n, os_error, for_ever);
            const nphd_status status = write_version(&bench.fault.table, allocator, "d/f", 2, &err);
            io_fault_disarm(&bench.fault);
            met = bench.fault.failed > 0;
            check_faulted(&bench, status, &err, os_error, for_ever);
            /* well again: the next one succeeds */
            assert_int_equal(write_version(&bench.fault.table, allocator, "d/f", 3, &err), NPHD_OK);
            assert_true(holds_version(bench.disk, "d/f", 3));
            bench_end(&bench);
            runs++;
        }
    }
    assert_true(runs > 80);
}

static void test_replacement_stops_after_a_failure(void **state)
{
    file_bench bench;
    nphdi_replacement replacement;
    nphd_error err = NPHD_ERROR_INIT;

    (void)state;
    bench_start(&bench, 4);
    assert_int_equal(nphdi_replacement_begin(&replacement, &bench.fault.table,
                                             nphdi_allocator_system(), "d/file", 0, &err),
                     NPHD_OK);
    io_fault_arm(&bench.fault, IO_FAULT_SYNC, 1, EIO, false);
    assert_int_equal(nphdi_replacement_commit(&replacement, &err), NPHD_IO);
    assert_non_null(strstr(err.text, "cannot flush"));
    assert_int_equal(memory_io_count(bench.disk, ".tmp-"), 0); /* before end */
    assert_int_equal(nphdi_replacement_commit(&replacement, &err), NPHD_STOPPED);
    assert_int_equal(nphdi_replacement_write(&replacement, "x", 1, &err), NPHD_STOPPED);
    assert_int_equal(bench.fault.calls, 1);
    nphdi_replacement_end(&replacement);
    bench_end(&bench);
}

static void test_replacement_where_directories_cannot_be_flushed(void **state)
{
    file_bench bench;
    nphd_error err = NPHD_ERROR_INIT;

    (void)state;
    bench_start(&bench, 5);
    io_fault_arm(&bench.fault, IO_FAULT_SYNC_DIRECTORY, 1, EINVAL, true);
    assert_int_equal(write_version(&bench.fault.table, nphdi_allocator_system(), "d/f", 1, &err),
                     NPHD_OK);
    assert_int_equal(bench.fault.calls, 1);
    bench_end(&bench);
}

static void test_replacement_without_memory(void **state)
{
    (void)state;
    for (int for_ever = 0; for_ever < 2; for_ever++) {
        bool met = true;
        for (uint64_t n = 1; met; n++) {
            memory_io *disk = memory_io_create(n);
            nphd_error err = NPHD_ERROR_INIT;
            allocator_fault memory;
            allocator_fault_init(&memory);
            allocator_fault_arm(&memory, ALLOCATOR_FAULT_ALL, n, for_ever != 0);
            const nphd_status status =
                write_version(memory_io_table(disk), &memory.table, "d/f", 1, &err);
            met = memory.failed > 0;
            assert_int_equal(status, met ? NPHD_OUT_OF_MEMORY : NPHD_OK);
            assert_int_equal(memory_io_count(disk, NULL), met ? 0 : 1);
            assert_true(allocator_fault_is_clean(&memory));
            allocator_fault_destroy(&memory);
            memory_io_destroy(disk);
        }
    }
}

/* ---- power cuts ---- */

#define CRASH_STATES 40
#define CRASH_VERSIONS 3

typedef struct crash_count {
    uint64_t states;
    uint64_t bad;
} crash_count;

/* Writes versions 1, 2, 3 over each other until a call fails; returns the last acknowledged. */
static uint64_t crash_workload(const nphd_io *io)
{
    uint64_t version = 0;

    while (version < CRASH_VERSIONS &&
           write_version(io, nphdi_allocator_system(), "d/f", version + 1, NULL) == NPHD_OK) {
        version++;
    }
    return version;
}

/* Whole, and acknowledged or just being written. */
static bool crash_state_is_good(memory_io *after, uint64_t acknowledged)
{
    size_t bytes;
    void *found = memory_io_get(after, "d/f", &bytes);
    const bool missing = found == NULL;

    free(found);
    if (missing) {
        return acknowledged == 0;
    }
    return (acknowledged > 0 && holds_version(after, "d/f", acknowledged)) ||
           holds_version(after, "d/f", acknowledged + 1);
}

/* Cuts the power after every number of operations; `swallow` seeds a bug. */
static crash_count crash_sweep(memory_io_mode mode, uint32_t swallow, uint64_t seed)
{
    crash_count count = {0, 0};
    bool cut = true;

    for (uint64_t operations = 0; cut; operations++) {
        memory_io *disk = memory_io_create(seed);
        io_fault fault;
        io_fault_init(&fault, memory_io_table(disk));
        fault.swallow = swallow;
        memory_io_cut_after(disk, operations);
        const uint64_t acknowledged = crash_workload(&fault.table);
        cut = memory_io_is_cut(disk);
        assert_true(cut || acknowledged == CRASH_VERSIONS);
        for (uint64_t state = 0; state < CRASH_STATES; state++) {
            memory_io *after = memory_io_crash(disk, mode, state < 4 ? state : seed + state);
            count.states++;
            if (!crash_state_is_good(after, acknowledged)) {
                count.bad++;
            }
            /* what is there after the cut never hinders the next writer */
            if (write_version(memory_io_table(after), nphdi_allocator_system(), "d/f", 9, NULL) !=
                NPHD_OK) {
                count.bad++;
            }
            memory_io_destroy(after);
        }
        io_fault_destroy(&fault);
        memory_io_destroy(disk);
    }
    return count;
}

static void test_replacement_under_power_cuts(void **state)
{
    const uint64_t seed = test_seed();

    (void)state;
    for (int mode = MEMORY_IO_WEAK; mode <= MEMORY_IO_ORDERED; mode++) {
        const crash_count count = crash_sweep((memory_io_mode)mode, 0, seed);
        assert_int_equal(count.bad, 0);
        assert_true(count.states > 20 * CRASH_STATES);
    }
}

static void test_power_cuts_show_missing_flushes(void **state)
{
    const uint64_t seed = test_seed();

    (void)state;
    for (int mode = MEMORY_IO_WEAK; mode <= MEMORY_IO_ORDERED; mode++) {
        assert_true(crash_sweep((memory_io_mode)mode, IO_FAULT_SYNC, seed).bad > 10);
        assert_true(crash_sweep((memory_io_mode)mode, IO_FAULT_SYNC_DIRECTORY, seed).bad > 10);
    }
}

/* ---- the model disk and the injector themselves ---- */

static void disk_create_file(memory_io *disk, const char *path, const char *text, bool sync)
{
    const nphd_io *io = memory_io_table(disk);
    nphd_file file;
    size_t done;

    assert_int_equal(io->open(io->context, path, NPHD_OPEN_CREATE, &file), 0);
    assert_int_equal(io->write(io->context, file, 0, text, strlen(text), &done), 0);
    assert_int_equal(done, strlen(text));
    if (sync) {
        assert_int_equal(io->sync(io->context, file), 0);
    }
    assert_int_equal(io->close(io->context, file), 0);
}

static void test_disk_loses_what_is_not_flushed(void **state)
{
    static const size_t names[] = {0, 1, 1, 0}; /* of the states 0 to 3 */
    memory_io *disk = memory_io_create(1);

    (void)state;
    disk_create_file(disk, "d/a", "text", false);
    for (uint64_t i = 0; i < 4; i++) {
        memory_io *after = memory_io_crash(disk, MEMORY_IO_WEAK, i);
        size_t bytes;
        assert_int_equal(memory_io_count(after, NULL), names[i]);
        void *found = memory_io_get(after, "d/a", &bytes);
        assert_int_equal(found != NULL, names[i] != 0);
        assert_int_equal(bytes, i == 1 ? 4 : 0);
        free(found);
        memory_io_destroy(after);
    }
    const nphd_io *io = memory_io_table(disk);
    assert_int_equal(io->sync_directory(io->context, "other"), 0);
    memory_io *after = memory_io_crash(disk, MEMORY_IO_WEAK, 0);
    assert_int_equal(memory_io_count(after, NULL), 0); /* that was another directory */
    memory_io_destroy(after);
    assert_int_equal(io->sync_directory(io->context, "d"), 0);
    memory_io_power_off(disk, MEMORY_IO_WEAK, 0);
    assert_int_equal(memory_io_count(disk, NULL), 1);
    memory_io_destroy(disk);
}

/* Ordered: names survive as a prefix. Weak: all eight subsets of three are seen. */
static void test_disk_keeps_names_as_the_model_says(void **state)
{
    memory_io *disk = memory_io_create(1);
    unsigned seen[2] = {0, 0};

    (void)state;
    disk_create_file(disk, "a", "1", true);
    disk_create_file(disk, "b", "2", true);
    disk_create_file(disk, "c", "3", true);
    for (int mode = MEMORY_IO_WEAK; mode <= MEMORY_IO_ORDERED; mode++) {
        for (uint64_t i = 0; i < 200; i++) {
            memory_io *after = memory_io_crash(disk, (memory_io_mode)mode, i);
            const unsigned subset =
                (unsigned)(memory_io_count(after, "a") + 2 * memory_io_count(after, "b") +
                           4 * memory_io_count(after, "c"));
            seen[mode] |= 1u << subset;
            memory_io_destroy(after);
        }
    }
    assert_int_equal(seen[MEMORY_IO_WEAK], 0xff);
    assert_int_equal(seen[MEMORY_IO_ORDERED], 1u << 0 | 1u << 1 | 1u << 3 | 1u << 7);
    memory_io_destroy(disk);
}

static void test_disk_tears_blocks(void **state)
{
    const size_t bytes = 5 * 4096;
    uint8_t *content = malloc(bytes);
    memory_io *disk = memory_io_create(1);
    const nphd_io *io = memory_io_table(disk);
    uint64_t garbage = 0;
    uint64_t prints = 0;
    nphd_file file;
    size_t done;

    (void)state;
    assert_non_null(content);
    memset(content, 0xff, bytes);
    assert_int_equal(io->open(io->context, "f", NPHD_OPEN_CREATE, &file), 0);
    assert_int_equal(io->write(io->context, file, 0, content, bytes, &done), 0);
    assert_int_equal(io->sync_directory(io->context, "."), 0);
    for (uint64_t i = 0; i < 300; i++) {
        memory_io *after = memory_io_crash(disk, MEMORY_IO_WEAK, i);
        uint8_t *found = memory_io_get(after, "f", &done);
        assert_non_null(found);
        assert_true(done <= bytes);
        for (size_t k = 0; k < done; k++) {
            garbage += found[k] != 0 && found[k] != 0xff;
        }
        prints ^= memory_io_fingerprint(after) * (i + 1);
        free(found);
        memory_io_destroy(after);
    }
    assert_true(garbage > 0);
    assert_true(prints != 0);
    assert_int_equal(io->close(io->context, file), 0);
    memory_io_destroy(disk);
    free(content);
}

static void test_disk_maps_outlive_names(void **state)
{
    memory_io *disk = memory_io_create(1);
    const nphd_io *io = memory_io_table(disk);
    const void *base = NULL;
    nphd_file file;

    (void)state;
    disk_create_file(disk, "a", "old text", true);
    disk_create_file(disk, "b", "new text", true);
    assert_int_equal(io->open(io->context, "a", NPHD_OPEN_READ, &file), 0);
    assert_int_equal(io->map(io->context, file, 8, &base), 0);
    assert_int_equal(io->map(io->context, file, 9, &(const void *){NULL}), EINVAL);
    assert_int_equal(io->close(io->context, file), 0);
    assert_int_equal(io->rename(io->context, "b", "a"), 0);
    assert_int_equal(io->remove(io->context, "./a"), 0);
    memory_io_power_off(disk, MEMORY_IO_ORDERED, 1);
    assert_memory_equal(base, "old text", 8);
    assert_int_equal(memory_io_maps(disk), 1);
    io->unmap(io->context, base, 8);
    assert_int_equal(memory_io_maps(disk), 0);
    assert_int_equal(memory_io_mistakes(disk), 0);
    io->unmap(io->context, base, 8);
    assert_int_equal(io->close(io->context, file), EBADF); /* from before the cut: no mistake */
    assert_int_equal(memory_io_mistakes(disk), 1);
    memory_io_destroy(disk);
}

static void test_disk_without_power_answers_eio(void **state)
{
    memory_io *disk = memory_io_create(1);
    const nphd_io *io = memory_io_table(disk);
    nphd_file file;
    size_t done;

    (void)state;
    memory_io_cut_after(disk, 2);
    assert_int_equal(io->open(io->context, "f", NPHD_OPEN_CREATE, &file), 0);
    assert_int_equal(io->write(io->context, file, 0, "x", 1, &done), 0);
    assert_false(memory_io_is_cut(disk));
    assert_int_equal(io->sync(io->context, file), EIO);
    assert_true(memory_io_is_cut(disk));
    assert_int_equal(memory_io_operations(disk), 2);
    assert_int_equal(io->remove(io->context, "f"), EIO);
    assert_int_equal(io->close(io->context, file), 0);
    memory_io_power_off(disk, MEMORY_IO_WEAK, 1);
    assert_int_equal(io->remove(io->context, "f"), 0);
    memory_io_destroy(disk);
}

static void test_injector_notices_a_repeated_sync(void **state)
{
    file_bench bench;
    const nphd_io *io;
    nphd_file file;

    (void)state;
    bench_start(&bench, 6);
    io = &bench.fault.table;
    assert_int_equal(io->open(io->context, "f", NPHD_OPEN_CREATE, &file), 0);
    assert_int_equal(io->sync(io->context, file), 0);
    assert_int_equal(io->sync(io->context, file), 0);
    assert_int_equal(bench.fault.repeated_syncs, 0); /* the first had succeeded */
    io_fault_arm(&bench.fault, IO_FAULT_SYNC, 1, EIO, false);
    assert_int_equal(io->sync(io->context, file), EIO);
    assert_int_equal(io->sync(io->context, file), 0);
    assert_int_equal(bench.fault.repeated_syncs, 1);
    assert_int_equal(io->close(io->context, file), 0);
    bench.fault.repeated_syncs = 0;
    bench_end(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_posix_round_trip),
        cmocka_unit_test(test_posix_permissions_follow_umask),
        cmocka_unit_test(test_posix_refuses_what_is_no_file),
        cmocka_unit_test(test_posix_random),
        cmocka_unit_test(test_system_allocator_ranges),
        cmocka_unit_test(test_rwlock_excludes),
        cmocka_unit_test(test_rwlock_starves_no_writer),
        cmocka_unit_test(test_spinlock_excludes),
        cmocka_unit_test(test_threads_run_each_once),
        cmocka_unit_test(test_threads_refused_by_the_system),
        cmocka_unit_test(test_read_under_every_failure),
        cmocka_unit_test(test_read_behind_the_end),
        cmocka_unit_test(test_replacement_on_the_system),
        cmocka_unit_test(test_replacement_beyond_a_size_limit),
        cmocka_unit_test(test_replacement_directories),
        cmocka_unit_test(test_replacement_name_is_taken),
        cmocka_unit_test(test_replacement_sets_space_aside),
        cmocka_unit_test(test_replacement_on_a_full_disk),
        cmocka_unit_test(test_replacement_under_every_failure),
        cmocka_unit_test(test_replacement_stops_after_a_failure),
        cmocka_unit_test(test_replacement_where_directories_cannot_be_flushed),
        cmocka_unit_test(test_replacement_without_memory),
        cmocka_unit_test(test_replacement_under_power_cuts),
        cmocka_unit_test(test_power_cuts_show_missing_flushes),
        cmocka_unit_test(test_disk_loses_what_is_not_flushed),
        cmocka_unit_test(test_disk_keeps_names_as_the_model_says),
        cmocka_unit_test(test_disk_tears_blocks),
        cmocka_unit_test(test_disk_maps_outlive_names),
        cmocka_unit_test(test_disk_without_power_answers_eio),
        cmocka_unit_test(test_injector_notices_a_repeated_sync),
    };

    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
