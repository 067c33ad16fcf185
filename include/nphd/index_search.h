/* Searching one index. */
#ifndef NPHD_INDEX_SEARCH_H
#define NPHD_INDEX_SEARCH_H

#include <nphd/index.h>

#ifdef __cplusplus
extern "C" {
#endif

/** One answer: a stored vector and how far it is from the query. */
typedef struct nphd_match {
    nphd_key key;
    float distance;   /* NPHD: a fraction in [0, 1]. Hamming: the number of differing bits. */
    uint32_t variant; /* of the query: the nearest one, the first of equals; 0 without variants */
} nphd_match;

typedef enum nphd_search_mode {
    NPHD_SEARCH_AUTO = 0,       /* exact as long as the budget allows it, else the graph */
    NPHD_SEARCH_EXACT = 1,      /* exact, whatever it costs */
    NPHD_SEARCH_APPROXIMATE = 2 /* the graph */
} nphd_search_mode;

/** How a search was made. Exact answers are the same by either way. */
typedef enum nphd_search_plan {
    NPHD_PLAN_AUTO = 0,   /* in options: the cheapest; in reports: there was nothing to search */
    NPHD_PLAN_SCAN = 1,   /* comparing with every vector */
    NPHD_PLAN_TABLES = 2, /* looking up similar chunks, see nphd_index_prepare() */
    NPHD_PLAN_GRAPH = 3,  /* along the graph: approximate */
    NPHD_PLAN_MIXED = 4   /* in reports of sharded indexes: one shard so, one otherwise */
} nphd_search_plan;

/** Most variants of one query: the eight turns and reflections of an image have a hash each. */
#define NPHD_MAX_VARIANTS 8

/** What an exact answer to one query may cost before AUTO takes the graph, in microseconds as
 * predicted for one thread: about a million vectors of 256 bits by a scan, and many times that
 * where tables can be used. */
#define NPHD_EXACT_BUDGET 1000.0F

/** Shall this key be among the answers? Must not call into the same index, nor wait for a change of
 * it, which may be waiting for the search; any thread. */
typedef bool (*nphd_filter)(void *context, nphd_key key);

/** How to search. All zero: the planner's choice, no radius, no filter, calling thread. */
typedef struct nphd_search_options {
    size_t struct_size;
    nphd_search_mode mode;
    uint32_t breadth; /* graph candidates for this call; 0: as the index has it */
    uint32_t threads; /* worker threads; 0 and 1: the calling thread alone */
    bool use_radius;  /* leave out what is farther than `radius` */
    float radius;     /* largest distance accepted, itself included; 0 or more, of an NPHD index up
                         to 1, or INFINITY: no limit */
    nphd_filter filter; /* NULL: every key */
    void *filter_context;
    nphd_progress progress; /* called between queries, and within a long exact scan */
    void *progress_context;
    uint32_t variants;     /* so many vectors in turn are one query, 1..NPHD_MAX_VARIANTS; 0: 1 */
    bool any;              /* with a radius: the first match found will do, whichever it is */
    nphd_search_plan plan; /* SCAN, TABLES: if it is exact, then so (TABLES: where there are any) */
    float budget;          /* for AUTO, in microseconds; 0: NPHD_EXACT_BUDGET */
} nphd_search_options;

#ifdef __cplusplus
#define NPHD_SEARCH_OPTIONS_INIT                                                                   \
    {                                                                                              \
        sizeof(nphd_search_options), NPHD_SEARCH_AUTO, 0, 0, false, 0, NULL, NULL, NULL, NULL, 0,  \
            false, NPHD_PLAN_AUTO, 0                                                               \
    }
#else
#define NPHD_SEARCH_OPTIONS_INIT                                                                   \
    {                                                                                              \
        .struct_size = sizeof(nphd_search_options)                                                 \
    }
#endif

/** What a search did, beside its matches. */
typedef struct nphd_search_report {
    size_t count;      /* matches found */
    bool exact;        /* no better match exists, and no further one within the capacity; with
                          `any`: there is a match exactly if one was found */
    bool more;         /* with a radius: further vectors within it were left out; not with `any` */
    uint64_t computed; /* distances computed */
    uint64_t visited;  /* graph nodes expanded; 0 for an exact scan */
    nphd_search_plan plan;
    float predicted; /* cost of this query as planned, in microseconds of one thread */
    float measured;  /* the time it took, in microseconds, however many threads worked on it; of
                        queries answered together, their share */
} nphd_search_report;

/**
 * Find the stored vectors nearest to `query`.
 *
 * Shapes   query: 1..NPHD_MAX_BYTES bytes, its first max_bits/8 bytes count (NPHD); exactly
 *          max_bits/8 bytes (Hamming). out: room for `capacity` matches, filled nearest first,
 *          ties by ascending key. capacity 1 or more.
 * Units    distance: differing bits / shared prefix bits, a fraction in [0, 1]; Hamming: bits.
 * Returns  NPHD_OK with report->count in 0..capacity; 0 on an empty index. Exact answers are the
 *          same for any number of threads and on any machine.
 * Errors   NPHD_INVALID_ARGUMENT: query or option out of range, capacity 0, `any` without a radius,
 *          or variants above 1, which one vector does not have. NPHD_CORRUPT: a bound of the viewed
 *          file does not hold on the search path. NPHD_OUT_OF_MEMORY, NPHD_CANCELLED.
 *          report->count is 0 on an error.
 * Threads  any number of searches at once, beside adding and removing threads.
 * Source   Malkov and Yashunin 2018, Algorithm 5, for the graph; see docs/references.md [HNSW].
 */
NPHD_API nphd_status nphd_index_search(nphd_index *index, nphd_vector query, size_t capacity,
                                       const nphd_search_options *options, nphd_match *out,
                                       nphd_search_report *report, nphd_error *err);

/**
 * Answer many queries. As nphd_index_search() for each; options->threads workers share them.
 *
 * With options->variants each run of so many vectors in `queries` is one query: a stored vector
 * counts once, is as far away as the nearest of them says, and names that one.
 *
 * Shapes   queries: query_count vectors, times options->variants. out: room for query_count *
 *          capacity matches, those of query i from out + i * capacity. reports: query_count
 *          reports.
 * Errors   as for one; on an error all counts are 0.
 */
NPHD_API nphd_status nphd_index_search_many(nphd_index *index, const nphd_vector *queries,
                                            size_t query_count, size_t capacity,
                                            const nphd_search_options *options, nphd_match *out,
                                            nphd_search_report *reports, nphd_error *err);

/**
 * Make ready for exact searches: planes (the rows once more, by words) and hash tables, by which a
 * search within a small radius looks at a few vectors only. Both are used wherever they make a
 * search faster; no answer depends on them. What a file has already is not made again, and nothing
 * is made for fewer than some thousand vectors.
 *
 * The tables take some 100 bytes a vector of 256 bits, the planes 36; they are saved with the
 * index. Vectors stored later are compared one by one, so it pays to prepare again when they have
 * become many.
 *
 * Errors   NPHD_OUT_OF_MEMORY: the index is as it was.
 * Threads  any; waits for calls that change vectors, and they for it; searches go on beside it.
 *          `threads` workers; 0 and 1: the calling thread alone.
 * Source   Norouzi, Punjani and Fleet 2012; see docs/references.md [MIH].
 */
NPHD_API nphd_status nphd_index_prepare(nphd_index *index, uint32_t threads, nphd_error *err);

/**
 * As nphd_index_prepare(), with options->threads workers and asking options->progress, which is
 * called by the calling thread, in millionths. NPHD_CANCELLED: nothing was made. options may be
 * NULL.
 */
NPHD_API nphd_status nphd_index_prepare_with(nphd_index *index, const nphd_batch_options *options,
                                             nphd_error *err);

#ifdef __cplusplus
}
#endif

#endif
