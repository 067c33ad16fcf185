#include "use_index.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Room of each growing array: files that a fuzzer makes are small. */
#define RANGE_BYTES (1U << 20)
#define MOST_RANGES 64

static void *free_ranges[MOST_RANGES];
static size_t free_range_count;

_Noreturn void fuzz_fail(const char *file, int line, const char *condition)
{
    (void)fprintf(stderr, "%s:%d: %s\n", file, line, condition);
    abort();
}

static void *fuzz_allocate(void *context, size_t bytes)
{
    (void)context;
    return malloc(bytes);
}

static void fuzz_release(void *context, void *memory, size_t bytes)
{
    (void)context;
    (void)bytes;
    free(memory);
}

static void *fuzz_reserve(void *context, size_t bytes)
{
    (void)context;
    if (bytes > RANGE_BYTES) {
        return NULL;
    }
    return free_range_count > 0 ? free_ranges[--free_range_count]
                                : aligned_alloc(4096, RANGE_BYTES);
}

static int fuzz_commit(void *context, void *range, size_t old_bytes, size_t new_bytes)
{
    (void)context;
    memset((uint8_t *)range + old_bytes, 0, new_bytes - old_bytes);
    return 0;
}

static void fuzz_unreserve(void *context, void *range, size_t bytes)
{
    (void)context;
    (void)bytes;
    FUZZ_CHECK(free_range_count < MOST_RANGES);
    free_ranges[free_range_count++] = range;
}

static const nphd_allocator fuzz_allocator = {sizeof(nphd_allocator), NULL,         fuzz_allocate,
                                              fuzz_release,           fuzz_reserve, fuzz_commit,
                                              fuzz_unreserve};

nphd_index *fuzz_create(const nphd_index_options *options)
{
    nphd_index_options mine = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;

    if (options != NULL) {
        mine = *options;
    }
    mine.allocator = &fuzz_allocator;
    FUZZ_CHECK(nphd_index_create(&mine, &index, NULL) == NPHD_OK);
    return index;
}

static void check_status(nphd_status status, bool checked)
{
    FUZZ_CHECK(status == NPHD_OK || status == NPHD_NOT_FOUND || status == NPHD_TOO_SMALL ||
               (status == NPHD_CORRUPT && !checked));
}

static void use_lookups(nphd_index *index, const nphd_key *keys, size_t count, bool checked)
{
    const size_t most = nphd_index_max_bytes(index);
    uint8_t *data = malloc(4 * most);
    size_t lengths[4];
    bool some[4];
    size_t found = 0;
    bool there = false;

    FUZZ_CHECK(data != NULL && count <= 4);
    for (size_t i = 0; i < count; i++) {
        check_status(nphd_index_contains(index, keys[i], &there, NULL), checked);
        check_status(nphd_index_count(index, keys[i], &found, NULL), checked);
        check_status(nphd_index_get(index, keys[i], data, most, &found, NULL), checked);
        check_status(nphd_index_get_all(index, keys[i], data, lengths, 4, &found, NULL), checked);
    }
    check_status(nphd_index_get_many(index, keys, count, data, lengths, NULL), checked);
    check_status(nphd_index_contains_many(index, keys, count, some, NULL), checked);
    free(data);
}

static void use_searches(nphd_index *index, bool checked, bool hamming)
{
    static const uint8_t bits[NPHD_MAX_BYTES] = {0x5a, 0xff, 0, 0x81};
    const size_t most = nphd_index_max_bytes(index);
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
    nphd_match found[5];
    nphd_search_report report;

    for (unsigned kind = 0; kind < 4; kind++) {
        const nphd_vector query = {bits, hamming || kind % 2 == 0 ? most : 1};
        options.mode = kind < 2 ? NPHD_SEARCH_EXACT : NPHD_SEARCH_APPROXIMATE;
        options.use_radius = kind == 1;
        options.radius = 0.25F;
        const nphd_status status =
            nphd_index_search(index, query, 5, &options, found, &report, NULL);
        check_status(status, checked);
        FUZZ_CHECK(report.count <= (status == NPHD_OK ? 5U : 0U));
    }
}

/* Returns up to four keys that are there. */
static size_t use_cursor(nphd_index *index, uint64_t slots, bool checked, nphd_key out[4])
{
    nphd_cursor cursor = nphd_index_cursor(index);
    uint8_t *data = malloc(nphd_index_max_bytes(index));
    nphd_key key;
    size_t bytes = 0;
    uint64_t met = 0;
    size_t count = 0;
    nphd_status status;

    FUZZ_CHECK(data != NULL);
    do {
        status = nphd_cursor_next(&cursor, &key, data, &bytes, NULL);
        check_status(status, checked);
        if (status == NPHD_OK && count < 4) {
            out[count++] = key;
        }
        FUZZ_CHECK(met++ <= slots + 1);
    } while (status == NPHD_OK);
    free(data);
    return count;
}

