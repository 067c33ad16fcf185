/* nphd compact and rebuild-bloom: what a directory needs now and then. */
#include "command.h"

#include "parse.h"
#include "progress.h"
#include <stdio.h>

typedef struct upkeep_job {
    cli_store_options open;
    uint32_t threads;
    cli_store store;
} upkeep_job;

static bool upkeep_option(void *context, int option, const char *value)
{
    upkeep_job *job = context;

    if (option == CLI_OPT_THREADS) {
        return cli_take_threads(value, &job->threads);
    }
    if (option == CLI_OPT_SHARD_SIZE) {
        return cli_option_bytes("--shard-size", value, &job->open.shard_bytes);
    }
    return cli_take_store_option(&job->open, option, value);
}

static cli_exit upkeep_run(int argc, char **argv, const struct option *longs,
                           cli_exit (*work)(upkeep_job *job))
{
    upkeep_job job = {.threads = 1};
    const char *path = NULL;
    cli_exit result = CLI_SUCCESS;

    if (!cli_take_options(argc, argv, ":h", longs, upkeep_option, &job, &result)) {
        return result;
    }
    if (cli_take_directory(argc, argv, &path) != CLI_SUCCESS ||
        cli_take_no_more(argc, argv) != CLI_SUCCESS) {
        return CLI_USAGE;
    }
    result = cli_store_open(&job.store, path, CLI_CHANGE, &job.open);
    if (result == CLI_SUCCESS) {
        result = work(&job);
    }
    cli_store_close(&job.store);
    return result;
}

static cli_exit upkeep_stats(const upkeep_job *job, nphd_sharded_stats *out)
{
    nphd_error err = NPHD_ERROR_INIT;

    return nphd_sharded_get_stats(job->store.sharded, out, &err) == NPHD_OK ? CLI_SUCCESS
                                                                            : cli_fail(&err);
}

static cli_exit upkeep_compact(upkeep_job *job)
{
    nphd_sharded_stats before = NPHD_SHARDED_STATS_INIT;
    nphd_sharded_stats after = NPHD_SHARDED_STATS_INIT;
    nphd_batch_options options = NPHD_BATCH_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status = NPHD_OK;
    cli_progress progress;
    uint64_t removed = 0;
    const double start = cli_seconds();
    cli_exit result = upkeep_stats(job, &before);

    if (result != CLI_SUCCESS) {
        return result;
    }
    cli_progress_start(&progress, "compacting");
    options.threads = job->threads;
    options.progress = cli_progress_step;
    options.progress_context = &progress;
    status = nphd_sharded_compact(job->store.sharded, &options, &removed, &err);
    cli_progress_hide();
    result = status == NPHD_OK ? upkeep_stats(job, &after) : cli_fail(&err);
    if (result == CLI_SUCCESS) {
        printf("dropped %llu, shard files %llu to %llu, bytes %llu to %llu, total %llu, %.2f s\n",
               (unsigned long long)removed, (unsigned long long)before.files,
               (unsigned long long)after.files, (unsigned long long)before.disk_bytes,
               (unsigned long long)after.disk_bytes, (unsigned long long)after.size,
               cli_seconds() - start);
    }
    return result;
}

static cli_exit upkeep_rebuild_bloom(upkeep_job *job)
{
    nphd_batch_options options = NPHD_BATCH_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status = NPHD_OK;
    cli_progress progress;
    uint64_t keys = 0;
    const double start = cli_seconds();

    cli_progress_start(&progress, "rebuilding");
    options.progress = cli_progress_step;
    options.progress_context = &progress;
    status = nphd_sharded_rebuild_bloom_with(job->store.sharded, &options, &keys, &err);
    cli_progress_hide();
    if (status != NPHD_OK) {
        return cli_fail(&err);
    }
    printf("keys %llu, %.2f s\n", (unsigned long long)keys, cli_seconds() - start);
    return CLI_SUCCESS;
}

cli_exit cli_compact(int argc, char **argv)
{
    static const struct option longs[] = {
        {"help", no_argument, NULL, 'h'},
        {"no-bloom", no_argument, NULL, CLI_OPT_NO_BLOOM},
        {"shard-size", required_argument, NULL, CLI_OPT_SHARD_SIZE},
        {"threads", required_argument, NULL, CLI_OPT_THREADS},
        {NULL, 0, NULL, 0},
    };

    return upkeep_run(argc, argv, longs, upkeep_compact);
}

cli_exit cli_rebuild_bloom(int argc, char **argv)
{
    static const struct option longs[] = {{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};

    return upkeep_run(argc, argv, longs, upkeep_rebuild_bloom);
}
