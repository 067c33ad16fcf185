#include "tool_history.h"

#include "support/test_random.h"

#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define PATH_ROOM 4096

/* ---- vectors ---- */

static uint32_t mixed(uint32_t key)
{
    test_random random = {key};

    return (uint32_t)test_random_next(&random);
}

nphd_vector tool_vector(uint32_t key, uint32_t version, uint8_t out[8])
{
    test_random random = {((uint64_t)key << 32) + version};
    const nphd_vector vector = {out, 4 + test_random_below(&random, 5)};
    const uint32_t told = mixed(key) ^ (version * 0x9e3779b1U);

    test_random_fill(&random, out, 8);
    for (int i = 0; i < 4; i++) {
        out[i] = (uint8_t)(told >> (8 * i));
    }
    return vector;
}

uint32_t tool_version(uint32_t key, const uint8_t *data, size_t bytes)
{
    uint32_t told = 0;
    uint32_t inverse = 1;
    uint8_t expected[8];

    if (bytes < 4) {
        return 0;
    }
    for (int i = 0; i < 4; i++) {
        told |= (uint32_t)data[i] << (8 * i);
    }
    for (int i = 0; i < 5; i++) { /* Newton: the inverse of the odd factor modulo 2^32 */
        inverse *= 2 - 0x9e3779b1U * inverse;
    }
    const uint32_t version = (told ^ mixed(key)) * inverse;
    const nphd_vector vector = tool_vector(key, version, expected);
    return vector.bytes == bytes && memcmp(data, expected, bytes) == 0 ? version : 0;
}

/* ---- writing ---- */

static void die(const char *what)
{
    perror(what);
    exit(3);
}

static void history_path(const char *path, uint32_t thread, char out[PATH_ROOM])
{
    (void)snprintf(out, PATH_ROOM, "%s.%u", path, thread);
}

int tool_history_open(const char *path, uint32_t thread)
{
    char name[PATH_ROOM];
    int history;

    history_path(path, thread, name);
    history = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (history < 0) {
        die(name);
    }
    return history;
}

/* One call for each line: a process that is killed leaves whole ones. A limit on the size of files
 * is for those of the index. */
static void history_line(int history, const char *line)
{
    const size_t bytes = strlen(line);
    struct rlimit limit;
    struct rlimit none;

    (void)getrlimit(RLIMIT_FSIZE, &limit);
    none = limit;
    none.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_FSIZE, &none);
    if (write(history, line, bytes) != (ssize_t)bytes) {
        die("history");
    }
    (void)setrlimit(RLIMIT_FSIZE, &limit);
}

void tool_history_put(int history, uint32_t key, uint32_t version)
{
    char line[64];

    (void)snprintf(line, sizeof(line), "+ %u %u\n", key, version);
    history_line(history, line);
}

void tool_history_remove(int history, uint32_t key)
{
    char line[64];

    (void)snprintf(line, sizeof(line), "- %u\n", key);
    history_line(history, line);
}

void tool_history_mark(int history, char mark)
{
    const char line[3] = {mark, '\n', '\0'};

    history_line(history, line);
}

void tool_history_undo(int history, uint32_t count)
{
    char line[64];

    (void)snprintf(line, sizeof(line), "R %u\n", count);
    history_line(history, line);
}

/* ---- reading ---- */

typedef struct undo {
    uint32_t key;
    uint32_t before;
} undo;

typedef struct follower {
    tool_state state;
    const tool_state *found; /* NULL: nothing is compared */
    uint32_t different;      /* keys of this thread that are not as found */
    bool met;                /* at a state since the last acknowledged one */
    undo *changes;
    size_t count;
    size_t room;
    size_t acknowledged; /* of the changes */
} follower;

static void set_version(follower *of, uint32_t key, uint32_t version)
{
    uint32_t *now = &of->state.versions[key];

    if (of->found != NULL) {
        of->different -= *now != of->found->versions[key] ? 1 : 0;
        of->different += version != of->found->versions[key] ? 1 : 0;
    }
    *now = version;
    if (version > of->state.last_version) {
        of->state.last_version = version;
    }
}

