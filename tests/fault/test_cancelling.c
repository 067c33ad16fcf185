/* Every long call is cancelled at each question that it asks, the first, the second, and so on
 * until it asks no more: what it was working on is as it was, or as after a whole step, nothing is
 * left open, locked or allocated, and the same call goes through when it is made again. What it
 * tells of its progress never falls. */
#include "index/index_internal.h"
#include "index/index_shard.h"
#include "support/directory_content.h"
#include "support/directory_lab.h"

#include <stdlib.h>

#define OK(call) assert_int_equal((call), NPHD_OK)
#define NEW "new"
#define MILLIONTHS 1000000

static uint64_t step(void)
{
    return getenv("NPHD_TEST_SCALE") != NULL ? 5 : 1;
}

/* ---- who is asked ---- */

typedef struct asked {
    uint64_t calls;
    uint64_t cancel_at; /* 0: never */
    uint64_t done;
    uint64_t total; /* what it must be; 0: anything */
    bool anew;      /* it may begin again */
} asked;

static int ask(void *context, uint64_t done, uint64_t total)
{
    asked *of = context;

    assert_true(of->cancel_at == 0 || of->calls < of->cancel_at); /* nobody asks again */
    assert_true(total > 0 && done <= total);
    assert_true(of->total == 0 || total == of->total);
    assert_true(of->anew || done >= of->done);
    of->done = done;
    return ++of->calls == of->cancel_at;
}

static asked asked_at(uint64_t n, uint64_t total)
{
    return (asked){.cancel_at = n, .total = total, .anew = total == 0};
}

static nphd_batch_options batch_of(asked *who, uint32_t threads)
{
    nphd_batch_options batch = NPHD_BATCH_OPTIONS_INIT;

    batch.threads = threads;
    batch.progress = ask;
    batch.progress_context = who;
    return batch;
}

/* A cancelled call says so, and one that was not cancelled goes through; true: it was. */
static bool was_cancelled(const asked *who, nphd_status status, const nphd_error *err)
{
    const bool cancelled = who->cancel_at > 0 && who->calls == who->cancel_at;

    if (status != (cancelled ? NPHD_CANCELLED : NPHD_OK)) {
        fail_msg("cancelled at question %llu of %llu: %s: %s", (unsigned long long)who->cancel_at,
                 (unsigned long long)who->calls, nphd_status_name(status), err->text);
    }
    if (cancelled) {
        assert_int_equal(err->status, NPHD_CANCELLED);
        assert_non_null(strstr(err->text, "cancelled by the progress callback"));
    }
    return cancelled;
}

/* ---- the directory: two shards, deletions in both, and a journal ---- */

enum { FIRST = 300, SECOND = 700, JOURNALED = 1000 };

static nphd_sharded_options writing(dirlab *lab)
{
    nphd_sharded_options options = dirlab_small(lab);

    options.build_breadth = 8;
    options.journal = true;
    return options;
}

static void put(nphd_sharded *sharded, uint64_t from, uint64_t to, uint8_t version)
{
    nphd_key keys[SECOND];
    nphd_vector vectors[SECOND];
    uint8_t bits[SECOND][8];

    for (uint64_t key = from; key < to; key++) {
        keys[key - from] = nphd_key_u64(key);
        vectors[key - from] = dirlab_vector(key, version, bits[key - from]);
    }
    OK(nphd_sharded_upsert(sharded, keys, vectors, (size_t)(to - from), NULL, NULL, NULL));
}

static void take_out(nphd_sharded *sharded, uint64_t from, uint64_t to)
{
    for (uint64_t key = from; key < to; key++) {
        const nphd_key number = nphd_key_u64(key);
        OK(nphd_sharded_remove(sharded, &number, 1, NULL, NULL));
    }
}

static void journal_some(nphd_sharded *sharded)
{
    put(sharded, SECOND, JOURNALED, 0);
    OK(nphd_sharded_commit(sharded, NULL));
    take_out(sharded, 100, 110);
    put(sharded, 20, 40, 1);
    OK(nphd_sharded_commit(sharded, NULL));
    put(sharded, 30, 50, 2);
    take_out(sharded, SECOND, SECOND + 10);
    OK(nphd_sharded_commit(sharded, NULL));
}

