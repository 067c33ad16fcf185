/* Readers beside a writer: each sees one whole state and keeps it until it asks for a newer one,
 * and leaves no trace in the directory. */
#include "support/directory_content.h"
#include "support/place.h"
#include "support/test_random.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

static nphd_sharded *open_with(const place *here, bool read_only, bool journal)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    nphd_sharded *sharded = NULL;
    nphd_error err = NPHD_ERROR_INIT;

    options.read_only = read_only;
    options.journal = journal;
    options.max_bits = read_only ? 0 : 64;
    options.logger = place_quiet;
    if (nphd_sharded_open(here->index, &options, &sharded, &err) != NPHD_OK) {
        fail_msg("open: %s", err.text);
    }
    return sharded;
}

static void add(nphd_sharded *sharded, uint64_t from, uint64_t to)
{
    for (uint64_t key = from; key < to; key++) {
        const nphd_vector vector = {(const uint8_t *)&key, 8};
        OK(nphd_sharded_add(sharded, nphd_key_u64(key), vector, NULL, NULL));
    }
}

static void remove_keys(nphd_sharded *sharded, uint64_t from, uint64_t to)
{
    for (uint64_t number = from; number < to; number++) {
        const nphd_key key = nphd_key_u64(number);
        OK(nphd_sharded_remove(sharded, &key, 1, NULL, NULL));
    }
}

static void must_close(nphd_sharded *sharded)
{
    OK(nphd_sharded_close(sharded, NULL));
    nphd_sharded_free(sharded);
}

/* ---- one whole state, kept ---- */

static void write_something(nphd_sharded *writer, unsigned step)
{
    switch (step) {
    case 0:
        add(writer, 100, 120);
        OK(nphd_sharded_commit(writer, NULL));
        break;
    case 1:
        remove_keys(writer, 0, 5);
        OK(nphd_sharded_save(writer, NULL, NULL));
        break;
    case 2:
        OK(nphd_sharded_rotate(writer, NULL));
        add(writer, 200, 220);
        OK(nphd_sharded_commit(writer, NULL));
        break;
    case 3:
        remove_keys(writer, 5, 90);
        OK(nphd_sharded_commit(writer, NULL));
        break;
    case 4:
        OK(nphd_sharded_compact(writer, NULL, NULL, NULL));
        break;
    case 5:
        OK(nphd_sharded_reset(writer, NULL));
        add(writer, 1000, 1010);
        OK(nphd_sharded_save(writer, NULL, NULL));
        break;
    default:
        OK(nphd_sharded_rebuild_bloom(writer, NULL, NULL));
        break;
    }
}

static void test_state_is_kept(void **state)
{
    const place *here = *state;
    nphd_sharded *writer = open_with(here, false, true);
    directory_content kept = {NULL, 0, 0, 0};
    directory_content now = {NULL, 0, 0, 0};
    bool changed = true;

    add(writer, 0, 100);
    OK(nphd_sharded_rotate(writer, NULL));
    nphd_sharded *reader = open_with(here, true, false);
    nphd_sharded *lazy = open_with(here, true, false);
    OK(nphd_sharded_refresh(reader, &changed, NULL));
    assert_false(changed);
    OK(nphd_sharded_refresh(writer, &changed, NULL)); /* nothing to do */
    assert_false(changed);
    content_take(lazy, &kept);
    for (unsigned step = 0; step < 7; step++) {
        content_take(reader, &now);
        write_something(writer, step);
        content_expect(reader, &now);
        content_expect(lazy, &kept);
        OK(nphd_sharded_refresh(reader, &changed, NULL));
        assert_true(changed || step >= 4); /* which change no vector */
        content_take(writer, &now);
        content_expect(reader, &now);
        OK(nphd_sharded_refresh(reader, &changed, NULL));
        assert_false(changed);
    }
    must_close(writer);
    content_expect(reader, &now);
    OK(nphd_sharded_refresh(lazy, NULL, NULL));
    content_expect(lazy, &now);
    must_close(lazy);
    OK(nphd_sharded_close(reader, NULL));
    assert_int_equal(nphd_sharded_refresh(reader, NULL, NULL), NPHD_CLOSED);
    nphd_sharded_free(reader);
    content_free(&kept);
    content_free(&now);
}

