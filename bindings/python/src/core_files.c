/* Files looked at without an index, and plain values: metadata, verification, salvage, distances,
 * ISCC. */
#include "core.h"

#include <string.h>

/* ---- metadata ---- */

static PyObject *metadata_dict(const nphd_metadata *metadata)
{
    return Py_BuildValue(
        "{sK sK sK sK sK sK sK s(HHH) si si sI sI si sy# sO sO sO sO sO}", "file_bytes",
        metadata->file_bytes, "slots", metadata->slots, "present", metadata->present, "deleted",
        metadata->deleted, "dimensions", metadata->dimensions, "connectivity",
        metadata->connectivity, "generation", metadata->generation, "version", metadata->version[0],
        metadata->version[1], metadata->version[2], "metric_code",
        (int)(unsigned char)metadata->metric_code, "scalar_code", (int)metadata->scalar_code,
        "max_bits", metadata->max_bits, "key_bits", metadata->key_bits, "metric",
        (int)metadata->metric, "identity", (const char *)metadata->identity,
        (Py_ssize_t)sizeof(metadata->identity), "multi", metadata->multi ? Py_True : Py_False,
        "vectors_included", metadata->vectors_included ? Py_True : Py_False, "dimensions_64_bit",
        metadata->dimensions_64_bit ? Py_True : Py_False, "trailer",
        metadata->trailer ? Py_True : Py_False, "tables", metadata->tables ? Py_True : Py_False);
}

/* `what`: 'f' a file, 'd' a directory. Memory comes as an object with a buffer. */
static PyObject *metadata_read(PyObject *source, char what)
{
    nphd_metadata metadata = NPHD_METADATA_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    if (what == 'f' && PyObject_CheckBuffer(source)) {
        Py_buffer memory;
        if (PyObject_GetBuffer(source, &memory, PyBUF_SIMPLE) != 0) {
            return NULL;
        }
        status = nphd_buffer_metadata(memory.buf, (size_t)memory.len, &metadata, &err);
        PyBuffer_Release(&memory);
    } else {
        PyObject *path = core_path(source);
        if (path == NULL) {
            return NULL;
        }
        Py_BEGIN_ALLOW_THREADS;
        status = what == 'f'
                     ? nphd_file_metadata(PyBytes_AS_STRING(path), NULL, &metadata, &err)
                     : nphd_directory_metadata(PyBytes_AS_STRING(path), NULL, &metadata, &err);
        Py_END_ALLOW_THREADS;
        Py_DECREF(path);
    }
    if (status != NPHD_OK) {
        core_raise(status, &err);
        return NULL;
    }
    return metadata_dict(&metadata);
}

static PyObject *file_metadata(PyObject *module, PyObject *source)
{
    (void)module;
    return metadata_read(source, 'f');
}

static PyObject *directory_metadata(PyObject *module, PyObject *source)
{
    (void)module;
    return metadata_read(source, 'd');
}

/* ---- verification ---- */

/* Collects the lines about damage; called by the thread of the call, without its lock. */
static void take_damage(void *list, const char *text)
{
    const PyGILState_STATE state = PyGILState_Ensure();
    PyObject *line = PyUnicode_DecodeFSDefault(text);

    if (line == NULL || PyList_Append(list, line) != 0) {
        PyErr_Clear(); /* the status tells of the damage in any case */
    }
    Py_XDECREF(line);
    PyGILState_Release(state);
}

/* (whole, damage, report). A whole one may have lines too: what cannot be told from damage. */
static PyObject *verify_result(PyObject *damage, nphd_status status, const nphd_error *err,
                               PyObject *report)
{
    PyObject *result = NULL;
    PyObject *whole = status == NPHD_OK ? Py_True : Py_False;

    if (status != NPHD_OK && status != NPHD_CORRUPT) {
        core_raise(status, err);
    } else if (damage != NULL && report != NULL) {
        if (status == NPHD_CORRUPT && PyList_GET_SIZE(damage) == 0) {
            PyObject *line = PyUnicode_DecodeFSDefault(err->text);
            if (line != NULL && PyList_Append(damage, line) == 0) {
                result = PyTuple_Pack(3, whole, damage, report);
            }
            Py_XDECREF(line);
        } else {
            result = PyTuple_Pack(3, whole, damage, report);
        }
    }
    Py_XDECREF(report);
    Py_XDECREF(damage);
    return result;
}

/* What both kinds of verification need, from (path, progress). */
typedef struct verify_call {
    PyObject *path;
    PyObject *damage; /* lines */
    core_watch watch;
    nphd_verify_options options;
} verify_call;

