/* Multi-index hashing alone: making the tables, and all vectors within a radius, beside the scan.
 *
 * Usage: bench_mih [vectors ...]      (default: 1000000 10000000)
 *
 * Generated vectors, of 256 bits and of mixed lengths (8, 16, 24 or 32 bytes). A query is a stored
 * vector with half of the radius' bits turned over, so that there is something to find. Costs of a
 * value and of a vector found, which src/scan/costs.h has, are measured where a plan has many of
 * the one and few of the other. Times are those of the processor, so that other programs show less;
 * the least of REPEATS passes of QUERIES queries, each pass with others. "Mapped": the same tables
 * and rows in a file that is mapped, all of it in the page cache, as a view has them. */
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
#include <sys/mman.h>
#include <time.h>

#define ROW_BYTES 32
#define QUERIES 200
#define SCANNED 9
#define REPEATS 15
#define SEED 42
#define CAPACITY 1024

typedef struct world {
    nphdi_region rows_memory;
    nphdi_region block;
    nphdi_rows rows;
    nphdi_mih hash;
    nphdi_planes *planes;
    uint64_t vectors;
    uint64_t block_bytes;
} world;

static double now(clockid_t clock)
{
    struct timespec t;

    (void)clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double least(const double *values, size_t count)
{
    double lowest = values[0];

    for (size_t i = 1; i < count; i++) {
        lowest = values[i] < lowest ? values[i] : lowest;
    }
    return lowest;
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
        const double start = now(CLOCK_MONOTONIC);
        (void)nphdi_mih_build(&of->rows, vectors, counts, nphdi_mih_form_new, threads, NULL,
                              of->block.base, NULL);
        printf("  making tables, %u threads    %8.0f ms, %.1f bytes a vector\n", threads,
               (now(CLOCK_MONOTONIC) - start) * 1e3, (double)bytes / (double)vectors);
        if (threads == 1) {
            nphdi_region_release(&of->block, nphdi_allocator_system());
        }
    }
    of->block_bytes = bytes;
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

static void must_write(FILE *file, const void *from, uint64_t bytes)
{
    if (fwrite(from, 1, bytes, file) != bytes) {
        (void)fprintf(stderr, "bench_mih: cannot write a file\n");
        exit(1);
    }
}

/* The tables and rows of `of` in a file without a name. Returns what is mapped. */
static void *map_world(const world *of, world *out, uint64_t *out_bytes)
{
    const uint64_t rows_bytes = of->vectors * of->rows.stride;
    FILE *file = tmpfile();
    uint64_t sum = 0;

    *out = *of;
    *out_bytes = of->block_bytes + rows_bytes;
    if (file == NULL) {
        (void)fprintf(stderr, "bench_mih: cannot make a file\n");
        exit(1);
    }
    must_write(file, of->hash.block, of->block_bytes);
    must_write(file, of->rows.base, rows_bytes);
    (void)fflush(file);
    uint8_t *mapped = mmap(NULL, *out_bytes, PROT_READ, MAP_SHARED, fileno(file), 0);
    (void)fclose(file);
    if (mapped == MAP_FAILED ||
        !nphdi_mih_open(&out->hash, mapped, of->block_bytes, ROW_BYTES, of->vectors)) {
        (void)fprintf(stderr, "bench_mih: cannot map a file\n");
        exit(1);
    }
    out->rows.base = mapped + of->block_bytes;
    for (uint64_t at = 0; at < *out_bytes; at += 4096) { /* every page is known to the processor */
        sum += mapped[at];
    }
    return sum == 0 ? NULL : mapped;
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
        const double start = now(CLOCK_PROCESS_CPUTIME_ID);
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
        seconds[run] = now(CLOCK_PROCESS_CPUTIME_ID) - start;
        sum = pass;
    }
    nphdi_mih_scratch_free(&scratch, nphdi_allocator_system());
    sum.ms = least(seconds, REPEATS) * 1e3 / QUERIES;
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
        const nphdi_planes_scan scan = {nphdi_kernels_get(), accept_all, &prepared, 1, NULL};
        const double start = now(CLOCK_PROCESS_CPUTIME_ID);
        nphdi_scan_begin(&best, matches, CAPACITY);
        nphdi_scan_limit_radius(&best, radius, false);
        nphdi_planes_query_set(&prepared, &query, &best, NULL);
        for (uint64_t j = 0; j < nphdi_planes_parts(of->planes); j++) {
            const nphdi_planes_part part = nphdi_planes_part_at(of->planes, j);
            nphdi_planes_scan_part(&scan, &part);
        }
        seconds[i] = now(CLOCK_PROCESS_CPUTIME_ID) - start;
        sum.found += (double)best.count / SCANNED;
    }
    sum.ms = least(seconds, SCANNED) * 1e3;
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
            world view;
            uint64_t mapped_bytes;
            void *mapped = map_world(&of, &view, &mapped_bytes);
            for (size_t j = 0; j < sizeof(radii) / sizeof(radii[0]); j++) {
                const float radius = (float)radii[j] / 256;
                const outcome hash = hash_pass(&of, radius, radii[j]);
                const outcome in_file = hash_pass(&view, radius, radii[j]);
                const outcome scan = scan_pass(&of, radius, radii[j]);
                printf("  within %2u of 256 bits  %8.4f ms (predicted %.4f; mapped %.4f), %.0f "
                       "values, %.0f found "
                       "there, %.0f compared, %.2f within; scan %.3f ms, %.0f times\n",
                       radii[j], hash.ms, hash.predicted_ms, in_file.ms, hash.probes,
                       hash.candidates, hash.compared, hash.found, scan.ms, scan.ms / hash.ms);
            }
            (void)munmap(mapped, mapped_bytes);
            destroy(&of);
            printf("\n");
        }
    }
    return 0;
}
