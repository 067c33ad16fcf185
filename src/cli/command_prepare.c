/* nphd prepare: writes an index file anew with hash tables for exact searches. */
#include "command.h"

#include "progress.h"
#include "suggest.h"
#include <stdio.h>

typedef struct prepare_job {
    cli_store_options open;
    uint32_t threads;
    cli_store store;
} prepare_job;

static bool prepare_option(void *context, int option, const char *value)
{
    prepare_job *job = context;

    if (option == CLI_OPT_THREADS) {
        return cli_take_threads(value, &job->threads);
    }
    return cli_take_store_option(&job->open, option, value);
}

static cli_exit prepare_metadata(const char *path, nphd_metadata *out)
{
    nphd_error err = NPHD_ERROR_INIT;

    return nphd_file_metadata(path, NULL, out, &err) == NPHD_OK ? CLI_SUCCESS
                                                                : cli_fail_open(path, &err);
}

/* Makes the tables and saves the file with them; what is too small for any stays as it is. */
static cli_exit prepare_make(prepare_job *job, const char *path, bool *out_made)
{
    cli_exit result = cli_store_open(&job->store, path, CLI_CHANGE, &job->open);

    *out_made = false;
    if (result == CLI_SUCCESS) {
        result = cli_store_prepare(&job->store, job->threads, out_made);
    }
    if (result == CLI_SUCCESS && *out_made) {
        job->store.must_save = true;
        result = cli_store_save(&job->store);
    }
    cli_store_close(&job->store);
    return result;
}

static cli_exit prepare_run(prepare_job *job, const char *path)
{
    nphd_metadata before = NPHD_METADATA_INIT;
    nphd_metadata after = NPHD_METADATA_INIT;
    bool made = false;
    const double start = cli_seconds();
    cli_exit result = prepare_metadata(path, &before);

    if (result == CLI_SUCCESS && !before.tables) {
        result = prepare_make(job, path, &made);
    }
    if (result == CLI_SUCCESS) {
        result = prepare_metadata(path, &after);
    }
    if (result == CLI_SUCCESS) {
        printf("%s, bytes %llu to %llu, %.2f s\n",
               made            ? "tables made"
               : before.tables ? "tables were there"
                               : "too few vectors for tables",
               (unsigned long long)before.file_bytes, (unsigned long long)after.file_bytes,
               cli_seconds() - start);
    }
    return result;
}

cli_exit cli_prepare(int argc, char **argv)
{
    static const struct option longs[] = {
        {"help", no_argument, NULL, 'h'},
        {"legacy-nphd", no_argument, NULL, CLI_OPT_LEGACY_NPHD},
        {"threads", required_argument, NULL, CLI_OPT_THREADS},
        {NULL, 0, NULL, 0},
    };
    prepare_job job = {.threads = 1};
    const char *path = NULL;
    cli_exit result = CLI_SUCCESS;

    if (!cli_take_options(argc, argv, ":h", longs, prepare_option, &job, &result)) {
        return result;
    }
    if (cli_take_path(argc, argv, &path) != CLI_SUCCESS ||
        cli_take_no_more(argc, argv) != CLI_SUCCESS) {
        return CLI_USAGE;
    }
    if (!cli_store_names_file(path)) {
        return cli_usage("'%s' is a directory, whose full shards never change; 'nphd add --tables' "
                         "writes new ones with tables",
                         path);
    }
    return prepare_run(&job, path);
}
