/* One side of a join; see join_side.h. */
#include "join/join_side.h"

#include "base/error.h"
#include "index/index_internal.h"
#include "sharded/sharded_internal.h"

#include <string.h>

static void index_shape(nphd_index *index, nphdi_join_shape *out)
{
    nphdi_rwlock_read(&index->content_lock);
    out->metric = index->content->shape.metric;
    out->max_bytes = index->content->shape.payload_bytes;
    out->key_bytes = index->content->shape.key_bytes;
    out->multi = index->content->shape.multi;
    out->unit = atomic_load(&index->content->unit);
    nphdi_rwlock_read_end(&index->content_lock);
}

nphd_status nphdi_join_side_shape(const nphd_join_side *side, const char *name,
                                  nphdi_join_shape *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    if ((side->index == NULL) == (side->sharded == NULL)) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                          "join: the %s side is %s index; give one or the other", name,
                          side->index == NULL ? "no" : "an index and a sharded");
    }
    if (side->index != NULL) {
        NPHDI_INDEX_ENTER(side->index, err);
        index_shape(side->index, out);
        return NPHD_OK;
    }
    TRY(nphdi_look_begin(side->sharded, err));
    index_shape(side->sharded->active, out);
    out->unit = atomic_load(&side->sharded->unit);
    nphdi_look_end(side->sharded);
done:
    return status;
}

nphd_status nphdi_join_side_fit(const nphdi_join_shape *left, const nphdi_join_shape *right,
                                bool mix, nphd_error *err)
{
    char left_name[NPHD_UNIT_NAME_BYTES];
    char right_name[NPHD_UNIT_NAME_BYTES];

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
    if (!mix && !nphd_units_agree(left->unit, right->unit)) {
        return nphdi_fail(
            err, NPHD_MISMATCH, "join: the left side has codes of the type %s, the right one of %s",
            nphd_unit_name(left->unit, left_name), nphd_unit_name(right->unit, right_name));
    }
    return NPHD_OK;
}

const nphd_allocator *nphdi_join_side_allocator(const nphd_join_side *side)
{
    return side->sharded != NULL ? side->sharded->allocator : side->index->allocator;
}

uint64_t nphdi_join_side_size(const nphd_join_side *side)
{
    return side->sharded != NULL ? nphd_sharded_size(side->sharded) : nphd_index_size(side->index);
}

nphd_status nphdi_join_side_prepare(const nphd_join_side *side, uint32_t threads, nphd_error *err)
{
    return side->index != NULL ? nphd_index_prepare(side->index, threads, err)
                               : nphd_sharded_prepare(side->sharded, threads, err);
}

nphd_status nphdi_join_side_radius(const nphd_join_side *side, const nphd_vector *queries,
                                   size_t query_count, float radius,
                                   const nphd_search_options *options, nphd_match_sink sink,
                                   void *context, nphd_error *err)
{
    return side->sharded != NULL
               ? nphd_sharded_radius_stream(side->sharded, queries, query_count, radius, options,
                                            sink, context, NULL, err)
               : nphd_index_radius_stream(side->index, queries, query_count, radius, options, sink,
                                          context, NULL, err);
}

nphdi_join_cursor nphdi_join_cursor_begin(const nphd_join_side *side)
{
    nphdi_join_cursor cursor;

    memset(&cursor, 0, sizeof(cursor));
    if (side->sharded != NULL) {
        cursor.of_sharded = nphd_sharded_cursor_begin(side->sharded);
    } else {
        cursor.of_index = nphd_index_cursor(side->index);
    }
    return cursor;
}

nphd_status nphdi_join_cursor_next(nphdi_join_cursor *cursor, nphd_key *out_key, uint8_t *out,
                                   size_t *out_bytes, nphd_error *err)
{
    return cursor->of_sharded.sharded != NULL
               ? nphd_sharded_cursor_next(&cursor->of_sharded, out_key, out, out_bytes, err)
               : nphd_cursor_next(&cursor->of_index, out_key, out, out_bytes, err);
}

nphd_status nphdi_join_cursor_visit_key(const nphdi_join_cursor *cursor, nphd_key key,
                                        nphdi_visit_vector visit, void *context, nphd_error *err)
{
    return cursor->of_sharded.sharded != NULL
               ? nphdi_sharded_visit_key(&cursor->of_sharded, key, visit, context, err)
               : nphdi_index_visit_key(cursor->of_index.index, key, cursor->of_index.next, visit,
                                       context, err);
}
