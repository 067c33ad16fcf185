/* The rules that users of the reference rely on, for a sharded index: removing, replacing and
 * compacting. The names of rows stand in the comments. */
#include "support/directory_lab.h"

#include <stdio.h>
#include <stdlib.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

/* Keys 0..29 in two view shards and the active one. */
static nphd_sharded *three_shards(dirlab *lab)
{
    const nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    for (uint64_t shard = 0; shard < 3; shard++) {
        dirlab_add(lab, sharded, 10 * shard, 10 * shard + 10);
        if (shard < 2) {
            OK(nphd_sharded_rotate(sharded, NULL));
        }
    }
    return sharded;
}

static nphd_sharded *reopen(dirlab *lab, nphd_sharded *sharded)
{
    const nphd_sharded_options options = dirlab_small(lab);

    dirlab_close(sharded);
    return dirlab_open(lab, &options);
}

static uint64_t tombstones(nphd_sharded *sharded)
{
    return dirlab_stats(sharded).tombstones;
}

static void expect_both(dirlab *lab, nphd_sharded *sharded)
{
    dirlab_expect(lab, sharded);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    dirlab_expect_reference(lab);
}

/* Does a search with all it may return meet the key? */
static bool search_meets(nphd_sharded *sharded, uint64_t key, nphd_search_mode mode)
{
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_match matches[100];
    nphd_search_report report;
    uint8_t bits[8];

    options.mode = mode;
    OK(nphd_sharded_search(sharded, dirlab_vector(key, 0, bits), 100, &options, matches, &report,
                           NULL));
    for (size_t i = 0; i < report.count; i++) {
        if (matches[i].key.low == key) {
            return true;
        }
    }
    return false;
}

static void expect_gone(nphd_sharded *sharded, uint64_t key)
{
    uint8_t data[8];
    size_t bytes = 9;
    size_t count = 9;

    assert_false(dirlab_has(sharded, key));
    assert_int_equal(nphd_sharded_get(sharded, nphd_key_u64(key), data, 8, &bytes, NULL),
                     NPHD_NOT_FOUND);
    OK(nphd_sharded_count(sharded, nphd_key_u64(key), &count, NULL));
    assert_int_equal(count, 0);
    assert_false(search_meets(sharded, key, NPHD_SEARCH_EXACT));
    assert_false(search_meets(sharded, key, NPHD_SEARCH_APPROXIMATE));
}

/* ---- remove: RM1 to RM13, Q1 ---- */

static void test_rm_remove(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = three_shards(lab);

    dirlab_remove(lab, sharded, 25); /* RM1: of the active shard, no tombstone */
    assert_int_equal(tombstones(sharded), 0);
    expect_gone(sharded, 25);
    sharded = reopen(lab, sharded);
    dirlab_remove(lab, sharded, 3); /* RM2, RM7 */
    assert_int_equal(tombstones(sharded), 1);
    assert_int_equal(nphd_sharded_size(sharded), 28);
    expect_gone(sharded, 3);
    const nphd_key batch[6] = {{0, 5}, {0, 28}, {0, 15}, {0, 999}, {0, 5}, {0, 28}};
    size_t removed = 0;
    OK(nphd_sharded_remove(sharded, batch, 6, &removed, NULL)); /* RM3, RM4, W37 */
    assert_int_equal(removed, 3);
    for (size_t i = 0; i < 3; i++) {
        dirlab_drop(&lab->items, batch[i]);
        expect_gone(sharded, batch[i].low);
    }
    assert_int_equal(nphd_sharded_dirty(sharded), 4);
    OK(nphd_sharded_remove(sharded, NULL, 0, &removed, NULL));
    assert_int_equal(removed, 0);
    expect_both(lab, sharded);
    sharded = reopen(lab, sharded); /* RM10 */
    assert_int_equal(tombstones(sharded), 3);
    expect_gone(sharded, 3);
    expect_both(lab, sharded);
    dirlab_close(sharded);
}

