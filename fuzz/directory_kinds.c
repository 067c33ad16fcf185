#include "directory_kinds.h"

#include <string.h>

static void say_nothing(void *context, nphd_log_level level, const char *text)
{
    (void)context;
    (void)level;
    (void)text;
}

static nphd_sharded_options options_of(memory_io *disk, fuzz_kind kind)
{
    nphd_sharded_options options = NPHD_SHARDED_OPTIONS_INIT;

    options.io = memory_io_table(disk);
    options.logger = say_nothing;
    options.max_bits = 32;
    options.connectivity = 2;
    options.key_bits = kind == FUZZ_KIND_KEYS_128 ? 128 : 64;
    options.multi = kind == FUZZ_KIND_MULTI ? 2 : 1;
    options.metric = kind == FUZZ_KIND_HAMMING ? NPHD_METRIC_HAMMING : NPHD_METRIC_NPHD;
    options.no_bloom = kind == FUZZ_KIND_NO_FILTER;
    options.journal = kind != FUZZ_KIND_SAVED;
    return options;
}

static nphd_key key_of(fuzz_kind kind, uint64_t number)
{
    return kind == FUZZ_KIND_KEYS_128 ? (nphd_key){number, number % 3} : nphd_key_u64(number);
}

static void put(nphd_sharded *sharded, fuzz_kind kind, uint64_t from, uint64_t to)
{
    for (uint64_t number = from; number < to; number++) {
        const uint8_t bits[4] = {(uint8_t)(number * 37), (uint8_t)(number * 11), (uint8_t)number,
                                 0x55};
        const nphd_key key = key_of(kind, number);
        const nphd_vector vector = {bits, kind == FUZZ_KIND_HAMMING ? 4 : 1 + number % 4};
        if (kind == FUZZ_KIND_MULTI) {
            FUZZ_CHECK(nphd_sharded_add(sharded, key, vector, NULL, NULL) == NPHD_OK);
        } else {
            FUZZ_CHECK(nphd_sharded_upsert(sharded, &key, &vector, 1, NULL, NULL, NULL) == NPHD_OK);
        }
    }
}

static void take_away(nphd_sharded *sharded, fuzz_kind kind, uint64_t number)
{
    const nphd_key key = key_of(kind, number);

    if (kind != FUZZ_KIND_MULTI) {
        FUZZ_CHECK(nphd_sharded_remove(sharded, &key, 1, NULL, NULL) == NPHD_OK);
    }
}

/* Deletions and replacements in sealed shards, and a commit behind the last save. */
static void fill(nphd_sharded *sharded, fuzz_kind kind, memory_io *disk, fuzz_directory *out)
{
    const uint64_t shards = kind == FUZZ_KIND_GROUPED ? 18 : 2;

    for (uint64_t shard = 0; shard < shards; shard++) {
        put(sharded, kind, 4 * shard, 4 * shard + 4);
        FUZZ_CHECK(nphd_sharded_rotate(sharded, NULL) == NPHD_OK);
    }
    put(sharded, kind, 200, 206);
    FUZZ_CHECK(nphd_sharded_save(sharded, NULL, NULL) == NPHD_OK);
    out->older_count = fuzz_directory_take(disk, out->older, FUZZ_MOST_FILES);
    take_away(sharded, kind, 2);
    put(sharded, kind, 3, 4);
    if (kind == FUZZ_KIND_COMPACTED) {
        FUZZ_CHECK(nphd_sharded_compact(sharded, NULL, NULL, NULL) == NPHD_OK);
        take_away(sharded, kind, 5);
        put(sharded, kind, 300, 303);
        FUZZ_CHECK(nphd_sharded_commit(sharded, NULL) == NPHD_OK);
        FUZZ_CHECK(nphd_sharded_rotate(sharded, NULL) == NPHD_OK);
    } else {
        FUZZ_CHECK(nphd_sharded_save(sharded, NULL, NULL) == NPHD_OK);
    }
    put(sharded, kind, 400, 403);
    put(sharded, kind, 1, 2);
    take_away(sharded, kind, 201);
    FUZZ_CHECK(nphd_sharded_commit(sharded, NULL) == NPHD_OK);
    put(sharded, kind, 403, 405);
    FUZZ_CHECK(nphd_sharded_commit(sharded, NULL) == NPHD_OK);
}

static void make(fuzz_kind kind, fuzz_directory *out)
{
    memory_io *disk = memory_io_create(1);
    const nphd_sharded_options options = options_of(disk, kind);
    nphd_sharded *sharded = NULL;

    FUZZ_CHECK(nphd_sharded_open("d", &options, &sharded, NULL) == NPHD_OK);
    fill(sharded, kind, disk, out);
    nphd_sharded_free(sharded);
    out->count = fuzz_directory_take(disk, out->files, FUZZ_MOST_FILES);
    memory_io_destroy(disk);
}

const fuzz_directory *fuzz_directory_of(fuzz_kind kind)
{
    static fuzz_directory made[FUZZ_KINDS];

    if (made[kind].count == 0) {
        make(kind, &made[kind]);
    }
    return &made[kind];
}
