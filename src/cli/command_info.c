/* nphd info: the parameters and counts of an index file, or the library itself. */
#include "command.h"

#include "output.h"
#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* Both forms of the output are made of the same JSON object, so they cannot drift apart: the text
 * form prints the names with blanks and a value a line. */
#define TEXT_NAME_WIDTH 20

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

/* jansson's numbers are signed; a larger one becomes a string of digits, as keys do. */
static json_t *info_number(uint64_t value)
{
    char digits[24];

    if (value <= INT64_MAX) {
        return json_integer((json_int_t)value);
    }
    snprintf(digits, sizeof(digits), "%llu", (unsigned long long)value);
    return json_string(digits);
}

/* A JSON string is UTF-8; of other text the ASCII is shown. */
static json_t *info_text(const char *text)
{
    char ascii[NPHD_ERROR_TEXT_BYTES];
    size_t length = 0;
    json_t *exact = json_string(text);

    if (exact != NULL) {
        return exact;
    }
    for (; text[length] != '\0' && length + 1 < sizeof(ascii); length++) {
        ascii[length] = (signed char)text[length] > 0 ? text[length] : '?';
    }
    ascii[length] = '\0';
    return json_string(ascii);
}

static void info_put(json_t *facts, const char *name, json_t *value)
{
    json_object_set_new(facts, name, value);
}

static void info_put_identity(json_t *facts, const nphd_metadata *metadata)
{
    char text[2 * sizeof(metadata->identity) + 1];

    for (size_t i = 0; i < sizeof(metadata->identity); i++) {
        snprintf(text + 2 * i, 3, "%02x", metadata->identity[i]);
    }
    info_put(facts, "identity", metadata->trailer ? json_string(text) : json_null());
}

static void info_put_metadata(json_t *facts, const nphd_metadata *metadata)
{
    char version[24];

    snprintf(version, sizeof(version), "%d.%d.%d", metadata->version[0], metadata->version[1],
             metadata->version[2]);
    info_put(facts, "format", json_string(version));
    info_put(facts, "metric", json_string(info_metric_name(metadata->metric_code)));
    info_put(facts, "scalar", json_string(info_scalar_name(metadata->scalar_code)));
    info_put(facts, "dimensions", info_number(metadata->dimensions));
    info_put(facts, "max_bits", info_number(metadata->max_bits));
    info_put(facts, "key_bits", info_number(metadata->key_bits));
    info_put(facts, "multi", json_boolean(metadata->multi));
    info_put(facts, "connectivity", info_number(metadata->connectivity));
    info_put(facts, "slots", info_number(metadata->slots));
    info_put(facts, "file_bytes", info_number(metadata->file_bytes));
    info_put(facts, "generation", info_number(metadata->generation));
    info_put(facts, "checksums", json_boolean(metadata->trailer));
    info_put_identity(facts, metadata);
}

static void info_put_stats(json_t *facts, const nphd_index_stats *stats)
{
    /* What the header and the caller's options make of the file together. */
    info_put(facts, "metric", json_string(nphd_metric_name(stats->metric)));
    info_put(facts, "max_bits", info_number(stats->max_bits));
    info_put(facts, "vectors", info_number(stats->size));
    info_put(facts, "removed", info_number(stats->removed));
    info_put(facts, "edges", info_number(stats->edges));
    info_put(facts, "levels", info_number((uint64_t)(stats->max_level + 1)));
    info_put(facts, "build_breadth", info_number(stats->build_breadth));
    info_put(facts, "search_breadth", info_number(stats->search_breadth));
    if (stats->key_bits == 64) {
        info_put(facts, "next_automatic_key", info_number(stats->next_automatic_key));
    }
}

