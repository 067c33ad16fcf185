/* Written to be obviously right, not fast: every answer is a walk over the array. */
#include "index_model.h"

#include <stdarg.h>
#include <string.h>

#define MOST_QUERIES 3

typedef struct model_answer {
    nphd_key key;
    uint32_t differing;
    uint32_t shared; /* bits; at least 1 */
} model_answer;

static void *must_have(void *memory)
{
    if (memory == NULL) {
        (void)fprintf(stderr, "index_model: out of memory\n");
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
        (void)fprintf(stderr, "index differs from its model: ");
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

void index_model_init(index_model *model, const nphd_index_options *options)
{
    memset(model, 0, sizeof(*model));
    model->metric = options->metric == NPHD_METRIC_DEFAULT ? NPHD_METRIC_NPHD : options->metric;
    model->max_bytes = options->max_bits == 0 ? NPHD_DEFAULT_BITS / 8 : options->max_bits / 8;
    model->key_bits = options->key_bits == 0 ? 64 : options->key_bits;
    model->multi = options->multi;
}

void index_model_free(index_model *model)
{
    free(model->items);
    memset(model, 0, sizeof(*model));
}

void index_model_copy(index_model *to, const index_model *from)
{
    *to = *from;
    to->room = from->count;
    to->items = NULL;
    if (from->count > 0) {
        to->items = must_have(malloc(from->count * sizeof(*to->items)));
        memcpy(to->items, from->items, from->count * sizeof(*to->items));
    }
}

/* ---- changes ---- */

static model_item *model_find(const index_model *model, nphd_key key)
{
    for (size_t i = 0; i < model->count; i++) {
        if (nphd_key_compare(model->items[i].key, key) == 0) {
            return &model->items[i];
        }
    }
    return NULL;
}

static void item_set(model_item *item, nphd_key key, nphd_vector vector)
{
    item->key = key;
    item->bytes = (uint32_t)vector.bytes;
    memset(item->data, 0, sizeof(item->data));
    memcpy(item->data, vector.data, vector.bytes);
}

static void model_append(index_model *model, nphd_key key, nphd_vector vector)
{
    if (model->count == model->room) {
        model->room = model->room == 0 ? 64 : 2 * model->room;
        model->items = must_have(realloc(model->items, model->room * sizeof(*model->items)));
    }
    item_set(&model->items[model->count++], key, vector);
}

bool index_model_has(const index_model *model, nphd_key key)
{
    return model_find(model, key) != NULL;
}

size_t index_model_count(const index_model *model, nphd_key key)
{
    size_t count = 0;

    for (size_t i = 0; i < model->count; i++) {
        count += nphd_key_compare(model->items[i].key, key) == 0 ? 1 : 0;
    }
    return count;
}

/* A batch takes its slots before it gives back those that it replaces. */
static void model_take_slots(index_model *model, size_t size_before, size_t taken)
{
    const uint64_t used = (uint64_t)size_before + taken;

    model->slots = used > model->slots ? used : model->slots;
}

size_t index_model_add_many(index_model *model, const nphd_key *keys, const nphd_vector *vectors,
                            size_t count, nphd_key *out_keys)
{
    const size_t before = model->count;

    for (size_t i = 0; i < count; i++) {
        nphd_key key = keys != NULL ? keys[i] : nphd_key_u64(0);
        if (keys == NULL) {
            do {
                key = nphd_key_u64(model->next_automatic++);
            } while (index_model_has(model, key));
        }
        if (out_keys != NULL) {
            out_keys[i] = key;
        }
        if (model->multi || !index_model_has(model, key)) {
            model_append(model, key, vectors[i]);
        }
    }
    model_take_slots(model, before, model->count - before);
    model->dirty += model->count - before;
    return model->count - before;
}

nphd_upsert_counts index_model_upsert(index_model *model, const nphd_key *keys,
                                      const nphd_vector *vectors, size_t count)
{
    nphd_upsert_counts counts = {0, 0, 0};
    const size_t before = model->count;

    for (size_t i = 0; i < count; i++) {
        bool last = true;
        for (size_t j = i + 1; j < count; j++) {
            last = last && nphd_key_compare(keys[i], keys[j]) != 0;
        }
        model_item *item = model_find(model, keys[i]);
        if (!last) {
            continue;
        }
        if (item == NULL) {
            model_append(model, keys[i], vectors[i]);
            counts.added++;
        } else if (item->bytes == vectors[i].bytes &&
                   memcmp(item->data, vectors[i].data, vectors[i].bytes) == 0) {
            counts.unchanged++;
        } else {
            item_set(item, keys[i], vectors[i]);
            counts.replaced++;
        }
    }
    model_take_slots(model, before, counts.added + counts.replaced);
    model->dirty += counts.added + 2 * counts.replaced;
    return counts;
}

size_t index_model_remove(index_model *model, const nphd_key *keys, size_t count)
{
    const size_t before = model->count;

    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < model->count;) {
            if (nphd_key_compare(model->items[j].key, keys[i]) == 0) {
                model->items[j] = model->items[--model->count];
            } else {
                j++;
            }
        }
    }
    model->dirty += before - model->count;
    return before - model->count;
}

