#include "sharded_oracle.h"

#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* Vectors of one batch: more than fit a shard of the world, so that a batch rotates. */
#define BATCH 60

/* A shard of about 50 vectors. */
#define SHARD_BYTES 3000

/* ---- keys and vectors ---- */

static void *must_have(void *memory)
{
    if (memory == NULL) {
        abort();
    }
    return memory;
}

nphd_key sharded_oracle_key(const sharded_oracle *oracle, uint32_t key)
{
    nphd_key out = nphd_key_u64(key);

    out.high = oracle->key_bits == 128 ? 7 + key % 3 : 0;
    return out;
}

/* 4 to 8 bytes, of which the first four are another for each key and version. */
nphd_vector sharded_oracle_vector(uint32_t key, uint32_t version, uint8_t out[8])
{
    test_random random = {((uint64_t)key << 32) + version};
    const nphd_vector vector = {out, 4 + test_random_below(&random, 5)};
    const uint64_t mixed = ((uint64_t)version * ORACLE_KEYS + key) * 0x9e3779b1U;

    test_random_fill(&random, out, 8);
    for (int i = 0; i < 4; i++) {
        out[i] = (uint8_t)(mixed >> (8 * i));
    }
    return vector;
}

static uint64_t sum_of(uint32_t key, const uint8_t *data, size_t bytes)
{
    test_random random = {((uint64_t)key << 8) + bytes};
    uint64_t sum = test_random_next(&random);

    for (size_t i = 0; i < bytes; i++) {
        random.state ^= sum + data[i];
        sum = test_random_next(&random);
    }
    return sum;
}

static uint64_t sum_of_version(uint32_t key, uint32_t version)
{
    uint8_t data[8];
    const nphd_vector vector = sharded_oracle_vector(key, version, data);

    return version == 0 ? 0 : sum_of(key, vector.data, vector.bytes);
}

/* ---- the log ---- */

void sharded_oracle_init(sharded_oracle *oracle, uint32_t key_bits)
{
    memset(oracle, 0, sizeof(*oracle));
    oracle->key_bits = key_bits;
    oracle->flight.from = 1;
    oracle->legal_count = 1; /* moment 0 */
}

void sharded_oracle_free(sharded_oracle *oracle)
{
    free(oracle->changes);
    memset(oracle, 0, sizeof(*oracle));
}

bool sharded_oracle_has(const sharded_oracle *oracle, uint32_t key)
{
    return oracle->versions[key] != 0;
}

static uint64_t sum_at(const sharded_oracle *oracle, size_t moment)
{
    return moment == 0 ? 0 : oracle->changes[moment - 1].sum;
}

static uint32_t live_at(const sharded_oracle *oracle, size_t moment)
{
    return moment == 0 ? 0 : oracle->changes[moment - 1].live;
}

uint32_t sharded_oracle_live(const sharded_oracle *oracle)
{
    return live_at(oracle, oracle->now);
}

static void announce(sharded_oracle *oracle, uint32_t key, uint32_t version)
{
    oracle_change change = {key, oracle->versions[key], version, 0, 0};

    change.sum = sum_at(oracle, oracle->announced) - sum_of_version(key, change.before) +
                 sum_of_version(key, version);
    change.live =
        live_at(oracle, oracle->announced) - (change.before != 0 ? 1 : 0) + (version != 0 ? 1 : 0);
    if (oracle->announced == oracle->room) {
        oracle->room = 2 * oracle->room + 256;
        oracle->changes =
            must_have(realloc(oracle->changes, oracle->room * sizeof(*oracle->changes)));
    }
    oracle->versions[key] = version;
    oracle->changes[oracle->announced++] = change;
}

uint32_t sharded_oracle_put(sharded_oracle *oracle, uint32_t key)
{
    announce(oracle, key, ++oracle->last_version);
    return oracle->last_version;
}

void sharded_oracle_remove(sharded_oracle *oracle, uint32_t key)
{
    announce(oracle, key, 0);
}

