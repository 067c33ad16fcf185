/* Records behind right checksums that no caller could have made, in indexes of other kinds:
 * refused with file, frame and place; salvage goes on without them, and what it leaves opens. */
#include "support/directory_lab.h"
#include "support/journal_bytes.h"

#define OK(call) assert_int_equal((call), NPHD_OK)

#define NAME "journal_00000002"

typedef struct crafted {
    nphdi_journal_record record;
    const char *says;
} crafted;

static nphd_sharded_options options_of(dirlab *lab, nphd_metric metric, bool multi)
{
    nphd_sharded_options options = dirlab_small(lab);

    options.journal = true;
    options.metric = metric;
    options.multi = multi ? 2 : 1;
    return options;
}

/* A journal with that record between two frames that were committed. */
static void put_journal(dirlab *lab, const nphd_sharded_options *options, const crafted *wrong)
{
    enum { FRAMES = 3 };
    static uint8_t data[NPHDI_JOURNAL_HEAD_BYTES + FRAMES * NPHDI_JOURNAL_BLOCK_BYTES];
    nphdi_journal_head head;
    size_t bytes = 0;
    uint8_t bits[8];

    nphd_sharded *sharded = dirlab_open(lab, options);
    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    dirlab_add(lab, sharded, 20, 21);
    OK(nphd_sharded_commit(sharded, NULL));
    nphd_sharded_free(sharded);
    uint8_t *journal = memory_io_get(lab->disk, dirlab_path(NAME), &bytes);
    assert_non_null(journal);
    OK(nphdi_journal_decode_head(NAME, journal, &head, NULL));
    memset(data, 0, sizeof(data));
    memcpy(data, journal, bytes);
    free(journal);
    for (uint32_t frame = 1; frame < FRAMES; frame++) {
        const uint64_t at = NPHDI_JOURNAL_HEAD_BYTES + frame * NPHDI_JOURNAL_BLOCK_BYTES;
        nphdi_journal_record good = {.kind = NPHDI_JOURNAL_ADD, .key = nphd_key_u64(30)};
        good.vector = dirlab_vector(30, 0, bits);
        const size_t count = nphdi_journal_encode_record(frame == 1 ? &wrong->record : &good, 8,
                                                         data + at + NPHDI_JOURNAL_START_BYTES);
        nphdi_journal_seal_frame(&head, at, frame, count, data + at);
        dirlab_set(&lab->items, good.key, good.vector);
    }
    dirlab_put(lab, NAME, data, sizeof(data));
}

static void try_record(dirlab *lab, nphd_metric metric, bool multi, const crafted *wrong)
{
    const nphd_sharded_options options = options_of(lab, metric, multi);
    nphd_sharded_options salvaging = options;
    nphd_salvage_report report;

    put_journal(lab, &options, wrong);
    dirlab_refused(lab, &options, NPHD_CORRUPT, NAME ": frame 1: the record at 0", wrong->says);
    OK(nphd_directory_salvage(DIRLAB_FOLDER, "clean", &lab->fault.table, NULL, NULL, &report,
                              NULL));
    assert_int_equal(report.vectors, lab->items.count);
    /* a writer with salvage leaves a directory that opens without it */
    salvaging.salvage = true;
    nphd_sharded *sharded = dirlab_open(lab, &salvaging);
    assert_int_equal(nphd_sharded_size(sharded), lab->items.count);
    assert_non_null(strstr(lab->damage, wrong->says));
    dirlab_close(sharded);
    sharded = dirlab_open(lab, &options);
    assert_int_equal(nphd_sharded_size(sharded), lab->items.count);
    assert_true(dirlab_has(sharded, 20) && dirlab_has(sharded, 30));
    nphd_sharded_free(sharded);
}

static const uint8_t short_bits[4] = {1, 2, 3, 4};

static void test_hamming_vector_of_another_length(void **state)
{
    const crafted wrong = {
        {.kind = NPHDI_JOURNAL_REPLACE, .key = {0, 40}, .vector = {short_bits, sizeof(short_bits)}},
        "a vector of 4 bytes; this index takes 8"};

    try_record(*state, NPHD_METRIC_HAMMING, false, &wrong);
}

static void test_reserved_key(void **state)
{
    const crafted wrong = {{.kind = NPHDI_JOURNAL_ADD,
                            .key = {0, UINT64_MAX},
                            .vector = {short_bits, sizeof(short_bits)}},
                           "reserved key"};

    try_record(*state, NPHD_METRIC_NPHD, false, &wrong);
}

static void test_replacing_in_a_multi_index(void **state)
{
    const crafted wrong = {
        {.kind = NPHDI_JOURNAL_REPLACE, .key = {0, 3}, .vector = {short_bits, sizeof(short_bits)}},
        "the index is multi"};

    try_record(*state, NPHD_METRIC_NPHD, true, &wrong);
}

static void test_removing_in_a_multi_index(void **state)
{
    const crafted wrong = {{.kind = NPHDI_JOURNAL_REMOVE, .key = {0, 3}}, "the index is multi"};

    try_record(*state, NPHD_METRIC_NPHD, true, &wrong);
}

/* The head of the journal has the metric too. */
static void test_metric_of_another_index(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = options_of(lab, NPHD_METRIC_HAMMING, false);
    const crafted good = {{.kind = NPHDI_JOURNAL_REMOVE, .key = {0, 3}}, NULL};
    size_t bytes = 0;

    put_journal(lab, &options, &good);
    uint8_t *data = memory_io_get(lab->disk, dirlab_path(NAME), &bytes);
    assert_non_null(data);
    assert_int_equal(nphdi_get32(data + 80), 'b');
    nphdi_put32(data + 80, 'n');
    journal_repair(data, bytes);
    dirlab_put(lab, NAME, data, bytes);
    dirlab_refused(lab, &options, NPHD_CORRUPT, NAME, "metric 110 and scalar 1 do not fit");
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_hamming_vector_of_another_length),
        DIRLAB_TEST(test_reserved_key),
        DIRLAB_TEST(test_replacing_in_a_multi_index),
        DIRLAB_TEST(test_removing_in_a_multi_index),
        DIRLAB_TEST(test_metric_of_another_index),
    };

    return cmocka_run_group_tests_name("records that no caller made", tests, NULL, NULL);
}
