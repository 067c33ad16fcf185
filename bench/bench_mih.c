/* Multi-index hashing alone: making the tables, and all vectors within a radius, beside the scan.
 *
 * Usage: bench_mih [vectors ...]      (default: 1000000 10000000)
 *
 * Generated vectors, of 256 bits and of mixed lengths (8, 16, 24 or 32 bytes). A query is a stored
 * vector with half of the radius' bits turned over, so that there is something to find. Costs of a
 * value and of a vector found, which src/scan/costs.h has, are measured where a plan has many of
 * the one and few of the other. Times are medians over REPEATS passes of QUERIES queries. */
#include <nphd/nphd.h>

#include "platform/platform.h"
#include "scan/costs.h"
#include "scan/mih.h"
#include "scan/planes.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROW_BYTES 32
#define QUERIES 200
#define SCANNED 5
#define REPEATS 5
#define SEED 42
#define CAPACITY 1024

typedef struct world {
    nphdi_region rows_memory;
    nphdi_region block;
    nphdi_rows rows;
    nphdi_mih hash;
    nphdi_planes *planes;
    uint64_t vectors;
} world;

static double now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;

    return (x > y) - (x < y);
}

static void check(nphd_status status, const nphd_error *err)
{
    if (status != NPHD_OK) {
        (void)fprintf(stderr, "bench_mih: %s\n", err->text);
        exit(1);
    }
}

static uint64_t splitmix64(uint64_t number)
{
    uint64_t z = (number + 1) * 0x9E3779B97F4A7C15ULL;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ z >> 27) * 0x94D049BB133111EBULL;
    return z ^ z >> 31;
}

static bool accept_all(void *context, nphdi_scan_match *match)
{
    (void)context;
    match->key = nphd_key_u64(match->slot);
    return true;
}

static void take_memory(nphdi_region *region, uint64_t bytes)
{
    nphd_error err = NPHD_ERROR_INIT;

    check(nphdi_region_reserve(region, nphdi_allocator_system(), bytes, bytes, &err), &err);
    check(nphdi_region_commit(region, nphdi_allocator_system(), bytes, &err), &err);
}

static void generate(world *of, uint64_t vectors, bool mixed)
{
    nphd_error err = NPHD_ERROR_INIT;
    uint32_t counts[NPHDI_MIH_LENGTHS];

    memset(of, 0, sizeof(*of));
    of->vectors = vectors;
    take_memory(&of->rows_memory, vectors * (1 + ROW_BYTES));
    of->rows.base = of->rows_memory.base;
    of->rows.stride = 1 + ROW_BYTES;
    of->rows.payload_bytes = ROW_BYTES;
    of->rows.prefix_bytes = 1;
    for (uint64_t i = 0; i < vectors; i++) {
        uint8_t *row = of->rows_memory.base + i * (1 + ROW_BYTES);
        row[0] = (uint8_t)(mixed ? 8 * (1 + splitmix64(i) % 4) : ROW_BYTES);
        for (uint32_t at = 0; at < row[0]; at += 8) {
            const uint64_t word = splitmix64(SEED + 4 * i + at / 8);
            memcpy(row + 1 + at, &word, 8);
        }
    }
    nphdi_mih_count(&of->rows, vectors, counts);
    const uint64_t bytes = nphdi_mih_bytes(counts, ROW_BYTES, nphdi_mih_form_new);
    for (uint32_t threads = 1; threads <= 2; threads++) {
        take_memory(&of->block, bytes);
        const double start = now();
        nphdi_mih_build(&of->rows, vectors, counts, nphdi_mih_form_new, threads, of->block.base);
        printf("  making tables, %u threads    %8.0f ms, %.1f bytes a vector\n", threads,
               (now() - start) * 1e3, (double)bytes / (double)vectors);
        if (threads == 1) {
            nphdi_region_release(&of->block, nphdi_allocator_system());
        }
    }
    if (!nphdi_mih_open(&of->hash, of->block.base, bytes, ROW_BYTES, vectors)) {
        exit(1);
    }
    check(nphdi_planes_create(ROW_BYTES, vectors, nphdi_allocator_system(), &of->planes, &err),
          &err);
    check(nphdi_planes_cover(of->planes, &of->rows, vectors, &err), &err);
}

static void destroy(world *of)
{
    nphdi_planes_close(of->planes);
    nphdi_region_release(&of->block, nphdi_allocator_system());
    nphdi_region_release(&of->rows_memory, nphdi_allocator_system());
}

