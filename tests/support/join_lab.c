#include "join_lab.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call) assert_int_equal((call), NPHD_OK)
#define FOLDER "join"

typedef struct lab_vector {
    nphd_key key;
    size_t bytes;
    uint8_t data[NPHD_MAX_BYTES];
} lab_vector;

static void *must_have(void *memory)
{
    if (memory == NULL) {
        abort();
    }
    return memory;
}

/* ---- random content ---- */

static nphd_key random_key(const joinlab_plan *plan, test_random *random, size_t number)
{
    nphd_key key =
        nphd_key_u64(plan->only_additions ? number : test_random_below(random, plan->keys));

    if (plan->key_bits == 128) { /* so that the order is in both halves */
        key.high = key.low % 3;
        key.low /= 3;
    }
    return key;
}

/* One that is equal or near to a vector before, or like none. */
static void random_vector(const joinlab_plan *plan, test_random *random, const lab_vector *before,
                          size_t count, lab_vector *out)
{
    const uint64_t dice = test_random_below(random, 100);
    const bool full = plan->metric == NPHD_METRIC_HAMMING;

    out->bytes = full ? plan->max_bytes : 1 + (size_t)test_random_below(random, plan->max_bytes);
    test_random_fill(random, out->data, sizeof(out->data));
    if (count == 0 || dice >= plan->equal + plan->near) {
        return;
    }
    const lab_vector *like = &before[test_random_below(random, count)];
    memcpy(out->data, like->data, like->bytes);
    if (dice < plan->equal) {
        out->bytes = like->bytes;
        return;
    }
    for (uint64_t flips = 1 + test_random_below(random, 1 + plan->max_bytes / 2); flips > 0;
         flips--) {
        const uint64_t bit = test_random_below(random, 8 * out->bytes);
        out->data[bit / 8] = (uint8_t)(out->data[bit / 8] ^ 1U << bit % 8);
    }
}

static void side_add(const nphd_join_side *side, const lab_vector *item)
{
    const nphd_vector vector = {item->data, item->bytes};

    OK(side->sharded != NULL ? nphd_sharded_add(side->sharded, item->key, vector, NULL, NULL)
                             : nphd_index_add(side->index, item->key, vector, NULL, NULL));
}

static void side_upsert(const nphd_join_side *side, const lab_vector *item)
{
    const nphd_vector vector = {item->data, item->bytes};

    OK(side->sharded != NULL
           ? nphd_sharded_upsert(side->sharded, &item->key, &vector, 1, NULL, NULL, NULL)
           : nphd_index_upsert(side->index, &item->key, &vector, 1, NULL, NULL, NULL));
}

static void side_remove(const nphd_join_side *side, nphd_key key)
{
    OK(side->sharded != NULL ? nphd_sharded_remove(side->sharded, &key, 1, NULL, NULL)
                             : nphd_index_remove(side->index, &key, 1, NULL, NULL));
}

static void fill(const joinlab_plan *plan, test_random *random, const nphd_join_side *side)
{
    lab_vector *items = must_have(calloc(plan->vectors + 1, sizeof(*items)));

    for (size_t i = 0; i < plan->vectors; i++) {
        random_vector(plan, random, items, i, &items[i]);
        items[i].key = random_key(plan, random, i);
        side_add(side, &items[i]);
        if (side->sharded != NULL && i % (1 + plan->vectors / 4) == plan->vectors / 5) {
            OK(nphd_sharded_rotate(side->sharded, NULL));
        }
        if (plan->only_additions) {
            continue;
        }
        if (!plan->multi && test_random_below(random, 4) == 0) {
            items[i].key = items[test_random_below(random, i + 1)].key;
            side_upsert(side, &items[i]);
        }
        if ((!plan->multi || side->sharded == NULL) && test_random_below(random, 8) == 0) {
            side_remove(side, items[test_random_below(random, i + 1)].key);
        }
    }
    free(items);
}

/* ---- sides ---- */

static void keep_quiet(void *context, nphd_log_level level, const char *text)
{
    (void)context;
    (void)level;
    (void)text;
}

