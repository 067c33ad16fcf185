/* Joins: the left side is gone through by its cursor, a batch at a time; the right side is searched
 * for the batch; what was found is sorted and handed to the sink.
 *
 * A self-join looks in the side that it goes through. A pair of two keys is found from both, and
 * kept where it is found from the lower one. A pair of two vectors of one key, in a multi index, is
 * left out of what the search found, which does not tell the vectors of a key apart; it is made
 * where the first of the two is met, with those that the cursor has yet to meet.
 *
 * Memory is bounded by the batch: one whose matches do not fit is cut in half, and taken up again
 * with the first half. A single vector, which cannot be cut, has its matches taken in pieces. */
#include "base/error.h"
#include "base/memory.h"
#include "index/index_internal.h"
#include "join/join_side.h"
#include "join/pair_buffer.h"

#include <string.h>

#define DEFAULT_BATCH 4096

/* So many lookups are worth making tables for, which takes as long as some hundred scans. */
#define WORTH_TABLES 1000
#define MOST_BATCH 65536

/* Room for matches, for each vector of a whole batch: six megabytes by default. Batches are rarely
 * cut where a vector has fewer. A small batch has the room of one of 64 vectors, since a vector
 * with more matches than that is looked up several times. */
#define MATCHES_FOR_VECTOR 64
#define LEAST_MATCHES 4096

/* Pairs handed over at a time, 40 kilobytes. */
#define PAIRS_AT_ONCE 1024

typedef struct join_vector {
    nphd_key key;
    nphdi_join_cursor behind; /* the cursor when it had met this vector */
} join_vector;

typedef struct join_run {
    const nphd_join_side *left;
    const nphd_join_side *right;
    bool self;
    nphdi_join_shape shape; /* of the left side */
    float radius;
    nphd_join_options options;
    nphd_search_options search;
    uint64_t total; /* vectors of the left side when the call began */
    nphd_pair_sink sink;
    void *context;
    nphd_join_report report;

    nphdi_join_cursor cursor;
    size_t batch;         /* most vectors in a batch */
    size_t count;         /* vectors in this one */
    join_vector *entries; /* `batch` of each */
    nphd_vector *vectors;
    uint8_t *bytes;
    size_t at_once; /* vectors of a batch that are looked up together, as far as is known */
    size_t first;   /* of those that are being looked up */
    size_t twin;    /* whose equals in key are being visited */
    nphdi_pair_buffer found;
    nphd_pair *pairs;
} join_run;

/* ---- arguments ---- */

static nphd_status check_fit(const nphdi_join_shape *left, const nphdi_join_shape *right,
                             nphd_error *err)
{
    if (left->metric != right->metric) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                          "join: the left side has the metric %s, the right one %s",
                          nphd_metric_name(left->metric), nphd_metric_name(right->metric));
    }
    if (left->max_bytes != right->max_bytes) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                          "join: the left side has vectors of %u bits, the right one of %u",
                          8 * left->max_bytes, 8 * right->max_bytes);
    }
    if (left->key_bytes != right->key_bytes) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                          "join: the left side has keys of %u bits, the right one of %u",
                          8 * left->key_bytes, 8 * right->key_bytes);
    }
    return NPHD_OK;
}

static nphd_status check_arguments(join_run *run, const nphd_join_side *left,
                                   const nphd_join_side *right, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_join_shape shape;

    if (left == NULL || run->sink == NULL) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "join: left or sink is NULL");
    }
    if (!(run->radius >= 0)) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "join: radius is not 0 or more");
    }
    TRY(nphdi_join_side_shape(left, "left", &run->shape, err));
    if (right != NULL) {
        TRY(nphdi_join_side_shape(right, "right", &shape, err));
        TRY(check_fit(&run->shape, &shape, err));
    }
done:
    return status;
}

/* ---- progress ---- */

static int ask_progress(const join_run *run)
{
    const uint64_t done = run->report.vectors;

    return run->options.progress == NULL
               ? 0
               : run->options.progress(run->options.progress_context, done,
                                       run->total > done ? run->total : done);
}

