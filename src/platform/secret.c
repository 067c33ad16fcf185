/* Secrets of tables in memory. They never reach a file. */
#include "platform/platform.h"

#include <time.h>

void nphdi_secret_draw(nphdi_hash_secret *out)
{
    const nphd_io *io = nphdi_io_posix();

    if (io->random(io->context, out, sizeof(*out)) != 0) {
        /* worse than random, and still not the same for everybody */
        struct timespec now = {0, 0};
        (void)clock_gettime(CLOCK_MONOTONIC, &now);
        out->seed = (uint64_t)now.tv_nsec << 32 ^ (uint64_t)now.tv_sec;
        out->salt = (uint64_t)(uintptr_t)out ^ (uint64_t)(uintptr_t)&now << 17;
    }
}
