/* Damaged directories on storage that fails, and without memory: a directory with shards, deletions
 * and a journal is damaged in one place after another, and then salvaged, opened with `salvage`,
 * verified and looked at from outside while the N-th storage call or request for memory fails. Each
 * answer has a status that the headers name; nothing leaks; without the fault the same calls find
 * what they found without one, so that no failure has changed a file. */
#include "platform/platform.h"
#include "support/allocator_fault.h"
#include "support/allocator_plain.h"
#include "support/io_fault.h"
#include "support/io_memory.h"
#include "support/test_random.h"

#include <nphd/nphd.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

#define WIDTH 16
#define KEYS 90
#define BEFORE "directory"
#define AFTER "salvaged"

/* Calls without an allocator of their own get this one, in place of the library's. */
static allocator_fault memory;

const nphd_allocator *nphdi_allocator_system(void)
{
    return &memory.table;
}

static void silent(void *context, nphd_log_level level, const char *text)
{
    (void)context;
    (void)level;
    (void)text;
}

static nphd_sharded_options options_for(const nphd_io *io)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;

    options.journal = true;
    options.max_bits = 8 * WIDTH;
    options.shard_bytes = 5000;
    options.logger = silent;
    options.io = io;
    options.allocator = &memory.table;
    return options;
}

/* ---- the directory, and what is done to it ---- */

static void put_keys(nphd_sharded *sharded, uint64_t from, uint64_t to)
{
    for (uint64_t key = from; key < to; key++) {
        uint8_t bits[WIDTH] = {0};
        const nphd_vector vector = {bits, WIDTH};
        memcpy(bits, &key, sizeof(key));
        OK(nphd_sharded_add(sharded, nphd_key_u64(key), vector, NULL, NULL));
    }
}

static memory_io *make_directory(void)
{
    memory_io *disk = memory_io_create(1);
    nphd_sharded_options options = options_for(memory_io_table(disk));
    nphd_sharded *sharded = NULL;
    nphd_key gone[3] = {nphd_key_u64(1), nphd_key_u64(20), nphd_key_u64(77)};

    OK(nphd_sharded_open(BEFORE, &options, &sharded, NULL));
    put_keys(sharded, 0, KEYS - 10);
    OK(nphd_sharded_remove(sharded, gone, 2, NULL, NULL));
    OK(nphd_sharded_save(sharded, NULL, NULL));
    put_keys(sharded, KEYS - 10, KEYS);
    OK(nphd_sharded_commit(sharded, NULL));
    OK(nphd_sharded_remove(sharded, gone + 2, 1, NULL, NULL));
    OK(nphd_sharded_commit(sharded, NULL));
    nphd_sharded_free(sharded); /* as a process that dies: the journal stays */
    return disk;
}

/* The path of the file whose name has `part`; `last`: of several the last. */
static bool find_file(memory_io *disk, const char *part, bool last, char out[256])
{
    char name[256];
    bool found = false;

    for (size_t i = 0; memory_io_name(disk, i, name, sizeof(name)); i++) {
        if (strstr(name, part) != NULL && (!found || (strcmp(name, out) > 0 ? last : !last))) {
            memcpy(out, name, sizeof(name));
            found = true;
        }
    }
    return found;
}

typedef struct damage {
    const char *part;
    bool last;
    int place; /* in 256ths of the file; -1: the file is gone; -2: cut to half */
} damage;

static const damage damages[] = {
    {"lock", false, 0},         {"shard_", false, 3},      {"shard_", false, 120},
    {"shard_", false, 250},     {"shard_", false, 255},    {"shard_", false, -1},
    {"shard_", true, 5},        {"shard_", true, 140},     {"shard_", true, 254},
    {"shard_", true, -1},       {"shard_", true, -2},      {"tombstones", false, 90},
    {"tombstones", false, 255}, {"tombstones", false, -1}, {"tombstones", false, -2},
    {"bloom", false, 128},      {"bloom", false, -1},      {"journal_", true, 0},
    {"journal_", true, 100},    {"journal_", true, 200},   {"journal_", true, -1},
    {"journal_", true, -2},
};

static void do_damage(memory_io *disk, const damage *what)
{
    char path[256] = "";
    size_t bytes = 0;
    uint8_t *data;

    if (!find_file(disk, what->part, what->last, path)) {
        return;
    }
    data = memory_io_get(disk, path, &bytes);
    assert_non_null(data);
    if (what->place == -1) {
        OK((nphd_status)memory_io_table(disk)->remove(memory_io_table(disk)->context, path));
    } else if (what->place == -2) {
        memory_io_put(disk, path, data, bytes / 2);
    } else if (bytes > 0) {
        data[bytes * (size_t)what->place / 256] ^= 0x5a;
        memory_io_put(disk, path, data, bytes);
    }
    free(data);
}

