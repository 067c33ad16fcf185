/* Reading a file into memory, front to back, each block verified before it is used and every bound
 * of the structure checked. A load that fails leaves the index as it was. */
#include "base/bytes.h"
#include "base/error.h"
#include "index/index_internal.h"
#include "index/index_unit.h"

#include <string.h>

/* Slots between two calls of the progress callback. */
#define PROGRESS_SLOTS 65536

nphdi_shape nphdi_shape_of_head(const nphdi_usearch_head *head, bool legacy)
{
    nphdi_shape shape;

    memset(&shape, 0, sizeof(shape));
    shape.metric = legacy || head->metric_code == NPHDI_METRIC_CODE_NPHD ? NPHD_METRIC_NPHD
                                                                         : NPHD_METRIC_HAMMING;
    shape.prefix_bytes = shape.metric == NPHD_METRIC_NPHD ? 1 : 0;
    shape.payload_bytes = (uint32_t)head->row_bytes - shape.prefix_bytes;
    shape.key_bytes = head->node.key_bytes;
    shape.connectivity = head->node.connectivity;
    shape.connectivity_base = head->node.connectivity_base;
    shape.multi = head->multi;
    return shape;
}

/* ---- what the caller expects ---- */

static nphd_status expect(const char *name, const char *what, uint64_t file, uint64_t asked,
                          nphd_error *err)
{
    if (asked != 0 && asked != file) {
        return nphdi_fail(err, NPHD_MISMATCH, "%s: %s of the file is %llu, but %llu was asked for",
                          name, what, (unsigned long long)file, (unsigned long long)asked);
    }
    return NPHD_OK;
}

static nphd_status check_expected(const char *name, const nphdi_shape *shape, bool empty,
                                  const nphd_open_options *options, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(expect(name, "the width in bits", 8ULL * shape->payload_bytes, options->max_bits, err));
    TRY(expect(name, "the key width in bits", 8ULL * shape->key_bytes, options->key_bits, err));
    if (!empty) {
        TRY(expect(name, "the connectivity", shape->connectivity, options->connectivity, err));
    }
    if (options->metric != NPHD_METRIC_DEFAULT && options->metric != shape->metric) {
        return nphdi_fail(err, NPHD_MISMATCH,
                          "%s: the metric of the file is %s, but %s was asked for%s", name,
                          nphd_metric_name(shape->metric), nphd_metric_name(options->metric),
                          options->metric == NPHD_METRIC_NPHD
                              ? " (for a file from before the NPHD metric set legacy_nphd)"
                              : "");
    }
    if (options->multi > 2) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "multi is %u; it must be 0, 1 or 2",
                          options->multi);
    }
    if (options->multi != 0 && (options->multi == 2) != shape->multi) {
        return nphdi_fail(err, NPHD_MISMATCH, "%s: the file is %smulti, but %smulti was asked for",
                          name, shape->multi ? "" : "not ", options->multi == 2 ? "" : "not ");
    }
done:
    return status;
}

/* ---- levels and nodes ---- */

/* Everything that is in use while one file is read. */
typedef struct load {
    nphdi_block_reader reader;
    const char *name;
    const nphdi_usearch_head *head;
    nphdi_content *content;
    const nphd_open_options *options;
    uint8_t *list; /* bytes of one list */
    uint64_t list_bytes;
} load;

static nphd_status load_rows(load *from, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_usearch_head *head = from->head;

    TRY(nphdi_content_reserve(from->content, head->slots, 0, err));
    TRY(nphdi_block_reader_take(&from->reader, NULL, head->rows_offset, err));
    TRY(nphdi_block_reader_take(&from->reader, from->content->rows.base,
                                head->slots * head->row_bytes, err));
    TRY(nphdi_block_reader_take(&from->reader, NULL, NPHDI_USEARCH_HEAD_BYTES, err));
done:
    return status;
}

/* Places every slot in the graph. Searches begin at the entry on the max level, so these two must
 * agree. Single slots may have a higher level: those whose add was given up before it linked them.
 */
