/* Joins: all pairs within a radius, as arrays. */
#include "core.h"

#include <string.h>

/* How many pairs there are shows at the end alone. The sink runs without the interpreter's lock,
 * where only raw memory may be asked for. */
typedef struct join_pairs {
    uint8_t *left;
    uint8_t *right;
    uint8_t *distances;
    uint32_t key_bits;
    size_t count;
    size_t room;
    bool out_of_memory;
} join_pairs;

static bool grow(uint8_t **array, size_t room, size_t size)
{
    uint8_t *larger = room > PY_SSIZE_T_MAX / size ? NULL : PyMem_RawRealloc(*array, room * size);

    if (larger == NULL) {
        return false;
    }
    *array = larger;
    return true;
}

static int take_pairs(void *context, const nphd_pair *pairs, size_t count)
{
    join_pairs *to = context;

    if (count > to->room - to->count) {
        const size_t room = 2 * to->room + count;
        if (!grow(&to->left, room, to->key_bits / 8) || !grow(&to->right, room, to->key_bits / 8) ||
            !grow(&to->distances, room, sizeof(float))) {
            to->out_of_memory = true;
            return 1;
        }
        to->room = room;
    }
    for (size_t i = 0; i < count; i++) {
        core_key_write(to->left, to->count, pairs[i].left, to->key_bits);
        core_key_write(to->right, to->count, pairs[i].right, to->key_bits);
        memcpy(to->distances + to->count * sizeof(float), &pairs[i].distance, sizeof(float));
        to->count++;
    }
    return 0;
}

static nphd_join_side join_side(const core_store *store)
{
    const bool is_sharded = Py_IS_TYPE((PyObject *)store, core_sharded_type);
    const nphd_join_side side = {is_sharded ? NULL : store->handle,
                                 is_sharded ? store->handle : NULL};

    return side;
}

/* CORE_CALL with two indexes, of which the second may be the first again, or NULL. The locks are
 * taken in one order by all, that of the addresses. */
static nphd_status join_run(core_store *left, core_store *right, float radius,
                            const nphd_join_options *options, join_pairs *pairs, nphd_error *err)
{
    core_store *first = right != NULL && right < left ? right : left;
    core_store *second = right == NULL || right == left ? NULL : first == left ? right : left;
    const nphd_join_side left_side = join_side(left);
    const nphd_join_side right_side = join_side(right != NULL ? right : left);
    nphd_status status;

    Py_BEGIN_ALLOW_THREADS;
    (void)pthread_rwlock_rdlock(&first->width);
    if (second != NULL) {
        (void)pthread_rwlock_rdlock(&second->width);
    }
    status = nphd_join(&left_side, right != NULL ? &right_side : NULL, radius, options, take_pairs,
                       pairs, NULL, err);
    if (second != NULL) {
        (void)pthread_rwlock_unlock(&second->width);
    }
    (void)pthread_rwlock_unlock(&first->width);
    Py_END_ALLOW_THREADS;
    core_log_deliver();
    return status;
}

static PyObject *pairs_object(const join_pairs *pairs)
{
    const Py_ssize_t keys = (Py_ssize_t)(pairs->count * (pairs->key_bits / 8));
    const Py_ssize_t distances = (Py_ssize_t)(pairs->count * sizeof(float));

    return Py_BuildValue("NNN", PyByteArray_FromStringAndSize((const char *)pairs->left, keys),
                         PyByteArray_FromStringAndSize((const char *)pairs->right, keys),
                         PyByteArray_FromStringAndSize((const char *)pairs->distances, distances));
}

static PyObject *join(PyObject *module, PyObject *arguments)
{
    PyObject *left, *right, *progress, *result = NULL;
    float radius;
    unsigned threads;
    core_watch watch;
    join_pairs pairs = {0};
    nphd_join_options options = NPHD_JOIN_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "O!OfIO:join", core_store_type, &left, &right, &radius,
                          &threads, &progress)) {
        return NULL;
    }
    if (right != Py_None && !PyObject_TypeCheck(right, core_store_type)) {
        PyErr_SetString(PyExc_TypeError, "join: right is no index");
        return NULL;
    }
    pairs.key_bits = ((core_store *)left)->key_bits;
    if (core_watch_begin(&watch, progress, Py_None, pairs.key_bits) != 0) {
        return NULL;
    }
    options.threads = threads;
    options.progress = core_watch_progress;
    options.progress_context = &watch;
    status = join_run((core_store *)left, right == Py_None ? NULL : (core_store *)right, radius,
                      &options, &pairs, &err);
    if (core_watch_end(&watch) != 0) {
        goto done;
    }
    if (status != NPHD_OK) {
        core_raise(status, &err);
    } else if (pairs.out_of_memory) {
        PyErr_NoMemory();
    } else {
        result = pairs_object(&pairs);
    }
done:
    PyMem_RawFree(pairs.left);
    PyMem_RawFree(pairs.right);
    PyMem_RawFree(pairs.distances);
    return result;
}

PyMethodDef core_join_methods[] = {
    {"join", join, METH_VARARGS,
     "join(left, right or None, radius, threads, progress) -> (left keys, right keys, "
     "distances)\n\n"
     "Bytes of three arrays, the distances 32-bit floats."},
    {NULL, NULL, 0, NULL},
};
