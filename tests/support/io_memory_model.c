/* Files, names and the disk that holds them; see io_memory_model.h. */
#include "io_memory_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory: a test that runs out of it ends ---- */

void *model_must_have(void *memory)
{
    if (memory == NULL) {
        abort();
    }
    return memory;
}

void *model_array_grow(void *items, size_t count, size_t *room, size_t size)
{
    if (count < *room) {
        return items;
    }
    *room = *room == 0 ? 8 : *room * 2;
    return model_must_have(realloc(items, *room * size));
}

uint8_t *model_bytes_copy(const uint8_t *data, size_t bytes)
{
    uint8_t *copy = model_must_have(malloc(bytes == 0 ? 1 : bytes));

    if (bytes > 0) {
        memcpy(copy, data, bytes);
    }
    return copy;
}

/* ---- files ---- */

model_file *model_file_create(memory_io *disk)
{
    model_file *file = model_must_have(calloc(1, sizeof(*file)));

    file->number = ++disk->next_number;
    disk->files = model_array_grow(disk->files, disk->file_count, &disk->file_room, sizeof(file));
    disk->files[disk->file_count++] = file;
    return file;
}

static void file_forget_writes(model_file *file)
{
    for (size_t i = 0; i < file->write_count; i++) {
        free(file->writes[i].data);
    }
    file->write_count = 0;
}

static void file_destroy(model_file *file)
{
    file_forget_writes(file);
    free(file->writes);
    free(file->live);
    free(file->durable);
    free(file);
}

void model_file_flush(model_file *file)
{
    free(file->durable);
    file->durable = model_bytes_copy(file->live, file->live_bytes);
    file->durable_bytes = file->live_bytes;
    file_forget_writes(file);
}

void model_file_put(model_file *file, size_t offset, const void *data, size_t bytes)
{
    const size_t end = offset + bytes;

    if (end > file->live_room) {
        file->live_room = end < file->live_room * 2 ? file->live_room * 2 : end;
        file->live = model_must_have(realloc(file->live, file->live_room));
    }
    if (offset > file->live_bytes) {
        memset(file->live + file->live_bytes, 0, offset - file->live_bytes);
    }
    if (bytes > 0) {
        memcpy(file->live + offset, data, bytes);
    }
    if (end > file->live_bytes) {
        file->live_bytes = end;
    }
}

void model_file_log_write(model_file *file, uint64_t offset, const void *data, size_t bytes)
{
    model_write *write;

    file->writes =
        model_array_grow(file->writes, file->write_count, &file->write_room, sizeof(*file->writes));
    write = &file->writes[file->write_count++];
    write->offset = offset;
    write->bytes = bytes;
    write->data = model_bytes_copy(data, bytes);
}

/* ---- names ---- */

const char *model_path_plain(const char *path)
{
    while (path[0] == '.' && path[1] == '/') {
        path += 2;
    }
    return path;
}

size_t model_path_directory_bytes(const char *path)
{
    const char *slash = strrchr(path, '/');

    if (slash == NULL) {
        return 0;
    }
    return slash == path ? 1 : (size_t)(slash - path);
}

bool model_path_is_in(const char *path, const char *directory, size_t directory_bytes)
{
    return model_path_directory_bytes(path) == directory_bytes &&
           memcmp(path, directory, directory_bytes) == 0;
}

model_name *model_names_find(const model_names *names, const char *path)
{
    for (size_t i = 0; i < names->count; i++) {
        if (strcmp(names->items[i].path, path) == 0) {
            return &names->items[i];
        }
    }
    return NULL;
}

void model_names_set(model_names *names, const char *path, model_file *file)
{
    model_name *name = model_names_find(names, path);

    if (name == NULL) {
        names->items =
            model_array_grow(names->items, names->count, &names->room, sizeof(*names->items));
        name = &names->items[names->count++];
        name->path = model_must_have(strdup(path));
    }
    name->file = file;
}

void model_names_drop(model_names *names, const char *path)
{
    model_name *name = model_names_find(names, path);

    if (name != NULL) {
        free(name->path);
        *name = names->items[--names->count];
    }
}

bool model_names_have_below(const model_names *names, const char *directory)
{
    for (size_t i = 0; i < names->count; i++) {
        if (model_path_is_below(names->items[i].path, directory)) {
            return true;
        }
    }
    return false;
}

