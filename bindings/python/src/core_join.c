/* Joins: all pairs within a radius, as arrays, or some of them at a time. */
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
    size_t most; /* pairs that the caller has memory for */
    bool too_many;
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

static void write_pair(join_pairs *to, const nphd_pair *pair)
{
    core_key_write(to->left, to->count, pair->left, to->key_bits);
    core_key_write(to->right, to->count, pair->right, to->key_bits);
    memcpy(to->distances + to->count * sizeof(float), &pair->distance, sizeof(float));
    to->count++;
}

static int take_pairs(void *context, const nphd_pair *pairs, size_t count)
{
    join_pairs *to = context;

    if (count > to->most - to->count) {
        to->too_many = true;
        return 1;
    }
    if (count > to->room - to->count) {
        const size_t wanted = 2 * to->room + count;
        const size_t room = wanted < to->most ? wanted : to->most;
        if (!grow(&to->left, room, to->key_bits / 8) || !grow(&to->right, room, to->key_bits / 8) ||
            !grow(&to->distances, room, sizeof(float))) {
            to->out_of_memory = true;
            return 1;
        }
        to->room = room;
    }
    for (size_t i = 0; i < count; i++) {
        write_pair(to, &pairs[i]);
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

/* The locks of two indexes, of which the second may be the first again, or NULL. They are taken in
 * one order by all, that of the addresses; the interpreter's is not held. */
static void lock_sides(core_store *left, core_store *right)
{
    core_store *first = right != NULL && right < left ? right : left;
    core_store *second = right == NULL || right == left ? NULL : first == left ? right : left;

    (void)pthread_rwlock_rdlock(&first->width);
    if (second != NULL) {
        (void)pthread_rwlock_rdlock(&second->width);
    }
}

/* Before that, with the interpreter's lock. */
static void sides_here(core_store *left, core_store *right)
{
    core_store_here(left);
    if (right != NULL) {
        core_store_here(right);
    }
}

static void unlock_sides(core_store *left, core_store *right)
{
    if (right != NULL && right != left) {
        (void)pthread_rwlock_unlock(&right->width);
    }
    (void)pthread_rwlock_unlock(&left->width);
}

static nphd_status join_run(core_store *left, core_store *right, float radius,
                            const nphd_join_options *options, join_pairs *pairs,
                            nphd_join_report *report, nphd_error *err)
{
    const nphd_join_side left_side = join_side(left);
    const nphd_join_side right_side = join_side(right != NULL ? right : left);
    nphd_status status;

    sides_here(left, right);
    Py_BEGIN_ALLOW_THREADS;
    lock_sides(left, right);
    status = nphd_join(&left_side, right != NULL ? &right_side : NULL, radius, options, take_pairs,
                       pairs, report, err);
    unlock_sides(left, right);
    Py_END_ALLOW_THREADS;
    core_log_deliver();
    return status;
}

/* Hands an array over, and frees it: the next one is copied into what this one took. */
static PyObject *array_object(uint8_t **array, size_t bytes)
{
    PyObject *object = PyByteArray_FromStringAndSize((const char *)*array, (Py_ssize_t)bytes);

    PyMem_RawFree(*array);
    *array = NULL;
    return object;
}

static PyObject *pairs_object(join_pairs *pairs, bool more)
{
    const size_t keys = pairs->count * (pairs->key_bits / 8);
    PyObject *left = array_object(&pairs->left, keys);
    PyObject *right = left == NULL ? NULL : array_object(&pairs->right, keys);
    PyObject *distances =
        right == NULL ? NULL : array_object(&pairs->distances, pairs->count * sizeof(float));

    if (distances == NULL) {
        Py_XDECREF(left);
        Py_XDECREF(right);
        return NULL;
    }
    return Py_BuildValue("NNNN", left, right, distances, PyBool_FromLong(more));
}

static void pairs_free(join_pairs *pairs)
{
    PyMem_RawFree(pairs->left);
    PyMem_RawFree(pairs->right);
    PyMem_RawFree(pairs->distances);
}

/* What join() and open_pairs() are given in front; None for a right side that there is not. */
typedef struct join_arguments {
    core_store *left;
    core_store *right;
    float radius;
    nphd_join_options options;
} join_arguments;

static int arguments_check(join_arguments *to, PyObject *left, PyObject *right, unsigned threads,
                           unsigned long long limit, int mix)
{
    const nphd_join_options defaults = NPHD_JOIN_OPTIONS_INIT;

    if (right != Py_None && !PyObject_TypeCheck(right, core_store_type)) {
        PyErr_SetString(PyExc_TypeError, "join: right is no index");
        return -1;
    }
    to->left = (core_store *)left;
    to->right = right == Py_None ? NULL : (core_store *)right;
    to->options = defaults;
    to->options.threads = threads;
    to->options.limit = limit;
    to->options.mix_units = mix != 0;
    to->options.progress = core_watch_progress;
    return 0;
}

static PyObject *join_result(join_pairs *pairs, nphd_status status, const nphd_join_report *report,
                             const nphd_error *err)
{
    if (status != NPHD_OK) {
        return core_raised(status, err);
    }
    if (pairs->too_many) {
        PyErr_Format(PyExc_MemoryError,
                     "join: there are more than %zu pairs, which is what max_bytes allows; use a "
                     "smaller radius, limit=, join_iter(), or another max_bytes",
                     pairs->most);
        return NULL;
    }
    if (pairs->out_of_memory) {
        return PyErr_NoMemory();
    }
    return pairs_object(pairs, report->more);
}

static PyObject *join(PyObject *module, PyObject *arguments)
{
    PyObject *left, *right, *progress, *result = NULL;
    unsigned threads;
    int mix;
    unsigned long long limit, most_bytes;
    join_arguments given;
    core_watch watch;
    join_pairs pairs = {0};
    nphd_join_report report;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "O!OfIOKpK:join", core_store_type, &left, &right,
                          &given.radius, &threads, &progress, &limit, &mix, &most_bytes) ||
        arguments_check(&given, left, right, threads, limit, mix) != 0) {
        return NULL;
    }
    pairs.key_bits = given.left->key_bits;
    pairs.most = (size_t)(most_bytes / (2 * (pairs.key_bits / 8) + sizeof(float)));
    if (core_watch_begin(&watch, progress, Py_None, pairs.key_bits) != 0) {
        return NULL;
    }
    given.options.progress_context = &watch;
    status = join_run(given.left, given.right, given.radius, &given.options, &pairs, &report, &err);
    if (core_watch_end(&watch) == 0) {
        result = join_result(&pairs, status, &report, &err);
    }
    pairs_free(&pairs);
    return result;
}

