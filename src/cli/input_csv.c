/* CSV with a header line: a column `key`, one of `iscc`, `hex` and `base64`, and `source`, or as
 * options name them; other columns are ignored. Quoting as in RFC 4180, read by libcsv in its
 * strict mode.
 *
 * libcsv is given a piece of the file at a time, each ending at a carriage return or line feed, so
 * that it finishes at most one record per call and the number of the line is known. */
#include "input.h"

#include "text.h"
#include <csv.h>
#include <stdlib.h>
#include <string.h>

/* Longest text kept of a column; a longer key or vector is not one. */
#define CSV_TEXT_BYTES 1024

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
    bool record_done; /* libcsv has finished a record */
    const cli_columns *columns;
    cli_columns_met met;
    const char *separator; /* of the header, by name, where that is no comma; else NULL */
    size_t where[CLI_COLUMNS];
    cli_column vector; /* which column it is */
    csv_text texts[CLI_COLUMNS];
} csv_state;

static void csv_meet_header(csv_state *state, const char *text, size_t length)
{
    cli_column column = CLI_COLUMNS;

    /* some programs write the header as a comment */
    if (state->field == 0 && length > 0 && text[0] == '#') {
        text++;
        length--;
    }
    column = cli_columns_meet(state->columns, &state->met, text, length);
    if (column != CLI_COLUMNS) {
        state->where[column] = state->field;
    }
}

/* Of the header as it stands in the file: is it separated by something else? */
static void csv_note_separator(csv_state *state, const char *line, size_t length)
{
    static const struct {
        char separator;
        const char *name;
    } others[] = {{';', "semicolons"}, {'\t', "tabs"}, {'|', "vertical bars"}};

    state->separator = NULL;
    if (memchr(line, ',', length) != NULL) {
        return;
    }
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        if (state->separator == NULL && memchr(line, others[i].separator, length) != NULL) {
            state->separator = others[i].name;
        }
    }
}

