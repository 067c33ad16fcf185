/* A journal file: the changes since a save, one frame for each commit: bytes <-> structs, no I/O
 * (docs/format.md).
 *
 *     head (one block) | frame | frame | ...
 *     frame: head (40 bytes) | records, filled up with zeros to the end of a block
 *
 * A frame counts whole or not at all. The last one may be torn; one that is damaged and followed by
 * another was whole once. Blocks are what file systems write and devices may tear: no write touches
 * one that was flushed before, so that no power cut can spoil what was committed. */
#ifndef NPHDI_JOURNAL_FORMAT_H
#define NPHDI_JOURNAL_FORMAT_H

#include <nphd/status.h>
#include <nphd/vector.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NPHDI_JOURNAL_BLOCK_BYTES 4096
#define NPHDI_JOURNAL_HEAD_BYTES NPHDI_JOURNAL_BLOCK_BYTES
#define NPHDI_JOURNAL_FRAME_BYTES 40

typedef struct nphdi_journal_head {
    uint8_t identity[16];  /* of the index */
    uint64_t base;         /* generation of the shards that it continues */
    uint64_t sequence;     /* of the journals of this index, ascending */
    uint64_t before;       /* the sequence of the journal that it continues; 0: none */
    uint64_t before_bytes; /* how much of that one counts */
    uint64_t before_base;  /* and what it continues */
    uint32_t key_bytes;
    uint32_t payload_bytes; /* the widest vector */
} nphdi_journal_head;

void nphdi_journal_encode_head(const nphdi_journal_head *head,
                               uint8_t out[NPHDI_JOURNAL_HEAD_BYTES]);
/* Errors: NPHD_CORRUPT, NPHD_UNSUPPORTED (a later version). */
nphd_status nphdi_journal_decode_head(const char *name,
                                      const uint8_t bytes[NPHDI_JOURNAL_HEAD_BYTES],
                                      nphdi_journal_head *out, nphd_error *err);

typedef struct nphdi_journal_frame {
    uint64_t number;   /* in its file, from 0 */
    uint64_t bytes;    /* of records, before filling up */
    uint64_t checksum; /* over records and zeros */
} nphdi_journal_frame;

/* What the records of a frame take with the zeros behind them. */
static inline uint64_t nphdi_journal_padded(uint64_t bytes)
{
    const uint64_t block = NPHDI_JOURNAL_BLOCK_BYTES;

    return (NPHDI_JOURNAL_FRAME_BYTES + bytes + block - 1) / block * block -
           NPHDI_JOURNAL_FRAME_BYTES;
}

void nphdi_journal_encode_frame(const nphdi_journal_frame *frame,
                                uint8_t out[NPHDI_JOURNAL_FRAME_BYTES]);
/* false: these bytes are no frame head. */
bool nphdi_journal_decode_frame(const uint8_t bytes[NPHDI_JOURNAL_FRAME_BYTES],
                                nphdi_journal_frame *out);

/* ---- records ---- */

typedef enum nphdi_journal_kind {
    NPHDI_JOURNAL_ADD = 1,     /* key and vector */
    NPHDI_JOURNAL_REPLACE = 2, /* key and vector */
    NPHDI_JOURNAL_REMOVE = 3,  /* key */
    NPHDI_JOURNAL_RESET = 4,
    NPHDI_JOURNAL_AUTOMATIC = 5 /* key.low: the next automatic key */
} nphdi_journal_kind;

typedef struct nphdi_journal_record {
    nphdi_journal_kind kind;
    nphd_key key;
    nphd_vector vector;
} nphdi_journal_record;

/* The most that one record takes. */
#define NPHDI_JOURNAL_RECORD_MOST (1 + 16 + 1 + NPHD_MAX_BYTES)

/* Returns the bytes written. */
size_t nphdi_journal_encode_record(const nphdi_journal_record *record, uint32_t key_bytes,
                                   uint8_t out[NPHDI_JOURNAL_RECORD_MOST]);
/* The record at *offset, which moves behind it; its vector points into `bytes`. Errors:
 * NPHD_CORRUPT. */
nphd_status nphdi_journal_decode_record(const char *name, const nphdi_journal_head *head,
                                        const uint8_t *bytes, uint64_t count, uint64_t *offset,
                                        nphdi_journal_record *out, nphd_error *err);

#endif