static void make_sharded(const joinlab_plan *plan, const nphd_allocator *allocator,
                         test_random *random, joinlab_side *out)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;

    out->disk = memory_io_create(1);
    options.max_bits = 8 * plan->max_bytes;
    options.key_bits = plan->key_bits;
    options.metric = plan->metric;
    options.connectivity = 2;
    options.build_breadth = 1;
    options.multi = plan->multi ? 2 : 1;
    options.io = memory_io_table(out->disk);
    options.allocator = allocator;
    options.logger = keep_quiet;
    OK(nphd_sharded_open(FOLDER, &options, &out->side.sharded, NULL));
    fill(plan, random, &out->side);
    if (plan->kind == JOINLAB_READER) {
        nphd_sharded *writer = out->side.sharded;
        /* a directory without vectors has no file that a reader could open */
        if (nphd_sharded_size(writer) > 0) {
            OK(nphd_sharded_save(writer, NULL, NULL));
            options.read_only = true;
            OK(nphd_sharded_open(FOLDER, &options, &out->side.sharded, NULL));
            nphd_sharded_free(writer);
        }
    }
}

static void make_index(const joinlab_plan *plan, const nphd_allocator *allocator,
                       test_random *random, joinlab_side *out)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *source = NULL;
    size_t bytes = 0;

    options.max_bits = 8 * plan->max_bytes;
    options.key_bits = plan->key_bits;
    options.metric = plan->metric;
    options.connectivity = 2;
    options.build_breadth = 1;
    options.multi = plan->multi;
    options.allocator = allocator;
    OK(nphd_index_create(&options, &out->side.index, NULL));
    fill(plan, random, &out->side);
    if (plan->kind == JOINLAB_VIEW) {
        source = out->side.index;
        (void)nphd_index_save_buffer(source, NULL, 0, &bytes, NULL);
        out->buffer = must_have(malloc(bytes));
        OK(nphd_index_save_buffer(source, out->buffer, bytes, &bytes, NULL));
        OK(nphd_index_create(&options, &out->side.index, NULL));
        OK(nphd_index_view_buffer(out->side.index, out->buffer, bytes, NULL, NULL));
        nphd_index_close(source);
    }
}

void joinlab_make(const joinlab_plan *plan, const nphd_allocator *allocator, test_random *random,
                  joinlab_side *out)
{
    memset(out, 0, sizeof(*out));
    if (plan->kind == JOINLAB_SHARDED || plan->kind == JOINLAB_READER) {
        make_sharded(plan, allocator, random, out);
    } else {
        make_index(plan, allocator, random, out);
    }
}

void joinlab_close(joinlab_side *side)
{
    nphd_index_close(side->side.index);
    nphd_sharded_free(side->side.sharded);
    if (side->disk != NULL) {
        memory_io_destroy(side->disk);
    }
    free(side->buffer);
    memset(side, 0, sizeof(*side));
}

/* ---- pairs ---- */

void joinlab_pairs_free(joinlab_pairs *pairs)
{
    free(pairs->pairs);
    memset(pairs, 0, sizeof(*pairs));
}

static void append(joinlab_pairs *to, const nphd_pair *pair)
{
    if (to->count == to->room) {
        to->room = to->room == 0 ? 256 : 2 * to->room;
        to->pairs = must_have(realloc(to->pairs, to->room * sizeof(*to->pairs)));
    }
    to->pairs[to->count++] = *pair;
}

int joinlab_take(void *context, const nphd_pair *pairs, size_t count)
{
    joinlab_pairs *to = context;

    assert_true(count > 0);
    for (size_t i = 0; i < count; i++) {
        append(to, &pairs[i]);
    }
    to->calls++;
    return to->calls == to->end_call ? 1 : 0;
}

