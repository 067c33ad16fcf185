/* The tombstone file: the deleted keys as the reference knows them, and behind them, in a section
 * of the trailer, which entries of which shard are dead. */
#include "base/bytes.h"
#include "base/error.h"
#include "formats/npy_format.h"
#include "formats/usearch_format.h"
#include "index/source.h"
#include "sharded/sharded_internal.h"

#include <string.h>

/* ---- reading ---- */

static nphd_status read_head(const nphd_sharded *sharded, nphdi_block_reader *reader,
                             const nphdi_source *source, uint64_t foreign_bytes,
                             uint64_t *out_count, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint8_t *head = NULL;
    uint64_t head_bytes = 0;
    uint64_t count = 0;
    uint32_t key_bytes = 0;
    uint8_t prefix[NPHDI_NPY_PREFIX_BYTES];

    if (foreign_bytes < sizeof(prefix)) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: %llu bytes are no array", source->name,
                          (unsigned long long)foreign_bytes);
    }
    TRY(nphdi_block_reader_take(reader, prefix, sizeof(prefix), err));
    TRY(nphdi_npy_decode_prefix(source->name, prefix, &head_bytes, err));
    if (head_bytes > foreign_bytes) {
        status = nphdi_fail(err, NPHD_CORRUPT, "%s: the head of %llu bytes ends beyond the file",
                            source->name, (unsigned long long)head_bytes);
        goto done;
    }
    TRY(nphdi_alloc(sharded->allocator, head_bytes, 1, &head, err));
    memcpy(head, prefix, sizeof(prefix));
    TRY(nphdi_block_reader_take(reader, head + sizeof(prefix), head_bytes - sizeof(prefix), err));
    TRY(nphdi_npy_decode_head(source->name, head, head_bytes, &key_bytes, &count, err));
    if (key_bytes != sharded->key_bytes) {
        status = nphdi_fail(err, NPHD_MISMATCH, "%s: keys of %u bits, the shards have %u",
                            source->name, key_bytes * 8, sharded->key_bytes * 8);
        goto done;
    }
    if (count != (foreign_bytes - head_bytes) / key_bytes ||
        (foreign_bytes - head_bytes) % key_bytes != 0) {
        status =
            nphdi_fail(err, NPHD_CORRUPT, "%s: %llu keys do not fill a file of %llu bytes",
                       source->name, (unsigned long long)count, (unsigned long long)foreign_bytes);
        goto done;
    }
    *out_count = count;
done:
    nphdi_free(sharded->allocator, head, head_bytes, 1);
    return status;
}

nphd_key nphdi_key_from_file(const uint8_t *octets, uint32_t key_bytes)
{
    nphd_key key = {0, 0};

    if (key_bytes == 16) {
        return nphd_key_from_octets(octets);
    }
    key.low = nphdi_get64(octets);
    return key;
}

static nphd_status read_keys(const nphd_sharded *sharded, const nphdi_source *source,
                             const nphdi_trailer *trailer, nphdi_tombstone_file *out,
                             nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_block_reader reader;
    uint8_t octets[16];
    uint64_t count = 0;

    memset(&reader, 0, sizeof(reader));
    TRY(nphdi_block_reader_begin(&reader, source, trailer, sharded->allocator, err));
    TRY(read_head(sharded, &reader, source,
                  trailer != NULL ? trailer->foreign_bytes : source->bytes, &count, err));
    TRY(nphdi_alloc(sharded->allocator, count, sizeof(nphd_key), &out->keys, err));
    out->count = count;
    for (uint64_t i = 0; i < count; i++) {
        TRY(nphdi_block_reader_take(&reader, octets, sharded->key_bytes, err));
        out->keys[i] = nphdi_key_from_file(octets, sharded->key_bytes);
    }
done:
    nphdi_block_reader_end(&reader);
    return status;
}

