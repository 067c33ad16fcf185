/* Multi-index hashing: finds what lies within a small radius without looking at the rest.
 *
 * Vectors are cut into chunks of bits, none across a boundary of 64 bits, and for each chunk there
 * is a table of the slots by the value of that chunk. Two vectors that differ in at most b of the
 * bits they share agree nearly in some shared chunk: where depths d[i] of the shared chunks add up
 * to b + 1, one of them has fewer than d[i] differing bits, by counting. So it is enough to look up
 * the values that differ from the query's in fewer than d[i] bits. A short prefix has fewer chunks
 * and a smaller b; as depths are given from the first chunk on, one set of tables serves all
 * lengths. Source: Norouzi, Punjani and Fleet 2012, see docs/references.md [MIH].
 *
 * The tables are one block of bytes, the same in memory and in a file (docs/format.md section 2.4).
 * Every slot below `covered` is in it, live or not.
 *
 * Threads  any number of searches at once; building is one call. */
#ifndef NPHDI_MIH_H
#define NPHDI_MIH_H

#include "base/memory.h"
#include "kernels/kernels.h"
#include "scan/scan.h"

#include <stdbool.h>
#include <stdint.h>

/* 32 words of up to 4 chunks. */
#define NPHDI_MIH_MOST_TABLES 128
#define NPHDI_MIH_LENGTHS 256

/* Fewer slots are scanned in less time than tables are looked at. */
#define NPHDI_MIH_LEAST_SLOTS 16384

typedef struct nphdi_mih_table {
    const uint8_t *starts; /* u32 for each value and one more: where its slots begin */
    const uint8_t *slots;  /* u32, by value, then ascending */
    uint32_t entries;
    uint32_t word; /* of the vectors that have the chunk */
    uint32_t shift;
    uint32_t bits;
    uint64_t values; /* that so many bits can have */
    uint32_t end;    /* the bit behind it, from the start of the vector */
} nphdi_mih_table;

/* An opened set of tables; zero: there is none. */
typedef struct nphdi_mih {
    const uint8_t *block;
    uint64_t covered;
    uint64_t bytes;                     /* of the block */
    uint32_t counts[NPHDI_MIH_LENGTHS]; /* slots by the length of their vector, in bytes */
    uint32_t lengths;                   /* those from here on have none */
    uint32_t table_count;
    uint8_t tables_of[NPHDI_MIH_LENGTHS]; /* how many of them a vector of this length has */
    nphdi_mih_table tables[NPHDI_MIH_MOST_TABLES];
} nphdi_mih;

/* ---- making ---- */

/* How many chunks a word has where there are so many slots: a value of a chunk should have few of
 * them, and the values few that have none. */
uint32_t nphdi_mih_chunks(uint64_t slots);

/* Size of the block for these rows: `counts` as nphdi_mih_count() finds them. */
uint64_t nphdi_mih_bytes(const uint32_t *counts, uint32_t payload_bytes, uint64_t slots);

void nphdi_mih_count(const nphdi_rows *rows, uint64_t slots, uint32_t *counts);

/* Writes the block into `out`, zeroed and of nphdi_mih_bytes(). `threads` workers take tables. */
void nphdi_mih_build(const nphdi_rows *rows, uint64_t slots, const uint32_t *counts,
                     uint32_t threads, uint8_t *out);

/* false: the block is not that of `slots` rows of at most `payload_bytes`. Looks at the sizes
 * alone; what the tables say is checked as it is used. */
bool nphdi_mih_open(nphdi_mih *mih, const uint8_t *block, uint64_t bytes, uint32_t payload_bytes,
                    uint64_t slots);

/* Compares the tables with the rows. */
bool nphdi_mih_check(const nphdi_mih *mih, const nphdi_rows *rows);

/* ---- planning ---- */

/* Nanoseconds, see scan/costs.h. */
typedef struct nphdi_mih_costs {
    double begin;     /* of a query */
    double probe;     /* looking up a value */
    double candidate; /* comparing a vector found */
} nphdi_mih_costs;

typedef struct nphdi_mih_plan {
    uint8_t depth[NPHDI_MIH_MOST_TABLES]; /* values that differ in fewer bits are looked up */
    bool scanned[NPHDI_MIH_LENGTHS];      /* vectors of this length must be scanned instead */
    bool scans;                           /* there are such */
    uint64_t probes;
    double cost; /* predicted, ns; with the scanning */
} nphdi_mih_plan;

/* Chooses the depths for a query and the limits of `best`, where scanning the vectors of length n
 * would cost scan_ns[n] altogether. */
void nphdi_mih_plan_make(const nphdi_mih *mih, const nphdi_query *query, const uint16_t *limit,
                         const double *scan_ns, const nphdi_mih_costs *costs, nphdi_mih_plan *plan);

/* ---- searching ---- */

/* What a value led to: these of the slots of its table. */
typedef struct nphdi_mih_range {
    uint32_t first;
    uint32_t count;
} nphdi_mih_range;

/* Working memory of one search at a time. Zero-initialise. */
typedef struct nphdi_mih_scratch {
    nphdi_mih_range *ranges;
    uint64_t room;
} nphdi_mih_scratch;

void nphdi_mih_scratch_free(nphdi_mih_scratch *scratch, const nphd_allocator *allocator);

typedef struct nphdi_mih_search {
    const nphdi_mih *mih;
    const nphdi_mih_plan *plan;
    const nphdi_scan_target *target;
    const uint64_t *stale; /* NULL, or a bit for each covered slot that has a new row by now */
    nphdi_mih_scratch *scratch;
    const nphd_allocator *allocator;
    uint64_t candidates;                  /* found by nphdi_mih_look() */
    uint64_t ends[NPHDI_MIH_MOST_TABLES]; /* of the ranges of each table */
} nphdi_mih_search;

/* Looks all values up; then search->candidates is exact, with those that come up twice.
 * NPHD_CORRUPT without a text: the block contradicts itself. */
nphd_status nphdi_mih_look(nphdi_mih_search *search, nphd_error *err);

/* Compares what was found with the query and offers each vector within the limits to `best` once.
 */
nphd_status nphdi_mih_take(nphdi_mih_search *search, nphdi_scan_best *best);

#endif
