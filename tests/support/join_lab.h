/* What tests of joins share: sides of every kind with random content, and what a join of two of
 * them must hand over, found by comparing each vector with each. */
#ifndef JOIN_LAB_H
#define JOIN_LAB_H

#include "support/allocator_fault.h"
#include "support/io_memory.h"
#include "support/test_random.h"

#include <nphd/nphd.h>

typedef enum joinlab_kind {
    JOINLAB_INDEX,
    JOINLAB_VIEW,
    JOINLAB_SHARDED,
    JOINLAB_READER, /* a sharded index opened read_only */
    JOINLAB_KINDS
} joinlab_kind;

/* Content of a side. */
typedef struct joinlab_plan {
    joinlab_kind kind;
    nphd_metric metric;
    uint32_t max_bytes;
    uint32_t key_bits;
    bool multi;
    size_t vectors;      /* added; some may be removed or replaced again */
    uint64_t keys;       /* that they are taken from */
    uint32_t equal;      /* percent of vectors that are equal to one before */
    uint32_t near;       /* percent that are near to one before */
    bool only_additions; /* each key once, in ascending order, and nothing removed or replaced */
} joinlab_plan;

typedef struct joinlab_side {
    nphd_join_side side;
    memory_io *disk;
    uint8_t *buffer; /* of a view */
} joinlab_side;

/* allocator NULL: malloc. To be closed. */
void joinlab_make(const joinlab_plan *plan, const nphd_allocator *allocator, test_random *random,
                  joinlab_side *out);
void joinlab_close(joinlab_side *side);

/* Pairs in a row; zero-initialise. */
typedef struct joinlab_pairs {
    nphd_pair *pairs;
    size_t count;
    size_t room;
    size_t calls;    /* of the sink */
    size_t end_call; /* the sink ends the join in this call; 0: never */
} joinlab_pairs;

void joinlab_pairs_free(joinlab_pairs *pairs);

/* An nphd_pair_sink; the context is a joinlab_pairs. */
int joinlab_take(void *context, const nphd_pair *pairs, size_t count);

/* What a join must give, in its order. right NULL: a self-join. */
void joinlab_expect(const nphd_join_side *left, const nphd_join_side *right, float radius,
                    joinlab_pairs *out);

/* Asserts that `got` has the first pairs of `expected`, or all of them. */
void joinlab_compare(const joinlab_pairs *got, const joinlab_pairs *expected, bool whole);

#endif
