/* What the files of a sharded index say of each other, in sections of their trailers: bytes <->
 * structs, no I/O (docs/format.md).
 *
 * A shard's record lists the shards of the generation in which it was written, itself included;
 * the record with the highest generation is the state of the directory. */
#ifndef NPHDI_SHARD_RECORD_H
#define NPHDI_SHARD_RECORD_H

#include <nphd/status.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    NPHDI_SECTION_SHARDS = 5,     /* in a shard: the record */
    NPHDI_SECTION_TOMBSTONES = 6, /* in a shard: the keys of the tombstone file, as in it */
    NPHDI_SECTION_HIDDEN = 7,     /* in the tombstone file: dead entries of each shard, as bits */
    NPHDI_SECTION_FILTER = 8,     /* in the bloom filter: since which generation it is right */
    NPHDI_SECTION_GROUP = 9       /* in a shard: which of 16 shards may have a key */
};

#define NPHDI_RECORD_HEAD_BYTES 16
#define NPHDI_RECORD_SHARD_BYTES 16
#define NPHDI_RECORD_TOMBSTONES 1U        /* a tombstone file follows with this generation */
#define NPHDI_RECORD_TOMBSTONES_BEFORE 2U /* there was one before */

typedef struct nphdi_record_shard {
    uint32_t number;
    uint64_t generation;
} nphdi_record_shard;

static inline uint64_t nphdi_record_bytes(uint64_t shards)
{
    return NPHDI_RECORD_HEAD_BYTES + shards * NPHDI_RECORD_SHARD_BYTES;
}

void nphdi_record_encode(uint32_t flags, const nphdi_record_shard *shards, uint32_t count,
                         uint8_t *out);
/* Errors: NPHD_CORRUPT unless the size fits and the numbers ascend. */
nphd_status nphdi_record_decode_head(const char *name, const uint8_t *record, uint64_t bytes,
                                     uint32_t *out_flags, uint32_t *out_count, nphd_error *err);
nphdi_record_shard nphdi_record_shard_at(const uint8_t *record, uint32_t place);

/* One shard's dead entries: a head, then a bit for each slot in u64 words. */
#define NPHDI_HIDDEN_HEAD_BYTES 24

typedef struct nphdi_hidden_head {
    uint32_t number;
    uint64_t generation; /* of the shard file that the bits belong to */
    uint64_t slots;
} nphdi_hidden_head;

static inline uint64_t nphdi_hidden_bytes(uint64_t slots)
{
    return NPHDI_HIDDEN_HEAD_BYTES + (slots + 63) / 64 * 8;
}

void nphdi_hidden_encode_head(const nphdi_hidden_head *head, uint8_t out[NPHDI_HIDDEN_HEAD_BYTES]);
/* The head at `offset` of a section; its bits follow it. Errors: NPHD_CORRUPT when they do not fit
 * in. */
nphd_status nphdi_hidden_decode_head(const char *name, const uint8_t *section, uint64_t bytes,
                                     uint64_t offset, nphdi_hidden_head *out, nphd_error *err);

#define NPHDI_FILTER_SECTION_BYTES 16

/* The filter knows every key of generation `valid_from` and later ones. `over_reference`: when it
 * was written, the shards were still those that the reference had saved. */
void nphdi_filter_section_encode(uint64_t valid_from, bool over_reference,
                                 uint8_t out[NPHDI_FILTER_SECTION_BYTES]);
uint64_t nphdi_filter_section_decode(const uint8_t section[NPHDI_FILTER_SECTION_BYTES]);
bool nphdi_filter_section_over_reference(const uint8_t section[NPHDI_FILTER_SECTION_BYTES]);

/* The filter of a group of shards: a head, padding, then lines of 64 bytes. */
#define NPHDI_GROUP_SHARDS 16
#define NPHDI_GROUP_LINE_BYTES 64
#define NPHDI_GROUP_HEAD_BYTES (32 + NPHDI_GROUP_SHARDS * NPHDI_RECORD_SHARD_BYTES)

typedef struct nphdi_group_head {
    uint32_t rows;    /* of a key */
    uint32_t padding; /* bytes before the first line, so that lines are those of the cache */
    uint64_t lines;
    nphdi_record_shard shards[NPHDI_GROUP_SHARDS];
} nphdi_group_head;

static inline uint64_t nphdi_group_bytes(const nphdi_group_head *head)
{
    return NPHDI_GROUP_HEAD_BYTES + head->padding + head->lines * NPHDI_GROUP_LINE_BYTES;
}

void nphdi_group_encode_head(const nphdi_group_head *head, uint8_t out[NPHDI_GROUP_HEAD_BYTES]);
/* false: not a filter that can be used; lookups are right without. The lines begin at
 * NPHDI_GROUP_HEAD_BYTES + padding. */
bool nphdi_group_decode_head(const uint8_t *section, uint64_t bytes, nphdi_group_head *out);

#endif
