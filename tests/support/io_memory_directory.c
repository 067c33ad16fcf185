/* Directories, locks and copies of the model disk; see io_memory_model.h. */
#include "io_memory_model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PATH_ROOM 4096

bool model_path_is_below(const char *path, const char *directory)
{
    const size_t bytes = strlen(directory);

    return strncmp(path, directory, bytes) == 0 && path[bytes] == '/';
}

/* The plain name of a directory: empty for the current one, no slash at the end. */
static void directory_plain(const char *path, char *out)
{
    size_t bytes;

    path = model_path_plain(path);
    bytes = strcmp(path, ".") == 0 ? 0 : strlen(path);
    while (bytes > 1 && path[bytes - 1] == '/') {
        bytes--;
    }
    if (bytes >= PATH_ROOM) {
        abort();
    }
    memcpy(out, path, bytes);
    out[bytes] = '\0';
}

/* 0: made, or something is in it, or the root or the current one. */
static int directory_check(const memory_io *disk, const char *directory)
{
    const model_name *name = model_names_find(&disk->live, directory);

    if (directory[0] == '\0' || strcmp(directory, "/") == 0) {
        return 0;
    }
    if (name != NULL) {
        return name->file->directory ? 0 : ENOTDIR;
    }
    for (size_t i = 0; i < disk->live.count; i++) {
        if (model_path_is_below(disk->live.items[i].path, directory)) {
            return 0;
        }
    }
    return ENOENT;
}

static int directory_check_of(const memory_io *disk, const char *path)
{
    const size_t bytes = model_path_directory_bytes(path);
    char directory[PATH_ROOM];

    if (bytes >= sizeof(directory)) {
        abort();
    }
    memcpy(directory, path, bytes);
    directory[bytes] = '\0';
    return directory_check(disk, directory);
}

int model_disk_check_parent(const memory_io *disk, const char *path)
{
    const int os_error = directory_check_of(disk, path);

    return os_error == ENOENT && !disk->strict ? 0 : os_error;
}

int model_sync_directory(void *context, const char *path)
{
    memory_io *disk = model_disk_enter(context);
    char directory[PATH_ROOM];
    size_t kept = 0;
    int os_error;

    directory_plain(path, directory);
    os_error = directory_check(disk, directory);
    if (os_error == ENOENT && !disk->strict) {
        os_error = 0;
    }
    if (!model_disk_has_power(disk)) {
        os_error = EIO;
    }
    if (os_error == 0 && !model_disk_operate(disk)) {
        os_error = EIO;
    }
    if (os_error != 0) {
        return model_disk_leave(disk, os_error);
    }
    for (size_t i = 0; i < disk->change_count; i++) {
        model_change *change = &disk->changes[i];
        if (model_path_is_in(change->to != NULL ? change->to : change->from, directory,
                             strlen(directory))) {
            model_names_apply(&disk->durable, change);
            model_change_clear(change);
        } else {
            disk->changes[kept++] = *change;
        }
    }
    disk->change_count = kept;
    model_disk_sweep(disk);
    return model_disk_leave(disk, 0);
}

int model_make_directory(void *context, const char *path)
{
    memory_io *disk = model_disk_enter(context);
    char directory[PATH_ROOM];
    model_file *file;
    int os_error;

    directory_plain(path, directory);
    if (!model_disk_has_power(disk)) {
        return model_disk_leave(disk, EIO);
    }
    if (directory_check(disk, directory) != ENOENT) {
        return model_disk_leave(disk, path[0] == '\0' ? ENOENT : EEXIST);
    }
    os_error = directory_check_of(disk, directory);
    if (os_error == 0 && !model_disk_operate(disk)) {
        os_error = EIO;
    }
    if (os_error != 0) {
        return model_disk_leave(disk, os_error);
    }
    disk->strict = true;
    file = model_file_create(disk);
    file->directory = true;
    model_disk_change(disk, NULL, directory, file);
    return model_disk_leave(disk, 0);
}

/* The model has no permissions. */
int model_make_directory_like(void *context, const char *path, const char *like)
{
    (void)like;
    return model_make_directory(context, path);
}

/* What is in a directory, once each: also directories that nobody made but something is in. */
static model_names directory_names(const memory_io *disk, const char *directory)
{
    const size_t bytes = strlen(directory);
    const size_t skip = bytes == 0 || strcmp(directory, "/") == 0 ? bytes : bytes + 1;
    model_names names = {NULL, 0, 0};

    for (size_t i = 0; i < disk->live.count; i++) {
        const char *path = disk->live.items[i].path;
        if (bytes == 0 ? path[0] == '/'
                       : strncmp(path, directory, bytes) != 0 || path[skip - 1] != '/') {
            continue;
        }
        const size_t length = strcspn(path + skip, "/");
        char *name = model_must_have(strndup(path + skip, length));
        model_names_set(&names, name, disk->live.items[i].file);
        free(name);
    }
    return names;
}

