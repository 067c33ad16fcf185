/* Views of files whose levels or tables are wrong behind right checksums, with and without those of
 * our sections that a reader may do without: what is asked of them is answered or refused as
 * damage, and verify names the place. */
#include "formats/usearch_format.h"
#include "support/io_memory.h"
#include "support/test_random.h"
#include "support/trailer_repair.h"

#include <nphd/nphd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call) assert_int_equal((call), NPHD_OK)
#define PATH "view.usearch"

enum { BYTES = 8, ROW = 1 + BYTES, REMOVED_EVERY = 5 };

typedef struct sample {
    uint8_t *data;
    size_t bytes;
    uint64_t slots;
    trailer_places places;
} sample;

/* Slot and key are the same number; every fifth is removed. */
static sample sample_make(uint64_t slots)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    test_random random = {slots};
    nphd_index *index = NULL;
    uint8_t bits[BYTES];
    sample file;

    memset(&file, 0, sizeof(file));
    options.max_bits = 8 * BYTES;
    options.connectivity = 2;
    OK(nphd_index_create(&options, &index, NULL));
    for (uint64_t slot = 0; slot < slots; slot++) {
        test_random_fill(&random, bits, sizeof(bits));
        const nphd_vector vector = {bits, 1 + slot % BYTES};
        OK(nphd_index_add(index, nphd_key_u64(slot), vector, NULL, NULL));
    }
    for (uint64_t slot = 0; slot < slots; slot += REMOVED_EVERY) {
        const nphd_key key = nphd_key_u64(slot);
        OK(nphd_index_remove(index, &key, 1, NULL, NULL));
    }
    OK(nphd_index_save_buffer(index, NULL, 0, &file.bytes, NULL));
    file.data = malloc(file.bytes);
    assert_non_null(file.data);
    OK(nphd_index_save_buffer(index, file.data, file.bytes, &file.bytes, NULL));
    nphd_index_close(index);
    file.slots = slots;
    assert_true(trailer_places_find(file.data, file.bytes, &file.places));
    return file;
}

static nphd_index *view(const sample *file)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;

    OK(nphd_index_create(&options, &index, NULL));
    OK(nphd_index_view_buffer(index, file->data, file->bytes, NULL, NULL));
    return index;
}

/* Our sections are passed over by a reader who does not know them. */
static void forget_section(sample *file, uint32_t id)
{
    uint8_t *entry = file->data + file->places.directory_offset;

    for (entry += NPHDI_TRAILER_DIRECTORY_HEAD_BYTES; nphdi_get32(entry) != id;) {
        entry += NPHDI_TRAILER_SECTION_BYTES;
        assert_true(entry < file->data + file->places.footer_offset);
    }
    nphdi_put32(entry, 1000);
    trailer_repair(file->data, &file->places);
}

/* All live slots of level 0 get a negative one; returns one of them. */
static uint64_t break_levels(sample *file)
{
    uint8_t *levels =
        file->data + NPHDI_USEARCH_MATRIX_BYTES + file->slots * ROW + NPHDI_USEARCH_HEAD_BYTES;
    uint64_t broken = 0;

    for (uint64_t slot = 0; slot < file->slots; slot++) {
        if (slot % REMOVED_EVERY != 0 && nphdi_get16(levels + 2 * slot) == 0) {
            nphdi_put16(levels + 2 * slot, 0xffff);
            broken = slot;
        }
    }
    assert_true(broken > 0);
    trailer_repair(file->data, &file->places);
    return broken;
}

static uint64_t count_by_cursor(nphd_index *index, nphd_status *out_status)
{
    nphd_cursor cursor = nphd_index_cursor(index);
    nphd_key key;
    uint64_t count = 0;

    while ((*out_status = nphd_cursor_next(&cursor, &key, NULL, NULL, NULL)) == NPHD_OK) {
        count++;
    }
    return count;
}

/* Nodes whose place cannot be told are damage wherever they are needed, whatever of our tables is
 * there; a walk along the graph asks for them ahead and does not stumble over that. */
static void test_levels(void **state)
{
    static const uint8_t bits[BYTES] = {1, 2, 3};

    (void)state;
    for (int live = 0; live < 2; live++) {
        sample file = sample_make(70);
        nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
        nphd_search_report report;
        nphd_match found[70];
        nphd_status status;
        bool there = true;
        const uint64_t broken = break_levels(&file);
        if (live == 0) {
            forget_section(&file, NPHDI_SECTION_LIVE);
        }
        nphd_index *index = view(&file);
        /* without live bits the key tells, and of these slots there is none */
        assert_true(count_by_cursor(index, &status) < 56);
        assert_int_equal(status, live != 0 ? NPHD_CORRUPT : NPHD_NOT_FOUND);
        assert_int_equal(nphd_index_contains(index, nphd_key_u64(broken), &there, NULL),
                         NPHD_CORRUPT);
        assert_false(there);
        options.mode = NPHD_SEARCH_APPROXIMATE;
        assert_int_equal(nphd_index_search(index, (nphd_vector){bits, BYTES}, 70, &options, found,
                                           &report, NULL),
                         NPHD_CORRUPT);
        assert_int_equal(report.count, 0);
        nphd_index_close(index);
        free(file.data);
    }
}

