#include "fixture_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *fixture_directory(void)
{
    const char *source = getenv("NPHD_SOURCE_DIR");

    return source == NULL ? "." : source;
}

const char *fixture_path(const char *name)
{
    static char path[4096];

    (void)snprintf(path, sizeof(path), "%s/tests/fixtures/usearch/%s.usearch", fixture_directory(),
                   name);
    return path;
}

uint8_t *fixture_file(const char *path, size_t *out_bytes)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = NULL;
    long size = 0;

    *out_bytes = 0;
    if (file == NULL) {
        return NULL;
    }
    if (fseek(file, 0, SEEK_END) == 0 && (size = ftell(file)) >= 0 &&
        fseek(file, 0, SEEK_SET) == 0) {
        bytes = malloc((size_t)size + 1);
        if (bytes != NULL && fread(bytes, 1, (size_t)size, file) == (size_t)size) {
            *out_bytes = (size_t)size;
        }
    }
    (void)fclose(file);
    return bytes;
}

static size_t parse_hex(const char *text, uint8_t *out, size_t room)
{
    size_t bytes = 0;
    unsigned value;

    while (bytes < room && sscanf(text + 2 * bytes, "%2x", &value) == 1) {
        out[bytes++] = (uint8_t)value;
    }
    return bytes;
}

static nphd_key parse_key(const char *text, size_t key_bytes)
{
    uint8_t octets[16];

    if (key_bytes == 8) {
        return nphd_key_u64(strtoull(text, NULL, 10));
    }
    (void)parse_hex(text, octets, sizeof(octets));
    return nphd_key_from_octets(octets);
}

/* Makes room for one more element of `size` bytes in a list. */
static void *grow(void *list, size_t count, size_t size)
{
    void *larger = list;

    if ((count & (count + 1)) == 0) {
        larger = realloc(list, (2 * count + 2) * size);
        if (larger == NULL) {
            abort();
        }
    }
    return larger;
}

static void parse_item(fixture *out, const char *line, bool live)
{
    fixture_item item;
    char key[64];
    char hex[600];

    memset(&item, 0, sizeof(item));
    if (sscanf(line, "%*s %ld %63s %599s", &item.slot, key, hex) != 3) {
        abort();
    }
    item.key = parse_key(key, out->key_bytes);
    item.bytes = parse_hex(hex, item.data, sizeof(item.data));
    if (live) {
        out->items = grow(out->items, out->item_count, sizeof(item));
        out->items[out->item_count++] = item;
    } else {
        out->removed = grow(out->removed, out->removed_count, sizeof(item));
        out->removed[out->removed_count++] = item;
    }
}

static void parse_match(fixture *out, const char *line, bool top)
{
    fixture_match match = {0, -1, {0, 0}, 0};
    char key[64];
    const int fields =
        top ? sscanf(line, "%*s %zu %ld %63s %lf", &match.query, &match.slot, key, &match.distance)
            : sscanf(line, "%*s %zu %63s %lf", &match.query, key, &match.distance);

    if (fields != (top ? 4 : 3)) {
        abort();
    }
    match.key = parse_key(key, out->key_bytes);
    if (top) {
        out->top = grow(out->top, out->top_count, sizeof(match));
        out->top[out->top_count++] = match;
    } else {
        out->ann = grow(out->ann, out->ann_count, sizeof(match));
        out->ann[out->ann_count++] = match;
    }
}

static void parse_line(fixture *out, const char *line)
{
    size_t number;
    char hex[600];

    if (sscanf(line, "metric %31s", out->metric) == 1 ||
        sscanf(line, "key_bytes %zu", &out->key_bytes) == 1 ||
        sscanf(line, "bytes_per_vector %zu", &out->bytes_per_vector) == 1 ||
        sscanf(line, "connectivity %zu", &out->connectivity) == 1 ||
        sscanf(line, "live %zu", &out->live) == 1 ||
        sscanf(line, "engine_recall_at_10 %lf", &out->engine_recall) == 1) {
        return;
    }
    if (sscanf(line, "multi %zu", &number) == 1) {
        out->multi = number == 1;
    } else if (strncmp(line, "item ", 5) == 0) {
        parse_item(out, line, true);
    } else if (strncmp(line, "removed ", 8) == 0) {
        parse_item(out, line, false);
    } else if (sscanf(line, "query %zu %599s", &number, hex) == 2) {
        fixture_query query;
        query.bytes = parse_hex(hex, query.data, sizeof(query.data));
        out->queries = grow(out->queries, out->query_count, sizeof(query));
        out->queries[out->query_count++] = query;
    } else if (strncmp(line, "top ", 4) == 0) {
        parse_match(out, line, true);
    } else if (strncmp(line, "ann ", 4) == 0) {
        parse_match(out, line, false);
    }
}

bool fixture_read(const char *name, fixture *out)
{
    char path[4096];
    char line[2048];
    FILE *file;

    memset(out, 0, sizeof(*out));
    (void)snprintf(path, sizeof(path), "%s/tests/fixtures/usearch/%s.txt", fixture_directory(),
                   name);
    file = fopen(path, "r");
    if (file == NULL) {
        return false;
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        parse_line(out, line);
    }
    (void)fclose(file);
    return true;
}

void fixture_free(fixture *text)
{
    free(text->items);
    free(text->removed);
    free(text->queries);
    free(text->top);
    free(text->ann);
}