void sharded_oracle_settle(sharded_oracle *oracle, size_t done)
{
    assert_true(done <= oracle->announced - oracle->now);
    oracle->now += done;
    while (oracle->announced > oracle->now) {
        const oracle_change *last = &oracle->changes[--oracle->announced];
        oracle->versions[last->key] = last->before;
    }
    oracle->flight = (oracle_range){1, 0, false};
}

void sharded_oracle_allow(sharded_oracle *oracle, oracle_range range, bool only)
{
    const oracle_range *last = &oracle->legal[oracle->legal_count - 1];

    if (only) {
        oracle->legal_count = 0;
    } else if (range.from >= last->from && range.to <= last->to &&
               range.rotation == last->rotation) {
        return;
    }
    assert_true(oracle->legal_count < ORACLE_RANGES);
    oracle->legal[oracle->legal_count++] = range;
}

void sharded_oracle_drained(sharded_oracle *oracle)
{
    size_t last = oracle->legal_count;

    while (last > 0 && !oracle->legal[last - 1].rotation) {
        last--;
    }
    if (last > 0) {
        oracle->legal_count -= last - 1;
        memmove(oracle->legal, &oracle->legal[last - 1],
                oracle->legal_count * sizeof(*oracle->legal));
    }
}

void sharded_oracle_forgotten(sharded_oracle *oracle)
{
    for (size_t i = 0; i < oracle->legal_count; i++) {
        oracle->legal[i].rotation = false;
    }
}

void sharded_oracle_branch(const sharded_oracle *from, size_t moment, sharded_oracle *out)
{
    *out = *from;
    out->changes = must_have(malloc((from->room + 1) * sizeof(*out->changes)));
    if (from->announced > 0) {
        memcpy(out->changes, from->changes, from->announced * sizeof(*out->changes));
    }
    out->now = moment;
    sharded_oracle_settle(out, 0);
    sharded_oracle_allow(out, (oracle_range){moment, moment, false}, true);
}

bool sharded_oracle_may_be_absent(const sharded_oracle *oracle)
{
    bool absent = false;

    for (size_t i = 0; i <= oracle->legal_count; i++) {
        const oracle_range *range = i < oracle->legal_count ? &oracle->legal[i] : &oracle->flight;
        for (size_t moment = range->from; moment <= range->to && !absent; moment++) {
            absent = live_at(oracle, moment) == 0;
        }
    }
    return absent;
}

/* ---- looking ---- */

typedef struct content {
    uint64_t sum;
    uint32_t live;
    uint8_t bytes[ORACLE_KEYS]; /* 0: absent */
    uint8_t data[ORACLE_KEYS][8];
} content;

#define DIFFERS(oracle, ...)                                                                       \
    do {                                                                                           \
        if (!(oracle)->quiet) {                                                                    \
            print_error(__VA_ARGS__);                                                              \
        }                                                                                          \
        return false;                                                                              \
    } while (0)

static bool walk(const sharded_oracle *oracle, nphd_sharded *sharded, content *out)
{
    nphd_sharded_cursor cursor = nphd_sharded_cursor_begin(sharded);
    uint8_t data[NPHD_MAX_BYTES];
    nphd_status status;
    nphd_key key;
    size_t bytes;

    memset(out, 0, sizeof(*out));
    while ((status = nphd_sharded_cursor_next(&cursor, &key, data, &bytes, NULL)) == NPHD_OK) {
        if (key.low >= ORACLE_KEYS || bytes > 8 || bytes == 0 ||
            key.high != sharded_oracle_key(oracle, (uint32_t)key.low).high) {
            DIFFERS(oracle, "a key or vector that was never added\n");
        }
        if (out->bytes[key.low] != 0) {
            DIFFERS(oracle, "key %u is met twice\n", (unsigned)key.low);
        }
        out->bytes[key.low] = (uint8_t)bytes;
        memcpy(out->data[key.low], data, bytes);
        out->live++;
        out->sum += sum_of((uint32_t)key.low, data, bytes);
    }
    if (status != NPHD_NOT_FOUND) {
        DIFFERS(oracle, "the walk ends with %s\n", nphd_status_name(status));
    }
    return true;
}

