/* Files of a directory that are wrong behind checksums that are right: sections of another size,
 * numbers that do not fit, keys and table entries that lead nowhere. Opening and changing answer
 * with an error that names the file, leave the files as they were and the content in place. */
#include "support/directory_damage.h"

#define OK(call) assert_int_equal((call), NPHD_OK)

#define FIRST "shard_000.usearch"
#define SECOND "shard_001.usearch"
#define NEWEST "shard_003.usearch"
#define TOMBSTONES "tombstones.npy"
#define FILTER "bloom.isbf"

static void expect_opens(dirlab *lab)
{
    nphd_sharded_options options = dirlab_options(lab);

    options.read_only = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* Readers and writers refuse it, and no file changes. */
static void expect_refused(dirlab *lab, nphd_status status, const char *file, const char *what)
{
    nphd_sharded_options options = dirlab_options(lab);
    const uint64_t before = memory_io_fingerprint(lab->disk);

    options.read_only = true;
    dirlab_refused(lab, &options, status, file, what);
    dirlab_refused(lab, NULL, status, file, what);
    assert_true(before == memory_io_fingerprint(lab->disk));
}

/* Two saves, with the tombstones of the first, as after a crash between shard and tombstones. */
static void make_older_tombstones(dirlab *lab)
{
    damage_make_saves(lab, false);
    dirlab_copy(lab, TOMBSTONES, "kept");
    nphd_sharded *sharded = dirlab_open(lab, NULL);
    dirlab_remove(lab, sharded, 14);
    dirlab_upsert(lab, sharded, 22, 1);
    dirlab_close(sharded);
    dirlab_copy(lab, "kept", TOMBSTONES);
}

/* ---- the filter ---- */

/* Without its section a filter is right since its own generation. */
static void test_filter_section(void **state)
{
    dirlab *lab = *state;

    damage_make_saves(lab, true);
    damage_resize(lab, FILTER, NPHDI_SECTION_FILTER, -8);
    dirlab_forget_log(lab);
    nphd_sharded *sharded = dirlab_open(lab, NULL);
    assert_string_equal(lab->log, "");
    /* one that was made anew would not know those that are deleted */
    assert_true(dirlab_stats(sharded).bloom_keys > lab->items.count);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    damage_file file = damage_begin(lab, FILTER);
    nphdi_put32(damage_entry(&file, NPHDI_SECTION_FILTER), 1000);
    damage_end(lab, &file);
    sharded = dirlab_open(lab, NULL);
    assert_string_equal(lab->log, "");
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

static void test_filter_of_a_later_version(void **state)
{
    dirlab *lab = *state;

    damage_make_saves(lab, true);
    damage_version(lab, FILTER);
    dirlab_forget_log(lab);
    nphd_sharded *sharded = dirlab_open(lab, NULL);
    assert_non_null(strstr(lab->log, FILTER ": trailer version 2"));
    assert_non_null(strstr(lab->log, "made anew"));
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    dirlab_forget_log(lab);
    expect_opens(lab);
    assert_string_equal(lab->log, "");
}

/* ---- tombstones ---- */

static void test_tombstones_of_a_later_version(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_options(lab);

    damage_make_saves(lab, true);
    damage_version(lab, TOMBSTONES);
    expect_refused(lab, NPHD_UNSUPPORTED, TOMBSTONES, "version 2");
    options.salvage = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    assert_non_null(strstr(lab->damage, "version 2"));
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    expect_opens(lab);
}

/* The keys in the trailer of the newest shard, which count where the file is older. */
static void test_carried_tombstones(void **state)
{
    dirlab *lab = *state;

    make_older_tombstones(lab);
    expect_opens(lab);
    damage_resize(lab, NEWEST, NPHDI_SECTION_TOMBSTONES, -3);
    expect_refused(lab, NPHD_CORRUPT, NEWEST, "bytes of tombstones");
    dirlab_delete(lab, TOMBSTONES); /* as salvage would take them */
    nphd_sharded_options options = dirlab_options(lab);
    options.salvage = true;
    dirlab_refused(lab, &options, NPHD_CORRUPT, NEWEST, "bytes of tombstones");
}

/* The section of dead entries: of other slots than the shard has, and cut. */
static void test_dead_entries(void **state)
{
    dirlab *lab = *state;

    damage_make_saves(lab, true);
    for (int older = 0; older < 2; older++) {
        dirlab_copy(lab, TOMBSTONES, "whole");
        damage_file file = damage_begin(lab, TOMBSTONES);
        nphdi_put64(damage_section(&file, NPHDI_SECTION_HIDDEN) + 16, 9); /* of 10 */
        damage_end(lab, &file);
        expect_refused(lab, NPHD_CORRUPT, TOMBSTONES, "dead entries of 9 slots");
        dirlab_copy(lab, "whole", TOMBSTONES);
        damage_resize(lab, TOMBSTONES, NPHDI_SECTION_HIDDEN, -8);
        expect_refused(lab, NPHD_CORRUPT, TOMBSTONES, "do not fit in");
        dirlab_copy(lab, "whole", TOMBSTONES);
        damage_resize(lab, TOMBSTONES, NPHDI_SECTION_HIDDEN, -24);
        expect_refused(lab, NPHD_CORRUPT, TOMBSTONES, "cut at");
        dirlab_copy(lab, "whole", TOMBSTONES);
        if (older == 0) {
            expect_opens(lab);
            nphd_sharded *sharded = dirlab_open(lab, NULL);
            dirlab_remove(lab, sharded, 15);
            dirlab_close(sharded);
            dirlab_copy(lab, "whole", TOMBSTONES);
        }
    }
    expect_opens(lab);
}

/* ---- arrays of the reference ---- */

typedef struct array {
    const char *text; /* the dictionary */
    size_t more;      /* bytes behind the head */
    nphd_status status;
    const char *what;
} array;

static void put_array(dirlab *lab, const array *of)
{
    uint8_t data[512] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0};
    const size_t text = strlen(of->text);

    data[8] = (uint8_t)text;
    memcpy(data + 10, of->text, text);
    dirlab_put(lab, TOMBSTONES, data, 10 + text + of->more);
}

static void test_arrays(void **state)
{
    static const array arrays[] = {
        {"{'descr': '<u8', 'fortran_order': False, 'shape': (1,), }\n", 16, NPHD_CORRUPT,
         "do not fill"},
        {"{'descr': '<u8', 'fortran_order': False, 'shape': (1,), }\n", 9, NPHD_CORRUPT,
         "do not fill"},
        {"{'descr': '|V16', 'fortran_order': False, 'shape': (1,), }\n", 16, NPHD_MISMATCH,
         "keys of 128 bits, the shards have 64"},
        {"{'descr': '\x1f\x7fu8', 'fortran_order': False, 'shape': (1,), }\n", 8, NPHD_UNSUPPORTED,
         "items of type '\?\?u8'"},
        {"{'descr': '<u8', 'fortran_order': False, 'shape': (1, }\n", 8, NPHD_UNSUPPORTED,
         "more than one dimension"},
    };
    const nphd_key dead = {0, 5};
    dirlab *lab = *state;
    size_t bytes = 0;

    dirlab_put_shard(lab, FIRST, NULL, 0, 20, 0);
    dirlab_put_shard(lab, SECOND, NULL, 20, 30, 0);
    dirlab_put(lab, "lock", "", 0);
    dirlab_put_bloom(lab, 8);
    for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++) {
        put_array(lab, &arrays[i]);
        expect_refused(lab, arrays[i].status, TOMBSTONES, arrays[i].what);
    }
    /* a head that is longer than the file */
    dirlab_put_tombstones(lab, 8, &dead, 1);
    uint8_t *data = memory_io_get(lab->disk, dirlab_path(TOMBSTONES), &bytes);
    dirlab_put(lab, TOMBSTONES, data, 100);
    free(data);
    expect_refused(lab, NPHD_CORRUPT, TOMBSTONES, "ends beyond the file");
    dirlab_put_tombstones(lab, 8, &dead, 1);
    dirlab_drop(&lab->items, dead);
    expect_opens(lab);
}

