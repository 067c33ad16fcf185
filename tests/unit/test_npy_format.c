/* The head of tombstone files: ours byte for byte, those of others by what they say. */
#include "base/bytes.h"
#include "formats/npy_format.h"
#include "support/test_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Decodes a head of `version` with this text, from memory of exactly its length. */
static nphd_status decode(unsigned version, const char *text, uint32_t *out_key_bytes,
                          uint64_t *out_count, nphd_error *err)
{
    const size_t prefix = version == 1 ? 10 : 12;
    const size_t bytes = prefix + strlen(text);
    uint8_t *head = malloc(bytes);
    uint64_t head_bytes;

    assert_non_null(head);
    memcpy(head, "\x93NUMPY", 6);
    head[6] = (uint8_t)version;
    head[7] = 0;
    if (version == 1) {
        nphdi_put16(head + 8, (uint16_t)strlen(text));
    } else {
        nphdi_put32(head + 8, (uint32_t)strlen(text));
    }
    memcpy(head + prefix, text, strlen(text));
    nphd_status status = nphdi_npy_decode_prefix("name", head, &head_bytes, err);
    if (status == NPHD_OK) {
        assert_int_equal(head_bytes, bytes);
        status = nphdi_npy_decode_head("name", head, bytes, out_key_bytes, out_count, err);
    }
    free(head);
    return status;
}

static void test_ours(void **state)
{
    static const uint64_t counts[] = {0, 1, 12, 1000, 999999999, UINT64_MAX / 16 - 8};
    static const char *const types[] = {"<u8", "|V16"};
    uint8_t head[NPHDI_NPY_HEAD_BYTES];
    char wanted[NPHDI_NPY_HEAD_BYTES];
    uint64_t head_bytes;
    uint32_t key_bytes;
    uint64_t count;

    (void)state;
    for (size_t i = 0; i < 2 * sizeof(counts) / sizeof(counts[0]); i++) {
        const uint64_t number = counts[i / 2];
        const int length =
            snprintf(wanted, sizeof(wanted),
                     "{'descr': '%s', 'fortran_order': False, 'shape': (%" PRIu64 ",), }",
                     types[i % 2], number);
        memset(wanted + length, ' ', sizeof(wanted) - (size_t)length);
        wanted[117] = '\n';
        nphdi_npy_encode_head(i % 2 == 0 ? 8 : 16, number, head);
        assert_memory_equal(head, "\x93NUMPY\x01\x00\x76\x00", 10);
        assert_memory_equal(head + 10, wanted, 118);
        assert_int_equal(nphdi_npy_decode_prefix("t", head, &head_bytes, NULL), NPHD_OK);
        assert_int_equal(head_bytes, sizeof(head));
        assert_int_equal(nphdi_npy_decode_head("t", head, sizeof(head), &key_bytes, &count, NULL),
                         NPHD_OK);
        assert_int_equal(key_bytes, i % 2 == 0 ? 8 : 16);
        assert_true(count == number);
    }
}

static void test_others(void **state)
{
    static const char *const texts[] = {
        "{'descr': '<u8', 'fortran_order': False, 'shape': (7,), }\n",
        "{'descr':'<u8','fortran_order':False,'shape':(7,)}",
        "{\"shape\": (7, ), \"fortran_order\": False, \"descr\": \"<u8\"}          \n",
        " {\t'fortran_order' : False ,\n'shape' : ( 7 , ) , 'descr' : '<u8' , } \r\n",
    };
    nphd_error err = NPHD_ERROR_INIT;
    uint32_t key_bytes;
    uint64_t count;

    (void)state;
    for (unsigned version = 1; version <= 3; version++) {
        for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
            if (decode(version, texts[i], &key_bytes, &count, &err) != NPHD_OK) {
                fail_msg("%s: %s", texts[i], err.text);
            }
            assert_int_equal(key_bytes, 8);
            assert_int_equal(count, 7);
        }
    }
}

