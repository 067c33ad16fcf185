/* ISCC codes: a base32 text of a header and a body. The header is four numbers (main type, sub
 * type, version, length), each in 1 to 4 nibbles with a prefix code, filled up to a whole byte.
 * Of a unit the length is that of its body; of a composite ISCC-CODE it says which units there are
 * before the Data-Code and the Instance-Code, which always are.
 * Source: ISO 24138:2024; see docs/references.md [ISCC]. */
#include "base/error.h"

#include <nphd/iscc.h>
#include <stdbool.h>
#include <string.h>

#define HEADER_MAX_BYTES 8     /* four numbers of at most four nibbles */
#define COMPOSITE_MAX_BYTES 40 /* five units of 64 bits */
#define COMPOSITE_UNIT_BYTES 8
#define WIDE_UNIT_BYTES 16

enum {
    MAIN_TYPE_META = 0,
    MAIN_TYPE_SEMANTIC = 1,
    MAIN_TYPE_CONTENT = 2,
    MAIN_TYPE_DATA = 3,
    MAIN_TYPE_INSTANCE = 4,
    MAIN_TYPE_ISCC = 5,
    MAIN_TYPE_ID = 6,
    MAIN_TYPE_FLAKE = 7
};

/* Sub types of an ISCC-CODE: the media types 0 to 4 are those of its semantic and content units. */
enum { SUB_TYPE_MIXED = 4, SUB_TYPE_WIDE = 7 };

/* In the length of an ISCC-CODE. */
enum { HAS_CONTENT = 1, HAS_SEMANTIC = 2, HAS_META = 4 };

typedef struct header {
    uint32_t main_type;
    uint32_t sub_type;
    uint32_t version;
    uint32_t length;
    const uint8_t *body;
    size_t body_bytes;
} header;

static const char base32_digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

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

static nphd_status decode_header(const uint8_t *bytes, size_t total, header *out, nphd_error *err)
{
    uint32_t fields[4]; /* main type, sub type, version, length */
    size_t at = 0;

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
    if (fields[0] > MAIN_TYPE_FLAKE || fields[1] > UINT8_MAX || fields[2] > UINT8_MAX) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "ISCC: main type %u, sub type %u, version %u",
                          fields[0], fields[1], fields[2]);
    }
    out->main_type = fields[0];
    out->sub_type = fields[1];
    out->version = fields[2];
    out->length = fields[3];
    out->body = bytes + at / 2;
    out->body_bytes = total - at / 2;
    return NPHD_OK;
}

static nphd_status check_body(const header *head, uint32_t bits, nphd_error *err)
{
    if (head->body_bytes != bits / 8) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                          "ISCC: the header says %u bits of body, the code has %zu", bits,
                          8 * head->body_bytes);
    }
    return NPHD_OK;
}

static void set_unit(nphd_iscc *out, uint32_t main_type, uint32_t sub_type, uint32_t version,
                     const uint8_t *body, size_t bytes)
{
    memset(out, 0, sizeof(*out));
    out->main_type = (uint8_t)main_type;
    out->sub_type = (uint8_t)sub_type;
    out->version = (uint8_t)version;
    out->bytes = (uint8_t)bytes;
    memcpy(out->body, body, bytes);
}

static nphd_status decode_unit(const header *head, nphd_iscc *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint32_t bits =
        head->main_type == MAIN_TYPE_ID ? 64 + 8 * head->length : 32 * (head->length + 1);

    if (bits > 8 * NPHD_ISCC_MAX_BYTES) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "ISCC: a body of %u bits; at most %u", bits,
                          8 * NPHD_ISCC_MAX_BYTES);
    }
    TRY(check_body(head, bits, err));
    set_unit(out, head->main_type, head->sub_type, head->version, head->body, head->body_bytes);
done:
    return status;
}

/* The main types of the units that the header of an ISCC-CODE tells of. */
static size_t composite_types(const header *head, uint8_t out[NPHD_ISCC_MAX_UNITS])
{
    static const uint8_t flags[3] = {HAS_META, HAS_SEMANTIC, HAS_CONTENT};
    size_t count = 0;

    for (unsigned type = MAIN_TYPE_META; type <= MAIN_TYPE_CONTENT; type++) {
        if ((head->length & flags[type]) != 0) {
            out[count++] = (uint8_t)type;
        }
    }
    out[count++] = MAIN_TYPE_DATA;
    out[count++] = MAIN_TYPE_INSTANCE;
    return count;
}

static nphd_status check_composite(const header *head, nphd_error *err)
{
    const bool wide = head->sub_type == SUB_TYPE_WIDE;

    if (head->length > (HAS_META | HAS_SEMANTIC | HAS_CONTENT) || head->sub_type > SUB_TYPE_WIDE) {
        return nphdi_fail(err, NPHD_UNSUPPORTED,
                          "ISCC: an ISCC-CODE of sub type %u with units %u is not known",
                          head->sub_type, head->length);
    }
    if ((wide && head->length != 0) ||
        ((head->length & (HAS_SEMANTIC | HAS_CONTENT)) != 0 && head->sub_type > SUB_TYPE_MIXED)) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                          "ISCC: an ISCC-CODE of sub type %u cannot have the units %u",
                          head->sub_type, head->length);
    }
    return NPHD_OK;
}

