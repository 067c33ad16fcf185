/* Reader of the `.txt` beside each fixture: what the file holds, and what searches must answer. */
#ifndef FIXTURE_TEXT_H
#define FIXTURE_TEXT_H

#include <nphd/nphd.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct fixture_item {
    long slot; /* -1: a removed item whose slot was taken again */
    nphd_key key;
    uint8_t data[256];
    size_t bytes;
} fixture_item;

typedef struct fixture_match {
    size_t query;
    long slot; /* `top` lines only */
    nphd_key key;
    double distance;
} fixture_match;

typedef struct fixture_query {
    uint8_t data[256];
    size_t bytes;
} fixture_query;

typedef struct fixture {
    char metric[32];
    size_t key_bytes;
    size_t connectivity;
    size_t bytes_per_vector;
    size_t live;
    bool multi;
    double engine_recall;
    fixture_item *items;
    size_t item_count;
    fixture_item *removed;
    size_t removed_count;
    fixture_query *queries;
    size_t query_count;
    fixture_match *top;
    size_t top_count;
    fixture_match *ann;
    size_t ann_count;
} fixture;

/* Reads `<name>.txt` of the fixtures; false when it cannot be read. */
bool fixture_read(const char *name, fixture *out);
void fixture_free(fixture *text);

/* The path of `<name>.usearch`, in static memory. */
const char *fixture_path(const char *name);
/* The root of the source, below which fixtures lie in tests/fixtures. */
const char *fixture_directory(void);

/* A whole file in memory, to be freed; NULL when it cannot be read. */
uint8_t *fixture_file(const char *path, size_t *out_bytes);

#endif
