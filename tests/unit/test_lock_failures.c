/* Locks that the system refuses to make: every call that makes some is told in turn that there is
 * no memory for the N-th, answers NPHD_OUT_OF_MEMORY with nothing half open, and succeeds
 * afterwards.
 *
 * The program's own definitions of the functions stand before those of the C library. Sanitizers
 * put theirs in the same place: with them nothing is refused. */
#include "support/io_memory.h"

#include <nphd/nphd.h>

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

/* Number n of the calls is refused, from 1; 0: none. */
static _Atomic int refuse_at;
static _Atomic int called;

#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__)

#define REFUSALS_LEAST 2

static bool refuses(void)
{
    return refuse_at != 0 && ++called == refuse_at;
}

/* A function of the C library; the detour over memory since ISO C has no such conversion. */
#define NEXT(name)                                                                                 \
    __typeof__(&(name)) next;                                                                      \
    void *found = dlsym(RTLD_NEXT, #name);                                                         \
    memcpy(&next, &found, sizeof(next))

int pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes)
{
    NEXT(pthread_mutex_init);
    return refuses() ? ENOMEM : next(mutex, attributes);
}

int pthread_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attributes)
{
    NEXT(pthread_cond_init);
    return refuses() ? ENOMEM : next(cond, attributes);
}

int pthread_condattr_init(pthread_condattr_t *attributes)
{
    NEXT(pthread_condattr_init);
    return refuses() ? ENOMEM : next(attributes);
}

int pthread_condattr_setclock(pthread_condattr_t *attributes, clockid_t clock)
{
    NEXT(pthread_condattr_setclock);
    return refuses() ? EINVAL : next(attributes, clock);
}

#else
#define REFUSALS_LEAST 0
#endif

static const nphd_io *io;

static void silent(void *context, nphd_log_level level, const char *text)
{
    (void)context;
    (void)level;
    (void)text;
}

static nphd_status create_index(nphd_error *err)
{
    nphd_index *index = NULL;
    const nphd_status status = nphd_index_create(NULL, &index, err);

    assert_true((status == NPHD_OK) == (index != NULL));
    nphd_index_close(index);
    return status;
}

static nphd_status view_file(nphd_error *err)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;
    nphd_status status;

    options.io = io;
    status = nphd_index_create(&options, &index, err);
    if (status == NPHD_OK) {
        status = nphd_index_view(index, "file.usearch", NULL, err);
    }
    nphd_index_close(index);
    return status;
}

static nphd_status verify_file(nphd_error *err)
{
    return nphd_file_verify("file.usearch", io, NULL, NULL, NULL, err);
}

static nphd_status open_directory(nphd_error *err)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    nphd_sharded *sharded = NULL;
    nphd_status status;

    options.io = io;
    options.logger = silent;
    options.journal = true;
    options.background_rotation = true;
    status = nphd_sharded_open("directory", &options, &sharded, err);
    assert_true((status == NPHD_OK) == (sharded != NULL));
    nphd_sharded_free(sharded);
    return status;
}

static void sweep(nphd_status (*call)(nphd_error *err), int refusals_least)
{
    nphd_status status = NPHD_OK;
    int refusals = 0;

    for (int n = 1; n == 1 || status != NPHD_OK; n++) {
        nphd_error err = NPHD_ERROR_INIT;
        called = 0;
        refuse_at = n;
        status = call(&err);
        refuse_at = 0;
        if (status != NPHD_OK) {
            refusals++;
            /* NPHD_IO: of the clock of a condition, which is not a matter of memory */
            assert_true(status == NPHD_OUT_OF_MEMORY || status == NPHD_IO);
            assert_true(strlen(err.text) > 0);
        }
        assert_true(n < 1000);
        OK(call(NULL));
    }
    assert_true(refusals >= refusals_least);
}

static void test_refused_locks(void **unused)
{
    memory_io *disk = memory_io_create(1);
    nphd_index *index = NULL;
    nphd_sharded *sharded = NULL;
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_sharded_options sharded_options = NPHD_SHARDED_OPTIONS_INIT;
    const uint8_t bits[8] = {1, 2, 3};
    const nphd_vector vector = {bits, sizeof(bits)};
    const nphd_key key = nphd_key_u64(1);

    (void)unused;
    io = memory_io_table(disk);
    options.io = io;
    sharded_options.io = io;
    OK(nphd_index_create(&options, &index, NULL));
    OK(nphd_index_add(index, key, vector, NULL, NULL));
    OK(nphd_index_save(index, "file.usearch", NULL, NULL));
    nphd_index_close(index);
    OK(nphd_sharded_open("directory", &sharded_options, &sharded, NULL));
    OK(nphd_sharded_add(sharded, key, vector, NULL, NULL));
    OK(nphd_sharded_close(sharded, NULL));
    nphd_sharded_free(sharded);
    sweep(create_index, REFUSALS_LEAST);
    sweep(view_file, REFUSALS_LEAST);
    sweep(verify_file, REFUSALS_LEAST / 2);
    sweep(open_directory, REFUSALS_LEAST);
    assert_int_equal(memory_io_open_files(disk), 0);
    assert_int_equal(memory_io_maps(disk), 0);
    assert_int_equal(memory_io_mistakes(disk), 0);
    memory_io_destroy(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_refused_locks)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
