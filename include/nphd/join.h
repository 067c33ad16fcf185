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

/** How to join. All zero: the calling thread, some megabytes of memory. */
typedef struct nphd_join_options {
    size_t struct_size;
    uint32_t threads;       /* workers; 0 and 1: the calling thread alone */
    uint32_t batch;         /* left vectors that are looked up together; 0: 4096 */
    nphd_progress progress; /* of left vectors done, between batches */
    void *progress_context;
} nphd_join_options;

#ifdef __cplusplus
#define NPHD_JOIN_OPTIONS_INIT                                                                     \
    {                                                                                              \
        sizeof(nphd_join_options), 0, 0, NULL, NULL                                                \
    }
#else
#define NPHD_JOIN_OPTIONS_INIT                                                                     \
    {                                                                                              \
        .struct_size = sizeof(nphd_join_options)                                                   \
    }
#endif

typedef struct nphd_join_report {
    uint64_t vectors; /* of the left side, looked up */
    uint64_t pairs;   /* handed to the sink */
    bool more;        /* the sink ended the call */
} nphd_join_report;

/**
 * Hand all pairs of stored vectors that are at most `radius` apart to `sink`. Always exact.
 *
 * Inside one index (`right` NULL) each pair of two vectors comes once, with left < right, or left
 * == right for two vectors of one key in a multi index; a vector is no pair with itself. Between
 * two each pair of a left and a right vector comes once. Pairs come in the order of the left keys'
 * iteration, those of one left vector by distance, then key: the same for any number of threads.
 *
 * Shapes   both sides: same metric, width and key width.
 * Units    radius: as a match's distance, itself included.
 * Errors   NPHD_INVALID_ARGUMENT: a side with none or two, sides that do not fit each other, a
 *          radius below 0. NPHD_CANCELLED by progress. Else as nphd_index_search_many(). What was
 *          handed over before an error stands.
 * Threads  any number of joins and searches at once. Vectors that other threads add, replace or
 *          remove meanwhile are in or not.
 */
NPHD_API nphd_status nphd_join(const nphd_join_side *left, const nphd_join_side *right,
                               float radius, const nphd_join_options *options, nphd_pair_sink sink,
                               void *context, nphd_join_report *report, nphd_error *err);

#ifdef __cplusplus
}
#endif

#endif
