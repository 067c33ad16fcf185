/* Reading vectors written as text. */
#include "vector_text.h"

#include "message.h"
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define VECTOR_FORMS "ISCC:..., an even number of hex digits, or base64 with base64: in front"

/* ISCC-IDs and Flake-Codes name things; what they have in common says nothing of the things. */
enum { MAIN_TYPE_ID = 6, MAIN_TYPE_FLAKE = 7 };

static const char *const vector_encodings[] = {"auto", "iscc", "hex", "base64"};

bool cli_option_encoding(const char *name, const char *text, cli_encoding *out)
{
    for (int i = CLI_ENCODING_GUESS; i <= CLI_ENCODING_BASE64; i++) {
        if (strcmp(text, vector_encodings[i]) == 0) {
            *out = (cli_encoding)i;
            return true;
        }
    }
    cli_usage("%s: '%s' is none of auto, iscc, hex and base64", name, text);
    return false;
}

bool cli_option_unit(const char *name, const char *text, nphd_unit *out)
{
    nphd_error err = NPHD_ERROR_INIT;

    if (nphd_unit_parse(text, out, &err) != NPHD_OK) {
        cli_usage("%s: %s", name, err.text);
        return false;
    }
    if (*out == NPHD_UNIT_NONE || *out == NPHD_UNIT_MIXED) {
        cli_usage("%s: '%s' is not one type of units", name, text);
        return false;
    }
    return true;
}

const char *cli_describe_notation(cli_notation read, size_t bytes, char out[CLI_NOTATION_BYTES])
{
    char name[NPHD_UNIT_NAME_BYTES] = "";

    if (read.unit != NPHD_UNIT_NONE) {
        (void)nphd_unit_name(read.unit, name);
    }
    snprintf(out, CLI_NOTATION_BYTES, "%s%s%s%s%zu bits",
             read.encoding != CLI_ENCODING_GUESS ? vector_encodings[read.encoding] : "",
             name[0] != '\0' ? " " : "", name, read.encoding != CLI_ENCODING_GUESS ? ", " : "",
             8 * bytes);
    return out;
}

/* ---- the encodings ---- */

static bool vector_too_long(cli_problem *problem)
{
    cli_problem_set(problem, "the vector has more than %d bytes", NPHD_MAX_BYTES);
    return false;
}

static bool vector_has_0x(const char *text, size_t length)
{
    return length >= 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
}

bool cli_unit_differs(nphd_unit unit, nphd_unit asked, cli_problem *problem)
{
    char got[NPHD_UNIT_NAME_BYTES];
    char wanted[NPHD_UNIT_NAME_BYTES];

    if (asked == NPHD_UNIT_NONE || asked == NPHD_UNIT_MIXED || unit == NPHD_UNIT_NONE ||
        unit == asked) {
        return false;
    }
    cli_problem_set(problem, "the code is of the type %s, and those here are %s (see --mix-units)",
                    nphd_unit_name(unit, got), nphd_unit_name(asked, wanted));
    return true;
}

/* Which unit of a composite code is meant. Sets a problem that names those it has. */
static const nphd_iscc *vector_pick_unit(const nphd_iscc *units, size_t count, nphd_unit asked,
                                         cli_problem *problem)
{
    char names[NPHD_ISCC_MAX_UNITS * (NPHD_UNIT_NAME_BYTES + 2)] = "";
    char wanted[NPHD_UNIT_NAME_BYTES];
    size_t used = 0;

    for (size_t i = 0; i < count; i++) {
        char name[NPHD_UNIT_NAME_BYTES];

        if (nphd_iscc_unit(&units[i]) == asked) {
            return &units[i];
        }
        (void)nphd_unit_name(nphd_iscc_unit(&units[i]), name);
        used +=
            (size_t)snprintf(names + used, sizeof(names) - used, "%s%s", i > 0 ? ", " : "", name);
    }
    if (asked == NPHD_UNIT_NONE || asked == NPHD_UNIT_MIXED) {
        cli_problem_set(problem, "the ISCC-CODE has the units %s: say which one by --unit", names);
    } else {
        cli_problem_set(problem, "the ISCC-CODE has the units %s, and none of the type %s", names,
                        nphd_unit_name(asked, wanted));
    }
    return NULL;
}

static bool vector_iscc(nphd_unit asked, const char *text, size_t length, uint8_t *out,
                        size_t *out_bytes, nphd_unit *out_unit, cli_problem *problem)
{
    nphd_iscc units[NPHD_ISCC_MAX_UNITS];
    const nphd_iscc *unit = &units[0];
    nphd_error err = NPHD_ERROR_INIT;
    size_t count = 0;

    if (nphd_iscc_decompose(text, length, units, NPHD_ISCC_MAX_UNITS, &count, &err) != NPHD_OK) {
        cli_problem_set(problem, "%s", err.text);
        return false;
    }
    if (unit->main_type == MAIN_TYPE_ID || unit->main_type == MAIN_TYPE_FLAKE) {
        cli_problem_set(problem, "%s is a key, not a vector",
                        unit->main_type == MAIN_TYPE_ID ? "an ISCC-ID" : "a Flake-Code");
        return false;
    }
    if (count > 1) {
        unit = vector_pick_unit(units, count, asked, problem);
        if (unit == NULL) {
            return false;
        }
    }
    *out_unit = nphd_iscc_unit(unit);
    if (cli_unit_differs(*out_unit, asked, problem)) {
        return false;
    }
    memcpy(out, unit->body, unit->bytes);
    *out_bytes = unit->bytes;
    return true;
}

