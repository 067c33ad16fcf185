#include "sharded/lock_file.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/memory.h"
#include "base/seeded_bug.h"
#include "index/source.h"
#include "platform/interrupt.h"
#include "platform/platform.h"

#include <errno.h>
#include <string.h>

/* A slot: mark, version, identity, four numbers, zeros, and a checksum of all before it. */
#define VERSION 1
#define AT_VERSION 8
#define AT_IDENTITY 16
#define AT_NUMBERS 32
#define AT_CHECKSUM (NPHDI_LOCK_HEAD_SLOT_BYTES - 8)

static const uint8_t MARK[8] = {'N', 'P', 'H', 'D', 'H', 'E', 'A', 'D'};

/* ---- bytes ---- */

void nphdi_lock_head_encode(const nphdi_lock_head *head, uint8_t out[NPHDI_LOCK_HEAD_SLOT_BYTES])
{
    const uint64_t numbers[4] = {head->sequence, head->generation, head->journal,
                                 head->journal_base};

    memset(out, 0, NPHDI_LOCK_HEAD_SLOT_BYTES);
    memcpy(out, MARK, sizeof(MARK));
    nphdi_put32(out + AT_VERSION, VERSION);
    memcpy(out + AT_IDENTITY, head->identity, sizeof(head->identity));
    for (size_t i = 0; i < 4; i++) {
        nphdi_put64(out + AT_NUMBERS + 8 * i, numbers[i]);
    }
    nphdi_put64(out + AT_CHECKSUM, nphdi_hash_bytes(out, AT_CHECKSUM));
}

static bool decode_slot(const uint8_t *slot, nphdi_lock_head *out)
{
    if (memcmp(slot, MARK, sizeof(MARK)) != 0 || nphdi_get32(slot + AT_VERSION) != VERSION ||
        nphdi_get64(slot + AT_CHECKSUM) != nphdi_hash_bytes(slot, AT_CHECKSUM)) {
        return false;
    }
    memcpy(out->identity, slot + AT_IDENTITY, sizeof(out->identity));
    out->sequence = nphdi_get64(slot + AT_NUMBERS);
    out->generation = nphdi_get64(slot + AT_NUMBERS + 8);
    out->journal = nphdi_get64(slot + AT_NUMBERS + 16);
    out->journal_base = nphdi_get64(slot + AT_NUMBERS + 24);
    return out->sequence > 0 && out->sequence < UINT64_MAX;
}

static bool slot_is_written(const uint8_t *slot)
{
    uint8_t any = 0;

    for (size_t i = 0; i < NPHDI_LOCK_HEAD_SLOT_BYTES; i++) {
        any |= slot[i];
    }
    return any != 0;
}

nphdi_lock_head_state nphdi_lock_head_decode(const uint8_t *bytes, uint64_t count,
                                             nphdi_lock_head *out)
{
    uint32_t written = 0;

    memset(out, 0, sizeof(*out));
    for (uint64_t at = 0; at + NPHDI_LOCK_HEAD_SLOT_BYTES <= count && at < NPHDI_LOCK_HEAD_BYTES;
         at += NPHDI_LOCK_HEAD_SLOT_STEP) {
        nphdi_lock_head slot;
        if (decode_slot(bytes + at, &slot) && slot.sequence > out->sequence) {
            *out = slot;
        }
        written += slot_is_written(bytes + at) ? 1 : 0;
    }
    /* one alone may be the first one that was ever written, and torn */
    return out->sequence > 0 ? NPHDI_LOCK_HEAD_WHOLE
           : written == 2    ? NPHDI_LOCK_HEAD_DAMAGED
                             : NPHDI_LOCK_HEAD_NONE;
}

/* ---- the file ---- */

/* Readers need no rights to the lock, nor that it is a file. */
static bool says_nothing(int os_error)
{
    return os_error == EACCES || os_error == EPERM || os_error == EISDIR || os_error == EINVAL;
}

