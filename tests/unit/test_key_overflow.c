/* Key tables of files whose keys have one first place: equal keys of a multi index, and keys that
 * somebody chose. What has no near place stands in the overflow (docs/format.md section 2.4, 13).
 */
#include "index/index_internal.h"
#include "support/chosen_keys.h"
#include "support/shard_lab.h"
#include "support/trailer_repair.h"

/* Hashes of one first place, whatever the size of the table, but for the last of them. */
static nphd_key near_key(uint64_t number)
{
    return chosen_key(number << 8 | 0x55);
}

static void test_chosen_keys(void **state)
{
    (void)state;
    for (uint64_t hash = 1; hash < UINT64_MAX / 7; hash *= 7) {
        assert_int_equal(nphdi_hash_key(chosen_key(hash), 8), hash);
    }
}

/* ---- the table alone, against a list ---- */

/* The slots that lead to a hash, in the order of a lookup; each as often as it stands there. */
static uint32_t slots_of(const nphdi_slot_table *table, uint64_t hash, uint32_t *out)
{
    uint64_t place = nphdi_hash_to_range(hash, table->room);
    uint64_t left = nphdi_slot_table_reach(table);
    uint32_t count = 0;

    for (; left > 0; left--) {
        const uint32_t found = nphdi_get32(table->places + 4 * place);
        if (found == NPHDI_SLOT_TABLE_FREE) {
            return count;
        }
        if (nphdi_slot_table_may_be(table->slot_bits, hash, found)) {
            out[count++] = nphdi_slot_table_slot(table->slot_bits, found);
        }
        place = place + 1 == table->room ? 0 : place + 1;
    }
    for (uint32_t i = nphdi_slot_overflow_find(table, hash, 0);
         i < table->overflow_count && nphdi_slot_overflow_hash(table, i) == hash; i++) {
        out[count++] = nphdi_slot_overflow_slot(table, i);
    }
    return count;
}

static void test_table(void **state)
{
    lab *here = *state;
    test_random random = {test_seed()};

    for (int round = 0; round < 60; round++) {
        const uint64_t count = 1 + test_random_below(&random, 4000);
        const uint64_t places = 1 + test_random_below(&random, 6);
        const uint64_t hashes = 1 + test_random_below(&random, count);
        uint64_t *made = calloc(count, sizeof(*made));
        uint32_t *found = calloc(count, sizeof(*found));
        nphdi_slot_table_filler filler;
        nphdi_slot_table table;
        OK(nphdi_slot_table_fill_begin(&filler, &here->allocator.table,
                                       nphdi_slot_table_room(count), nphdi_slot_table_bits(count),
                                       NULL));
        for (uint64_t i = 0; i < count; i++) {
            const uint64_t hash = test_random_below(&random, hashes);
            made[i] = (hash % places << 61) + hash;
            nphdi_slot_table_put(&filler, made[i], (uint32_t)i);
        }
        OK(nphdi_slot_table_fill_end(&filler, &table, NULL));
        for (uint64_t i = 0; i < count; i++) {
            /* all of its hash, in the order of slots, if of others with its fingerprint too */
            const uint32_t got = slots_of(&table, made[i], found);
            uint32_t at = 0;
            for (uint64_t j = 0; j < count; j++) {
                if (made[j] == made[i]) {
                    while (at < got && found[at] != j) {
                        at++;
                    }
                    assert_true(at < got);
                }
            }
        }
        for (uint32_t i = 1; i < table.overflow_count; i++) {
            assert_int_equal(nphdi_slot_overflow_find(&table, nphdi_slot_overflow_hash(&table, i),
                                                      nphdi_slot_overflow_slot(&table, i)),
                             i);
        }
        nphdi_slot_table_release(&here->allocator.table, &table);
        free(made);
        free(found);
    }
}

/* ---- files ---- */

#define OTHERS 300

static void expect_vectors(nphd_index *index, uint64_t chosen, uint64_t equal)
{
    uint8_t *bytes = calloc(equal + 1, 8);
    size_t *lengths = calloc(equal + 1, sizeof(*lengths));
    size_t count = 0;
    bool has = false;

    assert_int_equal(nphd_index_size(index), chosen + equal + OTHERS);
    for (uint64_t i = 0; i < chosen + 100; i++) {
        OK(nphd_index_count(index, near_key(i), &count, NULL));
        assert_int_equal(count, i < chosen ? 1 : 0);
    }
    for (uint64_t i = 0; i < OTHERS; i++) {
        OK(nphd_index_contains(index, nphd_key_u64(1000 + i), &has, NULL));
        assert_true(has);
    }
    OK(nphd_index_count(index, nphd_key_u64(7), &count, NULL));
    assert_int_equal(count, equal);
    OK(nphd_index_get_all(index, nphd_key_u64(7), bytes, lengths, equal + 1, &count, NULL));
    assert_int_equal(count, equal);
    for (uint64_t i = 0; i < equal; i++) { /* in the order in which they were added */
        assert_int_equal(nphdi_get64(bytes + i * nphd_index_max_bytes(index)), i);
    }
    free(bytes);
    free(lengths);
}

