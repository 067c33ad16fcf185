/* nphd verify: reads a whole index file and checks all of it. */
#include "command.h"

#include "output.h"
#include <stdio.h>

static void verify_print(const char *text)
{
    char clean[NPHD_ERROR_TEXT_BYTES];

    cli_message_clean(clean, sizeof(clean), text);
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

cli_exit cli_verify(int argc, char **argv)
{
    static const struct option longs[] = {{"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    nphd_verify_report report = {0};
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status = NPHD_OK;
    const char *path = NULL;
    uint64_t damages = 0;
    int option = 0;

    while ((option = cli_next_option(argc, argv, ":h", longs)) != -1) {
        return option == 'h' ? cli_help(argv[0]) : CLI_USAGE;
    }
    if (cli_take_path(argc, argv, &path) != CLI_SUCCESS ||
        cli_take_no_more(argc, argv) != CLI_SUCCESS) {
        return CLI_USAGE;
    }
    status = nphd_file_verify(path, NULL, verify_damage, &damages, &report, &err);
    if (status != NPHD_OK && status != NPHD_CORRUPT) {
        return cli_fail(&err);
    }
    if (status == NPHD_CORRUPT && damages == 0) {
        verify_print(err.text);
    }
    verify_summary(path, status == NPHD_CORRUPT, &report);
    return status == NPHD_CORRUPT ? CLI_BAD_INPUT : CLI_SUCCESS;
}
