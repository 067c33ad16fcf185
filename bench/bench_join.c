/* Joins of real fingerprints (bench/data): seconds, and pairs found.
 *
 * Usage: bench_join [radius]      (default: 0.1)
 *
 * A self-join of all rows, of 256 bits and cut to mixed lengths (bench/data/README.md), with one
 * thread and with two. With mixed lengths a short vector is near to all that begin as it does, so
 * that there are more pairs. Times are of one run, as a join takes seconds; what the processors
 * worked for it is told beside, for runs on a busy machine. */
#include <nphd/nphd.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define ROW_BYTES 32

static double now(clockid_t clock)
{
    struct timespec t;

    (void)clock_gettime(clock, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void check(nphd_status status, const nphd_error *err)
{
    if (status != NPHD_OK) {
        (void)fprintf(stderr, "bench_join: %s\n", err->text);
        exit(1);
    }
}

static void *must_allocate(size_t bytes)
{
    void *memory = malloc(bytes);

    if (memory == NULL) {
        (void)fprintf(stderr, "bench_join: out of memory\n");
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

static uint8_t *read_real(size_t *out_count)
{
    FILE *file = fopen(NPHD_SOURCE_DIR "/bench/data/kernel-simprints-200k.bin", "rb");

    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        (void)fprintf(stderr, "bench_join: cannot read bench/data/kernel-simprints-200k.bin\n");
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

/* The graph is not used, so it is a poor one. */
static nphd_index *build(const uint8_t *data, size_t count, bool mixed)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_batch_options batch = NPHD_BATCH_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_vector *vectors = must_allocate(count * sizeof(*vectors));
    nphd_key *keys = must_allocate(count * sizeof(*keys));
    nphd_index *index = NULL;

    for (size_t i = 0; i < count; i++) {
        vectors[i].data = data + i * ROW_BYTES;
        vectors[i].bytes = mixed ? 8 * (1 + splitmix64(i) % 4) : ROW_BYTES;
        keys[i] = nphd_key_u64(i);
    }
    options.connectivity = 2;
    options.build_breadth = 1;
    batch.threads = 2;
    check(nphd_index_create(&options, &index, &err), &err);
    check(nphd_index_add_many(index, keys, vectors, count, &batch, NULL, NULL, &err), &err);
    free(vectors);
    free(keys);
    return index;
}

static int count_pairs(void *context, const nphd_pair *pairs, size_t count)
{
    uint64_t *equal = context;

    for (size_t i = 0; i < count; i++) {
        *equal += pairs[i].distance <= 0 ? 1 : 0;
    }
    return 0;
}

static void bench_join(const uint8_t *data, size_t count, bool mixed, float radius)
{
    nphd_index *index = build(data, count, mixed);
    const nphd_join_side side = {index, NULL};
    nphd_error err = NPHD_ERROR_INIT;

    printf("%zu real fingerprints, %s, radius %g\n", count,
           mixed ? "8, 16, 24 or 32 bytes" : "32 bytes", (double)radius);
    for (uint32_t threads = 1; threads <= 2; threads++) {
        nphd_join_options options = NPHD_JOIN_OPTIONS_INIT;
        nphd_join_report report;
        uint64_t equal = 0;
        const double start = now(CLOCK_MONOTONIC);
        const double worked = now(CLOCK_PROCESS_CPUTIME_ID);

        options.threads = threads;
        check(nphd_join(&side, NULL, radius, &options, count_pairs, &equal, &report, &err), &err);
        printf("  %u thread%s %8.2f s, %8.2f s of processors  %llu pairs, %llu of them equal\n",
               threads, threads > 1 ? "s" : " ", now(CLOCK_MONOTONIC) - start,
               now(CLOCK_PROCESS_CPUTIME_ID) - worked, (unsigned long long)report.pairs,
               (unsigned long long)equal);
        (void)fflush(stdout);
    }
    nphd_index_close(index);
}

int main(int argc, char **argv)
{
    const float radius = argc > 1 ? strtof(argv[1], NULL) : 0.1F;
    size_t count;
    uint8_t *data = read_real(&count);

    printf("compiler %s, kernels %s\n\n", __VERSION__, nphd_kernel_name());
    bench_join(data, count, false, radius);
    bench_join(data, count, true, radius);
    free(data);
    return 0;
}