static nphd_status read_file(const nphd_sharded *sharded, const char *path,
                             nphdi_tombstone_file *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_source source;
    nphdi_trailer trailer;
    void *hidden = NULL;
    bool found = false;

    memset(&source, 0, sizeof(source));
    memset(&trailer, 0, sizeof(trailer));
    TRY(nphdi_source_open(&source, sharded->io, path, err));
    out->found = true;
    out->file_bytes = source.bytes;
    TRY(nphdi_source_trailer(&source, &trailer, &out->trailer, err));
    if (out->trailer) {
        out->generation = trailer.generation;
        if (memcmp(trailer.identity, sharded->identity, sizeof(trailer.identity)) != 0) {
            status = nphdi_fail(err, NPHD_MISMATCH, "%s: belongs to another index", path);
            goto done;
        }
        TRY(nphdi_source_verify(&source, &trailer, sharded->allocator, NULL, err));
        TRY(nphdi_index_read_section(sharded->io, sharded->allocator, path, NPHDI_SECTION_HIDDEN,
                                     &found, &hidden, &out->hidden_bytes, err));
        out->hidden = hidden;
    }
    TRY(read_keys(sharded, &source, out->trailer ? &trailer : NULL, out, err));
done:
    nphdi_source_close(&source);
    return status;
}

nphd_status nphdi_tombstones_load(const nphd_sharded *sharded, nphdi_tombstone_file *out,
                                  nphd_error *err)
{
    nphd_status status = NPHD_OK;
    char *path = NULL;
    size_t room = 0;

    memset(out, 0, sizeof(*out));
    TRY(nphdi_path_join(sharded->allocator, sharded->path, NPHDI_TOMBSTONES_NAME, &path, &room,
                        err));
    status = read_file(sharded, path, out, err);
    if (status == NPHD_NOT_FOUND) {
        nphdi_error_clear(err);
        status = NPHD_OK;
    } else if (status != NPHD_OK) {
        const bool found = out->found;
        const uint64_t file_bytes = out->file_bytes;
        nphdi_tombstones_release(sharded, out);
        out->found = found;
        out->file_bytes = file_bytes;
    }
done:
    nphdi_free(sharded->allocator, path, room, 1);
    return status;
}

void nphdi_tombstones_release(const nphd_sharded *sharded, nphdi_tombstone_file *file)
{
    nphdi_free(sharded->allocator, file->keys, file->count, sizeof(nphd_key));
    nphdi_free(sharded->allocator, file->hidden, file->hidden_bytes, 1);
    memset(file, 0, sizeof(*file));
}

/* ---- writing ---- */

static nphd_status write_file(nphd_sharded *sharded, const char *path, const nphdi_capture *capture,
                              uint64_t generation, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_extra_section extra = {NPHDI_SECTION_HIDDEN, 0, capture->hidden,
                                       capture->hidden_bytes};
    uint8_t head[NPHDI_NPY_HEAD_BYTES];
    nphdi_trailed_file file;

    memset(&file, 0, sizeof(file));
    nphdi_npy_encode_head(sharded->key_bytes, capture->tombstone_count, head);
    TRY(nphdi_trailed_begin(&file, sharded->io, sharded->allocator, path,
                            sizeof(head) + capture->tombstone_bytes, &extra, 1, err));
    TRY(nphdi_trailed_put(&file, head, sizeof(head), err));
    TRY(nphdi_trailed_put(&file, capture->tombstones, capture->tombstone_bytes, err));
    status = nphdi_trailed_commit(&file, sharded->identity, generation, err);
    if (status == NPHD_OK || status == NPHD_DURABILITY_UNKNOWN) {
        sharded->tombstone_file_bytes = file.sink.total;
    }
done:
    nphdi_trailed_end(&file);
    return status;
}

nphd_status nphdi_tombstones_save(nphd_sharded *sharded, const nphdi_capture *capture,
                                  uint64_t generation, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    char *path = NULL;
    size_t room = 0;

    if (!capture->keep_tombstones && sharded->tombstone_file_bytes == 0) {
        return NPHD_OK;
    }
    TRY(nphdi_path_join(sharded->allocator, sharded->path, NPHDI_TOMBSTONES_NAME, &path, &room,
                        err));
    /* after a failure the next record must not demand a file that a power cut may take away */
    sharded->tombstones_unsure = true;
    if (capture->keep_tombstones) {
        TRY(write_file(sharded, path, capture, generation, err));
    } else {
        TRY(nphdi_file_remove(sharded->io, path, true, err));
        sharded->tombstone_file_bytes = 0;
    }
    sharded->tombstones_unsure = false;
done:
    nphdi_free(sharded->allocator, path, room, 1);
    return status;
}
