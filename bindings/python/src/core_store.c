/* What one index and a sharded one have in common: changes and lookups. */
#include "core.h"

#include <string.h>

/* ---- life ---- */

core_store *core_store_wrap(PyTypeObject *type, const core_calls *calls, void *handle,
                            uint32_t key_bits)
{
    core_store *store = PyObject_New(core_store, type);

    if (store == NULL) {
        return NULL;
    }
    store->calls = calls;
    store->handle = handle;
    store->key_bits = key_bits;
    store->closed = false;
    store->forks = atomic_load(&core_forks);
    memset(&store->pinned, 0, sizeof(store->pinned));
    (void)pthread_rwlock_init(&store->width, NULL); /* cannot fail on the systems we build for */
    return store;
}

void core_store_free(core_store *store)
{
    PyTypeObject *type = Py_TYPE(store);

    core_store_here(store);
    PyBuffer_Release(&store->pinned);
    (void)pthread_rwlock_destroy(&store->width);
    PyObject_Free(store);
    Py_DECREF(type);
}

void core_store_here(core_store *store)
{
    const unsigned forks = atomic_load(&core_forks);

    if (store->forks != forks) {
        store->forks = forks;
        memset(&store->width, 0, sizeof(store->width));
        (void)pthread_rwlock_init(&store->width, NULL);
    }
}

int core_store_check(const core_store *store)
{
    static const nphd_error closed = {
        .struct_size = sizeof(closed), .status = NPHD_CLOSED, .text = "the index is closed"};

    return store->closed ? core_raise(NPHD_CLOSED, &closed) : 0;
}

/* ---- changes ---- */

PyDoc_STRVAR(
    add_doc,
    "add(keys, vectors, threads, progress, out_keys) -> vectors really stored\n\n"
    "keys None: automatic ones, written to out_keys (as all keys are, unless it is None).");

static PyObject *store_add(PyObject *self, PyObject *arguments)
{
    core_store *store = (core_store *)self;
    PyObject *key_object, *vector_object, *progress, *out_object, *result = NULL;
    unsigned threads;
    core_keys keys = {NULL, 0};
    core_vectors vectors = {0};
    core_watch watch;
    Py_buffer out = {0};
    nphd_key *out_keys = NULL;
    size_t added = 0;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    if (!PyArg_ParseTuple(arguments, "OOIOO:add", &key_object, &vector_object, &threads, &progress,
                          &out_object) ||
        core_watch_begin(&watch, progress, Py_None, store->key_bits) != 0 ||
        core_keys_read(key_object, store->key_bits, true, &keys) != 0 ||
        core_vectors_read(vector_object, &vectors) != 0) {
        goto done;
    }
    if (keys.items != NULL && core_count_matches(keys.count, vectors.count) != 0) {
        goto done;
    }
    if (out_object != Py_None) {
        out_keys = PyMem_New(nphd_key, vectors.count + 1);
        if (out_keys == NULL) {
            PyErr_NoMemory();
            goto done;
        }
        if (core_output(out_object, vectors.count, store->key_bits / 8, &out) != 0) {
            goto done;
        }
    }
    const nphd_batch_options options = {sizeof(options), threads, core_watch_progress, &watch,
                                        false};
    CORE_CALL(store, status = store->calls->add(store->handle, keys.items, vectors.items,
                                                vectors.count, &options, out_keys, &added, &err));
    if (core_watch_end(&watch) != 0) {
        goto done;
    }
    if (status != NPHD_OK) {
        core_raise(status, &err);
        goto done;
    }
    for (size_t i = 0; out_keys != NULL && i < vectors.count; i++) {
        core_key_write(out.buf, i, out_keys[i], store->key_bits);
    }
    result = PyLong_FromSize_t(added);
done:
    PyBuffer_Release(&out);
    PyMem_Free(out_keys);
    core_vectors_release(&vectors);
    core_keys_release(&keys);
    return result;
}

PyDoc_STRVAR(upsert_doc,
             "upsert(keys, vectors, threads, progress) -> (added, replaced, unchanged)");

