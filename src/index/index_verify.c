/* Reading what a file says of itself, and checking all of it. */
#include "base/error.h"
#include "index/file_check.h"
#include "index/index_internal.h"

#include <string.h>

#define PLANES_HEAD_BYTES 1024 /* a number for each length (format.md section 2.4) */

/* Where the parts of the work end, for whom is told how far it is. */
enum { TABLES = 1, LEVELS = 2, ALL = 20 };

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
        data.tables = nphdi_trailer_find(&trailer, NPHDI_SECTION_MIH) != NULL;
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
    const nphd_verify_options *options;
    const nphd_allocator *allocator;
    nphdi_watch watch;
    nphd_verify_report report;
    nphd_status first_status; /* of the first damage */
    nphd_error *err;          /* holds its text */
} verification;

static void note_damage(void *context, const char *text)
{
    verification *work = context;

    if (work->options->damage != NULL) {
        work->options->damage(work->options->damage_context, text);
    }
    if (work->first_status == NPHD_OK) {
        work->first_status = nphdi_fail(work->err, NPHD_CORRUPT, "%s", text);
    }
}

/* Every block, and with `mapped` the structure. */
static nphd_status verify_blocks(verification *work, const nphdi_trailer *trailer,
                                 const nphdi_mapped *mapped, nphd_error *found)
{
    nphd_status status = NPHD_OK;
    const nphdi_watch watch = nphdi_watch_stretch(&work->watch, LEVELS, ALL, ALL);
    nphdi_file_check check;

    memset(&check, 0, sizeof(check));
    check.source = work->source;
    check.trailer = trailer;
    check.mapped = mapped;
    check.allocator = work->allocator;
    check.threads = work->options->threads;
    check.damage = note_damage;
    check.damage_context = work;
    check.watch = &watch;
    status = nphdi_file_check_run(&check, found);
    work->report.blocks = check.blocks;
    work->report.damaged = check.damaged;
    if (status == NPHD_OK && check.structure.status != NPHD_OK) {
        nphdi_error_copy(found, &check.structure);
        status = check.structure.status;
    }
    return status;
}

/* Headers that cannot be used may be damaged ones: then their block tells. Only NPHD_CANCELLED is
 * an error of its own. */
static nphd_status verify_blocks_alone(verification *work, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_trailer trailer;
    nphd_error found = NPHD_ERROR_INIT;
    bool has_trailer = false;

    if (nphdi_source_trailer(work->source, &trailer, &has_trailer, &found) == NPHD_OK &&
        has_trailer) {
        work->report.checksums = true;
        status = verify_blocks(work, &trailer, NULL, &found);
    }
    if (status != NPHD_CANCELLED) {
        return NPHD_OK;
    }
    nphdi_error_copy(err, &found);
    return status;
}

/* Reads what opening looks at in the mapping, and what nodes are compared with as the file is read:
 * the rest is read before it is looked at. */
static nphd_status touch_tables(const verification *work, const nphdi_usearch_head *head,
                                const nphdi_trailer *trailer, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_watch watch = nphdi_watch_stretch(&work->watch, 0, TABLES, ALL);

    TRY(nphdi_source_touch(work->source, head->levels_offset, 2 * head->slots, NULL, err));
    for (uint32_t i = 0; i < trailer->section_count; i++) {
        const nphdi_trailer_section *section = &trailer->sections[i];
        const bool planes = section->id == NPHDI_SECTION_PLANES;
        if (planes || section->id == NPHDI_SECTION_NODE_DIRECTORY ||
            section->id == NPHDI_SECTION_KEY_TABLE || section->id == NPHDI_SECTION_LIVE) {
            /* of the planes, the numbers before the parts */
            TRY(nphdi_source_touch(work->source, section->offset,
                                   planes && section->bytes > PLANES_HEAD_BYTES ? PLANES_HEAD_BYTES
                                                                                : section->bytes,
                                   &watch, err));
        }
    }
done:
    return status;
}

