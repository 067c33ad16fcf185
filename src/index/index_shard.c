/* Lookups, hidden slots and trailers for the sharded index. */
#include "index/index_shard.h"

#include "base/error.h"
#include "index/index_internal.h"

#include <string.h>

/* ---- files ---- */

const nphdi_trailer *nphdi_index_trailer(const nphd_index *index)
{
    const nphdi_content *content = index->content;

    return content->view && content->mapped.has_trailer ? &content->mapped.trailer : NULL;
}

/* A footer without its mark belongs to other bytes than those before it. */
static nphd_status read_trailer(const nphdi_source *source, nphdi_trailer *out, bool *out_found,
                                nphd_error *err)
{
    nphd_status status = NPHD_OK;

    TRY(nphdi_source_trailer(source, out, out_found, err));
    if (*out_found) {
        TRY(nphdi_source_check_mark(source, out, err));
    }
done:
    if (status != NPHD_OK) {
        *out_found = false;
        memset(out, 0, sizeof(*out));
    }
    return status;
}

nphd_status nphdi_file_trailer(const nphd_io *io, const char *path, nphdi_trailer *out,
                               bool *out_found, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_source source;

    *out_found = false;
    memset(out, 0, sizeof(*out));
    TRY(nphdi_source_open(&source, io, path, err));
    TRY(read_trailer(&source, out, out_found, err));
done:
    nphdi_source_close(&source);
    return status;
}

/* Reads a section through the blocks that cover it. */
static nphd_status read_covered(const nphdi_source *source, const nphdi_trailer *trailer,
                                const nphdi_trailer_section *section,
                                const nphd_allocator *allocator, void *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_block_reader reader;

    TRY(nphdi_block_reader_begin(&reader, source, trailer, allocator, err));
    reader.offset = section->offset;
    status = nphdi_block_reader_take(&reader, out, section->bytes, err);
    nphdi_block_reader_end(&reader);
done:
    return status;
}

nphd_status nphdi_index_read_section(const nphd_io *io, const nphd_allocator *allocator,
                                     const char *path, uint32_t id, bool *out_found,
                                     void **out_data, uint64_t *out_bytes, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_trailer_section *section = NULL;
    nphdi_source source;
    nphdi_trailer trailer;
    void *data = NULL;
    uint64_t bytes = 0;

    *out_found = false;
    *out_data = NULL;
    *out_bytes = 0;
    TRY(nphdi_source_open(&source, io, path, err));
    TRY(read_trailer(&source, &trailer, out_found, err));
    section = nphdi_trailer_find(&trailer, id);
    *out_found = section != NULL;
    if (section != NULL) {
        bytes = section->bytes;
        TRY(nphdi_alloc(allocator, bytes, 1, &data, err));
        TRY(read_covered(&source, &trailer, section, allocator, data, err));
        *out_data = data;
        *out_bytes = bytes;
        data = NULL;
    }
done:
    *out_found = *out_found && status == NPHD_OK;
    nphdi_free(allocator, data, bytes, 1);
    nphdi_source_close(&source);
    return status;
}

/* ---- hidden slots ---- */

void nphdi_index_set_hidden(nphd_index *index, const nphdi_hidden *hidden)
{
    index->content->hidden = hidden;
}

/* ---- lookups ---- */

void nphdi_index_slot_table(const nphd_index *index, nphdi_slot_table *out)
{
    const nphdi_content *content = index->content;

    if (content->view) {
        *out = content->mapped.trailer_table;
    } else {
        memset(out, 0, sizeof(*out));
    }
}

nphd_status nphdi_index_find_stored(nphd_index *index, nphd_key key, uint64_t hash,
                                    uint32_t *out_slot, bool *out_hidden, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_hidden *hidden = index->content->hidden;
    nphdi_probe probe;
    uint32_t slot = UINT32_MAX;

    *out_slot = UINT32_MAX;
    *out_hidden = false;
    TRY(nphdi_probe_begin(index->content, key,
                          index->content->view ? hash : nphdi_content_hash(index->content, key),
                          &probe, err));
    do {
        TRY(nphdi_probe_next_stored(&probe, &slot, err));
        if (slot != UINT32_MAX && (hidden == NULL || !nphdi_hidden_get(hidden, slot))) {
            *out_slot = slot;
            *out_hidden = false;
            break;
        }
        if (*out_slot == UINT32_MAX) {
            *out_slot = slot;
            *out_hidden = slot != UINT32_MAX;
        }
    } while (slot != UINT32_MAX);
done:
    if (status != NPHD_OK) {
        *out_slot = UINT32_MAX;
        *out_hidden = false;
    }
    return status;
}

nphd_status nphdi_index_vector_at(nphd_index *index, uint32_t slot, uint8_t *out, size_t *out_bytes,
                                  nphd_error *err)
{
    const nphdi_content *content = index->content;
    nphd_vector vector;

    *out_bytes = 0;
    if (slot >= nphdi_content_slots(content)) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "%s: there is no slot %u",
                          nphdi_content_name(content), slot);
    }
    vector = nphdi_content_vector(content, slot);
    *out_bytes = vector.bytes;
    if (vector.bytes > 0) {
        memcpy(out, vector.data, vector.bytes);
    }
    return NPHD_OK;
}

nphd_status nphdi_index_key_at(nphd_index *index, uint32_t slot, nphd_key *out, bool *out_visible,
                               bool *out_stored, nphd_error *err)
{
    const nphdi_content *content = index->content;

    *out = nphd_key_u64(0);
    *out_visible = false;
    *out_stored = false;
    if (slot >= nphdi_content_slots(content)) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "%s: there is no slot %u",
                          nphdi_content_name(content), slot);
    }
    if (!nphdi_content_is_stored(content, slot)) {
        return NPHD_OK;
    }
    if (!nphdi_content_key(content, slot, out) ||
        nphdi_is_free_key(*out, content->shape.key_bytes)) {
        *out = nphd_key_u64(0);
        return nphdi_mapped_broken(&content->mapped, slot, err);
    }
    *out_stored = true;
    *out_visible = content->hidden == NULL || !nphdi_hidden_get(content->hidden, slot);
    return NPHD_OK;
}

uint64_t nphdi_index_slots(const nphd_index *index)
{
    return nphdi_content_slots(index->content);
}

uint64_t nphdi_index_stored(nphd_index *index)
{
    uint64_t stored = 0;

    return nphdi_content_stored(index->content, &stored, NULL) == NPHD_OK ? stored : 0;
}
