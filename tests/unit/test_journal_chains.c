/* Journals written by hand: chains that no writer leaves behind, heads and records that are whole
 * and wrong, numbers of nine digits, which are sorted before those of eight. Opening applies what
 * belongs together in its order, or names the file that does not; salvage takes the rest. */
#include "base/bytes.h"
#include "base/hash.h"
#include "formats/journal_format.h"
#include "support/directory_lab.h"

#include <stdio.h>
#include <stdlib.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

/* Offsets in the head (docs/format.md). */
#define HEAD_VERSION 8
#define HEAD_CHECKSUM (NPHDI_JOURNAL_HEAD_BYTES - 8)

/* ---- writing ---- */

typedef struct script {
    nphdi_journal_head head;
    uint8_t *data;
    size_t bytes;
    uint64_t frames;
} script;

static nphd_sharded_options with_journal(dirlab *lab)
{
    nphd_sharded_options options = dirlab_small(lab);

    options.journal = true;
    return options;
}

static const char *journal_name(uint64_t sequence)
{
    static char name[32];

    (void)snprintf(name, sizeof(name), "journal_%08llu", (unsigned long long)sequence);
    return name;
}

/* A saved index with keys 0 to 9, and the head of a journal that continues it. */
static nphdi_journal_head make_base(dirlab *lab)
{
    const nphd_sharded_options options = with_journal(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    nphdi_journal_head head;
    size_t bytes = 0;

    dirlab_add(lab, sharded, 0, 10);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    dirlab_add(lab, sharded, 99, 100);
    OK(nphd_sharded_commit(sharded, NULL));
    nphd_sharded_free(sharded);
    uint8_t *data = memory_io_get(lab->disk, dirlab_path(journal_name(2)), &bytes);
    assert_non_null(data);
    OK(nphdi_journal_decode_head("base", data, &head, NULL));
    free(data);
    dirlab_delete(lab, journal_name(2));
    dirlab_drop(&lab->items, nphd_key_u64(99));
    return head;
}

static script begin(const nphdi_journal_head *base, uint64_t sequence, const script *before)
{
    script of;

    memset(&of, 0, sizeof(of));
    of.head = *base;
    of.head.sequence = sequence;
    of.head.before = before != NULL ? before->head.sequence : 0;
    of.head.before_bytes = before != NULL ? before->bytes : 0;
    of.head.before_base = before != NULL ? before->head.base : 0;
    of.bytes = NPHDI_JOURNAL_HEAD_BYTES;
    of.data = calloc(1, of.bytes);
    assert_non_null(of.data);
    return of;
}

static void put_frame(script *of, const uint8_t *records, size_t count)
{
    const size_t padded = (size_t)nphdi_journal_padded(count);
    nphdi_journal_frame frame = {of->frames++, count, 0};
    const size_t begin_at = of->bytes + NPHDI_JOURNAL_FRAME_BYTES;

    of->data = realloc(of->data, begin_at + padded);
    assert_non_null(of->data);
    memset(of->data + begin_at, 0, padded);
    memcpy(of->data + begin_at, records, count);
    frame.checksum = nphdi_hash_bytes(of->data + begin_at, padded);
    nphdi_journal_encode_frame(&frame, of->data + of->bytes);
    of->bytes = begin_at + padded;
}

/* A frame that gives keys from..to-1 vectors of that version. */
static void put_keys(script *of, nphdi_journal_kind kind, uint64_t from, uint64_t to,
                     uint8_t version)
{
    uint8_t *records = malloc((size_t)(to - from) * NPHDI_JOURNAL_RECORD_MOST);
    size_t bytes = 0;
    uint8_t bits[8];

    assert_non_null(records);
    for (uint64_t key = from; key < to; key++) {
        const nphdi_journal_record record = {kind, nphd_key_u64(key),
                                             dirlab_vector(key, version, bits)};
        bytes += nphdi_journal_encode_record(&record, 8, records + bytes);
    }
    put_frame(of, records, bytes);
    free(records);
}

/* Expects them. */
static void expect_keys(dirlab *lab, uint64_t from, uint64_t to, uint8_t version)
{
    uint8_t bits[8];

    for (uint64_t key = from; key < to; key++) {
        dirlab_set(&lab->items, nphd_key_u64(key), dirlab_vector(key, version, bits));
    }
}

static void put(dirlab *lab, script *of)
{
    nphdi_journal_encode_head(&of->head, of->data);
    dirlab_put(lab, journal_name(of->head.sequence), of->data, of->bytes);
}

static void end(script *of)
{
    free(of->data);
    memset(of, 0, sizeof(*of));
}

static void expect_opens(dirlab *lab, bool salvage)
{
    nphd_sharded_options options = with_journal(lab);

    options.read_only = true;
    options.salvage = salvage;
    dirlab_forget_log(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    dirlab_close(sharded);
}

/* How often salvage has told of that journal. */
static size_t times_told(const dirlab *lab, const char *part)
{
    size_t count = 0;

    for (const char *at = strstr(lab->damage, part); at != NULL; at = strstr(at + 1, part)) {
        count++;
    }
    return count;
}

/* ---- records ---- */

/* More than are applied at once, in one frame. */
static void test_long_frame(void **state)
{
    dirlab *lab = *state;
    const nphdi_journal_head base = make_base(lab);
    script first = begin(&base, 2, NULL);

    put_keys(&first, NPHDI_JOURNAL_ADD, 1000, 1000 + 4096 + 50, 0);
    put_keys(&first, NPHDI_JOURNAL_REPLACE, 1000, 1010, 1);
    put(lab, &first);
    end(&first);
    nphd_sharded_options options = with_journal(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    assert_int_equal(nphd_sharded_size(sharded), 10 + 4096 + 50);
    uint8_t bits[8];
    uint8_t found[8];
    size_t bytes = 0;
    for (uint64_t key = 1000; key < 1000 + 4096 + 50; key++) {
        OK(nphd_sharded_get(sharded, nphd_key_u64(key), found, 8, &bytes, NULL));
        assert_memory_equal(found, dirlab_vector(key, key < 1010 ? 1 : 0, bits).data, 8);
    }
    nphd_sharded_free(sharded);
}

/* Behind a checksum that is right. */
static void test_wrong_records(void **state)
{
    static const uint8_t kind[] = {9, 1, 2, 3, 4, 5, 6, 7, 8};
    static const uint8_t cut[] = {NPHDI_JOURNAL_REMOVE, 1, 2, 3};
    static const uint8_t empty[] = {NPHDI_JOURNAL_ADD, 1, 2, 3, 4, 5, 6, 7, 0, 0};
    dirlab *lab = *state;
    const nphdi_journal_head base = make_base(lab);
    nphd_sharded_options options = with_journal(lab);

    for (int which = 0; which < 3; which++) {
        script first = begin(&base, 2, NULL);
        put_keys(&first, NPHDI_JOURNAL_ADD, 100, 105, 0);
        put_frame(&first,
                  which == 0   ? kind
                  : which == 1 ? cut
                               : empty,
                  which == 0   ? sizeof(kind)
                  : which == 1 ? sizeof(cut)
                               : sizeof(empty));
        put(lab, &first);
        end(&first);
        for (int salvage = 0; salvage < 2; salvage++) {
            options.salvage = salvage != 0;
            dirlab_refused(lab, &options, NPHD_CORRUPT, journal_name(2),
                           which == 0 ? "of kind 9" : "is cut");
        }
    }
    dirlab_delete(lab, journal_name(2));
    expect_opens(lab, false);
}

/* Two damaged frames of one journal are told once; what stands between and behind counts. */
static void test_two_damaged_frames(void **state)
{
    dirlab *lab = *state;
    const nphdi_journal_head base = make_base(lab);
    script first = begin(&base, 2, NULL);

    for (uint64_t frame = 0; frame < 5; frame++) {
        put_keys(&first, NPHDI_JOURNAL_ADD, 100 + 10 * frame, 105 + 10 * frame, 0);
    }
    put(lab, &first);
    dirlab_damage(lab, journal_name(2), NPHDI_JOURNAL_HEAD_BYTES + 60);
    dirlab_damage(lab, journal_name(2), NPHDI_JOURNAL_HEAD_BYTES + 2 * 4096 + 60);
    expect_keys(lab, 110, 115, 0);
    expect_keys(lab, 130, 135, 0);
    expect_keys(lab, 140, 145, 0);
    expect_opens(lab, true);
    assert_int_equal(times_told(lab, "journal_00000002"), 1);
    end(&first);
}

/* Whole frames out of their order end the journal as a torn one does, wherever they stand: at the
 * end of the whole frames, or behind a block that is none. */
static void test_frames_of_other_numbers(void **state)
{
    dirlab *lab = *state;
    const nphdi_journal_head base = make_base(lab);
    script first = begin(&base, 2, NULL);

    put_keys(&first, NPHDI_JOURNAL_ADD, 100, 105, 0);
    put_keys(&first, NPHDI_JOURNAL_ADD, 200, 205, 0);
    expect_keys(lab, 100, 105, 0);
    expect_keys(lab, 200, 205, 0);
    first.frames = 7; /* there is no 2 */
    put_keys(&first, NPHDI_JOURNAL_ADD, 300, 305, 0);
    put(lab, &first);
    expect_opens(lab, false);
    first.frames = 0; /* an old one once more */
    put_keys(&first, NPHDI_JOURNAL_ADD, 400, 405, 0);
    put(lab, &first);
    expect_opens(lab, false);
    OK(nphd_directory_verify(DIRLAB_FOLDER, &lab->fault.table, NULL, NULL, NULL, NULL));
    end(&first);
}

/* ---- heads ---- */

static void test_heads_that_salvage_passes_over(void **state)
{
    dirlab *lab = *state;
    const nphdi_journal_head base = make_base(lab);
    nphd_sharded_options options = with_journal(lab);
    script first = begin(&base, 2, NULL);
    script other = begin(&base, 3, &first);

    put_keys(&first, NPHDI_JOURNAL_ADD, 100, 105, 0);
    expect_keys(lab, 100, 105, 0);
    put(lab, &first);
    put_keys(&other, NPHDI_JOURNAL_ADD, 200, 205, 0);
    other.head.identity[3] ^= 1; /* of another index */
    put(lab, &other);
    dirlab_refused(lab, &options, NPHD_MISMATCH, journal_name(3), "another index");
    expect_opens(lab, true);
    assert_int_equal(times_told(lab, "journal_00000003"), 1);
    other.head.identity[3] ^= 1;
    put(lab, &other); /* of a later version */
    nphdi_put32(other.data + HEAD_VERSION, 2);
    nphdi_put64(other.data + HEAD_CHECKSUM, nphdi_hash_bytes(other.data, HEAD_CHECKSUM));
    dirlab_put(lab, journal_name(3), other.data, other.bytes);
    dirlab_refused(lab, &options, NPHD_UNSUPPORTED, journal_name(3), "version 2");
    expect_opens(lab, true);
    assert_int_equal(times_told(lab, "journal_00000003"), 1);
    end(&first);
    end(&other);
}

/* The second says that the first ends within a frame: salvage takes both. */
static void test_wrong_length(void **state)
{
    dirlab *lab = *state;
    const nphdi_journal_head base = make_base(lab);
    nphd_sharded_options options = with_journal(lab);
    script first = begin(&base, 2, NULL);

    put_keys(&first, NPHDI_JOURNAL_ADD, 100, 105, 0);
    put(lab, &first);
    script second = begin(&base, 3, &first);
    put_keys(&second, NPHDI_JOURNAL_ADD, 200, 205, 0);
    second.head.before_bytes--;
    put(lab, &second);
    dirlab_refused(lab, &options, NPHD_CORRUPT, journal_name(2), "next journal says");
    expect_keys(lab, 100, 105, 0);
    expect_keys(lab, 200, 205, 0);
    expect_opens(lab, true);
    assert_int_equal(times_told(lab, "next journal says"), 1);
    end(&first);
    end(&second);
}

/* ---- the chain ---- */

/* Nine digits are sorted before eight. */
static void test_wide_numbers(void **state)
{
    dirlab *lab = *state;
    const nphdi_journal_head base = make_base(lab);
    const nphd_sharded_options options = with_journal(lab);
    script first = begin(&base, 20000000, NULL);

    put_keys(&first, NPHDI_JOURNAL_ADD, 100, 105, 0);
    put(lab, &first);
    script second = begin(&base, 100000000, &first);
    put_keys(&second, NPHDI_JOURNAL_REPLACE, 102, 107, 1);
    put(lab, &second);
    expect_keys(lab, 100, 102, 0);
    expect_keys(lab, 102, 107, 1);
    expect_opens(lab, false);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_add(lab, sharded, 300, 301);
    OK(nphd_sharded_commit(sharded, NULL));
    nphd_sharded_free(sharded);
    assert_true(dirlab_exists(lab, "journal_100000001"));
    expect_opens(lab, false);
    dirlab_delete(lab, "journal_100000001");
    dirlab_drop(&lab->items, nphd_key_u64(300));

    /* both begin the chain: the one with the higher number does not belong to it */
    second.head.before = 0;
    second.head.before_base = 0;
    put(lab, &second);
    dirlab_refused(lab, &options, NPHD_CORRUPT, "journal_100000000", "not what is there");
    expect_opens(lab, true); /* applied behind the other */
    assert_int_equal(times_told(lab, "journal_100000000"), 1);

    /* one that begins it too and is read after both: still the lowest number is the beginning */
    script third = begin(&base, 30000000, NULL);
    put_keys(&third, NPHDI_JOURNAL_REPLACE, 104, 109, 2);
    put(lab, &third);
    dirlab_refused(lab, &options, NPHD_CORRUPT, "journal_30000000", "not what is there");
    end(&third);
    dirlab_delete(lab, "journal_30000000");

    /* neither does: the lower number is older */
    first.head.before = 7;
    first.head.before_base = base.base;
    second.head.before = 8;
    second.head.before_base = base.base;
    put(lab, &first);
    put(lab, &second);
    dirlab_refused(lab, &options, NPHD_CORRUPT, "journal_20000000", "not what is there");
    expect_opens(lab, true);
    assert_int_equal(times_told(lab, "not what is there"), 2);
    end(&first);
    end(&second);
}

/* Set apart, where the reference has saved the directory since. */
static void test_wide_numbers_apart(void **state)
{
    dirlab *lab = *state;
    const nphdi_journal_head base = make_base(lab);
    const nphd_sharded_options options = with_journal(lab);
    script first = begin(&base, 20000000, NULL);
    script second = begin(&base, 100000000, NULL);

    put_keys(&first, NPHDI_JOURNAL_ADD, 100, 105, 0);
    put_keys(&second, NPHDI_JOURNAL_ADD, 100, 105, 0);
    put(lab, &first);
    put(lab, &second);
    end(&first);
    end(&second);
    dirlab_put_bloom(lab, 8);
    nphd_sharded *sharded = dirlab_open(lab, &options);
    assert_non_null(strstr(lab->log, "journal_20000000: not applied"));
    assert_non_null(strstr(lab->log, "journal_100000000: not applied"));
    dirlab_expect(lab, sharded);
    dirlab_add(lab, sharded, 300, 301);
    OK(nphd_sharded_commit(sharded, NULL)); /* a save */
    dirlab_add(lab, sharded, 301, 302);
    OK(nphd_sharded_commit(sharded, NULL));
    nphd_sharded_free(sharded);
    assert_int_equal(memory_io_count(lab->disk, DIRLAB_FOLDER "/journal_"), 1);
    assert_false(dirlab_exists(lab, "journal_20000000") || dirlab_exists(lab, "journal_100000000"));
    expect_opens(lab, false);
}

/* Each names the other as the one before it. */
static void test_circle(void **state)
{
    dirlab *lab = *state;
    const nphdi_journal_head base = make_base(lab);
    script first = begin(&base, 5, NULL);

    put_keys(&first, NPHDI_JOURNAL_ADD, 100, 105, 0);
    first.head.before = 6;
    put(lab, &first);
    script second = begin(&base, 6, &first);
    put_keys(&second, NPHDI_JOURNAL_REPLACE, 103, 108, 1);
    put(lab, &second);
    expect_keys(lab, 100, 103, 0);
    expect_keys(lab, 103, 108, 1);
    expect_opens(lab, false);
    end(&first);
    end(&second);
}

/* One that continues the journal but an older save is none of this chain, and goes. */
static void test_successor_of_an_older_save(void **state)
{
    dirlab *lab = *state;
    const nphdi_journal_head base = make_base(lab);
    const nphd_sharded_options options = with_journal(lab);
    script first = begin(&base, 5, NULL);

    put_keys(&first, NPHDI_JOURNAL_ADD, 100, 105, 0);
    put(lab, &first);
    script second = begin(&base, 6, &first);
    put_keys(&second, NPHDI_JOURNAL_REPLACE, 103, 108, 1);
    second.head.base--;
    put(lab, &second);
    expect_keys(lab, 100, 105, 0);
    expect_opens(lab, false);
    assert_true(dirlab_exists(lab, journal_name(6)));
    nphd_sharded *sharded = dirlab_open(lab, &options);
    dirlab_expect(lab, sharded);
    assert_false(dirlab_exists(lab, journal_name(6)));
    nphd_sharded_free(sharded);
    end(&first);
    end(&second);
}

/* Three of a chain, the middle one out of order: its number is lower than that of the one before.
 */
static void test_out_of_order(void **state)
{
    dirlab *lab = *state;
    const nphdi_journal_head base = make_base(lab);
    const nphd_sharded_options options = with_journal(lab);
    script first = begin(&base, 5, NULL);

    put_keys(&first, NPHDI_JOURNAL_ADD, 100, 105, 0);
    put(lab, &first);
    script second = begin(&base, 4, &first);
    put_keys(&second, NPHDI_JOURNAL_ADD, 200, 205, 0);
    second.head.before_base = base.base;
    put(lab, &second);
    script third = begin(&base, 6, &second);
    put_keys(&third, NPHDI_JOURNAL_ADD, 300, 305, 0);
    third.head.before_base = base.base;
    put(lab, &third);
    dirlab_refused(lab, &options, NPHD_CORRUPT, journal_name(4), "not what is there");
    expect_keys(lab, 100, 105, 0);
    expect_keys(lab, 200, 205, 0);
    expect_keys(lab, 300, 305, 0);
    expect_opens(lab, true);
    end(&first);
    end(&second);
    end(&third);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_long_frame),
        DIRLAB_TEST(test_wrong_records),
        DIRLAB_TEST(test_two_damaged_frames),
        DIRLAB_TEST(test_frames_of_other_numbers),
        DIRLAB_TEST(test_heads_that_salvage_passes_over),
        DIRLAB_TEST(test_wrong_length),
        DIRLAB_TEST(test_wide_numbers),
        DIRLAB_TEST(test_wide_numbers_apart),
        DIRLAB_TEST(test_circle),
        DIRLAB_TEST(test_successor_of_an_older_save),
        DIRLAB_TEST(test_out_of_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
