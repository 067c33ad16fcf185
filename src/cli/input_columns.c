/* Which column of a CSV file, or member of a JSON object, is what. */
#include "input_columns.h"

#include "text.h"
#include <stdio.h>
#include <string.h>

static const char *const column_names[CLI_COLUMNS] = {
    [CLI_COLUMN_KEY] = "key",       [CLI_COLUMN_ISCC] = "iscc",     [CLI_COLUMN_HEX] = "hex",
    [CLI_COLUMN_BASE64] = "base64", [CLI_COLUMN_VECTOR] = "vector", [CLI_COLUMN_SOURCE] = "source",
};

/* Blanks of all kinds, those without width too, and the byte order mark, which files put together
 * from others have within. */
static bool name_is_blank(uint32_t character)
{
    return character <= 0x20 || character == 0x85 || character == 0xa0 || character == 0x1680 ||
           (character >= 0x2000 && character <= 0x200f) ||
           (character >= 0x2028 && character <= 0x202f) || character == 0x205f ||
           character == 0x2060 || character == 0x3000 || character == 0xfeff;
}

void cli_name_set(cli_name *out, const char *text, size_t length)
{
    size_t begin = 0;
    size_t end = 0; /* behind the last character that is no blank */
    size_t step = 0;

    out->length = 0;
    for (size_t at = 0; at < length; at += step) {
        uint32_t character = 0;

        step = cli_text_character(text + at, length - at, &character);
        if (step > 0 && name_is_blank(character)) {
            begin = end == 0 ? at + step : begin;
            continue;
        }
        step = step > 0 ? step : 1;
        end = at + step;
    }
    if (end - begin > sizeof(out->text) || end == 0) {
        return;
    }
    for (size_t at = begin; at < end; at++) {
        const char c = text[at];

        out->text[out->length++] = (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    }
}

static bool name_is(const cli_name *name, const char *text)
{
    return name->length == strlen(text) && memcmp(name->text, text, name->length) == 0;
}

static bool names_equal(const cli_name *a, const cli_name *b)
{
    return a->length == b->length && memcmp(a->text, b->text, a->length) == 0;
}

static bool name_is_given(const cli_name *name, const cli_name *option)
{
    return option->length > 0 && names_equal(name, option);
}

/* What the name says; of a name that is known but stands back behind an option, CLI_COLUMNS with
 * *out_known. */
static cli_column column_of(const cli_columns *columns, const cli_name *name, bool *out_known)
{
    const bool is_vector = name_is_given(name, &columns->vector);
    const bool is_key = name_is_given(name, &columns->key);
    const bool is_source = name_is_given(name, &columns->source);

    *out_known = true;
    for (cli_column column = CLI_COLUMN_KEY; column < CLI_COLUMNS; column++) {
        const bool encoded = column >= CLI_COLUMN_ISCC && column <= CLI_COLUMN_BASE64;

        if (column == CLI_COLUMN_VECTOR || is_key || is_source || (is_vector && !encoded) ||
            !name_is(name, column_names[column])) {
            continue;
        }
        if ((column == CLI_COLUMN_KEY && columns->key.length > 0) ||
            (column == CLI_COLUMN_SOURCE && columns->source.length > 0) ||
            (encoded && columns->vector.length > 0 && !is_vector)) {
            return CLI_COLUMNS;
        }
        return column;
    }
    if (is_key || is_vector || is_source) {
        return is_key ? CLI_COLUMN_KEY : is_vector ? CLI_COLUMN_VECTOR : CLI_COLUMN_SOURCE;
    }
    *out_known = false;
    return CLI_COLUMNS;
}

static bool columns_take(cli_purpose purpose, cli_column column)
{
    switch (column) {
    case CLI_COLUMN_KEY:
        return purpose != CLI_FOR_QUERY;
    case CLI_COLUMN_SOURCE:
        return purpose != CLI_FOR_ADD;
    default:
        return purpose != CLI_FOR_LABELS;
    }
}

/* id, uuid, file_id, fileId: as columns with keys are called elsewhere. */
static bool name_is_likely(const cli_name *name)
{
    return (name->length >= 2 && memcmp(name->text + name->length - 2, "id", 2) == 0) ||
           (name->length >= 3 && memcmp(name->text + name->length - 3, "key", 3) == 0);
}

cli_column cli_columns_meet(const cli_columns *columns, cli_columns_met *met, const char *text,
                            size_t length)
{
    cli_name name;
    bool known = false;
    cli_column column = CLI_COLUMNS;

    cli_name_set(&name, text, length);
    column = column_of(columns, &name, &known);
    if (column != CLI_COLUMNS && columns_take(columns->purpose, column)) {
        met->count[column]++;
        return column;
    }
    if (!known) {
        const bool likely = name_is_likely(&name);

        if (met->unused == 0 || (likely && !met->example_likely)) {
            cli_text_clean(met->example, sizeof(met->example), text, length);
            met->example_likely = likely;
        }
        met->unused++;
    }
    return CLI_COLUMNS;
}

/* "id", as an option takes it; what has no name has to get one. */
static void columns_advise(const char *option, const cli_columns_met *met, char *out,
                           size_t capacity)
{
    if (met->example[0] == '\0') {
        snprintf(out, capacity, "a column without a name is not used: name it");
    } else {
        snprintf(out, capacity, "'%s' is not used: give %s '%s'", met->example, option,
                 met->example);
    }
}

static bool columns_check_vector(const cli_columns *columns, const cli_columns_met *met,
                                 const char *whose, cli_column *out_vector, cli_problem *problem)
{
    char advice[256];
    unsigned vectors = 0;

    for (cli_column column = CLI_COLUMN_ISCC; column <= CLI_COLUMN_VECTOR; column++) {
        if (met->count[column] > 0) {
            *out_vector = column;
            vectors++;
        }
    }
    if (vectors == 1) {
        return true;
    }
    if (vectors > 1) {
        cli_problem_set(problem,
                        "%s names more than one of iscc, hex and base64: say which by "
                        "--vector-column",
                        whose);
    } else if (columns->vector.length > 0) {
        cli_problem_set(problem, "%s does not name '%.*s', as --vector-column says", whose,
                        (int)columns->vector.length, columns->vector.text);
    } else if (met->unused > 0) {
        columns_advise("--vector-column", met, advice, sizeof(advice));
        cli_problem_set(problem, "%s names none of iscc, hex and base64; %s if that is the vector",
                        whose, advice);
    } else {
        cli_problem_set(problem, "%s names none of iscc, hex and base64", whose);
    }
    return false;
}

/* Is the column there that an option names? */
static bool columns_check_given(const cli_columns *columns, const cli_columns_met *met,
                                cli_column column, const char *whose, cli_problem *problem)
{
    const cli_name *given = column == CLI_COLUMN_KEY ? &columns->key : &columns->source;

    if (given->length == 0 || met->count[column] > 0 || !columns_take(columns->purpose, column)) {
        return true;
    }
    cli_problem_set(problem, "%s does not name '%.*s', as --%s-column says", whose,
                    (int)given->length, given->text, column_names[column]);
    return false;
}

bool cli_columns_check(const cli_columns *columns, const cli_columns_met *met, const char *whose,
                       cli_column *out_vector, cli_problem *problem)
{
    *out_vector = CLI_COLUMNS;
    for (cli_column column = CLI_COLUMN_KEY; column < CLI_COLUMNS; column++) {
        if (met->count[column] > 1) {
            cli_problem_set(problem, "%s names %s twice", whose, column_names[column]);
            return false;
        }
    }
    if (!columns_check_given(columns, met, CLI_COLUMN_KEY, whose, problem) ||
        (columns->purpose == CLI_FOR_LABELS && /* queries may do without */
         !columns_check_given(columns, met, CLI_COLUMN_SOURCE, whose, problem))) {
        return false;
    }
    if (columns->purpose == CLI_FOR_LABELS) {
        if (met->count[CLI_COLUMN_KEY] == 0 || met->count[CLI_COLUMN_SOURCE] == 0) {
            cli_problem_set(problem,
                            "%s does not name the columns key and source: say which they are by "
                            "--key-column and --source-column",
                            whose);
            return false;
        }
        return true;
    }
    return columns_check_vector(columns, met, whose, out_vector, problem);
}

bool cli_columns_hide_keys(const cli_columns *columns, const cli_columns_met *met,
                           const char *whose, cli_problem *problem)
{
    char advice[256];

    if (columns->purpose != CLI_FOR_ADD || columns->number || met->count[CLI_COLUMN_KEY] > 0 ||
        met->unused == 0) {
        return false;
    }
    columns_advise("--key-column", met, advice, sizeof(advice));
    cli_problem_set(problem,
                    "%s does not name key, and %s if that is the key, or --number to "
                    "have the vectors numbered",
                    whose, advice);
    return true;
}

cli_encoding cli_column_encoding(cli_column column)
{
    switch (column) {
    case CLI_COLUMN_ISCC:
        return CLI_ENCODING_ISCC;
    case CLI_COLUMN_HEX:
        return CLI_ENCODING_HEX;
    case CLI_COLUMN_BASE64:
        return CLI_ENCODING_BASE64;
    default:
        return CLI_ENCODING_GUESS;
    }
}
