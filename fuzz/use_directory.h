/* What fuzz targets do with a directory of shards whose files hold anything. */
#ifndef USE_DIRECTORY_H
#define USE_DIRECTORY_H

#include "support/io_memory.h"
#include "use_index.h"

#include <stdbool.h>
#include <stdlib.h>

typedef struct fuzz_file {
    char name[64];
    uint8_t *data;
    size_t bytes;
    bool absent;
} fuzz_file;

/* A small index in "d", always the same: two shards, deletions, a filter, and a journal. */
memory_io *fuzz_directory_make(bool journal);

/* Copies of all its files; returns how many. */
size_t fuzz_directory_take(memory_io *disk, fuzz_file *out, size_t room);

/* A disk with these files. */
memory_io *fuzz_directory_put(const fuzz_file *files, size_t count);

/* Verifies, reads, salvages and changes it. Every answer will do, but what opens must hold
 * together, and what salvage made must be whole. */
void fuzz_directory_use(memory_io *disk);

#endif
