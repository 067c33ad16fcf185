/* The functions of the I/O table that may be missing, over files of the system: directories that
 * are kept open, what a name leads to, links, permissions and locks of the file itself. */
#include "platform/platform.h"
#include "support/own_folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void put(const nphd_io *io, void *context, const char *path, const char *text)
{
    nphd_file file;
    size_t done;

    assert_int_equal(io->open(context, path, NPHD_OPEN_CREATE, &file), 0);
    assert_int_equal(io->write(context, file, 0, text, strlen(text), &done), 0);
    assert_int_equal(io->close(context, file), 0);
}

static bool is_there(const char *path)
{
    return access(path, F_OK) == 0;
}

/* ---- directories that are kept open ---- */

static void test_root_stays_whatever_becomes_of_names(void **state)
{
    const nphd_io *io = nphdi_io_posix();
    nphd_file_facts facts;
    nphd_file file;
    void *context;

    (void)state;
    assert_int_equal(mkdir("d", 0777) | mkdir("elsewhere", 0777), 0);
    assert_int_equal(io->root(NULL, "missing", "missing", &context), ENOENT);
    assert_int_equal(io->root(NULL, "d", "", &context), EINVAL);
    assert_int_equal(io->root(NULL, "d", "d", &context), 0);
    assert_int_equal(chdir("elsewhere"), 0);
    put(io, context, "d/one", "1");
    assert_true(is_there("../d/one"));
    assert_int_equal(io->rename(context, "d/one", "d//two"), 0);
    assert_int_equal(io->copy(context, "d/two", "d/three"), 0);
    assert_int_equal(io->make_directory(context, "d/four"), 0);
    assert_int_equal(io->make_directory(context, "d"), EEXIST);
    assert_int_equal(io->sync_directory(context, "d"), 0);
    assert_int_equal(io->lock(context, "d/lock", &file), 0);
    assert_int_equal(io->close(context, file), 0);
    assert_int_equal(io->look(context, "d", &facts), 0);
    assert_int_equal(facts.kind, NPHD_KIND_DIRECTORY);
    assert_true(is_there("../d/two") && is_there("../d/three") && is_there("../d/four"));
    /* the beginning of another name, and another place */
    put(io, context, "dd", "of the working directory");
    assert_true(is_there("dd"));
    /* renamed, and another one in its place */
    assert_int_equal(rename("../d", "../e"), 0);
    assert_int_equal(mkdir("../d", 0777), 0);
    assert_int_equal(io->remove(context, "d/two"), 0);
    assert_false(is_there("../e/two"));
    put(io, context, "d/five", "5");
    assert_true(is_there("../e/five") && !is_there("../d/five"));
    io->unroot(context);
}

static void test_root_of_a_deleted_directory(void **state)
{
    const nphd_io *io = nphdi_io_posix();
    nphd_file file;
    void *context;

    (void)state;
    assert_int_equal(mkdir("d", 0777), 0);
    assert_int_equal(io->root(NULL, "d", "d", &context), 0);
    assert_int_equal(rmdir("d") | mkdir("d", 0777), 0);
    assert_int_equal(io->open(context, "d/f", NPHD_OPEN_CREATE, &file), ENOENT);
    assert_int_equal(io->lock(context, "d/lock", &file), ENOENT);
    io->unroot(context);
}

/* ---- what is there ---- */

static void test_look(void **state)
{
    const nphd_io *io = nphdi_io_posix();
    nphd_file_facts first;
    nphd_file_facts second;

    (void)state;
    put(io, NULL, "file", "12345");
    assert_int_equal(symlink("file", "link") | mkfifo("pipe", 0600) | mkdir("d", 0777), 0);
    assert_int_equal(io->look(NULL, "file", &first), 0);
    assert_int_equal(first.kind, NPHD_KIND_FILE);
    assert_int_equal(first.bytes, 5);
    assert_true(first.number != 0 && first.changed_ns != 0);
    assert_int_equal(io->look(NULL, "link", &second), 0);
    assert_memory_equal(&first, &second, sizeof(first));
    assert_int_equal(io->look(NULL, "pipe", &first), 0);
    assert_int_equal(first.kind, NPHD_KIND_OTHER);
    assert_int_equal(io->look(NULL, "/dev/null", &first), 0);
    assert_int_equal(first.kind, NPHD_KIND_OTHER);
    assert_int_equal(io->look(NULL, "d", &first), 0);
    assert_int_equal(first.kind, NPHD_KIND_DIRECTORY);
    assert_int_equal(io->look(NULL, "missing", &first), ENOENT);
    assert_int_equal(first.kind, 0);
}

static void check_resolve(const char *path, const char *rest)
{
    const nphd_io *io = nphdi_io_posix();
    char expected[4200];
    char out[4096];
    char here[4096];

    assert_non_null(getcwd(here, sizeof(here)));
    (void)snprintf(expected, sizeof(expected), "%s%s%s", rest[0] == '/' ? "" : here,
                   rest[0] == '/' ? "" : "/", rest);
    assert_int_equal(io->resolve(NULL, path, out, sizeof(out)), 0);
    assert_string_equal(out, expected);
}

