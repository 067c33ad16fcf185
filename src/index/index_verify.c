/* Reading what a file says of itself, and checking all of it. */
#include "base/error.h"
#include "index/index_internal.h"

#include <string.h>

/* ---- metadata ---- */

static nphd_status read_metadata(const nphdi_source *source, nphd_metadata *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_usearch_head head;
    nphdi_trailer trailer;
    nphd_metadata data = NPHD_METADATA_INIT;
    bool has_trailer = false;

    TRY(nphdi_source_headers(source, &head, &trailer, &has_trailer, err));
    data.struct_size = out->struct_size;
    data.file_bytes = source->bytes;
    data.slots = head.slots;
    data.present = has_trailer ? trailer.live : head.present;
    data.deleted = has_trailer ? head.slots - trailer.live : head.deleted;
    data.dimensions = head.dimensions;
    data.connectivity = head.node.connectivity;
    data.generation = has_trailer ? trailer.generation : 0;
    memcpy(data.version, head.version, sizeof(data.version));
    data.metric_code = (char)head.metric_code;
    data.scalar_code = head.scalar_code;
    data.key_bits = head.node.key_bytes * 8;
    data.multi = head.multi;
    data.vectors_included = head.vectors_included;
    data.dimensions_64_bit = head.dimensions_64_bit;
    data.trailer = has_trailer;
    if (has_trailer) {
        memcpy(data.identity, trailer.identity, sizeof(data.identity));
    }
    if (head.scalar_code == NPHDI_SCALAR_BITS && head.metric_code == NPHDI_METRIC_CODE_NPHD) {
        data.metric = NPHD_METRIC_NPHD;
    } else if (head.scalar_code == NPHDI_SCALAR_BITS &&
               head.metric_code == NPHDI_METRIC_CODE_HAMMING) {
        data.metric = NPHD_METRIC_HAMMING;
    }
    if (data.metric != NPHD_METRIC_DEFAULT && head.dimensions <= NPHD_MAX_BITS + 8) {
        data.max_bits = (uint32_t)head.dimensions - (data.metric == NPHD_METRIC_NPHD ? 8 : 0);
    }
    memcpy(out, &data, out->struct_size < sizeof(data) ? out->struct_size : sizeof(data));
done:
    return status;
}

static nphd_status check_metadata_out(nphd_metadata *out, nphd_error *err)
{
    const nphd_metadata empty = NPHD_METADATA_INIT;
    size_t bytes;

    if (out == NULL || out->struct_size < sizeof(size_t)) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "metadata: use NPHD_METADATA_INIT");
    }
    bytes = out->struct_size;
    memcpy(out, &empty, bytes < sizeof(empty) ? bytes : sizeof(empty));
    out->struct_size = bytes;
    return NPHD_OK;
}

nphd_status nphd_file_metadata(const char *path, const nphd_io *io, nphd_metadata *out,
                               nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_source source;

    nphdi_error_clear(err);
    memset(&source, 0, sizeof(source));
    TRY(check_metadata_out(out, err));
    if (path == NULL || path[0] == '\0') {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "the path is empty");
    }
    TRY(nphdi_source_open(&source, io == NULL ? nphdi_io_posix() : io, path, err));
    TRY(read_metadata(&source, out, err));
done:
    nphdi_source_close(&source);
    return status;
}

nphd_status nphd_buffer_metadata(const void *buffer, size_t bytes, nphd_metadata *out,
                                 nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_source source;

    nphdi_error_clear(err);
    TRY(check_metadata_out(out, err));
    if (buffer == NULL) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "the buffer is NULL");
    }
    nphdi_source_of_memory(&source, buffer, bytes);
    TRY(read_metadata(&source, out, err));
done:
    return status;
}

/* ---- verify ---- */

typedef struct verification {
    const nphdi_source *source;
    nphd_damage damage;
    void *damage_context;
    nphd_verify_report report;
    nphd_status first_status; /* of the first damage */
    nphd_error *err;          /* holds its text */
} verification;

