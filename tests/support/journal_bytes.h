/* Bytes of journals that the library does not write: those of version 1, and changed ones whose
 * checksums are made right again. */
#ifndef TEST_JOURNAL_BYTES_H
#define TEST_JOURNAL_BYTES_H

#include "base/bytes.h"
#include "base/hash.h"
#include "formats/journal_v1.h"
#include "formats/usearch_format.h"

#include <string.h>

/* ---- version 1 ---- */

static inline size_t journal_v1_put_record(const nphdi_journal_record *record, uint32_t key_bytes,
                                           uint8_t *out)
{
    size_t bytes = 0;

    out[bytes++] = (uint8_t)record->kind;
    if (record->kind != NPHDI_JOURNAL_RESET) {
        nphdi_usearch_put_key(out + bytes, key_bytes, record->key);
        bytes += key_bytes;
    }
    if (record->kind == NPHDI_JOURNAL_ADD || record->kind == NPHDI_JOURNAL_REPLACE) {
        out[bytes++] = (uint8_t)record->vector.bytes;
        memcpy(out + bytes, record->vector.data, record->vector.bytes);
        bytes += record->vector.bytes;
    }
    return bytes;
}

/* `frame` has the records behind its head, and room for zeros; returns the bytes of all. */
static inline size_t journal_v1_seal_frame(uint64_t number, uint64_t bytes, uint8_t *frame)
{
    const size_t padded = (size_t)nphdi_journal_v1_padded(bytes);

    memset(frame + NPHDI_JOURNAL_V1_FRAME_BYTES + bytes, 0, padded - (size_t)bytes);
    memcpy(frame, "nphdFRM\n", 8);
    nphdi_put64(frame + 8, number);
    nphdi_put64(frame + 16, bytes);
    nphdi_put64(frame + 24, nphdi_hash_bytes(frame + NPHDI_JOURNAL_V1_FRAME_BYTES, padded));
    nphdi_put64(frame + 32, nphdi_hash_bytes(frame, 32));
    return NPHDI_JOURNAL_V1_FRAME_BYTES + padded;
}

/* ---- repaired checksums ---- */

static inline void journal_repair_head(uint8_t *head)
{
    nphdi_put64(head + NPHDI_JOURNAL_HEAD_BYTES - 8,
                nphdi_hash_bytes(head, NPHDI_JOURNAL_HEAD_BYTES - 8));
}

/* Of one sector of a file of version 2, as docs/format.md says, in other words than the library. */
static inline void journal_repair_sector(const uint8_t *head, uint64_t offset, uint8_t *sector)
{
    uint8_t all[24];

    nphdi_put64(all, nphdi_hash_bytes(sector, NPHDI_JOURNAL_SECTOR_BYTES - 8));
    memcpy(all + 8, head + NPHDI_JOURNAL_HEAD_BYTES - 8, 8);
    nphdi_put64(all + 16, offset);
    nphdi_put64(sector + NPHDI_JOURNAL_SECTOR_BYTES - 8, nphdi_hash_bytes(all, sizeof(all)));
}

/* Of a whole file, or of the head and the first frame if that is of version 1. */
static inline void journal_repair(uint8_t *data, size_t bytes)
{
    uint8_t *frame = data + NPHDI_JOURNAL_HEAD_BYTES;

    if (bytes < 2 * NPHDI_JOURNAL_BLOCK_BYTES) {
        return;
    }
    journal_repair_head(data);
    if (nphdi_get32(data + 8) == 1) {
        nphdi_put64(frame + 24,
                    nphdi_hash_bytes(frame + NPHDI_JOURNAL_V1_FRAME_BYTES,
                                     NPHDI_JOURNAL_BLOCK_BYTES - NPHDI_JOURNAL_V1_FRAME_BYTES));
        nphdi_put64(frame + 32, nphdi_hash_bytes(frame, 32));
        return;
    }
    for (size_t at = NPHDI_JOURNAL_HEAD_BYTES; at + NPHDI_JOURNAL_SECTOR_BYTES <= bytes;
         at += NPHDI_JOURNAL_SECTOR_BYTES) {
        journal_repair_sector(data, at, data + at);
    }
}

#endif
