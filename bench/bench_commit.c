/* The journal: what commits cost beside plain appending, what it costs bulk adds, and how fast it
 * is replayed.
 *
 * Usage: bench_commit [vectors] [directory]
 *        (default: 100000 vectors, below the current directory; everything it writes is removed)
 *
 * Vector i is 32 bytes of splitmix64. Medians of several runs; the two sides of a ratio take turns,
 * so that a machine that changes its speed changes both. */
#include <nphd/nphd.h>

#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { ROW_BYTES = 32, GROUP = 1000, REPEATS = 7, SINGLES = 200, MOST_PATH = 1000 };

/* What a record of the journal takes: kind, length, key, vector; and a frame: its start, whole
 * blocks with so many bytes of data. */
enum { RECORD_BYTES = 6 + 8 + ROW_BYTES, FRAME_BYTES = 16, BLOCK_BYTES = 4096, BLOCK_DATA = 3968 };

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
    (void)fprintf(stderr, "bench_commit: %s\n", what);
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

/* ---- the index ---- */

static nphd_sharded *must_open(const char *path, bool journal, uint32_t threads)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_sharded *sharded = NULL;

    options.journal = journal;
    options.threads = threads;
    check(nphd_sharded_open(path, &options, &sharded, &err), &err);
    return sharded;
}

static void add(nphd_sharded *sharded, uint64_t first, size_t count, uint32_t threads)
{
    static uint64_t bits[GROUP][ROW_BYTES / 8];
    static nphd_vector vectors[GROUP];
    static nphd_key keys[GROUP];
    nphd_batch_options options = NPHD_BATCH_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;

    options.threads = threads;
    for (size_t done = 0; done < count; done += GROUP) {
        const size_t part = count - done < GROUP ? count - done : GROUP;
        for (size_t i = 0; i < part; i++) {
            for (size_t word = 0; word < ROW_BYTES / 8; word++) {
                bits[i][word] = splitmix64(4 * (first + done + i) + word);
            }
            vectors[i] = (nphd_vector){(const uint8_t *)bits[i], ROW_BYTES};
            keys[i] = nphd_key_u64(first + done + i);
        }
        check(nphd_sharded_add_many(sharded, keys, vectors, part, &options, NULL, NULL, &err),
              &err);
    }
}

static void commit(nphd_sharded *sharded)
{
    nphd_error err = NPHD_ERROR_INIT;

    check(nphd_sharded_commit(sharded, &err), &err);
}

static void save(nphd_sharded *sharded)
{
    nphd_error err = NPHD_ERROR_INIT;

    check(nphd_sharded_save(sharded, NULL, &err), &err);
}

static nphd_sharded *must_begin(const char *path)
{
    remove_directory(path);
    nphd_sharded *sharded = must_open(path, true, 0);
    add(sharded, 1ULL << 40, 1, 1);
    save(sharded);
    return sharded;
}

/* ---- commits beside appending ---- */

static double append(int file, const uint8_t *data, size_t bytes)
{
    const double begin = now();

    if (write(file, data, bytes) != (ssize_t)bytes || fdatasync(file) != 0) {
        die("append");
    }
    return now() - begin;
}

static int create(const char *path, const char *name)
{
    char file[MOST_PATH + 100];

    (void)snprintf(file, sizeof(file), "%s/%s", path, name);
    const int number = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0666);
    if (number < 0) {
        die("create");
    }
    return number;
}

static void bench_group(const char *path, size_t group, size_t repeats)
{
    const size_t bytes =
        (FRAME_BYTES + group * RECORD_BYTES + BLOCK_DATA - 1) / BLOCK_DATA * BLOCK_BYTES;
    nphd_sharded *sharded = must_begin(path);
    uint8_t *data = calloc(bytes, 1);
    double *committed = calloc(repeats, sizeof(*committed));
    double *appended = calloc(repeats, sizeof(*appended));
    const int file = create(path, "plain");
    uint64_t next = 0;

    if (data == NULL || committed == NULL || appended == NULL) {
        die("out of memory");
    }
    for (size_t i = 0; i < repeats + 1; i++) { /* the first creates the file */
        add(sharded, next, group, 1);
        next += group;
        const double begin = now();
        commit(sharded);
        const double took = now() - begin;
        /* behind as much other work: a flush right after another one is a faster one */
        add(sharded, next, group, 1);
        next += group;
        const double plain = append(file, data, bytes);
        commit(sharded);
        if (i > 0) {
            committed[i - 1] = took;
            appended[i - 1] = plain;
        }
    }
    const double ours = median(committed, repeats);
    const double theirs = median(appended, repeats);
    printf("commit of %zu adds: %.3f ms, append and flush of as many bytes: %.3f ms, ratio %.2f\n",
           group, ours * 1e3, theirs * 1e3, ours / theirs);
    (void)close(file);
    free(data);
    free(committed);
    free(appended);
    nphd_sharded_free(sharded);
    remove_directory(path);
}

/* ---- bulk adds ---- */

static double bulk(const char *path, uint64_t vectors, bool journal)
{
    remove_directory(path);
    nphd_sharded *sharded = must_open(path, journal, 0);
    add(sharded, 1ULL << 40, 1, 1);
    save(sharded);
    const double begin = now();
    add(sharded, 0, vectors, 1);
    if (journal) {
        commit(sharded);
    }
    const double took = now() - begin;
    nphd_sharded_free(sharded);
    return took;
}

static void bench_bulk(const char *path, uint64_t vectors)
{
    double with[REPEATS];
    double without[REPEATS];
    double ratios[REPEATS];

    for (size_t i = 0; i < REPEATS; i++) {
        without[i] = bulk(path, vectors, false);
        with[i] = bulk(path, vectors, true);
        ratios[i] = with[i] / without[i];
    }
    printf("adds without journal: %.0f /s, with journal and a commit: %.0f /s, time ratio %.3f\n",
           (double)vectors / median(without, REPEATS), (double)vectors / median(with, REPEATS),
           median(ratios, REPEATS));
    remove_directory(path);
}

/* ---- replay ---- */

static void bench_replay(const char *path, uint64_t vectors, uint32_t threads)
{
    double added[3];
    double replayed[3];

    for (size_t i = 0; i < 3; i++) {
        nphd_sharded *sharded = must_begin(path);
        double begin = now();
        add(sharded, 0, vectors, threads);
        added[i] = now() - begin;
        commit(sharded);
        nphd_sharded_free(sharded);
        begin = now();
        sharded = must_open(path, true, threads);
        replayed[i] = now() - begin;
        if (nphd_sharded_size(sharded) != vectors + 1) {
            die("the journal has not everything");
        }
        nphd_sharded_free(sharded);
    }
    const double adding = median(added, 3);
    const double replaying = median(replayed, 3);
    printf("threads %u: added %.0f /s, replayed %.0f /s, rate ratio %.2f\n", threads,
           (double)vectors / adding, (double)vectors / replaying, adding / replaying);
    remove_directory(path);
}

int main(int argc, char **argv)
{
    const uint64_t vectors = argc > 1 ? strtoull(argv[1], NULL, 10) : 100000;
    char path[MOST_PATH];

    (void)snprintf(path, sizeof(path), "%s/bench_commit.tmp", argc > 2 ? argv[2] : ".");
    printf("%llu vectors of %d bytes, %s\n", (unsigned long long)vectors, ROW_BYTES,
           nphd_kernel_name());
    bench_group(path, GROUP, 50);
    bench_group(path, 1, SINGLES);
    bench_bulk(path, vectors / 5);
    bench_replay(path, vectors / 5, 1);
    bench_replay(path, vectors / 5, 2);
    return 0;
}
