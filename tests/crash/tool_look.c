/* An index on a device that cannot be read, in part or at all: whatever is asked is answered right,
 * or with NPHD_IO and a text. The one exception is what a mapping meets, which is the signal SIGBUS
 * (docs/durability.md section 5); verify and loading read, and never raise it.
 *
 * Ends with 0: all was answered; 10: with a named error; 11: by the signal, from a mapping. */
#include "tool.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAMED 10
#define SIGNALLED 11
#define WRONG 1

static void on_signal(int number)
{
    (void)number;
    _exit(SIGNALLED);
}

/* Is it an answer that a failing device excuses? */
static int judge(const char *what, nphd_status status, const nphd_error *err)
{
    if (status == NPHD_OK) {
        return 0;
    }
    if (status == NPHD_IO && err->text[0] != '\0') {
        (void)printf("%s: %s\n", what, err->text);
        return NAMED;
    }
    (void)fprintf(stderr, "%s: %s: %s\n", what, nphd_status_name(status), err->text);
    return WRONG;
}

static int worse(int a, int b)
{
    return a == WRONG || b == WRONG ? WRONG : a > b ? a : b;
}

static int look_at_files(const tool_arguments *arguments)
{
    nphd_error err = NPHD_ERROR_INIT;
    char path[4096];
    int result = judge(
        "verify", nphd_directory_verify(arguments->directory, NULL, NULL, NULL, NULL, &err), &err);

    for (unsigned number = 0; number < 100; number++) {
        nphd_index *index = NULL;
        nphd_status status;
        (void)snprintf(path, sizeof(path), "%s/shard_%03u.usearch", arguments->directory, number);
        if (access(path, F_OK) != 0) {
            continue;
        }
        status = nphd_index_create(NULL, &index, &err);
        if (status == NPHD_OK) {
            status = nphd_index_load(index, path, NULL, &err);
        }
        result = worse(result, judge("load", status, &err));
        nphd_index_close(index);
    }
    return result;
}

static int look_at_content(const tool_arguments *arguments)
{
    static tool_state state;
    nphd_sharded_options options = tool_options(arguments);
    nphd_error err = NPHD_ERROR_INIT;
    nphd_sharded *sharded = NULL;
    nphd_sharded_cursor cursor;
    nphd_status status;
    uint8_t data[NPHD_MAX_BYTES];
    nphd_key key;
    size_t bytes;
    int result;

    options.read_only = true;
    (void)signal(SIGBUS, on_signal);
    status = nphd_sharded_open(arguments->directory, &options, &sharded, &err);
    result = judge("open", status, &err);
    cursor = nphd_sharded_cursor_begin(sharded);
    while (status == NPHD_OK) {
        status = nphd_sharded_cursor_next(&cursor, &key, data, &bytes, &err);
        if (status == NPHD_OK) {
            const uint32_t version =
                key.low < TOOL_ALL_KEYS ? tool_version((uint32_t)key.low, data, bytes) : 0;
            if (version == 0 || state.versions[key.low] != 0) {
                (void)fprintf(stderr, "key %llu: a wrong answer\n", (unsigned long long)key.low);
                status = NPHD_CORRUPT;
                result = WRONG;
            } else {
                state.versions[key.low] = version;
            }
        }
    }
    if (sharded != NULL && status == NPHD_NOT_FOUND) {
        result =
            tool_lookups_agree(sharded, &state) && tool_history_allows(arguments->history, &state)
                ? result
                : WRONG;
    } else if (sharded != NULL && result == 0) {
        result = judge("cursor", status, &err);
    }
    nphd_sharded_free(sharded);
    return result;
}

int tool_look(const tool_arguments *arguments)
{
    const int files = look_at_files(arguments);

    return worse(files, look_at_content(arguments));
}