/* ---- what is called ---- */

typedef struct found {
    nphd_status status[6];
    uint64_t sizes[3];
    nphd_salvage_report salvaged;
    nphd_directory_report verified;
    uint64_t told;
} found;

static void count(void *context, const char *text)
{
    uint64_t *told = context;

    assert_true(strlen(text) > 0);
    (*told)++;
}

static nphd_status open_and_count(const nphd_io *io, const char *path, bool read_only, bool salvage,
                                  uint64_t *out)
{
    nphd_sharded_options options = options_for(io);
    nphd_sharded *sharded = NULL;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    options.read_only = read_only;
    options.salvage = salvage;
    status = nphd_sharded_open(path, &options, &sharded, &err);
    assert_true(status == NPHD_OK || strlen(err.text) > 0);
    assert_true((status == NPHD_OK) == (sharded != NULL));
    *out = sharded != NULL ? nphd_sharded_size(sharded) : 0;
    nphd_sharded_free(sharded);
    return status;
}

static void call_all(const nphd_io *io, found *out)
{
    nphd_metadata metadata = NPHD_METADATA_INIT;
    nphd_error err = NPHD_ERROR_INIT;

    memset(out, 0, sizeof(*out));
    out->status[0] = nphd_directory_verify(BEFORE, io, count, &out->told, &out->verified, &err);
    out->status[1] = nphd_directory_metadata(BEFORE, io, &metadata, &err);
    out->status[2] = open_and_count(io, BEFORE, true, false, &out->sizes[0]);
    out->status[3] = open_and_count(io, BEFORE, true, true, &out->sizes[1]);
    out->status[4] =
        nphd_directory_salvage(BEFORE, AFTER, io, count, &out->told, &out->salvaged, &err);
    if (out->status[4] == NPHD_OK) {
        out->status[5] = open_and_count(io, AFTER, false, false, &out->sizes[2]);
    }
}

static bool is_excused(nphd_status status, nphd_status without, bool of_memory)
{
    return status == without || status == NPHD_OUT_OF_MEMORY ||
           (!of_memory &&
            (status == NPHD_IO || status == NPHD_NO_SPACE || status == NPHD_DURABILITY_UNKNOWN)) ||
           /* nothing was salvaged, since what could be read could not */
           status == NPHD_NOT_FOUND;
}

static void run(memory_io *damaged, const found *expected, uint64_t n, bool of_memory,
                uint32_t kinds, bool *out_more)
{
    memory_io *disk = memory_io_crash(damaged, MEMORY_IO_ORDERED, 1);
    io_fault io;
    found got;
    found after;

    io_fault_init(&io, memory_io_table(disk));
    if (of_memory) {
        allocator_fault_arm(&memory, ALLOCATOR_FAULT_ALL, n, false);
    } else {
        io_fault_arm(&io, kinds, n, n % 3 == 0 ? ENOSPC : EIO, false);
    }
    call_all(&io.table, &got);
    *out_more = of_memory ? memory.failed > 0 : io.failed > 0;
    allocator_fault_arm(&memory, ALLOCATOR_FAULT_ALL, 0, false);
    io_fault_disarm(&io);
    for (size_t i = 0; i < 6; i++) {
        if (got.status[5] == NPHD_OK && i == 5) {
            continue; /* not called */
        }
        if (!is_excused(got.status[i], expected->status[i], of_memory)) {
            fail_msg("call %zu: %s, without the fault %s (number %llu, %s, kinds %x)", i,
                     nphd_status_name(got.status[i]), nphd_status_name(expected->status[i]),
                     (unsigned long long)n, of_memory ? "memory" : "storage",
                     (unsigned)io.failed_kinds);
        }
    }
    assert_int_equal(io.open_files, 0);
    assert_int_equal(io.maps, 0);
    assert_int_equal(io.repeated_syncs, 0);
    assert_true(allocator_fault_is_clean(&memory));
    io_fault_destroy(&io);
    /* the damaged directory is as it was */
    memory_io *again = memory_io_crash(disk, MEMORY_IO_ORDERED, 1);
    char name[256];
    for (size_t i = 0; memory_io_count(again, AFTER) > 0 && i < 100; i++) {
        if (find_file(again, AFTER, true, name)) {
            (void)memory_io_table(again)->remove(memory_io_table(again)->context, name);
        }
    }
    call_all(memory_io_table(again), &after);
    assert_memory_equal(after.status, expected->status, sizeof(after.status));
    assert_memory_equal(after.sizes, expected->sizes, sizeof(after.sizes));
    memory_io_destroy(again);
    memory_io_destroy(disk);
}

