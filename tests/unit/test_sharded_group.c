/* Groups of shards with a common filter: when they form, when they are in force, and that lookups
 * give the same answers with and without. */
#include "filters/group_filter.h"
#include "sharded/sharded_internal.h"
#include "support/directory_lab.h"
#include "support/trailer_repair.h"

#include <stdio.h>
#include <stdlib.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

#define KEYS 5 /* of a shard */
#define GROUP NPHDI_GROUP_SHARDS

/* Shards first..end-1, each with its keys KEYS * number and on. */
static void rotate(dirlab *lab, nphd_sharded *sharded, uint64_t first, uint64_t end)
{
    for (uint64_t shard = first; shard < end; shard++) {
        dirlab_add(lab, sharded, KEYS * shard, KEYS * (shard + 1));
        OK(nphd_sharded_rotate(sharded, NULL));
    }
}

static nphd_sharded *make(dirlab *lab, uint64_t shards)
{
    const nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = dirlab_open(lab, &options);

    rotate(lab, sharded, 0, shards);
    return sharded;
}

static nphd_sharded *open_reader(dirlab *lab)
{
    nphd_sharded_options options = dirlab_options(lab);

    options.read_only = true;
    return dirlab_open(lab, &options);
}

/* These are in force; UINT64_MAX ends the places of their first shards. */
static void expect_groups(const nphd_sharded *sharded, const uint64_t *firsts)
{
    uint64_t covered = 0;

    for (uint64_t i = 0; i < sharded->group_count; i++) {
        const nphdi_group *group = &sharded->groups[i];
        assert_int_equal(group->first, covered);
        covered += group->filter != NULL ? GROUP : 1;
        if (group->filter != NULL) {
            assert_true(group->first == *firsts);
            assert_int_equal((uintptr_t)group->filter % NPHDI_GROUP_LINE_BYTES, 0);
            firsts++;
        }
    }
    assert_true(*firsts == UINT64_MAX);
    assert_int_equal(covered, sharded->sealed_count);
}

#define EXPECT_GROUPS(sharded, ...)                                                                \
    expect_groups(sharded, (const uint64_t[]){__VA_ARGS__, UINT64_MAX})
#define EXPECT_NO_GROUP(sharded) expect_groups(sharded, (const uint64_t[]){UINT64_MAX})

/* Absent keys are absent, too. */
static void expect_all(dirlab *lab, nphd_sharded *sharded)
{
    dirlab_expect(lab, sharded);
    for (uint64_t key = 0; key < KEYS * (sharded->sealed_count + 2); key++) {
        assert_int_equal(dirlab_has(sharded, key),
                         dirlab_find(&lab->items, nphd_key_u64(key)) != NULL);
    }
}

/* The section of a shard's filter in the bytes of its file; NULL: it has none. */
static uint8_t *group_section(uint8_t *file, size_t bytes, uint64_t *out_bytes)
{
    nphdi_trailer trailer;
    const nphdi_trailer_section *section;
    bool found = false;

    OK(nphdi_trailer_decode_footer("shard", file + bytes - NPHDI_TRAILER_FOOTER_BYTES, bytes,
                                   &trailer, &found, NULL));
    assert_true(found);
    OK(nphdi_trailer_decode_directory("shard", file + trailer.directory_offset, &trailer, NULL));
    section = nphdi_trailer_find(&trailer, NPHDI_SECTION_GROUP);
    *out_bytes = section != NULL ? section->bytes : 0;
    return section != NULL ? file + section->offset : NULL;
}

/* ---- forming ---- */

static void test_every_16th_shard_carries_a_group(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = make(lab, GROUP - 1);

    EXPECT_NO_GROUP(sharded);
    rotate(lab, sharded, GROUP - 1, GROUP);
    EXPECT_GROUPS(sharded, 0);
    expect_all(lab, sharded);
    rotate(lab, sharded, GROUP, 2 * GROUP - 1);
    EXPECT_GROUPS(sharded, 0);
    rotate(lab, sharded, 2 * GROUP - 1, 2 * GROUP + 3);
    EXPECT_GROUPS(sharded, 0, GROUP);
    expect_all(lab, sharded);
    dirlab_close(sharded);

    sharded = open_reader(lab);
    EXPECT_GROUPS(sharded, 0, GROUP);
    expect_all(lab, sharded);
    dirlab_close(sharded);
    dirlab_expect_reference(lab);
}

