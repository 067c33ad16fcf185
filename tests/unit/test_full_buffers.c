/* Files of such sizes that the buffer of 1 MiB, through which they are written, becomes full within
 * one part after another, also the smallest, on storage that fails at that write: the error names
 * the file, the file that was there stays as it was, and nothing is left beside it. Without the
 * failure the same call writes a file that is whole. */
#include "base/error.h"
#include "index/index_internal.h"
#include "index/mapped.h"
#include "sharded/sharded_internal.h"
#include "support/shard_lab.h"

#include <errno.h>

#define BUFFER_BYTES ((uint64_t)1 << 20)
#define ANY "any.isbf"
#define SECTION 1000

static const uint8_t identity[16] = {16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1};

static void expect_nothing_beside(lab *here)
{
    assert_int_equal(memory_io_count(here->disk, ".tmp-"), 0);
    assert_int_equal(here->fault.open_files, 0);
}

/* ---- files with a trailer ---- */

static nphd_status write_trailed(lab *here, uint64_t foreign_bytes, const uint8_t *data,
                                 const nphdi_extra_section *extra, nphd_error *err)
{
    nphd_status status = NPHD_OK;
    nphdi_trailed_file file;

    memset(&file, 0, sizeof(file));
    TRY(nphdi_trailed_begin(&file, &here->fault.table, &here->allocator.table, ANY, foreign_bytes,
                            extra, 1, err));
    TRY(nphdi_trailed_put(&file, data, foreign_bytes, err));
    TRY(nphdi_trailed_commit(&file, identity, 5, err));
done:
    nphdi_trailed_end(&file);
    return status;
}

/* `foreign_bytes` decides in which part the buffer becomes full. */
static void expect_failing_part(lab *here, uint64_t foreign_bytes, const uint8_t *data)
{
    const nphdi_extra_section extra = {SECTION, 0, data, 100};
    nphd_error err = NPHD_ERROR_INIT;
    size_t bytes = 0;

    memory_io_put(here->disk, ANY, "old", 3);
    io_fault_arm(&here->fault, IO_FAULT_WRITE, 1, ENOSPC, false);
    assert_int_equal(write_trailed(here, foreign_bytes, data, &extra, &err), NPHD_NO_SPACE);
    io_fault_disarm(&here->fault);
    assert_int_equal(here->fault.failed, 1);
    assert_non_null(strstr(err.text, ANY));
    expect_nothing_beside(here);
    uint8_t *file = memory_io_get(here->disk, ANY, &bytes);
    assert_int_equal(bytes, 3);
    assert_memory_equal(file, "old", 3);
    free(file);
    OK(write_trailed(here, foreign_bytes, data, &extra, NULL));
    file = memory_io_get(here->disk, ANY, &bytes);
    assert_memory_equal(file, data, foreign_bytes);
    free(file);
    expect_section(here, ANY, SECTION, data, 100);
}

static void test_trailed_files(void **state)
{
    lab *here = *state;
    uint8_t *data = malloc(BUFFER_BYTES + 1);

    assert_non_null(data);
    test_random_fill(&here->random, data, BUFFER_BYTES + 1);
    expect_failing_part(here, BUFFER_BYTES + 1, data);
    expect_failing_part(here, BUFFER_BYTES, data);
    expect_failing_part(here, BUFFER_BYTES - 1, data);                             /* the mark */
    expect_failing_part(here, BUFFER_BYTES - NPHDI_TRAILER_MARK_BYTES, data);      /* its end */
    expect_failing_part(here, BUFFER_BYTES - NPHDI_TRAILER_MARK_BYTES - 1, data);  /* a section */
    expect_failing_part(here, BUFFER_BYTES - NPHDI_TRAILER_MARK_BYTES - 99, data); /* its end */
    free(data);
}

/* The block checksums of a file of 8 GiB fill the buffer too, and those of a little less leave no
 * room for the directory: the sink alone, with so many of them planned. */
