/* What the files of the extension module `nphd._core` share.
 *
 * The module works on arrays: keys, vectors and answers are buffers that the Python files around it
 * provide, so that neither side copies and no version of NumPy is compiled in. It adds no algorithm
 * to the library.
 *
 * The lock of the interpreter and the locks of the library: every call of the library on a handle
 * is made without the interpreter's lock, short ones too, because a thread that waited for a lock
 * of the library with it would stop a progress callback or filter that needs it. Messages of the
 * library are queued, and given to Python when no lock of the library is held (core_log.c). */
#ifndef NPHD_CORE_H
#define NPHD_CORE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <nphd/nphd.h>
#include <pthread.h>
#include <stdatomic.h>

/* ---- errors (core_module.c) ---- */

/* Sets the Python exception for a failed call; returns -1. */
int core_raise(nphd_status status, const nphd_error *err);
/* The same; returns NULL. */
PyObject *core_raised(nphd_status status, const nphd_error *err);

/* Forks between the process that loaded the module and this one. */
extern _Atomic unsigned core_forks;

/* ---- arguments (core_arguments.c) ---- */

typedef struct core_keys {
    nphd_key *items; /* NULL when None was given */
    size_t count;
} core_keys;

/* One key: an integer, or 16 bytes. */
int core_key_read(PyObject *object, uint32_t key_bits, nphd_key *out);
/* One key (an integer; 16 bytes) or a contiguous array of them; None where `optional`. */
int core_keys_read(PyObject *object, uint32_t key_bits, bool optional, core_keys *out);
void core_keys_release(core_keys *keys);

/* Borrows the bytes of vectors; nothing is copied. */
typedef struct core_vectors {
    nphd_vector *items;
    size_t count;
    Py_buffer *buffers;
    size_t buffer_count;
} core_vectors;

/* An array of unsigned bytes, of one dimension (one vector) or two (one in each row, whose bytes
 * stand side by side), or a sequence of those of one dimension. */
int core_vectors_read(PyObject *object, core_vectors *out);
void core_vectors_release(core_vectors *vectors);

/* A contiguous array to write `count` items of `size` bytes to. */
int core_output(PyObject *object, size_t count, size_t size, Py_buffer *out);
int core_count_matches(size_t keys, size_t vectors);
/* A path as the library takes it. The caller lets go of the result. */
PyObject *core_path(PyObject *object);
void core_key_write(void *array, size_t place, nphd_key key, uint32_t key_bits);

/* ---- callbacks from within a call (core_watch.c) ---- */

/* Hands progress and filtering to Python functions, and notices signals. Their first exception ends
 * the call and is raised from it. */
typedef struct core_watch {
    PyObject *progress; /* NULL, or called with (done, total); False ends the call */
    PyObject *filter;   /* NULL, or called with a key; true keeps it */
    PyObject *sink;     /* NULL, or called with (query, key, distance, variant); likewise */
    uint32_t key_bits;
    _Atomic bool failed;
    PyObject *type;
    PyObject *value;
    PyObject *traceback;
    uint64_t looked_ms;
} core_watch;

/* Callables or None. */
int core_watch_begin(core_watch *watch, PyObject *progress, PyObject *filter, uint32_t key_bits);
/* Raises the exception of a callback, if there was one: -1. */
int core_watch_end(core_watch *watch);
int core_watch_progress(void *context, uint64_t done, uint64_t total);
bool core_watch_filter(void *context, nphd_key key);
int core_watch_match(void *context, size_t query, const nphd_match *match);

/* ---- messages of the library (core_log.c) ---- */

void core_log_take(void *context, nphd_log_level level, const char *text);
/* Gives what is queued to Python. With the interpreter's lock, without any of the library. */
void core_log_deliver(void);
/* From now on messages wait for the next call instead of waking the main thread. */
PyObject *core_log_close(PyObject *module, PyObject *unused);
/* In a child process: what was queued is told by the parent. */
void core_log_forked(void);
extern PyObject *core_log_receiver; /* called with (level, text), or NULL */

/* ---- indexes (core_store.c) ---- */

