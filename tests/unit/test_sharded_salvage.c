/* Salvage: whatever single place of a directory is damaged, or whichever file is missing, all that
 * can be read is in the new directory, with the right bits, and nothing else. */
#include "formats/shard_record.h"
#include "index/index_shard.h"
#include "support/directory_content.h"
#include "support/directory_lab.h"

#include <errno.h>
#include <stdio.h>

#define OK(call) assert_int_equal((call), NPHD_OK)
#define NEW "new"

enum { BYTES = 255, PER_SHARD = 900, SECOND = 1000, JOURNALED = 3000, BLOCK = 65536, ROW = 256 };

/* ---- the directory: shard 0, shard 1 with changes to it, and a journal ---- */

static nphd_vector vector_of(uint64_t key, uint64_t version, uint8_t out[BYTES])
{
    test_random random = {key * 1000 + version};

    test_random_fill(&random, out, BYTES);
    return (nphd_vector){out, BYTES};
}

static bool was_removed(uint64_t key)
{
    return (key >= 10 && key < 15) || key == SECOND + 5;
}

static bool was_replaced(uint64_t key)
{
    return key >= 20 && key < 25;
}

static uint64_t version_of(uint64_t key)
{
    return was_replaced(key) || key == 30 ? 1 : 0;
}

static void put(nphd_sharded *sharded, uint64_t from, uint64_t to, uint64_t version)
{
    uint8_t bits[BYTES];

    for (uint64_t key = from; key < to; key++) {
        const nphd_key number = nphd_key_u64(key);
        const nphd_vector vector = vector_of(key, version, bits);
        OK(nphd_sharded_upsert(sharded, &number, &vector, 1, NULL, NULL, NULL));
    }
}

static void take_out(nphd_sharded *sharded, uint64_t from, uint64_t to)
{
    for (uint64_t key = from; key < to; key++) {
        const nphd_key number = nphd_key_u64(key);
        OK(nphd_sharded_remove(sharded, &number, 1, NULL, NULL));
    }
}

static uint64_t build(dirlab *lab)
{
    nphd_sharded_options options = dirlab_options(lab);

    options.max_bits = 8 * BYTES;
    options.connectivity = 4;
    options.build_breadth = 8;
    options.journal = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    put(sharded, 0, PER_SHARD, 0);
    OK(nphd_sharded_rotate(sharded, NULL));
    put(sharded, SECOND, SECOND + PER_SHARD, 0);
    take_out(sharded, 10, 15);
    put(sharded, 20, 25, 1);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    put(sharded, JOURNALED, JOURNALED + 10, 0);
    take_out(sharded, SECOND + 5, SECOND + 6);
    put(sharded, 30, 31, 1);
    OK(nphd_sharded_commit(sharded, NULL));
    const uint64_t count = nphd_sharded_size(sharded);
    nphd_sharded_free(sharded);
    assert_int_equal(count, 2 * PER_SHARD - 5 - 1 + 10);
    return count;
}

/* ---- what comes out ---- */

typedef struct outcome {
    nphd_salvage_report report;
    directory_content content;
    size_t told;
    char first[256];
} outcome;

