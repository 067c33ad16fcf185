/* The full check of a mapped file, in parts that go over the file from front to back: levels and
 * node directory first, which say where each node lies; then nodes, of any range of the file and by
 * any number of threads; then the key table and the planes against them.
 *
 * The nodes are two thirds of a file, and what they are compared with lies elsewhere. So they can
 * be read from a copy that is in the processor's cache already, and the places of the key table are
 * fetched some nodes ahead. */
#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/seeded_bug.h"
#include "base/watch.h"
#include "index/key_map.h"
#include "index/mapped.h"

#include <string.h>

static uint32_t level_of(const nphdi_mapped *mapped, uint64_t slot)
{
    return nphdi_get16(mapped->levels + 2 * slot);
}

/* ---- levels, and where nodes lie ---- */

static uint64_t slots_of_record(const nphdi_mapped *mapped, uint64_t first)
{
    const uint64_t rest = mapped->head.slots - first;

    return rest < NPHDI_DIRECTORY_SLOTS ? rest : NPHDI_DIRECTORY_SLOTS;
}

static nphd_status fail_negative(const nphdi_mapped *mapped, uint64_t slot, nphd_error *err)
{
    while ((int16_t)level_of(mapped, slot) >= 0) {
        slot++;
    }
    return nphdi_fail(err, NPHD_CORRUPT, "%s: levels: slot %llu has a negative level", mapped->name,
                      (unsigned long long)slot);
}

/* Slot by slot, where a record of the directory is not what a writer of ours makes of the levels or
 * the nodes end too late. */
static nphd_status check_places(const nphdi_mapped *mapped, uint64_t first, uint64_t lists,
                                nphd_error *err)
{
    const nphdi_node_shape *shape = &mapped->head.node;

    for (uint64_t slot = first; slot < first + slots_of_record(mapped, first); slot++) {
        const uint64_t expected =
            slot * nphdi_node_base_bytes(shape) + lists * nphdi_list_upper_bytes(shape);
        const uint8_t *node;
        uint32_t level;
        if (!nphdi_mapped_node(mapped, (uint32_t)slot, &node, &level)) {
            return nphdi_fail(err, NPHD_CORRUPT, "%s: node %llu lies outside the nodes",
                              mapped->name, (unsigned long long)slot);
        }
        if ((uint64_t)(node - mapped->nodes) != expected) {
            return nphdi_fail(err, NPHD_CORRUPT,
                              "%s: trailer: node %llu is looked for in a wrong place", mapped->name,
                              (unsigned long long)slot);
        }
        lists += level;
    }
    return NPHD_OK;
}

nphd_status nphdi_mapped_check_levels(const nphdi_mapped *mapped, const nphdi_watch *watch,
                                      nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_node_shape *shape = &mapped->head.node;
    const uint64_t base = nphdi_node_base_bytes(shape);
    const uint64_t upper = nphdi_list_upper_bytes(shape);
    const uint8_t *record = mapped->directory;
    uint64_t lists = 0;
    uint64_t nodes_bytes = 0;

    for (uint64_t slot = 0; slot < mapped->head.slots; slot += NPHDI_DIRECTORY_SLOTS) {
        const uint64_t count = slots_of_record(mapped, slot);
        uint8_t made[NPHDI_DIRECTORY_RECORD_BYTES];
        bool negative = false;
        TRY(nphdi_watch_loop(watch, slot, mapped->head.slots, err));
        const uint64_t more =
            nphdi_directory_encode(mapped->levels + 2 * slot, count, lists, made, &negative);
        if (negative) {
            return fail_negative(mapped, slot, err);
        }
        /* slots * base fits (checked with the headers), and so few lists as the nodes can hold */
        if (lists + more > mapped->nodes_bytes / upper ||
            (slot + count) * base + (lists + more) * upper > mapped->nodes_bytes ||
            memcmp(made, record, sizeof(made)) != 0) {
            TRY(check_places(mapped, slot, lists, err));
        }
        lists += more;
        nodes_bytes = (slot + count) * base + lists * upper;
        record += NPHDI_DIRECTORY_RECORD_BYTES;
    }
    if (nodes_bytes != mapped->nodes_bytes) {
        status =
            nphdi_fail(err, NPHD_CORRUPT, "%s: the nodes take %llu bytes, not %llu", mapped->name,
                       (unsigned long long)nodes_bytes, (unsigned long long)mapped->nodes_bytes);
    }
done:
    return status;
}

