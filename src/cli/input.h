/* Input files of vectors: CSV, JSONL, NumPy arrays and raw rows, read one record at a time. */
#ifndef NPHD_CLI_INPUT_H
#define NPHD_CLI_INPUT_H

#include "input_columns.h"
#include "input_reader.h"
#include "message.h"
#include "parse.h"
#include <nphd/vector.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum cli_format {
    CLI_FORMAT_GUESS, /* by the end of the name; standard input by its first byte */
    CLI_FORMAT_CSV,
    CLI_FORMAT_JSONL,
    CLI_FORMAT_NPY,
    CLI_FORMAT_RAW
} cli_format;

/* Longest source; the rest is cut. It is only shown, never compared. */
#define CLI_SOURCE_BYTES 512

typedef struct cli_record {
    bool has_key;
    nphd_key key;
    size_t bytes; /* of the vector */
    uint8_t vector[NPHD_MAX_BYTES];
    cli_notation read;             /* how it was written */
    char source[CLI_SOURCE_BYTES]; /* "" when the file has none */
} cli_record;

typedef enum cli_next {
    CLI_NEXT_RECORD,
    CLI_NEXT_END,
    CLI_NEXT_BAD,   /* input->problem and input->line say what and where; the next call goes on */
    CLI_NEXT_FAILED /* complained about; input->failure is the exit status */
} cli_next;

typedef struct cli_input cli_input;

/* One format. `open` reads the head of the file; false after a call of cli_input_fail(). */
typedef struct cli_decoder {
    bool (*open)(cli_input *input);
    cli_next (*next)(cli_input *input, cli_record *out);
    void (*close)(cli_input *input); /* of a decoder whose open was called, even if it failed */
} cli_decoder;

struct cli_input {
    cli_reader reader;
    cli_columns columns;
    const cli_notation *notation; /* of the options that it was opened with */
    uint32_t row_bytes;           /* of raw rows; 0: not said */
    bool numbers;                 /* NumPy arrays are of uint64, each 64 bits */
    const cli_decoder *decoder;
    void *state;   /* of the decoder; NULL until it is made */
    uint64_t line; /* where the current record begins; of npy and raw: its row, from 1 */
    bool keys_known;
    bool has_keys; /* all records have keys, or none */
    cli_problem problem;
    cli_exit failure;
};

extern const cli_decoder cli_decoder_csv;
extern const cli_decoder cli_decoder_jsonl;
extern const cli_decoder cli_decoder_npy;
extern const cli_decoder cli_decoder_raw;

/* How input files are written, as the command line says it. */
typedef struct cli_input_options {
    cli_format format;
    uint32_t row_bytes;        /* of raw rows; 0: not said */
    bool numbers;              /* NumPy arrays are of uint64, each 64 bits */
    const char *key_column;    /* as the file names it; NULL: key */
    const char *vector_column; /* NULL: iscc, hex or base64 */
    const char *source_column; /* NULL: source */
    cli_notation notation;     /* of vectors in text; may change from record to record */
    bool number;               /* make keys where there is no column of that name */
} cli_input_options;

/* The type that --dtype names, uint8 or uint64: is it that of numbers? Complains likewise. */
bool cli_option_dtype(const char *name, const char *text, bool *out_numbers);

/* The format that --format names; complains as a usage error. */
bool cli_option_format(const char *name, const char *text, cli_format *out);

/* The name of a column; complains as a usage error when it is none. */
bool cli_option_column(const char *name, const char *text, const char **out);

/* Opens `path` ("-": standard input); the options stay until it is closed. Returns CLI_SUCCESS, or
 * another status after a complaint; cli_input_close() follows either way. */
cli_exit cli_input_open(cli_input *input, const char *path, const cli_input_options *options,
                        cli_purpose purpose);

cli_next cli_input_next(cli_input *input, cli_record *out);

/* Takes a zeroed input. */
void cli_input_close(cli_input *input);

/* Share of the file that is read, in [0, 1]; below 0 when its size is not known. */
double cli_input_fraction(const cli_input *input);

/* For decoders: sets failure to CLI_SYSTEM and says why a read failed. Returns false. */
bool cli_input_fail_read(cli_input *input);

/* For decoders: sets failure to CLI_BAD_INPUT and complains with file and line, unless it was a
 * read that failed. Returns false. */
bool cli_input_fail(cli_input *input, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* For decoders: notes whether the record has a key; false, with a problem, when that differs from
 * the records before. */
bool cli_input_note_key(cli_input *input, bool has_key);

/* For decoders: reads the text of a vector in `column`; false with a problem. */
bool cli_input_vector(cli_input *input, cli_column column, const char *text, size_t length,
                      cli_record *out);

/* For decoders: copies a source text of any length. */
void cli_input_copy_source(cli_record *out, const char *text, size_t length);

#endif
