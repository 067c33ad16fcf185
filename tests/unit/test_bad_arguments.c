/* Arguments of the calls on files and directories that are outside their documented range: the
 * status that the headers name, a text, and outputs that say "nothing". */
#include "support/io_memory.h"

#include <nphd/nphd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

static nphd_error err = NPHD_ERROR_INIT;

/* The call fails by `expected`, with a text. */
#define FAILS(call, expected)                                                                      \
    do {                                                                                           \
        err = (nphd_error)NPHD_ERROR_INIT;                                                         \
        assert_int_equal((call), (expected));                                                      \
        assert_int_equal(err.status, (expected));                                                  \
        assert_true(strlen(err.text) > 0);                                                         \
    } while (0)
#define REFUSED(call) FAILS(call, NPHD_INVALID_ARGUMENT)

static nphd_index *make_index(const nphd_io *io)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    const uint8_t bits[8] = {1, 2, 3};
    const nphd_vector vector = {bits, sizeof(bits)};
    nphd_index *index = NULL;

    options.io = io;
    OK(nphd_index_create(&options, &index, NULL));
    OK(nphd_index_add(index, nphd_key_u64(1), vector, NULL, NULL));
    return index;
}

static void test_paths(void **unused)
{
    static const char *const paths[] = {NULL, ""};
    memory_io *disk = memory_io_create(1);
    const nphd_io *io = memory_io_table(disk);
    nphd_index *index = make_index(io);
    nphd_metadata metadata = NPHD_METADATA_INIT;

    (void)unused;
    for (size_t i = 0; i < 2; i++) {
        nphd_index *restored = index;
        nphd_sharded *sharded = NULL;
        REFUSED(nphd_index_save(index, paths[i], NULL, &err));
        REFUSED(nphd_index_load(index, paths[i], NULL, &err));
        REFUSED(nphd_index_view(index, paths[i], NULL, &err));
        REFUSED(nphd_index_restore(paths[i], false, NULL, &restored, &err));
        assert_null(restored);
        REFUSED(nphd_file_metadata(paths[i], io, &metadata, &err));
        REFUSED(nphd_file_verify(paths[i], io, NULL, NULL, NULL, &err));
        REFUSED(nphd_directory_metadata(paths[i], io, &metadata, &err));
        REFUSED(nphd_directory_verify(paths[i], io, NULL, NULL, NULL, &err));
        REFUSED(nphd_directory_salvage(paths[i], "new", io, NULL, NULL, NULL, &err));
        REFUSED(nphd_directory_salvage("old", paths[i], io, NULL, NULL, NULL, &err));
        REFUSED(nphd_sharded_open(paths[i], NULL, &sharded, &err));
        assert_null(sharded);
    }
    assert_int_equal(nphd_index_size(index), 1);
    nphd_index_close(index);
    memory_io_destroy(disk);
}

static void test_buffers(void **unused)
{
    memory_io *disk = memory_io_create(1);
    nphd_index *index = make_index(memory_io_table(disk));
    nphd_metadata metadata = NPHD_METADATA_INIT;
    static uint8_t buffer[4000];
    size_t bytes = 0;
    size_t needed = 0;

    (void)unused;
    OK(nphd_index_save_buffer(index, NULL, 0, &needed, NULL));
    assert_in_range(needed, 1, sizeof(buffer));
    FAILS(nphd_index_save_buffer(index, NULL, needed, &bytes, &err), NPHD_TOO_SMALL);
    assert_int_equal(bytes, needed);
    FAILS(nphd_index_save_buffer(index, buffer, needed - 1, &bytes, &err), NPHD_TOO_SMALL);
    OK(nphd_index_save_buffer(index, buffer, sizeof(buffer), &bytes, NULL));
    assert_int_equal(bytes, needed);
    REFUSED(nphd_index_load_buffer(index, NULL, 10, NULL, &err));
    REFUSED(nphd_index_view_buffer(index, NULL, 10, NULL, &err));
    REFUSED(nphd_buffer_metadata(NULL, 10, &metadata, &err));
    REFUSED(nphd_buffer_metadata(buffer, bytes, NULL, &err));
    metadata.struct_size = 1;
    REFUSED(nphd_buffer_metadata(buffer, bytes, &metadata, &err));
    REFUSED(nphd_file_metadata("path", NULL, NULL, &err));
    REFUSED(nphd_index_restore("path", false, NULL, NULL, &err));
    nphd_index_close(index);
    memory_io_destroy(disk);
}

