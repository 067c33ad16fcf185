/* Directories as the reference leaves them, and what it finds in ours. The shards are its own files
 * from tests/fixtures/usearch, put together on a model disk; the bloom filter and the tombstones
 * are written beside them as it does, without our trailer. */
#include "directory_lab.h"
#include "fixture_text.h"

#include <stdlib.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

/* Three shards of the reference with different keys, its filter, no deletions. */
static void put_three(dirlab *lab)
{
    dirlab_put_fixture(lab, "nphd256_n100", "shard_000.usearch");
    dirlab_put_fixture(lab, "nphd256_removed", "shard_001.usearch");
    dirlab_put_fixture(lab, "nphd256_edgekeys", "shard_002.usearch");
    dirlab_put_bloom(lab, 8);
}

/* Open, compare, let the index write, and compare by both rules again. */
static void expect_through_saves(dirlab *lab, const nphd_sharded_options *options)
{
    static const uint8_t data[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    const nphd_vector vector = {data, 8};
    const nphd_key key = {0, 77};
    nphd_sharded *sharded = dirlab_open(lab, options);

    dirlab_expect(lab, sharded);
    assert_int_equal(nphd_sharded_dirty(sharded), 0);
    OK(nphd_sharded_add(sharded, key, vector, NULL, NULL));
    dirlab_set(&lab->items, key, vector);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    dirlab_expect_reference(lab);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_expect_reference(lab);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    dirlab_expect_reference(lab);
    sharded = dirlab_open(lab, options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    OK(nphd_directory_verify(DIRLAB_FOLDER, &lab->fault.table, NULL, NULL, NULL, NULL));
}

static void test_plain(void **state)
{
    dirlab *lab = *state;

    put_three(lab);
    expect_through_saves(lab, NULL);
}

static void test_keys_of_128_bits(void **state)
{
    dirlab *lab = *state;

    dirlab_put_fixture(lab, "uuid_nphd256_n200", "shard_000.usearch");
    dirlab_put_fixture(lab, "uuid_nphd256_removed", "shard_001.usearch");
    dirlab_put_bloom(lab, 16);
    const nphd_key dead[2] = {lab->items.items[3].key, lab->items.items[150].key};
    dirlab_put_tombstones(lab, 16, dead, nphd_key_compare(dead[0], dead[1]) < 0 ? 2 : 1);
    dirlab_drop(&lab->items, dead[0]);
    if (nphd_key_compare(dead[0], dead[1]) < 0) {
        dirlab_drop(&lab->items, dead[1]);
    }
    expect_through_saves(lab, NULL);
}

static void test_hamming(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded;

    dirlab_put_fixture(lab, "hamming256_n1000", "shard_000.usearch");
    sharded = dirlab_open(lab, NULL);
    dirlab_expect(lab, sharded);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_close(sharded);
    dirlab_expect_reference(lab);
}

/* One key, several vectors: all are counted, in every shard. */
static void test_multi(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded;
    size_t count = 0;

    dirlab_put_fixture(lab, "hamming256_multi", "shard_000.usearch");
    dirlab_copy(lab, "shard_000.usearch", "shard_001.usearch");
    sharded = dirlab_open(lab, NULL);
    assert_true(dirlab_stats(sharded).multi);
    assert_int_equal(nphd_sharded_size(sharded), 600);
    OK(nphd_sharded_count(sharded, lab->items.items[0].key, &count, NULL));
    assert_int_equal(count, 6);
    dirlab_close(sharded);
}

/* Behaviour 6.6, R11, J6: all patterns go, with a warning each, and nothing else does. */
static void test_stale_temporaries(void **state)
{
    static const char *const stale[] = {"shard_001.usearch.tmp",
                                        "bloom.isbf.tmp",
                                        "tombstones.npy.tmp",
                                        "shard_000.usearch.compact",
                                        "shard_000.usearch.tmp-0123456789abcdef",
                                        "lock.tmp-0123456789abcdef"};
    enum { STALE = sizeof(stale) / sizeof(stale[0]) };
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_options(lab);
    nphd_sharded *sharded;

    put_three(lab);
    for (size_t i = 0; i < STALE; i++) {
        dirlab_put(lab, stale[i], "rest", 4);
    }
    dirlab_put(lab, "notes.txt", "mine", 4);
    dirlab_put(lab, "shard.usearch", "mine", 4);
    options.read_only = true;
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    for (size_t i = 0; i < STALE; i++) {
        assert_true(dirlab_exists(lab, stale[i]));
        assert_null(strstr(lab->log, stale[i]));
    }
    sharded = dirlab_open(lab, NULL);
    dirlab_expect(lab, sharded);
    for (size_t i = 0; i < STALE; i++) {
        assert_false(dirlab_exists(lab, stale[i]));
        assert_non_null(strstr(lab->log, stale[i]));
    }
    dirlab_close(sharded);
    assert_true(dirlab_exists(lab, "notes.txt") && dirlab_exists(lab, "shard.usearch"));
}

/* F12, J4: whatever the filter file is, answers are right, and the next save writes a good one. */
static void test_filters_of_all_kinds(void **state)
{
    static const char *const kinds[] = {"none", "empty", "cut", "magic", "count", "not ours"};
    dirlab *lab = *state;

    put_three(lab);
    for (size_t kind = 0; kind < sizeof(kinds) / sizeof(kinds[0]); kind++) {
        nphd_sharded *sharded;
        dirlab_put_bloom(lab, 8);
        switch (kind) {
        case 0:
            dirlab_delete(lab, "bloom.isbf");
            break;
        case 1:
            dirlab_put(lab, "bloom.isbf", "", 0);
            break;
        case 2:
            dirlab_cut(lab, "bloom.isbf", 100);
            break;
        case 3:
            dirlab_damage(lab, "bloom.isbf", 0);
            break;
        case 4:
            dirlab_damage(lab, "bloom.isbf", 5);
            break;
        default:
            dirlab_put(lab, "bloom.isbf", "something else altogether, and longer than a head", 49);
        }
        dirlab_forget_log(lab);
        sharded = dirlab_open(lab, NULL);
        dirlab_expect(lab, sharded);
        assert_true(dirlab_stats(sharded).bloom);
        assert_int_equal(dirlab_stats(sharded).bloom_keys, lab->items.count);
        /* a count of adds that is too high is one that the reference could have written */
        assert_int_equal(strstr(lab->log, "bloom.isbf") != NULL, kind != 4);
        dirlab_close(sharded);
        dirlab_expect_reference(lab);
    }
}

/* A reader does not make the filter and does without it. */
static void test_reader_without_filter(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_options(lab);
    nphd_sharded *sharded;

    put_three(lab);
    dirlab_delete(lab, "bloom.isbf");
    options.read_only = true;
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    assert_false(dirlab_stats(sharded).bloom);
    dirlab_close(sharded);
    assert_false(dirlab_exists(lab, "bloom.isbf"));
}

/* The empty file says that keys may have copies. */
static void test_empty_tombstones(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded;

    dirlab_put_shard(lab, "shard_000.usearch", NULL, 0, 50, 0);
    dirlab_put_shard(lab, "shard_001.usearch", NULL, 40, 60, 1);
    dirlab_put_bloom(lab, 8);
    dirlab_put_tombstones(lab, 8, NULL, 0);
    sharded = dirlab_open(lab, NULL);
    dirlab_expect(lab, sharded);
    assert_int_equal(dirlab_stats(sharded).tombstones, 0);
    assert_int_equal(dirlab_stats(sharded).dead, 10);
    dirlab_close(sharded);
    expect_through_saves(lab, NULL);
}

/* I2: the newest wins, also when nothing says that there are copies (W5). */
static void test_overlapping(void **state)
{
    dirlab *lab = *state;

    dirlab_put_shard(lab, "shard_000.usearch", NULL, 0, 30, 0);
    dirlab_put_shard(lab, "shard_001.usearch", NULL, 10, 40, 1);
    dirlab_put_shard(lab, "shard_002.usearch", NULL, 20, 25, 2);
    dirlab_put_shard(lab, "shard_003.usearch", NULL, 40, 42, 3);
    expect_through_saves(lab, NULL);
}

/* A fixture beside a copy of itself: the same keys, the same vectors. */
static void test_copy_of_a_shard(void **state)
{
    dirlab *lab = *state;

    put_three(lab);
    dirlab_copy(lab, "shard_000.usearch", "shard_004.usearch");
    dirlab_copy(lab, "shard_001.usearch", "shard_003.usearch");
    expect_through_saves(lab, NULL);
}

/* W1: a key of the last shard is not touched by a tombstone of the reference; all others are. */
static void test_tombstones(void **state)
{
    const nphd_key dead[] = {{0, 3}, {0, 15}, {0, 25}, {0, 39}, {0, 1000}};
    dirlab *lab = *state;
    nphd_sharded *sharded;

    dirlab_put_shard(lab, "shard_000.usearch", NULL, 0, 20, 0);
    dirlab_put_shard(lab, "shard_001.usearch", NULL, 10, 30, 1);
    dirlab_put_shard(lab, "shard_002.usearch", NULL, 28, 40, 2);
    dirlab_put_bloom(lab, 8);
    dirlab_put_tombstones(lab, 8, dead, 5);
    for (size_t i = 0; i < 3; i++) {
        dirlab_drop(&lab->items, dead[i]);
    }
    dirlab_expect_reference(lab);
    sharded = dirlab_open(lab, NULL);
    dirlab_expect(lab, sharded);
    assert_int_equal(dirlab_stats(sharded).tombstones, 3);
    /* a deleted key that is added again is there, whatever rotates */
    dirlab_add(lab, sharded, 15, 16);
    dirlab_remove(lab, sharded, 39);
    dirlab_remove(lab, sharded, 28);
    dirlab_close(sharded);
    dirlab_expect_reference(lab);
    expect_through_saves(lab, NULL);
}

/* The same key deleted and in the last shard only: reference and we agree for a reader, too. */
static void test_tombstones_for_a_reader(void **state)
{
    const nphd_key dead[] = {{0, 1}, {0, 9}};
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_options(lab);
    nphd_sharded *sharded;

    dirlab_put_shard(lab, "shard_000.usearch", NULL, 0, 9, 0);
    dirlab_put_shard(lab, "shard_001.usearch", NULL, 9, 12, 0);
    dirlab_put_tombstones(lab, 8, dead, 2);
    dirlab_drop(&lab->items, dead[0]);
    const uint64_t before = memory_io_fingerprint(lab->disk);
    options.read_only = true;
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    assert_true(before == memory_io_fingerprint(lab->disk));
}

/* Gaps in the numbers, numbers above 999, and their order, which is not that of the text. */
static void test_numbers(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded;
    nphd_shard_info shards[8];
    size_t count = 0;

    dirlab_put_shard(lab, "shard_007.usearch", NULL, 0, 10, 0);
    dirlab_put_shard(lab, "shard_999.usearch", NULL, 5, 15, 1);
    dirlab_put_shard(lab, "shard_1000.usearch", NULL, 12, 20, 2);
    dirlab_put_shard(lab, "shard_12345.usearch", NULL, 30, 31, 3);
    sharded = dirlab_open(lab, NULL);
    dirlab_expect(lab, sharded);
    OK(nphd_sharded_shards(sharded, shards, 8, &count, NULL));
    assert_int_equal(count, 4);
    assert_int_equal(shards[0].number, 7);
    assert_int_equal(shards[2].number, 1000);
    assert_true(shards[3].active && shards[3].number == 12345);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 50, 51);
    dirlab_close(sharded);
    assert_true(dirlab_exists(lab, "shard_12346.usearch"));
    expect_through_saves(lab, NULL);
}

/* W46: only names as they are written count. */
static void test_names_that_do_not_match(void **state)
{
    static const char *const others[] = {
        "shard_.usearch",    "shard_0.usearch",          "shard_0000.usearch",
        "shard_x.usearch",   "shard_000_copy.usearch",   "shard_000.usearch~",
        "shard_-01.usearch", "shard_000 (2).usearch",    "shard_4294967295.usearch",
        "Shard_001.usearch", "shard_+01.usearch",        "shard_000.usearch.bak",
        "shard_0x1.usearch", "shard_99999999999.usearch"};
    dirlab *lab = *state;
    nphd_sharded *sharded;

    put_three(lab);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        dirlab_put(lab, others[i], "no shard", 8);
    }
    sharded = dirlab_open(lab, NULL);
    dirlab_expect(lab, sharded);
    assert_non_null(strstr(lab->log, "shard_000_copy.usearch"));
    dirlab_close(sharded);
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        assert_true(dirlab_exists(lab, others[i]));
    }
}

