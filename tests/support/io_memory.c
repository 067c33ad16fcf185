/* The I/O table of the model disk, and a look at it from outside. */
#include "io_memory_model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAP_ALIGNMENT 4096

static model_open *disk_find_open(memory_io *disk, nphd_file file)
{
    for (size_t i = 0; i < disk->open_count; i++) {
        if (disk->opens[i].handle == file.handle) {
            return &disk->opens[i];
        }
    }
    if (file.handle >= disk->first_handle) {
        disk->mistakes++;
    }
    return NULL;
}

static int memory_open(void *context, const char *path, int how, nphd_file *out_file)
{
    memory_io *disk = model_disk_enter(context);
    const model_name *name = model_names_find(&disk->live, model_path_plain(path));

    out_file->handle = -1;
    if (!model_disk_has_power(disk)) {
        return model_disk_leave(disk, EIO);
    }
    if (how == NPHD_OPEN_CREATE) {
        if (name != NULL) {
            return model_disk_leave(disk, EEXIST);
        }
        const int os_error = model_disk_check_parent(disk, model_path_plain(path));
        if (os_error != 0) {
            return model_disk_leave(disk, os_error);
        }
        if (!model_disk_operate(disk)) {
            return model_disk_leave(disk, EIO);
        }
        model_file *file = model_file_create(disk);
        model_disk_change(disk, NULL, model_path_plain(path), file);
        model_disk_add_open(disk, file, true, false, out_file);
        return model_disk_leave(disk, 0);
    }
    if (name == NULL) {
        return model_disk_leave(disk, ENOENT);
    }
    if (name->file->directory) {
        return model_disk_leave(disk, EISDIR);
    }
    model_disk_add_open(disk, name->file, false, false, out_file);
    return model_disk_leave(disk, 0);
}

static int memory_size(void *context, nphd_file file, uint64_t *out_bytes)
{
    memory_io *disk = model_disk_enter(context);
    const model_open *opened = disk_find_open(disk, file);

    *out_bytes = 0;
    if (!model_disk_has_power(disk)) {
        return model_disk_leave(disk, EIO);
    }
    if (opened == NULL) {
        return model_disk_leave(disk, EBADF);
    }
    *out_bytes = opened->file->live_bytes;
    return model_disk_leave(disk, 0);
}

static int memory_read(void *context, nphd_file file, uint64_t offset, void *buffer, size_t bytes,
                       size_t *out_done)
{
    memory_io *disk = model_disk_enter(context);
    const model_open *opened = disk_find_open(disk, file);

    *out_done = 0;
    if (!model_disk_has_power(disk)) {
        return model_disk_leave(disk, EIO);
    }
    if (opened == NULL || opened->writable) {
        return model_disk_leave(disk,
                                EBADF); /* as the operating system for a file opened to write */
    }
    if (offset < opened->file->live_bytes && bytes > 0) {
        const size_t rest = opened->file->live_bytes - (size_t)offset;
        *out_done = bytes < rest ? bytes : rest;
        memcpy(buffer, opened->file->live + offset, *out_done);
    }
    return model_disk_leave(disk, 0);
}

/* A file with several names takes its room once. */
static uint64_t disk_used_bytes(const memory_io *disk)
{
    uint64_t used = 0;

    for (size_t i = 0; i < disk->live.count; i++) {
        model_file *file = disk->live.items[i].file;
        used += file->marked ? 0 : file->live_bytes;
        file->marked = true;
    }
    for (size_t i = 0; i < disk->live.count; i++) {
        disk->live.items[i].file->marked = false;
    }
    return used;
}

/* How far a file may reach with the space that is left. */
static uint64_t disk_limit_of(const memory_io *disk, const model_file *file)
{
    const uint64_t used = disk_used_bytes(disk);

    if (disk->capacity_bytes == UINT64_MAX) {
        return SIZE_MAX / 4;
    }
    return file->live_bytes + (disk->capacity_bytes > used ? disk->capacity_bytes - used : 0);
}

