/* The commands of the program, and what they share: options, the index file, keys. */
#ifndef NPHD_CLI_COMMAND_H
#define NPHD_CLI_COMMAND_H

#include "message.h"
#include <getopt.h>
#include <nphd/nphd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Values of options that have no short form; above every character. */
enum {
    CLI_OPT_APPROXIMATE = 1000,
    CLI_OPT_BREADTH,
    CLI_OPT_BYTES,
    CLI_OPT_CONNECTIVITY,
    CLI_OPT_EXACT,
    CLI_OPT_FIRST_KEY,
    CLI_OPT_FORMAT,
    CLI_OPT_JSON,
    CLI_OPT_JSONL,
    CLI_OPT_KEY_BITS,
    CLI_OPT_LABELS,
    CLI_OPT_LEGACY_NPHD,
    CLI_OPT_MAX_BITS,
    CLI_OPT_METRIC,
    CLI_OPT_MULTI,
    CLI_OPT_QUERIES,
    CLI_OPT_RADIUS,
    CLI_OPT_SKIP_BAD,
    CLI_OPT_THREADS,
    CLI_OPT_TSV,
    CLI_OPT_UPDATE
};

#define CLI_MAX_BREADTH 65536
#define CLI_MAX_CONNECTIVITY 512
#define CLI_MAX_THREADS 1024

typedef struct cli_command {
    const char *name;
    const char *summary;
    cli_exit (*run)(int argc, char **argv); /* argv[0] is the name */
    const char *const *help;                /* lines, closed by NULL */
} cli_command;

/* What fits into an index. */
typedef struct cli_shape {
    uint32_t key_bits;
    nphd_metric metric;
    size_t max_bytes; /* of a vector */
    bool multi;
} cli_shape;

cli_exit cli_add(int argc, char **argv);
cli_exit cli_search(int argc, char **argv);
cli_exit cli_get(int argc, char **argv);
cli_exit cli_contains(int argc, char **argv);
cli_exit cli_remove(int argc, char **argv);
cli_exit cli_info(int argc, char **argv);
cli_exit cli_verify(int argc, char **argv);
cli_exit cli_dump(int argc, char **argv);

/* All commands, closed by one whose name is NULL. */
extern const cli_command cli_commands[];

/* Prints the help text of a command. Returns CLI_SUCCESS. */
cli_exit cli_help(const char *name);

/* The next option, or -1 after the last. On an option that is unknown or lacks its value it
 * complains and returns '?'. */
int cli_next_option(int argc, char **argv, const char *shorts, const struct option *longs);

/* Takes the index file from the arguments that are left; a name that does not end in ".usearch" is
 * a usage error. */
cli_exit cli_take_path(int argc, char **argv, const char **out);

/* Complains when arguments are left over. */
cli_exit cli_take_no_more(int argc, char **argv);

/* 0 threads on the command line: one for each processor. */
cli_exit cli_take_threads(const char *text, uint32_t *out);

/* Opens an index file for reading (a view) or for changing (a load, with a progress bar). */
cli_exit cli_open_index(const char *path, bool view, nphd_open_options *options, nphd_index **out,
                        cli_shape *out_shape);

/* Saves, with a progress bar. */
cli_exit cli_save_index(nphd_index *index, const char *path);

#endif
