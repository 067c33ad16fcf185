/* Sizes follow from capacity and rate by the arithmetic of the reference, in double precision, so
 * that a reader can compute them again and need not trust what a file says. */
#include "formats/isbf_format.h"

#include "base/bytes.h"
#include "base/error.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define MAGIC_BYTES 4
static const uint8_t isbf_magic[MAGIC_BYTES] = {'I', 'S', 'B', 'F'};

#define ISBF_VERSION 1
#define NATURAL_LOG_2 0.693147180559945309417232121458

enum {
    HEAD_VERSION = 4,
    HEAD_COUNT = 5,
    HEAD_INITIAL_CAPACITY = 13,
    HEAD_RATE = 17,
    HEAD_GROWTH = 25,
    HEAD_FILTER_COUNT = 33
};
_Static_assert(HEAD_FILTER_COUNT + 4 == NPHDI_ISBF_HEAD_BYTES, "the head is packed");

enum { FILTER_CAPACITY = 0, FILTER_HASH_COUNT = 4, FILTER_BIT_BYTES = 8 };
_Static_assert(FILTER_BIT_BYTES + 4 == NPHDI_ISBF_FILTER_BYTES, "a filter's head is packed");

static double get_double(const uint8_t *p)
{
    const uint64_t bits = nphdi_get64(p);
    double x;

    memcpy(&x, &bits, sizeof(x));
    return x;
}

static void put_double(uint8_t *p, double x)
{
    uint64_t bits;

    memcpy(&bits, &x, sizeof(bits));
    nphdi_put64(p, bits);
}

/* Halved with each filter. Far beyond any chain of the reference it stays at the least normal
 * number, so that a chain has no last filter. */
static double filter_rate(const nphdi_isbf_head *head, uint32_t number)
{
    const int halvings = number < 2000 ? (int)number : 2000;
    const double rate = ldexp(head->rate, -halvings);

    return rate > DBL_MIN ? rate : DBL_MIN;
}

bool nphdi_isbf_plan(uint32_t capacity, double rate, nphdi_isbf_filter *out)
{
    double bits;

    memset(out, 0, sizeof(*out));
    if (capacity == 0 || !(rate > 0.0 && rate < 1.0)) {
        return false;
    }
    bits = ceil((-(double)capacity * log(rate)) / (NATURAL_LOG_2 * NATURAL_LOG_2));
    bits = ceil(bits / 64.0) * 64.0;
    if (bits / 8.0 > (double)UINT32_MAX) {
        return false;
    }
    out->capacity = capacity;
    out->hash_count = (uint32_t)ceil((bits * NATURAL_LOG_2) / (double)capacity);
    out->bit_bytes = (uint32_t)(bits / 8.0);
    return true;
}

void nphdi_isbf_plan_next(const nphdi_isbf_head *head, uint32_t number, uint32_t last,
                          nphdi_isbf_filter *out)
{
    const double rate = filter_rate(head, number);
    const double grown = trunc((double)last * head->growth);

    if (grown <= (double)UINT32_MAX && nphdi_isbf_plan((uint32_t)grown, rate, out)) {
        return;
    }
    /* The rate has become stricter, so that even the last capacity may be too large by now. */
    while (!nphdi_isbf_plan(last, rate, out)) {
        last /= 2;
    }
}

void nphdi_isbf_encode_head(const nphdi_isbf_head *head, uint8_t out[NPHDI_ISBF_HEAD_BYTES])
{
    memcpy(out, isbf_magic, MAGIC_BYTES);
    out[HEAD_VERSION] = ISBF_VERSION;
    nphdi_put64(out + HEAD_COUNT, head->count);
    nphdi_put32(out + HEAD_INITIAL_CAPACITY, head->initial_capacity);
    put_double(out + HEAD_RATE, head->rate);
    put_double(out + HEAD_GROWTH, head->growth);
    nphdi_put32(out + HEAD_FILTER_COUNT, head->filter_count);
}

void nphdi_isbf_encode_filter(const nphdi_isbf_filter *filter, uint8_t out[NPHDI_ISBF_FILTER_BYTES])
{
    nphdi_put32(out + FILTER_CAPACITY, filter->capacity);
    nphdi_put32(out + FILTER_HASH_COUNT, filter->hash_count);
    nphdi_put32(out + FILTER_BIT_BYTES, filter->bit_bytes);
}

