/* Searching by radius against the naive form: comparing with every vector and sorting.
 *
 *     radius_target target = {index, NULL};            // or {NULL, sharded}
 *     radius_check(&model, &target, &random);          // fails the test when an answer is wrong
 *
 * One call asks random queries in every way: nearest within a radius and without, any, handed to a
 * callback, cut short by it, along the graph; with variants, filters, capacities and threads. */
#ifndef RADIUS_CHECK_H
#define RADIUS_CHECK_H

#include "index_model.h"

typedef struct radius_target {
    nphd_index *index;
    nphd_sharded *sharded;
} radius_target;

void radius_check(const index_model *model, const radius_target *target, test_random *random);

/* The calls of either kind. */
nphd_status radius_find(const radius_target *target, const nphd_vector *queries, size_t query_count,
                        float radius, size_t capacity, const nphd_search_options *options,
                        nphd_match *out, nphd_search_report *reports, nphd_error *err);
nphd_status radius_stream(const radius_target *target, const nphd_vector *queries,
                          size_t query_count, float radius, const nphd_search_options *options,
                          nphd_match_sink sink, void *context, nphd_search_report *reports,
                          nphd_error *err);
nphd_status radius_nearest(const radius_target *target, const nphd_vector *queries,
                           size_t query_count, size_t capacity, const nphd_search_options *options,
                           nphd_match *out, nphd_search_report *reports, nphd_error *err);

/* What is wrong is refused, and nothing is a fine question; for a target of `bytes` wide vectors
 * that is empty or not. */
void radius_check_arguments(const radius_target *target, size_t bytes);

#endif
