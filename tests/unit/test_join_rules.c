/* What nphd_join() says to wrong arguments, to sinks and progress callbacks that end it, and beside
 * threads that change its sides. */
#include "index/index_shard.h"
#include "support/join_lab.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>

#include <cmocka.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

static const joinlab_plan plain = {.kind = JOINLAB_INDEX,
                                   .metric = NPHD_METRIC_NPHD,
                                   .max_bytes = 4,
                                   .key_bits = 64,
                                   .vectors = 100,
                                   .equal = 100,
                                   .only_additions = true};

static void refused(const nphd_join_side *left, const nphd_join_side *right, float radius,
                    const nphd_join_options *options, nphd_pair_sink sink, const char *text)
{
    nphd_error err = NPHD_ERROR_INIT;
    nphd_join_report report = {1, 1, true};

    assert_int_equal(nphd_join(left, right, radius, options, sink, NULL, &report, &err),
                     NPHD_INVALID_ARGUMENT);
    assert_non_null(strstr(err.text, text));
    assert_int_equal(report.vectors, 0);
    assert_int_equal(report.pairs, 0);
    assert_false(report.more);
}

/* A small distance between codes of two types says nothing: it is no answer. */
static void test_types_of_codes(void **state)
{
    const nphd_unit text = NPHD_UNIT(2, 0, 0);
    const nphd_unit image = NPHD_UNIT(2, 1, 0);
    const nphd_unit units[] = {NPHD_UNIT_NONE, NPHD_UNIT_MIXED, text, image};
    const joinlab_kind kinds[] = {JOINLAB_INDEX, JOINLAB_SHARDED};
    nphd_join_options options = NPHD_JOIN_OPTIONS_INIT;

    (void)state;
    for (int i = 0; i < 2 * 2 * 4 * 4 * 2; i++) {
        joinlab_plan plans[2] = {plain, plain};
        joinlab_side sides[2];
        const nphd_unit unit[2] = {units[i / 8 % 4], units[i / 32 % 4]};
        test_random random = {(uint64_t)i};
        joinlab_pairs found = {0};
        nphd_error err = NPHD_ERROR_INIT;
        nphd_pairs *pairs = NULL;
        nphd_status expected = NPHD_OK;

        for (int side = 0; side < 2; side++) {
            plans[side].kind = kinds[i >> side & 1];
            joinlab_make(&plans[side], NULL, &random, &sides[side]);
            OK(sides[side].side.sharded != NULL
                   ? nphd_sharded_set_unit(sides[side].side.sharded, unit[side], true, NULL)
                   : nphd_index_set_unit(sides[side].side.index, unit[side], true, NULL));
        }
        options.mix_units = (i & 4) != 0;
        expected =
            !options.mix_units && unit[0] + unit[1] == text + image ? NPHD_MISMATCH : NPHD_OK;
        assert_int_equal(nphd_join(&sides[0].side, &sides[1].side, 0, &options, joinlab_take,
                                   &found, NULL, &err),
                         expected);
        assert_int_equal(nphd_pairs_open(&sides[0].side, &sides[1].side, 0, &options, &pairs, NULL),
                         expected);
        nphd_pairs_close(pairs);
        if (expected != NPHD_OK) {
            assert_non_null(strstr(err.text, "content-text"));
            assert_non_null(strstr(err.text, "content-image"));
        }
        joinlab_pairs_free(&found);
        joinlab_close(&sides[0]);
        joinlab_close(&sides[1]);
    }
}

static void test_arguments(void **state)
{
    test_random random = {1};
    joinlab_side side;
    nphd_join_options options = NPHD_JOIN_OPTIONS_INIT;

    (void)state;
    joinlab_make(&plain, NULL, &random, &side);
    const nphd_join_side none = {NULL, NULL};
    const nphd_join_side two = {side.side.index, (nphd_sharded *)side.side.index};

    refused(NULL, NULL, 0, NULL, joinlab_take, "left or sink is NULL");
    refused(&side.side, NULL, 0, NULL, NULL, "left or sink is NULL");
    refused(&none, NULL, 0, NULL, joinlab_take, "the left side is no index");
    refused(&two, NULL, 0, NULL, joinlab_take, "the left side is an index and a sharded index");
    refused(&side.side, &none, 0, NULL, joinlab_take, "the right side is no index");
    refused(&side.side, NULL, -0.5F, NULL, joinlab_take, "the radius is -0.5");
    refused(&side.side, NULL, NAN, NULL, joinlab_take, "it must be 0 or more");
    refused(&side.side, NULL, 1.5F, NULL, joinlab_take, "fractions from 0 to 1");
    options.struct_size = 1;
    refused(&side.side, NULL, 0, &options, joinlab_take, "struct_size");
    joinlab_close(&side);
}

