/* Keys that are replaced again and again: neither the filter nor the journal grows without end. */
#include "support/directory_lab.h"

#include <errno.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

enum { KEYS = 100 };

static nphd_sharded_options with_journal(dirlab *lab)
{
    nphd_sharded_options options = dirlab_small(lab);

    options.journal = true;
    options.shard_bytes = 1 << 20;
    return options;
}

static size_t journals(const dirlab *lab)
{
    return memory_io_count(lab->disk, DIRLAB_FOLDER "/journal_");
}

/* All keys get vectors of that edition. */
static void replace_all(dirlab *lab, nphd_sharded *sharded, uint8_t edition)
{
    nphd_key keys[KEYS];
    nphd_vector vectors[KEYS];
    uint8_t bits[KEYS][8];

    for (uint64_t i = 0; i < KEYS; i++) {
        keys[i] = nphd_key_u64(i);
        vectors[i] = dirlab_vector(i, edition, bits[i]);
        dirlab_set(&lab->items, keys[i], vectors[i]);
    }
    OK(nphd_sharded_upsert(sharded, keys, vectors, KEYS, NULL, NULL, NULL));
}

static uint64_t journal_bytes(const dirlab *lab, nphd_sharded *sharded)
{
    nphd_sharded_stats stats = dirlab_stats(sharded);

    return journals(lab) == 0 ? 0 : stats.disk_bytes;
}

/* 1 MiB is the least at which it pays. */
static void test_journals_end_by_themselves(void **state)
{
    enum { COMMITS = 600 };
    dirlab *lab = *state;
    const nphd_sharded_options options = with_journal(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    uint64_t most = 0;
    unsigned folded = 0;

    replace_all(lab, sharded, 0);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    const nphd_sharded_stats before = dirlab_stats(sharded);
    for (unsigned i = 1; i <= COMMITS; i++) {
        replace_all(lab, sharded, (uint8_t)i);
        OK(nphd_sharded_commit(sharded, NULL));
        folded += journals(lab) == 0 ? 1 : 0;
        const uint64_t bytes = journal_bytes(lab, sharded);
        most = bytes > most ? bytes : most;
    }
    const nphd_sharded_stats after = dirlab_stats(sharded);
    assert_int_equal(folded, 2);
    assert_true(most > 1 << 20 && most < (1 << 20) + before.disk_bytes + 8192);
    assert_int_equal(after.bloom_keys, KEYS);
    assert_int_equal(after.bloom_bytes, before.bloom_bytes);
    assert_true(after.memory_bytes < before.memory_bytes + 16384);
    nphd_sharded_free(sharded);
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* The commit is durable in the journal, whatever becomes of the save; that is tried again when the
 * journal is twice as long. */
static void test_a_save_that_fails_fails_no_commit(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = with_journal(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    uint8_t edition = 0;
    unsigned told = 0;

    replace_all(lab, sharded, 0);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    io_fault_arm(&lab->fault, IO_FAULT_RENAME, 1, ENOSPC, true); /* of every file */
    for (unsigned i = 0; i < 450; i++) {
        replace_all(lab, sharded, ++edition);
        OK(nphd_sharded_commit(sharded, NULL));
        told += strstr(lab->log, "saving it into a shard failed") != NULL ? 1 : 0;
        dirlab_forget_log(lab);
    }
    io_fault_disarm(&lab->fault);
    assert_int_equal(told, 1);
    assert_int_equal(journals(lab), 1);
    nphd_sharded *reader;
    nphd_sharded_options looking = dirlab_options(lab);
    looking.read_only = true;
    reader = dirlab_open(lab, &looking);
    dirlab_expect(lab, reader);
    nphd_sharded_free(reader);
    for (unsigned i = 0; journals(lab) > 0; i++) {
        assert_true(i < 100);
        replace_all(lab, sharded, ++edition);
        OK(nphd_sharded_commit(sharded, NULL));
    }
    nphd_sharded_free(sharded);
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    nphd_sharded_free(sharded);
}

/* A journal that is shorter than what a save would write, twice over, stays. */
static void test_large_shards_are_not_saved_often(void **state)
{
    enum { VECTORS = 16000 };
    nphd_key *keys = calloc(VECTORS, sizeof(*keys));
    nphd_vector *vectors = calloc(VECTORS, sizeof(*vectors));
    dirlab *lab = *state;
    nphd_sharded_options options = with_journal(lab);

    options.shard_bytes = 1 << 26;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    assert_true(keys != NULL && vectors != NULL);
    for (uint64_t i = 0; i < VECTORS; i++) {
        keys[i] = nphd_key_u64(1000 + i);
        vectors[i] = (nphd_vector){(const uint8_t *)&keys[i].low, 8};
    }
    OK(nphd_sharded_add_many(sharded, keys, vectors, VECTORS, NULL, NULL, NULL, NULL));
    OK(nphd_sharded_save(sharded, NULL, NULL));
    const uint64_t shard = dirlab_stats(sharded).disk_bytes;
    assert_true(shard > 1 << 20);
    for (uint64_t bytes = 0; bytes < 2 * (shard - shard / 3); bytes += 4096) {
        replace_all(lab, sharded, 1);
        OK(nphd_sharded_commit(sharded, NULL));
        assert_int_equal(journals(lab), 1);
    }
    nphd_sharded_free(sharded);
    free(keys);
    free(vectors);
}

/* In a multi index too, and with keys that were removed meanwhile. */
static void test_filter_counts_keys_once(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = with_journal(lab);
    uint8_t bits[8];

    nphd_sharded *sharded = dirlab_open(lab, &options);
    for (uint8_t round = 0; round < 10; round++) {
        dirlab_add(lab, sharded, 0, 50);
        for (uint64_t key = 0; key < 50; key++) {
            dirlab_remove(lab, sharded, key);
        }
    }
    assert_int_equal(dirlab_stats(sharded).bloom_keys, 50);
    nphd_sharded_free(sharded);
    options = dirlab_options(lab);
    options.max_bits = 64;
    options.multi = 2;
    nphd_sharded *multi = NULL;
    OK(nphd_sharded_open("multi", &options, &multi, NULL));
    for (uint8_t round = 0; round < 200; round++) {
        OK(nphd_sharded_add(multi, nphd_key_u64(7), dirlab_vector(7, round, bits), NULL, NULL));
    }
    assert_int_equal(dirlab_stats(multi).bloom_keys, 1);
    assert_int_equal(nphd_sharded_size(multi), 200);
    nphd_sharded_free(multi);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_journals_end_by_themselves),
        DIRLAB_TEST(test_a_save_that_fails_fails_no_commit),
        DIRLAB_TEST(test_large_shards_are_not_saved_often),
        DIRLAB_TEST(test_filter_counts_keys_once),
    };

    return cmocka_run_group_tests_name("keys that are replaced again and again", tests, NULL, NULL);
}