static int verify_read(PyObject *arguments, verify_call *call)
{
    PyObject *source, *progress;

    memset(call, 0, sizeof(*call));
    if (!PyArg_ParseTuple(arguments, "OO:verify", &source, &progress) ||
        core_watch_begin(&call->watch, progress, Py_None, 64) != 0 ||
        (call->path = core_path(source)) == NULL) {
        return -1;
    }
    call->damage = PyList_New(0);
    if (call->damage == NULL) {
        Py_DECREF(call->path);
        return -1;
    }
    call->options.struct_size = sizeof(call->options);
    call->options.damage = take_damage;
    call->options.damage_context = call->damage;
    call->options.progress = core_watch_progress;
    call->options.progress_context = &call->watch;
    return 0;
}

/* -1: an exception of the progress function is set, and nothing is left to let go of. */
static int verify_end(verify_call *call)
{
    Py_DECREF(call->path);
    if (core_watch_end(&call->watch) != 0) {
        Py_DECREF(call->damage);
        return -1;
    }
    return 0;
}

static PyObject *file_verify(PyObject *module, PyObject *arguments)
{
    nphd_verify_report report;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;
    verify_call call;

    (void)module;
    if (verify_read(arguments, &call) != 0) {
        return NULL;
    }
    memset(&report, 0, sizeof(report));
    Py_BEGIN_ALLOW_THREADS;
    status = nphd_file_verify_with(PyBytes_AS_STRING(call.path), &call.options, &report, &err);
    Py_END_ALLOW_THREADS;
    if (verify_end(&call) != 0) {
        return NULL;
    }
    return verify_result(call.damage, status, &err,
                         Py_BuildValue("{sK sK sK sK sO}", "file_bytes", report.file_bytes,
                                       "blocks", report.blocks, "damaged_blocks", report.damaged,
                                       "slots", report.slots, "checksums",
                                       report.checksums ? Py_True : Py_False));
}

static PyObject *directory_verify(PyObject *module, PyObject *arguments)
{
    nphd_directory_report report;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;
    verify_call call;

    (void)module;
    if (verify_read(arguments, &call) != 0) {
        return NULL;
    }
    memset(&report, 0, sizeof(report));
    Py_BEGIN_ALLOW_THREADS;
    status = nphd_directory_verify_with(PyBytes_AS_STRING(call.path), &call.options, &report, &err);
    Py_END_ALLOW_THREADS;
    if (verify_end(&call) != 0) {
        return NULL;
    }
    return verify_result(call.damage, status, &err,
                         Py_BuildValue("{sK sK sK sK sK sK}", "files", report.files, "file_bytes",
                                       report.file_bytes, "damaged_files", report.damaged_files,
                                       "unverified_files", report.unverified_files, "blocks",
                                       report.blocks, "damaged_blocks", report.damaged_blocks));
}

static PyObject *directory_salvage(PyObject *module, PyObject *arguments)
{
    nphd_salvage_report report;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;
    nphd_salvage_options options = NPHD_SALVAGE_OPTIONS_INIT;
    PyObject *from_object, *to_object, *progress;
    PyObject *from = NULL, *to = NULL, *damage = NULL, *result = NULL;
    core_watch watch;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "OOO:directory_salvage", &from_object, &to_object,
                          &progress) ||
        core_watch_begin(&watch, progress, Py_None, 64) != 0 ||
        (from = core_path(from_object)) == NULL || (to = core_path(to_object)) == NULL ||
        (damage = PyList_New(0)) == NULL) {
        goto done;
    }
    memset(&report, 0, sizeof(report));
    options.damage = take_damage;
    options.damage_context = damage;
    options.progress = core_watch_progress;
    options.progress_context = &watch;
    Py_BEGIN_ALLOW_THREADS;
    status = nphd_directory_salvage_with(PyBytes_AS_STRING(from), PyBytes_AS_STRING(to), &options,
                                         &report, &err);
    Py_END_ALLOW_THREADS;
    core_log_deliver();
    if (core_watch_end(&watch) != 0) {
        goto done;
    }
    if (status != NPHD_OK) {
        core_raise(status, &err);
        goto done;
    }
    result = Py_BuildValue("(OKKK)", damage, report.vectors, report.unreadable, report.files);
done:
    Py_XDECREF(damage);
    Py_XDECREF(to);
    Py_XDECREF(from);
    return result;
}

/* ---- distances ---- */

static nphd_status distance_each(const core_vectors *a, const core_vectors *b, bool hamming,
                                 float *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint32_t bits = 0;

    for (size_t i = 0; i < a->count && status == NPHD_OK; i++) {
        if (hamming) {
            status = nphd_hamming(a->items[i], b->items[i], &bits, err);
            out[i] = (float)bits;
        } else {
            status = nphd_distance(a->items[i], b->items[i], &out[i], err);
        }
    }
    return status;
}

