/* What readers and salvage meet that is there for a moment only, or does not belong. */
#include "support/directory_damage.h"
#include "support/io_watched.h"

#include <errno.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

/* ---- a journal that a writer created, was killed, and the next writer deleted ---- */

typedef struct coming {
    watched_io io; /* first: its functions are called with this as their context */
    dirlab *lab;
    int lists;
} coming;

static int list_coming(void *context, const char *path,
                       int (*visit)(void *visit_context, const char *name), void *visit_context)
{
    coming *of = context;
    const bool between = ++of->lists == 2;

    if (between) {
        dirlab_put(of->lab, "journal_00000022", "", 0);
    }
    const int answer = of->io.below->list(of->io.below->context, path, visit, visit_context);
    if (between) {
        dirlab_delete(of->lab, "journal_00000022");
    }
    return answer;
}

static void test_reader_meets_a_journal_that_goes(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    coming of;

    dirlab_add(lab, sharded, 0, 10);
    dirlab_close(sharded);
    memset(&of, 0, sizeof(of));
    watched_init(&of.io, &lab->fault.table);
    nphd_io table = of.io.table;
    table.list = list_coming;
    of.lab = lab;
    options.read_only = true;
    options.io = &table;
    sharded = dirlab_open(lab, &options);
    assert_true(of.lists >= 3);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    (void)pthread_mutex_destroy(&of.io.mutex);
    (void)pthread_cond_destroy(&of.io.changed);
}

/* ---- between two files of a save ---- */

/* As a reader finds it that opens at that moment: nothing is wrong, and nothing is told. */
static void test_reader_in_the_middle_of_a_save(void **state)
{
    for (int kind = 0; kind < 4; kind++) {
        dirlab *lab = *state;
        nphd_sharded_options options =
            (kind & 1) != 0 ? dirlab_with_journal(lab) : dirlab_small(lab);
        nphd_sharded_options reading = options;
        nphd_sharded *sharded;
        nphd_status status = NPHD_IO;
        uint64_t key = 0;

        options.background_rotation = false;
        reading.read_only = true;
        reading.journal = false;
        sharded = dirlab_open(lab, &options);
        dirlab_add(lab, sharded, 1000 * (uint64_t)kind, 1000 * (uint64_t)kind + 60);
        OK(nphd_sharded_rotate(sharded, NULL));
        dirlab_add(lab, sharded, 1000 * (uint64_t)kind + 60, 1000 * (uint64_t)kind + 90);
        OK(nphd_sharded_rotate(sharded, NULL));
        dirlab_add(lab, sharded, 1000 * (uint64_t)kind + 90, 1000 * (uint64_t)kind + 99);
        dirlab_remove(lab, sharded, 1000 * (uint64_t)kind + 40);
        OK(nphd_sharded_save(sharded, NULL, NULL));
        for (uint64_t n = 1; status != NPHD_OK; n++) {
            nphd_sharded *reader;
            dirlab_remove(lab, sharded, 1000 * (uint64_t)kind + key++);
            dirlab_upsert(lab, sharded, 1000 * (uint64_t)kind + 50, (uint8_t)n);
            OK((kind & 1) != 0 ? nphd_sharded_commit(sharded, NULL) : NPHD_OK);
            io_fault_arm(&lab->fault, (kind & 2) != 0 ? IO_FAULT_SYNC_DIRECTORY : IO_FAULT_RENAME,
                         n, EIO, true);
            status = nphd_sharded_compact(sharded, NULL, NULL, NULL); /* which saves, twice */
            io_fault_disarm(&lab->fault);
            lab->log[0] = '\0';
            reader = dirlab_open(lab, &reading);
            assert_string_equal(lab->log, "");
            dirlab_close(reader);
        }
        dirlab_expect(lab, sharded);
        dirlab_close(sharded);
    }
}

/* ---- a journal that grows while a reader applies it ---- */

#define GROWING_KEYS 10

typedef struct growing {
    watched_io io; /* first, as above */
    dirlab *lab;
    nphd_sharded *writer;
    int opens; /* of journals, by the reader */
    int at;    /* the one before which the writer commits */
} growing;

static int open_growing(void *context, const char *path, int how, nphd_file *out_file)
{
    growing *of = context;

    if (strstr(path, "/journal_") != NULL && ++of->opens == of->at) {
        for (uint64_t key = 0; key < GROWING_KEYS; key++) {
            dirlab_upsert(of->lab, of->writer, key, 1);
        }
        OK(nphd_sharded_commit(of->writer, NULL));
    }
    return of->io.below->open(of->io.below->context, path, how, out_file);
}

