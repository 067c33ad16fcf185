/* Each add takes a number from the count, and the number alone says which filter the key goes to,
 * as if the keys had come one after another. Invariants:
 *   (1) the filters before the last published one are full, or being filled by adds under way;
 *   (2) a filter is published before the first of its bits is set;
 *   (3) bits are only set.
 * So a key whose add has returned is found by everybody who knows of the add. */
#include "filters/bloom_chain.h"

#include "base/checked.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/memory.h"

#include <assert.h>

/* 78 KB of bits, little beside the vectors of even a small index. With the growth of the reference
 * the chain gets longer than a lookup likes (8 filters hold 16 million keys), and the sharded index
 * makes one filter of it now and then. */
#define INITIAL_CAPACITY 65536
#define GROWTH 2.0
#define RATE 0.01

/* Near the end of what fits the format at this rate, and a multiple of INITIAL_CAPACITY. */
#define MAX_INITIAL_CAPACITY 0xd0000000U

/* Of the second hash; the format's. */
#define SECOND_SEED 32

/* Bits that are looked at before the first decision. Of a full filter about half are set, so that a
 * decision after each one would be a coin toss; this many mostly settle it. */
#define PROBE_GROUP 4

/* Bits of this size have a reserved range to themselves, for which the system's allocator asks for
 * huge pages: bits are read at random, and with small pages the fresh memory of a large filter
 * costs more to touch than its file to read (bench_sharded). */
#define LARGE_BYTES ((uint32_t)1 << 21)

/* ---- filters ---- */

nphd_status nphdi_bloom_filter_create(const nphd_allocator *allocator,
                                      const nphdi_isbf_filter *size, const bloom_filter *last,
                                      bloom_filter **out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    bloom_filter *filter = NULL;
    void *words = NULL;

    *out = NULL;
    TRY(nphdi_alloc(allocator, 1, sizeof(*filter), &filter, err));
    if (size->bit_bytes < LARGE_BYTES) {
        TRY(nphdi_alloc(allocator, 1, size->bit_bytes, &words, err));
    } else {
        TRY(nphdi_region_reserve(&filter->range, allocator, size->bit_bytes, size->bit_bytes, err));
        TRY(nphdi_region_commit(&filter->range, allocator, size->bit_bytes, err));
        words = filter->range.base;
    }
    filter->words = words;
    filter->size = *size;
    filter->bits = (uint64_t)size->bit_bytes * 8;
    filter->reciprocal = UINT64_MAX / filter->bits;
    filter->end = size->capacity + (last == NULL ? 0 : last->end);
    filter->number = last == NULL ? 0 : last->number + 1;
    atomic_init(&filter->next, NULL);
    *out = filter;
    filter = NULL;
done:
    nphdi_bloom_filter_free(allocator, filter);
    return status;
}

void nphdi_bloom_filter_free(const nphd_allocator *allocator, bloom_filter *filter)
{
    if (filter != NULL) {
        if (filter->range.base == NULL) {
            nphdi_free(allocator, filter->words, 1, filter->size.bit_bytes);
        }
        nphdi_region_release(&filter->range, allocator);
        nphdi_free(allocator, filter, 1, sizeof(*filter));
    }
}

static void filter_prefetch(const bloom_filter *filter, uint64_t hash)
{
    __builtin_prefetch(&filter->words[nphdi_bloom_filter_remainder(filter, hash) >> 6]);
}

/* All that the first decision looks at. */
static void filter_prefetch_group(const bloom_filter *filter, uint64_t first, uint64_t second)
{
    const uint64_t step = nphdi_bloom_filter_remainder(filter, second);
    uint64_t bit = nphdi_bloom_filter_remainder(filter, first);

    for (uint32_t k = 0; k < PROBE_GROUP && k < filter->size.hash_count; k++) {
        __builtin_prefetch(&filter->words[bit >> 6]);
        bit += step;
        bit = bit >= filter->bits ? bit - filter->bits : bit;
    }
}

static bool filter_maybe(const bloom_filter *filter, uint64_t first, uint64_t second)
{
    const uint64_t step = nphdi_bloom_filter_remainder(filter, second);
    const uint32_t hash_count = filter->size.hash_count;
    uint64_t bit = nphdi_bloom_filter_remainder(filter, first);
    uint64_t all = 1;

    for (uint32_t i = 0, group; i < hash_count && all != 0; i += group) {
        group = hash_count - i < PROBE_GROUP ? hash_count - i : PROBE_GROUP;
        for (uint32_t k = 0; k < group; k++) {
            all &=
                atomic_load_explicit(&filter->words[bit >> 6], memory_order_relaxed) >> (bit & 63);
            bit += step;
            bit = bit >= filter->bits ? bit - filter->bits : bit;
        }
    }
    return all != 0;
}

