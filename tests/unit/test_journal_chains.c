/* Journals written by hand: chains that no writer leaves behind, heads and records that are whole
 * and wrong, numbers of nine digits, which are sorted before those of eight. Opening applies what
 * belongs together in its order, or names the file that does not; salvage takes the rest. */
#include "support/directory_lab.h"
#include "support/journal_bytes.h"

#include <stdio.h>
#include <stdlib.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

/* Offsets in the head (docs/format.md). */
#define HEAD_VERSION 8

/* ---- writing ---- */

/* Frames are sealed when all is known, as their checksums cover the head. */
typedef struct script_frame {
    uint64_t number;
    size_t begin; /* of its room in `data` */
    size_t bytes; /* of records */
} script_frame;

typedef struct script {
    nphdi_journal_head head;
    uint8_t *data;
    size_t bytes;
    uint64_t number; /* of the next frame */
    script_frame frames[8];
    size_t frame_count;
} script;

/* The version that scripts are written in: tests run once with each. */
static uint32_t version = NPHDI_JOURNAL_VERSION;

static const char *journal_name(uint64_t sequence)
{
    static char name[32];

    (void)snprintf(name, sizeof(name), "journal_%08llu", (unsigned long long)sequence);
    return name;
}

/* A saved index with keys 0 to 9, and the head of a journal that continues it. */
static nphdi_journal_head make_base(dirlab *lab)
{
    const nphd_sharded_options options = dirlab_with_journal(lab);
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
    dirlab_forget_head(lab);
    dirlab_drop(&lab->items, nphd_key_u64(99));
    return head;
}

static script begin(const nphdi_journal_head *base, uint64_t sequence, const script *before)
{
    script of;

    memset(&of, 0, sizeof(of));
    of.head = *base;
    of.head.version = version;
    of.head.sequence = sequence;
    of.head.before = before != NULL ? before->head.sequence : 0;
    of.head.before_bytes = before != NULL ? before->bytes : 0;
    of.head.before_base = before != NULL ? before->head.base : 0;
    of.bytes = NPHDI_JOURNAL_HEAD_BYTES;
    of.data = calloc(1, of.bytes);
    assert_non_null(of.data);
    return of;
}

static size_t records_begin(void)
{
    return version == 1 ? NPHDI_JOURNAL_V1_FRAME_BYTES : NPHDI_JOURNAL_START_BYTES;
}

static void put_frame(script *of, const uint8_t *records, size_t count)
{
    const size_t bytes = version == 1
                             ? NPHDI_JOURNAL_V1_FRAME_BYTES + (size_t)nphdi_journal_v1_padded(count)
                             : (size_t)nphdi_journal_frame_bytes(count);
    const script_frame frame = {of->number++, of->bytes, count};

    of->data = realloc(of->data, of->bytes + bytes);
    assert_non_null(of->data);
    memset(of->data + of->bytes, 0, bytes);
    memcpy(of->data + of->bytes + records_begin(), records, count);
    of->bytes += bytes;
    assert_true(of->frame_count < sizeof(of->frames) / sizeof(of->frames[0]));
    of->frames[of->frame_count++] = frame;
}

static size_t put_record(const nphdi_journal_record *record, uint8_t *out)
{
    return version == 1 ? journal_v1_put_record(record, 8, out)
                        : nphdi_journal_encode_record(record, 8, out);
}

/* A frame that gives keys from..to-1 vectors of that edition. */
static void put_keys(script *of, nphdi_journal_kind kind, uint64_t from, uint64_t to,
                     uint8_t edition)
{
    uint8_t *records = malloc((size_t)(to - from) * NPHDI_JOURNAL_RECORD_MOST);
    size_t bytes = 0;
    uint8_t bits[8];

    assert_non_null(records);
    for (uint64_t key = from; key < to; key++) {
        const nphdi_journal_record record = {
            .kind = kind, .key = nphd_key_u64(key), .vector = dirlab_vector(key, edition, bits)};
        bytes += put_record(&record, records + bytes);
    }
    put_frame(of, records, bytes);
    free(records);
}