static nphd_status load_levels(load *from, uint64_t file_bytes, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_content *content = from->content;
    const nphdi_usearch_head *head = from->head;
    uint8_t stored[2];

    for (uint64_t slot = 0; slot < head->slots; slot++) {
        TRY(nphdi_block_reader_take(&from->reader, stored, sizeof(stored), err));
        const int16_t level = (int16_t)nphdi_get16(stored);
        if (level < 0) {
            return nphdi_fail(err, NPHD_CORRUPT, "%s: levels: slot %llu has level %d", from->name,
                              (unsigned long long)slot, level);
        }
        nphdi_graph_place(&content->graph, (uint32_t)slot, (uint32_t)level);
        if (content->graph.upper_count > file_bytes / nphdi_list_upper_bytes(&head->node)) {
            return nphdi_fail(err, NPHD_CORRUPT,
                              "%s: levels: more lists than a file of %llu bytes can hold",
                              from->name, (unsigned long long)file_bytes);
        }
    }
    if (head->slots > 0 &&
        nphdi_graph_level(&content->graph, (uint32_t)head->entry) != (uint32_t)head->max_level) {
        return nphdi_fail(err, NPHD_CORRUPT,
                          "%s: graph header: max level %d, but entry slot %llu has %u", from->name,
                          head->max_level, (unsigned long long)head->entry,
                          nphdi_graph_level(&content->graph, (uint32_t)head->entry));
    }
    TRY(nphdi_graph_reserve(&content->graph, head->slots, 0, err));
    atomic_store(&content->slots, head->slots);
done:
    return status;
}

static nphd_status load_list(load *from, uint32_t slot, uint32_t level, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_graph *graph = &from->content->graph;
    const uint32_t slot_bytes = from->head->node.slot_bytes;
    const uint32_t room = nphdi_graph_room(graph, level);
    _Atomic uint32_t *list = nphdi_graph_list(graph, slot, level);
    uint32_t count;

    TRY(nphdi_block_reader_take(&from->reader, from->list, 4 + (uint64_t)room * slot_bytes, err));
    count = nphdi_get32(from->list);
    if (count > room) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: node %u: level %u has %u links, room for %u",
                          from->name, slot, level, count, room);
    }
    atomic_store_explicit(&list[0], count, memory_order_relaxed);
    for (uint32_t i = 0; i < room; i++) {
        const uint8_t *place = from->list + 4 + (size_t)i * slot_bytes;
        uint64_t link = slot_bytes == 4 ? nphdi_get32(place) : nphdi_get40(place);
        if (i < count &&
            (link >= from->head->slots || nphdi_graph_level(graph, (uint32_t)link) < level)) {
            return nphdi_fail(err, NPHD_CORRUPT,
                              "%s: node %u: link %u of level %u leads to slot %llu, which %s",
                              from->name, slot, i, level, (unsigned long long)link,
                              link >= from->head->slots ? "does not exist" : "has a lower level");
        }
        /* what is behind the count is kept as it was, as far as our lists can hold it */
        link = link <= UINT32_MAX ? link : 0;
        atomic_store_explicit(&list[1 + i], (uint32_t)link, memory_order_relaxed);
    }
done:
    return status;
}

static nphd_status load_node(load *from, uint32_t slot, uint64_t *live, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_content *content = from->content;
    const uint32_t key_bytes = content->shape.key_bytes;
    const uint32_t level = nphdi_graph_level(&content->graph, slot);
    uint8_t start[16 + 2];

    TRY(nphdi_block_reader_take(&from->reader, start, key_bytes + 2, err));
    if (nphdi_get16(start + key_bytes) != level) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: node %u: level %u, but %u in the levels array",
                          from->name, slot, nphdi_get16(start + key_bytes), level);
    }
    for (uint32_t at = 0; at <= level; at++) {
        TRY(load_list(from, slot, at, err));
    }
    const nphd_key key = nphdi_usearch_get_key(start, key_bytes);
    *live += nphdi_content_adopt(content, slot, key) ? 1 : 0;
