/* One index: vectors, their keys and the search graph, in memory or mapped from one file.
 *
 * Threads  any number of threads may search, look up, iterate, add and remove at once on one
 *          handle. Calls that replace the whole content (clear, reset, load, view) and the close
 *          wait for, or must not meet, the others as each of them says.
 * Forks    in a child made by fork() the child's copy goes on working. If another thread was
 *          changing the index at that moment, every call there answers NPHD_FORKED (sizes: 0), and
 *          the close leaves its memory to the process. No call waits for a thread that is not
 *          there. */
#ifndef NPHD_INDEX_H
#define NPHD_INDEX_H

#include <nphd/allocator.h>
#include <nphd/export.h>
#include <nphd/io.h>
#include <nphd/iscc.h>
#include <nphd/status.h>
#include <nphd/vector.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct nphd_index nphd_index;

/** Parameters of an index. Zero in a field means its default. */
typedef struct nphd_index_options {
    size_t struct_size;              /* set by the INIT macro; the library reads this many bytes */
    uint32_t max_bits;               /* widest vector, 8..2040 in steps of 8; 0: 256 */
    uint32_t key_bits;               /* 64 or 128; 0: 64 */
    nphd_metric metric;              /* 0: NPHD */
    uint32_t connectivity;           /* graph links per node and layer, 2..512; 0: 16 */
    uint32_t build_breadth;          /* candidates kept while inserting, 1..65536; 0: 128 */
    uint32_t search_breadth;         /* candidates kept while searching, 1..65536; 0: 64 */
    bool multi;                      /* several vectors may share a key */
    const nphd_allocator *allocator; /* NULL: malloc and mmap; must outlive the index */
    const nphd_io *io;               /* NULL: files of the operating system; likewise */
} nphd_index_options;

#ifdef __cplusplus
#define NPHD_INDEX_OPTIONS_INIT                                                                    \
    {                                                                                              \
        sizeof(nphd_index_options), 0, 0, NPHD_METRIC_DEFAULT, 0, 0, 0, false, NULL, NULL          \
    }
#else
#define NPHD_INDEX_OPTIONS_INIT                                                                    \
    {                                                                                              \
        .struct_size = sizeof(nphd_index_options)                                                  \
    }
#endif

/**
 * Called now and then from a long call, by one thread at a time.
 *
 * `done` of `total` items are finished. Return 0 to go on; anything else ends the call with
 * NPHD_CANCELLED. It must not call into the same index, nor wait for somebody who does.
 */
typedef int (*nphd_progress)(void *context, uint64_t done, uint64_t total);

/** How a batch is worked on. All zero: on the calling thread, without reports. */
typedef struct nphd_batch_options {
    size_t struct_size;
    uint32_t threads; /* worker threads for the call; 0 and 1: the calling thread alone */
    nphd_progress progress;
    void *progress_context;
    bool overwrite; /* nphd_index_save(): also over a file that somebody else put there */
} nphd_batch_options;

#ifdef __cplusplus
#define NPHD_BATCH_OPTIONS_INIT                                                                    \
    {                                                                                              \
        sizeof(nphd_batch_options), 0, NULL, NULL, false                                           \
    }
#else
#define NPHD_BATCH_OPTIONS_INIT                                                                    \
    {                                                                                              \
        .struct_size = sizeof(nphd_batch_options)                                                  \
    }
#endif

/**
 * Create an empty index in memory.
 *
 * Shapes   options: NULL for all defaults.
 * Returns  NPHD_OK with *out, to be closed with nphd_index_close().
 * Errors   NPHD_INVALID_ARGUMENT: an option out of range, named. NPHD_OUT_OF_MEMORY.
 * Threads  any.
 */
NPHD_API nphd_status nphd_index_create(const nphd_index_options *options, nphd_index **out,
                                       nphd_error *err);

/** Free an index and its mapping. Takes NULL. Nothing is saved. Threads: none may use it. */
NPHD_API void nphd_index_close(nphd_index *index);

