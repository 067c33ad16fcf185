/* A sharded index: a directory of index files that answers as one and grows past memory.
 *
 * One shard, the active one, is in memory and takes writes. When its file would exceed the shard
 * size it is written and becomes a memory-mapped view, and a new active shard begins (a rotation).
 * Deleting or replacing a vector of a view leaves the file alone and hides the entry; tombstones
 * and a bloom filter are kept beside the shards. The files are those of the reference, with our
 * trailer behind each (docs/format.md).
 *
 * Every save and every rotation writes in this order, each file durable with its directory entry
 * before the next begins: bloom filter, shard, tombstones.
 *
 * Threads  any number of threads may call at once on one handle. Changing calls run one after the
 *          other (a batch uses options->threads workers); searches and lookups run beside them and
 *          see each change whole: the old vector of a key or the new one, never both or neither.
 *          nphd_sharded_free() must not meet other calls.
 * Forks    a handle that writes belongs to the process that opened it. In a child made by fork()
 *          calls that change, commit, save, prepare or wait answer NPHD_FORKED; those that look
 *          work on the state of the fork, or answer NPHD_FORKED (nphd_sharded_size(): 0) when
 *          another thread was in the middle of a change; close and free let go of memory and
 *          descriptors, and write and wait for nothing. A read-only handle goes on in the child.
 * Descriptors  a handle that writes holds two (the directory and its lock) and one for each file of
 *          the journal; a read-only one holds one. Mapped shards take none. */
#ifndef NPHD_SHARDED_H
#define NPHD_SHARDED_H

#include <nphd/index.h>
#include <nphd/index_file.h>
#include <nphd/index_radius.h>
#include <nphd/index_search.h>
#include <nphd/log.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nphd_sharded nphd_sharded;

/** How to open a directory. Zero in a field means its default, or what the files say. */
typedef struct nphd_sharded_options {
    size_t struct_size;
    uint32_t max_bits; /* must equal that of the files, likewise the next three; new: 256 */
    uint32_t key_bits; /* new: 64 */
    nphd_metric metric;
    uint32_t connectivity;          /* new: 16; else that of the files, which is logged */
    uint32_t multi;                 /* 0: as the files say, new: single; 1: single; 2: multi */
    uint32_t build_breadth;         /* 0: as the files say, else 128 */
    uint32_t search_breadth;        /* 0: as the files say, else 64 */
    uint64_t shard_bytes;           /* a shard is full when its file, our trailer aside, exceeds
                                       this; 0: 1 GiB */
    bool no_bloom;                  /* keep no bloom filter, and remove the file at the next save */
    bool read_only;                 /* change nothing: no file, no lock, no temporary file */
    bool background_rotation;       /* full shards are written by a thread of the index */
    uint32_t max_pending_rotations; /* full shards in memory that wait to be written; 0: 2 */
    bool journal;                   /* commits are written to a journal; else a commit is a save */
    bool commit_each_call;          /* every changing call commits before it returns; journal.
                                       When that fails its error is the call's, though the change
                                       was made: nphd_sharded_commit() */
    uint32_t commit_interval_ms;    /* changes are committed every so often; 0: never; journal */
    uint32_t threads;               /* workers that replay the journal at opening; 0: 1 */
    bool salvage;                   /* open what can be read; `damage` is told what is missing */
    nphd_damage damage;             /* NULL: damage found by salvage goes to the log alone */
    void *damage_context;
    nphd_logger logger; /* NULL: warnings and errors to standard error */
    void *logger_context;
    const nphd_allocator *allocator; /* NULL: malloc and mmap; must outlive the handle */
    const nphd_io *io;               /* NULL: files of the operating system; likewise */
    bool tables; /* full shards are written with hash tables, see nphd_index_prepare(); half as
                    large again they find what is within a small radius many times faster */
    bool reference_wrote_last; /* the files are as the reference saved them, whatever of ours beside
                                  them says otherwise; a journal is not applied */
    bool reset_keeps_files; /* a reset is no order to delete: closing after one, with nothing stored
                               since, leaves the files as they are; else it empties them. Without
                               `journal` others may open the directory for writing after one: the
                               next change, save or snapshot locks it again, and fails with
                               NPHD_BUSY while they have it, NPHD_CHANGED if they changed it */
    nphd_progress progress; /* of the opening alone, in millionths; where a reader meets a writer
                               at work it begins again from 0 */
    void *progress_context;
} nphd_sharded_options;

