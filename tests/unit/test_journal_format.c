/* Heads, frames and records of a journal: there and back, and every changed byte is noticed. */
#include "support/journal_bytes.h"
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
                                           255,
                                           2,
                                           'n',
                                           1,
                                           0x0102030405060708,
                                           0};

/* ---- heads ---- */

/* The places are those of docs/format.md. */
static void test_head(void **state)
{
    uint8_t bytes[NPHDI_JOURNAL_HEAD_BYTES];
    nphdi_journal_head head;
    nphdi_journal_head written = example;

    (void)state;
    nphdi_journal_encode_head(&written, bytes);
    /* where version 1 has mark, version and checksum: who knows only that one refuses this */
    assert_memory_equal(bytes, "nphdJNL\n", 8);
    assert_int_equal(nphdi_get32(bytes + 8), 2);
    assert_int_equal(nphdi_get64(bytes + 4088), nphdi_hash_bytes(bytes, 4088));
    assert_int_equal(written.checksum, nphdi_get64(bytes + 4088));
    assert_int_equal(nphdi_get32(bytes + 12), 16);
    assert_memory_equal(bytes + 16, example.identity, 16);
    assert_int_equal(nphdi_get64(bytes + 32), example.base);
    assert_int_equal(nphdi_get64(bytes + 40), 3);
    assert_int_equal(nphdi_get64(bytes + 48), 2);
    assert_int_equal(nphdi_get64(bytes + 56), 8192);
    assert_int_equal(nphdi_get32(bytes + 64), 255);
    assert_int_equal(nphdi_get64(bytes + 72), example.before_base);
    assert_int_equal(nphdi_get32(bytes + 80), 'n');
    assert_int_equal(nphdi_get32(bytes + 84), 1);
    assert_int_equal(nphdi_get64(bytes + 88), example.salt);
    OK(nphdi_journal_decode_head("j", bytes, &head, NULL));
    assert_memory_equal(head.identity, example.identity, 16);
    assert_int_equal(head.base, example.base);
    assert_int_equal(head.sequence, 3);
    assert_int_equal(head.before, 2);
    assert_int_equal(head.before_bytes, 8192);
    assert_int_equal(head.before_base, example.before_base);
    assert_int_equal(head.key_bytes, 16);
    assert_int_equal(head.payload_bytes, 255);
    assert_memory_equal(&head, &written, sizeof(head));
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

    head = example;
    nphdi_journal_encode_head(&head, bytes);
    nphdi_put32(bytes + at, value);
    journal_repair_head(bytes);
    const nphd_status status = nphdi_journal_decode_head("name", bytes, &head, &err);
    assert_true(status == NPHD_OK || strncmp(err.text, "name: ", 6) == 0);
    return status;
}

