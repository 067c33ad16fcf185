/* Random changes to an index and to an array beside it; after each step both must say the same.
 *
 * Several shapes of index take turns. NPHD_TEST_SEED replays a run, NPHD_TEST_SCALE=small shortens
 * it. At the end the comparison itself is tried on planted faults. */
#include "support/allocator_fault.h"
#include "support/index_model.h"
#include "support/io_memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define PATH "dir/model.usearch"
#define MOST_BATCH 24
#define MOST_VECTORS 160 /* keeps the walks of the model short */

typedef struct world {
    test_random random;
    allocator_fault allocator;
    memory_io *disk;
    nphd_index_options options;
    nphd_index *index;
    index_model model;
    index_model saved; /* what the file holds */
    bool has_file;
} world;

static bool is_small(void)
{
    const char *scale = getenv("NPHD_TEST_SCALE");

    return scale != NULL && strcmp(scale, "small") == 0;
}

/* ---- one world ---- */

static void world_init(world *here, uint64_t seed, nphd_metric metric, uint32_t max_bits,
                       uint32_t key_bits, bool multi)
{
    static const uint32_t connectivities[] = {2, 3, 5, 16};
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;

    memset(here, 0, sizeof(*here));
    here->random.state = seed;
    allocator_fault_init(&here->allocator);
    here->disk = memory_io_create(seed);
    options.max_bits = max_bits;
    options.key_bits = key_bits;
    options.metric = metric;
    options.multi = multi;
    options.connectivity = connectivities[test_random_below(&here->random, 4)];
    options.build_breadth = 1 + (uint32_t)test_random_below(&here->random, 40);
    options.search_breadth = 1 + (uint32_t)test_random_below(&here->random, 40);
    options.allocator = &here->allocator.table;
    options.io = memory_io_table(here->disk);
    here->options = options;
    assert_int_equal(nphd_index_create(&options, &here->index, NULL), NPHD_OK);
    index_model_init(&here->model, &options);
}

static void world_free(world *here)
{
    nphd_index_close(here->index);
    index_model_free(&here->model);
    if (here->has_file) {
        index_model_free(&here->saved);
    }
    assert_int_equal(memory_io_open_files(here->disk), 0);
    assert_int_equal(memory_io_maps(here->disk), 0);
    assert_int_equal(memory_io_mistakes(here->disk), 0);
    memory_io_destroy(here->disk);
    assert_true(allocator_fault_is_clean(&here->allocator));
    allocator_fault_destroy(&here->allocator);
}

static uint64_t below(world *here, uint64_t range)
{
    return test_random_below(&here->random, range);
}

/* A batch with keys that meet each other and those that are stored. */
typedef struct batch {
    nphd_key keys[MOST_BATCH];
    nphd_vector vectors[MOST_BATCH];
    uint8_t rooms[MOST_BATCH][NPHD_MAX_BYTES];
    size_t count;
    nphd_batch_options options;
} batch;

static void batch_init(world *here, batch *some)
{
    const nphd_batch_options options = NPHD_BATCH_OPTIONS_INIT;

    some->count = below(here, MOST_BATCH + 1);
    some->options = options;
    some->options.threads = below(here, 2) == 0 ? 0 : 3;
    for (size_t i = 0; i < some->count; i++) {
        some->vectors[i] = index_model_vector(&here->model, &here->random, some->rooms[i]);
        some->keys[i] = i > 0 && below(here, 6) == 0
                            ? some->keys[below(here, i)]
                            : index_model_key(&here->model, &here->random, 120);
    }
}

static nphd_key stored_key(world *here)
{
    return here->model.count > 0 && below(here, 4) > 0
               ? here->model.items[below(here, here->model.count)].key
               : index_model_key(&here->model, &here->random, 150);
}

/* ---- steps ---- */

static void step_add_one(world *here)
{
    uint8_t room[NPHD_MAX_BYTES];
    const nphd_vector vector = index_model_vector(&here->model, &here->random, room);
    const nphd_key key = index_model_key(&here->model, &here->random, 200);
    bool added = false;

    assert_int_equal(nphd_index_add(here->index, key, vector, &added, NULL), NPHD_OK);
    assert_int_equal(added, index_model_add_many(&here->model, &key, &vector, 1, NULL));
}

