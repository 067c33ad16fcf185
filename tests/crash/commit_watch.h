/* An I/O table that stops after every call that changes a disk, for a look at what a power cut
 * would leave there. Below it calls can be made to fail.
 *
 * The look is not repeated for what it does itself: changes of other disks, such as those made
 * after a cut, are looked at only through tables of their own. */
#ifndef COMMIT_WATCH_H
#define COMMIT_WATCH_H

#include "support/io_fault.h"
#include "support/io_memory.h"

typedef struct commit_watch {
    nphd_io table; /* hand out &watch.table */
    io_fault fault;
    memory_io *disk;
    void (*look)(void *context);
    void *context;
    bool awake; /* looks only while this is set */
} commit_watch;

/* In the place where it stays: calls lead back here. */
void commit_watch_begin(commit_watch *watch, memory_io *disk, void (*look)(void *context),
                        void *context);
/* Nothing may be left open, nothing flushed a second time. */
void commit_watch_end(commit_watch *watch);

#endif
