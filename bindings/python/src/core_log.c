/* Messages of the library on their way to Python.
 *
 * The library tells them from any thread and under its locks. A handler of Python's logging may do
 * anything, also ask the index that the message is about. So a message is only queued here, and
 * delivered where no lock of the library is held: at the end of the next call into this module by
 * any thread, or by the main thread between two of its bytecodes, whichever comes first. */
#include "core.h"

#include <stdlib.h>
#include <string.h>

typedef struct log_line {
    struct log_line *next;
    nphd_log_level level;
    char text[];
} log_line;

PyObject *core_log_receiver;

static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static log_line *queue_first;
static log_line **queue_end = &queue_first;
static _Atomic bool queue_filled;
static _Atomic bool wake_asked;
static _Atomic bool wake_ended;

static log_line *queue_take(void)
{
    log_line *line;

    (void)pthread_mutex_lock(&queue_lock);
    line = queue_first;
    if (line != NULL) {
        queue_first = line->next;
        if (queue_first == NULL) {
            queue_end = &queue_first;
            atomic_store(&queue_filled, false);
        }
    }
    (void)pthread_mutex_unlock(&queue_lock);
    return line;
}

static int deliver_pending(void *unused)
{
    (void)unused;
    atomic_store(&wake_asked, false);
    core_log_deliver();
    return 0;
}

void core_log_take(void *context, nphd_log_level level, const char *text)
{
    const size_t bytes = strlen(text) + 1;
    /* not from Python's allocator, which wants the interpreter's lock */
    log_line *line = malloc(sizeof(*line) + bytes);

    (void)context;
    if (line == NULL) {
        return; /* a message is not worth failing for */
    }
    line->next = NULL;
    line->level = level;
    memcpy(line->text, text, bytes);
    (void)pthread_mutex_lock(&queue_lock);
    *queue_end = line;
    queue_end = &line->next;
    atomic_store(&queue_filled, true);
    (void)pthread_mutex_unlock(&queue_lock);
    if (!atomic_load(&wake_ended) && !atomic_exchange(&wake_asked, true) &&
        Py_AddPendingCall(deliver_pending, NULL) != 0) {
        atomic_store(&wake_asked, false);
    }
}

void core_log_forked(void)
{
    (void)pthread_mutex_init(&queue_lock, NULL);
    queue_first = NULL;
    queue_end = &queue_first;
    atomic_store(&queue_filled, false);
    atomic_store(&wake_asked, false);
}

void core_log_deliver(void)
{
    PyObject *type;
    PyObject *value;
    PyObject *traceback;

    if (!atomic_load(&queue_filled)) {
        return;
    }
    PyErr_Fetch(&type, &value, &traceback);
    for (log_line *line = queue_take(); line != NULL; line = queue_take()) {
        if (core_log_receiver != NULL) {
            /* the text may quote a path in any encoding */
            PyObject *text =
                PyUnicode_DecodeUTF8(line->text, (Py_ssize_t)strlen(line->text), "replace");
            PyObject *answer = text == NULL ? NULL
                                            : PyObject_CallFunction(core_log_receiver, "iO",
                                                                    (int)line->level, text);
            if (answer == NULL) {
                PyErr_WriteUnraisable(core_log_receiver);
            }
            Py_XDECREF(answer);
            Py_XDECREF(text);
        }
        free(line);
    }
    PyErr_Restore(type, value, traceback);
}

PyObject *core_log_close(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    atomic_store(&wake_ended, true);
    core_log_deliver();
    Py_RETURN_NONE;
}