#ifdef __cplusplus
#define NPHD_SHARDED_OPTIONS_INIT                                                                  \
    {                                                                                              \
        sizeof(nphd_sharded_options), 0, 0, NPHD_METRIC_DEFAULT, 0, 0, 0, 0, 0, false, false,      \
            false, 0, false, false, 0, 0, false, NULL, NULL, NULL, NULL, NULL, NULL, false, false, \
            false, NULL, NULL                                                                      \
    }
#else
#define NPHD_SHARDED_OPTIONS_INIT                                                                  \
    {                                                                                              \
        .struct_size = sizeof(nphd_sharded_options)                                                \
    }
#endif

/** The default of nphd_sharded_options.shard_bytes. */
#define NPHD_DEFAULT_SHARD_BYTES (1ULL << 30)

/**
 * Open a directory, creating it (and missing parents) unless read_only.
 *
 * What the files hold is taken from them: parameters, keys, deletions. Temporary files of an
 * interrupted write are deleted, a missing, damaged or outdated bloom filter is made anew, both
 * with a warning in the log; read_only does neither. Directories of the reference are opened by
 * its conventions. Nothing is written before the first save or rotation.
 *
 * Returns  NPHD_OK with *out, to be closed with nphd_sharded_close() and freed with
 *          nphd_sharded_free().
 * Errors   NPHD_INVALID_ARGUMENT: an option out of range. NPHD_MISMATCH: an option or a shard
 *          contradicts the other shards, or the files do not agree whether the reference saved last
 *          (options->reference_wrote_last decides); the text names both. NPHD_NOT_FOUND: read_only
 * and no shard there. NPHD_BUSY: another handle or process has the directory open for writing.
 *          NPHD_CORRUPT: a shard or the tombstone file is damaged or missing; the text names it,
 *          and salvage opens the rest. NPHD_UNSUPPORTED, NPHD_IO, NPHD_OUT_OF_MEMORY.
 *          NPHD_CANCELLED by options->progress: there is no handle and no lock, and the directory
 *          opens with the same state as before.
 * Threads  any. options->progress is called by the calling thread.
 */
NPHD_API nphd_status nphd_sharded_open(const char *path, const nphd_sharded_options *options,
                                       nphd_sharded **out, nphd_error *err);

/**
 * Finish: wait for rotations, save what is not saved, let the lock go. Afterwards every other call
 * answers NPHD_CLOSED; a second close does nothing and returns NPHD_OK.
 *
 * Errors   as nphd_sharded_save(). The index then stays open with all its data, and close may be
 *          tried again.
 */
NPHD_API nphd_status nphd_sharded_close(nphd_sharded *sharded, nphd_error *err);

/**
 * Free the handle; takes NULL. Without nphd_sharded_close() before it, it saves and commits
 * nothing: what neither a save, a finished rotation nor a commit made durable is lost.
 *
 * A rotation or a commit by time that is being written is finished first, and no other one begun:
 * with commit_interval_ms the changes since the last commit are lost. With commit_each_call no
 * change of vectors is lost whose call returned NPHD_OK.
 * Threads  none may use the handle.
 */
NPHD_API void nphd_sharded_free(nphd_sharded *sharded);

/**
 * Store one vector. A key that is present in any shard keeps its vector, whether or not a rotation
 * happened in between (unless the index is multi).
 *
 * Shapes, Errors  as nphd_index_add(), and NPHD_CLOSED. NPHD_READ_ONLY: opened read_only. A full
 *          shard that cannot be written: its error, with *out_added true; the vector is there, the
 *          full shard stays in memory, and the next rotation, save or drain tries again. A failure
 *          of a background rotation is reported by the next call that adds, replaces or removes,
 * which then does nothing.
 */
NPHD_API nphd_status nphd_sharded_add(nphd_sharded *sharded, nphd_key key, nphd_vector vector,
                                      bool *out_added, nphd_error *err);