/* The key table is made from the nodes then, and is refused as they are, each time anew. */
static void test_levels_without_a_key_table(void **state)
{
    sample file = sample_make(70);
    bool there = false;

    (void)state;
    forget_section(&file, NPHDI_SECTION_KEY_TABLE);
    nphd_index *index = view(&file);
    OK(nphd_index_contains(index, nphd_key_u64(1), &there, NULL));
    assert_true(there);
    nphd_index_close(index);
    (void)break_levels(&file);
    index = view(&file);
    for (int turn = 0; turn < 2; turn++) {
        nphd_error err = NPHD_ERROR_INIT;
        assert_int_equal(nphd_index_contains(index, nphd_key_u64(1), &there, &err), NPHD_CORRUPT);
        assert_false(there);
        assert_non_null(strstr(err.text, "buffer: node "));
        assert_non_null(strstr(err.text, "a level, key, count or link is out of bounds"));
    }
    nphd_index_close(index);
    free(file.data);
}

/* A file that says of itself that it is empty, so that its key table may have no room, and has a
 * vector. */
static void test_key_table_without_room(void **state)
{
    sample file = sample_make(2);
    uint8_t *directory = file.data + file.places.directory_offset;
    uint8_t *entry = directory + NPHDI_TRAILER_DIRECTORY_HEAD_BYTES;
    memory_io *disk = memory_io_create(1);
    nphd_open_options options = NPHD_OPEN_OPTIONS_INIT;
    nphd_verify_report report;
    nphd_error err = NPHD_ERROR_INIT;
    bool there = true;

    (void)state;
    assert_int_equal(nphdi_get64(directory + 24), 1); /* vectors */
    nphdi_put64(directory + 24, 0);
    assert_int_equal(nphdi_get32(entry), NPHDI_SECTION_KEY_TABLE);
    nphdi_put64(entry + 16, 0); /* its size */
    trailer_repair(file.data, &file.places);
    memory_io_put(disk, PATH, file.data, file.bytes);
    assert_int_equal(nphd_file_verify(PATH, memory_io_table(disk), NULL, NULL, &report, &err),
                     NPHD_CORRUPT);
    assert_non_null(strstr(err.text, "the key table does not lead to slot 1"));
    nphd_index *index = view(&file);
    OK(nphd_index_contains(index, nphd_key_u64(1), &there, NULL)); /* as the table says */
    assert_false(there);
    options.verify = true;
    assert_int_equal(nphd_index_view_buffer(index, file.data, file.bytes, &options, &err),
                     NPHD_CORRUPT);
    assert_non_null(strstr(err.text, "buffer: trailer: the key table does not lead to slot 1"));
    nphd_index_close(index);
    memory_io_destroy(disk);
    free(file.data);
}

/* The first link of each list of level 0 leads to the slot behind the last, for which there are a
 * row of other bytes and marks of a search. A search that ends before it goes there must not take
 * it in either: each begins at the vector that it looks for, and keeps only that. */
static void test_link_behind_the_last(void **state)
{
    sample file = sample_make(70);
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    const nphdi_node_shape shape = {8, 4, 2, 4};
    uint8_t *levels =
        file.data + NPHDI_USEARCH_MATRIX_BYTES + file.slots * ROW + NPHDI_USEARCH_HEAD_BYTES;
    uint8_t *node = levels + 2 * file.slots;

    (void)state;
    for (uint64_t slot = 0; slot < file.slots; slot++) {
        uint8_t *list = node + nphdi_node_list_offset(&shape, 0);
        assert_true(nphdi_get32(list) <= shape.connectivity_base);
        if (nphdi_get32(list) > 0) {
            nphdi_put32(list + 4, (uint32_t)file.slots);
        }
        node += nphdi_node_base_bytes(&shape) +
                nphdi_get16(levels + 2 * slot) * nphdi_list_upper_bytes(&shape);
    }
    trailer_repair(file.data, &file.places);
    nphd_index *index = view(&file);
    options.mode = NPHD_SEARCH_APPROXIMATE;
    options.breadth = 1;
    for (uint64_t slot = 0; slot < file.slots; slot++) {
        const uint8_t *row = file.data + NPHDI_USEARCH_MATRIX_BYTES + slot * ROW;
        const nphd_vector query = {row + 1, row[0]};
        nphd_search_report report;
        nphd_match found;
        assert_int_equal(nphd_index_search(index, query, 1, &options, &found, &report, NULL),
                         NPHD_CORRUPT);
        assert_int_equal(report.count, 0);
    }
    nphd_index_close(index);
    free(file.data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_levels_without_a_key_table),
        cmocka_unit_test(test_key_table_without_room),
        cmocka_unit_test(test_link_behind_the_last),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
