/* Salvage of a shard with a damaged block whose levels, keys and lengths are wrong besides, behind
 * checksums that are right: what lies in whole blocks and can be found without what is wrong comes
 * out, with the right bits, and the rest is counted. And directories that cannot be opened at all,
 * of which each shard is taken for itself. */
#include "support/directory_content.h"
#include "support/directory_damage.h"
#include "support/io_watched.h"

#include <errno.h>
#include <stdio.h>

#define OK(call) assert_int_equal((call), NPHD_OK)
#define SHARD "shard_000.usearch"
#define NEW "new"

/* Rows of 256 bytes: block 0 has the first 255 and a part of the next. */
enum { BYTES = 255, ROW = 256, VECTORS = 900, LOST = 256, REMOVED_EVERY = 7 };

static nphd_vector wide_vector(uint64_t key, uint8_t out[BYTES])
{
    test_random random = {key * 1000 + 1};

    test_random_fill(&random, out, BYTES);
    return (nphd_vector){out, BYTES};
}

static bool is_removed(uint64_t key)
{
    return key % REMOVED_EVERY == 3;
}

/* Slot and key are the same number. The graph has many levels. */
static void build(dirlab *lab)
{
    nphd_sharded_options options = dirlab_options(lab);
    uint8_t bits[BYTES];

    options.max_bits = 8 * BYTES;
    options.connectivity = 2;
    options.build_breadth = 8;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    for (uint64_t key = 0; key < VECTORS; key++) {
        OK(nphd_sharded_add(sharded, nphd_key_u64(key), wide_vector(key, bits), NULL, NULL));
    }
    for (uint64_t key = 0; key < VECTORS; key++) {
        const nphd_key number = nphd_key_u64(key);
        if (is_removed(key)) {
            OK(nphd_sharded_remove(sharded, &number, 1, NULL, NULL));
        }
    }
    dirlab_close(sharded);
}

static uint64_t count_between(uint64_t from, uint64_t to)
{
    uint64_t count = 0;

    for (uint64_t key = from; key < to; key++) {
        count += is_removed(key) ? 0 : 1;
    }
    return count;
}

static void clear_new(dirlab *lab)
{
    char name[128];

    for (size_t i = 0; memory_io_name(lab->disk, i, name, sizeof(name));) {
        if (strncmp(name, NEW "/", strlen(NEW "/")) == 0) {
            assert_int_equal(lab->fault.table.remove(lab->fault.table.context, name), 0);
        } else {
            i++;
        }
    }
}

static void count_told(void *context, const char *text)
{
    assert_non_null(strstr(text, DIRLAB_FOLDER));
    (*(size_t *)context)++;
}

/* What salvage of the directory gives, open for reading. */
static nphd_sharded *salvage(dirlab *lab, nphd_salvage_report *out)
{
    nphd_sharded_options options = dirlab_options(lab);
    nphd_sharded *sharded = NULL;
    nphd_error err = NPHD_ERROR_INIT;
    size_t told = 0;

    clear_new(lab);
    if (nphd_directory_salvage(DIRLAB_FOLDER, NEW, &lab->fault.table, count_told, &told, out,
                               &err) != NPHD_OK) {
        fail_msg("salvage: %s", err.text);
    }
    assert_int_equal(out->files, told);
    options.read_only = true;
    OK(nphd_sharded_open(NEW, &options, &sharded, NULL));
    assert_int_equal(nphd_sharded_size(sharded), out->vectors);
    return sharded;
}

/* Exactly the vectors of from..VECTORS-1 that were not removed, but `without`; right bits. */
static void expect_from(dirlab *lab, uint64_t from, uint64_t without)
{
    nphd_salvage_report report;
    nphd_sharded *sharded = salvage(lab, &report);
    uint8_t expected[BYTES];
    uint8_t bits[BYTES];
    size_t bytes = 0;

    for (uint64_t key = 0; key < VECTORS; key++) {
        const bool there = key >= from && !is_removed(key) && key != without;
        const nphd_status status =
            nphd_sharded_get(sharded, nphd_key_u64(key), bits, sizeof(bits), &bytes, NULL);
        if ((status == NPHD_OK) != there) {
            fail_msg("key %llu: %s", (unsigned long long)key, nphd_status_name(status));
        }
        if (there) {
            assert_memory_equal(bits, wide_vector(key, expected).data, BYTES);
        }
    }
    assert_int_equal(report.vectors,
                     count_between(from, VECTORS) - (without < VECTORS && without >= from));
    dirlab_close(sharded);
}

