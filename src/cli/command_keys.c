/* nphd get, contains and remove: the commands that take keys. */
#include "command.h"

#include "output.h"
#include "parse.h"
#include "progress.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct keys_job {
    const char *path;
    nphd_open_options open;
    nphd_index *index;
    cli_shape shape;
    nphd_key *keys;
    size_t count;
} keys_job;

static const struct option keys_longs[] = {
    {"help", no_argument, NULL, 'h'},
    {"legacy-nphd", no_argument, NULL, CLI_OPT_LEGACY_NPHD},
    {NULL, 0, NULL, 0},
};

static cli_exit keys_parse(keys_job *job, char **texts, size_t count)
{
    cli_problem problem;

    if (count == 0) {
        return cli_usage("no key is given");
    }
    job->keys = calloc(count, sizeof(job->keys[0]));
    if (job->keys == NULL) {
        return cli_out_of_memory();
    }
    for (job->count = 0; job->count < count; job->count++) {
        const char *text = texts[job->count];

        if (!cli_parse_key(text, strlen(text), &job->keys[job->count], &problem)) {
            return cli_usage("'%s': %s", text, problem.text);
        }
    }
    return CLI_SUCCESS;
}

static cli_exit keys_check(const keys_job *job, char **texts)
{
    cli_problem problem;

    for (size_t i = 0; i < job->count; i++) {
        if (!cli_key_fits(job->keys[i], job->shape.key_bits, &problem)) {
            return cli_usage("'%s': %s", texts[i], problem.text);
        }
    }
    return CLI_SUCCESS;
}

static cli_exit keys_open(keys_job *job, bool view, int argc, char **argv)
{
    char **texts = NULL;
    cli_exit result = cli_take_path(argc, argv, &job->path);

    if (result == CLI_SUCCESS) {
        texts = argv + optind;
        result = keys_parse(job, texts, (size_t)(argc - optind));
    }
    if (result == CLI_SUCCESS) {
        result = cli_open_index(job->path, view, &job->open, &job->index, &job->shape);
    }
    return result == CLI_SUCCESS ? keys_check(job, texts) : result;
}

static void keys_close(keys_job *job)
{
    nphd_index_close(job->index);
    free(job->keys);
}

static cli_exit keys_get_one(const keys_job *job, nphd_key key)
{
    nphd_error err = NPHD_ERROR_INIT;
    const size_t stride = job->shape.max_bytes;
    char text[CLI_KEY_TEXT_BYTES];
    uint8_t *rows = NULL;
    size_t *lengths = NULL;
    size_t count = 0;
    cli_exit result = CLI_SUCCESS;

    cli_format_key(key, job->shape.key_bits, text);
    if (nphd_index_count(job->index, key, &count, &err) != NPHD_OK) {
        return cli_fail(&err);
    }
    if (count == 0) {
        cli_complain("%s: no such key", text);
        return CLI_ABSENT;
    }
    rows = calloc(count, stride);
    lengths = calloc(count, sizeof(lengths[0]));
    if (rows == NULL || lengths == NULL) {
        result = cli_out_of_memory();
    } else if (nphd_index_get_all(job->index, key, rows, lengths, count, &count, &err) != NPHD_OK) {
        result = cli_fail(&err);
    } else {
        for (size_t i = 0; i < count; i++) {
            printf("%s\t", text);
            cli_print_hex(rows + i * stride, lengths[i]);
            putchar('\n');
        }
    }
    free(rows);
    free(lengths);
    return result;
}

static cli_exit keys_contains_one(const keys_job *job, nphd_key key)
{
    nphd_error err = NPHD_ERROR_INIT;
    char text[CLI_KEY_TEXT_BYTES];
    bool present = false;

    if (nphd_index_contains(job->index, key, &present, &err) != NPHD_OK) {
        return cli_fail(&err);
    }
    cli_format_key(key, job->shape.key_bits, text);
    printf("%s\t%s\n", text, present ? "yes" : "no");
    return present ? CLI_SUCCESS : CLI_ABSENT;
}

/* Asks for each key. A key that is absent does not end the row; an error does. */
static cli_exit keys_each(keys_job *job, cli_exit (*one)(const keys_job *job, nphd_key key))
{
    cli_exit result = CLI_SUCCESS;

    for (size_t i = 0; i < job->count; i++) {
        const cli_exit got = one(job, job->keys[i]);

        if (got > CLI_ABSENT) {
            return got;
        }
        if (got == CLI_ABSENT) {
            result = CLI_ABSENT;
        }
    }
    return result;
}

static cli_exit keys_remove_all(keys_job *job)
{
    nphd_error err = NPHD_ERROR_INIT;
    const double start = cli_seconds();
    size_t absent = 0;
    size_t removed = 0;

    for (size_t i = 0; i < job->count; i++) {
        bool present = false;

        if (nphd_index_contains(job->index, job->keys[i], &present, &err) != NPHD_OK) {
            return cli_fail(&err);
        }
        absent += present ? 0 : 1;
    }
    if (nphd_index_remove(job->index, job->keys, job->count, &removed, &err) != NPHD_OK) {
        return cli_fail(&err);
    }
    if (removed > 0) {
        const cli_exit result = cli_save_index(job->index, job->path);

        if (result != CLI_SUCCESS) {
            return result;
        }
    }
    printf("removed %zu, absent %zu, total %llu, %.2f s\n", removed, absent,
           (unsigned long long)nphd_index_size(job->index), cli_seconds() - start);
    return CLI_SUCCESS;
}

/* Reads the options. Returns 'h' for a call of the help text, '?' after a complaint, else 0. */
static int keys_options(keys_job *job, int argc, char **argv)
{
    int option = 0;

    while ((option = cli_next_option(argc, argv, ":h", keys_longs)) != -1) {
        if (option != CLI_OPT_LEGACY_NPHD) {
            return option;
        }
        job->open.legacy_nphd = true;
    }
    return 0;
}

static cli_exit keys_run(bool view, int argc, char **argv, cli_exit (*work)(keys_job *job))
{
    keys_job job = {.open = NPHD_OPEN_OPTIONS_INIT};
    const int option = keys_options(&job, argc, argv);
    cli_exit result = CLI_SUCCESS;

    if (option != 0) {
        return option == 'h' ? cli_help(argv[0]) : CLI_USAGE;
    }
    result = keys_open(&job, view, argc, argv);
    if (result == CLI_SUCCESS) {
        result = work(&job);
    }
    keys_close(&job);
    return result;
}

static cli_exit keys_get_all(keys_job *job)
{
    return keys_each(job, keys_get_one);
}

static cli_exit keys_contains_all(keys_job *job)
{
    return keys_each(job, keys_contains_one);
}

cli_exit cli_get(int argc, char **argv)
{
    return keys_run(true, argc, argv, keys_get_all);
}

cli_exit cli_contains(int argc, char **argv)
{
    return keys_run(true, argc, argv, keys_contains_all);
}

cli_exit cli_remove(int argc, char **argv)
{
    return keys_run(false, argc, argv, keys_remove_all);
}
