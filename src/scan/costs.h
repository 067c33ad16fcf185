/* What work costs, in nanoseconds on one core: what the choice between scanning, tables and the
 * graph rests on. Measured by bench_plan on a server processor of 2023 with AVX-512, of which other
 * programs took a part: the least times of forced scans and tables over 200,000 and a million
 * vectors, compared with words, values and vectors looked at. What matters is where scans and
 * tables take the same time, and there the constants fit best. As a choice looks at ratios, other
 * machines differ less than their speeds do.
 * Constants and not a measurement at the start of a program, so that the same question to the same
 * index is answered in the same way every time. */
#ifndef NPHDI_COSTS_H
#define NPHDI_COSTS_H

#include "scan/mih.h"
#include "scan/planes.h"

/* A query by tables, a value looked up there, a slot sifted, and a vector found and compared: a
 * value and a vector are a miss or two of the cache each, of which some ten are under way at once.
 */
static const nphdi_mih_costs nphdi_costs_mih = {2500, 14, 0.4, 12};
/* The same while tables and rows stay in the cache. */
static const nphdi_mih_costs nphdi_costs_mih_near = {2000, 10, 0.4, 10};
#define NPHDI_COST_MIH_NEAR_BYTES ((uint64_t)32 << 20)

/* A word of a vector in planes, from memory and from the cache, if comparing it costs no more. */
#define NPHDI_COST_WORD_FAR 0.15
#define NPHDI_COST_WORD_NEAR 0.045
/* Planes up to these bytes stay in the cache from query to query. */
#define NPHDI_COST_NEAR_BYTES ((uint64_t)16 << 20)
/* What a vector of a plane costs at least, however few words decide. */
#define NPHDI_COST_VECTOR 0.1

/* More than anything costs. */
#define NPHDI_COST_NEVER 1e300

/* A walk along the graph, for each candidate of its breadth. */
#define NPHDI_COST_BREADTH 550

/* A word of a vector where planes of so many bytes are scanned for `queries` queries at once. */
static inline double nphdi_cost_word(const nphdi_kernels *kernels, uint64_t bytes, uint64_t queries)
{
    const double fetched = queries > 1                      ? 0
                           : bytes <= NPHDI_COST_NEAR_BYTES ? NPHDI_COST_WORD_NEAR
                                                            : NPHDI_COST_WORD_FAR;

    return fetched > kernels->word_ns ? fetched : kernels->word_ns;
}

/* Scanning the planes of `vectors` vectors that share `shared` bytes with the query, where so many
 * bits may differ; `word` is one of the costs above. */
static inline double nphdi_cost_planes(uint64_t vectors, uint32_t shared, uint32_t limit,
                                       double word)
{
    const uint32_t words =
        shared == 0 ? 0 : nphdi_planes_to_begin_with(limit, nphdi_planes_words(shared));

    return (double)vectors * (NPHDI_COST_VECTOR + words * word);
}

#endif
