/* The first version of the journal: its frames and records (docs/format.md). Read for ever, no
 * longer written.
 *
 *     frame: head (40 bytes) | records, filled up with zeros to the end of a block
 *
 * A frame has one checksum, so that the last one of a file may be torn or damaged, and nobody can
 * tell; one that is followed by another was whole once. */
#ifndef NPHDI_JOURNAL_V1_H
#define NPHDI_JOURNAL_V1_H

#include "formats/journal_format.h"

#define NPHDI_JOURNAL_V1_FRAME_BYTES 40

typedef struct nphdi_journal_v1_frame {
    uint64_t number;   /* in its file, from 0 */
    uint64_t bytes;    /* of records, before filling up */
    uint64_t checksum; /* over records and zeros */
} nphdi_journal_v1_frame;

/* What the records of a frame take with the zeros behind them. */
static inline uint64_t nphdi_journal_v1_padded(uint64_t bytes)
{
    const uint64_t block = NPHDI_JOURNAL_BLOCK_BYTES;

    return (NPHDI_JOURNAL_V1_FRAME_BYTES + bytes + block - 1) / block * block -
           NPHDI_JOURNAL_V1_FRAME_BYTES;
}

/* false: these bytes are no frame head. */
bool nphdi_journal_v1_decode_frame(const uint8_t bytes[NPHDI_JOURNAL_V1_FRAME_BYTES],
                                   nphdi_journal_v1_frame *out);

/* As nphdi_journal_decode_record(), which calls it. */
nphd_status nphdi_journal_v1_decode_record(const char *name, const nphdi_journal_head *head,
                                           const uint8_t *bytes, uint64_t count, uint64_t *offset,
                                           nphdi_journal_record *out, nphd_error *err);

#endif
