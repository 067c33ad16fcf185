/* The trailer's footer and directory: what is written is read, and nothing else is. */
#include "base/bytes.h"
#include "base/hash.h"
#include "formats/trailer.h"
#include "support/test_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define FOREIGN_BYTES 200000 /* four blocks, the last one short */

typedef struct ending {
    nphdi_trailer trailer;
    uint8_t bytes[NPHDI_TRAILER_MAX_DIRECTORY_BYTES + NPHDI_TRAILER_FOOTER_BYTES];
    size_t count;
} ending;

static void add_section(nphdi_trailer *trailer, uint32_t id, uint32_t flags, uint64_t *at,
                        uint64_t bytes)
{
    nphdi_trailer_section *section = &trailer->sections[trailer->section_count++];

    memset(section, 0, sizeof(*section));
    section->id = id;
    section->flags = flags;
    section->offset = *at;
    section->bytes = bytes;
    *at += bytes;
}

/* `more` further sections with an id that is not known, and these flags. */
static void make(ending *out, uint32_t more, uint32_t flags)
{
    nphdi_trailer *trailer = &out->trailer;
    uint64_t at = FOREIGN_BYTES + NPHDI_TRAILER_MARK_BYTES;

    memset(out, 0, sizeof(*out));
    trailer->foreign_bytes = FOREIGN_BYTES;
    for (size_t i = 0; i < 16; i++) {
        trailer->identity[i] = (uint8_t)(i * 7 + 1);
    }
    trailer->generation = 0x0102030405060708ULL;
    trailer->live = 1234;
    trailer->next_automatic_key = UINT64_MAX - 5;
    trailer->build_breadth = 99;
    trailer->search_breadth = 65536;
    add_section(trailer, NPHDI_SECTION_KEY_TABLE, 0, &at, 4000);
    add_section(trailer, NPHDI_SECTION_NODE_DIRECTORY, 0, &at, 640);
    add_section(trailer, NPHDI_SECTION_LIVE, 0, &at, 160);
    for (uint32_t i = 0; i < more; i++) {
        add_section(trailer, 1000 + i, flags, &at, i);
    }
    add_section(trailer, NPHDI_SECTION_CHECKSUMS, 0, &at, 8 * nphdi_trailer_blocks(at));
    out->count = nphdi_trailer_encode_end(trailer, out->bytes);
}

static const uint8_t *footer_of(const ending *from)
{
    return from->bytes + from->count - NPHDI_TRAILER_FOOTER_BYTES;
}

static nphd_status decode(const uint8_t *bytes, size_t count, uint64_t file_bytes,
                          nphdi_trailer *out, bool *out_found, nphd_error *err)
{
    const nphd_status status = nphdi_trailer_decode_footer(
        "t", bytes + count - NPHDI_TRAILER_FOOTER_BYTES, file_bytes, out, out_found, err);

    return status == NPHD_OK && *out_found ? nphdi_trailer_decode_directory("t", bytes, out, err)
                                           : status;
}

static void test_round_trip(void **state)
{
    ending from;
    nphdi_trailer read;
    bool found = false;

    (void)state;
    for (uint32_t more = 0; more <= NPHDI_TRAILER_MAX_SECTIONS - 4; more++) {
        make(&from, more, 0);
        assert_int_equal(from.count, NPHDI_TRAILER_DIRECTORY_HEAD_BYTES +
                                         (4 + more) * NPHDI_TRAILER_SECTION_BYTES +
                                         NPHDI_TRAILER_FOOTER_BYTES);
        assert_int_equal(
            decode(from.bytes, from.count, from.trailer.file_bytes, &read, &found, NULL), NPHD_OK);
        assert_true(found);
        assert_memory_equal(read.identity, from.trailer.identity, 16);
        assert_int_equal(read.foreign_bytes, FOREIGN_BYTES);
        assert_int_equal(read.generation, from.trailer.generation);
        assert_int_equal(read.live, 1234);
        assert_true(read.next_automatic_key == UINT64_MAX - 5);
        assert_int_equal(read.build_breadth, 99);
        assert_int_equal(read.search_breadth, 65536);
        assert_int_equal(read.section_count, 4 + more);
        for (uint32_t i = 0; i < read.section_count; i++) {
            assert_memory_equal(&read.sections[i], &from.trailer.sections[i],
                                sizeof(read.sections[i]));
            assert_ptr_equal(nphdi_trailer_find(&read, read.sections[i].id), &read.sections[i]);
        }
        assert_null(nphdi_trailer_find(&read, 77));
    }
}

