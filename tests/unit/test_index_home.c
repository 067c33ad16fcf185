/* An index and the file that it was loaded from or saved to: what somebody else put there is not
 * overwritten unasked, whatever the path is called now; what a save replaces; and the lock of a
 * file. On files of the system. */
#include "index/index_shard.h"
#include "platform/platform.h"
#include "support/own_folder.h"

#include <nphd/nphd.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OK(call) assert_int_equal(call, NPHD_OK)

static void add(nphd_index *index, uint64_t key)
{
    const uint8_t bytes[8] = {(uint8_t)key};

    OK(nphd_index_add(index, nphd_key_u64(key), (nphd_vector){bytes, 8}, NULL, NULL));
}

static nphd_index *new_index(uint64_t key)
{
    nphd_index *index = NULL;

    OK(nphd_index_create(NULL, &index, NULL));
    add(index, key);
    return index;
}

static nphd_index *loaded(const char *path)
{
    nphd_index *index = NULL;

    OK(nphd_index_restore(path, false, NULL, &index, NULL));
    return index;
}

static size_t size_of(const char *path)
{
    nphd_index *index = loaded(path);
    const size_t size = nphd_index_size(index);

    nphd_index_close(index);
    return size;
}

static void save_over(nphd_index *index, const char *path)
{
    nphd_batch_options over = NPHD_BATCH_OPTIONS_INIT;

    over.overwrite = true;
    OK(nphd_index_save(index, path, &over, NULL));
}

static mode_t mode_of(const char *path)
{
    struct stat info;

    assert_int_equal(stat(path, &info), 0);
    return info.st_mode & 07777;
}

/* ---- somebody else's file ---- */

static void test_two_writers_of_one_file(void **state)
{
    nphd_index *first = new_index(1);
    nphd_index *second;
    nphd_error err = NPHD_ERROR_INIT;

    (void)state;
    OK(nphd_index_save(first, "a.usearch", NULL, NULL));
    second = loaded("./a.usearch");
    add(first, 2);
    add(second, 3);
    OK(nphd_index_save(second, "a.usearch", NULL, NULL));
    assert_int_equal(nphd_index_save(first, ".//a.usearch", NULL, &err), NPHD_CHANGED);
    assert_non_null(strstr(err.text, "a.usearch: another file is there"));
    assert_int_equal(nphd_index_dirty(first), 1);
    assert_int_equal(size_of("a.usearch"), 2);
    save_over(first, "a.usearch");
    assert_int_equal(nphd_index_dirty(first), 0);
    /* of the same generation, and yet another file */
    add(second, 4);
    assert_int_equal(nphd_index_save(second, "a.usearch", NULL, NULL), NPHD_CHANGED);
    OK(nphd_index_save(second, "b.usearch", NULL, NULL)); /* another name */
    OK(nphd_index_save(first, "b.usearch", NULL, NULL));  /* which `first` does not know */
    assert_int_equal(size_of("b.usearch"), 2);
    nphd_index_close(second);
    nphd_index_close(first);
}

static void test_the_same_file_is_saved_again(void **state)
{
    nphd_index *index = new_index(1);
    nphd_index *fresh = new_index(9);

    (void)state;
    OK(nphd_index_save(index, "a.usearch", NULL, NULL));
    OK(nphd_index_save(index, "a.usearch", NULL, NULL));
    /* as whole as it was: copied back, touched, made readable for others */
    assert_int_equal(system("cp a.usearch b && mv b a.usearch && touch a.usearch"), 0);
    assert_int_equal(chmod("a.usearch", 0640), 0);
    add(index, 2);
    OK(nphd_index_save(index, "a.usearch", NULL, NULL));
    assert_int_equal(unlink("a.usearch"), 0); /* nothing to lose: it is made anew */
    OK(nphd_index_save(index, "a.usearch", NULL, NULL));
    OK(nphd_index_save(fresh, "a.usearch", NULL, NULL)); /* a new index replaces what is there */
    assert_int_equal(size_of("a.usearch"), 1);
    assert_int_equal(nphd_index_save(index, "a.usearch", NULL, NULL), NPHD_CHANGED);
    OK(nphd_index_load(index, "a.usearch", NULL, NULL));
    OK(nphd_index_save(index, "a.usearch", NULL, NULL));
    nphd_index_close(fresh);
    nphd_index_close(index);
}

