/* One side of a join: the same calls for an index and a sharded one.
 *
 * A side that nphdi_join_side_shape() has accepted is one or the other. */
#ifndef NPHDI_JOIN_SIDE_H
#define NPHDI_JOIN_SIDE_H

#include "index/index_shard.h"

#include <nphd/join.h>

typedef struct nphdi_join_shape {
    nphd_metric metric;
    uint32_t max_bytes; /* of a vector */
    uint32_t key_bytes;
    nphd_unit unit;
    bool multi;
} nphdi_join_shape;

/* `name`: "left" or "right", for the error text. Errors: NPHD_INVALID_ARGUMENT, NPHD_CLOSED. */
nphd_status nphdi_join_side_shape(const nphd_join_side *side, const char *name,
                                  nphdi_join_shape *out, nphd_error *err);

/* Can the two be joined? Errors: NPHD_INVALID_ARGUMENT; NPHD_MISMATCH: codes of two types, unless
 * `mix`. */
nphd_status nphdi_join_side_fit(const nphdi_join_shape *left, const nphdi_join_shape *right,
                                bool mix, nphd_error *err);

const nphd_allocator *nphdi_join_side_allocator(const nphd_join_side *side);
uint64_t nphdi_join_side_size(const nphd_join_side *side);

/* Makes the side ready for many searches. */
nphd_status nphdi_join_side_prepare(const nphd_join_side *side, uint32_t threads, nphd_error *err);

/* All matches of the queries within the radius, in no particular order. */
nphd_status nphdi_join_side_radius(const nphd_join_side *side, const nphd_vector *queries,
                                   size_t query_count, float radius,
                                   const nphd_search_options *options, nphd_match_sink sink,
                                   void *context, nphd_error *err);

typedef struct nphdi_join_cursor {
    nphd_cursor of_index;
    nphd_sharded_cursor of_sharded; /* sharded NULL: the other counts */
} nphdi_join_cursor;

nphdi_join_cursor nphdi_join_cursor_begin(const nphd_join_side *side);
/* As nphd_cursor_next(). */
nphd_status nphdi_join_cursor_next(nphdi_join_cursor *cursor, nphd_key *out_key, uint8_t *out,
                                   size_t *out_bytes, nphd_error *err);
/* Calls `visit` for each vector of `key` that the cursor, which stays where it is, has yet to
 * meet. */
nphd_status nphdi_join_cursor_visit_key(const nphdi_join_cursor *cursor, nphd_key key,
                                        nphdi_visit_vector visit, void *context, nphd_error *err);

#endif
