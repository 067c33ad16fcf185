/* The head of an .npy file is a Python dictionary in text form. Three entries are known to it, each
 * stands there once, in any order and with any blanks; nothing is skipped that is not understood.
 *
 * Source: the format's description in the documentation of NumPy, numpy.lib.format. */
#include "formats/npy_format.h"

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define MAGIC_BYTES 6
static const uint8_t npy_magic[MAGIC_BYTES] = {0x93, 'N', 'U', 'M', 'P', 'Y'};

enum { PREFIX_VERSION = 6, PREFIX_TEXT_BYTES = 8, PREFIX_1_BYTES = 10, PREFIX_2_BYTES = 12 };
_Static_assert(PREFIX_2_BYTES == NPHDI_NPY_PREFIX_BYTES, "the longest prefix tells the length");

enum { ENTRY_DESCR = 1, ENTRY_ORDER = 2, ENTRY_SHAPE = 4, ENTRY_ALL = 7 };

typedef struct npy_text {
    const char *name;
    const char *at;
    const char *end;
    nphd_error *err;
    uint32_t key_bytes;
    uint64_t count;
} npy_text;

void nphdi_npy_encode_head(uint32_t key_bytes, uint64_t count, uint8_t out[NPHDI_NPY_HEAD_BYTES])
{
    char text[NPHDI_NPY_HEAD_BYTES];
    const int length = snprintf(
        text, sizeof(text), "{'descr': '%s', 'fortran_order': False, 'shape': (%" PRIu64 ",), }",
        key_bytes == 8 ? "<u8" : "|V16", count);

    memcpy(out, npy_magic, MAGIC_BYTES);
    out[PREFIX_VERSION] = 1;
    out[PREFIX_VERSION + 1] = 0;
    nphdi_put16(out + PREFIX_TEXT_BYTES, NPHDI_NPY_HEAD_BYTES - PREFIX_1_BYTES);
    memset(out + PREFIX_1_BYTES, ' ', NPHDI_NPY_HEAD_BYTES - PREFIX_1_BYTES);
    memcpy(out + PREFIX_1_BYTES, text, (size_t)length);
    out[NPHDI_NPY_HEAD_BYTES - 1] = '\n';
}

static size_t prefix_bytes(const uint8_t *prefix)
{
    return prefix[PREFIX_VERSION] == 1 ? PREFIX_1_BYTES : PREFIX_2_BYTES;
}

nphd_status nphdi_npy_decode_prefix(const char *name, const uint8_t prefix[NPHDI_NPY_PREFIX_BYTES],
                                    uint64_t *out_head_bytes, nphd_error *err)
{
    const uint8_t *version = prefix + PREFIX_VERSION;
    uint32_t text_bytes;

    *out_head_bytes = 0;
    if (memcmp(prefix, npy_magic, MAGIC_BYTES) != 0) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: head: not a NumPy array file", name);
    }
    if (version[0] < 1 || version[0] > 3 || version[1] != 0) {
        return nphdi_fail(err, NPHD_UNSUPPORTED, "%s: head: version %u.%u; known are 1.0 to 3.0",
                          name, version[0], version[1]);
    }
    text_bytes = version[0] == 1 ? nphdi_get16(prefix + PREFIX_TEXT_BYTES)
                                 : nphdi_get32(prefix + PREFIX_TEXT_BYTES);
    if (text_bytes > UINT16_MAX) {
        return nphdi_fail(err, NPHD_UNSUPPORTED,
                          "%s: head: %u bytes of text; an array of keys needs far fewer", name,
                          text_bytes);
    }
    if (text_bytes < 2) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: head: %u bytes of text cannot describe an array",
                          name, text_bytes);
    }
    *out_head_bytes = prefix_bytes(prefix) + text_bytes;
    return NPHD_OK;
}

/* ---- the text ---- */

static nphd_status text_unreadable(const npy_text *text, const char *wanted)
{
    const size_t left = (size_t)(text->end - text->at);

    return nphdi_fail(text->err, NPHD_CORRUPT, "%s: head: %s expected, %zu bytes before its end",
                      text->name, wanted, left);
}

static void text_skip_blanks(npy_text *text)
{
    while (text->at < text->end && (*text->at == ' ' || *text->at == '\t' || *text->at == '\n' ||
                                    *text->at == '\r' || *text->at == '\f')) {
        text->at++;
    }
}

/* Takes `word`, with blanks before it, if it comes next. */
static bool text_take(npy_text *text, const char *word)
{
    const size_t length = strlen(word);

    text_skip_blanks(text);
    if ((size_t)(text->end - text->at) < length || memcmp(text->at, word, length) != 0) {
        return false;
    }
    text->at += length;
    return true;
}

/* A quoted string, without escapes: none of ours has any. */
static bool text_take_string(npy_text *text, const char **out, size_t *out_bytes)
{
    const char *closing;

    text_skip_blanks(text);
    if (text->at == text->end || (*text->at != '\'' && *text->at != '"')) {
        return false;
    }
    closing = memchr(text->at + 1, *text->at, (size_t)(text->end - text->at - 1));
    if (closing == NULL) {
        return false;
    }
    *out = text->at + 1;
    *out_bytes = (size_t)(closing - *out);
    text->at = closing + 1;
    return true;
}

static bool is_word(const char *string, size_t bytes, const char *word)
{
    return bytes == strlen(word) && memcmp(string, word, bytes) == 0;
}

