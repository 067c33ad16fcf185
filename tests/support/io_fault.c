/* The fault injector for I/O: one decision in front of every call. */
#include "io_fault.h"

#include <stdlib.h>
#include <string.h>

/* What fault_decide answers, besides the errno to fail with. */
#define DECIDE_CALL 0
#define DECIDE_SHORT (-1)
#define DECIDE_SWALLOW (-2)

static void fault_lock(io_fault *fault)
{
    if (pthread_mutex_lock(&fault->mutex) != 0) {
        abort();
    }
}

static void fault_unlock(io_fault *fault)
{
    (void)pthread_mutex_unlock(&fault->mutex);
}

static int fault_decide(io_fault *fault, uint32_t kind)
{
    int answer = DECIDE_CALL;

    fault_lock(fault);
    fault->total_calls++;
    if ((fault->swallow & kind) != 0) {
        answer = DECIDE_SWALLOW;
    } else if ((fault->kinds & kind) != 0) {
        fault->calls++;
        if (fault->fail_at != 0 &&
            (fault->for_ever ? fault->calls >= fault->fail_at : fault->calls == fault->fail_at)) {
            fault->failed++;
            fault->failed_kinds |= kind;
            answer = fault->os_error == IO_FAULT_SHORT ? DECIDE_SHORT : fault->os_error;
        }
    }
    fault_unlock(fault);
    return answer;
}

static void fault_count_open(io_fault *fault, int os_error)
{
    fault_lock(fault);
    fault->open_files += os_error == 0;
    fault_unlock(fault);
}

static int fault_open(void *context, const char *path, int how, nphd_file *out_file)
{
    io_fault *fault = context;
    int os_error = fault_decide(fault, IO_FAULT_OPEN);

    out_file->handle = -1;
    if (os_error == DECIDE_CALL) {
        os_error = fault->below->open(fault->below->context, path, how, out_file);
        fault_count_open(fault, os_error);
    }
    return os_error;
}

static int fault_size(void *context, nphd_file file, uint64_t *out_bytes)
{
    io_fault *fault = context;
    const int os_error = fault_decide(fault, IO_FAULT_SIZE);

    *out_bytes = 0;
    return os_error != 0 ? os_error : fault->below->size(fault->below->context, file, out_bytes);
}

static size_t fault_shorten(int decision, size_t bytes)
{
    return decision == DECIDE_SHORT ? (bytes + 1) / 2 : bytes;
}

static int fault_read(void *context, nphd_file file, uint64_t offset, void *buffer, size_t bytes,
                      size_t *out_done)
{
    io_fault *fault = context;
    const int decision = fault_decide(fault, IO_FAULT_READ);

    *out_done = 0;
    return decision > 0 ? decision
                        : fault->below->read(fault->below->context, file, offset, buffer,
                                             fault_shorten(decision, bytes), out_done);
}

static int fault_write(void *context, nphd_file file, uint64_t offset, const void *buffer,
                       size_t bytes, size_t *out_done)
{
    io_fault *fault = context;
    const int decision = fault_decide(fault, IO_FAULT_WRITE);

    *out_done = 0;
    return decision > 0 ? decision
                        : fault->below->write(fault->below->context, file, offset, buffer,
                                              fault_shorten(decision, bytes), out_done);
}

static int fault_allocate(void *context, nphd_file file, uint64_t bytes)
{
    io_fault *fault = context;
    const int decision = fault_decide(fault, IO_FAULT_ALLOCATE);

    if (decision == DECIDE_CALL) {
        return fault->below->allocate(fault->below->context, file, bytes);
    }
    return decision == DECIDE_SWALLOW ? 0 : decision;
}

static size_t fault_find_spoiled(const io_fault *fault, nphd_file file)
{
    size_t i = 0;

    while (i < fault->spoiled_count && fault->spoiled[i] != file.handle) {
        i++;
    }
    return i;
}

static void fault_note_sync(io_fault *fault, nphd_file file, int os_error)
{
    fault_lock(fault);
    if (fault_find_spoiled(fault, file) < fault->spoiled_count) {
        fault->repeated_syncs++;
    } else if (os_error != 0) {
        if (fault->spoiled_count == fault->spoiled_room) {
            fault->spoiled_room = fault->spoiled_room * 2 + 8;
            fault->spoiled = realloc(fault->spoiled, fault->spoiled_room * sizeof(*fault->spoiled));
            if (fault->spoiled == NULL) {
                abort();
            }
        }
        fault->spoiled[fault->spoiled_count++] = file.handle;
    }
    fault_unlock(fault);
}

static int fault_sync(void *context, nphd_file file)
{
    io_fault *fault = context;
    int os_error = fault_decide(fault, IO_FAULT_SYNC);

    if (os_error == DECIDE_CALL) {
        os_error = fault->below->sync(fault->below->context, file);
    } else if (os_error == DECIDE_SWALLOW) {
        os_error = 0;
    }
    fault_note_sync(fault, file, os_error);
    return os_error;
}

static int fault_close(void *context, nphd_file file)
{
    io_fault *fault = context;
    const int decision = fault_decide(fault, IO_FAULT_CLOSE);
    size_t i;
    int os_error;

    fault_lock(fault); /* before the call: the handle may be given out again right after it */
    i = fault_find_spoiled(fault, file);
    if (i < fault->spoiled_count) {
        fault->spoiled[i] = fault->spoiled[--fault->spoiled_count];
    }
    fault->open_files--;
    fault_unlock(fault);
    os_error = fault->below->close(fault->below->context, file);
    return decision > 0 ? decision : os_error;
}

