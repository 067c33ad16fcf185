/* Walking a graph: greedy descent, and beam search with the reference's tie rules.
 *
 * Of a beam: the best are sorted, and a later element goes before those of equal distance. That and
 * the order of the heap are part of the result when distances tie, which they do all the time with
 * bits. */
#include "base/error.h"
#include "graph/graph.h"

/* ---- slots seen ---- */

static void visited_clear(nphdi_graph_scratch *scratch)
{
    nphdi_seen_start(&scratch->seen, scratch->visited, scratch->visited_count);
    scratch->visited_count = 0;
}

/* Appends to `visited` those of the links that are new; returns how many. */
static inline uint32_t visited_add(nphdi_graph_scratch *scratch, const nphdi_rows *rows,
                                   const _Atomic uint32_t *links, uint32_t count)
{
    uint32_t *fresh = scratch->visited + scratch->visited_count;
    const uint32_t fresh_count = nphdi_seen_add(&scratch->seen, rows, links, count, fresh);

    scratch->visited_count += fresh_count;
    return fresh_count;
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
            const uint32_t link_count =
                reader->links(reader->store, nearest, (uint32_t)level, scratch->copied, &links);
            uint32_t count = 0;
            if (link_count == NPHDI_GRAPH_BROKEN) {
                return NPHD_CORRUPT;
            }
            for (uint32_t i = 0; i < link_count; i++) {
                const uint32_t link = atomic_load_explicit(&links[i], memory_order_acquire);
                if (link < reader->slots) {
                    scratch->links[count++] = link;
                    nphdi_rows_prefetch(&target->rows, link);
                }
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

static inline bool is_allowed(const nphdi_graph_target *target, uint32_t slot, uint32_t never)
{
    return slot != never && (target->allow == NULL || target->allow(target->allow_context, slot));
}

/* Takes in a slot seen: to be expanded, and as an answer if it is allowed. */
static inline void beam_keep(const nphdi_graph_target *target, float distance, uint64_t place,
                             uint32_t never, nphdi_graph_scratch *scratch)
{
    const uint32_t slot = scratch->visited[place];
    const float stripes =
        target->rows.prefix_bytes != 0 ? NPHDI_BEST_STRIPES_PER_UNIT : NPHDI_BEST_STRIPES_PER_BIT;

    nphdi_heap_push(scratch->heap, scratch->heap_count++, nphdi_candidate_of(distance, slot));
    if (is_allowed(target, slot, never)) {
        nphdi_best_take(&scratch->best, nphdi_ranked_of(distance, place),
                        (uint32_t)(int32_t)(distance * stripes));
    }
}

static void beam_start(const nphdi_graph_target *target, uint32_t start, uint32_t never,
                       uint32_t breadth, nphdi_graph_scratch *scratch)
{
    visited_clear(scratch);
    scratch->heap_count = 0;
    nphdi_best_start(&scratch->best, breadth);
    atomic_store_explicit(&scratch->copied[0], start, memory_order_relaxed);
    /* it is one of the reader's slots, so there is room for its mark */
    (void)visited_add(scratch, &target->rows, scratch->copied, 1);
    nphdi_rows_gather(target, &start, 1, scratch->visited_bits);
    scratch->computed++;
    beam_keep(target, nphdi_rows_distance(&target->rows, scratch->visited_bits[0]), 0, never,
              scratch);
}

/* Of the slots from `first` on, at most NPHDI_NEARER_MOST, those that may matter, as a mask. Once
 * the search is under way all but a few lie beyond the farthest of the best. */
static inline uint64_t beam_filter(const nphdi_graph_scratch *scratch, uint64_t first,
                                   uint32_t count)
{
    const nphdi_bits *bits = scratch->visited_bits;

    if (!nphdi_best_is_full(&scratch->best)) {
        return ~(uint64_t)0 >> (NPHDI_NEARER_MOST - count);
    }
    return nphdi_bits_nearer(bits + first, count,
                             bits[nphdi_ranked_arrival(nphdi_best_farthest(&scratch->best))]);
}

/* Takes in what one expansion found: the slots from `first` on. */
static inline void beam_take(const nphdi_graph_reader *reader, const nphdi_graph_target *target,
                             uint32_t level, uint64_t first, uint32_t count, uint32_t never,
                             nphdi_graph_scratch *scratch)
{
    for (uint64_t rest = beam_filter(scratch, first, count); rest != 0; rest &= rest - 1) {
        const uint64_t place = first + (uint64_t)__builtin_ctzll(rest);
        const float distance = nphdi_rows_distance(&target->rows, scratch->visited_bits[place]);
        const uint32_t order = nphdi_distance_order(distance);
        if (nphdi_best_is_full(&scratch->best) &&
            order >= nphdi_ranked_order(nphdi_best_farthest(&scratch->best))) {
            continue;
        }
        if (level == 0 && scratch->heap_count > 0 &&
            order < nphdi_candidate_order(scratch->heap[0])) {
            /* likely the next to be expanded */
            reader->prefetch(reader->store, scratch->visited[place]);
        }
        beam_keep(target, distance, place, never, scratch);
    }
}

static inline bool beam_looks_ahead(const nphdi_graph_reader *reader,
                                    const nphdi_graph_scratch *scratch)
{
    return reader->prefetch_linked != NULL && scratch->heap_count > 2;
}

/* The lists of those that are likely to be expanded next: the top of the heap is so two times of
 * three, and after it one of the two below. When looking ahead, that of the top is there by now. */
static inline void beam_prefetch_lists(const nphdi_graph_reader *reader,
                                       const nphdi_graph_scratch *scratch)
{
    if (beam_looks_ahead(reader, scratch)) {
        reader->prefetch(reader->store, nphdi_candidate_slot(scratch->heap[1]));
        reader->prefetch(reader->store, nphdi_candidate_slot(scratch->heap[2]));
    } else if (scratch->heap_count > 0) {
        reader->prefetch(reader->store, nphdi_candidate_slot(scratch->heap[0]));
    }
}

/* Compares the new ones of a list with the target and takes them in. */
static inline void beam_expand(const nphdi_graph_reader *reader, const nphdi_graph_target *target,
                               uint32_t level, const _Atomic uint32_t *links, uint32_t link_count,
                               uint32_t never, nphdi_graph_scratch *scratch)
{
    const uint64_t first = scratch->visited_count;
    const uint32_t count = visited_add(scratch, &target->rows, links, link_count);

    if (level == 0 && beam_looks_ahead(reader, scratch)) {
        reader->prefetch_linked(reader->store, nphdi_candidate_slot(scratch->heap[0]),
                                &target->rows);
    }
    nphdi_rows_gather(target, scratch->visited + first, count, scratch->visited_bits + first);
    scratch->computed += count;
    scratch->expanded++;
    for (uint32_t done = 0; done < count; done += NPHDI_NEARER_MOST) {
        const uint32_t rest = count - done;
        beam_take(reader, target, level, first + done,
                  rest < NPHDI_NEARER_MOST ? rest : NPHDI_NEARER_MOST, never, scratch);
    }
}

static void beam_finish(nphdi_graph_scratch *scratch)
{
    scratch->best_count = scratch->best.count;
    nphdi_best_finish(&scratch->best, scratch->best_sorted);
    for (uint64_t i = 0; i < scratch->best_count; i++) {
        const uint32_t place = nphdi_ranked_arrival(scratch->best_sorted[i]);
        scratch->best_distances[i] = nphdi_ranked_distance(scratch->best_sorted[i]);
        scratch->best_slots[i] = scratch->visited[place];
        scratch->best_bits[i] = scratch->visited_bits[place];
    }
}

nphd_status nphdi_graph_beam(const nphdi_graph_reader *reader, const nphdi_graph_target *target,
                             uint32_t level, uint32_t start, uint32_t never, uint32_t breadth,
                             nphdi_graph_scratch *scratch, const nphd_allocator *allocator,
                             nphd_error *err)
{
    nphd_status status = NPHD_OK;

    beam_start(target, start, never, breadth, scratch);
    while (scratch->heap_count > 0) {
        const _Atomic uint32_t *links;
        if (nphdi_best_is_full(&scratch->best) &&
            nphdi_candidate_order(scratch->heap[0]) >
                nphdi_ranked_order(nphdi_best_farthest(&scratch->best))) {
            break;
        }
        TRY(nphdi_graph_ensure_visited(scratch, allocator, err));
        const uint32_t next =
            nphdi_candidate_slot(nphdi_heap_pop(scratch->heap, scratch->heap_count--));
        const uint32_t count = reader->links(reader->store, next, level, scratch->copied, &links);
        if (count == NPHDI_GRAPH_BROKEN) {
            return NPHD_CORRUPT;
        }
        if (level == 0) {
            beam_prefetch_lists(reader, scratch);
        }
        beam_expand(reader, target, level, links, count, never, scratch);
    }
    beam_finish(scratch);
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