static void csv_meet_field(void *bytes, size_t length, void *context)
{
    csv_state *state = context;

    if (state->in_header) {
        csv_meet_header(state, bytes, length);
    } else {
        for (cli_column column = CLI_COLUMN_KEY; column < CLI_COLUMNS; column++) {
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

/* Up to a line end, with it: LF, CR or both. */
static size_t csv_piece_length(const char *line, size_t length)
{
    size_t piece = 0;

    while (piece < length && line[piece] != '\r' && line[piece] != '\n') {
        piece++;
    }
    piece += piece + 1 < length && line[piece] == '\r' && line[piece + 1] == '\n' ? 1 : 0;
    return piece < length ? piece + 1 : piece;
}

/* Forgets the record being read, so that reading goes on behind the line on which it begins: what
 * a quotation mark out of place makes of the lines behind it is not true of them. */
static cli_next csv_give_up(cli_input *input, csv_state *state)
{
    csv_free(&state->parser);
    csv_init(&state->parser, CSV_STRICT | CSV_STRICT_FINI);
    cli_reader_back(&input->reader);
    state->line_length = 0;
    input->line = state->record_line;
    return CLI_NEXT_BAD;
}

static cli_next csv_too_long(cli_input *input, csv_state *state)
{
    cli_problem_set(&input->problem,
                    "the record is longer than %zu bytes: is a quotation mark not closed?",
                    CLI_LINE_BYTES);
    return csv_give_up(input, state);
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

/* The next line, when the one before is used up. Returns CLI_NEXT_RECORD when there is one. */
static cli_next csv_read_line(cli_input *input, csv_state *state)
{
    const cli_line got = cli_reader_line(&input->reader, &state->line, &state->line_length);

    if (got == CLI_LINE_FAILED) {
        cli_input_fail_read(input);
        return CLI_NEXT_FAILED;
    }
    if (got == CLI_LINE_END) {
        return csv_end_of_file(input, state);
    }
    if (got == CLI_LINE_TOO_LONG) {
        if (state->record_bytes > 0) {
            return csv_too_long(input, state);
        }
        cli_problem_set(&input->problem, "the line is longer than %zu bytes", CLI_LINE_BYTES);
        input->line = input->reader.line;
        return CLI_NEXT_BAD;
    }
    if (state->in_header && state->record_bytes == 0) {
        csv_note_separator(state, state->line, state->line_length);
    }
    return CLI_NEXT_RECORD;
}

/* Reads until libcsv has finished a record; its fields are then in the state, and what is behind
 * its first line is kept. */
static cli_next csv_read_record(cli_input *input, csv_state *state)
{
    state->field = 0;
    state->record_done = false;
    state->record_bytes = 0;
    cli_reader_keep_no_more(&input->reader);
    while (!state->record_done) {
        const cli_next got =
            state->line_length == 0 ? csv_read_line(input, state) : CLI_NEXT_RECORD;
        size_t piece = 0;

        if (got != CLI_NEXT_RECORD || state->record_done) {
            return got;
        }
        piece = csv_piece_length(state->line, state->line_length);
        /* between records libcsv passes over blank lines */
        if (state->record_bytes > 0 || !cli_text_is_blank(state->line, piece)) {
            if (state->record_bytes == 0) {
                state->record_line = input->reader.line;
                cli_reader_keep(&input->reader, state->line_length - piece);
            }
            state->record_bytes += piece;
            if (state->record_bytes > CLI_LINE_BYTES) {
                return csv_too_long(input, state);
            }
            if (csv_parse(&state->parser, state->line, piece, csv_meet_field, csv_meet_end,
                          state) != piece) {
                return csv_broken(input, state);
            }
        }
        state->line += piece;
        state->line_length -= piece;
    }
    input->line = state->record_line;
    return CLI_NEXT_RECORD;
}

/* With input->problem, which is not what is wrong when there are no columns to be seen. */
static bool csv_fail_header(cli_input *input, const csv_state *state)
{
    if (state->separator != NULL) {
        return cli_input_fail(input,
                              "the columns are separated by %s: write the file with commas "
                              "between them",
                              state->separator);
    }
    return cli_input_fail(input, "%s", input->problem.text);
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
    for (cli_column column = CLI_COLUMN_KEY; column < CLI_COLUMNS; column++) {
        state->where[column] = CSV_NOWHERE;
    }
    state->columns = &input->columns;
    state->in_header = true;
    got = csv_read_record(input, state);
    state->in_header = false;
    if (got == CLI_NEXT_FAILED) {
        return false;
    }
    if (got == CLI_NEXT_BAD) {
        return csv_fail_header(input, state);
    }
    if (got == CLI_NEXT_END) {
        input->line = input->reader.line;
        return cli_input_fail(input, "empty, without the header line of a CSV file");
    }
    state->header_fields = state->field;
    if (!cli_columns_check(&input->columns, &state->met, "the header", &state->vector,
                           &input->problem) ||
        cli_columns_hide_keys(&input->columns, &state->met, "the header", &input->problem)) {
        return csv_fail_header(input, state);
    }
    return cli_input_note_key(input, state->where[CLI_COLUMN_KEY] != CSV_NOWHERE);
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

static bool csv_decode_vector(cli_input *input, const csv_text *text, cli_record *out)
{
    const csv_state *state = input->state;

    if (text->length > CSV_TEXT_BYTES) {
        cli_problem_set(&input->problem, "the vector has more than %d bytes", NPHD_MAX_BYTES);
        return false;
    }
    return cli_input_vector(input, state->vector, text->bytes, text->length, out);
}

static bool csv_is_blank_byte(char c)
{
    return cli_text_is_blank(&c, 1);
}

/* A field without quotation marks. */
static void csv_text_set(csv_text *out, const char *text, size_t length)
{
    while (length > 0 && csv_is_blank_byte(text[0])) {
        text++;
        length--;
    }
    while (length > 0 && csv_is_blank_byte(text[length - 1])) {
        length--;
    }
    out->length = length;
    memcpy(out->bytes, text, length < CSV_TEXT_BYTES ? length : CSV_TEXT_BYTES);
}

/* Does the line, without quotation marks, read as a good record? */
static bool csv_line_reads(cli_input *input, const char *line, size_t length)
{
    const csv_state *state = input->state;
    csv_text text;
    cli_record scratch;
    size_t field = 0;
    size_t at = 0;

    if (memchr(line, '"', length) != NULL) {
        return false;
    }
    for (field = 0; at <= length; field++) {
        const char *comma = memchr(line + at, ',', length - at);
        const size_t end = comma != NULL ? (size_t)(comma - line) : length;

        csv_text_set(&text, line + at, end - at);
        if ((field == state->where[CLI_COLUMN_KEY] && !csv_decode_key(input, &text, &scratch)) ||
            (state->vector != CLI_COLUMNS && field == state->where[state->vector] &&
             !csv_decode_vector(input, &text, &scratch))) {
            return false;
        }
        at = end + 1;
    }
    return field == state->header_fields;
}

/* Does a line behind the first of this record, all of it in a quoted field, read as a record of its
 * own? Then it is a quotation mark that is out of place, and what is lost would be lost in silence.
 * Sets the problem. */
static bool csv_swallows(cli_input *input, const csv_state *state)
{
    const char *bytes = NULL;
    size_t left = cli_reader_kept(&input->reader, &bytes) - state->line_length;
    uint64_t line = state->record_line;

    while (left > 0) {
        const size_t piece = csv_piece_length(bytes, left);

        line++;
        if (piece == left) { /* the field ends here */
            return false;
        }
        if (csv_line_reads(input, bytes, piece)) {
            cli_problem_set(&input->problem,
                            "a quotation mark makes line %llu, which reads as a record, part of "
                            "this one; is it out of place?",
                            (unsigned long long)line);
            return true;
        }
        bytes += piece;
        left -= piece;
    }
    return false;
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
        return csv_give_up(input, state);
    }
    if (state->where[CLI_COLUMN_KEY] != CSV_NOWHERE &&
        !csv_decode_key(input, &state->texts[CLI_COLUMN_KEY], out)) {
        return csv_give_up(input, state);
    }
    if (state->vector != CLI_COLUMNS &&
        !csv_decode_vector(input, &state->texts[state->vector], out)) {
        return csv_give_up(input, state);
    }
    if (csv_swallows(input, state)) {
        return csv_give_up(input, state);
    }
    if (state->where[CLI_COLUMN_SOURCE] != CSV_NOWHERE) {
        const csv_text *source = &state->texts[CLI_COLUMN_SOURCE];

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
