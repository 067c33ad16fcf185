/* The index that a command works on: one file, or a directory of shards. */
#include "store.h"

#include "progress.h"
#include "signals.h"
#include "suggest.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_ENDING ".usearch"

/* Between two looks for signals while shards are waited for. */
#define DRAIN_SLICE_MS 50

bool cli_store_names_file(const char *path)
{
    const size_t ending = strlen(FILE_ENDING);
    const size_t length = strlen(path);

    return length >= ending && strcmp(path + length - ending, FILE_ENDING) == 0;
}

/* Complains unless the call went well. */
static cli_exit store_result(nphd_status status, const nphd_error *err)
{
    return status == NPHD_OK ? CLI_SUCCESS : cli_fail(err);
}

/* ---- a file ---- */

/* A save that fails after hours of adding is no news for the end. The file is replaced where a
 * symbolic link leads. */
static cli_exit store_check_folder(const char *path, bool is_new)
{
    char *real = realpath(path, NULL);
    const char *target = real != NULL ? real : path;
    const char *slash = strrchr(target, '/');
    char *folder = slash != NULL ? strndup(target, (size_t)(slash - target) + 1) : strdup(".");
    cli_exit result = CLI_SUCCESS;

    if (folder == NULL) {
        result = cli_out_of_memory();
    } else if (access(folder, W_OK | X_OK) != 0) {
        cli_complain("%s: cannot be %s: %s", path, is_new ? "created" : "saved", strerror(errno));
        result = CLI_SYSTEM;
    }
    free(folder);
    free(real);
    return result;
}

static cli_exit store_create_file(cli_store *store, const cli_store_options *options)
{
    nphd_index_options create = NPHD_INDEX_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    cli_exit result;

    create.max_bits = options->max_bits;
    create.key_bits = options->key_bits;
    create.metric = options->metric;
    create.connectivity = options->connectivity;
    create.build_breadth = options->build_breadth;
    create.multi = options->multi;
    result = store_result(nphd_index_create(&create, &store->index, &err), &err);
    if (result == CLI_SUCCESS) {
        store->shape.key_bits = create.key_bits != 0 ? create.key_bits : 64;
        store->shape.metric = create.metric != 0 ? create.metric : NPHD_METRIC_NPHD;
        store->shape.max_bytes = nphd_index_max_bytes(store->index);
        store->shape.multi = create.multi;
        store->is_new = true;
        store->must_save = true;
    }
    return result;
}

static cli_exit store_restore(cli_store *store, cli_access access, const cli_store_options *options,
                              const nphd_metadata *metadata)
{
    nphd_open_options open = NPHD_OPEN_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status = NPHD_OK;
    cli_progress progress;

    open.max_bits = options->max_bits;
    /* what the header said is asked for, which refuses another file put here in between */
    open.key_bits = options->key_bits != 0 ? options->key_bits : metadata->key_bits;
    open.metric = options->metric;
    open.connectivity = options->connectivity;
    open.build_breadth = options->build_breadth;
    open.multi = options->multi ? 2 : 0;
    open.legacy_nphd = options->legacy_nphd;
    cli_progress_start(&progress, "loading");
    open.progress = cli_progress_step;
    open.progress_context = &progress;
    status = nphd_index_restore(store->path, access == CLI_READ, &open, &store->index, &err);
    cli_progress_hide();
    if (status == NPHD_OK) {
        store->shape.max_bytes = nphd_index_max_bytes(store->index);
        store->shape.unit = nphd_index_unit(store->index);
    }
    return store_result(status, &err);
}

/* Before a file is loaded to be changed: may it be saved, and is it ours alone? */
static cli_exit store_prepare_change(cli_store *store, bool is_new)
{
    const cli_exit result = store_check_folder(store->path, is_new);

    return result == CLI_SUCCESS ? cli_store_lock(store) : result;
}

/* The stats of an index would tell its shape too, but counting the links for them walks the graph,
 * and a view is to open in constant time. */
