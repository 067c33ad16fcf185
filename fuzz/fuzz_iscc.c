/* Arbitrary text as an ISCC unit: what decodes is in range, and decodes alike in other clothes. */
#include "use_index.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool same(const nphd_iscc *a, const nphd_iscc *b)
{
    return a->main_type == b->main_type && a->sub_type == b->sub_type && a->version == b->version &&
           a->bytes == b->bytes && memcmp(a->body, b->body, sizeof(a->body)) == 0;
}

/* What comes apart consists of units that are themselves, as text too. */
static void check_units(const char *text, size_t bytes, nphd_status decoded, const nphd_iscc *unit)
{
    nphd_iscc units[NPHD_ISCC_MAX_UNITS];
    char again[NPHD_ISCC_TEXT_BYTES];
    nphd_iscc back;
    size_t count = 99;

    if (nphd_iscc_decompose(text, bytes, units, NPHD_ISCC_MAX_UNITS, &count, NULL) != NPHD_OK) {
        FUZZ_CHECK(decoded != NPHD_OK && count == 0);
        return;
    }
    FUZZ_CHECK(count >= 1 && count <= NPHD_ISCC_MAX_UNITS && (decoded == NPHD_OK) == (count == 1));
    FUZZ_CHECK(count > 1 || same(&units[0], unit));
    for (size_t i = 0; i < count; i++) {
        FUZZ_CHECK(nphd_iscc_encode(&units[i], again, NULL) == NPHD_OK);
        FUZZ_CHECK(nphd_iscc_decode(again, strlen(again), &back, NULL) == NPHD_OK);
        FUZZ_CHECK(same(&back, &units[i]));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    char *text = malloc(bytes + 1);
    char *dashed = malloc(2 * bytes + 1);
    size_t dashed_bytes = 0;
    nphd_iscc unit;
    nphd_iscc other;
    nphd_error err = NPHD_ERROR_INIT;

    FUZZ_CHECK(text != NULL && dashed != NULL);
    memcpy(text, data, bytes);
    const nphd_status status = nphd_iscc_decode(text, bytes, &unit, &err);
    FUZZ_CHECK(status == NPHD_OK || status == NPHD_INVALID_ARGUMENT || status == NPHD_UNSUPPORTED);
    FUZZ_CHECK((status == NPHD_OK) == (err.text[0] == '\0'));
    if (status != NPHD_OK) {
        FUZZ_CHECK(unit.bytes == 0);
    } else {
        FUZZ_CHECK(unit.bytes >= 4 && unit.bytes <= NPHD_ISCC_MAX_BYTES);
        FUZZ_CHECK(unit.main_type <= 7 && unit.main_type != 5);
        for (size_t i = 0; i < bytes; i++) {
            dashed[dashed_bytes++] = lower(text[i]);
            if (i > 6) {
                dashed[dashed_bytes++] = '-';
            }
        }
        FUZZ_CHECK(nphd_iscc_decode(dashed, dashed_bytes, &other, &err) == NPHD_OK);
        FUZZ_CHECK(same(&unit, &other));
    }
    check_units(text, bytes, status, &unit);
    free(text);
    free(dashed);
    return 0;
}