/* W19: shards that cannot be of one index. */
static void test_shards_that_disagree(void **state)
{
    static const struct {
        const char *second;
        const char *one;
        const char *other;
    } pairs[] = {
        {"uuid_nphd256_n200", "128", "64"},
        {"hamming256_n1000", "hamming", "nphd"},
        {"cos16_f32_n200", "shard_001.usearch", "cos"},
    };
    dirlab *lab = *state;

    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        dirlab_put_fixture(lab, "nphd256_n100", "shard_000.usearch");
        dirlab_put_fixture(lab, pairs[i].second, "shard_001.usearch");
        dirlab_refused(lab, NULL, i < 2 ? NPHD_MISMATCH : NPHD_UNSUPPORTED, pairs[i].one,
                       pairs[i].other);
        dirlab_refused(lab, NULL, i < 2 ? NPHD_MISMATCH : NPHD_UNSUPPORTED, "shard_001.usearch",
                       NULL);
    }
    dirlab_put_shard(lab, "shard_001.usearch", NULL, 0, 5, 0);
    dirlab_refused(lab, NULL, NPHD_MISMATCH, "shard_001.usearch", "64");
    dirlab_put_fixture(lab, "hamming256_n1000", "shard_000.usearch");
    dirlab_put_fixture(lab, "hamming256_multi", "shard_001.usearch");
    dirlab_refused(lab, NULL, NPHD_MISMATCH, "shard_001.usearch", "multi");
}

