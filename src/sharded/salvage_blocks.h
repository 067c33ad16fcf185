/* What can be read of a file with damaged blocks; for salvage. */
#ifndef NPHDI_SALVAGE_BLOCKS_H
#define NPHDI_SALVAGE_BLOCKS_H

#include "index/index_internal.h"

/* A bit for each damaged block of a file with trailer. */
typedef struct nphdi_block_map {
    uint8_t *bad;
    uint64_t blocks;
    uint64_t damaged;
} nphdi_block_map;

/* Nothing is known, and nothing damaged, of a file without trailer, or whose trailer is damaged.
 * Released in any case. */
nphd_status nphdi_block_map_make(const nphd_io *io, const nphd_allocator *allocator,
                                 const char *path, const nphdi_watch *watch, nphdi_block_map *out,
                                 nphd_error *err);
void nphdi_block_map_release(const nphd_allocator *allocator, nphdi_block_map *map);

/* Going through the slots of a shard with damaged blocks, in order. */
typedef struct nphdi_block_walk {
    const nphdi_mapped *mapped;
    const nphdi_block_map *map;
    uint64_t lists;    /* above level 0, of the slots before */
    bool levels_whole; /* and so is that number */
} nphdi_block_walk;

/* The entry of the next slot; false: it cannot be read. */
bool nphdi_walk_key(nphdi_block_walk *at, const nphd_index *index, uint32_t slot, nphd_key *out,
                    bool *out_visible);

#endif
