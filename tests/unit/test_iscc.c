/* The ISCC decoder against an encoder written from the standard's description: four numbers in
 * nibbles with a prefix code, filled up to a byte, then the body, all in base32. */
#include "support/test_random.h"

#include <nphd/iscc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>

#include <cmocka.h>

typedef struct code {
    uint8_t bytes[64];
    size_t nibbles;
    char text[128];
} code;

static void put_nibble(code *out, unsigned value)
{
    const unsigned shift = out->nibbles % 2 == 0 ? 4 : 0;

    out->bytes[out->nibbles / 2] |= (uint8_t)(value << shift);
    out->nibbles++;
}

/* 0xxx, 10xx xxxx, 110x xxxx xxxx, 1110 xxxx xxxx xxxx */
static void put_number(code *out, unsigned value)
{
    static const unsigned firsts[4] = {0, 8, 72, 584};
    static const unsigned marks[4] = {0x0, 0x8, 0xC, 0xE};
    unsigned more = value < 8 ? 0 : value < 72 ? 1 : value < 584 ? 2 : 3;

    value -= firsts[more];
    put_nibble(out, marks[more] | value >> (4 * more));
    while (more > 0) {
        more--;
        put_nibble(out, value >> (4 * more) & 15U);
    }
}

static void put_base32(code *out, const char *prefix)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    const size_t bits = 4 * out->nibbles;
    size_t length = strlen(prefix);

    memcpy(out->text, prefix, length);
    for (size_t at = 0; at < bits; at += 5) {
        unsigned digit = 0;
        for (size_t i = at; i < at + 5; i++) {
            digit = digit << 1 | (i < bits ? (unsigned)out->bytes[i / 8] >> (7 - i % 8) & 1U : 0U);
        }
        out->text[length++] = digits[digit];
    }
    out->text[length] = '\0';
}

static code make(unsigned main_type, unsigned sub_type, unsigned version, unsigned length,
                 const uint8_t *body, size_t body_bytes)
{
    code out;

    memset(&out, 0, sizeof(out));
    put_number(&out, main_type);
    put_number(&out, sub_type);
    put_number(&out, version);
    put_number(&out, length);
    if (out.nibbles % 2 != 0) {
        put_nibble(&out, 0);
    }
    for (size_t i = 0; i < body_bytes; i++) {
        put_nibble(&out, body[i] >> 4);
        put_nibble(&out, body[i] & 15U);
    }
    put_base32(&out, "ISCC:");
    return out;
}

static nphd_status decode(const char *text, nphd_iscc *out, nphd_error *err)
{
    return nphd_iscc_decode(text, strlen(text), out, err);
}

static void test_every_type_and_length(void **state)
{
    static const unsigned types[] = {0, 1, 2, 3, 4, 6, 7};
    test_random random = {*(uint64_t *)*state};

    for (size_t type = 0; type < sizeof(types) / sizeof(types[0]); type++) {
        const bool is_id = types[type] == 6;
        for (unsigned length = 0; length < (is_id ? 25U : 8U); length++) {
            for (unsigned sub_type = 0; sub_type < 200; sub_type = 2 * sub_type + 1) {
                const size_t bytes = is_id ? 8 + length : 4 * (length + 1);
                uint8_t body[32];
                nphd_iscc unit;
                nphd_error err = NPHD_ERROR_INIT;
                test_random_fill(&random, body, bytes);
                const code text = make(types[type], sub_type, sub_type % 2, length, body, bytes);
                if (decode(text.text, &unit, &err) != NPHD_OK) {
                    fail_msg("%s: %s", text.text, err.text);
                }
                assert_int_equal(unit.main_type, types[type]);
                assert_int_equal(unit.sub_type, sub_type);
                assert_int_equal(unit.version, sub_type % 2);
                assert_int_equal(unit.bytes, bytes);
                assert_memory_equal(unit.body, body, bytes);
                assert_int_equal(decode(text.text + 5, &unit, &err), NPHD_OK);
                assert_memory_equal(unit.body, body, bytes);
            }
        }
    }
}

