/* One index on real fingerprints of mixed length: adding, graph search with its recall, exact
 * search, threads, saving against plain writing, opening, lookups and memory.
 *
 * Usage: bench_index [rows]      (default: all of bench/data/kernel-simprints-200k.bin)
 *
 * Row i is cut to 8 * (1 + (splitmix64(i) mod 4)) bytes; every 200th row is held out as a query.
 * Recall counts the answers at a distance not above that of the tenth of the exact answer. Times
 * are medians over REPEATS runs where a run is short. What one thread does with the graph is also
 * given by processor time, which other work on the machine disturbs less. */
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
#define HOLD_OUT 200
#define NEAREST 10
#define REPEATS 5
#define WRITE_BYTES ((size_t)1 << 20)

typedef struct data {
    uint8_t *bytes;
    nphd_vector *vectors;
    nphd_key *keys;
    size_t count;
    nphd_vector *queries;
    size_t query_count;
    nphd_match *exact; /* NEAREST for each query */
} data;

static double now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double processor_now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
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
        (void)fprintf(stderr, "bench_index: %s\n", err->text);
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
        (void)fprintf(stderr, "bench_index: out of memory\n");
        exit(1);
    }
    return memory;
}

static void read_data(data *out, size_t most)
{
    const char *path = NPHD_SOURCE_DIR "/bench/data/kernel-simprints-200k.bin";
    FILE *file = fopen(path, "rb");
    size_t rows;

    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        (void)fprintf(stderr, "bench_index: cannot read %s\n", path);
        exit(1);
    }
    rows = (size_t)ftell(file) / ROW_BYTES;
    rows = most != 0 && most < rows ? most : rows;
    rewind(file);
    out->bytes = must_allocate(rows * ROW_BYTES);
    out->vectors = must_allocate(rows * sizeof(nphd_vector));
    out->keys = must_allocate(rows * sizeof(nphd_key));
    out->queries = must_allocate(rows * sizeof(nphd_vector));
    if (fread(out->bytes, ROW_BYTES, rows, file) != rows) {
        exit(1);
    }
    (void)fclose(file);
    for (size_t i = 0; i < rows; i++) {
        const nphd_vector vector = {out->bytes + i * ROW_BYTES, 8 * (1 + splitmix64(i) % 4)};
        if (i % HOLD_OUT == 0) {
            out->queries[out->query_count++] = vector;
        } else {
            out->keys[out->count] = nphd_key_u64(i);
            out->vectors[out->count++] = vector;
        }
    }
}

static nphd_index *build(const data *from, uint32_t threads, double *out_seconds,
                         double *out_processor)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_batch_options batch = NPHD_BATCH_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_index *index = NULL;
    const double start = now();
    const double processor_start = processor_now();

    options.connectivity = 16;
    options.build_breadth = 128;
    batch.threads = threads;
    check(nphd_index_create(&options, &index, &err), &err);
    check(nphd_index_add_many(index, from->keys, from->vectors, from->count, &batch, NULL, NULL,
                              &err),
          &err);
    *out_seconds = now() - start;
    *out_processor = processor_now() - processor_start;
    return index;
}

/* Seconds for all queries once. */
static double search_all(nphd_index *index, const data *from, nphd_search_options *options,
                         nphd_match *matches, nphd_search_report *reports)
{
    nphd_error err = NPHD_ERROR_INIT;
    const double start = now();

    check(nphd_index_search_many(index, from->queries, from->query_count, NEAREST, options, matches,
                                 reports, &err),
          &err);
    return now() - start;
}

static double median_search(nphd_index *index, const data *from, nphd_search_options *options,
                            nphd_match *matches, nphd_search_report *reports, double *out_processor)
{
    double seconds[REPEATS];
    double processor[REPEATS];

    for (size_t i = 0; i < REPEATS; i++) {
        const double start = processor_now();
        seconds[i] = search_all(index, from, options, matches, reports);
        processor[i] = processor_now() - start;
    }
    *out_processor = median(processor, REPEATS);
    return median(seconds, REPEATS);
}

static double recall(const data *from, const nphd_match *matches, const nphd_search_report *reports)
{
    size_t good = 0;

    for (size_t q = 0; q < from->query_count; q++) {
        const float bound = from->exact[q * NEAREST + NEAREST - 1].distance;
        for (size_t i = 0; i < reports[q].count; i++) {
            good += matches[q * NEAREST + i].distance <= bound ? 1 : 0;
        }
    }
    return (double)good / (double)(from->query_count * NEAREST);
}

