/* Walking a graph: greedy descent, and beam search with the reference's tie rules.
 *
 * Of a beam: `best` is sorted, and an element goes before those of equal distance; the heap is a
 * binary heap whose sift prefers the left child unless the right one is strictly nearer. Both are
 * part of the result when distances tie, which they do all the time with bits. */
#include "base/error.h"
#include "graph/graph.h"

#include <string.h>

#define VISITED_FREE UINT32_MAX
/* Slots seen in a beam search per candidate kept, on real fingerprints: 15 to 25 (bench_graph). A
 * table that starts at 64 per candidate rarely grows. */
#define VISITED_PER_CANDIDATE 64
#define VISITED_LEAST 1024

void nphdi_graph_scratch_free(nphdi_graph_scratch *scratch, const nphd_allocator *allocator)
{
    nphdi_free(allocator, scratch->best, scratch->best_room, sizeof(nphdi_candidate));
    nphdi_free(allocator, scratch->heap, scratch->visited_room, sizeof(nphdi_candidate));
    nphdi_free(allocator, scratch->visited, scratch->visited_room, sizeof(uint32_t));
    nphdi_free(allocator, scratch->links, scratch->list_room + 1, sizeof(uint32_t));
    nphdi_free(allocator, scratch->fresh, scratch->list_room + 1, sizeof(uint32_t));
    nphdi_free(allocator, scratch->selected, scratch->list_room + 1, sizeof(uint32_t));
    nphdi_free(allocator, scratch->bits, scratch->list_room + 1, sizeof(nphdi_bits));
    nphdi_free(allocator, scratch->neighbours, scratch->list_room + 1, sizeof(nphdi_candidate));
    memset(scratch, 0, sizeof(*scratch));
}

static nphd_status prepare_lists(nphdi_graph_scratch *scratch, const nphd_allocator *allocator,
                                 uint32_t list_room, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_graph_scratch fresh;

    memset(&fresh, 0, sizeof(fresh));
    fresh.list_room = list_room;
    TRY(nphdi_alloc(allocator, (uint64_t)list_room + 1, sizeof(uint32_t), &fresh.links, err));
    TRY(nphdi_alloc(allocator, (uint64_t)list_room + 1, sizeof(uint32_t), &fresh.fresh, err));
    TRY(nphdi_alloc(allocator, (uint64_t)list_room + 1, sizeof(uint32_t), &fresh.selected, err));
    TRY(nphdi_alloc(allocator, (uint64_t)list_room + 1, sizeof(nphdi_bits), &fresh.bits, err));
    TRY(nphdi_alloc(allocator, (uint64_t)list_room + 1, sizeof(nphdi_candidate), &fresh.neighbours,
                    err));
    /* hand the other buffers over, and let the old lists go with `fresh` */
    fresh.best = scratch->best;
    fresh.best_room = scratch->best_room;
    fresh.heap = scratch->heap;
    fresh.visited = scratch->visited;
    fresh.visited_room = scratch->visited_room;
    fresh.computed = scratch->computed;
    fresh.expanded = scratch->expanded;
    scratch->best = NULL;
    scratch->heap = NULL;
    scratch->visited = NULL;
    nphdi_graph_scratch_free(scratch, allocator);
    *scratch = fresh;
    memset(&fresh, 0, sizeof(fresh));
done:
    nphdi_graph_scratch_free(&fresh, allocator);
    return status;
}

static nphd_status prepare_visited(nphdi_graph_scratch *scratch, const nphd_allocator *allocator,
                                   uint64_t room, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_candidate *heap = NULL;
    uint32_t *visited = NULL;

    TRY(nphdi_alloc(allocator, room, sizeof(nphdi_candidate), &heap, err));
    TRY(nphdi_alloc(allocator, room, sizeof(uint32_t), &visited, err));
    nphdi_free(allocator, scratch->heap, scratch->visited_room, sizeof(nphdi_candidate));
    nphdi_free(allocator, scratch->visited, scratch->visited_room, sizeof(uint32_t));
    scratch->heap = heap;
    scratch->visited = visited;
    scratch->visited_room = room;
    heap = NULL;
done:
    nphdi_free(allocator, heap, room, sizeof(nphdi_candidate));
    return status;
}

nphd_status nphdi_graph_prepare(nphdi_graph_scratch *scratch, const nphd_allocator *allocator,
                                uint32_t breadth, uint32_t list_room, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t room = VISITED_LEAST;

    if (scratch->links == NULL || scratch->list_room < list_room) {
        TRY(prepare_lists(scratch, allocator, list_room, err));
    }
    if (scratch->best_room < (uint64_t)breadth + 1) {
        nphdi_free(allocator, scratch->best, scratch->best_room, sizeof(nphdi_candidate));
        scratch->best_room = 0;
        TRY(nphdi_alloc(allocator, (uint64_t)breadth + 1, sizeof(nphdi_candidate), &scratch->best,
                        err));
        scratch->best_room = (uint64_t)breadth + 1;
    }
    while (room < (uint64_t)breadth * VISITED_PER_CANDIDATE) {
        room *= 2;
    }
    /* a table grown by a wide search is not kept for narrow ones, which have to clear it */
    if (scratch->visited_room < room || scratch->visited_room > 8 * room) {
        TRY(prepare_visited(scratch, allocator, room, err));
    }
done:
    return status;
}

