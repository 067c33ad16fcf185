/* Directories, locks, copies and removal: of the operating system and of the model disk, the
 * helpers above them under every failure and every power cut; and messages. */
#include "platform/platform.h"

#include "allocator_fault.h"
#include "base/error.h"
#include "base/memory.h"
#include "io_fault.h"
#include "io_memory.h"
#include "platform/log_write.h"
#include "test_random.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define PATH_ROOM 512

static char *base_directory; /* a fresh one, in the place for temporary files */

static int make_base(void **state)
{
    const char *parent = getenv("TMPDIR");
    char *name = malloc(PATH_ROOM);

    (void)state;
    if (name == NULL) {
        return -1;
    }
    (void)snprintf(name, PATH_ROOM, "%s/nphd-test-XXXXXX", parent != NULL ? parent : P_tmpdir);
    base_directory = mkdtemp(name);
    return base_directory == NULL ? -1 : 0;
}

/* Fails when a test has left something there. */
static int remove_base(void **state)
{
    const int failed = rmdir(base_directory);

    (void)state;
    free(base_directory);
    return failed;
}

static const char *base_path(char *out, const char *name)
{
    (void)snprintf(out, PATH_ROOM, "%s/%s", base_directory, name);
    return out;
}

static void create_file(const nphd_io *io, const char *path, const char *text)
{
    nphd_file file;
    size_t done;

    assert_int_equal(io->open(io->context, path, NPHD_OPEN_CREATE, &file), 0);
    assert_int_equal(io->write(io->context, file, 0, text, strlen(text), &done), 0);
    assert_int_equal(done, strlen(text));
    assert_int_equal(io->sync(io->context, file), 0);
    assert_int_equal(io->close(io->context, file), 0);
}

static void check_file(const nphd_io *io, const char *path, const char *text)
{
    char found[64] = {0};
    uint64_t bytes;
    nphd_file file;

    assert_int_equal(nphdi_file_open(io, path, &file, &bytes, NULL), NPHD_OK);
    assert_int_equal(bytes, strlen(text));
    assert_int_equal(nphdi_file_read(io, file, path, 0, found, bytes, NULL), NPHD_OK);
    assert_string_equal(found, text);
    assert_int_equal(io->close(io->context, file), 0);
}

/* ---- what every table promises, for files below `base` ---- */

typedef struct visit_notes {
    uint32_t told;
    uint32_t stop_at;
} visit_notes;

static int count_visit(void *context, const char *name)
{
    visit_notes *notes = context;

    assert_non_null(name);
    return ++notes->told == notes->stop_at ? -77 : 0;
}

static void check_listing(const nphd_io *io, const char *path, size_t count, const char *joined)
{
    char found[PATH_ROOM] = "";
    nphdi_names names;
    nphd_error err = NPHD_ERROR_INIT;

    assert_int_equal(nphdi_directory_list(io, path, nphdi_allocator_system(), &names, &err),
                     NPHD_OK);
    for (size_t i = 0; i < names.count; i++) {
        (void)strcat(strcat(found, names.names[i]), " ");
    }
    assert_string_equal(found, joined);
    assert_int_equal(names.count, count);
    nphdi_names_free(&names);
    assert_null(names.names);
    nphdi_names_free(&names);
}

