/* As many indexes as memory holds: small ones take no mapping of their own and few bytes, and where
 * addresses run out the program still has some. */
#include <nphd/nphd.h>

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

static bool is_small(void)
{
    const char *scale = getenv("NPHD_TEST_SCALE");

    return scale != NULL && strcmp(scale, "small") == 0;
}

static nphd_status add(nphd_index *index, uint64_t number)
{
    uint8_t bits[32] = {0};

    memcpy(bits, &number, sizeof(number));
    bits[31] = (uint8_t)(number * 37);
    return nphd_index_add(index, nphd_key_u64(number), (nphd_vector){bits, 32}, NULL, NULL);
}

static size_t mappings(void)
{
    FILE *file = fopen("/proc/self/maps", "r");
    size_t count = 0;

    if (file == NULL) {
        return 0;
    }
    for (int c = getc(file); c != EOF; c = getc(file)) {
        count += c == '\n' ? 1 : 0;
    }
    (void)fclose(file);
    return count;
}

/* 100,000 of ten vectors, of which the kernel would not give each a mapping (65,530 of a process).
 */
static void test_a_hundred_thousand_indexes(void **state)
{
    const size_t count = is_small() ? 500 : 100000;
    nphd_index **indexes = calloc(count, sizeof(*indexes));
    const size_t before = mappings();
    uint64_t bytes = 0;

    (void)state;
    assert_non_null(indexes);
    for (size_t i = 0; i < count; i++) {
        OK(nphd_index_create(NULL, &indexes[i], NULL));
        for (uint64_t number = 0; number < 10; number++) {
            OK(add(indexes[i], number));
        }
    }
    assert_true(mappings() < before + 1000);
    for (size_t i = 0; i < count; i++) {
        nphd_index_stats stats = NPHD_INDEX_STATS_INIT;
        bool has = false;
        OK(nphd_index_contains(indexes[i], nphd_key_u64(i % 10), &has, NULL));
        assert_true(has);
        OK(nphd_index_get_stats(indexes[i], &stats, NULL));
        assert_int_equal(stats.size, 10);
        bytes += stats.memory_bytes;
        nphd_index_close(indexes[i]);
    }
    print_message("%zu indexes, %llu bytes each\n", count, (unsigned long long)(bytes / count));
    assert_true(bytes / count < 16384);
    free(indexes);
}

/* ---- few addresses ---- */

static void *do_nothing(void *argument)
{
    return argument;
}

#define NO_LIMIT 77 /* emulators of processors take such a limit and leave it at that */

/* In a child: fills one large index, or many, under a limit of addresses until that says so; then
 * the program goes on. Returns what is wrong, 0 for nothing. */
static int fill_under_limit(rlim_t limit, bool many)
{
    const struct rlimit addresses = {limit, limit};
    struct rlimit now;
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_status status = NPHD_OK;
    nphd_index *index = NULL;
    pthread_t thread;
    bool has = false;

    options.connectivity = 2;
    options.build_breadth = 1;
    if (setrlimit(RLIMIT_AS, &addresses) != 0) {
        return 1;
    }
    if (getrlimit(RLIMIT_AS, &now) != 0 || now.rlim_cur != limit) {
        return NO_LIMIT;
    }
    for (uint64_t indexes = 0; status == NPHD_OK && indexes < 100000; indexes++) {
        status = nphd_index_create(&options, &index, NULL);
        /* of many each has its ranges of addresses; a single one asks for ever more of them */
        for (uint64_t i = 0; status == NPHD_OK && many && i < 3000; i++) {
            status = add(index, i);
        }
        for (uint64_t wanted = 1; status == NPHD_OK && !many; wanted *= 2) {
            status = nphd_index_reserve(index, wanted, NULL);
        }
    }
    if (status != NPHD_OUT_OF_MEMORY) {
        return 2;
    }
    if (index != NULL &&
        (add(index, 5) != NPHD_OK || /* its arrays are as they were */
         nphd_index_contains(index, nphd_key_u64(5), &has, NULL) != NPHD_OK || !has)) {
        return 3;
    }
    void *memory = malloc(1 << 20);
    if (memory == NULL) {
        return 4;
    }
    if (pthread_create(&thread, NULL, do_nothing, NULL) != 0) {
        return 5;
    }
    (void)pthread_join(thread, NULL);
    free(memory);
    return 0;
}

