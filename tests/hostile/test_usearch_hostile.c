/* Damaged and hostile files, exhaustively: small ones, cut at every length and with every byte
 * changed, are opened in every way. No crash, no read beyond the end (buffers are exactly as long
 * as the file, for the address sanitizer), no status that is not documented, no memory that the
 * file does not justify; and a file with a trailer notices every single changed byte.
 *
 * NPHD_TEST_SCALE=small takes fewer values of each byte. */
#include "support/allocator_fault.h"
#include "support/allocator_plain.h"
#include "support/io_memory.h"
#include "support/test_random.h"
#include "support/trailer_repair.h"

#include "formats/usearch_format.h"

#include <nphd/nphd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define PATH "hostile.usearch"

/* Beside the file itself: locks, one block, a step of each region, a search's working memory. */
#define MEMORY_BYTES (6U << 20)
#define MEMORY_FACTOR 16

typedef struct sample {
    const char *name;
    uint8_t *data;
    size_t bytes;
    bool ours; /* with a trailer */
    trailer_places places;
    size_t rows_from; /* what lies from here.. */
    size_t rows_to;   /* ..to here are vectors: any value is as good as another */
} sample;

typedef struct lab {
    allocator_fault allocator;
    memory_io *disk;
    nphd_index *loader;
    nphd_index *viewer;
    uint64_t opened;
    uint64_t refused;
} lab;

static bool is_small(void)
{
    const char *scale = getenv("NPHD_TEST_SCALE");

    return scale != NULL && strcmp(scale, "small") == 0;
}

static nphd_index *create(lab *here)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;

    options.allocator = &here->allocator.table;
    options.io = memory_io_table(here->disk);
    assert_int_equal(nphd_index_create(&options, &index, NULL), NPHD_OK);
    return index;
}

static int lab_open(void **state)
{
    static lab here;

    memset(&here, 0, sizeof(here));
    allocator_fault_init(&here.allocator);
    here.allocator.below = allocator_plain();
    here.disk = memory_io_create(1);
    here.loader = create(&here);
    here.viewer = create(&here);
    *state = &here;
    return 0;
}

static int lab_close(void **state)
{
    lab *here = *state;

    nphd_index_close(here->loader);
    nphd_index_close(here->viewer);
    assert_int_equal(memory_io_open_files(here->disk), 0);
    assert_int_equal(memory_io_maps(here->disk), 0);
    memory_io_destroy(here->disk);
    assert_true(allocator_fault_is_clean(&here->allocator));
    allocator_fault_destroy(&here->allocator);
    allocator_plain_release();
    return 0;
}

/* ---- samples ---- */

static void sample_rows(sample *file)
{
    const uint64_t rows = nphdi_get32(file->data);
    const uint64_t columns = nphdi_get32(file->data + 4);

    file->rows_from = 8;
    file->rows_to = (size_t)(8 + rows * columns);
    if (file->rows_to > file->bytes) {
        file->rows_to = file->rows_from;
    }
}

static sample sample_read(const char *name)
{
    sample file = {name, NULL, 0, false, {0, 0, 0, 0, 0, 0}, 0, 0};
    char path[512];
    long bytes;

    (void)snprintf(path, sizeof(path), NPHD_SOURCE_DIR "/tests/fixtures/usearch/%s.usearch", name);
    FILE *stream = fopen(path, "rb");
    assert_non_null(stream);
    assert_int_equal(fseek(stream, 0, SEEK_END), 0);
    bytes = ftell(stream);
    assert_true(bytes > 0);
    rewind(stream);
    file.bytes = (size_t)bytes;
    file.data = malloc(file.bytes);
    assert_non_null(file.data);
    assert_int_equal(fread(file.data, 1, file.bytes, stream), file.bytes);
    (void)fclose(stream);
    sample_rows(&file);
    return file;
}

