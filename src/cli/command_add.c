/* nphd add: vectors from files into an index.
 *
 * Vectors are collected into batches of fixed size, so an input of any length costs the memory of
 * one batch beside the index. An index file is written once, after the last batch: a bad line
 * leaves it as it was. Of a directory the shards that filled up before are kept, and with a journal
 * every batch. */
#include "command.h"

#include "input.h"
#include "output.h"
#include "parse.h"
#include "progress.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Vectors of one batch: 17 MB at the widest, and long enough for all threads to have work. */
#define BATCH_VECTORS ((size_t)65536)

/* Bad lines of a file that are told each; who has more of them looks for one cause. */
#define TOLD_LINES 1000

typedef struct add_job {
    const char *path;
    cli_store_options open;
    cli_input_options input;
    uint32_t threads;
    bool update;
    bool skip_bad;
    bool tables;
    bool number_keys; /* --first-key was given */
    bool mix_units;
    nphd_key next_key;

    cli_store store;

    nphd_key *keys;
    nphd_vector *vectors;
    uint8_t *rows;
    size_t count;
    bool keyed; /* the vectors of this batch come with keys */

    uint64_t added;
    uint64_t present; /* not stored: the key was there; with --update: with this very vector */
    uint64_t replaced;
    uint64_t skipped;
    uint64_t told; /* bad lines of this file, each with what is wrong ... */
    uint64_t untold;
    uint64_t untold_line; /* ... and those behind them, which are only counted */
    cli_progress progress;
} add_job;

/* Which type of codes is meant: what --unit says, also of vectors that say nothing, or else what
 * the index has. */
static cli_exit add_settle_unit(add_job *job)
{
    cli_problem problem;

    if (job->input.notation.unit == NPHD_UNIT_NONE) {
        job->input.notation.unit = job->mix_units ? NPHD_UNIT_NONE : job->store.shape.unit;
        return CLI_SUCCESS;
    }
    return cli_store_set_unit(&job->store, job->input.notation.unit, job->mix_units, &problem)
               ? CLI_SUCCESS
               : cli_usage("--unit: %s", problem.text);
}

static cli_exit add_open(add_job *job)
{
    cli_exit result = CLI_SUCCESS;

    job->open.threads = job->threads;
    job->open.tables = job->tables;
    result = cli_store_open(&job->store, job->path, CLI_CREATE, &job->open);
    if (result == CLI_SUCCESS && job->update && job->store.shape.multi) {
        return cli_usage("--update: %s may hold several vectors under a key", job->path);
    }
    return result == CLI_SUCCESS ? add_settle_unit(job) : result;
}

static cli_exit add_allocate(add_job *job)
{
    job->keys = calloc(BATCH_VECTORS, sizeof(job->keys[0]));
    job->vectors = calloc(BATCH_VECTORS, sizeof(job->vectors[0]));
    job->rows = calloc(BATCH_VECTORS, job->store.shape.max_bytes);
    if (job->keys == NULL || job->vectors == NULL || job->rows == NULL) {
        return cli_out_of_memory();
    }
    return CLI_SUCCESS;
}

/* Stores the batch in the index, commits it where there is a journal, and empties it. */
static cli_exit add_flush(add_job *job)
{
    nphd_batch_options options = NPHD_BATCH_OPTIONS_INIT;
    nphd_upsert_counts counts = {0, 0, 0};
    cli_exit result = CLI_SUCCESS;

    if (job->count == 0) {
        return CLI_SUCCESS;
    }
    options.threads = job->threads;
    options.progress = cli_progress_step;
    options.progress_context = &job->progress;
    if (job->update) {
        result =
            cli_store_upsert(&job->store, job->keys, job->vectors, job->count, &options, &counts);
    } else {
        result = cli_store_add(&job->store, job->keyed ? job->keys : NULL, job->vectors, job->count,
                               &options, &counts.added);
        counts.unchanged = job->count - counts.added;
    }
    if (result == CLI_SUCCESS) {
        result = cli_store_commit(&job->store);
    }
    if (result != CLI_SUCCESS) {
        return result;
    }
    job->added += counts.added;
    job->replaced += counts.replaced;
    job->present += counts.unchanged;
    job->count = 0;
    return CLI_SUCCESS;
}

