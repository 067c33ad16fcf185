/* What the commands share: options, the path of the index. */
#include "command.h"

#include "parse.h"
#include "suggest.h"
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void command_unknown_option(const char *typed, const struct option *longs)
{
    char name[CLI_SUGGEST_BYTES];
    char advice[CLI_SUGGEST_BYTES];
    cli_suggestion suggestion = {.typed = name};

    typed += strspn(typed, "-");
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(typed, "="), typed);
    for (const struct option *option = longs; option->name != NULL; option++) {
        cli_suggest_try(&suggestion, option->name);
    }
    cli_suggest_text(&suggestion, "--", advice, sizeof(advice));
    cli_usage("unknown option '--%s'%s", name, advice);
}

/* The next option, or -1 after the last. On an option that is unknown or lacks its value it
 * complains and returns '?'. */
static int command_next_option(int argc, char **argv, const char *shorts,
                               const struct option *longs)
{
    int got = 0;

    opterr = 0; /* the C library's own texts differ from one to the next */
    got = getopt_long(argc, argv, shorts, longs, NULL);
    if (got == ':') {
        cli_usage("option '%s' needs a value", argv[optind - 1]);
        return '?';
    }
    if (got == '?') {
        const char *last = argv[optind - 1];

        if (optopt > ' ' && optopt < 0x7f && strncmp(last, "--", 2) != 0) {
            cli_usage("unknown option '-%c'", optopt);
        } else if (optopt != 0) {
            cli_usage("option '%s' takes no value", last);
        } else {
            command_unknown_option(last, longs);
        }
    }
    return got;
}

bool cli_take_options(int argc, char **argv, const char *shorts, const struct option *longs,
                      cli_take_option take, void *job, cli_exit *out_exit)
{
    int option = 0;

    *out_exit = CLI_USAGE;
    while ((option = command_next_option(argc, argv, shorts, longs)) != -1) {
        if (option == 'h') {
            *out_exit = cli_help(argv[0]);
            return false;
        }
        if (option == '?' || !take(job, option, optarg)) {
            return false;
        }
    }
    return true;
}

bool cli_take_store_option(cli_store_options *store, int option, const char *value)
{
    if (option == CLI_OPT_KEY_FORMAT) {
        return cli_option_key_format("--key-format", value);
    }
    if (option == CLI_OPT_REALM) {
        return cli_option_realm("--realm", value);
    }
    store->legacy_nphd = store->legacy_nphd || option == CLI_OPT_LEGACY_NPHD;
    store->salvage = store->salvage || option == CLI_OPT_SALVAGE;
    store->reference = store->reference || option == CLI_OPT_REFERENCE;
    store->no_bloom = store->no_bloom || option == CLI_OPT_NO_BLOOM;
    store->journal = store->journal || option == CLI_OPT_JOURNAL;
    return true;
}

bool cli_take_column_option(cli_input_options *input, int option, const char *value)
{
    switch (option) {
    case CLI_OPT_KEY_COLUMN:
        return cli_option_column("--key-column", value, &input->key_column);
    case CLI_OPT_VECTOR_COLUMN:
        return cli_option_column("--vector-column", value, &input->vector_column);
    default:
        return cli_option_column("--source-column", value, &input->source_column);
    }
}

bool cli_take_file_option(cli_store_options *store, cli_input_options *input, int option,
                          const char *value)
{
    if (option == CLI_OPT_FORMAT) {
        return cli_option_format("--format", value, &input->format);
    }
    if (option == CLI_OPT_DTYPE) {
        return cli_option_dtype("--dtype", value, &input->numbers);
    }
    if (option == CLI_OPT_BYTES) {
        return cli_option_u32("--bytes", value, 1, NPHD_MAX_BYTES, &input->row_bytes);
    }
    if (option == CLI_OPT_KEY_COLUMN || option == CLI_OPT_VECTOR_COLUMN ||
        option == CLI_OPT_SOURCE_COLUMN) {
        return cli_take_column_option(input, option, value);
    }
    if (option == CLI_OPT_ENCODING) {
        return cli_option_encoding("--encoding", value, &input->notation.encoding);
    }
    if (option == CLI_OPT_UNIT) {
        return cli_option_unit("--unit", value, &input->notation.unit);
    }
    return cli_take_store_option(store, option, value);
}

/* Is there a file of some kind that is no directory? */
static bool command_is_taken(const char *path)
{
    struct stat facts;

    return stat(path, &facts) == 0 && !S_ISDIR(facts.st_mode);
}

cli_exit cli_take_path(int argc, char **argv, const char **out)
{
    const char *path = NULL;
    const char *name = NULL;

    *out = NULL;
    if (optind >= argc) {
        return cli_usage("the index is missing: a file that ends in .usearch, or a directory");
    }
    path = argv[optind];
    name = strrchr(path, '/') != NULL ? strrchr(path, '/') + 1 : path;
    if (path[0] == '\0' || strcmp(name, ".usearch") == 0) {
        return cli_usage("'%s' is not the name of an index", path);
    }
    if (!cli_store_names_file(path) && command_is_taken(path)) {
        return cli_usage("'%s' is neither a directory nor an index file, which ends in .usearch",
                         path);
    }
    optind++;
    *out = path;
    return CLI_SUCCESS;
}

cli_exit cli_take_directory(int argc, char **argv, const char **out)
{
    const cli_exit result = cli_take_path(argc, argv, out);

    if (result == CLI_SUCCESS && cli_store_names_file(*out)) {
        return cli_usage("'%s' is a file, and this is for directories", *out);
    }
    return result;
}

cli_exit cli_take_no_more(int argc, char **argv)
{
    if (optind < argc) {
        return cli_usage("'%s' is one argument too many", argv[optind]);
    }
    return CLI_SUCCESS;
}

bool cli_take_threads(const char *text, uint32_t *out)
{
    if (!cli_option_u32("--threads", text, 0, CLI_MAX_THREADS, out)) {
        return false;
    }
    if (*out == 0) {
        const long processors = sysconf(_SC_NPROCESSORS_ONLN);

        *out = processors > 1 ? (uint32_t)processors : 1;
        *out = *out < CLI_MAX_THREADS ? *out : CLI_MAX_THREADS;
    }
    return true;
}

bool cli_take_layout(cli_layout *out, cli_layout layout)
{
    if (*out != CLI_LAYOUT_TABLE && *out != layout) {
        cli_usage("--tsv and --jsonl exclude each other");
        return false;
    }
    *out = layout;
    return true;
}

cli_exit cli_check_radius(nphd_metric metric, float radius)
{
    if (metric == NPHD_METRIC_NPHD && radius > 1) {
        return cli_usage("--radius: distances of this index are fractions from 0 to 1");
    }
    return CLI_SUCCESS;
}
