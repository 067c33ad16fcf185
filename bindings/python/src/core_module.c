/* The module `nphd._core` itself. */
#include "core.h"

PyTypeObject *core_store_type;
PyTypeObject *core_index_type;
PyTypeObject *core_sharded_type;
PyTypeObject *core_cursor_type;
PyTypeObject *core_pairs_type;

/* Makes an exception of (status, os_error, text). */
static PyObject *make_error;

int core_raise(nphd_status status, const nphd_error *err)
{
    PyObject *text =
        PyUnicode_DecodeFSDefault(err->text[0] != '\0' ? err->text : nphd_status_text(status));
    PyObject *error = NULL;

    if (text != NULL && make_error != NULL) {
        error = PyObject_CallFunction(make_error, "iiO", (int)status, err->os_error, text);
    }
    if (error != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    } else if (text != NULL && make_error == NULL) {
        PyErr_SetObject(PyExc_RuntimeError, text);
    }
    Py_XDECREF(error);
    Py_XDECREF(text);
    return -1;
}

PyObject *core_raised(nphd_status status, const nphd_error *err)
{
    (void)core_raise(status, err);
    return NULL;
}

static PyObject *set_hooks(PyObject *module, PyObject *arguments)
{
    PyObject *error;
    PyObject *receiver;

    (void)module;
    if (!PyArg_ParseTuple(arguments, "OO:set_hooks", &error, &receiver)) {
        return NULL;
    }
    Py_INCREF(error);
    Py_INCREF(receiver);
    Py_XSETREF(make_error, error);
    Py_XSETREF(core_log_receiver, receiver);
    Py_RETURN_NONE;
}

static PyMethodDef module_methods[] = {
    {"set_hooks", set_hooks, METH_VARARGS,
     "set_hooks(make_error, log): functions that make exceptions and take messages."},
    {"close_log", core_log_close, METH_NOARGS,
     "close_log(): deliver messages, and wake the main thread for none that come later."},
    {NULL, NULL, 0, NULL},
};

_Atomic unsigned core_forks;

static void forked(void)
{
    (void)atomic_fetch_add(&core_forks, 1);
    core_log_forked();
}

static PyTypeObject *add_type(PyObject *module, PyType_Spec *spec, PyTypeObject *base,
                              const char *name)
{
    PyObject *type =
        base == NULL ? PyType_FromSpec(spec) : PyType_FromSpecWithBases(spec, (PyObject *)base);

    if (type != NULL && PyModule_AddObjectRef(module, name, type) != 0) {
        Py_CLEAR(type);
    }
    return (PyTypeObject *)type;
}

static int add_constants(PyObject *module)
{
    return PyModule_AddStringConstant(module, "version", nphd_version()) == 0 &&
                   PyModule_AddStringConstant(module, "kernel_name", nphd_kernel_name()) == 0 &&
                   PyModule_AddIntConstant(module, "max_bytes", NPHD_MAX_BYTES) == 0
               ? 0
               : -1;
}

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "nphd._core",
    .m_doc = "The C library libnphd on arrays. Use the package nphd.",
    .m_size = -1,
    .m_methods = module_methods,
};

PyMODINIT_FUNC PyInit__core(void);

PyMODINIT_FUNC PyInit__core(void)
{
    PyObject *module = PyModule_Create(&module_definition);

    if (module == NULL) {
        return NULL;
    }
    core_store_type = add_type(module, &core_store_spec, NULL, "Store");
    core_index_type =
        core_store_type ? add_type(module, &core_index_spec, core_store_type, "Index") : NULL;
    core_sharded_type =
        core_index_type ? add_type(module, &core_sharded_spec, core_store_type, "Sharded") : NULL;
    core_cursor_type =
        core_sharded_type ? add_type(module, &core_cursor_spec, NULL, "Cursor") : NULL;
    core_pairs_type = core_cursor_type ? add_type(module, &core_pairs_spec, NULL, "Pairs") : NULL;
    if (core_pairs_type == NULL || add_type(module, &core_bloom_spec, NULL, "Bloom") == NULL ||
        PyModule_AddFunctions(module, core_files_methods) != 0 ||
        PyModule_AddFunctions(module, core_join_methods) != 0 || add_constants(module) != 0 ||
        pthread_atfork(NULL, NULL, forked) != 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
