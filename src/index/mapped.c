#include "index/mapped.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "platform/interrupt.h"

#include <string.h>

/* ---- the node directory ---- */

uint64_t nphdi_directory_encode(const uint8_t *levels, uint64_t count, uint64_t levels_before,
                                uint8_t out[NPHDI_DIRECTORY_RECORD_BYTES], bool *out_negative)
{
    uint64_t at_least[3] = {0, 0, 0};
    uint64_t sum = 0;
    bool deep = false;

    for (uint64_t i = 0; i < count; i++) {
        const int16_t stored = (int16_t)nphdi_get16(levels + 2 * i);
        const uint32_t level = stored < 0 ? 0 : (uint32_t)stored;
        *out_negative = *out_negative || stored < 0;
        sum += level;
        deep = deep || level > 3;
        for (uint32_t l = 0; l < 3 && l < level; l++) {
            at_least[l] |= 1ULL << i;
        }
    }
    nphdi_put64(out, levels_before | (deep ? NPHDI_DIRECTORY_DEEP : 0));
    for (uint32_t l = 0; l < 3; l++) {
        nphdi_put64(out + 8 + 8 * l, at_least[l]);
    }
    return sum;
}

static uint32_t popcount64(uint64_t x)
{
    x -= x >> 1 & 0x5555555555555555ULL;
    x = (x & 0x3333333333333333ULL) + (x >> 2 & 0x3333333333333333ULL);
    x = (x + (x >> 4)) & 0x0F0F0F0F0F0F0F0FULL;
    return (uint32_t)(x * 0x0101010101010101ULL >> 56);
}

static uint64_t levels_before(const nphdi_mapped *mapped, uint32_t slot)
{
    const uint32_t inside = slot % NPHDI_DIRECTORY_SLOTS;
    const uint8_t *record =
        mapped->directory + (uint64_t)(slot / NPHDI_DIRECTORY_SLOTS) * NPHDI_DIRECTORY_RECORD_BYTES;
    const uint64_t before = nphdi_get64(record);
    const uint64_t below = (1ULL << inside) - 1;
    uint64_t sum = before & ~NPHDI_DIRECTORY_DEEP;

    if ((before & NPHDI_DIRECTORY_DEEP) == 0) {
        for (uint32_t l = 0; l < 3; l++) {
            sum += popcount64(nphdi_get64(record + 8 + 8 * l) & below);
        }
        return sum;
    }
    for (uint32_t i = slot - inside; i < slot; i++) {
        const int16_t level = (int16_t)nphdi_get16(mapped->levels + 2 * (uint64_t)i);
        sum += level < 0 ? 0 : (uint64_t)level;
    }
    return sum;
}

bool nphdi_mapped_node(const nphdi_mapped *mapped, uint32_t slot, const uint8_t **out_node,
                       uint32_t *out_level)
{
    const nphdi_node_shape *shape = &mapped->head.node;
    const int16_t level = (int16_t)nphdi_get16(mapped->levels + 2 * (uint64_t)slot);
    const uint64_t upper = nphdi_list_upper_bytes(shape);
    const uint64_t lists = levels_before(mapped, slot);
    uint64_t start;
    uint64_t size;

    /* slots * base fits (checked with the headers); lists is bounded here before it multiplies */
    if (level < 0 || lists > mapped->nodes_bytes / upper) {
        return false;
    }
    start = slot * nphdi_node_base_bytes(shape) + lists * upper;
    size = nphdi_node_base_bytes(shape) + (uint64_t)level * upper;
    if (start > mapped->nodes_bytes || size > mapped->nodes_bytes - start) {
        return false;
    }
    *out_node = mapped->nodes + start;
    *out_level = (uint32_t)level;
    return true;
}

nphd_status nphdi_mapped_broken(const nphdi_mapped *mapped, uint64_t slot, nphd_error *err)
{
    return nphdi_fail(err, NPHD_CORRUPT,
                      "%s: node %llu: a level, key, count or link is out of bounds; run `nphd "
                      "verify` to find the damage",
                      mapped->name, (unsigned long long)slot);
}

