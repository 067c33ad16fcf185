/* Status texts and error records of every size. */
#include "base/error.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define GUARD_BYTE 0x5c

/* A record inside a larger piece of memory, so that a write beyond struct_size shows. */
typedef union guarded_record {
    nphd_error error;
    uint8_t octets[sizeof(nphd_error) + 64];
} guarded_record;

static void guarded_set(guarded_record *record, size_t struct_size)
{
    memset(record, GUARD_BYTE, sizeof(*record));
    record->error.struct_size = struct_size;
}

static void guarded_check(const guarded_record *record)
{
    for (size_t i = record->error.struct_size; i < sizeof(*record); i++) {
        assert_int_equal(record->octets[i], GUARD_BYTE);
    }
}

static void test_every_status_has_text(void **state)
{
    (void)state;
#define CHECK(name, number, text)                                                                  \
    assert_int_equal(NPHD_##name, number);                                                         \
    assert_string_equal(nphd_status_text(NPHD_##name), text);                                      \
    assert_string_equal(nphd_status_name(NPHD_##name), #name);
    NPHD_STATUS_MAP(CHECK)
#undef CHECK
    assert_string_equal(nphd_status_text((nphd_status)999), "unknown status");
    assert_string_equal(nphd_status_name((nphd_status)999), "UNKNOWN");
}

static void test_fail_fills_the_record(void **state)
{
    nphd_error err = NPHD_ERROR_INIT;

    (void)state;
    err.os_error = ENOSPC;
    assert_int_equal(nphdi_fail(&err, NPHD_CORRUPT, "%s: block %d", "file", 17), NPHD_CORRUPT);
    assert_int_equal(err.status, NPHD_CORRUPT);
    assert_int_equal(err.os_error, 0);
    assert_string_equal(err.text, "file: block 17");
    nphdi_error_clear(&err);
    assert_int_equal(err.status, NPHD_OK);
    assert_string_equal(err.text, "");
}

static void test_no_record_is_fine(void **state)
{
    nphd_error err = NPHD_ERROR_INIT;

    (void)state;
    assert_int_equal(nphdi_fail(NULL, NPHD_FULL, "x"), NPHD_FULL);
    assert_int_equal(nphdi_fail_os(NULL, ENOSPC, "x"), NPHD_NO_SPACE);
    nphdi_error_clear(NULL);
    nphdi_error_copy(NULL, &err);
    nphdi_error_copy(&err, NULL);
}

static void test_os_errors_pick_a_status(void **state)
{
    static const struct {
        int os_error;
        nphd_status status;
    } cases[] = {
        {ENOSPC, NPHD_NO_SPACE},  {EDQUOT, NPHD_NO_SPACE},
        {EFBIG, NPHD_NO_SPACE},   {ENOMEM, NPHD_OUT_OF_MEMORY},
        {ENOENT, NPHD_NOT_FOUND}, {EIO, NPHD_IO},
        {EACCES, NPHD_IO},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        nphd_error err = NPHD_ERROR_INIT;
        char expected[200];
        assert_int_equal(nphdi_fail_os(&err, cases[i].os_error, "%s", "disk"), cases[i].status);
        assert_int_equal(err.status, cases[i].status);
        assert_int_equal(err.os_error, cases[i].os_error);
        (void)snprintf(expected, sizeof(expected), "disk: %s", strerror(cases[i].os_error));
        assert_string_equal(err.text, expected);
    }
}

/* Every size from the head alone, over all cuts of the text, to a longer record of the future. */
static void test_records_of_every_size(void **state)
{
    const size_t head = offsetof(nphd_error, text);
    char longest[NPHD_ERROR_TEXT_BYTES * 2];

    (void)state;
    memset(longest, 'n', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    for (size_t size = head; size <= sizeof(guarded_record); size++) {
        const size_t room = size - head;
        guarded_record record;
        guarded_set(&record, size);
        assert_int_equal(nphdi_fail_os(&record.error, EIO, "%s", longest), NPHD_IO);
        guarded_check(&record);
        assert_int_equal(record.error.status, NPHD_IO);
        if (room > 0) {
            const char *text = (const char *)record.octets + head;
            assert_int_equal(strlen(text), room - 1);
        }
        nphdi_fail_os(&record.error, EIO, "ab");
        guarded_check(&record);
        nphdi_error_clear(&record.error);
        guarded_check(&record);
    }
}

static void test_copy_between_sizes(void **state)
{
    const size_t head = offsetof(nphd_error, text);
    nphd_error from = NPHD_ERROR_INIT;

    (void)state;
    (void)nphdi_fail_os(&from, ENOSPC, "0123456789");
    for (size_t size = head; size <= sizeof(guarded_record); size++) {
        const size_t room = size - head;
        guarded_record record;
        guarded_set(&record, size);
        nphdi_error_copy(&record.error, &from);
        guarded_check(&record);
        assert_int_equal(record.error.status, NPHD_NO_SPACE);
        assert_int_equal(record.error.os_error, ENOSPC);
        if (room > 0) {
            const char *text = (const char *)record.octets + head;
            const size_t whole = strlen(from.text);
            assert_int_equal(strlen(text), whole < room ? whole : room - 1);
            assert_memory_equal(text, from.text, strlen(text));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_status_has_text),
        cmocka_unit_test(test_fail_fills_the_record),
        cmocka_unit_test(test_no_record_is_fine),
        cmocka_unit_test(test_os_errors_pick_a_status),
        cmocka_unit_test(test_records_of_every_size),
        cmocka_unit_test(test_copy_between_sizes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
