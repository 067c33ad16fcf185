/* Random sequences of calls to a sharded index and to an array beside it; after each step both must
 * say the same, whatever rotated, moved or was reopened meanwhile.
 *
 * A handle that is freed without a save must come back as it was at the last save or at a rotation
 * after it, of which the model keeps copies (marks). Sequence i of a run starts from seed + i, so
 * that NPHD_TEST_SEED with the number that a failure prints replays it first.
 * NPHD_TEST_SCALE=small shortens the run. At the end the comparison is tried on planted faults. */
#include "support/allocator_fault.h"
#include "support/io_memory.h"
#include "support/sharded_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>

#include <cmocka.h>

#define DIRECTORY "dir/index"
#define MOST_BATCH 18
#define MOST_USED 512
#define MOST_MARKS 64   /* more than rotations may be pending */
#define MOST_VECTORS 70 /* keeps the walks of the model short */
#define MOST_LOG 8192

/* What a file may bring back. */
typedef struct mark {
    index_model model;
    uint64_t low; /* generations that it may have */
    uint64_t high;
} mark;

typedef struct world {
    uint64_t seed;
    test_random random;
    allocator_fault allocator;
    memory_io *disk;
    nphd_sharded_options options;
    nphd_sharded *sharded;
    nphd_error err;
    index_model model;
    nphd_key used[MOST_USED];
    size_t used_count;
    mark marks[MOST_MARKS];
    size_t mark_count;
    uint64_t dropped; /* rotations up to this generation may have been dropped unwritten */
    _Atomic uint64_t warnings;
    char warning[NPHD_ERROR_TEXT_BYTES];
    uint64_t damages;
    char steps[MOST_LOG];
    size_t steps_length;
} world;

/* ---- telling ---- */

static void tell(world *here, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void tell(world *here, const char *format, ...)
{
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = vsnprintf(here->steps + here->steps_length, MOST_LOG - here->steps_length, format,
                       arguments);
    va_end(arguments);
    here->steps_length += length < 0 ? 0 : (size_t)length;
    here->steps_length = here->steps_length < MOST_LOG ? here->steps_length : MOST_LOG - 1;
}

/* Longer than what cmocka has room for. */
static void give_up(const world *here, int line, const char *condition)
{
    (void)fprintf(stderr,
                  "%s:%d: %s\nlast error: %s\nfirst warning: %s\nNPHD_TEST_SEED=%" PRIu64
                  " replays it; %s, %u bits, keys of %u bits%s%s\n",
                  __FILE__, line, condition, here->err.text, here->warning, here->seed,
                  nphd_metric_name(here->model.metric), 8 * here->model.max_bytes,
                  here->model.key_bits, here->model.multi ? ", multi" : "", here->steps);
    fail();
}

#define EXPECT(here, condition)                                                                    \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            give_up(here, __LINE__, #condition);                                                   \
        }                                                                                          \
    } while (0)

#define EXPECT_OK(here, call) EXPECT(here, (call) == NPHD_OK)

static void note_log(void *context, nphd_log_level level, const char *text)
{
    world *here = context;

    if (level >= NPHD_LOG_WARNING && atomic_fetch_add(&here->warnings, 1) == 0) {
        (void)snprintf(here->warning, sizeof(here->warning), "%s", text);
    }
}

static void note_damage(void *context, const char *text)
{
    (void)text;
    ((world *)context)->damages++;
}

static uint64_t below(world *here, uint64_t range)
{
    return test_random_below(&here->random, range);
}

static nphd_sharded_stats stats_of(world *here)
{
    nphd_sharded_stats stats = NPHD_SHARDED_STATS_INIT;

    EXPECT_OK(here, nphd_sharded_get_stats(here->sharded, &stats, &here->err));
    return stats;
}

/* ---- marks ---- */

static void marks_drop_first(world *here, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        index_model_free(&here->marks[i].model);
    }
    here->mark_count -= count;
    memmove(here->marks, here->marks + count, here->mark_count * sizeof(here->marks[0]));
}

