/* Names for keys, from a CSV file with the columns `key` and `source` or as options name them,
 * shown beside the keys in the table of a search. */
#ifndef NPHD_CLI_LABELS_H
#define NPHD_CLI_LABELS_H

#include "input.h"
#include "message.h"
#include <nphd/vector.h>
#include <stddef.h>

typedef struct cli_label {
    nphd_key key;
    char *text;
} cli_label;

/* Sorted by key. */
typedef struct cli_labels {
    cli_label *rows;
    size_t count;
    size_t capacity;
} cli_labels;

/* Of `columns` the names of columns alone are used. Returns CLI_SUCCESS, or another status after a
 * complaint; cli_labels_free() follows either way.
 */
cli_exit cli_labels_read(cli_labels *labels, const char *path, const cli_input_options *columns);

/* Takes zeroed labels. */
void cli_labels_free(cli_labels *labels);

/* The label of a key; NULL when it has none. */
const char *cli_labels_find(const cli_labels *labels, nphd_key key);

#endif
