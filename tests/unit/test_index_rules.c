/* The rules that users of the reference rely on, one test for each group of rows, and the weak
 * points of the reference that are answered here. docs/compatibility.md names these functions. */
#include <nphd/nphd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

static nphd_vector vec(const void *data, size_t bytes)
{
    const nphd_vector vector = {data, bytes};

    return vector;
}

static nphd_index *new_index(uint32_t max_bits, nphd_metric metric, uint32_t key_bits, bool multi)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;

    options.max_bits = max_bits;
    options.metric = metric;
    options.key_bits = key_bits;
    options.multi = multi;
    OK(nphd_index_create(&options, &index, NULL));
    return index;
}

static nphd_index *nphd256(void)
{
    return new_index(256, NPHD_METRIC_NPHD, 64, false);
}

static bool add(nphd_index *index, uint64_t key, const void *data, size_t bytes)
{
    bool added = false;

    OK(nphd_index_add(index, nphd_key_u64(key), vec(data, bytes), &added, NULL));
    return added;
}

static void expect_vector(nphd_index *index, uint64_t key, const void *data, size_t bytes)
{
    uint8_t out[NPHD_MAX_BYTES];
    size_t out_bytes = 0;

    OK(nphd_index_get(index, nphd_key_u64(key), out, sizeof(out), &out_bytes, NULL));
    assert_int_equal(out_bytes, bytes);
    assert_memory_equal(out, data, bytes);
}

static bool contains(nphd_index *index, uint64_t key)
{
    bool there = false;

    OK(nphd_index_contains(index, nphd_key_u64(key), &there, NULL));
    return there;
}

static size_t search(nphd_index *index, const void *data, size_t bytes, size_t count,
                     nphd_match *out)
{
    nphd_search_report report;

    OK(nphd_index_search(index, vec(data, bytes), count, NULL, out, &report, NULL));
    return report.count;
}

static const char *temporary(const char *name)
{
    static char path[512];
    const char *folder = getenv("TMPDIR");

    (void)snprintf(path, sizeof(path), "%s/nphd-rules-%d-%s.usearch",
                   folder == NULL ? "/tmp" : folder, (int)getpid(), name);
    return path;
}

/* ---- padding and distance: N1 to N8, section 2 ---- */

static void test_n_lengths_are_kept(void **state)
{
    static const uint8_t bytes[33] = {0xff, 0x80, 0x40, 1, 2, 3};
    nphd_index *index = new_index(264, NPHD_METRIC_NPHD, 64, false);

    (void)state;
    for (uint64_t length = 1; length <= 33; length++) {
        assert_true(add(index, length, bytes, (size_t)length));
    }
    for (uint64_t length = 1; length <= 33; length++) {
        expect_vector(index, length, bytes, (size_t)length);
    }
    nphd_index_close(index);
}

static void test_distance_values(void **state)
{
    static const uint8_t a[3] = {0xff, 0x80, 0x40};
    static const uint8_t b[2] = {0xff, 0x81};
    static const uint8_t zero[8] = {0};
    static const uint8_t one[8] = {0, 0, 0, 0x10};
    static const uint8_t ones[8] = {255, 255, 255, 255, 255, 255, 255, 255};
    uint32_t bits = 99;
    float distance = 9;

    (void)state;
    OK(nphd_distance(vec(a, 3), vec(b, 2), &distance, NULL));
    assert_true(distance >= 0.0625F && distance <= 0.0625F);
    OK(nphd_distance(vec(b, 2), vec(a, 3), &distance, NULL));
    assert_true(distance >= 0.0625F && distance <= 0.0625F);
    OK(nphd_distance(vec(zero, 8), vec(one, 8), &distance, NULL));
    assert_true(distance >= 0.015625F && distance <= 0.015625F);
    OK(nphd_distance(vec(zero, 1), vec(ones, 8), &distance, NULL));
    assert_true(distance >= 1.0F && distance <= 1.0F);
    /* a prefix is at distance 0 from both of two vectors that are 1/2 apart */
    static const uint8_t far[2] = {0x00, 0xff};
    OK(nphd_distance(vec(zero, 1), vec(far, 2), &distance, NULL));
    assert_true(distance <= 0.0F);
    OK(nphd_distance(vec(zero, 2), vec(far, 2), &distance, NULL));
    assert_true(distance >= 0.5F && distance <= 0.5F);
    OK(nphd_hamming(vec(a, 2), vec(b, 2), &bits, NULL));
    assert_int_equal(bits, 1);
    assert_int_equal(nphd_distance(vec(a, 0), vec(b, 2), &distance, NULL), NPHD_INVALID_ARGUMENT);
    assert_int_equal(nphd_hamming(vec(a, 3), vec(b, 2), &bits, NULL), NPHD_INVALID_ARGUMENT);
}

static void test_n9_defaults(void **state)
{
    nphd_index_stats stats = NPHD_INDEX_STATS_INIT;
    nphd_index *index = NULL;

    (void)state;
    OK(nphd_index_create(NULL, &index, NULL));
    OK(nphd_index_get_stats(index, &stats, NULL));
    assert_int_equal(stats.max_bits, 256);
    assert_int_equal(nphd_index_max_bytes(index), 32);
    assert_int_equal(stats.key_bits, 64);
    assert_int_equal(stats.metric, NPHD_METRIC_NPHD);
    assert_int_equal(stats.connectivity, 16);
    assert_int_equal(stats.build_breadth, 128);
    assert_int_equal(stats.search_breadth, 64);
    assert_int_equal(stats.max_level, -1);
    assert_false(stats.multi);
    assert_int_equal(stats.serialized_bytes > 112, true);
    nphd_index_close(index);
}