/* Without a trailer the content says little: what the system tells of the file counts. */
static void test_a_file_without_trailer_changes(void **state)
{
    nphd_index *index = new_index(1);
    nphdi_trailer trailer;
    bool found = false;

    (void)state;
    OK(nphd_index_save(index, "r.usearch", NULL, NULL));
    nphd_index_close(index);
    OK(nphdi_file_trailer(nphdi_io_posix(), "r.usearch", &trailer, &found, NULL));
    assert_true(found);
    assert_int_equal(truncate("r.usearch", (off_t)trailer.foreign_bytes), 0);
    index = loaded("r.usearch");
    assert_int_equal(system("cp r.usearch s && mv s r.usearch"), 0);
    assert_int_equal(nphd_index_save(index, "r.usearch", NULL, NULL), NPHD_CHANGED);
    OK(nphd_index_load(index, "r.usearch", NULL, NULL));
    OK(nphd_index_save(index, "r.usearch", NULL, NULL));
    OK(nphd_index_save(index, "r.usearch", NULL, NULL));
    nphd_index_close(index);
}

static void test_the_path_is_absolute(void **state)
{
    nphd_index *index = new_index(1);
    nphd_index *other = new_index(2);

    (void)state;
    assert_int_equal(mkdir("d", 0777), 0);
    OK(nphd_index_save(index, "a.usearch", NULL, NULL));
    assert_int_equal(chdir("d"), 0);
    OK(nphd_index_save(other, "a.usearch", NULL, NULL));
    add(index, 3);
    OK(nphd_index_save(index, "../a.usearch", NULL, NULL));
    OK(nphd_index_save(other, "../a.usearch", NULL, NULL)); /* known by nobody under this name */
    assert_int_equal(nphd_index_save(index, "../d/../a.usearch", NULL, NULL), NPHD_CHANGED);
    nphd_index_close(index);
    nphd_index_close(other);
}

/* ---- what a save replaces ---- */

static void test_a_save_replaces_files_only(void **state)
{
    nphd_index *index = new_index(1);
    nphd_error err = NPHD_ERROR_INIT;
    struct stat info;

    (void)state;
    assert_int_equal(mkfifo("pipe", 0600) | mkdir("folder", 0777), 0);
    assert_int_equal(nphd_index_save(index, "pipe", NULL, &err), NPHD_IO);
    assert_non_null(strstr(err.text, "pipe: is a device, a pipe or a socket"));
    assert_int_equal(stat("pipe", &info), 0);
    assert_true(S_ISFIFO(info.st_mode));
    assert_int_equal(nphd_index_save(index, "folder", NULL, &err), NPHD_IO);
    assert_non_null(strstr(err.text, "folder: cannot be replaced"));
    assert_int_equal(nphd_index_save(index, "/dev/null", NULL, &err), NPHD_IO);
    assert_int_equal(system("[ $(ls | wc -l) = 2 ]"), 0); /* no temporary file */
    nphd_index_close(index);
}

