/* nphd search: the nearest stored vectors of each query. */
#include "command.h"

#include "input.h"
#include "labels.h"
#include "output.h"
#include "parse.h"
#include "signals.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_COUNT 10

/* Queries answered at once: enough for all threads and for a scan that takes many queries along. */
#define BATCH_QUERIES ((size_t)1024)

/* Matches kept at once; with a long answer for each query there are fewer queries in a batch. */
#define BATCH_MATCHES ((size_t)1 << 20)

typedef struct search_query {
    char source[CLI_SOURCE_BYTES];
    uint8_t bytes[NPHD_MAX_BYTES];
    cli_notation read;
} search_query;

typedef struct search_job {
    const char *path;
    const char *queries_path;
    const char *labels_path;
    cli_store_options open;
    cli_input_options input;
    nphd_search_options search;
    uint32_t wanted; /* -k */
    bool found_only;
    bool mix_units;
    bool skip_bad;
    cli_printer printer;
    cli_labels labels;

    cli_store store;
    size_t capacity; /* matches of one query */

    size_t batch; /* queries, each of so many vectors as it has variants */
    search_query *queries;
    nphd_vector *vectors;
    nphd_match *matches;
    nphd_search_report *reports;
    size_t count; /* vectors */
    uint64_t answered;
    uint64_t matched;     /* of these, queries with a match */
    uint64_t bad;         /* and such that could not be read */
    size_t passed_over;   /* vectors to come that belong to one of these */
    cli_exit idle_result; /* of what was answered while the input had nothing more */
} search_job;

/* How the vectors of one query were read, each once for those in a row that were read alike. */
static void search_describe(const search_job *job, size_t first,
                            char out[NPHD_MAX_VARIANTS * CLI_NOTATION_BYTES])
{
    char last[CLI_NOTATION_BYTES] = "";
    size_t used = 0;

    out[0] = '\0';
    for (size_t i = first; i < first + job->search.variants; i++) {
        char one[CLI_NOTATION_BYTES];

        (void)cli_describe_notation(job->queries[i].read, job->vectors[i].bytes, one);
        if (strcmp(one, last) != 0) {
            used += (size_t)snprintf(out + used, NPHD_MAX_VARIANTS * CLI_NOTATION_BYTES - used,
                                     "%s%s", used > 0 ? "; " : "", one);
            memcpy(last, one, sizeof(last));
        }
    }
}

/* Answers the queries that have all their variants, and keeps the others for the next time. */
static cli_exit search_flush(search_job *job)
{
    const size_t variants = job->search.variants;
    const size_t whole = job->count / variants;
    cli_exit result = CLI_SUCCESS;

    if (whole == 0) {
        return CLI_SUCCESS;
    }
    result = cli_store_search(&job->store, job->vectors, whole, job->capacity, &job->search,
                              job->matches, job->reports);
    if (result != CLI_SUCCESS) {
        return result;
    }
    for (size_t i = 0; i < whole; i++) {
        const bool matched = job->reports[i].count > 0;

        if (matched || !job->found_only) {
            char read[NPHD_MAX_VARIANTS * CLI_NOTATION_BYTES];

            search_describe(job, i * variants, read);
            cli_print_answer(&job->printer, job->answered, job->queries[i * variants].source, read,
                             job->matches + i * job->capacity, &job->reports[i]);
            job->printer.printed++;
        }
        job->matched += matched ? 1 : 0;
        job->answered++;
    }
    job->count -= whole * variants;
    for (size_t i = 0; i < job->count; i++) {
        job->queries[i] = job->queries[whole * variants + i];
        job->vectors[i].data = job->queries[i].bytes;
        job->vectors[i].bytes = job->vectors[whole * variants + i].bytes;
    }
    return cli_output_broken() ? CLI_SYSTEM : CLI_SUCCESS;
}

