/* Files of bloom filters that are damaged, cut or hostile, and storage and memory that fail. */
#include "base/bytes.h"
#include "support/allocator_fault.h"
#include "support/bloom_bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* A file of three filters: 100, 200 and 400 keys. */
static void make_file(allocator_fault *allocator, uint64_t keys, bloom_bytes *out)
{
    nphdi_bloom *bloom = bloom_bytes_create(&allocator->table, 8, 100, 0.01, 2.0);

    assert_non_null(bloom);
    memset(out, 0, sizeof(*out));
    for (uint64_t i = 0; i < keys; i++) {
        assert_int_equal(nphdi_bloom_reserve(bloom, 1, NULL), NPHD_OK);
        nphdi_bloom_add(bloom, nphd_key_u64(i));
    }
    assert_int_equal(bloom_bytes_write(bloom, out, NULL), NPHD_OK);
    nphdi_bloom_close(bloom);
}

static nphd_status read_file(allocator_fault *allocator, bloom_bytes *file, nphd_error *err)
{
    nphdi_bloom *bloom;
    const nphd_status status = bloom_bytes_read(file, &allocator->table, 8, &bloom, err);

    assert_true((bloom != NULL) == (status == NPHD_OK));
    nphdi_bloom_close(bloom);
    return status;
}

static void test_damaged_files(void **state)
{
    allocator_fault allocator;
    nphd_error err = NPHD_ERROR_INIT;
    bloom_bytes file;

    (void)state;
    allocator_fault_init(&allocator);
    make_file(&allocator, 350, &file);
    assert_int_equal(file.bytes, 1097);
    const size_t whole = file.bytes;
    for (file.bytes = 0; file.bytes < whole; file.bytes++) {
        assert_int_equal(read_file(&allocator, &file, &err), NPHD_CORRUPT);
        assert_non_null(strstr(err.text, "t.isbf: "));
        assert_non_null(strstr(err.text, "made anew"));
    }
    assert_int_equal(read_file(&allocator, &file, &err), NPHD_OK);
    assert_int_equal(bloom_bytes_put(&file, "", 1, NULL), NPHD_OK);
    assert_int_equal(read_file(&allocator, &file, &err), NPHD_CORRUPT);
    assert_non_null(strstr(err.text, "1 bytes behind"));
    file.bytes = whole;
    /* 300 keys fill two filters, and a third may have been appended before its key failed */
    for (uint64_t count = 0; count < 800; count++) {
        nphdi_put64(file.data + 5, count);
        assert_int_equal(read_file(&allocator, &file, &err),
                         count >= 300 && count <= 700 ? NPHD_OK : NPHD_CORRUPT);
    }
    nphdi_put64(file.data + 5, 350);
    /* one filter fewer in the head: the last is too much */
    nphdi_put32(file.data + 33, 2);
    assert_int_equal(read_file(&allocator, &file, &err), NPHD_CORRUPT);
    nphdi_put32(file.data + 33, 3);
    /* every size agrees, but it is another chain */
    nphdi_put64(file.data + 25, 0x4008000000000000); /* a growth of 3 */
    assert_int_equal(read_file(&allocator, &file, &err), NPHD_CORRUPT);
    assert_non_null(strstr(err.text, "for 200 keys, not 300"));
    bloom_bytes_free(&file);
    assert_true(allocator_fault_is_clean(&allocator));
    allocator_fault_destroy(&allocator);
}

/* A small file cannot make the reader ask for the memory of a large one. */
static void test_memory_is_justified(void **state)
{
    allocator_fault allocator;
    bloom_bytes file;

    (void)state;
    allocator_fault_init(&allocator);
    assert_true(bloom_bytes_empty(&file, 10000000, 0.01, 2.0));
    const size_t whole = file.bytes;
    file.bytes = whole - 1;
    assert_int_equal(read_file(&allocator, &file, NULL), NPHD_CORRUPT);
    assert_in_range(allocator.peak_bytes, 1, 1000);
    file.bytes = whole;
    nphdi_put32(file.data + 33, UINT32_MAX); /* filters */
    assert_int_equal(read_file(&allocator, &file, NULL), NPHD_CORRUPT);
    /* a large filter has memory in steps of 64 KiB */
    assert_in_range(allocator.peak_bytes, 1, whole + 65536 + 1000);
    bloom_bytes_free(&file);
    assert_true(allocator_fault_is_clean(&allocator));
    allocator_fault_destroy(&allocator);
}

/* The caller's own failures pass through, at each byte. */
static void test_storage_fails(void **state)
{
    allocator_fault allocator;
    nphdi_bloom *bloom;
    bloom_bytes file;
    bloom_bytes copy = {0};

    (void)state;
    allocator_fault_init(&allocator);
    make_file(&allocator, 350, &file);
    assert_int_equal(bloom_bytes_read(&file, &allocator.table, 8, &bloom, NULL), NPHD_OK);
    for (size_t at = 1; at <= file.bytes; at += 7) {
        copy.fail_at = at;
        assert_int_equal(bloom_bytes_write(bloom, &copy, NULL), NPHD_NO_SPACE);
        bloom_bytes_free(&copy);
        file.fail_at = at;
        assert_int_equal(read_file(&allocator, &file, NULL), NPHD_IO);
    }
    nphdi_bloom_close(bloom);
    bloom_bytes_free(&file);
    assert_true(allocator_fault_is_clean(&allocator));
    allocator_fault_destroy(&allocator);
}

static nphd_status workload(const nphd_allocator *allocator, bloom_bytes *file, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_bloom *created = NULL;
    nphdi_bloom *read = NULL;

    TRY(nphdi_bloom_create(allocator, 8, 0, &created, err));
    TRY(nphdi_bloom_reserve(created, 400000, err));
    nphdi_bloom_add(created, nphd_key_u64(1));
    TRY(bloom_bytes_read(file, allocator, 8, &read, err));
    TRY(nphdi_bloom_reserve(read, 1000, err));
done:
    assert_true(created == NULL || status != NPHD_OK ||
                nphdi_bloom_maybe(created, nphd_key_u64(1)));
    assert_true(read == NULL || nphdi_bloom_maybe(read, nphd_key_u64(349)));
    nphdi_bloom_close(created);
    nphdi_bloom_close(read);
    return status;
}

static void test_out_of_memory(void **state)
{
    allocator_fault allocator;
    nphd_error err = NPHD_ERROR_INIT;
    bloom_bytes file;
    uint64_t n;

    (void)state;
    allocator_fault_init(&allocator);
    make_file(&allocator, 350, &file);
    for (n = 1;; n++) {
        allocator_fault_arm(&allocator, ALLOCATOR_FAULT_ALL, n, false);
        const nphd_status status = workload(&allocator.table, &file, &err);
        assert_true(allocator_fault_is_clean(&allocator));
        if (allocator.failed == 0) {
            assert_int_equal(status, NPHD_OK);
            break;
        }
        assert_int_equal(status, NPHD_OUT_OF_MEMORY);
    }
    assert_in_range(n, 1 + 3 + 4 + 7 + 2, 100);
    bloom_bytes_free(&file);
    allocator_fault_destroy(&allocator);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_damaged_files),
        cmocka_unit_test(test_memory_is_justified),
        cmocka_unit_test(test_storage_fails),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
