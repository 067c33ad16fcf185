/* Opening a file or a buffer: what the caller expects of it, and then its content, read into memory
 * or mapped. */
#include "base/error.h"
#include "base/watch.h"
#include "index/index_internal.h"
#include "index/index_unit.h"

#include <string.h>

nphdi_shape nphdi_shape_of_head(const nphdi_usearch_head *head, bool legacy)
{
    nphdi_shape shape;

    memset(&shape, 0, sizeof(shape));
    shape.metric = legacy || head->metric_code == NPHDI_METRIC_CODE_NPHD ? NPHD_METRIC_NPHD
                                                                         : NPHD_METRIC_HAMMING;
    shape.prefix_bytes = shape.metric == NPHD_METRIC_NPHD ? 1 : 0;
    shape.payload_bytes = (uint32_t)head->row_bytes - shape.prefix_bytes;
    shape.key_bytes = head->node.key_bytes;
    shape.connectivity = head->node.connectivity;
    shape.connectivity_base = head->node.connectivity_base;
    shape.multi = head->multi;
    return shape;
}

/* ---- what the caller expects ---- */

static nphd_status expect(const char *name, const char *what, uint64_t file, uint64_t asked,
                          nphd_error *err)
{
    if (asked != 0 && asked != file) {
        return nphdi_fail(err, NPHD_MISMATCH, "%s: %s of the file is %llu, but %llu was asked for",
                          name, what, (unsigned long long)file, (unsigned long long)asked);
    }
    return NPHD_OK;
}

static nphd_status check_expected(const char *name, const nphdi_shape *shape, bool empty,
                                  const nphd_open_options *options, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(expect(name, "the width in bits", 8ULL * shape->payload_bytes, options->max_bits, err));
    TRY(expect(name, "the key width in bits", 8ULL * shape->key_bytes, options->key_bits, err));
    if (!empty) {
        TRY(expect(name, "the connectivity", shape->connectivity, options->connectivity, err));
    }
    if (options->metric != NPHD_METRIC_DEFAULT && options->metric != shape->metric) {
        return nphdi_fail(err, NPHD_MISMATCH,
                          "%s: the metric of the file is %s, but %s was asked for%s", name,
                          nphd_metric_name(shape->metric), nphd_metric_name(options->metric),
                          options->metric == NPHD_METRIC_NPHD
                              ? " (for a file from before the NPHD metric set legacy_nphd)"
                              : "");
    }
    if (options->multi > 2) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "multi is %u; it must be 0, 1 or 2",
                          options->multi);
    }
    if (options->multi != 0 && (options->multi == 2) != shape->multi) {
        return nphdi_fail(err, NPHD_MISMATCH, "%s: the file is %smulti, but %smulti was asked for",
                          name, shape->multi ? "" : "not ", options->multi == 2 ? "" : "not ");
    }
done:
    return status;
}

/* ---- opening ---- */

/* What becomes of a source once its headers are read. */
typedef struct opening {
    nphdi_usearch_head head;
    nphdi_trailer trailer;
    bool has_trailer;
    nphdi_shape shape;
} opening;

static nphd_status open_headers(const nphd_index *index, const nphdi_source *source,
                                const nphd_open_options *options, opening *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(nphdi_source_headers(source, &out->head, &out->trailer, &out->has_trailer, err));
    TRY(nphdi_usearch_check_supported(source->name, &out->head, err));
    if (options->legacy_nphd && out->head.metric_code == NPHDI_METRIC_CODE_NPHD) {
        return nphdi_fail(err, NPHD_MISMATCH,
                          "%s: the file has the NPHD metric, but legacy_nphd is for files that say "
                          "Hamming",
                          source->name);
    }
    if (options->legacy_nphd && out->head.row_bytes < 2) {
        return nphdi_fail(err, NPHD_MISMATCH, "%s: rows of 1 byte cannot be NPHD rows",
                          source->name);
    }
    if (!options->legacy_nphd && out->head.row_bytes > NPHD_MAX_BYTES &&
        out->head.metric_code == NPHDI_METRIC_CODE_HAMMING) {
        return nphdi_fail(err, NPHD_UNSUPPORTED, "%s: vectors of %llu bits; at most %u",
                          source->name, (unsigned long long)out->head.dimensions, NPHD_MAX_BITS);
    }
    out->shape = nphdi_shape_of_head(&out->head, options->legacy_nphd);
    TRY(check_expected(source->name, &out->shape, out->head.slots == 0, options, err));
    if (out->head.slots == 0) {
        /* an empty file has no connectivity to adopt, so that of the opener stays */
        out->shape.connectivity =
            options->connectivity != 0 ? options->connectivity : index->content->shape.connectivity;
        out->shape.connectivity_base = 2 * out->shape.connectivity;
    }
done:
    return status;
}

static nphd_status open_view(const nphd_index *index, const nphdi_source *source,
                             const opening *from, const nphd_open_options *options,
                             nphdi_content **out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_content *content = NULL;
    const nphdi_watch whole =
        nphdi_watch_whole(options->progress, options->progress_context, source->name);
    const nphdi_watch blocks = nphdi_watch_part(&whole, 0, 2);
    const nphdi_watch structure = nphdi_watch_part(&whole, 1, 2);

    if (options->verify && from->has_trailer) {
        TRY(nphdi_source_verify(source, &from->trailer, index->allocator, &blocks, err));
    }
    TRY(nphdi_content_create(&from->shape, true, index->allocator, &content, err));
    TRY(nphdi_mapped_open(&content->mapped, source, &from->head, &from->trailer, from->has_trailer,
                          index->allocator, err));
    if (options->verify) {
        TRY(nphdi_mapped_check(&content->mapped, &structure, err));
    }
    content->next_automatic =
        from->has_trailer ? from->trailer.next_automatic_key : from->head.slots;
    *out = content;
    content = NULL;
done:
    nphdi_content_close(content);
    return status;
}

