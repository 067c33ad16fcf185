#include "scan/planes.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"
#include "platform/platform.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/* A place is the number of a chunk and a position in it. Chunks of a group grow from few vectors to
 * many, so that rare lengths take little memory. */
#define CHUNK_BITS 12
#define CHUNK_VECTORS (1U << CHUNK_BITS)
#define FIRST_CHUNK_VECTORS 64
#define GROWING_CHUNKS                                                                             \
    7 /* of a group, before all are of the full size, and one that is not full                     \
       */
#define GROUPS 256
#define NO_CHUNK UINT32_MAX

/* Memory is taken in steps that can become huge pages. */
#define COMMIT_STEP (1ULL << 21)

typedef struct chunk {
    uint8_t *slots;
    uint8_t *words;
    uint32_t length;
    uint32_t room; /* vectors */
    uint32_t before;
    uint32_t after; /* in its group */
    _Atomic uint32_t vectors;
} chunk;

struct nphdi_planes {
    const nphd_allocator *allocator;
    uint32_t payload_bytes;
    bool lock_made;
    pthread_mutex_t lock; /* covering */
    nphdi_region chunks;
    nphdi_region places; /* u32 of each slot */
    nphdi_region memory; /* of the chunks */
    uint64_t used_bytes;
    uint32_t last[GROUPS]; /* the chunk of each length that takes the next vector */
    _Atomic uint64_t chunk_count;
    _Atomic uint64_t covered;
    _Atomic uint64_t committed_bytes;
};

/* ---- making and releasing ---- */

nphd_status nphdi_planes_create(uint32_t payload_bytes, uint64_t most_slots,
                                const nphd_allocator *allocator, nphdi_planes **out,
                                nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t slot_bytes = 4 + 8 * (uint64_t)nphdi_planes_words(payload_bytes);
    const uint64_t groups = payload_bytes + 1;
    const uint64_t chunks = most_slots / CHUNK_VECTORS + GROWING_CHUNKS * groups;
    /* a chunk begun takes its whole room: up to twice what was put into its group so far */
    const uint64_t bytes = (most_slots + CHUNK_VECTORS * groups) * slot_bytes + COMMIT_STEP;
    nphdi_planes *planes = NULL;

    *out = NULL;
    TRY(nphdi_alloc(allocator, 1, sizeof(*planes), &planes, err));
    planes->allocator = allocator;
    planes->payload_bytes = payload_bytes;
    if (pthread_mutex_init(&planes->lock, NULL) != 0) {
        status = nphdi_fail(err, NPHD_OUT_OF_MEMORY, "cannot create a lock");
        goto done;
    }
    planes->lock_made = true;
    TRY(nphdi_region_reserve(&planes->chunks, allocator, chunks * sizeof(chunk),
                             chunks * sizeof(chunk), err));
    TRY(nphdi_region_reserve(&planes->places, allocator, most_slots * 4, most_slots * 4, err));
    TRY(nphdi_region_reserve(&planes->memory, allocator, bytes, bytes, err));
    nphdi_planes_clear(planes);
    *out = planes;
    planes = NULL;
done:
    nphdi_planes_close(planes);
    return status;
}

void nphdi_planes_close(nphdi_planes *planes)
{
    if (planes == NULL) {
        return;
    }
    nphdi_region_release(&planes->chunks, planes->allocator);
    nphdi_region_release(&planes->places, planes->allocator);
    nphdi_region_release(&planes->memory, planes->allocator);
    if (planes->lock_made) {
        (void)pthread_mutex_destroy(&planes->lock);
    }
    nphdi_free(planes->allocator, planes, 1, sizeof(*planes));
}

bool nphdi_planes_adopt(nphdi_planes *planes)
{
    return nphdi_mutex_adopt(&planes->lock);
}

void nphdi_planes_clear(nphdi_planes *planes)
{
    for (uint32_t length = 0; length < GROUPS; length++) {
        planes->last[length] = NO_CHUNK;
    }
    planes->used_bytes = 0;
    atomic_store(&planes->chunk_count, 0);
    atomic_store(&planes->covered, 0);
}