static void note_damage(void *context, const char *text)
{
    outcome *of = context;

    if (of->told++ == 0) {
        (void)snprintf(of->first, sizeof(of->first), "%s", text);
    }
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

/* Salvages, and checks what must hold after any damage: `older`, an old vector may stand in for one
 * that was lost. */
static void salvage(dirlab *lab, outcome *out, bool older)
{
    nphd_sharded_options options = dirlab_options(lab);
    nphd_sharded *sharded = NULL;
    nphd_error err = NPHD_ERROR_INIT;
    uint8_t bits[BYTES];

    clear_new(lab);
    memset(out, 0, sizeof(*out));
    if (nphd_directory_salvage(DIRLAB_FOLDER, NEW, &lab->fault.table, note_damage, out,
                               &out->report, &err) != NPHD_OK) {
        fail_msg("salvage: %s", err.text);
    }
    OK(nphd_directory_verify(NEW, &lab->fault.table, NULL, NULL, NULL, NULL));
    OK(nphd_sharded_open(NEW, &options, &sharded, NULL));
    content_take(sharded, &out->content);
    OK(nphd_sharded_close(sharded, NULL));
    nphd_sharded_free(sharded);
    assert_int_equal(out->report.vectors, out->content.count);
    assert_int_equal(out->report.files, out->told);
    for (size_t i = 0; i < out->content.count; i++) {
        const content_entry *entry = &out->content.entries[i];
        const uint64_t key = entry->key.low;
        assert_int_equal(entry->bytes, BYTES);
        if (was_removed(key)) {
            fail_msg("key %llu is back", (unsigned long long)key);
        }
        const nphd_vector right = vector_of(key, version_of(key), bits);
        if (memcmp(entry->data, right.data, BYTES) != 0) {
            assert_true(older && (was_replaced(key) || key == 30));
            assert_memory_equal(entry->data, vector_of(key, 0, bits).data, BYTES);
        }
    }
}

static void expect_whole(dirlab *lab, uint64_t count, uint64_t files)
{
    outcome out;

    salvage(lab, &out, false);
    assert_int_equal(out.content.count, count);
    assert_int_equal(out.report.unreadable, 0);
    assert_int_equal(out.report.files, files);
    content_free(&out.content);
}

typedef struct kept_file {
    const char *name;
    uint8_t *data;
    size_t bytes;
} kept_file;

static kept_file keep(const dirlab *lab, const char *name)
{
    kept_file file = {name, NULL, 0};

    file.data = memory_io_get(lab->disk, dirlab_path(name), &file.bytes);
    assert_non_null(file.data);
    return file;
}

static void restore(dirlab *lab, kept_file *file)
{
    dirlab_put(lab, file->name, file->data, file->bytes);
}

/* ---- shards ---- */

/* Rows of a shard that touch a block. */
static uint64_t rows_in(size_t block)
{
    const size_t first = block * BLOCK < 8 ? 0 : (block * BLOCK - 8) / ROW;
    const size_t last = ((block + 1) * BLOCK - 8 - 1) / ROW;

    return (last < PER_SHARD - 1 ? last : PER_SHARD - 1) - first + 1;
}

/* One byte in each block. Blocks with rows alone cost these rows, any other at most what it has. */
static void damage_blocks(dirlab *lab, const char *name, uint64_t count)
{
    kept_file file = keep(lab, name);
    const size_t rows_end = 8 + (size_t)ROW * PER_SHARD;
    outcome out;

    assert_true(file.bytes > 3 * (size_t)BLOCK);
    for (size_t block = 0; block * BLOCK < file.bytes; block++) {
        const size_t end = (block + 1) * BLOCK < file.bytes ? (block + 1) * BLOCK : file.bytes;
        const bool last = end == file.bytes;
        if (last) {
            break;
        }
        dirlab_damage(lab, name, (long)(block * BLOCK + 1000));
        salvage(lab, &out, false);
        assert_non_null(strstr(out.first, name));
        assert_int_equal(out.report.files, 1);
        if (end <= rows_end) {
            assert_true(out.report.unreadable >= rows_in(block) - 12);
            assert_true(out.report.unreadable <= rows_in(block));
        }
        assert_true(out.report.unreadable > 0);
        assert_true(out.content.count + out.report.unreadable >= count);
        assert_true(out.content.count < count);
        content_free(&out.content);
        restore(lab, &file);
    }
    free(file.data);
}

static void test_blocks(void **state)
{
    dirlab *lab = *state;
    const uint64_t count = build(lab);

    expect_whole(lab, count, 0);
    damage_blocks(lab, "shard_000.usearch", count);
    damage_blocks(lab, "shard_001.usearch", count);
    expect_whole(lab, count, 0);
}

/* Places that a shard cannot be opened without: it is left out, and all else is there. */
static void test_heads_and_ends(void **state)
{
    static const long places[] = {0, 4, -1, -40, -64};
    static const char *const names[] = {"shard_000.usearch", "shard_001.usearch"};
    dirlab *lab = *state;
    const uint64_t count = build(lab);
    outcome out;

    for (size_t shard = 0; shard < 2; shard++) {
        kept_file file = keep(lab, names[shard]);
        for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
            dirlab_damage(lab, names[shard], places[i]);
            salvage(lab, &out, shard == 1);
            assert_true(out.content.count >= count - PER_SHARD - 5);
            assert_non_null(strstr(out.first, names[shard]));
            assert_true(out.report.files >= 1);
            content_free(&out.content);
            restore(lab, &file);
        }
        dirlab_delete(lab, names[shard]);
        salvage(lab, &out, shard == 1);
        assert_true(out.content.count >= count - PER_SHARD - 5);
        assert_true(out.report.files >= 1);
        content_free(&out.content);
        restore(lab, &file);
        free(file.data);
    }
    expect_whole(lab, count, 0);
}

/* The newest shard without its record: its rows are as good as before. */
static void test_lost_record(void **state)
{
    dirlab *lab = *state;
    const uint64_t count = build(lab);
    kept_file file = keep(lab, "shard_001.usearch");
    outcome out;
    nphdi_trailer trailer;
    bool found = false;

    OK(nphdi_file_trailer(&lab->fault.table, dirlab_path(file.name), &trailer, &found, NULL));
    const nphdi_trailer_section *record = nphdi_trailer_find(&trailer, NPHDI_SECTION_SHARDS);
    assert_non_null(record);
    dirlab_damage(lab, file.name, (long)record->offset);
    salvage(lab, &out, true);
    /* the rows of the first two blocks, whatever is in the one with the record */
    assert_true(out.content.count >= count - PER_SHARD + 2 * BLOCK / ROW - 10);
    content_free(&out.content);
    free(file.data);
}

/* ---- the other files ---- */

