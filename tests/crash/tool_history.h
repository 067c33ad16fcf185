/* What a crashed process had promised, kept outside of the index: an append-only file for each
 * thread of the workload. Every change is written there before the call that makes it, and every
 * acknowledgement after the call that gave it, so that a process killed at any moment leaves a
 * history from which the states that the index may have follow:
 *
 *     + key version    a vector is put; with it the state before the next change
 *     - key            a key is removed, together with those until the next `=`
 *     =                the state here is one that may be found
 *     A                likewise, and it is durable: no state before it may be found
 *     R count          the last changes did not happen
 *
 * Each thread has keys of its own. A vector follows from key and version, and tells both. */
#ifndef TOOL_HISTORY_H
#define TOOL_HISTORY_H

#include <nphd/nphd.h>
#include <stdbool.h>
#include <stdint.h>

#define TOOL_KEYS 600 /* of each thread */
#define TOOL_THREADS 4
#define TOOL_ALL_KEYS (TOOL_KEYS * TOOL_THREADS)

/* The version of each key that is there; 0: it is absent. */
typedef struct tool_state {
    uint32_t versions[TOOL_ALL_KEYS];
    uint32_t last_version;
} tool_state;

/* 4 to 8 bytes, of which the first four are another for each key and version. */
nphd_vector tool_vector(uint32_t key, uint32_t version, uint8_t out[8]);
/* 0: no version of this key has such a vector. */
uint32_t tool_version(uint32_t key, const uint8_t *data, size_t bytes);

/* Ends the program when the file cannot be opened or written. */
int tool_history_open(const char *path, uint32_t thread);
void tool_history_put(int history, uint32_t key, uint32_t version);
void tool_history_remove(int history, uint32_t key);
void tool_history_mark(int history, char mark);
void tool_history_undo(int history, uint32_t count);

/* The state at the end of all histories. */
void tool_history_read(const char *path, tool_state *out);
/* Does every thread's part of `found` occur in its history, not before what was acknowledged last?
 * Says on stderr where not. */
bool tool_history_allows(const char *path, const tool_state *found);
/* Begins anew with an acknowledged state. */
void tool_history_settle(const char *path, const tool_state *found);

#endif