done:
    return status;
}

static nphd_status load_nodes(load *from, uint64_t *live, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t slots = from->head->slots;

    from->list_bytes = nphdi_list_base_bytes(&from->head->node);
    TRY(nphdi_alloc(from->content->allocator, from->list_bytes, 1, &from->list, err));
    for (uint64_t slot = 0; slot < slots; slot++) {
        TRY(load_node(from, (uint32_t)slot, live, err));
        if (from->options->progress != NULL && slot % PROGRESS_SLOTS == 0 &&
            from->options->progress(from->options->progress_context, slot, slots) != 0) {
            return nphdi_fail(err, NPHD_CANCELLED, "%s: cancelled by the progress callback",
                              from->name);
        }
    }
    if (slots > 0) {
        atomic_store(&from->content->graph.top,
                     (uint64_t)(from->head->max_level + 1) << 32 | from->head->entry);
    }
done:
    return status;
}

/* What follows the nodes: our sections, whose blocks are verified, or bytes that mean nothing. */
static nphd_status load_end(load *from, const nphdi_trailer *trailer, uint64_t live,
                            nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint8_t mark[NPHDI_TRAILER_MARK_BYTES];

    if (trailer != NULL) {
        if (from->reader.offset != trailer->foreign_bytes || live != trailer->live) {
            return nphdi_fail(err, NPHD_CORRUPT,
                              "%s: the trailer tells of %llu bytes and %llu vectors, there are "
                              "%llu and %llu",
                              from->name, (unsigned long long)trailer->foreign_bytes,
                              (unsigned long long)trailer->live,
                              (unsigned long long)from->reader.offset, (unsigned long long)live);
        }
        return nphdi_block_reader_take(&from->reader, NULL,
                                       from->reader.covered - from->reader.offset, err);
    }
    if (from->reader.covered > from->reader.offset) {
        const uint64_t rest = from->reader.covered - from->reader.offset;
        const size_t room = rest < sizeof(mark) ? (size_t)rest : sizeof(mark);
        TRY(nphdi_block_reader_take(&from->reader, mark, room, err));
        if (nphdi_trailer_begins(mark, room)) {
            status = nphdi_fail(err, NPHD_CORRUPT,
                                "%s: the file has a trailer but its end is missing or damaged",
                                from->name);
        }
    }
done:
    return status;
}

static nphd_status publish_all(nphdi_content *content, uint64_t live, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t slots = atomic_load(&content->slots);

    TRY(nphdi_content_reserve_map(content, live, err));
    for (uint64_t slot = 0; slot < slots; slot++) {
        if (nphdi_content_is_stored(content, (uint32_t)slot)) {
            nphdi_content_publish(content, (uint32_t)slot);
        }
    }
done:
    return status;
}

nphd_status nphdi_content_read(const nphdi_source *source, const nphdi_usearch_head *head,
                               const nphdi_trailer *trailer, const nphdi_shape *shape,
                               const nphd_open_options *options, const nphd_allocator *allocator,
                               nphdi_content **out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    load from;
    uint64_t live = 0;

    *out = NULL;
    memset(&from, 0, sizeof(from));
    from.name = source->name;
    from.head = head;
    from.options = options;
    TRY(nphdi_content_create(shape, false, allocator, &from.content, err));
    TRY(nphdi_block_reader_begin(&from.reader, source, trailer, allocator, err));
    TRY(load_rows(&from, err));
    TRY(load_levels(&from, source->bytes, err));
    TRY(load_nodes(&from, &live, err));
    TRY(load_end(&from, trailer, live, err));
    TRY(publish_all(from.content, live, err));
    from.content->next_automatic = trailer != NULL ? trailer->next_automatic_key : head->slots;
    *out = from.content;
    from.content = NULL;
done:
    nphdi_free(allocator, from.list, from.list_bytes, 1);
    nphdi_block_reader_end(&from.reader);
    nphdi_content_close(from.content);
    return status;
}

/* ---- opening ---- */