static void test_other_files(void **state)
{
    static const char *const names[] = {"bloom.isbf", "tombstones.npy"};
    dirlab *lab = *state;
    const uint64_t count = build(lab);

    for (size_t i = 0; i < 2; i++) {
        kept_file file = keep(lab, names[i]);
        const long bytes = (long)file.bytes;
        const long places[] = {0, 9, bytes / 2, bytes - 200, bytes - 100, bytes - 1};
        for (size_t j = 0; j < sizeof(places) / sizeof(places[0]); j++) {
            outcome out;
            dirlab_damage(lab, names[i], places[j]);
            salvage(lab, &out, false); /* deletions are in the shard too */
            assert_int_equal(out.content.count, count);
            assert_int_equal(out.report.unreadable, 0);
            assert_true(i == 0 || out.report.files == 1);
            content_free(&out.content);
            restore(lab, &file);
        }
        dirlab_delete(lab, names[i]);
        outcome out;
        salvage(lab, &out, false);
        assert_int_equal(out.content.count, count);
        content_free(&out.content);
        restore(lab, &file);
        free(file.data);
    }
}

static void test_journal(void **state)
{
    dirlab *lab = *state;
    const uint64_t count = build(lab);
    kept_file file = keep(lab, "journal_00000003");
    const long places[] = {0, 20, 4100, 4200, -1};

    assert_true(file.bytes >= 8192);
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        nphd_salvage_report report;
        dirlab_damage(lab, file.name, places[i]);
        clear_new(lab);
        OK(nphd_directory_salvage(DIRLAB_FOLDER, NEW, &lab->fault.table, NULL, NULL, &report,
                                  NULL));
        /* the last save: without what was added since, with what was removed */
        assert_int_equal(report.vectors, count - 10 + 1);
        assert_int_equal(report.unreadable, 0);
        assert_int_equal(report.files, 1); /* no interrupted commit leaves such a frame */
        nphd_sharded_options options = dirlab_options(lab);
        nphd_sharded *sharded = NULL;
        OK(nphd_sharded_open(NEW, &options, &sharded, NULL));
        assert_false(dirlab_has(sharded, 12)); /* deleted in a save that is whole */
        assert_true(dirlab_has(sharded, SECOND + 5));
        OK(nphd_sharded_close(sharded, NULL));
        nphd_sharded_free(sharded);
        restore(lab, &file);
    }
    free(file.data);
}

/* What an interrupted compaction left behind is not taken for data. */
static void test_leftovers(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    nphd_salvage_report report;

    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 10, 20);
    OK(nphd_sharded_rotate(sharded, NULL));
    for (uint64_t key = 0; key < 9; key++) {
        dirlab_remove(lab, sharded, key);
    }
    OK(nphd_sharded_save(sharded, NULL, NULL));
    kept_file old = keep(lab, "shard_000.usearch");
    OK(nphd_sharded_compact(sharded, NULL, NULL, NULL));
    dirlab_close(sharded);
    assert_false(dirlab_exists(lab, "shard_000.usearch"));
    restore(lab, &old);
    OK(nphd_directory_salvage(DIRLAB_FOLDER, NEW, &lab->fault.table, NULL, NULL, &report, NULL));
    assert_int_equal(report.vectors, lab->items.count);
    assert_int_equal(report.files, 0);
    free(old.data);
}

/* ---- the call itself ---- */

static void test_arguments(void **state)
{
    dirlab *lab = *state;
    nphd_salvage_report report;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_sharded *sharded;

    assert_int_equal(
        nphd_directory_salvage("none", NEW, &lab->fault.table, NULL, NULL, &report, &err),
        NPHD_NOT_FOUND);
    assert_int_equal(memory_io_has_directory(lab->disk, NEW), 0);
    assert_int_equal(
        nphd_directory_salvage(DIRLAB_FOLDER, NEW, &lab->fault.table, NULL, NULL, &report, &err),
        NPHD_NOT_FOUND);
    sharded = dirlab_open(lab, NULL);
    dirlab_add(lab, sharded, 0, 10);
    dirlab_close(sharded);
    memory_io_put(lab->disk, NEW "/x", "x", 1);
    assert_int_equal(
        nphd_directory_salvage(DIRLAB_FOLDER, NEW, &lab->fault.table, NULL, NULL, &report, &err),
        NPHD_EXISTS);
}

/* The source is the same after as before, byte for byte. */
static void test_source_is_not_changed(void **state)
{
    dirlab *lab = *state;
    outcome out;

    (void)build(lab);
    dirlab_damage(lab, "shard_000.usearch", 3000);
    dirlab_damage(lab, "tombstones.npy", 3);
    dirlab_damage(lab, "journal_00000003", 20);
    OK(lab->fault.table.make_directory(lab->fault.table.context, NEW));
    const uint64_t before = memory_io_fingerprint(lab->disk);
    OK(nphd_directory_salvage(DIRLAB_FOLDER, NEW, &lab->fault.table, note_damage, &out, NULL,
                              NULL));
    clear_new(lab);
    assert_int_equal(memory_io_fingerprint(lab->disk), before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_blocks),      DIRLAB_TEST(test_heads_and_ends),
        DIRLAB_TEST(test_lost_record), DIRLAB_TEST(test_other_files),
        DIRLAB_TEST(test_journal),     DIRLAB_TEST(test_leftovers),
        DIRLAB_TEST(test_arguments),   DIRLAB_TEST(test_source_is_not_changed),
    };

    return cmocka_run_group_tests_name("salvage", tests, NULL, NULL);
}
