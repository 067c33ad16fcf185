/* Decoding trusts nothing: each product is overflow-checked and each block must lie inside the
 * file before an offset to it is handed out. Levels and nodes are checked by whoever walks them. */
#include "formats/usearch_format.h"

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"

#include <string.h>

#define MAGIC_BYTES 7
static const uint8_t usearch_magic[MAGIC_BYTES] = {'u', 's', 'e', 'a', 'r', 'c', 'h'};

/* offsets inside the dense head */
enum {
    HEAD_VERSION = 7,
    HEAD_METRIC = 13,
    HEAD_SCALAR = 14,
    HEAD_KEY = 15,
    HEAD_SLOT = 16,
    HEAD_PRESENT = 17,
    HEAD_DELETED = 25,
    HEAD_DIMENSIONS = 33,
    HEAD_MULTI = 41,
    HEAD_BYTES = 64
};

/* offsets inside the graph header, from the start of the dense head */
enum {
    GRAPH_NODES = HEAD_BYTES,
    GRAPH_CONNECTIVITY = HEAD_BYTES + 8,
    GRAPH_CONNECTIVITY_BASE = HEAD_BYTES + 16,
    GRAPH_MAX_LEVEL = HEAD_BYTES + 24,
    GRAPH_ENTRY = HEAD_BYTES + 32
};
_Static_assert(GRAPH_ENTRY + 8 == NPHDI_USEARCH_HEAD_BYTES, "the two headers are adjacent");

enum { CODE_U64 = 14, CODE_U32 = 15, CODE_UUID = 3, CODE_U40 = 2 };

static bool head_candidate(uint64_t rows, uint64_t columns, uint64_t header, uint64_t file_bytes,
                           uint64_t *out)
{
    uint64_t offset = header;

    if (!nphdi_checked_add_product(rows, columns, &offset) || offset > file_bytes ||
        file_bytes - offset < NPHDI_USEARCH_HEAD_BYTES) {
        return false;
    }
    *out = offset;
    return true;
}

size_t nphdi_usearch_head_candidates(const uint8_t *first, size_t available, uint64_t file_bytes,
                                     uint64_t out[3])
{
    size_t count = 0;

    if (file_bytes >= NPHDI_USEARCH_HEAD_BYTES) {
        out[count++] = 0;
    }
    if (available >= 8 &&
        head_candidate(nphdi_get32(first), nphdi_get32(first + 4), 8, file_bytes, &out[count])) {
        count++;
    }
    if (available >= 16 &&
        head_candidate(nphdi_get64(first), nphdi_get64(first + 8), 16, file_bytes, &out[count])) {
        count++;
    }
    return count;
}

bool nphdi_usearch_is_head(const uint8_t *head)
{
    return memcmp(head, usearch_magic, MAGIC_BYTES) == 0;
}

/* Versions below 2.10 numbered the kinds otherwise. */
static uint8_t code_from_version(const uint16_t version[3], uint8_t code)
{
    static const uint8_t codes[15] = {0, 1, 2, 3, 10, 11, 12, 13, 14, 15, 17, 20, 21, 22, 23};

    return version[0] == 2 && version[1] < 10 && code < sizeof(codes) ? codes[code] : code;
}

static uint32_t scalar_bits(uint8_t code)
{
    switch (code) {
    case 1:
        return 1;
    case 13:
    case 17:
    case 23:
        return 8;
    case 4:
    case 12:
    case 16:
    case 22:
        return 16;
    case 2:
        return 40;
    case 11:
    case 15:
    case 21:
        return 32;
    case 10:
    case 14:
    case 20:
        return 64;
    case 3:
        return 128;
    default:
        return 0;
    }
}

const char *nphdi_metric_code_name(uint8_t code)
{
    switch (code) {
    case 'i':
        return "inner product";
    case 'c':
        return "cosine";
    case 'e':
        return "squared Euclidean";
    case 'p':
        return "Pearson correlation";
    case 'h':
        return "haversine";
    case 'd':
        return "Jensen-Shannon divergence";
    case 'b':
        return "Hamming";
    case 't':
        return "Tanimoto";
    case 's':
        return "Sorensen-Dice";
    case 'n':
        return "NPHD";
    case 'j':
        return "Jaccard";
    default:
        return "unknown metric";
    }
}

