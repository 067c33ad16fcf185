#include "radius_check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define MOST_QUERIES 6
#define MOST_VECTORS (MOST_QUERIES * NPHD_MAX_VARIANTS)

/* One right answer. */
typedef struct truth {
    nphd_match match;
    uint32_t differing;
    uint32_t shared; /* bytes */
} truth;

typedef struct answers {
    truth *items; /* nearest first */
    size_t count;
} answers;

/* A question, and what was answered. */
typedef struct question {
    const index_model *model;
    const radius_target *target;
    uint8_t data[MOST_VECTORS][NPHD_MAX_BYTES];
    nphd_vector vectors[MOST_VECTORS];
    size_t count; /* queries */
    uint32_t variants;
    float radius;
    size_t capacity;
    nphd_search_options options;
    answers right[MOST_QUERIES]; /* within the radius */
    nphd_match *out;
    nphd_search_report reports[MOST_QUERIES];
} question;

/* ---- the naive form ---- */

static int compare(const void *left, const void *right)
{
    const truth *a = left;
    const truth *b = right;
    const uint32_t x = a->differing * b->shared;
    const uint32_t y = b->differing * a->shared;

    if (x != y) {
        return x < y ? -1 : 1;
    }
    const int order = nphd_key_compare(a->match.key, b->match.key);
    return order != 0 ? order : (int)a->match.variant - (int)b->match.variant;
}

static truth compare_with(const index_model *model, const model_item *item, nphd_vector query)
{
    const size_t most = query.bytes < model->max_bytes ? query.bytes : model->max_bytes;
    truth one;

    memset(&one, 0, sizeof(one));
    one.match.key = item->key;
    one.shared = item->bytes < most ? item->bytes : (uint32_t)most;
    for (uint32_t i = 0; i < one.shared; i++) {
        one.differing += (uint32_t)__builtin_popcount(item->data[i] ^ query.data[i]);
    }
    one.match.distance = model->metric == NPHD_METRIC_HAMMING
                             ? (float)one.differing
                             : (float)one.differing / (float)(8 * one.shared);
    return one;
}

static bool odd_keys(void *context, nphd_key key)
{
    (void)context;
    return key.low % 2 == 1;
}

static answers answer(const question *asked, size_t number, float radius)
{
    const index_model *model = asked->model;
    answers right = {calloc(model->count + 1, sizeof(truth)), 0};

    assert_non_null(right.items);
    for (size_t i = 0; i < model->count; i++) {
        const nphd_vector *variants = &asked->vectors[number * asked->variants];
        truth nearest = compare_with(model, &model->items[i], variants[0]);
        for (uint32_t v = 1; v < asked->variants; v++) {
            truth other = compare_with(model, &model->items[i], variants[v]);
            other.match.variant = v;
            if (other.differing * nearest.shared < nearest.differing * other.shared) {
                nearest = other;
            }
        }
        if (nearest.match.distance <= radius &&
            (asked->options.filter == NULL || odd_keys(NULL, nearest.match.key))) {
            right.items[right.count++] = nearest;
        }
    }
    qsort(right.items, right.count, sizeof(truth), compare);
    return right;
}

/* ---- questions ---- */

/* A variant of a query is often the query itself or near to it, so that there are ties. */
static void choose_vectors(question *asked, test_random *random)
{
    const index_model *model = asked->model;

    for (size_t i = 0; i < asked->count * asked->variants; i++) {
        uint8_t *data = asked->data[i];
        asked->vectors[i] = index_model_vector(model, random, data);
        if (i % asked->variants != 0 && test_random_below(random, 3) == 0) {
            memcpy(data, asked->data[i - 1], NPHD_MAX_BYTES);
            asked->vectors[i].bytes = asked->vectors[i - 1].bytes;
            data[0] ^= (uint8_t)test_random_below(random, 4);
        } else if (model->metric == NPHD_METRIC_NPHD && test_random_below(random, 8) == 0) {
            asked->vectors[i].bytes = NPHD_MAX_BYTES; /* more than counts */
        }
    }
}

static float choose_radius(const question *asked, test_random *random)
{
    const index_model *model = asked->model;
    const bool hamming = model->metric == NPHD_METRIC_HAMMING;

    switch (test_random_below(random, 6)) {
    case 0:
        return 0;
    case 1:
        return hamming ? (float)test_random_below(random, 8 * model->max_bytes + 9) : 1;
    case 2:
        return hamming ? 3e9F : 1.0F / (float)(1 + test_random_below(random, 40));
    default:
        break;
    }
    if (model->count == 0 || asked->count == 0) {
        return 0.5F;
    }
    /* exactly as far as one of them is */
    return compare_with(model, &model->items[test_random_below(random, model->count)],
                        asked->vectors[0])
        .match.distance;
}

