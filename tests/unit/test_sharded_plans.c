/* Shards with hash tables in their files, against comparing with every vector: every plan gives the
 * same answer, with entries that are deleted and hidden, after a rotation, compaction and opening
 * again, for readers, in a snapshot and in what is salvaged. For each metric, wide keys, multi. */
#include "support/io_memory.h"
#include "support/test_random.h"

#include <nphd/nphd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

enum { BYTES = 16, VECTORS = 45000, QUERIES = 6, MOST = 2000, NEAREST = 20 };

typedef struct item {
    uint8_t data[BYTES];
    size_t bytes; /* 0: there is none */
} item;

typedef struct lab {
    memory_io *disk;
    nphd_metric metric;
    bool multi;
    uint32_t key_bits;
    item *items; /* by number */
    uint64_t by_tables;
} lab;

static bool is_small(void)
{
    const char *scale = getenv("NPHD_TEST_SCALE");

    return scale != NULL && strcmp(scale, "small") == 0;
}

/* Clusters of sixteen, and each of the first hundred some hundred times. */
static void make(const lab *here, uint64_t number, uint64_t version, item *out)
{
    const uint64_t cluster = number % 4 == 0 ? number / 4 % 100 : number / 16;
    test_random centre = {cluster * 7919 + 1};
    test_random noise = {number * 31 + version * 1000003};

    test_random_fill(&centre, out->data, BYTES);
    out->bytes = here->metric == NPHD_METRIC_HAMMING ? BYTES : 8 * (1 + noise.state % 2);
    for (uint64_t flips = test_random_below(&noise, number % 4 == 0 ? 2 : 9); flips > 0; flips--) {
        const uint64_t bit = test_random_below(&noise, 8 * BYTES);
        out->data[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
}

static nphd_key key_of(const lab *here, uint64_t number)
{
    const nphd_key key = {here->key_bits == 128 ? number % 3 : 0,
                          here->multi ? number / 2 : number};

    return key;
}

/* ---- the answer ---- */

static int compare_matches(const void *a, const void *b)
{
    const nphd_match *x = a;
    const nphd_match *y = b;

    return x->distance < y->distance   ? -1
           : x->distance > y->distance ? 1
                                       : nphd_key_compare(x->key, y->key);
}

static size_t compare_all(const lab *here, nphd_vector query, float radius, nphd_match *out)
{
    size_t count = 0;

    for (uint64_t i = 0; i < VECTORS; i++) {
        const nphd_vector vector = {here->items[i].data, here->items[i].bytes};
        float distance = 0;
        uint32_t bits = 0;
        if (vector.bytes == 0) {
            continue;
        }
        if (here->metric == NPHD_METRIC_HAMMING) {
            OK(nphd_hamming(query, vector, &bits, NULL));
            distance = (float)bits;
        } else {
            OK(nphd_distance(query, vector, &distance, NULL));
        }
        if (distance <= radius) {
            const nphd_match match = {key_of(here, i), distance, 0};
            out[count++] = match;
        }
    }
    qsort(out, count, sizeof(*out), compare_matches);
    return count;
}

static void check(lab *here, nphd_sharded *sharded)
{
    static const nphd_search_plan plans[] = {NPHD_PLAN_SCAN, NPHD_PLAN_TABLES, NPHD_PLAN_AUTO};
    static nphd_match expected[VECTORS];
    static nphd_match found[MOST];
    test_random random = {test_seed()};

    for (uint64_t i = 0; i < QUERIES; i++) {
        item asked;
        make(here, test_random_below(&random, VECTORS), 7 + i, &asked);
        const nphd_vector query = {asked.data, asked.bytes};
        const bool within = i % 3 != 0;
        const float share = 0.02F * (float)(i + 1);
        const float radius = here->metric == NPHD_METRIC_HAMMING ? 8 * BYTES * share : share;
        const size_t most = within ? MOST : NEAREST;
        const size_t all = compare_all(here, query, within ? radius : 1e9F, expected);
        for (size_t plan = 0; plan < sizeof(plans) / sizeof(plans[0]); plan++) {
            nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
            nphd_search_report report;
            options.mode = NPHD_SEARCH_EXACT;
            options.plan = plans[plan];
            options.use_radius = within;
            options.radius = radius;
            options.threads = 1 + (uint32_t)(i % 2);
            OK(nphd_sharded_search(sharded, query, most, &options, found, &report, NULL));
            assert_int_equal(report.count, all < most ? all : most);
            assert_int_equal(report.more, within && all > most);
            here->by_tables += report.plan != NPHD_PLAN_SCAN ? 1 : 0;
            for (size_t j = 0; j < report.count; j++) {
                assert_int_equal(nphd_key_compare(found[j].key, expected[j].key), 0);
                assert_true(found[j].distance == expected[j].distance);
            }
        }
    }
}

/* ---- the life of a directory ---- */

static nphd_sharded *opened_with(const lab *here, const char *path, bool read_only, bool tables)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    nphd_sharded *sharded = NULL;
    nphd_error err = NPHD_ERROR_INIT;

    options.max_bits = 8 * BYTES;
    options.metric = here->metric;
    options.multi = here->multi ? 2 : 1;
    options.key_bits = here->key_bits;
    options.connectivity = 4;
    options.build_breadth = 8;
    options.shard_bytes = 1500000; /* some 18,000 vectors, enough for tables */
    options.tables = tables;
    options.read_only = read_only;
    options.io = memory_io_table(here->disk);
    if (nphd_sharded_open(path, &options, &sharded, &err) != NPHD_OK) {
        fail_msg("%s", err.text);
    }
    return sharded;
}

static nphd_sharded *opened(const lab *here, const char *path, bool read_only)
{
    return opened_with(here, path, read_only, true);
}

static void put(lab *here, nphd_sharded *sharded, uint64_t first, uint64_t end, uint64_t step,
                uint64_t version)
{
    for (uint64_t i = first; i < end; i += step) {
        const nphd_key key = key_of(here, i);
        make(here, i, version, &here->items[i]);
        const nphd_vector vector = {here->items[i].data, here->items[i].bytes};
        OK(version == 0 ? nphd_sharded_add(sharded, key, vector, NULL, NULL)
                        : nphd_sharded_upsert(sharded, &key, &vector, 1, NULL, NULL, NULL));
    }
}

static void drop(lab *here, nphd_sharded *sharded, uint64_t first, uint64_t step)
{
    for (uint64_t i = first; i < VECTORS; i += step) {
        const nphd_key key = key_of(here, i);
        OK(nphd_sharded_remove(sharded, &key, 1, NULL, NULL));
        here->items[i].bytes = 0;
    }
}

static void check_path(lab *here, const char *path, bool read_only)
{
    nphd_directory_report report;
    nphd_sharded *sharded = opened(here, path, read_only);

    check(here, sharded);
    OK(nphd_sharded_close(sharded, NULL));
    nphd_sharded_free(sharded);
    OK(nphd_directory_verify(path, memory_io_table(here->disk), NULL, NULL, &report, NULL));
}

static void live(nphd_metric metric, uint32_t key_bits, bool multi)
{
    lab here = {memory_io_create(1), metric, multi, key_bits, NULL, 0};
    nphd_salvage_report report;
    uint64_t removed = 0;
    bool changed = false;

    here.items = calloc(VECTORS, sizeof(*here.items));
    assert_non_null(here.items);
    nphd_sharded *sharded = opened(&here, "d", false);
    put(&here, sharded, 0, VECTORS, 1, 0);
    check(&here, sharded);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    nphd_sharded *reader = opened(&here, "d", true);
    check(&here, reader);
    if (!multi) { /* those cannot change what is in files */
        drop(&here, sharded, 3, 7);
        put(&here, sharded, 1, VECTORS, 5, 1);
    }
    check(&here, sharded);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    OK(nphd_sharded_refresh(reader, &changed, NULL));
    assert_true(changed || multi);
    check(&here, reader);
    OK(nphd_sharded_prepare(reader, 2, NULL));
    check(&here, reader);
    nphd_sharded_free(reader);
    OK(nphd_sharded_snapshot(sharded, "copy", NULL));
    check_path(&here, "copy", true);
    OK(nphd_directory_salvage("copy", "saved", memory_io_table(here.disk), NULL, NULL, &report,
                              NULL));
    check_path(&here, "saved", false);
    if (!multi) {
        drop(&here, sharded, 0, 2);
    }
    OK(nphd_sharded_compact(sharded, NULL, &removed, NULL));
    assert_true(removed > 0 || multi);
    check(&here, sharded);
    OK(nphd_sharded_prepare(sharded, 1, NULL));
    check(&here, sharded);
    OK(nphd_sharded_close(sharded, NULL));
    nphd_sharded_free(sharded);
    check_path(&here, "d", false);
    assert_true(here.by_tables > 0);
    free(here.items);
    memory_io_destroy(here.disk);
}

/* All shards on disk that are worth tables, of which there is one at least. */
static void large_have_tables(nphd_sharded *sharded)
{
    nphd_shard_info shards[64];
    size_t count = 0;
    size_t large = 0;

    OK(nphd_sharded_shards(sharded, shards, 64, &count, NULL));
    assert_true(count <= 64);
    for (size_t i = 0; i + 1 < count; i++) {
        if (shards[i].vectors >= 16384) {
            assert_true(shards[i].tables);
            large++;
        }
    }
    assert_true(large > 0);
}

static void test_compaction_keeps_tables(void **state)
{
    lab here = {memory_io_create(1), NPHD_METRIC_NPHD, false, 64, NULL, 0};
    uint64_t removed = 0;

    (void)state;
    here.items = calloc(VECTORS, sizeof(*here.items));
    assert_non_null(here.items);
    nphd_sharded *sharded = opened(&here, "d", false);
    put(&here, sharded, 0, VECTORS, 1, 0);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    large_have_tables(sharded);
    drop(&here, sharded, 0, 50);
    OK(nphd_sharded_compact(sharded, NULL, &removed, NULL));
    assert_true(removed > 0);
    large_have_tables(sharded);
    check(&here, sharded);
    OK(nphd_sharded_close(sharded, NULL));
    nphd_sharded_free(sharded);
    /* a writer that asks for none keeps those that are there */
    sharded = opened_with(&here, "d", false, false);
    large_have_tables(sharded);
    drop(&here, sharded, 1, 50);
    OK(nphd_sharded_compact(sharded, NULL, &removed, NULL));
    assert_true(removed > 0);
    large_have_tables(sharded);
    check(&here, sharded);
    OK(nphd_sharded_close(sharded, NULL));
    nphd_sharded_free(sharded);
    check_path(&here, "d", true);
    free(here.items);
    memory_io_destroy(here.disk);
}

static void test_nphd(void **state)
{
    (void)state;
    live(NPHD_METRIC_NPHD, 64, false);
}

static void test_wide_keys(void **state)
{
    (void)state;
    if (is_small()) {
        skip();
    }
    live(NPHD_METRIC_HAMMING, 128, false);
}

static void test_multi(void **state)
{
    (void)state;
    if (is_small()) {
        skip();
    }
    live(NPHD_METRIC_NPHD, 64, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nphd), cmocka_unit_test(test_compaction_keeps_tables),
        cmocka_unit_test(test_wide_keys), cmocka_unit_test(test_multi)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
