/* The I/O table: every call of the library that touches storage goes through one of these.
 *
 * NULL in the options means the files of the operating system. Tests put a model disk or a fault
 * injector here; an application can put an archive or an encrypted store here. */
#ifndef NPHD_IO_H
#define NPHD_IO_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** An open file, meaningful to the table that opened it. */
typedef struct nphd_file {
    intptr_t handle;
} nphd_file;

#define NPHD_OPEN_READ 1   /* an existing file, for read and map */
#define NPHD_OPEN_CREATE 2 /* a new file, for write; EEXIST when the name is taken */

/* What a name leads to. */
#define NPHD_KIND_FILE 1      /* a regular file */
#define NPHD_KIND_DIRECTORY 2 /* a directory */
#define NPHD_KIND_OTHER 3     /* a device, pipe, socket: nothing that a save may replace */

/** What is there under a name. Equal numbers mean the same unchanged file; 0: the table cannot
 * tell. */
typedef struct nphd_file_facts {
    uint32_t kind;       /* NPHD_KIND_... */
    uint64_t device;     /* with `number`: which file, whatever its name */
    uint64_t number;     /* its inode */
    uint64_t bytes;      /* its size */
    uint64_t changed_ns; /* when its content changed last */
} nphd_file_facts;

/**
 * A table of storage functions. Each returns 0 or an errno value.
 *
 * Units    offsets and sizes in bytes.
 * Threads  may be called from any thread; one file is used by one thread at a time.
 * Rules    `read` and `write` may move fewer bytes than asked (never 0 for a write without an
 *          error; 0 for a read means end of file); the library goes on with the rest, and repeats
 *          a call that answers EINTR, but for `sync`, `sync_directory` and `close`, whose first
 *          answer counts. A `sync` that failed is never repeated on the same file.
 */
typedef struct nphd_io {
    size_t struct_size;
    void *context; /* passed to every function */
    int (*open)(void *context, const char *path, int how, nphd_file *out_file);
    int (*size)(void *context, nphd_file file, uint64_t *out_bytes);
    int (*read)(void *context, nphd_file file, uint64_t offset, void *buffer, size_t bytes,
                size_t *out_done);
    int (*write)(void *context, nphd_file file, uint64_t offset, const void *buffer, size_t bytes,
                 size_t *out_done);
    /** Set space aside for a file of this size. EOPNOTSUPP is taken as "cannot tell". */
    int (*allocate)(void *context, nphd_file file, uint64_t bytes);
    /** Flush the data of a file to the device (fdatasync). */
    int (*sync)(void *context, nphd_file file);
    int (*close)(void *context, nphd_file file);
    /** Map a file read-only; the mapping outlives the close of the file. bytes > 0. */
    int (*map)(void *context, nphd_file file, uint64_t bytes, const void **out_base);
    void (*unmap)(void *context, const void *base, uint64_t bytes);
    int (*rename)(void *context, const char *from, const char *to); /* replaces atomically */
    int (*remove)(void *context, const char *path);
    /** Flush the directory itself. EINVAL is taken as "this file system cannot". */
    int (*sync_directory)(void *context, const char *path);
    int (*random)(void *context, void *buffer, size_t bytes); /* names and identities */
    /** Make one directory; EEXIST when anything has that name, ENOENT when its parent is missing.
     * It is durable after sync_directory of the parent. */
    int (*make_directory)(void *context, const char *path);
    /** Tell `visit` every name in a directory but "." and "..", in any order. Stops when `visit`
     * answers non-zero and returns that; `visit` makes no calls of the table. After an error or
     * EINTR the library forgets what it was told, and begins again after EINTR. ENOTDIR for a
     * file. */
    int (*list)(void *context, const char *path,
                int (*visit)(void *visit_context, const char *name), void *visit_context);
    /** Open a file for writing, a new one if need be but never through a symbolic link, and lock it
     * against every other `lock` of it, by another process or by this one; EWOULDBLOCK, without
     * waiting, while somebody has it. The lock ends with the close of this file or the end of the
     * process, not by whatever else is done with a file of that name. */
    int (*lock)(void *context, const char *path, nphd_file *out_file);
    /** Give a file a second name, or a copy that shares its storage: all of it at once, and as
     * durable as `from` after sync_directory for `to`. EEXIST when `to` exists. EOPNOTSUPP or EXDEV
     * where storage cannot be shared: the library copies by read and write. Only for files that
     * nobody changes any more. */
    int (*copy)(void *context, const char *from, const char *to);

    /* All that follows may be missing: be NULL, or lie behind struct_size. */

    /** Open the directory `path` and answer a context that knows it as `name`: from then on the
     * functions of this table, called with it, find a path that is `name` or begins with `name/`
     * in that directory, whatever becomes of its name or of the working directory; any other path
     * as with `context`, which must stay. Without it: paths are looked up anew each time. */
    int (*root)(void *context, const char *path, const char *name, void **out_context);
    void (*unroot)(void *rooted_context);
    /** Tell what is there, following symbolic links. ENOENT: nothing. Without it: a save replaces
     * what is there unseen, and a file without trailer is known by its size alone. */
    int (*look)(void *context, const char *path, nphd_file_facts *out);
    /** The path of the file that `path` means, one for each file: symbolic links at its end are
     * followed, whether or not there is a file, and the directory becomes its true absolute path
     * if there is one, unless it is that of a rooted context. ENAMETOOLONG: more than `room`
     * bytes. Without it: `path` itself. */
    int (*resolve)(void *context, const char *path, char *out, size_t room);
    /** As `open` with NPHD_OPEN_CREATE, for a file that will take the place of `like`: it has the
     * permissions of `like` and, where that is allowed, its owner, and at no moment more
     * permissions than these. Where there is no `like`: those of any new file. Without it: `open`.
     */
    int (*create_like)(void *context, const char *path, const char *like, nphd_file *out_file);
    /** Lock the file or directory `path` itself, as it is, against every other `hold` of it;
     * EWOULDBLOCK, without waiting, while somebody has it, ENOENT when there is none. What is held
     * is what the name leads to when the call returns. Ends as `lock` does. Without it:
     * nphd_lock_acquire() answers NPHD_UNSUPPORTED. */
    int (*hold)(void *context, const char *path, nphd_file *out_file);
    /** Remove an empty directory; ENOTEMPTY or EEXIST when something is in it. With it, `rename`
     * takes directories as well, and puts one in the place of an empty one. Without it: a snapshot
     * is made under its own name, and an interrupted one stays there in part. */
    int (*remove_directory)(void *context, const char *path);
    /** As `make_directory`, for one that will take the place of the directory `like`: it has the
     * permissions of `like` and, where that is allowed, its owner, and at no moment more. Without
     * it: `make_directory`. */
    int (*make_directory_like)(void *context, const char *path, const char *like);
} nphd_io;

#ifdef __cplusplus
}
#endif

#endif
