#include "index/index_home.h"

#include "base/error.h"
#include "base/hash.h"
#include "base/memory.h"
#include "platform/interrupt.h"
#include "platform/platform.h"

#include <string.h>

nphd_status nphdi_home_begin(const nphd_io *io, const nphd_allocator *allocator, const char *path,
                             nphdi_home *out, nphd_error *err)
{
    memset(out, 0, sizeof(*out));
    out->given = nphdi_hash_bytes(path, strlen(path));
    return nphdi_path_resolve(io, allocator, path, &out->path, &out->path_room, err);
}

nphd_status nphdi_home_look(const nphd_io *io, nphdi_home *home, nphd_error *err)
{
    nphd_file_facts facts;
    int os_error;

    if (!nphdi_io_has(io, NPHDI_IO_END(look)) || io->look == NULL) {
        return NPHD_OK;
    }
    NPHDI_REPEAT_INTERRUPTED(os_error, io->look(io->context, home->path, &facts));
    if (os_error != 0) {
        return nphdi_fail_os(err, os_error, "%s: cannot open the file", home->path);
    }
    const uint64_t numbers[3] = {facts.device, facts.number, facts.changed_ns};
    home->facts = nphdi_hash_bytes(numbers, sizeof(numbers));
    return NPHD_OK;
}

static nphd_status home_read_end(const nphdi_source *source,
                                 uint8_t out[NPHDI_TRAILER_FOOTER_BYTES], nphd_error *err)
{
    const size_t bytes = source->bytes < NPHDI_TRAILER_FOOTER_BYTES ? (size_t)source->bytes
                                                                    : NPHDI_TRAILER_FOOTER_BYTES;

    memset(out, 0, NPHDI_TRAILER_FOOTER_BYTES);
    return nphdi_source_read(source, source->bytes - bytes, out, bytes, err);
}

nphd_status nphdi_home_of_source(nphdi_home *home, const nphdi_source *source, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint8_t end[NPHDI_TRAILER_FOOTER_BYTES];
    nphdi_trailer trailer;
    bool found = false;

    TRY(home_read_end(source, end, err));
    home->file_bytes = source->bytes;
    home->end = nphdi_hash_bytes(end, sizeof(end));
    if (nphdi_trailer_decode_footer("", end, source->bytes, &trailer, &found, NULL) == NPHD_OK &&
        found) {
        home->facts = 0;
    }
done:
    return status;
}

void nphdi_home_of_trailer(nphdi_home *home, nphdi_trailer *trailer)
{
    uint8_t end[NPHDI_TRAILER_MAX_DIRECTORY_BYTES + NPHDI_TRAILER_FOOTER_BYTES];
    const size_t bytes = nphdi_trailer_encode_end(trailer, end);

    home->file_bytes = trailer->file_bytes;
    home->facts = 0;
    home->end =
        nphdi_hash_bytes(end + bytes - NPHDI_TRAILER_FOOTER_BYTES, NPHDI_TRAILER_FOOTER_BYTES);
}

static nphd_status home_check_facts(const nphd_io *io, const nphdi_home *home, const nphdi_home *to,
                                    bool *out_same, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_home now = {.path = to->path};

    if (home->facts != 0) {
        TRY(nphdi_home_look(io, &now, err));
        *out_same = now.facts == home->facts;
    }
done:
    return status;
}

nphd_status nphdi_home_check(const nphd_io *io, const nphdi_home *home, const nphdi_home *to,
                             const char *name, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_source source;
    uint8_t end[NPHDI_TRAILER_FOOTER_BYTES];
    bool same;

    /* the same name may have come to mean another file: a link was changed, or the directory */
    if (home->path == NULL || (strcmp(home->path, to->path) != 0 && home->given != to->given)) {
        return NPHD_OK;
    }
    memset(&source, 0, sizeof(source));
    status = nphdi_source_open(&source, io, to->path, err);
    if (status == NPHD_NOT_FOUND) {
        nphdi_error_clear(err);
        return NPHD_OK; /* deleted or moved away: there is nothing to lose */
    }
    TRY(status);
    same = source.bytes == home->file_bytes;
    if (same) {
        TRY(home_read_end(&source, end, err));
        same = nphdi_hash_bytes(end, sizeof(end)) == home->end;
    }
    if (same) {
        TRY(home_check_facts(io, home, to, &same, err));
    }
    if (!same) {
        status = nphdi_fail(err, NPHD_CHANGED,
                            "%s: another file is there than the one that was loaded or saved; save "
                            "to another name, or overwrite it on purpose",
                            name);
    }
done:
    nphdi_source_close(&source);
    return status;
}

void nphdi_home_move(const nphd_allocator *allocator, nphdi_home *to, nphdi_home *from)
{
    nphdi_home_release(allocator, to);
    *to = *from;
    memset(from, 0, sizeof(*from));
}

void nphdi_home_release(const nphd_allocator *allocator, nphdi_home *home)
{
    nphdi_free(allocator, home->path, home->path_room, 1);
    memset(home, 0, sizeof(*home));
}