/* ---- keys and tables of shards ---- */

/* Each step of recovery that reads keys or looks them up. */
static void test_broken_shards_at_opening(void **state)
{
    dirlab *lab = *state;

    /* what a newer shard replaced, after a crash before the tombstones */
    make_older_tombstones(lab);
    dirlab_copy(lab, NEWEST, "newest");
    dirlab_copy(lab, FIRST, "first");
    damage_key(lab, NEWEST, 3);
    expect_refused(lab, NPHD_CORRUPT, NEWEST, "node 3");
    dirlab_copy(lab, "newest", NEWEST);
    damage_table(lab, FIRST, 35);
    expect_refused(lab, NPHD_CORRUPT, FIRST, "out of bounds");
    dirlab_copy(lab, "first", FIRST);
    damage_table(lab, FIRST, 14); /* a tombstone */
    expect_refused(lab, NPHD_CORRUPT, FIRST, "out of bounds");
    dirlab_copy(lab, "first", FIRST);
    expect_opens(lab);

    /* with the filter of the reference nothing says which entries are dead */
    nphd_sharded *sharded = dirlab_open(lab, NULL);
    dirlab_close(sharded);
    dirlab_put_bloom(lab, 8);
    const nphd_key dead[] = {{0, 2}, {0, 13}, {0, 14}};
    dirlab_put_tombstones(lab, 8, dead, 3);
    expect_opens(lab);
    damage_key(lab, FIRST, 3);
    expect_refused(lab, NPHD_CORRUPT, FIRST, "node 3");
    dirlab_copy(lab, "first", FIRST);
    damage_table(lab, FIRST, 13);
    expect_refused(lab, NPHD_CORRUPT, FIRST, "out of bounds");
    /* a tombstone of a key that the shard which was active has again: it is looked for everywhere
     */
    dirlab_copy(lab, "first", FIRST);
    const nphd_key again[] = {{0, 2}, {0, 13}, {0, 14}, {0, 35}};
    dirlab_put_tombstones(lab, 8, again, 4);
    expect_opens(lab);
    damage_table(lab, FIRST, 35);
    expect_refused(lab, NPHD_CORRUPT, FIRST, "out of bounds");
}

