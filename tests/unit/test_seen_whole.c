/* What a lookup or search sees of changes beside it: a call that removes many keys all or nothing,
 * and of wide keys both halves. */
#include "base/hash.h"
#include "support/directory_lab.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

/* ---- removing many ---- */

enum { KEYS = 400, WAIT_MS = 100 };

typedef struct removal {
    nphd_sharded *sharded;
    nphd_key keys[KEYS];
    pthread_t thread;
    bool begun;
    atomic_bool ended;
    size_t removed;
} removal;

static void *remove_all(void *context)
{
    removal *of = context;

    of->removed = 0;
    if (nphd_sharded_remove(of->sharded, of->keys, KEYS, &of->removed, NULL) != NPHD_OK) {
        of->removed = 0;
    }
    atomic_store(&of->ended, true);
    return NULL;
}

/* The first key that a search asks about begins the removal of all, and gives it time to go wrong:
 * one that waits for the search, as it must, is not waited for. */
static bool begin_removal(void *context, nphd_key key)
{
    removal *of = context;

    (void)key;
    if (!of->begun) {
        of->begun = true;
        if (pthread_create(&of->thread, NULL, remove_all, of) != 0) {
            abort();
        }
        for (int ms = 0; ms < WAIT_MS && !atomic_load(&of->ended); ms++) {
            const struct timespec moment = {0, 1000000};
            (void)nanosleep(&moment, NULL);
        }
    }
    return true;
}

/* From the first to the last shard the search sees the directory as it was when it began. */
static void remove_beside_search(dirlab *lab, bool rotated)
{
    static nphd_match found[2 * KEYS];
    nphd_sharded_options options = dirlab_options(lab);
    nphd_search_options search = NPHD_SEARCH_OPTIONS_INIT;
    nphd_search_report report;
    static removal of;
    uint8_t bits[8];

    memset(&of, 0, sizeof(of));
    options.max_bits = 64;
    of.sharded = dirlab_open(lab, &options);
    for (uint64_t i = 0; i < KEYS; i++) {
        of.keys[i] = nphd_key_u64(i);
        OK(nphd_sharded_add(of.sharded, of.keys[i], dirlab_vector(i, 0, bits), NULL, NULL));
        if (rotated && i % 100 == 99) {
            OK(nphd_sharded_rotate(of.sharded, NULL));
        }
    }
    search.mode = NPHD_SEARCH_EXACT;
    search.filter = begin_removal;
    search.filter_context = &of;
    OK(nphd_sharded_search(of.sharded, dirlab_vector(5, 0, bits), 2 * KEYS, &search, found, &report,
                           NULL));
    assert_int_equal(report.count, KEYS);
    assert_true(of.begun);
    assert_int_equal(pthread_join(of.thread, NULL), 0);
    assert_int_equal(of.removed, KEYS);
    search.filter = NULL;
    OK(nphd_sharded_search(of.sharded, dirlab_vector(5, 0, bits), 2 * KEYS, &search, found, &report,
                           NULL));
    assert_int_equal(report.count, 0);
    dirlab_close(of.sharded);
}

static void test_removal_of_many_in_memory(void **state)
{
    remove_beside_search(*state, false);
}

static void test_removal_of_many_in_shards(void **state)
{
    remove_beside_search(*state, true);
}

/* ---- both halves of a key ---- */

enum { CANDIDATES = 1 << 19 };

typedef struct candidate {
    uint64_t entry; /* what the table of a file with one key tells of it */
    uint64_t half;
} candidate;

static int compare_candidates(const void *a, const void *b)
{
    const candidate *x = a;
    const candidate *y = b;

    return x->entry != y->entry ? (x->entry < y->entry ? -1 : 1)
                                : (x->half > y->half) - (x->half < y->half);
}

static nphd_key key_of(uint64_t half, bool low)
{
    const nphd_key key = {low ? 7 : half, low ? half : 7};

    return key;
}

static nphd_index *index_of_wide_keys(void)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;

    options.key_bits = 128;
    options.max_bits = 64;
    OK(nphd_index_create(&options, &index, NULL));
    return index;
}

/* A file in which `present` stands where `absent` would, with the same fingerprint. */
static void look_in_file(nphd_key present, nphd_key absent)
{
    nphd_index *index = index_of_wide_keys();
    uint8_t bits[8];
    bool there = true;
    size_t bytes = 0;
    size_t count = 9;
    uint8_t *file;

    OK(nphd_index_add(index, present, dirlab_vector(1, 0, bits), NULL, NULL));
    OK(nphd_index_save_buffer(index, NULL, 0, &bytes, NULL));
    file = malloc(bytes);
    assert_non_null(file);
    OK(nphd_index_save_buffer(index, file, bytes, &bytes, NULL));
    nphd_index_close(index);
    index = index_of_wide_keys();
    OK(nphd_index_view_buffer(index, file, bytes, NULL, NULL));
    OK(nphd_index_contains(index, present, &there, NULL));
    assert_true(there);
    OK(nphd_index_contains(index, absent, &there, NULL));
    assert_false(there);
    OK(nphd_index_contains_many(index, &absent, 1, &there, NULL));
    assert_false(there);
    OK(nphd_index_count(index, absent, &count, NULL));
    assert_int_equal(count, 0);
    nphd_index_close(index);
    free(file);
}

/* Keys with one half in common that the table of a file does not tell apart: their nodes must. */
static void test_both_halves_of_a_key(void **state)
{
    candidate *all = malloc(CANDIDATES * sizeof(*all));

    (void)state;
    assert_non_null(all);
    for (int low = 0; low < 2; low++) {
        size_t pairs = 0;
        for (uint64_t i = 0; i < CANDIDATES; i++) {
            const uint64_t hash = nphdi_hash_key(key_of(i, low != 0), 16);
            all[i].entry = (hash << 1 & UINT32_MAX) | hash >> 63;
            all[i].half = i;
        }
        qsort(all, CANDIDATES, sizeof(*all), compare_candidates);
        for (size_t i = 0; i + 1 < CANDIDATES && pairs < 4; i++) {
            if (all[i].entry == all[i + 1].entry) {
                look_in_file(key_of(all[i].half, low != 0), key_of(all[i + 1].half, low != 0));
                pairs++;
            }
        }
        assert_true(pairs > 0);
    }
    free(all);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_removal_of_many_in_memory),
        DIRLAB_TEST(test_removal_of_many_in_shards),
        cmocka_unit_test(test_both_halves_of_a_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