/* What becomes of a source once its headers are read. */
typedef struct opening {
    nphdi_usearch_head head;
    nphdi_trailer trailer;
    bool has_trailer;
    nphdi_shape shape;
} opening;

static nphd_status open_headers(const nphd_index *index, const nphdi_source *source,
                                const nphd_open_options *options, opening *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(nphdi_source_headers(source, &out->head, &out->trailer, &out->has_trailer, err));
    TRY(nphdi_usearch_check_supported(source->name, &out->head, err));
    if (options->legacy_nphd && out->head.metric_code == NPHDI_METRIC_CODE_NPHD) {
        return nphdi_fail(err, NPHD_MISMATCH,
                          "%s: the file has the NPHD metric, but legacy_nphd is for files that say "
                          "Hamming",
                          source->name);
    }
    if (options->legacy_nphd && out->head.row_bytes < 2) {
        return nphdi_fail(err, NPHD_MISMATCH, "%s: rows of 1 byte cannot be NPHD rows",
                          source->name);
    }
    if (!options->legacy_nphd && out->head.row_bytes > NPHD_MAX_BYTES &&
        out->head.metric_code == NPHDI_METRIC_CODE_HAMMING) {
        return nphdi_fail(err, NPHD_UNSUPPORTED, "%s: vectors of %llu bits; at most %u",
                          source->name, (unsigned long long)out->head.dimensions, NPHD_MAX_BITS);
    }
    out->shape = nphdi_shape_of_head(&out->head, options->legacy_nphd);
    TRY(check_expected(source->name, &out->shape, out->head.slots == 0, options, err));
    if (out->head.slots == 0) {
        /* an empty file has no connectivity to adopt, so that of the opener stays */
        out->shape.connectivity =
            options->connectivity != 0 ? options->connectivity : index->content->shape.connectivity;
        out->shape.connectivity_base = 2 * out->shape.connectivity;
    }
done:
    return status;
}

static nphd_status open_view(const nphd_index *index, const nphdi_source *source,
                             const opening *from, const nphd_open_options *options,
                             nphdi_content **out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_content *content = NULL;

    if (options->verify && from->has_trailer) {
        TRY(nphdi_source_verify(source, &from->trailer, index->allocator, err));
    }
    TRY(nphdi_content_create(&from->shape, true, index->allocator, &content, err));
    TRY(nphdi_mapped_open(&content->mapped, source, &from->head, &from->trailer, from->has_trailer,
                          index->allocator, err));
    if (options->verify) {
        TRY(nphdi_mapped_check(&content->mapped, err));
    }
    content->next_automatic =
        from->has_trailer ? from->trailer.next_automatic_key : from->head.slots;
    *out = content;
    content = NULL;
done:
    nphdi_content_close(content);
    return status;
}

static uint32_t first_breadth(uint32_t asked, uint32_t stored, uint32_t now)
{
    if (asked != 0) {
        return asked;
    }
    return stored != 0 && stored <= NPHDI_MAX_BREADTH ? stored : now;
}

static nphd_status open_source(nphd_index *index, const nphdi_source *source, bool view,
                               const nphd_open_options *options, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    opening from;
    nphdi_content *content = NULL;

    memset(&from, 0, sizeof(from));
    TRY(open_headers(index, source, options, &from, err));
    TRY(view ? open_view(index, source, &from, options, &content, err)
             : nphdi_content_read(source, &from.head, from.has_trailer ? &from.trailer : NULL,
                                  &from.shape, options, index->allocator, &content, err));
    TRY(nphdi_unit_read(source, from.has_trailer ? &from.trailer : NULL, content, err));
    nphdi_index_replace(index, content);
    content = NULL;
    index->generation = from.has_trailer ? from.trailer.generation : 0;
    memset(index->identity, 0, sizeof(index->identity));
    if (from.has_trailer) {
        memcpy(index->identity, from.trailer.identity, sizeof(index->identity));
    }
    atomic_store(&index->build_breadth,
                 first_breadth(options->build_breadth, from.trailer.build_breadth,
                               atomic_load(&index->build_breadth)));
    atomic_store(&index->search_breadth,
                 first_breadth(options->search_breadth, from.trailer.search_breadth,
                               atomic_load(&index->search_breadth)));
done:
    nphdi_content_close(content);
    return status;
}

