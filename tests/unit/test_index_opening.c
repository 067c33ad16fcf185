/* Opening single files: rows of 256 bytes and of one, progress that stops a load, trailers that
 * say something else than what was read, sections that are missing, options of no known size; and
 * views whose tables have to be derived, without memory. A call that fails leaves the index as it
 * was. */
#include "formats/usearch_format.h"
#include "index/index_internal.h"
#include "support/shard_lab.h"
#include "support/trailer_repair.h"

#include <errno.h>

#define OTHER "other.usearch"

/* The files have no trailer, unless `ours`. */
static uint8_t *take_file(lab *here, nphd_index *index, bool ours, size_t *out_bytes)
{
    uint8_t *data;

    OK(nphd_index_save(index, PATH, NULL, NULL));
    data = memory_io_get(here->disk, PATH, out_bytes);
    assert_non_null(data);
    if (!ours) {
        *out_bytes = (size_t)nphdi_index_foreign_bytes(index);
    }
    return data;
}

static nphd_index *create_of(lab *here, uint32_t max_bits, nphd_metric metric)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;

    options.max_bits = max_bits;
    options.metric = metric;
    options.connectivity = 4;
    options.io = &here->fault.table;
    options.allocator = &here->allocator.table;
    OK(nphd_index_create(&options, &index, NULL));
    return index;
}

static void expect_error(nphd_status status, nphd_status expected, const nphd_error *err,
                         const char *what)
{
    if (status != expected || err->status != expected || strstr(err->text, what) == NULL) {
        fail_msg("%s: %s", nphd_status_name(status), err->text);
    }
}

/* ---- legacy rows ---- */

/* Rows of 256 bytes under the code of Hamming are those of NPHD vectors of the full width. */
static void test_rows_of_256_bytes(void **state)
{
    lab *here = *state;
    nphd_index *index = create_of(here, NPHD_MAX_BITS, NPHD_METRIC_NPHD);
    nphd_open_options options = NPHD_OPEN_OPTIONS_INIT;
    nphd_metadata metadata = NPHD_METADATA_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_index *opened = NULL;
    uint8_t bits[NPHD_MAX_BYTES];
    uint8_t found[NPHD_MAX_BYTES];
    size_t bytes = 0;
    bool added;

    for (uint64_t key = 0; key < 5; key++) {
        memset(bits, (int)key + 1, sizeof(bits));
        const nphd_vector vector = {bits, sizeof(bits) - (size_t)key};
        OK(nphd_index_add(index, nphd_key_u64(key), vector, &added, NULL));
    }
    uint8_t *data = take_file(here, index, false, &bytes);
    data[8 + 5 * 256 + 13] = 'b'; /* the metric */
    memory_io_put(here->disk, OTHER, data, bytes);
    options.io = &here->fault.table;
    options.allocator = &here->allocator.table;
    for (int view = 0; view < 2; view++) {
        options.legacy_nphd = false;
        expect_error(nphd_index_restore(OTHER, view != 0, &options, &opened, &err),
                     NPHD_UNSUPPORTED, &err, "vectors of 2048 bits");
        assert_null(opened);
        options.legacy_nphd = true;
        OK(nphd_index_restore(OTHER, view != 0, &options, &opened, &err));
        for (uint64_t key = 0; key < 5; key++) {
            size_t length = 0;
            OK(nphd_index_get(opened, nphd_key_u64(key), found, sizeof(found), &length, NULL));
            assert_int_equal(length, NPHD_MAX_BYTES - key);
            memset(bits, (int)key + 1, sizeof(bits));
            assert_memory_equal(found, bits, length);
        }
        nphd_index_close(opened);
    }
    OK(nphd_file_metadata(OTHER, &here->fault.table, &metadata, NULL));
    assert_int_equal(metadata.metric, NPHD_METRIC_HAMMING);
    assert_int_equal(metadata.max_bits, 2048);
    /* one byte more is none of both */
    nphdi_put32(data + 4, 257);
    nphdi_put64(data + 8 + 5 * 256 + 33, 8 * 257);
    uint8_t *wider = calloc(1, bytes + 5);
    assert_non_null(wider);
    memcpy(wider, data, 8);
    memcpy(wider + 8 + 5 * 257, data + 8 + 5 * 256, bytes - 8 - 5 * 256);
    memory_io_put(here->disk, OTHER, wider, bytes + 5);
    expect_error(nphd_index_restore(OTHER, true, &options, &opened, &err), NPHD_UNSUPPORTED, &err,
                 "rows of 2056 bits");
    metadata = (nphd_metadata)NPHD_METADATA_INIT;
    OK(nphd_file_metadata(OTHER, &here->fault.table, &metadata, NULL));
    assert_int_equal(metadata.max_bits, 0);
    free(wider);
    free(data);
    nphd_index_close(index);
}

