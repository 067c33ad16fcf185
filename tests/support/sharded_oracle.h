/* What a sharded index must hold, and what its files may hold when the power goes.
 *
 * The oracle keeps a log of every change of a key. A moment is a number of changes: moment 0 is
 * the empty index, `now` the index in memory. Of each moment it knows a sum over all keys and
 * vectors, so that the content of any directory can be told to be a moment, as a whole, or none.
 *
 *     legal moments = those acknowledged last, and those of every attempt to write since
 *
 * A call announces its changes before it is made, for whoever looks at the disk meanwhile, and
 * settles how many of them happened when it has returned.
 *
 * A world is a sharded index with its oracle, and steps that call every function that writes. A
 * step may fail and leaves the oracle right then too. Vectors follow from key and version. */
#ifndef SHARDED_ORACLE_H
#define SHARDED_ORACLE_H

#include "test_random.h"

#include <nphd/nphd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ORACLE_KEYS 400
#define ORACLE_NONE SIZE_MAX

typedef struct oracle_change {
    uint32_t key;
    uint32_t before; /* version of the key before; 0: it was absent */
    uint32_t after;
    uint64_t sum; /* over all keys after this change */
    uint32_t live;
} oracle_change;

/* from > to: no moment. */
typedef struct oracle_range {
    size_t from;
    size_t to;
    bool rotation; /* else a save */
} oracle_range;

#define ORACLE_RANGES 256

typedef struct sharded_oracle {
    uint32_t key_bits;
    uint32_t versions[ORACLE_KEYS]; /* as announced */
    uint32_t last_version;
    oracle_change *changes;
    size_t announced;
    size_t now;
    size_t room;
    oracle_range legal[ORACLE_RANGES];
    size_t legal_count;
    oracle_range flight; /* what the call under way may write */
    bool quiet;          /* print nothing about what does not match */
} sharded_oracle;

void sharded_oracle_init(sharded_oracle *oracle, uint32_t key_bits);
void sharded_oracle_free(sharded_oracle *oracle);
/* What one knows who finds a directory at `moment`, which is all that it may hold. To be freed. */
void sharded_oracle_branch(const sharded_oracle *from, size_t moment, sharded_oracle *out);

nphd_key sharded_oracle_key(const sharded_oracle *oracle, uint32_t key);
nphd_vector sharded_oracle_vector(uint32_t key, uint32_t version, uint8_t out[8]);
bool sharded_oracle_has(const sharded_oracle *oracle, uint32_t key);
uint32_t sharded_oracle_live(const sharded_oracle *oracle); /* keys that are there now */

/* Announce the next change; its version is new. */
uint32_t sharded_oracle_put(sharded_oracle *oracle, uint32_t key);
void sharded_oracle_remove(sharded_oracle *oracle, uint32_t key); /* which is there */

/* The call has returned: the first `done` of the announced changes happened. */
void sharded_oracle_settle(sharded_oracle *oracle, size_t done);

/* One more thing that the files may hold from now on, or (`only`) all that they may hold. */
void sharded_oracle_allow(sharded_oracle *oracle, oracle_range range, bool only);

/* Rotations are durable: what was written before the last of them is gone. */
void sharded_oracle_drained(sharded_oracle *oracle);

/* Rotations that wait may have been given up, or written before: no drain makes them durable. */
void sharded_oracle_forgotten(sharded_oracle *oracle);

/* May a power cut leave that no file of an index is there? */
bool sharded_oracle_may_be_absent(const sharded_oracle *oracle);

/* Is the index whole (walk, size, contains and get of every key, exact search agree), and at this
 * moment? */
bool sharded_oracle_is_at(const sharded_oracle *oracle, nphd_sharded *sharded, size_t moment);

/* The first legal moment that it is at; ORACLE_NONE: at none, or it is not whole. */
size_t sharded_oracle_find(const sharded_oracle *oracle, nphd_sharded *sharded);

/* ---- a world ---- */

#define WORLD_PATH "dir"

typedef struct sharded_world {
    test_random random;
    sharded_oracle oracle;
    nphd_sharded_options options;
    nphd_sharded *sharded; /* NULL: not open */
    uint32_t next_key;     /* for adds of new ones, going round */
    nphd_error err;        /* of the last call */
} sharded_world;

/* Answers the status of its call. The index is open, but for the steps that open it. */
typedef nphd_status (*world_call)(sharded_world *here);

typedef struct world_step {
    const char *name;
    world_call call;
    bool drawn; /* may come at any place of a random workload */
} world_step;

void sharded_world_init(sharded_world *here, uint64_t seed, const nphd_io *io,
                        const nphd_allocator *allocator);
void sharded_world_free(sharded_world *here);

nphd_status world_open(sharded_world *here);
nphd_status world_save(sharded_world *here);
nphd_status world_close(sharded_world *here);
nphd_status world_add_one(sharded_world *here);
nphd_status world_add_some(sharded_world *here);
nphd_status world_remove(sharded_world *here);
nphd_status world_remove_all(sharded_world *here);
nphd_status world_reset(sharded_world *here);
nphd_status world_rotate(sharded_world *here);

/* A workload of all steps in an order that makes three rotations. */
extern const world_step world_workload[];
extern const size_t world_workload_count;

#endif
