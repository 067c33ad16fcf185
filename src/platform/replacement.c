/* Writing a file durably and atomically. The order of the calls is the promise:
 *   create under a temporary name, set space aside, write all, sync, close, rename, sync directory
 * so that the final name only ever stands for a whole file, the old or the new one.
 * Invariants, checked by the fault and power loss tests:
 *   (1) nothing is renamed before its sync and its close have succeeded;
 *   (2) a file is synced at most once: after a failure the kernel may have dropped the unwritten
 *       pages, and a second sync would report success over lost data;
 *   (3) once a call has failed before the rename, the temporary file is removed and the
 *       replacement takes no further writes. */
#include "platform/platform.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/seeded_bug.h"
#include "platform/interrupt.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ".tmp-", 16 hexadecimal digits and the closing zero */
#define TEMPORARY_SUFFIX_BYTES 22

/* Names of 64 random bits do not meet by chance: more than a few in a row are a broken table. */
#define TEMPORARY_NAME_TRIES 100

static void replacement_set_directory(nphdi_replacement *replacement, const char *path)
{
    const size_t bytes = nphdi_path_directory_bytes(path);

    if (bytes == 0) {
        memcpy(replacement->directory, ".", 2);
    } else {
        memcpy(replacement->directory, path, bytes);
        replacement->directory[bytes] = '\0';
    }
}

static nphd_status replacement_create(nphdi_replacement *replacement, nphd_error *err)
{
    const nphd_io *io = replacement->io;
    int os_error = EEXIST;

    for (int i = 0; i < TEMPORARY_NAME_TRIES && os_error == EEXIST; i++) {
        uint8_t octets[8];
        NPHDI_REPEAT_INTERRUPTED(os_error, io->random(io->context, octets, sizeof(octets)));
        if (os_error != 0) {
            return nphdi_fail_os(err, os_error, "%s: cannot choose a temporary name",
                                 replacement->path);
        }
        (void)snprintf(replacement->temporary, replacement->path_room, "%s.tmp-%016llx",
                       replacement->path, (unsigned long long)nphdi_get64(octets));
        NPHDI_REPEAT_INTERRUPTED(os_error, io->open(io->context, replacement->temporary,
                                                    NPHD_OPEN_CREATE, &replacement->file));
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

nphd_status nphdi_replacement_begin(nphdi_replacement *replacement, const nphd_io *io,
                                    const nphd_allocator *allocator, const char *path,
                                    uint64_t expected_bytes, nphd_error *err)
{
    const size_t path_bytes = strlen(path);
    nphd_status status = NPHD_OK;

    memset(replacement, 0, sizeof(*replacement));
    replacement->io = io;
    replacement->allocator = allocator;
    replacement->path_room = path_bytes + TEMPORARY_SUFFIX_BYTES;
    TRY(nphdi_alloc(allocator, replacement->path_room, 1, &replacement->path, err));
    TRY(nphdi_alloc(allocator, replacement->path_room, 1, &replacement->temporary, err));
    TRY(nphdi_alloc(allocator, replacement->path_room, 1, &replacement->directory, err));
    memcpy(replacement->path, path, path_bytes + 1);
    replacement_set_directory(replacement, path);
    TRY(replacement_create(replacement, err));
    TRY(replacement_allocate(replacement, expected_bytes, err));
done:
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
                             io->rename(io->context, replacement->temporary, replacement->path));
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
        nphdi_free(allocator, replacement->path, replacement->path_room, 1);
        nphdi_free(allocator, replacement->temporary, replacement->path_room, 1);
        nphdi_free(allocator, replacement->directory, replacement->path_room, 1);
    }
    memset(replacement, 0, sizeof(*replacement));
}
