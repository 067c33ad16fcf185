/* Exact search of an index over its planes against a plain list: adds, removals, slots used again,
 * upserts, clearing, files, views, hidden slots, damaged sections, and searches beside changes. */
#include "base/bytes.h"
#include "formats/trailer.h"
#include "index/hidden.h"
#include "index/index_internal.h"
#include "index/index_shard.h"
#include "platform/platform.h"
#include "support/allocator_fault.h"
#include "support/test_random.h"

#include <nphd/nphd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define OK(call) assert_int_equal((call), NPHD_OK)

#define KEYS 6000
#define WIDTH 24
#define NEAREST 12
#define QUERIES 37
#define IMAGE_HEAD_BYTES 1024

/* What the index should hold, by key. */
typedef struct list {
    bool there[KEYS];
    uint8_t bytes[KEYS][WIDTH];
    uint8_t length[KEYS];
    bool hamming;
    test_random random;
    nphd_index *index;
} list;

typedef struct answer {
    nphd_key key;
    uint32_t differing;
    uint32_t shared;
} answer;

static list *list_begin_with(bool hamming, const nphd_allocator *allocator)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    list *model = calloc(1, sizeof(*model));

    assert_non_null(model);
    model->hamming = hamming;
    model->random.state = test_seed();
    options.max_bits = 8 * WIDTH;
    options.metric = hamming ? NPHD_METRIC_HAMMING : NPHD_METRIC_NPHD;
    options.connectivity = 2;
    options.build_breadth = 1;
    options.allocator = allocator;
    OK(nphd_index_create(&options, &model->index, NULL));
    return model;
}

static list *list_begin(bool hamming)
{
    return list_begin_with(hamming, NULL);
}

static void list_end(list *model)
{
    nphd_index_close(model->index);
    free(model);
}

