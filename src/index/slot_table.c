#include "index/slot_table.h"

#include <string.h>

void nphdi_slot_table_fill_begin(nphdi_slot_table_filler *filler, uint8_t *places, uint64_t room,
                                 uint32_t slot_bits)
{
    filler->places = places;
    filler->room = room;
    filler->slot_bits = slot_bits;
    filler->waiting = 0;
    if (room > 0) {
        memset(places, 0xFF, (size_t)room * 4);
    }
}

void nphdi_slot_table_fill_end(nphdi_slot_table_filler *filler)
{
    for (uint32_t i = 0; i < filler->waiting; i++) {
        uint64_t place = nphdi_hash_to_range(filler->hashes[i], filler->room);
        while (nphdi_get32(filler->places + 4 * place) != NPHDI_SLOT_TABLE_FREE) {
            place = place + 1 == filler->room ? 0 : place + 1;
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
        nphdi_slot_table_fill_end(filler);
    }
}
