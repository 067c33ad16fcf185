/* Corners of the sharded index that a second reading found: calls that end half-way, numbers at
 * their ends, and directories in which somebody else was. */
#include "base/bytes.h"
#include "formats/shard_record.h"
#include "support/directory_lab.h"
#include "support/trailer_repair.h"

#include <errno.h>
#include <time.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

/* Of the count of vectors in the directory of a trailer (docs/format.md). */
#define TRAILER_LIVE 24

/* More than one part of a batch. */
#define MANY 5000

static nphd_sharded *reader_open(dirlab *lab)
{
    nphd_sharded_options options = dirlab_options(lab);

    options.read_only = true;
    return dirlab_open(lab, &options);
}

/* ---- a batch that ends after its first part ---- */

static int stop_at_once(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    (void)total;
    return done > 0;
}

/* `keys` NULL: automatic ones, which *out_keys then has. Returns how many were stored. */
static size_t add_first_part(nphd_sharded *sharded, const nphd_key *keys, nphd_key *out_keys)
{
    nphd_batch_options batch = NPHD_BATCH_OPTIONS_INIT;
    static uint8_t bits[MANY][8];
    static nphd_vector vectors[MANY];
    size_t added = 0;

    batch.progress = stop_at_once;
    for (size_t i = 0; i < MANY; i++) {
        vectors[i] = dirlab_vector(i, 0, bits[i]);
    }
    assert_int_equal(
        nphd_sharded_add_many(sharded, keys, vectors, MANY, &batch, out_keys, &added, NULL),
        NPHD_CANCELLED);
    assert_in_range(added, 1, MANY - 1);
    return added;
}

/* Nobody else could say which keys the stored vectors got. */
static void test_automatic_keys_of_a_part(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    static nphd_key keys[MANY];

    dirlab_add(lab, sharded, 0, 3); /* the counter passes over these */
    memset(keys, 0xff, sizeof(keys));
    const size_t added = add_first_part(sharded, NULL, keys);
    for (size_t i = 0; i < added; i++) {
        assert_int_equal(keys[i].high, 0);
        assert_int_equal(keys[i].low, i + 3);
        assert_true(dirlab_has(sharded, keys[i].low));
    }
    dirlab_close(sharded);
}

static void test_commit_of_a_part(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    static nphd_key keys[MANY];
    uint8_t bits[8];

    options.commit_each_call = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    for (size_t i = 0; i < MANY; i++) {
        keys[i] = nphd_key_u64(i);
    }
    const size_t added = add_first_part(sharded, keys, NULL);
    for (size_t i = 0; i < added; i++) {
        dirlab_set(&lab->items, keys[i], dirlab_vector(i, 0, bits));
    }
    nphd_sharded_free(sharded); /* as if it had died */
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* ---- a rotation that failed in the background ---- */

static void wait_for_failure(dirlab *lab)
{
    const struct timespec moment = {0, 1000000};
    bool failed = false;

    for (int i = 0; i < 5000 && !failed; i++) {
        (void)nanosleep(&moment, NULL);
        (void)pthread_mutex_lock(&lab->log_lock);
        failed = strstr(lab->log, "rotation of") != NULL;
        (void)pthread_mutex_unlock(&lab->log_lock);
    }
    assert_true(failed);
}

/* Calls that wait for rotations try it again, instead of telling what it was. */
static void test_save_tries_again(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);

    options.background_rotation = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    for (int way = 0; way < 4; way++) {
        dirlab_add(lab, sharded, 100 * (uint64_t)way, 100 * (uint64_t)way + 10);
        dirlab_forget_log(lab);
        io_fault_arm(&lab->fault, IO_FAULT_WRITE | IO_FAULT_ALLOCATE, 1, ENOSPC, true);
        OK(nphd_sharded_rotate(sharded, NULL));
        wait_for_failure(lab);
        io_fault_disarm(&lab->fault);
        OK(way == 0   ? nphd_sharded_save(sharded, NULL, NULL)
           : way == 1 ? nphd_sharded_compact(sharded, NULL, NULL, NULL)
           : way == 2 ? nphd_sharded_rebuild_bloom(sharded, NULL, NULL)
                      : nphd_sharded_reset(sharded, NULL));
        assert_int_equal(dirlab_stats(sharded).pending_rotations, 0);
    }
    assert_int_equal(nphd_sharded_size(sharded), 0);
    dirlab_close(sharded);
}

/* ---- numbers at their ends ---- */

/* The number behind it names no file. */
static void test_last_number(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_error err = NPHD_ERROR_INIT;
    uint8_t bits[8];

    dirlab_put_shard(lab, "shard_4294967294.usearch", NULL, 0, 10, 0);
    options.connectivity = 0;
    options.shard_bytes = 1; /* full: new vectors need another shard */
    nphd_sharded *sharded = dirlab_open(lab, &options);
    assert_int_equal(
        nphd_sharded_add(sharded, nphd_key_u64(20), dirlab_vector(20, 0, bits), NULL, &err),
        NPHD_FULL);
    assert_non_null(strstr(err.text, "4294967294"));
    assert_int_equal(nphd_sharded_save(sharded, NULL, &err), NPHD_FULL);
    assert_int_equal(nphd_sharded_close(sharded, &err), NPHD_FULL);
    nphd_sharded_free(sharded);
    sharded = reader_open(lab);
    dirlab_expect(lab, sharded);
    nphd_sharded_free(sharded);
    assert_false(dirlab_exists(lab, "shard_4294967295.usearch"));
    assert_false(dirlab_exists(lab, "shard_000.usearch"));
}

