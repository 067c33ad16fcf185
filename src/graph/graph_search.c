/* Walking a graph: greedy descent, and beam search with the reference's tie rules.
 *
 * Of a beam: `best` is sorted, and an element goes before those of equal distance; the heap is a
 * binary heap whose sift prefers the left child unless the right one is strictly nearer. Both are
 * part of the result when distances tie, which they do all the time with bits. */
#include "base/error.h"
#include "graph/graph.h"

#include <math.h>
#include <string.h>

/* Slots seen in a beam search per candidate kept, on real fingerprints: 20 to 40 (bench_index). A
 * list that starts at 64 per candidate rarely grows. */
#define VISITED_PER_CANDIDATE 64
/* Where counting becomes cheaper than halving: four steps of the baseline's vectors. */
#define COUNTED_AT_ONCE 16

void nphdi_graph_scratch_free(nphdi_graph_scratch *scratch, const nphd_allocator *allocator)
{
    nphdi_free(allocator, scratch->best_distances, scratch->best_room, sizeof(float));
    nphdi_free(allocator, scratch->best_slots, scratch->best_room, sizeof(uint32_t));
    nphdi_free(allocator, scratch->best_bits, scratch->best_room, sizeof(nphdi_bits));
    nphdi_free(allocator, scratch->heap, scratch->visited_room, sizeof(nphdi_candidate));
    nphdi_free(allocator, scratch->visited, scratch->visited_room, sizeof(uint32_t));
    nphdi_free(allocator, scratch->seen, scratch->seen_slots / 64, sizeof(uint64_t));
    nphdi_free(allocator, scratch->copied_memory, scratch->list_room + 1, sizeof(uint32_t));
    nphdi_free(allocator, scratch->links, scratch->list_room + 1, sizeof(uint32_t));
    nphdi_free(allocator, scratch->fresh, scratch->list_room + 1, sizeof(uint32_t));
    nphdi_free(allocator, scratch->selected, scratch->list_room + 1, sizeof(uint32_t));
    nphdi_free(allocator, scratch->selected_fresh, scratch->list_room + 1, sizeof(uint32_t));
    nphdi_free(allocator, scratch->bits, scratch->list_room + 1, sizeof(nphdi_bits));
    nphdi_free(allocator, scratch->distances, scratch->list_room + 1, sizeof(float));
    nphdi_free(allocator, scratch->sorted_distances, scratch->list_room + 1, sizeof(float));
    nphdi_free(allocator, scratch->sorted_bits, scratch->list_room + 1, sizeof(nphdi_bits));
    nphdi_free(allocator, scratch->sorted_fresh, scratch->list_room + 1, sizeof(bool));
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
    TRY(nphdi_alloc(allocator, room, sizeof(uint32_t), &scratch->selected_fresh, err));
    TRY(nphdi_alloc(allocator, room, sizeof(nphdi_bits), &scratch->bits, err));
    TRY(nphdi_alloc(allocator, room, sizeof(float), &scratch->distances, err));
    TRY(nphdi_alloc(allocator, room, sizeof(float), &scratch->sorted_distances, err));
    TRY(nphdi_alloc(allocator, room, sizeof(nphdi_bits), &scratch->sorted_bits, err));
    TRY(nphdi_alloc(allocator, room, sizeof(bool), &scratch->sorted_fresh, err));
    TRY(nphdi_alloc(allocator, room, sizeof(uint32_t), &scratch->sorted_slots, err));
done:
    if (status != NPHD_OK) {
        nphdi_graph_scratch_free(scratch, allocator);
    }
    return status;
}

