/* CSV with a header line: a column `key`, one of `iscc`, `hex` and `base64`, and `source`; other
 * columns are ignored. Quoting as in RFC 4180, read by libcsv in its strict mode.
 *
 * libcsv is given a piece of the file at a time, each ending at a carriage return or line feed, so
 * that it finishes at most one record per call and the number of the line is known. */
#include "input.h"

#include <csv.h>
#include <stdlib.h>
#include <string.h>

/* Longest text kept of a column; a longer key or vector is not one. */
#define CSV_TEXT_BYTES 1024

typedef enum csv_column {
    CSV_KEY,
    CSV_ISCC,
    CSV_HEX,
    CSV_BASE64,
    CSV_SOURCE,
    CSV_COLUMNS
} csv_column;

static const char *const csv_names[CSV_COLUMNS] = {"key", "iscc", "hex", "base64", "source"};

/* A column that the file does not have, or that the caller does not take. */
#define CSV_NOWHERE SIZE_MAX

typedef struct csv_text {
    char bytes[CSV_TEXT_BYTES];
    size_t length; /* as in the file; above CSV_TEXT_BYTES when not all is here */
} csv_text;

typedef struct csv_state {
    struct csv_parser parser;
    const char *line; /* what is left of the line being read */
    size_t line_length;
    uint64_t record_line; /* where the record being read begins */
    size_t record_bytes;  /* of it, given to libcsv so far */
    size_t field;         /* number of the next field of the record */
    size_t header_fields; /* fields that the header has, and so every record */
    bool in_header;
    bool record_done;  /* libcsv has finished a record */
    bool header_twice; /* a column that we take is named twice: this one */
    csv_column twice;
    size_t where[CSV_COLUMNS];
    csv_column vector; /* which of the three it is */
    csv_text texts[CSV_COLUMNS];
} csv_state;

static bool csv_takes(cli_purpose purpose, csv_column column)
{
    switch (column) {
    case CSV_KEY:
        return purpose != CLI_FOR_QUERY;
    case CSV_SOURCE:
        return purpose != CLI_FOR_ADD;
    default:
        return purpose != CLI_FOR_LABELS;
    }
}

static void csv_meet_header(csv_state *state, const char *text, size_t length)
{
    for (csv_column column = CSV_KEY; column < CSV_COLUMNS; column++) {
        if (strlen(csv_names[column]) == length && length > 0 &&
            memcmp(csv_names[column], text, length) == 0) {
            if (state->where[column] != CSV_NOWHERE) {
                state->header_twice = true;
                state->twice = column;
            }
            state->where[column] = state->field;
        }
    }
}

static void csv_meet_field(void *bytes, size_t length, void *context)
{
    csv_state *state = context;

    if (state->in_header) {
        csv_meet_header(state, bytes, length);
    } else {
        for (csv_column column = CSV_KEY; column < CSV_COLUMNS; column++) {
            if (state->where[column] == state->field) {
                csv_text *text = &state->texts[column];

                text->length = length;
                if (length > 0) {
                    memcpy(text->bytes, bytes, length < CSV_TEXT_BYTES ? length : CSV_TEXT_BYTES);
                }
            }
        }
    }
    state->field++;
}

static void csv_meet_end(int terminator, void *context)
{
    csv_state *state = context;

    (void)terminator;
    state->record_done = true;
}

/* Has the piece nothing but blanks? Between records libcsv passes over such lines. */
static bool csv_is_blank(const char *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (bytes[i] != ' ' && bytes[i] != '\t' && bytes[i] != '\r' && bytes[i] != '\n') {
            return false;
        }
    }
    return true;
}

static size_t csv_piece_length(const char *line, size_t length)
{
    size_t piece = 0;

    while (piece < length && line[piece] != '\r' && line[piece] != '\n') {
        piece++;
    }
    return piece < length ? piece + 1 : piece;
}

/* Forgets the record being read and the rest of its line, so that the next line is a new one. */
static cli_next csv_give_up(cli_input *input, csv_state *state)
{
    csv_free(&state->parser);
    csv_init(&state->parser, CSV_STRICT | CSV_STRICT_FINI);
    state->line_length = 0;
    state->record_bytes = 0;
    state->field = 0;
    state->record_done = false;
    input->line = state->record_line;
    return CLI_NEXT_BAD;
}

static cli_next csv_broken(cli_input *input, csv_state *state)
{
    const int why = csv_error(&state->parser);

    if (why == CSV_ENOMEM) {
        cli_out_of_memory();
        input->failure = CLI_SYSTEM;
        return CLI_NEXT_FAILED;
    }
    cli_problem_set(&input->problem, "a quotation mark is out of place or not closed");
    return csv_give_up(input, state);
}

static cli_next csv_end_of_file(cli_input *input, csv_state *state)
{
    const bool open_record = state->record_bytes > 0;

    if (csv_fini(&state->parser, csv_meet_field, csv_meet_end, state) != 0) {
        return csv_broken(input, state);
    }
    state->record_bytes = 0;
    input->line = state->record_line;
    return open_record && state->record_done ? CLI_NEXT_RECORD : CLI_NEXT_END;
}

