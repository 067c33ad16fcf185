#include "sharded/snapshot_target.h"

#include "base/error.h"
#include "base/memory.h"
#include "platform/interrupt.h"
#include "sharded/sharded_internal.h"

#include <errno.h>
#include <string.h>

#define ENDING ".snapshot.tmp"

/* ---- what is there ---- */

/* Errors: NPHD_EXISTS, unless it is missing or an empty directory. */
static nphd_status check_free(const nphdi_snapshot_target *of, const char *path, bool *out_there,
                              nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_names names;
    nphd_error why = NPHD_ERROR_INIT;

    memset(&names, 0, sizeof(names));
    status = nphdi_directory_list(of->io, of->path, of->allocator, &names, &why);
    *out_there = status == NPHD_OK;
    if (status == NPHD_OK && names.count > 0) {
        status =
            nphdi_fail(err, NPHD_EXISTS, "%s: there is %s in it already", path, names.names[0]);
    } else if (why.os_error == ENOTDIR) {
        status = nphdi_fail(err, NPHD_EXISTS, "%s: a file of that name is there", path);
    } else if (why.os_error == ENOENT) {
        status = NPHD_OK;
    } else if (status != NPHD_OK) {
        nphdi_error_copy(err, &why);
    }
    nphdi_names_free(&names);
    return status;
}

/* The directory that `path` is in. */
static nphd_status parent_of(const nphdi_snapshot_target *of, char **out, size_t *room,
                             nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const size_t bytes = nphdi_path_directory_bytes(of->path);

    *room = bytes + 2;
    TRY(nphdi_alloc(of->allocator, *room, 1, out, err));
    memcpy(*out, bytes == 0 ? "." : of->path, bytes == 0 ? 1 : bytes);
done:
    return status;
}