static int fault_map(void *context, nphd_file file, uint64_t bytes, const void **out_base)
{
    io_fault *fault = context;
    int os_error = fault_decide(fault, IO_FAULT_MAP);

    *out_base = NULL;
    if (os_error == DECIDE_CALL) {
        os_error = fault->below->map(fault->below->context, file, bytes, out_base);
        fault_lock(fault);
        fault->maps += os_error == 0;
        fault_unlock(fault);
    }
    return os_error;
}

static void fault_unmap(void *context, const void *base, uint64_t bytes)
{
    io_fault *fault = context;

    fault_lock(fault);
    fault->total_calls++;
    fault->maps--;
    fault_unlock(fault);
    fault->below->unmap(fault->below->context, base, bytes);
}

static int fault_rename(void *context, const char *from, const char *to)
{
    io_fault *fault = context;
    const int os_error = fault_decide(fault, IO_FAULT_RENAME);

    return os_error != 0 ? os_error : fault->below->rename(fault->below->context, from, to);
}

static int fault_remove(void *context, const char *path)
{
    io_fault *fault = context;
    const int decision = fault_decide(fault, IO_FAULT_REMOVE);

    if (decision == DECIDE_CALL) {
        return fault->below->remove(fault->below->context, path);
    }
    return decision == DECIDE_SWALLOW ? 0 : decision;
}

static int fault_sync_directory(void *context, const char *path)
{
    io_fault *fault = context;
    const int decision = fault_decide(fault, IO_FAULT_SYNC_DIRECTORY);

    if (decision == DECIDE_CALL) {
        return fault->below->sync_directory(fault->below->context, path);
    }
    return decision == DECIDE_SWALLOW ? 0 : decision;
}

static int fault_random(void *context, void *buffer, size_t bytes)
{
    io_fault *fault = context;
    const int os_error = fault_decide(fault, IO_FAULT_RANDOM);

    return os_error != 0 ? os_error : fault->below->random(fault->below->context, buffer, bytes);
}

static int fault_make_directory(void *context, const char *path)
{
    io_fault *fault = context;
    const int os_error = fault_decide(fault, IO_FAULT_MAKE_DIRECTORY);

    return os_error != 0 ? os_error : fault->below->make_directory(fault->below->context, path);
}

/* Tells one name and ends the listing. */
typedef struct fault_visit {
    int (*visit)(void *visit_context, const char *name);
    void *visit_context;
    int os_error;
} fault_visit;

static int fault_visit_one(void *context, const char *name)
{
    const fault_visit *one = context;
    const int answer = one->visit(one->visit_context, name);

    return answer != 0 ? answer : one->os_error;
}

static int fault_list(void *context, const char *path,
                      int (*visit)(void *visit_context, const char *name), void *visit_context)
{
    io_fault *fault = context;
    const int os_error = fault_decide(fault, IO_FAULT_LIST);
    fault_visit one = {visit, visit_context, os_error};

    if (os_error == 0) {
        return fault->below->list(fault->below->context, path, visit, visit_context);
    }
    const int answer = fault->below->list(fault->below->context, path, fault_visit_one, &one);
    return answer != 0 ? answer : os_error; /* an empty directory fails too */
}

static int fault_lock_file(void *context, const char *path, nphd_file *out_file)
{
    io_fault *fault = context;
    int os_error = fault_decide(fault, IO_FAULT_LOCK);

    out_file->handle = -1;
    if (os_error == 0) {
        os_error = fault->below->lock(fault->below->context, path, out_file);
        fault_count_open(fault, os_error);
    }
    return os_error;
}

static int fault_copy(void *context, const char *from, const char *to)
{
    io_fault *fault = context;
    const int os_error = fault_decide(fault, IO_FAULT_COPY);

    return os_error != 0 ? os_error : fault->below->copy(fault->below->context, from, to);
}

void io_fault_init(io_fault *fault, const nphd_io *below)
{
    memset(fault, 0, sizeof(*fault));
    fault->below = below;
    fault->table = (nphd_io){
        .struct_size = sizeof(nphd_io),
        .context = fault,
        .open = fault_open,
        .size = fault_size,
        .read = fault_read,
        .write = fault_write,
        .allocate = fault_allocate,
        .sync = fault_sync,
        .close = fault_close,
        .map = fault_map,
        .unmap = fault_unmap,
        .rename = fault_rename,
        .remove = fault_remove,
        .sync_directory = fault_sync_directory,
        .random = fault_random,
        .make_directory = fault_make_directory,
        .list = fault_list,
        .lock = fault_lock_file,
        .copy = fault_copy,
    };
    if (pthread_mutex_init(&fault->mutex, NULL) != 0) {
        abort();
    }
}

void io_fault_destroy(io_fault *fault)
{
    free(fault->spoiled);
    (void)pthread_mutex_destroy(&fault->mutex);
    memset(fault, 0, sizeof(*fault));
}

void io_fault_arm(io_fault *fault, uint32_t kinds, uint64_t fail_at, int os_error, bool for_ever)
{
    fault_lock(fault);
    fault->kinds = os_error == IO_FAULT_SHORT ? kinds & (IO_FAULT_READ | IO_FAULT_WRITE) : kinds;
    fault->fail_at = fail_at;
    fault->os_error = os_error;
    fault->for_ever = for_ever;
    fault->calls = 0;
    fault->failed = 0;
    fault->failed_kinds = 0;
    fault_unlock(fault);
}

void io_fault_disarm(io_fault *fault)
{
    fault_lock(fault);
    fault->fail_at = 0;
    fault_unlock(fault);
}
