/* Reading a file with a trailer from front to back: in pieces of any size, of which whole blocks go
 * past the buffer, the bytes are those that were written, and no damaged block is handed out. */
#include "index/block_sink.h"
#include "index/source.h"
#include "support/io_memory.h"
#include "support/test_random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call) assert_int_equal((call), NPHD_OK)
#define PATH "file"

enum { BLOCK = NPHDI_TRAILER_BLOCK_BYTES, BYTES = 5 * BLOCK + 1234, BLOCKS = 6 };

typedef struct lab {
    memory_io *disk;
    uint8_t *written;
    uint8_t *read;
    nphdi_source source;
    nphdi_trailer trailer;
    nphdi_block_reader reader;
} lab;

static void begin(lab *here, test_random *random)
{
    static const uint8_t identity[16] = {1};
    nphdi_trailed_file file;

    memset(here, 0, sizeof(*here));
    memset(&file, 0, sizeof(file));
    here->disk = memory_io_create(1);
    here->written = malloc(BYTES);
    here->read = malloc(BYTES);
    assert_true(here->written != NULL && here->read != NULL);
    test_random_fill(random, here->written, BYTES);
    OK(nphdi_trailed_begin(&file, memory_io_table(here->disk), nphdi_allocator_system(), PATH,
                           BYTES, NULL, 0, NULL));
    OK(nphdi_trailed_put(&file, here->written, BYTES, NULL));
    OK(nphdi_trailed_commit(&file, identity, 1, NULL));
    nphdi_trailed_end(&file);
}

static void end(lab *here)
{
    memory_io_destroy(here->disk);
    free(here->written);
    free(here->read);
}

static void open_reader(lab *here)
{
    bool found = false;

    OK(nphdi_source_open(&here->source, memory_io_table(here->disk), PATH, NULL));
    OK(nphdi_source_trailer(&here->source, &here->trailer, &found, NULL));
    assert_true(found);
    OK(nphdi_block_reader_begin(&here->reader, &here->source, &here->trailer,
                                nphdi_allocator_system(), NULL));
}

static void close_reader(lab *here)
{
    nphdi_block_reader_end(&here->reader);
    nphdi_source_close(&here->source);
}

/* Sizes about those of one block and of several. */
static uint64_t piece_at(test_random *random, uint64_t at)
{
    static const uint64_t steps[] = {1, 49, BLOCK - 49, BLOCK, 2 * BLOCK, 3 * BLOCK - 7, BYTES};
    const uint64_t rest = BYTES - at;
    uint64_t bytes = steps[test_random_below(random, 7)] + test_random_below(random, 3);

    /* to the end of a block, so that the next one is taken from its start */
    bytes = test_random_below(random, 3) == 0 ? BLOCK - at % BLOCK : bytes;
    return bytes < rest ? bytes : rest;
}

static void test_pieces(void **state)
{
    test_random random = {*(uint64_t *)*state};
    lab here;

    begin(&here, &random);
    for (int round = 0; round < 300; round++) {
        open_reader(&here);
        memset(here.read, 0, BYTES);
        for (uint64_t at = 0, bytes; at < BYTES; at += bytes) {
            bytes = piece_at(&random, at);
            const bool pass = test_random_below(&random, 5) == 0;
            if (test_random_below(&random, 5) == 0) {
                /* what is in the buffer already is handed out from there */
                OK(nphdi_block_reader_load(&here.reader, at - at % BLOCK, NULL));
            }
            OK(nphdi_block_reader_take(&here.reader, pass ? NULL : here.read + at, bytes, NULL));
            assert_true(pass || memcmp(here.read + at, here.written + at, bytes) == 0);
        }
        close_reader(&here);
    }
    end(&here);
}

static void test_damaged_blocks(void **state)
{
    test_random random = {*(uint64_t *)*state};
    size_t bytes = 0;
    lab here;

    begin(&here, &random);
    uint8_t *file = memory_io_get(here.disk, PATH, &bytes);
    for (uint64_t block = 0; block < BLOCKS; block++) {
        const uint64_t rest = BYTES - block * BLOCK;
        const uint64_t at = block * BLOCK + test_random_below(&random, rest < BLOCK ? rest : BLOCK);
        file[at] ^= 4;
        memory_io_put(here.disk, PATH, file, bytes);
        file[at] ^= 4;
        for (uint64_t before = 0; before <= block; before++) {
            nphd_error err = NPHD_ERROR_INIT;
            open_reader(&here);
            OK(nphdi_block_reader_take(&here.reader, here.read, before * BLOCK, NULL));
            assert_int_equal(
                nphdi_block_reader_take(&here.reader, here.read, BYTES - before * BLOCK, &err),
                NPHD_CORRUPT);
            assert_non_null(strstr(err.text, "checksum mismatch"));
            close_reader(&here);
        }
    }
    free(file);
    end(&here);
}

/* Beyond the end there is nothing to hand out, however the sum of place and size comes out, and
 * what was asked for is named. */
static void test_beyond_the_end(void **state)
{
    test_random random = {*(uint64_t *)*state};
    nphdi_source memory;
    lab here;

    begin(&here, &random);
    open_reader(&here);
    nphdi_source_of_memory(&memory, here.written, BYTES);
    const uint64_t covered = here.reader.covered; /* the mark, too */
    const uint64_t offsets[] = {0, 1, BYTES - 1, BYTES, covered, covered + 1, UINT64_MAX};
    const uint64_t sizes[] = {1, 2, BYTES, covered, covered + 1, UINT64_MAX - covered, UINT64_MAX};
    for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++) {
        for (size_t j = 0; j < sizeof(sizes) / sizeof(sizes[0]); j++) {
            nphd_error err = NPHD_ERROR_INIT;
            if (offsets[i] > BYTES || sizes[j] > BYTES - offsets[i]) {
                assert_int_equal(
                    nphdi_source_read(&memory, offsets[i], here.read, (size_t)sizes[j], &err),
                    NPHD_CORRUPT);
                assert_non_null(strstr(err.text, "buffer: the file ends at"));
            }
            if (offsets[i] > covered || sizes[j] > covered - offsets[i]) {
                here.reader.offset = offsets[i];
                assert_int_equal(nphdi_block_reader_take(&here.reader, here.read, sizes[j], &err),
                                 NPHD_CORRUPT);
                assert_non_null(strstr(err.text, PATH ": the file ends at"));
                assert_true(here.reader.offset == offsets[i]);
            }
        }
    }
    OK(nphdi_source_read(&memory, BYTES, here.read, 0, NULL));
    OK(nphdi_source_read(&memory, BYTES - 1, here.read, 1, NULL));
    assert_int_equal(here.read[0], here.written[BYTES - 1]);
    close_reader(&here);
    end(&here);
}

int main(void)
{
    uint64_t seed = test_seed();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(test_pieces, &seed),
        cmocka_unit_test_prestate(test_damaged_blocks, &seed),
        cmocka_unit_test_prestate(test_beyond_the_end, &seed),
    };

    return cmocka_run_group_tests_name("reading by blocks", tests, NULL, NULL);
}