const char *nphdi_scalar_code_name(uint8_t code)
{
    switch (code) {
    case 1:
        return "bits";
    case 4:
        return "bf16";
    case 10:
        return "f64";
    case 11:
        return "f32";
    case 12:
        return "f16";
    case 13:
        return "f8";
    case 14:
        return "u64";
    case 15:
        return "u32";
    case 16:
        return "u16";
    case 17:
        return "u8";
    case 20:
        return "i64";
    case 21:
        return "i32";
    case 22:
        return "i16";
    case 23:
        return "i8";
    default:
        return "unknown scalars";
    }
}

static nphd_status decode_kinds(const char *name, nphdi_usearch_head *out, nphd_error *err)
{
    if (out->key_code == CODE_U64 && out->slot_code == CODE_U32) {
        out->node.key_bytes = 8;
        out->node.slot_bytes = 4;
    } else if (out->key_code == CODE_UUID && out->slot_code == CODE_U40) {
        out->node.key_bytes = 16;
        out->node.slot_bytes = 5;
    } else {
        return nphdi_fail(err, NPHD_CORRUPT,
                          "%s: head: key kind %u with slot kind %u; known are 14 with 15 and 3 "
                          "with 2",
                          name, out->key_code, out->slot_code);
    }
    return NPHD_OK;
}

static nphd_status decode_graph_header(const char *name, const uint8_t *head,
                                       nphdi_usearch_head *out, nphd_error *err)
{
    uint64_t connectivity = nphdi_get64(head + GRAPH_CONNECTIVITY);
    uint64_t base = nphdi_get64(head + GRAPH_CONNECTIVITY_BASE);
    const int64_t max_level = (int64_t)nphdi_get64(head + GRAPH_MAX_LEVEL);

    out->slots = nphdi_get64(head + GRAPH_NODES);
    out->entry = nphdi_get64(head + GRAPH_ENTRY);
    if (out->slots > NPHDI_MAX_SLOTS) {
        return nphdi_fail(err, NPHD_UNSUPPORTED, "%s: graph header: %llu slots; at most %llu", name,
                          (unsigned long long)out->slots, (unsigned long long)NPHDI_MAX_SLOTS);
    }
    connectivity = connectivity == 0 ? 16 : connectivity;
    if (base == 0 && connectivity <= NPHDI_MAX_CONNECTIVITY) {
        base = 2 * connectivity;
    }
    if (connectivity < 2 || base < connectivity) {
        return nphdi_fail(err, NPHD_CORRUPT,
                          "%s: graph header: connectivity %llu with base connectivity %llu", name,
                          (unsigned long long)connectivity, (unsigned long long)base);
    }
    if (base > NPHDI_MAX_CONNECTIVITY) {
        return nphdi_fail(err, NPHD_UNSUPPORTED,
                          "%s: graph header: base connectivity %llu; at most %u", name,
                          (unsigned long long)base, NPHDI_MAX_CONNECTIVITY);
    }
    out->node.connectivity = (uint32_t)connectivity;
    out->node.connectivity_base = (uint32_t)base;
    if (out->slots == 0) {
        out->max_level = -1;
        out->entry = 0;
        return NPHD_OK;
    }
    if (max_level < 0 || max_level > INT16_MAX) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: graph header: max level %lld", name,
                          (long long)max_level);
    }
    if (out->entry >= out->slots) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: graph header: entry slot %llu of %llu", name,
                          (unsigned long long)out->entry, (unsigned long long)out->slots);
    }
    out->max_level = (int32_t)max_level;
    return NPHD_OK;
}

