/* Bloom filters and tombstones written by the reference: each is read with exactly the content and
 * the answers that its text says, and the same keys give the same bytes. */
#include "base/bytes.h"
#include "filters/key_set.h"
#include "fixture_text.h"
#include "formats/npy_format.h"
#include "support/allocator_fault.h"
#include "support/bloom_bytes.h"
#include "support/sha256.h"
#include "support/test_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

enum { MOST_KEYS = 1000, MOST_FILTERS = 4 };

typedef struct absent_key {
    nphd_key key;
    bool maybe;
} absent_key;

typedef struct filter_text {
    uint32_t key_bytes;
    nphdi_isbf_head head;
    nphdi_isbf_filter filters[MOST_FILTERS];
    nphd_key keys[MOST_KEYS];
    size_t key_count;
    absent_key absent[MOST_KEYS];
    size_t absent_count;
} filter_text;

static const char *path_of(const char *folder, const char *name, const char *ending)
{
    static char path[4096];
    const char *source = getenv("NPHD_SOURCE_DIR");

    (void)snprintf(path, sizeof(path), "%s/tests/fixtures/%s/%s.%s", source == NULL ? "." : source,
                   folder, name, ending);
    return path;
}

static nphd_key parse_key(const char *text, uint32_t key_bytes)
{
    uint8_t octets[16] = {0};
    unsigned value;

    if (key_bytes == 8) {
        return nphd_key_u64(strtoull(text, NULL, 10));
    }
    for (size_t i = 0; i < sizeof(octets); i++) {
        assert_int_equal(sscanf(text + 2 * i, "%2x", &value), 1);
        octets[i] = (uint8_t)value;
    }
    return nphd_key_from_octets(octets);
}

static void parse_line(const char *line, filter_text *out)
{
    char key[64];
    unsigned maybe;
    nphdi_isbf_filter filter;

    if (sscanf(line, "key_bytes %u", &out->key_bytes) == 1 ||
        sscanf(line, "initial_capacity %u", &out->head.initial_capacity) == 1 ||
        sscanf(line, "fpr %lf", &out->head.rate) == 1 ||
        sscanf(line, "growth %lf", &out->head.growth) == 1 ||
        sscanf(line, "count %" SCNu64, &out->head.count) == 1) {
        return;
    }
    if (sscanf(line, "filter %*u %u %u %u", &filter.capacity, &filter.hash_count,
               &filter.bit_bytes) == 3) {
        assert_true(out->head.filter_count < MOST_FILTERS);
        out->filters[out->head.filter_count++] = filter;
    } else if (sscanf(line, "key %63s", key) == 1) {
        assert_true(out->key_count < MOST_KEYS);
        out->keys[out->key_count++] = parse_key(key, out->key_bytes);
    } else if (sscanf(line, "absent %63s %u", key, &maybe) == 2) {
        assert_true(out->absent_count < MOST_KEYS);
        out->absent[out->absent_count].key = parse_key(key, out->key_bytes);
        out->absent[out->absent_count++].maybe = maybe == 1;
    }
}

/* `key_bytes`: for texts that do not say it. */
static filter_text *text_read(const char *folder, const char *name, uint32_t key_bytes)
{
    filter_text *text = calloc(1, sizeof(*text));
    FILE *file = fopen(path_of(folder, name, "txt"), "r");
    char line[256];

    assert_non_null(text);
    assert_non_null(file);
    text->key_bytes = key_bytes;
    while (fgets(line, sizeof(line), file) != NULL) {
        parse_line(line, text);
    }
    (void)fclose(file);
    return text;
}

/* ---- bloom filters ---- */

