/* Bytes drive a sequence of changes; an array of sixteen keys says what must be there. */
#include "use_index.h"

#include <stdlib.h>
#include <string.h>

#define KEYS 16
#define WIDTH 4
#define BATCH 6

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

typedef struct input {
    const uint8_t *data;
    size_t left;
} input;

typedef struct entry {
    uint8_t bytes; /* 0: absent */
    uint8_t data[WIDTH];
} entry;

typedef struct world {
    nphd_index *index;
    bool octet_keys;
    entry entries[KEYS];
    uint64_t dirty;
} world;

static uint8_t take(input *from)
{
    if (from->left == 0) {
        return 0;
    }
    from->left--;
    return *from->data++;
}

static nphd_key key_of(const world *here, size_t number)
{
    const nphd_key key = {here->octet_keys ? number * 3 : 0, number};

    return key;
}

static entry take_vector(input *from)
{
    entry vector = {0, {0}};

    vector.bytes = (uint8_t)(1 + take(from) % WIDTH);
    for (size_t i = 0; i < vector.bytes; i++) {
        vector.data[i] = take(from);
    }
    return vector;
}

static size_t world_count(const world *here)
{
    size_t count = 0;

    for (size_t i = 0; i < KEYS; i++) {
        count += here->entries[i].bytes > 0 ? 1 : 0;
    }
    return count;
}

static uint32_t differing_bits(const entry *a, const uint8_t *b, size_t shared)
{
    uint32_t differing = 0;

    for (size_t i = 0; i < 8 * shared; i++) {
        differing += (unsigned)(a->data[i / 8] ^ b[i / 8]) >> (i % 8) & 1U;
    }
    return differing;
}

static void check_search(const world *here, input *from)
{
    const entry query = take_vector(from);
    const nphd_vector vector = {query.data, query.bytes};
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_match found[KEYS + 1];
    nphd_search_report report;

    options.mode = NPHD_SEARCH_EXACT;
    FUZZ_CHECK(nphd_index_search(here->index, vector, KEYS + 1, &options, found, &report, NULL) ==
               NPHD_OK);
    FUZZ_CHECK(report.count == world_count(here));
    for (size_t i = 0; i < report.count; i++) {
        FUZZ_CHECK(found[i].key.low < KEYS);
        const entry *stored = &here->entries[found[i].key.low];
        const size_t shared = stored->bytes < query.bytes ? stored->bytes : query.bytes;
        FUZZ_CHECK(stored->bytes > 0);
        FUZZ_CHECK(found[i].distance ==
                   (float)differing_bits(stored, query.data, shared) / (float)(8 * shared));
        FUZZ_CHECK(i == 0 || found[i - 1].distance < found[i].distance ||
                   (found[i - 1].distance == found[i].distance &&
                    nphd_key_compare(found[i - 1].key, found[i].key) < 0));
    }
    options.mode = NPHD_SEARCH_APPROXIMATE;
    FUZZ_CHECK(nphd_index_search(here->index, vector, 3, &options, found, &report, NULL) ==
               NPHD_OK);
}

static void check(const world *here)
{
    uint8_t data[WIDTH];
    size_t bytes = 0;

    FUZZ_CHECK(nphd_index_size(here->index) == world_count(here));
    FUZZ_CHECK(nphd_index_dirty(here->index) == here->dirty);
    for (size_t i = 0; i < KEYS; i++) {
        const entry *stored = &here->entries[i];
        const nphd_status status =
            nphd_index_get(here->index, key_of(here, i), data, sizeof(data), &bytes, NULL);
        FUZZ_CHECK(status == (stored->bytes > 0 ? NPHD_OK : NPHD_NOT_FOUND));
        FUZZ_CHECK(bytes == stored->bytes && memcmp(data, stored->data, bytes) == 0);
    }
}

static void add(world *here, input *from, bool update)
{
    entry vectors[BATCH];
    nphd_vector borrowed[BATCH];
    nphd_key keys[BATCH];
    const size_t count = 1 + take(from) % BATCH;
    nphd_batch_options options = NPHD_BATCH_OPTIONS_INIT;
    nphd_upsert_counts counts;
    size_t added = 0;
    entry before[KEYS];

    for (size_t i = 0; i < count; i++) {
        keys[i] = key_of(here, take(from) % KEYS);
        vectors[i] = take_vector(from);
        borrowed[i].data = vectors[i].data;
        borrowed[i].bytes = vectors[i].bytes;
    }
    memcpy(before, here->entries, sizeof(before));
    for (size_t i = 0; i < count; i++) {
        entry *stored = &here->entries[keys[i].low];
        if (update || stored->bytes == 0) {
            *stored = vectors[i];
        }
    }
    for (size_t i = 0; i < KEYS; i++) {
        if (memcmp(&before[i], &here->entries[i], sizeof(before[i])) != 0) {
            here->dirty += before[i].bytes == 0 ? 1 : 2;
        }
    }
    if (update) {
        FUZZ_CHECK(nphd_index_upsert(here->index, keys, borrowed, count, &options, &counts, NULL) ==
                   NPHD_OK);
    } else {
        FUZZ_CHECK(nphd_index_add_many(here->index, keys, borrowed, count, &options, NULL, &added,
                                       NULL) == NPHD_OK);
    }
}

