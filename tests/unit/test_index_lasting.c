/* What goes on for ever: renaming, replacing one key, files at the end of their numbers, rows that
 * nobody could add. */
#include "base/bytes.h"
#include "formats/trailer.h"
#include "support/directory_lab.h"
#include "support/trailer_repair.h"

#include <time.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

/* Of the generation in the directory of a trailer (docs/format.md). */
#define TRAILER_GENERATION 16

static nphd_index *index_with(dirlab *lab, uint64_t vectors)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;
    uint8_t bits[8];

    options.max_bits = 64;
    options.connectivity = 2;
    options.build_breadth = 1;
    options.io = memory_io_table(lab->disk);
    options.allocator = &lab->allocator.table;
    OK(nphd_index_create(&options, &index, NULL));
    for (uint64_t key = 0; key < vectors; key++) {
        OK(nphd_index_add(index, nphd_key_u64(key), dirlab_vector(key, 0, bits), NULL, NULL));
    }
    return index;
}

static void test_renames_take_no_memory(void **state)
{
    nphd_index *index = index_with(*state, 1000);
    nphd_index_stats before = NPHD_INDEX_STATS_INIT;
    nphd_index_stats after = NPHD_INDEX_STATS_INIT;
    uint64_t from = 7;

    OK(nphd_index_get_stats(index, &before, NULL));
    for (uint64_t i = 0; i < 50000; i++) {
        const uint64_t to = i % 2 == 0 ? 1000000 + i : 7;
        OK(nphd_index_rename(index, nphd_key_u64(from), nphd_key_u64(to), NULL));
        from = to;
    }
    OK(nphd_index_get_stats(index, &after, NULL));
    assert_true(after.memory_bytes < before.memory_bytes + 64 * 1024);
    nphd_index_close(index);
}

static double upserts_of_one_key(dirlab *lab, uint64_t vectors)
{
    nphd_index *index = index_with(lab, vectors);
    const nphd_key key = nphd_key_u64(5);
    struct timespec from;
    struct timespec to;
    uint8_t bits[8];

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
    for (int i = 0; i < 2000; i++) {
        const nphd_vector vector = dirlab_vector(5, (uint8_t)(1 + i % 200), bits);
        OK(nphd_index_upsert(index, &key, &vector, 1, NULL, NULL, NULL));
    }
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
    nphd_index_close(index);
    return (double)(to.tv_sec - from.tv_sec) * 1e6 + (double)(to.tv_nsec - from.tv_nsec) / 1e3;
}

/* test_used_slots shows that no words are walked; here that replacing a key is where they count. */
static void test_replacing_one_key_does_not_grow_with_the_index(void **state)
{
    const double few = upserts_of_one_key(*state, 2000);
    const double many = upserts_of_one_key(*state, 100000);

    assert_true(many < 20 * few + 100000);
}

/* ---- the last generation ---- */

static void set_generation(dirlab *lab, const char *path, uint64_t generation)
{
    trailer_places places = {0, 0, 0, 0, 0, 0};
    size_t bytes = 0;
    uint8_t *data = memory_io_get(lab->disk, path, &bytes);

    assert_non_null(data);
    assert_true(trailer_places_find(data, bytes, &places));
    const uint64_t old = nphdi_get64(data + places.directory_offset + TRAILER_GENERATION);
    nphdi_put64(data + places.directory_offset + TRAILER_GENERATION, generation);
    for (uint64_t at = places.foreign_bytes; at + 16 <= places.sums_offset; at++) {
        /* a shard lists itself: number 1 */
        if (nphdi_get64(data + at) == 1 && nphdi_get64(data + at + 8) == old) {
            nphdi_put64(data + at + 8, generation);
        }
    }
    trailer_repair(data, &places);
    memory_io_put(lab->disk, path, data, bytes);
    free(data);
}

static void test_the_last_generation_of_a_file(void **state)
{
    dirlab *lab = *state;
    nphd_index *index = index_with(lab, 10);
    nphd_index *copy = NULL;
    nphd_error err = NPHD_ERROR_INIT;
    uint8_t bits[8];

    OK(nphd_index_save(index, "last.usearch", NULL, NULL));
    set_generation(lab, "last.usearch", NPHDI_LAST_GENERATION);
    OK(nphd_index_load(index, "last.usearch", NULL, NULL));
    OK(nphd_index_add(index, nphd_key_u64(10), dirlab_vector(10, 0, bits), NULL, NULL));
    assert_int_equal(nphd_index_save(index, "last.usearch", NULL, &err), NPHD_FULL);
    assert_non_null(strstr(err.text, "last.usearch"));
    /* the file is still the one that was there, and a copy begins anew */
    OK(nphd_index_copy(index, &copy, NULL));
    OK(nphd_index_load(index, "last.usearch", NULL, NULL));
    assert_int_equal(nphd_index_size(index), 10);
    OK(nphd_index_save(copy, "last.usearch", NULL, NULL));
    OK(nphd_index_load(index, "last.usearch", NULL, NULL));
    assert_int_equal(nphd_index_size(index), 11);
    set_generation(lab, "last.usearch", NPHDI_LAST_GENERATION + 1);
    assert_int_equal(nphd_index_load(index, "last.usearch", NULL, NULL), NPHD_CORRUPT);
    nphd_index_close(copy);
    nphd_index_close(index);
}