/* Not repaired: the rows of block 0 are lost. */
static void damage_first_block(dirlab *lab)
{
    dirlab_damage(lab, SHARD, 1000);
}

static void set_level(damage_file *file, uint32_t slot, int16_t level)
{
    nphd_index *index = damage_view(file);
    const uint8_t *levels = index->content->mapped.levels;

    nphdi_put16(file->data + (levels - file->data) + 2 * (size_t)slot, (uint16_t)level);
    nphd_index_close(index);
}

/* ---- one shard ---- */

static void test_rows(void **state)
{
    dirlab *lab = *state;

    build(lab);
    damage_first_block(lab);
    expect_from(lab, LOST, VECTORS);
}

/* A vector without length is none. */
static void test_empty_row(void **state)
{
    dirlab *lab = *state;

    build(lab);
    damage_file file = damage_begin(lab, SHARD);
    file.data[8 + ROW * 400] = 0;
    damage_end(lab, &file);
    damage_first_block(lab);
    expect_from(lab, LOST, 400);
}

/* A negative level: the slots behind it are found by the directory, one of 64 for itself. */
static void test_negative_level(void **state)
{
    dirlab *lab = *state;

    build(lab);
    damage_file file = damage_begin(lab, SHARD);
    set_level(&file, 448, -5);
    damage_end(lab, &file);
    damage_first_block(lab);
    nphd_salvage_report report;
    nphd_sharded *sharded = salvage(lab, &report);
    /* of its own 64 those whose place is counted over it may be lost, of others none */
    assert_true(report.vectors >= count_between(LOST, 448) + count_between(512, VECTORS));
    assert_true(report.vectors <= count_between(LOST, VECTORS));
    dirlab_close(sharded);
}

/* A level beyond all: what follows ends outside the nodes but for those that the directory has. */
static void test_huge_level(void **state)
{
    dirlab *lab = *state;

    build(lab);
    damage_file file = damage_begin(lab, SHARD);
    set_level(&file, 448, INT16_MAX);
    damage_end(lab, &file);
    damage_first_block(lab);
    nphd_salvage_report report;
    nphd_sharded *sharded = salvage(lab, &report);
    assert_true(report.unreadable >= count_between(0, LOST));
    assert_true(report.vectors >= count_between(LOST, 448) + count_between(512, VECTORS));
    assert_true(report.vectors < count_between(LOST, VECTORS));
    dirlab_close(sharded);
}

/* A level that is too high by so much that the last node would begin inside the nodes and end
 * behind them: the directory has its right place. */
static void test_node_over_the_end(void **state)
{
    dirlab *lab = *state;

    build(lab);
    damage_file file = damage_begin(lab, SHARD);
    nphd_index *index = damage_view(&file);
    const uint8_t *levels = index->content->mapped.levels;
    const int16_t before = (int16_t)nphdi_get16(levels + 2 * (VECTORS - 2));
    const int16_t last = (int16_t)nphdi_get16(levels + 2 * (VECTORS - 1));
    nphd_index_close(index);
    set_level(&file, VECTORS - 2, (int16_t)(before + last + 1));
    damage_end(lab, &file);
    damage_first_block(lab);
    expect_from(lab, LOST, VECTORS);
}