nphd_status index_model_rename(index_model *model, nphd_key from, nphd_key to)
{
    if (!index_model_has(model, from)) {
        return NPHD_NOT_FOUND;
    }
    if (nphd_key_compare(from, to) == 0) {
        return NPHD_OK;
    }
    if (index_model_has(model, to) && !model->multi) {
        return NPHD_EXISTS;
    }
    for (size_t i = 0; i < model->count; i++) {
        if (nphd_key_compare(model->items[i].key, from) == 0) {
            model->items[i].key = to;
        }
    }
    model->dirty++; /* a rename counts once, however many vectors it moves */
    return NPHD_OK;
}

void index_model_clear(index_model *model)
{
    model->dirty += model->count;
    model->count = 0;
    model->slots = 0;
}

void index_model_reset(index_model *model)
{
    model->count = 0;
    model->slots = 0;
    model->dirty = 0;
    model->next_automatic = 0;
    model->view = false;
}

/* ---- what a search must find ---- */

static int compare_answers(const void *left, const void *right)
{
    const model_answer *a = left;
    const model_answer *b = right;
    const uint64_t x = (uint64_t)a->differing * b->shared;
    const uint64_t y = (uint64_t)b->differing * a->shared;

    if (x != y) {
        return x < y ? -1 : 1;
    }
    return nphd_key_compare(a->key, b->key);
}

static float answer_distance(const index_model *model, const model_answer *answer)
{
    return model->metric == NPHD_METRIC_HAMMING ? (float)answer->differing
                                                : (float)answer->differing / (float)answer->shared;
}

static model_answer answer_of(const index_model *model, const model_item *item, nphd_vector query)
{
    model_answer answer = {item->key, 0, 1};
    size_t shared = query.bytes < model->max_bytes ? query.bytes : model->max_bytes;

    shared = item->bytes < shared ? item->bytes : shared;
    for (size_t i = 0; i < 8 * shared; i++) {
        const unsigned differing = (unsigned)(item->data[i / 8] ^ query.data[i / 8]);
        answer.differing += differing >> (i % 8) & 1U;
    }
    answer.shared = (uint32_t)(8 * shared);
    return answer;
}

static bool is_wanted(const nphd_search_options *options, nphd_key key)
{
    return options->filter == NULL || options->filter(options->filter_context, key);
}

/* All answers, sorted; to be freed. */
static model_answer *model_search(const index_model *model, nphd_vector query,
                                  const nphd_search_options *options, size_t *out_count)
{
    model_answer *answers = must_have(malloc((model->count + 1) * sizeof(*answers)));
    size_t count = 0;

    for (size_t i = 0; i < model->count; i++) {
        answers[count] = answer_of(model, &model->items[i], query);
        if (is_wanted(options, answers[count].key) &&
            (!options->use_radius || answer_distance(model, &answers[count]) <= options->radius)) {
            count++;
        }
    }
    qsort(answers, count, sizeof(*answers), compare_answers);
    *out_count = count;
    return answers;
}

static bool filter_two_thirds(void *context, nphd_key key)
{
    (void)context;
    return (key.low ^ key.high) % 3 != 0;
}

static bool same_exact(const index_model *model, nphd_vector query, size_t capacity,
                       const nphd_search_options *options, const nphd_match *found,
                       const nphd_search_report *report)
{
    size_t count = 0;
    model_answer *answers = model_search(model, query, options, &count);
    bool same = true;

    count = count < capacity ? count : capacity;
    if (report->count != count || !report->exact) {
        same = differs(model, "search: %zu matches, exact %d; %zu are right", report->count,
                       (int)report->exact, count);
    }
    for (size_t i = 0; i < count && same; i++) {
        if (nphd_key_compare(found[i].key, answers[i].key) != 0 ||
            found[i].distance != answer_distance(model, &answers[i])) {
            same = differs(model,
                           "search: match %zu is %" PRIx64 ":%" PRIx64 " at %.9g; right is %" PRIx64
                           ":%" PRIx64 " at %.9g",
                           i, found[i].key.high, found[i].key.low, (double)found[i].distance,
                           answers[i].key.high, answers[i].key.low,
                           (double)answer_distance(model, &answers[i]));
        }
    }
    free(answers);
    return same;
}

