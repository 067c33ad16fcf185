/* The chain as a file. What is read is compared with what the parameters and the count give: bits
 * that are missing, or a filter that is, would make keys that are present be reported absent. */
#include "filters/bloom_chain.h"

#include "base/bytes.h"
#include "base/error.h"

#include <assert.h>

/* Words are written through the stack in pieces of this size, in the byte order of the file. */
#define PIECE_BYTES 8192

typedef struct bloom_source {
    const char *name;
    uint64_t left_bytes; /* of the file */
    nphd_status (*take)(void *context, void *out, uint64_t bytes, nphd_error *err);
    void *context;
    nphd_error *err;
} bloom_source;

typedef struct bloom_sink {
    nphd_status (*put)(void *context, const void *data, uint64_t bytes, nphd_error *err);
    void *context;
    nphd_error *err;
} bloom_sink;

/* ---- write ---- */

static uint64_t filter_file_bytes(const bloom_filter *filter)
{
    return NPHDI_ISBF_FILTER_BYTES + (uint64_t)filter->size.bit_bytes;
}

uint64_t nphdi_bloom_file_bytes(const nphdi_bloom *bloom)
{
    const uint32_t filters = nphdi_bloom_filters(bloom);
    const bloom_filter *filter = bloom->first;
    uint64_t bytes = NPHDI_ISBF_HEAD_BYTES;

    for (uint32_t i = 0; i < filters; i++, filter = nphdi_bloom_filter_next(filter)) {
        bytes += filter_file_bytes(filter);
    }
    return bytes;
}

/* The last filter of a file with so many bytes. */
static const bloom_filter *chain_last_in(const nphdi_bloom *bloom, uint64_t file_bytes)
{
    const bloom_filter *last = bloom->first;
    uint64_t bytes = NPHDI_ISBF_HEAD_BYTES + filter_file_bytes(last);

    while (bytes < file_bytes) {
        last = nphdi_bloom_filter_next(last);
        bytes += filter_file_bytes(last);
    }
    assert(bytes == file_bytes);
    return last;
}

static nphd_status write_filter(const bloom_filter *filter, bloom_sink *sink)
{
    nphd_status status = NPHD_OK;
    uint8_t piece[PIECE_BYTES];

    nphdi_isbf_encode_filter(&filter->size, piece);
    TRY(sink->put(sink->context, piece, NPHDI_ISBF_FILTER_BYTES, sink->err));
    for (uint64_t at = 0, bytes; at < filter->size.bit_bytes; at += bytes) {
        bytes = filter->size.bit_bytes - at;
        bytes = bytes < PIECE_BYTES ? bytes : PIECE_BYTES;
        for (uint64_t i = 0; i < bytes; i += 8) {
            nphdi_put64(piece + i,
                        atomic_load_explicit(&filter->words[(at + i) / 8], memory_order_relaxed));
        }
        TRY(sink->put(sink->context, piece, bytes, sink->err));
    }
done:
    return status;
}

nphd_status nphdi_bloom_write(const nphdi_bloom *bloom, uint64_t file_bytes,
                              nphd_status (*put)(void *context, const void *data, uint64_t bytes,
                                                 nphd_error *err),
                              void *context, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    bloom_sink sink = {put, context, err};
    nphdi_isbf_head head = bloom->head;
    uint8_t bytes[NPHDI_ISBF_HEAD_BYTES];
    const bloom_filter *filter = bloom->first;
    const bloom_filter *last = chain_last_in(bloom, file_bytes);

    head.filter_count = last->number + 1;
    /* Adds whose filter is left out do not count, nor those that came without room. */
    head.count = nphdi_bloom_count(bloom);
    head.count = head.count < last->end ? head.count : last->end;
    nphdi_isbf_encode_head(&head, bytes);
    TRY(put(context, bytes, sizeof(bytes), err));
    for (uint32_t i = 0; i < head.filter_count; i++, filter = nphdi_bloom_filter_next(filter)) {
        TRY(write_filter(filter, &sink));
    }
done:
    return status;
}

/* ---- read ---- */

static nphd_status source_take(bloom_source *source, void *out, uint64_t bytes, const char *what)
{
    if (bytes > source->left_bytes) {
        return nphdi_fail(source->err, NPHD_CORRUPT,
                          "%s: the file ends inside %s" NPHDI_ISBF_ADVICE, source->name, what);
    }
    source->left_bytes -= bytes;
    return source->take(source->context, out, bytes, source->err);
}

