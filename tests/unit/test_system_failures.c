/* The system's part of the library under a system that fails: the I/O table and the allocator
 * are compiled in here once more, with the calls of the system that they make replaced
 * by ones that can be told to fail. Each failure is answered as the tables promise, and none leaves
 * a descriptor open. */
#ifndef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64
#endif

#include <nphd/nphd.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- the calls, and what is planted in them ---- */

#define ZERO_BYTES (-1) /* in place of an errno: the call succeeds and moves nothing */

static struct {
    const char *call;
    int os_error;
    int times;
} planted;

static void plant(const char *call, int os_error, int times)
{
    planted.call = call;
    planted.os_error = os_error;
    planted.times = times;
}

static int fails(const char *call)
{
    if (planted.times > 0 && strcmp(planted.call, call) == 0) {
        planted.times--;
        errno = planted.os_error > 0 ? planted.os_error : 0;
        return planted.os_error;
    }
    return 0;
}

static int open_(const char *path, int flags, ...) /* of the device of random numbers */
{
    (void)flags;
    return fails("open") ? -1 : open(path, O_RDONLY | O_CLOEXEC);
}

static int openat_(int at, const char *path, int flags, ...)
{
    va_list list;
    unsigned mode = 0;

    if ((flags & O_CREAT) != 0) {
        va_start(list, flags);
        mode = va_arg(list, unsigned);
        va_end(list);
    }
    return fails("open") ? -1 : openat(at, path, flags, (mode_t)mode);
}

static int fstat_(int descriptor, struct stat *out)
{
    return fails("fstat") ? -1 : fstat(descriptor, out);
}

static ssize_t pread_(int descriptor, void *out, size_t bytes, off_t offset)
{
    return fails("pread") ? -1 : pread(descriptor, out, bytes, offset);
}

static ssize_t pwrite_(int descriptor, const void *data, size_t bytes, off_t offset)
{
    const int failed = fails("pwrite");

    return failed == ZERO_BYTES ? 0 : failed ? -1 : pwrite(descriptor, data, bytes, offset);
}

static ssize_t read_(int descriptor, void *out, size_t bytes)
{
    const int failed = fails("read");

    return failed == ZERO_BYTES ? 0 : failed ? -1 : read(descriptor, out, bytes);
}

static int mprotect_(void *at, size_t bytes, int access)
{
    return fails("mprotect") ? -1 : mprotect(at, bytes, access);
}

static int fallocate_(int descriptor, int mode, off_t offset, off_t bytes)
{
    return fails("fallocate") ? -1 : fallocate(descriptor, mode, offset, bytes);
}

static int fdatasync_(int descriptor)
{
    return fails("fdatasync") ? -1 : fdatasync(descriptor);
}

static int fsync_(int descriptor)
{
    return fails("fsync") ? -1 : fsync(descriptor);
}

static int close_(int descriptor)
{
    const int done = close(descriptor); /* also where it tells of an error */

    return fails("close") ? -1 : done;
}

static void *mmap_(void *at, size_t bytes, int protection, int flags, int descriptor, off_t offset)
{
    return fails("mmap") ? MAP_FAILED : mmap(at, bytes, protection, flags, descriptor, offset);
}

static int renameat_(int from_at, const char *from, int to_at, const char *to)
{
    return fails("rename") ? -1 : renameat(from_at, from, to_at, to);
}

static DIR *fdopendir_(int descriptor)
{
    return fails("fdopendir") ? NULL : fdopendir(descriptor);
}

static int fstatat_(int at, const char *path, struct stat *out, int flags)
{
    return fails("fstatat") ? -1 : fstatat(at, path, out, flags);
}

static ssize_t readlinkat_(int at, const char *path, char *out, size_t room)
{
    return fails("readlink") ? -1 : readlinkat(at, path, out, room);
}

static char *realpath_(const char *path, char *out)
{
    return fails("realpath") ? NULL : realpath(path, out);
}

static int fchown_(int descriptor, uid_t owner, gid_t group)
{
    return fails("fchown") ? -1 : fchown(descriptor, owner, group);
}

static int fchmod_(int descriptor, mode_t mode)
{
    return fails("fchmod") ? -1 : fchmod(descriptor, mode);
}

static int flock_(int descriptor, int how)
{
    return fails("flock") ? -1 : flock(descriptor, how);
}

static struct dirent *readdir_(DIR *directory)
{
    return fails("readdir") ? NULL : readdir(directory);
}