static void filter_set(bloom_filter *filter, uint64_t first, uint64_t second)
{
    const uint64_t step = nphdi_bloom_filter_remainder(filter, second);
    uint64_t bit = nphdi_bloom_filter_remainder(filter, first);

    for (uint32_t i = 0; i < filter->size.hash_count; i++) {
        (void)atomic_fetch_or_explicit(&filter->words[bit >> 6], (uint64_t)1 << (bit & 63),
                                       memory_order_relaxed);
        bit += step;
        bit = bit >= filter->bits ? bit - filter->bits : bit;
    }
}

/* ---- the chain ---- */

nphd_status nphdi_bloom_chain_create(const nphd_allocator *allocator, uint32_t key_bytes,
                                     const nphdi_isbf_head *head, nphdi_bloom **out,
                                     nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_bloom *bloom = NULL;

    *out = NULL;
    TRY(nphdi_alloc(allocator, 1, sizeof(*bloom), &bloom, err));
    bloom->allocator = allocator;
    bloom->key_bytes = key_bytes;
    bloom->head = *head;
    atomic_init(&bloom->published, 0);
    atomic_init(&bloom->count, 0);
    *out = bloom;
done:
    return status;
}

nphd_status nphdi_bloom_create(const nphd_allocator *allocator, uint32_t key_bytes,
                               uint64_t capacity, nphdi_bloom **out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_isbf_head head = {.rate = RATE, .growth = GROWTH};
    nphdi_isbf_filter size;
    nphdi_bloom *bloom = NULL;
    bool fits;

    *out = NULL;
    if (capacity > MAX_INITIAL_CAPACITY) {
        capacity = MAX_INITIAL_CAPACITY;
    }
    /* in whole steps of the least one, so that indexes of about one size have filters of one */
    capacity = (capacity + INITIAL_CAPACITY - 1) / INITIAL_CAPACITY;
    head.initial_capacity = (uint32_t)(capacity == 0 ? 1 : capacity) * INITIAL_CAPACITY;
    fits = nphdi_isbf_plan(head.initial_capacity, RATE, &size);
    assert(fits);
    (void)fits;
    TRY(nphdi_bloom_chain_create(allocator, key_bytes, &head, &bloom, err));
    TRY(nphdi_bloom_filter_create(allocator, &size, NULL, &bloom->first, err));
    atomic_init(&bloom->published, 1);
    *out = bloom;
    bloom = NULL;
done:
    nphdi_bloom_close(bloom);
    return status;
}

void nphdi_bloom_close(nphdi_bloom *bloom)
{
    bloom_filter *next;

    if (bloom == NULL) {
        return;
    }
    for (bloom_filter *filter = bloom->first; filter != NULL; filter = next) {
        next = nphdi_bloom_filter_next(filter);
        nphdi_bloom_filter_free(bloom->allocator, filter);
    }
    nphdi_free(bloom->allocator, bloom, 1, sizeof(*bloom));
}

/* Hangs one more filter behind `last`, unless another thread did so meanwhile. */
static nphd_status chain_extend(nphdi_bloom *bloom, bloom_filter *last, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_isbf_filter size;
    bloom_filter *filter = NULL;
    bloom_filter *none = NULL;

    nphdi_isbf_plan_next(&bloom->head, last->number + 1, last->size.capacity, &size);
    TRY(nphdi_bloom_filter_create(bloom->allocator, &size, last, &filter, err));
    if (atomic_compare_exchange_strong_explicit(&last->next, &none, filter, memory_order_release,
                                                memory_order_relaxed)) {
        filter = NULL;
    }
done:
    nphdi_bloom_filter_free(bloom->allocator, filter);
    return status;
}

nphd_status nphdi_bloom_reserve(nphdi_bloom *bloom, uint64_t more, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    bloom_filter *filter = bloom->first;
    uint64_t wanted;

    if (!nphdi_checked_add(nphdi_bloom_count(bloom), more, &wanted)) {
        return nphdi_fail(err, NPHD_FULL, "a bloom filter counts no further than 64 bits");
    }
    for (; filter->end < wanted; filter = nphdi_bloom_filter_next(filter)) {
        if (nphdi_bloom_filter_next(filter) == NULL) {
            TRY(chain_extend(bloom, filter, err));
        }
    }
done:
    return status;
}

/* ---- keys ---- */

