/* The type of the codes in an index, in memory and in its file (docs/format.md section 2.4). */
#ifndef NPHDI_INDEX_UNIT_H
#define NPHDI_INDEX_UNIT_H

#include "formats/unit_format.h"
#include "index/block_sink.h"
#include "index/content.h"
#include "index/source.h"

/* Of a file; `trailer` NULL: there is none. */
nphd_status nphdi_unit_read(const nphdi_source *source, const nphdi_trailer *trailer,
                            nphdi_content *content, nphd_error *err);

/* Names the section, where there is something to say, behind those that are named already. */
void nphdi_unit_describe(const nphdi_content *content, nphdi_trailer *trailer);
/* Writes it if it is named. */
nphd_status nphdi_unit_put(nphdi_block_sink *to, const nphdi_content *content,
                           const nphdi_trailer *trailer, nphd_error *err);

#endif
