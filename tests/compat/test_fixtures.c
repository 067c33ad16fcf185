/* Files written by the reference: each is opened by load and by view and must hold exactly what its
 * text says, answer exactly as it says, and be reproduced when it is saved again. */
#include "fixture_text.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct fixture_case {
    const char *file;
    const char *text;
    bool legacy;          /* NPHD under the Hamming code */
    bool same_bytes;      /* loading and saving reproduces the file (and `whole_bytes` of it) */
    const char *saved_as; /* whose bytes a save gives, when not its own */
} fixture_case;

static const fixture_case cases[] = {
    {"nphd256_n0", "nphd256_n0", false, true, NULL},
    {"nphd256_n1", "nphd256_n1", false, true, NULL},
    {"nphd256_n2", "nphd256_n2", false, true, NULL},
    {"nphd256_n100", "nphd256_n100", false, true, NULL},
    {"nphd256_n100_trailing", "nphd256_n100", false, true, "nphd256_n100"},
    {"nphd256_n1000", "nphd256_n1000", false, true, NULL},
    {"hamming256_n1000", "hamming256_n1000", false, true, NULL},
    {"hamming256_multi", "hamming256_multi", false, true, NULL},
    {"nphd256_removed", "nphd256_removed", false, true, NULL},
    {"nphd256_removed_viewsaved", "nphd256_removed", false, true, "nphd256_removed"},
    {"nphd256_reused", "nphd256_reused", false, true, NULL},
    {"nphd256_allremoved", "nphd256_allremoved", false, true, NULL},
    {"nphd256_isolated", "nphd256_isolated", false, true, NULL},
    {"nphd256_threads2", "nphd256_threads2", false, true, NULL},
    {"nphd256_m32", "nphd256_m32", false, true, NULL},
    {"nphd256_edgekeys", "nphd256_edgekeys", false, true, NULL},
    {"uuid_nphd256_n200", "uuid_nphd256_n200", false, true, NULL},
    {"uuid_nphd256_removed", "uuid_nphd256_removed", false, true, NULL},
    /* saved with the NPHD code, and with the 32-bit matrix header */
    {"nphd256_legacy_kind_b", "nphd256_legacy_kind_b", true, false, NULL},
    {"nphd256_dims64_n40", "nphd256_dims64_n40", false, false, NULL},
};
#define CASE_COUNT (sizeof(cases) / sizeof(cases[0]))

static nphd_index *open_fixture(const fixture_case *this_case, bool view)
{
    nphd_open_options options = NPHD_OPEN_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_index *index = NULL;

    options.legacy_nphd = this_case->legacy;
    if (nphd_index_restore(fixture_path(this_case->file), view, &options, &index, &err) !=
        NPHD_OK) {
        fail_msg("%s: %s", this_case->file, err.text);
    }
    return index;
}

static size_t copies_of(const fixture *text, nphd_key key)
{
    size_t copies = 0;

    for (size_t i = 0; i < text->item_count; i++) {
        copies += nphd_key_compare(text->items[i].key, key) == 0 ? 1 : 0;
    }
    return copies;
}

static void check_items(const fixture *text, nphd_index *index)
{
    uint8_t stored[16 * 32];
    size_t lengths[16];

    for (size_t i = 0; i < text->item_count; i++) {
        const fixture_item *item = &text->items[i];
        size_t count = 0;
        bool found = false;
        assert_int_equal(nphd_index_get_all(index, item->key, stored, lengths, 16, &count, NULL),
                         NPHD_OK);
        assert_int_equal(count, copies_of(text, item->key));
        for (size_t j = 0; j < count && !found; j++) {
            found =
                lengths[j] == item->bytes && memcmp(stored + 32 * j, item->data, item->bytes) == 0;
        }
        assert_true(found);
    }
    for (size_t i = 0; i < text->removed_count; i++) {
        bool there = true;
        assert_int_equal(nphd_index_contains(index, text->removed[i].key, &there, NULL), NPHD_OK);
        assert_int_equal(there, copies_of(text, text->removed[i].key) > 0);
    }
}

