#include "scan/scan.h"

/* Rows compared per kernel call: their results (4 KiB) stay in the first-level cache. */
#define SCAN_BLOCK 1024

int nphdi_scan_compare(const nphdi_scan_match *a, const nphdi_scan_match *b)
{
    int order = nphdi_scan_compare_bits(a->bits, b->bits);

    order = order != 0 ? order : nphd_key_compare(a->key, b->key);
    return order != 0 ? order : (a->variant > b->variant) - (a->variant < b->variant);
}

void nphdi_scan_begin(nphdi_scan_best *best, nphdi_scan_match *matches, uint64_t capacity)
{
    best->matches = matches;
    best->capacity = capacity;
    best->count = 0;
    best->sink = NULL;
    best->sink_context = NULL;
    best->any = false;
    best->ended = false;
    best->changes = 0;
    for (uint32_t shared = 0; shared < 256; shared++) {
        best->limit[shared] = (uint16_t)(8 * shared);
    }
}

void nphdi_scan_begin_sink(nphdi_scan_best *best,
                           bool (*sink)(void *context, const nphdi_scan_match *match),
                           void *context)
{
    /* with room for one that is never used, it is never full */
    nphdi_scan_begin(best, NULL, 1);
    best->sink = sink;
    best->sink_context = context;
}

void nphdi_scan_limit_radius(nphdi_scan_best *best, float radius, bool hamming)
{
    for (uint32_t shared = 1; shared < 256; shared++) {
        const uint32_t most = 8 * shared;
        const double scaled = hamming ? (double)radius : (double)radius * most;
        uint32_t limit = scaled >= most ? most : (uint32_t)scaled;
        /* the rounding of the product may be off by one step either way */
        nphdi_bits bits = {0, (uint16_t)shared};
        for (limit = limit + 1 < most ? limit + 1 : most; limit > 0; limit--) {
            bits.differing = (uint16_t)limit;
            if ((hamming ? (float)limit : nphdi_bits_distance(bits)) <= radius) {
                break;
            }
        }
        best->limit[shared] = (uint16_t)limit;
    }
}

/* The worst kept match bounds what may still enter; equal distances go on to the keys. */
static void tighten(nphdi_scan_best *best)
{
    const nphdi_bits worst = best->matches[0].bits;

    for (uint32_t shared = 1; shared < 256; shared++) {
        const uint32_t limit =
            worst.shared == 0 ? 0 : (uint32_t)worst.differing * shared / worst.shared;
        if (limit < best->limit[shared]) {
            best->limit[shared] = (uint16_t)limit;
        }
    }
}

static void sift_down(nphdi_scan_match *matches, uint64_t count, uint64_t at)
{
    const nphdi_scan_match item = matches[at];

    for (;;) {
        uint64_t child = 2 * at + 1;
        if (child >= count) {
            break;
        }
        if (child + 1 < count && nphdi_scan_compare(&matches[child + 1], &matches[child]) > 0) {
            child++;
        }
        if (nphdi_scan_compare(&matches[child], &item) <= 0) {
            break;
        }
        matches[at] = matches[child];
        at = child;
    }
    matches[at] = item;
}

/* To the heap. */
static bool keep(nphdi_scan_best *best, const nphdi_scan_match *match)
{
    nphdi_scan_match *matches = best->matches;

    if (best->count < best->capacity) {
        uint64_t at = best->count++;
        while (at > 0 && nphdi_scan_compare(&matches[(at - 1) / 2], match) < 0) {
            matches[at] = matches[(at - 1) / 2];
            at = (at - 1) / 2;
        }
        matches[at] = *match;
    } else if (nphdi_scan_compare(match, &matches[0]) < 0) {
        matches[0] = *match;
        sift_down(matches, best->count, 0);
    } else {
        return false;
    }
    return true;
}

bool nphdi_scan_add(nphdi_scan_best *best, const nphdi_scan_match *match)
{
    if (best->sink != NULL) {
        best->ended = !best->sink(best->sink_context, match) || best->any;
    } else if (keep(best, match)) {
        best->ended = best->any;
    } else {
        return false;
    }
    best->changes++;
    return true;
}

void nphdi_scan_rows(const nphdi_scan_target *target, uint64_t first, uint64_t count,
                     nphdi_scan_best *best)
{
    nphdi_bits bits[SCAN_BLOCK];
    nphdi_scan_match match;

    for (uint64_t done = 0; done < count && !best->ended;) {
        const uint64_t rest = count - done;
        const size_t part = rest < SCAN_BLOCK ? (size_t)rest : SCAN_BLOCK;
        target->kernels->range(&target->query, &target->rows, first + done, part, bits);
        for (size_t i = 0; i < part && !best->ended; i++) {
            if (bits[i].differing > best->limit[bits[i].shared]) {
                continue;
            }
            match.slot = (uint32_t)(first + done + i);
            match.bits = bits[i];
            if (target->accept(target->context, &match) && nphdi_scan_add(best, &match) &&
                best->count == best->capacity) {
                tighten(best);
            }
        }
        done += part;
    }
}

void nphdi_scan_merge(nphdi_scan_best *best, const nphdi_scan_best *other)
{
    for (uint64_t i = 0; i < other->count; i++) {
        (void)nphdi_scan_add(best, &other->matches[i]);
    }
}

void nphdi_scan_finish(nphdi_scan_best *best)
{
    for (uint64_t count = best->count; count > 1; count--) {
        const nphdi_scan_match worst = best->matches[0];
        best->matches[0] = best->matches[count - 1];
        sift_down(best->matches, count - 1, 0);
        best->matches[count - 1] = worst;
    }
}
