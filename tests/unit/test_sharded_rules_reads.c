/* The rules that users of the reference rely on, for a sharded index: looking up, searching, going
 * through, and what it tells of itself. The names of rows stand in the comments. */
#include "support/directory_lab.h"

#include <stdio.h>
#include <stdlib.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

static nphd_sharded *small(dirlab *lab)
{
    const nphd_sharded_options options = dirlab_small(lab);

    return dirlab_open(lab, &options);
}

/* Keys 0..29 in two view shards and the active one. */
static nphd_sharded *three_shards(dirlab *lab)
{
    nphd_sharded *sharded = small(lab);

    for (uint64_t shard = 0; shard < 3; shard++) {
        dirlab_add(lab, sharded, 10 * shard, 10 * shard + 10);
        if (shard < 2) {
            OK(nphd_sharded_rotate(sharded, NULL));
        }
    }
    return sharded;
}

static size_t search(nphd_sharded *sharded, nphd_vector query, size_t count, nphd_match *out)
{
    nphd_search_report report;

    OK(nphd_sharded_search(sharded, query, count, NULL, out, &report, NULL));
    return report.count;
}

/* ---- lookups: G1 to G4, K1 to K6, E6, F10 ---- */

static void test_k_lookups(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    const nphd_key keys[6] = {{0, 25}, {0, 999}, {0, 5}, {0, 15}, {0, 999}, {0, 5}};
    uint8_t data[6][8];
    size_t bytes[6];

    dirlab_close(three_shards(lab));
    for (size_t round = 0; round < 3; round++) {
        options.no_bloom = round == 1;
        options.read_only = round == 2;
        nphd_sharded *sharded = dirlab_open(lab, &options);
        OK(nphd_sharded_get_many(sharded, keys, 6, data[0], bytes, NULL));
        for (size_t i = 0; i < 6; i++) {
            const dirlab_item *item = dirlab_find(&lab->items, keys[i]);
            assert_int_equal(bytes[i], item == NULL ? 0 : item->bytes);
            assert_true(item == NULL || memcmp(item->data, data[i], item->bytes) == 0);
        }
        size_t count = 9;
        size_t got = 9;
        OK(nphd_sharded_count(sharded, keys[1], &count, NULL));
        assert_int_equal(count, 0);
        assert_false(dirlab_has(sharded, 999));
        assert_int_equal(nphd_sharded_get(sharded, keys[1], data[0], 8, &got, NULL),
                         NPHD_NOT_FOUND);
        assert_int_equal(got, 0);
        assert_int_equal(nphd_sharded_get(sharded, keys[2], data[0], 3, &got, NULL),
                         NPHD_TOO_SMALL);
        assert_int_equal(got, 8);
        OK(nphd_sharded_get_many(sharded, keys, 0, NULL, NULL, NULL)); /* K3 */
        dirlab_expect(lab, sharded);
        dirlab_close(sharded);
    }
}

/* ---- searching: S1 to S10, M1 to M9, W7, W8, W36 ---- */

static void test_m_search(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = small(lab);
    nphd_match matches[64];
    nphd_search_report reports[3];
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    uint8_t bits[3][8];
    nphd_vector queries[3];

    for (size_t i = 0; i < 3; i++) {
        queries[i] = dirlab_vector(10 * i + 1, 0, bits[i]);
    }
    assert_int_equal(search(sharded, queries[0], 5, matches), 0); /* M2, S7 */
    OK(nphd_sharded_search_many(sharded, queries, 3, 5, NULL, matches, reports, NULL));
    assert_int_equal(reports[0].count + reports[1].count + reports[2].count, 0);
    nphd_sharded_free(sharded);
    sharded = three_shards(lab);
    for (uint32_t mode = 0; mode < 3; mode++) { /* M4, M7, S8; a batch of one is no special case */
        options.mode = (nphd_search_mode)mode;
        options.threads = mode; /* S9 */
        OK(nphd_sharded_search_many(sharded, queries, 3, 20, &options, matches, reports, NULL));
        for (size_t i = 0; i < 3; i++) {
            assert_int_equal(reports[i].count, 20);
            assert_int_equal(matches[20 * i].key.low, 10 * i + 1);
            assert_true(matches[20 * i].distance <= 0.0F);
            for (size_t j = 1; j < 20; j++) {
                assert_true(matches[20 * i + j].distance >= matches[20 * i + j - 1].distance);
            }
        }
        OK(nphd_sharded_search_many(sharded, queries, 1, 60, &options, matches, reports, NULL));
        assert_int_equal(reports[0].count, 30); /* M9, W7: no more than there are */
    }
    assert_int_equal(nphd_sharded_search(sharded, queries[0], 0, NULL, matches, reports, NULL),
                     NPHD_INVALID_ARGUMENT); /* M3, S10 */
    dirlab_close(sharded);
}

