/* Indexes the fingerprints of the Linux documentation, saves them to one file, maps that file and
 * answers the held-out queries from it:
 *
 *     demo examples/linux-docs-codes.csv examples/linux-docs-queries.csv
 *
 * The queries are answered twice: exactly, and by the search graph, whose answers are then counted
 * against the exact ones. The file lives in a temporary directory and is removed at the end. */
#include <inttypes.h>
#include <nphd/nphd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define ANSWERS 5      /* per query */
#define SHOWN 4        /* queries printed in full */
#define NEAR 0.2F      /* a distance at which texts have much in common */
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

static void demo(const char *codes_path, const char *queries_path, const char *file_path)
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

    nphd_index_close(index);
    free(exact);
    free(graph);
    free(exact_reports);
    free(graph_reports);
    free_table(&codes);
    free_table(&queries);
}

static char directory[4096];
static char file_path[sizeof(directory) + 16];

static void remove_files(void)
{
    (void)unlink(file_path);
    (void)rmdir(directory);
}

int main(int argc, char **argv)
{
    const char *temporary = getenv("TMPDIR");

    if (argc != 3) {
        (void)fprintf(stderr, "usage: demo CODES.csv QUERIES.csv\n");
        return 2;
    }
    if (temporary == NULL || temporary[0] == '\0') {
        temporary = "/tmp";
    }
    const int length = snprintf(directory, sizeof(directory), "%s/nphd-demo-XXXXXX", temporary);
    if (length < 0 || (size_t)length >= sizeof(directory) || mkdtemp(directory) == NULL) {
        die(temporary, "no temporary directory can be made here");
    }
    (void)snprintf(file_path, sizeof(file_path), "%s/docs.usearch", directory);
    (void)atexit(remove_files);
    demo(argv[1], argv[2], file_path);
    return 0;
}
