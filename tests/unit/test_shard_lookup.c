/* The key table of a file, and lookups without locks. */
#include "index/index_internal.h"
#include "index/slot_table.h"
#include "support/shard_lab.h"
#include "support/trailer_repair.h"

/* ---- the key table ---- */

static void test_slot_table(void **state)
{
    lab *here = *state;

    assert_int_equal(nphdi_slot_table_bits(0), 0);
    assert_int_equal(nphdi_slot_table_bits(1), 1);
    assert_int_equal(nphdi_slot_table_bits(3), 2);
    assert_int_equal(nphdi_slot_table_bits(4), 3);
    assert_int_equal(nphdi_slot_table_bits(0x7fffffff), 31);
    assert_int_equal(nphdi_slot_table_bits(0x80000000), 32);
    assert_int_equal(nphdi_slot_table_bits(UINT32_MAX - 2), 32);
    assert_int_equal(nphdi_slot_table_room(0), 0);
    assert_int_equal(nphdi_slot_table_room(1), 2);
    assert_int_equal(nphdi_slot_table_room(1000), 1501);
    for (uint64_t slots = 1; slots < UINT32_MAX; slots += slots / 2 + 1) {
        const uint32_t bits = nphdi_slot_table_bits(slots);
        const uint64_t hash = test_random_next(&here->random);
        const uint32_t entry = nphdi_slot_table_entry(bits, hash, (uint32_t)(slots - 1));
        assert_true(slots <= (1ULL << bits) - 1);
        assert_int_not_equal(nphdi_slot_table_entry(bits, UINT64_MAX, (uint32_t)(slots - 1)),
                             NPHDI_SLOT_TABLE_FREE);
        assert_int_equal(nphdi_slot_table_slot(bits, entry), slots - 1);
        assert_true(nphdi_slot_table_may_be(bits, hash, entry));
        for (uint32_t bit = 0; bit < 64; bit++) {
            assert_int_equal(nphdi_slot_table_may_be(bits, hash ^ 1ULL << bit, entry),
                             bit >= 32 - bits);
        }
    }
}

/* The example of docs/format.md section 2.4. */
static void test_documented_key_table(void **state)
{
    static const uint8_t table[20] = {0xb9, 0xe4, 0x6d, 0x93, 0x0e, 0x89, 0xbb, 0x47, 0xff, 0xff,
                                      0xff, 0xff, 0x64, 0xb3, 0x1e, 0xbe, 0xff, 0xff, 0xff, 0xff};
    lab *here = *state;
    nphd_index *index = create(here, 64, false);

    add(index, 0, 3);
    OK(nphd_index_save(index, PATH, NULL, NULL));
    expect_section(here, PATH, NPHDI_SECTION_KEY_TABLE, table, sizeof(table));
    nphd_index_close(index);
}

/* An absent key is told by the fingerprints: no node is looked at, so that it does no harm that all
 * of them are damaged. */
static void test_absent_keys_touch_no_node(void **state)
{
    lab *here = *state;
    nphd_index *index = create(here, 64, false);
    nphd_index *seen = create(here, 64, false);
    size_t bytes = 0;
    unsigned corrupt = 0;
    uint32_t slot;
    bool hidden;

    add(index, 0, 1000);
    OK(nphd_index_save_buffer(index, NULL, 0, &bytes, NULL));
    uint8_t *data = malloc(bytes);
    assert_non_null(data);
    OK(nphd_index_save_buffer(index, data, bytes, &bytes, NULL));
    OK(nphd_index_view_buffer(seen, data, bytes, NULL, NULL));
    memset(data + seen->content->mapped.head.levels_offset, 0xff, 2000);
    for (uint64_t key = 0; key < 5000; key++) {
        const uint64_t hash = nphdi_hash_key(nphd_key_u64(key), 8);
        const nphd_status status =
            nphdi_index_find_stored(seen, nphd_key_u64(key), hash, &slot, &hidden, NULL);
        if (key < 1000) {
            assert_int_equal(status, NPHD_CORRUPT);
        }
        corrupt += key >= 1000 && status != NPHD_OK ? 1 : 0;
    }
    /* 4000 lookups at two entries each against fingerprints of 22 bits */
    assert_true(corrupt <= 1);
    nphd_index_close(seen);
    nphd_index_close(index);
    free(data);
}