static uint32_t first_breadth(uint32_t asked, uint32_t stored, uint32_t now)
{
    if (asked != 0) {
        return asked;
    }
    return stored != 0 && stored <= NPHDI_MAX_BREADTH ? stored : now;
}

static nphd_status open_source(nphd_index *index, const nphdi_source *source, bool view,
                               const nphd_open_options *options, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    opening from;
    nphdi_content *content = NULL;

    memset(&from, 0, sizeof(from));
    TRY(open_headers(index, source, options, &from, err));
    TRY(view ? open_view(index, source, &from, options, &content, err)
             : nphdi_content_read(source, &from.head, from.has_trailer ? &from.trailer : NULL,
                                  &from.shape, options, index->allocator, &content, err));
    TRY(nphdi_unit_read(source, from.has_trailer ? &from.trailer : NULL, content, err));
    nphdi_index_replace(index, content);
    content = NULL;
    index->generation = from.has_trailer ? from.trailer.generation : 0;
    memset(index->identity, 0, sizeof(index->identity));
    if (from.has_trailer) {
        memcpy(index->identity, from.trailer.identity, sizeof(index->identity));
    }
    atomic_store(&index->build_breadth,
                 first_breadth(options->build_breadth, from.trailer.build_breadth,
                               atomic_load(&index->build_breadth)));
    atomic_store(&index->search_breadth,
                 first_breadth(options->search_breadth, from.trailer.search_breadth,
                               atomic_load(&index->search_breadth)));
done:
    nphdi_content_close(content);
    return status;
}

static nphd_status open_file(nphd_index *index, const char *path, bool view,
                             const nphd_open_options *options, nphdi_home *home, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_source source;

    memset(&source, 0, sizeof(source));
    if (!index->is_shard) {
        TRY(nphdi_home_begin(index->io, index->allocator, path, home, err));
        /* before it is opened: what is put there later counts as another file */
        TRY(nphdi_home_look(index->io, home, err));
    }
    TRY(nphdi_source_open(&source, index->io, path, err));
    TRY(index->is_shard ? NPHD_OK : nphdi_home_of_source(home, &source, err));
    TRY(open_source(index, &source, view, options, err));
done:
    nphdi_source_close(&source);
    return status;
}

static nphd_status open_locked(nphd_index *index, const char *path, const void *buffer,
                               size_t bytes, bool view, const nphd_open_options *options,
                               nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_open_options known = NPHD_OPEN_OPTIONS_INIT;
    nphdi_source source;
    nphdi_home home;

    nphdi_error_clear(err);
    memset(&home, 0, sizeof(home));
    NPHDI_INDEX_ENTER(index, err);
    TRY(nphdi_options_read(options, sizeof(known), &known, "open options", err));
    if (known.build_breadth > NPHDI_MAX_BREADTH || known.search_breadth > NPHDI_MAX_BREADTH) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "a breadth must be 1 to %u",
                          NPHDI_MAX_BREADTH);
    }
    if (known.connectivity != 0 &&
        (known.connectivity < 2 || known.connectivity > NPHDI_MAX_OPTION_CONNECTIVITY)) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "connectivity is %u; it must be 2 to %u",
                          known.connectivity, NPHDI_MAX_OPTION_CONNECTIVITY);
    }
    nphdi_rwlock_write(&index->change_lock);
    nphdi_rwlock_write(&index->content_lock);
    if (path != NULL) {
        status = open_file(index, path, view, &known, &home, err);
    } else {
        nphdi_source_of_memory(&source, buffer, bytes);
        status = open_source(index, &source, view, &known, err);
    }
    if (status == NPHD_OK) {
        nphdi_home_move(index->allocator, &index->home, &home);
    }
    nphdi_home_release(index->allocator, &home);
    nphdi_rwlock_write_end(&index->content_lock);
    nphdi_rwlock_write_end(&index->change_lock);
done:
    return status;
}

nphd_status nphdi_check_path(const char *path, nphd_error *err)
{
    if (path == NULL || path[0] == '\0') {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "the path is empty");
    }
    return NPHD_OK;
}

static nphd_status check_buffer(const void *buffer, nphd_error *err)
{
    if (buffer == NULL) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "the buffer is NULL");
    }
    return NPHD_OK;
}

nphd_status nphd_index_load(nphd_index *index, const char *path, const nphd_open_options *options,
                            nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(nphdi_check_path(path, err));
    TRY(open_locked(index, path, NULL, 0, false, options, err));
done:
    return status;
}

nphd_status nphd_index_load_buffer(nphd_index *index, const void *buffer, size_t bytes,
                                   const nphd_open_options *options, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(check_buffer(buffer, err));
    TRY(open_locked(index, NULL, buffer, bytes, false, options, err));
done:
    return status;
}

nphd_status nphd_index_view(nphd_index *index, const char *path, const nphd_open_options *options,
                            nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(nphdi_check_path(path, err));
    TRY(open_locked(index, path, NULL, 0, true, options, err));
done:
    return status;
}

nphd_status nphd_index_view_buffer(nphd_index *index, const void *buffer, size_t bytes,
                                   const nphd_open_options *options, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(check_buffer(buffer, err));
    TRY(open_locked(index, NULL, buffer, bytes, true, options, err));
done:
    return status;
}
