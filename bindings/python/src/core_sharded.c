/* A sharded index (nphd/sharded.h). */
#include "core.h"

#include <string.h>

/* Between two looks for signals while rotations are waited for. */
#define DRAIN_SLICE_MS 50ULL

/* ---- the calls it shares with one index ---- */

static nphd_status sharded_add(void *handle, const nphd_key *keys, const nphd_vector *vectors,
                               size_t count, const nphd_batch_options *options, nphd_key *out_keys,
                               size_t *out_added, nphd_error *err)
{
    return nphd_sharded_add_many(handle, keys, vectors, count, options, out_keys, out_added, err);
}

static nphd_status sharded_upsert(void *handle, const nphd_key *keys, const nphd_vector *vectors,
                                  size_t count, const nphd_batch_options *options,
                                  nphd_upsert_counts *out_counts, nphd_error *err)
{
    return nphd_sharded_upsert(handle, keys, vectors, count, options, out_counts, err);
}

static nphd_status sharded_remove(void *handle, const nphd_key *keys, size_t count,
                                  size_t *out_removed, nphd_error *err)
{
    return nphd_sharded_remove(handle, keys, count, out_removed, err);
}

static nphd_status sharded_contains_many(void *handle, const nphd_key *keys, size_t count,
                                         bool *out, nphd_error *err)
{
    return nphd_sharded_contains_many(handle, keys, count, out, err);
}

static nphd_status sharded_count(void *handle, nphd_key key, size_t *out, nphd_error *err)
{
    return nphd_sharded_count(handle, key, out, err);
}

static nphd_status sharded_get_many(void *handle, const nphd_key *keys, size_t count, uint8_t *out,
                                    size_t *out_bytes, nphd_error *err)
{
    return nphd_sharded_get_many(handle, keys, count, out, out_bytes, err);
}

static nphd_status sharded_get_all(void *handle, nphd_key key, uint8_t *out, size_t *out_bytes,
                                   size_t capacity, size_t *out_count, nphd_error *err)
{
    return nphd_sharded_get_all(handle, key, out, out_bytes, capacity, out_count, err);
}

static nphd_status sharded_search(void *handle, const nphd_vector *queries, size_t query_count,
                                  size_t capacity, const nphd_search_options *options,
                                  nphd_match *out, nphd_search_report *reports, nphd_error *err)
{
    return nphd_sharded_search_many(handle, queries, query_count, capacity, options, out, reports,
                                    err);
}

static nphd_status sharded_radius_stream(void *handle, const nphd_vector *queries,
                                         size_t query_count, float radius,
                                         const nphd_search_options *options, nphd_match_sink sink,
                                         void *context, nphd_search_report *reports,
                                         nphd_error *err)
{
    return nphd_sharded_radius_stream(handle, queries, query_count, radius, options, sink, context,
                                      reports, err);
}

static nphd_status sharded_prepare(void *handle, const nphd_batch_options *options, nphd_error *err)
{
    return nphd_sharded_prepare_with(handle, options, err);
}

static nphd_status sharded_set_unit(void *handle, nphd_unit unit, bool mix, nphd_error *err)
{
    return nphd_sharded_set_unit(handle, unit, mix, err);
}

static nphd_unit sharded_unit(void *handle)
{
    return nphd_sharded_unit(handle);
}

static nphd_status sharded_set_breadth(void *handle, uint32_t build, uint32_t search,
                                       nphd_error *err)
{
    return nphd_sharded_set_breadth(handle, build, search, err);
}

static uint64_t sharded_size(void *handle)
{
    return nphd_sharded_size(handle);
}

static uint64_t sharded_dirty(void *handle)
{
    return nphd_sharded_dirty(handle);
}

static size_t sharded_max_bytes(void *handle)
{
    return nphd_sharded_max_bytes(handle);
}

static const core_calls sharded_calls = {
    sharded_add,           sharded_upsert,    sharded_remove,      sharded_contains_many,
    sharded_count,         sharded_get_many,  sharded_get_all,     sharded_search,
    sharded_radius_stream, sharded_prepare,   sharded_set_breadth, sharded_size,
    sharded_dirty,         sharded_max_bytes, sharded_set_unit,    sharded_unit,
};

