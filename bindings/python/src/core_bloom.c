/* The bloom filter of the sharded index as an object of its own, for callers of the reference's
 * class.
 *
 * The library keeps its filter to itself; this is the one file of the package that includes headers
 * of src/. They change with the sources that are compiled in beside it, so that nothing can drift.
 * It looks into the chain for what an index does not need: the capacity. */
#include "core.h"

#include "filters/bloom_chain.h"
#include "platform/platform.h"

#include <string.h>

typedef struct bloom_object {
    PyObject_HEAD nphdi_bloom *bloom;
    pthread_mutex_t lock; /* of all calls: a file is that of one moment */
    unsigned forks;       /* core_forks when it was made */
} bloom_object;

/* ---- making one ---- */

/* A file image, from memory, or of an empty filter: its heads and then zeros. */
typedef struct bloom_image {
    const uint8_t *data;
    uint64_t data_bytes;
    uint64_t at;
} bloom_image;

static nphd_status image_take(void *context, void *out, uint64_t bytes, nphd_error *err)
{
    bloom_image *image = context;
    uint64_t have = image->at < image->data_bytes ? image->data_bytes - image->at : 0;

    (void)err;
    have = have < bytes ? have : bytes;
    if (have > 0) {
        memcpy(out, image->data + image->at, (size_t)have);
    }
    memset((uint8_t *)out + have, 0, (size_t)(bytes - have));
    image->at += bytes;
    return NPHD_OK;
}

static PyObject *bloom_from_image(PyTypeObject *type, bloom_image *image, uint64_t file_bytes)
{
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;
    nphdi_bloom *bloom = NULL;
    bloom_object *object;

    Py_BEGIN_ALLOW_THREADS;
    status = nphdi_bloom_read(nphdi_allocator_system(), 8, "bloom filter", file_bytes, image_take,
                              image, &bloom, &err);
    Py_END_ALLOW_THREADS;
    if (status != NPHD_OK) {
        core_raise(status, &err);
        return NULL;
    }
    object = PyObject_New(bloom_object, type);
    if (object == NULL) {
        nphdi_bloom_close(bloom);
        return NULL;
    }
    object->bloom = bloom;
    object->forks = atomic_load(&core_forks);
    (void)pthread_mutex_init(&object->lock, NULL); /* cannot fail on the systems we build for */
    return (PyObject *)object;
}

PyDoc_STRVAR(bloom_doc, "Bloom(initial_capacity, rate, growth), or Bloom(bytes of a file)");

static PyObject *bloom_new(PyTypeObject *type, PyObject *arguments, PyObject *keywords)
{
    nphdi_isbf_head head = {.filter_count = 1};
    nphdi_isbf_filter filter;
    uint8_t heads[NPHDI_ISBF_HEAD_BYTES + NPHDI_ISBF_FILTER_BYTES];
    bloom_image image = {heads, sizeof(heads), 0};

    (void)keywords;
    if (PyTuple_GET_SIZE(arguments) == 1) {
        Py_buffer file;
        if (PyObject_GetBuffer(PyTuple_GET_ITEM(arguments, 0), &file, PyBUF_SIMPLE) != 0) {
            return NULL;
        }
        image.data = file.buf;
        image.data_bytes = (uint64_t)file.len;
        PyObject *object = bloom_from_image(type, &image, image.data_bytes);
        PyBuffer_Release(&file);
        return object;
    }
    if (!PyArg_ParseTuple(arguments, "Idd:Bloom", &head.initial_capacity, &head.rate,
                          &head.growth)) {
        return NULL;
    }
    if (!(head.growth >= 1 && head.growth <= NPHDI_ISBF_MAX_GROWTH) ||
        !(head.rate > 0 && head.rate <= NPHDI_ISBF_MAX_RATE) ||
        !nphdi_isbf_plan(head.initial_capacity, head.rate, &filter)) {
        PyErr_SetString(PyExc_ValueError,
                        "a filter needs a capacity of 1 or more, within what a file holds, a rate "
                        "above 0 and up to 0.5, and a growth of 1 to 16");
        return NULL;
    }
    nphdi_isbf_encode_head(&head, heads);
    nphdi_isbf_encode_filter(&filter, heads + NPHDI_ISBF_HEAD_BYTES);
    return bloom_from_image(type, &image, sizeof(heads) + (uint64_t)filter.bit_bytes);
}