static void check_directories(const nphd_io *io, const char *base)
{
    visit_notes notes = {0, 2};
    char directory[PATH_ROOM];
    char path[PATH_ROOM + 16];

    (void)snprintf(directory, sizeof(directory), "%s/dir", base);
    assert_int_equal(io->list(io->context, directory, count_visit, &notes), ENOENT);
    assert_int_equal(io->make_directory(io->context, directory), 0);
    assert_int_equal(io->make_directory(io->context, directory), EEXIST);
    check_listing(io, directory, 0, "");
    (void)snprintf(path, sizeof(path), "%s/no/sub", directory);
    assert_int_equal(io->make_directory(io->context, path), ENOENT);
    assert_int_equal(io->open(io->context, path, NPHD_OPEN_CREATE, &(nphd_file){0}), ENOENT);
    for (const char *name = "cab"; *name != '\0'; name++) {
        (void)snprintf(path, sizeof(path), "%s/%c", directory, *name);
        create_file(io, path, "text");
    }
    assert_int_equal(io->make_directory(io->context, path), EEXIST); /* a file */
    assert_int_equal(io->list(io->context, path, count_visit, &notes), ENOTDIR);
    assert_int_equal(notes.told, 0);
    assert_int_equal(io->list(io->context, directory, count_visit, &notes), -77);
    assert_int_equal(notes.told, 2);
    check_listing(io, directory, 3, "a b c ");
    check_listing(io, base, 1, "dir ");
    assert_int_equal(io->open(io->context, directory, NPHD_OPEN_READ, &(nphd_file){0}), EISDIR);
    assert_int_equal(io->remove(io->context, directory), EISDIR);
    assert_int_equal(io->sync_directory(io->context, directory), 0);
    for (const char *name = "abc"; *name != '\0'; name++) {
        (void)snprintf(path, sizeof(path), "%s/%c", directory, *name);
        assert_int_equal(nphdi_file_remove(io, path, *name == 'b', NULL), NPHD_OK);
        assert_int_equal(nphdi_file_remove(io, path, true, NULL), NPHD_OK); /* missing is fine */
    }
    check_listing(io, directory, 0, "");
}

static void check_locks(const nphd_io *io, const char *base)
{
    char path[PATH_ROOM];
    nphd_file first;
    nphd_file second;
    nphd_file other;
    size_t done;

    (void)snprintf(path, sizeof(path), "%s/none/lock", base);
    assert_int_equal(io->lock(io->context, path, &first), ENOENT);
    assert_int_equal(first.handle, -1);
    (void)snprintf(path, sizeof(path), "%s/lock", base);
    assert_int_equal(io->lock(io->context, path, &first), 0);
    assert_int_equal(io->write(io->context, first, 0, "me", 2, &done), 0);
    assert_int_equal(io->lock(io->context, path, &second), EWOULDBLOCK);
    assert_int_equal(second.handle, -1);
    /* other uses of the file neither meet the lock nor end it */
    assert_int_equal(io->open(io->context, path, NPHD_OPEN_READ, &other), 0);
    assert_int_equal(io->close(io->context, other), 0);
    check_file(io, path, "me");
    assert_int_equal(io->lock(io->context, path, &second), EWOULDBLOCK);
    assert_int_equal(io->close(io->context, first), 0);
    assert_int_equal(io->lock(io->context, path, &second), 0);
    check_file(io, path, "me"); /* not cut */
    assert_int_equal(io->lock(io->context, path, &first), EWOULDBLOCK);
    assert_int_equal(io->close(io->context, second), 0);
    assert_int_equal(io->remove(io->context, path), 0);
}

static void check_copies(const nphd_io *io, const char *base)
{
    char from[PATH_ROOM];
    char to[PATH_ROOM];

    (void)snprintf(from, sizeof(from), "%s/from", base);
    (void)snprintf(to, sizeof(to), "%s/to", base);
    assert_int_equal(io->copy(io->context, from, to), ENOENT);
    create_file(io, from, "text");
    assert_int_equal(io->copy(io->context, base, to), EOPNOTSUPP); /* a directory */
    assert_int_equal(io->copy(io->context, from, to), 0);
    assert_int_equal(io->copy(io->context, from, to), EEXIST);
    assert_int_equal(io->copy(io->context, from, from), EEXIST);
    check_file(io, to, "text");
    assert_int_equal(io->remove(io->context, from), 0);
    check_file(io, to, "text");
    create_file(io, from, "other");
    assert_int_equal(io->rename(io->context, from, to), 0);
    check_file(io, to, "other");
    assert_int_equal(io->copy(io->context, to, from), 0);
    assert_int_equal(io->rename(io->context, from, to), 0); /* two names of one file stay */
    check_listing(io, base, 2, "from to ");
    assert_int_equal(io->remove(io->context, from), 0);
    assert_int_equal(io->remove(io->context, to), 0);
}

