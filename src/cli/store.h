/* The index that a command works on: one file, or a directory of shards. The path tells which: a
 * name that ends in ".usearch" is a file, any other a directory.
 *
 * Calls that return a cli_exit have complained when it is not CLI_SUCCESS. */
#ifndef NPHD_CLI_STORE_H
#define NPHD_CLI_STORE_H

#include "message.h"
#include "parse.h"
#include <nphd/nphd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What fits into an index. */
typedef struct cli_shape {
    uint32_t key_bits;
    nphd_metric metric;
    size_t max_bytes; /* of a vector */
    bool multi;
    nphd_unit unit; /* the type of its codes */
} cli_shape;

typedef enum cli_access {
    CLI_READ,   /* mapped; a directory may have a writer beside it */
    CLI_CHANGE, /* there must be an index already */
    CLI_CREATE  /* or else a new one begins */
} cli_access;

/* What the command line asks for. All zero: what the index says, or the defaults. */
typedef struct cli_store_options {
    uint32_t max_bits; /* of a new index; another must agree. So down to `multi`. */
    uint32_t key_bits;
    nphd_metric metric;
    uint32_t connectivity;
    bool multi;
    uint32_t build_breadth;
    bool legacy_nphd; /* of files alone */
    bool salvage;     /* of directories alone, and the rest too */
    bool reference;   /* saved last */
    bool background;
    bool no_bloom;
    uint64_t shard_bytes;
    bool journal;
    bool tables;      /* full shards are written with hash tables */
    uint32_t threads; /* that replay the journal; 0: 1 */
} cli_store_options;

typedef struct cli_store {
    const char *path;
    nphd_lock *lock;       /* of a file that is changed, or NULL */
    nphd_index *index;     /* a file, or NULL */
    nphd_sharded *sharded; /* a directory, or NULL */
    cli_shape shape;
    bool is_new;    /* there is nothing on disk yet */
    bool journal;   /* of a directory: changes go to the journal, and no save follows */
    bool must_save; /* of a file: even without a change */
} cli_store;

/* Is it the name of a file? Else it names a directory. */
bool cli_store_names_file(const char *path);

/* A usage error when an option is not for what the path names; cli_store_open() asks too. */
cli_exit cli_store_check_options(const char *path, const cli_store_options *options);

/* Complains when there is no directory with a shard in it. */
cli_exit cli_store_find_directory(const char *path);

/* Locks a file that is going to be changed, until cli_store_close(): waits for other programs, and
 * says so. Where nothing can be locked the command goes on, with a word (store_lock.c). */
cli_exit cli_store_lock(cli_store *store);

/* The path is kept, not copied. A file that will be changed is locked. cli_store_close() follows
 * either way. */
cli_exit cli_store_open(cli_store *store, const char *path, cli_access access,
                        const cli_store_options *options);

/* Takes a zeroed store. What was neither saved nor committed is lost, but for the shards that
 * filled up. */
void cli_store_close(cli_store *store);

/* With a journal: makes the changes so far durable, at a cost proportional to them. Without one
 * nothing happens: the save at the end does it. */
cli_exit cli_store_commit(cli_store *store);

/* Of a file: would a save write it? */
bool cli_store_must_save(const cli_store *store);

/* Makes all changes durable, with a progress bar; with a journal that is a commit. A file without
 * changes stays as it is. */
cli_exit cli_store_save(cli_store *store);

/* Of a file: makes the hash tables that the next save writes. Of few vectors there are none;
 * whether there are any then is told in *out_made (may be NULL). */
cli_exit cli_store_prepare(cli_store *store, uint32_t threads, bool *out_made);

/* Notes that codes of this type are added; false, with a problem, when the index has others and
 * `mix` is not set. */
bool cli_store_set_unit(cli_store *store, nphd_unit unit, bool mix, cli_problem *problem);

uint64_t cli_store_size(const cli_store *store);

/* keys NULL: automatic keys. */
cli_exit cli_store_add(cli_store *store, const nphd_key *keys, const nphd_vector *vectors,
                       size_t count, const nphd_batch_options *options, size_t *out_added);
cli_exit cli_store_upsert(cli_store *store, const nphd_key *keys, const nphd_vector *vectors,
                          size_t count, const nphd_batch_options *options,
                          nphd_upsert_counts *out_counts);
cli_exit cli_store_remove(cli_store *store, const nphd_key *keys, size_t count,
                          size_t *out_removed);

cli_exit cli_store_contains(const cli_store *store, nphd_key key, bool *out);
cli_exit cli_store_count(const cli_store *store, nphd_key key, size_t *out);
cli_exit cli_store_get_all(const cli_store *store, nphd_key key, uint8_t *out, size_t *out_bytes,
                           size_t capacity, size_t *out_count);
cli_exit cli_store_search(const cli_store *store, const nphd_vector *queries, size_t query_count,
                          size_t capacity, const nphd_search_options *options, nphd_match *out,
                          nphd_search_report *reports);

typedef struct cli_store_cursor {
    nphd_cursor of_index;
    nphd_sharded_cursor of_sharded;
} cli_store_cursor;

cli_store_cursor cli_store_cursor_begin(const cli_store *store);

/* *out_end true: there was no vector left. */
cli_exit cli_store_cursor_next(cli_store_cursor *cursor, nphd_key *out_key, uint8_t *out,
                               size_t *out_bytes, bool *out_end);

#endif
