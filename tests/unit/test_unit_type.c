/* The type of the codes in an index: kept from the first code that came with one, across everything
 * that happens to an index and its files, and checked afterwards. */
#include "formats/trailer.h"
#include "formats/unit_format.h"
#include "index/index_shard.h"
#include "support/io_memory.h"

#include <nphd/nphd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define TEXT NPHD_UNIT(2, 0, 0)
#define IMAGE NPHD_UNIT(2, 1, 0)

static const nphd_io *storage(void **state)
{
    return memory_io_table(*state);
}

static int set_up(void **state)
{
    *state = memory_io_create(1);
    return *state == NULL ? -1 : 0;
}

static int tear_down(void **state)
{
    memory_io_destroy(*state);
    return 0;
}

static void add_one(nphd_index *index, uint64_t key)
{
    const uint8_t bytes[2] = {(uint8_t)key, 7};
    const nphd_vector vector = {bytes, sizeof(bytes)};

    assert_int_equal(nphd_index_add(index, nphd_key_u64(key), vector, NULL, NULL), NPHD_OK);
}

static nphd_index *make(const nphd_io *io)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;

    options.io = io;
    assert_int_equal(nphd_index_create(&options, &index, NULL), NPHD_OK);
    return index;
}

static void test_unit_is_checked(void **state)
{
    nphd_index *index = make(storage(state));
    nphd_error err = NPHD_ERROR_INIT;

    assert_int_equal(nphd_index_unit(index), NPHD_UNIT_NONE);
    add_one(index, 1); /* of no type: the first that is told is kept */
    assert_int_equal(nphd_index_set_unit(index, NPHD_UNIT_NONE, false, &err), NPHD_OK);
    assert_int_equal(nphd_index_set_unit(index, TEXT, false, &err), NPHD_OK);
    assert_int_equal(nphd_index_set_unit(index, TEXT, true, &err), NPHD_OK);
    assert_int_equal(nphd_index_unit(index), TEXT);
    assert_int_equal(nphd_index_set_unit(index, IMAGE, false, &err), NPHD_MISMATCH);
    assert_non_null(strstr(err.text, "content-text"));
    assert_non_null(strstr(err.text, "content-image"));
    assert_int_equal(nphd_index_unit(index), TEXT);
    assert_int_equal(nphd_index_set_unit(index, NPHD_UNIT(6, 0, 1), true, &err),
                     NPHD_INVALID_ARGUMENT);
    assert_int_equal(nphd_index_set_unit(index, IMAGE, true, &err), NPHD_OK);
    assert_int_equal(nphd_index_unit(index), NPHD_UNIT_MIXED);
    assert_int_equal(nphd_index_set_unit(index, TEXT, false, &err), NPHD_OK);
    assert_int_equal(nphd_index_unit(index), NPHD_UNIT_MIXED);
    assert_int_equal(nphd_index_clear(index, &err), NPHD_OK);
    assert_int_equal(nphd_index_unit(index), NPHD_UNIT_NONE);
    assert_int_equal(nphd_index_set_unit(index, IMAGE, false, &err), NPHD_OK);
    /* without vectors, too: they may be about to come */
    assert_int_equal(nphd_index_set_unit(index, TEXT, false, &err), NPHD_MISMATCH);
    assert_int_equal(nphd_index_reset(index, &err), NPHD_OK);
    assert_int_equal(nphd_index_unit(index), NPHD_UNIT_NONE);
    nphd_index_close(index);
}

