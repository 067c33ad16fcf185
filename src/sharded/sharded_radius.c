/* All vectors of all shards within a radius. The radius stays as it is from shard to shard, so that
 * a worker can take a group of queries through each of them at once. */
#include "base/error.h"
#include "sharded/sharded_search.h"

#include <string.h>

/* Queries that go over a shard together; as in the exact search of one index. */
#define MOST_GROUPED 32

/* What one worker does for some queries. */
typedef struct stream_group {
    nphdi_shards_call *call;
    size_t first;
    size_t count;
    nphd_search_report found[MOST_GROUPED]; /* by one shard */
    bool whole[MOST_GROUPED];               /* by all shards so far */
    uint64_t handed_over;
} stream_group;

/* The sink of each shard. */
static int hand_over(void *context, size_t query, const nphd_match *match)
{
    stream_group *group = context;
    nphdi_shards_call *call = group->call;
    nphdi_search_request *ask = &call->ask;
    const size_t number = group->first + query;

    (void)pthread_mutex_lock(&call->lock);
    /* another worker may have ended the call, or found the one match that this query wants */
    if (!atomic_load(&call->stop)) {
        if (ask->reports != NULL) {
            ask->reports[number].count++;
        }
        group->handed_over++;
        call->cut = ask->sink(ask->sink_context, number, match) != 0;
        if (call->cut || (ask->options.any && ask->query_count == 1)) {
            atomic_store(&call->stop, true);
        }
    } else {
        group->whole[query] = false; /* also where the shard takes one match for the whole answer */
    }
    const bool stop = atomic_load(&call->stop);
    (void)pthread_mutex_unlock(&call->lock);
    return stop ? 1 : 0;
}

static nphd_status scan_shard(stream_group *group, nphd_index *index, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_shards_call *call = group->call;
    const nphdi_search_request *ask = &call->ask;
    nphd_search_options options = ask->options;

    options.progress = NULL;
    TRY(nphd_index_radius_stream(index, ask->queries + group->first * call->variants, group->count,
                                 options.radius, &options, hand_over, group, group->found, err));
    (void)pthread_mutex_lock(&call->lock);
    for (size_t i = 0; i < group->count; i++) {
        group->whole[i] = group->whole[i] && group->found[i].exact;
        if (ask->reports != NULL) {
            ask->reports[group->first + i].computed += group->found[i].computed;
        }
    }
    (void)pthread_mutex_unlock(&call->lock);
done:
    return status;
}

static void group_begin(stream_group *group, nphdi_shards_call *call, size_t first, size_t count)
{
    group->call = call;
    group->first = first;
    group->count = count;
    group->handed_over = 0;
    for (size_t i = 0; i < count; i++) {
        group->whole[i] = true;
    }
}

/* ---- many queries: workers take groups of them ---- */

static nphd_status stream_queries(stream_group *group, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_shards_call *call = group->call;
    nphd_sharded *sharded = call->sharded;
    const nphd_search_options *options = &call->ask.options;
    uint64_t place = 0;

    TRY(nphdi_look_begin(sharded, err));
    const uint64_t shards = nphdi_shards_count(sharded);
    while (status == NPHD_OK && place < shards && !atomic_load(&call->stop) &&
           !(options->any && group->handed_over > 0)) {
        status = scan_shard(group, nphdi_shards_at(sharded, place), err);
        place++;
    }
    nphdi_look_end(sharded);
    for (size_t i = 0; call->ask.reports != NULL && i < group->count; i++) {
        call->ask.reports[group->first + i].exact =
            (place == shards && group->whole[i]) || (options->any && group->handed_over > 0);
    }
done:
    return status;
}

/* Of several workers each gets some groups, for they do not take the same time; with `any` a query
 * is done once one shard has a match, and the others may not be. */
static size_t queries_at_a_time(const nphdi_shards_call *call)
{
    const nphdi_search_request *ask = &call->ask;
    const size_t most = MOST_GROUPED / call->variants;
    const size_t share = ask->query_count / (2 * (size_t)call->workers) + 1;

    return ask->options.any ? 1 : share < most ? share : most;
}

