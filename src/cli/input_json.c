/* One JSON object in memory (RFC 8259), looked through without making anything of it. */
#include "input_json.h"

#include "text.h"
#include <stdint.h>
#include <string.h>

/* Arrays and objects within each other; more is no data of anyone's. */
#define JSON_DEPTH 1000

/* Bytes of a name that are compared. */
#define JSON_NAME_BYTES 512

#define REPLACEMENT 0xfffdU

typedef struct json_scan {
    const char *text;
    size_t length;
    size_t at;
    cli_problem *problem;
} json_scan;

static bool json_fail(const json_scan *scan, const char *what)
{
    cli_problem_set(scan->problem, "not JSON: byte %zu of the line: %s", scan->at + 1, what);
    return false;
}

/* The next byte; -1 at the end. */
static int json_peek(const json_scan *scan)
{
    return scan->at < scan->length ? (unsigned char)scan->text[scan->at] : -1;
}

static int json_peek_behind_blanks(json_scan *scan)
{
    while (scan->at < scan->length && cli_text_is_blank(scan->text + scan->at, 1)) {
        scan->at++;
    }
    return json_peek(scan);
}

static bool json_take_word(json_scan *scan, const char *word)
{
    const size_t length = strlen(word);

    if (scan->length - scan->at < length || memcmp(scan->text + scan->at, word, length) != 0) {
        return json_fail(scan, "no value");
    }
    scan->at += length;
    return true;
}

static size_t json_take_digits(json_scan *scan)
{
    const size_t begin = scan->at;

    while (json_peek(scan) >= '0' && json_peek(scan) <= '9') {
        scan->at++;
    }
    return scan->at - begin;
}

static bool json_take_number(json_scan *scan)
{
    scan->at += json_peek(scan) == '-' ? 1 : 0;
    if (json_peek(scan) == '0') {
        scan->at++;
    } else if (json_take_digits(scan) == 0) {
        const int c = json_peek(scan);

        return json_fail(scan, c == 'N' || c == 'I' ? "NaN and Infinity are no numbers of JSON"
                                                    : "no value");
    }
    if (json_peek(scan) == '.') {
        scan->at++;
        if (json_take_digits(scan) == 0) {
            return json_fail(scan, "a number without digits behind its point");
        }
    }
    if (json_peek(scan) == 'e' || json_peek(scan) == 'E') {
        scan->at++;
        scan->at += json_peek(scan) == '+' || json_peek(scan) == '-' ? 1 : 0;
        if (json_take_digits(scan) == 0) {
            return json_fail(scan, "a number without digits in its exponent");
        }
    }
    return true;
}

