/* What a commit wrote is there after the next opening, whatever happened in between: random changes
 * of every kind against the content at the last commit; what a commit costs; who may commit. */
#include "support/directory_content.h"
#include "support/directory_lab.h"

#include <errno.h>
#include <stdio.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

static size_t journals(const dirlab *lab)
{
    return memory_io_count(lab->disk, DIRLAB_FOLDER "/journal_");
}

/* ---- random changes ---- */

enum { RANDOM_KEYS = 200, MOST_AT_ONCE = 40 };

typedef struct world {
    dirlab *lab;
    nphd_sharded_options options;
    nphd_sharded *sharded;
    directory_content committed;
    bool wide; /* keys of 128 bits */
    bool full; /* vectors of full width only */
    nphd_key keys[MOST_AT_ONCE];
    nphd_vector vectors[MOST_AT_ONCE];
    uint8_t bits[MOST_AT_ONCE][8];
} world;

static size_t draw(world *of, size_t below)
{
    return (size_t)test_random_below(&of->lab->random, below);
}

static size_t draw_batch(world *of)
{
    const size_t count = 1 + draw(of, MOST_AT_ONCE);

    for (size_t i = 0; i < count; i++) {
        of->keys[i] = nphd_key_u64(draw(of, RANDOM_KEYS));
        of->keys[i].high = of->wide ? 7 * of->keys[i].low : 0;
        of->vectors[i].data = of->bits[i];
        of->vectors[i].bytes = of->full ? 8 : 1 + draw(of, 8);
        test_random_fill(&of->lab->random, of->bits[i], 8);
    }
    return count;
}

static void world_begin(world *of, dirlab *lab, uint32_t key_bits, nphd_metric metric, bool multi,
                        bool background)
{
    memset(of, 0, sizeof(*of));
    of->lab = lab;
    of->options = dirlab_with_journal(lab);
    of->options.key_bits = key_bits;
    of->options.metric = metric;
    of->options.multi = multi ? 2 : 1;
    of->options.background_rotation = background;
    of->wide = key_bits == 128;
    of->full = metric == NPHD_METRIC_HAMMING;
    of->sharded = dirlab_open(lab, &of->options);
    content_take(of->sharded, &of->committed);
}

static void commit(world *of)
{
    OK(nphd_sharded_commit(of->sharded, NULL));
    content_take(of->sharded, &of->committed);
}

static void change(world *of)
{
    const bool single = of->options.multi == 1;
    const size_t count = draw_batch(of);

    switch (draw(of, 12)) {
    case 0:
    case 1:
    case 2:
        OK(nphd_sharded_add_many(of->sharded, of->keys, of->vectors, count, NULL, NULL, NULL,
                                 NULL));
        break;
    case 3:
        OK(nphd_sharded_add(of->sharded, of->keys[0], of->vectors[0], NULL, NULL));
        break;
    case 4:
        OK(nphd_sharded_add_once(of->sharded, of->keys, of->vectors, count, NULL, NULL, NULL,
                                 NULL));
        break;
    case 5:
        assert_int_equal(
            nphd_sharded_add_many(of->sharded, NULL, of->vectors, count, NULL, NULL, NULL, NULL),
            of->wide ? NPHD_INVALID_ARGUMENT : NPHD_OK);
        break;
    case 6:
    case 7:
        assert_int_equal(
            nphd_sharded_upsert(of->sharded, of->keys, of->vectors, count, NULL, NULL, NULL),
            single ? NPHD_OK : NPHD_UNSUPPORTED);
        break;
    case 8:
    case 9:
        assert_int_equal(nphd_sharded_remove(of->sharded, of->keys, count, NULL, NULL),
                         single ? NPHD_OK : NPHD_UNSUPPORTED);
        break;
    case 10:
        if (draw(of, 8) == 0) {
            OK(nphd_sharded_reset(of->sharded, NULL));
        }
        break;
    default:
        /* what comes after a rotation counts only with it, so that a commit must follow */
        OK(nphd_sharded_rotate(of->sharded, NULL));
        commit(of);
        break;
    }
}

static void expect_reader(world *of, uint32_t threads)
{
    nphd_sharded_options options = dirlab_options(of->lab);
    nphd_sharded *reader = NULL;

    options.read_only = true;
    options.threads = threads;
    if (memory_io_count(of->lab->disk, DIRLAB_FOLDER "/shard_") == 0) {
        return;
    }
    reader = dirlab_open(of->lab, &options);
    content_expect(reader, &of->committed);
    dirlab_close(reader);
}

