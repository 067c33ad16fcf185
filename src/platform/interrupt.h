/* Calls that a signal interrupted. */
#ifndef NPHDI_INTERRUPT_H
#define NPHDI_INTERRUPT_H

#include <errno.h>

/* A table that answers EINTR for ever is an error, not a reason to hang: after so many answers in a
 * row EINTR is passed on. */
#define NPHDI_INTERRUPT_TRIES 1000

/* Sets `os_error` to what `call` answers, repeating the call while that is EINTR. Not for sync,
 * sync_directory and close, which are never repeated: the first answer may have been the only one
 * that tells of lost data, or the descriptor may be gone. */
#define NPHDI_REPEAT_INTERRUPTED(os_error, call)                                                   \
    do {                                                                                           \
        int tries_left_ = NPHDI_INTERRUPT_TRIES;                                                   \
        do {                                                                                       \
            (os_error) = (call);                                                                   \
        } while ((os_error) == EINTR && --tries_left_ > 0);                                        \
    } while (0)

#endif
