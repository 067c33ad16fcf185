/* Search along the graph: for each variant of a query by itself. What they found is united by slot,
 * so that a vector counts once, as far away as the nearest variant is. */
#include "base/error.h"
#include "index/index_search_job.h"
#include "index/index_search_tables.h"
#include "scan/costs.h"

#include <stdlib.h>
#include <string.h>

typedef struct graph_candidate {
    nphd_match match;
    uint32_t slot;
} graph_candidate;

/* One worker's own. */
typedef struct graph_worker {
    nphdi_search_job *job;
    nphdi_graph_scratch *scratch;
    graph_candidate *candidates; /* `breadth` for each variant */
    size_t count;
    nphdi_tables_scratch *tables; /* NULL: answers are not proved */
    nphdi_scan_match *matches;    /* `keep` */
} graph_worker;

static bool allow_slot(void *context, uint32_t slot)
{
    nphd_key key;
    nphdi_search_view *view = context;

    return nphdi_content_is_live(view->job->content, slot) &&
           (view->job->ask.options.filter == NULL ||
            (slot < view->job->slots && nphdi_search_take_key(view, slot, &key)));
}

static int compare_matches(const void *left, const void *right)
{
    const nphd_match *a = &((const graph_candidate *)left)->match;
    const nphd_match *b = &((const graph_candidate *)right)->match;

    if (a->distance < b->distance || a->distance > b->distance) {
        return a->distance < b->distance ? -1 : 1;
    }
    const int order = nphd_key_compare(a->key, b->key);
    return order != 0 ? order : (a->variant > b->variant) - (a->variant < b->variant);
}

static int compare_slots(const void *left, const void *right)
{
    const uint32_t a = ((const graph_candidate *)left)->slot;
    const uint32_t b = ((const graph_candidate *)right)->slot;

    return (a > b) - (a < b);
}

/* Takes over what the search for one variant kept. */
static void graph_take(graph_worker *self)
{
    const nphdi_search_job *job = self->job;
    const nphdi_graph_scratch *scratch = self->scratch;
    const nphd_search_options *options = &job->ask.options;

    for (uint64_t i = 0; i < scratch->best_count; i++) {
        const float distance = scratch->best_distances[i];
        if (options->use_radius && distance > options->radius) {
            break;
        }
        /* beyond the cut only those that tie with it can still matter, and one that tells that
         * there are more */
        if (i > job->wanted && distance > scratch->best_distances[job->wanted - 1]) {
            break;
        }
        graph_candidate *to = &self->candidates[self->count++];
        memset(to, 0, sizeof(*to));
        to->slot = scratch->best_slots[i];
        to->match.distance = distance;
    }
}

/* Each slot once, as far away as its nearest variant. */
static void graph_unite(graph_worker *self, size_t number)
{
    const nphdi_search_job *job = self->job;
    const bool hamming = job->content->shape.metric == NPHD_METRIC_HAMMING;
    size_t count = 0;

    qsort(self->candidates, self->count, sizeof(*self->candidates), compare_slots);
    for (size_t i = 0; i < self->count; i++) {
        const uint32_t slot = self->candidates[i].slot;
        if (count == 0 || self->candidates[count - 1].slot != slot) {
            graph_candidate *to = &self->candidates[count++];
            const nphdi_bits bits = nphdi_search_nearest(job, number, slot, &to->match.variant);
            to->slot = slot;
            to->match.distance = hamming ? (float)bits.differing : nphdi_bits_distance(bits);
        }
    }
    self->count = count;
}

/* The candidates as matches, in our order. Ties at the cut go to the smaller keys. */
static nphd_status graph_report(graph_worker *self, size_t number, nphd_error *err)
{
    nphdi_search_job *job = self->job;
    const nphdi_content *content = job->content;
    const nphd_search_options *options = &job->ask.options;
    nphd_match *out = job->ask.out + number * job->ask.capacity;
    nphd_search_report *report = &job->ask.reports[number];

    if (job->variants > 1) {
        graph_unite(self, number);
    }
    for (size_t i = 0; i < self->count; i++) {
        graph_candidate *one = &self->candidates[i];
        if (!nphdi_content_key(content, one->slot, &one->match.key) ||
            nphdi_is_free_key(one->match.key, content->shape.key_bytes)) {
            return nphdi_mapped_broken(&content->mapped, one->slot, err);
        }
    }
    qsort(self->candidates, self->count, sizeof(*self->candidates), compare_matches);
    report->count = self->count < job->wanted ? self->count : job->wanted;
    for (size_t i = 0; i < report->count; i++) {
        out[i] = self->candidates[i].match;
    }
    report->exact = job->slots == 0;
    report->more = options->use_radius && !options->any && self->count > job->wanted;
    return NPHD_OK;
}

/* Leaves the nearest in the scratch. */
static nphd_status graph_walk(nphdi_search_job *job, size_t number, uint32_t variant,
                              nphdi_graph_scratch *scratch, nphd_error *err)
{
    nphd_status status;
    nphdi_search_view view = {job, number, variant, false, false, 0};
    const nphdi_graph_reader reader = nphdi_content_reader(job->content);
    nphdi_graph_target target;

    scratch->computed = 0;
    scratch->expanded = 0;
    scratch->best_count = 0;
    if (reader.max_level < 0) {
        return NPHD_OK;
    }
    target.query = nphdi_search_query(job, number, variant);
    target.rows = nphdi_content_rows(job->content);
    target.kernels = job->content->kernels;
    target.allow = allow_slot;
    target.allow_context = &view;
    status =
        nphdi_graph_search(&reader, &target, job->breadth, scratch, job->content->allocator, err);
    if (status == NPHD_CORRUPT || view.broken) {
        return nphdi_mapped_broken(&job->content->mapped,
                                   view.broken ? view.broken_slot : reader.entry, err);
    }
    return status;
}

