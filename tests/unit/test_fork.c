/* A handle in a child process made by fork(): a directory that was opened for writing is changed
 * by its opener alone, and the child's close writes nothing and waits for nobody; readers and
 * indexes in memory go on; whatever another thread was doing at that moment, no call hangs. */
#include "support/directory_content.h"
#include "support/place.h"
#include "support/test_random.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

#define VECTORS 400
#define BYTES 32
#define HUNG_S 30

/* The vector of a key; it begins with the key, so that no two are equal. */
static nphd_vector vector_of(uint64_t key, uint8_t *octets)
{
    uint64_t state = key * 0x9e3779b97f4a7c15U + 1;

    for (size_t i = 0; i < BYTES; i++) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        octets[i] = i < 8 ? (uint8_t)(key >> (8 * i)) : (uint8_t)(state >> 56);
    }
    return (nphd_vector){octets, BYTES};
}

static nphd_key key_of(uint64_t number)
{
    return (nphd_key){.low = number};
}

static nphd_sharded *open_directory(const place *here, nphd_sharded_options options)
{
    nphd_sharded *sharded = NULL;

    options.logger = place_quiet;
    OK(nphd_sharded_open(here->index, &options, &sharded, NULL));
    return sharded;
}

static void fill(nphd_sharded *sharded, uint64_t from, uint64_t to)
{
    uint8_t octets[BYTES];

    for (uint64_t key = from; key < to; key++) {
        OK(nphd_sharded_add(sharded, key_of(key), vector_of(key, octets), NULL, NULL));
    }
}

/* Runs `work` in a child, which must end by itself with status 0. */
#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (void)fprintf(stderr, "child: line %d: %s\n", __LINE__, #condition);                   \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

