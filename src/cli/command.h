/* The commands of the program, and what they share: options, the path of the index. */
#ifndef NPHD_CLI_COMMAND_H
#define NPHD_CLI_COMMAND_H

#include "input.h"
#include "message.h"
#include "output.h"
#include "store.h"
#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Values of options that have no short form; above every character. */
enum {
    CLI_OPT_ANY = 1000,
    CLI_OPT_APPROXIMATE,
    CLI_OPT_BACKGROUND,
    CLI_OPT_BREADTH,
    CLI_OPT_BUDGET,
    CLI_OPT_BYTES,
    CLI_OPT_CLUSTERS,
    CLI_OPT_CONNECTIVITY,
    CLI_OPT_DTYPE,
    CLI_OPT_ENCODING,
    CLI_OPT_EXACT,
    CLI_OPT_EXPLAIN,
    CLI_OPT_FIRST_KEY,
    CLI_OPT_FORMAT,
    CLI_OPT_FOUND_ONLY,
    CLI_OPT_JOURNAL,
    CLI_OPT_JSON,
    CLI_OPT_JSONL,
    CLI_OPT_KEY_BITS,
    CLI_OPT_KEY_COLUMN,
    CLI_OPT_KEY_FORMAT,
    CLI_OPT_LABELS,
    CLI_OPT_LABELS_RIGHT,
    CLI_OPT_LIMIT,
    CLI_OPT_LEGACY_NPHD,
    CLI_OPT_MAX_BITS,
    CLI_OPT_METRIC,
    CLI_OPT_MIX_UNITS,
    CLI_OPT_MULTI,
    CLI_OPT_NO_BLOOM,
    CLI_OPT_NUMBER,
    CLI_OPT_PLAN,
    CLI_OPT_QUERIES,
    CLI_OPT_RADIUS,
    CLI_OPT_REALM,
    CLI_OPT_SALVAGE,
    CLI_OPT_REFERENCE,
    CLI_OPT_SHARD_SIZE,
    CLI_OPT_SKIP_BAD,
    CLI_OPT_SOURCE_COLUMN,
    CLI_OPT_TABLES,
    CLI_OPT_THREADS,
    CLI_OPT_TSV,
    CLI_OPT_UNIT,
    CLI_OPT_UPDATE,
    CLI_OPT_VARIANTS,
    CLI_OPT_VECTOR_COLUMN
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

cli_exit cli_add(int argc, char **argv);
cli_exit cli_search(int argc, char **argv);
cli_exit cli_join(int argc, char **argv);
cli_exit cli_get(int argc, char **argv);
cli_exit cli_contains(int argc, char **argv);
cli_exit cli_remove(int argc, char **argv);
cli_exit cli_info(int argc, char **argv);
cli_exit cli_verify(int argc, char **argv);
cli_exit cli_dump(int argc, char **argv);
cli_exit cli_compact(int argc, char **argv);
cli_exit cli_prepare(int argc, char **argv);
cli_exit cli_rebuild_bloom(int argc, char **argv);
cli_exit cli_snapshot(int argc, char **argv);
cli_exit cli_salvage(int argc, char **argv);

/* All commands, closed by one whose name is NULL. */
extern const cli_command cli_commands[];

/* Prints the help text of a command. Returns CLI_SUCCESS. */
cli_exit cli_help(const char *name);

/* Takes one option of a command; false after a complaint. */
typedef bool (*cli_take_option)(void *job, int option, const char *value);

/* Hands each option to `take`, but for a call of the help text, which is answered here. Returns
 * false when the command is over by that or by a complaint, with its exit status. */
bool cli_take_options(int argc, char **argv, const char *shorts, const struct option *longs,
                      cli_take_option take, void *job, cli_exit *out_exit);

/* Takes --legacy-nphd, --salvage, --no-bloom, --journal, --key-format and --realm. */
bool cli_take_store_option(cli_store_options *store, int option, const char *value);

/* Takes --key-column, --vector-column and --source-column; false after a complaint. */
bool cli_take_column_option(cli_input_options *input, int option, const char *value);

/* Takes the options of the store and of input files: columns, --format, --bytes, --encoding and
 * --unit. */
bool cli_take_file_option(cli_store_options *store, cli_input_options *input, int option,
                          const char *value);

/* Takes the path of the index from the arguments that are left. A usage error is what can be the
 * name of neither a file nor a directory. */
cli_exit cli_take_path(int argc, char **argv, const char **out);

/* Likewise, of a command that works on directories alone. */
cli_exit cli_take_directory(int argc, char **argv, const char **out);

/* Complains when arguments are left over. */
cli_exit cli_take_no_more(int argc, char **argv);

/* 0 threads on the command line: one for each processor. */
bool cli_take_threads(const char *text, uint32_t *out);

/* Takes --tsv or --jsonl; false, after a complaint, when the other one was given. */
bool cli_take_layout(cli_layout *out, cli_layout layout);

/* A usage error when no distance of the metric is as large as that. */
cli_exit cli_check_radius(nphd_metric metric, float radius);

#endif