/* Half of the vectors lie near to one another, so that there are ties. `bytes` 0: any length. */
static nphd_vector random_vector(list *model, uint8_t out[WIDTH], size_t bytes)
{
    const uint64_t kind = test_random_below(&model->random, 4);
    nphd_vector vector = {out, bytes == 0 ? WIDTH : bytes};

    if (!model->hamming && kind != 0 && bytes == 0) {
        vector.bytes = 1 + test_random_below(&model->random, WIDTH);
    }
    memset(out, 0, WIDTH);
    if (kind < 2) {
        test_random_fill(&model->random, out, vector.bytes);
    } else {
        memset(out, 0x69, vector.bytes);
        for (uint32_t i = 0; i < 6; i++) {
            const uint64_t bit = test_random_below(&model->random, 8 * vector.bytes);
            out[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        }
    }
    return vector;
}

static void upsert_of_length(list *model, uint64_t first, uint64_t count, size_t bytes)
{
    nphd_key *keys = calloc(count, sizeof(*keys));
    nphd_vector *vectors = calloc(count, sizeof(*vectors));

    assert_true(keys != NULL && vectors != NULL && first + count <= KEYS);
    for (uint64_t i = 0; i < count; i++) {
        keys[i] = nphd_key_u64(first + i);
        vectors[i] = random_vector(model, model->bytes[first + i], bytes);
        model->length[first + i] = (uint8_t)vectors[i].bytes;
        model->there[first + i] = true;
    }
    OK(nphd_index_upsert(model->index, keys, vectors, count, NULL, NULL, NULL));
    free(keys);
    free(vectors);
}

static void upsert(list *model, uint64_t first, uint64_t count)
{
    upsert_of_length(model, first, count, 0);
}

static void remove_some(list *model, uint64_t first, uint64_t count)
{
    for (uint64_t key = first; key < first + count; key++) {
        const nphd_key one = nphd_key_u64(key);
        OK(nphd_index_remove(model->index, &one, 1, NULL, NULL));
        model->there[key] = false;
    }
}

/* ---- the same, slowly ---- */

static int compare(const void *left, const void *right)
{
    const answer *a = left;
    const answer *b = right;
    const uint32_t x = a->differing * b->shared;
    const uint32_t y = b->differing * a->shared;

    return x != y ? (x < y ? -1 : 1) : nphd_key_compare(a->key, b->key);
}

static size_t answer_slowly(const list *model, nphd_vector query, answer *out)
{
    const uint8_t *bytes = query.data;
    size_t count = 0;

    for (uint64_t key = 0; key < KEYS; key++) {
        answer *to = &out[count];
        if (!model->there[key]) {
            continue;
        }
        to->key = nphd_key_u64(key);
        to->differing = 0;
        to->shared = model->length[key] < query.bytes ? model->length[key] : (uint32_t)query.bytes;
        for (uint32_t i = 0; i < to->shared; i++) {
            for (unsigned x = bytes[i] ^ model->bytes[key][i]; x != 0; x &= x - 1) {
                to->differing++;
            }
        }
        count++;
    }
    qsort(out, count, sizeof(*out), compare);
    return count;
}

static void check_matches(const list *model, nphd_vector query, const nphd_search_options *options,
                          const nphd_match *matches, const nphd_search_report *report)
{
    static answer expected[KEYS];
    size_t count = answer_slowly(model, query, expected);
    size_t near = 0;

    assert_true(report->exact);
    for (; near < count && near < NEAREST; near++) {
        const answer *one = &expected[near];
        const float distance = model->hamming ? (float)one->differing
                                              : (float)one->differing / (float)(8 * one->shared);
        if (options->use_radius && distance > options->radius) {
            break;
        }
        if (near < report->count && (matches[near].key.low != one->key.low ||
                                     memcmp(&matches[near].distance, &distance, 4) != 0)) {
            fail_msg("match %zu is key %llu at %g, expected %llu at %g", near,
                     (unsigned long long)matches[near].key.low, (double)matches[near].distance,
                     (unsigned long long)one->key.low, (double)distance);
        }
    }
    assert_int_equal(report->count, near);
}

/* In one call and one by one, with several numbers of threads, with and without a radius. */
static void check_searches(list *model, nphd_index *index)
{
    static uint8_t bytes[QUERIES][WIDTH];
    static nphd_match matches[QUERIES * NEAREST];
    nphd_search_report reports[QUERIES];
    nphd_vector queries[QUERIES];

    for (size_t i = 0; i < QUERIES; i++) {
        queries[i] = random_vector(model, bytes[i], 0);
    }
    for (uint32_t kind = 0; kind < 6; kind++) {
        nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
        options.mode = NPHD_SEARCH_EXACT;
        options.threads = kind % 3 == 2 ? 5 : kind % 3;
        options.use_radius = kind >= 3;
        options.radius = model->hamming ? 30 : 0.15F;
        OK(nphd_index_search_many(index, queries, QUERIES, NEAREST, &options, matches, reports,
                                  NULL));
        for (size_t i = 0; i < QUERIES; i++) {
            check_matches(model, queries[i], &options, matches + i * NEAREST, &reports[i]);
        }
        OK(nphd_index_search(index, queries[kind], NEAREST, &options, matches, reports, NULL));
        check_matches(model, queries[kind], &options, matches, reports);
    }
}

static uint64_t memory_of(nphd_index *index)
{
    nphd_index_stats stats = {.struct_size = sizeof(stats)};

    OK(nphd_index_get_stats(index, &stats, NULL));
    return stats.memory_bytes;
}

/* ---- in memory ---- */

static void test_changes(void **state)
{
    for (int hamming = 0; hamming < 2; hamming++) {
        list *model = list_begin(hamming != 0);

        upsert(model, 0, 3500);
        const uint64_t before = memory_of(model->index);
        check_searches(model, model->index);
        assert_true(nphdi_content_parts(model->index->content, 3500, 0) > 0);
        assert_true(memory_of(model->index) >= before + 3500 * (4 + WIDTH));
        remove_some(model, 100, 900);
        check_searches(model, model->index);
        upsert(model, 4000, 700); /* slots used again, mostly with other lengths */
        check_searches(model, model->index);
        upsert(model, 2000, 1300); /* replaced, in new slots and in free ones */
        check_searches(model, model->index);
        OK(nphd_index_rename(model->index, nphd_key_u64(4000), nphd_key_u64(5999), NULL));
        memcpy(model->bytes[5999], model->bytes[4000], WIDTH);
        model->length[5999] = model->length[4000];
        model->there[5999] = true;
        model->there[4000] = false;
        check_searches(model, model->index);
        OK(nphd_index_clear(model->index, NULL));
        memset(model->there, 0, sizeof(model->there));
        check_searches(model, model->index);
        upsert(model, 10, 2500);
        check_searches(model, model->index);
        list_end(model);
    }
    (void)state;
}

/* Without memory for planes the rows answer, and with memory again the planes. Where a slot used
 * again finds none for its new length, all planes are forgotten. */
static void test_no_memory(void **state)
{
    static const uint32_t kinds[] = {ALLOCATOR_FAULT_RESERVE, ALLOCATOR_FAULT_COMMIT};
    allocator_fault fault;

    (void)state;
    allocator_fault_init(&fault);
    for (size_t i = 0; i < 2; i++) {
        list *model = list_begin_with(false, &fault.table);

        upsert(model, 0, 3000);
        allocator_fault_arm(&fault, kinds[i], 1, true);
        check_searches(model, model->index);
        assert_true(fault.failed > 0);
        assert_int_equal(nphdi_content_parts(model->index->content, 3000, 100), 0);
        allocator_fault_arm(&fault, 0, 0, false);
        check_searches(model, model->index);
        assert_true(nphdi_content_parts(model->index->content, 3000, 0) > 0);
        remove_some(model, 0, 2000);
        allocator_fault_arm(&fault, ALLOCATOR_FAULT_COMMIT, 1, true);
        upsert_of_length(model, 3000, 1900, 3);
        assert_true(fault.failed > 0);
        check_searches(model, model->index);
        allocator_fault_arm(&fault, 0, 0, false);
        check_searches(model, model->index);
        list_end(model);
    }
    assert_true(allocator_fault_is_clean(&fault));
    allocator_fault_destroy(&fault);
}

/* ---- in files ---- */

static uint8_t *save(nphd_index *index, size_t *out_bytes)
{
    uint8_t *file;

    OK(nphd_index_save_buffer(index, NULL, 0, out_bytes, NULL));
    file = malloc(*out_bytes);
    assert_non_null(file);
    OK(nphd_index_save_buffer(index, file, *out_bytes, out_bytes, NULL));
    return file;
}

static nphd_index *view(const list *model, const uint8_t *file, size_t bytes)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;

    options.metric = model->hamming ? NPHD_METRIC_HAMMING : NPHD_METRIC_NPHD;
    options.max_bits = 8 * WIDTH;
    OK(nphd_index_create(&options, &index, NULL));
    OK(nphd_index_view_buffer(index, file, bytes, NULL, NULL));
    return index;
}