/* A file of ours: `count` vectors, of which every fifth is removed. */
static sample sample_make(const char *name, size_t count, nphd_metric metric, uint32_t key_bits,
                          uint32_t connectivity, bool multi)
{
    sample file = {name, NULL, 0, true, {0, 0, 0, 0, 0, 0}, 0, 0};
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    test_random random = {count};
    nphd_index *index = NULL;
    uint8_t data[8];

    options.max_bits = 64;
    options.key_bits = key_bits;
    options.metric = metric;
    options.connectivity = connectivity;
    options.multi = multi;
    assert_int_equal(nphd_index_create(&options, &index, NULL), NPHD_OK);
    for (size_t i = 0; i < count; i++) {
        const nphd_vector vector = {data, metric == NPHD_METRIC_HAMMING ? 8 : 1 + i % 8};
        const nphd_key key = {key_bits == 64 ? 0 : i, multi ? i / 2 : i};
        test_random_fill(&random, data, sizeof(data));
        assert_int_equal(nphd_index_add(index, key, vector, NULL, NULL), NPHD_OK);
    }
    for (size_t i = 0; i < count; i += 5) {
        const nphd_key key = {key_bits == 64 ? 0 : i, multi ? i / 2 : i};
        assert_int_equal(nphd_index_remove(index, &key, 1, NULL, NULL), NPHD_OK);
    }
    assert_int_equal(nphd_index_save_buffer(index, NULL, 0, &file.bytes, NULL), NPHD_OK);
    file.data = malloc(file.bytes);
    assert_non_null(file.data);
    assert_int_equal(nphd_index_save_buffer(index, file.data, file.bytes, &file.bytes, NULL),
                     NPHD_OK);
    nphd_index_close(index);
    assert_true(trailer_places_find(file.data, file.bytes, &file.places));
    sample_rows(&file);
    return file;
}

/* ---- using an index that may be a view of a hostile file ---- */

/* Content that was loaded has been checked whole: nothing of it may be corrupt. */
static void check_status(nphd_status status, bool checked)
{
    if (status == NPHD_CORRUPT
            ? checked
            : status != NPHD_OK && status != NPHD_NOT_FOUND && status != NPHD_TOO_SMALL) {
        fail_msg("status %s", nphd_status_name(status));
    }
}

static void use_lookups(nphd_index *index, const nphd_key *keys, size_t count, bool checked)
{
    const size_t most = nphd_index_max_bytes(index);
    uint8_t *data = malloc(4 * most);
    uint8_t *many = malloc(count * most);
    size_t *lengths = malloc(count * sizeof(*lengths));
    bool *some = malloc(count * sizeof(*some));
    size_t bytes = 0;
    size_t found = 0;
    bool there = false;

    assert_true(data != NULL && many != NULL && lengths != NULL && some != NULL);
    for (size_t i = 0; i < count; i++) {
        check_status(nphd_index_contains(index, keys[i], &there, NULL), checked);
        check_status(nphd_index_count(index, keys[i], &found, NULL), checked);
        check_status(nphd_index_get(index, keys[i], data, most, &bytes, NULL), checked);
        assert_true(bytes <= most);
        check_status(nphd_index_get_all(index, keys[i], data, lengths, 4, &found, NULL), checked);
    }
    check_status(nphd_index_get_many(index, keys, count, many, lengths, NULL), checked);
    check_status(nphd_index_contains_many(index, keys, count, some, NULL), checked);
    free(data);
    free(many);
    free(lengths);
    free(some);
}

static bool filter_odd(void *context, nphd_key key)
{
    (void)context;
    return key.low % 2 == 1;
}

static void use_searches(nphd_index *index, bool checked, bool hamming)
{
    static const uint8_t bits[NPHD_MAX_BYTES] = {0x5a, 0xff, 0, 0x81};
    const size_t most = nphd_index_max_bytes(index);
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_match found[5];
    nphd_search_report report;

    for (unsigned kind = 0; kind < 4; kind++) {
        const nphd_vector query = {bits, hamming || kind == 0 ? most : 1};
        options.mode = kind < 2 ? NPHD_SEARCH_EXACT : NPHD_SEARCH_APPROXIMATE;
        options.filter = kind == 3 ? filter_odd : NULL;
        const nphd_status status =
            nphd_index_search(index, query, 5, &options, found, &report, NULL);
        check_status(status, checked);
        assert_true(report.count <= (status == NPHD_OK ? 5U : 0U));
    }
}

