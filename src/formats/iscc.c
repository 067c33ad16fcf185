/* ISCC units: a base32 text of a header and a body. The header is four numbers (main type, sub
 * type, version, length), each in 1 to 4 nibbles with a prefix code, filled up to a whole byte.
 * Source: ISO 24138:2024; see docs/references.md [ISCC]. */
#include "base/error.h"

#include <nphd/iscc.h>
#include <stdbool.h>
#include <string.h>

#define HEADER_MAX_BYTES 8 /* four numbers of at most four nibbles */

enum { MAIN_TYPE_ISCC = 5, MAIN_TYPE_ID = 6, MAIN_TYPE_FLAKE = 7 };

static int base32_value(char c)
{
    if (c >= 'A' && c <= 'Z') {
        return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
        return c - 'a';
    }
    if (c >= '2' && c <= '7') {
        return c - '2' + 26;
    }
    return -1;
}

static bool has_prefix(const char *text, size_t text_bytes)
{
    static const char prefix[] = "ISCC:";

    if (text_bytes < sizeof(prefix) - 1) {
        return false;
    }
    for (size_t i = 0; i < sizeof(prefix) - 1; i++) {
        const char c = text[i] >= 'a' && text[i] <= 'z' ? (char)(text[i] - 'a' + 'A') : text[i];
        if (c != prefix[i]) {
            return false;
        }
    }
    return true;
}

/* Decodes base32 into `out`; *out_bytes is how many. Left-over bits must be zero. */
static nphd_status decode_base32(const char *text, size_t text_bytes, uint8_t *out, size_t room,
                                 size_t *out_bytes, nphd_error *err)
{
    uint32_t bits = 0;
    uint32_t bit_count = 0;
    size_t bytes = 0;
    size_t digits = 0;

    for (size_t i = has_prefix(text, text_bytes) ? 5 : 0; i < text_bytes; i++) {
        const int value = base32_value(text[i]);
        if (text[i] == '-' && digits > 0) {
            continue;
        }
        if (value < 0) {
            return nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                              "ISCC: character %zu is not a base32 digit", i + 1);
        }
        digits++;
        bits = bits << 5 | (uint32_t)value;
        bit_count += 5;
        if (bit_count >= 8) {
            if (bytes == room) {
                return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "ISCC: the code is too long");
            }
            bit_count -= 8;
            out[bytes++] = (uint8_t)(bits >> bit_count);
        }
    }
    if (bit_count >= 5 || (bits & ((1U << bit_count) - 1)) != 0) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                          "ISCC: the code ends inside a byte; a character is missing or wrong");
    }
    *out_bytes = bytes;
    return NPHD_OK;
}

/* The next `count` nibbles as a number; false past the end. */
static bool take_nibbles(const uint8_t *bytes, size_t total, size_t *at, uint32_t count,
                         uint32_t *out)
{
    uint32_t value = 0;

    if (*at + count > 2 * total) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++, (*at)++) {
        value = value << 4 | (*at % 2 == 0 ? bytes[*at / 2] >> 4 : bytes[*at / 2] & 15U);
    }
    *out = value;
    return true;
}

/* 0xxx: 0 to 7; 10xx..: the next 64; 110x...: the next 512; 1110....: the next 4096. */
static bool take_number(const uint8_t *bytes, size_t total, size_t *at, uint32_t *out)
{
    static const uint32_t base[4] = {0, 8, 72, 584};
    uint32_t first;
    uint32_t extra = 0;
    uint32_t nibbles;

    if (!take_nibbles(bytes, total, at, 1, &first)) {
        return false;
    }
    nibbles = first < 8 ? 1 : first < 12 ? 2 : first < 14 ? 3 : first < 15 ? 4 : 0;
    if (nibbles == 0 || (nibbles > 1 && !take_nibbles(bytes, total, at, nibbles - 1, &extra))) {
        return false;
    }
    /* the prefix code takes as many bits of the first nibble as there are nibbles */
    *out = base[nibbles - 1] + ((first & (0xFU >> nibbles)) << (4 * (nibbles - 1))) + extra;
    return true;
}

static nphd_status decode_unit(const uint8_t *bytes, size_t total, nphd_iscc *out, nphd_error *err)
{
    uint32_t fields[4]; /* main type, sub type, version, length */
    size_t at = 0;
    uint32_t bits;

    for (size_t i = 0; i < 4; i++) {
        if (!take_number(bytes, total, &at, &fields[i])) {
            return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "ISCC: the header is cut short");
        }
    }
    if (at % 2 != 0) {
        uint32_t filler = 0;
        (void)take_nibbles(bytes, total, &at, 1, &filler); /* the other half of a byte */
        if (filler != 0) {
            return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "ISCC: the header is not filled up");
        }
    }
    if (fields[0] == MAIN_TYPE_ISCC) {
        return nphdi_fail(err, NPHD_UNSUPPORTED,
                          "ISCC: a composite ISCC-CODE holds several units; decode those");
    }
    if (fields[0] > MAIN_TYPE_FLAKE || fields[1] > UINT8_MAX || fields[2] > UINT8_MAX) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "ISCC: main type %u, sub type %u, version %u",
                          fields[0], fields[1], fields[2]);
    }
    bits = fields[0] == MAIN_TYPE_ID ? 64 + 8 * fields[3] : 32 * (fields[3] + 1);
    if (bits > 8 * NPHD_ISCC_MAX_BYTES) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "ISCC: a body of %u bits; at most %u", bits,
                          8 * NPHD_ISCC_MAX_BYTES);
    }
    if (total - at / 2 != bits / 8) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                          "ISCC: the header says %u bits of body, the code has %zu", bits,
                          8 * (total - at / 2));
    }
    out->main_type = (uint8_t)fields[0];
    out->sub_type = (uint8_t)fields[1];
    out->version = (uint8_t)fields[2];
    out->bytes = (uint8_t)(bits / 8);
    memcpy(out->body, bytes + at / 2, bits / 8);
    return NPHD_OK;
}

nphd_status nphd_iscc_decode(const char *text, size_t text_bytes, nphd_iscc *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint8_t bytes[HEADER_MAX_BYTES + NPHD_ISCC_MAX_BYTES];
    size_t total = 0;

    nphdi_error_clear(err);
    if (out == NULL || text == NULL) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "ISCC: text or out is NULL");
    }
    memset(out, 0, sizeof(*out));
    TRY(decode_base32(text, text_bytes, bytes, sizeof(bytes), &total, err));
    TRY(decode_unit(bytes, total, out, err));
done:
    return status;
}
