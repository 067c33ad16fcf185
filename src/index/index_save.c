/* Writing an index: the file of the reference, then our trailer.
 *
 * Bytes go out in order through a buffer of whole blocks, whose checksums are collected on the way.
 * The caller keeps the content from changing. Slots that are not live are written with the free
 * key; everything else of them is kept, so that loading and saving reproduces a file. */
#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "index/index_internal.h"
#include "platform/interrupt.h"

#include <string.h>

/* 16 blocks a write: large enough that the calls do not show (bench_index, save). */
#define SINK_BYTES (16 * NPHDI_TRAILER_BLOCK_BYTES)

#define LEVELS_AT_ONCE 1024

/* Where the bytes go: a file being written, or memory, or nowhere but the count. */
typedef struct sink {
    nphdi_replacement *file;
    uint8_t *memory;
    const nphd_allocator *allocator;
    uint8_t *buffer;
    uint64_t filled;
    uint64_t offset; /* of the start of the buffer */
    uint8_t *checksums;
    uint64_t checksum_bytes;
    uint64_t block_count;
    uint64_t total; /* expected bytes */
    const nphd_batch_options *options;
} sink;

static nphd_status sink_flush(sink *to, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    for (uint64_t at = 0; at < to->filled; at += NPHDI_TRAILER_BLOCK_BYTES) {
        const uint64_t rest = to->filled - at;
        const uint64_t bytes = rest < NPHDI_TRAILER_BLOCK_BYTES ? rest : NPHDI_TRAILER_BLOCK_BYTES;
        if (8 * (to->block_count + 1) <= to->checksum_bytes) {
            nphdi_put64(to->checksums + 8 * to->block_count,
                        nphdi_hash_bytes(to->buffer + at, (size_t)bytes));
        }
        to->block_count++;
    }
    if (to->file != NULL) {
        TRY(nphdi_replacement_write(to->file, to->buffer, (size_t)to->filled, err));
    } else {
        memcpy(to->memory + to->offset, to->buffer, (size_t)to->filled);
    }
    to->offset += to->filled;
    to->filled = 0;
    if (to->options->progress != NULL &&
        to->options->progress(to->options->progress_context, to->offset, to->total) != 0) {
        status = nphdi_fail(err, NPHD_CANCELLED, "save: cancelled by the progress callback");
    }
done:
    return status;
}

static nphd_status sink_put(sink *to, const void *data, uint64_t bytes, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint8_t *from = data;

    while (bytes > 0) {
        const uint64_t room = SINK_BYTES - to->filled;
        const uint64_t part = bytes < room ? bytes : room;
        memcpy(to->buffer + to->filled, from, (size_t)part);
        to->filled += part;
        from += part;
        bytes -= part;
        if (to->filled == SINK_BYTES) {
            TRY(sink_flush(to, err));
        }
    }
done:
    return status;
}

/* ---- the file of the reference ---- */

static uint64_t nodes_bytes(const nphdi_content *content)
{
    const nphdi_shape *shape = &content->shape;
    const nphdi_node_shape node = {shape->key_bytes, shape->key_bytes == 8 ? 4 : 5,
                                   shape->connectivity, shape->connectivity_base};

    if (content->view) {
        return content->mapped.nodes_bytes;
    }
    return nphdi_content_slots(content) * nphdi_node_base_bytes(&node) +
           content->graph.upper_count * nphdi_list_upper_bytes(&node);
}