static void check_heads(const filter_text *text, const bloom_bytes *file)
{
    nphdi_isbf_head head;
    nphdi_isbf_filter filter;
    size_t at = NPHDI_ISBF_HEAD_BYTES;

    assert_int_equal(nphdi_isbf_decode_head("t", file->data, &head, NULL), NPHD_OK);
    assert_int_equal(head.count, text->head.count);
    assert_int_equal(head.initial_capacity, text->head.initial_capacity);
    assert_true(head.rate == text->head.rate && head.growth == text->head.growth);
    assert_int_equal(head.filter_count, text->head.filter_count);
    for (uint32_t i = 0; i < head.filter_count; i++) {
        assert_int_equal(nphdi_isbf_decode_filter("t", &head, i, file->data + at, &filter, NULL),
                         NPHD_OK);
        assert_memory_equal(&filter, &text->filters[i], sizeof(filter));
        at += NPHDI_ISBF_FILTER_BYTES + filter.bit_bytes;
    }
    assert_int_equal(at, file->bytes);
}

static void check_answers(const filter_text *text, const nphdi_bloom *bloom)
{
    assert_int_equal(text->key_count, text->head.count);
    assert_int_equal(text->absent_count, 200);
    assert_int_equal(nphdi_bloom_count(bloom), text->head.count);
    assert_int_equal(nphdi_bloom_filters(bloom), text->head.filter_count);
    for (size_t i = 0; i < text->key_count; i++) {
        assert_true(nphdi_bloom_maybe(bloom, text->keys[i]));
    }
    for (size_t i = 0; i < text->absent_count; i++) {
        assert_true(nphdi_bloom_maybe(bloom, text->absent[i].key) == text->absent[i].maybe);
    }
}

static void check_writes(const nphdi_bloom *bloom, const bloom_bytes *wanted)
{
    bloom_bytes file = {0};

    assert_int_equal(bloom_bytes_write(bloom, &file, NULL), NPHD_OK);
    assert_int_equal(file.bytes, wanted->bytes);
    assert_memory_equal(file.data, wanted->data, wanted->bytes);
    bloom_bytes_free(&file);
}

static void add(nphdi_bloom *bloom, nphd_key key)
{
    assert_int_equal(nphdi_bloom_reserve(bloom, 1, NULL), NPHD_OK);
    nphdi_bloom_add(bloom, key);
}

static void test_bloom(void **state)
{
    static const char *const names[] = {"u64_350", "u64_full100", "u64_empty", "uuid_150"};
    allocator_fault allocator;
    nphd_error err = NPHD_ERROR_INIT;
    nphdi_bloom *bloom;

    (void)state;
    allocator_fault_init(&allocator);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        filter_text *text = text_read("bloom", names[i], 0);
        bloom_bytes file = {0};
        file.data = fixture_file(path_of("bloom", names[i], "isbf"), &file.bytes);
        assert_non_null(file.data);
        check_heads(text, &file);
        if (bloom_bytes_read(&file, &allocator.table, text->key_bytes, &bloom, &err) != NPHD_OK) {
            fail_msg("%s: %s", names[i], err.text);
        }
        check_answers(text, bloom);
        check_writes(bloom, &file);
        nphdi_bloom_close(bloom);

        bloom = bloom_bytes_create(&allocator.table, text->key_bytes, text->head.initial_capacity,
                                   text->head.rate, text->head.growth);
        assert_non_null(bloom);
        for (size_t k = 0; k < text->key_count; k++) {
            add(bloom, text->keys[k]);
        }
        check_answers(text, bloom);
        check_writes(bloom, &file);
        nphdi_bloom_close(bloom);
        bloom_bytes_free(&file);
        free(text);
    }
    assert_true(allocator_fault_is_clean(&allocator));
    allocator_fault_destroy(&allocator);
}

static void check_digest(const nphdi_bloom *bloom, const char *wanted)
{
    bloom_bytes file = {0};
    char digest[65];

    assert_int_equal(bloom_bytes_write(bloom, &file, NULL), NPHD_OK);
    assert_int_equal(file.bytes, 11981377);
    sha256_hex(file.data, file.bytes, digest);
    assert_string_equal(digest, wanted);
    bloom_bytes_free(&file);
}

