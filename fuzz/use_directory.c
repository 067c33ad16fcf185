#include "use_directory.h"

#include <stdio.h>
#include <string.h>

#define MOST_KEYS 40

static void say_nothing(void *context, nphd_log_level level, const char *text)
{
    (void)context;
    (void)level;
    (void)text;
}

static nphd_sharded_options options_for(memory_io *disk)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;

    options.io = memory_io_table(disk);
    options.logger = say_nothing;
    return options;
}

static void put(nphd_sharded *sharded, uint64_t from, uint64_t to)
{
    for (uint64_t key = from; key < to; key++) {
        const uint8_t bits[4] = {(uint8_t)(key * 37), (uint8_t)(key * 11), (uint8_t)key, 0x55};
        const nphd_key number = nphd_key_u64(key);
        const nphd_vector vector = {bits, 1 + key % 4};
        FUZZ_CHECK(nphd_sharded_upsert(sharded, &number, &vector, 1, NULL, NULL, NULL) == NPHD_OK);
    }
}

memory_io *fuzz_directory_make(bool journal)
{
    memory_io *disk = memory_io_create(1);
    nphd_sharded_options options = options_for(disk);
    nphd_sharded *sharded = NULL;
    const nphd_key gone[2] = {nphd_key_u64(2), nphd_key_u64(11)};

    options.max_bits = 32;
    options.connectivity = 2;
    options.journal = journal;
    FUZZ_CHECK(nphd_sharded_open("d", &options, &sharded, NULL) == NPHD_OK);
    put(sharded, 0, 9);
    FUZZ_CHECK(nphd_sharded_rotate(sharded, NULL) == NPHD_OK);
    put(sharded, 10, 15);
    put(sharded, 3, 4);
    FUZZ_CHECK(nphd_sharded_remove(sharded, &gone[0], 1, NULL, NULL) == NPHD_OK);
    FUZZ_CHECK(nphd_sharded_save(sharded, NULL, NULL) == NPHD_OK);
    put(sharded, 20, 24);
    FUZZ_CHECK(nphd_sharded_remove(sharded, &gone[1], 1, NULL, NULL) == NPHD_OK);
    FUZZ_CHECK(nphd_sharded_commit(sharded, NULL) == NPHD_OK);
    nphd_sharded_free(sharded);
    return disk;
}

size_t fuzz_directory_take(memory_io *disk, fuzz_file *out, size_t room)
{
    const size_t count = memory_io_count(disk, NULL);

    FUZZ_CHECK(count <= room);
    for (size_t i = 0; i < count; i++) {
        fuzz_file file = {{0}, NULL, 0, false};
        FUZZ_CHECK(memory_io_name(disk, i, file.name, sizeof(file.name)));
        file.data = memory_io_get(disk, file.name, &file.bytes);
        FUZZ_CHECK(file.data != NULL);
        out[i] = file;
    }
    return count;
}

memory_io *fuzz_directory_put(const fuzz_file *files, size_t count)
{
    memory_io *disk = memory_io_create(1);

    for (size_t i = 0; i < count; i++) {
        if (!files[i].absent) {
            memory_io_put(disk, files[i].name, files[i].data, files[i].bytes);
        }
    }
    return disk;
}

/* Goes through what is open. `checked`: no call may find damage any more. */
static void look(nphd_sharded *sharded, bool checked)
{
    nphd_sharded_cursor cursor = nphd_sharded_cursor_begin(sharded);
    const uint8_t query[4] = {1, 2, 3, 4};
    nphd_match matches[4];
    nphd_search_report report;
    nphd_key key;
    uint8_t bits[NPHD_MAX_BYTES];
    size_t bytes = 0;
    uint64_t count = 0;
    nphd_status status;

    while ((status = nphd_sharded_cursor_next(&cursor, &key, bits, &bytes, NULL)) == NPHD_OK) {
        bool there = false;
        count++;
        FUZZ_CHECK(nphd_sharded_contains(sharded, key, &there, NULL) != NPHD_OK || there ||
                   !checked);
    }
    FUZZ_CHECK(!checked || (status == NPHD_NOT_FOUND && count == nphd_sharded_size(sharded)));
    (void)nphd_sharded_search(sharded, (nphd_vector){query, 4}, 4, NULL, matches, &report, NULL);
}