/* The input has nothing more at the moment: whoever writes it may wait for the answers. */
static bool search_idle(void *context)
{
    search_job *job = context;

    job->idle_result = search_flush(job);
    if (job->idle_result == CLI_SUCCESS && !cli_output_flush()) {
        job->idle_result = CLI_SYSTEM;
    }
    return job->idle_result == CLI_SUCCESS;
}

/* Puts a query into the batch; false, with a problem, when the index has no answer to it. */
static bool search_collect(search_job *job, const cli_record *record, cli_problem *problem)
{
    search_query *query = &job->queries[job->count];

    if (job->store.shape.metric == NPHD_METRIC_HAMMING &&
        record->bytes != job->store.shape.max_bytes) {
        cli_problem_set(problem, "the query has the wrong length: bytes %zu, not %zu",
                        record->bytes, job->store.shape.max_bytes);
        return false;
    }
    assert(job->queries != NULL && job->count < job->batch * job->search.variants);
    memcpy(query->bytes, record->vector, record->bytes);
    memcpy(query->source, record->source, sizeof(query->source));
    query->read = record->read;
    job->vectors[job->count].data = query->bytes;
    job->vectors[job->count].bytes = record->bytes;
    job->count++;
    return true;
}

static cli_exit search_arguments(search_job *job, char **texts, int count)
{
    cli_problem problem;
    cli_exit result = CLI_SUCCESS;

    for (int i = 0; i < count && result == CLI_SUCCESS; i++) {
        cli_record record = {.source = ""};

        if (!cli_parse_vector(job->input.notation, texts[i], strlen(texts[i]), record.vector,
                              &record.bytes, &record.read, &problem) ||
            !search_collect(job, &record, &problem)) {
            return cli_usage("query '%s': %s", texts[i], problem.text);
        }
        if (job->count == job->batch * job->search.variants) {
            result = search_flush(job);
        }
    }
    if (result == CLI_SUCCESS && job->count % job->search.variants != 0) {
        return cli_usage("%d vectors are no queries of %u variants", count, job->search.variants);
    }
    return result;
}

/* A query that cannot be read keeps its number, and all its vectors are left out. */
static cli_exit search_bad(search_job *job, const cli_input *input)
{
    cli_exit result = CLI_SUCCESS;
    const size_t before = job->count % job->search.variants;

    cli_complain_at(input->reader.name, input->line, "%s%s", input->problem.text,
                    job->skip_bad ? " (skipped)" : "");
    if (!job->skip_bad) {
        return CLI_BAD_INPUT;
    }
    job->count -= before;
    job->passed_over = job->search.variants - before - 1;
    result = search_flush(job); /* answers come in the order of the queries */
    if (result == CLI_SUCCESS) {
        cli_print_unanswered(&job->printer, job->answered, input->problem.text);
        job->answered++;
        job->bad++;
    }
    return result;
}

static cli_exit search_file(search_job *job, cli_input *input)
{
    cli_record record;
    cli_exit result = CLI_SUCCESS;

    while (result == CLI_SUCCESS) {
        const cli_next got = cli_input_next(input, &record);

        if (got == CLI_NEXT_END) {
            break;
        }
        if (got == CLI_NEXT_FAILED) {
            result = input->failure;
        } else if (job->passed_over > 0) {
            job->passed_over--;
        } else if (got == CLI_NEXT_BAD || !search_collect(job, &record, &input->problem)) {
            result = search_bad(job, input);
        } else if (job->count == job->batch * job->search.variants) {
            result = search_flush(job);
        }
    }
    if (result == CLI_SUCCESS) {
        result = job->idle_result;
    }
    if (result == CLI_SUCCESS && job->count % job->search.variants != 0) {
        cli_complain_at(input->reader.name, input->line, "the last query has %zu of %u variants",
                        job->count % job->search.variants, job->search.variants);
        result = CLI_BAD_INPUT;
    }
    return result;
}

