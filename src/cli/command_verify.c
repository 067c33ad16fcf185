/* nphd verify: reads a whole index and checks all of it. */
#include "command.h"

#include "output.h"
#include "progress.h"
#include "suggest.h"
#include <stdio.h>

static void verify_print(const char *text)
{
    char clean[NPHD_ERROR_TEXT_BYTES];

    cli_message_clean(clean, sizeof(clean), text);
    cli_progress_hide(); /* the bar would stand in the same line of a terminal */
    puts(clean);
}

static void verify_damage(void *context, const char *text)
{
    uint64_t *damages = context;

    (*damages)++;
    verify_print(text);
}

static void verify_summary(const char *path, bool damaged, const nphd_verify_report *report)
{
    char line[NPHD_ERROR_TEXT_BYTES];

    if (damaged && report->checksums) {
        snprintf(line, sizeof(line), "%s: damaged (blocks %llu, of these changed %llu)", path,
                 (unsigned long long)report->blocks, (unsigned long long)report->damaged);
    } else if (damaged) {
        snprintf(line, sizeof(line), "%s: damaged", path);
    } else if (report->checksums) {
        snprintf(line, sizeof(line), "%s: whole (blocks %llu, slots %llu)", path,
                 (unsigned long long)report->blocks, (unsigned long long)report->slots);
    } else {
        snprintf(line, sizeof(line), "%s: no checksums, bounds hold (slots %llu)", path,
                 (unsigned long long)report->slots);
    }
    verify_print(line);
}

static void verify_directory_summary(const char *path, bool damaged,
                                     const nphd_directory_report *report)
{
    char line[NPHD_ERROR_TEXT_BYTES];
    char bare[64] = "";

    if (report->unverified_files > 0) {
        snprintf(bare, sizeof(bare), ", files without checksums %llu",
                 (unsigned long long)report->unverified_files);
    }
    if (damaged) {
        snprintf(line, sizeof(line),
                 "%s: damaged (files %llu, of these damaged %llu; blocks %llu, of these changed "
                 "%llu%s)",
                 path, (unsigned long long)report->files, (unsigned long long)report->damaged_files,
                 (unsigned long long)report->blocks, (unsigned long long)report->damaged_blocks,
                 bare);
    } else {
        snprintf(line, sizeof(line), "%s: whole (files %llu, blocks %llu%s)", path,
                 (unsigned long long)report->files, (unsigned long long)report->blocks, bare);
    }
    verify_print(line);
}

/* Prints what the check has found; an error that is not damage is complained about. */
static cli_exit verify_end(const char *path, nphd_status status, uint64_t damages,
                           const nphd_error *err)
{
    cli_progress_hide();
    if (status == NPHD_CANCELLED) {
        return cli_fail(err);
    }
    if (status != NPHD_OK && status != NPHD_CORRUPT) {
        return cli_fail_open(path, err);
    }
    if (status == NPHD_CORRUPT && damages == 0) {
        verify_print(err->text);
    }
    return status == NPHD_CORRUPT ? CLI_BAD_INPUT : CLI_SUCCESS;
}

static cli_exit verify_file(const char *path, nphd_verify_options *options)
{
    nphd_verify_report report = {0};
    nphd_error err = NPHD_ERROR_INIT;
    uint64_t damages = 0;
    nphd_status status;
    cli_exit result;

    options->damage_context = &damages;
    status = nphd_file_verify_with(path, options, &report, &err);
    result = verify_end(path, status, damages, &err);

    if (status == NPHD_OK || status == NPHD_CORRUPT) {
        verify_summary(path, status == NPHD_CORRUPT, &report);
    }
    return result;
}

static cli_exit verify_directory(const char *path, nphd_verify_options *options)
{
    nphd_directory_report report = {0};
    nphd_error err = NPHD_ERROR_INIT;
    uint64_t damages = 0;
    nphd_status status = NPHD_OK;
    cli_exit result = cli_store_find_directory(path);

    if (result != CLI_SUCCESS) {
        return result;
    }
    options->damage_context = &damages;
    status = nphd_directory_verify_with(path, options, &report, &err);
    result = verify_end(path, status, damages, &err);
    if (status == NPHD_OK || status == NPHD_CORRUPT) {
        verify_directory_summary(path, status == NPHD_CORRUPT, &report);
    }
    return result;
}

static bool verify_option(void *context, int option, const char *value)
{
    nphd_verify_options *options = context;

    return option == CLI_OPT_THREADS && cli_take_threads(value, &options->threads);
}

cli_exit cli_verify(int argc, char **argv)
{
    static const struct option longs[] = {{"threads", required_argument, NULL, CLI_OPT_THREADS},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    nphd_verify_options options = NPHD_VERIFY_OPTIONS_INIT;
    const char *path = NULL;
    cli_progress progress;
    cli_exit result = CLI_SUCCESS;

    options.damage = verify_damage;
    options.progress = cli_progress_step;
    options.progress_context = &progress;
    if (!cli_take_options(argc, argv, ":h", longs, verify_option, &options, &result)) {
        return result;
    }
    if (cli_take_path(argc, argv, &path) != CLI_SUCCESS ||
        cli_take_no_more(argc, argv) != CLI_SUCCESS) {
        return CLI_USAGE;
    }
    cli_progress_start(&progress, "verifying");
    return cli_store_names_file(path) ? verify_file(path, &options)
                                      : verify_directory(path, &options);
}
