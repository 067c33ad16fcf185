/* Names and directories through the I/O table. A name counts as there, or as gone, once its
 * directory was flushed; EINVAL means that this file system cannot. A flush is not repeated. */
#include "platform/platform.h"

#include "base/error.h"
#include "base/heap_sort.h"
#include "base/memory.h"
#include "platform/interrupt.h"

#include <errno.h>
#include <string.h>

/* The longest path on the stack: PATH_MAX of Linux. */
#define DIRECTORY_ROOM 4096

/* Starts of a listing that is interrupted every time. */
#define LIST_TRIES NPHDI_INTERRUPT_TRIES

#define NAMES_FIRST_ROOM 32

/* ---- tables ---- */

bool nphdi_io_has(const nphd_io *io, size_t offset_after_field)
{
    return io->struct_size >= offset_after_field;
}

nphd_status nphdi_io_check_directories(const nphd_io *io, nphd_error *err)
{
    const char *missing = NULL;

    if (!nphdi_io_has(io, NPHDI_IO_END(copy))) {
        missing = "the functions after `random`";
    } else if (io->make_directory == NULL) {
        missing = "make_directory";
    } else if (io->list == NULL) {
        missing = "list";
    } else if (io->lock == NULL) {
        missing = "lock";
    } else if (io->copy == NULL) {
        missing = "copy";
    }
    return missing == NULL ? NPHD_OK
                           : nphdi_fail(err, NPHD_UNSUPPORTED,
                                        "the I/O table lacks %s, which an index in a directory "
                                        "needs",
                                        missing);
}

/* ---- paths ---- */

/* As nphdi_path_directory_bytes, for the first `bytes` bytes of a path. */
static size_t path_parent_bytes(const char *path, size_t bytes)
{
    while (bytes > 1 && path[bytes - 1] == '/') {
        bytes--;
    }
    while (bytes > 0 && path[bytes - 1] != '/') {
        bytes--;
    }
    while (bytes > 1 && path[bytes - 1] == '/') {
        bytes--;
    }
    return bytes;
}

size_t nphdi_path_directory_bytes(const char *path)
{
    return path_parent_bytes(path, strlen(path));
}

nphd_status nphdi_path_join(const nphd_allocator *allocator, const char *directory,
                            const char *name, char **out, size_t *room, nphd_error *err)
{
    const size_t directory_bytes = strlen(directory);
    const size_t name_bytes = strlen(name);
    const bool slash = directory_bytes > 0 && directory[directory_bytes - 1] != '/';
    const size_t bytes = directory_bytes + slash + name_bytes + 1;
    nphd_status status;

    *room = 0;
    status = nphdi_alloc(allocator, bytes, 1, out, err);
    if (status != NPHD_OK) {
        return status;
    }
    memcpy(*out, directory, directory_bytes);
    if (slash) {
        (*out)[directory_bytes] = '/';
    }
    memcpy(*out + directory_bytes + slash, name, name_bytes + 1);
    *room = bytes;
    return NPHD_OK;
}

nphd_status nphdi_path_resolve(const nphd_io *io, const nphd_allocator *allocator, const char *path,
                               char **out, size_t *room, nphd_error *err)
{
    const char *from = path;
    char resolved[DIRECTORY_ROOM];
    nphd_status status;
    int os_error;

    *out = NULL;
    *room = 0;
    if (nphdi_io_has(io, NPHDI_IO_END(resolve)) && io->resolve != NULL) {
        NPHDI_REPEAT_INTERRUPTED(os_error,
                                 io->resolve(io->context, path, resolved, sizeof(resolved)));
        if (os_error != 0) {
            return nphdi_fail_os(err, os_error, "%s: cannot tell where the file is", path);
        }
        from = resolved;
    }
    status = nphdi_alloc(allocator, strlen(from) + 1, 1, out, err);
    if (status == NPHD_OK) {
        *room = strlen(from) + 1;
        memcpy(*out, from, *room);
    }
    return status;
}

