/* Opening a directory: what is refused, with which words, and what salvage brings back. */
#include "support/directory_damage.h"
#include "support/directory_lab.h"

#include <stdio.h>
#include <stdlib.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

/* Four shards of ten keys each, the last one active, with deletions and a replacement; saved once
 * or, so that there was a tombstone file before, twice. */
static void make(dirlab *lab, bool twice)
{
    const nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    for (uint64_t shard = 0; shard < 3; shard++) {
        dirlab_add(lab, sharded, 10 * shard, 10 * shard + 10);
        OK(nphd_sharded_rotate(sharded, NULL));
    }
    dirlab_add(lab, sharded, 30, 40);
    dirlab_upsert(lab, sharded, 21, 1);
    dirlab_remove(lab, sharded, 2);
    dirlab_remove(lab, sharded, 13);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    if (twice) {
        dirlab_remove(lab, sharded, 14);
    }
    dirlab_close(sharded);
    assert_true(dirlab_exists(lab, "shard_003.usearch"));
    assert_true(dirlab_exists(lab, "tombstones.npy"));
}

/* The keys of a shard are lost, but for those that later shards have. */
static void lose(dirlab *lab, uint64_t from, uint64_t to)
{
    for (uint64_t key = from; key < to; key++) {
        if (key != 21 || from == 30) {
            dirlab_drop(&lab->items, nphd_key_u64(key));
        }
    }
}

/* Salvage opens what is expected and tells `damage`; what it saves opens without. */
static void expect_salvage(dirlab *lab, const char *damage)
{
    nphd_sharded_options options = dirlab_options(lab);
    nphd_sharded *sharded;

    options.salvage = true;
    options.read_only = true;
    const uint64_t before = memory_io_fingerprint(lab->disk);
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    assert_true(before == memory_io_fingerprint(lab->disk));
    assert_non_null(strstr(lab->damage, damage));

    dirlab_forget_log(lab);
    options.read_only = false;
    sharded = dirlab_open(lab, &options);
    assert_non_null(strstr(lab->damage, damage));
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);

    sharded = dirlab_open(lab, NULL);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    dirlab_expect_reference(lab);
}

/* ---- shards ---- */

static void test_missing_shard(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_options(lab);

    make(lab, true);
    dirlab_delete(lab, "shard_001.usearch");
    dirlab_refused(lab, NULL, NPHD_CORRUPT, "shard_001.usearch is missing", "shard_003.usearch");
    options.read_only = true;
    dirlab_refused(lab, &options, NPHD_CORRUPT, "shard_001.usearch is missing", "salvage");
    lose(lab, 10, 20);
    expect_salvage(lab, "shard_001.usearch: missing");
}

static void test_shard_of_an_older_generation(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded;

    make(lab, false);
    dirlab_copy(lab, "shard_003.usearch", "kept");
    sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 40, 45);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 50, 55);
    dirlab_close(sharded);
    dirlab_copy(lab, "kept", "shard_003.usearch");
    dirlab_refused(lab, NULL, NPHD_CORRUPT, "shard_003.usearch: of generation",
                   "shard_004.usearch lists generation");
    lose(lab, 30, 50);
    uint8_t data[8];
    dirlab_set(&lab->items, nphd_key_u64(21), dirlab_vector(21, 0, data));
    /* the older vector of what the lost shard replaced is the newest there is */
    expect_salvage(lab, "shard_003.usearch");
}

/* Written after its record, by whoever it was: not the file that the newest shard lists. */
static void test_shard_of_a_newer_generation(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_small(lab);

    make(lab, true);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 40, 45);
    dirlab_close(sharded);
    damage_file shard = damage_begin(lab, "shard_000.usearch");
    uint8_t *generation = shard.data + shard.places.directory_offset + 16;
    nphdi_put64(generation, nphdi_get64(generation) + 1);
    damage_end(lab, &shard);
    dirlab_refused(lab, NULL, NPHD_CORRUPT, "shard_000.usearch: of generation", "lists generation");
    lose(lab, 0, 10);
    expect_salvage(lab, "shard_000.usearch");
}

static void test_damaged_shard(void **state)
{
    static const struct {
        long at;
        size_t cut;
    } damages[] = {{0, 0}, {4, 0}, {-1, 0}, {-40, 0}, {0, 64}, {0, 1}, {0, SIZE_MAX}};
    dirlab *lab = *state;

    make(lab, true);
    dirlab_copy(lab, "shard_001.usearch", "kept");
    for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
        dirlab_copy(lab, "kept", "shard_001.usearch");
        if (damages[i].cut == SIZE_MAX) {
            dirlab_put(lab, "shard_001.usearch", "", 0);
        } else if (damages[i].cut > 0) {
            dirlab_cut(lab, "shard_001.usearch", damages[i].cut);
        } else {
            dirlab_damage(lab, "shard_001.usearch", damages[i].at);
        }
        dirlab_refused(lab, NULL, NPHD_CORRUPT, "shard_001.usearch", NULL);
    }
    lose(lab, 10, 20);
    expect_salvage(lab, "shard_001.usearch");
    /* what was damaged is not thrown away */
    assert_true(dirlab_exists(lab, "shard_001.usearch.damaged"));
}

