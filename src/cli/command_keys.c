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
    cli_store_options open;
    cli_store store;
    nphd_key *keys;
    size_t count;
} keys_job;

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
        if (!cli_key_fits(job->keys[i], job->store.shape.key_bits, &problem)) {
            return cli_usage("'%s': %s", texts[i], problem.text);
        }
    }
    return CLI_SUCCESS;
}

static cli_exit keys_open(keys_job *job, cli_access access, int argc, char **argv)
{
    char **texts = NULL;
    cli_exit result = cli_take_path(argc, argv, &job->path);

    if (result == CLI_SUCCESS) {
        texts = argv + optind;
        result = keys_parse(job, texts, (size_t)(argc - optind));
    }
    if (result == CLI_SUCCESS) {
        result = cli_store_open(&job->store, job->path, access, &job->open);
    }
    return result == CLI_SUCCESS ? keys_check(job, texts) : result;
}

static void keys_close(keys_job *job)
{
    cli_store_close(&job->store);
    free(job->keys);
}

static cli_exit keys_get_one(const keys_job *job, nphd_key key)
{
    const size_t stride = job->store.shape.max_bytes;
    char text[CLI_KEY_TEXT_BYTES];
    uint8_t *rows = NULL;
    size_t *lengths = NULL;
    size_t count = 0;
    cli_exit result = cli_store_count(&job->store, key, &count);

    cli_format_key(key, job->store.shape.key_bits, text);
    if (result != CLI_SUCCESS) {
        return result;
    }
    if (count == 0) {
        cli_complain("%s: no such key", text);
        return CLI_ABSENT;
    }
    rows = calloc(count, stride);
    lengths = calloc(count, sizeof(lengths[0]));
    if (rows == NULL || lengths == NULL) {
        result = cli_out_of_memory();
    } else {
        result = cli_store_get_all(&job->store, key, rows, lengths, count, &count);
    }
    for (size_t i = 0; result == CLI_SUCCESS && lengths != NULL && i < count; i++) {
        printf("%s\t", text);
        cli_print_hex(rows + i * stride, lengths[i]);
        putchar('\n');
    }
    free(rows);
    free(lengths);
    return result;
}

static cli_exit keys_contains_one(const keys_job *job, nphd_key key)
{
    char text[CLI_KEY_TEXT_BYTES];
    bool present = false;
    const cli_exit result = cli_store_contains(&job->store, key, &present);

    if (result != CLI_SUCCESS) {
        return result;
    }
    cli_format_key(key, job->store.shape.key_bits, text);
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
    const double start = cli_seconds();
    size_t absent = 0;
    size_t removed = 0;
    cli_exit result = CLI_SUCCESS;

    if (job->store.sharded != NULL && job->store.shape.multi) {
        return cli_usage("%s may hold several vectors under a key; of such a directory none can be "
                         "removed",
                         job->path);
    }
    for (size_t i = 0; i < job->count && result == CLI_SUCCESS; i++) {
        bool present = false;

        result = cli_store_contains(&job->store, job->keys[i], &present);
        absent += present ? 0 : 1;
    }
    if (result == CLI_SUCCESS) {
        result = cli_store_remove(&job->store, job->keys, job->count, &removed);
    }
    if (result == CLI_SUCCESS && removed > 0) {
        result = cli_store_save(&job->store);
    }
    if (result != CLI_SUCCESS) {
        return result;
    }
    printf("removed %zu, absent %zu, total %llu, %.2f s\n", removed, absent,
           (unsigned long long)cli_store_size(&job->store), cli_seconds() - start);
    return CLI_SUCCESS;
}

static bool keys_option(void *context, int option, const char *value)
{
    keys_job *job = context;

    return cli_take_store_option(&job->open, option, value);
}

static cli_exit keys_run(cli_access access, int argc, char **argv, cli_exit (*work)(keys_job *job))
{
    static const struct option longs_read[] = {
        {"help", no_argument, NULL, 'h'},
        {"key-format", required_argument, NULL, CLI_OPT_KEY_FORMAT},
        {"legacy-nphd", no_argument, NULL, CLI_OPT_LEGACY_NPHD},
        {"realm", required_argument, NULL, CLI_OPT_REALM},
        {"salvage", no_argument, NULL, CLI_OPT_SALVAGE},
        {"reference-wrote-last", no_argument, NULL, CLI_OPT_REFERENCE},
        {NULL, 0, NULL, 0},
    };
    static const struct option longs_change[] = {
        {"help", no_argument, NULL, 'h'},
        {"journal", no_argument, NULL, CLI_OPT_JOURNAL},
        {"legacy-nphd", no_argument, NULL, CLI_OPT_LEGACY_NPHD},
        {"no-bloom", no_argument, NULL, CLI_OPT_NO_BLOOM},
        {"realm", required_argument, NULL, CLI_OPT_REALM},
        {"reference-wrote-last", no_argument, NULL, CLI_OPT_REFERENCE},
        {NULL, 0, NULL, 0},
    };
    const struct option *longs = access == CLI_READ ? longs_read : longs_change;
    keys_job job = {0};
    cli_exit result = CLI_SUCCESS;

    if (!cli_take_options(argc, argv, ":h", longs, keys_option, &job, &result)) {
        return result;
    }
    result = keys_open(&job, access, argc, argv);
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
    return keys_run(CLI_READ, argc, argv, keys_get_all);
}

cli_exit cli_contains(int argc, char **argv)
{
    return keys_run(CLI_READ, argc, argv, keys_contains_all);
}

cli_exit cli_remove(int argc, char **argv)
{
    return keys_run(CLI_CHANGE, argc, argv, keys_remove_all);
}
