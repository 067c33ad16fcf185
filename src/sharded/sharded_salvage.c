/* Building a clean directory from a damaged one.
 *
 * Shards that open are gone through as they are, so that deletions count. Of one that does not, or
 * that has damaged blocks, those entries are taken whose row and node lie in undamaged blocks. They
 * are entered oldest shard first, each replacing what an older shard had for its key. */
#include "base/error.h"
#include "index/source.h"
#include "sharded/sharded_internal.h"

#include <string.h>

/* Vectors that are entered at once. */
#define ENTER_AT_ONCE 1024

typedef struct salvage {
    nphd_sharded *from; /* NULL: it cannot be opened at all */
    nphd_sharded *to;
    const nphd_io *io;
    const nphd_allocator *allocator;
    const char *path;
    nphd_damage damage;
    void *damage_context;
    nphd_salvage_report report;
    size_t count;
    nphd_key keys[ENTER_AT_ONCE];
    nphd_vector vectors[ENTER_AT_ONCE];
    uint8_t bits[ENTER_AT_ONCE][NPHD_MAX_BYTES];
} salvage;

static void tell(void *context, const char *text)
{
    salvage *of = context;

    of->report.files++;
    if (of->damage != NULL) {
        of->damage(of->damage_context, text);
    }
}

static nphd_status enter_gathered(salvage *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    if (of->to->parameters.multi) {
        TRY(nphd_sharded_add_many(of->to, of->keys, of->vectors, of->count, NULL, NULL, NULL, err));
    } else {
        TRY(nphd_sharded_upsert(of->to, of->keys, of->vectors, of->count, NULL, NULL, err));
    }
    of->count = 0;
done:
    return status;
}

static nphd_status enter(salvage *of, nphd_index *index, uint32_t slot, nphd_key key,
                         nphd_error *err)
{
    nphd_status status = NPHD_OK;
    size_t bytes = 0;

    if (of->count == ENTER_AT_ONCE) {
        TRY(enter_gathered(of, err));
    }
    TRY(nphdi_index_vector_at(index, slot, of->bits[of->count], &bytes, err));
    if (bytes > 0) {
        of->keys[of->count] = key;
        of->vectors[of->count].data = of->bits[of->count];
        of->vectors[of->count++].bytes = bytes;
    }
done:
    return status;
}

/* ---- blocks ---- */

/* A bit for each damaged block of a file with trailer. */
typedef struct block_map {
    uint8_t *bad;
    uint64_t blocks;
    uint64_t damaged;
} block_map;

