/* The growing bloom filter against the plainest form of it: a remainder for each position, and a
 * byte array for each filter. */
#include "base/bytes.h"
#include "base/hash.h"
#include "filters/bloom_chain.h"
#include "support/allocator_fault.h"
#include "support/bloom_bytes.h"
#include "support/test_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static nphd_key random_key(test_random *random, uint32_t key_bytes)
{
    nphd_key key = nphd_key_u64(test_random_next(random));

    key.high = key_bytes == 16 ? test_random_next(random) : 0;
    return key;
}

static void add(nphdi_bloom *bloom, nphd_key key)
{
    assert_int_equal(nphdi_bloom_reserve(bloom, 1, NULL), NPHD_OK);
    nphdi_bloom_add(bloom, key);
}

/* ---- positions ---- */

static void test_remainder(void **state)
{
    test_random random = {*(uint64_t *)*state};
    bloom_filter filter;

    for (int round = 0; round < 200000; round++) {
        const uint64_t limit = (uint64_t)1 << test_random_below(&random, 30);
        filter.bits =
            64 * (1 + (round < 100 ? (uint64_t)round : test_random_below(&random, limit)));
        filter.bits = round % 1000 == 0 ? ((uint64_t)1 << 35) - 64 : filter.bits;
        filter.reciprocal = UINT64_MAX / filter.bits;
        const uint64_t multiple = test_random_next(&random) / filter.bits * filter.bits;
        const uint64_t numbers[] = {test_random_next(&random),
                                    multiple,
                                    multiple - 1,
                                    multiple + 1,
                                    0,
                                    filter.bits,
                                    filter.bits - 1,
                                    UINT64_MAX,
                                    UINT64_MAX / filter.bits * filter.bits,
                                    UINT64_MAX / filter.bits * filter.bits - 1};
        for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
            assert_int_equal(nphdi_bloom_filter_remainder(&filter, numbers[i]),
                             numbers[i] % filter.bits);
        }
    }
}

/* The worked examples of the format. */
static void test_positions(void **state)
{
    static const struct {
        uint32_t key_bytes;
        nphd_key key;
        uint32_t positions[7];
    } cases[] = {
        {8, {0, 0}, {4697, 3369, 2041, 713, 8985, 7657, 6329}},
        {8, {0, 1}, {5678, 5098, 4518, 3938, 3358, 2778, 2198}},
        {8, {0, 42}, {5320, 3765, 2210, 655, 8700, 7145, 5590}},
        {8, {0, INT64_MAX}, {6342, 1429, 6116, 1203, 5890, 977, 5664}},
        {16, {0x0001020304050607, 0x08090a0b0c0d0e0f}, {219, 9248, 8677, 8106, 7535, 6964, 6393}},
        {16, {0, 0}, {6248, 7601, 8954, 707, 2060, 3413, 4766}},
    };
    allocator_fault allocator;

    (void)state;
    allocator_fault_init(&allocator);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        nphdi_bloom *bloom =
            bloom_bytes_create(&allocator.table, cases[i].key_bytes, 1000, 0.01, 2.0);
        bloom_bytes file = {0};
        uint8_t wanted[1200] = {0};
        assert_non_null(bloom);
        add(bloom, cases[i].key);
        assert_int_equal(bloom_bytes_write(bloom, &file, NULL), NPHD_OK);
        for (size_t k = 0; k < 7; k++) {
            wanted[cases[i].positions[k] >> 3] |= (uint8_t)(1U << (cases[i].positions[k] & 7));
        }
        assert_int_equal(file.bytes, 37 + 12 + 1200);
        assert_memory_equal(file.data + 49, wanted, sizeof(wanted));
        bloom_bytes_free(&file);
        nphdi_bloom_close(bloom);
    }
    assert_true(allocator_fault_is_clean(&allocator));
    allocator_fault_destroy(&allocator);
}

/* ---- the chain ---- */

enum { NAIVE_FILTERS = 24 };

typedef struct naive {
    nphdi_isbf_head head;
    uint32_t key_bytes;
    nphdi_isbf_filter filters[NAIVE_FILTERS];
    uint8_t *bits[NAIVE_FILTERS];
} naive;

