/* The workload: a fixed script of some 300 storage calls, or random steps in several threads, both
 * on top of whatever the history says is there. A fault (a full disk, a limit, a device that fails)
 * may meet it: calls then fail, memory stays as it was, and once the fault is over a save must
 * succeed. */
#include "tool.h"

#include "support/test_random.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* Exit statuses beside 0 and those of a check. */
#define EXIT_UNEXPECTED 4 /* a call failed without a fault */
#define EXIT_NOT_HEALED 5
#define EXIT_CHANGED 6   /* memory is not what it must be */
#define EXIT_GIVEN_UP 10 /* the fault stays for this process, as it may */

#define BATCH_MOST 40

/* Calls that may fail before the fault is ended. */
#define FAILURES 4

typedef struct worker {
    const tool_arguments *arguments;
    nphd_sharded **sharded;
    tool_state *state; /* only the keys of this thread */
    uint32_t version;
    uint32_t thread;
    int history;
    test_random random;
    nphd_error err;
    uint32_t failures;
    bool faulty; /* calls may fail */
} worker;

/* ---- faults ---- */

static void limit_files(uint64_t bytes)
{
    struct rlimit limit;

    (void)signal(SIGXFSZ, SIG_IGN);
    (void)getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes == 0 ? limit.rlim_max : bytes;
    (void)setrlimit(RLIMIT_FSIZE, &limit);
}

static void leave(const worker *of, int code, const char *what)
{
    (void)fprintf(stderr, "%s: %s: %s\n", what, nphd_status_name(of->err.status), of->err.text);
    exit(code);
}

static void end_fault(worker *of)
{
    if (of->arguments->file_limit > 0) {
        limit_files(0);
    }
    if (of->arguments->heal != NULL && system(of->arguments->heal) != 0) {
        leave(of, EXIT_UNEXPECTED, of->arguments->heal);
    }
    of->faulty = false;
}

static bool open_index(const worker *of, nphd_error *err)
{
    const nphd_sharded_options options = tool_options(of->arguments);

    return nphd_sharded_open(of->arguments->directory, &options, of->sharded, err) == NPHD_OK;
}

/* Everything is still there, and can be saved. */
static void heal(worker *of)
{
    static tool_state now;
    nphd_status status = NPHD_OK;

    end_fault(of);
    if (*of->sharded == NULL && !open_index(of, &of->err)) {
        leave(of, of->arguments->unhealable ? EXIT_GIVEN_UP : EXIT_NOT_HEALED, "open again");
    }
    if (!tool_state_of(*of->sharded, &now) ||
        memcmp(now.versions, of->state->versions, sizeof(now.versions)) != 0 ||
        !tool_lookups_agree(*of->sharded, &now)) {
        leave(of, EXIT_CHANGED, "after the fault");
    }
    for (int i = 0; i < 2; i++) { /* what a rotation met is told once */
        status = nphd_sharded_save(*of->sharded, NULL, &of->err);
        if (status == NPHD_OK) {
            tool_history_mark(of->history, 'A');
            return;
        }
    }
    leave(of, of->arguments->unhealable ? EXIT_GIVEN_UP : EXIT_NOT_HEALED, "save again");
}

/* Did the call succeed? If not, a fault must be under way. */
static bool succeeded(worker *of, nphd_status status, const char *what)
{
    if (status == NPHD_OK) {
        return true;
    }
    if (!of->faulty) {
        leave(of, EXIT_UNEXPECTED, what);
    }
    of->failures++;
    return false;
}

/* ---- steps ---- */

static uint32_t draw_key(worker *of)
{
    return of->thread * TOOL_KEYS + (uint32_t)test_random_below(&of->random, TOOL_KEYS - 1);
}

/* After a changing call: `undone` of the announced changes did not happen. */
static void changed(worker *of, nphd_status status, uint32_t undone)
{
    if (undone > 0) {
        tool_history_undo(of->history, undone);
    }
    tool_history_mark(of->history, '=');
    if (of->arguments->each_call && status == NPHD_OK) {
        tool_history_mark(of->history, 'A');
    }
}

