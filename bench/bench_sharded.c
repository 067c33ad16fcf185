/* A sharded index: steady adding with bounded memory, the longest add beside a background rotation,
 * and opening and lookups with many shards.
 *
 * Usage: bench_sharded [vectors] [shards] [directory]
 *        (default: 2000000 vectors for adding, 100 shards of 100000 for the rest, below the
 *        current directory; everything it writes is removed again)
 *
 * Vector i is a row of bench/data/kernel-simprints-200k.bin with some bits flipped, cut to
 * 8 * (1 + (splitmix64(i) mod 4)) bytes. The many shards are built with connectivity 4 and breadth
 * 8, which their opening and lookups do not depend on, and building does. */
#include <nphd/nphd.h>

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ROW_BYTES 32
#define MIB ((uint64_t)1 << 20)
#define SHARD_BYTES (64 * MIB)
#define PER_SHARD 100000
#define BATCH 1000
#define LOOKUPS 200000
#define REPEATS 7

static uint8_t *rows;
static size_t row_count;

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

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof(*values), compare_doubles);
    return values[count / 2];
}

static void check(nphd_status status, const nphd_error *err)
{
    if (status != NPHD_OK) {
        (void)fprintf(stderr, "bench_sharded: %s\n", err->text);
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

static void *must_allocate(size_t bytes)
{
    void *memory = malloc(bytes);

    if (memory == NULL) {
        (void)fprintf(stderr, "bench_sharded: out of memory\n");
        exit(1);
    }
    return memory;
}

static void read_rows(void)
{
    const char *path = NPHD_SOURCE_DIR "/bench/data/kernel-simprints-200k.bin";
    FILE *file = fopen(path, "rb");

    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        (void)fprintf(stderr, "bench_sharded: cannot read %s\n", path);
        exit(1);
    }
    row_count = (size_t)ftell(file) / ROW_BYTES;
    rewind(file);
    rows = must_allocate(row_count * ROW_BYTES);
    if (fread(rows, ROW_BYTES, row_count, file) != row_count) {
        exit(1);
    }
    (void)fclose(file);
}

/* Vector `number`: a real row with up to 24 bits flipped, so that none occurs twice. */
static nphd_vector make_vector(uint64_t number, uint8_t out[ROW_BYTES])
{
    const nphd_vector vector = {out, 8 * (1 + splitmix64(number) % 4)};
    uint64_t flips = splitmix64(~number);

    memcpy(out, rows + (number % row_count) * ROW_BYTES, ROW_BYTES);
    for (int i = 0; number >= row_count && i < 24; i++) {
        out[flips % ROW_BYTES] ^= (uint8_t)(1U << (flips >> 5 & 7));
        flips = splitmix64(flips);
    }
    return vector;
}

/* Kilobytes of anonymous memory in use: without what is mapped from files. */
static double resident_mib(void)
{
    char line[256];
    double kib = 0;
    FILE *file = fopen("/proc/self/status", "r");

    while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
        if (strncmp(line, "RssAnon:", 8) == 0) {
            kib = strtod(line + 8, NULL);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return kib / 1024;
}

static void remove_directory(const char *path)
{
    char command[1100];

    (void)snprintf(command, sizeof(command), "rm -rf '%s'", path);
    if (system(command) != 0) {
        exit(1);
    }
}

static nphd_sharded *must_open(const char *path, const nphd_sharded_options *options)
{
    nphd_error err = NPHD_ERROR_INIT;
    nphd_sharded *sharded = NULL;

    check(nphd_sharded_open(path, options, &sharded, &err), &err);
    return sharded;
}

static void must_close(nphd_sharded *sharded)
{
    nphd_error err = NPHD_ERROR_INIT;

    check(nphd_sharded_close(sharded, &err), &err);
    nphd_sharded_free(sharded);
}

static void add_batch(nphd_sharded *sharded, uint64_t first, size_t count, uint32_t threads)
{
    static uint8_t bits[BATCH][ROW_BYTES];
    static nphd_vector vectors[BATCH];
    static nphd_key keys[BATCH];
    nphd_error err = NPHD_ERROR_INIT;
    nphd_batch_options options = NPHD_BATCH_OPTIONS_INIT;

    options.threads = threads;
    for (size_t i = 0; i < count; i++) {
        vectors[i] = make_vector(first + i, bits[i]);
        keys[i] = nphd_key_u64(splitmix64(first + i) >> 1);
    }
    check(nphd_sharded_add_many(sharded, keys, vectors, count, &options, NULL, NULL, &err), &err);
}

/* ---- steady adding ---- */

static void bench_adding(const char *path, uint64_t vectors)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    nphd_sharded_stats stats = NPHD_SHARDED_STATS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    const double empty_mib = resident_mib();
    const uint64_t tenth = vectors / 10;
    double peak_mib = 0;
    double first_shard = 0;
    double last_tenth = 0;
    uint64_t in_first = 0;
    const double begin = now();
    double tenth_begin = begin;
    nphd_sharded *sharded;

    options.shard_bytes = SHARD_BYTES;
    sharded = must_open(path, &options);
    for (uint64_t done = 0; done < vectors; done += BATCH) {
        if (done >= vectors - tenth && last_tenth == 0) {
            tenth_begin = now();
            last_tenth = 1;
        }
        add_batch(sharded, done, BATCH, 1);
        if (in_first == 0) {
            check(nphd_sharded_get_stats(sharded, &stats, &err), &err);
            if (stats.view_shards > 0) {
                in_first = done + BATCH;
                first_shard = (double)in_first / (now() - begin);
            }
        }
        const double mib = resident_mib() - empty_mib;
        peak_mib = mib > peak_mib ? mib : peak_mib;
    }
    last_tenth = (double)tenth / (now() - tenth_begin);
    check(nphd_sharded_get_stats(sharded, &stats, &err), &err);
    printf("adding %llu vectors, shards of 64 MiB, 1 thread, rotations written at once\n",
           (unsigned long long)vectors);
    printf("  first shard (%llu vectors)  %8.0f vectors/s, its writing included\n",
           (unsigned long long)in_first, first_shard);
    printf("  last tenth                  %8.0f vectors/s  (%.2f of the first shard's)\n",
           last_tenth, first_shard > 0 ? last_tenth / first_shard : 0);
    printf("  shards written %llu, memory at most %.0f MiB = 2.5 x 64 MiB %+.0f MiB\n",
           (unsigned long long)stats.view_shards, peak_mib, peak_mib - 160);
    must_close(sharded);
    remove_directory(path);
}

/* ---- the longest add ---- */

static void bench_longest(const char *path, uint64_t vectors)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_sharded_stats stats = NPHD_SHARDED_STATS_INIT;
    double *times = must_allocate(vectors * sizeof(*times));
    double longest = 0;
    double longest_pending = 0;
    uint64_t pending_adds = 0;
    nphd_sharded *sharded;

    options.shard_bytes = SHARD_BYTES;
    options.background_rotation = true;
    sharded = must_open(path, &options);
    for (uint64_t i = 0; i < vectors; i++) {
        uint8_t bits[ROW_BYTES];
        const nphd_vector vector = make_vector(i, bits);
        const nphd_key key = nphd_key_u64(splitmix64(i) >> 1);
        const double begin = now();
        check(nphd_sharded_add(sharded, key, vector, NULL, &err), &err);
        times[i] = now() - begin;
        longest = times[i] > longest ? times[i] : longest;
        check(nphd_sharded_get_stats(sharded, &stats, &err), &err);
        if (stats.pending_rotations > 0) {
            pending_adds++;
            longest_pending = times[i] > longest_pending ? times[i] : longest_pending;
        }
    }
    qsort(times, vectors, sizeof(*times), compare_doubles);
    printf("single adds with background rotation, %llu vectors, %llu shards of 64 MiB\n",
           (unsigned long long)vectors, (unsigned long long)stats.view_shards);
    printf("  longest add %.2f ms, of the %llu beside a pending rotation %.2f ms; "
           "99.9 %% under %.2f ms, median %.3f ms\n",
           longest * 1e3, (unsigned long long)pending_adds, longest_pending * 1e3,
           times[vectors - vectors / 1000 - 1] * 1e3, times[vectors / 2] * 1e3);
    free(times);
    must_close(sharded);
    remove_directory(path);
}

