/* Many threads on one index: adders, removers, upserters, renames, searches, lookups, cursors,
 * saves, stats and isolate at the same time. What is checked holds at every moment:
 *   - vectors that nobody touches are found by every lookup, search, cursor and saved file;
 *   - an upserted key has its old vector or its new one, never none, never both;
 *   - a renamed vector is there under one of its names, once.
 * Run under the thread sanitizer, too (preset tsan). A check that fails in a thread ends the
 * program. NPHD_TEST_SCALE=small shortens the run. */
#include "support/index_model.h"
#include "support/io_memory.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define PATH "threads.usearch"
#define VECTOR_BYTES 8

/* Seconds after which a call has hung. */
#define PATIENCE_SECONDS 280

enum {
    STILL = 40,    /* keys 0.. that nobody touches */
    UPSERTED = 10, /* keys FIRST_UPSERTED.. with one of two vectors */
    FIRST_UPSERTED = 100,
    NAME_ONE = 200, /* a vector that goes from one name to the other */
    NAME_TWO = 201,
    FIRST_MOVING = 1000, /* keys that come and go */
    MOVING = 60,
    BATCH = 10
};

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                  \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static bool is_small(void)
{
    const char *scale = getenv("NPHD_TEST_SCALE");

    return scale != NULL && strcmp(scale, "small") == 0;
}