/* Searches on many threads while the reader moves: each sees a state, and none is freed beneath. */
typedef struct searcher {
    nphd_sharded *reader;
    atomic_bool stop;
    atomic_ulong wrong;
} searcher;

static void *search_often(void *context)
{
    searcher *of = context;
    nphd_match match;
    nphd_search_report report;

    for (uint64_t key = 0; !atomic_load(&of->stop); key = (key + 1) % 100) {
        const nphd_vector query = {(const uint8_t *)&key, 8};
        if (nphd_sharded_search(of->reader, query, 1, NULL, &match, &report, NULL) != NPHD_OK ||
            report.count != 1 || match.key.low != key) {
            (void)atomic_fetch_add(&of->wrong, 1);
        }
    }
    return NULL;
}

static void test_searches_while_moving(void **state)
{
    const place *here = *state;
    nphd_sharded *writer = open_with(here, false, true);
    searcher of;
    pthread_t threads[2];

    add(writer, 0, 100);
    OK(nphd_sharded_save(writer, NULL, NULL));
    of.reader = open_with(here, true, false);
    atomic_init(&of.stop, false);
    atomic_init(&of.wrong, 0);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, search_often, &of), 0);
    }
    for (uint64_t round = 0; round < 60; round++) {
        add(writer, 1000 + 10 * round, 1010 + 10 * round);
        OK(round % 3 == 0 ? nphd_sharded_rotate(writer, NULL) : nphd_sharded_commit(writer, NULL));
        OK(nphd_sharded_refresh(of.reader, NULL, NULL));
        assert_int_equal(nphd_sharded_size(of.reader), 110 + 10 * round);
    }
    atomic_store(&of.stop, true);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_int_equal(atomic_load(&of.wrong), 0);
    must_close(of.reader);
    must_close(writer);
}

/* ---- opening while files change all the time ---- */

/* Between any two states that can be read, keys round..round+99 and no others are there. */
static void work_round(nphd_sharded *writer, uint64_t round)
{
    nphd_key gone = nphd_key_u64(round);
    const uint64_t key = round + 100;
    const nphd_vector vector = {(const uint8_t *)&key, 8};

    OK(nphd_sharded_add(writer, nphd_key_u64(key), vector, NULL, NULL));
    OK(nphd_sharded_remove(writer, &gone, 1, NULL, NULL));
    switch (round % 4) {
    case 0:
        OK(nphd_sharded_rotate(writer, NULL));
        break;
    case 1:
        OK(nphd_sharded_commit(writer, NULL));
        break;
    case 2:
        OK(nphd_sharded_save(writer, NULL, NULL));
        break;
    default:
        OK(nphd_sharded_compact(writer, NULL, NULL, NULL));
        break;
    }
}

/* Returns the round. */
static uint64_t expect_some_round(nphd_sharded *reader)
{
    directory_content content = {NULL, 0, 0, 0};

    content_take(reader, &content);
    const size_t count = content.count;
    const uint64_t first = count > 0 ? content.entries[0].key.low : 0;
    const uint64_t last = count > 0 ? content.entries[count - 1].key.low : 0;
    content_free(&content);
    assert_int_equal(count, 100);
    assert_int_equal(last - first, 99);
    return first;
}

typedef struct worker {
    nphd_sharded *writer;
    atomic_bool stop;
    uint64_t rounds;
} worker;

static void *work(void *context)
{
    worker *of = context;

    while (!atomic_load(&of->stop)) {
        work_round(of->writer, of->rounds++);
    }
    return NULL;
}

/* Until the writer has come to that round. */
static void read_often(const place *here)
{
    const uint64_t last = getenv("NPHD_TEST_SCALE") != NULL ? 12 : 60;
    nphd_sharded *moving = open_with(here, true, false);
    uint64_t seen = 0;

    while (seen < last) {
        nphd_sharded *reader = open_with(here, true, false);
        const uint64_t opened = expect_some_round(reader);
        assert_true(opened >= seen); /* never back */
        OK(nphd_sharded_refresh(moving, NULL, NULL));
        seen = expect_some_round(moving);
        assert_true(seen >= opened);
        assert_int_equal(expect_some_round(reader), opened);
        must_close(reader);
    }
    must_close(moving);
}