static void test_posix_table(void **state)
{
    const nphd_io *io = nphdi_io_posix();
    char path[PATH_ROOM];

    (void)state;
    assert_int_equal(nphdi_io_check_directories(io, NULL), NPHD_OK);
    check_directories(io, base_directory);
    assert_int_equal(rmdir(base_path(path, "dir")), 0);
    check_locks(io, base_directory);
    check_copies(io, base_directory);
}

static void test_model_table(void **state)
{
    memory_io *disk = memory_io_create(1);
    const nphd_io *io = memory_io_table(disk);

    (void)state;
    assert_int_equal(io->make_directory(io->context, "base"), 0);
    check_directories(io, "base");
    assert_true(memory_io_has_directory(disk, "./base/dir"));
    memory_io_destroy(disk);
    disk = memory_io_create(1);
    io = memory_io_table(disk);
    assert_int_equal(io->make_directory(io->context, "./base/"), 0);
    check_locks(io, "base");
    check_copies(io, "./base");
    assert_int_equal(memory_io_count(disk, NULL), 0);
    assert_int_equal(memory_io_open_files(disk), 0);
    assert_int_equal(memory_io_mistakes(disk), 0);
    memory_io_destroy(disk);
}

/* ---- what only the operating system has ---- */

static void test_posix_modes(void **state)
{
    const nphd_io *io = nphdi_io_posix();
    const mode_t old = umask(027);
    char path[PATH_ROOM];
    struct stat info;
    nphd_file file;

    (void)state;
    assert_int_equal(io->make_directory(io->context, base_path(path, "dir")), 0);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0750);
    assert_int_equal(io->lock(io->context, path, &file), EISDIR);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(io->lock(io->context, base_path(path, "lock"), &file), 0);
    (void)umask(old);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0640);
    assert_true((fcntl((int)file.handle, F_GETFD) & FD_CLOEXEC) != 0);
    assert_int_equal(io->close(io->context, file), 0);
    assert_int_equal(io->remove(io->context, path), 0);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(io->lock(io->context, path, &file), EINVAL);
    assert_int_equal(io->remove(io->context, path), 0);
}

/* A child that takes the lock, says so, and is killed. */
static void lock_and_wait(const char *path, int pipe_in)
{
    const nphd_io *io = nphdi_io_posix();
    nphd_file file;
    const char answer = io->lock(io->context, path, &file) == 0 ? 'y' : 'n';

    if (write(pipe_in, &answer, 1) == 1) {
        (void)pause();
    }
    _exit(0);
}

static void test_posix_lock_between_processes(void **state)
{
    const nphd_io *io = nphdi_io_posix();
    char path[PATH_ROOM];
    nphd_file file;
    char answer = 0;
    int ends[2];

    (void)state;
    base_path(path, "lock");
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        lock_and_wait(path, ends[1]);
    }
    /* no assertion until the child is gone, or it would stay behind */
    const ssize_t told = read(ends[0], &answer, 1);
    const int during = io->lock(io->context, path, &file);
    const int killed = kill(child, SIGKILL);
    const pid_t waited = waitpid(child, NULL, 0);
    assert_int_equal(told, 1);
    assert_int_equal(answer, 'y');
    assert_int_equal(during, EWOULDBLOCK);
    assert_int_equal(killed, 0);
    assert_int_equal(waited, child);
    assert_int_equal(io->lock(io->context, path, &file), 0);
    assert_int_equal(io->close(io->context, file), 0);
    assert_int_equal(io->remove(io->context, path), 0);
    (void)close(ends[0]);
    (void)close(ends[1]);
}