/* The filter and the key tables against the walk. */
static bool lookups_agree(const sharded_oracle *oracle, nphd_sharded *sharded, const content *met)
{
    for (uint32_t i = 0; i < ORACLE_KEYS; i++) {
        const nphd_key key = sharded_oracle_key(oracle, i);
        uint8_t data[8];
        size_t bytes = 0;
        bool there = false;
        nphd_status status = nphd_sharded_contains(sharded, key, &there, NULL);
        if (status != NPHD_OK || there != (met->bytes[i] != 0)) {
            DIFFERS(oracle, "contains of key %u: %s, %d\n", i, nphd_status_name(status), there);
        }
        status = nphd_sharded_get(sharded, key, data, sizeof(data), &bytes, NULL);
        if (status != (there ? NPHD_OK : NPHD_NOT_FOUND) || bytes != met->bytes[i] ||
            memcmp(data, met->data[i], bytes) != 0) {
            DIFFERS(oracle, "get of key %u: %s, %zu bytes\n", i, nphd_status_name(status), bytes);
        }
    }
    return true;
}

/* An exact search for everything finds what the walk met, and once. */
static bool search_agrees(const sharded_oracle *oracle, nphd_sharded *sharded, const content *met)
{
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_search_report report;
    nphd_match found[ORACLE_KEYS];
    uint8_t data[8];
    bool seen[ORACLE_KEYS] = {false};
    nphd_status status;

    memset(&report, 0, sizeof(report));
    options.mode = NPHD_SEARCH_EXACT;
    status = nphd_sharded_search(sharded, sharded_oracle_vector(1, 1, data), ORACLE_KEYS, &options,
                                 found, &report, NULL);
    if (status != NPHD_OK || report.count != met->live) {
        DIFFERS(oracle, "search: %s, %zu found of %u\n", nphd_status_name(status),
                (size_t)report.count, met->live);
    }
    for (size_t i = 0; i < report.count; i++) {
        if (met->bytes[found[i].key.low] == 0 || seen[found[i].key.low]) {
            DIFFERS(oracle, "search finds key %u\n", (unsigned)found[i].key.low);
        }
        seen[found[i].key.low] = true;
    }
    return true;
}

static bool look(const sharded_oracle *oracle, nphd_sharded *sharded, content *out)
{
    if (!walk(oracle, sharded, out)) {
        return false;
    }
    if (nphd_sharded_size(sharded) != out->live) {
        DIFFERS(oracle, "size is %llu, the walk meets %u\n",
                (unsigned long long)nphd_sharded_size(sharded), out->live);
    }
    return lookups_agree(oracle, sharded, out) && search_agrees(oracle, sharded, out);
}

/* Prints how what was met differs from a moment. */
static void tell_difference(const sharded_oracle *oracle, const content *met, size_t moment)
{
    uint32_t versions[ORACLE_KEYS] = {0};
    int told = 0;

    for (size_t i = 0; i < moment; i++) {
        versions[oracle->changes[i].key] = oracle->changes[i].after;
    }
    print_error("%u keys, moment %zu (of %zu) has %u:", met->live, moment, oracle->now,
                live_at(oracle, moment));
    for (uint32_t i = 0; i < ORACLE_KEYS && told < 12; i++) {
        uint8_t data[8];
        const nphd_vector vector = sharded_oracle_vector(i, versions[i], data);
        const size_t bytes = versions[i] == 0 ? 0 : vector.bytes;
        if (bytes != met->bytes[i] || memcmp(data, met->data[i], bytes) != 0) {
            print_error(" %u %s", i,
                        bytes == 0           ? "too much"
                        : met->bytes[i] == 0 ? "missing"
                                             : "another");
            told++;
        }
    }
    print_error("\n");
}

bool sharded_oracle_is_at(const sharded_oracle *oracle, nphd_sharded *sharded, size_t moment)
{
    content met;

    if (!look(oracle, sharded, &met)) {
        return false;
    }
    if (met.live != live_at(oracle, moment) || met.sum != sum_at(oracle, moment)) {
        if (!oracle->quiet) {
            tell_difference(oracle, &met, moment);
        }
        return false;
    }
    return true;
}