static int memory_write(void *context, nphd_file file, uint64_t offset, const void *buffer,
                        size_t bytes, size_t *out_done)
{
    memory_io *disk = model_disk_enter(context);
    const model_open *opened = disk_find_open(disk, file);
    uint64_t limit;

    *out_done = 0;
    if (!model_disk_has_power(disk)) {
        return model_disk_leave(disk, EIO);
    }
    if (opened == NULL || !opened->writable) {
        return model_disk_leave(disk, EBADF);
    }
    limit = disk_limit_of(disk, opened->file);
    if (bytes > 0 && offset >= limit) {
        return model_disk_leave(disk, ENOSPC);
    }
    if (!model_disk_operate(disk)) {
        return model_disk_leave(disk, EIO);
    }
    if (bytes > limit - offset) {
        bytes = (size_t)(limit - offset);
    }
    model_file_put(opened->file, (size_t)offset, buffer, bytes);
    model_file_log_write(opened->file, offset, buffer, bytes);
    *out_done = bytes;
    return model_disk_leave(disk, 0);
}

static int memory_allocate(void *context, nphd_file file, uint64_t bytes)
{
    memory_io *disk = model_disk_enter(context);
    const model_open *opened = disk_find_open(disk, file);

    if (!model_disk_has_power(disk)) {
        return model_disk_leave(disk, EIO);
    }
    if (opened == NULL || !opened->writable) {
        return model_disk_leave(disk, EBADF);
    }
    return model_disk_leave(disk, bytes > disk_limit_of(disk, opened->file) ? ENOSPC : 0);
}

static int memory_sync(void *context, nphd_file file)
{
    memory_io *disk = model_disk_enter(context);
    const model_open *opened = disk_find_open(disk, file);

    if (!model_disk_has_power(disk)) {
        return model_disk_leave(disk, EIO);
    }
    if (opened == NULL) {
        return model_disk_leave(disk, EBADF);
    }
    if (!model_disk_operate(disk)) {
        return model_disk_leave(disk, EIO);
    }
    model_file_flush(opened->file);
    return model_disk_leave(disk, 0);
}

static int memory_close(void *context, nphd_file file)
{
    memory_io *disk = model_disk_enter(context);
    model_open *opened = disk_find_open(disk, file);

    if (opened == NULL) {
        return model_disk_leave(disk, EBADF);
    }
    *opened = disk->opens[--disk->open_count];
    model_disk_sweep(disk);
    return model_disk_leave(disk, 0);
}

/* A copy of its own: it stays whatever becomes of the file, and a sanitizer sees its exact end. */
static int memory_map(void *context, nphd_file file, uint64_t bytes, const void **out_base)
{
    memory_io *disk = model_disk_enter(context);
    const model_open *opened = disk_find_open(disk, file);
    void *base = NULL;

    *out_base = NULL;
    if (!model_disk_has_power(disk)) {
        return model_disk_leave(disk, EIO);
    }
    if (opened == NULL || opened->writable) {
        return model_disk_leave(disk, opened == NULL ? EBADF : EACCES);
    }
    if (bytes == 0 || bytes > opened->file->live_bytes) {
        return model_disk_leave(disk, EINVAL);
    }
    if (posix_memalign(&base, MAP_ALIGNMENT, (size_t)bytes) != 0) {
        abort();
    }
    memcpy(base, opened->file->live, (size_t)bytes);
    disk->maps =
        model_array_grow(disk->maps, disk->map_count, &disk->map_room, sizeof(*disk->maps));
    disk->maps[disk->map_count++] = (model_map){base, bytes};
    *out_base = base;
    return model_disk_leave(disk, 0);
}

static void memory_unmap(void *context, const void *base, uint64_t bytes)
{
    memory_io *disk = model_disk_enter(context);
    bool found = false;

    for (size_t i = 0; i < disk->map_count && !found; i++) {
        if (disk->maps[i].base == base && disk->maps[i].bytes == bytes) {
            free(disk->maps[i].base);
            disk->maps[i] = disk->maps[--disk->map_count];
            found = true;
        }
    }
    if (!found) {
        disk->mistakes++;
    }
    (void)model_disk_leave(disk, 0);
}

