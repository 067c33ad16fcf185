/* What nphd info tells, as text or as JSON. */
#include "facts.h"

#include <stdio.h>
#include <string.h>

#define NAME_WIDTH 20
#define NUMBER_BYTES 24

json_t *cli_fact_number(uint64_t value)
{
    char digits[NUMBER_BYTES];

    if (value <= INT64_MAX) {
        return json_integer((json_int_t)value);
    }
    snprintf(digits, sizeof(digits), "%llu", (unsigned long long)value);
    return json_string(digits);
}

json_t *cli_fact_text(const char *text)
{
    char clean[NPHD_ERROR_TEXT_BYTES];
    json_t *exact = json_string(text);

    if (exact != NULL) {
        return exact;
    }
    cli_message_clean(clean, sizeof(clean), text); /* what is not UTF-8 is no JSON either */
    return json_string(clean);
}

void cli_facts_put(json_t *facts, const char *name, json_t *value)
{
    json_object_set_new(facts, name, value);
}

/* The text form of a name: blanks for underscores. */
static void facts_label(const char *name, char out[NAME_WIDTH + 1])
{
    size_t length = 0;

    for (; name[length] != '\0' && length < NAME_WIDTH; length++) {
        out[length] = name[length] == '_' ? ' ' : name[length];
    }
    out[length] = '\0';
}

static void facts_value(const json_t *value, char *out, size_t capacity)
{
    if (json_is_string(value)) {
        cli_message_clean(out, capacity, json_string_value(value));
    } else if (json_is_integer(value)) {
        snprintf(out, capacity, "%lld", (long long)json_integer_value(value));
    } else {
        snprintf(out, capacity, "%s",
                 json_is_true(value)   ? "yes"
                 : json_is_null(value) ? "none"
                                       : "no");
    }
}

static int facts_column_width(json_t *rows, const char *name)
{
    int width = (int)strlen(name);
    size_t place = 0;
    json_t *row = NULL;

    json_array_foreach(rows, place, row)
    {
        char value[NPHD_ERROR_TEXT_BYTES];

        facts_value(json_object_get(row, name), value, sizeof(value));
        width = (int)strlen(value) > width ? (int)strlen(value) : width;
    }
    return width;
}

/* One line of the table; `row` NULL: its head. The columns are those of the first row. */
static void facts_print_row(json_t *rows, const json_t *row)
{
    const char *name = NULL;
    const char *gap = "";
    json_t *first = NULL;

    json_object_foreach(json_array_get(rows, 0), name, first)
    {
        char text[NPHD_ERROR_TEXT_BYTES];

        if (row == NULL) {
            facts_label(name, text);
        } else {
            facts_value(json_object_get(row, name), text, sizeof(text));
        }
        printf("%s%*s", gap, facts_column_width(rows, name), text);
        gap = "  ";
    }
    putchar('\n');
}

static void facts_print_table(json_t *rows)
{
    size_t place = 0;
    json_t *row = NULL;

    putchar('\n');
    facts_print_row(rows, NULL);
    json_array_foreach(rows, place, row)
    {
        facts_print_row(rows, row);
    }
    putchar('\n');
}

static void facts_print_text(json_t *facts)
{
    const char *name = NULL;
    json_t *value = NULL;

    json_object_foreach(facts, name, value)
    {
        char label[NAME_WIDTH + 1];
        char text[NPHD_ERROR_TEXT_BYTES];

        if (json_is_array(value)) {
            facts_print_table(value);
            continue;
        }
        facts_label(name, label);
        facts_value(value, text, sizeof(text));
        printf("%-*s%s\n", NAME_WIDTH, label, text);
    }
}

cli_exit cli_facts_print(json_t *facts, bool as_json)
{
    if (!as_json) {
        facts_print_text(facts);
    } else if (json_dumpf(facts, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII) == 0) {
        putchar('\n');
    }
    return CLI_SUCCESS; /* a failed write shows when standard output is closed */
}
