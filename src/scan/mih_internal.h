/* What planning a query by tables and searching for it share. */
#ifndef NPHDI_MIH_INTERNAL_H
#define NPHDI_MIH_INTERNAL_H

#include "base/bytes.h"
#include "scan/mih.h"

/* The chunk of a vector that has it. */
static inline uint32_t nphdi_mih_value(const nphdi_query *of, const nphdi_mih_table *table)
{
    const uint32_t at = 8 * table->word;
    const uint32_t rest = of->bytes - at;
    uint8_t bytes[8] = {0};
    uint64_t word;

    if (rest >= 8) {
        word = nphdi_get64(of->payload + at);
    } else {
        memcpy(bytes, of->payload + at, rest);
        word = nphdi_get64(bytes);
    }
    return (uint32_t)(word >> table->shift) & (uint32_t)(table->values - 1);
}

/* Is what this query finds in the table sifted by the values beside it? The whole word of its chunk
 * must be shared. */
static inline bool nphdi_mih_sifts(const nphdi_mih_table *table, const nphdi_query *query)
{
    return table->beside != NULL && table->whole && query->bytes >= 8 * (table->word + 1);
}

/* The least number of bits that differ in two chunks that are too many. `depth`: of each table. */
static inline uint32_t nphdi_mih_too_many(const uint8_t *depth, const nphdi_mih_table *table,
                                          uint32_t number)
{
    return (uint32_t)depth[number] + depth[table->next];
}

/* The bits of a value of so many bits that are the next ones with as many set, or one of more bits
 * if there are none. */
static inline uint64_t nphdi_mih_next_mask(uint64_t mask, uint64_t beyond)
{
    const uint64_t lowest = mask & (0 - mask);
    const uint64_t carried = mask + lowest;

    return mask == 0 ? beyond : carried | ((mask ^ carried) >> (2 + __builtin_ctzll(lowest)));
}

#endif
