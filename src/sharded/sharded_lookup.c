/* Lookups by key, and going through a sharded index. Sealed shards do not change while the
 * state_lock is held, so that no lock of theirs is needed. */
#include "base/error.h"
#include "sharded/sharded_internal.h"

#include <assert.h>

nphd_status nphd_sharded_contains(nphd_sharded *sharded, nphd_key key, bool *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_shard *shard;
    uint32_t slot;

    nphdi_error_clear(err);
    *out = false;
    TRY(nphdi_look_begin(sharded, err));
    if (nphdi_sharded_maybe(sharded, key)) {
        if (nphdi_index_slots(sharded->active) > 0) {
            status = nphd_index_contains(sharded->active, key, out, err);
        }
        if (status == NPHD_OK && !*out) {
            status = nphdi_sealed_find(sharded, key, &shard, &slot, err);
            *out = status == NPHD_OK && shard != NULL;
        }
    }
    nphdi_look_end(sharded);
done:
    return status;
}

/* Up to NPHDI_BLOOM_MANY keys; the caller holds state_lock. */
static nphd_status contains_some(nphd_sharded *sharded, const nphd_key *keys, size_t count,
                                 bool *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_key asked[NPHDI_BLOOM_MANY];
    bool found[NPHDI_BLOOM_MANY];
    size_t asked_count = 0;
    size_t next = 0;

    if (sharded->bloom != NULL) {
        nphdi_bloom_maybe_many(sharded->bloom, keys, count, out);
    }
    for (size_t i = 0; i < count; i++) {
        out[i] = sharded->bloom == NULL || out[i];
        if (out[i]) {
            asked[asked_count++] = keys[i];
        }
    }
    TRY(nphd_index_contains_many(sharded->active, asked, asked_count, found, err));
    for (size_t i = 0; i < count; i++) {
        nphdi_shard *shard = NULL;
        uint32_t slot;
        if (!out[i]) {
            continue;
        }
        out[i] = found[next++];
        if (!out[i]) {
            TRY(nphdi_sealed_find(sharded, keys[i], &shard, &slot, err));
            out[i] = shard != NULL;
        }
    }
done:
    return status;
}

nphd_status nphd_sharded_contains_many(nphd_sharded *sharded, const nphd_key *keys, size_t count,
                                       bool *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    nphdi_error_clear(err);
    TRY(nphdi_look_begin(sharded, err));
    for (size_t i = 0; status == NPHD_OK && i < count; i += NPHDI_BLOOM_MANY) {
        const size_t part = count - i < NPHDI_BLOOM_MANY ? count - i : NPHDI_BLOOM_MANY;
        status = contains_some(sharded, keys + i, part, out + i, err);
    }
    nphdi_look_end(sharded);
done:
    for (size_t i = 0; status != NPHD_OK && i < count; i++) {
        out[i] = false;
    }
    return status;
}

/* All vectors of a key in a multi index: those of each shard after the other. */
static nphd_status gather_all(nphd_sharded *sharded, nphd_key key, uint8_t *out, size_t *out_bytes,
                              size_t capacity, size_t *out_count, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const size_t width = sharded->parameters.max_bits / 8;
    size_t total = 0;

    for (uint64_t i = 0; i <= sharded->sealed_count; i++) {
        nphd_index *index = i < sharded->sealed_count ? sharded->sealed[i]->index : sharded->active;
        const size_t room = total < capacity ? capacity - total : 0;
        size_t count = 0;
        if (room == 0) {
            TRY(nphd_index_count(index, key, &count, err));
        } else {
            status = nphd_index_get_all(index, key, out + total * width, out_bytes + total, room,
                                        &count, err);
            if (status != NPHD_OK && status != NPHD_TOO_SMALL) {
                goto done;
            }
        }
        total += count;
    }
    *out_count = total;
    nphdi_error_clear(err);
    status = NPHD_OK;
    if (total > capacity) {
        status = nphdi_fail(err, NPHD_TOO_SMALL, "get: the key has %zu vectors, room for %zu",
                            total, capacity);
    }
done:
    return status;
}