static void step_add_many(world *here)
{
    batch some;
    nphd_key keys[MOST_BATCH];
    nphd_key expected[MOST_BATCH];
    size_t added = 99;
    bool automatic;

    batch_init(here, &some);
    automatic = here->model.key_bits == 64 && below(here, 3) == 0;
    assert_int_equal(nphd_index_add_many(here->index, automatic ? NULL : some.keys, some.vectors,
                                         some.count, &some.options, keys, &added, NULL),
                     NPHD_OK);
    assert_int_equal(added, index_model_add_many(&here->model, automatic ? NULL : some.keys,
                                                 some.vectors, some.count, expected));
    assert_memory_equal(keys, expected, some.count * sizeof(*keys));
}

static void step_upsert(world *here)
{
    batch some;
    nphd_upsert_counts counts = {9, 9, 9};
    nphd_status expected = NPHD_OK;

    batch_init(here, &some);
    for (size_t i = 0; i < some.count; i++) {
        const size_t number = here->model.count == 0 ? 0 : below(here, here->model.count);
        if (below(here, 3) == 0 && here->model.count > 0) { /* the very vector that is there */
            some.keys[i] = here->model.items[number].key;
            some.vectors[i].bytes = here->model.items[number].bytes;
            memcpy(some.rooms[i], here->model.items[number].data, some.vectors[i].bytes);
        }
    }
    if (here->model.multi) {
        expected = NPHD_UNSUPPORTED;
    }
    assert_int_equal(nphd_index_upsert(here->index, some.keys, some.vectors, some.count,
                                       &some.options, &counts, NULL),
                     expected);
    if (expected == NPHD_OK) {
        const nphd_upsert_counts right =
            index_model_upsert(&here->model, some.keys, some.vectors, some.count);
        assert_memory_equal(&counts, &right, sizeof(counts));
    } else {
        assert_int_equal(counts.added + counts.replaced + counts.unchanged, 0);
    }
}

static void step_remove(world *here)
{
    nphd_key keys[MOST_BATCH];
    const size_t count = below(here, MOST_BATCH);
    size_t removed = 99;

    for (size_t i = 0; i < count; i++) {
        keys[i] = stored_key(here);
    }
    if (count > 2) {
        keys[count - 1] = keys[0];
        keys[count - 2].low = UINT64_MAX; /* the reserved one is merely absent */
        keys[count - 2].high = here->model.key_bits == 64 ? 0 : UINT64_MAX;
    }
    assert_int_equal(nphd_index_remove(here->index, keys, count, &removed, NULL), NPHD_OK);
    assert_int_equal(removed, index_model_remove(&here->model, keys, count));
}

static void step_rename(world *here)
{
    const nphd_key from = stored_key(here);
    const nphd_key to = stored_key(here);

    assert_int_equal(nphd_index_rename(here->index, from, to, NULL),
                     index_model_rename(&here->model, from, to));
}

static void step_empty(world *here)
{
    if (below(here, 2) == 0) {
        assert_int_equal(nphd_index_clear(here->index, NULL), NPHD_OK);
        index_model_clear(&here->model);
    } else {
        assert_int_equal(nphd_index_reset(here->index, NULL), NPHD_OK);
        index_model_reset(&here->model);
    }
}

static void step_isolate(world *here)
{
    assert_int_equal(nphd_index_isolate(here->index, NULL), NPHD_OK);
}

/* The copy takes the place of the original. */
static void step_copy(world *here)
{
    nphd_index *copy = NULL;
    index_model model;

    assert_int_equal(nphd_index_copy(here->index, &copy, NULL), NPHD_OK);
    index_model_copy(&model, &here->model);
    model.dirty = 0;
    assert_true(index_model_matches(&model, copy, &here->random));
    if (below(here, 2) == 0) {
        assert_true(index_model_glances(&here->model, here->index, &here->random));
        nphd_index_close(here->index);
        index_model_free(&here->model);
        here->index = copy;
        here->model = model;
    } else {
        nphd_index_close(copy);
        index_model_free(&model);
    }
}

/* ---- bad arguments: nothing may change ---- */

