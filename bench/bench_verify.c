/* How fast one file, and a directory of shards, is verified, beside reading the same bytes.
 *
 * Usage: bench_verify [vectors] [directory]
 *        (default: 400000 vectors, below the current directory; everything it writes is removed)
 *
 * Vector i is 32 bytes of splitmix64; the graph is built with little breadth, which makes it no
 * smaller. Reading is read() into a buffer of 1 MiB and a sum over its words. Medians of several
 * runs; the two sides of a ratio take turns, so that a machine that changes its speed changes both.
 * From the page cache, and, for the directory, after its files were taken out of that. */
#include <nphd/nphd.h>

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { ROW_BYTES = 32, GROUP = 1000, REPEATS = 9, MOST_PATH = 1000, BREADTH = 16, SHARDS = 6 };
enum { BUFFER_BYTES = 1 << 20 };

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

static void die(const char *what)
{
    (void)fprintf(stderr, "bench_verify: %s\n", what);
    exit(1);
}

static void check(nphd_status status, const nphd_error *err)
{
    if (status != NPHD_OK) {
        die(err->text);
    }
}

static uint64_t splitmix64(uint64_t number)
{
    uint64_t z = (number + 1) * 0x9E3779B97F4A7C15ULL;

    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ z >> 27) * 0x94D049BB133111EBULL;
    return z ^ z >> 31;
}

static void remove_directory(const char *path)
{
    char command[MOST_PATH + 100];

    (void)snprintf(command, sizeof(command), "rm -rf '%s'", path);
    if (system(command) != 0) {
        die("cannot remove the directory");
    }
}

/* ---- what is verified ---- */

static void build(const char *path, uint64_t vectors)
{
    static uint64_t bits[GROUP][ROW_BYTES / 8];
    static nphd_vector rows[GROUP];
    static nphd_key keys[GROUP];
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    nphd_batch_options batch = NPHD_BATCH_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_sharded *sharded = NULL;

    options.build_breadth = BREADTH;
    options.shard_bytes = vectors * 240 / SHARDS;
    batch.threads = 2;
    check(nphd_sharded_open(path, &options, &sharded, &err), &err);
    for (uint64_t done = 0; done < vectors; done += GROUP) {
        for (size_t i = 0; i < GROUP; i++) {
            for (size_t w = 0; w < ROW_BYTES / 8; w++) {
                bits[i][w] = splitmix64((done + i) * (ROW_BYTES / 8) + w);
            }
            rows[i] = (nphd_vector){(const uint8_t *)bits[i], ROW_BYTES};
            keys[i] = nphd_key_u64(splitmix64(done + i) >> 1);
        }
        check(nphd_sharded_add_many(sharded, keys, rows, GROUP, &batch, NULL, NULL, &err), &err);
    }
    check(nphd_sharded_close(sharded, &err), &err);
    nphd_sharded_free(sharded);
}

/* The names of the shards by number, until one is not there. */
static bool shard_name(const char *path, unsigned number, char name[MOST_PATH + 100])
{
    (void)snprintf(name, MOST_PATH + 100, "%s/shard_%03u.usearch", path, number);
    return access(name, R_OK) == 0;
}

/* Takes the shards out of the page cache, as after a restart. */
static void evict(const char *path)
{
    char name[MOST_PATH + 100];

    for (unsigned number = 0; shard_name(path, number, name); number++) {
        const int file = open(name, O_RDONLY);
        (void)posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED);
        (void)close(file);
    }
}

static uint64_t read_file(const char *name, uint64_t *sum)
{
    static uint64_t buffer[BUFFER_BYTES / 8];
    const int file = open(name, O_RDONLY);
    uint64_t bytes = 0;
    ssize_t got;

    if (file < 0) {
        die("cannot read a shard");
    }
    while ((got = read(file, buffer, sizeof(buffer))) > 0) {
        for (size_t i = 0; i < (size_t)got / 8; i++) {
            *sum += buffer[i];
        }
        bytes += (uint64_t)got;
    }
    (void)close(file);
    return bytes;
}

static uint64_t sum_of_all; /* so that the sums are formed */

static uint64_t read_shards(const char *path)
{
    char name[MOST_PATH + 100];
    uint64_t bytes = 0;

    for (unsigned number = 0; shard_name(path, number, name); number++) {
        bytes += read_file(name, &sum_of_all);
    }
    return bytes;
}

/* ---- the two sides ---- */

static void print_rates(const char *what, uint32_t threads, uint64_t verified_bytes,
                        double verified[REPEATS], uint64_t read_bytes, double plain[REPEATS])
{
    const double ours = (double)verified_bytes / median(verified, REPEATS);
    const double theirs = (double)read_bytes / median(plain, REPEATS);

    printf("verify %s of %.1f MB, threads %u: %.0f MB/s, read: %.0f MB/s, rate ratio %.2f\n", what,
           (double)verified_bytes / 1e6, threads, ours / 1e6, theirs / 1e6, ours / theirs);
}

static void bench_file(const char *path, uint32_t threads)
{
    double verified[REPEATS];
    double plain[REPEATS];
    char name[MOST_PATH + 100];
    uint64_t read_bytes = 0;
    nphd_verify_options options = NPHD_VERIFY_OPTIONS_INIT;
    nphd_verify_report report;
    nphd_error err = NPHD_ERROR_INIT;

    options.threads = threads;
    (void)shard_name(path, 0, name);
    for (size_t i = 0; i < REPEATS; i++) {
        const double begin = now();
        check(nphd_file_verify_with(name, &options, &report, &err), &err);
        verified[i] = now() - begin;
        read_bytes = read_file(name, &sum_of_all);
        plain[i] = now() - begin - verified[i];
    }
    print_rates("of a file", threads, report.file_bytes, verified, read_bytes, plain);
}

static void bench_directory(const char *path, uint32_t threads, bool cold)
{
    double verified[REPEATS];
    double plain[REPEATS];
    uint64_t read_bytes = 0;
    nphd_verify_options options = NPHD_VERIFY_OPTIONS_INIT;
    nphd_directory_report report;
    nphd_error err = NPHD_ERROR_INIT;

    options.threads = threads;
    for (size_t i = 0; i < REPEATS; i++) {
        double begin;
        if (cold) {
            evict(path);
        }
        begin = now();
        check(nphd_directory_verify_with(path, &options, &report, &err), &err);
        verified[i] = now() - begin;
        if (cold) {
            evict(path);
        }
        begin = now();
        read_bytes = read_shards(path);
        plain[i] = now() - begin;
    }
    print_rates(cold ? "from the device" : "of a directory", threads, report.file_bytes, verified,
                read_bytes, plain);
}

int main(int argc, char **argv)
{
    const uint64_t vectors = argc > 1 ? strtoull(argv[1], NULL, 10) : 400000;
    char path[MOST_PATH];

    (void)snprintf(path, sizeof(path), "%s/bench_verify.tmp", argc > 2 ? argv[2] : ".");
    printf("%llu vectors of %d bytes, %s\n", (unsigned long long)vectors, ROW_BYTES,
           nphd_kernel_name());
    build(path, vectors);
    for (uint32_t threads = 1; threads <= 2; threads++) {
        bench_file(path, threads);
        bench_directory(path, threads, false);
        bench_directory(path, threads, true);
    }
    remove_directory(path);
    return sum_of_all == 0;
}
