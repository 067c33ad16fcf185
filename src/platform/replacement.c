/* Writing a file durably and atomically. The order of the calls is the promise:
 *   look at what is there, create under a temporary name, set space aside, write all, sync, close,
 * rename, sync directory so that the final name only ever stands for a whole file, the old or the
 * new one. Invariants, checked by the fault and power loss tests: (1) nothing is renamed before its
 * sync and its close have succeeded; (2) a file is synced at most once: after a failure the kernel
 * may have dropped the unwritten pages, and a second sync would report success over lost data; (3)
 * once a call has failed before the rename, the temporary file is removed and the replacement takes
 * no further writes. */
#include "platform/platform.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/seeded_bug.h"
#include "platform/interrupt.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* "/nphd-", 16 hexadecimal digits, ".tmp-", 16 more and the closing zero */
#define TEMPORARY_MORE_BYTES 44

/* Names of 64 random bits do not meet by chance: more than a few in a row are a broken table. */
#define TEMPORARY_NAME_TRIES 100

static void replacement_set_directory(nphdi_replacement *replacement)
{
    const size_t bytes = nphdi_path_directory_bytes(replacement->target);

    if (bytes == 0) {
        memcpy(replacement->directory, ".", 2);
    } else {
        memcpy(replacement->directory, replacement->target, bytes);
        replacement->directory[bytes] = '\0';
    }
}

/* Only a file is replaced: a device, a pipe or a socket of that name would be gone, and a directory
 * would be noticed when all was written. */
static nphd_status replacement_check_target(nphdi_replacement *replacement, nphd_error *err)
{
    const nphd_io *io = replacement->io;
    nphd_file_facts facts;
    int os_error;

    if (!nphdi_io_has(io, NPHDI_IO_END(look)) || io->look == NULL) {
        return NPHD_OK;
    }
    NPHDI_REPEAT_INTERRUPTED(os_error, io->look(io->context, replacement->target, &facts));
    if (os_error == ENOENT) {
        return NPHD_OK;
    }
    if (os_error != 0) {
        return nphdi_fail_os(err, os_error, "%s: cannot look at the file", replacement->path);
    }
    if (facts.kind == NPHD_KIND_DIRECTORY) {
        return nphdi_fail_os(err, EISDIR, "%s: cannot be replaced by a file", replacement->path);
    }
    if (facts.kind != NPHD_KIND_FILE) {
        return nphdi_fail(err, NPHD_IO,
                          "%s: is a device, a pipe or a socket, which no file may replace",
                          replacement->path);
    }
    return NPHD_OK;
}

/* `<target>.tmp-<16 digits>` or, where that is too long for the file system, a name that has the
 * hash of the target's instead. */
static void replacement_name(nphdi_replacement *replacement, const uint8_t octets[8], bool brief)
{
    const unsigned long long number = nphdi_get64(octets);
    const char *target = replacement->target;
    size_t name = strlen(target);

    if (!brief) {
        (void)snprintf(replacement->temporary, replacement->room, "%s.tmp-%016llx", target, number);
        return;
    }
    while (name > 0 && target[name - 1] != '/') {
        name--;
    }
    (void)snprintf(
        replacement->temporary, replacement->room, "%.*snphd-%016llx.tmp-%016llx", (int)name,
        target, (unsigned long long)nphdi_hash_bytes(target + name, strlen(target + name)), number);
}

static int replacement_open(nphdi_replacement *replacement)
{
    const nphd_io *io = replacement->io;
    int os_error;

    if (nphdi_io_has(io, NPHDI_IO_END(create_like)) && io->create_like != NULL) {
        NPHDI_REPEAT_INTERRUPTED(os_error,
                                 io->create_like(io->context, replacement->temporary,
                                                 replacement->target, &replacement->file));
    } else {
        NPHDI_REPEAT_INTERRUPTED(os_error, io->open(io->context, replacement->temporary,
                                                    NPHD_OPEN_CREATE, &replacement->file));
    }
    return os_error;
}

