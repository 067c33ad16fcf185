/* nphd info: the parameters and counts of an index, or the library itself. */
#include "command.h"

#include "facts.h"
#include "signals.h"
#include "suggest.h"
#include <stdio.h>
#include <stdlib.h>

typedef struct info_job {
    cli_store_options open;
    bool as_json;
} info_job;

static const struct {
    char code;
    const char *name;
} info_metrics[] = {
    {'i', "inner product"}, {'c', "cosine"},         {'e', "squared Euclidean"}, {'p', "Pearson"},
    {'h', "haversine"},     {'d', "Jensen-Shannon"}, {'b', "hamming"},           {'t', "Tanimoto"},
    {'s', "Sorensen-Dice"}, {'n', "nphd"},           {'j', "Jaccard"},
};

static const struct {
    uint8_t code;
    const char *name;
} info_scalars[] = {
    {1, "b1"},   {2, "u40"},  {3, "uuid"}, {4, "bf16"}, {10, "f64"}, {11, "f32"},
    {12, "f16"}, {13, "f8"},  {14, "u64"}, {15, "u32"}, {16, "u16"}, {17, "u8"},
    {20, "i64"}, {21, "i32"}, {22, "i16"}, {23, "i8"},
};

static const char *info_metric_name(char code)
{
    for (size_t i = 0; i < sizeof(info_metrics) / sizeof(info_metrics[0]); i++) {
        if (info_metrics[i].code == code) {
            return info_metrics[i].name;
        }
    }
    return "unknown";
}

static const char *info_scalar_name(uint8_t code)
{
    for (size_t i = 0; i < sizeof(info_scalars) / sizeof(info_scalars[0]); i++) {
        if (info_scalars[i].code == code) {
            return info_scalars[i].name;
        }
    }
    return "unknown";
}

static void info_put_identity(json_t *facts, const nphd_metadata *metadata)
{
    char text[2 * sizeof(metadata->identity) + 1];

    for (size_t i = 0; i < sizeof(metadata->identity); i++) {
        snprintf(text + 2 * i, 3, "%02x", metadata->identity[i]);
    }
    cli_facts_put(facts, "identity", metadata->trailer ? json_string(text) : json_null());
}

static void info_put_metadata(json_t *facts, const nphd_metadata *metadata)
{
    char version[24];

    snprintf(version, sizeof(version), "%d.%d.%d", metadata->version[0], metadata->version[1],
             metadata->version[2]);
    cli_facts_put(facts, "format", json_string(version));
    cli_facts_put(facts, "metric", json_string(info_metric_name(metadata->metric_code)));
    cli_facts_put(facts, "scalar", json_string(info_scalar_name(metadata->scalar_code)));
    cli_facts_put(facts, "dimensions", cli_fact_number(metadata->dimensions));
    cli_facts_put(facts, "max_bits", cli_fact_number(metadata->max_bits));
    cli_facts_put(facts, "key_bits", cli_fact_number(metadata->key_bits));
    cli_facts_put(facts, "multi", json_boolean(metadata->multi));
    cli_facts_put(facts, "connectivity", cli_fact_number(metadata->connectivity));
    cli_facts_put(facts, "slots", cli_fact_number(metadata->slots));
    cli_facts_put(facts, "file_bytes", cli_fact_number(metadata->file_bytes));
    cli_facts_put(facts, "generation", cli_fact_number(metadata->generation));
    cli_facts_put(facts, "checksums", json_boolean(metadata->trailer));
    cli_facts_put(facts, "tables", json_boolean(metadata->tables));
    info_put_identity(facts, metadata);
}

static void info_put_stats(json_t *facts, const nphd_index_stats *stats, uint64_t edges)
{
    /* What the header and the caller's options make of the file together. */
    cli_facts_put(facts, "metric", json_string(nphd_metric_name(stats->metric)));
    cli_facts_put(facts, "max_bits", cli_fact_number(stats->max_bits));
    cli_facts_put(facts, "vectors", cli_fact_number(stats->size));
    cli_facts_put(facts, "removed", cli_fact_number(stats->removed));
    cli_facts_put(facts, "edges", cli_fact_number(edges));
    cli_facts_put(facts, "levels", cli_fact_number((uint64_t)(stats->max_level + 1)));
    cli_facts_put(facts, "build_breadth", cli_fact_number(stats->build_breadth));
    cli_facts_put(facts, "search_breadth", cli_fact_number(stats->search_breadth));
    if (stats->key_bits == 64) {
        cli_facts_put(facts, "next_automatic_key", cli_fact_number(stats->next_automatic_key));
    }
}

static void info_put_unit(json_t *facts, nphd_unit unit)
{
    char name[NPHD_UNIT_NAME_BYTES];

    if (unit != NPHD_UNIT_NONE) {
        cli_facts_put(facts, "unit", json_string(nphd_unit_name(unit, name)));
    }
}

