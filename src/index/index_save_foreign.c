/* Writing the file of the reference, which is the first part of ours.
 *
 * Slots that hold nothing are written with the free key; everything else of them is kept, so that
 * loading and saving reproduces a file. Hidden entries are written like all others. */
#include "index/index_save_foreign.h"

#include "base/bytes.h"
#include "base/error.h"
#include "index/index_internal.h"
#include "index/index_shard.h"

#include <string.h>

#define LEVELS_AT_ONCE 1024

static nphdi_node_shape node_shape(const nphdi_content *content)
{
    const nphdi_shape *shape = &content->shape;
    const nphdi_node_shape node = {shape->key_bytes, shape->key_bytes == 8 ? 4 : 5,
                                   shape->connectivity, shape->connectivity_base};

    return node;
}

uint64_t nphdi_save_foreign_bytes(const nphdi_content *content)
{
    const nphdi_node_shape node = node_shape(content);
    const uint64_t slots = nphdi_content_slots(content);
    const uint64_t nodes = content->view
                               ? content->mapped.nodes_bytes
                               : slots * nphdi_node_base_bytes(&node) +
                                     content->graph.upper_count * nphdi_list_upper_bytes(&node);

    return NPHDI_USEARCH_MATRIX_BYTES + slots * content->row_bytes + NPHDI_USEARCH_HEAD_BYTES +
           2 * slots + nodes;
}

static void fill_head(const nphdi_content *content, uint64_t stored, nphdi_usearch_head *head)
{
    const nphdi_graph_reader reader = nphdi_content_reader(content);

    memset(head, 0, sizeof(*head));
    head->metric_code = content->shape.metric == NPHD_METRIC_NPHD ? NPHDI_METRIC_CODE_NPHD
                                                                  : NPHDI_METRIC_CODE_HAMMING;
    head->multi = content->shape.multi;
    head->slots = nphdi_content_slots(content);
    head->present = stored;
    head->deleted = head->slots - stored;
    head->dimensions = 8 * content->row_bytes;
    head->row_bytes = content->row_bytes;
    head->node = node_shape(content);
    head->max_level = reader.max_level;
    head->entry = reader.max_level < 0 ? 0 : reader.entry;
    if (reader.max_level < 0 && head->slots > 0) {
        /* adds were given up before they linked anything: a file with slots has an entry */
        head->max_level = (int32_t)nphdi_graph_level(&content->graph, 0);
    }
}

static uint8_t *encode_list(const nphdi_graph *graph, uint32_t slot, uint32_t level,
                            uint32_t slot_bytes, uint8_t *out)
{
    const uint32_t room = nphdi_graph_room(graph, level);
    const uint32_t *list = nphdi_graph_list_words(graph, slot, level);

    nphdi_put32(out, nphdi_list_count(list[0]));
    out += 4;
    if (slot_bytes == 4) {
        for (uint32_t i = 0; i < room; i++) {
            nphdi_put32(out + 4 * (size_t)i, list[1 + i]);
        }
    } else {
        for (uint32_t i = 0; i < room; i++) {
            nphdi_put40(out + 5 * (size_t)i, list[1 + i]);
        }
    }
    return out + (size_t)room * slot_bytes;
}

/* One node at a time: the base part with the list of level 0, then each higher list. */
static nphd_status put_node(nphdi_block_sink *to, const nphdi_content *content, uint32_t slot,
                            const nphdi_node_shape *shape, uint8_t *buffer, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint32_t level = nphdi_graph_level(&content->graph, slot);
    nphd_key key = nphdi_free_key(shape->key_bytes);
    uint8_t *end;

    if (nphdi_content_is_stored(content, slot)) {
        (void)nphdi_content_key(content, slot, &key);
    }
    nphdi_usearch_put_key(buffer, shape->key_bytes, key);
    nphdi_put16(buffer + shape->key_bytes, (uint16_t)level);
    end = encode_list(&content->graph, slot, 0, shape->slot_bytes, buffer + shape->key_bytes + 2);
    TRY(nphdi_sink_put(to, buffer, (uint64_t)(end - buffer), err));
    for (uint32_t upper = 1; upper <= level; upper++) {
        end = encode_list(&content->graph, slot, upper, shape->slot_bytes, buffer);
        TRY(nphdi_sink_put(to, buffer, (uint64_t)(end - buffer), err));
    }
done:
    return status;
}