/**
 * Store one vector under a key.
 *
 * Shapes   vector: 1..max_bits/8 bytes (NPHD), exactly max_bits/8 bytes (Hamming). Copied.
 * Returns  NPHD_OK with *out_added true; or false, nothing changed, when the index is not multi
 *          and has the key already. out_added may be NULL.
 * Errors   NPHD_INVALID_ARGUMENT: a vector of the wrong length, or a key that is reserved or too
 *          wide. NPHD_READ_ONLY: the index is a view. NPHD_OUT_OF_MEMORY, NPHD_FULL. Nothing
 *          changes on an error.
 * Threads  any, beside everything but close. An add that outgrows what is reserved (while there are
 *          few vectors, and then each time that arrays have grown 64-fold) waits for searches and
 *          adds under way, and new ones wait for it; nphd_index_reserve() does that beforehand.
 */
NPHD_API nphd_status nphd_index_add(nphd_index *index, nphd_key key, nphd_vector vector,
                                    bool *out_added, nphd_error *err);

/**
 * Store many vectors. As nphd_index_add() for each in order; the first of equal keys wins.
 *
 * Shapes   keys: `count` keys, or NULL for automatic keys (64-bit keys only): ascending numbers
 *          from a counter that is kept in the file, passing over keys in use.
 *          out_keys: NULL, or room for `count` keys: the key of each vector, also of those that
 *          were there already. out_added: NULL, or the number really stored.
 * Errors   as for one. All arguments are checked before the first vector is stored; on an error
 *          nothing changes. NPHD_CANCELLED: those finished before stay, *out_added says how many.
 * Threads  as for one; options->threads workers share the batch.
 */
NPHD_API nphd_status nphd_index_add_many(nphd_index *index, const nphd_key *keys,
                                         const nphd_vector *vectors, size_t count,
                                         const nphd_batch_options *options, nphd_key *out_keys,
                                         size_t *out_added, nphd_error *err);

/** What an upsert did. */
typedef struct nphd_upsert_counts {
    size_t added;     /* keys that were not there */
    size_t replaced;  /* keys whose vector changed; each adds 2 to dirty */
    size_t unchanged; /* keys that had this very vector */
} nphd_upsert_counts;

/**
 * Store vectors, replacing what their keys had. The last of equal keys in the batch wins. A vector
 * equal to the stored one is left alone. Lengths may change. Readers see the old vector or the new
 * one, never neither.
 *
 * Shapes   keys, vectors: `count` each. out_counts may be NULL.
 * Errors   as nphd_index_add_many(); NPHD_UNSUPPORTED on a multi index.
 * Threads  as nphd_index_add_many().
 */
NPHD_API nphd_status nphd_index_upsert(nphd_index *index, const nphd_key *keys,
                                       const nphd_vector *vectors, size_t count,
                                       const nphd_batch_options *options,
                                       nphd_upsert_counts *out_counts, nphd_error *err);

/**
 * Remove the vectors of keys. Keys that are absent, or repeated in the batch, count once or not
 * at all.
 *
 * Returns  NPHD_OK with *out_removed vectors removed (may be NULL).
 * Errors   NPHD_READ_ONLY: the index is a view. NPHD_INVALID_ARGUMENT: a key too wide.
 * Threads  any, beside everything but close.
 */
NPHD_API nphd_status nphd_index_remove(nphd_index *index, const nphd_key *keys, size_t count,
                                       size_t *out_removed, nphd_error *err);

/**
 * Drop the graph links that lead to removed vectors. Searches then spend no time on them; the
 * room is reused by later adds either way.
 *
 * Errors   NPHD_READ_ONLY.
 * Threads  any; waits for adding threads.
 */
NPHD_API nphd_status nphd_index_isolate(nphd_index *index, nphd_error *err);

/**
 * Give all vectors of one key another key.
 *
 * Errors   NPHD_NOT_FOUND: `from` is absent. NPHD_EXISTS: `to` is present and the index is not
 *          multi. NPHD_INVALID_ARGUMENT: `to` is reserved or too wide. NPHD_READ_ONLY.
 * Threads  any; waits for searches under way.
 */
NPHD_API nphd_status nphd_index_rename(nphd_index *index, nphd_key from, nphd_key to,
                                       nphd_error *err);

/** Remove everything, keep the memory. Errors: NPHD_READ_ONLY. Threads: waits for all others. */
NPHD_API nphd_status nphd_index_clear(nphd_index *index, nphd_error *err);

/**
 * Remove everything, give the memory and any mapping back; the index is then empty, writable and
 * not dirty, with its parameters. The automatic key counter starts again. Threads: waits for all
 * others.
 */
NPHD_API nphd_status nphd_index_reset(nphd_index *index, nphd_error *err);

