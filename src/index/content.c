#include "index/content.h"

#include "base/bytes.h"
#include "base/error.h"

#include <string.h>

static _Atomic uint64_t *bit_words(const nphdi_region *region)
{
    return (_Atomic uint64_t *)(void *)region->base;
}

static bool bit_get(const nphdi_region *region, uint32_t slot)
{
    const uint64_t word = atomic_load_explicit(&bit_words(region)[slot / 64], memory_order_acquire);

    return (word >> (slot % 64) & 1) != 0;
}

static void bit_set(const nphdi_region *region, uint32_t slot)
{
    (void)atomic_fetch_or_explicit(&bit_words(region)[slot / 64], 1ULL << (slot % 64),
                                   memory_order_release);
}

static void bit_clear(const nphdi_region *region, uint32_t slot)
{
    (void)atomic_fetch_and_explicit(&bit_words(region)[slot / 64], ~(1ULL << (slot % 64)),
                                    memory_order_release);
}

static nphd_key memory_key(const void *context, uint32_t slot)
{
    const nphdi_content *content = context;
    const uint8_t *keys = content->keys.base;
    nphd_key key = {0, 0};

    if (content->shape.key_bytes == 8) {
        memcpy(&key.low, keys + 8 * (uint64_t)slot, 8);
    } else {
        memcpy(&key, keys + 16 * (uint64_t)slot, 16);
    }
    return key;
}

static void release_regions(nphdi_content *content)
{
    nphdi_region_release(&content->rows, content->allocator);
    nphdi_region_release(&content->keys, content->allocator);
    nphdi_region_release(&content->live, content->allocator);
    nphdi_used_slots_release(&content->used, content->allocator);
    nphdi_graph_release(&content->graph);
}

nphd_status nphdi_content_create(const nphdi_shape *shape, bool view,
                                 const nphd_allocator *allocator, nphdi_content **out,
                                 nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_content *content = NULL;

    *out = NULL;
    TRY(nphdi_alloc(allocator, 1, sizeof(*content), &content, err));
    content->allocator = allocator;
    content->kernels = nphdi_kernels_get();
    content->shape = *shape;
    content->view = view;
    content->row_bytes = shape->prefix_bytes + shape->payload_bytes;
    content->map.allocator = allocator;
    if (!view) {
        nphdi_secret_draw(&content->map.secret);
    }
    if (pthread_mutex_init(&content->slot_lock, NULL) != 0) {
        status = nphdi_fail(err, NPHD_OUT_OF_MEMORY, "cannot create a lock");
        goto done;
    }
    content->slot_lock_made = true;
    if (!view) {
        TRY(nphdi_graph_init(&content->graph, allocator, shape->connectivity,
                             shape->connectivity_base, err));
    }
    *out = content;
    content = NULL;
done:
    nphdi_content_close(content);
    return status;
}

void nphdi_content_close(nphdi_content *content)
{
    if (content == NULL) {
        return;
    }
    nphdi_mapped_close(&content->mapped);
    release_regions(content);
    nphdi_planes_close(atomic_load(&content->planes));
    nphdi_content_mih_set(content, NULL);
    nphdi_key_map_release(&content->map);
    if (content->slot_lock_made) {
        (void)pthread_mutex_destroy(&content->slot_lock);
    }
    nphdi_free(content->allocator, content, 1, sizeof(*content));
}

static uint64_t live_bytes(uint64_t slots)
{
    return (slots + 63) / 64 * 8;
}

static nphd_status check_slots(uint64_t slots, nphd_error *err)
{
    return slots <= NPHDI_MAX_SLOTS
               ? NPHD_OK
               : nphdi_fail(err, NPHD_FULL, "an index holds at most %llu vectors",
                            (unsigned long long)NPHDI_MAX_SLOTS);
}

/* In place, or moving. */
typedef nphd_status (*make_room)(nphdi_region *region, const nphd_allocator *allocator,
                                 uint64_t bytes, nphd_error *err);

