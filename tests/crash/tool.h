/* The program that the crash tests kill: what its parts share. */
#ifndef CRASH_TOOL_H
#define CRASH_TOOL_H

#include "tool_history.h"

typedef struct tool_arguments {
    const char *directory;
    const char *history;
    uint64_t seed;
    uint32_t threads;
    uint32_t steps;  /* 0: the fixed script, once */
    uint32_t cycles; /* states to go through, at the least */
    uint32_t kills;  /* of the writer, at the least */
    uint32_t readers;
    uint64_t shard_bytes;
    uint64_t file_limit; /* bytes of a file; 0: none */
    const char *heal;    /* a command that ends the fault */
    const char *broken;  /* a command that begins one, in the middle of the script */
    uint32_t broken_at;  /* before which step of it */
    bool unhealable;     /* the fault may stay for this process */
    bool read_only;      /* check: the writer cannot open it */
    bool journal;
    bool each_call;
    bool background;
    bool settle;
} tool_arguments;

/* Options for small shards. */
nphd_sharded_options tool_options(const tool_arguments *arguments);

/* Everything that is in an index: what the cursor meets. false: a vector that was never put. */
bool tool_state_of(nphd_sharded *sharded, tool_state *out);
/* Do lookups and searches tell the same? */
bool tool_lookups_agree(nphd_sharded *sharded, const tool_state *state);

/* The commands; each returns the exit status. */
int tool_work(const tool_arguments *arguments);    /* the workload, in one or several threads */
int tool_check(const tool_arguments *arguments);   /* the index against the history */
int tool_look(const tool_arguments *arguments);    /* reading where the device fails */
int tool_recover(const tool_arguments *arguments); /* open and close */
int tool_readers(const tool_arguments *arguments); /* readers beside a writer that is killed */
int tool_locks(const tool_arguments *arguments);   /* one writer at a time */

#endif