nphd_status nphdi_lock_head_read(const nphd_io *io, const nphd_allocator *allocator,
                                 const char *directory, nphdi_lock_head *out,
                                 nphdi_lock_head_state *out_state, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint8_t bytes[NPHDI_LOCK_HEAD_BYTES];
    nphdi_source source;
    char *path = NULL;
    size_t room = 0;
    uint64_t count;
    bool found = false;
    nphd_error why = NPHD_ERROR_INIT;

    memset(out, 0, sizeof(*out));
    *out_state = NPHDI_LOCK_HEAD_NONE;
    memset(&source, 0, sizeof(source));
    TRY(nphdi_path_join(allocator, directory, NPHDI_LOCK_NAME, &path, &room, err));
    status = nphdi_source_open_if_any(&source, io, path, &found, &why);
    if (says_nothing(why.os_error)) {
        status = NPHD_OK;
        goto done;
    }
    if (status != NPHD_OK) {
        nphdi_error_copy(err, &why);
        goto done;
    }
    count = source.bytes < sizeof(bytes) ? source.bytes : sizeof(bytes);
    if (found && count > 0) {
        TRY(nphdi_source_read(&source, 0, bytes, (size_t)count, err));
        *out_state = nphdi_lock_head_decode(bytes, count, out);
    }
done:
    nphdi_source_close(&source);
    nphdi_free(allocator, path, room, 1);
    return status;
}

nphd_status nphdi_lock_file_init(nphdi_lock_file *of, const char *directory, nphd_error *err)
{
    of->directory = directory;
    if (pthread_mutex_init(&of->mutex, NULL) != 0) {
        return nphdi_fail(err, NPHD_OUT_OF_MEMORY, "cannot create a lock");
    }
    of->mutex_made = true;
    return NPHD_OK;
}

void nphdi_lock_file_release(nphdi_lock_file *of)
{
    nphdi_lock_file_let_go(of);
    if (of->mutex_made) {
        (void)pthread_mutex_destroy(&of->mutex);
        of->mutex_made = false;
    }
}

nphd_status nphdi_lock_file_take(nphdi_lock_file *of, const nphd_io *io,
                                 const nphd_allocator *allocator, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    char *path = NULL;
    size_t room = 0;
    int failed;

    TRY(nphdi_path_join(allocator, of->directory, NPHDI_LOCK_NAME, &path, &room, err));
    NPHDI_REPEAT_INTERRUPTED(failed, io->lock(io->context, path, &of->file));
    failed = NPHDI_BUG(7) ? 0 : failed;
    if (failed == EWOULDBLOCK || failed == EAGAIN || failed == EACCES) {
        status = nphdi_fail(err, failed == EACCES ? NPHD_IO : NPHD_BUSY,
                            failed == EACCES
                                ? "%s: may not be written; open it read_only"
                                : "%s: another handle or process has the index open for writing",
                            path);
    } else if (failed != 0) {
        status = nphdi_fail_os(err, failed, "%s: lock", path);
    } else {
        of->io = io;
    }
done:
    nphdi_free(allocator, path, room, 1);
    return status;
}

void nphdi_lock_file_let_go(nphdi_lock_file *of)
{
    if (of->io != NULL) {
        (void)of->io->close(of->io->context, of->file);
        of->io = NULL;
    }
}

void nphdi_lock_file_know(nphdi_lock_file *of, const nphdi_lock_head *head)
{
    of->head = *head;
    atomic_store(&of->file_bytes, head->sequence > 0 ? NPHDI_LOCK_HEAD_BYTES : 0);
}

/* Into the slot of the head that does not count; after an error that one still does. A flush that
 * failed is not repeated on the same file: the head stays behind until the next opening. */
