/* The journal of a sharded index: what changed since the save that it continues.
 *
 * Records gather in memory as changes are made; a commit writes those since the last one as one
 * frame and flushes it. A save or rotation makes the journals of earlier generations pointless:
 * they are deleted once its files are durable. There is one journal file for each generation that
 * was committed to, and one for each time the index was opened in between; each names the one that
 * it continues, so that opening applies them in order or not at all.
 *
 * A file whose flush failed is never flushed again: until the next save no commit succeeds without
 * a save of everything. */
#ifndef NPHDI_JOURNAL_H
#define NPHDI_JOURNAL_H

#include "formats/journal_format.h"
#include "index/source.h"
#include "platform/platform.h"

#include <nphd/sharded.h>

/* One file, or what will be one. */
typedef struct nphdi_journal_file {
    struct nphdi_journal_file *next; /* newer */
    char *path;
    size_t path_room;
    uint64_t base;
    uint64_t sequence;
    nphd_file file;
    bool open;
    bool created;                /* the file exists, with its head, durably */
    bool closed;                 /* found at opening: nothing is added to it */
    bool broken;                 /* a flush failed: only a save helps */
    bool unapplied;              /* the shards do not continue it: put aside before the next save */
    bool damaged;                /* salvage read it: put aside where others are deleted */
    nphdi_journal_head head;     /* as it was written */
    uint64_t written_bytes;      /* that count: head and whole frames */
    _Atomic uint64_t file_bytes; /* the size of the file, as far as is known */
    uint64_t frames;
    uint8_t *records; /* not written yet, behind room for the start of a frame */
    uint64_t record_bytes;
    uint64_t record_room;
    uint8_t *flushing; /* taken by a commit under way */
    uint64_t flushing_bytes;
    uint64_t flushing_room;
} nphdi_journal_file;

typedef struct nphdi_journal {
    bool on;           /* the caller wants commits by journal */
    bool each_call;    /* every changing call commits */
    uint32_t every_ms; /* a thread commits; 0: none */
    nphdi_signal lock; /* of all that follows */
    bool lock_made;
    bool committing;
    bool doubtful;     /* which generation the files have is not known: only a save helps */
    uint64_t appended; /* records so far */
    uint64_t durable;  /* of those */
    uint64_t base;     /* generation that new records continue; 0: none, a save must come first */
    uint64_t next_sequence;
    uint64_t unapplied;          /* that opening found, put aside already or not yet */
    nphdi_journal_file *files;   /* oldest first */
    _Atomic uint64_t fold_after; /* bytes of all files: folding failed with fewer */
    nphdi_thread thread;
    bool thread_runs;
    bool thread_stop;
} nphdi_journal;

nphd_status nphdi_journal_init(nphdi_journal *journal, nphd_error *err);
/* Closes the files and forgets them; they stay on disk. Nobody else uses the journal any more. */
void nphdi_journal_close_files(nphd_sharded *sharded);
void nphdi_journal_release(nphdi_journal *journal); /* what is left then */

/* Makes sure that records of `bytes` bytes in all can be added. */
nphd_status nphdi_journal_reserve(nphd_sharded *sharded, uint64_t bytes, nphd_error *err);
/* Room must be reserved. The caller holds change_lock, as for all that changes the index. */
void nphdi_journal_append(nphd_sharded *sharded, const nphdi_journal_record *record);

/* The size of all files. */
uint64_t nphdi_journal_disk_bytes(nphd_sharded *sharded);

/* From now on records continue `generation`. */
void nphdi_journal_continue(nphd_sharded *sharded, uint64_t generation);
/* A shard file is in place, but perhaps not after a power cut. */
void nphdi_journal_doubt(nphd_sharded *sharded);
/* Before a shard is written: journals that the files do not continue get another name, as beside
 * the shard they would pass for ones that it made superfluous. The directory is not flushed yet. */
nphd_status nphdi_journal_put_aside(nphd_sharded *sharded, nphd_error *err);
/* The files of `generation` are durable: journals of earlier ones go. */
void nphdi_journal_drop(nphd_sharded *sharded, uint64_t generation);

/* Makes every record so far durable; *out_save: only a save can. No lock is held. */
nphd_status nphdi_journal_commit(nphd_sharded *sharded, bool *out_save, nphd_error *err);

nphd_status nphdi_journal_start(nphd_sharded *sharded, nphd_error *err); /* the thread, if any */
void nphdi_journal_stop(nphd_sharded *sharded);

#define NPHDI_UNAPPLIED "unapplied" /* the end of its name once it is put aside */
/* Is this the name of one that was put aside, as it was not applied? */
bool nphdi_journal_is_unapplied(const char *name);
/* Is this the name of a journal file? Its sequence number then. */
bool nphdi_journal_is_name(const char *name, uint64_t *out_sequence);

/* Writes what was taken from a file as one frame, and flushes it; `before` is the file that it
 * continues, or NULL (journal_write.c). */
nphd_status nphdi_journal_file_flush(nphd_sharded *sharded, nphdi_journal_file *file,
                                     const nphdi_journal_file *before, nphd_error *err);

/* Of the index, as the head of a journal names it. */
uint32_t nphdi_journal_metric_code(const nphd_sharded *sharded);

/* ---- the frames of a file, from first to last (journal_read.c) ---- */

typedef struct nphdi_journal_reader {
    const nphd_allocator *allocator;
    nphdi_source source;
    nphdi_journal_head head;
    uint64_t number; /* of the frame at `offset` */
    uint64_t offset;
    uint64_t before;          /* where the frame before it begins */
    const nphdi_watch *watch; /* asked while it looks for what follows damage; NULL: nobody is */
    const uint8_t *records;   /* of that; in `bytes` */
    uint64_t count;           /* how many bytes */
    uint8_t *bytes;
    uint64_t room;
} nphdi_journal_reader;

typedef enum nphdi_journal_step {
    NPHDI_JOURNAL_WHOLE, /* a frame; its records are there */
    NPHDI_JOURNAL_END,   /* there is nothing more */
    NPHDI_JOURNAL_TORN,  /* a commit may have been interrupted here; nothing is behind it */
    NPHDI_JOURNAL_DAMAGED_FRAME
} nphdi_journal_step;

/* `path` is borrowed. */
nphd_status nphdi_journal_reader_open(nphdi_journal_reader *reader, const nphd_io *io,
                                      const nphd_allocator *allocator, const char *path,
                                      nphd_error *err);
void nphdi_journal_reader_close(nphdi_journal_reader *reader); /* takes a zero one */
/* Reads `head`, before any frame. *out_valid false: torn while the file was created. Frames follow
 * only after the head was flushed, so that a damaged one before them is an error. */
nphd_status nphdi_journal_reader_head(nphdi_journal_reader *reader, bool *out_valid,
                                      nphd_error *err);
/* Reads a frame and moves behind it, if it is whole. `limit`: so many bytes were committed, as a
 * later journal says; UINT64_MAX: there is none. */
nphd_status nphdi_journal_reader_next(nphdi_journal_reader *reader, uint64_t limit,
                                      nphdi_journal_step *out_step, nphd_error *err);
/* Moves to the next frame behind a damaged one; *out_more false: there is none. */
nphd_status nphdi_journal_reader_skip(nphdi_journal_reader *reader, bool *out_more,
                                      nphd_error *err);

/* Applies the journals that continue `generation` (0: there is none that could be). `reference`:
 * the reference changed the directory since, so that none is applied. */
nphd_status nphdi_journal_replay(nphd_sharded *sharded, const nphdi_names *names,
                                 uint64_t generation, bool reference, uint32_t threads,
                                 nphd_error *err);

#endif
