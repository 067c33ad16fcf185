#include "formats/journal_v1.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "formats/usearch_format.h"

#include <string.h>

static const uint8_t frame_mark[8] = {'n', 'p', 'h', 'd', 'F', 'R', 'M', '\n'};

bool nphdi_journal_v1_decode_frame(const uint8_t bytes[NPHDI_JOURNAL_V1_FRAME_BYTES],
                                   nphdi_journal_v1_frame *out)
{
    out->number = nphdi_get64(bytes + 8);
    out->bytes = nphdi_get64(bytes + 16);
    out->checksum = nphdi_get64(bytes + 24);
    return memcmp(bytes, frame_mark, sizeof(frame_mark)) == 0 &&
           nphdi_get64(bytes + 32) == nphdi_hash_bytes(bytes, 32);
}

nphd_status nphdi_journal_v1_decode_record(const char *name, const nphdi_journal_head *head,
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
        return nphdi_fail(err, NPHD_CORRUPT, "%s: a record of kind %d at %llu", name,
                          (int)out->kind, (unsigned long long)begin);
    }
    if (out->kind != NPHDI_JOURNAL_RESET) {
        if (left < head->key_bytes) {
            goto cut;
        }
        out->key = nphdi_usearch_get_key(at, head->key_bytes);
        at += head->key_bytes;
        left -= head->key_bytes;
    }
    if (out->kind == NPHDI_JOURNAL_ADD || out->kind == NPHDI_JOURNAL_REPLACE) {
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
    return nphdi_fail(err, NPHD_CORRUPT, "%s: the record at %llu of %llu bytes is cut", name,
                      (unsigned long long)begin, (unsigned long long)count);
}