/* The vector that a key has in one of its versions; near to each other, so that lists fill up. */
static nphd_vector vector_of(uint64_t key, uint64_t version, uint8_t room[VECTOR_BYTES])
{
    test_random random = {key * 2 + version};
    nphd_vector vector = {room, VECTOR_BYTES - (version + key) % 3};

    memset(room, 0x3c, VECTOR_BYTES);
    for (int i = 0; i < 10; i++) {
        const uint64_t bit = test_random_below(&random, 8 * vector.bytes);
        room[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
    return vector;
}

static bool is_version(uint64_t key, const uint8_t *data, size_t bytes)
{
    uint8_t room[VECTOR_BYTES];

    for (uint64_t version = 0; version < 2; version++) {
        const nphd_vector vector = vector_of(key, version, room);
        if (vector.bytes == bytes && memcmp(data, room, bytes) == 0) {
            return true;
        }
    }
    return false;
}

/* ---- all at once ---- */

typedef struct crowd {
    nphd_index *index;
    memory_io *disk;
    _Atomic bool stop;
    uint64_t seed;
    uint64_t rounds; /* of the threads that change things */
    _Atomic int changers;
} crowd;

/* What one look at everything found. */
typedef struct census {
    uint32_t still[STILL];
    uint32_t upserted[UPSERTED];
    uint32_t named;
} census;

static void census_count(census *found, nphd_key key)
{
    if (key.low < STILL) {
        found->still[key.low]++;
    } else if (key.low >= FIRST_UPSERTED && key.low < FIRST_UPSERTED + UPSERTED) {
        found->upserted[key.low - FIRST_UPSERTED]++;
    } else if (key.low == NAME_ONE || key.low == NAME_TWO) {
        found->named++;
    } else {
        CHECK(key.low >= FIRST_MOVING && key.low < FIRST_MOVING + 4 * MOVING);
    }
}

/* `at_once`: the look was at one moment. */
static void census_check(const census *found, bool at_once)
{
    for (size_t i = 0; i < STILL; i++) {
        CHECK(found->still[i] == 1);
    }
    for (size_t i = 0; at_once && i < UPSERTED; i++) {
        CHECK(found->upserted[i] == 1);
    }
    CHECK(!at_once || found->named == 1);
}

/* Every vector, by an exact search that has room for all. */
static void look_by_search(nphd_index *index, test_random *random, uint32_t threads)
{
    enum { ROOM = STILL + UPSERTED + 4 * MOVING + 50 };
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_match *found = malloc(2 * ROOM * sizeof(*found));
    nphd_search_report reports[2];
    uint8_t rooms[2][VECTOR_BYTES];
    nphd_vector queries[2];
    census seen;

    CHECK(found != NULL);
    options.mode = NPHD_SEARCH_EXACT;
    options.threads = threads;
    queries[0] = vector_of(test_random_below(random, STILL), 0, rooms[0]);
    queries[1] = vector_of(FIRST_UPSERTED + test_random_below(random, UPSERTED), 0, rooms[1]);
    CHECK(nphd_index_search_many(index, queries, 2, ROOM, &options, found, reports, NULL) ==
          NPHD_OK);
    for (size_t q = 0; q < 2; q++) {
        memset(&seen, 0, sizeof(seen));
        for (size_t i = 0; i < reports[q].count; i++) {
            const nphd_match *match = &found[q * ROOM + i];
            bool right = false;
            census_count(&seen, match->key);
            for (uint64_t version = 0; version < 2 && !right; version++) {
                uint8_t room[VECTOR_BYTES];
                const uint64_t key = match->key.low == NAME_TWO ? NAME_ONE : match->key.low;
                float distance = 0;
                CHECK(nphd_distance(queries[q], vector_of(key, version, room), &distance, NULL) ==
                      NPHD_OK);
                right = distance == match->distance;
            }
            CHECK(right);
            CHECK(i == 0 || match[-1].distance <= match->distance);
        }
        census_check(&seen, true);
    }
    free(found);
}

static void look_by_graph(nphd_index *index, test_random *random)
{
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_match found[20];
    nphd_search_report report;
    uint8_t room[VECTOR_BYTES];

    options.mode = NPHD_SEARCH_APPROXIMATE;
    CHECK(nphd_index_search(index, vector_of(test_random_below(random, STILL), 0, room), 20,
                            &options, found, &report, NULL) == NPHD_OK);
    CHECK(report.count <= 20);
    for (size_t i = 1; i < report.count; i++) {
        CHECK(found[i - 1].distance <= found[i].distance);
        for (size_t j = 0; j < i; j++) {
            CHECK(nphd_key_compare(found[i].key, found[j].key) != 0);
        }
    }
}

static void look_by_key(nphd_index *index, test_random *random)
{
    const uint64_t still = test_random_below(random, STILL);
    const uint64_t upserted = FIRST_UPSERTED + test_random_below(random, UPSERTED);
    uint8_t data[VECTOR_BYTES];
    uint8_t room[VECTOR_BYTES];
    size_t bytes = 0;
    bool there = false;
    const nphd_vector right = vector_of(still, 0, room);

    CHECK(nphd_index_get(index, nphd_key_u64(still), data, sizeof(data), &bytes, NULL) == NPHD_OK);
    CHECK(bytes == right.bytes && memcmp(data, room, bytes) == 0);
    CHECK(nphd_index_contains(index, nphd_key_u64(upserted), &there, NULL) == NPHD_OK && there);
    CHECK(nphd_index_get(index, nphd_key_u64(upserted), data, sizeof(data), &bytes, NULL) ==
          NPHD_OK);
    CHECK(is_version(upserted, data, bytes));
}

static void look_by_cursor(nphd_index *index, bool at_once)
{
    nphd_cursor cursor = nphd_index_cursor(index);
    uint8_t data[VECTOR_BYTES];
    nphd_key key;
    size_t bytes = 0;
    census seen;

    memset(&seen, 0, sizeof(seen));
    while (nphd_cursor_next(&cursor, &key, data, &bytes, NULL) == NPHD_OK) {
        CHECK(is_version(key.low == NAME_TWO ? NAME_ONE : key.low, data, bytes));
        census_count(&seen, key);
    }
    census_check(&seen, at_once);
}

static void *searcher_main(void *argument)
{
    crowd *all = argument;
    test_random random = {all->seed + 1};

    while (!atomic_load(&all->stop)) {
        look_by_search(all->index, &random, 1 + (uint32_t)test_random_below(&random, 2));
        look_by_graph(all->index, &random);
        look_by_graph(all->index, &random);
    }
    return NULL;
}

static void *reader_main(void *argument)
{
    crowd *all = argument;
    test_random random = {all->seed + 2};

    while (!atomic_load(&all->stop)) {
        nphd_index_stats stats = NPHD_INDEX_STATS_INIT;
        for (int i = 0; i < 20; i++) {
            look_by_key(all->index, &random);
        }
        look_by_cursor(all->index, false);
        CHECK(nphd_index_get_stats(all->index, &stats, NULL) == NPHD_OK);
        CHECK(stats.size >= STILL + UPSERTED + 1);
    }
    return NULL;
}

static void check_file(const crowd *all)
{
    nphd_open_options options = NPHD_OPEN_OPTIONS_INIT;
    nphd_index *saved = NULL;
    nphd_error err = NPHD_ERROR_INIT;
    test_random random = {all->seed};

    options.io = memory_io_table(all->disk);
    if (nphd_index_restore(PATH, false, &options, &saved, &err) != NPHD_OK) {
        (void)fprintf(stderr, "a file saved between changes: %s\n", err.text);
        abort();
    }
    look_by_search(saved, &random, 1);
    look_by_cursor(saved, true);
    nphd_index_close(saved);
}

static void *saver_main(void *argument)
{
    crowd *all = argument;

    while (!atomic_load(&all->stop)) {
        CHECK(nphd_index_save(all->index, PATH, NULL, NULL) == NPHD_OK);
        check_file(all);
        CHECK(nphd_index_isolate(all->index, NULL) == NPHD_OK);
        for (int i = 0; i < 20; i++) {
            (void)sched_yield();
        }
    }
    return NULL;
}

/* Adds and removes keys of its own, in batches by two threads. */
static void *mover_main(void *argument)
{
    static _Atomic uint64_t numbers;
    crowd *all = argument;
    const uint64_t number = atomic_fetch_add(&numbers, 1) % 4;
    const uint64_t first = FIRST_MOVING + number * MOVING;
    test_random random = {all->seed + 10 + number};
    nphd_batch_options options = NPHD_BATCH_OPTIONS_INIT;
    uint8_t rooms[BATCH][VECTOR_BYTES];
    nphd_vector vectors[BATCH];
    nphd_key keys[BATCH];

    for (uint64_t round = 0; round < all->rounds; round++) {
        size_t changed = 0;
        for (size_t i = 0; i < BATCH; i++) {
            const uint64_t key = first + test_random_below(&random, MOVING);
            keys[i] = nphd_key_u64(key);
            vectors[i] = vector_of(key, test_random_below(&random, 2), rooms[i]);
        }
        options.threads = 1 + round % 2;
        CHECK(nphd_index_add_many(all->index, keys, vectors, BATCH, &options, NULL, &changed,
                                  NULL) == NPHD_OK);
        for (size_t i = 0; i < BATCH; i++) {
            bool there = false;
            CHECK(nphd_index_contains(all->index, keys[i], &there, NULL) == NPHD_OK && there);
        }
        CHECK(nphd_index_remove(all->index, keys, test_random_below(&random, BATCH + 1), &changed,
                                NULL) == NPHD_OK);
    }
    (void)atomic_fetch_sub(&all->changers, 1);
    return NULL;
}

static void *upserter_main(void *argument)
{
    crowd *all = argument;
    test_random random = {all->seed + 5};
    nphd_batch_options options = NPHD_BATCH_OPTIONS_INIT;
    uint8_t rooms[BATCH][VECTOR_BYTES];
    nphd_vector vectors[BATCH];
    nphd_key keys[BATCH];
    nphd_key name = nphd_key_u64(NAME_ONE);

    for (uint64_t round = 0; round < all->rounds; round++) {
        nphd_upsert_counts counts;
        const nphd_key next = nphd_key_u64(NAME_ONE + NAME_TWO - name.low);
        for (size_t i = 0; i < BATCH; i++) {
            const uint64_t key = FIRST_UPSERTED + test_random_below(&random, UPSERTED);
            keys[i] = nphd_key_u64(key);
            vectors[i] = vector_of(key, test_random_below(&random, 2), rooms[i]);
        }
        options.threads = 1 + round % 2;
        CHECK(nphd_index_upsert(all->index, keys, vectors, BATCH, &options, &counts, NULL) ==
              NPHD_OK);
        CHECK(counts.added == 0);
        CHECK(nphd_index_rename(all->index, name, next, NULL) == NPHD_OK);
        name = next;
    }
    (void)atomic_fetch_sub(&all->changers, 1);
    return NULL;
}

static void test_everything_at_once(void **state)
{
    static void *(*const mains[])(void *) = {searcher_main, reader_main, saver_main,   mover_main,
                                             mover_main,    mover_main,  upserter_main};
    enum { THREADS = sizeof(mains) / sizeof(mains[0]), CHANGERS = 4 };
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    pthread_t threads[THREADS];
    uint8_t room[VECTOR_BYTES];
    crowd all;

    memset(&all, 0, sizeof(all));
    all.seed = *(uint64_t *)*state;
    all.rounds = is_small() ? 60 : 800;
    atomic_store(&all.changers, CHANGERS);
    all.disk = memory_io_create(all.seed);
    options.max_bits = 8 * VECTOR_BYTES;
    options.connectivity = 2; /* half of all nodes are on upper levels */
    options.build_breadth = 8;
    options.io = memory_io_table(all.disk);
    assert_int_equal(nphd_index_create(&options, &all.index, NULL), NPHD_OK);
    for (uint64_t key = 0; key < NAME_TWO; key++) {
        if (key < STILL || (key >= FIRST_UPSERTED && key < FIRST_UPSERTED + UPSERTED) ||
            key == NAME_ONE) {
            assert_int_equal(
                nphd_index_add(all.index, nphd_key_u64(key), vector_of(key, 0, room), NULL, NULL),
                NPHD_OK);
        }
    }
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, mains[i], &all), 0);
    }
    while (atomic_load(&all.changers) > 0) {
        (void)usleep(1000);
    }
    atomic_store(&all.stop, true);
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_int_equal(nphd_index_save(all.index, PATH, NULL, NULL), NPHD_OK);
    check_file(&all);
    nphd_index_close(all.index);
    assert_int_equal(memory_io_mistakes(all.disk), 0);
    memory_io_destroy(all.disk);
}

