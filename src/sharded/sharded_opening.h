/* Between the parts of opening; for sharded_open.c and sharded_record.c alone. */
#ifndef NPHDI_SHARDED_OPENING_H
#define NPHDI_SHARDED_OPENING_H

#include "sharded/sharded_internal.h"

/* What opening finds out on its way. */
typedef struct nphdi_opening {
    nphd_sharded *sharded;
    const nphd_sharded_options *options;
    nphdi_names names;
    uint32_t last_number; /* the highest that any file has; NPHDI_NO_NUMBER: none */
    uint64_t damaged;
    nphdi_shard *newest; /* with the record in force; NULL: none */
    uint8_t *record;
    uint64_t record_bytes;
    uint32_t flags;
    uint32_t listed;
    bool reference; /* the reference wrote here last */
} nphdi_opening;

/* Finds the shard whose record is in force, and reads it. */
nphd_status nphdi_opening_read_record(nphdi_opening *of, nphd_error *err);
/* Compares it with the shards that are there. */
nphd_status nphdi_opening_check_record(nphdi_opening *of, nphd_error *err);

#endif
