/* HNSW: a layered graph over stored rows, built by inserting one slot at a time.
 *
 * Searching works over a small accessor (nphdi_graph_reader), so that the same code walks lists in
 * memory and lists in a mapped file. Building works on lists in memory (nphdi_graph).
 *
 * The rules for ties, heap and neighbour selection are those of the reference, so that the same
 * insertions give the same graph (docs/format.md section 3). Source: Malkov and Yashunin 2018,
 * see docs/references.md [HNSW].
 *
 * Threads: any number of searches beside any number of inserts of different slots. Lists are read
 * without locks: a slot number is stored after everything that it leads to. */
#ifndef NPHDI_GRAPH_H
#define NPHDI_GRAPH_H

#include "base/memory.h"
#include "graph/graph_best.h"
#include "graph/graph_heap.h"
#include "graph/graph_seen.h"
#include "kernels/kernels.h"
#include "platform/platform.h"

#include <nphd/status.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* What a reader answers when a bound of the file does not hold. */
#define NPHDI_GRAPH_BROKEN UINT32_MAX

typedef struct nphdi_graph_reader {
    const void *store;
    /* The list of `slot` on `level`: *out_links is the list itself, or a copy in `buffer` (room for
     * connectivity_base slots). Returns how many, or NPHDI_GRAPH_BROKEN. */
    uint32_t (*links)(const void *store, uint32_t slot, uint32_t level, _Atomic uint32_t *buffer,
                      const _Atomic uint32_t **out_links);
    void (*prefetch)(const void *store, uint32_t slot); /* the list of level 0 */
    /* The rows that the list of level 0 leads to, which is in the cache by now. NULL: all is so
     * near that this costs more than it helps. */
    void (*prefetch_linked)(const void *store, uint32_t slot, const nphdi_rows *rows);
    uint32_t connectivity_base;
    uint64_t slots;    /* links to later ones, which another thread is adding, are passed over */
    int32_t max_level; /* -1: empty */
    uint32_t entry;
} nphdi_graph_reader;

/* Working memory of one search or insert at a time. Zero-initialise. */
typedef struct nphdi_graph_scratch {
    float *best_distances; /* the outcome of a beam search, ascending */
    uint32_t *best_slots;
    nphdi_bits *best_bits;
    nphdi_ranked *best_sorted; /* numbered by their places in `visited` */
    uint64_t best_room;
    uint64_t best_count;
    nphdi_graph_best best; /* while it runs */
    nphdi_candidate *heap; /* visited_room long */
    uint64_t heap_count;
    uint32_t *visited;        /* the slots seen by this beam search, in order */
    nphdi_bits *visited_bits; /* how they compare with the target */
    uint64_t visited_room;
    uint64_t visited_count;
    nphdi_graph_seen seen;
    void *copied_memory;      /* of `copied` */
    _Atomic uint32_t *copied; /* list_room + 1 each, like those that follow */
    uint32_t *links;
    uint32_t *fresh;
    uint32_t *selected;
    nphdi_bits *bits;
    float *distances;
    nphdi_ranked *sorted;
    nphdi_bits *sorted_bits;
    bool *sorted_fresh;
    bool *sorted_excluded;
    uint32_t *sorted_slots;
    uint64_t list_room;
    uint64_t computed; /* distances, since the caller set it to 0 */
    uint64_t expanded;
} nphdi_graph_scratch;

void nphdi_graph_scratch_free(nphdi_graph_scratch *scratch, const nphd_allocator *allocator);

/* What is compared with what. `allow` (NULL: everything) says whether a slot may be an answer;
 * others are walked through. */
typedef struct nphdi_graph_target {
    nphdi_query query;
    nphdi_rows rows;
    const nphdi_kernels *kernels;
    bool (*allow)(void *context, uint32_t slot);
    void *allow_context;
} nphdi_graph_target;

/* Leaves the answers in scratch->best_*[0 .. best_count), at most `breadth`. Errors:
 * NPHD_OUT_OF_MEMORY; NPHD_CORRUPT without an error text, which the caller knows better. */
nphd_status nphdi_graph_search(const nphdi_graph_reader *reader, const nphdi_graph_target *target,
                               uint32_t breadth, nphdi_graph_scratch *scratch,
                               const nphd_allocator *allocator, nphd_error *err);

/* ---- a graph in memory ---- */

/* Lists share locks; collisions only cost a wait. */
#define NPHDI_GRAPH_LOCKS 4096
#define NPHDI_GRAPH_FEW_LOCKS 64 /* of graphs with few slots, of which there may be many */

