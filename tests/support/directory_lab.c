#include "directory_lab.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "bloom_bytes.h"
#include "fixture_text.h"
#include "formats/npy_format.h"
#include "index/index_shard.h"
#include "sharded/sharded_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

/* Vectors that are searched for when an index is looked at. */
#define PROBES 24

static void *must_have(void *memory)
{
    if (memory == NULL) {
        abort();
    }
    return memory;
}

/* ---- the lab ---- */

int dirlab_begin(void **state)
{
    dirlab *lab = must_have(calloc(1, sizeof(*lab)));

    lab->random.state = test_seed();
    lab->disk = memory_io_create(1);
    memory_io_require_directories(lab->disk);
    io_fault_init(&lab->fault, memory_io_table(lab->disk));
    allocator_fault_init(&lab->allocator);
    (void)pthread_mutex_init(&lab->log_lock, NULL);
    OK(lab->fault.table.make_directory(lab->fault.table.context, DIRLAB_FOLDER));
    *state = lab;
    return 0;
}

int dirlab_end(void **state)
{
    dirlab *lab = *state;

    dirlab_items_free(&lab->items);
    assert_int_equal(lab->fault.open_files, 0);
    assert_int_equal(lab->fault.left_open, 0);
    assert_int_equal(lab->fault.maps, 0);
    assert_int_equal(memory_io_mistakes(lab->disk), 0);
    io_fault_destroy(&lab->fault);
    memory_io_destroy(lab->disk);
    assert_true(allocator_fault_is_clean(&lab->allocator));
    allocator_fault_destroy(&lab->allocator);
    (void)pthread_mutex_destroy(&lab->log_lock);
    free(lab);
    return 0;
}

static void append(dirlab *lab, char *to, size_t room, const char *text)
{
    (void)pthread_mutex_lock(&lab->log_lock);
    const size_t used = strlen(to);
    (void)snprintf(to + used, room - used, "%s\n", text);
    (void)pthread_mutex_unlock(&lab->log_lock);
}

static void take_log(void *context, nphd_log_level level, const char *text)
{
    dirlab *lab = context;

    if (level >= NPHD_LOG_WARNING) {
        append(lab, lab->log, sizeof(lab->log), text);
    }
}

static void take_damage(void *context, const char *text)
{
    dirlab *lab = context;

    append(lab, lab->damage, sizeof(lab->damage), text);
}

nphd_sharded_options dirlab_options(dirlab *lab)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;

    options.io = &lab->fault.table;
    options.allocator = &lab->allocator.table;
    options.logger = take_log;
    options.logger_context = lab;
    options.damage = take_damage;
    options.damage_context = lab;
    return options;
}

nphd_sharded_options dirlab_small(dirlab *lab)
{
    nphd_sharded_options options = dirlab_options(lab);

    options.max_bits = 64;
    options.connectivity = 4;
    options.shard_bytes = 1 << 20;
    return options;
}

nphd_sharded_options dirlab_with_journal(dirlab *lab)
{
    nphd_sharded_options options = dirlab_small(lab);

    options.journal = true;
    return options;
}

nphd_sharded *dirlab_open(dirlab *lab, const nphd_sharded_options *options)
{
    const nphd_sharded_options plain = dirlab_options(lab);
    nphd_sharded *sharded = NULL;
    nphd_error err = NPHD_ERROR_INIT;

    if (nphd_sharded_open(DIRLAB_FOLDER, options != NULL ? options : &plain, &sharded, &err) !=
        NPHD_OK) {
        fail_msg("open: %s", err.text);
    }
    return sharded;
}

void dirlab_refused(dirlab *lab, const nphd_sharded_options *options, nphd_status expected,
                    const char *first, const char *second)
{
    const nphd_sharded_options plain = dirlab_options(lab);
    nphd_sharded *sharded = NULL;
    nphd_error err = NPHD_ERROR_INIT;
    const nphd_status status =
        nphd_sharded_open(DIRLAB_FOLDER, options != NULL ? options : &plain, &sharded, &err);

    if (status != expected || (first != NULL && strstr(err.text, first) == NULL) ||
        (second != NULL && strstr(err.text, second) == NULL)) {
        nphd_sharded_free(sharded);
        fail_msg("open: %s: %s", nphd_status_name(status), err.text);
    }
    assert_null(sharded);
}

void dirlab_close(nphd_sharded *sharded)
{
    nphd_error err = NPHD_ERROR_INIT;

    if (nphd_sharded_close(sharded, &err) != NPHD_OK) {
        fail_msg("close: %s", err.text);
    }
    nphd_sharded_free(sharded);
}