static void spoil_vector(world *here, batch *some)
{
    nphd_vector *vector = &some->vectors[below(here, some->count)];

    switch (below(here, 3)) {
    case 0:
        vector->bytes = 0;
        break;
    case 1:
        vector->data = NULL;
        break;
    default:
        vector->bytes = here->model.max_bytes + 1;
        if (here->model.metric == NPHD_METRIC_HAMMING && here->model.max_bytes > 1) {
            vector->bytes = here->model.max_bytes - 1;
        }
        break;
    }
}

static void spoil_key(world *here, batch *some)
{
    nphd_key *key = &some->keys[below(here, some->count)];

    key->low = UINT64_MAX;
    key->high = here->model.key_bits == 64 ? 0 : UINT64_MAX;
    if (here->model.key_bits == 64 && below(here, 2) == 0) {
        key->high = 1;
        key->low = 5;
    }
}

static void step_bad(world *here)
{
    batch some;
    size_t added = 99;
    size_t removed = 99;
    nphd_upsert_counts counts = {9, 9, 9};
    nphd_error err = NPHD_ERROR_INIT;
    const nphd_key wide = {1, 5};

    batch_init(here, &some);
    if (some.count == 0) {
        return;
    }
    if (below(here, 2) == 0) {
        spoil_vector(here, &some);
        if (here->model.key_bits == 64) {
            assert_int_equal(nphd_index_add_many(here->index, NULL, some.vectors, some.count,
                                                 &some.options, NULL, &added, &err),
                             NPHD_INVALID_ARGUMENT);
        }
    } else {
        spoil_key(here, &some);
    }
    assert_int_equal(nphd_index_add_many(here->index, some.keys, some.vectors, some.count,
                                         &some.options, NULL, &added, &err),
                     NPHD_INVALID_ARGUMENT);
    assert_int_equal(added, 0);
    assert_int_equal(err.status, NPHD_INVALID_ARGUMENT);
    assert_true(strlen(err.text) > 0);
    assert_int_equal(nphd_index_upsert(here->index, some.keys, some.vectors, some.count,
                                       &some.options, &counts, &err),
                     here->model.multi ? NPHD_UNSUPPORTED : NPHD_INVALID_ARGUMENT);
    assert_int_equal(counts.added + counts.replaced + counts.unchanged, 0);
    if (here->model.key_bits == 64) {
        some.keys[some.count - 1] = wide;
        assert_int_equal(nphd_index_remove(here->index, some.keys, some.count, &removed, &err),
                         NPHD_INVALID_ARGUMENT);
        assert_int_equal(removed, 0);
        if (here->model.count > 0) {
            assert_int_equal(nphd_index_rename(here->index, here->model.items[0].key, wide, &err),
                             NPHD_INVALID_ARGUMENT);
        }
    } else {
        assert_int_equal(nphd_index_add_many(here->index, NULL, some.vectors, some.count,
                                             &some.options, NULL, &added, &err),
                         NPHD_INVALID_ARGUMENT);
    }
}

/* ---- files ---- */

static void step_save(world *here)
{
    assert_int_equal(nphd_index_save(here->index, PATH, NULL, NULL), NPHD_OK);
    here->model.dirty = 0;
    if (here->has_file) {
        index_model_free(&here->saved);
    }
    index_model_copy(&here->saved, &here->model);
    here->has_file = true;
    assert_int_equal(memory_io_count(here->disk, NULL), 1);
}

/* What an open index of this file must look like. */
static index_model opened_model(const index_model *saved, bool view)
{
    index_model model;

    index_model_copy(&model, saved);
    model.dirty = 0;
    model.view = view;
    return model;
}