static cli_exit store_open_file(cli_store *store, cli_access access,
                                const cli_store_options *options)
{
    nphd_metadata metadata = NPHD_METADATA_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status = nphd_file_metadata(store->path, NULL, &metadata, &err);

    if (access != CLI_READ &&
        (status == NPHD_OK || (status == NPHD_NOT_FOUND && access == CLI_CREATE))) {
        const cli_exit result = store_prepare_change(store, status == NPHD_NOT_FOUND);
        if (result != CLI_SUCCESS) {
            return result;
        }
        status = nphd_file_metadata(store->path, NULL, &metadata, &err); /* as it is now */
    }
    if (status == NPHD_NOT_FOUND && access == CLI_CREATE) {
        return store_create_file(store, options);
    }
    if (status != NPHD_OK) {
        return cli_fail_open(store->path, &err);
    }
    store->shape.key_bits = metadata.key_bits;
    store->shape.metric = options->legacy_nphd ? NPHD_METRIC_NPHD : metadata.metric;
    store->shape.multi = metadata.multi;
    store->must_save = options->build_breadth != 0;
    return store_restore(store, access, options, &metadata);
}

/* ---- a directory ---- */

/* The library opens for writing by making the directory. Whoever does not ask for a new index means
 * one that is there. */
cli_exit cli_store_find_directory(const char *path)
{
    nphd_metadata metadata = NPHD_METADATA_INIT;
    nphd_error err = NPHD_ERROR_INIT;

    if (nphd_directory_metadata(path, NULL, &metadata, &err) == NPHD_NOT_FOUND) {
        return cli_fail_open(path, &err);
    }
    return CLI_SUCCESS; /* of damage the open says more */
}

static cli_exit store_read_shape(cli_store *store)
{
    nphd_sharded_stats stats = NPHD_SHARDED_STATS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    const nphd_status status = nphd_sharded_get_stats(store->sharded, &stats, &err);

    store->shape.key_bits = stats.key_bits;
    store->shape.metric = stats.metric;
    store->shape.multi = stats.multi;
    store->shape.unit = nphd_sharded_unit(store->sharded);
    store->is_new = stats.files == 0;
    store->shape.max_bytes = nphd_sharded_max_bytes(store->sharded);
    return store_result(status, &err);
}

static cli_exit store_open_directory(cli_store *store, cli_access access,
                                     const cli_store_options *options)
{
    nphd_sharded_options open = NPHD_SHARDED_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status = NPHD_OK;
    cli_progress progress;
    cli_exit result = access != CLI_CREATE ? cli_store_find_directory(store->path) : CLI_SUCCESS;

    if (result != CLI_SUCCESS) {
        return result;
    }
    open.max_bits = options->max_bits;
    open.key_bits = options->key_bits;
    open.metric = options->metric;
    open.connectivity = options->connectivity;
    open.multi = options->multi ? 2 : 0;
    open.build_breadth = options->build_breadth;
    open.shard_bytes = options->shard_bytes;
    open.no_bloom = options->no_bloom;
    open.read_only = access == CLI_READ;
    open.background_rotation = options->background;
    open.salvage = options->salvage;
    open.reference_wrote_last = options->reference;
    open.journal = options->journal;
    open.tables = options->tables;
    open.threads = options->threads;
    open.logger = cli_log;
    open.progress = cli_progress_step;
    open.progress_context = &progress;
    store->journal = options->journal;
    cli_progress_start(&progress, "opening");
    status = nphd_sharded_open(store->path, &open, &store->sharded, &err);
    cli_progress_hide();
    result = store_result(status, &err);
    return result == CLI_SUCCESS ? store_read_shape(store) : result;
}

/* ---- both ---- */

cli_exit cli_store_check_options(const char *path, const cli_store_options *options)
{
    if (!cli_store_names_file(path)) {
        return options->legacy_nphd
                   ? cli_usage("--legacy-nphd is for index files, and '%s' is a directory", path)
                   : CLI_SUCCESS;
    }
    if (options->salvage || options->background || options->no_bloom || options->journal ||
        options->reference || options->shard_bytes > 0) {
        return cli_usage("%s is for directories, and '%s' is a file",
                         options->salvage      ? "--salvage"
                         : options->reference  ? "--reference-wrote-last"
                         : options->journal    ? "--journal"
                         : options->background ? "--background"
                         : options->no_bloom   ? "--no-bloom"
                                               : "--shard-size",
                         path);
    }
    return CLI_SUCCESS;
}

