/* What the program says on standard error, and the exit status that goes with it. */
#ifndef NPHD_CLI_MESSAGE_H
#define NPHD_CLI_MESSAGE_H

#include <nphd/log.h>
#include <nphd/status.h>
#include <stdint.h>

/* Exit status of the program; the numbers are documented in nphd(1). */
typedef enum cli_exit {
    CLI_SUCCESS = 0,
    CLI_ABSENT = 1,    /* get, contains: a key is not there */
    CLI_USAGE = 2,     /* the command line is wrong */
    CLI_BAD_INPUT = 3, /* an input file, or the index file, is damaged or not understood */
    CLI_SYSTEM = 4,    /* a file cannot be opened, read or written, or another program writes it;
                          memory is short */
    CLI_INTERRUPTED    /* by a signal, whose number and 128 are the status: cli_signals_end() */
} cli_exit;

/* The name of the command that messages carry; NULL: the program alone. Kept, not copied. */
void cli_message_command(const char *name);

const char *cli_message_name(void);

/* "nphd add: text". What a terminal could take for a command is shown as \x1b, here
 * and below. */
void cli_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "FILE:LINE: text", the form that editors understand. Line 0: "FILE: text". */
void cli_complain_at(const char *file, uint64_t line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Complains and points at the help text. Returns CLI_USAGE. */
cli_exit cli_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Complains with the text of a library error. Returns the exit status that fits it. Of what a
 * signal has cancelled nothing is said here: CLI_INTERRUPTED. */
cli_exit cli_fail(const nphd_error *err);

/* Complains about memory. Returns CLI_SYSTEM. */
cli_exit cli_out_of_memory(void);

/* An nphd_logger: warnings and errors of the library, as "nphd: warning: text". */
void cli_log(void *context, nphd_log_level level, const char *text);

/* cli_text_clean() of a text that a zero ends. */
void cli_message_clean(char *out, size_t capacity, const char *text);

#endif
