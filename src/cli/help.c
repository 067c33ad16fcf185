/* The help texts of the program. The man pages say more. */
#include "command.h"

#include <stdio.h>
#include <string.h>

static const char *const help_add[] = {
    "usage: nphd add PATH [FILE...]",
    "",
    "Add the vectors of files to the index PATH, which is created when it is missing: one",
    "file when the name ends in .usearch, else a directory. FILE is CSV, JSONL, a NumPy array",
    "or raw rows; '-' is standard input. A file is written once, at the end; on an error it",
    "stays as it was. Of a directory the shards that are full by then are kept.",
    "",
    "  --update           replace the vectors of keys that are present",
    "  --skip-bad         warn about bad lines and go on without them",
    "  --key-column NAME  of CSV and JSONL, where the key is (default: key)",
    "  --vector-column NAME  likewise the vector (default: iscc, hex or base64)",
    "  --encoding ENC     auto, iscc, hex or base64: how vectors in text are written",
    "  --unit TYPE        such as content-text: the unit to take from ISCC-CODEs",
    "  --mix-units        let the index have codes of several types",
    "  --realm N          whose ISCC-IDs the keys are that are ISCC:M... (default 1)",
    "  --first-key N      number vectors that have no key from N on",
    "  --number           give them automatic keys, whatever other columns there are",
    "  --threads N        worker threads, 0: one for each processor (default 1)",
    "  --format FORMAT    csv, jsonl, npy or raw (default: by the end of the name;",
    "                     standard input by its first byte)",
    "  --bytes N          length of a raw row",
    "  --dtype uint64     NumPy arrays have numbers of 64 bits, each a vector (default uint8)",
    "  --breadth N        candidates kept while inserting, 1 to 65536 (default 128)",
    "  --tables           write hash tables for exact searches, of a directory with full shards",
    "",
    "Of a directory:",
    "  --shard-size N     bytes after which a shard is full, with K, M or G (default 1G)",
    "  --background       write full shards while adding goes on",
    "  --no-bloom         keep no bloom filter",
    "  --reference-wrote-last  of a directory: the reference did, whatever else is there",
    "  --journal          commit every batch to the journal, and save nothing at the end",
    "",
    "Of a new index; an existing one must agree:",
    "  --max-bits N       widest vector, 8 to 2040 in steps of 8 (default 256)",
    "  --key-bits N       64 or 128 (default 64)",
    "  --metric METRIC    nphd or hamming (default nphd)",
    "  --connectivity N   graph links of a node, 2 to 512 (default 16)",
    "  --multi            let several vectors share a key",
    "  --legacy-nphd      the file says Hamming but was written as NPHD by an old version",
    NULL,
};

static const char *const help_search[] = {
    "usage: nphd search PATH [VECTOR...] [--queries FILE]",
    "",
    "Find the stored vectors nearest to each query. VECTOR is an ISCC, an even number of hex",
    "digits, or base64 with \"base64:\" in front. The table says how each was read.",
    "",
    "  --encoding ENC     auto, iscc, hex or base64: how vectors are written (default auto)",
    "  --unit TYPE        such as content-text: the unit that is meant of ISCC-CODEs",
    "                     (default: the type that the index has)",
    "  --mix-units        take queries of other types than the index has",
    "  --queries FILE     CSV, JSONL, NumPy array or raw rows; '-' is standard input",
    "  --skip-bad         warn about queries of the file that cannot be read, and go on",
    "  --variants N       so many vectors in turn are one query, 1 to 8; the nearest counts",
    "  --found-only       leave out queries without a match",
    "  -k N               matches of a query (default 10)",
    "  --radius R         leave out what is farther than R",
    "  --any              with a radius, one match is enough, whichever is found first",
    "  --exact            miss nothing, whatever it costs",
    "  --approximate      use the graph",
    "                     (default: exact as long as the budget allows it, else the graph)",
    "  --budget US        microseconds that an exact answer may take, as predicted for one",
    "                     thread (default 1000)",
    "  --plan PLAN        auto, scan, tables or graph (default auto)",
    "  --explain          show the plan of each query, and its cost predicted and measured",
    "  --breadth N        candidates kept in the graph, 1 to 65536",
    "  --threads N        worker threads, 0: one for each processor (default 1)",
    "  --tsv              print query, rank, key and distance with tabs between them",
    "  --jsonl            print a JSON object for each query",
    "  --labels FILE      CSV with the columns key and source, shown in the table",
    "  --key-column NAME  of the labels, where the key is (default: key)",
    "  --source-column NAME  of labels and queries, where the name is (default: source)",
    "  --format FORMAT    of the queries: csv, jsonl, npy or raw",
    "  --vector-column NAME  of the vector in CSV and JSONL (default: iscc, hex or base64)",
    "  --bytes N          length of a raw row",
    "  --dtype uint64     NumPy arrays have numbers of 64 bits, each a vector (default uint8)",
    "  --key-format FORM  auto, or iscc-id: print keys as ISCC-IDs",
    "  --realm N          whose ISCC-IDs the keys are (default 1)",
    "  --legacy-nphd      the file says Hamming but was written as NPHD by an old version",
    "  --salvage          of a damaged directory, use what can be read",
    "  --reference-wrote-last  of a directory: the reference did, whatever else is there",
    NULL,
};