typedef struct nphdi_graph {
    const nphd_allocator *allocator;
    uint32_t connectivity;
    uint32_t connectivity_base;
    nphdi_region base_lists;  /* per slot: head and connectivity_base slots, u32 */
    nphdi_region levels;      /* per slot: i16 */
    nphdi_region upper_index; /* per slot: its first list in upper_lists, u32 */
    nphdi_region upper_lists; /* per list: head and connectivity slots, u32 */
    nphdi_region reused;      /* per slot: a bit, set once it was given another vector */
    uint64_t upper_count;     /* lists in use */
    uint64_t ahead_bytes;     /* with more bytes in lists than these, walks look ahead */
    _Atomic uint64_t top;     /* (max level + 1) << 32 | entry; 0: empty */
    pthread_mutex_t top_lock; /* held by the one insert that raises the top */
    nphdi_spinlock *locks;
    uint32_t lock_count; /* a power of two */
} nphdi_graph;

nphd_status nphdi_graph_init(nphdi_graph *graph, const nphd_allocator *allocator,
                             uint32_t connectivity, uint32_t connectivity_base, nphd_error *err);

/* Takes a zero-initialised graph. */
void nphdi_graph_release(nphdi_graph *graph);

/* Memory for `slots` slots and more_upper_lists lists above those in use, in place: NPHD_FULL where
 * it would have to move. One thread at a time. */
nphd_status nphdi_graph_commit(nphdi_graph *graph, uint64_t slots, uint64_t more_upper_lists,
                               nphd_error *err);

/* The same, moving what has to be moved; nobody may be looking. */
nphd_status nphdi_graph_reserve(nphdi_graph *graph, uint64_t slots, uint64_t more_upper_lists,
                                nphd_error *err);

/* Is there memory for that? */
bool nphdi_graph_has(const nphdi_graph *graph, uint64_t slots, uint64_t more_upper_lists);

/* Gives a new slot its level; its lists are empty. Needs memory. One thread at a time. */
void nphdi_graph_place(nphdi_graph *graph, uint32_t slot, uint32_t level);

/* Empties the lists of the first `slots` slots; nobody may be looking. */
void nphdi_graph_clear(nphdi_graph *graph, uint64_t slots);

/* The level of a new slot: a fixed function of its number, so that the same insertions build the
 * same graph on every machine and with any number of threads. P(level >= l) = connectivity^-l. */
uint32_t nphdi_graph_random_level(uint32_t slot, uint32_t connectivity);

/* Says that the row of a linked slot was replaced; nobody may be linking. */
void nphdi_graph_mark_reused(nphdi_graph *graph, uint32_t slot);

/* Links a placed slot, whose row is in `rows`, into the graph of `slots` slots. `reused`: the slot
 * was linked before and its lists are stale. On an error the slot stays unlinked or partly linked,
 * which is the state of a removed slot. */
nphd_status nphdi_graph_insert(nphdi_graph *graph, const nphdi_rows *rows,
                               const nphdi_kernels *kernels, uint64_t slots, uint32_t slot,
                               bool reused, uint32_t breadth, nphdi_graph_scratch *scratch,
                               nphd_error *err);

/* Drops links to slots that `keep` refuses, from all lists of slots below `slots`. */
void nphdi_graph_isolate(nphdi_graph *graph, uint64_t slots,
                         bool (*keep)(const void *context, uint32_t slot), const void *context);

/* `slots`: how many there are now. */
nphdi_graph_reader nphdi_graph_reader_of(const nphdi_graph *graph, uint64_t slots);

/* The head of a list: how many links it has, and how many of the first of them the selection rule
 * has already compared with each other. Those need no second comparison when the list overflows,
 * as long as their rows are the same; it makes adding a quarter faster (bench_index). */
static inline uint32_t nphdi_list_count(uint32_t head)
{
    return head & 0xFFFF;
}

static inline uint32_t nphdi_list_compared(uint32_t head)
{
    return head >> 16;
}

static inline uint32_t nphdi_list_head(uint32_t count, uint32_t compared)
{
    return compared << 16 | count;
}

/* Raw lists, for reading from and writing to files. */
static inline uint32_t nphdi_graph_level(const nphdi_graph *graph, uint32_t slot)
{
    const int16_t *levels = (const int16_t *)(const void *)graph->levels.base;

    return (uint32_t)levels[slot];
}

