/* Runs a fuzz target once on every file of the directories (or files) named on the command line,
 * without a fuzzing engine. A crash or a failed assert ends the program; so does a file that cannot
 * be read. Hidden files are passed over; a directory that is absent counts as empty. */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

static void replay_die(const char *path, const char *what)
{
    (void)fprintf(stderr, "%s: %s: %s\n", path, what, strerror(errno));
    exit(1);
}

static void replay_file(const char *path, size_t bytes)
{
    uint8_t *data = malloc(bytes > 0 ? bytes : 1); /* exactly as long, for the sanitizers */
    FILE *file = fopen(path, "rb");

    if (data == NULL || file == NULL) {
        replay_die(path, "open");
    }
    if (fread(data, 1, bytes, file) != bytes) {
        replay_die(path, "read");
    }
    (void)fclose(file);
    (void)fprintf(stderr, "replay %s\n", path);
    (void)LLVMFuzzerTestOneInput(data, bytes);
    free(data);
}

static size_t replay_path(const char *path)
{
    struct stat status;
    struct dirent **entries = NULL;
    size_t count = 0;

    if (stat(path, &status) != 0) {
        if (errno == ENOENT) {
            return 0;
        }
        replay_die(path, "stat");
    }
    if (!S_ISDIR(status.st_mode)) {
        replay_file(path, (size_t)status.st_size);
        return 1;
    }
    const int entry_count = scandir(path, &entries, NULL, alphasort);
    if (entry_count < 0) {
        replay_die(path, "list");
    }
    for (int i = 0; i < entry_count; i++) {
        if (entries[i]->d_name[0] != '.') {
            char name[4096];
            const int length = snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
            if (length < 0 || (size_t)length >= sizeof(name)) {
                errno = ENAMETOOLONG;
                replay_die(path, "list");
            }
            count += replay_path(name);
        }
        free(entries[i]);
    }
    free(entries);
    return count;
}

int main(int argc, char **argv)
{
    size_t count = 0;

    for (int i = 1; i < argc; i++) {
        count += replay_path(argv[i]);
    }
    (void)printf("%zu inputs replayed\n", count);
    return 0;
}