static void change(follower *of, uint32_t key, uint32_t version)
{
    if (key >= TOOL_ALL_KEYS) {
        (void)fprintf(stderr, "the history has key %u\n", key);
        exit(3);
    }
    if (of->count == of->room) {
        of->room = 2 * of->room + 256;
        of->changes = realloc(of->changes, of->room * sizeof(*of->changes));
        if (of->changes == NULL) {
            die("history");
        }
    }
    of->changes[of->count++] = (undo){key, of->state.versions[key]};
    set_version(of, key, version);
}

static void take_back(follower *of, uint32_t count)
{
    while (count-- > 0 && of->count > 0) {
        const undo last = of->changes[--of->count];
        set_version(of, last.key, last.before);
    }
}

static void follow(follower *of, const char *line)
{
    unsigned key = 0;
    unsigned number = 0;

    if (sscanf(line, "+ %u %u", &key, &number) == 2) {
        of->met = of->met || of->different == 0; /* part of a batch may be there without the rest */
        change(of, key, number);
    } else if (sscanf(line, "- %u", &key) == 1) {
        change(of, key, 0);
    } else if (sscanf(line, "R %u", &number) == 1) {
        take_back(of, number);
    } else if (line[0] == 'A') {
        of->acknowledged = of->count;
        of->met = of->different == 0;
    } else if (line[0] == '=') {
        of->met = of->met || of->different == 0;
    }
}

static void follow_file(const char *path, uint32_t thread, follower *of)
{
    char name[PATH_ROOM];
    char line[128];
    FILE *file;

    history_path(path, thread, name);
    file = fopen(name, "r");
    if (file == NULL) {
        return; /* this thread never began */
    }
    while (fgets(line, sizeof(line), file) != NULL) {
        follow(of, line);
    }
    (void)fclose(file);
}

void tool_history_read(const char *path, tool_state *out)
{
    follower of;

    memset(&of, 0, sizeof(of));
    for (uint32_t thread = 0; thread < TOOL_THREADS; thread++) {
        follow_file(path, thread, &of);
    }
    *out = of.state;
    free(of.changes);
}

/* How the found state differs from the acknowledged one, which is not all that is allowed. */
static void tell_difference(follower *of, uint32_t thread)
{
    int told = 0;

    (void)fprintf(stderr,
                  "thread %u: no state since the last acknowledged one (%zu changes, %zu "
                  "after it); from that one differ:",
                  thread, of->count, of->count - of->acknowledged);
    take_back(of, (uint32_t)(of->count - of->acknowledged));
    for (uint32_t i = 0; i < TOOL_KEYS && told < 12; i++) {
        const uint32_t key = thread * TOOL_KEYS + i;
        if (of->state.versions[key] != of->found->versions[key]) {
            (void)fprintf(stderr, " key %u is version %u, not %u;", key, of->found->versions[key],
                          of->state.versions[key]);
            told++;
        }
    }
    (void)fprintf(stderr, "\n");
}

bool tool_history_allows(const char *path, const tool_state *found)
{
    bool fine = true;

    for (uint32_t thread = 0; thread < TOOL_THREADS; thread++) {
        follower of;
        memset(&of, 0, sizeof(of));
        of.found = found;
        for (uint32_t i = 0; i < TOOL_KEYS; i++) {
            of.different += found->versions[thread * TOOL_KEYS + i] != 0 ? 1 : 0;
        }
        of.met = of.different == 0;
        follow_file(path, thread, &of);
        if (!of.met && of.different != 0) {
            tell_difference(&of, thread);
            fine = false;
        }
        free(of.changes);
    }
    return fine;
}

void tool_history_settle(const char *path, const tool_state *found)
{
    for (uint32_t thread = 0; thread < TOOL_THREADS; thread++) {
        char name[PATH_ROOM];
        int history;
        history_path(path, thread, name);
        (void)unlink(name);
        history = tool_history_open(path, thread);
        for (uint32_t i = 0; i < TOOL_KEYS; i++) {
            const uint32_t key = thread * TOOL_KEYS + i;
            if (found->versions[key] != 0) {
                tool_history_put(history, key, found->versions[key]);
            }
        }
        tool_history_mark(history, 'A');
        (void)close(history);
    }
}
