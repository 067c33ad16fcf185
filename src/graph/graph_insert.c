/* Linking a slot into a graph in memory.
 *
 * Per level from the top of the new node down: a beam search finds candidates, the selection rule
 * keeps those that no kept one is nearer to, and each kept one gets a link back. A list is changed
 * under its spin lock; no two locks are held at once. */
#include "base/error.h"
#include "graph/graph.h"

#include <string.h>

/* Kept candidates compared per kernel call: enough to hide a cache miss, few enough that an early
 * rejection saves work (bench_graph: 4 is 6 % slower, 16 is 3 % slower). */
#define SELECT_BLOCK 8

static bool nearer_to_kept(const nphdi_graph_target *pair, nphdi_candidate candidate,
                           const uint32_t *kept, uint32_t kept_count)
{
    nphdi_bits bits[SELECT_BLOCK];

    for (uint32_t first = 0; first < kept_count; first += SELECT_BLOCK) {
        const uint32_t rest = kept_count - first;
        const uint32_t count = rest < SELECT_BLOCK ? rest : SELECT_BLOCK;
        nphdi_rows_gather(pair, kept + first, count, bits);
        for (uint32_t i = 0; i < count; i++) {
            if (nphdi_rows_distance(&pair->rows, bits[i]) < candidate.distance) {
                return true;
            }
        }
    }
    return false;
}

/* Selects from ascending candidates into `out` (room for `limit`); returns how many. Fewer
 * candidates than the limit are all taken. */
static uint32_t select_neighbours(const nphdi_graph_target *target,
                                  const nphdi_candidate *candidates, uint64_t count, uint32_t limit,
                                  uint32_t *out)
{
    nphdi_graph_target pair = *target;
    uint32_t kept = 0;

    if (count < limit) {
        for (uint64_t i = 0; i < count; i++) {
            out[i] = candidates[i].slot;
        }
        return (uint32_t)count;
    }
    for (uint64_t i = 0; i < count && kept < limit; i++) {
        pair.query = nphdi_rows_query(&pair.rows, candidates[i].slot);
        if (!nearer_to_kept(&pair, candidates[i], out, kept)) {
            out[kept++] = candidates[i].slot;
        }
    }
    return kept;
}

static void list_write(_Atomic uint32_t *list, const uint32_t *slots, uint32_t count, uint32_t room,
                       bool clear_rest)
{
    for (uint32_t i = 0; i < count; i++) {
        atomic_store_explicit(&list[1 + i], slots[i], memory_order_release);
    }
    atomic_store_explicit(&list[0], count, memory_order_release);
    for (uint32_t i = count; clear_rest && i < room; i++) {
        atomic_store_explicit(&list[1 + i], 0, memory_order_relaxed);
    }
}

/* The list of `base` with one more slot is too long: keep the best by the selection rule. */
static void list_reselect(const nphdi_graph_target *target, _Atomic uint32_t *list, uint32_t base,
                          uint32_t added, uint32_t room, nphdi_graph_scratch *scratch)
{
    nphdi_graph_target pair = *target;
    nphdi_candidate *sorted = scratch->neighbours;
    uint32_t *slots = scratch->links;
    uint32_t kept;

    pair.query = nphdi_rows_query(&pair.rows, base);
    slots[0] = added;
    for (uint32_t i = 0; i < room; i++) {
        slots[1 + i] = atomic_load_explicit(&list[1 + i], memory_order_relaxed);
        nphdi_rows_prefetch(&pair.rows, slots[1 + i]);
    }
    nphdi_rows_gather(&pair, slots, room + 1, scratch->bits);
    scratch->computed += room + 1;
    for (uint32_t i = 0; i <= room; i++) {
        const nphdi_candidate item = {nphdi_rows_distance(&pair.rows, scratch->bits[i]), slots[i]};
        uint32_t at = i;
        while (at > 0 && sorted[at - 1].distance >= item.distance) {
            sorted[at] = sorted[at - 1];
            at--;
        }
        sorted[at] = item;
    }
    kept = select_neighbours(&pair, sorted, (uint64_t)room + 1, room, scratch->fresh);
    list_write(list, scratch->fresh, kept, room, true);
}

