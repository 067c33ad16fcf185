/* Names of shard files: `shard_007.usearch` for number 7, with more digits from 1000 on. Sorted as
 * text the longer ones stand before shorter ones, so that shards are ordered by number here. */
#include "base/error.h"
#include "sharded/sharded_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "shard_", ten digits, ".usearch" and the closing zero. */
#define NAME_ROOM 32

uint32_t nphdi_shard_number(const char *name)
{
    char expected[NAME_ROOM];
    unsigned long number;
    char *end;

    if (strncmp(name, "shard_", 6) != 0 || name[6] < '0' || name[6] > '9') {
        return NPHDI_NO_NUMBER;
    }
    number = strtoul(name + 6, &end, 10);
    if (number >= NPHDI_NO_NUMBER || strcmp(end, ".usearch") != 0) {
        return NPHDI_NO_NUMBER;
    }
    (void)snprintf(expected, sizeof(expected), "shard_%03lu.usearch", number);
    return strcmp(expected, name) == 0 ? (uint32_t)number : NPHDI_NO_NUMBER;
}

nphd_status nphdi_shard_path(const nphd_allocator *allocator, const char *directory,
                             uint32_t number, char **out, size_t *room, nphd_error *err)
{
    char name[NAME_ROOM];

    (void)snprintf(name, sizeof(name), "shard_%03u.usearch", number);
    return nphdi_path_join(allocator, directory, name, out, room, err);
}

static int compare_numbers(const void *left, const void *right)
{
    const uint32_t a = *(const uint32_t *)left;
    const uint32_t b = *(const uint32_t *)right;

    return a < b ? -1 : a > b;
}

nphd_status nphdi_shard_numbers(const nphd_allocator *allocator, const nphdi_names *names,
                                uint32_t **out, size_t *out_count, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint32_t *numbers = NULL;
    size_t count = 0;

    *out = NULL;
    *out_count = 0;
    TRY(nphdi_alloc(allocator, names->count, sizeof(*numbers), &numbers, err));
    for (size_t i = 0; i < names->count; i++) {
        const uint32_t number = nphdi_shard_number(names->names[i]);
        if (number != NPHDI_NO_NUMBER) {
            numbers[count++] = number;
        }
    }
    if (count > 1) {
        qsort(numbers, count, sizeof(*numbers), compare_numbers);
    }
    *out = numbers;
    *out_count = count;
done:
    return status;
}

bool nphdi_directory_is_data(const char *name)
{
    return nphdi_shard_number(name) != NPHDI_NO_NUMBER || strcmp(name, NPHDI_BLOOM_NAME) == 0 ||
           strcmp(name, NPHDI_TOMBSTONES_NAME) == 0;
}

/* The longest name of a shard, and more. */
#define FILE_NAME_ROOM 64

/* Ours have .tmp- and 16 digits. Nothing else that somebody keeps here is deleted. */
bool nphdi_directory_is_temporary(const char *name)
{
    const char *point = strrchr(name, '.');
    const size_t bytes = point == NULL ? 0 : (size_t)(point - name);
    char file[FILE_NAME_ROOM];
    uint64_t sequence;

    if (bytes == 0 || bytes >= sizeof(file)) {
        return false;
    }
    memcpy(file, name, bytes);
    file[bytes] = '\0';
    if (strcmp(point, ".compact") == 0) {
        return nphdi_shard_number(file) != NPHDI_NO_NUMBER;
    }
    if (strncmp(point, ".tmp-", 5) == 0) { /* those of lock and of a journal: in a snapshot */
        return (nphdi_directory_is_data(file) || strcmp(file, NPHDI_LOCK_NAME) == 0 ||
                nphdi_journal_is_name(file, &sequence)) &&
               strspn(point + 5, "0123456789abcdef") == 16 && point[21] == '\0';
    }
    return nphdi_directory_is_data(file) && strcmp(point, ".tmp") == 0;
}