static void put_many(worker *of, uint32_t count)
{
    nphd_key keys[BATCH_MOST] = {{0, 0}};
    nphd_vector vectors[BATCH_MOST] = {{NULL, 0}};
    uint8_t data[BATCH_MOST][8];
    uint32_t before[BATCH_MOST];
    nphd_upsert_counts counts = {0, 0, 0};
    const uint32_t first = draw_key(of) % TOOL_KEYS;

    for (uint32_t i = 0; i < count; i++) {
        const uint32_t key = of->thread * TOOL_KEYS + (first + i * 7) % (TOOL_KEYS - 1);
        keys[i] = nphd_key_u64(key);
        before[i] = of->state->versions[key];
        vectors[i] = tool_vector(key, ++of->version, data[i]);
        of->state->versions[key] = of->version;
        tool_history_put(of->history, key, of->version);
    }
    const nphd_status status =
        nphd_sharded_upsert(*of->sharded, keys, vectors, count, NULL, &counts, &of->err);
    const uint32_t done = (uint32_t)(counts.added + counts.replaced);
    for (uint32_t i = count; i > done; i--) {
        of->state->versions[keys[i - 1].low] = before[i - 1];
    }
    changed(of, status, count - done);
    (void)succeeded(of, status, "upsert");
}

static void add_one(worker *of)
{
    uint32_t key = draw_key(of);
    uint8_t data[8];
    bool added = false;

    for (int i = 0; i < 20 && of->state->versions[key] != 0; i++) {
        key = draw_key(of);
    }
    if (of->state->versions[key] != 0) {
        return;
    }
    tool_history_put(of->history, key, ++of->version);
    const nphd_status status = nphd_sharded_add(
        *of->sharded, nphd_key_u64(key), tool_vector(key, of->version, data), &added, &of->err);
    of->state->versions[key] = added ? of->version : 0;
    changed(of, status, added ? 0 : 1);
    (void)succeeded(of, status, "add");
}

static void add_some(worker *of, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        add_one(of);
    }
}

static void remove_some(worker *of, uint32_t count)
{
    nphd_key keys[BATCH_MOST] = {{0, 0}};
    uint32_t before[BATCH_MOST];
    size_t removed = 0;
    uint32_t announced = 0;

    for (uint32_t i = 0; i < 4 * count && announced < count; i++) {
        const uint32_t key = draw_key(of);
        if (of->state->versions[key] != 0) {
            keys[announced] = nphd_key_u64(key);
            before[announced++] = of->state->versions[key];
            of->state->versions[key] = 0;
            tool_history_remove(of->history, key);
        }
    }
    const nphd_status status =
        nphd_sharded_remove(*of->sharded, keys, announced, &removed, &of->err);
    for (uint32_t i = 0; removed == 0 && i < announced; i++) {
        of->state->versions[keys[i].low] = before[i];
    }
    changed(of, status, removed == 0 ? announced : 0);
    (void)succeeded(of, status, "remove");
}

static void acknowledge(worker *of, nphd_status status, const char *what)
{
    if (succeeded(of, status, what)) {
        tool_history_mark(of->history, 'A');
    }
}

static void reopen(worker *of)
{
    const nphd_status status = nphd_sharded_close(*of->sharded, &of->err);

    acknowledge(of, status, "close");
    if (status == NPHD_OK) {
        nphd_sharded_free(*of->sharded);
        *of->sharded = NULL;
        if (!open_index(of, &of->err)) {
            (void)succeeded(of, of->err.status, "open");
        }
    }
}

static void take_step(worker *of, char step, uint32_t count)
{
    switch (step) {
    case 'a':
        add_some(of, count);
        break;
    case 'u':
        put_many(of, count);
        break;
    case 'r':
        remove_some(of, count);
        break;
    case 'c':
        acknowledge(of, nphd_sharded_commit(*of->sharded, &of->err), "commit");
        break;
    case 's':
        acknowledge(of, nphd_sharded_save(*of->sharded, NULL, &of->err), "save");
        break;
    case 'v':
        (void)succeeded(of, nphd_sharded_rotate(*of->sharded, &of->err), "rotate");
        break;
    case 'p':
        acknowledge(of, nphd_sharded_compact(*of->sharded, NULL, NULL, &of->err), "compact");
        break;
    default:
        reopen(of);
        break;
    }
    if ((of->faulty && of->failures >= FAILURES) || *of->sharded == NULL) {
        heal(of);
    }
}

/* ---- the fixed script ---- */

