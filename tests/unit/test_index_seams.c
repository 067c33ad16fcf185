/* Hidden slots, and changes in steps. */
#include "index/index_internal.h"
#include "support/shard_lab.h"

/* ---- hidden slots ---- */

static bool is_hidden(uint64_t key)
{
    return key % 3 == 1;
}

static uint32_t find_slot(nphd_index *index, uint64_t key, bool *out_hidden)
{
    const uint64_t hash = nphdi_hash_key(nphd_key_u64(key), 8);
    uint32_t slot = UINT32_MAX;

    OK(nphdi_index_find_stored(index, nphd_key_u64(key), hash, &slot, out_hidden, NULL));
    assert_true(slot < nphdi_index_slots(index));
    return slot;
}

/* Hides a third of the keys. */
static void hide_some(nphd_index *index, uint64_t count, nphdi_hidden *hidden)
{
    for (uint64_t key = 0; key < count; key++) {
        bool was_hidden = true;
        const uint32_t slot = find_slot(index, key, &was_hidden);
        assert_false(was_hidden);
        if (is_hidden(key)) {
            assert_true(nphdi_hidden_set(hidden, slot));
            assert_false(nphdi_hidden_set(hidden, slot));
        }
    }
    assert_int_equal(nphd_index_size(index), count);
    nphdi_index_set_hidden(index, hidden);
}

static void check_lookups(nphd_index *index, uint64_t number)
{
    uint8_t data[8];
    uint8_t out[8];
    size_t bytes;
    size_t found;
    nphd_key key;
    bool was_hidden = false;
    bool stored = false;
    bool shown = false;
    const nphd_vector vector = vector_of(number, 0, data);
    const uint32_t slot = find_slot(index, number, &was_hidden);

    assert_int_equal(was_hidden, is_hidden(number));
    assert_int_equal(has(index, number), !is_hidden(number));
    OK(nphd_index_count(index, nphd_key_u64(number), &found, NULL));
    assert_int_equal(found, is_hidden(number) ? 0 : 1);
    assert_int_equal(nphd_index_get(index, nphd_key_u64(number), out, 8, &bytes, NULL),
                     is_hidden(number) ? NPHD_NOT_FOUND : NPHD_OK);
    OK(nphdi_index_key_at(index, slot, &key, &shown, &stored, NULL));
    assert_true(key.low == number && stored && shown == !is_hidden(number));
    OK(nphdi_index_vector_at(index, slot, out, &bytes, NULL));
    assert_int_equal(bytes, 8);
    assert_memory_equal(out, vector.data, 8);
}

static bool accept_all(void *context, nphd_key key)
{
    (void)context;
    (void)key;
    return true;
}

static void check_searches(nphd_index *index, uint64_t number)
{
    uint8_t data[8];
    const nphd_vector vector = vector_of(number, 0, data);

    for (unsigned kind = 0; kind < 4; kind++) {
        nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
        nphd_search_report report;
        nphd_match match[8];
        options.mode = kind < 2 ? NPHD_SEARCH_EXACT : NPHD_SEARCH_APPROXIMATE;
        options.filter = kind % 2 == 0 ? NULL : accept_all;
        OK(nphd_index_search(index, vector, 8, &options, match, &report, NULL));
        assert_true(report.count > 0);
        for (size_t m = 0; m < report.count; m++) {
            assert_false(is_hidden(match[m].key.low));
        }
        assert_true(kind >= 2 || (match[0].key.low == number) == !is_hidden(number));
    }
}

static void check_cursor(nphd_index *index, uint64_t visible)
{
    nphd_cursor cursor = nphd_index_cursor(index);
    nphd_key key;
    uint64_t met = 0;

    while (nphd_cursor_next(&cursor, &key, NULL, NULL, NULL) == NPHD_OK) {
        assert_false(is_hidden(key.low));
        met++;
    }
    assert_int_equal(met, visible);
}

