/* The heads in `lock`, for tests that damage them. */
#ifndef LOCK_BYTES_H
#define LOCK_BYTES_H

#include "base/bytes.h"
#include "base/hash.h"
#include "sharded/lock_file.h"

#include <string.h>

#define LOCK_HEAD_FIELDS_AT 16 /* identity and four numbers; before them mark and version */
#define LOCK_HEAD_FIELDS_BYTES 48
#define LOCK_HEAD_CHECKSUM_AT (NPHDI_LOCK_HEAD_SLOT_BYTES - 8)

/* Makes the checksums right again of the slots that were ever written. */
static inline void lock_repair(uint8_t *data, size_t bytes)
{
    for (size_t at = 0; at + NPHDI_LOCK_HEAD_SLOT_BYTES <= bytes && at < NPHDI_LOCK_HEAD_BYTES;
         at += NPHDI_LOCK_HEAD_SLOT_STEP) {
        if (memcmp(data + at, "NPHDHEAD", 8) == 0) {
            nphdi_put64(data + at + LOCK_HEAD_CHECKSUM_AT,
                        nphdi_hash_bytes(data + at, LOCK_HEAD_CHECKSUM_AT));
        }
    }
}

#endif
