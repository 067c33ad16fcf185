/* The read-write lock among many threads: exclusion, and that neither side starves the other; the
 * signal and its deadlines; single threads. */
#include "platform/platform.h"

#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

static void sleep_us(long us)
{
    const struct timespec time = {0, us * 1000};

    (void)nanosleep(&time, NULL);
}

/* ---- exclusion ---- */

typedef struct lock_work {
    nphdi_rwlock lock;
    atomic_int readers; /* inside, as the threads themselves count */
    atomic_int writers;
    atomic_uint mistakes;
    uint64_t left; /* equal outside the write lock; not atomic, for ThreadSanitizer to watch */
    uint64_t right;
    uint32_t writer_threads;
    uint32_t rounds;
} lock_work;

static void exclude_write(lock_work *work)
{
    nphdi_rwlock_write(&work->lock);
    if (atomic_fetch_add(&work->writers, 1) != 0 || atomic_load(&work->readers) != 0) {
        atomic_fetch_add(&work->mistakes, 1);
    }
    work->left++;
    (void)sched_yield(); /* the others come and find it taken */
    work->right++;
    atomic_fetch_sub(&work->writers, 1);
    nphdi_rwlock_write_end(&work->lock);
}

static void exclude_read(lock_work *work)
{
    nphdi_rwlock_read(&work->lock);
    atomic_fetch_add(&work->readers, 1);
    if (atomic_load(&work->writers) != 0 || work->left != work->right) {
        atomic_fetch_add(&work->mistakes, 1);
    }
    (void)sched_yield();
    atomic_fetch_sub(&work->readers, 1);
    nphdi_rwlock_read_end(&work->lock);
}

static void exclude_worker(void *context, uint32_t worker)
{
    lock_work *work = context;

    for (uint32_t i = 0; i < work->rounds; i++) {
        if (worker < work->writer_threads || i % 16 == worker % 16) {
            exclude_write(work);
        } else {
            exclude_read(work);
        }
    }
}

static void exclude_run(uint32_t threads, uint32_t writer_threads, uint32_t rounds)
{
    lock_work work = {.writer_threads = writer_threads, .rounds = rounds};

    assert_int_equal(nphdi_rwlock_init(&work.lock, NULL), NPHD_OK);
    nphdi_threads_run(threads, exclude_worker, &work);
    assert_int_equal(atomic_load(&work.mistakes), 0);
    assert_int_equal(work.left, work.right);
    assert_true(work.left >= (uint64_t)writer_threads * rounds);
    assert_int_equal(atomic_load(&work.lock.state), 0);
    nphdi_rwlock_destroy(&work.lock);
}

static void test_exclusion(void **state)
{
    (void)state;
    exclude_run(1, 0, 1000);
    exclude_run(2, 1, 4000);
    exclude_run(5, 2, 3000);
    exclude_run(8, 8, 500);
    exclude_run(NPHDI_THREADS_MAX, 8, 60);
    exclude_run(NPHDI_THREADS_MAX, 200, 10);
}

#define SHARING_THREADS 8

/* Every reader stays inside until all are. */
static void share_worker(void *context, uint32_t worker)
{
    lock_work *work = context;
    const uint64_t until = nphdi_clock_ms() + 20000;

    (void)worker;
    nphdi_rwlock_read(&work->lock);
    atomic_fetch_add(&work->readers, 1);
    while (atomic_load(&work->readers) < SHARING_THREADS && nphdi_clock_ms() < until) {
        sleep_us(100);
    }
    if (atomic_load(&work->readers) != SHARING_THREADS) {
        atomic_fetch_add(&work->mistakes, 1);
    }
    nphdi_rwlock_read_end(&work->lock);
}

static void test_readers_share(void **state)
{
    lock_work work = {.rounds = 1};

    (void)state;
    assert_int_equal(nphdi_rwlock_init(&work.lock, NULL), NPHD_OK);
    nphdi_threads_run(SHARING_THREADS, share_worker, &work);
    assert_int_equal(atomic_load(&work.readers), SHARING_THREADS);
    assert_int_equal(atomic_load(&work.mistakes), 0);
    nphdi_rwlock_destroy(&work.lock);
}

/* ---- nobody starves ---- */

#define TURNS 20

/* The threads of the one kind hold the lock by turns without a gap, until the thread of the other
 * kind has had all its turns or they give up. */