static bool vector_hex(const char *text, size_t length, uint8_t *out, size_t *out_bytes,
                       cli_problem *problem)
{
    if (length > 2 * (size_t)NPHD_MAX_BYTES) {
        return vector_too_long(problem);
    }
    if (cli_is_uuid(text, length)) {
        cli_problem_set(problem, "a UUID is a key, not a vector; if its 128 bits are meant, leave "
                                 "out the dashes");
        return false;
    }
    if (vector_has_0x(text, length)) {
        cli_problem_set(problem, "0x is for keys; a vector in hex is digits alone");
        return false;
    }
    if (length % 2 != 0 || !cli_all_hex(text, length)) {
        cli_problem_set(problem, "the vector is not an even number of hex digits");
        return false;
    }
    /* libsodium's codecs keep no state and need no sodium_init(). */
    return sodium_hex2bin(out, NPHD_MAX_BYTES, text, length, NULL, out_bytes, NULL) == 0;
}

/* Both alphabets of RFC 4648, with or without padding, but not two of them mixed. */
static bool vector_base64(const char *text, size_t length, uint8_t *out, size_t *out_bytes,
                          cli_problem *problem)
{
    const bool url = memchr(text, '-', length) != NULL || memchr(text, '_', length) != NULL;
    const bool padded = memchr(text, '=', length) != NULL;
    const char *end = NULL;
    int variant = 0;

    if (length > ((size_t)NPHD_MAX_BYTES + 2) / 3 * 4) {
        return vector_too_long(problem);
    }
    if (url) {
        variant = padded ? sodium_base64_VARIANT_URLSAFE : sodium_base64_VARIANT_URLSAFE_NO_PADDING;
    } else {
        variant =
            padded ? sodium_base64_VARIANT_ORIGINAL : sodium_base64_VARIANT_ORIGINAL_NO_PADDING;
    }
    if (sodium_base642bin(out, NPHD_MAX_BYTES, text, length, NULL, out_bytes, &end, variant) != 0 ||
        end != text + length) {
        cli_problem_set(problem, "the vector is not base64");
        return false;
    }
    return true;
}

/* ---- which one it is ---- */

/* A whole ISCC of a kind that is in use: other texts pass for one by chance, once in a while. */
static bool vector_is_iscc(const char *text, size_t length)
{
    nphd_iscc units[NPHD_ISCC_MAX_UNITS];
    size_t count = 0;

    if (nphd_iscc_decompose(text, length, units, NPHD_ISCC_MAX_UNITS, &count, NULL) != NPHD_OK) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        const bool has_media = units[i].main_type == 1 || units[i].main_type == 2;

        if (units[i].version > (units[i].main_type == MAIN_TYPE_ID ? 1 : 0) ||
            units[i].sub_type > (has_media || units[i].main_type == MAIN_TYPE_ID ? 4 : 0)) {
            return false;
        }
    }
    return true;
}

/* Passes over a prefix in either case. */
static bool vector_take_prefix(const char *prefix, const char **text, size_t *length)
{
    const size_t prefix_bytes = strlen(prefix);

    if (*length < prefix_bytes || strncasecmp(*text, prefix, prefix_bytes) != 0) {
        return false;
    }
    *text += prefix_bytes;
    *length -= prefix_bytes;
    return true;
}

/* CLI_ENCODING_GUESS, with a problem: it cannot be told. */
static cli_encoding vector_guess(const char **text, size_t *length, cli_problem *problem)
{
    const char *rest = *text;
    size_t rest_length = *length;

    if (vector_take_prefix("ISCC:", &rest, &rest_length)) {
        return CLI_ENCODING_ISCC;
    }
    if (vector_take_prefix("hex:", text, length)) {
        return CLI_ENCODING_HEX;
    }
    if (vector_take_prefix("base64:", text, length)) {
        return CLI_ENCODING_BASE64;
    }
    if (cli_all_hex(*text, *length)) {
        if (*length % 2 == 0 && vector_is_iscc(*text, *length)) {
            cli_problem_set(problem, "it is hex and an ISCC alike: put hex: or ISCC: in front");
            return CLI_ENCODING_GUESS;
        }
        return CLI_ENCODING_HEX;
    }
    if (cli_is_uuid(*text, *length) || vector_has_0x(*text, *length)) {
        return CLI_ENCODING_HEX; /* which says what is wrong with them */
    }
    if (vector_is_iscc(*text, *length)) {
        return CLI_ENCODING_ISCC;
    }
    cli_problem_set(problem, "no vector: that is " VECTOR_FORMS);
    return CLI_ENCODING_GUESS;
}

bool cli_parse_vector(cli_notation asked, const char *text, size_t length,
                      uint8_t out[NPHD_MAX_BYTES], size_t *out_bytes, cli_notation *out_read,
                      cli_problem *problem)
{
    cli_encoding encoding = asked.encoding;

    *out_bytes = 0;
    out_read->encoding = CLI_ENCODING_GUESS;
    out_read->unit = NPHD_UNIT_NONE;
    if (length > 0 && encoding == CLI_ENCODING_GUESS) {
        encoding = vector_guess(&text, &length, problem);
        if (encoding == CLI_ENCODING_GUESS) {
            return false;
        }
    }
    if (length == 0) {
        cli_problem_set(problem, "the vector is empty");
        return false;
    }
    out_read->encoding = encoding;
    switch (encoding) {
    case CLI_ENCODING_ISCC:
        return vector_iscc(asked.unit, text, length, out, out_bytes, &out_read->unit, problem);
    case CLI_ENCODING_HEX:
        return vector_hex(text, length, out, out_bytes, problem);
    default:
        return vector_base64(text, length, out, out_bytes, problem);
    }
}