bool nphdi_mapped_key(const nphdi_mapped *mapped, uint32_t slot, nphd_key *out)
{
    const uint8_t *node;
    uint32_t level;

    if (!nphdi_mapped_node(mapped, slot, &node, &level)) {
        return false;
    }
    *out = nphdi_usearch_get_key(node, mapped->head.node.key_bytes);
    return true;
}

bool nphdi_mapped_is_live(const nphdi_mapped *mapped, uint32_t slot)
{
    nphd_key key;

    if (mapped->live_words != NULL) {
        return (mapped->live_words[slot / 8] >> (slot % 8) & 1) != 0;
    }
    return nphdi_mapped_key(mapped, slot, &key) &&
           !nphdi_is_free_key(key, mapped->head.node.key_bytes);
}

/* ---- the graph ---- */

static uint32_t mapped_links(const void *store, uint32_t slot, uint32_t level,
                             _Atomic uint32_t *buffer, const _Atomic uint32_t **out_links)
{
    const nphdi_mapped *mapped = store;
    const nphdi_node_shape *shape = &mapped->head.node;
    const uint32_t room = level == 0 ? shape->connectivity_base : shape->connectivity;
    const uint8_t *node;
    uint32_t node_level;
    uint32_t count;
    bool whole = true;

    if (!nphdi_mapped_node(mapped, slot, &node, &node_level) || level > node_level) {
        return NPHDI_GRAPH_BROKEN;
    }
    node += nphdi_node_list_offset(shape, level);
    count = nphdi_get32(node);
    node += 4;
    if (count > room) {
        return NPHDI_GRAPH_BROKEN;
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t link = shape->slot_bytes == 4 ? nphdi_get32(node + 4 * (size_t)i)
                                                     : nphdi_get40(node + 5 * (size_t)i);
        atomic_store_explicit(&buffer[i], (uint32_t)link, memory_order_relaxed);
        whole = whole && link < mapped->head.slots;
    }
    *out_links = buffer;
    return whole ? count : NPHDI_GRAPH_BROKEN;
}

static void mapped_prefetch(const void *store, uint32_t slot)
{
    const nphdi_mapped *mapped = store;
    const uint8_t *node;
    uint32_t level;

    if (nphdi_mapped_node(mapped, slot, &node, &level)) {
        __builtin_prefetch(node);
        __builtin_prefetch(node + 64);
        __builtin_prefetch(node + nphdi_node_base_bytes(&mapped->head.node) - 1);
    }
}

nphdi_graph_reader nphdi_mapped_reader(const nphdi_mapped *mapped)
{
    const nphdi_graph_reader reader = {mapped,
                                       mapped_links,
                                       mapped_prefetch,
                                       NULL,
                                       mapped->head.node.connectivity_base,
                                       mapped->head.slots,
                                       mapped->head.max_level,
                                       (uint32_t)mapped->head.entry};

    return reader;
}

/* ---- opening ---- */

static nphd_status derive_directory(nphdi_mapped *mapped, uint64_t *out_lists, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t slots = mapped->head.slots;
    uint64_t sum = 0;
    bool negative = false;
    uint8_t *record;

    mapped->derived_directory_bytes = nphdi_directory_bytes(slots);
    TRY(nphdi_alloc(mapped->allocator, mapped->derived_directory_bytes, 1,
                    &mapped->derived_directory, err));
    record = mapped->derived_directory;
    for (uint64_t slot = 0; slot < slots; slot += NPHDI_DIRECTORY_SLOTS) {
        const uint64_t rest = slots - slot;
        sum += nphdi_directory_encode(mapped->levels + 2 * slot,
                                      rest < NPHDI_DIRECTORY_SLOTS ? rest : NPHDI_DIRECTORY_SLOTS,
                                      sum, record, &negative);
        record += NPHDI_DIRECTORY_RECORD_BYTES;
    }
    mapped->directory = mapped->derived_directory;
    *out_lists = sum;
    if (negative) {
        status = nphdi_fail(err, NPHD_CORRUPT, "%s: levels: a level is negative", mapped->name);
    }
done:
    return status;
}

