/* Exact search over planes.
 *
 * A block of vectors is compared in the planes that suffice to turn nearly all of them down; the
 * few that remain are compared whole. Both answers are exact: what differs too much in a part of
 * the shared bits differs too much in all. Several queries go over a block in turn, so that it is
 * read from memory once. */
#include "base/bytes.h"
#include "scan/planes.h"

#include <string.h>

/* 512 vectors of 256 bits take half of a first-level cache. */
#define BLOCK_VECTORS 512
#define WORD_VECTORS 64

/* More survivors than these of 64 are compared plane by plane, fewer one by one. */
#define FEW_SURVIVORS 4

/* Of unrelated vectors 64 p bits of p planes differ by half, with a deviation of 4 sqrt(p). Where
 * the limit lies 2.5 deviations below that, one in 160 passes. */
#define MEAN_PER_PLANE 32
#define SQUARED_MARGIN 100

/* One query against vectors of one length. */
typedef struct planes_pair {
    const nphdi_planes_scan *scan;
    const nphdi_planes_part *part;
    const nphdi_planes_query *query;
    uint32_t shared; /* bytes */
    nphdi_planes_run run;
} planes_pair;

static uint32_t planes_to_begin_with(uint32_t limit, uint32_t planes)
{
    for (uint32_t few = 1; few < planes; few++) {
        const uint32_t mean = MEAN_PER_PLANE * few;

        if (mean > limit && (mean - limit) * (mean - limit) >= SQUARED_MARGIN * few) {
            return few;
        }
    }
    return planes;
}

/* The bits of the last shared word that count, in the order of bytes of the payload. */
static uint64_t last_mask(uint32_t shared)
{
    const uint32_t bytes = shared - 8 * (nphdi_planes_words(shared) - 1);
    uint64_t mask = 0;

    memset(&mask, 0xff, bytes);
    return mask;
}

static planes_pair pair_of(const nphdi_planes_scan *scan, const nphdi_planes_part *part,
                           const nphdi_planes_query *query)
{
    planes_pair pair;

    pair.scan = scan;
    pair.part = part;
    pair.query = query;
    pair.shared = query->bytes < part->length ? query->bytes : part->length;
    pair.run.base = part->words;
    pair.run.stride = (size_t)part->stride;
    pair.run.query = query->words;
    pair.run.planes = nphdi_planes_words(pair.shared);
    pair.run.last_mask = pair.shared == 0 ? 0 : last_mask(pair.shared);
    return pair;
}

/* The survivors at..at+63, compared whole if need be, go to the heap. */
static void offer(const planes_pair *pair, size_t at, uint64_t survivors)
{
    const nphdi_planes_query *query = pair->query;
    uint32_t limit = nphdi_scan_bound(query->best, pair->shared);
    nphdi_scan_match match = {{0, 0}, {0, (uint16_t)pair->shared}, 0};

    for (; survivors != 0; survivors &= survivors - 1) {
        const size_t i = at + (size_t)__builtin_ctzll(survivors);
        const uint32_t differing =
            pair->shared == 0 ? 0 : pair->scan->kernels->planes_count(&pair->run, i);

        if (differing > limit) {
            continue;
        }
        match.bits.differing = (uint16_t)differing;
        match.slot = nphdi_get32(pair->part->slots + 4 * i);
        if (pair->scan->accept(query->context, match.slot, &match.key)) {
            (void)nphdi_scan_add(query->best, &match);
            limit = nphdi_scan_bound(query->best, pair->shared);
        }
    }
}

static bool are_few(uint64_t set)
{
    uint32_t count = 0;

    for (; set != 0 && count <= FEW_SURVIVORS; count++) {
        set &= set - 1;
    }
    return count <= FEW_SURVIVORS;
}

/* Vectors at..at+count-1 in the first planes, and what passes there in all of them. */
static void scan_run(const planes_pair *pair, size_t at, size_t count, uint32_t limit)
{
    const nphdi_kernels *kernels = pair->scan->kernels;
    uint64_t passed[BLOCK_VECTORS / WORD_VECTORS];
    nphdi_planes_run run = pair->run;

    run.base += 8 * at;
    run.planes = planes_to_begin_with(limit, pair->run.planes);
    run.last_mask = run.planes == pair->run.planes ? run.last_mask : ~(uint64_t)0;
    if (kernels->planes_within(&run, count, limit, passed) == 0) {
        return;
    }
    for (size_t i = 0; i < count; i += WORD_VECTORS) {
        uint64_t survivors = passed[i / WORD_VECTORS];

        if (run.planes < pair->run.planes && !are_few(survivors)) {
            const size_t rest = count - i < WORD_VECTORS ? count - i : WORD_VECTORS;
            nphdi_planes_run whole = pair->run;

            whole.base += 8 * (at + i);
            (void)kernels->planes_within(&whole, rest, limit, &survivors);
        }
        offer(pair, at + i, survivors);
    }
}

static void scan_block(const planes_pair *pair, size_t at, size_t count)
{
    while (count > 0) {
        const uint32_t limit = nphdi_scan_bound(pair->query->best, pair->shared);
        /* as long as everything enters, look at the limit again soon */
        const bool all = limit >= 8 * pair->shared;
        const size_t step = all && count > WORD_VECTORS ? WORD_VECTORS : count;

        if (all) {
            offer(pair, at, ~(uint64_t)0 >> (step < WORD_VECTORS ? WORD_VECTORS - step : 0));
        } else {
            scan_run(pair, at, step, limit);
        }
        at += step;
        count -= step;
    }
}

void nphdi_planes_query_set(nphdi_planes_query *query, const nphdi_query *from,
                            nphdi_scan_best *best, void *context)
{
    memset(query, 0, sizeof(*query));
    memcpy(query->words, from->payload, from->bytes);
    query->bytes = from->bytes;
    query->best = best;
    query->context = context;
}

void nphdi_planes_scan_part(const nphdi_planes_scan *scan, const nphdi_planes_part *part)
{
    for (size_t at = 0; at < part->vectors; at += BLOCK_VECTORS) {
        const size_t left = part->vectors - at;

        for (size_t i = 0; i < scan->query_count; i++) {
            const planes_pair pair = pair_of(scan, part, &scan->queries[i]);

            scan_block(&pair, at, left < BLOCK_VECTORS ? left : BLOCK_VECTORS);
        }
    }
}