/* What is refused, and what the error names. */
static void test_refused(void **state)
{
#define HEAD(descr, order, shape)                                                                  \
    "{'descr': " descr ", 'fortran_order': " order ", 'shape': " shape ", }\n"
    static const struct {
        const char *text;
        nphd_status status;
        const char *says;
    } cases[] = {
        {HEAD("'<u4'", "False", "(7,)"), NPHD_UNSUPPORTED, "'<u4'"},
        {HEAD("'>u8'", "False", "(7,)"), NPHD_UNSUPPORTED, "'>u8'"},
        {HEAD("'<i8'", "False", "(7,)"), NPHD_UNSUPPORTED, "'<i8'"},
        {HEAD("'|V8'", "False", "(7,)"), NPHD_UNSUPPORTED, "'|V8'"},
        {HEAD("'<u8\x01\xff'", "False", "(7,)"), NPHD_UNSUPPORTED, "'<u8\?\?'"},
        {HEAD("'aaaaaaaaaaaaaaaaaaaabbbb'", "False", "(7,)"), NPHD_UNSUPPORTED, "aaa'"},
        {HEAD("''", "False", "(7,)"), NPHD_UNSUPPORTED, "''"},
        {HEAD("[('a', '<u8')]", "False", "(7,)"), NPHD_UNSUPPORTED, "record"},
        {HEAD("'<u8'", "True", "(7,)"), NPHD_UNSUPPORTED, "Fortran"},
        {HEAD("'<u8'", "False", "()"), NPHD_UNSUPPORTED, "no dimension"},
        {HEAD("'<u8'", "False", "(7, 2)"), NPHD_UNSUPPORTED, "more than one"},
        {HEAD("'<u8'", "False", "(7)"), NPHD_CORRUPT, "comma"},
        {HEAD("'<u8'", "False", "7"), NPHD_CORRUPT, "parentheses"},
        {HEAD("'<u8'", "False", "(-7,)"), NPHD_CORRUPT, "number"},
        {HEAD("'<u8'", "False", "(,)"), NPHD_CORRUPT, "number"},
        {HEAD("'<u8'", "False", "(18446744073709551616,)"), NPHD_CORRUPT, "number"},
        {HEAD("'<u8'", "False", "(36893488147419103240,)"), NPHD_CORRUPT, "number"},
        {HEAD("'<u8'", "False", "(18446744073709551615,)"), NPHD_CORRUPT, "exceed"},
        {HEAD("'<u8'", "False", "(2305843009213693951,)"), NPHD_CORRUPT, "exceed"},
        {HEAD("'<u8'", "0", "(7,)"), NPHD_CORRUPT, "True or False"},
        {HEAD("8", "False", "(7,)"), NPHD_CORRUPT, "type"},
        {HEAD("'<u8", "False", "(7,)"), NPHD_UNSUPPORTED, "type"},
        {"{'descr': '<u8', 'fortran_order': False, }\n", NPHD_CORRUPT, "each of"},
        {"{'shape': (7,), 'fortran_order': False, }\n", NPHD_CORRUPT, "each of"},
        {"{'descr': '<u8', 'shape': (7,), }\n", NPHD_CORRUPT, "each of"},
        {"{'descr': '<u8', 'descr': '<u8', 'fortran_order': False, 'shape': (7,), }", NPHD_CORRUPT,
         "once"},
        {"{'x': 1, 'descr': '<u8', 'fortran_order': False, 'shape': (7,), }", NPHD_CORRUPT,
         "entry"},
        {"{'descr': '<u8' 'fortran_order': False, 'shape': (7,), }", NPHD_CORRUPT, "comma"},
        {"{'descr' '<u8', 'fortran_order': False, 'shape': (7,), }", NPHD_CORRUPT, "colon"},
        {"{,'descr': '<u8', 'fortran_order': False, 'shape': (7,), }", NPHD_CORRUPT, "entry"},
        {HEAD("'<u8'", "False", "(7,)") "x", NPHD_CORRUPT, "nothing further"},
        {"    \n", NPHD_CORRUPT, "dictionary"},
        {"{}", NPHD_CORRUPT, "each of"},
        {"{", NPHD_CORRUPT, "text"},
        {"", NPHD_CORRUPT, "0 bytes of text"},
    };
#undef HEAD
    nphd_error err = NPHD_ERROR_INIT;
    uint32_t key_bytes = 1;
    uint64_t count = 1;

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        /* two more bytes where a prefix of version 1 alone would be shorter than any head */
        const unsigned version = strlen(cases[i].text) < 2 ? 2 : 1;
        const nphd_status status = decode(version, cases[i].text, &key_bytes, &count, &err);
        if (status != cases[i].status || strstr(err.text, cases[i].says) == NULL ||
            strstr(err.text, "name: head: ") != err.text) {
            fail_msg("%s: status %d: %s", cases[i].text, status, err.text);
        }
    }
    assert_int_equal(key_bytes, 0);
    assert_int_equal(count, 0);
}

