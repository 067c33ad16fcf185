/* Index files: save, load, view, restore, verify.
 *
 * A file is a `.usearch` file as the reference writes it, followed by a trailer of ours with
 * checksums, the identity of the index and tables that make opening instant; see docs/format.md.
 * Files without the trailer are accepted, checked, and reported as not verified. */
#ifndef NPHD_INDEX_FILE_H
#define NPHD_INDEX_FILE_H

#include <nphd/index.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Write the whole index to a file, durably and atomically: once NPHD_OK is returned the new
 * content is on the device; at any crash before, the old file is still whole.
 *
 * The bytes go to a temporary file `<path>.tmp-...` in the same directory, which is flushed,
 * renamed over `path`, and its directory flushed. A symbolic link at `path` is followed, and the
 * new file has the permissions and, where that is allowed, the owner of the old one. Only a file is
 * replaced.
 *
 * An index knows the file that it was loaded from, viewed or saved to last, by its true path and
 * content. If another one is there now (another program saved meanwhile), it is left alone, unless
 * options->overwrite is set. None there, or a path that the index does not know: the file is made
 * or replaced. Between the last look and the rename another save may still come in between: hold
 * nphd_lock_acquire() from loading to saving where that matters.
 *
 * Returns  NPHD_OK; dirty is then 0.
 * Errors   NPHD_IO, NPHD_NO_SPACE: nothing changed on disk, the index is as dirty as before; a
 *          later save writes a new file. NPHD_DURABILITY_UNKNOWN: the file is in place but its
 *          directory could not be flushed; the index stays dirty. NPHD_OUT_OF_MEMORY,
 *          NPHD_CANCELLED; NPHD_CORRUPT: the index is a view of a damaged file. NPHD_FULL: it has
 *          the last generation that a file can say, after 2^63 saves; a copy begins anew.
 *          NPHD_CHANGED: another file is there; nothing was written.
 * Threads  any; searches go on, adding threads wait.
 */
NPHD_API nphd_status nphd_index_save(nphd_index *index, const char *path,
                                     const nphd_batch_options *options, nphd_error *err);

/**
 * Write the whole index to memory.
 *
 * Shapes   buffer: room for `capacity` bytes; nphd_index_stats.serialized_bytes is what it takes.
 *          buffer NULL with capacity 0 asks for the size alone.
 * Returns  NPHD_OK with *out_bytes written. dirty does not change: nothing is durable yet.
 * Errors   NPHD_TOO_SMALL: *out_bytes says what is needed.
 */
NPHD_API nphd_status nphd_index_save_buffer(nphd_index *index, void *buffer, size_t capacity,
                                            size_t *out_bytes, nphd_error *err);

/** What the caller expects of a file. Zero in a field accepts what the file says. */
typedef struct nphd_open_options {
    size_t struct_size;
    uint32_t max_bits; /* must equal the file's, likewise the next four */
    uint32_t key_bits;
    nphd_metric metric;
    uint32_t connectivity;   /* not compared for an empty file, which has none */
    uint32_t multi;          /* 0: as the file says; 1: must not be multi; 2: must be multi */
    uint32_t build_breadth;  /* 0: as the trailer says, else 128 */
    uint32_t search_breadth; /* 0: as the trailer says, else 64 */
    bool verify;             /* view: check every block first; a load always does */
    bool legacy_nphd;        /* the file's metric says Hamming but it was written as NPHD by a
                                version before the reference's 0.5.0 */
    nphd_progress progress;
    void *progress_context;
    const nphd_allocator *allocator; /* restore only; load and view keep those of the index */
    const nphd_io *io;
} nphd_open_options;

#ifdef __cplusplus
#define NPHD_OPEN_OPTIONS_INIT                                                                     \
    {                                                                                              \
        sizeof(nphd_open_options), 0, 0, NPHD_METRIC_DEFAULT, 0, 0, 0, 0, false, false, NULL,      \
            NULL, NULL, NULL                                                                       \
    }
#else
#define NPHD_OPEN_OPTIONS_INIT                                                                     \
    {                                                                                              \
        .struct_size = sizeof(nphd_open_options)                                                   \
    }
#endif