/* Connectivity may differ, as in the reference: it goes on with that of the last shard. */
static void test_mixed_connectivity(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_options(lab);
    nphd_sharded *sharded;

    dirlab_put_fixture(lab, "nphd256_n100", "shard_000.usearch");
    dirlab_put_fixture(lab, "nphd256_m32", "shard_001.usearch");
    sharded = dirlab_open(lab, NULL);
    dirlab_expect(lab, sharded);
    assert_int_equal(dirlab_stats(sharded).connectivity, 32);
    dirlab_close(sharded);
    options.connectivity = 16;
    sharded = dirlab_open(lab, &options);
    assert_non_null(
        strstr(lab->log, "connectivity is 32, and stays so, although 16 was asked for"));
    assert_int_equal(dirlab_stats(sharded).connectivity, 32);
    dirlab_close(sharded);
}

/* Empty, all removed, removed but saved from a view, reused room, more bytes behind the graph. */
static void test_unusual_shards(void **state)
{
    dirlab *lab = *state;
    size_t bytes = 0;
    uint8_t *trailing = fixture_file(fixture_path("nphd256_n100_trailing"), &bytes);

    assert_non_null(trailing);
    dirlab_put_fixture(lab, "nphd256_n0", "shard_000.usearch");
    dirlab_put_fixture(lab, "nphd256_allremoved", "shard_001.usearch");
    dirlab_put_fixture(lab, "nphd256_n100", "shard_002.usearch");
    dirlab_put(lab, "shard_002.usearch", trailing, bytes);
    free(trailing);
    dirlab_put_fixture(lab, "nphd256_reused", "shard_003.usearch");
    dirlab_put_fixture(lab, "nphd256_isolated", "shard_004.usearch");
    dirlab_put_fixture(lab, "nphd256_removed", "shard_005.usearch");
    dirlab_put_fixture(lab, "nphd256_threads2", "shard_006.usearch");
    dirlab_put_fixture(lab, "nphd256_allremoved", "shard_007.usearch");
    expect_through_saves(lab, NULL);
}

