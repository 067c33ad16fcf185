/* Status codes and the caller-owned error record.
 *
 * Every call that can fail returns an nphd_status and takes an `nphd_error *` last, which may be
 * NULL. On failure outputs are set empty and the record holds one line that says what was being
 * done to which object. Numbers and names are final: new ones are added at the end. */
#ifndef NPHD_STATUS_H
#define NPHD_STATUS_H

#include <nphd/export.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define NPHD_STATUS_MAP(X)                                                                         \
    X(OK, 0, "success")                                                                            \
    X(INVALID_ARGUMENT, 1, "an argument is outside its documented range")                          \
    X(CORRUPT, 2, "a checksum or bound in the file does not hold")                                 \
    X(STOPPED, 3, "an earlier flush failed; close the handle and open it again")                   \
    X(OUT_OF_MEMORY, 4, "memory could not be allocated")                                           \
    X(IO, 5, "the operating system reported an error on a file")                                   \
    X(NOT_FOUND, 6, "there is no such key or file")                                                \
    X(READ_ONLY, 7, "the index is a view and cannot be changed")                                   \
    X(UNSUPPORTED, 8, "the file or the call asks for something not implemented")                   \
    X(MISMATCH, 9, "the file contradicts what the caller asked for")                               \
    X(EXISTS, 10, "the key is already present")                                                    \
    X(CANCELLED, 11, "the progress callback asked to stop")                                        \
    X(DURABILITY_UNKNOWN, 12, "the file was replaced but the flush of its directory failed")       \
    X(NO_SPACE, 13, "the disk, a quota or a file size limit is full")                              \
    X(FULL, 14, "the index cannot hold more")                                                      \
    X(TOO_SMALL, 15, "the caller's buffer is too small")                                           \
    X(CLOSED, 16, "the handle was closed")                                                         \
    X(BUSY, 17, "another handle or process has the index open for writing")                        \
    X(TIMEOUT, 18, "the time ran out before the work was done")                                    \
    X(CHANGED, 19, "another file is in the place of the one that was loaded or saved")             \
    X(FORKED, 20, "the handle belongs to the process before the fork")

typedef enum nphd_status {
#define NPHD_STATUS_ENUM(name, number, text) NPHD_##name = number,
    NPHD_STATUS_MAP(NPHD_STATUS_ENUM)
#undef NPHD_STATUS_ENUM
} nphd_status;

/** Bytes of text in an error record, with the closing zero. Longer lines are cut. */
#define NPHD_ERROR_TEXT_BYTES 512

/** Where a failing call leaves its explanation. Set it up with NPHD_ERROR_INIT. */
typedef struct nphd_error {
    size_t struct_size; /* set by the INIT macro; the library writes no further than this */
    nphd_status status; /* the status that the call returned */
    int os_error;       /* errno of the operating system, or 0 */
    char text[NPHD_ERROR_TEXT_BYTES];
} nphd_error;

#ifdef __cplusplus
#define NPHD_ERROR_INIT                                                                            \
    {                                                                                              \
        sizeof(nphd_error), NPHD_OK, 0,                                                            \
        {                                                                                          \
            0                                                                                      \
        }                                                                                          \
    }
#else
#define NPHD_ERROR_INIT                                                                            \
    {                                                                                              \
        .struct_size = sizeof(nphd_error)                                                          \
    }
#endif

/** What a status means, in a few words; "unknown status" for other numbers. Threads: any. */
NPHD_API const char *nphd_status_text(nphd_status status);

/** The name of a status without its prefix, such as "CORRUPT". Threads: any. */
NPHD_API const char *nphd_status_name(nphd_status status);

#ifdef __cplusplus
}
#endif

#endif