static bool add_vector_fits(const add_job *job, const cli_record *record, cli_problem *problem)
{
    const size_t max = job->store.shape.max_bytes;

    if (job->store.shape.metric == NPHD_METRIC_HAMMING && record->bytes != max) {
        cli_problem_set(problem, "the vector has the wrong length: bytes %zu, not %zu",
                        record->bytes, max);
        return false;
    }
    if (record->bytes > max) {
        cli_problem_set(problem, "the vector is too long: bytes %zu, at most %zu", record->bytes,
                        max);
        return false;
    }
    return true;
}

/* Puts a record into the batch; false, with a problem, when the index could not take it. */
static bool add_collect(add_job *job, cli_record *record, cli_problem *problem)
{
    const size_t place = job->count;

    if (!record->has_key && job->number_keys) {
        record->key = job->next_key;
    }
    if (!add_vector_fits(job, record, problem) ||
        !cli_key_fits(record->key, job->store.shape.key_bits, problem) ||
        !cli_store_set_unit(&job->store, record->read.unit, job->mix_units, problem)) {
        return false;
    }
    if (!record->has_key && job->number_keys) {
        job->next_key.low++;
        job->next_key.high += job->next_key.low == 0 ? 1 : 0;
    }
    job->keys[place] = record->key;
    job->vectors[place].data = job->rows + place * job->store.shape.max_bytes;
    job->vectors[place].bytes = record->bytes;
    memcpy(job->rows + place * job->store.shape.max_bytes, record->vector, record->bytes);
    job->keyed = record->has_key || job->number_keys;
    job->count++;
    return true;
}

/* Where automatic keys cannot be had, vectors without keys are refused before the first. */
static cli_exit add_check_keys(const add_job *job, const cli_input *input)
{
    if (input->has_keys || job->number_keys) {
        return CLI_SUCCESS;
    }
    if (job->update) {
        cli_complain_at(input->reader.name, 0, "has no keys, and --update goes by keys");
        return CLI_BAD_INPUT;
    }
    if (job->store.shape.key_bits != 64) {
        cli_complain_at(input->reader.name, 0,
                        "has no keys, and automatic keys have 64 bits; give --first-key");
        return CLI_BAD_INPUT;
    }
    return CLI_SUCCESS;
}

static cli_exit add_bad(add_job *job, const cli_input *input, const cli_problem *problem)
{
    if (job->told == TOLD_LINES) {
        job->untold++;
        job->untold_line = input->line;
    } else {
        cli_complain_at(input->reader.name, input->line, "%s%s", problem->text,
                        job->skip_bad ? " (skipped)" : "");
        job->told++;
    }
    job->skipped++;
    return job->skip_bad ? CLI_SUCCESS : CLI_BAD_INPUT;
}

/* After each file. */
static void add_tell_skipped(add_job *job, const cli_input *input)
{
    if (job->untold > 0) {
        cli_complain_at(input->reader.name, job->untold_line,
                        "the last of %llu more bad lines (skipped)",
                        (unsigned long long)job->untold);
    }
    job->told = 0;
    job->untold = 0;
}

/* The share of all files that is read, taking each file for equally long. */
static double add_fraction(const cli_input *input, int file, int files)
{
    const double within = cli_input_fraction(input);

    return within < 0 ? -1 : ((double)file + within) / (double)files;
}

static cli_exit add_read(add_job *job, cli_input *input, int file, int files)
{
    cli_record record;
    cli_exit result = CLI_SUCCESS;
    double begin = add_fraction(input, file, files);

    while (result == CLI_SUCCESS) {
        const cli_next got = cli_input_next(input, &record);

        if (got == CLI_NEXT_FAILED) {
            return input->failure;
        }
        if (got == CLI_NEXT_END || job->count == BATCH_VECTORS) {
            const double end = add_fraction(input, file, files);

            cli_progress_batch(&job->progress, job->count, begin, end);
            begin = end;
            result = add_flush(job);
            if (result != CLI_SUCCESS || got == CLI_NEXT_END) {
                return result;
            }
        }
        if (got == CLI_NEXT_BAD) {
            result = add_bad(job, input, &input->problem);
            continue;
        }
        result = add_check_keys(job, input);
        if (result == CLI_SUCCESS && !add_collect(job, &record, &input->problem)) {
            result = add_bad(job, input, &input->problem);
        }
    }
    return result;
}