nphd_status nphdi_path_from_root(const nphd_io *io, const nphd_allocator *allocator,
                                 const char *path, char **out, size_t *room, nphd_error *err)
{
    nphd_status status;
    char *here = NULL;
    size_t here_room = 0;

    *out = NULL;
    *room = 0;
    status = nphdi_path_resolve(io, allocator, ".", &here, &here_room, err);
    if (here != NULL) {
        const bool relative = path[0] != '/' && here[0] == '/';
        status = nphdi_path_join(allocator, relative ? here : "", path, out, room, err);
    }
    nphdi_free(allocator, here, here_room, 1);
    return status;
}

nphd_status nphdi_file_remove(const nphd_io *io, const char *path, bool sync, nphd_error *err)
{
    const size_t bytes = nphdi_path_directory_bytes(path);
    char directory[DIRECTORY_ROOM] = ".";
    bool missing;
    int os_error;

    if (bytes >= sizeof(directory)) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "the path is too long: %s", path);
    }
    NPHDI_REPEAT_INTERRUPTED(os_error, io->remove(io->context, path));
    missing = os_error == ENOENT;
    if (os_error != 0 && !missing) {
        return nphdi_fail_os(err, os_error, "%s: cannot remove the file", path);
    }
    if (!sync) {
        return NPHD_OK;
    }
    if (bytes > 0) {
        memcpy(directory, path, bytes);
        directory[bytes] = '\0';
    }
    os_error = io->sync_directory(io->context, directory);
    if (os_error != 0 && os_error != EINVAL && !(missing && os_error == ENOENT)) {
        (void)nphdi_fail_os(err, os_error, "%s: removed, but cannot flush the directory %s", path,
                            directory);
        if (err != NULL) {
            err->status = NPHD_DURABILITY_UNKNOWN;
        }
        return NPHD_DURABILITY_UNKNOWN;
    }
    return NPHD_OK;
}

/* ---- listing ---- */

void nphdi_names_free(nphdi_names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        nphdi_free(names->allocator, names->names[i], strlen(names->names[i]) + 1, 1);
    }
    if (names->allocator != NULL) {
        nphdi_free(names->allocator, names->names, names->room, sizeof(*names->names));
    }
    memset(names, 0, sizeof(*names));
}

static nphd_status names_grow(nphdi_names *names, nphd_error *err)
{
    const size_t room = names->room == 0 ? NAMES_FIRST_ROOM : names->room * 2;
    char **grown = NULL;
    nphd_status status;

    status = nphdi_alloc(names->allocator, room, sizeof(*grown), &grown, err);
    if (status == NPHD_OK) {
        if (names->count > 0) {
            memcpy(grown, names->names, names->count * sizeof(*grown));
        }
        nphdi_free(names->allocator, names->names, names->room, sizeof(*names->names));
        names->names = grown;
        names->room = room;
    }
    return status;
}

typedef struct names_collector {
    nphdi_names *names;
    nphd_status status; /* of our own memory, apart from what the table answers */
    nphd_error *err;
} names_collector;

static int names_collect(void *context, const char *name)
{
    names_collector *collector = context;
    nphdi_names *names = collector->names;
    const size_t bytes = strlen(name) + 1;
    nphd_status status = NPHD_OK;

    if (names->count == names->room) {
        TRY(names_grow(names, collector->err));
    }
    TRY(nphdi_alloc(names->allocator, bytes, 1, &names->names[names->count], collector->err));
    memcpy(names->names[names->count++], name, bytes);
done:
    collector->status = status;
    return status == NPHD_OK ? 0 : ENOMEM;
}

static bool names_less(const void *names, uint64_t a, uint64_t b)
{
    char *const *at = names;

    return strcmp(at[a], at[b]) < 0;
}

static void names_swap(void *names, uint64_t a, uint64_t b)
{
    char **at = names;
    char *const was = at[a];

    at[a] = at[b];
    at[b] = was;
}

