/* Writing an index: the file of the reference, then our trailer.
 *
 * The caller keeps the content from changing. Slots that hold nothing are written with the free
 * key; everything else of them is kept, so that loading and saving reproduces a file. Hidden
 * entries are written like all others. */
#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "index/block_sink.h"
#include "index/index_internal.h"
#include "index/index_shard.h"
#include "index/index_unit.h"
#include "platform/interrupt.h"
#include "scan/planes_image.h"

#include <string.h>

#define LEVELS_AT_ONCE 1024

/* ---- the file of the reference ---- */

static nphdi_node_shape node_shape(const nphdi_content *content)
{
    const nphdi_shape *shape = &content->shape;
    const nphdi_node_shape node = {shape->key_bytes, shape->key_bytes == 8 ? 4 : 5,
                                   shape->connectivity, shape->connectivity_base};

    return node;
}

static uint64_t foreign_bytes(const nphdi_content *content)
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

/* ---- the sections of the trailer ---- */

static nphd_status put_key_table(nphdi_block_sink *to, const nphdi_content *content,
                                 uint64_t stored, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t room = nphdi_slot_table_room(stored);
    const uint64_t slots = nphdi_content_slots(content);
    const uint32_t slot_bits = nphdi_slot_table_bits(slots);
    uint8_t *table = NULL;
    nphdi_slot_table_filler filler;
    nphd_key key;

    TRY(nphdi_alloc(content->allocator, room, 4, &table, err));
    nphdi_slot_table_fill_begin(&filler, table, room, slot_bits);
    for (uint64_t slot = 0; slot < slots; slot++) {
        if (!nphdi_content_is_stored(content, (uint32_t)slot)) {
            continue;
        }
        if (stored-- == 0 || !nphdi_content_key(content, (uint32_t)slot, &key)) {
            status = nphdi_mapped_broken(&content->mapped, slot, err);
            goto done;
        }
        nphdi_slot_table_put(&filler, nphdi_hash_key(key, content->shape.key_bytes),
                             (uint32_t)slot);
    }
    nphdi_slot_table_fill_end(&filler);
    TRY(nphdi_sink_put(to, table, room * 4, err));
done:
    nphdi_free(content->allocator, table, room, 4);
    return status;
}

static nphd_status put_directory(nphdi_block_sink *to, const nphdi_content *content,
                                 nphd_error *err)
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
        TRY(nphdi_sink_put(to, record, sizeof(record), err));
    }
done:
    return status;
}

static nphd_status put_live(nphdi_block_sink *to, const nphdi_content *content, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t slots = nphdi_content_slots(content);

    for (uint64_t first = 0; first < slots; first += 64) {
        uint8_t word[8] = {0};
        for (uint64_t slot = first; slot < slots && slot < first + 64; slot++) {
            if (nphdi_content_is_stored(content, (uint32_t)slot)) {
                word[(slot - first) / 8] |= (uint8_t)(1U << (slot % 8));
            }
        }
        TRY(nphdi_sink_put(to, word, sizeof(word), err));
    }
done:
    return status;
}

uint64_t nphdi_index_foreign_bytes(nphd_index *index)
{
    return foreign_bytes(index->content);
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
    return foreign_bytes(content) + lists * nphdi_list_upper_bytes(&node) +
           fresh * (content->row_bytes + 2 + nphdi_node_base_bytes(&node));
}

static nphd_status put_to_sink(void *context, const void *data, uint64_t bytes, nphd_error *err)
{
    return nphdi_sink_put(context, data, bytes, err);
}

static nphd_status put_planes(nphdi_block_sink *to, const nphdi_content *content,
                              const nphdi_trailer *trailer, nphd_error *err)
{
    const nphdi_trailer_section *section = nphdi_trailer_find(trailer, NPHDI_SECTION_PLANES);
    const nphdi_rows rows = nphdi_content_rows(content);

    return section == NULL ? NPHD_OK
                           : nphdi_image_write(&rows, nphdi_content_slots(content), section->offset,
                                               content->allocator, put_to_sink, to, err);
}

static void describe_planes(const nphdi_content *content, nphdi_trailer *trailer)
{
    const uint64_t slots = nphdi_content_slots(content);
    const nphdi_rows rows = nphdi_content_rows(content);
    nphdi_trailer_section *section = &trailer->sections[trailer->section_count];
    uint64_t offset = trailer->foreign_bytes + NPHDI_TRAILER_MARK_BYTES;

    if (slots < NPHDI_PLANES_LEAST_SLOTS) {
        return;
    }
    for (uint32_t i = 0; i < trailer->section_count; i++) {
        offset += trailer->sections[i].bytes;
    }
    const nphdi_image_counts counts = nphdi_image_count(&rows, slots);
    section->id = NPHDI_SECTION_PLANES;
    section->bytes = nphdi_image_bytes(&counts, offset);
    trailer->section_count++;
}

