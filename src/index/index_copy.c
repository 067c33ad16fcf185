/* Copies: through the bytes of a file in memory for a view, array by array otherwise. */
#include "base/error.h"
#include "index/index_internal.h"

#include <string.h>

static void copy_region(nphdi_region *to, const nphdi_region *from, uint64_t bytes)
{
    if (bytes > 0) {
        memcpy(to->base, from->base, (size_t)bytes);
    }
}

static nphd_status copy_memory(const nphdi_content *from, nphdi_content *to, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t slots = atomic_load(&from->slots);
    const nphdi_graph *graph = &from->graph;

    TRY(nphdi_content_reserve(to, slots, graph->upper_count, err));
    TRY(nphdi_content_reserve_map(to, atomic_load(&from->live_count), err));
    copy_region(&to->rows, &from->rows, slots * from->row_bytes);
    copy_region(&to->keys, &from->keys, slots * from->shape.key_bytes);
    copy_region(&to->graph.base_lists, &graph->base_lists,
                slots * 4 * (1 + (uint64_t)graph->connectivity_base));
    copy_region(&to->graph.levels, &graph->levels, slots * 2);
    copy_region(&to->graph.upper_index, &graph->upper_index, slots * 4);
    copy_region(&to->graph.upper_lists, &graph->upper_lists,
                graph->upper_count * 4 * (1 + (uint64_t)graph->connectivity));
    copy_region(&to->graph.reused, &graph->reused, (slots + 7) / 8);
    to->graph.upper_count = graph->upper_count;
    atomic_store(&to->graph.top, atomic_load(&graph->top));
    atomic_store(&to->slots, slots);
    to->next_automatic = from->next_automatic;
    to->free_cursor = from->free_cursor;
    for (uint64_t slot = 0; slot < slots; slot++) {
        if (nphdi_content_is_live(from, (uint32_t)slot)) {
            nphd_key key;
            (void)nphdi_content_key(from, (uint32_t)slot, &key);
            (void)nphdi_content_adopt(to, (uint32_t)slot, key);
            nphdi_content_publish(to, (uint32_t)slot);
        }
    }
done:
    return status;
}

/* Hidden entries are no part of a copy. */
static void drop_hidden(const nphdi_hidden *hidden, nphdi_content *content)
{
    const uint64_t slots = nphdi_content_slots(content);

    for (uint64_t slot = 0; hidden != NULL && slot < slots; slot++) {
        if (nphdi_hidden_get(hidden, (uint32_t)slot) &&
            nphdi_content_is_stored(content, (uint32_t)slot)) {
            nphdi_content_withdraw(content, (uint32_t)slot);
        }
    }
}

static nphd_status copy_content(nphd_index *index, nphdi_content **out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_content *from = index->content;
    const nphd_open_options options = NPHD_OPEN_OPTIONS_INIT;
    nphdi_content *content = NULL;
    nphdi_source source;

    if (from->view) {
        nphdi_source_of_memory(&source, from->mapped.base, from->mapped.bytes);
        source.name = nphdi_content_name(from);
        TRY(nphdi_content_read(&source, &from->mapped.head,
                               from->mapped.has_trailer ? &from->mapped.trailer : NULL,
                               &from->shape, &options, index->allocator, &content, err));
        drop_hidden(from->hidden, content);
    } else {
        TRY(nphdi_content_create(&from->shape, false, index->allocator, &content, err));
        TRY(copy_memory(from, content, err));
    }
    atomic_store(&content->unit, atomic_load(&from->unit));
    *out = content;
    content = NULL;
done:
    nphdi_content_close(content);
    return status;
}

nphd_status nphd_index_copy(nphd_index *index, nphd_index **out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *copy = NULL;
    nphdi_content *content = NULL;

    nphdi_error_clear(err);
    if (out == NULL) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "out is NULL");
    }
    *out = NULL;
    NPHDI_INDEX_ENTER(index, err);
    options.allocator = index->allocator;
    options.io = index->io;
    options.build_breadth = atomic_load(&index->build_breadth);
    options.search_breadth = atomic_load(&index->search_breadth);
    TRY(nphdi_index_create(&options, true, &copy, err));
    nphdi_rwlock_write(&index->change_lock);
    nphdi_rwlock_read(&index->content_lock);
    status = copy_content(index, &content, err);
    nphdi_rwlock_read_end(&index->content_lock);
    nphdi_rwlock_write_end(&index->change_lock);
    if (status == NPHD_OK) {
        nphdi_index_replace(copy, content);
        *out = copy;
        copy = NULL;
    }
done:
    nphd_index_close(copy);
    return status;
}
