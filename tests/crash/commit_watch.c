#include "commit_watch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const io_fault *below(void *context)
{
    const commit_watch *watch = context;

    return &watch->fault;
}

static void *handle(void *context)
{
    commit_watch *watch = context;

    return watch->fault.table.context;
}

static int look_after(void *context, int os_error)
{
    commit_watch *watch = context;

    if (watch->awake && os_error == 0) {
        watch->awake = false;
        watch->look(watch->context);
        watch->awake = true;
    }
    return os_error;
}

static int watch_open(void *context, const char *path, int how, nphd_file *out_file)
{
    const int os_error = below(context)->table.open(handle(context), path, how, out_file);

    return how == NPHD_OPEN_CREATE ? look_after(context, os_error) : os_error;
}

static int watch_write(void *context, nphd_file file, uint64_t offset, const void *buffer,
                       size_t bytes, size_t *out_done)
{
    return look_after(context, below(context)->table.write(handle(context), file, offset, buffer,
                                                           bytes, out_done));
}

static int watch_sync(void *context, nphd_file file)
{
    return look_after(context, below(context)->table.sync(handle(context), file));
}

static int watch_rename(void *context, const char *from, const char *to)
{
    return look_after(context, below(context)->table.rename(handle(context), from, to));
}

static int watch_remove(void *context, const char *path)
{
    return look_after(context, below(context)->table.remove(handle(context), path));
}

static int watch_sync_directory(void *context, const char *path)
{
    return look_after(context, below(context)->table.sync_directory(handle(context), path));
}

/* ---- what changes nothing is handed on ---- */

static int watch_size(void *context, nphd_file file, uint64_t *out_bytes)
{
    return below(context)->table.size(handle(context), file, out_bytes);
}

static int watch_read(void *context, nphd_file file, uint64_t offset, void *buffer, size_t bytes,
                      size_t *out_done)
{
    return below(context)->table.read(handle(context), file, offset, buffer, bytes, out_done);
}

static int watch_allocate(void *context, nphd_file file, uint64_t bytes)
{
    return below(context)->table.allocate(handle(context), file, bytes);
}

static int watch_close(void *context, nphd_file file)
{
    return below(context)->table.close(handle(context), file);
}

static int watch_map(void *context, nphd_file file, uint64_t bytes, const void **out_base)
{
    return below(context)->table.map(handle(context), file, bytes, out_base);
}

static void watch_unmap(void *context, const void *base, uint64_t bytes)
{
    below(context)->table.unmap(handle(context), base, bytes);
}

static int watch_random(void *context, void *buffer, size_t bytes)
{
    return below(context)->table.random(handle(context), buffer, bytes);
}

static int watch_make_directory(void *context, const char *path)
{
    return look_after(context, below(context)->table.make_directory(handle(context), path));
}

static int watch_list(void *context, const char *path,
                      int (*visit)(void *visit_context, const char *name), void *visit_context)
{
    return below(context)->table.list(handle(context), path, visit, visit_context);
}

static int watch_lock(void *context, const char *path, nphd_file *out_file)
{
    return below(context)->table.lock(handle(context), path, out_file);
}

static int watch_copy(void *context, const char *from, const char *to)
{
    return look_after(context, below(context)->table.copy(handle(context), from, to));
}

static int watch_look(void *context, const char *path, nphd_file_facts *out)
{
    return below(context)->table.look(handle(context), path, out);
}

void commit_watch_begin(commit_watch *watch, memory_io *disk, void (*look)(void *context),
                        void *context)
{
    const nphd_io table = {
        .struct_size = sizeof(nphd_io),
        .context = watch,
        .open = watch_open,
        .size = watch_size,
        .read = watch_read,
        .write = watch_write,
        .allocate = watch_allocate,
        .sync = watch_sync,
        .close = watch_close,
        .map = watch_map,
        .unmap = watch_unmap,
        .rename = watch_rename,
        .remove = watch_remove,
        .sync_directory = watch_sync_directory,
        .random = watch_random,
        .make_directory = watch_make_directory,
        .list = watch_list,
        .lock = watch_lock,
        .copy = watch_copy,
        .look = watch_look,
    };

    memset(watch, 0, sizeof(*watch));
    watch->table = table;
    watch->disk = disk;
    watch->look = look;
    watch->context = context;
    io_fault_init(&watch->fault, memory_io_table(disk));
}

void commit_watch_end(commit_watch *watch)
{
    assert_int_equal(watch->fault.open_files, 0);
    assert_int_equal(watch->fault.maps, 0);
    assert_int_equal(watch->fault.repeated_syncs, 0);
    assert_int_equal(memory_io_mistakes(watch->disk), 0);
    io_fault_destroy(&watch->fault);
}