/* Lookups run over groups in parts; here are more than one part of them, and of shards alone. */
static void test_many_groups(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = make(lab, 35 * GROUP + 7);
    uint64_t groups = 0;

    for (uint64_t i = 0; i < sharded->group_count; i++) {
        groups += sharded->groups[i].filter != NULL ? 1 : 0;
    }
    assert_int_equal(groups, 35);
    for (uint64_t key = 0; key < KEYS * (35 * GROUP + 9); key++) {
        assert_int_equal(dirlab_has(sharded, key), key < KEYS * (35 * GROUP + 7));
    }
    for (uint64_t key = 0; key < KEYS * (35 * GROUP + 7); key += 400) {
        dirlab_remove(lab, sharded, key);
        assert_false(dirlab_has(sharded, key));
    }
    nphd_sharded_free(sharded);
}

static void test_background_rotation(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded;

    options.background_rotation = true;
    sharded = dirlab_open(lab, &options);
    for (uint64_t shard = 0; shard < 2 * GROUP + 2; shard++) {
        rotate(lab, sharded, shard, shard + 1);
        if (shard > 0) {
            dirlab_upsert(lab, sharded, KEYS * (shard - 1), 1);
        }
        assert_true(dirlab_has(sharded, KEYS * shard / 2));
    }
    OK(nphd_sharded_drain(sharded, UINT64_MAX, NULL));
    EXPECT_GROUPS(sharded, 0, GROUP);
    expect_all(lab, sharded);
    dirlab_close(sharded);
}

/* The last shard becomes the active one again and takes its group along, until it is sealed. */
static void test_active_shard_has_no_group(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = make(lab, GROUP);
    uint64_t bytes = 0;
    size_t file_bytes = 0;
    uint8_t *file;

    dirlab_close(sharded);
    sharded = dirlab_open(lab, NULL);
    EXPECT_GROUPS(sharded, 0);
    dirlab_upsert(lab, sharded, 1, 1);
    EXPECT_NO_GROUP(sharded);
    expect_all(lab, sharded);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    file = memory_io_get(lab->disk, dirlab_path("shard_015.usearch"), &file_bytes);
    assert_null(group_section(file, file_bytes, &bytes));
    free(file);
    OK(nphd_sharded_rotate(sharded, NULL));
    EXPECT_GROUPS(sharded, 0);
    expect_all(lab, sharded);
    dirlab_close(sharded);
}

/* ---- hidden entries ---- */

/* Older entries are found through the filters and hidden, also when the files say nothing of it. */
static void test_deleted_and_replaced_keys(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_options(lab);
    nphd_sharded *sharded = make(lab, GROUP);

    dirlab_remove(lab, sharded, 3);
    dirlab_upsert(lab, sharded, 4, 1);
    rotate(lab, sharded, GROUP, 2 * GROUP - 1);
    dirlab_upsert(lab, sharded, 4, 2);
    dirlab_remove(lab, sharded, KEYS * GROUP);
    rotate(lab, sharded, 2 * GROUP - 1, 2 * GROUP);
    dirlab_upsert(lab, sharded, 3, 3);
    EXPECT_GROUPS(sharded, 0, GROUP);
    expect_all(lab, sharded);
    dirlab_close(sharded);
    sharded = open_reader(lab);
    expect_all(lab, sharded);
    dirlab_close(sharded);
    dirlab_delete(lab, "tombstones.npy");
    options.read_only = true;
    options.salvage = true;
    sharded = dirlab_open(lab, &options);
    EXPECT_GROUPS(sharded, 0, GROUP);
    expect_all(lab, sharded);
    dirlab_close(sharded);
}