/* Expects them. */
static void expect_keys(dirlab *lab, uint64_t from, uint64_t to, uint8_t edition)
{
    uint8_t bits[8];

    for (uint64_t key = from; key < to; key++) {
        dirlab_set(&lab->items, nphd_key_u64(key), dirlab_vector(key, edition, bits));
    }
}

static void put(dirlab *lab, const script *of)
{
    uint8_t *copy = malloc(of->bytes);
    nphdi_journal_head head = of->head;

    assert_non_null(copy);
    memcpy(copy, of->data, of->bytes);
    nphdi_journal_encode_head(&head, copy);
    for (size_t i = 0; i < of->frame_count; i++) {
        const script_frame *frame = &of->frames[i];
        if (version == 1) {
            (void)journal_v1_seal_frame(frame->number, frame->bytes, copy + frame->begin);
        } else {
            nphdi_journal_seal_frame(&head, frame->begin, (uint32_t)frame->number, frame->bytes,
                                     copy + frame->begin);
        }
    }
    dirlab_put(lab, journal_name(of->head.sequence), copy, of->bytes);
    free(copy);
}

static void end(script *of)
{
    free(of->data);
    memset(of, 0, sizeof(*of));
}

static void expect_opens(dirlab *lab, bool salvage)
{
    nphd_sharded_options options = dirlab_with_journal(lab);

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
    nphd_sharded_options options = dirlab_with_journal(lab);
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

typedef struct wrong_record {
    uint32_t version;
    size_t count;
    uint8_t bytes[20];
    nphd_status status;
    const char *says;
} wrong_record;

/* Behind checksums that are right: refused with file, frame and place; salvage goes on without it.
 */
static void test_wrong_records(void **state)
{
    static const wrong_record wrong[] = {
        {1, 9, {9, 1, 2, 3, 4, 5, 6, 7, 8}, NPHD_CORRUPT, "of kind 9"},
        {1, 4, {NPHDI_JOURNAL_REMOVE, 1, 2, 3}, NPHD_CORRUPT, "is cut"},
        {1, 10, {NPHDI_JOURNAL_ADD, 1, 2, 3, 4, 5, 6, 7, 0, 0}, NPHD_CORRUPT, "is cut"},
        {1, 11, {1, 255, 255, 255, 255, 255, 255, 255, 255, 1, 7}, NPHD_CORRUPT, "reserved key"},
        {1, 9, {3, 255, 255, 255, 255, 255, 255, 255, 255}, NPHD_CORRUPT, "reserved key"},
        {2, 7, {9, 0x80, 1, 0, 0, 0, 5}, NPHD_UNSUPPORTED, "a record of kind 9"},
        {2, 5, {3, 0x80, 8, 0, 0}, NPHD_CORRUPT, "is cut"},
        {2, 7, {9, 0, 2, 0, 0, 0, 5}, NPHD_CORRUPT, "is cut"},
        {2, 14, {1, 0x80, 8, 0, 0, 0, 1}, NPHD_CORRUPT, "with 8 bytes"},
        {2, 13, {3, 0x80, 7, 0, 0, 0, 1}, NPHD_CORRUPT, "with 7 bytes"},
        {2, 7, {4, 0x80, 1, 0, 0, 0, 1}, NPHD_CORRUPT, "with 1 bytes"},
        {2, 9, {6, 0, 3, 0, 0, 0, 1}, NPHD_CORRUPT, "with 3 bytes"},
        {2, 10, {6, 0x80, 4, 0, 0, 0, 77}, NPHD_UNSUPPORTED, "fact 77"},
        {2,
         15,
         {1, 0x80, 9, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255},
         NPHD_CORRUPT,
         "reserved key"},
        {2,
         14,
         {3, 0x80, 8, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255},
         NPHD_CORRUPT,
         "reserved key"},
    };
    dirlab *lab = *state;
    const nphdi_journal_head base = make_base(lab);
    const nphd_sharded_options options = dirlab_with_journal(lab);
    const uint32_t as_before = version;

    expect_keys(lab, 100, 105, 0);
    expect_keys(lab, 200, 205, 0);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        char where[64];
        version = wrong[i].version;
        script first = begin(&base, 2, NULL);
        put_keys(&first, NPHDI_JOURNAL_ADD, 100, 105, 0);
        put_frame(&first, wrong[i].bytes, wrong[i].count);
        put_keys(&first, NPHDI_JOURNAL_ADD, 200, 205, 0);
        put(lab, &first);
        end(&first);
        (void)snprintf(where, sizeof(where), "%s: frame 1: ", journal_name(2));
        dirlab_refused(lab, &options, wrong[i].status, where, wrong[i].says);
        expect_opens(lab, true);
        assert_int_equal(times_told(lab, wrong[i].says), 1);
        assert_non_null(strstr(lab->damage, where));
    }
    version = as_before;
}