static void test_posix_copy_follows_links(void **state)
{
    const nphd_io *io = nphdi_io_posix();
    char from[PATH_ROOM];
    char link_path[PATH_ROOM];
    char to[PATH_ROOM];

    (void)state;
    create_file(io, base_path(from, "from"), "text");
    assert_int_equal(symlink("from", base_path(link_path, "link")), 0);
    assert_int_equal(io->copy(io->context, link_path, base_path(to, "to")), 0);
    assert_int_equal(io->remove(io->context, from), 0);
    check_file(io, to, "text");
    assert_int_equal(io->remove(io->context, link_path), 0);
    assert_int_equal(io->remove(io->context, to), 0);
}

/* ---- tables without directories ---- */

static void test_shorter_tables(void **state)
{
    nphd_io table = *nphdi_io_posix();
    nphd_error err = NPHD_ERROR_INIT;

    (void)state;
    assert_true(nphdi_io_has(&table, NPHDI_IO_END(copy)));
    assert_true(nphdi_io_has(&table, NPHDI_IO_END(hold)));
    assert_true(nphdi_io_has(&table, NPHDI_IO_END(remove_directory)));
    assert_true(nphdi_io_has(&table, NPHDI_IO_END(make_directory_like)));
    assert_int_equal(NPHDI_IO_END(make_directory_like), sizeof(nphd_io)); /* the last */
    table.list = NULL;
    assert_int_equal(nphdi_io_check_directories(&table, &err), NPHD_UNSUPPORTED);
    assert_non_null(strstr(err.text, " list,"));
    table.struct_size = offsetof(nphd_io, make_directory);
    assert_true(nphdi_io_has(&table, NPHDI_IO_END(random)));
    assert_false(nphdi_io_has(&table, NPHDI_IO_END(make_directory)));
    assert_int_equal(nphdi_io_check_directories(&table, &err), NPHD_UNSUPPORTED);
    assert_non_null(strstr(err.text, "random"));
}

/* ---- names ---- */

static void test_paths(void **state)
{
    static const struct {
        const char *path;
        size_t directory_bytes;
    } cases[] = {{"name", 0},   {"a/name", 1},   {"/name", 1}, {"/a/b/name", 4}, {"a//name", 1},
                 {"//name", 1}, {"a/b/name", 3}, {"", 0},      {"/", 1},         {"a/b//", 1}};
    static const char *const joins[][3] = {
        {"d", "n", "d/n"}, {"d/", "n", "d/n"}, {"/", "n", "/n"}, {"", "n", "n"}, {".", "n", "./n"}};
    const nphd_allocator *allocator = nphdi_allocator_system();

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(nphdi_path_directory_bytes(cases[i].path), cases[i].directory_bytes);
    }
    for (size_t i = 0; i < sizeof(joins) / sizeof(joins[0]); i++) {
        char *path;
        size_t room;
        assert_int_equal(nphdi_path_join(allocator, joins[i][0], joins[i][1], &path, &room, NULL),
                         NPHD_OK);
        assert_string_equal(path, joins[i][2]);
        assert_int_equal(room, strlen(path) + 1);
        nphdi_free(allocator, path, room, 1);
    }
}

static void test_many_names_are_sorted(void **state)
{
    test_random random = {test_seed()};
    memory_io *disk = memory_io_create(1);
    const nphd_io *io = memory_io_table(disk);
    allocator_fault memory;
    nphdi_names names;

    (void)state;
    allocator_fault_init(&memory);
    for (size_t i = 0; i < 500; i++) {
        char path[32];
        (void)snprintf(path, sizeof(path), "d/%06x",
                       (unsigned)test_random_below(&random, 0x1000000));
        memory_io_put(disk, path, "", 0);
    }
    assert_int_equal(nphdi_directory_list(io, "d", &memory.table, &names, NULL), NPHD_OK);
    assert_int_equal(names.count, memory_io_count(disk, NULL));
    for (size_t i = 1; i < names.count; i++) {
        assert_true(strcmp(names.names[i - 1], names.names[i]) < 0);
    }
    nphdi_names_free(&names);
    assert_true(allocator_fault_is_clean(&memory));
    allocator_fault_destroy(&memory);
    memory_io_destroy(disk);
}

