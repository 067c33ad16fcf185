/* One search call, shared by its workers, and its two halves. */
#ifndef NPHDI_INDEX_SEARCH_JOB_H
#define NPHDI_INDEX_SEARCH_JOB_H

#include "index/index_internal.h"
#include "index/index_shard.h"
#include "scan/scan.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct nphdi_search_job {
    nphd_index *index;
    nphdi_content *content;
    nphdi_search_request ask;
    uint32_t variants; /* vectors of one query, 1 or more */
    size_t wanted;     /* matches of one query */
    uint64_t slots;    /* when the call began: later ones are not looked at */
    uint64_t keep;     /* matches that a heap has room for: one more than wanted where that tells
                          whether there are more, but not more than there are slots */
    uint64_t parts;    /* of the planes that an exact search goes over; 0: it goes over the rows */
    nphdi_mih_view tables; /* without tables: there are none, or they are not to be used */
    bool exact;
    uint16_t limit[256]; /* of the radius, if there is one: the same for all queries */
    bool bounded;        /* of a single query it is known how near its answers are at most */
    nphdi_bits bound;
    double prove_ns; /* what an exact answer after one along the graph may cost; 0: none */
    uint32_t breadth;
    _Atomic uint64_t next; /* query, stripe of rows or part that is handed out next */
    _Atomic uint64_t done;
    _Atomic bool stop;    /* there was an error, or nothing more is wanted */
    pthread_mutex_t lock; /* of the rest, and of the sink */
    nphd_status status;
    nphd_error *err;
    bool cut;               /* the sink ended the call */
    bool shared;            /* several workers scan for one query */
    nphdi_scan_best merged; /* what they found */
    uint64_t looked;        /* comparisons that took them */
} nphdi_search_job;

/* What a filter, a key lookup or a sink needs while one variant of a query runs. */
typedef struct nphdi_search_view {
    nphdi_search_job *job;
    size_t number; /* of the query */
    uint32_t variant;
    bool cut; /* the call ended before this query had all its matches */
    bool broken;
    uint32_t broken_slot;
} nphdi_search_view;

/* The call itself; index and ask are set, the rest is zero. */
nphd_status nphdi_search_run(nphdi_search_job *job, nphd_error *err);

/* As nphdi_scan_accept; `context`: the view. A vector is an answer to the nearest variant alone. A
 * slot whose key cannot be read marks the view. */
bool nphdi_search_accept(void *context, nphdi_scan_match *match);

/* The key of a live slot, if the filter takes it. */
bool nphdi_search_take_key(nphdi_search_view *view, uint32_t slot, nphd_key *out_key);

nphdi_query nphdi_search_query(const nphdi_search_job *job, size_t number, uint32_t variant);

/* How near the row of a slot is to the nearest variant of a query, the first of equals. */
nphdi_bits nphdi_search_nearest(const nphdi_search_job *job, size_t number, uint32_t slot,
                                uint32_t *out_variant);

/* The limits of the radius, for a taker without matches. */
void nphdi_search_limit_radius(const nphdi_search_job *job, nphdi_scan_best *best);

/* false: the caller wants to end. */
bool nphdi_search_go_on(const nphdi_search_job *job, uint64_t done, uint64_t total);
nphd_status nphdi_search_cancelled(nphd_error *err);

/* One worker's share of a search along the graph. */
nphd_status nphdi_search_graph(nphdi_search_job *job, uint32_t worker, nphd_error *err);

/* How far away the last of the wanted matches is at most, found along the graph. *out_found: there
 * were so many. */
nphd_status nphdi_search_graph_bound(nphdi_search_job *job, size_t number, nphdi_bits *out,
                                     bool *out_found, nphd_error *err);

/* How far the f32 distance of a match is. */
nphd_match nphdi_search_match(const nphdi_search_job *job, const nphdi_scan_match *from);

/* One worker's share of an exact search. */
nphd_status nphdi_search_exact(nphdi_search_job *job, uint32_t worker, nphd_error *err);

/* Chooses between planes and rows, and the number of workers of an exact search, at most `wanted`;
 * *out_merged, of `keep` matches and the caller's to free, where they share one query. */
nphd_status nphdi_search_exact_plan(nphdi_search_job *job, uint64_t wanted, uint64_t *out_workers,
                                    nphdi_scan_match **out_merged, nphd_error *err);
/* After all workers: the answer where they shared one query, and which were cut short. */
void nphdi_search_exact_end(nphdi_search_job *job);

#endif