static void bloom_dealloc(PyObject *self)
{
    bloom_object *object = (bloom_object *)self;
    PyTypeObject *type = Py_TYPE(self);

    nphdi_bloom_close(object->bloom);
    (void)pthread_mutex_destroy(&object->lock);
    PyObject_Free(self);
    Py_DECREF(type);
}

/* ---- keys ---- */

/* Keys of `width` bytes each, one after another, or one key with its own width. */
typedef struct bloom_keys {
    Py_buffer buffer;
    size_t width;
    size_t count;
} bloom_keys;

static int bloom_keys_read(PyObject *object, Py_ssize_t width, bloom_keys *out)
{
    if (width < 0) {
        PyErr_SetString(PyExc_ValueError, "a key has 0 bytes or more");
        return -1;
    }
    if (PyObject_GetBuffer(object, &out->buffer, PyBUF_CONTIG_RO) != 0) {
        return -1;
    }
    out->width = (size_t)width;
    out->count = width == 0 ? 1 : (size_t)out->buffer.len / out->width;
    return 0;
}

/* In a child process a lock that a thread of the parent held is never let go: -1. */
static int bloom_here(bloom_object *object)
{
    static const nphd_error cut = {
        .struct_size = sizeof(cut),
        .status = NPHD_FORKED,
        .text = "the filter was in use by another thread when this process was forked"};

    if (object->forks == atomic_load(&core_forks)) {
        return 0;
    }
    if (pthread_mutex_trylock(&object->lock) != 0) {
        return core_raise(NPHD_FORKED, &cut);
    }
    (void)pthread_mutex_unlock(&object->lock);
    object->forks = atomic_load(&core_forks);
    return 0;
}

static nphd_status add_each(bloom_object *object, const bloom_keys *keys, nphd_error *err)
{
    const nphd_status status = nphdi_bloom_reserve(object->bloom, keys->count, err);

    for (size_t i = 0; i < keys->count && status == NPHD_OK; i++) {
        const uint8_t *octets = (const uint8_t *)keys->buffer.buf + i * keys->width;
        nphdi_bloom_add_octets(object->bloom, octets, keys->width);
    }
    return status;
}