static void check_hidden_copy(nphd_index *index, uint64_t count, uint64_t visible)
{
    nphd_index *copy = NULL;

    OK(nphd_index_copy(index, &copy, NULL));
    assert_int_equal(nphd_index_size(copy), visible);
    assert_int_equal(nphdi_index_stored(copy), visible);
    for (uint64_t i = 0; i < count; i++) {
        assert_int_equal(has(copy, i), !is_hidden(i));
    }
    add(copy, count, count + 5);
    assert_int_equal(nphd_index_size(copy), visible + 5);
    assert_int_equal(nphdi_index_slots(copy), count); /* in the places of the hidden ones */
    nphd_index_close(copy);
}

static void test_hidden(void **state)
{
    enum { COUNT = 200, VISIBLE = 133 };
    lab *here = *state;
    nphd_index *made = create(here, 64, false);
    nphd_index_stats stats = NPHD_INDEX_STATS_INIT;

    add(made, 0, COUNT);
    OK(nphd_index_save(made, PATH, NULL, NULL));
    for (unsigned kind = 0; kind < 2; kind++) {
        nphd_index *index = kind == 0 ? made : view(here, PATH);
        nphdi_hidden hidden;
        size_t bytes[2];
        OK(nphdi_hidden_create(&hidden, &here->allocator.table, COUNT, NULL));
        hide_some(index, COUNT, &hidden);
        assert_int_equal(nphd_index_size(index), VISIBLE);
        assert_int_equal(nphdi_index_stored(index), COUNT);
        for (uint64_t key = 0; key < COUNT; key++) {
            check_lookups(index, key);
            check_searches(index, key);
        }
        check_cursor(index, VISIBLE);
        check_hidden_copy(index, COUNT, VISIBLE);
        OK(nphd_index_get_stats(index, &stats, NULL));
        assert_int_equal(stats.size, VISIBLE);
        /* a file keeps them */
        const nphdi_save_as as = {made->identity, made->generation, NULL, 0};
        OK(nphdi_index_save_as(index, "kept", &as, NULL, NULL, NULL));
        uint8_t *files[2] = {memory_io_get(here->disk, PATH, &bytes[0]),
                             memory_io_get(here->disk, "kept", &bytes[1])};
        assert_int_equal(bytes[0], bytes[1]);
        assert_int_equal(stats.serialized_bytes, bytes[1]);
        assert_memory_equal(files[0], files[1], bytes[0]);
        free(files[0]);
        free(files[1]);
        nphdi_index_set_hidden(index, NULL);
        assert_int_equal(nphd_index_size(index), COUNT);
        assert_true(has(index, 1));
        nphdi_hidden_release(&hidden);
        if (kind == 1) {
            nphd_index_close(index);
        }
    }
    nphd_index_close(made);
}

/* New content starts without the hidden slots of the old. */
static void test_hidden_ends_with_the_content(void **state)
{
    lab *here = *state;
    nphd_index *index = create(here, 64, false);
    nphdi_hidden hidden;

    add(index, 0, 10);
    OK(nphd_index_save(index, PATH, NULL, NULL));
    OK(nphdi_hidden_create(&hidden, &here->allocator.table, 10, NULL));
    assert_true(nphdi_hidden_set(&hidden, 4));
    for (unsigned way = 0; way < 4; way++) {
        nphdi_index_set_hidden(index, &hidden);
        if (way == 0) {
            OK(nphd_index_load(index, PATH, NULL, NULL));
        } else if (way == 1) {
            OK(nphd_index_clear(index, NULL));
            add(index, 0, 10);
        } else if (way == 2) {
            OK(nphd_index_reset(index, NULL));
            add(index, 0, 10);
        } else {
            OK(nphd_index_view(index, PATH, NULL, NULL));
        }
        assert_int_equal(nphd_index_size(index), 10);
        assert_true(has(index, 4));
    }
    assert_false(nphdi_hidden_get(&hidden, 10));
    assert_false(nphdi_hidden_get(&hidden, UINT32_MAX));
    nphdi_hidden_release(&hidden);
    nphd_index_close(index);
}