static int fcntl_(int descriptor, int command, const struct flock *lock)
{
    return fails("fcntl") ? -1 : fcntl(descriptor, command, lock);
}

static int linkat_(int from_at, const char *from, int to_at, const char *to, int flags)
{
    return fails("linkat") ? -1 : linkat(from_at, from, to_at, to, flags);
}

static ssize_t getrandom_(void *out, size_t bytes, unsigned flags)
{
    return fails("getrandom") ? -1 : getrandom(out, bytes, flags);
}

static long sysconf_(int name)
{
    return fails("sysconf") ? -1 : sysconf(name);
}

/* like functions, so that members of the tables keep their names */
#define open(...) open_(__VA_ARGS__)
#define fstat(...) fstat_(__VA_ARGS__)
#define pread(...) pread_(__VA_ARGS__)
#define pwrite(...) pwrite_(__VA_ARGS__)
#define read(...) read_(__VA_ARGS__)
#define fallocate(...) fallocate_(__VA_ARGS__)
#define fdatasync(...) fdatasync_(__VA_ARGS__)
#define fsync(...) fsync_(__VA_ARGS__)
#define close(...) close_(__VA_ARGS__)
#define mmap(...) mmap_(__VA_ARGS__)
#define openat(...) openat_(__VA_ARGS__)
#define renameat(...) renameat_(__VA_ARGS__)
#define fdopendir(...) fdopendir_(__VA_ARGS__)
#define fstatat(...) fstatat_(__VA_ARGS__)
#define readlinkat(...) readlinkat_(__VA_ARGS__)
#define realpath(...) realpath_(__VA_ARGS__)
#define fchown(...) fchown_(__VA_ARGS__)
#define fchmod(...) fchmod_(__VA_ARGS__)
#define flock(...) flock_(__VA_ARGS__)
#define readdir(...) readdir_(__VA_ARGS__)
#define fcntl(...) fcntl_(__VA_ARGS__)
#define linkat(...) linkat_(__VA_ARGS__)
#define getrandom(...) getrandom_(__VA_ARGS__)
#define sysconf(...) sysconf_(__VA_ARGS__)
#define mprotect(...) mprotect_(__VA_ARGS__)
#define nphdi_io_posix io_posix_here
#define nphdi_posix_open posix_open_here
#define nphdi_posix_rename posix_rename_here
#define nphdi_posix_remove posix_remove_here
#define nphdi_posix_sync_directory posix_sync_directory_here
#define nphdi_posix_make_directory posix_make_directory_here
#define nphdi_posix_list posix_list_here
#define nphdi_posix_lock posix_lock_here
#define nphdi_posix_copy posix_copy_here
#define nphdi_posix_root posix_root_here
#define nphdi_posix_unroot posix_unroot_here
#define nphdi_posix_look posix_look_here
#define nphdi_posix_resolve posix_resolve_here
#define nphdi_posix_create_like posix_create_like_here
#define nphdi_posix_hold posix_hold_here
#define nphdi_allocator_system allocator_system_here
#include "platform/allocator_system.c"
#include "platform/io_posix.c"
#include "platform/io_posix_names.c"
#undef open
#undef fstat
#undef pread
#undef pwrite
#undef read
#undef close
#undef openat
#undef mmap

/* ---- files ---- */

static int descriptors(void)
{
    int count = 0;

    for (int i = 0; i < 256; i++) {
        count += fcntl(i, F_GETFD, NULL) >= 0;
    }
    return count;
}

typedef struct scene {
    const nphd_io *io;
    char directory[64];
    char path[80];
    char other[80];
    int descriptors;
} scene;

static scene begin(void)
{
    scene of;

    of.io = io_posix_here();
    (void)snprintf(of.directory, sizeof(of.directory), "/tmp/nphd_system_XXXXXX");
    assert_non_null(mkdtemp(of.directory));
    (void)snprintf(of.path, sizeof(of.path), "%s/file", of.directory);
    (void)snprintf(of.other, sizeof(of.other), "%s/other", of.directory);
    of.descriptors = descriptors();
    return of;
}

static void end(const scene *of)
{
    assert_int_equal(planted.times, 0);
    assert_int_equal(descriptors(), of->descriptors);
    (void)unlink(of->path);
    (void)unlink(of->other);
    assert_int_equal(rmdir(of->directory), 0);
}