static void test_rows_of_one_byte(void **state)
{
    lab *here = *state;
    nphd_index *index = create_of(here, 8, NPHD_METRIC_HAMMING);
    nphd_open_options options = NPHD_OPEN_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    const uint8_t bits[1] = {5};
    nphd_index *opened = NULL;

    OK(nphd_index_add(index, nphd_key_u64(1), (nphd_vector){bits, 1}, NULL, NULL));
    OK(nphd_index_save(index, PATH, NULL, NULL));
    nphd_index_close(index);
    options.io = &here->fault.table;
    options.allocator = &here->allocator.table;
    options.legacy_nphd = true;
    expect_error(nphd_index_restore(PATH, false, &options, &opened, &err), NPHD_MISMATCH, &err,
                 "rows of 1 byte");
    assert_null(opened);
    options.legacy_nphd = false;
    OK(nphd_index_restore(PATH, false, &options, &opened, &err));
    assert_int_equal(nphd_index_size(opened), 1);
    nphd_index_close(opened);
}

/* ---- progress ---- */

typedef struct stopping {
    uint64_t calls;
    uint64_t stop_at;
} stopping;

static int count_calls(void *context, uint64_t done, uint64_t total)
{
    stopping *of = context;

    assert_true(done <= total);
    return ++of->calls == of->stop_at ? 1 : 0;
}

static void test_progress_of_a_load(void **state)
{
    lab *here = *state;
    nphd_index *index = create(here, 64, false);
    nphd_open_options options = NPHD_OPEN_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    stopping of = {0, 1};

    add(index, 0, 100);
    OK(nphd_index_save(index, PATH, NULL, NULL));
    add(index, 100, 110);
    options.progress = count_calls;
    options.progress_context = &of;
    expect_error(nphd_index_load(index, PATH, &options, &err), NPHD_CANCELLED, &err, PATH);
    assert_int_equal(nphd_index_size(index), 110);
    assert_true(has(index, 105));
    of = (stopping){0, 0};
    OK(nphd_index_load(index, PATH, &options, NULL));
    assert_true(of.calls > 0);
    assert_int_equal(nphd_index_size(index), 100);
    nphd_index_close(index);
}

/* ---- trailers ---- */

/* The bytes of the reference part with something behind them, and then a trailer around both. */
static void test_trailer_that_begins_later(void **state)
{
    static const uint8_t identity[16] = {1};
    lab *here = *state;
    nphd_index *index = create(here, 64, false);
    nphd_error err = NPHD_ERROR_INIT;
    nphdi_trailed_file file;
    size_t bytes = 0;

    add(index, 0, 30);
    uint8_t *data = take_file(here, index, false, &bytes);
    memset(&file, 0, sizeof(file));
    OK(nphdi_trailed_begin(&file, &here->fault.table, &here->allocator.table, OTHER, bytes + 8,
                           NULL, 0, NULL));
    OK(nphdi_trailed_put(&file, data, bytes, NULL));
    OK(nphdi_trailed_put(&file, "12345678", 8, NULL));
    OK(nphdi_trailed_commit(&file, identity, 3, NULL));
    nphdi_trailed_end(&file);
    add(index, 30, 40);
    expect_error(nphd_index_load(index, OTHER, NULL, &err), NPHD_CORRUPT, &err,
                 "the trailer tells of");
    assert_int_equal(nphd_index_size(index), 40);
    free(data);
    nphd_index_close(index);
}

