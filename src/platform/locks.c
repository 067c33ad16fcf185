/* Locks. The read-write lock is a pthread one behind a gate that everybody passes to get it: a
 * writer waits for the readers inside while it holds the gate, so no new reader overtakes it; a
 * reader behind a writer does the same, so no new writer overtakes the reader. */
#include "platform/platform.h"

#include "base/error.h"

#include <assert.h>
#include <sched.h>

/* Looks at a held spin lock before giving the processor away. A section under it is tens of
 * nanoseconds long; a holder that takes longer has lost its processor, and waiting for it costs
 * its time slice. */
#define SPIN_PAUSES 128

nphd_status nphdi_rwlock_init(nphdi_rwlock *lock, nphd_error *err)
{
    int os_error = pthread_mutex_init(&lock->gate, NULL);

    if (os_error != 0) {
        return nphdi_fail_os(err, os_error, "cannot create a lock");
    }
    os_error = pthread_rwlock_init(&lock->lock, NULL);
    if (os_error != 0) {
        (void)pthread_mutex_destroy(&lock->gate);
        return nphdi_fail_os(err, os_error, "cannot create a lock");
    }
    return NPHD_OK;
}

/* The calls below fail only for a lock that is broken or taken twice by one thread. */
static void lock_check(int os_error)
{
    assert(os_error == 0);
    (void)os_error;
}

void nphdi_rwlock_destroy(nphdi_rwlock *lock)
{
    lock_check(pthread_rwlock_destroy(&lock->lock));
    lock_check(pthread_mutex_destroy(&lock->gate));
}

void nphdi_rwlock_read(nphdi_rwlock *lock)
{
    lock_check(pthread_mutex_lock(&lock->gate));
    lock_check(pthread_rwlock_rdlock(&lock->lock));
    lock_check(pthread_mutex_unlock(&lock->gate));
}

void nphdi_rwlock_read_end(nphdi_rwlock *lock)
{
    lock_check(pthread_rwlock_unlock(&lock->lock));
}

void nphdi_rwlock_write(nphdi_rwlock *lock)
{
    lock_check(pthread_mutex_lock(&lock->gate));
    lock_check(pthread_rwlock_wrlock(&lock->lock));
    lock_check(pthread_mutex_unlock(&lock->gate));
}

void nphdi_rwlock_write_end(nphdi_rwlock *lock)
{
    lock_check(pthread_rwlock_unlock(&lock->lock));
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
