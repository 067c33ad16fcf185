/* The sections of a shard that list shards and dead entries, as bytes that nobody vouches for; and
 * the names of the kinds that a head can have. */
#include "base/bytes.h"
#include "formats/shard_record.h"
#include "formats/usearch_format.h"

#include <nphd/nphd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define COUNT 3

static void test_record(void **unused)
{
    uint8_t record[NPHDI_RECORD_HEAD_BYTES + COUNT * NPHDI_RECORD_SHARD_BYTES] = {0};
    nphdi_record_shard shards[COUNT] = {{0}};
    nphd_error err = NPHD_ERROR_INIT;
    uint32_t flags = 7;
    uint32_t count = 7;

    (void)unused;
    for (uint32_t i = 0; i < COUNT; i++) {
        shards[i].number = 10 + i;
        shards[i].generation = 5 + i;
    }
    nphdi_record_encode(1, shards, COUNT, record);
    for (uint64_t bytes = 0; bytes <= sizeof(record) + 1; bytes++) {
        const nphd_status status =
            nphdi_record_decode_head("record", record, bytes, &flags, &count, &err);
        assert_int_equal(status, bytes == sizeof(record) ? NPHD_OK : NPHD_CORRUPT);
        assert_int_equal(count, bytes == sizeof(record) ? COUNT : 0);
    }
    shards[1].number = 10;
    nphdi_record_encode(1, shards, COUNT, record);
    assert_int_equal(
        nphdi_record_decode_head("record", record, sizeof(record), &flags, &count, &err),
        NPHD_CORRUPT);
    assert_non_null(strstr(err.text, "not in order"));
}

static void test_dead_entries(void **unused)
{
    uint8_t section[200] = {0};
    nphdi_hidden_head head = {0};
    nphdi_hidden_head got;
    const uint64_t bytes = nphdi_hidden_bytes(100);

    (void)unused;
    head.number = 3;
    head.generation = 9;
    head.slots = 100;
    assert_in_range(bytes, NPHDI_HIDDEN_HEAD_BYTES, sizeof(section));
    nphdi_hidden_encode_head(&head, section);
    for (uint64_t have = 0; have <= bytes; have++) {
        assert_int_equal(nphdi_hidden_decode_head("dead", section, have, 0, &got, NULL),
                         have < bytes ? NPHD_CORRUPT : NPHD_OK);
    }
    assert_int_equal(got.slots, 100);
    assert_int_equal(nphdi_hidden_decode_head("dead", section, bytes, bytes + 1, &got, NULL),
                     NPHD_CORRUPT);
    head.slots = (uint64_t)UINT32_MAX + 1;
    nphdi_hidden_encode_head(&head, section);
    assert_int_equal(nphdi_hidden_decode_head("dead", section, sizeof(section), 0, &got, NULL),
                     NPHD_CORRUPT);
}

/* A message about a file that is not supported names what it has. */
static void test_names_of_kinds(void **unused)
{
    static const char metrics[] = "icephdbtsnj";
    static const uint8_t scalars[] = {1, 4, 10, 11, 12, 13, 14, 15, 16, 17, 20, 21, 22, 23};
    int known = 0;

    (void)unused;
    for (int code = 0; code < 256; code++) {
        const bool is_known = strcmp(nphdi_metric_code_name((uint8_t)code), "unknown metric") != 0;
        assert_int_equal(is_known, code != 0 && strchr(metrics, code) != NULL);
        known += strstr(nphdi_scalar_code_name((uint8_t)code), "unknown") == NULL;
    }
    assert_int_equal(known, sizeof(scalars));
    for (size_t i = 0; i < sizeof(scalars); i++) {
        assert_null(strstr(nphdi_scalar_code_name(scalars[i]), "unknown"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record),
        cmocka_unit_test(test_dead_entries),
        cmocka_unit_test(test_names_of_kinds),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
