/* Text as bytes of UTF-8, without asking the locale. */
#ifndef NPHD_CLI_TEXT_H
#define NPHD_CLI_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Most bytes of a character. */
#define CLI_CHARACTER_BYTES ((size_t)4)

/* The character at the front of a text of `left` bytes: its length, 1 to 4, and its number. 0: the
 * bytes there are not UTF-8 (cut short, too long a form, a surrogate, above U+10FFFF), or none are
 * left. */
size_t cli_text_character(const char *text, size_t left, uint32_t *out);

/* Writes a character, which is no surrogate and at most U+10FFFF, and returns its length. */
size_t cli_text_put(uint32_t character, char out[CLI_CHARACTER_BYTES]);

/* Passes over UTF-8 byte order marks at the front. */
void cli_text_skip_marks(const char **text, size_t *length);

/* Blanks, tabs and line ends alone? */
bool cli_text_is_blank(const char *text, size_t length);

/* Copies text for the eyes of people: what a terminal could take for a command, and what is not
 * UTF-8, is written as \x1b. Those are the control characters, of C1 too, and the characters that
 * turn the direction of writing. Never cuts a character or an escape in two; what does not fit into
 * `capacity` bytes, the closing zero included, is left out. */
void cli_text_clean(char *out, size_t capacity, const char *text, size_t length);

#endif
