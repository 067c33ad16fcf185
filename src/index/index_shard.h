/* What one index offers to the sharded index above it, beside the public calls: saving under a
 * given name and generation, hiding entries, changes in steps, and lookups over many shards. */
#ifndef NPHDI_INDEX_SHARD_H
#define NPHDI_INDEX_SHARD_H

#include "formats/trailer.h"
#include "index/block_sink.h"
#include "index/hidden.h"
#include "index/slot_table.h"

#include <nphd/index.h>
#include <nphd/index_file.h>
#include <nphd/index_radius.h>
#include <nphd/index_search.h>
#include <nphd/io.h>
#include <stdbool.h>
#include <stdint.h>

/* ---- files ---- */

typedef struct nphdi_save_as {
    const uint8_t *identity; /* 16 bytes */
    uint64_t generation;
    const nphdi_extra_section *extra; /* between our sections and the block checksums */
    uint32_t extra_count;
} nphdi_save_as;

/* As nphd_index_save(), with identity and generation given; on success they are the handle's.
 * *out_bytes (or NULL) is the size of the file, set once that is in place. */
nphd_status nphdi_index_save_as(nphd_index *index, const char *path, const nphdi_save_as *as,
                                const nphd_batch_options *options, uint64_t *out_bytes,
                                nphd_error *err);

/* As nphd_index_restore(), a view, without a note of which file it was. */
nphd_status nphdi_index_view_shard(const char *path, const nphd_open_options *options,
                                   nphd_index **out, nphd_error *err);

/* Where extra sections would begin in the file that a save would write now, and how many sections
 * it has without them. Nobody may be changing the index. */
uint64_t nphdi_index_extra_offset(nphd_index *index, uint32_t *out_sections);

/* The trailer of the file behind a view, until the content is replaced; NULL: there is none. */
const nphdi_trailer *nphdi_index_trailer(const nphd_index *index);

/* The trailer of any file that may have one. */
nphd_status nphdi_file_trailer(const nphd_io *io, const char *path, nphdi_trailer *out,
                               bool *out_found, nphd_error *err);

/* One section of any file with a trailer, checked against the blocks that cover it, in fresh
 * memory: nphdi_free(allocator, data, bytes, 1). *out_found false: no trailer or no such section.
 */
nphd_status nphdi_index_read_section(const nphd_io *io, const nphd_allocator *allocator,
                                     const char *path, uint32_t id, bool *out_found,
                                     void **out_data, uint64_t *out_bytes, nphd_error *err);

/* Size of the reference part of the file that a save would write now, and of the same after `more`
 * vectors were added. No lock is taken: nobody may be changing the index. */
uint64_t nphdi_index_foreign_bytes(nphd_index *index);
uint64_t nphdi_index_foreign_bytes_after(nphd_index *index, uint64_t more);

/* ---- hidden slots ---- */

/* Entries of hidden slots are not found, counted or copied, but saved as they are. For content
 * that is sealed. Borrowed until the content is replaced (load, view, reset, clear) or another set
 * is given; NULL: none. Nobody else may be using the index. */
void nphdi_index_set_hidden(nphd_index *index, const nphdi_hidden *hidden);

/* ---- the vectors of one key ---- */

/* Calls `visit` for each vector of `key` in a slot from `first` on, in no particular order. The
 * vector is borrowed for the call, which must not call into the same index. */
typedef void (*nphdi_visit_vector)(void *context, nphd_vector vector);
nphd_status nphdi_index_visit_key(nphd_index *index, nphd_key key, uint64_t first,
                                  nphdi_visit_vector visit, void *context, nphd_error *err);

/* ---- changes in steps ---- */

/* `enter` is called once, right before linked vectors become visible, without any lock that a
 * search takes; `leave` when they are visible. Neither is called when nothing will be published,
 * be it that the call failed or that nothing in it is new. */
typedef struct nphdi_publish_hooks {
    void *context;
    void (*enter)(void *context);
    void (*leave)(void *context);
} nphdi_publish_hooks;

typedef enum nphdi_change_mode {
    NPHDI_CHANGE_ADD,
    NPHDI_CHANGE_UPSERT,
    NPHDI_CHANGE_REPLACE, /* as upsert, but an equal vector is replaced, too */
    NPHDI_CHANGE_CARRY    /* as add, of what an index holds: rows of length 0, which files of others
                             may have, come along */
} nphdi_change_mode;

