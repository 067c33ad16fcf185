/* What a sharded index must answer, from the array of an index_model: however its vectors are
 * spread over shards, it is the same.
 *
 *     index_model model;                               // single or multi, as the index
 *     sharded_model_upsert(&model, key, vector);       // and the same with the index
 *     assert_true(sharded_model_matches(&model, keys, key_count, sharded, &random));
 *
 * model.view is true for an index opened read_only. What differs is told on stderr, unless
 * model.quiet. */
#ifndef SHARDED_MODEL_H
#define SHARDED_MODEL_H

#include "index_model.h"

/* Stores or replaces one vector. Other than in one index an equal vector is replaced too. Returns
 * true when the key was there. */
bool sharded_model_upsert(index_model *model, nphd_key key, nphd_vector vector);

/* The next `count` automatic keys; the counter goes on. */
void sharded_model_automatic_keys(index_model *model, size_t count, nphd_key *out);

/* Looks at everything: counters, stats and the list of shards; each of `keys` by every lookup; the
 * cursor; exact searches in several ways, and one of the graph. `keys` are those ever used. */
bool sharded_model_matches(const index_model *model, const nphd_key *keys, size_t key_count,
                           nphd_sharded *sharded, test_random *random);

#endif
