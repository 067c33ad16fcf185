/* Journal files as they are written: a head that is durable first, then frames, each behind the
 * last and flushed by itself. */
#include "base/error.h"
#include "base/seeded_bug.h"
#include "formats/usearch_format.h"
#include "platform/interrupt.h"
#include "sharded/sharded_internal.h"

#include <errno.h>
#include <string.h>

static nphd_status write_all(const nphd_sharded *sharded, nphdi_journal_file *file, uint64_t offset,
                             const uint8_t *data, uint64_t bytes, nphd_error *err)
{
    while (bytes > 0) {
        size_t done = 0;
        int failed;
        NPHDI_REPEAT_INTERRUPTED(failed, sharded->io->write(sharded->io->context, file->file,
                                                            offset, data, (size_t)bytes, &done));
        if (failed != 0) {
            return nphdi_fail_os(err, failed, "%s: write", file->path);
        }
        if (done == 0 || done > bytes) {
            return nphdi_fail_os(err, EIO, "%s: write", file->path);
        }
        data += done;
        offset += done;
        bytes -= done;
    }
    return NPHD_OK;
}

static nphd_status sync_file(const nphd_sharded *sharded, const nphdi_journal_file *file,
                             nphd_error *err)
{
    const int failed = sharded->io->sync(sharded->io->context, file->file);

    return failed == 0
               ? NPHD_OK
               : nphdi_fail_os(err, failed, "%s: flush; what it holds is unknown", file->path);
}

/* Creates the file with its head, durably, before the first frame: a journal whose head is damaged
 * although frames follow was whole once. */
static nphd_status create_file(nphd_sharded *sharded, nphdi_journal_file *file,
                               const nphdi_journal_file *before, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint8_t bytes[NPHDI_JOURNAL_HEAD_BYTES];
    nphdi_journal_head *head = &file->head;
    int failed;

    memset(head, 0, sizeof(*head));
    head->version = NPHDI_JOURNAL_VERSION;
    memcpy(head->identity, sharded->identity, sizeof(head->identity));
    head->base = file->base;
    head->sequence = file->sequence;
    head->before = before != NULL && !NPHDI_BUG(14) ? before->sequence : 0;
    head->before_bytes = before != NULL ? before->written_bytes : 0;
    head->before_base = before != NULL ? before->base : 0;
    head->key_bytes = sharded->key_bytes;
    head->payload_bytes = sharded->parameters.max_bits / 8;
    head->metric_code = nphdi_journal_metric_code(sharded);
    head->scalar_code = NPHDI_SCALAR_BITS;
    NPHDI_REPEAT_INTERRUPTED(
        failed, sharded->io->random(sharded->io->context, &head->salt, sizeof(head->salt)));
    if (failed != 0) {
        return nphdi_fail_os(err, failed, "%s: random number", file->path);
    }
    nphdi_journal_encode_head(head, bytes);
    NPHDI_REPEAT_INTERRUPTED(
        failed, sharded->io->open(sharded->io->context, file->path, NPHD_OPEN_CREATE, &file->file));
    if (failed != 0) {
        return nphdi_fail_os(err, failed, "%s: create", file->path);
    }
    file->open = true;
    TRY(write_all(sharded, file, 0, bytes, sizeof(bytes), err));
    atomic_store(&file->file_bytes, sizeof(bytes));
    TRY(NPHDI_BUG(19) ? NPHD_OK : sync_file(sharded, file, err));
    failed = NPHDI_BUG(20) ? 0 : sharded->io->sync_directory(sharded->io->context, sharded->path);
    if (failed != 0 && failed != EINVAL) {
        status = nphdi_fail_os(err, failed, "%s: flush of the directory", sharded->path);
        goto done;
    }
    TRY(nphdi_lock_file_note_journal(&sharded->lock, file->sequence, file->base, err));
    file->created = true;
    file->written_bytes = sizeof(bytes);
done:
    return status;
}

uint32_t nphdi_journal_metric_code(const nphd_sharded *sharded)
{
    return sharded->parameters.metric == NPHD_METRIC_HAMMING ? NPHDI_METRIC_CODE_HAMMING
                                                             : NPHDI_METRIC_CODE_NPHD;
}

nphd_status nphdi_journal_file_flush(nphd_sharded *sharded, nphdi_journal_file *file,
                                     const nphdi_journal_file *before, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint64_t bytes = file->flushing_bytes;
    const uint64_t written = nphdi_journal_frame_bytes(bytes);

    if (!file->created) {
        TRY(create_file(sharded, file, before, err));
    }
    if (bytes == 0) {
        goto done;
    }
    nphdi_journal_seal_frame(&file->head, file->written_bytes, (uint32_t)file->frames, bytes,
                             file->flushing);
    TRY(write_all(sharded, file, file->written_bytes, file->flushing, written, err));
    atomic_store(&file->file_bytes, file->written_bytes + written);
    TRY(NPHDI_BUG(21) ? NPHD_OK : sync_file(sharded, file, err));
    file->written_bytes += written;
    file->frames++;
done:
    return status;
}
