/* The handle of a sharded index.
 *
 * A shard is either the active one (in memory, writable, its entries removed for good) or sealed:
 * a view of its file, or in memory while its file is being written. Sealed shards stand in
 * ascending order of their numbers. An entry of a sealed shard that is deleted, or whose key was
 * given another vector in a newer shard, is hidden.
 *
 * Invariants, of an index that is not multi:
 *   (1) at most one entry of a key is visible in all shards together;
 *   (2) a key is in `tombstones` exactly when sealed shards have entries of it and none is visible
 *       anywhere;
 *   (3) the bloom filter, if there is one, knows the key of every visible entry.
 *
 * Locks, taken in this order:
 *   change_lock  every call that changes the index, for its whole time
 *   state_lock   read: looking at the list of shards and at what is hidden; write: the short
 *                moments in which these change
 *   journal.lock the records that wait for a commit
 *   lock.mutex   the head in the file `lock`, while it is written; nothing is taken inside
 *   queue        of the rotation thread: the list of rotations. Held by nobody who waits for the
 *                state_lock. */
#ifndef NPHDI_SHARDED_INTERNAL_H
#define NPHDI_SHARDED_INTERNAL_H

#include "base/watch.h"
#include "filters/bloom.h"
#include "filters/key_set.h"
#include "formats/shard_record.h"
#include "index/index_internal.h"
#include "index/index_shard.h"
#include "platform/log_write.h"
#include "platform/platform.h"
#include "sharded/journal.h"
#include "sharded/lock_file.h"

#include <nphd/sharded.h>

#define NPHDI_NO_NUMBER UINT32_MAX

/* What a lookup asks first: the filter of 16 neighbours, or a shard that stands alone. */
typedef struct nphdi_group {
    const uint8_t *filter; /* in the view of the shard that carries it; NULL: one shard alone */
    uint64_t lines;
    uint64_t first; /* place in the list of sealed shards */
} nphdi_group;

typedef struct nphdi_shard {
    const nphd_allocator *allocator;
    uint32_t number;
    char *path;
    size_t path_room;
    nphd_index *index;
    nphdi_hidden hidden;   /* words NULL: nothing is hidden */
    uint64_t generation;   /* of its file; 0: none, or a file without trailer */
    uint64_t file_bytes;   /* 0: not on disk */
    uint32_t first_number; /* of the shards that were merged into this one; else `number` */
    uint64_t moved;        /* `moves` of the index after that; 0: never */
    bool grouped;          /* in a group that is in force */
    bool left_alone;       /* its keys could not be read: it joins no new group */
    nphdi_group group;     /* that begins with it; filter NULL: none */
} nphdi_shard;

/* What goes to disk beside the shard itself, as it was at the moment of a save or rotation. */
typedef struct nphdi_capture {
    uint8_t *tombstones; /* keys in file form, ascending */
    uint64_t tombstone_count;
    uint64_t tombstone_bytes;
    uint8_t *hidden; /* the section of dead entries */
    uint64_t hidden_bytes;
    nphdi_record_shard *shards; /* sealed shards; the one that is written is put in then */
    uint32_t shard_count;
    uint64_t shard_room;
    bool keep_tombstones; /* a tombstone file is needed */
} nphdi_capture;

typedef enum nphdi_rotation_state {
    NPHDI_ROTATION_QUEUED,
    NPHDI_ROTATION_RUNNING,
    NPHDI_ROTATION_FAILED
} nphdi_rotation_state;

/* A sealed shard on its way to disk. */
typedef struct nphdi_rotation {
    struct nphdi_rotation *next; /* newer */
    nphdi_shard *shard;
    nphdi_capture capture;
    uint64_t generation;
    nphdi_rotation_state state;
    bool reported; /* its failure was told to a changing call */
    nphd_error failure;
} nphdi_rotation;

/* The table of a handle whose directory is kept open. Lives as long as anything that was opened
 * through it. */
