/* The lock of an index file from before it is loaded until after it is saved. */
#include "store.h"

#include "signals.h"
#include <time.h>

/* Between two tries. */
#define LOCK_TICK_MS 20

/* A command that waits is not taken for one that hangs: it speaks after this time, and then again
 * and again. */
#define LOCK_FIRST_WORD_MS 500
#define LOCK_NEXT_WORD_MS 60000

static void lock_sleep(void)
{
    const struct timespec tick = {0, LOCK_TICK_MS * 1000000L};

    (void)nanosleep(&tick, NULL);
}

cli_exit cli_store_lock(cli_store *store)
{
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status = nphd_lock_acquire(store->path, NULL, &store->lock, &err);
    uint64_t waited_ms = 0;
    uint64_t speak_ms = LOCK_FIRST_WORD_MS;

    while (status == NPHD_BUSY) {
        if (cli_interrupted()) {
            return CLI_INTERRUPTED;
        }
        if (waited_ms >= speak_ms) {
            cli_complain("%s; waiting", err.text);
            speak_ms = waited_ms + LOCK_NEXT_WORD_MS;
        }
        lock_sleep();
        waited_ms += LOCK_TICK_MS;
        status = nphd_lock_acquire(store->path, NULL, &store->lock, &err);
    }
    if (status == NPHD_UNSUPPORTED || status == NPHD_IO) {
        /* what cannot be read or locked is told by the open, or can only be changed by us alone */
        cli_complain("%s; no other program may change it now", err.text);
        status = NPHD_OK;
    }
    return status == NPHD_OK || status == NPHD_NOT_FOUND ? CLI_SUCCESS : cli_fail(&err);
}
