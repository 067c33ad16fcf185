/* Files for the sharded index: any file with our trailer, saving a shard under a given name, and
 * how large it will be. */
#include "index/index_internal.h"
#include "support/shard_lab.h"

#include <errno.h>

#define SECTION_A 1000
#define SECTION_B 1001

static const uint8_t identity[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

/* ---- files with a trailer ---- */

static nphd_status write_trailed(lab *here, const uint8_t *data, uint64_t bytes,
                                 const nphdi_extra_section *extra, uint32_t extra_count,
                                 bool commit)
{
    nphd_status status = NPHD_OK;
    nphdi_trailed_file file;
    uint64_t at = 0;

    memset(&file, 0, sizeof(file));
    status = nphdi_trailed_begin(&file, &here->fault.table, &here->allocator.table, "any.isbf",
                                 bytes, extra, extra_count, NULL);
    while (status == NPHD_OK && at < bytes) {
        const uint64_t rest = bytes - at;
        const uint64_t part = 1 + test_random_below(&here->random, rest < 200000 ? rest : 200000);
        status = nphdi_trailed_put(&file, data + at, part, NULL);
        at += part;
    }
    if (status == NPHD_OK && commit) {
        status = nphdi_trailed_commit(&file, identity, 77, NULL);
    }
    nphdi_trailed_end(&file);
    return status;
}

static nphd_status section_status(lab *here, const char *path, uint32_t id, bool *found)
{
    void *read = NULL;
    uint64_t bytes = 0;
    const nphd_status status = nphdi_index_read_section(&here->fault.table, &here->allocator.table,
                                                        path, id, found, &read, &bytes, NULL);

    assert_true(status == NPHD_OK || (!*found && read == NULL && bytes == 0));
    nphdi_free(&here->allocator.table, read, bytes, 1);
    return status;
}

static void test_trailed_files(void **state)
{
    static const uint64_t sizes[] = {0, 1, 65519, 65520, 65521, 65536, 131072, 3000007};
    lab *here = *state;
    uint8_t *data = malloc(3000007);
    uint8_t words[100000];

    assert_non_null(data);
    test_random_fill(&here->random, data, 3000007);
    test_random_fill(&here->random, words, sizeof(words));
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const nphdi_extra_section extra[2] = {{SECTION_A, 0, words, sizes[i] % 100000},
                                              {SECTION_B, 0, NULL, 0}};
        nphdi_trailer trailer;
        bool found = false;
        size_t bytes = 0;
        OK(write_trailed(here, data, sizes[i], extra, 2, true));
        uint8_t *file = memory_io_get(here->disk, "any.isbf", &bytes);
        assert_memory_equal(file, data, sizes[i]);
        OK(nphdi_file_trailer(&here->fault.table, "any.isbf", &trailer, &found, NULL));
        assert_true(found);
        assert_int_equal(trailer.foreign_bytes, sizes[i]);
        assert_int_equal(trailer.file_bytes, bytes);
        assert_memory_equal(trailer.identity, identity, 16);
        assert_int_equal(trailer.generation, 77);
        assert_int_equal(trailer.live + trailer.next_automatic_key + trailer.build_breadth +
                             trailer.search_breadth,
                         0);
        expect_section(here, "any.isbf", SECTION_A, words, sizes[i] % 100000);
        expect_section(here, "any.isbf", SECTION_B, NULL, 0);
        OK(section_status(here, "any.isbf", 1002, &found));
        assert_false(found);
        free(file);
    }
    free(data);
}

static void test_trailed_file_without_trailer(void **state)
{
    lab *here = *state;
    static const uint8_t data[100] = {9};
    nphdi_trailer trailer;
    bool found = true;

    memory_io_put(here->disk, "plain", data, sizeof(data));
    OK(nphdi_file_trailer(&here->fault.table, "plain", &trailer, &found, NULL));
    assert_false(found);
    OK(section_status(here, "plain", SECTION_A, &found));
    assert_false(found);
    assert_int_equal(nphdi_file_trailer(&here->fault.table, "none", &trailer, &found, NULL),
                     NPHD_NOT_FOUND);
}