/* ---- only adding: lists of upper levels under many hands ---- */

enum { GROW_THREADS = 4, GROW_BATCH = 100 };

typedef struct grower {
    nphd_index *index;
    uint64_t first;
    uint64_t count;
} grower;

static void *grower_main(void *argument)
{
    const grower *work = argument;
    uint8_t rooms[GROW_BATCH][VECTOR_BYTES];
    nphd_vector vectors[GROW_BATCH];
    nphd_key keys[GROW_BATCH];

    for (uint64_t done = 0; done < work->count; done += GROW_BATCH) {
        size_t added = 0;
        for (size_t i = 0; i < GROW_BATCH; i++) {
            keys[i] = nphd_key_u64(work->first + done + i);
            vectors[i] = vector_of(keys[i].low, 0, rooms[i]);
        }
        CHECK(nphd_index_add_many(work->index, keys, vectors, GROW_BATCH, NULL, NULL, &added,
                                  NULL) == NPHD_OK);
        CHECK(added == GROW_BATCH);
    }
    return NULL;
}

/* Links must lead to nodes of their level, whoever wrote which list meanwhile: loading checks it.
 */
static void test_growing_from_many_threads(void **state)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    const uint64_t each = is_small() ? 500 : 10000;
    nphd_error err = NPHD_ERROR_INIT;
    grower growers[GROW_THREADS];
    pthread_t threads[GROW_THREADS];
    nphd_index *index = NULL;
    size_t bytes = 0;

    (void)state;
    options.max_bits = 8 * VECTOR_BYTES;
    options.connectivity = 2;
    options.build_breadth = 4;
    assert_int_equal(nphd_index_create(&options, &index, NULL), NPHD_OK);
    for (size_t i = 0; i < GROW_THREADS; i++) {
        growers[i].index = index;
        growers[i].first = i * each;
        growers[i].count = each;
        assert_int_equal(pthread_create(&threads[i], NULL, grower_main, &growers[i]), 0);
    }
    for (size_t i = 0; i < GROW_THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_int_equal(nphd_index_size(index), GROW_THREADS * each);
    assert_int_equal(nphd_index_save_buffer(index, NULL, 0, &bytes, NULL), NPHD_OK);
    uint8_t *data = malloc(bytes);
    assert_non_null(data);
    assert_int_equal(nphd_index_save_buffer(index, data, bytes, &bytes, NULL), NPHD_OK);
    if (nphd_index_load_buffer(index, data, bytes, NULL, &err) != NPHD_OK) {
        fail_msg("%s", err.text);
    }
    free(data);
    nphd_index_close(index);
}

