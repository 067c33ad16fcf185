/* As many directories in one process as its limit of descriptors allows: a handle that writes holds
 * two, a reader one, and none has a thread or a mapping while it is small. On files of the system.
 */
#include "support/own_folder.h"

#include <nphd/nphd.h>

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define OK(call) assert_int_equal(call, NPHD_OK)

typedef struct crowd {
    nphd_sharded **handles;
    size_t count;
} crowd;

static size_t wanted(void)
{
    const char *scale = getenv("NPHD_TEST_SCALE");

    return scale != NULL && strcmp(scale, "small") == 0 ? 50 : 1000;
}

static size_t entries(const char *folder)
{
    DIR *directory = opendir(folder);
    size_t count = 0;

    assert_non_null(directory);
    while (readdir(directory) != NULL) {
        count++;
    }
    (void)closedir(directory);
    return count;
}

static size_t descriptors(void)
{
    return entries("/proc/self/fd");
}

static nphd_status try_to_open(size_t number, bool read_only, nphd_sharded **out, nphd_error *err)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    char name[32];

    (void)snprintf(name, sizeof(name), "d%zu", number);
    options.max_bits = 64;
    options.read_only = read_only;
    return nphd_sharded_open(name, &options, out, err);
}

static nphd_status add(nphd_sharded *sharded, uint64_t key)
{
    uint8_t bits[8];

    memcpy(bits, &key, sizeof(bits));
    return nphd_sharded_add(sharded, nphd_key_u64(key), (nphd_vector){bits, 8}, NULL, NULL);
}

/* Opens until all are open or one cannot be. */
static crowd open_many(bool read_only, size_t count, nphd_error *err)
{
    crowd of = {calloc(count, sizeof(nphd_sharded *)), 0};

    assert_non_null(of.handles);
    while (of.count < count &&
           try_to_open(of.count, read_only, &of.handles[of.count], err) == NPHD_OK) {
        of.count++;
    }
    return of;
}

static void close_all(crowd *of)
{
    for (size_t i = 0; i < of->count; i++) {
        OK(nphd_sharded_close(of->handles[i], NULL));
        nphd_sharded_free(of->handles[i]);
    }
    free(of->handles);
}

static void limit_descriptors(rlim_t limit)
{
    struct rlimit now;

    assert_int_equal(getrlimit(RLIMIT_NOFILE, &now), 0);
    now.rlim_cur = limit < now.rlim_max ? limit : now.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
}

static void test_a_thousand_directories(void **state)
{
    nphd_error err = NPHD_ERROR_INIT;
    const size_t count = wanted();
    const size_t before = descriptors();
    const size_t threads = entries("/proc/self/task");

    (void)state;
    limit_descriptors(4096);
    for (int round = 0; round < 2; round++) { /* new ones, then such with a shard */
        crowd writers = open_many(false, count, &err);
        assert_int_equal(writers.count, count);
        for (size_t i = 0; i < count; i++) {
            OK(add(writers.handles[i], 1 + (uint64_t)round));
        }
        assert_true(descriptors() <= before + 2 * count);
        close_all(&writers);
        assert_int_equal(descriptors(), before);
    }
    crowd readers = open_many(true, count, &err);
    assert_int_equal(readers.count, count);
    assert_true(descriptors() <= before + count);
    assert_int_equal(entries("/proc/self/task"), threads);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(nphd_sharded_size(readers.handles[i]), 2);
    }
    close_all(&readers);
}

/* The one too many says what to do, and harms none of the others. */
static void test_no_descriptors_left(void **state)
{
    nphd_error err = NPHD_ERROR_INIT;
    crowd writers;

    (void)state;
    limit_descriptors(descriptors() + 38); /* three of those it counted are no more */
    writers = open_many(false, 100, &err);
    assert_in_range(writers.count, 15, 20);
    assert_int_equal(err.status, NPHD_IO);
    assert_int_equal(err.os_error, EMFILE);
    assert_non_null(strstr(err.text, "ulimit -n"));
    for (size_t i = 0; i < writers.count; i++) {
        OK(add(writers.handles[i], 1));
    }
    while (dup(0) >= 0) {
    }
    for (size_t i = 0; i < writers.count; i++) {
        assert_int_equal(nphd_sharded_save(writers.handles[i], NULL, &err), NPHD_IO);
        assert_int_equal(err.os_error, EMFILE);
        OK(add(writers.handles[i], 2));
    }
    limit_descriptors(4096);
    close_all(&writers);
    nphd_sharded *reader = NULL;
    OK(try_to_open(0, true, &reader, &err));
    assert_int_equal(nphd_sharded_size(reader), 2);
    nphd_sharded_free(reader);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_thousand_directories, own_folder_enter,
                                        own_folder_leave),
        cmocka_unit_test_setup_teardown(test_no_descriptors_left, own_folder_enter,
                                        own_folder_leave),
    };

    return cmocka_run_group_tests_name("many_directories", tests, NULL, NULL);
}
