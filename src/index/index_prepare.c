/* Making an index ready for exact searches. */
#include "base/error.h"
#include "index/index_internal.h"
#include "index/index_shard.h"

nphd_status nphdi_index_make_tables(nphd_index *index, uint32_t threads, const nphdi_watch *watch,
                                    nphd_error *err)
{
    nphd_status status;
    nphdi_content_mih *tables = NULL;

    nphdi_rwlock_write(&index->change_lock);
    nphdi_rwlock_read(&index->content_lock);
    status = nphdi_content_mih_make(index->content, threads, watch, &tables, err);
    nphdi_rwlock_read_end(&index->content_lock);
    if (status == NPHD_OK && tables != NULL) {
        nphdi_rwlock_write(&index->content_lock);
        nphdi_content_mih_set(index->content, tables);
        nphdi_rwlock_write_end(&index->content_lock);
    } else {
        nphdi_content_mih_free(tables, index->allocator);
    }
    nphdi_rwlock_write_end(&index->change_lock);
    return status;
}

nphd_status nphdi_index_try_tables(nphd_index *index, uint32_t threads, const nphdi_watch *watch,
                                   nphd_error *err)
{
    nphd_error why = NPHD_ERROR_INIT; /* the caller's stays clear of what is passed over */

    if (nphdi_index_make_tables(index, threads, watch, &why) != NPHD_CANCELLED) {
        return NPHD_OK;
    }
    nphdi_error_copy(err, &why);
    return NPHD_CANCELLED;
}

bool nphdi_index_has_tables(nphd_index *index)
{
    nphdi_rwlock_read(&index->content_lock);
    const bool has = nphdi_content_mih_is_whole(index->content);
    nphdi_rwlock_read_end(&index->content_lock);
    return has;
}

nphd_status nphd_index_prepare_with(nphd_index *index, const nphd_batch_options *options,
                                    nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_batch_options known = NPHD_BATCH_OPTIONS_INIT;
    nphdi_watch watch;

    nphdi_error_clear(err);
    TRY(nphdi_options_read(options, sizeof(known), &known, "batch options", err));
    TRY(nphdi_index_enter(index, err));
    watch = nphdi_watch_whole(known.progress, known.progress_context, "prepare");
    TRY(nphdi_index_make_tables(index, known.threads, &watch, err));
    nphdi_rwlock_read(&index->content_lock);
    nphdi_content_make_planes(index->content);
    nphdi_rwlock_read_end(&index->content_lock);
done:
    return status;
}

nphd_status nphd_index_prepare(nphd_index *index, uint32_t threads, nphd_error *err)
{
    nphd_batch_options options = NPHD_BATCH_OPTIONS_INIT;

    options.threads = threads;
    return nphd_index_prepare_with(index, &options, err);
}
