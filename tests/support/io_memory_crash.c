/* What a power cut leaves of a model disk. Unflushed data is decided block by block, as a page
 * cache writes it back, and torn by sector, as a device writes it; names are independent of data.
 */
#include "io_memory_model.h"

#define XXH_INLINE_ALL
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define BLOCK_BYTES 4096
#define SECTOR_BYTES 512

void memory_io_keep_sectors_whole(memory_io *disk)
{
    (void)model_disk_enter(disk);
    disk->whole_sectors = true;
    (void)model_disk_leave(disk, 0);
}

void memory_io_cut_after(memory_io *disk, uint64_t operations)
{
    (void)model_disk_enter(disk);
    disk->cut = false;
    disk->cut_after =
        operations > UINT64_MAX - disk->operations ? UINT64_MAX : disk->operations + operations;
    (void)model_disk_leave(disk, 0);
}

bool memory_io_is_cut(memory_io *disk)
{
    bool cut;

    (void)model_disk_enter(disk);
    cut = disk->cut;
    (void)model_disk_leave(disk, 0);
    return cut;
}

uint64_t memory_io_operations(memory_io *disk)
{
    uint64_t operations;

    (void)model_disk_enter(disk);
    operations = disk->operations;
    (void)model_disk_leave(disk, 0);
    return operations;
}

/* The part [from, end) of a file after only its first `count` unflushed writes. */
static void crash_replay(const model_file *file, size_t from, size_t end, size_t count,
                         uint8_t *image)
{
    for (size_t i = 0; i < count; i++) {
        const model_write *write = &file->writes[i];
        const size_t low = write->offset > from ? (size_t)write->offset : from;
        const size_t high = write->offset + write->bytes < end ? write->offset + write->bytes : end;
        if (low < high) {
            memcpy(image + low, write->data + (low - write->offset), high - low);
        }
    }
}

/* Each sector of a block for itself: new, old, or (for one that was being written, on a device that
 * does not keep sectors whole) anything. */
static void crash_tear(const model_file *file, bool whole, size_t from, size_t end,
                       test_random *random, uint8_t *image)
{
    for (size_t low = from; low < end; low += SECTOR_BYTES) {
        const size_t high = end - low < SECTOR_BYTES ? end : low + SECTOR_BYTES;
        switch (test_random_below(random, whole ? 2 : 3)) {
        case 0:
            break;
        case 1:
            memcpy(image + low, file->live + low, high - low);
            break;
        default:
            test_random_fill(random, image + low, high - low);
            break;
        }
    }
}

/* The shapes in which unflushed blocks survive; bugs differ in which of them they show. */
typedef enum crash_shape {
    SHAPE_NONE,
    SHAPE_ALL,
    SHAPE_PREFIX,
    SHAPE_ALL_BUT_ONE,
    SHAPE_ONLY_ONE,
    SHAPE_RANDOM,
    SHAPE_COUNT
} crash_shape;

static bool crash_keeps(crash_shape shape, size_t block, size_t chosen, test_random *random)
{
    switch (shape) {
    case SHAPE_ALL:
        return true;
    case SHAPE_PREFIX:
        return block < chosen;
    case SHAPE_ALL_BUT_ONE:
        return block != chosen;
    case SHAPE_ONLY_ONE:
        return block == chosen;
    case SHAPE_RANDOM:
        return (test_random_next(random) & 1) != 0;
    default:
        return false;
    }
}

static bool *crash_dirty_blocks(const model_file *file, size_t blocks)
{
    bool *dirty = model_must_have(calloc(blocks + 1, sizeof(*dirty)));

    for (size_t i = 0; i < file->write_count; i++) {
        const model_write *write = &file->writes[i];
        const size_t first = (size_t)write->offset / BLOCK_BYTES;
        for (size_t block = first; block * BLOCK_BYTES < write->offset + write->bytes; block++) {
            dirty[block] = true;
        }
    }
    return dirty;
}

/* One of the dirty blocks, or the end: the others are what they are anyway. */
static size_t crash_choose_block(const bool *dirty, size_t blocks, test_random *random)
{
    size_t count = 0;
    size_t chosen;

    for (size_t block = 0; block < blocks; block++) {
        count += dirty[block] ? 1 : 0;
    }
    count = (size_t)test_random_below(random, count + 1);
    for (chosen = 0; chosen < blocks && (!dirty[chosen] || count > 0); chosen++) {
        count -= dirty[chosen] ? 1 : 0;
    }
    return chosen;
}

/* What is left of the data of a file with unflushed writes. */
static uint8_t *crash_data(const model_file *file, bool whole, crash_shape shape,
                           test_random *random, size_t *out_bytes)
{
    const size_t blocks = (file->live_bytes + BLOCK_BYTES - 1) / BLOCK_BYTES;
    uint8_t *image = model_must_have(calloc(file->live_bytes + 1, 1));
    bool *dirty = crash_dirty_blocks(file, blocks);
    const size_t chosen = crash_choose_block(dirty, blocks, random);

    if (file->durable_bytes > 0) {
        memcpy(image, file->durable, file->durable_bytes);
    }
    for (size_t block = 0; block < blocks; block++) {
        const size_t from = block * BLOCK_BYTES;
        const size_t end =
            file->live_bytes - from < BLOCK_BYTES ? file->live_bytes : from + BLOCK_BYTES;
        if (!dirty[block]) {
            continue;
        }
        if (crash_keeps(shape, block, chosen, random)) {
            memcpy(image + from, file->live + from, end - from);
        } else if (shape == SHAPE_PREFIX && block == chosen) {
            crash_tear(file, whole, from, end, random, image);
        } else if (shape == SHAPE_RANDOM && test_random_below(random, 4) == 0) {
            crash_replay(file, from, end, test_random_below(random, file->write_count + 1), image);
        } else if (shape == SHAPE_RANDOM && test_random_below(random, 2) == 0) {
            crash_tear(file, whole, from, end, random, image);
        }
    }
    free(dirty);
    *out_bytes = file->live_bytes;
    if (shape == SHAPE_NONE || (shape != SHAPE_ALL && test_random_below(random, 3) == 0)) {
        *out_bytes = file->durable_bytes;
    } else if (shape != SHAPE_ALL && test_random_below(random, 3) == 0) {
        const size_t grown = file->live_bytes - file->durable_bytes;
        *out_bytes = file->durable_bytes + (size_t)test_random_below(random, grown + 1);
    }
    return image;
}

