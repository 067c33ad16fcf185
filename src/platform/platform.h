/* The operating system behind the I/O table, and threads. Nothing else in the library calls it. */
#ifndef NPHDI_PLATFORM_H
#define NPHDI_PLATFORM_H

#include "base/hash.h"

#include <nphd/allocator.h>
#include <nphd/io.h>
#include <nphd/status.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- tables ---- */

/* Files of the operating system. */
const nphd_io *nphdi_io_posix(void);

/* Does the table reach beyond a field? offset_after_field: NPHDI_IO_END(field). The field itself
 * may still be NULL. */
#define NPHDI_IO_END(field) (offsetof(nphd_io, field) + sizeof(((nphd_io *)NULL)->field))
bool nphdi_io_has(const nphd_io *io, size_t offset_after_field);

/* NPHD_UNSUPPORTED, naming what is missing, for a table without the functions for directories:
 * make_directory, list, lock and copy. */
nphd_status nphdi_io_check_directories(const nphd_io *io, nphd_error *err);

/* malloc and mmap. */
const nphd_allocator *nphdi_allocator_system(void);

/* For one table in memory: from the system, whatever I/O table its owner has. */
void nphdi_secret_draw(nphdi_hash_secret *out);

/* ---- processes ---- */

/* The process that a handle belongs to. Zero: none was noted. */
typedef struct nphdi_process {
    _Atomic uint64_t *mark; /* a number that is another one in every child process */
    _Atomic uint64_t born;  /* the number where the handle is at home */
} nphdi_process;

/* This process. */
nphd_status nphdi_process_note(nphdi_process *out, nphd_error *err);

/* Is this still the process that was noted, or that has adopted the handle since? */
static inline bool nphdi_process_is_same(const nphdi_process *process)
{
    return atomic_load_explicit(process->mark, memory_order_relaxed) ==
           atomic_load_explicit(&process->born, memory_order_acquire);
}

/* Was it noted, and is this another process? */
static inline bool nphdi_process_is_other(const nphdi_process *process)
{
    return process->mark != NULL && !nphdi_process_is_same(process);
}

typedef enum nphdi_adoption {
    NPHDI_ADOPTION_DONE,  /* the handle is usable here */
    NPHDI_ADOPTION_BEGUN, /* the caller makes it so, while others wait: nphdi_process_adopted() */
    NPHDI_ADOPTION_TORN   /* it can not be made so */
} nphdi_adoption;

/* Makes a handle that was inherited by a fork usable in this process. Its locks may be held by
 * threads that do not exist here, so they are made anew. */
nphdi_adoption nphdi_process_adopt(nphdi_process *process);
/* whole: false when a thread that does not exist here was in the middle of a change. */
void nphdi_process_adopted(nphdi_process *process, bool whole);

/* ---- locks ---- */

/* Makes a mutex of the process before the fork new. Returns whether nobody held it. */
bool nphdi_mutex_adopt(pthread_mutex_t *mutex);

/* A read-write lock that starves nobody: a waiting writer holds new readers back, a writer that
 * ends lets in all readers that wait before the next writer, and writers come in the order of their
 * calls. Not recursive. */
typedef struct nphdi_rwlock {
    atomic_uint state; /* readers inside, and NPHDI_RWLOCK_WRITER */
    pthread_mutex_t mutex;
    pthread_cond_t admitted; /* readers wait for the end of a writer */
    pthread_cond_t drained;  /* the next writer waits for the readers inside */
    uint64_t phase;          /* grows when waiting readers are let in */
    uint32_t waiting_readers;
    bool writer_chosen;                        /* a writer is inside or is the next one */
    struct nphdi_rwlock_waiter *first, **last; /* writers behind that one */
} nphdi_rwlock;

/* A writer is inside, or waits for the readers inside to leave. */
#define NPHDI_RWLOCK_WRITER 0x80000000u

nphd_status nphdi_rwlock_init(nphdi_rwlock *lock, nphd_error *err);

/* After every other call on the lock has returned. */
void nphdi_rwlock_destroy(nphdi_rwlock *lock);
/* Makes a lock of the process before the fork new. *out_reader, *out_writer: somebody had it for
 * reading; somebody had it for writing, or was next. */
void nphdi_rwlock_adopt(nphdi_rwlock *lock, bool *out_reader, bool *out_writer);
void nphdi_rwlock_write(nphdi_rwlock *lock);
void nphdi_rwlock_write_end(nphdi_rwlock *lock);

