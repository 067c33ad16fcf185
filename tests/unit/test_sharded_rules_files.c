/* The rules that users of the reference rely on, for the files of a sharded index: saving,
 * rotating, the order of writes, the bloom filter, and rotations by a thread. The names of rows
 * stand in the comments. */
#include "support/directory_lab.h"
#include "support/io_watched.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

static nphd_sharded *small(dirlab *lab)
{
    const nphd_sharded_options options = dirlab_small(lab);

    return dirlab_open(lab, &options);
}

static uint64_t files(nphd_sharded *sharded)
{
    return dirlab_stats(sharded).files;
}

/* ---- saving and rotating: R5 to R11, J1 to J3, J7, BG16 ---- */

static void test_r5_to_r9(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = small(lab);

    OK(nphd_sharded_rotate(sharded, NULL)); /* R5 */
    OK(nphd_sharded_save(sharded, NULL, NULL));
    assert_int_equal(files(sharded), 0); /* R9 */
    dirlab_add(lab, sharded, 0, 5);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    OK(nphd_sharded_save(sharded, NULL, NULL));
    assert_int_equal(files(sharded), 1);
    dirlab_close(sharded);
    sharded = small(lab);
    dirlab_add(lab, sharded, 5, 10);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    assert_int_equal(files(sharded), 1);
    OK(nphd_sharded_rotate(sharded, NULL)); /* R8: in its own file */
    assert_int_equal(files(sharded), 1);
    dirlab_add(lab, sharded, 10, 12);
    dirlab_close(sharded);
    assert_true(dirlab_exists(lab, "shard_001.usearch"));   /* R7 */
    assert_int_equal(memory_io_count(lab->disk, "tmp"), 0); /* R11 */
    sharded = small(lab);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    dirlab_expect_reference(lab);
}

/* J3, W24: each file is whole and durable before the next is renamed. */
static void test_j3_order_of_files(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    watched_io io;
    nphd_sharded *sharded;

    watched_init(&io, &lab->fault.table);
    options.io = &io.table;
    sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 0, 5);
    OK(nphd_sharded_rotate(sharded, NULL));
    assert_string_equal(io.renamed, "bloom.isbf shard_000.usearch ");
    io.renamed[0] = '\0';
    dirlab_remove(lab, sharded, 3);
    dirlab_add(lab, sharded, 5, 9);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    assert_string_equal(io.renamed, "bloom.isbf shard_001.usearch tombstones.npy ");
    io.renamed[0] = '\0';
    OK(nphd_sharded_rotate(sharded, NULL));
    assert_string_equal(io.renamed, "bloom.isbf shard_001.usearch tombstones.npy ");
    io.renamed[0] = '\0';
    OK(nphd_sharded_save(sharded, NULL, NULL)); /* nothing changed: nothing written twice */
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* J2, J9, J11, W25: whichever call fails, the files before stay, and a later save has it all. */
static void test_j2_failing_writes(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_small(lab);
    uint64_t failed = 1;
    uint64_t number;

    for (number = 1; failed > 0; number++) {
        nphd_sharded *sharded = dirlab_open(lab, &options);
        OK(nphd_sharded_reset(sharded, NULL));
        lab->items.count = 0;
        dirlab_add(lab, sharded, 0, 10);
        OK(nphd_sharded_rotate(sharded, NULL));
        dirlab_remove(lab, sharded, 3);
        dirlab_close(sharded);
        sharded = dirlab_open(lab, &options);
        dirlab_items saved = {NULL, 0, 0};
        for (size_t i = 0; i < lab->items.count; i++) {
            dirlab_set(&saved, lab->items.items[i].key,
                       (nphd_vector){lab->items.items[i].data, lab->items.items[i].bytes});
        }
        dirlab_add(lab, sharded, 3, 4); /* deleted, and added again: J9 */
        dirlab_upsert(lab, sharded, 4, 1);
        io_fault_arm(&lab->fault, IO_FAULT_WRITE | IO_FAULT_SYNC | IO_FAULT_RENAME, number, ENOSPC,
                     false);
        const nphd_status status = nphd_sharded_save(sharded, NULL, NULL);
        io_fault_disarm(&lab->fault);
        failed = lab->fault.failed;
        assert_int_equal(status, failed > 0 ? NPHD_NO_SPACE : NPHD_OK);
        if (failed > 0) {
            dirlab_expect(lab, sharded);
            nphd_sharded_free(sharded);
            dirlab_items now = lab->items;
            sharded = dirlab_open(lab, &options);
            const bool committed = dirlab_has(sharded, 3);
            lab->items = committed ? now : saved;
            dirlab_expect(lab, sharded);
            lab->items = now;
            if (!committed) {
                dirlab_add(lab, sharded, 5, 6);
                const nphd_key key = {0, 3};
                dirlab_drop(&lab->items, key);
                dirlab_add(lab, sharded, 3, 4);
                dirlab_upsert(lab, sharded, 4, 1);
            }
        }
        dirlab_items_free(&saved);
        dirlab_expect(lab, sharded);
        dirlab_close(sharded);
        dirlab_expect_reference(lab);
    }
}

