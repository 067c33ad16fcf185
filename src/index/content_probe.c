/* Lookups by key: the key map of content in memory, the key table of a file for a view. */
#include "base/error.h"
#include "base/hash.h"
#include "index/content.h"

#include <string.h>

uint64_t nphdi_content_hash(const nphdi_content *content, nphd_key key)
{
    return content->view ? nphdi_hash_key(key, content->shape.key_bytes)
                         : nphdi_key_map_hash(&content->map, key, content->shape.key_bytes);
}

nphd_status nphdi_probe_begin(nphdi_content *content, nphd_key key, uint64_t hash, nphdi_probe *out,
                              nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint32_t key_bytes = content->shape.key_bytes;

    memset(out, 0, sizeof(*out));
    out->content = content;
    out->key = key;
    out->hash = hash;
    if ((key_bytes == 8 && key.high != 0) || nphdi_is_free_key(key, key_bytes)) {
        return NPHD_OK; /* no such key can be stored */
    }
    if (content->view) {
        TRY(nphdi_mapped_table(&content->mapped, &out->file_table, err));
        out->room = out->file_table.room;
        out->left = nphdi_slot_table_reach(&out->file_table);
        out->overflow = NPHDI_OVERFLOW_LATER;
    } else {
        const nphdi_key_table *table =
            atomic_load_explicit(&content->map.table, memory_order_acquire);
        if (table != NULL) {
            out->memory_table = table->slots;
            out->room = table->room;
            out->left = table->room;
        }
    }
    if (out->room > 0) {
        out->place = nphdi_hash_to_range(hash, out->room);
    }
done:
    return status;
}

static uint64_t next_place(nphdi_probe *probe)
{
    const uint64_t place = probe->place;

    probe->left--;
    probe->place = place + 1 == probe->room ? 0 : place + 1;
    return place;
}

/* Half of what a lookup in memory does, and therefore not nphdi_content_key(). */
static inline bool memory_key_is(const nphdi_content *content, uint32_t slot, const nphd_key *key)
{
    const uint8_t *keys = content->keys.base;

    return content->shape.key_bytes == 8 ? memcmp(keys + 8 * (uint64_t)slot, &key->low, 8) == 0
                                         : memcmp(keys + 16 * (uint64_t)slot, key, 16) == 0;
}

static void next_in_memory(nphdi_probe *probe, uint32_t *out_slot)
{
    const nphdi_content *content = probe->content;

    while (probe->left > 0) {
        const uint32_t slot =
            atomic_load_explicit(&probe->memory_table[next_place(probe)], memory_order_acquire);
        if (slot == NPHDI_TABLE_FREE) {
            probe->left = 0;
            return;
        }
        if (slot == NPHDI_TABLE_DELETED) {
            continue;
        }
        if (memory_key_is(content, slot, &probe->key) && nphdi_content_is_stored(content, slot)) {
            *out_slot = slot;
            return;
        }
    }
}

/* The slot of the next entry of the file's table that may be of the key; false: there is no more.
 */
static bool next_entry(nphdi_probe *probe, uint32_t *out_slot)
{
    const nphdi_slot_table *table = &probe->file_table;

    while (probe->left > 0) {
        const uint32_t entry = nphdi_get32(table->places + 4 * next_place(probe));
        if (entry == NPHDI_SLOT_TABLE_FREE) {
            probe->left = 0;
            probe->overflow = table->overflow_count;
        } else if (nphdi_slot_table_may_be(table->slot_bits, probe->hash, entry)) {
            *out_slot = nphdi_slot_table_slot(table->slot_bits, entry);
            return true;
        }
    }
    if (probe->overflow == NPHDI_OVERFLOW_LATER) {
        probe->overflow = nphdi_slot_overflow_find(table, probe->hash, 0);
    }
    if (probe->overflow >= table->overflow_count ||
        nphdi_slot_overflow_hash(table, probe->overflow) != probe->hash) {
        return false;
    }
    *out_slot = nphdi_slot_overflow_slot(table, probe->overflow++);
    return true;
}