static nphd_status make_all(nphdi_content *content, uint64_t slots, make_room make, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_allocator *allocator = content->allocator;

    TRY(check_slots(slots, err));
    TRY(make(&content->rows, allocator, slots * content->row_bytes, err));
    TRY(make(&content->keys, allocator, slots * content->shape.key_bytes, err));
    TRY(make(&content->live, allocator, live_bytes(slots), err));
    TRY(nphdi_used_slots_reserve(&content->used, allocator, slots, err));
done:
    return status;
}

nphd_status nphdi_content_commit(nphdi_content *content, uint64_t slots, uint64_t upper_lists,
                                 nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(make_all(content, slots, nphdi_region_commit, err));
    TRY(nphdi_graph_commit(&content->graph, slots, upper_lists, err));
done:
    return status;
}

nphd_status nphdi_content_reserve(nphdi_content *content, uint64_t slots, uint64_t upper_lists,
                                  nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t reserved = content->rows.reserved_bytes;

    status = make_all(content, slots, nphdi_region_grow, err);
    if (content->rows.reserved_bytes != reserved) {
        /* planes have places for as many slots as the rows had; searches make them anew */
        nphdi_planes_close(atomic_load(&content->planes));
        atomic_store(&content->planes, NULL);
    }
    TRY(status);
    TRY(nphdi_graph_reserve(&content->graph, slots, upper_lists, err));
done:
    return status;
}

bool nphdi_content_has(const nphdi_content *content, uint64_t slots, uint64_t upper_lists)
{
    return slots <= NPHDI_MAX_SLOTS && slots * content->row_bytes <= content->rows.reserved_bytes &&
           slots * content->shape.key_bytes <= content->keys.reserved_bytes &&
           live_bytes(slots) <= content->live.reserved_bytes &&
           nphdi_graph_has(&content->graph, slots, upper_lists);
}

uint64_t nphdi_content_capacity(const nphdi_content *content)
{
    const uint64_t rows = content->rows.committed_bytes / content->row_bytes;
    const uint64_t keys = content->keys.committed_bytes / content->shape.key_bytes;
    const uint64_t lists =
        content->graph.base_lists.committed_bytes / (4 * (1 + content->shape.connectivity_base));
    uint64_t capacity = rows < keys ? rows : keys;

    if (content->view) {
        return content->mapped.head.slots;
    }
    capacity = lists < capacity ? lists : capacity;
    return content->live.committed_bytes * 8 < capacity ? content->live.committed_bytes * 8
                                                        : capacity;
}

uint64_t nphdi_content_memory(const nphdi_content *content)
{
    return sizeof(*content) + content->rows.committed_bytes + content->keys.committed_bytes +
           content->live.committed_bytes + nphdi_used_slots_bytes(&content->used) +
           content->graph.base_lists.committed_bytes + content->graph.levels.committed_bytes +
           content->graph.upper_index.committed_bytes + content->graph.upper_lists.committed_bytes +
           content->graph.reused.committed_bytes + nphdi_key_map_bytes(&content->map) +
           nphdi_planes_memory(atomic_load(&content->planes)) + nphdi_content_mih_memory(content) +
           nphdi_mapped_derived_bytes(&content->mapped) +
           content->graph.lock_count * sizeof(nphdi_spinlock);
}

/* ---- slots ---- */

uint64_t nphdi_content_free_slots(const nphdi_content *content)
{
    return atomic_load_explicit(&content->slots, memory_order_relaxed) - content->used_count;
}

/* The next free slot at or after the cursor, going round; one must exist. */
static uint32_t find_free(const nphdi_content *content, uint64_t slots)
{
    const uint64_t found = content->free_cursor < slots
                               ? nphdi_used_slots_next_free(&content->used, content->free_cursor)
                               : slots;

    return (uint32_t)(found < slots ? found : nphdi_used_slots_next_free(&content->used, 0));
}