/* The cursor meets the slots in order. */
static void check_order(const fixture *text, nphd_index *index)
{
    nphd_cursor cursor = nphd_index_cursor(index);
    uint8_t vector[256];
    size_t bytes;
    nphd_key key;
    size_t met = 0;
    long last_slot = -1;

    while (nphd_cursor_next(&cursor, &key, vector, &bytes, NULL) == NPHD_OK) {
        long slot = -1;
        for (size_t i = 0; i < text->item_count; i++) {
            if (nphd_key_compare(text->items[i].key, key) == 0 && text->items[i].bytes == bytes &&
                memcmp(text->items[i].data, vector, bytes) == 0) {
                slot = text->items[i].slot;
            }
        }
        assert_true(slot > last_slot);
        last_slot = slot;
        met++;
    }
    assert_int_equal(met, text->live);
}

static void check_exact(const fixture *text, nphd_index *index, uint32_t threads)
{
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_match *matches = malloc((text->live + 1) * sizeof(*matches));
    size_t at = 0;

    options.mode = NPHD_SEARCH_EXACT;
    options.threads = threads;
    for (size_t q = 0; q < text->query_count; q++) {
        const nphd_vector query = {text->queries[q].data, text->queries[q].bytes};
        nphd_search_report report;
        assert_int_equal(
            nphd_index_search(index, query, text->live + 1, &options, matches, &report, NULL),
            NPHD_OK);
        assert_true(report.exact);
        assert_int_equal(report.count, text->live);
        for (size_t i = 0; at < text->top_count && text->top[at].query == q; i++, at++) {
            assert_int_equal(nphd_key_compare(matches[i].key, text->top[at].key), 0);
            assert_true(fabs((double)matches[i].distance - text->top[at].distance) <=
                        1e-8 * text->top[at].distance);
        }
    }
    assert_int_equal(at, text->top_count);
    free(matches);
}

/* The reference's own answers: the same distances in the same places, and the same keys but where
 * distances tie. */
static void check_ann(const fixture_case *this_case, const fixture *text, nphd_index *index)
{
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    size_t at = 0;

    options.mode = NPHD_SEARCH_APPROXIMATE;
    options.breadth = 64;
    for (size_t q = 0; q < text->query_count; q++) {
        const nphd_vector query = {text->queries[q].data, text->queries[q].bytes};
        nphd_match matches[10];
        nphd_search_report report;
        size_t expected = 0;
        assert_int_equal(nphd_index_search(index, query, 10, &options, matches, &report, NULL),
                         NPHD_OK);
        while (at + expected < text->ann_count && text->ann[at + expected].query == q) {
            expected++;
        }
        assert_int_equal(report.count, expected);
        for (size_t i = 0; i < expected; i++) {
            bool known = false;
            const double distance = text->ann[at + i].distance;
            if (fabs((double)matches[i].distance - distance) > 1e-8 * distance) {
                fail_msg("%s: query %zu rank %zu: distance %.9g, the reference has %.9g",
                         this_case->file, q, i, (double)matches[i].distance, distance);
            }
            for (size_t j = 0; j < expected; j++) {
                known = known || nphd_key_compare(text->ann[at + j].key, matches[i].key) == 0;
            }
            /* a tie at the cut may go to another key of the same distance */
            assert_true(known || distance >= text->ann[at + expected - 1].distance);
        }
        at += expected;
    }
    assert_int_equal(at, text->ann_count);
}