static void bench_search(nphd_index *index, const data *from)
{
    static const uint32_t breadths[] = {32, 64, 128, 256, 512};
    nphd_match *matches = must_allocate(from->query_count * NEAREST * sizeof(*matches));
    nphd_search_report *reports = must_allocate(from->query_count * sizeof(*reports));
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    double seconds;
    double processor;

    options.mode = NPHD_SEARCH_EXACT;
    seconds = median_search(index, from, &options, from->exact, reports, &processor);
    printf("exact search           %10.0f queries/s  %8.3f ms  %.2f ns a row  recall 1.0000\n",
           (double)from->query_count / seconds, 1e3 * seconds / (double)from->query_count,
           1e9 * seconds / (double)from->query_count / (double)from->count);
    options.mode = NPHD_SEARCH_APPROXIMATE;
    for (size_t i = 0; i < sizeof(breadths) / sizeof(breadths[0]); i++) {
        uint64_t computed = 0;
        options.breadth = breadths[i];
        options.threads = 1;
        seconds = median_search(index, from, &options, matches, reports, &processor);
        const double one_processor = processor;
        for (size_t q = 0; q < from->query_count; q++) {
            computed += reports[q].computed;
        }
        printf("graph, breadth %3u     %10.0f queries/s  %8.3f ms  %5.0f distances  recall %.4f",
               breadths[i], (double)from->query_count / seconds,
               1e3 * seconds / (double)from->query_count,
               (double)computed / (double)from->query_count, recall(from, matches, reports));
        options.threads = 2;
        printf("  2 threads %.2fx  by processor time %.0f/s\n",
               seconds / median_search(index, from, &options, matches, reports, &processor),
               (double)from->query_count / one_processor);
    }
    free(matches);
    free(reports);
}

/* The rate of writing and flushing as many bytes without anything else. */
static double plain_write(const char *path, size_t bytes)
{
    uint8_t *block = must_allocate(WRITE_BYTES);
    const double start = now();
    const int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

    memset(block, 0x5A, WRITE_BYTES);
    for (size_t done = 0; done < bytes;) {
        const size_t part = bytes - done < WRITE_BYTES ? bytes - done : WRITE_BYTES;
        if (write(file, block, part) != (ssize_t)part) {
            exit(1);
        }
        done += part;
    }
    if (fdatasync(file) != 0) {
        exit(1);
    }
    const double seconds = now() - start;
    (void)close(file);
    free(block);
    return seconds;
}