static void info_print_text(json_t *facts)
{
    const char *name = NULL;
    json_t *value = NULL;

    json_object_foreach(facts, name, value)
    {
        char label[TEXT_NAME_WIDTH + 1];
        size_t length = 0;

        for (; name[length] != '\0' && length < TEXT_NAME_WIDTH; length++) {
            label[length] = name[length] == '_' ? ' ' : name[length];
        }
        label[length] = '\0';
        printf("%-*s", TEXT_NAME_WIDTH, label);
        if (json_is_string(value)) {
            char clean[NPHD_ERROR_TEXT_BYTES];

            cli_message_clean(clean, sizeof(clean), json_string_value(value));
            puts(clean);
        } else if (json_is_integer(value)) {
            printf("%lld\n", (long long)json_integer_value(value));
        } else {
            puts(json_is_true(value) ? "yes" : json_is_null(value) ? "none" : "no");
        }
    }
}

static cli_exit info_print(json_t *facts, bool as_json)
{
    if (!as_json) {
        info_print_text(facts);
    } else if (json_dumpf(facts, stdout, JSON_INDENT(2)) == 0) {
        putchar('\n');
    }
    return CLI_SUCCESS; /* a failed write shows when standard output is closed */
}

static cli_exit info_file(const char *path, bool legacy_nphd, json_t *facts)
{
    nphd_metadata metadata = NPHD_METADATA_INIT;
    nphd_open_options options = NPHD_OPEN_OPTIONS_INIT;
    nphd_index_stats stats = NPHD_INDEX_STATS_INIT;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_index *index = NULL;
    nphd_status status = nphd_file_metadata(path, NULL, &metadata, &err);

    if (status != NPHD_OK) {
        return cli_fail(&err);
    }
    info_put(facts, "path", info_text(path));
    info_put_metadata(facts, &metadata);
    options.legacy_nphd = legacy_nphd;
    status = nphd_index_restore(path, true, &options, &index, &err);
    if (status == NPHD_OK) {
        status = nphd_index_get_stats(index, &stats, &err);
    }
    info_put(facts, "supported", json_boolean(status == NPHD_OK));
    if (status == NPHD_OK) {
        info_put_stats(facts, &stats);
    } else if (status == NPHD_UNSUPPORTED) {
        info_put(facts, "reason", info_text(err.text));
        status = NPHD_OK;
    }
    nphd_index_close(index);
    return status == NPHD_OK ? CLI_SUCCESS : cli_fail(&err);
}

cli_exit cli_info(int argc, char **argv)
{
    static const struct option longs[] = {
        {"help", no_argument, NULL, 'h'},
        {"json", no_argument, NULL, CLI_OPT_JSON},
        {"legacy-nphd", no_argument, NULL, CLI_OPT_LEGACY_NPHD},
        {NULL, 0, NULL, 0},
    };
    const char *path = NULL;
    bool as_json = false;
    bool legacy_nphd = false;
    json_t *facts = NULL;
    cli_exit result = CLI_SUCCESS;
    int option = 0;

    while ((option = cli_next_option(argc, argv, ":h", longs)) != -1) {
        if (option == 'h') {
            return cli_help(argv[0]);
        }
        if (option == '?') {
            return CLI_USAGE;
        }
        as_json = as_json || option == CLI_OPT_JSON;
        legacy_nphd = legacy_nphd || option == CLI_OPT_LEGACY_NPHD;
    }
    if ((optind < argc && cli_take_path(argc, argv, &path) != CLI_SUCCESS) ||
        cli_take_no_more(argc, argv) != CLI_SUCCESS) {
        return CLI_USAGE;
    }
    facts = json_object();
    if (facts == NULL) {
        return cli_out_of_memory();
    }
    if (path != NULL) {
        result = info_file(path, legacy_nphd, facts);
    } else {
        info_put(facts, "version", json_string(nphd_version()));
        info_put(facts, "kernel", json_string(nphd_kernel_name()));
    }
    if (result == CLI_SUCCESS) {
        result = info_print(facts, as_json);
    }
    json_decref(facts);
    return result;
}
