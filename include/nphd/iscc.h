/* ISCC strings (ISO 24138): the bits of their units, the types of these, and codes of several. */
#ifndef NPHD_ISCC_H
#define NPHD_ISCC_H

#include <nphd/export.h>
#include <nphd/status.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Most bytes in the body of an ISCC unit. */
#define NPHD_ISCC_MAX_BYTES 32

/** Most units in one ISCC-CODE. */
#define NPHD_ISCC_MAX_UNITS 5

/** Room for the longest ISCC unit as text, its prefix and the closing zero included. */
#define NPHD_ISCC_TEXT_BYTES 72

/** One decoded ISCC unit. */
typedef struct nphd_iscc {
    uint8_t main_type; /* 0 META, 1 SEMANTIC, 2 CONTENT, 3 DATA, 4 INSTANCE, 6 ID, 7 FLAKE */
    uint8_t sub_type;  /* of 1 and 2: 0 text, 1 image, 2 audio, 3 video, 4 mixed; of 6: the realm */
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
 *          holds several units; take it apart with nphd_iscc_decompose().
 * Threads  any.
 * Source   ISO 24138:2024, clauses on header and encoding; see docs/references.md [ISCC].
 */
NPHD_API nphd_status nphd_iscc_decode(const char *text, size_t text_bytes, nphd_iscc *out,
                                      nphd_error *err);

/**
 * Take an ISCC apart into its units: a composite ISCC-CODE such as "ISCC:KACYPXW4..." into the 2
 * to 5 that it holds, in the order of their main types; a single unit into itself.
 *
 * The units of an ISCC-CODE have 64 bits each, and 128 when its sub type is WIDE. Semantic-Code and
 * Content-Code have the sub type of the ISCC-CODE, the others have none.
 *
 * Shapes   text as for nphd_iscc_decode(). out: room for `capacity` units; NPHD_ISCC_MAX_UNITS are
 *          always enough.
 * Returns  NPHD_OK with *out_count units.
 * Errors   NPHD_INVALID_ARGUMENT: as for nphd_iscc_decode(), or a header whose parts contradict
 * each other. NPHD_UNSUPPORTED: a kind of ISCC-CODE that is not known. NPHD_TOO_SMALL: *out_count
 * says how many there are; nothing is written to out. *out_count is 0 on the other errors. Threads
 * any.
 */
NPHD_API nphd_status nphd_iscc_decompose(const char *text, size_t text_bytes, nphd_iscc *out,
                                         size_t capacity, size_t *out_count, nphd_error *err);

/**
 * Write a unit as text: "ISCC:" and upper-case base32, as nphd_iscc_decode() reads it.
 *
 * Shapes   out: NPHD_ISCC_TEXT_BYTES bytes; closed by a zero.
 * Errors   NPHD_INVALID_ARGUMENT: a main type that is not that of a unit, or a body of a length
 *          that this main type does not have; out is then "".
 * Threads  any.
 */
NPHD_API nphd_status nphd_iscc_encode(const nphd_iscc *unit, char out[NPHD_ISCC_TEXT_BYTES],
                                      nphd_error *err);

/**
 * The type of the codes in an index: main type, sub type and version of ISCC units, which can be
 * compared with units of the same type alone. NPHD_UNIT_NONE: not known. NPHD_UNIT_MIXED: several.
 */
typedef uint32_t nphd_unit;

#define NPHD_UNIT_NONE 0U
#define NPHD_UNIT_MIXED 0xFFFFFFFFU

/** A type from its three numbers, each 0 to 255. */
#define NPHD_UNIT(main_type, sub_type, version)                                                    \
    (0x01000000U | (uint32_t)(main_type) << 16 | (uint32_t)(sub_type) << 8 | (uint32_t)(version))

/** Room for the name of a type, its closing zero included. */
#define NPHD_UNIT_NAME_BYTES 32

/** The type of a decoded unit. Threads: any. */
NPHD_API nphd_unit nphd_iscc_unit(const nphd_iscc *unit);

/**
 * Is it a value that nphd_unit may have: NPHD_UNIT_NONE, NPHD_UNIT_MIXED or the type of a unit that
 * is a vector, of main type 0 to 4? ISCC-IDs are keys. Threads: any.
 */
NPHD_API bool nphd_unit_is_valid(nphd_unit unit);

/**
 * The name of a type: "meta", "semantic-text", "content-image", "data", "instance"; with a sub type
 * that has no name "content-7", with a version other than 0 "content-text-v1"; "none" and "mixed".
 * Returns `out`. Threads: any.
 */
NPHD_API const char *nphd_unit_name(nphd_unit unit, char out[NPHD_UNIT_NAME_BYTES]);

/** May codes of these types be compared? Not two different ones, unless one is NPHD_UNIT_NONE (not
 * known) or NPHD_UNIT_MIXED. */
NPHD_API bool nphd_units_agree(nphd_unit a, nphd_unit b);

/**
 * The type with that name, upper or lower case.
 *
 * Shapes   text: closed by a zero.
 * Errors   NPHD_INVALID_ARGUMENT: it names no type; *out is NPHD_UNIT_NONE.
 * Threads  any.
 */
NPHD_API nphd_status nphd_unit_parse(const char *text, nphd_unit *out, nphd_error *err);

#ifdef __cplusplus
}
#endif

#endif