static int memory_rename(void *context, const char *from, const char *to)
{
    memory_io *disk = model_disk_enter(context);
    const model_name *name;
    const model_name *old;

    from = model_path_plain(from);
    to = model_path_plain(to);
    name = model_names_find(&disk->live, from);
    old = model_names_find(&disk->live, to);
    if (!model_disk_has_power(disk)) {
        return model_disk_leave(disk, EIO);
    }
    if (name == NULL) {
        return model_disk_leave(disk, ENOENT);
    }
    if (old != NULL && old->file->directory != name->file->directory) {
        return model_disk_leave(disk, old->file->directory ? EISDIR : ENOTDIR);
    }
    if (name->file->directory && model_names_have_below(&disk->live, to)) {
        return model_disk_leave(disk, ENOTEMPTY);
    }
    if (!model_path_is_in(to, from, model_path_directory_bytes(from))) {
        return model_disk_leave(disk,
                                EXDEV); /* the model keeps one list of changes per directory */
    }
    if (!model_disk_operate(disk)) {
        return model_disk_leave(disk, EIO);
    }
    if (old != NULL && old->file == name->file) {
        return model_disk_leave(disk, 0); /* two names of one file: both stay (POSIX) */
    }
    model_disk_change(disk, from, to, name->file);
    model_disk_sweep(disk);
    return model_disk_leave(disk, 0);
}

static int memory_remove(void *context, const char *path)
{
    memory_io *disk = model_disk_enter(context);
    const model_name *name = model_names_find(&disk->live, model_path_plain(path));

    if (!model_disk_has_power(disk)) {
        return model_disk_leave(disk, EIO);
    }
    if (name == NULL) {
        return model_disk_leave(disk, ENOENT);
    }
    if (name->file->directory) {
        return model_disk_leave(disk, EISDIR);
    }
    if (!model_disk_operate(disk)) {
        return model_disk_leave(disk, EIO);
    }
    model_disk_change(disk, model_path_plain(path), NULL, name->file);
    model_disk_sweep(disk);
    return model_disk_leave(disk, 0);
}

static int memory_remove_directory(void *context, const char *path)
{
    memory_io *disk = model_disk_enter(context);
    const model_name *name = model_names_find(&disk->live, model_path_plain(path));

    if (!model_disk_has_power(disk)) {
        return model_disk_leave(disk, EIO);
    }
    if (name == NULL || !name->file->directory) {
        return model_disk_leave(disk, name == NULL ? ENOENT : ENOTDIR);
    }
    if (model_names_have_below(&disk->live, name->path)) {
        return model_disk_leave(disk, ENOTEMPTY);
    }
    if (!model_disk_operate(disk)) {
        return model_disk_leave(disk, EIO);
    }
    model_disk_change(disk, model_path_plain(path), NULL, name->file);
    model_disk_sweep(disk);
    return model_disk_leave(disk, 0);
}

static int memory_random(void *context, void *buffer, size_t bytes)
{
    memory_io *disk = model_disk_enter(context);

    test_random_fill(&disk->random, buffer, bytes);
    return model_disk_leave(disk, 0);
}

memory_io *memory_io_create(uint64_t seed)
{
    memory_io *disk = model_must_have(calloc(1, sizeof(*disk)));

    disk->table = (nphd_io){
        .struct_size = sizeof(nphd_io),
        .context = disk,
        .open = memory_open,
        .size = memory_size,
        .read = memory_read,
        .write = memory_write,
        .allocate = memory_allocate,
        .sync = memory_sync,
        .close = memory_close,
        .map = memory_map,
        .unmap = memory_unmap,
        .rename = memory_rename,
        .remove = memory_remove,
        .sync_directory = model_sync_directory,
        .random = memory_random,
        .make_directory = model_make_directory,
        .list = model_list,
        .lock = model_lock,
        .copy = model_copy,
        .look = model_look,
        .remove_directory = memory_remove_directory,
        .make_directory_like = model_make_directory_like,
    };
    if (pthread_mutex_init(&disk->mutex, NULL) != 0) {
        abort();
    }
    disk->random.state = seed;
    disk->next_handle = 1;
    disk->first_handle = 1;
    disk->cut_after = UINT64_MAX;
    disk->capacity_bytes = UINT64_MAX;
    return disk;
}

