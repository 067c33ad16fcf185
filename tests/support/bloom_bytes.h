/* Bloom filters to and from memory, and chains with any parameters: an empty one is a file of
 * zeros behind the right heads. */
#ifndef BLOOM_BYTES_H
#define BLOOM_BYTES_H

#include "base/error.h"
#include "filters/bloom.h"
#include "formats/isbf_format.h"

#include <stdlib.h>
#include <string.h>

typedef struct bloom_bytes {
    uint8_t *data;
    size_t bytes;
    size_t at;      /* the next that is read */
    size_t fail_at; /* reading or writing this byte fails; 0: none */
} bloom_bytes;

static inline void bloom_bytes_free(bloom_bytes *file)
{
    free(file->data);
    memset(file, 0, sizeof(*file));
}

static inline nphd_status bloom_bytes_put(void *context, const void *data, uint64_t bytes,
                                          nphd_error *err)
{
    bloom_bytes *file = context;
    uint8_t *grown;

    if (file->fail_at != 0 && file->bytes + bytes >= file->fail_at) {
        return nphdi_fail(err, NPHD_NO_SPACE, "no space");
    }
    grown = realloc(file->data, file->bytes + bytes);
    if (grown == NULL) {
        abort();
    }
    memcpy(grown + file->bytes, data, bytes);
    file->data = grown;
    file->bytes += bytes;
    return NPHD_OK;
}

static inline nphd_status bloom_bytes_take(void *context, void *out, uint64_t bytes,
                                           nphd_error *err)
{
    bloom_bytes *file = context;

    if (bytes > file->bytes - file->at ||
        (file->fail_at != 0 && file->at + bytes >= file->fail_at)) {
        return nphdi_fail(err, NPHD_IO, "cannot be read");
    }
    memcpy(out, file->data + file->at, bytes);
    file->at += bytes;
    return NPHD_OK;
}

/* The whole filter in `out`, which is empty before. */
static inline nphd_status bloom_bytes_write(const nphdi_bloom *bloom, bloom_bytes *out,
                                            nphd_error *err)
{
    return nphdi_bloom_write(bloom, nphdi_bloom_file_bytes(bloom), bloom_bytes_put, out, err);
}

static inline nphd_status bloom_bytes_read(bloom_bytes *file, const nphd_allocator *allocator,
                                           uint32_t key_bytes, nphdi_bloom **out, nphd_error *err)
{
    file->at = 0;
    return nphdi_bloom_read(allocator, key_bytes, "t.isbf", file->bytes, bloom_bytes_take, file,
                            out, err);
}

/* The file of a chain without keys; false: there is no such chain. */
static inline bool bloom_bytes_empty(bloom_bytes *out, uint32_t capacity, double rate,
                                     double growth)
{
    const nphdi_isbf_head head = {0, capacity, rate, growth, 1};
    nphdi_isbf_filter filter;

    memset(out, 0, sizeof(*out));
    if (!nphdi_isbf_plan(capacity, rate, &filter)) {
        return false;
    }
    out->bytes = NPHDI_ISBF_HEAD_BYTES + NPHDI_ISBF_FILTER_BYTES + (size_t)filter.bit_bytes;
    out->data = calloc(1, out->bytes);
    if (out->data == NULL) {
        abort();
    }
    nphdi_isbf_encode_head(&head, out->data);
    nphdi_isbf_encode_filter(&filter, out->data + NPHDI_ISBF_HEAD_BYTES);
    return true;
}

/* A chain without keys, or NULL. */
static inline nphdi_bloom *bloom_bytes_create(const nphd_allocator *allocator, uint32_t key_bytes,
                                              uint32_t capacity, double rate, double growth)
{
    nphdi_bloom *bloom = NULL;
    bloom_bytes file;

    if (bloom_bytes_empty(&file, capacity, rate, growth)) {
        (void)bloom_bytes_read(&file, allocator, key_bytes, &bloom, NULL);
    }
    bloom_bytes_free(&file);
    return bloom;
}

#endif
