/* The headers of a `.usearch` file: what is written is read, and every number is bounded. */
#include "base/bytes.h"
#include "formats/usearch_format.h"
#include "support/test_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* The bytes of a file of ours: headers, and everything else zero. */
typedef struct image {
    nphdi_usearch_head head;
    uint8_t matrix[16];
    uint8_t bytes[NPHDI_USEARCH_HEAD_BYTES];
    uint64_t head_offset;
    uint64_t file_bytes;
} image;

static void make(image *out, uint64_t slots, uint32_t key_bytes, uint8_t metric)
{
    nphdi_usearch_head *head = &out->head;

    memset(out, 0, sizeof(*out));
    head->metric_code = metric;
    head->multi = key_bytes == 16;
    head->present = slots > 2 ? slots - 2 : slots;
    head->deleted = slots - head->present;
    head->row_bytes = 33;
    head->dimensions = 264;
    head->slots = slots;
    head->entry = slots > 0 ? slots - 1 : 0;
    head->max_level = slots > 0 ? 2 : -1;
    head->node.key_bytes = key_bytes;
    head->node.slot_bytes = key_bytes == 8 ? 4 : 5;
    head->node.connectivity = 16;
    head->node.connectivity_base = 32;
    nphdi_usearch_encode_matrix(head, out->matrix);
    nphdi_usearch_encode_head(head, out->bytes);
    out->head_offset = 8 + 33 * slots;
    out->file_bytes = out->head_offset + NPHDI_USEARCH_HEAD_BYTES + 2 * slots +
                      slots * nphdi_node_base_bytes(&head->node);
}

static nphd_status decode(const image *from, nphdi_usearch_head *out)
{
    return nphdi_usearch_decode("f", from->matrix, 16, from->bytes, from->head_offset,
                                from->file_bytes, out, NULL);
}

static void test_round_trip(void **state)
{
    static const uint64_t counts[] = {0, 1, 5, 1000, 1000000};
    image from;
    nphdi_usearch_head read;

    (void)state;
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        for (uint32_t key_bytes = 8; key_bytes <= 16; key_bytes += 8) {
            make(&from, counts[i], key_bytes,
                 key_bytes == 8 ? NPHDI_METRIC_CODE_NPHD : NPHDI_METRIC_CODE_HAMMING);
            uint64_t places[3];
            assert_true(nphdi_usearch_is_head(from.bytes));
            const size_t found =
                nphdi_usearch_head_candidates(from.matrix, 16, from.file_bytes, places);
            bool met = false;
            for (size_t j = 0; j < found; j++) {
                met = met || places[j] == from.head_offset;
            }
            assert_true(met);
            assert_int_equal(decode(&from, &read), NPHD_OK);
            assert_int_equal(read.version[0], 2);
            assert_int_equal(read.version[1], 24);
            assert_int_equal(read.metric_code, from.head.metric_code);
            assert_int_equal(read.scalar_code, NPHDI_SCALAR_BITS);
            assert_int_equal(read.multi, from.head.multi);
            assert_true(read.vectors_included);
            assert_false(read.dimensions_64_bit);
            assert_int_equal(read.present, from.head.present);
            assert_int_equal(read.deleted, from.head.deleted);
            assert_int_equal(read.row_bytes, 33);
            assert_int_equal(read.slots, counts[i]);
            assert_int_equal(read.max_level, from.head.max_level);
            assert_int_equal(read.entry, from.head.entry);
            assert_int_equal(read.node.key_bytes, key_bytes);
            assert_int_equal(read.node.slot_bytes, from.head.node.slot_bytes);
            assert_int_equal(read.node.connectivity, 16);
            assert_int_equal(read.node.connectivity_base, 32);
            assert_int_equal(read.rows_offset, 8);
            assert_int_equal(read.levels_offset, from.head_offset + NPHDI_USEARCH_HEAD_BYTES);
            assert_int_equal(read.nodes_offset, read.levels_offset + 2 * counts[i]);
            assert_int_equal(nphdi_usearch_check_supported("f", &read, NULL), NPHD_OK);
        }
    }
}

