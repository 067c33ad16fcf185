/* The index handle.
 *
 * Locks, taken in this order:
 *   change_lock   read: calls that change vectors; write: calls that need them to hold still (save,
 *                 copy, isolate) or replace the content
 *   content_lock  read: every call that looks at the content; write: replacing it, and the short
 *                 moments in which a slot that readers may be looking at is given a new row or key
 *   slot_lock     of the content: giving out slots, and the key map */
#ifndef NPHDI_INDEX_INTERNAL_H
#define NPHDI_INDEX_INTERNAL_H

#include "index/content.h"
#include "index/index_home.h"
#include "platform/platform.h"

#include <nphd/index.h>
#include <nphd/index_file.h>
#include <nphd/index_search.h>

#define NPHDI_DEFAULT_CONNECTIVITY 16
#define NPHDI_MAX_OPTION_CONNECTIVITY 512
#define NPHDI_DEFAULT_BUILD_BREADTH 128
#define NPHDI_DEFAULT_SEARCH_BREADTH 64
#define NPHDI_MAX_BREADTH 65536

/* A graph scratch that waits for its next user. */
typedef struct nphdi_pooled_scratch {
    struct nphdi_pooled_scratch *next;
    nphdi_graph_scratch scratch;
} nphdi_pooled_scratch;

struct nphd_index {
    nphdi_process process;
    const nphd_allocator *allocator;
    const nphd_io *io;
    nphdi_rwlock change_lock;
    nphdi_rwlock content_lock;
    nphdi_content *content;
    _Atomic uint32_t build_breadth;
    _Atomic uint32_t search_breadth;
    _Atomic uint64_t dirty;
    _Atomic uint64_t generation; /* saves behind the content */
    uint8_t identity[16];        /* zero before the first save */
    nphdi_home home;             /* under change_lock */
    bool is_shard;               /* of a directory, which looks after its files itself */
    pthread_mutex_t pool_lock;
    nphdi_pooled_scratch *pool;
    bool change_lock_made;
    bool content_lock_made;
    bool pool_lock_made;
};

/* Copies the known fields of a caller's options struct over `defaults`; a longer struct must be
 * zero behind them. `options` NULL: the defaults stay. */
nphd_status nphdi_options_read(const void *options, size_t known_bytes, void *defaults,
                               const char *what, nphd_error *err);

/* Are they in range? All fields are known. */
nphd_status nphdi_index_check_options(const nphd_index_options *options, nphd_error *err);
/* As nphd_index_create(). `view`: the content is that of a view of nothing, which takes no memory
 * and waits to be replaced; it can be closed, and opened into, but not used. */
nphd_status nphdi_index_create(const nphd_index_options *options, bool view, nphd_index **out,
                               nphd_error *err);

/* Begins every public call: in a child process that has inherited the index by a fork, the first
 * one makes it usable there (index_process.c). NPHD_FORKED: it was being changed. */
nphd_status nphdi_index_adopt(nphd_index *index, nphd_error *err);
static inline nphd_status nphdi_index_enter(nphd_index *index, nphd_error *err)
{
    return nphdi_process_is_same(&index->process) ? NPHD_OK : nphdi_index_adopt(index, err);
}
/* The same, and returns what fails. */
#define NPHDI_INDEX_ENTER(index, err)                                                              \
    do {                                                                                           \
        const nphd_status entered = nphdi_index_enter(index, err);                                 \
        if (entered != NPHD_OK) {                                                                  \
            return entered;                                                                        \
        }                                                                                          \
    } while (0)

/* A path from a caller must be there and not empty. */
nphd_status nphdi_check_path(const char *path, nphd_error *err);

nphd_status nphdi_index_borrow(nphd_index *index, nphdi_pooled_scratch **out, nphd_error *err);
void nphdi_index_give_back(nphd_index *index, nphdi_pooled_scratch *scratch);

nphd_status nphdi_check_key(const nphdi_shape *shape, nphd_key key, uint64_t number,
                            nphd_error *err);
nphd_status nphdi_check_vector(const nphdi_shape *shape, nphd_vector vector, uint64_t number,
                               nphd_error *err);

/* Can a distance of this metric be compared with it? Infinity is no limit. */
nphd_status nphdi_check_radius(nphd_metric metric, float radius, const char *what, nphd_error *err);

/* Replaces the content under both locks, which the caller holds for writing. */
void nphdi_index_replace(nphd_index *index, nphdi_content *content);

/* Size of the file that a save would write; `stored` as nphdi_content_stored() tells. */
uint64_t nphdi_index_serialized_bytes(const nphdi_content *content, uint64_t stored);

/* Reads a whole file into fresh content, checking everything. */
nphd_status nphdi_content_read(const nphdi_source *source, const nphdi_usearch_head *head,
                               const nphdi_trailer *trailer, const nphdi_shape *shape,
                               const nphd_open_options *options, const nphd_allocator *allocator,
                               nphdi_content **out, nphd_error *err);

/* What a file's head means as a shape. `legacy`: NPHD rows under the Hamming code. */
nphdi_shape nphdi_shape_of_head(const nphdi_usearch_head *head, bool legacy);

#endif