/**
 * Store many vectors, as nphd_sharded_add() for each in order; the first of equal keys wins.
 *
 * All arguments are checked before the first vector is stored. A batch is taken in parts, each
 * whole or not at all, with rotations in between; on an error *out_added says how many vectors of
 * the parts before were stored.
 *
 * Shapes   keys: `count` keys, or NULL for automatic keys (64-bit keys only), from a counter that
 *          survives rotations and reopening, passing over keys in use. out_keys: NULL, or room for
 *          `count` keys: the key of each vector. out_added may be NULL.
 *          After an error out_keys names the first *out_added automatic ones.
 * Errors   as nphd_index_add_many() and nphd_sharded_add(). NPHD_CANCELLED: between two parts, or
 *          while the last shard is read or a full one written or waited for; a full shard stays in
 *          memory then, and the next rotation, save or drain writes it.
 */
NPHD_API nphd_status nphd_sharded_add_many(nphd_sharded *sharded, const nphd_key *keys,
                                           const nphd_vector *vectors, size_t count,
                                           const nphd_batch_options *options, nphd_key *out_keys,
                                           size_t *out_added, nphd_error *err);

/**
 * Store the vectors whose keys are absent; the first of equal keys wins. Unlike
 * nphd_sharded_add_many() also in a multi index, and it tells which were stored.
 *
 * Shapes   keys, vectors: `count` each. out_stored: NULL, or room for `count` answers.
 */
NPHD_API nphd_status nphd_sharded_add_once(nphd_sharded *sharded, const nphd_key *keys,
                                           const nphd_vector *vectors, size_t count,
                                           const nphd_batch_options *options, bool *out_stored,
                                           size_t *out_added, nphd_error *err);

/**
 * Store vectors, replacing what their keys had in any shard; the last of equal keys wins. Lengths
 * may change. An equal vector is replaced too. Each added key counts 1 in dirty, each replaced 2.
 *
 * Errors   as nphd_sharded_add_many(); NPHD_UNSUPPORTED on a multi index.
 */
NPHD_API nphd_status nphd_sharded_upsert(nphd_sharded *sharded, const nphd_key *keys,
                                         const nphd_vector *vectors, size_t count,
                                         const nphd_batch_options *options,
                                         nphd_upsert_counts *out_counts, nphd_error *err);

/**
 * Remove the vectors of keys. Absent keys do nothing, repeated ones count once.
 *
 * Returns  NPHD_OK with *out_removed keys removed (may be NULL).
 * Errors   NPHD_UNSUPPORTED: the index is multi. NPHD_READ_ONLY, NPHD_CLOSED, NPHD_OUT_OF_MEMORY,
 *          NPHD_INVALID_ARGUMENT: a key too wide. On these nothing is removed.
 *          With commit_each_call also those of nphd_sharded_commit(): the keys are removed then,
 *          as *out_removed says, and the next commit or save makes that durable.
 */
NPHD_API nphd_status nphd_sharded_remove(nphd_sharded *sharded, const nphd_key *keys, size_t count,
                                         size_t *out_removed, nphd_error *err);

/** Is the key present? As nphd_index_contains(); NPHD_CLOSED. */
NPHD_API nphd_status nphd_sharded_contains(nphd_sharded *sharded, nphd_key key, bool *out,
                                           nphd_error *err);

/** Are the keys present? As nphd_index_contains_many(); NPHD_CLOSED. */
NPHD_API nphd_status nphd_sharded_contains_many(nphd_sharded *sharded, const nphd_key *keys,
                                                size_t count, bool *out, nphd_error *err);

/** How many vectors has the key? 0 or 1 unless multi. As nphd_index_count(); NPHD_CLOSED. */
NPHD_API nphd_status nphd_sharded_count(nphd_sharded *sharded, nphd_key key, size_t *out,
                                        nphd_error *err);

/** Copy out the vector of a key. As nphd_index_get(); NPHD_CLOSED. */
NPHD_API nphd_status nphd_sharded_get(nphd_sharded *sharded, nphd_key key, uint8_t *out,
                                      size_t capacity, size_t *out_bytes, nphd_error *err);

/** Copy out all vectors of a key. As nphd_index_get_all(); NPHD_CLOSED. */
NPHD_API nphd_status nphd_sharded_get_all(nphd_sharded *sharded, nphd_key key, uint8_t *out,
                                          size_t *out_bytes, size_t capacity, size_t *out_count,
                                          nphd_error *err);