static crash_shape crash_choose_shape(uint64_t state, test_random *random)
{
    switch (state) {
    case 0:
    case 2:
        return SHAPE_NONE;
    case 1:
    case 3:
        return SHAPE_ALL;
    default:
        return (crash_shape)test_random_below(random, SHAPE_COUNT);
    }
}

/* The names that are left: the durable ones and some of the changes since. */
static model_names crash_names(const memory_io *disk, memory_io_mode mode, uint64_t state,
                               test_random *random)
{
    const size_t prefix = (size_t)test_random_below(random, disk->change_count + 1);
    model_names names = {NULL, 0, 0};

    for (size_t i = 0; i < disk->durable.count; i++) {
        model_names_set(&names, disk->durable.items[i].path, disk->durable.items[i].file);
    }
    for (size_t i = 0; i < disk->change_count; i++) {
        bool kept = mode == MEMORY_IO_ORDERED ? i < prefix : (test_random_next(random) & 1) != 0;
        if (state < 4) {
            kept = state == 1 || state == 2;
        }
        if (kept) {
            model_names_apply(&names, &disk->changes[i]);
        }
    }
    return names;
}

/* Drops every name whose directory was made but is not among the names. */
static void crash_drop_orphans(const memory_io *disk, model_names *names)
{
    size_t i = 0;

    while (i < names->count) {
        const char *path = names->items[i].path;
        bool orphan = false;
        for (size_t k = 0; k < disk->live.count && !orphan; k++) {
            const model_name *name = &disk->live.items[k];
            orphan = name->file->directory && model_path_is_below(path, name->path) &&
                     model_names_find(names, name->path) == NULL;
        }
        if (orphan) {
            model_names_drop(names, path); /* the last name comes here */
        } else {
            i++;
        }
    }
}

/* What is left of one file, under its first name. */
static void crash_put(memory_io *after, const model_name *name, uint64_t state, test_random *random)
{
    const model_file *file = name->file;

    if (file->directory) {
        model_disk_put(after, name->path, NULL, 0);
        model_names_find(&after->live, name->path)->file->directory = true;
    } else if (file->write_count == 0) {
        model_disk_put(after, name->path, file->durable, file->durable_bytes);
    } else {
        size_t bytes;
        uint8_t *data = crash_data(file, after->whole_sectors, crash_choose_shape(state, random),
                                   random, &bytes);
        model_disk_put(after, name->path, data, bytes);
        free(data);
    }
}

memory_io *memory_io_crash(memory_io *disk, memory_io_mode mode, uint64_t state)
{
    test_random random = {state};
    memory_io *after = memory_io_create(state);
    model_names names;

    (void)model_disk_enter(disk);
    after->capacity_bytes = disk->capacity_bytes;
    after->strict = disk->strict;
    after->whole_sectors = disk->whole_sectors;
    names = crash_names(disk, mode, state, &random);
    crash_drop_orphans(disk, &names);
    for (size_t i = 0; i < names.count; i++) {
        size_t first = 0;
        while (names.items[first].file != names.items[i].file) {
            first++;
        }
        if (first == i) {
            crash_put(after, &names.items[i], state, &random);
        } else { /* another name of the same file */
            model_file *file = model_names_find(&after->live, names.items[first].path)->file;
            model_names_set(&after->live, names.items[i].path, file);
            model_names_set(&after->durable, names.items[i].path, file);
        }
    }
    model_names_clear(&names);
    (void)model_disk_leave(disk, 0);
    return after;
}

void memory_io_power_off(memory_io *disk, memory_io_mode mode, uint64_t state)
{
    memory_io *after = memory_io_crash(disk, mode, state);

    (void)model_disk_enter(disk);
    model_disk_clear(disk);
    disk->files = after->files;
    disk->file_count = after->file_count;
    disk->file_room = after->file_room;
    disk->live = after->live;
    disk->durable = after->durable;
    disk->first_handle = disk->next_handle;
    disk->operations = 0;
    disk->cut_after = UINT64_MAX;
    disk->cut = false;
    after->files = NULL;
    after->file_count = 0;
    memset(&after->live, 0, sizeof(after->live));
    memset(&after->durable, 0, sizeof(after->durable));
    (void)model_disk_leave(disk, 0);
    memory_io_destroy(after);
}

uint64_t memory_io_fingerprint(memory_io *disk)
{
    uint64_t sum = 0;

    (void)model_disk_enter(disk);
    for (size_t i = 0; i < disk->live.count; i++) {
        const model_name *name = &disk->live.items[i];
        const uint64_t hash =
            XXH3_64bits(name->path, strlen(name->path)) + (name->file->directory ? 1 : 0);
        sum += XXH3_64bits_withSeed(name->file->live_bytes > 0 ? (void *)name->file->live : "",
                                    name->file->live_bytes, hash);
    }
    (void)model_disk_leave(disk, 0);
    return sum;
}
