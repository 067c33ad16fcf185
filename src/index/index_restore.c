/* Creating an index from a file. */
#include "base/error.h"
#include "base/memory.h"
#include "index/index_internal.h"
#include "index/index_shard.h"

static nphd_status restore(const char *path, bool view, bool is_shard,
                           const nphd_open_options *options, nphd_index **out, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphd_open_options known = NPHD_OPEN_OPTIONS_INIT;
    nphd_index_options create = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;

    nphdi_error_clear(err);
    if (out == NULL) {
        return nphdi_fail(err, NPHD_INVALID_ARGUMENT, "out is NULL");
    }
    *out = NULL;
    TRY(nphdi_options_read(options, sizeof(known), &known, "open options", err));
    create.allocator = known.allocator;
    create.io = known.io;
    TRY(nphdi_index_create(&create, true, &index, err));
    index->is_shard = is_shard;
    TRY(view ? nphd_index_view(index, path, &known, err)
             : nphd_index_load(index, path, &known, err));
    *out = index;
    index = NULL;
done:
    nphd_index_close(index);
    return status;
}

nphd_status nphd_index_restore(const char *path, bool view, const nphd_open_options *options,
                               nphd_index **out, nphd_error *err)
{
    return restore(path, view, false, options, out, err);
}

nphd_status nphdi_index_view_shard(const char *path, const nphd_open_options *options,
                                   nphd_index **out, nphd_error *err)
{
    return restore(path, true, true, options, out, err);
}
