/* Messages about what a handle does by itself: rotation, recovery, what was repaired or ignored. */
#ifndef NPHD_LOG_H
#define NPHD_LOG_H

#ifdef __cplusplus
extern "C" {
#endif

/** How much a message matters. */
typedef enum nphd_log_level {
    NPHD_LOG_DEBUG = 0,   /* steps, for somebody who looks for a fault */
    NPHD_LOG_INFO = 1,    /* what was done, once for each larger piece of work */
    NPHD_LOG_WARNING = 2, /* the work goes on, but somebody should know */
    NPHD_LOG_ERROR = 3    /* work that no call is waiting for has failed */
} nphd_log_level;

/**
 * Takes one message of the library.
 *
 * Shapes   text: one line without a newline, valid until the function returns.
 * Threads  called from any thread, also from several at once.
 * Rules    must not call into the handle that it belongs to, whose locks may be held. Where there
 *          is no logger, warnings and errors go to standard error and the rest nowhere.
 */
typedef void (*nphd_logger)(void *context, nphd_log_level level, const char *text);

#ifdef __cplusplus
}
#endif

#endif
