/* The rules that users of the reference rely on, for a sharded index: what counts as dirty,
 * starting anew, and what readers and closed indexes refuse. The names of rows stand in the
 * comments. */
#include "support/directory_lab.h"

#include <errno.h>
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

/* ---- dirty: D1 to D13 ---- */

static void test_d_dirty(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded;

    options.shard_bytes = 600;
    sharded = dirlab_open(lab, &options);
    assert_int_equal(nphd_sharded_dirty(sharded), 0); /* D1 */
    dirlab_add(lab, sharded, 0, 100);                 /* D8: rotations do not reset it */
    assert_true(dirlab_stats(sharded).view_shards > 1);
    assert_int_equal(nphd_sharded_dirty(sharded), 100);
    dirlab_add(lab, sharded, 50, 60); /* present: nothing */
    dirlab_remove(lab, sharded, 3);
    dirlab_remove(lab, sharded, 999);
    assert_int_equal(nphd_sharded_dirty(sharded), 101);
    dirlab_upsert(lab, sharded, 4, 1); /* D9 */
    assert_int_equal(nphd_sharded_dirty(sharded), 103);
    dirlab_upsert(lab, sharded, 4, 1); /* an equal vector is replaced, too */
    assert_int_equal(nphd_sharded_dirty(sharded), 105);
    dirlab_upsert(lab, sharded, 500, 1);
    assert_int_equal(nphd_sharded_dirty(sharded), 106);
    OK(nphd_sharded_save(sharded, NULL, NULL)); /* D7 */
    assert_int_equal(nphd_sharded_dirty(sharded), 0);
    for (uint64_t i = 0; i < 20; i++) { /* D11 */
        dirlab_add(lab, sharded, 600 + i, 601 + i);
        if (nphd_sharded_dirty(sharded) == 5) {
            OK(nphd_sharded_save(sharded, NULL, NULL));
            assert_int_equal(nphd_sharded_dirty(sharded), 0);
        }
    }
    dirlab_add(lab, sharded, 700, 701);
    OK(nphd_sharded_reset(sharded, NULL));
    assert_int_equal(nphd_sharded_dirty(sharded), 0);
    nphd_sharded_free(sharded);
    options.read_only = true;
    sharded = dirlab_open(lab, &options);
    assert_int_equal(nphd_sharded_dirty(sharded), 0); /* D12 */
    dirlab_close(sharded);
}

/* ---- reset: Z1 to Z7, W9 ---- */

static void test_z_reset(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = three_shards(lab);
    static const uint8_t data[1] = {1};
    const nphd_vector vector = {data, 1};
    nphd_key automatic;

    dirlab_remove(lab, sharded, 3);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    OK(nphd_sharded_set_breadth(sharded, 77, 0, NULL));
    OK(nphd_sharded_reset(sharded, NULL));
    assert_int_equal(nphd_sharded_size(sharded), 0);
    expect_gone(sharded, 5);
    assert_int_equal(dirlab_stats(sharded).build_breadth, 77); /* Z5 */
    assert_int_equal(dirlab_stats(sharded).connectivity, 4);
    assert_int_equal(tombstones(sharded), 0);
    assert_true(dirlab_exists(lab, "shard_000.usearch")); /* Z4, until the next save */
    nphd_sharded_free(sharded);
    sharded = three_shards(lab); /* not saved: all is there, and nothing is added */
    dirlab_expect(lab, sharded);
    OK(nphd_sharded_reset(sharded, NULL));
    lab->items.count = 0;
    dirlab_add(lab, sharded, 100, 110); /* Z3 */
    OK(nphd_sharded_add_many(sharded, NULL, &vector, 1, NULL, &automatic, NULL, NULL));
    assert_int_equal(automatic.low, 0);
    dirlab_set(&lab->items, automatic, vector);
    expect_both(lab, sharded);
    assert_false(dirlab_exists(lab, "shard_000.usearch"));
    sharded = reopen(lab, sharded); /* Z7, W9 */
    dirlab_expect(lab, sharded);
    expect_gone(sharded, 5);
    OK(nphd_sharded_reset(sharded, NULL)); /* Z1 */
    OK(nphd_sharded_reset(sharded, NULL));
    lab->items.count = 0;
    sharded = reopen(lab, sharded);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    dirlab_expect_reference(lab);
}

