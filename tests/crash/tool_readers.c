/* Readers in other processes, beside a writer that is killed again and again.
 *
 * The index goes through numbered states that differ in every key, so that a reader can tell which
 * one it sees, and whether it sees one as a whole. What the writer was told is in shared memory: a
 * reader must see no state before the one acknowledged when it looked, and none that was not begun.
 * Now and then a reader makes a snapshot, which must be whole and in one of the states since the
 * reader's own, and stay there, whatever the writer does to the files meanwhile. */
#include "tool.h"

#include "support/test_random.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define KEYS 16
#define MOST_READERS 8
#define SNAPSHOT_EVERY 16 /* looks of a reader */
#define PATH_ROOM 4096

typedef struct shared {
    _Atomic uint32_t begun;
    _Atomic uint32_t acknowledged;
    _Atomic uint32_t last; /* the state after which the writer ends */
    _Atomic uint32_t stop;
    _Atomic uint64_t looks;
    _Atomic uint64_t refreshed;
    _Atomic uint64_t snapshots;
} shared;

static bool key_is_there(uint32_t key, uint32_t number)
{
    return (key + number) % 4 != 0;
}

static nphd_sharded_options options_of(const tool_arguments *arguments)
{
    nphd_sharded_options options = tool_options(arguments);

    options.shard_bytes = 1U << 20; /* nothing rotates but when told to */
    options.background_rotation = false;
    return options;
}

static _Noreturn void give_up(const char *what, const nphd_error *err)
{
    (void)fprintf(stderr, "%s: %s: %s\n", what, nphd_status_name(err->status), err->text);
    _exit(1);
}

/* The number of the state; ends the process if it is not one. */
static uint32_t number_of(nphd_sharded *sharded)
{
    uint32_t number = 0;

    for (uint32_t key = 0; key < KEYS; key++) {
        uint8_t data[8];
        size_t bytes = 0;
        const nphd_status status =
            nphd_sharded_get(sharded, nphd_key_u64(key), data, sizeof(data), &bytes, NULL);
        if (status == NPHD_OK) {
            const uint32_t version = tool_version(key, data, bytes);
            if (version == 0 || (number != 0 && version != number)) {
                (void)fprintf(stderr, "state %u: key %u is of %u\n", number, key, version);
                _exit(1);
            }
            number = version;
        } else if (status != NPHD_NOT_FOUND) {
            (void)fprintf(stderr, "get: %s\n", nphd_status_name(status));
            _exit(1);
        }
    }
    for (uint32_t key = 0; key < KEYS; key++) {
        bool there = false;
        (void)nphd_sharded_contains(sharded, nphd_key_u64(key), &there, NULL);
        if (there != key_is_there(key, number)) {
            (void)fprintf(stderr, "state %u: key %u is %s\n", number, key,
                          there ? "back" : "missing");
            _exit(1);
        }
    }
    return number;
}

/* ---- the writer ---- */

static nphd_status make_durable(nphd_sharded *sharded, uint32_t number, nphd_error *err)
{
    if (number % 64 == 0) {
        return nphd_sharded_compact(sharded, NULL, NULL, err);
    }
    if (number % 3 == 0) {
        return nphd_sharded_rotate(sharded, err);
    }
    return number % 10 == 0 ? nphd_sharded_save(sharded, NULL, err)
                            : nphd_sharded_commit(sharded, err);
}

static void advance(nphd_sharded *sharded, uint32_t number, shared *told)
{
    nphd_key put[KEYS];
    nphd_key gone[KEYS];
    nphd_vector vectors[KEYS];
    uint8_t data[KEYS][8];
    size_t put_count = 0;
    size_t gone_count = 0;
    nphd_error err = NPHD_ERROR_INIT;

    for (uint32_t key = 0; key < KEYS; key++) {
        if (key_is_there(key, number)) {
            vectors[put_count] = tool_vector(key, number, data[put_count]);
            put[put_count++] = nphd_key_u64(key);
        } else {
            gone[gone_count++] = nphd_key_u64(key);
        }
    }
    atomic_store(&told->begun, number);
    if (nphd_sharded_upsert(sharded, put, vectors, put_count, NULL, NULL, &err) != NPHD_OK ||
        nphd_sharded_remove(sharded, gone, gone_count, NULL, &err) != NPHD_OK ||
        make_durable(sharded, number, &err) != NPHD_OK) {
        give_up("writer", &err);
    }
    atomic_store(&told->acknowledged, number);
}