/* What salvage cannot find out about a deleted key where the tombstones, or another shard, are
 * missing. */
static void test_broken_table_beside_a_missing_file(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_options(lab);

    damage_make_saves(lab, true);
    dirlab_copy(lab, TOMBSTONES, "tombstones");
    dirlab_copy(lab, SECOND, "second");
    dirlab_delete(lab, TOMBSTONES);
    options.salvage = true;
    options.read_only = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    damage_table(lab, SECOND, 13);
    dirlab_refused(lab, &options, NPHD_CORRUPT, SECOND, "out of bounds");
    dirlab_copy(lab, "tombstones", TOMBSTONES);
    dirlab_copy(lab, "second", SECOND);

    dirlab_delete(lab, "shard_002.usearch");
    for (uint64_t key = 20; key < 30; key++) {
        dirlab_drop(&lab->items, nphd_key_u64(key));
    }
    const nphd_key replaced = nphd_key_u64(21); /* the newest vector is in the last shard */
    uint8_t bits[8];
    dirlab_set(&lab->items, replaced, dirlab_vector(21, 1, bits));
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    damage_table(lab, SECOND, 13);
    dirlab_refused(lab, &options, NPHD_CORRUPT, SECOND, "out of bounds");
}

/* Shards that call themselves multi: what a newer one has of a key is one more vector. */
static void test_older_tombstones_of_many(void **state)
{
    static const char *const shards[] = {FIRST, SECOND, "shard_002.usearch", NEWEST};
    dirlab *lab = *state;
    size_t count = 0;

    make_older_tombstones(lab);
    for (size_t i = 0; i < 4; i++) {
        damage_file file = damage_begin(lab, shards[i]);
        nphd_index *index = damage_view(&file);
        const uint64_t head = index->content->mapped.head.head_offset;
        nphd_index_close(index);
        file.data[head + 41] = 1;
        damage_end(lab, &file);
    }
    nphd_sharded *sharded = dirlab_open(lab, NULL);
    assert_true(dirlab_stats(sharded).multi);
    OK(nphd_sharded_count(sharded, nphd_key_u64(21), &count, NULL)); /* hidden by the file */
    assert_int_equal(count, 1);
    OK(nphd_sharded_count(sharded, nphd_key_u64(22), &count, NULL));
    assert_int_equal(count, 2);
    assert_false(dirlab_has(sharded, 14));
    assert_int_equal(nphd_sharded_size(sharded), lab->items.count + 1);
    nphd_sharded_free(sharded);
}

/* A filter that has to be made anew reads every key. */
static void test_broken_key_and_filter(void **state)
{
    dirlab *lab = *state;

    damage_make_saves(lab, true);
    damage_key(lab, FIRST, 3);
    nphd_sharded *sharded = dirlab_open(lab, NULL);
    nphd_error err = NPHD_ERROR_INIT;
    uint64_t keys = 9;
    assert_int_equal(nphd_sharded_rebuild_bloom(sharded, &keys, &err), NPHD_CORRUPT);
    assert_non_null(strstr(err.text, FIRST ": node 3"));
    assert_true(dirlab_stats(sharded).bloom);
    assert_true(dirlab_has(sharded, 35));
    nphd_sharded_free(sharded);
    dirlab_delete(lab, FILTER);
    dirlab_refused(lab, NULL, NPHD_CORRUPT, FIRST, "node 3");
}