static PyObject *bloom_add(PyObject *self, PyObject *arguments)
{
    bloom_object *object = (bloom_object *)self;
    PyObject *key_object;
    Py_ssize_t width;
    bloom_keys keys;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    if (!PyArg_ParseTuple(arguments, "On:add", &key_object, &width) || bloom_here(object) != 0 ||
        bloom_keys_read(key_object, width, &keys) != 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS;
    (void)pthread_mutex_lock(&object->lock);
    status = add_each(object, &keys, &err);
    (void)pthread_mutex_unlock(&object->lock);
    Py_END_ALLOW_THREADS;
    PyBuffer_Release(&keys.buffer);
    if (status != NPHD_OK) {
        core_raise(status, &err);
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *bloom_contains(PyObject *self, PyObject *arguments)
{
    bloom_object *object = (bloom_object *)self;
    PyObject *key_object, *out_object;
    Py_ssize_t width;
    bloom_keys keys;
    Py_buffer out;

    if (!PyArg_ParseTuple(arguments, "OnO:contains", &key_object, &width, &out_object) ||
        bloom_here(object) != 0 || bloom_keys_read(key_object, width, &keys) != 0) {
        return NULL;
    }
    if (core_output(out_object, keys.count, sizeof(bool), &out) != 0) {
        PyBuffer_Release(&keys.buffer);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS;
    (void)pthread_mutex_lock(&object->lock);
    for (size_t i = 0; i < keys.count; i++) {
        const uint8_t *octets = (const uint8_t *)keys.buffer.buf + i * keys.width;
        ((bool *)out.buf)[i] = nphdi_bloom_maybe_octets(object->bloom, octets, keys.width);
    }
    (void)pthread_mutex_unlock(&object->lock);
    Py_END_ALLOW_THREADS;
    PyBuffer_Release(&out);
    PyBuffer_Release(&keys.buffer);
    Py_RETURN_NONE;
}

/* ---- state and file ---- */

static PyObject *bloom_state(PyObject *self, PyObject *unused)
{
    bloom_object *object = (bloom_object *)self;
    const nphdi_bloom *bloom = object->bloom;
    uint64_t capacity = 0;
    uint64_t count;
    uint32_t filters;

    (void)unused;
    if (bloom_here(object) != 0) {
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS;
    (void)pthread_mutex_lock(&object->lock);
    filters = nphdi_bloom_filters(bloom);
    count = nphdi_bloom_count(bloom);
    const bloom_filter *filter = bloom->first;
    for (uint32_t i = 0; i < filters; i++, filter = nphdi_bloom_filter_next(filter)) {
        capacity = filter->end;
    }
    (void)pthread_mutex_unlock(&object->lock);
    Py_END_ALLOW_THREADS;
    return Py_BuildValue("{sK sI sK sI sd sd sK}", "count", count, "filters", filters, "capacity",
                         capacity, "initial_capacity", bloom->head.initial_capacity, "rate",
                         bloom->head.rate, "growth", bloom->head.growth, "memory_bytes",
                         nphdi_bloom_memory(bloom));
}

static nphd_status image_put(void *context, const void *data, uint64_t bytes, nphd_error *err)
{
    uint8_t **at = context;

    (void)err;
    memcpy(*at, data, (size_t)bytes);
    *at += bytes;
    return NPHD_OK;
}

/* Filters are only ever added, so that the size is asked for and filled under one lock. */
static PyObject *bloom_file(PyObject *self, PyObject *unused)
{
    bloom_object *object = (bloom_object *)self;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status = NPHD_OK;
    const uint64_t file_bytes = nphdi_bloom_file_bytes(object->bloom);
    PyObject *bytes = NULL;

    (void)unused;
    if (bloom_here(object) != 0) {
        return NULL;
    }
    if (file_bytes > PY_SSIZE_T_MAX) {
        return PyErr_NoMemory();
    }
    bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)file_bytes);
    if (bytes == NULL) {
        return NULL;
    }
    uint8_t *at = (uint8_t *)PyBytes_AS_STRING(bytes);
    Py_BEGIN_ALLOW_THREADS;
    (void)pthread_mutex_lock(&object->lock);
    status = nphdi_bloom_write(object->bloom, file_bytes, image_put, &at, &err);
    (void)pthread_mutex_unlock(&object->lock);
    Py_END_ALLOW_THREADS;
    if (status != NPHD_OK) {
        Py_DECREF(bytes);
        core_raise(status, &err);
        return NULL;
    }
    return bytes;
}

static PyMethodDef bloom_methods[] = {
    {"add", bloom_add, METH_VARARGS, "add(keys, width): of `width` bytes each"},
    {"contains", bloom_contains, METH_VARARGS,
     "contains(keys, width, out): a truth value for each key; false is certain."},
    {"state", bloom_state, METH_NOARGS, "state() -> dict"},
    {"file", bloom_file, METH_NOARGS, "file() -> the bytes of a bloom.isbf"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot bloom_slots[] = {
    {Py_tp_new, (void *)bloom_new},
    {Py_tp_dealloc, (void *)bloom_dealloc},
    {Py_tp_methods, bloom_methods},
    {Py_tp_doc, (void *)bloom_doc},
    {0, NULL},
};

PyType_Spec core_bloom_spec = {
    .name = "nphd._core.Bloom",
    .basicsize = sizeof(bloom_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = bloom_slots,
};