/* What is in a directory goes with it. */
static void names_move_below(model_names *names, const char *from, const char *to)
{
    for (size_t i = 0; i < names->count; i++) {
        char *path = names->items[i].path;
        if (model_path_is_below(path, from)) {
            const size_t room = strlen(path) + strlen(to) + 1;
            names->items[i].path = model_must_have(malloc(room));
            (void)snprintf(names->items[i].path, room, "%s%s", to, path + strlen(from));
            free(path);
        }
    }
}

void model_names_apply(model_names *names, const model_change *change)
{
    if (change->from != NULL && change->to != NULL && change->file->directory) {
        names_move_below(names, change->from, change->to);
    }
    if (change->from != NULL) {
        const model_name *name = model_names_find(names, change->from);
        if (name != NULL && name->file == change->file) {
            model_names_drop(names, change->from);
        }
    }
    if (change->to != NULL) {
        model_names_set(names, change->to, change->file);
    }
}

void model_names_clear(model_names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        free(names->items[i].path);
    }
    free(names->items);
    memset(names, 0, sizeof(*names));
}

void model_disk_change(memory_io *disk, const char *from, const char *to, model_file *file)
{
    model_change change = {NULL, NULL, file};

    change.from = from == NULL ? NULL : model_must_have(strdup(from));
    change.to = to == NULL ? NULL : model_must_have(strdup(to));
    model_names_apply(&disk->live, &change);
    disk->changes =
        model_array_grow(disk->changes, disk->change_count, &disk->change_room, sizeof(change));
    disk->changes[disk->change_count++] = change;
}

void model_change_clear(model_change *change)
{
    free(change->from);
    free(change->to);
}

static void names_mark(const model_names *names)
{
    for (size_t i = 0; i < names->count; i++) {
        names->items[i].file->marked = true;
    }
}

void model_disk_sweep(memory_io *disk)
{
    size_t kept = 0;

    names_mark(&disk->live);
    names_mark(&disk->durable);
    for (size_t i = 0; i < disk->change_count; i++) {
        disk->changes[i].file->marked = true;
    }
    for (size_t i = 0; i < disk->open_count; i++) {
        disk->opens[i].file->marked = true;
    }
    for (size_t i = 0; i < disk->file_count; i++) {
        model_file *file = disk->files[i];
        if (file->marked) {
            file->marked = false;
            disk->files[kept++] = file;
        } else {
            file_destroy(file);
        }
    }
    disk->file_count = kept;
}

/* ---- the disk ---- */

memory_io *model_disk_enter(void *context)
{
    memory_io *disk = context;

    if (pthread_mutex_lock(&disk->mutex) != 0) {
        abort();
    }
    return disk;
}

int model_disk_leave(memory_io *disk, int os_error)
{
    (void)pthread_mutex_unlock(&disk->mutex);
    return os_error;
}

bool model_disk_has_power(const memory_io *disk)
{
    return !disk->cut;
}

bool model_disk_operate(memory_io *disk)
{
    if (disk->operations >= disk->cut_after) {
        disk->cut = true;
        return false;
    }
    disk->operations++;
    return true;
}

void model_disk_add_open(memory_io *disk, model_file *file, bool writable, bool locks,
                         nphd_file *out_file)
{
    disk->opens =
        model_array_grow(disk->opens, disk->open_count, &disk->open_room, sizeof(*disk->opens));
    disk->opens[disk->open_count++] = (model_open){disk->next_handle, file, writable, locks};
    out_file->handle = disk->next_handle++;
}

void model_disk_put(memory_io *disk, const char *path, const void *data, size_t bytes)
{
    model_file *file = model_file_create(disk);

    model_file_put(file, 0, data, bytes);
    model_file_flush(file);
    model_names_set(&disk->live, path, file);
    model_names_set(&disk->durable, path, file);
}

void model_disk_clear(memory_io *disk)
{
    model_names_clear(&disk->live);
    model_names_clear(&disk->durable);
    for (size_t i = 0; i < disk->change_count; i++) {
        model_change_clear(&disk->changes[i]);
    }
    disk->change_count = 0;
    disk->open_count = 0;
    model_disk_sweep(disk);
    free(disk->changes);
    free(disk->opens);
    free(disk->files);
    disk->changes = NULL;
    disk->opens = NULL;
    disk->files = NULL;
    disk->change_room = 0;
    disk->open_room = 0;
    disk->file_room = 0;
}