static cli_exit search_allocate(search_job *job)
{
    const uint64_t size = cli_store_size(&job->store);
    const size_t variants = job->search.variants;

    job->wanted = job->search.any ? 1 : job->wanted;
    job->capacity = job->wanted < size ? job->wanted : (size_t)size;
    job->capacity = job->capacity > 0 ? job->capacity : 1;
    job->batch = BATCH_MATCHES / job->capacity;
    job->batch = job->batch > 0 ? job->batch : 1;
    job->batch = job->batch < BATCH_QUERIES ? job->batch : BATCH_QUERIES;
    job->queries = calloc(job->batch * variants, sizeof(job->queries[0]));
    job->vectors = calloc(job->batch * variants, sizeof(job->vectors[0]));
    job->reports = calloc(job->batch, sizeof(job->reports[0]));
    job->matches = calloc(job->batch * job->capacity, sizeof(job->matches[0]));
    if (job->queries == NULL || job->vectors == NULL || job->reports == NULL ||
        job->matches == NULL) {
        return cli_out_of_memory();
    }
    return CLI_SUCCESS;
}

static cli_exit search_answer(search_job *job, char **texts, int count)
{
    cli_input input;
    cli_exit result = search_arguments(job, texts, count);

    if (result == CLI_SUCCESS && job->queries_path != NULL) {
        result = cli_input_open(&input, job->queries_path, &job->input, CLI_FOR_QUERY);
        if (result == CLI_SUCCESS) {
            input.reader.idle = search_idle;
            input.reader.idle_context = job;
            result = search_file(job, &input);
        }
        cli_input_close(&input);
    }
    if (result == CLI_SUCCESS) {
        result = search_flush(job);
    }
    if (result == CLI_SUCCESS && job->printer.layout == CLI_LAYOUT_TABLE &&
        (job->answered > 1 || job->found_only)) {
        printf("%smatched %llu of %llu queries", job->printer.printed > 0 ? "\n" : "",
               (unsigned long long)job->matched, (unsigned long long)job->answered);
        printf(job->bad > 0 ? ", %llu could not be read\n" : "\n", (unsigned long long)job->bad);
    }
    return result;
}

/* Queries are of the type of the index, unless --mix-units says that others are meant. */
static cli_exit search_settle_unit(search_job *job)
{
    nphd_unit *asked = &job->input.notation.unit;
    cli_problem problem;

    if (job->mix_units) {
        return CLI_SUCCESS;
    }
    if (cli_unit_differs(*asked, job->store.shape.unit, &problem)) {
        return cli_usage("--unit: %s", problem.text);
    }
    *asked = *asked != NPHD_UNIT_NONE ? *asked : job->store.shape.unit;
    return CLI_SUCCESS;
}

static cli_exit search_run(search_job *job, char **texts, int count)
{
    cli_exit result = CLI_SUCCESS;

    if (job->labels_path != NULL) {
        result = cli_labels_read(&job->labels, job->labels_path, &job->input);
    }
    if (result == CLI_SUCCESS) {
        result = cli_store_open(&job->store, job->path, CLI_READ, &job->open);
    }
    if (result == CLI_SUCCESS) {
        result = search_settle_unit(job);
    }
    if (result == CLI_SUCCESS && job->search.use_radius) {
        result = cli_check_radius(job->store.shape.metric, job->search.radius);
    }
    if (result == CLI_SUCCESS) {
        result = search_allocate(job);
    }
    if (result == CLI_SUCCESS) {
        job->printer.key_bits = job->store.shape.key_bits;
        job->printer.metric = job->store.shape.metric;
        job->printer.labels = &job->labels;
        job->printer.variants = job->search.variants > 1;
        job->printer.more = job->search.use_radius && !job->search.any;
        result = search_answer(job, texts, count);
    }
    cli_store_close(&job->store);
    cli_labels_free(&job->labels);
    free(job->queries);
    free(job->vectors);
    free(job->reports);
    free(job->matches);
    return result;
}

static bool search_set_mode(search_job *job, nphd_search_mode mode)
{
    if (job->search.mode != NPHD_SEARCH_AUTO && job->search.mode != mode) {
        cli_usage("--exact and --approximate exclude each other");
        return false;
    }
    job->search.mode = mode;
    return true;
}

