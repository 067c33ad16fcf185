/* What an index holds: rows, keys, graph and key map in memory, or a mapped file. The content is
 * one object that load, view and reset replace whole.
 *
 * Invariants of content in memory, by slot:
 *   (1) slots below `slots` have a row, a key and a place in the graph's arrays;
 *   (2) a live slot has its `live` and `used` bits set and exactly one entry in the key map;
 *   (3) a slot with neither bit is free: linked or not, it may be given to another vector;
 *   (4) a slot with only `used` set belongs to an add under way.
 * Readers see a live bit only after everything behind it. Rows, keys, bits and lists move in
 * nphdi_content_reserve() alone, under the content lock for writing: what points into them does not
 * outlive the reader's hold of that lock. */
#ifndef NPHDI_CONTENT_H
#define NPHDI_CONTENT_H

#include "base/memory.h"
#include "graph/graph.h"
#include "index/hidden.h"
#include "index/key_map.h"
#include "index/mapped.h"
#include "index/used_slots.h"
#include "kernels/kernels.h"
#include "scan/mih.h"
#include "scan/planes.h"

#include <nphd/index.h>
#include <nphd/iscc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* What a file's header fixes. */
typedef struct nphdi_shape {
    nphd_metric metric;
    uint32_t payload_bytes; /* of a vector: max_bits / 8 */
    uint32_t prefix_bytes;  /* 1 for NPHD */
    uint32_t key_bytes;
    uint32_t connectivity;
    uint32_t connectivity_base;
    bool multi;
} nphdi_shape;

typedef struct nphdi_content_mih nphdi_content_mih;

typedef struct nphdi_content {
    const nphd_allocator *allocator;
    const nphdi_kernels *kernels;
    nphdi_shape shape;
    uint64_t row_bytes;
    bool view;
    nphdi_mapped mapped; /* of a view; the rest is of content in memory */
    nphdi_region rows;
    nphdi_region keys; /* u64, or nphd_key */
    nphdi_region live; /* bits in u64 words */
    nphdi_used_slots used;
    nphdi_graph graph;
    nphdi_key_map map;
    pthread_mutex_t slot_lock; /* giving out slots, and changes of the key map */
    bool slot_lock_made;
    _Atomic uint64_t slots;
    _Atomic uint64_t live_count;
    uint64_t used_count;
    uint64_t free_cursor; /* where the search for a free slot goes on */
    uint64_t next_automatic;
    _Atomic nphd_unit unit;           /* the type of its codes */
    _Atomic(nphdi_planes *) planes;   /* NULL until exact searches have made it worth its memory */
    _Atomic uint64_t rows_scanned;    /* by exact searches without planes */
    _Atomic(nphdi_content_mih *) mih; /* NULL: none was made */
    const nphdi_hidden *hidden;       /* borrowed; NULL: every stored slot is live */
} nphdi_content;

/* Empty content in memory, or (`view`) content whose `mapped` the caller opens. */
nphd_status nphdi_content_create(const nphdi_shape *shape, bool view,
                                 const nphd_allocator *allocator, nphdi_content **out,
                                 nphd_error *err);
void nphdi_content_close(nphdi_content *content);

/* Memory for slots up to `slots`, and `upper_lists` more lists above level 0, in place: NPHD_FULL
 * where something would have to move. The caller holds slot_lock. */
nphd_status nphdi_content_commit(nphdi_content *content, uint64_t slots, uint64_t upper_lists,
                                 nphd_error *err);
/* The same, moving what has to be moved; nobody may be looking. */
nphd_status nphdi_content_reserve(nphdi_content *content, uint64_t slots, uint64_t upper_lists,
                                  nphd_error *err);
/* Would that be in place? */
bool nphdi_content_has(const nphdi_content *content, uint64_t slots, uint64_t upper_lists);
uint64_t nphdi_content_capacity(const nphdi_content *content);
uint64_t nphdi_content_memory(const nphdi_content *content);

/* ---- slots: the caller holds slot_lock ---- */

/* Takes a free slot if there is one (*out_reused), else a new one with a level from its number.
 * Memory must have been reserved. The slot is then used and not live. A new one has to be put
 * before the next is taken. */
uint32_t nphdi_content_take_slot(nphdi_content *content, bool *out_reused);
void nphdi_content_give_back(nphdi_content *content, uint32_t slot);
uint64_t nphdi_content_free_slots(const nphdi_content *content);

/* ---- one slot ---- */

/* Row and key of a slot that no reader can see: a new one, which counts from then on, or a reused
 * one while the content is locked for writing. */
void nphdi_content_put(nphdi_content *content, uint32_t slot, nphd_key key, nphd_vector vector);

/* Takes over a slot that a file or another content filled: its key, and its bits unless the key is
 * the free one. Returns whether it is live; it is in the key map only once it is published. */
bool nphdi_content_adopt(nphdi_content *content, uint32_t slot, nphd_key key);

/* Puts a filled slot into the key map and makes it visible. Room in the map must be reserved. */
void nphdi_content_publish(nphdi_content *content, uint32_t slot);
/* Takes a live slot away. */
void nphdi_content_withdraw(nphdi_content *content, uint32_t slot);
/* Lets `to` take the place of the live slot `from` of the same key. */
void nphdi_content_supersede(nphdi_content *content, uint32_t from, uint32_t to);

/* Gives a live slot another key; nobody may be looking, and the map needs room. */
void nphdi_content_rekey(nphdi_content *content, uint32_t slot, nphd_key key);
/* Empties everything and keeps the memory; nobody may be looking. */
void nphdi_content_clear(nphdi_content *content);