static void use_cursor(nphd_index *index, uint64_t slots, bool checked)
{
    nphd_cursor cursor = nphd_index_cursor(index);
    uint8_t *data = malloc(nphd_index_max_bytes(index));
    nphd_key key;
    size_t bytes = 0;
    uint64_t met = 0;
    nphd_status status;

    assert_non_null(data);
    do {
        status = nphd_cursor_next(&cursor, &key, data, &bytes, NULL);
        check_status(status, checked);
        assert_true(met++ <= slots + 1);
    } while (status == NPHD_OK);
    free(data);
}

/* What a view writes anew must be whole, whatever it is a view of. */
static void use_save(lab *here, nphd_index *index, bool checked)
{
    size_t bytes = 0;
    size_t again = 0;
    nphd_error err = NPHD_ERROR_INIT;
    const nphd_status sized = nphd_index_save_buffer(index, NULL, 0, &bytes, NULL);

    check_status(sized, checked);
    if (sized != NPHD_OK) {
        return;
    }
    uint8_t *data = malloc(bytes);
    assert_non_null(data);
    const nphd_status status = nphd_index_save_buffer(index, data, bytes, &again, NULL);
    check_status(status, checked);
    if (status == NPHD_OK) {
        nphd_index *other = create(here);
        assert_int_equal(again, bytes);
        if (nphd_index_load_buffer(other, data, bytes, NULL, &err) != NPHD_OK) {
            fail_msg("what was saved cannot be loaded: %s", err.text);
        }
        nphd_index_close(other);
    }
    free(data);
}

static void use_copy(nphd_index *index, bool checked)
{
    nphd_index *copy = NULL;
    const nphd_status status = nphd_index_copy(index, &copy, NULL);

    check_status(status, checked);
    assert_true((copy != NULL) == (status == NPHD_OK));
    nphd_index_close(copy);
}

/* Adding to what was loaded must work, too. */
static void use_changes(nphd_index *index, const nphd_index_stats *stats)
{
    static const uint8_t bits[NPHD_MAX_BYTES] = {0x12};
    const nphd_vector vector = {bits, stats->max_bits / 8};
    const nphd_key keys[2] = {{0, 1}, {0, 4000000000U}};

    assert_int_equal(nphd_index_add(index, keys[1], vector, NULL, NULL), NPHD_OK);
    assert_int_equal(nphd_index_remove(index, keys, 2, NULL, NULL), NPHD_OK);
    assert_int_equal(nphd_index_isolate(index, NULL), NPHD_OK);
    assert_int_equal(nphd_index_add(index, keys[0], vector, NULL, NULL), NPHD_OK);
}

static void use(lab *here, nphd_index *index, bool checked, bool whole)
{
    static const nphd_key keys[] = {{0, 0}, {0, 1}, {0, 2}, {1, 1}, {4, 4}, {0, UINT64_MAX}};
    nphd_index_stats stats = NPHD_INDEX_STATS_INIT;
    uint64_t edges = 0;
    const nphd_status status = nphd_index_get_stats(index, &stats, NULL);

    check_status(status, checked);
    check_status(nphd_index_count_edges(index, &edges, NULL), checked);
    use_lookups(index, keys, sizeof(keys) / sizeof(keys[0]), checked);
    if (status == NPHD_OK) {
        use_searches(index, checked, stats.metric == NPHD_METRIC_HAMMING);
        use_cursor(index, stats.slots, checked);
    }
    if (whole) {
        use_save(here, index, checked);
        use_copy(index, checked);
    }
    if (checked && whole) {
        use_changes(index, &stats);
    }
}

/* ---- opening ---- */

