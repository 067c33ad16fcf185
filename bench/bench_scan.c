/* Exact search over planes: how near it comes to reading memory, and what a query costs.
 *
 * Usage: bench_scan [vectors ...]      (default: 1000000 4000000)
 *
 * First the scan alone on generated vectors, of 256 bits and of mixed lengths (8, 16, 24 or 32
 * bytes): one query at a time, and 64 queries in groups of 32. The planes that must be read are all
 * that the vectors have, for among random vectors no plane can be left out; the bandwidth is that
 * of adding up the words of a buffer of the same size. With a radius of 1/16 the first plane turns
 * nearly all vectors down.
 *
 * Then nearest 10 on real fingerprints (bench/data) by the public calls, in memory and on a view,
 * one query and 64 in a batch, with one and two threads: the least of some runs. Times of generated
 * vectors are medians over REPEATS runs. */
#include <nphd/nphd.h>

#include "platform/platform.h"
#include "scan/planes.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROW_BYTES 32
#define NEAREST 10
#define REPEATS 9
#define QUERIES 64
#define GROUP 32
#define SEED 42

static double now_of(clockid_t clock)
{
    struct timespec t;

    (void)clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double now(void)
{
    return now_of(CLOCK_MONOTONIC);
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values)
{
    qsort(values, REPEATS, sizeof(*values), compare_doubles);
    return values[REPEATS / 2];
}

static void check(nphd_status status, const nphd_error *err)
{
    if (status != NPHD_OK) {
        (void)fprintf(stderr, "bench_scan: %s\n", err->text);
        exit(1);
    }
}

static void *must_allocate(size_t bytes)
{
    void *memory = malloc(bytes);

    if (memory == NULL) {
        (void)fprintf(stderr, "bench_scan: out of memory\n");
        exit(1);
    }
    return memory;
}

static uint64_t splitmix64(uint64_t number)
{
    uint64_t z = (number + 1) * 0x9E3779B97F4A7C15ULL;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ z >> 27) * 0x94D049BB133111EBULL;
    return z ^ z >> 31;
}

static uint32_t length_of(uint64_t row, bool mixed)
{
    return mixed ? 8 * (1 + (uint32_t)(splitmix64(row) % 4)) : ROW_BYTES;
}

/* ---- the scan alone ---- */

static bool accept_all(void *context, nphdi_scan_match *match)
{
    (void)context;
    match->key = nphd_key_u64(match->slot);
    return true;
}

/* Gigabytes per second of adding up the words of a buffer. */
static double read_bandwidth(uint64_t bytes)
{
    uint64_t *words = must_allocate(bytes);
    const uint64_t count = bytes / 8;
    double seconds[REPEATS];
    volatile uint64_t sink;

    memset(words, 1, bytes);
    for (size_t run = 0; run < REPEATS; run++) {
        const double start = now();
        uint64_t sum[8] = {0};

        for (uint64_t i = 0; i + 8 <= count; i += 8) {
            for (uint64_t j = 0; j < 8; j++) {
                sum[j] += words[i + j];
            }
        }
        sink = sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
        seconds[run] = now() - start;
    }
    (void)sink;
    free(words);
    return (double)bytes / median(seconds) / 1e9;
}

static nphdi_planes *generate(uint64_t vectors, bool mixed, uint64_t *out_bytes)
{
    nphd_error err = NPHD_ERROR_INIT;
    uint8_t *memory = must_allocate(vectors * (1 + ROW_BYTES));
    const nphdi_rows rows = {memory, 1 + ROW_BYTES, ROW_BYTES, 1};
    nphdi_planes *planes;

    *out_bytes = 0;
    for (uint64_t i = 0; i < vectors; i++) {
        uint8_t *row = memory + i * (1 + ROW_BYTES);
        row[0] = (uint8_t)length_of(i, mixed);
        memset(row + 1, 0, ROW_BYTES);
        for (uint32_t at = 0; at < row[0]; at += 8) {
            const uint64_t word = splitmix64(SEED + 4 * i + at / 8);
            memcpy(row + 1 + at, &word, 8);
        }
        *out_bytes += row[0];
    }
    check(nphdi_planes_create(ROW_BYTES, vectors, nphdi_allocator_system(), &planes, &err), &err);
    const double start = now();
    check(nphdi_planes_cover(planes, &rows, vectors, &err), &err);
    printf("  making planes               %8.2f ms  %6.2f ns a vector\n", (now() - start) * 1e3,
           (now() - start) * 1e9 / (double)vectors);
    free(memory);
    return planes;
}