/* A file of another writer without a node directory: places are counted from the levels. */
static void test_without_directory(void **state)
{
    dirlab *lab = *state;

    build(lab);
    damage_file file = damage_begin(lab, SHARD);
    nphdi_put32(damage_entry(&file, NPHDI_SECTION_NODE_DIRECTORY), 1000);
    damage_end(lab, &file);
    dirlab_copy(lab, SHARD, "kept");
    damage_first_block(lab);
    expect_from(lab, LOST, VECTORS);
    /* without the levels nothing says where a node is */
    dirlab_copy(lab, "kept", SHARD);
    file = damage_begin(lab, SHARD);
    nphd_index *index = damage_view(&file);
    const long levels = (long)(index->content->mapped.levels - file.data);
    nphd_index_close(index);
    free(file.data);
    dirlab_damage(lab, SHARD, levels); /* of slot 0, and of the block of all others */
    nphd_salvage_report report;
    size_t told = 0;
    clear_new(lab);
    OK(nphd_directory_salvage(DIRLAB_FOLDER, NEW, &lab->fault.table, count_told, &told, &report,
                              NULL));
    assert_int_equal(report.vectors, 0);
    assert_int_equal(report.unreadable, VECTORS);
    assert_int_equal(told, 1);
}

/* ---- directories ---- */

/* The tombstones cannot be had in any way: every shard is taken as it is, damaged blocks, a later
 * version and all. */
static void test_each_shard_for_itself(void **state)
{
    dirlab *lab = *state;
    nphd_salvage_report report;

    damage_make_saves(lab, true);
    damage_resize(lab, "shard_003.usearch", NPHDI_SECTION_TOMBSTONES, -3);
    dirlab_delete(lab, "tombstones.npy");
    nphd_sharded *sharded = salvage(lab, &report);
    /* deletions are lost with the tombstones, the newest vector of each key counts */
    assert_int_equal(report.vectors, 40);
    dirlab_item *item = dirlab_find(&lab->items, nphd_key_u64(21));
    uint8_t bits[8];
    size_t bytes = 0;
    OK(nphd_sharded_get(sharded, nphd_key_u64(21), bits, sizeof(bits), &bytes, NULL));
    assert_memory_equal(bits, item->data, 8);
    dirlab_close(sharded);

    damage_version(lab, "shard_001.usearch");
    sharded = salvage(lab, &report);
    assert_int_equal(report.vectors, 30);
    assert_true(report.files >= 2);
    dirlab_close(sharded);

    dirlab_damage(lab, "shard_002.usearch", 60); /* one block: all of it */
    sharded = salvage(lab, &report);
    assert_int_equal(report.vectors, 21); /* and key 21, which is in the last too */
    assert_int_equal(report.unreadable, 10);
    dirlab_close(sharded);

    const uint64_t files = report.files;
    dirlab_damage(lab, "shard_002.usearch", 0); /* what its first bytes say, as well */
    sharded = salvage(lab, &report);
    assert_int_equal(report.vectors, 21);
    assert_int_equal(report.unreadable, 0);
    assert_int_equal(report.files, files + 2); /* left out, and so missing; its blocks only once */
    dirlab_close(sharded);
}