static lab_vector *read_all(const nphd_join_side *side, size_t *out_count)
{
    const uint64_t size =
        side->sharded != NULL ? nphd_sharded_size(side->sharded) : nphd_index_size(side->index);
    lab_vector *items = must_have(calloc((size_t)size + 1, sizeof(*items)));
    nphd_cursor of_index = {side->index, 0};
    nphd_sharded_cursor of_sharded = {side->sharded, 0, 0, 0};
    size_t count = 0;

    for (;;) {
        lab_vector *item = &items[count];
        const nphd_status status =
            side->sharded != NULL
                ? nphd_sharded_cursor_next(&of_sharded, &item->key, item->data, &item->bytes, NULL)
                : nphd_cursor_next(&of_index, &item->key, item->data, &item->bytes, NULL);
        if (status == NPHD_NOT_FOUND) {
            break;
        }
        OK(status);
        assert_true(count < size);
        count++;
    }
    assert_int_equal(count, size);
    *out_count = count;
    return items;
}

static bool is_hamming(const nphd_join_side *side)
{
    nphd_index_stats of_index = NPHD_INDEX_STATS_INIT;
    nphd_sharded_stats of_sharded = NPHD_SHARDED_STATS_INIT;

    if (side->sharded != NULL) {
        OK(nphd_sharded_get_stats(side->sharded, &of_sharded, NULL));
        return of_sharded.metric == NPHD_METRIC_HAMMING;
    }
    OK(nphd_index_get_stats(side->index, &of_index, NULL));
    return of_index.metric == NPHD_METRIC_HAMMING;
}

static float distance_of(const lab_vector *a, const lab_vector *b, bool hamming)
{
    const size_t shared = a->bytes < b->bytes ? a->bytes : b->bytes;
    uint32_t differing = 0;

    for (size_t i = 0; i < shared; i++) {
        for (unsigned bits = (unsigned)(a->data[i] ^ b->data[i]); bits != 0; bits &= bits - 1) {
            differing++;
        }
    }
    return hamming ? (float)differing : (float)differing / (float)(8 * shared);
}

static int compare_pairs(const void *a, const void *b)
{
    const nphd_pair *x = a;
    const nphd_pair *y = b;

    if (x->distance < y->distance || x->distance > y->distance) {
        return x->distance < y->distance ? -1 : 1;
    }
    return nphd_key_compare(x->right, y->right);
}

void joinlab_expect(const nphd_join_side *left, const nphd_join_side *right, float radius,
                    joinlab_pairs *out)
{
    const bool hamming = is_hamming(left);
    size_t left_count;
    size_t right_count;
    lab_vector *a = read_all(left, &left_count);
    lab_vector *b = read_all(right != NULL ? right : left, &right_count);

    for (size_t i = 0; i < left_count; i++) {
        const size_t first = out->count;
        for (size_t j = 0; j < right_count; j++) {
            const int order = nphd_key_compare(a[i].key, b[j].key);
            const float distance = distance_of(&a[i], &b[j], hamming);
            const nphd_pair pair = {a[i].key, b[j].key, distance};
            if (distance <= radius && (right != NULL || order < 0 || (order == 0 && i < j))) {
                append(out, &pair);
            }
        }
        if (out->count > first) {
            qsort(out->pairs + first, out->count - first, sizeof(*out->pairs), compare_pairs);
        }
    }
    free(a);
    free(b);
}

void joinlab_compare(const joinlab_pairs *got, const joinlab_pairs *expected, bool whole)
{
    assert_true(got->count <= expected->count);
    for (size_t i = 0; i < got->count; i++) {
        const nphd_pair *x = &got->pairs[i];
        const nphd_pair *y = &expected->pairs[i];
        if (nphd_key_compare(x->left, y->left) != 0 || nphd_key_compare(x->right, y->right) != 0 ||
            x->distance < y->distance || x->distance > y->distance) {
            fail_msg("pair %zu of %zu: %llu %llu %.9g, expected %llu %llu %.9g", i, got->count,
                     (unsigned long long)x->left.low, (unsigned long long)x->right.low,
                     (double)x->distance, (unsigned long long)y->left.low,
                     (unsigned long long)y->right.low, (double)y->distance);
        }
    }
    if (whole) {
        assert_int_equal(got->count, expected->count);
    }
}
