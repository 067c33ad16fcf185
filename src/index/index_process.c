/* An index in a child process made by fork(): its memory is a copy of the parent's, its locks may
 * be held by threads that do not exist in the child. */
#include "base/error.h"
#include "index/index_internal.h"

#include <string.h>

/* Is the content whole, and nobody but searches inside it? Whoever changes it holds change_lock for
 * reading or content_lock for writing; searches may be making planes. */
static bool adopt_locks(nphd_index *index)
{
    nphdi_content *content = index->content;
    nphdi_planes *planes;
    bool changing;
    bool looking;
    bool holding_still;
    bool replacing;

    nphdi_rwlock_adopt(&index->change_lock, &changing, &holding_still);
    nphdi_rwlock_adopt(&index->content_lock, &looking, &replacing);
    if (changing || replacing) {
        return false;
    }
    /* whoever changes what it guards holds one of the locks above, too */
    (void)nphdi_mutex_adopt(&content->slot_lock);
    planes = atomic_load(&content->planes);
    if (planes != NULL && !nphdi_planes_adopt(planes)) {
        atomic_store(&content->planes, NULL); /* half made: searches make them anew */
    }
    if (content->graph.locks != NULL) {
        /* of an isolation, which leaves the links of one node in disorder at the worst */
        memset(content->graph.locks, 0, content->graph.lock_count * sizeof(*content->graph.locks));
    }
    if (content->view) {
        /* a table that was being derived is derived again */
        (void)nphdi_mutex_adopt(&content->mapped.derive_lock);
    }
    if (!nphdi_mutex_adopt(&index->pool_lock)) {
        index->pool = NULL; /* the memory stays with the process */
    }
    return true;
}

nphd_status nphdi_index_adopt(nphd_index *index, nphd_error *err)
{
    nphdi_adoption adoption = nphdi_process_adopt(&index->process);

    if (adoption == NPHDI_ADOPTION_BEGUN) {
        const bool whole = adopt_locks(index);
        nphdi_process_adopted(&index->process, whole);
        adoption = whole ? NPHDI_ADOPTION_DONE : NPHDI_ADOPTION_TORN;
    }
    return adoption == NPHDI_ADOPTION_DONE
               ? NPHD_OK
               : nphdi_fail(err, NPHD_FORKED,
                            "the index was being changed by another thread when this process was "
                            "forked; open or make it anew here");
}