static void link_back(nphdi_graph *graph, const nphdi_graph_target *target, uint32_t base,
                      uint32_t added, uint32_t level, nphdi_graph_scratch *scratch)
{
    _Atomic uint32_t *list = nphdi_graph_list(graph, base, level);
    nphdi_spinlock *lock = &graph->locks[base % NPHDI_GRAPH_LOCKS];
    const uint32_t room = nphdi_graph_room(graph, level);

    nphdi_spin_lock(lock);
    const uint32_t count = atomic_load_explicit(&list[0], memory_order_relaxed);
    if (count < room) {
        atomic_store_explicit(&list[1 + count], added, memory_order_release);
        atomic_store_explicit(&list[0], count + 1, memory_order_release);
    } else {
        list_reselect(target, list, base, added, room, scratch);
    }
    nphdi_spin_unlock(lock);
}

/* Writes the list of the new slot. Another thread may have linked to it already, which it then
 * keeps as long as there is room. */
static void link_forward(nphdi_graph *graph, uint32_t slot, uint32_t level, bool reused,
                         const uint32_t *selected, uint32_t count, nphdi_graph_scratch *scratch)
{
    _Atomic uint32_t *list = nphdi_graph_list(graph, slot, level);
    nphdi_spinlock *lock = &graph->locks[slot % NPHDI_GRAPH_LOCKS];
    const uint32_t room = nphdi_graph_room(graph, level);
    uint32_t total = count;

    nphdi_spin_lock(lock);
    const uint32_t before = reused ? 0 : atomic_load_explicit(&list[0], memory_order_relaxed);
    memcpy(scratch->fresh, selected, count * sizeof(uint32_t));
    for (uint32_t i = 0; i < before && total < room; i++) {
        const uint32_t other = atomic_load_explicit(&list[1 + i], memory_order_relaxed);
        bool known = false;
        for (uint32_t j = 0; j < count && !known; j++) {
            known = selected[j] == other;
        }
        if (!known) {
            scratch->fresh[total++] = other;
        }
    }
    list_write(list, scratch->fresh, total, room, reused);
    nphdi_spin_unlock(lock);
}

static nphd_status insert_levels(nphdi_graph *graph, const nphdi_graph_target *target,
                                 uint32_t slot, bool reused, uint32_t level, uint32_t breadth,
                                 nphdi_graph_scratch *scratch, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_graph_reader reader = nphdi_graph_reader_of(graph);
    const int32_t low_top = (int32_t)level < reader.max_level ? (int32_t)level : reader.max_level;
    uint32_t start = reader.entry;

    TRY(nphdi_graph_descend(&reader, target, reader.max_level, low_top, scratch, &start));
    for (int32_t at = low_top; at >= 0; at--) {
        TRY(nphdi_graph_beam(&reader, target, (uint32_t)at, start, slot, breadth, scratch,
                             graph->allocator, err));
        const uint32_t count = select_neighbours(target, scratch->best, scratch->best_count,
                                                 graph->connectivity, scratch->selected);
        link_forward(graph, slot, (uint32_t)at, reused, scratch->selected, count, scratch);
        if (count > 0) {
            start = scratch->selected[0];
        }
        for (uint32_t i = 0; i < count; i++) {
            link_back(graph, target, scratch->selected[i], slot, (uint32_t)at, scratch);
        }
    }
done:
    return status;
}

nphd_status nphdi_graph_insert(nphdi_graph *graph, const nphdi_rows *rows,
                               const nphdi_kernels *kernels, uint32_t slot, bool reused,
                               uint32_t breadth, nphdi_graph_scratch *scratch, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint32_t level = nphdi_graph_level(graph, slot);
    const nphdi_graph_target target = {nphdi_rows_query(rows, slot), *rows, kernels, NULL, NULL};
    const uint64_t raised = (uint64_t)(level + 1) << 32 | slot;
    bool raising = false;

    TRY(nphdi_graph_prepare(scratch, graph->allocator, breadth, graph->connectivity_base, err));
    if (atomic_load_explicit(&graph->top, memory_order_acquire) >> 32 < level + 1) {
        (void)pthread_mutex_lock(&graph->top_lock);
        raising = atomic_load_explicit(&graph->top, memory_order_acquire) >> 32 < level + 1;
        if (!raising) {
            (void)pthread_mutex_unlock(&graph->top_lock);
        }
    }
    if (atomic_load_explicit(&graph->top, memory_order_acquire) != 0) {
        TRY(insert_levels(graph, &target, slot, reused, level, breadth, scratch, err));
    }
done:
    if (raising) {
        if (status == NPHD_OK) {
            atomic_store_explicit(&graph->top, raised, memory_order_release);
        }
        (void)pthread_mutex_unlock(&graph->top_lock);
    }
    return status;
}
