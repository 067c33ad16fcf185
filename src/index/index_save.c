/* Writing an index: the file of the reference (index_save_foreign.c), then our trailer. The caller
 * keeps the content from changing. */
#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "index/block_sink.h"
#include "index/index_internal.h"
#include "index/index_save_foreign.h"
#include "index/index_shard.h"
#include "index/index_unit.h"
#include "platform/interrupt.h"
#include "scan/planes_image.h"

#include <string.h>

/* ---- the sections of the trailer ---- */

/* To be released. */
static nphd_status make_key_table(const nphdi_content *content, uint64_t stored,
                                  nphdi_slot_table *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t slots = nphdi_content_slots(content);
    nphdi_slot_table_filler filler;
    nphd_key key;

    TRY(nphdi_slot_table_fill_begin(&filler, content->allocator, nphdi_slot_table_room(stored),
                                    nphdi_slot_table_bits(slots), err));
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
    TRY(nphdi_slot_table_fill_end(&filler, out, err));
done:
    nphdi_slot_table_fill_release(&filler);
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
    trailer->foreign_bytes = nphdi_save_foreign_bytes(content);
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

/* Everything that one save writes beside the content. To be released. */
typedef struct save_plan {
    nphdi_trailer trailer;
    uint64_t total; /* bytes of the file */
    nphdi_slot_table table;
    nphdi_extra_section extra[NPHDI_TRAILER_MAX_SECTIONS]; /* the caller's, and the table's */
    uint32_t extra_count;
} save_plan;

static void plan_release(const nphdi_content *content, save_plan *plan)
{
    nphdi_slot_table_release(content->allocator, &plan->table);
}

static nphd_status write_content(nphdi_block_sink *to, const nphdi_content *content,
                                 save_plan *plan, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(nphdi_save_put_foreign(to, content, plan->trailer.live, err));
    TRY(nphdi_sink_put_mark(to, err));
    TRY(nphdi_sink_put(to, plan->table.places, plan->table.room * 4, err));
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

static nphd_status plan_sections(save_plan *plan, const nphdi_extra_section *extra, uint32_t count,
                                 nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(nphdi_sink_add_sections(&plan->trailer, extra, count, err)); /* there is room for them */
    if (count > 0) {
        memcpy(plan->extra + plan->extra_count, extra, count * sizeof(*extra));
        plan->extra_count += count;
    }
done:
    return status;
}

static nphd_status plan_save(nphd_index *index, const nphdi_save_as *as, save_plan *plan,
                             nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_trailer *trailer = &plan->trailer;
    nphdi_extra_section overflow = {NPHDI_SECTION_KEY_OVERFLOW, NPHDI_SECTION_CRITICAL, NULL, 0};
    uint64_t stored = 0;

    memset(plan, 0, sizeof(*plan));
    TRY(nphdi_content_stored(index->content, &stored, err));
    TRY(make_key_table(index->content, stored, &plan->table, err));
    describe(index->content, stored, trailer);
    memcpy(trailer->identity, index->identity, sizeof(trailer->identity));
    trailer->generation = index->generation;
    if (as != NULL) {
        memcpy(trailer->identity, as->identity, sizeof(trailer->identity));
        trailer->generation = as->generation;
        TRY(plan_sections(plan, as->extra, as->extra_count, err));
    }
    trailer->next_automatic_key = index->content->next_automatic;
    trailer->build_breadth = atomic_load(&index->build_breadth);
    trailer->search_breadth = atomic_load(&index->search_breadth);
    overflow.data = plan->table.overflow;
    overflow.bytes = (uint64_t)plan->table.overflow_count * NPHDI_SLOT_OVERFLOW_BYTES;
    TRY(plan_sections(plan, &overflow, plan->table.overflow_count > 0 ? 1 : 0, err));
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
                             const nphd_batch_options *options, uint64_t *out_bytes,
                             nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_replacement file;
    nphdi_block_sink to;
    nphdi_home home;
    save_plan plan;

    memset(&file, 0, sizeof(file));
    memset(&to, 0, sizeof(to));
    memset(&home, 0, sizeof(home));
    memset(&plan, 0, sizeof(plan));
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
        if (out_bytes != NULL) {
            *out_bytes = plan.total;
        }
    }
    if (status == NPHD_OK) {
        atomic_store(&index->dirty, 0);
    }
done:
    nphdi_home_release(index->allocator, &home);
    nphdi_replacement_end(&file);
    nphdi_sink_end(&to);
    plan_release(index->content, &plan);
    return status;
}

nphd_status nphdi_index_save_as(nphd_index *index, const char *path, const nphdi_save_as *as,
                                const nphd_batch_options *options, uint64_t *out_bytes,
                                nphd_error *err)
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
    status = save_file(index, path, as, &known, out_bytes, err);
    nphdi_rwlock_read_end(&index->content_lock);
    nphdi_rwlock_write_end(&index->change_lock);
done:
    return status;
}

nphd_status nphd_index_save(nphd_index *index, const char *path, const nphd_batch_options *options,
                            nphd_error *err)
{
    return nphdi_index_save_as(index, path, NULL, options, NULL, err);
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
    memset(&plan, 0, sizeof(plan));
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
    plan_release(index->content, &plan);
    nphdi_rwlock_read_end(&index->content_lock);
    nphdi_rwlock_write_end(&index->change_lock);
    return status;
}
