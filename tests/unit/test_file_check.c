/* Verifying by several workers: what is found and told does not depend on how many there are, also
 * of damage behind repaired checksums; errors of reading are named; a worker that finds another
 * file, or none, leaves the work to the others. The file has several chunks of 1 MiB. */
#include "index/mapped.h"
#include "platform/platform.h"
#include "support/io_fault.h"
#include "support/io_memory.h"
#include "support/test_random.h"
#include "support/trailer_repair.h"

#include <nphd/nphd.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

#define VECTORS 16000
#define WIDTH 32
#define PATH "many.usearch"
#define MOST_TEXT 4000

typedef struct lab {
    memory_io *disk;
    uint8_t *bytes; /* of the undamaged file */
    size_t count;
    trailer_places places;
    test_random random;
} lab;

/* What one verify has said. */
typedef struct answer {
    nphd_status status;
    nphd_verify_report report;
    char text[MOST_TEXT]; /* all damage, a line each */
    nphd_error err;
} answer;

static lab make_lab(void)
{
    lab of;
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_batch_options batch = NPHD_BATCH_OPTIONS_INIT;
    nphd_index *index = NULL;
    uint8_t *rows = malloc((size_t)VECTORS * WIDTH);
    nphd_vector *vectors = calloc(VECTORS, sizeof(*vectors));
    nphd_key *keys = calloc(VECTORS, sizeof(*keys));

    assert_non_null(rows);
    assert_non_null(vectors);
    assert_non_null(keys);
    memset(&of, 0, sizeof(of));
    of.random.state = test_seed();
    of.disk = memory_io_create(1);
    test_random_fill(&of.random, rows, (size_t)VECTORS * WIDTH);
    for (size_t i = 0; i < VECTORS; i++) {
        vectors[i] = (nphd_vector){rows + i * WIDTH, 1 + i % WIDTH};
        keys[i] = nphd_key_u64(test_random_next(&of.random) >> 1);
    }
    options.io = memory_io_table(of.disk);
    options.build_breadth = 1;
    batch.threads = 2;
    OK(nphd_index_create(&options, &index, NULL));
    OK(nphd_index_add_many(index, keys, vectors, VECTORS, &batch, NULL, NULL, NULL));
    for (size_t i = 0; i < VECTORS; i += 97) {
        OK(nphd_index_remove(index, &keys[i], 1, NULL, NULL));
    }
    OK(nphd_index_save(index, PATH, NULL, NULL));
    nphd_index_close(index);
    of.bytes = memory_io_get(of.disk, PATH, &of.count);
    assert_non_null(of.bytes);
    assert_true(of.count > 3 << 20);
    assert_true(trailer_places_find(of.bytes, of.count, &of.places));
    free(rows);
    free(vectors);
    free(keys);
    return of;
}

static void free_lab(lab *of)
{
    assert_int_equal(memory_io_open_files(of->disk), 0);
    assert_int_equal(memory_io_maps(of->disk), 0);
    assert_int_equal(memory_io_mistakes(of->disk), 0);
    memory_io_destroy(of->disk);
    free(of->bytes);
}

static void remember(void *context, const char *text)
{
    answer *out = context;
    const size_t have = strlen(out->text);

    (void)snprintf(out->text + have, sizeof(out->text) - have, "%s\n", text);
}

static void verify(const nphd_io *io, uint32_t threads, answer *out)
{
    nphd_verify_options options = NPHD_VERIFY_OPTIONS_INIT;

    memset(out, 0, sizeof(*out));
    out->err = (nphd_error)NPHD_ERROR_INIT;
    options.threads = threads;
    options.damage = remember;
    options.damage_context = out;
    options.io = io;
    out->status = nphd_file_verify_with(PATH, &options, &out->report, &out->err);
}

static void assert_same(const answer *a, const answer *b)
{
    assert_int_equal(a->status, b->status);
    assert_string_equal(a->text, b->text);
    assert_string_equal(a->err.text, b->err.text);
    assert_memory_equal(&a->report.blocks, &b->report.blocks, sizeof(uint64_t) * 3);
}

static void test_whole(void **unused)
{
    lab of = make_lab();
    answer one;
    answer other;

    (void)unused;
    verify(memory_io_table(of.disk), 0, &one);
    assert_int_equal(one.status, NPHD_OK);
    assert_int_equal(one.report.slots, VECTORS);
    assert_int_equal(one.report.blocks, nphdi_trailer_blocks(of.places.sums_offset));
    for (uint32_t threads = 1; threads <= 300; threads = 3 * threads) {
        verify(memory_io_table(of.disk), threads, &other);
        assert_same(&one, &other);
    }
    assert_int_equal(nphd_file_verify_with(PATH, NULL, NULL, NULL), NPHD_NOT_FOUND);
    free_lab(&of);
}