static cli_exit add_files(add_job *job, char **files, int count)
{
    cli_exit result = CLI_SUCCESS;

    cli_progress_start(&job->progress, "adding");
    for (int i = 0; i < count && result == CLI_SUCCESS; i++) {
        cli_input input;

        result = cli_input_open(&input, files[i], &job->input, CLI_FOR_ADD);
        if (result == CLI_SUCCESS) {
            result = add_read(job, &input, i, count);
            add_tell_skipped(job, &input);
        }
        cli_input_close(&input);
    }
    cli_progress_hide();
    return result;
}

static void add_summary(const add_job *job, double seconds)
{
    printf("added %llu, ", (unsigned long long)job->added);
    if (job->update) {
        printf("replaced %llu, unchanged %llu, ", (unsigned long long)job->replaced,
               (unsigned long long)job->present);
    } else {
        printf("already present %llu, ", (unsigned long long)job->present);
    }
    if (job->skip_bad) {
        printf("skipped %llu, ", (unsigned long long)job->skipped);
    }
    printf("total %llu, %.2f s\n", (unsigned long long)cli_store_size(&job->store), seconds);
}

/* A directory makes the tables of its full shards itself. */
static cli_exit add_tables(add_job *job)
{
    return job->tables && job->store.index != NULL && cli_store_must_save(&job->store)
               ? cli_store_prepare(&job->store, job->threads, NULL)
               : CLI_SUCCESS;
}

static cli_exit add_run(add_job *job, char **files, int count)
{
    const double start = cli_seconds();
    cli_exit tables = CLI_SUCCESS;
    cli_exit result = add_open(job);

    if (result == CLI_SUCCESS) {
        result = add_allocate(job);
    }
    if (result == CLI_SUCCESS) {
        result = add_files(job, files, count);
    }
    if (result == CLI_SUCCESS) {
        /* without memory for tables the vectors are saved all the same */
        tables = add_tables(job);
        result = tables == CLI_INTERRUPTED ? tables : cli_store_save(&job->store);
    }
    if (result == CLI_SUCCESS) {
        add_summary(job, cli_seconds() - start);
        result = tables;
    }
    if (result == CLI_INTERRUPTED && job->open.journal && job->added + job->replaced > 0) {
        cli_complain("%llu vectors are committed",
                     (unsigned long long)(job->added + job->replaced));
    }
    cli_store_close(&job->store);
    free(job->keys);
    free(job->vectors);
    free(job->rows);
    return result;
}

static bool add_option_max_bits(const char *text, uint32_t *out)
{
    if (!cli_option_u32("--max-bits", text, 8, NPHD_MAX_BITS, out)) {
        return false;
    }
    if (*out % 8 != 0) {
        cli_usage("--max-bits: %s is not a multiple of 8", text);
        return false;
    }
    return true;
}

static bool add_option_key_bits(const char *text, uint32_t *out)
{
    if (strcmp(text, "64") != 0 && strcmp(text, "128") != 0) {
        cli_usage("--key-bits: '%s' is neither 64 nor 128", text);
        return false;
    }
    *out = strcmp(text, "64") == 0 ? 64 : 128;
    return true;
}

