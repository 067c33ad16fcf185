/* Building a clean directory from a damaged one.
 *
 * Shards that open are gone through as they are, so that deletions count. Of one that does not, or
 * that has damaged blocks, those entries are taken whose row and node lie in undamaged blocks. They
 * are entered oldest shard first, each replacing what an older shard had for its key. */
#include "base/bytes.h"
#include "base/error.h"
#include "index/source.h"
#include "sharded/sharded_internal.h"

#include <stdarg.h>
#include <stdio.h>
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
    nphdi_names names; /* of the damaged directory */
    uint32_t *numbers; /* of its shards */
    size_t number_count;
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

void nphdi_sharded_damage(const nphd_sharded *sharded, const char *format, ...)
{
    char text[NPHD_ERROR_TEXT_BYTES];
    va_list arguments;

    va_start(arguments, format);
    (void)vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    nphdi_log_write(&sharded->log, NPHD_LOG_WARNING, "salvage: %s", text);
    if (sharded->damage != NULL) {
        sharded->damage(sharded->damage_context, text);
    }
}

/* The log of the damaged directory would repeat what `damage` is told. */
static void say_nothing(void *context, nphd_log_level level, const char *text)
{
    (void)context;
    (void)level;
    (void)text;
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
    if (bytes > of->to->parameters.max_bits / 8 ||
        (of->to->parameters.metric == NPHD_METRIC_HAMMING &&
         bytes != of->to->parameters.max_bits / 8)) {
        of->report.unreadable++; /* of another width, which the new directory cannot have too */
    } else if (bytes > 0) {
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
    nphd_error why = NPHD_ERROR_INIT;
    bool found = false;

    memset(&source, 0, sizeof(source));
    memset(&reader, 0, sizeof(reader));
    TRY(nphdi_source_open(&source, of->io, path, err));
    status = nphdi_source_trailer(&source, &trailer, &found, &why);
    if (status == NPHD_OK && found) {
        status = nphdi_block_reader_begin(&reader, &source, &trailer, of->allocator, &why);
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

/* Going through the slots of a shard with damaged blocks, in order. */
typedef struct walk {
    const nphdi_mapped *mapped;
    const block_map *map;
    uint64_t lists;    /* above level 0, of the slots before */
    bool levels_whole; /* and so is that number */
} walk;

/* Can the place of a node be had from the node directory? */
static bool directory_is_whole(const walk *at, uint32_t slot)
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
static bool next_node(walk *at, uint32_t slot, const uint8_t **out_node)
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

/* ---- shards ---- */

/* An entry of a shard with damage; false: it cannot be read. */
static bool damaged_key(walk *at, const nphd_index *index, uint32_t slot, nphd_key *out,
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

static nphd_status take_entries(salvage *of, nphd_index *index, const block_map *map,
                                nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t slots = nphdi_index_slots(index);
    const bool damaged = index->content->view && map->damaged > 0;
    walk at = {&index->content->mapped, map, 0, true};

    for (uint64_t slot = 0; slot < slots; slot++) {
        nphd_key key;
        bool visible = false;
        bool stored = false;
        if (damaged ? !damaged_key(&at, index, (uint32_t)slot, &key, &visible)
                    : nphdi_index_key_at(index, (uint32_t)slot, &key, &visible, &stored, NULL) !=
                          NPHD_OK) {
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

/* Left out since its parameters are not those of the others; its vectors may fit all the same. */
static bool is_of_another_kind(const salvage *of, const nphd_index *index)
{
    const nphdi_shape *shape = &index->content->shape;
    const nphd_index_options *others = &of->from->parameters;

    return shape->key_bytes == others->key_bits / 8 &&
           (shape->payload_bytes != others->max_bits / 8 || shape->metric != others->metric ||
            shape->multi != others->multi);
}

/* Is a shard that was left out worth a look? It was told of already. An older one that opens is
 * what an interruption left, or contradicts the others; the newest has only lost its record. */
static bool is_wanted(const salvage *of, const nphd_index *index)
{
    return of->from == NULL || is_of_another_kind(of, index) ||
           (index->generation > atomic_load(&of->from->newest_generation) &&
            memcmp(index->identity, of->from->identity, sizeof(index->identity)) == 0);
}

static nphd_status take_shard(salvage *of, uint32_t number, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    /* as the damaged directory has it open, or else its file alone */
    const nphdi_shard *open = of->from != NULL ? nphdi_sealed_numbered(of->from, number) : NULL;
    nphd_open_options options = NPHD_OPEN_OPTIONS_INIT;
    nphd_index *index = NULL;
    nphd_error why = NPHD_ERROR_INIT;
    block_map map = {NULL, 0, 0};
    char *path = NULL;
    size_t room = 0;

    TRY(nphdi_shard_path(of->allocator, of->path, number, &path, &room, err));
    TRY(map_blocks(of, path, &map, err));
    if (map.damaged > 0 && (open != NULL || of->from == NULL)) {
        (void)nphdi_fail(&why, NPHD_CORRUPT, "%s: %llu of %llu blocks are damaged", path,
                         (unsigned long long)map.damaged, (unsigned long long)map.blocks);
        tell(of, why.text);
    }
    if (open == NULL) {
        options.io = of->io;
        status = nphdi_index_view_shard(path, &options, &index, &why);
        if (status == NPHD_CORRUPT || status == NPHD_UNSUPPORTED || status == NPHD_NOT_FOUND) {
            if (of->from == NULL && map.damaged == 0) {
                tell(of, why.text);
            }
            status = NPHD_OK;
            goto done;
        }
        if (status != NPHD_OK) {
            nphdi_error_copy(err, &why);
            goto done;
        }
    }
    if (open != NULL || is_wanted(of, index)) {
        if (of->from == NULL) { /* nobody knows which shard is the newest */
            TRY(nphd_sharded_set_unit(of->to, nphd_index_unit(index), true, err));
        }
        TRY(take_entries(of, open != NULL ? open->index : index, &map, err));
    }
done:
    nphd_index_close(index);
    nphdi_free(of->allocator, map.bad, map.blocks, 1);
    nphdi_free(of->allocator, path, room, 1);
    return status;
}

/* ---- the whole ---- */

/* Vectors of all shards shall fit, also of one that is wider than the others. */
static nphd_status find_widest(const salvage *of, uint32_t key_bits, uint32_t *max_bits,
                               nphd_error *err)
{
    nphd_status status = NPHD_OK;

    for (size_t i = 0; i < of->number_count; i++) {
        nphd_metadata found = NPHD_METADATA_INIT;
        char *path = NULL;
        size_t room = 0;
        TRY(nphdi_shard_path(of->allocator, of->path, of->numbers[i], &path, &room, err));
        if (nphd_file_metadata(path, of->io, &found, NULL) == NPHD_OK &&
            found.metric == NPHD_METRIC_NPHD && found.key_bits == key_bits &&
            found.max_bits > *max_bits) {
            *max_bits = found.max_bits;
        }
        nphdi_free(of->allocator, path, room, 1);
    }
done:
    return status;
}

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
    if (options.metric != NPHD_METRIC_HAMMING) {
        TRY(find_widest(of, options.key_bits, &options.max_bits, err));
    }
    options.io = of->io;
    TRY(nphdi_directory_make_empty(of->io, of->allocator, new_path, err));
    TRY(nphd_sharded_open(new_path, &options, &of->to, err));
    if (of->from != NULL) {
        TRY(nphd_sharded_set_unit(of->to, nphd_sharded_unit(of->from), false, err));
    }
done:
    return status;
}

/* Every shard that is open must still be there to be taken. */
static nphd_status check_listed(const salvage *of, nphd_error *err)
{
    const uint32_t *numbers = of->numbers;
    const size_t count = of->number_count;
    size_t at = 0;

    for (uint64_t i = 0; of->from != NULL && i < of->from->sealed_count; i++) {
        const nphdi_shard *shard = of->from->sealed[i];
        while (at < count && numbers[at] < shard->number) {
            at++;
        }
        if (at == count || numbers[at] != shard->number) {
            return nphdi_fail(err, NPHD_NOT_FOUND, "%s: went away meanwhile", shard->path);
        }
    }
    return NPHD_OK;
}

static nphd_status take_all(salvage *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const block_map none = {NULL, 0, 0};

    for (size_t i = 0; i < of->number_count; i++) {
        TRY(take_shard(of, of->numbers[i], err));
    }
    if (of->from != NULL) {
        /* what the journal added */
        TRY(take_entries(of, of->from->active, &none, err));
    }
done:
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
    TRY(nphdi_check_path(path, err));
    TRY(nphdi_check_path(new_path, err));
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
    options.logger = damage != NULL ? say_nothing : NULL;
    status = nphd_sharded_open(path, &options, &of->from, &why);
    if (status != NPHD_OK && status != NPHD_CORRUPT && status != NPHD_MISMATCH &&
        status != NPHD_UNSUPPORTED) {
        nphdi_error_copy(err, &why);
        goto done;
    }
    TRY(nphdi_directory_list(of->io, path, allocator, &of->names, err));
    TRY(nphdi_shard_numbers(allocator, &of->names, &of->numbers, &of->number_count, err));
    TRY(check_listed(of, err));
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
        nphdi_free(allocator, of->numbers, of->names.count, sizeof(*of->numbers));
        nphdi_names_free(&of->names);
        nphdi_free(allocator, of, 1, sizeof(*of));
    }
    return status;
}
