/* Locks. The read-write lock is one atomic number for readers that meet no writer, and a mutex with
 * queues for everybody else. Invariants:
 *   (1) the bit NPHDI_RWLOCK_WRITER is changed under the mutex alone; it stands from the moment
 *       that a writer is chosen until one ends with no other behind it;
 *   (2) a reader has the lock when it counted itself in while the bit did not stand, or was counted
 *       in by the writer that ended; one that met the bit takes its count back and queues, so the
 *       count may be too high for a moment but never too low;
 *   (3) whoever brings the count to 0 while the bit stands wakes the chosen writer.
 * The order of phases (readers, one writer, all readers that wait, one writer, ...) is that of
 * Brandenburg and Anderson, "Reader-Writer Synchronization for Shared-Memory Multiprocessor
 * Real-Time Systems" (2009). */
#include "platform/platform.h"

#include "base/error.h"

#include <assert.h>
#include <sched.h>
#include <string.h>

/* Looks at a held spin lock before giving the processor away. A section under it is tens of
 * nanoseconds long; a holder that takes longer has lost its processor, and waiting for it costs
 * its time slice. */
#define SPIN_PAUSES 128

/* A writer in the queue, on its own stack. */
struct nphdi_rwlock_waiter {
    pthread_cond_t wake;
    bool chosen;
    struct nphdi_rwlock_waiter *next;
};

/* Most calls below fail only for a lock that is broken or taken twice by one thread. */
static void lock_check(int os_error)
{
    assert(os_error == 0);
    (void)os_error;
}

nphd_status nphdi_rwlock_init(nphdi_rwlock *lock, nphd_error *err)
{
    int os_error = pthread_mutex_init(&lock->mutex, NULL);

    if (os_error != 0) {
        goto failed;
    }
    os_error = pthread_cond_init(&lock->admitted, NULL);
    if (os_error != 0) {
        goto failed_mutex;
    }
    os_error = pthread_cond_init(&lock->drained, NULL);
    if (os_error != 0) {
        goto failed_admitted;
    }
    atomic_init(&lock->state, 0);
    lock->phase = 0;
    lock->waiting_readers = 0;
    lock->writer_chosen = false;
    lock->first = NULL;
    lock->last = &lock->first;
    return NPHD_OK;

failed_admitted:
    (void)pthread_cond_destroy(&lock->admitted);
failed_mutex:
    (void)pthread_mutex_destroy(&lock->mutex);
failed:
    return nphdi_fail_os(err, os_error, "cannot create a lock");
}

void nphdi_rwlock_destroy(nphdi_rwlock *lock)
{
    assert(atomic_load_explicit(&lock->state, memory_order_relaxed) == 0);
    lock_check(pthread_cond_destroy(&lock->drained));
    lock_check(pthread_cond_destroy(&lock->admitted));
    lock_check(pthread_mutex_destroy(&lock->mutex));
}

bool nphdi_mutex_adopt(pthread_mutex_t *mutex)
{
    const bool was_free = pthread_mutex_trylock(mutex) == 0;

    if (was_free) {
        lock_check(pthread_mutex_unlock(mutex));
    } else {
        lock_check(pthread_mutex_init(mutex, NULL));
    }
    return was_free;
}

/* Nothing is destroyed: a condition would wait for the threads that wait for it. */
void nphdi_rwlock_adopt(nphdi_rwlock *lock, bool *out_reader, bool *out_writer)
{
    const unsigned state = atomic_load(&lock->state);

    *out_reader = (state & ~NPHDI_RWLOCK_WRITER) != 0;
    *out_writer = (state & NPHDI_RWLOCK_WRITER) != 0;
    memset(lock, 0, sizeof(*lock));
    lock_check(nphdi_rwlock_init(lock, NULL) == NPHD_OK ? 0 : 1);
}

/* The writer counts the readers under the mutex and sleeps without it, so taking it here makes sure
 * that the wake-up does not come between the two. */
void nphdi_rwlock_tell_writer(nphdi_rwlock *lock)
{
    lock_check(pthread_mutex_lock(&lock->mutex));
    lock_check(pthread_cond_signal(&lock->drained));
    lock_check(pthread_mutex_unlock(&lock->mutex));
}

void nphdi_rwlock_read_wait(nphdi_rwlock *lock)
{
    nphdi_rwlock_read_end(lock); /* not inside: takes the count back */
    lock_check(pthread_mutex_lock(&lock->mutex));
    if ((atomic_load_explicit(&lock->state, memory_order_relaxed) & NPHDI_RWLOCK_WRITER) == 0) {
        (void)atomic_fetch_add_explicit(&lock->state, 1, memory_order_acquire);
    } else {
        const uint64_t phase = lock->phase;
        lock->waiting_readers++;
        while (lock->phase == phase) {
            lock_check(pthread_cond_wait(&lock->admitted, &lock->mutex));
        }
    }
    lock_check(pthread_mutex_unlock(&lock->mutex));
}

static void rwlock_queue(nphdi_rwlock *lock)
{
    struct nphdi_rwlock_waiter self = {.wake = PTHREAD_COND_INITIALIZER};

    *lock->last = &self;
    lock->last = &self.next;
    while (!self.chosen) {
        lock_check(pthread_cond_wait(&self.wake, &lock->mutex));
    }
    lock_check(pthread_cond_destroy(&self.wake));
}

void nphdi_rwlock_write(nphdi_rwlock *lock)
{
    lock_check(pthread_mutex_lock(&lock->mutex));
    if (lock->writer_chosen) {
        rwlock_queue(lock);
    } else {
        lock->writer_chosen = true;
        (void)atomic_fetch_or_explicit(&lock->state, NPHDI_RWLOCK_WRITER, memory_order_relaxed);
    }
    while (atomic_load_explicit(&lock->state, memory_order_acquire) != NPHDI_RWLOCK_WRITER) {
        lock_check(pthread_cond_wait(&lock->drained, &lock->mutex));
    }
    lock_check(pthread_mutex_unlock(&lock->mutex));
}

void nphdi_rwlock_write_end(nphdi_rwlock *lock)
{
    struct nphdi_rwlock_waiter *next;

    lock_check(pthread_mutex_lock(&lock->mutex));
    next = lock->first;
    if (lock->waiting_readers > 0) {
        (void)atomic_fetch_add_explicit(&lock->state, lock->waiting_readers, memory_order_release);
        lock->waiting_readers = 0;
        lock->phase++;
        lock_check(pthread_cond_broadcast(&lock->admitted));
    }
    if (next == NULL) {
        lock->writer_chosen = false;
        (void)atomic_fetch_and_explicit(&lock->state, ~NPHDI_RWLOCK_WRITER, memory_order_release);
    } else { /* the bit stays: readers that come now wait until the next writer has had its turn */
        lock->first = next->next;
        if (lock->first == NULL) {
            lock->last = &lock->first;
        }
        next->chosen = true;
        lock_check(pthread_cond_signal(&next->wake));
    }
    lock_check(pthread_mutex_unlock(&lock->mutex));
}

static inline void spin_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

void nphdi_spin_wait(nphdi_spinlock *lock)
{
    do {
        int pauses = 0;
        while (atomic_load_explicit(&lock->held, memory_order_relaxed) != 0) {
            if (++pauses < SPIN_PAUSES) {
                spin_pause();
            } else {
                pauses = 0;
                (void)sched_yield();
            }
        }
    } while (atomic_exchange_explicit(&lock->held, 1, memory_order_acquire) != 0);
}
