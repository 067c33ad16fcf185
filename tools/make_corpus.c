/* Writes the seeds of fuzz/corpus: a few small inputs for each target, the same on every run.
 *
 *     cc -std=c11 -D_GNU_SOURCE -Iinclude tools/make_corpus.c build/dev/lib/libnphd.a \
 *         -lm -lpthread -o build/make_corpus && build/make_corpus
 *
 * Run it in the root of the source tree. Inputs that once failed lie there too and are left alone.
 */
#include <nphd/nphd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FIXTURES "tests/fixtures/"
#define CORPUS "fuzz/corpus/"

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void put(const char *target, const char *name, const void *data, size_t bytes)
{
    char path[256];

    (void)snprintf(path, sizeof(path), CORPUS "%s", target);
    (void)mkdir(path, 0777);
    (void)snprintf(path, sizeof(path), CORPUS "%s/%s", target, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0) {
        die(path);
    }
}

/* The first `most` bytes of a fixture. */
static void put_file(const char *target, const char *name, const char *fixture, size_t most)
{
    static uint8_t data[65536];
    char path[256];

    (void)snprintf(path, sizeof(path), FIXTURES "%s", fixture);
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        die(path);
    }
    const size_t bytes = fread(data, 1, most < sizeof(data) ? most : sizeof(data), file);
    (void)fclose(file);
    put(target, name, data, bytes);
}

static void put_fixture(const char *name, size_t most)
{
    char path[256];

    (void)snprintf(path, sizeof(path), "usearch/%s.usearch", name);
    put_file("open", name, path, most);
}

/* A file with our trailer. The identity is zero until a real save, so it is always the same. */
static void put_ours(const char *name, size_t count, nphd_metric metric, uint32_t key_bits,
                     bool multi)
{
    nphd_index_options options = NPHD_INDEX_OPTIONS_INIT;
    nphd_index *index = NULL;
    size_t bytes = 0;

    options.max_bits = 32;
    options.connectivity = 2;
    options.metric = metric;
    options.key_bits = key_bits;
    options.multi = multi;
    if (nphd_index_create(&options, &index, NULL) != NPHD_OK) {
        die("create");
    }
    for (size_t i = 0; i < count; i++) {
        const uint8_t bits[4] = {(uint8_t)(i * 37), (uint8_t)(i * 11), (uint8_t)i, 0x55};
        const nphd_vector vector = {bits, metric == NPHD_METRIC_HAMMING ? 4 : 1 + i % 4};
        (void)nphd_index_add(index, nphd_key_u64(multi ? i / 2 : i), vector, NULL, NULL);
    }
    for (size_t i = 0; i < count; i += 6) {
        const nphd_key key = nphd_key_u64(i);
        (void)nphd_index_remove(index, &key, 1, NULL, NULL);
    }
    (void)nphd_index_save_buffer(index, NULL, 0, &bytes, NULL);
    uint8_t *data = malloc(bytes);
    if (data == NULL || nphd_index_save_buffer(index, data, bytes, &bytes, NULL) != NPHD_OK) {
        die("save");
    }
    put("open", name, data, bytes);
    free(data);
    nphd_index_close(index);
}

static void put_text(const char *name, const char *text)
{
    put("iscc", name, text, strlen(text));
}

/* The head of an array file of version 2.0. */
static void put_npy(const char *name, const char *text)
{
    uint8_t data[256] = {0x93, 'N', 'U', 'M', 'P', 'Y', 2, 0, (uint8_t)strlen(text)};

    memcpy(data + 12, text, strlen(text));
    put("filters", name, data, 12 + strlen(text));
}

/* Numbers without pattern, the same on every host. */
static void put_noise(const char *target, const char *name, uint64_t seed, size_t bytes)
{
    uint8_t data[512];

    for (size_t i = 0; i < bytes; i++) {
        seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
        data[i] = (uint8_t)(seed >> 56);
    }
    put(target, name, data, bytes);
}