static void read_it(memory_io *disk, bool salvage)
{
    nphd_sharded_options options = options_for(disk);
    nphd_sharded *sharded = NULL;

    options.read_only = true;
    options.salvage = salvage;
    if (nphd_sharded_open("d", &options, &sharded, NULL) == NPHD_OK) {
        look(sharded, false);
        (void)nphd_sharded_refresh(sharded, NULL, NULL);
        (void)nphd_sharded_snapshot(sharded, "copy", NULL);
    }
    nphd_sharded_free(sharded);
}

/* The keys that the cursor tells, up to `room`. */
static size_t keys_of(nphd_sharded *sharded, nphd_key *out, size_t room)
{
    nphd_sharded_cursor cursor = nphd_sharded_cursor_begin(sharded);
    uint8_t bits[NPHD_MAX_BYTES];
    size_t bytes = 0;
    size_t count = 0;

    while (count < room &&
           nphd_sharded_cursor_next(&cursor, &out[count], bits, &bytes, NULL) == NPHD_OK) {
        count++;
    }
    return count;
}

/* Replaces, removes and adds wherever something is said to be: whatever an answer is, a later call
 * must not trip over what an earlier one believed. */
static void work_on(nphd_sharded *sharded)
{
    static const uint8_t bits[4] = {7, 1, 7, 1};
    const nphd_vector vector = {bits, 4};
    nphd_key keys[MOST_KEYS];
    const size_t count = keys_of(sharded, keys, MOST_KEYS - 2);
    bool there = false;

    keys[count] = nphd_key_u64(12);
    keys[count + 1] = nphd_key_u64(2);
    for (size_t i = 0; i < count + 2; i++) {
        (void)nphd_sharded_contains(sharded, keys[i], &there, NULL);
        if (i % 3 == 1) {
            (void)nphd_sharded_remove(sharded, &keys[i], 1, NULL, NULL);
        } else {
            (void)nphd_sharded_upsert(sharded, &keys[i], &vector, 1, NULL, NULL, NULL);
        }
    }
    (void)nphd_sharded_add(sharded, nphd_key_u64(50), vector, NULL, NULL);
    (void)nphd_sharded_commit(sharded, NULL);
    (void)nphd_sharded_remove(sharded, keys, count + 2, NULL, NULL);
    (void)nphd_sharded_upsert(sharded, keys, &vector, 1, NULL, NULL, NULL);
    (void)nphd_sharded_rotate(sharded, NULL);
    (void)nphd_sharded_add(sharded, nphd_key_u64(51), vector, NULL, NULL);
    (void)nphd_sharded_save(sharded, NULL, NULL);
    look(sharded, false);
    (void)nphd_sharded_compact(sharded, NULL, NULL, NULL);
    look(sharded, false);
}

static void change_it(memory_io *disk)
{
    nphd_sharded_options options = options_for(disk);
    nphd_sharded *sharded = NULL;

    options.journal = true;
    if (nphd_sharded_open("d", &options, &sharded, NULL) == NPHD_OK) {
        work_on(sharded);
        (void)nphd_sharded_close(sharded, NULL);
    }
    nphd_sharded_free(sharded);
    read_it(disk, false);
}

void fuzz_directory_use(memory_io *disk)
{
    const nphd_io *io = memory_io_table(disk);
    nphd_sharded_options options = options_for(disk);
    nphd_sharded *sharded = NULL;
    nphd_salvage_report report;

    (void)nphd_directory_verify("d", io, NULL, NULL, NULL, NULL);
    read_it(disk, false);
    read_it(disk, true);
    if (nphd_directory_salvage("d", "new", io, NULL, NULL, &report, NULL) == NPHD_OK) {
        const nphd_status whole = nphd_directory_verify("new", io, NULL, NULL, NULL, NULL);
        FUZZ_CHECK(whole == NPHD_OK || (whole == NPHD_NOT_FOUND && report.vectors == 0));
        FUZZ_CHECK(nphd_sharded_open("new", &options, &sharded, NULL) == NPHD_OK);
        FUZZ_CHECK(nphd_sharded_size(sharded) == report.vectors);
        look(sharded, true);
        nphd_sharded_free(sharded);
    }
    change_it(disk);
    FUZZ_CHECK(memory_io_open_files(disk) == 0 && memory_io_maps(disk) == 0 &&
               memory_io_mistakes(disk) == 0);
}
