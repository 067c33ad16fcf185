/* The I/O table over POSIX calls: what is done by name. A path is looked up from the working
 * directory or, with a rooted context, from a directory that is kept open.
 * Sources: open(2), rename(2), fsync(2), fcntl(2), flock(2), link(2), readlink(2), fchown(2). */
#ifndef _FILE_OFFSET_BITS
#define _FILE_OFFSET_BITS 64
#endif

#include "base/seeded_bug.h"
#include "platform/interrupt.h"
#include "platform/io_posix.h"
#include "platform/platform.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef PATH_MAX
#define PATH_MAX 4096
#endif

/* As many as Linux follows. */
#define LINKS_MAX 40

/* A file that is replaced between being opened and being looked at, every time. */
#define HOLD_TRIES 100

/* ---- places ---- */

typedef struct posix_root {
    int descriptor;
    size_t name_bytes;
    char name[];
} posix_root;

/* The directory from which *path is looked up; *path becomes what is looked up in it. */
static int rooted_place(void *context, const char **path)
{
    const posix_root *root = context;
    const char *rest;

    if (root == NULL || strncmp(*path, root->name, root->name_bytes) != 0) {
        return AT_FDCWD;
    }
    rest = *path + root->name_bytes;
    if (*rest != '\0' && *rest != '/' && root->name[root->name_bytes - 1] != '/') {
        return AT_FDCWD; /* only the beginning of a longer name */
    }
    rest += strspn(rest, "/");
    *path = *rest == '\0' ? "." : rest;
    return root->descriptor;
}

int nphdi_posix_root(void *context, const char *path, const char *name, void **out_context)
{
    const size_t name_bytes = strlen(name);
    const int at = rooted_place(context, &path);
    posix_root *root;
    int os_error;

    *out_context = NULL;
    if (name_bytes == 0) {
        return EINVAL;
    }
    root = malloc(sizeof(*root) + name_bytes + 1);
    if (root == NULL) {
        return ENOMEM;
    }
    root->descriptor = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (root->descriptor < 0) {
        os_error = errno;
        free(root);
        return os_error;
    }
    root->name_bytes = name_bytes;
    memcpy(root->name, name, name_bytes + 1);
    *out_context = root;
    return 0;
}

void nphdi_posix_unroot(void *rooted_context)
{
    posix_root *root = rooted_context;

    (void)close(root->descriptor); /* only read from */
    free(root);
}

/* ---- opening ---- */

/* Takes a descriptor of what was opened by name; anything but a file is closed and refused. */
static int posix_take_file(int descriptor, nphd_file *out_file)
{
    struct stat info;
    int os_error = fstat(descriptor, &info) != 0 ? errno : 0;

    if (os_error == 0 && !S_ISREG(info.st_mode)) {
        os_error = S_ISDIR(info.st_mode) ? EISDIR : EINVAL;
    }
    if (os_error != 0) {
        (void)close(descriptor);
        return os_error;
    }
    out_file->handle = descriptor;
    return 0;
}

static int posix_create(int at, const char *path, mode_t mode, nphd_file *out_file)
{
    const int descriptor =
        openat(at, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, mode);

    out_file->handle = descriptor;
    return descriptor < 0 ? errno : 0;
}

