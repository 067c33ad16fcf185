/* What tests of a directory of shards share: a model disk whose calls can fail, what the index
 * says in its log, the vectors that must be in it, and a second reader of the files that follows
 * the rules of the reference and knows nothing of our trailers. */
#ifndef DIRECTORY_LAB_H
#define DIRECTORY_LAB_H

#include "support/allocator_fault.h"
#include "support/io_fault.h"
#include "support/io_memory.h"
#include "support/test_random.h"

#include <nphd/nphd.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define DIRLAB_FOLDER "d"
#define DIRLAB_TEST(name) cmocka_unit_test_setup_teardown(name, dirlab_begin, dirlab_end)

typedef struct dirlab_item {
    nphd_key key;
    size_t bytes;
    uint8_t data[NPHD_MAX_BYTES];
} dirlab_item;

/* What must be found; zero-initialise. */
typedef struct dirlab_items {
    dirlab_item *items;
    size_t count;
    size_t room;
} dirlab_items;

typedef struct dirlab {
    memory_io *disk;
    io_fault fault;
    allocator_fault allocator;
    test_random random;
    dirlab_items items;
    pthread_mutex_t log_lock;
    char log[16384];    /* warnings and errors, a line each */
    char damage[16384]; /* what salvage told */
} dirlab;

int dirlab_begin(void **state);
int dirlab_end(void **state); /* nothing may be open or allocated any more */

/* Options with the tables and logs of the lab, else all zero. */
nphd_sharded_options dirlab_options(dirlab *lab);
/* The same for a new index of narrow vectors and small shards. */
nphd_sharded_options dirlab_small(dirlab *lab);
/* And the same that commits by a journal. */
nphd_sharded_options dirlab_with_journal(dirlab *lab);
nphd_sharded *dirlab_open(dirlab *lab, const nphd_sharded_options *options);
/* Opening must fail so, with both words in the text (NULL: any). */
void dirlab_refused(dirlab *lab, const nphd_sharded_options *options, nphd_status expected,
                    const char *first, const char *second);
void dirlab_close(nphd_sharded *sharded); /* saves */
void dirlab_forget_log(dirlab *lab);

/* ---- expected content ---- */

void dirlab_items_free(dirlab_items *items);
dirlab_item *dirlab_find(const dirlab_items *items, nphd_key key); /* NULL: none */
void dirlab_set(dirlab_items *items, nphd_key key, nphd_vector vector);
void dirlab_drop(dirlab_items *items, nphd_key key);

/* Vectors of 8 bytes that follow from key and version. */
nphd_vector dirlab_vector(uint64_t key, uint8_t version, uint8_t out[8]);

/* The same to an index and to what is expected of it. */
void dirlab_add(dirlab *lab, nphd_sharded *sharded, uint64_t from, uint64_t to);
void dirlab_upsert(dirlab *lab, nphd_sharded *sharded, uint64_t key, uint8_t version);
void dirlab_remove(dirlab *lab, nphd_sharded *sharded, uint64_t key);

/* The index has exactly these vectors: by cursor, by key and by search. */
void dirlab_expect(dirlab *lab, nphd_sharded *sharded);
bool dirlab_has(nphd_sharded *sharded, uint64_t key);
nphd_sharded_stats dirlab_stats(nphd_sharded *sharded);
/* Waits until the thread that commits has committed every change; a minute is enough for any
 * machine. */
void dirlab_wait_for_commit(nphd_sharded *sharded);

/* ---- files ---- */

/* `name` within the folder of the index, in static memory. */
const char *dirlab_path(const char *name);
void dirlab_put(dirlab *lab, const char *name, const void *data, size_t bytes);
bool dirlab_exists(dirlab *lab, const char *name);
/* `to` gets the content of `from`. */
void dirlab_copy(dirlab *lab, const char *from, const char *to);
void dirlab_delete(dirlab *lab, const char *name);
/* As release 0.1 leaves it: nothing says which files must be there. */
void dirlab_forget_head(dirlab *lab);
/* The bytes of a file without our trailer, which is all that the reference looks at; to be freed.
 * NULL: it is not there. */
uint8_t *dirlab_take_foreign(const dirlab *lab, const char *name, size_t *out_bytes);
/* Turns one byte over; from the end when `at` is negative. */
void dirlab_damage(dirlab *lab, const char *name, long at);
/* Cuts the last `bytes` bytes off. */
void dirlab_cut(dirlab *lab, const char *name, size_t bytes);

/* A file of the reference as a shard, and its content to what is expected: newer than before. */
void dirlab_put_fixture(dirlab *lab, const char *fixture, const char *name);
/* A shard without trailer with vectors of keys from..to-1, likewise. `options` NULL: width 64. */
void dirlab_put_shard(dirlab *lab, const char *name, const nphd_index_options *options,
                      uint64_t from, uint64_t to, uint8_t version);
/* As the reference writes them. */
void dirlab_put_tombstones(dirlab *lab, uint32_t key_bytes, const nphd_key *keys, uint64_t count);
void dirlab_put_bloom(dirlab *lab, uint32_t key_bytes);

/* The directory as the reference would open it has exactly the expected vectors, its filter knows
 * them, and where it must look for copies it is told so. */
void dirlab_expect_reference(dirlab *lab);

#endif