nphd_status nphd_sharded_count(nphd_sharded *sharded, nphd_key key, size_t *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    bool found = false;

    nphdi_error_clear(err);
    *out = 0;
    if (!sharded->parameters.multi) {
        TRY(nphd_sharded_contains(sharded, key, &found, err));
        *out = found ? 1 : 0;
        return NPHD_OK;
    }
    TRY(nphdi_look_begin(sharded, err));
    if (nphdi_sharded_maybe(sharded, key)) {
        status = gather_all(sharded, key, NULL, NULL, 0, out, err);
        if (status == NPHD_TOO_SMALL) {
            nphdi_error_clear(err);
            status = NPHD_OK;
        }
    }
    nphdi_look_end(sharded);
done:
    return status;
}

/* The caller holds state_lock. What is found may be a row of length 0, of a file of others. */
static nphd_status get_one(nphd_sharded *sharded, nphd_key key, uint8_t *out, size_t capacity,
                           size_t *out_bytes, bool *out_found, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint8_t whole[NPHD_MAX_BYTES];
    nphdi_shard *shard;
    uint32_t slot;
    nphd_error absent = NPHD_ERROR_INIT;

    *out_bytes = 0;
    *out_found = false;
    if (!nphdi_sharded_maybe(sharded, key)) {
        return NPHD_OK;
    }
    status = nphd_index_get(sharded->active, key, out, capacity, out_bytes, &absent);
    if (status != NPHD_NOT_FOUND) {
        nphdi_error_copy(err, &absent);
        *out_found = true;
        return status;
    }
    TRY(nphdi_sealed_find(sharded, key, &shard, &slot, err));
    if (shard == NULL) {
        return NPHD_OK;
    }
    *out_found = true;
    if (capacity >= sharded->parameters.max_bits / 8) {
        return nphdi_index_vector_at(shard->index, slot, out, out_bytes, err);
    }
    TRY(nphdi_index_vector_at(shard->index, slot, whole, out_bytes, err));
    if (*out_bytes > capacity) {
        return nphdi_fail(err, NPHD_TOO_SMALL, "get: the vector has %zu bytes, room for %zu",
                          *out_bytes, capacity);
    }
    for (size_t i = 0; i < *out_bytes; i++) {
        out[i] = whole[i];
    }
done:
    return status;
}

nphd_status nphd_sharded_get(nphd_sharded *sharded, nphd_key key, uint8_t *out, size_t capacity,
                             size_t *out_bytes, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    bool found = false;

    nphdi_error_clear(err);
    *out_bytes = 0;
    TRY(nphdi_look_begin(sharded, err));
    status = get_one(sharded, key, out, capacity, out_bytes, &found, err);
    nphdi_look_end(sharded);
    if (status == NPHD_OK && !found) {
        status = nphdi_fail(err, NPHD_NOT_FOUND, "get: there is no such key");
    }
done:
    return status;
}

nphd_status nphd_sharded_get_all(nphd_sharded *sharded, nphd_key key, uint8_t *out,
                                 size_t *out_bytes, size_t capacity, size_t *out_count,
                                 nphd_error *err)
{
    nphd_status status = NPHD_OK;

    nphdi_error_clear(err);
    *out_count = 0;
    TRY(nphdi_look_begin(sharded, err));
    if (nphdi_sharded_maybe(sharded, key)) {
        status = gather_all(sharded, key, out, out_bytes, capacity, out_count, err);
    }
    nphdi_look_end(sharded);
done:
    return status;
}

nphd_status nphd_sharded_get_many(nphd_sharded *sharded, const nphd_key *keys, size_t count,
                                  uint8_t *out, size_t *out_bytes, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const size_t width = sharded->parameters.max_bits / 8;
    bool found;

    nphdi_error_clear(err);
    for (size_t i = 0; i < count; i++) {
        out_bytes[i] = 0;
    }
    TRY(nphdi_look_begin(sharded, err));
    for (size_t i = 0; status == NPHD_OK && i < count; i++) {
        status = get_one(sharded, keys[i], out + i * width, width, &out_bytes[i], &found, err);
    }
    nphdi_look_end(sharded);
done:
    return status;
}