static void test_thread_that_writes(void **state)
{
    const place *here = *state;
    worker of = {open_with(here, false, true), false, 0};
    pthread_t thread;

    add(of.writer, 0, 100);
    OK(nphd_sharded_save(of.writer, NULL, NULL));
    assert_int_equal(pthread_create(&thread, NULL, work, &of), 0);
    read_often(here);
    atomic_store(&of.stop, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    must_close(of.writer);
}

static void write_until_told(const place *here, int told)
{
    nphd_sharded *writer = open_with(here, false, true);
    char byte;

    for (uint64_t round = 0; read(told, &byte, 1) < 0; round++) {
        work_round(writer, round);
    }
    must_close(writer);
    _exit(0);
}

static void test_process_that_writes(void **state)
{
    const place *here = *state;
    nphd_sharded *writer = open_with(here, false, true);
    int ends[2];
    int status = 1;

    add(writer, 0, 100);
    must_close(writer);
    assert_int_equal(pipe(ends), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)close(ends[1]);
        assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
        write_until_told(here, ends[0]);
    }
    (void)close(ends[0]);
    read_often(here);
    (void)close(ends[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* ---- no trace ---- */

typedef struct listing {
    char text[4096];
} listing;

static void list(const place *here, listing *out)
{
    struct dirent **entries = NULL;
    const int count = scandir(here->index, &entries, NULL, alphasort);
    size_t used = 0;

    memset(out, 0, sizeof(*out));
    assert_true(count > 0);
    for (int i = 0; i < count; i++) {
        char path[400];
        struct stat status;
        (void)snprintf(path, sizeof(path), "%s/%s", here->index, entries[i]->d_name);
        assert_int_equal(stat(path, &status), 0);
        used += (size_t)snprintf(out->text + used, sizeof(out->text) - used,
                                 "%s %lld %lld.%09ld %o\n", entries[i]->d_name,
                                 (long long)status.st_size, (long long)status.st_mtim.tv_sec,
                                 status.st_mtim.tv_nsec, status.st_mode);
        free(entries[i]);
    }
    free(entries);
}

static void leave_journal(const place *here)
{
    nphd_sharded *writer = open_with(here, false, true);

    add(writer, 0, 50);
    OK(nphd_sharded_rotate(writer, NULL));
    add(writer, 50, 60);
    remove_keys(writer, 0, 10);
    OK(nphd_sharded_save(writer, NULL, NULL));
    add(writer, 60, 70);
    OK(nphd_sharded_commit(writer, NULL));
    nphd_sharded_free(writer);
}

static void read_all(const place *here)
{
    nphd_sharded *reader = open_with(here, true, false);

    assert_int_equal(nphd_sharded_size(reader), 60);
    OK(nphd_sharded_refresh(reader, NULL, NULL));
    must_close(reader);
}

static void test_no_trace(void **state)
{
    const place *here = *state;
    listing before;
    listing after;
    char path[128];

    leave_journal(here);
    (void)snprintf(path, sizeof(path), "%s/bloom.isbf", here->index);
    for (int round = 0; round < 2; round++) {
        list(here, &before);
        read_all(here);
        list(here, &after);
        assert_string_equal(before.text, after.text);
        assert_int_equal(round == 0 ? remove(path) : 0, 0); /* nor is a lost filter made anew */
    }
}

/* For root every directory may be written, so that a child gives that up. */
static void test_without_permission(void **state)
{
    const place *here = *state;
    int status = 1;

    leave_journal(here);
    assert_int_equal(chmod(here->path, 0755), 0);
    assert_int_equal(chmod(here->index, 0555), 0);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
        nphd_sharded *sharded = NULL;
        if (geteuid() == 0 && setuid(65534) != 0) {
            _exit(0);
        }
        read_all(here);
        _exit(nphd_sharded_open(here->index, &options, &sharded, NULL) == NPHD_IO ? 0 : 2);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(chmod(here->index, 0755), 0);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLACE_TEST(test_state_is_kept),      PLACE_TEST(test_searches_while_moving),
        PLACE_TEST(test_thread_that_writes), PLACE_TEST(test_process_that_writes),
        PLACE_TEST(test_no_trace),           PLACE_TEST(test_without_permission),
    };

    return cmocka_run_group_tests_name("readers", tests, NULL, NULL);
}