/* The state of the model may come back, with a generation in that range. */
static void mark_add(world *here, uint64_t low, uint64_t high)
{
    mark *fresh;

    if (here->mark_count == MOST_MARKS) {
        marks_drop_first(here, 1);
    }
    fresh = &here->marks[here->mark_count++];
    index_model_copy(&fresh->model, &here->model);
    fresh->model.dirty = 0;
    fresh->low = low;
    fresh->high = high;
}

/* Everything is in the files. */
static void mark_saved(world *here)
{
    here->model.dirty = 0;
    here->dropped = 0;
    marks_drop_first(here, here->mark_count);
    mark_add(here, 0, stats_of(here).generation);
}

/* No rotation is pending: what is older than the newest generation cannot come back, if that one
 * was written. */
static void marks_settle(world *here)
{
    const uint64_t generation = stats_of(here).generation;
    size_t old = 0;

    if (generation <= here->dropped) {
        return;
    }
    while (old + 1 < here->mark_count && here->marks[old].high < generation) {
        old++;
    }
    marks_drop_first(here, old);
}

/* ---- opening and closing ---- */

static void draw_options(world *here)
{
    const uint64_t sizes[] = {1, 1 + below(here, 1000), 1 + below(here, 1500),
                              1 + below(here, 6000), 0};

    here->options.shard_bytes = sizes[below(here, 5)];
    here->options.no_bloom = below(here, 3) == 0;
    here->options.background_rotation = below(here, 2) == 0;
    here->options.max_pending_rotations = (uint32_t)below(here, 4);
    tell(here, " (shard_bytes %" PRIu64 ", bloom %d, background %d, pending %u)",
         here->options.shard_bytes, (int)!here->options.no_bloom,
         (int)here->options.background_rotation, here->options.max_pending_rotations);
}

static void world_init(world *here, uint64_t seed)
{
    static const uint32_t widths[] = {8, 16, 64, 64, 128, 256, 64, 2040};
    static const uint32_t connectivities[] = {2, 3, 5, 16};
    const nphd_sharded_options none = NPHD_SHARDED_OPTIONS_INIT;
    const nphd_error no_error = NPHD_ERROR_INIT;
    nphd_index_options shape = NPHD_INDEX_OPTIONS_INIT;

    memset(here, 0, sizeof(*here));
    here->seed = seed;
    here->random.state = seed;
    here->err = no_error;
    allocator_fault_init(&here->allocator);
    here->disk = memory_io_create(seed);
    shape.max_bits = widths[below(here, 8)];
    shape.key_bits = below(here, 3) == 0 ? 128 : 64;
    shape.metric = below(here, 4) == 0 ? NPHD_METRIC_HAMMING : NPHD_METRIC_NPHD;
    shape.multi = below(here, 8) == 0;
    index_model_init(&here->model, &shape);
    here->options = none;
    here->options.max_bits = shape.max_bits;
    here->options.key_bits = shape.key_bits;
    here->options.metric = shape.metric;
    here->options.multi = shape.multi ? 2 : 1;
    here->options.connectivity = connectivities[below(here, 4)];
    here->options.build_breadth = 1 + (uint32_t)below(here, 40);
    here->options.search_breadth = 1 + (uint32_t)below(here, 40);
    here->options.logger = note_log;
    here->options.logger_context = here;
    here->options.damage = note_damage;
    here->options.damage_context = here;
    here->options.allocator = &here->allocator.table;
    here->options.io = memory_io_table(here->disk);
    tell(here, "\ncreate");
    draw_options(here);
    EXPECT_OK(here, nphd_sharded_open(DIRECTORY, &here->options, &here->sharded, &here->err));
    mark_saved(here);
    here->options.build_breadth = 0;
    here->options.search_breadth = 0;
}

