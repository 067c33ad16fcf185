/* A workload with every kind of call there is: journal, rotation, compaction, snapshot, a reader
 * and its refresh, verify. Each storage call is interrupted by a signal in turn, once, which is
 * noticed by nobody but a flush, and for ever; fails once; and each request for memory is refused.
 * An error has a name, and everything that was acknowledged is there when it is over. */
#include "support/allocator_fault.h"
#include "support/allocator_plain.h"
#include "support/io_fault.h"
#include "support/io_memory.h"

#include <nphd/nphd.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A flush is not repeated, whatever it answers; nor is a close. */
#define FINAL (IO_FAULT_SYNC | IO_FAULT_SYNC_DIRECTORY | IO_FAULT_CLOSE)

#define WIDTH 16
#define KEYS 40

typedef struct lab {
    memory_io *disk;
    io_fault io;
    allocator_fault memory;
    uint64_t acknowledged; /* keys 0.. of the directory */
    nphd_error err;
} lab;

static void silent(void *context, nphd_log_level level, const char *text)
{
    (void)context;
    (void)level;
    (void)text;
}

static void lab_begin(lab *here)
{
    memset(here, 0, sizeof(*here));
    here->disk = memory_io_create(1);
    io_fault_init(&here->io, memory_io_table(here->disk));
    allocator_fault_init(&here->memory);
    here->memory.below = allocator_plain();
    here->err = (nphd_error)NPHD_ERROR_INIT;
}

static void lab_end(lab *here)
{
    assert_int_equal(here->io.open_files, 0);
    assert_int_equal(here->io.maps, 0);
    assert_int_equal(here->io.repeated_syncs, 0);
    assert_int_equal(memory_io_mistakes(here->disk), 0);
    assert_true(allocator_fault_is_clean(&here->memory));
    allocator_fault_destroy(&here->memory);
    io_fault_destroy(&here->io);
    memory_io_destroy(here->disk);
}

static nphd_status open_directory(lab *here, bool read_only, nphd_sharded **out)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;

    options.journal = true;
    options.max_bits = 8 * WIDTH;
    options.shard_bytes = 4000;
    options.read_only = read_only;
    options.logger = silent;
    options.io = &here->io.table;
    options.allocator = &here->memory.table;
    return nphd_sharded_open("directory", &options, out, &here->err);
}

#define TRY(call)                                                                                  \
    do {                                                                                           \
        status = (call);                                                                           \
        if (status != NPHD_OK) {                                                                   \
            goto done;                                                                             \
        }                                                                                          \
    } while (0)

/* Every kind of call there is: opening new and again, commits, rotations, a save, compaction, a
 * snapshot, a reader and its refresh, verify. */
static nphd_status work(lab *here)
{
    nphd_status status = NPHD_OK;
    nphd_sharded *sharded = NULL;
    nphd_sharded *reader = NULL;
    nphd_error *err = &here->err;

    TRY(open_directory(here, false, &sharded));
    for (uint64_t key = 0; key < KEYS; key++) {
        uint8_t bits[WIDTH] = {0};
        const nphd_vector vector = {bits, WIDTH};
        memcpy(bits, &key, sizeof(key));
        TRY(nphd_sharded_add(sharded, nphd_key_u64(key), vector, NULL, err));
        if (key % 4 == 3) {
            TRY(nphd_sharded_commit(sharded, err));
            here->acknowledged = key + 1;
        }
    }
    TRY(nphd_sharded_save(sharded, NULL, err));
    TRY(open_directory(here, true, &reader));
    TRY(nphd_sharded_snapshot(sharded, "snapshot", err));
    TRY(nphd_sharded_compact(sharded, NULL, NULL, err));
    TRY(nphd_sharded_refresh(reader, NULL, err));
    TRY(nphd_sharded_close(sharded, err));
    nphd_sharded_free(sharded);
    sharded = NULL;
    TRY(open_directory(here, false, &sharded));
    TRY(nphd_sharded_close(sharded, err));
    TRY(nphd_directory_verify("directory", &here->io.table, NULL, NULL, NULL, err));
    TRY(nphd_directory_verify("snapshot", &here->io.table, NULL, NULL, NULL, err));
done:
    nphd_sharded_free(reader);
    nphd_sharded_free(sharded);
    return status;
}

