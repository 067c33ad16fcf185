/* Keys, distances and their names, as the public header has them: checks around the kernels. */
#include "base/bytes.h"
#include "base/error.h"
#include "kernels/kernels.h"
#include <nphd/vector.h>

nphd_key nphd_key_from_octets(const uint8_t octets[16])
{
    nphd_key key;

    key.high = nphdi_get64_big_endian(octets);
    key.low = nphdi_get64_big_endian(octets + 8);
    return key;
}

void nphd_key_to_octets(nphd_key key, uint8_t out_octets[16])
{
    nphdi_put64_big_endian(out_octets, key.high);
    nphdi_put64_big_endian(out_octets + 8, key.low);
}

int nphd_key_compare(nphd_key a, nphd_key b)
{
    if (a.high != b.high) {
        return a.high < b.high ? -1 : 1;
    }
    return a.low == b.low ? 0 : a.low < b.low ? -1 : 1;
}

const char *nphd_metric_name(nphd_metric metric)
{
    switch (metric) {
    case NPHD_METRIC_NPHD:
        return "nphd";
    case NPHD_METRIC_HAMMING:
        return "hamming";
    case NPHD_METRIC_DEFAULT:
        break;
    }
    return "unknown";
}

static nphd_status vector_check(const char *call, const char *name, nphd_vector vector,
                                nphd_error *err)
{
    if (vector.data == NULL) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "%s: %s: data is NULL", call, name);
    }
    if (vector.bytes < 1 || vector.bytes > NPHD_MAX_BYTES) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "%s: %s: %zu bytes, not 1..%d", call, name,
                          vector.bytes, NPHD_MAX_BYTES);
    }
    return NPHD_OK;
}

nphd_status nphd_distance(nphd_vector a, nphd_vector b, float *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_bits bits;

    nphdi_error_clear(err);
    if (out == NULL) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "distance: out is NULL");
    }
    *out = 0.0F;
    TRY(vector_check("distance", "a", a, err));
    TRY(vector_check("distance", "b", b, err));
    bits.shared = (uint16_t)(a.bytes < b.bytes ? a.bytes : b.bytes);
    bits.differing = (uint16_t)nphdi_kernels_get()->hamming(a.data, b.data, bits.shared);
    *out = nphdi_bits_distance(bits);
done:
    return status;
}

nphd_status nphd_hamming(nphd_vector a, nphd_vector b, uint32_t *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    nphdi_error_clear(err);
    if (out == NULL) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "hamming: out is NULL");
    }
    *out = 0;
    TRY(vector_check("hamming", "a", a, err));
    TRY(vector_check("hamming", "b", b, err));
    if (a.bytes != b.bytes) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "hamming: a has %zu bytes, b has %zu",
                          a.bytes, b.bytes);
    }
    *out = nphdi_kernels_get()->hamming(a.data, b.data, a.bytes);
done:
    return status;
}
