/* Threads for the length of one call, where a thread that the system refuses is one worker fewer,
 * and single ones. Nothing is allocated here. */
#include "platform/platform.h"

#include "base/error.h"

#include <signal.h>
#include <string.h>

typedef struct thread_start {
    void (*work)(void *context, uint32_t worker);
    void *context;
    uint32_t worker;
    pthread_t thread;
} thread_start;

static void *thread_main(void *argument)
{
    const thread_start *start = argument;

    start->work(start->context, start->worker);
    return NULL;
}

/* Signals for the process go to the application's own threads. What a thread brings upon itself
 * (a touched page of a truncated file, say) cannot be held back: blocked, it would end the process
 * without asking the application's handler. */
static void threads_block_signals(sigset_t *out_old)
{
    sigset_t blocked;

    (void)sigfillset(&blocked);
    (void)sigdelset(&blocked, SIGSEGV);
    (void)sigdelset(&blocked, SIGBUS);
    (void)sigdelset(&blocked, SIGFPE);
    (void)sigdelset(&blocked, SIGILL);
    (void)pthread_sigmask(SIG_SETMASK, &blocked, out_old);
}

void nphdi_threads_run(uint32_t threads, void (*work)(void *context, uint32_t worker),
                       void *context)
{
    thread_start starts[NPHDI_THREADS_MAX];
    uint32_t started = 1; /* worker 0 is the calling thread */
    sigset_t old;

    if (threads > NPHDI_THREADS_MAX) {
        threads = NPHDI_THREADS_MAX;
    }
    if (threads > 1) {
        threads_block_signals(&old);
        for (; started < threads; started++) {
            thread_start *start = &starts[started];
            start->work = work;
            start->context = context;
            start->worker = started;
            if (pthread_create(&start->thread, NULL, thread_main, start) != 0) {
                break;
            }
        }
        (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    }
    work(context, 0);
    for (uint32_t i = 1; i < started; i++) {
        (void)pthread_join(starts[i].thread, NULL);
    }
}

static void *thread_single_main(void *argument)
{
    const nphdi_thread *thread = argument;

    thread->work(thread->context);
    return NULL;
}

nphd_status nphdi_thread_start(nphdi_thread *out, void (*work)(void *context), void *context,
                               nphd_error *err)
{
    sigset_t old;
    int os_error;

    memset(out, 0, sizeof(*out));
    out->work = work;
    out->context = context;
    threads_block_signals(&old);
    os_error = pthread_create(&out->thread, NULL, thread_single_main, out);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (os_error != 0) {
        memset(out, 0, sizeof(*out));
        return nphdi_fail_os(err, os_error, "cannot start a thread");
    }
    out->started = true; /* read by the owner alone */
    return NPHD_OK;
}

void nphdi_thread_join(nphdi_thread *thread)
{
    if (thread->started) {
        (void)pthread_join(thread->thread, NULL);
    }
    memset(thread, 0, sizeof(*thread));
}