/* ---- many shards ---- */

static void build_many(const char *path, uint64_t shards)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_sharded *sharded;

    options.connectivity = 4;
    options.build_breadth = 8;
    sharded = must_open(path, &options);
    for (uint64_t shard = 0; shard < shards; shard++) {
        for (uint64_t done = 0; done < PER_SHARD; done += BATCH) {
            add_batch(sharded, shard * PER_SHARD + done, BATCH, 2);
        }
        check(nphd_sharded_rotate(sharded, &err), &err);
    }
    must_close(sharded);
}

static void must_hit(uint64_t hits, bool all)
{
    if (hits != (all ? (uint64_t)LOOKUPS : 0)) {
        (void)fprintf(stderr, "bench_sharded: wrong answers\n");
        exit(1);
    }
}

/* Nanoseconds a lookup, of present keys or of absent ones. */
static double time_contains(nphd_sharded *sharded, uint64_t vectors, bool present)
{
    nphd_error err = NPHD_ERROR_INIT;
    double times[REPEATS];

    for (int repeat = 0; repeat < REPEATS; repeat++) {
        uint64_t hits = 0;
        const double begin = now();
        for (uint64_t i = 0; i < LOOKUPS; i++) {
            const uint64_t number = splitmix64(i + (uint64_t)repeat * LOOKUPS) % vectors;
            const uint64_t key = splitmix64(present ? number : number + vectors) >> 1;
            bool found = false;
            check(nphd_sharded_contains(sharded, nphd_key_u64(key), &found, &err), &err);
            hits += found ? 1 : 0;
        }
        times[repeat] = (now() - begin) / LOOKUPS * 1e9;
        must_hit(hits, present);
    }
    return median(times, REPEATS);
}

