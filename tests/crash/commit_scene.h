/* An index that commits to its journal on a model disk that loses power: what the tests of commits
 * share.
 *
 * A scene is a world with its disk. Wherever it is looked at, the disks that a power cut may leave
 * are drawn: unflushed data lost, kept or torn by sector, names in the weak and in the ordered
 * model. Each is opened by a reader and by a writer, and must be, as a whole, the moment of the
 * last acknowledged commit, save or rotation, or of one that was under way. Writers go on with some
 * of them, and some of these lose power again while they recover. */
#ifndef COMMIT_SCENE_H
#define COMMIT_SCENE_H

#include "commit_watch.h"
#include "support/sharded_oracle.h"

/* Distinct disks that are wanted, by NPHD_TEST_STATES and NPHD_TEST_SCALE. */
#define COMMIT_DEFAULT_STATES 4000
#define COMMIT_SMALL_STATES 500
uint64_t commit_wanted_states(void);

typedef struct commit_totals {
    uint64_t *seen; /* numbers of cases, hashed; 0: free */
    size_t seen_count;
    size_t seen_room; /* a power of two */
    uint64_t again;   /* cases met while recovering */
    uint64_t resumed; /* writers that went on */
    uint64_t bad;
    bool quiet;
    test_random random;
} commit_totals;

typedef struct commit_scene {
    sharded_world *world;
    commit_watch watch;
    commit_totals *sum;
    const char *step;
    bool recovering; /* from a power cut; a third one is not tried */
} commit_scene;

void commit_totals_begin(commit_totals *sum, uint64_t seed, size_t room);
void commit_totals_end(commit_totals *sum);

/* Looks at what power cuts would leave now. The context is a scene. */
void commit_look(void *context);

/* One step of a world, or "commit", or "abandon": the process ends without a word, and another one
 * opens what it left. The second looks after every operation, but with background rotation, where
 * the disk changes while nobody stands still. */
nphd_status commit_take_quietly(commit_scene *of, const char *name);
nphd_status commit_take_step(commit_scene *of, const char *name);

#endif