static void test_sides_that_do_not_fit(void **state)
{
    test_random random = {1};
    joinlab_plan plan = plain;
    joinlab_side side;
    joinlab_side other;

    (void)state;
    joinlab_make(&plain, NULL, &random, &side);
    for (unsigned kind = 0; kind < JOINLAB_KINDS; kind++) {
        plan = plain;
        plan.kind = (joinlab_kind)kind;
        plan.metric = NPHD_METRIC_HAMMING;
        joinlab_make(&plan, NULL, &random, &other);
        refused(&side.side, &other.side, 0, NULL, joinlab_take,
                "the left side has the metric nphd, the right one hamming");
        joinlab_close(&other);
        plan.metric = NPHD_METRIC_NPHD;
        plan.max_bytes = 5;
        joinlab_make(&plan, NULL, &random, &other);
        refused(&other.side, &side.side, 0, NULL, joinlab_take,
                "the left side has vectors of 40 bits, the right one of 32");
        joinlab_close(&other);
        plan.max_bytes = 4;
        plan.key_bits = 128;
        joinlab_make(&plan, NULL, &random, &other);
        refused(&side.side, &other.side, 0, NULL, joinlab_take,
                "the left side has keys of 64 bits, the right one of 128");
        joinlab_close(&other);
    }
    joinlab_close(&side);
}

static void test_closed(void **state)
{
    test_random random = {1};
    joinlab_plan plan = plain;
    joinlab_side side;
    joinlab_side closed;

    (void)state;
    joinlab_make(&plan, NULL, &random, &side);
    plan.kind = JOINLAB_SHARDED;
    joinlab_make(&plan, NULL, &random, &closed);
    OK(nphd_sharded_close(closed.side.sharded, NULL));
    assert_int_equal(nphd_join(&closed.side, NULL, 0, NULL, joinlab_take, NULL, NULL, NULL),
                     NPHD_CLOSED);
    assert_int_equal(nphd_join(&side.side, &closed.side, 0, NULL, joinlab_take, NULL, NULL, NULL),
                     NPHD_CLOSED);
    joinlab_close(&closed);
    joinlab_close(&side);
}

static void test_sink_ends(void **state)
{
    test_random random = {1};
    joinlab_plan plan = plain;
    nphd_join_options options = NPHD_JOIN_OPTIONS_INIT;
    joinlab_pairs expected = {NULL, 0, 0, 0, 0};
    joinlab_side side;
    nphd_join_report report;
    size_t calls = 0;

    (void)state;
    plan.vectors = 200; /* 19900 pairs: several calls of the sink for each batch */
    joinlab_make(&plan, NULL, &random, &side);
    joinlab_expect(&side.side, NULL, 0, &expected);
    options.batch = 50;
    for (size_t end_call = 1; calls + 1 >= end_call; end_call++) {
        joinlab_pairs got = {NULL, 0, 0, 0, end_call};
        OK(nphd_join(&side.side, NULL, 0, &options, joinlab_take, &got, &report, NULL));
        calls = got.calls;
        assert_int_equal(report.more, calls == end_call);
        assert_int_equal(report.pairs, got.count);
        joinlab_compare(&got, &expected, !report.more);
        joinlab_pairs_free(&got);
    }
    assert_true(calls > 19900 / 1024);
    joinlab_pairs_free(&expected);
    joinlab_close(&side);
}

/* A file of others may hold a vector without any bits. It is passed over on the left side, where it
 * could be no query; on the right one it is at no distance from all, as in every search. */