/* An option for callers of the reference, whose reset deletes no file. */
static void test_reset_keeps_files(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = three_shards(lab);
    nphd_sharded_options options = dirlab_small(lab);

    dirlab_close(sharded);
    options.reset_keeps_files = true;
    for (int stored = 0; stored < 2; stored++) {
        sharded = dirlab_open(lab, &options);
        dirlab_expect(lab, sharded);
        OK(nphd_sharded_reset(sharded, NULL));
        assert_int_equal(nphd_sharded_size(sharded), 0);
        if (stored > 0) {
            lab->items.count = 0;
            dirlab_add(lab, sharded, 100, 110);
        }
        dirlab_close(sharded);
    }
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    OK(nphd_sharded_reset(sharded, NULL));
    lab->items.count = 0;
    OK(nphd_sharded_save(sharded, NULL, NULL));
    dirlab_close(sharded);
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* Nothing of the directory is in use after such a reset: others may open it, and what the handle
 * that was reset stores goes there only if nobody did. */
static void test_reset_lends_the_directory(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = three_shards(lab);
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *other = NULL;
    nphd_error err = NPHD_ERROR_INIT;
    uint8_t bits[8];
    const nphd_key key = nphd_key_u64(500);
    const nphd_vector vector = dirlab_vector(500, 0, bits);

    dirlab_close(sharded);
    options.reset_keeps_files = true;
    sharded = dirlab_open(lab, &options);
    OK(nphd_sharded_reset(sharded, NULL));
    other = dirlab_open(lab, &options); /* and finds all */
    dirlab_expect(lab, other);
    assert_int_equal(nphd_sharded_add(sharded, key, vector, NULL, &err), NPHD_BUSY);
    assert_int_equal(nphd_sharded_save(sharded, NULL, &err), NPHD_BUSY);
    dirlab_close(other); /* without a change */
    lab->items.count = 0;
    dirlab_add(lab, sharded, 100, 110);
    assert_int_equal(nphd_sharded_open(DIRLAB_FOLDER, &options, &other, &err), NPHD_BUSY);
    OK(nphd_sharded_reset(sharded, NULL));
    other = dirlab_open(lab, &options);
    OK(nphd_sharded_remove(other, &(nphd_key){.low = 1}, 1, NULL, NULL));
    dirlab_close(other);
    assert_int_equal(nphd_sharded_add(sharded, key, vector, NULL, &err), NPHD_CHANGED);
    assert_non_null(strstr(err.text, "open it anew"));
    dirlab_close(sharded);
    options.journal = true; /* a commit keeps the reset: it stays its writer's */
    sharded = dirlab_open(lab, &options);
    OK(nphd_sharded_reset(sharded, NULL));
    assert_int_equal(nphd_sharded_open(DIRLAB_FOLDER, &options, &other, &err), NPHD_BUSY);
    dirlab_close(sharded);
}

/* Z6 */
static void test_z6_reset_keeps_the_filter_off(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded;

    options.no_bloom = true;
    sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 0, 5);
    OK(nphd_sharded_reset(sharded, NULL));
    lab->items.count = 0;
    assert_false(dirlab_stats(sharded).bloom);
    dirlab_add(lab, sharded, 5, 9);
    dirlab_close(sharded);
    assert_false(dirlab_exists(lab, "bloom.isbf"));
}

/* Neither a rotation that keeps failing stands in its way, nor comes the shard back that it was
 * about: not from memory, not from a file that is in place though perhaps not durably, and not from
 * the journal. */
static void test_reset_drops_rotations(void **state)
{
    static const uint32_t failing[] = {IO_FAULT_RENAME, IO_FAULT_SYNC_DIRECTORY, IO_FAULT_WRITE};
    dirlab *lab = *state;

    for (uint32_t round = 0; round < 3 * 4 * 6; round++) {
        const bool background = (round & 1) != 0;
        const bool journal = (round & 2) != 0;
        nphd_sharded_options options = dirlab_small(lab);
        options.background_rotation = background;
        options.journal = journal;
        nphd_sharded *sharded = dirlab_open(lab, &options);
        dirlab_add(lab, sharded, 0, 10);
        OK(nphd_sharded_save(sharded, NULL, NULL));
        dirlab_add(lab, sharded, 10, 20);
        io_fault_arm(&lab->fault, failing[round / 4 % 3], 1, EIO, true);
        assert_int_equal(nphd_sharded_rotate(sharded, NULL) == NPHD_OK, background);
        assert_int_not_equal(nphd_sharded_drain(sharded, UINT64_MAX, NULL), NPHD_OK);
        OK(nphd_sharded_reset(sharded, NULL));
        lab->items.count = 0;
        assert_int_equal(dirlab_stats(sharded).pending_rotations, 0);
        assert_int_equal(dirlab_stats(sharded).view_shards, 0);
        dirlab_expect(lab, sharded);
        dirlab_add(lab, sharded, 5, 15);
        io_fault_disarm(&lab->fault);
        if (journal) {
            OK(nphd_sharded_commit(sharded, NULL));
        } else {
            OK(nphd_sharded_save(sharded, NULL, NULL));
        }
        nphd_sharded_free(sharded);
        memory_io_power_off(lab->disk, MEMORY_IO_WEAK, round / 12);
        sharded = dirlab_open(lab, &options);
        dirlab_expect(lab, sharded);
        OK(nphd_sharded_reset(sharded, NULL));
        lab->items.count = 0;
        dirlab_close(sharded);
    }
}

/* ---- Y3, C7: a reader refuses every change; BG6, W27: so does a closed index, and lookups ---- */