static void test_compaction_breaks_groups_and_rotations_mend_them(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded;
    uint64_t section_bytes = 0;
    size_t bytes = 0;
    uint8_t *file;

    /* so small that no two neighbours fit in one */
    options.shard_bytes = 700;
    sharded = dirlab_open(lab, &options);
    rotate(lab, sharded, 0, 2 * GROUP);
    const uint64_t before = sharded->sealed_count;
    EXPECT_GROUPS(sharded, 0, GROUP);
    dirlab_remove(lab, sharded, 3 * KEYS);
    OK(nphd_sharded_compact(sharded, NULL, NULL, NULL));
    assert_int_equal(sharded->sealed_count, before);
    EXPECT_GROUPS(sharded, GROUP);
    expect_all(lab, sharded);
    /* the file of an active shard is written again and again, and is left without */
    dirlab_add(lab, sharded, KEYS * 2 * GROUP, KEYS * 2 * GROUP + 1);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    file = memory_io_get(lab->disk, dirlab_path("shard_032.usearch"), &bytes);
    assert_null(group_section(file, bytes, &section_bytes));
    free(file);
    rotate(lab, sharded, 2 * GROUP, 2 * GROUP + 1);
    EXPECT_GROUPS(sharded, 0, GROUP);
    expect_all(lab, sharded);
    dirlab_close(sharded);
    sharded = open_reader(lab);
    EXPECT_GROUPS(sharded, 0, GROUP);
    expect_all(lab, sharded);
    dirlab_close(sharded);
}

static void test_compaction_merges_a_group(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = make(lab, GROUP + 1);

    dirlab_remove(lab, sharded, 7);
    OK(nphd_sharded_compact(sharded, NULL, NULL, NULL));
    EXPECT_NO_GROUP(sharded);
    expect_all(lab, sharded);
    dirlab_close(sharded);
}

/* ---- damage ---- */

/* A damaged filter may hide keys; verify tells. */
static void test_damaged_filter(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = make(lab, GROUP + 1);
    nphd_directory_report report;
    uint64_t section_bytes = 0;
    size_t bytes = 0;
    uint8_t *file;
    uint8_t *section;

    dirlab_close(sharded);
    file = memory_io_get(lab->disk, dirlab_path("shard_015.usearch"), &bytes);
    section = group_section(file, bytes, &section_bytes);
    assert_non_null(section);
    memset(section + NPHDI_GROUP_HEAD_BYTES, 0, (size_t)section_bytes - NPHDI_GROUP_HEAD_BYTES);
    memory_io_put(lab->disk, dirlab_path("shard_015.usearch"), file, bytes);
    free(file);
    sharded = open_reader(lab);
    EXPECT_GROUPS(sharded, 0);
    for (uint64_t key = 0; key < KEYS * (GROUP + 1); key++) {
        /* which proves that the filter is what is asked */
        assert_int_equal(dirlab_has(sharded, key), key >= KEYS * GROUP);
    }
    nphd_sharded_free(sharded);
    assert_int_equal(
        nphd_directory_verify(DIRLAB_FOLDER, &lab->fault.table, NULL, NULL, &report, NULL),
        NPHD_CORRUPT);
    assert_int_equal(report.damaged_files, 1);
}

typedef void head_change(nphdi_group_head *head, uint8_t *section);

static void wrong_generation(nphdi_group_head *head, uint8_t *section)
{
    head->shards[7].generation++;
    nphdi_group_encode_head(head, section);
}

static void wrong_number(nphdi_group_head *head, uint8_t *section)
{
    head->shards[15].number++;
    nphdi_group_encode_head(head, section);
}

static void absent_number(nphdi_group_head *head, uint8_t *section)
{
    head->shards[0].number = 1000;
    nphdi_group_encode_head(head, section);
}

static void late_number(nphdi_group_head *head, uint8_t *section)
{
    head->shards[0].number = 5;
    nphdi_group_encode_head(head, section);
}

static void one_shard_throughout(nphdi_group_head *head, uint8_t *section)
{
    for (uint32_t i = 1; i < GROUP; i++) {
        head->shards[i] = head->shards[0];
    }
    nphdi_group_encode_head(head, section);
}

static void wrong_rows(nphdi_group_head *head, uint8_t *section)
{
    head->rows = 5;
    nphdi_group_encode_head(head, section);
}