static const char *const help_join[] = {
    "usage: nphd join PATH [PATH] --radius R",
    "",
    "Print all pairs of stored vectors that are at most R apart: inside one index, each pair",
    "once, or between two.",
    "",
    "  --radius R         a fraction from 0 to 1, or a number of bits for Hamming",
    "  --clusters         of one index: print the groups of keys that the pairs connect",
    "  --limit N          print at most N pairs, and say so if there are more",
    "  --mix-units        join two indexes whose codes are of different types",
    "  --threads N        worker threads, 0: one for each processor (default 1)",
    "  --tsv              print left key, right key and distance with tabs between them; of",
    "                     groups number, size, representative and key of each member",
    "  --jsonl            print a JSON object for each pair or group",
    "  --labels FILE      CSV with the columns key and source, shown in the table; of two",
    "                     indexes for the keys of the first",
    "  --labels-right FILE",
    "                     the same for the keys of the second",
    "  --key-column NAME  of the labels, where the key is (default: key)",
    "  --source-column NAME  of the labels, where the name is (default: source)",
    "  --key-format FORM  auto, or iscc-id: print keys as ISCC-IDs",
    "  --realm N          whose ISCC-IDs the keys are (default 1)",
    "  --legacy-nphd      the files say Hamming but were written as NPHD by an old version",
    "  --salvage          of a damaged directory, use what can be read",
    "  --reference-wrote-last  of a directory: the reference did, whatever else is there",
    NULL,
};

static const char *const help_get[] = {
    "usage: nphd get PATH KEY...",
    "",
    "Print each key and its vector in hex, with a tab between them. KEY is decimal, 0x and",
    "hex digits, or 32 hex digits or a UUID. Exit status 1: a key is absent.",
    "",
    "  --key-format FORM  auto, or iscc-id: print keys as ISCC-IDs",
    "  --realm N          whose ISCC-IDs the keys are (default 1)",
    "  --legacy-nphd      the file says Hamming but was written as NPHD by an old version",
    "  --salvage          of a damaged directory, use what can be read",
    "  --reference-wrote-last  of a directory: the reference did, whatever else is there",
    NULL,
};

static const char *const help_contains[] = {
    "usage: nphd contains PATH KEY...",
    "",
    "Print each key and yes or no, with a tab between them. KEY is decimal, 0x and hex",
    "digits, or 32 hex digits or a UUID. Exit status 1: a key is absent.",
    "",
    "  --key-format FORM  auto, or iscc-id: print keys as ISCC-IDs",
    "  --realm N          whose ISCC-IDs the keys are (default 1)",
    "  --legacy-nphd      the file says Hamming but was written as NPHD by an old version",
    "  --salvage          of a damaged directory, use what can be read",
    "  --reference-wrote-last  of a directory: the reference did, whatever else is there",
    NULL,
};

static const char *const help_remove[] = {
    "usage: nphd remove PATH KEY...",
    "",
    "Remove the vectors of keys and save the index. KEY is decimal, 0x and hex digits, or 32",
    "hex digits or a UUID. Keys that are absent are counted.",
    "",
    "  --realm N          whose ISCC-IDs the keys are (default 1)",
    "  --legacy-nphd      the file says Hamming but was written as NPHD by an old version",
    "  --no-bloom         of a directory: keep no bloom filter",
    "  --reference-wrote-last  of a directory: the reference did, whatever else is there",
    "  --journal          of a directory: commit to the journal, and save nothing",
    NULL,
};

static const char *const help_info[] = {
    "usage: nphd info [PATH]",
    "",
    "Print the parameters and counts of an index, and the shards of a directory; without",
    "PATH, the version of the library and the kernels that it uses on this processor.",
    "",
    "  --json             print one JSON object",
    "  --legacy-nphd      the file says Hamming but was written as NPHD by an old version",
    "  --salvage          of a damaged directory, use what can be read",
    "  --reference-wrote-last  of a directory: the reference did, whatever else is there",
    NULL,
};

