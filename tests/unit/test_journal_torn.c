/* What a power cut leaves of a commit, and what it cannot leave: told apart sector by sector. */
#include "support/directory_content.h"
#include "support/directory_lab.h"
#include "support/journal_bytes.h"

#define OK(call) assert_int_equal((call), NPHD_OK)

#define NAME "journal_00000002"
#define SECTOR NPHDI_JOURNAL_SECTOR_BYTES

/* The journal of an index with a save of ten keys and two commits, the second one of some blocks.
 */
typedef struct scene {
    uint8_t *data;
    size_t bytes;
    size_t last; /* where the second commit begins */
    directory_content before;
    directory_content after;
} scene;

static nphd_sharded_options with_journal(dirlab *lab)
{
    nphd_sharded_options options = dirlab_small(lab);

    options.journal = true;
    options.shard_bytes = 1 << 20;
    return options;
}

static scene make_scene(dirlab *lab)
{
    const nphd_sharded_options options = with_journal(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    scene of;

    memset(&of, 0, sizeof(of));
    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    dirlab_add(lab, sharded, 10, 20);
    OK(nphd_sharded_commit(sharded, NULL));
    content_take(sharded, &of.before);
    of.last = 2 * (size_t)NPHDI_JOURNAL_BLOCK_BYTES;
    dirlab_add(lab, sharded, 100, 600);
    OK(nphd_sharded_commit(sharded, NULL));
    content_take(sharded, &of.after);
    nphd_sharded_free(sharded);
    of.data = memory_io_get(lab->disk, dirlab_path(NAME), &of.bytes);
    assert_non_null(of.data);
    assert_int_equal(of.bytes, of.last + nphdi_journal_frame_bytes(500 * (6 + 8 + 8)));
    assert_true(of.bytes > of.last + 2 * (size_t)NPHDI_JOURNAL_BLOCK_BYTES);
    return of;
}

static void end_scene(scene *of)
{
    content_free(&of->before);
    content_free(&of->after);
    free(of->data);
}

static void note(void *context, const char *text)
{
    (void)snprintf(context, 256, "%s", text);
}

/* Opens as the commit before: a writer warns, verify says it, and neither calls it damage. */
static void expect_torn(dirlab *lab, const scene *of, const uint8_t *data, size_t bytes)
{
    nphd_sharded_options options = with_journal(lab);
    nphd_directory_report report;
    char told[256] = "";

    dirlab_put(lab, NAME, data, bytes);
    dirlab_forget_log(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    content_expect(sharded, &of->before);
    nphd_sharded_free(sharded);
    assert_non_null(strstr(lab->log, NAME ": the last"));
    dirlab_forget_log(lab);
    options.read_only = true; /* beside a writer that may be at work */
    sharded = dirlab_open(lab, &options);
    content_expect(sharded, &of->before);
    nphd_sharded_free(sharded);
    assert_string_equal(lab->log, "");
    OK(nphd_directory_verify(DIRLAB_FOLDER, &lab->fault.table, note, told, &report, NULL));
    assert_int_equal(report.damaged_files + report.damaged_blocks, 0);
    assert_non_null(strstr(told, NAME ": the last"));
}

static void expect_damaged(dirlab *lab, const scene *of, const uint8_t *data, size_t bytes,
                           const char *where)
{
    nphd_sharded_options options = with_journal(lab);

    dirlab_put(lab, NAME, data, bytes);
    dirlab_refused(lab, &options, NPHD_CORRUPT, NAME, where);
    assert_int_equal(
        nphd_directory_verify(DIRLAB_FOLDER, &lab->fault.table, NULL, NULL, NULL, NULL),
        NPHD_CORRUPT);
    options.salvage = true;
    options.read_only = true;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    content_expect(sharded, &of->before);
    nphd_sharded_free(sharded);
}

/* A changed byte in the last commit is damage, wherever it is. */
static void test_changed_byte_of_the_last_commit(void **state)
{
    dirlab *lab = *state;
    scene of = make_scene(lab);

    for (size_t at = of.last; at < of.bytes; at += 61) {
        of.data[at] ^= (uint8_t)(1U << (at % 8));
        expect_damaged(lab, &of, of.data, of.bytes, "frame 1 at byte 8192 is damaged");
        of.data[at] ^= (uint8_t)(1U << (at % 8));
    }
    end_scene(&of);
}

/* Each sector is missing, zeros or as it was written: a commit that was interrupted. */
static void test_sectors_old_or_new(void **state)
{
    dirlab *lab = *state;
    scene of = make_scene(lab);
    uint8_t *copy = malloc(of.bytes);

    assert_non_null(copy);
    memcpy(copy, of.data, of.bytes);
    for (size_t at = of.last; at < of.bytes; at += SECTOR) { /* one hole */
        memset(copy + at, 0, SECTOR);
        expect_torn(lab, &of, copy, of.bytes);
        memcpy(copy + at, of.data + at, SECTOR);
    }
    for (size_t bytes = of.last + 1; bytes < of.bytes; bytes += 123) { /* the end is missing */
        expect_torn(lab, &of, copy, bytes);
    }
    for (int turn = 0; turn < 100; turn++) {
        const size_t bytes =
            of.last + 1 + (size_t)test_random_below(&lab->random, of.bytes - of.last);
        bool changed = bytes < of.bytes;
        memcpy(copy, of.data, of.bytes);
        for (size_t at = of.last; at < of.bytes; at += SECTOR) {
            if (test_random_below(&lab->random, 2) != 0) {
                memset(copy + at, 0, SECTOR);
                changed = true;
            }
        }
        if (changed) {
            expect_torn(lab, &of, copy, bytes);
        }
    }
    memset(copy + of.last, 0, of.bytes - of.last);
    expect_torn(lab, &of, copy, of.bytes);
    free(copy);
    end_scene(&of);
}

/* A later commit was written after this one had been flushed: a hole in this one is damage, as soon
 * as the file is longer, whatever is behind. */
static void test_hole_before_a_later_commit(void **state)
{
    dirlab *lab = *state;
    scene of = make_scene(lab);
    uint8_t *longer = calloc(of.bytes + NPHDI_JOURNAL_BLOCK_BYTES, 1);

    assert_non_null(longer);
    memcpy(longer, of.data, of.bytes);
    for (size_t at = of.last + SECTOR; at < of.bytes; at += SECTOR) {
        memset(longer + at, 0, SECTOR);
        expect_damaged(lab, &of, longer, of.bytes + 1, "frame 1 at byte 8192 is damaged");
        expect_damaged(lab, &of, longer, of.bytes + NPHDI_JOURNAL_BLOCK_BYTES, "frame 1");
        memcpy(longer + at, of.data + at, SECTOR);
    }
    free(longer);
    end_scene(&of);
}

/* Sectors of this journal at another place, of another frame, or of another journal. */
static void test_sectors_of_elsewhere(void **state)
{
    dirlab *lab = *state;
    scene of = make_scene(lab);
    uint8_t *copy = malloc(of.bytes);
    nphdi_journal_head head;

    assert_non_null(copy);
    memcpy(copy, of.data, of.bytes);
    memcpy(copy + of.last + SECTOR, of.data + of.last + 2 * SECTOR, SECTOR);
    expect_damaged(lab, &of, copy, of.bytes, "frame 1");
    memcpy(copy, of.data, of.bytes);
    memcpy(copy + of.last, of.data + NPHDI_JOURNAL_HEAD_BYTES, NPHDI_JOURNAL_BLOCK_BYTES);
    expect_damaged(lab, &of, copy, of.bytes, "frame 1");
    /* what an older journal of this index left on the disk at the same place: another salt */
    OK(nphdi_journal_decode_head(NAME, of.data, &head, NULL));
    memcpy(copy, of.data, of.bytes);
    head.salt++;
    nphdi_journal_encode_head(&head, copy);
    for (size_t at = of.last; at < of.bytes; at += SECTOR) {
        journal_repair_sector(copy, at, copy + at);
    }
    memcpy(copy, of.data, NPHDI_JOURNAL_HEAD_BYTES);
    expect_damaged(lab, &of, copy, of.bytes, "frame 1");
    free(copy);
    end_scene(&of);
}

/* Vectors whose bytes are the head of a frame of version 1, or all that a sector of version 2 has
 * where it stands: a commit of them that is interrupted is cut like any other. */
static void test_vectors_that_look_like_frames(void **state)
{
    enum { BYTES = 255 };
    dirlab *lab = *state;
    nphd_sharded_options options = with_journal(lab);
    uint8_t frame[NPHDI_JOURNAL_BLOCK_BYTES + 64] = {0};
    uint8_t bits[BYTES];
    scene of;
    size_t bytes = 0;

    memset(&of, 0, sizeof(of));
    options.max_bits = 8 * BYTES;
    nphd_sharded *sharded = dirlab_open(lab, &options);
    memset(bits, 1, sizeof(bits));
    OK(nphd_sharded_add(sharded, nphd_key_u64(0), (nphd_vector){bits, BYTES}, NULL, NULL));
    OK(nphd_sharded_save(sharded, NULL, NULL));
    OK(nphd_sharded_add(sharded, nphd_key_u64(1), (nphd_vector){bits, BYTES}, NULL, NULL));
    OK(nphd_sharded_commit(sharded, NULL));
    content_take(sharded, &of.before);
    (void)journal_v1_seal_frame(1000, 100, frame);
    for (uint64_t key = 2; key < 300; key++) {
        for (size_t i = 0; i < BYTES; i++) { /* at every distance from the blocks */
            bits[i] = frame[(i + key) % NPHDI_JOURNAL_V1_FRAME_BYTES];
        }
        OK(nphd_sharded_add(sharded, nphd_key_u64(key), (nphd_vector){bits, BYTES}, NULL, NULL));
    }
    OK(nphd_sharded_commit(sharded, NULL));
    nphd_sharded_free(sharded);
    uint8_t *data = memory_io_get(lab->disk, dirlab_path(NAME), &bytes);
    assert_non_null(data);
    for (size_t less = NPHDI_JOURNAL_BLOCK_BYTES; less < bytes - 8192; less += 4096) {
        nphd_sharded_options looking = dirlab_options(lab);
        looking.read_only = true;
        dirlab_put(lab, NAME, data, bytes - less);
        nphd_sharded *reader = dirlab_open(lab, &looking);
        content_expect(reader, &of.before);
        nphd_sharded_free(reader);
    }
    free(data);
    content_free(&of.before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_changed_byte_of_the_last_commit), DIRLAB_TEST(test_sectors_old_or_new),
        DIRLAB_TEST(test_hole_before_a_later_commit),      DIRLAB_TEST(test_sectors_of_elsewhere),
        DIRLAB_TEST(test_vectors_that_look_like_frames),
    };

    return cmocka_run_group_tests_name("torn and damaged journals", tests, NULL, NULL);
}
