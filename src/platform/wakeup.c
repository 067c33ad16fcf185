/* Waiting for a change or for a time, by a clock that nobody sets. */
#include "platform/platform.h"

#include "base/error.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <time.h>

static void signal_check(int os_error)
{
    assert(os_error == 0);
    (void)os_error;
}

static int signal_init_cond(pthread_cond_t *cond)
{
#ifdef __APPLE__
    return pthread_cond_init(cond, NULL); /* waits for a length of time instead */
#else
    pthread_condattr_t attributes;
    int os_error = pthread_condattr_init(&attributes);

    if (os_error != 0) {
        return os_error;
    }
    os_error = pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    if (os_error == 0) {
        os_error = pthread_cond_init(cond, &attributes);
    }
    (void)pthread_condattr_destroy(&attributes);
    return os_error;
#endif
}

nphd_status nphdi_signal_init(nphdi_signal *signal, nphd_error *err)
{
    int os_error = pthread_mutex_init(&signal->mutex, NULL);

    if (os_error == 0) {
        os_error = signal_init_cond(&signal->cond);
        if (os_error != 0) {
            (void)pthread_mutex_destroy(&signal->mutex);
        }
    }
    return os_error == 0 ? NPHD_OK : nphdi_fail_os(err, os_error, "cannot create a signal");
}

void nphdi_signal_destroy(nphdi_signal *signal)
{
    signal_check(pthread_cond_destroy(&signal->cond));
    signal_check(pthread_mutex_destroy(&signal->mutex));
}

/* The condition is not destroyed: that would wait for the threads that wait for it. */
void nphdi_signal_adopt(nphdi_signal *signal)
{
    memset(signal, 0, sizeof(*signal));
    signal_check(nphdi_signal_init(signal, NULL) == NPHD_OK ? 0 : 1);
}

void nphdi_signal_lock(nphdi_signal *signal)
{
    signal_check(pthread_mutex_lock(&signal->mutex));
}

void nphdi_signal_unlock(nphdi_signal *signal)
{
    signal_check(pthread_mutex_unlock(&signal->mutex));
}

void nphdi_signal_broadcast(nphdi_signal *signal)
{
    signal_check(pthread_cond_broadcast(&signal->cond));
}

static struct timespec signal_time(uint64_t ms)
{
    return (struct timespec){.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
}

bool nphdi_signal_wait(nphdi_signal *signal, uint64_t deadline_ms)
{
    struct timespec until;
    int os_error;

    if (deadline_ms == UINT64_MAX) {
        signal_check(pthread_cond_wait(&signal->cond, &signal->mutex));
        return false;
    }
#ifdef __APPLE__
    const uint64_t now = nphdi_clock_ms();
    until = signal_time(deadline_ms > now ? deadline_ms - now : 0);
    os_error = pthread_cond_timedwait_relative_np(&signal->cond, &signal->mutex, &until);
#else
    until = signal_time(deadline_ms);
    os_error = pthread_cond_timedwait(&signal->cond, &signal->mutex, &until);
#endif
    assert(os_error == 0 || os_error == ETIMEDOUT);
    return os_error == ETIMEDOUT;
}

uint64_t nphdi_clock_ns(void)
{
    struct timespec now = {0, 0};

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t nphdi_clock_ms(void)
{
    return nphdi_clock_ns() / 1000000;
}
