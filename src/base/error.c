/* Error records. Text is cut, never overrun, and a record may be smaller than ours (an older
 * caller) or larger (a newer one): only bytes inside its struct_size are touched. */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *nphd_status_text(nphd_status status)
{
    switch (status) {
#define STATUS_TEXT(name, number, text)                                                            \
    case NPHD_##name:                                                                              \
        return text;
        NPHD_STATUS_MAP(STATUS_TEXT)
#undef STATUS_TEXT
    }
    return "unknown status";
}

const char *nphd_status_name(nphd_status status)
{
    switch (status) {
#define STATUS_NAME(name, number, text)                                                            \
    case NPHD_##name:                                                                              \
        return #name;
        NPHD_STATUS_MAP(STATUS_NAME)
#undef STATUS_NAME
    }
    return "UNKNOWN";
}

static size_t error_text_room(const nphd_error *err)
{
    const size_t head = offsetof(nphd_error, text);

    return err->struct_size > head ? err->struct_size - head : 0;
}

__attribute__((format(printf, 4, 0))) static void error_write(nphd_error *err, nphd_status status,
                                                              int os_error, const char *format,
                                                              va_list arguments)
{
    const size_t room = error_text_room(err);

    err->status = status;
    err->os_error = os_error;
    if (room > 0) {
        (void)vsnprintf(err->text, room, format, arguments);
    }
}

nphd_status nphdi_fail(nphd_error *err, nphd_status status, const char *format, ...)
{
    va_list arguments;

    if (err != NULL) {
        va_start(arguments, format);
        error_write(err, status, 0, format, arguments);
        va_end(arguments);
    }
    return status;
}

static nphd_status error_status_of_os(int os_error)
{
    switch (os_error) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return NPHD_NO_SPACE;
    case ENOMEM:
        return NPHD_OUT_OF_MEMORY;
    case ENOENT:
        return NPHD_NOT_FOUND;
    default:
        return NPHD_IO;
    }
}

nphd_status nphdi_fail_os(nphd_error *err, int os_error, const char *format, ...)
{
    const nphd_status status = error_status_of_os(os_error);
    va_list arguments;

    if (err != NULL) {
        va_start(arguments, format);
        error_write(err, status, os_error, format, arguments);
        va_end(arguments);
        const size_t room = error_text_room(err);
        const size_t used = room > 0 ? strlen(err->text) : 0;
        if (used + 1 < room) {
            /* strerror of glibc (2.32 and later) and musl returns text that stays as it is */
            (void)snprintf(err->text + used, room - used, ": %s%s", strerror(os_error),
                           os_error == EMFILE ? "; raise the limit of this process (ulimit -n)"
                                              : "");
        }
    }
    return status;
}

void nphdi_error_clear(nphd_error *err)
{
    if (err != NULL) {
        err->status = NPHD_OK;
        err->os_error = 0;
        if (error_text_room(err) > 0) {
            err->text[0] = '\0';
        }
    }
}

void nphdi_error_copy(nphd_error *to, const nphd_error *from)
{
    if (to != NULL && from != NULL) {
        const size_t room = error_text_room(to);
        const int given = (int)error_text_room(from);
        to->status = from->status;
        to->os_error = from->os_error;
        if (room > 0) {
            (void)snprintf(to->text, room, "%.*s", given, from->text);
        }
    }
}
