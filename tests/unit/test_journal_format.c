/* Heads, frames and records of a journal: there and back, and every changed byte is noticed. */
#include "formats/journal_format.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "support/test_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

static const nphdi_journal_head example = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
                                           0x1122334455667788,
                                           3,
                                           2,
                                           8192,
                                           0x1122334455667787,
                                           16,
                                           255};

/* ---- heads ---- */

/* The places are those of docs/format.md. */
static void test_head(void **state)
{
    uint8_t bytes[NPHDI_JOURNAL_HEAD_BYTES];
    nphdi_journal_head head;

    (void)state;
    nphdi_journal_encode_head(&example, bytes);
    assert_memory_equal(bytes, "nphdJNL\n", 8);
    assert_int_equal(nphdi_get32(bytes + 8), 1);
    assert_int_equal(nphdi_get32(bytes + 12), 16);
    assert_memory_equal(bytes + 16, example.identity, 16);
    assert_int_equal(nphdi_get64(bytes + 32), example.base);
    assert_int_equal(nphdi_get64(bytes + 40), 3);
    assert_int_equal(nphdi_get64(bytes + 48), 2);
    assert_int_equal(nphdi_get64(bytes + 56), 8192);
    assert_int_equal(nphdi_get32(bytes + 64), 255);
    assert_int_equal(nphdi_get64(bytes + 72), example.before_base);
    OK(nphdi_journal_decode_head("j", bytes, &head, NULL));
    assert_memory_equal(head.identity, example.identity, 16);
    assert_int_equal(head.base, example.base);
    assert_int_equal(head.sequence, 3);
    assert_int_equal(head.before, 2);
    assert_int_equal(head.before_bytes, 8192);
    assert_int_equal(head.before_base, example.before_base);
    assert_int_equal(head.key_bytes, 16);
    assert_int_equal(head.payload_bytes, 255);
    for (size_t at = 0; at < sizeof(bytes); at++) {
        bytes[at] ^= (uint8_t)(1U << (at % 8));
        assert_int_equal(nphdi_journal_decode_head("j", bytes, &head, NULL), NPHD_CORRUPT);
        bytes[at] ^= (uint8_t)(1U << (at % 8));
    }
}

static nphd_status decode_changed(size_t at, uint32_t value)
{
    uint8_t bytes[NPHDI_JOURNAL_HEAD_BYTES];
    nphdi_journal_head head;
    nphd_error err = NPHD_ERROR_INIT;

    nphdi_journal_encode_head(&example, bytes);
    nphdi_put32(bytes + at, value);
    nphdi_put64(bytes + sizeof(bytes) - 8, nphdi_hash_bytes(bytes, sizeof(bytes) - 8));
    const nphd_status status = nphdi_journal_decode_head("name", bytes, &head, &err);
    assert_true(status == NPHD_OK || strncmp(err.text, "name: ", 6) == 0);
    return status;
}

static void test_wrong_heads(void **state)
{
    (void)state;
    assert_int_equal(decode_changed(8, 2), NPHD_UNSUPPORTED);
    assert_int_equal(decode_changed(8, 0), NPHD_UNSUPPORTED);
    OK(decode_changed(12, 8));
    assert_int_equal(decode_changed(12, 4), NPHD_CORRUPT);
    assert_int_equal(decode_changed(12, 0), NPHD_CORRUPT);
    OK(decode_changed(64, 1));
    assert_int_equal(decode_changed(64, 0), NPHD_CORRUPT);
    assert_int_equal(decode_changed(64, 256), NPHD_CORRUPT);
    OK(decode_changed(100, 77)); /* reserved */
}

/* ---- frames ---- */

static void test_frame(void **state)
{
    const nphdi_journal_frame frame = {7, 4057, 0x8877665544332211};
    uint8_t bytes[NPHDI_JOURNAL_FRAME_BYTES];
    nphdi_journal_frame read;

    (void)state;
    nphdi_journal_encode_frame(&frame, bytes);
    assert_memory_equal(bytes, "nphdFRM\n", 8);
    assert_true(nphdi_journal_decode_frame(bytes, &read));
    assert_int_equal(read.number, 7);
    assert_int_equal(read.bytes, 4057);
    assert_int_equal(read.checksum, frame.checksum);
    for (size_t at = 0; at < sizeof(bytes); at++) {
        bytes[at] ^= (uint8_t)(1U << (at % 8));
        assert_false(nphdi_journal_decode_frame(bytes, &read));
        bytes[at] ^= (uint8_t)(1U << (at % 8));
    }
    /* a frame is whole blocks */
    assert_int_equal(nphdi_journal_padded(0), 4056);
    assert_int_equal(nphdi_journal_padded(4056), 4056);
    assert_int_equal(nphdi_journal_padded(4057), 8192 - 40);
}