/* With a table in the file, one that is derived, and in memory: all keys and no others. */
static void test_find_stored(void **state)
{
    lab *here = *state;
    nphd_index *made = create(here, 64, false);
    nphdi_trailer trailer;
    size_t bytes = 0;
    bool found = false;

    add(made, 0, 500);
    for (uint64_t key = 0; key < 500; key += 7) {
        remove_key(made, key);
    }
    OK(nphd_index_save(made, PATH, NULL, NULL));
    OK(nphdi_file_trailer(&here->fault.table, PATH, &trailer, &found, NULL));
    uint8_t *file = memory_io_get(here->disk, PATH, &bytes);
    memory_io_put(here->disk, "plain", file, (size_t)trailer.foreign_bytes);
    free(file);
    nphd_index *indexes[3] = {made, view(here, PATH), view(here, "plain")};
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(nphdi_index_slots(indexes[i]), 500);
        for (uint64_t key = 0; key < 1000; key++) {
            const uint64_t hash = nphdi_hash_key(nphd_key_u64(key), 8);
            const nphd_key wide = {1, key};
            const bool stored = key < 500 && key % 7 != 0;
            uint32_t slot = 0;
            bool hidden = true;
            OK(nphdi_index_find_stored(indexes[i], nphd_key_u64(key), hash, &slot, &hidden, NULL));
            assert_int_equal(slot, stored ? key : UINT32_MAX);
            assert_false(hidden);
            OK(nphdi_index_find_stored(indexes[i], wide, hash, &slot, &hidden, NULL));
            assert_int_equal(slot, UINT32_MAX);
        }
        assert_int_equal(nphdi_index_stored(indexes[i]), 428);
    }
    assert_null(nphdi_index_trailer(indexes[2]));
    for (unsigned i = 0; i < 3; i++) {
        uint8_t out[8];
        nphd_key key;
        bool shown = true;
        bool stored = true;
        OK(nphdi_index_key_at(indexes[i], 7, &key, &shown, &stored, NULL));
        assert_true(!shown && !stored && key.low == 0);
        assert_int_equal(nphdi_index_key_at(indexes[i], 500, &key, &shown, &stored, NULL),
                         NPHD_INVALID_ARGUMENT);
        assert_int_equal(nphdi_index_vector_at(indexes[i], 500, out, &bytes, NULL),
                         NPHD_INVALID_ARGUMENT);
        nphd_index_close(indexes[i]);
    }
}

/* In memory, with a table in the file, and with one that is derived: any number of keys at once,
 * those that cannot be stored among them. */
static void test_contains_many(void **state)
{
    lab *here = *state;
    nphd_index *made = create(here, 64, false);
    nphd_key keys[70];
    bool there[71];
    size_t bytes = 0;
    nphdi_trailer trailer;
    bool found = false;

    for (uint64_t i = 0; i < 70; i++) {
        keys[i] = nphd_key_u64(i % 3 == 0 ? 1000 + i : i);
    }
    keys[20] = nphd_key_u64(UINT64_MAX);
    keys[22].high = 1;
    nphd_index *empty = create(here, 64, false);
    OK(nphd_index_contains_many(empty, keys, 70, there, NULL));
    for (size_t i = 0; i < 70; i++) {
        assert_false(there[i]);
    }
    add(made, 0, 70);
    remove_key(made, 40);
    OK(nphd_index_save(made, PATH, NULL, NULL));
    OK(nphdi_file_trailer(&here->fault.table, PATH, &trailer, &found, NULL));
    uint8_t *file = memory_io_get(here->disk, PATH, &bytes);
    memory_io_put(here->disk, "plain", file, (size_t)trailer.foreign_bytes);
    nphd_index *indexes[3] = {made, view(here, PATH), view(here, "plain")};
    for (unsigned which = 0; which < 3; which++) {
        for (size_t count = 0; count <= 70; count++) {
            memset(there, 1, sizeof(there));
            OK(nphd_index_contains_many(indexes[which], keys, count, there, NULL));
            for (size_t i = 0; i < count; i++) {
                assert_int_equal(there[i], i % 3 != 0 && i != 20 && i != 22 && i != 40);
            }
            assert_true(there[count]);
        }
        nphd_index_close(indexes[which]);
    }
    /* damaged: the error, and nothing said to be there */
    OK(nphd_index_view_buffer(empty, file, bytes, NULL, NULL));
    memset(file + empty->content->mapped.head.levels_offset, 0xff, 140);
    memset(there, 1, sizeof(there));
    assert_int_equal(nphd_index_contains_many(empty, keys, 70, there, NULL), NPHD_CORRUPT);
    for (size_t i = 0; i < 70; i++) {
        assert_false(there[i]);
    }
    nphd_index_close(empty);
    free(file);
}

