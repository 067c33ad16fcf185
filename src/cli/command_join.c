/* nphd join: all pairs within a radius, inside one index or between two, or the groups that they
 * connect. */
#include "command.h"

#include "clusters.h"
#include "labels.h"
#include "output.h"
#include "parse.h"
#include "progress.h"
#include "signals.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Keys of the table stand in columns of this width, for a key may come that is longer than all
 * before it; what is wider moves its line. */
#define TABLE_KEY_WIDTH 10

typedef struct join_job {
    const char *left_path;
    const char *right_path;        /* NULL: inside one index */
    const char *labels_path;       /* of the left index */
    const char *right_labels_path; /* of the right one: its keys have nothing to do with those */
    cli_store_options open;
    cli_input_options columns; /* of the labels */
    cli_layout layout;
    bool clusters;
    bool has_radius;
    float radius;
    uint32_t threads;
    bool mix_units;
    uint64_t limit; /* of the pairs; 0: none */

    cli_store left;
    cli_store right;
    cli_labels labels;
    cli_labels right_labels;
    cli_clusters groups;
    uint64_t printed;
    bool out_of_memory;
} join_job;

/* ---- pairs ---- */

static bool join_has_labels(const join_job *job)
{
    return job->labels_path != NULL || job->right_labels_path != NULL;
}

/* Those of the right side's keys. */
static const cli_labels *join_right_labels(const join_job *job)
{
    return job->right_path != NULL ? &job->right_labels : &job->labels;
}

/* The label of a key, "-" if it has none, after two spaces. */
static void join_print_label(const cli_labels *labels, nphd_key key)
{
    const char *label = cli_labels_find(labels, key);
    char clean[1024];

    cli_message_clean(clean, sizeof(clean), label != NULL ? label : "-");
    printf("  %s", clean);
}

static void join_print_row(const join_job *job, const nphd_pair *pair)
{
    const bool bits = job->left.shape.metric == NPHD_METRIC_HAMMING;
    char left[CLI_KEY_TEXT_BYTES];
    char right[CLI_KEY_TEXT_BYTES];

    cli_format_key(pair->left, job->left.shape.key_bits, left);
    cli_format_key(pair->right, job->left.shape.key_bits, right);
    if (job->layout == CLI_LAYOUT_TSV) {
        printf("%s\t%s\t%.9g\n", left, right, (double)pair->distance);
        return;
    }
    if (job->printed == 0) {
        printf("%*s  %*s  distance%s\n", TABLE_KEY_WIDTH, "left", TABLE_KEY_WIDTH, "right",
               join_has_labels(job) ? "  sources" : "");
    }
    printf("%*s  %*s  %8.*f", TABLE_KEY_WIDTH, left, TABLE_KEY_WIDTH, right, bits ? 0 : 4,
           (double)pair->distance);
    if (join_has_labels(job)) {
        join_print_label(&job->labels, pair->left);
        join_print_label(join_right_labels(job), pair->right);
    }
    putchar('\n');
}

static void join_print_json(const join_job *job, const nphd_pair *pair)
{
    fputs("{\"left\": ", stdout);
    cli_print_json_key(pair->left, job->left.shape.key_bits);
    fputs(", \"right\": ", stdout);
    cli_print_json_key(pair->right, job->left.shape.key_bits);
    printf(", \"distance\": %.9g}\n", (double)pair->distance);
}

static int join_print(void *context, const nphd_pair *pairs, size_t count)
{
    join_job *job = context;

    for (size_t i = 0; i < count; i++) {
        if (job->layout == CLI_LAYOUT_JSONL) {
            join_print_json(job, &pairs[i]);
        } else {
            join_print_row(job, &pairs[i]);
        }
        job->printed++;
    }
    return cli_output_broken() || cli_interrupted() ? 1 : 0;
}

/* ---- groups ---- */

static int join_connect(void *context, const nphd_pair *pairs, size_t count)
{
    join_job *job = context;

    for (size_t i = 0; i < count; i++) {
        if (!cli_clusters_note(&job->groups, pairs[i].left, pairs[i].right)) {
            job->out_of_memory = true;
            return 1;
        }
    }
    return 0;
}

/* The members rows[0..size) of one group. */
static void join_print_group(const join_job *job, uint64_t number, const cli_cluster_row *rows)
{
    const uint32_t key_bits = job->left.shape.key_bits;
    const uint32_t size = rows[0].size;
    char representative[CLI_KEY_TEXT_BYTES];
    char key[CLI_KEY_TEXT_BYTES];

    cli_format_key(rows[0].representative, key_bits, representative);
    if (job->layout == CLI_LAYOUT_JSONL) {
        printf("{\"group\": %llu, \"size\": %u, \"representative\": ", (unsigned long long)number,
               size);
        cli_print_json_key(rows[0].representative, key_bits);
        fputs(", \"members\": [", stdout);
        for (uint32_t i = 0; i < size; i++) {
            fputs(i > 0 ? ", " : "", stdout);
            cli_print_json_key(rows[i].key, key_bits);
        }
        puts("]}");
        return;
    }
    if (job->layout == CLI_LAYOUT_TABLE) {
        printf("%sgroup %llu  (size %u, representative %s)\n", number > 0 ? "\n" : "",
               (unsigned long long)number, size, representative);
    }
    for (uint32_t i = 0; i < size; i++) {
        cli_format_key(rows[i].key, key_bits, key);
        if (job->layout == CLI_LAYOUT_TSV) {
            printf("%llu\t%u\t%s\t%s\n", (unsigned long long)number, size, representative, key);
            continue;
        }
        printf("  %*s", TABLE_KEY_WIDTH, key);
        if (join_has_labels(job)) {
            join_print_label(&job->labels, rows[i].key);
        }
        putchar('\n');
    }
}

