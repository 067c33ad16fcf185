/* nphd dump: all vectors as JSONL, which nphd add reads back. */
#include "command.h"

#include "output.h"
#include <stdio.h>

/* Vectors between two looks at standard output. */
#define LOOK_EVERY 4096

static cli_exit dump_all(nphd_index *index, const cli_shape *shape)
{
    nphd_cursor cursor = nphd_index_cursor(index);
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status = NPHD_OK;
    uint8_t vector[NPHD_MAX_BYTES];
    size_t bytes = 0;
    nphd_key key;

    for (uint64_t done = 1;; done++) {
        status = nphd_cursor_next(&cursor, &key, vector, &bytes, &err);
        if (status == NPHD_NOT_FOUND) {
            return CLI_SUCCESS;
        }
        if (status != NPHD_OK) {
            return cli_fail(&err);
        }
        fputs("{\"key\": ", stdout);
        cli_print_json_key(key, shape->key_bits);
        fputs(", \"hex\": \"", stdout);
        cli_print_hex(vector, bytes);
        puts("\"}");
        if (done % LOOK_EVERY == 0 && cli_output_broken()) {
            return CLI_SYSTEM;
        }
    }
}

cli_exit cli_dump(int argc, char **argv)
{
    static const struct option longs[] = {
        {"help", no_argument, NULL, 'h'},
        {"legacy-nphd", no_argument, NULL, CLI_OPT_LEGACY_NPHD},
        {NULL, 0, NULL, 0},
    };
    nphd_open_options options = NPHD_OPEN_OPTIONS_INIT;
    const char *path = NULL;
    nphd_index *index = NULL;
    cli_shape shape;
    cli_exit result = CLI_SUCCESS;
    int option = 0;

    while ((option = cli_next_option(argc, argv, ":h", longs)) != -1) {
        if (option != CLI_OPT_LEGACY_NPHD) {
            return option == 'h' ? cli_help(argv[0]) : CLI_USAGE;
        }
        options.legacy_nphd = true;
    }
    if (cli_take_path(argc, argv, &path) != CLI_SUCCESS ||
        cli_take_no_more(argc, argv) != CLI_SUCCESS) {
        return CLI_USAGE;
    }
    result = cli_open_index(path, true, &options, &index, &shape);
    if (result == CLI_SUCCESS) {
        result = dump_all(index, &shape);
    }
    nphd_index_close(index);
    return result;
}