/* A section is read if the blocks that it lies in are whole, and no other block is looked at. */
static void test_sections_are_checked(void **state)
{
    lab *here = *state;
    uint8_t data[200000];
    uint8_t words[70000];
    const nphdi_extra_section extra = {SECTION_A, 0, words, sizeof(words)};
    size_t bytes = 0;
    bool found = false;

    test_random_fill(&here->random, data, sizeof(data));
    test_random_fill(&here->random, words, sizeof(words));
    OK(write_trailed(here, data, sizeof(data), &extra, 1, true));
    uint8_t *file = memory_io_get(here->disk, "any.isbf", &bytes);
    /* the section begins in block 3 and ends in block 4; behind it are checksums and directory */
    for (size_t at = 0; at<bytes; at += at> 270016 ? 1 : 65000) {
        file[at] ^= 1;
        memory_io_put(here->disk, "damaged", file, bytes);
        const nphd_status status = section_status(here, "damaged", SECTION_A, &found);
        assert_int_equal(status, at < 196608                           ? NPHD_OK
                                 : at >= bytes - 64 && at < bytes - 56 ? NPHD_OK
                                                                       : NPHD_CORRUPT);
        /* without its first bytes the footer is none */
        assert_int_equal(found, at < 196608);
        file[at] ^= 1;
    }
    file[200000] ^= 1; /* the mark */
    memory_io_put(here->disk, "damaged", file, bytes);
    nphdi_trailer trailer;
    assert_int_equal(nphdi_file_trailer(&here->fault.table, "damaged", &trailer, &found, NULL),
                     NPHD_CORRUPT);
    free(file);
}

static void test_trailed_files_are_whole_or_absent(void **state)
{
    lab *here = *state;
    uint8_t data[70000];
    nphdi_extra_section extra[NPHDI_TRAILER_MAX_SECTIONS];
    bool failed = true;
    size_t bytes = 0;

    memset(extra, 0, sizeof(extra));
    memset(data, 7, sizeof(data));
    assert_int_equal(write_trailed(here, data, 10, extra, NPHDI_TRAILER_MAX_SECTIONS, true),
                     NPHD_INVALID_ARGUMENT);
    OK(write_trailed(here, data, 10, extra, NPHDI_TRAILER_MAX_SECTIONS - 1, false));
    assert_int_equal(memory_io_count(here->disk, NULL), 0);
    for (uint64_t n = 1; failed; n++) {
        io_fault_arm(&here->fault, IO_FAULT_ALL & ~IO_FAULT_SYNC_DIRECTORY, n, EIO, false);
        const nphd_status status = write_trailed(here, data, sizeof(data), extra, 3, true);
        io_fault_disarm(&here->fault);
        failed = here->fault.failed > 0;
        assert_true(failed ? status != NPHD_OK : status == NPHD_OK);
        assert_true(!failed || memory_io_get(here->disk, "any.isbf", &bytes) == NULL);
    }
    failed = true;
    for (uint64_t n = 1; failed; n++) {
        allocator_fault_arm(&here->allocator, ALLOCATOR_FAULT_ALL, n, false);
        const nphd_status status = write_trailed(here, data, sizeof(data), extra, 3, true);
        failed = here->allocator.failed > 0;
        allocator_fault_arm(&here->allocator, ALLOCATOR_FAULT_ALL, 0, false);
        assert_int_equal(status, failed ? NPHD_OUT_OF_MEMORY : NPHD_OK);
    }
    io_fault_arm(&here->fault, IO_FAULT_SYNC_DIRECTORY, 1, EIO, false);
    assert_int_equal(write_trailed(here, data, sizeof(data), extra, 3, true),
                     NPHD_DURABILITY_UNKNOWN);
    io_fault_disarm(&here->fault);
    assert_int_equal(memory_io_count(here->disk, ".tmp-"), 0);
}

/* ---- saving a shard ---- */

