/* Names for keys, from a CSV file with the columns `key` and `source`. */
#include "labels.h"

#include <stdlib.h>
#include <string.h>

static bool labels_append(cli_labels *labels, const cli_record *record)
{
    cli_label *row = NULL;

    if (labels->count == labels->capacity) {
        const size_t capacity = labels->capacity > 0 ? 2 * labels->capacity : 1024;
        cli_label *rows = reallocarray(labels->rows, capacity, sizeof(*rows));

        if (rows == NULL) {
            return false;
        }
        labels->rows = rows;
        labels->capacity = capacity;
    }
    row = &labels->rows[labels->count];
    row->key = record->key;
    row->text = strdup(record->source);
    if (row->text == NULL) {
        return false;
    }
    labels->count++;
    return true;
}

static int labels_compare(const void *a, const void *b)
{
    return nphd_key_compare(((const cli_label *)a)->key, ((const cli_label *)b)->key);
}

cli_exit cli_labels_read(cli_labels *labels, const char *path, const cli_input_options *columns)
{
    const cli_input_options options = {
        .format = CLI_FORMAT_CSV,
        .key_column = columns->key_column,
        .source_column = columns->source_column,
    };
    cli_input input;
    cli_record record;
    cli_next got = CLI_NEXT_FAILED;
    cli_exit result = CLI_SUCCESS;

    memset(labels, 0, sizeof(*labels));
    result = cli_input_open(&input, path, &options, CLI_FOR_LABELS);
    while (result == CLI_SUCCESS) {
        got = cli_input_next(&input, &record);
        if (got == CLI_NEXT_END) {
            break;
        }
        if (got == CLI_NEXT_BAD) {
            cli_complain_at(input.reader.name, input.line, "%s", input.problem.text);
            result = CLI_BAD_INPUT;
        } else if (got == CLI_NEXT_FAILED) {
            result = input.failure;
        } else if (!labels_append(labels, &record)) {
            result = cli_out_of_memory();
        }
    }
    cli_input_close(&input);
    if (labels->count > 0) {
        qsort(labels->rows, labels->count, sizeof(labels->rows[0]), labels_compare);
    }
    return result;
}

void cli_labels_free(cli_labels *labels)
{
    for (size_t i = 0; i < labels->count; i++) {
        free(labels->rows[i].text);
    }
    free(labels->rows);
    memset(labels, 0, sizeof(*labels));
}

const char *cli_labels_find(const cli_labels *labels, nphd_key key)
{
    const cli_label wanted = {key, NULL};
    const cli_label *found = NULL;

    if (labels->count > 0) {
        found = bsearch(&wanted, labels->rows, labels->count, sizeof(wanted), labels_compare);
    }
    return found != NULL ? found->text : NULL;
}