/* ---- changes in steps ---- */

typedef struct steps {
    nphd_index *index;
    nphd_key key; /* of the batch */
    uint8_t version;
    unsigned entered;
    unsigned left;
} steps;

/* The lock that searches hold is free: taking it for writing would never end otherwise. */
static void expect_unlocked(nphd_index *index)
{
    nphdi_rwlock_write(&index->content_lock);
    nphdi_rwlock_write_end(&index->content_lock);
}

static bool is_there(const steps *here)
{
    uint8_t out[8];
    uint8_t wanted[8];
    size_t bytes = 0;

    (void)vector_of(here->key.low, here->version, wanted);
    return nphd_index_get(here->index, here->key, out, 8, &bytes, NULL) == NPHD_OK &&
           memcmp(out, wanted, 8) == 0;
}

static void steps_enter(void *context)
{
    steps *here = context;

    expect_unlocked(here->index);
    assert_int_equal(here->left, here->entered);
    assert_false(is_there(here));
    here->entered++;
}

static void steps_leave(void *context)
{
    steps *here = context;

    expect_unlocked(here->index);
    here->left++;
    assert_int_equal(here->left, here->entered);
    assert_true(is_there(here));
}

static int stop_at_once(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    (void)done;
    (void)total;
    return 1;
}

/* One batch of a single key; returns how many times it was published. */
static unsigned change_one(nphd_index *index, uint64_t key, uint8_t version, nphdi_change_mode mode,
                           nphd_status expected, nphd_upsert_counts *counts)
{
    uint8_t data[8];
    steps here = {index, nphd_key_u64(key), version, 0, 0};
    const nphdi_publish_hooks hooks = {&here, steps_enter, steps_leave};
    const nphd_vector vector = vector_of(key, version, data);

    assert_int_equal(
        nphdi_index_change(index, &here.key, &vector, 1, NULL, mode, &hooks, NULL, counts, NULL),
        expected);
    assert_int_equal(here.entered, here.left);
    return here.entered;
}

static void test_change_modes(void **state)
{
    lab *here = *state;
    nphd_index *index = create(here, 64, false);
    nphd_upsert_counts counts;

    assert_int_equal(change_one(index, 5, 0, NPHDI_CHANGE_ADD, NPHD_OK, &counts), 1);
    assert_true(counts.added == 1 && counts.replaced == 0 && counts.unchanged == 0);
    assert_int_equal(change_one(index, 5, 1, NPHDI_CHANGE_ADD, NPHD_OK, &counts), 0);
    assert_true(counts.added == 0 && counts.replaced == 0 && counts.unchanged == 0);
    assert_int_equal(change_one(index, 5, 0, NPHDI_CHANGE_UPSERT, NPHD_OK, &counts), 0);
    assert_true(counts.added == 0 && counts.replaced == 0 && counts.unchanged == 1);
    assert_int_equal(change_one(index, 5, 1, NPHDI_CHANGE_UPSERT, NPHD_OK, &counts), 1);
    assert_true(counts.added == 0 && counts.replaced == 1 && counts.unchanged == 0);
    assert_int_equal(change_one(index, 6, 0, NPHDI_CHANGE_UPSERT, NPHD_OK, &counts), 1);
    assert_true(counts.added == 1 && counts.replaced == 0 && counts.unchanged == 0);
    assert_int_equal(change_one(index, 5, 2, NPHDI_CHANGE_REPLACE, NPHD_OK, &counts), 1);
    assert_true(counts.added == 0 && counts.replaced == 1 && counts.unchanged == 0);
    assert_int_equal(nphd_index_size(index), 2);
    nphd_index_close(index);
}

