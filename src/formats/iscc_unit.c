/* Types of ISCC units and their names. */
#include "base/error.h"

#include <nphd/iscc.h>
#include <stdio.h>

#define UNIT_MARK 1U /* the top byte of every type that is known */

/* Main types of units that are vectors; semantic and content are of a medium. */
static const char *const unit_main_names[] = {"meta", "semantic", "content", "data", "instance"};
static const char *const unit_media_names[] = {"text", "image", "audio", "video", "mixed"};

#define MAIN_NAMES (sizeof(unit_main_names) / sizeof(unit_main_names[0]))
#define MEDIA_NAMES (sizeof(unit_media_names) / sizeof(unit_media_names[0]))

static bool unit_has_media(uint32_t main_type)
{
    return main_type == 1 || main_type == 2;
}

nphd_unit nphd_iscc_unit(const nphd_iscc *unit)
{
    return NPHD_UNIT(unit->main_type, unit->sub_type, unit->version);
}

bool nphd_unit_is_valid(nphd_unit unit)
{
    return unit == NPHD_UNIT_NONE || unit == NPHD_UNIT_MIXED ||
           (unit >> 24 == UNIT_MARK && (unit >> 16 & 255U) < MAIN_NAMES);
}

bool nphd_units_agree(nphd_unit a, nphd_unit b)
{
    const bool a_is_one = a != NPHD_UNIT_NONE && a != NPHD_UNIT_MIXED;
    const bool b_is_one = b != NPHD_UNIT_NONE && b != NPHD_UNIT_MIXED;

    return a == b || !a_is_one || !b_is_one;
}

const char *nphd_unit_name(nphd_unit unit, char out[NPHD_UNIT_NAME_BYTES])
{
    const uint32_t main_type = unit >> 16 & 255U;
    const uint32_t sub_type = unit >> 8 & 255U;
    const uint32_t version = unit & 255U;
    char main_name[12] = "";
    char sub_name[12] = "";
    char version_name[12] = "";

    if (unit == NPHD_UNIT_NONE || unit == NPHD_UNIT_MIXED) {
        snprintf(out, NPHD_UNIT_NAME_BYTES, "%s", unit == NPHD_UNIT_NONE ? "none" : "mixed");
        return out;
    }
    if (main_type < MAIN_NAMES) {
        snprintf(main_name, sizeof(main_name), "%s", unit_main_names[main_type]);
    } else { /* no vectors: ISCC-IDs and others */
        snprintf(main_name, sizeof(main_name), "type-%u", main_type);
    }
    if (unit_has_media(main_type) && sub_type < MEDIA_NAMES) {
        snprintf(sub_name, sizeof(sub_name), "-%s", unit_media_names[sub_type]);
    } else if (unit_has_media(main_type) || sub_type != 0) {
        snprintf(sub_name, sizeof(sub_name), "-%u", sub_type);
    }
    if (version != 0) {
        snprintf(version_name, sizeof(version_name), "-v%u", version);
    }
    snprintf(out, NPHD_UNIT_NAME_BYTES, "%s%s%s", main_name, sub_name, version_name);
    return out;
}

/* Passes over `word` in either case; false, and nothing passed over, where it does not come next.
 */
static bool take_word(const char **text, const char *word)
{
    const char *at = *text;

    for (; *word != '\0'; word++, at++) {
        const char c = (char)(*at >= 'A' && *at <= 'Z' ? *at - 'A' + 'a' : *at);

        if (c != *word) {
            return false;
        }
    }
    *text = at;
    return true;
}

/* Likewise 0 to 255 in digits. */
static bool take_number(const char **text, uint32_t *out)
{
    const char *at = *text;
    uint32_t value = 0;

    for (; *at >= '0' && *at <= '9' && value <= 255; at++) {
        value = 10 * value + (uint32_t)(*at - '0');
    }
    if (at == *text || value > 255) {
        return false;
    }
    *text = at;
    *out = value;
    return true;
}

static bool parse_type(const char *text, nphd_unit *out)
{
    uint32_t main_type = 0;
    uint32_t sub_type = 0;
    uint32_t version = 0;

    while (main_type < MAIN_NAMES && !take_word(&text, unit_main_names[main_type])) {
        main_type++;
    }
    if (main_type == MAIN_NAMES) {
        return false;
    }
    if (unit_has_media(main_type)) {
        if (!take_word(&text, "-")) {
            return false;
        }
        while (sub_type < MEDIA_NAMES && !take_word(&text, unit_media_names[sub_type])) {
            sub_type++;
        }
        if (sub_type == MEDIA_NAMES && !take_number(&text, &sub_type)) {
            return false;
        }
    } else if (text[0] == '-' && text[1] != 'v' && text[1] != 'V') {
        text++;
        if (!take_number(&text, &sub_type)) {
            return false;
        }
    }
    if (take_word(&text, "-v") && !take_number(&text, &version)) {
        return false;
    }
    *out = NPHD_UNIT(main_type, sub_type, version);
    return *text == '\0';
}

nphd_status nphd_unit_parse(const char *text, nphd_unit *out, nphd_error *err)
{
    const char *at = text;

    nphdi_error_clear(err);
    if (out == NULL || text == NULL) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "unit type: text or out is NULL");
    }
    *out = NPHD_UNIT_NONE;
    if (parse_type(text, out) || (take_word(&at, "none") && *at == '\0')) {
        return NPHD_OK;
    }
    *out = NPHD_UNIT_NONE;
    if (take_word(&at, "mixed") && *at == '\0') {
        *out = NPHD_UNIT_MIXED;
        return NPHD_OK;
    }
    return nphdi_fail(err, NPHD_INVALID_ARGUMENT,
                      "'%s' is not a type of units, such as meta, semantic-text, content-image, "
                      "data and instance",
                      text);
}