static void check_save_as(lab *here, nphd_index *index, uint64_t count)
{
    const nphdi_extra_section extra[2] = {{SECTION_A, 0, "hello", 5}, {SECTION_B, 0, "you", 3}};
    const nphdi_save_as as = {identity, 41, extra, 2};
    const nphdi_save_as plain = {identity, 42, NULL, 0};
    size_t bytes[2];
    nphd_verify_report report;
    const uint64_t foreign = nphdi_index_foreign_bytes(index);

    OK(nphdi_index_save_as(index, PATH, &as, NULL, NULL, NULL));
    assert_memory_equal(index->identity, identity, 16);
    assert_int_equal(index->generation, 41);
    assert_int_equal(nphd_index_dirty(index), 0);
    OK(nphd_file_verify(PATH, &here->fault.table, NULL, NULL, &report, NULL));

    nphd_index *seen = view(here, PATH);
    const nphdi_trailer *trailer = nphdi_index_trailer(seen);
    assert_non_null(trailer);
    assert_memory_equal(trailer->identity, identity, 16);
    assert_int_equal(trailer->generation, 41);
    assert_int_equal(trailer->live, count);
    assert_int_equal(trailer->foreign_bytes, foreign);
    assert_int_equal(nphdi_index_foreign_bytes(seen), foreign);
    assert_int_equal(trailer->section_count, 6);
    assert_int_equal(trailer->sections[2].id, NPHDI_SECTION_LIVE);
    assert_int_equal(trailer->sections[3].id, SECTION_A);
    assert_int_equal(trailer->sections[5].id, NPHDI_SECTION_CHECKSUMS);
    assert_int_equal(nphd_index_size(seen), count);
    expect_section(here, PATH, SECTION_A, "hello", 5);
    expect_section(here, PATH, SECTION_B, "you", 3);

    /* without sections, and from a view, it is the file of a plain save */
    OK(nphdi_index_save_as(seen, "again", &plain, NULL, NULL, NULL));
    OK(nphd_index_save(index, PATH, NULL, NULL));
    uint8_t *files[2] = {memory_io_get(here->disk, "again", &bytes[0]),
                         memory_io_get(here->disk, PATH, &bytes[1])};
    assert_int_equal(bytes[0], bytes[1]);
    assert_memory_equal(files[0], files[1], bytes[0]);
    free(files[0]);
    free(files[1]);
    nphd_index_close(seen);
}

static void test_save_as(void **state)
{
    lab *here = *state;
    nphd_index *index = create(here, 64, false);

    assert_null(nphdi_index_trailer(index));
    check_save_as(here, index, 0);
    add(index, 0, 300);
    assert_null(nphdi_index_trailer(index));
    check_save_as(here, index, 300);
    remove_key(index, 7);
    remove_key(index, 8);
    check_save_as(here, index, 298);
    nphd_index_close(index);
}

static void test_save_as_that_fails_changes_nothing(void **state)
{
    lab *here = *state;
    nphdi_extra_section extra[NPHDI_TRAILER_MAX_SECTIONS];
    nphdi_save_as as = {identity, 41, extra, NPHDI_TRAILER_MAX_SECTIONS - 3};
    static const uint8_t none[16] = {0};
    nphd_index *index = create(here, 64, false);

    memset(extra, 0, sizeof(extra));
    add(index, 0, 3);
    assert_int_equal(nphdi_index_save_as(index, PATH, &as, NULL, NULL, NULL),
                     NPHD_INVALID_ARGUMENT);
    as.extra_count--;
    io_fault_arm(&here->fault, IO_FAULT_SYNC, 1, EIO, false);
    assert_int_equal(nphdi_index_save_as(index, PATH, &as, NULL, NULL, NULL), NPHD_IO);
    io_fault_disarm(&here->fault);
    assert_memory_equal(index->identity, none, 16);
    assert_int_equal(index->generation, 0);
    assert_int_equal(nphd_index_dirty(index), 3);
    OK(nphdi_index_save_as(index, PATH, &as, NULL, NULL, NULL));
    nphd_index_close(index);
}

static void test_foreign_bytes(void **state)
{
    lab *here = *state;

    for (uint32_t key_bits = 64; key_bits <= 128; key_bits += 64) {
        nphd_index *index = create(here, key_bits, false);
        uint64_t next = 0;
        for (unsigned round = 0; round < 12; round++) {
            const uint64_t more = test_random_below(&here->random, 200);
            const uint64_t expected = nphdi_index_foreign_bytes_after(index, more);
            add(index, next, next + more);
            next += more;
            assert_int_equal(nphdi_index_foreign_bytes(index), expected);
            assert_int_equal(nphdi_index_foreign_bytes_after(index, 0), expected);
            OK(nphd_index_save(index, PATH, NULL, NULL));
            nphdi_trailer trailer;
            bool found = false;
            OK(nphdi_file_trailer(&here->fault.table, PATH, &trailer, &found, NULL));
            assert_int_equal(trailer.foreign_bytes, expected);
            /* free slots are used first and cost nothing */
            for (uint64_t key = next - more; key < next; key += 3) {
                remove_key(index, key);
            }
        }
        nphd_index_close(index);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_trailed_files),
        TEST(test_trailed_file_without_trailer),
        TEST(test_sections_are_checked),
        TEST(test_trailed_files_are_whole_or_absent),
        TEST(test_save_as),
        TEST(test_save_as_that_fails_changes_nothing),
        TEST(test_foreign_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
