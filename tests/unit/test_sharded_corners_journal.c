/* Corners of the journal: left beside shards that do not continue it, generations at their end, a
 * commit after a rotation that failed or of a single call, and two threads that close. */
#include "base/bytes.h"
#include "formats/shard_record.h"
#include "support/directory_lab.h"
#include "support/trailer_repair.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

#define OK(call) assert_int_equal((call), NPHD_OK)
/* A journal that was not applied goes with the next save, whose identity is another one. */
static void test_left_journal(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    options.journal = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    dirlab_upsert(lab, sharded, 3, 1);
    OK(nphd_sharded_commit(sharded, NULL));
    nphd_sharded_free(sharded);
    /* the reference rewrites everything */
    dirlab_delete(lab, "bloom.isbf");
    dirlab_put_shard(lab, "shard_000.usearch", NULL, 0, 12, 2);
    options.connectivity = 0;
    dirlab_refused(lab, &options, NPHD_MISMATCH, "shard_000.usearch", "journal_");
    options.reference_wrote_last = true;
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_upsert(lab, sharded, 5, 3);
    dirlab_close(sharded);
    options.reference_wrote_last = false;
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}
/* An emptied directory, and the end came between the removal of its only shard and of the journal.
 */
static void test_left_journal_of_emptied(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    options.journal = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 0, 3);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    for (uint64_t k = 0; k < 3; k++)
        dirlab_remove(lab, sharded, k);
    OK(nphd_sharded_commit(sharded, NULL));
    nphd_sharded_free(sharded);
    options.journal = false;
    sharded = dirlab_open(lab, &options);
    io_fault_arm(&lab->fault, IO_FAULT_REMOVE, 2, EIO, true); /* shard goes, journal does not */
    (void)nphd_sharded_close(sharded, NULL);
    nphd_sharded_free(sharded);
    io_fault_disarm(&lab->fault);
    sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 0, 3);
    dirlab_close(sharded);
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}
/* A generation behind which there is none: the file counts as damaged. */
static void test_last_generation(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 0, 10);
    dirlab_close(sharded);
    size_t bytes = 0;
    uint8_t *data = memory_io_get(lab->disk, dirlab_path("bloom.isbf"), &bytes);
    trailer_places places = {0, 0, 0, 0, 0, 0};
    assert_true(trailer_places_find(data, bytes, &places));
    nphdi_put64(data + places.directory_offset + 16, UINT64_MAX);
    trailer_repair(data, &places);
    dirlab_put(lab, "bloom.isbf", data, bytes);
    free(data);
    sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 10, 20);
    dirlab_close(sharded);
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    assert_true(dirlab_stats(sharded).generation < 100);
    dirlab_add(lab, sharded, 20, 30);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_remove(lab, sharded, 4);
    dirlab_close(sharded);
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}
static bool has_told(dirlab *lab, const char *text)
{
    (void)pthread_mutex_lock(&lab->log_lock);
    const bool told = strstr(lab->log, text) != NULL;
    (void)pthread_mutex_unlock(&lab->log_lock);
    return told;
}

/* The journal does not wait for a rotation that cannot be written. */
static void test_commit_refused(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    const struct timespec moment = {0, 1000000};
    options.journal = true;
    options.background_rotation = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    dirlab_add(lab, sharded, 10, 20);
    io_fault_arm(&lab->fault, IO_FAULT_RENAME, 1, EIO, true);
    OK(nphd_sharded_rotate(sharded, NULL));
    for (int i = 0; i < 2000 && !has_told(lab, "rotation of"); i++) {
        (void)nanosleep(&moment, NULL);
    }
    nphd_status first = nphd_sharded_commit(sharded, NULL);
    io_fault_disarm(&lab->fault);
    assert_int_equal(first, NPHD_OK);
    dirlab_close(sharded);
}
/* Whoever comes second waits until the thread that commits is gone. */
static void *closer(void *context)
{
    (void)nphd_sharded_close(context, NULL);
    return NULL;
}
static void test_close_twice(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    options.commit_interval_ms = 1;
    for (int i = 0; i < 100; i++) {
        nphd_sharded *sharded = dirlab_open(lab, &options);
        pthread_t one;
        pthread_t two;
        assert_int_equal(pthread_create(&one, NULL, closer, sharded), 0);
        assert_int_equal(pthread_create(&two, NULL, closer, sharded), 0);
        (void)pthread_join(one, NULL);
        (void)pthread_join(two, NULL);
        nphd_sharded_free(sharded);
    }
}
/* The change stands in memory, the outputs tell of it, and the next commit makes it durable. */
static void test_commit_of_a_call_fails(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    const nphd_key key = nphd_key_u64(3);
    size_t removed = 0;

    options.commit_each_call = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 10, 20);
    io_fault_arm(&lab->fault, IO_FAULT_SYNC, 1, EIO, true);
    assert_int_equal(nphd_sharded_remove(sharded, &key, 1, &removed, NULL), NPHD_IO);
    io_fault_disarm(&lab->fault);
    assert_int_equal(removed, 1);
    dirlab_drop(&lab->items, key);
    dirlab_expect(lab, sharded);
    OK(nphd_sharded_commit(sharded, NULL));
    nphd_sharded_free(sharded);
    memory_io_power_off(lab->disk, MEMORY_IO_WEAK, 0);
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_left_journal),           DIRLAB_TEST(test_left_journal_of_emptied),
        DIRLAB_TEST(test_last_generation),        DIRLAB_TEST(test_commit_refused),
        DIRLAB_TEST(test_commit_of_a_call_fails), DIRLAB_TEST(test_close_twice)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