/* ---- going through ---- */

nphd_sharded_cursor nphd_sharded_cursor_begin(nphd_sharded *sharded)
{
    const nphd_sharded_cursor cursor = {sharded, 0, 0, 0};

    return cursor;
}

/* The number by which a cursor knows the active shard: that which its file will have. */
static uint64_t active_place(const nphd_sharded *sharded)
{
    return sharded->active_number != NPHDI_NO_NUMBER ? sharded->active_number
                                                     : sharded->next_number;
}

/* The shard that the cursor stands in, or the next; NULL: there is none. Shards that were merged
 * since its last step keep the order of their entries: one that stood in the first of them goes on
 * at its slot, as entries only move forward, and one that stood in a later one leaves the rest out,
 * as it cannot tell which of them it has met. */
static nphd_index *enter_shard(const nphd_sharded *sharded, nphd_sharded_cursor *cursor)
{
    uint64_t place = nphdi_sealed_from(sharded, cursor->shard);
    const nphdi_shard *shard = place < sharded->sealed_count ? sharded->sealed[place] : NULL;
    const bool merged = shard != NULL && shard->moved > cursor->moves;
    const bool stays = merged && shard->first_number == cursor->shard;
    uint64_t number = active_place(sharded);

    if (merged && shard->first_number < cursor->shard) {
        place++;
    }
    if (place < sharded->sealed_count) {
        assert(sharded->sealed[place] != NULL);
        number = sharded->sealed[place]->number;
    }
    cursor->moves = sharded->moves;
    if (cursor->shard > number) {
        return NULL;
    }
    if (number != cursor->shard && !stays) {
        cursor->next = 0;
    }
    cursor->shard = number;
    return place < sharded->sealed_count ? sharded->sealed[place]->index : sharded->active;
}

/* The next visible entry of the cursor's shard, or NPHD_NOT_FOUND after its last. */
static nphd_status step_in_shard(nphd_index *index, uint64_t *next, nphd_key *out_key, uint8_t *out,
                                 size_t *out_bytes, nphd_error *err)
{
    nphd_cursor cursor = nphd_index_cursor(index);
    nphd_status status;

    cursor.next = *next;
    status = nphd_cursor_next(&cursor, out_key, out, out_bytes, err);
    *next = cursor.next;
    return status;
}

nphd_status nphd_sharded_cursor_next(nphd_sharded_cursor *cursor, nphd_key *out_key, uint8_t *out,
                                     size_t *out_bytes, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    nphdi_error_clear(err);
    TRY(nphdi_look_begin(cursor->sharded, err));
    for (;;) {
        nphd_index *index = enter_shard(cursor->sharded, cursor);
        if (index == NULL) {
            status = NPHD_NOT_FOUND;
            break;
        }
        status = step_in_shard(index, &cursor->next, out_key, out, out_bytes, err);
        if (status != NPHD_NOT_FOUND || index == cursor->sharded->active) {
            /* the active shard may still grow: the cursor waits at its end */
            break;
        }
        cursor->shard++;
        cursor->next = 0;
    }
    nphdi_look_end(cursor->sharded);
done:
    return status;
}

nphd_status nphdi_sharded_visit_key(const nphd_sharded_cursor *from, nphd_key key,
                                    nphdi_visit_vector visit, void *context, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded_cursor cursor = *from;
    const nphd_index *last;

    TRY(nphdi_look_begin(cursor.sharded, err));
    last = cursor.sharded->active;
    for (;;) {
        nphd_index *index = enter_shard(cursor.sharded, &cursor);
        if (index == NULL) {
            break;
        }
        status = nphdi_index_visit_key(index, key, cursor.next, visit, context, err);
        if (status != NPHD_OK || index == last) {
            break;
        }
        cursor.shard++;
        cursor.next = 0;
    }
    nphdi_look_end(cursor.sharded);
done:
    return status;
}
