/* The rules that users of the reference rely on, for a sharded index: opening and adding, with
 * keys of both widths. The names of rows stand in the comments; what is different here, and why,
 * stands in docs/compatibility.md. */
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

/* ---- opening: SI1 to SI6, H1, H5, E7, R7 ---- */

static void test_si_new_index(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = dirlab_open(lab, NULL);
    nphd_sharded_stats stats = dirlab_stats(sharded);

    assert_int_equal(stats.size, 0);
    assert_int_equal(stats.files, 0);
    assert_int_equal(stats.view_shards, 0);
    assert_int_equal(stats.max_bits, 256);
    assert_int_equal(nphd_sharded_max_bytes(sharded), 32);
    assert_int_equal(stats.shard_bytes, 1024 * 1024 * 1024); /* SI4 */
    assert_int_equal(stats.key_bits, 64);
    assert_int_equal(stats.metric, NPHD_METRIC_NPHD);
    assert_int_equal(stats.connectivity, 16);
    assert_int_equal(stats.build_breadth, 128);
    assert_int_equal(stats.search_breadth, 64);
    assert_true(stats.bloom && !stats.multi && !stats.read_only);
    assert_int_equal(stats.dirty, 0);
    assert_int_equal(stats.generation, 0);
    dirlab_close(sharded);
}

/* SI3, H1, E1, W28: every parameter can be read back, and comes back from the files. */
static void test_si3_parameters(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_options(lab);
    nphd_sharded *sharded;
    uint8_t data[8];

    options.max_bits = 192;
    options.connectivity = 32;
    options.build_breadth = 256;
    options.search_breadth = 100;
    options.multi = 2;
    options.shard_bytes = 5000;
    sharded = dirlab_open(lab, &options);
    OK(nphd_sharded_add(sharded, nphd_key_u64(1), dirlab_vector(1, 0, data), NULL, NULL));
    OK(nphd_sharded_rotate(sharded, NULL));
    OK(nphd_sharded_add(sharded, nphd_key_u64(2), dirlab_vector(2, 0, data), NULL, NULL));
    dirlab_close(sharded);
    for (size_t round = 0; round < 2; round++) {
        options = dirlab_options(lab);
        options.search_breadth = round == 0 ? 0 : 77;
        sharded = dirlab_open(lab, &options);
        nphd_sharded_stats stats = dirlab_stats(sharded);
        assert_int_equal(stats.max_bits, 192);
        assert_int_equal(stats.connectivity, 32);
        assert_int_equal(stats.build_breadth, 256);
        assert_int_equal(stats.search_breadth, round == 0 ? 100 : 77);
        assert_true(stats.multi);
        assert_int_equal(stats.size, 2);
        dirlab_close(sharded);
    }
}

/* SI2, R7, R9 */
static void test_si2_existing_shards(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = three_shards(lab);

    dirlab_close(sharded);
    assert_true(dirlab_exists(lab, "shard_000.usearch"));
    assert_true(dirlab_exists(lab, "shard_002.usearch"));
    sharded = dirlab_open(lab, NULL);
    dirlab_expect(lab, sharded);
    assert_int_equal(dirlab_stats(sharded).files, 3);
    assert_int_equal(nphd_sharded_dirty(sharded), 0); /* D7 */
    dirlab_close(sharded);
}

/* ---- adding: R1 to R4, H2, H3, W5, W6, W13, W16, W34, W48 ---- */

static void test_r_add(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded;

    options.shard_bytes = 500;
    sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 0, 100);
    assert_true(dirlab_stats(sharded).view_shards >= 2);
    assert_int_equal(dirlab_stats(sharded).pending_rotations, 0); /* BG1 */
    dirlab_expect(lab, sharded);
    for (size_t i = 0; i < lab->items.count; i++) { /* R4 */
        const nphd_vector query = {lab->items.items[i].data, 8};
        nphd_match match;
        assert_int_equal(search(sharded, query, 1, &match), 1);
        assert_int_equal(nphd_key_compare(match.key, lab->items.items[i].key), 0);
    }
    dirlab_close(sharded);
}

