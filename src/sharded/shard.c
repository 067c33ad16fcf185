/* One shard, and looking keys up in all sealed ones. */
#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "filters/group_filter.h"
#include "sharded/sharded_internal.h"

#include <string.h>

/* Filters, and key tables of shards alone, that are asked for from memory at once: about as many
 * as a core keeps requests under way (bench_sharded, contains). And the shards that these can name.
 */
#define GROUPS_AT_ONCE 32
#define SHARDS_AT_ONCE (GROUPS_AT_ONCE * NPHDI_GROUP_FILTER_SHARDS)

nphd_status nphdi_shard_create(const nphd_sharded *sharded, uint32_t number, nphdi_shard **out,
                               nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_shard *shard = NULL;

    *out = NULL;
    TRY(nphdi_alloc(sharded->allocator, 1, sizeof(*shard), &shard, err));
    shard->allocator = sharded->allocator;
    shard->number = number;
    shard->first_number = number;
    TRY(nphdi_shard_path(sharded->allocator, sharded->path, number, &shard->path, &shard->path_room,
                         err));
    *out = shard;
    shard = NULL;
done:
    nphdi_shard_close(shard);
    return status;
}

void nphdi_shard_close(nphdi_shard *shard)
{
    if (shard == NULL) {
        return;
    }
    nphd_index_close(shard->index);
    nphdi_hidden_release(&shard->hidden);
    nphdi_free(shard->allocator, shard->path, shard->path_room, 1);
    nphdi_free(shard->allocator, shard, 1, sizeof(*shard));
}

const char *nphdi_shard_name(const nphdi_shard *shard)
{
    return strrchr(shard->path, '/') + 1;
}

nphd_status nphdi_shard_map(const nphd_sharded *sharded, const nphdi_shard *shard, nphd_index **out,
                            nphd_error *err)
{
    nphd_open_options options = NPHD_OPEN_OPTIONS_INIT;

    options.max_bits = sharded->parameters.max_bits;
    options.key_bits = sharded->parameters.key_bits;
    options.metric = sharded->parameters.metric;
    options.multi = sharded->parameters.multi ? 2 : 1;
    options.allocator = sharded->allocator;
    options.io = sharded->io;
    return nphdi_index_view_shard(shard->path, &options, out, err);
}

nphd_status nphdi_shard_prepare_hiding(nphdi_shard *shard, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    if (shard->hidden.words == NULL) {
        TRY(nphdi_hidden_create(&shard->hidden, shard->allocator, nphdi_index_slots(shard->index),
                                err));
        nphdi_index_set_hidden(shard->index, &shard->hidden);
    }
done:
    return status;
}

uint64_t nphdi_shard_dead(const nphdi_shard *shard)
{
    return shard->hidden.words == NULL
               ? 0
               : atomic_load_explicit(&shard->hidden.count, memory_order_relaxed);
}