void dirlab_forget_log(dirlab *lab)
{
    lab->log[0] = '\0';
    lab->damage[0] = '\0';
}

/* ---- expected content ---- */

void dirlab_items_free(dirlab_items *items)
{
    free(items->items);
    memset(items, 0, sizeof(*items));
}

dirlab_item *dirlab_find(const dirlab_items *items, nphd_key key)
{
    for (size_t i = 0; i < items->count; i++) {
        if (nphd_key_compare(items->items[i].key, key) == 0) {
            return &items->items[i];
        }
    }
    return NULL;
}

void dirlab_set(dirlab_items *items, nphd_key key, nphd_vector vector)
{
    dirlab_item *item = dirlab_find(items, key);

    if (item == NULL) {
        if (items->count == items->room) {
            items->room = items->room == 0 ? 64 : 2 * items->room;
            items->items = must_have(realloc(items->items, items->room * sizeof(*items->items)));
        }
        item = &items->items[items->count++];
        item->key = key;
    }
    item->bytes = vector.bytes;
    memcpy(item->data, vector.data, vector.bytes);
}

void dirlab_drop(dirlab_items *items, nphd_key key)
{
    dirlab_item *item = dirlab_find(items, key);

    if (item != NULL) {
        *item = items->items[--items->count];
    }
}

nphd_vector dirlab_vector(uint64_t key, uint8_t version, uint8_t out[8])
{
    const nphd_vector vector = {out, 8};

    nphdi_put64(out, nphdi_hash_key(nphd_key_u64(key), 8));
    out[7] = version;
    return vector;
}

void dirlab_add(dirlab *lab, nphd_sharded *sharded, uint64_t from, uint64_t to)
{
    uint8_t data[8];

    for (uint64_t key = from; key < to; key++) {
        bool added = false;
        const nphd_vector vector = dirlab_vector(key, 0, data);
        OK(nphd_sharded_add(sharded, nphd_key_u64(key), vector, &added, NULL));
        assert_int_equal(added, dirlab_find(&lab->items, nphd_key_u64(key)) == NULL);
        if (added) {
            dirlab_set(&lab->items, nphd_key_u64(key), vector);
        }
    }
}

void dirlab_upsert(dirlab *lab, nphd_sharded *sharded, uint64_t key, uint8_t version)
{
    uint8_t data[8];
    const nphd_key number = nphd_key_u64(key);
    const nphd_vector vector = dirlab_vector(key, version, data);
    const bool there = dirlab_find(&lab->items, number) != NULL;
    nphd_upsert_counts counts;

    OK(nphd_sharded_upsert(sharded, &number, &vector, 1, NULL, &counts, NULL));
    assert_int_equal(counts.added, there ? 0 : 1);
    assert_int_equal(counts.replaced, there ? 1 : 0);
    dirlab_set(&lab->items, number, vector);
}

void dirlab_remove(dirlab *lab, nphd_sharded *sharded, uint64_t key)
{
    const nphd_key number = nphd_key_u64(key);
    size_t removed = 9;

    OK(nphd_sharded_remove(sharded, &number, 1, &removed, NULL));
    assert_int_equal(removed, dirlab_find(&lab->items, number) != NULL ? 1 : 0);
    dirlab_drop(&lab->items, number);
}

/* ---- looking at an index ---- */

static void expect_vector(const dirlab_item *item, const uint8_t *data, size_t bytes)
{
    assert_int_equal(item->bytes, bytes);
    assert_memory_equal(item->data, data, bytes);
}

static void expect_by_cursor(const dirlab *lab, nphd_sharded *sharded)
{
    nphd_sharded_cursor cursor = nphd_sharded_cursor_begin(sharded);
    uint8_t *met = must_have(calloc(lab->items.count + 1, 1));
    nphd_key key;
    uint8_t data[NPHD_MAX_BYTES];
    size_t bytes = 0;
    size_t count = 0;
    nphd_status status;

    while ((status = nphd_sharded_cursor_next(&cursor, &key, data, &bytes, NULL)) == NPHD_OK) {
        const dirlab_item *item = dirlab_find(&lab->items, key);
        if (item == NULL || met[item - lab->items.items]++ != 0) {
            free(met);
            fail_msg("key %llu: %s", (unsigned long long)key.low,
                     item == NULL ? "must not be there" : "met twice");
        }
        expect_vector(item, data, bytes);
        count++;
    }
    free(met);
    assert_int_equal(status, NPHD_NOT_FOUND);
    assert_int_equal(count, lab->items.count);
}