/* Closing saves all. */
static void close_world(world *here)
{
    bool there = true;

    EXPECT_OK(here, nphd_sharded_close(here->sharded, &here->err));
    EXPECT_OK(here, nphd_sharded_close(here->sharded, &here->err));
    EXPECT(here, nphd_sharded_contains(here->sharded, nphd_key_u64(1), &there, &here->err) ==
                     NPHD_CLOSED);
    EXPECT(here, nphd_sharded_save(here->sharded, NULL, &here->err) == NPHD_CLOSED);
    EXPECT(here, nphd_sharded_size(here->sharded) == 0);
    nphd_sharded_free(here->sharded);
    here->sharded = NULL;
    EXPECT(here, memory_io_locks(here->disk) == 0);
}

/* Opens what was closed: nothing may have to be repaired. */
static void open_closed(world *here)
{
    const bool had_bloom = !here->options.no_bloom;

    draw_options(here);
    atomic_store(&here->warnings, 0);
    EXPECT_OK(here, nphd_sharded_open(DIRECTORY, &here->options, &here->sharded, &here->err));
    EXPECT(here, atomic_load(&here->warnings) == 0 || (!had_bloom && !here->options.no_bloom));
    mark_saved(here);
}

static void world_free(world *here)
{
    nphd_directory_report report;

    close_world(here);
    if (memory_io_count(here->disk, "shard_") > 0) {
        EXPECT_OK(here, nphd_directory_verify(DIRECTORY, here->options.io, note_damage, here,
                                              &report, &here->err));
    }
    EXPECT(here, here->damages == 0);
    EXPECT(here, memory_io_count(here->disk, ".tmp") == 0);
    EXPECT(here, memory_io_open_files(here->disk) == 0);
    EXPECT(here, memory_io_maps(here->disk) == 0);
    EXPECT(here, memory_io_mistakes(here->disk) == 0);
    EXPECT(here, allocator_fault_is_clean(&here->allocator));
    marks_drop_first(here, here->mark_count);
    index_model_free(&here->model);
    memory_io_destroy(here->disk);
    allocator_fault_destroy(&here->allocator);
}

/* ---- batches ---- */

typedef enum kind { ADD, ADD_ONCE, UPSERT } kind;

/* A batch with keys that meet each other and those that are stored. The index tells where it cut
 * the batch in parts, as rotations happen in between. */
typedef struct batch {
    nphd_key keys[MOST_BATCH];
    nphd_vector vectors[MOST_BATCH];
    uint8_t rooms[MOST_BATCH][NPHD_MAX_BYTES];
    size_t count;
    nphd_batch_options options;
    uint64_t parts[MOST_BATCH + 1]; /* vectors done after each */
    size_t part_count;
    size_t stop_after; /* so many parts; 0: never */
    bool stored[MOST_BATCH];
    nphd_upsert_counts counts;
} batch;

static int note_part(void *context, uint64_t done, uint64_t total)
{
    batch *some = context;
    const uint64_t before = some->part_count > 0 ? some->parts[some->part_count - 1] : 0;

    (void)total;
    if (done == before) { /* within a part: a shard is being read or written */
        return 0;
    }
    if (some->part_count <= MOST_BATCH) {
        some->parts[some->part_count++] = done;
    }
    return some->part_count == some->stop_after ? 1 : 0;
}

static void remember(world *here, nphd_key key)
{
    for (size_t i = 0; i < here->used_count; i++) {
        if (nphd_key_compare(here->used[i], key) == 0) {
            return;
        }
    }
    if (here->used_count < MOST_USED) {
        here->used[here->used_count++] = key;
    }
}

static nphd_key some_key(world *here)
{
    const nphd_key key = here->model.count > 0 && below(here, 3) > 0
                             ? here->model.items[below(here, here->model.count)].key
                             : index_model_key(&here->model, &here->random, 90);

    remember(here, key);
    return key;
}

