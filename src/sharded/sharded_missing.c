/* What an opening misses: the newest shard and the newest journal, which the head in `lock` alone
 * names. */
#include "base/error.h"
#include "sharded/sharded_opening.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NAME_ROOM 32

/* Is the journal that the head names there, as it was when it was begun? */
static nphd_status journal_is_there(const nphdi_opening *of, bool *out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_sharded *sharded = of->sharded;
    nphdi_journal_reader reader;
    char name[NAME_ROOM];
    char *path = NULL;
    size_t room = 0;
    nphd_error why = NPHD_ERROR_INIT;
    bool valid = false;

    *out = false;
    memset(&reader, 0, sizeof(reader));
    (void)snprintf(name, sizeof(name), "journal_%08" PRIu64, of->head.journal);
    TRY(nphdi_path_join(sharded->allocator, sharded->path, name, &path, &room, err));
    status = nphdi_journal_reader_open(&reader, sharded->io, sharded->allocator, path, &why);
    if (status == NPHD_NOT_FOUND) {
        status = NPHD_OK;
        goto done;
    }
    if (status != NPHD_OK) {
        nphdi_error_copy(err, &why);
        goto done;
    }
    /* a damaged one is told of when it is replayed */
    *out = nphdi_journal_reader_head(&reader, &valid, &why) != NPHD_OK || valid;
done:
    nphdi_journal_reader_close(&reader);
    nphdi_free(sharded->allocator, path, room, 1);
    return status;
}

static nphd_status compare(const nphdi_opening *of, nphd_error *why, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    const nphd_sharded *sharded = of->sharded;
    const uint64_t newest = of->newest != NULL ? of->newest->generation : 0;
    bool there = true;

    if (of->head.generation > newest) {
        (void)nphdi_fail(why, NPHD_CORRUPT,
                         "%s: the newest shard is missing, or the files are of an older copy: "
                         "they are of generation %llu, but %s says %llu; salvage opens what there "
                         "is",
                         sharded->path, (unsigned long long)newest, NPHDI_LOCK_NAME,
                         (unsigned long long)of->head.generation);
        return NPHD_OK;
    }
    if (of->head.journal > 0 && newest > 0 && of->head.journal_base >= newest) {
        TRY(journal_is_there(of, &there, err));
    }
    if (!there) {
        (void)nphdi_fail(why, NPHD_CORRUPT,
                         "%s/journal_%08llu: missing, although %s says that it was begun; salvage "
                         "opens what there is",
                         sharded->path, (unsigned long long)of->head.journal, NPHDI_LOCK_NAME);
    }
done:
    return status;
}

nphd_status nphdi_opening_check_head(nphdi_opening *of, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_sharded *sharded = of->sharded;
    nphd_error why = NPHD_ERROR_INIT;
    nphdi_lock_head known = {.sequence = of->head.sequence}; /* numbers go on */

    if (of->head_state == NPHDI_LOCK_HEAD_DAMAGED) {
        nphdi_log_write(&sharded->log, NPHD_LOG_WARNING,
                        "%s/%s: damaged; whether the newest files are there is not known until "
                        "the next save",
                        sharded->path, NPHDI_LOCK_NAME);
    }
    if (of->head_state != NPHDI_LOCK_HEAD_WHOLE) {
        return NPHD_OK;
    }
    /* without any shard the filter says whose files these were: the reference writes it anew when
     * it deletes its last shard */
    if (of->reference ||
        (sharded->sealed_count == 0 && of->filter.author == NPHDI_AUTHOR_REFERENCE) ||
        (of->newest != NULL &&
         memcmp(of->head.identity, sharded->identity, sizeof(sharded->identity)) != 0)) {
        nphdi_lock_file_know(&sharded->lock, &known);
        return NPHD_OK; /* it is of other files than these */
    }
    nphdi_lock_file_know(&sharded->lock, &of->head);
    TRY(compare(of, &why, err));
    if (why.status == NPHD_OK) {
        if (of->newest != NULL && of->head.journal_base > of->newest->generation) {
            /* no save would supersede it, and after one that removes it nothing would open */
            sharded->lock.head.journal = 0;
            sharded->lock.head.journal_base = 0;
        }
        return NPHD_OK;
    }
    if (!sharded->salvage) {
        nphdi_error_copy(err, &why);
        return why.status;
    }
    if (of->damaged == 0) { /* else a file was told of that explains it */
        nphdi_sharded_damage(sharded, "%s", why.text);
    }
    of->damaged++;
    if (of->head.generation > atomic_load(&sharded->generation)) {
        /* generations only grow */
        atomic_store(&sharded->generation, of->head.generation);
    }
done:
    return status;
}
