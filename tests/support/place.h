/* A fresh folder on a real file system, with the path of an index in it, as the state of one test:
 * setup and teardown for cmocka. The working directory stays what it is, so that processes and
 * threads beside the test go on in it. */
#ifndef PLACE_H
#define PLACE_H

#include <ftw.h>
#include <nphd/nphd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define PLACE_TEST(name) cmocka_unit_test_setup_teardown(name, place_make, place_remove)

typedef struct place {
    char path[64];
    char index[80];
} place;

static inline int place_remove_entry(const char *path, const struct stat *status, int kind,
                                     struct FTW *where)
{
    (void)status;
    (void)kind;
    (void)where;
    return remove(path);
}

static inline int place_make(void **state)
{
    place *here = calloc(1, sizeof(*here));

    assert_non_null(here);
    (void)snprintf(here->path, sizeof(here->path), "/tmp/nphd_place_XXXXXX");
    assert_non_null(mkdtemp(here->path));
    (void)snprintf(here->index, sizeof(here->index), "%s/index", here->path);
    *state = here;
    return 0;
}

static inline int place_remove(void **state)
{
    place *here = *state;
    const int failed = nftw(here->path, place_remove_entry, 16, FTW_DEPTH | FTW_PHYS);

    free(here);
    return failed;
}

/* A logger of tests in which warnings belong to the day. */
static inline void place_quiet(void *context, nphd_log_level level, const char *text)
{
    (void)context;
    (void)level;
    (void)text;
}

#endif