static void batch_init(world *here, batch *some, const char *what)
{
    const nphd_batch_options options = NPHD_BATCH_OPTIONS_INIT;

    memset(some, 0, sizeof(*some));
    some->count = below(here, MOST_BATCH + 1);
    some->options = options;
    some->options.threads = below(here, 4) == 0 ? 3 : (uint32_t)below(here, 2);
    some->options.progress = note_part;
    some->options.progress_context = some;
    some->stop_after = below(here, 10) == 0 ? 1 + below(here, 4) : 0;
    for (size_t i = 0; i < some->count; i++) {
        some->vectors[i] = index_model_vector(&here->model, &here->random, some->rooms[i]);
        some->keys[i] = i > 0 && below(here, 6) == 0 ? some->keys[below(here, i)]
                                                     : index_model_key(&here->model, &here->random,
                                                                       below(here, 2) ? 90 : 900);
        remember(here, some->keys[i]);
    }
    tell(here, "\n%s: %zu vectors, threads %u, stop after %zu", what, some->count,
         some->options.threads, some->stop_after);
}

static bool is_last(const batch *some, size_t number)
{
    for (size_t i = number + 1; i < some->count; i++) {
        if (nphd_key_compare(some->keys[i], some->keys[number]) == 0) {
            return false;
        }
    }
    return true;
}

static void apply_one(world *here, batch *some, kind how, size_t number)
{
    const nphd_key key = some->keys[number];

    if (how == UPSERT) {
        if (is_last(some, number)) {
            if (sharded_model_upsert(&here->model, key, some->vectors[number])) {
                some->counts.replaced++;
            } else {
                some->counts.added++;
            }
        }
    } else if (how == ADD || !index_model_has(&here->model, key)) {
        some->stored[number] = index_model_add_many(&here->model, &some->keys[number],
                                                    &some->vectors[number], 1, NULL) > 0;
        some->counts.added += some->stored[number] ? 1 : 0;
    }
}

/* Does to the model what the index did, with a mark wherever a rotation may have been. An add ends
 * a part only where it rotates, so that all parts but the last did. */
static void apply_batch(world *here, batch *some, kind how, uint64_t generation)
{
    const uint64_t rotated = stats_of(here).generation - generation;
    const uint64_t parts = some->part_count;
    const bool sure = how != UPSERT;
    size_t number = 0;

    EXPECT(here, rotated <= parts && (!sure || rotated + 1 >= parts));
    for (uint64_t part = 1; part <= parts; part++) {
        const uint64_t left = parts - part;
        const uint64_t most = part < rotated ? part : rotated;
        const uint64_t least = sure ? most : rotated > left ? rotated - left : 0;
        while (number < some->parts[part - 1]) {
            apply_one(here, some, how, number++);
        }
        if (rotated > 0 && most > 0 && (!sure || part <= rotated)) {
            mark_add(here, generation + least, generation + most);
        }
    }
    EXPECT(here, number == some->count || some->part_count == some->stop_after);
    tell(here, "; %zu parts, %" PRIu64 " rotations", some->part_count, rotated);
}

static bool is_right_status(const batch *some, nphd_status status)
{
    const bool stopped = some->stop_after > 0 && some->part_count == some->stop_after;

    return status == (stopped ? NPHD_CANCELLED : NPHD_OK);
}

/* ---- steps that change vectors ---- */

static void step_add_one(world *here)
{
    const uint64_t generation = stats_of(here).generation;
    uint8_t room[NPHD_MAX_BYTES];
    const nphd_vector vector = index_model_vector(&here->model, &here->random, room);
    const nphd_key key = some_key(here);
    bool added = false;

    tell(here, "\nadd %" PRIx64 ":%" PRIx64, key.high, key.low);
    EXPECT_OK(here, nphd_sharded_add(here->sharded, key, vector, &added, &here->err));
    EXPECT(here, added == (index_model_add_many(&here->model, &key, &vector, 1, NULL) == 1));
    if (stats_of(here).generation != generation) {
        mark_add(here, generation + 1, generation + 1);
    }
}

