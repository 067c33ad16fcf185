/* The tables of multi-index hashing of an index: mapped with its file, or made in memory on
 * request. Rows that change after that are kept apart: a mark says that the tables are wrong about
 * a slot, and a list names those slots for comparing them one by one. */
#include "base/error.h"
#include "index/content.h"

#include <string.h>

/* Of this many slots one may change before the tables are given up: comparing those that did would
 * cost more than the tables save. */
#define LOOSE_SHARE 16

struct nphdi_content_mih {
    nphdi_region block;
    nphdi_mih mih;
    uint64_t *stale; /* a bit for each covered slot */
    uint32_t *loose;
    uint64_t loose_room;
    uint64_t loose_count;
    bool given_up;
};

static uint64_t stale_words(uint64_t slots)
{
    return (slots + 63) / 64;
}

void nphdi_content_mih_free(nphdi_content_mih *tables, const nphd_allocator *allocator)
{
    if (tables == NULL) {
        return;
    }
    nphdi_free(allocator, tables->stale, stale_words(tables->mih.covered), sizeof(*tables->stale));
    nphdi_free(allocator, tables->loose, tables->loose_room, sizeof(*tables->loose));
    nphdi_region_release(&tables->block, allocator);
    nphdi_free(allocator, tables, 1, sizeof(*tables));
}

nphd_status nphdi_content_mih_make(const nphdi_content *content, uint32_t threads,
                                   const nphdi_watch *watch, nphdi_content_mih **out,
                                   nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_allocator *allocator = content->allocator;
    const nphdi_rows rows = nphdi_content_rows(content);
    const uint64_t slots = nphdi_content_slots(content);
    uint32_t counts[NPHDI_MIH_LENGTHS];
    nphdi_content_mih *tables = NULL;

    *out = NULL;
    if (slots < NPHDI_MIH_LEAST_SLOTS || nphdi_content_mih_is_whole(content)) {
        return NPHD_OK;
    }
    TRY(nphdi_alloc(allocator, 1, sizeof(*tables), &tables, err));
    *out = tables;
    tables->mih.covered = slots; /* so that it can be closed */
    tables->loose_room = slots / LOOSE_SHARE + 1;
    TRY(nphdi_alloc(allocator, stale_words(slots), sizeof(*tables->stale), &tables->stale, err));
    TRY(nphdi_alloc(allocator, tables->loose_room, sizeof(*tables->loose), &tables->loose, err));
    nphdi_mih_count(&rows, slots, counts);
    const uint64_t bytes = nphdi_mih_bytes(counts, rows.payload_bytes, nphdi_mih_form_new);
    TRY(nphdi_region_reserve(&tables->block, allocator, bytes, bytes, err));
    TRY(nphdi_region_commit(&tables->block, allocator, bytes, err));
    TRY(nphdi_mih_build(&rows, slots, counts, nphdi_mih_form_new, threads, watch,
                        tables->block.base, err));
    (void)nphdi_mih_open(&tables->mih, tables->block.base, bytes, rows.payload_bytes, slots);
done:
    return status;
}

void nphdi_content_mih_set(nphdi_content *content, nphdi_content_mih *tables)
{
    nphdi_content_mih_free(atomic_exchange(&content->mih, tables), content->allocator);
}

void nphdi_content_mih_changed(nphdi_content *content, uint32_t slot)
{
    nphdi_content_mih *tables = atomic_load(&content->mih);

    if (tables == NULL || tables->given_up || slot >= tables->mih.covered ||
        (tables->stale[slot / 64] >> (slot % 64) & 1) != 0) {
        return;
    }
    if (tables->loose_count == tables->loose_room) {
        tables->given_up = true;
        return;
    }
    tables->stale[slot / 64] |= 1ULL << (slot % 64);
    tables->loose[tables->loose_count++] = slot;
}

bool nphdi_content_mih_look(const nphdi_content *content, nphdi_mih_view *out)
{
    const nphdi_content_mih *tables = atomic_load(&content->mih);

    memset(out, 0, sizeof(*out));
    if (tables != NULL && !tables->given_up) {
        out->mih = &tables->mih;
        out->stale = tables->loose_count > 0 ? tables->stale : NULL;
        out->loose = tables->loose;
        out->loose_count = tables->loose_count;
        return true;
    }
    /* a file of Hamming rows may be opened as one of NPHD rows from before that metric */
    if (content->view && content->mapped.mih != NULL &&
        nphdi_mapped_prefix_bytes(&content->mapped) == content->shape.prefix_bytes) {
        out->mih = content->mapped.mih;
        return true;
    }
    return false;
}

bool nphdi_content_mih_is_whole(const nphdi_content *content)
{
    nphdi_mih_view view;

    return nphdi_content_mih_look(content, &view) && view.loose_count == 0 &&
           view.mih->covered == nphdi_content_slots(content);
}

uint64_t nphdi_content_mih_memory(const nphdi_content *content)
{
    const nphdi_content_mih *tables = atomic_load(&content->mih);

    if (tables == NULL) {
        return content->mapped.mih != NULL ? sizeof(*content->mapped.mih) : 0;
    }
    return sizeof(*tables) + tables->block.committed_bytes +
           stale_words(tables->mih.covered) * sizeof(*tables->stale) +
           tables->loose_room * sizeof(*tables->loose);
}
