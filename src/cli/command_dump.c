/* nphd dump: all vectors as JSONL, which nphd add reads back. */
#include "command.h"

#include "output.h"
#include "signals.h"
#include <stdio.h>

/* Vectors between two looks at standard output. */
#define LOOK_EVERY 4096

static cli_exit dump_all(const cli_store *store)
{
    cli_store_cursor cursor = cli_store_cursor_begin(store);
    cli_exit result = CLI_SUCCESS;
    uint8_t vector[NPHD_MAX_BYTES];
    size_t bytes = 0;
    nphd_key key;
    bool end = false;

    for (uint64_t done = 1; result == CLI_SUCCESS; done++) {
        result = cli_store_cursor_next(&cursor, &key, vector, &bytes, &end);
        if (result != CLI_SUCCESS || end) {
            break;
        }
        fputs("{\"key\": ", stdout);
        cli_print_json_key(key, store->shape.key_bits);
        fputs(", \"hex\": \"", stdout);
        cli_print_hex(vector, bytes);
        puts("\"}");
        if (cli_interrupted()) {
            result = CLI_INTERRUPTED;
        } else if (done % LOOK_EVERY == 0 && cli_output_broken()) {
            result = CLI_SYSTEM;
        }
    }
    return result;
}

static bool dump_option(void *context, int option, const char *value)
{
    return cli_take_store_option(context, option, value);
}

cli_exit cli_dump(int argc, char **argv)
{
    static const struct option longs[] = {
        {"help", no_argument, NULL, 'h'},
        {"key-format", required_argument, NULL, CLI_OPT_KEY_FORMAT},
        {"legacy-nphd", no_argument, NULL, CLI_OPT_LEGACY_NPHD},
        {"realm", required_argument, NULL, CLI_OPT_REALM},
        {"salvage", no_argument, NULL, CLI_OPT_SALVAGE},
        {"reference-wrote-last", no_argument, NULL, CLI_OPT_REFERENCE},
        {NULL, 0, NULL, 0},
    };
    cli_store_options options = {0};
    cli_store store = {0};
    const char *path = NULL;
    cli_exit result = CLI_SUCCESS;

    if (!cli_take_options(argc, argv, ":h", longs, dump_option, &options, &result)) {
        return result;
    }
    if (cli_take_path(argc, argv, &path) != CLI_SUCCESS ||
        cli_take_no_more(argc, argv) != CLI_SUCCESS) {
        return CLI_USAGE;
    }
    result = cli_store_open(&store, path, CLI_READ, &options);
    if (result == CLI_SUCCESS) {
        result = dump_all(&store);
    }
    cli_store_close(&store);
    return result;
}
