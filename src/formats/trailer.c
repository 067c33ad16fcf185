#include "formats/trailer.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"

#include <string.h>

#define TRAILER_VERSION 1

static const uint8_t trailer_mark[NPHDI_TRAILER_MARK_BYTES] = {
    'n', 'p', 'h', 'd', ' ', 't', 'r', 'a', 'i', 'l', 'e', 'r', '\r', '\n', 0x1a, '\n'};
static const uint8_t footer_magic[8] = {'n', 'p', 'h', 'd', 'E', 'N', 'D', 0x0a};

/* offsets in the footer */
enum {
    FOOTER_VERSION = 8,
    FOOTER_DIRECTORY_BYTES = 12,
    FOOTER_DIRECTORY_OFFSET = 16,
    FOOTER_FOREIGN_BYTES = 24,
    FOOTER_FILE_BYTES = 32,
    FOOTER_DIRECTORY_CHECKSUM = 40,
    FOOTER_RESERVED = 48,
    FOOTER_CHECKSUM = 56
};
_Static_assert(FOOTER_CHECKSUM + 8 == NPHDI_TRAILER_FOOTER_BYTES, "footer layout");

/* offsets in the directory */
enum {
    DIRECTORY_IDENTITY = 0,
    DIRECTORY_GENERATION = 16,
    DIRECTORY_LIVE = 24,
    DIRECTORY_NEXT_KEY = 32,
    DIRECTORY_BUILD_BREADTH = 40,
    DIRECTORY_SEARCH_BREADTH = 44,
    DIRECTORY_BLOCK_BYTES = 48,
    DIRECTORY_SECTION_COUNT = 52,
    DIRECTORY_RESERVED = 56 /* 40 bytes of zeros */
};
_Static_assert(DIRECTORY_RESERVED + 40 == NPHDI_TRAILER_DIRECTORY_HEAD_BYTES, "directory layout");

void nphdi_trailer_encode_mark(uint8_t out[NPHDI_TRAILER_MARK_BYTES])
{
    memcpy(out, trailer_mark, NPHDI_TRAILER_MARK_BYTES);
}

bool nphdi_trailer_is_mark(const uint8_t *bytes, size_t available)
{
    return available >= NPHDI_TRAILER_MARK_BYTES &&
           memcmp(bytes, trailer_mark, NPHDI_TRAILER_MARK_BYTES) == 0;
}

bool nphdi_trailer_begins(const uint8_t *bytes, size_t available)
{
    const size_t room = available < NPHDI_TRAILER_MARK_BYTES ? available : NPHDI_TRAILER_MARK_BYTES;

    return room > 0 && memcmp(bytes, trailer_mark, room) == 0;
}

nphd_status nphdi_trailer_decode_footer(const char *name,
                                        const uint8_t footer[NPHDI_TRAILER_FOOTER_BYTES],
                                        uint64_t file_bytes, nphdi_trailer *out, bool *out_found,
                                        nphd_error *err)
{
    memset(out, 0, sizeof(*out));
    *out_found = false;
    if (memcmp(footer, footer_magic, sizeof(footer_magic)) != 0) {
        return NPHD_OK;
    }
    if (nphdi_get64(footer + FOOTER_CHECKSUM) != nphdi_hash_bytes(footer, FOOTER_CHECKSUM)) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: trailer footer: checksum mismatch", name);
    }
    if (nphdi_get32(footer + FOOTER_VERSION) != TRAILER_VERSION) {
        return nphdi_fail(err, NPHD_UNSUPPORTED, "%s: trailer version %u; known is %u", name,
                          nphdi_get32(footer + FOOTER_VERSION), TRAILER_VERSION);
    }
    out->directory_bytes = nphdi_get32(footer + FOOTER_DIRECTORY_BYTES);
    out->directory_offset = nphdi_get64(footer + FOOTER_DIRECTORY_OFFSET);
    out->foreign_bytes = nphdi_get64(footer + FOOTER_FOREIGN_BYTES);
    out->file_bytes = nphdi_get64(footer + FOOTER_FILE_BYTES);
    out->directory_checksum = nphdi_get64(footer + FOOTER_DIRECTORY_CHECKSUM);
    if (out->file_bytes != file_bytes) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: trailer footer: file of %llu bytes, it has %llu",
                          name, (unsigned long long)out->file_bytes,
                          (unsigned long long)file_bytes);
    }
    if (out->directory_bytes < NPHDI_TRAILER_DIRECTORY_HEAD_BYTES ||
        out->directory_bytes > NPHDI_TRAILER_MAX_DIRECTORY_BYTES ||
        out->directory_offset > file_bytes ||
        file_bytes - out->directory_offset != out->directory_bytes + NPHDI_TRAILER_FOOTER_BYTES ||
        out->foreign_bytes > out->directory_offset ||
        out->directory_offset - out->foreign_bytes < NPHDI_TRAILER_MARK_BYTES) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: trailer footer: directory out of place", name);
    }
    *out_found = true;
    return NPHD_OK;
}