/* A writer opens the rest, which puts damaged files aside, and saves it. */
static nphd_status write_rest(const nphd_io *io, uint64_t *out_size)
{
    nphd_sharded_options options = options_for(io);
    nphd_sharded *sharded = NULL;
    nphd_status status;

    options.salvage = true;
    *out_size = 0;
    status = nphd_sharded_open(BEFORE, &options, &sharded, NULL);
    if (status == NPHD_OK) {
        *out_size = nphd_sharded_size(sharded);
        status = nphd_sharded_save(sharded, NULL, NULL);
    }
    nphd_sharded_free(sharded);
    return status;
}

/* Whatever a fault interrupts, the next attempt ends with what one without a fault has. */
static void run_writer(memory_io *damaged, nphd_status without, uint64_t size, uint64_t n,
                       bool of_memory, bool *out_more)
{
    memory_io *disk = memory_io_crash(damaged, MEMORY_IO_ORDERED, 1);
    io_fault io;
    uint64_t got = 0;
    nphd_status status;

    io_fault_init(&io, memory_io_table(disk));
    if (of_memory) {
        allocator_fault_arm(&memory, ALLOCATOR_FAULT_ALL, n, false);
    } else {
        io_fault_arm(&io, IO_FAULT_ALL, n, EIO, false);
    }
    status = write_rest(&io.table, &got);
    *out_more = of_memory ? memory.failed > 0 : io.failed > 0;
    allocator_fault_arm(&memory, ALLOCATOR_FAULT_ALL, 0, false);
    io_fault_disarm(&io);
    assert_true(is_excused(status, without, of_memory));
    status = write_rest(&io.table, &got);
    if (status != without || got != size) {
        fail_msg("number %llu, %s: then %s with %llu vectors, without a fault %s with %llu",
                 (unsigned long long)n, of_memory ? "memory" : "storage", nphd_status_name(status),
                 (unsigned long long)got, nphd_status_name(without), (unsigned long long)size);
    }
    assert_int_equal(io.open_files, 0);
    assert_int_equal(io.maps, 0);
    assert_true(allocator_fault_is_clean(&memory));
    io_fault_destroy(&io);
    memory_io_destroy(disk);
}

static void sweep(bool of_memory)
{
    const char *scale = getenv("NPHD_TEST_SCALE");
    const uint64_t step = scale != NULL && strcmp(scale, "large") == 0   ? 1
                          : scale != NULL && strcmp(scale, "small") == 0 ? 37
                                                                         : 11;
    memory_io *whole = make_directory();

    for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
        memory_io *damaged = memory_io_crash(whole, MEMORY_IO_ORDERED, 1);
        memory_io *calm;
        found expected;
        bool more = true;
        do_damage(damaged, &damages[i]);
        calm = memory_io_crash(damaged, MEMORY_IO_ORDERED, 1);
        call_all(memory_io_table(calm), &expected);
        memory_io_destroy(calm);
        assert_true(i > 0 || expected.status[0] == NPHD_OK);
        for (uint64_t n = 1 + i % step; more; n += step) {
            run(damaged, &expected, n, of_memory, IO_FAULT_ALL, &more);
        }
        calm = memory_io_crash(damaged, MEMORY_IO_ORDERED, 1);
        uint64_t size = 0;
        const nphd_status without = write_rest(memory_io_table(calm), &size);
        memory_io_destroy(calm);
        more = true;
        for (uint64_t n = 1 + i % step; more; n += 1 + step / 4) {
            run_writer(damaged, without, size, n, of_memory, &more);
        }
        memory_io_destroy(damaged);
    }
    memory_io_destroy(whole);
}

static void test_storage(void **unused)
{
    (void)unused;
    sweep(false);
}

static void test_memory(void **unused)
{
    (void)unused;
    sweep(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_storage),
                                       cmocka_unit_test(test_memory)};
    int failed;

    allocator_fault_init(&memory);
    memory.below = allocator_plain();
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    allocator_fault_destroy(&memory);
    return failed;
}