static nphd_status decode_matrix(const char *name, const uint8_t *first, size_t available,
                                 uint64_t head_offset, nphdi_usearch_head *out, nphd_error *err)
{
    uint64_t rows = 0;
    uint64_t columns = 0;
    uint64_t row_bits = 0;
    uint64_t offset = 0;
    const uint32_t bits = scalar_bits(out->scalar_code);

    out->vectors_included = head_offset != 0;
    if (!out->vectors_included) {
        return NPHD_OK;
    }
    if (available >= 8 &&
        head_candidate(nphdi_get32(first), nphdi_get32(first + 4), 8, UINT64_MAX, &offset) &&
        offset == head_offset) {
        rows = nphdi_get32(first);
        columns = nphdi_get32(first + 4);
        out->rows_offset = 8;
    } else if (available >= 16) {
        rows = nphdi_get64(first);
        columns = nphdi_get64(first + 8);
        out->rows_offset = 16;
        out->dimensions_64_bit = true;
    }
    if (bits == 0) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: head: unknown scalar kind %u", name,
                          out->scalar_code);
    }
    if (!nphdi_checked_mul(out->dimensions, bits, &row_bits) || row_bits > UINT64_MAX - 7 ||
        (row_bits + 7) / 8 != columns) {
        return nphdi_fail(err, NPHD_CORRUPT,
                          "%s: matrix header: rows of %llu bytes, but %llu dimensions of %u bits",
                          name, (unsigned long long)columns, (unsigned long long)out->dimensions,
                          bits);
    }
    if (rows != out->slots) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: matrix header: %llu rows, but %llu nodes", name,
                          (unsigned long long)rows, (unsigned long long)out->slots);
    }
    out->row_bytes = columns;
    return NPHD_OK;
}

nphd_status nphdi_usearch_decode(const char *name, const uint8_t *first, size_t available,
                                 const uint8_t *head, uint64_t head_offset, uint64_t file_bytes,
                                 nphdi_usearch_head *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    uint64_t end;

    memset(out, 0, sizeof(*out));
    if (!nphdi_usearch_is_head(head)) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: not an index file: no magic", name);
    }
    for (size_t i = 0; i < 3; i++) {
        out->version[i] = nphdi_get16(head + HEAD_VERSION + 2 * i);
    }
    if (out->version[0] != 2) {
        return nphdi_fail(err, NPHD_UNSUPPORTED, "%s: head: format version %u.%u.%u; known is 2.x",
                          name, out->version[0], out->version[1], out->version[2]);
    }
    out->metric_code = head[HEAD_METRIC];
    out->scalar_code = code_from_version(out->version, head[HEAD_SCALAR]);
    out->key_code = code_from_version(out->version, head[HEAD_KEY]);
    out->slot_code = code_from_version(out->version, head[HEAD_SLOT]);
    out->present = nphdi_get64(head + HEAD_PRESENT);
    out->deleted = nphdi_get64(head + HEAD_DELETED);
    out->dimensions = nphdi_get64(head + HEAD_DIMENSIONS);
    if (head[HEAD_MULTI] > 1) {
        return nphdi_fail(err, NPHD_CORRUPT, "%s: head: multi is %u; known are 0 and 1", name,
                          head[HEAD_MULTI]);
    }
    out->multi = head[HEAD_MULTI] == 1;
    out->head_offset = head_offset;
    TRY(decode_kinds(name, out, err));
    TRY(decode_graph_header(name, head, out, err));
    TRY(decode_matrix(name, first, available, head_offset, out, err));

    /* head_offset + 104 <= file_bytes holds for every candidate */
    out->levels_offset = head_offset + NPHDI_USEARCH_HEAD_BYTES;
    out->nodes_offset = out->levels_offset + 2 * out->slots;
    end = out->nodes_offset;
    if (!nphdi_checked_add_product(out->slots, nphdi_node_base_bytes(&out->node), &end) ||
        end > file_bytes) {
        status = nphdi_fail(err, NPHD_CORRUPT,
                            "%s: %llu bytes are too few for %llu nodes with connectivity %u", name,
                            (unsigned long long)file_bytes, (unsigned long long)out->slots,
                            out->node.connectivity);
    }
done:
    return status;
}

