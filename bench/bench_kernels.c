/* Nanoseconds a row for every kernel level of this machine, over the row shapes that matter: the
 * 256-bit rows of an NPHD index (a length byte first) and of a Hamming index, then others.
 * `range` goes through the rows in order; `gather` takes 32 random rows a call, as a graph insert
 * does, with the rows of the next call prefetched. Each number is the median of RUNS runs. */
#include "kernels/kernels.h"

#include <nphd/vector.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define RUNS 9
#define ROWS_PER_RUN 2000000 /* at least; in whole passes */
#define GATHER_ROWS 32
#define CACHED_BYTES 400000 /* fits a second-level cache of 512 KiB, beside the results */
#define LARGE_ROWS 200000
#define LINE_BYTES 64
#define SEED 20240607U

typedef struct shape {
    uint32_t payload_bytes;
    uint32_t prefix_bytes;
} shape;

static uint64_t random_next(uint64_t *state)
{
    /* splitmix64 */
    uint64_t x = *state += 0x9e3779b97f4a7c15U;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
}

static double now_ns(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;

    return x < y ? -1 : x > y;
}

static void prefetch_rows(const nphdi_rows *rows, const uint32_t *slots)
{
    for (size_t i = 0; i < GATHER_ROWS; i++) {
        const uint8_t *row = rows->base + slots[i] * rows->stride;

        __builtin_prefetch(row);
        __builtin_prefetch(row + rows->prefix_bytes + rows->payload_bytes - 1);
    }
}

static void pass(const nphdi_kernels *kernels, const nphdi_query *query, const nphdi_rows *rows,
                 const uint32_t *slots, size_t row_count, nphdi_bits *out)
{
    if (slots == NULL) {
        /* by the chunk, so that the results stay in the first-level cache */
        for (size_t at = 0; at < row_count; at += 1024) {
            size_t left = row_count - at;

            kernels->range(query, rows, at, left < 1024 ? left : 1024, out);
        }
        return;
    }
    for (size_t at = 0; at + GATHER_ROWS <= row_count; at += GATHER_ROWS) {
        if (at + 2 * GATHER_ROWS <= row_count) {
            prefetch_rows(rows, slots + at + GATHER_ROWS);
        }
        kernels->gather(query, rows, slots + at, GATHER_ROWS, out);
    }
}

static double measure(const nphdi_kernels *kernels, const nphdi_query *query,
                      const nphdi_rows *rows, const uint32_t *slots, size_t row_count)
{
    static nphdi_bits out[1024];
    double times[RUNS];
    size_t passes = (ROWS_PER_RUN + row_count - 1) / row_count;

    pass(kernels, query, rows, slots, row_count, out);
    for (size_t run = 0; run < RUNS; run++) {
        double start = now_ns();

        for (size_t i = 0; i < passes; i++) {
            pass(kernels, query, rows, slots, row_count, out);
        }
        times[run] = (now_ns() - start) / (double)(passes * row_count);
    }
    qsort(times, RUNS, sizeof(times[0]), compare_doubles);
    return times[RUNS / 2];
}

static void print_machine(void)
{
    char line[256];
    FILE *file = fopen("/proc/cpuinfo", "r");

    printf("machine:  ");
    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':') != NULL) {
            printf("%s", strchr(line, ':') + 2);
            break;
        }
    }
    if (file == NULL || feof(file)) {
        printf("unknown\n");
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    printf("compiler: %s\nkernels:  %s\nseed:     %u\n\n", __VERSION__, nphd_kernel_name(), SEED);
}

static int bench_shape(const shape *s, bool mixed)
{
    const nphdi_kernels *levels[4];
    size_t level_count = nphdi_kernels_available(levels);
    size_t row_bytes = s->prefix_bytes + s->payload_bytes;
    size_t cached_rows = CACHED_BYTES / row_bytes / GATHER_ROWS * GATHER_ROWS;
    uint8_t *base = malloc(LARGE_ROWS * row_bytes);
    uint32_t *slots = malloc(LARGE_ROWS * sizeof(*slots));
    uint8_t payload[NPHD_MAX_BYTES];
    nphdi_query query = {payload, s->payload_bytes};
    nphdi_rows rows = {base, row_bytes, s->payload_bytes, s->prefix_bytes};
    uint64_t state = SEED;

    if (base == NULL || slots == NULL) {
        free(base);
        free(slots);
        return 1;
    }
    for (size_t i = 0; i < LARGE_ROWS * row_bytes; i++) {
        base[i] = (uint8_t)random_next(&state);
    }
    for (size_t i = 0; i < sizeof(payload); i++) {
        payload[i] = (uint8_t)random_next(&state);
    }
    for (size_t i = 0; s->prefix_bytes == 1 && i < LARGE_ROWS; i++) {
        uint32_t quarters = mixed ? 1 + (uint32_t)(random_next(&state) % 4) : 4;

        base[i * row_bytes] = (uint8_t)(s->payload_bytes * quarters / 4);
    }
    for (size_t l = 0; l < level_count; l++) {
        double times[4];

        times[0] = measure(levels[l], &query, &rows, NULL, cached_rows);
        times[2] = measure(levels[l], &query, &rows, NULL, LARGE_ROWS);
        for (size_t i = 0; i < LARGE_ROWS; i++) {
            slots[i] = (uint32_t)(random_next(&state) % cached_rows);
        }
        times[1] = measure(levels[l], &query, &rows, slots, cached_rows);
        for (size_t i = 0; i < LARGE_ROWS; i++) {
            slots[i] = (uint32_t)(random_next(&state) % LARGE_ROWS);
        }
        times[3] = measure(levels[l], &query, &rows, slots, LARGE_ROWS);
        printf("%7u  %6u  %-7s  %-15s  %7.2f  %7.2f  %7.2f  %7.2f\n", (unsigned)s->payload_bytes,
               (unsigned)s->prefix_bytes, mixed ? "mixed" : "full", levels[l]->name, times[0],
               times[1], times[2], times[3]);
        (void)fflush(stdout);
    }
    free(base);
    free(slots);
    return 0;
}

int main(int argc, char **argv)
{
    static const shape shapes[] = {{32, 1}, {32, 0}, {8, 1},   {16, 1},
                                   {24, 1}, {64, 1}, {128, 1}, {255, 1}};
    bool brief = argc > 1 && strcmp(argv[1], "--brief") == 0;

    print_machine();
    printf("                                             %d KB            %d rows\n",
           CACHED_BYTES / 1000, LARGE_ROWS);
    printf("payload  prefix  lengths  level              range   gather    range   gather  "
           "ns a row\n");
    for (size_t i = 0; i < (brief ? 2 : sizeof(shapes) / sizeof(shapes[0])); i++) {
        if (bench_shape(&shapes[i], false) != 0) {
            return 1;
        }
        if (i == 0 && bench_shape(&shapes[i], true) != 0) {
            return 1;
        }
    }
    return 0;
}