/** Copy out the vectors of many keys. As nphd_index_get_many(); NPHD_CLOSED. */
NPHD_API nphd_status nphd_sharded_get_many(nphd_sharded *sharded, const nphd_key *keys,
                                           size_t count, uint8_t *out, size_t *out_bytes,
                                           nphd_error *err);

/**
 * Find the vectors nearest to `query` in all shards.
 *
 * As nphd_index_search(). An exact answer is the same for every distribution over shards. With
 * NPHD_SEARCH_AUTO the number of vectors of the whole index decides. options->threads workers
 * share the shards.
 *
 * Errors   as nphd_index_search(); NPHD_CLOSED.
 */
NPHD_API nphd_status nphd_sharded_search(nphd_sharded *sharded, nphd_vector query, size_t capacity,
                                         const nphd_search_options *options, nphd_match *out,
                                         nphd_search_report *report, nphd_error *err);

/** Answer many queries. As nphd_index_search_many(); NPHD_CLOSED. Each query sees one state of the
 *  index; changes and a refresh may come in between two of them. */
NPHD_API nphd_status nphd_sharded_search_many(nphd_sharded *sharded, const nphd_vector *queries,
                                              size_t query_count, size_t capacity,
                                              const nphd_search_options *options, nphd_match *out,
                                              nphd_search_report *reports, nphd_error *err);

/**
 * Make ready for exact searches, shard by shard. As nphd_index_prepare(): the tables of shards on
 * disk stay in memory until the index is closed or a reader refreshes; see the option `tables` for
 * tables in files.
 *
 * Errors   as nphd_index_prepare(); NPHD_CLOSED.
 * Threads  any; waits for rotations and calls that change the index, and such calls for it.
 *          Searches go on meanwhile.
 */
NPHD_API nphd_status nphd_sharded_prepare(nphd_sharded *sharded, uint32_t threads, nphd_error *err);

/** As nphd_sharded_prepare(), with options as for nphd_index_prepare_with(). NPHD_CANCELLED: the
 * shards before are ready, the others not. */
NPHD_API nphd_status nphd_sharded_prepare_with(nphd_sharded *sharded,
                                               const nphd_batch_options *options, nphd_error *err);

/** All vectors within a radius. As nphd_index_radius(); NPHD_CLOSED. */
NPHD_API nphd_status nphd_sharded_radius(nphd_sharded *sharded, const nphd_vector *queries,
                                         size_t query_count, float radius, size_t capacity,
                                         const nphd_search_options *options, nphd_match *out,
                                         nphd_search_report *reports, nphd_error *err);

/** The same, handed to a callback. As nphd_index_radius_stream(); NPHD_CLOSED. */
NPHD_API nphd_status nphd_sharded_radius_stream(nphd_sharded *sharded, const nphd_vector *queries,
                                                size_t query_count, float radius,
                                                const nphd_search_options *options,
                                                nphd_match_sink sink, void *context,
                                                nphd_search_report *reports, nphd_error *err);

/** A place in a sharded index while going through it. */
typedef struct nphd_sharded_cursor {
    nphd_sharded *sharded;
    uint64_t shard; /* private: the shard to look at next */
    uint64_t next;  /* private: and the slot in it */
    uint64_t moves; /* private: merges of shards that these two know of */
} nphd_sharded_cursor;

/** Set a cursor before the first vector. It holds no memory and needs no close. Threads: any. */
NPHD_API nphd_sharded_cursor nphd_sharded_cursor_begin(nphd_sharded *sharded);

/**
 * Step to the next vector: shard by shard from the oldest, in each in the order of its file.
 *
 * Shapes, Returns  as nphd_cursor_next(); NPHD_CLOSED.
 * Threads  any, each with a cursor of its own. A vector that is there all the while is met once,
 *          also when its shard rotates meanwhile; when nphd_sharded_compact() moves it, once or
 *          not at all.
 */
NPHD_API nphd_status nphd_sharded_cursor_next(nphd_sharded_cursor *cursor, nphd_key *out_key,
                                              uint8_t *out, size_t *out_bytes, nphd_error *err);

