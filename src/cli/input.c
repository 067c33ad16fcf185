/* Input files of vectors: the choice of the format, and what all formats share. */
#include "input.h"

#include "signals.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const struct {
    const char *name;
    cli_format format;
} input_formats[] = {
    {"csv", CLI_FORMAT_CSV},
    {"jsonl", CLI_FORMAT_JSONL},
    {"npy", CLI_FORMAT_NPY},
    {"raw", CLI_FORMAT_RAW},
};

static const struct {
    const char *ending;
    cli_format format;
} input_endings[] = {
    {".csv", CLI_FORMAT_CSV}, {".jsonl", CLI_FORMAT_JSONL}, {".ndjson", CLI_FORMAT_JSONL},
    {".npy", CLI_FORMAT_NPY}, {".raw", CLI_FORMAT_RAW},     {".bin", CLI_FORMAT_RAW},
};

bool cli_option_format(const char *name, const char *text, cli_format *out)
{
    for (size_t i = 0; i < sizeof(input_formats) / sizeof(input_formats[0]); i++) {
        if (strcmp(text, input_formats[i].name) == 0) {
            *out = input_formats[i].format;
            return true;
        }
    }
    cli_usage("%s: '%s' is none of csv, jsonl, npy and raw", name, text);
    return false;
}

bool cli_option_dtype(const char *name, const char *text, bool *out_numbers)
{
    *out_numbers = strcmp(text, "uint64") == 0;
    if (!*out_numbers && strcmp(text, "uint8") != 0) {
        cli_usage("%s: '%s' is neither uint8 nor uint64", name, text);
        return false;
    }
    return true;
}

bool cli_option_column(const char *name, const char *text, const char **out)
{
    cli_name column;

    cli_name_set(&column, text, strlen(text));
    *out = text;
    if (column.length == 0) {
        cli_usage("%s: '%s' is not the name of a column", name, text);
        return false;
    }
    return true;
}

static cli_format input_guess_by_name(const char *path)
{
    const size_t length = strlen(path);

    for (size_t i = 0; i < sizeof(input_endings) / sizeof(input_endings[0]); i++) {
        const size_t ending = strlen(input_endings[i].ending);

        if (length > ending && strcasecmp(path + length - ending, input_endings[i].ending) == 0) {
            return input_endings[i].format;
        }
    }
    return CLI_FORMAT_GUESS;
}

/* Of standard input. A byte order mark, which only text has, is passed over first. */
static cli_format input_guess_by_content(cli_reader *reader)
{
    const char *bytes = NULL;

    cli_reader_skip_marks(reader);
    if (cli_reader_peek(reader, 1, &bytes) == 1) {
        if (bytes[0] == '{') {
            return CLI_FORMAT_JSONL;
        }
        if (bytes[0] == '\x93') {
            return CLI_FORMAT_NPY;
        }
    }
    return CLI_FORMAT_CSV;
}

/* UTF-16 or UTF-32, with its byte order mark or without: of the first two characters, which are
 * ASCII in all text of ours, one byte is zero. */
static bool input_is_wide(cli_reader *reader)
{
    const char *bytes = NULL;

    return cli_reader_peek(reader, 2, &bytes) == 2 &&
           (memcmp(bytes, "\xff\xfe", 2) == 0 || memcmp(bytes, "\xfe\xff", 2) == 0 ||
            (bytes[0] == '\0') != (bytes[1] == '\0'));
}

static const cli_decoder *input_decoder(cli_format format)
{
    switch (format) {
    case CLI_FORMAT_CSV:
        return &cli_decoder_csv;
    case CLI_FORMAT_JSONL:
        return &cli_decoder_jsonl;
    case CLI_FORMAT_NPY:
        return &cli_decoder_npy;
    case CLI_FORMAT_RAW:
        return &cli_decoder_raw;
    case CLI_FORMAT_GUESS:
        break;
    }
    return NULL;
}

/* NULL: not given. */
static void input_set_name(cli_name *out, const char *text)
{
    if (text != NULL) {
        cli_name_set(out, text, strlen(text));
    }
}