static nphd_status put_memory_graph(nphdi_block_sink *to, const nphdi_content *content,
                                    const nphdi_usearch_head *head, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t buffer_bytes = nphdi_node_base_bytes(&head->node);
    uint8_t *buffer = NULL;
    uint8_t levels[2 * LEVELS_AT_ONCE];

    TRY(nphdi_alloc(content->allocator, buffer_bytes, 1, &buffer, err));
    for (uint64_t first = 0; first < head->slots; first += LEVELS_AT_ONCE) {
        const uint64_t rest = head->slots - first;
        const uint64_t count = rest < LEVELS_AT_ONCE ? rest : LEVELS_AT_ONCE;
        for (uint64_t i = 0; i < count; i++) {
            nphdi_put16(levels + 2 * i,
                        (uint16_t)nphdi_graph_level(&content->graph, (uint32_t)(first + i)));
        }
        TRY(nphdi_sink_put(to, levels, 2 * count, err));
    }
    for (uint64_t slot = 0; slot < head->slots; slot++) {
        TRY(put_node(to, content, (uint32_t)slot, &head->node, buffer, err));
    }
done:
    nphdi_free(content->allocator, buffer, buffer_bytes, 1);
    return status;
}

/* A view is written as it is, once it is known to be whole: damage must not be written anew under
 * fresh checksums. Of a reference file only the structure can be known. */
static nphd_status check_view(const nphdi_content *content, const nphdi_watch *watch,
                              nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_mapped *mapped = &content->mapped;
    nphdi_source source;

    nphdi_source_of_memory(&source, mapped->base, mapped->bytes);
    source.name = nphdi_content_name(content);
    if (mapped->has_trailer) {
        TRY(nphdi_source_verify(&source, &mapped->trailer, content->allocator, watch, err));
    }
    TRY(nphdi_mapped_check(mapped, watch, err));
done:
    return status;
}

static nphd_status put_mapped_graph(nphdi_block_sink *to, const nphdi_content *content,
                                    nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_mapped *mapped = &content->mapped;

    TRY(nphdi_sink_put(to, mapped->levels, 2 * mapped->head.slots, err));
    TRY(nphdi_sink_put(to, mapped->nodes, mapped->nodes_bytes, err));
done:
    return status;
}

uint64_t nphdi_index_foreign_bytes(nphd_index *index)
{
    return nphdi_save_foreign_bytes(index->content);
}

uint64_t nphdi_index_foreign_bytes_after(nphd_index *index, uint64_t more)
{
    const nphdi_content *content = index->content;
    const nphdi_node_shape node = node_shape(content);
    const uint64_t slots = nphdi_content_slots(content);
    const uint64_t free_slots = content->view ? 0 : nphdi_content_free_slots(content);
    const uint64_t fresh = more > free_slots ? more - free_slots : 0;
    uint64_t lists = 0;

    for (uint64_t slot = slots; slot < slots + fresh; slot++) {
        lists += nphdi_graph_random_level((uint32_t)slot, content->shape.connectivity);
    }
    return nphdi_save_foreign_bytes(content) + lists * nphdi_list_upper_bytes(&node) +
           fresh * (content->row_bytes + 2 + nphdi_node_base_bytes(&node));
}

nphd_status nphdi_save_put_foreign(nphdi_block_sink *to, const nphdi_content *content,
                                   uint64_t stored, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_rows rows = nphdi_content_rows(content);
    nphdi_usearch_head head;
    uint8_t matrix[NPHDI_USEARCH_MATRIX_BYTES];
    uint8_t head_bytes[NPHDI_USEARCH_HEAD_BYTES];

    if (content->view) {
        const nphdi_watch watch = nphdi_sink_moment(to);
        TRY(check_view(content, &watch, err));
    }
    fill_head(content, stored, &head);
    nphdi_usearch_encode_matrix(&head, matrix);
    nphdi_usearch_encode_head(&head, head_bytes);
    TRY(nphdi_sink_put(to, matrix, sizeof(matrix), err));
    TRY(nphdi_sink_put(to, rows.base, head.slots * head.row_bytes, err));
    TRY(nphdi_sink_put(to, head_bytes, sizeof(head_bytes), err));
    TRY(content->view ? put_mapped_graph(to, content, err)
                      : put_memory_graph(to, content, &head, err));
done:
    return status;
}