/**
 * Make every change durable: bloom filter, active shard, tombstones, in this order. Waits for
 * rotations first and tries failed ones again. Writes nothing when nothing changed. A save of more
 * than a second is told to the log at NPHD_LOG_INFO, with the name and size of the shard.
 *
 * Returns  NPHD_OK; dirty is then 0.
 * Errors   NPHD_IO, NPHD_NO_SPACE: all data is still there, in memory or in the files before; a
 *          later save tries again. NPHD_DURABILITY_UNKNOWN: a file is in place but its directory
 *          could not be flushed. NPHD_CANCELLED: as before, and never once the new shard is in
 *          place. NPHD_READ_ONLY, NPHD_CLOSED, NPHD_OUT_OF_MEMORY.
 */
NPHD_API nphd_status nphd_sharded_save(nphd_sharded *sharded, const nphd_batch_options *options,
                                       nphd_error *err);

/**
 * Make every change so far durable at a cost proportional to the changes since the last commit or
 * save: they are appended to the journal as one frame, which is flushed. The next opening applies
 * them onto the last save. Threads that commit at once share one flush.
 *
 * A commit after which the journals are longer than 1 MiB and than twice the file of the active
 * shard and the bloom filter together saves as well, which ends them: it takes as long as
 * nphd_sharded_save(), at most the time to write a shard of shard_bytes. That such a save fails is
 * told to the log alone, as the journal is durable. It waits for no rotation.
 *
 * Without options.journal, and after a flush of the journal failed, a commit is a save. The
 * reference does not know the journal and sees the last save.
 *
 * Errors   NPHD_IO, NPHD_NO_SPACE: it is unknown which of the changes since the last commit are
 *          durable; all of them are still in memory, and the next commit saves everything anew.
 *          Else as nphd_sharded_save().
 */
NPHD_API nphd_status nphd_sharded_commit(nphd_sharded *sharded, nphd_error *err);

/**
 * End the active shard now, whatever its size; nothing happens when it is empty. With background
 * rotation the call returns before the shard is written. Errors: as nphd_sharded_save(). */
NPHD_API nphd_status nphd_sharded_rotate(nphd_sharded *sharded, nphd_error *err);

/**
 * Wait until no rotation is pending, trying failed ones again, once.
 *
 * Units    timeout_ms: milliseconds; UINT64_MAX: without limit.
 * Errors   NPHD_TIMEOUT: the text says how many are pending. The error of a write that failed
 *          again; its data stays in memory.
 */
NPHD_API nphd_status nphd_sharded_drain(nphd_sharded *sharded, uint64_t timeout_ms,
                                        nphd_error *err);

/**
 * Rebuild shards without their dead entries and merge neighbours that have become small, shard by
 * shard: memory for about one shard. Saves first, and leaves every step durable, so that a crash
 * at any moment loses nothing; the rest is done by the next call.
 *
 * Returns  NPHD_OK with *out_removed dead entries dropped (may be NULL).
 * Errors   as nphd_sharded_save(); NPHD_CANCELLED: the shards before are rebuilt, the one under way
 *          is as it was. options->progress is told of shards.
 */
NPHD_API nphd_status nphd_sharded_compact(nphd_sharded *sharded, const nphd_batch_options *options,
                                          uint64_t *out_removed, nphd_error *err);

/**
 * Make the bloom filter anew from the keys that are present, and save. Does nothing, with
 * *out_keys 0, when the filter is off.
 *
 * Errors   as nphd_sharded_save(); NPHD_CANCELLED by options->progress, which is told of
 * millionths: the filter is the old one, or the new one that is not saved yet. options may be NULL.
 */
NPHD_API nphd_status nphd_sharded_rebuild_bloom_with(nphd_sharded *sharded,
                                                     const nphd_batch_options *options,
                                                     uint64_t *out_keys, nphd_error *err);

/** As nphd_sharded_rebuild_bloom_with(), without options. */
NPHD_API nphd_status nphd_sharded_rebuild_bloom(nphd_sharded *sharded, uint64_t *out_keys,
                                                nphd_error *err);