static void test_a_save_follows_links(void **state)
{
    nphd_index *index = new_index(1);
    struct stat info;

    (void)state;
    assert_int_equal(mkdir("d", 0777) | symlink("d/real.usearch", "link.usearch"), 0);
    OK(nphd_index_save(index, "link.usearch", NULL, NULL)); /* the target is not there yet */
    add(index, 2);
    OK(nphd_index_save(index, "d/real.usearch", NULL, NULL));
    add(index, 3);
    OK(nphd_index_save(index, "link.usearch", NULL, NULL));
    assert_int_equal(lstat("link.usearch", &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    assert_int_equal(size_of("d/real.usearch"), 3);
    nphd_index_close(index);
}

/* The name means another file by now, which somebody else wrote. */
static void test_a_link_that_was_changed(void **state)
{
    nphd_index *index = new_index(1);
    nphd_index *other = new_index(2);
    nphd_batch_options overwrite = NPHD_BATCH_OPTIONS_INIT;

    (void)state;
    assert_int_equal(symlink("monday.usearch", "today.usearch"), 0);
    OK(nphd_index_save(index, "today.usearch", NULL, NULL));
    OK(nphd_index_save(other, "tuesday.usearch", NULL, NULL));
    assert_int_equal(unlink("today.usearch") | symlink("tuesday.usearch", "today.usearch"), 0);
    add(index, 3);
    assert_int_equal(nphd_index_save(index, "today.usearch", NULL, NULL), NPHD_CHANGED);
    assert_int_equal(size_of("tuesday.usearch"), 1);
    OK(nphd_index_save(index, "monday.usearch", NULL, NULL));
    overwrite.overwrite = true;
    OK(nphd_index_save(index, "today.usearch", &overwrite, NULL));
    assert_int_equal(size_of("tuesday.usearch"), 2);
    /* to where nothing is: nothing can be lost */
    assert_int_equal(unlink("today.usearch") | symlink("friday.usearch", "today.usearch"), 0);
    OK(nphd_index_save(index, "today.usearch", NULL, NULL));
    nphd_index_close(index);
    nphd_index_close(other);
}

static void test_a_save_keeps_permissions(void **state)
{
    nphd_index *index = new_index(1);
    const mode_t mask = umask(022);

    (void)state;
    OK(nphd_index_save(index, "a.usearch", NULL, NULL));
    assert_int_equal(mode_of("a.usearch"), 0644);
    assert_int_equal(chmod("a.usearch", 0600), 0);
    OK(nphd_index_save(index, "a.usearch", NULL, NULL));
    assert_int_equal(mode_of("a.usearch"), 0600);
    (void)umask(mask);
    nphd_index_close(index);
}

/* ---- names ---- */

static void test_long_names(void **state)
{
    nphd_index *index = new_index(1);
    char name[300];

    (void)state;
    for (int bytes = 230; bytes <= 255; bytes++) {
        memset(name, 'x', sizeof(name));
        memcpy(name + bytes - 8, ".usearch", 9);
        OK(nphd_index_save(index, name, NULL, NULL));
        OK(nphd_index_save(index, name, NULL, NULL));
        assert_int_equal(size_of(name), 1);
    }
    memset(name, 'x', sizeof(name));
    name[256] = '\0';
    assert_int_equal(nphd_index_save(index, name, NULL, NULL), NPHD_IO);
    assert_int_equal(system("[ $(ls | wc -l) = 26 ]"), 0);
    nphd_index_close(index);
}

/* ---- the lock ---- */

static void test_lock(void **state)
{
    nphd_index *index = new_index(1);
    nphd_lock *lock = NULL;
    nphd_lock *other = NULL;
    nphd_error err = NPHD_ERROR_INIT;

    (void)state;
    nphd_lock_release(NULL);
    assert_int_equal(nphd_lock_acquire("", NULL, &lock, &err), NPHD_INVALID_ARGUMENT);
    assert_int_equal(nphd_lock_acquire("a", NULL, NULL, &err), NPHD_INVALID_ARGUMENT);
    assert_int_equal(nphd_lock_acquire("no/a.usearch", NULL, &lock, &err), NPHD_NOT_FOUND);
    /* not there yet: its directory is locked */
    OK(nphd_lock_acquire("a.usearch", NULL, &lock, NULL));
    assert_int_equal(nphd_lock_acquire("./a.usearch", NULL, &other, &err), NPHD_BUSY);
    assert_non_null(strstr(err.text, "./a.usearch: "));
    assert_null(other);
    OK(nphd_index_save(index, "a.usearch", NULL, NULL));
    /* there now: it has a lock of its own */
    OK(nphd_lock_acquire("a.usearch", NULL, &other, NULL));
    nphd_lock_release(lock);
    assert_int_equal(nphd_lock_acquire("a.usearch", NULL, &lock, NULL), NPHD_BUSY);
    /* a save puts another file there, which is free for the next */
    OK(nphd_index_save(index, "a.usearch", NULL, NULL));
    OK(nphd_lock_acquire("a.usearch", NULL, &lock, NULL));
    nphd_lock_release(other);
    assert_int_equal(nphd_lock_acquire("a.usearch", NULL, &other, NULL), NPHD_BUSY);
    nphd_lock_release(lock);
    assert_int_equal(symlink("a.usearch", "link.usearch"), 0);
    OK(nphd_lock_acquire("link.usearch", NULL, &lock, NULL));
    assert_int_equal(nphd_lock_acquire("a.usearch", NULL, &other, NULL), NPHD_BUSY);
    nphd_lock_release(lock);
    nphd_index_close(index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_two_writers_of_one_file, own_folder_enter,
                                        own_folder_leave),
        cmocka_unit_test_setup_teardown(test_the_same_file_is_saved_again, own_folder_enter,
                                        own_folder_leave),
        cmocka_unit_test_setup_teardown(test_a_file_without_trailer_changes, own_folder_enter,
                                        own_folder_leave),
        cmocka_unit_test_setup_teardown(test_the_path_is_absolute, own_folder_enter,
                                        own_folder_leave),
        cmocka_unit_test_setup_teardown(test_a_save_replaces_files_only, own_folder_enter,
                                        own_folder_leave),
        cmocka_unit_test_setup_teardown(test_a_save_follows_links, own_folder_enter,
                                        own_folder_leave),
        cmocka_unit_test_setup_teardown(test_a_link_that_was_changed, own_folder_enter,
                                        own_folder_leave),
        cmocka_unit_test_setup_teardown(test_a_save_keeps_permissions, own_folder_enter,
                                        own_folder_leave),
        cmocka_unit_test_setup_teardown(test_long_names, own_folder_enter, own_folder_leave),
        cmocka_unit_test_setup_teardown(test_lock, own_folder_enter, own_folder_leave),
    };

    return cmocka_run_group_tests_name("index_home", tests, NULL, NULL);
}