size_t sharded_oracle_find(const sharded_oracle *oracle, nphd_sharded *sharded)
{
    content met;

    if (!look(oracle, sharded, &met)) {
        return ORACLE_NONE;
    }
    for (size_t i = 0; i <= oracle->legal_count; i++) {
        const oracle_range *range = i < oracle->legal_count ? &oracle->legal[i] : &oracle->flight;
        for (size_t moment = range->from; moment <= range->to; moment++) {
            if (met.live == live_at(oracle, moment) && met.sum == sum_at(oracle, moment)) {
                return moment;
            }
        }
    }
    if (!oracle->quiet) {
        for (size_t i = 0; i < oracle->legal_count; i++) {
            tell_difference(oracle, &met, oracle->legal[i].to);
        }
        if (oracle->flight.from <= oracle->flight.to) {
            tell_difference(oracle, &met, oracle->flight.to);
        }
    }
    return ORACLE_NONE;
}

/* ---- the frame of a step ---- */

static uint64_t generation_of(sharded_world *here)
{
    nphd_sharded_stats stats = NPHD_SHARDED_STATS_INIT;

    assert_int_equal(nphd_sharded_get_stats(here->sharded, &stats, NULL), NPHD_OK);
    return stats.generation;
}

/* After a call that rotates when it must: `first` is the earliest moment that it may have written.
 */
static nphd_status settle_change(sharded_world *here, nphd_status status, size_t done,
                                 uint64_t generation)
{
    const size_t first = here->oracle.now + (done > 0 ? 1 : 0);

    sharded_oracle_settle(&here->oracle, done);
    if (generation_of(here) != generation) {
        const oracle_range range = {first, here->oracle.now, true};
        sharded_oracle_allow(&here->oracle, range,
                             status == NPHD_OK && !here->options.background_rotation);
    }
    return status;
}

/* Before and after a call that writes the index as it is. */
static void begin_writing(sharded_world *here)
{
    here->oracle.flight = (oracle_range){here->oracle.now, here->oracle.now, false};
}

static nphd_status settle_save(sharded_world *here, nphd_status status)
{
    const oracle_range range = here->oracle.flight;

    sharded_oracle_settle(&here->oracle, 0);
    sharded_oracle_allow(&here->oracle, range, status == NPHD_OK);
    return status;
}

/* ---- steps ---- */

nphd_status world_open(sharded_world *here)
{
    nphd_status status;

    if (here->sharded != NULL) {
        return NPHD_OK;
    }
    status = nphd_sharded_open(WORLD_PATH, &here->options, &here->sharded, &here->err);
    assert_true((status == NPHD_OK) == (here->sharded != NULL));
    return status;
}

nphd_status world_save(sharded_world *here)
{
    begin_writing(here);
    const nphd_status status =
        settle_save(here, nphd_sharded_save(here->sharded, NULL, &here->err));
    if (status == NPHD_OK) {
        assert_int_equal(nphd_sharded_dirty(here->sharded), 0);
    }
    return status;
}

nphd_status world_close(sharded_world *here)
{
    begin_writing(here);
    const nphd_status status = settle_save(here, nphd_sharded_close(here->sharded, &here->err));
    if (status == NPHD_OK) {
        bool there;
        assert_int_equal(nphd_sharded_contains(here->sharded, sharded_oracle_key(&here->oracle, 1),
                                               &there, NULL),
                         NPHD_CLOSED);
        nphd_sharded_free(here->sharded);
        here->sharded = NULL;
    }
    return status;
}

static nphd_status world_compact(sharded_world *here)
{
    begin_writing(here);
    return settle_save(here, nphd_sharded_compact(here->sharded, NULL, NULL, &here->err));
}

/* Without a filter nothing is done, and nothing saved. */
static nphd_status world_rebuild_bloom(sharded_world *here)
{
    if (here->options.no_bloom) {
        return nphd_sharded_rebuild_bloom(here->sharded, NULL, &here->err);
    }
    begin_writing(here);
    return settle_save(here, nphd_sharded_rebuild_bloom(here->sharded, NULL, &here->err));
}

