/* The lock of an index file from loading to saving. A save puts another file in its place: hold of
 * the table sees to it that what is locked is what has the name, and whoever waited locks the new
 * one. A file that is not there yet has only its directory to lock. */
#include "base/error.h"
#include "base/memory.h"
#include "index/index_internal.h"
#include "platform/interrupt.h"

#include <errno.h>
#include <string.h>

/* Somebody makes and deletes the file all the time. */
#define LOCK_TRIES 100

struct nphd_lock {
    const nphd_io *io;
    nphd_file file;
};

static nphd_status lock_fail(int os_error, const char *path, nphd_error *err)
{
    switch (os_error) {
    case EWOULDBLOCK:
        return nphdi_fail(err, NPHD_BUSY, "%s: another program is changing it", path);
    case EBADF: /* a file system that locks only what is open for writing */
    case EINVAL:
    case ENOLCK:
    case ENOSYS:
    case EOPNOTSUPP:
        return nphdi_fail(err, NPHD_UNSUPPORTED, "%s: the file system has no locks", path);
    default:
        return nphdi_fail_os(err, os_error, "%s: cannot lock the file", path);
    }
}

static nphd_status lock_hold(nphd_lock *lock, const char *path, const char *name, bool *out_missing,
                             nphd_error *err)
{
    int os_error;

    NPHDI_REPEAT_INTERRUPTED(os_error, lock->io->hold(lock->io->context, path, &lock->file));
    if (out_missing != NULL) {
        *out_missing = os_error == ENOENT;
        os_error = *out_missing ? 0 : os_error;
    }
    return os_error == 0 ? NPHD_OK : lock_fail(os_error, name, err);
}

/* The directory, as long as the file is not there. */
static nphd_status lock_hold_directory(nphd_lock *lock, const char *path, const char *directory,
                                       const char *name, bool *out_there, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_file_facts facts;
    int os_error;

    TRY(lock_hold(lock, directory, name, NULL, err));
    NPHDI_REPEAT_INTERRUPTED(os_error, lock->io->look(lock->io->context, path, &facts));
    *out_there = os_error == 0;
    if (os_error != ENOENT) {
        (void)lock->io->close(lock->io->context, lock->file);
        status = os_error == 0 ? NPHD_OK : lock_fail(os_error, name, err);
    }
done:
    return status;
}

/* `name`: what errors call it. */
static nphd_status lock_either(nphd_lock *lock, const char *path, const char *directory,
                               const char *name, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    for (int tries = 0; tries < LOCK_TRIES; tries++) {
        bool missing = false;
        bool there = false;
        TRY(lock_hold(lock, path, name, &missing, err));
        if (!missing) {
            goto done;
        }
        TRY(lock_hold_directory(lock, path, directory, name, &there, err));
        if (!there) {
            goto done;
        }
    }
    status = lock_fail(EWOULDBLOCK, name, err);
done:
    return status;
}

nphd_status nphd_lock_acquire(const char *path, const nphd_io *io, nphd_lock **out, nphd_error *err)
{
    const nphd_allocator *allocator = nphdi_allocator_system();
    nphd_status status = NPHD_OK;
    nphd_lock *lock = NULL;
    char *target = NULL;
    char *directory = NULL;
    size_t room = 0;

    nphdi_error_clear(err);
    if (out == NULL) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "out is NULL");
    }
    *out = NULL;
    TRY(nphdi_check_path(path, err));
    io = io != NULL ? io : nphdi_io_posix();
    if (!nphdi_io_has(io, NPHDI_IO_END(hold)) || io->hold == NULL || io->look == NULL) {
        return nphdi_fail(err, NPHD_UNSUPPORTED, "%s: the I/O table has no locks", path);
    }
    TRY(nphdi_alloc(allocator, 1, sizeof(*lock), &lock, err));
    lock->io = io;
    TRY(nphdi_path_resolve(io, allocator, path, &target, &room, err));
    TRY(nphdi_alloc(allocator, room + 1, 1, &directory, err));
    const size_t bytes = nphdi_path_directory_bytes(target);
    memcpy(directory, bytes == 0 ? "." : target, bytes == 0 ? 1 : bytes);
    TRY(lock_either(lock, target, directory, path, err));
    *out = lock;
    lock = NULL;
done:
    nphdi_free(allocator, directory, room + 1, 1);
    nphdi_free(allocator, target, room, 1);
    nphdi_free(allocator, lock, 1, sizeof(*lock));
    return status;
}

void nphd_lock_release(nphd_lock *lock)
{
    if (lock != NULL) {
        (void)lock->io->close(lock->io->context, lock->file); /* never written to */
        nphdi_free(nphdi_allocator_system(), lock, 1, sizeof(*lock));
    }
}