static nphd_status replacement_create(nphdi_replacement *replacement, nphd_error *err)
{
    const nphd_io *io = replacement->io;
    bool brief = false;
    int os_error = EEXIST;

    for (int i = 0; i < TEMPORARY_NAME_TRIES && os_error == EEXIST; i++) {
        uint8_t octets[8];
        NPHDI_REPEAT_INTERRUPTED(os_error, io->random(io->context, octets, sizeof(octets)));
        if (os_error != 0) {
            return nphdi_fail_os(err, os_error, "%s: cannot choose a temporary name",
                                 replacement->path);
        }
        replacement_name(replacement, octets, brief);
        os_error = replacement_open(replacement);
        if (os_error == ENAMETOOLONG && !brief) {
            brief = true;
            replacement_name(replacement, octets, brief);
            os_error = replacement_open(replacement);
        }
    }
    if (os_error != 0) {
        return nphdi_fail_os(err, os_error, "%s: cannot create the file", replacement->temporary);
    }
    replacement->open = true;
    replacement->created = true;
    return NPHD_OK;
}

static nphd_status replacement_allocate(const nphdi_replacement *replacement, uint64_t bytes,
                                        nphd_error *err)
{
    const nphd_io *io = replacement->io;
    int os_error;

    if (bytes == 0) {
        return NPHD_OK;
    }
    NPHDI_REPEAT_INTERRUPTED(os_error, io->allocate(io->context, replacement->file, bytes));
    if (os_error == 0 || os_error == EOPNOTSUPP || os_error == ENOSYS || os_error == EINVAL) {
        return NPHD_OK; /* where it cannot be told beforehand, the writes will tell */
    }
    return nphdi_fail_os(err, os_error, "%s: cannot set %llu bytes aside", replacement->temporary,
                         (unsigned long long)bytes);
}

/* Closes and removes the temporary file. Nothing is left to be done about errors here: the file
 * counts as never written, and a name that stays behind costs its room and nothing else. */
static void replacement_discard(nphdi_replacement *replacement)
{
    const nphd_io *io = replacement->io;

    if (replacement->open) {
        replacement->open = false;
        (void)io->close(io->context, replacement->file);
    }
    if (replacement->created && !NPHDI_BUG(6)) {
        int os_error;
        replacement->created = false;
        NPHDI_REPEAT_INTERRUPTED(os_error, io->remove(io->context, replacement->temporary));
        (void)os_error;
    }
}

/* The paths, once it is known how long that of the target is. */
static nphd_status replacement_take_paths(nphdi_replacement *replacement, const char *path,
                                          const char *target, nphd_error *err)
{
    const nphd_allocator *allocator = replacement->allocator;
    const size_t path_bytes = strlen(path) + 1;
    const size_t target_bytes = strlen(target) + 1;
    nphd_status status = NPHD_OK;

    replacement->room =
        (path_bytes > target_bytes ? path_bytes : target_bytes) + TEMPORARY_MORE_BYTES;
    TRY(nphdi_alloc(allocator, replacement->room, 1, &replacement->path, err));
    TRY(nphdi_alloc(allocator, replacement->room, 1, &replacement->target, err));
    TRY(nphdi_alloc(allocator, replacement->room, 1, &replacement->temporary, err));
    TRY(nphdi_alloc(allocator, replacement->room, 1, &replacement->directory, err));
    memcpy(replacement->path, path, path_bytes);
    memcpy(replacement->target, target, target_bytes);
    replacement_set_directory(replacement);
done:
    return status;
}

nphd_status nphdi_replacement_begin(nphdi_replacement *replacement, const nphd_io *io,
                                    const nphd_allocator *allocator, const char *path,
                                    uint64_t expected_bytes, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    char *target = NULL;
    size_t room = 0;

    memset(replacement, 0, sizeof(*replacement));
    replacement->io = io;
    replacement->allocator = allocator;
    TRY(nphdi_path_resolve(io, allocator, path, &target, &room, err));
    TRY(replacement_take_paths(replacement, path, target, err));
    TRY(replacement_check_target(replacement, err));
    TRY(replacement_create(replacement, err));
    TRY(replacement_allocate(replacement, expected_bytes, err));
done:
    nphdi_free(allocator, target, room, 1);
    if (status != NPHD_OK) {
        nphdi_replacement_end(replacement);
    }
    return status;
}