/* Leaves the handle as a process that was killed would. */
static void build(dirlab *lab, directory_content *out)
{
    const nphd_sharded_options options = writing(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    put(sharded, 0, FIRST, 0);
    OK(nphd_sharded_rotate(sharded, NULL));
    put(sharded, FIRST, SECOND, 0);
    take_out(sharded, 10, 15);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    journal_some(sharded);
    content_take(sharded, out);
    nphd_sharded_free(sharded);
}

static void clear_folder(dirlab *lab, const char *folder)
{
    char name[128];

    for (size_t i = 0; memory_io_name(lab->disk, i, name, sizeof(name));) {
        if (strncmp(name, folder, strlen(folder)) == 0 && name[strlen(folder)] == '/') {
            OK(lab->fault.table.remove(lab->fault.table.context, name));
        } else {
            i++;
        }
    }
}

static size_t files_in(dirlab *lab, const char *folder)
{
    char name[128];
    size_t count = 0;

    for (size_t i = 0; memory_io_name(lab->disk, i, name, sizeof(name)); i++) {
        count += strncmp(name, folder, strlen(folder)) == 0 && name[strlen(folder)] == '/' ? 1 : 0;
    }
    return count;
}

static void build_anew(dirlab *lab, directory_content *out)
{
    clear_folder(lab, DIRLAB_FOLDER);
    build(lab, out);
}

/* The files open as a whole with this content, for readers and writers. */
static void expect_files(dirlab *lab, const directory_content *expected)
{
    nphd_sharded_options options = dirlab_options(lab);
    nphd_sharded *sharded;

    options.read_only = true;
    sharded = dirlab_open(lab, &options);
    content_expect(sharded, expected);
    nphd_sharded_free(sharded);
    OK(nphd_directory_verify(DIRLAB_FOLDER, &lab->fault.table, NULL, NULL, NULL, NULL));
    assert_int_equal(memory_io_count(lab->disk, ".tmp-"), 0);
}

static void expect_nothing_held(dirlab *lab)
{
    assert_int_equal(lab->fault.open_files, 0);
    assert_int_equal(lab->fault.maps, 0);
    assert_true(allocator_fault_is_clean(&lab->allocator));
}

/* ---- opening ---- */

static void cancel_openings(dirlab *lab, nphd_sharded_options options,
                            const directory_content *expected)
{
    bool cancelled = true;
    uint64_t questions = 0;

    for (uint64_t n = 1; cancelled; n += step()) {
        asked who = asked_at(n, MILLIONTHS);
        nphd_sharded *sharded = (nphd_sharded *)lab;
        nphd_error err = NPHD_ERROR_INIT;
        options.progress = ask;
        options.progress_context = &who;
        const nphd_status status = nphd_sharded_open(DIRLAB_FOLDER, &options, &sharded, &err);
        cancelled = was_cancelled(&who, status, &err);
        questions = who.calls;
        if (cancelled) {
            assert_null(sharded);
            expect_nothing_held(lab);
            if (n % 16 == 1) {
                expect_files(lab, expected);
            }
        } else {
            content_expect(sharded, expected);
            who.cancel_at = who.calls; /* asking now would fail */
            put(sharded, 5000, 5001, 0);
            take_out(sharded, 5000, 5001);
            nphd_sharded_free(sharded);
        }
    }
    assert_true(questions > (options.threads > 1 ? 8 : 20)); /* only the calling thread asks */
    expect_files(lab, expected);
}

static void test_opening(void **state)
{
    dirlab *lab = *state;
    directory_content expected = {NULL, 0, 0, 0};

    build(lab, &expected);
    cancel_openings(lab, writing(lab), &expected);
    content_free(&expected);
}

static void test_opening_with_threads(void **state)
{
    dirlab *lab = *state;
    directory_content expected = {NULL, 0, 0, 0};
    nphd_sharded_options options = writing(lab);

    build(lab, &expected);
    options.threads = 3;
    cancel_openings(lab, options, &expected);
    content_free(&expected);
}

static void test_opening_for_reading(void **state)
{
    dirlab *lab = *state;
    directory_content expected = {NULL, 0, 0, 0};
    nphd_sharded_options options = dirlab_options(lab);
    nphd_sharded *sharded = NULL;
    bool cancelled = true;

    build(lab, &expected);
    options.read_only = true;
    options.progress = ask;
    for (uint64_t n = 1; cancelled; n += step()) {
        asked who = asked_at(n, MILLIONTHS);
        nphd_error err = NPHD_ERROR_INIT;
        options.progress_context = &who;
        const nphd_status status = nphd_sharded_open(DIRLAB_FOLDER, &options, &sharded, &err);
        cancelled = was_cancelled(&who, status, &err);
        if (cancelled) {
            assert_null(sharded);
            expect_nothing_held(lab);
        }
    }
    content_expect(sharded, &expected);
    nphd_sharded_free(sharded);
    content_free(&expected);
}

/* The filter is made anew, and deletions are put together from older files. */
static void test_opening_that_recovers(void **state)
{
    dirlab *lab = *state;
    directory_content expected = {NULL, 0, 0, 0};
    nphd_sharded_options options = writing(lab);

    build(lab, &expected);
    dirlab_copy(lab, "tombstones.npy", "older");
    nphd_sharded *sharded = dirlab_open(lab, &options);
    take_out(sharded, 200, 220);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    content_take(sharded, &expected);
    nphd_sharded_free(sharded);
    dirlab_copy(lab, "older", "tombstones.npy");
    dirlab_delete(lab, "older");
    dirlab_delete(lab, "bloom.isbf");
    options.journal = false;
    cancel_openings(lab, options, &expected);
    content_free(&expected);
}

/* ---- refresh ---- */

static void test_refresh(void **state)
{
    dirlab *lab = *state;
    directory_content before = {NULL, 0, 0, 0};
    directory_content after = {NULL, 0, 0, 0};
    nphd_sharded_options options = writing(lab);
    bool cancelled = true;
    uint64_t questions = 0;

    build(lab, &before);
    options.read_only = true;
    options.journal = false;
    nphd_sharded *reader = dirlab_open(lab, &options);
    options = writing(lab);
    nphd_sharded *writer = dirlab_open(lab, &options);
    put(writer, 2000, 2100, 0);
    OK(nphd_sharded_save(writer, NULL, NULL));
    put(writer, 2100, 2200, 0);
    take_out(writer, 50, 60);
    OK(nphd_sharded_commit(writer, NULL));
    content_take(writer, &after);
    for (uint64_t n = 1; cancelled; n += step()) {
        asked who = asked_at(n, MILLIONTHS);
        const nphd_batch_options batch = batch_of(&who, 0);
        nphd_error err = NPHD_ERROR_INIT;
        bool changed = true;
        const nphd_status status = nphd_sharded_refresh_with(reader, &batch, &changed, &err);
        cancelled = was_cancelled(&who, status, &err);
        questions = who.calls;
        assert_int_equal(changed, !cancelled);
        if (n % 16 == 1) {
            content_expect(reader, cancelled ? &before : &after);
        }
    }
    assert_true(questions > 20);
    content_expect(reader, &after);
    nphd_sharded_free(writer);
    nphd_sharded_free(reader);
    content_free(&before);
    content_free(&after);
}

/* ---- verify ---- */

static void note_damage(void *context, const char *text)
{
    (void)text;
    ++*(size_t *)context;
}

/* In its first frame. */
static void damage_journal(dirlab *lab)
{
    char name[128] = "";
    bool found = false;

    for (size_t i = 0; !found && memory_io_name(lab->disk, i, name, sizeof(name)); i++) {
        found = strstr(name, "journal") != NULL;
    }
    assert_true(found);
    dirlab_damage(lab, strchr(name, '/') + 1, 5000);
}

/* false: the last one found what was wrong, or that nothing was. */
static bool verify(dirlab *lab, bool file, uint64_t n, uint32_t threads, nphd_status otherwise)
{
    asked who = asked_at(n, MILLIONTHS);
    nphd_verify_options options = NPHD_VERIFY_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    size_t damages = 0;
    nphd_status status;

    options.io = &lab->fault.table;
    options.threads = threads;
    options.damage = note_damage;
    options.damage_context = &damages;
    options.progress = ask;
    options.progress_context = &who;
    status = file ? nphd_file_verify_with(dirlab_path("shard_000.usearch"), &options, NULL, &err)
                  : nphd_directory_verify_with(DIRLAB_FOLDER, &options, NULL, &err);
    expect_nothing_held(lab);
    if (who.calls == n) {
        return was_cancelled(&who, status, &err);
    }
    assert_int_equal(status, otherwise);
    assert_int_equal(damages > 0, otherwise == NPHD_CORRUPT);
    return false;
}

static uint64_t questions_of_verify(dirlab *lab, bool file, uint32_t threads, nphd_status otherwise)
{
    uint64_t n = 1;

    while (verify(lab, file, n, threads, otherwise)) {
        n += step();
    }
    return n - 1;
}

static void test_verify(void **state)
{
    dirlab *lab = *state;
    directory_content expected = {NULL, 0, 0, 0};

    build(lab, &expected);
    for (uint32_t threads = 1; threads <= 3; threads++) {
        assert_true(questions_of_verify(lab, true, threads, NPHD_OK) > 5);
        assert_true(questions_of_verify(lab, false, threads, NPHD_OK) > 20);
    }
    expect_files(lab, &expected);
    dirlab_damage(lab, "shard_000.usearch", 200);
    assert_true(questions_of_verify(lab, true, 1, NPHD_CORRUPT) > 2);
    assert_true(questions_of_verify(lab, false, 1, NPHD_CORRUPT) > 5);
    build_anew(lab, &expected);
    damage_journal(lab); /* what follows the damage is looked for */
    assert_true(questions_of_verify(lab, false, 1, NPHD_CORRUPT) > 5);
    content_free(&expected);
}

/* A file of the reference is read whole, and then looked through. */
static void test_verify_of_a_reference_file(void **state)
{
    dirlab *lab = *state;

    dirlab_put_shard(lab, "shard_000.usearch", NULL, 0, 500, 0);
    assert_true(questions_of_verify(lab, true, 1, NPHD_OK) > 4);
    assert_true(questions_of_verify(lab, false, 1, NPHD_OK) > 8);
}

/* ---- salvage ---- */

/* Answers the vectors in the new directory, which opens. */
static uint64_t cancel_salvages(dirlab *lab)
{
    nphd_salvage_report report;
    bool cancelled = true;
    uint64_t questions = 0;

    for (uint64_t n = 1; cancelled; n += step()) {
        asked who = asked_at(n, MILLIONTHS);
        nphd_salvage_options options = NPHD_SALVAGE_OPTIONS_INIT;
        nphd_error err = NPHD_ERROR_INIT;
        size_t damages = 0;
        options.io = &lab->fault.table;
        options.damage = note_damage;
        options.damage_context = &damages;
        options.progress = ask;
        options.progress_context = &who;
        cancelled = was_cancelled(
            &who, nphd_directory_salvage_with(DIRLAB_FOLDER, NEW, &options, &report, &err), &err);
        questions = who.calls;
        assert_int_equal(files_in(lab, NEW) > 0, !cancelled);
        expect_nothing_held(lab);
    }
    assert_true(questions > 20);
    return report.vectors;
}

static void test_salvage(void **state)
{
    dirlab *lab = *state;
    directory_content expected = {NULL, 0, 0, 0};
    nphd_sharded_options options = dirlab_options(lab);
    nphd_sharded *sharded = NULL;

    build(lab, &expected);
    dirlab_damage(lab, "bloom.isbf", 200);
    assert_int_equal(cancel_salvages(lab), expected.count);
    options.read_only = true;
    OK(nphd_sharded_open(NEW, &options, &sharded, NULL));
    content_expect(sharded, &expected);
    nphd_sharded_free(sharded);
    content_free(&expected);
}

static void test_salvage_of_a_damaged_shard_and_journal(void **state)
{
    dirlab *lab = *state;
    directory_content expected = {NULL, 0, 0, 0};
    uint64_t count;

    build(lab, &expected);
    dirlab_damage(lab, "shard_000.usearch", 200);
    damage_journal(lab);
    count = cancel_salvages(lab);
    assert_true(count > 0 && count < expected.count);
    content_free(&expected);
}

/* ---- what changes the directory ---- */

typedef nphd_status (*change)(nphd_sharded *sharded, const nphd_batch_options *batch,
                              nphd_error *err);

static nphd_status do_save(nphd_sharded *sharded, const nphd_batch_options *batch, nphd_error *err)
{
    return nphd_sharded_save(sharded, batch, err);
}

static nphd_status do_compact(nphd_sharded *sharded, const nphd_batch_options *batch,
                              nphd_error *err)
{
    return nphd_sharded_compact(sharded, batch, NULL, err);
}

static nphd_status do_rebuild(nphd_sharded *sharded, const nphd_batch_options *batch,
                              nphd_error *err)
{
    return nphd_sharded_rebuild_bloom_with(sharded, batch, NULL, err);
}

static nphd_status do_prepare(nphd_sharded *sharded, const nphd_batch_options *batch,
                              nphd_error *err)
{
    return nphd_sharded_prepare_with(sharded, batch, err);
}

static nphd_status do_snapshot(nphd_sharded *sharded, const nphd_batch_options *batch,
                               nphd_error *err)
{
    return nphd_sharded_snapshot_with(sharded, NEW, batch, err);
}

/* A call that changes no vector, on a writer with changes of its own. */
static void cancel_changes(dirlab *lab, change call, uint64_t total, bool background,
                           uint32_t threads, uint64_t at_least)
{
    directory_content expected = {NULL, 0, 0, 0};
    nphd_sharded_options options = writing(lab);
    bool cancelled = true;
    uint64_t questions = 0;

    options.background_rotation = background;
    for (uint64_t n = 1; cancelled; n += step()) {
        asked who = asked_at(n, total);
        const nphd_batch_options batch = batch_of(&who, threads);
        nphd_error err = NPHD_ERROR_INIT;
        build_anew(lab, &expected);
        nphd_sharded *sharded = dirlab_open(lab, &options);
        put(sharded, 3000, 3050, 0);
        OK(nphd_sharded_commit(sharded, NULL));
        content_take(sharded, &expected);
        cancelled = was_cancelled(&who, call(sharded, &batch, &err), &err);
        questions = who.calls;
        content_expect(sharded, &expected);
        if (call == do_snapshot) {
            assert_int_equal(files_in(lab, NEW) > 0, !cancelled);
        }
        if (n % 2 == 0) { /* as after a kill */
            nphd_sharded_free(sharded);
            expect_files(lab, &expected);
        } else { /* and it goes on */
            who = asked_at(0, 0);
            if (cancelled) {
                OK(call(sharded, &batch, NULL));
            }
            put(sharded, 3050, 3051, 0);
            content_take(sharded, &expected);
            dirlab_close(sharded);
            expect_files(lab, &expected);
        }
        clear_folder(lab, NEW);
    }
    if (questions < at_least) {
        fail_msg("it asked %llu times", (unsigned long long)questions);
    }
    content_free(&expected);
}

static void test_save(void **state)
{
    cancel_changes(*state, do_save, 0, false, 1, 4);
}

static void test_compact(void **state)
{
    cancel_changes(*state, do_compact, 0, false, 1, 20);
}

static void test_compact_with_threads(void **state)
{
    cancel_changes(*state, do_compact, 0, true, 3, 0);
}

/* No shard is left in the end; whoever is told of that can divide by the total. */
static void test_compact_of_dead_shards(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = writing(lab);
    asked who = asked_at(0, 0);
    const nphd_batch_options batch = batch_of(&who, 0);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    put(sharded, 0, 20, 0);
    OK(nphd_sharded_rotate(sharded, NULL));
    put(sharded, 20, 40, 0);
    OK(nphd_sharded_rotate(sharded, NULL));
    take_out(sharded, 0, 40);
    OK(nphd_sharded_compact(sharded, &batch, NULL, NULL));
    assert_true(who.calls >= 2);
    assert_int_equal(nphd_sharded_size(sharded), 0);
    dirlab_close(sharded);
}

static void test_rebuild_bloom(void **state)
{
    cancel_changes(*state, do_rebuild, MILLIONTHS, false, 1, 5);
}

static void test_prepare(void **state)
{
    cancel_changes(*state, do_prepare, MILLIONTHS, false, 1, 0);
}

static void test_snapshot(void **state)
{
    cancel_changes(*state, do_snapshot, MILLIONTHS, false, 1, 8);
}

static void test_snapshot_by_a_reader(void **state)
{
    dirlab *lab = *state;
    directory_content expected = {NULL, 0, 0, 0};
    nphd_sharded_options options = dirlab_options(lab);
    bool cancelled = true;

    build(lab, &expected);
    options.read_only = true;
    nphd_sharded *reader = dirlab_open(lab, &options);
    for (uint64_t n = 1; cancelled; n += step()) {
        asked who = asked_at(n, MILLIONTHS);
        const nphd_batch_options batch = batch_of(&who, 0);
        nphd_error err = NPHD_ERROR_INIT;
        cancelled =
            was_cancelled(&who, nphd_sharded_snapshot_with(reader, NEW, &batch, &err), &err);
        assert_int_equal(files_in(lab, NEW) > 0, !cancelled);
        assert_true(n < 1000);
    }
    nphd_sharded_free(reader);
    OK(nphd_sharded_open(NEW, &options, &reader, NULL));
    content_expect(reader, &expected);
    nphd_sharded_free(reader);
    content_free(&expected);
}

/* An add that loads the last shard first, fills shards and writes them: what was stored stays, is
 * counted, and is there after a commit. */
static void cancel_adds(dirlab *lab, bool background)
{
    enum { ADDED = 400 };
    directory_content expected = {NULL, 0, 0, 0};
    nphd_sharded_options options = writing(lab);
    nphd_key keys[ADDED];
    nphd_vector vectors[ADDED];
    uint8_t bits[ADDED][8];
    bool cancelled = true;
    uint64_t questions = 0;

    options.shard_bytes = 9000;
    options.background_rotation = background;
    options.max_pending_rotations = 1;
    for (uint64_t i = 0; i < ADDED; i++) {
        keys[i] = nphd_key_u64(4000 + i);
        vectors[i] = dirlab_vector(4000 + i, 0, bits[i]);
    }
    for (uint64_t n = 1; cancelled; n += step()) {
        asked who = asked_at(n, ADDED);
        const nphd_batch_options batch = batch_of(&who, 0);
        nphd_error err = NPHD_ERROR_INIT;
        size_t added = 0;
        build_anew(lab, &expected);
        nphd_sharded *sharded = dirlab_open(lab, &options);
        const uint64_t before = nphd_sharded_size(sharded);
        cancelled = was_cancelled(
            &who, nphd_sharded_add_many(sharded, keys, vectors, ADDED, &batch, NULL, &added, &err),
            &err);
        questions = who.calls;
        assert_int_equal(nphd_sharded_size(sharded), before + added);
        assert_true(cancelled || added == ADDED);
        OK(nphd_sharded_commit(sharded, NULL));
        content_take(sharded, &expected);
        nphd_sharded_free(sharded);
        expect_files(lab, &expected);
    }
    if (questions < (background ? 2 : 10)) {
        fail_msg("it asked %llu times", (unsigned long long)questions);
    }
    content_free(&expected);
}

static void test_add(void **state)
{
    cancel_adds(*state, false);
}

static void test_add_beside_rotations(void **state)
{
    cancel_adds(*state, true);
}

/* ---- one file ---- */

#define FILE_PATH "one.usearch"

static nphd_index *one_index(dirlab *lab, uint64_t count)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;
    uint8_t bits[8];

    options.max_bits = 64;
    options.connectivity = 4;
    options.build_breadth = 8;
    options.io = &lab->fault.table;
    options.allocator = &lab->allocator.table;
    OK(nphd_index_create(&options, &index, NULL));
    for (uint64_t key = 0; key < count; key++) {
        OK(nphd_index_add(index, nphd_key_u64(key), dirlab_vector(key, 0, bits), NULL, NULL));
    }
    return index;
}

