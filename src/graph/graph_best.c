/* The nearest of a stream: memory, and the rare steps. */
#include "graph/graph_best.h"

#include "base/error.h"

#define NO_LINK UINT32_MAX

void nphdi_best_free(nphdi_graph_best *best, const nphd_allocator *allocator)
{
    nphdi_free(allocator, best->links, best->room, sizeof(*best->links));
    nphdi_free(allocator, best->tail, best->room, sizeof(*best->tail));
    nphdi_free(allocator, best->spare, best->room, sizeof(*best->spare));
    best->links = NULL;
    best->tail = NULL;
    best->spare = NULL;
    best->room = 0;
}

nphd_status nphdi_best_prepare(nphdi_graph_best *best, const nphd_allocator *allocator,
                               uint32_t limit, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    if (best->room >= limit) {
        return NPHD_OK;
    }
    nphdi_best_free(best, allocator);
    best->room = limit;
    TRY(nphdi_alloc(allocator, best->room, sizeof(*best->links), &best->links, err));
    TRY(nphdi_alloc(allocator, best->room, sizeof(*best->tail), &best->tail, err));
    TRY(nphdi_alloc(allocator, best->room, sizeof(*best->spare), &best->spare, err));
done:
    if (status != NPHD_OK) {
        nphdi_best_free(best, allocator);
    }
    return status;
}

void nphdi_best_start(nphdi_graph_best *best, uint32_t limit)
{
    best->count = 0;
    best->limit = limit;
    best->tail_count = 0;
    best->stripe = 0;
    memset(best->heads, 0xFF, sizeof(best->heads));
}

void nphdi_best_fill_tail(nphdi_graph_best *best)
{
    uint32_t stripe = best->stripe;

    while (best->heads[stripe] == NO_LINK) {
        stripe--;
    }
    best->stripe = stripe;
    for (uint32_t link = best->heads[stripe]; link != NO_LINK; link = best->links[link].next) {
        best->spare[best->tail_count] = link;
        nphdi_ranked_insert(best->tail, best->tail_count++, best->links[link].item);
    }
    best->heads[stripe] = NO_LINK;
}

void nphdi_best_finish(nphdi_graph_best *best, nphdi_ranked *out)
{
    uint32_t count = 0;

    for (uint32_t stripe = 0; stripe <= best->stripe; stripe++) {
        nphdi_ranked *sorted = out + count;
        uint32_t sorted_count = 0;
        for (uint32_t link = best->heads[stripe]; link != NO_LINK; link = best->links[link].next) {
            nphdi_ranked_insert(sorted, sorted_count++, best->links[link].item);
        }
        count += sorted_count;
    }
    memcpy(out + count, best->tail, best->tail_count * sizeof(*out));
}