static bool is_known(uint32_t id)
{
    return (id >= NPHDI_SECTION_CHECKSUMS && id <= NPHDI_SECTION_LIVE) ||
           id == NPHDI_SECTION_PLANES || id == NPHDI_SECTION_UNIT ||
           id == NPHDI_SECTION_KEY_OVERFLOW;
}

static nphd_status decode_section(const char *name, const uint8_t *entry,
                                  const nphdi_trailer *trailer, nphdi_trailer_section *out,
                                  nphd_error *err)
{
    out->id = nphdi_get32(entry);
    out->flags = nphdi_get32(entry + 4);
    out->offset = nphdi_get64(entry + 8);
    out->bytes = nphdi_get64(entry + 16);
    out->checksum = nphdi_get64(entry + 24);
    if (out->offset < trailer->foreign_bytes + NPHDI_TRAILER_MARK_BYTES ||
        out->offset > trailer->directory_offset ||
        out->bytes > trailer->directory_offset - out->offset) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: trailer section %u lies outside the trailer",
                          name, out->id);
    }
    if ((out->flags & NPHDI_SECTION_CRITICAL) != 0 && !is_known(out->id)) {
        return nphdi_fail(err, NPHD_UNSUPPORTED,
                          "%s: trailer section %u is needed and not known to this version", name,
                          out->id);
    }
    return NPHD_OK;
}

static nphd_status check_checksum_section(const char *name, const nphdi_trailer *trailer,
                                          nphd_error *err)
{
    const nphdi_trailer_section *sums = nphdi_trailer_find(trailer, NPHDI_SECTION_CHECKSUMS);

    if (sums == NULL || sums->offset + sums->bytes != trailer->directory_offset ||
        sums->bytes != 8 * nphdi_trailer_blocks(sums->offset)) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: trailer directory: block checksums out of place",
                          name);
    }
    return NPHD_OK;
}

nphd_status nphdi_trailer_decode_directory(const char *name, const uint8_t *directory,
                                           nphdi_trailer *trailer, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    if (nphdi_hash_bytes(directory, trailer->directory_bytes) != trailer->directory_checksum) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: trailer directory: checksum mismatch", name);
    }
    memcpy(trailer->identity, directory + DIRECTORY_IDENTITY, sizeof(trailer->identity));
    trailer->generation = nphdi_get64(directory + DIRECTORY_GENERATION);
    trailer->live = nphdi_get64(directory + DIRECTORY_LIVE);
    trailer->next_automatic_key = nphdi_get64(directory + DIRECTORY_NEXT_KEY);
    trailer->build_breadth = nphdi_get32(directory + DIRECTORY_BUILD_BREADTH);
    trailer->search_breadth = nphdi_get32(directory + DIRECTORY_SEARCH_BREADTH);
    trailer->section_count = nphdi_get32(directory + DIRECTORY_SECTION_COUNT);
    if (trailer->generation > NPHDI_LAST_GENERATION) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: trailer directory: generation %llu", name,
                          (unsigned long long)trailer->generation);
    }
    if (nphdi_get32(directory + DIRECTORY_BLOCK_BYTES) != NPHDI_TRAILER_BLOCK_BYTES) {
        return nphdi_fail(err, NPHD_UNSUPPORTED, "%s: trailer directory: blocks of %u bytes", name,
                          nphdi_get32(directory + DIRECTORY_BLOCK_BYTES));
    }
    if (trailer->section_count > NPHDI_TRAILER_MAX_SECTIONS ||
        trailer->directory_bytes !=
            NPHDI_TRAILER_DIRECTORY_HEAD_BYTES +
                trailer->section_count * (uint32_t)NPHDI_TRAILER_SECTION_BYTES) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: trailer directory: %u sections in %u bytes", name,
                          trailer->section_count, trailer->directory_bytes);
    }
    for (uint32_t i = 0; i < trailer->section_count; i++) {
        TRY(decode_section(name,
                           directory + NPHDI_TRAILER_DIRECTORY_HEAD_BYTES +
                               (size_t)i * NPHDI_TRAILER_SECTION_BYTES,
                           trailer, &trailer->sections[i], err));
    }
    TRY(check_checksum_section(name, trailer, err));