static _Noreturn void run_writer(const tool_arguments *arguments, shared *told)
{
    const nphd_sharded_options options = options_of(arguments);
    nphd_sharded *sharded = NULL;
    nphd_error err = NPHD_ERROR_INIT;
    uint32_t number;

    if (nphd_sharded_open(arguments->directory, &options, &sharded, &err) != NPHD_OK) {
        give_up("the writer opens", &err);
    }
    number = nphd_sharded_size(sharded) == 0 ? 0 : number_of(sharded);
    if (number < atomic_load(&told->acknowledged) || number > atomic_load(&told->begun)) {
        (void)fprintf(stderr, "the writer finds state %u, acknowledged was %u\n", number,
                      atomic_load(&told->acknowledged));
        _exit(1);
    }
    while (number < atomic_load(&told->last)) {
        advance(sharded, ++number, told);
    }
    if (nphd_sharded_close(sharded, &err) != NPHD_OK) {
        give_up("the writer closes", &err);
    }
    nphd_sharded_free(sharded);
    _exit(0);
}

/* ---- a reader ---- */

static nphd_sharded *open_reader(const tool_arguments *arguments, const char *directory)
{
    nphd_sharded_options options = options_of(arguments);
    nphd_sharded *sharded = NULL;
    nphd_error err = NPHD_ERROR_INIT;

    options.read_only = true;
    if (nphd_sharded_open(directory, &options, &sharded, &err) != NPHD_OK) {
        give_up("a reader opens", &err);
    }
    return sharded;
}

static void must_be(uint32_t number, uint32_t from, uint32_t to, const char *what)
{
    if (number < from || number > to) {
        (void)fprintf(stderr, "%s sees state %u, not one of %u to %u\n", what, number, from, to);
        _exit(1);
    }
}

static void remove_directory(const char *path)
{
    char command[PATH_ROOM + 16];

    (void)snprintf(command, sizeof(command), "rm -rf '%s'", path);
    if (system(command) != 0) {
        (void)fprintf(stderr, "%s cannot be removed\n", path);
        _exit(1);
    }
}

/* A copy made beside the writer is whole, of the moment in which it was made, and can be written
 * to. */
static void check_snapshot(const tool_arguments *arguments, shared *told, nphd_sharded *reader,
                           uint32_t from)
{
    const nphd_sharded_options options = options_of(arguments);
    nphd_sharded *copy = NULL;
    nphd_error err = NPHD_ERROR_INIT;
    char path[PATH_ROOM];
    uint32_t to;
    uint32_t number;

    (void)snprintf(path, sizeof(path), "%s-copy-%ld", arguments->directory, (long)getpid());
    if (nphd_sharded_snapshot(reader, path, &err) != NPHD_OK) {
        give_up("a snapshot", &err);
    }
    to = atomic_load(&told->begun);
    if (nphd_directory_verify(path, NULL, NULL, NULL, NULL, &err) != NPHD_OK) {
        give_up("verifying a snapshot", &err);
    }
    copy = open_reader(arguments, path);
    number = number_of(copy);
    must_be(number, from, to, "a snapshot");
    nphd_sharded_free(copy);
    if (nphd_sharded_open(path, &options, &copy, &err) != NPHD_OK) {
        give_up("a writer opens a snapshot", &err);
    }
    must_be(number_of(copy), number, number, "a writer of a snapshot");
    nphd_sharded_free(copy);
    remove_directory(path);
}