static bool add_option(void *context, int option, const char *text)
{
    add_job *job = context;

    switch (option) {
    case CLI_OPT_MAX_BITS:
        return add_option_max_bits(text, &job->open.max_bits);
    case CLI_OPT_KEY_BITS:
        return add_option_key_bits(text, &job->open.key_bits);
    case CLI_OPT_METRIC:
        return cli_option_metric("--metric", text, &job->open.metric);
    case CLI_OPT_CONNECTIVITY:
        return cli_option_u32("--connectivity", text, 2, CLI_MAX_CONNECTIVITY,
                              &job->open.connectivity);
    case CLI_OPT_BREADTH:
        return cli_option_u32("--breadth", text, 1, CLI_MAX_BREADTH, &job->open.build_breadth);
    case CLI_OPT_MIX_UNITS:
        job->mix_units = true;
        return true;
    case CLI_OPT_MULTI:
        job->open.multi = true;
        return true;
    case CLI_OPT_UPDATE:
        job->update = true;
        return true;
    case CLI_OPT_THREADS:
        return cli_take_threads(text, &job->threads);
    case CLI_OPT_NUMBER:
        job->input.number = true;
        return true;
    case CLI_OPT_FIRST_KEY:
        job->number_keys = true;
        job->input.number = true;
        return cli_option_u64("--first-key", text, 0, UINT64_MAX - 1, &job->next_key.low);
    case CLI_OPT_SKIP_BAD:
        job->skip_bad = true;
        return true;
    case CLI_OPT_SHARD_SIZE:
        return cli_option_bytes("--shard-size", text, &job->open.shard_bytes);
    case CLI_OPT_TABLES:
        job->tables = true;
        return true;
    case CLI_OPT_BACKGROUND:
        job->open.background = true;
        return true;
    default:
        return cli_take_file_option(&job->open, &job->input, option, text);
    }
}

cli_exit cli_add(int argc, char **argv)
{
    static const struct option longs[] = {
        {"background", no_argument, NULL, CLI_OPT_BACKGROUND},
        {"breadth", required_argument, NULL, CLI_OPT_BREADTH},
        {"bytes", required_argument, NULL, CLI_OPT_BYTES},
        {"connectivity", required_argument, NULL, CLI_OPT_CONNECTIVITY},
        {"encoding", required_argument, NULL, CLI_OPT_ENCODING},
        {"first-key", required_argument, NULL, CLI_OPT_FIRST_KEY},
        {"dtype", required_argument, NULL, CLI_OPT_DTYPE},
        {"format", required_argument, NULL, CLI_OPT_FORMAT},
        {"help", no_argument, NULL, 'h'},
        {"journal", no_argument, NULL, CLI_OPT_JOURNAL},
        {"key-bits", required_argument, NULL, CLI_OPT_KEY_BITS},
        {"key-column", required_argument, NULL, CLI_OPT_KEY_COLUMN},
        {"legacy-nphd", no_argument, NULL, CLI_OPT_LEGACY_NPHD},
        {"max-bits", required_argument, NULL, CLI_OPT_MAX_BITS},
        {"metric", required_argument, NULL, CLI_OPT_METRIC},
        {"mix-units", no_argument, NULL, CLI_OPT_MIX_UNITS},
        {"multi", no_argument, NULL, CLI_OPT_MULTI},
        {"no-bloom", no_argument, NULL, CLI_OPT_NO_BLOOM},
        {"reference-wrote-last", no_argument, NULL, CLI_OPT_REFERENCE},
        {"number", no_argument, NULL, CLI_OPT_NUMBER},
        {"realm", required_argument, NULL, CLI_OPT_REALM},
        {"shard-size", required_argument, NULL, CLI_OPT_SHARD_SIZE},
        {"skip-bad", no_argument, NULL, CLI_OPT_SKIP_BAD},
        {"tables", no_argument, NULL, CLI_OPT_TABLES},
        {"threads", required_argument, NULL, CLI_OPT_THREADS},
        {"unit", required_argument, NULL, CLI_OPT_UNIT},
        {"update", no_argument, NULL, CLI_OPT_UPDATE},
        {"vector-column", required_argument, NULL, CLI_OPT_VECTOR_COLUMN},
        {NULL, 0, NULL, 0},
    };
    add_job job = {.threads = 1};
    cli_exit result = CLI_SUCCESS;

    if (!cli_take_options(argc, argv, ":h", longs, add_option, &job, &result)) {
        return result;
    }
    if (job.update && job.open.multi) {
        return cli_usage("--update and --multi exclude each other");
    }
    if (job.input.key_column != NULL && job.input.vector_column != NULL &&
        strcasecmp(job.input.key_column, job.input.vector_column) == 0) {
        return cli_usage("--key-column and --vector-column name the same column");
    }
    if (cli_take_path(argc, argv, &job.path) != CLI_SUCCESS) {
        return CLI_USAGE;
    }
    return add_run(&job, argv + optind, argc - optind);
}