static size_t search_within(nphd_sharded *sharded, nphd_search_mode mode, float radius,
                            nphd_match *out)
{
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_search_report report;
    uint8_t bits[8];

    options.mode = mode;
    options.use_radius = true;
    options.radius = radius;
    OK(nphd_sharded_search(sharded, dirlab_vector(7, 0, bits), 40, &options, out, &report, NULL));
    for (size_t i = 0; i < report.count; i++) {
        assert_true(out[i].distance <= radius);
    }
    return report.count;
}

/* M5, M6, W8: the same before and after a rotation, and over several shards. */
static void test_m5_radius(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = small(lab);
    nphd_match before[40];
    nphd_match after[40];
    size_t count = 0;

    dirlab_add(lab, sharded, 0, 40);
    count = search_within(sharded, NPHD_SEARCH_EXACT, 0.45F, before);
    assert_true(count > 1 && count < 40);
    for (size_t round = 0; round < 2; round++) {
        OK(nphd_sharded_rotate(sharded, NULL));
        assert_int_equal(search_within(sharded, NPHD_SEARCH_EXACT, 1e-6F, after), 1);
        assert_int_equal(after[0].key.low, 7);
        assert_true(search_within(sharded, NPHD_SEARCH_APPROXIMATE, 0.45F, after) >= 1);
        assert_int_equal(after[0].key.low, 7);
        assert_int_equal(search_within(sharded, NPHD_SEARCH_EXACT, 0.45F, after), count);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(nphd_key_compare(before[i].key, after[i].key), 0);
        }
        for (uint64_t key = 20; key < 40 && round == 0; key++) {
            dirlab_upsert(lab, sharded, key, 0); /* the same vectors, in a shard of their own */
        }
    }
    dirlab_close(sharded);
}

/* M8, W36: the same answers as one index has, for any distribution over shards and threads. */
static void test_w36_answers_do_not_depend_on_shards(void **state)
{
    enum { COUNT = 200, QUERIES = 10, TOP = 25 };
    dirlab *lab = *state;
    nphd_index_options plain = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;
    nphd_sharded *sharded = small(lab);
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_match one[TOP];
    nphd_match many[TOP];
    nphd_search_report report;

    plain.max_bits = 64;
    OK(nphd_index_create(&plain, &index, NULL));
    for (uint64_t key = 0; key < COUNT; key++) {
        uint8_t data[2] = {(uint8_t)(key * 37), (uint8_t)(key / 16)};
        const nphd_vector vector = {data, 1 + key % 2}; /* many ties */
        OK(nphd_index_add(index, nphd_key_u64(key * 7919 % 1009), vector, NULL, NULL));
        OK(nphd_sharded_add(sharded, nphd_key_u64(key * 7919 % 1009), vector, NULL, NULL));
        if (key % 23 == 0) {
            OK(nphd_sharded_rotate(sharded, NULL));
        }
    }
    options.mode = NPHD_SEARCH_EXACT;
    for (uint64_t query = 0; query < QUERIES; query++) {
        const uint8_t data[2] = {(uint8_t)(query * 55), 3};
        const nphd_vector vector = {data, 2};
        OK(nphd_index_search(index, vector, TOP, &options, one, &report, NULL));
        options.threads = (uint32_t)(query % 4);
        OK(nphd_sharded_search(sharded, vector, TOP, &options, many, &report, NULL));
        for (size_t i = 0; i < TOP; i++) {
            assert_int_equal(nphd_key_compare(one[i].key, many[i].key), 0);
            assert_true(one[i].distance <= many[i].distance && one[i].distance >= many[i].distance);
        }
    }
    nphd_index_close(index);
    dirlab_close(sharded);
}

/* H2, S3 to S5 */
static void test_h2_ragged_vectors(void **state)
{
    static const uint8_t data[8] = {9, 8, 7, 6, 5, 4, 3, 2};
    static const uint8_t near_one[4] = {9, 8, 7, 7};
    static const uint8_t far_one[4] = {0xf6, 0xf7, 0xf8, 0xf9};
    dirlab *lab = *state;
    nphd_sharded *sharded = small(lab);
    nphd_match matches[4];

    OK(nphd_sharded_add(sharded, nphd_key_u64(4), (nphd_vector){far_one, 4}, NULL, NULL));
    OK(nphd_sharded_rotate(sharded, NULL));
    OK(nphd_sharded_add(sharded, nphd_key_u64(3), (nphd_vector){near_one, 4}, NULL, NULL));
    OK(nphd_sharded_rotate(sharded, NULL));
    OK(nphd_sharded_add(sharded, nphd_key_u64(2), (nphd_vector){data, 4}, NULL, NULL));
    assert_int_equal(search(sharded, (nphd_vector){data, 4}, 4, matches), 3);
    assert_int_equal(matches[0].key.low, 2);
    assert_true(matches[0].distance < matches[1].distance);
    assert_true(matches[1].distance < matches[2].distance);
    assert_int_equal(matches[2].key.low, 4);
    dirlab_close(sharded);
}

