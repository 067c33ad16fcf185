/* What a crashed process left, against what it had promised. */
#include "tool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void be_silent(void *context, nphd_log_level level, const char *text)
{
    (void)context;
    (void)level;
    (void)text;
}

nphd_sharded_options tool_options(const tool_arguments *arguments)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;

    options.max_bits = 64;
    options.connectivity = 2;
    options.build_breadth = 8;
    options.search_breadth = 8;
    options.shard_bytes = arguments->shard_bytes;
    options.journal = arguments->journal;
    options.commit_each_call = arguments->each_call;
    options.background_rotation = arguments->background;
    options.logger = be_silent;
    return options;
}

bool tool_state_of(nphd_sharded *sharded, tool_state *out)
{
    nphd_sharded_cursor cursor = nphd_sharded_cursor_begin(sharded);
    uint8_t data[NPHD_MAX_BYTES];
    nphd_status status;
    nphd_key key;
    size_t bytes;

    memset(out, 0, sizeof(*out));
    while ((status = nphd_sharded_cursor_next(&cursor, &key, data, &bytes, NULL)) == NPHD_OK) {
        const uint32_t version =
            key.low < TOOL_ALL_KEYS ? tool_version((uint32_t)key.low, data, bytes) : 0;
        if (version == 0 || out->versions[key.low] != 0) {
            (void)fprintf(stderr, "key %llu: met twice, or with a vector that was never put\n",
                          (unsigned long long)key.low);
            return false;
        }
        out->versions[key.low] = version;
    }
    if (status != NPHD_NOT_FOUND) {
        (void)fprintf(stderr, "the walk ends with %s\n", nphd_status_name(status));
        return false;
    }
    return true;
}

static bool search_agrees(nphd_sharded *sharded, const tool_state *state, size_t count)
{
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_search_report report;
    nphd_match *found = calloc(TOOL_ALL_KEYS, sizeof(*found));
    uint8_t data[8];
    bool fine;

    memset(&report, 0, sizeof(report));
    options.mode = NPHD_SEARCH_EXACT;
    fine = found != NULL && nphd_sharded_search(sharded, tool_vector(1, 1, data), TOOL_ALL_KEYS,
                                                &options, found, &report, NULL) == NPHD_OK;
    fine = fine && report.count == count;
    for (size_t i = 0; fine && i < count; i++) {
        fine = state->versions[found[i].key.low] != 0;
    }
    free(found);
    if (!fine) {
        (void)fprintf(stderr, "search finds %zu vectors, there are %zu\n", (size_t)report.count,
                      count);
    }
    return fine;
}

bool tool_lookups_agree(nphd_sharded *sharded, const tool_state *state)
{
    size_t count = 0;

    for (uint32_t key = 0; key < TOOL_ALL_KEYS; key++) {
        uint8_t data[8];
        size_t bytes = 0;
        bool there = false;
        const uint32_t version = state->versions[key];
        nphd_status status = nphd_sharded_contains(sharded, nphd_key_u64(key), &there, NULL);
        count += version != 0 ? 1 : 0;
        if (status != NPHD_OK || there != (version != 0)) {
            (void)fprintf(stderr, "contains of key %u: %s, %d\n", key, nphd_status_name(status),
                          there);
            return false;
        }
        status = nphd_sharded_get(sharded, nphd_key_u64(key), data, sizeof(data), &bytes, NULL);
        if (there ? status != NPHD_OK || tool_version(key, data, bytes) != version
                  : status != NPHD_NOT_FOUND) {
            (void)fprintf(stderr, "get of key %u: %s\n", key, nphd_status_name(status));
            return false;
        }
    }
    if (nphd_sharded_size(sharded) != count) {
        (void)fprintf(stderr, "size is %llu, there are %zu\n",
                      (unsigned long long)nphd_sharded_size(sharded), count);
        return false;
    }
    return search_agrees(sharded, state, count);
}

static bool complain(const char *what, const nphd_error *err)
{
    (void)fprintf(stderr, "%s: %s: %s\n", what, nphd_status_name(err->status), err->text);
    return false;
}

