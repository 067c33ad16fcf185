/* A sharded index in a child process made by fork().
 *
 * The child has a copy of the handle's memory and descriptors, but not its threads; the lock of the
 * directory and the files belong to the parent. So the child changes and writes nothing. It may
 * look, at the state of the moment of the fork, unless another thread was in the middle of a change
 * then. A read-only handle shares nothing but files that it only reads: it goes on as in the
 * parent. */
#include "base/error.h"
#include "sharded/sharded_internal.h"

/* In every process but that which opened it, a handle that writes is not at home. */
bool nphdi_sharded_is_at_home(const nphd_sharded *sharded)
{
    return sharded->process.mark == NULL || sharded->read_only ||
           atomic_load_explicit(sharded->process.mark, memory_order_relaxed) == sharded->home;
}

static bool adopt_indexes(const nphd_sharded *sharded)
{
    bool whole = sharded->active == NULL || nphdi_index_enter(sharded->active, NULL) == NPHD_OK;

    for (uint64_t i = 0; i < sharded->sealed_count; i++) {
        whole = nphdi_index_enter(sharded->sealed[i]->index, NULL) == NPHD_OK && whole;
    }
    return whole;
}

/* Whoever changes what a lookup sees holds state_lock for writing, or is inside an index. The other
 * locks tell what must be left alone when the handle is freed. */
static bool adopt_locks(nphd_sharded *sharded)
{
    const nphdi_journal *journal = &sharded->journal;
    bool looking;
    bool changing;

    nphdi_rwlock_adopt(&sharded->state_lock, &looking, &changing);
    sharded->change_cut = !nphdi_mutex_adopt(&sharded->change_lock) && !sharded->read_only;
    sharded->rotation_cut = !nphdi_mutex_adopt(&sharded->queue.mutex);
    sharded->rotation_cut =
        sharded->rotation_cut ||
        (sharded->rotations != NULL && sharded->rotations->state == NPHDI_ROTATION_RUNNING);
    nphdi_signal_adopt(&sharded->queue);
    sharded->commit_cut = !nphdi_mutex_adopt(&sharded->journal.lock.mutex) || journal->committing;
    nphdi_signal_adopt(&sharded->journal.lock);
    (void)nphdi_mutex_adopt(&sharded->lock.mutex); /* nobody writes the head here */
    return !changing && (sharded->closed || adopt_indexes(sharded));
}

nphd_status nphdi_sharded_adopt(nphd_sharded *sharded, nphd_error *err)
{
    nphdi_adoption adoption = nphdi_process_adopt(&sharded->process);

    if (adoption == NPHDI_ADOPTION_BEGUN) {
        const bool whole = adopt_locks(sharded);
        nphdi_process_adopted(&sharded->process, whole);
        adoption = whole ? NPHDI_ADOPTION_DONE : NPHDI_ADOPTION_TORN;
    }
    return adoption == NPHDI_ADOPTION_DONE
               ? NPHD_OK
               : nphdi_fail(err, NPHD_FORKED,
                            "%s: the index was being changed by another thread when this process "
                            "was forked; open it anew here, with read_only",
                            sharded->path);
}

nphd_status nphdi_sharded_enter_change(nphd_sharded *sharded, const char *what, nphd_error *err)
{
    if (!nphdi_sharded_is_at_home(sharded)) {
        return nphdi_fail(err, NPHD_FORKED,
                          "%s: %s: the index was opened by the process that this one was forked "
                          "from, which alone may change it; open it in the process that uses it",
                          sharded->path, what);
    }
    return nphdi_sharded_enter(sharded, err);
}

/* Closes the descriptors and leaves the memory to the process. */
static void let_go(nphd_sharded *sharded)
{
    nphdi_lock_file_let_go(&sharded->lock);
}

/* Those of the journal, of which the records may be half taken. */
static void let_go_of_journal(nphd_sharded *sharded)
{
    for (nphdi_journal_file *file = sharded->journal.files; file != NULL; file = file->next) {
        if (file->open) {
            (void)sharded->io->close(sharded->io->context, file->file);
        }
    }
    sharded->journal.files = NULL;
}

void nphdi_sharded_abandon(nphd_sharded *sharded)
{
    bool whole;

    if (sharded->process.mark == NULL) {
        return;
    }
    whole = nphdi_sharded_enter(sharded, NULL) == NPHD_OK; /* makes the locks new in either case */
    if (nphdi_sharded_is_at_home(sharded) && (whole || !sharded->read_only)) {
        return;
    }
    (void)pthread_mutex_lock(&sharded->change_lock);
    if (!sharded->closed) {
        sharded->thread_runs = false;
        sharded->journal.thread_runs = false;
        if (sharded->rotation_cut || sharded->change_cut) {
            sharded->rotations = NULL;
        }
        if (sharded->commit_cut || sharded->change_cut) {
            let_go_of_journal(sharded);
        }
        nphdi_rwlock_write(&sharded->state_lock);
        sharded->closed = true;
        if (whole && !sharded->change_cut) {
            nphdi_sharded_release(sharded);
        } else {
            let_go(sharded);
        }
        nphdi_rwlock_write_end(&sharded->state_lock);
    }
    (void)pthread_mutex_unlock(&sharded->change_lock);
}