/* An approximate answer may miss, but what it names must be there, at that distance, in order. */
static bool is_plausible(const index_model *model, nphd_vector query, size_t capacity,
                         const nphd_search_options *options, const nphd_match *found,
                         const nphd_search_report *report)
{
    size_t count = 0;
    model_answer *answers = model_search(model, query, options, &count);
    bool plausible = true;
    size_t at = 0;

    if (report->count > capacity || report->count > count) {
        plausible = differs(model, "graph search: %zu matches of %zu", report->count, count);
    }
    /* both are in the same total order, so one pass finds every match */
    for (size_t i = 0; plausible && i < report->count; i++, at++) {
        while (at < count && (nphd_key_compare(found[i].key, answers[at].key) != 0 ||
                              found[i].distance != answer_distance(model, &answers[at]))) {
            at++;
        }
        if (at == count) {
            plausible =
                differs(model, "graph search: match %zu is wrong, double or out of order", i);
        }
    }
    free(answers);
    return plausible;
}

static void random_search_options(const index_model *model, test_random *random,
                                  nphd_search_options *options)
{
    options->mode = NPHD_SEARCH_EXACT;
    options->threads = test_random_below(random, 2) == 0 ? 1 : 3;
    if (test_random_below(random, 3) == 0) {
        options->use_radius = true;
        /* a distance that may be there, to have ties with the radius */
        const uint64_t bits = 8 * (1 + test_random_below(random, model->max_bytes));
        options->radius = model->metric == NPHD_METRIC_HAMMING
                              ? (float)test_random_below(random, bits + 1)
                              : (float)test_random_below(random, bits + 1) / (float)bits;
    }
    if (test_random_below(random, 3) == 0) {
        options->filter = filter_two_thirds;
    }
}

static bool same_searches(const index_model *model, nphd_index *index, test_random *random,
                          size_t query_count)
{
    const size_t capacities[] = {1, 2, 7, model->count + 1, 3 * model->count + 9};
    const size_t capacity = capacities[test_random_below(random, 5)];
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_search_report reports[MOST_QUERIES];
    nphd_vector queries[MOST_QUERIES];
    uint8_t rooms[MOST_QUERIES][NPHD_MAX_BYTES];
    nphd_error err = NPHD_ERROR_INIT;
    nphd_match *found = must_have(malloc(query_count * capacity * sizeof(*found)));
    bool same;

    random_search_options(model, random, &options);
    for (size_t i = 0; i < query_count; i++) {
        queries[i] = index_model_vector(model, random, rooms[i]);
        if (model->metric == NPHD_METRIC_NPHD && test_random_below(random, 8) == 0) {
            /* longer than anything stored: the first max_bits count */
            test_random_fill(random, rooms[i], sizeof(rooms[i]));
            queries[i].bytes = NPHD_MAX_BYTES;
        }
    }
    same = fails(model, "search",
                 nphd_index_search_many(index, queries, query_count, capacity, &options, found,
                                        reports, &err),
                 &err);
    for (size_t i = 0; i < query_count && same; i++) {
        same = same_exact(model, queries[i], capacity, &options, found + i * capacity, &reports[i]);
    }
    options.mode = NPHD_SEARCH_APPROXIMATE;
    same = same && fails(model, "graph search",
                         nphd_index_search_many(index, queries, query_count, capacity, &options,
                                                found, reports, &err),
                         &err);
    for (size_t i = 0; i < query_count && same; i++) {
        same =
            is_plausible(model, queries[i], capacity, &options, found + i * capacity, &reports[i]);
    }
    free(found);
    return same;
}

/* ---- lookups ---- */

/* Is the vector one of the key's? `taken` marks those met before. */
static bool take_vector(const index_model *model, nphd_key key, const uint8_t *data, size_t bytes,
                        uint8_t *taken)
{
    for (size_t i = 0; i < model->count; i++) {
        const model_item *item = &model->items[i];
        if (taken[i] == 0 && nphd_key_compare(item->key, key) == 0 && item->bytes == bytes &&
            memcmp(item->data, data, bytes) == 0) {
            taken[i] = 1;
            return true;
        }
    }
    return false;
}

