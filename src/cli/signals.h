/* Signals that end the program: it stops what it is doing, tidies up, and says so.
 *
 * The first SIGINT, SIGTERM or SIGHUP is noted, and long calls are cancelled by their progress
 * callback; another one kills the program at once. Ignored ones, as nohup(1) leaves SIGHUP, stay
 * ignored. A reader that went away (SIGPIPE) is an error of write(). */
#ifndef NPHD_CLI_SIGNALS_H
#define NPHD_CLI_SIGNALS_H

#include "message.h"
#include <stdbool.h>
#include <stdint.h>

void cli_signals_begin(void);

/* Has a signal come that ends the program? */
bool cli_interrupted(void);

/* The exit status of the program: that of `result`, or for CLI_INTERRUPTED, after a word, 128 and
 * the number of the signal. */
int cli_signals_end(cli_exit result);

/* An nphd_progress that only looks for signals; the context is not used. */
int cli_signals_step(void *context, uint64_t done, uint64_t total);

/* From now on a signal ends the program at once, with the same word and status: for calls that
 * cannot be cancelled and make nothing that would stay. */
void cli_signals_at_once(void);

#endif
