/* An I/O table that notes the order of renames and can make flushes wait. Threads: any. */
#ifndef IO_WATCHED_H
#define IO_WATCHED_H

#include <nphd/io.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

typedef struct watched_io {
    nphd_io table;
    const nphd_io *below;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool shut; /* flushes of files wait */
    char renamed[4096];
} watched_io;

static inline int watched_rename(void *context, const char *from, const char *to)
{
    watched_io *io = context;
    const char *name = strrchr(to, '/');

    (void)pthread_mutex_lock(&io->mutex);
    const size_t used = strlen(io->renamed);
    (void)snprintf(io->renamed + used, sizeof(io->renamed) - used, "%s ", name + 1);
    (void)pthread_mutex_unlock(&io->mutex);
    return io->below->rename(io->below->context, from, to);
}

static inline int watched_sync(void *context, nphd_file file)
{
    watched_io *io = context;

    (void)pthread_mutex_lock(&io->mutex);
    while (io->shut) {
        (void)pthread_cond_wait(&io->changed, &io->mutex);
    }
    (void)pthread_mutex_unlock(&io->mutex);
    return io->below->sync(io->below->context, file);
}

static inline void watched_shut(watched_io *io, bool shut)
{
    (void)pthread_mutex_lock(&io->mutex);
    io->shut = shut;
    (void)pthread_cond_broadcast(&io->changed);
    (void)pthread_mutex_unlock(&io->mutex);
}

/* The other functions go to the table below, which is why they get its context. */
#define PASS(name, parameters, arguments)                                                          \
    static inline int pass_##name parameters                                                       \
    {                                                                                              \
        const watched_io *io = context;                                                            \
        return io->below->name arguments;                                                          \
    }
PASS(open, (void *context, const char *path, int how, nphd_file *out),
     (io->below->context, path, how, out))
PASS(size, (void *context, nphd_file file, uint64_t *out), (io->below->context, file, out))
PASS(read, (void *context, nphd_file file, uint64_t at, void *to, size_t bytes, size_t *done),
     (io->below->context, file, at, to, bytes, done))
PASS(write,
     (void *context, nphd_file file, uint64_t at, const void *from, size_t bytes, size_t *done),
     (io->below->context, file, at, from, bytes, done))
PASS(allocate, (void *context, nphd_file file, uint64_t bytes), (io->below->context, file, bytes))
PASS(close, (void *context, nphd_file file), (io->below->context, file))
PASS(map, (void *context, nphd_file file, uint64_t bytes, const void **out),
     (io->below->context, file, bytes, out))
PASS(remove, (void *context, const char *path), (io->below->context, path))
PASS(sync_directory, (void *context, const char *path), (io->below->context, path))
PASS(random, (void *context, void *to, size_t bytes), (io->below->context, to, bytes))
PASS(make_directory, (void *context, const char *path), (io->below->context, path))
PASS(list,
     (void *context, const char *path, int (*visit)(void *visit_context, const char *name),
      void *visit_context),
     (io->below->context, path, visit, visit_context))
PASS(lock, (void *context, const char *path, nphd_file *out), (io->below->context, path, out))
PASS(copy, (void *context, const char *from, const char *to), (io->below->context, from, to))
PASS(look, (void *context, const char *path, nphd_file_facts *out), (io->below->context, path, out))

static inline void pass_unmap(void *context, const void *base, uint64_t bytes)
{
    const watched_io *io = context;

    io->below->unmap(io->below->context, base, bytes);
}

static inline void watched_init(watched_io *io, const nphd_io *below)
{
    memset(io, 0, sizeof(*io));
    io->below = below;
    (void)pthread_mutex_init(&io->mutex, NULL);
    (void)pthread_cond_init(&io->changed, NULL);
    io->table = (nphd_io){sizeof(nphd_io),
                          io,
                          pass_open,
                          pass_size,
                          pass_read,
                          pass_write,
                          pass_allocate,
                          watched_sync,
                          pass_close,
                          pass_map,
                          pass_unmap,
                          watched_rename,
                          pass_remove,
                          pass_sync_directory,
                          pass_random,
                          pass_make_directory,
                          pass_list,
                          pass_lock,
                          pass_copy,
                          NULL,
                          NULL,
                          pass_look,
                          NULL,
                          NULL,
                          NULL,
                          NULL,
                          NULL};
}

#undef PASS

#endif