static bool same_one(const index_model *model, nphd_index *index, nphd_key key, uint8_t *taken)
{
    const size_t expected = index_model_count(model, key);
    const size_t shown = !model->multi && expected > 1 ? 1 : expected;
    nphd_error err = NPHD_ERROR_INIT;
    uint8_t data[NPHD_MAX_BYTES];
    size_t bytes = 77;
    size_t count = 77;
    bool there = false;

    if (!fails(model, "contains", nphd_index_contains(index, key, &there, &err), &err) ||
        !fails(model, "count", nphd_index_count(index, key, &count, &err), &err)) {
        return false;
    }
    if (there != (expected > 0) || count != shown) {
        return differs(model, "key %" PRIx64 ":%" PRIx64 ": contains %d, count %zu; right is %zu",
                       key.high, key.low, (int)there, count, shown);
    }
    const nphd_status status = nphd_index_get(index, key, data, sizeof(data), &bytes, &err);
    if (expected == 0) {
        return status == NPHD_NOT_FOUND && bytes == 0
                   ? true
                   : differs(model, "get of an absent key: %s, %zu bytes", nphd_status_name(status),
                             bytes);
    }
    memset(taken, 0, model->count);
    if (!fails(model, "get", status, &err) || !take_vector(model, key, data, bytes, taken)) {
        return differs(model, "get of %" PRIx64 ":%" PRIx64 ": another vector", key.high, key.low);
    }
    if (nphd_index_get(index, key, data, bytes - 1, &bytes, &err) != NPHD_TOO_SMALL) {
        return differs(model, "get into too small a room");
    }
    return true;
}

static bool same_all(const index_model *model, nphd_index *index, nphd_key key, uint8_t *taken)
{
    const size_t expected = index_model_count(model, key);
    nphd_error err = NPHD_ERROR_INIT;
    uint8_t *data = must_have(malloc((expected + 1) * model->max_bytes));
    size_t *bytes = must_have(malloc((expected + 1) * sizeof(*bytes)));
    size_t count = 77;
    bool same = true;

    memset(taken, 0, model->count);
    if (!fails(model, "get_all",
               nphd_index_get_all(index, key, data, bytes, expected + 1, &count, &err), &err) ||
        count != expected) {
        same = differs(model, "get_all: %zu vectors; right is %zu", count, expected);
    }
    for (size_t i = 0; i < expected && same; i++) {
        if (!take_vector(model, key, data + i * model->max_bytes, bytes[i], taken)) {
            same = differs(model, "get_all: vector %zu is another one", i);
        }
    }
    if (same && expected > 0 &&
        (nphd_index_get_all(index, key, data, bytes, expected - 1, &count, &err) !=
             NPHD_TOO_SMALL ||
         count != expected)) {
        same = differs(model, "get_all into too small a room: %zu", count);
    }
    free(data);
    free(bytes);
    return same;
}

static bool same_many(const index_model *model, nphd_index *index, test_random *random)
{
    nphd_key keys[20];
    size_t bytes[20];
    bool there[20];
    nphd_error err = NPHD_ERROR_INIT;
    uint8_t *data = must_have(malloc(20 * (size_t)model->max_bytes));
    uint8_t *taken = must_have(malloc(model->count + 1));
    bool same = true;

    for (size_t i = 0; i < 20; i++) {
        keys[i] = model->count > 0 && i % 2 == 0
                      ? model->items[test_random_below(random, model->count)].key
                      : index_model_key(model, random, 1000);
    }
    same =
        fails(model, "get_many", nphd_index_get_many(index, keys, 20, data, bytes, &err), &err) &&
        fails(model, "contains_many", nphd_index_contains_many(index, keys, 20, there, &err), &err);
    for (size_t i = 0; i < 20 && same; i++) {
        memset(taken, 0, model->count);
        if (index_model_has(model, keys[i])
                ? !take_vector(model, keys[i], data + i * model->max_bytes, bytes[i], taken)
                : bytes[i] != 0) {
            same = differs(model, "get_many: item %zu of %zu bytes is wrong", i, bytes[i]);
        }
        if (same && there[i] != index_model_has(model, keys[i])) {
            same = differs(model, "contains_many: item %zu is %d", i, (int)there[i]);
        }
    }
    free(data);
    free(taken);
    return same;
}