static PyObject *store_upsert(PyObject *self, PyObject *arguments)
{
    core_store *store = (core_store *)self;
    PyObject *key_object, *vector_object, *progress, *result = NULL;
    unsigned threads;
    core_keys keys = {NULL, 0};
    core_vectors vectors = {0};
    core_watch watch;
    nphd_upsert_counts counts = {0, 0, 0};
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    if (!PyArg_ParseTuple(arguments, "OOIO:upsert", &key_object, &vector_object, &threads,
                          &progress) ||
        core_watch_begin(&watch, progress, Py_None, store->key_bits) != 0 ||
        core_keys_read(key_object, store->key_bits, false, &keys) != 0 ||
        core_vectors_read(vector_object, &vectors) != 0 ||
        core_count_matches(keys.count, vectors.count) != 0) {
        goto done;
    }
    const nphd_batch_options options = {sizeof(options), threads, core_watch_progress, &watch,
                                        false};
    CORE_CALL(store, status = store->calls->upsert(store->handle, keys.items, vectors.items,
                                                   keys.count, &options, &counts, &err));
    if (core_watch_end(&watch) != 0) {
        goto done;
    }
    if (status != NPHD_OK) {
        core_raise(status, &err);
        goto done;
    }
    result = Py_BuildValue("(nnn)", (Py_ssize_t)counts.added, (Py_ssize_t)counts.replaced,
                           (Py_ssize_t)counts.unchanged);
done:
    core_vectors_release(&vectors);
    core_keys_release(&keys);
    return result;
}

static PyObject *store_remove(PyObject *self, PyObject *key_object)
{
    core_store *store = (core_store *)self;
    core_keys keys;
    size_t removed = 0;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    if (core_keys_read(key_object, store->key_bits, false, &keys) != 0) {
        return NULL;
    }
    CORE_CALL(store,
              status = store->calls->remove(store->handle, keys.items, keys.count, &removed, &err));
    core_keys_release(&keys);
    if (status != NPHD_OK) {
        core_raise(status, &err);
        return NULL;
    }
    return PyLong_FromSize_t(removed);
}

/* ---- lookups ---- */

static nphd_status count_each(core_store *store, const core_keys *keys, uint64_t *out,
                              nphd_error *err)
{
    nphd_status status = NPHD_OK;
    size_t count = 0;

    for (size_t i = 0; i < keys->count && status == NPHD_OK; i++) {
        status = store->calls->count(store->handle, keys->items[i], &count, err);
        out[i] = count;
    }
    return status;
}