/* A file without footer: find its nodes' end, and see that no trailer was there. */
static nphd_status open_reference(nphdi_mapped *mapped, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_node_shape *shape = &mapped->head.node;
    const uint64_t base_bytes = mapped->head.slots * nphdi_node_base_bytes(shape);
    const uint64_t room = mapped->bytes - mapped->head.nodes_offset;
    uint64_t lists = 0;

    TRY(derive_directory(mapped, &lists, err));
    /* room >= base_bytes was checked with the headers */
    if (lists > (room - base_bytes) / nphdi_list_upper_bytes(shape)) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: the nodes end beyond the file of %llu bytes",
                          mapped->name, (unsigned long long)mapped->bytes);
    }
    mapped->nodes_bytes = base_bytes + lists * nphdi_list_upper_bytes(shape);
    if (nphdi_trailer_begins(mapped->nodes + mapped->nodes_bytes,
                             (size_t)(room - mapped->nodes_bytes))) {
        return nphdi_fail(err, NPHD_CORRUPT,
                          "%s: the file has a trailer but its end is missing or damaged",
                          mapped->name);
    }
done:
    return status;
}

static nphd_status open_scan_sections(nphdi_mapped *mapped, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_trailer_section *planes =
        nphdi_trailer_find(&mapped->trailer, NPHDI_SECTION_PLANES);
    const nphdi_trailer_section *mih = nphdi_trailer_find(&mapped->trailer, NPHDI_SECTION_MIH);
    const uint64_t payload_bytes = mapped->head.row_bytes - nphdi_mapped_prefix_bytes(mapped);

    if (planes != NULL &&
        !nphdi_image_open(&mapped->planes, mapped->base + planes->offset, planes->bytes,
                          planes->offset, (uint32_t)payload_bytes, mapped->head.slots)) {
        return nphdi_fail(err, NPHD_CORRUPT,
                          "%s: trailer: the planes are not those of %llu rows of %llu bytes",
                          mapped->name, (unsigned long long)mapped->head.slots,
                          (unsigned long long)mapped->head.row_bytes);
    }
    if (mih == NULL) {
        return NPHD_OK;
    }
    TRY(nphdi_alloc(mapped->allocator, 1, sizeof(*mapped->mih), &mapped->mih, err));
    if (!nphdi_mih_open(mapped->mih, mapped->base + mih->offset, mih->bytes,
                        (uint32_t)payload_bytes, mapped->head.slots)) {
        return nphdi_fail(err, NPHD_CORRUPT,
                          "%s: trailer: the hash tables are not those of %llu rows of %llu bytes",
                          mapped->name, (unsigned long long)mapped->head.slots,
                          (unsigned long long)mapped->head.row_bytes);
    }
done:
    return status;
}

