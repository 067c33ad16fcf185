/* When an index turns its rows into planes. They are made by the searches that profit from them, so
 * that an index which is only added to, or searched along the graph, neither waits nor pays. */
#include "index/content.h"

/* Below these slots the rows fit into a second-level cache, and a scan takes some microseconds. */
#define PLANES_LEAST_SLOTS 2048

/* Making planes takes as long as some ten scans over the rows by bench_scan; after the fourth scan
 * more are likely to come. */
#define PLANES_AFTER_SCANS 4

/* Slots that the content could ever have: what its rows reserve. */
static uint64_t most_slots(const nphdi_content *content)
{
    return content->rows.reserved_bytes / content->row_bytes;
}

static nphdi_planes *make_planes(nphdi_content *content)
{
    nphdi_planes *planes;

    (void)pthread_mutex_lock(&content->slot_lock);
    planes = atomic_load(&content->planes);
    if (planes == NULL && nphdi_planes_create(content->shape.payload_bytes, most_slots(content),
                                              content->allocator, &planes, NULL) == NPHD_OK) {
        atomic_store(&content->planes, planes);
    }
    (void)pthread_mutex_unlock(&content->slot_lock);
    return planes;
}

const nphdi_planes *nphdi_content_planes(nphdi_content *content, uint64_t slots, uint64_t queries)
{
    nphdi_planes *planes = atomic_load(&content->planes);
    const nphdi_rows rows = nphdi_content_rows(content);

    if (content->view || slots < PLANES_LEAST_SLOTS) {
        return NULL;
    }
    if (planes == NULL) {
        if (atomic_fetch_add(&content->rows_scanned, slots * queries) / slots + queries <=
            PLANES_AFTER_SCANS) {
            return NULL;
        }
        planes = make_planes(content);
    }
    /* without memory the rows are as good, only slower */
    if (planes == NULL || nphdi_planes_cover(planes, &rows, slots, NULL) != NPHD_OK) {
        return NULL;
    }
    return planes;
}