/* A lookup over a large right side takes its time, and can be cancelled too. */
static int search_progress(void *context, uint64_t done, uint64_t total)
{
    (void)done;
    (void)total;
    return ask_progress(context);
}

/* ---- finding ---- */

static int take_match(void *context, size_t query, const nphd_match *match)
{
    join_run *run = context;
    const nphdi_found found = {match->key, match->distance, (uint32_t)query};

    if (run->self && nphd_key_compare(run->entries[run->first + query].key, match->key) >= 0) {
        return 0;
    }
    return nphdi_pair_buffer_put(&run->found, &found) ? 0 : 1;
}

static void take_twin(void *context, nphd_vector vector)
{
    join_run *run = context;
    const nphd_vector left = run->vectors[run->first + run->twin];
    nphdi_found found = {run->entries[run->first + run->twin].key, 0, (uint32_t)run->twin};
    uint32_t bits = 0;

    if (run->shape.metric == NPHD_METRIC_HAMMING) {
        (void)nphd_hamming(left, vector, &bits, NULL);
        found.distance = (float)bits;
    } else {
        (void)nphd_distance(left, vector, &found.distance, NULL);
    }
    if (found.distance <= run->radius) {
        (void)nphdi_pair_buffer_put(&run->found, &found);
    }
}

/* Looks up `count` vectors from run->first on; what is found is put into the buffer. */
static nphd_status look_up(join_run *run, size_t count, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(nphdi_join_side_radius(run->right, run->vectors + run->first, count, run->radius,
                               &run->search, take_match, run, err));
    if (!run->self || !run->shape.multi || (run->found.overflow && !run->found.in_pieces)) {
        return NPHD_OK;
    }
    for (run->twin = 0; run->twin < count; run->twin++) {
        const join_vector *entry = &run->entries[run->first + run->twin];
        TRY(nphdi_join_cursor_visit_key(&entry->behind, entry->key, take_twin, run, err));
    }
done:
    return status;
}

/* ---- handing over ---- */

static void hand_over(join_run *run, size_t count)
{
    size_t ready = 0;

    nphdi_pair_buffer_sort(&run->found, (uint32_t)count);
    for (uint64_t i = 0; i < run->found.count && !run->report.more; i++) {
        const nphdi_found *found = &run->found.found[i];
        const nphd_pair pair = {run->entries[run->first + found->left].key, found->right,
                                found->distance};
        run->pairs[ready++] = pair;
        if (ready == PAIRS_AT_ONCE || i + 1 == run->found.count) {
            run->report.pairs += ready;
            run->report.more = run->sink(run->context, run->pairs, ready) != 0;
            ready = 0;
        }
    }
}

/* One vector whose matches may be too many for the buffer: a lookup for each piece. */
static nphd_status join_in_pieces(join_run *run, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    nphdi_pair_buffer_begin(&run->found, true);
    for (;;) {
        TRY(look_up(run, 1, err));
        hand_over(run, 1);
        if (!run->found.overflow || run->report.more) {
            break;
        }
        nphdi_pair_buffer_next_piece(&run->found);
    }
done:
    return status;
}

/* The next vectors of the batch; fewer are taken at once from the moment they had too many matches,
 * and more again when there was room. */
static nphd_status join_some(join_run *run, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const size_t rest = run->count - run->first;
    size_t count = run->at_once < rest ? run->at_once : rest;

    while (count > 1) {
        nphdi_pair_buffer_begin(&run->found, false);
        TRY(look_up(run, count, err));
        if (!run->found.overflow) {
            hand_over(run, count);
            break;
        }
        count /= 2;
        run->at_once = count;
    }
    if (count == 1) {
        TRY(join_in_pieces(run, err));
    }
    if (run->found.count < run->found.room / 4 && run->found.pieces == 0 &&
        run->at_once < run->batch) {
        run->at_once *= 2;
    }
    run->first += count;
    run->report.vectors += count;
done:
    return status;
}

/* ---- the call ---- */

/* An empty vector, which files of others may hold, has no bit in common with any and is passed
 * over: it can be no query. */
