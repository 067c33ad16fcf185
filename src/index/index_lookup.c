/* Lookups by key, and going through an index. */
#include "base/error.h"
#include "index/index_internal.h"
#include "index/index_shard.h"

#include <string.h>

nphd_status nphd_index_contains(nphd_index *index, nphd_key key, bool *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint32_t slot;

    nphdi_error_clear(err);
    *out = false;
    NPHDI_INDEX_ENTER(index, err);
    nphdi_rwlock_read(&index->content_lock);
    TRY(nphdi_content_find(index->content, key, &slot, err));
    *out = slot != UINT32_MAX;
done:
    nphdi_rwlock_read_end(&index->content_lock);
    return status;
}

nphd_status nphd_index_contains_many(nphd_index *index, const nphd_key *keys, size_t count,
                                     bool *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint32_t slots[NPHDI_FIND_MOST];

    nphdi_error_clear(err);
    status = nphdi_index_enter(index, err);
    if (status != NPHD_OK) {
        goto refused;
    }
    nphdi_rwlock_read(&index->content_lock);
    for (size_t begin = 0; begin < count; begin += NPHDI_FIND_MOST) {
        const size_t part = count - begin < NPHDI_FIND_MOST ? count - begin : NPHDI_FIND_MOST;
        TRY(nphdi_content_find_many(index->content, keys + begin, part, slots, err));
        for (size_t i = 0; i < part; i++) {
            out[begin + i] = slots[i] != UINT32_MAX;
        }
    }
done:
    nphdi_rwlock_read_end(&index->content_lock);
refused:
    for (size_t i = 0; status != NPHD_OK && i < count; i++) {
        out[i] = false;
    }
    return status;
}

static nphd_status count_key(nphdi_content *content, nphd_key key, size_t *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_probe probe;
    uint32_t slot;
    size_t count = 0;

    TRY(nphdi_probe_begin(content, key, nphdi_content_hash(content, key), &probe, err));
    for (;;) {
        TRY(nphdi_probe_next(&probe, &slot, err));
        if (slot == UINT32_MAX) {
            break;
        }
        count++;
        if (!content->shape.multi) {
            break;
        }
    }
    *out = count;
done:
    return status;
}

nphd_status nphd_index_count(nphd_index *index, nphd_key key, size_t *out, nphd_error *err)
{
    nphd_status status;

    nphdi_error_clear(err);
    *out = 0;
    NPHDI_INDEX_ENTER(index, err);
    nphdi_rwlock_read(&index->content_lock);
    status = count_key(index->content, key, out, err);
    nphdi_rwlock_read_end(&index->content_lock);
    return status;
}

nphd_status nphd_index_get(nphd_index *index, nphd_key key, uint8_t *out, size_t capacity,
                           size_t *out_bytes, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_probe probe;
    uint32_t slot;
    uint32_t first = UINT32_MAX;

    nphdi_error_clear(err);
    *out_bytes = 0;
    NPHDI_INDEX_ENTER(index, err);
    nphdi_rwlock_read(&index->content_lock);
    TRY(nphdi_probe_begin(index->content, key, nphdi_content_hash(index->content, key), &probe,
                          err));
    do {
        TRY(nphdi_probe_next(&probe, &slot, err));
        first = slot < first ? slot : first;
    } while (slot != UINT32_MAX && index->content->shape.multi);
    if (first == UINT32_MAX) {
        status = nphdi_fail(err, NPHD_NOT_FOUND, "get: there is no such key");
        goto done;
    }
    const nphd_vector vector = nphdi_content_vector(index->content, first);
    *out_bytes = vector.bytes;
    if (vector.bytes > capacity || (out == NULL && vector.bytes > 0)) {
        status = nphdi_fail(err, NPHD_TOO_SMALL, "get: a vector of %zu bytes, room for %zu",
                            vector.bytes, capacity);
        goto done;
    }
    if (vector.bytes > 0) {
        memcpy(out, vector.data, vector.bytes);
    }
done:
    nphdi_rwlock_read_end(&index->content_lock);
    return status;
}