static void test_options_are_checked(void **state)
{
    static const struct {
        nphd_index_options options;
        const char *word;
    } bad[] = {
        {{.struct_size = sizeof(nphd_index_options), .max_bits = 12}, "max_bits"},
        {{.struct_size = sizeof(nphd_index_options), .max_bits = 2048}, "max_bits"},
        {{.struct_size = sizeof(nphd_index_options), .key_bits = 32}, "key_bits"},
        {{.struct_size = sizeof(nphd_index_options), .metric = (nphd_metric)7}, "metric"},
        {{.struct_size = sizeof(nphd_index_options), .connectivity = 1}, "connectivity"},
        {{.struct_size = sizeof(nphd_index_options), .connectivity = 513}, "connectivity"},
        {{.struct_size = sizeof(nphd_index_options), .build_breadth = 65537}, "breadth"},
        {{.struct_size = 0}, "struct_size"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        nphd_error err = NPHD_ERROR_INIT;
        nphd_index *index = (nphd_index *)&err;
        assert_int_equal(nphd_index_create(&bad[i].options, &index, &err), NPHD_INVALID_ARGUMENT);
        assert_null(index);
        assert_non_null(strstr(err.text, bad[i].word));
        assert_int_equal(err.status, NPHD_INVALID_ARGUMENT);
    }
}

/* A struct of an older version is shorter; one of a newer version is longer and zero behind. */
static void test_options_of_other_versions(void **state)
{
    struct {
        nphd_index_options known;
        uint64_t later;
    } longer = {{.struct_size = sizeof(longer), .max_bits = 64}, 0};
    nphd_index_options shorter = {
        .struct_size = offsetof(nphd_index_options, key_bits), .max_bits = 64, .key_bits = 999};
    nphd_index *index = NULL;

    (void)state;
    OK(nphd_index_create(&longer.known, &index, NULL));
    assert_int_equal(nphd_index_max_bytes(index), 8);
    nphd_index_close(index);
    OK(nphd_index_create(&shorter, &index, NULL));
    assert_int_equal(nphd_index_max_bytes(index), 8);
    nphd_index_close(index);
    longer.later = 1;
    assert_int_equal(nphd_index_create(&longer.known, &index, NULL), NPHD_INVALID_ARGUMENT);
}

/* ---- add: A1 to A8, N11 to N13 ---- */

static void test_a_add(void **state)
{
    static const uint8_t data[5][4] = {
        {1, 2, 3, 4}, {5, 6, 7, 8}, {9, 10, 11, 12}, {13, 14, 15, 16}, {255, 0, 255, 0}};
    nphd_index *index = nphd256();
    nphd_vector vectors[5];
    nphd_key keys[5];
    nphd_match match;
    size_t added = 0;

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        vectors[i] = vec(data[i], i == 2 ? 3 : 4);
        keys[i] = nphd_key_u64(10 * i); /* 0 is an ordinary key */
    }
    OK(nphd_index_add_many(index, keys, vectors, 5, NULL, NULL, &added, NULL));
    assert_int_equal(added, 5);
    assert_int_equal(nphd_index_size(index), 5);
    assert_int_equal(search(index, data[0], 4, 1, &match), 1);
    assert_int_equal(match.key.low, 0);
    assert_true(match.distance <= 0.0F);
    nphd_index_close(index);
}

static void test_a4_duplicates_are_skipped(void **state)
{
    static const uint8_t first[2] = {1, 2};
    static const uint8_t second[3] = {7, 8, 9};
    const nphd_vector vectors[3] = {{first, 2}, {second, 3}, {second, 2}};
    const nphd_key keys[3] = {{0, 5}, {0, 5}, {0, 6}};
    nphd_key out_keys[3];
    nphd_index *index = nphd256();
    size_t added = 0;

    (void)state;
    OK(nphd_index_add_many(index, keys, vectors, 3, NULL, out_keys, &added, NULL));
    assert_int_equal(added, 2);
    assert_int_equal(out_keys[1].low, 5);
    expect_vector(index, 5, first, 2);
    assert_false(add(index, 5, second, 3));
    expect_vector(index, 5, first, 2);
    assert_int_equal(nphd_index_size(index), 2);
    assert_int_equal(nphd_index_dirty(index), 2);
    nphd_index_close(index);
}

static void test_w6_automatic_keys(void **state)
{
    static const uint8_t data[2] = {1, 2};
    const nphd_vector vectors[3] = {{data, 1}, {data, 2}, {data, 1}};
    nphd_key keys[3];
    nphd_key removed = nphd_key_u64(1);
    nphd_index *index = nphd256();
    const char *path = temporary("automatic");
    size_t added = 0;

    (void)state;
    OK(nphd_index_add_many(index, NULL, vectors, 3, NULL, keys, &added, NULL)); /* A2 */
    assert_int_equal(added, 3);
    for (uint64_t i = 0; i < 3; i++) {
        assert_int_equal(keys[i].low, i);
    }
    /* 3 is in use, 1 was given out before: neither comes */
    assert_true(add(index, 3, data, 2));
    OK(nphd_index_remove(index, &removed, 1, NULL, NULL));
    OK(nphd_index_add_many(index, NULL, vectors, 1, NULL, keys, &added, NULL));
    assert_int_equal(added, 1);
    assert_int_equal(keys[0].low, 4);
    OK(nphd_index_save(index, path, NULL, NULL));
    nphd_index_close(index);
    OK(nphd_index_restore(path, false, NULL, &index, NULL));
    OK(nphd_index_add_many(index, NULL, vectors, 2, NULL, keys, &added, NULL));
    assert_int_equal(keys[0].low, 5);
    assert_int_equal(keys[1].low, 6);
    nphd_index_close(index);
    (void)unlink(path);

    index = new_index(256, NPHD_METRIC_NPHD, 128, false);
    assert_int_equal(nphd_index_add_many(index, NULL, vectors, 1, NULL, keys, &added, NULL),
                     NPHD_INVALID_ARGUMENT);
    nphd_index_close(index);
}