static void test_empty_vector(void **state)
{
    static uint8_t buffer[65536];
    const size_t rows_begin = 8; /* after the two dimensions */
    test_random random = {1};
    joinlab_plan plan = plain;
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_join_side left = {NULL, NULL};
    joinlab_pairs got = {NULL, 0, 0, 0, 0};
    joinlab_side side;
    nphd_join_report report;
    size_t bytes = 0;

    (void)state;
    plan.vectors = 3;
    plan.equal = 0;
    joinlab_make(&plan, NULL, &random, &side);
    options.max_bits = 8 * plan.max_bytes;
    OK(nphd_index_save_buffer(side.side.index, buffer, sizeof(buffer), &bytes, NULL));
    OK(nphd_index_create(&options, &left.index, NULL));
    memset(buffer + rows_begin + (1 + plan.max_bytes), 0, 1 + plan.max_bytes); /* key 1 */
    OK(nphd_index_view_buffer(left.index, buffer,
                              (size_t)nphdi_index_foreign_bytes(side.side.index), NULL, NULL));
    OK(nphd_join(&left, NULL, 0, NULL, joinlab_take, &got, &report, NULL));
    assert_int_equal(report.vectors, 2);
    assert_int_equal(got.count, 1);
    assert_int_equal(got.pairs[0].left.low, 0);
    assert_int_equal(got.pairs[0].right.low, 1);
    joinlab_pairs_free(&got);
    nphd_index_close(left.index);
    joinlab_close(&side);
}

/* ---- progress ---- */

typedef struct watch {
    uint64_t calls;
    uint64_t cancel_at; /* 0: never */
    uint64_t done;
    uint64_t total;
} watch;

static int step(void *context, uint64_t done, uint64_t total)
{
    watch *seen = context;

    assert_true(done >= seen->done && done <= total);
    seen->done = done;
    seen->total = total;
    seen->calls++;
    return seen->calls == seen->cancel_at ? 1 : 0;
}

static void test_progress(void **state)
{
    test_random random = {1};
    joinlab_plan plan = plain;
    nphd_join_options options = NPHD_JOIN_OPTIONS_INIT;
    joinlab_pairs expected = {NULL, 0, 0, 0, 0};
    joinlab_side side;
    nphd_join_report report;
    nphd_status status = NPHD_CANCELLED;

    (void)state;
    joinlab_make(&plan, NULL, &random, &side);
    joinlab_expect(&side.side, NULL, 0, &expected);
    options.batch = 7;
    options.progress = step;
    for (uint64_t cancel_at = 1; status != NPHD_OK; cancel_at++) {
        watch seen = {0, cancel_at, 0, 0};
        joinlab_pairs got = {NULL, 0, 0, 0, 0};
        options.progress_context = &seen;
        status = nphd_join(&side.side, NULL, 0, &options, joinlab_take, &got, &report, NULL);
        assert_int_equal(status, seen.calls == cancel_at ? NPHD_CANCELLED : NPHD_OK);
        assert_int_equal(seen.total, 100);
        assert_int_equal(report.vectors, status == NPHD_OK ? 100 : seen.done);
        assert_int_equal(report.pairs, got.count);
        joinlab_compare(&got, &expected, status == NPHD_OK);
        if (status == NPHD_OK) {
            assert_int_equal(seen.done, 100);
            assert_true(seen.calls >= 100 / 7);
        }
        joinlab_pairs_free(&got);
    }
    joinlab_pairs_free(&expected);
    joinlab_close(&side);
}

/* ---- the sides meanwhile ---- */

static int look_up_pairs(void *context, const nphd_pair *pairs, size_t count)
{
    const joinlab_side *side = context;
    bool there = false;

    for (size_t i = 0; i < count; i++) {
        OK(nphd_sharded_contains(side->side.sharded, pairs[i].right, &there, NULL));
        assert_true(there);
    }
    OK(nphd_sharded_remove(side->side.sharded, &pairs[count - 1].right, 1, NULL, NULL));
    return 1;
}

/* No lock is held while the sink has the pairs. */
static void test_sink_uses_the_sides(void **state)
{
    test_random random = {1};
    joinlab_plan plan = plain;
    nphd_join_report report;
    joinlab_side side;

    (void)state;
    plan.kind = JOINLAB_SHARDED;
    joinlab_make(&plan, NULL, &random, &side);
    OK(nphd_join(&side.side, NULL, 0, NULL, look_up_pairs, &side, &report, NULL));
    assert_true(report.more);
    assert_int_equal(nphd_sharded_size(side.side.sharded), 99);
    joinlab_close(&side);
}

typedef struct changer {
    joinlab_side *side;
    _Atomic bool stop;
} changer;

