/* Linear probing from the place that a key's hash gives; at most half of the places are taken. */
#include "sharded/journal_last.h"

#include "base/error.h"
#include "base/hash.h"
#include "base/memory.h"

#include <string.h>

#define LEAST_ROOM 64
#define CLEARED_ANYWAY 16 /* clearing is in proportion to what was noted */

/* The place of a key, or a free one for it. There is room. */
static nphdi_last_change *find(const nphdi_last *last, nphd_key key)
{
    uint64_t place = nphdi_hash_key_seeded(key, 16, last->seed) & (last->room - 1);

    while (last->places[place].kind != NPHDI_JOURNAL_UNKNOWN &&
           nphd_key_compare(last->places[place].key, key) != 0) {
        place = (place + 1) & (last->room - 1);
    }
    return &last->places[place];
}

static nphd_status make_room(nphdi_last *last, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_last grown = *last;

    if (last->count < last->room / 2) {
        return NPHD_OK;
    }
    grown.room = last->room == 0 ? LEAST_ROOM : 2 * last->room;
    TRY(nphdi_alloc(last->allocator, grown.room, sizeof(*grown.places), &grown.places, err));
    for (uint64_t i = 0; i < last->room; i++) {
        if (last->places[i].kind != NPHDI_JOURNAL_UNKNOWN) {
            *find(&grown, last->places[i].key) = last->places[i];
        }
    }
    nphdi_last_release(last);
    *last = grown;
done:
    return status;
}

nphd_status nphdi_last_note(nphdi_last *last, nphdi_journal_kind kind, nphd_key key,
                            uint64_t number, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_last_change *place;

    TRY(make_room(last, err));
    place = find(last, key);
    if (place->kind == NPHDI_JOURNAL_UNKNOWN) {
        *place = (nphdi_last_change){key, number, (uint32_t)kind};
        last->count++;
    } else if (kind != NPHDI_JOURNAL_ADD) {
        place->number = number;
        place->kind = (uint32_t)kind;
    } else if (place->kind == NPHDI_JOURNAL_REMOVE) {
        place->number = number;
        place->kind = NPHDI_JOURNAL_REPLACE;
    }
done:
    return status;
}

bool nphdi_last_counts(const nphdi_last *last, nphd_key key, uint64_t number,
                       nphdi_journal_kind *out_kind)
{
    const nphdi_last_change *place;

    if (last->room == 0) {
        return false;
    }
    place = find(last, key);
    *out_kind = (nphdi_journal_kind)place->kind;
    return place->kind != NPHDI_JOURNAL_UNKNOWN && place->number == number;
}

void nphdi_last_clear(nphdi_last *last)
{
    if (last->count < last->room / CLEARED_ANYWAY) {
        /* many resets with little between them are not to cost what the largest stretch did */
        nphdi_last_release(last);
        return;
    }
    if (last->count > 0) {
        memset(last->places, 0, (size_t)last->room * sizeof(*last->places));
    }
    last->count = 0;
}

void nphdi_last_release(nphdi_last *last)
{
    nphdi_free(last->allocator, last->places, last->room, sizeof(*last->places));
    last->places = NULL;
    last->room = 0;
    last->count = 0;
}
