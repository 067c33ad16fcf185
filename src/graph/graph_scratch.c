/* The working memory of searches and inserts: it grows to what the largest so far needed. */
#include "base/error.h"
#include "graph/graph.h"

#include <string.h>

/* Slots seen in a beam search per candidate kept, on real fingerprints: 20 to 40 (bench_index). A
 * list that starts at 64 per candidate rarely grows. */
#define VISITED_PER_CANDIDATE 64

void nphdi_seen_free(nphdi_graph_seen *seen, const nphd_allocator *allocator)
{
    nphdi_free(allocator, seen->numbers, seen->slots, sizeof(uint8_t));
    nphdi_free(allocator, seen->bits, seen->slots / 64, sizeof(uint64_t));
    memset(seen, 0, sizeof(*seen));
}

nphd_status nphdi_seen_prepare(nphdi_graph_seen *seen, const nphd_allocator *allocator,
                               uint64_t slots, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    /* half as much again, so that a growing index rarely gets here */
    const uint64_t words = (slots + slots / 2) / 64 + 1;

    nphdi_seen_free(seen, allocator);
    if (slots <= NPHDI_SEEN_BYTES_SLOTS) {
        TRY(nphdi_alloc(allocator, words * 64, sizeof(uint8_t), &seen->numbers, err));
    } else {
        TRY(nphdi_alloc(allocator, words, sizeof(uint64_t), &seen->bits, err));
    }
    seen->slots = words * 64;
done:
    return status;
}

void nphdi_graph_scratch_free(nphdi_graph_scratch *scratch, const nphd_allocator *allocator)
{
    nphdi_free(allocator, scratch->best_distances, scratch->best_room, sizeof(float));
    nphdi_free(allocator, scratch->best_slots, scratch->best_room, sizeof(uint32_t));
    nphdi_free(allocator, scratch->best_bits, scratch->best_room, sizeof(nphdi_bits));
    nphdi_free(allocator, scratch->best_sorted, scratch->best_room, sizeof(nphdi_ranked));
    nphdi_best_free(&scratch->best, allocator);
    nphdi_free(allocator, scratch->heap, scratch->visited_room, sizeof(nphdi_candidate));
    nphdi_free(allocator, scratch->visited, scratch->visited_room, sizeof(uint32_t));
    nphdi_free(allocator, scratch->visited_bits, scratch->visited_room, sizeof(nphdi_bits));
    nphdi_seen_free(&scratch->seen, allocator);
    nphdi_free(allocator, scratch->copied_memory, scratch->list_room + 1, sizeof(uint32_t));
    nphdi_free(allocator, scratch->links, scratch->list_room + 1, sizeof(uint32_t));
    nphdi_free(allocator, scratch->fresh, scratch->list_room + 1, sizeof(uint32_t));
    nphdi_free(allocator, scratch->selected, scratch->list_room + 1, sizeof(uint32_t));
    nphdi_free(allocator, scratch->bits, scratch->list_room + 1, sizeof(nphdi_bits));
    nphdi_free(allocator, scratch->distances, scratch->list_room + 1, sizeof(float));
    nphdi_free(allocator, scratch->sorted, scratch->list_room + 1, sizeof(uint64_t));
    nphdi_free(allocator, scratch->sorted_bits, scratch->list_room + 1, sizeof(nphdi_bits));
    nphdi_free(allocator, scratch->sorted_fresh, scratch->list_room + 1, sizeof(bool));
    nphdi_free(allocator, scratch->sorted_excluded, scratch->list_room + 1, sizeof(bool));
    nphdi_free(allocator, scratch->sorted_slots, scratch->list_room + 1, sizeof(uint32_t));
    memset(scratch, 0, sizeof(*scratch));
}

static nphd_status prepare_lists(nphdi_graph_scratch *scratch, const nphd_allocator *allocator,
                                 uint32_t list_room, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t room = (uint64_t)list_room + 1;

    /* the lists go together: with a list_room of 0 none of them is there */
    nphdi_graph_scratch_free(scratch, allocator);
    scratch->list_room = list_room;
    TRY(nphdi_alloc(allocator, room, sizeof(uint32_t), &scratch->copied_memory, err));
    scratch->copied = scratch->copied_memory;
    TRY(nphdi_alloc(allocator, room, sizeof(uint32_t), &scratch->links, err));
    TRY(nphdi_alloc(allocator, room, sizeof(uint32_t), &scratch->fresh, err));
    TRY(nphdi_alloc(allocator, room, sizeof(uint32_t), &scratch->selected, err));
    TRY(nphdi_alloc(allocator, room, sizeof(nphdi_bits), &scratch->bits, err));
    TRY(nphdi_alloc(allocator, room, sizeof(float), &scratch->distances, err));
    TRY(nphdi_alloc(allocator, room, sizeof(uint64_t), &scratch->sorted, err));
    TRY(nphdi_alloc(allocator, room, sizeof(nphdi_bits), &scratch->sorted_bits, err));
    TRY(nphdi_alloc(allocator, room, sizeof(bool), &scratch->sorted_fresh, err));
    TRY(nphdi_alloc(allocator, room, sizeof(bool), &scratch->sorted_excluded, err));
    TRY(nphdi_alloc(allocator, room, sizeof(uint32_t), &scratch->sorted_slots, err));
done:
    if (status != NPHD_OK) {
        nphdi_graph_scratch_free(scratch, allocator);
    }
    return status;
}