/* Twice: the file that was put aside the first time stays as it is. */
static void test_put_aside_twice(void **state)
{
    static const char *const aside[] = {"shard_001.usearch.damaged", "shard_001.usearch.damaged.2",
                                        "shard_001.usearch.damaged.3"};
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_options(lab);

    make(lab, true);
    options.salvage = true;
    for (size_t i = 0; i < 3; i++) {
        const char content[] = {(char)('a' + (char)i)};
        dirlab_put(lab, "shard_001.usearch", content, 1);
        nphd_sharded_free(dirlab_open(lab, &options));
        assert_false(dirlab_exists(lab, "shard_001.usearch"));
    }
    for (size_t i = 0; i < 3; i++) {
        size_t bytes = 0;
        uint8_t *content = memory_io_get(lab->disk, dirlab_path(aside[i]), &bytes);
        assert_int_equal(bytes, 1);
        assert_int_equal(content[0], 'a' + (int)i);
        free(content);
    }
}

/* A changed bit of a vector is not met by opening; verify finds it, and in which file. */
static void test_verify_finds_what_opening_does_not_read(void **state)
{
    dirlab *lab = *state;
    nphd_directory_report report;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_sharded *sharded;

    make(lab, true);
    OK(nphd_directory_verify(DIRLAB_FOLDER, &lab->fault.table, NULL, NULL, &report, &err));
    assert_int_equal(report.files, 6);
    assert_int_equal(report.unverified_files, 0);
    dirlab_damage(lab, "shard_001.usearch", 30);
    sharded = dirlab_open(lab, NULL);
    nphd_sharded_free(sharded);
    assert_int_equal(
        nphd_directory_verify(DIRLAB_FOLDER, &lab->fault.table, NULL, NULL, &report, &err),
        NPHD_CORRUPT);
    assert_non_null(strstr(err.text, "shard_001.usearch"));
    assert_int_equal(report.damaged_files, 1);
    assert_int_equal(report.damaged_blocks, 1);
}

static void test_damaged_head(void **state)
{
    dirlab *lab = *state;

    make(lab, true);
    dirlab_damage(lab, "shard_003.usearch", -1);
    dirlab_refused(lab, NULL, NPHD_CORRUPT, "shard_003.usearch", NULL);
    lose(lab, 30, 40);
    /* the vector that key 21 had before its newer one was lost */
    uint8_t data[8];
    dirlab_set(&lab->items, nphd_key_u64(21), dirlab_vector(21, 0, data));
    expect_salvage(lab, "shard_003.usearch");
}

/* Gone without a trace but for the tombstones, which are newer than every shard that is left. */
static void test_missing_head(void **state)
{
    dirlab *lab = *state;
    uint8_t data[8];

    make(lab, true);
    dirlab_delete(lab, "shard_003.usearch");
    dirlab_refused(lab, NULL, NPHD_CORRUPT, "the newest shard is missing", "lock says");
    dirlab_copy(lab, "lock", "kept");
    dirlab_forget_head(lab);
    dirlab_refused(lab, NULL, NPHD_CORRUPT, "tombstones.npy: of generation", "shard_002.usearch");
    dirlab_copy(lab, "kept", "lock");
    dirlab_delete(lab, "kept");
    lose(lab, 30, 40);
    dirlab_set(&lab->items, nphd_key_u64(21), dirlab_vector(21, 0, data));
    expect_salvage(lab, "tombstones.npy");
}

/* One byte of any file: opening refuses with the name of the file, or the byte is one that opening
 * does not read; salvage opens whatever it is. */