cli_exit cli_store_open(cli_store *store, const char *path, cli_access access,
                        const cli_store_options *options)
{
    const cli_exit result = cli_store_check_options(path, options);

    store->path = path;
    if (result != CLI_SUCCESS) {
        return result;
    }
    return cli_store_names_file(path) ? store_open_file(store, access, options)
                                      : store_open_directory(store, access, options);
}

void cli_store_close(cli_store *store)
{
    nphd_index_close(store->index);
    nphd_sharded_free(store->sharded);
    nphd_lock_release(store->lock);
    store->lock = NULL;
    store->index = NULL;
    store->sharded = NULL;
}

bool cli_store_set_unit(cli_store *store, nphd_unit unit, bool mix, cli_problem *problem)
{
    const nphd_unit before = store->shape.unit;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status = NPHD_OK;

    if (unit == NPHD_UNIT_NONE || unit == before) {
        return true; /* as for nearly every vector */
    }
    status = store->sharded != NULL ? nphd_sharded_set_unit(store->sharded, unit, mix, &err)
                                    : nphd_index_set_unit(store->index, unit, mix, &err);
    if (status != NPHD_OK) {
        cli_problem_set(problem, "%s%s", err.text,
                        status == NPHD_MISMATCH ? " (see --mix-units)" : "");
        return false;
    }
    store->shape.unit =
        store->sharded != NULL ? nphd_sharded_unit(store->sharded) : nphd_index_unit(store->index);
    store->must_save = store->must_save || store->shape.unit != before;
    return true;
}

cli_exit cli_store_commit(cli_store *store)
{
    nphd_error err = NPHD_ERROR_INIT;

    return store->journal ? store_result(nphd_sharded_commit(store->sharded, &err), &err)
                          : CLI_SUCCESS;
}

/* What the last commit made durable need not be saved. Only the shards that filled up are waited
 * for: those that are not written would be replayed by every opening. */
static nphd_status store_finish_journal(cli_store *store, nphd_error *err)
{
    nphd_status status = nphd_sharded_commit(store->sharded, err);

    if (status == NPHD_OK) {
        do { /* in slices, to look for signals in between */
            status = nphd_sharded_drain(store->sharded, DRAIN_SLICE_MS, err);
        } while (status == NPHD_TIMEOUT && !cli_interrupted());
    }
    if (status == NPHD_TIMEOUT) {
        status = NPHD_CANCELLED;
        err->status = status;
    }
    return status;
}

bool cli_store_must_save(const cli_store *store)
{
    return store->must_save || nphd_index_dirty(store->index) > 0;
}

cli_exit cli_store_save(cli_store *store)
{
    nphd_batch_options options = NPHD_BATCH_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status = NPHD_OK;
    cli_progress progress;

    cli_progress_start(&progress, "saving");
    options.progress = cli_progress_step;
    options.progress_context = &progress;
    if (store->sharded != NULL) {
        if (store->is_new && nphd_sharded_size(store->sharded) == 0) {
            /* no shard would be written that could keep the parameters */
            cli_complain("%s: nothing is kept of a directory without vectors", store->path);
        } else if (store->journal) {
            status = store_finish_journal(store, &err);
        } else {
            status = nphd_sharded_save(store->sharded, &options, &err);
        }
    } else if (cli_store_must_save(store)) {
        status = nphd_index_save(store->index, store->path, &options, &err);
    }
    cli_progress_hide();
    return store_result(status, &err);
}

cli_exit cli_store_prepare(cli_store *store, uint32_t threads, bool *out_made)
{
    nphd_index_stats stats = NPHD_INDEX_STATS_INIT;
    nphd_batch_options options = NPHD_BATCH_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status = NPHD_OK;
    cli_progress progress;

    cli_progress_start(&progress, "preparing");
    options.threads = threads;
    options.progress = cli_progress_step;
    options.progress_context = &progress;
    status = nphd_index_prepare_with(store->index, &options, &err);
    cli_progress_hide();

    if (status == NPHD_OK && out_made != NULL) {
        status = nphd_index_get_stats(store->index, &stats, &err);
        *out_made = stats.tables;
    }
    return store_result(status, &err);
}

uint64_t cli_store_size(const cli_store *store)
{
    return store->sharded != NULL ? nphd_sharded_size(store->sharded)
                                  : nphd_index_size(store->index);
}

