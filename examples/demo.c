/* Indexes the fingerprints of the Linux documentation, saves them to one file, maps that file and
 * answers the held-out queries from it; then the same with a directory of small shards:
 *
 *     demo examples/linux-docs-codes.csv examples/linux-docs-queries.csv
 *
 * The queries are answered twice: exactly, and by the search graph, whose answers are then counted
 * against the exact ones. All files live in a temporary directory and are removed at the end. */
#include <dirent.h>
#include <inttypes.h>
#include <nphd/nphd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ANSWERS 5                         /* per query */
#define SHOWN 4                           /* queries printed in full */
#define NEAR 0.2F                         /* a distance at which texts have much in common */
#define SHARD_BYTES ((uint64_t)512 << 10) /* small, so that there are several */
#define LINE_BYTES 512 /* longest line of the example files, with room to spare */

/* One row of a file: a decoded fingerprint and where its text came from. */
typedef struct row {
    nphd_iscc iscc;
    nphd_key key; /* zero in the file of queries */
    char *source;
} row;

typedef struct csv_table {
    row *rows;
    size_t count;
    nphd_vector *vectors; /* those of the rows, in the same order */
    nphd_key *keys;
} csv_table;

static double now_ms(void)
{
    struct timespec time;

    (void)clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

static _Noreturn void die(const char *what, const char *why)
{
    (void)fprintf(stderr, "demo: %s: %s\n", what, why);
    exit(1);
}

static void check(nphd_status status, const char *what, const nphd_error *error)
{
    if (status != NPHD_OK) {
        die(what, error->text[0] != '\0' ? error->text : nphd_status_text(status));
    }
}

static void *allocate(size_t count, size_t bytes)
{
    void *memory = calloc(count > 0 ? count : 1, bytes);

    if (memory == NULL) {
        die("memory", "could not be allocated");
    }
    return memory;
}

/* `[key,]iscc,source`; no field of these files is quoted. */
static void parse_row(const char *path, char *line, int has_key, row *out)
{
    nphd_error error = NPHD_ERROR_INIT;
    char *field = line;
    char *comma = NULL;

    if (has_key) {
        out->key = nphd_key_u64(strtoull(field, &comma, 10));
        if (*comma != ',') {
            die(path, "a row without key");
        }
        field = comma + 1;
    }
    comma = strchr(field, ',');
    if (comma == NULL) {
        die(path, "a row without source");
    }
    check(nphd_iscc_decode(field, (size_t)(comma - field), &out->iscc, &error), path, &error);
    out->source = strdup(comma + 1);
    if (out->source == NULL) {
        die("memory", "could not be allocated");
    }
    out->source[strcspn(out->source, "\r\n")] = '\0';
}

static csv_table read_table(const char *path, int has_key)
{
    csv_table table = {NULL, 0, NULL, NULL};
    size_t room = 0;
    char line[LINE_BYTES];
    FILE *file = fopen(path, "r");

    if (file == NULL || fgets(line, sizeof(line), file) == NULL) { /* the line of names */
        die(path, "cannot be read");
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        if (table.count == room) {
            room = room > 0 ? 2 * room : 1024;
            table.rows = realloc(table.rows, room * sizeof(row));
            if (table.rows == NULL) {
                die("memory", "could not be allocated");
            }
        }
        memset(&table.rows[table.count], 0, sizeof(row));
        parse_row(path, line, has_key, &table.rows[table.count++]);
    }
    (void)fclose(file);
    table.vectors = allocate(table.count, sizeof(nphd_vector));
    table.keys = allocate(table.count, sizeof(nphd_key));
    for (size_t i = 0; i < table.count; i++) {
        table.vectors[i] = (nphd_vector){table.rows[i].iscc.body, table.rows[i].iscc.bytes};
        table.keys[i] = table.rows[i].key;
    }
    return table;
}

static void free_table(csv_table *table)
{
    for (size_t i = 0; i < table->count; i++) {
        free(table->rows[i].source);
    }
    free(table->rows);
    free(table->vectors);
    free(table->keys);
}

/* Adds all rows to a new index and saves it; returns the milliseconds that adding took. */
static double build_file(const csv_table *codes, const char *path, uint32_t threads)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT; /* 256 bits, 64-bit keys */
    nphd_batch_options batch = NPHD_BATCH_OPTIONS_INIT;
    nphd_error error = NPHD_ERROR_INIT;
    nphd_index *index = NULL;
    size_t added = 0;

    batch.threads = threads;
    check(nphd_index_create(&options, &index, &error), "create", &error);
    const double begin_ms = now_ms();
    check(nphd_index_add_many(index, codes->keys, codes->vectors, codes->count, &batch, NULL,
                              &added, &error),
          "add", &error);
    const double add_ms = now_ms() - begin_ms;
    if (added != codes->count) {
        die("add", "some keys were there already");
    }
    check(nphd_index_save(index, path, &batch, &error), "save", &error);
    nphd_index_close(index);
    return add_ms;
}

