/* Between the parts of opening; for sharded_open.c, sharded_record.c and sharded_author.c alone. */
#ifndef NPHDI_SHARDED_OPENING_H
#define NPHDI_SHARDED_OPENING_H

#include "formats/trailer.h"
#include "sharded/sharded_internal.h"

/* Who wrote a file? */
typedef enum nphdi_author {
    NPHDI_AUTHOR_NONE, /* there is no such file */
    NPHDI_AUTHOR_OURS, /* with our trailer, or what is left of it */
    NPHDI_AUTHOR_REFERENCE,
    NPHDI_AUTHOR_DAMAGED /* neither: it is cut, or something else */
} nphdi_author;

typedef struct nphdi_filter_facts {
    nphdi_author author;
    bool whole;            /* ours, with a trailer that can be read */
    bool over_reference;   /* ours, of a save over files of the reference */
    nphdi_trailer trailer; /* of a whole one */
} nphdi_filter_facts;

/* What opening finds out on its way. */
typedef struct nphdi_opening {
    nphd_sharded *sharded;
    const nphd_sharded_options *options;
    nphdi_lock_head head; /* from before the names were listed */
    nphdi_lock_head_state head_state;
    nphdi_names names;
    uint32_t last_number; /* the highest that any file has; NPHDI_NO_NUMBER: none */
    uint64_t damaged;
    bool parameters_known; /* which shards must have is settled: others are damage to salvage */
    nphdi_shard *newest;   /* with the record in force; NULL: none */
    uint8_t *record;
    uint64_t record_bytes;
    uint32_t flags;
    uint32_t listed;
    uint64_t base; /* the generation that journals continue */
    nphdi_filter_facts filter;
    nphdi_watch part; /* of the opening, that is under way */
    bool reference;   /* the reference wrote here last */
    bool cut;         /* salvage goes on with a last shard that lost its trailer */
} nphdi_opening;

/* What bloom.isbf is, by its ends and not by its content. */
nphd_status nphdi_filter_look(const nphd_io *io, const nphd_allocator *allocator,
                              const char *directory, nphdi_filter_facts *out, nphd_error *err);
/* Sets `filter`, `reference`, and `cut` with `base`: who saved last. `newest` and its record are
 * known. */
nphd_status nphdi_opening_decide(nphdi_opening *of, nphd_error *err);

/* Finds the shard whose record is in force, and reads it. */
nphd_status nphdi_opening_read_record(nphdi_opening *of, nphd_error *err);
/* Compares it with the shards that are there. */
nphd_status nphdi_opening_check_record(nphdi_opening *of, nphd_error *err);
/* Compares the files with the head (sharded_missing.c). */
nphd_status nphdi_opening_check_head(nphdi_opening *of, nphd_error *err);

#endif
