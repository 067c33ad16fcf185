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

static void fault_count_open(io_fault_view *view, int os_error)
{
    fault_lock(view->fault);
    view->fault->open_files += os_error == 0;
    view->open_files += os_error == 0;
    fault_unlock(view->fault);
}

static int fault_open(void *context, const char *path, int how, nphd_file *out_file)
{
    io_fault_view *view = context;
    io_fault *fault = view->fault;
    int os_error = fault_decide(fault, IO_FAULT_OPEN);

    out_file->handle = -1;
    if (os_error == DECIDE_CALL) {
        os_error = fault->below->open(view->context, path, how, out_file);
        fault_count_open(view, os_error);
    }
    return os_error;
}

static int fault_size(void *context, nphd_file file, uint64_t *out_bytes)
{
    const io_fault_view *view = context;
    io_fault *fault = view->fault;
    const int os_error = fault_decide(fault, IO_FAULT_SIZE);

    *out_bytes = 0;
    return os_error != 0 ? os_error : fault->below->size(view->context, file, out_bytes);
}

static size_t fault_shorten(int decision, size_t bytes)
{
    return decision == DECIDE_SHORT ? (bytes + 1) / 2 : bytes;
}

static int fault_read(void *context, nphd_file file, uint64_t offset, void *buffer, size_t bytes,
                      size_t *out_done)
{
    const io_fault_view *view = context;
    io_fault *fault = view->fault;
    const int decision = fault_decide(fault, IO_FAULT_READ);

    *out_done = 0;
    return decision > 0 ? decision
                        : fault->below->read(view->context, file, offset, buffer,
                                             fault_shorten(decision, bytes), out_done);
}

static int fault_write(void *context, nphd_file file, uint64_t offset, const void *buffer,
                       size_t bytes, size_t *out_done)
{
    const io_fault_view *view = context;
    io_fault *fault = view->fault;
    const int decision = fault_decide(fault, IO_FAULT_WRITE);

    *out_done = 0;
    return decision > 0 ? decision
                        : fault->below->write(view->context, file, offset, buffer,
                                              fault_shorten(decision, bytes), out_done);
}