static nphd_index *make(lab *here, uint64_t chosen, uint64_t equal)
{
    nphd_index *index = create(here, 64, equal > 0);
    uint8_t data[8];

    for (uint64_t i = 0; i < chosen || i < equal || i < OTHERS; i++) {
        nphdi_put64(data, i);
        const nphd_vector vector = {data, 8};
        if (i < chosen) {
            OK(nphd_index_add(index, near_key(i), vector, NULL, NULL));
        }
        if (i < equal) {
            OK(nphd_index_add(index, nphd_key_u64(7), vector, NULL, NULL));
        }
        if (i < OTHERS) {
            OK(nphd_index_add(index, nphd_key_u64(1000 + i), vector, NULL, NULL));
        }
    }
    return index;
}

static void test_files(void **state)
{
    lab *here = *state;
    static const uint64_t counts[][2] = {{300, 0}, {2000, 0}, {0, 300}, {0, 2000}, {1200, 1300}};

    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        const uint64_t chosen = counts[i][0];
        const uint64_t equal = counts[i][1];
        nphd_index *index = make(here, chosen, equal);
        nphd_index *seen = create(here, 64, equal > 0);
        nphd_verify_report report;
        nphdi_trailer trailer;
        bool found = false;
        OK(nphd_index_save(index, PATH, NULL, NULL));
        OK(nphdi_file_trailer(&here->fault.table, PATH, &trailer, &found, NULL));
        const nphdi_trailer_section *section =
            nphdi_trailer_find(&trailer, NPHDI_SECTION_KEY_OVERFLOW);
        assert_int_equal(section != NULL, chosen + equal > 1000);
        /* an older release refuses what it would not find */
        assert_true(section == NULL || section->flags == NPHDI_SECTION_CRITICAL);
        OK(nphd_file_verify(PATH, &here->fault.table, NULL, NULL, &report, NULL));
        OK(nphd_index_view(seen, PATH, NULL, NULL));
        expect_vectors(seen, chosen, equal);
        OK(nphd_index_save(seen, "again", NULL, NULL)); /* from the mapping */
        OK(nphd_index_load(seen, "again", NULL, NULL));
        expect_vectors(seen, chosen, equal);
        nphd_index_close(seen);
        /* without trailer, as the reference writes it: the table is derived */
        size_t bytes = 0;
        uint8_t *data = memory_io_get(here->disk, PATH, &bytes);
        memory_io_put(here->disk, "bare", data, (size_t)nphdi_index_foreign_bytes(index));
        free(data);
        seen = create(here, 64, equal > 0);
        OK(nphd_index_view(seen, "bare", NULL, NULL));
        expect_vectors(seen, chosen, equal);
        nphd_index_close(seen);
        nphd_index_close(index);
    }
}

/* Overflows that no writer makes, behind checksums that are right: found by the check, and lookups
 * stay within bounds and end. */
static void test_hostile_overflow(void **state)
{
    lab *here = *state;
    nphd_index *index = make(here, 1500, 600);
    size_t bytes = 0;
    trailer_places places = {0};
    nphdi_trailer trailer;
    bool found = false;

    OK(nphd_index_save(index, PATH, NULL, NULL));
    OK(nphdi_file_trailer(&here->fault.table, PATH, &trailer, &found, NULL));
    const nphdi_trailer_section section = *nphdi_trailer_find(&trailer, NPHDI_SECTION_KEY_OVERFLOW);
    const uint64_t entries = section.bytes / NPHDI_SLOT_OVERFLOW_BYTES;
    for (unsigned kind = 0; kind < 300; kind++) {
        uint8_t *data = memory_io_get(here->disk, PATH, &bytes);
        const uint64_t number = kind < 8 ? entries / 2 : test_random_below(&here->random, entries);
        uint8_t *entry = data + section.offset + number * NPHDI_SLOT_OVERFLOW_BYTES;
        nphd_index *seen = create(here, 64, true);
        nphd_verify_report report;
        nphd_error err = NPHD_ERROR_INIT;
        assert_true(trailer_places_find(data, bytes, &places));
        if (kind == 0) {
            nphdi_put32(entry + 8, UINT32_MAX); /* no such slot */
        } else if (kind == 1) {
            memcpy(entry, entry - NPHDI_SLOT_OVERFLOW_BYTES, NPHDI_SLOT_OVERFLOW_BYTES);
        } else if (kind == 2) {
            memset(data + section.offset, 0xFF, section.bytes);
        } else if (kind == 3) {
            memset(data + section.offset, 0, section.bytes);
        } else if (kind == 4) { /* out of order */
            nphdi_put64(entry, UINT64_MAX);
        } else {
            entry[test_random_below(&here->random, NPHDI_SLOT_OVERFLOW_BYTES)] ^=
                (uint8_t)(1 + test_random_below(&here->random, 255));
        }
        trailer_repair(data, &places);
        memory_io_put(here->disk, "hostile", data, bytes);
        free(data);
        assert_int_equal(nphd_file_verify("hostile", &here->fault.table, NULL, NULL, &report, &err),
                         NPHD_CORRUPT);
        assert_non_null(strstr(err.text, "hostile"));
        OK(nphd_index_view(seen, "hostile", NULL, NULL));
        for (uint64_t i = 0; i < 1600; i++) {
            size_t count = 0;
            const nphd_status status = nphd_index_count(seen, near_key(i), &count, NULL);
            assert_true(status == NPHD_OK || status == NPHD_CORRUPT);
        }
        nphd_index_close(seen);
    }
    nphd_index_close(index);
}