static void expect_failing_end(lab *here, uint64_t checksum_bytes)
{
    nphd_error err = NPHD_ERROR_INIT;
    nphdi_replacement file;
    nphdi_block_sink sink;
    nphdi_trailer trailer;

    memset(&file, 0, sizeof(file));
    memset(&trailer, 0, sizeof(trailer));
    (void)nphdi_sink_plan(&trailer);
    trailer.sections[0].bytes = checksum_bytes;
    OK(nphdi_sink_begin(&sink, &here->allocator.table, &trailer, NULL));
    OK(nphdi_replacement_begin(&file, &here->fault.table, &here->allocator.table, ANY, 100, NULL));
    sink.file = &file;
    OK(nphdi_sink_put_mark(&sink, NULL));
    io_fault_arm(&here->fault, IO_FAULT_WRITE, 2, ENOSPC, false); /* the first has the mark */
    assert_int_equal(nphdi_sink_finish(&sink, &trailer, &err), NPHD_NO_SPACE);
    io_fault_disarm(&here->fault);
    assert_int_equal(here->fault.failed, 1);
    assert_non_null(strstr(err.text, ANY));
    assert_int_equal(sink.offset, NPHDI_TRAILER_MARK_BYTES);
    assert_int_equal(nphdi_replacement_commit(&file, &err), NPHD_STOPPED);
    nphdi_replacement_end(&file);
    nphdi_sink_end(&sink);
    assert_int_equal(memory_io_count(here->disk, NULL), 0);
}

static void test_checksums(void **state)
{
    lab *here = *state;

    expect_failing_end(here, BUFFER_BYTES);
    expect_failing_end(here, BUFFER_BYTES + 8);
    expect_failing_end(here, BUFFER_BYTES - 8);
    expect_failing_end(here, 8);
}

/* ---- indexes ---- */

typedef enum part {
    PART_ROWS,
    PART_HEAD,
    PART_LEVELS,
    PART_NODES, /* an upper list of one */
    PART_MARK,
    PART_KEY_TABLE,
    PART_DIRECTORY,
    PART_LIVE,
    PARTS,
    PART_BASES = PARTS /* as PART_NODES, but the base part of a node */
} part;

typedef struct span {
    uint64_t begin;
    uint64_t end;
} span;

/* Where the parts of a file lie with so many vectors of `row_bytes` - 1 bytes. */
static void lay_out(nphd_index *empty, uint64_t row_bytes, uint64_t count, span out[PARTS])
{
    const uint64_t foreign = nphdi_index_foreign_bytes_after(empty, count);
    const uint64_t sizes[PARTS] = {count * row_bytes,
                                   NPHDI_USEARCH_HEAD_BYTES,
                                   2 * count,
                                   foreign - 8 - count * row_bytes - NPHDI_USEARCH_HEAD_BYTES -
                                       2 * count,
                                   NPHDI_TRAILER_MARK_BYTES,
                                   4 * nphdi_slot_table_room(count),
                                   nphdi_directory_bytes(count),
                                   (count + 63) / 64 * 8};
    uint64_t at = 8;

    for (size_t i = 0; i < PARTS; i++) {
        out[i].begin = at;
        at += sizes[i];
        out[i].end = at;
    }
}

static nphd_index *create_wide(lab *here, uint32_t payload_bytes)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;

    options.max_bits = 8 * payload_bytes;
    options.connectivity = 2;
    options.build_breadth = 1;
    options.io = &here->fault.table;
    options.allocator = &here->allocator.table;
    OK(nphd_index_create(&options, &index, NULL));
    return index;
}

static void fill(lab *here, nphd_index *index, uint32_t payload_bytes, size_t count)
{
    nphd_vector *vectors = calloc(count, sizeof(*vectors));
    uint8_t *bits = malloc(count * payload_bytes);

    assert_non_null(vectors);
    assert_non_null(bits);
    test_random_fill(&here->random, bits, count * payload_bytes);
    for (size_t i = 0; i < count; i++) {
        vectors[i] = (nphd_vector){bits + i * payload_bytes, payload_bytes};
    }
    OK(nphd_index_add_many(index, NULL, vectors, count, NULL, NULL, NULL, NULL));
    free(vectors);
    free(bits);
}