static void take_away(world *here, input *from)
{
    const size_t number = take(from) % KEYS;
    const nphd_key key = key_of(here, number);
    size_t removed = 0;

    FUZZ_CHECK(nphd_index_remove(here->index, &key, 1, &removed, NULL) == NPHD_OK);
    FUZZ_CHECK(removed == (here->entries[number].bytes > 0 ? 1U : 0U));
    here->dirty += removed;
    memset(&here->entries[number], 0, sizeof(here->entries[number]));
}

static void give_name(world *here, input *from)
{
    const size_t one = take(from) % KEYS;
    const size_t two = take(from) % KEYS;
    const nphd_status status =
        nphd_index_rename(here->index, key_of(here, one), key_of(here, two), NULL);

    if (here->entries[one].bytes == 0) {
        FUZZ_CHECK(status == NPHD_NOT_FOUND);
    } else if (one == two) {
        FUZZ_CHECK(status == NPHD_OK);
    } else if (here->entries[two].bytes > 0) {
        FUZZ_CHECK(status == NPHD_EXISTS);
    } else {
        FUZZ_CHECK(status == NPHD_OK);
        here->entries[two] = here->entries[one];
        memset(&here->entries[one], 0, sizeof(here->entries[one]));
        here->dirty++;
    }
}

/* Through the bytes of a file, and for a moment as a view of it. */
static void go_through_file(world *here, bool by_view)
{
    size_t bytes = 0;
    nphd_index *copy = NULL;
    const nphd_key key = key_of(here, 0);

    FUZZ_CHECK(nphd_index_save_buffer(here->index, NULL, 0, &bytes, NULL) == NPHD_OK);
    uint8_t *file = malloc(bytes);
    FUZZ_CHECK(file != NULL);
    FUZZ_CHECK(nphd_index_save_buffer(here->index, file, bytes, &bytes, NULL) == NPHD_OK);
    here->dirty = 0;
    if (by_view) {
        FUZZ_CHECK(nphd_index_view_buffer(here->index, file, bytes, NULL, NULL) == NPHD_OK);
        check(here);
        FUZZ_CHECK(nphd_index_remove(here->index, &key, 1, NULL, NULL) == NPHD_READ_ONLY);
        FUZZ_CHECK(nphd_index_copy(here->index, &copy, NULL) == NPHD_OK);
        nphd_index_close(here->index);
        here->index = copy;
    } else {
        FUZZ_CHECK(nphd_index_load_buffer(here->index, file, bytes, NULL, NULL) == NPHD_OK);
    }
    free(file);
}

static void empty(world *here)
{
    here->dirty += world_count(here);
    FUZZ_CHECK(nphd_index_clear(here->index, NULL) == NPHD_OK);
    memset(here->entries, 0, sizeof(here->entries));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    input from = {data, bytes};
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    const uint8_t shape = take(&from);
    world here;

    memset(&here, 0, sizeof(here));
    here.octet_keys = (shape & 1) != 0;
    options.max_bits = 8 * WIDTH;
    options.key_bits = here.octet_keys ? 128 : 64;
    options.connectivity = 2 + (shape >> 1 & 3U);
    options.build_breadth = 1 + (shape >> 3 & 7U);
    here.index = fuzz_create(&options);
    for (int steps = 0; from.left > 0 && steps < 200; steps++) {
        const uint8_t what = take(&from) % 16;
        if (what < 4) {
            add(&here, &from, false);
        } else if (what < 7) {
            add(&here, &from, true);
        } else if (what < 10) {
            take_away(&here, &from);
        } else if (what < 11) {
            give_name(&here, &from);
        } else if (what < 13) {
            check_search(&here, &from);
        } else if (what == 13) {
            go_through_file(&here, (take(&from) & 1) != 0);
        } else if (what == 14) {
            FUZZ_CHECK(nphd_index_isolate(here.index, NULL) == NPHD_OK);
        } else if (take(&from) % 8 == 0) {
            empty(&here);
        }
        check(&here);
    }
    fuzz_use(here.index, true);
    nphd_index_close(here.index);
    return 0;
}