/* ---- records ---- */

static void draw_record(test_random *random, const nphdi_journal_head *head,
                        uint8_t bits[NPHD_MAX_BYTES], nphdi_journal_record *out)
{
    memset(out, 0, sizeof(*out));
    out->kind = (nphdi_journal_kind)(1 + test_random_below(random, 5));
    if (out->kind != NPHDI_JOURNAL_RESET) {
        out->key.low = test_random_next(random);
        out->key.high = head->key_bytes == 16 ? test_random_next(random) : 0;
    }
    if (out->kind == NPHDI_JOURNAL_ADD || out->kind == NPHDI_JOURNAL_REPLACE) {
        out->vector.data = bits;
        out->vector.bytes = 1 + test_random_below(random, head->payload_bytes);
        test_random_fill(random, bits, NPHD_MAX_BYTES);
    }
}

static void expect_record(const nphdi_journal_record *a, const nphdi_journal_record *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(nphd_key_compare(a->key, b->key), 0);
    assert_int_equal(a->vector.bytes, b->vector.bytes);
    if (a->vector.bytes > 0) {
        assert_memory_equal(a->vector.data, b->vector.data, a->vector.bytes);
    }
}

static void test_records(void **state)
{
    enum { RECORDS = 500 };
    static uint8_t bytes[RECORDS * NPHDI_JOURNAL_RECORD_MOST];
    static uint8_t bits[RECORDS][NPHD_MAX_BYTES];
    static nphdi_journal_record records[RECORDS];
    test_random random = {test_seed()};

    (void)state;
    for (uint32_t wide = 0; wide < 2; wide++) {
        nphdi_journal_head head = example;
        nphdi_journal_record read;
        size_t all = 0;
        uint64_t offset = 0;
        head.key_bytes = wide != 0 ? 16 : 8;
        for (size_t i = 0; i < RECORDS; i++) {
            draw_record(&random, &head, bits[i], &records[i]);
            const size_t one =
                nphdi_journal_encode_record(&records[i], head.key_bytes, bytes + all);
            assert_true(one > 0 && one <= NPHDI_JOURNAL_RECORD_MOST);
            all += one;
        }
        for (size_t i = 0; i < RECORDS; i++) {
            const uint64_t begin = offset;
            OK(nphdi_journal_decode_record("j", &head, bytes, all, &offset, &read, NULL));
            expect_record(&read, &records[i]);
            /* cut at every byte, with nothing readable behind it */
            for (uint64_t end = begin + 1; end < offset; end++) {
                uint64_t at = begin;
                uint8_t *copy = malloc((size_t)end);
                assert_non_null(copy);
                memcpy(copy, bytes, (size_t)end);
                assert_int_equal(
                    nphdi_journal_decode_record("j", &head, copy, end, &at, &read, NULL),
                    NPHD_CORRUPT);
                free(copy);
            }
        }
        assert_int_equal(offset, all);
    }
}

static void test_wrong_records(void **state)
{
    nphdi_journal_head head = example;
    nphdi_journal_record read;
    uint8_t bytes[64] = {0};
    uint64_t offset = 0;

    (void)state;
    head.key_bytes = 8;
    head.payload_bytes = 4;
    assert_int_equal(nphdi_journal_decode_record("j", &head, bytes, 64, &offset, &read, NULL),
                     NPHD_CORRUPT); /* kind 0 */
    bytes[0] = 6;
    assert_int_equal(nphdi_journal_decode_record("j", &head, bytes, 64, &offset, &read, NULL),
                     NPHD_CORRUPT);
    bytes[0] = NPHDI_JOURNAL_ADD; /* a vector of no bytes */
    assert_int_equal(nphdi_journal_decode_record("j", &head, bytes, 64, &offset, &read, NULL),
                     NPHD_CORRUPT);
    bytes[9] = 5; /* wider than the index */
    assert_int_equal(nphdi_journal_decode_record("j", &head, bytes, 64, &offset, &read, NULL),
                     NPHD_CORRUPT);
    assert_int_equal(offset, 0);
    bytes[9] = 4;
    OK(nphdi_journal_decode_record("j", &head, bytes, 64, &offset, &read, NULL));
    assert_int_equal(offset, 14);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head),          cmocka_unit_test(test_wrong_heads),
        cmocka_unit_test(test_frame),         cmocka_unit_test(test_records),
        cmocka_unit_test(test_wrong_records),
    };

    return cmocka_run_group_tests_name("format of the journal", tests, NULL, NULL);
}
