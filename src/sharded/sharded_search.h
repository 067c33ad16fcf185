/* One search over all shards, shared by its workers: either they keep the nearest
 * (sharded_search.c), or they hand each match on (sharded_radius.c). */
#ifndef NPHDI_SHARDED_SEARCH_H
#define NPHDI_SHARDED_SEARCH_H

#include "sharded/sharded_internal.h"

#include <pthread.h>
#include <stdatomic.h>

typedef struct nphdi_shards_call {
    nphd_sharded *sharded;
    nphdi_search_request ask;
    uint32_t variants; /* vectors of one query, 1 or more */
    uint32_t workers;
    _Atomic uint64_t next; /* query, or shard of the only query */
    _Atomic uint64_t done;
    _Atomic bool stop;    /* there was an error, or nothing more is wanted */
    pthread_mutex_t lock; /* of the rest, of the reports, and of the sink */
    nphd_status status;
    nphd_error *err;
    bool cut; /* the sink ended the call */
} nphdi_shards_call;

/* One worker's share. Many queries: it takes one after the other, and state_lock for each. One
 * query: it takes shards, and the calling thread holds state_lock. */
typedef nphd_status (*nphdi_shards_work)(nphdi_shards_call *call, uint32_t worker, nphd_error *err);

/* The call itself; sharded and ask are set, the rest is zero. */
nphd_status nphdi_shards_run(nphdi_shards_call *call, nphdi_shards_work queries,
                             nphdi_shards_work shards, nphd_error *err);

static inline uint64_t nphdi_shards_count(const nphd_sharded *sharded)
{
    return sharded->sealed_count + 1;
}

/* The active shard first: it is in memory, and its answers bound those of the others. */
static inline nphd_index *nphdi_shards_at(const nphd_sharded *sharded, uint64_t place)
{
    return place == 0 ? sharded->active : sharded->sealed[sharded->sealed_count - place]->index;
}

/* Tells of `done` queries or shards; an error when the caller wants to end. */
nphd_status nphdi_shards_progress(const nphdi_shards_call *call, uint64_t done, uint64_t total,
                                  nphd_error *err);

/* The search for the nearest; sharded and ask are set but for the options. `radius`: as
 * nphdi_search_options_read(). */
nphd_status nphdi_shards_nearest(nphdi_shards_call *call, const float *radius,
                                 const nphd_search_options *options, nphd_error *err);

#endif
