/* The last change of each key: applying those alone gives what all of them give in order. */
#include "sharded/journal_last.h"

#include "platform/platform.h"
#include "support/test_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

typedef struct change {
    nphdi_journal_kind kind;
    nphd_key key;
} change;

/* Which change a key has its vector from; 0: it is absent. */
static void apply(uint64_t *from, nphdi_journal_kind kind, uint64_t number)
{
    if (kind == NPHDI_JOURNAL_REMOVE) {
        *from = 0;
    } else if (kind == NPHDI_JOURNAL_REPLACE || *from == 0) {
        *from = number;
    }
}

static void test_any_order(void **state)
{
    enum { KEYS = 20, CHANGES = 400, THERE = 1 };
    test_random random = {test_seed()};

    (void)state;
    for (int turn = 0; turn < 300; turn++) {
        nphdi_last last = {.allocator = nphdi_allocator_system(),
                           .seed = test_random_next(&random)};
        const uint64_t keys = 1 + test_random_below(&random, KEYS);
        const size_t count = (size_t)test_random_below(&random, CHANGES);
        change changes[CHANGES];
        uint64_t in_order[KEYS];
        uint64_t alone[KEYS];
        uint64_t applied[KEYS] = {0};
        for (size_t i = 0; i < KEYS; i++) { /* some are there before */
            in_order[i] = test_random_below(&random, 2) * THERE;
            alone[i] = in_order[i];
        }
        for (size_t i = 0; i < count; i++) {
            const uint64_t key = test_random_below(&random, keys);
            changes[i].kind = (nphdi_journal_kind)(1 + test_random_below(&random, 3));
            changes[i].key = (nphd_key){key % 3, key};
            apply(&in_order[key], changes[i].kind, i + 2);
            OK(nphdi_last_note(&last, changes[i].kind, changes[i].key, i + 2, NULL));
        }
        for (size_t i = 0; i < count; i++) {
            nphdi_journal_kind kind;
            if (nphdi_last_counts(&last, changes[i].key, i + 2, &kind)) {
                apply(&alone[changes[i].key.low], kind, i + 2);
                applied[changes[i].key.low]++;
            }
        }
        for (size_t i = 0; i < KEYS; i++) {
            assert_int_equal(alone[i], in_order[i]);
            assert_true(applied[i] <= 1);
        }
        nphdi_last_release(&last);
    }
}

static void test_many_keys(void **state)
{
    enum { KEYS = 100000 };
    nphdi_last last = {.allocator = nphdi_allocator_system(), .seed = 7};
    nphdi_journal_kind kind;

    (void)state;
    assert_false(nphdi_last_counts(&last, nphd_key_u64(1), 1, &kind));
    for (uint64_t round = 0; round < 2; round++) {
        for (uint64_t i = 0; i < KEYS; i++) {
            OK(nphdi_last_note(&last, NPHDI_JOURNAL_REPLACE, nphd_key_u64(i), i, NULL));
        }
        assert_int_equal(last.count, KEYS);
        for (uint64_t i = 0; i < KEYS; i++) {
            assert_true(nphdi_last_counts(&last, nphd_key_u64(i), i, &kind));
            assert_false(nphdi_last_counts(&last, nphd_key_u64(i), i + 1, &kind));
        }
        assert_false(nphdi_last_counts(&last, nphd_key_u64(KEYS), KEYS, &kind));
        nphdi_last_clear(&last);
        assert_int_equal(last.count, 0);
        assert_false(nphdi_last_counts(&last, nphd_key_u64(5), 5, &kind));
    }
    nphdi_last_release(&last);
}

/* Resets one after the other cost what lies between them, not what once did. */
static void test_clearing_gives_back(void **state)
{
    nphdi_last last = {.allocator = nphdi_allocator_system(), .seed = 1};

    (void)state;
    for (uint64_t i = 0; i < 100000; i++) {
        assert_int_equal(nphdi_last_note(&last, NPHDI_JOURNAL_ADD, nphd_key_u64(i), i, NULL),
                         NPHD_OK);
    }
    nphdi_last_clear(&last);
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(nphdi_last_note(&last, NPHDI_JOURNAL_ADD, nphd_key_u64(7), i, NULL),
                         NPHD_OK);
        nphdi_last_clear(&last);
        assert_true(last.room <= 64);
    }
    nphdi_last_release(&last);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_order),
        cmocka_unit_test(test_many_keys),
        cmocka_unit_test(test_clearing_gives_back),
    };

    return cmocka_run_group_tests_name("last changes of a journal", tests, NULL, NULL);
}
