/* A journal beside a small valid directory.
 *
 *     0, bytes: the journal file as it is
 *     1, changes: a valid journal with bytes changed (2 bytes where, 1 byte what)
 *     2, records: a journal of one frame with these records, its checksums right
 *     3, head fields and records: the same, behind a head that says anything
 *     4 to 7: the same with a journal of version 1
 */
#include "support/journal_bytes.h"
#include "use_directory.h"

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

/* A head and one frame with `bytes` bytes of records; `fields`: 48 bytes of the head, or NULL. */
static size_t make_journal(const base_files *base, unsigned version, const uint8_t *fields,
                           const uint8_t *records, size_t bytes, uint8_t *out)
{
    const size_t behind = version == 1 ? NPHDI_JOURNAL_V1_FRAME_BYTES : NPHDI_JOURNAL_START_BYTES;
    const size_t most = NPHDI_JOURNAL_BLOCK_BYTES - 8 * 16 - NPHDI_JOURNAL_V1_FRAME_BYTES;
    const size_t count = bytes < most ? bytes : most;
    uint8_t *frame = out + NPHDI_JOURNAL_HEAD_BYTES;
    nphdi_journal_head head;

    memset(out, 0, 2 * NPHDI_JOURNAL_BLOCK_BYTES);
    memcpy(out, base->journal, NPHDI_JOURNAL_HEAD_BYTES);
    nphdi_put32(out + 8, version);
    if (fields != NULL) {
        memcpy(out + 32, fields, 48);
    }
    journal_repair_head(out);
    if (count > 0) {
        memcpy(frame + behind, records, count);
    }
    if (version == 1) {
        (void)journal_v1_seal_frame(0, count, frame);
    } else {
        memset(&head, 0, sizeof(head));
        head.checksum = nphdi_get64(out + NPHDI_JOURNAL_HEAD_BYTES - 8);
        nphdi_journal_seal_frame(&head, NPHDI_JOURNAL_HEAD_BYTES, 0, count, frame);
    }
    return 2 * (size_t)NPHDI_JOURNAL_BLOCK_BYTES;
}

static void try_format(const uint8_t *data, size_t bytes)
{
    uint8_t block[NPHDI_JOURNAL_HEAD_BYTES] = {0};
    nphdi_journal_head head;
    nphdi_journal_v1_frame frame;
    nphdi_journal_record record;
    uint64_t offset = 0;
    uint64_t begin = 0;

    memcpy(block, data, bytes < sizeof(block) ? bytes : sizeof(block));
    (void)nphdi_journal_decode_head("fuzz", block, &head, NULL);
    (void)nphdi_journal_v1_decode_frame(block, &frame);
    memset(&head, 0, sizeof(head));
    head.version = 1 + (uint32_t)(bytes / 2 % 2);
    head.key_bytes = bytes % 2 == 0 ? 8 : 16;
    head.payload_bytes = 1 + (uint32_t)(bytes % NPHD_MAX_BYTES);
    while (offset < bytes && nphdi_journal_decode_record("fuzz", &head, data, bytes, &offset,
                                                         &record, NULL) == NPHD_OK) {
        uint8_t again[MOST_BYTES];
        const uint64_t one = offset - begin;
        if (one <= sizeof(again) && record.kind != NPHDI_JOURNAL_UNKNOWN) {
            const size_t same = head.version == 1
                                    ? journal_v1_put_record(&record, head.key_bytes, again)
                                    : nphdi_journal_encode_record(&record, head.key_bytes, again);
            const size_t loose = head.version == 1 ? 0 : 2; /* bits that known kinds ignore */
            FUZZ_CHECK(same == one &&
                       memcmp(again + loose, data + begin + loose, same - loose) == 0);
        }
        begin = offset;
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
    const unsigned version = data[0] / 4 % 2 == 0 ? 2 : 1;
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
        made = make_journal(&base, version, NULL, data, bytes, journal);
    } else {
        made = make_journal(&base, version, data, data + 48, bytes - 48, journal);
    }
    memory_io *disk = fuzz_directory_put(base.files, base.count);
    memory_io_put(disk, JOURNAL, journal, made);
    fuzz_directory_use(disk);
    memory_io_destroy(disk);
    return 0;
}