/* Of a file that is not supported the header is told, so it is not opened as a store. */
static cli_exit info_file(const char *path, const info_job *job, json_t *facts)
{
    nphd_metadata metadata = NPHD_METADATA_INIT;
    nphd_open_options options = NPHD_OPEN_OPTIONS_INIT;
    nphd_index_stats stats = NPHD_INDEX_STATS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_index *index = NULL;
    uint64_t edges = 0;
    nphd_status status = nphd_file_metadata(path, NULL, &metadata, &err);

    if (status != NPHD_OK) {
        return cli_fail_open(path, &err);
    }
    cli_signals_at_once(); /* counting links goes over the whole graph */
    cli_facts_put(facts, "path", cli_fact_text(path));
    info_put_metadata(facts, &metadata);
    options.legacy_nphd = job->open.legacy_nphd;
    status = nphd_index_restore(path, true, &options, &index, &err);
    if (status == NPHD_OK) {
        status = nphd_index_get_stats(index, &stats, &err);
    }
    if (status == NPHD_OK) {
        status = nphd_index_count_edges(index, &edges, &err);
    }
    cli_facts_put(facts, "supported", json_boolean(status == NPHD_OK));
    if (status == NPHD_OK) {
        info_put_stats(facts, &stats, edges);
        info_put_unit(facts, nphd_index_unit(index));
    } else if (status == NPHD_UNSUPPORTED) {
        cli_facts_put(facts, "reason", cli_fact_text(err.text));
        status = NPHD_OK;
    }
    nphd_index_close(index);
    return status == NPHD_OK ? CLI_SUCCESS : cli_fail(&err);
}

static const char *info_shard_state(const nphd_shard_info *shard)
{
    if (shard->active) {
        return "active";
    }
    if (shard->pending) {
        return "pending";
    }
    return "view";
}

static json_t *info_shard(const nphd_shard_info *shard)
{
    json_t *row = json_object();

    cli_facts_put(row, "shard", cli_fact_number(shard->number));
    cli_facts_put(row, "vectors", cli_fact_number(shard->vectors));
    cli_facts_put(row, "dead", cli_fact_number(shard->dead));
    cli_facts_put(row, "slots", cli_fact_number(shard->slots));
    cli_facts_put(row, "bytes", cli_fact_number(shard->file_bytes));
    cli_facts_put(row, "generation", cli_fact_number(shard->generation));
    cli_facts_put(row, "checksums", json_boolean(shard->verified));
    cli_facts_put(row, "tables", json_boolean(shard->tables));
    cli_facts_put(row, "state", json_string(info_shard_state(shard)));
    return row;
}

static cli_exit info_put_shards(json_t *facts, nphd_sharded *sharded)
{
    nphd_error err = NPHD_ERROR_INIT;
    nphd_shard_info *shards = NULL;
    json_t *rows = NULL;
    size_t count = 0;
    cli_exit result = CLI_SUCCESS;

    (void)nphd_sharded_shards(sharded, NULL, 0, &count, NULL); /* how many there are */
    shards = calloc(count > 0 ? count : 1, sizeof(shards[0]));
    rows = json_array();
    if (shards == NULL || rows == NULL) {
        result = cli_out_of_memory();
    } else if (nphd_sharded_shards(sharded, shards, count, &count, &err) != NPHD_OK) {
        result = cli_fail(&err);
    }
    for (size_t i = 0; result == CLI_SUCCESS && shards != NULL && i < count; i++) {
        json_array_append_new(rows, info_shard(&shards[i]));
    }
    cli_facts_put(facts, "shards", rows);
    free(shards);
    return result;
}

static void info_put_totals(json_t *facts, const nphd_sharded_stats *stats)
{
    cli_facts_put(facts, "vectors", cli_fact_number(stats->size));
    cli_facts_put(facts, "dead", cli_fact_number(stats->dead));
    cli_facts_put(facts, "tombstones", cli_fact_number(stats->tombstones));
    cli_facts_put(facts, "bloom", json_boolean(stats->bloom));
    cli_facts_put(facts, "bloom_keys", cli_fact_number(stats->bloom_keys));
    cli_facts_put(facts, "bloom_bytes", cli_fact_number(stats->bloom_bytes));
    cli_facts_put(facts, "files", cli_fact_number(stats->files));
    cli_facts_put(facts, "disk_bytes", cli_fact_number(stats->disk_bytes));
    cli_facts_put(facts, "memory_bytes", cli_fact_number(stats->memory_bytes));
    cli_facts_put(facts, "mapped_bytes", cli_fact_number(stats->mapped_bytes));
    cli_facts_put(facts, "generation", cli_fact_number(stats->generation));
    cli_facts_put(facts, "checksums", json_boolean(stats->verified));
    if (stats->unapplied > 0) { /* rare, and worth a look: nphd verify names them */
        cli_facts_put(facts, "unapplied_journals", cli_fact_number(stats->unapplied));
    }
    cli_facts_put(facts, "metric", json_string(nphd_metric_name(stats->metric)));
    cli_facts_put(facts, "max_bits", cli_fact_number(stats->max_bits));
    cli_facts_put(facts, "key_bits", cli_fact_number(stats->key_bits));
    cli_facts_put(facts, "multi", json_boolean(stats->multi));
    cli_facts_put(facts, "connectivity", cli_fact_number(stats->connectivity));
    cli_facts_put(facts, "build_breadth", cli_fact_number(stats->build_breadth));
    cli_facts_put(facts, "search_breadth", cli_fact_number(stats->search_breadth));
    if (stats->key_bits == 64) {
        cli_facts_put(facts, "next_automatic_key", cli_fact_number(stats->next_automatic_key));
    }
}

