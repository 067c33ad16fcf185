/* Linear probing from the place that a key's hash gives. Removed keys keep their place taken until
 * the set is rebuilt, unless a free place follows. At most 3/4 of the places are not free, so that
 * every probe ends; a rebuild leaves at most half of them so, and has to be paid for by at least a
 * quarter of the room in adds before the next. */
#include "filters/key_set.h"

#include "base/checked.h"
#include "base/error.h"
#include "base/heap_sort.h"
#include "base/memory.h"
#include "platform/platform.h"

#include <assert.h>
#include <string.h>

enum { PLACE_FREE = 0, PLACE_KEY = 1, PLACE_WAS_KEY = 2 };

#define LEAST_ROOM 16

static uint64_t set_home(const nphdi_key_set *set, nphd_key key)
{
    return nphdi_hash_key_secret(key, 16, &set->secret) & (set->room - 1);
}

static bool same_key(nphd_key a, nphd_key b)
{
    return a.high == b.high && a.low == b.low;
}

/* Whether the key is there, and its place. */
static bool set_find(const nphdi_key_set *set, nphd_key key, uint64_t *out_place)
{
    uint64_t place;

    if (set->count == 0) {
        return false;
    }
    for (place = set_home(set, key); set->taken[place] != PLACE_FREE;
         place = (place + 1) & (set->room - 1)) {
        if (set->taken[place] == PLACE_KEY && same_key(set->places[place], key)) {
            *out_place = place;
            return true;
        }
    }
    return false;
}

static bool set_room_for(uint64_t keys, uint64_t *out_room)
{
    uint64_t room = LEAST_ROOM;

    while (room / 2 < keys) {
        if (!nphdi_checked_mul(room, 2, &room)) {
            return false;
        }
    }
    *out_room = room;
    return true;
}

nphd_status nphdi_key_set_reserve(nphdi_key_set *set, uint64_t more, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_key_set grown = {.allocator = set->allocator, .secret = set->secret};
    uint64_t keys;
    uint64_t place = 0;
    nphd_key key;

    if (set->room != 0 && more <= set->room / 4 * 3 - set->used) {
        return NPHD_OK;
    }
    if (!nphdi_checked_add(set->count, more, &keys) || !set_room_for(keys, &grown.room)) {
        return nphdi_fail(err, NPHD_OUT_OF_MEMORY,
                          "a set of %llu keys and %llu more exceeds memory",
                          (unsigned long long)set->count, (unsigned long long)more);
    }
    if (set->room == 0) {
        nphdi_secret_draw(&grown.secret);
    }
    TRY(nphdi_alloc(set->allocator, grown.room, sizeof(*grown.places), &grown.places, err));
    TRY(nphdi_alloc(set->allocator, grown.room, sizeof(*grown.taken), &grown.taken, err));
    while (nphdi_key_set_next(set, &place, &key)) {
        (void)nphdi_key_set_add(&grown, key);
    }
    nphdi_key_set_release(set);
    *set = grown;
    memset(&grown, 0, sizeof(grown));
done:
    if (status != NPHD_OK) {
        nphdi_key_set_release(&grown);
    }
    return status;
}

bool nphdi_key_set_add(nphdi_key_set *set, nphd_key key)
{
    uint64_t place;

    if (set_find(set, key, &place)) {
        return false;
    }
    assert(set->room != 0);
    for (place = set_home(set, key); set->taken[place] == PLACE_KEY;
         place = (place + 1) & (set->room - 1)) {
    }
    assert(set->taken[place] == PLACE_WAS_KEY || set->used < set->room / 4 * 3);
    set->used += set->taken[place] == PLACE_FREE;
    set->taken[place] = PLACE_KEY;
    set->places[place] = key;
    set->count++;
    return true;
}

bool nphdi_key_set_remove(nphdi_key_set *set, nphd_key key)
{
    const uint64_t mask = set->room - 1;
    uint64_t place;

    if (!set_find(set, key, &place)) {
        return false;
    }
    set->taken[place] = PLACE_WAS_KEY;
    set->count--;
    if (set->taken[(place + 1) & mask] == PLACE_FREE) {
        for (; set->taken[place] == PLACE_WAS_KEY; place = (place - 1) & mask) {
            set->taken[place] = PLACE_FREE;
            set->used--;
        }
    }
    return true;
}

bool nphdi_key_set_has(const nphdi_key_set *set, nphd_key key)
{
    uint64_t place;

    return set_find(set, key, &place);
}

void nphdi_key_set_clear(nphdi_key_set *set)
{
    if (set->room != 0) {
        memset(set->taken, PLACE_FREE, (size_t)set->room);
    }
    set->used = 0;
    set->count = 0;
}

void nphdi_key_set_release(nphdi_key_set *set)
{
    const nphd_allocator *allocator = set->allocator;

    nphdi_free(allocator, set->places, set->room, sizeof(*set->places));
    nphdi_free(allocator, set->taken, set->room, sizeof(*set->taken));
    memset(set, 0, sizeof(*set));
    set->allocator = allocator;
}

/* ---- in order ---- */

static bool keys_less(const void *keys, uint64_t a, uint64_t b)
{
    const nphd_key *at = keys;

    return nphd_key_compare(at[a], at[b]) < 0;
}

static void keys_swap(void *keys, uint64_t a, uint64_t b)
{
    nphd_key *at = keys;
    const nphd_key was = at[a];

    at[a] = at[b];
    at[b] = was;
}

void nphdi_key_set_sorted(const nphdi_key_set *set, nphd_key *out)
{
    uint64_t place = 0;
    uint64_t count = 0;

    while (nphdi_key_set_next(set, &place, &out[count])) {
        count++;
    }
    nphdi_heap_sort(out, count, keys_less, keys_swap);
}

bool nphdi_key_set_next(const nphdi_key_set *set, uint64_t *place, nphd_key *out)
{
    for (; *place < set->room; (*place)++) {
        if (set->taken[*place] == PLACE_KEY) {
            *out = set->places[(*place)++];
            return true;
        }
    }
    return false;
}