static void crash_and_reopen(world *of)
{
    nphd_sharded_options options = of->options;

    nphd_sharded_free(of->sharded);
    expect_reader(of, 1);
    expect_reader(of, 3);
    options.threads = draw(of, 2) == 0 ? 3 : 0;
    of->sharded = dirlab_open(of->lab, &options);
    content_expect(of->sharded, &of->committed);
    if (!of->wide) {
        assert_int_equal(dirlab_stats(of->sharded).next_automatic_key,
                         of->committed.next_automatic_key);
    }
}

static void random_world(dirlab *lab, uint32_t key_bits, nphd_metric metric, bool multi,
                         bool background)
{
    world of;
    const size_t rounds = getenv("NPHD_TEST_SCALE") != NULL ? 30 : 150;

    world_begin(&of, lab, key_bits, metric, multi, background);
    for (size_t round = 0; round < rounds; round++) {
        const size_t changes = draw(&of, 6);
        for (size_t i = 0; i < changes; i++) {
            change(&of);
        }
        switch (draw(&of, 6)) {
        case 0:
            commit(&of);
            break;
        case 1:
            commit(&of);
            expect_reader(&of, 1);
            break;
        case 2:
            OK(nphd_sharded_save(of.sharded, NULL, NULL));
            content_take(of.sharded, &of.committed);
            assert_int_equal(journals(lab), 0);
            break;
        case 3: /* with changes that nobody committed */
            crash_and_reopen(&of);
            break;
        default:
            commit(&of);
            crash_and_reopen(&of);
            break;
        }
    }
    OK(nphd_sharded_close(of.sharded, NULL));
    nphd_sharded_free(of.sharded);
    assert_int_equal(journals(lab), 0);
    content_free(&of.committed);
}

static void test_random_narrow_keys(void **state)
{
    random_world(*state, 64, NPHD_METRIC_NPHD, false, false);
}

static void test_random_wide_keys(void **state)
{
    random_world(*state, 128, NPHD_METRIC_HAMMING, false, false);
}

static void test_random_multi(void **state)
{
    random_world(*state, 64, NPHD_METRIC_NPHD, true, false);
}

static void test_random_background(void **state)
{
    random_world(*state, 64, NPHD_METRIC_NPHD, false, true);
}

static void test_random_multi_wide_background(void **state)
{
    random_world(*state, 128, NPHD_METRIC_NPHD, true, true);
}

/* ---- what a commit costs ---- */

static uint64_t syncs_of_commit(dirlab *lab, nphd_sharded *sharded)
{
    io_fault_arm(&lab->fault, IO_FAULT_SYNC | IO_FAULT_SYNC_DIRECTORY, 0, 0, false);
    OK(nphd_sharded_commit(sharded, NULL));
    io_fault_disarm(&lab->fault);
    return lab->fault.calls;
}

static void test_one_flush(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_with_journal(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_commit(sharded, NULL)); /* nothing to continue yet: a save */
    assert_int_equal(journals(lab), 0);
    assert_true(dirlab_exists(lab, "shard_000.usearch"));
    dirlab_add(lab, sharded, 10, 11);
    assert_int_equal(syncs_of_commit(lab, sharded), 4); /* its head, the directory, lock, frame */
    assert_true(dirlab_exists(lab, "journal_00000002"));
    dirlab_add(lab, sharded, 11, 12);
    assert_int_equal(syncs_of_commit(lab, sharded), 1);
    dirlab_remove(lab, sharded, 3);
    dirlab_upsert(lab, sharded, 4, 1);
    dirlab_add(lab, sharded, 100, 300);
    assert_int_equal(syncs_of_commit(lab, sharded), 1);
    assert_int_equal(syncs_of_commit(lab, sharded), 0); /* nothing changed */
    assert_int_equal(nphd_sharded_dirty(sharded), 205); /* since the save: a commit is none */
    nphd_sharded_free(sharded);
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    assert_int_equal(journals(lab), 0);
    dirlab_expect_reference(lab);
}