static void test_the_last_addresses_are_not_taken(void **state)
{
    /* beside powers of two, where halves did not fit any more */
    static const uint64_t mib[] = {300, 511, 513, 1024, 1030, 2047, 2100, 4097};

    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* they map terabytes themselves */
#endif
    for (size_t i = 0; i < sizeof(mib) / sizeof(mib[0]); i++) {
        for (int many = 0; many < 2; many++) {
            const pid_t child = fork();
            int how = -1;
            assert_true(child >= 0);
            if (child == 0) {
                _exit(fill_under_limit((rlim_t)(mib[i] << 20), many != 0));
            }
            assert_int_equal(waitpid(child, &how, 0), child);
            assert_true(WIFEXITED(how));
            if (WEXITSTATUS(how) == NO_LIMIT) {
                skip();
            }
            assert_int_equal(WEXITSTATUS(how), 0);
        }
    }
}

/* ---- moving beside readers ---- */

enum { VECTORS = 40000, SMALL_VECTORS = 6000, BATCH = 500 };

typedef struct crowd {
    nphd_index *index;
    uint64_t vectors;
    _Atomic uint64_t added; /* by the adder of single vectors */
    _Atomic bool done;
    _Atomic uint64_t wrong;
} crowd;

static void *read_beside(void *argument)
{
    crowd *of = argument;
    nphd_search_options exact = NPHD_SEARCH_OPTIONS_INIT;
    uint64_t turn = 0;

    exact.mode = NPHD_SEARCH_EXACT;
    while (!atomic_load(&of->done)) {
        const uint64_t added = atomic_load(&of->added);
        const uint64_t number = added == 0 ? 0 : (turn * 7919) % added;
        uint8_t bits[32] = {0};
        uint8_t out[32];
        size_t bytes = 0;
        nphd_match match;
        nphd_search_report report;
        nphd_cursor cursor = nphd_index_cursor(of->index);
        nphd_key key;
        turn++;
        if (added == 0) {
            continue;
        }
        memcpy(bits, &number, sizeof(number));
        bits[31] = (uint8_t)(number * 37);
        if (nphd_index_get(of->index, nphd_key_u64(number), out, 32, &bytes, NULL) != NPHD_OK ||
            bytes != 32 || memcmp(out, bits, 32) != 0) {
            atomic_fetch_add(&of->wrong, 1);
        }
        if (nphd_index_search(of->index, (nphd_vector){bits, 32}, 1, turn % 2 == 0 ? &exact : NULL,
                              &match, &report, NULL) != NPHD_OK ||
            report.count != 1 || (report.exact && match.distance > 0)) {
            atomic_fetch_add(&of->wrong, 1);
        }
        if (nphd_cursor_next(&cursor, &key, out, &bytes, NULL) != NPHD_OK) {
            atomic_fetch_add(&of->wrong, 1);
        }
    }
    return NULL;
}

static void *add_batches(void *argument)
{
    crowd *of = argument;
    static uint64_t data[BATCH][4];
    nphd_key keys[BATCH];
    nphd_vector vectors[BATCH];

    for (uint64_t from = 1000000; from < 1000000 + of->vectors; from += BATCH) {
        for (uint64_t i = 0; i < BATCH; i++) {
            data[i][0] = (from + i) << 20;
            keys[i] = nphd_key_u64(from + i);
            vectors[i] = (nphd_vector){(uint8_t *)data[i], 32};
        }
        if (nphd_index_add_many(of->index, keys, vectors, BATCH, NULL, NULL, NULL, NULL) !=
            NPHD_OK) {
            atomic_fetch_add(&of->wrong, 1);
        }
    }
    return NULL;
}

static void test_growing_moves_nothing_under_readers(void **state)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index_stats stats = NPHD_INDEX_STATS_INIT;
    pthread_t threads[4];
    crowd of = {.vectors = is_small() ? SMALL_VECTORS : VECTORS};

    (void)state;
    options.connectivity = 8;
    options.build_breadth = 16;
    OK(nphd_index_create(&options, &of.index, NULL));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, read_beside, &of), 0);
    }
    assert_int_equal(pthread_create(&threads[3], NULL, add_batches, &of), 0);
    for (uint64_t number = 0; number < of.vectors; number++) {
        OK(add(of.index, number));
        atomic_store(&of.added, number + 1);
        if (number == of.vectors / 2) {
            OK(nphd_index_prepare(of.index, 1, NULL)); /* tables go on from there */
        }
    }
    assert_int_equal(pthread_join(threads[3], NULL), 0);
    atomic_store(&of.done, true);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_int_equal(atomic_load(&of.wrong), 0);
    OK(nphd_index_get_stats(of.index, &stats, NULL));
    assert_int_equal(stats.size, 2 * of.vectors);
    nphd_index_close(of.index);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* first, while the program itself has few addresses */
        cmocka_unit_test(test_the_last_addresses_are_not_taken),
        cmocka_unit_test(test_a_hundred_thousand_indexes),
        cmocka_unit_test(test_growing_moves_nothing_under_readers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