static bool search_set_plan(search_job *job, const char *text)
{
    for (int plan = NPHD_PLAN_AUTO; plan <= NPHD_PLAN_GRAPH; plan++) {
        if (strcmp(text, cli_plan_name((nphd_search_plan)plan)) == 0) {
            job->search.plan = (nphd_search_plan)plan;
            return true;
        }
    }
    cli_usage("--plan: '%s' is none of auto, scan, tables and graph", text);
    return false;
}

/* What contradicts itself. The library would let one of two options win. */
static cli_exit search_check(const search_job *job)
{
    const nphd_search_mode mode = job->search.mode;
    const nphd_search_plan plan = job->search.plan;

    if (job->labels_path != NULL && job->printer.layout != CLI_LAYOUT_TABLE) {
        return cli_usage("--labels is for the table, not for --tsv or --jsonl");
    }
    if (job->labels_path == NULL && job->input.key_column != NULL) {
        return cli_usage("--key-column is for --labels");
    }
    if (job->printer.explain && job->printer.layout == CLI_LAYOUT_TSV) {
        return cli_usage("--explain is for the table and --jsonl, not for --tsv");
    }
    if (job->search.any && !job->search.use_radius) {
        return cli_usage("--any needs --radius");
    }
    if (plan != NPHD_PLAN_AUTO && mode != NPHD_SEARCH_AUTO &&
        (plan == NPHD_PLAN_GRAPH) != (mode == NPHD_SEARCH_APPROXIMATE)) {
        return cli_usage("--plan %s and --%s exclude each other", cli_plan_name(plan),
                         mode == NPHD_SEARCH_EXACT ? "exact" : "approximate");
    }
    if (job->search.budget > 0 && (plan != NPHD_PLAN_AUTO || mode != NPHD_SEARCH_AUTO)) {
        return cli_usage("--budget is for --plan auto, without --exact and --approximate");
    }
    return CLI_SUCCESS;
}

/* Who gives a radius asks for all that is within it. */
static void choose_mode(nphd_search_options *search)
{
    if (search->use_radius && search->mode == NPHD_SEARCH_AUTO && search->plan == NPHD_PLAN_AUTO &&
        !(search->budget > 0)) {
        search->mode = NPHD_SEARCH_EXACT;
    }
}

static bool search_option(void *context, int option, const char *text)
{
    search_job *job = context;

    switch (option) {
    case 'k':
        return cli_option_u32("-k", text, 1, UINT32_MAX, &job->wanted);
    case CLI_OPT_QUERIES:
        job->queries_path = text;
        return true;
    case CLI_OPT_RADIUS:
        job->search.use_radius = true;
        return cli_option_radius("--radius", text, &job->search.radius);
    case CLI_OPT_ANY:
        job->search.any = true;
        return true;
    case CLI_OPT_EXACT:
        return search_set_mode(job, NPHD_SEARCH_EXACT);
    case CLI_OPT_APPROXIMATE:
        return search_set_mode(job, NPHD_SEARCH_APPROXIMATE);
    case CLI_OPT_PLAN:
        return search_set_plan(job, text);
    case CLI_OPT_BUDGET:
        return cli_option_budget("--budget", text, &job->search.budget);
    case CLI_OPT_VARIANTS:
        return cli_option_u32("--variants", text, 1, NPHD_MAX_VARIANTS, &job->search.variants);
    case CLI_OPT_SKIP_BAD:
        job->skip_bad = true;
        return true;
    case CLI_OPT_MIX_UNITS:
        job->mix_units = true;
        return true;
    case CLI_OPT_FOUND_ONLY:
        job->found_only = true;
        return true;
    case CLI_OPT_EXPLAIN:
        job->printer.explain = true;
        return true;
    case CLI_OPT_BREADTH:
        return cli_option_u32("--breadth", text, 1, CLI_MAX_BREADTH, &job->search.breadth);
    case CLI_OPT_THREADS:
        return cli_take_threads(text, &job->search.threads);
    case CLI_OPT_TSV:
        return cli_take_layout(&job->printer.layout, CLI_LAYOUT_TSV);
    case CLI_OPT_JSONL:
        return cli_take_layout(&job->printer.layout, CLI_LAYOUT_JSONL);
    case CLI_OPT_LABELS:
        job->labels_path = text;
        return true;
    default:
        return cli_take_file_option(&job->open, &job->input, option, text);
    }
}

