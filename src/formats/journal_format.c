#include "formats/journal_format.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "formats/journal_v1.h"
#include "formats/usearch_format.h"

#include <assert.h>
#include <string.h>

/* The checksum of the head stands behind all else. */
#define HEAD_CHECKED (NPHDI_JOURNAL_HEAD_BYTES - 8)

/* In a sector, behind its data. */
#define SECTOR_FRAME NPHDI_JOURNAL_SECTOR_DATA
#define SECTOR_PLACE (SECTOR_FRAME + 4)
#define SECTOR_CHECKED (SECTOR_PLACE + 4)

_Static_assert(SECTOR_CHECKED + 8 == NPHDI_JOURNAL_SECTOR_BYTES, "a sector ends with its checksum");

/* Of a record: kind, with the bit that says that it must be understood; bytes that follow. */
#define RECORD_HEAD_BYTES 6
#define RECORD_MUST 0x8000U

static const uint8_t head_mark[8] = {'n', 'p', 'h', 'd', 'J', 'N', 'L', '\n'};

/* ---- the head ---- */

void nphdi_journal_encode_head(nphdi_journal_head *head, uint8_t out[NPHDI_JOURNAL_HEAD_BYTES])
{
    memset(out, 0, NPHDI_JOURNAL_HEAD_BYTES);
    memcpy(out, head_mark, sizeof(head_mark));
    nphdi_put32(out + 8, head->version);
    nphdi_put32(out + 12, head->key_bytes);
    memcpy(out + 16, head->identity, 16);
    nphdi_put64(out + 32, head->base);
    nphdi_put64(out + 40, head->sequence);
    nphdi_put64(out + 48, head->before);
    nphdi_put64(out + 56, head->before_bytes);
    nphdi_put32(out + 64, head->payload_bytes);
    nphdi_put64(out + 72, head->before_base);
    if (head->version > 1) {
        nphdi_put32(out + 80, head->metric_code);
        nphdi_put32(out + 84, head->scalar_code);
        nphdi_put64(out + 88, head->salt);
    }
    head->checksum = nphdi_hash_bytes(out, HEAD_CHECKED);
    nphdi_put64(out + HEAD_CHECKED, head->checksum);
}

nphd_status nphdi_journal_decode_head(const char *name,
                                      const uint8_t bytes[NPHDI_JOURNAL_HEAD_BYTES],
                                      nphdi_journal_head *out, nphd_error *err)
{
    memset(out, 0, sizeof(*out));
    out->checksum = nphdi_get64(bytes + HEAD_CHECKED);
    if (memcmp(bytes, head_mark, sizeof(head_mark)) != 0 ||
        out->checksum != nphdi_hash_bytes(bytes, HEAD_CHECKED)) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: the head of the journal is damaged", name);
    }
    out->version = nphdi_get32(bytes + 8);
    if (out->version == 0 || out->version > NPHDI_JOURNAL_VERSION) {
        return nphdi_fail(err, NPHD_UNSUPPORTED, "%s: a journal of version %u; this is %u", name,
                          out->version, NPHDI_JOURNAL_VERSION);
    }
    out->key_bytes = nphdi_get32(bytes + 12);
    memcpy(out->identity, bytes + 16, 16);
    out->base = nphdi_get64(bytes + 32);
    out->sequence = nphdi_get64(bytes + 40);
    out->before = nphdi_get64(bytes + 48);
    out->before_bytes = nphdi_get64(bytes + 56);
    out->payload_bytes = nphdi_get32(bytes + 64);
    out->before_base = nphdi_get64(bytes + 72);
    if (out->version > 1) {
        out->metric_code = nphdi_get32(bytes + 80);
        out->scalar_code = nphdi_get32(bytes + 84);
        out->salt = nphdi_get64(bytes + 88);
        if (nphdi_get32(bytes + 68) != 0) {
            return nphdi_fail(err, NPHD_UNSUPPORTED,
                              "%s: a journal with parts %#x, which a later version knows", name,
                              nphdi_get32(bytes + 68));
        }
    }
    if ((out->key_bytes != 8 && out->key_bytes != 16) || out->payload_bytes == 0 ||
        out->payload_bytes > NPHD_MAX_BYTES) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: keys of %u bytes, vectors of %u", name,
                          out->key_bytes, out->payload_bytes);
    }
    return NPHD_OK;
}

/* ---- frames ---- */