static int fault_allocate(void *context, nphd_file file, uint64_t bytes)
{
    const io_fault_view *view = context;
    io_fault *fault = view->fault;
    const int decision = fault_decide(fault, IO_FAULT_ALLOCATE);

    if (decision == DECIDE_CALL) {
        return fault->below->allocate(view->context, file, bytes);
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
    const io_fault_view *view = context;
    io_fault *fault = view->fault;
    int os_error = fault_decide(fault, IO_FAULT_SYNC);

    if (os_error == DECIDE_CALL) {
        os_error = fault->below->sync(view->context, file);
    } else if (os_error == DECIDE_SWALLOW) {
        os_error = 0;
    }
    fault_note_sync(fault, file, os_error);
    return os_error;
}

static int fault_close(void *context, nphd_file file)
{
    io_fault_view *view = context;
    io_fault *fault = view->fault;
    const int decision = fault_decide(fault, IO_FAULT_CLOSE);
    size_t i;
    int os_error;

    fault_lock(fault); /* before the call: the handle may be given out again right after it */
    i = fault_find_spoiled(fault, file);
    if (i < fault->spoiled_count) {
        fault->spoiled[i] = fault->spoiled[--fault->spoiled_count];
    }
    fault->open_files--;
    view->open_files--;
    fault_unlock(fault);
    os_error = fault->below->close(view->context, file);
    return decision > 0 ? decision : os_error;
}

static int fault_map(void *context, nphd_file file, uint64_t bytes, const void **out_base)
{
    const io_fault_view *view = context;
    io_fault *fault = view->fault;
    int os_error = fault_decide(fault, IO_FAULT_MAP);

    *out_base = NULL;
    if (os_error == DECIDE_CALL) {
        os_error = fault->below->map(view->context, file, bytes, out_base);
        fault_lock(fault);
        fault->maps += os_error == 0;
        fault_unlock(fault);
    }
    return os_error;
}

static void fault_unmap(void *context, const void *base, uint64_t bytes)
{
    const io_fault_view *view = context;
    io_fault *fault = view->fault;

    fault_lock(fault);
    fault->total_calls++;
    fault->maps--;
    fault_unlock(fault);
    fault->below->unmap(view->context, base, bytes);
}

static int fault_rename(void *context, const char *from, const char *to)
{
    const io_fault_view *view = context;
    io_fault *fault = view->fault;
    const int os_error = fault_decide(fault, IO_FAULT_RENAME);

    return os_error != 0 ? os_error : fault->below->rename(view->context, from, to);
}

static int fault_remove(void *context, const char *path)
{
    const io_fault_view *view = context;
    io_fault *fault = view->fault;
    const int decision = fault_decide(fault, IO_FAULT_REMOVE);

    if (decision == DECIDE_CALL) {
        return fault->below->remove(view->context, path);
    }
    return decision == DECIDE_SWALLOW ? 0 : decision;
}

static int fault_remove_directory(void *context, const char *path)
{
    const io_fault_view *view = context;
    io_fault *fault = view->fault;
    const int decision = fault_decide(fault, IO_FAULT_REMOVE);

    if (decision == DECIDE_CALL) {
        return fault->below->remove_directory(view->context, path);
    }
    return decision == DECIDE_SWALLOW ? 0 : decision;
}

static int fault_sync_directory(void *context, const char *path)
{
    const io_fault_view *view = context;
    io_fault *fault = view->fault;
    const int decision = fault_decide(fault, IO_FAULT_SYNC_DIRECTORY);

    if (decision == DECIDE_CALL) {
        return fault->below->sync_directory(view->context, path);
    }
    return decision == DECIDE_SWALLOW ? 0 : decision;
}

static int fault_random(void *context, void *buffer, size_t bytes)
{
    const io_fault_view *view = context;
    io_fault *fault = view->fault;
    const int os_error = fault_decide(fault, IO_FAULT_RANDOM);

    return os_error != 0 ? os_error : fault->below->random(view->context, buffer, bytes);
}

static int fault_make_directory(void *context, const char *path)
{
    const io_fault_view *view = context;
    io_fault *fault = view->fault;
    const int os_error = fault_decide(fault, IO_FAULT_MAKE_DIRECTORY);

    return os_error != 0 ? os_error : fault->below->make_directory(view->context, path);
}

static int fault_make_directory_like(void *context, const char *path, const char *like)
{
    const io_fault_view *view = context;
    io_fault *fault = view->fault;
    const int os_error = fault_decide(fault, IO_FAULT_MAKE_DIRECTORY);

    return os_error != 0 ? os_error : fault->below->make_directory_like(view->context, path, like);
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
    const io_fault_view *view = context;
    io_fault *fault = view->fault;
    const int os_error = fault_decide(fault, IO_FAULT_LIST);
    fault_visit one = {visit, visit_context, os_error};

    if (os_error == 0) {
        return fault->below->list(view->context, path, visit, visit_context);
    }
    const int answer = fault->below->list(view->context, path, fault_visit_one, &one);
    return answer != 0 ? answer : os_error; /* an empty directory fails too */
}

static int fault_lock_file(void *context, const char *path, nphd_file *out_file)
{
    io_fault_view *view = context;
    io_fault *fault = view->fault;
    int os_error = fault_decide(fault, IO_FAULT_LOCK);

    out_file->handle = -1;
    if (os_error == 0) {
        os_error = fault->below->lock(view->context, path, out_file);
        fault_count_open(view, os_error);
    }
    return os_error;
}

static int fault_copy(void *context, const char *from, const char *to)
{
    const io_fault_view *view = context;
    io_fault *fault = view->fault;
    const int os_error = fault_decide(fault, IO_FAULT_COPY);

    return os_error != 0 ? os_error : fault->below->copy(view->context, from, to);
}

/* ---- what a table may lack ---- */

static int fault_root(void *context, const char *path, const char *name, void **out_context)
{
    const io_fault_view *view = context;
    io_fault *fault = view->fault;
    int os_error = fault_decide(fault, IO_FAULT_ROOT);
    io_fault_view *rooted;

    *out_context = NULL;
    if (os_error != 0) {
        return os_error;
    }
    rooted = calloc(1, sizeof(*rooted));
    if (rooted == NULL) {
        abort();
    }
    rooted->fault = fault;
    os_error = fault->below->root(view->context, path, name, &rooted->context);
    if (os_error != 0) {
        free(rooted);
        return os_error;
    }
    fault_lock(fault);
    fault->open_files++;
    fault_unlock(fault);
    *out_context = rooted;
    return 0;
}

static void fault_unroot(void *context)
{
    io_fault_view *view = context;
    io_fault *fault = view->fault;

    fault_lock(fault);
    fault->total_calls++;
    fault->open_files--;
    fault->left_open += view->open_files;
    fault_unlock(fault);
    fault->below->unroot(view->context);
    free(view);
}

static int fault_look(void *context, const char *path, nphd_file_facts *out)
{
    const io_fault_view *view = context;
    io_fault *fault = view->fault;
    const int os_error = fault_decide(fault, IO_FAULT_LOOK);

    memset(out, 0, sizeof(*out));
    return os_error != 0 ? os_error : fault->below->look(view->context, path, out);
}

static int fault_resolve(void *context, const char *path, char *out, size_t room)
{
    const io_fault_view *view = context;
    io_fault *fault = view->fault;
    const int os_error = fault_decide(fault, IO_FAULT_LOOK);

    return os_error != 0 ? os_error : fault->below->resolve(view->context, path, out, room);
}

static int fault_create_like(void *context, const char *path, const char *like, nphd_file *out_file)
{
    io_fault_view *view = context;
    io_fault *fault = view->fault;
    int os_error = fault_decide(fault, IO_FAULT_OPEN);

    out_file->handle = -1;
    if (os_error == DECIDE_CALL) {
        os_error = fault->below->create_like(view->context, path, like, out_file);
        fault_count_open(view, os_error);
    }
    return os_error;
}

static int fault_hold(void *context, const char *path, nphd_file *out_file)
{
    io_fault_view *view = context;
    io_fault *fault = view->fault;
    int os_error = fault_decide(fault, IO_FAULT_LOCK);

    out_file->handle = -1;
    if (os_error == DECIDE_CALL) {
        os_error = fault->below->hold(view->context, path, out_file);
        fault_count_open(view, os_error);
    }
    return os_error;
}

void io_fault_init(io_fault *fault, const nphd_io *below)
{
    memset(fault, 0, sizeof(*fault));
    fault->below = below;
    fault->view = (io_fault_view){fault, below->context, 0};
    fault->table = (nphd_io){
        .struct_size = sizeof(nphd_io),
        .context = &fault->view,
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
        .root = below->root != NULL ? fault_root : NULL,
        .unroot = below->unroot != NULL ? fault_unroot : NULL,
        .look = below->look != NULL ? fault_look : NULL,
        .resolve = below->resolve != NULL ? fault_resolve : NULL,
        .create_like = below->create_like != NULL ? fault_create_like : NULL,
        .hold = below->hold != NULL ? fault_hold : NULL,
        .remove_directory = below->remove_directory != NULL ? fault_remove_directory : NULL,
        .make_directory_like =
            below->make_directory_like != NULL ? fault_make_directory_like : NULL,
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
