/* The full check of a mapped file, its last parts: the trailer's tables against the nodes and rows,
 * and all parts of the check together. */
#include "base/bytes.h"
#include "base/error.h"
#include "base/watch.h"
#include "index/mapped.h"

#include <string.h>

/* Of nodes, between two questions whether to go on: a millisecond of work. */
#define PIECE_BYTES ((uint64_t)1 << 20)

/* ---- the tables against the nodes ---- */

/* What lookups rely on when they halve it. */
static nphd_status check_overflow(const nphdi_mapped *mapped, const nphdi_watch *watch,
                                  nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphdi_slot_table *table = &mapped->trailer_table;

    for (uint32_t i = 1; i < table->overflow_count; i++) {
        TRY(nphdi_watch_loop(watch, i, table->overflow_count, err));
        const uint64_t before = nphdi_slot_overflow_hash(table, i - 1);
        const uint64_t hash = nphdi_slot_overflow_hash(table, i);
        if (before > hash || (before == hash && nphdi_slot_overflow_slot(table, i - 1) >=
                                                    nphdi_slot_overflow_slot(table, i))) {
            status = nphdi_fail(err, NPHD_CORRUPT,
                                "%s: trailer: the overflow of the key table is out of order at "
                                "entry %u",
                                mapped->name, i);
            goto done;
        }
    }
done:
    return status;
}

/* Since every live slot is led to, as many entries as live slots are those and no others. */
static nphd_status check_table_entries(const nphdi_mapped *mapped, uint64_t live_count,
                                       const nphdi_watch *watch, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t entries = mapped->trailer_table.overflow_count;

    TRY(check_overflow(mapped, watch, err));
    for (uint64_t place = 0; place < mapped->trailer_table.room; place++) {
        TRY(nphdi_watch_loop(watch, place, mapped->trailer_table.room, err));
        const uint32_t entry = nphdi_get32(mapped->trailer_table.places + 4 * place);
        entries += entry == NPHDI_SLOT_TABLE_FREE ? 0 : 1;
    }
    if (entries != live_count) {
        status = nphdi_fail(
            err, NPHD_CORRUPT, "%s: trailer: the key table has %llu entries for %llu vectors",
            mapped->name, (unsigned long long)entries, (unsigned long long)live_count);
    }
done:
    return status;
}

nphd_status nphdi_mapped_check_mih(const nphdi_mapped *mapped, const nphdi_watch *watch,
                                   nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const uint32_t prefix_bytes = nphdi_mapped_prefix_bytes(mapped);
    const nphdi_rows rows = {mapped->base + mapped->head.rows_offset, mapped->head.row_bytes,
                             (uint32_t)mapped->head.row_bytes - prefix_bytes, prefix_bytes};

    if (mapped->mih != NULL) {
        status = nphdi_mih_check(mapped->mih, &rows, watch, err);
    }
    if (status == NPHD_CORRUPT) {
        status = nphdi_fail(err, NPHD_CORRUPT, "%s: trailer: the hash tables do not fit the rows",
                            mapped->name);
    }
    return status;
}

nphd_status nphdi_mapped_check_counts(const nphdi_mapped *mapped, uint64_t live_count,
                                      const nphdi_watch *watch, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    if (mapped->has_trailer && live_count != mapped->trailer.live) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: trailer: %llu vectors, but %llu keys",
                          mapped->name, (unsigned long long)mapped->trailer.live,
                          (unsigned long long)live_count);
    }
    if (mapped->trailer_table.places != NULL) {
        TRY(check_table_entries(mapped, live_count, watch, err));
    }
done:
    return status;
}