static cli_exit join_print_groups(join_job *job)
{
    const size_t count = job->groups.count;
    cli_cluster_row *rows = NULL;
    uint64_t number = 0;

    if (count > 0) {
        rows = cli_clusters_rows(&job->groups);
        if (rows == NULL) {
            return cli_out_of_memory();
        }
    }
    for (size_t i = 0; i < count && !cli_output_broken() && !cli_interrupted(); i += rows[i].size) {
        join_print_group(job, number++, &rows[i]);
    }
    if (number == 0 && job->layout == CLI_LAYOUT_TABLE) {
        puts("nothing found");
    }
    free(rows);
    return cli_interrupted() ? CLI_INTERRUPTED : CLI_SUCCESS;
}

/* ---- the command ---- */

static cli_exit join_check_fit(const join_job *job)
{
    const cli_shape *left = &job->left.shape;
    const cli_shape *right = &job->right.shape;
    char left_name[NPHD_UNIT_NAME_BYTES];
    char right_name[NPHD_UNIT_NAME_BYTES];

    if (left->metric != right->metric) {
        return cli_usage("'%s' has the metric %s, '%s' has %s", job->left_path,
                         nphd_metric_name(left->metric), job->right_path,
                         nphd_metric_name(right->metric));
    }
    if (left->max_bytes != right->max_bytes) {
        return cli_usage("'%s' has vectors of up to %zu bits, '%s' of %zu", job->left_path,
                         8 * left->max_bytes, job->right_path, 8 * right->max_bytes);
    }
    if (left->key_bits != right->key_bits) {
        return cli_usage("'%s' has keys of %u bits, '%s' of %u", job->left_path, left->key_bits,
                         job->right_path, right->key_bits);
    }
    if (!job->mix_units && !nphd_units_agree(left->unit, right->unit)) {
        return cli_usage("'%s' has codes of the type %s, '%s' of %s (see --mix-units)",
                         job->left_path, nphd_unit_name(left->unit, left_name), job->right_path,
                         nphd_unit_name(right->unit, right_name));
    }
    return CLI_SUCCESS;
}

static cli_exit join_pairs(join_job *job)
{
    const nphd_join_side left = {job->left.index, job->left.sharded};
    const nphd_join_side right = {job->right.index, job->right.sharded};
    nphd_join_options options = NPHD_JOIN_OPTIONS_INIT;
    nphd_join_report report;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status = NPHD_OK;
    cli_progress progress;

    options.threads = job->threads;
    options.limit = job->limit;
    options.mix_units = job->mix_units;
    options.progress = cli_signals_step;
    /* a bar among the pairs would be no good to anyone */
    if (job->clusters || isatty(STDOUT_FILENO) == 0) {
        cli_progress_start(&progress, "joining");
        options.progress = cli_progress_step;
        options.progress_context = &progress;
    }
    status = nphd_join(&left, job->right_path != NULL ? &right : NULL, job->radius, &options,
                       job->clusters ? join_connect : join_print, job, &report, &err);
    cli_progress_hide();
    if (status != NPHD_OK) {
        return cli_fail(&err);
    }
    if (job->out_of_memory) {
        return cli_out_of_memory();
    }
    if (cli_interrupted()) {
        return CLI_INTERRUPTED;
    }
    if (job->clusters) {
        return join_print_groups(job);
    }
    if (report.pairs == 0 && job->layout == CLI_LAYOUT_TABLE) {
        puts("nothing found");
    }
    if (report.more && !cli_output_broken()) {
        cli_complain("stopped at --limit %llu; there are more pairs",
                     (unsigned long long)job->limit);
    }
    return cli_output_broken() ? CLI_SYSTEM : CLI_SUCCESS;
}