/* Does byte number `at` of a file with these nodes belong to a list above level 0? */
static bool is_in_upper_list(uint64_t nodes_begin, uint64_t count, uint64_t at)
{
    const nphdi_node_shape node = {8, 4, 2, 4};
    uint64_t begin = nodes_begin;

    for (uint64_t slot = 0; slot < count && begin < at; slot++) {
        const uint64_t lists = nphdi_graph_random_level((uint32_t)slot, 2);
        const uint64_t upper = begin + nphdi_node_base_bytes(&node);
        begin = upper + lists * nphdi_list_upper_bytes(&node);
        if (upper < at && at <= begin) {
            return true;
        }
    }
    return false;
}

/* An index of the widest vectors in whose file the first `bytes` bytes end within that part. */
static nphd_index *create_full(lab *here, part where, uint64_t bytes)
{
    const part of = where == PART_BASES ? PART_NODES : where;

    for (uint32_t payload = NPHD_MAX_BYTES; payload > 1; payload--) {
        nphd_index *index = create_wide(here, payload);
        const uint64_t most = bytes / payload;
        for (uint64_t count = most - most / 4; count <= most; count++) {
            span spans[PARTS];
            lay_out(index, payload + 1, count, spans);
            if (spans[of].begin < bytes && bytes <= spans[of].end &&
                (of != PART_NODES ||
                 is_in_upper_list(spans[of].begin, count, bytes) == (where == PART_NODES))) {
                fill(here, index, payload, (size_t)count);
                assert_int_equal(nphdi_index_foreign_bytes(index), spans[PART_NODES].end);
                return index;
            }
        }
        nphd_index_close(index);
    }
    fail_msg("no size fits part %d", (int)where);
    return NULL;
}

/* Write number `n` of a save fails. */
static void expect_failing_save(lab *here, nphd_index *index, uint64_t n, const nphdi_save_as *as)
{
    const uint64_t count = nphd_index_size(index);
    nphd_error err = NPHD_ERROR_INIT;
    nphd_batch_options options = NPHD_BATCH_OPTIONS_INIT;
    nphd_verify_report report;
    size_t bytes = 0;
    uint64_t file_bytes = 0;

    options.overwrite = true; /* of what is put there */
    memory_io_put(here->disk, PATH, "old", 3);
    io_fault_arm(&here->fault, IO_FAULT_WRITE, n, ENOSPC, false);
    assert_int_equal(nphdi_index_save_as(index, PATH, as, &options, &file_bytes, &err),
                     NPHD_NO_SPACE);
    io_fault_disarm(&here->fault);
    assert_int_equal(here->fault.failed, 1);
    assert_non_null(strstr(err.text, PATH));
    expect_nothing_beside(here);
    free(memory_io_get(here->disk, PATH, &bytes));
    assert_int_equal(bytes, 3);
    assert_int_equal(file_bytes, 0);
    OK(nphdi_index_save_as(index, PATH, as, &options, &file_bytes, NULL));
    free(memory_io_get(here->disk, PATH, &bytes));
    assert_int_equal(file_bytes, bytes);
    OK(nphd_file_verify(PATH, &here->fault.table, NULL, NULL, &report, NULL));
    assert_int_equal(report.slots, count);
    assert_int_equal(nphd_index_size(index), count);
}

static void test_parts_of_an_index(void **state)
{
    lab *here = *state;

    for (part where = PART_ROWS; where <= PART_BASES; where++) {
        nphd_index *index = create_full(here, where, BUFFER_BYTES);
        expect_failing_save(here, index, 1, NULL);
        nphd_index *seen = create_wide(here, (uint32_t)nphd_index_max_bytes(index));
        memory_io_put(here->disk, "other", "", 0);
        OK(nphd_index_save(index, "other", NULL, NULL));
        OK(nphd_index_view(seen, "other", NULL, NULL));
        expect_failing_save(here, seen, 1, NULL); /* the same from a mapped file */
        nphd_index_close(seen);
        nphd_index_close(index);
    }
}