/* The same the other way round: the trailer begins among the levels, and fills the room. */
static void test_trailer_that_begins_earlier(void **state)
{
    static const uint8_t identity[16] = {1};
    static uint8_t room[100000];
    const nphdi_extra_section extra = {1000, 0, room, sizeof(room)};
    lab *here = *state;
    nphd_index *index = create(here, 64, false);
    nphd_error err = NPHD_ERROR_INIT;
    nphdi_trailed_file file;
    size_t bytes = 0;

    add(index, 0, 30);
    uint8_t *data = take_file(here, index, false, &bytes);
    const uint64_t cuts[] = {8 + 30 * 9 + NPHDI_USEARCH_HEAD_BYTES + 10, bytes - 1000};
    for (size_t i = 0; i < 2; i++) {
        memset(&file, 0, sizeof(file));
        OK(nphdi_trailed_begin(&file, &here->fault.table, &here->allocator.table, OTHER, cuts[i],
                               &extra, 1, NULL));
        OK(nphdi_trailed_put(&file, data, cuts[i], NULL));
        OK(nphdi_trailed_commit(&file, identity, 3, NULL));
        nphdi_trailed_end(&file);
        expect_error(nphd_index_load(index, OTHER, NULL, &err), NPHD_CORRUPT, &err,
                     "trailer begins inside the nodes");
        expect_error(nphd_index_view(index, OTHER, NULL, &err), NPHD_CORRUPT, &err,
                     "trailer begins inside the nodes");
        assert_int_equal(nphd_index_size(index), 30);
    }
    free(data);
    nphd_index_close(index);
}

/* Entries of the directory that are wrong behind its checksum. */
static void test_entries_of_the_directory(void **state)
{
    lab *here = *state;
    nphd_index *index = create(here, 64, false);
    nphd_error err = NPHD_ERROR_INIT;
    trailer_places places = {0, 0, 0, 0, 0, 0};
    size_t bytes = 0;

    add(index, 0, 30);
    for (int which = 0; which < 2; which++) {
        uint8_t *data = take_file(here, index, true, &bytes);
        assert_true(trailer_places_find(data, bytes, &places));
        uint8_t *first = data + places.directory_offset + NPHDI_TRAILER_DIRECTORY_HEAD_BYTES;
        uint8_t *sums = data + places.sums_entry - 24;
        if (which == 0) { /* a section that no version has, and that must be known */
            nphdi_put32(first, 0);
            nphdi_put32(first + 4, NPHDI_SECTION_CRITICAL);
        } else { /* one checksum more than there are blocks */
            nphdi_put64(sums + 8, nphdi_get64(sums + 8) - 8);
            nphdi_put64(sums + 16, nphdi_get64(sums + 16) + 8);
        }
        trailer_repair(data, &places);
        memory_io_put(here->disk, OTHER, data, bytes);
        expect_error(nphd_index_load(index, OTHER, NULL, &err),
                     which == 0 ? NPHD_UNSUPPORTED : NPHD_CORRUPT, &err,
                     which == 0 ? "needed and not known" : "block checksums out of place");
        assert_int_equal(nphd_index_size(index), 30);
        free(data);
    }
    /* numbers of kinds were others before version 2.10; those that came later never were */
    uint8_t *data = take_file(here, index, false, &bytes);
    nphdi_put16(data + 8 + 30 * 9 + 9, 9);
    memory_io_put(here->disk, OTHER, data, bytes);
    expect_error(nphd_index_load(index, OTHER, NULL, &err), NPHD_CORRUPT, &err,
                 "key kind 23 with slot kind 15");
    free(data);
    nphd_index_close(index);
}

