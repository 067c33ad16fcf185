/* Makes the checksums of a damaged file right again, so that what lies behind them is reached.
 *
 * The places are those of the undamaged file: what was changed stays changed, unless it was a
 * checksum. */
#ifndef TRAILER_REPAIR_H
#define TRAILER_REPAIR_H

#include "base/bytes.h"
#include "base/hash.h"
#include "formats/trailer.h"

#include <stdlib.h>

typedef struct trailer_places {
    uint64_t bytes;
    uint64_t foreign_bytes;
    uint64_t sums_offset;
    uint64_t sums_entry; /* the checksum of the block checksums, in the directory */
    uint64_t directory_offset;
    uint64_t footer_offset;
} trailer_places;

/* False: the file has no trailer that holds together. */
static inline bool trailer_places_find(const uint8_t *data, uint64_t bytes, trailer_places *out)
{
    nphdi_trailer trailer;
    bool found = false;

    if (bytes < NPHDI_TRAILER_FOOTER_BYTES ||
        nphdi_trailer_decode_footer("places", data + bytes - NPHDI_TRAILER_FOOTER_BYTES, bytes,
                                    &trailer, &found, NULL) != NPHD_OK ||
        !found ||
        nphdi_trailer_decode_directory("places", data + trailer.directory_offset, &trailer, NULL) !=
            NPHD_OK) {
        return false;
    }
    out->bytes = bytes;
    out->foreign_bytes = trailer.foreign_bytes;
    out->directory_offset = trailer.directory_offset;
    out->footer_offset = bytes - NPHDI_TRAILER_FOOTER_BYTES;
    for (uint32_t i = 0; i < trailer.section_count; i++) {
        if (trailer.sections[i].id == NPHDI_SECTION_CHECKSUMS) {
            out->sums_offset = trailer.sections[i].offset;
            out->sums_entry = trailer.directory_offset + NPHDI_TRAILER_DIRECTORY_HEAD_BYTES +
                              (uint64_t)i * NPHDI_TRAILER_SECTION_BYTES + 24;
        }
    }
    return true;
}

static inline void trailer_repair(uint8_t *data, const trailer_places *places)
{
    uint64_t number = 0;

    for (uint64_t at = 0; at < places->sums_offset; at += NPHDI_TRAILER_BLOCK_BYTES, number++) {
        const uint64_t rest = places->sums_offset - at;
        nphdi_put64(data + places->sums_offset + 8 * number,
                    nphdi_hash_bytes(data + at, rest < NPHDI_TRAILER_BLOCK_BYTES
                                                    ? (size_t)rest
                                                    : NPHDI_TRAILER_BLOCK_BYTES));
    }
    nphdi_put64(data + places->sums_entry,
                nphdi_hash_bytes(data + places->sums_offset,
                                 (size_t)(places->directory_offset - places->sums_offset)));
    nphdi_put64(data + places->footer_offset + 40,
                nphdi_hash_bytes(data + places->directory_offset,
                                 (size_t)(places->footer_offset - places->directory_offset)));
    nphdi_put64(data + places->footer_offset + 56,
                nphdi_hash_bytes(data + places->footer_offset, 56));
}

#endif