static void test_known_unit(void **state)
{
    static const uint8_t body[8] = {0x87, 0xde, 0xdc, 0xe7, 0x4b, 0x3c, 0x35, 0x3b};
    nphd_iscc unit;

    (void)state;
    /* the Meta-Code of 64 bits that the standard's own tools print */
    assert_int_equal(decode("ISCC:AAAYPXW445FTYNJ3", &unit, NULL), NPHD_OK);
    assert_int_equal(unit.main_type, 0);
    assert_int_equal(unit.bytes, 8);
    assert_memory_equal(unit.body, body, 8);
    assert_int_equal(decode("iscc:aaay-pxw4-45ft-ynj3", &unit, NULL), NPHD_OK);
    assert_memory_equal(unit.body, body, 8);
}

/* The codes of the example data are Content-Codes of four lengths. */
static void test_example_codes(void **state)
{
    FILE *file = fopen(NPHD_SOURCE_DIR "/examples/linux-docs-codes.csv", "r");
    char line[512];
    size_t counts[5] = {0, 0, 0, 0, 0};
    size_t number = 0;

    (void)state;
    assert_non_null(file);
    assert_non_null(fgets(line, sizeof(line), file));
    while (fgets(line, sizeof(line), file) != NULL) {
        char *text = strchr(line, ',');
        nphd_iscc unit;
        nphd_error err = NPHD_ERROR_INIT;
        assert_non_null(text);
        text++;
        const size_t length = strcspn(text, ",");
        number++;
        if (nphd_iscc_decode(text, length, &unit, &err) != NPHD_OK) {
            fail_msg("line %zu: %s", number, err.text);
        }
        assert_int_equal(unit.bytes % 8, 0);
        assert_true(unit.bytes <= 32);
        counts[unit.bytes / 8]++;
        /* 5 bits a character, 16 bits of header */
        assert_int_equal((8U * unit.bytes + 16 + 4) / 5 + 5, length);
    }
    (void)fclose(file);
    assert_int_equal(counts[0], 0);
    assert_true(counts[1] > 0 && counts[2] > 0 && counts[3] > 0 && counts[4] > 0);
    assert_int_equal(counts[1] + counts[2] + counts[3] + counts[4], number);
}

static void refuse(const char *text, nphd_status expected)
{
    nphd_iscc unit;
    nphd_error err = NPHD_ERROR_INIT;

    memset(&unit, 0x55, sizeof(unit));
    if (decode(text, &unit, &err) != expected) {
        fail_msg("\"%s\": %s, not %s", text, nphd_status_name(err.status),
                 nphd_status_name(expected));
    }
    assert_int_equal(err.status, expected);
    assert_true(strlen(err.text) > 0);
    assert_int_equal(unit.bytes, 0);
    assert_int_equal(unit.main_type, 0);
}

static void test_composite_is_unsupported(void **state)
{
    uint8_t body[32] = {1};

    (void)state;
    refuse("ISCC:KACYPXW445FTYNJ3CYSXHAFJMA2HUWULUNRFE3BLHRSCXYH2M5AEGQY", NPHD_UNSUPPORTED);
    for (unsigned length = 0; length < 8; length++) {
        refuse(make(5, 0, 0, length, body, 32).text, NPHD_UNSUPPORTED);
    }
}

/* Of an ISCC-CODE: every combination of units and every sub type, against the bytes that went in.
 */
