/* What the commands share: options, the index file. */
#include "command.h"

#include "parse.h"
#include "progress.h"
#include <string.h>
#include <unistd.h>

#define INDEX_ENDING ".usearch"

int cli_next_option(int argc, char **argv, const char *shorts, const struct option *longs)
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
            cli_usage("unknown option '%s'", last);
        }
    }
    return got;
}

cli_exit cli_take_path(int argc, char **argv, const char **out)
{
    const size_t ending = strlen(INDEX_ENDING);
    size_t length = 0;

    *out = NULL;
    if (optind >= argc) {
        return cli_usage("the index file is missing");
    }
    length = strlen(argv[optind]);
    if (length <= ending || strcmp(argv[optind] + length - ending, INDEX_ENDING) != 0 ||
        argv[optind][length - ending - 1] == '/') {
        return cli_usage("'%s' is not the name of an index file, which ends in %s", argv[optind],
                         INDEX_ENDING);
    }
    *out = argv[optind++];
    return CLI_SUCCESS;
}

cli_exit cli_take_no_more(int argc, char **argv)
{
    if (optind < argc) {
        return cli_usage("'%s' is one argument too many", argv[optind]);
    }
    return CLI_SUCCESS;
}

cli_exit cli_take_threads(const char *text, uint32_t *out)
{
    if (!cli_option_u32("--threads", text, 0, CLI_MAX_THREADS, out)) {
        return CLI_USAGE;
    }
    if (*out == 0) {
        const long processors = sysconf(_SC_NPROCESSORS_ONLN);

        *out = processors > 1 ? (uint32_t)processors : 1;
        *out = *out < CLI_MAX_THREADS ? *out : CLI_MAX_THREADS;
    }
    return CLI_SUCCESS;
}

/* The stats of an index would say the same, but counting the links for them walks the graph, and a
 * view is to open in constant time. */
static nphd_status command_read_shape(const char *path, nphd_open_options *options,
                                      cli_shape *out_shape, nphd_error *err)
{
    nphd_metadata metadata = NPHD_METADATA_INIT;
    const nphd_status status = nphd_file_metadata(path, NULL, &metadata, err);

    out_shape->key_bits = metadata.key_bits;
    out_shape->metric = options->legacy_nphd ? NPHD_METRIC_NPHD : metadata.metric;
    out_shape->multi = metadata.multi;
    if (options->key_bits == 0) {
        options->key_bits = metadata.key_bits; /* refuses another file put here in between */
    }
    return status;
}

cli_exit cli_open_index(const char *path, bool view, nphd_open_options *options, nphd_index **out,
                        cli_shape *out_shape)
{
    nphd_error err = NPHD_ERROR_INIT;
    cli_progress progress;
    nphd_status status = NPHD_OK;

    *out = NULL;
    status = command_read_shape(path, options, out_shape, &err);
    if (status == NPHD_OK) {
        cli_progress_start(&progress, "loading");
        options->progress = cli_progress_step;
        options->progress_context = &progress;
        status = nphd_index_restore(path, view, options, out, &err);
        cli_progress_hide();
    }
    if (status != NPHD_OK) {
        return cli_fail(&err);
    }
    out_shape->max_bytes = nphd_index_max_bytes(*out);
    return CLI_SUCCESS;
}

cli_exit cli_save_index(nphd_index *index, const char *path)
{
    nphd_batch_options options = NPHD_BATCH_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    cli_progress progress;
    nphd_status status = NPHD_OK;

    cli_progress_start(&progress, "saving");
    options.progress = cli_progress_step;
    options.progress_context = &progress;
    status = nphd_index_save(index, path, &options, &err);
    cli_progress_hide();
    return status == NPHD_OK ? CLI_SUCCESS : cli_fail(&err);
}