static nphd_status open_trailer(nphdi_mapped *mapped, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t slots = mapped->head.slots;
    const nphdi_trailer_section *directory =
        nphdi_trailer_find(&mapped->trailer, NPHDI_SECTION_NODE_DIRECTORY);
    const nphdi_trailer_section *table =
        nphdi_trailer_find(&mapped->trailer, NPHDI_SECTION_KEY_TABLE);
    const nphdi_trailer_section *overflow =
        nphdi_trailer_find(&mapped->trailer, NPHDI_SECTION_KEY_OVERFLOW);
    const nphdi_trailer_section *live = nphdi_trailer_find(&mapped->trailer, NPHDI_SECTION_LIVE);
    uint64_t lists = 0;

    mapped->nodes_bytes = mapped->trailer.foreign_bytes - mapped->head.nodes_offset;
    if ((directory != NULL && directory->bytes != nphdi_directory_bytes(slots)) ||
        (live != NULL && live->bytes != (slots + 63) / 64 * 8) ||
        (table != NULL && table->bytes % 4 != 0) ||
        (overflow != NULL && (table == NULL || overflow->bytes % NPHDI_SLOT_OVERFLOW_BYTES != 0 ||
                              overflow->bytes / NPHDI_SLOT_OVERFLOW_BYTES > slots))) {
        return nphdi_fail(err, NPHD_CORRUPT,
                          "%s: trailer: a section has the wrong size for %llu "
                          "slots",
                          mapped->name, (unsigned long long)slots);
    }
    atomic_store(&mapped->live, mapped->trailer.live);
    if (live != NULL) {
        mapped->live_words = mapped->base + live->offset;
    }
    if (table != NULL && (table->bytes > 0 || mapped->trailer.live == 0)) {
        mapped->trailer_table.places = mapped->base + table->offset;
        mapped->trailer_table.room = table->bytes / 4;
        mapped->trailer_table.slot_bits = nphdi_slot_table_bits(slots);
        if (overflow != NULL) {
            mapped->trailer_table.overflow = mapped->base + overflow->offset;
            mapped->trailer_table.overflow_count =
                (uint32_t)(overflow->bytes / NPHDI_SLOT_OVERFLOW_BYTES);
        }
    }
    TRY(open_scan_sections(mapped, err));
    if (directory != NULL) {
        mapped->directory = mapped->base + directory->offset;
    } else {
        TRY(derive_directory(mapped, &lists, err));
    }
done:
    return status;
}

nphd_status nphdi_mapped_open(nphdi_mapped *mapped, const nphdi_source *source,
                              const nphdi_usearch_head *head, const nphdi_trailer *trailer,
                              bool has_trailer, const nphd_allocator *allocator, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const void *base = source->memory;
    const uint64_t name_bytes = strlen(source->name) + 1;

    memset(mapped, 0, sizeof(*mapped));
    if (pthread_mutex_init(&mapped->derive_lock, NULL) != 0) {
        return nphdi_fail(err, NPHD_OUT_OF_MEMORY, "cannot create a lock");
    }
    mapped->allocator = allocator;
    mapped->head = *head;
    mapped->trailer = *trailer;
    mapped->has_trailer = has_trailer;
    mapped->bytes = source->bytes;
    atomic_store(&mapped->live, head->slots == 0 ? 0 : UINT64_MAX);
    TRY(nphdi_alloc(allocator, name_bytes, 1, &mapped->name, err));
    mapped->name_bytes = name_bytes;
    memcpy(mapped->name, source->name, name_bytes);
    if (source->memory == NULL) {
        int failed;
        NPHDI_REPEAT_INTERRUPTED(
            failed, source->io->map(source->io->context, source->file, source->bytes, &base));
        if (failed != 0) {
            status = nphdi_fail_os(err, failed, "%s: map %llu bytes", source->name,
                                   (unsigned long long)source->bytes);
            goto done;
        }
        mapped->io = source->io;
    }
    mapped->base = base;
    mapped->levels = mapped->base + head->levels_offset;
    mapped->nodes = mapped->base + head->nodes_offset;
    TRY(has_trailer ? open_trailer(mapped, err) : open_reference(mapped, err));
    if (head->slots > 0) {
        /* the entry decides on which levels a search begins */
        const uint8_t *node;
        uint32_t level;
        if (!nphdi_mapped_node(mapped, (uint32_t)head->entry, &node, &level) ||
            (int32_t)level != head->max_level) {
            status = nphdi_fail(err, NPHD_CORRUPT,
                                "%s: graph header: max level %d is not that of entry slot %llu",
                                mapped->name, head->max_level, (unsigned long long)head->entry);
        }
    }
done:
    if (status != NPHD_OK) {
        nphdi_mapped_close(mapped);
    }
    return status;
}

