/* One index (nphd/index.h, nphd/index_file.h). */
#include "core.h"

#include <string.h>

/* ---- the calls it shares with a sharded index ---- */

static nphd_status index_add(void *handle, const nphd_key *keys, const nphd_vector *vectors,
                             size_t count, const nphd_batch_options *options, nphd_key *out_keys,
                             size_t *out_added, nphd_error *err)
{
    return nphd_index_add_many(handle, keys, vectors, count, options, out_keys, out_added, err);
}

static nphd_status index_upsert(void *handle, const nphd_key *keys, const nphd_vector *vectors,
                                size_t count, const nphd_batch_options *options,
                                nphd_upsert_counts *out_counts, nphd_error *err)
{
    return nphd_index_upsert(handle, keys, vectors, count, options, out_counts, err);
}

static nphd_status index_remove(void *handle, const nphd_key *keys, size_t count,
                                size_t *out_removed, nphd_error *err)
{
    return nphd_index_remove(handle, keys, count, out_removed, err);
}

static nphd_status index_contains_many(void *handle, const nphd_key *keys, size_t count, bool *out,
                                       nphd_error *err)
{
    return nphd_index_contains_many(handle, keys, count, out, err);
}

static nphd_status index_count(void *handle, nphd_key key, size_t *out, nphd_error *err)
{
    return nphd_index_count(handle, key, out, err);
}

static nphd_status index_get_many(void *handle, const nphd_key *keys, size_t count, uint8_t *out,
                                  size_t *out_bytes, nphd_error *err)
{
    return nphd_index_get_many(handle, keys, count, out, out_bytes, err);
}

static nphd_status index_get_all(void *handle, nphd_key key, uint8_t *out, size_t *out_bytes,
                                 size_t capacity, size_t *out_count, nphd_error *err)
{
    return nphd_index_get_all(handle, key, out, out_bytes, capacity, out_count, err);
}

static nphd_status index_search(void *handle, const nphd_vector *queries, size_t query_count,
                                size_t capacity, const nphd_search_options *options,
                                nphd_match *out, nphd_search_report *reports, nphd_error *err)
{
    return nphd_index_search_many(handle, queries, query_count, capacity, options, out, reports,
                                  err);
}

static nphd_status index_radius_stream(void *handle, const nphd_vector *queries, size_t query_count,
                                       float radius, const nphd_search_options *options,
                                       nphd_match_sink sink, void *context,
                                       nphd_search_report *reports, nphd_error *err)
{
    return nphd_index_radius_stream(handle, queries, query_count, radius, options, sink, context,
                                    reports, err);
}

static nphd_status index_prepare(void *handle, const nphd_batch_options *options, nphd_error *err)
{
    return nphd_index_prepare_with(handle, options, err);
}

static nphd_status index_set_unit(void *handle, nphd_unit unit, bool mix, nphd_error *err)
{
    return nphd_index_set_unit(handle, unit, mix, err);
}

static nphd_unit index_unit(void *handle)
{
    return nphd_index_unit(handle);
}

static nphd_status index_set_breadth(void *handle, uint32_t build, uint32_t search, nphd_error *err)
{
    return nphd_index_set_breadth(handle, build, search, err);
}

static uint64_t index_size(void *handle)
{
    return nphd_index_size(handle);
}

static uint64_t index_dirty(void *handle)
{
    return nphd_index_dirty(handle);
}

static size_t index_max_bytes(void *handle)
{
    return nphd_index_max_bytes(handle);
}

static const core_calls index_calls = {
    index_add,           index_upsert,    index_remove,      index_contains_many,
    index_count,         index_get_many,  index_get_all,     index_search,
    index_radius_stream, index_prepare,   index_set_breadth, index_size,
    index_dirty,         index_max_bytes, index_set_unit,    index_unit,
};

/* ---- life ---- */

PyDoc_STRVAR(index_doc, "Index(max_bits, key_bits, metric, connectivity, build, search, multi)\n\n"
                        "0 stands for a default. metric: 0, 1 NPHD, 2 Hamming.");

