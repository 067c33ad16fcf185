/* A file system in memory that can lose power: an I/O table for tests.
 *
 * It keeps two images. The live one is what calls see. The durable one is what a power cut leaves:
 * data of a file gets there by `sync`, names by `sync_directory`. What was not flushed may survive
 * or not, each 4 KiB block and (in the weak model) each change of a name for itself. A directory
 * that does not survive takes everything in it along.
 *
 * Directories need not be made: names with slashes are taken as they come, until the first
 * make_directory or memory_io_require_directories. From then on nothing is created in a directory
 * that was not made and has nothing in it. `list` and `make_directory` are strict from the start.
 * `copy` gives a second name to the same file.
 *
 * A test cuts the power after every number of operations and looks at several legal outcomes:
 *
 *     bool cut = true;
 *     for (uint64_t operations = 0; cut; operations++) {
 *         memory_io *disk = memory_io_create(seed);
 *         memory_io_cut_after(disk, operations);
 *         run_workload(memory_io_table(disk));
 *         cut = memory_io_is_cut(disk);
 *         for (uint64_t state = 0; state < states; state++) {
 *             memory_io *after = memory_io_crash(disk, MEMORY_IO_WEAK, state);
 *             check(memory_io_table(after));
 *             memory_io_destroy(after);
 *         }
 *         memory_io_destroy(disk);
 *     }
 *
 * Threads  every function may be called from any thread, but for create and destroy. */
#ifndef IO_MEMORY_H
#define IO_MEMORY_H

#include <nphd/io.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct memory_io memory_io;

/* Which changes of names (create, copy, rename, remove, make_directory) since the last flush of
 * their directory survive: any subset (all that POSIX allows), or the first few in order (as ext4,
 * XFS and btrfs do). */
typedef enum memory_io_mode { MEMORY_IO_WEAK, MEMORY_IO_ORDERED } memory_io_mode;

/* An empty disk. The seed feeds `random` of the table. */
memory_io *memory_io_create(uint64_t seed);

/* Takes NULL. Frees mappings that are still there; see memory_io_maps. */
void memory_io_destroy(memory_io *disk);

const nphd_io *memory_io_table(memory_io *disk);

/* ---- power ---- */

/* Lets that many changing operations (create, write, sync, rename, remove, make_directory, copy,
 * sync_directory) happen from now on; then the power is gone and every call but close and unmap
 * answers EIO. */
void memory_io_cut_after(memory_io *disk, uint64_t operations);

/* From now on a power cut leaves each sector of 512 bytes as it was or as it was to be, as devices
 * promise. Without this it may leave anything in those that were being written: no file that is
 * flushed before it counts minds, but a journal is changed in place. */
void memory_io_keep_sectors_whole(memory_io *disk);

/* Has an operation been refused because the power was gone? */
bool memory_io_is_cut(memory_io *disk);

/* Changing operations since the disk was made, or powered on again. */
uint64_t memory_io_operations(memory_io *disk);

/* A new disk with one state that a power cut at this moment may leave, all of it durable.
 * State 0: nothing unflushed survives; 1: all of it; 2: names but no data; 3: data but no names;
 * 4 and above: drawn at random from that number. */
memory_io *memory_io_crash(memory_io *disk, memory_io_mode mode, uint64_t state);

/* The same in place: the disk takes that state and has power again. Files that were open are
 * closed; mappings stay until unmapped. */
void memory_io_power_off(memory_io *disk, memory_io_mode mode, uint64_t state);

/* A number that tells disks with other names or contents apart, to count distinct states. */
uint64_t memory_io_fingerprint(memory_io *disk);

/* ---- looking and meddling, beside the table ---- */

/* Puts a file there, durably; replaces one of that name. */
void memory_io_put(memory_io *disk, const char *path, const void *data, size_t bytes);

/* A copy of a file as it is now, to be freed by free(); NULL if there is none. A file of 0 bytes
 * gives a pointer too. */
void *memory_io_get(memory_io *disk, const char *path, size_t *out_bytes);

/* Refuses files in directories that are not there, also before the first make_directory. */
void memory_io_require_directories(memory_io *disk);

/* Is there a directory that was made? */
bool memory_io_has_directory(memory_io *disk, const char *path);

/* Names of files that contain `part` (NULL: all). */
size_t memory_io_count(memory_io *disk, const char *part);

/* Name number `index` of the files in no particular order, false beyond the last. */
bool memory_io_name(memory_io *disk, size_t index, char *out, size_t room);

/* Writes fail with ENOSPC once all files together have this size (after a short one), and
 * `allocate` beforehand. UINT64_MAX, the start: no limit. */
void memory_io_set_capacity(memory_io *disk, uint64_t bytes);

/* ---- what was left behind ---- */

size_t memory_io_open_files(memory_io *disk);
size_t memory_io_maps(memory_io *disk);
size_t memory_io_locks(memory_io *disk); /* open files that hold a lock */

/* Calls with a file that is not open, closing one twice, unmapping what is not mapped. */
uint64_t memory_io_mistakes(memory_io *disk);

#endif