/* ---- making directories ---- */

static nphd_status make_on(const nphd_io *io, const char *path, nphd_error *err)
{
    return nphdi_directory_make(io, path, nphdi_allocator_system(), err);
}

static void test_making_directories(void **state)
{
    static const char *const paths[] = {"a", "a/b/c", "./a/b/d/", "/r/s", "a/b/c", ".", "/"};
    nphd_error err = NPHD_ERROR_INIT;
    memory_io *disk = memory_io_create(1);
    const nphd_io *io = memory_io_table(disk);

    (void)state;
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        assert_int_equal(make_on(io, paths[i], &err), NPHD_OK);
        memory_io_power_off(disk, MEMORY_IO_WEAK, 0); /* all durable */
    }
    assert_true(memory_io_has_directory(disk, "a/b/c"));
    assert_true(memory_io_has_directory(disk, "a/b/d"));
    assert_true(memory_io_has_directory(disk, "/r/s"));
    memory_io_put(disk, "a/file", "x", 1);
    assert_int_equal(make_on(io, "a/file", &err), NPHD_EXISTS);
    assert_non_null(strstr(err.text, "a/file: "));
    assert_int_equal(make_on(io, "a/file/b", &err), NPHD_IO);
    assert_int_equal(err.os_error, ENOTDIR);
    assert_int_equal(make_on(io, "", &err), NPHD_NOT_FOUND);
    memory_io_destroy(disk);
}

static void test_making_directories_on_the_system(void **state)
{
    static const char *const made[] = {"a/b//c", "a/d", "a/b", "a"};
    nphd_error err = NPHD_ERROR_INIT;
    char path[PATH_ROOM];

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(make_on(nphdi_io_posix(), base_path(path, made[i]), &err), NPHD_OK);
        assert_int_equal(make_on(nphdi_io_posix(), path, &err), NPHD_OK);
    }
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(rmdir(base_path(path, made[i])), 0);
    }
}

/* A directory whose maker ended before the flush gets it from the next. */
static void test_making_flushes_what_is_there(void **state)
{
    memory_io *disk = memory_io_create(1);
    const nphd_io *io = memory_io_table(disk);
    io_fault fault;

    (void)state;
    assert_int_equal(io->make_directory(io->context, "a"), 0);
    assert_int_equal(make_on(io, "a", NULL), NPHD_OK);
    memory_io_power_off(disk, MEMORY_IO_WEAK, 0);
    assert_true(memory_io_has_directory(disk, "a"));
    /* one of others is fine as it is; an own one is not */
    io_fault_init(&fault, io);
    io_fault_arm(&fault, IO_FAULT_SYNC_DIRECTORY, 1, EACCES, true);
    assert_int_equal(make_on(&fault.table, "a", NULL), NPHD_OK);
    assert_int_equal(make_on(&fault.table, "a/b", NULL), NPHD_IO);
    io_fault_arm(&fault, IO_FAULT_SYNC_DIRECTORY, 1, EINVAL, true);
    assert_int_equal(make_on(&fault.table, "a/c", NULL), NPHD_OK);
    io_fault_destroy(&fault);
    memory_io_destroy(disk);
}

/* ---- failures ---- */

/* There may be temporary files too, whose removal failed. */
static bool names_have(const nphdi_names *names, const char *name)
{
    bool found = false;

    for (size_t i = 0; i < names->count; i++) {
        found = found || strcmp(names->names[i], name) == 0;
    }
    return found;
}