/* Shows at most this much of a foreign string in an error, and only what is printable. */
#define SHOWN_BYTES 20

static nphd_status fail_type(const npy_text *text, const char *type, size_t bytes)
{
    char shown[SHOWN_BYTES + 1];
    size_t length = 0;

    for (; length < bytes && length < SHOWN_BYTES; length++) {
        shown[length] = type[length] >= ' ' && type[length] <= '~' ? type[length] : '?';
    }
    shown[length] = '\0';
    return nphdi_fail(text->err, NPHD_UNSUPPORTED,
                      "%s: head: items of type '%s'; keys are '<u8' or '|V16'", text->name, shown);
}

static nphd_status text_take_descr(npy_text *text)
{
    const char *type;
    size_t bytes;

    if (text_take(text, "[")) {
        return fail_type(text, "record", strlen("record"));
    }
    if (!text_take_string(text, &type, &bytes)) {
        return text_unreadable(text, "the type of the items");
    }
    if (is_word(type, bytes, "<u8")) {
        text->key_bytes = 8;
    } else if (is_word(type, bytes, "|V16")) {
        text->key_bytes = 16;
    } else {
        return fail_type(text, type, bytes);
    }
    return NPHD_OK;
}

static nphd_status text_take_order(npy_text *text)
{
    if (text_take(text, "True")) {
        return nphdi_fail(text->err, NPHD_UNSUPPORTED,
                          "%s: head: an array in Fortran order; keys are in C order", text->name);
    }
    return text_take(text, "False") ? NPHD_OK : text_unreadable(text, "True or False");
}

static bool text_take_number(npy_text *text, uint64_t *out)
{
    const char *start;

    text_skip_blanks(text);
    *out = 0;
    for (start = text->at; text->at < text->end && *text->at >= '0' && *text->at <= '9';
         text->at++) {
        if (!nphdi_checked_mul(*out, 10, out) ||
            !nphdi_checked_add(*out, (uint64_t)(*text->at - '0'), out)) {
            return false;
        }
    }
    return text->at > start;
}

static nphd_status text_take_shape(npy_text *text)
{
    if (!text_take(text, "(")) {
        return text_unreadable(text, "the shape in parentheses");
    }
    if (text_take(text, ")")) {
        return nphdi_fail(text->err, NPHD_UNSUPPORTED,
                          "%s: head: no dimension; an array of keys has one", text->name);
    }
    if (!text_take_number(text, &text->count)) {
        return text_unreadable(text, "the number of keys in 64 bits");
    }
    if (!text_take(text, ",")) {
        return text_unreadable(text, "a comma behind the number of keys");
    }
    if (!text_take(text, ")")) {
        return nphdi_fail(text->err, NPHD_UNSUPPORTED,
                          "%s: head: more than one dimension; an array of keys has one",
                          text->name);
    }
    return NPHD_OK;
}

static nphd_status text_take_entry(npy_text *text, uint32_t *seen)
{
    nphd_status status = NPHD_OK;
    const char *label;
    size_t bytes;
    uint32_t entry;

    if (!text_take_string(text, &label, &bytes) || !text_take(text, ":")) {
        return text_unreadable(text, "the name of an entry and a colon");
    }
    entry = is_word(label, bytes, "descr")           ? ENTRY_DESCR
            : is_word(label, bytes, "fortran_order") ? ENTRY_ORDER
            : is_word(label, bytes, "shape")         ? ENTRY_SHAPE
                                                     : 0;
    if (entry == 0 || (*seen & entry) != 0) {
        return text_unreadable(text, "another entry, each known one once,");
    }
    *seen |= entry;
    if (entry == ENTRY_DESCR) {
        TRY(text_take_descr(text));
    } else if (entry == ENTRY_ORDER) {
        TRY(text_take_order(text));
    } else {
        TRY(text_take_shape(text));
    }
done:
    return status;
}

static nphd_status text_take_dictionary(npy_text *text)
{
    nphd_status status = NPHD_OK;
    uint32_t seen = 0;
    bool more = true;

    if (!text_take(text, "{")) {
        return text_unreadable(text, "a dictionary");
    }
    while (!text_take(text, "}")) {
        if (!more) {
            return text_unreadable(text, "a comma");
        }
        TRY(text_take_entry(text, &seen));
        more = text_take(text, ",");
    }
    text_skip_blanks(text);
    if (text->at != text->end) {
        return text_unreadable(text, "nothing further");
    }
    if (seen != ENTRY_ALL) {
        return text_unreadable(text, "an entry for each of descr, fortran_order and shape");
    }
done:
    return status;
}

nphd_status nphdi_npy_decode_head(const char *name, const uint8_t *head, uint64_t head_bytes,
                                  uint32_t *out_key_bytes, uint64_t *out_count, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    npy_text text = {.name = name, .err = err};
    uint64_t file_bytes = head_bytes;

    *out_key_bytes = 0;
    *out_count = 0;
    text.at = (const char *)head + prefix_bytes(head);
    text.end = (const char *)head + head_bytes;
    TRY(text_take_dictionary(&text));
    if (!nphdi_checked_add_product(text.count, text.key_bytes, &file_bytes)) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: head: %" PRIu64 " keys exceed any file", name,
                          text.count);
    }
    *out_key_bytes = text.key_bytes;
    *out_count = text.count;
done:
    return status;
}