static int in_child(void (*work)(void *context), void *context)
{
    const pid_t child = fork();
    int status = 0;

    assert_true(child >= 0);
    if (child == 0) {
        (void)alarm(HUNG_S);
        work(context);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

/* ---- directories ---- */

typedef struct scene {
    const place *here;
    nphd_sharded *sharded;
} scene;

static void expect_found(nphd_sharded *sharded, uint64_t key)
{
    uint8_t octets[BYTES];
    uint8_t stored[BYTES];
    size_t bytes = 0;
    nphd_match match;
    nphd_search_options exact = NPHD_SEARCH_OPTIONS_INIT;
    const nphd_vector vector = vector_of(key, octets);
    bool found = false;

    exact.mode = NPHD_SEARCH_EXACT;
    EXPECT(nphd_sharded_contains(sharded, key_of(key), &found, NULL) == NPHD_OK && found);
    EXPECT(nphd_sharded_get(sharded, key_of(key), stored, BYTES, &bytes, NULL) == NPHD_OK);
    EXPECT(bytes == BYTES && memcmp(stored, octets, BYTES) == 0);
    EXPECT(nphd_sharded_search(sharded, vector, 1, &exact, &match, NULL, NULL) == NPHD_OK);
    EXPECT(match.key.low == key && match.distance == 0.0F);
}

static void expect_refused(nphd_sharded *sharded, const place *here)
{
    uint8_t octets[BYTES];
    const nphd_vector vector = vector_of(7000, octets);
    const nphd_key key = key_of(7000);
    char elsewhere[96];
    nphd_error err = NPHD_ERROR_INIT;

    (void)snprintf(elsewhere, sizeof(elsewhere), "%s/copy", here->path);
    EXPECT(nphd_sharded_add(sharded, key, vector, NULL, &err) == NPHD_FORKED);
    EXPECT(strstr(err.text, here->index) != NULL && strstr(err.text, "forked") != NULL);
    EXPECT(nphd_sharded_add_many(sharded, &key, &vector, 1, NULL, NULL, NULL, NULL) == NPHD_FORKED);
    EXPECT(nphd_sharded_add_once(sharded, &key, &vector, 1, NULL, NULL, NULL, NULL) == NPHD_FORKED);
    EXPECT(nphd_sharded_upsert(sharded, &key, &vector, 1, NULL, NULL, NULL) == NPHD_FORKED);
    EXPECT(nphd_sharded_remove(sharded, &key, 1, NULL, NULL) == NPHD_FORKED);
    EXPECT(nphd_sharded_reset(sharded, NULL) == NPHD_FORKED);
    EXPECT(nphd_sharded_commit(sharded, NULL) == NPHD_FORKED);
    EXPECT(nphd_sharded_save(sharded, NULL, NULL) == NPHD_FORKED);
    EXPECT(nphd_sharded_rotate(sharded, NULL) == NPHD_FORKED);
    EXPECT(nphd_sharded_drain(sharded, 0, NULL) == NPHD_FORKED);
    EXPECT(nphd_sharded_compact(sharded, NULL, NULL, NULL) == NPHD_FORKED);
    EXPECT(nphd_sharded_rebuild_bloom(sharded, NULL, NULL) == NPHD_FORKED);
    EXPECT(nphd_sharded_snapshot(sharded, elsewhere, NULL) == NPHD_FORKED);
    EXPECT(nphd_sharded_prepare(sharded, 1, NULL) == NPHD_FORKED);
    EXPECT(nphd_sharded_set_breadth(sharded, 9, 9, NULL) == NPHD_FORKED);
    EXPECT(nphd_sharded_refresh(sharded, NULL, NULL) == NPHD_FORKED);
}

static void child_of_writer(void *context)
{
    const scene *of = context;
    nphd_sharded_stats stats = NPHD_SHARDED_STATS_INIT;
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    nphd_sharded *second = NULL;
    uint64_t size = nphd_sharded_size(of->sharded);

    expect_refused(of->sharded, of->here);
    expect_found(of->sharded, 3);
    expect_found(of->sharded, size - 1);
    EXPECT(nphd_sharded_get_stats(of->sharded, &stats, NULL) == NPHD_OK && stats.size == size);
    EXPECT(nphd_sharded_close(of->sharded, NULL) == NPHD_OK);
    EXPECT(nphd_sharded_add(of->sharded, key_of(1), (nphd_vector){0}, NULL, NULL) == NPHD_FORKED);
    nphd_sharded_free(of->sharded);
    /* the parent's lock has not gone with that */
    options.logger = place_quiet;
    EXPECT(nphd_sharded_open(of->here->index, &options, &second, NULL) == NPHD_BUSY);
    options.read_only = true;
    EXPECT(nphd_sharded_open(of->here->index, &options, &second, NULL) == NPHD_OK);
    nphd_sharded_free(second);
}

static void writer_scene(const place *here, nphd_sharded_options options)
{
    scene of = {here, open_directory(here, options)};
    nphd_sharded_options again = NPHD_SHARDED_OPTIONS_INIT;
    nphd_sharded *reader;

    fill(of.sharded, 0, VECTORS / 2);
    OK(nphd_sharded_save(of.sharded, NULL, NULL));
    fill(of.sharded, VECTORS / 2, VECTORS);
    assert_int_equal(in_child(child_of_writer, &of), 0);
    /* the parent goes on, and all that it was told is done is there */
    fill(of.sharded, VECTORS, VECTORS + 50);
    OK(nphd_sharded_commit(of.sharded, NULL));
    assert_int_equal(in_child(child_of_writer, &of), 0);
    OK(nphd_sharded_close(of.sharded, NULL));
    nphd_sharded_free(of.sharded);
    again.read_only = true;
    reader = open_directory(here, again);
    assert_int_equal(nphd_sharded_size(reader), VECTORS + 50);
    nphd_sharded_free(reader);
    OK(nphd_directory_verify(here->index, NULL, NULL, NULL, NULL, NULL));
}

static void test_forked_writer(void **state)
{
    const nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;

    writer_scene(*state, options);
}

static void test_forked_writer_with_a_journal(void **state)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;

    options.commit_each_call = true;
    writer_scene(*state, options);
}

static void test_forked_writer_with_threads(void **state)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;

    options.background_rotation = true;
    options.shard_bytes = 16384;
    options.commit_interval_ms = 1;
    writer_scene(*state, options);
}

/* A child's free without a close before it. */
static void child_frees(void *context)
{
    nphd_sharded_free(((const scene *)context)->sharded);
}

static void test_free_in_a_child(void **state)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    scene of = {*state, NULL};

    options.background_rotation = true;
    options.shard_bytes = 16384;
    options.commit_interval_ms = 1000;
    of.sharded = open_directory(*state, options);
    fill(of.sharded, 0, VECTORS);
    assert_int_equal(in_child(child_frees, &of), 0);
    OK(nphd_sharded_close(of.sharded, NULL));
    nphd_sharded_free(of.sharded);
}

/* Handles of its own are a child's as any others; a grandchild has neither its nor the first. */
static void grandchild(void *context)
{
    const scene *of = context;
    uint8_t octets[BYTES];

    for (int i = 0; i < 2; i++) {
        EXPECT(nphd_sharded_add(of[i].sharded, key_of(1), vector_of(1, octets), NULL, NULL) ==
               NPHD_FORKED);
        EXPECT(nphd_sharded_close(of[i].sharded, NULL) == NPHD_OK);
        nphd_sharded_free(of[i].sharded);
    }
}

