/* Groups of keys that pairs connect; see clusters.h. */
#include "clusters.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_SLOTS 1024

/* The finalizer of SplitMix64 (Steele, Lea and Flood 2014) over both halves. */
static uint64_t clusters_hash(nphd_key key)
{
    uint64_t x = key.low ^ key.high * 0x9e3779b97f4a7c15u;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* The place of the key in the table, or the free one where it belongs. */
static size_t clusters_place(const cli_clusters *clusters, nphd_key key)
{
    size_t place = (size_t)clusters_hash(key) & (clusters->slots - 1);

    while (clusters->table[place] != 0 &&
           nphd_key_compare(clusters->nodes[clusters->table[place] - 1].key, key) != 0) {
        place = (place + 1) & (clusters->slots - 1);
    }
    return place;
}

/* Room for one more; the table is at most half full. */
static bool clusters_grow(cli_clusters *clusters)
{
    if (clusters->count == clusters->capacity) {
        const size_t capacity = clusters->capacity == 0 ? FIRST_SLOTS / 2 : 2 * clusters->capacity;
        const size_t slots = 2 * capacity;
        cli_cluster_node *nodes = realloc(clusters->nodes, capacity * sizeof(*nodes));
        uint32_t *table;

        if (nodes == NULL) {
            return false;
        }
        clusters->nodes = nodes;
        table = calloc(slots, sizeof(*table));
        if (table == NULL) {
            return false;
        }
        free(clusters->table);
        clusters->table = table;
        clusters->slots = slots;
        clusters->capacity = capacity;
        for (size_t i = 0; i < clusters->count; i++) {
            table[clusters_place(clusters, nodes[i].key)] = (uint32_t)i + 1;
        }
    }
    return true;
}

static bool clusters_node(cli_clusters *clusters, nphd_key key, uint32_t *out)
{
    size_t place;

    if (!clusters_grow(clusters)) {
        return false;
    }
    place = clusters_place(clusters, key);
    if (clusters->table[place] == 0) {
        const cli_cluster_node node = {key, (uint32_t)clusters->count, 1, 0};
        clusters->nodes[clusters->count++] = node;
        clusters->table[place] = (uint32_t)clusters->count;
    }
    *out = clusters->table[place] - 1;
    return true;
}

/* The root, with the way to it halved. */
static uint32_t clusters_find(cli_clusters *clusters, uint32_t node)
{
    cli_cluster_node *nodes = clusters->nodes;

    while (nodes[node].parent != node) {
        nodes[node].parent = nodes[nodes[node].parent].parent;
        node = nodes[node].parent;
    }
    return node;
}

bool cli_clusters_note(cli_clusters *clusters, nphd_key left, nphd_key right)
{
    uint32_t a;
    uint32_t b;

    if (nphd_key_compare(left, right) == 0) {
        return true;
    }
    if (!clusters_node(clusters, left, &a) || !clusters_node(clusters, right, &b)) {
        return false;
    }
    clusters->nodes[a].pairs++;
    clusters->nodes[b].pairs++;
    a = clusters_find(clusters, a);
    b = clusters_find(clusters, b);
    if (a != b) {
        const bool a_is_larger = clusters->nodes[a].size >= clusters->nodes[b].size;
        const uint32_t root = a_is_larger ? a : b;
        const uint32_t other = a_is_larger ? b : a;
        clusters->nodes[other].parent = root;
        clusters->nodes[root].size += clusters->nodes[other].size;
    }
    return true;
}

static int clusters_compare(const void *a, const void *b)
{
    const cli_cluster_row *x = a;
    const cli_cluster_row *y = b;
    const int by_group = nphd_key_compare(x->representative, y->representative);

    if (x->size != y->size) {
        return x->size > y->size ? -1 : 1;
    }
    return by_group != 0 ? by_group : nphd_key_compare(x->key, y->key);
}

static bool clusters_stands_before(const cli_cluster_node *a, const cli_cluster_node *b)
{
    return a->pairs != b->pairs ? a->pairs > b->pairs : nphd_key_compare(a->key, b->key) < 0;
}

cli_cluster_row *cli_clusters_rows(cli_clusters *clusters)
{
    cli_cluster_row *rows = calloc(clusters->count, sizeof(*rows));
    uint32_t *best = calloc(clusters->count, sizeof(*best)); /* of each root, plus 1 */

    if (rows == NULL || best == NULL) {
        free(rows);
        free(best);
        return NULL;
    }
    for (uint32_t i = 0; i < clusters->count; i++) {
        const uint32_t root = clusters_find(clusters, i);
        if (best[root] == 0 ||
            clusters_stands_before(&clusters->nodes[i], &clusters->nodes[best[root] - 1])) {
            best[root] = i + 1;
        }
    }
    for (uint32_t i = 0; i < clusters->count; i++) {
        const uint32_t root = clusters_find(clusters, i);
        rows[i].key = clusters->nodes[i].key;
        rows[i].representative = clusters->nodes[best[root] - 1].key;
        rows[i].size = clusters->nodes[root].size;
    }
    free(best);
    qsort(rows, clusters->count, sizeof(*rows), clusters_compare);
    return rows;
}

void cli_clusters_free(cli_clusters *clusters)
{
    free(clusters->nodes);
    free(clusters->table);
    memset(clusters, 0, sizeof(*clusters));
}
