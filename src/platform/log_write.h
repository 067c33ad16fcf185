/* Where the messages of a handle go. */
#ifndef NPHDI_LOG_WRITE_H
#define NPHDI_LOG_WRITE_H

#include <nphd/log.h>

/* Zero: warnings and errors to standard error. */
typedef struct nphdi_log {
    nphd_logger logger;
    void *context;
} nphdi_log;

/* Writes one line, cut to 1023 bytes; control characters (of a file name, say) become "?". `log`
 * may be NULL. */
void nphdi_log_write(const nphdi_log *log, nphd_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