/* What a file of another writer may leave out is derived; here without memory at first. */
static void test_missing_sections(void **state)
{
    static const uint32_t ids[] = {NPHDI_SECTION_KEY_TABLE, NPHDI_SECTION_NODE_DIRECTORY,
                                   NPHDI_SECTION_LIVE};
    lab *here = *state;
    nphd_index *index = create(here, 64, false);
    size_t bytes = 0;

    add(index, 0, 200);
    remove_key(index, 5);
    uint8_t *data = take_file(here, index, true, &bytes);
    nphd_index_close(index);
    for (int all = 0; all < 2; all++) {
        trailer_places places = {0, 0, 0, 0, 0, 0};
        bool failed = true;
        assert_true(trailer_places_find(data, bytes, &places));
        for (uint8_t *entry = data + places.directory_offset + NPHDI_TRAILER_DIRECTORY_HEAD_BYTES;
             entry < data + places.footer_offset; entry += NPHDI_TRAILER_SECTION_BYTES) {
            for (size_t i = 0; i < 3; i++) {
                if (nphdi_get32(entry) == ids[i] && (all != 0 || i == 0)) {
                    nphdi_put32(entry, 1000 + ids[i]);
                }
            }
        }
        trailer_repair(data, &places);
        memory_io_put(here->disk, OTHER, data, bytes);
        for (uint64_t n = 1; failed; n++) {
            nphd_index *seen = create(here, 64, false);
            nphd_error err = NPHD_ERROR_INIT;
            bool there = false;
            allocator_fault_arm(&here->allocator, ALLOCATOR_FAULT_ALL, n, false);
            nphd_status status = nphd_index_view(seen, OTHER, NULL, &err);
            const bool opened = status == NPHD_OK;
            if (opened) {
                status = nphd_index_contains(seen, nphd_key_u64(77), &there, &err);
                assert_int_equal(there, status == NPHD_OK);
            }
            failed = here->allocator.failed > 0;
            allocator_fault_arm(&here->allocator, ALLOCATOR_FAULT_ALL, 0, false);
            assert_int_equal(status, failed ? NPHD_OUT_OF_MEMORY : NPHD_OK);
            assert_int_equal(nphd_index_size(seen), opened ? 199 : 0);
            assert_true(!opened || (has(seen, 77) && !has(seen, 5)));
            nphd_index_close(seen);
        }
    }
    free(data);
}

/* A view of a file of the reference: each call that needs its key table, without memory. */
static nphd_status call_view(nphd_index *seen, int which, nphd_error *err)
{
    uint8_t bits[8];
    static uint8_t buffer[65536];
    size_t bytes = 0;
    bool there = false;

    switch (which) {
    case 0:
        return nphd_index_contains(seen, nphd_key_u64(7), &there, err);
    case 1:
        return nphd_index_get(seen, nphd_key_u64(7), bits, sizeof(bits), &bytes, err);
    case 2:
        return nphd_index_save(seen, "again", NULL, err);
    default:
        return nphd_index_save_buffer(seen, buffer, sizeof(buffer), &bytes, err);
    }
}

static void test_view_of_the_reference(void **state)
{
    lab *here = *state;
    nphd_index *index = create(here, 64, false);
    size_t bytes = 0;

    add(index, 0, 100);
    uint8_t *data = take_file(here, index, false, &bytes);
    memory_io_put(here->disk, OTHER, data, bytes);
    free(data);
    nphd_index_close(index);
    for (int which = 0; which < 4; which++) {
        bool failed = true;
        for (uint64_t n = 1; failed; n++) {
            nphd_index *seen = view(here, OTHER);
            nphd_error err = NPHD_ERROR_INIT;
            allocator_fault_arm(&here->allocator, ALLOCATOR_FAULT_ALL, n, false);
            const nphd_status status = call_view(seen, which, &err);
            failed = here->allocator.failed > 0;
            allocator_fault_arm(&here->allocator, ALLOCATOR_FAULT_ALL, 0, false);
            assert_int_equal(status, failed ? NPHD_OUT_OF_MEMORY : NPHD_OK);
            assert_int_equal(nphd_index_size(seen), 100);
            OK(call_view(seen, which, NULL));
            nphd_index_close(seen);
        }
    }
    assert_int_equal(memory_io_count(here->disk, ".tmp-"), 0);
}

