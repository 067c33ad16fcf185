/* Whatever happened to one or two files of a directory: a writer that opens it with salvage, and
 * closes it, leaves one that opens without, to write and to read, with everything that was in
 * undamaged shards. (Opening does not read every block: what nphd_directory_salvage() and verify
 * find in a shard that stays is not looked for here.) */
#include "support/directory_damage.h"

#include <stdio.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

/* Keys 0..49 in five shards of ten, the last one and the journal after; 2 and 13 are deleted. */
static void make(dirlab *lab)
{
    const nphd_sharded_options options = dirlab_with_journal(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    for (uint64_t shard = 0; shard < 4; shard++) {
        dirlab_add(lab, sharded, 10 * shard, 10 * shard + 10);
        OK(nphd_sharded_rotate(sharded, NULL));
    }
    dirlab_add(lab, sharded, 40, 50);
    dirlab_remove(lab, sharded, 2);
    dirlab_remove(lab, sharded, 13);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    dirlab_add(lab, sharded, 50, 55);
    dirlab_remove(lab, sharded, 31);
    OK(nphd_sharded_commit(sharded, NULL));
    nphd_sharded_free(sharded);
}

static const char *const files[] = {"shard_000.usearch", "shard_001.usearch", "shard_002.usearch",
                                    "shard_003.usearch", "shard_004.usearch", "bloom.isbf",
                                    "tombstones.npy",    "journal_00000001",  "lock"};
#define FILES (sizeof(files) / sizeof(files[0]))

typedef enum harm {
    HARM_GONE,
    HARM_EMPTY,
    HARM_CUT,
    HARM_FLIPPED,
    HARM_REPAIRED, /* flipped, its checksums right */
    HARM_OTHER,    /* the content of another file */
    HARM_NOISE,
    HARM_WIDTH, /* a shard of vectors of another width, or with other keys, or another metric */
    HARM_KEYS,
    HARM_METRIC,
    HARMS
} harm;

static void put_strange(dirlab *lab, const char *name, harm kind)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;
    static uint8_t data[65536];
    const uint8_t bits[16] = {1, 2, 3};
    size_t bytes = 0;

    options.max_bits = kind == HARM_WIDTH ? 128 : 64;
    options.key_bits = kind == HARM_KEYS ? 128 : 64;
    options.metric = kind == HARM_METRIC ? NPHD_METRIC_HAMMING : NPHD_METRIC_NPHD;
    OK(nphd_index_create(&options, &index, NULL));
    OK(nphd_index_add(index, nphd_key_u64(900), (nphd_vector){bits, 8}, NULL, NULL));
    OK(nphd_index_save_buffer(index, data, sizeof(data), &bytes, NULL));
    nphd_index_close(index);
    dirlab_put(lab, name, data, bytes);
}

static void do_harm(dirlab *lab, const char *name, harm kind)
{
    size_t bytes = 0;
    uint8_t *data = memory_io_get(lab->disk, dirlab_path(name), &bytes);
    const uint64_t at = data != NULL && bytes > 0 ? test_random_below(&lab->random, bytes) : 0;
    trailer_places places = {0};
    bool trailer;

    if (data == NULL || bytes == 0) { /* harmed before */
        free(data);
        return;
    }
    trailer = trailer_places_find(data, bytes, &places);
    switch (kind) {
    case HARM_GONE:
        dirlab_delete(lab, name);
        break;
    case HARM_EMPTY:
        dirlab_put(lab, name, "", 0);
        break;
    case HARM_CUT:
        dirlab_put(lab, name, data, at);
        break;
    case HARM_FLIPPED:
    case HARM_REPAIRED:
        data[at] ^= (uint8_t)(1 + test_random_below(&lab->random, 255));
        if (kind == HARM_REPAIRED && trailer) {
            trailer_repair(data, &places);
        }
        dirlab_put(lab, name, data, bytes);
        break;
    case HARM_OTHER:
        free(data);
        data = memory_io_get(lab->disk, dirlab_path(files[test_random_below(&lab->random, FILES)]),
                             &bytes);
        dirlab_put(lab, name, data != NULL ? (const void *)data : "", data != NULL ? bytes : 0);
        break;
    case HARM_NOISE:
        test_random_fill(&lab->random, data, bytes);
        dirlab_put(lab, name, data, bytes);
        break;
    default:
        put_strange(lab, name, kind);
        break;
    }
    free(data);
}

static void expect_sound(dirlab *lab, const char *what, const bool harmed[5])
{
    nphd_sharded_options options = dirlab_options(lab);
    nphd_error err = NPHD_ERROR_INIT;
    nphd_sharded *sharded = NULL;

    for (int reading = 1; reading >= 0; reading--) {
        options.read_only = reading != 0;
        if (nphd_sharded_open(DIRLAB_FOLDER, &options, &sharded, &err) != NPHD_OK) {
            fail_msg("%s: opening %s: %s", what, reading != 0 ? "to read" : "to write", err.text);
        }
        for (uint64_t key = 0; key < 50; key++) {
            /* deletions hold as far as they can be read; keys of whole shards are there */
            if (!harmed[key / 10] && key != 2 && key != 13 && key != 31 &&
                !dirlab_has(sharded, key)) {
                fail_msg("%s: key %d is gone", what, (int)key);
            }
        }
        assert_in_range(nphd_sharded_size(sharded), 0, 56);
        dirlab_close(sharded);
    }
}

static void test_salvage_always_opens(void **state)
{
    const char *scale = getenv("NPHD_TEST_SCALE");
    const int rounds = scale != NULL && strcmp(scale, "small") == 0 ? 60 : 500;
    dirlab *lab = *state;
    size_t salvaged = 0;

    for (int round = 0; round < rounds; round++) {
        nphd_sharded_options options;
        nphd_sharded *sharded = NULL;
        nphd_error err = NPHD_ERROR_INIT;
        bool harmed[5] = {false, false, false, false, false};
        char what[200] = "";
        dirlab_end(state);
        assert_int_equal(dirlab_begin(state), 0);
        lab = *state;
        lab->random.state = test_seed() + (uint64_t)round;
        make(lab);
        for (uint64_t i = 0; i <= (uint64_t)round % 2; i++) {
            const uint64_t file = test_random_below(&lab->random, FILES);
            const harm kind = (harm)test_random_below(&lab->random, HARMS);
            const size_t used = strlen(what);
            do_harm(lab, files[file], kind);
            (void)snprintf(what + used, sizeof(what) - used, "%s harm %d; ", files[file],
                           (int)kind);
            for (uint64_t shard = 0; shard < 5; shard++) {
                /* a deletion that was forged is one, and so is a key that became another */
                harmed[shard] = harmed[shard] || shard == file || kind == HARM_REPAIRED ||
                                (kind == HARM_FLIPPED && file < 5);
            }
        }
        options = dirlab_options(lab);
        options.salvage = true;
        if (nphd_sharded_open(DIRLAB_FOLDER, &options, &sharded, &err) != NPHD_OK) {
            fail_msg("%s salvage: %s", what, err.text);
        }
        salvaged += lab->damage[0] != '\0' ? 1 : 0;
        if (nphd_sharded_close(sharded, &err) != NPHD_OK) {
            fail_msg("%s close: %s", what, err.text);
        }
        nphd_sharded_free(sharded);
        expect_sound(lab, what, harmed);
    }
    assert_true(salvaged > (size_t)rounds / 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {DIRLAB_TEST(test_salvage_always_opens)};

    return cmocka_run_group_tests_name("salvage_always", tests, NULL, NULL);
}