/* Files with the parameters that the reference has unless told otherwise. */
static void test_default_parameters(void **state)
{
    test_random random = {204};
    allocator_fault allocator;

    (void)state;
    allocator_fault_init(&allocator);
    nphdi_bloom *bloom = bloom_bytes_create(&allocator.table, 8, 10000000, 0.01, 2.0);
    assert_non_null(bloom);
    check_digest(bloom, "cde711ed8c586841767307ec79dcc7379250e34128c4d3df199af94f726caf92");
    for (int i = 0; i < 1000; i++) {
        add(bloom, nphd_key_u64(test_random_next(&random) >> 1));
    }
    check_digest(bloom, "5eb0ceb939dba0261722536281e90e0f23f56701da0b24b1b56259ec3f4d7bee");
    nphdi_bloom_close(bloom);
    assert_true(allocator_fault_is_clean(&allocator));
    allocator_fault_destroy(&allocator);
}

/* ---- tombstones ---- */

static nphd_key key_at(const uint8_t *place, uint32_t key_bytes)
{
    return key_bytes == 8 ? nphd_key_u64(nphdi_get64(place)) : nphd_key_from_octets(place);
}

static void put_key(uint8_t *place, nphd_key key, uint32_t key_bytes)
{
    if (key_bytes == 8) {
        nphdi_put64(place, key.low);
    } else {
        nphd_key_to_octets(key, place);
    }
}

/* The same keys, added last to first, give the same file. */
static void check_tombstones_written(const filter_text *text, const uint8_t *file, size_t bytes)
{
    allocator_fault allocator;
    nphdi_key_set set = {0};
    nphd_key sorted[MOST_KEYS];
    uint8_t *again = malloc(bytes);

    assert_non_null(again);
    allocator_fault_init(&allocator);
    set.allocator = &allocator.table;
    assert_int_equal(nphdi_key_set_reserve(&set, text->key_count, NULL), NPHD_OK);
    for (size_t i = text->key_count; i > 0; i--) {
        assert_true(nphdi_key_set_add(&set, text->keys[i - 1]));
    }
    nphdi_key_set_sorted(&set, sorted);
    nphdi_npy_encode_head(text->key_bytes, set.count, again);
    for (size_t i = 0; i < set.count; i++) {
        put_key(again + NPHDI_NPY_HEAD_BYTES + i * text->key_bytes, sorted[i], text->key_bytes);
    }
    assert_memory_equal(again, file, bytes);
    nphdi_key_set_release(&set);
    assert_true(allocator_fault_is_clean(&allocator));
    allocator_fault_destroy(&allocator);
    free(again);
}

static void test_tombstones(void **state)
{
    static const char *const names[] = {"u64_12", "u64_1000", "u64_empty", "uuid_7", "uuid_empty"};
    static const size_t counts[] = {12, 1000, 0, 7, 0};

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const uint32_t wanted_key_bytes = names[i][1] == '6' ? 8 : 16;
        filter_text *text = text_read("tombstones", names[i], wanted_key_bytes);
        uint32_t key_bytes;
        uint64_t head_bytes;
        uint64_t count;
        size_t bytes;
        uint8_t *file = fixture_file(path_of("tombstones", names[i], "npy"), &bytes);
        assert_non_null(file);
        assert_int_equal(nphdi_npy_decode_prefix(names[i], file, &head_bytes, NULL), NPHD_OK);
        assert_int_equal(head_bytes, NPHDI_NPY_HEAD_BYTES);
        assert_int_equal(
            nphdi_npy_decode_head(names[i], file, head_bytes, &key_bytes, &count, NULL), NPHD_OK);
        assert_int_equal(key_bytes, wanted_key_bytes);
        assert_int_equal(count, counts[i]);
        assert_int_equal(count, text->key_count);
        assert_int_equal(bytes, head_bytes + count * key_bytes);
        for (size_t k = 0; k < count; k++) {
            const nphd_key key = key_at(file + head_bytes + k * key_bytes, key_bytes);
            assert_int_equal(nphd_key_compare(key, text->keys[k]), 0);
        }
        check_tombstones_written(text, file, bytes);
        free(file);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bloom),
        cmocka_unit_test(test_default_parameters),
        cmocka_unit_test(test_tombstones),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