/* Four hex digits; false when they are not. */
static bool json_hex(const char *text, size_t left, uint32_t *out)
{
    *out = 0;
    for (size_t i = 0; i < 4; i++) {
        const char c = i < left ? text[i] : '\0';
        const bool digit = c >= '0' && c <= '9';
        const bool letter = (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');

        if (!digit && !letter) {
            return false;
        }
        *out = *out << 4 | (uint32_t)(digit ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return true;
}

static bool json_take_escape(json_scan *scan)
{
    uint32_t unit = 0;
    int c = 0;

    scan->at++; /* the backslash */
    c = json_peek(scan);
    if (c == 'u') {
        if (!json_hex(scan->text + scan->at + 1, scan->length - scan->at - 1, &unit)) {
            return json_fail(scan, "no four hex digits behind \\u");
        }
        scan->at += 5;
        return true;
    }
    if (c <= 0 || strchr("\"\\/bfnrt", c) == NULL) {
        return json_fail(scan, "no escape of JSON behind the backslash");
    }
    scan->at++;
    return true;
}

static bool json_take_string(json_scan *scan)
{
    scan->at++; /* the quotation mark */
    for (;;) {
        const int c = json_peek(scan);
        uint32_t character = 0;
        size_t length = 0;

        if (c == '"') {
            scan->at++;
            return true;
        }
        if (c == '\\') {
            if (!json_take_escape(scan)) {
                return false;
            }
            continue;
        }
        if (c < 0) {
            return json_fail(scan, "a string that does not end");
        }
        if (c < 0x20) {
            return json_fail(scan, "a control character in a string");
        }
        length = cli_text_character(scan->text + scan->at, scan->length - scan->at, &character);
        if (length == 0) {
            return json_fail(scan, "not UTF-8; convert the file, for instance by iconv");
        }
        scan->at += length;
    }
}

/* The name of a member and its colon. */
static bool json_take_name(json_scan *scan, cli_json_value *out)
{
    if (json_peek_behind_blanks(scan) != '"') {
        return json_fail(scan, "the name of a member is missing");
    }
    out->kind = CLI_JSON_STRING;
    out->text = scan->text + scan->at;
    if (!json_take_string(scan)) {
        return false;
    }
    out->length = (size_t)(scan->text + scan->at - out->text);
    if (json_peek_behind_blanks(scan) != ':') {
        return json_fail(scan, "a colon is missing");
    }
    scan->at++;
    return true;
}

static bool json_take_scalar(json_scan *scan, cli_json_kind *out)
{
    switch (json_peek(scan)) {
    case '"':
        *out = CLI_JSON_STRING;
        return json_take_string(scan);
    case 't':
        *out = CLI_JSON_BOOLEAN;
        return json_take_word(scan, "true");
    case 'f':
        *out = CLI_JSON_BOOLEAN;
        return json_take_word(scan, "false");
    case 'n':
        *out = CLI_JSON_NULL;
        return json_take_word(scan, "null");
    default:
        *out = CLI_JSON_NUMBER;
        return json_take_number(scan);
    }
}

/* Behind a value within `depth` arrays and objects: their ends, or a comma and the way to the next
 * value. */
static bool json_take_rest(json_scan *scan, const char *closers, size_t *depth)
{
    cli_json_value name;

    while (*depth > 0) {
        const int c = json_peek_behind_blanks(scan);

        if (c == ',') {
            scan->at++;
            return closers[*depth - 1] == ']' || json_take_name(scan, &name);
        }
        if (c != closers[*depth - 1]) {
            return json_fail(scan, "a comma or a closing bracket is missing");
        }
        scan->at++;
        (*depth)--;
    }
    return true;
}

static bool json_take_value(json_scan *scan, cli_json_value *out)
{
    char closers[JSON_DEPTH];
    size_t depth = 0;
    bool whole = false; /* a value has ended */
    cli_json_value name;
    cli_json_kind kind = CLI_JSON_NULL;

    out->kind = json_peek_behind_blanks(scan) == '{' ? CLI_JSON_OBJECT : CLI_JSON_ARRAY;
    out->text = scan->text + scan->at;
    do {
        const int c = json_peek_behind_blanks(scan);

        whole = c != '{' && c != '[';
        if (whole) {
            if (!json_take_scalar(scan, &kind)) {
                return false;
            }
            out->kind = depth == 0 ? kind : out->kind;
        } else {
            if (depth == JSON_DEPTH) {
                return json_fail(scan, "arrays and objects within each other, too many");
            }
            closers[depth] = c == '{' ? '}' : ']';
            scan->at++;
            depth++;
            whole = json_peek_behind_blanks(scan) == closers[depth - 1];
            if (!whole && c == '{' && !json_take_name(scan, &name)) {
                return false;
            }
        }
        if (whole && !json_take_rest(scan, closers, &depth)) {
            return false;
        }
    } while (depth > 0);
    out->length = (size_t)(scan->text + scan->at - out->text);
    return true;
}

static bool json_take_members(json_scan *scan, cli_json_member member, void *context)
{
    cli_json_value name;
    cli_json_value value;
    char text[JSON_NAME_BYTES];

    scan->at++; /* the opening bracket */
    if (json_peek_behind_blanks(scan) == '}') {
        scan->at++;
        return true;
    }
    for (;;) {
        size_t length = 0;

        if (!json_take_name(scan, &name) || !json_take_value(scan, &value)) {
            return false;
        }
        length = cli_json_string(&name, text, sizeof(text));
        member(context, text, length < sizeof(text) ? length : sizeof(text), &value);
        if (json_peek_behind_blanks(scan) == '}') {
            scan->at++;
            return true;
        }
        if (json_peek(scan) != ',') {
            return json_fail(scan, "a comma or a closing bracket is missing");
        }
        scan->at++;
    }
}

bool cli_json_object(const char *text, size_t length, cli_json_member member, void *context,
                     cli_problem *problem)
{
    json_scan scan = {text, length, 0, problem};
    const int first = json_peek_behind_blanks(&scan);

    if (first == '[' || first == ']') {
        cli_problem_set(problem, "a piece of an array; JSONL has an object on each line, without "
                                 "brackets and commas around");
        return false;
    }
    if (first != '{') {
        cli_problem_set(problem, "not a JSON object");
        return false;
    }
    if (!json_take_members(&scan, member, context)) {
        return false;
    }
    if (json_peek_behind_blanks(&scan) == ',') {
        cli_problem_set(problem, "a comma behind the object; JSONL has an object on each line, "
                                 "without brackets and commas around");
        return false;
    }
    return json_peek(&scan) < 0 || json_fail(&scan, "something behind the object");
}

/* The character of an escape, whose backslash is at `text`; *out_bytes is how far it goes. */
static uint32_t json_escape(const char *text, size_t left, size_t *out_bytes)
{
    static const char names[] = "bfnrt";
    static const char meanings[] = "\b\f\n\r\t";
    const char *name = strchr(names, text[1]);
    uint32_t high = 0;
    uint32_t low = 0;

    *out_bytes = 2;
    if (text[1] != 'u') {
        return (unsigned char)(name != NULL ? meanings[name - names] : text[1]);
    }
    *out_bytes = 6;
    if (!json_hex(text + 2, left - 2, &high) || high < 0xd800 || high > 0xdfff) {
        return high;
    }
    if (high < 0xdc00 && left > 8 && text[6] == '\\' && text[7] == 'u' &&
        json_hex(text + 8, left - 8, &low) && low >= 0xdc00 && low <= 0xdfff) {
        *out_bytes = 12;
        return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
    }
    return REPLACEMENT;
}

size_t cli_json_string(const cli_json_value *value, char *out, size_t capacity)
{
    const char *text = value->text + 1;
    const size_t length = value->length - 2;
    size_t used = 0;
    size_t step = 0;

    for (size_t at = 0; at < length; at += step) {
        char bytes[CLI_CHARACTER_BYTES] = {text[at]};
        size_t count = 1;

        step = 1;
        if (text[at] == '\\') {
            count = cli_text_put(json_escape(text + at, length - at, &step), bytes);
        }
        for (size_t i = 0; i < count; i++, used++) {
            if (used < capacity) {
                out[used] = bytes[i];
            }
        }
    }
    return used;
}