/* nphd_index_add_many() and nphd_index_upsert() in one; hooks, options and outputs may be NULL. */
nphd_status nphdi_index_change(nphd_index *index, const nphd_key *keys, const nphd_vector *vectors,
                               size_t count, const nphd_batch_options *options,
                               nphdi_change_mode mode, const nphdi_publish_hooks *hooks,
                               nphd_key *out_keys, nphd_upsert_counts *out_counts, nphd_error *err);

/* Checks the keys (NULL: automatic) and vectors of a batch for this index, and nothing else. */
nphd_status nphdi_index_check(nphd_index *index, const nphd_key *keys, const nphd_vector *vectors,
                              size_t count, nphd_error *err);

/* ---- searching ---- */

/* The arguments of a search. With a sink, capacity and out are not used and reports may be NULL. */
typedef struct nphdi_search_request {
    const nphd_vector *queries; /* query_count times as many as options.variants says */
    size_t query_count;
    size_t capacity;
    nphd_search_options options;
    nphd_match *out;
    nphd_search_report *reports;
    nphd_match_sink sink; /* NULL: the matches go to `out` */
    void *sink_context;
} nphdi_search_request;

/* Fills the options of a request, as nphd_index_search_many() takes them; those of a search by
 * radius have this one, and are exact unless they ask for the graph. */
nphd_status nphdi_search_options_read(const nphd_search_options *options, const float *radius,
                                      nphdi_search_request *ask, nphd_error *err);

/* A call that takes one vector takes no variants. */
nphd_status nphdi_search_check_single(const nphd_search_options *options, nphd_error *err);

/* Vectors of one query. */
static inline uint32_t nphdi_search_variants(const nphd_search_options *options)
{
    return options->variants == 0 ? 1 : options->variants;
}

/* nphd_index_prepare() without planes. */
nphd_status nphdi_index_make_tables(nphd_index *index, uint32_t threads, const nphdi_watch *watch,
                                    nphd_error *err);
/* For a shard that is about to be written, which is as good without, only slower to search: what
 * fails is passed over. Only NPHD_CANCELLED is an error. */
nphd_status nphdi_index_try_tables(nphd_index *index, uint32_t threads, const nphdi_watch *watch,
                                   nphd_error *err);

/* Do hash tables cover every vector? */
bool nphdi_index_has_tables(nphd_index *index);

/* What comparing every vector with each of `queries` queries costs, in nanoseconds a query. */
double nphdi_index_scan_cost(nphd_index *index, uint64_t queries);

/* Checks the arguments of a search, and nothing else. */
nphd_status nphdi_index_check_search(nphd_index *index, const nphdi_search_request *ask,
                                     nphd_error *err);

/* ---- lookups over many shards: no lock is taken, the caller keeps the content in place ---- */

/* The key table of a mapped file, for callers that keep those of many shards side by side. *out is
 * zero (no places) for content in memory and for files whose table has to be derived. */
void nphdi_index_slot_table(const nphd_index *index, nphdi_slot_table *out);

/* The first visible entry of the key, else a hidden one; *out_slot UINT32_MAX: there is none.
 * `hash`: as tables of files have it, nphdi_hash_key(). */
nphd_status nphdi_index_find_stored(nphd_index *index, nphd_key key, uint64_t hash,
                                    uint32_t *out_slot, bool *out_hidden, nphd_error *err);

/* `out` has room for nphd_index_max_bytes(). The slot exists. */
nphd_status nphdi_index_vector_at(nphd_index *index, uint32_t slot, uint8_t *out, size_t *out_bytes,
                                  nphd_error *err);

/* The key is zero unless the slot is stored; visible: stored and not hidden. */
nphd_status nphdi_index_key_at(nphd_index *index, uint32_t slot, nphd_key *out, bool *out_visible,
                               bool *out_stored, nphd_error *err);

uint64_t nphdi_index_slots(const nphd_index *index);

/* Entries, hidden ones included; 0 when the file of a view is too damaged to count them. */
uint64_t nphdi_index_stored(nphd_index *index);

#endif