/* Whatever it comes from, what is saved can be loaded. */
static void use_save(nphd_index *index, bool checked)
{
    size_t bytes = 0;
    const nphd_status sized = nphd_index_save_buffer(index, NULL, 0, &bytes, NULL);

    check_status(sized, checked);
    if (sized != NPHD_OK) {
        return;
    }
    uint8_t *data = malloc(bytes);
    FUZZ_CHECK(data != NULL);
    const nphd_status status = nphd_index_save_buffer(index, data, bytes, &bytes, NULL);
    check_status(status, checked);
    if (status == NPHD_OK) {
        nphd_index *other = fuzz_create(NULL);
        FUZZ_CHECK(nphd_index_load_buffer(other, data, bytes, NULL, NULL) == NPHD_OK);
        nphd_index_close(other);
    }
    free(data);
}

static void change_status(nphd_status status)
{
    FUZZ_CHECK(status == NPHD_OK || status == NPHD_EXISTS || status == NPHD_NOT_FOUND ||
               status == NPHD_UNSUPPORTED || status == NPHD_READ_ONLY || status == NPHD_FULL);
}

/* Replaces, renames, removes and adds, in slots that the file said to be free too. */
static void use_changes(nphd_index *index, const nphd_key *keys, size_t count)
{
    static const uint8_t bits[NPHD_MAX_BYTES] = {0x81, 0x5a};
    const nphd_vector vector = {bits, nphd_index_max_bytes(index)};
    bool done = false;

    for (size_t i = 0; i < count; i++) {
        change_status(nphd_index_rename(index, keys[i], nphd_key_u64(1000 + i), NULL));
        change_status(nphd_index_upsert(index, &keys[i], &vector, 1, NULL, NULL, NULL));
        change_status(nphd_index_remove(index, &keys[i], 1, NULL, NULL));
        change_status(nphd_index_add(index, nphd_key_u64(2000 + i), vector, &done, NULL));
        change_status(nphd_index_upsert(index, &keys[0], &vector, 1, NULL, NULL, NULL));
    }
}

void fuzz_use(nphd_index *index, bool checked)
{
    nphd_index_stats stats = NPHD_INDEX_STATS_INIT;
    uint64_t edges = 0;
    nphd_key keys[4] = {{0, 0}, {0, 1}, {1, 2}, {0, UINT64_MAX}};
    nphd_index *copy = NULL;
    size_t count = 0;
    const nphd_status status = nphd_index_get_stats(index, &stats, NULL);

    check_status(status, checked);
    check_status(nphd_index_count_edges(index, &edges, NULL), checked);
    use_lookups(index, keys, 4, checked);
    if (status == NPHD_OK) {
        count = use_cursor(index, stats.slots, checked, keys);
        use_lookups(index, keys, count, checked);
        use_searches(index, checked, stats.metric == NPHD_METRIC_HAMMING);
    }
    check_status(nphd_index_copy(index, &copy, NULL), checked);
    nphd_index_close(copy);
    use_save(index, checked);
    if (checked) {
        use_changes(index, keys, count);
        use_searches(index, true, stats.metric == NPHD_METRIC_HAMMING);
        use_save(index, true);
    }
}

static bool check_opened(nphd_status status)
{
    /* FULL: more than the small ranges of this allocator hold */
    FUZZ_CHECK(status == NPHD_OK || status == NPHD_CORRUPT || status == NPHD_UNSUPPORTED ||
               status == NPHD_MISMATCH || status == NPHD_FULL);
    return status == NPHD_OK;
}

void fuzz_open(const uint8_t *data, size_t bytes)
{
    uint8_t *exact = malloc(bytes > 0 ? bytes : 1);
    nphd_index *index = fuzz_create(NULL);
    nphd_open_options options = NPHD_OPEN_OPTIONS_INIT;
    nphd_metadata metadata = NPHD_METADATA_INIT;

    FUZZ_CHECK(exact != NULL);
    memcpy(exact, data, bytes);
    (void)check_opened(nphd_buffer_metadata(exact, bytes, &metadata, NULL));
    for (unsigned kind = 0; kind < 4; kind++) {
        options.legacy_nphd = kind == 3;
        options.verify = kind == 1;
        if (kind == 2) { /* the fewest checks before */
            if (check_opened(nphd_index_view_buffer(index, exact, bytes, NULL, NULL))) {
                fuzz_use(index, false);
            }
        } else if (kind == 1) {
            if (check_opened(nphd_index_view_buffer(index, exact, bytes, &options, NULL))) {
                fuzz_use(index, true);
            }
        } else if (check_opened(nphd_index_load_buffer(index, exact, bytes, &options, NULL))) {
            fuzz_use(index, true);
        }
        FUZZ_CHECK(nphd_index_reset(index, NULL) == NPHD_OK);
    }
    nphd_index_close(index);
    free(exact);
}