nphd_status nphdi_replacement_write(nphdi_replacement *replacement, const void *data, size_t bytes,
                                    nphd_error *err)
{
    const nphd_io *io = replacement->io;
    const uint8_t *from = data;

    if (!replacement->open) {
        return nphdi_fail(err, NPHD_STOPPED, "%s: writing has failed before", replacement->path);
    }
    while (bytes > 0) {
        size_t done = 0;
        int os_error;
        NPHDI_REPEAT_INTERRUPTED(os_error,
                                 io->write(io->context, replacement->file,
                                           replacement->written_bytes, from, bytes, &done));
        if (os_error == 0 && (done == 0 || done > bytes)) {
            os_error = EIO; /* the table breaks its contract; going on could loop for ever */
        }
        if (os_error != 0) {
            replacement_discard(replacement);
            return nphdi_fail_os(err, os_error, "%s: cannot write %zu bytes at offset %llu",
                                 replacement->temporary, bytes,
                                 (unsigned long long)replacement->written_bytes);
        }
        done = NPHDI_BUG(4) ? bytes : done;
        from += done;
        bytes -= done;
        replacement->written_bytes += done;
    }
    return NPHD_OK;
}

/* After this the new file is the file of that name, for every reader, but a power cut may still
 * bring the old one back. */
static nphd_status replacement_publish(nphdi_replacement *replacement, nphd_error *err)
{
    const nphd_io *io = replacement->io;
    int os_error = NPHDI_BUG(1) ? 0 : io->sync(io->context, replacement->file);

    if (os_error != 0 && NPHDI_BUG(5)) {
        os_error = io->sync(io->context, replacement->file);
    }
    if (os_error != 0) {
        return nphdi_fail_os(err, os_error, "%s: cannot flush the file", replacement->temporary);
    }
    replacement->open = false; /* whatever close answers */
    os_error = io->close(io->context, replacement->file);
    if (os_error != 0 && !NPHDI_BUG(3)) {
        return nphdi_fail_os(err, os_error, "%s: cannot close the file", replacement->temporary);
    }
    NPHDI_REPEAT_INTERRUPTED(os_error,
                             io->rename(io->context, replacement->temporary, replacement->target));
    if (os_error != 0) {
        return nphdi_fail_os(err, os_error, "%s: cannot replace the file by %s", replacement->path,
                             replacement->temporary);
    }
    replacement->created = false;
    return NPHD_OK;
}

nphd_status nphdi_replacement_commit(nphdi_replacement *replacement, nphd_error *err)
{
    const nphd_io *io = replacement->io;
    nphd_status status;
    int os_error;

    if (!replacement->open) {
        return nphdi_fail(err, NPHD_STOPPED, "%s: writing has failed before", replacement->path);
    }
    status = replacement_publish(replacement, err);
    if (status != NPHD_OK) {
        replacement_discard(replacement);
        return status;
    }
    os_error = NPHDI_BUG(2) ? 0 : io->sync_directory(io->context, replacement->directory);
    if (os_error != 0 && os_error != EINVAL && !NPHDI_BUG(30)) {
        (void)nphdi_fail_os(err, os_error, "%s: replaced, but cannot flush the directory %s",
                            replacement->path, replacement->directory);
        if (err != NULL) {
            err->status = NPHD_DURABILITY_UNKNOWN;
        }
        return NPHD_DURABILITY_UNKNOWN;
    }
    return NPHD_OK;
}

void nphdi_replacement_end(nphdi_replacement *replacement)
{
    const nphd_allocator *allocator = replacement->allocator;

    if (allocator != NULL) {
        replacement_discard(replacement);
        nphdi_free(allocator, replacement->path, replacement->room, 1);
        nphdi_free(allocator, replacement->target, replacement->room, 1);
        nphdi_free(allocator, replacement->temporary, replacement->room, 1);
        nphdi_free(allocator, replacement->directory, replacement->room, 1);
    }
    memset(replacement, 0, sizeof(*replacement));
}