static void test_files(void **unused)
{
    scene of = begin();
    const nphd_io *io = of.io;
    nphd_file file;
    nphd_file closed = {-1};
    char bytes[16] = "0123456789";
    size_t done = 7;
    uint64_t size = 7;
    const void *base = bytes;

    (void)unused;
    plant("open", ENFILE, 1);
    assert_int_equal(io->open(NULL, of.path, NPHD_OPEN_CREATE, &file), ENFILE);
    assert_int_equal(io->open(NULL, of.path, NPHD_OPEN_CREATE, &file), 0);
    plant("pwrite", EIO, 1);
    assert_int_equal(io->write(NULL, file, 0, bytes, 10, &done), EIO);
    assert_int_equal(done, 0);
    plant("pwrite", ZERO_BYTES, 1);
    assert_int_equal(io->write(NULL, file, 0, bytes, 10, &done), EIO);
    plant("pwrite", ZERO_BYTES, 1);
    assert_int_equal(io->write(NULL, file, 0, bytes, 0, &done), 0);
    assert_int_equal(io->write(NULL, file, (uint64_t)INT64_MAX, bytes, 10, &done), EFBIG);
    assert_int_equal(io->write(NULL, file, UINT64_MAX, bytes, 10, &done), EFBIG);
    /* more than one call may move: refused by the size, not written */
    assert_int_equal(io->write(NULL, file, (uint64_t)INT64_MAX, bytes, SIZE_MAX, &done), EFBIG);
    plant("fallocate", ENOSPC, 1);
    assert_int_equal(io->allocate(NULL, file, 100), ENOSPC);
    assert_int_equal(io->allocate(NULL, file, UINT64_MAX), EFBIG);
    assert_int_equal(io->allocate(NULL, file, 0), 0);
    assert_int_equal(io->write(NULL, file, 0, bytes, 10, &done), 0);
    plant("fdatasync", EIO, 1);
    assert_int_equal(io->sync(NULL, file), EIO);
    plant("close", EINTR, 1); /* has closed, and lost nothing */
    assert_int_equal(io->close(NULL, file), 0);
    plant("fstat", EIO, 1);
    assert_int_equal(io->open(NULL, of.path, NPHD_OPEN_READ, &file), EIO);
    assert_int_equal(file.handle, -1);
    assert_int_equal(io->open(NULL, of.path, NPHD_OPEN_READ, &file), 0);
    plant("fstat", EIO, 1);
    assert_int_equal(io->size(NULL, file, &size), EIO);
    assert_int_equal(size, 0);
    plant("pread", EIO, 1);
    assert_int_equal(io->read(NULL, file, 0, bytes, 10, &done), EIO);
    assert_int_equal(io->read(NULL, file, (uint64_t)INT64_MAX, bytes, SIZE_MAX, &done), EOVERFLOW);
    plant("fstat", EIO, 1);
    assert_int_equal(io->map(NULL, file, 10, &base), EIO);
    assert_null(base);
    assert_int_equal(io->map(NULL, file, 0, &base), EINVAL);
    assert_int_equal(io->map(NULL, file, 11, &base), EINVAL);
    plant("mmap", ENOMEM, 1);
    assert_int_equal(io->map(NULL, file, 10, &base), ENOMEM);
    assert_int_equal(io->map(NULL, file, 10, &base), 0);
    assert_memory_equal(base, "0123456789", 10);
    io->unmap(NULL, base, 10);
    plant("close", EIO, 1);
    assert_int_equal(io->close(NULL, file), EIO);
    assert_int_equal(io->close(NULL, closed), EBADF);
    plant("rename", EXDEV, 1);
    assert_int_equal(io->rename(NULL, of.path, of.other), EXDEV);
    end(&of);
}

static int visit(void *context, const char *name)
{
    (void)context;
    (void)name;
    return 0;
}