static void check_read_only(world *here, const index_model *model, nphd_index *view)
{
    batch some;
    size_t count = 99;
    nphd_upsert_counts counts = {9, 9, 9};
    const nphd_key key = nphd_key_u64(77);
    bool added = true;

    do {
        batch_init(here, &some);
    } while (some.count == 0);
    assert_int_equal(nphd_index_add(view, key, some.vectors[0], &added, NULL), NPHD_READ_ONLY);
    assert_false(added);
    assert_int_equal(
        nphd_index_add_many(view, some.keys, some.vectors, some.count, NULL, NULL, &count, NULL),
        NPHD_READ_ONLY);
    assert_int_equal(count, 0);
    assert_int_equal(
        nphd_index_upsert(view, some.keys, some.vectors, some.count, NULL, &counts, NULL),
        model->multi ? NPHD_UNSUPPORTED : NPHD_READ_ONLY);
    assert_int_equal(counts.added + counts.replaced + counts.unchanged, 0);
    count = 99;
    assert_int_equal(nphd_index_remove(view, some.keys, some.count, &count, NULL), NPHD_READ_ONLY);
    assert_int_equal(count, 0);
    assert_int_equal(nphd_index_isolate(view, NULL), NPHD_READ_ONLY);
    assert_int_equal(nphd_index_clear(view, NULL), NPHD_READ_ONLY);
    assert_int_equal(nphd_index_reserve(view, 1000, NULL), NPHD_READ_ONLY);
    assert_int_equal(nphd_index_rename(view, some.keys[0], key, NULL), NPHD_READ_ONLY);
}

static void check_view(world *here, const index_model *saved, nphd_index *view)
{
    index_model model = opened_model(saved, true);
    nphd_index *copy = NULL;

    assert_true(index_model_matches(&model, view, &here->random));
    check_read_only(here, &model, view);
    assert_true(index_model_matches(&model, view, &here->random));
    model.view = false;
    assert_int_equal(nphd_index_copy(view, &copy, NULL), NPHD_OK);
    assert_true(index_model_matches(&model, copy, &here->random));
    nphd_index_close(copy);
    index_model_free(&model);
}

static void step_restore(world *here)
{
    nphd_open_options options = NPHD_OPEN_OPTIONS_INIT;
    nphd_index *other = NULL;
    const bool view = below(here, 2) == 0;

    if (!here->has_file) {
        return;
    }
    options.io = here->options.io;
    options.allocator = here->options.allocator;
    options.verify = below(here, 2) == 0;
    assert_int_equal(nphd_file_verify(PATH, options.io, NULL, NULL, NULL, NULL), NPHD_OK);
    assert_int_equal(nphd_index_restore(PATH, view, &options, &other, NULL), NPHD_OK);
    if (view) {
        check_view(here, &here->saved, other);
    } else {
        index_model model = opened_model(&here->saved, false);
        assert_true(index_model_matches(&model, other, &here->random));
        index_model_free(&model);
    }
    nphd_index_close(other);
}

/* The file replaces what the index holds: as a load that goes on from there, or as a view. */
static void step_reopen(world *here)
{
    nphd_open_options options = NPHD_OPEN_OPTIONS_INIT;

    if (!here->has_file) {
        return;
    }
    options.max_bits = below(here, 2) == 0 ? 0 : here->options.max_bits;
    options.key_bits = here->options.key_bits;
    options.metric = here->options.metric;
    options.multi = here->options.multi ? 2 : 1;
    options.connectivity = below(here, 2) == 0 ? 0 : here->options.connectivity;
    if (below(here, 2) == 0) {
        assert_int_equal(nphd_index_view(here->index, PATH, &options, NULL), NPHD_OK);
        check_view(here, &here->saved, here->index);
        if (below(here, 2) == 0) {
            assert_int_equal(nphd_index_reset(here->index, NULL), NPHD_OK);
            index_model_reset(&here->model);
            return;
        }
    }
    options.max_bits = here->options.max_bits == 8 ? 16 : 8;
    assert_int_equal(nphd_index_load(here->index, PATH, &options, NULL), NPHD_MISMATCH);
    options.max_bits = 0;
    assert_int_equal(nphd_index_load(here->index, PATH, &options, NULL), NPHD_OK);
    index_model_free(&here->model);
    here->model = opened_model(&here->saved, false);
}

