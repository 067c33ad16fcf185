/* Many threads on one sharded index: adders, removers, upserters, searches, lookups, cursors,
 * saves, rotations, compactions, stats, and a close in the midst of them. What is checked holds at
 * every moment:
 *   - vectors that nobody touches are found by every lookup, search and cursor, once;
 *   - an upserted key has its old vector or its new one, never none, never both;
 *   - keys that nobody adds are never found;
 *   - what a call acknowledged is there after the index was closed and opened again.
 * Run under the thread sanitizer, too (preset tsan). A check that fails in a thread ends the
 * program. NPHD_TEST_SCALE=small shortens the run. */
#include "support/io_memory.h"
#include "support/test_random.h"

#include <nphd/nphd.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define DIRECTORY "dir/threads"
#define VECTOR_BYTES 8

/* Seconds after which a call has hung. */
#define PATIENCE_SECONDS 280

enum {
    STILL = 40,    /* keys 0.. that nobody touches */
    UPSERTED = 10, /* keys FIRST_UPSERTED.. with one of two vectors */
    FIRST_UPSERTED = 100,
    FIRST_MOVING = 1000, /* keys that come and go */
    MOVING = 60,
    MOVERS = 2,
    FIRST_NEVER = 5000, /* keys that nobody adds */
    BATCH = 10,
    ROOM = STILL + UPSERTED + MOVERS * MOVING + 50
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

static bool is_version(uint64_t key, uint64_t version, const uint8_t *data, size_t bytes)
{
    uint8_t room[VECTOR_BYTES];
    const nphd_vector vector = vector_of(key, version, room);

    return vector.bytes == bytes && memcmp(data, room, bytes) == 0;
}

/* ---- the crowd ---- */

typedef struct mover {
    struct crowd *all;
    uint64_t number;
    bool there[MOVING]; /* what was acknowledged */
    uint64_t version[MOVING];
} mover;

typedef struct crowd {
    nphd_sharded *sharded;
    memory_io *disk;
    nphd_sharded_options options;
    uint64_t seed;
    uint64_t rounds;      /* of the threads that change things; 0: until the index is closed */
    _Atomic bool closing; /* calls may answer NPHD_CLOSED */
    _Atomic bool stop;
    _Atomic int changers;
    mover movers[MOVERS];
    uint64_t upserted[UPSERTED]; /* versions that were acknowledged */
    _Atomic uint64_t looks;      /* by search, lookup and cursor */
} crowd;

/* A call was done; false: the index is closed, and rightly so. */
static bool is_done(const crowd *all, nphd_status status, const nphd_error *err)
{
    if (status == NPHD_CLOSED && atomic_load(&all->closing)) {
        return false;
    }
    if (status != NPHD_OK) {
        (void)fprintf(stderr, "%s: %s\n", nphd_status_name(status), err->text);
        abort();
    }
    return true;
}

/* ---- looking ---- */

/* What one look at everything found. */
typedef struct census {
    uint32_t still[STILL];
    uint32_t upserted[UPSERTED];
    uint32_t moving[MOVERS * MOVING];
} census;

static void census_count(census *found, nphd_key key)
{
    if (key.low < STILL) {
        found->still[key.low]++;
    } else if (key.low >= FIRST_UPSERTED && key.low < FIRST_UPSERTED + UPSERTED) {
        found->upserted[key.low - FIRST_UPSERTED]++;
    } else {
        CHECK(key.low >= FIRST_MOVING && key.low < FIRST_MOVING + MOVERS * MOVING);
        found->moving[key.low - FIRST_MOVING]++;
    }
}

/* The look was at one moment. */
static void census_check(const census *found)
{
    for (size_t i = 0; i < STILL; i++) {
        CHECK(found->still[i] == 1);
    }
    for (size_t i = 0; i < UPSERTED; i++) {
        CHECK(found->upserted[i] == 1);
    }
    for (size_t i = 0; i < MOVERS * MOVING; i++) {
        CHECK(found->moving[i] <= 1);
    }
}

static bool is_distance(nphd_vector query, uint64_t key, float distance)
{
    bool right = false;

    for (uint64_t version = 0; version < 2 && !right; version++) {
        uint8_t room[VECTOR_BYTES];
        float expected = 2;
        CHECK(nphd_distance(query, vector_of(key, version, room), &expected, NULL) == NPHD_OK);
        right = !(expected < distance) && !(expected > distance);
    }
    return right;
}

/* Every vector, by an exact search that has room for all. */
static bool look_by_search(crowd *all, test_random *random, size_t query_count)
{
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_match found[2 * ROOM];
    nphd_search_report reports[2];
    uint8_t rooms[2][VECTOR_BYTES];
    nphd_vector queries[2];

    options.mode = NPHD_SEARCH_EXACT;
    options.threads = 1 + (uint32_t)test_random_below(random, 2);
    queries[0] = vector_of(test_random_below(random, STILL), 0, rooms[0]);
    queries[1] = vector_of(FIRST_UPSERTED + test_random_below(random, UPSERTED), 0, rooms[1]);
    if (!is_done(all,
                 nphd_sharded_search_many(all->sharded, queries, query_count, ROOM, &options, found,
                                          reports, &err),
                 &err)) {
        return false;
    }
    for (size_t q = 0; q < query_count; q++) {
        census seen;
        memset(&seen, 0, sizeof(seen));
        for (size_t i = 0; i < reports[q].count; i++) {
            const nphd_match *match = &found[q * ROOM + i];
            census_count(&seen, match->key);
            CHECK(is_distance(queries[q], match->key.low, match->distance));
            CHECK(i == 0 || match[-1].distance <= match->distance);
        }
        census_check(&seen);
    }
    return true;
}

static bool look_by_graph(crowd *all, test_random *random)
{
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_match found[20];
    nphd_search_report report;
    uint8_t room[VECTOR_BYTES];
    const nphd_vector query = vector_of(test_random_below(random, STILL), 0, room);
    census seen;

    options.mode = NPHD_SEARCH_APPROXIMATE;
    if (!is_done(all, nphd_sharded_search(all->sharded, query, 20, &options, found, &report, &err),
                 &err)) {
        return false;
    }
    CHECK(report.count <= 20);
    memset(&seen, 0, sizeof(seen));
    for (size_t i = 0; i < report.count; i++) {
        CHECK(i == 0 || found[i - 1].distance <= found[i].distance);
        CHECK(is_distance(query, found[i].key.low, found[i].distance));
        census_count(&seen, found[i].key);
        CHECK(found[i].key.low >= STILL || seen.still[found[i].key.low] == 1);
        CHECK(found[i].key.low < FIRST_UPSERTED || found[i].key.low >= FIRST_MOVING ||
              seen.upserted[found[i].key.low - FIRST_UPSERTED] == 1);
        CHECK(found[i].key.low < FIRST_MOVING || seen.moving[found[i].key.low - FIRST_MOVING] == 1);
    }
    return true;
}

static bool look_by_key(crowd *all, test_random *random)
{
    const uint64_t still = test_random_below(random, STILL);
    const uint64_t upserted = FIRST_UPSERTED + test_random_below(random, UPSERTED);
    const nphd_key keys[3] = {nphd_key_u64(still), nphd_key_u64(upserted),
                              nphd_key_u64(FIRST_NEVER + test_random_below(random, 1000))};
    nphd_error err = NPHD_ERROR_INIT;
    uint8_t data[3][VECTOR_BYTES];
    size_t bytes[3] = {0, 0, 0};
    bool there = false;

    if (!is_done(all, nphd_sharded_get_many(all->sharded, keys, 3, data[0], bytes, &err), &err)) {
        return false;
    }
    CHECK(is_version(still, 0, data[0], bytes[0]));
    CHECK(is_version(upserted, 0, data[1], bytes[1]) || is_version(upserted, 1, data[1], bytes[1]));
    CHECK(bytes[2] == 0);
    for (size_t i = 0; i < 3; i++) {
        size_t count = 9;
        if (!is_done(all, nphd_sharded_contains(all->sharded, keys[i], &there, &err), &err) ||
            !is_done(all, nphd_sharded_count(all->sharded, keys[i], &count, &err), &err)) {
            return false;
        }
        CHECK(there == (i < 2) && count == (i < 2 ? 1 : 0));
    }
    if (!is_done(all,
                 nphd_sharded_get(all->sharded, keys[1], data[1], VECTOR_BYTES, &bytes[1], &err),
                 &err)) {
        return false;
    }
    CHECK(is_version(upserted, 0, data[1], bytes[1]) || is_version(upserted, 1, data[1], bytes[1]));
    return true;
}

/* Goes through all vectors, slowly. `compacts`: a compaction may move vectors away meanwhile. */
static bool look_by_cursor(crowd *all, bool compacts)
{
    nphd_sharded_cursor cursor = nphd_sharded_cursor_begin(all->sharded);
    nphd_error err = NPHD_ERROR_INIT;
    uint8_t data[VECTOR_BYTES];
    nphd_key key;
    size_t bytes = 0;
    census seen;
    nphd_status status;

    memset(&seen, 0, sizeof(seen));
    while ((status = nphd_sharded_cursor_next(&cursor, &key, data, &bytes, &err)) == NPHD_OK) {
        CHECK(is_version(key.low, 0, data, bytes) || is_version(key.low, 1, data, bytes));
        census_count(&seen, key);
        if (key.low % 4 == 0) {
            (void)sched_yield();
        }
    }
    if (status != NPHD_NOT_FOUND) {
        return is_done(all, status, &err);
    }
    for (size_t i = 0; i < STILL; i++) {
        CHECK(seen.still[i] == 1 || (compacts && seen.still[i] == 0));
    }
    return true;
}

/* ---- threads that look ---- */

static void *searcher_main(void *argument)
{
    crowd *all = argument;
    test_random random = {all->seed + 1};

    while (!atomic_load(&all->stop) &&
           look_by_search(all, &random, 1 + test_random_below(&random, 2)) &&
           look_by_graph(all, &random)) {
        (void)atomic_fetch_add(&all->looks, 1);
    }
    return NULL;
}

static void *reader_main(void *argument)
{
    crowd *all = argument;
    test_random random = {all->seed + 2};

    while (!atomic_load(&all->stop) && look_by_key(all, &random)) {
        nphd_sharded_stats stats = NPHD_SHARDED_STATS_INIT;
        nphd_error err = NPHD_ERROR_INIT;
        const uint64_t size = nphd_sharded_size(all->sharded);
        if (!is_done(all, nphd_sharded_get_stats(all->sharded, &stats, &err), &err)) {
            break;
        }
        CHECK(size >= STILL + UPSERTED || (size == 0 && atomic_load(&all->closing)));
        CHECK(stats.size >= STILL + UPSERTED && stats.size <= ROOM);
        CHECK(stats.tombstones <= stats.dead);
        CHECK(stats.pending_rotations <= all->options.max_pending_rotations);
        (void)atomic_fetch_add(&all->looks, 1);
    }
    return NULL;
}

static void *cursor_main(void *argument)
{
    crowd *all = argument;

    while (!atomic_load(&all->stop) && look_by_cursor(all, true)) {
        (void)atomic_fetch_add(&all->looks, 1);
    }
    return NULL;
}

/* ---- threads that change ---- */

static bool change_one_batch(mover *own, test_random *random, uint64_t round)
{
    const uint64_t first = FIRST_MOVING + own->number * MOVING;
    crowd *all = own->all;
    nphd_batch_options options = NPHD_BATCH_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_vector vectors[BATCH];
    uint8_t rooms[BATCH][VECTOR_BYTES];
    nphd_key keys[BATCH];
    uint64_t versions[BATCH];
    bool stored[BATCH];
    size_t changed = 0;

    for (size_t i = 0; i < BATCH; i++) {
        const uint64_t key = first + test_random_below(random, MOVING);
        versions[i] = test_random_below(random, 2);
        keys[i] = nphd_key_u64(key);
        vectors[i] = vector_of(key, versions[i], rooms[i]);
    }
    options.threads = 1 + (uint32_t)(round % 2);
    if (!is_done(all,
                 nphd_sharded_add_once(all->sharded, keys, vectors, BATCH, &options, stored,
                                       &changed, &err),
                 &err)) {
        return false;
    }
    for (size_t i = 0; i < BATCH; i++) {
        const uint64_t place = keys[i].low - first;
        CHECK(stored[i] == !own->there[place]);
        own->version[place] = stored[i] ? versions[i] : own->version[place];
        own->there[place] = true;
    }
    const size_t leaving = test_random_below(random, BATCH + 1);
    if (!is_done(all, nphd_sharded_remove(all->sharded, keys, leaving, &changed, &err), &err)) {
        return false;
    }
    for (size_t i = 0; i < leaving; i++) {
        changed -= own->there[keys[i].low - first] ? 1 : 0;
        own->there[keys[i].low - first] = false;
    }
    CHECK(changed == 0);
    return true;
}

/* Nobody else changes its keys: it knows what lookups must answer. */
static bool look_at_own(mover *own, test_random *random)
{
    const uint64_t place = test_random_below(random, MOVING);
    const uint64_t key = FIRST_MOVING + own->number * MOVING + place;
    nphd_error err = NPHD_ERROR_INIT;
    uint8_t data[VECTOR_BYTES];
    size_t bytes = 0;
    const nphd_status status =
        nphd_sharded_get(own->all->sharded, nphd_key_u64(key), data, sizeof(data), &bytes, &err);

    if (status == NPHD_NOT_FOUND) {
        CHECK(!own->there[place]);
        return true;
    }
    if (!is_done(own->all, status, &err)) {
        return false;
    }
    CHECK(own->there[place] && is_version(key, own->version[place], data, bytes));
    return true;
}

static void *mover_main(void *argument)
{
    mover *own = argument;
    test_random random = {own->all->seed + 10 + own->number};

    for (uint64_t round = 0; own->all->rounds == 0 || round < own->all->rounds; round++) {
        if (!change_one_batch(own, &random, round) || !look_at_own(own, &random)) {
            break;
        }
    }
    (void)atomic_fetch_sub(&own->all->changers, 1);
    return NULL;
}

static bool upsert_one_batch(crowd *all, test_random *random, uint64_t round)
{
    nphd_batch_options options = NPHD_BATCH_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_upsert_counts counts = {9, 9, 9};
    uint8_t rooms[BATCH][VECTOR_BYTES];
    nphd_vector vectors[BATCH];
    nphd_key keys[BATCH];
    uint64_t versions[BATCH];

    for (size_t i = 0; i < BATCH; i++) {
        const uint64_t key = FIRST_UPSERTED + test_random_below(random, UPSERTED);
        versions[i] = test_random_below(random, 2);
        keys[i] = nphd_key_u64(key);
        vectors[i] = vector_of(key, versions[i], rooms[i]);
    }
    options.threads = 1 + (uint32_t)(round % 2);
    if (!is_done(all,
                 nphd_sharded_upsert(all->sharded, keys, vectors, BATCH, &options, &counts, &err),
                 &err)) {
        return false;
    }
    CHECK(counts.added == 0 && counts.unchanged == 0);
    for (size_t i = 0; i < BATCH; i++) {
        all->upserted[keys[i].low - FIRST_UPSERTED] = versions[i];
    }
    return true;
}

static void *upserter_main(void *argument)
{
    crowd *all = argument;
    test_random random = {all->seed + 5};

    for (uint64_t round = 0; all->rounds == 0 || round < all->rounds; round++) {
        if (!upsert_one_batch(all, &random, round)) {
            break;
        }
    }
    (void)atomic_fetch_sub(&all->changers, 1);
    return NULL;
}

/* Saves and moves everything about. */
static void *keeper_main(void *argument)
{
    crowd *all = argument;
    test_random random = {all->seed + 7};
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status = NPHD_OK;

    while (!atomic_load(&all->stop) && is_done(all, status, &err)) {
        uint64_t number = 0;
        switch (test_random_below(&random, 7)) {
        case 0:
            status = nphd_sharded_rotate(all->sharded, &err);
            break;
        case 1:
            status = nphd_sharded_drain(all->sharded, test_random_below(&random, 3), &err);
            status = status == NPHD_TIMEOUT ? NPHD_OK : status;
            break;
        case 2:
            status = nphd_sharded_compact(all->sharded, NULL, &number, &err);
            break;
        case 3:
            status = nphd_sharded_rebuild_bloom(all->sharded, &number, &err);
            break;
        case 4:
            status = nphd_sharded_set_breadth(all->sharded,
                                              4 + (uint32_t)test_random_below(&random, 8), 8, &err);
            break;
        default:
            status = nphd_sharded_save(all->sharded, NULL, &err);
            break;
        }
        for (int i = 0; i < 20; i++) {
            (void)sched_yield();
        }
    }
    return NULL;
}

/* ---- runs ---- */

static void note_log(void *context, nphd_log_level level, const char *text)
{
    (void)context;
    if (level >= NPHD_LOG_ERROR) {
        (void)fprintf(stderr, "log: %s\n", text);
        abort();
    }
}

static void crowd_open(crowd *all)
{
    nphd_error err = NPHD_ERROR_INIT;

    CHECK(is_done(all, nphd_sharded_open(DIRECTORY, &all->options, &all->sharded, &err), &err));
}

static void crowd_init(crowd *all, uint64_t seed, bool background, uint32_t max_pending,
                       uint64_t rounds)
{
    const nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    uint8_t room[VECTOR_BYTES];

    memset(all, 0, sizeof(*all));
    all->seed = seed;
    all->rounds = rounds;
    all->disk = memory_io_create(seed);
    all->options = options;
    all->options.max_bits = 8 * VECTOR_BYTES;
    all->options.connectivity = 2; /* half of all nodes are on upper levels */
    all->options.build_breadth = 8;
    all->options.shard_bytes = 1500;
    all->options.background_rotation = background;
    all->options.max_pending_rotations = max_pending;
    all->options.logger = note_log;
    all->options.io = memory_io_table(all->disk);
    crowd_open(all);
    for (uint64_t key = 0; key < FIRST_UPSERTED + UPSERTED; key++) {
        if (key < STILL || key >= FIRST_UPSERTED) {
            CHECK(nphd_sharded_add(all->sharded, nphd_key_u64(key), vector_of(key, 0, room), NULL,
                                   NULL) == NPHD_OK);
        }
    }
    for (uint64_t i = 0; i < MOVERS; i++) {
        all->movers[i].all = all;
        all->movers[i].number = i;
    }
    atomic_store(&all->changers, MOVERS + 1);
}

/* What was acknowledged is there, and nothing else. `compacts`: compactions go on meanwhile. */
static void crowd_check_content(crowd *all, bool compacts)
{
    test_random random = {all->seed};
    uint64_t size = STILL + UPSERTED;
    uint8_t data[VECTOR_BYTES];
    size_t bytes = 0;

    CHECK(look_by_search(all, &random, 2));
    CHECK(look_by_cursor(all, compacts));
    for (uint64_t i = 0; i < UPSERTED; i++) {
        CHECK(nphd_sharded_get(all->sharded, nphd_key_u64(FIRST_UPSERTED + i), data, sizeof(data),
                               &bytes, NULL) == NPHD_OK);
        CHECK(is_version(FIRST_UPSERTED + i, all->upserted[i], data, bytes));
    }
    for (uint64_t i = 0; i < MOVERS * MOVING; i++) {
        const mover *owner = &all->movers[i / MOVING];
        const nphd_status status = nphd_sharded_get(all->sharded, nphd_key_u64(FIRST_MOVING + i),
                                                    data, sizeof(data), &bytes, NULL);
        CHECK(status == (owner->there[i % MOVING] ? NPHD_OK : NPHD_NOT_FOUND));
        CHECK(status != NPHD_OK ||
              is_version(FIRST_MOVING + i, owner->version[i % MOVING], data, bytes));
        size += owner->there[i % MOVING] ? 1 : 0;
    }
    CHECK(nphd_sharded_size(all->sharded) == size);
}

static void check_closed(crowd *all)
{
    nphd_sharded *sharded = all->sharded;
    nphd_sharded_stats stats = NPHD_SHARDED_STATS_INIT;
    nphd_sharded_cursor cursor = nphd_sharded_cursor_begin(sharded);
    const nphd_key key = nphd_key_u64(1);
    uint8_t room[VECTOR_BYTES];
    const nphd_vector vector = vector_of(1, 0, room);
    nphd_match found[1];
    nphd_key met;
    size_t count = 0;
    bool there = true;

    CHECK(nphd_sharded_add(sharded, key, vector, NULL, NULL) == NPHD_CLOSED);
    CHECK(nphd_sharded_upsert(sharded, &key, &vector, 1, NULL, NULL, NULL) == NPHD_CLOSED);
    CHECK(nphd_sharded_remove(sharded, &key, 1, NULL, NULL) == NPHD_CLOSED);
    CHECK(nphd_sharded_contains(sharded, key, &there, NULL) == NPHD_CLOSED && !there);
    there = true;
    CHECK(nphd_sharded_contains_many(sharded, &key, 1, &there, NULL) == NPHD_CLOSED && !there);
    CHECK(nphd_sharded_count(sharded, key, &count, NULL) == NPHD_CLOSED);
    CHECK(nphd_sharded_get(sharded, key, room, sizeof(room), &count, NULL) == NPHD_CLOSED);
    CHECK(nphd_sharded_search(sharded, vector, 1, NULL, found, NULL, NULL) == NPHD_CLOSED);
    CHECK(nphd_sharded_cursor_next(&cursor, &met, NULL, NULL, NULL) == NPHD_CLOSED);
    CHECK(nphd_sharded_save(sharded, NULL, NULL) == NPHD_CLOSED);
    CHECK(nphd_sharded_rotate(sharded, NULL) == NPHD_CLOSED);
    CHECK(nphd_sharded_drain(sharded, 0, NULL) == NPHD_CLOSED);
    CHECK(nphd_sharded_compact(sharded, NULL, NULL, NULL) == NPHD_CLOSED);
    CHECK(nphd_sharded_rebuild_bloom(sharded, NULL, NULL) == NPHD_CLOSED);
    CHECK(nphd_sharded_reset(sharded, NULL) == NPHD_CLOSED);
    CHECK(nphd_sharded_set_breadth(sharded, 1, 1, NULL) == NPHD_CLOSED);
    CHECK(nphd_sharded_get_stats(sharded, &stats, NULL) == NPHD_CLOSED);
    CHECK(nphd_sharded_shards(sharded, NULL, 0, &count, NULL) == NPHD_CLOSED);
    CHECK(nphd_sharded_size(sharded) == 0);
    CHECK(nphd_sharded_close(sharded, NULL) == NPHD_OK);
}

/* Closes while the threads of the crowd may still be calling, lets them end, and opens again. */
static void crowd_end(crowd *all, pthread_t *threads, size_t count)
{
    nphd_error err = NPHD_ERROR_INIT;

    atomic_store(&all->closing, true);
    CHECK(is_done(all, nphd_sharded_close(all->sharded, &err), &err));
    check_closed(all);
    atomic_store(&all->stop, true);
    for (size_t i = 0; i < count; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
    }
    atomic_store(&all->closing, false);
    nphd_sharded_free(all->sharded);
    crowd_open(all);
    crowd_check_content(all, false);
    CHECK(is_done(all, nphd_sharded_close(all->sharded, &err), &err));
    nphd_sharded_free(all->sharded);
    CHECK(is_done(all, nphd_directory_verify(DIRECTORY, all->options.io, NULL, NULL, NULL, &err),
                  &err));
    CHECK(memory_io_mistakes(all->disk) == 0);
    CHECK(memory_io_open_files(all->disk) == 0 && memory_io_maps(all->disk) == 0);
    memory_io_destroy(all->disk);
}

enum { THREADS = MOVERS + 5 };

static void crowd_start(crowd *all, pthread_t threads[THREADS])
{
    static void *(*const mains[])(void *) = {searcher_main, reader_main, cursor_main, keeper_main,
                                             upserter_main};

    for (size_t i = 0; i < 5; i++) {
        CHECK(pthread_create(&threads[i], NULL, mains[i], all) == 0);
    }
    for (size_t i = 0; i < MOVERS; i++) {
        CHECK(pthread_create(&threads[5 + i], NULL, mover_main, &all->movers[i]) == 0);
    }
}

/* The threads that change things do all their rounds; then comes the close. */
static void run_all(uint64_t seed, bool background, uint32_t max_pending)
{
    pthread_t threads[THREADS];
    crowd all;

    crowd_init(&all, seed, background, max_pending, is_small() ? 40 : 300);
    crowd_start(&all, threads);
    while (atomic_load(&all.changers) > 0) {
        (void)usleep(1000);
    }
    crowd_check_content(&all, true);
    CHECK(atomic_load(&all.looks) > 0);
    crowd_end(&all, threads, THREADS);
}

static void test_everything_at_once(void **state)
{
    const uint64_t seed = *(uint64_t *)*state;

    run_all(seed, false, 0);
    run_all(seed + 1, true, 1);
    run_all(seed + 2, true, 2);
}

/* The close comes in the midst of everything. */
static void test_close_meets_everything(void **state)
{
    const uint64_t seed = *(uint64_t *)*state;

    for (uint64_t i = 0; i < (is_small() ? 6U : 40U); i++) {
        test_random random = {seed + 100 + i};
        pthread_t threads[THREADS];
        crowd all;
        crowd_init(&all, seed + i, i % 3 != 0, 1 + (uint32_t)(i % 2), 0);
        crowd_start(&all, threads);
        (void)usleep((useconds_t)test_random_below(&random, 20000));
        crowd_end(&all, threads, THREADS);
    }
}

/* Closing from several threads at once: one does it, the others find it done. */
static void *closer_main(void *argument)
{
    crowd *all = argument;
    nphd_error err = NPHD_ERROR_INIT;

    CHECK(nphd_sharded_close(all->sharded, &err) == NPHD_OK);
    CHECK(nphd_sharded_size(all->sharded) == 0);
    return NULL;
}

static void test_many_close(void **state)
{
    const uint64_t seed = *(uint64_t *)*state;

    for (uint64_t i = 0; i < (is_small() ? 3U : 10U); i++) {
        pthread_t threads[3];
        crowd all;
        crowd_init(&all, seed + i, true, 2, 0);
        atomic_store(&all.closing, true);
        for (size_t at = 0; at < 3; at++) {
            CHECK(pthread_create(&threads[at], NULL, closer_main, &all) == 0);
        }
        crowd_end(&all, threads, 3);
    }
}

/* A cursor that stands anywhere when shards are merged meets nothing twice; one that has not begun
 * meets everything. */
static void test_cursor_over_merged_shards(void **state)
{
    const uint64_t seed = *(uint64_t *)*state;

    for (size_t before = 0; before <= STILL + UPSERTED; before++) {
        nphd_sharded_cursor cursor;
        nphd_key key;
        uint64_t removed = 0;
        census seen;
        crowd all;
        crowd_init(&all, seed, false, 0, 0);
        for (uint64_t i = 0; i < STILL; i += 2) { /* half of each shard is dead then */
            key = nphd_key_u64(i);
            CHECK(nphd_sharded_remove(all.sharded, &key, 1, NULL, NULL) == NPHD_OK);
        }
        memset(&seen, 0, sizeof(seen));
        cursor = nphd_sharded_cursor_begin(all.sharded);
        for (size_t i = 0; i < before; i++) {
            if (nphd_sharded_cursor_next(&cursor, &key, NULL, NULL, NULL) == NPHD_OK) {
                census_count(&seen, key);
            }
        }
        CHECK(nphd_sharded_compact(all.sharded, NULL, &removed, NULL) == NPHD_OK && removed > 0);
        while (nphd_sharded_cursor_next(&cursor, &key, NULL, NULL, NULL) == NPHD_OK) {
            census_count(&seen, key);
        }
        for (size_t i = 0; i < STILL; i++) {
            CHECK(seen.still[i] <= i % 2 && (before > 0 || seen.still[i] == i % 2));
        }
        for (size_t i = 0; i < UPSERTED; i++) {
            CHECK(seen.upserted[i] <= 1 && (before > 0 || seen.upserted[i] == 1));
        }
        nphd_sharded_free(all.sharded);
        memory_io_destroy(all.disk);
    }
}

int main(void)
{
    uint64_t seed = test_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_cursor_over_merged_shards, &seed),
        cmocka_unit_test_prestate(test_many_close, &seed),
        cmocka_unit_test_prestate(test_everything_at_once, &seed),
        cmocka_unit_test_prestate(test_close_meets_everything, &seed),
    };

    (void)alarm(PATIENCE_SECONDS);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