static void step_add_many(world *here)
{
    const uint64_t generation = stats_of(here).generation;
    batch some;
    nphd_key keys[MOST_BATCH];
    size_t added = 99;
    nphd_status status;
    bool automatic;

    batch_init(here, &some, "add_many");
    automatic = here->model.key_bits == 64 && below(here, 3) == 0;
    status = nphd_sharded_add_many(here->sharded, automatic ? NULL : some.keys, some.vectors,
                                   some.count, &some.options, keys, &added, &here->err);
    if (automatic) {
        tell(here, ", automatic keys");
        sharded_model_automatic_keys(&here->model, some.count, some.keys);
        for (size_t i = 0; i < some.count; i++) {
            remember(here, some.keys[i]);
        }
    }
    apply_batch(here, &some, ADD, generation);
    EXPECT(here, is_right_status(&some, status));
    EXPECT(here, added == some.counts.added);
    EXPECT(here, status != NPHD_OK || memcmp(keys, some.keys, some.count * sizeof(keys[0])) == 0);
}

static void step_add_once(world *here)
{
    const uint64_t generation = stats_of(here).generation;
    batch some;
    bool stored[MOST_BATCH];
    size_t added = 99;
    nphd_status status;

    batch_init(here, &some, "add_once");
    status = nphd_sharded_add_once(here->sharded, some.keys, some.vectors, some.count,
                                   &some.options, stored, &added, &here->err);
    apply_batch(here, &some, ADD_ONCE, generation);
    EXPECT(here, is_right_status(&some, status));
    EXPECT(here, added == some.counts.added);
    EXPECT(here, memcmp(stored, some.stored, some.count * sizeof(stored[0])) == 0);
}

static void step_upsert(world *here)
{
    const uint64_t generation = stats_of(here).generation;
    batch some;
    nphd_upsert_counts counts = {9, 9, 9};
    nphd_status status;

    batch_init(here, &some, "upsert");
    for (size_t i = 0; i < some.count; i++) {
        if (here->model.count > 0 && below(here, 4) == 0) { /* the very vector that is there */
            const model_item *item = &here->model.items[below(here, here->model.count)];
            some.keys[i] = item->key;
            some.vectors[i].bytes = item->bytes;
            memcpy(some.rooms[i], item->data, item->bytes);
        }
    }
    status = nphd_sharded_upsert(here->sharded, some.keys, some.vectors, some.count, &some.options,
                                 &counts, &here->err);
    if (here->model.multi) {
        EXPECT(here, status == NPHD_UNSUPPORTED);
    } else {
        apply_batch(here, &some, UPSERT, generation);
        EXPECT(here, is_right_status(&some, status));
    }
    EXPECT(here, memcmp(&counts, &some.counts, sizeof(counts)) == 0);
}

static void step_remove(world *here)
{
    nphd_key keys[MOST_BATCH];
    const size_t count = below(here, 3) == 0 ? 1 : below(here, MOST_BATCH);
    size_t removed = 99;
    nphd_status status;

    tell(here, "\nremove: %zu keys", count);
    for (size_t i = 0; i < count; i++) {
        keys[i] = some_key(here);
    }
    if (count > 3) {
        keys[count - 1] = keys[0];
        keys[count - 2].low = UINT64_MAX; /* the reserved one is merely absent */
        keys[count - 2].high = here->model.key_bits == 64 ? 0 : UINT64_MAX;
    }
    status = nphd_sharded_remove(here->sharded, keys, count, &removed, &here->err);
    if (here->model.multi) {
        EXPECT(here, status == NPHD_UNSUPPORTED && removed == 0);
    } else {
        EXPECT(here, status == NPHD_OK);
        EXPECT(here, removed == index_model_remove(&here->model, keys, count));
    }
}