static void naive_append(naive *here)
{
    const uint32_t number = here->head.filter_count++;
    uint32_t capacity = here->head.initial_capacity;
    double rate = here->head.rate;

    assert_in_range(number, 0, NAIVE_FILTERS - 1);
    for (uint32_t i = 0; i < number; i++) {
        capacity = (uint32_t)((double)capacity * here->head.growth);
        rate *= 0.5;
    }
    assert_true(nphdi_isbf_plan(capacity, rate, &here->filters[number]));
    here->bits[number] = calloc(1, here->filters[number].bit_bytes);
    assert_non_null(here->bits[number]);
}

static bool naive_positions(const naive *here, uint32_t number, nphd_key key, bool set)
{
    const uint64_t bits = (uint64_t)here->filters[number].bit_bytes * 8;
    const uint64_t first = nphdi_hash_key_seeded(key, here->key_bytes, 0) % bits;
    const uint64_t second = nphdi_hash_key_seeded(key, here->key_bytes, 32) % bits;
    bool all = true;

    for (uint64_t i = 0; i < here->filters[number].hash_count; i++) {
        const uint64_t bit = (first + i * second) % bits;
        uint8_t *byte = &here->bits[number][bit >> 3];
        all = all && (*byte >> (bit & 7) & 1) != 0;
        *byte |= (uint8_t)((set ? 1U : 0U) << (bit & 7));
    }
    return all;
}

static void naive_add(naive *here, nphd_key key)
{
    uint64_t before = 0;

    for (uint32_t i = 0; i + 1 < here->head.filter_count; i++) {
        before += here->filters[i].capacity;
    }
    if (here->head.count - before >= here->filters[here->head.filter_count - 1].capacity) {
        naive_append(here);
    }
    (void)naive_positions(here, here->head.filter_count - 1, key, true);
    here->head.count++;
}

static bool naive_maybe(const naive *here, nphd_key key)
{
    bool maybe = false;

    for (uint32_t i = 0; i < here->head.filter_count; i++) {
        maybe = maybe || naive_positions(here, i, key, false);
    }
    return maybe;
}

static void naive_check_file(const naive *here, const bloom_bytes *file)
{
    uint8_t head[NPHDI_ISBF_HEAD_BYTES];
    size_t at = sizeof(head);

    nphdi_isbf_encode_head(&here->head, head);
    assert_true(file->bytes >= sizeof(head));
    assert_memory_equal(file->data, head, sizeof(head));
    for (uint32_t i = 0; i < here->head.filter_count; i++) {
        uint8_t bytes[NPHDI_ISBF_FILTER_BYTES];
        nphdi_isbf_encode_filter(&here->filters[i], bytes);
        assert_true(file->bytes >= at + sizeof(bytes) + here->filters[i].bit_bytes);
        assert_memory_equal(file->data + at, bytes, sizeof(bytes));
        at += sizeof(bytes);
        assert_memory_equal(file->data + at, here->bits[i], here->filters[i].bit_bytes);
        at += here->filters[i].bit_bytes;
    }
    assert_int_equal(file->bytes, at);
}