nphd_status nphdi_content_reserve_map(nphdi_content *content, uint64_t more, nphd_error *err);

/* ---- reading: memory or mapped ---- */

nphdi_rows nphdi_content_rows(const nphdi_content *content);
uint64_t nphdi_content_slots(const nphdi_content *content);
/* The slot holds a vector; it is live if it is not hidden, too. Saving is about stored slots, all
 * other reading about live ones. */
bool nphdi_content_is_stored(const nphdi_content *content, uint32_t slot);
bool nphdi_content_is_live(const nphdi_content *content, uint32_t slot);
/* false: a bound of the mapped file does not hold */
bool nphdi_content_key(const nphdi_content *content, uint32_t slot, nphd_key *out);
nphdi_graph_reader nphdi_content_reader(const nphdi_content *content);
nphd_status nphdi_content_stored(nphdi_content *content, uint64_t *out, nphd_error *err);
nphd_status nphdi_content_size(nphdi_content *content, uint64_t *out, nphd_error *err);
/* The stored vector of a slot. */
nphd_vector nphdi_content_vector(const nphdi_content *content, uint32_t slot);
const char *nphdi_content_name(const nphdi_content *content);

/* ---- planes: beside the rows, for exact search ---- */

/* Below these slots the rows are as good: they fit into a second-level cache. */
#define NPHDI_PLANES_LEAST_SLOTS 2048

/* Parts of the planes in which all slots below `slots` are, or 0: they are not worth making yet
 * for `queries` more scans, there is no memory for them, or the mapped file has none. Any number
 * of threads that hold the content lock. */
uint64_t nphdi_content_parts(nphdi_content *content, uint64_t slots, uint64_t queries);
nphdi_planes_part nphdi_content_part(const nphdi_content *content, uint64_t number);
/* What comparing all of `slots` slots with each of `queries` queries costs, in nanoseconds a query,
 * before anything is known of the vectors but their width. */
double nphdi_content_scan_cost(const nphdi_content *content, uint64_t slots, uint64_t queries);
/* Makes them now, if there is memory for them. */
void nphdi_content_make_planes(nphdi_content *content);

/* ---- multi-index hashing: tables of the file, or made on request ---- */

/* What a search uses: the tables, and what they do not tell. */
typedef struct nphdi_mih_view {
    const nphdi_mih *mih;
    const uint64_t *stale; /* NULL, or a bit for each slot that the tables are wrong about */
    const uint32_t *loose; /* the same slots */
    uint64_t loose_count;
} nphdi_mih_view;

/* false: there are none. Slots from mih->covered on are newer. The caller holds the content lock.
 */
bool nphdi_content_mih_look(const nphdi_content *content, nphdi_mih_view *out);
/* There are tables, and they tell about all slots. */
bool nphdi_content_mih_is_whole(const nphdi_content *content);

/* Makes tables of all slots; no slot may change meanwhile. *out is for nphdi_content_mih_set() or
 * nphdi_content_mih_free(), also on failure; NULL: there are tables, or too few slots for any. */
nphd_status nphdi_content_mih_make(const nphdi_content *content, uint32_t threads,
                                   const nphdi_watch *watch, nphdi_content_mih **out,
                                   nphd_error *err);
/* Replaces those in memory, by none where `tables` is NULL; nobody may be looking. */
void nphdi_content_mih_set(nphdi_content *content, nphdi_content_mih *tables);
void nphdi_content_mih_free(nphdi_content_mih *tables, const nphd_allocator *allocator);
/* A slot got a new row; nobody may be looking. */
void nphdi_content_mih_changed(nphdi_content *content, uint32_t slot);
uint64_t nphdi_content_mih_memory(const nphdi_content *content);

#define NPHDI_OVERFLOW_LATER UINT32_MAX

/* Going through the slots of one key. */
typedef struct nphdi_probe {
    const nphdi_content *content;
    nphd_key key;
    uint64_t hash;
    const _Atomic uint32_t *memory_table;
    nphdi_slot_table file_table;
    uint64_t place;
    uint64_t room;
    uint64_t left;     /* places */
    uint32_t overflow; /* the next entry of the file's; NPHDI_OVERFLOW_LATER: it comes after them */
} nphdi_probe;

/* `hash` is that of the key, as nphdi_content_hash() gives it. */
nphd_status nphdi_probe_begin(nphdi_content *content, nphd_key key, uint64_t hash, nphdi_probe *out,
                              nphd_error *err);
/* *out_slot is the next live slot, or UINT32_MAX after the last. */
nphd_status nphdi_probe_next(nphdi_probe *probe, uint32_t *out_slot, nphd_error *err);
/* The same with the hidden ones. */
nphd_status nphdi_probe_next_stored(nphdi_probe *probe, uint32_t *out_slot, nphd_error *err);
/* The first live slot, or UINT32_MAX. */
nphd_status nphdi_content_find(nphdi_content *content, nphd_key key, uint32_t *out_slot,
                               nphd_error *err);

/* By which the content's own table is asked; content in memory has a secret of its own. */
uint64_t nphdi_content_hash(const nphdi_content *content, nphd_key key);

/* Fetches the line of the key table where the probe begins, if there is a table. */
void nphdi_content_prefetch(const nphdi_content *content, uint64_t hash);

/* Many keys at once, whose cache misses then overlap: the first live slot of each, or UINT32_MAX.
 */
#define NPHDI_FIND_MOST 16
nphd_status nphdi_content_find_many(nphdi_content *content, const nphd_key *keys, size_t count,
                                    uint32_t out_slots[NPHDI_FIND_MOST], nphd_error *err);

#endif
