#include "sharded/salvage_blocks.h"

#include "base/bytes.h"
#include "base/error.h"
#include "index/source.h"

#include <string.h>

nphd_status nphdi_block_map_make(const nphd_io *io, const nphd_allocator *allocator,
                                 const char *path, const nphdi_watch *watch, nphdi_block_map *out,
                                 nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_source source;
    nphdi_trailer trailer;
    nphdi_block_reader reader;
    nphd_error why = NPHD_ERROR_INIT;
    bool found = false;

    memset(&source, 0, sizeof(source));
    memset(&reader, 0, sizeof(reader));
    TRY(nphdi_source_open(&source, io, path, err));
    status = nphdi_source_trailer(&source, &trailer, &found, &why);
    if (status == NPHD_OK && found) {
        status = nphdi_block_reader_begin(&reader, &source, &trailer, allocator, &why);
    }
    if (status == NPHD_CORRUPT || status == NPHD_UNSUPPORTED) {
        /* nothing is known of its blocks; after any other error they must not pass for whole */
        status = NPHD_OK;
        goto done;
    }
    if (status != NPHD_OK || !found) {
        nphdi_error_copy(err, &why);
        goto done;
    }
    out->blocks = nphdi_trailer_blocks(reader.covered);
    TRY(nphdi_alloc(allocator, out->blocks, 1, &out->bad, err));
    for (uint64_t block = 0; block < out->blocks; block++) {
        TRY(nphdi_watch_ask(watch, block, out->blocks, err));
        if (nphdi_block_reader_load(&reader, block * NPHDI_TRAILER_BLOCK_BYTES, NULL) != NPHD_OK) {
            out->bad[block] = 1;
            out->damaged++;
        }
    }
done:
    nphdi_block_reader_end(&reader);
    nphdi_source_close(&source);
    return status;
}

void nphdi_block_map_release(const nphd_allocator *allocator, nphdi_block_map *map)
{
    nphdi_free(allocator, map->bad, map->blocks, 1);
    memset(map, 0, sizeof(*map));
}

static bool is_whole(const nphdi_block_map *map, uint64_t offset, uint64_t bytes)
{
    for (uint64_t block = offset / NPHDI_TRAILER_BLOCK_BYTES;
         block <= (offset + bytes - 1) / NPHDI_TRAILER_BLOCK_BYTES; block++) {
        if (block < map->blocks && map->bad[block] != 0) {
            return false;
        }
    }
    return true;
}

/* Can the place of a node be had from the node directory? */
static bool directory_is_whole(const nphdi_block_walk *at, uint32_t slot)
{
    const nphdi_mapped *mapped = at->mapped;
    const uint32_t first = slot - slot % NPHDI_DIRECTORY_SLOTS;
    const uint8_t *record =
        mapped->directory + (uint64_t)first / NPHDI_DIRECTORY_SLOTS * NPHDI_DIRECTORY_RECORD_BYTES;

    if (mapped->derived_directory != NULL ||
        !is_whole(at->map, (uint64_t)(record - mapped->base), NPHDI_DIRECTORY_RECORD_BYTES)) {
        return false;
    }
    return (nphdi_get64(record) & NPHDI_DIRECTORY_DEEP) == 0 ||
           is_whole(at->map, mapped->head.levels_offset + 2 * (uint64_t)first,
                    2 * NPHDI_DIRECTORY_SLOTS);
}

/* The node of the next slot by the levels of all before it, or by the directory. */
static bool next_node(nphdi_block_walk *at, uint32_t slot, const uint8_t **out_node)
{
    const nphdi_mapped *mapped = at->mapped;
    const nphdi_node_shape *shape = &mapped->head.node;
    const int16_t level = (int16_t)nphdi_get16(mapped->levels + 2 * (uint64_t)slot);
    const uint64_t start =
        slot * nphdi_node_base_bytes(shape) + at->lists * nphdi_list_upper_bytes(shape);
    const bool known = at->levels_whole;
    uint32_t unused;

    at->levels_whole = known && level >= 0 &&
                       is_whole(at->map, mapped->head.levels_offset + 2 * (uint64_t)slot, 2);
    at->lists += level > 0 ? (uint64_t)level : 0;
    if (known && start <= mapped->nodes_bytes &&
        nphdi_node_base_bytes(shape) <= mapped->nodes_bytes - start) {
        *out_node = mapped->nodes + start;
        return true;
    }
    return directory_is_whole(at, slot) && nphdi_mapped_node(mapped, slot, out_node, &unused);
}

bool nphdi_walk_key(nphdi_block_walk *at, const nphd_index *index, uint32_t slot, nphd_key *out,
                    bool *out_visible)
{
    const nphdi_mapped *mapped = at->mapped;
    const nphdi_hidden *hidden = index->content->hidden;
    const uint8_t *node;

    *out_visible = false;
    if (!next_node(at, slot, &node) ||
        !is_whole(at->map, (uint64_t)(node - mapped->base), mapped->head.node.key_bytes)) {
        return false;
    }
    *out = nphdi_usearch_get_key(node, mapped->head.node.key_bytes);
    *out_visible = !nphdi_is_free_key(*out, mapped->head.node.key_bytes) &&
                   (hidden == NULL || !nphdi_hidden_get(hidden, slot));
    return !*out_visible ||
           is_whole(at->map, mapped->head.rows_offset + slot * mapped->head.row_bytes,
                    mapped->head.row_bytes);
}