static void test_the_last_generation_of_a_directory(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_error err = NPHD_ERROR_INIT;
    nphd_sharded *sharded;
    uint8_t bits[8];
    uint64_t removed = 0;
    size_t bytes[3] = {0};
    uint8_t *before[3];
    static const char *const names[3] = {"shard_000.usearch", "shard_001.usearch", "bloom.isbf"};

    options.no_bloom = true;
    sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 0, 20);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 20, 30);
    dirlab_close(sharded);
    /* only the newest: the record in it names the others */
    set_generation(lab, dirlab_path(names[1]), NPHDI_LAST_GENERATION);
    for (int i = 0; i < 3; i++) {
        before[i] = memory_io_get(lab->disk, dirlab_path(names[i]), &bytes[i]);
    }
    sharded = dirlab_open(lab, &options);
    OK(nphd_sharded_add(sharded, nphd_key_u64(50), dirlab_vector(50, 0, bits), NULL, NULL));
    assert_int_equal(nphd_sharded_save(sharded, NULL, &err), NPHD_FULL);
    assert_non_null(strstr(err.text, "salvage"));
    assert_int_equal(nphd_sharded_rotate(sharded, NULL), NPHD_FULL);
    assert_int_equal(nphd_sharded_compact(sharded, NULL, &removed, NULL), NPHD_FULL);
    assert_int_equal(nphd_sharded_close(sharded, NULL), NPHD_FULL);
    nphd_sharded_free(sharded);
    for (int i = 0; i < 3; i++) {
        size_t now = 0;
        uint8_t *data = memory_io_get(lab->disk, dirlab_path(names[i]), &now);
        assert_int_equal(now, bytes[i]);
        assert_true(now == 0 || memcmp(data, before[i], now) == 0);
        free(data);
        free(before[i]);
    }
    sharded = dirlab_open(lab, &options);
    assert_int_equal(nphd_sharded_size(sharded), 30);
    nphd_sharded_free(sharded);
}

/* ---- rows of length 0 ---- */

static void test_compaction_carries_rows_of_length_0(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    const nphd_key removed_key = nphd_key_u64(7);
    nphd_search_options exact = NPHD_SEARCH_OPTIONS_INIT;
    nphd_search_report report;
    nphd_match match;
    trailer_places places = {0, 0, 0, 0, 0, 0};
    uint8_t bits[8];
    uint8_t out[8];
    size_t bytes = 0;
    uint64_t removed = 0;
    nphd_error err = NPHD_ERROR_INIT;

    dirlab_add(lab, sharded, 0, 100);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 1000, 1001);
    dirlab_close(sharded);
    uint8_t *data = memory_io_get(lab->disk, dirlab_path("shard_000.usearch"), &bytes);
    assert_true(trailer_places_find(data, bytes, &places));
    memset(data + 8 + 5 * 9, 0, 9); /* the row of slot 5 */
    trailer_repair(data, &places);
    dirlab_put(lab, "shard_000.usearch", data, bytes);
    free(data);
    sharded = dirlab_open(lab, &options);
    OK(nphd_sharded_remove(sharded, &removed_key, 1, NULL, NULL));
    for (int round = 0; round < 2; round++) {
        size_t out_bytes = 9;
        exact.mode = NPHD_SEARCH_EXACT;
        OK(nphd_sharded_search(sharded, dirlab_vector(9999, 0, bits), 1, &exact, &match, &report,
                               &err));
        assert_int_equal(match.key.low, 5);
        OK(nphd_sharded_get(sharded, nphd_key_u64(5), out, sizeof(out), &out_bytes, NULL));
        assert_int_equal(out_bytes, 0);
        OK(nphd_sharded_compact(sharded, NULL, &removed, NULL));
        assert_int_equal(removed, round == 0 ? 1 : 0);
    }
    assert_int_equal(nphd_sharded_size(sharded), 100);
    /* a caller may still not add such a vector */
    assert_int_equal(
        nphd_sharded_add(sharded, nphd_key_u64(2000), (nphd_vector){bits, 0}, NULL, NULL),
        NPHD_INVALID_ARGUMENT);
    dirlab_close(sharded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_renames_take_no_memory),
        DIRLAB_TEST(test_replacing_one_key_does_not_grow_with_the_index),
        DIRLAB_TEST(test_the_last_generation_of_a_file),
        DIRLAB_TEST(test_the_last_generation_of_a_directory),
        DIRLAB_TEST(test_compaction_carries_rows_of_length_0),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
