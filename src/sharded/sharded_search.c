/* Searching all shards: each answers by itself, with the best distance found so far as its radius,
 * and the answers are merged by distance and key. Distances compare as the exact fractions that
 * they stand for (docs/format.md), so that the merge is exact too. */
#include "base/error.h"
#include "sharded/sharded_internal.h"

#include <assert.h>
#include <string.h>

typedef struct search_call {
    nphd_sharded *sharded;
    const nphd_vector *queries;
    size_t query_count;
    size_t capacity;
    nphd_search_options options;
    nphd_match *out;
    nphd_search_report *reports;
    _Atomic uint64_t next; /* query, or shard of the only query */
    _Atomic uint64_t done;
    _Atomic bool stop;
    pthread_mutex_t lock; /* of the rest */
    nphd_status status;
    nphd_error *err;
} search_call;

/* An array of matches that grows. */
typedef struct match_room {
    nphd_match *matches;
    uint64_t room;
} match_room;

/* Memory of one worker. */
typedef struct search_scratch {
    match_room found;  /* by one shard */
    match_room merged; /* of it and those before */
} search_scratch;

static uint64_t shard_count(const nphd_sharded *sharded)
{
    return sharded->sealed_count + 1;
}

/* The active shard first: it is in memory, and its answers bound those of the others. */
static nphd_index *shard_at(const nphd_sharded *sharded, uint64_t place)
{
    return place == 0 ? sharded->active : sharded->sealed[sharded->sealed_count - place]->index;
}

static nphd_status room_fit(match_room *room, const nphd_allocator *allocator, uint64_t wanted,
                            nphd_error *err)
{
    nphd_status status = NPHD_OK;

    if (wanted <= room->room) {
        return NPHD_OK;
    }
    nphdi_free(allocator, room->matches, room->room, sizeof(nphd_match));
    room->room = 0;
    TRY(nphdi_alloc(allocator, wanted, sizeof(nphd_match), &room->matches, err));
    room->room = wanted;
done:
    return status;
}

static void room_free(match_room *room, const nphd_allocator *allocator)
{
    nphdi_free(allocator, room->matches, room->room, sizeof(nphd_match));
}

static bool is_nearer(const nphd_match *a, const nphd_match *b)
{
    return a->distance < b->distance ||
           (!(a->distance > b->distance) && nphd_key_compare(a->key, b->key) < 0);
}

/* Merges `count` found matches into the answer of a query; both are in order. */
static nphd_status merge(const search_call *call, size_t number, search_scratch *scratch,
                         size_t count, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_match *out = call->out + number * call->capacity;
    nphd_search_report *report = &call->reports[number];
    const nphd_match *found = scratch->found.matches;
    const size_t total =
        report->count + count < call->capacity ? report->count + count : call->capacity;
    size_t a = 0;
    size_t b = 0;

    TRY(room_fit(&scratch->merged, call->sharded->allocator, total, err));
    for (size_t i = 0; i < total; i++) {
        if (b == count || (a < report->count && !is_nearer(&found[b], &out[a]))) {
            scratch->merged.matches[i] = out[a++];
        } else {
            scratch->merged.matches[i] = found[b++];
        }
    }
    memcpy(out, scratch->merged.matches, total * sizeof(*out));
    report->count = total;
done:
    return status;
}

/* What of the answer so far bounds the shards to come. */
static void tighten(const search_call *call, size_t number, nphd_search_options *options)
{
    const nphd_search_report *report = &call->reports[number];

    if (report->count == call->capacity) {
        const float worst = call->out[number * call->capacity + call->capacity - 1].distance;
        if (!options->use_radius || worst < options->radius) {
            options->use_radius = true;
            options->radius = worst;
        }
    }
}