/* Lookups and changes of a key whose entry leads nowhere. */
static void test_broken_table_and_calls(void **state)
{
    dirlab *lab = *state;
    const nphd_key key = nphd_key_u64(5);
    nphd_error err = NPHD_ERROR_INIT;
    uint8_t bits[NPHD_MAX_BYTES];
    size_t count = 0;
    size_t bytes = 0;

    damage_make_saves(lab, true);
    damage_table(lab, FIRST, 5);
    nphd_sharded *sharded = dirlab_open(lab, NULL);
    assert_int_equal(nphd_sharded_get(sharded, key, bits, sizeof(bits), &bytes, &err),
                     NPHD_CORRUPT);
    assert_non_null(strstr(err.text, FIRST));
    assert_int_equal(bytes, 0);
    assert_int_equal(nphd_sharded_remove(sharded, &key, 1, &count, &err), NPHD_CORRUPT);
    assert_non_null(strstr(err.text, FIRST));
    assert_int_equal(count, 0);
    const nphd_vector vector = dirlab_vector(5, 1, bits);
    assert_int_equal(nphd_sharded_upsert(sharded, &key, &vector, 1, NULL, NULL, &err),
                     NPHD_CORRUPT);
    assert_int_equal(nphd_sharded_dirty(sharded), 0);
    dirlab_remove(lab, sharded, 35); /* all else goes on */
    nphd_sharded_free(sharded);
}

/* A compaction that cannot read a key, or not find one, ends with an error; nothing is lost. */
static void test_broken_shards_and_compaction(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_options(lab);
    nphd_error err = NPHD_ERROR_INIT;
    uint64_t removed = 9;

    damage_make_saves(lab, true);
    dirlab_copy(lab, FIRST, "first");
    damage_key(lab, FIRST, 3);
    const uint64_t shards = memory_io_count(lab->disk, "shard_");
    nphd_sharded *sharded = dirlab_open(lab, NULL);
    assert_int_equal(nphd_sharded_compact(sharded, NULL, &removed, &err), NPHD_CORRUPT);
    assert_non_null(strstr(err.text, FIRST ": node 3"));
    assert_int_equal(removed, 0);
    assert_int_equal(memory_io_count(lab->disk, "shard_"), shards);
    assert_int_equal(nphd_sharded_size(sharded), lab->items.count);
    nphd_sharded_free(sharded);
    dirlab_copy(lab, "first", FIRST);
    expect_opens(lab);

    /* a shard without dead entries stays, and the deleted keys are looked for in it */
    dirlab_copy(lab, NEWEST, "newest");
    damage_table(lab, NEWEST, 2);
    options.shard_bytes = 1;
    sharded = dirlab_open(lab, &options);
    OK(nphd_sharded_rotate(sharded, NULL));
    assert_int_equal(nphd_sharded_compact(sharded, NULL, &removed, &err), NPHD_CORRUPT);
    assert_non_null(strstr(err.text, NEWEST));
    nphd_sharded_free(sharded);
    dirlab_copy(lab, "newest", NEWEST);
    expect_opens(lab);
    sharded = dirlab_open(lab, &options);
    OK(nphd_sharded_compact(sharded, NULL, NULL, NULL));
    assert_int_equal(dirlab_stats(sharded).tombstones, 0);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    OK(nphd_directory_verify(DIRLAB_FOLDER, &lab->fault.table, NULL, NULL, NULL, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_filter_section),
        DIRLAB_TEST(test_filter_of_a_later_version),
        DIRLAB_TEST(test_tombstones_of_a_later_version),
        DIRLAB_TEST(test_carried_tombstones),
        DIRLAB_TEST(test_dead_entries),
        DIRLAB_TEST(test_arrays),
        DIRLAB_TEST(test_broken_shards_at_opening),
        DIRLAB_TEST(test_broken_table_beside_a_missing_file),
        DIRLAB_TEST(test_older_tombstones_of_many),
        DIRLAB_TEST(test_broken_key_and_filter),
        DIRLAB_TEST(test_broken_table_and_calls),
        DIRLAB_TEST(test_broken_shards_and_compaction),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