static void test_iscc_decompose_every_combination(void **state)
{
    test_random random = {*(uint64_t *)*state};

    for (unsigned sub_type = 0; sub_type <= 8; sub_type++) {
        for (unsigned units = 0; units <= 8; units++) {
            const bool wide = sub_type == 7;
            const bool media = (units & 3) != 0;
            uint8_t types[5];
            uint8_t body[40];
            nphd_iscc got[NPHD_ISCC_MAX_UNITS];
            nphd_error err = NPHD_ERROR_INIT;
            size_t expected = 0;
            size_t count = 99;
            const size_t bytes = wide ? 16 : 8;

            for (unsigned i = 0; i < 3; i++) {
                if ((units & (4U >> i)) != 0) {
                    types[expected++] = (uint8_t)i; /* META, SEMANTIC, CONTENT */
                }
            }
            types[expected++] = 3;
            types[expected++] = 4;
            test_random_fill(&random, body, sizeof(body));
            const code text = make(5, sub_type, 0, units, body,
                                   expected * bytes < sizeof(body) ? expected * bytes : 40);
            const nphd_status status =
                nphd_iscc_decompose(text.text, strlen(text.text), got, 5, &count, &err);
            if (sub_type > 7 || units > 7) {
                assert_int_equal(status, NPHD_UNSUPPORTED);
                assert_int_equal(count, 0);
                continue;
            }
            if ((wide && units != 0) || (media && sub_type > 4)) {
                assert_int_equal(status, NPHD_INVALID_ARGUMENT);
                assert_int_equal(count, 0);
                continue;
            }
            if (status != NPHD_OK) {
                fail_msg("sub type %u, units %u: %s", sub_type, units, err.text);
            }
            assert_int_equal(count, expected);
            for (size_t i = 0; i < count; i++) {
                assert_int_equal(got[i].main_type, types[i]);
                assert_int_equal(got[i].sub_type, types[i] == 1 || types[i] == 2 ? sub_type : 0);
                assert_int_equal(got[i].version, 0);
                assert_int_equal(got[i].bytes, bytes);
                assert_memory_equal(got[i].body, body + i * bytes, bytes);
            }
            /* with less room only the number of units is told */
            memset(got, 0x55, sizeof(got));
            assert_int_equal(
                nphd_iscc_decompose(text.text, strlen(text.text), got, count - 1, &count, &err),
                NPHD_TOO_SMALL);
            assert_int_equal(count, expected);
            assert_int_equal(got[0].main_type, 0x55);
            /* cut anywhere, or longer, it is no code */
            for (size_t length = 0; length < strlen(text.text); length++) {
                assert_int_not_equal(nphd_iscc_decompose(text.text, length, got, 5, &count, &err),
                                     NPHD_OK);
                assert_int_equal(count, 0);
            }
        }
    }
}

/* Codes that the standard's own tools print, with their units. */
static void test_iscc_decompose_known(void **state)
{
    static const struct {
        const char *text;
        const char *units[5];
    } known[] = {
        {"ISCC:KACYPXW445FTYNJ3CYSXHAFJMA2HUWULUNRFE3BLHRSCXYH2M5AEGQY",
         {"ISCC:AAAYPXW445FTYNJ3", "ISCC:EAARMJLTQCUWAND2", "ISCC:GAAVVC5DMJJGYKZ4",
          "ISCC:IAAWIK7A7JTUAQ2D"}},
        {"ISCC:KUAG2PRCRS5LNVZVJKAFAVOJXLZZM", {"ISCC:GAAW2PRCRS5LNVZV", "ISCC:IAAUVACQKXE3V44W"}},
        {"kuag-2prc-rs5l-nvzv-jkaf-avoj-xlzzm", {"ISCC:GAAW2PRCRS5LNVZV", "ISCC:IAAUVACQKXE3V44W"}},
        {"ISCC:EAAUCCS7GNJKRZDP", {"ISCC:EAAUCCS7GNJKRZDP"}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        nphd_iscc got[NPHD_ISCC_MAX_UNITS];
        size_t count = 0;

        assert_int_equal(
            nphd_iscc_decompose(known[i].text, strlen(known[i].text), got, 5, &count, NULL),
            NPHD_OK);
        for (size_t u = 0; u < count; u++) {
            char text[NPHD_ISCC_TEXT_BYTES];

            assert_non_null(known[i].units[u]);
            assert_int_equal(nphd_iscc_encode(&got[u], text, NULL), NPHD_OK);
            assert_string_equal(text, known[i].units[u]);
        }
        assert_true(count == 5 || known[i].units[count] == NULL);
    }
    assert_int_equal(nphd_iscc_decompose(NULL, 0, NULL, 0, NULL, NULL), NPHD_INVALID_ARGUMENT);
}

static void test_encode_is_the_inverse(void **state)
{
    test_random random = {*(uint64_t *)*state};
    char text[NPHD_ISCC_TEXT_BYTES];

    for (unsigned main_type = 0; main_type < 256; main_type++) {
        for (unsigned bytes = 0; bytes < 256; bytes++) {
            nphd_iscc unit = {0};
            nphd_iscc back;
            const bool good = main_type < 8 && main_type != 5 && bytes <= 32 &&
                              (main_type == 6 ? bytes >= 8 : bytes >= 4 && bytes % 4 == 0);

            unit.main_type = (uint8_t)main_type;
            unit.bytes = (uint8_t)bytes;
            test_random_fill(&random, &unit.sub_type, 1);
            test_random_fill(&random, &unit.version, 1);
            test_random_fill(&random, unit.body, bytes < 32 ? bytes : 32);
            assert_int_equal(nphd_iscc_encode(&unit, text, NULL),
                             good ? NPHD_OK : NPHD_INVALID_ARGUMENT);
            if (good) {
                assert_int_equal(decode(text, &back, NULL), NPHD_OK);
                assert_memory_equal(&back, &unit, sizeof(unit));
            } else {
                assert_string_equal(text, "");
            }
        }
    }
    assert_int_equal(nphd_iscc_encode(NULL, text, NULL), NPHD_INVALID_ARGUMENT);
}

static void test_unit_names(void **state)
{
    static const char *const wrong[] = {
        "",   "content", "content-",      "meta-",       "meta-v", "meta-v256",
        "id", "text",    "content-text ", "content-256", "none1",  "contents"};
    char name[NPHD_UNIT_NAME_BYTES];
    nphd_unit unit;

    (void)state;
    assert_string_equal(nphd_unit_name(NPHD_UNIT_NONE, name), "none");
    assert_string_equal(nphd_unit_name(NPHD_UNIT_MIXED, name), "mixed");
    assert_string_equal(nphd_unit_name(NPHD_UNIT(2, 0, 0), name), "content-text");
    assert_string_equal(nphd_unit_name(NPHD_UNIT(1, 4, 1), name), "semantic-mixed-v1");
    assert_string_equal(nphd_unit_name(NPHD_UNIT(6, 1, 1), name), "type-6-1-v1");
    assert_int_equal(nphd_unit_parse("NONE", &unit, NULL), NPHD_OK);
    assert_int_equal(unit, NPHD_UNIT_NONE);
    assert_int_equal(nphd_unit_parse("mixed", &unit, NULL), NPHD_OK);
    assert_int_equal(unit, NPHD_UNIT_MIXED);
    assert_int_equal(nphd_unit_parse("Content-Image", &unit, NULL), NPHD_OK);
    assert_int_equal(unit, NPHD_UNIT(2, 1, 0));
    for (unsigned main_type = 0; main_type < 256; main_type++) {
        for (unsigned rest = 0; rest < 65536; rest += main_type < 5 ? 1 : 255) {
            const nphd_unit made = NPHD_UNIT(main_type, rest >> 8, rest & 255U);

            assert_int_equal(nphd_unit_is_valid(made), main_type < 5);
            assert_true(strlen(nphd_unit_name(made, name)) < NPHD_UNIT_NAME_BYTES);
            if (main_type < 5) {
                assert_int_equal(nphd_unit_parse(name, &unit, NULL), NPHD_OK);
                assert_int_equal(unit, made);
            }
        }
    }
    assert_false(nphd_unit_is_valid(0x02000000U));
    assert_false(nphd_unit_is_valid(1));
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        if (nphd_unit_parse(wrong[i], &unit, NULL) != NPHD_INVALID_ARGUMENT) {
            fail_msg("'%s' is a type", wrong[i]);
        }
        assert_int_equal(unit, NPHD_UNIT_NONE);
    }
}

