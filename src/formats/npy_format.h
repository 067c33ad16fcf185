/* The head of `tombstones.npy`, a NumPy array of keys: bytes <-> structs, no I/O (docs/format.md).
 */
#ifndef NPHDI_NPY_FORMAT_H
#define NPHDI_NPY_FORMAT_H

#include <nphd/status.h>
#include <stdint.h>

#define NPHDI_NPY_HEAD_BYTES 128       /* of the files we write */
#define NPHDI_NPY_MAX_HEAD_BYTES 65547 /* text of 65535 bytes behind the longest prefix */
#define NPHDI_NPY_PREFIX_BYTES 12      /* tells how long the head is; no head is shorter */

/* Writes the head of an array of `count` keys of 8 or 16 bytes. */
void nphdi_npy_encode_head(uint32_t key_bytes, uint64_t count, uint8_t out[NPHDI_NPY_HEAD_BYTES]);

/* From the first NPHDI_NPY_PREFIX_BYTES bytes: where the data begins, at NPHDI_NPY_PREFIX_BYTES to
 * NPHDI_NPY_MAX_HEAD_BYTES. Versions 1.0 to 3.0; longer heads are NPHD_UNSUPPORTED. */
nphd_status nphdi_npy_decode_prefix(const char *name, const uint8_t prefix[NPHDI_NPY_PREFIX_BYTES],
                                    uint64_t *out_head_bytes, nphd_error *err);

/* From the whole head, whose length decode_prefix told. Refuses by name other types than '<u8' and
 * '|V16', Fortran order, and more or fewer dimensions than one (NPHD_UNSUPPORTED); what is not a
 * head at all is NPHD_CORRUPT. The size of head and keys together fits 64 bits. */
nphd_status nphdi_npy_decode_head(const char *name, const uint8_t *head, uint64_t head_bytes,
                                  uint32_t *out_key_bytes, uint64_t *out_count, nphd_error *err);

#endif