static nphd_status write_slot(nphdi_lock_file *of, nphdi_lock_head head, nphd_error *err)
{
    const nphd_io *io = of->io;
    uint8_t slot[NPHDI_LOCK_HEAD_SLOT_BYTES];
    uint64_t done = 0;
    int failed;

    if (io == NULL || of->broken) {
        return NPHD_OK;
    }
    head.sequence++;
    of->unsure = true;
    nphdi_lock_head_encode(&head, slot);
    while (done < sizeof(slot)) {
        const uint64_t at = head.sequence % 2 * NPHDI_LOCK_HEAD_SLOT_STEP + done;
        size_t part = 0;
        NPHDI_REPEAT_INTERRUPTED(failed, io->write(io->context, of->file, at, slot + done,
                                                   sizeof(slot) - (size_t)done, &part));
        if (failed != 0 || part == 0 || part > sizeof(slot) - done) {
            return nphdi_fail_os(err, failed != 0 ? failed : EIO, "%s/" NPHDI_LOCK_NAME ": write",
                                 of->directory);
        }
        done += part;
    }
    failed = io->sync(io->context, of->file);
    if (failed != 0) {
        of->broken = true;
        return nphdi_fail_os(err, failed, "%s/" NPHDI_LOCK_NAME ": flush", of->directory);
    }
    of->unsure = false;
    nphdi_lock_file_know(of, &head);
    return NPHD_OK;
}

nphd_status nphdi_lock_file_advance(nphdi_lock_file *of, uint64_t generation, uint64_t superseded,
                                    nphd_error *err)
{
    nphd_status status;
    nphdi_lock_head head;

    (void)pthread_mutex_lock(&of->mutex);
    head = of->head;
    head.generation = generation;
    if (head.journal_base < superseded) {
        head.journal = 0;
        head.journal_base = 0;
    }
    status = write_slot(of, head, err);
    (void)pthread_mutex_unlock(&of->mutex);
    return status;
}

nphd_status nphdi_lock_file_note_journal(nphdi_lock_file *of, uint64_t sequence, uint64_t base,
                                         nphd_error *err)
{
    nphd_status status;
    nphdi_lock_head head;

    (void)pthread_mutex_lock(&of->mutex);
    head = of->head;
    head.journal = sequence;
    head.journal_base = base;
    status = write_slot(of, head, err);
    (void)pthread_mutex_unlock(&of->mutex);
    return status;
}

nphd_status nphdi_lock_file_is_same(nphdi_lock_file *of, const nphd_allocator *allocator, bool *out,
                                    nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_lock_head found;
    nphdi_lock_head_state state;

    *out = true;
    (void)pthread_mutex_lock(&of->mutex); /* nobody writes it meanwhile */
    if (of->io == NULL || of->unsure || of->head.sequence == 0) {
        goto done;
    }
    TRY(nphdi_lock_head_read(of->io, allocator, of->directory, &found, &state, err));
    /* by its number alone: what else it says is not kept of a head that is of other files */
    *out = state != NPHDI_LOCK_HEAD_WHOLE || found.sequence == of->head.sequence;
done:
    (void)pthread_mutex_unlock(&of->mutex);
    return status;
}

bool nphdi_lock_file_is_stuck(nphdi_lock_file *of)
{
    (void)pthread_mutex_lock(&of->mutex);
    const bool stuck = of->broken;
    (void)pthread_mutex_unlock(&of->mutex);
    return stuck;
}

nphd_status nphdi_lock_file_step_back(nphdi_lock_file *of, uint64_t generation, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_lock_head head;

    (void)pthread_mutex_lock(&of->mutex);
    if (of->head.sequence == 0) {
        goto done; /* nothing names it */
    }
    head = of->head;
    head.generation = generation;
    head.journal = 0;
    head.journal_base = 0;
    /* whichever slot is damaged later, the other one asks for nothing that is gone */
    TRY(write_slot(of, head, err));
    TRY(write_slot(of, of->head, err));
done:
    (void)pthread_mutex_unlock(&of->mutex);
    return status;
}
