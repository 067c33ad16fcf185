/* A file used in place: rows, nodes and tables behind one read-only mapping (or a caller's buffer).
 *
 * Nothing in the mapping is trusted. The headers are checked when it opens; levels, node places,
 * list counts, links, table entries and keys are checked where they are used, so that opening
 * takes no pass over a file with a trailer. What a file without trailer lacks is derived: the node
 * directory at opening, the key table and the count of vectors at the first need. */
#ifndef NPHDI_MAPPED_H
#define NPHDI_MAPPED_H

#include "formats/trailer.h"
#include "formats/usearch_format.h"
#include "graph/graph.h"
#include "index/slot_table.h"
#include "index/source.h"
#include "scan/mih.h"
#include "scan/planes_image.h"

#include <nphd/status.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#define NPHDI_DIRECTORY_SLOTS 64          /* slots per record of the node directory */
#define NPHDI_DIRECTORY_RECORD_BYTES 32   /* levels before, then who has level >= 1, 2, 3 */
#define NPHDI_DIRECTORY_DEEP (1ULL << 63) /* with the levels before: some level is 4 or more */

typedef struct nphdi_mapped {
    const nphd_allocator *allocator;
    const nphd_io *io; /* NULL: a buffer of the caller */
    const uint8_t *base;
    uint64_t bytes;
    char *name;
    uint64_t name_bytes;
    nphdi_usearch_head head;
    nphdi_trailer trailer;
    bool has_trailer;
    const uint8_t *levels;
    const uint8_t *nodes;
    uint64_t nodes_bytes; /* the nodes end here at the latest */
    const uint8_t *directory;
    const uint8_t *live_words;      /* a bit for each live slot; NULL: the key tells */
    nphdi_slot_table trailer_table; /* without places: derived at the first need */
    nphdi_planes_image planes;      /* without parts: the file has none */
    nphdi_mih *mih;                 /* NULL: the file has none */
    void *derived_directory;
    uint64_t derived_directory_bytes;
    pthread_mutex_t derive_lock;
    _Atomic bool derived; /* the table that follows is there */
    nphdi_slot_table derived_table;
    _Atomic uint64_t live; /* UINT64_MAX: not counted yet */
} nphdi_mapped;

/* Takes the mapping over (also when it fails); `io` NULL: a buffer. */
nphd_status nphdi_mapped_open(nphdi_mapped *mapped, const nphdi_source *source,
                              const nphdi_usearch_head *head, const nphdi_trailer *trailer,
                              bool has_trailer, const nphd_allocator *allocator, nphd_error *err);
void nphdi_mapped_close(nphdi_mapped *mapped);

/* 1 where rows begin with a length, as the file says. */
static inline uint32_t nphdi_mapped_prefix_bytes(const nphdi_mapped *mapped)
{
    return mapped->head.metric_code == NPHDI_METRIC_CODE_NPHD ? 1 : 0;
}

/* The node of a slot and its level; false: a bound does not hold. */
bool nphdi_mapped_node(const nphdi_mapped *mapped, uint32_t slot, const uint8_t **out_node,
                       uint32_t *out_level);

/* The key of a slot, the free key for a removed one; false: a bound does not hold. */
bool nphdi_mapped_key(const nphdi_mapped *mapped, uint32_t slot, nphd_key *out);

bool nphdi_mapped_is_live(const nphdi_mapped *mapped, uint32_t slot);

nphdi_graph_reader nphdi_mapped_reader(const nphdi_mapped *mapped);

/* The key table (room 0: no keys), derived under a lock if need be. */
nphd_status nphdi_mapped_table(nphdi_mapped *mapped, nphdi_slot_table *out, nphd_error *err);

/* Memory of what was derived. */
uint64_t nphdi_mapped_derived_bytes(const nphdi_mapped *mapped);

/* The key table if it is there already, else one without places. */
nphdi_slot_table nphdi_mapped_table_now(const nphdi_mapped *mapped);

/* Vectors that can be found. */
nphd_status nphdi_mapped_live(nphdi_mapped *mapped, uint64_t *out, nphd_error *err);

/* Goes over the whole structure: levels, node places, keys, counts, links, and that the trailer's
 * tables say the same. Errors: NPHD_CORRUPT, naming node and check. */
nphd_status nphdi_mapped_check(const nphdi_mapped *mapped, const nphdi_watch *watch,
                               nphd_error *err);

/* The same in parts, in this order; all but the first need that those before found nothing. Nodes
 * and planes may be checked by several threads, each range by one. */

/* Levels, the node directory, and that the nodes fill their place. */
nphd_status nphdi_mapped_check_levels(const nphdi_mapped *mapped, const nphdi_watch *watch,
                                      nphd_error *err);

/* Bytes of the file, in the mapping or as they were read. */
typedef struct nphdi_piece {
    const uint8_t *bytes;
    uint64_t offset; /* of the first in the file */
    uint64_t length;
} nphdi_piece;

#define NPHDI_NOTHING_CUT UINT64_MAX

/* The nodes that begin in a piece, against all tables. *out_cut: the slot of the last one if it
 * ends behind the piece, which is for nphdi_mapped_check_cut(). Adds the live ones to *live. */
nphd_status nphdi_mapped_check_nodes(const nphdi_mapped *mapped, const nphdi_piece *piece,
                                     uint64_t *live, uint64_t *out_cut, nphd_error *err);
nphd_status nphdi_mapped_check_cut(const nphdi_mapped *mapped, uint64_t slot, uint64_t *live,
                                   nphd_error *err);

/* The trailer's numbers against all live nodes. */
nphd_status nphdi_mapped_check_counts(const nphdi_mapped *mapped, uint64_t live_count,
                                      const nphdi_watch *watch, nphd_error *err);

/* A part of the planes against the rows; number < mapped->planes.parts. That every slot has one
 * entry follows from all parts together: there are as many entries as slots, they ascend inside a
 * length, and a row has only one length. */
nphd_status nphdi_mapped_check_part(const nphdi_mapped *mapped, uint64_t number, nphd_error *err);

/* The hash tables, if there are any, against the rows. */
nphd_status nphdi_mapped_check_mih(const nphdi_mapped *mapped, const nphdi_watch *watch,
                                   nphd_error *err);

nphd_status nphdi_mapped_broken(const nphdi_mapped *mapped, uint64_t slot, nphd_error *err);

/* One record of a node directory from up to 64 levels (LE i16); returns the sum of the levels. A
 * negative level counts as 0 and sets *out_negative. */
uint64_t nphdi_directory_encode(const uint8_t *levels, uint64_t count, uint64_t levels_before,
                                uint8_t out[NPHDI_DIRECTORY_RECORD_BYTES], bool *out_negative);

static inline uint64_t nphdi_directory_bytes(uint64_t slots)
{
    return (slots + NPHDI_DIRECTORY_SLOTS - 1) / NPHDI_DIRECTORY_SLOTS *
           NPHDI_DIRECTORY_RECORD_BYTES;
}

#endif
