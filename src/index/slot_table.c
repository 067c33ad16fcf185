#include "index/slot_table.h"

void nphdi_slot_table_put(uint8_t *places, uint64_t room, uint32_t slot_bits, uint64_t hash,
                          uint32_t slot)
{
    uint64_t place = nphdi_hash_to_range(hash, room);

    while (nphdi_get32(places + 4 * place) != NPHDI_SLOT_TABLE_FREE) {
        place = place + 1 == room ? 0 : place + 1;
    }
    nphdi_put32(places + 4 * place, nphdi_slot_table_entry(slot_bits, hash, slot));
}