/* Answers all queries on one thread; returns the milliseconds per query. */
static double search(nphd_index *index, const csv_table *queries, nphd_search_mode mode,
                     nphd_match *out, nphd_search_report *reports)
{
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_error error = NPHD_ERROR_INIT;

    options.mode = mode;
    const double begin_ms = now_ms();
    check(nphd_index_search_many(index, queries->vectors, queries->count, ANSWERS, &options, out,
                                 reports, &error),
          "search", &error);
    return (now_ms() - begin_ms) / (double)queries->count;
}

static const row *find_row(const csv_table *codes, nphd_key key)
{
    for (size_t i = 0; i < codes->count; i++) {
        if (nphd_key_compare(codes->keys[i], key) == 0) {
            return &codes->rows[i];
        }
    }
    die("search", "answered a key that was never added");
}

static void print_answers(const csv_table *codes, const row *query, const nphd_match *matches,
                          const nphd_search_report *report)
{
    (void)printf("\nquery: %s (%u bits)\n", query->source, 8U * query->iscc.bytes);
    (void)printf("  distance  differing bits  key     source\n");
    for (size_t i = 0; i < report->count; i++) {
        const row *found = find_row(codes, matches[i].key);
        const unsigned bytes =
            found->iscc.bytes < query->iscc.bytes ? found->iscc.bytes : query->iscc.bytes;
        const double differing = (double)matches[i].distance * 8 * bytes;

        (void)printf("  %.4f    %4.0f of %-4u    %-6" PRIu64 "  %s\n", (double)matches[i].distance,
                     differing, 8 * bytes, matches[i].key.low, found->source);
    }
    (void)printf("  %s\n", report->exact ? "exact: no stored vector is nearer"
                                         : "approximate: a nearer vector may exist");
}

/* Prints the queries whose nearest neighbours are nearest: there is most to see. */
static void print_nearest(const csv_table *codes, const csv_table *queries,
                          const nphd_match *matches, const nphd_search_report *reports)
{
    unsigned char *printed = allocate(queries->count, 1);

    for (size_t shown = 0; shown < SHOWN && shown < queries->count; shown++) {
        size_t best = queries->count;
        for (size_t i = 0; i < queries->count; i++) {
            if (!printed[i] && queries->rows[i].iscc.bytes >= 16 && reports[i].count > 0 &&
                (best == queries->count ||
                 matches[i * ANSWERS].distance < matches[best * ANSWERS].distance)) {
                best = i;
            }
        }
        if (best == queries->count) {
            break;
        }
        printed[best] = 1;
        print_answers(codes, &queries->rows[best], &matches[best * ANSWERS], &reports[best]);
    }
    free(printed);
}

/* How many of the exact answers no farther than `within` the graph found too; equal distances count
 * as found. */
static size_t count_agreeing(const csv_table *queries, float within, const nphd_match *exact,
                             const nphd_search_report *exact_reports, const nphd_match *graph,
                             const nphd_search_report *graph_reports, size_t *out_total)
{
    size_t agreeing = 0;

    *out_total = 0;
    for (size_t i = 0; i < queries->count; i++) {
        const size_t first = i * ANSWERS;
        const size_t count = exact_reports[i].count;
        for (size_t j = 0; j < count; j++) {
            *out_total += exact[first + j].distance <= within;
        }
        for (size_t j = 0; j < graph_reports[i].count && count > 0; j++) {
            agreeing += graph[first + j].distance <= within &&
                        graph[first + j].distance <= exact[first + count - 1].distance;
        }
    }
    return agreeing;
}

/* Adds all rows to a directory, whose shards are written as they fill up. What has gone to disk is
 * then changed: a vector is deleted, and one is replaced and put back, so that the content ends as
 * that of the file. Returns the milliseconds that adding took. */
