/* The I/O table over POSIX calls: what is done with open files; what is done by name stands in
 * io_posix_names.c. Each function makes one system call and answers its errno; repeating and
 * continuing is done by the callers, alike for every table.
 * Sources: fallocate(2), fsync(2), close(2), mmap(2). */
#ifndef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64
#endif

#include "platform/io_posix.h"
#include "base/seeded_bug.h"
#include "platform/interrupt.h"
#include "platform/platform.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/random.h>
#endif

/* Linux moves at most 0x7ffff000 bytes a call, others fail above INT_MAX; the rest comes with the
 * next call. */
#define TRANSFER_MAX_BYTES ((size_t)1 << 30)

/* Written data is handed to the device in pieces of this size. */
#define WRITEBACK_BYTES ((uint64_t)4 << 20)

/* getentropy and getrandom deliver this much without being interrupted. */
#define RANDOM_STEP_BYTES 256

_Static_assert(sizeof(off_t) == 8, "file offsets have 64 bits");

static bool offset_fits(uint64_t offset, uint64_t bytes)
{
    return offset <= INT64_MAX && bytes <= INT64_MAX - offset;
}

static int posix_descriptor(nphd_file file)
{
    return (int)file.handle;
}

static int posix_size(void *context, nphd_file file, uint64_t *out_bytes)
{
    struct stat info;

    (void)context;
    *out_bytes = 0;
    if (fstat(posix_descriptor(file), &info) != 0) {
        return errno;
    }
    *out_bytes = (uint64_t)info.st_size;
    return 0;
}

static int posix_read(void *context, nphd_file file, uint64_t offset, void *buffer, size_t bytes,
                      size_t *out_done)
{
    ssize_t done;

    (void)context;
    *out_done = 0;
    if (bytes > TRANSFER_MAX_BYTES) {
        bytes = TRANSFER_MAX_BYTES;
    }
    if (!offset_fits(offset, bytes)) {
        return EOVERFLOW;
    }
    done = pread(posix_descriptor(file), buffer, bytes, (off_t)offset);
    if (done < 0) {
        return errno;
    }
    *out_done = (size_t)done;
    return 0;
}

/* Lets the device begin with what is written while the rest is still being made: a save then takes
 * about as long as the slower of the two (bench_index, save). A hint: errors show at the flush. */
static void begin_writeback(nphd_file file, uint64_t offset, size_t bytes)
{
#ifdef SYNC_FILE_RANGE_WRITE
    const uint64_t begin = offset / WRITEBACK_BYTES * WRITEBACK_BYTES;
    const uint64_t end = (offset + bytes) / WRITEBACK_BYTES * WRITEBACK_BYTES;

    if (end > begin) {
        (void)sync_file_range(posix_descriptor(file), (off_t)begin, (off_t)(end - begin),
                              SYNC_FILE_RANGE_WRITE);
    }
#else
    (void)file;
    (void)offset;
    (void)bytes;
#endif
}

static int posix_write(void *context, nphd_file file, uint64_t offset, const void *buffer,
                       size_t bytes, size_t *out_done)
{
    ssize_t done;

    (void)context;
    *out_done = 0;
    if (bytes > TRANSFER_MAX_BYTES) {
        bytes = TRANSFER_MAX_BYTES;
    }
    if (!offset_fits(offset, bytes)) {
        return EFBIG;
    }
    done = pwrite(posix_descriptor(file), buffer, bytes, (off_t)offset);
    if (done < 0) {
        return errno;
    }
    if (done == 0 && bytes > 0) {
        return EIO;
    }
    *out_done = (size_t)done;
    begin_writeback(file, offset, (size_t)done);
    return 0;
}

/* fallocate(2) and not posix_fallocate: where the file system cannot, glibc's version writes into
 * every block. KEEP_SIZE: the file is as long as what was written, whatever was expected. */
static int posix_allocate(void *context, nphd_file file, uint64_t bytes)
{
    (void)context;
    if (!offset_fits(0, bytes)) {
        return EFBIG;
    }
    if (bytes == 0) {
        return 0;
    }
#ifdef __linux__
    if (fallocate(posix_descriptor(file), FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes) != 0) {
        return errno;
    }
    return 0;
#else
    (void)file;
    return EOPNOTSUPP;
#endif
}