done:
    return status;
}

size_t nphdi_trailer_encode_end(
    nphdi_trailer *trailer,
    uint8_t out[NPHDI_TRAILER_MAX_DIRECTORY_BYTES + NPHDI_TRAILER_FOOTER_BYTES])
{
    const nphdi_trailer_section *sums = nphdi_trailer_find(trailer, NPHDI_SECTION_CHECKSUMS);
    const size_t directory_bytes = NPHDI_TRAILER_DIRECTORY_HEAD_BYTES +
                                   (size_t)trailer->section_count * NPHDI_TRAILER_SECTION_BYTES;
    uint8_t *footer = out + directory_bytes;

    memset(out, 0, directory_bytes + NPHDI_TRAILER_FOOTER_BYTES);
    memcpy(out + DIRECTORY_IDENTITY, trailer->identity, sizeof(trailer->identity));
    nphdi_put64(out + DIRECTORY_GENERATION, trailer->generation);
    nphdi_put64(out + DIRECTORY_LIVE, trailer->live);
    nphdi_put64(out + DIRECTORY_NEXT_KEY, trailer->next_automatic_key);
    nphdi_put32(out + DIRECTORY_BUILD_BREADTH, trailer->build_breadth);
    nphdi_put32(out + DIRECTORY_SEARCH_BREADTH, trailer->search_breadth);
    nphdi_put32(out + DIRECTORY_BLOCK_BYTES, NPHDI_TRAILER_BLOCK_BYTES);
    nphdi_put32(out + DIRECTORY_SECTION_COUNT, trailer->section_count);
    for (uint32_t i = 0; i < trailer->section_count; i++) {
        uint8_t *entry =
            out + NPHDI_TRAILER_DIRECTORY_HEAD_BYTES + (size_t)i * NPHDI_TRAILER_SECTION_BYTES;
        nphdi_put32(entry, trailer->sections[i].id);
        nphdi_put32(entry + 4, trailer->sections[i].flags);
        nphdi_put64(entry + 8, trailer->sections[i].offset);
        nphdi_put64(entry + 16, trailer->sections[i].bytes);
        nphdi_put64(entry + 24, trailer->sections[i].checksum);
    }
    trailer->directory_offset = sums->offset + sums->bytes;
    trailer->directory_bytes = (uint32_t)directory_bytes;
    trailer->directory_checksum = nphdi_hash_bytes(out, directory_bytes);
    trailer->file_bytes = trailer->directory_offset + directory_bytes + NPHDI_TRAILER_FOOTER_BYTES;

    memcpy(footer, footer_magic, sizeof(footer_magic));
    nphdi_put32(footer + FOOTER_VERSION, TRAILER_VERSION);
    nphdi_put32(footer + FOOTER_DIRECTORY_BYTES, trailer->directory_bytes);
    nphdi_put64(footer + FOOTER_DIRECTORY_OFFSET, trailer->directory_offset);
    nphdi_put64(footer + FOOTER_FOREIGN_BYTES, trailer->foreign_bytes);
    nphdi_put64(footer + FOOTER_FILE_BYTES, trailer->file_bytes);
    nphdi_put64(footer + FOOTER_DIRECTORY_CHECKSUM, trailer->directory_checksum);
    nphdi_put64(footer + FOOTER_RESERVED, 0);
    nphdi_put64(footer + FOOTER_CHECKSUM, nphdi_hash_bytes(footer, FOOTER_CHECKSUM));
    return directory_bytes + NPHDI_TRAILER_FOOTER_BYTES;
}

const nphdi_trailer_section *nphdi_trailer_find(const nphdi_trailer *trailer, uint32_t id)
{
    for (uint32_t i = 0; i < trailer->section_count; i++) {
        if (trailer->sections[i].id == id) {
            return &trailer->sections[i];
        }
    }
    return NULL;
}