/* Load and view keep what the index had before. */
static void test_load_and_view(void **state)
{
    dirlab *lab = *state;
    nphd_index *index = one_index(lab, 600);

    OK(nphd_index_save(index, FILE_PATH, NULL, NULL));
    nphd_index_close(index);
    for (int view = 0; view < 2; view++) {
        bool cancelled = true;
        uint64_t questions = 0;
        index = one_index(lab, 3);
        for (uint64_t n = 1; cancelled; n += step()) {
            asked who = asked_at(n, view == 1 ? MILLIONTHS : 600);
            nphd_open_options options = NPHD_OPEN_OPTIONS_INIT;
            nphd_error err = NPHD_ERROR_INIT;
            options.verify = true;
            options.progress = ask;
            options.progress_context = &who;
            const nphd_status status = view == 1
                                           ? nphd_index_view(index, FILE_PATH, &options, &err)
                                           : nphd_index_load(index, FILE_PATH, &options, &err);
            cancelled = was_cancelled(&who, status, &err);
            questions = who.calls;
            assert_int_equal(nphd_index_size(index), cancelled ? 3 : 600);
        }
        assert_true(questions >= 2);
        nphd_index_close(index);
    }
}

/* Without slots there is a total all the same. */
static void test_load_of_an_empty_file(void **state)
{
    dirlab *lab = *state;
    nphd_index *index = one_index(lab, 0);
    nphd_open_options options = NPHD_OPEN_OPTIONS_INIT;
    asked who = asked_at(0, 1);

    OK(nphd_index_save(index, FILE_PATH, NULL, NULL));
    options.progress = ask;
    options.progress_context = &who;
    OK(nphd_index_load(index, FILE_PATH, &options, NULL));
    assert_true(who.calls > 0);
    nphd_index_close(index);
}