uint64_t nphdi_first_from(const void *list, uint64_t count, uint64_t number,
                          uint64_t (*number_at)(const void *list, uint64_t place))
{
    uint64_t low = 0;
    uint64_t high = count;

    while (low < high) {
        const uint64_t middle = low + (high - low) / 2;
        if (number_at(list, middle) < number) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static uint64_t sealed_number_at(const void *list, uint64_t place)
{
    nphdi_shard *const *sealed = list;

    return sealed[place]->number;
}

uint64_t nphdi_sealed_from(const nphd_sharded *sharded, uint64_t number)
{
    return nphdi_first_from(sharded->sealed, sharded->sealed_count, number, sealed_number_at);
}

nphdi_shard *nphdi_sealed_numbered(const nphd_sharded *sharded, uint32_t number)
{
    const uint64_t place = nphdi_sealed_from(sharded, number);

    return place < sharded->sealed_count && sharded->sealed[place]->number == number
               ? sharded->sealed[place]
               : NULL;
}

nphd_status nphdi_sealed_reserve(nphd_sharded *sharded, uint64_t more, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t wanted = sharded->sealed_count + more;
    uint64_t room = sharded->sealed_room == 0 ? 16 : sharded->sealed_room;
    nphdi_shard **sealed = NULL;
    nphdi_slot_table *tables = NULL;
    nphdi_group *groups = NULL;

    if (wanted <= sharded->sealed_room) {
        return NPHD_OK;
    }
    while (room < wanted) {
        room *= 2;
    }
    TRY(nphdi_alloc(sharded->allocator, room, sizeof(nphdi_shard *), &sealed, err));
    TRY(nphdi_alloc(sharded->allocator, room, sizeof(*tables), &tables, err));
    TRY(nphdi_alloc(sharded->allocator, room, sizeof(*groups), &groups, err));
    if (sharded->sealed_count > 0) {
        memcpy(sealed, sharded->sealed, sharded->sealed_count * sizeof(nphdi_shard *));
        memcpy(tables, sharded->tables, sharded->sealed_count * sizeof(*tables));
        memcpy(groups, sharded->groups, sharded->group_count * sizeof(*groups));
    }
    const uint64_t group_count = sharded->group_count;
    nphdi_sealed_release(sharded);
    sharded->sealed = sealed;
    sharded->tables = tables;
    sharded->groups = groups;
    sharded->group_count = group_count;
    sharded->sealed_room = room;
    sealed = NULL;
    tables = NULL;
    groups = NULL;
done:
    nphdi_free(sharded->allocator, sealed, room, sizeof(nphdi_shard *));
    nphdi_free(sharded->allocator, tables, room, sizeof(*tables));
    nphdi_free(sharded->allocator, groups, room, sizeof(*groups));
    return status;
}

void nphdi_sealed_release(nphd_sharded *sharded)
{
    nphdi_free(sharded->allocator, sharded->sealed, sharded->sealed_room, sizeof(nphdi_shard *));
    nphdi_free(sharded->allocator, sharded->tables, sharded->sealed_room, sizeof(*sharded->tables));
    nphdi_free(sharded->allocator, sharded->groups, sharded->sealed_room, sizeof(*sharded->groups));
    sharded->sealed = NULL;
    sharded->tables = NULL;
    sharded->groups = NULL;
    sharded->group_count = 0;
    sharded->sealed_room = 0;
}

void nphdi_sealed_refresh(nphd_sharded *sharded)
{
    for (uint64_t i = 0; i < sharded->sealed_count; i++) {
        nphdi_index_slot_table(sharded->sealed[i]->index, &sharded->tables[i]);
    }
    nphdi_groups_refresh(sharded);
}

bool nphdi_sharded_maybe(const nphd_sharded *sharded, nphd_key key)
{
    return sharded->bloom == NULL || nphdi_bloom_maybe(sharded->bloom, key);
}

/* Can the key be stored at all? What cannot has no place in the key tables. */
static bool key_fits(const nphd_sharded *sharded, nphd_key key)
{
    return (sharded->key_bytes == 16 || key.high == 0) &&
           !nphdi_is_free_key(key, sharded->key_bytes);
}

/* Can the table have an entry of the key with this hash, whose probe begins at `place` with the
 * entry `first`? An answer without a look at any node; the table of a damaged file may be full and
 * still not have it. */
static bool table_may_have(const nphdi_slot_table *table, uint64_t hash, uint64_t place,
                           uint32_t first)
{
    uint32_t entry = first;

    for (uint64_t left = nphdi_slot_table_reach(table); left > 0; left--) {
        if (entry == NPHDI_SLOT_TABLE_FREE) {
            return false;
        }
        if (nphdi_slot_table_may_be(table->slot_bits, hash, entry)) {
            return true;
        }
        place = place + 1 == table->room ? 0 : place + 1;
        entry = nphdi_get32(table->places + 4 * place);
    }
    return nphdi_slot_overflow_has(table, hash);
}

/* The shards of groups begin..end-1 (at most GROUPS_AT_ONCE) that may have the key, by their
 * filters; ascending. The lines are all loaded before one is looked at, so that the cache misses
 * overlap; software prefetches of pages that miss the TLB would be dropped. */
static uint32_t ask_groups(const nphd_sharded *sharded, uint64_t begin, uint64_t end, uint64_t hash,
                           uint64_t out[SHARDS_AT_ONCE])
{
    uint32_t masks[GROUPS_AT_ONCE];
    uint32_t count = 0;

    for (uint64_t i = begin; i < end; i++) {
        const nphdi_group *group = &sharded->groups[i];
        masks[i - begin] =
            group->filter != NULL ? nphdi_group_filter_ask(group->filter, group->lines, hash) : 1;
    }
    for (uint64_t i = begin; i < end; i++) {
        for (uint32_t mask = masks[i - begin]; mask != 0; mask &= mask - 1) {
            out[count++] = sharded->groups[i].first + (uint32_t)__builtin_ctz(mask);
        }
    }
    return count;
}

/* Keeps those of some shards that may have the key by their key tables, whose first entries are
 * likewise loaded all at once. */
static uint32_t ask_tables(const nphd_sharded *sharded, uint64_t hash,
                           uint64_t shards[SHARDS_AT_ONCE], uint32_t count)
{
    uint32_t entries[SHARDS_AT_ONCE];
    uint32_t kept = 0;

    for (uint32_t i = 0; i < count; i++) {
        const nphdi_slot_table *table = &sharded->tables[shards[i]];
        entries[i] = table->places != NULL && table->room > 0
                         ? nphdi_get32(table->places + 4 * nphdi_hash_to_range(hash, table->room))
                         : NPHDI_SLOT_TABLE_FREE;
    }
    for (uint32_t i = 0; i < count; i++) {
        const nphdi_slot_table *table = &sharded->tables[shards[i]];
        if (table->places == NULL ||
            table_may_have(table, hash, nphdi_hash_to_range(hash, table->room), entries[i])) {
            shards[kept++] = shards[i];
        }
    }
    return kept;
}

/* Which shards of groups begin..end-1 may have the key; ascending. */
static uint32_t shards_that_may(const nphd_sharded *sharded, uint64_t begin, uint64_t end,
                                uint64_t hash, uint64_t out[SHARDS_AT_ONCE])
{
    return ask_tables(sharded, hash, out, ask_groups(sharded, begin, end, hash, out));
}

nphd_status nphdi_sealed_find(const nphd_sharded *sharded, nphd_key key, nphdi_shard **out_shard,
                              uint32_t *out_slot, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t shards[SHARDS_AT_ONCE];
    uint64_t hash;

    *out_shard = NULL;
    *out_slot = UINT32_MAX;
    if (sharded->sealed_count == 0 || !key_fits(sharded, key)) {
        return NPHD_OK;
    }
    hash = nphdi_hash_key(key, sharded->key_bytes);
    /* newest first: what was written last is asked for most */
    for (uint64_t end = sharded->group_count; end > 0;) {
        const uint64_t begin = end < GROUPS_AT_ONCE ? 0 : end - GROUPS_AT_ONCE;
        for (uint32_t i = shards_that_may(sharded, begin, end, hash, shards); i > 0; i--) {
            nphdi_shard *shard = sharded->sealed[shards[i - 1]];
            uint32_t slot;
            bool hidden;
            TRY(nphdi_index_find_stored(shard->index, key, hash, &slot, &hidden, err));
            if (slot != UINT32_MAX && !hidden) {
                *out_shard = shard;
                *out_slot = slot;
                return NPHD_OK;
            }
        }
        end = begin;
    }
done:
    return status;
}

nphd_status nphdi_sealed_entries(const nphd_sharded *sharded, nphd_key key,
                                 nphd_status (*visit)(void *context, nphdi_shard *shard,
                                                      uint32_t slot, bool hidden, nphd_error *err),
                                 void *context, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t shards[SHARDS_AT_ONCE];
    uint64_t hash;

    if (sharded->sealed_count == 0 || !key_fits(sharded, key)) {
        return NPHD_OK;
    }
    hash = nphdi_hash_key(key, sharded->key_bytes);
    for (uint64_t begin = 0; begin < sharded->group_count; begin += GROUPS_AT_ONCE) {
        const uint64_t rest = sharded->group_count - begin;
        const uint64_t end = rest < GROUPS_AT_ONCE ? sharded->group_count : begin + GROUPS_AT_ONCE;
        const uint32_t count = shards_that_may(sharded, begin, end, hash, shards);
        for (uint32_t i = 0; i < count; i++) {
            nphdi_shard *shard = sharded->sealed[shards[i]];
            uint32_t slot;
            bool hidden;
            TRY(nphdi_index_find_stored(shard->index, key, hash, &slot, &hidden, err));
            if (slot != UINT32_MAX) {
                TRY(visit(context, shard, slot, hidden, err));
            }
        }
    }
done:
    return status;
}

nphd_status nphdi_sealed_replaceable(const nphd_sharded *sharded, nphd_key key,
                                     nphd_status (*visit)(void *context, nphdi_shard *shard,
                                                          uint32_t slot, bool hidden,
                                                          nphd_error *err),
                                     void *context, nphd_error *err)
{
    return nphdi_sharded_maybe(sharded, key)
               ? nphdi_sealed_entries(sharded, key, visit, context, err)
               : NPHD_OK;
}

/* What a pass over the entries of keys is for. */
typedef struct preparation {
    bool make; /* else it only looks */
    bool needed;
    uint64_t found;
} preparation;

static nphd_status prepare_entry(void *context, nphdi_shard *shard, uint32_t slot, bool hidden,
                                 nphd_error *err)
{
    preparation *of = context;

    (void)slot;
    of->found++;
    of->needed = of->needed || (!hidden && shard->hidden.words == NULL);
    return of->make && !hidden ? nphdi_shard_prepare_hiding(shard, err) : NPHD_OK;
}

static nphd_status prepare_keys(const nphd_sharded *sharded, const nphd_key *keys, size_t count,
                                preparation *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    for (size_t i = 0; i < count && status == NPHD_OK; i++) {
        status = nphdi_sealed_replaceable(sharded, keys[i], prepare_entry, of, err);
    }
    return status;
}

/* The rotation thread may put a view in a shard's place at any time, so that even looking needs the
 * lock; readers are kept out only the first time that a shard gets a hidden entry. */
nphd_status nphdi_sealed_prepare(nphd_sharded *sharded, const nphd_key *keys, size_t count,
                                 uint64_t *out_found, nphd_error *err)
{
    preparation look = {false, false, 0};
    preparation make = {true, false, 0};
    nphd_status status;

    nphdi_rwlock_read(&sharded->state_lock);
    status = prepare_keys(sharded, keys, count, &look, err);
    nphdi_rwlock_read_end(&sharded->state_lock);
    if (status == NPHD_OK && look.needed) {
        nphdi_rwlock_write(&sharded->state_lock);
        status = prepare_keys(sharded, keys, count, &make, err);
        nphdi_rwlock_write_end(&sharded->state_lock);
    }
    *out_found = look.found;
    return status;
}

uint64_t nphdi_sharded_count_visible(const nphd_sharded *sharded)
{
    uint64_t visible = nphd_index_size(sharded->active);

    for (uint64_t i = 0; i < sharded->sealed_count; i++) {
        visible += nphdi_shard_visible(sharded->sealed[i]);
    }
    return visible;
}