/* Makes a/b with a file in it, lists it with the file and without. */
static nphd_status work(const nphd_io *io, const nphd_allocator *allocator, nphd_error *err)
{
    nphdi_names names = {0};
    nphdi_replacement file = {0};
    size_t room = 0;
    char *path = NULL;
    nphd_status status;

    TRY(nphdi_directory_make(io, "a/b", allocator, err));
    TRY(nphdi_path_join(allocator, "a/b", "file", &path, &room, err));
    TRY(nphdi_replacement_begin(&file, io, allocator, path, 0, err));
    TRY(nphdi_replacement_commit(&file, err));
    TRY(nphdi_directory_list(io, "a/b", allocator, &names, err));
    assert_true(names_have(&names, "file"));
    nphdi_names_free(&names);
    TRY(nphdi_file_remove(io, path, true, err));
    TRY(nphdi_directory_list(io, "a/b", allocator, &names, err));
    assert_false(names_have(&names, "file"));
done:
    nphdi_names_free(&names);
    nphdi_replacement_end(&file);
    nphdi_free(allocator, path, room, 1);
    return status;
}

static void test_every_failure_is_told(void **state)
{
    static const int errors[] = {EIO, ENOSPC, EINTR};

    (void)state;
    for (size_t e = 0; e < 6; e++) {
        const int os_error = errors[e / 2];
        const bool for_ever = e % 2 != 0;
        bool met = true;
        for (uint64_t n = 1; met; n++) {
            memory_io *disk = memory_io_create(n);
            nphd_error err = NPHD_ERROR_INIT;
            io_fault fault;
            memory_io_require_directories(disk);
            io_fault_init(&fault, memory_io_table(disk));
            io_fault_arm(&fault, IO_FAULT_ALL, n, os_error, for_ever);
            const nphd_status status = work(&fault.table, nphdi_allocator_system(), &err);
            met = fault.failed > 0;
            const bool repeated = os_error == EINTR && !for_ever &&
                                  (fault.failed_kinds &
                                   (IO_FAULT_SYNC | IO_FAULT_SYNC_DIRECTORY | IO_FAULT_CLOSE)) == 0;
            if (!met || repeated) {
                assert_int_equal(status, NPHD_OK);
            } else {
                assert_int_not_equal(status, NPHD_OK);
                assert_int_equal(err.status, status);
                assert_int_equal(err.os_error, os_error);
                assert_true(err.text[0] == 'a' || err.text[0] == '.');
            }
            assert_int_equal(memory_io_open_files(disk), 0);
            io_fault_disarm(&fault);
            assert_int_equal(work(&fault.table, nphdi_allocator_system(), &err), NPHD_OK);
            io_fault_destroy(&fault);
            memory_io_destroy(disk);
        }
    }
}

static void test_without_memory(void **state)
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
            const nphd_status status = work(memory_io_table(disk), &memory.table, &err);
            met = memory.failed > 0;
            assert_int_equal(status, met ? NPHD_OUT_OF_MEMORY : NPHD_OK);
            assert_int_equal(err.status, status);
            assert_true(allocator_fault_is_clean(&memory));
            allocator_fault_destroy(&memory);
            memory_io_destroy(disk);
        }
    }
}

static void test_injected_lock_and_copy(void **state)
{
    memory_io *disk = memory_io_create(1);
    io_fault fault;
    nphd_file file;

    (void)state;
    memory_io_put(disk, "f", "text", 4);
    io_fault_init(&fault, memory_io_table(disk));
    const nphd_io *io = &fault.table;
    io_fault_arm(&fault, IO_FAULT_LOCK | IO_FAULT_COPY, 1, EXDEV, true);
    assert_int_equal(io->copy(io->context, "f", "g"), EXDEV);
    assert_int_equal(io->lock(io->context, "f", &file), EXDEV);
    assert_int_equal(file.handle, -1);
    assert_int_equal(fault.failed, 2);
    io_fault_disarm(&fault);
    assert_int_equal(io->copy(io->context, "f", "g"), 0);
    assert_int_equal(io->lock(io->context, "f", &file), 0);
    assert_int_equal(io->lock(io->context, "g", &file), EWOULDBLOCK); /* the same file */
    assert_int_equal(fault.open_files, 1);
    assert_int_equal(memory_io_locks(disk), 1);
    memory_io_power_off(disk, MEMORY_IO_WEAK, 0);
    assert_int_equal(memory_io_locks(disk), 0);
    assert_int_equal(memory_io_table(disk)->lock(disk, "f", &file), 0);
    io_fault_destroy(&fault);
    memory_io_destroy(disk);
}

