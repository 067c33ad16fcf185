#include "filters/group_filter.h"

_Static_assert(NPHDI_GROUP_FILTER_LINE_BYTES == 32 * 2, "a row number of 5 bits for rows of 16");

void nphdi_group_filter_add(uint8_t *filter, uint64_t lines, uint32_t shard, uint64_t hash)
{
    uint8_t *line = filter + nphdi_hash_to_range(hash, lines) * NPHDI_GROUP_FILTER_LINE_BYTES;
    const uint8_t bit = (uint8_t)(1U << (shard % 8));

    for (uint32_t i = 0; i < NPHDI_GROUP_FILTER_ROWS; i++) {
        line[nphdi_group_filter_row(hash, i) + shard / 8] |= bit;
    }
}