static PyObject *index_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *handle = NULL;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;
    int metric, multi;
    core_store *store;

    (void)keywords;
    if (!PyArg_ParseTuple(arguments, "IIiIIIp:Index", &options.max_bits, &options.key_bits, &metric,
                          &options.connectivity, &options.build_breadth, &options.search_breadth,
                          &multi)) {
        return NULL;
    }
    options.metric = (nphd_metric)metric;
    options.multi = multi != 0;
    Py_BEGIN_ALLOW_THREADS;
    status = nphd_index_create(&options, &handle, &err);
    Py_END_ALLOW_THREADS;
    if (status != NPHD_OK) {
        core_raise(status, &err);
        return NULL;
    }
    store = core_store_wrap(type, &index_calls, handle, options.key_bits == 128 ? 128 : 64);
    if (store == NULL) {
        nphd_index_close(handle);
    }
    return (PyObject *)store;
}

static void index_dealloc(PyObject *self)
{
    core_store *store = (core_store *)self;

    Py_BEGIN_ALLOW_THREADS;
    nphd_index_close(store->handle);
    Py_END_ALLOW_THREADS;
    core_store_free(store);
}

/* ---- calls without arguments ---- */

static PyObject *finish(nphd_status status, const nphd_error *err)
{
    if (status != NPHD_OK) {
        core_raise(status, err);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *index_isolate(PyObject *self, PyObject *unused)
{
    core_store *store = (core_store *)self;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    (void)unused;
    CORE_CALL(store, status = nphd_index_isolate(store->handle, &err));
    return finish(status, &err);
}

static PyObject *index_clear(PyObject *self, PyObject *unused)
{
    core_store *store = (core_store *)self;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    (void)unused;
    CORE_CALL(store, status = nphd_index_clear(store->handle, &err));
    return finish(status, &err);
}

static PyObject *index_copy(PyObject *self, PyObject *unused)
{
    core_store *store = (core_store *)self;
    core_store *copy;
    nphd_index *handle = NULL;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    (void)unused;
    CORE_CALL(store, status = nphd_index_copy(store->handle, &handle, &err));
    if (status != NPHD_OK) {
        core_raise(status, &err);
        return NULL;
    }
    copy = core_store_wrap(core_index_type, &index_calls, handle, store->key_bits);
    if (copy == NULL) {
        nphd_index_close(handle);
    }
    return (PyObject *)copy;
}

static PyObject *index_stats(PyObject *self, PyObject *unused)
{
    core_store *store = (core_store *)self;
    nphd_index_stats stats = NPHD_INDEX_STATS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    (void)unused;
    CORE_CALL(store, status = nphd_index_get_stats(store->handle, &stats, &err));
    if (status != NPHD_OK) {
        core_raise(status, &err);
        return NULL;
    }
    return Py_BuildValue(
        "{sK sK sK sK sK sK sK sK sK sK sI sI si sI sI sI si sO sO sO sO}", "size", stats.size,
        "slots", stats.slots, "removed", stats.removed, "capacity", stats.capacity, "dirty",
        stats.dirty, "memory_bytes", stats.memory_bytes, "mapped_bytes", stats.mapped_bytes,
        "serialized_bytes", stats.serialized_bytes, "generation", stats.generation,
        "next_automatic_key", stats.next_automatic_key, "max_bits", stats.max_bits, "key_bits",
        stats.key_bits, "metric", (int)stats.metric, "connectivity", stats.connectivity,
        "build_breadth", stats.build_breadth, "search_breadth", stats.search_breadth, "max_level",
        (int)stats.max_level, "multi", stats.multi ? Py_True : Py_False, "view",
        stats.view ? Py_True : Py_False, "verified", stats.verified ? Py_True : Py_False, "tables",
        stats.tables ? Py_True : Py_False);
}

static PyObject *index_edges(PyObject *self, PyObject *unused)
{
    core_store *store = (core_store *)self;
    uint64_t edges = 0;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    (void)unused;
    CORE_CALL(store, status = nphd_index_count_edges(store->handle, &edges, &err));
    return status == NPHD_OK ? PyLong_FromUnsignedLongLong(edges) : core_raised(status, &err);
}

/* ---- calls with arguments ---- */

static PyObject *index_rename(PyObject *self, PyObject *arguments)
{
    core_store *store = (core_store *)self;
    PyObject *from_object, *to_object;
    core_keys from = {NULL, 0};
    core_keys to = {NULL, 0};
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;
    PyObject *result = NULL;

    if (!PyArg_ParseTuple(arguments, "OO:rename", &from_object, &to_object) ||
        core_keys_read(from_object, store->key_bits, false, &from) != 0 ||
        core_keys_read(to_object, store->key_bits, false, &to) != 0) {
        goto done;
    }
    if (from.count != 1 || to.count != 1) {
        PyErr_SetString(PyExc_ValueError, "rename takes one key for each");
        goto done;
    }
    CORE_CALL(store, status = nphd_index_rename(store->handle, from.items[0], to.items[0], &err));
    if (status == NPHD_NOT_FOUND || status == NPHD_OK) {
        result = PyBool_FromLong(status == NPHD_OK);
    } else {
        core_raise(status, &err);
    }
done:
    core_keys_release(&to);
    core_keys_release(&from);
    return result;
}

static PyObject *index_reserve(PyObject *self, PyObject *number)
{
    core_store *store = (core_store *)self;
    const unsigned long long vectors = PyLong_AsUnsignedLongLong(number);
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    if (vectors == (unsigned long long)-1 && PyErr_Occurred()) {
        return NULL;
    }
    CORE_CALL(store, status = nphd_index_reserve(store->handle, vectors, &err));
    return finish(status, &err);
}

/* ---- files ---- */

static PyObject *index_save(PyObject *self, PyObject *arguments)
{
    core_store *store = (core_store *)self;
    PyObject *path_object, *progress, *path = NULL;
    core_watch watch;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;
    int overwrite;

    if (!PyArg_ParseTuple(arguments, "OOp:save", &path_object, &progress, &overwrite) ||
        core_watch_begin(&watch, progress, Py_None, store->key_bits) != 0) {
        return NULL;
    }
    path = core_path(path_object);
    if (path == NULL) {
        return NULL;
    }
    const nphd_batch_options options = {sizeof(options), 0, core_watch_progress, &watch,
                                        overwrite != 0};
    CORE_CALL(store,
              status = nphd_index_save(store->handle, PyBytes_AS_STRING(path), &options, &err));
    Py_DECREF(path);
    return core_watch_end(&watch) != 0 ? NULL : finish(status, &err);
}

/* Another thread may add between asking for the size and writing: then it begins again. */
static PyObject *index_save_buffer(PyObject *self, PyObject *unused)
{
    core_store *store = (core_store *)self;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;
    PyObject *bytes = NULL;
    size_t room = 0;
    size_t needed = 0;

    (void)unused;
    do {
        char *buffer = bytes == NULL ? NULL : PyBytes_AS_STRING(bytes);
        CORE_CALL(store,
                  status = nphd_index_save_buffer(store->handle, buffer, room, &needed, &err));
        if ((status != NPHD_OK && status != NPHD_TOO_SMALL) || needed > PY_SSIZE_T_MAX) {
            Py_XDECREF(bytes);
            core_raise(status, &err);
            return NULL;
        }
        if (bytes == NULL || status == NPHD_TOO_SMALL) {
            Py_XDECREF(bytes);
            bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)needed);
            room = needed;
            status = NPHD_TOO_SMALL;
        }
    } while (bytes != NULL && status != NPHD_OK);
    if (bytes != NULL && needed < room && _PyBytes_Resize(&bytes, (Py_ssize_t)needed) != 0) {
        return NULL;
    }
    return bytes;
}

