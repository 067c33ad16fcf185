/* Which column of a CSV file, or member of a JSON object, is what: by its name, without regard to
 * case and to blanks around it. A file whose keys could be in a column that is not used is refused,
 * for keys made up here would never be noticed. */
#ifndef NPHD_CLI_INPUT_COLUMNS_H
#define NPHD_CLI_INPUT_COLUMNS_H

#include "vector_text.h"
#include <stdbool.h>
#include <stddef.h>

/* What the caller takes from a file. Columns it does not take are neither asked for nor read. */
typedef enum cli_purpose {
    CLI_FOR_ADD,    /* key where the file has it, vector */
    CLI_FOR_QUERY,  /* vector, source where the file has it */
    CLI_FOR_LABELS, /* key and source */
} cli_purpose;

typedef enum cli_column {
    CLI_COLUMN_KEY,
    CLI_COLUMN_ISCC,
    CLI_COLUMN_HEX,
    CLI_COLUMN_BASE64,
    CLI_COLUMN_VECTOR, /* named by --vector-column, in a column that says nothing of its encoding */
    CLI_COLUMN_SOURCE,
    CLI_COLUMNS
} cli_column;

/* Longest name that is compared; a longer one is none of ours. */
#define CLI_NAME_BYTES 256

typedef struct cli_name {
    char text[CLI_NAME_BYTES];
    size_t length; /* 0: not given, or nothing but blanks */
} cli_name;

/* What to look for, as the command line says it. */
typedef struct cli_columns {
    cli_purpose purpose;
    bool number;     /* without a key column, keys are made, whatever else there is */
    cli_name key;    /* of --key-column */
    cli_name vector; /* of --vector-column */
    cli_name source; /* of --source-column */
} cli_columns;

/* The columns of one header, or the members of one object, met so far. */
typedef struct cli_columns_met {
    unsigned count[CLI_COLUMNS];
    size_t unused;       /* columns that are none of ours */
    char example[64];    /* one of them, the likeliest to hold keys, made fit to be shown */
    bool example_likely; /* it is called id, or the like */
} cli_columns_met;

/* The name as it is compared: without marks and blanks around it, A to Z in lower case. */
void cli_name_set(cli_name *out, const char *text, size_t length);

/* Notes a column; returns what it is, or CLI_COLUMNS when the caller does not take it. */
cli_column cli_columns_meet(const cli_columns *columns, cli_columns_met *met, const char *text,
                            size_t length);

/* After the last column: is it all there, once, and where is the vector? False with a problem, in
 * which `whose` is who names the columns, such as "the header". */
bool cli_columns_check(const cli_columns *columns, const cli_columns_met *met, const char *whose,
                       cli_column *out_vector, cli_problem *problem);

/* Does the file lack keys and have a column that may hold them? Then with a problem. */
bool cli_columns_hide_keys(const cli_columns *columns, const cli_columns_met *met,
                           const char *whose, cli_problem *problem);

/* How the text in that column is written. */
cli_encoding cli_column_encoding(cli_column column);

#endif