/* Pages of this process in memory, in bytes; 0 where the system does not tell. */
static double resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    long pages = 0;

    if (file == NULL || fscanf(file, "%*s %ld", &pages) != 1) {
        pages = 0;
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void bench_files(nphd_index *index, const data *from)
{
    const char *folder = getenv("TMPDIR") != NULL ? getenv("TMPDIR") : "/tmp";
    nphd_index_stats stats = NPHD_INDEX_STATS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    char path[512];
    char plain[512];
    double save[REPEATS];
    double write[REPEATS];
    double view[REPEATS];
    double load[REPEATS];
    double resident = 0;
    nphd_index *opened = NULL;

    (void)snprintf(path, sizeof(path), "%s/bench-index-%d.usearch", folder, (int)getpid());
    (void)snprintf(plain, sizeof(plain), "%s/bench-index-%d.plain", folder, (int)getpid());
    check(nphd_index_get_stats(index, &stats, &err), &err);
    for (size_t i = 0; i < REPEATS; i++) {
        double start = now();
        check(nphd_index_save(index, path, NULL, &err), &err);
        save[i] = now() - start;
        write[i] = plain_write(plain, (size_t)stats.serialized_bytes);
        start = now();
        check(nphd_index_restore(path, true, NULL, &opened, &err), &err);
        view[i] = now() - start;
        nphd_index_close(opened);
        resident = resident_bytes();
        start = now();
        check(nphd_index_restore(path, false, NULL, &opened, &err), &err);
        load[i] = now() - start;
        resident = resident_bytes() - resident;
        if (i + 1 < REPEATS) {
            nphd_index_close(opened);
        }
    }
    check(nphd_index_get_stats(opened, &stats, &err), &err);
    nphd_index_close(opened);
    printf("save                   %10.1f MB/s  plain write + fdatasync %.1f MB/s  ratio %.2f\n",
           (double)stats.serialized_bytes * 1e-6 / median(save, REPEATS),
           (double)stats.serialized_bytes * 1e-6 / median(write, REPEATS),
           median(write, REPEATS) / median(save, REPEATS));
    printf("load                   %10.3f ms   view %.3f ms\n", 1e3 * median(load, REPEATS),
           1e3 * median(view, REPEATS));
    printf("file                   %10.1f bytes a vector   memory when loaded %.1f  ratio %.3f\n",
           (double)stats.serialized_bytes / (double)from->count,
           (double)stats.memory_bytes / (double)from->count,
           (double)stats.memory_bytes / (double)stats.serialized_bytes);
    printf("resident when loaded   %10.1f MB  ratio to the file %.3f\n", resident * 1e-6,
           resident / (double)stats.serialized_bytes);
    (void)unlink(path);
    (void)unlink(plain);
}

/* Keys that are present and absent by turns, in one call. */
static void bench_contains_many(nphd_index *index, const data *from)
{
    nphd_key *keys = malloc(from->count * sizeof(*keys));
    bool *there = malloc(from->count * sizeof(*there));
    double times[REPEATS];

    if (keys == NULL || there == NULL) {
        exit(1);
    }
    for (size_t i = 0; i < from->count; i++) {
        keys[i] = i % 2 == 0 ? from->keys[(size_t)(splitmix64(i) % from->count)]
                             : nphd_key_u64(UINT32_MAX + splitmix64(i));
    }
    for (size_t repeat = 0; repeat < REPEATS; repeat++) {
        const double start = now();
        (void)nphd_index_contains_many(index, keys, from->count, there, NULL);
        times[repeat] = (now() - start) / (double)from->count;
    }
    printf("contains of many keys  %10.1f ns a key\n", 1e9 * median(times, REPEATS));
    free(keys);
    free(there);
}

static void bench_lookups(nphd_index *index, const data *from)
{
    uint8_t vector[NPHD_MAX_BYTES];
    size_t bytes = 0;
    size_t found = 0;
    bool there;
    double start = now();

    for (size_t i = 0; i < from->count; i++) {
        const size_t at = (size_t)(splitmix64(i) % from->count);
        (void)nphd_index_get(index, from->keys[at], vector, sizeof(vector), &bytes, NULL);
        found += bytes > 0 ? 1 : 0;
    }
    const double hit = now() - start;
    start = now();
    for (size_t i = 0; i < from->count; i++) {
        (void)nphd_index_contains(index, nphd_key_u64(UINT32_MAX + splitmix64(i)), &there, NULL);
        found += there ? 1 : 0;
    }
    printf("get of a present key   %10.0f ns   contains of an absent key %.0f ns   (%zu found)\n",
           1e9 * hit / (double)from->count, 1e9 * (now() - start) / (double)from->count, found);
    bench_contains_many(index, from);
}

int main(int argc, char **argv)
{
    data from = {0};
    double one = 0;
    double two = 0;
    double processor = 0;
    nphd_index *index;

    read_data(&from, argc > 1 ? (size_t)strtoull(argv[1], NULL, 10) : 0);
    from.exact = must_allocate(from.query_count * NEAREST * sizeof(*from.exact));
    printf("libnphd %s, kernels %s, compiler %s, build %s\n", nphd_version(), nphd_kernel_name(),
           __VERSION__, NPHD_BUILD_TYPE);
    printf("%zu vectors of 64/128/192/256 bits, %zu queries, connectivity 16, build breadth 128\n",
           from.count, from.query_count);
    index = build(&from, 1, &one, &processor);
    printf("add, one thread        %10.0f a second  by processor time %.0f\n",
           (double)from.count / one, (double)from.count / processor);
    nphd_index *second = build(&from, 2, &two, &processor);
    nphd_index_close(second);
    printf("add, two threads       %10.0f a second  %.2fx\n", (double)from.count / two, one / two);
    bench_search(index, &from);
    bench_files(index, &from);
    bench_lookups(index, &from);
    nphd_index_close(index);
    free(from.exact);
    free(from.queries);
    free(from.keys);
    free(from.vectors);
    free(from.bytes);
    return 0;
}
