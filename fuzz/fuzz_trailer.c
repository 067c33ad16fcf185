/* Damage behind right checksums: the input says which file to take and which bytes of it to
 * change; then every checksum is computed anew, so that the fuzzer gets past them.
 *
 *     file number, then any number of: where (2 bytes, from the end of the file), how, value
 */
#include "support/trailer_repair.h"
#include "use_index.h"

#include <string.h>

#define FILES 6

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

typedef struct base_file {
    uint8_t *data;
    size_t bytes;
    trailer_places places;
} base_file;

static void file_make(base_file *file, unsigned number)
{
    static const size_t counts[FILES] = {0, 1, 5, 70, 20, 130};
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index;

    options.max_bits = 32;
    options.connectivity = 2 + number % 2;
    options.key_bits = number == 4 ? 128 : 64;
    options.metric = number == 2 ? NPHD_METRIC_HAMMING : NPHD_METRIC_NPHD;
    options.multi = number == 3;
    index = fuzz_create(&options);
    for (size_t i = 0; i < counts[number]; i++) {
        const uint8_t bits[4] = {(uint8_t)(i * 37), (uint8_t)(i * 11), (uint8_t)i, 0x55};
        const nphd_vector vector = {bits, number == 2 ? 4 : 1 + i % 4};
        FUZZ_CHECK(nphd_index_add(index, nphd_key_u64(i / (number == 3 ? 2 : 1)), vector, NULL,
                                  NULL) == NPHD_OK);
    }
    for (size_t i = 0; i < counts[number]; i += 7) {
        const nphd_key key = nphd_key_u64(i);
        FUZZ_CHECK(nphd_index_remove(index, &key, 1, NULL, NULL) == NPHD_OK);
    }
    FUZZ_CHECK(nphd_index_save_buffer(index, NULL, 0, &file->bytes, NULL) == NPHD_OK);
    file->data = malloc(file->bytes);
    FUZZ_CHECK(file->data != NULL);
    FUZZ_CHECK(nphd_index_save_buffer(index, file->data, file->bytes, &file->bytes, NULL) ==
               NPHD_OK);
    FUZZ_CHECK(trailer_places_find(file->data, file->bytes, &file->places));
    nphd_index_close(index);
}

static void change(uint8_t *file, size_t bytes, const uint8_t *order)
{
    const size_t back = (size_t)order[0] << 8 | order[1];
    uint8_t *place;

    if (bytes < 8) {
        return;
    }
    place = file + (bytes - 8 - back % (bytes - 7));
    switch (order[2] % 5) {
    case 0:
        *place = order[3];
        break;
    case 1:
        *place = (uint8_t)(*place + (order[3] % 2 == 0 ? 1 : -1));
        break;
    case 2: /* a number at the end of its range */
        memset(place, order[3] % 2 == 0 ? 0xff : 0, order[3] % 3 == 0 ? 8 : 4);
        break;
    case 3:
        *place ^= (uint8_t)(1U << (order[3] % 8));
        break;
    default:
        nphdi_put64(place, nphdi_get64(place) + ((uint64_t)order[3] << (order[2] % 57)));
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static base_file files[FILES];
    base_file *file;
    uint8_t *changed;

    if (bytes == 0) {
        return 0;
    }
    file = &files[data[0] % FILES];
    if (file->data == NULL) {
        file_make(file, data[0] % FILES);
    }
    changed = malloc(file->bytes);
    FUZZ_CHECK(changed != NULL);
    memcpy(changed, file->data, file->bytes);
    for (size_t at = 1; at + 4 <= bytes; at += 4) {
        change(changed, file->bytes, data + at);
    }
    trailer_repair(changed, &file->places);
    fuzz_open(changed, file->bytes);
    free(changed);
    return 0;
}