/* Keys of 1000 and more come and go; those below stay. */
static void *change(void *context)
{
    changer *self = context;
    const uint8_t data[4] = {1, 2, 3, 4};
    const nphd_vector vector = {data, sizeof(data)};

    for (uint64_t i = 0; !atomic_load(&self->stop); i++) {
        const nphd_key key = nphd_key_u64(1000 + i % 50);
        if (self->side->side.sharded != NULL) {
            OK(nphd_sharded_upsert(self->side->side.sharded, &key, &vector, 1, NULL, NULL, NULL));
            OK(nphd_sharded_remove(self->side->side.sharded, &key, 1, NULL, NULL));
        } else {
            OK(nphd_index_upsert(self->side->side.index, &key, &vector, 1, NULL, NULL, NULL));
            OK(nphd_index_remove(self->side->side.index, &key, 1, NULL, NULL));
        }
    }
    return NULL;
}

static int count_staying(void *context, const nphd_pair *pairs, size_t count)
{
    uint64_t *staying = context;

    for (size_t i = 0; i < count; i++) {
        assert_true(nphd_key_compare(pairs[i].left, pairs[i].right) < 0);
        *staying += pairs[i].left.low < 1000 && pairs[i].right.low < 1000 ? 1 : 0;
    }
    return 0;
}

static void test_beside_changes(void **state)
{
    static const joinlab_kind kinds[] = {JOINLAB_INDEX, JOINLAB_SHARDED};
    test_random random = {1};
    joinlab_plan plan = plain;

    (void)state;
    for (size_t kind = 0; kind < sizeof(kinds) / sizeof(kinds[0]); kind++) {
        nphd_join_options options = NPHD_JOIN_OPTIONS_INIT;
        joinlab_side side;
        pthread_t thread;

        plan.kind = kinds[kind];
        joinlab_make(&plan, NULL, &random, &side);
        changer self = {&side, false};
        assert_int_equal(pthread_create(&thread, NULL, change, &self), 0);
        options.batch = 16;
        options.threads = 2;
        for (uint32_t round = 0; round < 10; round++) {
            uint64_t staying = 0;
            OK(nphd_join(&side.side, NULL, 0, &options, count_staying, &staying, NULL, NULL));
            assert_int_equal(staying, 100 * 99 / 2);
        }
        atomic_store(&self.stop, true);
        assert_int_equal(pthread_join(thread, NULL), 0);
        joinlab_close(&side);
    }
}

/* ---- memory ---- */

/* Every request for memory fails once: the status says so, what was handed over is right, and
 * nothing is left behind. */
static void test_memory_faults(void **state)
{
    test_random random = {1};
    joinlab_plan plan = plain;
    allocator_fault fault;

    (void)state;
    allocator_fault_init(&fault);
    plan.multi = true;
    plan.only_additions = false;
    plan.keys = 12;
    plan.vectors = 30;
    for (unsigned kind = 0; kind < JOINLAB_KINDS; kind++) {
        nphd_join_options options = NPHD_JOIN_OPTIONS_INIT;
        joinlab_pairs expected = {NULL, 0, 0, 0, 0};
        joinlab_side side;

        plan.kind = (joinlab_kind)kind;
        options.batch = 40;
        options.threads = 2;
        joinlab_make(&plan, &fault.table, &random, &side);
        joinlab_expect(&side.side, NULL, 0, &expected);
        for (uint64_t n = 1; n == 1 || fault.failed > 0; n++) {
            joinlab_pairs got = {NULL, 0, 0, 0, 0};
            allocator_fault_arm(&fault, ALLOCATOR_FAULT_ALL, n, false);
            const nphd_status status =
                nphd_join(&side.side, NULL, 0, &options, joinlab_take, &got, NULL, NULL);
            /* a search may do without some memory that only makes it quicker */
            assert_true(status == NPHD_OK || (status == NPHD_OUT_OF_MEMORY && fault.failed > 0));
            joinlab_compare(&got, &expected, status == NPHD_OK);
            joinlab_pairs_free(&got);
        }
        allocator_fault_arm(&fault, 0, 0, false);
        joinlab_pairs_free(&expected);
        joinlab_close(&side);
        assert_true(allocator_fault_is_clean(&fault));
    }
    allocator_fault_destroy(&fault);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_types_of_codes),
        cmocka_unit_test(test_sides_that_do_not_fit),
        cmocka_unit_test(test_closed),
        cmocka_unit_test(test_sink_ends),
        cmocka_unit_test(test_empty_vector),
        cmocka_unit_test(test_progress),
        cmocka_unit_test(test_sink_uses_the_sides),
        cmocka_unit_test(test_beside_changes),
        cmocka_unit_test(test_memory_faults),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