static void test_errors(void **state)
{
    uint8_t body[32] = {9, 8, 7};
    char text[200];
    nphd_iscc unit;

    (void)state;
    refuse("", NPHD_INVALID_ARGUMENT);
    refuse("ISCC:", NPHD_INVALID_ARGUMENT);
    refuse("ISCC:-", NPHD_INVALID_ARGUMENT);
    refuse("ISCC", NPHD_INVALID_ARGUMENT);
    refuse("ISCC:AAAYPXW445FTYNJ1", NPHD_INVALID_ARGUMENT);  /* no such digit */
    refuse("ISCC:AAAYPXW445FTYNJ=", NPHD_INVALID_ARGUMENT);  /* no padding */
    refuse("ISCC: AAAYPXW445FTYNJ3", NPHD_INVALID_ARGUMENT); /* no blanks */
    refuse("ISCC:AAAYPXW445FTYNJ", NPHD_INVALID_ARGUMENT);   /* a character less */
    refuse("ISCC:AAAYPXW445FTYNJ3A", NPHD_INVALID_ARGUMENT); /* one more */
    refuse("-AAAYPXW445FTYNJ3", NPHD_INVALID_ARGUMENT);
    refuse("ISSC:AAAYPXW445FTYNJ3", NPHD_INVALID_ARGUMENT);
    refuse(make(8, 0, 0, 1, body, 8).text, NPHD_INVALID_ARGUMENT);    /* main type */
    refuse(make(0, 256, 0, 1, body, 8).text, NPHD_INVALID_ARGUMENT);  /* sub type */
    refuse(make(0, 0, 4000, 1, body, 8).text, NPHD_INVALID_ARGUMENT); /* version */
    refuse(make(0, 0, 0, 8, body, 32).text, NPHD_INVALID_ARGUMENT);   /* 288 bits */
    refuse(make(6, 0, 0, 25, body, 32).text, NPHD_INVALID_ARGUMENT);
    refuse(make(0, 0, 0, 2, body, 8).text, NPHD_INVALID_ARGUMENT); /* less than it says */
    refuse(make(0, 0, 0, 0, body, 8).text, NPHD_INVALID_ARGUMENT); /* more */
    memset(text, 'A', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    refuse(text, NPHD_INVALID_ARGUMENT);
    assert_int_equal(nphd_iscc_decode(NULL, 0, &unit, NULL), NPHD_INVALID_ARGUMENT);
    assert_int_equal(nphd_iscc_decode("AAAY", 4, NULL, NULL), NPHD_INVALID_ARGUMENT);
}

/* Headers in nibbles, as no encoder writes them. */
static void refuse_nibbles(const uint8_t *nibbles, size_t count, const char *why)
{
    nphd_iscc unit;
    nphd_error err = NPHD_ERROR_INIT;
    code out;

    memset(&out, 0, sizeof(out));
    for (size_t i = 0; i < count; i++) {
        put_nibble(&out, nibbles[i]);
    }
    put_base32(&out, "ISCC:");
    refuse(out.text, NPHD_INVALID_ARGUMENT);
    (void)decode(out.text, &unit, &err);
    assert_non_null(strstr(err.text, why));
}

static void test_headers(void **state)
{
    static const uint8_t mark[] = {0, 15, 0, 0};        /* no number begins so */
    static const uint8_t half[] = {0, 0, 0, 8};         /* of two nibbles, the second is missing */
    static const uint8_t most[] = {0, 14, 0, 0};        /* of four, there are three */
    static const uint8_t filler[] = {0, 0, 0, 8, 1, 7}; /* 0 would fill it up */

    (void)state;
    refuse_nibbles(mark, sizeof(mark), "cut short");
    refuse_nibbles(half, sizeof(half), "cut short");
    refuse_nibbles(most, sizeof(most), "cut short");
    refuse_nibbles(filler, sizeof(filler), "not filled up");
    refuse("ISCC:AAAYPXW445FTYNJ~", NPHD_INVALID_ARGUMENT); /* behind z */
    refuse("{SCC:AAAYPXW445FTYNJ3", NPHD_INVALID_ARGUMENT);
}

/* Every character of a unit counts: cut anywhere, or with any one changed to a character that is
 * no digit, it is refused; changed to another digit it is refused or another unit. */
static void test_every_character_counts(void **state)
{
    static const char unit_text[] = "ISCC:EADZYKUESSJWNPV2E7Y4OE4VYFTUL4X5PUXH3YI3YCRDLC5SNWSRFTQ";
    char text[sizeof(unit_text)];
    nphd_iscc first;
    nphd_iscc unit;

    (void)state;
    assert_int_equal(decode(unit_text, &first, NULL), NPHD_OK);
    for (size_t length = 0; length + 1 < sizeof(unit_text); length++) {
        assert_int_not_equal(nphd_iscc_decode(unit_text, length, &unit, NULL), NPHD_OK);
    }
    for (size_t at = 5; at + 1 < sizeof(unit_text); at++) {
        memcpy(text, unit_text, sizeof(text));
        text[at] = '1';
        assert_int_equal(decode(text, &unit, NULL), NPHD_INVALID_ARGUMENT);
        text[at] = unit_text[at] == 'B' ? 'C' : 'B';
        if (decode(text, &unit, NULL) == NPHD_OK) {
            assert_memory_not_equal(&unit, &first, sizeof(unit));
        }
    }
}

int main(void)
{
    uint64_t seed = test_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_every_type_and_length, &seed),
        cmocka_unit_test(test_known_unit),
        cmocka_unit_test(test_example_codes),
        cmocka_unit_test(test_composite_is_unsupported),
        cmocka_unit_test_prestate(test_iscc_decompose_every_combination, &seed),
        cmocka_unit_test(test_iscc_decompose_known),
        cmocka_unit_test_prestate(test_encode_is_the_inverse, &seed),
        cmocka_unit_test(test_unit_names),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_every_character_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