static void note_damage(verification *work, nphd_status status, const nphd_error *found)
{
    if (work->damage != NULL) {
        work->damage(work->damage_context, found->text);
    }
    if (work->first_status == NPHD_OK) {
        work->first_status = status;
        nphdi_error_copy(work->err, found);
    }
}

/* Every block, going on after a damaged one. */
static nphd_status verify_all_blocks(verification *work, const nphdi_trailer *trailer,
                                     const nphd_allocator *allocator, nphd_error *found)
{
    nphd_status status = NPHD_OK;
    nphdi_block_reader reader;

    memset(&reader, 0, sizeof(reader));
    TRY(nphdi_block_reader_begin(&reader, work->source, trailer, allocator, found));
    for (uint64_t offset = 0; offset < reader.covered; offset += NPHDI_TRAILER_BLOCK_BYTES) {
        status = nphdi_block_reader_load(&reader, offset, found);
        if (status == NPHD_CORRUPT) {
            note_damage(work, status, found);
            work->report.damaged++;
            status = NPHD_OK;
        }
        TRY(status);
        work->report.blocks++;
    }
done:
    nphdi_block_reader_end(&reader);
    return status;
}

/* Headers that cannot be used may be damaged ones: then their block tells. */
static void verify_blocks_alone(verification *work, const nphd_allocator *allocator)
{
    nphdi_trailer trailer;
    nphd_error found = NPHD_ERROR_INIT;
    bool has_trailer = false;

    if (nphdi_source_trailer(work->source, &trailer, &has_trailer, &found) == NPHD_OK &&
        has_trailer) {
        work->report.checksums = true;
        (void)verify_all_blocks(work, &trailer, allocator, &found);
    }
}

static nphd_status verify_source(verification *work, const nphd_allocator *allocator,
                                 nphd_error *found)
{
    nphd_status status = NPHD_OK;
    nphdi_usearch_head head;
    nphdi_trailer trailer;
    nphdi_mapped mapped;
    bool has_trailer = false;

    memset(&mapped, 0, sizeof(mapped));
    status = nphdi_source_headers(work->source, &head, &trailer, &has_trailer, found);
    if (status == NPHD_CORRUPT || status == NPHD_UNSUPPORTED) {
        verify_blocks_alone(work, allocator);
    }
    TRY(status);
    work->report.checksums = has_trailer;
    if (has_trailer) {
        TRY(verify_all_blocks(work, &trailer, allocator, found));
    }
    TRY(nphdi_usearch_check_supported(work->source->name, &head, found));
    TRY(nphdi_mapped_open(&mapped, work->source, &head, &trailer, has_trailer, allocator, found));
    work->report.slots = head.slots;
    TRY(nphdi_mapped_check(&mapped, found));
done:
    nphdi_mapped_close(&mapped);
    return status;
}

nphd_status nphd_file_verify(const char *path, const nphd_io *io, nphd_damage damage,
                             void *damage_context, nphd_verify_report *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_error found = NPHD_ERROR_INIT;
    nphdi_source source;
    verification work;

    nphdi_error_clear(err);
    memset(&work, 0, sizeof(work));
    memset(&source, 0, sizeof(source));
    if (path == NULL || path[0] == '\0') {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "the path is empty");
    }
    work.source = &source;
    work.damage = damage;
    work.damage_context = damage_context;
    work.err = err;
    status = nphdi_source_open(&source, io == NULL ? nphdi_io_posix() : io, path, &found);
    if (status == NPHD_OK) {
        work.report.file_bytes = source.bytes;
        status = verify_source(&work, nphdi_allocator_system(), &found);
    }
    if (status == NPHD_CORRUPT) {
        note_damage(&work, status, &found);
    } else if (status != NPHD_OK && work.first_status == NPHD_OK) {
        nphdi_error_copy(err, &found);
    }
    if (out != NULL) {
        *out = work.report;
    }
    nphdi_source_close(&source);
    return work.first_status != NPHD_OK ? work.first_status : status;
}
