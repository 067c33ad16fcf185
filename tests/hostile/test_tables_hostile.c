/* Files whose hash tables are damaged: behind right checksums a search refuses them or gives an
 * answer that is bounded and made of what is there; with the checksums as they were, verify finds
 * every changed byte, padding included. Memory is bounded as well.
 *
 * NPHD_TEST_SCALE=small takes fewer places. */
#include "support/allocator_fault.h"
#include "support/io_memory.h"
#include "support/test_random.h"
#include "support/trailer_repair.h"

#include <nphd/nphd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call) assert_int_equal((call), NPHD_OK)
#define PATH "tables.usearch"

/* A search's own beside what it looks up: 8 bytes for each value of four tables. */
#define MEMORY_BYTES (8U << 20)

enum { VECTORS = 16500, BYTES = 8, MOST = 50 };

typedef struct sample {
    uint8_t *data; /* as damaged now */
    uint8_t *whole;
    size_t bytes;
    trailer_places places;
    uint64_t first; /* of the tables */
    uint64_t end;
} sample;

static bool is_small(void)
{
    const char *scale = getenv("NPHD_TEST_SCALE");

    return scale != NULL && strcmp(scale, "small") == 0;
}

static void vector_at(uint64_t number, uint8_t out[BYTES])
{
    test_random random = {number / 8 * 31 + 1};

    test_random_fill(&random, out, BYTES);
    out[number % BYTES] ^= 1;
}

static void find_tables(sample *file)
{
    nphdi_trailer trailer;
    bool found = false;

    OK(nphdi_trailer_decode_footer("tables", file->data + file->places.footer_offset, file->bytes,
                                   &trailer, &found, NULL));
    OK(nphdi_trailer_decode_directory("tables", file->data + trailer.directory_offset, &trailer,
                                      NULL));
    const nphdi_trailer_section *section = nphdi_trailer_find(&trailer, NPHDI_SECTION_MIH);
    assert_non_null(section);
    file->first = section->offset;
    file->end = section->offset + section->bytes;
}

static void sample_make(sample *file)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;
    uint8_t room[BYTES];

    options.max_bits = 8 * BYTES;
    options.connectivity = 2;
    options.build_breadth = 4;
    OK(nphd_index_create(&options, &index, NULL));
    for (uint64_t i = 0; i < VECTORS; i++) {
        vector_at(i, room);
        const nphd_vector vector = {room, i % 3 == 0 ? BYTES / 2 : BYTES};
        OK(nphd_index_add(index, nphd_key_u64(i), vector, NULL, NULL));
    }
    OK(nphd_index_prepare(index, 1, NULL));
    OK(nphd_index_save_buffer(index, NULL, 0, &file->bytes, NULL));
    file->data = malloc(file->bytes);
    file->whole = malloc(file->bytes);
    assert_true(file->data != NULL && file->whole != NULL);
    OK(nphd_index_save_buffer(index, file->data, file->bytes, &file->bytes, NULL));
    memcpy(file->whole, file->data, file->bytes);
    nphd_index_close(index);
    assert_true(trailer_places_find(file->data, file->bytes, &file->places));
    find_tables(file);
}

/* Searches in every way that uses tables. Returns how many answered. */
static uint64_t search_all(nphd_index *index, allocator_fault *allocator)
{
    static nphd_match found[MOST];
    uint64_t answered = 0;

    for (uint64_t i = 0; i < 6; i++) {
        nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
        nphd_search_report report;
        uint8_t room[BYTES];
        vector_at(i * 997, room);
        const nphd_vector query = {room, i % 2 == 0 ? BYTES : BYTES / 2};
        options.mode = NPHD_SEARCH_EXACT;
        options.plan = i < 4 ? NPHD_PLAN_TABLES : NPHD_PLAN_AUTO;
        options.use_radius = i != 3;
        options.radius = 0.05F * (float)i;
        const nphd_status status =
            nphd_index_search(index, query, MOST, &options, found, &report, NULL);
        assert_true(status == NPHD_OK || status == NPHD_CORRUPT);
        assert_true(report.count <= (status == NPHD_OK ? MOST : 0));
        for (size_t j = 0; j < report.count; j++) {
            assert_true(found[j].key.low < VECTORS);
            assert_true(!options.use_radius || found[j].distance <= options.radius);
        }
        assert_true(report.computed <= VECTORS);
        answered += status == NPHD_OK ? 1 : 0;
    }
    assert_true(allocator->peak_bytes < MEMORY_BYTES);
    return answered;
}

