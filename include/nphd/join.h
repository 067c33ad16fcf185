/* All pairs within a radius, inside one index or between two. */
#ifndef NPHD_JOIN_H
#define NPHD_JOIN_H

#include <nphd/index_search.h>
#include <nphd/sharded.h>

#ifdef __cplusplus
extern "C" {
#endif

/** One side of a join: an index or a sharded one; the other is NULL. */
typedef struct nphd_join_side {
    nphd_index *index;
    nphd_sharded *sharded;
} nphd_join_side;

typedef struct nphd_pair {
    nphd_key left;
    nphd_key right;
    float distance; /* as a match's */
} nphd_pair;

/** Takes pairs. Returns 0 to go on; anything else ends the call. */
typedef int (*nphd_pair_sink)(void *context, const nphd_pair *pairs, size_t count);

/** How to join. All zero: the calling thread, some 9 MB of memory. */
typedef struct nphd_join_options {
    size_t struct_size;
    uint32_t threads;       /* workers; 0 and 1: the calling thread alone */
    uint32_t batch;         /* left vectors looked up together, at most 65536; 0: 4096 */
    nphd_progress progress; /* of left vectors done, between batches and now and then in one */
    void *progress_context;
    uint64_t limit; /* most pairs; 0: all. The report says whether there are more. Equal vectors
                       are pairs of each with each: 100,000 of them are 5 billion */
    bool mix_units; /* sides whose codes are of different types are joined all the same */
} nphd_join_options;

#ifdef __cplusplus
#define NPHD_JOIN_OPTIONS_INIT                                                                     \
    {                                                                                              \
        sizeof(nphd_join_options), 0, 0, NULL, NULL, 0, false                                      \
    }
#else
#define NPHD_JOIN_OPTIONS_INIT                                                                     \
    {                                                                                              \
        .struct_size = sizeof(nphd_join_options)                                                   \
    }
#endif

typedef struct nphd_join_report {
    uint64_t vectors; /* of the left side, looked up; all of their pairs were handed over */
    uint64_t pairs;   /* handed over */
    bool more;        /* there are pairs beyond the limit, or the sink ended the call */
} nphd_join_report;

/**
 * Hand all pairs of stored vectors that are at most `radius` apart to `sink`. Always exact.
 *
 * Inside one index (`right` NULL) each pair of two vectors comes once: with left < right, or, of
 * two vectors of one key in a multi index, with left == right; a vector is no pair with itself.
 * Between two each pair of a left and a right vector comes once; an index joined with itself in
 * this way gives each pair in both orders, and each vector with itself. A vector without any bits,
 * which files of others may hold, is passed over on the left side.
 *
 * Pairs come in the order of the left side's cursor, those of one left vector by distance, then
 * right key: the same for any number of threads and any batch. Of a pair of two vectors of one key
 * the left one is that which the cursor meets first.
 *
 * Memory is some 2 kB for each vector of a batch and 1 MB for each worker, whatever the number of
 * pairs: a batch that has too many of them is cut. A vector with more matches than a whole batch
 * has room for (64 for each of its vectors, at least 4096) is looked up once for each such number
 * of them.
 *
 * Where the left side has many vectors the right one is made ready first, as by
 * nphd_index_prepare(), and stays so.
 *
 * Shapes   both sides: same metric, width and key width. options, report: may be NULL.
 * Units    radius: as a match's distance, itself included; INFINITY: no limit.
 * Returns  NPHD_OK, also when the sink ended the call; then report->more is set.
 * Errors   NPHD_INVALID_ARGUMENT: a side with none or two, sides that do not fit each other, a
 *          radius below 0 or (NPHD) above 1. NPHD_MISMATCH: their codes are of different types
 *          (nphd_index_set_unit()), neither NPHD_UNIT_NONE nor NPHD_UNIT_MIXED; the text names
 *          both. NPHD_CANCELLED by progress. Else as
 *          nphd_index_search_many(). What was handed over before an error stands, and the report
 *          tells of it.
 * Threads  any number of joins and searches at once. Vectors that other threads add, replace or
 *          remove meanwhile are in or not. The sink is called by the calling thread, without any
 *          lock: it may look up and search in both sides.
 */
NPHD_API nphd_status nphd_join(const nphd_join_side *left, const nphd_join_side *right,
                               float radius, const nphd_join_options *options, nphd_pair_sink sink,
                               void *context, nphd_join_report *report, nphd_error *err);

/** A join whose pairs are asked for. */
typedef struct nphd_pairs nphd_pairs;

/**
 * Begin a join whose pairs nphd_pairs_next() gives, a number of them at a time: the same ones in
 * the same order as nphd_join() gives, in the same memory.
 *
 * Returns  NPHD_OK with *out, to be closed with nphd_pairs_close(); both sides stay open until
 * then. Errors   as nphd_join(); *out is NULL.
 */
NPHD_API nphd_status nphd_pairs_open(const nphd_join_side *left, const nphd_join_side *right,
                                     float radius, const nphd_join_options *options,
                                     nphd_pairs **out, nphd_error *err);

/**
 * Give the next pairs.
 *
 * Shapes   out: room for `capacity` pairs, 1 or more. report: of all pairs so far; may be NULL.
 * Returns  NPHD_OK with *out_count pairs; fewer than `capacity` are the last ones.
 * Errors   as nphd_join(), and NPHD_INVALID_ARGUMENT: capacity 0, a side was replaced by another
 *          kind of index, or there was an error before. *out_count is 0, and the join over.
 * Threads  one at a time for each of `pairs`. Else as nphd_join(); what changes between two calls
 * is in or not.
 */
NPHD_API nphd_status nphd_pairs_next(nphd_pairs *pairs, nphd_pair *out, size_t capacity,
                                     size_t *out_count, nphd_join_report *report, nphd_error *err);

/** Free it; takes NULL. */
NPHD_API void nphd_pairs_close(nphd_pairs *pairs);

#ifdef __cplusplus
}
#endif

#endif
