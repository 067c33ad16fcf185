/* Filters and shards, behind checksums that are right, that disagree about which keys there are: an
 * upsert or a removal must not hide an entry for which no room was made, and verify must tell of
 * keys that are not found. */
#include "support/directory_damage.h"

#include "formats/isbf_format.h"

#define OK(call) assert_int_equal((call), NPHD_OK)

#define FIRST "shard_000.usearch"
#define FILTER "bloom.isbf"

static char told[4096];

static void tell(void *context, const char *text)
{
    const size_t length = strlen(told);

    (void)context;
    (void)snprintf(told + length, sizeof(told) - length, "%s\n", text);
}

static void expect_told(dirlab *lab, const char *first, const char *second)
{
    told[0] = '\0';
    assert_int_equal(
        nphd_directory_verify(DIRLAB_FOLDER, &lab->fault.table, tell, NULL, NULL, NULL),
        NPHD_CORRUPT);
    if (strstr(told, first) == NULL || strstr(told, second) == NULL) {
        fail_msg("'%s' does not say %s and %s", told, first, second);
    }
}

/* Every key of the damaged shard is replaced and removed; the index works on and saves. */
static void work_on(dirlab *lab)
{
    uint8_t bits[8];
    nphd_sharded *sharded = dirlab_open(lab, NULL);

    for (uint64_t round = 0; round < 2; round++) {
        for (uint64_t number = 0; number < 40; number++) {
            const nphd_key key = nphd_key_u64(number);
            const nphd_vector vector = dirlab_vector(number, (uint8_t)(9 + round), bits);
            uint8_t found[NPHD_MAX_BYTES];
            size_t bytes = 0;
            OK(nphd_sharded_upsert(sharded, &key, &vector, 1, NULL, NULL, NULL));
            OK(nphd_sharded_get(sharded, key, found, sizeof(found), &bytes, NULL));
            assert_int_equal(bytes, vector.bytes);
            assert_memory_equal(found, vector.data, bytes);
        }
        OK(nphd_sharded_rotate(sharded, NULL));
    }
    for (uint64_t number = 0; number < 40; number++) {
        const nphd_key key = nphd_key_u64(number);
        size_t removed = 0;
        OK(nphd_sharded_remove(sharded, &key, 1, &removed, NULL));
        assert_int_equal(removed, 1);
        assert_false(dirlab_has(sharded, number));
    }
    dirlab_close(sharded);
}

/* All bits of the filter cleared. */
static void test_filter_that_knows_no_key(void **state)
{
    dirlab *lab = *state;

    damage_make_saves(lab, true);
    damage_file file = damage_begin(lab, FILTER);
    const size_t bits = NPHDI_ISBF_HEAD_BYTES + NPHDI_ISBF_FILTER_BYTES;
    memset(file.data + bits, 0, file.places.foreign_bytes - bits);
    damage_end(lab, &file);
    expect_told(lab, FILTER, FIRST);
    work_on(lab);
}

/* A live bit cleared for an entry that the key table leads to, and a filter that was made anew from
 * the live bits. */
static void test_entry_that_is_not_live(void **state)
{
    dirlab *lab = *state;

    damage_make_saves(lab, true);
    damage_file file = damage_begin(lab, FIRST);
    damage_section(&file, NPHDI_SECTION_LIVE)[0] &= (uint8_t) ~(1U << 5);
    damage_end(lab, &file);
    expect_told(lab, FIRST, "slot 5");
    dirlab_delete(lab, FILTER);
    work_on(lab);
}

/* An entry of the key table that leads to another slot: the other keys of the shard are found. */
static void test_entry_that_is_not_led_to(void **state)
{
    dirlab *lab = *state;

    damage_make_saves(lab, true);
    damage_table(lab, FIRST, 5);
    expect_told(lab, FIRST, "key table");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_filter_that_knows_no_key),
        DIRLAB_TEST(test_entry_that_is_not_live),
        DIRLAB_TEST(test_entry_that_is_not_led_to),
    };

    return cmocka_run_group_tests_name("hiding in damaged shards", tests, NULL, NULL);
}