/* Reads until libcsv has finished a record; its fields are then in the state. */
static cli_next csv_read_record(cli_input *input, csv_state *state)
{
    state->field = 0;
    state->record_done = false;
    state->record_bytes = 0;
    for (;;) {
        size_t piece = 0;

        if (state->line_length == 0) {
            const cli_line got = cli_reader_line(&input->reader, &state->line, &state->line_length);

            if (got == CLI_LINE_FAILED) {
                cli_input_fail_read(input);
                return CLI_NEXT_FAILED;
            }
            if (got == CLI_LINE_END) {
                return csv_end_of_file(input, state);
            }
            if (state->record_bytes == 0) {
                state->record_line = input->reader.line;
            }
            if (got == CLI_LINE_TOO_LONG) {
                cli_problem_set(&input->problem, "the line is longer than %zu bytes",
                                CLI_LINE_BYTES);
                return csv_give_up(input, state);
            }
        }
        piece = csv_piece_length(state->line, state->line_length);
        if (state->record_bytes > 0 || !csv_is_blank(state->line, piece)) {
            state->record_bytes += piece;
            if (state->record_bytes > CLI_LINE_BYTES) {
                cli_problem_set(&input->problem, "the record is longer than %zu bytes",
                                CLI_LINE_BYTES);
                return csv_give_up(input, state);
            }
            if (csv_parse(&state->parser, state->line, piece, csv_meet_field, csv_meet_end,
                          state) != piece) {
                return csv_broken(input, state);
            }
        }
        state->line += piece;
        state->line_length -= piece;
        if (state->record_done) {
            input->line = state->record_line;
            return CLI_NEXT_RECORD;
        }
    }
}

static bool csv_check_header(cli_input *input, csv_state *state)
{
    size_t vectors = 0;

    for (csv_column column = CSV_KEY; column < CSV_COLUMNS; column++) {
        if (!csv_takes(input->purpose, column)) {
            state->where[column] = CSV_NOWHERE;
        } else if (state->header_twice && state->twice == column) {
            return cli_input_fail(input, "the header names the column %s twice", csv_names[column]);
        } else if (column >= CSV_ISCC && column <= CSV_BASE64 &&
                   state->where[column] != CSV_NOWHERE) {
            state->vector = column;
            vectors++;
        }
    }
    if (input->purpose == CLI_FOR_LABELS) {
        if (state->where[CSV_KEY] == CSV_NOWHERE || state->where[CSV_SOURCE] == CSV_NOWHERE) {
            return cli_input_fail(input, "the header does not name the columns key and source");
        }
    } else if (vectors != 1) {
        return cli_input_fail(input, "the header names %s of the columns iscc, hex and base64",
                              vectors == 0 ? "none" : "more than one");
    }
    return true;
}

static bool csv_open(cli_input *input)
{
    csv_state *state = calloc(1, sizeof(*state));
    cli_next got = CLI_NEXT_END;

    input->state = state;
    if (state == NULL || csv_init(&state->parser, CSV_STRICT | CSV_STRICT_FINI) != 0) {
        cli_out_of_memory();
        input->failure = CLI_SYSTEM;
        return false;
    }
    for (csv_column column = CSV_KEY; column < CSV_COLUMNS; column++) {
        state->where[column] = CSV_NOWHERE;
    }
    state->in_header = true;
    got = csv_read_record(input, state);
    state->in_header = false;
    if (got == CLI_NEXT_FAILED) {
        return false;
    }
    if (got == CLI_NEXT_BAD) {
        return cli_input_fail(input, "%s", input->problem.text);
    }
    if (got == CLI_NEXT_END) {
        return cli_input_fail(input, "empty, without the header line of a CSV file");
    }
    state->header_fields = state->field;
    if (!csv_check_header(input, state)) {
        return false;
    }
    return cli_input_note_key(input, state->where[CSV_KEY] != CSV_NOWHERE);
}

static bool csv_decode_key(cli_input *input, const csv_text *text, cli_record *out)
{
    out->has_key = true;
    if (text->length > CSV_TEXT_BYTES) {
        cli_problem_set(&input->problem, "the key is too long");
        return false;
    }
    return cli_parse_key(text->bytes, text->length, &out->key, &input->problem);
}

static bool csv_decode_vector(cli_input *input, const csv_state *state, cli_record *out)
{
    static const cli_encoding encodings[CSV_COLUMNS] = {
        [CSV_ISCC] = CLI_ENCODING_ISCC,
        [CSV_HEX] = CLI_ENCODING_HEX,
        [CSV_BASE64] = CLI_ENCODING_BASE64,
    };
    const csv_text *text = &state->texts[state->vector];

    if (text->length > CSV_TEXT_BYTES) {
        cli_problem_set(&input->problem, "the vector has more than %d bytes", NPHD_MAX_BYTES);
        return false;
    }
    return cli_parse_vector(encodings[state->vector], text->bytes, text->length, out->vector,
                            &out->bytes, &input->problem);
}

static cli_next csv_next(cli_input *input, cli_record *out)
{
    csv_state *state = input->state;
    const cli_next got = csv_read_record(input, state);

    if (got != CLI_NEXT_RECORD) {
        return got;
    }
    if (state->field != state->header_fields) {
        cli_problem_set(&input->problem, "wrong number of fields: %zu, the header has %zu",
                        state->field, state->header_fields);
        return CLI_NEXT_BAD;
    }
    if (state->where[CSV_KEY] != CSV_NOWHERE &&
        !csv_decode_key(input, &state->texts[CSV_KEY], out)) {
        return CLI_NEXT_BAD;
    }
    if (input->purpose != CLI_FOR_LABELS && !csv_decode_vector(input, state, out)) {
        return CLI_NEXT_BAD;
    }
    if (state->where[CSV_SOURCE] != CSV_NOWHERE) {
        const csv_text *source = &state->texts[CSV_SOURCE];

        cli_input_copy_source(out, source->bytes,
                              source->length < CSV_TEXT_BYTES ? source->length : CSV_TEXT_BYTES);
    }
    return CLI_NEXT_RECORD;
}

static void csv_close(cli_input *input)
{
    csv_state *state = input->state;

    if (state != NULL) {
        csv_free(&state->parser);
        free(state);
        input->state = NULL;
    }
}

const cli_decoder cli_decoder_csv = {csv_open, csv_next, csv_close};