uint32_t nphdi_content_take_slot(nphdi_content *content, bool *out_reused)
{
    const uint64_t slots = atomic_load_explicit(&content->slots, memory_order_relaxed);
    uint32_t slot;

    *out_reused = content->used_count < slots;
    if (*out_reused) {
        slot = find_free(content, slots);
        content->free_cursor = (uint64_t)slot + 1;
    } else {
        slot = (uint32_t)slots;
        nphdi_graph_place(&content->graph, slot,
                          nphdi_graph_random_level(slot, content->shape.connectivity));
    }
    nphdi_used_slots_set(&content->used, slot);
    content->used_count++;
    return slot;
}

void nphdi_content_give_back(nphdi_content *content, uint32_t slot)
{
    nphdi_used_slots_clear(&content->used, slot);
    content->used_count--;
}

/* ---- one slot ---- */

static void put_key(nphdi_content *content, uint32_t slot, nphd_key key)
{
    if (content->shape.key_bytes == 8) {
        memcpy(content->keys.base + 8 * (uint64_t)slot, &key.low, 8);
    } else {
        memcpy(content->keys.base + 16 * (uint64_t)slot, &key, 16);
    }
}

void nphdi_content_put(nphdi_content *content, uint32_t slot, nphd_key key, nphd_vector vector)
{
    uint8_t *row = content->rows.base + slot * content->row_bytes;

    if (content->shape.prefix_bytes != 0) {
        *row++ = (uint8_t)vector.bytes;
    }
    memcpy(row, vector.data, vector.bytes);
    memset(row + vector.bytes, 0, content->shape.payload_bytes - vector.bytes);
    put_key(content, slot, key);
    if (slot == atomic_load_explicit(&content->slots, memory_order_relaxed)) {
        /* a scan looks at every slot that is counted, so the row comes first */
        atomic_store_explicit(&content->slots, (uint64_t)slot + 1, memory_order_release);
        return;
    }
    if (atomic_load(&content->planes) != NULL) {
        const nphdi_rows rows = nphdi_content_rows(content);
        nphdi_planes_replace(atomic_load(&content->planes), &rows, slot);
    }
    nphdi_content_mih_changed(content, slot);
}

bool nphdi_content_adopt(nphdi_content *content, uint32_t slot, nphd_key key)
{
    if (nphdi_is_free_key(key, content->shape.key_bytes)) {
        return false;
    }
    put_key(content, slot, key);
    nphdi_used_slots_set(&content->used, slot);
    bit_set(&content->live, slot);
    content->used_count++;
    return true;
}

static uint64_t slot_hash(const nphdi_content *content, uint32_t slot)
{
    return nphdi_key_map_hash(&content->map, memory_key(content, slot), content->shape.key_bytes);
}

void nphdi_content_publish(nphdi_content *content, uint32_t slot)
{
    bit_set(&content->live, slot);
    nphdi_key_map_insert(&content->map, slot_hash(content, slot), slot);
    (void)atomic_fetch_add_explicit(&content->live_count, 1, memory_order_relaxed);
}

void nphdi_content_withdraw(nphdi_content *content, uint32_t slot)
{
    nphdi_key_map_replace(&content->map, slot_hash(content, slot), slot, NPHDI_TABLE_DELETED);
    bit_clear(&content->live, slot);
    (void)atomic_fetch_sub_explicit(&content->live_count, 1, memory_order_relaxed);
    nphdi_content_give_back(content, slot);
}

void nphdi_content_supersede(nphdi_content *content, uint32_t from, uint32_t to)
{
    bit_set(&content->live, to);
    nphdi_key_map_replace(&content->map, slot_hash(content, from), from, to);
    bit_clear(&content->live, from);
    nphdi_content_give_back(content, from);
}