static double build_directory(const csv_table *codes, const csv_table *queries, const char *path,
                              uint32_t threads)
{
    const nphd_key passing = nphd_key_u64(1);
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    nphd_batch_options batch = NPHD_BATCH_OPTIONS_INIT;
    nphd_error error = NPHD_ERROR_INIT;
    nphd_sharded *sharded = NULL;
    size_t removed = 0;

    options.shard_bytes = SHARD_BYTES;
    batch.threads = threads;
    check(nphd_sharded_open(path, &options, &sharded, &error), "open", &error);
    check(nphd_sharded_add(sharded, passing, queries->vectors[0], NULL, &error), "add", &error);
    const double begin_ms = now_ms();
    check(nphd_sharded_add_many(sharded, codes->keys, codes->vectors, codes->count, &batch, NULL,
                                NULL, &error),
          "add", &error);
    const double add_ms = now_ms() - begin_ms;
    check(nphd_sharded_remove(sharded, &passing, 1, &removed, &error), "remove", &error);
    check(nphd_sharded_upsert(sharded, codes->keys, queries->vectors, 1, &batch, NULL, &error),
          "update", &error);
    check(nphd_sharded_upsert(sharded, codes->keys, codes->vectors, 1, &batch, NULL, &error),
          "update", &error);
    check(nphd_sharded_close(sharded, &error), "save", &error); /* a close saves */
    nphd_sharded_free(sharded);
    if (removed != 1) {
        die("remove", "the vector was not there");
    }
    return add_ms;
}

/* Ends the program when a directory answers anything but what the file answered. */
static void compare_answers(const csv_table *queries, const nphd_match *expected,
                            const nphd_search_report *expected_reports, const nphd_match *got,
                            const nphd_search_report *got_reports)
{
    for (size_t i = 0; i < queries->count; i++) {
        bool same = got_reports[i].count == expected_reports[i].count && got_reports[i].exact;
        for (size_t j = i * ANSWERS; same && j < i * ANSWERS + got_reports[i].count; j++) {
            same = nphd_key_compare(got[j].key, expected[j].key) == 0 &&
                   got[j].distance == expected[j].distance;
        }
        if (!same) {
            die(queries->rows[i].source, "file and directory answer differently");
        }
    }
}

static void demo_directory(const csv_table *codes, const csv_table *queries, const char *path,
                           uint32_t threads, const nphd_match *exact,
                           const nphd_search_report *exact_reports)
{
    nphd_match *matches = allocate(queries->count * ANSWERS, sizeof(nphd_match));
    nphd_search_report *reports = allocate(queries->count, sizeof(nphd_search_report));
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    nphd_sharded_stats stats = NPHD_SHARDED_STATS_INIT;
    nphd_search_options search = NPHD_SEARCH_OPTIONS_INIT;
    nphd_error error = NPHD_ERROR_INIT;
    nphd_sharded *sharded = NULL;

    const double add_ms = build_directory(codes, queries, path, threads);
    options.read_only = true;
    search.mode = NPHD_SEARCH_EXACT;
    const double open_begin_ms = now_ms();
    check(nphd_sharded_open(path, &options, &sharded, &error), "open", &error);
    const double open_ms = now_ms() - open_begin_ms;
    const double search_begin_ms = now_ms();
    check(nphd_sharded_search_many(sharded, queries->vectors, queries->count, ANSWERS, &search,
                                   matches, reports, &error),
          "search", &error);
    const double search_ms = (now_ms() - search_begin_ms) / (double)queries->count;
    check(nphd_sharded_get_stats(sharded, &stats, &error), "stats", &error);
    compare_answers(queries, exact, exact_reports, matches, reports);

    (void)printf("\nAn index that outgrows memory is a directory: a shard that is full is written "
                 "and mapped, and the\nnext begins. With shards of %" PRIu64
                 " KiB, a deletion, two updates and a reopening in between,\nall %zu queries have "
                 "the same exact answers as above.\n\n",
                 SHARD_BYTES >> 10, queries->count);
    (void)printf("directory       %" PRIu64 " vectors in %" PRIu64 " shards, %" PRIu64
                 " bytes; %" PRIu64 " dead entries\n",
                 stats.size, stats.files, stats.disk_bytes, stats.dead);
    (void)printf("add             %.0f vectors a second, %u threads, rotations included\n",
                 (double)codes->count / add_ms * 1e3, threads);
    (void)printf("open            %.2f ms\n", open_ms);
    (void)printf("search, exact   %.3f ms a query, 1 thread\n", search_ms);
    nphd_sharded_free(sharded);
    free(matches);
    free(reports);
}

