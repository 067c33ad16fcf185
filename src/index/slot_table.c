#include "index/slot_table.h"

#include "base/error.h"
#include "base/heap_sort.h"
#include "base/memory.h"

#include <string.h>

#define OVERFLOW_LEAST 1024 /* entries of the first piece of memory for an overflow */

/* ---- looking ---- */

/* Does the entry come before this hash and slot? */
static bool comes_before(const nphdi_slot_table *table, uint32_t number, uint64_t hash,
                         uint32_t slot)
{
    const uint64_t found = nphdi_slot_overflow_hash(table, number);

    return found < hash || (found == hash && nphdi_slot_overflow_slot(table, number) < slot);
}

uint32_t nphdi_slot_overflow_find(const nphdi_slot_table *table, uint64_t hash, uint32_t slot)
{
    uint32_t first = 0;
    uint32_t count = table->overflow_count;

    while (count > 0) {
        const uint32_t half = count / 2;
        if (comes_before(table, first + half, hash, slot)) {
            first += half + 1;
            count -= half + 1;
        } else {
            count = half;
        }
    }
    return first;
}

/* ---- making ---- */

nphd_status nphdi_slot_table_fill_begin(nphdi_slot_table_filler *filler,
                                        const nphd_allocator *allocator, uint64_t room,
                                        uint32_t slot_bits, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    memset(filler, 0, sizeof(*filler));
    filler->allocator = allocator;
    TRY(nphdi_alloc(allocator, room, 4, &filler->places, err));
    filler->room = room;
    filler->slot_bits = slot_bits;
    if (room > 0) {
        memset(filler->places, 0xFF, (size_t)room * 4);
    }
done:
    return status;
}

static bool overflow_grow(nphdi_slot_table_filler *filler)
{
    const uint64_t room = filler->overflow_room == 0 ? OVERFLOW_LEAST : 2 * filler->overflow_room;
    uint8_t *grown = NULL;

    if (nphdi_alloc(filler->allocator, room, NPHDI_SLOT_OVERFLOW_BYTES, &grown, NULL) != NPHD_OK) {
        filler->out_of_memory = true;
        return false;
    }
    if (filler->overflow_count > 0) {
        memcpy(grown, filler->overflow, filler->overflow_count * NPHDI_SLOT_OVERFLOW_BYTES);
    }
    nphdi_free(filler->allocator, filler->overflow, filler->overflow_room,
               NPHDI_SLOT_OVERFLOW_BYTES);
    filler->overflow = grown;
    filler->overflow_room = room;
    return true;
}

static void put_overflow(nphdi_slot_table_filler *filler, uint64_t hash, uint32_t slot)
{
    uint8_t *entry;

    if (filler->overflow_count == filler->overflow_room && !overflow_grow(filler)) {
        return;
    }
    entry = filler->overflow + filler->overflow_count++ * NPHDI_SLOT_OVERFLOW_BYTES;
    nphdi_put64(entry, hash);
    nphdi_put32(entry + 8, slot);
}

static void put_waiting(nphdi_slot_table_filler *filler)
{
    const uint64_t reach =
        filler->room < NPHDI_SLOT_TABLE_REACH ? filler->room : NPHDI_SLOT_TABLE_REACH;

    for (uint32_t i = 0; i < filler->waiting; i++) {
        uint64_t place = nphdi_hash_to_range(filler->hashes[i], filler->room);
        uint64_t left = reach;
        while (left > 0 && nphdi_get32(filler->places + 4 * place) != NPHDI_SLOT_TABLE_FREE) {
            place = place + 1 == filler->room ? 0 : place + 1;
            left--;
        }
        if (left == 0) {
            put_overflow(filler, filler->hashes[i], filler->slots[i]);
            continue;
        }
        nphdi_put32(filler->places + 4 * place,
                    nphdi_slot_table_entry(filler->slot_bits, filler->hashes[i], filler->slots[i]));
    }
    filler->waiting = 0;
}

void nphdi_slot_table_put(nphdi_slot_table_filler *filler, uint64_t hash, uint32_t slot)
{
    __builtin_prefetch(filler->places + 4 * nphdi_hash_to_range(hash, filler->room), 1);
    filler->hashes[filler->waiting] = hash;
    filler->slots[filler->waiting++] = slot;
    if (filler->waiting == NPHDI_SLOT_TABLE_QUEUE) {
        put_waiting(filler);
    }
}

static bool overflow_less(const void *entries, uint64_t a, uint64_t b)
{
    const uint8_t *left = (const uint8_t *)entries + a * NPHDI_SLOT_OVERFLOW_BYTES;
    const uint8_t *right = (const uint8_t *)entries + b * NPHDI_SLOT_OVERFLOW_BYTES;
    const uint64_t left_hash = nphdi_get64(left);
    const uint64_t right_hash = nphdi_get64(right);

    return left_hash < right_hash ||
           (left_hash == right_hash && nphdi_get32(left + 8) < nphdi_get32(right + 8));
}

static void overflow_swap(void *entries, uint64_t a, uint64_t b)
{
    uint8_t *left = (uint8_t *)entries + a * NPHDI_SLOT_OVERFLOW_BYTES;
    uint8_t *right = (uint8_t *)entries + b * NPHDI_SLOT_OVERFLOW_BYTES;
    uint8_t was[NPHDI_SLOT_OVERFLOW_BYTES];

    memcpy(was, left, sizeof(was));
    memcpy(left, right, sizeof(was));
    memcpy(right, was, sizeof(was));
}

nphd_status nphdi_slot_table_fill_end(nphdi_slot_table_filler *filler, nphdi_slot_table *out,
                                      nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t count;
    uint8_t *overflow = NULL;

    memset(out, 0, sizeof(*out));
    put_waiting(filler);
    count = filler->overflow_count;
    if (filler->out_of_memory) {
        return nphdi_fail(err, NPHD_OUT_OF_MEMORY, "no memory for a key table");
    }
    /* of its very size, by which it is freed */
    TRY(nphdi_alloc(filler->allocator, count, NPHDI_SLOT_OVERFLOW_BYTES, &overflow, err));
    if (count > 0) {
        memcpy(overflow, filler->overflow, count * NPHDI_SLOT_OVERFLOW_BYTES);
        nphdi_heap_sort(overflow, count, overflow_less, overflow_swap);
    }
    out->places = filler->places;
    out->room = filler->room;
    out->slot_bits = filler->slot_bits;
    out->overflow = overflow;
    out->overflow_count = (uint32_t)count;
    filler->places = NULL;
    filler->room = 0;
    nphdi_slot_table_fill_release(filler);
done:
    return status;
}

void nphdi_slot_table_fill_release(nphdi_slot_table_filler *filler)
{
    nphdi_free(filler->allocator, filler->places, filler->room, 4);
    nphdi_free(filler->allocator, filler->overflow, filler->overflow_room,
               NPHDI_SLOT_OVERFLOW_BYTES);
    memset(filler, 0, sizeof(*filler));
}

void nphdi_slot_table_release(const nphd_allocator *allocator, nphdi_slot_table *table)
{
    nphdi_free(allocator, (void *)(uintptr_t)table->places, table->room, 4);
    nphdi_free(allocator, (void *)(uintptr_t)table->overflow, table->overflow_count,
               NPHDI_SLOT_OVERFLOW_BYTES);
    memset(table, 0, sizeof(*table));
}