/* ---- what files say ---- */

/* Sets all bits of the first shard in the section of dead entries, and its checksums. */
static void hide_everything(dirlab *lab, uint64_t slots)
{
    size_t bytes = 0;
    uint8_t *data = memory_io_get(lab->disk, dirlab_path("tombstones.npy"), &bytes);
    trailer_places places = {0, 0, 0, 0, 0, 0};
    uint64_t offset = 0;

    assert_non_null(data);
    assert_true(trailer_places_find(data, bytes, &places));
    for (uint64_t at = places.foreign_bytes; at < places.sums_offset && offset == 0; at++) {
        /* number 0 and its slots are the only ones */
        offset = nphdi_get32(data + at) == 0 && nphdi_get64(data + at + 16) == slots ? at : 0;
    }
    assert_true(offset > 0);
    memset(data + offset + NPHDI_HIDDEN_HEAD_BYTES, 0xff, (slots + 63) / 64 * 8);
    trailer_repair(data, &places);
    dirlab_put(lab, "tombstones.npy", data, bytes);
    free(data);
}

/* More dead entries than entries would make the counts of what is left wrap around. */
static void test_dead_entries_that_are_none(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    dirlab_add(lab, sharded, 0, 200);
    for (uint64_t key = 10; key < 60; key++) {
        dirlab_remove(lab, sharded, key);
    }
    OK(nphd_sharded_rotate(sharded, NULL)); /* with 50 slots that have no entry */
    dirlab_remove(lab, sharded, 5);
    dirlab_close(sharded);
    hide_everything(lab, 200);
    sharded = dirlab_open(lab, NULL);
    nphd_sharded_stats stats = dirlab_stats(sharded);
    assert_int_equal(stats.dead, 150);
    assert_int_equal(stats.size, 0);
    assert_int_equal(nphd_sharded_size(sharded), 0);
    nphd_sharded_free(sharded);
}

/* A trailer that counts fewer vectors than are dead. */
static void test_fewer_vectors_than_dead_ones(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    trailer_places places = {0, 0, 0, 0, 0, 0};
    nphd_match match;
    nphd_search_report report;
    uint8_t bits[8];
    size_t bytes = 0;

    dirlab_add(lab, sharded, 0, 20);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_remove(lab, sharded, 3);
    dirlab_remove(lab, sharded, 4);
    dirlab_close(sharded);
    uint8_t *data = memory_io_get(lab->disk, dirlab_path("shard_000.usearch"), &bytes);
    assert_true(trailer_places_find(data, bytes, &places));
    assert_int_equal(nphdi_get64(data + places.directory_offset + TRAILER_LIVE), 20);
    nphdi_put64(data + places.directory_offset + TRAILER_LIVE, 1);
    trailer_repair(data, &places);
    dirlab_put(lab, "shard_000.usearch", data, bytes);
    free(data);
    sharded = dirlab_open(lab, NULL);
    assert_int_equal(nphd_sharded_size(sharded), 0);
    assert_int_equal(dirlab_stats(sharded).size, 0);
    /* few vectors are searched exactly, very many are not */
    OK(nphd_sharded_search(sharded, dirlab_vector(5, 0, bits), 1, NULL, &match, &report, NULL));
    assert_true(report.exact);
    nphd_sharded_free(sharded);
}

/* ---- readers ---- */

static void test_reader_keeps_its_breadth(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    bool changed = false;

    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    nphd_sharded *reader = reader_open(lab);
    OK(nphd_sharded_set_breadth(reader, 0, 77, NULL));
    dirlab_add(lab, sharded, 10, 20);
    OK(nphd_sharded_set_breadth(sharded, 99, 98, NULL));
    OK(nphd_sharded_save(sharded, NULL, NULL));
    OK(nphd_sharded_refresh(reader, &changed, NULL));
    assert_true(changed);
    assert_int_equal(dirlab_stats(reader).build_breadth, 99);
    assert_int_equal(dirlab_stats(reader).search_breadth, 77);
    dirlab_expect(lab, reader);
    nphd_sharded_free(reader);
    dirlab_close(sharded);
}

/* The same path has an index of another kind now: a handle does not change its kind. */
static void test_reader_meets_another_index(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    nphd_sharded *other = NULL;
    bool changed = true;

    dirlab_add(lab, sharded, 0, 10);
    dirlab_close(sharded);
    nphd_sharded *reader = reader_open(lab);
    dirlab_delete(lab, "shard_000.usearch");
    dirlab_delete(lab, "bloom.isbf");
    dirlab_forget_head(lab);
    options.key_bits = 128;
    OK(nphd_sharded_open(DIRLAB_FOLDER, &options, &other, NULL));
    OK(nphd_sharded_add(other, (nphd_key){1, 2}, (nphd_vector){(const uint8_t *)"12345678", 8},
                        NULL, NULL));
    dirlab_close(other);
    assert_int_equal(nphd_sharded_refresh(reader, &changed, NULL), NPHD_MISMATCH);
    assert_false(changed);
    dirlab_expect(lab, reader);
    nphd_sharded_free(reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_automatic_keys_of_a_part),
        DIRLAB_TEST(test_commit_of_a_part),
        DIRLAB_TEST(test_save_tries_again),
        DIRLAB_TEST(test_last_number),
        DIRLAB_TEST(test_dead_entries_that_are_none),
        DIRLAB_TEST(test_fewer_vectors_than_dead_ones),
        DIRLAB_TEST(test_reader_keeps_its_breadth),
        DIRLAB_TEST(test_reader_meets_another_index),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