static void wrong_lines(nphdi_group_head *head, uint8_t *section)
{
    head->lines++;
    nphdi_group_encode_head(head, section);
}

static void wrong_padding(nphdi_group_head *head, uint8_t *section)
{
    head->padding ^= 1;
    nphdi_group_encode_head(head, section);
}

/* A head that does not fit is passed over, with right checksums too. */
static void test_heads_that_do_not_fit(void **state)
{
    static head_change *const changes[] = {wrong_generation, wrong_number, absent_number,
                                           late_number,      wrong_rows,   one_shard_throughout,
                                           wrong_lines,      wrong_padding};
    dirlab *lab = *state;
    nphd_sharded *sharded = make(lab, GROUP + 1);
    size_t bytes = 0;
    uint8_t *file;

    dirlab_close(sharded);
    file = memory_io_get(lab->disk, dirlab_path("shard_015.usearch"), &bytes);
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        uint8_t *changed = malloc(bytes);
        uint64_t section_bytes = 0;
        trailer_places places = {0, 0, 0, 0, 0, 0};
        nphdi_group_head head;
        assert_non_null(changed);
        memcpy(changed, file, bytes);
        uint8_t *section = group_section(changed, bytes, &section_bytes);
        assert_true(trailer_places_find(changed, bytes, &places));
        assert_true(nphdi_group_decode_head(section, section_bytes, &head));
        changes[i](&head, section);
        trailer_repair(changed, &places);
        memory_io_put(lab->disk, dirlab_path("shard_015.usearch"), changed, bytes);
        free(changed);
        sharded = open_reader(lab);
        EXPECT_NO_GROUP(sharded);
        expect_all(lab, sharded);
        nphd_sharded_free(sharded);
    }
    free(file);
}

/* Salvage without one member: the others are found one by one, and get a filter again. */
static void test_salvage_without_a_member(void **state)
{
    dirlab *lab = *state;
    nphd_sharded_options options = dirlab_options(lab);
    nphd_sharded *sharded = make(lab, 2 * GROUP + 1);

    dirlab_close(sharded);
    dirlab_delete(lab, "shard_004.usearch");
    for (uint64_t key = 4 * KEYS; key < 5 * KEYS; key++) {
        dirlab_drop(&lab->items, nphd_key_u64(key));
    }
    options.salvage = true;
    sharded = dirlab_open(lab, &options);
    EXPECT_GROUPS(sharded, GROUP - 1);
    expect_all(lab, sharded);
    dirlab_close(sharded);
}

/* Keys that cannot be read leave their shard alone; its neighbours form groups without it. */
static void test_damaged_member(void **state)
{
    dirlab *lab = *state;
    const nphd_sharded_options options = dirlab_small(lab);
    nphd_sharded *sharded = make(lab, GROUP);
    size_t bytes = 0;
    uint8_t *file;

    nphd_sharded_free(sharded);
    file = memory_io_get(lab->disk, dirlab_path("shard_001.usearch"), &bytes);
    /* the level of slot 3, behind rows of 9 bytes and both headers */
    file[8 + 9 * KEYS + 64 + 40 + 2 * 3 + 1] = 0x7f;
    memory_io_put(lab->disk, dirlab_path("shard_001.usearch"), file, bytes);
    free(file);
    sharded = dirlab_open(lab, &options);
    /* the last shard takes the first keys, and so loses the group */
    for (uint64_t shard = GROUP; shard < GROUP + 3; shard++) {
        rotate(lab, sharded, shard, shard + 1);
        if (shard < GROUP + 2) {
            EXPECT_NO_GROUP(sharded);
        }
    }
    EXPECT_GROUPS(sharded, 2);
    assert_true(sharded->sealed[1]->left_alone);
    for (uint64_t key = 0; key < KEYS * (GROUP + 3); key++) {
        if (key != KEYS + 3) {
            assert_true(dirlab_has(sharded, key));
        }
    }
    nphd_sharded_free(sharded);
}

/* ---- memory and sizes ---- */

/* Whichever allocation fails, the rotation is done or can be done again; one of them only costs the
 * group. The last shard is promoted and sealed again by each round. */