/* ---- power cuts ---- */

#define CRASH_STATES 40

/* Steps of the workload that were acknowledged: 1: a/b made, 2: the file, 3: its copy. */
static uint32_t crash_workload(const nphd_io *io)
{
    nphdi_replacement file = {0};
    uint32_t step = 0;

    if (make_on(io, "a/b", NULL) == NPHD_OK) {
        step = 1;
        if (nphdi_replacement_begin(&file, io, nphdi_allocator_system(), "a/b/f", 0, NULL) ==
                NPHD_OK &&
            nphdi_replacement_write(&file, "text", 4, NULL) == NPHD_OK &&
            nphdi_replacement_commit(&file, NULL) == NPHD_OK) {
            step = 2;
        }
    }
    if (step == 2 && io->copy(io->context, "a/b/f", "a/g") == 0 &&
        io->sync_directory(io->context, "a") == 0) {
        step = 3;
    }
    nphdi_replacement_end(&file);
    return step;
}

static bool crash_has(memory_io *after, const char *path)
{
    size_t bytes;
    char *found = memory_io_get(after, path, &bytes);
    const bool whole = found != NULL && bytes == 4 && memcmp(found, "text", 4) == 0;

    free(found);
    return whole;
}

static bool crash_is_good(memory_io *after, uint32_t step)
{
    /* what exists has a directory: the workload runs again on what is left */
    return (step < 1 || memory_io_has_directory(after, "a/b")) &&
           (step < 2 || crash_has(after, "a/b/f")) && (step < 3 || crash_has(after, "a/g")) &&
           (memory_io_count(after, "a/b/") == 0 || memory_io_has_directory(after, "a/b")) &&
           (!memory_io_has_directory(after, "a/b") || memory_io_has_directory(after, "a")) &&
           nphdi_file_remove(memory_io_table(after), "a/g", true, NULL) == NPHD_OK &&
           crash_workload(memory_io_table(after)) == 3;
}

/* Cuts the power after every number of operations; `swallow` seeds a bug. */
static uint64_t crash_sweep(memory_io_mode mode, uint32_t swallow, uint64_t seed)
{
    uint64_t bad = 0;
    bool cut = true;

    for (uint64_t operations = 0; cut; operations++) {
        memory_io *disk = memory_io_create(seed);
        io_fault fault;
        memory_io_require_directories(disk);
        io_fault_init(&fault, memory_io_table(disk));
        fault.swallow = swallow;
        memory_io_cut_after(disk, operations);
        const uint32_t step = crash_workload(&fault.table);
        cut = memory_io_is_cut(disk);
        assert_true(cut || step == 3);
        for (uint64_t state = 0; state < CRASH_STATES; state++) {
            memory_io *after = memory_io_crash(disk, mode, state < 4 ? state : seed + state);
            bad += !crash_is_good(after, step);
            memory_io_destroy(after);
        }
        io_fault_destroy(&fault);
        memory_io_destroy(disk);
    }
    return bad;
}

static void test_power_cuts(void **state)
{
    const uint64_t seed = test_seed();

    (void)state;
    for (int mode = MEMORY_IO_WEAK; mode <= MEMORY_IO_ORDERED; mode++) {
        assert_int_equal(crash_sweep((memory_io_mode)mode, 0, seed), 0);
        assert_true(crash_sweep((memory_io_mode)mode, IO_FAULT_SYNC_DIRECTORY, seed) > 10);
        assert_true(crash_sweep((memory_io_mode)mode, IO_FAULT_SYNC, seed) > 10);
    }
}

