/* A directory of release 0.1, whose journals have version 1: it opens, its journals are applied and
 * never added to; what is committed now goes into a journal of version 2 behind them. */
#include "fixture_text.h"
#include "support/directory_lab.h"
#include "support/journal_bytes.h"

#include <stdio.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

static const char *const names[] = {"shard_000.usearch", "journal_00000001", "journal_00000002",
                                    "journal_00000003"};

static uint8_t *file_of_fixture(const char *name, size_t *out_bytes)
{
    char path[4096];

    (void)snprintf(path, sizeof(path), "%s/tests/fixtures/journal/v1_%s", fixture_directory(),
                   name);
    uint8_t *data = fixture_file(path, out_bytes);
    assert_non_null(data);
    return data;
}

static void expect(dirlab *lab, uint64_t key, const char *bits, size_t bytes)
{
    dirlab_set(&lab->items, nphd_key_u64(key), (nphd_vector){(const uint8_t *)bits, bytes});
}

static void put_directory(dirlab *lab)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t bytes = 0;
        uint8_t *data = file_of_fixture(names[i], &bytes);
        dirlab_put(lab, names[i], data, bytes);
        free(data);
    }
    /* saved; 5 and 6 added, 1 and 6 removed, 2 and 5 replaced */
    expect(lab, 2, "\0\0\0\0\0\0\0\xf0", 8);
    expect(lab, 3, "\xff\xff\xff\xff\xff\xff\xff\xff", 8);
    expect(lab, 4, "\0\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", 16);
    expect(lab, 5, "\xcc", 1);
}

static uint32_t version_of(dirlab *lab, const char *name)
{
    size_t bytes = 0;
    uint8_t *data = memory_io_get(lab->disk, dirlab_path(name), &bytes);
    nphdi_journal_head head;

    assert_non_null(data);
    OK(nphdi_journal_decode_head(name, data, &head, NULL));
    free(data);
    return head.version;
}

static void test_applied_and_continued(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_options(lab);

    put_directory(lab);
    options.journal = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_add(lab, sharded, 100, 110);
    OK(nphd_sharded_commit(sharded, NULL));
    nphd_sharded_free(sharded);
    for (size_t i = 1; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t bytes = 0;
        size_t now = 0;
        uint8_t *before = file_of_fixture(names[i], &bytes);
        uint8_t *after = memory_io_get(lab->disk, dirlab_path(names[i]), &now);
        assert_int_equal(now, bytes);
        assert_memory_equal(after, before, bytes);
        assert_int_equal(version_of(lab, names[i]), 1);
        free(before);
        free(after);
    }
    assert_int_equal(version_of(lab, "journal_00000004"), 2);
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    OK(nphd_directory_verify(DIRLAB_FOLDER, &lab->fault.table, NULL, NULL, NULL, NULL));
    dirlab_close(sharded); /* a save */
    assert_int_equal(memory_io_count(lab->disk, DIRLAB_FOLDER "/journal_"), 0);
}

/* Of a frame that is not whole nobody can tell whether it was committed. */
static void test_changed_byte_of_the_last_frame(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_options(lab);

    put_directory(lab);
    dirlab_damage(lab, names[3], 5000);
    expect(lab, 2, "\0\0\0\0\0\0\xff\xff", 8);
    expect(lab, 5, "\xaa", 1);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    assert_non_null(strstr(lab->log, "journal_00000003: the last 4096 bytes"));
    nphd_sharded_free(sharded);
    dirlab_damage(lab, names[1], 5000); /* but of one that others follow */
    dirlab_refused(lab, &options, NPHD_CORRUPT, names[1], "frame 0 at byte 4096 is damaged");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_applied_and_continued),
        DIRLAB_TEST(test_changed_byte_of_the_last_frame),
    };

    return cmocka_run_group_tests_name("journals of version 1", tests, NULL, NULL);
}
