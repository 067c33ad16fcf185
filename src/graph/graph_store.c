/* The lists of a graph in memory.
 *
 * Invariants: (1) a slot number is stored into a list only after its row, level and lists are
 * there, with release order, and read with acquire order; (2) entry and max level change together
 * (one atomic word); (3) memory of lists moves in nphdi_graph_reserve() alone, while nobody looks.
 */
#include "graph/graph.h"

#include "base/error.h"

#include <string.h>

/* Lists of fewer bytes stay in the caches with their rows, where looking ahead costs more than it
 * helps: by bench_index a tenth at 25,000 rows (3 MiB of lists) and at 70,000, against 7 % gained
 * in searches at 200,000 (25 MiB). */
#define AHEAD_BYTES ((uint64_t)20 << 20)

static uint64_t list_bytes(uint32_t room)
{
    return 4 * (1 + (uint64_t)room);
}

nphd_status nphdi_graph_init(nphdi_graph *graph, const nphd_allocator *allocator,
                             uint32_t connectivity, uint32_t connectivity_base, nphd_error *err)
{
    memset(graph, 0, sizeof(*graph));
    if (pthread_mutex_init(&graph->top_lock, NULL) != 0) {
        return nphdi_fail(err, NPHD_OUT_OF_MEMORY, "cannot create a lock");
    }
    graph->allocator = allocator;
    graph->connectivity = connectivity;
    graph->connectivity_base = connectivity_base;
    graph->ahead_bytes = AHEAD_BYTES;
    return NPHD_OK;
}

void nphdi_graph_release(nphdi_graph *graph)
{
    if (graph->allocator == NULL) {
        return;
    }
    nphdi_region_release(&graph->base_lists, graph->allocator);
    nphdi_region_release(&graph->levels, graph->allocator);
    nphdi_region_release(&graph->upper_index, graph->allocator);
    nphdi_region_release(&graph->upper_lists, graph->allocator);
    nphdi_region_release(&graph->reused, graph->allocator);
    nphdi_free(graph->allocator, graph->locks, graph->lock_count, sizeof(nphdi_spinlock));
    (void)pthread_mutex_destroy(&graph->top_lock);
    memset(graph, 0, sizeof(*graph));
}

/* In place, or moving. */
typedef nphd_status (*make_room)(nphdi_region *region, const nphd_allocator *allocator,
                                 uint64_t bytes, nphd_error *err);

static nphd_status make_all(nphdi_graph *graph, uint64_t slots, uint64_t more_upper_lists,
                            make_room make, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_allocator *allocator = graph->allocator;
    const uint64_t lists = graph->upper_count + more_upper_lists;

    if (lists > UINT32_MAX) {
        return nphdi_fail(err, NPHD_FULL, "the upper layers of the graph are full");
    }
    TRY(make(&graph->base_lists, allocator, slots * list_bytes(graph->connectivity_base), err));
    TRY(make(&graph->levels, allocator, slots * 2, err));
    TRY(make(&graph->upper_index, allocator, slots * 4, err));
    TRY(make(&graph->reused, allocator, (slots + 7) / 8, err));
    TRY(make(&graph->upper_lists, allocator, lists * list_bytes(graph->connectivity), err));
done:
    return status;
}

nphd_status nphdi_graph_commit(nphdi_graph *graph, uint64_t slots, uint64_t more_upper_lists,
                               nphd_error *err)
{
    return make_all(graph, slots, more_upper_lists, nphdi_region_commit, err);
}

static nphd_status make_locks(nphdi_graph *graph, uint64_t slots, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint32_t count =
        slots <= NPHDI_GRAPH_FEW_LOCKS ? NPHDI_GRAPH_FEW_LOCKS : NPHDI_GRAPH_LOCKS;
    nphdi_spinlock *locks = NULL;

    if (count <= graph->lock_count) {
        return NPHD_OK;
    }
    TRY(nphdi_alloc(graph->allocator, count, sizeof(*locks), &locks, err));
    nphdi_free(graph->allocator, graph->locks, graph->lock_count, sizeof(*locks));
    graph->locks = locks;
    graph->lock_count = count;
done:
    return status;
}

nphd_status nphdi_graph_reserve(nphdi_graph *graph, uint64_t slots, uint64_t more_upper_lists,
                                nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(make_locks(graph, slots, err));
    TRY(make_all(graph, slots, more_upper_lists, nphdi_region_grow, err));
done:
    return status;
}

bool nphdi_graph_has(const nphdi_graph *graph, uint64_t slots, uint64_t more_upper_lists)
{
    const uint64_t lists = graph->upper_count + more_upper_lists;

    return lists <= UINT32_MAX &&
           slots * list_bytes(graph->connectivity_base) <= graph->base_lists.reserved_bytes &&
           slots * 2 <= graph->levels.reserved_bytes &&
           slots * 4 <= graph->upper_index.reserved_bytes &&
           (slots + 7) / 8 <= graph->reused.reserved_bytes &&
           lists * list_bytes(graph->connectivity) <= graph->upper_lists.reserved_bytes;
}

void nphdi_graph_place(nphdi_graph *graph, uint32_t slot, uint32_t level)
{
    int16_t *levels = (int16_t *)(void *)graph->levels.base;
    uint32_t *first = (uint32_t *)(void *)graph->upper_index.base;

    levels[slot] = (int16_t)level;
    first[slot] = (uint32_t)graph->upper_count;
    graph->upper_count += level;
}

