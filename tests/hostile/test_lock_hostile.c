/* Heads in `lock` that say anything behind checksums that are right. A directory opens with all
 * that is in it, or is refused by name; what opens can be worked on, and is whole after it; salvage
 * always gets everything out. */
#include "support/directory_lab.h"
#include "support/lock_bytes.h"

#include <stdlib.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

static void say_nothing(void *context, const char *text)
{
    (void)context;
    (void)text;
}

static void put_head(dirlab *lab, const uint8_t *whole, size_t bytes, size_t at, uint64_t value)
{
    uint8_t *data = malloc(bytes);

    assert_non_null(data);
    memcpy(data, whole, bytes);
    nphdi_put64(data + at, value);
    lock_repair(data, bytes);
    dirlab_put(lab, NPHDI_LOCK_NAME, data, bytes);
    free(data);
}

/* What is refused says what asked for more. */
static bool opens(dirlab *lab, const nphd_sharded_options *options, nphd_sharded **out)
{
    nphd_error err = NPHD_ERROR_INIT;
    const nphd_status status = nphd_sharded_open(DIRLAB_FOLDER, options, out, &err);

    if (status == NPHD_OK) {
        dirlab_expect(lab, *out);
        return true;
    }
    assert_int_equal(status, NPHD_CORRUPT);
    assert_non_null(strstr(err.text, NPHDI_LOCK_NAME));
    return false;
}

static void work_on(dirlab *lab, const nphd_sharded_options *options)
{
    nphd_sharded *sharded = NULL;
    const nphd_key key = nphd_key_u64(900);
    uint8_t bits[8];

    if (!opens(lab, options, &sharded)) {
        return;
    }
    /* a number at its end may be an error, but what is acknowledged is there afterwards */
    const nphd_vector vector = dirlab_vector(900, 0, bits);
    if (nphd_sharded_add(sharded, key, vector, NULL, NULL) == NPHD_OK &&
        nphd_sharded_save(sharded, NULL, NULL) == NPHD_OK) {
        dirlab_set(&lab->items, key, vector);
        (void)nphd_sharded_rotate(sharded, NULL);
        (void)nphd_sharded_compact(sharded, NULL, NULL, NULL);
    }
    nphd_sharded_free(sharded);
    nphd_sharded_options reading = dirlab_options(lab);
    reading.read_only = true;
    sharded = dirlab_open(lab, &reading);
    dirlab_expect(lab, sharded);
    nphd_sharded_free(sharded);
    dirlab_drop(&lab->items, key);
}

static void test_heads(void **state)
{
    static const uint64_t numbers[] = {
        0, 1, 2, 3, 5, 0xffffffff, INT64_MAX, UINT64_MAX - 2, UINT64_MAX - 1, UINT64_MAX};
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_with_journal(lab);
    nphd_sharded_options reading = dirlab_options(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    memory_io *whole = NULL;
    size_t refused = 0;
    size_t opened = 0;

    reading.read_only = true;
    dirlab_add(lab, sharded, 0, 50);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 50, 60);
    dirlab_remove(lab, sharded, 3);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    dirlab_add(lab, sharded, 60, 70);
    OK(nphd_sharded_commit(sharded, NULL));
    nphd_sharded_free(sharded);
    size_t bytes = 0;
    uint8_t *head = memory_io_get(lab->disk, DIRLAB_FOLDER "/" NPHDI_LOCK_NAME, &bytes);
    assert_int_equal(bytes, NPHDI_LOCK_HEAD_BYTES);
    whole = lab->disk;
    for (size_t slot = 0; slot < 2; slot++) {
        for (size_t field = 0; field < LOCK_HEAD_FIELDS_BYTES; field += 8) {
            for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
                nphd_salvage_report report;
                lab->disk = memory_io_crash(whole, MEMORY_IO_ORDERED, 1);
                io_fault_destroy(&lab->fault);
                io_fault_init(&lab->fault, memory_io_table(lab->disk));
                put_head(lab, head, bytes,
                         slot * NPHDI_LOCK_HEAD_SLOT_STEP + LOCK_HEAD_FIELDS_AT + field,
                         numbers[i]);
                OK(nphd_directory_salvage(DIRLAB_FOLDER, "new", &lab->fault.table, say_nothing,
                                          NULL, &report, NULL));
                assert_int_equal(report.vectors, lab->items.count);
                sharded = NULL;
                if (opens(lab, &reading, &sharded)) {
                    opened++;
                    nphd_sharded_free(sharded);
                } else {
                    refused++;
                    assert_int_not_equal(nphd_directory_verify(DIRLAB_FOLDER, &lab->fault.table,
                                                               NULL, NULL, NULL, NULL),
                                         NPHD_OK);
                }
                work_on(lab, &options);
                assert_int_equal(memory_io_mistakes(lab->disk), 0);
                memory_io_destroy(lab->disk);
            }
        }
    }
    lab->disk = whole;
    io_fault_destroy(&lab->fault);
    io_fault_init(&lab->fault, memory_io_table(lab->disk));
    free(head);
    assert_true(opened > 10 && refused > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_heads),
    };

    return cmocka_run_group_tests_name("heads in lock", tests, NULL, NULL);
}
