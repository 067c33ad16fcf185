/* Messages to the application's logger or to standard error. Nothing here can fail or allocate: a
 * message about a lack of memory must get out too. */
#include "platform/log_write.h"

#include <stdarg.h>
#include <stdio.h>

#define LINE_BYTES 1024

void nphdi_log_write(const nphdi_log *log, nphd_log_level level, const char *format, ...)
{
    const nphd_logger logger = log == NULL ? NULL : log->logger;
    char line[LINE_BYTES];
    va_list arguments;

    if (logger == NULL && level < NPHD_LOG_WARNING) {
        return;
    }
    va_start(arguments, format);
    (void)vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    for (char *c = line; *c != '\0'; c++) {
        const unsigned char octet = (unsigned char)*c;
        if (octet < 0x20 || octet == 0x7f) {
            *c = '?';
        }
    }
    if (logger != NULL) {
        logger(log->context, level, line);
    } else {
        /* one call, so that lines of several threads do not mix */
        (void)fprintf(stderr, "nphd: %s: %s\n", level == NPHD_LOG_WARNING ? "warning" : "error",
                      line);
    }
}