/* Of all but itself, of the head of the file, and of the place in the file. */
static uint64_t sector_checksum(const nphdi_journal_head *head, uint64_t offset,
                                const uint8_t *sector)
{
    uint8_t all[24];

    nphdi_put64(all, nphdi_hash_bytes(sector, SECTOR_CHECKED));
    nphdi_put64(all + 8, head->checksum);
    nphdi_put64(all + 16, offset);
    return nphdi_hash_bytes(all, sizeof(all));
}

void nphdi_journal_seal_frame(const nphdi_journal_head *head, uint64_t offset, uint32_t number,
                              uint64_t record_bytes, uint8_t *frame)
{
    const uint64_t sectors = nphdi_journal_frame_bytes(record_bytes) / NPHDI_JOURNAL_SECTOR_BYTES;
    const uint64_t data = NPHDI_JOURNAL_START_BYTES + record_bytes;

    assert(record_bytes <= NPHDI_JOURNAL_FRAME_MOST);
    memset(frame, 0, NPHDI_JOURNAL_START_BYTES);
    nphdi_put64(frame, record_bytes);
    memset(frame + data, 0, sectors * NPHDI_JOURNAL_SECTOR_DATA - data);
    /* the last first: data only moves towards the end */
    for (uint64_t i = sectors; i > 0; i--) {
        uint8_t *sector = frame + (i - 1) * NPHDI_JOURNAL_SECTOR_BYTES;
        memmove(sector, frame + (i - 1) * NPHDI_JOURNAL_SECTOR_DATA, NPHDI_JOURNAL_SECTOR_DATA);
        nphdi_put32(sector + SECTOR_FRAME, number);
        nphdi_put32(sector + SECTOR_PLACE, (uint32_t)(i - 1));
        nphdi_put64(sector + SECTOR_CHECKED,
                    sector_checksum(head, offset + (i - 1) * NPHDI_JOURNAL_SECTOR_BYTES, sector));
    }
}

nphdi_journal_state nphdi_journal_look_at_sector(const nphdi_journal_head *head, uint64_t offset,
                                                 const uint8_t sector[NPHDI_JOURNAL_SECTOR_BYTES],
                                                 uint32_t *out_frame, uint32_t *out_place)
{
    static const uint8_t zeros[NPHDI_JOURNAL_SECTOR_BYTES];

    *out_frame = nphdi_get32(sector + SECTOR_FRAME);
    *out_place = nphdi_get32(sector + SECTOR_PLACE);
    if (nphdi_get64(sector + SECTOR_CHECKED) == sector_checksum(head, offset, sector)) {
        return NPHDI_JOURNAL_RIGHT;
    }
    return memcmp(sector, zeros, sizeof(zeros)) == 0 ? NPHDI_JOURNAL_ZEROS : NPHDI_JOURNAL_DAMAGED;
}

nphd_status nphdi_journal_decode_start(const char *name,
                                       const uint8_t sector[NPHDI_JOURNAL_SECTOR_BYTES],
                                       uint64_t *out_record_bytes, nphd_error *err)
{
    *out_record_bytes = nphdi_get64(sector);
    if (nphdi_get64(sector + 8) != 0) {
        return nphdi_fail(err, NPHD_UNSUPPORTED,
                          "%s: a frame with parts %#llx, which a later version knows", name,
                          (unsigned long long)nphdi_get64(sector + 8));
    }
    if (*out_record_bytes > NPHDI_JOURNAL_FRAME_MOST) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: a frame with %llu bytes of records", name,
                          (unsigned long long)*out_record_bytes);
    }
    return NPHD_OK;
}

void nphdi_journal_join_sectors(uint8_t *frame, uint64_t sectors)
{
    for (uint64_t i = 1; i < sectors; i++) {
        memmove(frame + i * NPHDI_JOURNAL_SECTOR_DATA, frame + i * NPHDI_JOURNAL_SECTOR_BYTES,
                NPHDI_JOURNAL_SECTOR_DATA);
    }
}

/* ---- records ---- */

static bool has_key(nphdi_journal_kind kind)
{
    return kind >= NPHDI_JOURNAL_ADD && kind <= NPHDI_JOURNAL_AUTOMATIC &&
           kind != NPHDI_JOURNAL_RESET;
}

static bool has_vector(nphdi_journal_kind kind)
{
    return kind == NPHDI_JOURNAL_ADD || kind == NPHDI_JOURNAL_REPLACE;
}