static list *saved_list(bool hamming, uint8_t **out_file, size_t *out_bytes)
{
    list *model = list_begin(hamming);

    upsert(model, 0, 4600);
    remove_some(model, 1000, 150);
    upsert(model, 4700, 50);
    *out_file = save(model->index, out_bytes);
    return model;
}

static void test_view(void **state)
{
    for (int hamming = 0; hamming < 2; hamming++) {
        nphd_open_options verify = NPHD_OPEN_OPTIONS_INIT;
        uint8_t *file;
        size_t bytes;
        size_t again_bytes;
        list *model = saved_list(hamming != 0, &file, &bytes);
        nphd_index *seen = view(model, file, bytes);

        assert_non_null(nphdi_trailer_find(nphdi_index_trailer(seen), NPHDI_SECTION_PLANES));
        assert_true(nphdi_content_parts(seen->content, 0, 0) > 0);
        check_searches(model, seen);
        uint8_t *again = save(seen, &again_bytes);
        assert_int_equal(again_bytes, bytes);
        assert_memory_equal(again, file, bytes);
        verify.verify = true;
        OK(nphd_index_view_buffer(seen, file, bytes, &verify, NULL));
        OK(nphd_index_load_buffer(seen, file, bytes, NULL, NULL));
        check_searches(model, seen);
        nphd_index_close(seen);
        free(again);
        free(file);
        list_end(model);
    }
    (void)state;
}

static void test_hidden(void **state)
{
    uint8_t *file;
    size_t bytes;
    list *model = saved_list(false, &file, &bytes);
    nphd_index *seen = view(model, file, bytes);
    nphdi_hidden hidden;

    (void)state;
    OK(nphdi_hidden_create(&hidden, nphdi_allocator_system(), nphdi_content_slots(seen->content),
                           NULL));
    for (uint64_t key = 0; key < KEYS; key += 3) {
        uint32_t slot;
        OK(nphdi_content_find(seen->content, nphd_key_u64(key), &slot, NULL));
        if (slot != UINT32_MAX) {
            (void)nphdi_hidden_set(&hidden, slot);
            model->there[key] = false;
        }
    }
    nphdi_index_set_hidden(seen, &hidden);
    nphdi_index_set_hidden(model->index, &hidden); /* the same slots */
    check_searches(model, seen);
    check_searches(model, model->index);
    nphdi_index_set_hidden(seen, NULL);
    nphdi_index_set_hidden(model->index, NULL);
    nphdi_hidden_release(&hidden);
    nphd_index_close(seen);
    free(file);
    list_end(model);
}

/* ---- hostile files ---- */

static uint8_t *planes_of(nphd_index *seen, uint8_t *file, uint64_t *out_bytes)
{
    const nphdi_trailer_section *section =
        nphdi_trailer_find(nphdi_index_trailer(seen), NPHDI_SECTION_PLANES);

    assert_non_null(section);
    *out_bytes = section->bytes;
    return file + section->offset;
}