static void check_open_status(nphd_status status, const nphd_error *err)
{
    if (status != NPHD_OK && status != NPHD_CORRUPT && status != NPHD_UNSUPPORTED) {
        fail_msg("open answers %s: %s", nphd_status_name(status), err->text);
    }
    assert_true((status == NPHD_OK) == (err->text[0] == '\0'));
}

/* Opens the bytes in every way; returns what the load answered. `whole`: also the slow ones. */
static nphd_status try_bytes(lab *here, const uint8_t *data, size_t bytes, bool whole)
{
    nphd_error err = NPHD_ERROR_INIT;
    nphd_metadata metadata = NPHD_METADATA_INIT;

    check_open_status(nphd_buffer_metadata(data, bytes, &metadata, &err), &err);
    here->allocator.peak_bytes = 0;
    const nphd_status loaded = nphd_index_load_buffer(here->loader, data, bytes, NULL, &err);
    check_open_status(loaded, &err);
    if (loaded == NPHD_OK) {
        use(here, here->loader, true, whole);
    }
    const nphd_status viewed = nphd_index_view_buffer(here->viewer, data, bytes, NULL, &err);
    check_open_status(viewed, &err);
    if (viewed == NPHD_OK) {
        here->opened++;
        use(here, here->viewer, false, whole);
        assert_int_equal(nphd_index_reset(here->viewer, NULL), NPHD_OK);
    } else {
        here->refused++;
    }
    if (here->allocator.peak_bytes > MEMORY_BYTES + MEMORY_FACTOR * (uint64_t)bytes) {
        fail_msg("%llu bytes of memory for a file of %zu",
                 (unsigned long long)here->allocator.peak_bytes, bytes);
    }
    return loaded;
}

static nphd_status try_verify(lab *here, const uint8_t *data, size_t bytes, char *text, size_t room)
{
    nphd_error err = NPHD_ERROR_INIT;
    nphd_verify_report report;

    memory_io_put(here->disk, PATH, data, bytes);
    const nphd_status status =
        nphd_file_verify(PATH, memory_io_table(here->disk), NULL, NULL, &report, &err);
    check_open_status(status, &err);
    assert_int_equal(report.file_bytes, bytes);
    (void)snprintf(text, room, "%s", err.text);
    return status;
}

/* ---- the tests over one sample ---- */

static void try_truncations(lab *here, const sample *file)
{
    char text[NPHD_ERROR_TEXT_BYTES];

    for (size_t bytes = 0; bytes < file->bytes; bytes++) {
        uint8_t *data = malloc(bytes == 0 ? 1 : bytes);
        assert_non_null(data);
        memcpy(data, file->data, bytes);
        const nphd_status loaded = try_bytes(here, data, bytes, bytes % 16 == 0);
        const nphd_status verified = try_verify(here, data, bytes, text, sizeof(text));
        /* without any of its trailer left it is a file of the reference, and whole */
        const bool may_load = file->ours && bytes >= file->places.foreign_bytes &&
                              bytes < file->places.foreign_bytes + NPHDI_TRAILER_MARK_BYTES;
        if (file->ours && (loaded == NPHD_OK || verified == NPHD_OK) && !may_load) {
            fail_msg("%s cut to %zu bytes: load %s, verify %s", file->name, bytes,
                     nphd_status_name(loaded), nphd_status_name(verified));
        }
        free(data);
    }
}

static void try_appended(lab *here, const sample *file)
{
    for (size_t more = 1; file->ours && more < 70; more++) {
        uint8_t *data = calloc(file->bytes + more, 1);
        assert_non_null(data);
        memcpy(data, file->data, file->bytes);
        assert_int_equal(try_bytes(here, data, file->bytes + more, false), NPHD_CORRUPT);
        free(data);
    }
}