/* ---- some pairs at a time ---- */

typedef struct core_pairs {
    PyObject_HEAD core_store *left;
    core_store *right; /* NULL: inside one index */
    PyObject *progress;
    nphd_pairs *pairs; /* NULL: closed */
    core_watch watch;  /* of the read in progress */
    bool reading;
} core_pairs;

/* The callbacks of the library know this place from the beginning on. */
static PyObject *open_pairs(PyObject *module, PyObject *arguments)
{
    PyObject *left, *right, *progress;
    unsigned threads;
    int mix;
    unsigned long long limit;
    join_arguments given;
    core_pairs *self = NULL;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "O!OfIOKp:open_pairs", core_store_type, &left, &right,
                          &given.radius, &threads, &progress, &limit, &mix) ||
        arguments_check(&given, left, right, threads, limit, mix) != 0) {
        return NULL;
    }
    self = PyObject_New(core_pairs, core_pairs_type);
    if (self == NULL) {
        return NULL;
    }
    self->left = (core_store *)Py_NewRef(left);
    self->right = given.right == NULL ? NULL : (core_store *)Py_NewRef(right);
    self->progress = Py_NewRef(progress);
    self->pairs = NULL;
    self->reading = false;
    if (core_watch_begin(&self->watch, progress, Py_None, given.left->key_bits) != 0) {
        Py_DECREF(self);
        return NULL;
    }
    given.options.progress_context = &self->watch;
    const nphd_join_side left_side = join_side(given.left);
    const nphd_join_side right_side = join_side(given.right != NULL ? given.right : given.left);
    sides_here(given.left, given.right);
    Py_BEGIN_ALLOW_THREADS;
    lock_sides(given.left, given.right);
    status = nphd_pairs_open(&left_side, given.right != NULL ? &right_side : NULL, given.radius,
                             &given.options, &self->pairs, &err);
    unlock_sides(given.left, given.right);
    Py_END_ALLOW_THREADS;
    core_log_deliver();
    if (core_watch_end(&self->watch) != 0 || status != NPHD_OK) {
        if (!PyErr_Occurred()) {
            core_raise(status, &err);
        }
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void pairs_close(core_pairs *self)
{
    nphd_pairs *pairs = self->pairs;

    self->pairs = NULL;
    nphd_pairs_close(pairs);
}

static void pairs_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    core_pairs *self = (core_pairs *)object;

    pairs_close(self); /* before its sides */
    Py_XDECREF(self->progress);
    Py_XDECREF(self->right);
    Py_XDECREF(self->left);
    PyObject_Free(object);
    Py_DECREF(type);
}

