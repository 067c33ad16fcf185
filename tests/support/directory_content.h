/* All that a sharded index holds, as a sorted list, to compare two of them or one at two times. */
#ifndef DIRECTORY_CONTENT_H
#define DIRECTORY_CONTENT_H

#include <nphd/nphd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

typedef struct content_entry {
    nphd_key key;
    size_t bytes;
    uint8_t data[NPHD_MAX_BYTES];
} content_entry;

typedef struct directory_content {
    content_entry *entries;
    size_t count;
    size_t room;
    uint64_t next_automatic_key;
} directory_content;

static inline int content_compare(const void *left, const void *right)
{
    const content_entry *a = left;
    const content_entry *b = right;
    const int keys = nphd_key_compare(a->key, b->key);

    if (keys != 0 || a->bytes != b->bytes) {
        return keys != 0 ? keys : a->bytes < b->bytes ? -1 : 1;
    }
    return memcmp(a->data, b->data, a->bytes);
}

static inline void content_free(directory_content *content)
{
    free(content->entries);
    memset(content, 0, sizeof(*content));
}

/* Takes the place of what was there. */
static inline void content_take(nphd_sharded *sharded, directory_content *out)
{
    nphd_sharded_cursor cursor = nphd_sharded_cursor_begin(sharded);
    nphd_sharded_stats stats = NPHD_SHARDED_STATS_INIT;
    nphd_status status;

    out->count = 0;
    for (;;) {
        if (out->count == out->room) {
            out->room = out->room == 0 ? 256 : 2 * out->room;
            out->entries = realloc(out->entries, out->room * sizeof(*out->entries));
            assert_non_null(out->entries);
        }
        content_entry *entry = &out->entries[out->count];
        memset(entry, 0, sizeof(*entry));
        status = nphd_sharded_cursor_next(&cursor, &entry->key, entry->data, &entry->bytes, NULL);
        if (status != NPHD_OK) {
            break;
        }
        out->count++;
    }
    assert_int_equal(status, NPHD_NOT_FOUND);
    assert_int_equal(nphd_sharded_get_stats(sharded, &stats, NULL), NPHD_OK);
    assert_int_equal(stats.size, out->count);
    out->next_automatic_key = stats.next_automatic_key;
    qsort(out->entries, out->count, sizeof(*out->entries), content_compare);
}

static inline bool content_equal(const directory_content *a, const directory_content *b)
{
    if (a->count != b->count) {
        return false;
    }
    for (size_t i = 0; i < a->count; i++) {
        if (content_compare(&a->entries[i], &b->entries[i]) != 0) {
            return false;
        }
    }
    return true;
}

static inline void content_expect(nphd_sharded *sharded, const directory_content *expected)
{
    directory_content found = {NULL, 0, 0, 0};

    content_take(sharded, &found);
    const bool equal = content_equal(&found, expected);
    const size_t count = found.count;
    content_free(&found);
    if (!equal) {
        fail_msg("%zu vectors are there, %zu were expected, or their bits differ", count,
                 expected->count);
    }
}

#endif