/**
 * Replace the content of an index by that of a file, read whole into memory and writable.
 *
 * Width, metric, key width, connectivity and multi become the file's. options may be NULL.
 *
 * Errors   NPHD_NOT_FOUND, NPHD_IO. NPHD_CORRUPT: a checksum or bound does not hold; the text
 *          names file, block and check. NPHD_MISMATCH: the file contradicts an option; the text
 *          names both. NPHD_UNSUPPORTED: a metric, scalar or variant not implemented, by name.
 *          NPHD_CANCELLED by options->progress, which is asked for each block that is read and told
 *          of slots. On an error the index keeps its old content.
 * Threads  waits for all other calls on the index.
 */
NPHD_API nphd_status nphd_index_load(nphd_index *index, const char *path,
                                     const nphd_open_options *options, nphd_error *err);

/** As nphd_index_load(), from memory. The buffer is not needed afterwards. */
NPHD_API nphd_status nphd_index_load_buffer(nphd_index *index, const void *buffer, size_t bytes,
                                            const nphd_open_options *options, nphd_error *err);

/**
 * Replace the content of an index by a read-only mapping of a file.
 *
 * A file with a trailer opens in constant time. The file may be replaced by rename or deleted
 * while it is mapped, never truncated or rewritten in place. Every change of the index is refused
 * with NPHD_READ_ONLY until nphd_index_reset() or nphd_index_load().
 *
 * Errors   as nphd_index_load(). Damage that the bounds checks do not meet at open is found by
 *          nphd_file_verify(), or by options->verify, which alone takes long enough to ask
 *          options->progress, in millionths.
 * Threads  waits for all other calls on the index.
 */
NPHD_API nphd_status nphd_index_view(nphd_index *index, const char *path,
                                     const nphd_open_options *options, nphd_error *err);

/** As nphd_index_view(), over memory that must stay as it is until the view ends. */
NPHD_API nphd_status nphd_index_view_buffer(nphd_index *index, const void *buffer, size_t bytes,
                                            const nphd_open_options *options, nphd_error *err);

/**
 * Create an index from a file: nphd_index_create() and nphd_index_load() or, with `view`,
 * nphd_index_view() in one.
 *
 * Returns  NPHD_OK with *out, to be closed with nphd_index_close(). NPHD_NOT_FOUND and NULL when
 *          there is no such file.
 */
NPHD_API nphd_status nphd_index_restore(const char *path, bool view,
                                        const nphd_open_options *options, nphd_index **out,
                                        nphd_error *err);

/** A lock of an index file, against other programs that take it. */
typedef struct nphd_lock nphd_lock;

/**
 * Lock an index file against every other nphd_lock_acquire() of it, in this process and others, for
 * loading, changing and saving it without anybody in between; the program `nphd` takes it for every
 * command that changes a file. Where there is no file yet, its directory is locked. Loading and
 * viewing do not ask for it.
 *
 * Shapes   path: as for nphd_index_save(). io: NULL for files of the operating system.
 * Returns  NPHD_OK with *out, to be released with nphd_lock_release(); it ends with the process
 *          too. A child made by fork() meanwhile keeps it until it releases it or ends.
 * Errors   NPHD_BUSY: somebody has it; this call never waits. NPHD_UNSUPPORTED: the file system or
 *          the table has no such locks. NPHD_NOT_FOUND: there is no such directory. NPHD_IO,
 *          NPHD_OUT_OF_MEMORY.
 * Threads  any.
 */
NPHD_API nphd_status nphd_lock_acquire(const char *path, const nphd_io *io, nphd_lock **out,
                                       nphd_error *err);

/** Release a lock. Takes NULL. Threads: any. */
NPHD_API void nphd_lock_release(nphd_lock *lock);

/** What the header of a file says. Codes are those of the file format. */
typedef struct nphd_metadata {
    size_t struct_size;
    uint64_t file_bytes;
    uint64_t slots;
    uint64_t present;    /* as counted by the writer; not to be relied on without a trailer */
    uint64_t deleted;    /* likewise */
    uint64_t dimensions; /* scalars of a stored row; bits, with the length byte, for NPHD */
    uint64_t connectivity;
    uint64_t generation; /* 0 without a trailer */
    uint16_t version[3]; /* of the format */
    char metric_code;    /* 'n' NPHD, 'b' Hamming, ... */
    uint8_t scalar_code;
    uint32_t max_bits; /* of a vector; 0 when the scalars are not bits */
    uint32_t key_bits;
    nphd_metric metric;   /* 0: one that is not implemented */
    uint8_t identity[16]; /* of the index; zero without a trailer */
    bool multi;
    bool vectors_included;
    bool dimensions_64_bit; /* the variant with a 64-bit matrix header */
    bool trailer;           /* ours, with checksums */
    bool tables;            /* it has hash tables, see nphd_index_prepare() */
} nphd_metadata;

