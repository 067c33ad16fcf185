/* Reading vectors written as text. Nothing is taken for a vector that could have been meant to be
 * something else: what is not plain without doubt says how it is written. */
#ifndef NPHD_CLI_VECTOR_TEXT_H
#define NPHD_CLI_VECTOR_TEXT_H

#include "parse.h"
#include <nphd/iscc.h>

/* How the text of a vector is written. GUESS: a whole ISCC, with or without "ISCC:" in front; or an
 * even number of hex digits; or whatever "hex:" or "base64:" in front says. */
typedef enum cli_encoding {
    CLI_ENCODING_GUESS, /* of what was read: not as text */
    CLI_ENCODING_ISCC,
    CLI_ENCODING_HEX,
    CLI_ENCODING_BASE64
} cli_encoding;

/* What the command line and the index say of vectors, or what one turned out to be. */
typedef struct cli_notation {
    cli_encoding encoding;
    nphd_unit unit; /* type of ISCC units: the one to take from composite codes, and the only one
                       that is taken; NPHD_UNIT_NONE and NPHD_UNIT_MIXED: any */
} cli_notation;

/* Room for what cli_describe_notation() writes. */
#define CLI_NOTATION_BYTES 64

/* auto, iscc, hex or base64; complains as a usage error. */
bool cli_option_encoding(const char *name, const char *text, cli_encoding *out);

/* A type of ISCC units such as content-text; complains likewise. */
bool cli_option_unit(const char *name, const char *text, nphd_unit *out);

/* Is a code of this type not what is asked for? Then with a problem. */
bool cli_unit_differs(nphd_unit unit, nphd_unit asked, cli_problem *problem);

bool cli_parse_vector(cli_notation asked, const char *text, size_t length,
                      uint8_t out[NPHD_MAX_BYTES], size_t *out_bytes, cli_notation *out_read,
                      cli_problem *problem);

/* "iscc content-text, 256 bits"; returns `out`. */
const char *cli_describe_notation(cli_notation read, size_t bytes, char out[CLI_NOTATION_BYTES]);

#endif