typedef struct nphdi_rooted {
    nphd_io table;
    const nphd_io *base;
} nphdi_rooted;

/* A shard whose file is on disk, as this handle wrote or read it. */
typedef struct nphdi_newest {
    uint32_t number;
    uint64_t generation; /* 0: none, or files without trailer */
    uint8_t identity[16];
} nphdi_newest;

struct nphd_sharded {
    nphdi_process process; /* in which lookups are answered */
    uint64_t home;         /* the number of the process that opened it, which may change it */
    const nphd_allocator *allocator;
    const nphd_io *io;    /* finds `path` in the directory that was opened */
    nphdi_rooted *rooted; /* NULL: the table has no such thing, and io is that of the options */
    nphdi_log log;
    char *path;
    size_t path_room;
    char *place; /* the same from the root, for a refresh, which goes by the name */
    size_t place_room;
    nphd_index_options parameters; /* of every shard; breadths as they are now */
    uint32_t key_bytes;
    uint64_t shard_bytes;
    uint32_t max_pending;
    nphd_sharded_options options; /* as opened, for a refresh */
    uint64_t stamp;               /* of the files and commits that a reader opened */
    bool read_only;
    bool hash_tables; /* go with full shards */
    bool background;
    bool want_bloom;
    bool salvage;
    nphd_damage damage;
    void *damage_context;

    pthread_mutex_t change_lock;
    const nphdi_watch *watch; /* whom the opening, or who holds change_lock, asks; NULL: nobody */
    nphdi_rwlock state_lock;
    bool change_lock_made;
    bool state_lock_made;
    bool closed;

    nphdi_shard **sealed;
    nphdi_slot_table *tables; /* their key tables, side by side */
    nphdi_group *groups;      /* all of them, in order: a lookup runs over these */
    uint64_t group_count;
    uint64_t sealed_count;
    uint64_t sealed_room;
    nphd_index *active;         /* never NULL while open; empty in a reader */
    uint32_t active_number;     /* NPHDI_NO_NUMBER: it has no file and no number yet */
    uint64_t active_file_bytes; /* 0: its file does not exist */
    bool active_file_goes;      /* its removal has begun: it may be gone already */
    bool head_waits;            /* the last sealed shard takes writes once there are any */
    uint32_t next_number;
    uint64_t moves; /* merges of shards, for cursors */

    nphdi_bloom *bloom; /* NULL: none */
    uint64_t bloom_valid_from;
    _Atomic bool over_reference; /* the files are the reference's until a shard of ours is there */
    bool bloom_renewed; /* it lacks keys that the files still have, until the next shard is written
                         */
    nphdi_key_set tombstones;
    _Atomic uint64_t dirty;
    uint64_t next_automatic;
    _Atomic nphd_unit unit; /* the type of the codes */
    bool unsaved;           /* shards or tombstones differ from their files */
    bool reset_alone;       /* nothing was saved since a reset that keeps the files */
    bool lock_lent;         /* such a reset let the lock go; the next change takes it again */
    nphdi_newest emptied;   /* what a reset left in the directory */
    bool bloom_unsaved;     /* only the filter does */

    /* the files; changed by whoever writes them, one at a time */
    uint8_t identity[16];
    _Atomic uint64_t generation;
    _Atomic uint64_t newest_generation;    /* of a shard file */
    _Atomic uint64_t tombstone_file_bytes; /* 0: there is no such file */
    _Atomic bool tombstones_unsure;        /* writing or removing it has not succeeded */
    _Atomic bool directory_unsure;         /* a shard is in place, but perhaps not durably */
    _Atomic uint64_t bloom_file_bytes;
    nphdi_shard **doomed; /* whose files go with the next save */
    uint64_t doomed_count;
    uint64_t doomed_room;
    bool record_is_right; /* the newest sealed shard's record describes all sealed shards, and no
                             tombstone file is needed */
    nphdi_journal journal;
    nphdi_lock_file lock;

