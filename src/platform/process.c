/* Which process a handle belongs to, told without asking the system at every call.
 *
 * One page for the whole process holds a number that the kernel wipes in a child made by fork()
 * (MADV_WIPEONFORK). A handle remembers the number of its process and compares: one load. A child
 * takes the next number when it first needs one, so that handles of its own differ from those that
 * it inherited; `numbers` is ordinary memory, which a child goes on with.
 *
 * This is the one piece of state that the library keeps outside its handles: a page, made when the
 * first handle is, and never given back. */
#include "platform/platform.h"

#include "base/error.h"

#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif

/* `born` of a handle whose locks a call is making new, together with the number of that process. */
#define ADOPTING (1ULL << 63)
/* `born` of a handle that another thread was changing when the process forked. */
#define TORN UINT64_MAX

static _Atomic(_Atomic uint64_t *) page;
static _Atomic uint64_t numbers;

/* Where pages cannot be wiped. */
static _Atomic uint64_t plain_mark;

static void wipe_plain_mark(void)
{
    atomic_store_explicit(&plain_mark, 0, memory_order_relaxed);
}

/* NULL: this system cannot. One that takes an advice that does not exist does not follow any. */
static void *wiped_page(size_t bytes)
{
#ifdef MADV_WIPEONFORK
    void *made = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (made == MAP_FAILED) {
        return NULL;
    }
    if (madvise(made, bytes, -1) != 0 && madvise(made, bytes, MADV_WIPEONFORK) == 0) {
        return made;
    }
    (void)munmap(made, bytes);
#endif
    (void)bytes;
    return NULL;
}

/* Threads that meet here make a page each; the first one counts. */
static nphd_status make_page(nphd_error *err)
{
    const long known = sysconf(_SC_PAGESIZE);
    const size_t bytes = known > 0 ? (size_t)known : 4096;
    _Atomic uint64_t *none = NULL;
    void *made = wiped_page(bytes);
    int os_error = 0;

    if (made != NULL) {
        if (!atomic_compare_exchange_strong(&page, &none, made)) {
            (void)munmap(made, bytes);
        }
        return NPHD_OK;
    }
    /* twice does no harm */
    os_error = pthread_atfork(NULL, NULL, wipe_plain_mark);
    if (os_error != 0) {
        return nphdi_fail_os(err, os_error, "cannot watch for forks");
    }
    (void)atomic_compare_exchange_strong(&page, &none, &plain_mark);
    return NPHD_OK;
}

/* The number of this process; never 0. */
static uint64_t own_number(_Atomic uint64_t *mark)
{
    uint64_t number = atomic_load(mark);

    if (number == 0) {
        const uint64_t next = atomic_fetch_add(&numbers, 1) + 1;
        if (atomic_compare_exchange_strong(mark, &number, next)) {
            number = next;
        }
    }
    return number;
}

nphd_status nphdi_process_note(nphdi_process *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    _Atomic uint64_t *mark = atomic_load(&page);

    if (mark == NULL) {
        TRY(make_page(err));
        mark = atomic_load(&page);
    }
    out->mark = mark;
    atomic_store(&out->born, own_number(mark));
done:
    return status;
}

nphdi_adoption nphdi_process_adopt(nphdi_process *process)
{
    const uint64_t number = own_number(process->mark);

    for (;;) {
        uint64_t born = atomic_load(&process->born);
        if (born == number) {
            return NPHDI_ADOPTION_DONE;
        }
        if (born == (number | ADOPTING)) { /* another thread is at it */
            (void)sched_yield();
            continue;
        }
        if ((born & ADOPTING) != 0) { /* torn, or forked in the middle of this */
            return NPHDI_ADOPTION_TORN;
        }
        if (atomic_compare_exchange_weak(&process->born, &born, number | ADOPTING)) {
            return NPHDI_ADOPTION_BEGUN;
        }
    }
}

void nphdi_process_adopted(nphdi_process *process, bool whole)
{
    atomic_store(&process->born, whole ? own_number(process->mark) : TORN);
}