/* Values to try for the byte at `at`: returns how many, in `out`. */
static size_t values_for(const sample *file, size_t at, bool all, uint8_t out[256])
{
    const uint8_t now = file->data[at];
    const bool row = at >= file->rows_from && at < file->rows_to;
    size_t count = 0;

    if (all && !row && !is_small()) {
        for (unsigned value = 0; value < 256; value++) {
            out[count++] = (uint8_t)value;
        }
        return count;
    }
    for (unsigned bit = 0; bit < 8; bit += is_small() ? 3 : 1) {
        out[count++] = (uint8_t)(now ^ 1U << bit);
    }
    out[count++] = 0;
    out[count++] = 0xff;
    return count;
}

static void try_changes(lab *here, const sample *file, bool all)
{
    uint8_t *data = malloc(file->bytes);
    uint8_t values[256];
    char text[NPHD_ERROR_TEXT_BYTES];

    assert_non_null(data);
    memcpy(data, file->data, file->bytes);
    for (size_t at = 0; at < file->bytes; at++) {
        const size_t count = values_for(file, at, all, values);
        for (size_t i = 0; i < count; i++) {
            if (values[i] == file->data[at]) {
                continue;
            }
            data[at] = values[i];
            const nphd_status loaded = try_bytes(here, data, file->bytes, i == 0);
            if (file->ours) {
                const nphd_status verified =
                    try_verify(here, data, file->bytes, text, sizeof(text));
                if (verified != NPHD_CORRUPT || loaded == NPHD_OK) {
                    fail_msg("%s: byte %zu is %u: verify %s (%s), load %s", file->name, at,
                             values[i], nphd_status_name(verified), text, nphd_status_name(loaded));
                }
            } else if (i == 0) {
                (void)try_verify(here, data, file->bytes, text, sizeof(text));
            }
        }
        data[at] = file->data[at];
    }
    assert_int_equal(try_bytes(here, data, file->bytes, true), NPHD_OK);
    assert_int_equal(try_verify(here, data, file->bytes, text, sizeof(text)), NPHD_OK);
    free(data);
}

/* The same behind right checksums: now the bounds have to hold. */
static void try_repaired_changes(lab *here, const sample *file, bool all)
{
    uint8_t *data = malloc(file->bytes);
    uint8_t values[256];
    char text[NPHD_ERROR_TEXT_BYTES];

    assert_non_null(data);
    for (size_t at = 0; at < file->bytes; at++) {
        const size_t count = values_for(file, at, all, values);
        for (size_t i = 0; i < count; i++) {
            memcpy(data, file->data, file->bytes);
            data[at] = values[i];
            trailer_repair(data, &file->places);
            const nphd_status loaded = try_bytes(here, data, file->bytes, i % 8 == 0);
            const nphd_status verified = try_verify(here, data, file->bytes, text, sizeof(text));
            if (verified == NPHD_OK && loaded != NPHD_OK) {
                fail_msg("%s: byte %zu is %u: verified, but load answers %s", file->name, at,
                         values[i], nphd_status_name(loaded));
            }
        }
    }
    free(data);
}

/* Numbers of 8 bytes at every place: the ends of ranges, which single bytes do not reach. */
static void try_repaired_numbers(lab *here, const sample *file)
{
    static const uint64_t numbers[] = {0,
                                       1,
                                       UINT64_MAX,
                                       UINT64_MAX - 1,
                                       1ULL << 63,
                                       (1ULL << 63) - 1,
                                       UINT32_MAX,
                                       UINT32_MAX - 1ULL,
                                       1ULL << 32,
                                       0x7fff,
                                       0x8000,
                                       UINT64_MAX - 63,
                                       0xffffffffffff0000};
    uint8_t *data = malloc(file->bytes);

    assert_non_null(data);
    for (size_t at = 0; at + 8 <= file->bytes; at++) {
        if (at > file->rows_from && at + 8 < file->rows_to) {
            continue;
        }
        for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
            memcpy(data, file->data, file->bytes);
            nphdi_put64(data + at, numbers[i]);
            if (file->ours) {
                trailer_repair(data, &file->places);
            }
            (void)try_bytes(here, data, file->bytes, false);
        }
    }
    free(data);
}