typedef struct starve_work {
    nphdi_rwlock lock;
    bool crowd_writes;
    atomic_uint inside; /* of the crowd, ever */
    atomic_bool done;
    uint32_t turns;
} starve_work;

#define CROWD_GIVES_UP 20000

static void starve_enter(starve_work *work, bool write)
{
    if (write) {
        nphdi_rwlock_write(&work->lock);
    } else {
        nphdi_rwlock_read(&work->lock);
    }
}

static void starve_leave(starve_work *work, bool write)
{
    if (write) {
        nphdi_rwlock_write_end(&work->lock);
    } else {
        nphdi_rwlock_read_end(&work->lock);
    }
}

static void starve_worker(void *context, uint32_t worker)
{
    starve_work *work = context;

    if (worker == 0) {
        while (atomic_load(&work->inside) < 10) {
            sleep_us(200);
        }
        for (; work->turns < TURNS && atomic_load(&work->inside) < CROWD_GIVES_UP; work->turns++) {
            starve_enter(work, !work->crowd_writes);
            starve_leave(work, !work->crowd_writes);
        }
        atomic_store(&work->done, true);
    }
    while (!atomic_load(&work->done) && atomic_load(&work->inside) < CROWD_GIVES_UP) {
        starve_enter(work, work->crowd_writes);
        atomic_fetch_add(&work->inside, 1);
        sleep_us(500);
        starve_leave(work, work->crowd_writes);
    }
}

static void starve_run(bool crowd_writes)
{
    starve_work work = {.crowd_writes = crowd_writes};

    assert_int_equal(nphdi_rwlock_init(&work.lock, NULL), NPHD_OK);
    nphdi_threads_run(7, starve_worker, &work);
    assert_int_equal(work.turns, TURNS);
    nphdi_rwlock_destroy(&work.lock);
}

static void test_a_writer_gets_in_among_readers(void **state)
{
    (void)state;
    starve_run(false);
}

static void test_a_reader_gets_in_among_writers(void **state)
{
    (void)state;
    starve_run(true);
}

/* ---- the order of turns ---- */

#define QUEUE_THREADS 6

typedef struct queue_work {
    nphdi_rwlock lock;
    atomic_uint ready;
    uint32_t order[QUEUE_THREADS];
    atomic_uint served;
} queue_work;

static bool queue_is_reader(uint32_t worker)
{
    return worker == 3;
}

/* Another number with every thread that comes to wait for a writer to end. */
static uint64_t queue_sum(queue_work *work)
{
    uint64_t sum;

    assert_int_equal(pthread_mutex_lock(&work->lock.mutex), 0);
    sum = (uint64_t)(uintptr_t)work->lock.last + work->lock.waiting_readers;
    assert_int_equal(pthread_mutex_unlock(&work->lock.mutex), 0);
    return sum;
}

/* Worker 0 holds the lock while the others come one after the other. */
static void queue_worker(void *context, uint32_t worker)
{
    queue_work *work = context;

    if (worker == 0) {
        nphdi_rwlock_write(&work->lock);
        for (uint32_t i = 1; i < QUEUE_THREADS; i++) {
            const uint64_t before = queue_sum(work);
            atomic_store(&work->ready, i);
            while (queue_sum(work) == before) {
                sleep_us(100);
            }
        }
        nphdi_rwlock_write_end(&work->lock);
        return;
    }
    while (atomic_load(&work->ready) < worker) {
        sleep_us(100);
    }
    if (queue_is_reader(worker)) {
        nphdi_rwlock_read(&work->lock);
        work->order[atomic_fetch_add(&work->served, 1)] = worker;
        nphdi_rwlock_read_end(&work->lock);
    } else {
        nphdi_rwlock_write(&work->lock);
        work->order[atomic_fetch_add(&work->served, 1)] = worker;
        nphdi_rwlock_write_end(&work->lock);
    }
}

/* The reader goes before all writers that wait, and these in the order of their calls. */
static void test_turns_come_in_order(void **state)
{
    static const uint32_t expected[QUEUE_THREADS - 1] = {3, 1, 2, 4, 5};
    queue_work work = {.served = 0};

    (void)state;
    assert_int_equal(nphdi_rwlock_init(&work.lock, NULL), NPHD_OK);
    nphdi_threads_run(QUEUE_THREADS, queue_worker, &work);
    assert_int_equal(atomic_load(&work.served), QUEUE_THREADS - 1);
    assert_memory_equal(work.order, expected, sizeof(expected));
    nphdi_rwlock_destroy(&work.lock);
}

