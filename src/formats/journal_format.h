/* A journal file: the changes since a save, one frame for each commit: bytes <-> structs, no I/O
 * (docs/format.md).
 *
 *     head (one block) | frame | frame | ...
 *     frame: whole blocks, of sectors: data (496 bytes) | frame, place in it | checksum
 *     data of a frame: start (16 bytes) | records, filled up with zeros
 *
 * A frame counts whole or not at all. Blocks are what file systems write; no write touches one that
 * was flushed before, so that no power cut can spoil what was committed. Sectors are what devices
 * write: after a power cut each one of an unflushed frame is missing, zeros, or as it was written.
 * One that is neither is damaged. Its checksum also covers the head of the file and its place in
 * the file, and the bytes of vectors never lie where it stands: no content can look like a frame.
 *
 * Version 1, which is read and no longer written, stands in journal_v1.h. */
#ifndef NPHDI_JOURNAL_FORMAT_H
#define NPHDI_JOURNAL_FORMAT_H

#include <nphd/status.h>
#include <nphd/vector.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NPHDI_JOURNAL_VERSION 2
#define NPHDI_JOURNAL_BLOCK_BYTES 4096
#define NPHDI_JOURNAL_HEAD_BYTES NPHDI_JOURNAL_BLOCK_BYTES

typedef struct nphdi_journal_head {
    uint8_t identity[16];  /* of the index */
    uint64_t base;         /* generation of the shards that it continues */
    uint64_t sequence;     /* of the journals of this index, ascending */
    uint64_t before;       /* the sequence of the journal that it continues; 0: none */
    uint64_t before_bytes; /* how much of that one counts */
    uint64_t before_base;  /* and what it continues */
    uint32_t key_bytes;
    uint32_t payload_bytes; /* the widest vector */
    uint32_t version;       /* 1 or NPHDI_JOURNAL_VERSION; the rest from version 2 on */
    uint32_t metric_code;   /* as in the head of an index file */
    uint32_t scalar_code;
    uint64_t salt;     /* random: no other journal has these sectors */
    uint64_t checksum; /* of all that; filled in by both */
} nphdi_journal_head;

void nphdi_journal_encode_head(nphdi_journal_head *head, uint8_t out[NPHDI_JOURNAL_HEAD_BYTES]);
/* Errors: NPHD_CORRUPT, NPHD_UNSUPPORTED (a later version, or one with parts that must be known).
 */
nphd_status nphdi_journal_decode_head(const char *name,
                                      const uint8_t bytes[NPHDI_JOURNAL_HEAD_BYTES],
                                      nphdi_journal_head *out, nphd_error *err);

/* ---- frames ---- */

#define NPHDI_JOURNAL_SECTOR_BYTES 512
#define NPHDI_JOURNAL_SECTOR_DATA 496
#define NPHDI_JOURNAL_START_BYTES 16

/* Records of more bytes are no frame: they would have more sectors than can be counted. */
#define NPHDI_JOURNAL_FRAME_MOST                                                                   \
    ((uint64_t)(UINT32_MAX - 8) * NPHDI_JOURNAL_SECTOR_DATA - NPHDI_JOURNAL_START_BYTES)

/* What a frame with so many bytes of records, at most NPHDI_JOURNAL_FRAME_MOST, takes in a file. */
static inline uint64_t nphdi_journal_frame_bytes(uint64_t record_bytes)
{
    const uint64_t data = NPHDI_JOURNAL_START_BYTES + record_bytes;
    const uint64_t in_block = NPHDI_JOURNAL_BLOCK_BYTES / NPHDI_JOURNAL_SECTOR_BYTES;
    const uint64_t block_data = in_block * NPHDI_JOURNAL_SECTOR_DATA;

    return (data + block_data - 1) / block_data * NPHDI_JOURNAL_BLOCK_BYTES;
}

/* Makes a frame in place: `frame` has the records, NPHDI_JOURNAL_START_BYTES from its beginning,
 * and room for all of it. `offset`: where in the file it will begin. */
void nphdi_journal_seal_frame(const nphdi_journal_head *head, uint64_t offset, uint32_t number,
                              uint64_t record_bytes, uint8_t *frame);

typedef enum nphdi_journal_state {
    NPHDI_JOURNAL_ZEROS,
    NPHDI_JOURNAL_RIGHT,
    NPHDI_JOURNAL_DAMAGED
} nphdi_journal_state;

/* What the sector at `offset` of the file is; of one that is right, which frame it belongs to and
 * which of its sectors it is. */
nphdi_journal_state nphdi_journal_look_at_sector(const nphdi_journal_head *head, uint64_t offset,
                                                 const uint8_t sector[NPHDI_JOURNAL_SECTOR_BYTES],
                                                 uint32_t *out_frame, uint32_t *out_place);

/* How many bytes of records a frame has, from its first sector, which is right. Errors:
 * NPHD_CORRUPT, NPHD_UNSUPPORTED. */
nphd_status nphdi_journal_decode_start(const char *name,
                                       const uint8_t sector[NPHDI_JOURNAL_SECTOR_BYTES],
                                       uint64_t *out_record_bytes, nphd_error *err);

/* Takes the data of `sectors` sectors together in place. */
void nphdi_journal_join_sectors(uint8_t *frame, uint64_t sectors);

/* ---- records ---- */

typedef enum nphdi_journal_kind {
    NPHDI_JOURNAL_UNKNOWN = 0, /* of a later version, which says that it may be passed over */
    NPHDI_JOURNAL_ADD = 1,     /* key and vector */
    NPHDI_JOURNAL_REPLACE = 2, /* key and vector */
    NPHDI_JOURNAL_REMOVE = 3,  /* key */
    NPHDI_JOURNAL_RESET = 4,
    NPHDI_JOURNAL_AUTOMATIC = 5, /* key.low: the next automatic key */
    NPHDI_JOURNAL_FACT = 6       /* something about the index as a whole */
} nphdi_journal_kind;

typedef struct nphdi_journal_record {
    nphdi_journal_kind kind;
    nphd_key key;
    nphd_vector vector;
    uint32_t fact;       /* which: the id of the section of the trailer that says it in a file */
    const uint8_t *data; /* and what: the bytes of that section */
    uint32_t data_bytes;
    bool must; /* a fact: who does not know it may not open the index */
} nphdi_journal_record;

/* The most that one record without a fact takes. */
#define NPHDI_JOURNAL_RECORD_MOST (6 + 16 + NPHD_MAX_BYTES)

/* What a record takes. */
size_t nphdi_journal_record_bytes(const nphdi_journal_record *record, uint32_t key_bytes);
/* Returns the same. */
size_t nphdi_journal_encode_record(const nphdi_journal_record *record, uint32_t key_bytes,
                                   uint8_t *out);
/* The record at *offset, which moves behind it; what it has points into `bytes`. After an error
 * *offset is behind it too where that is known, and else stays. Errors: NPHD_CORRUPT;
 * NPHD_UNSUPPORTED: a kind that must be understood. */
nphd_status nphdi_journal_decode_record(const char *name, const nphdi_journal_head *head,
                                        const uint8_t *bytes, uint64_t count, uint64_t *offset,
                                        nphdi_journal_record *out, nphd_error *err);

#endif