/* One byte fewer than the nodes need, and any number far out of range, are refused. */
static void test_bounds(void **state)
{
    static const uint64_t numbers[] = {UINT64_MAX, 1ULL << 63,        (1ULL << 63) - 1, 1ULL << 62,
                                       1ULL << 40, UINT32_MAX + 1ULL, UINT32_MAX,       1000000};
    static const size_t places[] = {64, 72, 80, 88, 96, 33}; /* the graph header; dimensions */
    image from;
    nphdi_usearch_head read;

    (void)state;
    make(&from, 10, 8, NPHDI_METRIC_CODE_NPHD);
    from.file_bytes--;
    assert_int_equal(decode(&from, &read), NPHD_CORRUPT);
    for (size_t place = 0; place < sizeof(places) / sizeof(places[0]); place++) {
        for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
            make(&from, 10, 8, NPHDI_METRIC_CODE_NPHD);
            nphdi_put64(from.bytes + places[place], numbers[i]);
            const nphd_status status = decode(&from, &read);
            assert_true(status == NPHD_CORRUPT || status == NPHD_UNSUPPORTED);
        }
    }
    /* a base list shorter than the upper ones would overrun buffers made for it */
    make(&from, 10, 8, NPHDI_METRIC_CODE_NPHD);
    nphdi_put64(from.bytes + 80, 15);
    assert_int_equal(decode(&from, &read), NPHD_CORRUPT);
    make(&from, 10, 8, NPHDI_METRIC_CODE_NPHD);
    nphdi_put64(from.bytes + 72, 1);
    assert_int_equal(decode(&from, &read), NPHD_CORRUPT);
    make(&from, 10, 8, NPHDI_METRIC_CODE_NPHD);
    nphdi_put64(from.bytes + 96, 10); /* the entry is the first slot that is not there */
    assert_int_equal(decode(&from, &read), NPHD_CORRUPT);
}

/* Where the head may be: never so that it would reach beyond the file. */
static void test_candidates(void **state)
{
    static const uint64_t numbers[] = {
        0, 1, 2, 33, 255, 65536, UINT32_MAX, 1ULL << 31, 1ULL << 32, UINT64_MAX, 1ULL << 63};
    const size_t count = sizeof(numbers) / sizeof(numbers[0]);
    uint8_t first[16];
    uint64_t places[3];

    (void)state;
    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < count; j++) {
            for (unsigned wide = 0; wide < 2; wide++) {
                memset(first, 0, sizeof(first));
                if (wide != 0) {
                    nphdi_put64(first, numbers[i]);
                    nphdi_put64(first + 8, numbers[j]);
                } else {
                    nphdi_put32(first, (uint32_t)numbers[i]);
                    nphdi_put32(first + 4, (uint32_t)numbers[j]);
                }
                for (uint64_t file_bytes = 0; file_bytes < 400; file_bytes += 13) {
                    const size_t available = file_bytes < 16 ? (size_t)file_bytes : 16;
                    const size_t found =
                        nphdi_usearch_head_candidates(first, available, file_bytes, places);
                    assert_true(found <= 3);
                    for (size_t k = 0; k < found; k++) {
                        assert_true(places[k] <= file_bytes);
                        assert_true(file_bytes - places[k] >= NPHDI_USEARCH_HEAD_BYTES);
                    }
                }
            }
        }
    }
}

static void test_what_is_not_ours(void **state)
{
    image from;
    nphdi_usearch_head read;
    nphd_error err = NPHD_ERROR_INIT;

    (void)state;
    make(&from, 3, 8, 'c');
    assert_int_equal(decode(&from, &read), NPHD_OK); /* readable, though not to be searched */
    assert_int_equal(nphdi_usearch_check_supported("f", &read, &err), NPHD_UNSUPPORTED);
    assert_non_null(strstr(err.text, "cosine"));
    make(&from, 3, 8, NPHDI_METRIC_CODE_NPHD);
    read = from.head;
    read.scalar_code = 11;
    read.vectors_included = true;
    assert_int_equal(nphdi_usearch_check_supported("f", &read, &err), NPHD_UNSUPPORTED);
    assert_non_null(strstr(err.text, "f32"));
    read.scalar_code = NPHDI_SCALAR_BITS;
    read.vectors_included = false;
    assert_int_equal(nphdi_usearch_check_supported("f", &read, &err), NPHD_UNSUPPORTED);
    read.vectors_included = true;
    read.dimensions = 265; /* no whole bytes */
    assert_int_equal(nphdi_usearch_check_supported("f", &read, &err), NPHD_UNSUPPORTED);
    read.dimensions = 8;
    read.row_bytes = 1; /* a length byte and nothing behind */
    assert_int_equal(nphdi_usearch_check_supported("f", &read, &err), NPHD_UNSUPPORTED);
    make(&from, 3, 8, NPHDI_METRIC_CODE_NPHD);
    from.bytes[0] = 'x';
    assert_int_equal(decode(&from, &read), NPHD_CORRUPT);
    make(&from, 3, 8, NPHDI_METRIC_CODE_NPHD);
    nphdi_put16(from.bytes + 7, 3); /* a later format */
    assert_int_equal(decode(&from, &read), NPHD_UNSUPPORTED);
    make(&from, 3, 8, NPHDI_METRIC_CODE_NPHD);
    from.bytes[15] = 3; /* octet keys with slots of 32 bits */
    assert_int_equal(decode(&from, &read), NPHD_CORRUPT);
    make(&from, 3, 8, NPHDI_METRIC_CODE_NPHD);
    from.bytes[41] = 2; /* neither multi nor not */
    assert_int_equal(decode(&from, &read), NPHD_CORRUPT);
}