static nphd_status work_queries(nphdi_shards_call *call, uint32_t worker, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const size_t most = queries_at_a_time(call);
    stream_group group;

    while (!atomic_load(&call->stop)) {
        const uint64_t first = atomic_fetch_add(&call->next, most);
        if (first >= call->ask.query_count) {
            break;
        }
        const size_t rest = call->ask.query_count - (size_t)first;
        group_begin(&group, call, (size_t)first, rest < most ? rest : most);
        TRY(stream_queries(&group, err));
        if (atomic_load(&call->stop)) {
            break;
        }
        const uint64_t done = atomic_fetch_add(&call->done, group.count) + group.count;
        TRY(worker == 0 ? nphdi_shards_progress(call, done, call->ask.query_count, err) : NPHD_OK);
    }
done:
    return status;
}

/* ---- one query: workers share the shards ---- */

static nphd_status work_shards(nphdi_shards_call *call, uint32_t worker, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t count = nphdi_shards_count(call->sharded);
    stream_group group;

    group_begin(&group, call, 0, 1);
    while (!atomic_load(&call->stop)) {
        const uint64_t place = atomic_fetch_add(&call->next, 1);
        if (place >= count) {
            break;
        }
        TRY(scan_shard(&group, nphdi_shards_at(call->sharded, place), err));
        TRY(worker == 0 && !atomic_load(&call->stop)
                ? nphdi_shards_progress(call, place + 1, count, err)
                : NPHD_OK);
    }
done:
    return status;
}

/* ---- the calls ---- */

static void clear_reports(nphd_search_report *reports, size_t count)
{
    if (reports != NULL && count > 0) {
        memset(reports, 0, count * sizeof(*reports));
    }
}

/* Which queries were answered whole. */
static void finish_reports(const nphdi_shards_call *call)
{
    const nphdi_search_request *ask = &call->ask;

    if (ask->reports != NULL && ask->query_count == 1) {
        ask->reports[0].exact = !call->cut || ask->options.any;
    }
    for (size_t i = 0; ask->reports != NULL && i < ask->query_count; i++) {
        ask->reports[i].more = !ask->reports[i].exact;
    }
}

nphd_status nphd_sharded_radius(nphd_sharded *sharded, const nphd_vector *queries,
                                size_t query_count, float radius, size_t capacity,
                                const nphd_search_options *options, nphd_match *out,
                                nphd_search_report *reports, nphd_error *err)
{
    nphdi_shards_call call;

    nphdi_error_clear(err);
    memset(&call, 0, sizeof(call));
    call.sharded = sharded;
    call.ask.queries = queries;
    call.ask.query_count = query_count;
    call.ask.capacity = capacity;
    call.ask.out = out;
    call.ask.reports = reports;
    return nphdi_shards_nearest(&call, &radius, options, err);
}

nphd_status nphd_sharded_radius_stream(nphd_sharded *sharded, const nphd_vector *queries,
                                       size_t query_count, float radius,
                                       const nphd_search_options *options, nphd_match_sink sink,
                                       void *context, nphd_search_report *reports, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_shards_call call;

    nphdi_error_clear(err);
    clear_reports(reports, query_count);
    memset(&call, 0, sizeof(call));
    call.sharded = sharded;
    call.ask.queries = queries;
    call.ask.query_count = query_count;
    call.ask.reports = reports;
    call.ask.sink = sink;
    call.ask.sink_context = context;
    TRY(nphdi_search_options_read(options, &radius, &call.ask, err));
    call.ask.options.mode = NPHD_SEARCH_EXACT;
    if (sink == NULL) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "search: sink is NULL");
    }
    TRY(nphdi_shards_run(&call, work_queries, work_shards, err));
    finish_reports(&call);
done:
    if (status != NPHD_OK) {
        clear_reports(reports, query_count);
    }
    return status;
}