uint64_t nphdi_planes_memory(const nphdi_planes *planes)
{
    return planes == NULL ? 0 : sizeof(*planes) + atomic_load(&planes->committed_bytes);
}

/* ---- entries ---- */

static chunk *chunk_at(const nphdi_planes *planes, uint32_t number)
{
    return (chunk *)(void *)planes->chunks.base + number;
}

static uint32_t *places(const nphdi_planes *planes)
{
    return (uint32_t *)(void *)planes->places.base;
}

/* The stored length, which a foreign file may put beyond the payload. */
static uint32_t row_length(const nphdi_planes *planes, const nphdi_rows *rows, const uint8_t *row)
{
    if (rows->prefix_bytes == 0 || row[0] > planes->payload_bytes) {
        return planes->payload_bytes;
    }
    return row[0];
}

static uint8_t *word_at(const chunk *in, uint32_t plane, uint32_t at)
{
    return in->words + 8 * ((uint64_t)plane * in->room + at);
}

static void write_entry(nphdi_planes *planes, uint32_t number, uint32_t at, uint32_t slot,
                        const uint8_t *payload)
{
    const chunk *in = chunk_at(planes, number);
    uint32_t left = in->length;

    nphdi_put32(in->slots + 4 * (size_t)at, slot);
    for (uint32_t plane = 0; left > 0; plane++) {
        const uint32_t bytes = left < 8 ? left : 8;
        uint64_t word = 0;

        memcpy(&word, payload + 8 * (size_t)plane, bytes);
        memcpy(word_at(in, plane, at), &word, sizeof(word));
        left -= bytes;
    }
    places(planes)[slot] = number << CHUNK_BITS | at;
}

static nphd_status commit(nphdi_planes *planes, nphdi_region *region, uint64_t bytes,
                          nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t wanted = bytes;

    if (bytes <= region->committed_bytes) {
        return NPHD_OK;
    }
    if (bytes > COMMIT_STEP / 4) {
        wanted = (bytes / COMMIT_STEP + 1) * COMMIT_STEP;
        wanted = wanted < region->reserved_bytes ? wanted : region->reserved_bytes;
    }
    const uint64_t before = region->committed_bytes;
    TRY(nphdi_region_commit(region, planes->allocator, wanted < bytes ? bytes : wanted, err));
    (void)atomic_fetch_add(&planes->committed_bytes, region->committed_bytes - before);
done:
    return status;
}

/* A new chunk behind the last one of the group, or NULL if there is no memory. */
static nphd_status begin_chunk(nphdi_planes *planes, uint32_t length, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint32_t number = (uint32_t)atomic_load(&planes->chunk_count);
    const uint32_t before = planes->last[length];
    uint32_t room = before == NO_CHUNK ? FIRST_CHUNK_VECTORS : 2 * chunk_at(planes, before)->room;
    chunk *made;

    room = room < CHUNK_VECTORS ? room : CHUNK_VECTORS;
    const uint64_t bytes = room * (4 + 8 * (uint64_t)nphdi_planes_words(length));
    TRY(commit(planes, &planes->chunks, (number + 1) * sizeof(chunk), err));
    TRY(commit(planes, &planes->memory, planes->used_bytes + bytes, err));
    made = chunk_at(planes, number);
    made->slots = planes->memory.base + planes->used_bytes;
    made->words = made->slots + 4 * (size_t)room;
    made->length = length;
    made->room = room;
    made->before = before;
    made->after = NO_CHUNK;
    atomic_store_explicit(&made->vectors, 0, memory_order_relaxed);
    planes->used_bytes += bytes;
    planes->last[length] = number;
    if (before != NO_CHUNK) {
        chunk_at(planes, before)->after = number;
    }
    atomic_store_explicit(&planes->chunk_count, (uint64_t)number + 1, memory_order_release);
done:
    return status;
}