static void run_script(worker *of)
{
    static const char script[] = "acaurcvcacrcusarcacvrcucapaco" /* then what is there already */
                                 "rcacuvcrcsacrcapc";
    static const uint32_t counts[] = {12, 5, 9, 6};

    for (size_t i = 0; script[i] != '\0'; i++) {
        if (i == of->arguments->broken_at && of->arguments->broken != NULL) {
            if (system(of->arguments->broken) != 0) {
                leave(of, EXIT_UNEXPECTED, of->arguments->broken);
            }
            of->faulty = true;
        }
        take_step(of, script[i], counts[i % 4]);
    }
}

/* ---- random steps in threads ---- */

static char draw_step(worker *of)
{
    static const char common[] = "aaauuurrrcccc";
    static const char rare[] = "vvsp";

    if (of->thread == 0 && test_random_below(&of->random, 6) == 0) {
        return rare[test_random_below(&of->random, sizeof(rare) - 1)];
    }
    return common[test_random_below(&of->random, sizeof(common) - 1)];
}

static void *run_random(void *context)
{
    worker *of = context;

    for (uint32_t i = 0; i < of->arguments->steps; i++) {
        take_step(of, draw_step(of), 1 + (uint32_t)test_random_below(&of->random, BATCH_MOST));
    }
    return NULL;
}

/* Somebody searches all the while. */
typedef struct searcher {
    nphd_sharded *sharded;
    pthread_mutex_t lock;
    bool stop;
} searcher;

static void *run_searches(void *context)
{
    searcher *of = context;
    nphd_match found[8];
    uint8_t data[8];
    uint32_t version = 1;
    bool stop = false;

    while (!stop) {
        nphd_search_report report;
        (void)nphd_sharded_search(of->sharded, tool_vector(3, version++, data), 8, NULL, found,
                                  &report, NULL);
        (void)pthread_mutex_lock(&of->lock);
        stop = of->stop;
        (void)pthread_mutex_unlock(&of->lock);
    }
    return NULL;
}

static void run_threads(worker *workers, uint32_t threads, nphd_sharded *sharded)
{
    pthread_t handles[TOOL_THREADS];
    pthread_t search_handle;
    searcher search = {sharded, PTHREAD_MUTEX_INITIALIZER, false};

    if (pthread_create(&search_handle, NULL, run_searches, &search) != 0) {
        exit(3);
    }
    for (uint32_t i = 1; i < threads; i++) {
        if (pthread_create(&handles[i], NULL, run_random, &workers[i]) != 0) {
            exit(3);
        }
    }
    /* The first works in the thread that opened: who makes one call fail counts calls by thread. */
    (void)run_random(&workers[0]);
    for (uint32_t i = 1; i < threads; i++) {
        (void)pthread_join(handles[i], NULL);
    }
    (void)pthread_mutex_lock(&search.lock);
    search.stop = true;
    (void)pthread_mutex_unlock(&search.lock);
    (void)pthread_join(search_handle, NULL);
}

/* ---- the whole ---- */

int tool_work(const tool_arguments *arguments)
{
    static tool_state state;
    worker workers[TOOL_THREADS];
    nphd_sharded *sharded = NULL;
    const nphd_error none = NPHD_ERROR_INIT;

    tool_history_read(arguments->history, &state);
    if (arguments->file_limit > 0) {
        limit_files(arguments->file_limit);
    }
    for (uint32_t i = 0; i < arguments->threads; i++) {
        worker *of = &workers[i];
        memset(of, 0, sizeof(*of));
        of->arguments = arguments;
        of->sharded = &sharded;
        of->state = &state;
        of->version = state.last_version;
        of->thread = i;
        of->history = tool_history_open(arguments->history, i);
        of->random.state = arguments->seed + i;
        of->err = none;
        of->faulty =
            arguments->broken == NULL && (arguments->heal != NULL || arguments->file_limit > 0);
    }
    if (!open_index(&workers[0], &workers[0].err)) {
        (void)succeeded(&workers[0], workers[0].err.status, "open");
        heal(&workers[0]);
    }
    if (arguments->steps == 0) {
        run_script(&workers[0]);
    } else {
        run_threads(workers, arguments->threads, sharded);
    }
    if (workers[0].faulty) {
        heal(&workers[0]);
    }
    if (nphd_sharded_close(sharded, &workers[0].err) != NPHD_OK) {
        leave(&workers[0], EXIT_UNEXPECTED, "close");
    }
    for (uint32_t i = 0; i < arguments->threads; i++) {
        tool_history_mark(workers[i].history, 'A');
    }
    nphd_sharded_free(sharded);
    (void)printf("%u calls failed\n", workers[0].failures);
    return 0;
}
