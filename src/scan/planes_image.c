#include "scan/planes_image.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"

#include <string.h>

#define PART_VECTORS 4096
#define COUNT_BYTES 4
#define HEAD_BYTES (COUNT_BYTES * NPHDI_IMAGE_LENGTHS)

/* Parts begin at multiples of this in the file, and so do their planes: a load from a mapping then
 * never crosses a cache line. */
#define ALIGNMENT 64
#define STRIDE_STEP 16 /* vectors: 64 bytes of slots */
#define NO_SLOT UINT32_MAX

static uint64_t padding(uint64_t file_offset)
{
    return (ALIGNMENT - (file_offset + HEAD_BYTES) % ALIGNMENT) % ALIGNMENT;
}

static uint64_t stride_of(uint64_t vectors)
{
    return (vectors + STRIDE_STEP - 1) / STRIDE_STEP * STRIDE_STEP;
}

/* All parts of one length: only the last is not full, and a full one needs no filling. */
static uint64_t group_bytes(uint64_t vectors, uint32_t length)
{
    return stride_of(vectors) * (4 + 8 * (uint64_t)nphdi_planes_words(length));
}

/* ---- writing ---- */

nphdi_image_counts nphdi_image_count(const nphdi_rows *rows, uint64_t slots)
{
    nphdi_image_counts counts;

    memset(&counts, 0, sizeof(counts));
    if (rows->prefix_bytes == 0) {
        counts.of[rows->payload_bytes] = slots;
        return counts;
    }
    for (uint64_t slot = 0; slot < slots; slot++) {
        counts.of[nphdi_rows_query(rows, (uint32_t)slot).bytes]++;
    }
    return counts;
}

uint64_t nphdi_image_bytes(const nphdi_image_counts *counts, uint64_t file_offset)
{
    uint64_t bytes = HEAD_BYTES + padding(file_offset);

    for (uint32_t length = 0; length < NPHDI_IMAGE_LENGTHS; length++) {
        bytes += group_bytes(counts->of[length], length);
    }
    return bytes;
}

/* Slots in ascending order of their length, and of their number. */
static nphd_status sort_slots(const nphdi_rows *rows, uint64_t slots,
                              const nphdi_image_counts *counts, const nphd_allocator *allocator,
                              uint32_t **out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t next[NPHDI_IMAGE_LENGTHS];
    uint64_t before = 0;

    TRY(nphdi_alloc(allocator, slots, sizeof(**out), out, err));
    for (uint32_t length = 0; length < NPHDI_IMAGE_LENGTHS; length++) {
        next[length] = before;
        before += counts->of[length];
    }
    for (uint64_t slot = 0; slot < slots; slot++) {
        (*out)[next[nphdi_rows_query(rows, (uint32_t)slot).bytes]++] = (uint32_t)slot;
    }
done:
    return status;
}

static void fill_part(const nphdi_rows *rows, const uint32_t *slots, uint64_t vectors,
                      uint32_t length, uint8_t *out)
{
    const uint64_t stride = stride_of(vectors);
    uint8_t *words = out + 4 * stride;

    memset(words, 0, 8 * stride * nphdi_planes_words(length));
    for (uint64_t i = 0; i < stride; i++) {
        nphdi_put32(out + 4 * i, i < vectors ? slots[i] : NO_SLOT);
    }
    for (uint64_t i = 0; i < vectors; i++) {
        const uint8_t *payload = rows->base + slots[i] * rows->stride + rows->prefix_bytes;
        uint8_t *word = words + 8 * i;

        for (uint32_t left = length; left > 0; word += 8 * stride) {
            const uint32_t bytes = left < 8 ? left : 8;
            memcpy(word, payload, bytes);
            payload += bytes;
            left -= bytes;
        }
    }
}

static nphd_status put_head(const nphdi_image_counts *counts, uint64_t file_offset,
                            nphdi_image_put put, void *context, nphd_error *err)
{
    uint8_t head[HEAD_BYTES + ALIGNMENT] = {0};

    for (uint32_t length = 0; length < NPHDI_IMAGE_LENGTHS; length++) {
        nphdi_put32(head + COUNT_BYTES * (size_t)length, (uint32_t)counts->of[length]);
    }
    return put(context, head, HEAD_BYTES + padding(file_offset), err);
}

nphd_status nphdi_image_write(const nphdi_rows *rows, uint64_t slots, uint64_t file_offset,
                              const nphd_allocator *allocator, nphdi_image_put put, void *context,
                              nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_image_counts counts = nphdi_image_count(rows, slots);
    const uint64_t room = group_bytes(PART_VECTORS, rows->payload_bytes);
    uint32_t *sorted = NULL;
    uint8_t *part = NULL;
    uint64_t at = 0;

    TRY(sort_slots(rows, slots, &counts, allocator, &sorted, err));
    TRY(nphdi_alloc(allocator, room, 1, &part, err));
    TRY(put_head(&counts, file_offset, put, context, err));
    for (uint32_t length = 0; length < NPHDI_IMAGE_LENGTHS; length++) {
        for (uint64_t left = counts.of[length]; left > 0;) {
            const uint64_t vectors = left < PART_VECTORS ? left : PART_VECTORS;
            fill_part(rows, sorted + at, vectors, length, part);
            TRY(put(context, part, group_bytes(vectors, length), err));
            at += vectors;
            left -= vectors;
        }
    }
done:
    nphdi_free(allocator, part, room, 1);
    nphdi_free(allocator, sorted, slots, sizeof(*sorted));
    return status;
}

/* ---- reading ---- */

bool nphdi_image_open(nphdi_planes_image *image, const uint8_t *section, uint64_t bytes,
                      uint64_t file_offset, uint32_t payload_bytes, uint64_t slots)
{
    uint64_t offset = HEAD_BYTES + padding(file_offset);
    uint64_t sum = 0;

    memset(image, 0, sizeof(*image));
    if (bytes < offset) {
        return false;
    }
    for (uint32_t length = 0; length < NPHDI_IMAGE_LENGTHS; length++) {
        nphdi_image_group *group = &image->groups[length];

        /* 256 counts below 2^32 of at most 260 bytes cannot overflow */
        group->vectors = nphdi_get32(section + COUNT_BYTES * (size_t)length);
        group->first_part = image->parts;
        group->offset = offset;
        if (group->vectors > 0 && length > payload_bytes) {
            return false;
        }
        image->parts += (group->vectors + PART_VECTORS - 1) / PART_VECTORS;
        offset += group_bytes(group->vectors, length);
        sum += group->vectors;
    }
    image->section = section;
    return sum == slots && offset == bytes;
}

nphdi_planes_part nphdi_image_part(const nphdi_planes_image *image, uint64_t number)
{
    nphdi_planes_part part;
    uint32_t length = NPHDI_IMAGE_LENGTHS - 1;

    /* of groups without vectors the one behind begins with the same part */
    while (image->groups[length].first_part > number || image->groups[length].vectors == 0) {
        length--;
    }
    const nphdi_image_group *group = &image->groups[length];
    const uint64_t before = (number - group->first_part) * PART_VECTORS;
    const uint64_t rest = group->vectors - before;

    part.length = length;
    part.vectors = (uint32_t)(rest < PART_VECTORS ? rest : PART_VECTORS);
    part.stride = stride_of(part.vectors);
    part.slots = image->section + group->offset + group_bytes(before, length);
    part.words = part.slots + 4 * part.stride;
    return part;
}
