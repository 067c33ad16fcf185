/* Every single-bit flip and every cut of every file, for each kind of directory that there is:
 * verify finds it, or has a word about it, or opening gives the same state; and whatever is opened,
 * nothing crashes and nothing is read beyond an end.
 *
 * As it stands a sample, drawn anew by each seed. NPHD_TEST_SCALE=large takes all (`make
 * check-long`, a quarter of an hour); of files larger than LARGE_FILE, which are long rows of the
 * same under the same checksums, all in one kind and a larger sample in the others.
 * NPHD_TEST_SCALE=small takes fewer. */
#include "fixture_text.h"
#include "support/directory_content.h"
#include "support/directory_lab.h"

#include <stdio.h>
#include <stdlib.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

enum {
    LARGE_FILE = 8192,
    MOST_FILES = 64,
    NAME_BYTES = 64,
    MOST_MATCHES = 512,
    TABLED = 17000 /* vectors of which there are tables */
};

typedef struct file {
    char path[NAME_BYTES];
    uint8_t *data;
    size_t bytes;
} file;

/* What a directory answers. */
typedef struct answers {
    directory_content content;
    nphd_match matches[MOST_MATCHES];
    size_t match_count;
} answers;

typedef struct scene {
    dirlab *lab;
    file files[MOST_FILES];
    size_t file_count;
    const file *last_journal;
    answers before;
    answers now;
    uint64_t tried;
    uint64_t unseen;  /* that changed nothing, and were not found either */
    uint64_t words;   /* of verify about the file at hand */
    bool bounds_only; /* of files that have no checksums */
    bool whole;       /* large files too, at the large scale */
} scene;

/* States that commits before the last one left: all that tells a last journal that was cut behind
 * one of them from one that never had more is what its writer remembers. */
static directory_content earlier[4];
static size_t earlier_count;

static void note_earlier(nphd_sharded *sharded)
{
    assert_true(earlier_count < sizeof(earlier) / sizeof(earlier[0]));
    content_take(sharded, &earlier[earlier_count++]);
}

static void forget_earlier(void)
{
    while (earlier_count > 0) {
        content_free(&earlier[--earlier_count]);
    }
}

/* ---- the kinds ---- */

static nphd_sharded_options options_of(dirlab *lab)
{
    nphd_sharded_options options = dirlab_small(lab);

    options.connectivity = 2;
    options.build_breadth = 4;
    options.threads = 1;
    return options;
}

/* Keys from..to-1, of which the vectors of every third are the same. */
static void add(nphd_sharded *sharded, uint64_t from, uint64_t to)
{
    uint8_t bits[8];

    for (uint64_t key = from; key < to; key++) {
        OK(nphd_sharded_add(sharded, nphd_key_u64(key),
                            dirlab_vector(key % 3 == 0 ? 1 : key, 0, bits), NULL, NULL));
    }
}

static void remove_key(nphd_sharded *sharded, uint64_t number)
{
    const nphd_key key = nphd_key_u64(number);

    OK(nphd_sharded_remove(sharded, &key, 1, NULL, NULL));
}