/* What nphd_index_load() and its like need, from (source, view, options as a tuple, progress). */
typedef struct open_call {
    PyObject *path;   /* bytes, or NULL: memory */
    Py_buffer memory; /* obj NULL: a path */
    bool view;
    nphd_open_options options;
    core_watch watch;
} open_call;

static int open_read(core_store *store, PyObject *arguments, open_call *call)
{
    PyObject *source, *progress;
    int view, metric, verify, legacy;
    nphd_open_options *options = &call->options;

    memset(call, 0, sizeof(*call));
    options->struct_size = sizeof(*options);
    if (!PyArg_ParseTuple(arguments, "Op(iIIIpp)O:open", &source, &view, &metric, &options->multi,
                          &options->build_breadth, &options->search_breadth, &verify, &legacy,
                          &progress) ||
        core_watch_begin(&call->watch, progress, Py_None, store->key_bits) != 0) {
        return -1;
    }
    call->view = view != 0;
    options->metric = (nphd_metric)metric;
    options->key_bits = store->key_bits;
    options->verify = verify != 0;
    options->legacy_nphd = legacy != 0;
    options->progress = core_watch_progress;
    options->progress_context = &call->watch;
    if (PyObject_CheckBuffer(source)) {
        return PyObject_GetBuffer(source, &call->memory, PyBUF_SIMPLE);
    }
    call->path = core_path(source);
    return call->path == NULL ? -1 : 0;
}