static void check_state(const fixture *text, nphd_index *index, bool view)
{
    nphd_index_stats stats = NPHD_INDEX_STATS_INIT;

    assert_int_equal(nphd_index_get_stats(index, &stats, NULL), NPHD_OK);
    assert_int_equal(stats.size, text->live);
    assert_int_equal(nphd_index_size(index), text->live);
    assert_int_equal(stats.key_bits, 8 * text->key_bytes);
    assert_int_equal(stats.multi, text->multi);
    assert_int_equal(stats.dirty, 0);
    assert_int_equal(stats.view, view);
    assert_int_equal(stats.verified, !view);
    if (text->live > 0) {
        assert_int_equal(stats.connectivity, text->connectivity);
    }
}

static void test_contents(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASE_COUNT; i++) {
        fixture text;
        assert_true(fixture_read(cases[i].text, &text));
        for (int view = 0; view < 2; view++) {
            nphd_index *index = open_fixture(&cases[i], view == 1);
            check_state(&text, index, view == 1);
            check_items(&text, index);
            check_order(&text, index);
            check_exact(&text, index, 1);
            check_exact(&text, index, 2);
            check_ann(&cases[i], &text, index);
            nphd_index_close(index);
        }
        fixture_free(&text);
    }
}

static uint8_t *save_to_memory(nphd_index *index, size_t *out_bytes)
{
    size_t bytes = 0;
    uint8_t *buffer;

    assert_int_equal(nphd_index_save_buffer(index, NULL, 0, &bytes, NULL), NPHD_OK);
    buffer = malloc(bytes);
    assert_int_equal(nphd_index_save_buffer(index, buffer, bytes, out_bytes, NULL), NPHD_OK);
    assert_int_equal(bytes, *out_bytes);
    return buffer;
}

static void test_saving_reproduces(void **state)
{
    (void)state;
    for (size_t i = 0; i < CASE_COUNT; i++) {
        for (int view = 0; view < 2 && cases[i].same_bytes; view++) {
            const char *name = cases[i].saved_as == NULL ? cases[i].file : cases[i].saved_as;
            nphd_index *index = open_fixture(&cases[i], view == 1);
            size_t expected_bytes = 0;
            size_t bytes = 0;
            uint8_t *expected = fixture_file(fixture_path(name), &expected_bytes);
            uint8_t *saved = save_to_memory(index, &bytes);
            assert_true(bytes > expected_bytes);
            for (size_t at = 0; at < expected_bytes; at++) {
                if (saved[at] != expected[at]) {
                    fail_msg("%s (%s): byte %zu differs", cases[i].file, view ? "view" : "load",
                             at);
                }
            }
            free(saved);
            free(expected);
            nphd_index_close(index);
        }
    }
}

/* Variants that we write in the common form: everything but the header in question is the same. */
static void test_saving_normalises(void **state)
{
    nphd_index *index = open_fixture(&cases[CASE_COUNT - 1], false);
    size_t expected_bytes = 0;
    size_t bytes = 0;
    uint8_t *expected = fixture_file(fixture_path("nphd256_dims64_n40"), &expected_bytes);
    uint8_t *saved = save_to_memory(index, &bytes);

    (void)state;
    assert_memory_equal(saved + 8, expected + 16, expected_bytes - 16);
    free(saved);
    free(expected);
    nphd_index_close(index);

    index = open_fixture(&cases[CASE_COUNT - 2], false);
    expected = fixture_file(fixture_path("nphd256_legacy_kind_b"), &expected_bytes);
    saved = save_to_memory(index, &bytes);
    size_t differing = 0;
    for (size_t at = 0; at < expected_bytes; at++) {
        differing += saved[at] != expected[at] ? 1 : 0;
    }
    assert_int_equal(differing, 1); /* the metric code */
    free(saved);
    free(expected);
    nphd_index_close(index);
}