/* Each byte is covered by one of the two checksums, or is part of the mark that finds them. */
static void test_every_byte_counts(void **state)
{
    ending from;
    nphdi_trailer read;
    bool found = false;

    (void)state;
    make(&from, 2, 0);
    for (size_t at = 0; at < from.count; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            nphd_error err = NPHD_ERROR_INIT;
            from.bytes[at] ^= (uint8_t)(1U << bit);
            const nphd_status status =
                decode(from.bytes, from.count, from.trailer.file_bytes, &read, &found, &err);
            if (at >= from.count - NPHDI_TRAILER_FOOTER_BYTES &&
                at < from.count - NPHDI_TRAILER_FOOTER_BYTES + 8) {
                assert_int_equal(status, NPHD_OK); /* not a footer of ours */
                assert_false(found);
            } else {
                assert_int_equal(status, NPHD_CORRUPT);
                assert_non_null(strstr(err.text, "checksum mismatch"));
            }
            from.bytes[at] ^= (uint8_t)(1U << bit);
        }
    }
    assert_int_equal(
        decode(from.bytes, from.count, from.trailer.file_bytes + 1, &read, &found, NULL),
        NPHD_CORRUPT);
}

/* Rewrites the checksums after a change. */
static void repair(ending *file)
{
    const size_t directory_bytes = file->count - NPHDI_TRAILER_FOOTER_BYTES;
    uint8_t *footer = file->bytes + directory_bytes;

    nphdi_put64(footer + 40, nphdi_hash_bytes(file->bytes, directory_bytes));
    nphdi_put64(footer + 56, nphdi_hash_bytes(footer, 56));
}

static nphd_status decode_repaired(ending *file)
{
    nphdi_trailer read;
    bool found = false;

    repair(file);
    return decode(file->bytes, file->count, file->trailer.file_bytes, &read, &found, NULL);
}

/* Numbers that are rightly summed and yet out of range. */
static void test_bounds(void **state)
{
    static const uint64_t numbers[] = {0,         1, FOREIGN_BYTES - 1, UINT64_MAX, UINT64_MAX - 15,
                                       1ULL << 63};
    ending file;

    (void)state;
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        make(&file, 0, 0);
        uint8_t *footer = file.bytes + file.count - NPHDI_TRAILER_FOOTER_BYTES;
        nphdi_put64(footer + 16, numbers[i]); /* directory offset */
        assert_int_equal(decode_repaired(&file), NPHD_CORRUPT);
        make(&file, 0, 0);
        nphdi_put64(footer + 32, numbers[i]); /* file bytes */
        assert_int_equal(decode_repaired(&file), NPHD_CORRUPT);
        make(&file, 0, 0);
        nphdi_put32(footer + 12, (uint32_t)numbers[i]); /* directory bytes */
        assert_int_equal(decode_repaired(&file), NPHD_CORRUPT);
        if (numbers[i] > FOREIGN_BYTES) {
            make(&file, 0, 0);
            nphdi_put64(footer + 24, numbers[i]); /* foreign bytes */
            assert_int_equal(decode_repaired(&file), NPHD_CORRUPT);
        }
        for (size_t section = 0; section < 4; section++) {
            const size_t entry =
                NPHDI_TRAILER_DIRECTORY_HEAD_BYTES + section * NPHDI_TRAILER_SECTION_BYTES;
            make(&file, 0, 0);
            nphdi_put64(file.bytes + entry + 8, numbers[i]); /* offset */
            assert_int_equal(decode_repaired(&file), NPHD_CORRUPT);
            make(&file, 0, 0);
            nphdi_put64(file.bytes + entry + 16, numbers[i]); /* bytes */
            /* a small section is in bounds; the block checksums have one right size */
            assert_int_equal(decode_repaired(&file),
                             numbers[i] < 2 && section < 3 ? NPHD_OK : NPHD_CORRUPT);
        }
        make(&file, 0, 0);
        nphdi_put32(file.bytes + 52, (uint32_t)numbers[i]); /* how many sections */
        assert_int_equal(decode_repaired(&file), NPHD_CORRUPT);
    }
    make(&file, 0, 0);
    nphdi_put32(file.bytes + NPHDI_TRAILER_DIRECTORY_HEAD_BYTES + 3 * NPHDI_TRAILER_SECTION_BYTES,
                55); /* no block checksums */
    assert_int_equal(decode_repaired(&file), NPHD_CORRUPT);
}

static void test_later_versions(void **state)
{
    ending file;

    (void)state;
    make(&file, 0, 0);
    nphdi_put32(file.bytes + file.count - NPHDI_TRAILER_FOOTER_BYTES + 8, 2);
    assert_int_equal(decode_repaired(&file), NPHD_UNSUPPORTED);
    make(&file, 0, 0);
    nphdi_put32(file.bytes + 48, 4096); /* bytes of a block */
    assert_int_equal(decode_repaired(&file), NPHD_UNSUPPORTED);
    make(&file, 3, 0); /* unknown sections that may be passed over */
    assert_int_equal(decode_repaired(&file), NPHD_OK);
    make(&file, 3, NPHDI_SECTION_CRITICAL);
    assert_int_equal(decode_repaired(&file), NPHD_UNSUPPORTED);
}