void nphdi_rwlock_read_wait(nphdi_rwlock *lock);   /* the slow path of nphdi_rwlock_read */
void nphdi_rwlock_tell_writer(nphdi_rwlock *lock); /* the slow path of nphdi_rwlock_read_end */

static inline void nphdi_rwlock_read(nphdi_rwlock *lock)
{
    if ((atomic_fetch_add_explicit(&lock->state, 1, memory_order_acquire) & NPHDI_RWLOCK_WRITER) !=
        0) {
        nphdi_rwlock_read_wait(lock);
    }
}

static inline void nphdi_rwlock_read_end(nphdi_rwlock *lock)
{
    if (atomic_fetch_sub_explicit(&lock->state, 1, memory_order_release) ==
        (NPHDI_RWLOCK_WRITER | 1)) {
        nphdi_rwlock_tell_writer(lock);
    }
}

/* A lock in one byte for very short sections (one list of graph links). Zero: free. */
typedef struct nphdi_spinlock {
    atomic_uchar held;
} nphdi_spinlock;

void nphdi_spin_wait(nphdi_spinlock *lock); /* the slow path of nphdi_spin_lock */

static inline void nphdi_spin_lock(nphdi_spinlock *lock)
{
    if (atomic_exchange_explicit(&lock->held, 1, memory_order_acquire) != 0) {
        nphdi_spin_wait(lock);
    }
}

static inline void nphdi_spin_unlock(nphdi_spinlock *lock)
{
    atomic_store_explicit(&lock->held, 0, memory_order_release);
}

/* A mutex and a condition, for threads that wait for something to be changed or for a time. */
typedef struct nphdi_signal {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
} nphdi_signal;

nphd_status nphdi_signal_init(nphdi_signal *signal, nphd_error *err);
void nphdi_signal_destroy(nphdi_signal *signal);
void nphdi_signal_adopt(nphdi_signal *signal); /* of the process before the fork: makes it new */
void nphdi_signal_lock(nphdi_signal *signal);
void nphdi_signal_unlock(nphdi_signal *signal);
void nphdi_signal_broadcast(nphdi_signal *signal); /* wakes all that wait; with or without lock */

/* Gives the lock up, sleeps until a broadcast or the deadline by nphdi_clock_ms (UINT64_MAX: none),
 * and takes the lock again. Returns whether the time ran out. May also wake for no reason: wait in
 * a loop that looks at what was waited for. */
bool nphdi_signal_wait(nphdi_signal *signal, uint64_t deadline_ms);

/* Milliseconds from some start, never set back. */
uint64_t nphdi_clock_ms(void);
/* The same in nanoseconds. */
uint64_t nphdi_clock_ns(void);

/* ---- threads ---- */

/* No call runs more workers than this. */
#define NPHDI_THREADS_MAX 256

/* Runs `work(context, worker)` for worker = 0..threads-1, worker 0 on the calling thread, and
 * returns when all have returned. Workers must share the work among themselves (an atomic counter):
 * where the system refuses a thread, fewer workers run, at the least worker 0. In the new threads
 * all signals are blocked but those that a thread raises by a fault of its own (SIGSEGV, SIGBUS,
 * SIGFPE, SIGILL). */
void nphdi_threads_run(uint32_t threads, void (*work)(void *context, uint32_t worker),
                       void *context);

/* One thread of its own, with signals blocked as above. Zero: none. Stays where it is until it is
 * joined. */
typedef struct nphdi_thread {
    pthread_t thread;
    void (*work)(void *context);
    void *context;
    bool started;
} nphdi_thread;

/* NPHD_OUT_OF_MEMORY or NPHD_IO where the system refuses; *out is zero then. */
nphd_status nphdi_thread_start(nphdi_thread *out, void (*work)(void *context), void *context,
                               nphd_error *err);

/* Waits until `work` has returned. Takes a zero one; leaves it zero. */
void nphdi_thread_join(nphdi_thread *thread);

/* ---- files ---- */

/* Opens an existing file for reading and tells its size. */
nphd_status nphdi_file_open(const nphd_io *io, const char *path, nphd_file *out_file,
                            uint64_t *out_bytes, nphd_error *err);

/* Reads exactly `bytes` bytes at `offset`; the end of the file inside them is NPHD_CORRUPT.
 * `name` is for the error text. */
