#include "formats/unit_format.h"

#include "base/error.h"

#include <string.h>

/* offsets in the section */
enum {
    UNIT_KIND = 0,
    UNIT_MAIN_TYPE = 1,
    UNIT_SUB_TYPE = 2,
    UNIT_VERSION = 3,
    UNIT_RESERVED = 4 /* 4 bytes of zeros */
};
_Static_assert(UNIT_RESERVED + 4 == NPHDI_UNIT_BYTES, "unit layout");

enum { KIND_ONE = 1, KIND_MIXED = 2 };

void nphdi_unit_encode(nphd_unit unit, uint8_t out[NPHDI_UNIT_BYTES])
{
    memset(out, 0, NPHDI_UNIT_BYTES);
    out[UNIT_KIND] = KIND_MIXED;
    if (unit != NPHD_UNIT_MIXED) {
        out[UNIT_KIND] = KIND_ONE;
        out[UNIT_MAIN_TYPE] = (uint8_t)(unit >> 16);
        out[UNIT_SUB_TYPE] = (uint8_t)(unit >> 8);
        out[UNIT_VERSION] = (uint8_t)unit;
    }
}

nphd_unit nphdi_unit_decode(const uint8_t *bytes, uint64_t count)
{
    nphd_unit unit;

    if (count != NPHDI_UNIT_BYTES) {
        return NPHD_UNIT_NONE;
    }
    if (bytes[UNIT_KIND] == KIND_MIXED) {
        return NPHD_UNIT_MIXED;
    }
    unit = NPHD_UNIT(bytes[UNIT_MAIN_TYPE], bytes[UNIT_SUB_TYPE], bytes[UNIT_VERSION]);
    return bytes[UNIT_KIND] == KIND_ONE && nphd_unit_is_valid(unit) ? unit : NPHD_UNIT_NONE;
}

nphd_status nphdi_unit_follow(const char *name, nphd_unit now, nphd_unit unit, bool mix,
                              nphd_unit *out, nphd_error *err)
{
    char had[NPHD_UNIT_NAME_BYTES];
    char got[NPHD_UNIT_NAME_BYTES];

    *out = now;
    if (!nphd_unit_is_valid(unit)) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                          "0x%08x is not a type of units that are vectors", unit);
    }
    if (unit == NPHD_UNIT_NONE || unit == now) {
        return NPHD_OK;
    }
    if (now == NPHD_UNIT_NONE || unit == NPHD_UNIT_MIXED) {
        *out = unit;
        return NPHD_OK;
    }
    if (now != NPHD_UNIT_MIXED && !mix) {
        return nphdi_fail(err, NPHD_MISMATCH, "%s has codes of the type %s, and these are %s", name,
                          nphd_unit_name(now, had), nphd_unit_name(unit, got));
    }
    *out = NPHD_UNIT_MIXED;
    return NPHD_OK;
}
