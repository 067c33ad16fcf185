/* Threads that add to one bloom filter, reserve room in it and write it, all at once. */
#include "support/allocator_fault.h"
#include "support/bloom_bytes.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>

#include <cmocka.h>

enum { THREADS = 3, THREAD_KEYS = 20000 };

typedef struct adder {
    nphdi_bloom *bloom;
    uint64_t first_key;
    _Atomic uint64_t *done; /* keys of this thread that are in */
} adder;

static void *run_adder(void *context)
{
    const adder *here = context;

    for (uint64_t i = 0; i < THREAD_KEYS; i++) {
        if (nphdi_bloom_reserve(here->bloom, 1, NULL) != NPHD_OK) {
            abort();
        }
        nphdi_bloom_add(here->bloom, nphd_key_u64(here->first_key + i));
        atomic_store_explicit(here->done, i + 1, memory_order_release);
    }
    return NULL;
}

/* Writes the filter while others add, and finds in the file what was in before. */
static void check_snapshot(nphdi_bloom *bloom, _Atomic uint64_t done[THREADS],
                           allocator_fault *allocator)
{
    uint64_t before[THREADS];
    bloom_bytes file = {0};
    nphdi_bloom *copy;

    for (uint64_t t = 0; t < THREADS; t++) {
        before[t] = atomic_load_explicit(&done[t], memory_order_acquire);
    }
    assert_int_equal(bloom_bytes_write(bloom, &file, NULL), NPHD_OK);
    assert_int_equal(bloom_bytes_read(&file, &allocator->table, 8, &copy, NULL), NPHD_OK);
    for (uint64_t t = 0; t < THREADS; t++) {
        for (uint64_t i = 0; i < before[t]; i++) {
            assert_true(nphdi_bloom_maybe(bloom, nphd_key_u64(t * THREAD_KEYS + i)));
            assert_true(nphdi_bloom_maybe(copy, nphd_key_u64(t * THREAD_KEYS + i)));
        }
    }
    nphdi_bloom_close(copy);
    bloom_bytes_free(&file);
}

static void test_threads(void **state)
{
    allocator_fault allocator;
    _Atomic uint64_t done[THREADS];
    adder adders[THREADS];
    pthread_t threads[THREADS];

    (void)state;
    allocator_fault_init(&allocator);
    nphdi_bloom *bloom = bloom_bytes_create(&allocator.table, 8, 100, 0.01, 2.0);
    assert_non_null(bloom);
    for (uint64_t t = 0; t < THREADS; t++) {
        atomic_init(&done[t], 0);
        adders[t] = (adder){bloom, t * THREAD_KEYS, &done[t]};
        assert_int_equal(pthread_create(&threads[t], NULL, run_adder, &adders[t]), 0);
    }
    for (int i = 0; i < 12; i++) {
        check_snapshot(bloom, done, &allocator);
    }
    for (size_t t = 0; t < THREADS; t++) {
        assert_int_equal(pthread_join(threads[t], NULL), 0);
    }
    check_snapshot(bloom, done, &allocator);
    assert_int_equal(nphdi_bloom_count(bloom), THREADS * THREAD_KEYS);
    assert_int_equal(nphdi_bloom_filters(bloom), 10);
    nphdi_bloom_close(bloom);
    assert_true(allocator_fault_is_clean(&allocator));
    allocator_fault_destroy(&allocator);
}

/* Bits that threads set in the same word at once are all there: the filter is that of one thread.
 */
static void test_threads_lose_nothing(void **state)
{
    allocator_fault allocator;
    _Atomic uint64_t done[THREADS];
    adder adders[THREADS];
    pthread_t threads[THREADS];
    nphdi_bloom *blooms[2];
    bloom_bytes files[2] = {{0}, {0}};

    (void)state;
    allocator_fault_init(&allocator);
    for (int round = 0; round < 4; round++) {
        for (size_t i = 0; i < 2; i++) {
            assert_int_equal(nphdi_bloom_create(&allocator.table, 8, 0, &blooms[i], NULL), NPHD_OK);
        }
        for (uint64_t t = 0; t < THREADS; t++) {
            atomic_init(&done[t], 0);
            adders[t] = (adder){blooms[0], t * THREAD_KEYS, &done[t]};
            assert_int_equal(pthread_create(&threads[t], NULL, run_adder, &adders[t]), 0);
        }
        for (size_t t = 0; t < THREADS; t++) {
            assert_int_equal(pthread_join(threads[t], NULL), 0);
        }
        for (uint64_t i = 0; i < THREADS * THREAD_KEYS; i++) {
            nphdi_bloom_add(blooms[1], nphd_key_u64(i));
        }
        for (size_t i = 0; i < 2; i++) {
            assert_int_equal(bloom_bytes_write(blooms[i], &files[i], NULL), NPHD_OK);
            nphdi_bloom_close(blooms[i]);
        }
        assert_int_equal(files[0].bytes, files[1].bytes);
        assert_memory_equal(files[0].data, files[1].data, files[0].bytes);
        bloom_bytes_free(&files[0]);
        bloom_bytes_free(&files[1]);
    }
    assert_true(allocator_fault_is_clean(&allocator));
    allocator_fault_destroy(&allocator);
}

/* An allocator in whose first call another thread, as it were, reserves the same room. */
typedef struct overtaker {
    nphd_allocator table;
    allocator_fault *below;
    nphdi_bloom *bloom;
    bool armed;
} overtaker;

static void *overtaker_allocate(void *context, size_t bytes)
{
    overtaker *here = context;

    if (here->armed) {
        here->armed = false;
        assert_int_equal(nphdi_bloom_reserve(here->bloom, 200, NULL), NPHD_OK);
    }
    return here->below->table.allocate(here->below->table.context, bytes);
}

static void overtaker_release(void *context, void *memory, size_t bytes)
{
    const overtaker *here = context;

    here->below->table.release(here->below->table.context, memory, bytes);
}

static void test_reserve_overtaken(void **state)
{
    allocator_fault allocator;
    overtaker here = {.below = &allocator};

    (void)state;
    allocator_fault_init(&allocator);
    here.table = allocator.table;
    here.table.context = &here;
    here.table.allocate = overtaker_allocate;
    here.table.release = overtaker_release;
    here.bloom = bloom_bytes_create(&here.table, 8, 100, 0.01, 2.0);
    assert_non_null(here.bloom);
    here.armed = true;
    assert_int_equal(nphdi_bloom_reserve(here.bloom, 200, NULL), NPHD_OK);
    assert_false(here.armed);
    assert_int_equal(nphdi_bloom_memory(here.bloom), allocator.allocated_bytes);
    for (uint64_t i = 0; i < 300; i++) {
        nphdi_bloom_add(here.bloom, nphd_key_u64(i));
    }
    assert_int_equal(nphdi_bloom_filters(here.bloom), 2);
    nphdi_bloom_close(here.bloom);
    assert_true(allocator_fault_is_clean(&allocator));
    allocator_fault_destroy(&allocator);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_threads_lose_nothing),
        cmocka_unit_test(test_reserve_overtaken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