/* The same with GROUP keys in a call. */
static double time_contains_many(nphd_sharded *sharded, uint64_t vectors, bool present)
{
    enum { GROUP = 1000 };
    nphd_error err = NPHD_ERROR_INIT;
    nphd_key keys[GROUP];
    bool found[GROUP];
    double times[REPEATS];

    for (int repeat = 0; repeat < REPEATS; repeat++) {
        uint64_t hits = 0;
        double seconds = 0;
        for (uint64_t i = 0; i < LOOKUPS; i += GROUP) {
            for (uint64_t k = 0; k < GROUP; k++) {
                const uint64_t number = splitmix64(i + k + (uint64_t)repeat * LOOKUPS) % vectors;
                keys[k] = nphd_key_u64(splitmix64(present ? number : number + vectors) >> 1);
            }
            const double begin = now();
            check(nphd_sharded_contains_many(sharded, keys, GROUP, found, &err), &err);
            seconds += now() - begin;
            for (uint64_t k = 0; k < GROUP; k++) {
                hits += found[k] ? 1 : 0;
            }
        }
        times[repeat] = seconds / LOOKUPS * 1e9;
        must_hit(hits, present);
    }
    return median(times, REPEATS);
}

static void bench_many(const char *path, uint64_t shards)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_sharded *sharded;
    double writer[REPEATS];
    double reader[REPEATS];
    double bare[REPEATS];

    build_many(path, shards);
    for (int i = 0; i < REPEATS; i++) {
        double begin = now();
        sharded = must_open(path, NULL);
        writer[i] = (now() - begin) * 1e3;
        nphd_sharded_free(sharded);
        options.read_only = true;
        begin = now();
        sharded = must_open(path, &options);
        reader[i] = (now() - begin) * 1e3;
        nphd_sharded_free(sharded);
        options.read_only = false;
        options.no_bloom = true;
        begin = now();
        sharded = must_open(path, &options);
        bare[i] = (now() - begin) * 1e3;
        nphd_sharded_free(sharded);
        options.no_bloom = false;
    }
    printf("%llu shards of %d vectors\n", (unsigned long long)shards, PER_SHARD);
    printf("  open for writing %.2f ms, read-only %.2f ms; without the bloom filter %.2f ms\n",
           median(writer, REPEATS), median(reader, REPEATS), median(bare, REPEATS));
    sharded = must_open(path, NULL);
    printf("  contains, absent key   %6.0f ns\n",
           time_contains(sharded, shards * PER_SHARD, false));
    printf("  contains, present key  %6.0f ns\n", time_contains(sharded, shards * PER_SHARD, true));
    printf("  contains, many at once %6.0f ns an absent key, %.0f ns a present one\n",
           time_contains_many(sharded, shards * PER_SHARD, false),
           time_contains_many(sharded, shards * PER_SHARD, true));
    nphd_sharded_stats stats = NPHD_SHARDED_STATS_INIT;
    check(nphd_sharded_get_stats(sharded, &stats, &err), &err);
    printf("  bloom filter %.1f MiB for %llu keys; memory %.1f MiB, files %.0f MiB\n",
           (double)stats.bloom_bytes / (double)MIB, (unsigned long long)stats.bloom_keys,
           (double)stats.memory_bytes / (double)MIB, (double)stats.disk_bytes / (double)MIB);
    nphd_sharded_free(sharded);
    remove_directory(path);
}

int main(int argc, char **argv)
{
    const uint64_t vectors = argc > 1 ? strtoull(argv[1], NULL, 10) : 2000000;
    const uint64_t shards = argc > 2 ? strtoull(argv[2], NULL, 10) : 100;
    char path[1024];

    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    (void)snprintf(path, sizeof(path), "%s/bench_sharded.%d", argc > 3 ? argv[3] : ".",
                   (int)getpid());
    read_rows();
    printf("kernels %s, build %s\n", nphd_kernel_name(), NPHD_BUILD_TYPE);
    if (shards > 0) {
        bench_many(path, shards);
    }
    if (vectors > 0) {
        bench_adding(path, vectors);
        bench_longest(path, vectors < 800000 ? vectors : 800000);
    }
    free(rows);
    return 0;
}