void memory_io_destroy(memory_io *disk)
{
    if (disk == NULL) {
        return;
    }
    model_disk_clear(disk);
    for (size_t i = 0; i < disk->map_count; i++) {
        free(disk->maps[i].base);
    }
    free(disk->maps);
    (void)pthread_mutex_destroy(&disk->mutex);
    free(disk);
}

const nphd_io *memory_io_table(memory_io *disk)
{
    return &disk->table;
}

/* ---- looking and meddling ---- */

void memory_io_put(memory_io *disk, const char *path, const void *data, size_t bytes)
{
    size_t kept = 0;

    path = model_path_plain(path);
    (void)model_disk_enter(disk);
    for (size_t i = 0; i < disk->change_count; i++) {
        model_change *change = &disk->changes[i];
        const bool same = (change->from != NULL && strcmp(change->from, path) == 0) ||
                          (change->to != NULL && strcmp(change->to, path) == 0);
        if (same || (change->file->directory && model_path_is_below(path, change->to))) {
            model_names_apply(&disk->durable, change); /* else it could undo what is put here */
            model_change_clear(change);
        } else {
            disk->changes[kept++] = *change;
        }
    }
    disk->change_count = kept;
    model_disk_put(disk, path, data, bytes);
    model_disk_sweep(disk);
    (void)model_disk_leave(disk, 0);
}

void *memory_io_get(memory_io *disk, const char *path, size_t *out_bytes)
{
    const model_name *name;
    void *data = NULL;

    (void)model_disk_enter(disk);
    name = model_names_find(&disk->live, model_path_plain(path));
    *out_bytes = 0;
    if (name != NULL && !name->file->directory) {
        data = model_bytes_copy(name->file->live, name->file->live_bytes);
        *out_bytes = name->file->live_bytes;
    }
    (void)model_disk_leave(disk, 0);
    return data;
}

size_t memory_io_count(memory_io *disk, const char *part)
{
    size_t count = 0;

    (void)model_disk_enter(disk);
    for (size_t i = 0; i < disk->live.count; i++) {
        const model_name *name = &disk->live.items[i];
        count += !name->file->directory && (part == NULL || strstr(name->path, part) != NULL);
    }
    (void)model_disk_leave(disk, 0);
    return count;
}

bool memory_io_name(memory_io *disk, size_t index, char *out, size_t room)
{
    const char *path = NULL;

    (void)model_disk_enter(disk);
    for (size_t i = 0; i < disk->live.count && path == NULL; i++) {
        const model_name *name = &disk->live.items[i];
        if (!name->file->directory && index-- == 0) {
            path = name->path;
        }
    }
    if (room > 0) {
        (void)snprintf(out, room, "%s", path != NULL ? path : "");
    }
    (void)model_disk_leave(disk, 0);
    return path != NULL;
}

void memory_io_set_capacity(memory_io *disk, uint64_t bytes)
{
    (void)model_disk_enter(disk);
    disk->capacity_bytes = bytes;
    (void)model_disk_leave(disk, 0);
}

/* ---- what was left behind ---- */

size_t memory_io_open_files(memory_io *disk)
{
    size_t count;

    (void)model_disk_enter(disk);
    count = disk->open_count;
    (void)model_disk_leave(disk, 0);
    return count;
}

size_t memory_io_maps(memory_io *disk)
{
    size_t count;

    (void)model_disk_enter(disk);
    count = disk->map_count;
    (void)model_disk_leave(disk, 0);
    return count;
}

uint64_t memory_io_mistakes(memory_io *disk)
{
    uint64_t mistakes;

    (void)model_disk_enter(disk);
    mistakes = disk->mistakes;
    (void)model_disk_leave(disk, 0);
    return mistakes;
}
