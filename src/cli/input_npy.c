/* NumPy arrays: uint8, two-dimensional, in C order; each row is a vector. Where --dtype says so,
 * uint64 in either byte order: each number is 64 bits, the highest first, as somebody who prints it
 * in hex reads them; of one dimension, or several numbers a row.
 *
 * The header is a Python dictionary such as {'descr': '|u1', 'fortran_order': False, 'shape':
 * (3, 32), }. It is read by its grammar, not searched for words. Source: NumPy enhancement
 * proposal 1, "A Simple File Format for NumPy Arrays". */
#include "input.h"

#include <stdlib.h>
#include <string.h>

#define NPY_MAGIC "\x93NUMPY"
#define NPY_MAGIC_BYTES ((size_t)6)
#define NPY_HEADER_BYTES ((size_t)65536) /* real ones have 118 */

typedef struct npy_state {
    uint64_t rows;
    uint64_t row_bytes;
    uint64_t done;
    bool numbers; /* of 8 bytes each */
    bool little;  /* the lowest byte first */
    bool flat;    /* of one dimension */
} npy_state;

typedef struct npy_text {
    const char *at;
    const char *end;
} npy_text;

static void npy_skip_blanks(npy_text *text)
{
    while (text->at < text->end && (*text->at == ' ' || *text->at == '\n' || *text->at == '\t')) {
        text->at++;
    }
}

static bool npy_take(npy_text *text, const char *word)
{
    const size_t length = strlen(word);

    npy_skip_blanks(text);
    if ((size_t)(text->end - text->at) < length || memcmp(text->at, word, length) != 0) {
        return false;
    }
    text->at += length;
    return true;
}

static bool npy_take_number(npy_text *text, uint64_t *out)
{
    const char *begin = NULL;

    npy_skip_blanks(text);
    begin = text->at;
    while (text->at < text->end && *text->at >= '0' && *text->at <= '9') {
        text->at++;
    }
    return cli_parse_number(begin, (size_t)(text->at - begin), 0, UINT64_MAX, out);
}

static bool npy_take_type(cli_input *input, npy_text *text, npy_state *state)
{
    static const char *const types[] = {"'|u1'", "'u1'", "'<u1'", "'>u1'", "'=u1'"};
    bool bytes = false;

    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]) && !bytes; i++) {
        bytes = npy_take(text, types[i]);
    }
    state->little = npy_take(text, "'<u8'");
    state->numbers = state->little || npy_take(text, "'>u8'");
    if (state->numbers && !input->numbers) {
        return cli_input_fail(input, "the NumPy array is of type uint64, not uint8; if each number "
                                     "is a vector of 64 bits, say --dtype uint64");
    }
    if (bytes && input->numbers) {
        return cli_input_fail(input,
                              "the NumPy array is of type uint8, not uint64 as --dtype says");
    }
    return state->numbers || bytes ||
           cli_input_fail(input, "the NumPy array is not of type %s",
                          input->numbers ? "uint64" : "uint8");
}

static bool npy_take_shape(npy_text *text, npy_state *state)
{
    if (!npy_take(text, "(") || !npy_take_number(text, &state->rows) || !npy_take(text, ",")) {
        return false;
    }
    if (npy_take(text, ")")) { /* of one dimension */
        state->row_bytes = 1;
        state->flat = true;
        return true;
    }
    if (!npy_take_number(text, &state->row_bytes)) {
        return false;
    }
    npy_take(text, ",");
    return npy_take(text, ")");
}

static bool npy_parse_header(cli_input *input, npy_text *text, npy_state *state)
{
    bool type = false;
    bool order = false;
    bool shape = false;

    if (!npy_take(text, "{")) {
        return cli_input_fail(input, "the NumPy header is not a dictionary");
    }
    while (!npy_take(text, "}")) {
        if (!type && npy_take(text, "'descr'") && npy_take(text, ":")) {
            type = npy_take_type(input, text, state);
            if (!type) {
                return false;
            }
        } else if (!order && npy_take(text, "'fortran_order'") && npy_take(text, ":")) {
            order = npy_take(text, "False");
            if (!order) {
                return cli_input_fail(input, "the NumPy array is not in C order");
            }
        } else if (!shape && npy_take(text, "'shape'") && npy_take(text, ":")) {
            shape = npy_take_shape(text, state);
            if (!shape) {
                return cli_input_fail(input, "the NumPy array does not have two dimensions");
            }
        } else {
            return cli_input_fail(input, "the NumPy header is not understood");
        }
        npy_take(text, ",");
    }
    npy_skip_blanks(text);
    if (!type || !order || !shape || text->at != text->end) {
        return cli_input_fail(input, "the NumPy header is not understood");
    }
    if (state->flat && !state->numbers) {
        return cli_input_fail(input, "the NumPy array does not have two dimensions");
    }
    if (state->numbers && state->row_bytes <= NPHD_MAX_BYTES) {
        state->row_bytes *= 8;
    }
    if (state->row_bytes < 1 || state->row_bytes > NPHD_MAX_BYTES) {
        return cli_input_fail(input, "the row length in bytes is %llu, not 1 to %d",
                              (unsigned long long)state->row_bytes, NPHD_MAX_BYTES);
    }
    return true;
}