/* Files whose blocks of 64 KiB end within one part after another are loaded while each read fails
 * in turn: with a trailer, and without one but with bytes behind the nodes that mean nothing. */
static void test_loads_over_parts(void **state)
{
    lab *here = *state;

    for (part where = PART_ROWS; where <= PART_MARK; where++) {
        nphd_index *index = create_full(here, where, NPHDI_TRAILER_BLOCK_BYTES);
        const uint64_t count = nphd_index_size(index);
        const uint64_t foreign = nphdi_index_foreign_bytes(index);
        nphd_index *loaded = create_wide(here, (uint32_t)nphd_index_max_bytes(index));
        size_t bytes = 0;
        OK(nphd_index_save(index, PATH, NULL, NULL));
        uint8_t *data = memory_io_get(here->disk, PATH, &bytes);
        for (int ours = 0; ours < 2; ours++) {
            bool failed = true;
            if (ours == 0) {
                memset(data + foreign, 0, 20);
                bytes = (size_t)foreign + 20;
            }
            memory_io_put(here->disk, "loaded", data, bytes);
            for (uint64_t n = 1; failed; n++) {
                nphd_error err = NPHD_ERROR_INIT;
                io_fault_arm(&here->fault, IO_FAULT_READ, n, EIO, false);
                const nphd_status status = nphd_index_load(loaded, "loaded", NULL, &err);
                io_fault_disarm(&here->fault);
                failed = here->fault.failed > 0;
                assert_int_equal(status, failed ? NPHD_IO : NPHD_OK);
                assert_int_equal(nphd_index_size(loaded), failed ? 0 : count);
                assert_true(!failed || strstr(err.text, "loaded") != NULL);
            }
            OK(nphd_index_clear(loaded, NULL));
            free(data);
            data = memory_io_get(here->disk, PATH, &bytes);
        }
        free(data);
        nphd_index_close(loaded);
        nphd_index_close(index);
    }
}

/* Sections of some MiB: each write that begins with the section under way fails in turn. */
static void expect_failing_section(lab *here, nphd_index *index, uint32_t id,
                                   const nphdi_save_as *as)
{
    nphdi_trailer trailer;
    bool found = false;
    uint64_t file_bytes = 0;

    OK(nphdi_index_save_as(index, PATH, as, NULL, &file_bytes, NULL));
    OK(nphdi_file_trailer(&here->fault.table, PATH, &trailer, &found, NULL));
    const nphdi_trailer_section *section = nphdi_trailer_find(&trailer, id);
    assert_non_null(section);
    const uint64_t first = section->offset / BUFFER_BYTES + 1;
    const uint64_t end = (section->offset + section->bytes) / BUFFER_BYTES;
    assert_in_range(first, 1, end);
    for (uint64_t n = first; n <= end; n += end > first ? end - first : 1) {
        expect_failing_save(here, index, n, as);
    }
}

static void test_sections_of_an_index(void **state)
{
    static uint8_t data[BUFFER_BYTES];
    const nphdi_extra_section extra = {SECTION, 0, data, sizeof(data)};
    const nphdi_save_as as = {identity, 7, &extra, 1};
    lab *here = *state;
    nphd_index *index = create_wide(here, 128);

    fill(here, index, 128, 17000); /* fewer get no hash tables */
    OK(nphdi_index_make_tables(index, 1, NULL, NULL));
    expect_failing_section(here, index, NPHDI_SECTION_PLANES, NULL);
    expect_failing_section(here, index, NPHDI_SECTION_MIH, NULL);
    expect_failing_section(here, index, SECTION, &as);
    nphd_index_close(index);
}

/* ---- the tombstone file ---- */