static void test_unit_is_kept_in_a_file(void **state)
{
    const nphd_io *io = storage(state);
    nphd_index *index = make(io);
    nphd_index *copy = NULL;
    nphd_error err = NPHD_ERROR_INIT;
    nphdi_trailer trailer;
    bool found = false;
    uint8_t *buffer = NULL;
    size_t plain = 0;
    size_t bytes = 0;

    add_one(index, 1);
    assert_int_equal(nphd_index_save_buffer(index, NULL, 0, &plain, NULL), NPHD_OK);
    assert_int_equal(nphd_index_save(index, "a.usearch", NULL, &err), NPHD_OK);
    assert_int_equal(nphdi_file_trailer(io, "a.usearch", &trailer, &found, &err), NPHD_OK);
    assert_null(nphdi_trailer_find(&trailer, NPHDI_SECTION_UNIT)); /* nothing known: no section */

    assert_int_equal(nphd_index_set_unit(index, TEXT, false, &err), NPHD_OK);
    assert_int_equal(nphd_index_save(index, "a.usearch", NULL, &err), NPHD_OK);
    assert_int_equal(nphdi_file_trailer(io, "a.usearch", &trailer, &found, &err), NPHD_OK);
    const nphdi_trailer_section *section = nphdi_trailer_find(&trailer, NPHDI_SECTION_UNIT);
    assert_non_null(section);
    assert_int_equal(section->flags, 0);
    assert_int_equal(section->bytes, NPHDI_UNIT_BYTES);

    (void)nphd_index_save_buffer(index, NULL, 0, &bytes, NULL);
    assert_int_equal(bytes, plain + NPHDI_UNIT_BYTES + 32);
    buffer = malloc(bytes);
    assert_non_null(buffer);
    assert_int_equal(nphd_index_save_buffer(index, buffer, bytes, &bytes, &err), NPHD_OK);
    nphd_index_close(index);

    index = make(io);
    assert_int_equal(nphd_index_load_buffer(index, buffer, bytes, NULL, &err), NPHD_OK);
    assert_int_equal(nphd_index_unit(index), TEXT);
    assert_int_equal(nphd_index_view_buffer(index, buffer, bytes, NULL, &err), NPHD_OK);
    assert_int_equal(nphd_index_unit(index), TEXT);
    assert_int_equal(nphd_index_load(index, "a.usearch", NULL, &err), NPHD_OK);
    assert_int_equal(nphd_index_unit(index), TEXT);
    assert_int_equal(nphd_index_set_unit(index, IMAGE, false, &err), NPHD_MISMATCH);
    assert_int_equal(nphd_index_view(index, "a.usearch", NULL, &err), NPHD_OK);
    assert_int_equal(nphd_index_unit(index), TEXT);
    assert_int_equal(nphd_index_set_unit(index, TEXT, false, &err), NPHD_OK);
    assert_int_equal(nphd_index_set_unit(index, IMAGE, false, &err), NPHD_MISMATCH);
    assert_int_equal(nphd_index_set_unit(index, IMAGE, true, &err), NPHD_READ_ONLY);
    assert_int_equal(nphd_index_copy(index, &copy, &err), NPHD_OK);
    assert_int_equal(nphd_index_unit(copy), TEXT);
    nphd_index_close(index);
    index = copy;
    assert_int_equal(nphd_index_copy(index, &copy, &err), NPHD_OK);
    assert_int_equal(nphd_index_unit(copy), TEXT);
    assert_int_equal(nphd_index_save(copy, "b.usearch", NULL, &err), NPHD_OK);
    assert_int_equal(nphd_file_verify("b.usearch", io, NULL, NULL, NULL, &err), NPHD_OK);
    nphd_index_close(copy);
    nphd_index_close(index);
    free(buffer);
}

static void test_unit_section(void **state)
{
    static const uint8_t text[8] = {1, 2, 0, 0, 0, 0, 0, 0};
    static const uint8_t mixed[8] = {2, 0, 0, 0, 0, 0, 0, 0};
    static const uint8_t unknown[3][8] = {{0, 2}, {3, 2}, {1, 6}};
    uint8_t bytes[NPHDI_UNIT_BYTES];

    (void)state;
    nphdi_unit_encode(TEXT, bytes);
    assert_memory_equal(bytes, text, 8);
    nphdi_unit_encode(NPHD_UNIT_MIXED, bytes);
    assert_memory_equal(bytes, mixed, 8);
    assert_int_equal(nphdi_unit_decode(text, 8), TEXT);
    assert_int_equal(nphdi_unit_decode(mixed, 8), NPHD_UNIT_MIXED);
    assert_int_equal(nphdi_unit_decode(text, 7), NPHD_UNIT_NONE);
    assert_int_equal(nphdi_unit_decode(text, 9), NPHD_UNIT_NONE);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(nphdi_unit_decode(unknown[i], 8), NPHD_UNIT_NONE);
    }
}

/* ---- directories ---- */

static nphd_sharded *open_directory(const nphd_io *io, const char *path, bool journal,
                                    bool read_only)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    nphd_sharded *sharded = NULL;
    nphd_error err = NPHD_ERROR_INIT;

    options.io = io;
    options.journal = journal;
    options.read_only = read_only;
    if (nphd_sharded_open(path, &options, &sharded, &err) != NPHD_OK) {
        fail_msg("%s", err.text);
    }
    return sharded;
}

static void add_to(nphd_sharded *sharded, uint64_t key)
{
    const uint8_t bytes[2] = {(uint8_t)key, 9};
    const nphd_vector vector = {bytes, sizeof(bytes)};

    const nphd_key number = nphd_key_u64(key);

    assert_int_equal(nphd_sharded_add_many(sharded, &number, &vector, 1, NULL, NULL, NULL, NULL),
                     NPHD_OK);
}

static void close_directory(nphd_sharded *sharded)
{
    assert_int_equal(nphd_sharded_close(sharded, NULL), NPHD_OK);
    nphd_sharded_free(sharded);
}