/* Of a key with several entries, the first visible one; a hidden one only if all are hidden. */
static void test_find_stored_of_many(void **state)
{
    lab *here = *state;
    nphd_index *index = create(here, 64, true);
    const nphd_key key = nphd_key_u64(3);
    nphdi_hidden hidden;
    uint8_t data[8];
    bool seen[8] = {false};
    uint32_t slot;
    bool was_hidden;

    for (uint8_t i = 0; i < 8; i++) {
        OK(nphd_index_add(index, key, vector_of(3, i, data), NULL, NULL));
    }
    OK(nphdi_hidden_create(&hidden, &here->allocator.table, 8, NULL));
    nphdi_index_set_hidden(index, &hidden);
    for (unsigned i = 0; i < 9; i++) {
        OK(nphdi_index_find_stored(index, key, nphdi_hash_key(key, 8), &slot, &was_hidden, NULL));
        assert_true(slot < 8);
        assert_int_equal(was_hidden, i == 8);
        if (i < 8) {
            assert_false(seen[slot]);
            seen[slot] = true;
            assert_true(nphdi_hidden_set(&hidden, slot));
        }
        assert_int_equal(nphd_index_size(index), i < 8 ? 7 - i : 0);
    }
    nphdi_hidden_release(&hidden);
    nphd_index_close(index);
}

/* Every bit of the table counts: a slot beyond the end is found out by the lookup, a wrong
 * fingerprint or slot by the check of the whole file. */
static void test_damaged_key_table(void **state)
{
    lab *here = *state;
    nphd_index *index = create(here, 64, false);
    nphd_index *seen = create(here, 64, false);
    nphd_verify_report report;
    nphdi_trailer trailer;
    trailer_places places = {0, 0, 0, 0, 0, 0};
    size_t bytes = 0;
    bool found = false;
    unsigned caught = 0;

    add(index, 0, 5);
    OK(nphd_index_save(index, PATH, NULL, NULL));
    OK(nphdi_file_trailer(&here->fault.table, PATH, &trailer, &found, NULL));
    const nphdi_trailer_section *table = nphdi_trailer_find(&trailer, NPHDI_SECTION_KEY_TABLE);
    assert_int_equal(table->bytes, 4 * 8);
    uint8_t *file = memory_io_get(here->disk, PATH, &bytes);
    assert_true(trailer_places_find(file, bytes, &places));
    for (uint64_t bit = 0; bit < 8 * table->bytes; bit++) {
        uint8_t *place = file + table->offset + bit / 8;
        *place ^= (uint8_t)(1U << bit % 8);
        trailer_repair(file, &places);
        memory_io_put(here->disk, "damaged", file, bytes);
        assert_int_equal(nphd_file_verify("damaged", &here->fault.table, NULL, NULL, &report, NULL),
                         NPHD_CORRUPT);
        OK(nphd_index_view(seen, "damaged", NULL, NULL));
        for (uint64_t key = 0; key < 5; key++) {
            bool there = false;
            const nphd_status status = nphd_index_contains(seen, nphd_key_u64(key), &there, NULL);
            assert_true(status == NPHD_OK || status == NPHD_CORRUPT);
            caught += status == NPHD_CORRUPT ? 1 : 0;
        }
        *place ^= (uint8_t)(1U << bit % 8);
    }
    assert_true(caught > 0);
    free(file);
    nphd_index_close(seen);
    nphd_index_close(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_slot_table),
        TEST(test_documented_key_table),
        TEST(test_absent_keys_touch_no_node),
        TEST(test_find_stored),
        TEST(test_contains_many),
        TEST(test_find_stored_of_many),
        TEST(test_damaged_key_table),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
