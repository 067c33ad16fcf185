/* Linking a slot into a graph in memory.
 *
 * Per level from the top of the new node down: a beam search finds candidates, the selection rule
 * keeps those that no kept one is nearer to, and each kept one gets a link back. A list is changed
 * under its spin lock; no two locks are held at once. */
#include "base/error.h"
#include "graph/graph.h"
#include "graph/graph_order.h"

#include <string.h>

/* Kept candidates compared per kernel call: enough to hide a cache miss, few enough that an early
 * rejection saves work (bench_graph: 4 is 6 % slower, 16 is 3 % slower). */
#define SELECT_BLOCK 8

static bool nearer_to_kept(const nphdi_graph_target *pair, nphdi_bits base, const uint32_t *kept,
                           uint32_t kept_count)
{
    nphdi_bits bits[SELECT_BLOCK] = {{0, 0}}; /* read to a multiple of NPHDI_NEARER_STEP */

    for (uint32_t first = 0; first < kept_count; first += SELECT_BLOCK) {
        const uint32_t rest = kept_count - first;
        const uint32_t count = rest < SELECT_BLOCK ? rest : SELECT_BLOCK;
        nphdi_rows_gather(pair, kept + first, count, bits);
        if (nphdi_bits_nearer(bits, count, base) != 0) {
            return true;
        }
    }
    return false;
}

/* Selects from candidates in ascending order into `out` (room for `limit`); returns how many.
 * `bits` is how each compares with the base. Fewer candidates than the limit are all taken. */
static uint32_t select_neighbours(const nphdi_graph_target *target, const nphdi_bits *bits,
                                  const uint32_t *slots, uint64_t count, uint32_t limit,
                                  uint32_t *out)
{
    nphdi_graph_target pair = *target;
    uint32_t kept = 0;

    if (count < limit) {
        memcpy(out, slots, count * sizeof(*out));
        return (uint32_t)count;
    }
    for (uint64_t i = 0; i < count && kept < limit; i++) {
        pair.query = nphdi_rows_query(&pair.rows, slots[i]);
        if (!nearer_to_kept(&pair, bits[i], out, kept)) {
            out[kept++] = slots[i];
        }
    }
    return kept;
}

/* Marks those of the candidates that the query of `pair`, a kept one, is nearer to than the base
 * is. */
static void exclude_nearer(const nphdi_graph_target *pair, const nphdi_bits *bits,
                           const uint32_t *slots, uint32_t count, nphdi_bits *room, bool *excluded)
{
    nphdi_rows_gather(pair, slots, count, room);
    for (uint32_t i = 0; i < count; i++) {
        const int32_t less = room[i].differing * (bits[i].shared + (bits[i].shared == 0)) -
                             bits[i].differing * (room[i].shared + (room[i].shared == 0));
        excluded[i] = excluded[i] || less < 0;
    }
}

/* Selects from the sorted candidates in the scratch as select_neighbours() does. Two that are not
 * fresh are known not to exclude each other, and most often a single one is fresh: what it excludes
 * is found in one go, when it is kept. */
static uint32_t select_again(const nphdi_graph_target *target, uint32_t count, uint32_t limit,
                             nphdi_graph_scratch *scratch, uint32_t *out)
{
    const nphdi_bits *bits = scratch->sorted_bits;
    const uint32_t *slots = scratch->sorted_slots;
    bool *excluded = scratch->sorted_excluded;
    nphdi_graph_target pair = *target;
    uint32_t kept = 0;

    memset(excluded, 0, count * sizeof(*excluded));
    for (uint32_t i = 0; i < count && kept < limit; i++) {
        if (excluded[i]) {
            continue;
        }
        if (scratch->sorted_fresh[i]) {
            pair.query = nphdi_rows_query(&pair.rows, slots[i]);
            if (nearer_to_kept(&pair, bits[i], out, kept)) {
                continue;
            }
            exclude_nearer(&pair, bits + i + 1, slots + i + 1, count - i - 1, scratch->bits,
                           excluded + i + 1);
        }
        out[kept++] = slots[i];
    }
    return kept;
}

static bool is_reused(const nphdi_graph *graph, uint32_t slot)
{
    return (graph->reused.base[slot / 8] >> (slot % 8) & 1) != 0;
}

static void list_write(_Atomic uint32_t *list, const uint32_t *slots, uint32_t count,
                       uint32_t compared, uint32_t room, bool clear_rest)
{
    for (uint32_t i = 0; i < count; i++) {
        atomic_store_explicit(&list[1 + i], slots[i], memory_order_release);
    }
    atomic_store_explicit(&list[0], nphdi_list_head(count, compared), memory_order_release);
    for (uint32_t i = count; clear_rest && i < room; i++) {
        atomic_store_explicit(&list[1 + i], 0, memory_order_relaxed);
    }
}

