/* A growing bloom filter over keys: a chain of plain filters, each larger and stricter than the one
 * before. A key that was added is never reported absent.
 *
 * Bit-compatible with the reference's `bloom.isbf` (docs/format.md). Bits are only ever set, so
 * that one thread may write the filter to a file while others add: what it writes then holds at
 * least the keys added before it began.
 *
 * Threads  any number ask, reserve, add and write at once. create, read and close: nobody else. */
#ifndef NPHDI_BLOOM_H
#define NPHDI_BLOOM_H

#include <nphd/allocator.h>
#include <nphd/status.h>
#include <nphd/vector.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct nphdi_bloom nphdi_bloom;

/* Room for `capacity` keys in the first filter, as far as the format goes (0: the least, which
 * suits an index that may stay small). */
nphd_status nphdi_bloom_create(const nphd_allocator *allocator, uint32_t key_bytes,
                               uint64_t capacity, nphdi_bloom **out, nphd_error *err);
void nphdi_bloom_close(nphdi_bloom *bloom); /* takes NULL */

/* Makes room for `more` adds. What is reserved joins the chain (and files) when it is needed. */
nphd_status nphdi_bloom_reserve(nphdi_bloom *bloom, uint64_t more, nphd_error *err);

/* Cannot fail. Without reserved room the last filter takes the key too, at the cost of more false
 * positives. */
void nphdi_bloom_add(nphdi_bloom *bloom, nphd_key key);

/* false: certainly never added. */
bool nphdi_bloom_maybe(const nphdi_bloom *bloom, nphd_key key);
/* The same for a key of any length, in the form of the file: an index has keys of 8 and 16 octets.
 */
void nphdi_bloom_add_octets(nphdi_bloom *bloom, const void *octets, size_t bytes);
bool nphdi_bloom_maybe_octets(const nphdi_bloom *bloom, const void *octets, size_t bytes);

/* The same for up to so many keys, whose cache misses then overlap. */
#define NPHDI_BLOOM_MANY 16
void nphdi_bloom_maybe_many(const nphdi_bloom *bloom, const nphd_key *keys, size_t count,
                            bool out[NPHDI_BLOOM_MANY]);

uint64_t nphdi_bloom_count(const nphdi_bloom *bloom); /* adds so far */
uint32_t nphdi_bloom_filters(const nphdi_bloom *bloom);
uint64_t nphdi_bloom_memory(const nphdi_bloom *bloom); /* bytes, reserved filters included */

/* ---- to and from a file, piece by piece ---- */

/* Bytes that the filters of this moment take in a file, head included. */
uint64_t nphdi_bloom_file_bytes(const nphdi_bloom *bloom);

/* Puts out the file front to back. Filters that join meanwhile are left out: `file_bytes` is what
 * nphdi_bloom_file_bytes() said before, and exactly so many bytes come out. Keys whose filter is
 * left out belong to later files. */
nphd_status nphdi_bloom_write(const nphdi_bloom *bloom, uint64_t file_bytes,
                              nphd_status (*put)(void *context, const void *data, uint64_t bytes,
                                                 nphd_error *err),
                              void *context, nphd_error *err);

/* Reads a file of `file_bytes` bytes (without any trailer) front to back; `take` delivers the next
 * bytes. The chain keeps the parameters of the file. A chain that its parameters and its count do
 * not give, and fewer or more bytes than the filters need, are NPHD_CORRUPT. No memory is taken
 * beyond what the file size justifies. */
nphd_status nphdi_bloom_read(const nphd_allocator *allocator, uint32_t key_bytes, const char *name,
                             uint64_t file_bytes,
                             nphd_status (*take)(void *context, void *out, uint64_t bytes,
                                                 nphd_error *err),
                             void *context, nphdi_bloom **out, nphd_error *err);

#endif
