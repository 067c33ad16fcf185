/* nphd snapshot and salvage: what makes a new directory of another. */
#include "command.h"

#include "progress.h"
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static bool copy_option(void *context, int option, const char *value)
{
    (void)context;
    (void)option;
    (void)value;
    return false; /* --help is the only one, and not handed on */
}

/* Takes the new directory, whose name is to be one that the program takes for a directory. */
static cli_exit copy_take_new(int argc, char **argv, const char **out)
{
    return optind < argc ? cli_take_directory(argc, argv, out)
                         : cli_usage("the new directory is missing");
}

static cli_exit copy_run(int argc, char **argv, cli_exit (*work)(const char *from, const char *to))
{
    static const struct option longs[] = {{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    const char *from = NULL;
    const char *to = NULL;
    struct stat facts;
    bool is_new;
    cli_exit result = CLI_SUCCESS;

    if (!cli_take_options(argc, argv, ":h", longs, copy_option, NULL, &result)) {
        return result;
    }
    if (cli_take_directory(argc, argv, &from) != CLI_SUCCESS ||
        copy_take_new(argc, argv, &to) != CLI_SUCCESS ||
        cli_take_no_more(argc, argv) != CLI_SUCCESS) {
        return CLI_USAGE;
    }
    is_new = stat(to, &facts) != 0;
    result = work(from, to);
    if (result == CLI_INTERRUPTED && is_new) {
        (void)rmdir(to); /* made, and empty again */
    }
    return result;
}

static cli_exit copy_snapshot(const char *from, const char *to)
{
    const cli_store_options options = {0};
    cli_store store = {0};
    nphd_batch_options batch = NPHD_BATCH_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    cli_progress progress;
    const double start = cli_seconds();
    /* without the lock, which a writer may have */
    cli_exit result = cli_store_open(&store, from, CLI_READ, &options);

    batch.progress = cli_progress_step;
    batch.progress_context = &progress;
    cli_progress_start(&progress, "copying");
    if (result == CLI_SUCCESS &&
        nphd_sharded_snapshot_with(store.sharded, to, &batch, &err) != NPHD_OK) {
        result = cli_fail(&err);
    }
    cli_progress_hide();
    cli_store_close(&store);
    if (result == CLI_SUCCESS) {
        result = cli_store_open(&store, to, CLI_READ, &options);
    }
    if (result == CLI_SUCCESS) {
        printf("total %llu, %.2f s\n", (unsigned long long)cli_store_size(&store),
               cli_seconds() - start);
    }
    cli_store_close(&store);
    return result;
}

static void copy_missing(void *context, const char *text)
{
    bool *damaged = context;

    *damaged = true;
    cli_complain("%s", text);
}

static cli_exit copy_salvage(const char *from, const char *to)
{
    nphd_salvage_options options = NPHD_SALVAGE_OPTIONS_INIT;
    nphd_salvage_report report = {0};
    cli_progress progress;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status = NPHD_OK;
    bool damaged = false;
    const double start = cli_seconds();
    cli_exit result = cli_store_find_directory(from);

    if (result != CLI_SUCCESS) {
        return result;
    }
    options.damage = copy_missing;
    options.damage_context = &damaged;
    options.progress = cli_progress_step;
    options.progress_context = &progress;
    cli_progress_start(&progress, "salvaging");
    status = nphd_directory_salvage_with(from, to, &options, &report, &err);
    cli_progress_hide();
    if (status != NPHD_OK) {
        result = cli_fail(&err);
        /* nothing found because all is damaged */
        return status == NPHD_NOT_FOUND && damaged ? CLI_BAD_INPUT : result;
    }
    printf("salvaged %llu, unreadable %llu, damaged or missing files %llu, %.2f s\n",
           (unsigned long long)report.vectors, (unsigned long long)report.unreadable,
           (unsigned long long)report.files, cli_seconds() - start);
    return report.files > 0 || report.unreadable > 0 ? CLI_BAD_INPUT : CLI_SUCCESS;
}

cli_exit cli_snapshot(int argc, char **argv)
{
    return copy_run(argc, argv, copy_snapshot);
}

cli_exit cli_salvage(int argc, char **argv)
{
    return copy_run(argc, argv, copy_salvage);
}