nphd_status world_rotate(sharded_world *here)
{
    const uint64_t generation = generation_of(here);

    begin_writing(here);
    return settle_change(here, nphd_sharded_rotate(here->sharded, &here->err), 0, generation);
}

static nphd_status world_drain(sharded_world *here)
{
    const nphd_status status = nphd_sharded_drain(here->sharded, UINT64_MAX, &here->err);

    if (status == NPHD_OK) {
        sharded_oracle_drained(&here->oracle);
    }
    return status;
}

/* The next key that is absent, going round; or any at all. */
static uint32_t choose_key(sharded_world *here, bool fresh)
{
    uint32_t key = here->next_key;

    if (!fresh) {
        return (uint32_t)test_random_below(&here->random, ORACLE_KEYS);
    }
    for (uint32_t i = 0; i < ORACLE_KEYS && sharded_oracle_has(&here->oracle, key); i++) {
        key = (key + 1) % ORACLE_KEYS;
    }
    here->next_key = (key + 1) % ORACLE_KEYS;
    return key;
}

nphd_status world_add_one(sharded_world *here)
{
    sharded_oracle *oracle = &here->oracle;
    const uint64_t generation = generation_of(here);
    const uint32_t key = choose_key(here, test_random_below(&here->random, 8) > 0);
    const bool fresh = !sharded_oracle_has(oracle, key);
    uint8_t data[8];
    bool added = false;
    const uint32_t version = fresh ? sharded_oracle_put(oracle, key) : 9;

    oracle->flight = (oracle_range){oracle->announced, oracle->announced, true};
    const nphd_status status =
        nphd_sharded_add(here->sharded, sharded_oracle_key(oracle, key),
                         sharded_oracle_vector(key, version, data), &added, &here->err);
    assert_true(status == NPHD_OK ? added == fresh : fresh || !added);
    return settle_change(here, status, added ? 1 : 0, generation);
}

/* As many as make a shard full, one at a time. */
nphd_status world_add_some(sharded_world *here)
{
    nphd_status status = NPHD_OK;

    for (int i = 0; i < 25 && status == NPHD_OK; i++) {
        status = world_add_one(here);
    }
    return status;
}

typedef struct batch {
    nphd_key keys[BATCH];
    nphd_vector vectors[BATCH];
    uint8_t data[BATCH][8];
} batch;

static void batch_set(sharded_world *here, batch *of, size_t place, uint32_t key, uint32_t version)
{
    of->keys[place] = sharded_oracle_key(&here->oracle, key);
    of->vectors[place] = sharded_oracle_vector(key, version, of->data[place]);
}

/* Some keys are there already, and the last is twice in the batch. */
static nphd_status world_add_many(sharded_world *here)
{
    sharded_oracle *oracle = &here->oracle;
    const uint64_t generation = generation_of(here);
    size_t added = 99;
    batch of;

    for (size_t i = 0; i + 1 < BATCH; i++) {
        const uint32_t key = choose_key(here, test_random_below(&here->random, 8) > 0);
        batch_set(here, &of, i, key,
                  sharded_oracle_has(oracle, key) ? 9 : sharded_oracle_put(oracle, key));
    }
    batch_set(here, &of, BATCH - 1, (uint32_t)of.keys[BATCH - 2].low, 11);
    oracle->flight = (oracle_range){oracle->now + 1, oracle->announced, true};
    const nphd_status status = nphd_sharded_add_many(here->sharded, of.keys, of.vectors, BATCH,
                                                     NULL, NULL, &added, &here->err);
    if (status == NPHD_OK) {
        assert_int_equal(added, oracle->announced - oracle->now);
    }
    return settle_change(here, status, added, generation);
}