static int posix_sync(void *context, nphd_file file)
{
    const int descriptor = posix_descriptor(file);

    (void)context;
#if defined(__APPLE__) && defined(F_FULLFSYNC)
    /* fsync of macOS stops at the cache of the drive; file systems without F_FULLFSYNC refuse it */
    if (fcntl(descriptor, F_FULLFSYNC) == 0) {
        return 0;
    }
    if (errno != ENOTSUP && errno != EINVAL && errno != ENOTTY) {
        return errno;
    }
    return fsync(descriptor) != 0 ? errno : 0;
#elif defined(_POSIX_SYNCHRONIZED_IO) && _POSIX_SYNCHRONIZED_IO > 0
    return !NPHDI_BUG(29) && fdatasync(descriptor) != 0 ? errno : 0;
#else
    return fsync(descriptor) != 0 ? errno : 0;
#endif
}

static int posix_close(void *context, nphd_file file)
{
    (void)context;
    if (close(posix_descriptor(file)) != 0) {
        /* An interrupted close has released the descriptor, which may be another thread's by now.
         * It reports no lost data: that would have been another error. */
        return errno == EINTR ? 0 : errno;
    }
    return 0;
}

static int posix_map(void *context, nphd_file file, uint64_t bytes, const void **out_base)
{
    uint64_t file_bytes;
    void *base;
    int os_error;

    *out_base = NULL;
    os_error = posix_size(context, file, &file_bytes);
    if (os_error != 0) {
        return os_error;
    }
    if (bytes == 0 || bytes > file_bytes) {
        return EINVAL; /* touching a page behind the end of the file would be SIGBUS */
    }
    if (bytes > SIZE_MAX) {
        return ENOMEM;
    }
    base = mmap(NULL, (size_t)bytes, PROT_READ, MAP_SHARED, posix_descriptor(file), 0);
    if (base == MAP_FAILED) {
        return errno;
    }
    *out_base = base;
    return 0;
}

static void posix_unmap(void *context, const void *base, uint64_t bytes)
{
    (void)context;
    (void)munmap((void *)(uintptr_t)base, (size_t)bytes);
}

static int random_from_device(uint8_t *out, size_t bytes)
{
    int os_error = 0;
    int descriptor;

    NPHDI_REPEAT_INTERRUPTED(
        os_error, (descriptor = open("/dev/urandom", O_RDONLY | O_CLOEXEC)) < 0 ? errno : 0);
    if (os_error != 0) {
        return os_error;
    }
    while (bytes > 0 && os_error == 0) {
        const ssize_t done = read(descriptor, out, bytes);
        if (done > 0) {
            out += done;
            bytes -= (size_t)done;
        } else if (done == 0) {
            os_error = EIO;
        } else if (errno != EINTR) {
            os_error = errno;
        }
    }
    (void)close(descriptor);
    return os_error;
}

static int posix_random(void *context, void *buffer, size_t bytes)
{
    uint8_t *out = buffer;

    (void)context;
#ifdef __linux__
    while (bytes > 0) {
        const size_t step = bytes < RANDOM_STEP_BYTES ? bytes : RANDOM_STEP_BYTES;
        const ssize_t done = getrandom(out, step, 0);
        if (done >= 0) {
            out += done;
            bytes -= (size_t)done;
        } else if (errno != EINTR) {
            break; /* ENOSYS, or a sandbox that refuses it */
        }
    }
#endif
    return bytes == 0 ? 0 : random_from_device(out, bytes);
}

const nphd_io *nphdi_io_posix(void)
{
    static const nphd_io table = {
        .struct_size = sizeof(nphd_io),
        .open = nphdi_posix_open,
        .size = posix_size,
        .read = posix_read,
        .write = posix_write,
        .allocate = posix_allocate,
        .sync = posix_sync,
        .close = posix_close,
        .map = posix_map,
        .unmap = posix_unmap,
        .rename = nphdi_posix_rename,
        .remove = nphdi_posix_remove,
        .sync_directory = nphdi_posix_sync_directory,
        .random = posix_random,
        .make_directory = nphdi_posix_make_directory,
        .list = nphdi_posix_list,
        .lock = nphdi_posix_lock,
        .copy = nphdi_posix_copy,
        .root = nphdi_posix_root,
        .unroot = nphdi_posix_unroot,
        .look = nphdi_posix_look,
        .resolve = nphdi_posix_resolve,
        .create_like = nphdi_posix_create_like,
        .hold = nphdi_posix_hold,
        .remove_directory = nphdi_posix_remove_directory,
        .make_directory_like = nphdi_posix_make_directory_like,
    };

    return &table;
}
