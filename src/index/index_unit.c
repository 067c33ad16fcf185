/* The type of the codes in an index: telling it, asking for it, and its section of the trailer. */
#include "index/index_unit.h"

#include "base/error.h"
#include "index/index_internal.h"

/* ---- files ---- */

nphd_status nphdi_unit_read(const nphdi_source *source, const nphdi_trailer *trailer,
                            nphdi_content *content, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_trailer_section *section =
        trailer != NULL ? nphdi_trailer_find(trailer, NPHDI_SECTION_UNIT) : NULL;
    uint8_t bytes[NPHDI_UNIT_BYTES];

    if (section != NULL && section->bytes == sizeof(bytes)) {
        TRY(nphdi_source_read(source, section->offset, bytes, sizeof(bytes), err));
        atomic_store(&content->unit, nphdi_unit_decode(bytes, sizeof(bytes)));
    }
done:
    return status;
}

void nphdi_unit_describe(const nphdi_content *content, nphdi_trailer *trailer)
{
    nphdi_trailer_section *section = &trailer->sections[trailer->section_count];

    if (atomic_load(&content->unit) != NPHD_UNIT_NONE) {
        section->id = NPHDI_SECTION_UNIT;
        section->bytes = NPHDI_UNIT_BYTES;
        trailer->section_count++;
    }
}

nphd_status nphdi_unit_put(nphdi_block_sink *to, const nphdi_content *content,
                           const nphdi_trailer *trailer, nphd_error *err)
{
    uint8_t bytes[NPHDI_UNIT_BYTES];

    if (nphdi_trailer_find(trailer, NPHDI_SECTION_UNIT) == NULL) {
        return NPHD_OK;
    }
    nphdi_unit_encode(atomic_load(&content->unit), bytes);
    return nphdi_sink_put(to, bytes, sizeof(bytes), err);
}

/* ---- handles ---- */

/* The caller holds the locks; slot_lock, too, as two threads may tell different types. */
static nphd_status set_unit(nphdi_content *content, nphd_unit unit, bool mix, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_unit now = atomic_load(&content->unit);
    nphd_unit then = now;

    TRY(nphdi_unit_follow("the index", now, unit, mix, &then, err));
    if (then != now && content->view) {
        return nphdi_fail(err, NPHD_READ_ONLY, "set_unit: the index is a view");
    }
    atomic_store(&content->unit, then);
done:
    return status;
}

nphd_status nphd_index_set_unit(nphd_index *index, nphd_unit unit, bool mix, nphd_error *err)
{
    nphd_status status;

    nphdi_error_clear(err);
    NPHDI_INDEX_ENTER(index, err);
    /* a save under way has its sections planned */
    nphdi_rwlock_read(&index->change_lock);
    nphdi_rwlock_read(&index->content_lock);
    (void)pthread_mutex_lock(&index->content->slot_lock);
    status = set_unit(index->content, unit, mix, err);
    (void)pthread_mutex_unlock(&index->content->slot_lock);
    nphdi_rwlock_read_end(&index->content_lock);
    nphdi_rwlock_read_end(&index->change_lock);
    return status;
}

nphd_unit nphd_index_unit(nphd_index *index)
{
    nphd_unit unit = NPHD_UNIT_NONE;

    if (nphdi_index_enter(index, NULL) != NPHD_OK) {
        return unit;
    }
    nphdi_rwlock_read(&index->content_lock);
    unit = atomic_load(&index->content->unit);
    nphdi_rwlock_read_end(&index->content_lock);
    return unit;
}