/**
 * Make an independent index with the same parameters and content, in memory and writable.
 *
 * Errors   NPHD_OUT_OF_MEMORY; NPHD_CORRUPT: the source is a view of a damaged file.
 * Threads  any; adding threads wait.
 */
NPHD_API nphd_status nphd_index_copy(nphd_index *index, nphd_index **out, nphd_error *err);

/** Is the key present? *out is set. Errors: NPHD_CORRUPT (view). Threads: any. */
NPHD_API nphd_status nphd_index_contains(nphd_index *index, nphd_key key, bool *out,
                                         nphd_error *err);

/**
 * Are the keys present? Many at once cost a fraction of as many single calls, since the processor
 * waits for several at a time.
 *
 * Shapes   keys, out: `count` of each; all of out is set, to false on an error.
 * Errors   NPHD_CORRUPT (view).
 * Threads  any.
 */
NPHD_API nphd_status nphd_index_contains_many(nphd_index *index, const nphd_key *keys, size_t count,
                                              bool *out, nphd_error *err);

/** How many vectors has the key? 0 or 1 unless multi. Errors: NPHD_CORRUPT (view). Threads: any. */
NPHD_API nphd_status nphd_index_count(nphd_index *index, nphd_key key, size_t *out,
                                      nphd_error *err);

/**
 * Copy out the vector of a key (of a multi index: its first in the file).
 *
 * Shapes   out: room for `capacity` bytes; max_bits/8 is always enough.
 * Returns  NPHD_OK with *out_bytes, the length that was stored.
 * Errors   NPHD_NOT_FOUND: no such key; *out_bytes is 0. NPHD_TOO_SMALL: *out_bytes says what is
 *          needed. NPHD_CORRUPT (view).
 * Threads  any.
 */
NPHD_API nphd_status nphd_index_get(nphd_index *index, nphd_key key, uint8_t *out, size_t capacity,
                                    size_t *out_bytes, nphd_error *err);

/**
 * Copy out all vectors of a key.
 *
 * Shapes   out: room for `capacity` vectors of max_bits/8 bytes each, vector i at
 *          out + i * max_bits/8; out_bytes: room for `capacity` lengths.
 * Returns  NPHD_OK with *out_count vectors; 0 when the key is absent.
 * Errors   NPHD_TOO_SMALL: *out_count says how many there are. NPHD_CORRUPT (view).
 * Threads  any.
 */
NPHD_API nphd_status nphd_index_get_all(nphd_index *index, nphd_key key, uint8_t *out,
                                        size_t *out_bytes, size_t capacity, size_t *out_count,
                                        nphd_error *err);

/**
 * Copy out the vectors of many keys, in request order.
 *
 * Shapes   out: room for `count` vectors of max_bits/8 bytes each; out_bytes: `count` lengths, 0
 *          for a key that is absent (or whose row, in a file of others, is empty).
 * Errors   NPHD_CORRUPT (view).
 * Threads  any.
 */
NPHD_API nphd_status nphd_index_get_many(nphd_index *index, const nphd_key *keys, size_t count,
                                         uint8_t *out, size_t *out_bytes, nphd_error *err);

/** A place in an index while going through it. */
typedef struct nphd_cursor {
    nphd_index *index;
    uint64_t next; /* private: the slot to look at next */
} nphd_cursor;

/** Set a cursor before the first vector. It holds no memory and needs no close. Threads: any. */
NPHD_API nphd_cursor nphd_index_cursor(nphd_index *index);

/**
 * Step to the next vector: in the order of the file, which is the order of adding until room of
 * removed vectors is reused.
 *
 * Shapes   out_key; out: NULL, or room for max_bits/8 bytes, with *out_bytes the length.
 * Returns  NPHD_OK, or NPHD_NOT_FOUND after the last (without an error text).
 * Threads  any, each with a cursor of its own. A vector that is there all the while is met once;
 *          one that is added, replaced or removed meanwhile is met or not.
 */
NPHD_API nphd_status nphd_cursor_next(nphd_cursor *cursor, nphd_key *out_key, uint8_t *out,
                                      size_t *out_bytes, nphd_error *err);