static nphd_status open_run(core_store *store, const open_call *call, nphd_error *err)
{
    const char *path = call->path == NULL ? NULL : PyBytes_AS_STRING(call->path);
    const size_t bytes = (size_t)call->memory.len;

    if (path != NULL) {
        return call->view ? nphd_index_view(store->handle, path, &call->options, err)
                          : nphd_index_load(store->handle, path, &call->options, err);
    }
    return call->view
               ? nphd_index_view_buffer(store->handle, call->memory.buf, bytes, &call->options, err)
               : nphd_index_load_buffer(store->handle, call->memory.buf, bytes, &call->options,
                                        err);
}

PyDoc_STRVAR(open_doc,
             "open(source, view, (metric, multi, build, search, verify, legacy), progress)\n\n"
             "source: a path, or bytes. A view of bytes keeps them.");

/* What a view looks at changes under the same lock as the view, so that they always agree. */
static PyObject *index_open(PyObject *self, PyObject *arguments)
{
    core_store *store = (core_store *)self;
    open_call call;
    Py_buffer old;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    if (open_read(store, arguments, &call) != 0) {
        return NULL;
    }
    memset(&old, 0, sizeof(old));
    core_store_here(store);
    Py_BEGIN_ALLOW_THREADS;
    (void)pthread_rwlock_wrlock(&store->width);
    status = open_run(store, &call, &err);
    if (status == NPHD_OK) {
        old = store->pinned;
        memset(&store->pinned, 0, sizeof(store->pinned));
        if (call.view && call.path == NULL) {
            store->pinned = call.memory;
            memset(&call.memory, 0, sizeof(call.memory));
        }
    }
    (void)pthread_rwlock_unlock(&store->width);
    Py_END_ALLOW_THREADS;
    core_log_deliver();
    PyBuffer_Release(&old);
    PyBuffer_Release(&call.memory);
    Py_XDECREF(call.path);
    return core_watch_end(&call.watch) != 0 ? NULL : finish(status, &err);
}

static PyObject *index_reset(PyObject *self, PyObject *unused)
{
    core_store *store = (core_store *)self;
    Py_buffer old;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    (void)unused;
    memset(&old, 0, sizeof(old));
    core_store_here(store);
    Py_BEGIN_ALLOW_THREADS;
    (void)pthread_rwlock_wrlock(&store->width);
    status = nphd_index_reset(store->handle, &err);
    if (status == NPHD_OK) {
        old = store->pinned;
        memset(&store->pinned, 0, sizeof(store->pinned));
    }
    (void)pthread_rwlock_unlock(&store->width);
    Py_END_ALLOW_THREADS;
    PyBuffer_Release(&old);
    return finish(status, &err);
}

static PyMethodDef index_methods[] = {
    {"isolate", index_isolate, METH_NOARGS, "isolate(): drop graph links to removed vectors."},
    {"clear", index_clear, METH_NOARGS, "clear(): remove everything, keep the memory."},
    {"reset", index_reset, METH_NOARGS, "reset(): remove everything, end a view."},
    {"copy", index_copy, METH_NOARGS, "copy() -> an independent Index in memory"},
    {"stats", index_stats, METH_NOARGS, "stats() -> dict"},
    {"edges", index_edges, METH_NOARGS, "edges() -> links of the lowest layer, counted"},
    {"rename", index_rename, METH_VARARGS, "rename(old, new) -> was it there?"},
    {"reserve", index_reserve, METH_O, "reserve(vectors): set memory aside."},
    {"save", index_save, METH_VARARGS, "save(path, progress, overwrite): durably."},
    {"save_buffer", index_save_buffer, METH_NOARGS, "save_buffer() -> bytes"},
    {"open", index_open, METH_VARARGS, open_doc},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot index_slots[] = {
    {Py_tp_new, (void *)index_new},
    {Py_tp_dealloc, (void *)index_dealloc},
    {Py_tp_methods, index_methods},
    {Py_tp_doc, (void *)index_doc},
    {0, NULL},
};

PyType_Spec core_index_spec = {
    .name = "nphd._core.Index",
    .basicsize = sizeof(core_store),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = index_slots,
};