static const char *const help_verify[] = {
    "usage: nphd verify PATH [--threads N]",
    "",
    "Read a whole index and check every checksum and bound of it, of a directory in every",
    "file. Each damage is a line, then comes a summary. Exit status 3: damaged.",
    "",
    "  --threads N        worker threads, 0: one for each processor (default 1)",
    NULL,
};

static const char *const help_compact[] = {
    "usage: nphd compact DIRECTORY",
    "",
    "Rewrite the shards that have dead entries without them, and merge neighbours that have",
    "become small.",
    "",
    "  --shard-size N     bytes that a merged shard may have, with K, M or G (default 1G)",
    "  --threads N        worker threads, 0: one for each processor (default 1)",
    "  --no-bloom         keep no bloom filter",
    NULL,
};

static const char *const help_prepare[] = {
    "usage: nphd prepare FILE [--threads N]",
    "",
    "Write an index file anew with hash tables, by which exact searches for what is near look",
    "at a few vectors only. The shards of a directory have them after 'nphd add --tables'.",
    "",
    "  --threads N        worker threads, 0: one for each processor (default 1)",
    "  --legacy-nphd      the file says Hamming but was written as NPHD by an old version",
    NULL,
};

static const char *const help_rebuild_bloom[] = {
    "usage: nphd rebuild-bloom DIRECTORY",
    "",
    "Make the bloom filter anew from the keys that are present.",
    NULL,
};

static const char *const help_snapshot[] = {
    "usage: nphd snapshot DIRECTORY NEW",
    "",
    "Copy the newest state of an index to the directory NEW, which does not exist yet or is",
    "empty. Another program may write DIRECTORY meanwhile. Files are shared by hard links",
    "where the file system can.",
    NULL,
};

static const char *const help_salvage[] = {
    "usage: nphd salvage DIRECTORY NEW",
    "",
    "Build a clean index in the directory NEW, which does not exist yet or is empty, from what",
    "can be read of a damaged one, which stays as it is. What is missing is told on standard",
    "error. Exit status 3: something is missing, and NEW has the rest.",
    NULL,
};

static const char *const help_dump[] = {
    "usage: nphd dump PATH",
    "",
    "Print all vectors as JSONL, {\"key\": ..., \"hex\": \"...\"}, which nphd add reads.",
    "",
    "  --key-format FORM  auto, or iscc-id: print keys as ISCC-IDs",
    "  --realm N          whose ISCC-IDs the keys are (default 1)",
    "  --legacy-nphd      the file says Hamming but was written as NPHD by an old version",
    "  --salvage          of a damaged directory, use what can be read",
    "  --reference-wrote-last  of a directory: the reference did, whatever else is there",
    NULL,
};

const cli_command cli_commands[] = {
    {"add", "add vectors from files", cli_add, help_add},
    {"search", "find the nearest vectors", cli_search, help_search},
    {"join", "find all pairs within a radius", cli_join, help_join},
    {"get", "print vectors of keys", cli_get, help_get},
    {"contains", "tell whether keys are present", cli_contains, help_contains},
    {"remove", "remove vectors of keys", cli_remove, help_remove},
    {"info", "describe an index or the library", cli_info, help_info},
    {"verify", "check an index for damage", cli_verify, help_verify},
    {"dump", "print all vectors", cli_dump, help_dump},
    {"prepare", "write an index file with hash tables", cli_prepare, help_prepare},
    {"compact", "drop the dead entries of a directory", cli_compact, help_compact},
    {"rebuild-bloom", "make the bloom filter of a directory anew", cli_rebuild_bloom,
     help_rebuild_bloom},
    {"snapshot", "copy a directory while it is in use", cli_snapshot, help_snapshot},
    {"salvage", "make a clean directory of a damaged one", cli_salvage, help_salvage},
    {NULL, NULL, NULL, NULL},
};

static void help_all(void)
{
    puts("usage: nphd COMMAND [ARGUMENT...]\n\n"
         "Nearest-neighbour search over binary vectors of mixed length. An index\n"
         "is a file whose name ends in .usearch, or a directory.\n");
    for (const cli_command *command = cli_commands; command->name != NULL; command++) {
        printf("  %-14s %s\n", command->name, command->summary);
    }
    puts("  help           explain a command\n\n"
         "  --version      print the version\n\n"
         "Exit status: 0 success, 1 a key asked for is absent, 2 usage, 3 bad input or damaged\n"
         "file, 4 system error.");
}

cli_exit cli_help(const char *name)
{
    for (const cli_command *command = cli_commands; command->name != NULL; command++) {
        if (name != NULL && strcmp(command->name, name) == 0) {
            for (const char *const *line = command->help; *line != NULL; line++) {
                puts(*line);
            }
            return CLI_SUCCESS;
        }
    }
    help_all();
    return CLI_SUCCESS;
}
