/* Strict readers of the small texts in arguments and input files: numbers and keys. */
#include "parse.h"

#include "message.h"
#include <errno.h>
#include <math.h>
#include <nphd/iscc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define KEY_HEX_DIGITS 32
#define UUID_TEXT_BYTES 36

void cli_problem_set(cli_problem *problem, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(problem->text, sizeof(problem->text), format, arguments);
    va_end(arguments);
}

/* ctype.h asks the locale; these do not. */
static bool parse_is_digit(char c)
{
    return c >= '0' && c <= '9';
}

int cli_hex_digit(char c)
{
    if (parse_is_digit(c)) {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    if (c >= 'A' && c <= 'F') {
        return c - 'A' + 10;
    }
    return -1;
}

bool cli_all_hex(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (cli_hex_digit(text[i]) < 0) {
            return false;
        }
    }
    return true;
}

bool cli_parse_number(const char *text, size_t length, uint64_t min, uint64_t max, uint64_t *out)
{
    uint64_t value = 0;

    *out = 0;
    if (length == 0) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        const uint64_t digit = (uint64_t)(unsigned char)text[i] - '0';

        if (!parse_is_digit(text[i]) || value > (UINT64_MAX - digit) / 10) {
            return false;
        }
        value = value * 10 + digit;
    }
    *out = value;
    return value >= min && value <= max;
}

bool cli_option_u64(const char *name, const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
    if (!cli_parse_number(text, strlen(text), min, max, out)) {
        cli_usage("%s: '%s' is not a number from %llu to %llu", name, text, (unsigned long long)min,
                  (unsigned long long)max);
        return false;
    }
    return true;
}

bool cli_option_u32(const char *name, const char *text, uint32_t min, uint32_t max, uint32_t *out)
{
    uint64_t value = 0;
    const bool good = cli_option_u64(name, text, min, max, &value);

    *out = (uint32_t)value;
    return good;
}

bool cli_option_bytes(const char *name, const char *text, uint64_t *out)
{
    static const char units[] = "KMG";
    const size_t length = strlen(text);
    const char *unit = length > 1 ? strchr(units, text[length - 1]) : NULL;
    const unsigned shift = unit != NULL ? 10 * ((unsigned)(unit - units) + 1) : 0;

    if (!cli_parse_number(text, unit != NULL ? length - 1 : length, 1, UINT64_MAX >> shift, out)) {
        cli_usage("%s: '%s' is not a number of bytes, with K, M or G behind it or not", name, text);
        return false;
    }
    *out <<= shift;
    return true;
}

static bool parse_decimal(const char *text, float *out)
{
    char *end = NULL;
    /* strtof() alone would also take blanks, signs, "nan", "inf" and hexadecimal. */
    const bool plain = text[0] != '\0' && strspn(text, "0123456789.") == strlen(text);

    errno = 0;
    *out = plain ? strtof(text, &end) : 0;
    return plain && *end == '\0' && errno == 0 && isfinite(*out);
}

bool cli_option_radius(const char *name, const char *text, float *out)
{
    if (!parse_decimal(text, out)) {
        cli_usage("%s: '%s' is not a decimal number of 0 or more", name, text);
        return false;
    }
    return true;
}

bool cli_option_budget(const char *name, const char *text, float *out)
{
    if (!parse_decimal(text, out) || !(*out > 0)) {
        cli_usage("%s: '%s' is not a decimal number above 0", name, text);
        return false;
    }
    return true;
}

bool cli_option_metric(const char *name, const char *text, nphd_metric *out)
{
    if (strcmp(text, "nphd") == 0) {
        *out = NPHD_METRIC_NPHD;
        return true;
    }
    if (strcmp(text, "hamming") == 0) {
        *out = NPHD_METRIC_HAMMING;
        return true;
    }
    cli_usage("%s: '%s' is neither nphd nor hamming", name, text);
    return false;
}

/* `length` hex digits, at most 32. */
static bool parse_key_hex(const char *text, size_t length, nphd_key *out)
{
    nphd_key key = {0, 0};

    if (length == 0 || length > KEY_HEX_DIGITS || !cli_all_hex(text, length)) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        key.high = key.high << 4 | key.low >> 60;
        key.low = key.low << 4 | (uint64_t)cli_hex_digit(text[i]);
    }
    *out = key;
    return true;
}

/* The digits of a UUID; false: it is none. */
static bool parse_uuid_digits(const char *text, size_t length, char out[KEY_HEX_DIGITS])
{
    size_t used = 0;

    for (size_t i = 0; length == UUID_TEXT_BYTES && i < UUID_TEXT_BYTES; i++) {
        if (i == 8 || i == 13 || i == 18 || i == 23) {
            if (text[i] != '-') {
                return false;
            }
        } else {
            out[used++] = text[i];
        }
    }
    return used == KEY_HEX_DIGITS && cli_all_hex(out, used);
}

bool cli_is_uuid(const char *text, size_t length)
{
    char digits[KEY_HEX_DIGITS];

    return parse_uuid_digits(text, length, digits);
}