static _Noreturn void run_reader(const tool_arguments *arguments, shared *told)
{
    nphd_sharded *reader = NULL;
    nphd_sharded *kept = open_reader(arguments, arguments->directory);
    const uint32_t kept_number = number_of(kept);
    nphd_error err = NPHD_ERROR_INIT;

    for (uint32_t i = 0; atomic_load(&told->stop) == 0; i++) {
        const uint32_t from = atomic_load(&told->acknowledged);
        bool changed = true;
        if (i % 32 == 0) {
            nphd_sharded_free(reader);
            reader = open_reader(arguments, arguments->directory);
        } else if (nphd_sharded_refresh(reader, &changed, &err) != NPHD_OK) {
            give_up("a reader refreshes", &err);
        }
        const uint32_t number = number_of(reader);
        must_be(number, from, atomic_load(&told->begun), "a reader");
        must_be(number_of(kept), kept_number, kept_number, "a reader that stays");
        if (i % SNAPSHOT_EVERY == 0) {
            check_snapshot(arguments, told, reader, number);
            (void)atomic_fetch_add(&told->snapshots, 1);
        }
        (void)atomic_fetch_add(&told->looks, 1);
        (void)atomic_fetch_add(&told->refreshed, changed ? 1 : 0);
    }
    nphd_sharded_free(reader);
    nphd_sharded_free(kept);
    _exit(0);
}

/* ---- the whole ---- */

static bool ended_well(pid_t process)
{
    int how = 0;

    return waitpid(process, &how, 0) == process && WIFEXITED(how) && WEXITSTATUS(how) == 0;
}

static pid_t begin_writer(const tool_arguments *arguments, shared *told)
{
    const pid_t process = fork();

    if (process == 0) {
        run_writer(arguments, told);
    }
    return process;
}

/* Kills the writer at random moments, and begins another, until it was killed often enough and has
 * come far enough. Some kills come while it still opens what the last one left. */
static bool drive_writer(const tool_arguments *arguments, shared *told, uint32_t *kills)
{
    test_random random = {arguments->seed};
    int how = 0;
    pid_t writer;

    atomic_store(&told->last, UINT32_MAX);
    for (;;) {
        const uint32_t most = test_random_below(&random, 4) == 0 ? 4000 : 60000;
        writer = begin_writer(arguments, told);
        (void)usleep((useconds_t)test_random_below(&random, most));
        if (*kills >= arguments->kills && atomic_load(&told->begun) >= arguments->cycles) {
            break;
        }
        (void)kill(writer, SIGKILL);
        if (waitpid(writer, &how, 0) != writer || !WIFSIGNALED(how)) {
            return false;
        }
        (*kills)++;
    }
    atomic_store(&told->last, atomic_load(&told->begun) + 1);
    return ended_well(writer) && atomic_load(&told->acknowledged) == atomic_load(&told->begun);
}

int tool_readers(const tool_arguments *arguments)
{
    pid_t readers[MOST_READERS];
    uint32_t reader_count = arguments->readers < MOST_READERS ? arguments->readers : MOST_READERS;
    uint32_t kills = 0;
    bool fine;
    shared *told =
        mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (told == MAP_FAILED) {
        return 1;
    }
    atomic_store(&told->last, 1);
    if (!ended_well(begin_writer(arguments, told))) {
        return 1;
    }
    for (uint32_t i = 0; i < reader_count; i++) {
        readers[i] = fork();
        if (readers[i] == 0) {
            run_reader(arguments, told);
        }
    }
    fine = drive_writer(arguments, told, &kills);
    atomic_store(&told->stop, 1);
    for (uint32_t i = 0; i < reader_count; i++) {
        fine = ended_well(readers[i]) && fine;
    }
    (void)printf("%u states, %u kills of the writer, %llu looks of %u readers, %llu of them new, "
                 "%llu snapshots\n",
                 atomic_load(&told->acknowledged), kills,
                 (unsigned long long)atomic_load(&told->looks), reader_count,
                 (unsigned long long)atomic_load(&told->refreshed),
                 (unsigned long long)atomic_load(&told->snapshots));
    (void)munmap(told, sizeof(*told));
    return fine ? 0 : 1;
}