/* Sizes in the directory that do not fit. */
static void test_hostile_sizes(void **state)
{
    lab *here = *state;
    nphd_index *index = make(here, 1500, 0);
    static const uint64_t less[] = {1, 4, 11};
    size_t bytes = 0;
    trailer_places places = {0};

    OK(nphd_index_save(index, PATH, NULL, NULL));
    for (size_t i = 0; i < sizeof(less) / sizeof(less[0]); i++) {
        uint8_t *data = memory_io_get(here->disk, PATH, &bytes);
        nphd_index *seen = create(here, 64, false);
        nphd_error err = NPHD_ERROR_INIT;
        assert_true(trailer_places_find(data, bytes, &places));
        for (uint8_t *entry = data + places.directory_offset + NPHDI_TRAILER_DIRECTORY_HEAD_BYTES;
             entry < data + places.footer_offset; entry += NPHDI_TRAILER_SECTION_BYTES) {
            if (nphdi_get32(entry) == NPHDI_SECTION_KEY_OVERFLOW) {
                nphdi_put64(entry + 16, nphdi_get64(entry + 16) - less[i]);
            }
        }
        trailer_repair(data, &places);
        memory_io_put(here->disk, "hostile", data, bytes);
        free(data);
        assert_int_equal(nphd_index_view(seen, "hostile", NULL, &err), NPHD_CORRUPT);
        assert_non_null(strstr(err.text, "wrong size"));
        nphd_index_close(seen);
    }
    nphd_index_close(index);
}

/* Each piece of memory fails in turn: while it is saved, and while a table is derived. */
static void test_memory_faults(void **state)
{
    lab *here = *state;
    nphd_index *index = make(here, 4000, 0);
    nphd_index *seen = create(here, 64, false);
    size_t bytes = 0;
    bool failed = true;

    for (uint64_t n = 1; failed; n++) {
        allocator_fault_arm(&here->allocator, ALLOCATOR_FAULT_ALL, n, false);
        const nphd_status status = nphd_index_save(index, PATH, NULL, NULL);
        failed = here->allocator.failed > 0;
        allocator_fault_arm(&here->allocator, 0, 0, false);
        assert_int_equal(status, failed ? NPHD_OUT_OF_MEMORY : NPHD_OK);
    }
    uint8_t *data = memory_io_get(here->disk, PATH, &bytes);
    memory_io_put(here->disk, "bare", data, (size_t)nphdi_index_foreign_bytes(index));
    free(data);
    OK(nphd_index_view(seen, "bare", NULL, NULL));
    failed = true;
    for (uint64_t n = 1; failed; n++) {
        bool has = false;
        allocator_fault_arm(&here->allocator, ALLOCATOR_FAULT_ALL, n, false);
        const nphd_status status = nphd_index_contains(seen, near_key(3999), &has, NULL);
        failed = here->allocator.failed > 0;
        allocator_fault_arm(&here->allocator, 0, 0, false);
        assert_int_equal(status, failed ? NPHD_OUT_OF_MEMORY : NPHD_OK);
        assert_int_equal(has, !failed);
    }
    nphd_index_close(seen);
    nphd_index_close(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chosen_keys), TEST(test_table),         TEST(test_files),
        TEST(test_hostile_overflow),        TEST(test_hostile_sizes), TEST(test_memory_faults),
    };

    return cmocka_run_group_tests_name("key_overflow", tests, NULL, NULL);
}