/* Shards of two widths are no index, and are two that can be read. */
static void test_shards_of_two_widths(void **state)
{
    dirlab *lab = *state;
    nphd_index_options wide = NPHD_INDEX_OPTIONS_INIT;
    nphd_salvage_report report;

    wide.max_bits = 128;
    dirlab_put_shard(lab, SHARD, NULL, 0, 10, 0);
    dirlab_put_shard(lab, "shard_001.usearch", &wide, 10, 20, 0);
    dirlab_refused(lab, NULL, NPHD_MISMATCH, "shard_001.usearch", "width");
    nphd_sharded *sharded = salvage(lab, &report);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* The same of keys with several vectors: all of them count, and the new directory is of that kind.
 */
static void test_many_of_two_widths(void **state)
{
    dirlab *lab = *state;
    nphd_index_options narrow = NPHD_INDEX_OPTIONS_INIT;
    nphd_index_options wide = NPHD_INDEX_OPTIONS_INIT;
    nphd_salvage_report report;

    narrow.max_bits = 64;
    narrow.multi = true;
    wide.max_bits = 128;
    wide.multi = true;
    dirlab_put_shard(lab, SHARD, &narrow, 0, 10, 0);
    dirlab_put_shard(lab, "shard_001.usearch", &wide, 5, 15, 1);
    dirlab_refused(lab, NULL, NPHD_MISMATCH, "shard_001.usearch", "width");
    nphd_sharded *sharded = salvage(lab, &report);
    assert_true(dirlab_stats(sharded).multi);
    assert_int_equal(report.vectors, 20);
    for (uint64_t key = 0; key < 15; key++) {
        size_t count = 0;
        OK(nphd_sharded_count(sharded, nphd_key_u64(key), &count, NULL));
        assert_int_equal(count, key >= 5 && key < 10 ? 2 : 1);
    }
    dirlab_close(sharded);
}

/* ---- files that change meanwhile ---- */

typedef struct changing {
    watched_io io; /* first: its functions are called with this as their context */
    nphd_io table;
    const char *name;
    const char *instead; /* NULL: it is gone */
    uint64_t opened;
    uint64_t at; /* from this opening of it on */
    bool once;   /* at that one alone */
} changing;

static bool is_changed(const changing *of)
{
    return of->once ? of->opened == of->at : of->opened >= of->at;
}

static int open_changing(void *context, const char *path, int how, nphd_file *out)
{
    changing *of = context;

    const bool meant = strcmp(path, dirlab_path(of->name)) == 0;

    of->opened += meant ? 1 : 0;
    if (meant && is_changed(of)) {
        if (of->instead == NULL) {
            return ENOENT;
        }
        path = dirlab_path(of->instead);
    }
    return of->io.below->open(of->io.below->context, path, how, out);
}

typedef struct listing {
    const changing *of;
    int (*visit)(void *visit_context, const char *name);
    void *context;
} listing;

static int visit_others(void *context, const char *name)
{
    const listing *all = context;
    const changing *of = all->of;
    const bool gone = of->instead == NULL && is_changed(of) && strcmp(name, of->name) == 0;

    return gone ? 0 : all->visit(all->context, name);
}

static int list_changing(void *context, const char *path,
                         int (*visit)(void *visit_context, const char *name), void *visit_context)
{
    const changing *of = context;
    listing all = {of, visit, visit_context};

    return of->io.below->list(of->io.below->context, path, visit_others, &all);
}

/* Salvage while that file changes at opening number `n` of it; false: it is opened fewer times. */
static bool salvage_changing(dirlab *lab, const char *name, const char *instead, bool once,
                             uint64_t n, nphd_status *out_status, nphd_salvage_report *out,
                             nphd_error *err)
{
    size_t told = 0;
    changing of;

    memset(&of, 0, sizeof(of));
    watched_init(&of.io, &lab->fault.table);
    of.table = of.io.table;
    of.table.open = open_changing;
    of.table.list = list_changing;
    of.name = name;
    of.instead = instead;
    of.at = n;
    of.once = once;
    clear_new(lab);
    *out_status =
        nphd_directory_salvage(DIRLAB_FOLDER, NEW, &of.table, count_told, &told, out, err);
    assert_int_equal(out->files, told);
    (void)pthread_mutex_destroy(&of.io.mutex);
    (void)pthread_cond_destroy(&of.io.changed);
    return of.opened >= n;
}

/* Whenever a shard goes away while salvage is at work, of a directory that opens and of one that
 * does not: what is missing of its vectors is told, or the whole call says which file it was. */
static void test_shard_goes_away(void **state)
{
    dirlab *lab = *state;

    damage_make_saves(lab, true);
    for (int opens = 1; opens >= 0; opens--) {
        nphd_salvage_report calm;
        nphd_salvage_report report;
        nphd_status status;
        bool more = true;
        size_t missed = 0;
        if (opens == 0) {
            damage_resize(lab, "shard_003.usearch", NPHDI_SECTION_TOMBSTONES, -3);
            dirlab_delete(lab, "tombstones.npy");
        }
        dirlab_close(salvage(lab, &calm));
        for (uint64_t n = 1; more; n++) {
            nphd_error err = NPHD_ERROR_INIT;
            more =
                salvage_changing(lab, "shard_001.usearch", NULL, false, n, &status, &report, &err);
            if (status != NPHD_OK) {
                assert_int_equal(status, NPHD_NOT_FOUND);
                assert_non_null(strstr(err.text, "shard_001.usearch"));
            } else if (report.vectors != calm.vectors) {
                assert_true(more);
                assert_true(report.vectors >= calm.vectors - 10);
                assert_true(report.files > calm.files);
                missed++;
            }
        }
        assert_true(missed > 0);
    }
}

/* The newest shard, which alone has the tombstones, becomes one of a later version, for good or for
 * a moment: all others are taken, and that one where it can be read. */
static void test_shard_of_a_later_version_meanwhile(void **state)
{
    dirlab *lab = *state;
    nphd_salvage_report calm;
    nphd_salvage_report report;
    nphd_status status;
    size_t alone = 0;

    damage_make_saves(lab, true);
    dirlab_copy(lab, "shard_003.usearch", "later");
    damage_version(lab, "later");
    dirlab_delete(lab, "tombstones.npy");
    dirlab_close(salvage(lab, &calm));
    assert_int_equal(calm.vectors, lab->items.count);
    for (int once = 0; once < 2; once++) {
        bool more = true;
        for (uint64_t n = 1; more; n++) {
            nphd_error err = NPHD_ERROR_INIT;
            more = salvage_changing(lab, "shard_003.usearch", "later", once != 0, n, &status,
                                    &report, &err);
            assert_int_equal(status, NPHD_OK);
            assert_true(report.files > 0);
            /* without its tombstones nothing says what was deleted */
            if (report.vectors == 40) {
                alone++;
            } else if (report.vectors != 30) {
                assert_int_equal(report.vectors, calm.vectors);
            }
            assert_true(more || report.vectors == calm.vectors);
        }
    }
    assert_true(alone > 0); /* the directory did not open, each of its shards did */
}

/* A shard of another index under a number that it does not have, newer than all of ours. */
static void test_shard_of_another_index(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *other = NULL;
    nphd_salvage_report report;
    size_t bytes = 0;
    uint8_t bits[8];

    damage_make_saves(lab, true);
    OK(nphd_sharded_open("other", &options, &other, NULL));
    for (uint64_t key = 0; key < 12; key++) {
        OK(nphd_sharded_add(other, nphd_key_u64(900 + key), dirlab_vector(key, 0, bits), NULL,
                            NULL));
        OK(nphd_sharded_rotate(other, NULL));
    }
    dirlab_close(other);
    uint8_t *data = memory_io_get(lab->disk, "other/shard_011.usearch", &bytes);
    assert_non_null(data);
    dirlab_put(lab, "shard_012.usearch", data, bytes);
    free(data);
    nphd_sharded *sharded = salvage(lab, &report);
    dirlab_expect(lab, sharded);
    assert_int_equal(report.files, 1);
    dirlab_close(sharded);
}

/* A table that knows no directories can neither look nor salvage. */
static void test_shorter_table(void **state)
{
    dirlab *lab = *state;
    nphd_metadata metadata = NPHD_METADATA_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_io table = lab->fault.table;

    damage_make_saves(lab, true);
    table.list = NULL;
    assert_int_equal(nphd_directory_salvage(DIRLAB_FOLDER, NEW, &table, NULL, NULL, NULL, &err),
                     NPHD_UNSUPPORTED);
    assert_non_null(strstr(err.text, "lacks list"));
    assert_int_equal(nphd_directory_metadata(DIRLAB_FOLDER, &table, &metadata, &err),
                     NPHD_UNSUPPORTED);
    assert_non_null(strstr(err.text, "lacks list"));
    assert_int_equal(memory_io_count(lab->disk, NEW "/"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_rows),
        DIRLAB_TEST(test_empty_row),
        DIRLAB_TEST(test_negative_level),
        DIRLAB_TEST(test_huge_level),
        DIRLAB_TEST(test_without_directory),
        DIRLAB_TEST(test_each_shard_for_itself),
        DIRLAB_TEST(test_shards_of_two_widths),
        DIRLAB_TEST(test_shard_of_another_index),
        DIRLAB_TEST(test_shorter_table),
        DIRLAB_TEST(test_node_over_the_end),
        DIRLAB_TEST(test_many_of_two_widths),
        DIRLAB_TEST(test_shard_goes_away),
        DIRLAB_TEST(test_shard_of_a_later_version_meanwhile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
