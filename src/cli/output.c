/* What the program prints on standard output. */
#include "output.h"

#include "facts.h"
#include "parse.h"
#include "signals.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>

void cli_print_hex(const uint8_t *bytes, size_t count)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < count; i++) {
        putchar(digits[bytes[i] >> 4]);
        putchar(digits[bytes[i] & 15]);
    }
}

void cli_print_json_key(nphd_key key, uint32_t key_bits)
{
    char text[CLI_KEY_TEXT_BYTES];
    const bool number = key_bits != 128 && key.low <= INT64_MAX && cli_keys_are_numbers();

    cli_format_key(key, key_bits, text);
    printf(number ? "%s" : "\"%s\"", text);
}

static void output_clean(const char *text)
{
    char clean[1024];

    cli_message_clean(clean, sizeof(clean), text);
    fputs(clean, stdout);
}

const char *cli_plan_name(nphd_search_plan plan)
{
    static const char *const names[] = {"auto", "scan", "tables", "graph", "mixed"};

    return names[plan];
}

/* Of an answer: what had nothing to search has no plan. */
static const char *output_plan(const nphd_search_report *report)
{
    return report->plan == NPHD_PLAN_AUTO ? "none" : cli_plan_name(report->plan);
}

static void output_matches(const cli_printer *printer, const nphd_match *matches,
                           const nphd_search_report *report)
{
    char key[CLI_KEY_TEXT_BYTES];
    int key_width = (int)strlen("key");

    for (size_t i = 0; i < report->count; i++) {
        cli_format_key(matches[i].key, printer->key_bits, key);
        key_width = (int)strlen(key) > key_width ? (int)strlen(key) : key_width;
    }
    printf("  rank  %*s  distance%s%s\n", key_width, "key", printer->variants ? "  variant" : "",
           printer->labels->count > 0 ? "  source" : "");
    for (size_t i = 0; i < report->count; i++) {
        const char *label = cli_labels_find(printer->labels, matches[i].key);

        cli_format_key(matches[i].key, printer->key_bits, key);
        printf("  %4zu  %*s  %8.*f", i + 1, key_width, key,
               printer->metric == NPHD_METRIC_HAMMING ? 0 : 4, (double)matches[i].distance);
        if (printer->variants) {
            printf("  %7u", matches[i].variant);
        }
        if (label != NULL) {
            fputs("  ", stdout);
            output_clean(label);
        }
        putchar('\n');
    }
    if (printer->more && report->more) {
        puts("  and more within the radius");
    }
}

static void output_table(const cli_printer *printer, uint64_t query, const char *source,
                         const char *read, const nphd_match *matches,
                         const nphd_search_report *report)
{
    printf("%squery %llu", printer->printed > 0 ? "\n" : "", (unsigned long long)query);
    if (source[0] != '\0') {
        fputs("  ", stdout);
        output_clean(source);
    }
    printf("  %s  (%s)\n", read, report->exact ? "exact" : "approximate");
    if (report->count == 0) {
        puts("  nothing found");
    } else {
        output_matches(printer, matches, report);
    }
    if (printer->explain) {
        printf("  plan %s, predicted %.1f us, measured %.1f us, compared %llu\n",
               output_plan(report), (double)report->predicted, (double)report->measured,
               (unsigned long long)report->computed);
    }
}

static void output_tsv(const cli_printer *printer, uint64_t query, const nphd_match *matches,
                       const nphd_search_report *report)
{
    char key[CLI_KEY_TEXT_BYTES];

    for (size_t i = 0; i < report->count; i++) {
        cli_format_key(matches[i].key, printer->key_bits, key);
        printf("%llu\t%zu\t%s\t%.9g", (unsigned long long)query, i + 1, key,
               (double)matches[i].distance);
        if (printer->variants) {
            printf("\t%u", matches[i].variant);
        }
        putchar('\n');
    }
}

/* Written by hand: there is no text in it that needs escapes, and an answer may be long. */
static void output_jsonl(const cli_printer *printer, uint64_t query, const nphd_match *matches,
                         const nphd_search_report *report)
{
    printf("{\"query\": %llu, \"exact\": %s, ", (unsigned long long)query,
           report->exact ? "true" : "false");
    if (printer->more) {
        printf("\"more\": %s, ", report->more ? "true" : "false");
    }
    if (printer->explain) {
        printf("\"plan\": \"%s\", \"predicted_us\": %.1f, \"measured_us\": %.1f, "
               "\"compared\": %llu, ",
               output_plan(report), (double)report->predicted, (double)report->measured,
               (unsigned long long)report->computed);
    }
    fputs("\"matches\": [", stdout);
    for (size_t i = 0; i < report->count; i++) {
        printf("%s{\"key\": ", i > 0 ? ", " : "");
        cli_print_json_key(matches[i].key, printer->key_bits);
        printf(", \"distance\": %.9g", (double)matches[i].distance);
        if (printer->variants) {
            printf(", \"variant\": %u", matches[i].variant);
        }
        putchar('}');
    }
    puts("]}");
}

void cli_print_answer(const cli_printer *printer, uint64_t query, const char *source,
                      const char *read, const nphd_match *matches, const nphd_search_report *report)
{
    switch (printer->layout) {
    case CLI_LAYOUT_TABLE:
        output_table(printer, query, source, read, matches, report);
        break;
    case CLI_LAYOUT_TSV:
        output_tsv(printer, query, matches, report);
        break;
    case CLI_LAYOUT_JSONL:
        output_jsonl(printer, query, matches, report);
        break;
    }
}

void cli_print_unanswered(const cli_printer *printer, uint64_t query, const char *why)
{
    json_t *text = printer->layout == CLI_LAYOUT_JSONL ? cli_fact_text(why) : NULL;

    if (text != NULL) {
        printf("{\"query\": %llu, \"error\": ", (unsigned long long)query);
        (void)json_dumpf(text, stdout, JSON_ENCODE_ANY);
        puts("}");
        json_decref(text);
    }
}

bool cli_output_broken(void)
{
    return ferror(stdout) != 0;
}

/* Why a flush failed before the last one; 0: none did. What it held may be dropped by then. */
static int output_error = 0;

bool cli_output_flush(void)
{
    if (fflush(stdout) != 0) {
        output_error = errno;
        return false;
    }
    return !cli_output_broken();
}

cli_exit cli_output_finish(cli_exit result)
{
    bool failed = cli_output_broken();

    /* After an earlier failure the flush meets it again, and errno is of this call. */
    errno = output_error;
    if (fflush(stdout) != 0) {
        failed = true;
    } else if (fclose(stdout) != 0) {
        failed = true;
    }
    if (result == CLI_INTERRUPTED || (failed && cli_interrupted())) {
        return CLI_INTERRUPTED;
    }
    /* A reader that has seen enough, such as head(1), is not worth a line. */
    if (failed && errno != EPIPE) {
        cli_complain("standard output: %s", errno != 0 ? strerror(errno) : "a write failed");
    }
    return failed ? CLI_SYSTEM : result;
}