cli_exit cli_store_add(cli_store *store, const nphd_key *keys, const nphd_vector *vectors,
                       size_t count, const nphd_batch_options *options, size_t *out_added)
{
    nphd_error err = NPHD_ERROR_INIT;

    return store_result(store->sharded != NULL
                            ? nphd_sharded_add_many(store->sharded, keys, vectors, count, options,
                                                    NULL, out_added, &err)
                            : nphd_index_add_many(store->index, keys, vectors, count, options, NULL,
                                                  out_added, &err),
                        &err);
}

cli_exit cli_store_upsert(cli_store *store, const nphd_key *keys, const nphd_vector *vectors,
                          size_t count, const nphd_batch_options *options,
                          nphd_upsert_counts *out_counts)
{
    nphd_error err = NPHD_ERROR_INIT;

    return store_result(
        store->sharded != NULL
            ? nphd_sharded_upsert(store->sharded, keys, vectors, count, options, out_counts, &err)
            : nphd_index_upsert(store->index, keys, vectors, count, options, out_counts, &err),
        &err);
}

cli_exit cli_store_remove(cli_store *store, const nphd_key *keys, size_t count, size_t *out_removed)
{
    nphd_error err = NPHD_ERROR_INIT;

    return store_result(store->sharded != NULL
                            ? nphd_sharded_remove(store->sharded, keys, count, out_removed, &err)
                            : nphd_index_remove(store->index, keys, count, out_removed, &err),
                        &err);
}

cli_exit cli_store_contains(const cli_store *store, nphd_key key, bool *out)
{
    nphd_error err = NPHD_ERROR_INIT;

    return store_result(store->sharded != NULL
                            ? nphd_sharded_contains(store->sharded, key, out, &err)
                            : nphd_index_contains(store->index, key, out, &err),
                        &err);
}

cli_exit cli_store_count(const cli_store *store, nphd_key key, size_t *out)
{
    nphd_error err = NPHD_ERROR_INIT;

    return store_result(store->sharded != NULL ? nphd_sharded_count(store->sharded, key, out, &err)
                                               : nphd_index_count(store->index, key, out, &err),
                        &err);
}

cli_exit cli_store_get_all(const cli_store *store, nphd_key key, uint8_t *out, size_t *out_bytes,
                           size_t capacity, size_t *out_count)
{
    nphd_error err = NPHD_ERROR_INIT;

    return store_result(
        store->sharded != NULL
            ? nphd_sharded_get_all(store->sharded, key, out, out_bytes, capacity, out_count, &err)
            : nphd_index_get_all(store->index, key, out, out_bytes, capacity, out_count, &err),
        &err);
}

cli_exit cli_store_search(const cli_store *store, const nphd_vector *queries, size_t query_count,
                          size_t capacity, const nphd_search_options *options, nphd_match *out,
                          nphd_search_report *reports)
{
    nphd_error err = NPHD_ERROR_INIT;

    return store_result(store->sharded != NULL
                            ? nphd_sharded_search_many(store->sharded, queries, query_count,
                                                       capacity, options, out, reports, &err)
                            : nphd_index_search_many(store->index, queries, query_count, capacity,
                                                     options, out, reports, &err),
                        &err);
}

cli_store_cursor cli_store_cursor_begin(const cli_store *store)
{
    cli_store_cursor cursor;

    memset(&cursor, 0, sizeof(cursor));
    if (store->sharded != NULL) {
        cursor.of_sharded = nphd_sharded_cursor_begin(store->sharded);
    } else {
        cursor.of_index = nphd_index_cursor(store->index);
    }
    return cursor;
}

cli_exit cli_store_cursor_next(cli_store_cursor *cursor, nphd_key *out_key, uint8_t *out,
                               size_t *out_bytes, bool *out_end)
{
    nphd_error err = NPHD_ERROR_INIT;
    const nphd_status status =
        cursor->of_sharded.sharded != NULL
            ? nphd_sharded_cursor_next(&cursor->of_sharded, out_key, out, out_bytes, &err)
            : nphd_cursor_next(&cursor->of_index, out_key, out, out_bytes, &err);

    *out_end = status == NPHD_NOT_FOUND;
    return *out_end ? CLI_SUCCESS : store_result(status, &err);
}