/* ---- batches that overlap ---- */

/* A thread that does one thing once it is told to, and tells when it is done. */
typedef struct helper {
    nphd_index *index;
    _Atomic int told;
    _Atomic int done;
    uint64_t first;
    size_t count;
} helper;

static void helper_wait(const _Atomic int *flag)
{
    while (atomic_load(flag) == 0) {
        (void)usleep(100);
    }
}

static void add_some(nphd_index *index, uint64_t first, size_t count,
                     const nphd_batch_options *options)
{
    nphd_key keys[64];
    nphd_vector vectors[64];
    uint8_t rooms[64][VECTOR_BYTES];
    size_t added = 0;

    CHECK(count <= 64);
    for (size_t i = 0; i < count; i++) {
        keys[i] = nphd_key_u64(first + i);
        vectors[i] = vector_of(first + i, 0, rooms[i]);
    }
    CHECK(nphd_index_add_many(index, keys, vectors, count, options, NULL, &added, NULL) == NPHD_OK);
    CHECK(added == count);
}

static void *helper_main(void *argument)
{
    helper *other = argument;

    helper_wait(&other->told);
    add_some(other->index, other->first, other->count, NULL);
    atomic_store(&other->done, 1);
    return NULL;
}

static int let_helper_add(void *context, uint64_t done, uint64_t total)
{
    helper *other = context;

    (void)done;
    (void)total;
    atomic_store(&other->told, 1);
    helper_wait(&other->done);
    return 0;
}