static nphd_status open_file(nphd_index *index, const char *path, bool view,
                             const nphd_open_options *options, nphdi_home *home, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_source source;

    memset(&source, 0, sizeof(source));
    if (!index->is_shard) {
        TRY(nphdi_home_begin(index->io, index->allocator, path, home, err));
        /* before it is opened: what is put there later counts as another file */
        TRY(nphdi_home_look(index->io, home, err));
    }
    TRY(nphdi_source_open(&source, index->io, path, err));
    TRY(index->is_shard ? NPHD_OK : nphdi_home_of_source(home, &source, err));
    TRY(open_source(index, &source, view, options, err));
done:
    nphdi_source_close(&source);
    return status;
}

static nphd_status open_locked(nphd_index *index, const char *path, const void *buffer,
                               size_t bytes, bool view, const nphd_open_options *options,
                               nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_open_options known = NPHD_OPEN_OPTIONS_INIT;
    nphdi_source source;
    nphdi_home home;

    nphdi_error_clear(err);
    memset(&home, 0, sizeof(home));
    NPHDI_INDEX_ENTER(index, err);
    TRY(nphdi_options_read(options, sizeof(known), &known, "open options", err));
    if (known.build_breadth > NPHDI_MAX_BREADTH || known.search_breadth > NPHDI_MAX_BREADTH) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "a breadth must be 1 to %u",
                          NPHDI_MAX_BREADTH);
    }
    if (known.connectivity != 0 &&
        (known.connectivity < 2 || known.connectivity > NPHDI_MAX_OPTION_CONNECTIVITY)) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "connectivity is %u; it must be 2 to %u",
                          known.connectivity, NPHDI_MAX_OPTION_CONNECTIVITY);
    }
    nphdi_rwlock_write(&index->change_lock);
    nphdi_rwlock_write(&index->content_lock);
    if (path != NULL) {
        status = open_file(index, path, view, &known, &home, err);
    } else {
        nphdi_source_of_memory(&source, buffer, bytes);
        status = open_source(index, &source, view, &known, err);
    }
    if (status == NPHD_OK) {
        nphdi_home_move(index->allocator, &index->home, &home);
    }
    nphdi_home_release(index->allocator, &home);
    nphdi_rwlock_write_end(&index->content_lock);
    nphdi_rwlock_write_end(&index->change_lock);
done:
    return status;
}

nphd_status nphdi_check_path(const char *path, nphd_error *err)
{
    if (path == NULL || path[0] == '\0') {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "the path is empty");
    }
    return NPHD_OK;
}

static nphd_status check_buffer(const void *buffer, nphd_error *err)
{
    if (buffer == NULL) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "the buffer is NULL");
    }
    return NPHD_OK;
}

nphd_status nphd_index_load(nphd_index *index, const char *path, const nphd_open_options *options,
                            nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(nphdi_check_path(path, err));
    TRY(open_locked(index, path, NULL, 0, false, options, err));
done:
    return status;
}

nphd_status nphd_index_load_buffer(nphd_index *index, const void *buffer, size_t bytes,
                                   const nphd_open_options *options, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(check_buffer(buffer, err));
    TRY(open_locked(index, NULL, buffer, bytes, false, options, err));
done:
    return status;
}

nphd_status nphd_index_view(nphd_index *index, const char *path, const nphd_open_options *options,
                            nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(nphdi_check_path(path, err));
    TRY(open_locked(index, path, NULL, 0, true, options, err));
done:
    return status;
}

nphd_status nphd_index_view_buffer(nphd_index *index, const void *buffer, size_t bytes,
                                   const nphd_open_options *options, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(check_buffer(buffer, err));
    TRY(open_locked(index, NULL, buffer, bytes, true, options, err));
done:
    return status;
}