static nphd_status put_mih(nphdi_block_sink *to, const nphdi_content *content,
                           const nphdi_trailer *trailer, nphd_error *err)
{
    nphdi_mih_view view;

    if (nphdi_trailer_find(trailer, NPHDI_SECTION_MIH) == NULL) {
        return NPHD_OK;
    }
    (void)nphdi_content_mih_look(content, &view);
    return nphdi_sink_put(to, view.mih->block, view.mih->bytes, err);
}

/* Tables that are there go with the file. */
static void describe_mih(const nphdi_content *content, nphdi_trailer *trailer)
{
    nphdi_trailer_section *section = &trailer->sections[trailer->section_count];
    nphdi_mih_view view;

    if (nphdi_content_mih_is_whole(content)) {
        (void)nphdi_content_mih_look(content, &view);
        section->id = NPHDI_SECTION_MIH;
        section->bytes = view.mih->bytes;
        trailer->section_count++;
    }
}

/* Names our sections and their sizes; everything is known before the first byte is written. */
static void describe(const nphdi_content *content, uint64_t stored, nphdi_trailer *trailer)
{
    const uint64_t slots = nphdi_content_slots(content);
    const uint64_t sizes[3] = {4 * nphdi_slot_table_room(stored), nphdi_directory_bytes(slots),
                               (slots + 63) / 64 * 8};
    static const uint32_t ids[3] = {NPHDI_SECTION_KEY_TABLE, NPHDI_SECTION_NODE_DIRECTORY,
                                    NPHDI_SECTION_LIVE};

    memset(trailer, 0, sizeof(*trailer));
    trailer->foreign_bytes = foreign_bytes(content);
    trailer->live = stored;
    trailer->section_count = 3;
    for (uint32_t i = 0; i < 3; i++) {
        trailer->sections[i].id = ids[i];
        trailer->sections[i].bytes = sizes[i];
    }
    describe_planes(content, trailer);
    describe_mih(content, trailer);
    nphdi_unit_describe(content, trailer);
}

uint64_t nphdi_index_serialized_bytes(const nphdi_content *content, uint64_t stored)
{
    nphdi_trailer trailer;

    describe(content, stored, &trailer);
    return nphdi_sink_plan(&trailer);
}

uint64_t nphdi_index_extra_offset(nphd_index *index, uint32_t *out_sections)
{
    nphdi_trailer trailer;

    describe(index->content, nphdi_index_stored(index), &trailer);
    (void)nphdi_sink_plan(&trailer);
    *out_sections = trailer.section_count;
    return trailer.sections[trailer.section_count - 1].offset;
}

/* ---- the whole ---- */

static nphd_status put_foreign(nphdi_block_sink *to, const nphdi_content *content, uint64_t stored,
                               nphd_error *err)
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

/* Everything that one save writes beside the content. */
typedef struct save_plan {
    nphdi_trailer trailer;
    uint64_t total; /* bytes of the file */
    const nphdi_extra_section *extra;
    uint32_t extra_count;
} save_plan;

static nphd_status write_content(nphdi_block_sink *to, const nphdi_content *content,
                                 save_plan *plan, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(put_foreign(to, content, plan->trailer.live, err));
    TRY(nphdi_sink_put_mark(to, err));
    TRY(put_key_table(to, content, plan->trailer.live, err));
    TRY(put_directory(to, content, err));
    TRY(put_live(to, content, err));
    TRY(put_planes(to, content, &plan->trailer, err));
    TRY(put_mih(to, content, &plan->trailer, err));
    TRY(nphdi_unit_put(to, content, &plan->trailer, err));
    TRY(nphdi_sink_put_sections(to, plan->extra, plan->extra_count, err));
    TRY(nphdi_sink_finish(to, &plan->trailer, err));
done:
    return status;
}

static nphd_status plan_save(nphd_index *index, const nphdi_save_as *as, save_plan *plan,
                             nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_trailer *trailer = &plan->trailer;
    uint64_t stored = 0;

    memset(plan, 0, sizeof(*plan));
    TRY(nphdi_content_stored(index->content, &stored, err));
    describe(index->content, stored, trailer);
    memcpy(trailer->identity, index->identity, sizeof(trailer->identity));
    trailer->generation = index->generation;
    if (as != NULL) {
        memcpy(trailer->identity, as->identity, sizeof(trailer->identity));
        trailer->generation = as->generation;
        plan->extra = as->extra;
        plan->extra_count = as->extra_count;
    }
    trailer->next_automatic_key = index->content->next_automatic;
    trailer->build_breadth = atomic_load(&index->build_breadth);
    trailer->search_breadth = atomic_load(&index->search_breadth);
    TRY(nphdi_sink_add_sections(trailer, plan->extra, plan->extra_count, err));
    plan->total = nphdi_sink_plan(trailer);
done:
    return status;
}