static void expect_by_key(const dirlab *lab, nphd_sharded *sharded)
{
    for (size_t i = 0; i < lab->items.count; i++) {
        const dirlab_item *item = &lab->items.items[i];
        uint8_t data[NPHD_MAX_BYTES];
        size_t bytes = 0;
        size_t count = 9;
        bool there = false;
        OK(nphd_sharded_contains(sharded, item->key, &there, NULL));
        assert_true(there);
        OK(nphd_sharded_count(sharded, item->key, &count, NULL));
        assert_int_equal(count, 1);
        OK(nphd_sharded_get(sharded, item->key, data, sizeof(data), &bytes, NULL));
        expect_vector(item, data, bytes);
    }
}

static void expect_match(const dirlab *lab, const nphd_match *match, nphd_vector query)
{
    const dirlab_item *item = dirlab_find(&lab->items, match->key);
    float distance = -1;
    uint32_t bits = 0;

    assert_non_null(item);
    const nphd_vector stored = {item->data, item->bytes};
    OK(nphd_distance(query, stored, &distance, NULL));
    if (match->distance > 1.0F) {
        OK(nphd_hamming(query, stored, &bits, NULL));
        distance = (float)bits;
    }
    assert_true(match->distance >= distance && match->distance <= distance);
}

static void expect_by_search(dirlab *lab, nphd_sharded *sharded)
{
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_match matches[8];
    nphd_search_report report;

    options.mode = NPHD_SEARCH_EXACT;
    for (size_t i = 0; i < PROBES && lab->items.count > 0; i++) {
        const dirlab_item *item =
            &lab->items.items[test_random_below(&lab->random, lab->items.count)];
        const nphd_vector query = {item->data, item->bytes};
        OK(nphd_sharded_search(sharded, query, 8, &options, matches, &report, NULL));
        assert_true(report.exact);
        assert_int_equal(report.count, lab->items.count < 8 ? lab->items.count : 8);
        assert_true(matches[0].distance <= 0.0F);
        for (size_t j = 0; j < report.count; j++) {
            expect_match(lab, &matches[j], query);
            for (size_t other = 0; other < j; other++) {
                assert_int_not_equal(nphd_key_compare(matches[j].key, matches[other].key), 0);
            }
        }
    }
}

void dirlab_expect(dirlab *lab, nphd_sharded *sharded)
{
    assert_int_equal(nphd_sharded_size(sharded), lab->items.count);
    expect_by_cursor(lab, sharded);
    expect_by_key(lab, sharded);
    expect_by_search(lab, sharded);
}

bool dirlab_has(nphd_sharded *sharded, uint64_t key)
{
    bool there = false;

    OK(nphd_sharded_contains(sharded, nphd_key_u64(key), &there, NULL));
    return there;
}

nphd_sharded_stats dirlab_stats(nphd_sharded *sharded)
{
    nphd_sharded_stats stats = NPHD_SHARDED_STATS_INIT;

    OK(nphd_sharded_get_stats(sharded, &stats, NULL));
    return stats;
}

void dirlab_wait_for_commit(nphd_sharded *sharded)
{
    const struct timespec moment = {0, 1000000};
    bool all = false;

    for (size_t i = 0; i < 60000 && !all; i++) {
        (void)nanosleep(&moment, NULL);
        nphdi_signal_lock(&sharded->journal.lock);
        all = sharded->journal.durable == sharded->journal.appended;
        nphdi_signal_unlock(&sharded->journal.lock);
    }
    assert_true(all);
}

/* ---- files ---- */

const char *dirlab_path(const char *name)
{
    static char path[512];

    (void)snprintf(path, sizeof(path), DIRLAB_FOLDER "/%s", name);
    return path;
}

void dirlab_put(dirlab *lab, const char *name, const void *data, size_t bytes)
{
    memory_io_put(lab->disk, dirlab_path(name), data, bytes);
}

bool dirlab_exists(dirlab *lab, const char *name)
{
    size_t bytes = 0;
    void *data = memory_io_get(lab->disk, dirlab_path(name), &bytes);
    const bool there = data != NULL;

    free(data);
    return there;
}

static uint8_t *take(dirlab *lab, const char *name, size_t *out_bytes)
{
    uint8_t *data = memory_io_get(lab->disk, dirlab_path(name), out_bytes);

    if (data == NULL) {
        fail_msg("%s is not there", name);
    }
    return data;
}

void dirlab_copy(dirlab *lab, const char *from, const char *to)
{
    size_t bytes = 0;
    uint8_t *data = take(lab, from, &bytes);

    dirlab_put(lab, to, data, bytes);
    free(data);
}

void dirlab_forget_head(dirlab *lab)
{
    dirlab_put(lab, "lock", "", 0);
}

void dirlab_delete(dirlab *lab, const char *name)
{
    const nphd_io *io = memory_io_table(lab->disk);

    assert_int_equal(io->remove(io->context, dirlab_path(name)), 0);
}

