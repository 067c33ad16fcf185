/* Making an index ready for exact searches. */
#include "base/error.h"
#include "index/index_internal.h"
#include "index/index_shard.h"

nphd_status nphdi_index_make_tables(nphd_index *index, uint32_t threads, nphd_error *err)
{
    nphd_status status;
    nphdi_content_mih *tables = NULL;

    nphdi_rwlock_write(&index->change_lock);
    nphdi_rwlock_read(&index->content_lock);
    status = nphdi_content_mih_make(index->content, threads, &tables, err);
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

bool nphdi_index_has_tables(nphd_index *index)
{
    nphdi_rwlock_read(&index->content_lock);
    const bool has = nphdi_content_mih_is_whole(index->content);
    nphdi_rwlock_read_end(&index->content_lock);
    return has;
}

nphd_status nphd_index_prepare(nphd_index *index, uint32_t threads, nphd_error *err)
{
    nphd_status status = NPHD_OK;

    nphdi_error_clear(err);
    TRY(nphdi_index_enter(index, err));
    TRY(nphdi_index_make_tables(index, threads, err));
    nphdi_rwlock_read(&index->content_lock);
    nphdi_content_make_planes(index->content);
    nphdi_rwlock_read_end(&index->content_lock);
done:
    return status;
}