/* *out_absent: there is no index. */
static bool open_and_look(const tool_arguments *arguments, bool read_only, nphd_sharded **out,
                          tool_state *state, bool *out_absent)
{
    nphd_sharded_options options = tool_options(arguments);
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    options.read_only = read_only;
    status = nphd_sharded_open(arguments->directory, &options, out, &err);
    *out_absent = read_only && status == NPHD_NOT_FOUND;
    if (*out_absent) {
        memset(state, 0, sizeof(*state));
        return true;
    }
    if (status != NPHD_OK) {
        return complain(read_only ? "reader" : "writer", &err);
    }
    return tool_state_of(*out, state) && tool_lookups_agree(*out, state);
}

static bool verifies(const tool_arguments *arguments, bool may_be_absent)
{
    nphd_directory_report report;
    nphd_error err = NPHD_ERROR_INIT;
    const nphd_status status =
        nphd_directory_verify(arguments->directory, NULL, NULL, NULL, &report, &err);

    return status == NPHD_OK || (may_be_absent && status == NPHD_NOT_FOUND) ||
           complain("verify", &err);
}

/* One more vector, committed; then the process ends without closing. */
static bool goes_on(const tool_arguments *arguments, nphd_sharded *writer, tool_state *state)
{
    const uint32_t key = TOOL_KEYS - 1;
    nphd_error err = NPHD_ERROR_INIT;
    uint8_t data[8];
    nphd_key keys[1] = {nphd_key_u64(key)};
    nphd_vector vectors[1];
    tool_state after;
    nphd_sharded *reader = NULL;
    bool absent;
    bool fine;

    state->versions[key] = 1000000;
    vectors[0] = tool_vector(key, state->versions[key], data);
    if (nphd_sharded_upsert(writer, keys, vectors, 1, NULL, NULL, &err) != NPHD_OK ||
        nphd_sharded_commit(writer, &err) != NPHD_OK) {
        return complain("going on", &err);
    }
    fine = open_and_look(arguments, true, &reader, &after, &absent) && !absent &&
           memcmp(after.versions, state->versions, sizeof(after.versions)) == 0;
    nphd_sharded_free(reader);
    if (!fine) {
        (void)fprintf(stderr, "what was committed after the crash is not there\n");
    }
    return fine && verifies(arguments, false);
}

int tool_check(const tool_arguments *arguments)
{
    static tool_state state;
    static tool_state again;
    nphd_sharded *reader = NULL;
    nphd_sharded *writer = NULL;
    bool absent = false;
    bool fine = open_and_look(arguments, true, &reader, &state, &absent);

    nphd_sharded_free(reader);
    fine = fine && tool_history_allows(arguments->history, &state);
    fine = fine && verifies(arguments, absent);
    if (fine && arguments->read_only) {
        const nphd_sharded_options options = tool_options(arguments);
        fine = nphd_sharded_open(arguments->directory, &options, &writer, NULL) == NPHD_IO;
        return fine ? 0 : 1;
    }
    if (fine) {
        bool unused;
        fine = open_and_look(arguments, false, &writer, &again, &unused);
    }
    if (fine && memcmp(state.versions, again.versions, sizeof(state.versions)) != 0) {
        (void)fprintf(stderr, "the writer finds another state than the reader\n");
        fine = false;
    }
    if (fine && arguments->settle) {
        tool_history_settle(arguments->history, &state);
    } else if (fine) {
        fine = goes_on(arguments, writer, &state);
    }
    nphd_sharded_free(writer);
    return fine ? 0 : 1;
}

int tool_recover(const tool_arguments *arguments)
{
    const nphd_sharded_options options = tool_options(arguments);
    nphd_sharded *writer = NULL;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status = nphd_sharded_open(arguments->directory, &options, &writer, &err);

    if (status == NPHD_OK) {
        status = nphd_sharded_close(writer, &err);
    }
    if (status != NPHD_OK) {
        (void)complain("recover", &err);
    }
    nphd_sharded_free(writer);
    return status == NPHD_OK ? 0 : 1;
}