static nphd_status take_answer(search_call *call, size_t number, search_scratch *scratch,
                               const nphd_search_report *report, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_search_report *total = &call->reports[number];

    TRY(report->count > 0 ? merge(call, number, scratch, report->count, err) : NPHD_OK);
    total->exact = total->exact && report->exact;
    total->computed += report->computed;
    total->visited += report->visited;
done:
    return status;
}

/* Searches one shard for one query; the lock is for workers that share a query. */
static nphd_status search_shard(search_call *call, size_t number, nphd_index *index,
                                search_scratch *scratch, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_search_options options = call->options;
    nphd_search_report report = {0, false, 0, 0};
    uint64_t room;

    options.progress = NULL;
    (void)pthread_mutex_lock(&call->lock);
    tighten(call, number, &options);
    (void)pthread_mutex_unlock(&call->lock);
    do { /* again if the active shard grew meanwhile, and its matches beyond the room */
        const uint64_t slots = nphdi_index_slots(index);
        room = call->capacity < slots ? call->capacity : slots;
        room = room == 0 ? 1 : room;
        TRY(room_fit(&scratch->found, call->sharded->allocator, room, err));
        TRY(nphd_index_search(index, call->queries[number], (size_t)room, &options,
                              scratch->found.matches, &report, err));
    } while (report.count == room && room < call->capacity && room < nphdi_index_slots(index));
    (void)pthread_mutex_lock(&call->lock);
    status = take_answer(call, number, scratch, &report, err);
    (void)pthread_mutex_unlock(&call->lock);
done:
    return status;
}

static bool ask_progress(search_call *call, uint64_t done, uint64_t total)
{
    return call->options.progress == NULL ||
           call->options.progress(call->options.progress_context, done, total) == 0;
}

/* ---- many queries: workers take one after the other ---- */

static nphd_status search_query(search_call *call, size_t number, search_scratch *scratch,
                                nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(nphdi_look_begin(call->sharded, err));
    for (uint64_t i = 0; status == NPHD_OK && i < shard_count(call->sharded); i++) {
        status = search_shard(call, number, shard_at(call->sharded, i), scratch, err);
    }
    nphdi_look_end(call->sharded);
done:
    return status;
}

static nphd_status work_queries(search_call *call, uint32_t worker, search_scratch *scratch,
                                nphd_error *err)
{
    nphd_status status = NPHD_OK;

    while (!atomic_load(&call->stop)) {
        const uint64_t number = atomic_fetch_add(&call->next, 1);
        if (number >= call->query_count) {
            break;
        }
        TRY(search_query(call, (size_t)number, scratch, err));
        const uint64_t done = atomic_fetch_add(&call->done, 1) + 1;
        if (worker == 0 && !ask_progress(call, done, call->query_count)) {
            status = nphdi_fail(err, NPHD_CANCELLED, "search: cancelled by the progress callback");
            goto done;
        }
    }
done:
    return status;
}

/* ---- one query: workers share the shards; the calling thread holds state_lock ---- */

static nphd_status work_shards(search_call *call, uint32_t worker, search_scratch *scratch,
                               nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t count = shard_count(call->sharded);

    while (!atomic_load(&call->stop)) {
        const uint64_t place = atomic_fetch_add(&call->next, 1);
        if (place >= count) {
            break;
        }
        TRY(search_shard(call, 0, shard_at(call->sharded, place), scratch, err));
        if (worker == 0 && !ask_progress(call, place + 1, count)) {
            status = nphdi_fail(err, NPHD_CANCELLED, "search: cancelled by the progress callback");
            goto done;
        }
    }
done:
    return status;
}

static void run_worker(search_call *call, uint32_t worker,
                       nphd_status (*work)(search_call *call, uint32_t worker,
                                           search_scratch *scratch, nphd_error *err))
{
    search_scratch scratch = {{NULL, 0}, {NULL, 0}};
    nphd_error err = NPHD_ERROR_INIT;
    const nphd_status status = work(call, worker, &scratch, &err);

    if (status != NPHD_OK) {
        atomic_store(&call->stop, true);
        (void)pthread_mutex_lock(&call->lock);
        if (call->status == NPHD_OK) {
            call->status = status;
            nphdi_error_copy(call->err, &err);
        }
        (void)pthread_mutex_unlock(&call->lock);
    }
    room_free(&scratch.found, call->sharded->allocator);
    room_free(&scratch.merged, call->sharded->allocator);
}