static void test_without_memory(void **state)
{
    dirlab *lab = *state;
    nphd_sharded *sharded = make(lab, GROUP);
    bool failed = true;
    bool without = false;

    dirlab_close(sharded);
    for (uint64_t n = 1; failed; n++) {
        assert_true(n < 1000);
        sharded = dirlab_open(lab, NULL);
        dirlab_upsert(lab, sharded, KEYS * GROUP - 1, (uint8_t)n);
        EXPECT_NO_GROUP(sharded);
        allocator_fault_arm(&lab->allocator, ALLOCATOR_FAULT_ALLOCATE, n, false);
        const nphd_status status = nphd_sharded_rotate(sharded, NULL);
        failed = lab->allocator.failed > 0;
        allocator_fault_arm(&lab->allocator, ALLOCATOR_FAULT_ALLOCATE, 0, false);
        if (status != NPHD_OK) {
            OK(nphd_sharded_rotate(sharded, NULL));
            OK(nphd_sharded_drain(sharded, UINT64_MAX, NULL));
            EXPECT_GROUPS(sharded, 0);
        } else if (sharded->sealed[GROUP - 1]->index->content->view) {
            without = without || sharded->group_count == GROUP;
        }
        expect_all(lab, sharded);
        dirlab_close(sharded);
    }
    assert_true(without);
}

/* What the index says of its files is what they are, also when their sections take blocks of their
 * own: here the group of shard 15 and the tombstones of shard 16. */
static void test_file_sizes(void **state)
{
    enum { MANY = 9000 };
    dirlab *lab = *state;
    nphd_sharded *sharded = make(lab, GROUP - 1);
    nphd_vector *vectors = calloc(MANY, sizeof(*vectors));
    nphd_key *keys = calloc(MANY, sizeof(*keys));
    uint8_t *data = calloc(MANY, 8);
    nphd_shard_info infos[GROUP + 2];
    size_t count = 0;

    assert_true(vectors != NULL && keys != NULL && data != NULL);
    for (uint64_t i = 0; i < MANY; i++) {
        keys[i] = nphd_key_u64(1000 + i);
        vectors[i] = dirlab_vector(1000 + i, 0, data + 8 * i);
    }
    OK(nphd_sharded_add_many(sharded, keys, vectors, MANY, NULL, NULL, NULL, NULL));
    OK(nphd_sharded_rotate(sharded, NULL));
    EXPECT_GROUPS(sharded, 0);
    OK(nphd_sharded_remove(sharded, keys, MANY, NULL, NULL));
    dirlab_add(lab, sharded, 500, 510);
    OK(nphd_sharded_save(sharded, NULL, NULL));
    OK(nphd_sharded_shards(sharded, infos, GROUP + 2, &count, NULL));
    assert_int_equal(count, GROUP + 1);
    for (size_t i = 0; i < count; i++) {
        char name[32];
        size_t bytes = 0;
        (void)snprintf(name, sizeof(name), "shard_%03u.usearch", (unsigned)infos[i].number);
        free(memory_io_get(lab->disk, dirlab_path(name), &bytes));
        assert_int_equal(infos[i].file_bytes, bytes);
    }
    dirlab_close(sharded);
    free(data);
    free(keys);
    free(vectors);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DIRLAB_TEST(test_every_16th_shard_carries_a_group),
        DIRLAB_TEST(test_many_groups),
        DIRLAB_TEST(test_background_rotation),
        DIRLAB_TEST(test_active_shard_has_no_group),
        DIRLAB_TEST(test_deleted_and_replaced_keys),
        DIRLAB_TEST(test_compaction_breaks_groups_and_rotations_mend_them),
        DIRLAB_TEST(test_compaction_merges_a_group),
        DIRLAB_TEST(test_damaged_filter),
        DIRLAB_TEST(test_heads_that_do_not_fit),
        DIRLAB_TEST(test_salvage_without_a_member),
        DIRLAB_TEST(test_damaged_member),
        DIRLAB_TEST(test_without_memory),
        DIRLAB_TEST(test_file_sizes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
