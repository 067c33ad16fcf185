#include "signals.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define STATUS_OF_SIGNALS 128

/* After a signal, a call that waits is disturbed again and again: the first time may have come just
 * before it began to wait. */
#define DISTURB_SECONDS 1

static atomic_int signals_got = 0; /* the number of the first one; lock-free */
static atomic_bool signals_at_once = false;
static char signals_word[64];

static void signals_die(int number)
{
    if (write(STDERR_FILENO, signals_word, strlen(signals_word)) < 0) {
        /* nobody hears it */
    }
    _exit(STATUS_OF_SIGNALS + number);
}

static void signals_note(int number)
{
    int none = 0;

    if (atomic_load(&signals_at_once)) {
        signals_die(number);
    }
    if (atomic_compare_exchange_strong(&signals_got, &none, number)) {
        (void)alarm(DISTURB_SECONDS);
    } else {
        (void)signal(number, SIG_DFL);
        (void)raise(number); /* it kills once this returns */
    }
}

static void signals_disturb(int number)
{
    (void)number;
    (void)alarm(DISTURB_SECONDS);
}

/* Without SA_RESTART, so that whoever waits notices. */
static void signals_handle(int number, void (*handler)(int number))
{
    struct sigaction action;
    struct sigaction old;

    memset(&action, 0, sizeof(action));
    action.sa_handler = handler;
    (void)sigemptyset(&action.sa_mask);
    if (sigaction(number, NULL, &old) == 0 && old.sa_handler != SIG_IGN) {
        (void)sigaction(number, &action, NULL);
    }
}

void cli_signals_begin(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
    signals_handle(SIGALRM, signals_disturb);
    signals_handle(SIGINT, signals_note);
    signals_handle(SIGTERM, signals_note);
    signals_handle(SIGHUP, signals_note);
}

bool cli_interrupted(void)
{
    return atomic_load(&signals_got) != 0;
}

int cli_signals_end(cli_exit result)
{
    if (result == CLI_INTERRUPTED) {
        cli_complain("interrupted");
        return STATUS_OF_SIGNALS + atomic_load(&signals_got);
    }
    return (int)result;
}

int cli_signals_step(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    (void)done;
    (void)total;
    return cli_interrupted() ? 1 : 0;
}

void cli_signals_at_once(void)
{
    const char *name = cli_message_name();

    (void)snprintf(signals_word, sizeof(signals_word), "nphd%s%s: interrupted\n",
                   name != NULL ? " " : "", name != NULL ? name : "");
    atomic_store(&signals_at_once, true);
    if (cli_interrupted()) {
        signals_die(atomic_load(&signals_got));
    }
}
