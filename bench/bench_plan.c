/* The planner: how often the plan it chooses takes at most ALLOWED times the best one.
 *
 * Usage: bench_plan [vectors ...]      (default: 1000000; 0: the real ones alone)
 *
 * Three kinds of index, all of vectors of 8, 16, 24 or 32 bytes: text fingerprints (bench/data);
 * for each number in the arguments as many generated vectors; and as many again of which a tenth,
 * but at most 100,000, are one and the same. Queries are near (a stored vector with bits turned
 * over, half of those that the radius allows) or far (a generated one); within radii, or for the
 * nearest. Each is answered as the planner likes, by scanning, by tables and along the graph; the
 * time of each is the least of up to REPEATS runs, with all other queries in between, for other
 * programs only make a run longer; a first run does not count, in which memory is new to it. A plan
 * that takes LOST times the best one is not run again, but for the planner's. */
#include <nphd/nphd.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ROW_BYTES 32
#define QUERIES 40
#define REPEATS 7
#define LOST 3
#define ALLOWED 1.3
#define CAPACITY 1000
#define SEED 42
#define MOST_EQUAL 100000
#define THREADS 2

enum { PLANNED, SCANNED, BY_TABLES, BY_GRAPH, PLANS };

/* Of queries. */
typedef struct tally {
    uint64_t asked;
    uint64_t good; /* the planner's time is at most ALLOWED times the best one */
} tally;

typedef struct world {
    uint8_t *bytes; /* ROW_BYTES for each vector */
    nphd_vector *vectors;
    nphd_key *keys;
    size_t count;
    nphd_index *index;
} world;

/* What is asked. */
typedef struct question {
    bool within;
    float radius;
    size_t nearest;
    bool near;
} question;

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
        (void)fprintf(stderr, "bench_plan: %s\n", err->text);
        exit(1);
    }
}