static void query_worker(void *context, uint32_t worker)
{
    run_worker(context, worker, work_queries);
}

static void shard_worker(void *context, uint32_t worker)
{
    run_worker(context, worker, work_shards);
}

/* ---- the call ---- */

/* The whole index decides how it is searched, not each shard for itself. */
static void choose_mode(search_call *call)
{
    if (call->options.mode == NPHD_SEARCH_AUTO) {
        call->options.mode = nphdi_sharded_count_visible(call->sharded) < NPHD_EXACT_BELOW
                                 ? NPHD_SEARCH_EXACT
                                 : NPHD_SEARCH_APPROXIMATE;
    }
}

static void run_call(search_call *call)
{
    const uint64_t threads = call->options.threads == 0 ? 1 : call->options.threads;
    const uint64_t shards = shard_count(call->sharded);

    assert(shards > 0);
    if (call->query_count > 1) {
        call->options.threads = 1;
        nphdi_look_end(call->sharded);
        nphdi_threads_run((uint32_t)(threads < call->query_count ? threads : call->query_count),
                          query_worker, call);
        return;
    }
    /* what is left of the threads when each shard has one goes into the shards */
    call->options.threads = (uint32_t)(threads > shards ? threads / shards : 1);
    nphdi_threads_run((uint32_t)(threads < shards ? threads : shards), shard_worker, call);
    nphdi_look_end(call->sharded);
}

nphd_status nphd_sharded_search_many(nphd_sharded *sharded, const nphd_vector *queries,
                                     size_t query_count, size_t capacity,
                                     const nphd_search_options *options, nphd_match *out,
                                     nphd_search_report *reports, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_search_options known = NPHD_SEARCH_OPTIONS_INIT;
    search_call call;

    nphdi_error_clear(err);
    for (size_t i = 0; reports != NULL && i < query_count; i++) {
        const nphd_search_report none = {0, true, 0, 0};
        reports[i] = none;
    }
    memset(&call, 0, sizeof(call));
    TRY(nphdi_options_read(options, sizeof(known), &known, "search options", err));
    call.sharded = sharded;
    call.queries = queries;
    call.query_count = query_count;
    call.capacity = capacity;
    call.options = known;
    call.out = out;
    call.reports = reports;
    call.err = err;
    TRY(nphdi_look_begin(sharded, err));
    status = nphdi_index_check_search(sharded->active, queries, query_count, capacity, &known, out,
                                      reports, err);
    if (status == NPHD_OK) {
        choose_mode(&call);
    }
    if (status != NPHD_OK || query_count == 0) {
        nphdi_look_end(sharded);
    } else if (pthread_mutex_init(&call.lock, NULL) != 0) {
        nphdi_look_end(sharded);
        status = nphdi_fail(err, NPHD_OUT_OF_MEMORY, "cannot create a lock");
    } else {
        run_call(&call);
        status = call.status;
        (void)pthread_mutex_destroy(&call.lock);
    }
done:
    for (size_t i = 0; status != NPHD_OK && reports != NULL && i < query_count; i++) {
        reports[i].count = 0;
    }
    return status;
}

nphd_status nphd_sharded_search(nphd_sharded *sharded, nphd_vector query, size_t capacity,
                                const nphd_search_options *options, nphd_match *out,
                                nphd_search_report *report, nphd_error *err)
{
    nphd_search_report unused = {0, false, 0, 0};

    return nphd_sharded_search_many(sharded, &query, 1, capacity, options, out,
                                    report != NULL ? report : &unused, err);
}
