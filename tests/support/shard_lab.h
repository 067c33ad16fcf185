/* What tests of the seam between one index and the sharded index share: a disk and an allocator
 * that can fail, and indexes whose vectors follow from their keys. */
#ifndef SHARD_LAB_H
#define SHARD_LAB_H

#include "base/bytes.h"
#include "base/hash.h"
#include "base/memory.h"
#include "index/index_shard.h"
#include "support/allocator_fault.h"
#include "support/io_fault.h"
#include "support/io_memory.h"
#include "support/test_random.h"

#include <nphd/nphd.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define OK(call) assert_int_equal((call), NPHD_OK)
#define PATH "shard.usearch"
#define TEST(name) cmocka_unit_test_setup_teardown(name, lab_open, lab_close)

typedef struct lab {
    memory_io *disk;
    io_fault fault;
    allocator_fault allocator;
    test_random random;
} lab;

static inline int lab_open(void **state)
{
    static lab here;

    memset(&here, 0, sizeof(here));
    here.random.state = test_seed();
    here.disk = memory_io_create(1);
    io_fault_init(&here.fault, memory_io_table(here.disk));
    allocator_fault_init(&here.allocator);
    *state = &here;
    return 0;
}

static inline int lab_close(void **state)
{
    lab *here = *state;

    assert_int_equal(here->fault.open_files, 0);
    assert_int_equal(here->fault.maps, 0);
    io_fault_destroy(&here->fault);
    memory_io_destroy(here->disk);
    assert_true(allocator_fault_is_clean(&here->allocator));
    allocator_fault_destroy(&here->allocator);
    return 0;
}

/* ---- indexes whose vectors follow from their keys ---- */

static inline nphd_index *create(lab *here, uint32_t key_bits, bool multi)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;

    options.max_bits = 64;
    options.connectivity = 4;
    options.key_bits = key_bits;
    options.multi = multi;
    options.io = &here->fault.table;
    options.allocator = &here->allocator.table;
    OK(nphd_index_create(&options, &index, NULL));
    return index;
}

/* Two keys have different vectors, of 8 bytes. */
static inline nphd_vector vector_of(uint64_t key, uint8_t version, uint8_t out[8])
{
    const nphd_vector vector = {out, 8};

    nphdi_put64(out, nphdi_hash_key(nphd_key_u64(key), 8));
    out[7] = version;
    return vector;
}

static inline void add(nphd_index *index, uint64_t from, uint64_t to)
{
    uint8_t data[8];

    for (uint64_t key = from; key < to; key++) {
        OK(nphd_index_add(index, nphd_key_u64(key), vector_of(key, 0, data), NULL, NULL));
    }
}

static inline void remove_key(nphd_index *index, uint64_t number)
{
    const nphd_key key = nphd_key_u64(number);
    size_t removed = 0;

    OK(nphd_index_remove(index, &key, 1, &removed, NULL));
    assert_int_equal(removed, 1);
}

static inline bool has(nphd_index *index, uint64_t key)
{
    bool there = false;

    OK(nphd_index_contains(index, nphd_key_u64(key), &there, NULL));
    return there;
}

static inline nphd_index *view(lab *here, const char *path)
{
    nphd_index *index = create(here, 64, false);

    OK(nphd_index_view(index, path, NULL, NULL));
    return index;
}

static inline void expect_section(lab *here, const char *path, uint32_t id, const void *data,
                                  uint64_t bytes)
{
    bool found = false;
    void *read = NULL;
    uint64_t read_bytes = 0;

    OK(nphdi_index_read_section(&here->fault.table, &here->allocator.table, path, id, &found, &read,
                                &read_bytes, NULL));
    assert_true(found);
    assert_int_equal(read_bytes, bytes);
    if (bytes > 0) {
        assert_memory_equal(read, data, bytes);
    }
    nphdi_free(&here->allocator.table, read, read_bytes, 1);
}

#endif