/**
 * Remove everything. The next save makes it durable in one step and deletes the files; until then
 * a crash brings the last save back, unless the reset was committed to a journal. Parameters stay,
 * automatic keys begin at 0 again. Shards that wait for their rotation are dropped unwritten, so
 * that it succeeds also where none can be written.
 *
 * Errors   NPHD_READ_ONLY, NPHD_CLOSED, NPHD_OUT_OF_MEMORY: nothing is removed. With
 *          commit_each_call those of nphd_sharded_commit(), as for nphd_sharded_remove().
 */
NPHD_API nphd_status nphd_sharded_reset(nphd_sharded *sharded, nphd_error *err);

/**
 * Move a read_only handle to the newest state of the files, whole: the last save, rotation or
 * commit of the writer. It waits for the queries and lookups under way, which finish on the state
 * before; what nphd_sharded_search_many() has not begun by then is answered from the new one.
 *
 * Shapes   options: NULL, or who is asked whether to go on; `threads` replay the journal, 0: as
 *          many as at opening.
 * Returns  NPHD_OK with *out_changed (may be NULL); nothing happens on a writing handle.
 * Errors   as nphd_sharded_open(), NPHD_CANCELLED among them; the handle then stays on the state it
 *          had, and the next refresh moves it.
 * Threads  any. options->progress is called by the calling thread.
 */
NPHD_API nphd_status nphd_sharded_refresh_with(nphd_sharded *sharded,
                                               const nphd_batch_options *options, bool *out_changed,
                                               nphd_error *err);

/** As nphd_sharded_refresh_with(), without options. */
NPHD_API nphd_status nphd_sharded_refresh(nphd_sharded *sharded, bool *out_changed,
                                          nphd_error *err);

/**
 * Make a copy of the directory that opens with exactly the state of this moment. A writing handle
 * saves first; a read_only one copies the newest state, whatever another process writes meanwhile.
 * Files are shared by hard links where the file system can, as they never change in place.
 *
 * Shapes   path: a directory that does not exist yet, or is empty. options: NULL, or who is asked
 *          whether to go on, and told of millionths.
 * Errors   NPHD_EXISTS: there is something in it, or a file of that name. NPHD_BUSY: the files kept
 *          changing, or another snapshot to it is being made. NPHD_CANCELLED. Else as
 *          nphd_sharded_save(). After them there is no such copy, or an empty directory as before.
 *          NPHD_DURABILITY_UNKNOWN: it is there and whole, but perhaps not after a power cut.
 *
 * It is made as `path`.snapshot.tmp and renamed when it is whole. What an interrupted one left
 * there is removed by the next one to `path`. Where `path` is an empty file system of its own, or
 * the I/O table has no `remove_directory`, it is made in place: what is left of an interrupted one
 * then does not open until all shards are there (but in a directory that the reference saved last,
 * where nothing lists them).
 */
NPHD_API nphd_status nphd_sharded_snapshot_with(nphd_sharded *sharded, const char *path,
                                                const nphd_batch_options *options, nphd_error *err);

/** As nphd_sharded_snapshot_with(), without options. */
NPHD_API nphd_status nphd_sharded_snapshot(nphd_sharded *sharded, const char *path,
                                           nphd_error *err);

/** What nphd_directory_salvage() found. */
typedef struct nphd_salvage_report {
    uint64_t vectors;    /* in the new directory */
    uint64_t unreadable; /* entries in damaged blocks */
    uint64_t files;      /* damaged or missing */
} nphd_salvage_report;

/** How to salvage. All zero: files of the operating system, nobody is told. */
typedef struct nphd_salvage_options {
    size_t struct_size;
    nphd_damage damage; /* NULL: the log, which goes to standard error, tells of it */
    void *damage_context;
    const nphd_io *io;      /* NULL: files of the operating system */
    nphd_progress progress; /* in millionths of the work */
    void *progress_context;
} nphd_salvage_options;

#ifdef __cplusplus
#define NPHD_SALVAGE_OPTIONS_INIT                                                                  \
    {                                                                                              \
        sizeof(nphd_salvage_options), NULL, NULL, NULL, NULL, NULL                                 \
    }
#else
#define NPHD_SALVAGE_OPTIONS_INIT                                                                  \
    {                                                                                              \
        .struct_size = sizeof(nphd_salvage_options)                                                \
    }
#endif