static nphd_status fill_batch(join_run *run, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    run->count = 0;
    run->first = 0;
    while (run->count < run->batch) {
        join_vector *entry = &run->entries[run->count];
        uint8_t *bytes = run->bytes + run->count * run->shape.max_bytes;
        nphd_vector *vector = &run->vectors[run->count];
        status = nphdi_join_cursor_next(&run->cursor, &entry->key, bytes, &vector->bytes, err);
        if (status == NPHD_NOT_FOUND) {
            return NPHD_OK;
        }
        TRY(status);
        entry->behind = run->cursor;
        vector->data = bytes;
        run->count += vector->bytes > 0 ? 1 : 0;
    }
done:
    return status;
}

static nphd_status join_all(join_run *run, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    do {
        TRY(fill_batch(run, err));
        while (run->first < run->count && !run->report.more) {
            TRY(join_some(run, err));
            if (ask_progress(run) != 0) {
                status =
                    nphdi_fail(err, NPHD_CANCELLED, "join: cancelled by the progress callback");
                goto done;
            }
        }
    } while (run->count == run->batch && !run->report.more);
done:
    return status;
}

static nphd_status join_allocate_and_run(join_run *run, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_allocator *allocator = nphdi_join_side_allocator(run->left);
    const size_t matches = run->batch * MATCHES_FOR_VECTOR;

    TRY(nphdi_pair_buffer_create(&run->found, allocator, run->batch,
                                 matches > LEAST_MATCHES ? matches : LEAST_MATCHES, err));
    TRY(nphdi_alloc(allocator, run->batch, sizeof(*run->entries), &run->entries, err));
    TRY(nphdi_alloc(allocator, run->batch, sizeof(*run->vectors), &run->vectors, err));
    TRY(nphdi_alloc(allocator, run->batch, run->shape.max_bytes, &run->bytes, err));
    TRY(nphdi_alloc(allocator, PAIRS_AT_ONCE, sizeof(*run->pairs), &run->pairs, err));
    TRY(join_all(run, err));
done:
    nphdi_free(allocator, run->pairs, PAIRS_AT_ONCE, sizeof(*run->pairs));
    nphdi_free(allocator, run->bytes, run->batch, run->shape.max_bytes);
    nphdi_free(allocator, run->vectors, run->batch, sizeof(*run->vectors));
    nphdi_free(allocator, run->entries, run->batch, sizeof(*run->entries));
    nphdi_pair_buffer_release(&run->found);
    return status;
}

nphd_status nphd_join(const nphd_join_side *left, const nphd_join_side *right, float radius,
                      const nphd_join_options *options, nphd_pair_sink sink, void *context,
                      nphd_join_report *report, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_join_options defaults = NPHD_JOIN_OPTIONS_INIT;
    const nphd_search_options search = NPHD_SEARCH_OPTIONS_INIT;
    join_run run;

    nphdi_error_clear(err);
    memset(&run, 0, sizeof(run));
    run.options = defaults;
    run.search = search;
    run.radius = radius;
    run.sink = sink;
    run.context = context;
    TRY(nphdi_options_read(options, sizeof(run.options), &run.options, "join options", err));
    TRY(check_arguments(&run, left, right, err));
    run.left = left;
    run.right = right != NULL ? right : left;
    run.self = right == NULL;
    run.batch = run.options.batch == 0 ? DEFAULT_BATCH : run.options.batch;
    run.batch = run.batch < MOST_BATCH ? run.batch : MOST_BATCH;
    run.at_once = run.batch;
    run.search.threads = run.options.threads;
    if (run.options.progress != NULL) {
        run.search.progress = search_progress;
        run.search.progress_context = &run;
    }
    run.total = nphdi_join_side_size(left);
    run.cursor = nphdi_join_cursor_begin(left);
    if (run.total >= WORTH_TABLES) {
        TRY(nphdi_join_side_prepare(run.right, run.options.threads, err));
    }
    TRY(join_allocate_and_run(&run, err));
done:
    if (report != NULL) {
        *report = run.report;
    }
    return status;
}
