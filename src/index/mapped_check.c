/* The full check of a mapped file: one pass over its nodes, and its tables against them. */
#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/seeded_bug.h"
#include "index/key_map.h"
#include "index/mapped.h"

#include <string.h>

static uint32_t level_of(const nphdi_mapped *mapped, uint64_t slot)
{
    return nphdi_get16(mapped->levels + 2 * slot);
}

static nphd_status check_list(const nphdi_mapped *mapped, uint32_t slot, uint32_t level,
                              const uint8_t *list, nphd_error *err)
{
    const nphdi_node_shape *shape = &mapped->head.node;
    const uint32_t room = level == 0 ? shape->connectivity_base : shape->connectivity;
    const uint32_t count = nphdi_get32(list);

    if (count > room && !NPHDI_BUG(32)) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: node %u: level %u has %u links, room for %u",
                          mapped->name, slot, level, count, room);
    }
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *place = list + 4 + (size_t)i * shape->slot_bytes;
        const uint64_t link = shape->slot_bytes == 4 ? nphdi_get32(place) : nphdi_get40(place);
        if ((link >= mapped->head.slots || level_of(mapped, link) < level) && !NPHDI_BUG(31)) {
            return nphdi_fail(err, NPHD_CORRUPT,
                              "%s: node %u: link %u of level %u leads to slot %llu, which %s",
                              mapped->name, slot, i, level, (unsigned long long)link,
                              link >= mapped->head.slots ? "does not exist" : "has a lower level");
        }
    }
    return NPHD_OK;
}

/* Does the trailer's key table lead to this slot? */
static bool table_has(const nphdi_slot_table *table, uint64_t hash, uint32_t slot)
{
    const uint32_t wanted = nphdi_slot_table_entry(table->slot_bits, hash, slot);
    uint64_t place;

    if (table->room == 0) {
        return false;
    }
    place = nphdi_hash_to_range(hash, table->room);
    for (uint64_t left = table->room; left > 0; left--) {
        const uint32_t found = nphdi_get32(table->places + 4 * place);
        if (found == wanted || found == NPHDI_SLOT_TABLE_FREE) {
            return found == wanted;
        }
        place = place + 1 == table->room ? 0 : place + 1;
    }
    return false;
}

static nphd_status check_tables(const nphdi_mapped *mapped, uint32_t slot, nphd_key key,
                                nphd_error *err)
{
    const uint32_t key_bytes = mapped->head.node.key_bytes;
    const bool live = !nphdi_is_free_key(key, key_bytes);

    if (mapped->live_words != NULL && nphdi_mapped_is_live(mapped, slot) != live) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: trailer: slot %u is marked %s, but its key is %s",
                          mapped->name, slot, live ? "removed" : "live", live ? "live" : "free");
    }
    if (live && mapped->trailer_table.places != NULL &&
        !table_has(&mapped->trailer_table, nphdi_hash_key(key, key_bytes), slot)) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: trailer: the key table does not lead to slot %u",
                          mapped->name, slot);
    }
    return NPHD_OK;
}

static nphd_status check_node(const nphdi_mapped *mapped, uint32_t slot, uint64_t expected,
                              uint32_t *out_level, bool *out_live, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_node_shape *shape = &mapped->head.node;
    const uint8_t *node;
    uint32_t level;

    if (!nphdi_mapped_node(mapped, slot, &node, &level)) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: node %u lies outside the nodes", mapped->name,
                          slot);
    }
    if ((uint64_t)(node - mapped->nodes) != expected) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: trailer: node %u is looked for in a wrong place",
                          mapped->name, slot);
    }
    if (nphdi_get16(node + shape->key_bytes) != level) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: node %u: level %u, but %u in the levels array",
                          mapped->name, slot, nphdi_get16(node + shape->key_bytes), level);
    }
    for (uint32_t at = 0; at <= level; at++) {
        TRY(check_list(mapped, slot, at, node + nphdi_node_list_offset(shape, at), err));
    }
    const nphd_key key = nphdi_usearch_get_key(node, shape->key_bytes);
    TRY(check_tables(mapped, slot, key, err));
    *out_level = level;
    *out_live = !nphdi_is_free_key(key, shape->key_bytes);
done:
    return status;
}

/* Since every live slot is led to, as many entries as live slots are those and no others. */
static nphd_status check_table_entries(const nphdi_mapped *mapped, uint64_t live_count,
                                       nphd_error *err)
{
    uint64_t entries = 0;

    for (uint64_t place = 0; place < mapped->trailer_table.room; place++) {
        const uint32_t entry = nphdi_get32(mapped->trailer_table.places + 4 * place);
        entries += entry == NPHDI_SLOT_TABLE_FREE ? 0 : 1;
    }
    if (entries != live_count) {
        return nphdi_fail(
            err, NPHD_CORRUPT, "%s: trailer: the key table has %llu entries for %llu vectors",
            mapped->name, (unsigned long long)entries, (unsigned long long)live_count);
    }
    return NPHD_OK;
}