size_t nphdi_journal_record_bytes(const nphdi_journal_record *record, uint32_t key_bytes)
{
    size_t bytes = RECORD_HEAD_BYTES;

    bytes += has_key(record->kind) ? key_bytes : 0;
    bytes += has_vector(record->kind) ? record->vector.bytes : 0;
    bytes += record->kind == NPHDI_JOURNAL_FACT ? 4 + (size_t)record->data_bytes : 0;
    return bytes;
}

size_t nphdi_journal_encode_record(const nphdi_journal_record *record, uint32_t key_bytes,
                                   uint8_t *out)
{
    const size_t bytes = nphdi_journal_record_bytes(record, key_bytes);
    const bool must = record->kind != NPHDI_JOURNAL_FACT || record->must;
    uint8_t *at = out + RECORD_HEAD_BYTES;

    nphdi_put16(out, (uint16_t)((uint32_t)record->kind | (must ? RECORD_MUST : 0)));
    nphdi_put32(out + 2, (uint32_t)(bytes - RECORD_HEAD_BYTES));
    if (has_key(record->kind)) {
        nphdi_usearch_put_key(at, key_bytes, record->key);
        at += key_bytes;
    }
    if (has_vector(record->kind)) {
        memcpy(at, record->vector.data, record->vector.bytes);
    }
    if (record->kind == NPHDI_JOURNAL_FACT) {
        nphdi_put32(at, record->fact);
        if (record->data_bytes > 0) {
            memcpy(at + 4, record->data, record->data_bytes);
        }
    }
    return bytes;
}

/* `bytes`: what follows the head of a record. Is that as many as its kind has? */
static bool fits(const nphdi_journal_head *head, nphdi_journal_kind kind, uint32_t bytes)
{
    if (has_vector(kind)) {
        return bytes > head->key_bytes && bytes - head->key_bytes <= head->payload_bytes;
    }
    return kind == NPHDI_JOURNAL_FACT ? bytes >= 4 : bytes == (has_key(kind) ? head->key_bytes : 0);
}

static void take_content(const nphdi_journal_head *head, const uint8_t *at, uint32_t bytes,
                         nphdi_journal_record *out)
{
    if (has_key(out->kind)) {
        out->key = nphdi_usearch_get_key(at, head->key_bytes);
    }
    if (has_vector(out->kind)) {
        out->vector.data = at + head->key_bytes;
        out->vector.bytes = bytes - head->key_bytes;
    }
    if (out->kind == NPHDI_JOURNAL_FACT) {
        out->fact = nphdi_get32(at);
        out->data = at + 4;
        out->data_bytes = bytes - 4;
    }
}

nphd_status nphdi_journal_decode_record(const char *name, const nphdi_journal_head *head,
                                        const uint8_t *bytes, uint64_t count, uint64_t *offset,
                                        nphdi_journal_record *out, nphd_error *err)
{
    const uint64_t begin = *offset;
    const uint8_t *at = bytes + begin;
    uint32_t kind;
    uint32_t length;

    if (head->version < 2) {
        return nphdi_journal_v1_decode_record(name, head, bytes, count, offset, out, err);
    }
    memset(out, 0, sizeof(*out));
    if (count - begin < RECORD_HEAD_BYTES ||
        nphdi_get32(at + 2) > count - begin - RECORD_HEAD_BYTES) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: the record at %llu of %llu bytes is cut", name,
                          (unsigned long long)begin, (unsigned long long)count);
    }
    kind = nphdi_get16(at);
    length = nphdi_get32(at + 2);
    *offset += RECORD_HEAD_BYTES + (uint64_t)length;
    out->must = (kind & RECORD_MUST) != 0;
    kind &= ~RECORD_MUST;
    if (kind < NPHDI_JOURNAL_ADD || kind > NPHDI_JOURNAL_FACT) {
        return out->must
                   ? nphdi_fail(err, NPHD_UNSUPPORTED,
                                "%s: a record of kind %u at %llu, which a later version knows and "
                                "which may not be passed over",
                                name, kind, (unsigned long long)begin)
                   : NPHD_OK;
    }
    if (!fits(head, (nphdi_journal_kind)kind, length)) {
        return nphdi_fail(err, NPHD_CORRUPT,
                          "%s: a record of kind %u at %llu with %u bytes, where keys have %u and "
                          "vectors at most %u",
                          name, kind, (unsigned long long)begin, length, head->key_bytes,
                          head->payload_bytes);
    }
    out->kind = (nphdi_journal_kind)kind;
    take_content(head, at + RECORD_HEAD_BYTES, length, out);
    return NPHD_OK;
}
