/* The matches of a batch of left vectors; see pair_buffer.h. */
#include "join/pair_buffer.h"

#include "base/error.h"
#include "base/heap_sort.h"
#include "base/memory.h"

#include <assert.h>
#include <string.h>

nphd_status nphdi_pair_buffer_create(nphdi_pair_buffer *buffer, const nphd_allocator *allocator,
                                     uint64_t most_left, uint64_t room, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    memset(buffer, 0, sizeof(*buffer));
    buffer->allocator = allocator;
    buffer->most_left = most_left;
    buffer->room = room;
    TRY(nphdi_alloc(allocator, room, sizeof(*buffer->found), &buffer->found, err));
    TRY(nphdi_alloc(allocator, 2 * most_left, sizeof(*buffer->places), &buffer->places, err));
done:
    return status;
}

void nphdi_pair_buffer_release(nphdi_pair_buffer *buffer)
{
    nphdi_free(buffer->allocator, buffer->found, buffer->room, sizeof(*buffer->found));
    nphdi_free(buffer->allocator, buffer->places, 2 * buffer->most_left, sizeof(*buffer->places));
}

void nphdi_pair_buffer_begin(nphdi_pair_buffer *buffer, bool in_pieces)
{
    buffer->count = 0;
    buffer->overflow = false;
    buffer->in_pieces = in_pieces;
    buffer->pieces = 0;
    buffer->last_count = 0;
    buffer->last_seen = 0;
}

/* The order of the matches of one left vector. */
static int found_compare(const nphdi_found *a, const nphdi_found *b)
{
    if (a->distance < b->distance || a->distance > b->distance) {
        return a->distance < b->distance ? -1 : 1;
    }
    return nphd_key_compare(a->right, b->right);
}

void nphdi_pair_buffer_next_piece(nphdi_pair_buffer *buffer)
{
    const nphdi_found last = buffer->found[buffer->count - 1];
    uint64_t equal = 0;

    assert(buffer->in_pieces && buffer->count > 0);
    while (equal < buffer->count &&
           found_compare(&buffer->found[buffer->count - 1 - equal], &last) == 0) {
        equal++;
    }
    if (buffer->pieces > 0 && found_compare(&buffer->last, &last) == 0) {
        equal += buffer->last_count;
    }
    buffer->last = last;
    buffer->last_count = equal;
    buffer->last_seen = 0;
    buffer->pieces++;
    buffer->count = 0;
    buffer->overflow = false;
}

/* ---- a heap, the farthest match first ---- */

static bool found_less(const void *found, uint64_t a, uint64_t b)
{
    const nphdi_found *at = found;

    return found_compare(&at[a], &at[b]) < 0;
}

static void swap_found(nphdi_found *a, nphdi_found *b)
{
    const nphdi_found was = *a;

    *a = *b;
    *b = was;
}

static void found_swap(void *found, uint64_t a, uint64_t b)
{
    nphdi_found *at = found;

    swap_found(&at[a], &at[b]);
}

/* ---- taking matches ---- */

/* Was it in one of the pieces before? */
static bool was_given(nphdi_pair_buffer *buffer, const nphdi_found *found)
{
    if (buffer->pieces == 0) {
        return false;
    }
    const int order = found_compare(found, &buffer->last);
    if (order == 0 && buffer->last_seen < buffer->last_count) {
        buffer->last_seen++;
        return true;
    }
    return order < 0;
}

bool nphdi_pair_buffer_put(nphdi_pair_buffer *buffer, const nphdi_found *found)
{
    if (buffer->in_pieces && was_given(buffer, found)) {
        return true;
    }
    if (buffer->count < buffer->room) {
        buffer->found[buffer->count++] = *found;
        return true;
    }
    if (!buffer->in_pieces) {
        buffer->overflow = true;
        return false;
    }
    if (!buffer->overflow) {
        nphdi_heap_make(buffer->found, buffer->count, found_less, found_swap);
        buffer->overflow = true;
    }
    if (found_compare(found, &buffer->found[0]) < 0) {
        buffer->found[0] = *found;
        nphdi_heap_sink(buffer->found, buffer->count, 0, found_less, found_swap);
    }
    return true;
}

/* ---- sorting ---- */

/* Groups the matches by left vector, in place: each goes to the next free place of its group, and
 * the one that stood there takes its turn (American flag sort). `places` has the next free place
 * of each group, and then their ends. */
static void group_by_left(nphdi_pair_buffer *buffer, uint32_t left_count)
{
    uint32_t *next = buffer->places;
    uint32_t *end = buffer->places + buffer->most_left;
    uint32_t total = 0;

    memset(end, 0, left_count * sizeof(*end));
    for (uint64_t i = 0; i < buffer->count; i++) {
        end[buffer->found[i].left]++;
    }
    for (uint32_t left = 0; left < left_count; left++) {
        next[left] = total;
        total += end[left];
        end[left] = total;
    }
    for (uint32_t left = 0; left < left_count; left++) {
        while (next[left] < end[left]) {
            nphdi_found *here = &buffer->found[next[left]];
            nphdi_found *there = &buffer->found[next[here->left]++];
            swap_found(here, there);
        }
    }
}

void nphdi_pair_buffer_sort(nphdi_pair_buffer *buffer, uint32_t left_count)
{
    uint64_t first = 0;

    assert(left_count <= buffer->most_left);
    group_by_left(buffer, left_count);
    for (uint32_t left = 0; left < left_count; left++) {
        const uint64_t end = buffer->places[buffer->most_left + left];
        nphdi_heap_sort(buffer->found + first, end - first, found_less, found_swap);
        first = end;
    }
}