static void test_directories(void **unused)
{
    scene of = begin();
    const nphd_io *io = of.io;
    nphd_file file;
    static const int no_links[] = {EPERM, EMLINK, ENOSYS};

    (void)unused;
    plant("open", EINTR, 3);
    assert_int_equal(io->sync_directory(NULL, of.directory), 0);
    plant("open", EINTR, NPHDI_INTERRUPT_TRIES);
    assert_int_equal(io->sync_directory(NULL, of.directory), EINTR);
    plant("open", EMFILE, 1);
    assert_int_equal(io->sync_directory(NULL, of.directory), EMFILE);
    plant("fsync", EIO, 1);
    assert_int_equal(io->sync_directory(NULL, of.directory), EIO);
    plant("readdir", EIO, 1);
    assert_int_equal(io->list(NULL, of.directory, visit, NULL), EIO);
    plant("open", EROFS, 1);
    assert_int_equal(io->lock(NULL, of.path, &file), EROFS);
    plant("fstat", EIO, 1);
    assert_int_equal(io->lock(NULL, of.path, &file), EIO);
    plant("fcntl", EAGAIN, 1);
    assert_int_equal(io->lock(NULL, of.path, &file), EWOULDBLOCK);
    plant("fcntl", EACCES, 1);
    assert_int_equal(io->lock(NULL, of.path, &file), EWOULDBLOCK);
    plant("fcntl", ENOLCK, 1);
    assert_int_equal(io->lock(NULL, of.path, &file), ENOLCK);
    assert_int_equal(file.handle, -1);
    for (size_t i = 0; i < 3; i++) {
        plant("linkat", no_links[i], 1);
        assert_int_equal(io->copy(NULL, of.path, of.other), EOPNOTSUPP);
    }
    plant("linkat", EIO, 1);
    assert_int_equal(io->copy(NULL, of.path, of.other), EIO);
    end(&of);
}

/* Without getrandom the device is read, and whatever stops that is told. */
static void test_random_numbers(void **unused)
{
    scene of = begin();
    const nphd_io *io = of.io;
    uint8_t bytes[600];
    int zeros = 0;

    (void)unused;
    memset(bytes, 0, sizeof(bytes));
    plant("getrandom", EINTR, 2);
    assert_int_equal(io->random(NULL, bytes, sizeof(bytes)), 0);
    memset(bytes, 0, sizeof(bytes));
    plant("getrandom", ENOSYS, 1);
    assert_int_equal(io->random(NULL, bytes, sizeof(bytes)), 0);
    for (size_t i = 0; i < sizeof(bytes); i++) {
        zeros += bytes[i] == 0;
    }
    assert_in_range(zeros, 0, 60);
    end(&of);
}

static int device_with(const char *call, int os_error, int times)
{
    uint8_t bytes[300];

    plant(call, os_error, times);
    return random_from_device(bytes, sizeof(bytes));
}

static void test_random_device(void **unused)
{
    scene of = begin();

    (void)unused;
    assert_int_equal(device_with("open", EINTR, 3), 0);
    assert_int_equal(device_with("open", EINTR, NPHDI_INTERRUPT_TRIES), EINTR);
    assert_int_equal(device_with("open", ENOENT, 1), ENOENT);
    assert_int_equal(device_with("read", EINTR, 1), 0);
    assert_int_equal(device_with("read", EIO, 1), EIO);
    assert_int_equal(device_with("read", ZERO_BYTES, 1), EIO);
    end(&of);
}

/* ---- memory ---- */

static void test_memory(void **unused)
{
    const nphd_allocator *allocator = allocator_system_here();
    void *range;

    (void)unused;
    plant("mmap", ENOMEM, 1);
    assert_null(allocator->reserve(NULL, 1 << 20));
    range = allocator->reserve(NULL, 1 << 20);
    assert_non_null(range);
    plant("sysconf", EINVAL, 1);
    assert_int_not_equal(allocator->commit(NULL, range, 0, 100), 0);
    assert_int_equal(allocator->commit(NULL, range, 0, 100), 0);
    assert_int_equal(allocator->commit(NULL, range, 8192, 8192), 0);
    allocator->unreserve(NULL, range, 1 << 20);

    /* what is left is the program's own */
    plant("mmap", ENOMEM, 1);
    assert_null(allocator->reserve(NULL, 1 << 20));
    plant("sysconf", EINVAL, 1);
    assert_null(allocator->reserve(NULL, 1 << 20));
    plant("mprotect", ENOMEM, 1);
    assert_null(allocator->reserve(NULL, 1 << 20));
    plant("mprotect", ENOMEM, 1);
    assert_null(allocator->allocate(NULL, 1 << 20));
    range = allocator->allocate(NULL, 1 << 20);
    assert_non_null(range);
    allocator->release(NULL, range, 1 << 20);
    assert_int_equal(planted.times, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),          cmocka_unit_test(test_directories),
        cmocka_unit_test(test_random_numbers), cmocka_unit_test(test_random_device),
        cmocka_unit_test(test_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
