/* Journals that are torn, damaged, out of place or missing: what was committed is there, or opening
 * says which file is wrong; and what salvage and verify make of them. */
#include "support/directory_content.h"
#include "support/directory_lab.h"
#include "support/journal_bytes.h"

#include <stdio.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

typedef struct journal_file {
    char name[32];
    uint8_t *data;
    size_t bytes;
} journal_file;

static size_t journals(const dirlab *lab)
{
    return memory_io_count(lab->disk, DIRLAB_FOLDER "/journal_");
}

static const char *journal_name(unsigned sequence)
{
    static char name[32];

    (void)snprintf(name, sizeof(name), "journal_%08u", sequence);
    return name;
}

static journal_file take_journal(const dirlab *lab, unsigned sequence)
{
    journal_file file;

    (void)snprintf(file.name, sizeof(file.name), "%s", journal_name(sequence));
    file.data = memory_io_get(lab->disk, dirlab_path(file.name), &file.bytes);
    assert_non_null(file.data);
    return file;
}

/* An index with a save and `frames` commits in one journal, number 2, and then a crash: the content
 * after each commit. */
static void write_frames(dirlab *lab, size_t frames, directory_content *after)
{
    const nphd_sharded_options options = dirlab_with_journal(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    content_take(sharded, &after[0]);
    for (size_t i = 0; i < frames; i++) {
        dirlab_add(lab, sharded, 10 * i + 10, 10 * i + 14);
        dirlab_remove(lab, sharded, i);
        dirlab_upsert(lab, sharded, 9, (uint8_t)(i + 1));
        OK(nphd_sharded_commit(sharded, NULL));
        content_take(sharded, &after[i + 1]);
    }
    nphd_sharded_free(sharded);
    assert_int_equal(journals(lab), 1);
}

static nphd_sharded_options reader(dirlab *lab)
{
    nphd_sharded_options options = dirlab_options(lab);

    options.read_only = true;
    return options;
}

static void expect_read(dirlab *lab, const directory_content *expected)
{
    const nphd_sharded_options options = reader(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    content_expect(sharded, expected);
    dirlab_close(sharded);
}

/* ---- torn and damaged ---- */

static void test_torn_tail(void **state)
{
    enum { FRAMES = 3 };
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_with_journal(lab);
    directory_content after[FRAMES + 1];

    memset(after, 0, sizeof(after));
    write_frames(lab, FRAMES, after);
    const journal_file file = take_journal(lab, 2);
    assert_int_equal(file.bytes, (FRAMES + 1) * NPHDI_JOURNAL_BLOCK_BYTES);
    for (size_t bytes = FRAMES * NPHDI_JOURNAL_BLOCK_BYTES; bytes <= file.bytes; bytes++) {
        dirlab_put(lab, file.name, file.data, bytes);
        expect_read(lab, &after[bytes == file.bytes ? FRAMES : FRAMES - 1]);
    }
    /* a cut in the middle of the second frame loses the third too, and that is all it can say */
    dirlab_put(lab, file.name, file.data, 2 * NPHDI_JOURNAL_BLOCK_BYTES + 100);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    content_expect(sharded, &after[1]);
    /* what comes now goes into a file of its own, which says how much of this one counts */
    OK(nphd_sharded_reset(sharded, NULL));
    OK(nphd_sharded_commit(sharded, NULL));
    nphd_sharded_free(sharded);
    assert_int_equal(journals(lab), 2);
    sharded = dirlab_open(lab, &options);
    assert_int_equal(nphd_sharded_size(sharded), 0);
    dirlab_close(sharded);
    assert_int_equal(journals(lab), 0);
    for (size_t i = 0; i <= FRAMES; i++) {
        content_free(&after[i]);
    }
    free(file.data);
}

/* Every byte of a journal: turned over, it is noticed, in the last frame too. */
static void test_every_byte(void **state)
{
    enum { FRAMES = 2 };
    dirlab *lab = *state;
    const nphd_sharded_options options = reader(lab);
    const size_t step = getenv("NPHD_TEST_SCALE") != NULL ? 37 : 1;
    directory_content after[FRAMES + 1];

    memset(after, 0, sizeof(after));
    write_frames(lab, FRAMES, after);
    const journal_file file = take_journal(lab, 2);
    for (size_t at = 0; at < file.bytes; at += step) {
        file.data[at] ^= (uint8_t)(1U << (at % 8));
        dirlab_put(lab, file.name, file.data, file.bytes);
        dirlab_refused(lab, &options, NPHD_CORRUPT, file.name, NULL);
        file.data[at] ^= (uint8_t)(1U << (at % 8));
    }
    dirlab_put(lab, file.name, file.data, file.bytes);
    expect_read(lab, &after[FRAMES]);
    for (size_t i = 0; i <= FRAMES; i++) {
        content_free(&after[i]);
    }
    free(file.data);
}

/* A head that a crash left unfinished has no frames behind it; one that has is damaged. */
static void test_torn_head(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_with_journal(lab);
    directory_content after[2];
    static const uint8_t zeros[NPHDI_JOURNAL_HEAD_BYTES];

    memset(after, 0, sizeof(after));
    write_frames(lab, 1, after);
    const journal_file file = take_journal(lab, 2);
    dirlab_forget_head(lab);
    static const size_t sizes[] = {0, 1, 40, NPHDI_JOURNAL_HEAD_BYTES - 1};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        dirlab_put(lab, file.name, file.data, sizes[i]);
        expect_read(lab, &after[0]);
    }
    dirlab_put(lab, file.name, zeros, sizeof(zeros));
    expect_read(lab, &after[0]);
    dirlab_put(lab, file.name, file.data, NPHDI_JOURNAL_HEAD_BYTES); /* whole, without frames */
    expect_read(lab, &after[0]);
    dirlab_put(lab, file.name, zeros, sizeof(zeros));
    nphd_sharded *sharded = dirlab_open(lab, &options);
    content_expect(sharded, &after[0]);
    assert_int_equal(journals(lab), 0); /* a writer clears it away */
    OK(nphd_sharded_add(sharded, nphd_key_u64(500), (nphd_vector){zeros, 8}, NULL, NULL));
    OK(nphd_sharded_commit(sharded, NULL));
    content_take(sharded, &after[1]);
    nphd_sharded_free(sharded);
    expect_read(lab, &after[1]);
    content_free(&after[0]);
    content_free(&after[1]);
    free(file.data);
}

/* ---- the chain ---- */

/* Three times opened, and crashed after some commits: a journal each. */
static void write_chain(dirlab *lab)
{
    const nphd_sharded_options options = dirlab_with_journal(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    for (uint64_t turn = 0; turn < 3; turn++) {
        dirlab_add(lab, sharded, 100 * turn + 100, 100 * turn + 105);
        OK(nphd_sharded_commit(sharded, NULL));
        dirlab_remove(lab, sharded, turn);
        dirlab_upsert(lab, sharded, 9, (uint8_t)(turn + 1));
        OK(nphd_sharded_commit(sharded, NULL));
        nphd_sharded_free(sharded);
        sharded = dirlab_open(lab, &options);
        dirlab_expect(lab, sharded);
    }
    nphd_sharded_free(sharded);
    assert_int_equal(journals(lab), 3);
}

/* Sectors go with the head that they were written behind. */
static void put_head(dirlab *lab, const journal_file *file, const nphdi_journal_head *head)
{
    nphdi_journal_head written = *head;
    uint8_t *copy = malloc(file->bytes);

    assert_non_null(copy);
    memcpy(copy, file->data, file->bytes);
    nphdi_journal_encode_head(&written, copy);
    journal_repair(copy, file->bytes);
    dirlab_put(lab, file->name, copy, file->bytes);
    free(copy);
}

static void test_chain(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_with_journal(lab);
    const nphd_sharded_options looking = reader(lab);

    write_chain(lab);
    const journal_file first = take_journal(lab, 2);
    const journal_file second = take_journal(lab, 3);
    const journal_file third = take_journal(lab, 4);
    dirlab_delete(lab, second.name); /* a link is missing */
    dirlab_refused(lab, &looking, NPHD_CORRUPT, third.name, "not what is there");
    dirlab_refused(lab, &options, NPHD_CORRUPT, third.name, "not what is there");
    dirlab_put(lab, second.name, second.data, second.bytes);
    dirlab_delete(lab, first.name);
    dirlab_refused(lab, &looking, NPHD_CORRUPT, second.name, "not what is there");
    dirlab_put(lab, first.name, first.data, first.bytes);
    dirlab_cut(lab, first.name, 1); /* less than the second says */
    dirlab_refused(lab, &looking, NPHD_CORRUPT, first.name, "damaged");
    dirlab_cut(lab, first.name, NPHDI_JOURNAL_BLOCK_BYTES - 1);
    dirlab_refused(lab, &looking, NPHD_CORRUPT, first.name, "damaged");
    dirlab_put(lab, first.name, first.data, first.bytes);
    dirlab_put(lab, "journal_00000009", third.data, third.bytes); /* a copy */
    dirlab_refused(lab, &looking, NPHD_CORRUPT, "journal_00000009", "number 4");
    dirlab_delete(lab, "journal_00000009");
    nphdi_journal_head head; /* that ends the one before within a frame */
    OK(nphdi_journal_decode_head(second.name, second.data, &head, NULL));
    head.before_bytes -= 1;
    put_head(lab, &second, &head);
    dirlab_refused(lab, &looking, NPHD_CORRUPT, first.name, "next journal says");
    dirlab_put(lab, second.name, second.data, second.bytes);
    dirlab_delete(lab, third.name);
    dirlab_refused(lab, &looking, NPHD_CORRUPT, third.name, "missing");
    dirlab_refused(lab, &options, NPHD_CORRUPT, third.name, "missing");
    dirlab_forget_head(lab); /* then nobody knows of the end */
    nphd_sharded *sharded = dirlab_open(lab, &looking);
    assert_int_equal(nphd_sharded_size(sharded), lab->items.count - 4);
    dirlab_close(sharded);
    dirlab_put(lab, third.name, third.data, third.bytes);
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
    free(first.data);
    free(second.data);
    free(third.data);
}

/* Heads that are whole and say something wrong. */
static void test_wrong_heads(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options looking = reader(lab);
    directory_content after[2];
    nphdi_journal_head head;
    nphdi_journal_head wrong;

    memset(after, 0, sizeof(after));
    write_frames(lab, 1, after);
    const journal_file file = take_journal(lab, 2);
    OK(nphdi_journal_decode_head(file.name, file.data, &head, NULL));
    wrong = head;
    wrong.identity[7] ^= 1;
    put_head(lab, &file, &wrong);
    dirlab_refused(lab, &looking, NPHD_MISMATCH, file.name, "another index");
    wrong = head;
    wrong.base++; /* of shards that are not there */
    put_head(lab, &file, &wrong);
    dirlab_refused(lab, &looking, NPHD_CORRUPT, file.name, "continues generation");
    wrong = head;
    wrong.base--; /* a save made it superfluous */
    put_head(lab, &file, &wrong);
    expect_read(lab, &after[0]);
    wrong = head;
    wrong.sequence++;
    put_head(lab, &file, &wrong);
    dirlab_refused(lab, &looking, NPHD_CORRUPT, file.name, "number 3");
    wrong = head;
    wrong.key_bytes = 16;
    put_head(lab, &file, &wrong);
    dirlab_refused(lab, &looking, NPHD_CORRUPT, file.name, "keys of 16");
    wrong = head;
    wrong.payload_bytes = 9;
    put_head(lab, &file, &wrong);
    dirlab_refused(lab, &looking, NPHD_CORRUPT, file.name, "vectors of 9");
    put_head(lab, &file, &head);
    expect_read(lab, &after[1]);
    content_free(&after[0]);
    content_free(&after[1]);
    free(file.data);
}

/* ---- verify ---- */

static void count_damage(void *context, const char *text)
{
    size_t *count = context;

    assert_non_null(strstr(text, "journal_"));
    (*count)++;
}

static nphd_status verify(dirlab *lab, nphd_directory_report *report, size_t *told, nphd_error *err)
{
    *told = 0;
    return nphd_directory_verify(DIRLAB_FOLDER, &lab->fault.table, count_damage, told, report, err);
}

static void test_verify(void **state)
{
    dirlab *lab = *state;
    nphd_directory_report report;
    nphd_error err = NPHD_ERROR_INIT;
    size_t told = 0;

    write_chain(lab);
    OK(verify(lab, &report, &told, &err));
    assert_int_equal(report.files, 5); /* bloom, shard, three journals */
    assert_int_equal(report.damaged_files + report.damaged_blocks + told, 0);
    assert_int_equal(report.unverified_files, 0);
    const uint64_t blocks = report.blocks;
    /* two frames of one journal and one of another, each named; the head of the third */
    dirlab_damage(lab, journal_name(2), NPHDI_JOURNAL_BLOCK_BYTES + 100);
    dirlab_damage(lab, journal_name(3), NPHDI_JOURNAL_BLOCK_BYTES + 3);
    dirlab_damage(lab, journal_name(3), 2 * NPHDI_JOURNAL_BLOCK_BYTES + 41);
    assert_int_equal(verify(lab, &report, &told, &err), NPHD_CORRUPT);
    assert_non_null(strstr(err.text, "journal_00000002: frame 0"));
    assert_int_equal(told, 3);
    assert_int_equal(report.damaged_files, 2);
    assert_int_equal(report.damaged_blocks, 3);
    assert_int_equal(report.blocks, blocks);
    dirlab_damage(lab, journal_name(4), 20);
    assert_int_equal(verify(lab, &report, &told, &err), NPHD_CORRUPT);
    assert_non_null(strstr(err.text, "journal_00000002: frame 0"));
    assert_int_equal(report.damaged_files, 3);
    assert_int_equal(told, 4);
}

/* The end of the last journal may be torn; the chain is looked at too. */
static void test_verify_chain(void **state)
{
    dirlab *lab = *state;
    nphd_directory_report report;
    nphd_error err = NPHD_ERROR_INIT;
    size_t told = 0;

    write_chain(lab);
    dirlab_cut(lab, journal_name(4), 5);
    OK(verify(lab, &report, &told, &err));
    const journal_file second = take_journal(lab, 3);
    dirlab_delete(lab, second.name);
    assert_int_equal(verify(lab, &report, &told, &err), NPHD_CORRUPT);
    assert_non_null(strstr(err.text, "journal_00000004"));
    free(second.data);
}

/* ---- readers ---- */

/* A superfluous journal that a reader has seen, and a later one of the same name and size. */
static void test_refresh_tells_journals_of_one_name_apart(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_with_journal(lab);
    const nphd_sharded_options looking = reader(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    bool changed = false;

    dirlab_add(lab, sharded, 0, 1);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    nphd_sharded_free(sharded);
    sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 1, 2);
    OK(nphd_sharded_commit(sharded, NULL));
    const journal_file file = take_journal(lab, 1);
    OK(nphd_sharded_save(sharded, NULL, NULL)); /* dies before it deletes the journal */
    nphd_sharded_free(sharded);
    dirlab_put(lab, file.name, file.data, file.bytes);
    nphd_sharded *seen = dirlab_open(lab, &looking);
    dirlab_expect(lab, seen);
    sharded = dirlab_open(lab, &options); /* deletes it */
    assert_int_equal(journals(lab), 0);
    nphd_sharded_free(sharded);
    sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 2, 3);
    OK(nphd_sharded_commit(sharded, NULL));
    const journal_file again = take_journal(lab, 1);
    assert_int_equal(again.bytes, file.bytes);
    OK(nphd_sharded_refresh(seen, &changed, NULL));
    assert_true(changed);
    dirlab_expect(lab, seen);
    OK(nphd_sharded_refresh(seen, &changed, NULL));
    assert_false(changed);
    nphd_sharded_free(seen);
    nphd_sharded_free(sharded);
    free(file.data);
    free(again.data);
}

/* ---- salvage ---- */

/* A damaged frame is left out; what comes behind it is newer and counts. */
static void test_salvage(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_with_journal(lab);

    write_chain(lab);
    dirlab_damage(lab, journal_name(3), NPHDI_JOURNAL_BLOCK_BYTES + 100); /* adds 200 to 204 */
    options.salvage = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    assert_non_null(strstr(lab->damage, "journal_00000003: frame 0"));
    for (uint64_t key = 200; key < 205; key++) {
        dirlab_drop(&lab->items, nphd_key_u64(key));
    }
    dirlab_expect(lab, sharded);
    /* a process that dies before it saves has changed nothing */
    nphd_sharded_free(sharded);
    const nphd_sharded_options plain = dirlab_with_journal(lab);
    dirlab_refused(lab, &plain, NPHD_CORRUPT, "journal_00000003", "frame 0");
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    assert_int_equal(journals(lab), 3);
    dirlab_add(lab, sharded, 600, 601);
    OK(nphd_sharded_commit(sharded, NULL)); /* a save: no journal can continue the damaged ones */
    nphd_sharded_free(sharded);
    assert_int_equal(journals(lab), 1);
    assert_true(dirlab_exists(lab, "journal_00000003.damaged"));
    options.salvage = false;
    sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* Without the shards that it continues, a journal still has what was added since. */
static void test_salvage_without_beginning(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_with_journal(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_rotate(sharded, NULL));
    dirlab_add(lab, sharded, 10, 20);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    dirlab_add(lab, sharded, 20, 30);
    dirlab_upsert(lab, sharded, 5, 1);
    dirlab_remove(lab, sharded, 6);
    OK(nphd_sharded_commit(sharded, NULL));
    nphd_sharded_free(sharded);
    dirlab_delete(lab, "shard_001.usearch");
    dirlab_refused(lab, &options, NPHD_CORRUPT, "the newest shard is missing", "lock says 2");
    dirlab_forget_head(lab);
    dirlab_refused(lab, &options, NPHD_CORRUPT, "journal_", "continues generation");
    options.salvage = true;
    options.read_only = true;
    sharded = dirlab_open(lab, &options);
    assert_non_null(strstr(lab->damage, "journal_"));
    for (uint64_t key = 10; key < 20; key++) {
        dirlab_drop(&lab->items, nphd_key_u64(key));
    }
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_torn_tail),    DIRLAB_TEST(test_every_byte),
        DIRLAB_TEST(test_torn_head),    DIRLAB_TEST(test_chain),
        DIRLAB_TEST(test_wrong_heads),  DIRLAB_TEST(test_verify),
        DIRLAB_TEST(test_verify_chain), DIRLAB_TEST(test_refresh_tells_journals_of_one_name_apart),
        DIRLAB_TEST(test_salvage),      DIRLAB_TEST(test_salvage_without_beginning),
    };

    return cmocka_run_group_tests_name("files of the journal", tests, NULL, NULL);
}
