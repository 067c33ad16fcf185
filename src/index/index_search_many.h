/* Many queries within one radius together, as far as tables answer them: see scan/mih_many.h. */
#ifndef NPHDI_INDEX_SEARCH_MANY_H
#define NPHDI_INDEX_SEARCH_MANY_H

#include "index/index_search_job.h"
#include "index/index_search_tables.h"
#include "scan/mih_many.h"

/* Of one worker. */
typedef struct nphdi_search_together {
    nphdi_search_job *job;
    size_t first; /* query of the call */
    size_t count;
    size_t most;
    uint32_t table_count;
    nphdi_mih_many_scratch *scratch;
    nphdi_query *queries; /* `most` of each */
    nphdi_search_view *views;
    uint8_t *depths; /* table_count for each */
    uint8_t *until;
    float *budgets;
    uint32_t *compared;
    float *predicted; /* nanoseconds */
    bool *answered;
    nphdi_scan_best best; /* the limits, and who takes what was found */
    nphdi_mih_plan plan;
} nphdi_search_together;

/* Can queries of this call be asked together, and does it pay? Then how many at a time at most;
 * else 0. */
size_t nphdi_search_together_most(const nphdi_search_job *job);

nphd_status nphdi_search_together_begin(nphdi_search_job *job, size_t most,
                                        nphdi_search_together **out, nphd_error *err);
void nphdi_search_together_end(nphdi_search_together *together, const nphd_allocator *allocator);

/* Answers those of these queries for which tables are cheaper than scanning: together->answered.
 * The taker is that of a query, and is given the view of each. */
nphd_status nphdi_search_together_run(nphdi_search_together *together, size_t first, size_t count,
                                      const nphdi_scan_best *taker, uint64_t *out_taken_ns,
                                      nphd_error *err);

#endif
