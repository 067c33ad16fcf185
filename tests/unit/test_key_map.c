/* The key map in memory: open addressing that keeps deleted places until it is rebuilt. */
#include "index/key_map.h"
#include "support/allocator_fault.h"
#include "support/test_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

enum { SLOTS = 3000 };

typedef struct store {
    nphdi_key_map map;
    allocator_fault allocator;
    uint64_t keys[SLOTS];
    bool present[SLOTS];
} store;

static nphd_key key_of_slot(const void *context, uint32_t slot)
{
    const store *here = context;

    return nphd_key_u64(here->keys[slot]);
}

static uint64_t hash_of(const store *here, uint32_t slot)
{
    return nphdi_key_map_hash(&here->map, nphd_key_u64(here->keys[slot]), 8);
}

/* As a lookup does it: from the place of the key to the first free one, over the table at hand. */
static size_t find(const store *here, uint32_t slot)
{
    const nphdi_key_table *table = atomic_load(&here->map.table);
    size_t met = 0;

    if (table == NULL) {
        return 0;
    }
    uint64_t place = nphdi_hash_to_range(hash_of(here, slot), table->room);
    for (uint64_t left = table->room; left > 0; left--) {
        const uint32_t found = atomic_load(&table->slots[place]);
        if (found == NPHDI_TABLE_FREE) {
            break;
        }
        met += found == slot ? 1 : 0;
        place = place + 1 == table->room ? 0 : place + 1;
    }
    return met;
}

static void check(const store *here)
{
    uint64_t live = 0;

    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        assert_int_equal(find(here, slot), here->present[slot] ? 1 : 0);
        live += here->present[slot] ? 1 : 0;
    }
    assert_int_equal(here->map.live, live);
    assert_true(here->map.used >= live);
    assert_true(atomic_load(&here->map.table) == NULL ||
                here->map.used < atomic_load(&here->map.table)->room);
}

static store *store_create(uint64_t seed)
{
    store *here = calloc(1, sizeof(*here));
    test_random random = {seed};

    assert_non_null(here);
    allocator_fault_init(&here->allocator);
    here->map.allocator = &here->allocator.table;
    for (size_t i = 0; i < SLOTS; i++) {
        here->keys[i] = test_random_next(&random) | 1;
    }
    return here;
}

static void store_destroy(store *here)
{
    nphdi_key_map_release(&here->map);
    assert_int_equal(nphdi_key_map_bytes(&here->map), 0);
    assert_true(allocator_fault_is_clean(&here->allocator));
    allocator_fault_destroy(&here->allocator);
    free(here);
}

static nphd_status reserve(store *here, uint64_t more)
{
    return nphdi_key_map_reserve(&here->map, more, 8, key_of_slot, here, NULL);
}

static void insert(store *here, uint32_t slot)
{
    nphdi_key_map_insert(&here->map, hash_of(here, slot), slot);
    here->present[slot] = true;
}

static void delete_slot(store *here, uint32_t slot)
{
    nphdi_key_map_replace(&here->map, hash_of(here, slot), slot, NPHDI_TABLE_DELETED);
    here->present[slot] = false;
}

static void test_random_changes(void **state)
{
    const uint64_t seed = *(uint64_t *)*state;
    store *here = store_create(seed);
    test_random random = {seed};

    check(here);
    for (int round = 0; round < 200; round++) {
        const uint64_t count = 1 + test_random_below(&random, 60);
        assert_int_equal(reserve(here, count), NPHD_OK);
        /* once there is room, nothing is asked for */
        allocator_fault_arm(&here->allocator, ALLOCATOR_FAULT_ALL, 1, true);
        for (uint64_t i = 0; i < count; i++) {
            const uint32_t slot = (uint32_t)test_random_below(&random, SLOTS);
            if (here->present[slot]) {
                delete_slot(here, slot);
            } else {
                insert(here, slot);
            }
        }
        assert_int_equal(here->allocator.failed, 0);
        allocator_fault_arm(&here->allocator, ALLOCATOR_FAULT_ALL, 0, false);
        if (round % 20 == 0) {
            check(here);
        }
        if (round % 31 == 0) {
            nphdi_key_map_sweep(&here->map);
            assert_null(atomic_load(&here->map.table)->older);
        }
    }
    check(here);
    store_destroy(here);
}

