/* Recall of graph search after building, deleting, reusing room, isolating and reloading, against
 * the exact answers, on real fingerprints of mixed length. Everything is fixed (data, levels, one
 * thread), so that a floor can lie close below what was measured when the test was written. */
#include <nphd/nphd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define ROWS 12000
#define ROW_BYTES 32
#define QUERIES 60
#define NEAREST 10

static uint8_t rows[ROWS * ROW_BYTES];
static nphd_vector vectors[ROWS];
static nphd_key keys[ROWS];

static int read_rows(void **state)
{
    char path[4096];
    const char *source = getenv("NPHD_SOURCE_DIR");
    FILE *file;
    size_t count;

    (void)state;
    (void)snprintf(path, sizeof(path), "%s/bench/data/kernel-simprints-200k.bin",
                   source == NULL ? "." : source);
    file = fopen(path, "rb");
    if (file == NULL) {
        return -1;
    }
    count = fread(rows, ROW_BYTES, ROWS, file);
    (void)fclose(file);
    for (size_t i = 0; i < ROWS; i++) {
        const nphd_vector vector = {rows + i * ROW_BYTES, 8 * (1 + i * 2654435761U / 65536 % 4)};
        vectors[i] = vector;
        keys[i] = nphd_key_u64(i);
    }
    return count == ROWS ? 0 : -1;
}

/* Share of the graph's answers that are as near as the tenth of the exact ones. */
static double recall(nphd_index *index, uint32_t breadth)
{
    size_t good = 0;

    for (size_t q = 0; q < QUERIES; q++) {
        nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
        nphd_match exact[NEAREST];
        nphd_match found[NEAREST];
        nphd_search_report report;
        const nphd_vector query = vectors[q * (ROWS / QUERIES)];
        options.mode = NPHD_SEARCH_EXACT;
        assert_int_equal(nphd_index_search(index, query, NEAREST, &options, exact, &report, NULL),
                         NPHD_OK);
        assert_int_equal(report.count, NEAREST);
        options.mode = NPHD_SEARCH_APPROXIMATE;
        options.breadth = breadth;
        assert_int_equal(nphd_index_search(index, query, NEAREST, &options, found, &report, NULL),
                         NPHD_OK);
        for (size_t i = 0; i < report.count; i++) {
            good += found[i].distance <= exact[NEAREST - 1].distance ? 1 : 0;
        }
    }
    return (double)good / (QUERIES * NEAREST);
}

static void expect_recall(nphd_index *index, const char *when, double floor_64, double floor_512)
{
    const double narrow = recall(index, 64);
    const double wide = recall(index, 512);

    print_message("recall@10 %-24s breadth 64: %.3f  breadth 512: %.3f\n", when, narrow, wide);
    assert_true(narrow >= floor_64);
    assert_true(wide >= floor_512);
}

static void test_recall_through_life(void **state)
{
    nphd_index *index = NULL;
    nphd_index *loaded = NULL;
    nphd_key removed[ROWS / 3];
    size_t bytes = 0;

    (void)state;
    assert_int_equal(nphd_index_create(NULL, &index, NULL), NPHD_OK);
    assert_int_equal(nphd_index_add_many(index, keys, vectors, ROWS, NULL, NULL, NULL, NULL),
                     NPHD_OK);
    expect_recall(index, "built", 0.95, 0.99);
    for (size_t i = 0; i < ROWS / 3; i++) {
        removed[i] = nphd_key_u64(3 * i + 1);
    }
    assert_int_equal(nphd_index_remove(index, removed, ROWS / 3, NULL, NULL), NPHD_OK);
    expect_recall(index, "a third removed", 0.93, 0.99);
    assert_int_equal(nphd_index_save_buffer(index, NULL, 0, &bytes, NULL), NPHD_OK);
    uint8_t *buffer = malloc(bytes);
    assert_int_equal(nphd_index_save_buffer(index, buffer, bytes, &bytes, NULL), NPHD_OK);
    assert_int_equal(nphd_index_create(NULL, &loaded, NULL), NPHD_OK);
    assert_int_equal(nphd_index_load_buffer(loaded, buffer, bytes, NULL, NULL), NPHD_OK);
    expect_recall(loaded, "reloaded", 0.93, 0.99);
    assert_int_equal(nphd_index_isolate(loaded, NULL), NPHD_OK);
    expect_recall(loaded, "isolated", 0.87, 0.98);
    nphd_index_close(loaded);
    free(buffer);
    assert_int_equal(nphd_index_add_many(index, keys, vectors, ROWS, NULL, NULL, NULL, NULL),
                     NPHD_OK);
    assert_int_equal(nphd_index_size(index), ROWS);
    expect_recall(index, "added again", 0.95, 0.99);
    nphd_index_close(index);
}

static void test_recall_with_threads(void **state)
{
    nphd_batch_options options = NPHD_BATCH_OPTIONS_INIT;
    nphd_index *index = NULL;

    (void)state;
    options.threads = 4;
    assert_int_equal(nphd_index_create(NULL, &index, NULL), NPHD_OK);
    assert_int_equal(nphd_index_add_many(index, keys, vectors, ROWS, &options, NULL, NULL, NULL),
                     NPHD_OK);
    expect_recall(index, "built by four threads", 0.95, 0.99);
    nphd_index_close(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recall_through_life),
        cmocka_unit_test(test_recall_with_threads),
    };

    return cmocka_run_group_tests(tests, read_rows, NULL);
}