/* Any changed byte is found, behind right checksums every one that the structure knows. */
static void test_damage(void **unused)
{
    lab of = make_lab();
    const int rounds = getenv("NPHD_TEST_SCALE") == NULL ? 150 : 10;
    int behind = 0;

    (void)unused;
    for (int round = 0; round < rounds; round++) {
        const bool repaired = round % 2 == 1;
        const int changes = 1 + round % 4;
        uint8_t *bytes = malloc(of.count);
        answer one;
        answer two;
        answer many;
        assert_non_null(bytes);
        memcpy(bytes, of.bytes, of.count);
        for (int i = 0; i < changes; i++) {
            const uint64_t at = test_random_below(&of.random, of.places.foreign_bytes);
            bytes[at] = (uint8_t)(bytes[at] ^ (1 + test_random_below(&of.random, 255)));
        }
        if (repaired) {
            trailer_repair(bytes, &of.places);
        }
        memory_io_put(of.disk, PATH, bytes, of.count);
        verify(memory_io_table(of.disk), 1, &one);
        verify(memory_io_table(of.disk), 2, &two);
        verify(memory_io_table(of.disk), 7, &many);
        assert_same(&one, &two);
        assert_same(&one, &many);
        if (!repaired) {
            assert_int_equal(one.status, NPHD_CORRUPT);
        }
        behind += repaired && one.status == NPHD_CORRUPT;
        free(bytes);
    }
    assert_true(behind > rounds / 20);
    memory_io_put(of.disk, PATH, of.bytes, of.count);
    free_lab(&of);
}

/* ---- damage that only the structure tells, at chosen places ---- */

/* The undamaged file, opened for a look at where its parts lie. */
static void map_lab(const lab *of, nphdi_mapped *out)
{
    nphdi_source source;
    nphdi_usearch_head head;
    nphdi_trailer trailer;
    bool ours = false;

    nphdi_source_of_memory(&source, of->bytes, of->count);
    OK(nphdi_source_headers(&source, &head, &trailer, &ours, NULL));
    assert_true(ours);
    OK(nphdi_mapped_open(out, &source, &head, &trailer, true, nphdi_allocator_system(), NULL));
}

/* With the checksums of `bytes` repaired, every number of workers finds this and nothing else. */
static void expect_structure(lab *of, uint8_t *bytes, const char *text)
{
    answer got;

    trailer_repair(bytes, &of->places);
    memory_io_put(of->disk, PATH, bytes, of->count);
    for (uint32_t threads = 1; threads <= 4; threads++) {
        verify(memory_io_table(of->disk), threads, &got);
        assert_int_equal(got.status, NPHD_CORRUPT);
        assert_int_equal(got.report.damaged, 0); /* blocks */
        assert_non_null(strstr(got.err.text, text));
    }
    memcpy(bytes, of->bytes, of->count);
}

/* The live slot whose node lies across byte `at` of the file, and where that begins. */
static uint32_t slot_across(const nphdi_mapped *mapped, uint64_t at, uint64_t *out_offset)
{
    for (uint32_t slot = 0; slot < VECTORS; slot++) {
        const uint8_t *node;
        uint32_t level;
        assert_true(nphdi_mapped_node(mapped, slot, &node, &level));
        const uint64_t begin = (uint64_t)(node - mapped->base);
        if (begin < at && at < begin + nphdi_node_base_bytes(&mapped->head.node) &&
            nphdi_mapped_is_live(mapped, slot)) {
            *out_offset = begin;
            return slot;
        }
    }
    fail_msg("no node across byte %llu", (unsigned long long)at);
    return 0;
}

/* A node of which each of two workers reads a part is looked at when both are done. */
static void test_node_between_chunks(void **unused)
{
    lab of = make_lab();
    uint8_t *bytes = malloc(of.count);
    nphdi_mapped mapped;
    uint64_t at = 0;
    char text[100];

    (void)unused;
    assert_non_null(bytes);
    memcpy(bytes, of.bytes, of.count);
    map_lab(&of, &mapped);
    const uint32_t slot = slot_across(&mapped, 2 << 20, &at);
    const uint32_t room = mapped.head.node.connectivity_base;
    nphdi_put32(bytes + at + 8 + 2, room + 1);
    (void)snprintf(text, sizeof(text), "node %u: level 0 has %u links, room for %u", slot, room + 1,
                   room);
    expect_structure(&of, bytes, text);
    nphdi_put64(bytes + at, nphdi_get64(bytes + at) ^ 1); /* another key */
    (void)snprintf(text, sizeof(text), "the key table does not lead to slot %u", slot);
    expect_structure(&of, bytes, text);
    nphdi_mapped_close(&mapped);
    free(bytes);
    free_lab(&of);
}

