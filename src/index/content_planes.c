/* When an index turns its rows into planes. They are made by the searches that profit from them, so
 * that an index which is only added to, or searched along the graph, neither waits nor pays. */
#include "index/content.h"
#include "scan/costs.h"

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

uint64_t nphdi_content_parts(nphdi_content *content, uint64_t slots, uint64_t queries)
{
    nphdi_planes *planes = atomic_load(&content->planes);
    const nphdi_rows rows = nphdi_content_rows(content);

    if (content->view) {
        /* a file of Hamming rows may be opened as one of NPHD rows from before that metric */
        return nphdi_mapped_prefix_bytes(&content->mapped) == content->shape.prefix_bytes
                   ? content->mapped.planes.parts
                   : 0;
    }
    if (slots < NPHDI_PLANES_LEAST_SLOTS) {
        return 0;
    }
    if (planes == NULL) {
        if (atomic_fetch_add(&content->rows_scanned, slots * queries) / slots + queries <=
            PLANES_AFTER_SCANS) {
            return 0;
        }
        planes = make_planes(content);
    }
    /* without memory the rows are as good, only slower */
    if (planes == NULL || nphdi_planes_cover(planes, &rows, slots, NULL) != NPHD_OK) {
        return 0;
    }
    return nphdi_planes_parts(planes);
}

nphdi_planes_part nphdi_content_part(const nphdi_content *content, uint64_t number)
{
    return content->view ? nphdi_image_part(&content->mapped.planes, number)
                         : nphdi_planes_part_at(atomic_load(&content->planes), number);
}

void nphdi_content_make_planes(nphdi_content *content)
{
    const uint64_t slots = nphdi_content_slots(content);

    if (!content->view && slots >= NPHDI_PLANES_LEAST_SLOTS) {
        nphdi_planes *planes = make_planes(content);
        const nphdi_rows rows = nphdi_content_rows(content);
        if (planes != NULL) {
            /* without memory the rows are as good, only slower */
            (void)nphdi_planes_cover(planes, &rows, slots, NULL);
        }
    }
}

double nphdi_content_scan_cost(const nphdi_content *content, uint64_t slots, uint64_t queries)
{
    const uint32_t bytes = content->shape.payload_bytes;
    const double word = nphdi_cost_word(content->kernels, slots * bytes, queries);

    /* what has no planes yet will soon have some, unless it is a file of another maker */
    return content->view && content->mapped.planes.parts == 0 && slots > 0
               ? (double)slots * content->kernels->row_ns
               : nphdi_cost_planes(slots, bytes, 8 * bytes, word);
}