/* One batch has its place and is being linked while another comes and goes: both must have room
 * in the key map. */
static void test_room_for_overlapping_batches(void **state)
{
    nphd_batch_options options = NPHD_BATCH_OPTIONS_INIT;

    (void)state;
    for (size_t mine = 2; mine < 64; mine += 5) {
        for (size_t others = 1; others < 64; others += 9) {
            nphd_index *index = NULL;
            helper other;
            pthread_t thread;
            bool there = false;
            memset(&other, 0, sizeof(other));
            assert_int_equal(nphd_index_create(NULL, &index, NULL), NPHD_OK);
            /* room for the arrays, which would move while nobody adds, and none in the key map */
            assert_int_equal(nphd_index_reserve(index, mine + others, NULL), NPHD_OK);
            assert_int_equal(nphd_index_clear(index, NULL), NPHD_OK);
            other.index = index;
            other.first = 1000;
            other.count = others;
            assert_int_equal(pthread_create(&thread, NULL, helper_main, &other), 0);
            options.progress = let_helper_add;
            options.progress_context = &other;
            add_some(index, 0, mine, &options);
            assert_int_equal(pthread_join(thread, NULL), 0);
            assert_int_equal(nphd_index_size(index), mine + others);
            for (uint64_t key = 0; key < mine; key++) {
                assert_int_equal(nphd_index_contains(index, nphd_key_u64(key), &there, NULL),
                                 NPHD_OK);
                assert_true(there);
            }
            nphd_index_close(index);
        }
    }
}

static bool let_helper_add_once(void *context, nphd_key key)
{
    (void)key;
    (void)let_helper_add(context, 0, 0);
    return true;
}

/* An exact search with more room than there are vectors finds all that are there, also when
 * others are added while it runs. */
static void test_search_while_the_index_grows(void **state)
{
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_index *index = NULL;
    helper other;
    pthread_t thread;
    nphd_match found[2][100];
    nphd_search_report reports[2];
    uint8_t rooms[2][VECTOR_BYTES];
    nphd_vector queries[2];

    (void)state;
    assert_int_equal(nphd_index_create(NULL, &index, NULL), NPHD_OK);
    /* the filter waits for an add, which must not have to wait for the search */
    assert_int_equal(nphd_index_reserve(index, 45, NULL), NPHD_OK);
    add_some(index, 0, 5, NULL);
    memset(&other, 0, sizeof(other));
    other.index = index;
    other.first = 50;
    other.count = 40;
    assert_int_equal(pthread_create(&thread, NULL, helper_main, &other), 0);
    options.mode = NPHD_SEARCH_EXACT;
    options.filter = let_helper_add_once;
    options.filter_context = &other;
    queries[0] = vector_of(60, 0, rooms[0]);
    queries[1] = vector_of(61, 0, rooms[1]);
    assert_int_equal(
        nphd_index_search_many(index, queries, 2, 100, &options, found[0], reports, NULL), NPHD_OK);
    assert_int_equal(pthread_join(thread, NULL), 0);
    for (size_t q = 0; q < 2; q++) {
        size_t still = 0;
        for (size_t i = 0; i < reports[q].count; i++) {
            still += found[q][i].key.low < 5 ? 1 : 0;
        }
        assert_int_equal(still, 5);
    }
    nphd_index_close(index);
}

int main(void)
{
    uint64_t seed = test_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_search_while_the_index_grows),
        cmocka_unit_test_prestate(test_everything_at_once, &seed),
        cmocka_unit_test(test_growing_from_many_threads),
        cmocka_unit_test(test_room_for_overlapping_batches),
    };

    (void)alarm(PATIENCE_SECONDS);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