/* Gives heap and visited lists room for `room` slots, keeping what is in them. */
static nphd_status grow_visited(nphdi_graph_scratch *scratch, const nphd_allocator *allocator,
                                uint64_t room, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_candidate *heap = NULL;
    uint32_t *visited = NULL;
    nphdi_bits *bits = NULL;

    TRY(nphdi_alloc(allocator, room, sizeof(nphdi_candidate), &heap, err));
    TRY(nphdi_alloc(allocator, room, sizeof(uint32_t), &visited, err));
    TRY(nphdi_alloc(allocator, room, sizeof(nphdi_bits), &bits, err));
    if (scratch->visited_count > 0) {
        memcpy(heap, scratch->heap, scratch->heap_count * sizeof(nphdi_candidate));
        memcpy(visited, scratch->visited, scratch->visited_count * sizeof(uint32_t));
        memcpy(bits, scratch->visited_bits, scratch->visited_count * sizeof(nphdi_bits));
    }
    nphdi_free(allocator, scratch->heap, scratch->visited_room, sizeof(nphdi_candidate));
    nphdi_free(allocator, scratch->visited, scratch->visited_room, sizeof(uint32_t));
    nphdi_free(allocator, scratch->visited_bits, scratch->visited_room, sizeof(nphdi_bits));
    scratch->heap = heap;
    scratch->visited = visited;
    scratch->visited_bits = bits;
    scratch->visited_room = room;
    heap = NULL;
    visited = NULL;
done:
    nphdi_free(allocator, heap, room, sizeof(nphdi_candidate));
    nphdi_free(allocator, visited, room, sizeof(uint32_t));
    return status;
}

static nphd_status prepare_best(nphdi_graph_scratch *scratch, const nphd_allocator *allocator,
                                uint64_t room, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    nphdi_free(allocator, scratch->best_distances, scratch->best_room, sizeof(float));
    nphdi_free(allocator, scratch->best_slots, scratch->best_room, sizeof(uint32_t));
    nphdi_free(allocator, scratch->best_bits, scratch->best_room, sizeof(nphdi_bits));
    nphdi_free(allocator, scratch->best_sorted, scratch->best_room, sizeof(nphdi_ranked));
    scratch->best_distances = NULL;
    scratch->best_slots = NULL;
    scratch->best_bits = NULL;
    scratch->best_sorted = NULL;
    scratch->best_room = room;
    TRY(nphdi_alloc(allocator, room, sizeof(float), &scratch->best_distances, err));
    TRY(nphdi_alloc(allocator, room, sizeof(uint32_t), &scratch->best_slots, err));
    TRY(nphdi_alloc(allocator, room, sizeof(nphdi_bits), &scratch->best_bits, err));
    TRY(nphdi_alloc(allocator, room, sizeof(nphdi_ranked), &scratch->best_sorted, err));
    TRY(nphdi_best_prepare(&scratch->best, allocator, (uint32_t)room, err));
done:
    if (status != NPHD_OK) {
        nphdi_graph_scratch_free(scratch, allocator);
    }
    return status;
}

nphd_status nphdi_graph_prepare(nphdi_graph_scratch *scratch, const nphd_allocator *allocator,
                                uint32_t breadth, uint32_t list_room, uint64_t slots,
                                nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t room = (uint64_t)breadth * VISITED_PER_CANDIDATE + list_room + NPHDI_NEARER_STEP;

    if (scratch->links == NULL || scratch->list_room < list_room) {
        TRY(prepare_lists(scratch, allocator, list_room, err));
    }
    if (scratch->best_room < breadth) {
        TRY(prepare_best(scratch, allocator, breadth, err));
    }
    if (scratch->visited_room < room) {
        TRY(grow_visited(scratch, allocator, room, err));
    }
    if (scratch->seen.slots < slots) {
        scratch->visited_count = 0;
        TRY(nphdi_seen_prepare(&scratch->seen, allocator, slots, err));
    }
done:
    return status;
}

nphd_status nphdi_graph_grow_visited(nphdi_graph_scratch *scratch, const nphd_allocator *allocator,
                                     nphd_error *err)
{
    return grow_visited(scratch, allocator, scratch->visited_room * 2, err);
}