/* `counts`: numbers of 64 bits are written, else truth values of one byte. */
static PyObject *ask_each(core_store *store, PyObject *arguments, bool counts)
{
    PyObject *key_object, *out_object;
    core_keys keys;
    Py_buffer out;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    if (!PyArg_ParseTuple(arguments, "OO", &key_object, &out_object) ||
        core_keys_read(key_object, store->key_bits, false, &keys) != 0) {
        return NULL;
    }
    if (core_output(out_object, keys.count, counts ? sizeof(uint64_t) : sizeof(bool), &out) != 0) {
        core_keys_release(&keys);
        return NULL;
    }
    CORE_CALL(store, status = counts ? count_each(store, &keys, out.buf, &err)
                                     : store->calls->contains_many(store->handle, keys.items,
                                                                   keys.count, out.buf, &err));
    PyBuffer_Release(&out);
    core_keys_release(&keys);
    if (status != NPHD_OK) {
        core_raise(status, &err);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *store_contains(PyObject *self, PyObject *arguments)
{
    return ask_each((core_store *)self, arguments, false);
}

/* One key needs no array for the answer, which would cost more than the lookup. */
static PyObject *store_contains_one(PyObject *self, PyObject *object)
{
    core_store *store = (core_store *)self;
    nphd_key key;
    bool there = false;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    if (core_key_read(object, store->key_bits, &key) != 0) {
        return NULL;
    }
    CORE_CALL(store, status = store->calls->contains_many(store->handle, &key, 1, &there, &err));
    return status == NPHD_OK ? PyBool_FromLong(there) : core_raised(status, &err);
}

static PyObject *store_count_one(PyObject *self, PyObject *object)
{
    core_store *store = (core_store *)self;
    nphd_key key;
    size_t count = 0;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    if (core_key_read(object, store->key_bits, &key) != 0) {
        return NULL;
    }
    CORE_CALL(store, status = store->calls->count(store->handle, key, &count, &err));
    return status == NPHD_OK ? PyLong_FromSize_t(count) : core_raised(status, &err);
}

static PyObject *store_count(PyObject *self, PyObject *arguments)
{
    return ask_each((core_store *)self, arguments, true);
}

static const char *const no_room = "the vectors of the index became wider during the call";

/* Checks the room for `count` vectors while nothing can change their width. */
static nphd_status get_many(core_store *store, const core_keys *keys, const Py_buffer *out,
                            size_t *lengths, nphd_error *err)
{
    const size_t width = store->calls->max_bytes(store->handle);

    if ((size_t)out->len / (width == 0 ? 1 : width) < keys->count) {
        (void)PyOS_snprintf(err->text, sizeof(err->text), "%s", no_room);
        return NPHD_TOO_SMALL;
    }
    return store->calls->get_many(store->handle, keys->items, keys->count, out->buf, lengths, err);
}

PyDoc_STRVAR(get_doc, "get(keys, out, lengths): copy out vectors; length 0 where a key is absent.\n"
                      "out: bytes for len(keys) vectors of the full width, lengths: 64-bit each.");

static PyObject *store_get(PyObject *self, PyObject *arguments)
{
    core_store *store = (core_store *)self;
    PyObject *key_object, *out_object, *length_object;
    core_keys keys;
    Py_buffer out = {0};
    Py_buffer lengths = {0};
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status = NPHD_OK;
    int result = -1;

    if (!PyArg_ParseTuple(arguments, "OOO:get", &key_object, &out_object, &length_object) ||
        core_keys_read(key_object, store->key_bits, false, &keys) != 0) {
        return NULL;
    }
    if (core_output(out_object, 0, 1, &out) != 0 ||
        core_output(length_object, keys.count, sizeof(size_t), &lengths) != 0) {
        goto done;
    }
    CORE_CALL(store, status = get_many(store, &keys, &out, lengths.buf, &err));
    result = status == NPHD_OK ? 0 : core_raise(status, &err);
done:
    PyBuffer_Release(&lengths);
    PyBuffer_Release(&out);
    core_keys_release(&keys);
    if (result != 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* Memory that Python owns and may write to, as arrays are made of it without a copy. */
static PyObject *store_get_one(PyObject *self, PyObject *object)
{
    core_store *store = (core_store *)self;
    uint8_t vector[NPHD_MAX_BYTES];
    size_t bytes = 0;
    nphd_key key;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    if (core_key_read(object, store->key_bits, &key) != 0) {
        return NULL;
    }
    CORE_CALL(store, status = store->calls->get_many(store->handle, &key, 1, vector, &bytes, &err));
    if (status != NPHD_OK) {
        return core_raised(status, &err);
    }
    if (bytes == 0) {
        Py_RETURN_NONE;
    }
    return PyByteArray_FromStringAndSize((const char *)vector, (Py_ssize_t)bytes);
}

static nphd_status get_all(core_store *store, nphd_key key, const Py_buffer *out, size_t *lengths,
                           size_t capacity, size_t *out_count, nphd_error *err)
{
    const size_t width = store->calls->max_bytes(store->handle);

    if ((size_t)out->len / (width == 0 ? 1 : width) < capacity) {
        (void)PyOS_snprintf(err->text, sizeof(err->text), "%s", no_room);
        return NPHD_TOO_SMALL;
    }
    return store->calls->get_all(store->handle, key, out->buf, lengths, capacity, out_count, err);
}

PyDoc_STRVAR(get_all_doc, "get_all(key, out, lengths) -> vectors of the key\n\n"
                          "More than lengths has room for: nothing was copied; call again.");

static PyObject *store_get_all(PyObject *self, PyObject *arguments)
{
    core_store *store = (core_store *)self;
    PyObject *key_object, *out_object, *length_object, *result = NULL;
    core_keys keys;
    Py_buffer out = {0};
    Py_buffer lengths = {0};
    size_t count = 0;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    if (!PyArg_ParseTuple(arguments, "OOO:get_all", &key_object, &out_object, &length_object) ||
        core_keys_read(key_object, store->key_bits, false, &keys) != 0) {
        return NULL;
    }
    if (keys.count != 1 || core_output(out_object, 0, 1, &out) != 0 ||
        core_output(length_object, 0, sizeof(size_t), &lengths) != 0) {
        goto done;
    }
    const size_t capacity = (size_t)lengths.len / sizeof(size_t);
    CORE_CALL(store,
              status = get_all(store, keys.items[0], &out, lengths.buf, capacity, &count, &err));
    if (status != NPHD_OK && !(status == NPHD_TOO_SMALL && count > capacity)) {
        core_raise(status, &err);
        goto done;
    }
    result = PyLong_FromSize_t(count);
done:
    if (result == NULL && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_ValueError, "get_all takes one key");
    }
    PyBuffer_Release(&lengths);
    PyBuffer_Release(&out);
    core_keys_release(&keys);
    return result;
}

/* ---- state ---- */

static PyObject *store_size(PyObject *self, PyObject *unused)
{
    core_store *store = (core_store *)self;
    uint64_t size;

    (void)unused;
    if (core_store_check(store) != 0) {
        return NULL;
    }
    CORE_CALL(store, size = store->calls->size(store->handle));
    return PyLong_FromUnsignedLongLong(size);
}

static PyObject *store_dirty(PyObject *self, PyObject *unused)
{
    core_store *store = (core_store *)self;
    uint64_t dirty;

    (void)unused;
    if (core_store_check(store) != 0) {
        return NULL;
    }
    CORE_CALL(store, dirty = store->calls->dirty(store->handle));
    return PyLong_FromUnsignedLongLong(dirty);
}

static PyObject *store_max_bytes(PyObject *self, PyObject *unused)
{
    core_store *store = (core_store *)self;
    size_t bytes;

    (void)unused;
    CORE_CALL(store, bytes = store->calls->max_bytes(store->handle));
    return PyLong_FromSize_t(bytes);
}

static PyObject *store_set_unit(PyObject *self, PyObject *arguments)
{
    core_store *store = (core_store *)self;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status = NPHD_OK;
    nphd_unit unit = NPHD_UNIT_NONE;
    const char *name = NULL;
    int mix = 0;

    if (!PyArg_ParseTuple(arguments, "sp:set_unit", &name, &mix)) {
        return NULL;
    }
    status = nphd_unit_parse(name, &unit, &err);
    if (status != NPHD_OK) {
        core_raise(status, &err);
        return NULL;
    }
    CORE_CALL(store, status = store->calls->set_unit(store->handle, unit, mix != 0, &err));
    if (status != NPHD_OK) {
        core_raise(status, &err);
        return NULL;
    }
    Py_RETURN_NONE;
}

/* None: not known */
static PyObject *store_unit(PyObject *self, PyObject *unused)
{
    core_store *store = (core_store *)self;
    char name[NPHD_UNIT_NAME_BYTES];
    nphd_unit unit = NPHD_UNIT_NONE;

    (void)unused;
    CORE_CALL(store, unit = store->calls->unit(store->handle));
    if (unit == NPHD_UNIT_NONE) {
        Py_RETURN_NONE;
    }
    return PyUnicode_FromString(nphd_unit_name(unit, name));
}

static PyObject *store_set_breadth(PyObject *self, PyObject *arguments)
{
    core_store *store = (core_store *)self;
    unsigned build, search;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    if (!PyArg_ParseTuple(arguments, "II:set_breadth", &build, &search)) {
        return NULL;
    }
    CORE_CALL(store, status = store->calls->set_breadth(store->handle, build, search, &err));
    if (status != NPHD_OK) {
        core_raise(status, &err);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *store_prepare(PyObject *self, PyObject *arguments)
{
    core_store *store = (core_store *)self;
    PyObject *progress;
    unsigned threads;
    core_watch watch;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    if (!PyArg_ParseTuple(arguments, "IO:prepare", &threads, &progress) ||
        core_watch_begin(&watch, progress, Py_None, store->key_bits) != 0) {
        return NULL;
    }
    const nphd_batch_options options = {sizeof(options), threads, core_watch_progress, &watch,
                                        false};
    CORE_CALL(store, status = store->calls->prepare(store->handle, &options, &err));
    if (core_watch_end(&watch) != 0) {
        return NULL;
    }
    if (status != NPHD_OK) {
        core_raise(status, &err);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyMethodDef store_methods[] = {
    {"add", store_add, METH_VARARGS, add_doc},
    {"upsert", store_upsert, METH_VARARGS, upsert_doc},
    {"remove", store_remove, METH_O, "remove(keys) -> vectors removed"},
    {"contains", store_contains, METH_VARARGS, "contains(keys, out): a truth value for each key."},
    {"contains_one", store_contains_one, METH_O, "contains_one(key) -> is it there?"},
    {"count", store_count, METH_VARARGS, "count(keys, out): 64-bit numbers, one for each key."},
    {"count_one", store_count_one, METH_O, "count_one(key) -> vectors of the key"},
    {"get", store_get, METH_VARARGS, get_doc},
    {"get_one", store_get_one, METH_O, "get_one(key) -> bytearray, or None where it is absent"},
    {"get_all", store_get_all, METH_VARARGS, get_all_doc},
    {"search", core_store_search, METH_VARARGS, core_search_doc},
    {"radius_stream", core_store_radius_stream, METH_VARARGS, core_radius_stream_doc},
    {"prepare", store_prepare, METH_VARARGS,
     "prepare(threads, progress): make ready for exact searches."},
    {"cursor", core_store_cursor, METH_NOARGS, "cursor() -> Cursor before the first vector"},
    {"size", store_size, METH_NOARGS, "size() -> vectors that can be found"},
    {"dirty", store_dirty, METH_NOARGS, "dirty() -> vectors added and removed since the last save"},
    {"max_bytes", store_max_bytes, METH_NOARGS, "max_bytes() -> widest vector"},
    {"set_unit", store_set_unit, METH_VARARGS, "set_unit(name, mix): the type of the codes."},
    {"unit", store_unit, METH_NOARGS, "unit() -> name of the type of the codes, or None"},
    {"set_breadth", store_set_breadth, METH_VARARGS,
     "set_breadth(build, search): 0 leaves one as it is."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot store_slots[] = {
    {Py_tp_methods, store_methods},
    {Py_tp_doc, (void *)"What Index and Sharded have in common."},
    {0, NULL},
};

PyType_Spec core_store_spec = {
    .name = "nphd._core.Store",
    .basicsize = sizeof(core_store),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = store_slots,
};
