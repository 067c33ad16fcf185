/* The filter of a group of shards, and the head of its section in a file. */
#include "filters/group_filter.h"
#include "formats/shard_record.h"
#include "support/test_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SHARDS NPHDI_GROUP_FILTER_SHARDS

static uint64_t hash_of(uint64_t seed, uint32_t shard, uint64_t number)
{
    const nphd_key key = {seed + shard, number};

    return nphdi_hash_key(key, 16);
}

/* Shard j gets counts[j] keys. */
static uint8_t *make(uint64_t seed, const uint64_t counts[SHARDS], uint64_t lines)
{
    uint8_t *filter = calloc(lines, NPHDI_GROUP_FILTER_LINE_BYTES);

    assert_non_null(filter);
    for (uint32_t shard = 0; shard < SHARDS; shard++) {
        for (uint64_t i = 0; i < counts[shard]; i++) {
            nphdi_group_filter_add(filter, lines, shard, hash_of(seed, shard, i));
        }
    }
    return filter;
}

static void test_names_every_key_of_every_shard(void **state)
{
    test_random random = {test_seed()};
    const uint64_t counts[SHARDS] = {0, 1, 2, 31, 32, 33, 500, 1000, 3, 0, 7, 999, 64, 65, 1, 1000};
    const uint64_t sizes[] = {1, 2, 3, nphdi_group_filter_lines(1000)};
    const uint64_t seed = test_random_next(&random);

    (void)state;
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        uint8_t *filter = make(seed, counts, sizes[s]);
        for (uint32_t shard = 0; shard < SHARDS; shard++) {
            for (uint64_t i = 0; i < counts[shard]; i++) {
                const uint32_t mask =
                    nphdi_group_filter_ask(filter, sizes[s], hash_of(seed, shard, i));
                assert_true((mask >> shard & 1) != 0);
                assert_true(mask >> SHARDS == 0);
            }
        }
        free(filter);
    }
}

/* In four rows of one line, one bit each, and nowhere else. */
static void test_sets_the_bits_of_one_line(void **state)
{
    test_random random = {test_seed()};
    uint8_t filter[8 * NPHDI_GROUP_FILTER_LINE_BYTES];

    (void)state;
    for (int run = 0; run < 2000; run++) {
        const uint64_t hash = test_random_next(&random);
        const uint32_t shard = (uint32_t)(test_random_next(&random) % SHARDS);
        const uint64_t line = nphdi_hash_to_range(hash, 8);
        uint32_t wanted = 0;
        memset(filter, 0, sizeof(filter));
        nphdi_group_filter_add(filter, 8, shard, hash);
        for (uint32_t i = 0; i < NPHDI_GROUP_FILTER_ROWS; i++) {
            wanted |= 1U << (hash >> (16 + 5 * i) & 31);
        }
        for (uint32_t row = 0; row < sizeof(filter) / 2; row++) {
            const bool set = row / 32 == line && (wanted >> (row % 32) & 1) != 0;
            assert_int_equal(nphdi_get16(filter + 2 * (size_t)row), set ? 1U << shard : 0);
        }
    }
}

/* A shard with the most keys is named in vain once in 70 times, an empty one never. */
static void test_seldom_names_others(void **state)
{
    test_random random = {test_seed()};
    const uint64_t most = 20000;
    const uint64_t counts[SHARDS] = {most, most, most, most, most, most, most, most,
                                     0,    most, most, most, most, most, most, most};
    const uint64_t lines = nphdi_group_filter_lines(most);
    const uint64_t seed = test_random_next(&random);
    const uint64_t asked = 20000;
    uint8_t *filter = make(seed, counts, lines);
    uint64_t named = 0;

    (void)state;
    for (uint64_t i = 0; i < asked; i++) {
        uint32_t mask = nphdi_group_filter_ask(filter, lines, hash_of(seed, SHARDS, i));
        assert_true((mask >> 8 & 1) == 0);
        for (; mask != 0; mask &= mask - 1) {
            named++;
        }
    }
    assert_in_range(named, 15 * asked / 200, 15 * asked / 50);
    free(filter);
}

static void test_lines(void **state)
{
    (void)state;
    assert_int_equal(nphdi_group_filter_lines(0), 1);
    assert_int_equal(nphdi_group_filter_lines(32), 13);
    assert_int_equal(nphdi_group_filter_lines(100000), 37501);
    assert_int_equal(nphdi_group_filter_lines(UINT32_MAX), (uint64_t)UINT32_MAX * 12 / 32 + 1);
}

/* ---- the head of the section ---- */