/* An empty last shard takes the writes; nothing is made up. */
static void test_only_an_empty_shard(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded;

    dirlab_put_fixture(lab, "nphd256_n0", "shard_000.usearch");
    sharded = dirlab_open(lab, NULL);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    expect_through_saves(lab, NULL);
}

/* A file of another index of ours among the shards of the reference. */
static void test_file_of_another_index(void **state)
{
    dirlab *lab = *state;
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;
    nphd_sharded *sharded;

    put_three(lab);
    /* a single index of ours has a trailer but no record: it is a shard like those of others */
    options.io = &lab->fault.table;
    OK(nphd_index_create(&options, &index, NULL));
    OK(nphd_index_save(index, dirlab_path("shard_003.usearch"), NULL, NULL));
    nphd_index_close(index);
    sharded = dirlab_open(lab, NULL);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* The reference goes on in a directory of ours: it rewrites the last shard, the filter and the
 * tombstones, all without trailer; then we go on in its. */
static void test_there_and_back(void **state)
{
    const nphd_key dead[] = {{0, 2}, {0, 12}};
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 10, 20);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 20, 25);
    dirlab_remove(lab, sharded, 1);
    dirlab_close(sharded);
    dirlab_expect_reference(lab);
    /* what it writes: shard 2 with more keys, one of them a new version of key 11 */
    dirlab_put_shard(lab, "shard_002.usearch", NULL, 20, 30, 1);
    const nphd_key all[] = {{0, 1}, {0, 2}, {0, 12}};
    dirlab_put_tombstones(lab, 8, all, 3);
    dirlab_put_bloom(lab, 8);
    dirlab_drop(&lab->items, dead[0]);
    dirlab_drop(&lab->items, dead[1]);
    options.connectivity = 0;
    expect_through_saves(lab, &options);
    /* it deletes the file of an active shard that it emptied, and writes the others */
    sharded = dirlab_open(lab, &options);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_close(sharded);
    dirlab_put_tombstones(lab, 8, all, 3);
    dirlab_put_bloom(lab, 8);
    expect_through_saves(lab, &options);
}