void nphdi_graph_mark_reused(nphdi_graph *graph, uint32_t slot)
{
    graph->reused.base[slot / 8] |= (uint8_t)(1U << (slot % 8));
}

void nphdi_graph_clear(nphdi_graph *graph, uint64_t slots)
{
    if (slots > 0) {
        memset(graph->base_lists.base, 0, slots * list_bytes(graph->connectivity_base));
        memset(graph->reused.base, 0, (slots + 7) / 8);
    }
    if (graph->upper_count > 0) {
        memset(graph->upper_lists.base, 0, graph->upper_count * list_bytes(graph->connectivity));
    }
    graph->upper_count = 0;
    atomic_store(&graph->top, 0);
}

uint32_t nphdi_graph_random_level(uint32_t slot, uint32_t connectivity)
{
    uint64_t z = ((uint64_t)slot + 1) * 0x9E3779B97F4A7C15ULL; /* splitmix64, one step a slot */
    uint64_t threshold = UINT64_MAX / connectivity;
    uint32_t level = 0;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ z >> 27) * 0x94D049BB133111EBULL;
    z ^= z >> 31;
    while (z < threshold) {
        threshold /= connectivity;
        level++;
    }
    return level;
}

/* A list that is shortened right now may show its old length and, in the place of the links given
 * up, the zeros that the file format wants there. On a level that slot 0 is not on they would lead
 * into the lists of other slots. */
static uint32_t store_links(const void *store, uint32_t slot, uint32_t level,
                            _Atomic uint32_t *buffer, const _Atomic uint32_t **out_links)
{
    const nphdi_graph *graph = store;
    const _Atomic uint32_t *list = nphdi_graph_list(graph, slot, level);
    const uint32_t count = nphdi_list_count(atomic_load_explicit(&list[0], memory_order_acquire));
    uint32_t kept = 0;

    if (level <= nphdi_graph_level(graph, 0)) {
        *out_links = list + 1;
        return count;
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t link = atomic_load_explicit(&list[1 + i], memory_order_acquire);
        atomic_store_explicit(&buffer[kept], link, memory_order_relaxed);
        kept += link != 0 ? 1 : 0;
    }
    *out_links = buffer;
    return kept;
}

static void store_prefetch(const void *store, uint32_t slot)
{
    const nphdi_graph *graph = store;
    const uint64_t bytes = list_bytes(graph->connectivity_base);
    const uint8_t *list = graph->base_lists.base + slot * bytes;

    __builtin_prefetch(list);
    __builtin_prefetch(list + 64);
    __builtin_prefetch(list + bytes - 1);
}

static void store_prefetch_linked(const void *store, uint32_t slot, const nphdi_rows *rows)
{
    const nphdi_graph *graph = store;
    const _Atomic uint32_t *list = nphdi_graph_list(graph, slot, 0);
    const uint32_t count = nphdi_list_count(atomic_load_explicit(&list[0], memory_order_relaxed));

    for (uint32_t i = 0; i < count; i++) {
        nphdi_rows_prefetch(rows, atomic_load_explicit(&list[1 + i], memory_order_relaxed));
    }
}

nphdi_graph_reader nphdi_graph_reader_of(const nphdi_graph *graph, uint64_t slots)
{
    const uint64_t top = atomic_load_explicit(&graph->top, memory_order_acquire);
    const uint32_t entry = (uint32_t)top;
    const bool far = slots * list_bytes(graph->connectivity_base) > graph->ahead_bytes;
    /* the entry may be newer than the number that the caller has */
    const nphdi_graph_reader reader = {graph,
                                       store_links,
                                       store_prefetch,
                                       far ? store_prefetch_linked : NULL,
                                       graph->connectivity_base,
                                       entry < slots ? slots : (uint64_t)entry + 1,
                                       (int32_t)(top >> 32) - 1,
                                       entry};

    return reader;
}

void nphdi_graph_isolate(nphdi_graph *graph, uint64_t slots,
                         bool (*keep)(const void *context, uint32_t slot), const void *context)
{
    for (uint64_t slot = 0; slot < slots; slot++) {
        nphdi_spinlock *lock = nphdi_graph_lock_of(graph, (uint32_t)slot);
        const uint32_t level_count = nphdi_graph_level(graph, (uint32_t)slot) + 1;
        for (uint32_t level = 0; level < level_count; level++) {
            _Atomic uint32_t *list = nphdi_graph_list(graph, (uint32_t)slot, level);
            uint32_t kept = 0;
            uint32_t kept_compared = 0;
            nphdi_spin_lock(lock);
            const uint32_t head = atomic_load_explicit(&list[0], memory_order_relaxed);
            const uint32_t count = nphdi_list_count(head);
            for (uint32_t i = 0; i < count; i++) {
                const uint32_t link = atomic_load_explicit(&list[1 + i], memory_order_relaxed);
                if (keep(context, link)) {
                    atomic_store_explicit(&list[1 + kept++], link, memory_order_release);
                    kept_compared += i < nphdi_list_compared(head) ? 1 : 0;
                }
            }
            atomic_store_explicit(&list[0], nphdi_list_head(kept, kept_compared),
                                  memory_order_release);
            nphdi_spin_unlock(lock);
        }
    }
}