/* The reference does not know the journal: it has the last save. */
static void test_reference_sees_the_save(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_with_journal(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_items saved;
    uint8_t bits[8];

    dirlab_add(lab, sharded, 0, 20);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 20, 30);
    dirlab_remove(lab, sharded, 5);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    saved = lab->items;
    memset(&lab->items, 0, sizeof(lab->items));
    for (size_t i = 0; i < saved.count; i++) {
        dirlab_set(&lab->items, saved.items[i].key,
                   (nphd_vector){saved.items[i].data, saved.items[i].bytes});
    }
    dirlab_remove(lab, sharded, 6);
    dirlab_upsert(lab, sharded, 7, 1);
    dirlab_add(lab, sharded, 30, 40);
    OK(nphd_sharded_commit(sharded, NULL));
    nphd_sharded_free(sharded);
    dirlab_items now = lab->items;
    lab->items = saved;
    dirlab_expect_reference(lab);
    lab->items = now;
    dirlab_items_free(&saved);
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    dirlab_expect_reference(lab);
    /* a shard of the reference, written since: the journal is told of and not applied */
    sharded = dirlab_open(lab, &options);
    OK(nphd_sharded_add(sharded, nphd_key_u64(500), dirlab_vector(500, 0, bits), NULL, NULL));
    OK(nphd_sharded_commit(sharded, NULL));
    nphd_sharded_free(sharded);
    size_t bytes = 0;
    uint8_t *foreign = dirlab_take_foreign(lab, "shard_001.usearch", &bytes);
    dirlab_put(lab, "shard_001.usearch", foreign, bytes);
    free(foreign);
    dirlab_forget_log(lab);
    dirlab_refused(lab, &options, NPHD_MISMATCH, "shard_001.usearch", "bloom.isbf");
    nphd_sharded_options reference = options;
    reference.reference_wrote_last = true;
    sharded = dirlab_open(lab, &reference);
    assert_non_null(strstr(lab->log, "journal_"));
    assert_non_null(strstr(lab->log, "not applied"));
    assert_false(dirlab_has(sharded, 500));
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* Without the option a commit is a save, also of what a journal brought. */
static void test_without_journal(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_with_journal(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    dirlab_add(lab, sharded, 10, 20);
    dirlab_remove(lab, sharded, 2);
    OK(nphd_sharded_commit(sharded, NULL));
    nphd_sharded_free(sharded);
    assert_int_equal(journals(lab), 1);
    options.journal = false;
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_add(lab, sharded, 20, 21);
    OK(nphd_sharded_commit(sharded, NULL));
    assert_int_equal(nphd_sharded_dirty(sharded), 0);
    nphd_sharded_free(sharded);
    assert_int_equal(journals(lab), 0);
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

static void test_who_may_commit(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_with_journal(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    nphd_error err = NPHD_ERROR_INIT;

    dirlab_add(lab, sharded, 0, 3);
    OK(nphd_sharded_close(sharded, NULL));
    assert_int_equal(nphd_sharded_commit(sharded, &err), NPHD_CLOSED);
    nphd_sharded_free(sharded);
    options.read_only = true;
    sharded = dirlab_open(lab, &options);
    assert_int_equal(nphd_sharded_commit(sharded, &err), NPHD_READ_ONLY);
    dirlab_close(sharded);
}

/* ---- commits without being asked ---- */

static void test_each_call(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded;
    uint64_t automatic = 0;

    options.commit_each_call = true;
    for (size_t step = 0; step < 8; step++) {
        sharded = dirlab_open(lab, &options);
        dirlab_expect(lab, sharded);
        switch (step) {
        case 2:
            dirlab_upsert(lab, sharded, 3, 1);
            break;
        case 3:
            dirlab_remove(lab, sharded, 4);
            break;
        case 5:
            OK(nphd_sharded_reset(sharded, NULL));
            lab->items.count = 0;
            break;
        case 6: {
            uint8_t bits[8];
            nphd_key key;
            const nphd_vector vector = dirlab_vector(99, 0, bits);
            OK(nphd_sharded_add_many(sharded, NULL, &vector, 1, NULL, &key, NULL, NULL));
            dirlab_set(&lab->items, key, vector);
            automatic = key.low + 1;
            break;
        }
        default:
            dirlab_add(lab, sharded, 10 * step, 10 * step + 5);
            break;
        }
        nphd_sharded_free(sharded);
    }
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    assert_int_equal(dirlab_stats(sharded).next_automatic_key, automatic);
    dirlab_close(sharded);
}

static void test_interval(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded;

    options.commit_interval_ms = 5;
    sharded = dirlab_open(lab, &options);
    /* what was never saved cannot be journaled: the thread saves */
    dirlab_add(lab, sharded, 0, 10);
    dirlab_wait_for_commit(sharded);
    for (size_t first = 10; first < 30; first += 10) {
        dirlab_add(lab, sharded, first, first + 10);
        dirlab_wait_for_commit(sharded);
        assert_int_equal(journals(lab), 1);
    }
    nphd_sharded_free(sharded);
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_random_narrow_keys),
        DIRLAB_TEST(test_random_wide_keys),
        DIRLAB_TEST(test_random_multi),
        DIRLAB_TEST(test_random_background),
        DIRLAB_TEST(test_random_multi_wide_background),
        DIRLAB_TEST(test_one_flush),
        DIRLAB_TEST(test_reference_sees_the_save),
        DIRLAB_TEST(test_without_journal),
        DIRLAB_TEST(test_who_may_commit),
        DIRLAB_TEST(test_each_call),
        DIRLAB_TEST(test_interval),
    };

    return cmocka_run_group_tests_name("journal of the sharded index", tests, NULL, NULL);
}
