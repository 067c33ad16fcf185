/* A journal beside a small valid directory.
 *
 *     0, bytes: the journal file as it is
 *     1, changes: a valid journal with bytes changed (2 bytes where, 1 byte what)
 *     2, records: a journal of one frame with these records, its checksums right
 *     3, head fields and records: the same, behind a head that says anything
 */
#include "use_directory.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "formats/journal_format.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

#define JOURNAL "d/journal_00000003"

/* Room for a head and frames of an input. */
#define MOST_BYTES (3 * NPHDI_JOURNAL_BLOCK_BYTES)

typedef struct base_files {
    fuzz_file files[8];
    size_t count;
    uint8_t journal[MOST_BYTES];
    size_t journal_bytes;
} base_files;

static void make_base(base_files *base)
{
    size_t bytes = 0;
    memory_io *disk = fuzz_directory_make(true);
    uint8_t *journal = memory_io_get(disk, JOURNAL, &bytes);

    FUZZ_CHECK(journal != NULL && bytes <= sizeof(base->journal));
    memcpy(base->journal, journal, bytes);
    base->journal_bytes = bytes;
    free(journal);
    base->count = fuzz_directory_take(disk, base->files, 8);
    memory_io_destroy(disk);
}

/* A head and one frame with `bytes` bytes of records. */
static size_t make_journal(const base_files *base, const uint8_t *records, size_t bytes,
                           uint8_t *out)
{
    const size_t most = NPHDI_JOURNAL_BLOCK_BYTES - NPHDI_JOURNAL_FRAME_BYTES;
    nphdi_journal_frame frame = {0, bytes < most ? bytes : most, 0};
    uint8_t *at = out + NPHDI_JOURNAL_HEAD_BYTES;

    memset(out, 0, 2 * NPHDI_JOURNAL_BLOCK_BYTES);
    memcpy(out, base->journal, NPHDI_JOURNAL_HEAD_BYTES);
    if (frame.bytes > 0) {
        memcpy(at + NPHDI_JOURNAL_FRAME_BYTES, records, (size_t)frame.bytes);
    }
    frame.checksum = nphdi_hash_bytes(at + NPHDI_JOURNAL_FRAME_BYTES, most);
    nphdi_journal_encode_frame(&frame, at);
    return 2 * (size_t)NPHDI_JOURNAL_BLOCK_BYTES;
}

static void try_format(const uint8_t *data, size_t bytes)
{
    uint8_t block[NPHDI_JOURNAL_HEAD_BYTES] = {0};
    nphdi_journal_head head;
    nphdi_journal_frame frame;
    nphdi_journal_record record;
    uint64_t offset = 0;

    memcpy(block, data, bytes < sizeof(block) ? bytes : sizeof(block));
    (void)nphdi_journal_decode_head("fuzz", block, &head, NULL);
    (void)nphdi_journal_decode_frame(block, &frame);
    memset(&head, 0, sizeof(head));
    head.key_bytes = bytes % 2 == 0 ? 8 : 16;
    head.payload_bytes = 1 + (uint32_t)(bytes % NPHD_MAX_BYTES);
    while (offset < bytes && nphdi_journal_decode_record("fuzz", &head, data, bytes, &offset,
                                                         &record, NULL) == NPHD_OK) {
        uint8_t again[NPHDI_JOURNAL_RECORD_MOST];
        const size_t one = nphdi_journal_encode_record(&record, head.key_bytes, again);
        FUZZ_CHECK(one <= offset && memcmp(again, data + offset - one, one) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static base_files base;
    uint8_t journal[MOST_BYTES] = {0};
    size_t made = 0;

    if (base.count == 0) {
        make_base(&base);
    }
    if (bytes == 0) {
        return 0;
    }
    const unsigned how = data[0] % 4;
    data++;
    bytes--;
    try_format(data, bytes);
    if (how == 0) {
        made = bytes < sizeof(journal) ? bytes : sizeof(journal);
        memcpy(journal, data, made);
    } else if (how == 1) {
        made = base.journal_bytes;
        memcpy(journal, base.journal, made);
        for (size_t at = 0; at + 3 <= bytes; at += 3) {
            journal[((size_t)data[at] << 8 | data[at + 1]) % made] ^= data[at + 2];
        }
    } else if (how == 2 || bytes < 48) {
        made = make_journal(&base, data, bytes, journal);
    } else {
        made = make_journal(&base, data + 48, bytes - 48, journal);
        memcpy(journal + 32, data, 48);
        nphdi_put64(journal + NPHDI_JOURNAL_HEAD_BYTES - 8,
                    nphdi_hash_bytes(journal, NPHDI_JOURNAL_HEAD_BYTES - 8));
    }
    memory_io *disk = fuzz_directory_put(base.files, base.count);
    memory_io_put(disk, JOURNAL, journal, made);
    fuzz_directory_use(disk);
    memory_io_destroy(disk);
    return 0;
}
