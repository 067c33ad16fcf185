/* Bytes and lines of a file or of standard input, through one buffer of fixed size: a line of any
 * length costs no more memory than CLI_LINE_BYTES. */
#ifndef NPHD_CLI_INPUT_READER_H
#define NPHD_CLI_INPUT_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Longest line, and longest CSV record. A vector takes at most 510 digits, so a line beyond this
 * is not one of ours; the rest of the room is for columns that are ignored. */
#define CLI_LINE_BYTES ((size_t)1 << 20)

/* Called before a read that would wait for whoever writes the other end. False: read no more. */
typedef bool (*cli_reader_idle)(void *context);

typedef struct cli_reader {
    int file;
    const char *name; /* as messages name it */
    char *buffer;
    size_t begin; /* bytes begin..end of the buffer are not consumed yet */
    size_t end;
    size_t kept; /* bytes from here on stay in the buffer, consumed or not */
    bool keeping;
    uint64_t kept_line;
    bool at_end;
    int os_error;         /* of a failed read; 0 */
    uint64_t line;        /* number of the line that was read last, from 1 */
    uint64_t consumed;    /* bytes handed out */
    uint64_t file_bytes;  /* 0: not known, as for a pipe */
    cli_reader_idle idle; /* NULL: none; may be set once the reader is open */
    void *idle_context;
} cli_reader;

typedef enum cli_line {
    CLI_LINE_READ,
    CLI_LINE_TOO_LONG, /* skipped as a whole; not while bytes are kept */
    CLI_LINE_END,
    CLI_LINE_FAILED /* reader->os_error says why */
} cli_line;

/* "-" is standard input. False after a complaint. Closed with cli_reader_close(), also then. */
bool cli_reader_open(cli_reader *reader, const char *path);

/* Takes a zeroed reader. */
void cli_reader_close(cli_reader *reader);

/* The next bytes, at most `wanted`, without consuming them. *out lives until the next call. */
size_t cli_reader_peek(cli_reader *reader, size_t wanted, const char **out);

/* Copies and consumes the next bytes; fewer than `wanted` only at the end or on a failed read. */
size_t cli_reader_read(cli_reader *reader, void *out, size_t wanted);

/* Consumes the UTF-8 byte order marks that come next. */
void cli_reader_skip_marks(cli_reader *reader);

/* The next line with its line feed, if it has one. *out lives until the next call. */
cli_line cli_reader_line(cli_reader *reader, const char **out, size_t *out_length);

/* Keeps what is read from now on, and the last `behind` bytes of the line read last, so that
 * cli_reader_back() can go there: for as long as that is at most CLI_LINE_BYTES. */
void cli_reader_keep(cli_reader *reader, size_t behind);
void cli_reader_keep_no_more(cli_reader *reader);

/* Goes back to where cli_reader_keep() was called, and keeps no more. */
void cli_reader_back(cli_reader *reader);

/* The bytes that are kept and consumed. *out lives until the next call. */
size_t cli_reader_kept(const cli_reader *reader, const char **out);

#endif
