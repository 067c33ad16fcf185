/* Many queries within one radius by tables: one table after the other, and in it one query after
 * the other in the order of their values, so that what is looked up lies in the cache. A query
 * alone pays a miss for each value that it looks up, and for what it leads to.
 *
 * What is found in all tables is put in order of the queries, and compared as far as it passes the
 * sieve (mih.h). A query whose values lead to much more than was predicted is given up after some
 * tables: what they lead to has been taken, and the caller scans for the rest. */
#ifndef NPHDI_MIH_MANY_H
#define NPHDI_MIH_MANY_H

#include "scan/mih.h"

/* Queries together. */
#define NPHDI_MIH_MANY_MOST 4096

typedef struct nphdi_mih_many_scratch nphdi_mih_many_scratch;

typedef struct nphdi_mih_many {
    const nphdi_mih *mih; /* with values beside the slots */
    nphdi_rows rows;
    const nphdi_kernels *kernels;
    const uint64_t *stale;      /* NULL, or a bit for each covered slot that has a new row by now */
    const uint16_t *limit;      /* of all queries: by shared bytes, most differing bits */
    const nphdi_query *queries; /* `count` of each */
    const uint8_t *depths;      /* mih->table_count for each; all 0: it is not asked */
    const float *budgets;       /* nanoseconds that may be spent on each, about */
    const nphdi_mih_costs *costs;
    uint8_t *until;     /* set: tables that were looked into for each, all or some */
    uint32_t *compared; /* counts the vectors compared with each */
    uint32_t count;     /* at most NPHDI_MIH_MANY_MOST */
    /* Takes each vector within the limits once, slot and bits of `match` being set. false: enough.
     */
    bool (*take)(void *context, uint32_t query, nphdi_scan_match *match);
    void *context;
    nphdi_mih_many_scratch *scratch;
} nphdi_mih_many;

/* For one call at a time. */
nphd_status nphdi_mih_many_begin(const nphd_allocator *allocator, nphdi_mih_many_scratch **out,
                                 nphd_error *err);
void nphdi_mih_many_end(nphdi_mih_many_scratch *scratch, const nphd_allocator *allocator);

/* NPHD_CORRUPT without a text: the tables contradict themselves. */
nphd_status nphdi_mih_many_run(const nphdi_mih_many *many);

#endif