void nphdi_content_rekey(nphdi_content *content, uint32_t slot, nphd_key key)
{
    nphdi_key_map_replace(&content->map, slot_hash(content, slot), slot, NPHDI_TABLE_DELETED);
    put_key(content, slot, key);
    nphdi_key_map_insert(&content->map, slot_hash(content, slot), slot);
}

void nphdi_content_clear(nphdi_content *content)
{
    const uint64_t slots = atomic_load(&content->slots);

    if (slots > 0) {
        memset(content->live.base, 0, live_bytes(slots));
    }
    nphdi_used_slots_clear_all(&content->used);
    nphdi_graph_clear(&content->graph, slots);
    nphdi_key_map_release(&content->map);
    if (atomic_load(&content->planes) != NULL) {
        nphdi_planes_clear(atomic_load(&content->planes));
    }
    nphdi_content_mih_set(content, NULL);
    atomic_store(&content->slots, 0);
    atomic_store(&content->live_count, 0);
    content->used_count = 0;
    content->free_cursor = 0;
    content->hidden = NULL;
    atomic_store(&content->unit, NPHD_UNIT_NONE);
}

nphd_status nphdi_content_reserve_map(nphdi_content *content, uint64_t more, nphd_error *err)
{
    return nphdi_key_map_reserve(&content->map, more, content->shape.key_bytes, memory_key, content,
                                 err);
}

/* ---- reading ---- */

nphdi_rows nphdi_content_rows(const nphdi_content *content)
{
    const nphdi_rows rows = {content->view ? content->mapped.base + content->mapped.head.rows_offset
                                           : content->rows.base,
                             content->row_bytes, content->shape.payload_bytes,
                             content->shape.prefix_bytes};

    return rows;
}

uint64_t nphdi_content_slots(const nphdi_content *content)
{
    return content->view ? content->mapped.head.slots
                         : atomic_load_explicit(&content->slots, memory_order_acquire);
}

bool nphdi_content_is_stored(const nphdi_content *content, uint32_t slot)
{
    return content->view ? nphdi_mapped_is_live(&content->mapped, slot)
                         : bit_get(&content->live, slot);
}

bool nphdi_content_is_live(const nphdi_content *content, uint32_t slot)
{
    return nphdi_content_is_stored(content, slot) &&
           (content->hidden == NULL || !nphdi_hidden_get(content->hidden, slot));
}

bool nphdi_content_key(const nphdi_content *content, uint32_t slot, nphd_key *out)
{
    if (content->view) {
        return nphdi_mapped_key(&content->mapped, slot, out);
    }
    *out = memory_key(content, slot);
    return true;
}

nphdi_graph_reader nphdi_content_reader(const nphdi_content *content)
{
    return content->view ? nphdi_mapped_reader(&content->mapped)
                         : nphdi_graph_reader_of(&content->graph, nphdi_content_slots(content));
}

nphd_status nphdi_content_stored(nphdi_content *content, uint64_t *out, nphd_error *err)
{
    if (content->view) {
        return nphdi_mapped_live(&content->mapped, out, err);
    }
    *out = atomic_load_explicit(&content->live_count, memory_order_relaxed);
    return NPHD_OK;
}

nphd_status nphdi_content_size(nphdi_content *content, uint64_t *out, nphd_error *err)
{
    const nphd_status status = nphdi_content_stored(content, out, err);
    uint64_t hidden = 0;

    if (content->hidden != NULL) {
        hidden = atomic_load_explicit(&content->hidden->count, memory_order_relaxed);
    }
    *out -= hidden < *out ? hidden : *out;
    return status;
}

nphd_vector nphdi_content_vector(const nphdi_content *content, uint32_t slot)
{
    const nphdi_rows rows = nphdi_content_rows(content);
    const nphdi_query query = nphdi_rows_query(&rows, slot);
    const nphd_vector vector = {query.payload, query.bytes};

    return vector;
}

const char *nphdi_content_name(const nphdi_content *content)
{
    return content->view && content->mapped.name != NULL ? content->mapped.name : "index";
}