/* The same while rotating: the full shard stays, and the next rotation, save or drain writes it. */
static void test_w25_failing_rotations(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_small(lab);
    uint64_t failed = 1;
    uint64_t number;

    for (number = 1; failed > 0; number++) {
        nphd_sharded *sharded = dirlab_open(lab, &options);
        OK(nphd_sharded_reset(sharded, NULL));
        lab->items.count = 0;
        dirlab_add(lab, sharded, 0, 10);
        OK(nphd_sharded_rotate(sharded, NULL));
        dirlab_add(lab, sharded, 10, 15);
        dirlab_upsert(lab, sharded, 4, 1);
        io_fault_arm(&lab->fault, IO_FAULT_ALL, number, ENOSPC, false);
        const nphd_status status = nphd_sharded_rotate(sharded, NULL);
        io_fault_disarm(&lab->fault);
        failed = lab->fault.failed;
        assert_true(failed > 0 || status == NPHD_OK);
        dirlab_expect(lab, sharded);
        dirlab_add(lab, sharded, 20, 25);
        OK(nphd_sharded_save(sharded, NULL, NULL));
        assert_int_equal(files(sharded), 3);
        dirlab_expect(lab, sharded);
        dirlab_expect_reference(lab);
        dirlab_close(sharded);
        sharded = dirlab_open(lab, &options);
        dirlab_expect(lab, sharded);
        dirlab_close(sharded);
    }
}

typedef struct progress_note {
    uint64_t calls;
    uint64_t done;
    uint64_t total;
    int answer;
} progress_note;

static int note_progress(void *context, uint64_t done, uint64_t total)
{
    progress_note *note = context;

    note->calls++;
    note->done = done;
    note->total = total;
    return done <= total ? note->answer : -1;
}

static void test_j7_progress(void **state)
{
    dirlab *lab = *state;
    nphd_batch_options batch = NPHD_BATCH_OPTIONS_INIT;
    progress_note note = {0, 0, 0, 1};
    nphd_sharded *sharded = small(lab);

    batch.progress = note_progress;
    batch.progress_context = &note;
    dirlab_add(lab, sharded, 0, 50);
    assert_int_equal(nphd_sharded_save(sharded, &batch, NULL), NPHD_CANCELLED);
    assert_int_equal(nphd_sharded_dirty(sharded), 50);
    assert_false(dirlab_exists(lab, "shard_000.usearch"));
    note.answer = 0;
    OK(nphd_sharded_save(sharded, &batch, NULL));
    assert_true(note.calls > 0 && note.done == note.total && note.total > 0);
    dirlab_close(sharded);
}

/* BG16: an active shard that became empty takes its file along, and the key stays gone. */
static void test_bg16_emptied_shard(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = small(lab);

    dirlab_add(lab, sharded, 0, 3);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    for (uint64_t key = 0; key < 3; key++) {
        dirlab_remove(lab, sharded, key);
    }
    dirlab_close(sharded);
    assert_false(dirlab_exists(lab, "shard_000.usearch"));
    sharded = small(lab);
    dirlab_expect(lab, sharded);
    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 10, 12);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    dirlab_remove(lab, sharded, 10);
    dirlab_remove(lab, sharded, 11);
    dirlab_close(sharded);
    dirlab_expect_reference(lab);
    sharded = small(lab);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* ---- the bloom filter: F9 to F14, J8, W12, W41, W49, W51 ---- */