static bool is_verified(memory_io *disk, const sample *file)
{
    nphd_verify_report report;

    memory_io_put(disk, PATH, file->data, file->bytes);
    const nphd_status status =
        nphd_file_verify(PATH, memory_io_table(disk), NULL, NULL, &report, NULL);
    assert_true(status == NPHD_OK || status == NPHD_CORRUPT);
    return status == NPHD_OK;
}

static void test_damaged_tables(void **state)
{
    const unsigned rounds = is_small() ? 60 : 1000;
    test_random random = {test_seed()};
    memory_io *disk = memory_io_create(1);
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    allocator_fault allocator;
    nphd_index *index = NULL;
    uint64_t answered = 0;
    sample file;

    (void)state;
    sample_make(&file);
    allocator_fault_init(&allocator);
    options.allocator = &allocator.table;
    OK(nphd_index_create(&options, &index, NULL));
    for (unsigned round = 0; round < rounds; round++) {
        const uint64_t room = file.end - file.first - 4;
        const uint64_t first = file.first + test_random_below(&random, room);
        const uint64_t bytes = round % 4 == 0 ? test_random_below(&random, room) : 1;
        /* a byte, or a number again and again: values that claim much, slots that are none */
        const uint64_t value = test_random_below(&random, 2) == 0
                                   ? test_random_next(&random)
                                   : test_random_below(&random, (uint64_t)2 * VECTORS);
        for (uint64_t at = first; at < first + bytes && at + 4 <= file.end; at += 4) {
            if (bytes == 1) {
                file.data[at] ^= (uint8_t)(1 + value % 255);
            } else {
                nphdi_put32(file.data + at, test_random_below(&random, 4) == 0
                                                ? nphdi_get32(file.whole + at)
                                                : (uint32_t)value);
            }
        }
        const bool changed = memcmp(file.data, file.whole, file.bytes) != 0;
        assert_true(changed != is_verified(disk, &file));
        trailer_repair(file.data, &file.places);
        allocator.peak_bytes = 0;
        if (nphd_index_view_buffer(index, file.data, file.bytes, NULL, NULL) == NPHD_OK) {
            answered += search_all(index, &allocator);
            OK(nphd_index_reset(index, NULL));
        }
        memcpy(file.data, file.whole, file.bytes);
    }
    assert_true(answered > 0);
    nphd_index_close(index);
    assert_true(allocator_fault_is_clean(&allocator));
    allocator_fault_destroy(&allocator);
    memory_io_destroy(disk);
    free(file.data);
    free(file.whole);
}

/* What lies between the parts of the tables, and beside them, counts as well. */
static void test_padding(void **state)
{
    memory_io *disk = memory_io_create(1);
    uint64_t padding = 0;
    sample file;

    (void)state;
    sample_make(&file);
    assert_true(is_verified(disk, &file));
    /* behind the head, 8 bytes that tell the form of the tables, there are 56 of padding */
    for (uint64_t at = file.first + (uint64_t)4 * 258; at < file.first + (uint64_t)4 * 272; at++) {
        assert_int_equal(file.data[at], 0);
        file.data[at] = 1;
        assert_false(is_verified(disk, &file));
        file.data[at] = 0;
        padding++;
    }
    assert_int_equal(padding, 56);
    memory_io_destroy(disk);
    free(file.data);
    free(file.whole);
}

/* Tables that open and are not those of the rows: a view is searched with them, but neither taken
 * for verified nor written anew. */
static void test_tables_of_other_rows(void **state)
{
    nphd_index_options create = NPHD_INDEX_OPTIONS_INIT;
    nphd_open_options open = NPHD_OPEN_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_index *index = NULL;
    size_t bytes = 0;
    sample file;

    (void)state;
    sample_make(&file);
    file.data[(file.first + file.end) / 2] ^= 1;
    trailer_repair(file.data, &file.places);
    OK(nphd_index_create(&create, &index, NULL));
    OK(nphd_index_view_buffer(index, file.data, file.bytes, NULL, NULL));
    assert_int_equal(nphd_index_save_buffer(index, file.whole, file.bytes, &bytes, &err),
                     NPHD_CORRUPT);
    assert_non_null(strstr(err.text, "buffer: trailer: the hash tables do not fit the rows"));
    assert_int_equal(bytes, 0);
    OK(nphd_index_reset(index, NULL));
    open.verify = true;
    err.text[0] = '\0';
    assert_int_equal(nphd_index_view_buffer(index, file.data, file.bytes, &open, &err),
                     NPHD_CORRUPT);
    assert_non_null(strstr(err.text, "the hash tables do not fit the rows"));
    assert_int_equal(nphd_index_size(index), 0);
    nphd_index_close(index);
    free(file.data);
    free(file.whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_damaged_tables),
                                       cmocka_unit_test(test_padding),
                                       cmocka_unit_test(test_tables_of_other_rows)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