#ifdef __cplusplus
#define NPHD_METADATA_INIT                                                                         \
    {                                                                                              \
        sizeof(nphd_metadata), 0, 0, 0, 0, 0, 0, 0, {0, 0, 0}, 0, 0, 0, 0, NPHD_METRIC_DEFAULT,    \
            {0}, false, false, false, false, false                                                 \
    }
#else
#define NPHD_METADATA_INIT                                                                         \
    {                                                                                              \
        .struct_size = sizeof(nphd_metadata)                                                       \
    }
#endif

/**
 * Read the header of an index file, also of one whose metric or scalar is not implemented.
 *
 * Shapes   io: NULL for files of the operating system.
 * Errors   NPHD_NOT_FOUND, NPHD_IO, NPHD_CORRUPT: not an index file.
 * Threads  any.
 */
NPHD_API nphd_status nphd_file_metadata(const char *path, const nphd_io *io, nphd_metadata *out,
                                        nphd_error *err);

/** As nphd_file_metadata(), from memory. */
NPHD_API nphd_status nphd_buffer_metadata(const void *buffer, size_t bytes, nphd_metadata *out,
                                          nphd_error *err);

/** What nphd_file_verify() read. */
typedef struct nphd_verify_report {
    uint64_t file_bytes;
    uint64_t blocks;  /* checked against a checksum; 0 for a reference file */
    uint64_t damaged; /* of those, not as they were written */
    uint64_t slots;   /* nodes whose bounds were checked */
    bool checksums;   /* the file has a trailer of ours */
} nphd_verify_report;

/** Called for each damage found, with one line of text. */
typedef void (*nphd_damage)(void *context, const char *text);

/** How to verify. All zero: files of the operating system, on the calling thread. */
typedef struct nphd_verify_options {
    size_t struct_size;
    uint32_t threads;   /* worker threads that share a file; 0 and 1: the calling thread alone */
    nphd_damage damage; /* NULL: only the first damage is told, by the error */
    void *damage_context;
    const nphd_io *io;      /* NULL: files of the operating system */
    nphd_progress progress; /* called by the calling thread, in millionths of the work */
    void *progress_context;
} nphd_verify_options;

#ifdef __cplusplus
#define NPHD_VERIFY_OPTIONS_INIT                                                                   \
    {                                                                                              \
        sizeof(nphd_verify_options), 0, NULL, NULL, NULL, NULL, NULL                               \
    }
#else
#define NPHD_VERIFY_OPTIONS_INIT                                                                   \
    {                                                                                              \
        .struct_size = sizeof(nphd_verify_options)                                                 \
    }
#endif

/**
 * Read a whole file and check all of it: every block against its checksum, and every bound of the
 * structure. Finds any single changed byte of a file with a trailer.
 *
 * Shapes   options may be NULL; out may be NULL.
 * Returns  NPHD_OK when the file is as it was written, or is a reference file whose bounds hold.
 *          What is found, and the order in which it is told, do not depend on threads.
 * Errors   NPHD_CORRUPT: damaged; the text names the first block or bound. NPHD_NOT_FOUND, NPHD_IO,
 *          NPHD_OUT_OF_MEMORY, NPHD_UNSUPPORTED. NPHD_CANCELLED by progress, whatever was found
 *          until then, which `damage` was told of.
 * Threads  any. `damage` is called by the calling thread alone. A reference file has one worker.
 */
NPHD_API nphd_status nphd_file_verify_with(const char *path, const nphd_verify_options *options,
                                           nphd_verify_report *out, nphd_error *err);

/** As nphd_file_verify_with() with one thread. damage may be NULL. */
NPHD_API nphd_status nphd_file_verify(const char *path, const nphd_io *io, nphd_damage damage,
                                      void *damage_context, nphd_verify_report *out,
                                      nphd_error *err);

#ifdef __cplusplus
}
#endif

#endif