static nphd_status check_head(const char *name, const nphdi_isbf_head *head, nphd_error *err)
{
    if (!(head->rate >= DBL_MIN && head->rate < 1.0)) {
        return nphdi_fail(err, NPHD_CORRUPT,
                          "%s: filter head: a rate of %g is not between 0 and 1" NPHDI_ISBF_ADVICE,
                          name, head->rate);
    }
    if (!(head->growth >= 1.0)) {
        return nphdi_fail(err, NPHD_CORRUPT,
                          "%s: filter head: a growth of %g is below 1" NPHDI_ISBF_ADVICE, name,
                          head->growth);
    }
    if (head->growth > NPHDI_ISBF_MAX_GROWTH || head->rate > NPHDI_ISBF_MAX_RATE) {
        return nphdi_fail(err, NPHD_UNSUPPORTED,
                          "%s: filter head: a growth of %g or a rate of %g is above %g and "
                          "%g" NPHDI_ISBF_ADVICE,
                          name, head->growth, head->rate, NPHDI_ISBF_MAX_GROWTH,
                          NPHDI_ISBF_MAX_RATE);
    }
    if (head->initial_capacity == 0 || head->filter_count == 0) {
        return nphdi_fail(err, NPHD_CORRUPT,
                          "%s: filter head: %u filters, the first for %u keys" NPHDI_ISBF_ADVICE,
                          name, head->filter_count, head->initial_capacity);
    }
    return NPHD_OK;
}

nphd_status nphdi_isbf_decode_head(const char *name, const uint8_t head[NPHDI_ISBF_HEAD_BYTES],
                                   nphdi_isbf_head *out, nphd_error *err)
{
    nphdi_isbf_head read;
    nphd_status status = NPHD_OK;

    memset(out, 0, sizeof(*out));
    if (memcmp(head, isbf_magic, MAGIC_BYTES) != 0) {
        return nphdi_fail(err, NPHD_CORRUPT,
                          "%s: filter head: it does not begin with ISBF" NPHDI_ISBF_ADVICE, name);
    }
    if (head[HEAD_VERSION] != ISBF_VERSION) {
        return nphdi_fail(err, NPHD_UNSUPPORTED,
                          "%s: filter version %u; known is %d" NPHDI_ISBF_ADVICE, name,
                          head[HEAD_VERSION], ISBF_VERSION);
    }
    read.count = nphdi_get64(head + HEAD_COUNT);
    read.initial_capacity = nphdi_get32(head + HEAD_INITIAL_CAPACITY);
    read.rate = get_double(head + HEAD_RATE);
    read.growth = get_double(head + HEAD_GROWTH);
    read.filter_count = nphdi_get32(head + HEAD_FILTER_COUNT);
    TRY(check_head(name, &read, err));
    *out = read;
done:
    return status;
}

nphd_status nphdi_isbf_decode_filter(const char *name, const nphdi_isbf_head *head, uint32_t number,
                                     const uint8_t bytes[NPHDI_ISBF_FILTER_BYTES],
                                     nphdi_isbf_filter *out, nphd_error *err)
{
    const uint32_t capacity = nphdi_get32(bytes + FILTER_CAPACITY);
    const uint32_t hash_count = nphdi_get32(bytes + FILTER_HASH_COUNT);
    const uint32_t bit_bytes = nphdi_get32(bytes + FILTER_BIT_BYTES);
    nphdi_isbf_filter plan;

    memset(out, 0, sizeof(*out));
    if (number >= head->filter_count || (number == 0 && capacity != head->initial_capacity) ||
        !nphdi_isbf_plan(capacity, filter_rate(head, number), &plan)) {
        return nphdi_fail(err, NPHD_CORRUPT,
                          "%s: filter %u: no filter here is for %u keys" NPHDI_ISBF_ADVICE, name,
                          number, capacity);
    }
    if (hash_count != plan.hash_count || bit_bytes != plan.bit_bytes) {
        return nphdi_fail(
            err, NPHD_CORRUPT,
            "%s: filter %u: %u bytes and %u hashes for %u keys, not %u and %u" NPHDI_ISBF_ADVICE,
            name, number, bit_bytes, hash_count, capacity, plan.bit_bytes, plan.hash_count);
    }
    *out = plan;
    return NPHD_OK;
}
