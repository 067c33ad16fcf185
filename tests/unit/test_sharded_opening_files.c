/* Opening a directory whose files are not those of one save: strays, leftovers, tombstones and
 * filters that are missing, damaged, older or of another index. */
#include "support/directory_damage.h"

#include <stdlib.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

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

/* ---- files that do not belong ---- */

static void expect_stray(dirlab *lab, const char *from, const char *to)
{
    dirlab_copy(lab, from, to);
    dirlab_refused(lab, NULL, NPHD_MISMATCH, to, NULL);
    assert_true(dirlab_exists(lab, to));
    dirlab_delete(lab, to);
}

/* W46: copies of shards under numbers that no record lists. */
static void test_stray_copies(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded;

    damage_make_saves(lab, true);
    expect_stray(lab, "shard_000.usearch", "shard_009.usearch");
    expect_stray(lab, "shard_003.usearch", "shard_009.usearch");
    /* and under a number below, which a shard had that is gone */
    sharded = dirlab_open(lab, &options);
    for (uint64_t key = 0; key < 10; key++) {
        dirlab_remove(lab, sharded, key);
    }
    OK(nphd_sharded_compact(sharded, NULL, NULL, NULL));
    dirlab_close(sharded);
    assert_false(dirlab_exists(lab, "shard_000.usearch"));
    expect_stray(lab, "shard_003.usearch", "shard_000.usearch");
    sharded = dirlab_open(lab, NULL);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

static void test_salvage_puts_strays_aside(void **state)
{
    dirlab *lab = *state;

    damage_make_saves(lab, true);
    dirlab_copy(lab, "shard_000.usearch", "shard_009.usearch");
    expect_salvage(lab, "shard_009.usearch");
    assert_true(dirlab_exists(lab, "shard_009.usearch.damaged"));
}

/* W19: a shard of another index of ours, in the place of one of this, and behind all of them. */
static void test_shard_of_another_index(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *other = NULL;
    size_t bytes = 0;
    void *data;

    damage_make_saves(lab, true);
    OK(nphd_sharded_open("other", &options, &other, NULL));
    for (uint64_t key = 0; key < 12; key++) {
        uint8_t bits[8];
        OK(nphd_sharded_add(other, nphd_key_u64(900 + key), dirlab_vector(key, 0, bits), NULL,
                            NULL));
        OK(nphd_sharded_rotate(other, NULL));
        OK(nphd_sharded_save(other, NULL, NULL));
    }
    dirlab_close(other);
    data = memory_io_get(lab->disk, "other/shard_000.usearch", &bytes);
    assert_non_null(data);
    dirlab_put(lab, "shard_009.usearch", data, bytes);
    dirlab_refused(lab, NULL, NPHD_MISMATCH, "shard_009.usearch", NULL);
    dirlab_delete(lab, "shard_009.usearch");
    dirlab_copy(lab, "shard_000.usearch", "kept");
    dirlab_put(lab, "shard_000.usearch", data, bytes);
    free(data);
    dirlab_refused(lab, NULL, NPHD_MISMATCH, "shard_000.usearch", "another index");
    dirlab_copy(lab, "kept", "shard_000.usearch");
    /* of a higher generation than all of ours */
    data = memory_io_get(lab->disk, "other/shard_011.usearch", &bytes);
    assert_non_null(data);
    dirlab_put(lab, "shard_011.usearch", data, bytes);
    free(data);
    nphd_sharded *sharded = NULL;
    nphd_error err = NPHD_ERROR_INIT;
    assert_int_not_equal(nphd_sharded_open(DIRLAB_FOLDER, &options, &sharded, &err), NPHD_OK);
    assert_null(sharded);
    assert_true(err.status == NPHD_MISMATCH || err.status == NPHD_CORRUPT);
    dirlab_delete(lab, "shard_011.usearch");
    sharded = dirlab_open(lab, NULL);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* A shard that a compaction left behind is removed with a warning, and not seen by a reader. */
static void test_leftover_of_a_compaction(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded;

    damage_make_saves(lab, true);
    dirlab_copy(lab, "shard_000.usearch", "kept");
    sharded = dirlab_open(lab, &options);
    OK(nphd_sharded_compact(sharded, NULL, NULL, NULL));
    dirlab_close(sharded);
    assert_false(dirlab_exists(lab, "shard_000.usearch"));
    dirlab_copy(lab, "kept", "shard_000.usearch");
    options.read_only = true;
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    assert_true(dirlab_exists(lab, "shard_000.usearch"));
    options.read_only = false;
    dirlab_forget_log(lab);
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    assert_false(dirlab_exists(lab, "shard_000.usearch"));
    assert_non_null(strstr(lab->log, "shard_000.usearch: removed"));
    dirlab_expect_reference(lab);
}

/* ---- tombstones: W3 ---- */

/* The first of its kind may be missing after a crash: the shard has what it said. */
static void test_missing_tombstones_after_the_first_save(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded;

    damage_make_saves(lab, false);
    dirlab_delete(lab, "tombstones.npy");
    sharded = dirlab_open(lab, NULL);
    dirlab_expect(lab, sharded);
    assert_int_equal(dirlab_stats(sharded).tombstones, 2);
    dirlab_close(sharded);
    assert_true(dirlab_exists(lab, "tombstones.npy"));
    dirlab_expect_reference(lab);
}

static void test_missing_tombstones(void **state)
{
    dirlab *lab = *state;

    damage_make_saves(lab, true);
    dirlab_delete(lab, "tombstones.npy");
    dirlab_refused(lab, NULL, NPHD_CORRUPT, "tombstones.npy: missing", "shard_003.usearch");
    expect_salvage(lab, "tombstones.npy: missing");
}

static void test_damaged_tombstones(void **state)
{
    static const long places[] = {0, 20, 130, -1, -70, -101};
    dirlab *lab = *state;

    damage_make_saves(lab, true);
    dirlab_copy(lab, "tombstones.npy", "kept");
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        dirlab_copy(lab, "kept", "tombstones.npy");
        dirlab_damage(lab, "tombstones.npy", places[i]);
        dirlab_refused(lab, NULL, NPHD_CORRUPT, "tombstones.npy", NULL);
    }
    dirlab_put(lab, "tombstones.npy", "", 0);
    dirlab_refused(lab, NULL, NPHD_CORRUPT, "tombstones.npy", NULL);
    dirlab_copy(lab, "kept", "tombstones.npy");
    dirlab_cut(lab, "tombstones.npy", 10);
    dirlab_refused(lab, NULL, NPHD_CORRUPT, "tombstones.npy", NULL);
    expect_salvage(lab, "tombstones.npy");
}

/* Of an older save: what it lacks is in the newest shard. */
static void test_older_tombstones(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded;

    damage_make_saves(lab, false);
    dirlab_copy(lab, "tombstones.npy", "kept");
    sharded = dirlab_open(lab, &options);
    dirlab_remove(lab, sharded, 15);
    dirlab_remove(lab, sharded, 21);
    dirlab_upsert(lab, sharded, 16, 3);
    dirlab_add(lab, sharded, 2, 3);
    dirlab_close(sharded);
    dirlab_copy(lab, "kept", "tombstones.npy");
    sharded = dirlab_open(lab, NULL);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    assert_non_null(strstr(lab->log, "tombstones.npy"));
    dirlab_expect_reference(lab);
}

static void test_tombstones_of_another_index(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    const nphd_key key = {0, 1};
    nphd_sharded *other = NULL;
    uint8_t bits[8];
    size_t bytes = 0;

    damage_make_saves(lab, true);
    OK(nphd_sharded_open("other", &options, &other, NULL));
    OK(nphd_sharded_add(other, key, dirlab_vector(1, 0, bits), NULL, NULL));
    OK(nphd_sharded_rotate(other, NULL));
    OK(nphd_sharded_remove(other, &key, 1, NULL, NULL));
    dirlab_close(other);
    void *data = memory_io_get(lab->disk, "other/tombstones.npy", &bytes);
    assert_non_null(data);
    dirlab_put(lab, "tombstones.npy", data, bytes);
    free(data);
    dirlab_refused(lab, NULL, NPHD_MISMATCH, "tombstones.npy", "another index");
    expect_salvage(lab, "tombstones.npy");
}

/* ---- the filter: J4, W17 ---- */

static void test_damaged_filter(void **state)
{
    static const long places[] = {0, 5, 60, -1, -70};
    dirlab *lab = *state;
    nphd_sharded *sharded;

    damage_make_saves(lab, true);
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        dirlab_damage(lab, "bloom.isbf", places[i]);
        dirlab_forget_log(lab);
        sharded = dirlab_open(lab, NULL);
        dirlab_expect(lab, sharded);
        assert_non_null(strstr(lab->log, "bloom.isbf"));
        dirlab_close(sharded);
        dirlab_expect_reference(lab);
        dirlab_forget_log(lab);
        sharded = dirlab_open(lab, NULL);
        assert_string_equal(lab->log, "");
        dirlab_close(sharded);
    }
}

/* One of an older save does not know all keys; it must not be believed. */
static void test_older_filter(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded;

    damage_make_saves(lab, true);
    dirlab_copy(lab, "bloom.isbf", "kept");
    sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 100, 200);
    dirlab_close(sharded);
    dirlab_copy(lab, "kept", "bloom.isbf");
    sharded = dirlab_open(lab, NULL);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    dirlab_expect_reference(lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_stray_copies),
        DIRLAB_TEST(test_salvage_puts_strays_aside),
        DIRLAB_TEST(test_shard_of_another_index),
        DIRLAB_TEST(test_leftover_of_a_compaction),
        DIRLAB_TEST(test_missing_tombstones_after_the_first_save),
        DIRLAB_TEST(test_missing_tombstones),
        DIRLAB_TEST(test_damaged_tombstones),
        DIRLAB_TEST(test_older_tombstones),
        DIRLAB_TEST(test_tombstones_of_another_index),
        DIRLAB_TEST(test_damaged_filter),
        DIRLAB_TEST(test_older_filter),
    };

    return cmocka_run_group_tests_name("files that do not belong together", tests, NULL, NULL);
}
