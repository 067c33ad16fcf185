/* Joins: the left side is gone through by its cursor, a batch at a time; the right side is searched
 * for the batch; what was found is sorted and handed to the sink.
 *
 * A self-join looks in the side that it goes through. A pair of two keys is found from both, and
 * kept where it is found from the lower one. A pair of two vectors of one key, in a multi index, is
 * left out of what the search found, which does not tell the vectors of a key apart; it is made
 * where the first of the two is met, with those that the cursor has yet to meet.
 *
 * Memory is bounded by the batch: one whose matches do not fit is cut in half, and taken up again
 * with the first half. A single vector, which cannot be cut, has its matches taken in pieces.
 *
 * A join stands still between two lookups: what the last one found is in order in the buffer, and
 * handed over from there, to a sink or to whom asks for the next pairs. */
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

typedef struct nphd_pairs {
    nphd_join_side left;
    nphd_join_side right;
    bool self;
    nphdi_join_shape shape; /* of the left side */
    float radius;
    nphd_join_options options;
    nphd_search_options search;
    uint64_t total; /* vectors of the left side when the join began */
    nphd_join_report report;
    bool failed; /* what follows is not known */

    nphdi_join_cursor cursor;
    bool at_end;          /* the cursor has met all vectors */
    size_t batch;         /* most vectors in a batch */
    size_t count;         /* vectors in this one */
    join_vector *entries; /* `batch` of each */
    nphd_vector *vectors;
    uint8_t *bytes;
    size_t at_once; /* vectors of a batch that are looked up together, as far as is known */
    size_t first;   /* of those that are being looked up */
    size_t looked;  /* how many that are */
    bool again;     /* there are further pieces of the one that is */
    size_t twin;    /* whose equals in key are being visited */
    nphdi_pair_buffer found;
    uint64_t handed; /* of what was found */
} join_run;

/* ---- arguments ---- */