static void test_w16_wrong_vectors_are_refused(void **state)
{
    static const uint8_t data[256] = {1};
    static const size_t wrong[] = {0, 33, 255, 256};
    nphd_index *index = nphd256();
    nphd_index *hamming = new_index(64, NPHD_METRIC_HAMMING, 64, false);

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        nphd_error err = NPHD_ERROR_INIT;
        const nphd_vector batch[3] = {{data, 8}, {data, wrong[i]}, {data, 8}};
        const nphd_key keys[3] = {{0, 1}, {0, 2}, {0, 3}};
        size_t added = 7;
        assert_int_equal(nphd_index_add_many(index, keys, batch, 3, NULL, NULL, &added, &err),
                         NPHD_INVALID_ARGUMENT);
        assert_non_null(strstr(err.text, "item 1"));
        assert_int_equal(added, 0);
        assert_int_equal(nphd_index_upsert(index, keys, batch, 3, NULL, NULL, &err),
                         NPHD_INVALID_ARGUMENT);
        assert_int_equal(nphd_index_size(index), 0);
        assert_int_equal(nphd_index_dirty(index), 0);
    }
    for (size_t bytes = 1; bytes < 12; bytes++) {
        assert_int_equal(nphd_index_add(hamming, nphd_key_u64(bytes), vec(data, bytes), NULL, NULL),
                         bytes == 8 ? NPHD_OK : NPHD_INVALID_ARGUMENT);
    }
    nphd_index_close(index);
    nphd_index_close(hamming);
}

static void test_w34_reserved_key_is_refused(void **state)
{
    static const uint8_t data[1] = {1};
    const nphd_key all_ones = {UINT64_MAX, UINT64_MAX};
    nphd_index *narrow = nphd256();
    nphd_index *wide = new_index(256, NPHD_METRIC_NPHD, 128, false);
    bool there = true;

    (void)state;
    assert_int_equal(nphd_index_add(narrow, nphd_key_u64(UINT64_MAX), vec(data, 1), NULL, NULL),
                     NPHD_INVALID_ARGUMENT);
    assert_int_equal(nphd_index_add(wide, all_ones, vec(data, 1), NULL, NULL),
                     NPHD_INVALID_ARGUMENT);
    /* only all bits one is: half of them is an ordinary key */
    OK(nphd_index_add(wide, nphd_key_u64(UINT64_MAX), vec(data, 1), NULL, NULL));
    OK(nphd_index_contains(wide, nphd_key_u64(UINT64_MAX), &there, NULL));
    assert_true(there);
    OK(nphd_index_contains(wide, all_ones, &there, NULL));
    assert_false(there);
    /* a wide key in a narrow index */
    const nphd_key too_wide = {1, 1};
    assert_int_equal(nphd_index_add(narrow, too_wide, vec(data, 1), NULL, NULL),
                     NPHD_INVALID_ARGUMENT);
    OK(nphd_index_contains(narrow, too_wide, &there, NULL));
    assert_false(there);
    nphd_index_close(narrow);
    nphd_index_close(wide);
}

static void test_w52_vectors_are_copied(void **state)
{
    uint8_t data[4] = {1, 2, 3, 4};
    nphd_index *index = nphd256();
    nphd_match match;

    (void)state;
    assert_true(add(index, 1, data, 4));
    memset(data, 0xEE, sizeof(data));
    static const uint8_t before[4] = {1, 2, 3, 4};
    expect_vector(index, 1, before, 4);
    assert_int_equal(search(index, before, 4, 1, &match), 1);
    assert_true(match.distance <= 0.0F);
    nphd_index_close(index);
}

/* ---- get, count, multi: G1 to G5, UE2, UE3, UE5 ---- */

static void test_g_multi(void **state)
{
    static const uint8_t data[3][2] = {{1, 1}, {1, 1}, {200, 7}};
    nphd_index *index = new_index(256, NPHD_METRIC_NPHD, 64, true);
    uint8_t out[3 * 32];
    size_t bytes[3];
    size_t count = 0;
    nphd_match matches[3];

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        assert_true(add(index, 9, data[i], 2));
    }
    assert_int_equal(nphd_index_size(index), 3);
    OK(nphd_index_count(index, nphd_key_u64(9), &count, NULL));
    assert_int_equal(count, 3);
    OK(nphd_index_get_all(index, nphd_key_u64(9), out, bytes, 3, &count, NULL));
    assert_int_equal(count, 3);
    assert_int_equal(nphd_index_get_all(index, nphd_key_u64(9), out, bytes, 2, &count, NULL),
                     NPHD_TOO_SMALL);
    assert_int_equal(count, 3);
    expect_vector(index, 9, data[0], 2); /* the first in the file */
    assert_int_equal(search(index, data[2], 2, 3, matches), 3);
    assert_true(matches[0].distance <= 0.0F);
    assert_int_equal(matches[2].key.low, 9);
    const nphd_key key = nphd_key_u64(9);
    assert_int_equal(
        nphd_index_upsert(index, &key, &(nphd_vector){data[0], 2}, 1, NULL, NULL, NULL),
        NPHD_UNSUPPORTED);
    OK(nphd_index_remove(index, &key, 1, &count, NULL));
    assert_int_equal(count, 3);
    assert_false(contains(index, 9));
    nphd_index_close(index);
}

