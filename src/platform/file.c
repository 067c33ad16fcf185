/* Reading through the I/O table: whole reads out of short and interrupted ones. */
#include "platform/platform.h"

#include "base/error.h"
#include "platform/interrupt.h"

#include <errno.h>

nphd_status nphdi_file_open(const nphd_io *io, const char *path, nphd_file *out_file,
                            uint64_t *out_bytes, nphd_error *err)
{
    nphd_file file = {-1};
    uint64_t bytes = 0;
    int os_error;

    out_file->handle = -1;
    *out_bytes = 0;
    NPHDI_REPEAT_INTERRUPTED(os_error, io->open(io->context, path, NPHD_OPEN_READ, &file));
    if (os_error != 0) {
        return nphdi_fail_os(err, os_error, "%s: cannot open the file", path);
    }
    NPHDI_REPEAT_INTERRUPTED(os_error, io->size(io->context, file, &bytes));
    if (os_error != 0) {
        (void)io->close(io->context, file);
        return nphdi_fail_os(err, os_error, "%s: cannot read the size of the file", path);
    }
    *out_file = file;
    *out_bytes = bytes;
    return NPHD_OK;
}

nphd_status nphdi_file_read(const nphd_io *io, nphd_file file, const char *name, uint64_t offset,
                            void *buffer, size_t bytes, nphd_error *err)
{
    uint8_t *to = buffer;
    size_t have = 0;

    while (have < bytes) {
        size_t done = 0;
        int os_error;
        NPHDI_REPEAT_INTERRUPTED(
            os_error, io->read(io->context, file, offset + have, to + have, bytes - have, &done));
        if (os_error == 0 && done > bytes - have) {
            os_error = EIO; /* the table claims more than there was room for */
        }
        if (os_error != 0) {
            return nphdi_fail_os(err, os_error, "%s: cannot read %zu bytes at offset %llu", name,
                                 bytes - have, (unsigned long long)(offset + have));
        }
        if (done == 0) {
            return nphdi_fail(err, NPHD_CORRUPT,
                              "%s: the file ends at offset %llu, inside the %zu bytes at offset "
                              "%llu",
                              name, (unsigned long long)(offset + have), bytes,
                              (unsigned long long)offset);
        }
        have += done;
    }
    return NPHD_OK;
}
