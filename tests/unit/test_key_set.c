/* The set of keys in memory against an array of flags. */
#include "filters/key_set.h"
#include "support/allocator_fault.h"
#include "support/test_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { KEYS = 2000 };

typedef struct store {
    nphdi_key_set set;
    allocator_fault allocator;
    nphd_key keys[KEYS]; /* all different */
    bool present[KEYS];
} store;

/* `wide`: keys of 128 bits, also some that agree in one half. */
static store *store_create(uint64_t seed, bool wide)
{
    store *here = calloc(1, sizeof(*here));
    test_random random = {seed};

    assert_non_null(here);
    allocator_fault_init(&here->allocator);
    here->set.allocator = &here->allocator.table;
    for (uint64_t i = 0; i < KEYS; i++) {
        here->keys[i].low = test_random_next(&random) * KEYS + (wide ? i / 2 : i);
        if (wide) {
            here->keys[i].low = i % 2 == 0 ? here->keys[i].low : here->keys[i - 1].low;
            here->keys[i].high = i % 3 == 0 ? i : test_random_next(&random) | 1ULL << 32;
        }
    }
    here->keys[0] = nphd_key_u64(0);
    return here;
}

static void store_destroy(store *here)
{
    nphdi_key_set_release(&here->set);
    assert_null(here->set.places);
    assert_true(allocator_fault_is_clean(&here->allocator));
    allocator_fault_destroy(&here->allocator);
    free(here);
}

static int compare(const void *a, const void *b)
{
    return nphd_key_compare(*(const nphd_key *)a, *(const nphd_key *)b);
}

static void check(const store *here)
{
    nphd_key wanted[KEYS];
    nphd_key sorted[KEYS];
    nphd_key walked[KEYS];
    uint64_t count = 0;
    uint64_t place = 0;
    uint64_t steps = 0;

    for (size_t i = 0; i < KEYS; i++) {
        assert_true(nphdi_key_set_has(&here->set, here->keys[i]) == here->present[i]);
        if (here->present[i]) {
            wanted[count++] = here->keys[i];
        }
    }
    assert_int_equal(here->set.count, count);
    assert_true(here->set.used >= count);
    qsort(wanted, count, sizeof(wanted[0]), compare);
    nphdi_key_set_sorted(&here->set, sorted);
    assert_true(count == 0 || memcmp(sorted, wanted, count * sizeof(wanted[0])) == 0);
    while (steps < KEYS && nphdi_key_set_next(&here->set, &place, &walked[steps])) {
        steps++;
    }
    assert_int_equal(steps, count);
    qsort(walked, count, sizeof(walked[0]), compare);
    assert_true(count == 0 || memcmp(walked, wanted, count * sizeof(wanted[0])) == 0);
}

static void change(store *here, size_t i)
{
    if (here->present[i]) {
        assert_true(nphdi_key_set_remove(&here->set, here->keys[i]));
        assert_false(nphdi_key_set_remove(&here->set, here->keys[i]));
    } else {
        assert_true(nphdi_key_set_add(&here->set, here->keys[i]));
        assert_false(nphdi_key_set_add(&here->set, here->keys[i]));
    }
    here->present[i] = !here->present[i];
}

static void random_changes(uint64_t seed, bool wide)
{
    store *here = store_create(seed, wide);
    test_random random = {seed};

    check(here);
    for (int round = 0; round < 150; round++) {
        const uint64_t count = 1 + test_random_below(&random, 90);
        /* phases of few and of many keys */
        const uint64_t range = round % 50 < 25 ? KEYS : 60;
        assert_int_equal(nphdi_key_set_reserve(&here->set, count, NULL), NPHD_OK);
        allocator_fault_arm(&here->allocator, ALLOCATOR_FAULT_ALL, 1, true);
        for (uint64_t i = 0; i < count; i++) {
            change(here, (size_t)test_random_below(&random, range));
        }
        assert_int_equal(here->allocator.failed, 0);
        allocator_fault_arm(&here->allocator, ALLOCATOR_FAULT_ALL, 0, false);
        if (round % 10 == 0) {
            check(here);
        }
        if (round % 60 == 59) {
            nphdi_key_set_clear(&here->set);
            memset(here->present, 0, sizeof(here->present));
            check(here);
        }
    }
    check(here);
    store_destroy(here);
}

static void test_narrow_keys(void **state)
{
    random_changes(*(uint64_t *)*state, false);
}

static void test_wide_keys(void **state)
{
    random_changes(*(uint64_t *)*state, true);
}

/* Keys that come and go do not make the set grow. */
static void test_coming_and_going(void **state)
{
    store *here = store_create(*(uint64_t *)*state, false);
    uint64_t most = 0;

    for (size_t round = 0; round < 20000; round++) {
        assert_int_equal(nphdi_key_set_reserve(&here->set, 1, NULL), NPHD_OK);
        change(here, round % KEYS);
        if (round % KEYS >= 10) {
            change(here, round % KEYS - 10);
        }
        most = here->set.room > most ? here->set.room : most;
        if (round % KEYS == KEYS - 1) {
            nphdi_key_set_clear(&here->set);
            memset(here->present, 0, sizeof(here->present));
        }
    }
    assert_in_range(most, 16, 64);
    store_destroy(here);
}

/* A reserve that fails changes nothing; everything that was asked for is given back. */
static void test_out_of_memory(void **state)
{
    store *here = store_create(*(uint64_t *)*state, false);
    nphd_error err = NPHD_ERROR_INIT;
    uint64_t failures = 0;

    for (size_t i = 0; i < 300; i++) {
        for (uint64_t n = 1;; n++) {
            allocator_fault_arm(&here->allocator, ALLOCATOR_FAULT_ALL, n, false);
            const nphd_status status = nphdi_key_set_reserve(&here->set, 1, &err);
            if (here->allocator.failed == 0) {
                assert_int_equal(status, NPHD_OK);
                break;
            }
            assert_int_equal(status, NPHD_OUT_OF_MEMORY);
            failures++;
        }
        change(here, i);
    }
    assert_true(failures >= 2 * 5);
    check(here);
    allocator_fault_arm(&here->allocator, ALLOCATOR_FAULT_ALL, 0, false);
    assert_int_equal(nphdi_key_set_reserve(&here->set, UINT64_MAX, &err), NPHD_OUT_OF_MEMORY);
    assert_int_equal(nphdi_key_set_reserve(&here->set, UINT64_MAX / 2, &err), NPHD_OUT_OF_MEMORY);
    assert_int_equal(nphdi_key_set_reserve(&here->set, 1ULL << 62, &err), NPHD_OUT_OF_MEMORY);
    check(here);
    store_destroy(here);
}

static void test_nothing(void **state)
{
    nphdi_key_set set = {.allocator = NULL};
    uint64_t place = 0;
    nphd_key key;

    (void)state;
    assert_false(nphdi_key_set_has(&set, nphd_key_u64(0)));
    assert_false(nphdi_key_set_remove(&set, nphd_key_u64(0)));
    assert_false(nphdi_key_set_next(&set, &place, &key));
    nphdi_key_set_sorted(&set, &key);
    nphdi_key_set_clear(&set);
    nphdi_key_set_release(&set);
}

int main(void)
{
    uint64_t seed = test_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_narrow_keys, &seed),
        cmocka_unit_test_prestate(test_wide_keys, &seed),
        cmocka_unit_test_prestate(test_coming_and_going, &seed),
        cmocka_unit_test_prestate(test_out_of_memory, &seed),
        cmocka_unit_test(test_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