static cli_exit join_run(join_job *job)
{
    cli_exit result = CLI_SUCCESS;

    if (job->labels_path != NULL) {
        result = cli_labels_read(&job->labels, job->labels_path, &job->columns);
    }
    if (result == CLI_SUCCESS && job->right_labels_path != NULL) {
        result = cli_labels_read(&job->right_labels, job->right_labels_path, &job->columns);
    }
    if (result == CLI_SUCCESS) {
        result = cli_store_open(&job->left, job->left_path, CLI_READ, &job->open);
    }
    if (result == CLI_SUCCESS && job->right_path != NULL) {
        result = cli_store_open(&job->right, job->right_path, CLI_READ, &job->open);
        if (result == CLI_SUCCESS) {
            result = join_check_fit(job);
        }
    }
    if (result == CLI_SUCCESS) {
        result = cli_check_radius(job->left.shape.metric, job->radius);
    }
    if (result == CLI_SUCCESS) {
        result = join_pairs(job);
    }
    cli_store_close(&job->left);
    cli_store_close(&job->right);
    cli_labels_free(&job->labels);
    cli_labels_free(&job->right_labels);
    cli_clusters_free(&job->groups);
    return result;
}

static bool join_option(void *context, int option, const char *text)
{
    join_job *job = context;

    switch (option) {
    case CLI_OPT_CLUSTERS:
        job->clusters = true;
        return true;
    case CLI_OPT_MIX_UNITS:
        job->mix_units = true;
        return true;
    case CLI_OPT_LIMIT:
        return cli_option_u64("--limit", text, 1, UINT64_MAX, &job->limit);
    case CLI_OPT_RADIUS:
        job->has_radius = true;
        return cli_option_radius("--radius", text, &job->radius);
    case CLI_OPT_KEY_COLUMN:
    case CLI_OPT_SOURCE_COLUMN:
        return cli_take_column_option(&job->columns, option, text);
    case CLI_OPT_THREADS:
        return cli_take_threads(text, &job->threads);
    case CLI_OPT_TSV:
        return cli_take_layout(&job->layout, CLI_LAYOUT_TSV);
    case CLI_OPT_JSONL:
        return cli_take_layout(&job->layout, CLI_LAYOUT_JSONL);
    case CLI_OPT_LABELS:
        job->labels_path = text;
        return true;
    case CLI_OPT_LABELS_RIGHT:
        job->right_labels_path = text;
        return true;
    default:
        return cli_take_store_option(&job->open, option, text);
    }
}

static cli_exit join_check_options(const join_job *job)
{
    if (!job->has_radius) {
        return cli_usage("--radius is missing");
    }
    if (job->clusters && job->right_path != NULL) {
        return cli_usage("--clusters is for one index");
    }
    if (job->clusters && job->limit > 0) {
        return cli_usage(
            "--limit is for pairs, not for --clusters: groups of some of the pairs are "
            "not those of all");
    }
    if (job->right_labels_path != NULL && job->right_path == NULL) {
        return cli_usage("--labels-right is for the second of two indexes");
    }
    if (!join_has_labels(job) &&
        (job->columns.key_column != NULL || job->columns.source_column != NULL)) {
        return cli_usage("--key-column and --source-column are for --labels");
    }
    if (join_has_labels(job) && job->layout != CLI_LAYOUT_TABLE) {
        return cli_usage("--labels is for the table, not for --tsv or --jsonl");
    }
    return CLI_SUCCESS;
}

cli_exit cli_join(int argc, char **argv)
{
    static const struct option longs[] = {
        {"clusters", no_argument, NULL, CLI_OPT_CLUSTERS},
        {"help", no_argument, NULL, 'h'},
        {"jsonl", no_argument, NULL, CLI_OPT_JSONL},
        {"key-column", required_argument, NULL, CLI_OPT_KEY_COLUMN},
        {"key-format", required_argument, NULL, CLI_OPT_KEY_FORMAT},
        {"labels", required_argument, NULL, CLI_OPT_LABELS},
        {"labels-right", required_argument, NULL, CLI_OPT_LABELS_RIGHT},
        {"legacy-nphd", no_argument, NULL, CLI_OPT_LEGACY_NPHD},
        {"limit", required_argument, NULL, CLI_OPT_LIMIT},
        {"mix-units", no_argument, NULL, CLI_OPT_MIX_UNITS},
        {"radius", required_argument, NULL, CLI_OPT_RADIUS},
        {"realm", required_argument, NULL, CLI_OPT_REALM},
        {"salvage", no_argument, NULL, CLI_OPT_SALVAGE},
        {"source-column", required_argument, NULL, CLI_OPT_SOURCE_COLUMN},
        {"reference-wrote-last", no_argument, NULL, CLI_OPT_REFERENCE},
        {"threads", required_argument, NULL, CLI_OPT_THREADS},
        {"tsv", no_argument, NULL, CLI_OPT_TSV},
        {NULL, 0, NULL, 0},
    };
    join_job job = {.left_path = NULL};
    cli_exit result = CLI_SUCCESS;

    if (!cli_take_options(argc, argv, ":h", longs, join_option, &job, &result)) {
        return result;
    }
    if (cli_take_path(argc, argv, &job.left_path) != CLI_SUCCESS ||
        (optind < argc && cli_take_path(argc, argv, &job.right_path) != CLI_SUCCESS) ||
        cli_take_no_more(argc, argv) != CLI_SUCCESS) {
        return CLI_USAGE;
    }
    result = join_check_options(&job);
    return result == CLI_SUCCESS ? join_run(&job) : result;
}