/* The checks above must be able to fail. */
static void test_reader_sees_differences(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_remove(lab, sharded, 4);
    dirlab_close(sharded);
    dirlab_expect_reference(lab);
    /* without tombstones the reference would find key 4: a reader by its rules, as we have one in
     * the library for its directories, must find it too once nothing of ours is left */
    dirlab_delete(lab, "tombstones.npy");
    dirlab_delete(lab, "shard_001.usearch");
    dirlab_delete(lab, "bloom.isbf");
    size_t bytes = 0;
    uint8_t *data = dirlab_take_foreign(lab, "shard_000.usearch", &bytes);
    dirlab_put(lab, "shard_000.usearch", data, bytes);
    free(data);
    sharded = dirlab_open(lab, &options);
    assert_int_equal(nphd_sharded_size(sharded), lab->items.count + 1);
    assert_true(dirlab_has(sharded, 4));
    dirlab_close(sharded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_plain),
        DIRLAB_TEST(test_keys_of_128_bits),
        DIRLAB_TEST(test_hamming),
        DIRLAB_TEST(test_multi),
        DIRLAB_TEST(test_stale_temporaries),
        DIRLAB_TEST(test_filters_of_all_kinds),
        DIRLAB_TEST(test_reader_without_filter),
        DIRLAB_TEST(test_empty_tombstones),
        DIRLAB_TEST(test_overlapping),
        DIRLAB_TEST(test_copy_of_a_shard),
        DIRLAB_TEST(test_tombstones),
        DIRLAB_TEST(test_tombstones_for_a_reader),
        DIRLAB_TEST(test_numbers),
        DIRLAB_TEST(test_names_that_do_not_match),
        DIRLAB_TEST(test_shards_that_disagree),
        DIRLAB_TEST(test_mixed_connectivity),
        DIRLAB_TEST(test_unusual_shards),
        DIRLAB_TEST(test_only_an_empty_shard),
        DIRLAB_TEST(test_file_of_another_index),
        DIRLAB_TEST(test_there_and_back),
        DIRLAB_TEST(test_reader_sees_differences),
    };

    return cmocka_run_group_tests_name("directories of the reference", tests, NULL, NULL);
}