static nphd_status next_in_file(nphdi_probe *probe, uint32_t *out_slot, nphd_error *err)
{
    const nphdi_mapped *mapped = &probe->content->mapped;
    uint32_t slot;
    nphd_key key;

    while (next_entry(probe, &slot)) {
        if (slot >= mapped->head.slots || !nphdi_mapped_key(mapped, slot, &key)) {
            return nphdi_mapped_broken(mapped, slot, err);
        }
        if (nphd_key_compare(key, probe->key) == 0) {
            *out_slot = slot;
            break;
        }
    }
    return NPHD_OK;
}

nphd_status nphdi_probe_next_stored(nphdi_probe *probe, uint32_t *out_slot, nphd_error *err)
{
    *out_slot = UINT32_MAX;
    if (probe->content->view) {
        return next_in_file(probe, out_slot, err);
    }
    next_in_memory(probe, out_slot);
    return NPHD_OK;
}

nphd_status nphdi_probe_next(nphdi_probe *probe, uint32_t *out_slot, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_hidden *hidden = probe->content->hidden;

    do {
        TRY(nphdi_probe_next_stored(probe, out_slot, err));
    } while (hidden != NULL && *out_slot != UINT32_MAX && nphdi_hidden_get(hidden, *out_slot));
done:
    return status;
}

nphd_status nphdi_content_find(nphdi_content *content, nphd_key key, uint32_t *out_slot,
                               nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_probe probe;

    *out_slot = UINT32_MAX;
    TRY(nphdi_probe_begin(content, key, nphdi_content_hash(content, key), &probe, err));
    TRY(nphdi_probe_next(&probe, out_slot, err));
done:
    return status;
}

void nphdi_content_prefetch(const nphdi_content *content, uint64_t hash)
{
    if (content->view) {
        const nphdi_slot_table table = nphdi_mapped_table_now(&content->mapped);
        if (table.room > 0) {
            __builtin_prefetch(table.places + 4 * nphdi_hash_to_range(hash, table.room));
        }
    } else {
        const nphdi_key_table *table =
            atomic_load_explicit(&content->map.table, memory_order_acquire);
        if (table != NULL) {
            const uint8_t *places = table->memory;
            __builtin_prefetch(places + 4 * nphdi_hash_to_range(hash, table->room));
        }
    }
}

/* Fetches the key of the slot that stands where the probe begins, if it may be the one sought. What
 * has to be read for that differs from key to key, so that the processor reads it for several. */
static void prefetch_key(const nphdi_content *content, uint64_t hash)
{
    if (content->view) {
        const nphdi_mapped *mapped = &content->mapped;
        const nphdi_slot_table table = nphdi_mapped_table_now(mapped);
        const uint8_t *node;
        uint32_t level;
        if (table.room == 0) {
            return;
        }
        const uint32_t entry =
            nphdi_get32(table.places + 4 * nphdi_hash_to_range(hash, table.room));
        const uint32_t slot = nphdi_slot_table_slot(table.slot_bits, entry);
        if (nphdi_slot_table_may_be(table.slot_bits, hash, entry) && slot < mapped->head.slots &&
            nphdi_mapped_node(mapped, slot, &node, &level)) {
            __builtin_prefetch(node);
        }
    } else {
        const nphdi_key_table *table =
            atomic_load_explicit(&content->map.table, memory_order_acquire);
        if (table == NULL) {
            return;
        }
        const uint32_t slot = atomic_load_explicit(
            &table->slots[nphdi_hash_to_range(hash, table->room)], memory_order_acquire);
        if (slot < NPHDI_TABLE_DELETED) {
            const uint8_t *keys = content->keys.base;
            __builtin_prefetch(keys + (uint64_t)slot * content->shape.key_bytes);
        }
    }
}

nphd_status nphdi_content_find_many(nphdi_content *content, const nphd_key *keys, size_t count,
                                    uint32_t out_slots[NPHDI_FIND_MOST], nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t hashes[NPHDI_FIND_MOST];
    nphdi_probe probe;

    for (size_t i = 0; i < count; i++) {
        hashes[i] = nphdi_content_hash(content, keys[i]);
        nphdi_content_prefetch(content, hashes[i]);
    }
    for (size_t i = 0; i < count; i++) {
        prefetch_key(content, hashes[i]);
    }
    for (size_t i = 0; i < count; i++) {
        TRY(nphdi_probe_begin(content, keys[i], hashes[i], &probe, err));
        TRY(nphdi_probe_next(&probe, &out_slots[i], err));
    }
done:
    return status;
}