static nphd_status verify_ours(verification *work, const nphdi_usearch_head *head,
                               const nphdi_trailer *trailer, nphd_error *found)
{
    nphd_status status = NPHD_OK;
    nphd_error why = NPHD_ERROR_INIT;
    const nphdi_watch watch = nphdi_watch_stretch(&work->watch, TABLES, LEVELS, ALL);
    nphd_status structure;
    nphdi_mapped mapped;

    memset(&mapped, 0, sizeof(mapped));
    structure = nphdi_usearch_check_supported(work->source->name, head, &why);
    if (structure == NPHD_OK) {
        TRY(touch_tables(work, head, trailer, found));
        structure =
            nphdi_mapped_open(&mapped, work->source, head, trailer, true, work->allocator, &why);
    }
    if (structure == NPHD_OK) {
        work->report.slots = head->slots;
        structure = nphdi_mapped_check_levels(&mapped, &watch, &why);
    }
    TRY(structure == NPHD_CANCELLED
            ? NPHD_OK
            : verify_blocks(work, trailer, structure == NPHD_OK ? &mapped : NULL, found));
    if (structure != NPHD_OK) {
        nphdi_error_copy(found, &why);
        status = structure;
    }
done:
    nphdi_mapped_close(&mapped);
    return status;
}

/* A file without checksums, of which there is nothing to compare but its structure. */
static nphd_status verify_reference(verification *work, const nphdi_usearch_head *head,
                                    const nphdi_trailer *trailer, nphd_error *found)
{
    nphd_status status = NPHD_OK;
    const nphdi_watch reading = nphdi_watch_part(&work->watch, 0, 2);
    const nphdi_watch checking = nphdi_watch_part(&work->watch, 1, 2);
    nphdi_mapped mapped;

    memset(&mapped, 0, sizeof(mapped));
    TRY(nphdi_usearch_check_supported(work->source->name, head, found));
    TRY(nphdi_source_touch(work->source, 0, work->source->bytes, &reading, found));
    TRY(nphdi_mapped_open(&mapped, work->source, head, trailer, false, work->allocator, found));
    work->report.slots = head->slots;
    TRY(nphdi_mapped_check(&mapped, &checking, found));
done:
    nphdi_mapped_close(&mapped);
    return status;
}

static nphd_status verify_source(verification *work, nphd_error *found)
{
    nphd_status status = NPHD_OK;
    nphdi_usearch_head head;
    nphdi_trailer trailer;
    bool has_trailer = false;

    status = nphdi_source_headers(work->source, &head, &trailer, &has_trailer, found);
    if (status == NPHD_CORRUPT || status == NPHD_UNSUPPORTED) {
        const nphd_status headers = status;
        TRY(verify_blocks_alone(work, found));
        status = headers;
    }
    TRY(status);
    work->report.checksums = has_trailer;
    TRY(has_trailer ? verify_ours(work, &head, &trailer, found)
                    : verify_reference(work, &head, &trailer, found));
done:
    return status;
}

nphd_status nphd_file_verify_with(const char *path, const nphd_verify_options *options,
                                  nphd_verify_report *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_error found = NPHD_ERROR_INIT;
    nphd_verify_options known = NPHD_VERIFY_OPTIONS_INIT;
    nphdi_source source;
    verification work;

    nphdi_error_clear(err);
    memset(&work, 0, sizeof(work));
    memset(&source, 0, sizeof(source));
    work.source = &source;
    work.options = &known;
    work.allocator = nphdi_allocator_system();
    work.err = err;
    TRY(nphdi_options_read(options, sizeof(known), &known, "verify", err));
    TRY(nphdi_check_path(path, err));
    work.watch = nphdi_watch_whole(known.progress, known.progress_context, path);
    status =
        nphdi_source_open(&source, known.io == NULL ? nphdi_io_posix() : known.io, path, &found);
    if (status == NPHD_OK) {
        work.report.file_bytes = source.bytes;
        status = verify_source(&work, &found);
    }
    if (status == NPHD_CORRUPT) {
        note_damage(&work, found.text);
    } else if (status == NPHD_CANCELLED || (status != NPHD_OK && work.first_status == NPHD_OK)) {
        nphdi_error_copy(err, &found);
    }
    /* what was found counts, but for who did not want to hear all of it */
    status = work.first_status != NPHD_OK && status != NPHD_CANCELLED ? work.first_status : status;
done:
    if (out != NULL) {
        *out = work.report;
    }
    nphdi_source_close(&source);
    return status;
}

nphd_status nphd_file_verify(const char *path, const nphd_io *io, nphd_damage damage,
                             void *damage_context, nphd_verify_report *out, nphd_error *err)
{
    nphd_verify_options options = NPHD_VERIFY_OPTIONS_INIT;

    options.io = io;
    options.damage = damage;
    options.damage_context = damage_context;
    return nphd_file_verify_with(path, &options, out, err);
}