static void test_wrong_heads(void **state)
{
    (void)state;
    OK(decode_changed(8, 1));
    OK(decode_changed(8, 2));
    assert_int_equal(decode_changed(8, 3), NPHD_UNSUPPORTED);
    assert_int_equal(decode_changed(68, 1), NPHD_UNSUPPORTED);
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

static void test_v1_frame(void **state)
{
    static uint8_t bytes[2 * NPHDI_JOURNAL_BLOCK_BYTES];
    nphdi_journal_v1_frame read;

    (void)state;
    assert_int_equal(journal_v1_seal_frame(7, 4057, bytes), sizeof(bytes));
    assert_memory_equal(bytes, "nphdFRM\n", 8);
    assert_true(nphdi_journal_v1_decode_frame(bytes, &read));
    assert_int_equal(read.number, 7);
    assert_int_equal(read.bytes, 4057);
    for (size_t at = 0; at < NPHDI_JOURNAL_V1_FRAME_BYTES; at++) {
        bytes[at] ^= (uint8_t)(1U << (at % 8));
        assert_false(nphdi_journal_v1_decode_frame(bytes, &read));
        bytes[at] ^= (uint8_t)(1U << (at % 8));
    }
    /* a frame is whole blocks */
    assert_int_equal(nphdi_journal_v1_padded(0), 4056);
    assert_int_equal(nphdi_journal_v1_padded(4056), 4056);
    assert_int_equal(nphdi_journal_v1_padded(4057), 8192 - 40);
}

/* Two blocks with records that fill them, or lack a byte of it: there and back. */
static void test_frame(void **state)
{
    enum { BYTES = 2 * NPHDI_JOURNAL_BLOCK_BYTES, SECTORS = BYTES / NPHDI_JOURNAL_SECTOR_BYTES };
    static uint8_t frame[BYTES];
    static uint8_t records[BYTES];
    nphdi_journal_head head = example;
    uint8_t block[NPHDI_JOURNAL_HEAD_BYTES];
    test_random random = {test_seed()};
    uint64_t bytes = 0;
    uint32_t number;
    uint32_t place;

    (void)state;
    nphdi_journal_encode_head(&head, block);
    test_random_fill(&random, records, sizeof(records));
    for (size_t less = 0; less < 3; less++) {
        const size_t count = SECTORS * NPHDI_JOURNAL_SECTOR_DATA - 16 - less;
        assert_int_equal(nphdi_journal_frame_bytes(count), BYTES);
        memset(frame, 0xff, sizeof(frame));
        memcpy(frame + NPHDI_JOURNAL_START_BYTES, records, count);
        nphdi_journal_seal_frame(&head, 12288, 3, count, frame);
        for (size_t i = 0; i < SECTORS; i++) {
            uint8_t *sector = frame + i * NPHDI_JOURNAL_SECTOR_BYTES;
            const uint64_t at = 12288 + i * NPHDI_JOURNAL_SECTOR_BYTES;
            uint8_t same[NPHDI_JOURNAL_SECTOR_BYTES];
            assert_int_equal(nphdi_journal_look_at_sector(&head, at, sector, &number, &place),
                             NPHDI_JOURNAL_RIGHT);
            assert_int_equal(number, 3);
            assert_int_equal(place, i);
            assert_int_equal(nphdi_get32(sector + 496), 3);
            assert_int_equal(nphdi_get32(sector + 500), i);
            memcpy(same, sector, sizeof(same));
            journal_repair_sector(block, at, same);
            assert_memory_equal(same, sector, sizeof(same));
        }
        OK(nphdi_journal_decode_start("j", frame, &bytes, NULL));
        assert_int_equal(bytes, count);
        nphdi_journal_join_sectors(frame, SECTORS);
        assert_memory_equal(frame + NPHDI_JOURNAL_START_BYTES, records, count);
    }
    assert_int_equal(nphdi_journal_frame_bytes(0), NPHDI_JOURNAL_BLOCK_BYTES);
    assert_int_equal(nphdi_journal_frame_bytes(8 * 496 - 16), NPHDI_JOURNAL_BLOCK_BYTES);
    assert_int_equal(nphdi_journal_frame_bytes(8 * 496 - 15), BYTES);
}

/* A sector is right only as it was written, where it was written. */
static void test_sectors(void **state)
{
    uint8_t frame[NPHDI_JOURNAL_BLOCK_BYTES] = {0};
    uint8_t block[NPHDI_JOURNAL_HEAD_BYTES];
    nphdi_journal_head head = example;
    nphdi_journal_head other = example;
    uint64_t bytes;
    uint32_t number;
    uint32_t place;

    (void)state;
    nphdi_journal_encode_head(&head, block);
    other.salt++;
    nphdi_journal_encode_head(&other, block);
    assert_int_equal(nphdi_journal_look_at_sector(&head, 4096, frame, &number, &place),
                     NPHDI_JOURNAL_ZEROS);
    nphdi_journal_seal_frame(&head, 4096, 0, 100, frame);
    for (size_t at = 0; at < NPHDI_JOURNAL_SECTOR_BYTES; at++) {
        frame[at] ^= (uint8_t)(1U << (at % 8));
        assert_int_equal(nphdi_journal_look_at_sector(&head, 4096, frame, &number, &place),
                         NPHDI_JOURNAL_DAMAGED);
        frame[at] ^= (uint8_t)(1U << (at % 8));
    }
    assert_int_equal(nphdi_journal_look_at_sector(&head, 8192, frame, &number, &place),
                     NPHDI_JOURNAL_DAMAGED);
    assert_int_equal(nphdi_journal_look_at_sector(&other, 4096, frame, &number, &place),
                     NPHDI_JOURNAL_DAMAGED);
    assert_int_equal(nphdi_journal_look_at_sector(&head, 4096, frame, &number, &place),
                     NPHDI_JOURNAL_RIGHT);
    nphdi_put64(frame, NPHDI_JOURNAL_FRAME_MOST + 1);
    assert_int_equal(nphdi_journal_decode_start("j", frame, &bytes, NULL), NPHD_CORRUPT);
    nphdi_put64(frame + 8, 1); /* of a later version */
    assert_int_equal(nphdi_journal_decode_start("j", frame, &bytes, NULL), NPHD_UNSUPPORTED);
}

/* ---- records ---- */

static void draw_record(test_random *random, const nphdi_journal_head *head,
                        uint8_t bits[NPHD_MAX_BYTES], nphdi_journal_record *out)
{
    memset(out, 0, sizeof(*out));
    out->kind = (nphdi_journal_kind)(1 + test_random_below(random, head->version == 1 ? 5 : 6));
    if (out->kind == NPHDI_JOURNAL_FACT) {
        out->fact = (uint32_t)test_random_next(random);
        out->data = bits;
        out->data_bytes = (uint32_t)test_random_below(random, NPHD_MAX_BYTES);
        out->must = test_random_below(random, 2) != 0;
    } else if (out->kind != NPHDI_JOURNAL_RESET) {
        out->key.low = test_random_next(random);
        out->key.high = head->key_bytes == 16 ? test_random_next(random) : 0;
    }
    if (out->kind == NPHDI_JOURNAL_ADD || out->kind == NPHDI_JOURNAL_REPLACE) {
        out->vector.data = bits;
        out->vector.bytes = 1 + test_random_below(random, head->payload_bytes);
    }
    test_random_fill(random, bits, NPHD_MAX_BYTES);
}

static void expect_record(const nphdi_journal_record *a, const nphdi_journal_record *b)
{
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(nphd_key_compare(a->key, b->key), 0);
    assert_int_equal(a->vector.bytes, b->vector.bytes);
    if (a->vector.bytes > 0) {
        assert_memory_equal(a->vector.data, b->vector.data, a->vector.bytes);
    }
    assert_int_equal(a->fact, b->fact);
    assert_int_equal(a->data_bytes, b->data_bytes);
    if (a->data_bytes > 0) {
        assert_memory_equal(a->data, b->data, a->data_bytes);
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
    for (uint32_t turn = 0; turn < 4; turn++) {
        nphdi_journal_head head = example;
        nphdi_journal_record read;
        size_t all = 0;
        uint64_t offset = 0;
        head.key_bytes = turn % 2 != 0 ? 16 : 8;
        head.version = 1 + turn / 2;
        for (size_t i = 0; i < RECORDS; i++) {
            draw_record(&random, &head, bits[i], &records[i]);
            const size_t one =
                head.version == 1
                    ? journal_v1_put_record(&records[i], head.key_bytes, bytes + all)
                    : nphdi_journal_encode_record(&records[i], head.key_bytes, bytes + all);
            assert_true(one > 0 && one <= NPHDI_JOURNAL_RECORD_MOST);
            assert_true(head.version == 1 ||
                        one == nphdi_journal_record_bytes(&records[i], head.key_bytes));
            all += one;
        }
        for (size_t i = 0; i < RECORDS; i++) {
            const uint64_t begin = offset;
            OK(nphdi_journal_decode_record("j", &head, bytes, all, &offset, &read, NULL));
            expect_record(&read, &records[i]);
            assert_true(head.version == 1 || records[i].kind != NPHDI_JOURNAL_FACT ||
                        read.must == records[i].must);
            /* cut at every byte, with nothing readable behind it */
            for (uint64_t end = begin + 1; end < offset; end++) {
                uint64_t at = begin;
                uint8_t *copy = malloc((size_t)end);
                assert_non_null(copy);
                memcpy(copy, bytes, (size_t)end);
                assert_int_equal(
                    nphdi_journal_decode_record("j", &head, copy, end, &at, &read, NULL),
                    NPHD_CORRUPT);
                assert_int_equal(at, begin); /* where the next one begins is not known */
                free(copy);
            }
        }
        assert_int_equal(offset, all);
    }
}

static void test_wrong_v1_records(void **state)
{
    nphdi_journal_head head = example;
    nphdi_journal_record read;
    uint8_t bytes[64] = {0};
    uint64_t offset = 0;

    (void)state;
    head.version = 1;
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

/* A record of `kind` with `length` bytes behind its head; moves behind it in any case. */
static nphd_status decode_kind(uint16_t kind, uint32_t length, nphdi_journal_kind expected)
{
    nphdi_journal_head head = example;
    nphdi_journal_record read;
    uint8_t bytes[64] = {0};
    uint64_t offset = 0;

    head.key_bytes = 8;
    head.payload_bytes = 4;
    nphdi_put16(bytes, kind);
    nphdi_put32(bytes + 2, length);
    const nphd_status status =
        nphdi_journal_decode_record("j", &head, bytes, 64, &offset, &read, NULL);
    assert_int_equal(offset, 6 + length);
    assert_true(status != NPHD_OK || read.kind == expected);
    return status;
}

static void test_wrong_records(void **state)
{
    enum { MUST = 0x8000 };

    (void)state;
    /* kinds of later versions say whether they may be passed over */
    OK(decode_kind(7, 0, NPHDI_JOURNAL_UNKNOWN));
    OK(decode_kind(0x7fff, 58, NPHDI_JOURNAL_UNKNOWN));
    OK(decode_kind(0, 3, NPHDI_JOURNAL_UNKNOWN));
    assert_int_equal(decode_kind(MUST | 7, 1, 0), NPHD_UNSUPPORTED);
    assert_int_equal(decode_kind(MUST | 0x7fff, 1, 0), NPHD_UNSUPPORTED);
    assert_int_equal(decode_kind(MUST, 1, 0), NPHD_UNSUPPORTED);
    /* keys of 8 bytes, vectors of 1 to 4 */
    for (uint32_t length = 0; length < 16; length++) {
        const nphd_status vector = length >= 9 && length <= 12 ? NPHD_OK : NPHD_CORRUPT;
        const nphd_status key = length == 8 ? NPHD_OK : NPHD_CORRUPT;
        assert_int_equal(decode_kind(MUST | 1, length, NPHDI_JOURNAL_ADD), vector);
        assert_int_equal(decode_kind(MUST | 2, length, NPHDI_JOURNAL_REPLACE), vector);
        assert_int_equal(decode_kind(MUST | 3, length, NPHDI_JOURNAL_REMOVE), key);
        assert_int_equal(decode_kind(MUST | 4, length, NPHDI_JOURNAL_RESET),
                         length == 0 ? NPHD_OK : NPHD_CORRUPT);
        assert_int_equal(decode_kind(MUST | 5, length, NPHDI_JOURNAL_AUTOMATIC), key);
        assert_int_equal(decode_kind(6, length, NPHDI_JOURNAL_FACT),
                         length >= 4 ? NPHD_OK : NPHD_CORRUPT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_head),          cmocka_unit_test(test_wrong_heads),
        cmocka_unit_test(test_frame),         cmocka_unit_test(test_sectors),
        cmocka_unit_test(test_v1_frame),      cmocka_unit_test(test_records),
        cmocka_unit_test(test_wrong_records), cmocka_unit_test(test_wrong_v1_records),
    };

    return cmocka_run_group_tests_name("format of the journal", tests, NULL, NULL);
}