static inline _Atomic uint32_t *nphdi_graph_list(const nphdi_graph *graph, uint32_t slot,
                                                 uint32_t level)
{
    _Atomic uint32_t *base = (_Atomic uint32_t *)(void *)graph->base_lists.base;
    _Atomic uint32_t *upper = (_Atomic uint32_t *)(void *)graph->upper_lists.base;
    const uint32_t *first = (const uint32_t *)(const void *)graph->upper_index.base;

    return level == 0
               ? base + (uint64_t)slot * (1 + (uint64_t)graph->connectivity_base)
               : upper + ((uint64_t)first[slot] + level - 1) * (1 + (uint64_t)graph->connectivity);
}

/* The same list as plain words, for a graph that holds still. */
static inline const uint32_t *nphdi_graph_list_words(const nphdi_graph *graph, uint32_t slot,
                                                     uint32_t level)
{
    const uint32_t *base = (const uint32_t *)(const void *)graph->base_lists.base;
    const uint32_t *upper = (const uint32_t *)(const void *)graph->upper_lists.base;
    const uint32_t *first = (const uint32_t *)(const void *)graph->upper_index.base;

    return level == 0
               ? base + (uint64_t)slot * (1 + (uint64_t)graph->connectivity_base)
               : upper + ((uint64_t)first[slot] + level - 1) * (1 + (uint64_t)graph->connectivity);
}

static inline nphdi_spinlock *nphdi_graph_lock_of(const nphdi_graph *graph, uint32_t slot)
{
    return &graph->locks[slot & (graph->lock_count - 1)];
}

static inline uint32_t nphdi_graph_room(const nphdi_graph *graph, uint32_t level)
{
    return level == 0 ? graph->connectivity_base : graph->connectivity;
}

/* ---- shared by search and insert ---- */

/* Sizes the scratch for a breadth, a list length and a number of slots. */
nphd_status nphdi_graph_prepare(nphdi_graph_scratch *scratch, const nphd_allocator *allocator,
                                uint32_t breadth, uint32_t list_room, uint64_t slots,
                                nphd_error *err);

nphd_status nphdi_graph_grow_visited(nphdi_graph_scratch *scratch, const nphd_allocator *allocator,
                                     nphd_error *err);

/* Room for one more list among the visited, and to read how they compare by steps. */
static inline nphd_status nphdi_graph_ensure_visited(nphdi_graph_scratch *scratch,
                                                     const nphd_allocator *allocator,
                                                     nphd_error *err)
{
    return scratch->visited_count + scratch->list_room + NPHDI_NEARER_STEP <= scratch->visited_room
               ? NPHD_OK
               : nphdi_graph_grow_visited(scratch, allocator, err);
}

/* Distance of the query to one row. */
float nphdi_graph_measure(const nphdi_graph_target *target, uint32_t slot);

/* Greedy walk on the levels from..above+1; *slot is where it begins and ends. */
nphd_status nphdi_graph_descend(const nphdi_graph_reader *reader, const nphdi_graph_target *target,
                                int32_t from, int32_t above, nphdi_graph_scratch *scratch,
                                uint32_t *slot);

/* Beam search on one level from `start`; the slot `never` is no candidate (UINT32_MAX: none). */
nphd_status nphdi_graph_beam(const nphdi_graph_reader *reader, const nphdi_graph_target *target,
                             uint32_t level, uint32_t start, uint32_t never, uint32_t breadth,
                             nphdi_graph_scratch *scratch, const nphd_allocator *allocator,
                             nphd_error *err);

static inline float nphdi_rows_distance(const nphdi_rows *rows, nphdi_bits bits)
{
    return rows->prefix_bytes != 0 ? nphdi_bits_distance(bits) : (float)bits.differing;
}

/* The distances of many comparisons; written so that compilers make vector code of it. */
static inline void nphdi_rows_distances(const nphdi_rows *rows, const nphdi_bits *restrict bits,
                                        uint32_t count, float *restrict out)
{
    if (rows->prefix_bytes == 0) {
        for (uint32_t i = 0; i < count; i++) {
            out[i] = (float)bits[i].differing;
        }
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        /* nothing shared means nothing differing, and 0 / 8 is 0 too */
        const int32_t shared = 8 * (bits[i].shared + (bits[i].shared == 0));
        out[i] = (float)(int32_t)bits[i].differing / (float)shared;
    }
}

/* Compares the query with rows; a query without bytes is at distance 0 from all. */
static inline void nphdi_rows_gather(const nphdi_graph_target *target, const uint32_t *slots,
                                     uint32_t count, nphdi_bits *out)
{
    if (target->query.bytes == 0) {
        for (uint32_t i = 0; i < count; i++) {
            out[i].differing = 0;
            out[i].shared = 0;
        }
        return;
    }
    target->kernels->gather(&target->query, &target->rows, slots, count, out);
}

#endif