/* ---- life ---- */

PyDoc_STRVAR(
    sharded_doc,
    "Sharded(path, (max_bits, key_bits, metric, connectivity, multi, build, search),\n"
    "        (shard_bytes, max_pending, commit_interval_ms),\n"
    "        (no_bloom, read_only, background, salvage, journal, commit_each_call, tables,\n"
    "        reference_wrote_last), progress)\n\n"
    "0 stands for a default. metric: 0, 1 NPHD, 2 Hamming; multi: 0, 1 no, 2 yes.");

static PyObject *sharded_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    PyObject *path_object, *progress, *path;
    core_watch watch;
    nphd_sharded *handle = NULL;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;
    int metric, no_bloom, read_only, background, salvage, journal, each_call, tables, reference;
    unsigned long long shard_bytes;
    core_store *store;

    (void)keywords;
    if (!PyArg_ParseTuple(arguments, "O(IIiIIII)(KII)(pppppppp)O:Sharded", &path_object,
                          &options.max_bits, &options.key_bits, &metric, &options.connectivity,
                          &options.multi, &options.build_breadth, &options.search_breadth,
                          &shard_bytes, &options.max_pending_rotations, &options.commit_interval_ms,
                          &no_bloom, &read_only, &background, &salvage, &journal, &each_call,
                          &tables, &reference, &progress) ||
        core_watch_begin(&watch, progress, Py_None, 64) != 0) {
        return NULL;
    }
    path = core_path(path_object);
    if (path == NULL) {
        return NULL;
    }
    options.metric = (nphd_metric)metric;
    options.shard_bytes = shard_bytes;
    options.no_bloom = no_bloom != 0;
    options.read_only = read_only != 0;
    options.background_rotation = background != 0;
    options.salvage = salvage != 0;
    options.journal = journal != 0;
    options.commit_each_call = each_call != 0;
    options.tables = tables != 0;
    options.reference_wrote_last = reference != 0;
    options.reset_keeps_files = true;
    options.logger = core_log_take;
    options.progress = core_watch_progress;
    options.progress_context = &watch;
    Py_BEGIN_ALLOW_THREADS;
    status = nphd_sharded_open(PyBytes_AS_STRING(path), &options, &handle, &err);
    Py_END_ALLOW_THREADS;
    core_log_deliver();
    Py_DECREF(path);
    if (core_watch_end(&watch) != 0) {
        /* also of the last question, whose answer came too late */
        Py_BEGIN_ALLOW_THREADS;
        nphd_sharded_free(handle);
        Py_END_ALLOW_THREADS;
        return NULL;
    }
    if (status != NPHD_OK) {
        core_raise(status, &err);
        return NULL;
    }
    store = core_store_wrap(type, &sharded_calls, handle, options.key_bits == 128 ? 128 : 64);
    if (store == NULL) {
        Py_BEGIN_ALLOW_THREADS;
        nphd_sharded_free(handle);
        Py_END_ALLOW_THREADS;
    }
    return (PyObject *)store;
}

/* Waits for the rotation thread, which may be in the middle of a file. */
static void sharded_dealloc(PyObject *self)
{
    core_store *store = (core_store *)self;

    Py_BEGIN_ALLOW_THREADS;
    nphd_sharded_free(store->handle);
    Py_END_ALLOW_THREADS;
    core_store_free(store);
}

