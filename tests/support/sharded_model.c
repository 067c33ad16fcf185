/* Written to be obviously right: a walk over the array for each question. Distances come from
 * nphd_distance() and nphd_hamming(), which tests of their own compare with single bits. */
#include "sharded_model.h"

#include <stdarg.h>
#include <string.h>

#define QUERIES 2
#define MOST_SHARDS 4096

static void *must_have(void *memory)
{
    if (memory == NULL) {
        (void)fprintf(stderr, "sharded_model: out of memory\n");
        abort();
    }
    return memory;
}

/* For `return differs(...)`: false, told. */
static bool differs(const index_model *model, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static bool differs(const index_model *model, const char *format, ...)
{
    va_list arguments;

    if (!model->quiet) {
        va_start(arguments, format);
        (void)fprintf(stderr, "sharded index differs from its model: ");
        (void)vfprintf(stderr, format, arguments);
        (void)fprintf(stderr, "\n");
        va_end(arguments);
    }
    return false;
}

static bool fails(const index_model *model, const char *what, nphd_status status,
                  const nphd_error *err)
{
    return status == NPHD_OK
               ? true
               : differs(model, "%s: %s: %s", what, nphd_status_name(status), err->text);
}

/* ---- changes ---- */

bool sharded_model_upsert(index_model *model, nphd_key key, nphd_vector vector)
{
    const nphd_upsert_counts counts = index_model_upsert(model, &key, &vector, 1);

    model->dirty += 2 * counts.unchanged;
    return counts.added == 0;
}

void sharded_model_automatic_keys(index_model *model, size_t count, nphd_key *out)
{
    for (size_t i = 0; i < count;) {
        const nphd_key key = nphd_key_u64(model->next_automatic++);
        if (!index_model_has(model, key)) {
            out[i++] = key;
        }
    }
}

/* ---- lookups ---- */

static bool is_key(const model_item *item, nphd_key key)
{
    return item->key.low == key.low && item->key.high == key.high;
}

static bool has_bytes(const model_item *item, const uint8_t *data, size_t bytes)
{
    return item->bytes == bytes && memcmp(item->data, data, bytes) == 0;
}

/* Is the vector one of the key's? `taken` marks those met before, if not NULL. */
static bool take_vector(const index_model *model, nphd_key key, const uint8_t *data, size_t bytes,
                        uint8_t *taken)
{
    for (size_t i = 0; i < model->count; i++) {
        if ((taken == NULL || taken[i] == 0) && is_key(&model->items[i], key) &&
            has_bytes(&model->items[i], data, bytes)) {
            if (taken != NULL) {
                taken[i] = 1;
            }
            return true;
        }
    }
    return false;
}

static size_t count_of(const index_model *model, nphd_key key)
{
    size_t count = 0;

    for (size_t i = 0; i < model->count; i++) {
        count += is_key(&model->items[i], key) ? 1 : 0;
    }
    return count;
}

static bool same_key(const index_model *model, nphd_sharded *sharded, nphd_key key, size_t expected)
{
    nphd_error err = NPHD_ERROR_INIT;
    uint8_t data[NPHD_MAX_BYTES];
    size_t bytes = 77;
    size_t count = 77;
    bool there = expected == 0;
    nphd_status status;

    if (!fails(model, "contains", nphd_sharded_contains(sharded, key, &there, &err), &err) ||
        !fails(model, "count", nphd_sharded_count(sharded, key, &count, &err), &err)) {
        return false;
    }
    if (there != (expected > 0) || count != expected) {
        return differs(model, "key %" PRIx64 ":%" PRIx64 ": contains %d, count %zu; right is %zu",
                       key.high, key.low, (int)there, count, expected);
    }
    status = nphd_sharded_get(sharded, key, data, sizeof(data), &bytes, &err);
    if (expected == 0) {
        return status == NPHD_NOT_FOUND && bytes == 0
                   ? true
                   : differs(model, "get of the absent key %" PRIx64 ":%" PRIx64 ": %s, %zu bytes",
                             key.high, key.low, nphd_status_name(status), bytes);
    }
    if (!fails(model, "get", status, &err)) {
        return false;
    }
    return take_vector(model, key, data, bytes, NULL)
               ? true
               : differs(model, "get of %" PRIx64 ":%" PRIx64 ": another vector, of %zu bytes",
                         key.high, key.low, bytes);
}

static bool same_all(const index_model *model, nphd_sharded *sharded, nphd_key key, size_t expected)
{
    nphd_error err = NPHD_ERROR_INIT;
    uint8_t *taken = must_have(calloc(model->count + 1, 1));
    uint8_t *data = must_have(malloc((expected + 1) * model->max_bytes));
    size_t *bytes = must_have(malloc((expected + 1) * sizeof(*bytes)));
    size_t count = 77;
    size_t needed = 0;
    bool same = true;

    if (!fails(model, "get_all",
               nphd_sharded_get_all(sharded, key, data, bytes, expected + 1, &count, &err), &err) ||
        count != expected) {
        same = differs(model, "get_all: %zu vectors; right is %zu", count, expected);
    }
    for (size_t i = 0; same && i < expected; i++) {
        if (!take_vector(model, key, data + i * model->max_bytes, bytes[i], taken)) {
            same = differs(model, "get_all: vector %zu is another one", i);
        }
    }
    if (same && expected > 0) {
        const size_t stored = bytes[0];
        if (nphd_sharded_get_all(sharded, key, data, bytes, expected - 1, &count, &err) !=
                NPHD_TOO_SMALL ||
            count != expected) {
            same = differs(model, "get_all into too small a room: %zu", count);
        } else if (expected == 1 && (nphd_sharded_get(sharded, key, data, stored - 1, &needed,
                                                      &err) != NPHD_TOO_SMALL ||
                                     needed != stored)) {
            same = differs(model, "get into too small a room: %zu bytes", needed);
        }
    }
    free(taken);
    free(data);
    free(bytes);
    return same;
}

static bool same_keys(const index_model *model, const nphd_key *keys, size_t key_count,
                      nphd_sharded *sharded, test_random *random)
{
    const size_t chosen = key_count == 0 ? 0 : test_random_below(random, key_count);
    nphd_error err = NPHD_ERROR_INIT;
    uint8_t *data = must_have(malloc(key_count * model->max_bytes + 1));
    size_t *bytes = must_have(malloc((key_count + 1) * sizeof(*bytes)));
    bool *there = must_have(malloc((key_count + 1) * sizeof(*there)));
    bool same = fails(model, "get_many",
                      nphd_sharded_get_many(sharded, keys, key_count, data, bytes, &err), &err) &&
                fails(model, "contains_many",
                      nphd_sharded_contains_many(sharded, keys, key_count, there, &err), &err);

    for (size_t i = 0; same && i < key_count; i++) {
        const size_t expected = count_of(model, keys[i]);
        same = same_key(model, sharded, keys[i], expected) &&
               (i != chosen || same_all(model, sharded, keys[i], expected));
        if (same && (expected == 0 ? bytes[i] != 0
                                   : !take_vector(model, keys[i], data + i * model->max_bytes,
                                                  bytes[i], NULL))) {
            same = differs(model, "get_many: item %zu of %zu bytes is wrong", i, bytes[i]);
        }
        if (same && there[i] != (expected > 0)) {
            same = differs(model, "contains_many: item %zu is %d", i, (int)there[i]);
        }
    }
    free(data);
    free(bytes);
    free(there);
    return same;
}

static bool same_cursor(const index_model *model, nphd_sharded *sharded)
{
    nphd_sharded_cursor cursor = nphd_sharded_cursor_begin(sharded);
    nphd_error err = NPHD_ERROR_INIT;
    uint8_t *taken = must_have(calloc(model->count + 1, 1));
    uint8_t data[NPHD_MAX_BYTES];
    nphd_key key;
    size_t bytes = 0;
    size_t met = 0;
    nphd_status status = NPHD_OK;
    bool same = true;

    while (same &&
           (status = nphd_sharded_cursor_next(&cursor, &key, data, &bytes, &err)) == NPHD_OK) {
        met++;
        if (!take_vector(model, key, data, bytes, taken)) {
            same = differs(model, "cursor: entry %zu, key %" PRIx64 ":%" PRIx64 ", is not there",
                           met, key.high, key.low);
        }
    }
    if (same && (status != NPHD_NOT_FOUND || met != model->count || err.text[0] != '\0')) {
        same = differs(model, "cursor: %zu entries of %zu, then %s", met, model->count,
                       nphd_status_name(status));
    }
    free(taken);
    return same;
}

/* ---- counters ---- */

static bool same_stats(const index_model *model, nphd_sharded *sharded,
                       const nphd_sharded_stats *stats)
{
    if (stats->size != model->count || nphd_sharded_size(sharded) != model->count) {
        return differs(model, "size %" PRIu64 " in the stats, %" PRIu64 " outside; right is %zu",
                       stats->size, nphd_sharded_size(sharded), model->count);
    }
    if (stats->dirty != model->dirty || nphd_sharded_dirty(sharded) != model->dirty) {
        return differs(model, "dirty %" PRIu64 "; right is %" PRIu64, stats->dirty, model->dirty);
    }
    if (model->key_bits == 64 && stats->next_automatic_key != model->next_automatic) {
        return differs(model, "next automatic key %" PRIu64 "; right is %" PRIu64,
                       stats->next_automatic_key, model->next_automatic);
    }
    if (stats->tombstones > stats->dead || stats->active_vectors > stats->size) {
        return differs(model, "%" PRIu64 " tombstones of %" PRIu64 " dead, %" PRIu64 " active",
                       stats->tombstones, stats->dead, stats->active_vectors);
    }
    if (stats->max_bits != 8 * model->max_bytes ||
        nphd_sharded_max_bytes(sharded) != model->max_bytes || stats->metric != model->metric ||
        stats->key_bits != model->key_bits || stats->multi != model->multi ||
        stats->read_only != model->view || !stats->verified) {
        return differs(model, "a parameter in the stats");
    }
    return true;
}

/* The list of shards adds up to the stats. */
static bool same_shards(const index_model *model, nphd_sharded *sharded,
                        const nphd_sharded_stats *stats)
{
    nphd_error err = NPHD_ERROR_INIT;
    nphd_shard_info *shards = must_have(malloc(MOST_SHARDS * sizeof(*shards)));
    size_t count = 0;
    uint64_t vectors = 0;
    uint64_t dead = 0;
    uint64_t active = 0;
    bool same = fails(model, "shards",
                      nphd_sharded_shards(sharded, shards, MOST_SHARDS, &count, &err), &err);

    for (size_t i = 0; same && i < count; i++) {
        vectors += shards[i].vectors;
        dead += shards[i].dead;
        active += shards[i].active ? 1 : 0;
        if (shards[i].vectors + shards[i].dead > shards[i].slots ||
            (i > 0 && shards[i - 1].number >= shards[i].number) ||
            (shards[i].active && (i + 1 < count || shards[i].vectors != stats->active_vectors))) {
            same = differs(model, "shards: entry %zu of %zu", i, count);
        }
    }
    if (same && (vectors != model->count || dead != stats->dead ||
                 active != (model->view ? 0 : 1) || stats->view_shards != count - active)) {
        same = differs(model,
                       "shards: %zu with %" PRIu64 " vectors, %" PRIu64 " dead, %" PRIu64
                       " of them active; stats: %" PRIu64 " views, %" PRIu64 " dead",
                       count, vectors, dead, active, stats->view_shards, stats->dead);
    }
    free(shards);
    return same;
}

/* ---- searches ---- */

typedef struct question {
    nphd_vector queries[QUERIES];
    uint8_t rooms[QUERIES][NPHD_MAX_BYTES];
    size_t capacity;
    nphd_search_options options;
    nphd_match *right[QUERIES]; /* all that may be found, in order */
    size_t right_count[QUERIES];
    nphd_match *found; /* capacity for each query */
    nphd_search_report reports[QUERIES];
} question;

static int compare_matches(const void *left, const void *right)
{
    const nphd_match *a = left;
    const nphd_match *b = right;

    if (a->distance < b->distance || a->distance > b->distance) {
        return a->distance < b->distance ? -1 : 1;
    }
    return nphd_key_compare(a->key, b->key);
}

static bool filter_two_thirds(void *context, nphd_key key)
{
    (void)context;
    return (key.low ^ key.high) % 3 != 0;
}

static float distance_of(const index_model *model, const model_item *item, nphd_vector query)
{
    const nphd_vector stored = {item->data, item->bytes};
    uint32_t differing = 0;
    float share = 0;

    if (model->metric == NPHD_METRIC_HAMMING) {
        (void)nphd_hamming(stored, query, &differing, NULL);
        return (float)differing;
    }
    query.bytes = query.bytes < model->max_bytes ? query.bytes : model->max_bytes;
    (void)nphd_distance(stored, query, &share, NULL);
    return share;
}

static void find_right(const index_model *model, question *asked, size_t number)
{
    const nphd_search_options *options = &asked->options;
    nphd_match *right = must_have(malloc((model->count + 1) * sizeof(*right)));
    size_t count = 0;

    for (size_t i = 0; i < model->count; i++) {
        const model_item *item = &model->items[i];
        const float distance = distance_of(model, item, asked->queries[number]);
        if ((options->filter == NULL || options->filter(options->filter_context, item->key)) &&
            (!options->use_radius || distance <= options->radius)) {
            right[count].key = item->key;
            right[count++].distance = distance;
        }
    }
    if (count > 1) {
        qsort(right, count, sizeof(*right), compare_matches);
    }
    asked->right[number] = right;
    asked->right_count[number] = count;
}

static void question_init(const index_model *model, test_random *random, question *asked)
{
    const size_t capacities[] = {1, 2, 7, model->count + 1, 3 * model->count + 9};
    const nphd_search_options none = NPHD_SEARCH_OPTIONS_INIT;

    asked->capacity = capacities[test_random_below(random, 5)];
    asked->options = none;
    if (test_random_below(random, 3) == 0) {
        /* a distance that may be there, to have ties with the radius */
        const uint64_t bits = 8 * (1 + test_random_below(random, model->max_bytes));
        const float differing = (float)test_random_below(random, bits + 1);
        asked->options.use_radius = true;
        asked->options.radius =
            model->metric == NPHD_METRIC_HAMMING ? differing : differing / (float)bits;
    }
    if (test_random_below(random, 3) == 0) {
        asked->options.filter = filter_two_thirds;
    }
    asked->found = must_have(malloc(QUERIES * asked->capacity * sizeof(*asked->found)));
    for (size_t i = 0; i < QUERIES; i++) {
        asked->queries[i] = index_model_vector(model, random, asked->rooms[i]);
        if (model->metric == NPHD_METRIC_NPHD && test_random_below(random, 8) == 0) {
            /* longer than anything stored: the first max_bits count */
            test_random_fill(random, asked->rooms[i], sizeof(asked->rooms[i]));
            asked->queries[i].bytes = NPHD_MAX_BYTES;
        }
        find_right(model, asked, i);
    }
}

static void question_free(question *asked)
{
    for (size_t i = 0; i < QUERIES; i++) {
        free(asked->right[i]);
    }
    free(asked->found);
}

static bool is_exact(const index_model *model, const question *asked, size_t number,
                     const char *what)
{
    const nphd_match *found = asked->found + number * asked->capacity;
    const nphd_match *right = asked->right[number];
    const nphd_search_report *report = &asked->reports[number];
    const size_t count =
        asked->right_count[number] < asked->capacity ? asked->right_count[number] : asked->capacity;

    if (report->count != count || !report->exact) {
        return differs(model, "%s %zu: %zu matches, exact %d; %zu are right", what, number,
                       report->count, (int)report->exact, count);
    }
    for (size_t i = 0; i < count; i++) {
        if (compare_matches(&found[i], &right[i]) != 0) {
            return differs(model,
                           "%s %zu: match %zu is %" PRIx64 ":%" PRIx64 " at %.9g; right is "
                           "%" PRIx64 ":%" PRIx64 " at %.9g",
                           what, number, i, found[i].key.high, found[i].key.low,
                           (double)found[i].distance, right[i].key.high, right[i].key.low,
                           (double)right[i].distance);
        }
    }
    return true;
}

/* An approximate answer may miss, but what it names is there, at that distance, once, in order:
 * both are in the same total order, so that one pass finds every match. */
static bool is_plausible(const index_model *model, const question *asked)
{
    const nphd_match *found = asked->found;
    size_t at = 0;

    if (asked->reports[0].count > asked->capacity) {
        return differs(model, "graph search: %zu matches", asked->reports[0].count);
    }
    for (size_t i = 0; i < asked->reports[0].count; i++, at++) {
        while (at < asked->right_count[0] &&
               compare_matches(&found[i], &asked->right[0][at]) != 0) {
            at++;
        }
        if (at == asked->right_count[0]) {
            return differs(model,
                           "graph search: match %zu, %" PRIx64 ":%" PRIx64
                           " at %.9g, is wrong, double or out of order",
                           i, found[i].key.high, found[i].key.low, (double)found[i].distance);
        }
    }
    return true;
}

static bool same_searches(const index_model *model, nphd_sharded *sharded, test_random *random)
{
    nphd_error err = NPHD_ERROR_INIT;
    question asked;
    bool same = true;

    question_init(model, random, &asked);
    asked.options.mode = test_random_below(random, 2) == 0 ? NPHD_SEARCH_AUTO : NPHD_SEARCH_EXACT;
    for (uint32_t threads = 1; same && threads <= 3; threads += 2) {
        asked.options.threads = threads;
        same = fails(model, "search",
                     nphd_sharded_search(sharded, asked.queries[0], asked.capacity, &asked.options,
                                         asked.found, asked.reports, &err),
                     &err) &&
               is_exact(model, &asked, 0, threads == 1 ? "search" : "search by 3 threads");
    }
    asked.options.threads = 1 + 2 * (uint32_t)test_random_below(random, 2);
    same = same && fails(model, "search_many",
                         nphd_sharded_search_many(sharded, asked.queries, QUERIES, asked.capacity,
                                                  &asked.options, asked.found, asked.reports, &err),
                         &err);
    for (size_t i = 0; same && i < QUERIES; i++) {
        same = is_exact(model, &asked, i, "search_many");
    }
    asked.options.mode = NPHD_SEARCH_APPROXIMATE;
    same = same &&
           fails(model, "graph search",
                 nphd_sharded_search(sharded, asked.queries[0], asked.capacity, &asked.options,
                                     asked.found, asked.reports, &err),
                 &err) &&
           is_plausible(model, &asked);
    question_free(&asked);
    return same;
}

bool sharded_model_matches(const index_model *model, const nphd_key *keys, size_t key_count,
                           nphd_sharded *sharded, test_random *random)
{
    nphd_sharded_stats stats = NPHD_SHARDED_STATS_INIT;
    nphd_error err = NPHD_ERROR_INIT;

    return fails(model, "stats", nphd_sharded_get_stats(sharded, &stats, &err), &err) &&
           same_stats(model, sharded, &stats) && same_shards(model, sharded, &stats) &&
           same_keys(model, keys, key_count, sharded, random) && same_cursor(model, sharded) &&
           same_searches(model, sharded, random);
}
