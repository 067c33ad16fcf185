/* Keys chosen so that all of them meet at one place of a table whose hash everybody knows. */
#include "base/hash.h"
#include "filters/key_set.h"
#include "index/index_internal.h"
#include "support/allocator_plain.h"

#include <nphd/nphd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

enum { KEYS = 20000 };

/* ---- XXH3 of 8 bytes turned round: a key for a hash ---- */

static uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static uint64_t mix(uint64_t x)
{
    return x ^ rotate(x, 49) ^ rotate(x, 24);
}

static uint64_t unmultiply(uint64_t x, uint64_t by)
{
    uint64_t inverse = by;

    for (int i = 0; i < 6; i++) {
        inverse *= 2 - by * inverse;
    }
    return x * inverse;
}

static uint64_t unhash(uint64_t h)
{
    const uint64_t prime = 0x9FB21C651E98DF25ULL;

    h = h ^ h >> 28 ^ h >> 56;
    h = unmultiply(h, prime);
    h ^= (h >> 35) + 8;
    h = unmultiply(h, prime);
    for (int i = 0; i < 63; i++) { /* the 64th power of the mix is one */
        h = mix(h);
    }
    return h;
}

static nphd_key key_for(uint64_t hash)
{
    const uint64_t flip = unhash(nphdi_hash_key(nphd_key_u64(0), 8));
    const uint64_t halves = unhash(hash) ^ flip;

    return nphd_key_u64(halves << 32 | halves >> 32);
}

/* The same key to all of them, as far as a place in a table of a file is concerned. */
static nphd_key crafted(uint64_t number)
{
    return key_for(number << 8 | 0x55);
}

static void test_keys_are_what_they_claim(void **state)
{
    (void)state;
    for (uint64_t hash = 1; hash < 1000000; hash *= 7) {
        assert_true(nphdi_hash_key(key_for(hash), 8) == hash);
    }
}

/* ---- tables in memory ---- */

/* Places from a key's first one to where it is, over all keys. */
static uint64_t displacement(const nphdi_content *content)
{
    const nphdi_key_table *table = atomic_load(&content->map.table);
    uint64_t sum = 0;

    for (uint64_t place = 0; place < table->room; place++) {
        const uint32_t slot = atomic_load(&table->slots[place]);
        nphd_key key;
        if (slot >= NPHDI_TABLE_DELETED) {
            continue;
        }
        assert_true(nphdi_content_key(content, slot, &key));
        const uint64_t home = nphdi_hash_to_range(nphdi_content_hash(content, key), table->room);
        sum += place >= home ? place - home : place + table->room - home;
    }
    return sum;
}

static nphd_index *flooded(uint32_t key_bits, nphd_key *keys)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;
    nphd_vector *vectors = calloc(KEYS, sizeof(*vectors));
    size_t added = 0;
    static const uint8_t bits[KEYS + 8] = {0};

    assert_non_null(vectors);
    options.connectivity = 2;
    options.build_breadth = 1;
    options.max_bits = 64;
    options.key_bits = key_bits;
    OK(nphd_index_create(&options, &index, NULL));
    for (size_t i = 0; i < KEYS; i++) {
        keys[i] = crafted(i);
        vectors[i] = (nphd_vector){bits + i, 8};
    }
    OK(nphd_index_add_many(index, keys, vectors, KEYS, NULL, NULL, &added, NULL));
    assert_int_equal(added, KEYS);
    free(vectors);
    return index;
}

static void test_chosen_keys_spread_in_memory(void **state)
{
    nphd_key *keys = calloc(KEYS, sizeof(*keys));

    (void)state;
    assert_non_null(keys);
    for (uint32_t key_bits = 64; key_bits <= 128; key_bits += 64) {
        nphd_index *one = flooded(key_bits, keys);
        nphd_index *other = flooded(key_bits, keys);
        /* at a load of three quarters 1.5 on average; without a secret it is half of the keys */
        assert_true(displacement(one->content) < 8 * (uint64_t)KEYS);
        assert_true(displacement(other->content) < 8 * (uint64_t)KEYS);
        assert_true(nphdi_content_hash(one->content, keys[1]) !=
                    nphdi_content_hash(other->content, keys[1]));
        nphd_index_close(one);
        nphd_index_close(other);
    }
    free(keys);
}

static void test_chosen_keys_spread_in_sets(void **state)
{
    nphdi_key_set set = {.allocator = allocator_plain()};
    nphdi_key_set other = {.allocator = allocator_plain()};

    (void)state;
    OK(nphdi_key_set_reserve(&set, KEYS, NULL));
    OK(nphdi_key_set_reserve(&other, 1, NULL));
    assert_true(set.secret.seed != other.secret.seed);
    for (uint64_t i = 0; i < KEYS; i++) {
        assert_true(nphdi_key_set_add(&set, nphd_key_u64(i)));
    }
    const nphdi_hash_secret before = set.secret;
    OK(nphdi_key_set_reserve(&set, 4 * KEYS, NULL)); /* keeps its secret: keys stay findable */
    assert_memory_equal(&before, &set.secret, sizeof(before));
    assert_true(nphdi_key_set_has(&set, nphd_key_u64(KEYS - 1)));
    nphdi_key_set_release(&set);
    nphdi_key_set_release(&other);
}

/* Secrets never reach a file: the same content is the same bytes. */
static void test_secrets_stay_out_of_files(void **state)
{
    nphd_key *keys = calloc(KEYS, sizeof(*keys));
    uint8_t *files[2] = {NULL};
    size_t bytes[2] = {0};

    (void)state;
    assert_non_null(keys);
    for (int i = 0; i < 2; i++) {
        nphd_index *index = flooded(64, keys);
        OK(nphd_index_save_buffer(index, NULL, 0, &bytes[i], NULL));
        files[i] = malloc(bytes[i]);
        assert_non_null(files[i]);
        OK(nphd_index_save_buffer(index, files[i], bytes[i], &bytes[i], NULL));
        nphd_index_close(index);
    }
    assert_int_equal(bytes[0], bytes[1]);
    assert_memory_equal(files[0], files[1], bytes[0]);
    free(files[0]);
    free(files[1]);
    free(keys);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_are_what_they_claim),
        cmocka_unit_test(test_chosen_keys_spread_in_memory),
        cmocka_unit_test(test_chosen_keys_spread_in_sets),
        cmocka_unit_test(test_secrets_stay_out_of_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
