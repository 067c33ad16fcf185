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

/* Queries that go over a block in turn. */
#define GROUPED_QUERIES 32

/* Near vectors that wait for being offered, at most. */
#define WAITING 16

#define LINE_BYTES 64

/* Whether a vector may be an answer, and its key, are told by memory that is seldom in the cache.
 * So it is asked about when the query is at the next block. */
typedef struct planes_waiting {
    uint32_t slot;
    uint32_t differing;
} planes_waiting;

/* One query against vectors of one length. */
typedef struct planes_pair {
    const nphdi_planes_scan *scan;
    const nphdi_planes_part *part;
    const nphdi_planes_query *query;
    uint32_t shared;  /* bytes */
    uint32_t limit;   /* most differing bits that may be taken */
    uint32_t changes; /* of the taker that the limit knows */
    uint32_t waiting_count;
    nphdi_planes_run whole;
    nphdi_planes_run first; /* the planes to begin with, which depend on the limit */
    planes_waiting waiting[WAITING];
} planes_pair;

/* The bits of the last shared word that count, in the order of bytes of the payload. */
static uint64_t last_mask(uint32_t shared)
{
    const uint32_t bytes = shared - 8 * (nphdi_planes_words(shared) - 1);
    uint64_t mask = 0;

    memset(&mask, 0xff, bytes);
    return mask;
}

/* What may be taken has changed. */
static void pair_refresh(planes_pair *pair)
{
    nphdi_planes_run *first = &pair->first;

    pair->changes = pair->query->best->changes;
    pair->limit = nphdi_scan_bound(pair->query->best, pair->shared);
    first->planes = nphdi_planes_to_begin_with(pair->limit, pair->whole.planes);
    first->last_mask = first->planes < pair->whole.planes ? ~(uint64_t)0 : pair->whole.last_mask;
}

static void pair_begin(planes_pair *pair, const nphdi_planes_scan *scan,
                       const nphdi_planes_part *part, const nphdi_planes_query *query)
{
    nphdi_planes_run *whole = &pair->whole;

    pair->scan = scan;
    pair->part = part;
    pair->query = query;
    pair->shared = query->bytes < part->length ? query->bytes : part->length;
    whole->base = part->words;
    whole->stride = (size_t)part->stride;
    whole->query = query->words;
    whole->planes = nphdi_planes_words(pair->shared);
    whole->last_mask = pair->shared == 0 ? 0 : last_mask(pair->shared);
    pair->first = *whole;
    pair->waiting_count = 0;
    pair_refresh(pair);
}

/* Those that wait are offered to the taker. */
static void settle(planes_pair *pair)
{
    const nphdi_planes_query *query = pair->query;
    nphdi_scan_match match = {{0, 0}, {0, (uint16_t)pair->shared}, 0, 0};

    if (pair->changes != query->best->changes) { /* by another query that shares it */
        pair_refresh(pair);
    }
    for (uint32_t i = 0; i < pair->waiting_count && !query->best->ended; i++) {
        if (pair->waiting[i].differing > pair->limit) {
            continue;
        }
        match.bits.differing = (uint16_t)pair->waiting[i].differing;
        match.slot = pair->waiting[i].slot;
        if (pair->scan->accept(query->context, &match) && nphdi_scan_add(query->best, &match)) {
            pair_refresh(pair);
        }
    }
    pair->waiting_count = 0;
}

/* The survivors among at..at+63 wait if they are near enough when compared whole. */
static void offer(planes_pair *pair, size_t at, uint64_t survivors)
{
    for (; survivors != 0; survivors &= survivors - 1) {
        const size_t i = at + (size_t)__builtin_ctzll(survivors);
        const uint32_t differing =
            pair->shared == 0 ? 0 : pair->scan->kernels->planes_count(&pair->whole, i);

        if (differing > pair->limit) {
            continue;
        }
        if (pair->waiting_count == WAITING) {
            settle(pair);
        }
        const planes_waiting one = {nphdi_get32(pair->part->slots + 4 * i), differing};
        pair->waiting[pair->waiting_count++] = one;
        if (pair->scan->foresee != NULL) {
            pair->scan->foresee(pair->query->context, one.slot);
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
static void scan_run(planes_pair *pair, size_t at, size_t count)
{
    const nphdi_kernels *kernels = pair->scan->kernels;
    const bool partly = pair->first.planes < pair->whole.planes;
    uint64_t passed[BLOCK_VECTORS / WORD_VECTORS];
    nphdi_planes_run run = pair->first;

    run.base += 8 * at;
    if (kernels->planes_within(&run, count, pair->limit, passed) == 0) {
        return;
    }
    for (size_t i = 0; i < count; i += WORD_VECTORS) {
        uint64_t survivors = passed[i / WORD_VECTORS];

        if (partly && !are_few(survivors)) {
            run = pair->whole;
            run.base += 8 * (at + i);
            (void)kernels->planes_within(&run, count - i < WORD_VECTORS ? count - i : WORD_VECTORS,
                                         pair->limit, &survivors);
        }
        offer(pair, at + i, survivors);
    }
}

static void scan_block(planes_pair *pair, size_t at, size_t count)
{
    const nphdi_scan_best *best = pair->query->best;

    settle(pair);
    /* as long as everything may enter, the limit is looked at again soon */
    while (count > 0 && !best->ended && pair->limit >= 8 * pair->shared) {
        const size_t step = count < WORD_VECTORS ? count : WORD_VECTORS;

        offer(pair, at, ~(uint64_t)0 >> (WORD_VECTORS - step));
        settle(pair);
        at += step;
        count -= step;
    }
    if (count > 0 && !best->ended) {
        scan_run(pair, at, count);
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

static void scan_group(const nphdi_planes_scan *scan, const nphdi_planes_part *part, size_t first,
                       size_t count)
{
    planes_pair pairs[GROUPED_QUERIES];

    for (size_t i = 0; i < count; i++) {
        pair_begin(&pairs[i], scan, part, &scan->queries[first + i]);
    }
    for (size_t at = 0; at < part->vectors; at += BLOCK_VECTORS) {
        const size_t left = part->vectors - at;
        const size_t block = left < BLOCK_VECTORS ? left : BLOCK_VECTORS;

        for (size_t i = 0; i < 4 * block && count > 1; i += LINE_BYTES) {
            __builtin_prefetch(part->slots + 4 * at + i);
        }
        for (size_t i = 0; i < count; i++) {
            scan_block(&pairs[i], at, block);
        }
    }
    for (size_t i = 0; i < count; i++) {
        settle(&pairs[i]);
    }
}

void nphdi_planes_scan_part(const nphdi_planes_scan *scan, const nphdi_planes_part *part)
{
    for (size_t i = 0; i < scan->query_count; i += GROUPED_QUERIES) {
        const size_t rest = scan->query_count - i;

        scan_group(scan, part, i, rest < GROUPED_QUERIES ? rest : GROUPED_QUERIES);
    }
}