static void chain_publish(nphdi_bloom *bloom, uint32_t filters)
{
    uint32_t published = atomic_load_explicit(&bloom->published, memory_order_relaxed);

    while (published < filters &&
           !atomic_compare_exchange_weak_explicit(&bloom->published, &published, filters,
                                                  memory_order_release, memory_order_relaxed)) {
    }
}

static void chain_add(nphdi_bloom *bloom, uint64_t first, uint64_t second)
{
    const uint64_t number = atomic_fetch_add_explicit(&bloom->count, 1, memory_order_relaxed);
    bloom_filter *filter = bloom->first;

    for (bloom_filter *next = filter; next != NULL && filter->end <= number;) {
        next = nphdi_bloom_filter_next(filter);
        filter = next == NULL ? filter : next;
    }
    assert(filter != NULL);
    chain_publish(bloom, filter->number + 1);
    filter_set(filter, first, second);
}

void nphdi_bloom_add(nphdi_bloom *bloom, nphd_key key)
{
    chain_add(bloom, nphdi_hash_key_seeded(key, bloom->key_bytes, 0),
              nphdi_hash_key_seeded(key, bloom->key_bytes, SECOND_SEED));
}

void nphdi_bloom_add_octets(nphdi_bloom *bloom, const void *octets, size_t bytes)
{
    chain_add(bloom, nphdi_hash_bytes_seeded(octets, bytes, 0),
              nphdi_hash_bytes_seeded(octets, bytes, SECOND_SEED));
}

static bool chain_maybe(const nphdi_bloom *bloom, uint32_t filters, uint64_t first, uint64_t second)
{
    const bloom_filter *filter = bloom->first;

    for (uint32_t i = 0; i < filters; i++, filter = nphdi_bloom_filter_next(filter)) {
        if (filter_maybe(filter, first, second)) {
            return true;
        }
    }
    return false;
}

bool nphdi_bloom_maybe(const nphdi_bloom *bloom, nphd_key key)
{
    const uint64_t first = nphdi_hash_key_seeded(key, bloom->key_bytes, 0);
    const uint64_t second = nphdi_hash_key_seeded(key, bloom->key_bytes, SECOND_SEED);
    const uint32_t filters = nphdi_bloom_filters(bloom);
    const bloom_filter *filter = bloom->first;

    /* an absent key asks every filter: their memory is fetched all at once */
    for (uint32_t i = 0; i < filters; i++, filter = nphdi_bloom_filter_next(filter)) {
        filter_prefetch(filter, first);
    }
    return chain_maybe(bloom, filters, first, second);
}

bool nphdi_bloom_maybe_octets(const nphdi_bloom *bloom, const void *octets, size_t bytes)
{
    return chain_maybe(bloom, nphdi_bloom_filters(bloom), nphdi_hash_bytes_seeded(octets, bytes, 0),
                       nphdi_hash_bytes_seeded(octets, bytes, SECOND_SEED));
}

void nphdi_bloom_maybe_many(const nphdi_bloom *bloom, const nphd_key *keys, size_t count,
                            bool out[NPHDI_BLOOM_MANY])
{
    const uint32_t filters = nphdi_bloom_filters(bloom);
    uint64_t first[NPHDI_BLOOM_MANY];
    uint64_t second[NPHDI_BLOOM_MANY];

    for (size_t i = 0; i < count; i++) {
        const bloom_filter *filter = bloom->first;
        first[i] = nphdi_hash_key_seeded(keys[i], bloom->key_bytes, 0);
        second[i] = nphdi_hash_key_seeded(keys[i], bloom->key_bytes, SECOND_SEED);
        for (uint32_t k = 0; k < filters; k++, filter = nphdi_bloom_filter_next(filter)) {
            filter_prefetch_group(filter, first[i], second[i]);
        }
    }
    for (size_t i = 0; i < count; i++) {
        out[i] = chain_maybe(bloom, filters, first[i], second[i]);
    }
}

uint64_t nphdi_bloom_count(const nphdi_bloom *bloom)
{
    return atomic_load_explicit(&bloom->count, memory_order_relaxed);
}

uint32_t nphdi_bloom_filters(const nphdi_bloom *bloom)
{
    return atomic_load_explicit(&bloom->published, memory_order_acquire);
}

uint64_t nphdi_bloom_memory(const nphdi_bloom *bloom)
{
    uint64_t bytes = sizeof(*bloom);

    for (const bloom_filter *filter = bloom->first; filter != NULL;
         filter = nphdi_bloom_filter_next(filter)) {
        bytes += sizeof(*filter) + filter->size.bit_bytes;
    }
    return bytes;
}