/* The list of `base` with one more slot is too long: keep the best by the selection rule. */
static void list_reselect(const nphdi_graph *graph, const nphdi_graph_target *target,
                          _Atomic uint32_t *list, uint32_t base, uint32_t added, uint32_t room,
                          nphdi_graph_scratch *scratch)
{
    nphdi_graph_target pair = *target;
    nphdi_ranked *sorted = scratch->sorted;
    uint32_t *slots = scratch->links;
    uint32_t compared = nphdi_list_compared(atomic_load_explicit(&list[0], memory_order_relaxed));
    uint32_t kept;

    compared = is_reused(graph, base) ? 0 : compared;
    pair.query = nphdi_rows_query(&pair.rows, base);
    slots[0] = added;
    for (uint32_t i = 0; i < room; i++) {
        slots[1 + i] = atomic_load_explicit(&list[1 + i], memory_order_relaxed);
        nphdi_rows_prefetch(&pair.rows, slots[1 + i]);
    }
    nphdi_rows_gather(&pair, slots, room + 1, scratch->bits);
    nphdi_rows_distances(&pair.rows, scratch->bits, room + 1, scratch->distances);
    scratch->computed += room + 1;
    nphdi_order_list(scratch->distances, room + 1, compared, scratch->sorted_slots, sorted);
    for (uint32_t at = 0; at <= room; at++) {
        const uint32_t i = nphdi_ranked_arrival(sorted[at]);
        scratch->sorted_bits[at] = scratch->bits[i];
        scratch->sorted_slots[at] = slots[i];
        scratch->sorted_fresh[at] = i == 0 || i > compared || is_reused(graph, slots[i]);
    }
    kept = select_again(&pair, room + 1, room, scratch, scratch->fresh);
    list_write(list, scratch->fresh, kept, kept, room, true);
}

static void link_back(nphdi_graph *graph, const nphdi_graph_target *target, uint32_t base,
                      uint32_t added, uint32_t level, nphdi_graph_scratch *scratch)
{
    _Atomic uint32_t *list = nphdi_graph_list(graph, base, level);
    nphdi_spinlock *lock = nphdi_graph_lock_of(graph, base);
    const uint32_t room = nphdi_graph_room(graph, level);

    nphdi_spin_lock(lock);
    const uint32_t head = atomic_load_explicit(&list[0], memory_order_relaxed);
    const uint32_t count = nphdi_list_count(head);
    if (count < room) {
        atomic_store_explicit(&list[1 + count], added, memory_order_release);
        atomic_store_explicit(&list[0], head + 1, memory_order_release);
    } else {
        list_reselect(graph, target, list, base, added, room, scratch);
    }
    nphdi_spin_unlock(lock);
}

/* Writes the list of the new slot. Another thread may have linked to it already, which it then
 * keeps as long as there is room. */
static void link_forward(nphdi_graph *graph, uint32_t slot, uint32_t level, bool reused,
                         const uint32_t *selected, uint32_t count, bool compared,
                         nphdi_graph_scratch *scratch)
{
    _Atomic uint32_t *list = nphdi_graph_list(graph, slot, level);
    nphdi_spinlock *lock = nphdi_graph_lock_of(graph, slot);
    const uint32_t room = nphdi_graph_room(graph, level);
    uint32_t total = count;

    nphdi_spin_lock(lock);
    const uint32_t before =
        reused ? 0 : nphdi_list_count(atomic_load_explicit(&list[0], memory_order_relaxed));
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
    list_write(list, scratch->fresh, total, compared ? count : 0, room, reused);
    nphdi_spin_unlock(lock);
}

static nphd_status insert_levels(nphdi_graph *graph, const nphdi_graph_target *target,
                                 uint64_t slots, uint32_t slot, bool reused, uint32_t level,
                                 uint32_t breadth, nphdi_graph_scratch *scratch, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_graph_reader reader = nphdi_graph_reader_of(graph, slots);
    const int32_t low_top = (int32_t)level < reader.max_level ? (int32_t)level : reader.max_level;
    uint32_t start = reader.entry;

    TRY(nphdi_graph_prepare(scratch, graph->allocator, breadth, graph->connectivity_base,
                            reader.slots, err));
    TRY(nphdi_graph_descend(&reader, target, reader.max_level, low_top, scratch, &start));
    for (int32_t at = low_top; at >= 0; at--) {
        TRY(nphdi_graph_beam(&reader, target, (uint32_t)at, start, slot, breadth, scratch,
                             graph->allocator, err));
        const uint32_t count =
            select_neighbours(target, scratch->best_bits, scratch->best_slots, scratch->best_count,
                              graph->connectivity, scratch->selected);
        link_forward(graph, slot, (uint32_t)at, reused, scratch->selected, count,
                     scratch->best_count >= graph->connectivity, scratch);
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
                               const nphdi_kernels *kernels, uint64_t slots, uint32_t slot,
                               bool reused, uint32_t breadth, nphdi_graph_scratch *scratch,
                               nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint32_t level = nphdi_graph_level(graph, slot);
    const nphdi_graph_target target = {nphdi_rows_query(rows, slot), *rows, kernels, NULL, NULL};
    const uint64_t raised = (uint64_t)(level + 1) << 32 | slot;
    bool raising = false;

    if (atomic_load_explicit(&graph->top, memory_order_acquire) >> 32 < level + 1) {
        (void)pthread_mutex_lock(&graph->top_lock);
        raising = atomic_load_explicit(&graph->top, memory_order_acquire) >> 32 < level + 1;
        if (!raising) {
            (void)pthread_mutex_unlock(&graph->top_lock);
        }
    }
    if (atomic_load_explicit(&graph->top, memory_order_acquire) != 0) {
        status = insert_levels(graph, &target, slots, slot, reused, level, breadth, scratch, err);
    }
    if (raising) {
        if (status == NPHD_OK) {
            atomic_store_explicit(&graph->top, raised, memory_order_release);
        }
        (void)pthread_mutex_unlock(&graph->top_lock);
    }
    return status;
}