static void test_f_filter(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = small(lab);
    uint64_t keys = 9;
    size_t bytes = 0;

    OK(nphd_sharded_rebuild_bloom(sharded, &keys, NULL));
    assert_int_equal(keys, 0); /* F13 */
    dirlab_add(lab, sharded, 0, 20);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 20, 30);
    assert_int_equal(dirlab_stats(sharded).bloom_keys, 30); /* F9 */
    dirlab_close(sharded);
    free(memory_io_get(lab->disk, dirlab_path("bloom.isbf"), &bytes));
    assert_true(bytes > 0 && bytes < 100000); /* W41 */
    sharded = small(lab);
    assert_int_equal(dirlab_stats(sharded).bloom_keys, 30); /* F11 */
    for (uint8_t version = 1; version < 20; version++) {
        dirlab_upsert(lab, sharded, 3, version);
    }
    dirlab_remove(lab, sharded, 5);
    OK(nphd_sharded_rebuild_bloom(sharded, &keys, NULL)); /* F13, W51: keys that are there */
    assert_int_equal(keys, 29);
    assert_int_equal(dirlab_stats(sharded).bloom_keys, 29);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    dirlab_expect_reference(lab);
    /* J8, W49: switched off it stays off, and the file goes, since it would not be kept up */
    options.no_bloom = true;
    sharded = dirlab_open(lab, &options);
    OK(nphd_sharded_rebuild_bloom(sharded, &keys, NULL));
    assert_int_equal(keys, 0);
    dirlab_add(lab, sharded, 100, 110);
    OK(nphd_sharded_compact(sharded, NULL, NULL, NULL));
    assert_false(dirlab_stats(sharded).bloom);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    assert_false(dirlab_exists(lab, "bloom.isbf"));
    sharded = small(lab); /* F12, F14: every key is found */
    assert_int_equal(dirlab_stats(sharded).bloom_keys, lab->items.count);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* ---- rotations by a thread: BG1 to BG24, W12, W26, W29 ---- */

typedef struct background {
    watched_io io;
    nphd_sharded *sharded;
} background;

static background *background_open(dirlab *lab, uint32_t most)
{
    background *back = calloc(1, sizeof(*back));
    nphd_sharded_options options = dirlab_small(lab);

    assert_non_null(back);
    watched_init(&back->io, &lab->fault.table);
    options.io = &back->io.table;
    options.background_rotation = true;
    options.max_pending_rotations = most;
    back->sharded = dirlab_open(lab, &options);
    return back;
}

static void background_close(background *back)
{
    watched_shut(&back->io, false);
    dirlab_close(back->sharded);
    (void)pthread_mutex_destroy(&back->io.mutex);
    (void)pthread_cond_destroy(&back->io.changed);
    free(back);
}