/* A slot takes the place of another with the same key; duplicates stay apart. */
static void test_replace(void **state)
{
    store *here = store_create(*(uint64_t *)*state);

    for (uint32_t slot = 1; slot < 50; slot++) {
        here->keys[slot] = here->keys[0];
    }
    assert_int_equal(reserve(here, 40), NPHD_OK);
    for (uint32_t slot = 0; slot < 40; slot++) {
        insert(here, slot);
    }
    check(here);
    for (uint32_t slot = 40; slot < 50; slot++) {
        nphdi_key_map_replace(&here->map, hash_of(here, slot), slot - 30, slot);
        here->present[slot] = true;
        here->present[slot - 30] = false;
    }
    check(here);
    assert_int_equal(here->map.live, 40);
    for (uint32_t slot = 0; slot < 10; slot++) {
        delete_slot(here, slot);
    }
    check(here);
    store_destroy(here);
}

/* Steady coming and going rebuilds the table in place of growing it. */
static void test_deleted_places_are_cleared(void **state)
{
    store *here = store_create(*(uint64_t *)*state);

    for (uint32_t i = 0; i < 60000; i++) {
        const uint32_t slot = i % SLOTS;
        assert_int_equal(reserve(here, 1), NPHD_OK);
        insert(here, slot);
        if (i >= 100) {
            delete_slot(here, (i - 100) % SLOTS);
        }
        nphdi_key_map_sweep(&here->map);
    }
    check(here);
    assert_true(atomic_load(&here->map.table)->room < 1000);
    assert_true(nphdi_key_map_bytes(&here->map) < 5000);
    store_destroy(here);
}

static void test_reserve_that_fails_changes_nothing(void **state)
{
    store *here = store_create(*(uint64_t *)*state);

    for (uint32_t slot = 0; slot < 500; slot++) {
        for (uint64_t n = 1; n < 4; n++) {
            allocator_fault_arm(&here->allocator, ALLOCATOR_FAULT_ALL, n, false);
            const nphd_status status = reserve(here, 1);
            assert_true(here->allocator.failed > 0 ? status == NPHD_OUT_OF_MEMORY
                                                   : status == NPHD_OK);
        }
        allocator_fault_arm(&here->allocator, ALLOCATOR_FAULT_ALL, 0, false);
        assert_int_equal(reserve(here, 1), NPHD_OK);
        insert(here, slot);
    }
    check(here);
    /* what was outgrown is kept for readers, and counted */
    assert_non_null(atomic_load(&here->map.table)->older);
    assert_int_equal(nphdi_key_map_bytes(&here->map), here->allocator.allocated_bytes);
    nphdi_key_map_sweep(&here->map);
    assert_int_equal(nphdi_key_map_bytes(&here->map), here->allocator.allocated_bytes);
    store_destroy(here);
}

static void test_room(void **state)
{
    (void)state;
    assert_int_equal(nphdi_key_table_room(0), 0);
    for (uint64_t keys = 1; keys < 5000; keys++) {
        assert_true(nphdi_key_table_room(keys) > keys);
        assert_true(nphdi_key_table_room(keys) >= nphdi_key_table_room(keys - 1));
    }
    for (uint64_t range = 1; range < 1000; range++) {
        assert_true(nphdi_hash_to_range(UINT64_MAX, range) == range - 1);
        assert_true(nphdi_hash_to_range(0, range) == 0);
    }
}

int main(void)
{
    uint64_t seed = test_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_random_changes, &seed),
        cmocka_unit_test_prestate(test_replace, &seed),
        cmocka_unit_test_prestate(test_deleted_places_are_cleared, &seed),
        cmocka_unit_test_prestate(test_reserve_that_fails_changes_nothing, &seed),
        cmocka_unit_test(test_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