static bool is_dots(const char *path)
{
    const char *name = path + nphdi_path_directory_bytes(path);

    name += *name == '/' ? 1 : 0;
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* Can what is made beside take its place? A file system of its own, such as one that is mounted
 * empty, stays where it is, and so does the current directory by that name. */
static bool can_be_renamed(const nphdi_snapshot_target *of, const char *parent, bool there)
{
    const nphd_io *io = of->io;
    nphd_file_facts own;
    nphd_file_facts above;
    int failed;

    if (!nphdi_io_has(io, NPHDI_IO_END(remove_directory)) || io->remove_directory == NULL) {
        return false;
    }
    if (is_dots(of->path)) {
        return false;
    }
    if (!there || io->look == NULL) {
        return true;
    }
    NPHDI_REPEAT_INTERRUPTED(failed, io->look(io->context, of->path, &own));
    if (failed == 0) {
        NPHDI_REPEAT_INTERRUPTED(failed, io->look(io->context, parent, &above));
    }
    return failed != 0 || own.device == above.device;
}

/* ---- the place ---- */

static bool is_ours(const char *name)
{
    uint64_t sequence;

    return nphdi_directory_is_data(name) || nphdi_journal_is_name(name, &sequence) ||
           strcmp(name, NPHDI_LOCK_NAME) == 0 || nphdi_directory_is_temporary(name);
}

static nphd_status clear_place(const nphdi_snapshot_target *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_names names;
    char *file = NULL;
    size_t room = 0;

    TRY(nphdi_directory_list(of->io, of->place, of->allocator, &names, err));
    for (size_t i = 0; i < names.count; i++) {
        if (!is_ours(names.names[i])) {
            status = nphdi_fail(err, NPHD_EXISTS,
                                "%s: there is %s in it, which no snapshot made; remove or rename "
                                "the directory",
                                of->place, names.names[i]);
            goto done;
        }
    }
    /* in this order the newest shard, which names the others, is among the last */
    for (size_t i = 0; i < names.count && status == NPHD_OK; i++) {
        TRY(nphdi_path_join(of->allocator, of->place, names.names[i], &file, &room, err));
        status = nphdi_file_remove(of->io, file, false, err);
        nphdi_free(of->allocator, file, room, 1);
    }
done:
    nphdi_names_free(&names);
    return status;
}

static nphd_status hold_place(nphdi_snapshot_target *of, nphd_error *err)
{
    const nphd_io *io = of->io;
    int failed;

    if (io->hold == NULL) {
        return NPHD_OK;
    }
    NPHDI_REPEAT_INTERRUPTED(failed, io->hold(io->context, of->place, &of->held));
    if (failed == EWOULDBLOCK || failed == EAGAIN || failed == ENOENT) {
        return nphdi_fail(err, NPHD_BUSY, "%s: another snapshot is being made there", of->place);
    }
    of->holds = failed == 0; /* where nothing can be held, nobody is waited for */
    return NPHD_OK;
}

static void let_go(nphdi_snapshot_target *of)
{
    if (of->holds) {
        (void)of->io->close(of->io->context, of->held);
        of->holds = false;
    }
}

/* What a snapshot that was killed left. */
static nphd_status remove_left(nphdi_snapshot_target *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    int failed;

    TRY(hold_place(of, err));
    TRY(clear_place(of, err));
    NPHDI_REPEAT_INTERRUPTED(failed, of->io->remove_directory(of->io->context, of->place));
    TRY(failed == 0 ? NPHD_OK
                    : nphdi_fail_os(err, failed, "%s: cannot remove the directory", of->place));
done:
    let_go(of);
    return status;
}

/* With the permissions of the directory that it will replace. */
static int make_beside(const nphdi_snapshot_target *of, bool there)
{
    const nphd_io *io = of->io;
    int failed;

    if (there && nphdi_io_has(io, NPHDI_IO_END(make_directory_like)) &&
        io->make_directory_like != NULL) {
        NPHDI_REPEAT_INTERRUPTED(failed, io->make_directory_like(io->context, of->place, of->path));
    } else {
        NPHDI_REPEAT_INTERRUPTED(failed, io->make_directory(io->context, of->place));
    }
    return failed;
}

/* In a directory of others only what is there already may be used, and a name may be too long for
 * more behind it. */
static bool must_be_in_place(int failed, bool there)
{
    return failed == ENAMETOOLONG ||
           (there && (failed == EACCES || failed == EPERM || failed == EROFS));
}

static nphd_status make_in_place(nphdi_snapshot_target *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(nphdi_directory_make(of->io, of->path, of->allocator, err));
    of->made = true;
done:
    return status;
}

static nphd_status make_place(nphdi_snapshot_target *of, bool there, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const size_t bytes = strlen(of->path);
    int failed;

    of->place_room = bytes + sizeof(ENDING);
    TRY(nphdi_alloc(of->allocator, of->place_room, 1, &of->place, err));
    memcpy(of->place, of->path, bytes);
    memcpy(of->place + bytes, ENDING, sizeof(ENDING));
    failed = make_beside(of, there);
    if (must_be_in_place(failed, there)) {
        nphdi_free(of->allocator, of->place, of->place_room, 1);
        of->place = NULL;
        return make_in_place(of, err);
    }
    if (failed == EEXIST) {
        TRY(remove_left(of, err));
        failed = make_beside(of, there);
    }
    TRY(failed == 0 ? NPHD_OK
                    : nphdi_fail_os(err, failed, "%s: cannot create the directory", of->place));
    TRY(hold_place(of, err));
    of->made = true;
done:
    return status;
}

/* From the root, so that the handle that copies, to which some names mean its own directory, means
 * the same by it. */
static nphd_status take_path(nphdi_snapshot_target *of, const char *path, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    size_t bytes = strlen(path);
    char *plain = NULL;
    char *resolved = NULL;
    size_t room = 0;

    TRY(nphdi_alloc(of->allocator, bytes + 1, 1, &plain, err));
    memcpy(plain, path, bytes);
    for (size_t end = bytes; end > 1 && plain[end - 1] == '/'; end--) {
        plain[end - 1] = '\0';
    }
    TRY(nphdi_path_resolve(of->io, of->allocator, plain, &resolved, &room, err));
    TRY(nphdi_path_from_root(of->io, of->allocator, resolved, &of->path, &of->room, err));
done:
    nphdi_free(of->allocator, plain, bytes + 1, 1);
    nphdi_free(of->allocator, resolved, room, 1);
    return status;
}

nphd_status nphdi_snapshot_target_begin(nphdi_snapshot_target *of, const nphd_io *io,
                                        const nphd_allocator *allocator, const char *path,
                                        nphd_error *err)
{
    nphd_status status = NPHD_OK;
    char *parent = NULL;
    size_t room = 0;
    bool there = false;

    of->io = io;
    of->allocator = allocator;
    TRY(take_path(of, path, err));
    TRY(check_free(of, path, &there, err));
    TRY(parent_of(of, &parent, &room, err));
    if (!can_be_renamed(of, parent, there)) {
        TRY(make_in_place(of, err));
        goto done;
    }
    TRY(nphdi_directory_make(io, parent, allocator, err));
    TRY(make_place(of, there, err));
done:
    nphdi_free(allocator, parent, room, 1);
    return status;
}

nphd_status nphdi_snapshot_target_commit(nphdi_snapshot_target *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_io *io = of->io;
    char *parent = NULL;
    size_t room = 0;
    int failed;

    if (of->place == NULL) {
        of->made = false; /* it stays */
        return NPHD_OK;
    }
    TRY(parent_of(of, &parent, &room, err));
    NPHDI_REPEAT_INTERRUPTED(failed, io->rename(io->context, of->place, of->path));
    if (failed == EEXIST || failed == ENOTEMPTY || failed == ENOTDIR) {
        status = nphdi_fail(err, NPHD_EXISTS, "%s: something was put there meanwhile", of->path);
        goto done;
    }
    TRY(failed == 0 ? NPHD_OK
                    : nphdi_fail_os(err, failed, "%s: rename to %s", of->place, of->path));
    of->made = false;
    failed = io->sync_directory(io->context, parent);
    if (failed != 0 && failed != EINVAL) {
        (void)nphdi_fail_os(err, failed, "%s: whole, but cannot flush the directory %s", of->path,
                            parent);
        status = NPHD_DURABILITY_UNKNOWN;
        if (err != NULL) {
            err->status = status;
        }
    }
done:
    nphdi_free(of->allocator, parent, room, 1);
    return status;
}

void nphdi_snapshot_target_end(nphdi_snapshot_target *of)
{
    if (of->made) {
        /* why the call ended matters more than how this does */
        if (of->place == NULL) {
            (void)nphdi_directory_clear(of->io, of->allocator, of->path, NULL);
        } else if (clear_place(of, NULL) == NPHD_OK) {
            (void)of->io->remove_directory(of->io->context, of->place);
        }
    }
    let_go(of);
    nphdi_free(of->allocator, of->path, of->room, 1);
    nphdi_free(of->allocator, of->place, of->place_room, 1);
    memset(of, 0, sizeof(*of));
}
