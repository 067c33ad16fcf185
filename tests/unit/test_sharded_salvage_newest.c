/* Salvage where the journal changes the newest shard: its entries are in the new directory once,
 * as the journal left them; and damage of that shard costs no more than the damaged part. */
#include "support/directory_lab.h"

#include <stdio.h>

#define OK(call) assert_int_equal((call), NPHD_OK)
#define CLEAN "clean"
#define PER_SHARD 2000 /* vectors: a file of several blocks */

/* The counts of a call, and how often it told of damage. */
typedef struct outcome {
    nphd_salvage_report report;
    size_t told;
} outcome;

static void count_damage(void *context, const char *text)
{
    outcome *out = context;

    assert_true(strlen(text) > 0);
    out->told++;
}

static void salvage(dirlab *lab, outcome *out)
{
    const nphd_sharded_options options = dirlab_options(lab);

    memset(out, 0, sizeof(*out));
    OK(nphd_directory_salvage(DIRLAB_FOLDER, CLEAN, options.io, count_damage, out, &out->report,
                              NULL));
}

static nphd_sharded *open_clean(dirlab *lab)
{
    const nphd_sharded_options options = dirlab_options(lab);
    nphd_sharded *sharded = NULL;

    OK(nphd_sharded_open(CLEAN, &options, &sharded, NULL));
    return sharded;
}

static void close_clean(nphd_sharded *sharded)
{
    OK(nphd_sharded_close(sharded, NULL));
    nphd_sharded_free(sharded);
}

static void commit_and_free(nphd_sharded *sharded)
{
    OK(nphd_sharded_commit(sharded, NULL));
    nphd_sharded_free(sharded);
}

/* A view shard, and the newest one with the keys behind those of the first. */
static nphd_sharded *write_two(dirlab *lab, nphd_sharded_options *options)
{
    *options = dirlab_small(lab);
    options->journal = true;
    nphd_sharded *sharded = dirlab_open(lab, options);
    dirlab_add(lab, sharded, 0, PER_SHARD);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, PER_SHARD, 2 * PER_SHARD);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    return sharded;
}

static void write_journal(dirlab *lab, nphd_sharded *sharded)
{
    for (uint64_t first = 1; first < 2 * PER_SHARD; first += PER_SHARD) {
        dirlab_remove(lab, sharded, first);
        dirlab_upsert(lab, sharded, first + 1, 1);
        dirlab_remove(lab, sharded, first + 2);
        dirlab_add(lab, sharded, first + 2, first + 3); /* removed and there again */
    }
    dirlab_add(lab, sharded, 5 * PER_SHARD, 5 * PER_SHARD + 10);
    commit_and_free(sharded);
}

static void test_journal(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options;
    outcome out;

    write_journal(lab, write_two(lab, &options));
    salvage(lab, &out);
    assert_int_equal(out.told, 0);
    assert_int_equal(out.report.unreadable, 0);
    nphd_sharded *clean = open_clean(lab);
    dirlab_expect(lab, clean);
    close_clean(clean);
}

static void test_multi(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    outcome out;

    options.journal = true;
    options.multi = 2;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 0, 20);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    dirlab_add(lab, sharded, 20, 30);
    commit_and_free(sharded);
    salvage(lab, &out);
    nphd_sharded *clean = open_clean(lab);
    dirlab_expect(lab, clean);
    close_clean(clean);
}

/* Damaged where opening does not look. What is missing is in the damaged block alone. */
static void test_damage_below_journal(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options;
    outcome out;
    uint64_t missing = 0;

    write_journal(lab, write_two(lab, &options));
    dirlab_damage(lab, "shard_001.usearch", 70000);
    salvage(lab, &out);
    assert_true(out.told > 0);
    nphd_sharded *clean = open_clean(lab);
    for (uint64_t key = PER_SHARD; key < 2 * PER_SHARD; key++) {
        if (dirlab_find(&lab->items, nphd_key_u64(key)) != NULL && !dirlab_has(clean, key)) {
            dirlab_drop(&lab->items, nphd_key_u64(key));
            missing++;
        }
    }
    assert_true(missing > 0 && missing < PER_SHARD && missing <= out.report.unreadable);
    dirlab_expect(lab, clean);
    close_clean(clean);
}

/* A handle that was opened with salvage takes changes too, and keeps the damaged shard as a view.
 */
static void test_change_of_damaged(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options;

    dirlab_close(write_two(lab, &options));
    dirlab_damage(lab, "shard_001.usearch", 70000);
    options.salvage = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_remove(lab, sharded, PER_SHARD + 1);
    dirlab_add(lab, sharded, 5 * PER_SHARD, 5 * PER_SHARD + 10);
    assert_non_null(strstr(lab->damage, "shard_001.usearch"));
    OK(nphd_sharded_save(sharded, NULL, NULL));
    nphd_sharded_free(sharded);
    assert_true(dirlab_exists(lab, "shard_002.usearch"));
    options.salvage = false;
    sharded = dirlab_open(lab, &options);
    assert_false(dirlab_has(sharded, PER_SHARD + 1));
    assert_true(dirlab_has(sharded, 5 * PER_SHARD + 9));
    assert_int_equal(nphd_sharded_size(sharded), lab->items.count);
    nphd_sharded_free(sharded);
}

/* From 1000 on the order of names as text is not that of numbers: the lowest number says what the
 * directory holds, the highest has the newest vector of a key. */
static void test_more_digits(void **state)
{
    static const char *const names[][2] = {{"shard_999.usearch", "shard_1000.usearch"},
                                           {"shard_9999.usearch", "shard_10000.usearch"}};
    dirlab *lab = *state;
    nphd_index_options hamming = NPHD_INDEX_OPTIONS_INIT;
    outcome out;

    hamming.max_bits = 64;
    hamming.metric = NPHD_METRIC_HAMMING;
    for (size_t i = 0; i < 2; i++) {
        nphd_metadata metadata = NPHD_METADATA_INIT;
        char clean_name[] = CLEAN "0";
        nphd_sharded *clean = NULL;
        const nphd_sharded_options options = dirlab_options(lab);

        lab->items.count = 0;
        dirlab_put_shard(lab, names[i][0], NULL, 0, 10, 0);
        /* of another metric, so that they cannot be opened as one index */
        dirlab_put_shard(lab, names[i][1], &hamming, 5, 15, 1);
        OK(nphd_directory_metadata(DIRLAB_FOLDER, options.io, &metadata, NULL));
        assert_int_equal(metadata.metric, NPHD_METRIC_NPHD);
        clean_name[sizeof(CLEAN) - 1] = (char)('0' + i);
        memset(&out, 0, sizeof(out));
        OK(nphd_directory_salvage(DIRLAB_FOLDER, clean_name, options.io, count_damage, &out,
                                  &out.report, NULL));
        OK(nphd_sharded_open(clean_name, &options, &clean, NULL));
        dirlab_expect(lab, clean);
        close_clean(clean);
        dirlab_delete(lab, names[i][0]);
        dirlab_delete(lab, names[i][1]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_journal),
        DIRLAB_TEST(test_multi),
        DIRLAB_TEST(test_damage_below_journal),
        DIRLAB_TEST(test_change_of_damaged),
        DIRLAB_TEST(test_more_digits),
    };

    return cmocka_run_group_tests_name("salvage of the newest shard", tests, NULL, NULL);
}