int nphdi_posix_open(void *context, const char *path, int how, nphd_file *out_file)
{
    const int at = rooted_place(context, &path);
    int descriptor;

    out_file->handle = -1;
    if (how == NPHD_OPEN_CREATE) {
        return posix_create(at, path, 0666, out_file);
    }
    /* O_NONBLOCK: a pipe of that name must not make us wait for its other end */
    descriptor = openat(at, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    return descriptor < 0 ? errno : posix_take_file(descriptor, out_file);
}

/* Owner and permissions of an old file for its successor. Nobody may come by more than before: if
 * the group cannot be kept, the new one has what everybody has. A file system that knows no
 * permissions refuses; then the file stays its owner's alone. */
static void posix_inherit(int descriptor, const struct stat *old)
{
    struct stat now;
    mode_t mode = old->st_mode & 07777;

    if (fstat(descriptor, &now) != 0) {
        return;
    }
    if (now.st_uid != old->st_uid || now.st_gid != old->st_gid) {
        if (fchown(descriptor, old->st_uid, old->st_gid) != 0 &&
            fchown(descriptor, (uid_t)-1, old->st_gid) != 0) {
            mode &= (mode_t) ~(S_IRWXG | S_ISGID);
            mode |= ((old->st_mode & S_IRWXO) << 3) & (old->st_mode & S_IRWXG);
        }
        if (fstat(descriptor, &now) != 0 || now.st_uid != old->st_uid) {
            mode &= (mode_t)~S_ISUID;
        }
    }
    (void)fchmod(descriptor, mode);
}

int nphdi_posix_create_like(void *context, const char *path, const char *like, nphd_file *out_file)
{
    const int at = rooted_place(context, &path);
    const int like_at = rooted_place(context, &like);
    struct stat old;
    int os_error;

    out_file->handle = -1;
    if (fstatat(like_at, like, &old, 0) != 0) {
        return errno == ENOENT ? posix_create(at, path, 0666, out_file) : errno;
    }
    os_error = posix_create(at, path, 0600, out_file);
    if (os_error == 0) {
        posix_inherit((int)out_file->handle, &old);
    }
    return os_error;
}

/* ---- looking ---- */

int nphdi_posix_look(void *context, const char *path, nphd_file_facts *out)
{
    const int at = rooted_place(context, &path);
    struct stat info;

    memset(out, 0, sizeof(*out));
    if (fstatat(at, path, &info, 0) != 0) {
        return errno;
    }
    out->kind = S_ISREG(info.st_mode)   ? NPHD_KIND_FILE
                : S_ISDIR(info.st_mode) ? NPHD_KIND_DIRECTORY
                                        : NPHD_KIND_OTHER;
    out->device = (uint64_t)info.st_dev;
    out->number = (uint64_t)info.st_ino;
    out->bytes = (uint64_t)info.st_size;
#ifdef __APPLE__
    out->changed_ns =
        (uint64_t)info.st_mtimespec.tv_sec * 1000000000u + (uint64_t)info.st_mtimespec.tv_nsec;
#else
    out->changed_ns = (uint64_t)info.st_mtim.tv_sec * 1000000000u + (uint64_t)info.st_mtim.tv_nsec;
#endif
    return 0;
}

/* Puts text[0..bytes) and `rest` into `out`. */
static int posix_compose(char *out, size_t room, const char *text, size_t bytes, const char *rest)
{
    const size_t rest_bytes = strlen(rest) + 1;

    if (bytes >= room || rest_bytes > room - bytes) {
        return ENAMETOOLONG;
    }
    memmove(out, text, bytes);
    memcpy(out + bytes, rest, rest_bytes);
    return 0;
}

/* Where a symbolic link at the end of `path` leads, by one step; *out_link false: there is none. */
static int posix_follow(void *context, char *path, size_t room, bool *out_link)
{
    const char *name = path;
    const int at = rooted_place(context, &name);
    char target[PATH_MAX];
    const ssize_t bytes = readlinkat(at, name, target, sizeof(target) - 1);
    const char *slash = strrchr(path, '/');

    *out_link = bytes >= 0;
    if (bytes < 0) {
        return errno == EINVAL || errno == ENOENT ? 0 : errno;
    }
    target[bytes] = '\0';
    if (target[0] == '/' || slash == NULL) {
        return posix_compose(path, room, "", 0, target);
    }
    return posix_compose(path, room, path, (size_t)(slash + 1 - path), target);
}

/* Puts the true path of the directory in front, where it can be told: a missing one, or one too
 * deep, is found when the path is used, or not. */
static int posix_canonize(char *path, size_t room)
{
    const char *slash = strrchr(path, '/');
    const size_t bytes = slash == NULL ? 0 : (size_t)(slash + 1 - path);
    char name[PATH_MAX];
    char directory[PATH_MAX];
    int os_error = posix_compose(name, sizeof(name), "", 0, path + bytes);

    if (os_error == 0) {
        path[bytes] = '\0';
        if (realpath(bytes == 0 ? "." : path, directory) == NULL) {
            return posix_compose(path, room, path, bytes, name);
        }
        const size_t length = strcmp(directory, "/") == 0 ? 0 : strlen(directory);
        directory[length] = '/';
        os_error = posix_compose(path, room, directory, length + 1, name);
    }
    return os_error;
}

int nphdi_posix_resolve(void *context, const char *path, char *out, size_t room)
{
    const char *name = out;
    bool link = true;
    int os_error = posix_compose(out, room, "", 0, path);

    for (int links = 0; os_error == 0 && link; links++) {
        os_error = links == LINKS_MAX ? ELOOP : posix_follow(context, out, room, &link);
    }
    if (os_error == 0 && rooted_place(context, &name) == AT_FDCWD) {
        os_error = posix_canonize(out, room);
    }
    return os_error;
}

/* ---- names ---- */

int nphdi_posix_rename(void *context, const char *from, const char *to)
{
    const int from_at = rooted_place(context, &from);
    const int to_at = rooted_place(context, &to);

    return renameat(from_at, from, to_at, to) != 0 ? errno : 0;
}

int nphdi_posix_remove(void *context, const char *path)
{
    const int at = rooted_place(context, &path);

    return unlinkat(at, path, 0) != 0 ? errno : 0;
}

int nphdi_posix_remove_directory(void *context, const char *path)
{
    const int at = rooted_place(context, &path);

    return unlinkat(at, path, AT_REMOVEDIR) != 0 ? errno : 0;
}

/* A hard link and not a clone (FICLONE): it is there at once and whole, where a clone is an empty
 * file first, and needs no flush but that of the directory. */
int nphdi_posix_copy(void *context, const char *from, const char *to)
{
    const int from_at = rooted_place(context, &from);
    const int to_at = rooted_place(context, &to);

    if (linkat(from_at, from, to_at, to, AT_SYMLINK_FOLLOW) == 0) {
        return 0;
    }
    /* no links on this file system, no more of them, or none to files of other users */
    return errno == EPERM || errno == EMLINK || errno == ENOSYS ? EOPNOTSUPP : errno;
}

/* ---- directories ---- */

int nphdi_posix_sync_directory(void *context, const char *path)
{
    const int at = rooted_place(context, &path);
    int descriptor;
    int os_error;

    NPHDI_REPEAT_INTERRUPTED(
        os_error,
        (descriptor = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0 ? errno : 0);
    if (os_error != 0) {
        return os_error;
    }
    if (!NPHDI_BUG(28) && fsync(descriptor) != 0) {
        os_error = errno;
    }
    (void)close(descriptor); /* only read from: nothing that close could still lose */
    return os_error;
}

int nphdi_posix_make_directory(void *context, const char *path)
{
    const int at = rooted_place(context, &path);

    return mkdirat(at, path, 0777) != 0 ? errno : 0;
}

int nphdi_posix_make_directory_like(void *context, const char *path, const char *like)
{
    const int at = rooted_place(context, &path);
    const int like_at = rooted_place(context, &like);
    struct stat old;
    int descriptor;

    if (fstatat(like_at, like, &old, 0) != 0 || mkdirat(at, path, 0700) != 0) {
        return errno;
    }
    descriptor = openat(at, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (descriptor >= 0) { /* else it stays its owner's alone */
        posix_inherit(descriptor, &old);
        (void)close(descriptor);
    }
    return 0;
}

int nphdi_posix_list(void *context, const char *path,
                     int (*visit)(void *visit_context, const char *name), void *visit_context)
{
    const int at = rooted_place(context, &path);
    const int descriptor = openat(at, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory;
    int answer = 0;

    if (descriptor < 0) {
        return errno;
    }
    directory = fdopendir(descriptor); /* has the descriptor from now on */
    if (directory == NULL) {
        answer = errno;
        (void)close(descriptor);
        return answer;
    }
    while (answer == 0) {
        errno = 0; /* the end and an error look alike but for this */
        const struct dirent *entry = readdir(directory);
        if (entry == NULL) {
            answer = errno;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            answer = visit(visit_context, entry->d_name);
        }
    }
    (void)closedir(directory); /* only read from */
    return answer;
}

/* ---- locks ---- */

/* Locks of the open file, not of the process: those of POSIX end when any other descriptor of the
 * same file is closed, and do not keep two handles of one process apart. A child made by fork()
 * without exec has the open file too, and so the lock until it ends. */
static int posix_lock_descriptor(int descriptor)
{
#ifdef F_OFD_SETLK
    const struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    const int failed = fcntl(descriptor, NPHDI_BUG(27) ? F_SETLK : F_OFD_SETLK, &whole);
#else
    const int failed = flock(descriptor, LOCK_EX | LOCK_NB);
#endif

    if (failed == 0) {
        return 0;
    }
    return errno == EAGAIN || errno == EACCES ? EWOULDBLOCK : errno;
}

/* Not through a symbolic link: whoever may write the directory could have us make files anywhere.
 */
int nphdi_posix_lock(void *context, const char *path, nphd_file *out_file)
{
    const int at = rooted_place(context, &path);
    int descriptor;
    int os_error;

    out_file->handle = -1;
    descriptor =
        openat(at, path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | O_NOFOLLOW, 0666);
    if (descriptor < 0) {
        return errno;
    }
    os_error = posix_take_file(descriptor, out_file);
    if (os_error == 0) {
        os_error = posix_lock_descriptor(descriptor);
        if (os_error != 0) {
            out_file->handle = -1;
            (void)close(descriptor);
        }
    }
    return os_error;
}

/* Does the name still lead to the open file? */
static bool posix_is_same(int descriptor, int at, const char *path)
{
    struct stat held;
    struct stat named;

    return fstat(descriptor, &held) == 0 && fstatat(at, path, &named, 0) == 0 &&
           held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

/* flock and not a lock of a range: it takes directories, and files that may only be read. */
int nphdi_posix_hold(void *context, const char *path, nphd_file *out_file)
{
    const int at = rooted_place(context, &path);

    out_file->handle = -1;
    for (int tries = 0; tries < HOLD_TRIES; tries++) {
        const int descriptor = openat(at, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        int os_error = descriptor < 0 ? errno : 0;
        if (os_error != 0) {
            return os_error;
        }
        if (flock(descriptor, LOCK_EX | LOCK_NB) != 0) {
            os_error = errno;
        } else if (posix_is_same(descriptor, at, path)) {
            out_file->handle = descriptor;
            return 0;
        }
        (void)close(descriptor); /* only read from */
        if (os_error != 0) {
            return os_error;
        }
    }
    return EWOULDBLOCK; /* whoever replaces it all the time has it */
}
