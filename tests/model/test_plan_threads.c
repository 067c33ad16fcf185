/* Many threads on an index with hash tables, and on a sharded one: searches by every plan, adders,
 * removers, upserters, joins, saves, and a thread that prepares again and again. Checked is what
 * holds at every moment:
 *   - vectors that nobody touches, in clusters, are found within a radius, by every plan;
 *   - the nearest are as many as asked for, no key twice, and none farther than what stays;
 *   - a join finds the pairs of those that nobody touches, once.
 * For the thread sanitizer above all (preset tsan). A check that fails in a thread ends the
 * program. NPHD_TEST_SCALE=small shortens the run. */
#include "support/io_memory.h"
#include "support/test_random.h"

#include <nphd/nphd.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Seconds after which a call has hung. */
#define PATIENCE_SECONDS 280

#define RADIUS 0.08F

enum {
    BYTES = 16,
    CLUSTER = 8,
    STILL = 20000, /* keys 0.. that nobody touches: enough for tables */
    UPSERTED = 64, /* keys from FIRST_UPSERTED on with one of two vectors */
    FIRST_UPSERTED = 100000,
    FIRST_MOVING = 200000, /* keys that come, and many of which go */
    BATCH = 50,
    MOST = 4000 /* matches */
};

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                  \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

typedef struct crowd {
    nphd_index *index; /* or the other */
    nphd_sharded *sharded;
    memory_io *disk;
    uint64_t seed;
    uint64_t rounds;
    _Atomic int changers;
    _Atomic uint64_t by_tables;
    _Atomic uint64_t prepared;
    _Atomic bool stop;
} crowd;

static bool is_small(void)
{
    const char *scale = getenv("NPHD_TEST_SCALE");

    return scale != NULL && strcmp(scale, "small") == 0;
}

