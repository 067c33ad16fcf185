/* A reader by the rules of the reference: shards newest to oldest, the newest copy of a key counts,
 * tombstones hide in all shards but the last. It reads no byte of our trailers. */
#include "base/bytes.h"
#include "bloom_bytes.h"
#include "directory_lab.h"

#include <stdio.h>
#include <stdlib.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

enum { MOST_SHARDS = 512 };

typedef struct reference_reader {
    dirlab *lab;
    uint32_t numbers[MOST_SHARDS];
    size_t count;
    bool overlap_file; /* tombstones.npy is there */
    nphd_key *tombstones;
    size_t tombstone_count;
    nphdi_bloom *bloom;
    uint32_t key_bytes;
    dirlab_items seen; /* in newer shards */
    size_t hidden;     /* entries that this reader leaves out */
} reference_reader;

static int visit_name(void *context, const char *name)
{
    reference_reader *reader = context;
    const size_t bytes = strlen(name);

    if (strncmp(name, "shard_", 6) == 0 && bytes > 8 && strcmp(name + bytes - 8, ".usearch") == 0 &&
        reader->count < MOST_SHARDS) {
        reader->numbers[reader->count++] = (uint32_t)strtoul(name + 6, NULL, 10);
    }
    return 0;
}

static int compare_numbers(const void *left, const void *right)
{
    const uint32_t a = *(const uint32_t *)left;
    const uint32_t b = *(const uint32_t *)right;

    return a < b ? -1 : a > b;
}

static void read_tombstones(reference_reader *reader)
{
    size_t bytes = 0;
    uint8_t *data = dirlab_take_foreign(reader->lab, "tombstones.npy", &bytes);

    if (data == NULL) {
        return;
    }
    reader->overlap_file = true;
    assert_true(bytes >= 10 && memcmp(data, "\x93NUMPY\x01\x00", 8) == 0);
    const size_t head = 10 + data[8] + 256 * (size_t)data[9];
    assert_true(bytes >= head && data[head - 1] == '\n');
    char text[256] = {0};
    memcpy(text, data + 10, head - 11 < sizeof(text) - 1 ? head - 11 : sizeof(text) - 1);
    reader->key_bytes = strstr(text, "'<u8'") != NULL ? 8 : 16;
    assert_true(reader->key_bytes == 8 || strstr(text, "'|V16'") != NULL);
    const char *shape = strstr(text, "'shape': (");
    assert_non_null(shape);
    reader->tombstone_count = strtoul(shape + 10, NULL, 10);
    assert_int_equal(bytes - head, reader->tombstone_count * reader->key_bytes);
    reader->tombstones = calloc(reader->tombstone_count + 1, sizeof(nphd_key));
    assert_non_null(reader->tombstones);
    for (size_t i = 0; i < reader->tombstone_count; i++) {
        const uint8_t *octets = data + head + i * reader->key_bytes;
        reader->tombstones[i] = reader->key_bytes == 16 ? nphd_key_from_octets(octets)
                                                        : nphd_key_u64(nphdi_get64(octets));
        if (i > 0) {
            assert_int_equal(nphd_key_compare(reader->tombstones[i - 1], reader->tombstones[i]),
                             -1);
        }
    }
    free(data);
}

static void read_bloom(reference_reader *reader, uint32_t key_bits)
{
    bloom_bytes file;

    memset(&file, 0, sizeof(file));
    file.data = dirlab_take_foreign(reader->lab, "bloom.isbf", &file.bytes);
    if (file.data != NULL) {
        OK(bloom_bytes_read(&file, &reader->lab->allocator.table, key_bits / 8, &reader->bloom,
                            NULL));
    }
    bloom_bytes_free(&file);
}

static bool is_tombstone(const reference_reader *reader, nphd_key key)
{
    for (size_t i = 0; i < reader->tombstone_count; i++) {
        if (nphd_key_compare(reader->tombstones[i], key) == 0) {
            return true;
        }
    }
    return false;
}

static void read_entries(reference_reader *reader, nphd_index *index, bool last)
{
    nphd_cursor cursor = nphd_index_cursor(index);
    nphd_key key;
    uint8_t data[NPHD_MAX_BYTES];
    size_t bytes = 0;

    while (nphd_cursor_next(&cursor, &key, data, &bytes, NULL) == NPHD_OK) {
        const nphd_vector vector = {data, bytes};
        if ((!last && is_tombstone(reader, key)) || dirlab_find(&reader->seen, key) != NULL) {
            reader->hidden++;
            continue;
        }
        const dirlab_item *item = dirlab_find(&reader->lab->items, key);
        if (item == NULL) {
            fail_msg("the reference would find key %llu", (unsigned long long)key.low);
        }
        assert_int_equal(item->bytes, bytes);
        assert_memory_equal(item->data, data, bytes);
        assert_true(reader->bloom == NULL || nphdi_bloom_maybe(reader->bloom, key));
        dirlab_set(&reader->seen, key, vector);
    }
}

static void read_shard(reference_reader *reader, uint32_t number, bool last)
{
    char name[64];
    size_t bytes = 0;
    nphd_index *index = NULL;
    nphd_index_stats stats = NPHD_INDEX_STATS_INIT;

    (void)snprintf(name, sizeof(name), "shard_%03u.usearch", number);
    uint8_t *data = dirlab_take_foreign(reader->lab, name, &bytes);
    assert_non_null(data);
    OK(nphd_index_create(NULL, &index, NULL));
    OK(nphd_index_load_buffer(index, data, bytes, NULL, NULL));
    free(data);
    OK(nphd_index_get_stats(index, &stats, NULL));
    if (last) {
        read_bloom(reader, stats.key_bits);
    }
    read_entries(reader, index, last);
    nphd_index_close(index);
}

void dirlab_expect_reference(dirlab *lab)
{
    const nphd_io *io = memory_io_table(lab->disk);
    reference_reader *reader = calloc(1, sizeof(*reader));

    assert_non_null(reader);
    reader->lab = lab;
    assert_int_equal(io->list(io->context, DIRLAB_FOLDER, visit_name, reader), 0);
    if (reader->count > 1) {
        qsort(reader->numbers, reader->count, sizeof(reader->numbers[0]), compare_numbers);
    }
    read_tombstones(reader);
    for (size_t i = reader->count; i > 0; i--) {
        read_shard(reader, reader->numbers[i - 1], i == reader->count);
    }
    assert_int_equal(reader->seen.count, lab->items.count);
    /* without the file the reference would not look for copies */
    assert_true(reader->hidden == 0 || reader->overlap_file);
    nphdi_bloom_close(reader->bloom);
    dirlab_items_free(&reader->seen);
    free(reader->tombstones);
    free(reader);
}
