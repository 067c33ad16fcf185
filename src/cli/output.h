/* What the program prints on standard output. */
#ifndef NPHD_CLI_OUTPUT_H
#define NPHD_CLI_OUTPUT_H

#include "labels.h"
#include "message.h"
#include <nphd/index_search.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum cli_layout { CLI_LAYOUT_TABLE, CLI_LAYOUT_TSV, CLI_LAYOUT_JSONL } cli_layout;

typedef struct cli_printer {
    cli_layout layout;
    uint32_t key_bits;
    nphd_metric metric;
    const cli_labels *labels; /* shown in the table; may be empty */
    uint64_t printed;         /* answers so far */
    bool variants;            /* queries have several; say which one a match is nearest to */
    bool more;                /* say whether there are more matches within the radius */
    bool explain;             /* say how it was searched and what that took; not with tabs */
} cli_printer;

/* "auto", "scan", "tables", "graph" or "mixed". */
const char *cli_plan_name(nphd_search_plan plan);

/* That query number `query` could not be read; in JSON alone, which has an object for each. */
void cli_print_unanswered(const cli_printer *printer, uint64_t query, const char *why);

/* The answers to query number `query`, from 0. For the table: `source` names the query ("": nothing
 * does), `read` says how it was read. */
void cli_print_answer(const cli_printer *printer, uint64_t query, const char *source,
                      const char *read, const nphd_match *matches,
                      const nphd_search_report *report);

/* Lower-case hex digits. */
void cli_print_hex(const uint8_t *bytes, size_t count);

/* A key as JSON: 64 bits a number where it fits a signed one, else a string of digits; 128 bits a
 * string of 32 hex digits. */
void cli_print_json_key(nphd_key key, uint32_t key_bits);

/* Has a write to standard output failed so far? Long outputs ask now and then, to stop early. */
bool cli_output_broken(void);

/* Hands out what is printed so far. False when that fails; cli_output_finish() says why. */
bool cli_output_flush(void);

/* Flushes and closes standard output. Returns `result`, or CLI_SYSTEM after a complaint when any
 * write to it failed. */
cli_exit cli_output_finish(cli_exit result);

#endif
