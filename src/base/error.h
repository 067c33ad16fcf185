/* Failing: fill in the caller's error record, and leave through the one exit of a function. */
#ifndef NPHDI_ERROR_H
#define NPHDI_ERROR_H

#include <nphd/status.h>

/* Writes one line into `err` (which may be NULL) and returns `status`, so that a caller can
 * `return nphdi_fail(...)`. */
nphd_status nphdi_fail(nphd_error *err, nphd_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* As nphdi_fail, for an errno value: adds its text, and picks NPHD_NO_SPACE, NPHD_OUT_OF_MEMORY,
 * NPHD_NOT_FOUND or NPHD_IO by it. */
nphd_status nphdi_fail_os(nphd_error *err, int os_error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Marks the record as "no error"; public calls do so first. */
void nphdi_error_clear(nphd_error *err);

/* Copies one record into another of any size; either may be NULL. */
void nphdi_error_copy(nphd_error *to, const nphd_error *from);

/* One macro, one label, one exit: needs a local `nphd_status status` and a label `done`. */
#define TRY(call)                                                                                  \
    do {                                                                                           \
        status = (call);                                                                           \
        if (status != NPHD_OK) {                                                                   \
            goto done;                                                                             \
        }                                                                                          \
    } while (0)

#endif