/* Chains of any parameters: same answers, same files, also when they go on after a file. */
static void test_like_naive(void **state)
{
    test_random random = {*(uint64_t *)*state};
    allocator_fault allocator;

    allocator_fault_init(&allocator);
    for (int round = 0; round < 60; round++) {
        naive model = {.key_bytes = round % 2 == 0 ? 8 : 16};
        test_random asked;
        model.head.initial_capacity = (uint32_t)(50 + test_random_below(&random, 100));
        model.head.rate = 0.001 + 0.0001 * (double)test_random_below(&random, 3000);
        model.head.growth = 1.0 + (double)test_random_below(&random, 300) / 100.0;
        naive_append(&model);
        nphdi_bloom *bloom =
            bloom_bytes_create(&allocator.table, model.key_bytes, model.head.initial_capacity,
                               model.head.rate, model.head.growth);
        assert_non_null(bloom);
        for (uint64_t left = test_random_below(&random, 1000); left > 0; left--) {
            bloom_bytes file = {0};
            const nphd_key key = random_key(&random, model.key_bytes);
            add(bloom, key);
            naive_add(&model, key);
            assert_true(nphdi_bloom_maybe(bloom, key));
            assert_int_equal(nphdi_bloom_filters(bloom), model.head.filter_count);
            if (left % 101 == 1) {
                assert_int_equal(bloom_bytes_write(bloom, &file, NULL), NPHD_OK);
                naive_check_file(&model, &file);
                nphdi_bloom_close(bloom);
                assert_int_equal(
                    bloom_bytes_read(&file, &allocator.table, model.key_bytes, &bloom, NULL),
                    NPHD_OK);
                bloom_bytes_free(&file);
            }
        }
        assert_int_equal(nphdi_bloom_count(bloom), model.head.count);
        asked.state = random.state;
        for (size_t i = 0; i < 500;) {
            nphd_key keys[NPHDI_BLOOM_MANY];
            bool many[NPHDI_BLOOM_MANY];
            const size_t count = i % (NPHDI_BLOOM_MANY + 1);
            for (size_t k = 0; k < count; k++) {
                keys[k] = random_key(&asked, model.key_bytes);
            }
            nphdi_bloom_maybe_many(bloom, keys, count, many);
            for (size_t k = 0; k < count; k++) {
                assert_true(nphdi_bloom_maybe(bloom, keys[k]) == naive_maybe(&model, keys[k]));
                assert_true(many[k] == naive_maybe(&model, keys[k]));
            }
            i += count + 1;
        }
        for (uint32_t i = 0; i < model.head.filter_count; i++) {
            free(model.bits[i]);
        }
        nphdi_bloom_close(bloom);
    }
    assert_true(allocator_fault_is_clean(&allocator));
    allocator_fault_destroy(&allocator);
}

/* All keys are found, and few others: the rates of the chain add up to less than 2 %. */
static void test_rate(void **state)
{
    test_random random = {*(uint64_t *)*state};
    allocator_fault allocator;
    uint64_t wrong = 0;

    allocator_fault_init(&allocator);
    nphdi_bloom *bloom = bloom_bytes_create(&allocator.table, 8, 1000, 0.01, 2.0);
    assert_non_null(bloom);
    for (int i = 0; i < 15000; i++) {
        add(bloom, random_key(&random, 8));
    }
    assert_int_equal(nphdi_bloom_filters(bloom), 4);
    random.state = *(uint64_t *)*state;
    for (int i = 0; i < 15000; i++) {
        assert_true(nphdi_bloom_maybe(bloom, random_key(&random, 8)));
    }
    for (int i = 0; i < 100000; i++) {
        wrong += nphdi_bloom_maybe(bloom, random_key(&random, 8)) ? 1 : 0;
    }
    assert_in_range(wrong, 1000, 2500);
    nphdi_bloom_close(bloom);
    allocator_fault_destroy(&allocator);
}

/* ---- room ---- */

static nphdi_isbf_head head_of(const nphdi_bloom *bloom)
{
    bloom_bytes file = {0};
    nphdi_isbf_head head;

    assert_int_equal(bloom_bytes_write(bloom, &file, NULL), NPHD_OK);
    assert_int_equal(nphdi_isbf_decode_head("t", file.data, &head, NULL), NPHD_OK);
    bloom_bytes_free(&file);
    return head;
}

static void test_create(void **state)
{
    static const uint64_t capacities[][2] = {
        {0, 65536}, {1, 65536}, {65536, 65536}, {65537, 131072}, {1000000, 1048576}};
    allocator_fault allocator;
    nphdi_bloom *bloom;

    (void)state;
    allocator_fault_init(&allocator);
    for (size_t i = 0; i < sizeof(capacities) / sizeof(capacities[0]); i++) {
        assert_int_equal(nphdi_bloom_create(&allocator.table, 8, capacities[i][0], &bloom, NULL),
                         NPHD_OK);
        const nphdi_isbf_head head = head_of(bloom);
        assert_int_equal(head.initial_capacity, capacities[i][1]);
        assert_true(head.rate == 0.01 && head.growth == 2.0);
        assert_int_equal(head.count, 0);
        assert_int_equal(head.filter_count, 1);
        assert_false(nphdi_bloom_maybe(bloom, nphd_key_u64(i)));
        assert_int_equal(nphdi_bloom_memory(bloom), allocator.allocated_bytes);
        nphdi_bloom_close(bloom);
    }
    /* the greatest filter of the format is asked for, and is not there to be had */
    allocator_fault_arm(&allocator, ALLOCATOR_FAULT_RESERVE, 1, true);
    assert_int_equal(nphdi_bloom_create(&allocator.table, 8, UINT64_MAX, &bloom, NULL),
                     NPHD_OUT_OF_MEMORY);
    assert_int_equal(allocator.failed, 1);
    assert_null(bloom);
    nphdi_bloom_close(NULL);
    assert_true(allocator_fault_is_clean(&allocator));
    allocator_fault_destroy(&allocator);
}

