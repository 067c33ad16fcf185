/* Small directories of several kinds, for targets that damage them. */
#ifndef DIRECTORY_KINDS_H
#define DIRECTORY_KINDS_H

#include "use_directory.h"

/* What differs from an index of NPHD vectors by keys of 64 bits, with a filter and a journal. */
typedef enum fuzz_kind {
    FUZZ_KIND_PLAIN,
    FUZZ_KIND_MULTI,
    FUZZ_KIND_KEYS_128,
    FUZZ_KIND_HAMMING,
    FUZZ_KIND_NO_FILTER,
    FUZZ_KIND_GROUPED,   /* so many shards that some have a common filter */
    FUZZ_KIND_COMPACTED, /* and a rotation that the journal continues */
    FUZZ_KIND_SAVED,     /* no journal */
    FUZZ_KINDS
} fuzz_kind;

#define FUZZ_MOST_FILES 32

typedef struct fuzz_directory {
    fuzz_file files[FUZZ_MOST_FILES];
    size_t count;
    fuzz_file older[FUZZ_MOST_FILES]; /* the same directory some saves before */
    size_t older_count;
} fuzz_directory;

/* Always the same for one kind; made once. */
const fuzz_directory *fuzz_directory_of(fuzz_kind kind);

#endif