static void test_unit_is_kept_in_a_directory(void **state)
{
    const nphd_io *io = storage(state);
    nphd_sharded *sharded = open_directory(io, "d", false, false);
    nphd_sharded *reader = NULL;
    nphd_salvage_report report;
    nphd_error err = NPHD_ERROR_INIT;
    bool changed = false;

    for (uint64_t shard = 0; shard < 3; shard++) {
        add_to(sharded, 2 * shard);
        add_to(sharded, 2 * shard + 1);
        assert_int_equal(nphd_sharded_rotate(sharded, &err), NPHD_OK);
    }
    reader = open_directory(io, "d", false, true);
    assert_int_equal(nphd_sharded_unit(reader), NPHD_UNIT_NONE);
    assert_int_equal(nphd_sharded_set_unit(reader, TEXT, false, &err), NPHD_READ_ONLY);
    /* told without a vector behind it: a save keeps it all the same */
    assert_int_equal(nphd_sharded_set_unit(sharded, TEXT, false, &err), NPHD_OK);
    assert_int_equal(nphd_sharded_set_unit(sharded, IMAGE, false, &err), NPHD_MISMATCH);
    assert_non_null(strstr(err.text, "content-text"));
    assert_int_equal(nphd_sharded_save(sharded, NULL, &err), NPHD_OK);
    assert_int_equal(nphd_sharded_refresh(reader, &changed, &err), NPHD_OK);
    assert_int_equal(nphd_sharded_unit(reader), TEXT);
    assert_int_equal(nphd_sharded_set_unit(reader, TEXT, false, &err), NPHD_OK);
    assert_int_equal(nphd_sharded_set_unit(reader, IMAGE, false, &err), NPHD_MISMATCH);
    nphd_sharded_free(reader);
    close_directory(sharded);

    sharded = open_directory(io, "d", false, false);
    assert_int_equal(nphd_sharded_unit(sharded), TEXT);
    const nphd_key gone[2] = {nphd_key_u64(0), nphd_key_u64(3)};
    assert_int_equal(nphd_sharded_remove(sharded, gone, 2, NULL, &err), NPHD_OK);
    assert_int_equal(nphd_sharded_compact(sharded, NULL, NULL, &err), NPHD_OK);
    assert_int_equal(nphd_sharded_unit(sharded), TEXT);
    assert_int_equal(nphd_sharded_snapshot(sharded, "copy", &err), NPHD_OK);
    close_directory(sharded);
    assert_int_equal(nphd_directory_salvage("copy", "saved", io, NULL, NULL, &report, &err),
                     NPHD_OK);
    static const char *const paths[] = {"d", "copy", "saved"};
    for (size_t i = 0; i < 3; i++) {
        sharded = open_directory(io, paths[i], false, true);
        assert_int_equal(nphd_sharded_unit(sharded), TEXT);
        assert_int_equal(nphd_sharded_size(sharded), 4);
        nphd_sharded_free(sharded);
        assert_int_equal(nphd_directory_verify(paths[i], io, NULL, NULL, NULL, &err), NPHD_OK);
    }

    sharded = open_directory(io, "d", false, false);
    assert_int_equal(nphd_sharded_set_unit(sharded, IMAGE, true, &err), NPHD_OK);
    close_directory(sharded);
    sharded = open_directory(io, "d", false, false);
    assert_int_equal(nphd_sharded_unit(sharded), NPHD_UNIT_MIXED); /* the newest says so */
    assert_int_equal(nphd_sharded_reset(sharded, &err), NPHD_OK);
    assert_int_equal(nphd_sharded_unit(sharded), NPHD_UNIT_NONE);
    add_to(sharded, 1);
    close_directory(sharded);
    sharded = open_directory(io, "d", false, false);
    assert_int_equal(nphd_sharded_unit(sharded), NPHD_UNIT_NONE);
    close_directory(sharded);
}

/* Committed, and not saved: the journal has it. */
static void test_unit_is_in_the_journal(void **state)
{
    const nphd_io *io = storage(state);
    nphd_sharded *sharded = open_directory(io, "j", true, false);
    nphd_error err = NPHD_ERROR_INIT;

    add_to(sharded, 1);
    assert_int_equal(nphd_sharded_save(sharded, NULL, &err), NPHD_OK);
    assert_int_equal(nphd_sharded_set_unit(sharded, TEXT, false, &err), NPHD_OK);
    add_to(sharded, 2);
    assert_int_equal(nphd_sharded_commit(sharded, &err), NPHD_OK);
    nphd_sharded_free(sharded); /* as if the process had ended */

    sharded = open_directory(io, "j", true, true);
    assert_int_equal(nphd_sharded_unit(sharded), TEXT);
    assert_int_equal(nphd_sharded_size(sharded), 2);
    nphd_sharded_free(sharded);
    sharded = open_directory(io, "j", true, false);
    assert_int_equal(nphd_sharded_unit(sharded), TEXT);
    assert_int_equal(nphd_sharded_reset(sharded, &err), NPHD_OK);
    assert_int_equal(nphd_sharded_set_unit(sharded, IMAGE, false, &err), NPHD_OK);
    add_to(sharded, 3);
    assert_int_equal(nphd_sharded_commit(sharded, &err), NPHD_OK);
    nphd_sharded_free(sharded);
    sharded = open_directory(io, "j", true, false);
    assert_int_equal(nphd_sharded_unit(sharded), IMAGE);
    close_directory(sharded);
    sharded = open_directory(io, "j", false, true);
    assert_int_equal(nphd_sharded_unit(sharded), IMAGE);
    nphd_sharded_free(sharded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_unit_is_checked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unit_is_kept_in_a_file, set_up, tear_down),
        cmocka_unit_test(test_unit_section),
        cmocka_unit_test_setup_teardown(test_unit_is_kept_in_a_directory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unit_is_in_the_journal, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