static void test_lost_directories_take_their_files(void **state)
{
    memory_io *disk = memory_io_create(1);
    const nphd_io *io = memory_io_table(disk);
    nphd_file file;

    (void)state;
    assert_int_equal(io->make_directory(io->context, "d"), 0);
    create_file(io, "d/f", "text");
    assert_int_equal(io->sync_directory(io->context, "d"), 0);
    memory_io *after = memory_io_crash(disk, MEMORY_IO_WEAK, 0);
    assert_int_equal(memory_io_count(after, NULL), 0);
    assert_int_equal(memory_io_table(after)->open(after, "d/f", NPHD_OPEN_CREATE, &file), ENOENT);
    assert_int_equal(memory_io_table(after)->sync_directory(after, "d"), ENOENT);
    memory_io_destroy(after);
    assert_int_equal(io->sync_directory(io->context, "."), 0);
    memory_io_power_off(disk, MEMORY_IO_WEAK, 0);
    check_file(io, "d/f", "text");
    memory_io_destroy(disk);
}

/* ---- messages ---- */

typedef struct log_notes {
    nphd_log_level level;
    char text[2000];
} log_notes;

static void log_note(void *context, nphd_log_level level, const char *text)
{
    log_notes *notes = context;

    notes->level = level;
    (void)snprintf(notes->text, sizeof(notes->text), "%s", text);
}

static void test_messages_to_a_logger(void **state)
{
    log_notes notes = {NPHD_LOG_ERROR, ""};
    const nphdi_log log = {log_note, &notes};
    char long_text[3000];

    (void)state;
    nphdi_log_write(&log, NPHD_LOG_DEBUG, "shard %d of \"%s\"", 3, "a\nb\x7f\x1b");
    assert_int_equal(notes.level, NPHD_LOG_DEBUG);
    assert_string_equal(notes.text, "shard 3 of \"a?b??\"");
    memset(long_text, 'x', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    nphdi_log_write(&log, NPHD_LOG_ERROR, "%s", long_text);
    assert_int_equal(notes.level, NPHD_LOG_ERROR);
    assert_int_equal(strlen(notes.text), 1023);
}

static void test_messages_without_a_logger(void **state)
{
    const nphdi_log none = {NULL, NULL};
    char found[200] = "";
    int ends[2];

    (void)state;
    const int saved = dup(STDERR_FILENO);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
    nphdi_log_write(&none, NPHD_LOG_DEBUG, "one");
    nphdi_log_write(&none, NPHD_LOG_INFO, "two");
    nphdi_log_write(&none, NPHD_LOG_WARNING, "three");
    nphdi_log_write(NULL, NPHD_LOG_ERROR, "%s", "four");
    assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
    (void)close(saved);
    (void)close(ends[1]);
    size_t have = 0;
    ssize_t done;
    while ((done = read(ends[0], found + have, sizeof(found) - 1 - have)) > 0) {
        have += (size_t)done;
    }
    (void)close(ends[0]);
    assert_string_equal(found, "nphd: warning: three\nnphd: error: four\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_posix_table),
        cmocka_unit_test(test_model_table),
        cmocka_unit_test(test_posix_modes),
        cmocka_unit_test(test_posix_lock_between_processes),
        cmocka_unit_test(test_posix_copy_follows_links),
        cmocka_unit_test(test_shorter_tables),
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_many_names_are_sorted),
        cmocka_unit_test(test_making_directories),
        cmocka_unit_test(test_making_directories_on_the_system),
        cmocka_unit_test(test_making_flushes_what_is_there),
        cmocka_unit_test(test_every_failure_is_told),
        cmocka_unit_test(test_without_memory),
        cmocka_unit_test(test_injected_lock_and_copy),
        cmocka_unit_test(test_power_cuts),
        cmocka_unit_test(test_lost_directories_take_their_files),
        cmocka_unit_test(test_messages_to_a_logger),
        cmocka_unit_test(test_messages_without_a_logger),
    };

    return cmocka_run_group_tests(tests, make_base, remove_base);
}
