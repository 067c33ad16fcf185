/* Rows once more, turned for exact search: grouped by length, and in a group word by word.
 *
 * Vectors of one length lie in chunks; a chunk holds their slots and then plane after plane, the
 * first 8 bytes of all, the second ones of all, and so on, the last padded with zeros. A scan reads
 * the first planes in sequence and later ones only where a vector can still be an answer.
 *
 * Every slot below `covered` has exactly one entry, whether it is live or not: what may be an
 * answer is asked when it is near enough, as in a scan over rows. Memory never moves.
 *
 * Threads  cover, covered, part and memory: any number at once. replace, clear, close: nobody else.
 */
#ifndef NPHDI_PLANES_H
#define NPHDI_PLANES_H

#include "kernels/kernels.h"
#include "scan/scan.h"

#include <nphd/allocator.h>
#include <nphd/status.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct nphdi_planes nphdi_planes;

/* Vectors of one length. */
typedef struct nphdi_planes_part {
    const uint8_t *slots; /* u32, little-endian */
    const uint8_t *words;
    uint64_t stride; /* vectors from plane to plane */
    uint32_t length; /* bytes, 0..255 */
    uint32_t vectors;
} nphdi_planes_part;

/* One query of a scan. Zero-initialise, then nphdi_planes_query_set(). */
typedef struct nphdi_planes_query {
    uint64_t words[NPHDI_PLANE_WORDS];
    uint32_t bytes;
    nphdi_scan_best *best; /* may be that of other queries of the scan, too */
    void *context;         /* of accept */
} nphdi_planes_query;

/* What several queries share. */
typedef struct nphdi_planes_scan {
    const nphdi_kernels *kernels;
    nphdi_scan_accept accept;
    nphdi_planes_query *queries;
    size_t query_count;
    /* NULL, or told some time before `accept` is asked about the slot, with the same context, so
     * that what that looks at can be on its way to the cache. */
    void (*foresee)(void *context, uint32_t slot);
} nphdi_planes_scan;

/* ---- the store ---- */

/* Empty, for rows of at most `payload_bytes` and up to `most_slots` slots. */
nphd_status nphdi_planes_create(uint32_t payload_bytes, uint64_t most_slots,
                                const nphd_allocator *allocator, nphdi_planes **out,
                                nphd_error *err);
void nphdi_planes_close(nphdi_planes *planes); /* takes NULL */
/* In a child process, whose copy of the lock may be held by a thread that does not exist there.
 * false: it was, and the planes are not whole. */
bool nphdi_planes_adopt(nphdi_planes *planes);

/* Enters the rows of slots below `slots` that have no entry yet. On failure those before the one
 * that found no memory are entered. */
nphd_status nphdi_planes_cover(nphdi_planes *planes, const nphdi_rows *rows, uint64_t slots,
                               nphd_error *err);
uint64_t nphdi_planes_covered(const nphdi_planes *planes);

/* The row of a slot has changed. Without memory for that everything is forgotten, so that the next
 * cover begins anew. */
void nphdi_planes_replace(nphdi_planes *planes, const nphdi_rows *rows, uint32_t slot);
/* Forgets everything and keeps the memory. */
void nphdi_planes_clear(nphdi_planes *planes);

/* Parts in which all covered slots are; later ones may come in beside a scan. */
uint64_t nphdi_planes_parts(const nphdi_planes *planes);
nphdi_planes_part nphdi_planes_part_at(const nphdi_planes *planes, uint64_t number);

uint64_t nphdi_planes_memory(const nphdi_planes *planes); /* takes NULL */

/* ---- scanning ---- */

void nphdi_planes_query_set(nphdi_planes_query *query, const nphdi_query *from,
                            nphdi_scan_best *best, void *context);

/* Compares each query with each vector of the part. */
void nphdi_planes_scan_part(const nphdi_planes_scan *scan, const nphdi_planes_part *part);

/* Words of a vector of `length` bytes. */
static inline uint32_t nphdi_planes_words(uint32_t length)
{
    return (length + 7) / 8;
}

/* Of unrelated vectors 64 p bits of p planes differ by half, with a deviation of 4 sqrt(p). Where
 * the limit lies 2.5 deviations below that, one in 160 passes. */
#define NPHDI_PLANE_MEAN 32
#define NPHDI_PLANES_SQUARED_MARGIN 100

/* Planes that decide on nearly all of the vectors where so many bits may differ. */
static inline uint32_t nphdi_planes_to_begin_with(uint32_t limit, uint32_t planes)
{
    for (uint32_t few = 1; few < planes; few++) {
        const uint32_t mean = NPHDI_PLANE_MEAN * few;

        if (mean > limit && (mean - limit) * (mean - limit) >= NPHDI_PLANES_SQUARED_MARGIN * few) {
            return few;
        }
    }
    return planes;
}

#endif
