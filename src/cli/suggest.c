/* "did you mean": names close to one that was mistyped. */
#include "suggest.h"

#include <dirent.h>
#include <errno.h>
#include <nphd/sharded.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define FILE_ENDING ".usearch"

/* Entries of a folder that are looked at; a mistyped name is not worth more. */
#define FOLDER_ENTRIES 10000

static char suggest_lower(char c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
}

static size_t suggest_least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Letters to add, leave out, change or swap with the next one (optimal string alignment). */
static size_t suggest_distance(const char *a, const char *b)
{
    size_t rows[3][CLI_SUGGEST_BYTES];
    const size_t length_a = strlen(a);
    const size_t length_b = strlen(b);

    if (length_a >= CLI_SUGGEST_BYTES || length_b >= CLI_SUGGEST_BYTES) {
        return SIZE_MAX;
    }
    for (size_t j = 0; j <= length_b; j++) {
        rows[0][j] = j;
    }
    for (size_t i = 1; i <= length_a; i++) {
        size_t *row = rows[i % 3];
        const size_t *above = rows[(i + 2) % 3];
        const size_t *top = rows[(i + 1) % 3];

        row[0] = i;
        for (size_t j = 1; j <= length_b; j++) {
            const char x = suggest_lower(a[i - 1]);
            const char y = suggest_lower(b[j - 1]);

            row[j] = suggest_least(above[j - 1] + (x == y ? 0 : 1),
                                   suggest_least(above[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && x == suggest_lower(b[j - 2]) && y == suggest_lower(a[i - 2])) {
                row[j] = suggest_least(row[j], top[j - 2] + 1);
            }
        }
    }
    return rows[length_a % 3][length_b];
}

void cli_suggest_try(cli_suggestion *suggestion, const char *name)
{
    const size_t typed = strlen(suggestion->typed);
    const size_t most = typed < 2 ? 0 : typed < 6 ? 1 : typed < 9 ? 2 : 3;
    size_t distance = suggest_distance(suggestion->typed, name);

    /* the beginning of a name is worth as much as one letter amiss */
    if (typed >= 2 && typed < strlen(name) && strncasecmp(suggestion->typed, name, typed) == 0) {
        distance = suggest_least(distance, 1);
    }
    if (distance > most || (suggestion->best[0] != '\0' && distance >= suggestion->distance)) {
        return;
    }
    snprintf(suggestion->best, sizeof(suggestion->best), "%s", name);
    suggestion->distance = distance;
}

void cli_suggest_text(const cli_suggestion *suggestion, const char *head, char *out,
                      size_t capacity)
{
    int used = 0;

    if (suggestion->best[0] != '\0') {
        used = snprintf(out, capacity, "; did you mean '%s%s'?", head, suggestion->best);
    }
    if (used <= 0 || (size_t)used >= capacity) { /* half a name is no help */
        out[0] = '\0';
    }
}

static bool suggest_ends_like_file(const char *name)
{
    const size_t ending = strlen(FILE_ENDING);
    const size_t length = strlen(name);

    return length > ending && strcmp(name + length - ending, FILE_ENDING) == 0;
}

/* Is the entry an index: a file of that ending, or a directory with a shard in it? */
static bool suggest_is_index(const char *folder, const char *name)
{
    char path[4096];
    struct stat facts;
    nphd_metadata metadata = NPHD_METADATA_INIT;
    const int used = snprintf(path, sizeof(path), "%s%s", folder, name);

    if (name[0] == '.' || used < 0 || (size_t)used >= sizeof(path) || stat(path, &facts) != 0) {
        return false;
    }
    return suggest_ends_like_file(name)
               ? S_ISREG(facts.st_mode)
               : nphd_directory_metadata(path, NULL, &metadata, NULL) == NPHD_OK;
}

/* The name without the ending of files. */
static void suggest_bare(const char *name, char out[CLI_SUGGEST_BYTES])
{
    const size_t ending = suggest_ends_like_file(name) ? strlen(FILE_ENDING) : 0;

    snprintf(out, CLI_SUGGEST_BYTES, "%.*s", (int)(strlen(name) - ending), name);
}

/* The same name with the ending of a file or without it, else one that is close to it. */
static void suggest_index(const char *folder, const char *name, cli_suggestion *out)
{
    char typed[CLI_SUGGEST_BYTES];
    char bare[CLI_SUGGEST_BYTES];
    char other[CLI_SUGGEST_BYTES + sizeof(FILE_ENDING)];
    DIR *listing = NULL;

    suggest_bare(name, typed);
    snprintf(other, sizeof(other), "%s%s", typed, suggest_ends_like_file(name) ? "" : FILE_ENDING);
    if (strlen(other) < sizeof(out->best) && suggest_is_index(folder, other)) {
        memcpy(out->best, other, strlen(other) + 1);
        return;
    }
    listing = opendir(folder[0] != '\0' ? folder : ".");
    for (size_t i = 0; listing != NULL && i < FOLDER_ENTRIES; i++) {
        const struct dirent *entry = readdir(listing);
        cli_suggestion closer = {.typed = typed, .distance = out->distance};

        if (entry == NULL) {
            break;
        }
        suggest_bare(entry->d_name, bare);
        snprintf(closer.best, sizeof(closer.best), "%s", out->best);
        cli_suggest_try(&closer, bare);
        if (strcmp(closer.best, out->best) != 0 && suggest_is_index(folder, entry->d_name)) {
            snprintf(out->best, sizeof(out->best), "%s", entry->d_name);
            out->distance = closer.distance;
        }
    }
    if (listing != NULL) {
        closedir(listing);
    }
}

cli_exit cli_fail_open(const char *path, const nphd_error *err)
{
    char folder[4096];
    char name[CLI_SUGGEST_BYTES];
    char advice[CLI_SUGGEST_BYTES + sizeof(folder)];
    cli_suggestion suggestion = {.typed = name};
    struct stat facts;
    size_t length = strlen(path);
    size_t begin = 0;

    if (err->status != NPHD_NOT_FOUND || stat(path, &facts) == 0 ||
        (errno != ENOENT && errno != ENOTDIR)) {
        return cli_fail(err);
    }
    while (length > 1 && path[length - 1] == '/') {
        length--;
    }
    for (begin = length; begin > 0 && path[begin - 1] != '/'; begin--) {
    }
    advice[0] = '\0';
    if (begin < sizeof(folder) && length - begin + strlen(FILE_ENDING) < sizeof(name)) {
        snprintf(folder, sizeof(folder), "%.*s", (int)begin, path);
        snprintf(name, sizeof(name), "%.*s", (int)(length - begin), path + begin);
        suggest_index(folder, name, &suggestion);
        cli_suggest_text(&suggestion, folder, advice, sizeof(advice));
    }
    cli_complain("there is no index '%s'%s", path, advice);
    return CLI_SYSTEM;
}