static void test_damage_anywhere(void **state)
{
    static const char *const names[] = {"shard_000.usearch", "shard_003.usearch", "tombstones.npy",
                                        "bloom.isbf"};
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_options(lab);
    size_t refused = 0;

    make(lab, true);
    options.read_only = true;
    for (size_t file = 0; file < 4; file++) {
        size_t bytes = 0;
        free(memory_io_get(lab->disk, dirlab_path(names[file]), &bytes));
        dirlab_copy(lab, names[file], "kept");
        for (size_t at = test_random_below(&lab->random, 40); at < bytes;
             at += 1 + test_random_below(&lab->random, 80)) {
            nphd_sharded *sharded = NULL;
            nphd_error err = NPHD_ERROR_INIT;
            dirlab_damage(lab, names[file], (long)at);
            if (nphd_sharded_open(DIRLAB_FOLDER, &options, &sharded, &err) != NPHD_OK) {
                assert_true(err.status == NPHD_CORRUPT || err.status == NPHD_UNSUPPORTED);
                assert_non_null(strstr(err.text, names[file]));
                refused++;
            }
            nphd_sharded_free(sharded);
            options.salvage = true;
            dirlab_forget_log(lab);
            sharded = dirlab_open(lab, &options);
            assert_true(nphd_sharded_size(sharded) > 0);
            nphd_sharded_free(sharded);
            options.salvage = false;
            dirlab_copy(lab, "kept", names[file]);
        }
    }
    assert_true(refused > 20);
}

