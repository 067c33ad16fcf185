/* Searching all shards: each answers by itself, with the best distance found so far as its radius,
 * and the answers are merged by distance and key. Distances compare as the exact fractions that
 * they stand for (docs/format.md), so that the merge is exact too.
 *
 * Whether there are more matches within the caller's radius than asked for is exact as well: the
 * radius is narrowed only once that is known. */
#include "sharded/sharded_search.h"
#include "base/error.h"

#include <assert.h>
#include <string.h>

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

static void scratch_free(search_scratch *scratch, const nphd_allocator *allocator)
{
    room_free(&scratch->found, allocator);
    room_free(&scratch->merged, allocator);
}

static bool is_nearer(const nphd_match *a, const nphd_match *b)
{
    if (a->distance < b->distance || a->distance > b->distance) {
        return a->distance < b->distance;
    }
    const int order = nphd_key_compare(a->key, b->key);
    return order < 0 || (order == 0 && a->variant < b->variant);
}

/* Matches of one query. */
static size_t wanted(const nphdi_shards_call *call)
{
    return call->ask.options.any ? 1 : call->ask.capacity;
}

/* Merges `count` found matches into the answer of a query; both are in order. */
static nphd_status merge(const nphdi_shards_call *call, size_t number, search_scratch *scratch,
                         size_t count, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_match *out = call->ask.out + number * call->ask.capacity;
    nphd_search_report *report = &call->ask.reports[number];
    const nphd_match *found = scratch->found.matches;
    const size_t most = wanted(call);
    const size_t total = report->count + count < most ? report->count + count : most;
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
    report->more = report->more || (call->ask.options.use_radius && report->count + count > most);
    report->count = total;
done:
    return status;
}

/* What of the answer so far bounds the shards to come. Within a radius the vectors beyond it count
 * until one is known. */
static void tighten(const nphdi_shards_call *call, size_t number, nphd_search_options *options)
{
    const nphd_search_report *report = &call->ask.reports[number];

    if (report->count == wanted(call) && (!options->use_radius || report->more)) {
        const float worst = call->ask.out[number * call->ask.capacity + report->count - 1].distance;
        if (!options->use_radius || worst < options->radius) {
            options->use_radius = true;
            options->radius = worst;
        }
    }
}

void nphdi_shards_add_report(nphd_search_report *total, const nphd_search_report *report)
{
    total->computed += report->computed;
    total->visited += report->visited;
    total->predicted += report->predicted;
    total->measured += report->measured;
    if (report->plan != NPHD_PLAN_AUTO) { /* there was something to search */
        total->plan = total->plan == NPHD_PLAN_AUTO || total->plan == report->plan
                          ? report->plan
                          : NPHD_PLAN_MIXED;
    }
}

static nphd_status take_answer(nphdi_shards_call *call, size_t number, search_scratch *scratch,
                               const nphd_search_report *report, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_search_report *total = &call->ask.reports[number];
    const nphd_search_options *options = &call->ask.options;

    TRY(report->count > 0 ? merge(call, number, scratch, report->count, err) : NPHD_OK);
    total->exact = total->exact && report->exact;
    total->more = options->use_radius && !options->any && (total->more || report->more);
    nphdi_shards_add_report(total, report);
done:
    return status;
}

/* Searches one shard for one query; the lock is for workers that share a query. */
static nphd_status search_shard(nphdi_shards_call *call, size_t number, nphd_index *index,
                                search_scratch *scratch, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_vector *queries = call->ask.queries + number * call->variants;
    nphd_search_options options = call->ask.options;
    const size_t most = wanted(call);
    nphd_search_report report;
    uint64_t room;

    options.progress = NULL;
    (void)pthread_mutex_lock(&call->lock);
    tighten(call, number, &options);
    (void)pthread_mutex_unlock(&call->lock);
    do { /* again if the active shard grew meanwhile, and its matches beyond the room */
        const uint64_t slots = nphdi_index_slots(index);
        room = most < slots ? most : slots;
        room = room == 0 ? 1 : room;
        TRY(room_fit(&scratch->found, call->sharded->allocator, room, err));
        TRY(nphd_index_search_many(index, queries, 1, (size_t)room, &options,
                                   scratch->found.matches, &report, err));
    } while (report.count == room && room < most && room < nphdi_index_slots(index));
    (void)pthread_mutex_lock(&call->lock);
    status = take_answer(call, number, scratch, &report, err);
    (void)pthread_mutex_unlock(&call->lock);
done:
    return status;
}