static void test_open_options(void **unused)
{
    memory_io *disk = memory_io_create(1);
    nphd_index *index = make_index(memory_io_table(disk));
    nphd_open_options options = NPHD_OPEN_OPTIONS_INIT;
    nphd_sharded_options sharded_options = NPHD_SHARDED_OPTIONS_INIT;
    nphd_sharded_stats stats = NPHD_SHARDED_STATS_INIT;
    nphd_sharded *sharded = NULL;

    (void)unused;
    OK(nphd_index_save(index, "file.usearch", NULL, NULL));
#define WITH(field, value)                                                                         \
    options = (nphd_open_options)NPHD_OPEN_OPTIONS_INIT;                                           \
    options.field = (value);                                                                       \
    REFUSED(nphd_index_load(index, "file.usearch", &options, &err));                               \
    REFUSED(nphd_index_view(index, "file.usearch", &options, &err))
    WITH(build_breadth, 65537);
    WITH(search_breadth, 65537);
    WITH(connectivity, 1);
    WITH(connectivity, 513);
    WITH(multi, 3);
#undef WITH
#define WITH(field, value)                                                                         \
    sharded_options = (nphd_sharded_options)NPHD_SHARDED_OPTIONS_INIT;                             \
    sharded_options.io = memory_io_table(disk);                                                    \
    sharded_options.field = (value);                                                               \
    REFUSED(nphd_sharded_open("directory", &sharded_options, &sharded, &err));                     \
    assert_null(sharded)
    WITH(build_breadth, 65537);
    WITH(search_breadth, 65537);
    WITH(multi, 3);
#undef WITH
    sharded_options = (nphd_sharded_options)NPHD_SHARDED_OPTIONS_INIT;
    sharded_options.io = memory_io_table(disk);
    OK(nphd_sharded_open("directory", &sharded_options, &sharded, NULL));
    REFUSED(nphd_sharded_get_stats(sharded, NULL, &err));
    stats.struct_size = 1;
    REFUSED(nphd_sharded_get_stats(sharded, &stats, &err));
    /* one breadth at a time leaves the other */
    OK(nphd_sharded_set_breadth(sharded, 0, 33, NULL));
    OK(nphd_sharded_set_breadth(sharded, 44, 0, NULL));
    nphd_sharded_free(sharded);
    nphd_index_close(index);
    memory_io_destroy(disk);
}

/* A table is asked for each function that a call needs, before anything is done. */
static void test_tables_without_functions(void **unused)
{
    memory_io *disk = memory_io_create(1);
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;

    (void)unused;
    for (int missing = 0; missing < 4; missing++) {
        nphd_io table = *memory_io_table(disk);
        nphd_sharded *sharded = NULL;
        options.io = &table;
        switch (missing) {
        case 0:
            table.make_directory = NULL;
            break;
        case 1:
            table.list = NULL;
            break;
        case 2:
            table.lock = NULL;
            break;
        default:
            table.copy = NULL;
            break;
        }
        assert_int_not_equal(nphd_sharded_open("directory", &options, &sharded, &err), NPHD_OK);
        assert_null(sharded);
        assert_int_not_equal(nphd_directory_verify("directory", &table, NULL, NULL, NULL, &err),
                             NPHD_OK);
    }
    assert_int_equal(memory_io_operations(disk), 0);
    memory_io_destroy(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_paths),
        cmocka_unit_test(test_buffers),
        cmocka_unit_test(test_open_options),
        cmocka_unit_test(test_tables_without_functions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