static void test_prefix(void **state)
{
    uint8_t prefix[NPHDI_NPY_PREFIX_BYTES] = {0x93, 'N', 'U',  'M',  'P', 'Y',
                                              1,    0,   0xff, 0xff, 1,   0};
    nphd_error err = NPHD_ERROR_INIT;
    uint64_t bytes;

    (void)state;
    assert_int_equal(nphdi_npy_decode_prefix("name", prefix, &bytes, &err), NPHD_OK);
    assert_int_equal(bytes, 65545);
    prefix[6] = 2; /* the length has 32 bits */
    assert_int_equal(nphdi_npy_decode_prefix("name", prefix, &bytes, &err), NPHD_UNSUPPORTED);
    assert_non_null(strstr(err.text, "131071"));
    assert_int_equal(bytes, 0);
    prefix[10] = 0;
    assert_int_equal(nphdi_npy_decode_prefix("name", prefix, &bytes, &err), NPHD_OK);
    assert_int_equal(bytes, NPHDI_NPY_MAX_HEAD_BYTES);
    for (unsigned version = 0; version < 256; version++) {
        prefix[6] = (uint8_t)version;
        assert_int_equal(nphdi_npy_decode_prefix("name", prefix, &bytes, &err),
                         version >= 1 && version <= 3 ? NPHD_OK : NPHD_UNSUPPORTED);
    }
    prefix[6] = 1;
    prefix[7] = 1;
    assert_int_equal(nphdi_npy_decode_prefix("name", prefix, &bytes, &err), NPHD_UNSUPPORTED);
    prefix[7] = 0;
    for (size_t i = 0; i < 6; i++) {
        prefix[i] ^= 1;
        assert_int_equal(nphdi_npy_decode_prefix("name", prefix, &bytes, &err), NPHD_CORRUPT);
        prefix[i] ^= 1;
    }
}

/* A head that was cut, or changed in a byte, is refused or still means an array of keys; memory
 * ends where the head does. */
static void test_damage(void **state)
{
    test_random random = {*(uint64_t *)*state};
    char text[NPHDI_NPY_HEAD_BYTES];
    uint8_t head[NPHDI_NPY_HEAD_BYTES];
    uint32_t key_bytes;
    uint64_t count;
    int refused = 0;

    for (int round = 0; round < 5000; round++) {
        nphdi_npy_encode_head(round % 2 == 0 ? 8 : 16, 1234, head);
        memcpy(text, head + 10, 118);
        text[118] = '\0';
        text[test_random_below(&random, 80)] = (char)(1 + test_random_below(&random, 127));
        if (round % 3 == 0) {
            text[test_random_below(&random, 118)] = '\0';
        }
        if (strlen(text) < 2 || decode(1, text, &key_bytes, &count, NULL) != NPHD_OK) {
            refused++;
        } else {
            assert_true(key_bytes == 8 || key_bytes == 16);
        }
    }
    assert_in_range(refused, 3000, 4999);
    nphdi_npy_encode_head(8, 1234, head);
    for (size_t length = 2; length < 57; length++) {
        memcpy(text, head + 10, length);
        text[length] = '\0';
        assert_true(decode(1, text, &key_bytes, &count, NULL) != NPHD_OK);
    }
}

int main(void)
{
    uint64_t seed = test_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ours),
        cmocka_unit_test(test_others),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_prefix),
        cmocka_unit_test_prestate(test_damage, &seed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