/* ---- slots seen ---- */

static inline uint64_t visited_place(const nphdi_graph_scratch *scratch, uint32_t slot)
{
    return (slot * 0x9E3779B97F4A7C15ULL >> 32) & (scratch->visited_room - 1);
}

/* Returns whether the slot is new. Needs a free place. */
static inline bool visited_add(nphdi_graph_scratch *scratch, uint32_t slot)
{
    uint64_t place = visited_place(scratch, slot);

    while (scratch->visited[place] != VISITED_FREE) {
        if (scratch->visited[place] == slot) {
            return false;
        }
        place = (place + 1) & (scratch->visited_room - 1);
    }
    scratch->visited[place] = slot;
    scratch->visited_count++;
    return true;
}

static void visited_clear(nphdi_graph_scratch *scratch)
{
    memset(scratch->visited, 0xFF, scratch->visited_room * sizeof(uint32_t));
    scratch->visited_count = 0;
}

/* Room for one more list of neighbours, at three quarters load. */
static nphd_status visited_ensure(nphdi_graph_scratch *scratch, const nphd_allocator *allocator,
                                  nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_graph_scratch wider;

    if (scratch->visited_count + scratch->list_room + 1 <= scratch->visited_room / 4 * 3) {
        return NPHD_OK;
    }
    memset(&wider, 0, sizeof(wider));
    TRY(prepare_visited(&wider, allocator, scratch->visited_room * 2, err));
    while (scratch->visited_count + scratch->list_room + 1 > wider.visited_room / 4 * 3) {
        TRY(prepare_visited(&wider, allocator, wider.visited_room * 2, err));
    }
    visited_clear(&wider);
    for (uint64_t i = 0; i < scratch->visited_room; i++) {
        if (scratch->visited[i] != VISITED_FREE) {
            (void)visited_add(&wider, scratch->visited[i]);
        }
    }
    memcpy(wider.heap, scratch->heap, scratch->heap_count * sizeof(nphdi_candidate));
    nphdi_free(allocator, scratch->heap, scratch->visited_room, sizeof(nphdi_candidate));
    nphdi_free(allocator, scratch->visited, scratch->visited_room, sizeof(uint32_t));
    scratch->heap = wider.heap;
    scratch->visited = wider.visited;
    scratch->visited_room = wider.visited_room;
    memset(&wider, 0, sizeof(wider));
done:
    nphdi_graph_scratch_free(&wider, allocator);
    return status;
}

/* ---- the heap of candidates to expand ---- */

static inline void heap_push(nphdi_graph_scratch *scratch, nphdi_candidate item)
{
    nphdi_candidate *heap = scratch->heap;
    uint64_t at = scratch->heap_count++;

    while (at > 0 && heap[(at - 1) / 2].distance > item.distance) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = item;
}