static void step_buffer(world *here)
{
    nphd_index *other = NULL;
    index_model model = opened_model(&here->model, false);
    nphd_index_stats stats = NPHD_INDEX_STATS_INIT;
    size_t bytes = 0;
    size_t again = 0;
    uint8_t *buffer;

    assert_int_equal(nphd_index_get_stats(here->index, &stats, NULL), NPHD_OK);
    assert_int_equal(nphd_index_save_buffer(here->index, NULL, 0, &bytes, NULL), NPHD_OK);
    assert_int_equal(bytes, stats.serialized_bytes);
    buffer = malloc(bytes);
    assert_non_null(buffer);
    assert_int_equal(nphd_index_save_buffer(here->index, buffer, bytes - 1, &again, NULL),
                     NPHD_TOO_SMALL);
    assert_int_equal(again, bytes);
    assert_int_equal(nphd_index_save_buffer(here->index, buffer, bytes, &again, NULL), NPHD_OK);
    assert_int_equal(again, bytes);
    assert_int_equal(nphd_index_create(&here->options, &other, NULL), NPHD_OK);
    assert_int_equal(nphd_index_load_buffer(other, buffer, bytes, NULL, NULL), NPHD_OK);
    assert_true(index_model_matches(&model, other, &here->random));

    /* loading and saving reproduces a file, and so does saving a view */
    uint8_t *second = malloc(bytes);
    assert_non_null(second);
    assert_int_equal(nphd_index_save_buffer(other, second, bytes, &again, NULL), NPHD_OK);
    assert_int_equal(again, bytes);
    assert_memory_equal(buffer, second, bytes);
    assert_int_equal(nphd_index_view_buffer(other, buffer, bytes, NULL, NULL), NPHD_OK);
    check_view(here, &model, other);
    memset(second, 0, bytes);
    assert_int_equal(nphd_index_save_buffer(other, second, bytes, &again, NULL), NPHD_OK);
    assert_int_equal(again, bytes);
    assert_memory_equal(buffer, second, bytes);
    nphd_index_close(other);
    free(buffer);
    free(second);
    index_model_free(&model);
}

/* ---- runs ---- */

typedef void (*step)(world *here);

static void run_step(world *here)
{
    static const step steps[] = {
        step_add_one, step_add_many, step_add_many, step_add_many, step_upsert,  step_upsert,
        step_remove,  step_remove,   step_rename,   step_rename,   step_isolate, step_copy,
        step_bad,     step_bad,      step_save,     step_restore,  step_reopen,  step_buffer};

    if (here->model.count > MOST_VECTORS || below(here, 40) == 0) {
        step_empty(here);
    } else {
        steps[below(here, sizeof(steps) / sizeof(steps[0]))](here);
    }
}

static void run_world(uint64_t seed, nphd_metric metric, uint32_t max_bits, uint32_t key_bits,
                      bool multi, size_t step_count)
{
    world here;

    world_init(&here, seed, metric, max_bits, key_bits, multi);
    for (size_t i = 0; i < step_count; i++) {
        run_step(&here);
        if (i % 8 == 7 ? !index_model_matches(&here.model, here.index, &here.random)
                       : !index_model_glances(&here.model, here.index, &here.random)) {
            fail_msg("step %zu of %s, %u bits, keys of %u bits, multi %d, seed %llu", i,
                     nphd_metric_name(metric), max_bits, key_bits, (int)multi,
                     (unsigned long long)seed);
        }
    }
    world_free(&here);
}

static void test_random_changes(void **state)
{
    static const uint32_t widths[] = {8, 64, 256, 2040};
    const size_t step_count = is_small() ? 25 : 120;
    test_random seeds = {*(uint64_t *)*state};

    for (size_t width = 0; width < 4; width++) {
        for (unsigned kind = 0; kind < 8; kind++) {
            run_world(test_random_next(&seeds),
                      (kind & 1U) != 0 ? NPHD_METRIC_HAMMING : NPHD_METRIC_NPHD, widths[width],
                      (kind & 2U) != 0 ? 128 : 64, (kind & 4U) != 0, step_count);
        }
    }
}