static void question_begin(question *asked, const index_model *model, const radius_target *target,
                           test_random *random)
{
    const nphd_search_options none = NPHD_SEARCH_OPTIONS_INIT;
    const size_t capacities[] = {1,  2,
                                 7,  model->count > 1 ? model->count - 1 : 1,
                                 40, model->count + 1,
                                 1,  model->count > 0 ? model->count : 1};

    memset(asked, 0, sizeof(*asked));
    asked->model = model;
    asked->target = target;
    asked->options = none;
    asked->count = 1 + test_random_below(random, 2 * MOST_QUERIES);
    asked->count = asked->count > MOST_QUERIES ? 1 : asked->count;
    asked->variants = 1 + (uint32_t)test_random_below(random, 2 * NPHD_MAX_VARIANTS);
    asked->variants = asked->variants > NPHD_MAX_VARIANTS ? 1 : asked->variants;
    asked->options.variants =
        asked->variants == 1 ? (uint32_t)test_random_below(random, 2) : asked->variants;
    asked->options.threads = (uint32_t)test_random_below(random, 5);
    asked->options.filter = test_random_below(random, 4) == 0 ? odd_keys : NULL;
    asked->capacity = capacities[test_random_below(random, 8)];
    choose_vectors(asked, random);
    asked->radius = choose_radius(asked, random);
    asked->out = calloc(asked->count * asked->capacity, sizeof(nphd_match));
    assert_non_null(asked->out);
    for (size_t i = 0; i < asked->count; i++) {
        asked->right[i] = answer(asked, i, asked->radius);
    }
}

static void question_end(question *asked)
{
    for (size_t i = 0; i < asked->count; i++) {
        free(asked->right[i].items);
    }
    free(asked->out);
}

/* ---- looking at answers ---- */

static bool same_match(const nphd_match *a, const nphd_match *b)
{
    return nphd_key_compare(a->key, b->key) == 0 && a->variant == b->variant &&
           memcmp(&a->distance, &b->distance, sizeof(a->distance)) == 0;
}

static void expect_match(const char *what, size_t query, size_t at, const nphd_match *is,
                         const nphd_match *right)
{
    if (!same_match(is, right)) {
        fail_msg("%s: query %zu, match %zu: key %" PRIx64 ":%" PRIx64 " at %g by variant %u; "
                 "right is %" PRIx64 ":%" PRIx64 " at %g by %u",
                 what, query, at, is->key.high, is->key.low, (double)is->distance, is->variant,
                 right->key.high, right->key.low, (double)right->distance, right->variant);
    }
}

/* The nearest of the right ones, as many as asked for. */
static void expect_nearest(const question *asked, const char *what, size_t number,
                           const answers *right, bool more)
{
    const nphd_search_report *report = &asked->reports[number];
    const size_t expected = right->count < asked->capacity ? right->count : asked->capacity;

    if (report->count != expected || report->more != more || !report->exact) {
        fail_msg("%s: query %zu: %zu matches of %zu, capacity %zu, more %d, exact %d", what, number,
                 report->count, right->count, asked->capacity, report->more, report->exact);
    }
    for (size_t i = 0; i < expected; i++) {
        expect_match(what, number, i, &asked->out[number * asked->capacity + i],
                     &right->items[i].match);
    }
}

static bool is_right(const answers *right, const nphd_match *match)
{
    for (size_t i = 0; i < right->count; i++) {
        if (same_match(match, &right->items[i].match)) {
            return true;
        }
    }
    return false;
}

/* ---- the ways of asking ---- */

static void check_nearest(question *asked)
{
    nphd_search_options options = asked->options;

    assert_int_equal(radius_find(asked->target, asked->vectors, asked->count, asked->radius,
                                 asked->capacity, &options, asked->out, asked->reports, NULL),
                     NPHD_OK);
    for (size_t i = 0; i < asked->count; i++) {
        expect_nearest(asked, "radius", i, &asked->right[i],
                       asked->right[i].count > asked->capacity);
    }
    options.mode = NPHD_SEARCH_EXACT;
    options.use_radius = true;
    options.radius = asked->radius;
    assert_int_equal(radius_nearest(asked->target, asked->vectors, asked->count, asked->capacity,
                                    &options, asked->out, asked->reports, NULL),
                     NPHD_OK);
    for (size_t i = 0; i < asked->count; i++) {
        expect_nearest(asked, "search with a radius", i, &asked->right[i],
                       asked->right[i].count > asked->capacity);
    }
    options.use_radius = false;
    assert_int_equal(radius_nearest(asked->target, asked->vectors, asked->count, asked->capacity,
                                    &options, asked->out, asked->reports, NULL),
                     NPHD_OK);
    for (size_t i = 0; i < asked->count; i++) {
        answers all = answer(asked, i, 1e9F);
        expect_nearest(asked, "search", i, &all, false);
        free(all.items);
    }
}

static void check_any(question *asked)
{
    nphd_search_options options = asked->options;

    options.any = true;
    assert_int_equal(radius_find(asked->target, asked->vectors, asked->count, asked->radius,
                                 asked->capacity, &options, asked->out, asked->reports, NULL),
                     NPHD_OK);
    for (size_t i = 0; i < asked->count; i++) {
        const nphd_search_report *report = &asked->reports[i];
        assert_int_equal(report->count, asked->right[i].count > 0);
        assert_true(report->exact && !report->more);
        assert_true(report->count == 0 ||
                    is_right(&asked->right[i], &asked->out[i * asked->capacity]));
    }
}