/* In a frame with others, where lengths tell where the next one begins. */
static void test_wrong_record_among_others(void **state)
{
    static const uint8_t wrong[] = {3, 0x80, 8, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255};
    static const uint8_t later[] = {9, 0, 3, 0, 0, 0, 1, 2, 3, 6, 0, 5, 0, 0, 0, 77, 0, 0, 0, 1};
    dirlab *lab = *state;
    const nphdi_journal_head base = make_base(lab);
    const nphd_sharded_options options = dirlab_with_journal(lab);
    uint8_t bits[8];
    uint8_t records[300];

    if (version == 1) {
        return;
    }
    const nphdi_journal_record one = {
        .kind = NPHDI_JOURNAL_ADD, .key = nphd_key_u64(300), .vector = dirlab_vector(300, 0, bits)};
    for (int refused = 0; refused < 2; refused++) {
        const uint8_t *before = refused != 0 ? wrong : later;
        const size_t bytes = refused != 0 ? sizeof(wrong) : sizeof(later);
        script first = begin(&base, 2, NULL);
        memcpy(records, before, bytes);
        put_frame(&first, records, bytes + put_record(&one, records + bytes));
        put(lab, &first);
        end(&first);
        dirlab_set(&lab->items, nphd_key_u64(300), one.vector);
        if (refused != 0) {
            dirlab_refused(lab, &options, NPHD_CORRUPT, "the record at 0", "reserved key");
        } else {
            expect_opens(lab, false); /* what may be passed over is */
        }
        expect_opens(lab, refused != 0);
    }
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

/* Whole frames out of their order. In version 1 they end the journal as a torn one does; version 2
 * knows that no interrupted commit leaves them. */
static void test_frames_of_other_numbers(void **state)
{
    dirlab *lab = *state;
    const nphdi_journal_head base = make_base(lab);
    const nphd_sharded_options options = dirlab_with_journal(lab);

    for (uint64_t other = 0; other < 8; other += 7) { /* an old one once more; there is no 2 */
        script first = begin(&base, 2, NULL);
        put_keys(&first, NPHDI_JOURNAL_ADD, 100, 105, 0);
        put_keys(&first, NPHDI_JOURNAL_ADD, 200, 205, 0);
        first.number = other;
        put_keys(&first, NPHDI_JOURNAL_ADD, 300, 305, 0);
        put(lab, &first);
        end(&first);
        expect_keys(lab, 100, 105, 0);
        expect_keys(lab, 200, 205, 0);
        if (version == 1 && other == 0) {
            expect_opens(lab, false);
            OK(nphd_directory_verify(DIRLAB_FOLDER, &lab->fault.table, NULL, NULL, NULL, NULL));
        } else if (version > 1) {
            dirlab_refused(lab, &options, NPHD_CORRUPT, journal_name(2), "frame 2 at byte 12288");
            expect_opens(lab, true);
            assert_int_equal(
                nphd_directory_verify(DIRLAB_FOLDER, &lab->fault.table, NULL, NULL, NULL, NULL),
                NPHD_CORRUPT);
        }
    }
}

/* ---- the last change of each key ---- */

/* Any records, such as no writer leaves too: adds of keys that are there, removals of those that
 * are not. The state is that after all of them in order, and of what a later one replaced nothing
 * is stored. */
static void test_any_records_in_order(void **state)
{
    enum { FRAMES = 6, RECORDS = 40, KEYS = 16 };
    dirlab *lab = *state;
    const nphdi_journal_head base = make_base(lab);
    uint8_t *records = malloc(RECORDS * NPHDI_JOURNAL_RECORD_MOST);

    assert_non_null(records);
    for (unsigned turn = 0; turn < 20; turn++) {
        script first = begin(&base, 2, NULL);
        script second = {0};
        script *of = &first;
        dirlab_items_free(&lab->items);
        expect_keys(lab, 0, 10, 0);
        for (unsigned frame = 0; frame < FRAMES; frame++) {
            size_t bytes = 0;
            if (frame == FRAMES / 2) {
                put(lab, &first);
                second = begin(&base, 3, &first);
                of = &second;
            }
            for (unsigned i = 0; i < RECORDS; i++) {
                const uint64_t key = test_random_below(&lab->random, KEYS);
                const uint64_t what = test_random_below(&lab->random, turn % 4 == 0 ? 100 : 90);
                uint8_t bits[8];
                nphdi_journal_record record = {.key = nphd_key_u64(key)};
                record.vector = dirlab_vector(key, (uint8_t)(frame * RECORDS + i), bits);
                record.kind = what < 30   ? NPHDI_JOURNAL_ADD
                              : what < 60 ? NPHDI_JOURNAL_REPLACE
                              : what < 98 ? NPHDI_JOURNAL_REMOVE
                                          : NPHDI_JOURNAL_RESET;
                bytes += put_record(&record, records + bytes);
                if (record.kind == NPHDI_JOURNAL_RESET) {
                    dirlab_items_free(&lab->items);
                } else if (record.kind == NPHDI_JOURNAL_REMOVE) {
                    dirlab_drop(&lab->items, record.key);
                } else if (record.kind == NPHDI_JOURNAL_REPLACE ||
                           dirlab_find(&lab->items, record.key) == NULL) {
                    dirlab_set(&lab->items, record.key, record.vector);
                }
            }
            put_frame(of, records, bytes);
        }
        put(lab, &second);
        expect_opens(lab, false);
        const nphd_sharded_options options = dirlab_with_journal(lab);
        nphd_sharded *sharded = dirlab_open(lab, &options);
        nphd_sharded_stats stats = dirlab_stats(sharded);
        assert_true(stats.dirty <= 2 * KEYS);
        dirlab_expect(lab, sharded);
        nphd_sharded_free(sharded);
        end(&first);
        end(&second);
    }
    free(records);
}

/* The memory for looking ahead is bounded: behind half a million keys it is done again. */
static void test_more_keys_than_are_looked_ahead_for(void **state)
{
    enum { KEYS = 530000 };
    dirlab *lab = *state;
    const nphdi_journal_head base = make_base(lab);
    uint8_t *records = malloc((size_t)KEYS * 16);
    script first = begin(&base, 2, NULL);
    size_t bytes = 0;

    assert_non_null(records);
    put_keys(&first, NPHDI_JOURNAL_REPLACE, 3, 8, 1);
    put_keys(&first, NPHDI_JOURNAL_REPLACE, 3, 8, 2);
    for (uint64_t key = 0; key < KEYS; key++) {
        const nphdi_journal_record record = {.kind = NPHDI_JOURNAL_REMOVE,
                                             .key = nphd_key_u64(1000000 + key)};
        bytes += put_record(&record, records + bytes);
    }
    put_frame(&first, records, bytes);
    put_keys(&first, NPHDI_JOURNAL_REPLACE, 4, 12, 3);
    put(lab, &first);
    expect_keys(lab, 3, 8, 2);
    expect_keys(lab, 4, 12, 3);
    expect_opens(lab, false);
    end(&first);
    free(records);
}

/* ---- heads ---- */

static void test_heads_that_salvage_passes_over(void **state)
{
    dirlab *lab = *state;
    const nphdi_journal_head base = make_base(lab);
    nphd_sharded_options options = dirlab_with_journal(lab);
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
    nphdi_journal_encode_head(&other.head, other.data); /* of a later version */
    nphdi_put32(other.data + HEAD_VERSION, 3);
    journal_repair_head(other.data);
    dirlab_put(lab, journal_name(3), other.data, other.bytes);
    dirlab_refused(lab, &options, NPHD_UNSUPPORTED, journal_name(3), "version 3");
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
    nphd_sharded_options options = dirlab_with_journal(lab);
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
    const nphd_sharded_options options = dirlab_with_journal(lab);
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
    dirlab_forget_head(lab);
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
    const nphd_sharded_options options = dirlab_with_journal(lab);
    script first = begin(&base, 20000000, NULL);
    script second = begin(&base, 100000000, NULL);

    put_keys(&first, NPHDI_JOURNAL_ADD, 100, 105, 0);
    put_keys(&second, NPHDI_JOURNAL_ADD, 100, 105, 0);
    put(lab, &first);
    put(lab, &second);
    end(&first);
    end(&second);
    dirlab_put_bloom(lab, 8);
    dirlab_refused(lab, &options, NPHD_MISMATCH, "bloom.isbf", "shard_000.usearch");
    nphd_sharded_options reference = options;
    reference.reference_wrote_last = true;
    nphd_sharded *sharded = dirlab_open(lab, &reference);
    assert_non_null(strstr(lab->log, "journal_20000000: not applied"));
    assert_non_null(strstr(lab->log, "journal_100000000: not applied"));
    dirlab_expect(lab, sharded);
    dirlab_add(lab, sharded, 300, 301);
    OK(nphd_sharded_commit(sharded, NULL)); /* a save */
    dirlab_add(lab, sharded, 301, 302);
    OK(nphd_sharded_commit(sharded, NULL));
    nphd_sharded_free(sharded);
    assert_int_equal(memory_io_count(lab->disk, DIRLAB_FOLDER "/journal_"), 3);
    assert_false(dirlab_exists(lab, "journal_20000000") || dirlab_exists(lab, "journal_100000000"));
    assert_true(dirlab_exists(lab, "journal_20000000.unapplied"));
    assert_true(dirlab_exists(lab, "journal_100000000.unapplied"));
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
    const nphd_sharded_options options = dirlab_with_journal(lab);
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
    const nphd_sharded_options options = dirlab_with_journal(lab);
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
        DIRLAB_TEST(test_wrong_record_among_others),
        DIRLAB_TEST(test_two_damaged_frames),
        DIRLAB_TEST(test_frames_of_other_numbers),
        DIRLAB_TEST(test_any_records_in_order),
        DIRLAB_TEST(test_more_keys_than_are_looked_ahead_for),
        DIRLAB_TEST(test_heads_that_salvage_passes_over),
        DIRLAB_TEST(test_wrong_length),
        DIRLAB_TEST(test_wide_numbers),
        DIRLAB_TEST(test_wide_numbers_apart),
        DIRLAB_TEST(test_circle),
        DIRLAB_TEST(test_successor_of_an_older_save),
        DIRLAB_TEST(test_out_of_order),
    };

    version = 1;
    const int failed = cmocka_run_group_tests_name("chains of version 1", tests, NULL, NULL);
    version = NPHDI_JOURNAL_VERSION;
    return failed + cmocka_run_group_tests_name("chains", tests, NULL, NULL);
}