static bool same_cursor(const index_model *model, nphd_index *index)
{
    nphd_cursor cursor = nphd_index_cursor(index);
    nphd_error err = NPHD_ERROR_INIT;
    uint8_t *taken = must_have(calloc(model->count + 1, 1));
    uint8_t *data = must_have(malloc(model->max_bytes));
    nphd_key key;
    size_t bytes = 0;
    size_t met = 0;
    nphd_status status;
    bool same = true;

    while (same && (status = nphd_cursor_next(&cursor, &key, data, &bytes, &err)) == NPHD_OK) {
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
    free(data);
    return same;
}

static bool same_stats(const index_model *model, nphd_index *index)
{
    nphd_index_stats stats = NPHD_INDEX_STATS_INIT;
    nphd_error err = NPHD_ERROR_INIT;

    if (!fails(model, "stats", nphd_index_get_stats(index, &stats, &err), &err)) {
        return false;
    }
    if (stats.size != model->count || nphd_index_size(index) != model->count) {
        return differs(model, "size %" PRIu64 "; right is %zu", stats.size, model->count);
    }
    if (stats.removed != stats.slots - stats.size || stats.capacity < stats.slots) {
        return differs(model, "%" PRIu64 " removed and %" PRIu64 " slots, capacity %" PRIu64,
                       stats.removed, stats.slots, stats.capacity);
    }
    if (stats.max_bits != 8 * model->max_bytes || nphd_index_max_bytes(index) != model->max_bytes ||
        stats.metric != model->metric || stats.key_bits != model->key_bits ||
        stats.multi != model->multi || stats.view != model->view) {
        return differs(model, "a parameter in the stats");
    }
    if (model->loose) {
        return true;
    }
    if (stats.slots != model->slots || stats.dirty != model->dirty ||
        nphd_index_dirty(index) != model->dirty ||
        (model->key_bits == 64 && stats.next_automatic_key != model->next_automatic)) {
        return differs(model,
                       "slots %" PRIu64 ", dirty %" PRIu64 ", next key %" PRIu64 "; right are "
                       "%" PRIu64 ", %" PRIu64 ", %" PRIu64,
                       stats.slots, stats.dirty, stats.next_automatic_key, model->slots,
                       model->dirty, model->next_automatic);
    }
    return true;
}

bool index_model_glances(const index_model *model, nphd_index *index, test_random *random)
{
    uint8_t *taken = must_have(malloc(model->count + 1));
    bool same = same_stats(model, index) &&
                same_one(model, index, index_model_key(model, random, 200), taken);

    if (same && model->count > 0) {
        const nphd_key key = model->items[test_random_below(random, model->count)].key;
        same = same_one(model, index, key, taken) && same_all(model, index, key, taken);
    }
    free(taken);
    return same && same_searches(model, index, random, 1);
}

bool index_model_matches(const index_model *model, nphd_index *index, test_random *random)
{
    uint8_t *taken = must_have(malloc(model->count + 1));
    bool same = index_model_glances(model, index, random) && same_cursor(model, index) &&
                same_many(model, index, random);

    for (size_t i = 0; i < model->count && same; i++) {
        same = same_one(model, index, model->items[i].key, taken);
        if (same && i % 8 == 0) {
            same = same_all(model, index, model->items[i].key, taken);
        }
    }
    free(taken);
    for (size_t i = 0; i < 3 && same; i++) {
        same = same_searches(model, index, random, MOST_QUERIES);
    }
    return same;
}

/* ---- random values ---- */

nphd_vector index_model_vector(const index_model *model, test_random *random, uint8_t *room)
{
    nphd_vector vector = {room, model->max_bytes};

    if (model->metric == NPHD_METRIC_NPHD) {
        vector.bytes = 1 + test_random_below(random, model->max_bytes);
    }
    if (model->count > 0 && test_random_below(random, 3) > 0) {
        const model_item *near = &model->items[test_random_below(random, model->count)];
        memcpy(room, near->data, sizeof(near->data));
        for (uint64_t flips = test_random_below(random, 6); flips > 0; flips--) {
            const uint64_t bit = test_random_below(random, 8 * vector.bytes);
            room[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        }
    } else {
        test_random_fill(random, room, NPHD_MAX_BYTES);
    }
    return vector;
}

nphd_key index_model_key(const index_model *model, test_random *random, uint64_t range)
{
    static const uint64_t edges[] = {0,          1,          UINT64_MAX - 1, 1ULL << 63,
                                     UINT32_MAX, 1ULL << 32, INT64_MAX};
    nphd_key key = nphd_key_u64(test_random_below(random, range));

    if (test_random_below(random, 12) == 0) {
        key.low = edges[test_random_below(random, 7)];
    }
    if (model->key_bits == 128) {
        switch (test_random_below(random, 4)) {
        case 0:
            key.high = UINT64_MAX;
            break;
        case 1:
            key.high = key.low;
            key.low = UINT64_MAX;
            key.high = key.high == UINT64_MAX ? 0 : key.high;
            break;
        case 2:
            key.high = 3;
            break;
        default:
            break;
        }
    }
    return key;
}