/* The calls that one index and a sharded one have in common. */
typedef struct core_calls {
    nphd_status (*add)(void *handle, const nphd_key *keys, const nphd_vector *vectors, size_t count,
                       const nphd_batch_options *options, nphd_key *out_keys, size_t *out_added,
                       nphd_error *err);
    nphd_status (*upsert)(void *handle, const nphd_key *keys, const nphd_vector *vectors,
                          size_t count, const nphd_batch_options *options,
                          nphd_upsert_counts *out_counts, nphd_error *err);
    nphd_status (*remove)(void *handle, const nphd_key *keys, size_t count, size_t *out_removed,
                          nphd_error *err);
    nphd_status (*contains_many)(void *handle, const nphd_key *keys, size_t count, bool *out,
                                 nphd_error *err);
    nphd_status (*count)(void *handle, nphd_key key, size_t *out, nphd_error *err);
    nphd_status (*get_many)(void *handle, const nphd_key *keys, size_t count, uint8_t *out,
                            size_t *out_bytes, nphd_error *err);
    nphd_status (*get_all)(void *handle, nphd_key key, uint8_t *out, size_t *out_bytes,
                           size_t capacity, size_t *out_count, nphd_error *err);
    nphd_status (*search)(void *handle, const nphd_vector *queries, size_t query_count,
                          size_t capacity, const nphd_search_options *options, nphd_match *out,
                          nphd_search_report *reports, nphd_error *err);
    nphd_status (*radius_stream)(void *handle, const nphd_vector *queries, size_t query_count,
                                 float radius, const nphd_search_options *options,
                                 nphd_match_sink sink, void *context, nphd_search_report *reports,
                                 nphd_error *err);
    nphd_status (*prepare)(void *handle, const nphd_batch_options *options, nphd_error *err);
    nphd_status (*set_breadth)(void *handle, uint32_t build, uint32_t search, nphd_error *err);
    uint64_t (*size)(void *handle);
    uint64_t (*dirty)(void *handle);
    size_t (*max_bytes)(void *handle);
    nphd_status (*set_unit)(void *handle, nphd_unit unit, bool mix, nphd_error *err);
    nphd_unit (*unit)(void *handle);
} core_calls;

typedef struct core_store {
    PyObject_HEAD const core_calls *calls;
    void *handle;
    uint32_t key_bits;
    bool closed;            /* of a sharded index */
    unsigned forks;         /* core_forks when its locks were made */
    pthread_rwlock_t width; /* read: by every call that relies on the width of the vectors; write:
                               by those that may change it */
    Py_buffer pinned;       /* what a view of memory looks at; obj NULL: nothing */
} core_store;

extern PyType_Spec core_store_spec;
extern PyTypeObject *core_store_type;
extern PyTypeObject *core_index_type;
extern PyTypeObject *core_sharded_type;
extern PyTypeObject *core_cursor_type;
extern PyTypeObject *core_pairs_type;
extern PyType_Spec core_index_spec;
extern PyType_Spec core_sharded_spec;
extern PyType_Spec core_cursor_spec;
extern PyType_Spec core_pairs_spec;
extern PyType_Spec core_bloom_spec;

/* A new object around a handle; when this fails the handle still belongs to the caller. */
core_store *core_store_wrap(PyTypeObject *type, const core_calls *calls, void *handle,
                            uint32_t key_bits);
/* What is left to do for the types built on this one, once their handle is freed. */
void core_store_free(core_store *store);
/* Before its lock is taken, with the interpreter's: in a child process after a fork it may be held
 * by a thread that is not there, and is made anew. */
void core_store_here(core_store *store);
/* Refuses an index that was closed: -1. */
int core_store_check(const core_store *store);
PyObject *core_store_search(PyObject *self, PyObject *arguments);
PyObject *core_store_cursor(PyObject *self, PyObject *unused);
PyObject *core_store_radius_stream(PyObject *self, PyObject *arguments);
extern const char core_search_doc[];
extern const char core_radius_stream_doc[];

/* Runs a call of the library without the interpreter's lock and beside nothing that changes the
 * width of the vectors; then gives the messages of the library to Python. */
#define CORE_CALL(store, call)                                                                     \
    do {                                                                                           \
        core_store_here(store);                                                                    \
        Py_BEGIN_ALLOW_THREADS;                                                                    \
        (void)pthread_rwlock_rdlock(&(store)->width);                                              \
        call;                                                                                      \
        (void)pthread_rwlock_unlock(&(store)->width);                                              \
        Py_END_ALLOW_THREADS;                                                                      \
        core_log_deliver();                                                                        \
    } while (0)

/* ---- files, apart from any index (core_files.c) ---- */

extern PyMethodDef core_files_methods[];

/* ---- two indexes (core_join.c) ---- */

extern PyMethodDef core_join_methods[];

#endif