/* Where the nodes of a record begin, and so where its first slot's node does; of checked levels. */
static uint64_t record_start(const nphdi_mapped *mapped, uint64_t record)
{
    const uint64_t lists = nphdi_get64(mapped->directory + record * NPHDI_DIRECTORY_RECORD_BYTES) &
                           ~NPHDI_DIRECTORY_DEEP;

    return record * NPHDI_DIRECTORY_SLOTS * nphdi_node_base_bytes(&mapped->head.node) +
           lists * nphdi_list_upper_bytes(&mapped->head.node);
}

static uint64_t node_bytes(const nphdi_mapped *mapped, uint64_t slot)
{
    return nphdi_node_base_bytes(&mapped->head.node) +
           level_of(mapped, slot) * nphdi_list_upper_bytes(&mapped->head.node);
}

/* The first slot whose node begins at `from` (in the nodes) or behind it, and its beginning. */
static uint64_t first_slot(const nphdi_mapped *mapped, uint64_t from, uint64_t *out_start)
{
    const uint64_t slots = mapped->head.slots;
    uint64_t low = 0; /* the record in which it is, or which ends before it */
    uint64_t high = (slots + NPHDI_DIRECTORY_SLOTS - 1) / NPHDI_DIRECTORY_SLOTS;
    uint64_t slot;
    uint64_t start;

    while (high - low > 1) {
        const uint64_t middle = low + (high - low) / 2;
        if (record_start(mapped, middle) <= from) {
            low = middle;
        } else {
            high = middle;
        }
    }
    slot = low * NPHDI_DIRECTORY_SLOTS;
    start = slots == 0 ? 0 : record_start(mapped, low);
    while (slot < slots && start < from) {
        start += node_bytes(mapped, slot++);
    }
    *out_start = start;
    return slot;
}

/* ---- nodes ---- */

#define NEAR 4    /* places of the key table that are looked at together */
#define PROBES 32 /* nodes whose places in the key table are under way */

/* One pass over a range of nodes. */
typedef struct node_pass {
    const nphdi_mapped *mapped;
    uint64_t live;
    uint32_t waiting;
    uint64_t hashes[PROBES];
    uint32_t slots[PROBES];
} node_pass;

/* No link is above `last`; written to become vector instructions. */
static bool links_end_by(const uint8_t *links, uint32_t count, uint32_t last)
{
    uint32_t above = 0;

    for (uint32_t i = 0; i < count; i++) {
        above |= nphdi_get32(links + 4 * (size_t)i) > last;
    }
    return above == 0;
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
    /* Every slot has level 0. All places of a list are looked at, since a loop of the same length
     * each time is faster; what is in those without a link matters only if it ends the short way.
     */
    if (level == 0 && shape->slot_bytes == 4 &&
        links_end_by(list + 4, room, (uint32_t)(mapped->head.slots - 1))) {
        return NPHD_OK;
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

static bool overflow_has(const nphdi_slot_table *table, uint64_t hash, uint32_t slot)
{
    const uint32_t number = nphdi_slot_overflow_find(table, hash, slot);

    return number < table->overflow_count && nphdi_slot_overflow_hash(table, number) == hash &&
           nphdi_slot_overflow_slot(table, number) == slot;
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
    if (table->room - place >= NEAR) {
        /* most often it is near; without a branch for each place, which nothing could foretell */
        uint32_t same = 0;
        uint32_t open = 0;
        for (uint32_t i = 0; i < NEAR; i++) {
            const uint32_t found = nphdi_get32(table->places + 4 * (place + i));
            same |= (uint32_t)(found == wanted) << i;
            open |= (uint32_t)(found == NPHDI_SLOT_TABLE_FREE) << i;
        }
        /* up to the first free place, behind which no lookup goes */
        if ((same & (open ^ (open - 1))) != 0) {
            return true;
        }
    }
    for (uint64_t left = nphdi_slot_table_reach(table); left > 0; left--) {
        const uint32_t found = nphdi_get32(table->places + 4 * place);
        if (found == wanted || found == NPHDI_SLOT_TABLE_FREE) {
            return found == wanted;
        }
        place = place + 1 == table->room ? 0 : place + 1;
    }
    return overflow_has(table, hash, slot);
}

static nphd_status check_probes(node_pass *pass, nphd_error *err)
{
    const nphdi_mapped *mapped = pass->mapped;

    for (uint32_t i = 0; i < pass->waiting; i++) {
        if (!table_has(&mapped->trailer_table, pass->hashes[i], pass->slots[i])) {
            return nphdi_fail(err, NPHD_CORRUPT,
                              "%s: trailer: the key table does not lead to slot %u", mapped->name,
                              pass->slots[i]);
        }
    }
    pass->waiting = 0;
    return NPHD_OK;
}

static nphd_status check_tables(node_pass *pass, uint32_t slot, nphd_key key, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_mapped *mapped = pass->mapped;
    const nphdi_slot_table *table = &mapped->trailer_table;
    const uint32_t key_bytes = mapped->head.node.key_bytes;
    const bool live = !nphdi_is_free_key(key, key_bytes);

    pass->live += live ? 1 : 0;
    if (mapped->live_words != NULL && nphdi_mapped_is_live(mapped, slot) != live) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: trailer: slot %u is marked %s, but its key is %s",
                          mapped->name, slot, live ? "removed" : "live", live ? "live" : "free");
    }
    if (live && table->places != NULL) {
        const uint64_t hash = nphdi_hash_key(key, key_bytes);
        /* of a table without room as well: a prefetch faults nowhere */
        __builtin_prefetch(table->places + 4 * nphdi_hash_to_range(hash, table->room));
        pass->hashes[pass->waiting] = hash;
        pass->slots[pass->waiting++] = slot;
        if (pass->waiting == PROBES) {
            TRY(check_probes(pass, err));
        }
    }
done:
    return status;
}