/* What is reserved joins the chain with the first key that needs it. */
static void test_reserve(void **state)
{
    test_random random = {*(uint64_t *)*state};
    allocator_fault allocator;
    nphdi_bloom *bloom;

    allocator_fault_init(&allocator);
    assert_int_equal(nphdi_bloom_create(&allocator.table, 8, 0, &bloom, NULL), NPHD_OK);
    const uint64_t file_bytes = nphdi_bloom_file_bytes(bloom);
    assert_int_equal(nphdi_bloom_reserve(bloom, 65536, NULL), NPHD_OK);
    assert_int_equal(nphdi_bloom_memory(bloom), allocator.allocated_bytes);
    const uint64_t memory = nphdi_bloom_memory(bloom);
    assert_int_equal(nphdi_bloom_reserve(bloom, 65537, NULL), NPHD_OK);
    assert_true(nphdi_bloom_memory(bloom) > memory);
    assert_int_equal(nphdi_bloom_memory(bloom), allocator.allocated_bytes);
    allocator_fault_arm(&allocator, ALLOCATOR_FAULT_ALL, 1, true);
    for (int i = 0; i < 65536; i++) {
        nphdi_bloom_add(bloom, random_key(&random, 8));
    }
    assert_int_equal(nphdi_bloom_filters(bloom), 1);
    assert_int_equal(nphdi_bloom_file_bytes(bloom), file_bytes);
    nphdi_bloom_add(bloom, random_key(&random, 8));
    assert_int_equal(nphdi_bloom_filters(bloom), 2);
    assert_int_equal(allocator.failed, 0);
    assert_true(nphdi_bloom_file_bytes(bloom) > file_bytes);
    assert_int_equal(nphdi_bloom_reserve(bloom, UINT64_MAX, NULL), NPHD_FULL);
    nphdi_bloom_close(bloom);
    assert_true(allocator_fault_is_clean(&allocator));
    allocator_fault_destroy(&allocator);
}

/* Keys without room are found nevertheless, also in a file, whose count then says "full". */
static void test_without_room(void **state)
{
    test_random random = {*(uint64_t *)*state};
    allocator_fault allocator;
    bloom_bytes file = {0};
    nphdi_bloom *bloom;

    allocator_fault_init(&allocator);
    bloom = bloom_bytes_create(&allocator.table, 8, 100, 0.01, 2.0);
    for (int i = 0; i < 150; i++) {
        nphdi_bloom_add(bloom, random_key(&random, 8));
    }
    assert_int_equal(nphdi_bloom_count(bloom), 150);
    assert_int_equal(head_of(bloom).count, 100);
    add(bloom, random_key(&random, 8));
    assert_int_equal(nphdi_bloom_filters(bloom), 2);
    assert_int_equal(head_of(bloom).count, 151);
    assert_int_equal(bloom_bytes_write(bloom, &file, NULL), NPHD_OK);
    nphdi_bloom_close(bloom);
    assert_int_equal(bloom_bytes_read(&file, &allocator.table, 8, &bloom, NULL), NPHD_OK);
    random.state = *(uint64_t *)*state;
    for (int i = 0; i < 151; i++) {
        assert_true(nphdi_bloom_maybe(bloom, random_key(&random, 8)));
    }
    nphdi_bloom_close(bloom);
    bloom_bytes_free(&file);
    allocator_fault_destroy(&allocator);
}

int main(void)
{
    uint64_t seed = test_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_remainder, &seed),
        cmocka_unit_test(test_positions),
        cmocka_unit_test_prestate(test_like_naive, &seed),
        cmocka_unit_test_prestate(test_rate, &seed),
        cmocka_unit_test(test_create),
        cmocka_unit_test_prestate(test_reserve, &seed),
        cmocka_unit_test_prestate(test_without_room, &seed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