/* W5: a key that a view shard has is left alone, as one of the active shard is. */
static void test_w5_add_does_not_depend_on_rotation(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = three_shards(lab);
    uint8_t data[8];
    bool added = true;

    for (uint64_t key = 0; key < 30; key += 5) {
        OK(nphd_sharded_add(sharded, nphd_key_u64(key), dirlab_vector(key, 9, data), &added, NULL));
        assert_false(added);
    }
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    sharded = dirlab_open(lab, NULL);
    OK(nphd_sharded_add(sharded, nphd_key_u64(3), dirlab_vector(3, 9, data), &added, NULL));
    assert_false(added);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* W6: the counter goes on over rotations, removals and reopening, passing over keys in use. */
static void test_w6_automatic_keys(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = small(lab);
    uint64_t expected = 0;

    OK(nphd_sharded_add(sharded, nphd_key_u64(7), (nphd_vector){(const uint8_t *)"x", 1}, NULL,
                        NULL));
    for (size_t round = 0; round < 4; round++) {
        static const uint8_t data[3] = {1, 2, 3};
        const nphd_vector vectors[3] = {{data, 1}, {data, 2}, {data, 3}};
        nphd_key keys[3];
        size_t added = 0;
        OK(nphd_sharded_add_many(sharded, NULL, vectors, 3, NULL, keys, &added, NULL));
        assert_int_equal(added, 3);
        for (size_t i = 0; i < 3; i++) {
            expected += expected == 7 ? 1 : 0;
            assert_int_equal(keys[i].low, expected++);
        }
        OK(nphd_sharded_remove(sharded, &keys[2], 1, NULL, NULL));
        if (round % 2 == 0) {
            OK(nphd_sharded_rotate(sharded, NULL));
        } else {
            dirlab_close(sharded);
            sharded = dirlab_open(lab, NULL);
        }
    }
    assert_int_equal(nphd_sharded_size(sharded), 9);
    dirlab_close(sharded);
}

/* V10, W13, W34: the whole range of keys, with and without the filter; all bits one is refused. */
static void test_w13_extreme_keys(void **state)
{
    static const uint64_t numbers[] = {
        0, 1, INT64_MAX, (uint64_t)INT64_MAX + 1, UINT64_MAX - 1, UINT32_MAX};
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    uint8_t data[8];

    for (size_t round = 0; round < 2; round++) {
        nphd_sharded *sharded = dirlab_open(lab, &options);
        for (size_t i = 0; i < 6; i++) {
            dirlab_upsert(lab, sharded, numbers[i], (uint8_t)round);
            OK(nphd_sharded_rotate(sharded, NULL));
        }
        dirlab_expect(lab, sharded);
        assert_int_equal(nphd_sharded_add(sharded, nphd_key_u64(UINT64_MAX),
                                          dirlab_vector(1, 0, data), NULL, NULL),
                         NPHD_INVALID_ARGUMENT);
        assert_false(dirlab_has(sharded, UINT64_MAX));
        dirlab_close(sharded);
        dirlab_expect_reference(lab);
        options.no_bloom = true;
    }
}

/* W16: a batch with one wrong vector stores nothing; the same for W15, an upsert. */
static void test_w15_w16_wrong_vectors(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = three_shards(lab);
    static const uint8_t data[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    const nphd_key keys[3] = {{0, 3}, {0, 25}, {0, 77}};
    const nphd_vector wrong[2][3] = {{{data, 4}, {data, 8}, {data, 9}},
                                     {{data, 4}, {data, 0}, {data, 2}}};
    size_t added = 9;
    nphd_upsert_counts counts = {9, 9, 9};
    nphd_error err = NPHD_ERROR_INIT;

    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(
            nphd_sharded_add_many(sharded, keys, wrong[i], 3, NULL, NULL, &added, &err),
            NPHD_INVALID_ARGUMENT);
        assert_int_equal(added, 0);
        assert_non_null(strstr(err.text, i == 0 ? "item 2" : "item 1"));
        assert_int_equal(nphd_sharded_upsert(sharded, keys, wrong[i], 3, NULL, &counts, &err),
                         NPHD_INVALID_ARGUMENT);
        dirlab_expect(lab, sharded);
    }
    assert_int_equal(nphd_sharded_dirty(sharded), 30);
    dirlab_close(sharded);
}

/* W48: one batch is split over shards, none of which exceeds the size by more than one vector. */
static void test_w48_batches_are_split(void **state)
{
    enum { COUNT = 500 };
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    static uint8_t bits[COUNT][8];
    nphd_vector vectors[COUNT];
    nphd_key keys[COUNT];
    nphd_shard_info shards[64];
    size_t count = 0;
    nphd_sharded *sharded;

    options.shard_bytes = 4000;
    sharded = dirlab_open(lab, &options);
    for (uint64_t key = 0; key < COUNT; key++) {
        keys[key] = nphd_key_u64(key);
        vectors[key] = dirlab_vector(key, 0, bits[key]);
        dirlab_set(&lab->items, keys[key], vectors[key]);
    }
    OK(nphd_sharded_add_many(sharded, keys, vectors, COUNT, NULL, NULL, &count, NULL));
    assert_int_equal(count, COUNT);
    OK(nphd_sharded_shards(sharded, shards, 64, &count, NULL));
    assert_true(count > 5);
    for (size_t i = 0; i + 1 < count; i++) {
        char name[32];
        size_t bytes = 0;
        (void)snprintf(name, sizeof(name), "shard_%03u.usearch", (unsigned)shards[i].number);
        free(dirlab_take_foreign(lab, name, &bytes));
        assert_true(bytes > 4000 && bytes < 4000 + 200);
    }
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* ---- add_once: O1 to O7 ---- */

static void test_o_add_once(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = three_shards(lab);
    const nphd_key keys[6] = {{0, 100}, {0, 3}, {0, 25}, {0, 101}, {0, 100}, {0, 101}};
    uint8_t bits[6][8];
    nphd_vector vectors[6];
    bool stored[6];
    size_t added = 0;

    for (size_t i = 0; i < 6; i++) {
        vectors[i] = dirlab_vector(keys[i].low, (uint8_t)(50 + i), bits[i]);
        vectors[i].bytes -= i % 3; /* O6: of several lengths */
    }
    OK(nphd_sharded_add_once(sharded, keys, vectors, 6, NULL, stored, &added, NULL));
    assert_int_equal(added, 2);
    assert_true(stored[0] && !stored[1] && !stored[2] && stored[3] && !stored[4] && !stored[5]);
    dirlab_set(&lab->items, keys[0], vectors[0]);
    dirlab_set(&lab->items, keys[3], vectors[3]);
    dirlab_expect(lab, sharded);
    assert_int_equal(nphd_sharded_dirty(sharded), 32);                                /* D10 */
    OK(nphd_sharded_add_once(sharded, keys, vectors, 6, NULL, stored, &added, NULL)); /* O3 */
    assert_int_equal(added, 0);
    for (size_t i = 0; i < 6; i++) {
        assert_false(stored[i]);
    }
    dirlab_remove(lab, sharded, 3); /* a deleted key counts as absent */
    OK(nphd_sharded_add_once(sharded, &keys[1], &vectors[1], 1, NULL, stored, &added, NULL));
    assert_true(stored[0] && added == 1);
    dirlab_set(&lab->items, keys[1], vectors[1]);
    dirlab_expect(lab, sharded);
    assert_int_equal(nphd_sharded_add_once(sharded, NULL, vectors, 6, NULL, stored, &added, NULL),
                     NPHD_INVALID_ARGUMENT); /* O5 */
    OK(nphd_sharded_add_once(sharded, NULL, NULL, 0, NULL, NULL, &added, NULL));
    dirlab_close(sharded);
}

/* Works with multi, too. */
static void test_o_add_once_multi(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    const nphd_key keys[2] = {{0, 1}, {0, 1}};
    static const uint8_t data[2] = {1, 2};
    const nphd_vector vectors[2] = {{data, 1}, {data, 2}};
    nphd_sharded *sharded;
    size_t added = 0;
    size_t count = 0;

    options.multi = 2;
    sharded = dirlab_open(lab, &options);
    OK(nphd_sharded_add_many(sharded, keys, vectors, 2, NULL, NULL, &added, NULL));
    assert_int_equal(added, 2);
    OK(nphd_sharded_rotate(sharded, NULL));
    OK(nphd_sharded_add_once(sharded, keys, vectors, 2, NULL, NULL, &added, NULL));
    assert_int_equal(added, 0);
    OK(nphd_sharded_add_many(sharded, keys, vectors, 2, NULL, NULL, &added, NULL));
    OK(nphd_sharded_count(sharded, keys[0], &count, NULL));
    assert_int_equal(count, 4); /* K6 */
    dirlab_close(sharded);
}

/* ---- keys of 128 bits: O8, B1 to B12, Q6 ---- */

static nphd_key wide_key(uint64_t number)
{
    const nphd_key key = {number * 0x9e3779b97f4a7c15U, number};

    return key;
}

static void test_b_wide_keys(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded;
    uint8_t data[8];

    options.key_bits = 128;
    sharded = dirlab_open(lab, &options);
    for (uint64_t i = 0; i < 60; i++) { /* B9: all zero is an ordinary key */
        const nphd_vector vector = dirlab_vector(i, 0, data);
        bool added = false;
        OK(nphd_sharded_add(sharded, wide_key(i), vector, &added, NULL));
        assert_true(added);
        dirlab_set(&lab->items, wide_key(i), vector);
        if (i % 20 == 19) {
            OK(nphd_sharded_rotate(sharded, NULL));
        }
    }
    dirlab_expect(lab, sharded);
    const nphd_key dead[3] = {wide_key(3), wide_key(30), wide_key(1000)};
    size_t removed = 0;
    OK(nphd_sharded_remove(sharded, dead, 3, &removed, NULL));
    assert_int_equal(removed, 2);
    dirlab_drop(&lab->items, dead[0]);
    dirlab_drop(&lab->items, dead[1]);
    const nphd_key changed = wide_key(25);
    const nphd_vector other = dirlab_vector(25, 9, data);
    OK(nphd_sharded_upsert(sharded, &changed, &other, 1, NULL, NULL, NULL));
    dirlab_set(&lab->items, changed, other);
    assert_int_equal(
        nphd_sharded_add(sharded, (nphd_key){UINT64_MAX, UINT64_MAX}, other, NULL, NULL),
        NPHD_INVALID_ARGUMENT);
    /* B4: there are no automatic keys */
    assert_int_equal(nphd_sharded_add_many(sharded, NULL, &other, 1, NULL, NULL, NULL, NULL),
                     NPHD_INVALID_ARGUMENT);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    dirlab_expect_reference(lab);
    sharded = dirlab_open(lab, NULL);
    dirlab_expect(lab, sharded);
    uint64_t keys = 0;
    OK(nphd_sharded_rebuild_bloom(sharded, &keys, NULL)); /* B11 */
    assert_int_equal(keys, lab->items.count);
    OK(nphd_sharded_compact(sharded, NULL, NULL, NULL));
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    dirlab_expect_reference(lab);
    options.key_bits = 64;
    dirlab_refused(lab, &options, NPHD_MISMATCH, "64", "128"); /* B7 */
}

/* A key of 128 bits in an index of 64 (B4) is refused by changes, and absent for lookups. */
static void test_b4_keys_too_wide(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = three_shards(lab);
    const nphd_key wide = {1, 3};
    uint8_t data[8];
    const nphd_vector vector = dirlab_vector(3, 0, data);
    bool there = true;

    assert_int_equal(nphd_sharded_add(sharded, wide, vector, NULL, NULL), NPHD_INVALID_ARGUMENT);
    assert_int_equal(nphd_sharded_upsert(sharded, &wide, &vector, 1, NULL, NULL, NULL),
                     NPHD_INVALID_ARGUMENT);
    assert_int_equal(nphd_sharded_remove(sharded, &wide, 1, NULL, NULL), NPHD_INVALID_ARGUMENT);
    (void)nphd_sharded_contains(sharded, wide, &there, NULL);
    assert_false(there);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_si_new_index),
        DIRLAB_TEST(test_si3_parameters),
        DIRLAB_TEST(test_si2_existing_shards),
        DIRLAB_TEST(test_r_add),
        DIRLAB_TEST(test_w5_add_does_not_depend_on_rotation),
        DIRLAB_TEST(test_w6_automatic_keys),
        DIRLAB_TEST(test_w13_extreme_keys),
        DIRLAB_TEST(test_w15_w16_wrong_vectors),
        DIRLAB_TEST(test_w48_batches_are_split),
        DIRLAB_TEST(test_o_add_once),
        DIRLAB_TEST(test_o_add_once_multi),
        DIRLAB_TEST(test_b_wide_keys),
        DIRLAB_TEST(test_b4_keys_too_wide),
    };

    return cmocka_run_group_tests_name("rules of the sharded index", tests, NULL, NULL);
}