/* RM8, L11, W2: remove, add again, rotate twice: the new vector is the one that stays. */
static void test_rm8_add_again(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = three_shards(lab);

    dirlab_remove(lab, sharded, 3);
    dirlab_remove(lab, sharded, 13);
    dirlab_upsert(lab, sharded, 3, 7);
    assert_int_equal(tombstones(sharded), 1);
    dirlab_add(lab, sharded, 40, 41); /* another key leaves tombstones alone */
    assert_int_equal(tombstones(sharded), 1);
    for (size_t round = 0; round < 2; round++) {
        OK(nphd_sharded_rotate(sharded, NULL));
        dirlab_add(lab, sharded, 50 + round, 51 + round);
        expect_both(lab, sharded);
    }
    sharded = reopen(lab, sharded);
    dirlab_expect(lab, sharded);
    OK(nphd_sharded_compact(sharded, NULL, NULL, NULL));
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* RM11: the file is there as long as shards have dead entries. */
static void test_rm11_the_tombstone_file(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = three_shards(lab);
    uint64_t removed = 0;

    OK(nphd_sharded_save(sharded, NULL, NULL));
    assert_false(dirlab_exists(lab, "tombstones.npy"));
    dirlab_remove(lab, sharded, 3);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    assert_true(dirlab_exists(lab, "tombstones.npy"));
    dirlab_add(lab, sharded, 3, 4);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    assert_true(dirlab_exists(lab, "tombstones.npy"));
    OK(nphd_sharded_compact(sharded, NULL, &removed, NULL));
    assert_int_equal(removed, 1);
    assert_false(dirlab_exists(lab, "tombstones.npy"));
    dirlab_close(sharded);
}

/* RM12, L4, L5, W42: as many matches as there are, however many are deleted. */
static void test_rm12_searches_are_filled(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = three_shards(lab);
    nphd_match matches[3 * 30];
    nphd_search_report reports[3];
    uint8_t bits[3][8];
    nphd_vector queries[3];

    for (uint64_t key = 0; key < 28; key++) {
        if (key != 11) {
            dirlab_remove(lab, sharded, key);
        }
    }
    for (uint64_t i = 0; i < 3; i++) {
        queries[i] = dirlab_vector(i, 0, bits[i]);
    }
    for (size_t count = 1; count <= 30; count += 7) {
        OK(nphd_sharded_search_many(sharded, queries, 3, count, NULL, matches, reports, NULL));
        for (size_t i = 0; i < 3; i++) {
            assert_int_equal(reports[i].count, count < 3 ? count : 3);
        }
    }
    for (uint64_t key = 11; key < 30; key++) { /* all of them: still a valid answer */
        dirlab_remove(lab, sharded, key);
    }
    OK(nphd_sharded_search_many(sharded, queries, 3, 5, NULL, matches, reports, NULL));
    assert_int_equal(reports[0].count + reports[1].count + reports[2].count, 0);
    expect_both(lab, sharded);
    dirlab_close(sharded);
}

/* RM13, L9, W4: a key with entries in several shards, removed: it comes back nowhere. */
static void test_rm13_many_versions(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = three_shards(lab);

    for (uint8_t version = 1; version < 4; version++) {
        dirlab_upsert(lab, sharded, 3, version);
        OK(nphd_sharded_rotate(sharded, NULL));
        expect_both(lab, sharded); /* one key, one vector, one match: US3 */
    }
    dirlab_remove(lab, sharded, 3);
    expect_gone(sharded, 3);
    sharded = reopen(lab, sharded);
    expect_gone(sharded, 3);
    assert_int_equal(tombstones(sharded), 1);
    expect_both(lab, sharded);
    OK(nphd_sharded_compact(sharded, NULL, NULL, NULL));
    expect_gone(sharded, 3);
    dirlab_close(sharded);
}

/* W1: the shard that becomes the active one at opening. */
static void test_w1_deletions_in_the_last_shard(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = three_shards(lab);

    OK(nphd_sharded_rotate(sharded, NULL)); /* now the newest file is a view shard */
    dirlab_remove(lab, sharded, 25);
    dirlab_remove(lab, sharded, 3);
    for (size_t round = 0; round < 3; round++) {
        sharded = reopen(lab, sharded);
        expect_gone(sharded, 25);
        dirlab_expect(lab, sharded);
        dirlab_expect_reference(lab);
    }
    dirlab_close(sharded);
}

/* L10: without the filter, too. */
static void test_l10_without_filter(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = three_shards(lab);

    dirlab_close(sharded);
    options.no_bloom = true;
    sharded = dirlab_open(lab, &options);
    assert_false(dirlab_stats(sharded).bloom);
    dirlab_remove(lab, sharded, 3);
    dirlab_remove(lab, sharded, 999);
    dirlab_upsert(lab, sharded, 4, 1);
    expect_both(lab, sharded);
    dirlab_close(sharded);
    assert_false(dirlab_exists(lab, "bloom.isbf"));
}

/* RM5, US4: what a multi index does not offer. */
static void test_rm5_multi(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    const nphd_key key = {0, 1};
    const nphd_vector vector = {(const uint8_t *)"x", 1};
    nphd_error err = NPHD_ERROR_INIT;
    nphd_sharded *sharded;

    options.multi = 2;
    sharded = dirlab_open(lab, &options);
    OK(nphd_sharded_add(sharded, key, vector, NULL, NULL));
    assert_int_equal(nphd_sharded_remove(sharded, &key, 1, NULL, &err), NPHD_UNSUPPORTED);
    assert_non_null(strstr(err.text, "multi=False"));
    assert_int_equal(nphd_sharded_upsert(sharded, &key, &vector, 1, NULL, NULL, &err),
                     NPHD_UNSUPPORTED);
    assert_non_null(strstr(err.text, "multi=False"));
    dirlab_close(sharded);
}

/* ---- upsert: US1 to US7, Q2, Q3, W32 ---- */

static void test_us_upsert(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = three_shards(lab);
    const nphd_key keys[5] = {{0, 3}, {0, 100}, {0, 25}, {0, 3}, {0, 100}};
    uint8_t bits[5][8];
    nphd_vector vectors[5];
    nphd_upsert_counts counts;

    for (size_t i = 0; i < 5; i++) {
        vectors[i] = dirlab_vector(keys[i].low, (uint8_t)(60 + i), bits[i]);
        vectors[i].bytes = 8 - i; /* Q2, Q3: lengths differ, and change */
    }
    OK(nphd_sharded_upsert(sharded, keys, vectors, 5, NULL, &counts, NULL));
    assert_int_equal(counts.added, 1);
    assert_int_equal(counts.replaced, 2);
    for (size_t i = 0; i < 5; i++) {
        dirlab_set(&lab->items, keys[i], vectors[i]); /* US2: the last wins */
    }
    assert_int_equal(tombstones(sharded), 0); /* US1 */
    expect_both(lab, sharded);
    assert_int_equal(nphd_sharded_upsert(sharded, NULL, vectors, 5, NULL, &counts, NULL),
                     NPHD_INVALID_ARGUMENT); /* US4 */
    OK(nphd_sharded_upsert(sharded, NULL, NULL, 0, NULL, &counts, NULL));
    assert_int_equal(counts.added + counts.replaced, 0);
    sharded = reopen(lab, sharded);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* US6, US7: a new vector far from the query hides the old one that is near. */
static void test_us7_hidden_far_away(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = three_shards(lab);
    uint8_t bits[8];
    const nphd_vector near_one = dirlab_vector(3, 0, bits);
    uint8_t inverse[8];
    nphd_match match;
    nphd_search_report report;

    for (size_t i = 0; i < 8; i++) {
        inverse[i] = (uint8_t)~bits[i];
    }
    const nphd_key key = nphd_key_u64(3);
    const nphd_vector far_one = {inverse, 8};
    OK(nphd_sharded_upsert(sharded, &key, &far_one, 1, NULL, NULL, NULL));
    dirlab_set(&lab->items, key, far_one);
    OK(nphd_sharded_search(sharded, near_one, 1, NULL, &match, &report, NULL));
    assert_int_equal(report.count, 1);
    assert_int_not_equal(match.key.low, 3);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* ---- compact: C1 to C7, L6, L7, Q4, W10, W43 ---- */

static void test_c_compact(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded;
    uint64_t removed = 9;

    options.shard_bytes = 600; /* some ten vectors: one shard kept, one rebuilt, one deleted */
    sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 0, 60);
    OK(nphd_sharded_rotate(sharded, NULL));
    OK(nphd_sharded_compact(sharded, NULL, &removed, NULL));
    assert_int_equal(removed, 0); /* C3, L7 */
    dirlab_expect(lab, sharded);
    const uint64_t files = dirlab_stats(sharded).files;
    assert_true(files > 4);
    for (uint64_t key = 10; key < 40; key++) {
        dirlab_remove(lab, sharded, key);
    }
    dirlab_upsert(lab, sharded, 3, 1);
    dirlab_upsert(lab, sharded, 59, 1);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    const uint64_t dead = dirlab_stats(sharded).dead;
    OK(nphd_sharded_compact(sharded, NULL, &removed, NULL));
    assert_int_equal(removed, dead);
    assert_true(dead >= 30);
    nphd_sharded_stats stats = dirlab_stats(sharded);
    assert_int_equal(stats.dead, 0);
    assert_int_equal(stats.tombstones, 0);
    assert_int_equal(stats.dirty, 0);
    assert_true(stats.files < files);
    assert_true(stats.bloom); /* C5 */
    dirlab_expect(lab, sharded);
    dirlab_expect_reference(lab);
    sharded = reopen(lab, sharded);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    OK(nphd_directory_verify(DIRLAB_FOLDER, &lab->fault.table, NULL, NULL, NULL, NULL));
}

/* W11: a crash in the middle loses no key; W10: nor takes one file for another. */
static void test_w11_compact_cut_short(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_small(lab);
    bool cut = true;

    for (uint64_t operations = 0; cut; operations++) {
        nphd_sharded *sharded;
        dirlab_items_free(&lab->items);
        memory_io_cut_after(lab->disk, UINT64_MAX);
        sharded = dirlab_open(lab, &options);
        OK(nphd_sharded_reset(sharded, NULL));
        nphd_sharded_free(reopen(lab, sharded));
        sharded = three_shards(lab);
        dirlab_upsert(lab, sharded, 3, 1);
        dirlab_remove(lab, sharded, 14);
        OK(nphd_sharded_save(sharded, NULL, NULL));
        memory_io_cut_after(lab->disk, operations);
        (void)nphd_sharded_compact(sharded, NULL, NULL, NULL);
        nphd_sharded_free(sharded);
        cut = memory_io_is_cut(lab->disk);
        memory_io_power_off(lab->disk, MEMORY_IO_WEAK, operations % 8);
        sharded = dirlab_open(lab, &options);
        dirlab_expect(lab, sharded);
        dirlab_close(sharded);
        dirlab_expect_reference(lab);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_rm_remove),
        DIRLAB_TEST(test_rm8_add_again),
        DIRLAB_TEST(test_rm11_the_tombstone_file),
        DIRLAB_TEST(test_rm12_searches_are_filled),
        DIRLAB_TEST(test_rm13_many_versions),
        DIRLAB_TEST(test_w1_deletions_in_the_last_shard),
        DIRLAB_TEST(test_l10_without_filter),
        DIRLAB_TEST(test_rm5_multi),
        DIRLAB_TEST(test_us_upsert),
        DIRLAB_TEST(test_us7_hidden_far_away),
        DIRLAB_TEST(test_c_compact),
        DIRLAB_TEST(test_w11_compact_cut_short),
    };

    return cmocka_run_group_tests_name("changes of the sharded index", tests, NULL, NULL);
}
