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
 * Most of what is found agrees in that chunk by chance, and comparing it costs a miss of the cache.
 * So the value of a second chunk stands beside each slot: the next one of its word, after the last
 * the first. By the same counting there is a word that differs in fewer bits than the depths of its
 * chunks add up to; and going round in it, there is a chunk from which on this holds at every step:
 * the one after the farthest that the sum of what differs was ahead of that of the depths. So only
 * those count that differ, in the chunk and the next one together, in fewer bits than their two
 * depths; one in some hundred does. Source: Qin and Xiao 2018, see docs/references.md [RING].
 * Where vectors end inside of a word, not all of its chunks are shared, and what is found there is
 * compared as it is.
 *
 * The tables are one block of bytes, the same in memory and in a file (docs/format.md section 2.4).
 * Every slot below `covered` is in it, live or not.
 *
 * Threads  any number of searches at once; building is one call. */
#ifndef NPHDI_MIH_H
#define NPHDI_MIH_H

#include "base/memory.h"
#include "base/watch.h"
#include "kernels/kernels.h"
#include "scan/scan.h"

#include <stdbool.h>
#include <stdint.h>

/* 32 words of up to 4 chunks. */
#define NPHDI_MIH_MOST_TABLES 128
#define NPHDI_MIH_LENGTHS 256

/* Fewer slots are scanned in less time than tables are looked at. */
#define NPHDI_MIH_LEAST_SLOTS 16384

/* What there are of tables: the default, and what older files have. */
typedef struct nphdi_mih_form {
    uint32_t chunks; /* of a word, 3 or 4 */
    bool beside;     /* with the value of the next chunk beside each slot; 4 chunks */
} nphdi_mih_form;

typedef struct nphdi_mih_table {
    const uint8_t *starts; /* u32 for each value and one more: where its slots begin */
    const uint8_t *slots;  /* u32, by value, then ascending */
    const uint8_t
        *beside;   /* u16 for each of them: the value of chunk `next`. NULL: there is none */
    uint32_t next; /* chunk; that of the table of the same number */
    uint32_t entries;
    uint32_t word; /* of the vectors that have the chunk */
    uint32_t shift;
    uint32_t bits;
    uint64_t values; /* that so many bits can have */
    double average;  /* entries of a value */
    uint32_t end;    /* the bit behind it, from the start of the vector */
    bool whole;      /* no vector ends inside of its word */
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

/* What is made today. By bench_mih, also of 10 million vectors: fewer chunks have fewer slots for a
 * value, but reading a hundred in a row takes less time than looking up ten times as many values.
 */
static const nphdi_mih_form nphdi_mih_form_new = {4, true};

/* Size of the block for these rows: `counts` as nphdi_mih_count() finds them. */
uint64_t nphdi_mih_bytes(const uint32_t *counts, uint32_t payload_bytes, nphdi_mih_form form);

void nphdi_mih_count(const nphdi_rows *rows, uint64_t slots, uint32_t *counts);

/* Writes the block into `out`, zeroed and of nphdi_mih_bytes(). `threads` workers take tables, the
 * calling thread asks. Only NPHD_CANCELLED is an error. */
nphd_status nphdi_mih_build(const nphdi_rows *rows, uint64_t slots, const uint32_t *counts,
                            nphdi_mih_form form, uint32_t threads, const nphdi_watch *watch,
                            uint8_t *out, nphd_error *err);

/* false: the block is not that of `slots` rows of at most `payload_bytes`. Looks at the sizes
 * alone; what the tables say is checked as it is used. */
bool nphdi_mih_open(nphdi_mih *mih, const uint8_t *block, uint64_t bytes, uint32_t payload_bytes,
                    uint64_t slots);

/* Compares the tables with the rows: NPHD_CORRUPT, without a text, if they do not fit. */
nphd_status nphdi_mih_check(const nphdi_mih *mih, const nphdi_rows *rows, const nphdi_watch *watch,
                            nphd_error *err);

/* ---- planning ---- */

/* Nanoseconds, see scan/costs.h. */
typedef struct nphdi_mih_costs {
    double begin;     /* of a query */
    double probe;     /* looking up a value */
    double beside;    /* sifting a slot by the value beside it */
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

/* Working memory of one search at a time. Zero-initialise. */
typedef struct nphdi_mih_scratch {
    nphdi_sift_run *runs; /* of the slots of a table: what a value led to */
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
    uint64_t candidates;                  /* found by nphdi_mih_look(), to be compared */
    uint64_t sifted;                      /* found there, to be sifted first */
    uint64_t compared;                    /* by nphdi_mih_take() */
    uint64_t ends[NPHDI_MIH_MOST_TABLES]; /* of the runs of each table */
} nphdi_mih_search;

/* Looks all values up; then search->candidates and search->sifted are exact, with those that come
 * up twice. NPHD_CORRUPT without a text: the block contradicts itself. */
nphd_status nphdi_mih_look(nphdi_mih_search *search, nphd_error *err);

/* Compares what was found with the query and offers each vector within the limits to `best` once.
 */
nphd_status nphdi_mih_take(nphdi_mih_search *search, nphdi_scan_best *best);

/* Of two vectors that share so many bytes: do the depths of one lead to the other by a table before
 * this one? */
bool nphdi_mih_finds_before(const nphdi_mih *mih, const uint8_t *depth, const nphdi_query *query,
                            const nphdi_query *row, uint32_t shared, uint32_t table);

#endif