    nphdi_signal queue;
    bool queue_made;
    nphdi_rotation *rotations; /* oldest first */
    uint64_t rotation_count;
    nphdi_thread thread;
    bool thread_runs;
    bool thread_stop;

    /* in a child process: what another thread was in the middle of when it was forked, and what
     * therefore cannot be freed */
    bool change_cut;
    bool commit_cut;
    bool rotation_cut;
};

/* ---- names of shards (shard_names.c) ---- */

/* The number in a shard's file name, written as we write it; NPHDI_NO_NUMBER: not one. */
uint32_t nphdi_shard_number(const char *name);
/* The path of a shard's file, to be freed as *room bytes. */
nphd_status nphdi_shard_path(const nphd_allocator *allocator, const char *directory,
                             uint32_t number, char **out, size_t *room, nphd_error *err);
/* The numbers of the shards among the names of a directory, ascending; to be freed as
 * `names->count` numbers. */
nphd_status nphdi_shard_numbers(const nphd_allocator *allocator, const nphdi_names *names,
                                uint32_t **out, size_t *out_count, nphd_error *err);

/* ---- shards (shard.c) ---- */

nphd_status nphdi_shard_create(const nphd_sharded *sharded, uint32_t number, nphdi_shard **out,
                               nphd_error *err);
void nphdi_shard_close(nphdi_shard *shard); /* takes NULL */
/* Maps its file as a new index. */
nphd_status nphdi_shard_map(const nphd_sharded *sharded, const nphdi_shard *shard, nphd_index **out,
                            nphd_error *err);
/* Room for hiding; the caller holds state_lock for writing, or nobody else knows the shard. */
nphd_status nphdi_shard_prepare_hiding(nphdi_shard *shard, nphd_error *err);
uint64_t nphdi_shard_dead(const nphdi_shard *shard);
/* Entries that are not hidden; the entries of a damaged view may be unknown, and count as none. */
static inline uint64_t nphdi_shard_visible(const nphdi_shard *shard)
{
    const uint64_t stored = nphdi_index_stored(shard->index);
    const uint64_t dead = nphdi_shard_dead(shard);

    return stored > dead ? stored - dead : 0;
}
const char *nphdi_shard_name(const nphdi_shard *shard); /* the file without its folder */
/* The first place of an ascending list whose number is at least `number`; `count`: there is none.
 */
uint64_t nphdi_first_from(const void *list, uint64_t count, uint64_t number,
                          uint64_t (*number_at)(const void *list, uint64_t place));
/* The same in the list of sealed shards. */
uint64_t nphdi_sealed_from(const nphd_sharded *sharded, uint64_t number);
/* The sealed shard with this number; NULL: there is none. */
nphdi_shard *nphdi_sealed_numbered(const nphd_sharded *sharded, uint32_t number);
/* Room for more sealed shards. */
nphd_status nphdi_sealed_reserve(nphd_sharded *sharded, uint64_t more, nphd_error *err);
void nphdi_sealed_release(nphd_sharded *sharded); /* the room, not the shards */
/* Notes the key tables and groups anew; after every change of the list or of a shard in it. The
 * caller holds state_lock for writing. */
void nphdi_sealed_refresh(nphd_sharded *sharded);
/* The visible entry of a key in the sealed shards. *out_shard NULL: none. */
nphd_status nphdi_sealed_find(const nphd_sharded *sharded, nphd_key key, nphdi_shard **out_shard,
                              uint32_t *out_slot, nphd_error *err);
/* Goes through all entries of a key in sealed shards, hidden or not: `visit` for each. */
nphd_status nphdi_sealed_entries(const nphd_sharded *sharded, nphd_key key,
                                 nphd_status (*visit)(void *context, nphdi_shard *shard,
                                                      uint32_t slot, bool hidden, nphd_error *err),
                                 void *context, nphd_error *err);
/* The same for a key that may be visible: one that the filter calls absent has nothing to hide,
 * whatever a damaged shard holds. Who makes room for hiding and who hides ask this one question,
 * and the filter learns no key in between. */
