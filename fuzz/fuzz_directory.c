/* A whole directory with damage behind right checksums: each order of the input changes bytes of
 * one file, whose trailer is then made right again; files can be cut, emptied and taken away too.
 *
 *     any number of: file, how, where (2 bytes), value
 */
#include "support/journal_bytes.h"
#include "support/lock_bytes.h"
#include "support/trailer_repair.h"
#include "use_directory.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { MOST_FILES = 8, ORDER_BYTES = 5 };

/* `how` of an order: odd ones count from the end, where the trailer is. */
static void change(fuzz_file *file, const uint8_t *order)
{
    const size_t where = (size_t)order[2] << 8 | order[3];

    if (file->bytes < 8) {
        return;
    }
    const size_t place = where % (file->bytes - 7);
    uint8_t *at = file->data + (order[1] % 2 != 0 ? file->bytes - 8 - place : place);
    switch (order[1] / 2 % 6) {
    case 0:
        *at = order[4];
        break;
    case 1:
        *at ^= (uint8_t)(1U << (order[4] % 8));
        break;
    case 2:
        memset(at, order[4] % 2 != 0 ? 0xff : 0, 8);
        break;
    case 3:
        nphdi_put64(at, nphdi_get64(at) + (uint64_t)order[4] - 128);
        break;
    case 4:
        file->bytes -= order[4] % 16 == 0 ? place : 0;
        break;
    default:
        file->absent = order[4] % 4 == 0;
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static fuzz_file base[MOST_FILES];
    static size_t count;
    fuzz_file files[MOST_FILES];

    if (count == 0) {
        memory_io *first = fuzz_directory_make(true);
        count = fuzz_directory_take(first, base, MOST_FILES);
        memory_io_destroy(first);
    }
    memcpy(files, base, sizeof(files));
    for (size_t i = 0; i < count; i++) {
        files[i].data = malloc(base[i].bytes + 1);
        FUZZ_CHECK(files[i].data != NULL);
        memcpy(files[i].data, base[i].data, base[i].bytes);
    }
    for (size_t at = 0; at + ORDER_BYTES <= bytes; at += ORDER_BYTES) {
        change(&files[data[at] % count], data + at);
    }
    for (size_t i = 0; i < count; i++) {
        trailer_places places;
        memset(&places, 0, sizeof(places));
        if (strstr(files[i].name, "/journal_") != NULL) {
            journal_repair(files[i].data, files[i].bytes);
        } else if (strcmp(files[i].name, "d/" NPHDI_LOCK_NAME) == 0) {
            lock_repair(files[i].data, files[i].bytes);
        } else if (files[i].bytes == base[i].bytes &&
                   trailer_places_find(base[i].data, base[i].bytes, &places)) {
            trailer_repair(files[i].data, &places);
        }
    }
    memory_io *disk = fuzz_directory_put(files, count);
    fuzz_directory_use(disk);
    memory_io_destroy(disk);
    for (size_t i = 0; i < count; i++) {
        free(files[i].data);
    }
    return 0;
}