/* A section that must be known is read if its id is one that opening looks for, and no other is. */
static void test_needed_sections(void **state)
{
    static const uint32_t known[] = {NPHDI_SECTION_KEY_TABLE, NPHDI_SECTION_NODE_DIRECTORY,
                                     NPHDI_SECTION_LIVE, NPHDI_SECTION_PLANES};
    static const uint32_t other[] = {0, NPHDI_SECTION_LIVE + 1, NPHDI_SECTION_PLANES - 1,
                                     UINT32_MAX};
    ending file;

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        nphd_error err = NPHD_ERROR_INIT;
        nphdi_trailer read;
        bool found = false;
        make(&file, 1, NPHDI_SECTION_CRITICAL);
        uint8_t *entry =
            file.bytes + NPHDI_TRAILER_DIRECTORY_HEAD_BYTES + 3 * NPHDI_TRAILER_SECTION_BYTES;
        assert_int_equal(nphdi_get32(entry), 1000);
        nphdi_put32(entry, known[i]);
        repair(&file);
        assert_int_equal(
            decode(file.bytes, file.count, file.trailer.file_bytes, &read, &found, &err), NPHD_OK);
        assert_int_equal(read.sections[3].id, known[i]);
        assert_int_equal(read.sections[3].flags, NPHDI_SECTION_CRITICAL);
        nphdi_put32(entry, other[i]);
        repair(&file);
        assert_int_equal(
            decode(file.bytes, file.count, file.trailer.file_bytes, &read, &found, &err),
            NPHD_UNSUPPORTED);
        assert_non_null(strstr(err.text, "is needed and not known"));
    }
}

static void test_mark(void **state)
{
    uint8_t mark[NPHDI_TRAILER_MARK_BYTES];

    (void)state;
    nphdi_trailer_encode_mark(mark);
    assert_true(nphdi_trailer_is_mark(mark, sizeof(mark)));
    assert_true(nphdi_trailer_is_mark(mark, sizeof(mark) + 1));
    assert_false(nphdi_trailer_is_mark(mark, sizeof(mark) - 1));
    assert_false(nphdi_trailer_is_mark(mark, 0));
    for (size_t i = 0; i < sizeof(mark); i++) {
        mark[i] ^= 0x20;
        assert_false(nphdi_trailer_is_mark(mark, sizeof(mark)));
        mark[i] ^= 0x20;
    }
    assert_int_equal(nphdi_trailer_blocks(0), 0);
    assert_int_equal(nphdi_trailer_blocks(1), 1);
    assert_int_equal(nphdi_trailer_blocks(NPHDI_TRAILER_BLOCK_BYTES), 1);
    assert_int_equal(nphdi_trailer_blocks(NPHDI_TRAILER_BLOCK_BYTES + 1), 2);
    assert_true(nphdi_trailer_blocks(UINT64_MAX) == (UINT64_MAX >> 16) + 1);
}

/* Bytes that are no trailer are found to be none, whatever they are. */
static void test_noise(void **state)
{
    test_random random = {*(uint64_t *)*state};
    uint8_t footer[NPHDI_TRAILER_FOOTER_BYTES];
    nphdi_trailer read;
    ending file;

    make(&file, 0, 0);
    for (int i = 0; i < 2000; i++) {
        bool found = true;
        test_random_fill(&random, footer, sizeof(footer));
        footer[0] = 'x';
        assert_int_equal(nphdi_trailer_decode_footer("t", footer, 5000, &read, &found, NULL),
                         NPHD_OK);
        assert_false(found);
        memcpy(footer, footer_of(&file), 8); /* begins like one */
        assert_int_equal(nphdi_trailer_decode_footer("t", footer, 5000, &read, &found, NULL),
                         NPHD_CORRUPT);
        nphdi_put64(footer + 56, nphdi_hash_bytes(footer, 56));
        assert_int_not_equal(nphdi_trailer_decode_footer("t", footer, 5000, &read, &found, NULL),
                             NPHD_OK);
    }
}

/* Half of all numbers are enough for any writer, and one more must not become 0. */
static void test_generation_limit(void **state)
{
    static const uint64_t beyond[] = {(uint64_t)INT64_MAX + 1, (uint64_t)INT64_MAX + 2,
                                      UINT64_MAX - 1, UINT64_MAX};
    ending from;
    nphdi_trailer read;
    bool found = false;

    (void)state;
    for (size_t i = 0; i < sizeof(beyond) / sizeof(beyond[0]); i++) {
        nphd_error err = NPHD_ERROR_INIT;
        make(&from, 0, 0);
        from.trailer.generation = beyond[i];
        from.count = nphdi_trailer_encode_end(&from.trailer, from.bytes);
        assert_int_equal(
            decode(from.bytes, from.count, from.trailer.file_bytes, &read, &found, &err),
            NPHD_CORRUPT);
        assert_non_null(strstr(err.text, "generation"));
    }
}

int main(void)
{
    uint64_t seed = test_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),       cmocka_unit_test(test_every_byte_counts),
        cmocka_unit_test(test_bounds),           cmocka_unit_test(test_later_versions),
        cmocka_unit_test(test_needed_sections),  cmocka_unit_test(test_mark),
        cmocka_unit_test(test_generation_limit), cmocka_unit_test_prestate(test_noise, &seed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