static nphd_status graph_variant(graph_worker *self, size_t number, uint32_t variant,
                                 nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_search_report *report = &self->job->ask.reports[number];

    TRY(graph_walk(self->job, number, variant, self->scratch, err));
    graph_take(self);
    report->computed += self->scratch->computed;
    report->visited += self->scratch->expanded;
done:
    return status;
}

nphd_status nphdi_search_graph_bound(nphdi_search_job *job, size_t number, nphdi_bits *out,
                                     bool *out_found, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_pooled_scratch *scratch = NULL;

    TRY(nphdi_index_borrow(job->index, &scratch, err));
    TRY(graph_walk(job, number, 0, &scratch->scratch, err));
    *out_found = scratch->scratch.best_count >= job->keep;
    if (*out_found) {
        *out = scratch->scratch.best_bits[job->keep - 1];
    }
done:
    nphdi_index_give_back(job->index, scratch);
    return status;
}

/* What was found along the graph bounds the exact answer; where the tables find that for little
 * more, it takes the place of the other. */
static nphd_status graph_prove(graph_worker *self, size_t number, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_search_job *job = self->job;
    const nphdi_graph_scratch *scratch = self->scratch;
    nphd_search_report *report = &job->ask.reports[number];
    nphdi_search_view view = {job, number, 0, false, false, 0};
    nphdi_scan_best best;
    const bool bounded = scratch->best_count >= job->keep;
    bool done = false;
    double cost = 0;
    uint64_t looked = 0;

    nphdi_scan_begin(&best, self->matches, job->keep);
    if (job->ask.options.use_radius) {
        nphdi_search_limit_radius(job, &best);
    }
    if (bounded) {
        nphdi_scan_limit_bits(&best, scratch->best_bits[job->keep - 1]);
    }
    TRY(nphdi_search_by_tables(job, number, &view, &best, job->prove_ns, self->tables, &done, &cost,
                               &looked, err));
    if (view.broken) {
        return nphdi_mapped_broken(&job->content->mapped, view.broken_slot, err);
    }
    /* with fewer than the bound promised, some of them were removed meanwhile: nothing is proved */
    if (done && !(bounded && best.count < job->keep)) {
        nphd_match *out = job->ask.out + number * job->ask.capacity;
        nphdi_scan_finish(&best);
        report->count = (size_t)(best.count < job->wanted ? best.count : job->wanted);
        for (size_t i = 0; i < report->count; i++) {
            out[i] = nphdi_search_match(job, &best.matches[i]);
        }
        report->exact = true;
        report->more = job->ask.options.use_radius && best.count > job->wanted;
        report->plan = NPHD_PLAN_TABLES;
        report->predicted += (float)(cost / 1000);
        report->computed += looked;
    }
done:
    return status;
}

static nphd_status graph_query(graph_worker *self, size_t number, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    const nphdi_search_job *job = self->job;
    nphd_search_report *report = &job->ask.reports[number];
    const uint64_t start = nphdi_clock_ns();

    self->count = 0;
    for (uint32_t variant = 0; variant < self->job->variants; variant++) {
        TRY(graph_variant(self, number, variant, err));
    }
    TRY(graph_report(self, number, err));
    report->plan = job->slots == 0 ? NPHD_PLAN_AUTO : NPHD_PLAN_GRAPH;
    report->predicted = (float)job->variants * (float)job->breadth * NPHDI_COST_BREADTH / 1000;
    if (self->tables != NULL) {
        TRY(graph_prove(self, number, err));
    }
    report->measured = (float)(nphdi_clock_ns() - start) / 1000;
done:
    return status;
}

nphd_status nphdi_search_graph(nphdi_search_job *job, uint32_t worker, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t room = (uint64_t)job->breadth * job->variants;
    nphdi_pooled_scratch *scratch = NULL;
    graph_worker self = {job, NULL, NULL, 0, NULL, NULL};

    TRY(nphdi_index_borrow(job->index, &scratch, err));
    self.scratch = &scratch->scratch;
    TRY(nphdi_alloc(job->index->allocator, room, sizeof(*self.candidates), &self.candidates, err));
    if (job->prove_ns > 0) {
        TRY(nphdi_alloc(job->index->allocator, 1, sizeof(*self.tables), &self.tables, err));
        TRY(nphdi_alloc(job->index->allocator, job->keep, sizeof(*self.matches), &self.matches,
                        err));
    }
    while (!atomic_load(&job->stop)) {
        const uint64_t number = atomic_fetch_add(&job->next, 1);
        if (number >= job->ask.query_count) {
            break;
        }
        TRY(graph_query(&self, number, err));
        const uint64_t done = atomic_fetch_add(&job->done, 1) + 1;
        if (worker == 0 && job->ask.query_count > 1 &&
            !nphdi_search_go_on(job, done, job->ask.query_count)) {
            status = nphdi_search_cancelled(err);
            goto done;
        }
    }
done:
    if (self.tables != NULL) {
        nphdi_tables_scratch_free(self.tables, job->index->allocator);
    }
    nphdi_free(job->index->allocator, self.tables, 1, sizeof(*self.tables));
    nphdi_free(job->index->allocator, self.matches, job->keep, sizeof(*self.matches));
    nphdi_free(job->index->allocator, self.candidates, room, sizeof(*self.candidates));
    nphdi_index_give_back(job->index, scratch);
    return status;
}
