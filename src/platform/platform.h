/* The operating system behind the I/O table, and threads. Nothing else in the library calls it. */
#ifndef NPHDI_PLATFORM_H
#define NPHDI_PLATFORM_H

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

/* malloc and mmap. */
const nphd_allocator *nphdi_allocator_system(void);

/* The memory of the machine; a guess where the system does not tell. */
uint64_t nphdi_memory_bytes(void);

/* ---- locks ---- */

/* A read-write lock that starves nobody: a waiting writer holds new readers back. Not recursive. */
typedef struct nphdi_rwlock {
    pthread_mutex_t gate;
    pthread_rwlock_t lock;
} nphdi_rwlock;

nphd_status nphdi_rwlock_init(nphdi_rwlock *lock, nphd_error *err);
void nphdi_rwlock_destroy(nphdi_rwlock *lock);
void nphdi_rwlock_read(nphdi_rwlock *lock);
void nphdi_rwlock_read_end(nphdi_rwlock *lock);
void nphdi_rwlock_write(nphdi_rwlock *lock);
void nphdi_rwlock_write_end(nphdi_rwlock *lock);

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

/* ---- files ---- */

/* Opens an existing file for reading and tells its size. */
nphd_status nphdi_file_open(const nphd_io *io, const char *path, nphd_file *out_file,
                            uint64_t *out_bytes, nphd_error *err);

/* Reads exactly `bytes` bytes at `offset`; the end of the file inside them is NPHD_CORRUPT.
 * `name` is for the error text. */
nphd_status nphdi_file_read(const nphd_io *io, nphd_file file, const char *name, uint64_t offset,
                            void *buffer, size_t bytes, nphd_error *err);

/* Writing a file durably and atomically (docs/durability.md, rules 2 and 5). */
typedef struct nphdi_replacement {
    const nphd_io *io;
    const nphd_allocator *allocator;
    char *path;      /* the final name */
    char *temporary; /* the name while writing, in the same directory */
    char *directory;
    size_t path_room;
    nphd_file file;
    uint64_t written_bytes;
    bool open;    /* `file` is open */
    bool created; /* `temporary` exists */
} nphdi_replacement;

/* Creates `<path>.tmp-<16 hex digits>` and sets `expected_bytes` of space aside (0: unknown). On
 * failure nothing is left behind and the replacement is zero. */
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