/* More rows than a worker takes at once, so that several share one query. */
static void test_shared_scan(void **state)
{
    const size_t count = is_small() ? 40000 : 70000;
    test_random random = {*(uint64_t *)*state};
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_batch_options batch_options = NPHD_BATCH_OPTIONS_INIT;
    nphd_index *index = NULL;
    index_model model;
    nphd_key *keys = calloc(count, sizeof(*keys));
    nphd_vector *vectors = calloc(count, sizeof(*vectors));
    uint8_t *data = malloc(count * 4);

    assert_true(keys != NULL && vectors != NULL && data != NULL);
    options.max_bits = 32;
    options.connectivity = 2;
    options.build_breadth = 1;
    assert_int_equal(nphd_index_create(&options, &index, NULL), NPHD_OK);
    index_model_init(&model, &options);
    model.room = count;
    model.count = count;
    model.items = calloc(count, sizeof(*model.items));
    assert_non_null(model.items);
    for (size_t i = 0; i < count; i++) {
        keys[i] = nphd_key_u64(i * 0x9E3779B97F4A7C15ULL >> 1);
        vectors[i].data = data + 4 * i;
        vectors[i].bytes = 1 + test_random_below(&random, 4);
        test_random_fill(&random, data + 4 * i, 4);
        model.items[i].key = keys[i];
        model.items[i].bytes = (uint32_t)vectors[i].bytes;
        memcpy(model.items[i].data, vectors[i].data, vectors[i].bytes);
    }
    batch_options.threads = 2;
    assert_int_equal(
        nphd_index_add_many(index, keys, vectors, count, &batch_options, NULL, NULL, NULL),
        NPHD_OK);
    model.slots = count;
    model.dirty = count;
    for (size_t i = 0; i < 8; i++) {
        assert_true(index_model_glances(&model, index, &random));
    }
    index_model_free(&model);
    nphd_index_close(index);
    free(keys);
    free(vectors);
    free(data);
}

/* ---- what a vector of another length is near to ---- */

static void test_lengths_and_ties(void **state)
{
    static const uint8_t zeros[2] = {0, 0};
    static const uint8_t mixed[2] = {0, 0xff};
    nphd_index *index = NULL;
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_search_report report;
    nphd_match found[4];
    const nphd_vector one_byte = {zeros, 1};
    const nphd_vector two_zeros = {zeros, 2};
    const nphd_vector two_mixed = {mixed, 2};

    (void)state;
    assert_int_equal(nphd_index_create(NULL, &index, NULL), NPHD_OK);
    assert_int_equal(nphd_index_add(index, nphd_key_u64(9), two_zeros, NULL, NULL), NPHD_OK);
    assert_int_equal(nphd_index_add(index, nphd_key_u64(5), two_mixed, NULL, NULL), NPHD_OK);
    options.mode = NPHD_SEARCH_EXACT;
    assert_int_equal(nphd_index_search(index, one_byte, 4, &options, found, &report, NULL),
                     NPHD_OK);
    assert_int_equal(report.count, 2); /* both at 0, in the order of their keys */
    assert_int_equal(found[0].key.low, 5);
    assert_int_equal(found[1].key.low, 9);
    assert_true(found[0].distance == 0.0F && found[1].distance == 0.0F);
    assert_int_equal(nphd_index_search(index, two_zeros, 4, &options, found, &report, NULL),
                     NPHD_OK);
    assert_true(found[0].key.low == 9 && found[1].distance == 0.5F);
    options.use_radius = true;
    options.radius = 0.5F;
    assert_int_equal(nphd_index_search(index, two_zeros, 4, &options, found, &report, NULL),
                     NPHD_OK);
    assert_int_equal(report.count, 2);
    options.radius = 0.49F;
    assert_int_equal(nphd_index_search(index, two_zeros, 4, &options, found, &report, NULL),
                     NPHD_OK);
    assert_int_equal(report.count, 1);
    nphd_index_close(index);
}

/* ---- a batch that the callback ends ---- */

static int stop_at(void *context, uint64_t done, uint64_t total)
{
    (void)total;
    return done >= *(const uint64_t *)context ? 1 : 0;
}

/* What a cancelled batch leaves must be whole: it can be saved, opened and added to. */
static void test_cancelled_batches(void **state)
{
    const uint64_t seed = *(uint64_t *)*state;
    world here;
    batch some;

    for (uint64_t run = 0; run < (is_small() ? 8U : 40U); run++) {
        world_init(&here, seed + run, NPHD_METRIC_NPHD, 64, 64, false);
        here.model.loose = true;
        for (uint64_t at = 0; at < 6; at++) {
            uint64_t stop = 1 + below(&here, 5);
            size_t added = 99;
            size_t present = 0;
            do {
                batch_init(&here, &some);
            } while (some.count < 2);
            some.options.progress = stop_at;
            some.options.progress_context = &stop;
            some.options.threads = 1;
            const nphd_status status = nphd_index_add_many(
                here.index, some.keys, some.vectors, some.count, &some.options, NULL, &added, NULL);
            assert_true(status == NPHD_OK || status == NPHD_CANCELLED);
            for (size_t i = 0; i < some.count; i++) { /* a vector is there whole or not at all */
                bool there = false;
                assert_int_equal(nphd_index_contains(here.index, some.keys[i], &there, NULL),
                                 NPHD_OK);
                if (there && !index_model_has(&here.model, some.keys[i])) {
                    present +=
                        index_model_add_many(&here.model, &some.keys[i], &some.vectors[i], 1, NULL);
                }
            }
            assert_int_equal(added, present);
            assert_true(index_model_matches(&here.model, here.index, &here.random));
            step_buffer(&here);
            step_save(&here);
            step_restore(&here);
        }
        world_free(&here);
    }
}

