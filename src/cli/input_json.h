/* One JSON object in memory (RFC 8259), looked through without making anything of it: numbers keep
 * all their digits, and what nobody asks for may be as large as it likes. */
#ifndef NPHD_CLI_INPUT_JSON_H
#define NPHD_CLI_INPUT_JSON_H

#include "parse.h"
#include <stdbool.h>
#include <stddef.h>

typedef enum cli_json_kind {
    CLI_JSON_NULL,
    CLI_JSON_BOOLEAN,
    CLI_JSON_NUMBER,
    CLI_JSON_STRING,
    CLI_JSON_ARRAY,
    CLI_JSON_OBJECT
} cli_json_kind;

/* A value as it stands in the text, quotation marks included. */
typedef struct cli_json_value {
    cli_json_kind kind;
    const char *text;
    size_t length;
} cli_json_value;

/* Called for each member. A name that is longer than it could matter is cut. */
typedef void (*cli_json_member)(void *context, const char *name, size_t length,
                                const cli_json_value *value);

/* Hands each member of the object to `member`, in order. False, with a problem that names the byte,
 * when the text is anything but one object: members may have been handed over then. */
bool cli_json_object(const char *text, size_t length, cli_json_member member, void *context,
                     cli_problem *problem);

/* The text of a string that cli_json_object() has handed over, in UTF-8; half of a surrogate pair
 * becomes U+FFFD. Returns its whole length, of which at most `capacity` bytes are in `out`. */
size_t cli_json_string(const cli_json_value *value, char *out, size_t capacity);

#endif
