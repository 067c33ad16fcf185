/* The part of a file that the reference reads. */
#ifndef NPHDI_INDEX_SAVE_FOREIGN_H
#define NPHDI_INDEX_SAVE_FOREIGN_H

#include "index/block_sink.h"
#include "index/content.h"

/* Its size. */
uint64_t nphdi_save_foreign_bytes(const nphdi_content *content);

/* All of it; `stored` as nphdi_content_stored() tells. A view is checked first. */
nphd_status nphdi_save_put_foreign(nphdi_block_sink *to, const nphdi_content *content,
                                   uint64_t stored, nphd_error *err);

#endif