/**
 * Build a clean directory from what can be read of a damaged one: every vector whose bytes lie in
 * undamaged blocks. Deletions hold as far as they can be read. The source is not changed.
 *
 * Shapes   path: the damaged directory. new_path: does not exist yet, or is empty. options: may be
 *          NULL; its `damage` is called for each thing that is missing.
 * Errors   NPHD_EXISTS, NPHD_IO, NPHD_NO_SPACE, NPHD_OUT_OF_MEMORY; NPHD_NOT_FOUND: nothing can be
 *          read at all. NPHD_CANCELLED by options->progress. On an error what was made is removed
 *          again, as far as that is possible, and an empty directory stays.
 * Threads  any. `damage` and `progress` are called by the calling thread.
 */
NPHD_API nphd_status nphd_directory_salvage_with(const char *path, const char *new_path,
                                                 const nphd_salvage_options *options,
                                                 nphd_salvage_report *out, nphd_error *err);

/** As nphd_directory_salvage_with(), without asking anybody. io and damage may be NULL. */
NPHD_API nphd_status nphd_directory_salvage(const char *path, const char *new_path,
                                            const nphd_io *io, nphd_damage damage,
                                            void *damage_context, nphd_salvage_report *out,
                                            nphd_error *err);

/** The state of a sharded index at one moment. */
typedef struct nphd_sharded_stats {
    size_t struct_size;          /* set by the INIT macro */
    uint64_t size;               /* vectors that can be found */
    uint64_t dirty;              /* vectors added and removed since the last save */
    uint64_t dead;               /* entries of view shards that are deleted or replaced */
    uint64_t tombstones;         /* keys deleted whose old entry is still in a view shard */
    uint64_t view_shards;        /* shards that take no more writes, pending ones included */
    uint64_t active_vectors;     /* vectors in the active shard */
    uint64_t pending_rotations;  /* full shards that are not on disk yet */
    uint64_t files;              /* shard files on disk */
    uint64_t disk_bytes;         /* of all files of the index, journals included */
    uint64_t memory_bytes;       /* memory held, without mappings */
    uint64_t mapped_bytes;       /* bytes of files mapped */
    uint64_t active_bytes;       /* size of the active shard's file if it were written now */
    uint64_t active_capacity;    /* vectors that the active shard has memory for */
    uint64_t bloom_keys;         /* adds that the bloom filter has seen */
    uint64_t bloom_bytes;        /* memory of the bloom filter; 0: none */
    uint64_t generation;         /* of the last save or rotation; 0 before the first */
    uint64_t next_automatic_key; /* 64-bit keys */
    uint64_t shard_bytes;
    uint32_t max_bits;
    uint32_t key_bits;
    nphd_metric metric;
    uint32_t connectivity;
    uint32_t build_breadth;
    uint32_t search_breadth;
    bool multi;
    bool read_only;
    bool bloom;         /* a bloom filter is in use */
    bool verified;      /* every file has checksums of ours */
    uint64_t unapplied; /* journals that were not applied, as the reference had saved since, and may
                           have changes that nothing else has: those that opening found, by their
                           name or (after the next save) as `journal_*.unapplied` */
} nphd_sharded_stats;

