/* Slots in use, against an array of flags: the next free one is the same, whatever was set and
 * cleared, across all levels of bits and while there is more and more room. */
#include "index/used_slots.h"
#include "support/allocator_fault.h"
#include "support/test_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MOST = 300000 }; /* more than one word of the highest level stands for */

static uint64_t naive_next(const uint8_t *flags, uint64_t room, uint64_t from)
{
    while (from < room && flags[from] != 0) {
        from++;
    }
    return from;
}

static void test_next_free_is_that_of_flags(void **state)
{
    nphdi_used_slots used = {{NULL}, 0};
    allocator_fault allocator;
    test_random random = {test_seed()};
    uint8_t *flags = calloc(MOST, 1);

    (void)state;
    assert_non_null(flags);
    allocator_fault_init(&allocator);
    assert_int_equal(nphdi_used_slots_next_free(&used, 0), 0);
    for (uint64_t slots = 1; slots <= MOST; slots = slots * 3 + 1) {
        assert_int_equal(nphdi_used_slots_reserve(&used, &allocator.table, slots, NULL), NPHD_OK);
        assert_true(used.room >= slots);
        const uint64_t room = used.room < MOST ? used.room : MOST;
        for (uint64_t slot = 0; slot < room; slot++) { /* full, but for what is cleared below */
            nphdi_used_slots_set(&used, slot);
            flags[slot] = 1;
        }
        for (int step = 0; step < 300; step++) {
            const uint64_t slot = test_random_next(&random) % room;
            const uint64_t from = test_random_next(&random) % room;
            if (step % 3 == 0) {
                nphdi_used_slots_set(&used, slot);
                flags[slot] = 1;
            } else {
                nphdi_used_slots_clear(&used, slot);
                flags[slot] = 0;
            }
            if (used.room <= MOST) {
                assert_int_equal(nphdi_used_slots_next_free(&used, from),
                                 naive_next(flags, used.room, from));
                assert_int_equal(nphdi_used_slots_next_free(&used, slot),
                                 naive_next(flags, used.room, slot));
            }
        }
    }
    nphdi_used_slots_clear_all(&used);
    assert_int_equal(nphdi_used_slots_next_free(&used, 77), 77);
    nphdi_used_slots_release(&used, &allocator.table);
    assert_true(allocator_fault_is_clean(&allocator));
    allocator_fault_destroy(&allocator);
    free(flags);
}

static void test_without_memory_nothing_changes(void **state)
{
    nphdi_used_slots used = {{NULL}, 0};
    allocator_fault allocator;

    (void)state;
    allocator_fault_init(&allocator);
    assert_int_equal(nphdi_used_slots_reserve(&used, &allocator.table, 10, NULL), NPHD_OK);
    const uint64_t room = used.room;
    for (uint64_t slot = 0; slot < room; slot++) {
        nphdi_used_slots_set(&used, slot);
    }
    allocator_fault_arm(&allocator, ALLOCATOR_FAULT_ALL, 1, false);
    assert_int_equal(nphdi_used_slots_reserve(&used, &allocator.table, room + 1, NULL),
                     NPHD_OUT_OF_MEMORY);
    assert_int_equal(used.room, room);
    assert_int_equal(nphdi_used_slots_next_free(&used, 0), room);
    assert_int_equal(nphdi_used_slots_reserve(&used, &allocator.table, room + 1, NULL), NPHD_OK);
    assert_int_equal(nphdi_used_slots_next_free(&used, 0), room);
    nphdi_used_slots_release(&used, &allocator.table);
    assert_true(allocator_fault_is_clean(&allocator));
    allocator_fault_destroy(&allocator);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_next_free_is_that_of_flags),
        cmocka_unit_test(test_without_memory_nothing_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