static bool pairs_room(join_pairs *to, nphd_pair **room, size_t capacity)
{
    *room = capacity > PY_SSIZE_T_MAX / sizeof(**room) ? NULL
                                                       : PyMem_RawMalloc(capacity * sizeof(**room));

    return *room != NULL && grow(&to->left, capacity, to->key_bits / 8) &&
           grow(&to->right, capacity, to->key_bits / 8) &&
           grow(&to->distances, capacity, sizeof(float));
}

static PyObject *read_pairs(core_pairs *self, size_t capacity)
{
    join_pairs found = {.key_bits = self->left->key_bits};
    PyObject *result = NULL;
    nphd_pair *room = NULL;
    nphd_join_report report;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;
    size_t count = 0;

    if (!pairs_room(&found, &room, capacity)) {
        PyErr_NoMemory();
        goto done;
    }
    sides_here(self->left, self->right);
    Py_BEGIN_ALLOW_THREADS;
    lock_sides(self->left, self->right);
    status = nphd_pairs_next(self->pairs, room, capacity, &count, &report, &err);
    unlock_sides(self->left, self->right);
    for (size_t i = 0; i < count; i++) {
        write_pair(&found, &room[i]);
    }
    Py_END_ALLOW_THREADS;
    core_log_deliver();
    if (core_watch_end(&self->watch) != 0) {
        goto done;
    }
    if (status != NPHD_OK) {
        core_raise(status, &err);
        goto done;
    }
    result = pairs_object(&found, report.more);
    if (count < capacity) {
        pairs_close(self);
    }
done:
    PyMem_RawFree(room);
    pairs_free(&found);
    return result;
}

static PyObject *pairs_read(PyObject *object, PyObject *argument)
{
    core_pairs *self = (core_pairs *)object;
    const size_t capacity = PyLong_AsSize_t(argument);
    PyObject *result;

    if (PyErr_Occurred()) {
        return NULL;
    }
    if (self->reading || self->pairs == NULL) {
        PyErr_SetString(PyExc_RuntimeError, self->reading ? "another thread reads these pairs"
                                                          : "these pairs are closed");
        return NULL;
    }
    if (core_watch_begin(&self->watch, self->progress, Py_None, self->left->key_bits) != 0) {
        return NULL;
    }
    self->reading = true;
    result = read_pairs(self, capacity);
    self->reading = false;
    return result;
}

static PyObject *pairs_end(PyObject *object, PyObject *unused)
{
    core_pairs *self = (core_pairs *)object;

    (void)unused;
    if (self->reading) {
        PyErr_SetString(PyExc_RuntimeError, "another thread reads these pairs");
        return NULL;
    }
    pairs_close(self);
    Py_RETURN_NONE;
}

static PyMethodDef pairs_methods[] = {
    {"read", pairs_read, METH_O,
     "read(capacity) -> (left keys, right keys, distances, more)\n\n"
     "As join(); fewer than `capacity` are the last ones, and it is closed then."},
    {"close", pairs_end, METH_NOARGS, "close(): free what the join holds."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot pairs_slots[] = {
    {Py_tp_dealloc, (void *)pairs_dealloc},
    {Py_tp_methods, pairs_methods},
    {Py_tp_doc, (void *)"A join whose pairs are read some at a time."},
    {0, NULL},
};

PyType_Spec core_pairs_spec = {
    .name = "nphd._core.Pairs",
    .basicsize = sizeof(core_pairs),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = pairs_slots,
};

PyMethodDef core_join_methods[] = {
    {"join", join, METH_VARARGS,
     "join(left, right or None, radius, threads, progress, limit, max_bytes) -> (left keys, right "
     "keys, distances, more)\n\n"
     "Bytes of three arrays, the distances 32-bit floats; whether there are pairs beyond the "
     "limit, "
     "which is 0 for all."},
    {"open_pairs", open_pairs, METH_VARARGS,
     "open_pairs(left, right or None, radius, threads, progress, limit) -> Pairs"},
    {NULL, NULL, 0, NULL},
};
