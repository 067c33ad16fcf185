/* The `.usearch` file: bytes <-> structs, no I/O (docs/format.md section 1).
 *
 * A file is: matrix header, rows, dense head (64 bytes), graph header (40 bytes), one level per
 * slot, one node per slot, and then anything. All numbers are little-endian and unaligned. */
#ifndef NPHDI_USEARCH_FORMAT_H
#define NPHDI_USEARCH_FORMAT_H

#include <nphd/status.h>
#include <nphd/vector.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NPHDI_USEARCH_MATRIX_BYTES 8 /* the 32-bit variant, the one we write */
#define NPHDI_USEARCH_HEAD_BYTES 104 /* dense head and graph header, which are adjacent */
#define NPHDI_USEARCH_EMPTY_BYTES (NPHDI_USEARCH_MATRIX_BYTES + NPHDI_USEARCH_HEAD_BYTES)

#define NPHDI_METRIC_CODE_NPHD 'n'
#define NPHDI_METRIC_CODE_HAMMING 'b'
#define NPHDI_SCALAR_BITS 1

/* Slot numbers are 32 bits wide here; the highest ones mark free and deleted table entries. */
#define NPHDI_MAX_SLOTS (UINT32_MAX - 2U)
/* Room of one list in a file that we open; a working buffer of this many slots stays small. */
#define NPHDI_MAX_CONNECTIVITY 65535U

/* How slots, keys and lists are laid out in the nodes. */
typedef struct nphdi_node_shape {
    uint32_t key_bytes;  /* 8 or 16 */
    uint32_t slot_bytes; /* 4 or 5 */
    uint32_t connectivity;
    uint32_t connectivity_base;
} nphdi_node_shape;

/* The headers of a file, checked against each other and the file size. */
typedef struct nphdi_usearch_head {
    uint16_t version[3];
    uint8_t metric_code;
    uint8_t scalar_code; /* these three in the numbering of version 2.10 and later */
    uint8_t key_code;
    uint8_t slot_code;
    bool multi;
    bool vectors_included;
    bool dimensions_64_bit;
    uint64_t present; /* as the writer counted */
    uint64_t deleted;
    uint64_t dimensions;
    uint64_t row_bytes;
    uint64_t slots;
    uint64_t entry;
    int32_t max_level; /* -1 when there are no slots */
    nphdi_node_shape node;
    uint64_t rows_offset;
    uint64_t head_offset;
    uint64_t levels_offset;
    uint64_t nodes_offset;
} nphdi_usearch_head;

/* Where the head may begin in a file of `file_bytes` that starts with `first[0..available)`:
 * fills out[] and returns how many of the three variants fit. The caller reads
 * NPHDI_USEARCH_HEAD_BYTES at each and takes the first that nphdi_usearch_is_head() accepts. */
size_t nphdi_usearch_head_candidates(const uint8_t *first, size_t available, uint64_t file_bytes,
                                     uint64_t out[3]);

bool nphdi_usearch_is_head(const uint8_t *head);

/* Decodes and checks everything that the headers alone can tell, also for metrics and scalars that
 * are not implemented. `first` as above. Errors: NPHD_CORRUPT with `name` and the check;
 * NPHD_UNSUPPORTED for sizes beyond ours. */
nphd_status nphdi_usearch_decode(const char *name, const uint8_t *first, size_t available,
                                 const uint8_t *head, uint64_t head_offset, uint64_t file_bytes,
                                 nphdi_usearch_head *out, nphd_error *err);

/* Is this an index of ours: bits, with NPHD or Hamming, and its vectors? Names what it is if not.
 */
nphd_status nphdi_usearch_check_supported(const char *name, const nphdi_usearch_head *head,
                                          nphd_error *err);

/* The 8 bytes before the rows and the 104 after them, as version 2.24.0. */
void nphdi_usearch_encode_matrix(const nphdi_usearch_head *head, uint8_t out[8]);
void nphdi_usearch_encode_head(const nphdi_usearch_head *head, uint8_t out[104]);

/* Bytes of a list on level 0 and on a higher level, and of a node of level `level`. */
static inline uint64_t nphdi_list_base_bytes(const nphdi_node_shape *shape)
{
    return 4 + (uint64_t)shape->connectivity_base * shape->slot_bytes;
}

static inline uint64_t nphdi_list_upper_bytes(const nphdi_node_shape *shape)
{
    return 4 + (uint64_t)shape->connectivity * shape->slot_bytes;
}

static inline uint64_t nphdi_node_base_bytes(const nphdi_node_shape *shape)
{
    return shape->key_bytes + 2 + nphdi_list_base_bytes(shape);
}

/* Where the list of `level` begins inside a node. */
static inline uint64_t nphdi_node_list_offset(const nphdi_node_shape *shape, uint32_t level)
{
    return level == 0 ? shape->key_bytes + 2U
                      : nphdi_node_base_bytes(shape) +
                            (uint64_t)(level - 1) * nphdi_list_upper_bytes(shape);
}

/* Keys in nodes. The key with all bits one marks a removed slot. */
nphd_key nphdi_usearch_get_key(const uint8_t *node, uint32_t key_bytes);
void nphdi_usearch_put_key(uint8_t *node, uint32_t key_bytes, nphd_key key);
nphd_key nphdi_free_key(uint32_t key_bytes);

static inline bool nphdi_is_free_key(nphd_key key, uint32_t key_bytes)
{
    return key.low == UINT64_MAX && (key_bytes == 8 || key.high == UINT64_MAX);
}

/* Names of the codes, for messages. */
const char *nphdi_metric_code_name(uint8_t code);
const char *nphdi_scalar_code_name(uint8_t code);

#endif