static void *must_allocate(size_t bytes)
{
    void *memory = malloc(bytes);

    if (memory == NULL) {
        (void)fprintf(stderr, "bench_plan: out of memory\n");
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

static void generate(uint64_t number, uint8_t out[ROW_BYTES])
{
    for (uint32_t at = 0; at < ROW_BYTES; at += 8) {
        const uint64_t word = splitmix64(SEED + 4 * number + at / 8);
        memcpy(out + at, &word, 8);
    }
}

/* ---- indexes ---- */

static void world_begin(world *of, size_t count)
{
    memset(of, 0, sizeof(*of));
    of->count = count;
    of->bytes = must_allocate(count * ROW_BYTES);
    of->vectors = must_allocate(count * sizeof(*of->vectors));
    of->keys = must_allocate(count * sizeof(*of->keys));
}

/* Its bytes are there. A graph of half the usual breadth, which takes half the time to make. */
static void world_build(world *of, const char *name)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_batch_options batch = NPHD_BATCH_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    const double start = now();

    for (size_t i = 0; i < of->count; i++) {
        of->vectors[i].data = of->bytes + i * ROW_BYTES;
        of->vectors[i].bytes = 8 * (1 + splitmix64(i) % 4);
        of->keys[i] = nphd_key_u64(i);
    }
    options.connectivity = 8;
    options.build_breadth = 64;
    batch.threads = THREADS;
    check(nphd_index_create(&options, &of->index, &err), &err);
    check(
        nphd_index_add_many(of->index, of->keys, of->vectors, of->count, &batch, NULL, NULL, &err),
        &err);
    const double built = now();
    check(nphd_index_prepare(of->index, THREADS, &err), &err);
    printf("%zu %s: graph in %.1f s, tables and planes in %.2f s\n", of->count, name, built - start,
           now() - built);
}

static void world_end(world *of)
{
    nphd_index_close(of->index);
    free(of->bytes);
    free(of->vectors);
    free(of->keys);
}

static void world_of_file(world *of)
{
    FILE *file = fopen(NPHD_SOURCE_DIR "/bench/data/kernel-simprints-200k.bin", "rb");

    if (file == NULL || fseek(file, 0, SEEK_END) != 0) {
        (void)fprintf(stderr, "bench_plan: cannot read bench/data/kernel-simprints-200k.bin\n");
        exit(1);
    }
    world_begin(of, (size_t)ftell(file) / ROW_BYTES);
    rewind(file);
    if (fread(of->bytes, ROW_BYTES, of->count, file) != of->count) {
        exit(1);
    }
    (void)fclose(file);
    world_build(of, "text fingerprints");
}

static void world_of_numbers(world *of, size_t count, size_t equal)
{
    world_begin(of, count);
    for (size_t i = 0; i < count; i++) {
        generate(i % (count / (equal + 1) + 1) == 0 && equal > 0 ? 0 : i,
                 of->bytes + i * ROW_BYTES);
    }
    world_build(of, equal > 0 ? "generated, many of them equal" : "generated");
}

/* ---- queries ---- */

static nphd_vector make_query(const world *of, const question *what, uint64_t number,
                              uint8_t room[ROW_BYTES])
{
    const size_t place = (size_t)(splitmix64(~number) % of->count);
    nphd_vector query = {room, 8 * (1 + splitmix64(number) % 4)};

    if (!what->near) {
        generate(UINT32_MAX + number, room);
        return query;
    }
    memcpy(room, of->bytes + place * ROW_BYTES, ROW_BYTES);
    query.bytes = number % 2 == 0 ? of->vectors[place].bytes : query.bytes;
    const float radius = what->within ? what->radius : 0.06F;
    const uint64_t flips = (uint64_t)(4.0F * radius * (float)query.bytes);
    for (uint64_t i = 0; i < flips; i++) {
        const uint64_t bit = splitmix64(number * 1000 + i) % (8 * query.bytes);
        room[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
    return query;
}

/* Seconds. */
static double run(const world *of, const question *what, nphd_vector query, int plan,
                  nphd_search_report *report)
{
    static const nphd_search_plan plans[PLANS] = {NPHD_PLAN_AUTO, NPHD_PLAN_SCAN, NPHD_PLAN_TABLES,
                                                  NPHD_PLAN_GRAPH};
    static nphd_match matches[CAPACITY];
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;

    options.mode = plan == BY_GRAPH ? NPHD_SEARCH_AUTO : NPHD_SEARCH_EXACT;
    options.plan = plans[plan];
    options.use_radius = what->within;
    options.radius = what->radius;
    const double start = now();
    check(nphd_index_search(of->index, query, what->within ? CAPACITY : what->nearest, &options,
                            matches, report, &err),
          &err);
    return now() - start;
}

typedef struct outcome {
    double seconds[PLANS][QUERIES];
    double predicted[QUERIES]; /* by the planner, divided by what it took */
    uint64_t by_tables;        /* as the planner chose */
} outcome;

static double least_exact(const outcome *of, size_t place)
{
    double least = of->seconds[PLANNED][place];

    for (int plan = SCANNED; plan <= BY_TABLES; plan++) {
        const double seconds = of->seconds[plan][place];
        least = seconds < least ? seconds : least;
    }
    return least;
}

/* All plans once for one query. */
static void ask(const world *of, const question *what, uint64_t number, int pass, size_t place,
                outcome *out)
{
    uint8_t room[ROW_BYTES];
    const nphd_vector query = make_query(of, what, number, room);
    nphd_search_report report;

    for (int i = 0; i < PLANS; i++) {
        /* whichever comes first finds the least in the caches, the one behind a scan its planes */
        const int plan = (pass % 2 == 0 ? pass + i : pass + PLANS - i) % PLANS;
        double *seconds = &out->seconds[plan][place];
        if (pass > 0 && plan != PLANNED && *seconds > LOST * least_exact(out, place)) {
            continue;
        }
        const double once = run(of, what, query, plan, &report);
        *seconds = pass <= 1 || once < *seconds ? once : *seconds;
        if (plan == PLANNED) {
            out->predicted[place] = (double)report.predicted * 1e-6 / *seconds;
            out->by_tables += pass == 0 && report.plan == NPHD_PLAN_TABLES ? 1 : 0;
        }
    }
}

static void ask_class(const world *of, const question *what, uint64_t number, tally *all)
{
    static outcome of_class;
    double medians[PLANS];
    uint64_t good = 0;
    char name[32];

    memset(&of_class, 0, sizeof(of_class));
    for (int pass = 0; pass <= REPEATS; pass++) {
        for (size_t i = 0; i < QUERIES; i++) {
            ask(of, what, number * QUERIES + i, pass, i, &of_class);
        }
    }
    for (size_t i = 0; i < QUERIES; i++) {
        good += of_class.seconds[PLANNED][i] <= ALLOWED * least_exact(&of_class, i) ? 1 : 0;
    }
    for (int plan = 0; plan < PLANS; plan++) {
        qsort(of_class.seconds[plan], QUERIES, sizeof(double), compare_doubles);
        medians[plan] = of_class.seconds[plan][QUERIES / 2] * 1e6;
    }
    qsort(of_class.predicted, QUERIES, sizeof(double), compare_doubles);
    if (what->within) {
        (void)snprintf(name, sizeof(name), "within %.2f", (double)what->radius);
    } else {
        (void)snprintf(name, sizeof(name), "nearest %zu", what->nearest);
    }
    printf("  %-12s %-4s  planned %8.1f us  scan %8.1f  tables %9.1f  graph %7.1f  by tables "
           "%3.0f %%  predicted %.2f times  good %3.0f %%\n",
           name, what->near ? "near" : "far", medians[PLANNED], medians[SCANNED],
           medians[BY_TABLES], medians[BY_GRAPH], 100.0 * (double)of_class.by_tables / QUERIES,
           of_class.predicted[QUERIES / 2], 100.0 * (double)good / QUERIES);
    all->asked += QUERIES;
    all->good += good;
}

static void ask_all(const world *of, tally *all)
{
    static const float radii[] = {0, 0.02F, 0.05F, 0.08F, 0.1F, 0.12F, 0.15F, 0.2F, 0.25F};
    static const size_t nearest[] = {1, 10, 100};
    tally here = {0, 0};

    for (int near = 1; near >= 0; near--) {
        uint64_t number = near == 1 ? 1 : 100;
        for (size_t i = 0; i < sizeof(radii) / sizeof(radii[0]); i++) {
            const question what = {true, radii[i], 0, near == 1};
            ask_class(of, &what, number++, &here);
        }
        for (size_t i = 0; i < sizeof(nearest) / sizeof(nearest[0]); i++) {
            const question what = {false, 0, nearest[i], near == 1};
            ask_class(of, &what, number++, &here);
        }
    }
    printf("  at most %.1f times the best: %.1f %% of %llu queries\n\n", ALLOWED,
           100.0 * (double)here.good / (double)here.asked, (unsigned long long)here.asked);
    (void)fflush(stdout);
    all->asked += here.asked;
    all->good += here.good;
}

int main(int argc, char **argv)
{
    tally all = {0, 0};
    world of;

    printf("compiler %s, kernels %s, seed %d; least of %d runs, medians over %d queries\n\n",
           __VERSION__, nphd_kernel_name(), SEED, REPEATS, QUERIES);
    world_of_file(&of);
    ask_all(&of, &all);
    world_end(&of);
    for (int i = 1; i < (argc > 1 ? argc : 2); i++) {
        const size_t count = argc > 1 ? (size_t)strtoull(argv[i], NULL, 0) : 1000000;
        for (int kind = 0; kind < 2 && count > 0; kind++) {
            const size_t tenth = count / 10 < MOST_EQUAL ? count / 10 : MOST_EQUAL;
            world_of_numbers(&of, count, kind == 0 ? 0 : tenth);
            ask_all(&of, &all);
            world_end(&of);
        }
    }
    printf("all: at most %.1f times the best: %.1f %% of %llu queries\n", ALLOWED,
           100.0 * (double)all.good / (double)all.asked, (unsigned long long)all.asked);
    return 0;
}
