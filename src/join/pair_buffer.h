/* The matches of a batch of left vectors in bounded memory, put into the order in which a join
 * hands them out: by left vector, then distance, then right key.
 *
 * A buffer takes all matches of a batch, or overflows, and the batch must be cut. Those of one left
 * vector alone may be more than any buffer holds; they are taken piece by piece, with a lookup for
 * each piece: the buffer keeps the first of those that follow the piece before. Matches that are
 * equal in distance and key cannot be told apart, so that it is enough to know how many of the last
 * ones were in the pieces before. */
#ifndef NPHDI_PAIR_BUFFER_H
#define NPHDI_PAIR_BUFFER_H

#include <nphd/allocator.h>
#include <nphd/status.h>
#include <nphd/vector.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct nphdi_found {
    nphd_key right;
    float distance;
    uint32_t left; /* number in the batch */
} nphdi_found;

typedef struct nphdi_pair_buffer {
    const nphd_allocator *allocator;
    nphdi_found *found;
    uint64_t count;
    uint64_t room;
    uint32_t *places; /* two for each left vector; for sorting */
    uint64_t most_left;
    bool overflow;  /* there were matches without room */
    bool in_pieces; /* ... which the next piece takes */
    uint64_t pieces;
    nphdi_found last;    /* of the pieces before, if there are any */
    uint64_t last_count; /* matches equal to it in them */
    uint64_t last_seen;  /* and met again for this piece */
} nphdi_pair_buffer;

/* Room for `room` matches of `most_left` vectors, each 1 or more. To be released either way. */
nphd_status nphdi_pair_buffer_create(nphdi_pair_buffer *buffer, const nphd_allocator *allocator,
                                     uint64_t most_left, uint64_t room, nphd_error *err);
/* Takes a zeroed buffer. */
void nphdi_pair_buffer_release(nphdi_pair_buffer *buffer);

/* Empties the buffer, for a batch or the first piece of one vector. */
void nphdi_pair_buffer_begin(nphdi_pair_buffer *buffer, bool in_pieces);
/* Empties a sorted buffer for the piece after it. */
void nphdi_pair_buffer_next_piece(nphdi_pair_buffer *buffer);

/* Returns false when no other match can be taken, the batch being too large. */
bool nphdi_pair_buffer_put(nphdi_pair_buffer *buffer, const nphdi_found *found);

/* Matches of left vectors 0..left_count-1 into their order. */
void nphdi_pair_buffer_sort(nphdi_pair_buffer *buffer, uint32_t left_count);

#endif