/* At most 4 of 64 or more bits from the centre of the cluster, so within RADIUS of it. */
static nphd_vector vector_of(uint64_t key, uint64_t version, uint8_t room[BYTES])
{
    test_random centre = {key % STILL / CLUSTER * 7919 + 1};
    test_random noise = {key * 31 + version};
    const nphd_vector vector = {room, test_random_below(&noise, 3) == 0 ? BYTES / 2 : BYTES};

    test_random_fill(&centre, room, BYTES);
    for (uint64_t flips = test_random_below(&noise, 5); flips > 0; flips--) {
        const uint64_t bit = test_random_below(&noise, 8 * vector.bytes);
        room[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
    return vector;
}

/* ---- either kind of index ---- */

static nphd_status search(crowd *all, nphd_vector query, size_t capacity,
                          const nphd_search_options *options, nphd_match *out,
                          nphd_search_report *report)
{
    return all->index != NULL
               ? nphd_index_search(all->index, query, capacity, options, out, report, NULL)
               : nphd_sharded_search(all->sharded, query, capacity, options, out, report, NULL);
}

static void upsert(crowd *all, const nphd_key *keys, const nphd_vector *vectors)
{
    nphd_upsert_counts counts;

    CHECK((all->index != NULL
               ? nphd_index_upsert(all->index, keys, vectors, BATCH, NULL, &counts, NULL)
               : nphd_sharded_upsert(all->sharded, keys, vectors, BATCH, NULL, &counts, NULL)) ==
          NPHD_OK);
}

static void add_range(crowd *all, uint64_t first, uint64_t count)
{
    nphd_key *keys = malloc(count * sizeof(*keys));
    nphd_vector *vectors = malloc(count * sizeof(*vectors));
    uint8_t(*rooms)[BYTES] = malloc(count * sizeof(*rooms));
    nphd_batch_options options = NPHD_BATCH_OPTIONS_INIT;
    size_t added = 0;

    CHECK(keys != NULL && vectors != NULL && rooms != NULL);
    options.threads = 2;
    for (uint64_t i = 0; i < count; i++) {
        keys[i] = nphd_key_u64(first + i);
        vectors[i] = vector_of(first + i, 0, rooms[i]);
    }
    CHECK((all->index != NULL
               ? nphd_index_add_many(all->index, keys, vectors, count, &options, NULL, &added, NULL)
               : nphd_sharded_add_many(all->sharded, keys, vectors, count, &options, NULL, &added,
                                       NULL)) == NPHD_OK);
    CHECK(added == count);
    free(keys);
    free(vectors);
    free(rooms);
}

/* ---- looking ---- */

static int compare_keys(const void *a, const void *b)
{
    return nphd_key_compare(((const nphd_match *)a)->key, ((const nphd_match *)b)->key);
}

/* Returns how many of the cluster that stay are there. */
static size_t check_matches(nphd_match *matches, size_t count, uint64_t cluster)
{
    size_t still = 0;

    for (size_t i = 1; i < count; i++) {
        CHECK(matches[i - 1].distance <= matches[i].distance);
    }
    qsort(matches, count, sizeof(*matches), compare_keys);
    for (size_t i = 0; i < count; i++) {
        CHECK(i == 0 || nphd_key_compare(matches[i - 1].key, matches[i].key) != 0);
        still += matches[i].key.low / CLUSTER == cluster && matches[i].key.low < STILL ? 1 : 0;
    }
    return still;
}

static void *searcher_main(void *argument)
{
    static const nphd_search_plan plans[] = {NPHD_PLAN_AUTO, NPHD_PLAN_SCAN, NPHD_PLAN_TABLES,
                                             NPHD_PLAN_TABLES};
    crowd *all = argument;
    test_random random = {all->seed + 1};
    nphd_match *found = malloc(MOST * sizeof(*found));

    CHECK(found != NULL);
    for (uint64_t round = 0; !atomic_load(&all->stop); round++) {
        const uint64_t cluster = test_random_below(&random, STILL / CLUSTER);
        nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
        nphd_search_report report;
        uint8_t room[BYTES];
        nphd_vector query = {room, BYTES};
        test_random centre = {cluster * 7919 + 1};
        test_random_fill(&centre, room, BYTES);
        options.plan = plans[round % 4];
        options.threads = round % 5 == 0 ? 2 : 1;
        options.mode = NPHD_SEARCH_EXACT;
        options.use_radius = round % 3 != 0;
        options.radius = RADIUS;
        if (round % 8 == 4) { /* along the graph, and proved by the tables */
            options.mode = NPHD_SEARCH_AUTO;
            options.budget = 3;
        }
        CHECK(search(all, query, options.use_radius ? MOST : CLUSTER, &options, found, &report) ==
              NPHD_OK);
        if (report.plan == NPHD_PLAN_TABLES) {
            (void)atomic_fetch_add(&all->by_tables, 1);
        }
        if (options.use_radius) {
            CHECK(!report.exact || check_matches(found, report.count, cluster) == CLUSTER);
        } else {
            CHECK(report.count == CLUSTER);
            CHECK(!report.exact || found[CLUSTER - 1].distance <= RADIUS);
            (void)check_matches(found, report.count, cluster);
        }
    }
    free(found);
    return NULL;
}

typedef struct pairs {
    uint64_t still;
} pairs;

static int count_pairs(void *context, const nphd_pair *found, size_t count)
{
    pairs *of = context;

    for (size_t i = 0; i < count; i++) {
        of->still += found[i].left.low < STILL && found[i].right.low < STILL &&
                             found[i].left.low / CLUSTER == found[i].right.low / CLUSTER
                         ? 1
                         : 0;
    }
    return 0;
}

/* Two of a cluster are at most 8 of 64 bits from each other. */
static void *joiner_main(void *argument)
{
    crowd *all = argument;
    const nphd_join_side side = {all->index, all->sharded};
    nphd_join_options options = NPHD_JOIN_OPTIONS_INIT;
    nphd_join_report report;

    options.threads = 2;
    options.batch = 256;
    do {
        pairs of = {0};
        CHECK(nphd_join(&side, NULL, 0.125F, &options, count_pairs, &of, &report, NULL) == NPHD_OK);
        CHECK(of.still == (uint64_t)STILL / CLUSTER * CLUSTER * (CLUSTER - 1) / 2);
    } while (!atomic_load(&all->stop) && !is_small());
    return NULL;
}

/* ---- changing ---- */

static void *upserter_main(void *argument)
{
    crowd *all = argument;
    test_random random = {all->seed + 2};

    for (uint64_t round = 0; round < all->rounds; round++) {
        nphd_key keys[BATCH];
        nphd_vector vectors[BATCH];
        uint8_t rooms[BATCH][BYTES];
        const uint64_t first = test_random_below(&random, UPSERTED);
        for (uint64_t i = 0; i < BATCH; i++) {
            const uint64_t key = FIRST_UPSERTED + (first + i) % UPSERTED;
            keys[i] = nphd_key_u64(key);
            vectors[i] = vector_of(key, test_random_below(&random, 2), rooms[i]);
        }
        upsert(all, keys, vectors);
    }
    (void)atomic_fetch_sub(&all->changers, 1);
    return NULL;
}

static void *mover_main(void *argument)
{
    crowd *all = argument;

    for (uint64_t round = 0; round < all->rounds; round++) {
        const uint64_t first = FIRST_MOVING + round * 2 * BATCH;
        add_range(all, first, (uint64_t)2 * BATCH);
        for (uint64_t i = 0; i < BATCH; i++) {
            const nphd_key gone = nphd_key_u64(first + 2 * i);
            CHECK((all->index != NULL
                       ? nphd_index_remove(all->index, &gone, 1, NULL, NULL)
                       : nphd_sharded_remove(all->sharded, &gone, 1, NULL, NULL)) == NPHD_OK);
        }
    }
    (void)atomic_fetch_sub(&all->changers, 1);
    return NULL;
}

static void *preparer_main(void *argument)
{
    crowd *all = argument;

    while (!atomic_load(&all->stop)) {
        CHECK((all->index != NULL ? nphd_index_prepare(all->index, 2, NULL)
                                  : nphd_sharded_prepare(all->sharded, 2, NULL)) == NPHD_OK);
        (void)atomic_fetch_add(&all->prepared, 1);
        (void)usleep(2000);
    }
    return NULL;
}

static void *saver_main(void *argument)
{
    crowd *all = argument;

    for (uint64_t round = 0; !atomic_load(&all->stop); round++) {
        if (all->index != NULL) {
            CHECK(nphd_index_save(all->index, "plans.usearch", NULL, NULL) == NPHD_OK);
        } else if (round % 4 == 3) {
            CHECK(nphd_sharded_compact(all->sharded, NULL, NULL, NULL) == NPHD_OK);
        } else {
            CHECK(nphd_sharded_save(all->sharded, NULL, NULL) == NPHD_OK);
        }
        (void)usleep(5000);
    }
    return NULL;
}

/* ---- runs ---- */

static void run(crowd *all)
{
    static void *(*const mains[])(void *) = {searcher_main, searcher_main, joiner_main, saver_main,
                                             preparer_main, upserter_main, mover_main};
    enum { THREADS = sizeof(mains) / sizeof(mains[0]) };
    pthread_t threads[THREADS];

    all->rounds = is_small() ? 20 : 150;
    add_range(all, 0, STILL);
    add_range(all, FIRST_UPSERTED, UPSERTED);
    atomic_store(&all->changers, 2);
    for (size_t i = 0; i < THREADS; i++) {
        CHECK(pthread_create(&threads[i], NULL, mains[i], all) == 0);
    }
    while (atomic_load(&all->changers) > 0 || atomic_load(&all->prepared) < 2 ||
           atomic_load(&all->by_tables) < 20) {
        (void)usleep(1000);
    }
    atomic_store(&all->stop, true);
    for (size_t i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
}

static void crowd_begin(crowd *all)
{
    memset(all, 0, sizeof(*all));
    all->seed = test_seed();
    all->disk = memory_io_create(all->seed);
}

static void crowd_end(crowd *all)
{
    CHECK(memory_io_open_files(all->disk) == 0 && memory_io_maps(all->disk) == 0);
    memory_io_destroy(all->disk);
}

static void test_index(void **state)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    crowd all;

    (void)state;
    crowd_begin(&all);
    options.max_bits = 8 * BYTES;
    options.connectivity = 4;
    options.build_breadth = 8;
    options.io = memory_io_table(all.disk);
    assert_int_equal(nphd_index_create(&options, &all.index, NULL), NPHD_OK);
    run(&all);
    nphd_index_close(all.index);
    crowd_end(&all);
}

static void test_sharded(void **state)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    nphd_directory_report report;
    crowd all;

    (void)state;
    crowd_begin(&all);
    options.max_bits = 8 * BYTES;
    options.connectivity = 4;
    options.build_breadth = 8;
    options.shard_bytes = 1500000; /* some 18,000 vectors, enough for tables */
    options.background_rotation = true;
    options.tables = true;
    options.io = memory_io_table(all.disk);
    assert_int_equal(nphd_sharded_open("plans", &options, &all.sharded, NULL), NPHD_OK);
    run(&all);
    assert_int_equal(nphd_sharded_close(all.sharded, NULL), NPHD_OK);
    nphd_sharded_free(all.sharded);
    assert_int_equal(nphd_directory_verify("plans", options.io, NULL, NULL, &report, NULL),
                     NPHD_OK);
    crowd_end(&all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_index),
                                       cmocka_unit_test(test_sharded)};

    (void)alarm(PATIENCE_SECONDS);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
