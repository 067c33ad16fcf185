/* "did you mean": names close to one that was mistyped. */
#ifndef NPHD_CLI_SUGGEST_H
#define NPHD_CLI_SUGGEST_H

#include "message.h"
#include <stdbool.h>
#include <stddef.h>

/* Longest name that is looked at. */
#define CLI_SUGGEST_BYTES 256

/* Begin with {.typed = text}. */
typedef struct cli_suggestion {
    const char *typed;
    char best[CLI_SUGGEST_BYTES]; /* "" while nothing is close enough */
    size_t distance;
} cli_suggestion;

/* Keeps the name when it is closer than those before: a few letters added, left out, changed or
 * swapped, case aside, or the beginning of the name alone. */
void cli_suggest_try(cli_suggestion *suggestion, const char *name);

/* "; did you mean 'HEADNAME'?", or "" when nothing is close. */
void cli_suggest_text(const cli_suggestion *suggestion, const char *head, char *out,
                      size_t capacity);

/* Complains that an index could not be opened. Where there is nothing at that path, it says so, and
 * which index of a similar name there is. Returns the exit status. */
cli_exit cli_fail_open(const char *path, const nphd_error *err);

#endif
