/* The inside of the model disk, shared by the files io_memory*.c. Everything that takes a disk
 * expects it to be entered; functions of the table take it as a context and enter it.
 *
 * Invariants:
 *   (1) replaying the unflushed writes of a file onto its durable image gives its live image, and
 *       replaying the unflushed changes onto the durable names gives the live names;
 *   (2) files only grow: the table has no truncate;
 *   (3) a file lives as long as a live or durable name, an unflushed change or an open file has it;
 *   (4) a directory that was made is a file without data, has one name and keeps it.
 * Model after "All File Systems Are Not Created Equal" (Pillai and others, OSDI 2014). */
#ifndef IO_MEMORY_MODEL_H
#define IO_MEMORY_MODEL_H

#include "io_memory.h"
#include "test_random.h"

#include <pthread.h>

typedef struct model_write {
    uint64_t offset;
    size_t bytes;
    uint8_t *data;
} model_write;

typedef struct model_file {
    uint8_t *live;
    size_t live_bytes;
    size_t live_room;
    uint8_t *durable;
    size_t durable_bytes;
    model_write *writes; /* since the last sync */
    size_t write_count;
    size_t write_room;
    uint64_t number; /* no other file of the disk has had it */
    bool marked;
    bool directory;
} model_file;

typedef struct model_name {
    char *path;
    model_file *file;
} model_name;

typedef struct model_names {
    model_name *items;
    size_t count;
    size_t room;
} model_names;

/* create and copy: from is NULL; remove: to is NULL; rename: both are there. */
typedef struct model_change {
    char *from;
    char *to;
    model_file *file;
} model_change;

typedef struct model_open {
    intptr_t handle;
    model_file *file;
    bool writable;
    bool locks; /* until it is closed */
} model_open;

typedef struct model_map {
    void *base;
    uint64_t bytes;
} model_map;

struct memory_io {
    nphd_io table;
    pthread_mutex_t mutex;
    test_random random;
    model_file **files;
    size_t file_count;
    size_t file_room;
    model_names live;
    model_names durable;
    model_change *changes; /* since the last sync of their directory, oldest first */
    size_t change_count;
    size_t change_room;
    model_open *opens;
    size_t open_count;
    size_t open_room;
    model_map *maps;
    size_t map_count;
    size_t map_room;
    uint64_t next_number;
    intptr_t next_handle;
    intptr_t first_handle; /* handles below are from before the power cut */
    uint64_t operations;
    uint64_t cut_after;
    uint64_t capacity_bytes;
    uint64_t mistakes;
    bool cut;
    bool strict;        /* nothing is created in a directory that is not there */
    bool whole_sectors; /* the device writes a sector whole or not at all */
};

/* ---- memory: a test that runs out of it ends ---- */

void *model_must_have(void *memory); /* not NULL */

/* Room for one more of `size` bytes in a growing array. */
void *model_array_grow(void *items, size_t count, size_t *room, size_t size);
uint8_t *model_bytes_copy(const uint8_t *data, size_t bytes);

/* ---- files ---- */

model_file *model_file_create(memory_io *disk); /* without a name yet */
void model_file_flush(model_file *file);
void model_file_put(model_file *file, size_t offset, const void *data, size_t bytes);
void model_file_log_write(model_file *file, uint64_t offset, const void *data, size_t bytes);

/* ---- names ---- */

const char *model_path_plain(const char *path); /* without "./" in front */

/* Bytes of the directory part, without its slash unless it is the root; 0 for the current one. */
size_t model_path_directory_bytes(const char *path);
bool model_path_is_in(const char *path, const char *directory, size_t directory_bytes);
bool model_path_is_below(const char *path, const char *directory); /* at any depth */
model_name *model_names_find(const model_names *names, const char *path);
void model_names_set(model_names *names, const char *path, model_file *file);
void model_names_drop(model_names *names, const char *path);
bool model_names_have_below(const model_names *names, const char *directory);
void model_names_apply(model_names *names, const model_change *change);
void model_names_clear(model_names *names);
void model_change_clear(model_change *change);

/* ---- the disk ---- */

memory_io *model_disk_enter(void *context);          /* takes the mutex */
int model_disk_leave(memory_io *disk, int os_error); /* gives it back, returns os_error */

bool model_disk_has_power(const memory_io *disk);

/* Counts one changing operation; false when the power is gone before it. */
bool model_disk_operate(memory_io *disk);

void model_disk_add_open(memory_io *disk, model_file *file, bool writable, bool locks,
                         nphd_file *out_file);

/* Makes a change live, and durable at the next flush of its directory. */
void model_disk_change(memory_io *disk, const char *from, const char *to, model_file *file);

/* Frees the files that nothing leads to any more. */
void model_disk_sweep(memory_io *disk);

/* Puts a whole file there, live and durable. */
void model_disk_put(memory_io *disk, const char *path, const void *data, size_t bytes);

/* May a file be created under this (plain) path? 0, or ENOENT or ENOTDIR for its directory. */
int model_disk_check_parent(const memory_io *disk, const char *path);

/* Frees everything but the mappings and the mutex. */
void model_disk_clear(memory_io *disk);

/* ---- functions of the table, in io_memory_directory.c ---- */

int model_sync_directory(void *context, const char *path);
int model_make_directory(void *context, const char *path);
int model_make_directory_like(void *context, const char *path, const char *like);
int model_list(void *context, const char *path, int (*visit)(void *visit_context, const char *name),
               void *visit_context);
int model_lock(void *context, const char *path, nphd_file *out_file);
int model_copy(void *context, const char *from, const char *to);
int model_look(void *context, const char *path, nphd_file_facts *out);

#endif