/* ---- churn ---- */

/* Adding and removing for ever takes no more memory than the vectors that are there at once. */
static void test_churn_is_bounded(void **state)
{
    test_random random = {*(uint64_t *)*state};
    allocator_fault allocator;
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;
    uint8_t data[8];
    const nphd_vector vector = {data, sizeof(data)};
    uint64_t first = 0;

    allocator_fault_init(&allocator);
    options.max_bits = 64;
    options.connectivity = 4;
    options.build_breadth = 4;
    options.allocator = &allocator.table;
    assert_int_equal(nphd_index_create(&options, &index, NULL), NPHD_OK);
    for (uint64_t i = 0; i < 20000; i++) {
        test_random_fill(&random, data, sizeof(data));
        assert_int_equal(nphd_index_add(index, nphd_key_u64(i), vector, NULL, NULL), NPHD_OK);
        if (i >= 100) {
            const nphd_key old = nphd_key_u64(i - 100);
            assert_int_equal(nphd_index_remove(index, &old, 1, NULL, NULL), NPHD_OK);
        }
        if (i == 2000) {
            first = allocator.allocated_bytes + allocator.committed_bytes;
        }
    }
    assert_true(allocator.allocated_bytes + allocator.committed_bytes <= first + 65536);
    nphd_index_close(index);
    assert_true(allocator_fault_is_clean(&allocator));
    allocator_fault_destroy(&allocator);
}

/* ---- does the comparison look? ---- */

static void expect_noticed(world *here, index_model *wrong)
{
    bool same = true;

    wrong->quiet = true;
    for (size_t i = 0; i < 20 && same; i++) {
        same = index_model_matches(wrong, here->index, &here->random);
    }
    assert_false(same);
    index_model_free(wrong);
}

static void test_planted_faults_are_noticed(void **state)
{
    world here;
    index_model wrong;

    world_init(&here, *(uint64_t *)*state, NPHD_METRIC_NPHD, 256, 64, false);
    while (here.model.count < 30) {
        step_add_many(&here);
    }
    assert_true(index_model_matches(&here.model, here.index, &here.random));

    index_model_copy(&wrong, &here.model);
    wrong.items[below(&here, wrong.count)].data[0] ^= 1;
    expect_noticed(&here, &wrong);

    index_model_copy(&wrong, &here.model);
    wrong.items[below(&here, wrong.count)].bytes ^= 1;
    expect_noticed(&here, &wrong);

    index_model_copy(&wrong, &here.model);
    wrong.items[below(&here, wrong.count)].key.low ^= 0x10000;
    expect_noticed(&here, &wrong);

    index_model_copy(&wrong, &here.model);
    wrong.count--;
    expect_noticed(&here, &wrong);

    index_model_copy(&wrong, &here.model);
    wrong.dirty++;
    expect_noticed(&here, &wrong);

    index_model_copy(&wrong, &here.model);
    wrong.slots++;
    expect_noticed(&here, &wrong);
    world_free(&here);
}

int main(void)
{
    uint64_t seed = test_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_lengths_and_ties, &seed),
        cmocka_unit_test_prestate(test_planted_faults_are_noticed, &seed),
        cmocka_unit_test_prestate(test_random_changes, &seed),
        cmocka_unit_test_prestate(test_cancelled_batches, &seed),
        cmocka_unit_test_prestate(test_churn_is_bounded, &seed),
        cmocka_unit_test_prestate(test_shared_scan, &seed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
