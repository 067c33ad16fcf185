/* Directories of every kind whose files were changed where it matters, with checksums that are
 * right again: numbers in heads, sections and entries, words of other places, whole parts of other
 * files or of an older save, files cut, missing or taken from before. What still opens is worked
 * on, by every call.
 *
 *     kind, then any number of: file, part, how, where (2 bytes), value
 */
#include "directory_kinds.h"
#include "support/journal_bytes.h"
#include "support/lock_bytes.h"
#include "support/trailer_repair.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { ORDER_BYTES = 6, MOST_ORDERS = 8 };

/* A file of the damaged directory, and what it was made from, which tells where its parts are. */
typedef struct target {
    fuzz_file file;
    const fuzz_file *original;
    trailer_places places; /* bytes 0: no trailer, or the file was cut */
} target;

/* The bytes of a file that an order is about. */
typedef struct part {
    uint8_t *data;
    size_t bytes;
} part;

static bool is_journal(const fuzz_file *file)
{
    return strstr(file->name, "/journal_") != NULL;
}

static bool is_lock(const fuzz_file *file)
{
    return strcmp(file->name, "d/" NPHDI_LOCK_NAME) == 0;
}

/* Part `number` of a file with a trailer: its head, the rest before the trailer, the directory of
 * the trailer, its footer, a section. A journal has the fields of its head and the frames, the lock
 * the fields of its two heads and all of it. Others have one part. */
static part part_of(const target *from, unsigned number)
{
    const trailer_places *places = &from->places;
    uint8_t *data = from->file.data;
    const uint8_t *entry;
    unsigned sections;

    if (is_journal(&from->file) && from->file.bytes > NPHDI_JOURNAL_HEAD_BYTES) {
        return number % 4 == 0 ? (part){data, 128}
                               : (part){data + NPHDI_JOURNAL_HEAD_BYTES,
                                        from->file.bytes - NPHDI_JOURNAL_HEAD_BYTES};
    }
    if (is_lock(&from->file) && number % 4 < 3 && from->file.bytes == NPHDI_LOCK_HEAD_BYTES) {
        return (part){data + LOCK_HEAD_FIELDS_AT +
                          (number % 4 == 0 ? 0 : (size_t)NPHDI_LOCK_HEAD_SLOT_STEP),
                      LOCK_HEAD_FIELDS_BYTES};
    }
    if (places->bytes == 0) {
        return (part){data, from->file.bytes};
    }
    sections = (unsigned)((places->footer_offset - places->directory_offset -
                           NPHDI_TRAILER_DIRECTORY_HEAD_BYTES) /
                          NPHDI_TRAILER_SECTION_BYTES);
    number %= sections + 4;
    switch (number) {
    case 0:
        return (part){data, places->foreign_bytes < 96 ? (size_t)places->foreign_bytes : 96};
    case 1:
        return (part){data, (size_t)places->foreign_bytes};
    case 2:
        return (part){data + places->directory_offset,
                      (size_t)(places->footer_offset - places->directory_offset)};
    case 3:
        return (part){data + places->footer_offset, NPHDI_TRAILER_FOOTER_BYTES};
    default:
        entry = from->original->data + places->directory_offset +
                NPHDI_TRAILER_DIRECTORY_HEAD_BYTES +
                (size_t)(number - 4) * NPHDI_TRAILER_SECTION_BYTES;
        return (part){data + nphdi_get64(entry + 8), (size_t)nphdi_get64(entry + 16)};
    }
}

/* Numbers at which comparisons and products go wrong. */
static uint64_t odd_number(uint8_t value, uint64_t before)
{
    static const uint64_t numbers[] = {0,          1,           2,          3,          0x7f,
                                       0xff,       0xffff,      0x7fffffff, 0x80000000, 0xfffffffe,
                                       0xffffffff, 0x100000000, INT64_MAX,  UINT64_MAX};
    const unsigned count = sizeof(numbers) / sizeof(numbers[0]);

    if (value < count) {
        return numbers[value];
    }
    return value % 2 != 0 ? before + value / 2 % 8 + 1 : before - value / 2 % 8 - 1;
}