/* What a graph finds is right, if not everything. */
static void check_graph(question *asked)
{
    nphd_search_options options = asked->options;

    options.mode = NPHD_SEARCH_APPROXIMATE;
    options.breadth = asked->capacity % 3 == 0 ? 5 : 0;
    assert_int_equal(radius_find(asked->target, asked->vectors, asked->count, asked->radius,
                                 asked->capacity, &options, asked->out, asked->reports, NULL),
                     NPHD_OK);
    for (size_t i = 0; i < asked->count; i++) {
        const nphd_search_report *report = &asked->reports[i];
        const answers *right = &asked->right[i];
        const nphd_match *out = asked->out + i * asked->capacity;
        size_t place = 0;
        assert_true(report->count <= asked->capacity);
        assert_true(!report->more || right->count > report->count);
        for (size_t k = 0; k < report->count; k++) {
            while (place < right->count && !same_match(&out[k], &right->items[place].match)) {
                place++;
            }
            if (place++ == right->count) {
                fail_msg("graph: query %zu, match %zu is not right or not in order", i, k);
            }
        }
    }
}

/* ---- streams ---- */

typedef struct stream {
    const question *asked;
    answers got[MOST_QUERIES];
    size_t total;
    size_t enough; /* matches after which the sink ends the call */
    int inside;
} stream;

static int take(void *context, size_t query, const nphd_match *match)
{
    stream *to = context;
    answers *got = &to->got[query];
    const answers *right = &to->asked->right[query];

    assert_true(query < to->asked->count);
    assert_int_equal(to->inside++, 0); /* one thread at a time, as the thread sanitizer sees */
    assert_true(to->total < to->enough);
    assert_true(got->count < right->count);
    /* with the fraction, by which they are sorted; what is wrong stays without and is found then */
    for (size_t i = 0; i < right->count; i++) {
        if (same_match(match, &right->items[i].match)) {
            got->items[got->count] = right->items[i];
            break;
        }
    }
    got->items[got->count++].match = *match;
    to->total++;
    to->inside--;
    return to->total == to->enough ? 7 : 0;
}

static void stream_begin(stream *to, const question *asked, size_t enough)
{
    memset(to, 0, sizeof(*to));
    to->asked = asked;
    to->enough = enough;
    for (size_t i = 0; i < asked->count; i++) {
        to->got[i].items = calloc(asked->right[i].count + 1, sizeof(truth));
        assert_non_null(to->got[i].items);
    }
}

static void stream_end(stream *to)
{
    for (size_t i = 0; i < to->asked->count; i++) {
        free(to->got[i].items);
    }
}

/* All of them, whatever mode is asked for; `enough` SIZE_MAX: the sink takes everything. */
static void check_stream(question *asked, size_t enough, bool any, bool without_reports)
{
    nphd_search_options options = asked->options;
    stream to;
    bool cut = false;

    options.any = any;
    options.mode = asked->capacity % 2 == 0 ? NPHD_SEARCH_APPROXIMATE : NPHD_SEARCH_AUTO;
    stream_begin(&to, asked, enough);
    assert_int_equal(radius_stream(asked->target, asked->vectors, asked->count, asked->radius,
                                   &options, take, &to, without_reports ? NULL : asked->reports,
                                   NULL),
                     NPHD_OK);
    for (size_t i = 0; i < asked->count; i++) {
        const answers *right = &asked->right[i];
        const nphd_search_report *report = &asked->reports[i];
        const size_t all = any ? right->count > 0 : right->count;
        qsort(to.got[i].items, to.got[i].count, sizeof(truth), compare);
        if (to.total < enough || (!without_reports && !report->more)) {
            assert_int_equal(to.got[i].count, all);
        }
        for (size_t k = 0; k < to.got[i].count; k++) {
            assert_true(any || to.total == enough
                            ? is_right(right, &to.got[i].items[k].match)
                            : same_match(&to.got[i].items[k].match, &right->items[k].match));
        }
        if (!without_reports) {
            assert_int_equal(report->count, to.got[i].count);
            assert_true(report->exact == !report->more);
            assert_true(to.total == enough || !report->more);
            cut = cut || report->more;
        }
    }
    assert_true(cut == (to.total == enough) || any || without_reports);
    stream_end(&to);
}

void radius_check(const index_model *model, const radius_target *target, test_random *random)
{
    question *asked = malloc(sizeof(*asked));
    size_t total = 0;

    assert_non_null(asked);
    question_begin(asked, model, target, random);
    check_nearest(asked);
    check_any(asked);
    check_graph(asked);
    for (size_t i = 0; i < asked->count; i++) {
        total += asked->right[i].count;
    }
    check_stream(asked, SIZE_MAX, false, test_random_below(random, 4) == 0);
    check_stream(asked, SIZE_MAX, true, false);
    if (total > 0) {
        check_stream(asked, 1 + test_random_below(random, total), false, false);
        check_stream(asked, 1, true, false);
        check_stream(asked, 1, false, true);
    }
    question_end(asked);
    free(asked);
}
