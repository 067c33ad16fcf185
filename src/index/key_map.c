#include "index/key_map.h"

#include "base/error.h"
#include "base/memory.h"

#include <string.h>

static void table_free(const nphd_allocator *allocator, nphdi_key_table *table)
{
    if (table != NULL) {
        nphdi_free(allocator, table->memory, table->room, sizeof(uint32_t));
        nphdi_free(allocator, table, 1, sizeof(*table));
    }
}

static nphd_status table_create(const nphd_allocator *allocator, uint64_t room,
                                nphdi_key_table **out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_key_table *table = NULL;

    *out = NULL;
    TRY(nphdi_alloc(allocator, 1, sizeof(*table), &table, err));
    table->room = room;
    TRY(nphdi_alloc(allocator, room, sizeof(uint32_t), &table->memory, err));
    table->slots = table->memory;
    memset(table->memory, 0xFF, room * sizeof(uint32_t));
    *out = table;
    table = NULL;
done:
    table_free(allocator, table);
    return status;
}

static void table_insert(nphdi_key_table *table, uint64_t hash, uint32_t slot)
{
    uint64_t place = nphdi_hash_to_range(hash, table->room);

    while (atomic_load_explicit(&table->slots[place], memory_order_relaxed) != NPHDI_TABLE_FREE) {
        place = place + 1 == table->room ? 0 : place + 1;
    }
    atomic_store_explicit(&table->slots[place], slot, memory_order_release);
}

nphd_status nphdi_key_map_reserve(nphdi_key_map *map, uint64_t more, uint32_t key_bytes,
                                  nphdi_slot_key slot_key, const void *context, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_key_table *old = atomic_load_explicit(&map->table, memory_order_relaxed);
    nphdi_key_table *table = NULL;
    uint64_t wanted = map->live + more;

    if (old != NULL && nphdi_key_table_room(map->used + more) <= old->room) {
        return NPHD_OK;
    }
    /* a table that grows step by step doubles; one for a known number of keys fits them */
    if (old != NULL && wanted < 2 * map->live) {
        wanted = 2 * map->live;
    }
    TRY(table_create(map->allocator, nphdi_key_table_room(wanted < 12 ? 12 : wanted), &table, err));
    for (uint64_t i = 0; old != NULL && i < old->room; i++) {
        const uint32_t slot = atomic_load_explicit(&old->slots[i], memory_order_relaxed);
        if (slot < NPHDI_TABLE_DELETED) {
            table_insert(table, nphdi_key_map_hash(map, slot_key(context, slot), key_bytes), slot);
        }
    }
    table->older = old;
    map->used = map->live;
    atomic_store_explicit(&map->table, table, memory_order_release);
done:
    return status;
}

void nphdi_key_map_insert(nphdi_key_map *map, uint64_t hash, uint32_t slot)
{
    table_insert(atomic_load_explicit(&map->table, memory_order_relaxed), hash, slot);
    map->used++;
    map->live++;
}

void nphdi_key_map_replace(nphdi_key_map *map, uint64_t hash, uint32_t slot, uint32_t to)
{
    nphdi_key_table *table = atomic_load_explicit(&map->table, memory_order_relaxed);
    uint64_t place = nphdi_hash_to_range(hash, table->room);

    while (atomic_load_explicit(&table->slots[place], memory_order_relaxed) != slot) {
        place = place + 1 == table->room ? 0 : place + 1;
    }
    atomic_store_explicit(&table->slots[place], to, memory_order_release);
    if (to == NPHDI_TABLE_DELETED) {
        map->live--;
    }
}

void nphdi_key_map_sweep(nphdi_key_map *map)
{
    nphdi_key_table *table = atomic_load_explicit(&map->table, memory_order_relaxed);

    while (table != NULL && table->older != NULL) {
        nphdi_key_table *older = table->older;
        table->older = older->older;
        table_free(map->allocator, older);
    }
}

uint64_t nphdi_key_map_bytes(const nphdi_key_map *map)
{
    const nphdi_key_table *table = atomic_load_explicit(&map->table, memory_order_acquire);
    uint64_t bytes = 0;

    for (; table != NULL; table = table->older) {
        bytes += sizeof(*table) + table->room * sizeof(uint32_t);
    }
    return bytes;
}

void nphdi_key_map_release(nphdi_key_map *map)
{
    nphdi_key_map_sweep(map);
    table_free(map->allocator, atomic_load_explicit(&map->table, memory_order_relaxed));
    atomic_store_explicit(&map->table, NULL, memory_order_relaxed);
    map->used = 0;
    map->live = 0;
}