static void child_opens(void *context)
{
    const scene *of = context;
    place other;
    scene both[2] = {*of, {&other, NULL}};
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    int status = 0;
    pid_t next;

    (void)snprintf(other.path, sizeof(other.path), "%s", of->here->path);
    (void)snprintf(other.index, sizeof(other.index), "%s/b", of->here->path);
    options.logger = place_quiet;
    EXPECT(nphd_sharded_open(other.index, &options, &both[1].sharded, NULL) == NPHD_OK);
    fill(both[1].sharded, 0, 10);
    expect_refused(of->sharded, of->here);
    next = fork();
    if (next == 0) {
        (void)alarm(HUNG_S);
        grandchild(both);
        _exit(0);
    }
    EXPECT(waitpid(next, &status, 0) == next && status == 0);
    EXPECT(nphd_sharded_close(both[1].sharded, NULL) == NPHD_OK);
    nphd_sharded_free(both[1].sharded);
}

static void test_handles_of_a_child(void **state)
{
    const nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    scene of = {*state, open_directory(*state, options)};

    fill(of.sharded, 0, 20);
    assert_int_equal(in_child(child_opens, &of), 0);
    assert_int_equal(in_child(child_opens, &of), 0);
    nphd_sharded_free(of.sharded);
}

/* A reader goes on in the child, to newer states too. */
static void child_of_reader(void *context)
{
    const scene *of = context;
    bool changed = false;

    expect_found(of->sharded, 3);
    EXPECT(nphd_sharded_size(of->sharded) == 50);
    EXPECT(nphd_sharded_refresh(of->sharded, &changed, NULL) == NPHD_OK && changed);
    EXPECT(nphd_sharded_size(of->sharded) == 100);
    expect_found(of->sharded, 99);
    EXPECT(nphd_sharded_prepare(of->sharded, 2, NULL) == NPHD_OK);
    EXPECT(nphd_sharded_close(of->sharded, NULL) == NPHD_OK);
    nphd_sharded_free(of->sharded);
}

static void test_forked_reader(void **state)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    nphd_sharded *writer = open_directory(*state, options);
    scene of = {*state, NULL};

    fill(writer, 0, 50);
    OK(nphd_sharded_save(writer, NULL, NULL));
    options.read_only = true;
    of.sharded = open_directory(*state, options);
    fill(writer, 50, 100);
    OK(nphd_sharded_save(writer, NULL, NULL));
    assert_int_equal(in_child(child_of_reader, &of), 0);
    assert_int_equal(nphd_sharded_size(of.sharded), 50);
    nphd_sharded_free(of.sharded);
    nphd_sharded_free(writer);
}

/* ---- one index ---- */

static nphd_index *filled_index(uint64_t vectors)
{
    nphd_index *index = NULL;
    uint8_t octets[BYTES];

    OK(nphd_index_create(NULL, &index, NULL));
    for (uint64_t key = 0; key < vectors; key++) {
        OK(nphd_index_add(index, key_of(key), vector_of(key, octets), NULL, NULL));
    }
    return index;
}

static void child_of_index(void *context)
{
    nphd_index *index = context;
    nphd_vector vectors[64];
    uint8_t octets[64][BYTES];
    nphd_match matches[64];
    nphd_search_report reports[64];
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;

    options.threads = 2;
    for (uint64_t i = 0; i < 64; i++) {
        vectors[i] = vector_of(i, octets[i]);
    }
    EXPECT(nphd_index_search_many(index, vectors, 64, 1, &options, matches, reports, NULL) ==
           NPHD_OK);
    EXPECT(matches[63].key.low == 63);
    EXPECT(nphd_index_add(index, key_of(9000), vector_of(9000, octets[0]), NULL, NULL) == NPHD_OK);
    EXPECT(nphd_index_size(index) == VECTORS + 1);
    EXPECT(nphd_index_prepare(index, 2, NULL) == NPHD_OK);
    nphd_index_close(index);
}

static void test_forked_index(void **state)
{
    nphd_index *index = filled_index(VECTORS);

    (void)state;
    assert_int_equal(in_child(child_of_index, index), 0);
    assert_int_equal(nphd_index_size(index), VECTORS);
    nphd_index_close(index);
}

/* ---- while other threads are inside ---- */

typedef struct busy {
    nphd_index *index;
    nphd_sharded *sharded;
    bool changes;
    _Atomic bool stop;
    _Atomic uint64_t calls;
} busy;

