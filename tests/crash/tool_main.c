/* crash_tool COMMAND DIRECTORY HISTORY [OPTION=VALUE...]: a workload to be killed, and the checks
 * of what is left; see tool.h. Driven by tools/run_crash. */
#include "tool.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct tool_command {
    const char *name;
    int (*run)(const tool_arguments *arguments);
} tool_command;

static const tool_command commands[] = {
    {"work", tool_work},       {"check", tool_check}, {"recover", tool_recover},
    {"readers", tool_readers}, {"locks", tool_locks}, {"look", tool_look},
};

static bool take_option(tool_arguments *arguments, const char *option)
{
    const char *value = strchr(option, '=');
    const size_t name_bytes = value != NULL ? (size_t)(value - option) : 0;
    uint64_t number;

    if (value == NULL) {
        return false;
    }
    value++;
    number = strtoull(value, NULL, 0);
#define IS(name) (strlen(name) == name_bytes && strncmp(option, name, name_bytes) == 0)
    if (IS("seed")) {
        arguments->seed = number;
    } else if (IS("threads")) {
        arguments->threads = (uint32_t)number;
    } else if (IS("steps")) {
        arguments->steps = (uint32_t)number;
    } else if (IS("cycles")) {
        arguments->cycles = (uint32_t)number;
    } else if (IS("kills")) {
        arguments->kills = (uint32_t)number;
    } else if (IS("readers")) {
        arguments->readers = (uint32_t)number;
    } else if (IS("shard")) {
        arguments->shard_bytes = number;
    } else if (IS("limit")) {
        arguments->file_limit = number;
    } else if (IS("heal")) {
        arguments->heal = value;
    } else if (IS("break")) {
        arguments->broken = value;
    } else if (IS("at")) {
        arguments->broken_at = (uint32_t)number;
    } else if (IS("read_only")) {
        arguments->read_only = number != 0;
    } else if (IS("unhealable")) {
        arguments->unhealable = number != 0;
    } else if (IS("journal")) {
        arguments->journal = number != 0;
    } else if (IS("each")) {
        arguments->each_call = number != 0;
    } else if (IS("background")) {
        arguments->background = number != 0;
    } else if (IS("settle")) {
        arguments->settle = number != 0;
    } else {
        return false;
    }
#undef IS
    return true;
}

int main(int count, char **values)
{
    tool_arguments arguments = {
        .seed = 1, .threads = 1, .cycles = 200, .readers = 2, .shard_bytes = 3000, .journal = true};

    if (count < 4) {
        (void)fprintf(stderr,
                      "usage: crash_tool work|check|recover|readers|locks|look DIRECTORY HISTORY "
                      "[OPTION=VALUE...]\n");
        return 2;
    }
    arguments.directory = values[2];
    arguments.history = values[3];
    for (int i = 4; i < count; i++) {
        if (!take_option(&arguments, values[i])) {
            (void)fprintf(stderr, "crash_tool: no option %s\n", values[i]);
            return 2;
        }
    }
    if (arguments.threads == 0 || arguments.threads > TOOL_THREADS) {
        (void)fprintf(stderr, "crash_tool: 1 to %d threads\n", TOOL_THREADS);
        return 2;
    }
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(values[1], commands[i].name) == 0) {
            return commands[i].run(&arguments);
        }
    }
    (void)fprintf(stderr, "crash_tool: no command %s\n", values[1]);
    return 2;
}
