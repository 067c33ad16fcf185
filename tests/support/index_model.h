/* An index as an array: what the library must answer, found by looking at everything and sorting.
 *
 *     index_model model;
 *     index_model_init(&model, &options);
 *     index_model_add(&model, key, vector);         // and the same with the index
 *     assert_true(index_model_matches(&model, index, &random));
 *     index_model_free(&model);
 *
 * What differs is told on stderr, unless `quiet`. */
#ifndef INDEX_MODEL_H
#define INDEX_MODEL_H

#include "test_random.h"

#include <nphd/nphd.h>

typedef struct model_item {
    nphd_key key;
    uint32_t bytes;
    uint8_t data[NPHD_MAX_BYTES];
} model_item;

typedef struct index_model {
    nphd_metric metric;
    uint32_t max_bytes;
    uint32_t key_bits;
    bool multi;
    bool view; /* what the index must say of itself */
    bool quiet;
    bool loose; /* slots and counters are not compared: threads or faults decide them */
    model_item *items;
    size_t count;
    size_t room;
    uint64_t slots; /* places in the file, free ones included */
    uint64_t dirty;
    uint64_t next_automatic;
} index_model;

void index_model_init(index_model *model, const nphd_index_options *options);
void index_model_free(index_model *model);

/* `to` is overwritten; free it afterwards. */
void index_model_copy(index_model *to, const index_model *from);

/* ---- changes; the model takes what an index would take ---- */

bool index_model_has(const index_model *model, nphd_key key);
size_t index_model_count(const index_model *model, nphd_key key);

/* Returns how many were stored. keys NULL: automatic ones, told in out_keys. */
size_t index_model_add_many(index_model *model, const nphd_key *keys, const nphd_vector *vectors,
                            size_t count, nphd_key *out_keys);
nphd_upsert_counts index_model_upsert(index_model *model, const nphd_key *keys,
                                      const nphd_vector *vectors, size_t count);
size_t index_model_remove(index_model *model, const nphd_key *keys, size_t count);
nphd_status index_model_rename(index_model *model, nphd_key from, nphd_key to);
void index_model_clear(index_model *model);
void index_model_reset(index_model *model);

/* ---- comparing ---- */

/* Lookups, cursor, stats and searches all agree. */
bool index_model_matches(const index_model *model, nphd_index *index, test_random *random);

/* A cheaper look: size, counters, one key and one search. */
bool index_model_glances(const index_model *model, nphd_index *index, test_random *random);

/* ---- random values ---- */

/* A vector that suits the model, into `room` (NPHD_MAX_BYTES); near the stored ones, mostly. */
nphd_vector index_model_vector(const index_model *model, test_random *random, uint8_t *room);

/* A key from a small range or one of the extreme ones; valid. */
nphd_key index_model_key(const index_model *model, test_random *random, uint64_t range);

#endif