/* A stored vector with some bits turned over, of full length. */
static void make_query(const world *of, uint64_t number, uint32_t bits, uint8_t *out)
{
    const uint64_t slot = splitmix64(~number) % of->vectors;
    const uint8_t *row = of->rows.base + slot * of->rows.stride;

    for (uint32_t at = 0; at < ROW_BYTES; at += 8) {
        const uint64_t word = splitmix64(number * 77 + at);
        memcpy(out + at, &word, 8);
    }
    memcpy(out, row + 1, row[0]);
    for (uint32_t i = 0; i < bits * row[0] / ROW_BYTES; i++) {
        const uint32_t bit = (uint32_t)(splitmix64(number * 1000 + i) % (8ULL * row[0]));
        out[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
}

typedef struct outcome {
    double ms; /* a query */
    double found;
    double probes;
    double candidates;
    double compared;
    double predicted_ms;
} outcome;

static outcome hash_pass(const world *of, float radius, uint32_t bits)
{
    static nphdi_scan_match matches[CAPACITY];
    nphd_error err = NPHD_ERROR_INIT;
    nphdi_mih_scratch scratch = {NULL, 0};
    double seconds[REPEATS];
    outcome sum = {0, 0, 0, 0, 0, 0};

    for (size_t run = 0; run < REPEATS; run++) {
        outcome pass = {0, 0, 0, 0, 0, 0};
        const double start = now();
        for (uint64_t i = 0; i < QUERIES; i++) {
            uint8_t payload[ROW_BYTES];
            double scan_ns[NPHDI_MIH_LENGTHS];
            nphdi_scan_best best;
            nphdi_mih_plan plan;
            make_query(of, run * QUERIES + i, bits / 2, payload);
            const nphdi_query query = {payload, ROW_BYTES};
            const nphdi_scan_target target = {query, of->rows, nphdi_kernels_get(), accept_all,
                                              NULL};
            nphdi_mih_search search = {
                &of->hash, &plan, &target, NULL, &scratch, nphdi_allocator_system(), 0, 0, 0, {0}};
            nphdi_scan_begin(&best, matches, CAPACITY);
            nphdi_scan_limit_radius(&best, radius, false);
            for (uint32_t length = 0; length < NPHDI_MIH_LENGTHS; length++) {
                scan_ns[length] = 1e9;
            }
            nphdi_mih_plan_make(&of->hash, &query, best.limit, scan_ns, &nphdi_costs_mih, &plan);
            check(nphdi_mih_look(&search, &err), &err);
            check(nphdi_mih_take(&search, &best), &err);
            pass.found += (double)best.count;
            pass.probes += (double)plan.probes;
            pass.candidates += (double)(search.candidates + search.sifted);
            pass.compared += (double)search.compared;
            pass.predicted_ms += plan.cost / 1e6;
        }
        seconds[run] = now() - start;
        sum = pass;
    }
    qsort(seconds, REPEATS, sizeof(*seconds), compare_doubles);
    nphdi_mih_scratch_free(&scratch, nphdi_allocator_system());
    sum.ms = seconds[REPEATS / 2] * 1e3 / QUERIES;
    sum.found /= QUERIES;
    sum.probes /= QUERIES;
    sum.candidates /= QUERIES;
    sum.compared /= QUERIES;
    sum.predicted_ms /= QUERIES;
    return sum;
}

static outcome scan_pass(const world *of, float radius, uint32_t bits)
{
    static nphdi_scan_match matches[CAPACITY];
    double seconds[SCANNED];
    outcome sum = {0, 0, 0, 0, 0, 0};

    for (uint64_t i = 0; i < SCANNED; i++) {
        uint8_t payload[ROW_BYTES];
        nphdi_scan_best best;
        nphdi_planes_query prepared;
        make_query(of, i, bits / 2, payload);
        const nphdi_query query = {payload, ROW_BYTES};
        const nphdi_planes_scan scan = {nphdi_kernels_get(), accept_all, &prepared, 1};
        const double start = now();
        nphdi_scan_begin(&best, matches, CAPACITY);
        nphdi_scan_limit_radius(&best, radius, false);
        nphdi_planes_query_set(&prepared, &query, &best, NULL);
        for (uint64_t j = 0; j < nphdi_planes_parts(of->planes); j++) {
            const nphdi_planes_part part = nphdi_planes_part_at(of->planes, j);
            nphdi_planes_scan_part(&scan, &part);
        }
        seconds[i] = now() - start;
        sum.found += (double)best.count / SCANNED;
    }
    qsort(seconds, SCANNED, sizeof(*seconds), compare_doubles);
    sum.ms = seconds[SCANNED / 2] * 1e3;
    return sum;
}

int main(int argc, char **argv)
{
    static const char *const standard[] = {"1000000", "10000000"};
    static const uint32_t radii[] = {0, 8, 20, 31, 40};
    const int count = argc > 1 ? argc - 1 : 2;

    printf("compiler %s, kernels %s, seed %d\n\n", __VERSION__, nphd_kernel_name(), SEED);
    for (int i = 0; i < count; i++) {
        const uint64_t vectors = strtoull(argc > 1 ? argv[i + 1] : standard[i], NULL, 0);
        for (int mixed = 0; mixed < 2; mixed++) {
            world of;
            printf("%llu generated vectors, %s\n", (unsigned long long)vectors,
                   mixed ? "8, 16, 24 or 32 bytes" : "32 bytes");
            generate(&of, vectors, mixed != 0);
            for (size_t j = 0; j < sizeof(radii) / sizeof(radii[0]); j++) {
                const float radius = (float)radii[j] / 256;
                const outcome hash = hash_pass(&of, radius, radii[j]);
                const outcome scan = scan_pass(&of, radius, radii[j]);
                printf(
                    "  within %2u of 256 bits  %8.4f ms (predicted %.4f), %.0f values, %.0f found "
                    "there, %.0f compared, %.2f within; scan %.3f ms, %.0f times\n",
                    radii[j], hash.ms, hash.predicted_ms, hash.probes, hash.candidates,
                    hash.compared, hash.found, scan.ms, scan.ms / hash.ms);
            }
            destroy(&of);
            printf("\n");
        }
    }
    return 0;
}