static void check_acknowledged(lab *here)
{
    nphd_sharded *sharded = NULL;

    assert_int_equal(open_directory(here, false, &sharded), NPHD_OK);
    assert_true(nphd_sharded_size(sharded) >= here->acknowledged);
    for (uint64_t key = 0; key < here->acknowledged; key++) {
        bool found = false;
        assert_int_equal(nphd_sharded_contains(sharded, nphd_key_u64(key), &found, NULL), NPHD_OK);
        assert_true(found);
    }
    nphd_sharded_free(sharded);
}

static void test_once(void **unused)
{
    bool more = true;

    (void)unused;
    for (uint64_t n = 1; more; n++) {
        lab here;
        lab_begin(&here);
        io_fault_arm(&here.io, IO_FAULT_ALL & ~FINAL, n, EINTR, false);
        if (work(&here) != NPHD_OK) {
            fail_msg("call %llu (kind %x): %s", (unsigned long long)n,
                     (unsigned)here.io.failed_kinds, here.err.text);
        }
        io_fault_disarm(&here.io);
        more = here.io.failed > 0;
        check_acknowledged(&here);
        lab_end(&here);
    }
}

static void test_for_ever(void **unused)
{
    static const uint32_t kinds[] = {IO_FAULT_OPEN,   IO_FAULT_SIZE,     IO_FAULT_READ,
                                     IO_FAULT_WRITE,  IO_FAULT_ALLOCATE, IO_FAULT_SYNC,
                                     IO_FAULT_MAP,    IO_FAULT_RENAME,   IO_FAULT_REMOVE,
                                     IO_FAULT_RANDOM, IO_FAULT_LIST,     IO_FAULT_SYNC_DIRECTORY,
                                     IO_FAULT_LOCK,   IO_FAULT_COPY,     IO_FAULT_MAKE_DIRECTORY};

    (void)unused;
    for (size_t kind = 0; kind < sizeof(kinds) / sizeof(kinds[0]); kind++) {
        bool more = true;
        for (uint64_t n = 1; more; n += 1 + n / 4) {
            lab here;
            nphd_status status;
            lab_begin(&here);
            io_fault_arm(&here.io, kinds[kind], n, EINTR, true);
            status = work(&here);
            io_fault_disarm(&here.io);
            more = here.io.failed > 0;
            assert_true(more || status == NPHD_OK);
            if (status != NPHD_OK) {
                assert_true(status == NPHD_IO || status == NPHD_DURABILITY_UNKNOWN);
                assert_true(strlen(here.err.text) > 0);
            }
            check_acknowledged(&here);
            lab_end(&here);
        }
    }
}

static void test_errors(void **unused)
{
    static const int errors[] = {EIO, ENOSPC, EACCES, EINVAL, EWOULDBLOCK};
    bool more = true;

    (void)unused;
    for (uint64_t n = 1; more; n++) {
        lab here;
        nphd_status status;
        lab_begin(&here);
        io_fault_arm(&here.io, IO_FAULT_ALL, n, errors[n % 5], false);
        status = work(&here);
        io_fault_disarm(&here.io);
        more = here.io.failed > 0;
        assert_true(more || status == NPHD_OK);
        if (status != NPHD_OK) {
            assert_int_equal(status, here.err.status);
            assert_true(status != NPHD_CORRUPT && status != NPHD_OUT_OF_MEMORY);
            assert_true(strlen(here.err.text) > 0);
        }
        check_acknowledged(&here);
        lab_end(&here);
    }
}

static void test_memory(void **unused)
{
    bool more = true;

    (void)unused;
    for (uint64_t n = 1; more; n++) {
        lab here;
        nphd_status status;
        lab_begin(&here);
        allocator_fault_arm(&here.memory, ALLOCATOR_FAULT_ALL, n, false);
        status = work(&here);
        more = here.memory.failed > 0;
        allocator_fault_arm(&here.memory, ALLOCATOR_FAULT_ALL, 0, false);
        assert_true(status == NPHD_OK || status == NPHD_OUT_OF_MEMORY);
        assert_true(more || status == NPHD_OK);
        check_acknowledged(&here);
        lab_end(&here);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_once), cmocka_unit_test(test_for_ever),
                                       cmocka_unit_test(test_errors),
                                       cmocka_unit_test(test_memory)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