/* A view takes the section as it is: what is wrong in its counts is found when it opens. */
static void test_wrong_counts(void **state)
{
    /* longer than a row; one more than there are slots; 16 vectors that take another word each */
    static const struct {
        uint8_t from;
        uint8_t to;
        uint8_t less;
        uint8_t more;
    } wrong[] = {{WIDTH, WIDTH + 1, 1, 1}, {WIDTH, 255, 1, 1}, {5, 5, 0, 1}, {9, 8, 16, 16}};
    uint8_t *file;
    size_t bytes;
    uint64_t section_bytes;
    list *model = saved_list(false, &file, &bytes);
    nphd_index *seen = view(model, file, bytes);
    uint8_t *section = planes_of(seen, file, &section_bytes);
    uint8_t saved[IMAGE_HEAD_BYTES];

    (void)state;
    memcpy(saved, section, sizeof(saved));
    OK(nphd_index_reset(seen, NULL));
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        nphdi_put32(section + 4 * wrong[i].from,
                    nphdi_get32(section + 4 * wrong[i].from) - wrong[i].less);
        nphdi_put32(section + 4 * wrong[i].to,
                    nphdi_get32(section + 4 * wrong[i].to) + wrong[i].more);
        assert_int_equal(nphd_index_view_buffer(seen, file, bytes, NULL, NULL), NPHD_CORRUPT);
        memcpy(section, saved, sizeof(saved));
    }
    memset(section, 0xff, IMAGE_HEAD_BYTES);
    assert_int_equal(nphd_index_view_buffer(seen, file, bytes, NULL, NULL), NPHD_CORRUPT);
    memset(section, 0, IMAGE_HEAD_BYTES);
    assert_int_equal(nphd_index_view_buffer(seen, file, bytes, NULL, NULL), NPHD_CORRUPT);
    nphd_index_close(seen);
    free(file);
    list_end(model);
}

/* Slots and words can be anything: nothing outside is read, and the structure check tells. */
static void test_wrong_entries(void **state)
{
    uint8_t *file;
    size_t bytes;
    uint64_t section_bytes;
    list *model = saved_list(false, &file, &bytes);
    nphd_index *seen = view(model, file, bytes);
    uint8_t *section = planes_of(seen, file, &section_bytes);
    static nphd_match matches[QUERIES * 200];
    nphd_search_report reports[QUERIES];
    nphd_vector queries[QUERIES];

    (void)state;
    OK(nphdi_mapped_check(&seen->content->mapped, NULL, NULL));
    for (size_t i = 0; i < QUERIES; i++) {
        queries[i].data = model->bytes[i];
        queries[i].bytes = model->length[i];
    }
    for (uint32_t round = 0; round < 40; round++) {
        nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;
        const uint64_t from =
            IMAGE_HEAD_BYTES + test_random_below(&model->random, section_bytes / 2);
        const uint64_t left = section_bytes - from;
        test_random_fill(&model->random, section + from, left < 20000 ? left : 20000);
        options.mode = NPHD_SEARCH_EXACT;
        OK(nphd_index_search_many(seen, queries, QUERIES, 200, &options, matches, reports, NULL));
        for (size_t i = 0; i < QUERIES; i++) {
            assert_true(reports[i].count <= 200);
        }
        assert_int_equal(nphdi_mapped_check(&seen->content->mapped, NULL, NULL), NPHD_CORRUPT);
    }
    nphd_index_close(seen);
    free(file);
    list_end(model);
}

/* ---- searches beside changes ---- */

typedef struct beside {
    list *model;
    _Atomic bool stop;
} beside;

/* Keys from 3000 on come and go; of those below the nearest must always be the vector itself. */
static void search_or_change(void *context, uint32_t worker)
{
    beside *work = context;
    list *model = work->model;
    nphd_search_options options = NPHD_SEARCH_OPTIONS_INIT;

    options.mode = NPHD_SEARCH_EXACT;
    if (worker == 0) {
        for (uint32_t round = 0; round < 6; round++) {
            upsert(model, 3000, 900);
            remove_some(model, 3000 + 100 * round, 300);
        }
        atomic_store(&work->stop, true);
        return;
    }
    for (uint64_t i = worker; !atomic_load(&work->stop); i = (i + 7) % 3000) {
        const nphd_vector query = {model->bytes[i], model->length[i]};
        nphd_match match;
        nphd_search_report report;
        OK(nphd_index_search(model->index, query, 1, &options, &match, &report, NULL));
        assert_int_equal(report.count, 1);
        assert_true(match.distance <= 0);
    }
}

static void test_beside_changes(void **state)
{
    beside work = {list_begin(false), false};

    (void)state;
    upsert(work.model, 0, 3000);
    nphdi_threads_run(3, search_or_change, &work);
    check_searches(work.model, work.model->index);
    list_end(work.model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changes),        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_view),           cmocka_unit_test(test_hidden),
        cmocka_unit_test(test_wrong_counts),   cmocka_unit_test(test_wrong_entries),
        cmocka_unit_test(test_beside_changes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
