/* nphd: the command-line program. Uses the public headers of the library alone. */
#include "command.h"

#include "output.h"
#include "signals.h"
#include "suggest.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Output goes out in pieces of this size, also to a terminal: answers come a batch at a time. */
#define OUTPUT_BYTES ((size_t)65536)

/* A caller may have closed one of the standard files. The next file opened would take its number,
 * and text meant for the caller would be written into an index. A dead end is put there instead:
 * each is opened the wrong way round, so that using it is an error. */
static void main_guard_files(void)
{
    static const int wrong_way[] = {O_WRONLY, O_RDONLY, O_RDONLY};

    for (int file = STDIN_FILENO; file <= STDERR_FILENO; file++) {
        if (fcntl(file, F_GETFD) == -1 && open("/dev/null", wrong_way[file]) != file) {
            _exit(CLI_SYSTEM);
        }
    }
}

static const cli_command *main_find(const char *name)
{
    for (const cli_command *command = cli_commands; command->name != NULL; command++) {
        if (strcmp(command->name, name) == 0) {
            return command;
        }
    }
    return NULL;
}

/* "; did you mean 'add'?", or "". */
static void main_advise(const char *typed, char *out, size_t capacity)
{
    cli_suggestion suggestion = {.typed = typed};

    for (const cli_command *command = cli_commands; command->name != NULL; command++) {
        cli_suggest_try(&suggestion, command->name);
    }
    cli_suggest_try(&suggestion, "help");
    cli_suggest_text(&suggestion, "", out, capacity);
}

static cli_exit main_help(int argc, char **argv)
{
    char advice[64];

    if (argc > 1) {
        return cli_usage("help: '%s' is one argument too many", argv[1]);
    }
    if (argc == 1 && main_find(argv[0]) == NULL && strcmp(argv[0], "help") != 0) {
        main_advise(argv[0], advice, sizeof(advice));
        return cli_usage("help: there is no command '%s'%s", argv[0], advice);
    }
    return cli_help(argc == 1 ? argv[0] : NULL);
}

static cli_exit main_run(int argc, char **argv)
{
    const cli_command *command = NULL;
    char advice[64];

    if (argc < 2) {
        return cli_usage("no command is given");
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
        printf("nphd %s\n", nphd_version());
        return CLI_SUCCESS;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        return cli_help(NULL);
    }
    if (strcmp(argv[1], "help") == 0) {
        return main_help(argc - 2, argv + 2);
    }
    command = main_find(argv[1]);
    if (command == NULL) {
        main_advise(argv[1], advice, sizeof(advice));
        return cli_usage("there is no command '%s'%s", argv[1], advice);
    }
    cli_message_command(command->name);
    return command->run(argc - 1, argv + 1);
}

int main(int argc, char **argv)
{
    main_guard_files();
    cli_signals_begin();
    setvbuf(stdout, NULL, _IOFBF, OUTPUT_BYTES);
    return cli_signals_end(cli_output_finish(main_run(argc, argv)));
}
