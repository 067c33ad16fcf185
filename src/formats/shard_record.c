#include "formats/shard_record.h"

#include "base/bytes.h"
#include "base/error.h"

#include <string.h>

static void encode_shards(const nphdi_record_shard *shards, uint32_t count, uint8_t *out)
{
    for (uint32_t i = 0; i < count; i++) {
        nphdi_put32(out, shards[i].number);
        nphdi_put32(out + 4, 0);
        nphdi_put64(out + 8, shards[i].generation);
        out += NPHDI_RECORD_SHARD_BYTES;
    }
}

static nphdi_record_shard decode_shard(const uint8_t *at)
{
    const nphdi_record_shard shard = {nphdi_get32(at), nphdi_get64(at + 8)};

    return shard;
}

void nphdi_record_encode(uint32_t flags, const nphdi_record_shard *shards, uint32_t count,
                         uint8_t *out)
{
    memset(out, 0, NPHDI_RECORD_HEAD_BYTES);
    nphdi_put32(out, flags);
    nphdi_put32(out + 4, count);
    encode_shards(shards, count, out + NPHDI_RECORD_HEAD_BYTES);
}

nphd_status nphdi_record_decode_head(const char *name, const uint8_t *record, uint64_t bytes,
                                     uint32_t *out_flags, uint32_t *out_count, nphd_error *err)
{
    uint32_t count;

    *out_flags = 0;
    *out_count = 0;
    if (bytes < NPHDI_RECORD_HEAD_BYTES) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: trailer: the record of shards has %llu bytes",
                          name, (unsigned long long)bytes);
    }
    count = nphdi_get32(record + 4);
    if (bytes != nphdi_record_bytes(count)) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: trailer: the record of %u shards has %llu bytes",
                          name, count, (unsigned long long)bytes);
    }
    for (uint32_t i = 1; i < count; i++) {
        if (nphdi_record_shard_at(record, i - 1).number >=
            nphdi_record_shard_at(record, i).number) {
            return nphdi_fail(err, NPHD_CORRUPT,
                              "%s: trailer: the record of shards is not in order", name);
        }
    }
    *out_flags = nphdi_get32(record);
    *out_count = count;
    return NPHD_OK;
}

nphdi_record_shard nphdi_record_shard_at(const uint8_t *record, uint32_t place)
{
    return decode_shard(record + NPHDI_RECORD_HEAD_BYTES +
                        (uint64_t)place * NPHDI_RECORD_SHARD_BYTES);
}

void nphdi_hidden_encode_head(const nphdi_hidden_head *head, uint8_t out[NPHDI_HIDDEN_HEAD_BYTES])
{
    nphdi_put32(out, head->number);
    nphdi_put32(out + 4, 0);
    nphdi_put64(out + 8, head->generation);
    nphdi_put64(out + 16, head->slots);
}

nphd_status nphdi_hidden_decode_head(const char *name, const uint8_t *section, uint64_t bytes,
                                     uint64_t offset, nphdi_hidden_head *out, nphd_error *err)
{
    memset(out, 0, sizeof(*out));
    if (offset > bytes || bytes - offset < NPHDI_HIDDEN_HEAD_BYTES) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: trailer: dead entries: cut at %llu of %llu bytes",
                          name, (unsigned long long)offset, (unsigned long long)bytes);
    }
    out->number = nphdi_get32(section + offset);
    out->generation = nphdi_get64(section + offset + 8);
    out->slots = nphdi_get64(section + offset + 16);
    if (out->slots > UINT32_MAX || nphdi_hidden_bytes(out->slots) > bytes - offset) {
        return nphdi_fail(err, NPHD_CORRUPT,
                          "%s: trailer: dead entries of shard %u: %llu slots do not fit in", name,
                          out->number, (unsigned long long)out->slots);
    }
    return NPHD_OK;
}

void nphdi_filter_section_encode(uint64_t valid_from, bool over_reference,
                                 uint8_t out[NPHDI_FILTER_SECTION_BYTES])
{
    nphdi_put64(out, valid_from);
    nphdi_put64(out + 8, over_reference ? 1 : 0);
}

uint64_t nphdi_filter_section_decode(const uint8_t section[NPHDI_FILTER_SECTION_BYTES])
{
    return nphdi_get64(section);
}

bool nphdi_filter_section_over_reference(const uint8_t section[NPHDI_FILTER_SECTION_BYTES])
{
    return (nphdi_get64(section + 8) & 1) != 0;
}

/* offsets in the head of a group's filter */
enum {
    GROUP_SHARD_COUNT = 0,
    GROUP_ROWS = 4,
    GROUP_LINES = 8,
    GROUP_PADDING = 16,
    GROUP_RESERVED = 20, /* 12 bytes of zeros */
    GROUP_SHARDS = 32
};
_Static_assert(GROUP_RESERVED + 12 == GROUP_SHARDS, "group head layout");
_Static_assert(GROUP_SHARDS + NPHDI_GROUP_SHARDS * NPHDI_RECORD_SHARD_BYTES ==
                   NPHDI_GROUP_HEAD_BYTES,
               "group head layout");

void nphdi_group_encode_head(const nphdi_group_head *head, uint8_t out[NPHDI_GROUP_HEAD_BYTES])
{
    memset(out, 0, NPHDI_GROUP_HEAD_BYTES);
    nphdi_put32(out + GROUP_SHARD_COUNT, NPHDI_GROUP_SHARDS);
    nphdi_put32(out + GROUP_ROWS, head->rows);
    nphdi_put64(out + GROUP_LINES, head->lines);
    nphdi_put32(out + GROUP_PADDING, head->padding);
    encode_shards(head->shards, NPHDI_GROUP_SHARDS, out + GROUP_SHARDS);
}

bool nphdi_group_decode_head(const uint8_t *section, uint64_t bytes, nphdi_group_head *out)
{
    uint64_t rest;

    memset(out, 0, sizeof(*out));
    if (bytes < NPHDI_GROUP_HEAD_BYTES ||
        nphdi_get32(section + GROUP_SHARD_COUNT) != NPHDI_GROUP_SHARDS) {
        return false;
    }
    out->rows = nphdi_get32(section + GROUP_ROWS);
    out->lines = nphdi_get64(section + GROUP_LINES);
    out->padding = nphdi_get32(section + GROUP_PADDING);
    for (uint32_t i = 0; i < NPHDI_GROUP_SHARDS; i++) {
        out->shards[i] = decode_shard(section + GROUP_SHARDS + i * NPHDI_RECORD_SHARD_BYTES);
    }
    rest = bytes - NPHDI_GROUP_HEAD_BYTES;
    return out->padding < NPHDI_GROUP_LINE_BYTES && rest >= out->padding && out->lines > 0 &&
           (rest - out->padding) % NPHDI_GROUP_LINE_BYTES == 0 &&
           (rest - out->padding) / NPHDI_GROUP_LINE_BYTES == out->lines;
}