static void make_empty(dirlab *lab)
{
    const nphd_sharded_options options = options_of(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    add(sharded, 7, 8);
    OK(nphd_sharded_rotate(sharded, NULL));
    remove_key(sharded, 7);
    dirlab_close(sharded);
}

static void make_one(dirlab *lab)
{
    const nphd_sharded_options options = options_of(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    add(sharded, 7, 8);
    dirlab_close(sharded);
}

static void add_shards(nphd_sharded *sharded, uint64_t shards, uint64_t keys)
{
    for (uint64_t i = 0; i < shards; i++) {
        add(sharded, keys * i, keys * (i + 1));
        OK(nphd_sharded_rotate(sharded, NULL));
    }
}

static void make_several(dirlab *lab)
{
    const nphd_sharded_options options = options_of(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    add_shards(sharded, 3, 6);
    add(sharded, 100, 104);
    dirlab_close(sharded);
}

static void make_tombstones(dirlab *lab)
{
    const nphd_sharded_options options = options_of(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    add_shards(sharded, 2, 6);
    remove_key(sharded, 1);
    remove_key(sharded, 8);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    remove_key(sharded, 9);
    dirlab_close(sharded);
}

static void make_hidden(dirlab *lab)
{
    const nphd_sharded_options options = options_of(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    const nphd_key keys[] = {nphd_key_u64(2), nphd_key_u64(7)};
    uint8_t bits[2][8];

    add_shards(sharded, 2, 6);
    const nphd_vector vectors[] = {dirlab_vector(50, 1, bits[0]), dirlab_vector(51, 1, bits[1])};
    OK(nphd_sharded_upsert(sharded, keys, vectors, 2, NULL, NULL, NULL));
    dirlab_close(sharded);
}

static void make_journal_v1(dirlab *lab)
{
    static const char *const names[] = {"shard_000.usearch", "journal_00000001", "journal_00000002",
                                        "journal_00000003"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char path[4096];
        size_t bytes = 0;
        (void)snprintf(path, sizeof(path), "%s/tests/fixtures/journal/v1_%s", fixture_directory(),
                       names[i]);
        uint8_t *data = fixture_file(path, &bytes);
        assert_non_null(data);
        if (i == 3) {
            nphd_sharded_options options = options_of(lab);
            options.read_only = true;
            options.max_bits = 0;
            options.connectivity = 0;
            nphd_sharded *sharded = dirlab_open(lab, &options);
            note_earlier(sharded);
            dirlab_close(sharded);
        }
        dirlab_put(lab, names[i], data, bytes);
        free(data);
    }
}

/* Two journals behind each other, with several commits in the last one. */
static void make_journal(dirlab *lab)
{
    nphd_sharded_options options = options_of(lab);

    options.journal = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    add(sharded, 0, 5);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    remove_key(sharded, 1);
    OK(nphd_sharded_commit(sharded, NULL));
    nphd_sharded_free(sharded);
    sharded = dirlab_open(lab, &options);
    note_earlier(sharded);
    add(sharded, 5, 7);
    OK(nphd_sharded_commit(sharded, NULL));
    note_earlier(sharded);
    add(sharded, 10, 15);
    remove_key(sharded, 6);
    OK(nphd_sharded_commit(sharded, NULL));
    note_earlier(sharded);
    add(sharded, 20, 70); /* of several sectors */
    OK(nphd_sharded_commit(sharded, NULL));
    nphd_sharded_free(sharded); /* without a save */
}

static void make_multi(dirlab *lab)
{
    nphd_sharded_options options = options_of(lab);

    options.multi = 2;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    add_shards(sharded, 2, 4);
    add(sharded, 2, 6);
    dirlab_close(sharded);
}

static void make_wide_keys(dirlab *lab)
{
    nphd_sharded_options options = options_of(lab);
    uint8_t bits[8];

    options.key_bits = 128;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    for (uint64_t i = 0; i < 10; i++) {
        const nphd_key key = {i % 3, i / 3};
        OK(nphd_sharded_add(sharded, key, dirlab_vector(i, 0, bits), NULL, NULL));
        if (i % 4 == 3) {
            OK(nphd_sharded_rotate(sharded, NULL));
        }
    }
    const nphd_key gone = {1, 1};
    OK(nphd_sharded_remove(sharded, &gone, 1, NULL, NULL));
    dirlab_close(sharded);
}

static void make_hamming(dirlab *lab)
{
    nphd_sharded_options options = options_of(lab);

    options.metric = NPHD_METRIC_HAMMING;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    for (uint64_t key = 0; key < 12; key++) {
        uint8_t bits[8];
        nphd_vector vector = dirlab_vector(key, 0, bits);
        vector.bytes = 8;
        OK(nphd_sharded_add(sharded, nphd_key_u64(key), vector, NULL, NULL));
    }
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_close(sharded);
}

static void make_tables(dirlab *lab)
{
    nphd_sharded_options options = options_of(lab);

    options.tables = true;
    options.shard_bytes = 1 << 30;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    add(sharded, 0, TABLED);
    OK(nphd_sharded_rotate(sharded, NULL));
    add(sharded, TABLED, TABLED + 3);
    dirlab_close(sharded);
}

/* As many shards as share a filter, and some more. */
static void make_group(dirlab *lab)
{
    const nphd_sharded_options options = options_of(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    add_shards(sharded, 18, 2);
    dirlab_close(sharded);
}

static void make_compacted(dirlab *lab)
{
    const nphd_sharded_options options = options_of(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    add_shards(sharded, 4, 4);
    remove_key(sharded, 2);
    remove_key(sharded, 11);
    OK(nphd_sharded_compact(sharded, NULL, NULL, NULL));
    add(sharded, 50, 52);
    dirlab_close(sharded);
}

static void delete_file(dirlab *lab, const char *path)
{
    const nphd_io *io = memory_io_table(lab->disk);

    assert_int_equal(io->remove(io->context, path), 0);
}

/* `made` becomes the directory. */
static void move_here(dirlab *lab, const char *made)
{
    static char names[MOST_FILES][NAME_BYTES];
    const size_t part = strlen(made);
    size_t count = 0;

    while (count < MOST_FILES && memory_io_name(lab->disk, count, names[count], NAME_BYTES)) {
        count++;
    }
    for (size_t i = 0; i < count; i++) {
        if (strncmp(names[i], DIRLAB_FOLDER "/", 2) == 0) {
            delete_file(lab, names[i]);
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (strncmp(names[i], made, part) == 0 && names[i][part] == '/') {
            size_t bytes = 0;
            void *data = memory_io_get(lab->disk, names[i], &bytes);
            assert_non_null(data);
            dirlab_put(lab, names[i] + part + 1, data, bytes);
            delete_file(lab, names[i]);
            free(data);
        }
    }
}

static void make_salvaged(dirlab *lab)
{
    make_tombstones(lab);
    dirlab_damage(lab, "shard_000.usearch", 60);
    (void)nphd_directory_salvage(DIRLAB_FOLDER, "made", memory_io_table(lab->disk), NULL, NULL,
                                 NULL, NULL);
    move_here(lab, "made");
}

static void make_snapshot(dirlab *lab)
{
    nphd_sharded_options options = options_of(lab);

    options.journal = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    add_shards(sharded, 2, 5);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    note_earlier(sharded);
    add(sharded, 20, 23);
    OK(nphd_sharded_commit(sharded, NULL));
    options.read_only = true;
    nphd_sharded *reader = dirlab_open(lab, &options);
    OK(nphd_sharded_snapshot(reader, "made", NULL));
    dirlab_close(reader);
    dirlab_close(sharded);
    move_here(lab, "made");
}

static void make_reference(dirlab *lab)
{
    static const nphd_key deleted[] = {{0, 3}};

    dirlab_put_shard(lab, "shard_000.usearch", NULL, 0, 5, 0);
    dirlab_put_shard(lab, "shard_001.usearch", NULL, 5, 9, 0);
    dirlab_put_bloom(lab, 8);
    dirlab_put_tombstones(lab, 8, deleted, 1);
}

static void make_no_filter(dirlab *lab)
{
    nphd_sharded_options options = options_of(lab);

    options.no_bloom = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    add_shards(sharded, 2, 4);
    remove_key(sharded, 1);
    dirlab_close(sharded);
}

/* ---- answers ---- */

/* Whatever it says; nothing may crash. False: it does not open. */
static bool ask(scene *of, const nphd_sharded_options *options, bool strict, answers *out)
{
    nphd_sharded *sharded = NULL;
    nphd_search_options search = NPHD_SEARCH_OPTIONS_INIT;
    nphd_search_report report;
    uint8_t bits[8];
    nphd_key key;
    size_t bytes = 0;
    uint8_t data[NPHD_MAX_BYTES];
    bool there;

    (void)of;
    if (nphd_sharded_open(DIRLAB_FOLDER, options, &sharded, NULL) != NPHD_OK) {
        return false;
    }
    if (strict) {
        content_take(sharded, &out->content);
    } else {
        nphd_sharded_cursor cursor = nphd_sharded_cursor_begin(sharded);
        while (nphd_sharded_cursor_next(&cursor, &key, data, &bytes, NULL) == NPHD_OK) {
            (void)nphd_sharded_contains(sharded, key, &there, NULL);
        }
    }
    search.mode = NPHD_SEARCH_EXACT;
    const nphd_status status = nphd_sharded_search(sharded, dirlab_vector(5, 0, bits), MOST_MATCHES,
                                                   &search, out->matches, &report, NULL);
    out->match_count = report.count;
    search.mode = NPHD_SEARCH_APPROXIMATE;
    nphd_match near;
    (void)nphd_sharded_search(sharded, dirlab_vector(5, 0, bits), 1, &search, &near, &report, NULL);
    for (size_t i = 0; strict && i < out->content.count; i += 1 + out->content.count / 64) {
        const nphd_key absent = {0, out->content.entries[i].key.low + 1000003};
        OK(nphd_sharded_contains(sharded, out->content.entries[i].key, &there, NULL));
        assert_true(there);
        OK(nphd_sharded_contains(sharded, absent, &there, NULL));
        assert_false(there);
    }
    assert_true(!strict || status == NPHD_OK);
    if (options->read_only) {
        nphd_sharded_free(sharded);
    } else {
        OK(nphd_sharded_close(sharded, NULL));
        nphd_sharded_free(sharded);
    }
    return true;
}

static bool same_answers(const answers *a, const answers *b)
{
    if (!content_equal(&a->content, &b->content) || a->match_count != b->match_count ||
        a->content.next_automatic_key != b->content.next_automatic_key) {
        return false;
    }
    for (size_t i = 0; i < a->match_count; i++) {
        if (nphd_key_compare(a->matches[i].key, b->matches[i].key) != 0 ||
            a->matches[i].distance < b->matches[i].distance ||
            a->matches[i].distance > b->matches[i].distance) {
            return false;
        }
    }
    return true;
}

static bool is_earlier(const answers *now)
{
    for (size_t i = 0; i < earlier_count; i++) {
        if (content_equal(&earlier[i], &now->content)) {
            return true;
        }
    }
    return false;
}

/* ---- changes ---- */

static void count_word(void *context, const char *text)
{
    scene *of = context;

    (void)text;
    of->words++;
}

static void no_log(void *context, nphd_log_level level, const char *text)
{
    (void)context;
    (void)level;
    (void)text;
}

static nphd_sharded_options quiet(scene *of, bool read_only)
{
    nphd_sharded_options options = dirlab_options(of->lab);

    options.read_only = read_only;
    options.journal = !read_only;
    options.logger = no_log;
    return options;
}

static void put_back(scene *of)
{
    char name[NAME_BYTES];

    while (memory_io_name(of->lab->disk, 0, name, sizeof(name))) {
        delete_file(of->lab, name);
    }
    for (size_t i = 0; i < of->file_count; i++) {
        memory_io_put(of->lab->disk, of->files[i].path, of->files[i].data, of->files[i].bytes);
    }
}

static void take_files(scene *of)
{
    while (
        of->file_count < MOST_FILES &&
        memory_io_name(of->lab->disk, of->file_count, of->files[of->file_count].path, NAME_BYTES)) {
        file *one = &of->files[of->file_count++];
        one->data = memory_io_get(of->lab->disk, one->path, &one->bytes);
        assert_non_null(one->data);
        if (strstr(one->path, "/journal_") != NULL &&
            (of->last_journal == NULL || strcmp(one->path, of->last_journal->path) > 0)) {
            of->last_journal = one;
        }
    }
    assert_true(of->file_count < MOST_FILES);
}

/* Tries the file as it is in memory now, cut to `bytes`. */
static void try_changed(scene *of, const file *one, size_t bytes, const char *how, uint64_t number)
{
    const bool may_be_earlier = bytes < one->bytes && one == of->last_journal;
    nphd_sharded_options options = quiet(of, true);
    nphd_error err = NPHD_ERROR_INIT;

    memory_io_put(of->lab->disk, one->path, one->data, bytes);
    of->words = 0;
    of->tried++;
    const nphd_status status = nphd_directory_verify(DIRLAB_FOLDER, memory_io_table(of->lab->disk),
                                                     count_word, of, NULL, &err);
    const bool found = status != NPHD_OK || of->words > 0;
    if (found || of->bounds_only) {
        (void)ask(of, &options, false, &of->now);
        if (of->tried % 8 == 0) {
            options.salvage = true;
            (void)ask(of, &options, false, &of->now);
        }
        return;
    }
    of->unseen++;
    for (int read_only = 1; read_only >= 0; read_only--) {
        options = quiet(of, read_only != 0);
        if (!ask(of, &options, true, &of->now) ||
            !(same_answers(&of->before, &of->now) || (may_be_earlier && is_earlier(&of->now)))) {
            fail_msg("%s: %s %llu is not found by verify, and opening%s gives another state",
                     one->path, how, (unsigned long long)number,
                     read_only != 0 ? "" : " by a writer");
        }
    }
    put_back(of);
}

static void try_flip(scene *of, const file *one, uint64_t bit)
{
    one->data[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    try_changed(of, one, one->bytes, "bit", bit);
    one->data[bit / 8] ^= (uint8_t)(1U << (bit % 8));
}

/* How many of the changes of a file are tried, of `all` that there are. */
static uint64_t wanted(const scene *of, const file *one, uint64_t all, uint64_t sample)
{
    const char *scale = getenv("NPHD_TEST_SCALE");
    uint64_t count = sample;

    if (scale != NULL && strcmp(scale, "large") == 0) {
        count = one->bytes <= LARGE_FILE || of->whole ? all : sample * 256;
    } else if (scale != NULL && strcmp(scale, "small") == 0) {
        count = sample / 8;
    }
    return count < all ? count : all;
}

static void change_file(scene *of, const file *one, test_random *random)
{
    const uint64_t bits = 8 * (uint64_t)one->bytes;
    const uint64_t flips = wanted(of, one, bits, 48);
    const uint64_t cuts = wanted(of, one, one->bytes, 12);

    for (uint64_t i = 0; i < flips; i++) {
        try_flip(of, one, flips == bits ? i : test_random_below(random, bits));
    }
    for (uint64_t i = 0; i < cuts; i++) {
        const uint64_t bytes = cuts == one->bytes ? i : test_random_below(random, one->bytes);
        try_changed(of, one, (size_t)bytes, "cut to", bytes);
    }
    for (size_t bytes = 0; bytes < one->bytes; bytes += 4096) { /* where a system would cut it */
        try_changed(of, one, bytes, "cut to", bytes);
    }
    memory_io_put(of->lab->disk, one->path, one->data, one->bytes);
}

static void run(dirlab *lab, void (*make)(dirlab *lab), bool bounds_only, bool whole)
{
    static scene of;
    nphd_sharded_options options;
    size_t bytes = 0;

    memset(&of, 0, sizeof(of));
    of.lab = lab;
    of.bounds_only = bounds_only;
    of.whole = whole;
    make(lab);
    take_files(&of);
    options = quiet(&of, true);
    assert_true(ask(&of, &options, !bounds_only, &of.before));
    for (size_t i = 0; i < of.file_count; i++) {
        bytes += of.files[i].bytes;
        change_file(&of, &of.files[i], &lab->random);
    }
    print_message("%zu files, %zu bytes: %llu changes, %llu without any effect\n", of.file_count,
                  bytes, (unsigned long long)of.tried, (unsigned long long)of.unseen);
    for (size_t i = 0; i < of.file_count; i++) {
        free(of.files[i].data);
    }
    content_free(&of.before.content);
    content_free(&of.now.content);
    forget_earlier();
}

#define KINDS(X)                                                                                   \
    X(empty, false)                                                                                \
    X(one, false)                                                                                  \
    X(several, false)                                                                              \
    X(tombstones, false)                                                                           \
    X(hidden, false)                                                                               \
    X(journal_v1, false)                                                                           \
    X(journal, false)                                                                              \
    X(multi, false)                                                                                \
    X(wide_keys, false)                                                                            \
    X(hamming, false)                                                                              \
    X(tables, false)                                                                               \
    X(group, false)                                                                                \
    X(compacted, false)                                                                            \
    X(salvaged, false)                                                                             \
    X(snapshot, false)                                                                             \
    X(reference, true)                                                                             \
    X(no_filter, false)

#define KIND_TEST(name, bounds_only)                                                               \
    static void test_##name(void **state)                                                          \
    {                                                                                              \
        run(*state, make_##name, bounds_only, make_##name == make_several);                        \
    }
KINDS(KIND_TEST)

#define KIND_ENTRY(name, bounds_only) DIRLAB_TEST(test_##name),

int main(void)
{
    const struct CMUnitTest tests[] = {KINDS(KIND_ENTRY)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
