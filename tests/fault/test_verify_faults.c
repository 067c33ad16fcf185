/* Verifying one file by several workers while memory runs out or reads fail: a worker without
 * memory or without the file leaves its work to the others, the error of the first chunk is told
 * whichever came first, and a file of the reference that cannot be read is named. */
#include "platform/platform.h"
#include "support/fixture_text.h"
#include "support/shard_lab.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#define MIB ((uint64_t)1 << 20)

/* Calls without an allocator of their own get this one, in place of the library's. */
static allocator_fault memory;

const nphd_allocator *nphdi_allocator_system(void)
{
    return &memory.table;
}

/* Ranges of some MiB, which are taken at once. */
static void *plain_allocate(void *context, size_t bytes)
{
    (void)context;
    return malloc(bytes);
}

static void plain_release(void *context, void *memory_of, size_t bytes)
{
    (void)context;
    (void)bytes;
    free(memory_of);
}

static void *plain_reserve(void *context, size_t bytes)
{
    (void)context;
    return bytes <= 16 * MIB ? aligned_alloc(65536, bytes) : NULL;
}

static int plain_commit(void *context, void *base, size_t from, size_t to)
{
    (void)context;
    memset((uint8_t *)base + from, 0, to - from);
    return 0;
}

/* Some chunks of 1 MiB. */
static void make_file(lab *here)
{
    enum { VECTORS = 8000, BYTES = 128 };
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_vector *vectors = calloc(VECTORS, sizeof(*vectors));
    uint8_t *bits = malloc((size_t)VECTORS * BYTES);
    nphd_index *index = NULL;
    nphd_verify_report report;

    assert_non_null(vectors);
    assert_non_null(bits);
    test_random_fill(&here->random, bits, (size_t)VECTORS * BYTES);
    for (size_t i = 0; i < VECTORS; i++) {
        vectors[i] = (nphd_vector){bits + i * BYTES, BYTES};
    }
    options.max_bits = 8 * BYTES;
    options.connectivity = 2;
    options.build_breadth = 1;
    options.io = memory_io_table(here->disk);
    options.allocator = &here->allocator.table;
    OK(nphd_index_create(&options, &index, NULL));
    OK(nphd_index_add_many(index, NULL, vectors, VECTORS, NULL, NULL, NULL, NULL));
    OK(nphd_index_save(index, PATH, NULL, NULL));
    nphd_index_close(index);
    free(vectors);
    free(bits);
    OK(nphd_file_verify(PATH, memory_io_table(here->disk), NULL, NULL, &report, NULL));
    assert_true(report.file_bytes > 2 * MIB);
}

static nphd_status verify(const nphd_io *io, const char *path, uint32_t threads,
                          nphd_verify_report *report, nphd_error *err)
{
    nphd_verify_options options = NPHD_VERIFY_OPTIONS_INIT;

    options.io = io;
    options.threads = threads;
    return nphd_file_verify_with(path, &options, report, err);
}

/* ---- memory ---- */

static void test_memory(void **state)
{
    lab *here = *state;
    nphd_verify_report whole;

    make_file(here);
    OK(verify(&here->fault.table, PATH, 1, &whole, NULL));
    for (uint32_t threads = 1; threads <= 3; threads++) {
        bool failed = true;
        for (uint64_t n = 1; failed; n++) {
            nphd_verify_report report;
            nphd_error err = NPHD_ERROR_INIT;
            allocator_fault_arm(&memory, ALLOCATOR_FAULT_ALL, n, false);
            const nphd_status status = verify(&here->fault.table, PATH, threads, &report, &err);
            failed = memory.failed > 0;
            allocator_fault_arm(&memory, ALLOCATOR_FAULT_ALL, 0, false);
            if (status == NPHD_OK) {
                assert_true(!failed || threads > 1); /* one worker fewer */
                assert_int_equal(report.blocks, whole.blocks);
                assert_int_equal(report.damaged, 0);
            } else {
                assert_true(failed);
                assert_int_equal(status, NPHD_OUT_OF_MEMORY);
                assert_int_equal(err.status, status);
            }
            assert_int_equal(here->fault.open_files, 0);
            assert_true(allocator_fault_is_clean(&memory));
        }
    }
}

/* ---- reads ---- */

/* The functions get the context of the table below, so that this stands beside it. */
static struct waiting {
    const nphd_io *below;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    int inside;  /* reads of chunks */
    bool failed; /* the first chunk has */
} waiting;

/* Reads of whole chunks fail, but none before two are under way, and that of the first chunk before
 * the other. */