cli_exit cli_input_open(cli_input *input, const char *path, const cli_input_options *options,
                        cli_purpose purpose)
{
    const bool is_stdin = strcmp(path, "-") == 0;
    cli_format format = options->format;

    memset(input, 0, sizeof(*input));
    input->columns.purpose = purpose;
    input->columns.number = options->number;
    input->notation = &options->notation;
    input->row_bytes = options->row_bytes;
    input->numbers = options->numbers;
    input_set_name(&input->columns.key, options->key_column);
    input_set_name(&input->columns.vector, options->vector_column);
    input_set_name(&input->columns.source, options->source_column);
    if (format == CLI_FORMAT_GUESS && !is_stdin) {
        format = input_guess_by_name(path);
        if (format == CLI_FORMAT_GUESS) {
            return cli_usage("%s: the name does not tell the format, give --format", path);
        }
    }
    if (format == CLI_FORMAT_RAW && options->row_bytes == 0) {
        return cli_usage("%s: raw rows need --bytes", path);
    }
    if (!cli_reader_open(&input->reader, path)) {
        return CLI_SYSTEM;
    }
    if (format == CLI_FORMAT_GUESS) {
        format = input_guess_by_content(&input->reader);
    }
    if (format == CLI_FORMAT_CSV || format == CLI_FORMAT_JSONL) {
        if (input_is_wide(&input->reader)) {
            cli_input_fail(input, "UTF-16 or UTF-32, not UTF-8: convert it, for instance by "
                                  "'iconv -f UTF-16 -t UTF-8'");
            return input->failure;
        }
        cli_reader_skip_marks(&input->reader);
    }
    input->decoder = input_decoder(format);
    return input->decoder->open(input) ? CLI_SUCCESS : input->failure;
}

cli_next cli_input_next(cli_input *input, cli_record *out)
{
    out->has_key = false;
    out->key = nphd_key_u64(0);
    out->bytes = 0;
    out->read = (cli_notation){CLI_ENCODING_GUESS, NPHD_UNIT_NONE};
    out->source[0] = '\0';
    return input->decoder->next(input, out);
}

void cli_input_close(cli_input *input)
{
    if (input->decoder != NULL) {
        input->decoder->close(input);
    }
    cli_reader_close(&input->reader);
    memset(input, 0, sizeof(*input));
}

double cli_input_fraction(const cli_input *input)
{
    if (input->reader.file_bytes == 0) {
        return -1;
    }
    return (double)input->reader.consumed / (double)input->reader.file_bytes;
}

bool cli_input_fail_read(cli_input *input)
{
    if (cli_interrupted()) {
        input->failure = CLI_INTERRUPTED;
        return false;
    }
    cli_complain_at(input->reader.name, 0, "%s", strerror(input->reader.os_error));
    input->failure = CLI_SYSTEM;
    return false;
}

bool cli_input_fail(cli_input *input, const char *format, ...)
{
    char text[NPHD_ERROR_TEXT_BYTES];
    va_list arguments;

    if (input->reader.os_error != 0) { /* the file looks cut short because it could not be read */
        return cli_input_fail_read(input);
    }
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    cli_complain_at(input->reader.name, input->line, "%s", text);
    input->failure = CLI_BAD_INPUT;
    return false;
}

bool cli_input_note_key(cli_input *input, bool has_key)
{
    if (!input->keys_known) {
        input->keys_known = true;
        input->has_keys = has_key;
    }
    if (input->has_keys != has_key) {
        cli_problem_set(&input->problem, "%s a key, unlike the records before",
                        has_key ? "has" : "lacks");
        return false;
    }
    return true;
}

bool cli_input_vector(cli_input *input, cli_column column, const char *text, size_t length,
                      cli_record *out)
{
    cli_notation asked = *input->notation;

    if (asked.encoding == CLI_ENCODING_GUESS) {
        asked.encoding = cli_column_encoding(column);
    }
    return cli_parse_vector(asked, text, length, out->vector, &out->bytes, &out->read,
                            &input->problem);
}

void cli_input_copy_source(cli_record *out, const char *text, size_t length)
{
    const size_t kept = length < sizeof(out->source) ? length : sizeof(out->source) - 1;

    memcpy(out->source, text, kept);
    out->source[kept] = '\0';
}
