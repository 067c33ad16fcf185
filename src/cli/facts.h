/* What nphd info tells: facts under names, in the order they are put in. Both forms of the output
 * are made of the same JSON object, so they cannot drift apart. */
#ifndef NPHD_CLI_FACTS_H
#define NPHD_CLI_FACTS_H

#include "message.h"
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* jansson's numbers are signed; a larger one becomes a string of digits, as keys do. */
json_t *cli_fact_number(uint64_t value);

/* A JSON string is UTF-8; of other text the ASCII is shown. */
json_t *cli_fact_text(const char *text);

/* Takes `value` over. A name that is there already keeps its place. */
void cli_facts_put(json_t *facts, const char *name, json_t *value);

/* Prints one JSON object, or a line for each fact: its name with blanks, then the value. An array
 * of objects is a table, with a blank line before and behind it. Returns CLI_SUCCESS. */
cli_exit cli_facts_print(json_t *facts, bool as_json);

#endif