static nphd_status append(nphdi_planes *planes, const nphdi_rows *rows, uint32_t slot,
                          nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint8_t *row = rows->base + slot * rows->stride;
    const uint32_t length = row_length(planes, rows, row);
    uint32_t number = planes->last[length];
    chunk *in = number == NO_CHUNK ? NULL : chunk_at(planes, number);

    if (in == NULL || atomic_load(&in->vectors) == in->room) {
        if (in != NULL && in->after != NO_CHUNK) {
            planes->last[length] = in->after; /* emptied before */
        } else {
            TRY(begin_chunk(planes, length, err));
        }
        number = planes->last[length];
        in = chunk_at(planes, number);
    }
    const uint32_t at = atomic_load_explicit(&in->vectors, memory_order_relaxed);
    write_entry(planes, number, at, slot, row + rows->prefix_bytes);
    /* a scan beside this looks at what is counted */
    atomic_store_explicit(&in->vectors, at + 1, memory_order_release);
done:
    return status;
}

/* Fills the place with the last entry of its group. */
static void take_out(nphdi_planes *planes, uint32_t place)
{
    const uint32_t to_at = place & (CHUNK_VECTORS - 1);
    const chunk *to = chunk_at(planes, place >> CHUNK_BITS);
    const uint32_t last = planes->last[to->length];
    chunk *from = chunk_at(planes, last);
    const uint32_t from_at = atomic_load(&from->vectors) - 1;

    if (from != to || from_at != to_at) {
        const uint8_t *moved = from->slots + 4 * (size_t)from_at;

        memcpy(to->slots + 4 * (size_t)to_at, moved, 4);
        for (uint32_t plane = 0; plane < nphdi_planes_words(to->length); plane++) {
            memcpy(word_at(to, plane, to_at), word_at(from, plane, from_at), 8);
        }
        places(planes)[nphdi_get32(moved)] = place;
    }
    atomic_store(&from->vectors, from_at);
    if (from_at == 0 && from->before != NO_CHUNK) {
        planes->last[to->length] = from->before;
    }
}

/* ---- following the rows ---- */

nphd_status nphdi_planes_cover(nphdi_planes *planes, const nphdi_rows *rows, uint64_t slots,
                               nphd_error *err)
{
    nphd_status status = NPHD_OK;

    if (nphdi_planes_covered(planes) >= slots) {
        return NPHD_OK;
    }
    (void)pthread_mutex_lock(&planes->lock);
    uint64_t covered = nphdi_planes_covered(planes);
    TRY(commit(planes, &planes->places, slots * 4, err));
    for (; covered < slots; covered++) {
        TRY(append(planes, rows, (uint32_t)covered, err));
    }
done:
    atomic_store_explicit(&planes->covered, covered, memory_order_release);
    (void)pthread_mutex_unlock(&planes->lock);
    return status;
}

uint64_t nphdi_planes_covered(const nphdi_planes *planes)
{
    return atomic_load_explicit(&planes->covered, memory_order_acquire);
}

void nphdi_planes_replace(nphdi_planes *planes, const nphdi_rows *rows, uint32_t slot)
{
    const uint8_t *row = rows->base + slot * rows->stride;

    if (slot >= nphdi_planes_covered(planes)) {
        return;
    }
    const uint32_t place = places(planes)[slot];
    const chunk *in = chunk_at(planes, place >> CHUNK_BITS);
    if (in->length == row_length(planes, rows, row)) {
        write_entry(planes, place >> CHUNK_BITS, place & (CHUNK_VECTORS - 1), slot,
                    row + rows->prefix_bytes);
        return;
    }
    take_out(planes, place);
    if (append(planes, rows, slot, NULL) != NPHD_OK) {
        nphdi_planes_clear(planes);
    }
}

uint64_t nphdi_planes_parts(const nphdi_planes *planes)
{
    return atomic_load_explicit(&planes->chunk_count, memory_order_acquire);
}

nphdi_planes_part nphdi_planes_part_at(const nphdi_planes *planes, uint64_t number)
{
    const chunk *from = chunk_at(planes, (uint32_t)number);
    const nphdi_planes_part part = {from->slots, from->words, from->room, from->length,
                                    atomic_load_explicit(&from->vectors, memory_order_acquire)};

    return part;
}