/* Replacing by an equal vector takes a new slot: the entry is a new one. */
static void test_change_replaces_equal(void **state)
{
    lab *here = *state;
    nphd_index *index = create(here, 64, false);
    const nphd_key key = nphd_key_u64(5);
    const uint64_t hash = nphdi_hash_key(key, 8);
    nphd_upsert_counts counts;
    uint8_t data[8];
    const nphd_vector vector = vector_of(5, 0, data);
    uint32_t slots[2];
    bool hidden;

    add(index, 5, 6);
    OK(nphdi_index_find_stored(index, key, hash, &slots[0], &hidden, NULL));
    OK(nphdi_index_change(index, &key, &vector, 1, NULL, NPHDI_CHANGE_REPLACE, NULL, NULL, &counts,
                          NULL));
    OK(nphdi_index_find_stored(index, key, hash, &slots[1], &hidden, NULL));
    assert_true(counts.replaced == 1 && counts.unchanged == 0);
    assert_int_not_equal(slots[0], slots[1]);
    assert_int_equal(nphd_index_size(index), 1);
    nphd_index_close(index);
}

static void test_change_that_fails_is_not_published(void **state)
{
    lab *here = *state;
    nphd_index *index = create(here, 64, false);
    nphd_index *many = create(here, 64, true);
    nphd_upsert_counts counts = {9, 9, 9};
    uint8_t data[8];
    const nphd_vector vector = vector_of(1, 0, data);
    bool failed = true;

    assert_int_equal(
        change_one(index, UINT64_MAX, 0, NPHDI_CHANGE_ADD, NPHD_INVALID_ARGUMENT, &counts), 0);
    assert_true(counts.added == 0 && counts.replaced == 0 && counts.unchanged == 0);
    assert_int_equal(change_one(many, 1, 0, NPHDI_CHANGE_UPSERT, NPHD_UNSUPPORTED, &counts), 0);
    assert_int_equal(change_one(many, 1, 0, NPHDI_CHANGE_REPLACE, NPHD_UNSUPPORTED, &counts), 0);
    assert_int_equal(nphdi_index_change(index, NULL, &vector, 1, NULL, NPHDI_CHANGE_REPLACE, NULL,
                                        NULL, NULL, NULL),
                     NPHD_INVALID_ARGUMENT);
    for (uint64_t n = 1; failed; n++) {
        const steps start = {index, nphd_key_u64(1), 0, 0, 0};
        steps now = start;
        const nphdi_publish_hooks hooks = {&now, steps_enter, steps_leave};
        allocator_fault_arm(&here->allocator, ALLOCATOR_FAULT_ALL, n, true);
        const nphd_status status = nphdi_index_change(
            index, &now.key, &vector, 1, NULL, NPHDI_CHANGE_UPSERT, &hooks, NULL, NULL, NULL);
        failed = here->allocator.failed > 0 && status != NPHD_OK;
        allocator_fault_arm(&here->allocator, ALLOCATOR_FAULT_ALL, 0, false);
        assert_int_equal(now.entered, failed ? 0 : 1);
    }
    OK(nphd_index_save(index, PATH, NULL, NULL));
    nphd_index *seen = view(here, PATH);
    assert_int_equal(change_one(seen, 2, 0, NPHDI_CHANGE_UPSERT, NPHD_READ_ONLY, &counts), 0);
    nphd_index_close(seen);
    nphd_index_close(index);
    nphd_index_close(many);
}