/* Tells of each vector whether it was stored. */
static nphd_status world_add_once(sharded_world *here)
{
    sharded_oracle *oracle = &here->oracle;
    const uint64_t generation = generation_of(here);
    bool stored[BATCH];
    bool fresh[BATCH];
    size_t added = 99;
    size_t told = 0;
    batch of;

    for (size_t i = 0; i < BATCH; i++) {
        const uint32_t key = choose_key(here, i % 3 > 0);
        fresh[i] = !sharded_oracle_has(oracle, key);
        batch_set(here, &of, i, key, fresh[i] ? sharded_oracle_put(oracle, key) : 9);
    }
    oracle->flight = (oracle_range){oracle->now + 1, oracle->announced, true};
    const nphd_status status = nphd_sharded_add_once(here->sharded, of.keys, of.vectors, BATCH,
                                                     NULL, stored, &added, &here->err);
    for (size_t i = 0; i < BATCH; i++) {
        told += stored[i] ? 1 : 0;
        assert_true(fresh[i] || !stored[i]);
        assert_true(status != NPHD_OK || stored[i] == fresh[i]);
    }
    assert_int_equal(told, added);
    return settle_change(here, status, added, generation);
}

/* The keys are the next ones of the counter that are not in use. */
static nphd_status world_add_automatic(sharded_world *here)
{
    sharded_oracle *oracle = &here->oracle;
    nphd_sharded_stats stats = NPHD_SHARDED_STATS_INIT;
    nphd_key keys[5];
    uint64_t next;
    size_t added = 99;
    batch of;

    assert_int_equal(nphd_sharded_get_stats(here->sharded, &stats, NULL), NPHD_OK);
    next = stats.next_automatic_key;
    for (size_t i = 0; i < 5; i++, next++) {
        while (next < ORACLE_KEYS && sharded_oracle_has(oracle, (uint32_t)next)) {
            next++;
        }
        if (next >= ORACLE_KEYS || oracle->key_bits == 128) { /* none are left */
            sharded_oracle_settle(oracle, 0);
            return NPHD_OK;
        }
        batch_set(here, &of, i, (uint32_t)next, sharded_oracle_put(oracle, (uint32_t)next));
    }
    oracle->flight = (oracle_range){oracle->now + 1, oracle->announced, true};
    const nphd_status status =
        nphd_sharded_add_many(here->sharded, NULL, of.vectors, 5, NULL, keys, &added, &here->err);
    if (status == NPHD_OK) {
        assert_int_equal(added, 5);
        assert_memory_equal(keys, of.keys, sizeof(keys));
    }
    return settle_change(here, status, added, stats.generation);
}

/* Of equal keys the last counts. */
static nphd_status world_upsert(sharded_world *here)
{
    sharded_oracle *oracle = &here->oracle;
    const uint64_t generation = generation_of(here);
    const uint32_t first = choose_key(here, false);
    const size_t count = 1 + test_random_below(&here->random, BATCH);
    nphd_upsert_counts counts = {99, 99, 99};
    batch of;

    for (size_t i = 0; i < count; i++) {
        const uint32_t key = (first + (uint32_t)i * 3) % ORACLE_KEYS;
        if (i == 0 && count > 1) { /* has its turn later */
            batch_set(here, &of, i, (key + 3) % ORACLE_KEYS, 12);
        } else {
            batch_set(here, &of, i, key, sharded_oracle_put(oracle, key));
        }
    }
    oracle->flight = (oracle_range){oracle->now + 1, oracle->announced, true};
    const nphd_status status =
        nphd_sharded_upsert(here->sharded, of.keys, of.vectors, count, NULL, &counts, &here->err);
    if (status == NPHD_OK) {
        assert_int_equal(counts.added + counts.replaced, oracle->announced - oracle->now);
    }
    return settle_change(here, status, counts.added + counts.replaced, generation);
}

/* Removes the keys from `first` on in steps, and announces those that are there. */
static nphd_status remove_keys(sharded_world *here, uint32_t first, uint32_t step, size_t count)
{
    sharded_oracle *oracle = &here->oracle;
    nphd_key keys[ORACLE_KEYS];
    size_t removed = 99;

    for (size_t i = 0; i < count; i++) {
        const uint32_t key = (first + (uint32_t)i * step) % ORACLE_KEYS;
        keys[i] = sharded_oracle_key(oracle, key);
        if (sharded_oracle_has(oracle, key)) {
            sharded_oracle_remove(oracle, key);
        }
    }
    const nphd_status status =
        nphd_sharded_remove(here->sharded, keys, count, &removed, &here->err);
    assert_int_equal(removed, status == NPHD_OK ? oracle->announced - oracle->now : 0);
    sharded_oracle_settle(oracle, removed);
    return status;
}