/* What the writer commits meanwhile supersedes all that was there: the reader has the one state or
 * the other. */
static void read_beside_commit(dirlab *lab, growing *of)
{
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *reader;

    options.journal = true;
    of->lab = lab;
    of->writer = dirlab_open(lab, &options);
    dirlab_add(lab, of->writer, 100, 101);
    OK(nphd_sharded_save(of->writer, NULL, NULL));
    dirlab_add(lab, of->writer, 0, GROWING_KEYS);
    OK(nphd_sharded_commit(of->writer, NULL));
    watched_init(&of->io, &lab->fault.table);
    nphd_io table = of->io.table;
    table.open = open_growing;
    options.read_only = true;
    options.io = &table;
    reader = dirlab_open(lab, &options);
    assert_int_equal(nphd_sharded_size(reader), GROWING_KEYS + 1);
    dirlab_close(reader);
    OK(nphd_sharded_reset(of->writer, NULL));
    dirlab_close(of->writer);
    while (lab->items.count > 0) {
        dirlab_drop(&lab->items, lab->items.items[0].key);
    }
    (void)pthread_mutex_destroy(&of->io.mutex);
    (void)pthread_cond_destroy(&of->io.changed);
}

static void test_reader_beside_a_journal_that_grows(void **state)
{
    growing of;

    memset(&of, 0, sizeof(of));
    do {
        const int at = of.at + 1;
        memset(&of, 0, sizeof(of));
        of.at = at;
        read_beside_commit(*state, &of);
    } while (of.opens >= of.at);
    assert_true(of.at > 3);
}

/* ---- shards that are of another index ---- */

static void expect_salvage(dirlab *lab, const char *name)
{
    nphd_sharded_options options = dirlab_options(lab);

    options.salvage = true;
    options.read_only = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    assert_non_null(strstr(lab->damage, name));
    options.read_only = false;
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    sharded = dirlab_open(lab, NULL);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* In the first place, where it would say what all others must be like, and behind all of them. */
static void salvage_of_another_width(dirlab *lab, const char *name)
{
    nphd_index_options wide = NPHD_INDEX_OPTIONS_INIT;
    dirlab_items kept;

    damage_make_saves(lab, true);
    kept = lab->items;
    memset(&lab->items, 0, sizeof(lab->items));
    wide.max_bits = 128;
    dirlab_put_shard(lab, "other", &wide, 500, 510, 0);
    dirlab_items_free(&lab->items);
    lab->items = kept;
    if (strcmp(name, "shard_000.usearch") == 0) {
        /* the newest vector of a key that it had is there all the same */
        for (uint64_t key = 0; key < 10; key++) {
            dirlab_drop(&lab->items, nphd_key_u64(key));
        }
    }
    dirlab_copy(lab, "other", name);
    dirlab_delete(lab, "other");
    dirlab_refused(lab, NULL, NPHD_MISMATCH, "width", NULL);
    expect_salvage(lab, name);
}

static void test_first_shard_of_another_width(void **state)
{
    salvage_of_another_width(*state, "shard_000.usearch");
}

static void test_last_shard_of_another_width(void **state)
{
    salvage_of_another_width(*state, "shard_009.usearch");
}

/* ---- options ---- */

static void test_options_out_of_range_create_nothing(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options[6];

    for (size_t i = 0; i < 6; i++) {
        options[i] = dirlab_options(lab);
    }
    options[0].max_bits = 7;
    options[1].key_bits = 32;
    options[2].metric = (nphd_metric)9;
    options[3].connectivity = 1;
    options[4].multi = 3;
    options[5].search_breadth = 1u << 30;
    for (size_t i = 0; i < 6; i++) {
        nphd_sharded *sharded = NULL;
        assert_int_equal(nphd_sharded_open("new/index", &options[i], &sharded, NULL),
                         NPHD_INVALID_ARGUMENT);
        assert_null(sharded);
        assert_false(memory_io_has_directory(lab->disk, "new"));
        assert_int_equal(memory_io_count(lab->disk, "new"), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_reader_in_the_middle_of_a_save),
        DIRLAB_TEST(test_reader_meets_a_journal_that_goes),
        DIRLAB_TEST(test_reader_beside_a_journal_that_grows),
        DIRLAB_TEST(test_first_shard_of_another_width),
        DIRLAB_TEST(test_last_shard_of_another_width),
        DIRLAB_TEST(test_options_out_of_range_create_nothing),
    };

    return cmocka_run_group_tests_name("between writers", tests, NULL, NULL);
}