/* W47: a search may leave keys out, in every shard, and is still full. */
static bool is_odd(void *context, nphd_key key)
{
    (void)context;
    return key.low % 2 == 1;
}

static void test_w47_filtered_search(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = three_shards(lab);
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_match matches[20];
    nphd_search_report report;
    uint8_t bits[8];

    options.filter = is_odd;
    dirlab_remove(lab, sharded, 1);
    for (uint32_t mode = 0; mode < 2; mode++) {
        options.mode = (nphd_search_mode)mode;
        OK(nphd_sharded_search(sharded, dirlab_vector(4, 0, bits), 20, &options, matches, &report,
                               NULL));
        assert_int_equal(report.count, 14);
        for (size_t i = 0; i < report.count; i++) {
            assert_int_equal(matches[i].key.low % 2, 1);
        }
    }
    dirlab_close(sharded);
}

/* ---- going through: V1 to V4, V7, V8, L1, L8, L12, H6, Q5 ---- */

static void test_v_cursor(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = small(lab);
    nphd_sharded_cursor cursor = nphd_sharded_cursor_begin(sharded);
    uint8_t data[8];
    size_t bytes = 0;
    nphd_key key;

    assert_int_equal(nphd_sharded_cursor_next(&cursor, &key, data, &bytes, NULL), NPHD_NOT_FOUND);
    nphd_sharded_free(sharded);
    sharded = three_shards(lab);
    cursor = nphd_sharded_cursor_begin(sharded);
    for (uint64_t i = 0; i < 15; i++) { /* oldest shard first, and in each as they were added */
        OK(nphd_sharded_cursor_next(&cursor, &key, data, &bytes, NULL));
        assert_int_equal(key.low, i);
    }
    dirlab_add(lab, sharded, 30, 32); /* V7: what is added later is met */
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 32, 33);
    for (uint64_t i = 15; i < 33; i++) {
        OK(nphd_sharded_cursor_next(&cursor, &key, NULL, NULL, NULL));
        assert_int_equal(key.low, i);
    }
    assert_int_equal(nphd_sharded_cursor_next(&cursor, &key, data, &bytes, NULL), NPHD_NOT_FOUND);
    /* L2, L12, Q5 */
    for (uint64_t i = 0; i < 33; i++) {
        if (i % 3 == 0) {
            dirlab_upsert(lab, sharded, i, 1);
        } else {
            dirlab_remove(lab, sharded, i);
        }
    }
    dirlab_expect(lab, sharded);
    for (uint64_t i = 0; i < 33; i += 3) {
        dirlab_remove(lab, sharded, i);
    }
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* ---- what it tells of itself: E1 to E5, W33, W50 ---- */

/* What a save will write, to the byte; and what it wrote. */
static void test_active_bytes_are_those_of_the_file(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = three_shards(lab);
    uint64_t told = dirlab_stats(sharded).active_bytes;

    OK(nphd_sharded_save(sharded, NULL, NULL));
    for (int round = 0; round < 4; round++) {
        size_t bytes = 0;
        free(memory_io_get(lab->disk, dirlab_path("shard_002.usearch"), &bytes));
        assert_int_equal(told, bytes);
        assert_int_equal(dirlab_stats(sharded).active_bytes, bytes);
        if (round == 0) { /* a deletion in a shard before; then one here; then none of either */
            dirlab_remove(lab, sharded, 3);
        } else if (round == 1) {
            dirlab_remove(lab, sharded, 25);
            dirlab_upsert(lab, sharded, 26, 1);
        } else {
            dirlab_add(lab, sharded, 40 + (uint64_t)round, 41 + (uint64_t)round);
        }
        told = dirlab_stats(sharded).active_bytes;
        OK(nphd_sharded_save(sharded, NULL, NULL));
    }
    dirlab_close(sharded);
    sharded = dirlab_open(lab, NULL); /* it waits for writes now */
    assert_int_equal(dirlab_stats(sharded).active_bytes, told);
    dirlab_close(sharded);
}

