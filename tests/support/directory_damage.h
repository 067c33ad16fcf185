/* Directories of several saves, and damage to their files behind checksums that are right. */
#ifndef DIRECTORY_DAMAGE_H
#define DIRECTORY_DAMAGE_H

#include "base/hash.h"
#include "formats/shard_record.h"
#include "formats/usearch_format.h"
#include "index/index_internal.h"
#include "index/index_shard.h"
#include "support/directory_lab.h"
#include "support/trailer_repair.h"

#include <stdlib.h>

/* Four shards of ten keys each, the last one active, with deletions and a replacement; saved once
 * or, so that there was a tombstone file before, twice. */
static inline void damage_make_saves(dirlab *lab, bool twice)
{
    const nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    for (uint64_t shard = 0; shard < 3; shard++) {
        dirlab_add(lab, sharded, 10 * shard, 10 * shard + 10);
        assert_int_equal(nphd_sharded_rotate(sharded, NULL), NPHD_OK);
    }
    dirlab_add(lab, sharded, 30, 40);
    dirlab_upsert(lab, sharded, 21, 1);
    dirlab_remove(lab, sharded, 2);
    dirlab_remove(lab, sharded, 13);
    assert_int_equal(nphd_sharded_save(sharded, NULL, NULL), NPHD_OK);
    if (twice) {
        dirlab_remove(lab, sharded, 14);
    }
    dirlab_close(sharded);
    assert_true(dirlab_exists(lab, "shard_003.usearch"));
    assert_true(dirlab_exists(lab, "tombstones.npy"));
}

/* A file whose bytes may be changed until damage_end(). */
typedef struct damage_file {
    const char *name;
    uint8_t *data;
    size_t bytes;
    trailer_places places;
} damage_file;

static inline damage_file damage_begin(const dirlab *lab, const char *name)
{
    damage_file file;

    memset(&file, 0, sizeof(file));
    file.name = name;
    file.data = memory_io_get(lab->disk, dirlab_path(name), &file.bytes);
    assert_non_null(file.data);
    assert_true(trailer_places_find(file.data, file.bytes, &file.places));
    return file;
}

/* Makes the checksums right and puts the file in place. */
static inline void damage_end(dirlab *lab, damage_file *file)
{
    trailer_repair(file->data, &file->places);
    dirlab_put(lab, file->name, file->data, file->bytes);
    free(file->data);
}

/* The entry of a section in the directory of the trailer: id, flags, offset and size. */
static inline uint8_t *damage_entry(const damage_file *file, uint32_t id)
{
    uint8_t *entry = file->data + file->places.directory_offset;

    for (entry += NPHDI_TRAILER_DIRECTORY_HEAD_BYTES;
         entry < file->data + file->places.footer_offset; entry += NPHDI_TRAILER_SECTION_BYTES) {
        if (nphdi_get32(entry) == id) {
            return entry;
        }
    }
    fail_msg("%s: there is no section %u", file->name, id);
    return NULL;
}

#define DAMAGE_ENTRY_OFFSET 8
#define DAMAGE_ENTRY_BYTES 16

static inline uint8_t *damage_section(const damage_file *file, uint32_t id)
{
    return file->data + nphdi_get64(damage_entry(file, id) + DAMAGE_ENTRY_OFFSET);
}

static inline void damage_resize(dirlab *lab, const char *name, uint32_t id, int64_t by)
{
    damage_file file = damage_begin(lab, name);
    uint8_t *size = damage_entry(&file, id) + DAMAGE_ENTRY_BYTES;

    nphdi_put64(size, nphdi_get64(size) + (uint64_t)by);
    damage_end(lab, &file);
}

/* A file that a later version wrote. */
static inline void damage_version(dirlab *lab, const char *name)
{
    damage_file file = damage_begin(lab, name);

    nphdi_put32(file.data + file.places.footer_offset + 8, 2);
    damage_end(lab, &file);
}

static inline nphd_index *damage_view(const damage_file *file)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;

    assert_int_equal(nphd_index_create(&options, &index, NULL), NPHD_OK);
    assert_int_equal(nphd_index_view_buffer(index, file->data, file->bytes, NULL, NULL), NPHD_OK);
    return index;
}

/* A stored slot of a shard whose node has the key of a free one. */
static inline void damage_key(dirlab *lab, const char *name, uint32_t slot)
{
    damage_file file = damage_begin(lab, name);
    nphd_index *index = damage_view(&file);
    const uint8_t *node = NULL;
    uint32_t level;

    assert_true(nphdi_mapped_node(&index->content->mapped, slot, &node, &level));
    nphdi_usearch_put_key(file.data + (node - file.data), 8, nphdi_free_key(8));
    nphd_index_close(index);
    damage_end(lab, &file);
}

/* An entry for that key in a shard's key table, of a slot that is not there. */
static inline void damage_table(dirlab *lab, const char *name, uint64_t key)
{
    damage_file file = damage_begin(lab, name);
    nphd_index *index = damage_view(&file);
    const nphdi_slot_table *table = &index->content->mapped.trailer_table;
    const uint64_t hash = nphdi_hash_key(nphd_key_u64(key), 8);
    const uint32_t slot = (1U << table->slot_bits) - 1;

    assert_true(slot >= nphdi_index_slots(index));
    nphdi_put32(file.data + (table->places - file.data) +
                    4 * nphdi_hash_to_range(hash, table->room),
                nphdi_slot_table_entry(table->slot_bits, hash, slot));
    nphd_index_close(index);
    damage_end(lab, &file);
}

#endif