static void test_resolve(void **state)
{
    const nphd_io *io = nphdi_io_posix();
    char out[4096];
    void *context;

    (void)state;
    assert_int_equal(mkdir("d", 0777), 0);
    put(io, NULL, "d/file", "");
    assert_int_equal(symlink("d/file", "link") | symlink("../link", "d/back") |
                         symlink("nothing", "d/dangling") | symlink("loop", "loop") |
                         symlink("/nowhere/at/all", "far"),
                     0);
    check_resolve("d/file", "d/file");
    check_resolve("missing", "missing");
    check_resolve("link", "d/file");
    check_resolve("d/back", "d/file");
    check_resolve("./d/..//d/./file", "d/file");
    check_resolve("d/dangling", "d/nothing");
    check_resolve("far", "/nowhere/at/all");
    check_resolve("/missing", "/missing");
    assert_int_equal(io->resolve(NULL, "loop", out, sizeof(out)), ELOOP);
    assert_int_equal(io->resolve(NULL, "d/file", out, 10), ENAMETOOLONG);
    assert_int_equal(io->resolve(NULL, "no/such/file", out, sizeof(out)), 0);
    assert_string_equal(out, "no/such/file");
    assert_int_equal(io->root(NULL, "d", "d", &context), 0);
    assert_int_equal(io->resolve(context, "d/dangling", out, sizeof(out)), 0);
    assert_string_equal(out, "d/nothing"); /* it is found there already */
    io->unroot(context);
}

/* ---- permissions ---- */

static mode_t mode_of(const char *path)
{
    struct stat info;

    assert_int_equal(stat(path, &info), 0);
    return info.st_mode & 07777;
}

static void test_create_like(void **state)
{
    static const mode_t modes[] = {0600, 0640, 0666, 0444, 0755};
    const nphd_io *io = nphdi_io_posix();
    const mode_t mask = umask(022);
    nphd_file file;

    (void)state;
    assert_int_equal(io->create_like(NULL, "new", "missing", &file), 0);
    assert_int_equal(io->close(NULL, file), 0);
    assert_int_equal(mode_of("new"), 0644);
    assert_int_equal(io->create_like(NULL, "new", "missing", &file), EEXIST);
    put(io, NULL, "old", "");
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        assert_int_equal(unlink("new") | chmod("old", modes[i]), 0);
        assert_int_equal(io->create_like(NULL, "new", "old", &file), 0);
        assert_int_equal(io->close(NULL, file), 0);
        assert_int_equal(mode_of("new"), modes[i]);
    }
    (void)umask(mask);
    if (geteuid() == 0) {
        struct stat info;
        assert_int_equal(chown("old", 1234, 2345) | unlink("new"), 0);
        assert_int_equal(io->create_like(NULL, "new", "old", &file), 0);
        assert_int_equal(io->close(NULL, file), 0);
        assert_int_equal(stat("new", &info), 0);
        assert_true(info.st_uid == 1234 && info.st_gid == 2345);
    }
}

/* ---- locks of the file itself ---- */

static void test_hold(void **state)
{
    const nphd_io *io = nphdi_io_posix();
    nphd_file held;
    nphd_file other;

    (void)state;
    assert_int_equal(io->hold(NULL, "file", &held), ENOENT);
    assert_int_equal(held.handle, -1);
    put(io, NULL, "file", "");
    put(io, NULL, "next", "");
    assert_int_equal(chmod("file", 0400), 0);
    assert_int_equal(io->hold(NULL, "file", &held), 0);
    assert_int_equal(io->hold(NULL, "file", &other), EWOULDBLOCK);
    assert_int_equal(other.handle, -1);
    /* what takes its place is another file */
    assert_int_equal(rename("next", "file"), 0);
    assert_int_equal(io->hold(NULL, "file", &other), 0);
    assert_int_equal(io->close(NULL, other) | io->close(NULL, held), 0);
    assert_int_equal(io->hold(NULL, ".", &held), 0);
    assert_int_equal(io->hold(NULL, ".", &other), EWOULDBLOCK);
    assert_int_equal(io->close(NULL, held), 0);
}

static void test_lock_does_not_follow_links(void **state)
{
    const nphd_io *io = nphdi_io_posix();
    nphd_file file;

    (void)state;
    assert_int_equal(symlink("victim", "lock"), 0);
    assert_int_equal(io->lock(NULL, "lock", &file), ELOOP);
    assert_false(is_there("victim"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_root_stays_whatever_becomes_of_names, own_folder_enter,
                                        own_folder_leave),
        cmocka_unit_test_setup_teardown(test_root_of_a_deleted_directory, own_folder_enter,
                                        own_folder_leave),
        cmocka_unit_test_setup_teardown(test_look, own_folder_enter, own_folder_leave),
        cmocka_unit_test_setup_teardown(test_resolve, own_folder_enter, own_folder_leave),
        cmocka_unit_test_setup_teardown(test_create_like, own_folder_enter, own_folder_leave),
        cmocka_unit_test_setup_teardown(test_hold, own_folder_enter, own_folder_leave),
        cmocka_unit_test_setup_teardown(test_lock_does_not_follow_links, own_folder_enter,
                                        own_folder_leave),
    };

    return cmocka_run_group_tests_name("platform_names", tests, NULL, NULL);
}