/* For programs. A reader changes nothing and has an active shard only of what a journal added, so
 * that a person learns nothing from these. */
static void info_put_handle(json_t *facts, const nphd_sharded_stats *stats)
{
    cli_facts_put(facts, "dirty", cli_fact_number(stats->dirty));
    cli_facts_put(facts, "view_shards", cli_fact_number(stats->view_shards));
    cli_facts_put(facts, "active_vectors", cli_fact_number(stats->active_vectors));
    cli_facts_put(facts, "active_bytes", cli_fact_number(stats->active_bytes));
    cli_facts_put(facts, "active_capacity", cli_fact_number(stats->active_capacity));
    cli_facts_put(facts, "pending_rotations", cli_fact_number(stats->pending_rotations));
    cli_facts_put(facts, "shard_bytes", cli_fact_number(stats->shard_bytes));
    cli_facts_put(facts, "read_only", json_boolean(stats->read_only));
}

static cli_exit info_directory(const char *path, const info_job *job, json_t *facts)
{
    nphd_sharded_stats stats = NPHD_SHARDED_STATS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    cli_store store = {0};
    cli_exit result = cli_store_open(&store, path, CLI_READ, &job->open);

    if (result == CLI_SUCCESS) {
        cli_signals_at_once();
        cli_facts_put(facts, "path", cli_fact_text(path));
        result = info_put_shards(facts, store.sharded);
    }
    if (result == CLI_SUCCESS) {
        result = nphd_sharded_get_stats(store.sharded, &stats, &err) == NPHD_OK ? CLI_SUCCESS
                                                                                : cli_fail(&err);
    }
    if (result == CLI_SUCCESS) {
        info_put_totals(facts, &stats);
        info_put_unit(facts, store.shape.unit);
    }
    if (result == CLI_SUCCESS && job->as_json) {
        info_put_handle(facts, &stats);
    }
    cli_store_close(&store);
    return result;
}

static void info_library(json_t *facts)
{
    cli_facts_put(facts, "version", json_string(nphd_version()));
    cli_facts_put(facts, "kernel", json_string(nphd_kernel_name()));
}

static bool info_option(void *context, int option, const char *value)
{
    info_job *job = context;

    job->as_json = job->as_json || option == CLI_OPT_JSON;
    return cli_take_store_option(&job->open, option, value);
}

static cli_exit info_tell(const char *path, const info_job *job, json_t *facts)
{
    if (path == NULL) {
        info_library(facts);
        return CLI_SUCCESS;
    }
    if (cli_store_check_options(path, &job->open) != CLI_SUCCESS) {
        return CLI_USAGE;
    }
    return cli_store_names_file(path) ? info_file(path, job, facts)
                                      : info_directory(path, job, facts);
}

cli_exit cli_info(int argc, char **argv)
{
    static const struct option longs[] = {
        {"help", no_argument, NULL, 'h'},
        {"json", no_argument, NULL, CLI_OPT_JSON},
        {"legacy-nphd", no_argument, NULL, CLI_OPT_LEGACY_NPHD},
        {"salvage", no_argument, NULL, CLI_OPT_SALVAGE},
        {"reference-wrote-last", no_argument, NULL, CLI_OPT_REFERENCE},
        {NULL, 0, NULL, 0},
    };
    info_job job = {.as_json = false};
    const char *path = NULL;
    json_t *facts = NULL;
    cli_exit result = CLI_SUCCESS;

    if (!cli_take_options(argc, argv, ":h", longs, info_option, &job, &result)) {
        return result;
    }
    if ((optind < argc && cli_take_path(argc, argv, &path) != CLI_SUCCESS) ||
        cli_take_no_more(argc, argv) != CLI_SUCCESS) {
        return CLI_USAGE;
    }
    facts = json_object();
    if (facts == NULL) {
        return cli_out_of_memory();
    }
    result = info_tell(path, &job, facts);
    if (result == CLI_SUCCESS) {
        result = cli_facts_print(facts, job.as_json);
    }
    json_decref(facts);
    return result;
}
