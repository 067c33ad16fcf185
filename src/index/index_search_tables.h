/* One query by the tables of multi-index hashing: whether that pays, and doing it. */
#ifndef NPHDI_INDEX_SEARCH_TABLES_H
#define NPHDI_INDEX_SEARCH_TABLES_H

#include "index/index_search_job.h"
#include "scan/mih.h"

/* Of one worker. Zero-initialise. */
typedef struct nphdi_tables_scratch {
    nphdi_mih_scratch found[NPHD_MAX_VARIANTS];
    nphdi_mih_plan plans[NPHD_MAX_VARIANTS];
    nphdi_mih_search searches[NPHD_MAX_VARIANTS];
    nphdi_scan_target targets[NPHD_MAX_VARIANTS];
} nphdi_tables_scratch;

void nphdi_tables_scratch_free(nphdi_tables_scratch *scratch, const nphd_allocator *allocator);

/* What scanning all vectors for one query would cost, in nanoseconds, with the limits of `best`.
 * out_lengths: NULL, or the same by the length of the vectors. */
double nphdi_search_scan_cost(const nphdi_search_job *job, const nphdi_query *query,
                              const uint16_t *limit, double *out_lengths);

/* What looking up and comparing cost by these tables. */
const nphdi_mih_costs *nphdi_search_tables_costs(const nphdi_search_job *job);

/* Compares with what the tables do not tell: rows that changed, and new ones. Returns how many. */
uint64_t nphdi_search_take_loose(const nphdi_search_job *job, const nphdi_scan_target *target,
                                 const nphdi_mih_plan *plan, nphdi_scan_best *best);

nphd_status nphdi_search_broken_tables(const nphdi_search_job *job, nphd_error *err);

/* Answers query `number` into `best`, whose limits are set, if that costs less than `most`
 * nanoseconds: *out_done. `views` are those of its variants. *out_cost is the predicted cost, also
 * where that was too much; *out_looked how many vectors were compared. */
nphd_status nphdi_search_by_tables(nphdi_search_job *job, size_t number, nphdi_search_view *views,
                                   nphdi_scan_best *best, double most,
                                   nphdi_tables_scratch *scratch, bool *out_done, double *out_cost,
                                   uint64_t *out_looked, nphd_error *err);

/* What that is predicted to cost. */
nphd_status nphdi_search_tables_cost(const nphdi_search_job *job, size_t number,
                                     const nphdi_scan_best *best, double *out, nphd_error *err);

#endif
