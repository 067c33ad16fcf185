/* Which file an index was read from or written to last, so that a save notices when somebody else's
 * lies there. A file of ours is known by its footer, whose checksums go back to every byte, to the
 * identity and to the generation; one without a trailer by its size, its last bytes and what the
 * I/O table tells of it. */
#ifndef NPHDI_INDEX_HOME_H
#define NPHDI_INDEX_HOME_H

#include "formats/trailer.h"
#include "index/source.h"

#include <nphd/allocator.h>
#include <nphd/io.h>
#include <nphd/status.h>

/* Zero: none. */
typedef struct nphdi_home {
    char *path; /* as nphdi_path_resolve() tells it */
    size_t path_room;
    uint64_t given; /* hash of the path as the caller gave it */
    uint64_t file_bytes;
    uint64_t end;   /* hash of the footer, or of the last bytes */
    uint64_t facts; /* hash of what the table told; 0: the footer says enough */
} nphdi_home;

/* The file that `path` means, yet without content. On failure *out is zero. */
nphd_status nphdi_home_begin(const nphd_io *io, const nphd_allocator *allocator, const char *path,
                             nphdi_home *out, nphd_error *err);

/* Before a file is opened to be read: what the table tells of it. */
nphd_status nphdi_home_look(const nphd_io *io, nphdi_home *home, nphd_error *err);

/* The content is that of this source. */
nphd_status nphdi_home_of_source(nphdi_home *home, const nphdi_source *source, nphd_error *err);

/* The content is what was written with this trailer. */
void nphdi_home_of_trailer(nphdi_home *home, nphdi_trailer *trailer);

/* NPHD_CHANGED if `to` is the place of `home`, or was called the same by the caller, and another
 * file lies there; `name` is what the error calls it. */
nphd_status nphdi_home_check(const nphd_io *io, const nphdi_home *home, const nphdi_home *to,
                             const char *name, nphd_error *err);

/* Moves `from` into `to`, whose old content is released. */
void nphdi_home_move(const nphd_allocator *allocator, nphdi_home *to, nphdi_home *from);
void nphdi_home_release(const nphd_allocator *allocator, nphdi_home *home); /* takes a zero one */

#endif