static void test_e_stats(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = three_shards(lab);
    nphd_shard_info shards[8];
    size_t count = 0;

    dirlab_remove(lab, sharded, 3);
    dirlab_remove(lab, sharded, 25);
    dirlab_upsert(lab, sharded, 4, 1);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    nphd_sharded_stats stats = dirlab_stats(sharded);
    assert_int_equal(stats.size, 28);
    assert_int_equal(stats.dead, 2);
    assert_int_equal(stats.tombstones, 1);
    assert_int_equal(stats.view_shards, 2);
    assert_int_equal(stats.active_vectors, 10);
    assert_int_equal(stats.files, 3);
    assert_int_equal(stats.pending_rotations, 0);
    assert_true(stats.memory_bytes > 0 && stats.mapped_bytes > 0 && stats.active_bytes > 0);
    assert_true(stats.active_capacity >= 10);
    assert_int_equal(stats.dirty, 0);
    assert_true(stats.verified);
    assert_int_equal(stats.generation, 3);
    uint64_t disk_bytes = 0;
    static const char *const names[] = {"shard_000.usearch", "shard_001.usearch",
                                        "shard_002.usearch", "bloom.isbf",
                                        "tombstones.npy",    "lock"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t bytes = 0;
        free(memory_io_get(lab->disk, dirlab_path(names[i]), &bytes));
        disk_bytes += bytes;
    }
    assert_int_equal(stats.disk_bytes, disk_bytes);
    assert_int_equal(nphd_sharded_shards(sharded, shards, 2, &count, NULL), NPHD_TOO_SMALL);
    assert_int_equal(count, 3);
    OK(nphd_sharded_shards(sharded, shards, 8, &count, NULL));
    assert_int_equal(shards[0].vectors, 8);
    assert_int_equal(shards[0].dead, 2);
    assert_int_equal(shards[0].slots, 10);
    assert_true(shards[2].active && !shards[1].active && !shards[1].pending);
    dirlab_close(sharded);
    sharded = dirlab_open(lab, NULL); /* W33: right from the start */
    stats = dirlab_stats(sharded);
    assert_int_equal(stats.size, 28);
    assert_int_equal(stats.dead, 2);
    assert_int_equal(stats.disk_bytes, disk_bytes);
    dirlab_close(sharded);
}

/* Every file counts, a journal with a torn end too. */
static void test_e_disk_bytes_of_journals(void **state)
{
    static const char *const names[] = {"shard_000.usearch", "bloom.isbf", "journal_00000002",
                                        "lock"};
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    uint64_t disk_bytes = 0;

    options.journal = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    dirlab_add(lab, sharded, 10, 20);
    OK(nphd_sharded_commit(sharded, NULL));
    dirlab_add(lab, sharded, 20, 30);
    OK(nphd_sharded_commit(sharded, NULL));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t bytes = 0;
        free(memory_io_get(lab->disk, dirlab_path(names[i]), &bytes));
        assert_true(bytes > 0);
        disk_bytes += bytes;
    }
    assert_int_equal(dirlab_stats(sharded).disk_bytes, disk_bytes);
    nphd_sharded_free(sharded);
    options.read_only = true;
    sharded = dirlab_open(lab, &options);
    assert_int_equal(dirlab_stats(sharded).disk_bytes, disk_bytes);
    nphd_sharded_free(sharded);
    dirlab_cut(lab, "journal_00000002", 10);
    sharded = dirlab_open(lab, &options);
    assert_int_equal(dirlab_stats(sharded).disk_bytes, disk_bytes - 10);
    nphd_sharded_free(sharded);
}

/* E2, Y6: also in a reader; kept at the next save. */
static void test_e2_breadths(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = three_shards(lab);
    nphd_sharded_options options = dirlab_small(lab);

    OK(nphd_sharded_set_breadth(sharded, 33, 44, NULL));
    assert_int_equal(dirlab_stats(sharded).build_breadth, 33);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 50, 55);
    dirlab_close(sharded);
    options.read_only = true;
    sharded = dirlab_open(lab, &options);
    assert_int_equal(dirlab_stats(sharded).build_breadth, 33);
    assert_int_equal(dirlab_stats(sharded).search_breadth, 44);
    OK(nphd_sharded_set_breadth(sharded, 0, 99, NULL));
    assert_int_equal(dirlab_stats(sharded).search_breadth, 99);
    dirlab_close(sharded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_k_lookups),
        DIRLAB_TEST(test_m_search),
        DIRLAB_TEST(test_m5_radius),
        DIRLAB_TEST(test_w36_answers_do_not_depend_on_shards),
        DIRLAB_TEST(test_h2_ragged_vectors),
        DIRLAB_TEST(test_w47_filtered_search),
        DIRLAB_TEST(test_v_cursor),
        DIRLAB_TEST(test_e_stats),
        DIRLAB_TEST(test_active_bytes_are_those_of_the_file),
        DIRLAB_TEST(test_e_disk_bytes_of_journals),
        DIRLAB_TEST(test_e2_breadths),
    };

    return cmocka_run_group_tests_name("lookups and searches of the sharded index", tests, NULL,
                                       NULL);
}