static void test_refused_by_name(void **state)
{
    static const struct {
        const char *file;
        const char *words;
    } refused[] = {{"cos16_f32_n200", "cosine"}, {"nphd256_novectors_n40", "without its vectors"}};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        for (int view = 0; view < 2; view++) {
            nphd_error err = NPHD_ERROR_INIT;
            nphd_index *index = NULL;
            assert_int_equal(
                nphd_index_restore(fixture_path(refused[i].file), view == 1, NULL, &index, &err),
                NPHD_UNSUPPORTED);
            assert_null(index);
            assert_non_null(strstr(err.text, refused[i].words));
            assert_non_null(strstr(err.text, refused[i].file));
        }
        nphd_metadata metadata = NPHD_METADATA_INIT;
        assert_int_equal(nphd_file_metadata(fixture_path(refused[i].file), NULL, &metadata, NULL),
                         NPHD_OK);
    }
}

static void test_metadata(void **state)
{
    nphd_metadata metadata = NPHD_METADATA_INIT;

    (void)state;
    assert_int_equal(nphd_file_metadata(fixture_path("nphd256_removed"), NULL, &metadata, NULL),
                     NPHD_OK);
    assert_int_equal(metadata.slots, 500);
    assert_int_equal(metadata.present, 400);
    assert_int_equal(metadata.deleted, 100);
    assert_int_equal(metadata.dimensions, 264);
    assert_int_equal(metadata.max_bits, 256);
    assert_int_equal(metadata.metric, NPHD_METRIC_NPHD);
    assert_int_equal(metadata.metric_code, 'n');
    assert_int_equal(metadata.key_bits, 64);
    assert_int_equal(metadata.version[1], 24);
    assert_false(metadata.trailer);
    assert_int_equal(nphd_file_metadata(fixture_path("cos16_f32_n200"), NULL, &metadata, NULL),
                     NPHD_OK);
    assert_int_equal(metadata.metric, NPHD_METRIC_DEFAULT);
    assert_int_equal(metadata.metric_code, 'c');
    assert_int_equal(metadata.scalar_code, 11);
    assert_int_equal(
        nphd_file_metadata(fixture_path("nphd256_novectors_n40"), NULL, &metadata, NULL), NPHD_OK);
    assert_false(metadata.vectors_included);
    assert_int_equal(nphd_file_metadata(fixture_path("nphd256_dims64_n40"), NULL, &metadata, NULL),
                     NPHD_OK);
    assert_true(metadata.dimensions_64_bit);
    assert_int_equal(nphd_file_metadata(fixture_path("nothing"), NULL, &metadata, NULL),
                     NPHD_NOT_FOUND);
}

static void test_contradictions(void **state)
{
    nphd_open_options options[5];
    static const char *words[5][2] = {
        {"256", "128"}, {"64", "128"}, {"nphd", "hamming"}, {"16", "32"}, {"not multi", "multi"}};

    (void)state;
    for (size_t i = 0; i < 5; i++) {
        const nphd_open_options none = NPHD_OPEN_OPTIONS_INIT;
        options[i] = none;
    }
    options[0].max_bits = 128;
    options[1].key_bits = 128;
    options[2].metric = NPHD_METRIC_HAMMING;
    options[3].connectivity = 32;
    options[4].multi = 2;
    for (size_t i = 0; i < 5; i++) {
        nphd_error err = NPHD_ERROR_INIT;
        nphd_index *index = NULL;
        assert_int_equal(
            nphd_index_restore(fixture_path("nphd256_n100"), i % 2 == 0, &options[i], &index, &err),
            NPHD_MISMATCH);
        assert_null(index);
        assert_non_null(strstr(err.text, words[i][0]));
        assert_non_null(strstr(err.text, words[i][1]));
    }
    /* an empty file has no connectivity to contradict */
    nphd_index *index = NULL;
    assert_int_equal(
        nphd_index_restore(fixture_path("nphd256_n0"), false, &options[3], &index, NULL), NPHD_OK);
    nphd_index_close(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_contents),          cmocka_unit_test(test_saving_reproduces),
        cmocka_unit_test(test_saving_normalises), cmocka_unit_test(test_refused_by_name),
        cmocka_unit_test(test_metadata),          cmocka_unit_test(test_contradictions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