int main(void)
{
    /* where (2 bytes from the end), how, value; see fuzz_trailer.c */
    static const uint8_t live_word[] = {3, 1, 0x10, 3, 5};
    static const uint8_t footer_ends[] = {2, 0, 0x20, 2, 0};
    static const uint8_t nothing[] = {0};
    static const uint8_t sections[] = {5, 0, 0x60, 2, 0, 0, 0x68, 2, 3, 0, 0x70, 4, 1};
    static const uint8_t steps[] = {0,  0, 2, 1, 3,  9, 8, 7, 2,  1, 0xff, 13, 0,  4, 1, 1, 0, 0xaa,
                                    13, 1, 7, 1, 11, 2, 1, 2, 10, 2, 5,    14, 12, 3, 9, 9, 9, 9};

    /* how, then what follows from it; see fuzz_journal.c */
    static const uint8_t journal_bytes[] = {0, 'n', 'p', 'h', 'd', 'J', 'N', 'L', '\n', 1, 0, 0, 0};
    static const uint8_t journal_changes[] = {1, 0x10, 0x08, 1, 0x00, 0x20, 1};
    static const uint8_t journal_v1[] = {6, 1,  70, 0, 0, 0, 0, 0, 0, 0, 2, 9, 9, /* add */
                                         2, 3,  0,  0, 0, 0, 0, 0, 0, 1, 8,       /* replace */
                                         3, 12, 0,  0, 0, 0, 0, 0, 0,             /* remove */
                                         5, 99, 0,  0, 0, 0, 0, 0, 0, 4};
    /* clang-format off */
    static const uint8_t journal_records[] = {2,
        1, 0x80, 10, 0, 0, 0, 70, 0, 0, 0, 0, 0, 0, 0, 9, 9, /* add */
        2, 0x80, 9, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 8,      /* replace */
        3, 0x80, 8, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0,        /* remove */
        6, 0, 6, 0, 0, 0, 12, 0, 0, 0, 1, 2,                 /* a fact */
        9, 0, 1, 0, 0, 0, 5,                                 /* of a later version */
        5, 0x80, 8, 0, 0, 0, 99, 0, 0, 0, 0, 0, 0, 0,
        4, 0x80, 0, 0, 0, 0};
    /* clang-format on */
    /* file, how, where (2 bytes), value; see fuzz_directory.c */
    static const uint8_t each_file[] = {0,  2, 0, 9, 3, 1,    3, 0, 90, 1, 2,  2, 0,
                                        40, 7, 3, 7, 1, 0x10, 2, 4, 0,  0, 32, 1};

    (void)mkdir("fuzz/corpus", 0777);
    put_fixture("nphd256_n0", SIZE_MAX);
    put_fixture("nphd256_n1", SIZE_MAX);
    put_fixture("nphd256_n2", SIZE_MAX);
    put_fixture("nphd256_allremoved", SIZE_MAX);
    put_fixture("nphd256_dims64_n40", SIZE_MAX);
    put_fixture("nphd256_novectors_n40", SIZE_MAX);
    put_fixture("uuid_nphd256_removed", SIZE_MAX);
    put_fixture("nphd256_n100", 4000);
    put_ours("ours_n0", 0, NPHD_METRIC_NPHD, 64, false);
    put_ours("ours_n3", 3, NPHD_METRIC_NPHD, 64, false);
    put_ours("ours_n70_multi", 70, NPHD_METRIC_NPHD, 64, true);
    put_ours("ours_n9_key128", 9, NPHD_METRIC_HAMMING, 128, false);

    put("trailer", "nothing", nothing, sizeof(nothing));
    put("trailer", "live_word", live_word, sizeof(live_word));
    put("trailer", "footer_ends", footer_ends, sizeof(footer_ends));
    put("trailer", "sections", sections, sizeof(sections));
    put_noise("trailer", "noise_1", 1, 41);
    put_noise("trailer", "noise_2", 2, 161);

    put_text("content_256", "ISCC:EADZYKUESSJWNPV2E7Y4OE4VYFTUL4X5PUXH3YI3YCRDLC5SNWSRFTQ");
    put_text("lower", "iscc:eadzykuessjwnpv2e7y4oe4vyftul4x5puxh3yi3ycrdlc5snwsrftq");
    put_text("no_prefix", "AAAYPXW445FTYNJ3");
    put_text("composite", "ISCC:KACYPXW445FTYNJ3CYSXHAFJMA2HUWULUNRFE3BLHRSCXYH2M5AEGQY");
    put_text("dashes", "AAAY-PXW4-45FT-YNJ3");
    put_text("cut", "EADZYKUESSJWNPV2E7Y4OE4V");
    put_text("empty", "");

    put_file("filters", "bloom_chain", "bloom/u64_350.isbf", SIZE_MAX);
    put_file("filters", "bloom_cut", "bloom/u64_350.isbf", 900);
    put_file("filters", "bloom_full", "bloom/u64_full100.isbf", SIZE_MAX);
    put_file("filters", "bloom_key128", "bloom/uuid_150.isbf", SIZE_MAX);
    put_file("filters", "tombstones", "tombstones/u64_12.npy", SIZE_MAX);
    put_file("filters", "tombstones_cut", "tombstones/u64_12.npy", 100);
    put_file("filters", "tombstones_key128", "tombstones/uuid_7.npy", SIZE_MAX);
    put_npy("npy_order", "{\"shape\": ( 7 , ), 'fortran_order':False,\n'descr': '<u8'}");
    put_npy("npy_records", "{'descr': [('a', '<u8')], 'fortran_order': False, 'shape': (7,), }");
    put_npy("npy_two_dimensions", "{'descr': '<u8', 'fortran_order': False, 'shape': (7, 2), }");

    put("journal", "bytes", journal_bytes, sizeof(journal_bytes));
    put("journal", "changes", journal_changes, sizeof(journal_changes));
    put("journal", "records", journal_records, sizeof(journal_records));
    put("journal", "records_v1", journal_v1, sizeof(journal_v1));
    put("journal", "cut_record_v1", journal_v1, sizeof(journal_v1) - 3);
    put("journal", "cut_record", journal_records, sizeof(journal_records) - 3);
    put_noise("journal", "noise_1", 21, 200);
    put_noise("journal", "noise_2", 22, 200);
    put("directory", "nothing", nothing, 0);
    put("directory", "each_file", each_file, sizeof(each_file));
    put_noise("directory", "noise_1", 31, 20);
    put_noise("directory", "noise_2", 32, 100);
    put_noise("directory", "noise_3", 33, 300);

    put("operations", "each_step", steps, sizeof(steps));
    put_noise("operations", "noise_1", 11, 100);
    put_noise("operations", "noise_2", 12, 300);
    put_noise("operations", "noise_3", 13, 500);
    return 0;
}