/* Nothing may change. */
static void step_bad(world *here)
{
    batch some;
    nphd_upsert_counts counts = {9, 9, 9};
    size_t added = 99;
    size_t removed = 99;
    size_t at;

    batch_init(here, &some, "bad arguments");
    if (some.count == 0) {
        return;
    }
    at = below(here, some.count);
    if (below(here, 2) == 0) {
        some.vectors[at].bytes = below(here, 2) == 0 ? 0 : here->model.max_bytes + 1;
    } else {
        some.keys[at].low = UINT64_MAX;
        some.keys[at].high = here->model.key_bits == 64 ? below(here, 2) : UINT64_MAX;
    }
    EXPECT(here,
           nphd_sharded_add_many(here->sharded, some.keys, some.vectors, some.count, &some.options,
                                 NULL, &added, &here->err) == NPHD_INVALID_ARGUMENT);
    EXPECT(here, added == 0 && here->err.text[0] != '\0');
    EXPECT(here, nphd_sharded_upsert(here->sharded, some.keys, some.vectors, some.count,
                                     &some.options, &counts, &here->err) ==
                     (here->model.multi ? NPHD_UNSUPPORTED : NPHD_INVALID_ARGUMENT));
    EXPECT(here, counts.added + counts.replaced + counts.unchanged == 0);
    if (here->model.key_bits == 64 && !here->model.multi) {
        some.keys[at].high = 1;
        EXPECT(here, nphd_sharded_remove(here->sharded, some.keys, some.count, &removed,
                                         &here->err) == NPHD_INVALID_ARGUMENT);
        EXPECT(here, removed == 0);
    }
}

/* ---- steps that move them ---- */

static void step_rotate(world *here)
{
    const uint64_t generation = stats_of(here).generation;
    const bool empty = stats_of(here).active_vectors == 0;

    tell(here, "\nrotate");
    EXPECT_OK(here, nphd_sharded_rotate(here->sharded, &here->err));
    EXPECT(here, stats_of(here).generation == generation + (empty ? 0 : 1));
    EXPECT(here, stats_of(here).active_vectors == 0);
    if (!empty) {
        mark_add(here, generation + 1, generation + 1);
    }
}

/* After a save the disk is as the stats tell. */
static void check_files(world *here)
{
    const nphd_sharded_stats stats = stats_of(here);
    uint64_t bytes = 0;
    char name[256];

    EXPECT(here, stats.pending_rotations == 0);
    EXPECT(here, stats.files == memory_io_count(here->disk, "shard_"));
    EXPECT(here, memory_io_count(here->disk, ".tmp") == 0);
    for (size_t i = 0; memory_io_name(here->disk, i, name, sizeof(name)); i++) {
        size_t size = 0;
        void *data = memory_io_get(here->disk, name, &size);
        bytes += size;
        free(data);
    }
    EXPECT(here, stats.disk_bytes == bytes);
}

static void step_save(world *here)
{
    tell(here, "\nsave");
    EXPECT_OK(here, nphd_sharded_save(here->sharded, NULL, &here->err));
    mark_saved(here);
    check_files(here);
}

static void step_compact(world *here)
{
    nphd_batch_options options = NPHD_BATCH_OPTIONS_INIT;
    const uint64_t dead = stats_of(here).dead;
    uint64_t removed = 0;

    tell(here, "\ncompact");
    options.threads = (uint32_t)below(here, 3);
    EXPECT_OK(here, nphd_sharded_compact(here->sharded, &options, &removed, &here->err));
    EXPECT(here, removed <= dead);
    EXPECT(here, stats_of(here).dead == 0 && stats_of(here).tombstones == 0);
    mark_saved(here);
    check_files(here);
}

static void step_rebuild_bloom(world *here)
{
    const bool bloom = stats_of(here).bloom;
    uint64_t keys = 99;

    tell(here, "\nrebuild_bloom");
    EXPECT(here, bloom == !here->options.no_bloom);
    EXPECT_OK(here, nphd_sharded_rebuild_bloom(here->sharded, &keys, &here->err));
    EXPECT(here, keys == (bloom ? here->model.count : 0));
    if (bloom) {
        mark_saved(here);
        check_files(here);
    }
}