nphd_status nphdi_sealed_replaceable(const nphd_sharded *sharded, nphd_key key,
                                     nphd_status (*visit)(void *context, nphdi_shard *shard,
                                                          uint32_t slot, bool hidden,
                                                          nphd_error *err),
                                     void *context, nphd_error *err);
/* Makes room for hiding wherever these keys have a visible entry, so that finding and hiding their
 * entries cannot fail afterwards. *out_found: entries, hidden or not. The caller holds change_lock;
 * takes state_lock. */
nphd_status nphdi_sealed_prepare(nphd_sharded *sharded, const nphd_key *keys, size_t count,
                                 uint64_t *out_found, nphd_error *err);
/* May any shard have the key? */
bool nphdi_sharded_maybe(const nphd_sharded *sharded, nphd_key key);
/* Visible vectors of all shards; the caller holds state_lock. */
uint64_t nphdi_sharded_count_visible(const nphd_sharded *sharded);

/* Calls `visit` for each vector of `key` that the cursor, which stays where it is, has yet to meet;
 * as nphdi_index_visit_key() (sharded_lookup.c). */
nphd_status nphdi_sharded_visit_key(const nphd_sharded_cursor *from, nphd_key key,
                                    nphdi_visit_vector visit, void *context, nphd_error *err);

/* ---- groups of shards with a common filter (sharded_group.c) ---- */

/* Finds the groups in force. The caller holds state_lock for writing. */
void nphdi_groups_refresh(nphd_sharded *sharded);
/* The section of a filter for 16 shards that have none, for the file of the sealed shard `number`,
 * which `capture` lists already and which is written from `index`; offset: where in the file it
 * will begin. Its data is freed with nphdi_group_release(); NULL: there is nothing to group, or no
 * memory for it, which a later shard makes good. */
void nphdi_group_make(nphd_sharded *sharded, nphd_index *index, const nphdi_capture *capture,
                      uint32_t number, uint64_t offset, nphdi_extra_section *out);
void nphdi_group_release(const nphd_sharded *sharded, nphdi_extra_section *section);

/* ---- opening (sharded_open.c, sharded_recover.c) ---- */

nphd_status nphdi_sharded_load(nphd_sharded *sharded, const nphd_sharded_options *options,
                               nphd_error *err);
/* Finds what is hidden, and the tombstones, from the files that belong to `newest`, the shard with
 * the highest generation (NULL: a directory of the reference). `incomplete`: salvage left shards
 * out. */
nphd_status nphdi_sharded_recover(nphd_sharded *sharded, const nphdi_shard *newest,
                                  uint32_t record_flags, bool incomplete, nphd_error *err);
/* Makes durable what was found: a process that died may have written it and not flushed it, and
 * from now on others rely on it. */
nphd_status nphdi_sharded_settle(const nphd_sharded *sharded, nphd_error *err);

/* Without a lock a reader may meet the files in the middle of a save: tries until nothing changed
 * meanwhile (sharded_reader.c). `place`: the path from the root. */
nphd_status nphdi_sharded_open_reader(const char *path, const char *place,
                                      const nphd_sharded_options *options, nphd_sharded **out,
                                      nphd_error *err);
nphd_status nphdi_sharded_open_once(const char *path, const char *place,
                                    const nphd_sharded_options *options, nphd_sharded **out,
                                    nphd_error *err);
/* Two numbers for the state of the files of an index. */
typedef struct nphdi_stamp {
    uint64_t files;   /* another one after every save, rotation and compaction */
    uint64_t commits; /* and after every commit too */
    bool shards;      /* there is one */
} nphdi_stamp;
/* Errors: NPHD_NOT_FOUND (no such directory), NPHD_BUSY (a file that was listed is gone). */
nphd_status nphdi_directory_stamp(const nphd_io *io, const nphd_allocator *allocator,
                                  const char *path, nphdi_stamp *out, nphd_error *err);

