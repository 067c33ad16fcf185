/* Searching an index, and going through it. */
#include "core.h"

#include <string.h>

/* ---- search ---- */

const char core_search_doc[] =
    "search(queries, capacity, row, (mode, plan, breadth, threads, variants, any, budget), "
    "radius,\n"
    "       filter, progress, outputs)\n\n"
    "At most `capacity` matches of query i are written from place i * row on, nearest first;\n"
    "other places stay as they are. radius None: without limit. outputs: (keys, distances,\n"
    "variants), of each match; (counts, exact, more, visited, computed, plans, predicted,\n"
    "measured), of each query.";

enum { OUTPUT_COUNT = 11 };

/* Where the answers go; the first three have `row` places for every query, the others one. */
typedef union search_outputs {
    Py_buffer all[OUTPUT_COUNT];
    struct {
        Py_buffer keys;
        Py_buffer distances;
        Py_buffer variants;
        Py_buffer counts;
        Py_buffer exact;
        Py_buffer more;
        Py_buffer visited;
        Py_buffer computed;
        Py_buffer plans;
        Py_buffer predicted;
        Py_buffer measured;
    } of;
} search_outputs;

static int outputs_open(PyObject *const objects[OUTPUT_COUNT], size_t queries, size_t row,
                        uint32_t key_bits, search_outputs *out)
{
    static const size_t sizes[OUTPUT_COUNT] = {0,
                                               sizeof(float),
                                               sizeof(uint32_t),
                                               sizeof(uint64_t),
                                               sizeof(bool),
                                               sizeof(bool),
                                               sizeof(uint64_t),
                                               sizeof(uint64_t),
                                               sizeof(uint8_t),
                                               sizeof(float),
                                               sizeof(float)};

    if (row != 0 && queries > SIZE_MAX / row) {
        PyErr_NoMemory();
        return -1;
    }
    for (int i = 0; i < OUTPUT_COUNT; i++) {
        const size_t size = i == 0 ? key_bits / 8 : sizes[i];
        if (core_output(objects[i], i < 3 ? queries * row : queries, size, &out->all[i]) != 0) {
            return -1;
        }
    }
    return 0;
}

static void outputs_close(search_outputs *out)
{
    for (int i = 0; i < OUTPUT_COUNT; i++) {
        PyBuffer_Release(&out->all[i]);
    }
}

static void outputs_fill(const search_outputs *out, const nphd_match *matches,
                         const nphd_search_report *reports, size_t queries, size_t capacity,
                         size_t row, uint32_t key_bits)
{
    for (size_t i = 0; i < queries; i++) {
        for (size_t k = 0; k < reports[i].count; k++) {
            const nphd_match *match = &matches[i * capacity + k];
            core_key_write(out->of.keys.buf, i * row + k, match->key, key_bits);
            ((float *)out->of.distances.buf)[i * row + k] = match->distance;
            ((uint32_t *)out->of.variants.buf)[i * row + k] = match->variant;
        }
        ((uint64_t *)out->of.counts.buf)[i] = reports[i].count;
        ((bool *)out->of.exact.buf)[i] = reports[i].exact;
        ((bool *)out->of.more.buf)[i] = reports[i].more;
        ((uint64_t *)out->of.visited.buf)[i] = reports[i].visited;
        ((uint64_t *)out->of.computed.buf)[i] = reports[i].computed;
        ((uint8_t *)out->of.plans.buf)[i] = (uint8_t)reports[i].plan;
        ((float *)out->of.predicted.buf)[i] = reports[i].predicted;
        ((float *)out->of.measured.buf)[i] = reports[i].measured;
    }
}