static void test_g_get(void **state)
{
    static const uint8_t data[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    nphd_index *index = nphd256();
    const nphd_key keys[3] = {{0, 2}, {0, 99}, {0, 1}};
    uint8_t out[3 * 32];
    size_t bytes[3] = {9, 9, 9};
    size_t one = 9;

    (void)state;
    assert_true(add(index, 1, data, 8));
    assert_true(add(index, 2, data, 3));
    OK(nphd_index_get_many(index, keys, 3, out, bytes, NULL));
    assert_int_equal(bytes[0], 3);
    assert_int_equal(bytes[1], 0);
    assert_int_equal(bytes[2], 8);
    assert_memory_equal(out + 64, data, 8);
    OK(nphd_index_get_many(index, keys, 0, NULL, NULL, NULL));
    assert_int_equal(nphd_index_get(index, keys[1], out, 32, &one, NULL), NPHD_NOT_FOUND);
    assert_int_equal(one, 0);
    assert_int_equal(nphd_index_get(index, keys[2], out, 7, &one, NULL), NPHD_TOO_SMALL);
    assert_int_equal(one, 8);
    /* keys 0 and 2^63 - 1 work, and so does every other but one */
    static const uint64_t edges[] = {0, INT64_MAX, 1ULL << 63, UINT64_MAX - 1};
    for (size_t i = 0; i < 4; i++) {
        assert_true(add(index, edges[i], data, i + 1));
        expect_vector(index, edges[i], data, i + 1);
    }
    nphd_index_close(index);
}

/* ---- search: S1 to S10, UE7, UE8, W8, W35, W36 ---- */

static void test_s_search(void **state)
{
    static const uint8_t data[3][8] = {
        {1, 2, 3, 4, 5, 6, 7, 8}, {1, 2, 3, 4}, {1, 2, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
    nphd_index *index = nphd256();
    nphd_match matches[4];
    nphd_match many[2 * 2];
    nphd_search_report reports[2];
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;

    (void)state;
    assert_int_equal(search(index, data[0], 8, 4, matches), 0); /* S7 */
    assert_true(add(index, 1, data[0], 8));
    assert_true(add(index, 2, data[1], 2));
    assert_true(add(index, 3, data[2], 8));
    assert_int_equal(search(index, data[0], 4, 4, matches), 3); /* more than there is */
    assert_int_equal(matches[0].key.low, 1);                    /* two at distance 0: by key */
    assert_int_equal(matches[1].key.low, 2);
    assert_true(matches[2].distance > 0.0F);
    assert_int_equal(search(index, data[2], 8, 1, matches), 1); /* S6 */
    const nphd_vector queries[2] = {{data[0], 8}, {data[2], 8}};
    OK(nphd_index_search_many(index, queries, 2, 2, NULL, many, reports, NULL)); /* S2 */
    assert_int_equal(reports[0].count, 2);
    assert_int_equal(many[2].key.low, 2);
    assert_int_equal(many[3].key.low, 3);
    for (uint32_t threads = 0; threads < 4; threads++) { /* S8, S9 */
        for (uint32_t mode = NPHD_SEARCH_EXACT; mode <= NPHD_SEARCH_APPROXIMATE; mode++) {
            nphd_match other[4];
            options.mode = (nphd_search_mode)mode;
            options.threads = threads;
            OK(nphd_index_search_many(index, queries, 2, 2, &options, other, reports, NULL));
            for (size_t i = 0; i < 4; i++) {
                assert_int_equal(other[i].key.low, many[i].key.low);
            }
            assert_int_equal(reports[0].exact, mode == NPHD_SEARCH_EXACT);
        }
    }
    nphd_error err = NPHD_ERROR_INIT;
    assert_int_equal(nphd_index_search(index, queries[0], 0, NULL, matches, reports, &err),
                     NPHD_INVALID_ARGUMENT); /* S10 */
    /* a longer query is compared over what is stored; an empty one and a longer still are errors */
    uint8_t longest[256] = {1, 2, 3, 4, 5, 6, 7, 8};
    assert_int_equal(search(index, longest, 255, 1, matches), 1);
    assert_int_equal(nphd_index_search(index, vec(longest, 256), 1, NULL, matches, reports, &err),
                     NPHD_INVALID_ARGUMENT);
    assert_int_equal(nphd_index_search(index, vec(longest, 0), 1, NULL, matches, reports, &err),
                     NPHD_INVALID_ARGUMENT);
    assert_int_equal(reports[0].count, 0);
    nphd_index_close(index);
}

static void test_w8_radius_is_kept(void **state)
{
    uint8_t data[10] = {0};
    nphd_index *index = nphd256();
    nphd_match matches[16];
    nphd_search_report report;
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;

    (void)state;
    for (uint64_t i = 0; i < 10; i++) {
        assert_true(add(index, i, data, 10)); /* i of 80 bits set */
        data[0] = (uint8_t)(data[0] << 1 | 1);
        data[1] = (uint8_t)(i >= 8 ? 1 : 0);
    }
    memset(data, 0, sizeof(data));
    options.use_radius = true;
    for (uint32_t mode = NPHD_SEARCH_EXACT; mode <= NPHD_SEARCH_APPROXIMATE; mode++) {
        options.mode = (nphd_search_mode)mode;
        options.radius = 0.05F; /* 4 of 80: itself included */
        OK(nphd_index_search(index, vec(data, 10), 16, &options, matches, &report, NULL));
        assert_int_equal(report.count, 5);
        options.radius = 0;
        OK(nphd_index_search(index, vec(data, 10), 16, &options, matches, &report, NULL));
        assert_int_equal(report.count, 1);
    }
    options.radius = -1.0F;
    assert_int_equal(nphd_index_search(index, vec(data, 10), 16, &options, matches, &report, NULL),
                     NPHD_INVALID_ARGUMENT);
    nphd_index_close(index);
}

static bool is_even(void *context, nphd_key key)
{
    (*(int *)context)++;
    return key.low % 2 == 0;
}

static void test_filter_refills(void **state)
{
    nphd_index *index = nphd256();
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_match matches[10];
    nphd_search_report report;
    int asked = 0;

    (void)state;
    for (uint64_t i = 0; i < 200; i++) {
        const uint8_t data[2] = {(uint8_t)i, (uint8_t)(i * 7)};
        assert_true(add(index, i, data, 2));
    }
    options.filter = is_even;
    options.filter_context = &asked;
    for (uint32_t mode = NPHD_SEARCH_EXACT; mode <= NPHD_SEARCH_APPROXIMATE; mode++) {
        static const uint8_t query[2] = {3, 21};
        options.mode = (nphd_search_mode)mode;
        OK(nphd_index_search(index, vec(query, 2), 10, &options, matches, &report, NULL));
        assert_int_equal(report.count, 10);
        for (size_t i = 0; i < 10; i++) {
            assert_int_equal(matches[i].key.low % 2, 0);
        }
    }
    assert_true(asked > 0);
    nphd_index_close(index);
}

static void test_w36_ties_go_by_key(void **state)
{
    static const uint8_t data[4] = {0x55, 0x55, 0x55, 0x55};
    nphd_index *index = nphd256();
    nphd_match matches[5];
    bool there = false;

    (void)state;
    for (uint64_t i = 0; i < 50; i++) {
        assert_true(add(index, (i * 37) % 50, data, 1 + i % 4));
    }
    assert_int_equal(search(index, data, 4, 5, matches), 5);
    for (uint64_t i = 0; i < 5; i++) {
        assert_int_equal(matches[i].key.low, i);
        /* W35: a key from a search is a key for a lookup */
        OK(nphd_index_contains(index, matches[i].key, &there, NULL));
        assert_true(there);
    }
    nphd_index_close(index);
}

static void test_ue8_hamming_counts_bits(void **state)
{
    static const uint8_t data[3][8] = {{0}, {0xff}, {0xff, 0xff, 1}};
    nphd_index *index = new_index(64, NPHD_METRIC_HAMMING, 64, false);
    nphd_match matches[3];

    (void)state;
    for (uint64_t i = 0; i < 3; i++) {
        assert_true(add(index, i, data[i], 8));
    }
    assert_int_equal(search(index, data[0], 8, 3, matches), 3);
    assert_true(matches[1].distance >= 8.0F && matches[1].distance <= 8.0F);
    assert_true(matches[2].distance >= 17.0F && matches[2].distance <= 17.0F);
    nphd_index_close(index);
}

static int stop_at_once(void *context, uint64_t done, uint64_t total)
{
    (void)total;
    *(uint64_t *)context = done;
    return 1;
}

static void test_cancel_keeps_what_was_added(void **state)
{
    static const uint8_t data[3] = {1, 2, 3};
    const nphd_vector vectors[3] = {{data, 1}, {data, 2}, {data, 3}};
    const nphd_key keys[3] = {{0, 1}, {0, 2}, {0, 3}};
    nphd_batch_options options = NPHD_BATCH_OPTIONS_INIT;
    nphd_index *index = nphd256();
    uint64_t done = 0;
    size_t added = 0;

    (void)state;
    options.progress = stop_at_once;
    options.progress_context = &done;
    assert_int_equal(nphd_index_add_many(index, keys, vectors, 3, &options, NULL, &added, NULL),
                     NPHD_CANCELLED);
    assert_int_equal(added, 1);
    assert_int_equal(done, 1);
    assert_int_equal(nphd_index_size(index), 1);
    assert_true(contains(index, 1));
    OK(nphd_index_add_many(index, keys, vectors, 3, NULL, NULL, &added, NULL));
    assert_int_equal(added, 2);
    nphd_index_close(index);
}

/* ---- remove, rename, upsert: UE4, U1 to U11, W32, W37 ---- */

static void test_ue4_remove(void **state)
{
    static const uint8_t data[2] = {1, 2};
    const nphd_key keys[4] = {{0, 1}, {0, 1}, {0, 2}, {0, 77}};
    nphd_index *index = nphd256();
    nphd_match matches[3];
    size_t removed = 9;

    (void)state;
    for (uint64_t i = 0; i < 3; i++) {
        assert_true(add(index, i, data, 2));
    }
    OK(nphd_index_remove(index, keys, 0, &removed, NULL));
    assert_int_equal(removed, 0);
    OK(nphd_index_remove(index, keys, 4, &removed, NULL));
    assert_int_equal(removed, 2); /* a repeated key counts once */
    assert_int_equal(nphd_index_dirty(index), 5);
    assert_int_equal(search(index, data, 2, 3, matches), 1);
    OK(nphd_index_isolate(index, NULL));
    assert_true(add(index, 1, data, 1));
    expect_vector(index, 1, data, 1);
    assert_int_equal(search(index, data, 2, 3, matches), 2);
    nphd_index_close(index);
}

static void test_rename(void **state)
{
    static const uint8_t data[2] = {1, 2};
    nphd_index *index = nphd256();

    (void)state;
    assert_true(add(index, 1, data, 2));
    assert_true(add(index, 2, data, 1));
    OK(nphd_index_rename(index, nphd_key_u64(1), nphd_key_u64(5), NULL));
    assert_false(contains(index, 1));
    expect_vector(index, 5, data, 2);
    assert_int_equal(nphd_index_rename(index, nphd_key_u64(1), nphd_key_u64(6), NULL),
                     NPHD_NOT_FOUND);
    assert_int_equal(nphd_index_rename(index, nphd_key_u64(5), nphd_key_u64(2), NULL), NPHD_EXISTS);
    assert_int_equal(nphd_index_rename(index, nphd_key_u64(5), nphd_key_u64(UINT64_MAX), NULL),
                     NPHD_INVALID_ARGUMENT);
    OK(nphd_index_rename(index, nphd_key_u64(5), nphd_key_u64(5), NULL));
    assert_int_equal(nphd_index_size(index), 2);
    nphd_index_close(index);
}

static void test_u_upsert(void **state)
{
    static const uint8_t data[4][4] = {{1, 1, 1, 1}, {2, 2, 2, 2}, {3, 3, 3, 3}, {4, 4, 4, 4}};
    const nphd_key keys[5] = {{0, 1}, {0, 2}, {0, 3}, {0, 2}, {0, 4}};
    const nphd_vector vectors[5] = {
        {data[0], 4}, {data[1], 4}, {data[2], 4}, {data[3], 2}, {data[0], 4}};
    nphd_index *index = nphd256();
    nphd_upsert_counts counts;

    (void)state;
    assert_int_equal(nphd_index_upsert(index, NULL, vectors, 1, NULL, NULL, NULL),
                     NPHD_INVALID_ARGUMENT);                             /* U1 */
    OK(nphd_index_upsert(index, keys, vectors, 0, NULL, &counts, NULL)); /* U3 */
    assert_int_equal(counts.added + counts.replaced + counts.unchanged, 0);
    OK(nphd_index_upsert(index, keys, vectors, 5, NULL, &counts, NULL)); /* U7, U9 */
    assert_int_equal(counts.added, 4);
    expect_vector(index, 2, data[3], 2); /* the last wins */
    assert_int_equal(nphd_index_dirty(index), 4);
    for (int again = 0; again < 3; again++) { /* U5, U10 */
        OK(nphd_index_upsert(index, keys, vectors, 5, NULL, &counts, NULL));
        assert_int_equal(counts.unchanged, 4);
        assert_int_equal(nphd_index_dirty(index), 4);
    }
    nphd_index_close(index);
}

static void test_w32_upsert_changes_length(void **state)
{
    static const uint8_t data[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    const nphd_key keys[2] = {{0, 1}, {0, 2}};
    const nphd_vector before[2] = {{data, 4}, {data, 8}};
    const nphd_vector after[2] = {{data, 8}, {data, 3}};
    nphd_index *index = nphd256();
    nphd_upsert_counts counts;

    (void)state;
    OK(nphd_index_upsert(index, keys, before, 2, NULL, &counts, NULL));
    OK(nphd_index_upsert(index, keys, after, 2, NULL, &counts, NULL));
    assert_int_equal(counts.replaced, 2);
    assert_int_equal(nphd_index_dirty(index), 6); /* D6: 2 for each replaced */
    expect_vector(index, 1, data, 8);
    expect_vector(index, 2, data, 3);
    assert_int_equal(nphd_index_size(index), 2);
    nphd_index_close(index);
}

/* ---- files: P1 to P9, D1 to D6, UE9 to UE13, W33, W38 to W40 ---- */

static void fill(nphd_index *index, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint8_t data[16];
        for (size_t j = 0; j < sizeof(data); j++) {
            data[j] = (uint8_t)(i * 31 + j * j * (i + 3));
        }
        assert_true(add(index, i * 5, data, 8 * (1 + i % 2)));
    }
}

static void expect_same(nphd_index *a, nphd_index *b)
{
    nphd_cursor cursor = nphd_index_cursor(a);
    uint8_t vector[NPHD_MAX_BYTES];
    nphd_key key;
    size_t bytes = 0;
    uint64_t count = 0;

    assert_int_equal(nphd_index_size(a), nphd_index_size(b));
    while (nphd_cursor_next(&cursor, &key, vector, &bytes, NULL) == NPHD_OK) {
        nphd_match of_a[5];
        nphd_match of_b[5];
        expect_vector(b, key.low, vector, bytes);
        assert_int_equal(search(a, vector, bytes, 5, of_a), search(b, vector, bytes, 5, of_b));
        assert_int_equal(nphd_key_compare(of_a[0].key, of_b[0].key), 0);
        assert_memory_equal(&of_a[0].distance, &of_b[0].distance, sizeof(float));
        count++;
    }
    assert_int_equal(count, nphd_index_size(a));
}

static void test_p_save_load_view_restore(void **state)
{
    static const uint8_t data[8] = {9, 9, 9};
    const char *path = temporary("roundtrip");
    nphd_index *index = nphd256();
    nphd_index *other = new_index(64, NPHD_METRIC_HAMMING, 128, true); /* P4: adopts the file */
    nphd_index *restored = NULL;
    nphd_index_stats stats = NPHD_INDEX_STATS_INIT;

    (void)state;
    assert_int_equal(nphd_index_restore(path, false, NULL, &restored, NULL), NPHD_NOT_FOUND);
    assert_null(restored); /* P9 */
    fill(index, 100);
    assert_int_equal(nphd_index_dirty(index), 100);
    OK(nphd_index_save(index, path, NULL, NULL));
    assert_int_equal(nphd_index_dirty(index), 0); /* D4 */
    OK(nphd_index_get_stats(index, &stats, NULL));
    struct stat file;
    assert_int_equal(stat(path, &file), 0);
    assert_int_equal(stats.serialized_bytes, file.st_size);
    assert_int_equal(stats.generation, 1);
    OK(nphd_index_load(other, path, NULL, NULL));
    expect_same(index, other);
    assert_true(add(other, 7777, data, 8)); /* P5 */
    assert_int_equal(nphd_index_dirty(other), 1);
    OK(nphd_index_view(other, path, NULL, NULL));
    assert_int_equal(nphd_index_dirty(other), 0);
    expect_same(index, other);
    OK(nphd_index_restore(path, true, NULL, &restored, NULL));
    expect_same(index, restored); /* P8 */
    nphd_index_close(restored);
    OK(nphd_index_restore(path, false, NULL, &restored, NULL));
    assert_true(add(restored, 7777, data, 8));       /* P7 */
    OK(nphd_index_save(restored, path, NULL, NULL)); /* over the file that `other` maps */
    expect_same(index, other);
    nphd_index_close(restored);
    OK(nphd_index_restore(path, true, NULL, &restored, NULL));
    assert_int_equal(nphd_index_size(restored), 101);
    OK(nphd_index_get_stats(restored, &stats, NULL));
    assert_int_equal(stats.generation, 2);
    assert_true(stats.verified);
    nphd_index_close(restored);
    nphd_index_close(other);
    nphd_index_close(index);
    (void)unlink(path);
}

static void test_p_buffers(void **state)
{
    nphd_index *index = nphd256();
    nphd_index *other = nphd256();
    size_t bytes = 0;
    size_t written = 0;

    (void)state;
    fill(index, 40);
    OK(nphd_index_save_buffer(index, NULL, 0, &bytes, NULL));
    uint8_t *buffer = malloc(bytes);
    assert_int_equal(nphd_index_save_buffer(index, buffer, bytes - 1, &written, NULL),
                     NPHD_TOO_SMALL);
    assert_int_equal(written, bytes);
    OK(nphd_index_save_buffer(index, buffer, bytes, &written, NULL));
    assert_int_equal(nphd_index_dirty(index), 40); /* nothing is durable yet */
    OK(nphd_index_load_buffer(other, buffer, bytes, NULL, NULL));
    expect_same(index, other);
    OK(nphd_index_view_buffer(other, buffer, bytes, NULL, NULL));
    expect_same(index, other);
    nphd_metadata metadata = NPHD_METADATA_INIT;
    OK(nphd_buffer_metadata(buffer, bytes, &metadata, NULL));
    assert_int_equal(metadata.present, 40);
    assert_true(metadata.trailer);
    nphd_index_close(other);
    free(buffer);
    nphd_index_close(index);
}

static void test_p1_copy_is_independent(void **state)
{
    static const uint8_t data[3] = {5, 6, 7};
    const char *path = temporary("copy");
    const nphd_key gone = nphd_key_u64(5);
    nphd_index *index = nphd256();
    nphd_index *copy = NULL;
    nphd_index *view = NULL;
    nphd_index_stats stats = NPHD_INDEX_STATS_INIT;

    (void)state;
    fill(index, 60);
    OK(nphd_index_set_breadth(index, 77, 88, NULL));
    OK(nphd_index_copy(index, &copy, NULL));
    expect_same(index, copy);
    assert_int_equal(nphd_index_dirty(copy), 0); /* D5 */
    OK(nphd_index_get_stats(copy, &stats, NULL));
    assert_int_equal(stats.build_breadth, 77);
    assert_int_equal(stats.search_breadth, 88);
    assert_true(add(copy, 9999, data, 3));
    OK(nphd_index_remove(copy, &gone, 1, NULL, NULL));
    assert_false(contains(index, 9999));
    assert_true(contains(index, 5));
    nphd_index_close(copy);
    /* the copy of a view is writable */
    OK(nphd_index_save(index, path, NULL, NULL));
    OK(nphd_index_restore(path, true, NULL, &view, NULL));
    OK(nphd_index_copy(view, &copy, NULL));
    expect_same(view, copy);
    assert_true(add(copy, 9999, data, 3));
    nphd_index_close(copy);
    nphd_index_close(view);
    nphd_index_close(index);
    (void)unlink(path);
}

static void test_w38_views_refuse_changes(void **state)
{
    static const uint8_t data[3] = {5, 6, 7};
    const char *path = temporary("view");
    const nphd_key keys[2] = {{0, 0}, {0, 5}};
    const nphd_vector vectors[2] = {{data, 3}, {data, 3}};
    nphd_index *index = nphd256();
    nphd_index *view = NULL;
    nphd_batch_options over = NPHD_BATCH_OPTIONS_INIT;

    (void)state;
    over.overwrite = true;
    fill(index, 10);
    OK(nphd_index_save(index, path, NULL, NULL));
    OK(nphd_index_restore(path, true, NULL, &view, NULL));
    assert_int_equal(nphd_index_add(view, nphd_key_u64(1), vectors[0], NULL, NULL), NPHD_READ_ONLY);
    assert_int_equal(nphd_index_add_many(view, keys, vectors, 2, NULL, NULL, NULL, NULL),
                     NPHD_READ_ONLY);
    assert_int_equal(nphd_index_upsert(view, keys, vectors, 2, NULL, NULL, NULL), NPHD_READ_ONLY);
    assert_int_equal(nphd_index_remove(view, keys, 1, NULL, NULL), NPHD_READ_ONLY);
    assert_int_equal(nphd_index_remove(view, keys, 2, NULL, NULL), NPHD_READ_ONLY);
    assert_int_equal(nphd_index_rename(view, keys[0], nphd_key_u64(1), NULL), NPHD_READ_ONLY);
    assert_int_equal(nphd_index_clear(view, NULL), NPHD_READ_ONLY);
    assert_int_equal(nphd_index_isolate(view, NULL), NPHD_READ_ONLY);
    assert_int_equal(nphd_index_reserve(view, 100, NULL), NPHD_READ_ONLY);
    expect_same(index, view);
    assert_int_equal(nphd_index_dirty(view), 0);
    /* saving a view writes the same content; a reset makes it writable */
    OK(nphd_index_save(view, path, NULL, NULL));
    OK(nphd_file_verify(path, NULL, NULL, NULL, NULL, NULL));
    OK(nphd_index_reset(view, NULL));
    assert_int_equal(nphd_index_size(view), 0);
    assert_true(add(view, 1, data, 3));
    nphd_index_close(view);
    /* an empty view is read-only too */
    OK(nphd_index_clear(index, NULL));
    assert_int_equal(nphd_index_save(index, path, NULL, NULL), NPHD_CHANGED); /* the view's */
    OK(nphd_index_save(index, path, &over, NULL));
    OK(nphd_index_restore(path, true, NULL, &view, NULL));
    assert_int_equal(nphd_index_add(view, nphd_key_u64(1), vectors[0], NULL, NULL), NPHD_READ_ONLY);
    nphd_index_close(view);
    nphd_index_close(index);
    (void)unlink(path);
}

/* A view of a damaged file may answer, but damage is not saved as if it were whole. */
static void test_damage_is_not_saved(void **state)
{
    nphd_index *index = nphd256();
    nphd_index *view = nphd256();
    nphd_index *copy = NULL;
    size_t bytes = 0;

    (void)state;
    fill(index, 40);
    OK(nphd_index_save_buffer(index, NULL, 0, &bytes, NULL));
    uint8_t *buffer = malloc(bytes);
    uint8_t *saved = malloc(bytes);
    OK(nphd_index_save_buffer(index, buffer, bytes, &bytes, NULL));
    buffer[8 + 33 * 7 + 3] ^= 1; /* inside a row */
    OK(nphd_index_view_buffer(view, buffer, bytes, NULL, NULL));
    assert_int_equal(nphd_index_save_buffer(view, saved, bytes, &bytes, NULL), NPHD_CORRUPT);
    assert_int_equal(nphd_index_copy(view, &copy, NULL), NPHD_CORRUPT);
    assert_null(copy);
    free(saved);
    nphd_index_close(view);
    free(buffer);
    nphd_index_close(index);
}

static void test_w33_w40_views_need_no_tables(void **state)
{
    const char *path = temporary("tables");
    const nphd_key removed[2] = {{0, 5}, {0, 10}};
    nphd_index *index = nphd256();
    nphd_index *view = NULL;
    nphd_index_stats before = NPHD_INDEX_STATS_INIT;
    nphd_index_stats after = NPHD_INDEX_STATS_INIT;

    (void)state;
    fill(index, 2000);
    OK(nphd_index_remove(index, removed, 2, NULL, NULL));
    OK(nphd_index_save(index, path, NULL, NULL));
    OK(nphd_index_restore(path, true, NULL, &view, NULL));
    OK(nphd_index_get_stats(view, &before, NULL));
    assert_int_equal(before.size, 1998); /* before the first lookup, W33 */
    assert_int_equal(before.removed, 2);
    assert_false(contains(view, 5));
    assert_true(contains(view, 15));
    expect_same(index, view);
    OK(nphd_index_get_stats(view, &after, NULL));
    assert_int_equal(after.memory_bytes, before.memory_bytes); /* W40 */
    assert_true(after.memory_bytes < 10000); /* the handle; a key table would be 12,004 */
    nphd_index_close(view);
    nphd_index_close(index);
    (void)unlink(path);
}

static void test_w22_files_of_others_open(void **state)
{
    const char *path = temporary("readonly");
    nphd_index *index = nphd256();
    nphd_index *view = NULL;

    (void)state;
    fill(index, 5);
    OK(nphd_index_save(index, path, NULL, NULL));
    assert_int_equal(chmod(path, 0444), 0);
    if (geteuid() == 0) {
        /* root owns everything: look as somebody else */
        assert_int_equal(seteuid(65534), 0);
    }
    const nphd_status status = nphd_index_restore(path, true, NULL, &view, NULL);
    if (getuid() == 0) {
        assert_int_equal(seteuid(0), 0);
    }
    assert_int_equal(status, NPHD_OK);
    assert_int_equal(nphd_index_size(view), 5);
    nphd_index_close(view);
    nphd_index_close(index);
    (void)unlink(path);
}

static void test_w39_saves_are_all_durable(void **state)
{
    const char *path = temporary("durable");
    nphd_index *index = nphd256();
    nphd_index *loaded = NULL;

    (void)state;
    /* there is one way to save; the file is replaced, never written in place */
    fill(index, 5);
    OK(nphd_index_save(index, path, NULL, NULL));
    struct stat first;
    struct stat second;
    assert_int_equal(stat(path, &first), 0);
    OK(nphd_index_load(index, path, NULL, NULL));
    OK(nphd_index_restore(path, true, NULL, &loaded, NULL)); /* keeps the inode from reuse */
    OK(nphd_index_save(index, path, NULL, NULL));
    assert_int_equal(stat(path, &second), 0);
    assert_true(first.st_ino != second.st_ino);
    nphd_index_close(loaded);
    nphd_index_close(index);
    (void)unlink(path);
}

static void test_d_dirty(void **state)
{
    static const uint8_t data[2] = {1, 2};
    const nphd_key keys[2] = {{0, 1}, {0, 2}};
    const nphd_vector vectors[2] = {{data, 1}, {data, 2}};
    nphd_index *index = nphd256();

    (void)state;
    assert_int_equal(nphd_index_dirty(index), 0); /* D1 */
    OK(nphd_index_add_many(index, keys, vectors, 2, NULL, NULL, NULL, NULL));
    assert_int_equal(nphd_index_dirty(index), 2); /* D2 */
    OK(nphd_index_remove(index, keys, 2, NULL, NULL));
    assert_int_equal(nphd_index_dirty(index), 4); /* D3 */
    OK(nphd_index_reset(index, NULL));
    assert_int_equal(nphd_index_dirty(index), 0); /* D4 */
    assert_true(add(index, 1, data, 2));
    OK(nphd_index_clear(index, NULL));
    assert_int_equal(nphd_index_dirty(index), 2);
    assert_int_equal(nphd_index_size(index), 0);
    nphd_index_close(index);
}

static void test_clear_and_reserve(void **state)
{
    nphd_index *index = nphd256();
    nphd_index_stats stats = NPHD_INDEX_STATS_INIT;
    uint64_t edges = 77;

    (void)state;
    OK(nphd_index_reserve(index, 5000, NULL));
    OK(nphd_index_get_stats(index, &stats, NULL));
    assert_true(stats.capacity >= 5000);
    fill(index, 300);
    OK(nphd_index_clear(index, NULL));
    OK(nphd_index_get_stats(index, &stats, NULL));
    assert_true(stats.capacity >= 5000);
    assert_int_equal(stats.slots, 0);
    OK(nphd_index_count_edges(index, &edges, NULL));
    assert_int_equal(edges, 0);
    assert_int_equal(stats.max_level, -1);
    fill(index, 300);
    OK(nphd_index_get_stats(index, &stats, NULL));
    assert_int_equal(stats.size, 300);
    OK(nphd_index_count_edges(index, &edges, NULL));
    assert_true(edges > 300);
    assert_true(stats.memory_bytes > 0);
    assert_int_equal(nphd_index_reserve(index, UINT64_MAX, NULL), NPHD_FULL);
    nphd_index_close(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_n_lengths_are_kept),
        cmocka_unit_test(test_distance_values),
        cmocka_unit_test(test_n9_defaults),
        cmocka_unit_test(test_options_are_checked),
        cmocka_unit_test(test_options_of_other_versions),
        cmocka_unit_test(test_a_add),
        cmocka_unit_test(test_a4_duplicates_are_skipped),
        cmocka_unit_test(test_w6_automatic_keys),
        cmocka_unit_test(test_w16_wrong_vectors_are_refused),
        cmocka_unit_test(test_w34_reserved_key_is_refused),
        cmocka_unit_test(test_w52_vectors_are_copied),
        cmocka_unit_test(test_g_multi),
        cmocka_unit_test(test_g_get),
        cmocka_unit_test(test_s_search),
        cmocka_unit_test(test_w8_radius_is_kept),
        cmocka_unit_test(test_filter_refills),
        cmocka_unit_test(test_w36_ties_go_by_key),
        cmocka_unit_test(test_ue8_hamming_counts_bits),
        cmocka_unit_test(test_cancel_keeps_what_was_added),
        cmocka_unit_test(test_ue4_remove),
        cmocka_unit_test(test_rename),
        cmocka_unit_test(test_u_upsert),
        cmocka_unit_test(test_w32_upsert_changes_length),
        cmocka_unit_test(test_p_save_load_view_restore),
        cmocka_unit_test(test_p_buffers),
        cmocka_unit_test(test_p1_copy_is_independent),
        cmocka_unit_test(test_w38_views_refuse_changes),
        cmocka_unit_test(test_damage_is_not_saved),
        cmocka_unit_test(test_w33_w40_views_need_no_tables),
        cmocka_unit_test(test_w22_files_of_others_open),
        cmocka_unit_test(test_w39_saves_are_all_durable),
        cmocka_unit_test(test_d_dirty),
        cmocka_unit_test(test_clear_and_reserve),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
