/* What the program says on standard error, and the exit status that goes with it. */
#include "message.h"

#include "progress.h"
#include "text.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Room for one message: a library text and a file name beside it. */
#define MESSAGE_BYTES 2048

/* The program runs one command, so one name is enough; it saves a parameter everywhere. */
static const char *message_command = NULL;

void cli_message_command(const char *name)
{
    message_command = name;
}

const char *cli_message_name(void)
{
    return message_command;
}

void cli_message_clean(char *out, size_t capacity, const char *text)
{
    cli_text_clean(out, capacity, text, strlen(text));
}

static void message_write(const char *head, const char *text)
{
    char clean[MESSAGE_BYTES];

    cli_message_clean(clean, sizeof(clean), text);
    cli_progress_hide();
    fprintf(stderr, "%s%s\n", head, clean);
}

void cli_log(void *context, nphd_log_level level, const char *text)
{
    (void)context;
    if (level >= NPHD_LOG_WARNING) {
        message_write(level == NPHD_LOG_WARNING ? "nphd: warning: " : "nphd: error: ", text);
    }
}

static void message_complain(const char *format, va_list arguments)
    __attribute__((format(printf, 1, 0)));

static void message_complain(const char *format, va_list arguments)
{
    char text[MESSAGE_BYTES];
    char head[64];

    vsnprintf(text, sizeof(text), format, arguments);
    snprintf(head, sizeof(head), "nphd%s%s: ", message_command != NULL ? " " : "",
             message_command != NULL ? message_command : "");
    message_write(head, text);
}

void cli_complain(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    message_complain(format, arguments);
    va_end(arguments);
}

void cli_complain_at(const char *file, uint64_t line, const char *format, ...)
{
    char text[MESSAGE_BYTES];
    int used = 0;
    va_list arguments;

    if (line > 0) {
        used = snprintf(text, sizeof(text), "%s:%llu: ", file, (unsigned long long)line);
    } else {
        used = snprintf(text, sizeof(text), "%s: ", file);
    }
    if (used > 0 && (size_t)used < sizeof(text)) {
        va_start(arguments, format);
        vsnprintf(text + used, sizeof(text) - (size_t)used, format, arguments);
        va_end(arguments);
    }
    message_write("", text);
}

cli_exit cli_usage(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    message_complain(format, arguments);
    va_end(arguments);
    fprintf(stderr, "Try 'nphd help%s%s'.\n", message_command != NULL ? " " : "",
            message_command != NULL ? message_command : "");
    return CLI_USAGE;
}

static cli_exit message_exit(nphd_status status)
{
    switch (status) {
    case NPHD_OK:
        return CLI_SUCCESS;
    case NPHD_INVALID_ARGUMENT:
    case NPHD_MISMATCH: /* an option contradicts the file: another command line is the remedy */
        return CLI_USAGE;
    case NPHD_CORRUPT:
    case NPHD_UNSUPPORTED:
    case NPHD_FULL:
    case NPHD_EXISTS:
    case NPHD_TOO_SMALL:
        return CLI_BAD_INPUT;
    case NPHD_STOPPED:
    case NPHD_OUT_OF_MEMORY:
    case NPHD_IO:
    case NPHD_NOT_FOUND: /* of a file: keys are asked for one by one and never come here */
    case NPHD_READ_ONLY:
    case NPHD_DURABILITY_UNKNOWN:
    case NPHD_NO_SPACE:
    case NPHD_CLOSED:
    case NPHD_BUSY:
    case NPHD_TIMEOUT:
    case NPHD_CHANGED:
    case NPHD_FORKED:
        return CLI_SYSTEM;
    case NPHD_CANCELLED: /* nothing else cancels */
        return CLI_INTERRUPTED;
    }
    return CLI_SYSTEM;
}

cli_exit cli_fail(const nphd_error *err)
{
    const cli_exit result = message_exit(err->status);

    if (result != CLI_INTERRUPTED) {
        cli_complain("%s", err->text[0] != '\0' ? err->text : nphd_status_text(err->status));
    }
    return result;
}

cli_exit cli_out_of_memory(void)
{
    cli_complain("out of memory");
    return CLI_SYSTEM;
}