nphd_status nphdi_directory_list(const nphd_io *io, const char *path,
                                 const nphd_allocator *allocator, nphdi_names *out, nphd_error *err)
{
    names_collector collector = {out, NPHD_OK, err};
    int tries = 0;
    int os_error;

    memset(out, 0, sizeof(*out));
    do {
        nphdi_names_free(out); /* what an interrupted listing told */
        out->allocator = allocator;
        os_error = io->list(io->context, path, names_collect, &collector);
    } while (os_error == EINTR && collector.status == NPHD_OK && ++tries < LIST_TRIES);
    if (os_error != 0 || collector.status != NPHD_OK) {
        nphdi_names_free(out);
        return collector.status != NPHD_OK
                   ? collector.status
                   : nphdi_fail_os(err, os_error, "%s: cannot list the directory", path);
    }
    nphdi_heap_sort(out->names, out->count, names_less, names_swap);
    return NPHD_OK;
}

/* ---- making ---- */

static int probe_visit(void *context, const char *name)
{
    (void)context;
    (void)name;
    return -1; /* no errno: there is a directory and the rest does not matter */
}

static bool directory_is_file(const nphd_io *io, const char *path)
{
    int answer;

    NPHDI_REPEAT_INTERRUPTED(answer, io->list(io->context, path, probe_visit, NULL));
    return answer == ENOTDIR;
}

/* Flushes the parent of path[0..bytes) after mkdir has answered 0 or EEXIST. */
static nphd_status directory_flush_parent(const nphd_io *io, char *path, size_t bytes, bool made,
                                          nphd_error *err)
{
    const size_t parent = path_parent_bytes(path, bytes);
    const char cut = path[parent];
    const char *name = ".";
    nphd_status status = NPHD_OK;
    int os_error;

    if (parent > 0) {
        path[parent] = '\0';
        name = path;
    }
    os_error = io->sync_directory(io->context, name);
    /* a directory of others, in a place that may be passed through but not opened */
    const bool foreign = !made && (os_error == EACCES || os_error == EPERM);
    if (os_error != 0 && os_error != EINVAL && !foreign) {
        status = nphdi_fail_os(err, os_error, "%s: cannot flush the directory", name);
    }
    path[parent] = cut;
    return status;
}

/* Makes the directory path[0..bytes); *out_missing instead of an error where its parent is missing.
 */
static nphd_status directory_make_level(const nphd_io *io, char *path, size_t bytes,
                                        bool *out_missing, nphd_error *err)
{
    const char cut = path[bytes];
    nphd_status status = NPHD_OK;
    int os_error;

    path[bytes] = '\0';
    NPHDI_REPEAT_INTERRUPTED(os_error, io->make_directory(io->context, path));
    *out_missing = os_error == ENOENT && path_parent_bytes(path, bytes) > 0;
    if (os_error == EEXIST && directory_is_file(io, path)) {
        status = nphdi_fail(err, NPHD_EXISTS, "%s: a file of that name is there", path);
    } else if (os_error != 0 && os_error != EEXIST && !*out_missing) {
        status = nphdi_fail_os(err, os_error, "%s: cannot create the directory", path);
    }
    path[bytes] = cut;
    if (status == NPHD_OK && !*out_missing) {
        status = directory_flush_parent(io, path, bytes, os_error == 0, err);
    }
    return status;
}

nphd_status nphdi_directory_make(const nphd_io *io, const char *path,
                                 const nphd_allocator *allocator, nphd_error *err)
{
    const size_t room = strlen(path) + 1;
    size_t bytes = room - 1;
    char *copy = NULL;
    nphd_status status = NPHD_OK;
    bool missing = true;

    TRY(nphdi_alloc(allocator, room, 1, &copy, err));
    memcpy(copy, path, room);
    TRY(directory_make_level(io, copy, bytes, &missing, err));
    while (missing) { /* up to the first that is there or can be made */
        bytes = path_parent_bytes(copy, bytes);
        TRY(directory_make_level(io, copy, bytes, &missing, err));
    }
    while (bytes < room - 1) { /* and down again */
        bytes += strspn(copy + bytes, "/");
        bytes += strcspn(copy + bytes, "/");
        TRY(directory_make_level(io, copy, bytes, &missing, err));
        if (missing) {
            status = nphdi_fail_os(err, ENOENT, "%s: a directory vanished while being made", path);
            goto done;
        }
    }
done:
    nphdi_free(allocator, copy, room, 1);
    return status;
}