static void step_drain(world *here)
{
    const uint64_t timeout_ms = below(here, 2) == 0 ? UINT64_MAX : below(here, 2);
    const nphd_status status = nphd_sharded_drain(here->sharded, timeout_ms, &here->err);

    tell(here, "\ndrain");
    EXPECT(here, status == NPHD_OK || (status == NPHD_TIMEOUT && timeout_ms != UINT64_MAX));
    if (status == NPHD_OK) {
        EXPECT(here, stats_of(here).pending_rotations == 0);
        marks_settle(here);
    }
}

static void step_set_breadth(world *here)
{
    const uint32_t build = (uint32_t)below(here, 30);
    const uint32_t search = (uint32_t)below(here, 30);
    const nphd_sharded_stats before = stats_of(here);
    nphd_sharded_stats after;

    tell(here, "\nset_breadth %u %u", build, search);
    EXPECT_OK(here, nphd_sharded_set_breadth(here->sharded, build, search, &here->err));
    after = stats_of(here);
    EXPECT(here, after.build_breadth == (build == 0 ? before.build_breadth : build));
    EXPECT(here, after.search_breadth == (search == 0 ? before.search_breadth : search));
}

static void step_reset(world *here)
{
    /* those that wait are dropped, and what they would have replaced may come back */
    const bool settled = stats_of(here).pending_rotations == 0;

    tell(here, "\nreset");
    EXPECT_OK(here, nphd_sharded_reset(here->sharded, &here->err));
    EXPECT(here, stats_of(here).pending_rotations == 0);
    index_model_reset(&here->model);
    if (settled) {
        marks_settle(here);
    } else {
        here->dropped = stats_of(here).generation;
    }
}

/* ---- steps that open again ---- */

static void step_reopen(world *here)
{
    const nphd_sharded_stats before = stats_of(here);

    tell(here, "\nreopen");
    here->options.salvage = below(here, 3) == 0;
    close_world(here);
    open_closed(here);
    here->options.salvage = false;
    EXPECT(here, here->damages == 0);
    if (here->model.count > 0) {
        EXPECT(here, stats_of(here).build_breadth == before.build_breadth);
        EXPECT(here, stats_of(here).search_breadth == before.search_breadth);
    }
}

/* Is the index as this mark? */
static bool is_mark(world *here, const mark *candidate, uint64_t generation)
{
    index_model model = candidate->model;

    model.quiet = true;
    return candidate->low <= generation && generation <= candidate->high &&
           sharded_model_matches(&model, here->used, here->used_count, here->sharded,
                                 &here->random);
}

/* The last save comes back, or a rotation after it. */
static void step_lose(world *here)
{
    uint64_t generation;
    size_t at;

    tell(here, "\nfree without save");
    nphd_sharded_free(here->sharded);
    here->sharded = NULL;
    draw_options(here);
    EXPECT_OK(here, nphd_sharded_open(DIRECTORY, &here->options, &here->sharded, &here->err));
    generation = stats_of(here).generation;
    at = here->mark_count;
    while (at > 0 && !is_mark(here, &here->marks[at - 1], generation)) {
        at--;
    }
    tell(here, "; generation %" PRIu64 ", %zu of %zu marks", generation, at, here->mark_count);
    if (at == 0) { /* say what differs */
        (void)sharded_model_matches(&here->marks[here->mark_count - 1].model, here->used,
                                    here->used_count, here->sharded, &here->random);
    }
    EXPECT(here, at > 0);
    index_model_free(&here->model);
    index_model_copy(&here->model, &here->marks[at - 1].model);
    mark_saved(here);
}