/* Magic, version and length: leaves the length of the header text. */
static bool npy_read_start(cli_input *input, size_t *out_length)
{
    uint8_t start[NPY_MAGIC_BYTES + 2];
    uint8_t length[4] = {0, 0, 0, 0};
    size_t length_bytes = 0;

    *out_length = 0;
    if (cli_reader_read(&input->reader, start, sizeof(start)) != sizeof(start) ||
        memcmp(start, NPY_MAGIC, NPY_MAGIC_BYTES) != 0) {
        return cli_input_fail(input, "not a NumPy file");
    }
    if (start[6] < 1 || start[6] > 3 || start[7] != 0) {
        return cli_input_fail(input, "a NumPy file of version %d.%d, not 1.0 to 3.0", start[6],
                              start[7]);
    }
    length_bytes = start[6] == 1 ? 2 : 4;
    if (cli_reader_read(&input->reader, length, length_bytes) != length_bytes) {
        return cli_input_fail(input, "the NumPy header is cut short");
    }
    for (size_t i = length_bytes; i > 0; i--) {
        *out_length = *out_length << 8 | length[i - 1];
    }
    return true;
}

static bool npy_open(cli_input *input)
{
    npy_state *state = calloc(1, sizeof(*state));
    char *header = malloc(NPY_HEADER_BYTES);
    size_t length = 0;
    npy_text text;
    bool good = false;

    input->state = state;
    if (state == NULL || header == NULL) {
        cli_out_of_memory();
        input->failure = CLI_SYSTEM;
    } else if (!npy_read_start(input, &length)) {
        good = false;
    } else if (length > NPY_HEADER_BYTES) {
        good = cli_input_fail(input, "the NumPy header is longer than %zu bytes", NPY_HEADER_BYTES);
    } else if (cli_reader_read(&input->reader, header, length) != length) {
        good = cli_input_fail(input, "the NumPy header is cut short");
    } else {
        text.at = header;
        text.end = header + length;
        good = npy_parse_header(input, &text, state);
    }
    free(header);
    return good;
}

static void npy_turn(uint8_t *vector, size_t bytes)
{
    for (size_t first = 0; first < bytes; first += 8) {
        for (size_t i = 0; i < 4; i++) {
            const uint8_t low = vector[first + i];
            vector[first + i] = vector[first + 7 - i];
            vector[first + 7 - i] = low;
        }
    }
}

static cli_next npy_next(cli_input *input, cli_record *out)
{
    npy_state *state = input->state;
    const char *more = NULL;

    cli_input_note_key(input, false);
    if (state->done == state->rows) {
        if (cli_reader_peek(&input->reader, 1, &more) == 0 && input->reader.os_error == 0) {
            return CLI_NEXT_END;
        }
        cli_input_fail(input, "more bytes than the header says, which has rows: %llu",
                       (unsigned long long)state->rows);
        return CLI_NEXT_FAILED;
    }
    input->line = ++state->done;
    out->bytes = (size_t)state->row_bytes;
    if (cli_reader_read(&input->reader, out->vector, out->bytes) == out->bytes) {
        if (state->little) {
            npy_turn(out->vector, out->bytes);
        }
        return CLI_NEXT_RECORD;
    }
    cli_input_fail(input, "cut short, the header says rows: %llu", (unsigned long long)state->rows);
    return CLI_NEXT_FAILED;
}

static void npy_close(cli_input *input)
{
    free(input->state);
    input->state = NULL;
}

const cli_decoder cli_decoder_npy = {npy_open, npy_next, npy_close};