static void demo(const char *codes_path, const char *queries_path, const char *file_path,
                 const char *directory_path)
{
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    const uint32_t threads = processors > 1 ? (uint32_t)processors : 1;
    csv_table codes = read_table(codes_path, 1);
    csv_table queries = read_table(queries_path, 0);
    nphd_match *exact = allocate(queries.count * ANSWERS, sizeof(nphd_match));
    nphd_match *graph = allocate(queries.count * ANSWERS, sizeof(nphd_match));
    nphd_search_report *exact_reports = allocate(queries.count, sizeof(nphd_search_report));
    nphd_search_report *graph_reports = allocate(queries.count, sizeof(nphd_search_report));
    nphd_metadata metadata = NPHD_METADATA_INIT;
    nphd_error error = NPHD_ERROR_INIT;
    nphd_index *index = NULL;
    size_t agreeing = 0;
    size_t total = 0;

    (void)printf(
        "%zu fingerprints of pieces of the Linux documentation, 64 to 256 bits long, go into "
        "an index,\nwhich is saved to a file and mapped. %zu others, which are not in it, are "
        "looked up.\n",
        codes.count, queries.count);
    const double add_ms = build_file(&codes, file_path, threads);
    const double open_begin_ms = now_ms();
    check(nphd_index_restore(file_path, true, NULL, &index, &error), "open", &error);
    const double open_ms = now_ms() - open_begin_ms;
    const double exact_ms = search(index, &queries, NPHD_SEARCH_EXACT, exact, exact_reports);
    const double graph_ms = search(index, &queries, NPHD_SEARCH_APPROXIMATE, graph, graph_reports);
    check(nphd_file_metadata(file_path, NULL, &metadata, &error), "metadata", &error);

    (void)printf(
        "The distance is the share of differing bits in the length that both have: 0 for like "
        "texts,\nabout 0.5 for unrelated ones. Here are the %d queries with the nearest "
        "neighbours, %d each.\n",
        SHOWN, ANSWERS);
    print_nearest(&codes, &queries, exact, exact_reports);
    agreeing = count_agreeing(&queries, 1, exact, exact_reports, graph, graph_reports, &total);
    (void)printf("\nThese answers are exact: each query was compared with every vector. The search "
                 "graph, which is\nfor larger indexes, finds %zu of the same %zu answers",
                 agreeing, total);
    agreeing = count_agreeing(&queries, NEAR, exact, exact_reports, graph, graph_reports, &total);
    (void)printf(", and %zu of the %zu that are within %.1f.\n\n", agreeing, total, (double)NEAR);
    (void)printf("file            %zu vectors in %" PRIu64 " bytes\n", codes.count,
                 metadata.file_bytes);
    (void)printf("add             %.0f vectors a second, %u threads\n",
                 (double)codes.count / add_ms * 1e3, threads);
    (void)printf("open            %.2f ms\n", open_ms);
    (void)printf("search, exact   %.3f ms a query, 1 thread, %s kernels\n", exact_ms,
                 nphd_kernel_name());
    (void)printf("search, graph   %.3f ms a query\n", graph_ms);
    demo_directory(&codes, &queries, directory_path, threads, exact, exact_reports);

    nphd_index_close(index);
    free(exact);
    free(graph);
    free(exact_reports);
    free(graph_reports);
    free_table(&codes);
    free_table(&queries);
}

static char temporary_path[4096];
static char file_path[sizeof(temporary_path) + 16];
static char directory_path[sizeof(temporary_path) + 16];

static void remove_files(void)
{
    DIR *entries = opendir(directory_path);

    for (const struct dirent *entry = NULL;
         entries != NULL && (entry = readdir(entries)) != NULL;) {
        (void)unlinkat(dirfd(entries), entry->d_name, 0); /* leaves "." and ".." alone */
    }
    if (entries != NULL) {
        (void)closedir(entries);
    }
    (void)rmdir(directory_path);
    (void)unlink(file_path);
    (void)rmdir(temporary_path);
}

int main(int argc, char **argv)
{
    const char *folder = getenv("TMPDIR");

    if (argc != 3) {
        (void)fprintf(stderr, "usage: demo CODES.csv QUERIES.csv\n");
        return 2;
    }
    if (folder == NULL || folder[0] == '\0') {
        folder = "/tmp";
    }
    const int length =
        snprintf(temporary_path, sizeof(temporary_path), "%s/nphd-demo-XXXXXX", folder);
    if (length < 0 || (size_t)length >= sizeof(temporary_path) || mkdtemp(temporary_path) == NULL) {
        die(folder, "no temporary directory can be made here");
    }
    (void)snprintf(file_path, sizeof(file_path), "%s/docs.usearch", temporary_path);
    (void)snprintf(directory_path, sizeof(directory_path), "%s/docs", temporary_path);
    (void)atexit(remove_files);
    demo(argv[1], argv[2], file_path, directory_path);
    return 0;
}