int model_list(void *context, const char *path, int (*visit)(void *visit_context, const char *name),
               void *visit_context)
{
    memory_io *disk = model_disk_enter(context);
    model_names names = {NULL, 0, 0};
    char directory[PATH_ROOM];
    int answer;

    directory_plain(path, directory);
    answer = model_disk_has_power(disk) ? directory_check(disk, directory) : EIO;
    if (answer == 0) {
        names = directory_names(disk, directory);
    }
    (void)model_disk_leave(disk, 0);
    for (size_t i = 0; i < names.count && answer == 0; i++) {
        answer = visit(visit_context, names.items[i].path);
    }
    model_names_clear(&names);
    return answer;
}

static bool lock_is_held(const memory_io *disk, const model_file *file)
{
    for (size_t i = 0; i < disk->open_count; i++) {
        if (disk->opens[i].locks && disk->opens[i].file == file) {
            return true;
        }
    }
    return false;
}

int model_lock(void *context, const char *path, nphd_file *out_file)
{
    memory_io *disk = model_disk_enter(context);
    const model_name *name = model_names_find(&disk->live, model_path_plain(path));
    model_file *file = name == NULL ? NULL : name->file;
    int os_error = 0;

    out_file->handle = -1;
    if (!model_disk_has_power(disk)) {
        os_error = EIO;
    } else if (file == NULL) {
        os_error = model_disk_check_parent(disk, model_path_plain(path));
        if (os_error == 0 && !model_disk_operate(disk)) {
            os_error = EIO;
        }
        if (os_error == 0) {
            file = model_file_create(disk);
            model_disk_change(disk, NULL, model_path_plain(path), file);
        }
    } else if (file->directory) {
        os_error = EISDIR;
    } else if (lock_is_held(disk, file)) {
        os_error = EWOULDBLOCK;
    }
    if (os_error == 0) {
        model_disk_add_open(disk, file, true, true, out_file);
    }
    return model_disk_leave(disk, os_error);
}

int model_copy(void *context, const char *from, const char *to)
{
    memory_io *disk = model_disk_enter(context);
    const model_name *name = model_names_find(&disk->live, model_path_plain(from));
    int os_error;

    to = model_path_plain(to);
    if (!model_disk_has_power(disk)) {
        os_error = EIO;
    } else if (name == NULL) {
        os_error = ENOENT;
    } else if (model_names_find(&disk->live, to) != NULL) {
        os_error = EEXIST;
    } else if (name->file->directory) {
        os_error = EOPNOTSUPP;
    } else {
        os_error = model_disk_check_parent(disk, to);
    }
    if (os_error == 0 && !model_disk_operate(disk)) {
        os_error = EIO;
    }
    if (os_error == 0) {
        model_disk_change(disk, NULL, to, name->file);
    }
    return model_disk_leave(disk, os_error);
}

int model_look(void *context, const char *path, nphd_file_facts *out)
{
    memory_io *disk = model_disk_enter(context);
    const model_name *name = model_names_find(&disk->live, model_path_plain(path));
    char directory[PATH_ROOM];
    int os_error = 0;

    memset(out, 0, sizeof(*out));
    if (!model_disk_has_power(disk)) {
        os_error = EIO;
    } else if (name != NULL && !name->file->directory) {
        out->kind = NPHD_KIND_FILE;
        out->number = name->file->number;
        out->bytes = name->file->live_bytes;
    } else {
        directory_plain(path, directory);
        os_error = directory_check(disk, directory);
        out->kind = os_error == 0 ? NPHD_KIND_DIRECTORY : 0;
    }
    return model_disk_leave(disk, os_error);
}

/* ---- looking and meddling ---- */

void memory_io_require_directories(memory_io *disk)
{
    (void)model_disk_enter(disk);
    disk->strict = true;
    (void)model_disk_leave(disk, 0);
}

bool memory_io_has_directory(memory_io *disk, const char *path)
{
    char directory[PATH_ROOM];
    const model_name *name;
    bool found;

    (void)model_disk_enter(disk);
    directory_plain(path, directory);
    name = model_names_find(&disk->live, directory);
    found = name != NULL && name->file->directory;
    (void)model_disk_leave(disk, 0);
    return found;
}

size_t memory_io_locks(memory_io *disk)
{
    size_t count = 0;

    (void)model_disk_enter(disk);
    for (size_t i = 0; i < disk->open_count; i++) {
        count += disk->opens[i].locks;
    }
    (void)model_disk_leave(disk, 0);
    return count;
}