static nphdi_group_head head_of(uint32_t padding, uint64_t lines)
{
    nphdi_group_head head;

    memset(&head, 0, sizeof(head));
    head.rows = NPHDI_GROUP_FILTER_ROWS;
    head.padding = padding;
    head.lines = lines;
    for (uint32_t i = 0; i < NPHDI_GROUP_SHARDS; i++) {
        head.shards[i].number = 3 * i;
        head.shards[i].generation = 1ULL << (i + 40);
    }
    return head;
}

static void test_head_round_trip(void **state)
{
    static const uint32_t paddings[] = {0, 1, 63};
    static const uint64_t lines[] = {1, 2, 37501, 1ULL << 40};
    uint8_t data[NPHDI_GROUP_HEAD_BYTES];

    (void)state;
    for (size_t p = 0; p < 3; p++) {
        for (size_t l = 0; l < 4; l++) {
            const nphdi_group_head head = head_of(paddings[p], lines[l]);
            const uint64_t bytes = nphdi_group_bytes(&head);
            nphdi_group_head read;
            nphdi_group_encode_head(&head, data);
            assert_true(nphdi_group_decode_head(data, bytes, &read));
            assert_int_equal(read.rows, head.rows);
            assert_int_equal(read.padding, head.padding);
            assert_true(read.lines == head.lines);
            for (uint32_t i = 0; i < NPHDI_GROUP_SHARDS; i++) {
                assert_int_equal(read.shards[i].number, head.shards[i].number);
                assert_true(read.shards[i].generation == head.shards[i].generation);
            }
            assert_false(nphdi_group_decode_head(data, bytes - 1, &read));
            assert_false(nphdi_group_decode_head(data, bytes + 1, &read));
            assert_false(nphdi_group_decode_head(data, bytes + 64, &read));
        }
    }
}

/* The bytes as docs/format.md has them. */
static void test_head_bytes(void **state)
{
    const nphdi_group_head head = head_of(5, 0x0102030405ULL);
    static const uint8_t begin[32] = {16, 0, 0, 0, 4, 0, 0, 0, 5, 4, 3, 2, 1, 0, 0, 0, 5};
    static const uint8_t last[16] = {45, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0};
    uint8_t data[NPHDI_GROUP_HEAD_BYTES];

    (void)state;
    nphdi_group_encode_head(&head, data);
    assert_memory_equal(data, begin, sizeof(begin));
    assert_memory_equal(data + 272, last, sizeof(last));
}

static void test_head_that_cannot_be_used(void **state)
{
    const nphdi_group_head head = head_of(7, 9);
    const uint64_t bytes = nphdi_group_bytes(&head);
    static const struct {
        size_t at;
        uint64_t value;
    } changes[] = {{0, 15},         {0, 0},          {0, 17},   {8, 0},          {8, 8},
                   {8, UINT64_MAX}, {8, 1ULL << 58}, {16, 64},  {16, 71},        {16, 6},
                   {16, 8},         {16, 1U << 31},  {16, 583}, {16, 0xFFFFFFF0}};
    uint8_t data[NPHDI_GROUP_HEAD_BYTES];
    nphdi_group_head read;

    (void)state;
    nphdi_group_encode_head(&head, data);
    assert_true(nphdi_group_decode_head(data, bytes, &read));
    for (uint64_t cut = 0; cut < NPHDI_GROUP_HEAD_BYTES; cut++) {
        assert_false(nphdi_group_decode_head(data, cut, &read));
    }
    assert_false(nphdi_group_decode_head(data, NPHDI_GROUP_HEAD_BYTES + 6, &read));
    nphdi_put64(data + 8, 0);
    assert_false(nphdi_group_decode_head(data, NPHDI_GROUP_HEAD_BYTES + 7, &read));
    nphdi_put64(data + 8, 8);
    nphdi_put32(data + 16, 64 + 7);
    assert_false(nphdi_group_decode_head(data, bytes, &read));
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        nphdi_group_encode_head(&head, data);
        if (changes[i].at == 8) {
            nphdi_put64(data + 8, changes[i].value);
        } else {
            nphdi_put32(data + changes[i].at, (uint32_t)changes[i].value);
        }
        assert_false(nphdi_group_decode_head(data, bytes, &read));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_every_key_of_every_shard),
        cmocka_unit_test(test_sets_the_bits_of_one_line),
        cmocka_unit_test(test_seldom_names_others),
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_head_round_trip),
        cmocka_unit_test(test_head_bytes),
        cmocka_unit_test(test_head_that_cannot_be_used),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