nphd_status nphd_index_get_all(nphd_index *index, nphd_key key, uint8_t *out, size_t *out_bytes,
                               size_t capacity, size_t *out_count, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_probe probe;
    uint32_t slot;
    size_t count = 0;

    nphdi_error_clear(err);
    *out_count = 0;
    NPHDI_INDEX_ENTER(index, err);
    nphdi_rwlock_read(&index->content_lock);
    const size_t stride = index->content->shape.payload_bytes;
    TRY(nphdi_probe_begin(index->content, key, nphdi_content_hash(index->content, key), &probe,
                          err));
    for (;;) {
        TRY(nphdi_probe_next(&probe, &slot, err));
        if (slot == UINT32_MAX) {
            break;
        }
        if (count < capacity) {
            const nphd_vector vector = nphdi_content_vector(index->content, slot);
            memcpy(out + count * stride, vector.data, vector.bytes);
            out_bytes[count] = vector.bytes;
        }
        count++;
    }
    *out_count = count;
    if (count > capacity) {
        status = nphdi_fail(err, NPHD_TOO_SMALL, "get: %zu vectors, room for %zu", count, capacity);
    }
done:
    nphdi_rwlock_read_end(&index->content_lock);
    return status;
}

nphd_status nphd_index_get_many(nphd_index *index, const nphd_key *keys, size_t count, uint8_t *out,
                                size_t *out_bytes, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint32_t slots[NPHDI_FIND_MOST];

    nphdi_error_clear(err);
    status = nphdi_index_enter(index, err);
    if (status != NPHD_OK) {
        goto refused;
    }
    nphdi_rwlock_read(&index->content_lock);
    const size_t stride = index->content->shape.payload_bytes;
    for (size_t begin = 0; begin < count; begin += NPHDI_FIND_MOST) {
        const size_t part = count - begin < NPHDI_FIND_MOST ? count - begin : NPHDI_FIND_MOST;
        TRY(nphdi_content_find_many(index->content, keys + begin, part, slots, err));
        for (size_t i = 0; i < part; i++) {
            out_bytes[begin + i] = 0;
            if (slots[i] != UINT32_MAX) {
                const nphd_vector vector = nphdi_content_vector(index->content, slots[i]);
                memcpy(out + (begin + i) * stride, vector.data, vector.bytes);
                out_bytes[begin + i] = vector.bytes;
            }
        }
    }
done:
    nphdi_rwlock_read_end(&index->content_lock);
refused:
    for (size_t i = 0; status != NPHD_OK && i < count; i++) {
        out_bytes[i] = 0;
    }
    return status;
}

nphd_status nphdi_index_visit_key(nphd_index *index, nphd_key key, uint64_t first,
                                  nphdi_visit_vector visit, void *context, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_probe probe;
    uint32_t slot;

    nphdi_rwlock_read(&index->content_lock);
    TRY(nphdi_probe_begin(index->content, key, nphdi_content_hash(index->content, key), &probe,
                          err));
    for (;;) {
        TRY(nphdi_probe_next(&probe, &slot, err));
        if (slot == UINT32_MAX) {
            break;
        }
        if (slot >= first) {
            visit(context, nphdi_content_vector(index->content, slot));
        }
    }
done:
    nphdi_rwlock_read_end(&index->content_lock);
    return status;
}

nphd_cursor nphd_index_cursor(nphd_index *index)
{
    const nphd_cursor cursor = {index, 0};

    return cursor;
}

nphd_status nphd_cursor_next(nphd_cursor *cursor, nphd_key *out_key, uint8_t *out,
                             size_t *out_bytes, nphd_error *err)
{
    nphd_status status = NPHD_NOT_FOUND;
    nphd_index *index = cursor->index;

    nphdi_error_clear(err);
    out_key->high = 0;
    out_key->low = 0;
    if (out_bytes != NULL) {
        *out_bytes = 0;
    }
    NPHDI_INDEX_ENTER(index, err);
    nphdi_rwlock_read(&index->content_lock);
    const nphdi_content *content = index->content;
    const uint64_t slots = nphdi_content_slots(content);
    while (cursor->next < slots) {
        const uint32_t slot = (uint32_t)cursor->next++;
        if (!nphdi_content_is_live(content, slot)) {
            continue;
        }
        if (!nphdi_content_key(content, slot, out_key)) {
            status = nphdi_mapped_broken(&content->mapped, slot, err);
            break;
        }
        const nphd_vector vector = nphdi_content_vector(content, slot);
        if (out != NULL) {
            memcpy(out, vector.data, vector.bytes);
        }
        if (out_bytes != NULL) {
            *out_bytes = vector.bytes;
        }
        status = NPHD_OK;
        break;
    }
    nphdi_rwlock_read_end(&index->content_lock);
    return status;
}