/* ---- the directory (sharded_place.c) ---- */

/* Keeps the directory open: from now on sharded->io finds its files there. */
nphd_status nphdi_place_root(nphd_sharded *sharded, nphd_error *err);
/* Nothing may be in use that was opened through sharded->io, which becomes that of the options. */
void nphdi_place_unroot(nphd_sharded *sharded);
/* NPHD_CHANGED unless the newest shard that is on disk, as far as this handle knows, is still
 * there: somebody put other files into the directory. Before the first file of a save is written.
 */
nphd_status nphdi_place_check(nphd_sharded *sharded, nphd_error *err);
/* After a reset that keeps the files: others may have the directory until something is changed. */
void nphdi_place_lend(nphd_sharded *sharded);
/* Errors: NPHD_BUSY: somebody has it; NPHD_CHANGED: somebody changed it. */
nphd_status nphdi_place_take_back(nphd_sharded *sharded, nphd_error *err);
/* What nphdi_place_check() looks for, as it is now. The caller holds state_lock. */
nphdi_newest nphdi_place_newest(nphd_sharded *sharded);

/* ---- files beside the shards (sharded_bloom.c, sharded_tombstones.c) ---- */

#define NPHDI_BLOOM_NAME "bloom.isbf"
#define NPHDI_TOMBSTONES_NAME "tombstones.npy"
/* `foreign`: the file is the reference's. *out_usable false: there is none, or it may not know
 * every key of the shards. */
nphd_status nphdi_bloom_load(nphd_sharded *sharded, uint64_t newest_generation, bool foreign,
                             bool *out_usable, nphd_error *err);
nphd_status nphdi_bloom_save(nphd_sharded *sharded, uint64_t generation, const nphdi_watch *watch,
                             nphd_error *err);
/* A filter over every visible entry, of which there are *out_keys. Nobody may be changing the
 * index. */
nphd_status nphdi_bloom_make(const nphd_sharded *sharded, nphdi_bloom **out, uint64_t *out_keys,
                             nphd_error *err);
/* Makes room in the filter, if there is one, for those of the keys that it does not have: a filter
 * that counted every replacement would grow without end. */
nphd_status nphdi_bloom_expect(nphd_sharded *sharded, const nphd_key *keys, size_t count,
                               nphd_error *err);
/* Adds them. */
void nphdi_bloom_take(nphd_sharded *sharded, const nphd_key *keys, size_t count);
/* Puts a filter made anew in the place of the one in use. */
nphd_status nphdi_bloom_renew(nphd_sharded *sharded, uint64_t *out_keys, nphd_error *err);
/* The same for one that has grown a long chain; takes some time, so that a call that should be
 * quick does without. */
nphd_status nphdi_bloom_shorten(nphd_sharded *sharded, nphd_error *err);
/* What a tombstone file says. `hidden` NULL: it has no section of dead entries. */
typedef struct nphdi_tombstone_file {
    bool found;
    uint64_t file_bytes;
    bool trailer;
    uint64_t generation;
    nphd_key *keys;
    uint64_t count;
    uint8_t *hidden;
    uint64_t hidden_bytes;
} nphdi_tombstone_file;
nphd_status nphdi_tombstones_load(const nphd_sharded *sharded, nphdi_tombstone_file *out,
                                  nphd_error *err);
void nphdi_tombstones_release(const nphd_sharded *sharded, nphdi_tombstone_file *file);
nphd_status nphdi_tombstones_save(nphd_sharded *sharded, const nphdi_capture *capture,
                                  uint64_t generation, nphd_error *err);
nphd_key nphdi_key_from_file(const uint8_t *octets, uint32_t key_bytes);

/* A file is put aside under a name that no other file has (`path.why`, `path.why.2`, ...), so that
 * nothing we do touches it, and the log says which; not by readers. */
nphd_status nphdi_sharded_set_aside(const nphd_sharded *sharded, const char *path, const char *why,
                                    nphd_error *err);