static nphd_status check_arguments(join_run *run, const nphd_join_side *left,
                                   const nphd_join_side *right, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_join_shape shape;

    TRY(nphdi_join_side_shape(left, "left", &run->shape, err));
    TRY(nphdi_check_radius(run->shape.metric, run->radius, "join", err));
    if (right != NULL) {
        TRY(nphdi_join_side_shape(right, "right", &shape, err));
        TRY(nphdi_join_side_fit(&run->shape, &shape, run->options.mix_units, err));
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

    TRY(nphdi_join_side_radius(&run->right, run->vectors + run->first, count, run->radius,
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

/* Looks up the next vectors, or takes the next piece of one that has too many matches for the
 * buffer. Fewer are taken at once from the moment they had too many matches. */
static nphd_status look_for_some(join_run *run, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const size_t rest = run->count - run->first;
    size_t count = run->at_once < rest ? run->at_once : rest;

    if (run->again) {
        nphdi_pair_buffer_next_piece(&run->found);
        count = 1;
        TRY(look_up(run, 1, err));
    }
    while (!run->again && count > 1) {
        nphdi_pair_buffer_begin(&run->found, false);
        TRY(look_up(run, count, err));
        if (!run->found.overflow) {
            break;
        }
        count /= 2;
        run->at_once = count;
    }
    if (!run->again && count == 1) {
        nphdi_pair_buffer_begin(&run->found, true);
        TRY(look_up(run, 1, err));
    }
    nphdi_pair_buffer_sort(&run->found, (uint32_t)count);
    run->looked = count;
    run->handed = 0;
done:
    return status;
}

/* After all pairs of those vectors: more are taken at once again when there was room. */
static void go_on_behind(join_run *run)
{
    run->again = run->found.overflow;
    if (run->again) {
        return;
    }
    if (run->found.count < run->found.room / 4 && run->found.pieces == 0 &&
        run->at_once < run->batch) {
        run->at_once *= 2;
    }
    run->first += run->looked;
    run->report.vectors += run->looked;
    run->looked = 0;
}

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
            run->at_end = true;
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

/* Finds the next pairs. *out_end: there are none. */
static nphd_status find_some(join_run *run, bool *out_end, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    if (run->looked > 0) {
        go_on_behind(run);
        if (!run->again && ask_progress(run) != 0) {
            status = nphdi_fail(err, NPHD_CANCELLED, "join: cancelled by the progress callback");
            goto done;
        }
    }
    if (run->first == run->count && !run->at_end) {
        TRY(fill_batch(run, err));
    }
    *out_end = run->first == run->count;
    TRY(*out_end ? NPHD_OK : look_for_some(run, err));
done:
    return status;
}

/* ---- handing over ---- */

/* Pairs that were found and not yet handed over, at most `capacity`. One beyond the limit only
 * tells that there are more. */
static size_t take_found(join_run *run, nphd_pair *out, size_t capacity)
{
    const uint64_t limit = run->options.limit;
    size_t ready = 0;

    while (run->handed < run->found.count && ready < capacity && !run->report.more) {
        const nphdi_found *found = &run->found.found[run->handed];
        const nphd_pair pair = {run->entries[run->first + found->left].key, found->right,
                                found->distance};
        if (limit > 0 && run->report.pairs == limit) {
            run->report.more = true;
            break;
        }
        out[ready++] = pair;
        run->handed++;
        run->report.pairs++;
    }
    return ready;
}

/* The next pairs as they are found; *out_count 0: there are none. */
static nphd_status next_some(join_run *run, nphd_pair *out, size_t capacity, size_t *out_count,
                             nphd_error *err)
{
    nphd_status status = NPHD_OK;
    bool end = false;

    *out_count = take_found(run, out, capacity);
    while (*out_count == 0 && !run->report.more) {
        TRY(find_some(run, &end, err));
        if (end) {
            break;
        }
        *out_count = take_found(run, out, capacity);
    }
done:
    run->failed = run->failed || status != NPHD_OK;
    return status;
}

/* ---- beginning and end ---- */

static nphd_status join_allocate(join_run *run, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_allocator *allocator = nphdi_join_side_allocator(&run->left);
    const size_t matches = run->batch * MATCHES_FOR_VECTOR;

    TRY(nphdi_pair_buffer_create(&run->found, allocator, run->batch,
                                 matches > LEAST_MATCHES ? matches : LEAST_MATCHES, err));
    TRY(nphdi_alloc(allocator, run->batch, sizeof(*run->entries), &run->entries, err));
    TRY(nphdi_alloc(allocator, run->batch, sizeof(*run->vectors), &run->vectors, err));
    TRY(nphdi_alloc(allocator, run->batch, run->shape.max_bytes, &run->bytes, err));
done:
    return status;
}

/* Takes a run that failed to begin, too, but for one whose left side is none. */
static void join_release(join_run *run)
{
    const nphd_allocator *allocator = nphdi_join_side_allocator(&run->left);

    nphdi_free(allocator, run->bytes, run->batch, run->shape.max_bytes);
    nphdi_free(allocator, run->vectors, run->batch, sizeof(*run->vectors));
    nphdi_free(allocator, run->entries, run->batch, sizeof(*run->entries));
    nphdi_pair_buffer_release(&run->found);
}

static nphd_status join_begin(join_run *run, const nphd_join_side *left,
                              const nphd_join_side *right, float radius,
                              const nphd_join_options *options, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_join_options defaults = NPHD_JOIN_OPTIONS_INIT;
    const nphd_search_options search = NPHD_SEARCH_OPTIONS_INIT;

    run->options = defaults;
    run->search = search;
    run->radius = radius;
    TRY(nphdi_options_read(options, sizeof(run->options), &run->options, "join options", err));
    TRY(check_arguments(run, left, right, err));
    run->left = *left;
    run->right = right != NULL ? *right : *left;
    run->self = right == NULL;
    run->batch = run->options.batch == 0 ? DEFAULT_BATCH : run->options.batch;
    run->batch = run->batch < MOST_BATCH ? run->batch : MOST_BATCH;
    run->at_once = run->batch;
    run->search.threads = run->options.threads;
    if (run->options.progress != NULL) {
        run->search.progress = search_progress;
        run->search.progress_context = run;
    }
    run->total = nphdi_join_side_size(left);
    run->cursor = nphdi_join_cursor_begin(left);
    if (run->total >= WORTH_TABLES) {
        TRY(nphdi_join_side_prepare(&run->right, run->options.threads, err));
    }
    status = join_allocate(run, err);
    if (status != NPHD_OK) {
        join_release(run);
    }
done:
    return status;
}

/* A side that was loaded anew between two calls may have wider vectors than there is room for. */
static nphd_status check_same(const join_run *run, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_join_shape left;
    nphdi_join_shape right;

    TRY(nphdi_join_side_shape(&run->left, "left", &left, err));
    TRY(nphdi_join_side_shape(&run->right, "right", &right, err));
    TRY(nphdi_join_side_fit(&left, &right, run->options.mix_units, err));
    TRY(nphdi_join_side_fit(&run->shape, &left, true, err));
    if (left.multi != run->shape.multi) {
        status = nphdi_fail(err, NPHD_INVALID_ARGUMENT, "join: the left side was replaced");
    }
done:
    return status;
}

/* ---- the calls ---- */

nphd_status nphd_join(const nphd_join_side *left, const nphd_join_side *right, float radius,
                      const nphd_join_options *options, nphd_pair_sink sink, void *context,
                      nphd_join_report *report, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_pair *pairs = NULL;
    bool begun = false;
    size_t count = 0;
    join_run run;

    nphdi_error_clear(err);
    memset(&run, 0, sizeof(run));
    if (left == NULL || sink == NULL) {
        status = nphdi_fail(err, NPHD_INVALID_ARGUMENT, "join: left or sink is NULL");
        goto done;
    }
    TRY(join_begin(&run, left, right, radius, options, err));
    begun = true;
    TRY(nphdi_alloc(nphdi_join_side_allocator(left), PAIRS_AT_ONCE, sizeof(*pairs), &pairs, err));
    do {
        TRY(next_some(&run, pairs, PAIRS_AT_ONCE, &count, err));
        if (count > 0 && sink(context, pairs, count) != 0) {
            run.report.more = true;
        }
    } while (count > 0 && !run.report.more);
done:
    if (begun) {
        nphdi_free(nphdi_join_side_allocator(left), pairs, PAIRS_AT_ONCE, sizeof(*pairs));
        join_release(&run);
    }
    if (report != NULL) {
        *report = run.report;
    }
    return status;
}

nphd_status nphd_pairs_open(const nphd_join_side *left, const nphd_join_side *right, float radius,
                            const nphd_join_options *options, nphd_pairs **out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_join_shape shape;
    nphd_pairs *pairs = NULL;

    nphdi_error_clear(err);
    if (out != NULL) {
        *out = NULL;
    }
    if (left == NULL || out == NULL) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "join: left or out is NULL");
    }
    TRY(nphdi_join_side_shape(left, "left", &shape, err));
    TRY(nphdi_alloc(nphdi_join_side_allocator(left), 1, sizeof(*pairs), &pairs, err));
    status = join_begin(pairs, left, right, radius, options, err);
    if (status != NPHD_OK) {
        nphdi_free(nphdi_join_side_allocator(left), pairs, 1, sizeof(*pairs));
        pairs = NULL;
    }
    *out = pairs;
done:
    return status;
}

nphd_status nphd_pairs_next(nphd_pairs *pairs, nphd_pair *out, size_t capacity, size_t *out_count,
                            nphd_join_report *report, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    size_t total = 0;
    size_t count = 0;

    nphdi_error_clear(err);
    *out_count = 0;
    if (capacity == 0 || out == NULL) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "join: there is no room for pairs");
    }
    if (pairs->failed) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                          "join: it ended with an error; begin another one");
    }
    TRY(check_same(pairs, err));
    do {
        TRY(next_some(pairs, out + total, capacity - total, &count, err));
        total += count;
    } while (count > 0 && total < capacity);
done:
    *out_count = status == NPHD_OK ? total : 0;
    if (report != NULL) {
        *report = pairs->report;
    }
    return status;
}

void nphd_pairs_close(nphd_pairs *pairs)
{
    if (pairs != NULL) {
        const nphd_allocator *allocator = nphdi_join_side_allocator(&pairs->left);
        join_release(pairs);
        nphdi_free(allocator, pairs, 1, sizeof(*pairs));
    }
}