static void run(lab *here, sample file, bool all)
{
    here->opened = 0;
    here->refused = 0;
    try_truncations(here, &file);
    try_appended(here, &file);
    try_changes(here, &file, all);
    try_repaired_numbers(here, &file);
    if (file.ours) {
        try_repaired_changes(here, &file, all);
    }
    print_message("%s, %zu bytes: %llu opened, %llu refused\n", file.name, file.bytes,
                  (unsigned long long)here->opened, (unsigned long long)here->refused);
    free(file.data);
}

static void test_reference_files(void **state)
{
    run(*state, sample_read("nphd256_n0"), true);
    run(*state, sample_read("nphd256_n1"), true);
    run(*state, sample_read("nphd256_n2"), true);
    run(*state, sample_read("nphd256_allremoved"), false);
}

static void test_empty_file(void **state)
{
    run(*state, sample_make("ours_n0", 0, NPHD_METRIC_NPHD, 64, 4, false), true);
}

static void test_file_of_one(void **state)
{
    run(*state, sample_make("ours_n1", 1, NPHD_METRIC_NPHD, 64, 2, false), false);
}

static void test_file_of_five_octet_keys(void **state)
{
    run(*state, sample_make("ours_n5_key128", 5, NPHD_METRIC_HAMMING, 128, 2, false), false);
}

static void test_file_of_five_multi(void **state)
{
    run(*state, sample_make("ours_n5_multi", 5, NPHD_METRIC_NPHD, 64, 2, true), false);
}

/* More than one record of the node directory, and nodes on upper levels. */
static void test_file_of_seventy(void **state)
{
    lab *here = *state;
    sample file = sample_make("ours_n70", 70, NPHD_METRIC_NPHD, 64, 2, false);

    try_truncations(here, &file);
    try_changes(here, &file, false);
    free(file.data);
}

/* Damage at random places, several at once, behind right checksums. */
static void test_random_damage(void **state)
{
    lab *here = *state;
    sample files[] = {sample_make("ours_n70", 70, NPHD_METRIC_NPHD, 64, 2, false),
                      sample_make("ours_n70_key128", 70, NPHD_METRIC_HAMMING, 128, 3, true),
                      sample_read("nphd256_n2"), sample_read("uuid_nphd256_removed"),
                      sample_read("nphd256_dims64_n40")};
    test_random random = {test_seed()};

    for (size_t run_number = 0; run_number < (is_small() ? 300U : 4000U); run_number++) {
        const sample *file = &files[test_random_below(&random, sizeof(files) / sizeof(files[0]))];
        uint8_t *data = malloc(file->bytes);
        assert_non_null(data);
        memcpy(data, file->data, file->bytes);
        for (uint64_t changes = 1 + test_random_below(&random, 4); changes > 0; changes--) {
            uint64_t at = test_random_below(&random, file->bytes);
            if (at >= file->rows_from && at < file->rows_to && test_random_below(&random, 8) > 0) {
                at = file->rows_to + test_random_below(&random, file->bytes - file->rows_to);
            }
            data[at] = test_random_below(&random, 2) == 0
                           ? (uint8_t)test_random_next(&random)
                           : (uint8_t)(data[at] + test_random_below(&random, 3) - 1);
        }
        if (file->ours) {
            trailer_repair(data, &file->places);
        }
        (void)try_bytes(here, data, file->bytes, true);
        free(data);
    }
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        free(files[i].data);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_reference_files, lab_open, lab_close),
        cmocka_unit_test_setup_teardown(test_empty_file, lab_open, lab_close),
        cmocka_unit_test_setup_teardown(test_file_of_one, lab_open, lab_close),
        cmocka_unit_test_setup_teardown(test_file_of_five_octet_keys, lab_open, lab_close),
        cmocka_unit_test_setup_teardown(test_file_of_five_multi, lab_open, lab_close),
        cmocka_unit_test_setup_teardown(test_file_of_seventy, lab_open, lab_close),
        cmocka_unit_test_setup_teardown(test_random_damage, lab_open, lab_close),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
