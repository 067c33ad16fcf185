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
#ifndef NPHDI_HEAD_H
#define NPHDI_HEAD_H

#include <nphd/allocator.h>
#include <nphd/io.h>
#include <nphd/status.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define NPHDI_HEAD_SLOT_BYTES 512
#define NPHDI_HEAD_SLOT_STEP 4096 /* in blocks of their own: one is written, the other is not */
#define NPHDI_HEAD_BYTES (NPHDI_HEAD_SLOT_STEP + NPHDI_HEAD_SLOT_BYTES)

typedef struct nphdi_head {
    uint8_t identity[16];  /* of the index */
    uint64_t sequence;     /* of the head itself; 0: there is none */
    uint64_t generation;   /* of the newest shard; 0: none */
    uint64_t journal;      /* the sequence of the newest one; 0: none that must be there */
    uint64_t journal_base; /* the generation that it continues */
} nphdi_head;

typedef enum nphdi_head_state {
    NPHDI_HEAD_NONE,
    NPHDI_HEAD_WHOLE,
    NPHDI_HEAD_DAMAGED /* there was one */
} nphdi_head_state;

/* ---- bytes ---- */

void nphdi_head_encode(const nphdi_head *head, uint8_t out[NPHDI_HEAD_SLOT_BYTES]);
/* The head in the first `count` bytes of the file; zero unless it is whole. */
nphdi_head_state nphdi_head_decode(const uint8_t *bytes, uint64_t count, nphdi_head *out);

/* ---- the file ---- */

/* Reads it without a lock. */
nphd_status nphdi_head_read(const nphd_io *io, const nphd_allocator *allocator,
                            const char *directory, nphdi_head *out, nphdi_head_state *out_state,
                            nphd_error *err);

/* What a writer keeps of it. Zero-initialise. Threads: any. */
typedef struct nphdi_head_file {
    pthread_mutex_t lock; /* of all that follows */
    bool lock_made;
    bool broken; /* a flush failed: it is not written any more */
    const char *directory;
    nphdi_head head;
} nphdi_head_file;

/* `directory` is borrowed: what errors name. */
nphd_status nphdi_head_init(nphdi_head_file *of, const char *directory, nphd_error *err);
void nphdi_head_release(nphdi_head_file *of);

/* The newest shard is of `generation`; journals that continue an older one than `superseded` are
 * without use. */
nphd_status nphdi_head_advance(nphdi_head_file *of, const nphd_io *io, nphd_file file,
                               uint64_t generation, uint64_t superseded, nphd_error *err);
/* A journal was begun. */
nphd_status nphdi_head_note_journal(nphdi_head_file *of, const nphd_io *io, nphd_file file,
                                    uint64_t sequence, uint64_t base, nphd_error *err);
/* Can it not be written any more? Then no shard that it names may go. */
bool nphdi_head_is_stuck(nphdi_head_file *of);
/* The newest shard is about to go, and no journal continues it: from then on it is of `generation`.
 * Not while it is stuck. */
nphd_status nphdi_head_step_back(nphdi_head_file *of, const nphd_io *io, nphd_file file,
                                 uint64_t generation, nphd_error *err);

#endif
