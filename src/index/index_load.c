/* Reading a file into memory, front to back, each block verified before it is used and every bound
 * of the structure checked. A load that fails leaves the index as it was. */
#include "base/bytes.h"
#include "base/error.h"
#include "base/watch.h"
#include "index/index_internal.h"

#include <string.h>

/* Parts of the work, for whom is told how far it is: the map of the keys takes about as long as a
 * ninth of the reading. */
#define READING 9
#define ALL 10

/* ---- levels and nodes ---- */

/* Everything that is in use while one file is read. */
typedef struct load {
    nphdi_block_reader reader;
    const char *name;
    const nphdi_usearch_head *head;
    nphdi_content *content;
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

static nphd_status publish_all(nphdi_content *content, uint64_t live, const nphdi_watch *watch,
                               nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t slots = atomic_load(&content->slots);

    TRY(nphdi_content_reserve_map(content, live, err));
    for (uint64_t slot = 0; slot < slots; slot++) {
        TRY(nphdi_watch_loop(watch, slot, slots, err));
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
    const uint64_t total = head->slots > 0 ? head->slots : 1; /* callers divide by it */
    const nphdi_watch whole = {
        options->progress, options->progress_context, source->name, total, 0, total};
    const nphdi_watch reading = nphdi_watch_stretch(&whole, 0, READING, ALL);
    const nphdi_watch publishing = nphdi_watch_stretch(&whole, READING, ALL, ALL);

    *out = NULL;
    memset(&from, 0, sizeof(from));
    from.name = source->name;
    from.head = head;
    TRY(nphdi_content_create(shape, false, allocator, &from.content, err));
    TRY(nphdi_block_reader_begin(&from.reader, source, trailer, allocator, err));
    from.reader.watch = &reading;
    TRY(load_rows(&from, err));
    TRY(load_levels(&from, source->bytes, err));
    TRY(load_nodes(&from, &live, err));
    TRY(load_end(&from, trailer, live, err));
    TRY(publish_all(from.content, live, &publishing, err));
    from.content->next_automatic = trailer != NULL ? trailer->next_automatic_key : head->slots;
    *out = from.content;
    from.content = NULL;
done:
    nphdi_free(allocator, from.list, from.list_bytes, 1);
    nphdi_block_reader_end(&from.reader);
    nphdi_content_close(from.content);
    return status;
}