static bool is_found(const nphdi_shards_call *call, size_t number)
{
    return call->ask.options.any && call->ask.reports[number].count > 0;
}

nphd_status nphdi_shards_progress(const nphdi_shards_call *call, uint64_t done, uint64_t total,
                                  nphd_error *err)
{
    const nphd_search_options *options = &call->ask.options;

    return options->progress == NULL ||
                   options->progress(options->progress_context, done, total) == 0
               ? NPHD_OK
               : nphdi_fail(err, NPHD_CANCELLED, "search: cancelled by the progress callback");
}

/* ---- many queries: workers take one after the other ---- */

static nphd_status search_query(nphdi_shards_call *call, size_t number, search_scratch *scratch,
                                nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_sharded *sharded = call->sharded;

    TRY(nphdi_look_begin(call->sharded, err));
    for (uint64_t i = 0;
         status == NPHD_OK && i < nphdi_shards_count(sharded) && !is_found(call, number); i++) {
        status = search_shard(call, number, nphdi_shards_at(sharded, i), scratch, err);
    }
    nphdi_look_end(call->sharded);
done:
    return status;
}

static nphd_status work_queries(nphdi_shards_call *call, uint32_t worker, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    search_scratch scratch = {{NULL, 0}, {NULL, 0}};

    while (!atomic_load(&call->stop)) {
        const uint64_t number = atomic_fetch_add(&call->next, 1);
        if (number >= call->ask.query_count) {
            break;
        }
        TRY(search_query(call, (size_t)number, &scratch, err));
        const uint64_t done = atomic_fetch_add(&call->done, 1) + 1;
        TRY(worker == 0 ? nphdi_shards_progress(call, done, call->ask.query_count, err) : NPHD_OK);
    }
done:
    scratch_free(&scratch, call->sharded->allocator);
    return status;
}

/* ---- one query: workers share the shards ---- */

static nphd_status work_shards(nphdi_shards_call *call, uint32_t worker, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    search_scratch scratch = {{NULL, 0}, {NULL, 0}};
    const uint64_t count = nphdi_shards_count(call->sharded);

    while (!atomic_load(&call->stop)) {
        const uint64_t place = atomic_fetch_add(&call->next, 1);
        if (place >= count) {
            break;
        }
        TRY(search_shard(call, 0, nphdi_shards_at(call->sharded, place), &scratch, err));
        (void)pthread_mutex_lock(&call->lock);
        const bool found = is_found(call, 0);
        (void)pthread_mutex_unlock(&call->lock);
        if (found) {
            atomic_store(&call->stop, true);
        }
        TRY(worker == 0 ? nphdi_shards_progress(call, place + 1, count, err) : NPHD_OK);
    }
done:
    scratch_free(&scratch, call->sharded->allocator);
    return status;
}

/* ---- the call ---- */

typedef struct shards_crew {
    nphdi_shards_call *call;
    nphdi_shards_work work;
} shards_crew;

static void run_worker(void *context, uint32_t worker)
{
    const shards_crew *crew = context;
    nphdi_shards_call *call = crew->call;
    nphd_error err = NPHD_ERROR_INIT;
    const nphd_status status = crew->work(call, worker, &err);

    if (status != NPHD_OK) {
        atomic_store(&call->stop, true);
        (void)pthread_mutex_lock(&call->lock);
        if (call->status == NPHD_OK) {
            call->status = status;
            nphdi_error_copy(call->err, &err);
        }
        (void)pthread_mutex_unlock(&call->lock);
    }
}

/* The whole index decides whether it is scanned. If that costs more than the budget, each shard has
 * its share of it, which may be enough for its tables. */
static void choose_mode(nphdi_shards_call *call)
{
    nphd_search_options *options = &call->ask.options;
    const uint64_t shards = nphdi_shards_count(call->sharded);
    const float budget = options->budget > 0 ? options->budget : NPHD_EXACT_BUDGET;
    double cost = 0;

    for (uint64_t i = 0; i < shards; i++) {
        cost += nphdi_index_scan_cost(nphdi_shards_at(call->sharded, i), 1) * call->variants;
    }
    if (options->mode == NPHD_SEARCH_AUTO && cost <= 1000.0 * (double)budget) {
        options->mode = NPHD_SEARCH_EXACT;
    }
    options->budget = budget / (float)shards;
}

