/* Arrays and paths of Python as the library takes them. Buffers stay exported, and so stay in
 * place, until they are released. */
#include "core.h"

#include <string.h>

#define OCTETS 16

/* ---- keys ---- */

static int key_from_integer(PyObject *object, nphd_key *out)
{
    PyObject *number = PyNumber_Index(object);

    if (number == NULL) {
        return -1;
    }
    const unsigned long long value = PyLong_AsUnsignedLongLong(number);
    Py_DECREF(number);
    if (value == (unsigned long long)-1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_SetString(PyExc_ValueError, "a key must be an integer of 0 to 2**64 - 2");
        }
        return -1;
    }
    *out = nphd_key_u64(value);
    return 0;
}

static int keys_from_array(PyObject *object, uint32_t key_bits, core_keys *out)
{
    const size_t size = key_bits / 8;
    Py_buffer buffer;
    int result = -1;

    if (PyObject_GetBuffer(object, &buffer, PyBUF_CONTIG_RO) != 0) {
        return -1;
    }
    if ((size_t)buffer.len % size != 0) {
        PyErr_Format(PyExc_ValueError, "keys: %zd bytes are not keys of %zu bytes each", buffer.len,
                     size);
        goto done;
    }
    out->count = (size_t)buffer.len / size;
    out->items = PyMem_New(nphd_key, out->count + 1);
    if (out->items == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (size_t i = 0; i < out->count; i++) {
        const uint8_t *from = (const uint8_t *)buffer.buf + i * size;
        uint64_t number;
        if (key_bits == 64) {
            memcpy(&number, from, sizeof(number));
            out->items[i] = nphd_key_u64(number);
        } else {
            out->items[i] = nphd_key_from_octets(from);
        }
    }
    result = 0;
done:
    PyBuffer_Release(&buffer);
    return result;
}

int core_key_read(PyObject *object, uint32_t key_bits, nphd_key *out)
{
    Py_buffer buffer;
    int result = -1;

    if (key_bits == 64) {
        return key_from_integer(object, out);
    }
    if (PyObject_GetBuffer(object, &buffer, PyBUF_CONTIG_RO) != 0) {
        return -1;
    }
    if (buffer.len != OCTETS) {
        PyErr_Format(PyExc_ValueError, "a key must be bytes of length 16; this one has %zd",
                     buffer.len);
    } else {
        *out = nphd_key_from_octets(buffer.buf);
        result = 0;
    }
    PyBuffer_Release(&buffer);
    return result;
}

int core_keys_read(PyObject *object, uint32_t key_bits, bool optional, core_keys *out)
{
    memset(out, 0, sizeof(*out));
    if (optional && object == Py_None) {
        return 0;
    }
    if (key_bits == 64 && PyIndex_Check(object) && !PyObject_CheckBuffer(object)) {
        out->items = PyMem_New(nphd_key, 1);
        out->count = 1;
        if (out->items == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        if (key_from_integer(object, &out->items[0]) != 0) {
            core_keys_release(out);
            return -1;
        }
        return 0;
    }
    return keys_from_array(object, key_bits, out);
}

void core_keys_release(core_keys *keys)
{
    PyMem_Free(keys->items);
    keys->items = NULL;
    keys->count = 0;
}

void core_key_write(void *array, size_t place, nphd_key key, uint32_t key_bits)
{
    if (key_bits == 64) {
        ((uint64_t *)array)[place] = key.low;
    } else {
        nphd_key_to_octets(key, (uint8_t *)array + place * OCTETS);
    }
}

/* ---- vectors ---- */

static int buffer_of_bytes(PyObject *object, Py_buffer *out)
{
    if (PyObject_GetBuffer(object, out, PyBUF_STRIDES | PyBUF_FORMAT) != 0) {
        return -1;
    }
    if (out->itemsize != 1 || (out->format != NULL && strcmp(out->format, "B") != 0)) {
        PyErr_Format(PyExc_TypeError, "a vector is made of unsigned bytes (uint8), not of '%s'",
                     out->format == NULL ? "B" : out->format);
        PyBuffer_Release(out);
        return -1;
    }
    return 0;
}

/* The rows of one array, or all of it as one vector. */
static int vectors_from_array(PyObject *object, core_vectors *out)
{
    Py_buffer *buffer = &out->buffers[0];

    if (buffer_of_bytes(object, buffer) != 0) {
        return -1;
    }
    out->buffer_count = 1;
    if (buffer->ndim < 1 || buffer->ndim > 2) {
        PyErr_Format(PyExc_ValueError, "vectors have one or two dimensions, not %d", buffer->ndim);
        return -1;
    }
    const size_t bytes = (size_t)buffer->shape[buffer->ndim - 1];
    if (bytes > 1 && buffer->strides[buffer->ndim - 1] != 1) {
        PyErr_SetString(PyExc_ValueError, "the bytes of a vector must stand side by side");
        return -1;
    }
    out->count = buffer->ndim == 1 ? 1 : (size_t)buffer->shape[0];
    out->items = PyMem_New(nphd_vector, out->count + 1);
    if (out->items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    const Py_ssize_t step = buffer->ndim == 1 ? 0 : buffer->strides[0];
    for (size_t i = 0; i < out->count; i++) {
        out->items[i].data = (const uint8_t *)buffer->buf + (Py_ssize_t)i * step;
        out->items[i].bytes = bytes;
    }
    return 0;
}

static int vectors_from_sequence(PyObject *tuple, core_vectors *out)
{
    for (size_t i = 0; i < out->count; i++) {
        Py_buffer *buffer = &out->buffers[i];
        if (buffer_of_bytes(PyTuple_GET_ITEM(tuple, (Py_ssize_t)i), buffer) != 0) {
            return -1;
        }
        out->buffer_count++;
        if (buffer->ndim != 1 || (buffer->shape[0] > 1 && buffer->strides[0] != 1)) {
            PyErr_Format(PyExc_ValueError,
                         "vector %zu: an array of one dimension is needed, its bytes side by side",
                         i);
            return -1;
        }
        out->items[i].data = buffer->buf;
        out->items[i].bytes = (size_t)buffer->len;
    }
    return 0;
}

int core_vectors_read(PyObject *object, core_vectors *out)
{
    const bool single = PyObject_CheckBuffer(object);
    PyObject *tuple = NULL;
    int result = -1;

    memset(out, 0, sizeof(*out));
    if (!single) {
        /* a tuple of our own: no other thread changes it */
        tuple = PySequence_Tuple(object);
        if (tuple == NULL) {
            return -1;
        }
    }
    const size_t count = single ? 1 : (size_t)PyTuple_GET_SIZE(tuple);
    out->buffers = PyMem_New(Py_buffer, count + 1);
    if (out->buffers == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    if (single) {
        result = vectors_from_array(object, out);
        goto done;
    }
    out->count = count;
    out->items = PyMem_New(nphd_vector, count + 1);
    if (out->items == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    result = vectors_from_sequence(tuple, out);
done:
    Py_XDECREF(tuple);
    if (result != 0) {
        core_vectors_release(out);
    }
    return result;
}

void core_vectors_release(core_vectors *vectors)
{
    for (size_t i = 0; i < vectors->buffer_count; i++) {
        PyBuffer_Release(&vectors->buffers[i]);
    }
    PyMem_Free(vectors->buffers);
    PyMem_Free(vectors->items);
    memset(vectors, 0, sizeof(*vectors));
}

/* ---- the rest ---- */

int core_output(PyObject *object, size_t count, size_t size, Py_buffer *out)
{
    if (PyObject_GetBuffer(object, out, PyBUF_CONTIG) != 0) {
        return -1;
    }
    if (count > PY_SSIZE_T_MAX / size || (size_t)out->len < count * size) {
        PyErr_Format(PyExc_ValueError, "an output of %zd bytes has no room for %zu items of %zu",
                     out->len, count, size);
        PyBuffer_Release(out);
        return -1;
    }
    return 0;
}

int core_count_matches(size_t keys, size_t vectors)
{
    if (keys != vectors) {
        PyErr_Format(PyExc_ValueError, "the numbers of keys (%zu) and vectors (%zu) must match",
                     keys, vectors);
        return -1;
    }
    return 0;
}

PyObject *core_path(PyObject *object)
{
    PyObject *path = NULL;

    return PyUnicode_FSConverter(object, &path) ? path : NULL;
}