/* More keys than the buffer holds, as a save would hand them over. */
static void test_tombstones(void **state)
{
    lab *here = *state;
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    nphd_sharded *sharded = NULL;
    nphdi_capture capture;
    nphd_error err = NPHD_ERROR_INIT;
    nphdi_tombstone_file read;
    enum { KEYS = 131072 };
    uint8_t *keys = malloc(8 * (size_t)KEYS);

    assert_non_null(keys);
    options.io = &here->fault.table;
    options.allocator = &here->allocator.table;
    OK(nphd_sharded_open("d", &options, &sharded, NULL));
    for (size_t i = 0; i < KEYS; i++) {
        nphdi_put64(keys + 8 * i, 3 * i);
    }
    memset(&capture, 0, sizeof(capture));
    capture.tombstones = keys;
    capture.tombstone_count = KEYS;
    capture.tombstone_bytes = 8 * (uint64_t)KEYS;
    capture.keep_tombstones = true;
    io_fault_arm(&here->fault, IO_FAULT_WRITE, 1, ENOSPC, false);
    assert_int_equal(nphdi_tombstones_save(sharded, &capture, 3, &err), NPHD_NO_SPACE);
    io_fault_disarm(&here->fault);
    assert_non_null(strstr(err.text, "d/tombstones.npy"));
    assert_int_equal(memory_io_count(here->disk, "tombstones"), 0);
    assert_true(sharded->tombstones_unsure);
    assert_int_equal(sharded->tombstone_file_bytes, 0);
    OK(nphdi_tombstones_save(sharded, &capture, 3, NULL));
    assert_false(sharded->tombstones_unsure);
    OK(nphdi_tombstones_load(sharded, &read, NULL));
    assert_int_equal(read.count, KEYS);
    assert_int_equal(read.generation, 3);
    for (size_t i = 0; i < KEYS; i += 1000) {
        assert_int_equal(read.keys[i].low, 3 * i);
    }
    nphdi_tombstones_release(sharded, &read);
    nphd_sharded_free(sharded);
    free(keys);
}

/* ---- the filter file ---- */

/* A filter of more bytes than the buffer holds, as a save would write it. */
static void test_filter(void **state)
{
    enum { ROOM = 1000000 };
    lab *here = *state;
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;
    nphd_sharded *sharded = NULL;
    nphd_error err = NPHD_ERROR_INIT;
    bool usable = false;

    options.io = &here->fault.table;
    options.allocator = &here->allocator.table;
    OK(nphd_sharded_open("d", &options, &sharded, NULL));
    nphdi_bloom_close(sharded->bloom);
    OK(nphdi_bloom_create(&here->allocator.table, 8, ROOM, &sharded->bloom, NULL));
    assert_true(nphdi_bloom_file_bytes(sharded->bloom) > BUFFER_BYTES);
    for (uint64_t i = 0; i < 1000; i++) {
        nphdi_bloom_add(sharded->bloom, nphd_key_u64(3 * i));
    }
    io_fault_arm(&here->fault, IO_FAULT_WRITE, 1, ENOSPC, false);
    assert_int_equal(nphdi_bloom_save(sharded, 3, NULL, &err), NPHD_NO_SPACE);
    io_fault_disarm(&here->fault);
    assert_int_equal(here->fault.failed, 1);
    assert_non_null(strstr(err.text, "d/" NPHDI_BLOOM_NAME));
    assert_int_equal(memory_io_count(here->disk, "bloom"), 0);
    assert_int_equal(sharded->bloom_file_bytes, 0);
    OK(nphdi_bloom_save(sharded, 3, NULL, NULL));
    assert_true(sharded->bloom_file_bytes > BUFFER_BYTES);
    nphdi_bloom_close(sharded->bloom);
    sharded->bloom = NULL;
    OK(nphdi_bloom_load(sharded, 3, false, &usable, NULL));
    assert_true(usable);
    for (uint64_t i = 0; i < 1000; i++) {
        assert_true(nphdi_bloom_maybe(sharded->bloom, nphd_key_u64(3 * i)));
    }
    nphd_sharded_free(sharded);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_trailed_files),
        TEST(test_checksums),
        TEST(test_parts_of_an_index),
        TEST(test_loads_over_parts),
        TEST(test_sections_of_an_index),
        TEST(test_tombstones),
        TEST(test_filter),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