static void *keep_busy(void *context)
{
    busy *of = context;
    uint8_t octets[BYTES];
    nphd_match match[4];
    nphd_search_report report;

    for (uint64_t key = 100000; !atomic_load(&of->stop); key++) {
        const nphd_vector vector = vector_of(key, octets);
        const nphd_key at = key_of(key);
        if (of->sharded != NULL && of->changes) {
            (void)nphd_sharded_add(of->sharded, at, vector, NULL, NULL);
        } else if (of->sharded != NULL) {
            (void)nphd_sharded_search(of->sharded, vector, 4, NULL, match, NULL, NULL);
        } else if (of->changes) {
            (void)nphd_index_add(of->index, at, vector, NULL, NULL);
        } else {
            (void)nphd_index_search(of->index, vector, 4, NULL, match, &report, NULL);
        }
        (void)atomic_fetch_add(&of->calls, 1);
    }
    return NULL;
}

/* Every call answers, and a search that is refused says why. */
static void child_beside_threads(void *context)
{
    const busy *of = context;
    uint8_t octets[BYTES];
    const nphd_vector vector = vector_of(5, octets);
    nphd_match match;
    nphd_search_report report;
    nphd_error err = NPHD_ERROR_INIT;
    nphd_status status;

    if (of->sharded != NULL) {
        status = nphd_sharded_search(of->sharded, vector, 1, NULL, &match, NULL, &err);
        EXPECT(nphd_sharded_add(of->sharded, key_of(5), vector, NULL, NULL) == NPHD_FORKED);
        (void)nphd_sharded_size(of->sharded);
        EXPECT(nphd_sharded_close(of->sharded, NULL) == NPHD_OK);
        nphd_sharded_free(of->sharded);
    } else {
        status = nphd_index_search(of->index, vector, 1, NULL, &match, &report, &err);
        EXPECT(nphd_index_add(of->index, key_of(6000), vector, NULL, NULL) == status);
        (void)nphd_index_size(of->index);
        (void)nphd_index_max_bytes(of->index);
        nphd_index_close(of->index);
    }
    EXPECT(of->changes ? status == NPHD_OK || status == NPHD_FORKED : status == NPHD_OK);
    EXPECT(status == NPHD_OK ? match.key.low == 5 : strstr(err.text, "forked") != NULL);
}

/* The sanitizers' own allocators keep locks in a child that other threads of its parent held, so
 * that it may wait for ever. For the first line of a test. */
static void skip_under_sanitizers(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip();
#endif
}

static void fork_beside(busy *of)
{
    const struct timespec pause = {0, 1000000};
    pthread_t threads[2];

    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, keep_busy, of), 0);
    }
    while (atomic_load(&of->calls) < 10) {
        (void)nanosleep(&pause, NULL);
    }
    for (int i = 0; i < 40; i++) {
        assert_int_equal(in_child(child_beside_threads, of), 0);
        (void)nanosleep(&pause, NULL);
    }
    atomic_store(&of->stop, true);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
}

static void test_fork_beside_searches(void **state)
{
    busy of = {.index = NULL};

    (void)state;
    skip_under_sanitizers();
    of.index = filled_index(2000);
    fork_beside(&of);
    nphd_index_close(of.index);
}

static void test_fork_beside_changes(void **state)
{
    busy of = {.changes = true};

    (void)state;
    skip_under_sanitizers();
    of.index = filled_index(2000);
    fork_beside(&of);
    nphd_index_close(of.index);
}

static void test_fork_beside_searches_of_a_directory(void **state)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    busy of = {.index = NULL};

    skip_under_sanitizers();
    options.shard_bytes = 65536;
    of.sharded = open_directory(*state, options);
    fill(of.sharded, 0, 1000);
    fork_beside(&of);
    nphd_sharded_free(of.sharded);
}

static void test_fork_beside_changes_of_a_directory(void **state)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    busy of = {.changes = true};

    skip_under_sanitizers();
    options.shard_bytes = 65536;
    options.background_rotation = true;
    options.commit_interval_ms = 1;
    of.sharded = open_directory(*state, options);
    fill(of.sharded, 0, 1000);
    fork_beside(&of);
    OK(nphd_sharded_close(of.sharded, NULL));
    nphd_sharded_free(of.sharded);
    OK(nphd_directory_verify(((const place *)*state)->index, NULL, NULL, NULL, NULL, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLACE_TEST(test_forked_writer),
        PLACE_TEST(test_forked_writer_with_a_journal),
        PLACE_TEST(test_forked_writer_with_threads),
        PLACE_TEST(test_free_in_a_child),
        PLACE_TEST(test_handles_of_a_child),
        PLACE_TEST(test_forked_reader),
        cmocka_unit_test(test_forked_index),
        cmocka_unit_test(test_fork_beside_searches),
        cmocka_unit_test(test_fork_beside_changes),
        PLACE_TEST(test_fork_beside_searches_of_a_directory),
        PLACE_TEST(test_fork_beside_changes_of_a_directory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
