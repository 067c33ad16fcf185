/* A fresh folder on a real file system that is the working directory of one test: setup and
 * teardown for cmocka. */
#ifndef OWN_FOLDER_H
#define OWN_FOLDER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static char own_folder_start[4096];
static char own_folder[64];

static inline int own_folder_enter(void **state)
{
    (void)state;
    assert_non_null(getcwd(own_folder_start, sizeof(own_folder_start)));
    (void)snprintf(own_folder, sizeof(own_folder), "/tmp/nphd_test_XXXXXX");
    assert_non_null(mkdtemp(own_folder));
    return chdir(own_folder);
}

static inline int own_folder_leave(void **state)
{
    char command[128];

    (void)state;
    (void)snprintf(command, sizeof(command), "rm -rf %s", own_folder);
    return chdir(own_folder_start) != 0 || system(command) != 0;
}

#endif
