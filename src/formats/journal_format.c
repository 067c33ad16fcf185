#include "formats/journal_format.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "formats/usearch_format.h"

#include <string.h>

#define JOURNAL_VERSION 1

/* The checksum of the head stands behind all else. */
#define HEAD_CHECKED (NPHDI_JOURNAL_HEAD_BYTES - 8)

static const uint8_t head_mark[8] = {'n', 'p', 'h', 'd', 'J', 'N', 'L', '\n'};
static const uint8_t frame_mark[8] = {'n', 'p', 'h', 'd', 'F', 'R', 'M', '\n'};

void nphdi_journal_encode_head(const nphdi_journal_head *head,
                               uint8_t out[NPHDI_JOURNAL_HEAD_BYTES])
{
    memset(out, 0, NPHDI_JOURNAL_HEAD_BYTES);
    memcpy(out, head_mark, sizeof(head_mark));
    nphdi_put32(out + 8, JOURNAL_VERSION);
    nphdi_put32(out + 12, head->key_bytes);
    memcpy(out + 16, head->identity, 16);
    nphdi_put64(out + 32, head->base);
    nphdi_put64(out + 40, head->sequence);
    nphdi_put64(out + 48, head->before);
    nphdi_put64(out + 56, head->before_bytes);
    nphdi_put32(out + 64, head->payload_bytes);
    nphdi_put64(out + 72, head->before_base);
    nphdi_put64(out + HEAD_CHECKED, nphdi_hash_bytes(out, HEAD_CHECKED));
}

nphd_status nphdi_journal_decode_head(const char *name,
                                      const uint8_t bytes[NPHDI_JOURNAL_HEAD_BYTES],
                                      nphdi_journal_head *out, nphd_error *err)
{
    memset(out, 0, sizeof(*out));
    if (memcmp(bytes, head_mark, sizeof(head_mark)) != 0 ||
        nphdi_get64(bytes + HEAD_CHECKED) != nphdi_hash_bytes(bytes, HEAD_CHECKED)) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: the head of the journal is damaged", name);
    }
    if (nphdi_get32(bytes + 8) != JOURNAL_VERSION) {
        return nphdi_fail(err, NPHD_UNSUPPORTED, "%s: a journal of version %u; this is %u", name,
                          nphdi_get32(bytes + 8), JOURNAL_VERSION);
    }
    out->key_bytes = nphdi_get32(bytes + 12);
    memcpy(out->identity, bytes + 16, 16);
    out->base = nphdi_get64(bytes + 32);
    out->sequence = nphdi_get64(bytes + 40);
    out->before = nphdi_get64(bytes + 48);
    out->before_bytes = nphdi_get64(bytes + 56);
    out->payload_bytes = nphdi_get32(bytes + 64);
    out->before_base = nphdi_get64(bytes + 72);
    if ((out->key_bytes != 8 && out->key_bytes != 16) || out->payload_bytes == 0 ||
        out->payload_bytes > NPHD_MAX_BYTES) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: keys of %u bytes, vectors of %u", name,
                          out->key_bytes, out->payload_bytes);
    }
    return NPHD_OK;
}

void nphdi_journal_encode_frame(const nphdi_journal_frame *frame,
                                uint8_t out[NPHDI_JOURNAL_FRAME_BYTES])
{
    memcpy(out, frame_mark, sizeof(frame_mark));
    nphdi_put64(out + 8, frame->number);
    nphdi_put64(out + 16, frame->bytes);
    nphdi_put64(out + 24, frame->checksum);
    nphdi_put64(out + 32, nphdi_hash_bytes(out, 32));
}

bool nphdi_journal_decode_frame(const uint8_t bytes[NPHDI_JOURNAL_FRAME_BYTES],
                                nphdi_journal_frame *out)
{
    out->number = nphdi_get64(bytes + 8);
    out->bytes = nphdi_get64(bytes + 16);
    out->checksum = nphdi_get64(bytes + 24);
    return memcmp(bytes, frame_mark, sizeof(frame_mark)) == 0 &&
           nphdi_get64(bytes + 32) == nphdi_hash_bytes(bytes, 32);
}

/* ---- records ---- */

static bool has_key(nphdi_journal_kind kind)
{
    return kind != NPHDI_JOURNAL_RESET;
}

static bool has_vector(nphdi_journal_kind kind)
{
    return kind == NPHDI_JOURNAL_ADD || kind == NPHDI_JOURNAL_REPLACE;
}

size_t nphdi_journal_encode_record(const nphdi_journal_record *record, uint32_t key_bytes,
                                   uint8_t out[NPHDI_JOURNAL_RECORD_MOST])
{
    size_t bytes = 1;

    out[0] = (uint8_t)record->kind;
    if (has_key(record->kind)) {
        nphdi_usearch_put_key(out + bytes, key_bytes, record->key);
        bytes += key_bytes;
    }
    if (has_vector(record->kind)) {
        out[bytes++] = (uint8_t)record->vector.bytes;
        memcpy(out + bytes, record->vector.data, record->vector.bytes);
        bytes += record->vector.bytes;
    }
    return bytes;
}

nphd_status nphdi_journal_decode_record(const char *name, const nphdi_journal_head *head,
                                        const uint8_t *bytes, uint64_t count, uint64_t *offset,
                                        nphdi_journal_record *out, nphd_error *err)
{
    const uint8_t *at = bytes + *offset;
    uint64_t left = count - *offset;
    const uint64_t begin = *offset;

    memset(out, 0, sizeof(*out));
    out->kind = (nphdi_journal_kind)at[0];
    at++;
    left--;
    if (out->kind < NPHDI_JOURNAL_ADD || out->kind > NPHDI_JOURNAL_AUTOMATIC) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: a record of kind %d at %llu of a frame", name,
                          (int)out->kind, (unsigned long long)begin);
    }
    if (has_key(out->kind)) {
        if (left < head->key_bytes) {
            goto cut;
        }
        out->key = nphdi_usearch_get_key(at, head->key_bytes);
        at += head->key_bytes;
        left -= head->key_bytes;
    }
    if (has_vector(out->kind)) {
        if (left < 1 || at[0] == 0 || at[0] > head->payload_bytes || left - 1 < at[0]) {
            goto cut;
        }
        out->vector.bytes = at[0];
        out->vector.data = at + 1;
        at += 1 + out->vector.bytes;
    }
    *offset = (uint64_t)(at - bytes);
    return NPHD_OK;
cut:
    return nphdi_fail(err, NPHD_CORRUPT, "%s: the record at %llu of a frame of %llu bytes is cut",
                      name, (unsigned long long)begin, (unsigned long long)count);
}