/* `out` has room for NPHD_ISCC_MAX_UNITS. */
static nphd_status decode_composite(const header *head, nphd_iscc *out, size_t *out_count,
                                    nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const size_t unit_bytes =
        head->sub_type == SUB_TYPE_WIDE ? WIDE_UNIT_BYTES : COMPOSITE_UNIT_BYTES;
    uint8_t types[NPHD_ISCC_MAX_UNITS];
    size_t count;

    TRY(check_composite(head, err));
    count = composite_types(head, types);
    TRY(check_body(head, (uint32_t)(8 * count * unit_bytes), err));
    for (size_t i = 0; i < count; i++) {
        const bool has_media = types[i] == MAIN_TYPE_SEMANTIC || types[i] == MAIN_TYPE_CONTENT;

        set_unit(&out[i], types[i], has_media ? head->sub_type : 0, head->version,
                 head->body + i * unit_bytes, unit_bytes);
    }
    *out_count = count;
done:
    return status;
}

nphd_status nphd_iscc_decode(const char *text, size_t text_bytes, nphd_iscc *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint8_t bytes[HEADER_MAX_BYTES + COMPOSITE_MAX_BYTES];
    size_t total = 0;
    header head;

    nphdi_error_clear(err);
    if (out == NULL || text == NULL) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "ISCC: text or out is NULL");
    }
    memset(out, 0, sizeof(*out));
    TRY(decode_base32(text, text_bytes, bytes, sizeof(bytes), &total, err));
    TRY(decode_header(bytes, total, &head, err));
    if (head.main_type == MAIN_TYPE_ISCC) {
        return nphdi_fail(err, NPHD_UNSUPPORTED,
                          "ISCC: a composite ISCC-CODE holds several units; take it apart");
    }
    TRY(decode_unit(&head, out, err));
done:
    return status;
}

nphd_status nphd_iscc_decompose(const char *text, size_t text_bytes, nphd_iscc *out,
                                size_t capacity, size_t *out_count, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint8_t bytes[HEADER_MAX_BYTES + COMPOSITE_MAX_BYTES];
    nphd_iscc units[NPHD_ISCC_MAX_UNITS];
    size_t total = 0;
    size_t count = 0;
    header head = {0};

    nphdi_error_clear(err);
    if (out_count == NULL || text == NULL || (out == NULL && capacity > 0)) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "ISCC: text, out or out_count is NULL");
    }
    *out_count = 0;
    TRY(decode_base32(text, text_bytes, bytes, sizeof(bytes), &total, err));
    TRY(decode_header(bytes, total, &head, err));
    if (head.main_type == MAIN_TYPE_ISCC) {
        TRY(decode_composite(&head, units, &count, err));
    } else {
        TRY(decode_unit(&head, &units[0], err));
        count = 1;
    }
    *out_count = count;
    if (count > capacity) {
        return nphdi_fail(err, NPHD_TOO_SMALL,
                          "ISCC: the code has %zu units, there is room for %zu", count, capacity);
    }
    memcpy(out, units, count * sizeof(units[0]));
done:
    return status;
}

/* ---- writing ---- */

static void put_nibble(uint8_t *bytes, size_t *at, uint32_t value)
{
    bytes[*at / 2] = (uint8_t)(bytes[*at / 2] | (value & 15U) << (*at % 2 == 0 ? 4 : 0));
    (*at)++;
}

/* The inverse of take_number() for what a header can hold: up to 255, in three nibbles. */
static void put_number(uint8_t *bytes, size_t *at, uint32_t value)
{
    if (value < 8) {
        put_nibble(bytes, at, value);
    } else if (value < 72) {
        put_nibble(bytes, at, 8 | (value - 8) >> 4);
        put_nibble(bytes, at, value - 8);
    } else {
        put_nibble(bytes, at, 12 | (value - 72) >> 8);
        put_nibble(bytes, at, (value - 72) >> 4);
        put_nibble(bytes, at, value - 72);
    }
}

static void put_base32(const uint8_t *bytes, size_t total, char *out)
{
    uint32_t bits = 0;
    uint32_t bit_count = 0;

    for (size_t i = 0; i < total; i++) {
        bits = bits << 8 | bytes[i];
        for (bit_count += 8; bit_count >= 5; bit_count -= 5) {
            *out++ = base32_digits[bits >> (bit_count - 5) & 31U];
        }
    }
    if (bit_count > 0) {
        *out++ = base32_digits[bits << (5 - bit_count) & 31U];
    }
    *out = '\0';
}

nphd_status nphd_iscc_encode(const nphd_iscc *unit, char out[NPHD_ISCC_TEXT_BYTES], nphd_error *err)
{
    uint8_t bytes[HEADER_MAX_BYTES + NPHD_ISCC_MAX_BYTES] = {0};
    size_t at = 0;
    bool whole;

    nphdi_error_clear(err);
    if (out == NULL || unit == NULL) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "ISCC: unit or out is NULL");
    }
    out[0] = '\0';
    whole = unit->main_type == MAIN_TYPE_ID ? unit->bytes >= 8
                                            : unit->bytes >= 4 && unit->bytes % 4 == 0;
    if (unit->main_type == MAIN_TYPE_ISCC || unit->main_type > MAIN_TYPE_FLAKE || !whole ||
        unit->bytes > NPHD_ISCC_MAX_BYTES) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "ISCC: main type %u with a body of %u bytes",
                          unit->main_type, unit->bytes);
    }
    put_number(bytes, &at, unit->main_type);
    put_number(bytes, &at, unit->sub_type);
    put_number(bytes, &at, unit->version);
    put_number(bytes, &at,
               unit->main_type == MAIN_TYPE_ID ? unit->bytes - 8U : unit->bytes / 4U - 1);
    at += at % 2;
    memcpy(bytes + at / 2, unit->body, unit->bytes);
    memcpy(out, "ISCC:", 5);
    put_base32(bytes, at / 2 + unit->bytes, out + 5);
    return NPHD_OK;
}