void dirlab_damage(dirlab *lab, const char *name, long at)
{
    size_t bytes = 0;
    uint8_t *data = take(lab, name, &bytes);

    data[at < 0 ? bytes - (size_t)-at : (size_t)at] ^= 0xff;
    dirlab_put(lab, name, data, bytes);
    free(data);
}

void dirlab_cut(dirlab *lab, const char *name, size_t bytes)
{
    size_t all = 0;
    uint8_t *data = take(lab, name, &all);

    assert_true(bytes <= all);
    dirlab_put(lab, name, data, all - bytes);
    free(data);
}

void dirlab_put_fixture(dirlab *lab, const char *fixture_name, const char *name)
{
    fixture text;
    size_t bytes = 0;
    uint8_t *data = fixture_file(fixture_path(fixture_name), &bytes);

    assert_non_null(data);
    dirlab_put(lab, name, data, bytes);
    free(data);
    assert_true(fixture_read(fixture_name, &text));
    for (size_t i = 0; i < text.item_count; i++) {
        const nphd_vector vector = {text.items[i].data, text.items[i].bytes};
        dirlab_set(&lab->items, text.items[i].key, vector);
    }
    fixture_free(&text);
}

/* The bytes of a file without our trailer: all that the reference looks at. */
static size_t foreign_bytes(const dirlab *lab, const char *path, size_t all)
{
    nphdi_trailer trailer;
    bool found = false;

    OK(nphdi_file_trailer(memory_io_table(lab->disk), path, &trailer, &found, NULL));
    return found ? (size_t)trailer.foreign_bytes : all;
}

uint8_t *dirlab_take_foreign(const dirlab *lab, const char *name, size_t *out_bytes)
{
    uint8_t *data = memory_io_get(lab->disk, dirlab_path(name), out_bytes);

    if (data != NULL) {
        *out_bytes = foreign_bytes(lab, dirlab_path(name), *out_bytes);
    }
    return data;
}

void dirlab_put_shard(dirlab *lab, const char *name, const nphd_index_options *options,
                      uint64_t from, uint64_t to, uint8_t version)
{
    nphd_index_options known = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;
    uint8_t bits[8];
    size_t all = 0;

    if (options != NULL) {
        known = *options;
    } else {
        known.max_bits = 64;
    }
    known.io = memory_io_table(lab->disk);
    OK(nphd_index_create(&known, &index, NULL));
    for (uint64_t key = from; key < to; key++) {
        const nphd_vector vector = dirlab_vector(key, version, bits);
        OK(nphd_index_add(index, nphd_key_u64(key), vector, NULL, NULL));
        dirlab_set(&lab->items, nphd_key_u64(key), vector);
    }
    OK(nphd_index_save(index, dirlab_path(name), NULL, NULL));
    nphd_index_close(index);
    uint8_t *data = dirlab_take_foreign(lab, name, &all);
    dirlab_put(lab, name, data, all);
    free(data);
}

static void put_key(uint8_t *out, uint32_t key_bytes, nphd_key key)
{
    if (key_bytes == 16) {
        nphd_key_to_octets(key, out);
    } else {
        nphdi_put64(out, key.low);
    }
}

void dirlab_put_tombstones(dirlab *lab, uint32_t key_bytes, const nphd_key *keys, uint64_t count)
{
    const size_t bytes = NPHDI_NPY_HEAD_BYTES + (size_t)count * key_bytes;
    uint8_t *data = must_have(calloc(bytes, 1));

    nphdi_npy_encode_head(key_bytes, count, data);
    for (size_t i = 0; i < count; i++) {
        put_key(data + NPHDI_NPY_HEAD_BYTES + i * key_bytes, key_bytes, keys[i]);
    }
    dirlab_put(lab, "tombstones.npy", data, bytes);
    free(data);
}

void dirlab_put_bloom(dirlab *lab, uint32_t key_bytes)
{
    nphdi_bloom *bloom = NULL;
    bloom_bytes file;

    memset(&file, 0, sizeof(file));
    OK(nphdi_bloom_create(&lab->allocator.table, key_bytes, 0, &bloom, NULL));
    OK(nphdi_bloom_reserve(bloom, lab->items.count, NULL));
    for (size_t i = 0; i < lab->items.count; i++) {
        nphdi_bloom_add(bloom, lab->items.items[i].key);
    }
    OK(bloom_bytes_write(bloom, &file, NULL));
    dirlab_put(lab, "bloom.isbf", file.data, file.bytes);
    bloom_bytes_free(&file);
    nphdi_bloom_close(bloom);
}
