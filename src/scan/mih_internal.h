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

/* The least number of bits that differ in two chunks that are too many. */
static inline uint32_t nphdi_mih_too_many(const nphdi_mih_plan *plan, const nphdi_mih_table *table,
                                          uint32_t number)
{
    return (uint32_t)plan->depth[number] + plan->depth[table->next];
}

#endif