cli_exit cli_search(int argc, char **argv)
{
    static const struct option longs[] = {
        {"any", no_argument, NULL, CLI_OPT_ANY},
        {"approximate", no_argument, NULL, CLI_OPT_APPROXIMATE},
        {"breadth", required_argument, NULL, CLI_OPT_BREADTH},
        {"budget", required_argument, NULL, CLI_OPT_BUDGET},
        {"bytes", required_argument, NULL, CLI_OPT_BYTES},
        {"encoding", required_argument, NULL, CLI_OPT_ENCODING},
        {"exact", no_argument, NULL, CLI_OPT_EXACT},
        {"explain", no_argument, NULL, CLI_OPT_EXPLAIN},
        {"dtype", required_argument, NULL, CLI_OPT_DTYPE},
        {"format", required_argument, NULL, CLI_OPT_FORMAT},
        {"found-only", no_argument, NULL, CLI_OPT_FOUND_ONLY},
        {"help", no_argument, NULL, 'h'},
        {"jsonl", no_argument, NULL, CLI_OPT_JSONL},
        {"key-column", required_argument, NULL, CLI_OPT_KEY_COLUMN},
        {"key-format", required_argument, NULL, CLI_OPT_KEY_FORMAT},
        {"labels", required_argument, NULL, CLI_OPT_LABELS},
        {"legacy-nphd", no_argument, NULL, CLI_OPT_LEGACY_NPHD},
        {"mix-units", no_argument, NULL, CLI_OPT_MIX_UNITS},
        {"skip-bad", no_argument, NULL, CLI_OPT_SKIP_BAD},
        {"plan", required_argument, NULL, CLI_OPT_PLAN},
        {"queries", required_argument, NULL, CLI_OPT_QUERIES},
        {"radius", required_argument, NULL, CLI_OPT_RADIUS},
        {"realm", required_argument, NULL, CLI_OPT_REALM},
        {"salvage", no_argument, NULL, CLI_OPT_SALVAGE},
        {"source-column", required_argument, NULL, CLI_OPT_SOURCE_COLUMN},
        {"reference-wrote-last", no_argument, NULL, CLI_OPT_REFERENCE},
        {"threads", required_argument, NULL, CLI_OPT_THREADS},
        {"tsv", no_argument, NULL, CLI_OPT_TSV},
        {"unit", required_argument, NULL, CLI_OPT_UNIT},
        {"variants", required_argument, NULL, CLI_OPT_VARIANTS},
        {"vector-column", required_argument, NULL, CLI_OPT_VECTOR_COLUMN},
        {NULL, 0, NULL, 0},
    };
    search_job job = {.search = NPHD_SEARCH_OPTIONS_INIT, .wanted = DEFAULT_COUNT};
    cli_exit result = CLI_SUCCESS;

    if (!cli_take_options(argc, argv, ":hk:", longs, search_option, &job, &result)) {
        return result;
    }
    if (search_check(&job) != CLI_SUCCESS || cli_take_path(argc, argv, &job.path) != CLI_SUCCESS) {
        return CLI_USAGE;
    }
    choose_mode(&job.search);
    job.search.progress = cli_signals_step;
    job.search.variants = job.search.variants > 0 ? job.search.variants : 1;
    if (optind == argc && job.queries_path == NULL) {
        return cli_usage("no query: give vectors or --queries");
    }
    return search_run(&job, argv + optind, argc - optind);
}