/* The slots of a part of the planes ascend, and go on ascending in the next part of that length. */
static void test_slots_of_the_planes(void **unused)
{
    lab of = make_lab();
    uint8_t *bytes = malloc(of.count);
    nphdi_mapped mapped;

    (void)unused;
    assert_non_null(bytes);
    memcpy(bytes, of.bytes, of.count);
    map_lab(&of, &mapped);
    assert_int_equal(mapped.planes.parts, WIDTH);
    const uint64_t number = WIDTH / 2;
    const nphdi_planes_part part = nphdi_image_part(&mapped.planes, number);
    uint8_t *slots = bytes + (part.slots - mapped.base);
    nphdi_put32(slots + 4 * 7, nphdi_get32(slots + 4 * 6)); /* the same again */
    expect_structure(&of, bytes, "planes: entry 7 of part 16 is not row");
    nphdi_put32(slots + 4 * 7, VECTORS);
    expect_structure(&of, bytes, "planes: entry 7 of part 16 is not row 16000");
    nphdi_put32(slots + 4 * 7, UINT32_MAX);
    expect_structure(&of, bytes, "planes: entry 7 of part 16 is not row 4294967295");
    nphdi_mapped_close(&mapped);
    free(bytes);
    free_lab(&of);
}

/* Each kind of call in turn: an error that is named, and the right answer once it is gone. */
static void test_faults(void **unused)
{
    lab of = make_lab();
    io_fault fault;
    answer whole;

    (void)unused;
    io_fault_init(&fault, memory_io_table(of.disk));
    verify(&fault.table, 1, &whole);
    assert_int_equal(whole.status, NPHD_OK);
    for (uint32_t threads = 1; threads <= 3; threads++) {
        bool more = true;
        for (uint64_t n = 1; more; n++) {
            answer got;
            io_fault_arm(&fault, IO_FAULT_READ | IO_FAULT_MAP | IO_FAULT_SIZE, n, EIO, n % 2 == 0);
            verify(&fault.table, threads, &got);
            io_fault_disarm(&fault);
            more = fault.failed > 0;
            /* with several workers it may be that of a worker that is not needed */
            if (more && (threads == 1 || got.status != NPHD_OK)) {
                assert_int_equal(got.status, NPHD_IO);
                assert_non_null(strstr(got.err.text, PATH));
            } else {
                assert_same(&whole, &got);
            }
            verify(&fault.table, threads, &got);
            assert_same(&whole, &got);
        }
    }
    /* workers that cannot open the file leave it to those that can */
    io_fault_arm(&fault, IO_FAULT_OPEN, 2, EMFILE, true);
    answer got;
    verify(&fault.table, 4, &got);
    assert_same(&whole, &got);
    io_fault_disarm(&fault);
    assert_int_equal(fault.open_files, 0);
    assert_int_equal(fault.maps, 0);
    io_fault_destroy(&fault);
    free_lab(&of);
}

/* ---- a file that is replaced in between ---- */

typedef struct replacing {
    nphd_io table;
    lab *of;
    const uint8_t *bytes;
    size_t count;
    _Atomic int opened;
} replacing;

static int open_other(void *context, const char *path, int how, nphd_file *out)
{
    replacing *io = context;
    const nphd_io *below = memory_io_table(io->of->disk);

    if (io->opened++ == 1) {
        memory_io_put(io->of->disk, PATH, io->bytes, io->count);
    }
    return below->open(below->context, path, how, out);
}

/* All other functions of the table ignore the context that they are given here. */
#define BELOW const nphd_io *below = memory_io_table(((replacing *)context)->of->disk)

static int size_other(void *context, nphd_file file, uint64_t *out)
{
    BELOW;
    return below->size(below->context, file, out);
}

static int read_other(void *context, nphd_file file, uint64_t offset, void *buffer, size_t bytes,
                      size_t *out_done)
{
    BELOW;
    return below->read(below->context, file, offset, buffer, bytes, out_done);
}