nphd_status nphdi_file_read(const nphd_io *io, nphd_file file, const char *name, uint64_t offset,
                            void *buffer, size_t bytes, nphd_error *err);

/* Removes a file. A missing one is fine. sync: flushes its directory too, also when the file was
 * missing, since it may have been removed without that; NPHD_DURABILITY_UNKNOWN when only the flush
 * failed. */
nphd_status nphdi_file_remove(const nphd_io *io, const char *path, bool sync, nphd_error *err);

/* ---- directories; the table must have passed nphdi_io_check_directories ---- */

/* The names in a directory, sorted by their bytes. Zero: none. */
typedef struct nphdi_names {
    char **names;
    size_t count;
    size_t room;
    const nphd_allocator *allocator;
} nphdi_names;

/* On failure *out is zero. */
nphd_status nphdi_directory_list(const nphd_io *io, const char *path,
                                 const nphd_allocator *allocator, nphdi_names *out,
                                 nphd_error *err);
void nphdi_names_free(nphdi_names *names); /* leaves it zero, takes a zero one */

/* Makes a directory and its missing parents, each durable by a flush of its own parent before the
 * next is made. One that is there is fine: it is flushed too, where its parent may be opened, since
 * whoever made it may have ended before that. NPHD_EXISTS: a file has the name. */
nphd_status nphdi_directory_make(const nphd_io *io, const char *path,
                                 const nphd_allocator *allocator, nphd_error *err);

/* `directory/name` in *out, to be freed as *room bytes; NULL and 0 on failure. */
nphd_status nphdi_path_join(const nphd_allocator *allocator, const char *directory,
                            const char *name, char **out, size_t *room, nphd_error *err);

/* The path of the file that `path` means (resolve of the table; `path` itself where there is none),
 * to be freed as *room bytes; NULL and 0 on failure. */
nphd_status nphdi_path_resolve(const nphd_io *io, const nphd_allocator *allocator, const char *path,
                               char **out, size_t *room, nphd_error *err);

/* `path` itself, or behind the working directory if it is relative; no link is followed. To be
 * freed as *room bytes; NULL and 0 on failure. Where the table cannot tell: `path` itself. */
nphd_status nphdi_path_from_root(const nphd_io *io, const nphd_allocator *allocator,
                                 const char *path, char **out, size_t *room, nphd_error *err);

/* The bytes of `path` that name the directory it is in; 0: the current one. */
size_t nphdi_path_directory_bytes(const char *path);

/* Writing a file durably and atomically (docs/durability.md, rules 2 and 5). */
typedef struct nphdi_replacement {
    const nphd_io *io;
    const nphd_allocator *allocator;
    char *path;      /* as the caller calls it */
    char *target;    /* the final name, with links followed */
    char *temporary; /* the name while writing, in the same directory */
    char *directory;
    size_t room; /* of each of these */
    nphd_file file;
    uint64_t written_bytes;
    bool open;    /* `file` is open */
    bool created; /* `temporary` exists */
} nphdi_replacement;

/* Creates `<path>.tmp-<16 hex digits>` and sets `expected_bytes` of space aside (0: unknown). If
 * that name is too long it is `nphd-<16 hex digits of the hash of the name>.tmp-<16 hex digits>`.
 * Where the table can tell, symbolic links at the end of `path` are followed, anything but a file
 * is refused, and the new file has permissions and owner of the old one. On failure nothing is left
 * behind and the replacement is zero. */
nphd_status nphdi_replacement_begin(nphdi_replacement *replacement, const nphd_io *io,
                                    const nphd_allocator *allocator, const char *path,
                                    uint64_t expected_bytes, nphd_error *err);

/* Appends; continues short writes and repeats EINTR. A failed write ends the replacement: the
 * temporary file is removed and further calls answer NPHD_STOPPED. */
nphd_status nphdi_replacement_write(nphdi_replacement *replacement, const void *data, size_t bytes,
                                    nphd_error *err);

/* Flush, close, rename, flush of the directory. NPHD_DURABILITY_UNKNOWN when only the last failed.
 * A flush or close that failed, by EINTR too, is not tried again: the temporary file is removed. */
nphd_status nphdi_replacement_commit(nphdi_replacement *replacement, nphd_error *err);

/* Ends it in every case: closes and removes what is left of the temporary file and frees. Takes a
 * zero-initialised one. */
void nphdi_replacement_end(nphdi_replacement *replacement);

#endif