/* Median seconds for `count` queries in one pass. */
static double time_pass(const nphdi_planes *planes, size_t count, const float *radius)
{
    static uint64_t words[GROUP][ROW_BYTES / 8];
    static nphdi_planes_query prepared[GROUP];
    static nphdi_scan_match matches[GROUP][NEAREST];
    nphdi_scan_best best[GROUP];
    double seconds[REPEATS];

    for (size_t run = 0; run < REPEATS; run++) {
        const nphdi_planes_scan scan = {nphdi_kernels_get(), accept_all, prepared, count, NULL};
        const double start = now();
        for (size_t i = 0; i < count; i++) {
            const nphdi_query query = {(const uint8_t *)words[i], ROW_BYTES};
            for (size_t j = 0; j < ROW_BYTES / 8; j++) {
                words[i][j] = splitmix64(~(uint64_t)(16 * i + j));
            }
            nphdi_scan_begin(&best[i], matches[i], NEAREST);
            if (radius != NULL) {
                nphdi_scan_limit_radius(&best[i], *radius, false);
            }
            nphdi_planes_query_set(&prepared[i], &query, &best[i], NULL);
        }
        for (uint64_t i = 0; i < nphdi_planes_parts(planes); i++) {
            const nphdi_planes_part part = nphdi_planes_part_at(planes, i);
            nphdi_planes_scan_part(&scan, &part);
        }
        seconds[run] = now() - start;
    }
    return median(seconds);
}

static void bench_generated(uint64_t vectors, bool mixed)
{
    const float radius = 1.0F / 16;
    uint64_t bytes;

    printf("%llu generated vectors, %s\n", (unsigned long long)vectors,
           mixed ? "8, 16, 24 or 32 bytes" : "32 bytes");
    nphdi_planes *planes = generate(vectors, mixed, &bytes);
    const double bandwidth = read_bandwidth(bytes);
    const double one = time_pass(planes, 1, NULL);
    const double near = time_pass(planes, 1, &radius);
    const double many = time_pass(planes, GROUP, NULL);
    const double first = 8.0 * (double)vectors;

    printf("  sequential reading                     %6.1f GB/s\n", bandwidth);
    printf("  one query, nearest 10       %8.3f ms  %6.1f GB/s, %.2f of reading\n", one * 1e3,
           (double)bytes / one / 1e9, (double)bytes / one / 1e9 / bandwidth);
    printf("  one query, radius 1/16      %8.3f ms  %6.1f GB/s of first plane, %.2f of reading\n",
           near * 1e3, first / near / 1e9, first / near / 1e9 / bandwidth);
    printf("  %d queries in a pass        %8.3f ns a vector and query\n\n", GROUP,
           many * 1e9 / GROUP / (double)vectors);
    nphdi_planes_close(planes);
}

/* ---- real fingerprints ---- */

static uint8_t *read_real(size_t *out_count)
{
    FILE *file = fopen(NPHD_SOURCE_DIR "/bench/data/kernel-simprints-200k.bin", "rb");

    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        (void)fprintf(stderr, "bench_scan: cannot read bench/data/kernel-simprints-200k.bin\n");
        exit(1);
    }
    const size_t bytes = (size_t)ftell(file);
    uint8_t *data = must_allocate(bytes);
    rewind(file);
    if (fread(data, 1, bytes, file) != bytes) {
        exit(1);
    }
    (void)fclose(file);
    *out_count = bytes / ROW_BYTES;
    return data;
}

