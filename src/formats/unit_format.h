/* The type of the codes in an index: its section of a trailer, and what may follow what
 * (docs/format.md section 2.4). No I/O. */
#ifndef NPHDI_UNIT_FORMAT_H
#define NPHDI_UNIT_FORMAT_H

#include <nphd/iscc.h>
#include <nphd/status.h>
#include <stdbool.h>
#include <stdint.h>

#define NPHDI_UNIT_BYTES 8

/* The unit is not NPHD_UNIT_NONE: that is no section at all. */
void nphdi_unit_encode(nphd_unit unit, uint8_t out[NPHDI_UNIT_BYTES]);

/* NPHD_UNIT_NONE for what this version does not know: nothing relies on it. */
nphd_unit nphdi_unit_decode(const uint8_t *bytes, uint64_t count);

/* What an index whose type is `now` has after a code of the type `unit`; `empty`: there is no
 * vector that `now` could be about. `mix`: two types become NPHD_UNIT_MIXED. `name` is that of the
 * index. Errors: NPHD_INVALID_ARGUMENT, NPHD_MISMATCH. */
nphd_status nphdi_unit_follow(const char *name, nphd_unit now, nphd_unit unit, bool mix,
                              nphd_unit *out, nphd_error *err);

#endif