/* Gives heap and visited list room for `room` slots, keeping what is in them. */
static nphd_status grow_visited(nphdi_graph_scratch *scratch, const nphd_allocator *allocator,
                                uint64_t room, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_candidate *heap = NULL;
    uint32_t *visited = NULL;

    TRY(nphdi_alloc(allocator, room, sizeof(nphdi_candidate), &heap, err));
    TRY(nphdi_alloc(allocator, room, sizeof(uint32_t), &visited, err));
    if (scratch->visited_count > 0) {
        memcpy(heap, scratch->heap, scratch->heap_count * sizeof(nphdi_candidate));
        memcpy(visited, scratch->visited, scratch->visited_count * sizeof(uint32_t));
    }
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

static nphd_status prepare_seen(nphdi_graph_scratch *scratch, const nphd_allocator *allocator,
                                uint64_t slots, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    /* half as much again, so that a growing index rarely gets here */
    const uint64_t words = (slots + slots / 2) / 64 + 1;
    uint64_t *seen = NULL;

    TRY(nphdi_alloc(allocator, words, sizeof(uint64_t), &seen, err));
    nphdi_free(allocator, scratch->seen, scratch->seen_slots / 64, sizeof(uint64_t));
    scratch->seen = seen;
    scratch->seen_slots = words * 64;
    scratch->visited_count = 0;
done:
    return status;
}

static nphd_status prepare_best(nphdi_graph_scratch *scratch, const nphd_allocator *allocator,
                                uint64_t room, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    nphdi_free(allocator, scratch->best_distances, scratch->best_room, sizeof(float));
    nphdi_free(allocator, scratch->best_slots, scratch->best_room, sizeof(uint32_t));
    nphdi_free(allocator, scratch->best_bits, scratch->best_room, sizeof(nphdi_bits));
    scratch->best_distances = NULL;
    scratch->best_slots = NULL;
    scratch->best_bits = NULL;
    scratch->best_room = room;
    TRY(nphdi_alloc(allocator, room, sizeof(float), &scratch->best_distances, err));
    TRY(nphdi_alloc(allocator, room, sizeof(uint32_t), &scratch->best_slots, err));
    TRY(nphdi_alloc(allocator, room, sizeof(nphdi_bits), &scratch->best_bits, err));
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
    const uint64_t room = (uint64_t)breadth * VISITED_PER_CANDIDATE + list_room + 1;

    if (scratch->links == NULL || scratch->list_room < list_room) {
        TRY(prepare_lists(scratch, allocator, list_room, err));
    }
    if (scratch->best_room < (uint64_t)breadth + COUNTED_AT_ONCE) {
        TRY(prepare_best(scratch, allocator, (uint64_t)breadth + COUNTED_AT_ONCE, err));
    }
    if (scratch->visited_room < room) {
        TRY(grow_visited(scratch, allocator, room, err));
    }
    if (scratch->seen_slots < slots) {
        TRY(prepare_seen(scratch, allocator, slots, err));
    }
done:
    return status;
}

/* ---- slots seen ---- */

/* Clears the bits of the search before. */
static void visited_clear(nphdi_graph_scratch *scratch)
{
    for (uint64_t i = 0; i < scratch->visited_count; i++) {
        scratch->seen[scratch->visited[i] / 64] = 0;
    }
    scratch->visited_count = 0;
}

/* Room for one more list of neighbours. */
static nphd_status visited_ensure(nphdi_graph_scratch *scratch, const nphd_allocator *allocator,
                                  nphd_error *err)
{
    if (scratch->visited_count + scratch->list_room + 1 <= scratch->visited_room) {
        return NPHD_OK;
    }
    return grow_visited(scratch, allocator, scratch->visited_room * 2, err);
}

/* Appends to `visited` those of the links that are new, and starts their rows on the way to the
 * cache; returns how many. Without branches on what is new, which nothing could predict. */
static inline uint32_t visited_add(nphdi_graph_scratch *scratch, const nphdi_rows *rows,
                                   const _Atomic uint32_t *links, uint32_t count)
{
    uint32_t *fresh = scratch->visited + scratch->visited_count;
    uint64_t *seen = scratch->seen;
    const uint64_t seen_slots = scratch->seen_slots;
    uint32_t fresh_count = 0;

    for (uint32_t i = 0; i < count; i++) {
        const uint32_t slot = atomic_load_explicit(&links[i], memory_order_acquire);
        if (slot >= seen_slots) {
            continue; /* another thread added it after this search began */
        }
        const uint64_t word = seen[slot / 64];
        seen[slot / 64] = word | 1ULL << (slot % 64);
        fresh[fresh_count] = slot;
        fresh_count += (uint32_t)(~(word >> (slot % 64)) & 1);
    }
    for (uint32_t i = 0; i < fresh_count; i++) {
        nphdi_rows_prefetch(rows, fresh[i]);
    }
    scratch->visited_count += fresh_count;
    return fresh_count;
}

/* ---- the heap of candidates to expand ---- */

static inline nphdi_candidate candidate_of(float distance, uint32_t slot)
{
    uint32_t bits;

    memcpy(&bits, &distance, sizeof(bits));
    return (uint64_t)bits << 32 | slot;
}

/* The bits of the distance, which compare like the distances. */
static inline uint32_t candidate_order(nphdi_candidate candidate)
{
    return (uint32_t)(candidate >> 32);
}

static inline float candidate_distance(nphdi_candidate candidate)
{
    const uint32_t bits = candidate_order(candidate);
    float distance;

    memcpy(&distance, &bits, sizeof(distance));
    return distance;
}

static inline void heap_push(nphdi_graph_scratch *scratch, nphdi_candidate item)
{
    nphdi_candidate *heap = scratch->heap;
    uint64_t at = scratch->heap_count++;

    while (at > 0 && candidate_order(heap[(at - 1) / 2]) > candidate_order(item)) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = item;
}

/* The hole left by the top sinks to a leaf along the nearer children, then the last item rises into
 * its place: the same heap as sinking the item from the top, with one comparison a level less. */
static inline nphdi_candidate heap_pop(nphdi_graph_scratch *scratch)
{
    nphdi_candidate *heap = scratch->heap;
    const nphdi_candidate top = heap[0];
    const uint64_t count = --scratch->heap_count;
    const nphdi_candidate item = heap[count];
    uint64_t at = 0;
    uint64_t child = 1;

    while (child + 1 < count) {
        child += candidate_order(heap[child + 1]) < candidate_order(heap[child]) ? 1 : 0;
        heap[at] = heap[child];
        at = child;
        child = 2 * at + 1;
    }
    if (child < count) {
        heap[at] = heap[child];
        at = child;
    }
    while (at > 0 && candidate_order(heap[(at - 1) / 2]) >= candidate_order(item)) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = item;
    return top;
}

/* How many of the ascending distances are below one: halving while the range is long, then counting
 * with vector code, which may run on into the infinite ones behind. No step is a branch, which
 * would be a tossed coin for the predictor. Apart from its caller, where gcc 12 would mix the
 * address arithmetic of both and undo the vectors. */
static __attribute__((noinline)) uint32_t count_below(const float *distances, uint32_t count,
                                                      float distance)
{
    uint32_t low = 0;
    uint32_t below = 0;

    while (count > COUNTED_AT_ONCE) {
        const uint32_t half = count / 2;
        low += half & -(uint32_t)(distances[low + half - 1] < distance);
        count -= half;
    }
    const float *rest = distances + low;
    for (uint32_t i = 0; i < COUNTED_AT_ONCE; i++) {
        below += rest[i] < distance ? 1 : 0;
    }
    return low + below;
}

/* Inserts before elements of equal distance and drops the last when over `limit`. */
static inline void best_insert(nphdi_graph_scratch *scratch, float distance, uint32_t slot,
                               uint64_t limit)
{
    float *distances = scratch->best_distances;
    uint32_t *slots = scratch->best_slots;
    const uint32_t count = (uint32_t)scratch->best_count;
    const uint32_t low = count_below(distances, count, distance);
    size_t moved;

    if (low == limit) {
        return;
    }
    if (count < limit) {
        scratch->best_count++;
    }
    moved = scratch->best_count - 1 - low;
    memmove(distances + low + 1, distances + low, moved * sizeof(*distances));
    memmove(slots + low + 1, slots + low, moved * sizeof(*slots));
    distances[low] = distance;
    slots[low] = slot;
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
            const _Atomic uint32_t *links;
            const uint32_t count =
                reader->links(reader->store, nearest, (uint32_t)level, scratch->copied, &links);
            if (count == NPHDI_GRAPH_BROKEN) {
                return NPHD_CORRUPT;
            }
            for (uint32_t i = 0; i < count; i++) {
                scratch->links[i] = atomic_load_explicit(&links[i], memory_order_acquire);
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
    const float first = nphdi_graph_measure(target, start);

    visited_clear(scratch);
    scratch->heap_count = 0;
    scratch->best_count = 0;
    for (uint64_t i = 0; i < (uint64_t)breadth + COUNTED_AT_ONCE; i++) {
        scratch->best_distances[i] = HUGE_VALF;
    }
    scratch->computed++;
    atomic_store_explicit(&scratch->copied[0], start, memory_order_relaxed);
    (void)visited_add(scratch, &target->rows, scratch->copied, 1);
    heap_push(scratch, candidate_of(first, start));
    if (start != never && (target->allow == NULL || target->allow(target->allow_context, start))) {
        best_insert(scratch, first, start, breadth);
    }
    *out_radius = first;
}

/* Of the distances just computed, those below the bound: their places, in order, without branches;
 * all but a few lie beyond the radius once the search is under way. */
static inline uint32_t beam_filter(const float *distances, uint32_t count, float bound,
                                   uint32_t *out)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < count; i++) {
        out[kept] = i;
        kept += distances[i] < bound ? 1 : 0;
    }
    return kept;
}