nphd_status world_remove(sharded_world *here)
{
    const uint32_t first = choose_key(here, false);

    return remove_keys(here, first, 7, 1 + test_random_below(&here->random, 20));
}

/* Most of what was added one after the other: some shard has nothing left. */
static nphd_status world_remove_range(sharded_world *here)
{
    return remove_keys(here, choose_key(here, false), 1, 130);
}

nphd_status world_remove_all(sharded_world *here)
{
    return remove_keys(here, 0, 1, ORACLE_KEYS);
}

nphd_status world_reset(sharded_world *here)
{
    sharded_oracle *oracle = &here->oracle;

    for (uint32_t i = 0; i < ORACLE_KEYS; i++) {
        if (sharded_oracle_has(oracle, i)) {
            sharded_oracle_remove(oracle, i);
        }
    }
    const nphd_status status = nphd_sharded_reset(here->sharded, &here->err);
    sharded_oracle_settle(oracle, status == NPHD_OK ? oracle->announced - oracle->now : 0);
    sharded_oracle_forgotten(oracle);
    return status;
}

/* The second time it may be closed already. */
static nphd_status world_reopen(sharded_world *here)
{
    const nphd_status status = here->sharded != NULL ? world_close(here) : NPHD_OK;

    return status == NPHD_OK ? world_open(here) : status;
}

/* ---- the world ---- */

static void be_silent(void *context, nphd_log_level level, const char *text)
{
    (void)context;
    (void)level;
    (void)text;
}

void sharded_world_init(sharded_world *here, uint64_t seed, const nphd_io *io,
                        const nphd_allocator *allocator)
{
    const nphd_sharded_options defaults = NPHD_SHARDED_OPTIONS_INIT;
    const nphd_error none = NPHD_ERROR_INIT;

    memset(here, 0, sizeof(*here));
    here->random.state = seed;
    here->err = none;
    here->options = defaults;
    here->options.max_bits = 64;
    here->options.key_bits = seed % 4 == 3 ? 128 : 64;
    here->options.connectivity = 2;
    here->options.build_breadth = 8;
    here->options.search_breadth = 8;
    here->options.shard_bytes = SHARD_BYTES;
    here->options.logger = be_silent;
    here->options.io = io;
    here->options.allocator = allocator;
    sharded_oracle_init(&here->oracle, here->options.key_bits);
}

void sharded_world_free(sharded_world *here)
{
    nphd_sharded_free(here->sharded);
    sharded_oracle_free(&here->oracle);
}

const world_step world_workload[] = {
    {"open", world_open, false},
    {"add some", world_add_some, true},
    {"save", world_save, true},
    {"add many", world_add_many, true},
    {"remove", world_remove, true},
    {"upsert", world_upsert, true},
    {"save again", world_save, true},
    {"rotate", world_rotate, true},
    {"remove from views", world_remove, true},
    {"drain", world_drain, true},
    {"save deletions", world_save, true},
    {"add automatic", world_add_automatic, true},
    {"reopen", world_reopen, true},
    {"add to the head", world_add_some, true},
    {"upsert again", world_upsert, true},
    {"remove a range", world_remove_range, true},
    {"compact", world_compact, true},
    {"add one", world_add_one, true},
    {"rebuild bloom", world_rebuild_bloom, true},
    {"add once", world_add_once, true},
    {"remove all", world_remove_all, false},
    {"save nothing", world_save, true},
    {"add again", world_add_some, true},
    {"save before reset", world_save, true},
    {"reset", world_reset, false},
    {"add after reset", world_add_one, true},
    {"save after reset", world_save, true},
    {"close", world_close, false},
};

const size_t world_workload_count = sizeof(world_workload) / sizeof(world_workload[0]);