static nphd_status ensure_identity(const nphd_index *index, uint8_t identity[16], nphd_error *err)
{
    static const uint8_t none[16] = {0};
    int failed = 0;

    if (memcmp(identity, none, sizeof(none)) == 0) {
        NPHDI_REPEAT_INTERRUPTED(failed, index->io->random(index->io->context, identity, 16));
    }
    return failed == 0 ? NPHD_OK : nphdi_fail_os(err, failed, "save: random identity");
}

/* A shard has no home. */
static nphd_status check_home(const nphd_index *index, const nphdi_home *to, const char *path,
                              const nphd_batch_options *options, nphd_error *err)
{
    return to->path == NULL || options->overwrite
               ? NPHD_OK
               : nphdi_home_check(index->io, &index->home, to, path, err);
}

static nphd_status save_file(nphd_index *index, const char *path, const nphdi_save_as *as,
                             const nphd_batch_options *options, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_replacement file;
    nphdi_block_sink to;
    nphdi_home home;
    save_plan plan;

    memset(&file, 0, sizeof(file));
    memset(&to, 0, sizeof(to));
    memset(&home, 0, sizeof(home));
    TRY(as == NULL ? nphdi_home_begin(index->io, index->allocator, path, &home, err) : NPHD_OK);
    TRY(check_home(index, &home, path, options, err));
    TRY(plan_save(index, as, &plan, err));
    if (as == NULL) {
        TRY(ensure_identity(index, plan.trailer.identity, err));
        if (plan.trailer.generation >= NPHDI_LAST_GENERATION) {
            status = nphdi_fail(err, NPHD_FULL,
                                "save: %s: generation %llu is the last one; a copy of the index "
                                "begins anew",
                                path, (unsigned long long)plan.trailer.generation);
            goto done;
        }
        plan.trailer.generation++;
    }
    TRY(nphdi_sink_begin(&to, index->allocator, &plan.trailer, err));
    to.options = options;
    TRY(nphdi_replacement_begin(&file, index->io, index->allocator, path, to.total, err));
    to.file = &file;
    TRY(write_content(&to, index->content, &plan, err));
    TRY(check_home(index, &home, path, options, err)); /* that took its time */
    status = nphdi_replacement_commit(&file, err);
    if (status == NPHD_OK || status == NPHD_DURABILITY_UNKNOWN) {
        nphdi_home_of_trailer(&home, &plan.trailer);
        nphdi_home_move(index->allocator, &index->home, &home);
        memcpy(index->identity, plan.trailer.identity, sizeof(index->identity));
        index->generation = plan.trailer.generation;
    }
    if (status == NPHD_OK) {
        atomic_store(&index->dirty, 0);
    }
done:
    nphdi_home_release(index->allocator, &home);
    nphdi_replacement_end(&file);
    nphdi_sink_end(&to);
    return status;
}

nphd_status nphdi_index_save_as(nphd_index *index, const char *path, const nphdi_save_as *as,
                                const nphd_batch_options *options, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_batch_options known = NPHD_BATCH_OPTIONS_INIT;

    nphdi_error_clear(err);
    if (path == NULL || path[0] == '\0') {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "save: the path is empty");
    }
    TRY(nphdi_options_read(options, sizeof(known), &known, "batch options", err));
    NPHDI_INDEX_ENTER(index, err);
    nphdi_rwlock_write(&index->change_lock);
    nphdi_rwlock_read(&index->content_lock);
    status = save_file(index, path, as, &known, err);
    nphdi_rwlock_read_end(&index->content_lock);
    nphdi_rwlock_write_end(&index->change_lock);
done:
    return status;
}

nphd_status nphd_index_save(nphd_index *index, const char *path, const nphd_batch_options *options,
                            nphd_error *err)
{
    return nphdi_index_save_as(index, path, NULL, options, err);
}

nphd_status nphd_index_save_buffer(nphd_index *index, void *buffer, size_t capacity,
                                   size_t *out_bytes, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_block_sink to;
    save_plan plan;

    nphdi_error_clear(err);
    *out_bytes = 0;
    memset(&to, 0, sizeof(to));
    NPHDI_INDEX_ENTER(index, err);
    nphdi_rwlock_write(&index->change_lock);
    nphdi_rwlock_read(&index->content_lock);
    TRY(plan_save(index, NULL, &plan, err));
    if (plan.total > capacity || buffer == NULL) {
        *out_bytes = (size_t)plan.total;
        status = buffer == NULL && capacity == 0
                     ? NPHD_OK
                     : nphdi_fail(err, NPHD_TOO_SMALL, "save: %llu bytes, room for %zu",
                                  (unsigned long long)plan.total, capacity);
        goto done;
    }
    TRY(nphdi_sink_begin(&to, index->allocator, &plan.trailer, err));
    to.memory = buffer;
    TRY(write_content(&to, index->content, &plan, err));
    *out_bytes = (size_t)plan.total;
done:
    nphdi_sink_end(&to);
    nphdi_rwlock_read_end(&index->content_lock);
    nphdi_rwlock_write_end(&index->change_lock);
    return status;
}