/* Takes in what one expansion found; returns the radius afterwards. */
static inline float beam_take(const nphdi_graph_reader *reader, const nphdi_graph_target *target,
                              uint32_t level, const uint32_t *fresh, uint32_t fresh_count,
                              uint32_t never, uint32_t breadth, float radius,
                              nphdi_graph_scratch *scratch)
{
    const float bound = scratch->best_count == breadth ? radius : HUGE_VALF;
    uint32_t *kept = scratch->fresh;
    const uint32_t kept_count = beam_filter(scratch->distances, fresh_count, bound, kept);

    for (uint32_t i = 0; i < kept_count; i++) {
        const float distance = scratch->distances[kept[i]];
        const uint32_t slot = fresh[kept[i]];
        if (scratch->best_count == breadth && distance >= radius) {
            continue;
        }
        const nphdi_candidate item = candidate_of(distance, slot);
        if (level == 0 && scratch->heap_count > 0 &&
            candidate_order(item) < candidate_order(scratch->heap[0])) {
            reader->prefetch(reader->store, slot); /* likely the next to be expanded */
        }
        heap_push(scratch, item);
        if (slot != never &&
            (target->allow == NULL || target->allow(target->allow_context, slot))) {
            best_insert(scratch, distance, slot, breadth);
            radius = scratch->best_distances[scratch->best_count - 1];
        }
    }
    return radius;
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
        const _Atomic uint32_t *links;
        if (candidate_distance(scratch->heap[0]) > radius && scratch->best_count == breadth) {
            break;
        }
        TRY(visited_ensure(scratch, allocator, err));
        const uint32_t next = (uint32_t)heap_pop(scratch);
        const uint32_t count = reader->links(reader->store, next, level, scratch->copied, &links);
        if (count == NPHDI_GRAPH_BROKEN) {
            return NPHD_CORRUPT;
        }
        if (level == 0 && scratch->heap_count > 0) {
            reader->prefetch(reader->store, (uint32_t)scratch->heap[0]);
        }
        const uint32_t *fresh = scratch->visited + scratch->visited_count;
        const uint32_t fresh_count = visited_add(scratch, &target->rows, links, count);
        nphdi_rows_gather(target, fresh, fresh_count, scratch->bits);
        nphdi_rows_distances(&target->rows, scratch->bits, fresh_count, scratch->distances);
        scratch->computed += fresh_count;
        scratch->expanded++;
        radius =
            beam_take(reader, target, level, fresh, fresh_count, never, breadth, radius, scratch);
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

    TRY(nphdi_graph_prepare(scratch, allocator, breadth, reader->connectivity_base, reader->slots,
                            err));
    scratch->best_count = 0;
    if (reader->max_level < 0) {
        return NPHD_OK;
    }
    TRY(nphdi_graph_descend(reader, target, reader->max_level, 0, scratch, &start));
    TRY(nphdi_graph_beam(reader, target, 0, start, UINT32_MAX, breadth, scratch, allocator, err));
done:
    return status;
}