/* A batch that was stopped publishes, in one step, what it had linked. */
static void test_change_that_is_cancelled(void **state)
{
    lab *here = *state;
    nphd_index *index = create(here, 64, false);
    nphd_key keys[3] = {nphd_key_u64(1), nphd_key_u64(2), nphd_key_u64(3)};
    uint8_t data[3][8];
    nphd_vector vectors[3];
    nphd_batch_options options = NPHD_BATCH_OPTIONS_INIT;
    steps now = {index, nphd_key_u64(1), 0, 0, 0};
    const nphdi_publish_hooks hooks = {&now, steps_enter, steps_leave};
    nphd_upsert_counts counts;

    for (unsigned i = 0; i < 3; i++) {
        vectors[i] = vector_of(i + 1, 0, data[i]);
    }
    options.progress = stop_at_once;
    assert_int_equal(nphdi_index_change(index, keys, vectors, 3, &options, NPHDI_CHANGE_ADD, &hooks,
                                        NULL, &counts, NULL),
                     NPHD_CANCELLED);
    assert_true(now.entered == 1 && counts.added == 1);
    assert_int_equal(nphd_index_size(index), 1);
    nphd_index_close(index);
}

/* Batches of two keys, one each round, while other threads look under the lock that the hooks take:
 * they see both keys or neither. */
#define ROUNDS 300

typedef struct beside {
    nphd_index *index;
    nphdi_rwlock lock;
    _Atomic uint64_t round;
    _Atomic uint64_t looks;
    _Atomic uint64_t torn;
    _Atomic uint64_t failed;
} beside;

static void beside_enter(void *context)
{
    nphdi_rwlock_write(&((beside *)context)->lock);
}

static void beside_leave(void *context)
{
    nphdi_rwlock_write_end(&((beside *)context)->lock);
}

static void beside_write(beside *here)
{
    const nphdi_publish_hooks hooks = {here, beside_enter, beside_leave};

    for (uint64_t round = 0; round < ROUNDS; round++) {
        uint8_t data[2][8];
        const nphd_key keys[2] = {nphd_key_u64(round), nphd_key_u64(ROUNDS + round)};
        const nphd_vector vectors[2] = {vector_of(round, 0, data[0]),
                                        vector_of(ROUNDS + round, 0, data[1])};
        const nphd_status status = nphdi_index_change(
            here->index, keys, vectors, 2, NULL,
            round % 2 == 0 ? NPHDI_CHANGE_ADD : NPHDI_CHANGE_REPLACE, &hooks, NULL, NULL, NULL);
        atomic_fetch_add(&here->failed, status != NPHD_OK ? 1 : 0);
        atomic_store(&here->round, round + 1);
    }
}

static void beside_work(void *context, uint32_t worker)
{
    beside *here = context;
    uint8_t data[8];
    nphd_match match[2];
    nphd_search_report report;

    if (worker == 0) {
        beside_write(here);
        return;
    }
    while (atomic_load(&here->round) < ROUNDS) {
        const uint64_t round = atomic_load(&here->round);
        const nphd_vector vector = vector_of(round, 0, data);
        bool there[2] = {false, false};
        nphdi_rwlock_read(&here->lock);
        (void)nphd_index_contains(here->index, nphd_key_u64(round), &there[0], NULL);
        (void)nphd_index_search(here->index, vector, 2, NULL, match, &report, NULL);
        (void)nphd_index_contains(here->index, nphd_key_u64(ROUNDS + round), &there[1], NULL);
        nphdi_rwlock_read_end(&here->lock);
        atomic_fetch_add(&here->torn, there[0] != there[1] ? 1 : 0);
        atomic_fetch_add(&here->looks, 1);
    }
}

static void test_steps_beside_searches(void **state)
{
    lab *here = *state;
    beside work;

    memset(&work, 0, sizeof(work));
    work.index = create(here, 64, false);
    OK(nphdi_rwlock_init(&work.lock, NULL));
    nphdi_threads_run(3, beside_work, &work);
    assert_int_equal(work.failed, 0);
    assert_int_equal(work.torn, 0);
    assert_true(work.looks > 0);
    assert_int_equal(nphd_index_size(work.index), 2 * ROUNDS);
    nphdi_rwlock_destroy(&work.lock);
    nphd_index_close(work.index);
}