static int close_other(void *context, nphd_file file)
{
    BELOW;
    return below->close(below->context, file);
}

static int map_other(void *context, nphd_file file, uint64_t bytes, const void **out)
{
    BELOW;
    return below->map(below->context, file, bytes, out);
}

static void unmap_other(void *context, const void *base, uint64_t bytes)
{
    BELOW;
    below->unmap(below->context, base, bytes);
}

/* A file of another size, whole. */
static void save_other(const lab *of)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;

    options.io = memory_io_table(of->disk);
    OK(nphd_index_create(&options, &index, NULL));
    OK(nphd_index_add(index, nphd_key_u64(1), (nphd_vector){of->bytes, 4}, NULL, NULL));
    OK(nphd_index_save(index, "other", NULL, NULL));
    nphd_index_close(index);
}

/* What is verified is the file as it was opened first. */
static void test_replaced(void **unused)
{
    lab of = make_lab();
    static const size_t changed[] = {0, 1, 2, 3, 4};

    (void)unused;
    for (size_t i = 0; i < sizeof(changed) / sizeof(changed[0]); i++) {
        replacing io;
        answer got;
        uint8_t *bytes = malloc(of.count);
        assert_non_null(bytes);
        memcpy(bytes, of.bytes, of.count);
        memset(&io, 0, sizeof(io));
        io.of = &of;
        io.bytes = bytes;
        io.count = of.count;
        switch (changed[i]) {
        case 0: /* another save of it */
            bytes[of.places.directory_offset + 16] ^= 1;
            memset(bytes, 0xff, 3 << 20);
            trailer_repair(bytes, &of.places);
            break;
        case 1: /* another index */
            bytes[of.places.directory_offset] ^= 1;
            memset(bytes, 0xff, 3 << 20);
            trailer_repair(bytes, &of.places);
            break;
        case 2: /* shorter, and without a trailer */
            memset(bytes, 0, of.count);
            io.count = 2 << 20;
            break;
        case 3: /* another, smaller index */
            save_other(&of);
            free(bytes);
            bytes = memory_io_get(of.disk, "other", &io.count);
            assert_true(io.count < of.count);
            io.bytes = bytes;
            break;
        default: /* a damaged footer */
            memset(bytes, 0xff, of.count - 20);
            break;
        }
        io.table.struct_size = sizeof(io.table);
        io.table.context = &io;
        io.table.open = open_other;
        io.table.size = size_other;
        io.table.read = read_other;
        io.table.close = close_other;
        io.table.map = map_other;
        io.table.unmap = unmap_other;
        memory_io_put(of.disk, PATH, of.bytes, of.count);
        verify(&io.table, 4, &got);
        assert_int_equal(got.status, NPHD_OK);
        assert_true(io.opened > 1);
        assert_int_equal(got.report.slots, VECTORS);
        free(bytes);
    }
    free_lab(&of);
}

static void test_options(void **unused)
{
    struct {
        nphd_verify_options known;
        uint64_t more;
    } longer = {NPHD_VERIFY_OPTIONS_INIT, 0};
    nphd_verify_options shorter = {.struct_size = sizeof(size_t)};
    nphd_verify_options bad = {.struct_size = 1};

    (void)unused;
    longer.known.struct_size = sizeof(longer);
    assert_int_equal(nphd_file_verify_with("none", &longer.known, NULL, NULL), NPHD_NOT_FOUND);
    assert_int_equal(nphd_directory_verify_with("none", &longer.known, NULL, NULL), NPHD_NOT_FOUND);
    assert_int_equal(nphd_file_verify_with("none", &shorter, NULL, NULL), NPHD_NOT_FOUND);
    longer.more = 1;
    assert_int_equal(nphd_file_verify_with("none", &longer.known, NULL, NULL),
                     NPHD_INVALID_ARGUMENT);
    assert_int_equal(nphd_directory_verify_with("none", &longer.known, NULL, NULL),
                     NPHD_INVALID_ARGUMENT);
    assert_int_equal(nphd_file_verify_with("none", &bad, NULL, NULL), NPHD_INVALID_ARGUMENT);
    assert_int_equal(nphd_file_verify_with("", NULL, NULL, NULL), NPHD_INVALID_ARGUMENT);
    assert_int_equal(nphd_file_verify_with(NULL, NULL, NULL, NULL), NPHD_INVALID_ARGUMENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_node_between_chunks),
        cmocka_unit_test(test_slots_of_the_planes),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_replaced),
        cmocka_unit_test(test_options),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