#ifdef __cplusplus
#define NPHD_SHARDED_STATS_INIT                                                                    \
    {                                                                                              \
        sizeof(nphd_sharded_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,    \
            NPHD_METRIC_DEFAULT, 0, 0, 0, false, false, false, false, 0                            \
    }
#else
#define NPHD_SHARDED_STATS_INIT                                                                    \
    {                                                                                              \
        .struct_size = sizeof(nphd_sharded_stats)                                                  \
    }
#endif

/** Fill in the stats. Errors: NPHD_CLOSED, NPHD_CORRUPT. Threads: any. */
NPHD_API nphd_status nphd_sharded_get_stats(nphd_sharded *sharded, nphd_sharded_stats *out,
                                            nphd_error *err);

/** One shard, as nphd_sharded_shards() tells of it. */
typedef struct nphd_shard_info {
    uint64_t number;     /* as in shard_003.usearch */
    uint64_t vectors;    /* that can be found */
    uint64_t dead;       /* deleted or replaced, still in the file */
    uint64_t slots;      /* places in the file */
    uint64_t file_bytes; /* 0: not on disk */
    uint64_t generation; /* of its file; 0: a reference file, or none */
    bool active;
    bool pending;  /* full, not on disk yet */
    bool verified; /* has checksums of ours */
    bool tables;   /* hash tables cover every vector: in its file, or made in memory */
} nphd_shard_info;

/**
 * Tell of every shard, oldest first, the active one last.
 *
 * Shapes   out: room for `capacity` shards; *out_count: how many there are.
 * Errors   NPHD_TOO_SMALL: *out_count says what is needed. NPHD_CLOSED.
 */
NPHD_API nphd_status nphd_sharded_shards(nphd_sharded *sharded, nphd_shard_info *out,
                                         size_t capacity, size_t *out_count, nphd_error *err);

/** Vectors that can be found, exact at all times; 0 when closed. Threads: any. */
NPHD_API uint64_t nphd_sharded_size(nphd_sharded *sharded);

/** Vectors really added plus really removed since the last save; a rotation does not reset it. */
NPHD_API uint64_t nphd_sharded_dirty(nphd_sharded *sharded);

/** Widest vector in bytes, max_bits/8. Threads: any. */
NPHD_API size_t nphd_sharded_max_bytes(const nphd_sharded *sharded);

/**
 * Tell of which type the codes are that are added. As nphd_index_set_unit(); it is durable with the
 * next commit or save, together with the codes. nphd_sharded_reset() forgets it. NPHD_CLOSED,
 * NPHD_OUT_OF_MEMORY; NPHD_READ_ONLY unless the files say this type. With commit_each_call those of
 * nphd_sharded_commit().
 */
NPHD_API nphd_status nphd_sharded_set_unit(nphd_sharded *sharded, nphd_unit unit, bool mix,
                                           nphd_error *err);

/** The type of the codes; NPHD_UNIT_NONE: not known, or closed. Threads: any. */
NPHD_API nphd_unit nphd_sharded_unit(nphd_sharded *sharded);

/** Set the breadths of all shards from now on; 0 leaves one as it is. Kept at the next save. */
NPHD_API nphd_status nphd_sharded_set_breadth(nphd_sharded *sharded, uint32_t build_breadth,
                                              uint32_t search_breadth, nphd_error *err);

/**
 * Read the header of the first shard of a directory. As nphd_file_metadata(); NPHD_NOT_FOUND: no
 * such directory, or no shard in it.
 */
NPHD_API nphd_status nphd_directory_metadata(const char *path, const nphd_io *io,
                                             nphd_metadata *out, nphd_error *err);

/** What nphd_directory_verify() read. */
typedef struct nphd_directory_report {
    uint64_t files;
    uint64_t file_bytes;
    uint64_t damaged_files;
    uint64_t unverified_files; /* without checksums: only their structure was checked */
    uint64_t blocks;
    uint64_t damaged_blocks;
} nphd_directory_report;

/**
 * Read every file of a directory and check all of it, as nphd_file_verify_with() does for one, and
 * that the files belong together. Changes nothing. options may be NULL; out may be NULL.
 *
 * `damage` is also called for what is no damage and worth a word: a last commit that is not whole,
 * as a power cut leaves it, or as it looks when the end of the journal is missing; and a journal
 * that was put aside, not applied.
 *
 * Returns  NPHD_OK when all is well. Errors: NPHD_CORRUPT: the text names the first damage, and
 *          `damage` is called for each. NPHD_NOT_FOUND, NPHD_IO, NPHD_OUT_OF_MEMORY.
 *          NPHD_CANCELLED by options->progress, whatever was found until then, which `damage` was
 *          told of.
 * Threads  any; options->threads workers share each file.
 */
NPHD_API nphd_status nphd_directory_verify_with(const char *path,
                                                const nphd_verify_options *options,
                                                nphd_directory_report *out, nphd_error *err);

/** As nphd_directory_verify_with() with one thread. damage may be NULL. */
NPHD_API nphd_status nphd_directory_verify(const char *path, const nphd_io *io, nphd_damage damage,
                                           void *damage_context, nphd_directory_report *out,
                                           nphd_error *err);

#ifdef __cplusplus
}
#endif

#endif