/* ---- signals and single threads ---- */

typedef struct ping {
    nphdi_signal signal;
    uint32_t turn; /* even: the test's, odd: the thread's */
    uint32_t turns;
    bool wrong_mask;
} ping;

static void ping_work(void *context)
{
    ping *game = context;
    sigset_t mask;

    (void)pthread_sigmask(SIG_BLOCK, NULL, &mask);
    game->wrong_mask = sigismember(&mask, SIGINT) != 1 || sigismember(&mask, SIGBUS) != 0;
    nphdi_signal_lock(&game->signal);
    while (game->turn < game->turns) {
        if (game->turn % 2 == 1) {
            game->turn++;
            nphdi_signal_broadcast(&game->signal);
        } else {
            (void)nphdi_signal_wait(&game->signal, UINT64_MAX);
        }
    }
    nphdi_signal_unlock(&game->signal);
}

static void test_signal_between_threads(void **state)
{
    ping game = {.turns = 400};
    nphdi_thread thread;
    bool late = false;

    (void)state;
    assert_int_equal(nphdi_signal_init(&game.signal, NULL), NPHD_OK);
    assert_int_equal(nphdi_thread_start(&thread, ping_work, &game, NULL), NPHD_OK);
    nphdi_signal_lock(&game.signal);
    while (game.turn < game.turns && !late) {
        if (game.turn % 2 == 0) {
            game.turn++;
            nphdi_signal_broadcast(&game.signal);
        } else {
            late = nphdi_signal_wait(&game.signal, nphdi_clock_ms() + 20000);
        }
    }
    nphdi_signal_unlock(&game.signal);
    nphdi_thread_join(&thread);
    assert_false(late);
    assert_false(game.wrong_mask);
    assert_false(thread.started);
    nphdi_thread_join(&thread); /* a zero one */
    nphdi_signal_destroy(&game.signal);
}

static void test_signal_deadlines(void **state)
{
    const uint64_t before = nphdi_clock_ms();
    nphdi_signal signal;

    (void)state;
    assert_int_equal(nphdi_signal_init(&signal, NULL), NPHD_OK);
    nphdi_signal_lock(&signal);
    assert_true(nphdi_signal_wait(&signal, 0)); /* long past */
    while (!nphdi_signal_wait(&signal, before + 30)) {
    }
    assert_in_range(nphdi_clock_ms(), before + 30, before + 20000);
    nphdi_signal_unlock(&signal);
    nphdi_signal_destroy(&signal);
}

static void test_thread_refused_by_the_system(void **state)
{
    (void)state;
#ifdef __GLIBC__
    nphd_error err = NPHD_ERROR_INIT;
    pthread_attr_t attributes;
    nphdi_thread thread;
    size_t old = 0;

    assert_int_equal(pthread_getattr_default_np(&attributes), 0);
    assert_int_equal(pthread_attr_getstacksize(&attributes, &old), 0);
    assert_int_equal(pthread_attr_setstacksize(&attributes, (size_t)1 << 62), 0);
    assert_int_equal(pthread_setattr_default_np(&attributes), 0);
    const nphd_status status = nphdi_thread_start(&thread, ping_work, NULL, &err);
    assert_int_equal(pthread_attr_setstacksize(&attributes, old), 0);
    assert_int_equal(pthread_setattr_default_np(&attributes), 0);
    (void)pthread_attr_destroy(&attributes);
    assert_int_not_equal(status, NPHD_OK);
    assert_int_equal(err.status, status);
    assert_false(thread.started);
    nphdi_thread_join(&thread);
#else
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exclusion),
        cmocka_unit_test(test_readers_share),
        cmocka_unit_test(test_a_writer_gets_in_among_readers),
        cmocka_unit_test(test_a_reader_gets_in_among_writers),
        cmocka_unit_test(test_turns_come_in_order),
        cmocka_unit_test(test_signal_between_threads),
        cmocka_unit_test(test_signal_deadlines),
        cmocka_unit_test(test_thread_refused_by_the_system),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