nphd_status nphdi_usearch_check_supported(const char *name, const nphdi_usearch_head *head,
                                          nphd_error *err)
{
    const bool nphd = head->metric_code == NPHDI_METRIC_CODE_NPHD;

    if (!nphd && head->metric_code != NPHDI_METRIC_CODE_HAMMING) {
        return nphdi_fail(err, NPHD_UNSUPPORTED,
                          "%s: metric %s (code %u) over %s is not implemented; NPHD and Hamming "
                          "over bits are",
                          name, nphdi_metric_code_name(head->metric_code), head->metric_code,
                          nphdi_scalar_code_name(head->scalar_code));
    }
    if (head->scalar_code != NPHDI_SCALAR_BITS) {
        return nphdi_fail(err, NPHD_UNSUPPORTED,
                          "%s: metric %s over %s (code %u) is not implemented; over bits it is",
                          name, nphdi_metric_code_name(head->metric_code),
                          nphdi_scalar_code_name(head->scalar_code), head->scalar_code);
    }
    if (!head->vectors_included) {
        return nphdi_fail(err, NPHD_UNSUPPORTED,
                          "%s: the file was written without its vectors and cannot be searched",
                          name);
    }
    if (head->dimensions % 8 != 0 || head->row_bytes < (nphd ? 2U : 1U) ||
        head->row_bytes > (nphd ? 1U : 0U) + NPHD_MAX_BYTES) {
        /* a legacy NPHD file of the full width has rows of 256 bytes under the Hamming code */
        if (nphd || head->dimensions != 8ULL * (NPHD_MAX_BYTES + 1)) {
            return nphdi_fail(err, NPHD_UNSUPPORTED,
                              "%s: rows of %llu bits; a vector has 8 to %u bits in steps of 8",
                              name, (unsigned long long)head->dimensions, NPHD_MAX_BITS);
        }
    }
    return NPHD_OK;
}

void nphdi_usearch_encode_matrix(const nphdi_usearch_head *head, uint8_t out[8])
{
    nphdi_put32(out, (uint32_t)head->slots);
    nphdi_put32(out + 4, (uint32_t)head->row_bytes);
}

void nphdi_usearch_encode_head(const nphdi_usearch_head *head, uint8_t out[104])
{
    memset(out, 0, NPHDI_USEARCH_HEAD_BYTES);
    memcpy(out, usearch_magic, MAGIC_BYTES);
    nphdi_put16(out + HEAD_VERSION, 2);
    nphdi_put16(out + HEAD_VERSION + 2, 24);
    nphdi_put16(out + HEAD_VERSION + 4, 0);
    out[HEAD_METRIC] = head->metric_code;
    out[HEAD_SCALAR] = NPHDI_SCALAR_BITS;
    out[HEAD_KEY] = head->node.key_bytes == 8 ? CODE_U64 : CODE_UUID;
    out[HEAD_SLOT] = head->node.key_bytes == 8 ? CODE_U32 : CODE_U40;
    nphdi_put64(out + HEAD_PRESENT, head->present);
    nphdi_put64(out + HEAD_DELETED, head->deleted);
    nphdi_put64(out + HEAD_DIMENSIONS, head->dimensions);
    out[HEAD_MULTI] = head->multi ? 1 : 0;
    nphdi_put64(out + GRAPH_NODES, head->slots);
    nphdi_put64(out + GRAPH_CONNECTIVITY, head->node.connectivity);
    nphdi_put64(out + GRAPH_CONNECTIVITY_BASE, head->node.connectivity_base);
    nphdi_put64(out + GRAPH_MAX_LEVEL, (uint64_t)(int64_t)head->max_level);
    nphdi_put64(out + GRAPH_ENTRY, head->entry);
}

nphd_key nphdi_usearch_get_key(const uint8_t *node, uint32_t key_bytes)
{
    nphd_key key = {0, 0};

    if (key_bytes == 8) {
        key.low = nphdi_get64(node);
    } else {
        key.high = nphdi_get64_big_endian(node);
        key.low = nphdi_get64_big_endian(node + 8);
    }
    return key;
}

void nphdi_usearch_put_key(uint8_t *node, uint32_t key_bytes, nphd_key key)
{
    if (key_bytes == 8) {
        nphdi_put64(node, key.low);
    } else {
        nphdi_put64_big_endian(node, key.high);
        nphdi_put64_big_endian(node + 8, key.low);
    }
}

nphd_key nphdi_free_key(uint32_t key_bytes)
{
    const nphd_key key = {key_bytes == 8 ? 0 : UINT64_MAX, UINT64_MAX};

    return key;
}
