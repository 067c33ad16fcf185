/* JSONL: one JSON object a line with `key` (a number or a string), one of `iscc`, `hex` and
 * `base64`, and `source`; other members are ignored. Read by jansson. */
#include "input.h"

#include <jansson.h>
#include <string.h>

static bool jsonl_open(cli_input *input)
{
    (void)input;
    return true;
}

static void jsonl_close(cli_input *input)
{
    (void)input;
}

static bool jsonl_is_blank(const char *line, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r' && line[i] != '\n') {
            return false;
        }
    }
    return true;
}

static bool jsonl_decode_key(cli_input *input, const json_t *object, cli_record *out)
{
    const json_t *key = json_object_get(object, "key");

    if (!cli_input_note_key(input, key != NULL)) {
        return false;
    }
    out->has_key = key != NULL;
    if (key == NULL) {
        return true;
    }
    if (json_is_integer(key) && json_integer_value(key) >= 0) {
        out->key = nphd_key_u64((uint64_t)json_integer_value(key));
        return true;
    }
    if (json_is_string(key)) {
        return cli_parse_key(json_string_value(key), json_string_length(key), &out->key,
                             &input->problem);
    }
    cli_problem_set(&input->problem, "the key is neither a string nor a whole number of 0 or more");
    return false;
}

static bool jsonl_decode_vector(cli_input *input, const json_t *object, cli_record *out)
{
    static const struct {
        const char *name;
        cli_encoding encoding;
    } members[] = {
        {"iscc", CLI_ENCODING_ISCC}, {"hex", CLI_ENCODING_HEX}, {"base64", CLI_ENCODING_BASE64}};
    const json_t *vector = NULL;
    cli_encoding encoding = CLI_ENCODING_GUESS;
    size_t found = 0;

    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        const json_t *value = json_object_get(object, members[i].name);

        if (value != NULL) {
            vector = value;
            encoding = members[i].encoding;
            found++;
        }
    }
    if (found != 1) {
        cli_problem_set(&input->problem, "%s of iscc, hex and base64",
                        found == 0 ? "none" : "more than one");
        return false;
    }
    if (!json_is_string(vector)) {
        cli_problem_set(&input->problem, "the vector is not a string");
        return false;
    }
    return cli_parse_vector(encoding, json_string_value(vector), json_string_length(vector),
                            out->vector, &out->bytes, &input->problem);
}

static bool jsonl_decode(cli_input *input, const json_t *object, cli_record *out)
{
    const json_t *source = NULL;

    if (!json_is_object(object)) {
        cli_problem_set(&input->problem, "not a JSON object");
        return false;
    }
    if (input->purpose != CLI_FOR_QUERY && !jsonl_decode_key(input, object, out)) {
        return false;
    }
    if (input->purpose != CLI_FOR_LABELS && !jsonl_decode_vector(input, object, out)) {
        return false;
    }
    source = json_object_get(object, "source");
    if (input->purpose != CLI_FOR_ADD && json_is_string(source)) {
        cli_input_copy_source(out, json_string_value(source), json_string_length(source));
    }
    return true;
}

static cli_next jsonl_next(cli_input *input, cli_record *out)
{
    const char *line = NULL;
    size_t length = 0;
    json_t *object = NULL;
    json_error_t why;
    bool good = false;

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
    } while (jsonl_is_blank(line, length));

    object = json_loadb(line, length, JSON_REJECT_DUPLICATES, &why);
    if (object == NULL) {
        cli_problem_set(&input->problem, "%s", why.text);
        return CLI_NEXT_BAD;
    }
    good = jsonl_decode(input, object, out);
    json_decref(object);
    return good ? CLI_NEXT_RECORD : CLI_NEXT_BAD;
}

const cli_decoder cli_decoder_jsonl = {jsonl_open, jsonl_next, jsonl_close};