/* A view whose file has hash tables, without memory for what it notes of them. */
static void test_view_with_tables(void **state)
{
    enum { VECTORS = 16500 };
    lab *here = *state;
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    static uint8_t bits[VECTORS][8];
    static nphd_vector vectors[VECTORS];
    nphd_index *index = NULL;
    bool failed = true;

    options.max_bits = 64;
    options.connectivity = 2;
    options.build_breadth = 1;
    options.io = &here->fault.table;
    options.allocator = &here->allocator.table;
    OK(nphd_index_create(&options, &index, NULL));
    for (size_t i = 0; i < VECTORS; i++) {
        vectors[i] = vector_of(i, 0, bits[i]);
    }
    OK(nphd_index_add_many(index, NULL, vectors, VECTORS, NULL, NULL, NULL, NULL));
    OK(nphdi_index_make_tables(index, 1, NULL, NULL));
    OK(nphd_index_save(index, PATH, NULL, NULL));
    nphd_index_close(index);
    for (uint64_t n = 1; failed; n++) {
        nphd_index *seen = create(here, 64, false);
        nphd_error err = NPHD_ERROR_INIT;
        allocator_fault_arm(&here->allocator, ALLOCATOR_FAULT_ALL, n, false);
        const nphd_status status = nphd_index_view(seen, PATH, NULL, &err);
        failed = here->allocator.failed > 0;
        allocator_fault_arm(&here->allocator, ALLOCATOR_FAULT_ALL, 0, false);
        assert_int_equal(status, failed ? NPHD_OUT_OF_MEMORY : NPHD_OK);
        assert_int_equal(nphd_index_size(seen), failed ? 0 : VECTORS);
        assert_true(failed || nphdi_index_has_tables(seen));
        /* what more vectors would take: all slots of a view are taken */
        if (!failed) {
            assert_true(nphdi_index_foreign_bytes_after(seen, 10) >
                        nphdi_index_foreign_bytes(seen));
        }
        nphd_index_close(seen);
    }
}

/* ---- options ---- */

static void test_options_of_no_known_size(void **state)
{
    lab *here = *state;
    nphd_open_options open = NPHD_OPEN_OPTIONS_INIT;
    nphd_batch_options batch = NPHD_BATCH_OPTIONS_INIT;
    nphd_sharded_options directory = NPHD_SHARDED_OPTIONS_INIT;
    nphd_index *index = create(here, 64, false);
    nphd_sharded *sharded = NULL;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_index *opened = NULL;

    add(index, 0, 3);
    OK(nphd_index_save(index, PATH, NULL, NULL));
    directory.io = &here->fault.table;
    directory.allocator = &here->allocator.table;
    OK(nphd_sharded_open("d", &directory, &sharded, NULL));
    open.struct_size = 1;
    batch.struct_size = 1;
    directory.struct_size = 1;
    expect_error(nphd_index_load(index, PATH, &open, &err), NPHD_INVALID_ARGUMENT, &err,
                 "open options");
    expect_error(nphd_index_restore(PATH, true, &open, &opened, &err), NPHD_INVALID_ARGUMENT, &err,
                 "open options");
    assert_null(opened);
    expect_error(nphd_index_save(index, OTHER, &batch, &err), NPHD_INVALID_ARGUMENT, &err,
                 "batch options");
    expect_error(nphd_sharded_save(sharded, &batch, &err), NPHD_INVALID_ARGUMENT, &err,
                 "batch options");
    expect_error(nphd_sharded_compact(sharded, &batch, NULL, &err), NPHD_INVALID_ARGUMENT, &err,
                 "batch options");
    nphd_sharded_free(sharded);
    sharded = NULL;
    expect_error(nphd_sharded_open("d", &directory, &sharded, &err), NPHD_INVALID_ARGUMENT, &err,
                 "sharded options");
    assert_null(sharded);
    assert_int_equal(memory_io_count(here->disk, OTHER), 0);
    assert_int_equal(nphd_index_size(index), 3);
    nphd_index_close(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_rows_of_256_bytes),
        TEST(test_rows_of_one_byte),
        TEST(test_progress_of_a_load),
        TEST(test_trailer_that_begins_later),
        TEST(test_trailer_that_begins_earlier),
        TEST(test_entries_of_the_directory),
        TEST(test_missing_sections),
        TEST(test_view_of_the_reference),
        TEST(test_view_with_tables),
        TEST(test_options_of_no_known_size),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