static void change_word(part where, size_t at, unsigned width, uint8_t value)
{
    uint8_t *place = where.data + at;

    if (at + 8 > where.bytes || width == 0) {
        *place = (uint8_t)odd_number(value, *place);
    } else if (width == 1) {
        nphdi_put32(place, (uint32_t)odd_number(value, nphdi_get32(place)));
    } else {
        nphdi_put64(place, odd_number(value, nphdi_get64(place)));
    }
}

/* Takes the bytes of another file, and its parts. */
static void take_over(target *to, const fuzz_file *by)
{
    uint8_t *data = malloc(by->bytes + 1);

    FUZZ_CHECK(data != NULL);
    memcpy(data, by->data, by->bytes);
    free(to->file.data);
    to->file.data = data;
    to->file.bytes = by->bytes;
    to->original = by;
    memset(&to->places, 0, sizeof(to->places));
    (void)trailer_places_find(by->data, by->bytes, &to->places);
}

/* A part of another file in the place of this one's. */
static void graft(part where, const target *other, unsigned number)
{
    const part by = part_of(other, number);

    memmove(where.data, by.data, where.bytes < by.bytes ? where.bytes : by.bytes);
}

static void change(const fuzz_directory *base, target *targets, const uint8_t *order)
{
    target *to = &targets[order[0] % base->count];
    const part where = part_of(to, order[1]);
    const size_t place = (size_t)order[3] << 8 | order[4];
    const uint8_t value = order[5];
    const unsigned how = order[2] % 10;

    if (where.bytes == 0 || to->file.absent) {
        return;
    }
    const size_t at = place % where.bytes;
    switch (how) {
    case 0:
        where.data[at] = value;
        break;
    case 1:
        where.data[at] ^= (uint8_t)(1U << (value % 8));
        break;
    case 2: /* numbers stand at multiples of four, mostly */
    case 3:
    case 4:
        change_word(where, how == 2 ? at : at / 4 * 4, how - 2, value);
        break;
    case 5: /* a word of another place */
        if (where.bytes >= 8) {
            memmove(where.data + at / 8 * 8 % (where.bytes - 7),
                    where.data + (size_t)value * 8 % (where.bytes - 7), 8);
        }
        break;
    case 6:
        graft(where, &targets[value % base->count], order[1]);
        break;
    case 7:
        if (base->older_count > 0) {
            take_over(to, &base->older[value % base->older_count]);
        }
        break;
    case 8:
        to->file.bytes -= at;
        to->places.bytes = 0;
        break;
    default:
        to->file.absent = value % 4 == 0;
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    const fuzz_directory *base;
    target targets[FUZZ_MOST_FILES];
    fuzz_file files[FUZZ_MOST_FILES];

    if (bytes == 0) {
        return 0;
    }
    base = fuzz_directory_of((fuzz_kind)(data[0] % FUZZ_KINDS));
    for (size_t i = 0; i < base->count; i++) {
        memset(&targets[i], 0, sizeof(targets[i]));
        memcpy(targets[i].file.name, base->files[i].name, sizeof(targets[i].file.name));
        take_over(&targets[i], &base->files[i]);
    }
    for (size_t i = 0; i < MOST_ORDERS && 1 + (i + 1) * ORDER_BYTES <= bytes; i++) {
        change(base, targets, data + 1 + i * ORDER_BYTES);
    }
    for (size_t i = 0; i < base->count; i++) {
        if (is_journal(&targets[i].file)) {
            journal_repair(targets[i].file.data, targets[i].file.bytes);
        } else if (is_lock(&targets[i].file)) {
            lock_repair(targets[i].file.data, targets[i].file.bytes);
        } else if (targets[i].places.bytes > 0) {
            trailer_repair(targets[i].file.data, &targets[i].places);
        }
        files[i] = targets[i].file;
    }
    memory_io *disk = fuzz_directory_put(files, base->count);
    fuzz_directory_use(disk);
    memory_io_destroy(disk);
    for (size_t i = 0; i < base->count; i++) {
        free(targets[i].file.data);
    }
    return 0;
}