static int waiting_read(void *context, nphd_file file, uint64_t offset, void *buffer, size_t bytes,
                        size_t *out_done)
{
    const struct timespec moment = {0, 30000000};

    if (bytes < MIB) {
        return waiting.below->read(context, file, offset, buffer, bytes, out_done);
    }
    *out_done = 0;
    (void)pthread_mutex_lock(&waiting.mutex);
    waiting.inside++;
    (void)pthread_cond_broadcast(&waiting.changed);
    while (waiting.inside < 2 || (offset > 0 && !waiting.failed)) {
        (void)pthread_cond_wait(&waiting.changed, &waiting.mutex);
    }
    if (offset == 0) {
        waiting.failed = true;
        (void)pthread_cond_broadcast(&waiting.changed);
    }
    (void)pthread_mutex_unlock(&waiting.mutex);
    if (offset > 0) {
        (void)nanosleep(&moment, NULL); /* until the first is noted */
    }
    return EIO;
}

static void test_two_reads_that_fail(void **state)
{
    lab *here = *state;
    nphd_io table = *memory_io_table(here->disk);
    nphd_verify_report report;
    nphd_error err = NPHD_ERROR_INIT;

    make_file(here);
    memset(&waiting, 0, sizeof(waiting));
    waiting.below = memory_io_table(here->disk);
    (void)pthread_mutex_init(&waiting.mutex, NULL);
    (void)pthread_cond_init(&waiting.changed, NULL);
    table.read = waiting_read;
    assert_int_equal(verify(&table, PATH, 2, &report, &err), NPHD_IO);
    assert_int_equal(waiting.inside, 2);
    assert_non_null(strstr(err.text, PATH));
    assert_non_null(strstr(err.text, "at offset 0"));
    (void)pthread_cond_destroy(&waiting.changed);
    (void)pthread_mutex_destroy(&waiting.mutex);
}

static int failing_read(void *context, nphd_file file, uint64_t offset, void *buffer, size_t bytes,
                        size_t *out_done)
{
    if (bytes < MIB) {
        return waiting.below->read(context, file, offset, buffer, bytes, out_done);
    }
    *out_done = 0;
    (void)pthread_mutex_lock(&waiting.mutex);
    waiting.failed = true;
    (void)pthread_mutex_unlock(&waiting.mutex);
    return EIO;
}

/* Answers once another worker has met a failure, so that the calling thread finds the work stopped;
 * a second is enough for that, or there is no such worker. */
static int answer_late(void *context, uint64_t done, uint64_t total)
{
    const struct timespec moment = {0, 1000000};
    bool failed = done < total / 10; /* before the chunks */

    (void)context;
    for (int tries = 0; !failed && tries < 1000; tries++) {
        (void)pthread_mutex_lock(&waiting.mutex);
        failed = waiting.failed;
        (void)pthread_mutex_unlock(&waiting.mutex);
        (void)nanosleep(&moment, NULL);
    }
    return 0;
}

/* A worker that is asking must not have taken a chunk: it would leave it out when it stops. */
static void test_failure_while_the_caller_is_asked(void **state)
{
    lab *here = *state;
    nphd_io table = *memory_io_table(here->disk);
    nphd_verify_options options = NPHD_VERIFY_OPTIONS_INIT;
    nphd_error err = NPHD_ERROR_INIT;

    make_file(here);
    memset(&waiting, 0, sizeof(waiting));
    waiting.below = memory_io_table(here->disk);
    (void)pthread_mutex_init(&waiting.mutex, NULL);
    table.read = failing_read;
    options.io = &table;
    options.threads = 2;
    options.progress = answer_late;
    assert_int_equal(nphd_file_verify_with(PATH, &options, NULL, &err), NPHD_IO);
    assert_non_null(strstr(err.text, "at offset 0"));
    (void)pthread_mutex_destroy(&waiting.mutex);
}

static void test_reference_file(void **state)
{
    lab *here = *state;
    bool failed = true;
    size_t bytes = 0;
    uint8_t *data = fixture_file(fixture_path("nphd256_n1000"), &bytes);

    assert_non_null(data);
    memory_io_put(here->disk, PATH, data, bytes);
    free(data);
    for (uint64_t n = 1; failed; n++) {
        nphd_verify_report report;
        nphd_error err = NPHD_ERROR_INIT;
        io_fault_arm(&here->fault, IO_FAULT_READ | IO_FAULT_MAP, n, EIO, false);
        const nphd_status status = verify(&here->fault.table, PATH, 1, &report, &err);
        io_fault_disarm(&here->fault);
        failed = here->fault.failed > 0;
        assert_int_equal(status, failed ? NPHD_IO : NPHD_OK);
        assert_true(!failed || strstr(err.text, PATH) != NULL);
        assert_int_equal(report.slots, failed ? 0 : 1000);
        assert_false(report.checksums);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_memory),
        TEST(test_two_reads_that_fail),
        TEST(test_failure_while_the_caller_is_asked),
        TEST(test_reference_file),
    };
    static const nphd_allocator plain = {sizeof(plain), NULL,         plain_allocate, plain_release,
                                         plain_reserve, plain_commit, plain_release};
    int failed;

    allocator_fault_init(&memory);
    memory.below = &plain;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    allocator_fault_destroy(&memory);
    return failed;
}