/* Tells of something that salvage leaves out. */
void nphdi_sharded_damage(const nphd_sharded *sharded, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* As nphdi_index_key_at(), but with salvage an entry that cannot be read is passed over, as one
 * that is not stored; of the first one `damage` is told. *passed_over counts them. */
nphd_status nphdi_salvage_key_at(const nphd_sharded *sharded, nphd_index *index, uint64_t slot,
                                 nphd_key *out_key, bool *out_visible, bool *out_stored,
                                 uint64_t *passed_over, nphd_error *err);

/* Looks every visible key of the sealed shards up; `damage` is told of those that are not found.
 * Nobody else uses the index (sharded_verify_keys.c). */
nphd_status nphdi_sharded_check_keys(const nphd_sharded *sharded, nphd_damage damage, void *context,
                                     const nphdi_watch *watch, nphd_error *err);

/* ---- shards whose files go (sharded_doomed.c) ---- */

/* Room for `more` of them. */
nphd_status nphdi_doomed_reserve(nphd_sharded *sharded, uint64_t more, nphd_error *err);
/* Room must be there. Nobody may be looking at the shard, which is closed but for its name. */
void nphdi_doomed_add(nphd_sharded *sharded, nphdi_shard *shard);
/* Removes their files, oldest first: the files that leave them out are durable. */
nphd_status nphdi_doomed_remove(nphd_sharded *sharded, nphd_error *err);
void nphdi_doomed_release(nphd_sharded *sharded); /* the files stay */

/* ---- saving (sharded_save.c) ---- */

nphd_status nphdi_capture_take(nphd_sharded *sharded, nphdi_capture *out, nphd_error *err);
void nphdi_capture_release(const nphd_sharded *sharded, nphdi_capture *capture);
/* The size of the file if the active shard were saved now, without the filter of a full group of
 * shards. The caller has shared use. */
uint64_t nphdi_active_bytes_now(const nphd_sharded *sharded);
/* Writes `index` as the file of `shard`, with a record that lists it and those of `capture`: the
 * moment from which on the new state counts. */
nphd_status nphdi_commit_shard(nphd_sharded *sharded, nphd_index *index, const nphdi_shard *shard,
                               nphdi_capture *capture, uint64_t generation,
                               const nphd_batch_options *options, uint64_t *out_file_bytes,
                               nphd_error *err);
/* Every save, rotation and step of a compaction takes the next generation; NPHD_FULL before
 * anything is written once there is none. */
nphd_status nphdi_generation_check(const nphd_sharded *sharded, nphd_error *err);
nphd_status nphdi_generation_take(nphd_sharded *sharded, uint64_t *out, nphd_error *err);
/* Whatever is not saved, in the whole order; the caller holds change_lock and has drained. */
nphd_status nphdi_sharded_save_now(nphd_sharded *sharded, const nphd_batch_options *options,
                                   nphd_error *err);

/* ---- rotations (sharded_rotate.c) ---- */

/* The number of the active shard, or the one that it gets with its file. Errors: NPHD_FULL. */
nphd_status nphdi_active_number(const nphd_sharded *sharded, uint32_t *out, nphd_error *err);
/* Seals the active shard and has it written, at once or by the thread. */
nphd_status nphdi_rotate(nphd_sharded *sharded, nphd_error *err);
nphd_status nphdi_drain(nphd_sharded *sharded, uint64_t timeout_ms, nphd_error *err);
/* The first failure that no changing call was told of. */
nphd_status nphdi_rotation_report(nphd_sharded *sharded, nphd_error *err);
void nphdi_rotation_stop(nphd_sharded *sharded);
/* Takes state_lock for writing at a moment when no rotation is being written, and forgets those
 * that wait or have failed. The caller takes their shards out of the index before it ends the
 * lock, as nothing else would write them. Cannot fail. */
void nphdi_rotations_forget(nphd_sharded *sharded);

/* A shard, the bloom filter or the tombstones? */
bool nphdi_directory_is_data(const char *name);
/* A temporary file of ours or of the reference, by its whole name? */
bool nphdi_directory_is_temporary(const char *name);
/* NPHD_EXISTS unless there is no such directory, which is then made, or it is empty. */
nphd_status nphdi_directory_make_empty(const nphd_io *io, const nphd_allocator *allocator,
                                       const char *path, nphd_error *err);
/* Removes what was made there since, in an order in which no part of it opens as a whole. */
nphd_status nphdi_directory_clear(const nphd_io *io, const nphd_allocator *allocator,
                                  const char *path, nphd_error *err);

/* ---- changing without a journal, for its replay, which is alone and has set `watch` ---- */

nphd_status nphdi_replay_vectors(nphd_sharded *sharded, const nphd_key *keys,
                                 const nphd_vector *vectors, size_t count, uint32_t threads,
                                 bool replace, nphd_error *err);
nphd_status nphdi_replay_removal(nphd_sharded *sharded, const nphd_key *keys, size_t count,
                                 nphd_error *err);
nphd_status nphdi_replay_reset(nphd_sharded *sharded, nphd_error *err);

/* ---- in another process than the one that opened it (sharded_process.c) ---- */

/* Is this the process that opened it, or one that may do all that this handle can? */
bool nphdi_sharded_is_at_home(const nphd_sharded *sharded);
/* Makes it usable for lookups in a child process. NPHD_FORKED: a thread that is not there was in
 * the middle of a change. */
nphd_status nphdi_sharded_adopt(nphd_sharded *sharded, nphd_error *err);
/* Begins every call that only looks. */
static inline nphd_status nphdi_sharded_enter(nphd_sharded *sharded, nphd_error *err)
{
    return nphdi_process_is_same(&sharded->process) ? NPHD_OK : nphdi_sharded_adopt(sharded, err);
}
/* Begins every other call: NPHD_FORKED in a child process, unless it is read-only. */
nphd_status nphdi_sharded_enter_change(nphd_sharded *sharded, const char *what, nphd_error *err);
/* Begins closing and freeing: in a child process it frees, and writes and waits for nothing. */
void nphdi_sharded_abandon(nphd_sharded *sharded);
/* Lets go of all shards and filters, and of the lock. Nobody may be looking (sharded.c). */
void nphdi_sharded_release(nphd_sharded *sharded);

/* ---- the type of the codes (sharded_unit.c) ---- */

/* What the newest shard that says something says. */
nphd_unit nphdi_sharded_unit_of_shards(const nphd_sharded *sharded);
/* A fact of a journal; others than this one are passed over. */
void nphdi_sharded_replay_unit(nphd_sharded *sharded, uint32_t fact, const uint8_t *data,
                               uint32_t bytes);
/* What the next file of the active shard has to say beside its vectors. */
void nphdi_sharded_hand_down(nphd_sharded *sharded, nphd_index *index);

/* ---- the frame of a changing call (sharded.c) ---- */

/* Takes change_lock and sees that the index may be changed; on an error the lock is not held. */
nphd_status nphdi_change_begin(nphd_sharded *sharded, const char *what, nphd_error *err);
/* The same for calls that wait for rotations: a failed one is tried again, not reported. */
nphd_status nphdi_drain_begin(nphd_sharded *sharded, const char *what, nphd_error *err);
void nphdi_change_end(nphd_sharded *sharded);
/* Makes the last shard the active one if it has room; for calls that change vectors. */
nphd_status nphdi_promote_head(nphd_sharded *sharded, nphd_error *err);
/* After a changing call: commits if the caller wants every call durable. */
nphd_status nphdi_change_commit(nphd_sharded *sharded, nphd_error *err);
/* Takes state_lock for reading; on an error it is not held. */
nphd_status nphdi_look_begin(nphd_sharded *sharded, nphd_error *err);
void nphdi_look_end(nphd_sharded *sharded);

#endif
