/* The head of a directory: which generation its newest shard has and which journal was begun last,
 * so that an opening misses either of them when it is gone as a whole, which nothing else tells.
 *
 * It stands in the file `lock`, in two slots of a sector each, 4,096 bytes apart, written in turn;
 * the whole one with the higher sequence counts. It is written after what it names is durable, so
 * that it may be behind the files, which is no damage, and never ahead of them: where the newest
 * shard goes for good, the head steps back before that, in both slots. An empty `lock` says
 * nothing.
 *
 * Whoever does not know it leaves it alone: release 0.1, whose generations only grow, and the
 * reference, after which it is passed over. */
#ifndef NPHDI_LOCK_FILE_H
#define NPHDI_LOCK_FILE_H

#include <nphd/allocator.h>
#include <nphd/io.h>
#include <nphd/status.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define NPHDI_LOCK_HEAD_SLOT_BYTES 512
#define NPHDI_LOCK_HEAD_SLOT_STEP                                                                  \
    4096 /* in blocks of their own: one is written, the other is not */
#define NPHDI_LOCK_HEAD_BYTES (NPHDI_LOCK_HEAD_SLOT_STEP + NPHDI_LOCK_HEAD_SLOT_BYTES)

typedef struct nphdi_lock_head {
    uint8_t identity[16];  /* of the index */
    uint64_t sequence;     /* of the head itself; 0: there is none */
    uint64_t generation;   /* of the newest shard; 0: none */
    uint64_t journal;      /* the sequence of the newest one; 0: none that must be there */
    uint64_t journal_base; /* the generation that it continues */
} nphdi_lock_head;

typedef enum nphdi_lock_head_state {
    NPHDI_LOCK_HEAD_NONE,
    NPHDI_LOCK_HEAD_WHOLE,
    NPHDI_LOCK_HEAD_DAMAGED /* there was one */
} nphdi_lock_head_state;

/* ---- bytes ---- */

void nphdi_lock_head_encode(const nphdi_lock_head *head, uint8_t out[NPHDI_LOCK_HEAD_SLOT_BYTES]);
/* The head in the first `count` bytes of the file; zero unless it is whole. */
nphdi_lock_head_state nphdi_lock_head_decode(const uint8_t *bytes, uint64_t count,
                                             nphdi_lock_head *out);

/* ---- the file ---- */

#define NPHDI_LOCK_NAME "lock"

/* Reads it without a lock. One that may not be read, or is no file, says
 * nothing. */
nphd_status nphdi_lock_head_read(const nphd_io *io, const nphd_allocator *allocator,
                                 const char *directory, nphdi_lock_head *out,
                                 nphdi_lock_head_state *out_state, nphd_error *err);

/* The file `lock` of a handle: the lock itself, and the head as it was read or written last.
 * Zero-initialise. Threads: any, between init and release. Where it is not held, by a reader or in
 * a child process, the calls that write do nothing. */
typedef struct nphdi_lock_file {
    pthread_mutex_t mutex; /* of `head`, `broken` and `unsure` */
    bool mutex_made;
    bool broken;           /* a flush failed: it is not written any more */
    bool unsure;           /* the last write failed: a part of it may be in the file, or all */
    const char *directory; /* constant after init, as is all that follows between take and let_go */
    const nphd_io *io;     /* NULL: not held */
    nphd_file file;
    nphdi_lock_head head;
    _Atomic uint64_t file_bytes; /* of a head; a look at the sizes does not wait for a flush */
} nphdi_lock_file;

/* `directory` is borrowed. */
nphd_status nphdi_lock_file_init(nphdi_lock_file *of, const char *directory, nphd_error *err);
void nphdi_lock_file_release(nphdi_lock_file *of);

/* Locks the directory. Errors: NPHD_BUSY: somebody else has. */
nphd_status nphdi_lock_file_take(nphdi_lock_file *of, const nphd_io *io,
                                 const nphd_allocator *allocator, nphd_error *err);
void nphdi_lock_file_let_go(nphdi_lock_file *of);

/* What was read at opening; nobody else uses the handle yet. */
void nphdi_lock_file_know(nphdi_lock_file *of, const nphdi_lock_head *head);

/* The newest shard is of `generation`; journals that continue an older one than `superseded` are
 * without use. */
nphd_status nphdi_lock_file_advance(nphdi_lock_file *of, uint64_t generation, uint64_t superseded,
                                    nphd_error *err);
/* A journal was begun. */
nphd_status nphdi_lock_file_note_journal(nphdi_lock_file *of, uint64_t sequence, uint64_t base,
                                         nphd_error *err);
/* Has the head in the file of that name the number of the one that was read or written last? Where
 * it cannot be told (there or here is no whole head) the answer is yes. */
nphd_status nphdi_lock_file_is_same(nphdi_lock_file *of, const nphd_allocator *allocator, bool *out,
                                    nphd_error *err);
/* Can it not be written any more? Then no shard that it names may go. */
bool nphdi_lock_file_is_stuck(nphdi_lock_file *of);
/* The newest shard is about to go, and no journal continues it: from then on it is of `generation`.
 * Not while it is stuck. */
nphd_status nphdi_lock_file_step_back(nphdi_lock_file *of, uint64_t generation, nphd_error *err);

#endif