/* The rows of the file but for QUERIES of them. Their graph is not used, so it is a poor one. */
static nphd_index *build(const uint8_t *data, size_t count, bool mixed, nphd_vector *queries)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_batch_options batch = NPHD_BATCH_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_vector *vectors = must_allocate(count * sizeof(*vectors));
    nphd_key *keys = must_allocate(count * sizeof(*keys));
    const size_t held_out = count / QUERIES;
    size_t added = 0;
    nphd_index *index = NULL;

    for (size_t i = 0; i < count; i++) {
        const nphd_vector vector = {data + i * ROW_BYTES, length_of(i, mixed)};
        if (i % held_out == 0 && i / held_out < QUERIES) {
            queries[i / held_out] = vector;
        } else {
            keys[added] = nphd_key_u64(i);
            vectors[added++] = vector;
        }
    }
    options.connectivity = 2;
    options.build_breadth = 1;
    batch.threads = 2;
    check(nphd_index_create(&options, &index, &err), &err);
    check(nphd_index_add_many(index, keys, vectors, added, &batch, NULL, NULL, &err), &err);
    free(vectors);
    free(keys);
    return index;
}

/* Least milliseconds for each query, `at_once` in a call; of one thread those of the processor, in
 * which other programs show less. */
static double time_real(nphd_index *index, const nphd_vector *queries, size_t at_once,
                        uint32_t threads)
{
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    static nphd_match matches[QUERIES * NEAREST];
    static nphd_search_report reports[QUERIES];
    const clockid_t clock = threads > 1 ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID;
    double least = 1e9;

    options.mode = NPHD_SEARCH_EXACT;
    options.threads = threads;
    for (size_t run = 0; run < 3 * REPEATS; run++) {
        const double start = now_of(clock);
        for (size_t i = 0; i < QUERIES; i += at_once) {
            check(nphd_index_search_many(index, queries + i, at_once, NEAREST, &options, matches,
                                         reports, &err),
                  &err);
        }
        const double seconds = now_of(clock) - start;
        least = seconds < least ? seconds : least;
    }
    return least * 1e3 / QUERIES;
}

static void print_real(nphd_index *index, const nphd_vector *queries, const char *where)
{
    const double one = time_real(index, queries, 1, 1);
    const double one_2 = time_real(index, queries, 1, 2);
    const double many = time_real(index, queries, QUERIES, 1);
    const double many_2 = time_real(index, queries, QUERIES, 2);

    printf("  %-8s one query %.4f ms, two threads %.4f (%.2f times)\n", where, one, one_2,
           one / one_2);
    printf("           in batches of %d %.4f ms a query, two threads %.4f (%.2f times)\n", QUERIES,
           many, many_2, many / many_2);
}

static void bench_real(bool mixed)
{
    nphd_error err = NPHD_ERROR_INIT;
    nphd_vector queries[QUERIES];
    char path[64];
    size_t count;
    uint8_t *data = read_real(&count);
    nphd_index *view = NULL;

    printf("%zu real fingerprints, %s, nearest %d\n", count,
           mixed ? "8, 16, 24 or 32 bytes" : "32 bytes", NEAREST);
    nphd_index *index = build(data, count, mixed, queries);
    print_real(index, queries, "memory");
    (void)snprintf(path, sizeof(path), "bench_scan_%ld.usearch", (long)getpid());
    check(nphd_index_save(index, path, NULL, &err), &err);
    check(nphd_index_restore(path, true, NULL, &view, &err), &err);
    print_real(view, queries, "view");
    nphd_index_close(view);
    nphd_index_close(index);
    (void)unlink(path);
    free(data);
}

int main(int argc, char **argv)
{
    printf("compiler %s, kernels %s, seed %d\n\n", __VERSION__, nphd_kernel_name(), SEED);
    for (int mixed = 0; mixed < 2; mixed++) {
        bench_real(mixed != 0);
    }
    printf("\n");
    for (int mixed = 0; mixed < 2; mixed++) {
        for (int i = 1; i < argc; i++) {
            bench_generated(strtoull(argv[i], NULL, 0), mixed != 0);
        }
        if (argc == 1) {
            bench_generated(1000000, mixed != 0);
            bench_generated(4000000, mixed != 0);
        }
    }
    return 0;
}