static inline nphdi_candidate heap_pop(nphdi_graph_scratch *scratch)
{
    nphdi_candidate *heap = scratch->heap;
    const nphdi_candidate top = heap[0];
    const uint64_t count = --scratch->heap_count;
    const nphdi_candidate item = heap[count];
    uint64_t at = 0;

    for (;;) {
        uint64_t child = 2 * at + 1;
        if (child >= count) {
            break;
        }
        if (child + 1 < count && heap[child + 1].distance < heap[child].distance) {
            child++;
        }
        if (heap[child].distance >= item.distance) {
            break;
        }
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = item;
    return top;
}

/* Inserts before elements of equal distance and drops the last when over `limit`. */
static inline void best_insert(nphdi_graph_scratch *scratch, nphdi_candidate item, uint64_t limit)
{
    nphdi_candidate *best = scratch->best;
    uint64_t low = 0;
    uint64_t high = scratch->best_count;

    while (low < high) {
        const uint64_t middle = (low + high) / 2;
        if (best[middle].distance < item.distance) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == limit) {
        return;
    }
    if (scratch->best_count < limit) {
        scratch->best_count++;
    }
    memmove(best + low + 1, best + low, (scratch->best_count - 1 - low) * sizeof(nphdi_candidate));
    best[low] = item;
}

/* ---- walking ---- */

float nphdi_graph_measure(const nphdi_graph_target *target, uint32_t slot)
{
    nphdi_bits bits;

    nphdi_rows_gather(target, &slot, 1, &bits);
    return nphdi_rows_distance(&target->rows, bits);
}

nphd_status nphdi_graph_descend(const nphdi_graph_reader *reader, const nphdi_graph_target *target,
                                int32_t from, int32_t above, nphdi_graph_scratch *scratch,
                                uint32_t *slot)
{
    uint32_t nearest = *slot;
    float distance = nphdi_graph_measure(target, nearest);

    scratch->computed++;
    for (int32_t level = from; level > above; level--) {
        for (bool moved = true; moved;) {
            const uint32_t count =
                reader->links(reader->store, nearest, (uint32_t)level, scratch->links);
            if (count == NPHDI_GRAPH_BROKEN) {
                return NPHD_CORRUPT;
            }
            for (uint32_t i = 0; i < count; i++) {
                nphdi_rows_prefetch(&target->rows, scratch->links[i]);
            }
            nphdi_rows_gather(target, scratch->links, count, scratch->bits);
            scratch->computed += count;
            scratch->expanded++;
            moved = false;
            for (uint32_t i = 0; i < count; i++) {
                const float candidate = nphdi_rows_distance(&target->rows, scratch->bits[i]);
                if (candidate < distance) {
                    distance = candidate;
                    nearest = scratch->links[i];
                    moved = true;
                }
            }
        }
    }
    *slot = nearest;
    return NPHD_OK;
}

static void beam_start(const nphdi_graph_target *target, uint32_t start, uint32_t never,
                       uint32_t breadth, nphdi_graph_scratch *scratch, float *out_radius)
{
    const nphdi_candidate first = {nphdi_graph_measure(target, start), start};

    visited_clear(scratch);
    scratch->heap_count = 0;
    scratch->best_count = 0;
    scratch->computed++;
    (void)visited_add(scratch, start);
    heap_push(scratch, first);
    if (start != never && (target->allow == NULL || target->allow(target->allow_context, start))) {
        best_insert(scratch, first, breadth);
    }
    *out_radius = first.distance;
}

/* Of the list just read, the slots not seen before, with their rows on the way to the cache. */
static uint32_t beam_fresh(const nphdi_graph_target *target, uint32_t count,
                           nphdi_graph_scratch *scratch)
{
    uint32_t fresh_count = 0;

    for (uint32_t i = 0; i < count; i++) {
        const uint32_t slot = scratch->links[i];
        if (visited_add(scratch, slot)) {
            nphdi_rows_prefetch(&target->rows, slot);
            scratch->fresh[fresh_count++] = slot;
        }
    }
    return fresh_count;
}

nphd_status nphdi_graph_beam(const nphdi_graph_reader *reader, const nphdi_graph_target *target,
                             uint32_t level, uint32_t start, uint32_t never, uint32_t breadth,
                             nphdi_graph_scratch *scratch, const nphd_allocator *allocator,
                             nphd_error *err)
{
    nphd_status status = NPHD_OK;
    float radius;

    beam_start(target, start, never, breadth, scratch, &radius);
    while (scratch->heap_count > 0) {
        if (scratch->heap[0].distance > radius && scratch->best_count == breadth) {
            break;
        }
        TRY(visited_ensure(scratch, allocator, err));
        const nphdi_candidate next = heap_pop(scratch);
        const uint32_t count = reader->links(reader->store, next.slot, level, scratch->links);
        if (count == NPHDI_GRAPH_BROKEN) {
            return NPHD_CORRUPT;
        }
        if (level == 0 && scratch->heap_count > 0) {
            reader->prefetch(reader->store, scratch->heap[0].slot);
        }
        const uint32_t fresh_count = beam_fresh(target, count, scratch);
        nphdi_rows_gather(target, scratch->fresh, fresh_count, scratch->bits);
        scratch->computed += fresh_count;
        scratch->expanded++;
        for (uint32_t i = 0; i < fresh_count; i++) {
            const nphdi_candidate item = {nphdi_rows_distance(&target->rows, scratch->bits[i]),
                                          scratch->fresh[i]};
            if (scratch->best_count == breadth && item.distance >= radius) {
                continue;
            }
            heap_push(scratch, item);
            if (item.slot != never &&
                (target->allow == NULL || target->allow(target->allow_context, item.slot))) {
                best_insert(scratch, item, breadth);
                radius = scratch->best[scratch->best_count - 1].distance;
            }
        }
    }
done:
    return status;
}

nphd_status nphdi_graph_search(const nphdi_graph_reader *reader, const nphdi_graph_target *target,
                               uint32_t breadth, nphdi_graph_scratch *scratch,
                               const nphd_allocator *allocator, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint32_t start = reader->entry;

    TRY(nphdi_graph_prepare(scratch, allocator, breadth, reader->connectivity_base, err));
    scratch->best_count = 0;
    if (reader->max_level < 0) {
        return NPHD_OK;
    }
    TRY(nphdi_graph_descend(reader, target, reader->max_level, 0, scratch, &start));
    TRY(nphdi_graph_beam(reader, target, 0, start, UINT32_MAX, breadth, scratch, allocator, err));
done:
    return status;
}
