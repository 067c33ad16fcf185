/* Commits that fail, and commits of many threads: nothing that was acknowledged is missing, nothing
 * in memory is lost, and the next commit has it all. */
#include "support/directory_content.h"
#include "support/directory_lab.h"
#include "support/io_watched.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

static size_t journals(const dirlab *lab)
{
    return memory_io_count(lab->disk, DIRLAB_FOLDER "/journal_");
}

static void expect_again(dirlab *lab, const nphd_sharded_options *options)
{
    nphd_sharded *sharded = dirlab_open(lab, options);

    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* ---- calls that fail ---- */

/* Whichever call of a commit fails: an error, and the next commit saves everything. */
static void test_failing_commit(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_with_journal(lab);

    for (int created = 0; created < 2; created++) {
        uint64_t failed = 1;
        for (uint64_t number = 1; failed > 0; number++) {
            nphd_sharded *sharded = dirlab_open(lab, &options);
            OK(nphd_sharded_reset(sharded, NULL));
            lab->items.count = 0;
            dirlab_add(lab, sharded, 0, 10);
            OK(nphd_sharded_save(sharded, NULL, NULL));
            if (created != 0) { /* the file is there already */
                dirlab_add(lab, sharded, 10, 20);
                OK(nphd_sharded_commit(sharded, NULL));
            }
            dirlab_add(lab, sharded, 20, 30);
            dirlab_remove(lab, sharded, 3);
            io_fault_arm(&lab->fault, IO_FAULT_ALL & ~IO_FAULT_CLOSE, number, ENOSPC, false);
            const nphd_status status = nphd_sharded_commit(sharded, NULL);
            io_fault_disarm(&lab->fault);
            failed = lab->fault.failed;
            assert_int_equal(status, failed > 0 ? NPHD_NO_SPACE : NPHD_OK);
            dirlab_expect(lab, sharded);
            dirlab_upsert(lab, sharded, 4, 1);
            OK(nphd_sharded_commit(sharded, NULL));
            assert_int_equal(journals(lab), failed > 0 ? 0 : 1);
            dirlab_expect(lab, sharded);
            dirlab_remove(lab, sharded, 5); /* and then there is a journal again */
            OK(nphd_sharded_commit(sharded, NULL));
            assert_int_equal(journals(lab), 1);
            nphd_sharded_free(sharded);
            assert_int_equal(lab->fault.repeated_syncs, 0);
            expect_again(lab, &options);
        }
    }
}

/* A flush that failed may have kept some of it: what was committed before is there in any case. */
static void test_failed_commit_and_crash(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_with_journal(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    dirlab_add(lab, sharded, 10, 20);
    OK(nphd_sharded_commit(sharded, NULL));
    dirlab_add(lab, sharded, 20, 30);
    io_fault_arm(&lab->fault, IO_FAULT_SYNC, 1, EIO, true);
    assert_int_equal(nphd_sharded_commit(sharded, NULL), NPHD_IO);
    assert_int_equal(nphd_sharded_commit(sharded, NULL), NPHD_IO); /* the save fails too */
    dirlab_expect(lab, sharded);
    io_fault_disarm(&lab->fault);
    nphd_sharded_free(sharded);
    assert_int_equal(lab->fault.repeated_syncs, 0);
    memory_io_power_off(lab->disk, MEMORY_IO_WEAK, 0);
    for (uint64_t key = 20; key < 30; key++) {
        dirlab_drop(&lab->items, nphd_key_u64(key));
    }
    expect_again(lab, &options);
}

/* A save that fails after its shard is in place: what is committed then counts with that shard. */
static void test_save_fails_behind_the_shard(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_with_journal(lab);
    uint64_t failed = 1;

    for (uint64_t number = 1; failed > 0; number++) {
        nphd_sharded *sharded = dirlab_open(lab, &options);
        OK(nphd_sharded_reset(sharded, NULL));
        lab->items.count = 0;
        dirlab_add(lab, sharded, 0, 10);
        OK(nphd_sharded_rotate(sharded, NULL));
        dirlab_remove(lab, sharded, 3);
        dirlab_add(lab, sharded, 10, 20);
        OK(nphd_sharded_commit(sharded, NULL));
        io_fault_arm(&lab->fault, IO_FAULT_ALL & ~IO_FAULT_CLOSE, number, EIO, false);
        (void)nphd_sharded_save(sharded, NULL, NULL);
        io_fault_disarm(&lab->fault);
        failed = lab->fault.failed;
        dirlab_remove(lab, sharded, 4);
        dirlab_add(lab, sharded, 20, 25);
        OK(nphd_sharded_commit(sharded, NULL));
        nphd_sharded_free(sharded);
        memory_io_power_off(lab->disk, MEMORY_IO_WEAK, 0);
        expect_again(lab, &options);
    }
}

/* The same for a compaction, and with the names of both kinds of power cut. */
static void test_compaction_fails(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_with_journal(lab);
    uint64_t failed = 1;

    for (uint64_t number = 1; failed > 0; number++) {
        nphd_sharded *sharded = dirlab_open(lab, &options);
        OK(nphd_sharded_reset(sharded, NULL));
        lab->items.count = 0;
        dirlab_add(lab, sharded, 0, 10);
        OK(nphd_sharded_rotate(sharded, NULL));
        dirlab_add(lab, sharded, 10, 20);
        OK(nphd_sharded_rotate(sharded, NULL));
        for (uint64_t key = 0; key < 8; key++) {
            dirlab_remove(lab, sharded, key);
        }
        io_fault_arm(&lab->fault, IO_FAULT_RENAME | IO_FAULT_SYNC_DIRECTORY | IO_FAULT_REMOVE,
                     number, EIO, false);
        (void)nphd_sharded_compact(sharded, NULL, NULL, NULL);
        io_fault_disarm(&lab->fault);
        failed = lab->fault.failed;
        dirlab_remove(lab, sharded, 9);
        dirlab_add(lab, sharded, 20, 25);
        OK(nphd_sharded_commit(sharded, NULL));
        nphd_sharded_free(sharded);
        memory_io_power_off(lab->disk, MEMORY_IO_WEAK, number % 5);
        expect_again(lab, &options);
    }
}

static void test_memory(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_with_journal(lab);
    uint64_t failed = 1;

    for (uint64_t number = 1; failed > 0; number++) {
        nphd_sharded *sharded = dirlab_open(lab, &options);
        OK(nphd_sharded_reset(sharded, NULL));
        lab->items.count = 0;
        dirlab_add(lab, sharded, 0, 10);
        OK(nphd_sharded_save(sharded, NULL, NULL));
        dirlab_add(lab, sharded, 10, 20);
        allocator_fault_arm(&lab->allocator, ALLOCATOR_FAULT_ALL, number, false);
        const nphd_status status = nphd_sharded_commit(sharded, NULL);
        failed = lab->allocator.failed;
        allocator_fault_arm(&lab->allocator, ALLOCATOR_FAULT_ALL, 0, false);
        assert_int_equal(status, failed > 0 ? NPHD_OUT_OF_MEMORY : NPHD_OK);
        OK(nphd_sharded_commit(sharded, NULL));
        assert_int_equal(journals(lab), 1);
        nphd_sharded_free(sharded);
        expect_again(lab, &options);
    }
}

/* ---- beside rotations that wait ---- */

typedef struct waiting {
    watched_io io;
    nphd_io table;
    atomic_bool hold; /* shard files are not renamed */
    atomic_int fail;  /* so many flushes of files fail */
    atomic_int ready; /* changes about to be committed */
    nphd_sharded_options options;
    nphd_sharded *sharded;
} waiting;

static int waiting_rename(void *context, const char *from, const char *to)
{
    waiting *of = context;
    const struct timespec moment = {0, 1000000};

    while (atomic_load(&of->hold) && strstr(to, "/shard_") != NULL) {
        (void)nanosleep(&moment, NULL);
    }
    return of->io.below->rename(of->io.below->context, from, to);
}

static int waiting_sync(void *context, nphd_file file)
{
    waiting *of = context;

    if (atomic_load(&of->fail) > 0) {
        (void)atomic_fetch_sub(&of->fail, 1);
        return EIO;
    }
    return of->io.below->sync(of->io.below->context, file);
}

/* The watched table at the beginning of `waiting` has the other functions. */
static waiting *waiting_open(dirlab *lab)
{
    waiting *of = calloc(1, sizeof(*of));

    assert_non_null(of);
    watched_init(&of->io, &lab->fault.table);
    of->table = of->io.table;
    of->table.rename = waiting_rename;
    of->table.sync = waiting_sync;
    of->options = dirlab_with_journal(lab);
    of->options.io = &of->table;
    of->options.background_rotation = true;
    of->options.max_pending_rotations = 8;
    of->sharded = dirlab_open(lab, &of->options);
    return of;
}

/* The process ends while rotations wait: the disk is what is there before they are let go. */
static memory_io *crash_now(dirlab *lab, waiting *of)
{
    memory_io *after = memory_io_crash(lab->disk, MEMORY_IO_WEAK, 0);

    atomic_store(&of->hold, false);
    nphd_sharded_free(of->sharded);
    (void)pthread_mutex_destroy(&of->io.mutex);
    (void)pthread_cond_destroy(&of->io.changed);
    free(of);
    return after;
}

static void expect_on(dirlab *lab, memory_io *disk)
{
    nphd_sharded_options options = dirlab_with_journal(lab);
    nphd_sharded *sharded;

    options.io = memory_io_table(disk);
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    memory_io_destroy(disk);
}

/* Commits after a rotation began that is never finished; what came before has or has no journal. */
static void test_commits_beside_a_rotation(void **state)
{
    dirlab *lab = *state;

    for (int before = 0; before < 3; before++) {
        waiting *of = waiting_open(lab);
        OK(nphd_sharded_reset(of->sharded, NULL));
        lab->items.count = 0;
        dirlab_add(lab, of->sharded, 0, 10);
        OK(nphd_sharded_save(of->sharded, NULL, NULL));
        atomic_store(&of->hold, true);
        if (before > 0) {
            dirlab_remove(lab, of->sharded, 2);
        }
        if (before > 1) {
            OK(nphd_sharded_commit(of->sharded, NULL));
            dirlab_add(lab, of->sharded, 10, 20);
        }
        OK(nphd_sharded_rotate(of->sharded, NULL));
        dirlab_add(lab, of->sharded, 20, 30);
        dirlab_remove(lab, of->sharded, 5);
        OK(nphd_sharded_commit(of->sharded, NULL));
        OK(nphd_sharded_rotate(of->sharded, NULL));
        dirlab_upsert(lab, of->sharded, 25, 1);
        OK(nphd_sharded_commit(of->sharded, NULL));
        assert_int_equal(dirlab_stats(of->sharded).pending_rotations, 2);
        expect_on(lab, crash_now(lab, of));
        expect_again(lab, NULL); /* and with the rotations that were let go */
    }
}

/* A new directory has nothing that a journal could continue while its first rotation waits. */
static void *let_go(void *context)
{
    waiting *of = context;
    const struct timespec moment = {0, 50000000};

    (void)nanosleep(&moment, NULL);
    atomic_store(&of->hold, false);
    return NULL;
}

static void test_first_rotation_waits(void **state)
{
    dirlab *lab = *state;
    waiting *of = waiting_open(lab);
    pthread_t thread;

    atomic_store(&of->hold, true);
    dirlab_add(lab, of->sharded, 0, 10);
    OK(nphd_sharded_rotate(of->sharded, NULL));
    dirlab_add(lab, of->sharded, 10, 20);
    assert_int_equal(pthread_create(&thread, NULL, let_go, of), 0);
    OK(nphd_sharded_commit(of->sharded, NULL));
    expect_on(lab, crash_now(lab, of));
    assert_int_equal(pthread_join(thread, NULL), 0);
    expect_again(lab, NULL);
}

/* Two journals are written, the first flush fails, and the rotation makes that one superfluous: the
 * records of the second are not forgotten. */
static void test_failed_flush_beside_a_rotation(void **state)
{
    dirlab *lab = *state;
    waiting *of = waiting_open(lab);

    dirlab_add(lab, of->sharded, 0, 10);
    OK(nphd_sharded_save(of->sharded, NULL, NULL));
    dirlab_add(lab, of->sharded, 10, 20);
    OK(nphd_sharded_commit(of->sharded, NULL));
    dirlab_add(lab, of->sharded, 20, 30);
    atomic_store(&of->hold, true);
    OK(nphd_sharded_rotate(of->sharded, NULL));
    dirlab_add(lab, of->sharded, 30, 40);
    const struct timespec moment = {0, 50000000};
    (void)nanosleep(&moment, NULL); /* the rotation comes to its rename */
    atomic_store(&of->fail, 1);
    assert_int_equal(nphd_sharded_commit(of->sharded, NULL), NPHD_IO);
    atomic_store(&of->hold, false);
    OK(nphd_sharded_drain(of->sharded, UINT64_MAX, NULL));
    dirlab_add(lab, of->sharded, 40, 50);
    OK(nphd_sharded_commit(of->sharded, NULL));
    expect_on(lab, crash_now(lab, of));
}

/* The rotation has taken all that waited, and the file that later changes go to has nothing yet: a
 * commit has nothing to write, and what comes then goes where it belongs. */
static void test_commit_of_what_a_rotation_took(void **state)
{
    dirlab *lab = *state;
    waiting *of = waiting_open(lab);
    const nphd_key absent = nphd_key_u64(1000);

    dirlab_add(lab, of->sharded, 0, 10);
    OK(nphd_sharded_save(of->sharded, NULL, NULL));
    dirlab_add(lab, of->sharded, 10, 20);
    atomic_store(&of->hold, true);
    OK(nphd_sharded_rotate(of->sharded, NULL));
    OK(nphd_sharded_remove(of->sharded, &absent, 1, NULL, NULL)); /* makes room for a record */
    atomic_store(&of->hold, false);
    OK(nphd_sharded_drain(of->sharded, UINT64_MAX, NULL));
    io_fault_arm(&lab->fault, IO_FAULT_ALL, UINT64_MAX, EIO, false);
    OK(nphd_sharded_commit(of->sharded, NULL));
    assert_int_equal(lab->fault.calls, 0);
    io_fault_disarm(&lab->fault);
    assert_int_equal(memory_io_count(lab->disk, DIRLAB_FOLDER "/journal_"), 0);
    memory_io *between = memory_io_crash(lab->disk, MEMORY_IO_WEAK, 0);
    expect_on(lab, between);
    dirlab_add(lab, of->sharded, 20, 25);
    OK(nphd_sharded_commit(of->sharded, NULL));
    assert_int_equal(memory_io_count(lab->disk, DIRLAB_FOLDER "/journal_"), 1);
    expect_on(lab, crash_now(lab, of));
}

/* ---- many threads ---- */

enum { THREADS = 8, COMMITS = 50 };

typedef struct committer {
    waiting *with;
    pthread_barrier_t *round;
    uint64_t first;
    nphd_status status;
} committer;

/* In each round, every thread makes a change of its own durable. */
static void *commit_often(void *context)
{
    committer *of = context;
    uint8_t bits[8];

    for (uint64_t i = 0; i < COMMITS; i++) {
        const uint64_t key = of->first + i;
        if (of->status == NPHD_OK) {
            of->status = nphd_sharded_add(of->with->sharded, nphd_key_u64(key),
                                          dirlab_vector(key, 0, bits), NULL, NULL);
        }
        atomic_fetch_add(&of->with->ready, 1);
        if (of->status == NPHD_OK) {
            of->status = nphd_sharded_commit(of->with->sharded, NULL);
        }
        (void)pthread_barrier_wait(of->round);
    }
    return NULL;
}

/* A flush that lasts until all threads have made their change of the round. */
static int sync_of_a_crowd(void *context, nphd_file file)
{
    waiting *of = context;
    const struct timespec moment = {0, 100000};

    while (atomic_load(&of->ready) % THREADS != 0) {
        (void)nanosleep(&moment, NULL);
    }
    return of->io.below->sync(of->io.below->context, file);
}

static void test_shared_flushes(void **state)
{
    dirlab *lab = *state;
    committer committers[THREADS];
    pthread_t threads[THREADS];
    pthread_barrier_t round;
    waiting *of = waiting_open(lab);
    uint8_t bits[8];

    OK(nphd_sharded_add(of->sharded, nphd_key_u64(1 << 20), dirlab_vector(1 << 20, 0, bits), NULL,
                        NULL));
    dirlab_set(&lab->items, nphd_key_u64(1 << 20), dirlab_vector(1 << 20, 0, bits));
    OK(nphd_sharded_save(of->sharded, NULL, NULL));
    of->table.sync = sync_of_a_crowd;
    assert_int_equal(pthread_barrier_init(&round, NULL, THREADS), 0);
    io_fault_arm(&lab->fault, IO_FAULT_SYNC, 0, 0, false);
    for (size_t i = 0; i < THREADS; i++) {
        committers[i] = (committer){of, &round, 1000 * i, NPHD_OK};
        assert_int_equal(pthread_create(&threads[i], NULL, commit_often, &committers[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        OK(committers[i].status);
        for (uint64_t key = 1000 * i; key < 1000 * i + COMMITS; key++) {
            dirlab_set(&lab->items, nphd_key_u64(key), dirlab_vector(key, 0, bits));
        }
    }
    io_fault_disarm(&lab->fault);
    (void)pthread_barrier_destroy(&round);
    /* two for the beginning of the journal and the word of it in lock; those that come while one
     * flushes go together */
    assert_true(lab->fault.calls <= 2 + 2 * COMMITS);
    assert_true(lab->fault.calls >= COMMITS);
    expect_on(lab, crash_now(lab, of));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_failing_commit),
        DIRLAB_TEST(test_failed_commit_and_crash),
        DIRLAB_TEST(test_save_fails_behind_the_shard),
        DIRLAB_TEST(test_compaction_fails),
        DIRLAB_TEST(test_memory),
        DIRLAB_TEST(test_commits_beside_a_rotation),
        DIRLAB_TEST(test_first_rotation_waits),
        DIRLAB_TEST(test_failed_flush_beside_a_rotation),
        DIRLAB_TEST(test_commit_of_what_a_rotation_took),
        DIRLAB_TEST(test_shared_flushes),
    };

    return cmocka_run_group_tests_name("failing commits", tests, NULL, NULL);
}