static int radius_read(PyObject *object, nphd_search_options *options)
{
    if (object == Py_None) {
        return 0;
    }
    const double radius = PyFloat_AsDouble(object);
    if (radius == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    options->use_radius = true;
    options->radius = (float)radius;
    return 0;
}

/* How many queries the vectors are, with so many variants each; -1: they do not come out even. */
static Py_ssize_t query_count(const core_vectors *vectors, const nphd_search_options *options)
{
    const size_t variants = options->variants == 0 ? 1 : options->variants;

    if (vectors->count % variants != 0) {
        PyErr_Format(PyExc_ValueError, "%zu vectors are not queries of %zu variants each",
                     vectors->count, variants);
        return -1;
    }
    return (Py_ssize_t)(vectors->count / variants);
}

/* The search itself, on arguments that were read. */
static int search_run(core_store *store, const core_vectors *vectors, size_t queries,
                      size_t capacity, size_t row, nphd_search_options *options, core_watch *watch,
                      const search_outputs *out)
{
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;
    nphd_match *matches = NULL;
    nphd_search_report *reports = NULL;
    int result = -1;

    if (queries > 0 && capacity > PY_SSIZE_T_MAX / sizeof(*matches) / queries) {
        PyErr_NoMemory();
        return -1;
    }
    matches = PyMem_New(nphd_match, queries * capacity + 1);
    reports = PyMem_New(nphd_search_report, queries + 1);
    if (matches == NULL || reports == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    memset(reports, 0, (queries + 1) * sizeof(*reports));
    CORE_CALL(store, status = store->calls->search(store->handle, vectors->items, queries, capacity,
                                                   options, matches, reports, &err));
    if (core_watch_end(watch) != 0) {
        goto done;
    }
    if (status != NPHD_OK) {
        core_raise(status, &err);
        goto done;
    }
    outputs_fill(out, matches, reports, queries, capacity, row, store->key_bits);
    result = 0;
done:
    PyMem_Free(reports);
    PyMem_Free(matches);
    return result;
}

PyObject *core_store_search(PyObject *self, PyObject *arguments)
{
    core_store *store = (core_store *)self;
    PyObject *query_object, *radius, *filter, *progress, *outputs[OUTPUT_COUNT];
    Py_ssize_t capacity, row, count;
    int mode, plan, any;
    core_vectors vectors = {0};
    core_watch watch;
    search_outputs out;
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    int result = -1;

    memset(&out, 0, sizeof(out));
    if (!PyArg_ParseTuple(arguments, "Onn(iiIIIpf)OOO((OOO)(OOOOOOOO)):search", &query_object,
                          &capacity, &row, &mode, &plan, &options.breadth, &options.threads,
                          &options.variants, &any, &options.budget, &radius, &filter, &progress,
                          &outputs[0], &outputs[1], &outputs[2], &outputs[3], &outputs[4],
                          &outputs[5], &outputs[6], &outputs[7], &outputs[8], &outputs[9],
                          &outputs[10])) {
        return NULL;
    }
    if (capacity < 1 || capacity > row || mode < NPHD_SEARCH_AUTO ||
        mode > NPHD_SEARCH_APPROXIMATE || plan < NPHD_PLAN_AUTO || plan > NPHD_PLAN_GRAPH) {
        PyErr_SetString(PyExc_ValueError, "search: capacity, row, mode or plan out of range");
        return NULL;
    }
    if (core_watch_begin(&watch, progress, filter, store->key_bits) != 0 ||
        radius_read(radius, &options) != 0 || core_vectors_read(query_object, &vectors) != 0) {
        return NULL;
    }
    options.mode = (nphd_search_mode)mode;
    options.plan = (nphd_search_plan)plan;
    options.any = any != 0;
    options.filter = watch.filter == NULL ? NULL : core_watch_filter;
    options.filter_context = &watch;
    options.progress = core_watch_progress;
    options.progress_context = &watch;
    count = query_count(&vectors, &options);
    if (count >= 0 &&
        outputs_open(outputs, (size_t)count, (size_t)row, store->key_bits, &out) == 0) {
        result = search_run(store, &vectors, (size_t)count, (size_t)capacity, (size_t)row, &options,
                            &watch, &out);
    }
    outputs_close(&out);
    core_vectors_release(&vectors);
    if (result != 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

const char core_radius_stream_doc[] =
    "radius_stream(queries, radius, (plan, threads, variants, any), filter, sink) -> ended?\n\n"
    "sink: called with (query, key, distance, variant) for each match; False ends the call.";

/* Was a query not answered whole, because the sink had enough? */
static bool any_cut(const nphd_search_report *reports, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (reports[i].more) {
            return true;
        }
    }
    return false;
}

PyObject *core_store_radius_stream(PyObject *self, PyObject *arguments)
{
    core_store *store = (core_store *)self;
    PyObject *query_object, *filter, *sink, *result = NULL;
    float radius;
    int plan, any;
    Py_ssize_t count;
    core_vectors vectors = {0};
    core_watch watch;
    nphd_search_report *reports = NULL;
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    if (!PyArg_ParseTuple(arguments, "Of(iIIp)OO:radius_stream", &query_object, &radius, &plan,
                          &options.threads, &options.variants, &any, &filter, &sink) ||
        core_watch_begin(&watch, Py_None, filter, store->key_bits) != 0) {
        return NULL;
    }
    watch.sink = sink;
    if (plan < NPHD_PLAN_AUTO || plan > NPHD_PLAN_TABLES) {
        PyErr_SetString(PyExc_ValueError, "radius_stream: plan out of range");
        return NULL;
    }
    if (core_vectors_read(query_object, &vectors) != 0) {
        return NULL;
    }
    options.plan = (nphd_search_plan)plan;
    options.any = any != 0;
    options.filter = watch.filter == NULL ? NULL : core_watch_filter;
    options.filter_context = &watch;
    options.progress = core_watch_progress;
    options.progress_context = &watch;
    count = query_count(&vectors, &options);
    reports = count < 0 ? NULL : PyMem_Calloc((size_t)count + 1, sizeof(*reports));
    if (reports == NULL) {
        if (count >= 0) {
            PyErr_NoMemory();
        }
        goto done;
    }
    CORE_CALL(store, status = store->calls->radius_stream(store->handle, vectors.items,
                                                          (size_t)count, radius, &options,
                                                          core_watch_match, &watch, reports, &err));
    if (core_watch_end(&watch) != 0) {
        goto done;
    }
    if (status != NPHD_OK) {
        core_raise(status, &err);
        goto done;
    }
    result = PyBool_FromLong(any_cut(reports, (size_t)count));
done:
    PyMem_Free(reports);
    core_vectors_release(&vectors);
    return result;
}

/* ---- cursors ---- */

typedef struct core_cursor {
    PyObject_HEAD core_store *store;
    bool is_sharded;
    nphd_cursor single;
    nphd_sharded_cursor sharded;
} core_cursor;

PyObject *core_store_cursor(PyObject *self, PyObject *unused)
{
    core_store *store = (core_store *)self;
    core_cursor *cursor = PyObject_New(core_cursor, core_cursor_type);

    (void)unused;
    if (cursor == NULL) {
        return NULL;
    }
    Py_INCREF(self);
    cursor->store = store;
    cursor->is_sharded = Py_IS_TYPE(self, core_sharded_type);
    if (cursor->is_sharded) {
        cursor->sharded = nphd_sharded_cursor_begin(store->handle);
    } else {
        cursor->single = nphd_index_cursor(store->handle);
    }
    return (PyObject *)cursor;
}

static void cursor_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);

    Py_DECREF(((core_cursor *)self)->store);
    PyObject_Free(self);
    Py_DECREF(type);
}

typedef struct cursor_outputs {
    Py_buffer keys;
    Py_buffer vectors; /* buf NULL: not wanted */
    Py_buffer lengths;
} cursor_outputs;

/* Works on a copy, so that two threads on one cursor repeat vectors at worst. */
static nphd_status cursor_step(core_cursor *copy, nphd_key *key, uint8_t *vector, size_t *bytes,
                               nphd_error *err)
{
    return copy->is_sharded ? nphd_sharded_cursor_next(&copy->sharded, key, vector, bytes, err)
                            : nphd_cursor_next(&copy->single, key, vector, bytes, err);
}

static nphd_status cursor_steps(core_cursor *copy, const cursor_outputs *out, size_t capacity,
                                size_t *out_count, nphd_error *err)
{
    const core_store *store = copy->store;
    const size_t width = store->calls->max_bytes(store->handle);
    uint8_t *vectors = out->vectors.buf;
    nphd_status status = NPHD_OK;
    nphd_key key;

    if (vectors != NULL && (size_t)out->vectors.len / (width == 0 ? 1 : width) < capacity) {
        (void)PyOS_snprintf(err->text, sizeof(err->text),
                            "the vectors of the index became wider; begin again");
        return NPHD_TOO_SMALL;
    }
    for (*out_count = 0; *out_count < capacity; (*out_count)++) {
        size_t bytes = 0;
        status = cursor_step(copy, &key, vectors == NULL ? NULL : vectors + *out_count * width,
                             &bytes, err);
        if (status != NPHD_OK) {
            return status == NPHD_NOT_FOUND ? NPHD_OK : status;
        }
        core_key_write(out->keys.buf, *out_count, key, store->key_bits);
        if (vectors != NULL) {
            ((uint64_t *)out->lengths.buf)[*out_count] = bytes;
        }
    }
    return status;
}

static PyObject *cursor_read(PyObject *self, PyObject *arguments)
{
    core_cursor *cursor = (core_cursor *)self;
    core_cursor copy = *cursor;
    PyObject *key_object, *vector_object, *length_object;
    Py_ssize_t capacity;
    cursor_outputs out;
    size_t count = 0;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;
    PyObject *result = NULL;

    memset(&out, 0, sizeof(out));
    if (!PyArg_ParseTuple(arguments, "nOOO:read", &capacity, &key_object, &vector_object,
                          &length_object)) {
        return NULL;
    }
    if (capacity < 0 ||
        core_output(key_object, (size_t)capacity, cursor->store->key_bits / 8, &out.keys) != 0 ||
        (vector_object != Py_None && core_output(vector_object, 0, 1, &out.vectors) != 0) ||
        (vector_object != Py_None &&
         core_output(length_object, (size_t)capacity, sizeof(uint64_t), &out.lengths) != 0)) {
        goto done;
    }
    CORE_CALL(cursor->store, status = cursor_steps(&copy, &out, (size_t)capacity, &count, &err));
    cursor->single = copy.single;
    cursor->sharded = copy.sharded;
    if (status != NPHD_OK) {
        core_raise(status, &err);
        goto done;
    }
    result = PyLong_FromSize_t(count);
done:
    if (result == NULL && !PyErr_Occurred()) {
        PyErr_SetString(PyExc_ValueError, "read: capacity is below 0");
    }
    PyBuffer_Release(&out.lengths);
    PyBuffer_Release(&out.vectors);
    PyBuffer_Release(&out.keys);
    return result;
}

static PyMethodDef cursor_methods[] = {
    {"read", cursor_read, METH_VARARGS,
     "read(capacity, keys, vectors, lengths) -> how many; 0 after the last\n\n"
     "vectors: bytes for `capacity` vectors of the full width, or None with lengths."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot cursor_slots[] = {
    {Py_tp_dealloc, (void *)cursor_dealloc},
    {Py_tp_methods, cursor_methods},
    {Py_tp_doc, (void *)"A place in an index."},
    {0, NULL},
};

PyType_Spec core_cursor_spec = {
    .name = "nphd._core.Cursor",
    .basicsize = sizeof(core_cursor),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = cursor_slots,
};