/* What row `slot` is in planes, at a place of a part. */
static bool part_has_row(const nphdi_mapped *mapped, const nphdi_planes_part *part, uint64_t at,
                         uint32_t slot)
{
    const bool has_length = mapped->head.metric_code == NPHDI_METRIC_CODE_NPHD;
    const uint8_t *row = mapped->base + mapped->head.rows_offset + slot * mapped->head.row_bytes;
    const uint32_t payload_bytes = (uint32_t)mapped->head.row_bytes - (has_length ? 1 : 0);
    const uint32_t length = has_length && row[0] < payload_bytes ? row[0] : payload_bytes;
    const uint8_t *words = part->words + 8 * at;
    uint64_t differing = 0;

    if (length != part->length) {
        return false;
    }
    row += has_length ? 1 : 0;
    for (uint32_t left = length / 8; left > 0; left--) {
        differing |= nphdi_get64(row) ^ nphdi_get64(words);
        row += 8;
        words += 8 * part->stride;
    }
    if (length % 8 != 0) {
        uint8_t last[8] = {0};
        memcpy(last, row, length % 8);
        differing |= nphdi_get64(last) ^ nphdi_get64(words);
    }
    return differing == 0;
}

nphd_status nphdi_mapped_check_part(const nphdi_mapped *mapped, uint64_t number, nphd_error *err)
{
    const nphdi_planes_part part = nphdi_image_part(&mapped->planes, number);
    uint64_t least = 0;

    if (number > 0) {
        const nphdi_planes_part before = nphdi_image_part(&mapped->planes, number - 1);
        if (before.length == part.length) {
            least = (uint64_t)nphdi_get32(before.slots + 4 * ((size_t)before.vectors - 1)) + 1;
        }
    }
    for (uint64_t at = 0; at < part.vectors; at++) {
        const uint32_t slot = nphdi_get32(part.slots + 4 * at);
        if (slot < least || slot >= mapped->head.slots || !part_has_row(mapped, &part, at, slot)) {
            return nphdi_fail(
                err, NPHD_CORRUPT, "%s: trailer: planes: entry %llu of part %llu is not row %u",
                mapped->name, (unsigned long long)at, (unsigned long long)number, slot);
        }
        least = (uint64_t)slot + 1;
    }
    return NPHD_OK;
}

/* The nodes piece by piece. */
static nphd_status check_all_nodes(const nphdi_mapped *mapped, uint64_t *live,
                                   const nphdi_watch *watch, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    for (uint64_t at = 0; at < mapped->nodes_bytes; at += PIECE_BYTES) {
        const uint64_t rest = mapped->nodes_bytes - at;
        const nphdi_piece piece = {mapped->nodes + at, mapped->head.nodes_offset + at,
                                   rest < PIECE_BYTES ? rest : PIECE_BYTES};
        uint64_t cut;
        TRY(nphdi_watch_ask(watch, at, mapped->nodes_bytes, err));
        TRY(nphdi_mapped_check_nodes(mapped, &piece, live, &cut, err));
        TRY(cut != NPHDI_NOTHING_CUT ? nphdi_mapped_check_cut(mapped, cut, live, err) : NPHD_OK);
    }
done:
    return status;
}

/* Parts of the work: nodes are most of a file, but hash tables take longer where there are some. */
enum { PART_LEVELS, PART_NODES, PART_COUNTS, PART_PLANES, PART_TABLES, PARTS };

nphd_status nphdi_mapped_check(const nphdi_mapped *mapped, const nphdi_watch *watch,
                               nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_watch parts[PARTS];
    uint64_t live = 0;

    for (uint64_t i = 0; i < PARTS; i++) {
        parts[i] = nphdi_watch_part(watch, i, PARTS);
    }
    TRY(nphdi_mapped_check_levels(mapped, &parts[PART_LEVELS], err));
    TRY(check_all_nodes(mapped, &live, &parts[PART_NODES], err));
    TRY(nphdi_mapped_check_counts(mapped, live, &parts[PART_COUNTS], err));
    for (uint64_t number = 0; number < mapped->planes.parts; number++) {
        TRY(nphdi_watch_ask(&parts[PART_PLANES], number, mapped->planes.parts, err));
        TRY(nphdi_mapped_check_part(mapped, number, err));
    }
    TRY(nphdi_mapped_check_mih(mapped, &parts[PART_TABLES], err));
done:
    return status;
}