static PyObject *distances(PyObject *module, PyObject *arguments)
{
    PyObject *a_object, *b_object, *out_object;
    int hamming;
    core_vectors a = {0};
    core_vectors b = {0};
    Py_buffer out = {0};
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;
    int result = -1;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "OOpO:distances", &a_object, &b_object, &hamming,
                          &out_object) ||
        core_vectors_read(a_object, &a) != 0 || core_vectors_read(b_object, &b) != 0) {
        goto done;
    }
    if (a.count != b.count) {
        PyErr_SetString(PyExc_ValueError, "the numbers of vectors must match");
        goto done;
    }
    if (core_output(out_object, a.count, sizeof(float), &out) != 0) {
        goto done;
    }
    Py_BEGIN_ALLOW_THREADS;
    status = distance_each(&a, &b, hamming != 0, out.buf, &err);
    Py_END_ALLOW_THREADS;
    result = status == NPHD_OK ? 0 : core_raise(status, &err);
done:
    PyBuffer_Release(&out);
    core_vectors_release(&b);
    core_vectors_release(&a);
    if (result != 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* (main type, sub type, version, bits, text, name of its type) */
static PyObject *iscc_facts(const nphd_iscc *iscc)
{
    char text[NPHD_ISCC_TEXT_BYTES];
    char name[NPHD_UNIT_NAME_BYTES];

    (void)nphd_iscc_encode(iscc, text, NULL); /* it was decoded */
    return Py_BuildValue("(iiiy#ss)", (int)iscc->main_type, (int)iscc->sub_type, (int)iscc->version,
                         (const char *)iscc->body, (Py_ssize_t)iscc->bytes, text,
                         nphd_unit_name(nphd_iscc_unit(iscc), name));
}

static PyObject *iscc_decode(PyObject *module, PyObject *text)
{
    nphd_iscc iscc;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;
    Py_ssize_t bytes = 0;
    const char *utf8 = PyUnicode_AsUTF8AndSize(text, &bytes);

    (void)module;
    if (utf8 == NULL) {
        return NULL;
    }
    status = nphd_iscc_decode(utf8, (size_t)bytes, &iscc, &err);
    if (status != NPHD_OK) {
        core_raise(status, &err);
        return NULL;
    }
    return iscc_facts(&iscc);
}

static PyObject *iscc_encode(PyObject *module, PyObject *arguments)
{
    nphd_iscc iscc = {.bytes = 0};
    char text[NPHD_ISCC_TEXT_BYTES];
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;
    const char *body;
    Py_ssize_t bytes;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "bbby#:iscc_encode", &iscc.main_type, &iscc.sub_type,
                          &iscc.version, &body, &bytes)) {
        return NULL;
    }
    if ((size_t)bytes > sizeof(iscc.body)) {
        PyErr_SetString(PyExc_ValueError, "iscc_encode: the body is too long");
        return NULL;
    }
    iscc.bytes = (uint8_t)bytes;
    memcpy(iscc.body, body, (size_t)bytes);
    status = nphd_iscc_encode(&iscc, text, &err);
    if (status != NPHD_OK) {
        core_raise(status, &err);
        return NULL;
    }
    return PyUnicode_FromString(text);
}

static PyObject *iscc_decompose(PyObject *module, PyObject *text)
{
    nphd_iscc units[NPHD_ISCC_MAX_UNITS];
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;
    size_t count = 0;
    Py_ssize_t bytes = 0;
    const char *utf8 = PyUnicode_AsUTF8AndSize(text, &bytes);
    PyObject *list;

    (void)module;
    if (utf8 == NULL) {
        return NULL;
    }
    status = nphd_iscc_decompose(utf8, (size_t)bytes, units, NPHD_ISCC_MAX_UNITS, &count, &err);
    if (status != NPHD_OK) {
        core_raise(status, &err);
        return NULL;
    }
    list = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; list != NULL && i < count; i++) {
        PyObject *facts = iscc_facts(&units[i]);

        if (facts == NULL) {
            Py_CLEAR(list);
        } else {
            PyList_SET_ITEM(list, (Py_ssize_t)i, facts);
        }
    }
    return list;
}

PyMethodDef core_files_methods[] = {
    {"file_metadata", file_metadata, METH_O, "file_metadata(path or bytes) -> dict"},
    {"directory_metadata", directory_metadata, METH_O, "directory_metadata(path) -> dict"},
    {"file_verify", file_verify, METH_VARARGS,
     "file_verify(path, progress) -> (whole, lines, dict)"},
    {"directory_verify", directory_verify, METH_VARARGS,
     "directory_verify(path, progress) -> (whole, lines, dict)"},
    {"directory_salvage", directory_salvage, METH_VARARGS,
     "directory_salvage(path, new_path, progress) -> (lines about damage, vectors, unreadable, "
     "files)"},
    {"distances", distances, METH_VARARGS,
     "distances(a, b, hamming, out): between vectors in the same places, 32-bit floats."},
    {"iscc_encode", iscc_encode, METH_VARARGS,
     "iscc_encode(main type, sub type, version, bits) -> text"},
    {"iscc_decode", iscc_decode, METH_O,
     "iscc_decode(text) -> (main type, sub type, version, bits, text, name of the type)"},
    {"iscc_decompose", iscc_decompose, METH_O,
     "iscc_decompose(text) -> what iscc_decode() tells, of each unit"},
    {NULL, NULL, 0, NULL},
};
