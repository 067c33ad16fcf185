/* Searching by radius in either kind of index, and what both refuse. */
#include "radius_check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

/* ---- either kind ---- */

nphd_status radius_find(const radius_target *target, const nphd_vector *queries, size_t query_count,
                        float radius, size_t capacity, const nphd_search_options *options,
                        nphd_match *out, nphd_search_report *reports, nphd_error *err)
{
    return target->index != NULL
               ? nphd_index_radius(target->index, queries, query_count, radius, capacity, options,
                                   out, reports, err)
               : nphd_sharded_radius(target->sharded, queries, query_count, radius, capacity,
                                     options, out, reports, err);
}

nphd_status radius_stream(const radius_target *target, const nphd_vector *queries,
                          size_t query_count, float radius, const nphd_search_options *options,
                          nphd_match_sink sink, void *context, nphd_search_report *reports,
                          nphd_error *err)
{
    return target->index != NULL
               ? nphd_index_radius_stream(target->index, queries, query_count, radius, options,
                                          sink, context, reports, err)
               : nphd_sharded_radius_stream(target->sharded, queries, query_count, radius, options,
                                            sink, context, reports, err);
}

nphd_status radius_nearest(const radius_target *target, const nphd_vector *queries,
                           size_t query_count, size_t capacity, const nphd_search_options *options,
                           nphd_match *out, nphd_search_report *reports, nphd_error *err)
{
    return target->index != NULL ? nphd_index_search_many(target->index, queries, query_count,
                                                          capacity, options, out, reports, err)
                                 : nphd_sharded_search_many(target->sharded, queries, query_count,
                                                            capacity, options, out, reports, err);
}

/* ---- arguments ---- */

static int never(void *context, size_t query, const nphd_match *match)
{
    (void)context;
    (void)query;
    (void)match;
    fail_msg("a match was handed over");
    return 1;
}

#define REFUSED(call) assert_int_equal((call), NPHD_INVALID_ARGUMENT)

void radius_check_arguments(const radius_target *target, size_t bytes)
{
    static const uint8_t data[NPHD_MAX_BYTES];
    const float wrong[] = {-1, -0.001F, -3e38F, (float)strtod("nan", NULL)};
    nphd_vector queries[NPHD_MAX_VARIANTS + 1];
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_match out[NPHD_MAX_VARIANTS + 1];
    nphd_search_report reports[NPHD_MAX_VARIANTS + 1];
    nphd_error err = NPHD_ERROR_INIT;

    for (size_t i = 0; i <= NPHD_MAX_VARIANTS; i++) {
        queries[i].data = data;
        queries[i].bytes = bytes;
    }
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        memset(reports, 0x55, sizeof(reports));
        REFUSED(radius_find(target, queries, 1, wrong[i], 1, NULL, out, reports, &err));
        assert_int_equal(reports[0].count, 0);
        REFUSED(radius_stream(target, queries, 1, wrong[i], NULL, never, NULL, reports, &err));
        REFUSED(radius_find(target, queries, 0, wrong[i], 1, NULL, out, reports, &err));
    }
    REFUSED(radius_find(target, queries, 1, 0, 0, NULL, out, reports, &err));
    REFUSED(radius_find(target, queries, 1, 0, 1, NULL, NULL, reports, &err));
    REFUSED(radius_find(target, queries, 1, 0, 1, NULL, out, NULL, &err));
    REFUSED(radius_find(target, NULL, 1, 0, 1, NULL, out, reports, &err));
    REFUSED(radius_stream(target, NULL, 1, 0, NULL, never, NULL, reports, &err));
    REFUSED(radius_stream(target, queries, 1, 0, NULL, NULL, NULL, reports, &err));
    options.any = true;
    REFUSED(radius_nearest(target, queries, 1, 1, &options, out, reports, &err));
    assert_string_equal(err.text, "search: `any` needs a radius");
    options.any = false;
    options.variants = NPHD_MAX_VARIANTS + 1;
    REFUSED(radius_find(target, queries, 1, 0, 1, &options, out, reports, &err));
    REFUSED(radius_stream(target, queries, 1, 0, &options, never, NULL, reports, &err));
    options.variants = 2;
    REFUSED(
        target->index != NULL
            ? nphd_index_search(target->index, queries[0], 1, &options, out, reports, &err)
            : nphd_sharded_search(target->sharded, queries[0], 1, &options, out, reports, &err));
    queries[3].bytes = 0; /* the last variant of the second query */
    REFUSED(radius_find(target, queries, 2, 0, 1, &options, out, reports, &err));
    assert_non_null(strstr(err.text, "query 1 has 0 bytes"));
    queries[3].bytes = bytes;
    assert_int_equal(radius_find(target, NULL, 0, 1, 1, &options, NULL, NULL, &err), NPHD_OK);
    assert_int_equal(radius_stream(target, NULL, 0, 1, &options, never, NULL, NULL, &err), NPHD_OK);
}
