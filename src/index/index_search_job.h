/* One search call, shared by its workers, and its exact half. */
#ifndef NPHDI_INDEX_SEARCH_JOB_H
#define NPHDI_INDEX_SEARCH_JOB_H

#include "index/index_internal.h"
#include "scan/scan.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct nphdi_search_job {
    nphd_index *index;
    nphdi_content *content;
    const nphd_vector *queries;
    size_t query_count;
    size_t capacity;
    uint64_t slots; /* when the call began: later ones are not looked at */
    uint64_t keep;  /* matches that can be found: not more than there are slots */
    uint64_t parts; /* of the planes that an exact search goes over; 0: it goes over the rows */
    nphd_search_options options;
    bool exact;
    uint32_t breadth;
    nphd_match *out;
    nphd_search_report *reports;
    _Atomic uint64_t next; /* query, stripe of rows or part that is handed out next */
    _Atomic uint64_t done;
    _Atomic bool stop;
    pthread_mutex_t lock; /* of the rest */
    nphd_status status;
    nphd_error *err;
    bool shared;            /* several workers scan for one query */
    nphdi_scan_best merged; /* what they found */
} nphdi_search_job;

/* What a filter or a key lookup needs while one query runs. */
typedef struct nphdi_search_view {
    const nphdi_search_job *job;
    bool broken;
    uint32_t broken_slot;
} nphdi_search_view;

/* May this slot be an answer? `context`: the view. A slot whose key cannot be read marks it. */
bool nphdi_search_accept(void *context, uint32_t slot, nphd_key *out_key);

nphdi_query nphdi_search_query(const nphdi_search_job *job, size_t number);

/* false: the caller wants to end. */
bool nphdi_search_go_on(const nphdi_search_job *job, uint64_t done, uint64_t total);
nphd_status nphdi_search_cancelled(nphd_error *err);

/* One worker's share of an exact search. */
nphd_status nphdi_search_exact(nphdi_search_job *job, uint32_t worker, nphd_error *err);

/* Chooses between planes and rows, and the number of workers of an exact search, at most `wanted`;
 * *out_merged, of `keep` matches and the caller's to free, where they share one query. */
nphd_status nphdi_search_exact_plan(nphdi_search_job *job, uint64_t wanted, uint64_t *out_workers,
                                    nphdi_scan_match **out_merged, nphd_error *err);
/* After all workers: the answer where they shared one query. */
void nphdi_search_exact_end(nphdi_search_job *job);

#endif
