/* Planes as a section of a file, used in place (docs/format.md section 2.4): how many vectors there
 * are of each length, zeros up to a multiple of 64 in the file, then part after part. */
#ifndef NPHDI_PLANES_IMAGE_H
#define NPHDI_PLANES_IMAGE_H

#include "scan/planes.h"

#define NPHDI_IMAGE_LENGTHS 256

/* Vectors by their length in bytes. */
typedef struct nphdi_image_counts {
    uint64_t of[NPHDI_IMAGE_LENGTHS];
} nphdi_image_counts;

typedef struct nphdi_image_group {
    uint64_t vectors;
    uint64_t first_part;
    uint64_t offset; /* of its first part, from the start of the section */
} nphdi_image_group;

/* An opened section; zero: there is none. */
typedef struct nphdi_planes_image {
    const uint8_t *section;
    uint64_t parts;
    nphdi_image_group groups[NPHDI_IMAGE_LENGTHS];
} nphdi_planes_image;

/* ---- writing ---- */

nphdi_image_counts nphdi_image_count(const nphdi_rows *rows, uint64_t slots);

/* Size of the section when it begins at `file_offset`. */
uint64_t nphdi_image_bytes(const nphdi_image_counts *counts, uint64_t file_offset);

typedef nphd_status (*nphdi_image_put)(void *context, const void *data, uint64_t bytes,
                                       nphd_error *err);

/* Hands all of the section to `put`, in order. */
nphd_status nphdi_image_write(const nphdi_rows *rows, uint64_t slots, uint64_t file_offset,
                              const nphd_allocator *allocator, nphdi_image_put put, void *context,
                              nphd_error *err);

/* ---- reading ---- */

/* false: the section does not hold what `slots` rows of at most `payload_bytes` are. Looks at the
 * counts alone; slots and words are what they are. */
bool nphdi_image_open(nphdi_planes_image *image, const uint8_t *section, uint64_t bytes,
                      uint64_t file_offset, uint32_t payload_bytes, uint64_t slots);

/* number < image->parts */
nphdi_planes_part nphdi_image_part(const nphdi_planes_image *image, uint64_t number);

#endif