/** The state of an index at one moment. */
typedef struct nphd_index_stats {
    size_t struct_size;        /* set by the INIT macro */
    uint64_t size;             /* vectors that can be found */
    uint64_t slots;            /* places in use, removed vectors included */
    uint64_t removed;          /* slots - size */
    uint64_t capacity;         /* slots that memory is there for */
    uint64_t dirty;            /* vectors added and removed since the last save, load or reset */
    uint64_t memory_bytes;     /* memory held, without the mapping of a view */
    uint64_t mapped_bytes;     /* bytes of the mapped file or buffer; 0 in memory */
    uint64_t serialized_bytes; /* size of the file that a save would write now, but for an overflow
                                  of its key table (hundreds of vectors under one key, or keys
                                  that were chosen to collide); nphd_index_save_buffer() tells
                                  all of it */
    uint64_t generation;       /* saves behind the content; 0 before the first */
    uint64_t next_automatic_key; /* 64-bit keys */
    uint32_t max_bits;
    uint32_t key_bits;
    nphd_metric metric;
    uint32_t connectivity;
    uint32_t build_breadth;
    uint32_t search_breadth;
    int32_t max_level; /* top layer of the graph; -1 when empty */
    bool multi;
    bool view;     /* mapped and read-only */
    bool verified; /* memory, or a file with checksums of ours; false: a reference file */
    bool tables;   /* hash tables cover every vector, see nphd_index_prepare() */
} nphd_index_stats;

#ifdef __cplusplus
#define NPHD_INDEX_STATS_INIT                                                                      \
    {                                                                                              \
        sizeof(nphd_index_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, NPHD_METRIC_DEFAULT, 0, 0,   \
            0, 0, false, false, false, false                                                       \
    }
#else
#define NPHD_INDEX_STATS_INIT                                                                      \
    {                                                                                              \
        .struct_size = sizeof(nphd_index_stats)                                                    \
    }
#endif

/**
 * Fill in the stats. On a view of a reference file the first call counts the vectors.
 * Errors: NPHD_CORRUPT. Threads: any.
 */
NPHD_API nphd_status nphd_index_get_stats(nphd_index *index, nphd_index_stats *out,
                                          nphd_error *err);

/** Count the links of the lowest graph layer, going over all of it. Errors: NPHD_CORRUPT. Threads:
 * any. */
NPHD_API nphd_status nphd_index_count_edges(nphd_index *index, uint64_t *out, nphd_error *err);

/** Vectors that can be found. On a view of a reference file the first call counts. Threads: any. */
NPHD_API uint64_t nphd_index_size(nphd_index *index);

/** Vectors really added plus really removed since the last save, load, view or reset. */
NPHD_API uint64_t nphd_index_dirty(nphd_index *index);

/** Widest vector in bytes, max_bits/8: the room that one vector needs. Threads: any. */
NPHD_API size_t nphd_index_max_bytes(nphd_index *index);

/**
 * Tell of which type the codes are that are added, before they are. The first type that is told is
 * kept with the index and in its files; codes of others are then an error. Vectors themselves say
 * nothing of their type, so that adding does not ask: whoever never tells has an index of no type.
 *
 * nphd_index_clear() and nphd_index_reset() forget the type; removing the last vector does not.
 *
 * Shapes   unit: NPHD_UNIT_NONE changes nothing. mix: a second type makes it NPHD_UNIT_MIXED, which
 *          every type agrees with from then on.
 * Errors   NPHD_MISMATCH: the index has codes of another type; the text names both, and nothing
 *          changes. NPHD_READ_ONLY: the index is a view, and its file does not say this type.
 *          NPHD_INVALID_ARGUMENT: nphd_unit_is_valid() says no.
 * Threads  any; waits for saves and copies.
 */
NPHD_API nphd_status nphd_index_set_unit(nphd_index *index, nphd_unit unit, bool mix,
                                         nphd_error *err);

/** The type of the codes; NPHD_UNIT_NONE: not known. To be compared with that of a query. Threads:
 * any. */
NPHD_API nphd_unit nphd_index_unit(nphd_index *index);

/** Set the breadth of graph searches and inserts from now on; 0 leaves one as it is. */
NPHD_API nphd_status nphd_index_set_breadth(nphd_index *index, uint32_t build_breadth,
                                            uint32_t search_breadth, nphd_error *err);

/** Set memory aside for so many vectors. Errors: NPHD_OUT_OF_MEMORY, NPHD_FULL, NPHD_READ_ONLY. */
NPHD_API nphd_status nphd_index_reserve(nphd_index *index, uint64_t vectors, nphd_error *err);

#ifdef __cplusplus
}
#endif

#endif
