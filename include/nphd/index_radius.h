/* All vectors within a radius. */
#ifndef NPHD_INDEX_RADIUS_H
#define NPHD_INDEX_RADIUS_H

#include <nphd/index_search.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Find all stored vectors within `radius` of each query, nearest first.
 *
 * As nphd_index_search_many() with that radius, and exact unless the options ask for the graph:
 * what AUTO means for the nearest does not hold here. reports[i].more says that there are further
 * matches than `capacity`; those given are then the nearest. With options->any at most one match
 * is given, any one.
 *
 * With options->variants each run of so many vectors in `queries` is one query (the eight turns and
 * reflections of an image hash, say): a stored vector is within the radius if one of them is,
 * counts once, and names the nearest variant.
 *
 * Shapes   queries: query_count * variants vectors. out: room for query_count * capacity matches,
 *          those of query i from out + i * capacity. reports: query_count reports.
 * Units    radius: as a match's distance, itself included; INFINITY: no limit.
 * Errors   as nphd_index_search_many().
 * Threads  as nphd_index_search_many().
 */
NPHD_API nphd_status nphd_index_radius(nphd_index *index, const nphd_vector *queries,
                                       size_t query_count, float radius, size_t capacity,
                                       const nphd_search_options *options, nphd_match *out,
                                       nphd_search_report *reports, nphd_error *err);

/** Takes a match of query number `query`. Returns 0 to go on; anything else ends the call. Must not
 * call into the same index. */
typedef int (*nphd_match_sink)(void *context, size_t query, const nphd_match *match);

/**
 * Hand all stored vectors within `radius` of each query to `sink`, in no particular order, however
 * many there are: memory does not grow with them. Always exact. With options->variants as
 * nphd_index_radius(); with options->any at most one match of each query is handed over.
 *
 * Shapes   reports: query_count reports, or NULL; count is the number handed over.
 * Returns  NPHD_OK, also when the sink ended the call; then `more` is set in the reports of the
 *          queries that were not answered whole.
 * Errors   as nphd_index_search_many(). What was handed over before an error stands.
 * Threads  the sink is called by one thread at a time, not always the same one when
 *          options->threads is above 1.
 */
NPHD_API nphd_status nphd_index_radius_stream(nphd_index *index, const nphd_vector *queries,
                                              size_t query_count, float radius,
                                              const nphd_search_options *options,
                                              nphd_match_sink sink, void *context,
                                              nphd_search_report *reports, nphd_error *err);

#ifdef __cplusplus
}
#endif

#endif