static void test_all_shards_damaged(void **state)
{
    static const char *const names[] = {"shard_000.usearch", "shard_001.usearch",
                                        "shard_002.usearch", "shard_003.usearch"};
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded;

    make(lab, true);
    for (size_t i = 0; i < 4; i++) {
        dirlab_put(lab, names[i], "short", 5);
    }
    dirlab_refused(lab, &options, NPHD_CORRUPT, "shard_000.usearch", NULL);
    options.salvage = true;
    sharded = dirlab_open(lab, &options);
    assert_int_equal(nphd_sharded_size(sharded), 0);
    for (size_t i = 0; i < 4; i++) {
        assert_non_null(strstr(lab->damage, names[i]));
    }
    lab->items.count = 0;
    dirlab_add(lab, sharded, 0, 5);
    dirlab_close(sharded);
    options.salvage = false;
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* ---- options: W28, SI3, SI5 ---- */

static void test_contradictions(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options;

    make(lab, false);
    options = dirlab_options(lab);
    options.max_bits = 128;
    dirlab_refused(lab, &options, NPHD_MISMATCH, "64", "128");
    options = dirlab_options(lab);
    options.key_bits = 128;
    dirlab_refused(lab, &options, NPHD_MISMATCH, "64", "128");
    options = dirlab_options(lab);
    options.metric = NPHD_METRIC_HAMMING;
    dirlab_refused(lab, &options, NPHD_MISMATCH, "nphd", "hamming");
    options = dirlab_options(lab);
    options.connectivity = 5; /* the files' counts, and a warning tells so */
    nphd_sharded *sharded = dirlab_open(lab, &options);
    assert_non_null(strstr(lab->log, "connectivity is 4, and stays so, although 5 was asked for"));
    assert_int_equal(dirlab_stats(sharded).connectivity, 4);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    options = dirlab_options(lab);
    options.multi = 2;
    dirlab_refused(lab, &options, NPHD_MISMATCH, "multi", NULL);
}

/* W45: refused in one place, before anything is made. */
static void test_options_out_of_range(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options[6];
    static const char *const words[] = {"max_bits",     "max_bits", "key_bits",
                                        "connectivity", "multi",    "breadth"};

    for (size_t i = 0; i < 6; i++) {
        options[i] = dirlab_options(lab);
    }
    options[0].max_bits = 12;
    options[1].max_bits = 2048;
    options[2].key_bits = 65;
    options[3].connectivity = 1;
    options[4].multi = 3;
    options[5].search_breadth = 70000;
    for (size_t i = 0; i < 6; i++) {
        dirlab_refused(lab, &options[i], NPHD_INVALID_ARGUMENT, words[i], NULL);
    }
    assert_int_equal(nphd_sharded_open("", NULL, NULL, NULL), NPHD_INVALID_ARGUMENT);
}

/* Y4, SI1, SI7 */
static void test_nothing_there(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_options(lab);
    nphd_metadata metadata = NPHD_METADATA_INIT;
    nphd_sharded *sharded = NULL;

    options.read_only = true;
    const uint64_t before = memory_io_fingerprint(lab->disk);
    dirlab_refused(lab, &options, NPHD_NOT_FOUND, "read_only", NULL);
    assert_int_equal(nphd_sharded_open("a/b/c", &options, &sharded, NULL), NPHD_NOT_FOUND);
    assert_true(before == memory_io_fingerprint(lab->disk));
    assert_int_equal(nphd_directory_metadata("a/b/c", &lab->fault.table, &metadata, NULL),
                     NPHD_NOT_FOUND);
    assert_int_equal(nphd_directory_metadata(DIRLAB_FOLDER, &lab->fault.table, &metadata, NULL),
                     NPHD_NOT_FOUND);
    options.read_only = false;
    OK(nphd_sharded_open("a/b/c/", &options, &sharded, NULL));
    assert_true(memory_io_has_directory(lab->disk, "a/b/c"));
    dirlab_close(sharded);
    memory_io_put(lab->disk, "file", "x", 1);
    assert_int_not_equal(nphd_sharded_open("file", &options, &sharded, NULL), NPHD_OK);
    assert_int_not_equal(nphd_directory_metadata("file", &lab->fault.table, &metadata, NULL),
                         NPHD_OK);
    make(lab, false);
    OK(nphd_directory_metadata(DIRLAB_FOLDER, &lab->fault.table, &metadata, NULL));
    assert_int_equal(metadata.max_bits, 64);
    assert_int_equal(metadata.metric, NPHD_METRIC_NPHD);
}

/* ---- one writer, many readers: W20, W21 ---- */

static void test_one_writer(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *writer;
    nphd_sharded *reader;

    make(lab, true);
    writer = dirlab_open(lab, NULL);
    dirlab_refused(lab, NULL, NPHD_BUSY, "d/lock", "open for writing");
    options.read_only = true;
    reader = dirlab_open(lab, &options);
    dirlab_expect(lab, reader);
    /* the reader keeps its state while the writer goes on */
    OK(nphd_sharded_remove(writer, &lab->items.items[0].key, 1, NULL, NULL));
    OK(nphd_sharded_compact(writer, NULL, NULL, NULL));
    dirlab_expect(lab, reader);
    dirlab_drop(&lab->items, lab->items.items[0].key);
    bool changed = false;
    OK(nphd_sharded_refresh(reader, &changed, NULL)); /* W30 */
    assert_true(changed);
    dirlab_expect(lab, reader);
    OK(nphd_sharded_refresh(reader, &changed, NULL));
    assert_false(changed);
    dirlab_close(reader);
    reader = dirlab_open(lab, &options);
    dirlab_expect(lab, reader);
    dirlab_close(reader);
    nphd_sharded_free(writer);
    writer = dirlab_open(lab, NULL);
    dirlab_close(writer);
}

/* A failed opening leaves no lock and no file behind. */
static void test_failed_opening_lets_go(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded;

    make(lab, true);
    dirlab_copy(lab, "shard_001.usearch", "kept");
    dirlab_damage(lab, "shard_001.usearch", 0);
    dirlab_refused(lab, NULL, NPHD_CORRUPT, "shard_001.usearch", NULL);
    assert_int_equal(memory_io_locks(lab->disk), 0);
    dirlab_copy(lab, "kept", "shard_001.usearch");
    sharded = dirlab_open(lab, NULL);
    assert_int_equal(memory_io_locks(lab->disk), 1);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    assert_int_equal(memory_io_locks(lab->disk), 0);
}

/* Y1 to Y7: a reader refuses changes, and whatever there is to repair it changes nothing. */
static void test_reader_changes_nothing(void **state)
{
    static const char *const missing[] = {NULL, "bloom.isbf", "tombstones.npy"};
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_options(lab);

    make(lab, false);
    dirlab_put(lab, "shard_002.usearch.tmp", "x", 1);
    dirlab_delete(lab, "lock");
    options.read_only = true;
    for (size_t i = 0; i < 3; i++) {
        if (missing[i] != NULL) {
            dirlab_delete(lab, missing[i]);
        }
        const uint64_t before = memory_io_fingerprint(lab->disk);
        const uint64_t operations = memory_io_operations(lab->disk);
        nphd_sharded *sharded = dirlab_open(lab, &options);
        dirlab_expect(lab, sharded);
        OK(nphd_sharded_close(sharded, NULL));
        OK(nphd_sharded_close(sharded, NULL));
        nphd_sharded_free(sharded);
        assert_true(before == memory_io_fingerprint(lab->disk));
        assert_true(operations == memory_io_operations(lab->disk));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_missing_shard),
        DIRLAB_TEST(test_shard_of_an_older_generation),
        DIRLAB_TEST(test_shard_of_a_newer_generation),
        DIRLAB_TEST(test_damaged_shard),
        DIRLAB_TEST(test_put_aside_twice),
        DIRLAB_TEST(test_verify_finds_what_opening_does_not_read),
        DIRLAB_TEST(test_damaged_head),
        DIRLAB_TEST(test_missing_head),
        DIRLAB_TEST(test_damage_anywhere),
        DIRLAB_TEST(test_all_shards_damaged),
        DIRLAB_TEST(test_contradictions),
        DIRLAB_TEST(test_options_out_of_range),
        DIRLAB_TEST(test_nothing_there),
        DIRLAB_TEST(test_one_writer),
        DIRLAB_TEST(test_failed_opening_lets_go),
        DIRLAB_TEST(test_reader_changes_nothing),
    };

    return cmocka_run_group_tests_name("opening a directory", tests, NULL, NULL);
}