static nphd_status check_node(node_pass *pass, uint32_t slot, const uint8_t *node, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_mapped *mapped = pass->mapped;
    const nphdi_node_shape *shape = &mapped->head.node;
    const uint32_t level = level_of(mapped, slot);

    if (nphdi_get16(node + shape->key_bytes) != level) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: node %u: level %u, but %u in the levels array",
                          mapped->name, slot, nphdi_get16(node + shape->key_bytes), level);
    }
    for (uint32_t at = 0; at <= level; at++) {
        TRY(check_list(mapped, slot, at, node + nphdi_node_list_offset(shape, at), err));
    }
    TRY(check_tables(pass, slot, nphdi_usearch_get_key(node, shape->key_bytes), err));
done:
    return status;
}

nphd_status nphdi_mapped_check_nodes(const nphdi_mapped *mapped, const nphdi_piece *piece,
                                     uint64_t *live, uint64_t *out_cut, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t nodes = mapped->head.nodes_offset;
    const uint64_t end = piece->offset + piece->length;
    node_pass pass;
    uint64_t start = 0;

    pass.mapped = mapped;
    pass.live = 0;
    pass.waiting = 0;
    *out_cut = NPHDI_NOTHING_CUT;
    if (end <= nodes || piece->offset >= nodes + mapped->nodes_bytes) {
        return NPHD_OK;
    }
    for (uint64_t slot =
             first_slot(mapped, piece->offset > nodes ? piece->offset - nodes : 0, &start);
         slot < mapped->head.slots && nodes + start < end; slot++) {
        const uint64_t bytes = node_bytes(mapped, slot);
        if (nodes + start + bytes > end) {
            *out_cut = slot;
            break;
        }
        TRY(check_node(&pass, (uint32_t)slot, piece->bytes + (nodes + start - piece->offset), err));
        start += bytes;
    }
    TRY(check_probes(&pass, err));
done:
    *live += pass.live;
    return status;
}

nphd_status nphdi_mapped_check_cut(const nphdi_mapped *mapped, uint64_t slot, uint64_t *live,
                                   nphd_error *err)
{
    nphd_status status = NPHD_OK;
    node_pass pass;
    const uint8_t *node;
    uint32_t level;

    pass.mapped = mapped;
    pass.live = 0;
    pass.waiting = 0;
    if (!nphdi_mapped_node(mapped, (uint32_t)slot, &node, &level)) {
        return nphdi_mapped_broken(mapped, slot, err);
    }
    TRY(check_node(&pass, (uint32_t)slot, node, err));
    TRY(check_probes(&pass, err));
done:
    *live += pass.live;
    return status;
}