static void run_call(nphdi_shards_call *call, nphdi_shards_work queries, nphdi_shards_work shards)
{
    nphd_search_options *options = &call->ask.options;
    const uint64_t threads = options->threads == 0 ? 1 : options->threads;
    const uint64_t shard_count = nphdi_shards_count(call->sharded);
    const uint64_t query_count = call->ask.query_count;
    shards_crew crew = {call, query_count > 1 ? queries : shards};

    assert(shard_count > 0);
    if (query_count > 1) {
        nphdi_look_end(call->sharded);
        options->threads = 1;
        call->workers = (uint32_t)(threads < query_count ? threads : query_count);
        nphdi_threads_run(call->workers, run_worker, &crew);
        return;
    }
    const uint64_t start = nphdi_clock_ns();
    /* what is left of the threads when each shard has one goes into the shards */
    options->threads = (uint32_t)(threads > shard_count ? threads / shard_count : 1);
    call->workers = (uint32_t)(threads < shard_count ? threads : shard_count);
    nphdi_threads_run(call->workers, run_worker, &crew);
    nphdi_look_end(call->sharded);
    /* the shards were searched at the same time: what each took does not add up to that */
    if (call->ask.reports != NULL && call->ask.reports->plan != NPHD_PLAN_AUTO) {
        call->ask.reports->measured = (float)(nphdi_clock_ns() - start) / 1000;
    }
}

nphd_status nphdi_shards_run(nphdi_shards_call *call, nphdi_shards_work queries,
                             nphdi_shards_work shards, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded *sharded = call->sharded;

    call->variants = nphdi_search_variants(&call->ask.options);
    call->err = err;
    TRY(nphdi_look_begin(sharded, err));
    status = nphdi_index_check_search(sharded->active, &call->ask, err);
    if (status == NPHD_OK) {
        choose_mode(call);
    }
    if (status != NPHD_OK || call->ask.query_count == 0) {
        nphdi_look_end(sharded);
    } else if (pthread_mutex_init(&call->lock, NULL) != 0) {
        nphdi_look_end(sharded);
        status = nphdi_fail(err, NPHD_OUT_OF_MEMORY, "cannot create a lock");
    } else {
        run_call(call, queries, shards);
        status = call->status;
        (void)pthread_mutex_destroy(&call->lock);
    }
done:
    return status;
}

/* The reports before a call, and after a failed one. */
static void clear_reports(nphd_search_report *reports, size_t count)
{
    for (size_t i = 0; reports != NULL && i < count; i++) {
        memset(&reports[i], 0, sizeof(reports[i]));
        reports[i].exact = true;
    }
}

nphd_status nphdi_shards_nearest(nphdi_shards_call *call, const float *radius,
                                 const nphd_search_options *options, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    clear_reports(call->ask.reports, call->ask.query_count);
    TRY(nphdi_search_options_read(options, radius, &call->ask, err));
    TRY(nphdi_shards_run(call, work_queries, work_shards, err));
done:
    if (status != NPHD_OK) {
        clear_reports(call->ask.reports, call->ask.query_count);
    }
    return status;
}

nphd_status nphd_sharded_search_many(nphd_sharded *sharded, const nphd_vector *queries,
                                     size_t query_count, size_t capacity,
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
    return nphdi_shards_nearest(&call, NULL, options, err);
}

nphd_status nphd_sharded_search(nphd_sharded *sharded, nphd_vector query, size_t capacity,
                                const nphd_search_options *options, nphd_match *out,
                                nphd_search_report *report, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_search_report unused;
    nphdi_search_request ask;

    nphdi_error_clear(err);
    report = report != NULL ? report : &unused;
    clear_reports(report, 1);
    TRY(nphdi_search_options_read(options, NULL, &ask, err));
    TRY(nphdi_search_check_single(&ask.options, err));
    TRY(nphd_sharded_search_many(sharded, &query, 1, capacity, &ask.options, out, report, err));
done:
    return status;
}