/* Threads that hide the same slots: each is counted once. */
static void hide_all(void *context, uint32_t worker)
{
    nphdi_hidden *hidden = context;

    (void)worker;
    for (uint32_t slot = 0; slot < 10000; slot += 2) {
        (void)nphdi_hidden_set(hidden, slot);
    }
}

static void test_hidden_by_threads(void **state)
{
    lab *here = *state;
    nphdi_hidden hidden;

    OK(nphdi_hidden_create(&hidden, &here->allocator.table, 10000, NULL));
    nphdi_threads_run(3, hide_all, &hidden);
    assert_int_equal(hidden.count, 5000);
    for (uint32_t slot = 0; slot < 10000; slot++) {
        assert_int_equal(nphdi_hidden_get(&hidden, slot), slot % 2 == 0);
    }
    nphdi_hidden_release(&hidden);
}

static void test_change_automatic_keys(void **state)
{
    lab *here = *state;
    nphd_index *index = create(here, 64, false);
    uint8_t data[2][8];
    const nphd_vector vectors[2] = {vector_of(0, 0, data[0]), vector_of(1, 0, data[1])};
    nphd_key keys[2];
    steps now = {index, nphd_key_u64(1), 0, 0, 0};
    const nphdi_publish_hooks hooks = {&now, steps_enter, steps_leave};

    OK(nphdi_index_change(index, NULL, vectors, 2, NULL, NPHDI_CHANGE_ADD, &hooks, keys, NULL,
                          NULL));
    assert_true(keys[0].low == 0 && keys[1].low == 1 && now.entered == 1);
    nphd_index_close(index);
}

static void test_check(void **state)
{
    lab *here = *state;
    nphd_index *index = create(here, 64, false);
    nphd_index *wide = create(here, 128, false);
    uint8_t data[8];
    nphd_key keys[2] = {nphd_key_u64(1), nphd_key_u64(1)};
    nphd_vector vectors[2] = {vector_of(0, 0, data), vector_of(0, 0, data)};

    OK(nphdi_index_check(index, keys, vectors, 2, NULL));
    OK(nphdi_index_check(index, NULL, vectors, 2, NULL));
    assert_int_equal(nphdi_index_check(wide, NULL, vectors, 2, NULL), NPHD_INVALID_ARGUMENT);
    assert_int_equal(nphdi_index_check(index, keys, NULL, 2, NULL), NPHD_INVALID_ARGUMENT);
    OK(nphdi_index_check(index, keys, NULL, 0, NULL));
    keys[1].high = 1;
    assert_int_equal(nphdi_index_check(index, keys, vectors, 2, NULL), NPHD_INVALID_ARGUMENT);
    OK(nphdi_index_check(wide, keys, vectors, 2, NULL));
    keys[1] = nphd_key_u64(UINT64_MAX);
    assert_int_equal(nphdi_index_check(index, keys, vectors, 2, NULL), NPHD_INVALID_ARGUMENT);
    keys[1] = keys[0];
    vectors[1].bytes = 9;
    assert_int_equal(nphdi_index_check(index, keys, vectors, 2, NULL), NPHD_INVALID_ARGUMENT);
    assert_int_equal(nphd_index_size(index), 0);
    /* a view may be asked, too: only the arguments are looked at */
    OK(nphd_index_save(index, PATH, NULL, NULL));
    nphd_index *seen = view(here, PATH);
    OK(nphdi_index_check(seen, keys, vectors, 1, NULL));
    nphd_index_close(seen);
    nphd_index_close(index);
    nphd_index_close(wide);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_hidden),
        TEST(test_hidden_ends_with_the_content),
        TEST(test_change_modes),
        TEST(test_change_replaces_equal),
        TEST(test_change_that_fails_is_not_published),
        TEST(test_change_that_is_cancelled),
        TEST(test_steps_beside_searches),
        TEST(test_hidden_by_threads),
        TEST(test_change_automatic_keys),
        TEST(test_check),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
