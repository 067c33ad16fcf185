/* Decoder of ISCC unit strings (ISO 24138) to the bits that they carry. */
#ifndef NPHD_ISCC_H
#define NPHD_ISCC_H

#include <nphd/export.h>
#include <nphd/status.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Most bytes in the body of an ISCC unit. */
#define NPHD_ISCC_MAX_BYTES 32

/** One decoded ISCC unit. */
typedef struct nphd_iscc {
    uint8_t main_type; /* 0 META, 1 SEMANTIC, 2 CONTENT, 3 DATA, 4 INSTANCE, 6 ID, 7 FLAKE */
    uint8_t sub_type;
    uint8_t version;
    uint8_t bytes; /* length of the body, 4..NPHD_ISCC_MAX_BYTES */
    uint8_t body[NPHD_ISCC_MAX_BYTES];
} nphd_iscc;

/**
 * Decode an ISCC unit such as "ISCC:EADZYKUESSJWNPV2...".
 *
 * Shapes   text: text_bytes characters, base32 (RFC 4648 alphabet, either case, no padding), with
 *          or without the prefix "ISCC:"; dashes between characters are ignored.
 * Errors   NPHD_INVALID_ARGUMENT: not base32, a truncated or over-long code, or a body that is not
 *          32 to 256 bits; the text says where. NPHD_UNSUPPORTED: a composite ISCC-CODE, which
 *          holds several units; decode its units one by one.
 * Threads  any.
 * Source   ISO 24138:2024, clauses on header and encoding; see docs/references.md [ISCC].
 */
NPHD_API nphd_status nphd_iscc_decode(const char *text, size_t text_bytes, nphd_iscc *out,
                                      nphd_error *err);

#ifdef __cplusplus
}
#endif

#endif