/* Random headers: an answer, and if it is OK, offsets inside the file. */
static void test_noise(void **state)
{
    test_random random = {*(uint64_t *)*state};
    image from;
    nphdi_usearch_head read;
    size_t accepted = 0;

    for (int i = 0; i < 200000; i++) {
        make(&from, 1 + test_random_below(&random, 6), i % 2 == 0 ? 8 : 16, NPHDI_METRIC_CODE_NPHD);
        for (uint64_t changes = 1 + test_random_below(&random, 3); changes > 0; changes--) {
            from.bytes[7 + test_random_below(&random, sizeof(from.bytes) - 7)] =
                (uint8_t)test_random_next(&random);
        }
        if (decode(&from, &read) == NPHD_OK) {
            accepted++;
            assert_true(read.entry < read.slots || read.slots == 0);
            assert_true(read.node.connectivity >= 2);
            assert_true(read.node.connectivity_base >= read.node.connectivity);
            assert_true(read.node.connectivity_base <= NPHDI_MAX_CONNECTIVITY);
            assert_true(read.nodes_offset + read.slots * nphdi_node_base_bytes(&read.node) <=
                        from.file_bytes);
            assert_true(read.rows_offset + read.slots * read.row_bytes == from.head_offset);
            (void)nphdi_usearch_check_supported("f", &read, NULL);
        }
    }
    assert_true(accepted > 1000);
}

static void test_keys(void **state)
{
    uint8_t bytes[16];
    const nphd_key key = {0x0102030405060708ULL, 0x090a0b0c0d0e0f10ULL};
    const nphd_key small = {0, 0x0102030405060708ULL};

    (void)state;
    nphdi_usearch_put_key(bytes, 16, key);
    for (uint8_t i = 0; i < 16; i++) {
        assert_int_equal(bytes[i], i + 1); /* octets in order */
    }
    assert_int_equal(nphd_key_compare(nphdi_usearch_get_key(bytes, 16), key), 0);
    nphdi_usearch_put_key(bytes, 8, small);
    for (uint8_t i = 0; i < 8; i++) {
        assert_int_equal(bytes[i], 8 - i); /* a little-endian number */
    }
    assert_int_equal(nphd_key_compare(nphdi_usearch_get_key(bytes, 8), small), 0);
    assert_true(nphdi_is_free_key(nphdi_free_key(8), 8));
    assert_true(nphdi_is_free_key(nphdi_free_key(16), 16));
    assert_false(nphdi_is_free_key(nphdi_free_key(8), 16));
    assert_false(nphdi_is_free_key(key, 16));
}

static void test_node_layout(void **state)
{
    const nphdi_node_shape wide = {16, 5, 3, 6};

    (void)state;
    assert_int_equal(nphdi_list_base_bytes(&wide), 4 + 6 * 5);
    assert_int_equal(nphdi_list_upper_bytes(&wide), 4 + 3 * 5);
    assert_int_equal(nphdi_node_base_bytes(&wide), 16 + 2 + 34);
    assert_int_equal(nphdi_node_list_offset(&wide, 0), 18);
    assert_int_equal(nphdi_node_list_offset(&wide, 1), 52);
    assert_int_equal(nphdi_node_list_offset(&wide, 3), 52 + 2 * 19);
}

int main(void)
{
    uint64_t seed = test_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_candidates),
        cmocka_unit_test(test_what_is_not_ours),
        cmocka_unit_test_prestate(test_noise, &seed),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_node_layout),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