/* A reader sees the same and changes nothing. */
static void step_look(world *here)
{
    uint64_t fingerprint;
    uint8_t room[NPHD_MAX_BYTES];
    nphd_sharded *second = NULL;
    nphd_status status;
    bool added = true;

    tell(here, "\nlook read_only");
    EXPECT(here, nphd_sharded_open(DIRECTORY, &here->options, &second, &here->err) == NPHD_BUSY);
    close_world(here);
    fingerprint = memory_io_fingerprint(here->disk);
    here->options.read_only = true;
    status = nphd_sharded_open(DIRECTORY, &here->options, &here->sharded, &here->err);
    here->options.read_only = false;
    if (status == NPHD_NOT_FOUND) {
        EXPECT(here, here->model.count == 0 && memory_io_count(here->disk, "shard_") == 0);
    } else {
        EXPECT(here, status == NPHD_OK && memory_io_count(here->disk, "shard_") > 0);
        here->model.view = true;
        here->model.dirty = 0;
        EXPECT(here, sharded_model_matches(&here->model, here->used, here->used_count,
                                           here->sharded, &here->random));
        EXPECT(here, nphd_sharded_add(here->sharded, nphd_key_u64(1),
                                      index_model_vector(&here->model, &here->random, room), &added,
                                      &here->err) == NPHD_READ_ONLY);
        EXPECT(here, !added);
        EXPECT(here, nphd_sharded_save(here->sharded, NULL, &here->err) == NPHD_READ_ONLY);
        here->model.view = false;
        close_world(here);
    }
    EXPECT(here, memory_io_fingerprint(here->disk) == fingerprint);
    open_closed(here);
}

/* ---- runs ---- */

typedef void (*step)(world *here);

static void run_step(world *here)
{
    static const step steps[] = {
        step_add_one,  step_add_one, step_add_many,      step_add_many, step_add_many,
        step_add_once, step_upsert,  step_upsert,        step_upsert,   step_upsert,
        step_remove,   step_remove,  step_remove,        step_remove,   step_rotate,
        step_rotate,   step_save,    step_save,          step_reopen,   step_lose,
        step_look,     step_compact, step_rebuild_bloom, step_drain,    step_set_breadth,
        step_bad,
    };

    if (here->model.count > MOST_VECTORS || below(here, 50) == 0) {
        step_reset(here);
    } else {
        steps[below(here, sizeof(steps) / sizeof(steps[0]))](here);
    }
    if (!here->options.background_rotation) {
        EXPECT(here, stats_of(here).pending_rotations == 0);
        marks_settle(here);
    }
    EXPECT(here, sharded_model_matches(&here->model, here->used, here->used_count, here->sharded,
                                       &here->random));
}

static void run_sequence(uint64_t seed)
{
    world here;
    uint64_t step_count;

    world_init(&here, seed);
    step_count = 10 + below(&here, 31);
    for (uint64_t i = 0; i < step_count; i++) {
        run_step(&here);
    }
    world_free(&here);
}

static void test_random_sequences(void **state)
{
    const char *scale = getenv("NPHD_TEST_SCALE");
    const uint64_t count = scale != NULL && strcmp(scale, "small") == 0 ? 100 : 2000;
    const uint64_t seed = *(uint64_t *)*state;

    for (uint64_t i = 0; i < count; i++) {
        run_sequence(seed + i);
    }
}

/* ---- does the comparison look? ---- */

static void expect_noticed(world *here, index_model *wrong)
{
    bool same = true;

    wrong->quiet = true;
    for (size_t i = 0; i < 20 && same; i++) {
        same = sharded_model_matches(wrong, here->used, here->used_count, here->sharded,
                                     &here->random);
    }
    assert_false(same);
    index_model_free(wrong);
}

static void test_planted_faults_are_noticed(void **state)
{
    world here;
    index_model wrong;

    world_init(&here, *(uint64_t *)*state);
    while (here.model.count < 30) {
        step_add_many(&here);
    }
    assert_true(
        sharded_model_matches(&here.model, here.used, here.used_count, here.sharded, &here.random));

    index_model_copy(&wrong, &here.model);
    wrong.items[below(&here, wrong.count)].data[0] ^= 1;
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
    wrong.view = true;
    expect_noticed(&here, &wrong);
    world_free(&here);
}

int main(void)
{
    uint64_t seed = test_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_planted_faults_are_noticed, &seed),
        cmocka_unit_test_prestate(test_random_sequences, &seed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
