/* Text as bytes of UTF-8, without asking the locale. */
#include "text.h"

#include <stdio.h>
#include <string.h>

#define CHARACTER_MAX 0x10ffffU

/* How a byte of a text is written that may not reach a terminal. */
#define ESCAPE_BYTES (sizeof("\\x1b") - 1)

size_t cli_text_character(const char *text, size_t left, uint32_t *out)
{
    static const uint32_t least[CLI_CHARACTER_BYTES + 1] = {0, 0, 0x80, 0x800, 0x10000};
    const unsigned char *bytes = (const unsigned char *)text;
    uint32_t character = 0;
    size_t length = 0;

    *out = 0;
    if (left == 0) {
        return 0;
    }
    if (bytes[0] < 0x80) {
        *out = bytes[0];
        return 1;
    }
    length = bytes[0] < 0xe0 ? 2 : bytes[0] < 0xf0 ? 3 : 4;
    if (bytes[0] < 0xc0 || bytes[0] > 0xf7 || length > left) {
        return 0;
    }
    character = bytes[0] & (0x7fU >> length);
    for (size_t i = 1; i < length; i++) {
        if ((bytes[i] & 0xc0U) != 0x80) {
            return 0;
        }
        character = character << 6 | (bytes[i] & 0x3fU);
    }
    if (character < least[length] || character > CHARACTER_MAX ||
        (character >= 0xd800 && character <= 0xdfff)) {
        return 0;
    }
    *out = character;
    return length;
}

size_t cli_text_put(uint32_t character, char out[CLI_CHARACTER_BYTES])
{
    const size_t length = character < 0x80      ? 1
                          : character < 0x800   ? 2
                          : character < 0x10000 ? 3
                                                : 4;
    static const unsigned char heads[CLI_CHARACTER_BYTES + 1] = {0, 0, 0xc0, 0xe0, 0xf0};

    for (size_t i = length - 1; i > 0; i--) {
        out[i] = (char)(0x80U | (character & 0x3fU));
        character >>= 6;
    }
    out[0] = (char)(heads[length] | character);
    return length;
}

void cli_text_skip_marks(const char **text, size_t *length)
{
    static const char mark[] = {'\xef', '\xbb', '\xbf'};

    while (*length >= sizeof(mark) && memcmp(*text, mark, sizeof(mark)) == 0) {
        *text += sizeof(mark);
        *length -= sizeof(mark);
    }
}

bool cli_text_is_blank(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (text[i] != ' ' && text[i] != '\t' && text[i] != '\r' && text[i] != '\n') {
            return false;
        }
    }
    return true;
}

/* Of a terminal, or of how it orders what is on a line. */
static bool text_controls(uint32_t character)
{
    return character < 0x20 || (character >= 0x7f && character <= 0x9f) ||
           (character >= 0x200e && character <= 0x200f) ||
           (character >= 0x2028 && character <= 0x202e) ||
           (character >= 0x2066 && character <= 0x2069);
}

void cli_text_clean(char *out, size_t capacity, const char *text, size_t length)
{
    size_t used = 0;
    size_t step = 0;

    for (size_t at = 0; at < length; at += step) {
        uint32_t character = 0;
        const size_t known = cli_text_character(text + at, length - at, &character);
        const bool plain = known > 0 && !text_controls(character);

        step = known > 0 ? known : 1;
        if (used + (plain ? step : step * ESCAPE_BYTES) >= capacity) {
            break;
        }
        for (size_t i = 0; i < step; i++) {
            if (plain) {
                out[used++] = text[at + i];
            } else {
                snprintf(out + used, ESCAPE_BYTES + 1, "\\x%02x", (unsigned char)text[at + i]);
                used += ESCAPE_BYTES;
            }
        }
    }
    out[used] = '\0';
}
