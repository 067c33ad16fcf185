/* Groups of keys that pairs connect, by union and find. */
#ifndef NPHD_CLI_CLUSTERS_H
#define NPHD_CLI_CLUSTERS_H

#include <nphd/vector.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cli_cluster_node {
    nphd_key key;
    uint32_t parent; /* itself: the root of its group */
    uint32_t size;   /* of a root: members */
    uint64_t pairs;  /* that it is in */
} cli_cluster_node;

/* A member of a group of two or more. */
typedef struct cli_cluster_row {
    nphd_key key;
    nphd_key representative; /* the member that is in most pairs, the lowest of several */
    uint32_t size;
} cli_cluster_row;

/* Zero-initialise. */
typedef struct cli_clusters {
    cli_cluster_node *nodes;
    size_t count;
    size_t capacity;
    uint32_t *table; /* numbers of nodes by the hash of their keys, plus 1; 0: free */
    size_t slots;    /* a power of 2 */
} cli_clusters;

/* Notes a pair; one of a key with itself changes nothing. false: out of memory. */
bool cli_clusters_note(cli_clusters *clusters, nphd_key left, nphd_key right);

/* All members, to be freed: groups by size, the largest first, then by representative; members of a
 * group by key. NULL: out of memory, or there are none. */
cli_cluster_row *cli_clusters_rows(cli_clusters *clusters);

void cli_clusters_free(cli_clusters *clusters);

#endif