void nphdi_mapped_close(nphdi_mapped *mapped)
{
    if (mapped->allocator == NULL) {
        return;
    }
    if (mapped->io != NULL) { /* it is mapped */
        mapped->io->unmap(mapped->io->context, mapped->base, mapped->bytes);
    }
    nphdi_free(mapped->allocator, mapped->derived_directory, mapped->derived_directory_bytes, 1);
    nphdi_slot_table_release(mapped->allocator, &mapped->derived_table);
    nphdi_free(mapped->allocator, mapped->mih, 1, sizeof(*mapped->mih));
    nphdi_free(mapped->allocator, mapped->name, mapped->name_bytes, 1);
    (void)pthread_mutex_destroy(&mapped->derive_lock);
    memset(mapped, 0, sizeof(*mapped));
}

/* ---- what is derived at the first need ---- */

static nphd_status derive_table(nphdi_mapped *mapped, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint32_t key_bytes = mapped->head.node.key_bytes;
    const uint32_t slot_bits = nphdi_slot_table_bits(mapped->head.slots);
    nphdi_slot_table_filler filler;
    uint64_t live = 0;
    uint64_t room = 0;
    nphd_key key;

    memset(&filler, 0, sizeof(filler));
    for (uint64_t slot = 0; slot < mapped->head.slots; slot++) {
        if (!nphdi_mapped_key(mapped, (uint32_t)slot, &key)) {
            return nphdi_mapped_broken(mapped, slot, err);
        }
        live += nphdi_is_free_key(key, key_bytes) ? 0 : 1;
    }
    room = nphdi_slot_table_room(live < 1 ? 1 : live);
    TRY(nphdi_slot_table_fill_begin(&filler, mapped->allocator, room, slot_bits, err));
    for (uint64_t slot = 0; slot < mapped->head.slots; slot++) {
        if (nphdi_mapped_key(mapped, (uint32_t)slot, &key) && !nphdi_is_free_key(key, key_bytes)) {
            nphdi_slot_table_put(&filler, nphdi_hash_key(key, key_bytes), (uint32_t)slot);
        }
    }
    TRY(nphdi_slot_table_fill_end(&filler, &mapped->derived_table, err));
    atomic_store_explicit(&mapped->live, live, memory_order_release);
    atomic_store_explicit(&mapped->derived, true, memory_order_release);
done:
    nphdi_slot_table_fill_release(&filler);
    return status;
}

nphdi_slot_table nphdi_mapped_table_now(const nphdi_mapped *mapped)
{
    return mapped->trailer_table.places == NULL &&
                   atomic_load_explicit(&mapped->derived, memory_order_acquire)
               ? mapped->derived_table
               : mapped->trailer_table;
}

uint64_t nphdi_mapped_derived_bytes(const nphdi_mapped *mapped)
{
    return mapped->derived_directory_bytes +
           (atomic_load_explicit(&mapped->derived, memory_order_acquire)
                ? nphdi_slot_table_bytes(&mapped->derived_table)
                : 0);
}

nphd_status nphdi_mapped_table(nphdi_mapped *mapped, nphdi_slot_table *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    *out = nphdi_mapped_table_now(mapped);
    if (out->places != NULL) {
        return NPHD_OK;
    }
    (void)pthread_mutex_lock(&mapped->derive_lock);
    if (!atomic_load_explicit(&mapped->derived, memory_order_acquire)) {
        status = derive_table(mapped, err);
    }
    (void)pthread_mutex_unlock(&mapped->derive_lock);
    if (status == NPHD_OK) {
        *out = nphdi_mapped_table_now(mapped);
    }
    return status;
}

nphd_status nphdi_mapped_live(nphdi_mapped *mapped, uint64_t *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_slot_table table;

    if (atomic_load_explicit(&mapped->live, memory_order_acquire) == UINT64_MAX) {
        TRY(nphdi_mapped_table(mapped, &table, err));
    }
    *out = atomic_load_explicit(&mapped->live, memory_order_acquire);
done:
    return status;
}