/* BG2, BG10, BG21 to BG24, W26: what waits to be written is there for every call. */
static void test_bg_pending_is_visible(void **state)
{
    dirlab *lab = *state;
    background *back = background_open(lab, 8);
    nphd_sharded *sharded = back->sharded;
    nphd_error err = NPHD_ERROR_INIT;

    watched_shut(&back->io, true);
    for (uint64_t shard = 0; shard < 3; shard++) {
        dirlab_add(lab, sharded, 10 * shard, 10 * shard + 10);
        OK(nphd_sharded_rotate(sharded, NULL));
    }
    assert_int_equal(dirlab_stats(sharded).pending_rotations, 3);
    dirlab_expect(lab, sharded);
    const uint64_t dirty = nphd_sharded_dirty(sharded);
    dirlab_remove(lab, sharded, 5);
    dirlab_remove(lab, sharded, 5);
    assert_int_equal(nphd_sharded_dirty(sharded), dirty + 1);
    dirlab_add(lab, sharded, 5, 6);
    dirlab_remove(lab, sharded, 15);
    dirlab_upsert(lab, sharded, 25, 1);
    dirlab_add(lab, sharded, 12, 13); /* is there: nothing */
    dirlab_expect(lab, sharded);
    assert_int_equal(nphd_sharded_drain(sharded, 0, &err), NPHD_TIMEOUT); /* BG4 */
    assert_non_null(strstr(err.text, "3 rotations"));
    assert_int_equal(nphd_sharded_drain(sharded, 20, &err), NPHD_TIMEOUT);
    watched_shut(&back->io, false);
    OK(nphd_sharded_drain(sharded, UINT64_MAX, NULL)); /* BG3 */
    OK(nphd_sharded_drain(sharded, 0, NULL));
    assert_int_equal(dirlab_stats(sharded).pending_rotations, 0);
    dirlab_expect(lab, sharded);
    OK(nphd_sharded_save(sharded, NULL, NULL)); /* BG5 */
    dirlab_expect_reference(lab);
    for (uint32_t number = 0; number < 4; number++) { /* BG9 */
        char name[32];
        (void)snprintf(name, sizeof(name), "shard_%03u.usearch", number);
        assert_true(dirlab_exists(lab, name));
    }
    background_close(back);
    sharded = small(lab); /* BG18, BG24 */
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* W12: rebuilding the filter does not forget what is still being written. */
static void test_w12_rebuild_with_pending(void **state)
{
    dirlab *lab = *state;
    background *back = background_open(lab, 8);
    uint64_t keys = 0;

    dirlab_add(lab, back->sharded, 0, 30);
    OK(nphd_sharded_rotate(back->sharded, NULL));
    OK(nphd_sharded_rebuild_bloom(back->sharded, &keys, NULL));
    assert_int_equal(keys, 30);
    dirlab_expect(lab, back->sharded);
    background_close(back); /* BG7 */
}

typedef struct rotator {
    nphd_sharded *sharded;
    nphd_status status;
    atomic_bool done;
} rotator;

static void *rotate_thread(void *context)
{
    rotator *of = context;

    of->status = nphd_sharded_rotate(of->sharded, NULL);
    atomic_store(&of->done, true);
    return NULL;
}

static void test_bg8_limit(void **state)
{
    dirlab *lab = *state;
    background *back = background_open(lab, 1);
    rotator of = {back->sharded, NPHD_IO, false};
    const struct timespec moment = {0, 50000000};
    pthread_t thread;

    watched_shut(&back->io, true);
    dirlab_add(lab, back->sharded, 0, 10);
    OK(nphd_sharded_rotate(back->sharded, NULL));
    dirlab_add(lab, back->sharded, 10, 20);
    assert_int_equal(pthread_create(&thread, NULL, rotate_thread, &of), 0);
    (void)nanosleep(&moment, NULL);
    assert_false(atomic_load(&of.done));
    assert_int_equal(nphd_sharded_size(back->sharded), 20); /* searches go on */
    watched_shut(&back->io, false);
    assert_int_equal(pthread_join(thread, NULL), 0);
    OK(of.status);
    dirlab_expect(lab, back->sharded);
    background_close(back);
    dirlab_expect_reference(lab);
}

/* BG11 to BG13, W29: a failure is told once, to the log and to the next change; nothing is lost. */
static void test_bg12_failed_rotation(void **state)
{
    dirlab *lab = *state;
    background *back = background_open(lab, 4);
    nphd_sharded *sharded = back->sharded;
    const struct timespec moment = {0, 1000000};
    nphd_error err = NPHD_ERROR_INIT;
    uint8_t bits[8];
    nphd_status status = NPHD_OK;

    dirlab_add(lab, sharded, 0, 10);
    io_fault_arm(&lab->fault, IO_FAULT_WRITE | IO_FAULT_ALLOCATE, 1, ENOSPC, true);
    OK(nphd_sharded_rotate(sharded, NULL));
    for (size_t i = 0; i < 5000 && status == NPHD_OK; i++) {
        const uint64_t key = 100 + i;
        const nphd_vector vector = dirlab_vector(key, 0, bits);
        status = nphd_sharded_add(sharded, nphd_key_u64(key), vector, NULL, &err);
        if (status == NPHD_OK) {
            dirlab_set(&lab->items, nphd_key_u64(key), vector);
        }
        (void)nanosleep(&moment, NULL);
    }
    assert_int_equal(status, NPHD_NO_SPACE);
    assert_non_null(strstr(lab->log, "shard_000.usearch"));
    dirlab_expect(lab, sharded);
    dirlab_add(lab, sharded, 50, 60); /* told once, then it goes on */
    assert_int_equal(nphd_sharded_save(sharded, NULL, &err), NPHD_NO_SPACE);
    assert_int_equal(nphd_sharded_close(sharded, &err), NPHD_NO_SPACE);
    dirlab_expect(lab, sharded); /* still open, nothing lost */
    io_fault_disarm(&lab->fault);
    OK(nphd_sharded_drain(sharded, UINT64_MAX, NULL)); /* BG13 */
    dirlab_expect(lab, sharded);
    background_close(back);
    dirlab_expect_reference(lab);
    sharded = small(lab);
    dirlab_expect(lab, sharded);
    OK(nphd_sharded_close(sharded, NULL));
    assert_int_equal(lab->fault.maps, 0); /* BG17: before the handle is freed */
    assert_int_equal(lab->fault.open_files, 0);
    nphd_sharded_free(sharded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_r5_to_r9),
        DIRLAB_TEST(test_j3_order_of_files),
        DIRLAB_TEST(test_j2_failing_writes),
        DIRLAB_TEST(test_w25_failing_rotations),
        DIRLAB_TEST(test_j7_progress),
        DIRLAB_TEST(test_bg16_emptied_shard),
        DIRLAB_TEST(test_f_filter),
        DIRLAB_TEST(test_bg_pending_is_visible),
        DIRLAB_TEST(test_w12_rebuild_with_pending),
        DIRLAB_TEST(test_bg8_limit),
        DIRLAB_TEST(test_bg12_failed_rotation),
    };

    return cmocka_run_group_tests_name("files of the sharded index", tests, NULL, NULL);
}