static void expect_changes_refused(dirlab *lab, nphd_sharded *sharded, nphd_status expected)
{
    const nphd_key key = {0, 3};
    uint8_t bits[8];
    const nphd_vector vector = dirlab_vector(3, 1, bits);
    uint64_t number = 0;
    nphd_error err = NPHD_ERROR_INIT;

    (void)lab;
    assert_int_equal(nphd_sharded_add(sharded, key, vector, NULL, &err), expected);
    assert_non_null(strstr(err.text, expected == NPHD_CLOSED ? "closed" : "read-only"));
    assert_int_equal(nphd_sharded_add_many(sharded, NULL, &vector, 1, NULL, NULL, NULL, NULL),
                     expected);
    assert_int_equal(nphd_sharded_add_once(sharded, &key, &vector, 1, NULL, NULL, NULL, NULL),
                     expected);
    assert_int_equal(nphd_sharded_upsert(sharded, &key, &vector, 1, NULL, NULL, NULL), expected);
    assert_int_equal(nphd_sharded_remove(sharded, &key, 1, NULL, NULL), expected);
    assert_int_equal(nphd_sharded_save(sharded, NULL, NULL), expected);
    assert_int_equal(nphd_sharded_rotate(sharded, NULL), expected);
    assert_int_equal(nphd_sharded_compact(sharded, NULL, NULL, NULL), expected);
    assert_int_equal(nphd_sharded_rebuild_bloom(sharded, &number, NULL), expected);
    assert_int_equal(nphd_sharded_reset(sharded, NULL), expected);
}

static void test_y3_readers_refuse_changes(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = three_shards(lab);

    dirlab_remove(lab, sharded, 3);
    dirlab_close(sharded);
    options.read_only = true;
    sharded = dirlab_open(lab, &options);
    expect_changes_refused(lab, sharded, NPHD_READ_ONLY);
    dirlab_expect(lab, sharded);
    nphd_sharded_stats stats = dirlab_stats(sharded);
    assert_true(stats.read_only); /* Y1, Y5 */
    assert_int_equal(stats.view_shards, 3);
    assert_int_equal(stats.active_vectors, 0);
    OK(nphd_sharded_drain(sharded, 0, NULL));
    dirlab_close(sharded);
}

static void test_w27_closed(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = three_shards(lab);
    const nphd_key key = {0, 3};
    uint8_t bits[8];
    const nphd_vector vector = dirlab_vector(3, 0, bits);
    uint8_t data[8];
    size_t bytes = 0;
    bool there;
    nphd_match match;
    nphd_search_report report;
    nphd_sharded_stats stats = NPHD_SHARDED_STATS_INIT;
    nphd_sharded_cursor cursor = nphd_sharded_cursor_begin(sharded);
    nphd_shard_info shards[4];
    nphd_key out_key;

    OK(nphd_sharded_close(sharded, NULL));
    OK(nphd_sharded_close(sharded, NULL)); /* BG6 */
    expect_changes_refused(lab, sharded, NPHD_CLOSED);
    assert_int_equal(nphd_sharded_contains(sharded, key, &there, NULL), NPHD_CLOSED);
    assert_int_equal(nphd_sharded_count(sharded, key, &bytes, NULL), NPHD_CLOSED);
    assert_int_equal(nphd_sharded_get(sharded, key, data, 8, &bytes, NULL), NPHD_CLOSED);
    assert_int_equal(nphd_sharded_get_all(sharded, key, data, &bytes, 1, &bytes, NULL),
                     NPHD_CLOSED);
    assert_int_equal(nphd_sharded_get_many(sharded, &key, 1, data, &bytes, NULL), NPHD_CLOSED);
    assert_int_equal(nphd_sharded_search(sharded, vector, 1, NULL, &match, &report, NULL),
                     NPHD_CLOSED);
    assert_int_equal(nphd_sharded_search_many(sharded, &vector, 1, 1, NULL, &match, &report, NULL),
                     NPHD_CLOSED);
    assert_int_equal(nphd_sharded_cursor_next(&cursor, &out_key, data, &bytes, NULL), NPHD_CLOSED);
    assert_int_equal(nphd_sharded_get_stats(sharded, &stats, NULL), NPHD_CLOSED);
    assert_int_equal(nphd_sharded_shards(sharded, shards, 4, &bytes, NULL), NPHD_CLOSED);
    assert_int_equal(nphd_sharded_drain(sharded, 0, NULL), NPHD_CLOSED);
    assert_int_equal(nphd_sharded_size(sharded), 0);
    nphd_sharded_free(sharded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_d_dirty),
        DIRLAB_TEST(test_z_reset),
        DIRLAB_TEST(test_reset_keeps_files),
        DIRLAB_TEST(test_reset_lends_the_directory),
        DIRLAB_TEST(test_z6_reset_keeps_the_filter_off),
        DIRLAB_TEST(test_reset_drops_rotations),
        DIRLAB_TEST(test_y3_readers_refuse_changes),
        DIRLAB_TEST(test_w27_closed),
    };

    return cmocka_run_group_tests_name("life of the sharded index", tests, NULL, NULL);
}