static PyObject *finish(nphd_status status, const nphd_error *err)
{
    if (status != NPHD_OK) {
        core_raise(status, err);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *sharded_close(PyObject *self, PyObject *unused)
{
    core_store *store = (core_store *)self;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    (void)unused;
    CORE_CALL(store, status = nphd_sharded_close(store->handle, &err));
    store->closed = store->closed || status == NPHD_OK;
    return finish(status, &err);
}

static PyObject *sharded_closed(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyBool_FromLong(((core_store *)self)->closed);
}

/* ---- changes ---- */

PyDoc_STRVAR(add_once_doc, "add_once(keys, vectors, threads, progress, out_stored) -> how many\n\n"
                           "out_stored: a truth value for each key.");

static PyObject *sharded_add_once(PyObject *self, PyObject *arguments)
{
    core_store *store = (core_store *)self;
    PyObject *key_object, *vector_object, *progress, *out_object, *result = NULL;
    unsigned threads;
    core_keys keys = {NULL, 0};
    core_vectors vectors = {0};
    core_watch watch;
    Py_buffer out = {0};
    size_t added = 0;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    if (!PyArg_ParseTuple(arguments, "OOIOO:add_once", &key_object, &vector_object, &threads,
                          &progress, &out_object) ||
        core_watch_begin(&watch, progress, Py_None, store->key_bits) != 0 ||
        core_keys_read(key_object, store->key_bits, false, &keys) != 0 ||
        core_vectors_read(vector_object, &vectors) != 0 ||
        core_count_matches(keys.count, vectors.count) != 0 ||
        core_output(out_object, keys.count, sizeof(bool), &out) != 0) {
        goto done;
    }
    const nphd_batch_options options = {sizeof(options), threads, core_watch_progress, &watch,
                                        false};
    CORE_CALL(store, status = nphd_sharded_add_once(store->handle, keys.items, vectors.items,
                                                    keys.count, &options, out.buf, &added, &err));
    if (core_watch_end(&watch) != 0) {
        goto done;
    }
    if (status != NPHD_OK) {
        core_raise(status, &err);
        goto done;
    }
    result = PyLong_FromSize_t(added);
done:
    PyBuffer_Release(&out);
    core_vectors_release(&vectors);
    core_keys_release(&keys);
    return result;
}

static PyObject *sharded_save(PyObject *self, PyObject *progress)
{
    core_store *store = (core_store *)self;
    core_watch watch;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    if (core_watch_begin(&watch, progress, Py_None, store->key_bits) != 0) {
        return NULL;
    }
    const nphd_batch_options options = {sizeof(options), 0, core_watch_progress, &watch, false};
    CORE_CALL(store, status = nphd_sharded_save(store->handle, &options, &err));
    return core_watch_end(&watch) != 0 ? NULL : finish(status, &err);
}

static PyObject *sharded_commit(PyObject *self, PyObject *unused)
{
    core_store *store = (core_store *)self;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    (void)unused;
    CORE_CALL(store, status = nphd_sharded_commit(store->handle, &err));
    return finish(status, &err);
}

static PyObject *sharded_refresh(PyObject *self, PyObject *progress)
{
    core_store *store = (core_store *)self;
    core_watch watch;
    bool changed = false;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    if (core_watch_begin(&watch, progress, Py_None, store->key_bits) != 0) {
        return NULL;
    }
    const nphd_batch_options options = {sizeof(options), 0, core_watch_progress, &watch, false};
    CORE_CALL(store, status = nphd_sharded_refresh_with(store->handle, &options, &changed, &err));
    if (core_watch_end(&watch) != 0) {
        return NULL;
    }
    if (status != NPHD_OK) {
        core_raise(status, &err);
        return NULL;
    }
    return PyBool_FromLong(changed);
}

static PyObject *sharded_snapshot(PyObject *self, PyObject *arguments)
{
    core_store *store = (core_store *)self;
    PyObject *path_object, *progress, *path;
    core_watch watch;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    if (!PyArg_ParseTuple(arguments, "OO:snapshot", &path_object, &progress) ||
        core_watch_begin(&watch, progress, Py_None, store->key_bits) != 0 ||
        (path = core_path(path_object)) == NULL) {
        return NULL;
    }
    const nphd_batch_options options = {sizeof(options), 0, core_watch_progress, &watch, false};
    CORE_CALL(store, status = nphd_sharded_snapshot_with(store->handle, PyBytes_AS_STRING(path),
                                                         &options, &err));
    Py_DECREF(path);
    return core_watch_end(&watch) != 0 ? NULL : finish(status, &err);
}

static PyObject *sharded_compact(PyObject *self, PyObject *progress)
{
    core_store *store = (core_store *)self;
    core_watch watch;
    uint64_t removed = 0;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    if (core_watch_begin(&watch, progress, Py_None, store->key_bits) != 0) {
        return NULL;
    }
    const nphd_batch_options options = {sizeof(options), 0, core_watch_progress, &watch, false};
    CORE_CALL(store, status = nphd_sharded_compact(store->handle, &options, &removed, &err));
    if (core_watch_end(&watch) != 0) {
        return NULL;
    }
    if (status != NPHD_OK) {
        core_raise(status, &err);
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(removed);
}

static PyObject *sharded_rotate(PyObject *self, PyObject *unused)
{
    core_store *store = (core_store *)self;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    (void)unused;
    CORE_CALL(store, status = nphd_sharded_rotate(store->handle, &err));
    return finish(status, &err);
}

static PyObject *sharded_drain(PyObject *self, PyObject *number)
{
    core_store *store = (core_store *)self;
    const unsigned long long timeout_ms =
        number == Py_None ? UINT64_MAX : PyLong_AsUnsignedLongLong(number);
    unsigned long long left_ms = timeout_ms;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    if (PyErr_Occurred()) {
        return NULL;
    }
    do { /* in slices, to look for signals in between */
        const unsigned long long slice_ms = left_ms < DRAIN_SLICE_MS ? left_ms : DRAIN_SLICE_MS;
        CORE_CALL(store, status = nphd_sharded_drain(store->handle, slice_ms, &err));
        if (PyErr_CheckSignals() != 0) {
            return NULL;
        }
        left_ms -= timeout_ms == UINT64_MAX ? 0 : slice_ms;
    } while (status == NPHD_TIMEOUT && left_ms > 0);
    return finish(status, &err);
}

static PyObject *sharded_rebuild_bloom(PyObject *self, PyObject *progress)
{
    core_store *store = (core_store *)self;
    core_watch watch;
    uint64_t keys = 0;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    if (core_watch_begin(&watch, progress, Py_None, store->key_bits) != 0) {
        return NULL;
    }
    const nphd_batch_options options = {sizeof(options), 0, core_watch_progress, &watch, false};
    CORE_CALL(store,
              status = nphd_sharded_rebuild_bloom_with(store->handle, &options, &keys, &err));
    if (core_watch_end(&watch) != 0) {
        return NULL;
    }
    if (status != NPHD_OK) {
        core_raise(status, &err);
        return NULL;
    }
    return PyLong_FromUnsignedLongLong(keys);
}

static PyObject *sharded_reset(PyObject *self, PyObject *unused)
{
    core_store *store = (core_store *)self;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    (void)unused;
    CORE_CALL(store, status = nphd_sharded_reset(store->handle, &err));
    return finish(status, &err);
}

/* ---- state ---- */

static PyObject *sharded_stats(PyObject *self, PyObject *unused)
{
    core_store *store = (core_store *)self;
    nphd_sharded_stats stats = NPHD_SHARDED_STATS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    (void)unused;
    CORE_CALL(store, status = nphd_sharded_get_stats(store->handle, &stats, &err));
    if (status != NPHD_OK) {
        core_raise(status, &err);
        return NULL;
    }
    return Py_BuildValue(
        "{sK sK sK sK sK sK sK sK sK sK sK sK sK sK sK sK sK sK sI sI si sI sI sI sO sO sO sO sK}",
        "size", stats.size, "dirty", stats.dirty, "dead", stats.dead, "tombstones",
        stats.tombstones, "view_shards", stats.view_shards, "active_vectors", stats.active_vectors,
        "pending_rotations", stats.pending_rotations, "files", stats.files, "disk_bytes",
        stats.disk_bytes, "memory_bytes", stats.memory_bytes, "mapped_bytes", stats.mapped_bytes,
        "active_bytes", stats.active_bytes, "active_capacity", stats.active_capacity, "bloom_keys",
        stats.bloom_keys, "bloom_bytes", stats.bloom_bytes, "generation", stats.generation,
        "next_automatic_key", stats.next_automatic_key, "shard_bytes", stats.shard_bytes,
        "max_bits", stats.max_bits, "key_bits", stats.key_bits, "metric", (int)stats.metric,
        "connectivity", stats.connectivity, "build_breadth", stats.build_breadth, "search_breadth",
        stats.search_breadth, "multi", stats.multi ? Py_True : Py_False, "read_only",
        stats.read_only ? Py_True : Py_False, "bloom", stats.bloom ? Py_True : Py_False, "verified",
        stats.verified ? Py_True : Py_False, "unapplied", stats.unapplied);
}

static PyObject *shard_list(const nphd_shard_info *shards, size_t count)
{
    PyObject *list = PyList_New((Py_ssize_t)count);

    for (size_t i = 0; list != NULL && i < count; i++) {
        const nphd_shard_info *shard = &shards[i];
        PyObject *item = Py_BuildValue(
            "{sK sK sK sK sK sK sO sO sO sO}", "number", shard->number, "vectors", shard->vectors,
            "dead", shard->dead, "slots", shard->slots, "file_bytes", shard->file_bytes,
            "generation", shard->generation, "active", shard->active ? Py_True : Py_False,
            "pending", shard->pending ? Py_True : Py_False, "verified",
            shard->verified ? Py_True : Py_False, "tables", shard->tables ? Py_True : Py_False);
        if (item == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, (Py_ssize_t)i, item);
    }
    return list;
}

/* A rotation may come in between asking for their number and for the shards. */
static PyObject *sharded_shards(PyObject *self, PyObject *unused)
{
    core_store *store = (core_store *)self;
    nphd_shard_info *shards = NULL;
    size_t room = 0;
    size_t count = 0;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;
    PyObject *list = NULL;

    (void)unused;
    do {
        PyMem_Free(shards);
        room = count + 1;
        shards = PyMem_New(nphd_shard_info, room);
        if (shards == NULL) {
            return PyErr_NoMemory();
        }
        CORE_CALL(store, status = nphd_sharded_shards(store->handle, shards, room, &count, &err));
    } while (status == NPHD_TOO_SMALL);
    if (status != NPHD_OK) {
        core_raise(status, &err);
    } else {
        list = shard_list(shards, count);
    }
    PyMem_Free(shards);
    return list;
}

static PyMethodDef sharded_methods[] = {
    {"close", sharded_close, METH_NOARGS, "close(): save what is not saved; twice does nothing."},
    {"closed", sharded_closed, METH_NOARGS, "closed() -> was it closed?"},
    {"add_once", sharded_add_once, METH_VARARGS, add_once_doc},
    {"save", sharded_save, METH_O, "save(progress): make every change durable."},
    {"commit", sharded_commit, METH_NOARGS, "commit(): make the changes so far durable."},
    {"refresh", sharded_refresh, METH_O, "refresh(progress) -> is there a newer state?"},
    {"snapshot", sharded_snapshot, METH_VARARGS, "snapshot(path, progress): copy the directory."},
    {"compact", sharded_compact, METH_O, "compact(progress) -> dead entries dropped"},
    {"rotate", sharded_rotate, METH_NOARGS, "rotate(): end the active shard now."},
    {"drain", sharded_drain, METH_O, "drain(milliseconds or None): wait for rotations."},
    {"rebuild_bloom", sharded_rebuild_bloom, METH_O, "rebuild_bloom(progress) -> keys in it"},
    {"reset", sharded_reset, METH_NOARGS, "reset(): remove everything."},
    {"stats", sharded_stats, METH_NOARGS, "stats() -> dict"},
    {"shards", sharded_shards, METH_NOARGS, "shards() -> a list of dicts"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot sharded_slots[] = {
    {Py_tp_new, (void *)sharded_new},
    {Py_tp_dealloc, (void *)sharded_dealloc},
    {Py_tp_methods, sharded_methods},
    {Py_tp_doc, (void *)sharded_doc},
    {0, NULL},
};

PyType_Spec core_sharded_spec = {
    .name = "nphd._core.Sharded",
    .basicsize = sizeof(core_store),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = sharded_slots,
};