static nphd_status read_bits(bloom_source *source, bloom_filter *filter)
{
    nphd_status status = NPHD_OK;
    uint8_t *bytes = (uint8_t *)(uintptr_t)filter->words;

    /* in one piece to where they stay: most of opening is this */
    TRY(source_take(source, bytes, filter->size.bit_bytes, "the bits of a filter"));
    for (uint64_t i = 0; NPHDI_BIG_ENDIAN && i < filter->size.bit_bytes; i += 8) {
        atomic_init(&filter->words[i / 8], nphdi_get64(bytes + i));
    }
done:
    return status;
}

/* Reads the filter behind `last`, and hangs it there. */
static nphd_status read_filter(bloom_source *source, nphdi_bloom *bloom, bloom_filter *last,
                               bloom_filter **out)
{
    nphd_status status = NPHD_OK;
    const uint32_t number = last == NULL ? 0 : last->number + 1;
    uint8_t bytes[NPHDI_ISBF_FILTER_BYTES];
    nphdi_isbf_filter size;
    nphdi_isbf_filter plan;

    TRY(source_take(source, bytes, sizeof(bytes), "the head of a filter"));
    TRY(nphdi_isbf_decode_filter(source->name, &bloom->head, number, bytes, &size, source->err));
    if (last != NULL) {
        nphdi_isbf_plan_next(&bloom->head, number, last->size.capacity, &plan);
        if (size.capacity != plan.capacity) {
            return nphdi_fail(source->err, NPHD_CORRUPT,
                              "%s: filter %u: it is for %u keys, not %u" NPHDI_ISBF_ADVICE,
                              source->name, number, size.capacity, plan.capacity);
        }
    }
    if (size.bit_bytes > source->left_bytes) {
        return nphdi_fail(source->err, NPHD_CORRUPT,
                          "%s: filter %u: the file ends inside its bits" NPHDI_ISBF_ADVICE,
                          source->name, number);
    }
    TRY(nphdi_bloom_filter_create(bloom->allocator, &size, last, out, source->err));
    if (last == NULL) {
        bloom->first = *out;
    } else {
        atomic_init(&last->next, *out);
    }
    TRY(read_bits(source, *out));
done:
    return status;
}

/* A filter joins when the ones before it are full, and no key comes without room. */
static nphd_status check_count(const bloom_source *source, uint64_t count, const bloom_filter *last)
{
    assert(last != NULL);
    if (count > last->end || count < last->end - last->size.capacity) {
        return nphdi_fail(source->err, NPHD_CORRUPT,
                          "%s: filter head: %llu keys in %u filters for %llu" NPHDI_ISBF_ADVICE,
                          source->name, (unsigned long long)count, last->number + 1,
                          (unsigned long long)last->end);
    }
    return NPHD_OK;
}

static nphd_status read_chain(bloom_source *source, nphdi_bloom *bloom)
{
    nphd_status status = NPHD_OK;
    bloom_filter *last = NULL;

    for (uint32_t i = 0; i < bloom->head.filter_count; i++) {
        TRY(read_filter(source, bloom, last, &last));
    }
    if (source->left_bytes != 0) {
        return nphdi_fail(source->err, NPHD_CORRUPT,
                          "%s: %llu bytes behind the last filter" NPHDI_ISBF_ADVICE, source->name,
                          (unsigned long long)source->left_bytes);
    }
    TRY(check_count(source, bloom->head.count, last));
    atomic_init(&bloom->published, bloom->head.filter_count);
    atomic_init(&bloom->count, bloom->head.count);
done:
    return status;
}

nphd_status nphdi_bloom_read(const nphd_allocator *allocator, uint32_t key_bytes, const char *name,
                             uint64_t file_bytes,
                             nphd_status (*take)(void *context, void *out, uint64_t bytes,
                                                 nphd_error *err),
                             void *context, nphdi_bloom **out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    bloom_source source = {name, file_bytes, take, context, err};
    uint8_t bytes[NPHDI_ISBF_HEAD_BYTES];
    nphdi_isbf_head head;
    nphdi_bloom *bloom = NULL;

    *out = NULL;
    TRY(source_take(&source, bytes, sizeof(bytes), "the head"));
    TRY(nphdi_isbf_decode_head(name, bytes, &head, err));
    TRY(nphdi_bloom_chain_create(allocator, key_bytes, &head, &bloom, err));
    TRY(read_chain(&source, bloom));
    *out = bloom;
    bloom = NULL;
done:
    nphdi_bloom_close(bloom);
    return status;
}