/* Tables are made whole or not at all. */
static void test_index_prepare(void **state)
{
    dirlab *lab = *state;

    for (uint32_t threads = 1; threads <= 3; threads++) {
        nphd_index *index = one_index(lab, 17000);
        bool cancelled = true;
        uint64_t questions = 0;
        for (uint64_t n = 1; cancelled; n += step()) {
            asked who = asked_at(n, MILLIONTHS);
            const nphd_batch_options batch = batch_of(&who, threads);
            nphd_error err = NPHD_ERROR_INIT;
            cancelled = was_cancelled(&who, nphd_index_prepare_with(index, &batch, &err), &err);
            questions = who.calls;
            assert_int_equal(nphdi_index_has_tables(index), !cancelled);
        }
        assert_true(questions > 10 || threads > 1);
        nphd_index_close(index);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_opening),
        DIRLAB_TEST(test_opening_with_threads),
        DIRLAB_TEST(test_opening_for_reading),
        DIRLAB_TEST(test_opening_that_recovers),
        DIRLAB_TEST(test_refresh),
        DIRLAB_TEST(test_verify),
        DIRLAB_TEST(test_verify_of_a_reference_file),
        DIRLAB_TEST(test_salvage),
        DIRLAB_TEST(test_salvage_of_a_damaged_shard_and_journal),
        DIRLAB_TEST(test_save),
        DIRLAB_TEST(test_compact),
        DIRLAB_TEST(test_compact_with_threads),
        DIRLAB_TEST(test_compact_of_dead_shards),
        DIRLAB_TEST(test_rebuild_bloom),
        DIRLAB_TEST(test_prepare),
        DIRLAB_TEST(test_snapshot),
        DIRLAB_TEST(test_snapshot_by_a_reader),
        DIRLAB_TEST(test_add),
        DIRLAB_TEST(test_add_beside_rotations),
        DIRLAB_TEST(test_load_and_view),
        DIRLAB_TEST(test_load_of_an_empty_file),
        DIRLAB_TEST(test_index_prepare),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
