/* JSONL: one JSON object a line with `key` (a number or a string), one of `iscc`, `hex` and
 * `base64`, and `source`, or as options name them; other members are ignored. */
#include "input.h"

#include "input_json.h"
#include "text.h"
#include <string.h>

/* Longest text kept of a member; a longer key or vector is not one. */
#define JSONL_TEXT_BYTES 1024

/* The members of one object. */
typedef struct jsonl_object {
    const cli_columns *columns;
    cli_columns_met met;
    cli_json_value values[CLI_COLUMNS];
} jsonl_object;

static bool jsonl_open(cli_input *input)
{
    (void)input;
    return true;
}

static void jsonl_close(cli_input *input)
{
    (void)input;
}

static void jsonl_meet(void *context, const char *name, size_t length, const cli_json_value *value)
{
    jsonl_object *object = context;
    const cli_column column = cli_columns_meet(object->columns, &object->met, name, length);

    if (column != CLI_COLUMNS) {
        object->values[column] = *value;
    }
}

static bool jsonl_decode_key(cli_input *input, const cli_json_value *value, cli_record *out)
{
    char text[JSONL_TEXT_BYTES];
    size_t length = 0;

    out->has_key = true;
    if (value->kind == CLI_JSON_STRING) {
        length = cli_json_string(value, text, sizeof(text));
        if (length > sizeof(text)) {
            cli_problem_set(&input->problem, "the key is too long");
            return false;
        }
        return cli_parse_key(text, length, &out->key, &input->problem);
    }
    if (value->kind == CLI_JSON_NUMBER &&
        cli_parse_number(value->text, value->length, 0, UINT64_MAX, &out->key.low)) {
        return true;
    }
    if (value->kind == CLI_JSON_NULL) {
        cli_problem_set(&input->problem, "the key is null");
    } else if (value->kind == CLI_JSON_NUMBER) {
        cli_problem_set(&input->problem,
                        "the key %.*s%s is not a whole number of 64 bits written in digits alone",
                        value->length < 40 ? (int)value->length : 40, value->text,
                        value->length > 40 ? "..." : "");
    } else {
        cli_problem_set(&input->problem, "the key is neither a string nor a number");
    }
    return false;
}

static bool jsonl_decode_vector(cli_input *input, cli_column column, const cli_json_value *value,
                                cli_record *out)
{
    char text[JSONL_TEXT_BYTES];
    size_t length = 0;

    if (value->kind != CLI_JSON_STRING) {
        cli_problem_set(&input->problem, "the vector is not a string");
        return false;
    }
    length = cli_json_string(value, text, sizeof(text));
    if (length > sizeof(text)) {
        cli_problem_set(&input->problem, "the vector has more than %d bytes", NPHD_MAX_BYTES);
        return false;
    }
    return cli_input_vector(input, column, text, length, out);
}

/* Does this file lack keys? Not asked of a record that only differs from those before. */
static bool jsonl_hides_keys(cli_input *input, const jsonl_object *object)
{
    return !(input->keys_known && input->has_keys) &&
           cli_columns_hide_keys(&input->columns, &object->met, "the object", &input->problem);
}

static cli_next jsonl_decode(cli_input *input, const jsonl_object *object, cli_record *out)
{
    const bool has_key = object->met.count[CLI_COLUMN_KEY] > 0;
    cli_column vector = CLI_COLUMNS;

    if (!cli_columns_check(&input->columns, &object->met, "the object", &vector, &input->problem)) {
        return CLI_NEXT_BAD;
    }
    if (jsonl_hides_keys(input, object)) {
        cli_input_fail(input, "%s", input->problem.text);
        return CLI_NEXT_FAILED;
    }
    if (input->columns.purpose != CLI_FOR_QUERY && !cli_input_note_key(input, has_key)) {
        return CLI_NEXT_BAD;
    }
    if (has_key && !jsonl_decode_key(input, &object->values[CLI_COLUMN_KEY], out)) {
        return CLI_NEXT_BAD;
    }
    if (vector != CLI_COLUMNS &&
        !jsonl_decode_vector(input, vector, &object->values[vector], out)) {
        return CLI_NEXT_BAD;
    }
    if (object->met.count[CLI_COLUMN_SOURCE] > 0 &&
        object->values[CLI_COLUMN_SOURCE].kind == CLI_JSON_STRING) {
        char text[CLI_SOURCE_BYTES];
        const size_t length =
            cli_json_string(&object->values[CLI_COLUMN_SOURCE], text, sizeof(text));

        cli_input_copy_source(out, text, length < sizeof(text) ? length : sizeof(text));
    }
    return CLI_NEXT_RECORD;
}

static cli_next jsonl_next(cli_input *input, cli_record *out)
{
    jsonl_object object = {.columns = &input->columns};
    const char *line = NULL;
    size_t length = 0;

    do {
        const cli_line got = cli_reader_line(&input->reader, &line, &length);

        input->line = input->reader.line;
        if (got == CLI_LINE_FAILED) {
            cli_input_fail_read(input);
            return CLI_NEXT_FAILED;
        }
        if (got == CLI_LINE_END) {
            return CLI_NEXT_END;
        }
        if (got == CLI_LINE_TOO_LONG) {
            cli_problem_set(&input->problem, "the line is longer than %zu bytes", CLI_LINE_BYTES);
            return CLI_NEXT_BAD;
        }
        cli_text_skip_marks(&line, &length); /* files put together have them within */
    } while (cli_text_is_blank(line, length));

    if (!cli_json_object(line, length, jsonl_meet, &object, &input->problem)) {
        return CLI_NEXT_BAD;
    }
    return jsonl_decode(input, &object, out);
}

const cli_decoder cli_decoder_jsonl = {jsonl_open, jsonl_next, jsonl_close};
