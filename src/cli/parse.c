/* Strict readers of the small texts in arguments and input files: numbers, keys and vectors. */
#include "parse.h"

#include "message.h"
#include <errno.h>
#include <math.h>
#include <nphd/iscc.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define ISCC_PREFIX "ISCC:"
#define ISCC_PREFIX_BYTES (sizeof(ISCC_PREFIX) - 1)
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

static int parse_hex_digit(char c)
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

static bool parse_all_hex(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (parse_hex_digit(text[i]) < 0) {
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

    if (length == 0 || length > KEY_HEX_DIGITS || !parse_all_hex(text, length)) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        key.high = key.high << 4 | key.low >> 60;
        key.low = key.low << 4 | (uint64_t)parse_hex_digit(text[i]);
    }
    *out = key;
    return true;
}

static bool parse_key_uuid(const char *text, nphd_key *out)
{
    char digits[KEY_HEX_DIGITS];
    size_t used = 0;

    for (size_t i = 0; i < UUID_TEXT_BYTES; i++) {
        if (i == 8 || i == 13 || i == 18 || i == 23) {
            if (text[i] != '-') {
                return false;
            }
        } else {
            digits[used++] = text[i];
        }
    }
    return parse_key_hex(digits, used, out);
}

bool cli_parse_key(const char *text, size_t length, nphd_key *out, cli_problem *problem)
{
    bool good = false;

    *out = nphd_key_u64(0);
    if (length == KEY_HEX_DIGITS) {
        good = parse_key_hex(text, length, out);
    } else if (length == UUID_TEXT_BYTES) {
        good = parse_key_uuid(text, out);
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
    if (key_bits == 128) {
        snprintf(out, CLI_KEY_TEXT_BYTES, "%016llx%016llx", (unsigned long long)key.high,
                 (unsigned long long)key.low);
    } else {
        snprintf(out, CLI_KEY_TEXT_BYTES, "%llu", (unsigned long long)key.low);
    }
}

static bool parse_too_long(cli_problem *problem)
{
    cli_problem_set(problem, "the vector has more than %d bytes", NPHD_MAX_BYTES);
    return false;
}

static bool parse_vector_iscc(const char *text, size_t length, uint8_t *out, size_t *out_bytes,
                              cli_problem *problem)
{
    nphd_iscc iscc;
    nphd_error err = NPHD_ERROR_INIT;

    if (nphd_iscc_decode(text, length, &iscc, &err) != NPHD_OK) {
        cli_problem_set(problem, "%s", err.text);
        return false;
    }
    memcpy(out, iscc.body, iscc.bytes);
    *out_bytes = iscc.bytes;
    return true;
}

static bool parse_vector_hex(const char *text, size_t length, uint8_t *out, size_t *out_bytes,
                             cli_problem *problem)
{
    if (length > 2 * (size_t)NPHD_MAX_BYTES) {
        return parse_too_long(problem);
    }
    if (length % 2 != 0 || !parse_all_hex(text, length)) {
        cli_problem_set(problem, "the vector is not an even number of hex digits");
        return false;
    }
    /* libsodium's codecs keep no state and need no sodium_init(). */
    return sodium_hex2bin(out, NPHD_MAX_BYTES, text, length, NULL, out_bytes, NULL) == 0;
}

/* Both alphabets of RFC 4648, with or without padding, but not two of them mixed. */
static bool parse_vector_base64(const char *text, size_t length, uint8_t *out, size_t *out_bytes,
                                cli_problem *problem)
{
    const bool url = memchr(text, '-', length) != NULL || memchr(text, '_', length) != NULL;
    const bool padded = memchr(text, '=', length) != NULL;
    const char *end = NULL;
    int variant = 0;

    if (length > ((size_t)NPHD_MAX_BYTES + 2) / 3 * 4) {
        return parse_too_long(problem);
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

static cli_encoding parse_guess_encoding(const char *text, size_t length)
{
    if (length >= ISCC_PREFIX_BYTES && strncasecmp(text, ISCC_PREFIX, ISCC_PREFIX_BYTES) == 0) {
        return CLI_ENCODING_ISCC;
    }
    return length % 2 == 0 && parse_all_hex(text, length) ? CLI_ENCODING_HEX : CLI_ENCODING_BASE64;
}

bool cli_parse_vector(cli_encoding encoding, const char *text, size_t length,
                      uint8_t out[NPHD_MAX_BYTES], size_t *out_bytes, cli_problem *problem)
{
    *out_bytes = 0;
    if (length == 0) {
        cli_problem_set(problem, "the vector is empty");
        return false;
    }
    if (encoding == CLI_ENCODING_GUESS) {
        encoding = parse_guess_encoding(text, length);
    }
    if (encoding == CLI_ENCODING_ISCC) {
        return parse_vector_iscc(text, length, out, out_bytes, problem);
    }
    if (encoding == CLI_ENCODING_HEX) {
        return parse_vector_hex(text, length, out, out_bytes, problem);
    }
    return parse_vector_base64(text, length, out, out_bytes, problem);
}
