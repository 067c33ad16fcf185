/* Progress, filters and signals during a call of the library. */
#include "core.h"

#include <string.h>
#include <time.h>

/* Between two looks for signals, when nobody asked for progress: short for somebody at the
 * keyboard, long beside the cost of taking the interpreter's lock. */
#define SIGNAL_LOOK_MS 50

static uint64_t clock_ms(void)
{
    struct timespec now = {0, 0};

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int check_callable(PyObject *object, const char *what)
{
    if (object != Py_None && !PyCallable_Check(object)) {
        PyErr_Format(PyExc_TypeError, "%s must be callable or None", what);
        return -1;
    }
    return 0;
}

int core_watch_begin(core_watch *watch, PyObject *progress, PyObject *filter, uint32_t key_bits)
{
    memset(watch, 0, sizeof(*watch));
    if (check_callable(progress, "progress") != 0 || check_callable(filter, "filter") != 0) {
        return -1;
    }
    watch->progress = progress == Py_None ? NULL : progress;
    watch->filter = filter == Py_None ? NULL : filter;
    watch->key_bits = key_bits;
    watch->looked_ms = clock_ms();
    return 0;
}

/* Keeps the exception that is set; the first one counts. The interpreter's lock is held. */
static void watch_fail(core_watch *watch)
{
    if (atomic_load(&watch->failed)) {
        PyErr_Clear();
        return;
    }
    PyErr_Fetch(&watch->type, &watch->value, &watch->traceback);
    atomic_store(&watch->failed, true);
}

int core_watch_end(core_watch *watch)
{
    if (!atomic_load(&watch->failed)) {
        return 0;
    }
    PyErr_Restore(watch->type, watch->value, watch->traceback);
    return -1;
}

static int ask_progress(core_watch *watch, uint64_t done, uint64_t total)
{
    PyObject *answer = NULL;
    int stop = 0;

    if (PyErr_CheckSignals() != 0) {
        watch_fail(watch);
        return 1;
    }
    if (watch->progress == NULL) {
        return 0;
    }
    answer = PyObject_CallFunction(watch->progress, "KK", (unsigned long long)done,
                                   (unsigned long long)total);
    if (answer == NULL) {
        watch_fail(watch);
        return 1;
    }
    /* a function without a return statement wants to go on */
    stop = answer == Py_None ? 0 : PyObject_Not(answer);
    Py_DECREF(answer);
    if (stop < 0) {
        watch_fail(watch);
    }
    return stop != 0;
}

int core_watch_progress(void *context, uint64_t done, uint64_t total)
{
    core_watch *watch = context;

    if (atomic_load(&watch->failed)) {
        return 1;
    }
    if (watch->progress == NULL) {
        const uint64_t now_ms = clock_ms();
        if (now_ms - watch->looked_ms < SIGNAL_LOOK_MS) {
            return 0;
        }
        watch->looked_ms = now_ms;
    }
    const PyGILState_STATE state = PyGILState_Ensure();
    const int stop = ask_progress(watch, done, total);
    PyGILState_Release(state);
    return stop;
}

static int ask_filter(core_watch *watch, nphd_key key)
{
    uint8_t octets[16];
    PyObject *answer = NULL;
    int allowed;

    if (watch->key_bits == 64) {
        answer = PyObject_CallFunction(watch->filter, "K", (unsigned long long)key.low);
    } else {
        nphd_key_to_octets(key, octets);
        answer = PyObject_CallFunction(watch->filter, "y#", (const char *)octets,
                                       (Py_ssize_t)sizeof(octets));
    }
    allowed = answer == NULL ? -1 : PyObject_IsTrue(answer);
    Py_XDECREF(answer);
    return allowed;
}

static int ask_sink(core_watch *watch, size_t query, const nphd_match *match)
{
    uint8_t octets[16];
    PyObject *answer = NULL;
    int stop;

    if (watch->key_bits == 64) {
        answer = PyObject_CallFunction(watch->sink, "nKfI", (Py_ssize_t)query,
                                       (unsigned long long)match->key.low, (double)match->distance,
                                       match->variant);
    } else {
        nphd_key_to_octets(match->key, octets);
        answer = PyObject_CallFunction(watch->sink, "ny#fI", (Py_ssize_t)query,
                                       (const char *)octets, (Py_ssize_t)sizeof(octets),
                                       (double)match->distance, match->variant);
    }
    /* a function without a return statement wants to go on */
    stop = answer == NULL ? -1 : answer == Py_None ? 0 : PyObject_Not(answer);
    Py_XDECREF(answer);
    return stop;
}

int core_watch_match(void *context, size_t query, const nphd_match *match)
{
    core_watch *watch = context;

    if (atomic_load(&watch->failed)) {
        return 1;
    }
    const PyGILState_STATE state = PyGILState_Ensure();
    const int stop = ask_sink(watch, query, match);
    if (stop < 0) {
        watch_fail(watch);
    }
    PyGILState_Release(state);
    return stop != 0;
}

bool core_watch_filter(void *context, nphd_key key)
{
    core_watch *watch = context;

    if (atomic_load(&watch->failed)) {
        return false;
    }
    const PyGILState_STATE state = PyGILState_Ensure();
    const int allowed = ask_filter(watch, key);
    if (allowed < 0) {
        watch_fail(watch);
    }
    PyGILState_Release(state);
    return allowed > 0;
}