/* What row `slot` is in planes, at a place of a part. */
static bool part_has_row(const nphdi_mapped *mapped, const nphdi_planes_part *part, uint64_t at,
                         uint32_t slot)
{
    const bool has_length = mapped->head.metric_code == NPHDI_METRIC_CODE_NPHD;
    const uint8_t *row = mapped->base + mapped->head.rows_offset + slot * mapped->head.row_bytes;
    const uint32_t payload_bytes = (uint32_t)mapped->head.row_bytes - (has_length ? 1 : 0);
    uint32_t left = has_length && row[0] < payload_bytes ? row[0] : payload_bytes;

    if (left != part->length) {
        return false;
    }
    row += has_length ? 1 : 0;
    for (uint32_t plane = 0; left > 0; plane++) {
        const uint32_t bytes = left < 8 ? left : 8;
        uint8_t word[8] = {0};
        memcpy(word, row + 8 * (size_t)plane, bytes);
        if (memcmp(word, part->words + 8 * (plane * part->stride + at), sizeof(word)) != 0) {
            return false;
        }
        left -= bytes;
    }
    return true;
}

/* Each slot has one entry: there are as many as slots, they ascend inside a length, and a row has
 * only one length. */
static nphd_status check_planes(const nphdi_mapped *mapped, nphd_error *err)
{
    uint32_t length = 0;
    uint64_t least = 0;

    for (uint64_t number = 0; number < mapped->planes.parts; number++) {
        const nphdi_planes_part part = nphdi_image_part(&mapped->planes, number);
        least = part.length == length ? least : 0;
        length = part.length;
        for (uint64_t at = 0; at < part.vectors; at++) {
            const uint32_t slot = nphdi_get32(part.slots + 4 * at);
            if (slot < least || slot >= mapped->head.slots ||
                !part_has_row(mapped, &part, at, slot)) {
                return nphdi_fail(
                    err, NPHD_CORRUPT, "%s: trailer: planes: entry %llu of part %llu is not row %u",
                    mapped->name, (unsigned long long)at, (unsigned long long)number, slot);
            }
            least = (uint64_t)slot + 1;
        }
    }
    return NPHD_OK;
}

static nphd_status check_mih(const nphdi_mapped *mapped, nphd_error *err)
{
    const uint32_t prefix_bytes = nphdi_mapped_prefix_bytes(mapped);
    const nphdi_rows rows = {mapped->base + mapped->head.rows_offset, mapped->head.row_bytes,
                             (uint32_t)mapped->head.row_bytes - prefix_bytes, prefix_bytes};

    if (mapped->mih != NULL && !nphdi_mih_check(mapped->mih, &rows)) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: trailer: the hash tables do not fit the rows",
                          mapped->name);
    }
    return NPHD_OK;
}

nphd_status nphdi_mapped_check(const nphdi_mapped *mapped, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_node_shape *shape = &mapped->head.node;
    uint64_t expected = 0;
    uint64_t live_count = 0;

    for (uint64_t slot = 0; slot < mapped->head.slots; slot++) {
        if ((int16_t)level_of(mapped, slot) < 0) {
            return nphdi_fail(err, NPHD_CORRUPT, "%s: levels: slot %llu has a negative level",
                              mapped->name, (unsigned long long)slot);
        }
    }
    for (uint64_t slot = 0; slot < mapped->head.slots; slot++) {
        uint32_t level = 0;
        bool live = false;
        TRY(check_node(mapped, (uint32_t)slot, expected, &level, &live, err));
        expected += nphdi_node_base_bytes(shape) + level * nphdi_list_upper_bytes(shape);
        live_count += live ? 1 : 0;
    }
    if (expected != mapped->nodes_bytes) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: the nodes take %llu bytes, not %llu",
                          mapped->name, (unsigned long long)expected,
                          (unsigned long long)mapped->nodes_bytes);
    }
    if (mapped->has_trailer && live_count != mapped->trailer.live) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: trailer: %llu vectors, but %llu keys",
                          mapped->name, (unsigned long long)mapped->trailer.live,
                          (unsigned long long)live_count);
    }
    if (mapped->trailer_table.places != NULL) {
        TRY(check_table_entries(mapped, live_count, err));
    }
    TRY(check_planes(mapped, err));
    TRY(check_mih(mapped, err));
done:
    return status;
}