static void fill_head(const nphdi_content *content, uint64_t live, nphdi_usearch_head *head)
{
    const nphdi_graph_reader reader = nphdi_content_reader(content);

    memset(head, 0, sizeof(*head));
    head->metric_code = content->shape.metric == NPHD_METRIC_NPHD ? NPHDI_METRIC_CODE_NPHD
                                                                  : NPHDI_METRIC_CODE_HAMMING;
    head->multi = content->shape.multi;
    head->slots = nphdi_content_slots(content);
    head->present = live;
    head->deleted = head->slots - live;
    head->dimensions = 8 * content->row_bytes;
    head->row_bytes = content->row_bytes;
    head->node.key_bytes = content->shape.key_bytes;
    head->node.slot_bytes = content->shape.key_bytes == 8 ? 4 : 5;
    head->node.connectivity = content->shape.connectivity;
    head->node.connectivity_base = content->shape.connectivity_base;
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
static nphd_status put_node(sink *to, const nphdi_content *content, uint32_t slot,
                            const nphdi_node_shape *shape, uint8_t *buffer, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint32_t level = nphdi_graph_level(&content->graph, slot);
    nphd_key key = nphdi_free_key(shape->key_bytes);
    uint8_t *end;

    if (nphdi_content_is_live(content, slot)) {
        (void)nphdi_content_key(content, slot, &key);
    }
    nphdi_usearch_put_key(buffer, shape->key_bytes, key);
    nphdi_put16(buffer + shape->key_bytes, (uint16_t)level);
    end = encode_list(&content->graph, slot, 0, shape->slot_bytes, buffer + shape->key_bytes + 2);
    TRY(sink_put(to, buffer, (uint64_t)(end - buffer), err));
    for (uint32_t upper = 1; upper <= level; upper++) {
        end = encode_list(&content->graph, slot, upper, shape->slot_bytes, buffer);
        TRY(sink_put(to, buffer, (uint64_t)(end - buffer), err));
    }
done:
    return status;
}

static nphd_status put_memory_graph(sink *to, const nphdi_content *content,
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
        TRY(sink_put(to, levels, 2 * count, err));
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
static nphd_status check_view(const nphdi_content *content, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_mapped *mapped = &content->mapped;
    nphdi_source source;

    nphdi_source_of_memory(&source, mapped->base, mapped->bytes);
    source.name = nphdi_content_name(content);
    if (mapped->has_trailer) {
        TRY(nphdi_source_verify(&source, &mapped->trailer, content->allocator, err));
    }
    TRY(nphdi_mapped_check(mapped, err));
done:
    return status;
}

static nphd_status put_mapped_graph(sink *to, const nphdi_content *content, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_mapped *mapped = &content->mapped;

    TRY(sink_put(to, mapped->levels, 2 * mapped->head.slots, err));
    TRY(sink_put(to, mapped->nodes, mapped->nodes_bytes, err));
done:
    return status;
}

/* ---- the sections of the trailer ---- */

static nphd_status put_key_table(sink *to, const nphdi_content *content, uint64_t live,
                                 nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t room = nphdi_key_table_room(live);
    const uint64_t slots = nphdi_content_slots(content);
    uint8_t *table = NULL;
    nphd_key key;

    TRY(nphdi_alloc(content->allocator, room, 4, &table, err));
    if (room > 0) {
        memset(table, 0xFF, (size_t)room * 4);
    }
    for (uint64_t slot = 0; slot < slots; slot++) {
        if (!nphdi_content_is_live(content, (uint32_t)slot)) {
            continue;
        }
        if (live-- == 0 || !nphdi_content_key(content, (uint32_t)slot, &key)) {
            status = nphdi_mapped_broken(&content->mapped, slot, err);
            goto done;
        }
        uint64_t place = nphdi_hash_to_range(nphdi_hash_key(key, content->shape.key_bytes), room);
        while (nphdi_get32(table + 4 * place) != NPHDI_TABLE_FREE) {
            place = place + 1 == room ? 0 : place + 1;
        }
        nphdi_put32(table + 4 * place, (uint32_t)slot);
    }
    TRY(sink_put(to, table, room * 4, err));
done:
    nphdi_free(content->allocator, table, room, 4);
    return status;
}

static nphd_status put_directory(sink *to, const nphdi_content *content, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t slots = nphdi_content_slots(content);
    uint8_t levels[2 * NPHDI_DIRECTORY_SLOTS];
    uint8_t record[NPHDI_DIRECTORY_RECORD_BYTES];
    uint64_t sum = 0;
    bool negative = false;

    for (uint64_t first = 0; first < slots; first += NPHDI_DIRECTORY_SLOTS) {
        const uint64_t rest = slots - first;
        const uint64_t count = rest < NPHDI_DIRECTORY_SLOTS ? rest : NPHDI_DIRECTORY_SLOTS;
        for (uint64_t i = 0; i < count; i++) {
            const uint32_t slot = (uint32_t)(first + i);
            nphdi_put16(levels + 2 * i, content->view
                                            ? nphdi_get16(content->mapped.levels + 2 * (first + i))
                                            : (uint16_t)nphdi_graph_level(&content->graph, slot));
        }
        sum += nphdi_directory_encode(levels, count, sum, record, &negative);
        TRY(sink_put(to, record, sizeof(record), err));
    }
done:
    return status;
}

static nphd_status put_live(sink *to, const nphdi_content *content, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t slots = nphdi_content_slots(content);

    for (uint64_t first = 0; first < slots; first += 64) {
        uint8_t word[8] = {0};
        for (uint64_t slot = first; slot < slots && slot < first + 64; slot++) {
            if (nphdi_content_is_live(content, (uint32_t)slot)) {
                word[(slot - first) / 8] |= (uint8_t)(1U << (slot % 8));
            }
        }
        TRY(sink_put(to, word, sizeof(word), err));
    }
done:
    return status;
}

/* Lays the sections out behind the mark; everything is known before the first byte is written. */
static void plan_trailer(const nphdi_content *content, uint64_t live, nphdi_trailer *trailer)
{
    const uint64_t slots = nphdi_content_slots(content);
    const uint64_t sizes[3] = {4 * nphdi_key_table_room(live), nphdi_directory_bytes(slots),
                               (slots + 63) / 64 * 8};
    static const uint32_t ids[3] = {NPHDI_SECTION_KEY_TABLE, NPHDI_SECTION_NODE_DIRECTORY,
                                    NPHDI_SECTION_LIVE};
    uint64_t offset;

    trailer->foreign_bytes = NPHDI_USEARCH_MATRIX_BYTES + slots * content->row_bytes +
                             NPHDI_USEARCH_HEAD_BYTES + 2 * slots + nodes_bytes(content);
    trailer->live = live;
    offset = trailer->foreign_bytes + NPHDI_TRAILER_MARK_BYTES;
    trailer->section_count = 4;
    for (uint32_t i = 0; i < 3; i++) {
        trailer->sections[i].id = ids[i];
        trailer->sections[i].offset = offset;
        trailer->sections[i].bytes = sizes[i];
        offset += sizes[i];
    }
    trailer->sections[3].id = NPHDI_SECTION_CHECKSUMS;
    trailer->sections[3].offset = offset;
    trailer->sections[3].bytes = 8 * nphdi_trailer_blocks(offset);
}

static uint64_t trailer_end(const nphdi_trailer *trailer)
{
    return trailer->sections[3].offset + trailer->sections[3].bytes +
           NPHDI_TRAILER_DIRECTORY_HEAD_BYTES +
           (uint64_t)trailer->section_count * NPHDI_TRAILER_SECTION_BYTES +
           NPHDI_TRAILER_FOOTER_BYTES;
}

uint64_t nphdi_index_serialized_bytes(const nphdi_content *content, uint64_t live)
{
    nphdi_trailer trailer;

    memset(&trailer, 0, sizeof(trailer));
    plan_trailer(content, live, &trailer);
    return trailer_end(&trailer);
}

/* ---- the whole ---- */

static nphd_status put_foreign(sink *to, const nphdi_content *content, uint64_t live,
                               nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_rows rows = nphdi_content_rows(content);
    nphdi_usearch_head head;
    uint8_t matrix[NPHDI_USEARCH_MATRIX_BYTES];
    uint8_t head_bytes[NPHDI_USEARCH_HEAD_BYTES];

    if (content->view) {
        TRY(check_view(content, err));
    }
    fill_head(content, live, &head);
    nphdi_usearch_encode_matrix(&head, matrix);
    nphdi_usearch_encode_head(&head, head_bytes);
    TRY(sink_put(to, matrix, sizeof(matrix), err));
    TRY(sink_put(to, rows.base, head.slots * head.row_bytes, err));
    TRY(sink_put(to, head_bytes, sizeof(head_bytes), err));
    TRY(content->view ? put_mapped_graph(to, content, err)
                      : put_memory_graph(to, content, &head, err));
done:
    return status;
}

static nphd_status put_trailer(sink *to, const nphdi_content *content, nphdi_trailer *trailer,
                               nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint8_t mark[NPHDI_TRAILER_MARK_BYTES];
    uint8_t end[NPHDI_TRAILER_MAX_DIRECTORY_BYTES + NPHDI_TRAILER_FOOTER_BYTES];
    size_t end_bytes;

    nphdi_trailer_encode_mark(mark);
    TRY(sink_put(to, mark, sizeof(mark), err));
    TRY(put_key_table(to, content, trailer->live, err));
    TRY(put_directory(to, content, err));
    TRY(put_live(to, content, err));
    /* a short last block ends here; what follows is covered by the directory and the footer */
    TRY(sink_flush(to, err));
    trailer->sections[3].checksum =
        nphdi_hash_bytes(to->checksums, (size_t)trailer->sections[3].bytes);
    TRY(sink_put(to, to->checksums, trailer->sections[3].bytes, err));
    end_bytes = nphdi_trailer_encode_end(trailer, end);
    TRY(sink_put(to, end, end_bytes, err));
    TRY(sink_flush(to, err));
done:
    return status;
}

static nphd_status write_content(sink *to, const nphdi_content *content, nphdi_trailer *trailer,
                                 nphd_error *err)
{
    nphd_status status = NPHD_OK;

    to->allocator = content->allocator;
    to->checksum_bytes = trailer->sections[3].bytes;
    TRY(nphdi_alloc(to->allocator, SINK_BYTES, 1, &to->buffer, err));
    TRY(nphdi_alloc(to->allocator, to->checksum_bytes, 1, &to->checksums, err));
    TRY(put_foreign(to, content, trailer->live, err));
    TRY(put_trailer(to, content, trailer, err));
done:
    nphdi_free(to->allocator, to->buffer, SINK_BYTES, 1);
    nphdi_free(to->allocator, to->checksums, to->checksum_bytes, 1);
    return status;
}

static nphd_status prepare_trailer(nphd_index *index, nphdi_trailer *trailer, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t live = 0;

    memset(trailer, 0, sizeof(*trailer));
    TRY(nphdi_content_size(index->content, &live, err));
    plan_trailer(index->content, live, trailer);
    memcpy(trailer->identity, index->identity, sizeof(trailer->identity));
    trailer->generation = index->generation;
    trailer->next_automatic_key = index->content->next_automatic;
    trailer->build_breadth = atomic_load(&index->build_breadth);
    trailer->search_breadth = atomic_load(&index->search_breadth);
done:
    return status;
}

static nphd_status ensure_identity(nphd_index *index, uint8_t identity[16], nphd_error *err)
{
    static const uint8_t none[16] = {0};
    int failed = 0;

    memcpy(identity, index->identity, 16);
    if (memcmp(identity, none, sizeof(none)) == 0) {
        NPHDI_REPEAT_INTERRUPTED(failed, index->io->random(index->io->context, identity, 16));
    }
    return failed == 0 ? NPHD_OK : nphdi_fail_os(err, failed, "save: random identity");
}

static nphd_status save_file(nphd_index *index, const char *path, const nphd_batch_options *options,
                             nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_replacement file;
    nphdi_trailer trailer;
    sink to;

    memset(&file, 0, sizeof(file));
    memset(&to, 0, sizeof(to));
    TRY(prepare_trailer(index, &trailer, err));
    TRY(ensure_identity(index, trailer.identity, err));
    trailer.generation++;
    to.total = trailer_end(&trailer);
    to.options = options;
    to.file = &file;
    TRY(nphdi_replacement_begin(&file, index->io, index->allocator, path, to.total, err));
    TRY(write_content(&to, index->content, &trailer, err));
    status = nphdi_replacement_commit(&file, err);
    if (status == NPHD_OK || status == NPHD_DURABILITY_UNKNOWN) {
        memcpy(index->identity, trailer.identity, sizeof(index->identity));
        index->generation = trailer.generation;
    }
    if (status == NPHD_OK) {
        atomic_store(&index->dirty, 0);
    }
done:
    nphdi_replacement_end(&file);
    return status;
}

nphd_status nphd_index_save(nphd_index *index, const char *path, const nphd_batch_options *options,
                            nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_batch_options known = NPHD_BATCH_OPTIONS_INIT;

    nphdi_error_clear(err);
    if (path == NULL || path[0] == '\0') {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "save: the path is empty");
    }
    TRY(nphdi_options_read(options, sizeof(known), &known, "batch options", err));
    nphdi_rwlock_write(&index->change_lock);
    nphdi_rwlock_read(&index->content_lock);
    status = save_file(index, path, &known, err);
    nphdi_rwlock_read_end(&index->content_lock);
    nphdi_rwlock_write_end(&index->change_lock);
done:
    return status;
}

nphd_status nphd_index_save_buffer(nphd_index *index, void *buffer, size_t capacity,
                                   size_t *out_bytes, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_batch_options options = NPHD_BATCH_OPTIONS_INIT;
    nphdi_trailer trailer;
    sink to;

    nphdi_error_clear(err);
    *out_bytes = 0;
    memset(&to, 0, sizeof(to));
    to.options = &options;
    to.memory = buffer;
    nphdi_rwlock_write(&index->change_lock);
    nphdi_rwlock_read(&index->content_lock);
    TRY(prepare_trailer(index, &trailer, err));
    to.total = trailer_end(&trailer);
    if (to.total > capacity || buffer == NULL) {
        *out_bytes = (size_t)to.total;
        status = buffer == NULL && capacity == 0
                     ? NPHD_OK
                     : nphdi_fail(err, NPHD_TOO_SMALL, "save: %llu bytes, room for %zu",
                                  (unsigned long long)to.total, capacity);
        goto done;
    }
    TRY(write_content(&to, index->content, &trailer, err));
    *out_bytes = (size_t)to.total;
done:
    nphdi_rwlock_read_end(&index->content_lock);
    nphdi_rwlock_write_end(&index->change_lock);
    return status;
}