static bool parse_key_uuid(const char *text, size_t length, nphd_key *out)
{
    char digits[KEY_HEX_DIGITS];

    return parse_uuid_digits(text, length, digits) && parse_key_hex(digits, sizeof(digits), out);
}

/* ISCC-IDs of version 1: a time of 52 bits and a number of 12 of who gave it, which together are
 * the key. The realm, whose IDs they are, is in the header alone. */
enum { ISCC_ID_MAIN_TYPE = 6, ISCC_ID_VERSION = 1, ISCC_ID_BYTES = 8 };

static bool key_format_iscc_id = false;
static uint8_t key_realm = 1; /* 0 is for tests */

bool cli_option_key_format(const char *name, const char *text)
{
    key_format_iscc_id = strcmp(text, "iscc-id") == 0;
    if (!key_format_iscc_id && strcmp(text, "auto") != 0) {
        cli_usage("%s: '%s' is neither auto nor iscc-id", name, text);
        return false;
    }
    return true;
}

bool cli_option_realm(const char *name, const char *text)
{
    uint32_t realm = 0;
    const bool good = cli_option_u32(name, text, 0, UINT8_MAX, &realm);

    key_realm = (uint8_t)realm;
    return good;
}

bool cli_keys_are_numbers(void)
{
    return !key_format_iscc_id;
}

static bool parse_key_iscc_id(const char *text, size_t length, nphd_key *out, cli_problem *problem)
{
    nphd_iscc iscc;
    nphd_error err = NPHD_ERROR_INIT;

    if (nphd_iscc_decode(text, length, &iscc, &err) != NPHD_OK) {
        cli_problem_set(problem, "the key: %s", err.text);
        return false;
    }
    if (iscc.main_type != ISCC_ID_MAIN_TYPE) {
        cli_problem_set(problem, "the key is an ISCC, but no ISCC-ID");
        return false;
    }
    if (iscc.version != ISCC_ID_VERSION || iscc.bytes != ISCC_ID_BYTES) {
        cli_problem_set(problem, "the key is an ISCC-ID of version %u and %u bits, not 1 and 64",
                        iscc.version, 8U * iscc.bytes);
        return false;
    }
    if (iscc.sub_type != key_realm) {
        cli_problem_set(problem, "the key is an ISCC-ID of realm %u, not %u as --realm has it",
                        iscc.sub_type, key_realm);
        return false;
    }
    for (size_t i = 0; i < ISCC_ID_BYTES; i++) {
        out->low = out->low << 8 | iscc.body[i];
    }
    return true;
}

static void format_key_iscc_id(uint64_t key, char out[CLI_KEY_TEXT_BYTES])
{
    nphd_iscc iscc = {.main_type = ISCC_ID_MAIN_TYPE,
                      .sub_type = key_realm,
                      .version = ISCC_ID_VERSION,
                      .bytes = ISCC_ID_BYTES};
    char text[NPHD_ISCC_TEXT_BYTES];

    for (size_t i = 0; i < ISCC_ID_BYTES; i++) {
        iscc.body[i] = (uint8_t)(key >> (56 - 8 * i));
    }
    (void)nphd_iscc_encode(&iscc, text, NULL); /* all of its parts are in range */
    snprintf(out, CLI_KEY_TEXT_BYTES, "%.*s", CLI_KEY_TEXT_BYTES - 1, text);
}

bool cli_parse_key(const char *text, size_t length, nphd_key *out, cli_problem *problem)
{
    bool good = false;

    *out = nphd_key_u64(0);
    if (length >= 5 && strncasecmp(text, "ISCC:", 5) == 0) {
        return parse_key_iscc_id(text, length, out, problem);
    }
    if (length == KEY_HEX_DIGITS) {
        good = parse_key_hex(text, length, out);
    } else if (length == UUID_TEXT_BYTES) {
        good = parse_key_uuid(text, length, out);
    } else if (length > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X')) {
        good = parse_key_hex(text + 2, length - 2, out);
    } else {
        good = cli_parse_number(text, length, 0, UINT64_MAX, &out->low);
    }
    if (!good) {
        cli_problem_set(problem, "the key is not a number of 64 bits, nor 0x and hex digits, nor "
                                 "32 hex digits or a UUID");
    }
    return good;
}

bool cli_key_fits(nphd_key key, uint32_t key_bits, cli_problem *problem)
{
    if (key_bits == 64 && key.high != 0) {
        cli_problem_set(problem, "the key has 128 bits, keys of this index have 64");
        return false;
    }
    if (key.low == UINT64_MAX && (key_bits == 64 || key.high == UINT64_MAX)) {
        cli_problem_set(problem, "the key with all bits one is reserved");
        return false;
    }
    return true;
}

void cli_format_key(nphd_key key, uint32_t key_bits, char out[CLI_KEY_TEXT_BYTES])
{
    if (key_format_iscc_id && key.high == 0) {
        format_key_iscc_id(key.low, out);
    } else if (key_bits == 128) {
        snprintf(out, CLI_KEY_TEXT_BYTES, "%016llx%016llx", (unsigned long long)key.high,
                 (unsigned long long)key.low);
    } else {
        snprintf(out, CLI_KEY_TEXT_BYTES, "%llu", (unsigned long long)key.low);
    }
}
