/* One writer at a time: in the process, beside it, after it was killed, and with a forked child. */
#include "tool.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static nphd_status try_to_open(const tool_arguments *arguments)
{
    const nphd_sharded_options options = tool_options(arguments);
    nphd_sharded *sharded = NULL;
    const nphd_status status = nphd_sharded_open(arguments->directory, &options, &sharded, NULL);

    nphd_sharded_free(sharded);
    return status;
}

static nphd_status try_in_child(const tool_arguments *arguments)
{
    const pid_t child = fork();
    int how = 0;

    if (child == 0) {
        _exit((int)try_to_open(arguments));
    }
    return waitpid(child, &how, 0) == child && WIFEXITED(how) ? (nphd_status)WEXITSTATUS(how)
                                                              : NPHD_IO;
}

static bool answers(nphd_status status, nphd_status expected, const char *what)
{
    if (status != expected) {
        (void)fprintf(stderr, "%s: %s, not %s\n", what, nphd_status_name(status),
                      nphd_status_name(expected));
    }
    return status == expected;
}

/* Locks of POSIX would go when any descriptor of the file is closed. */
static bool survives_a_close(const tool_arguments *arguments)
{
    char path[4096];
    int other;

    (void)snprintf(path, sizeof(path), "%s/lock", arguments->directory);
    other = open(path, O_RDONLY | O_CLOEXEC);
    if (other < 0) {
        perror(path);
        return false;
    }
    (void)close(other);
    return answers(try_in_child(arguments), NPHD_BUSY, "after an unrelated close");
}

/* A child that waits until it is killed; it has opened the index itself, or has what we had open.
 */
static pid_t waiting_child(const tool_arguments *arguments, bool opens)
{
    int ready[2];
    char byte = 0;
    pid_t child;

    if (pipe(ready) != 0) {
        return -1;
    }
    child = fork();
    if (child == 0) {
        const nphd_sharded_options options = tool_options(arguments);
        nphd_sharded *sharded = NULL;
        if (opens && nphd_sharded_open(arguments->directory, &options, &sharded, NULL) != NPHD_OK) {
            _exit(1);
        }
        (void)!write(ready[1], &byte, 1);
        (void)pause();
        _exit(0);
    }
    (void)close(ready[1]);
    (void)!read(ready[0], &byte, 1);
    (void)close(ready[0]);
    return child;
}

static void end_child(pid_t child)
{
    (void)kill(child, SIGKILL);
    (void)waitpid(child, NULL, 0);
}

int tool_locks(const tool_arguments *arguments)
{
    const nphd_sharded_options options = tool_options(arguments);
    nphd_sharded *sharded = NULL;
    nphd_error err = NPHD_ERROR_INIT;
    pid_t child;
    bool fine;

    if (nphd_sharded_open(arguments->directory, &options, &sharded, &err) != NPHD_OK) {
        (void)fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    fine = answers(try_to_open(arguments), NPHD_BUSY, "a second handle") &&
           answers(try_in_child(arguments), NPHD_BUSY, "a second process") &&
           survives_a_close(arguments);
    child = waiting_child(arguments, false);
    fine = answers(nphd_sharded_close(sharded, &err), NPHD_OK, "close") && fine;
    nphd_sharded_free(sharded);
    fine = answers(try_to_open(arguments), NPHD_BUSY, "while a forked child lives") && fine;
    end_child(child);
    fine = answers(try_to_open(arguments), NPHD_OK, "after the child") && fine;
    child = waiting_child(arguments, true);
    fine = answers(try_to_open(arguments), NPHD_BUSY, "while another process writes") && fine;
    end_child(child);
    fine = answers(try_to_open(arguments), NPHD_OK, "after that one was killed") && fine;
    if (fine) {
        (void)printf("7 attempts to write twice, each answered as it must be\n");
    }
    return fine ? 0 : 1;
}