static nphd_status map_blocks(const salvage *of, const char *path, block_map *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_source source;
    nphdi_trailer trailer;
    nphdi_block_reader reader;
    bool found = false;

    memset(&source, 0, sizeof(source));
    memset(&reader, 0, sizeof(reader));
    TRY(nphdi_source_open(&source, of->io, path, err));
    if (nphdi_source_trailer(&source, &trailer, &found, NULL) != NPHD_OK || !found) {
        goto done;
    }
    if (nphdi_block_reader_begin(&reader, &source, &trailer, of->allocator, NULL) != NPHD_OK) {
        goto done;
    }
    out->blocks = nphdi_trailer_blocks(reader.covered);
    TRY(nphdi_alloc(of->allocator, out->blocks, 1, &out->bad, err));
    for (uint64_t block = 0; block < out->blocks; block++) {
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

static bool is_whole(const block_map *map, uint64_t offset, uint64_t bytes)
{
    for (uint64_t block = offset / NPHDI_TRAILER_BLOCK_BYTES;
         block <= (offset + bytes - 1) / NPHDI_TRAILER_BLOCK_BYTES; block++) {
        if (block < map->blocks && map->bad[block] != 0) {
            return false;
        }
    }
    return true;
}

/* Do row, level and node of the slot lie in undamaged blocks? */
static bool slot_is_whole(const nphdi_mapped *mapped, const block_map *map, uint32_t slot)
{
    const uint8_t *node;
    uint32_t level;

    return is_whole(map, mapped->head.rows_offset + slot * mapped->head.row_bytes,
                    mapped->head.row_bytes) &&
           nphdi_mapped_node(mapped, slot, &node, &level) &&
           is_whole(map, (uint64_t)(node - mapped->base), mapped->head.node.key_bytes + 2);
}

/* ---- shards ---- */

static nphd_status take_entries(salvage *of, nphd_index *index, const block_map *map,
                                nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t slots = nphdi_index_slots(index);
    const nphdi_mapped *mapped = &index->content->mapped;

    for (uint64_t slot = 0; slot < slots; slot++) {
        nphd_key key;
        bool visible = false;
        bool stored = false;
        if ((index->content->view && map->damaged > 0 &&
             !slot_is_whole(mapped, map, (uint32_t)slot)) ||
            nphdi_index_key_at(index, (uint32_t)slot, &key, &visible, &stored, NULL) != NPHD_OK) {
            of->report.unreadable++;
            continue;
        }
        if (visible && (of->from == NULL || !nphdi_key_set_has(&of->from->tombstones, key))) {
            TRY(enter(of, index, (uint32_t)slot, key, err));
        }
    }
    TRY(enter_gathered(of, err));
done:
    return status;
}

/* The shard as the damaged directory has it open, or else its file alone. */
static nphdi_shard *find_open(const salvage *of, uint32_t number)
{
    for (uint64_t i = 0; of->from != NULL && i < of->from->sealed_count; i++) {
        if (of->from->sealed[i]->number == number) {
            return of->from->sealed[i];
        }
    }
    return NULL;
}

static nphd_status take_shard(salvage *of, const char *name, uint32_t number, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_shard *open = find_open(of, number);
    nphd_open_options options = NPHD_OPEN_OPTIONS_INIT;
    nphd_index *index = NULL;
    nphd_error why = NPHD_ERROR_INIT;
    block_map map = {NULL, 0, 0};
    char *path = NULL;
    size_t room = 0;

    TRY(nphdi_path_join(of->allocator, of->path, name, &path, &room, err));
    TRY(map_blocks(of, path, &map, err));
    if (map.damaged > 0) {
        (void)nphdi_fail(&why, NPHD_CORRUPT, "%s: %llu of %llu blocks are damaged", path,
                         (unsigned long long)map.damaged, (unsigned long long)map.blocks);
        tell(of, why.text);
    }
    if (open == NULL) {
        options.io = of->io;
        status = nphd_index_restore(path, true, &options, &index, &why);
        if (status == NPHD_CORRUPT || status == NPHD_UNSUPPORTED || status == NPHD_NOT_FOUND) {
            tell(of, why.text);
            status = NPHD_OK;
            goto done;
        }
        if (status != NPHD_OK) {
            nphdi_error_copy(err, &why);
            goto done;
        }
    }
    TRY(take_entries(of, open != NULL ? open->index : index, &map, err));
done:
    nphd_index_close(index);
    nphdi_free(of->allocator, map.bad, map.blocks, 1);
    nphdi_free(of->allocator, path, room, 1);
    return status;
}

/* ---- the whole ---- */

static nphd_status open_new(salvage *of, const char *new_path, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    nphd_metadata metadata = NPHD_METADATA_INIT;

    if (of->from != NULL) {
        options.max_bits = of->from->parameters.max_bits;
        options.key_bits = of->from->parameters.key_bits;
        options.metric = of->from->parameters.metric;
        options.connectivity = of->from->parameters.connectivity;
        options.multi = of->from->parameters.multi ? 2 : 1;
    } else {
        TRY(nphd_directory_metadata(of->path, of->io, &metadata, err));
        options.max_bits = metadata.max_bits;
        options.key_bits = metadata.key_bits;
        options.metric = metadata.metric;
        options.multi = metadata.multi ? 2 : 1;
    }
    options.io = of->io;
    TRY(nphdi_directory_make_empty(of->io, of->allocator, new_path, err));
    TRY(nphd_sharded_open(new_path, &options, &of->to, err));
done:
    return status;
}

static nphd_status take_all(salvage *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_names names;
    const block_map none = {NULL, 0, 0};

    memset(&names, 0, sizeof(names));
    TRY(nphdi_directory_list(of->io, of->path, of->allocator, &names, err));
    /* names are sorted, and shards of up to three digits with them; longer ones follow */
    for (int wide = 0; wide < 2; wide++) {
        for (size_t i = 0; i < names.count; i++) {
            const uint32_t number = nphdi_shard_number(names.names[i]);
            if (number != NPHDI_NO_NUMBER && (number > 999) == (wide != 0)) {
                TRY(take_shard(of, names.names[i], number, err));
            }
        }
    }
    if (of->from != NULL) {
        /* what the journal added */
        TRY(take_entries(of, of->from->active, &none, err));
    }
done:
    nphdi_names_free(&names);
    return status;
}

nphd_status nphd_directory_salvage(const char *path, const char *new_path, const nphd_io *io,
                                   nphd_damage damage, void *damage_context,
                                   nphd_salvage_report *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    const nphd_allocator *allocator = nphdi_allocator_system();
    nphd_error why = NPHD_ERROR_INIT;
    salvage *of = NULL;

    nphdi_error_clear(err);
    TRY(nphdi_alloc(allocator, 1, sizeof(*of), &of, err));
    of->io = io != NULL ? io : nphdi_io_posix();
    of->allocator = allocator;
    of->path = path;
    of->damage = damage;
    of->damage_context = damage_context;
    TRY(nphdi_io_check_directories(of->io, err));
    options.io = of->io;
    options.read_only = true;
    options.salvage = true;
    options.damage = tell;
    options.damage_context = of;
    if (nphd_sharded_open(path, &options, &of->from, &why) != NPHD_OK) {
        tell(of, why.text);
    }
    TRY(open_new(of, new_path, err));
    TRY(take_all(of, err));
    of->report.vectors = nphd_sharded_size(of->to);
    TRY(nphd_sharded_close(of->to, err));
done:
    if (of != NULL) {
        if (out != NULL) {
            *out = of->report;
        }
        nphd_sharded_free(of->from);
        nphd_sharded_free(of->to);
        nphdi_free(allocator, of, 1, sizeof(*of));
    }
    return status;
}
